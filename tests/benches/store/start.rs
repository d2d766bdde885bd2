//! How long a start takes: reading the file alone, and whole servers from exec to the first ACK of a renewal.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use dhcp_user::io::journal::Intake;
use dhcp_user::lease::journal::Record;
use dhcp_user::lease::{Layout, Packed, PoolLayout, Table};
use tests::client::{Client, Lease, Wire as _};
use tests::lab::{Namespace, PacketSocket, available, find_program, veth};

use crate::{FIRST, LEASE_SECS, ROUNDS, configuration, mac, median, memory_mib, million, open, row};

/// The server's address: outside the range.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 1);
/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the client asks until it is answered.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// A table of one pool with so many addresses.
pub(crate) fn table(count: u32) -> Table {
    let last = Ipv4Addr::from(u32::from(FIRST) + count - 1);
    Table::new(&Layout {
        pools: vec![PoolLayout { ranges: vec![(FIRST, last)], is_failover: false }],
        hash_key: [1, 2],
    })
}

/// Takes in leases as the server does.
struct Leases<'a>(&'a mut Table);

impl Intake for Leases<'_> {
    type Item = Option<Packed>;

    fn prepare(record: Record) -> Option<Packed> {
        if let Record::Lease(lease) = record { Some(Packed::new(&lease)) } else { None }
    }

    fn take(&mut self, item: Option<Packed>) {
        if let Some(lease) = item {
            self.0.load(lease, true);
        }
    }
}

/// The file into the table, and `dhcpd -T` on the same file.
pub(crate) fn replay(folder: &Path, count: u32) {
    let path = million(folder, count);
    let config = folder.join("dhcpd.conf");
    fs::write(&config, configuration(count)).expect("room");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let begin = Instant::now();
        let mut table = table(count);
        let (journal, _events) = open(&path, &mut Leases(&mut table));
        ours.push(begin.elapsed().as_secs_f64());
        if round == 0 {
            row("leases in the file", &count.to_string(), "");
            row("heap of the table, a lease", &format!("{} bytes", table.heap_len() / count as usize), "(at most 200)");
        }
        drop(table);
        journal.close();
        theirs.extend(dhcpd_test(&config, &path));
    }
    let ours = median(ours);
    let beside = match theirs.len() {
        0 => "dhcpd -T: SKIPPED, it is not installed".to_owned(),
        _ => format!("dhcpd -T: {:.2} s, {:.1} times", median(theirs.clone()), median(theirs) / ours),
    };
    row("file into the table", &format!("{ours:.3} s"), &beside);
}

fn dhcpd_test(config: &Path, leases: &Path) -> Option<f64> {
    let begin = Instant::now();
    let mut dhcpd = Command::new(find_program("dhcpd")?);
    dhcpd.args(["-4", "-q", "-T", "-cf"]).arg(config).arg("-lf").arg(leases);
    let status = dhcpd.stderr(Stdio::null()).stdout(Stdio::null()).status().ok()?;
    status.success().then(|| begin.elapsed().as_secs_f64())
}

/// What a start took.
struct Started {
    secs: f64,
    resident_mib: u64,
    peak_mib: u64,
}

/// Whole servers: exec, the file read, a renewal answered.
pub(crate) fn servers(folder: &Path, count: u32) {
    if let Err(reason) = available() {
        return row("exec to the first ACK", "SKIPPED", &reason);
    }
    let stage = Stage::new(folder, count).expect("the stage");
    let mut ours = Vec::new();
    let mut ours_plain = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..ROUNDS {
        ours.push(stage.start(&mut stage.xdhcpd("auto")).expect("xdhcpd answers"));
        ours_plain.push(stage.start(&mut stage.xdhcpd("off")).expect("xdhcpd answers"));
        if let Some(dhcpd) = find_program("dhcpd") {
            theirs.push(stage.start(&mut stage.dhcpd(&dhcpd)).expect("dhcpd answers"));
        }
    }
    let secs = |started: &[Started]| median(started.iter().map(|one| one.secs).collect());
    let mib = |started: &[Started]| median(started.iter().map(|one| one.resident_mib as f64).collect());
    let peak = |started: &[Started]| median(started.iter().map(|one| one.peak_mib as f64).collect());
    let dhcpd = |figure: &dyn Fn(&[Started]) -> String| {
        if theirs.is_empty() { "dhcpd: SKIPPED, it is not installed".to_owned() } else { figure(&theirs) }
    };
    let times =
        |of: f64| dhcpd(&|theirs| format!("dhcpd: {:.2} s, {:.1} times (at least 8)", secs(theirs), secs(theirs) / of));
    row("exec to the first ACK (at most 0.8 s)", &format!("{:.3} s", secs(&ours)), &times(secs(&ours)));
    row("the same with --fast-path off", &format!("{:.3} s", secs(&ours_plain)), &times(secs(&ours_plain)));
    let beside = dhcpd(&|theirs| format!("dhcpd: {:.0} MiB (peak {:.0})", mib(theirs), peak(theirs)));
    let figure = format!("{:.0} MiB", mib(&ours_plain));
    row("resident then (at most 300 MiB)", &figure, &format!("(peak {:.0}) {beside}", peak(&ours_plain)));
}

