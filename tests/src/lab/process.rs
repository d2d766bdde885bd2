//! A process that ends when its value is dropped, with everything it said.

use std::io::{self, BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{now, until};

/// How long a process may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// Signals that tests send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End, please.
    Term,
    /// What Ctrl-C sends.
    Interrupt,
    /// End now, without a chance to tidy up.
    Kill,
    /// Reload, or whatever the program makes of it.
    Hangup,
    /// udhcpc: renew now.
    User1,
    /// udhcpc: release now.
    User2,
    /// Stop running.
    Stop,
    /// Go on running.
    Continue,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Self::Term => libc::SIGTERM,
            Self::Interrupt => libc::SIGINT,
            Self::Kill => libc::SIGKILL,
            Self::Hangup => libc::SIGHUP,
            Self::User1 => libc::SIGUSR1,
            Self::User2 => libc::SIGUSR2,
            Self::Stop => libc::SIGSTOP,
            Self::Continue => libc::SIGCONT,
        }
    }
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    said: Arc<Said>,
}

/// What a process has said, line by line, and a bell for the next one.
#[derive(Debug, Default)]
struct Said {
    lines: Mutex<Vec<String>>,
    bell: Condvar,
}

impl Said {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Starts a program; both its outputs are collected line by line.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let said: Arc<Said> = Arc::default();
        if let Some(output) = child.stdout.take() {
            collect(output, &said);
        }
        if let Some(output) = child.stderr.take() {
            collect(output, &said);
        }
        Ok(Self { name, child, said })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said so far.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.said.lines().clone()
    }

    /// The last lines it has said, for an error message.
    #[must_use]
    pub fn last_words(&self) -> String {
        let said = self.said();
        said[said.len().saturating_sub(12)..].join("\n    ")
    }

    /// Waits for a line, after the first `from` lines, that contains `words`; returns it, and where to go on.
    ///
    /// # Errors
    /// When it does not come in time, or the process ends before.
    pub fn wait_for(&mut self, from: usize, words: &str, wait: Duration) -> Result<(String, usize)> {
        let deadline = now() + wait;
        loop {
            let ended = self.child.try_wait()?;
            let lines = self.said.lines();
            let found = lines.iter().enumerate().skip(from).find(|(_, line)| line.contains(words));
            if let Some((index, line)) = found {
                return Ok((line.clone(), index + 1));
            }
            if ended.is_none() && now() < deadline {
                // The bell rings for every line; the timeout is for the end of the process, which rings none.
                drop(self.said.bell.wait_timeout(lines, Duration::from_millis(20)));
                continue;
            }
            drop(lines);
            if let Some(status) = ended {
                bail!("{} ended with {status} before it said {words:?}:\n    {}", self.name, self.last_words());
            }
            bail!("{} did not say {words:?} within {wait:?}:\n    {}", self.name, self.last_words());
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not know it.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it goes on for longer than `wait`.
    pub fn wait(&mut self, wait: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        until(&what, wait, || self.child.try_wait().ok().flatten())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended with {status}", self.name);
        }
        let id = libc::pid_t::try_from(self.child.id()).context("a process id beyond pid_t")?;
        #[expect(unsafe_code, reason = "std sends no other signal than SIGKILL")]
        // SAFETY: kill takes two numbers; the process is our child and has not been waited for, so its id is its own.
        let status = unsafe { libc::kill(id, signal.number()) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error().into()) }
    }

    /// Asks it to end and waits; kills it when it does not.
    ///
    /// # Errors
    /// When it had to be killed.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(Signal::Term)?;
        match self.wait(GRACE) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.child.kill()?;
                self.child.wait()?;
                Err(error.context(format!("killed; its last words:\n    {}", self.last_words())))
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Collects lines on a thread, until the other end closes.
fn collect(output: impl Read + Send + 'static, said: &Arc<Said>) {
    let said = Arc::clone(said);
    thread::spawn(move || {
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            said.lines().push(text);
            said.bell.notify_all();
            line.clear();
        }
    });
}
