//! The servers that are compared, started with their friendliest settings on a [`Stage`].
//!
//! The peers have no ping check, no log, no answer without a write (dhcpd's cache threshold; Kea has none unless told),
//! no work on host names, a fixed neighbour; dhcpd syncs every record, Kea writes and never syncs. A server, its
//! journal included, has the first processor.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Herd, Plan, Stage, Talk, bind_to};
use crate::agent;
use crate::lab::{self, Folder, Mounts, now};

const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 64, 0, 0), Ipv4Addr::new(10, 95, 255, 255));
/// dhcpd keeps its free leases in a sorted list, which every offer walks: no more than it can give away here, but
/// where it is flooded (an offer costs it no sync, and holds its address for two minutes).
const POOL_OF_DHCPD: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 64, 0, 0), Ipv4Addr::new(10, 64, 47, 255));
const POOL_OF_FLOODED_DHCPD: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 64, 0, 0), Ipv4Addr::new(10, 64, 255, 255));
/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Ours.
    Xdhcpd,
    /// ISC dhcpd 4.4.3.
    Dhcpd,
    /// Kea, leases in a file.
    Kea,
}

/// How a server is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// Whether it is about to be flooded: dhcpd then has more addresses.
    pub is_flooded: bool,
    /// `--fast-path` of ours; another word than `off` gives it a bpffs of its own.
    pub fast_path: &'a str,
    /// Length of a lease, in seconds.
    pub lease_secs: u32,
    /// Whether dhcpd and ours sync what they write, before anybody is told; Kea never does.
    pub syncs: bool,
}

impl Default for Setting<'_> {
    fn default() -> Self {
        Self { is_flooded: false, fast_path: "off", lease_secs: 600, syncs: true }
    }
}

impl Server {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Xdhcpd, Self::Dhcpd, Self::Kea];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdhcpd => "xdhcpd",
            Self::Dhcpd => "dhcpd",
            Self::Kea => "kea",
        }
    }

    /// The addresses it gives away.
    const fn pool(self, setting: &Setting<'_>) -> (Ipv4Addr, Ipv4Addr) {
        match self {
            Self::Dhcpd if setting.is_flooded => POOL_OF_FLOODED_DHCPD,
            Self::Dhcpd => POOL_OF_DHCPD,
            Self::Xdhcpd | Self::Kea => POOL,
        }
    }

    /// What dhcpd and xdhcpd read.
    fn configuration(self, setting: &Setting<'_>) -> String {
        let (first, last) = self.pool(setting);
        format!(
            "authoritative; ddns-update-style none; ping-check off; dhcp-cache-threshold 0;\n\
             default-lease-time {}; max-lease-time 7200; option domain-name \"gsb.local\";\n\
             option domain-name-servers 172.16.0.10;\n\
             subnet 10.0.0.0 netmask 255.0.0.0 {{ range {first} {last}; option routers 10.0.0.1;\n\
             option broadcast-address 10.255.255.255; }}\n\
             dont-use-fsync {};\n",
            setting.lease_secs, !setting.syncs
        )
    }

    /// What the server reads, and how it is started.
    fn command(self, folder: &Folder, setting: &Setting<'_>) -> Result<Command> {
        let file = |name: &str| folder.path().join(name);
        let program = |name: &str| lab::program(name).map_err(anyhow::Error::msg);
        let (first, last) = self.pool(setting);
        let mut command = match self {
            Self::Xdhcpd => {
                let mut command = Command::new(agent::binary());
                command
                    .args(["-4", "-f", "-d", "--fast-path", setting.fast_path, "--control"])
                    .arg(file("control.sock"));
                command
            }
            Self::Dhcpd => {
                let mut command = Command::new(program("dhcpd")?);
                command.args(["-4", "-f", "-d", "-q"]);
                command
            }
            Self::Kea => Command::new(program("kea-dhcp4")?),
        };
        match self {
            Self::Xdhcpd | Self::Dhcpd => {
                folder.write("dhcpd.conf", &self.configuration(setting))?;
                folder.write("dhcpd.leases", "")?;
                command.arg("-cf").arg(file("dhcpd.conf")).arg("-lf").arg(file("dhcpd.leases"));
                command.arg("-pf").arg(file("pid")).arg(Stage::INTERFACE);
            }
            Self::Kea => {
                let leases = file("leases.csv").display().to_string();
                let kea_conf = serde_json::json!({"Dhcp4": {
                    "interfaces-config": {"interfaces": [Stage::INTERFACE], "dhcp-socket-type": "raw", "re-detect": false},
                    "lease-database": {"type": "memfile", "persist": true, "name": leases, "lfc-interval": 0},
                    "multi-threading": {"enable-multi-threading": false},
                    "authoritative": true, "valid-lifetime": setting.lease_secs, "max-valid-lifetime": 7200,
                    "reservations-global": false, "reservations-in-subnet": false,
                    // Without these every host name costs it a regular expression, made anew.
                    "ddns-send-updates": false, "hostname-char-set": "",
                    "loggers": [{"name": "kea-dhcp4", "severity": "ERROR",
                        "output_options": [{"output": "stdout"}]}],
                    "option-data": [{"name": "domain-name", "data": "gsb.local"},
                        {"name": "domain-name-servers", "data": "172.16.0.10"},
                        {"name": "routers", "data": "10.0.0.1"},
                        {"name": "broadcast-address", "data": "10.255.255.255"}],
                    "subnet4": [{"subnet": "10.0.0.0/8", "pools": [{"pool": format!("{first} - {last}")}]}],
                }});
                command.arg("-c").arg(folder.write("kea.conf", &kea_conf.to_string())?);
                command.env("KEA_PIDFILE_DIR", folder.path()).env("KEA_LOCKFILE_DIR", folder.path());
            }
        }
        Ok(command)
    }
}