/// A server and one client on a cable.
struct Stage<'a> {
    folder: &'a Path,
    server: Namespace,
    socket: std::cell::RefCell<PacketSocket>,
    _client: Namespace,
    server_mac: [u8; 6],
    number: u32,
}

impl<'a> Stage<'a> {
    fn new(folder: &'a Path, count: u32) -> Result<Self> {
        let number = count / 2;
        let (server, client) = (Namespace::new("server")?, Namespace::new("client")?);
        veth(&server, "s0", &client, "c0")?;
        server.ip(&format!("addr add {SERVER}/8 dev s0"))?;
        // The client answers no ARP.
        let [a, b, c, d, e, f] = mac(number);
        let address = Ipv4Addr::from(u32::from(FIRST) + number);
        server.ip(&format!("neigh add {address} lladdr {a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x} dev s0 nud permanent"))?;
        let socket = client.packet_socket("c0")?;
        let server_mac = server.mac("s0")?;
        million(folder, count);
        fs::write(folder.join("dhcpd.conf"), configuration(count))?;
        Ok(Self { folder, server, socket: socket.into(), _client: client, server_mac, number })
    }

    fn xdhcpd(&self, fast_path: &str) -> Command {
        let mut command = Command::new(tests::agent::binary());
        command.args(["-4", "-f", "-q", "--no-pid", "--fast-path", fast_path, "--control"]);
        command.arg(self.folder.join("control.sock"));
        command
    }

    fn dhcpd(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["-4", "-f", "-q", "-pf"]).arg(self.folder.join("dhcpd.pid"));
        command
    }

    /// Starts a server on a copy of the file, asks until it answers, and ends it.
    fn start(&self, command: &mut Command) -> Result<Started> {
        let leases = self.folder.join("start.leases");
        fs::copy(self.folder.join("dhcpd.leases"), &leases)?;
        fs::File::open(&leases)?.sync_all()?;
        command.arg("-cf").arg(self.folder.join("dhcpd.conf")).arg("-lf").arg(&leases).arg("s0");
        let address = Ipv4Addr::from(u32::from(FIRST) + self.number);
        let mut client = Client::new(mac(self.number));
        client.lease = Some(Lease { address, server: SERVER, server_mac: self.server_mac, secs: LEASE_SECS as u32 });
        let [a, b, c, d, e, f] = client.mac;
        client.client_id = Some(vec![1, a, b, c, d, e, f]);
        let frame = client.renewal()?;
        let mut socket = self.socket.borrow_mut();
        while socket.receive(Duration::ZERO)?.is_some() {}
        let begin = Instant::now();
        let mut process = self.server.spawn(command)?;
        let secs = loop {
            socket.send(&frame)?;
            let reply = socket.receive(ASK_EVERY)?.and_then(|frame| client.read(&frame));
            if reply.is_some() {
                break begin.elapsed().as_secs_f64();
            }
            if begin.elapsed() > PATIENCE || process.ended()?.is_some() {
                anyhow::bail!("no answer; its last words:\n    {}", process.last_words());
            }
        };
        let id = process.id().to_string();
        let started = Started { secs, resident_mib: memory_mib(&id, "VmRSS:"), peak_mib: memory_mib(&id, "VmHWM:") };
        process.stop().context("the server did not stop")?;
        for name in ["start.leases", "start.leases~"] {
            drop(fs::remove_file(self.folder.join(name)));
        }
        Ok(started)
    }
}
