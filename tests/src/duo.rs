//! Two servers of one service on one switch, each xdhcpd or the real dhcpd, and clients: what failover is tried on.
//!
//! Both kinds are asked the same way: by their leases files, which say what state each is in, what it thinks of its
//! partner, and whose every address is.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command as Program;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use dhcp_user::control::client::Client as Operator;
use dhcp_user::control::message::{Answer, Command, Status};
use serde_json::Value;

use crate::agent::binary;
use crate::lab::{
    Folder, Mounts, Namespace, PacketSocket, PassProgram, Process, Signal, Switch, Tap, program, run, until,
};
use crate::leases::{self, Record};

/// The primary and the secondary.
pub const P: usize = 0;
/// See [`P`].
pub const S: usize = 1;

/// Addresses of the two servers.
pub const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 150, 1), Ipv4Addr::new(192, 168, 150, 2)];
/// Their interfaces.
pub const INTERFACES: [&str; 2] = ["s0", "s1"];
/// How long a step may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Which program plays a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// xdhcpd.
    Ours,
    /// ISC dhcpd.
    Dhcpd,
}

/// One of the two servers; its files outlive its process.
#[derive(Debug)]
pub struct Side {
    /// The program that is started next.
    pub kind: Kind,
    /// Where it runs.
    pub namespace: Namespace,
    /// Its files.
    pub folder: Folder,
    /// While it runs.
    pub process: Option<Process>,
    number: usize,
    fast_path: &'static str,
    /// Where its kernel keeps what outlives its agent, if it may.
    mounts: Option<Mounts>,
}

impl Side {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it does not start; the error carries its last words.
    pub fn start(&mut self) -> Result<()> {
        let file = |name: &str| self.folder.path().join(name);
        let mut command = match self.kind {
            Kind::Ours => Program::new(binary()),
            Kind::Dhcpd => Program::new(program("dhcpd").map_err(anyhow::Error::msg)?),
        };
        command.args(["-4", "-f", "-d", "-cf"]).arg(file("dhcpd.conf")).arg("-lf").arg(file("dhcpd.leases"));
        command.arg("-pf").arg(file("dhcpd.pid"));
        if self.kind == Kind::Ours {
            command.arg("--control").arg(file("control.sock")).args(["--fast-path", self.fast_path]);
        }
        command.arg(INTERFACES[self.number]);
        let mut process = match &self.mounts {
            Some(mounts) => self.namespace.spawn_in(mounts, &mut command)?,
            None => self.namespace.spawn(&mut command)?,
        };
        let is_up = until("the server to listen", PATIENCE, || {
            let is_over = process.ended().ok().flatten().is_some();
            (is_over || self.namespace.has_udp_port(67)).then_some(!is_over)
        })?;
        if !is_up {
            bail!("the server did not start:\n    {}", process.last_words());
        }
        self.process = Some(process);
        Ok(())
    }

