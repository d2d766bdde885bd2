//! Programs of `execute` statements: beside the loop, a bounded number, each for a bounded time.
//!
//! dhcpd waits for them, and nobody is answered meanwhile. Here nobody waits, and a program that hangs is ended.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, process::Stdio, sync::Arc, time::Duration};

use tokio::{process::Command, sync::Semaphore, time::timeout};
use tracing::warn;

/// Programs that may run at the same time.
const PROGRAMS_MAX: usize = 64;
/// How long one may run.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs programs, or says that it does not.
#[derive(Debug)]
pub(super) struct Programs {
    is_allowed: bool,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Programs {
    pub(super) fn new(is_allowed: bool) -> Self {
        Self { is_allowed, places: Arc::new(Semaphore::new(PROGRAMS_MAX)), patience: PATIENCE }
    }

    /// Starts a program. Must be called inside a tokio runtime.
    pub(super) fn run(&self, program: &str, arguments: &[Vec<u8>]) {
        if !self.is_allowed {
            return warn!(program, "not run: --no-execute forbids it");
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return warn!(program, "not run: {PROGRAMS_MAX} programs of `execute` statements are running already");
        };
        let child = Command::new(program)
            .args(arguments.iter().map(|argument| OsStr::from_bytes(argument)))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return warn!(program, %error, "`execute` failed"),
        };
        let (name, patience) = (program.to_owned(), self.patience);
        drop(tokio::spawn(async move {
            match timeout(patience, child.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(Ok(status)) => warn!(program = name, %status, "a program of an `execute` statement failed"),
                Ok(Err(error)) => warn!(program = name, %error, "a program of an `execute` statement was lost"),
                Err(_) => {
                    warn!(program = name, "ended: a program of an `execute` statement ran for {patience:?}");
                    // It may have ended by itself just now.
                    let _ = child.kill().await;
                }
            }
            drop(place);
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::PathBuf};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("xdhcpd-program-{name}-{}", std::process::id()))
    }

    fn script(text: &str) -> [Vec<u8>; 2] {
        [b"-c".to_vec(), text.as_bytes().to_vec()]
    }

    async fn until(is_so: impl Fn() -> bool) {
        timeout(Duration::from_secs(20), async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("it does not happen");
    }

    #[test]
    fn a_program_that_hangs_is_ended_and_nobody_waits_for_it() {
        let (started, ended) = (file("started"), file("ended"));
        runtime().block_on(async {
            let programs = Programs { patience: Duration::from_millis(300), ..Programs::new(true) };
            let text = format!("echo $$ > {}.new; mv {0}.new {0}; exec sleep 60", started.display());
            programs.run("/bin/sh", &script(&text));
            programs.run("/bin/sh", &script(&format!(": > {}", ended.display())));
            until(|| started.exists() && ended.exists()).await;
            let pid = fs::read_to_string(&started).unwrap();
            let process = PathBuf::from(format!("/proc/{}", pid.trim()));
            until(|| !process.exists()).await;
            until(|| programs.places.available_permits() == PROGRAMS_MAX).await;
        });
        fs::remove_file(started).unwrap();
        fs::remove_file(ended).unwrap();
    }

    #[test]
    fn what_is_forbidden_or_too_much_is_not_run() {
        let made = file("forbidden");
        runtime().block_on(async {
            let touch = script(&format!(": > {}", made.display()));
            Programs::new(false).run("/bin/sh", &touch);
            let busy = Programs { places: Arc::new(Semaphore::new(0)), ..Programs::new(true) };
            busy.run("/bin/sh", &touch);
            let programs = Programs::new(true);
            programs.run("/nonexistent/program", &[]);
            programs.run("/bin/true", &[]);
            until(|| programs.places.available_permits() == PROGRAMS_MAX).await;
            assert!(!made.exists());
        });
    }
}