/// Starts a server on its processor and waits until it serves.
///
/// # Errors
/// When it does not start, or does not answer within 20 s.
pub fn start(stage: &Stage, server: Server, setting: &Setting<'_>, herd: &mut Herd) -> Result<Running> {
    let folder = Folder::new(server.name())?;
    let mut command = server.command(&folder, setting)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut spawn = || {
        bind_to(0)?;
        command.spawn()
    };
    let mounts = if setting.fast_path == "off" { None } else { Some(Mounts::new()?) };
    let child = match &mounts {
        Some(mounts) => stage.server.enter_in(mounts, spawn)??,
        None => stage.server.enter(&mut spawn)??,
    };
    let mut running = Running { process: Process(child), folder, _mounts: mounts };
    let deadline = now() + Duration::from_secs(20);
    loop {
        let plan = Plan {
            warm_up: Duration::ZERO,
            retry: None,
            patience: Duration::from_millis(50),
            ..Plan::closed(Talk::Exchange, 1, Duration::from_millis(50))
        };
        if herd.run(&plan).completed_per_sec > 0.0 {
            return Ok(running);
        }
        if let Some(status) = running.process.0.try_wait()? {
            bail!("{} ended with {status}", server.name());
        }
        if now() > deadline {
            bail!("{} does not serve", server.name());
        }
    }
}

/// A server under way.
#[derive(Debug)]
pub struct Running {
    process: Process,
    folder: Folder,
    _mounts: Option<Mounts>,
}

impl Running {
    /// Processor time used so far, in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.0.id())).into_iter().flatten().flatten();
        let nanos = tasks.filter_map(|task| {
            // Nanoseconds on a processor come first.
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        nanos.sum::<u64>() as f64 / 1e3
    }

    /// Ends the server: its folder.
    #[must_use]
    pub fn end(self) -> Folder {
        let Self { process, folder, .. } = self;
        drop(process);
        folder
    }

    /// Lets ours read another configuration.
    ///
    /// # Errors
    /// When the reload is refused.
    pub fn reload(&self, server: Server, setting: &Setting<'_>) -> Result<()> {
        self.folder.write("dhcpd.conf", &server.configuration(setting))?;
        self.ask(&["reload"]).map(drop)
    }

    /// Asks ours over its control socket, as an operator does; what it prints.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        lab::run(Command::new(agent::binary()).args(words).arg("--control").arg(self.control()))
    }

    /// The control socket of ours.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }
}

/// A process that ends with its owner.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
