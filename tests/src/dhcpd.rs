//! ISC dhcpd 4.4, when it is installed: a judge that nobody of this project wrote.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::lab::{Folder, Namespace, Process, program, until};

/// What `dhcpd -T` said about a leases file, or `-t` about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it ended with status 0.
    pub is_accepted: bool,
    /// Everything it wrote.
    pub said: String,
}

/// Lets dhcpd check a configuration (`-t`), and a leases file as well when one is given (`-T`).
///
/// # Errors
/// When dhcpd is not installed or cannot be started.
pub fn check(configuration: &Path, leases: Option<&Path>) -> Result<Verdict> {
    let dhcpd = program("dhcpd").map_err(anyhow::Error::msg)?;
    let mut command = Command::new(dhcpd);
    command.args(["-4", "-cf"]).arg(configuration);
    match leases {
        Some(leases) => command.arg("-T").arg("-lf").arg(leases),
        None => command.arg("-t"),
    };
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ok(Verdict { is_accepted: output.status.success(), said: said.into_owned() })
}

/// The real dhcpd, serving an interface of a namespace.
#[derive(Debug)]
pub struct Dhcpd {
    /// The process; its log is what it says.
    pub process: Process,
    /// Where its files are.
    pub folder: Folder,
}

impl Dhcpd {
    /// Starts it with this configuration and these leases, and waits until it listens.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn start(namespace: &Namespace, interface: &str, configuration: &str, leases: &str) -> Result<Self> {
        let dhcpd = program("dhcpd").map_err(anyhow::Error::msg)?;
        let folder = Folder::new("dhcpd")?;
        let configuration = folder.write("dhcpd.conf", configuration)?;
        let leases = folder.write("dhcpd.leases", leases)?;
        let mut command = Command::new(dhcpd);
        command.args(["-4", "-f", "-d", "-cf"]).arg(configuration).arg("-lf").arg(leases);
        command.arg("-pf").arg(folder.path().join("dhcpd.pid")).arg(interface);
        let mut process = namespace.spawn(&mut command)?;
        let wait = Duration::from_secs(10);
        let ready = until("dhcpd to listen", wait, || {
            let is_over = process.ended().ok().flatten().is_some();
            (is_over || namespace.has_udp_port(67)).then_some(!is_over)
        });
        if !ready? {
            bail!("dhcpd did not start:\n    {}", process.last_words());
        }
        Ok(Self { process, folder })
    }

    /// Its leases file as it stands.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn leases(&self) -> std::io::Result<String> {
        std::fs::read_to_string(self.folder.path().join("dhcpd.leases"))
    }
}