    /// Ends it as a service manager does.
    ///
    /// # Errors
    /// When it does not run, or has to be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("it does not run")?.stop().map(drop)
    }

    /// Ends it without a chance to write or say anything.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("it does not run")?;
        process.signal(Signal::Kill)?;
        process.wait(Duration::from_secs(10)).map(drop)
    }

    /// Which of the two it is.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.ended(), Ok(None)))
    }

    /// The leases file as it stands.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn file(&self) -> String {
        fs::read_to_string(self.folder.path().join("dhcpd.leases")).expect("a leases file")
    }

    /// Own and partner's state by the last record of the leases file; empty when it says nothing.
    #[must_use]
    pub fn states(&self) -> (String, String) {
        self.states_in("")
    }

    /// The same of the relationship whose name begins so.
    #[must_use]
    pub fn states_in(&self, name: &str) -> (String, String) {
        let text = self.file();
        let head = format!("failover peer \"{name}");
        let last = text.rsplit_once(&head).map(|(_, last)| last);
        let word = |which: &str| {
            let rest = last.and_then(|record| record.split_once(which)).map_or("", |(_, rest)| rest);
            rest.split([' ', ';']).next().unwrap_or_default().to_owned()
        };
        (word("my state "), word("partner state "))
    }

    /// The newest record of an address.
    #[must_use]
    pub fn record(&self, address: Ipv4Addr) -> Option<Record> {
        leases::newest_of(&self.file(), address)
    }

    /// The binding state of an address; `free` when the file does not mention it.
    #[must_use]
    pub fn state_of(&self, address: Ipv4Addr) -> String {
        self.record(address)
            .and_then(|record| record.value("binding state").map(str::to_owned))
            .unwrap_or_else(|| "free".to_owned())
    }

    /// How many addresses the file says are in each state.
    #[must_use]
    pub fn count(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for record in leases::newest(&self.file()) {
            *counts.entry(record.value("binding state").unwrap_or_default().to_owned()).or_default() += 1;
        }
        counts
    }

    /// `xdhcpd failover ARGUMENTS` as an operator asks.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn order(&self, arguments: &[&str]) -> Result<String> {
        let socket = self.folder.path().join("control.sock");
        run(Program::new(binary()).arg("failover").args(arguments).arg("--control").arg(socket))
    }

    /// The first relationship of `xdhcpd failover status --json`.
    ///
    /// # Errors
    /// When it does not answer, or not in JSON.
    pub fn failover(&self) -> Result<Value> {
        let text = self.order(&["status", "--json"])?;
        let reply: Value = serde_json::from_str(&text)?;
        reply.pointer("/failover/0").cloned().with_context(|| format!("no relationship in {text}"))
    }

    /// `xdhcpd status --json`.
    ///
    /// # Errors
    /// When it does not answer, or not in JSON.
    pub fn status(&self) -> Result<Value> {
        let socket = self.folder.path().join("control.sock");
        let text = run(Program::new(binary()).args(["status", "--json", "--control"]).arg(socket))?;
        let reply: Value = serde_json::from_str(&text)?;
        reply.get("status").cloned().context("no status")
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask(&self) -> Result<Box<Status>> {
        match Operator::connect(&self.folder.path().join("control.sock"))?.ask(Command::Status)?.1 {
            Answer::Status(status) => Ok(status),
            other => bail!("{other:?}"),
        }
    }

    /// `xdhcpd leases ARGUMENTS`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn leases(&self, arguments: &[&str]) -> Result<String> {
        let socket = self.folder.path().join("control.sock");
        run(Program::new(binary()).arg("leases").args(arguments).arg("--control").arg(socket))
    }

    /// `xdhcpd metrics`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metrics(&self) -> Result<String> {
        let socket = self.folder.path().join("control.sock");
        run(Program::new(binary()).args(["metrics", "--control"]).arg(socket))
    }

    /// Writes into its configuration or leases file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        self.folder.write(name, text).expect("a file");
    }

    /// Gives its failover link a key, before it is started.
    ///
    /// # Panics
    /// When its files cannot be written.
    pub fn protect(&self, key: &str) {
        let file = self.folder.write("link.key", key).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its permissions");
        let text = fs::read_to_string(self.folder.path().join("dhcpd.conf")).expect("a configuration");
        let statement = format!("xdhcpd-link-key-file \"{}\";\n  max-response-delay", file.display());
        self.write("dhcpd.conf", &text.replacen("max-response-delay", &statement, 1));
    }

    /// What it has said last.
    #[must_use]
    pub fn words(&self) -> String {
        self.process.as_ref().map(Process::last_words).unwrap_or_default()
    }
}

/// Both servers, the switch, and a namespace for clients.
#[derive(Debug)]
pub struct Duo {
    /// The servers, primary first.
    pub sides: [Side; 2],
    /// Where clients are; their interface is `c0`.
    pub clients: Namespace,
    _passes: Vec<PassProgram>,
    /// The switch.
    pub switch: Switch,
}

impl Duo {
    /// Makes the stage; nothing runs yet. The leases files are empty.
    ///
    /// # Errors
    /// When the kernel refuses any of it.
    pub fn new(kinds: [Kind; 2], configurations: [&str; 2], fast_path: &'static str) -> Result<Self> {
        Self::stage(kinds, configurations, fast_path, || Folder::new("pair"))
    }

    /// The same with files in memory, for what is not about disks: dhcpd syncs for every acknowledgement.
    ///
    /// # Errors
    /// When the kernel refuses any of it.
    pub fn in_memory(kinds: [Kind; 2], configurations: [&str; 2]) -> Result<Self> {
        Self::stage(kinds, configurations, "off", || Folder::in_memory("pair"))
    }

    fn stage(
        kinds: [Kind; 2],
        configurations: [&str; 2],
        fast_path: &'static str,
        folder: impl Fn() -> std::io::Result<Folder>,
    ) -> Result<Self> {
        let switch = Switch::new()?;
        let mut sides = Vec::new();
        let mut passes = Vec::new();
        for number in [P, S] {
            let namespace = Namespace::new(["primary", "secondary"][number])?;
            switch.plug(&namespace, INTERFACES[number])?;
            namespace.ip(&format!("addr add {}/24 dev {}", ADDRESSES[number], INTERFACES[number]))?;
            if fast_path == "native" {
                passes.push(switch.attach_pass(INTERFACES[number])?);
            }
            let folder = folder()?;
            folder.write("dhcpd.conf", configurations[number])?;
            folder.write("dhcpd.leases", "")?;
            sides.push(Side { kind: kinds[number], namespace, folder, process: None, number, fast_path, mounts: None });
        }
        let clients = Namespace::new("clients")?;
        switch.plug(&clients, "c0")?;
        let sides = sides.try_into().map_err(|_| anyhow::anyhow!("two sides"))?;
        Ok(Self { sides, clients, _passes: passes, switch })
    }

