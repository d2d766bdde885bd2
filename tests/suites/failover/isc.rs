//! Our endpoint against a real ISC dhcpd, over real TCP, in network namespaces that the test makes itself.
//!
//! The test starts itself again inside a namespace of its own; there a holder process keeps a second one, joined by a
//! veth pair, in which dhcpd runs. Clients reach dhcpd as a relay would (giaddr), so no raw socket is needed.

#![expect(clippy::disallowed_methods, reason = "a real partner lives on the real clock")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dhcp_user::failover::{BindingState, Command as Order, Effect, Input, Link, Settings, State};

use crate::agent::{chaddr, client_id};
use crate::flows::{FIRST, settings};
use crate::pair::{EPOCH, P, S, World};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Short, so that waiting for it does not take long.
const MCLT: u32 = 10;
const INSIDE: &str = "XDHCPD_TEST_INSIDE";

fn has(tool: &str, argument: &str) -> bool {
    Command::new(tool).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Runs the test of this name again in a network namespace; SKIPPED where that is not possible.
fn enter(test: &str, inside: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        inside();
        return;
    }
    let can = Command::new("unshare").args(["-n", "true"]).status().is_ok_and(|status| status.success());
    if !can || !has("dhcpd", "--version") || !has("ip", "-V") || !has("nsenter", "-V") {
        return tests::skip::skip(&format!("failover::{test}"), "needs root, unshare, nsenter, ip and dhcpd");
    }
    let run = Command::new("unshare")
        .arg("-n")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{text}");
}

