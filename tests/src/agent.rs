//! xdhcpd as users run it: a process in a namespace, asked over its control socket.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::lab::{Folder, Mounts, Namespace, Process, Signal, run, until};

/// Names the binary under test; without it, it is looked for beside the suites.
pub const BINARY_ENV: &str = "XDHCPD_BIN";

/// Where xdhcpd is.
///
/// # Panics
/// When it has not been built: a suite about a program that is not there has no other answer.
#[must_use]
pub fn binary() -> PathBuf {
    let named = std::env::var_os(BINARY_ENV).map(PathBuf::from);
    let beside = std::env::current_exe().ok().and_then(|own| {
        let folder = own.parent()?;
        // Suites live in `deps/`, the demo one above.
        let folder = if folder.ends_with("deps") { folder.parent()? } else { folder };
        Some(folder.join("xdhcpd"))
    });
    let Some(binary) = named.or(beside).filter(|file| file.is_file()) else {
        panic!("xdhcpd is not built: run `cargo build -p dhcp-user`, or `cargo xtask test`, which does")
    };
    binary
}

/// A running xdhcpd with its files.
#[derive(Debug)]
pub struct Agent {
    /// The process; its log is what it says.
    pub process: Process,
    /// Where its files are.
    pub folder: Folder,
}

impl Agent {
    /// How long it may take to listen; a loaded machine counts.
    const START: Duration = Duration::from_secs(20);

    /// Starts it on interfaces of a namespace (none named: all that it can serve) with this configuration and these leases, and waits until it
    /// answers on its control socket.
    ///
    /// # Errors
    /// When it does not start; the error carries its last words.
    pub fn start(
        namespace: &Namespace,
        interface: &str,
        fast_path: &str,
        configuration: &str,
        leases: &str,
    ) -> Result<Self> {
        let folder = Folder::new("xdhcpd")?;
        folder.write("dhcpd.conf", configuration)?;
        folder.write("dhcpd.leases", leases)?;
        Self::start_in(folder, namespace, interface, fast_path)
    }

    /// The same with files that are there already: a restart.
    ///
    /// # Errors
    /// When it does not start; the error carries its last words.
    pub fn start_in(folder: Folder, namespace: &Namespace, interface: &str, fast_path: &str) -> Result<Self> {
        Self::launch(folder, namespace, None, &[interface], &["--fast-path", fast_path])
    }

    /// Starts it on the files of a folder, in a mount namespace whose bpffs outlives it, with more arguments.
    ///
    /// # Errors
    /// When it does not start; the error carries its last words.
    pub fn launch(
        folder: Folder,
        namespace: &Namespace,
        mounts: Option<&Mounts>,
        interfaces: &[&str],
        more: &[&str],
    ) -> Result<Self> {
        let mut command = Command::new(binary());
        let file = |name: &str| folder.path().join(name);
        command.args(["-4", "-f", "-d", "-cf"]).arg(file("dhcpd.conf")).arg("-lf").arg(file("dhcpd.leases"));
        command.arg("-pf").arg(file("dhcpd.pid")).arg("--control").arg(file("control.sock"));
        command.args(more).args(interfaces.iter().flat_map(|names| names.split_whitespace()));
        let process = match mounts {
            Some(mounts) => namespace.spawn_in(mounts, &mut command)?,
            None => namespace.spawn(&mut command)?,
        };
        let mut agent = Self { process, folder };
        let is_up = until("xdhcpd to answer on its control socket", Self::START, || {
            let is_over = agent.process.ended().ok().flatten().is_some();
            (is_over || agent.is_listening()).then_some(!is_over)
        });
        match is_up {
            Ok(true) => Ok(agent),
            Ok(false) => bail!("xdhcpd did not start:\n    {}", agent.process.last_words()),
            Err(error) => Err(error.context(format!("its last words:\n    {}", agent.process.last_words()))),
        }
    }

    /// Whether it has begun to serve: it says so last of all.
    fn is_listening(&self) -> bool {
        self.process.said().iter().any(|line| line.contains("Server starting service."))
    }

    /// What is under `status` in `xdhcpd status --json`.
    ///
    /// # Errors
    /// When it does not answer, or not in JSON.
    pub fn status(&self) -> Result<Value> {
        self.ask("status")
    }

    /// What is under `leases` in `xdhcpd leases --json`.
    ///
    /// # Errors
    /// When it does not answer, or not in JSON.
    pub fn leases(&self) -> Result<Value> {
        self.ask("leases")
    }

    /// Asks the control socket through the binary, as an operator does.
    fn ask(&self, what: &str) -> Result<Value> {
        let socket = self.folder.path().join("control.sock");
        let text = run(Command::new(binary()).args([what, "--json", "--control"]).arg(socket))?;
        let reply: Value = serde_json::from_str(&text)
            .with_context(|| format!("`xdhcpd {what} --json` printed something else: {text}"))?;
        reply.get(what).cloned().with_context(|| format!("`xdhcpd {what} --json` has no {what}: {text}"))
    }

    /// The leases file as it stands.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn leases_file(&self) -> Result<String> {
        let file = self.folder.path().join("dhcpd.leases");
        std::fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    /// Who answered what so far.
    ///
    /// # Errors
    /// When the status does not say.
    pub fn answers(&self) -> Result<Answers> {
        Answers::of(&self.status()?)
    }

    /// Ends it as a service manager does, and keeps its files.
    ///
    /// # Errors
    /// When it has to be killed.
    pub fn stop(mut self) -> Result<Folder> {
        self.process.stop().context("xdhcpd does not end on SIGTERM")?;
        Ok(self.folder)
    }

    /// Ends it without a chance to write anything, and keeps its files.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(mut self) -> Result<Folder> {
        self.process.signal(Signal::Kill)?;
        self.process.wait(Duration::from_secs(5))?;
        Ok(self.folder)
    }
}

/// Who answered: read from `status --json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answers {
    /// Replies that the XDP program transmitted.
    pub by_kernel: u64,
    /// Replies that the agent sent.
    pub by_agent: u64,
}

impl Answers {
    /// Reads them from a status.
    ///
    /// # Errors
    /// When the status has no such numbers.
    pub fn of(status: &Value) -> Result<Self> {
        let number = |pointer: &str| {
            status
                .pointer(pointer)
                .and_then(Value::as_u64)
                .with_context(|| format!("status has no {pointer}: {status}"))
        };
        Ok(Self { by_kernel: number("/replies/kernel")?, by_agent: number("/replies/agent")? })
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            by_kernel: self.by_kernel.saturating_sub(earlier.by_kernel),
            by_agent: self.by_agent.saturating_sub(earlier.by_agent),
        }
    }
}

/// Runs xdhcpd to its end, for what it says about bad input.
///
/// # Errors
/// When it cannot be started, or still runs after some seconds (it should have refused).
pub fn verdict(namespace: Option<&Namespace>, arguments: &[&std::ffi::OsStr]) -> Result<Output> {
    // `timeout` of coreutils ends a server that wrongly took the input; its status 124 says so.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "10"]).arg(binary()).args(arguments);
    let output = match namespace {
        Some(namespace) => namespace.enter(|| command.output())??,
        None => command.output()?,
    };
    if output.status.code().is_none() || output.status.code() == Some(124) || output.status.code() == Some(137) {
        bail!("xdhcpd went on running: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output)
}