    /// Lets the kernels go on when their agents are killed.
    ///
    /// # Errors
    /// When mount namespaces or bpffs cannot be had.
    pub fn never_down(mut self) -> Result<Self> {
        for side in &mut self.sides {
            side.mounts = Some(Mounts::new()?);
        }
        Ok(self)
    }

    /// Sees everything that a server sends and is sent.
    ///
    /// # Panics
    /// When the kernel refuses the socket.
    #[must_use]
    pub fn tap(&self, side: usize) -> Tap {
        Tap::open(self.switch.namespace(), &format!("port-{}", INTERFACES[side])).expect("a tap")
    }

    /// A wire that clients of any address share.
    ///
    /// # Panics
    /// When the kernel refuses the socket.
    #[must_use]
    pub fn wire(&self) -> PacketSocket {
        self.clients.packet_socket("c0").expect("a packet socket")
    }

    /// Waits for something that both files will say.
    ///
    /// # Panics
    /// When it does not come, with what both servers say instead.
    pub fn wait(&mut self, what: &str, condition: impl FnMut(&mut Self) -> bool) {
        self.wait_for(PATIENCE, what, condition);
    }

    /// The same with a time of its own.
    ///
    /// # Panics
    /// When it does not come, with what both servers say instead.
    pub fn wait_for(&mut self, patience: Duration, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let outcome = until(what, patience, || {
            std::thread::sleep(Duration::from_millis(20));
            condition(self).then_some(())
        });
        if let Err(error) = outcome {
            let told =
                |side: &Side| format!("{:?}\n{:?}\n{}\n{}", side.states(), side.count(), side.file(), side.words());
            panic!("{error:#}\n--- primary {}\n--- secondary {}", told(&self.sides[P]), told(&self.sides[S]));
        }
    }

    /// Waits until both say that both are in normal.
    ///
    /// # Panics
    /// When that does not come.
    pub fn wait_normal(&mut self) {
        let normal = || ("normal".to_owned(), "normal".to_owned());
        self.wait("both normal", |duo| duo.sides.iter().all(|side| side.states() == normal()));
    }

    /// Waits until both files say the same state of an address, one of these.
    ///
    /// # Panics
    /// When that does not come.
    pub fn wait_agreed(&mut self, address: Ipv4Addr, states: &[&str]) {
        self.wait(&format!("{address} to be {states:?} on both"), |duo| {
            let [one, other] = [P, S].map(|side| duo.sides[side].state_of(address));
            one == other && states.contains(&&*one)
        });
    }
}

/// What a test configuration consists of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// `mclt`.
    pub mclt: u32,
    /// `default-lease-time` and `max-lease-time`.
    pub lease_secs: u32,
    /// `max-response-delay`.
    pub response_secs: u32,
    /// `max-unacked-updates`.
    pub window: u32,
    /// First and last address.
    pub range: [Ipv4Addr; 2],
    /// The subnet that the range is in.
    pub network: &'static str,
    /// What else stands in the peer declaration.
    pub more: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            mclt: 10,
            lease_secs: 300,
            response_secs: 10,
            window: 10,
            range: [Ipv4Addr::new(192, 168, 150, 50), Ipv4Addr::new(192, 168, 150, 69)],
            network: "192.168.150.0 netmask 255.255.255.0",
            more: "",
        }
    }
}

impl Setup {
    /// Both configurations.
    #[must_use]
    pub fn configurations(&self) -> [String; 2] {
        [P, S].map(|side| {
            let role = if side == P { format!("primary; mclt {}; split 128;", self.mclt) } else { "secondary;".to_owned() };
            let (ours, theirs) = (ADDRESSES[side], ADDRESSES[1 - side]);
            let (port, peer_port) = if side == P { (647, 847) } else { (847, 647) };
            let Self { lease_secs, response_secs, window, range: [first, last], network, more, .. } = self;
            format!(
                "failover peer \"GSB\" {{\n  {role}\n  address {ours}; port {port};\n  peer address {theirs}; peer port \
                 {peer_port};\n  max-response-delay {response_secs}; max-unacked-updates {window};\n  load balance max \
                 seconds 3; {more}\n}}\nauthoritative;\nddns-update-style none;\nping-check false;\ndhcp-cache-threshold 0;\n\
                 default-lease-time {lease_secs};\nmax-lease-time {lease_secs};\nmin-lease-time 5;\noption domain-name \
                 \"gsb.local\";\nsubnet {network} {{\n  pool {{ failover peer \"GSB\"; range {first} \
                 {last}; }}\n  option routers 192.168.150.1;\n}}\n"
            )
        })
    }
}