fn sh(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// A dhcpd in its namespace.
struct Isc {
    holder: Child,
    server: Option<Child>,
    directory: PathBuf,
}

impl Drop for Isc {
    fn drop(&mut self) {
        self.kill();
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Isc {
    fn new(is_primary: bool, range: (Ipv4Addr, u32), window: u32) -> Self {
        let holder = Command::new("unshare").args(["-n", "sleep", "600"]).spawn().unwrap();
        let name = format!("xdhcpd-isc-{}-{is_primary}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let pid = holder.id();
        sh(&format!(
            "ip link set lo up && ip link add v0 type veth peer name v1 && ip addr add {OURS}/16 dev v1 && ip link set v1 up \
             && ip link set v0 netns {pid} && nsenter -t {pid} -n ip link set lo up \
             && nsenter -t {pid} -n ip addr add {THEIRS}/16 dev v0 && nsenter -t {pid} -n ip link set v0 up"
        ));
        let role = if is_primary { format!("primary; mclt {MCLT}; split 128;") } else { "secondary;".to_owned() };
        let first = range.0;
        let last = Ipv4Addr::from(u32::from(first) + range.1 - 1);
        let config = format!(
            "authoritative;\ndefault-lease-time 300;\nmax-lease-time 300;\nmin-lease-time 10;\nping-check false;\n\
             failover peer \"lab-fo\" {{\n  {role}\n  address {THEIRS}; port 847;\n  peer address {OURS}; peer port 647;\n  \
             max-response-delay 6; max-unacked-updates {window}; load balance max seconds 3;\n}}\n\
             subnet 10.77.0.0 netmask 255.255.0.0 {{\n  pool {{ failover peer \"lab-fo\"; range {first} {last}; }}\n}}\n"
        );
        std::fs::write(directory.join("dhcpd.conf"), config).unwrap();
        std::fs::write(directory.join("dhcpd.leases"), "").unwrap();
        Self { holder, server: None, directory }
    }

    fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.directory.join("log")).unwrap();
        let path = |name: &str| self.directory.join(name).into_os_string();
        let server = Command::new("nsenter")
            .args(["-t", &self.holder.id().to_string(), "-n", "dhcpd", "-4", "-f", "-d", "-cf"])
            .arg(path("dhcpd.conf"))
            .arg("-lf")
            .arg(path("dhcpd.leases"))
            .arg("-pf")
            .arg(path("pid"))
            .arg("v0")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(server);
    }

    fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    fn is_alive(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| server.try_wait().unwrap().is_none())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn append_lease_file(&self, text: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).open(self.directory.join("dhcpd.leases")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// The last record of each address in its leases file.
    fn leases(&self) -> BTreeMap<Ipv4Addr, String> {
        let text = std::fs::read_to_string(self.directory.join("dhcpd.leases")).unwrap();
        let mut leases = BTreeMap::new();
        for block in text.split("\nlease ").skip(1) {
            // It may be writing the last one.
            let Some((address, rest)) = block.split_once(' ') else { continue };
            let Some((body, _)) = rest.split_once("\n}") else { continue };
            leases.insert(address.parse().unwrap(), body.to_owned());
        }
        leases
    }

    fn state_of(&self, address: Ipv4Addr) -> Option<String> {
        let leases = self.leases();
        let line = leases.get(&address)?.lines().find_map(|line| line.trim().strip_prefix("binding state "))?;
        Some(line.trim_end_matches(';').to_owned())
    }

    /// The last state that the file says of itself.
    fn own_state(&self) -> String {
        let text = std::fs::read_to_string(self.directory.join("dhcpd.leases")).unwrap();
        let last = text.rsplit_once("my state ").map_or("", |(_, rest)| rest);
        last.split(' ').next().unwrap_or_default().to_owned()
    }
}

/// Our side: a world with one node whose wire is real.
struct Lab {
    world: World,
    node: usize,
    isc: Isc,
    begin: Instant,
    listener: TcpListener,
    links: BTreeMap<u64, TcpStream>,
    link_next: u64,
    relay: UdpSocket,
}

impl Lab {
    fn new(node: usize, range: (Ipv4Addr, u32), window: u32) -> Self {
        let isc = Isc::new(node == S, range, window);
        let mut both: [Settings; 2] = settings();
        both[P].mclt_secs = MCLT;
        for settings in &mut both {
            settings.receive_timer_secs = 6;
            settings.updates_unacked_max = window;
        }
        let mut world = World::new(both, &[range], 1);
        world.outward = Some(std::collections::VecDeque::new());
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        world.nodes[node].skew_secs = unix.as_secs() as i64 - EPOCH as i64;
        // The fraction of the second, so that both clocks tick together.
        world.now_ms = u64::from(unix.subsec_millis());
        let begin = Instant::now() - Duration::from_millis(world.now_ms);
        let listener = TcpListener::bind(SocketAddrV4::new(OURS, 647)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let relay = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 67)).unwrap();
        relay.set_nonblocking(true).unwrap();
        Self { world, node, isc, begin, listener, links: BTreeMap::new(), link_next: 1, relay }
    }

    fn adopt(&mut self, stream: TcpStream, dialled: bool) {
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        let link = self.link_next;
        self.link_next += 1;
        self.links.insert(link, stream);
        self.world.handle(self.node, |_| Input::Connected { link: Link(link), dialled });
    }

    /// One turn of the loop.
    fn turn(&mut self) {
        self.world.run_to(self.begin.elapsed().as_millis() as u64);
        while let Ok((stream, _)) = self.listener.accept() {
            self.adopt(stream, false);
        }
        let names: Vec<u64> = self.links.keys().copied().collect();
        for name in names {
            let mut buffer = [0; 4096];
            let got = self.links.get_mut(&name).map(|stream| stream.read(&mut buffer));
            match got {
                Some(Ok(count)) if count > 0 => {
                    self.world.handle(self.node, |_| Input::Bytes { link: Link(name), bytes: &buffer[..count] });
                }
                Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => {}
                Some(Ok(_) | Err(_)) => {
                    self.links.remove(&name);
                    self.world.handle(self.node, |_| Input::Closed { link: Link(name) });
                }
                None => {}
            }
        }
        while let Some(effect) = self.world.outward.as_mut().unwrap().pop_front() {
            match effect {
                Effect::Send { link, bytes } => {
                    if let Some(stream) = self.links.get_mut(&link.0) {
                        stream.set_nonblocking(false).unwrap();
                        let _ = stream.write_all(&bytes);
                        stream.set_nonblocking(true).unwrap();
                    }
                }
                Effect::Dial => {
                    let to = SocketAddrV4::new(THEIRS, 847).into();
                    match TcpStream::connect_timeout(&to, Duration::from_millis(500)) {
                        Ok(stream) => self.adopt(stream, true),
                        Err(_) => self.world.handle(self.node, |_| Input::Closed { link: Link(0) }),
                    }
                }
                Effect::Close { link } => {
                    self.links.remove(&link.0);
                }
                Effect::Revoke { .. } | Effect::Service(_) | Effect::Moved(_) | Effect::Log(..) => {}
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }

    fn wait_for(&mut self, what: &str, secs: u64, condition: impl Fn(&mut Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(secs);
        while !condition(self) {
            self.turn();
            if Instant::now() > end {
                let log = self.isc.log();
                let tail: Vec<&str> = log.lines().rev().take(60).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                panic!(
                    "{what}: {:?}\n{:#?}\ndhcpd:\n{}",
                    self.world.state(self.node),
                    self.world.nodes[self.node].log,
                    tail.join("\n")
                );
            }
        }
    }

    fn run(&mut self, secs: u64) {
        let end = Instant::now() + Duration::from_secs(secs);
        while Instant::now() < end {
            self.turn();
        }
    }

    fn wait_normal(&mut self, secs: u64) {
        self.wait_for("both normal", secs, |lab| {
            lab.world.state(lab.node) == Some(State::Normal)
                && lab.world.endpoint(lab.node).partner_state() == State::Normal
                && lab.isc.own_state() == "normal"
        });
    }

    fn count(&self, state: BindingState) -> usize {
        self.world.nodes[self.node].store.in_state(state)
    }

    fn state_of(&self, address: Ipv4Addr) -> BindingState {
        self.world.nodes[self.node].store.get(address).state
    }

    /// A lease from our side, seen in dhcpd's file.
    fn lease_ours(&mut self, client: u32) -> Ipv4Addr {
        let address = self.world.discover(self.node, client, 100).expect("an address of ours");
        let ack = self.world.request(self.node, client, address, 300).unwrap();
        assert!(ack.secs >= MCLT);
        self.wait_for("our lease in dhcpd's file", 5, |lab| lab.isc.state_of(address).as_deref() == Some("active"));
        self.wait_for("its acknowledgement", 5, |lab| {
            let lease = lab.world.nodes[lab.node].store.get(address);
            lease.acked_partner == lease.told_partner
        });
        let text = self.isc.leases()[&address].clone();
        assert!(text.contains("tsfp") && text.contains("atsfp"), "{text}");
        address
    }

    /// Asks dhcpd as a relay; the message type and `yiaddr` of the answer.
    fn ask_isc(&mut self, client: u32, kind: u8, requested: Option<Ipv4Addr>) -> Option<(u8, Ipv4Addr)> {
        let mut message = vec![0; 240];
        message[..4].copy_from_slice(&[1, 1, 6, 1]);
        message[4..8].copy_from_slice(&client.to_be_bytes());
        message[8..10].copy_from_slice(&100_u16.to_be_bytes());
        message[24..28].copy_from_slice(&OURS.octets());
        message[28..34].copy_from_slice(&chaddr(client)[1..7]);
        message[236..].copy_from_slice(&[99, 130, 83, 99]);
        message.extend_from_slice(&[53, 1, kind, 61, 5]);
        message.extend_from_slice(&client_id(client));
        if let Some(address) = requested {
            message.extend_from_slice(&[50, 4]);
            message.extend_from_slice(&address.octets());
            message.extend_from_slice(&[54, 4]);
            message.extend_from_slice(&THEIRS.octets());
        }
        message.push(255);
        self.relay.send_to(&message, SocketAddrV4::new(THEIRS, 67)).unwrap();
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            self.turn();
            let mut buffer = [0; 1500];
            let Ok((count, _)) = self.relay.recv_from(&mut buffer) else {
                continue;
            };
            let reply = &buffer[..count];
            if reply[4..8] == client.to_be_bytes() {
                let kind = reply.windows(3).skip(240).find(|option| option[0] == 53 && option[1] == 1);
                let kind = kind.or_else(|| reply[240..].windows(3).find(|option| option[..2] == [53, 1])).unwrap()[2];
                return Some((kind, Ipv4Addr::new(reply[16], reply[17], reply[18], reply[19])));
            }
        }
        None
    }

    /// A lease from dhcpd, seen in our store.
    fn lease_theirs(&mut self, client: u32) -> Ipv4Addr {
        let (kind, address) = self.ask_isc(client, 1, None).expect("an offer");
        assert_eq!(kind, 2);
        let (kind, granted) = self.ask_isc(client, 3, Some(address)).expect("an answer");
        assert_eq!((kind, granted), (5, address));
        self.wait_for("its lease here", 5, |lab| lab.state_of(address) == BindingState::Active);
        let lease = self.world.nodes[self.node].store.get(address);
        assert_eq!(lease.client_id, client_id(client));
        assert_eq!(lease.chaddr, chaddr(client));
        address
    }
}

/// The whole life of a pair, with dhcpd in the other role.
fn live(node: usize) {
    let mut lab = Lab::new(node, (FIRST, 20), 10);
    lab.isc.start();
    lab.run(1);
    lab.world.start(node);
    lab.wait_normal(25);
    lab.wait_for("the split", 10, |lab| lab.count(BindingState::Free) == 10 && lab.count(BindingState::Backup) == 10);

    // Leases on either side are seen on the other, renewed, released, expired.
    let ours = lab.lease_ours(1);
    assert_eq!(lab.world.request(node, 1, ours, 300).unwrap().secs, 300, "acknowledged: the renewal is whole");
    let theirs = lab.lease_theirs(1001);
    lab.world.release(node, 1, ours);
    lab.wait_for("our release", 6, |lab| {
        lab.isc.state_of(ours).is_some_and(|state| state == "free" || state == "backup")
            && matches!(lab.state_of(ours), BindingState::Free | BindingState::Backup)
    });
    lab.wait_for("the expiry of its first lease", 40, |lab| lab.state_of(theirs) != BindingState::Active);
    lab.wait_for("both agree", 10, |lab| {
        lab.isc.state_of(theirs).as_deref() == Some(lab.state_of(theirs).name())
            && matches!(lab.state_of(theirs), BindingState::Free | BindingState::Backup)
    });

    // It is killed and comes back.
    let kept = lab.lease_ours(2);
    lab.isc.kill();
    lab.wait_for("interruption", 8, |lab| lab.world.state(node) == Some(State::CommunicationsInterrupted));
    assert_eq!(lab.world.request(node, 2, kept, 300).unwrap().secs, 300);
    lab.isc.start();
    lab.wait_normal(25);
    lab.wait_for("our renewal there", 6, |lab| lab.isc.state_of(kept).as_deref() == Some("active"));

    // We are killed and come back.
    let alone = lab.lease_theirs(1002);
    lab.links.clear();
    lab.world.kill(node, false);
    lab.run(2);
    lab.world.start(node);
    lab.wait_normal(25);
    assert_eq!(lab.state_of(alone), BindingState::Active, "our disk was kept");

    // We lose everything: it must tell us everything.
    lab.links.clear();
    lab.world.kill(node, false);
    lab.world.lose_disk(node);
    lab.run(1);
    lab.world.start(node);
    lab.wait_normal(25 + u64::from(MCLT));
    assert_eq!(lab.state_of(kept), BindingState::Active);
    let waited = lab.world.own_states(node);
    assert_eq!(waited, [State::Recover, State::RecoverWait, State::RecoverDone, State::Normal]);

    // It is away for long; we serve alone, then it recovers.
    lab.isc.kill();
    lab.run(2);
    lab.world.handle(node, |_| Input::Command(Order::PartnerDown));
    let while_down = lab.world.discover(node, 3, 0).unwrap();
    assert_eq!(lab.world.request(node, 3, while_down, 300).unwrap().secs, 300);
    lab.isc.start();
    lab.wait_normal(40 + u64::from(MCLT));
    lab.wait_for("what it missed", 5, |lab| lab.isc.state_of(while_down).as_deref() == Some("active"));

    // Both have served alone: conflicts are resolved.
    lab.isc.kill();
    lab.run(2);
    lab.world.handle(node, |_| Input::Command(Order::PartnerDown));
    lab.isc.append_lease_file("\nfailover peer \"lab-fo\" state {\n  my state partner-down;\n}\n");
    lab.isc.start();
    lab.wait_normal(40);
    let states = lab.world.own_states(node);
    assert!(states.contains(&State::PotentialConflict), "{states:?}");

    // Many renewals through its window of ten.
    let address = lab.lease_ours(9);
    for _ in 0..50 {
        lab.world.request(node, 9, address, 300).unwrap();
        lab.turn();
    }
    lab.wait_for("everything acknowledged", 10, |lab| {
        let status = lab.world.endpoint(node).status(&lab.world.nodes[node].store, lab.world.now(node));
        status.traffic.updates_in_flight + status.traffic.updates_queued == 0
    });
    assert!(lab.isc.is_alive(), "dhcpd has survived us: {}", lab.isc.log());
}

#[test]
fn a_pair_with_dhcpd_as_secondary() {
    enter("isc::a_pair_with_dhcpd_as_secondary", || live(P));
}

#[test]
fn a_pair_with_dhcpd_as_primary() {
    enter("isc::a_pair_with_dhcpd_as_primary", || live(S));
}

/// It has lost its file; every lease comes from us, and service goes on.
fn resync(node: usize) {
    let count = 10_000;
    let mut lab = Lab::new(node, (Ipv4Addr::new(10, 77, 64, 0), count), 1000);
    lab.isc.start();
    lab.run(1);
    lab.world.start(node);
    lab.wait_normal(60);
    let own = if node == P { BindingState::Free } else { BindingState::Backup };
    lab.wait_for("the split", 60, |lab| lab.count(own) == count as usize / 2);
    for client in 0..4000 {
        let address = lab.world.discover_first(node).unwrap();
        lab.world.request(node, client, address, 3000).unwrap();
        if client % 50 == 0 {
            lab.turn();
        }
    }
    lab.wait_for("all leases told", 60, |lab| {
        let status = lab.world.endpoint(node).status(&lab.world.nodes[node].store, lab.world.now(node));
        status.traffic.updates_in_flight + status.traffic.updates_queued == 0
    });
    lab.isc.kill();
    std::fs::write(lab.isc.directory.join("dhcpd.leases"), "").unwrap();
    lab.run(1);
    lab.isc.start();
    let begin = Instant::now();
    lab.wait_for("its recovery", 60, |lab| lab.isc.own_state() == "recover-wait");
    eprintln!("{count} leases to dhcpd in {:?}", begin.elapsed());
    lab.wait_normal(40);
    let active = lab.isc.leases().values().filter(|text| text.contains("\n  binding state active")).count();
    assert!(active >= lab.count(BindingState::Active), "{active} of {}", lab.count(BindingState::Active));
}

#[test]
fn ten_thousand_leases_are_resynced_to_dhcpd_as_secondary() {
    enter("isc::ten_thousand_leases_are_resynced_to_dhcpd_as_secondary", || resync(P));
}

#[test]
fn ten_thousand_leases_are_resynced_to_dhcpd_as_primary() {
    enter("isc::ten_thousand_leases_are_resynced_to_dhcpd_as_primary", || resync(S));
}
