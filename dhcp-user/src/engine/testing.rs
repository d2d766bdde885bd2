//! A world for an engine in tests: a virtual clock, a journal, a kernel that does what it is told, and packets.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use dhcp_ebpf::{
    abi::{BootSecs, DigestKey, Renewal},
    wire::{dhcp::COOKIE, option::Options},
};

use crate::lease::{
    Packed, Table,
    journal::{self, Record},
    time::{BootTime, Now, WallTime},
};

use super::{
    EngineOptions, Server, Status, layout,
    port::{
        Arm, Datagram, Effect, Input, Interface, InterfaceIndex, JournalSeq, Level, Received, Reload, Reloaded,
        Standing, Token, Verbs,
    },
};

/// The configuration of the visitor VLAN, without the failover peer and the ping.
pub(crate) const VISITORS: &str = r#"
ddns-update-style none;
option domain-name "gsb.local";
option domain-name-servers 172.16.0.10;
default-lease-time 600;
max-lease-time 7200;
authoritative;
ping-check false;
subnet 192.168.150.0 netmask 255.255.255.0 {
    pool { range 192.168.150.50 192.168.150.100; }
    option routers 192.168.150.1;
    option broadcast-address 192.168.150.255;
}
"#;

/// The primary of the lab, in partner-down.
pub(crate) const GSB: &str = r#"
failover peer "GSB" {
    primary; address 192.168.150.1; port 647; peer address 192.168.150.2; peer port 847;
    max-response-delay 60; max-unacked-updates 10; mclt 3; split 128; load balance max seconds 3;
}
failover peer "GSB" state { my state partner-down; }
ddns-update-style none;
option domain-name "gsb.local";
option domain-name-servers 172.16.0.10;
default-lease-time 600;
max-lease-time 7200;
authoritative;
ping-check false;
log-facility local7;
subnet 192.168.150.0 netmask 255.255.255.0 {
    pool { failover peer "GSB"; range 192.168.150.50 192.168.150.100; }
    option routers 192.168.150.1;
    option broadcast-address 192.168.150.255;
}
"#;

/// The address of the server.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 1);
/// When tests begin: 2026/11/22 12:00:00 UTC.
pub(crate) const BEGIN: u32 = 1_795_348_800;

/// The parameter request list of the reference's test vectors.
pub(crate) const LIST: [u8; 8] = [1, 3, 6, 15, 28, 51, 58, 59];

/// An address of the visitor VLAN.
pub(crate) fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 150, last)
}

/// The hardware address of a client.
pub(crate) fn mac(client: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, client]
}

/// A message from a client.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) hops: u8,
    pub(crate) xid: [u8; 4],
    pub(crate) secs: u16,
    pub(crate) flags: u16,
    pub(crate) ciaddr: Ipv4Addr,
    pub(crate) giaddr: Ipv4Addr,
    pub(crate) mac: [u8; 6],
    pub(crate) options: Vec<(u8, Vec<u8>)>,
    pub(crate) padded_to: usize,
}

impl Message {
    /// A message of this type with the usual parameter request list.
    pub(crate) fn new(kind: u8, client: u8) -> Self {
        Self {
            hops: 0,
            xid: [9, 8, 7, client],
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            mac: mac(client),
            options: vec![(53, vec![kind])],
            padded_to: 300,
        }
    }

    pub(crate) fn discover(client: u8) -> Self {
        Self::new(1, client).with(55, &LIST)
    }

    /// REQUEST of an offer (SELECTING).
    pub(crate) fn select(client: u8, address: Ipv4Addr) -> Self {
        Self::new(3, client).with(50, &address.octets()).with(54, &SERVER.octets()).with(55, &LIST)
    }

    /// REQUEST of an address had before (INIT-REBOOT).
    pub(crate) fn reboot(client: u8, address: Ipv4Addr) -> Self {
        Self::new(3, client).with(50, &address.octets()).with(55, &LIST)
    }

    /// REQUEST from the address (RENEWING).
    pub(crate) fn renew(client: u8, address: Ipv4Addr) -> Self {
        Self::new(3, client).with(55, &LIST).from(address)
    }

    pub(crate) fn release(client: u8, address: Ipv4Addr) -> Self {
        Self::new(7, client).with(54, &SERVER.octets()).from(address)
    }

    pub(crate) fn decline(client: u8, address: Ipv4Addr) -> Self {
        Self::new(4, client).with(50, &address.octets()).with(54, &SERVER.octets())
    }

    pub(crate) fn with(mut self, code: u8, data: &[u8]) -> Self {
        self.options.push((code, data.to_vec()));
        self
    }

    pub(crate) fn without(mut self, code: u8) -> Self {
        self.options.retain(|(this, _)| *this != code);
        self
    }

    pub(crate) fn from(mut self, ciaddr: Ipv4Addr) -> Self {
        self.ciaddr = ciaddr;
        self
    }

    pub(crate) fn via(mut self, giaddr: Ipv4Addr) -> Self {
        self.giaddr = giaddr;
        self.hops = 1;
        self
    }

    pub(crate) fn broadcast(mut self) -> Self {
        self.flags = 0x8000;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 236];
        bytes[0] = 1;
        bytes[1] = 1;
        bytes[2] = 6;
        bytes[3] = self.hops;
        bytes[4..8].copy_from_slice(&self.xid);
        bytes[8..10].copy_from_slice(&self.secs.to_be_bytes());
        bytes[10..12].copy_from_slice(&self.flags.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.ciaddr.octets());
        bytes[24..28].copy_from_slice(&self.giaddr.octets());
        bytes[28..34].copy_from_slice(&self.mac);
        bytes.extend_from_slice(&COOKIE);
        for (code, data) in &self.options {
            bytes.push(*code);
            bytes.push(data.len() as u8);
            bytes.extend_from_slice(data);
        }
        bytes.push(255);
        bytes.resize(bytes.len().max(self.padded_to), 0);
        bytes
    }
}

/// What a test reads of a reply.
pub(crate) trait Reading {
    /// Codes in the order in which they stand.
    fn codes(&self) -> Vec<u8>;
    /// The data of an option.
    fn option(&self, code: u8) -> Option<Vec<u8>>;
    /// Option 53.
    fn kind(&self) -> u8 {
        self.option(53).map_or(0, |data| data[0])
    }
    /// Option 51.
    fn lease_time(&self) -> u32 {
        u32::from_be_bytes(self.option(51).unwrap().try_into().unwrap())
    }
    /// `yiaddr`.
    fn yiaddr(&self) -> Ipv4Addr;
    /// Option 56.
    fn text(&self) -> String {
        String::from_utf8(self.option(56).unwrap_or_default()).unwrap()
    }
}

impl Reading for Datagram {
    fn codes(&self) -> Vec<u8> {
        Options::new(&self.message[240..]).map(|option| option.unwrap().0).collect()
    }

    fn option(&self, code: u8) -> Option<Vec<u8>> {
        Options::new(&self.message[240..])
            .map(Result::unwrap)
            .find(|(this, _)| *this == code)
            .map(|(_, data)| data.to_vec())
    }

    fn yiaddr(&self) -> Ipv4Addr {
        Ipv4Addr::from(<[u8; 4]>::try_from(&self.message[16..20]).unwrap())
    }
}

/// What came out, in order, in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Append(u64),
    Send(u8),
    Arm(Ipv4Addr),
    Extend(Vec<Ipv4Addr>),
    Revoke(Vec<Ipv4Addr>),
    Probe(Ipv4Addr),
    NewGeneration,
}

/// An engine, its clock, and everything around it.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) now: Now,
    /// Records are durable at once.
    pub(crate) syncs: bool,
    /// Revocations are complete at once.
    pub(crate) revokes: bool,
    /// Probes stay unanswered, at once.
    pub(crate) probes: bool,
    pub(crate) journal: String,
    pub(crate) appended: JournalSeq,
    pub(crate) sent: Vec<Datagram>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) logs: Vec<(Level, String)>,
    pub(crate) armed: BTreeMap<Ipv4Addr, Arm>,
    pub(crate) words: BTreeMap<Ipv4Addr, Renewal>,
    pub(crate) pending_revokes: Vec<(Token, Vec<Ipv4Addr>)>,
    pub(crate) pending_probes: Vec<(Token, Ipv4Addr)>,
    pub(crate) serving: BTreeMap<u8, bool>,
    pub(crate) executed: Vec<(String, Vec<Vec<u8>>)>,
    /// Generations that have begun, and how reloads went.
    pub(crate) generations: Vec<u32>,
    pub(crate) reloaded: Vec<Reloaded>,
    pub(crate) key: DigestKey,
}

impl World {
    pub(crate) fn new(conf: &str) -> Self {
        Self::with(conf, "", |_| {})
    }

    /// A world whose leases file says something already.
    pub(crate) fn with(conf: &str, leases: &str, adjust: impl FnOnce(&mut EngineOptions)) -> Self {
        Self::at(conf, leases, adjust, Now { boot: BootTime::from_secs(5000), wall: WallTime::from_secs(BEGIN.into()) })
    }

    pub(crate) fn at(conf: &str, leases: &str, adjust: impl FnOnce(&mut EngineOptions), now: Now) -> Self {
        let loaded = crate::config::load("dhcpd.conf", &mut |_| Ok(conf.as_bytes().to_vec()));
        let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(false)));
        let mut table = Table::new(&layout(&config, [1, 2]));
        let mut words = 1_u64;
        let key = DigestKey::draw(|| {
            words = words.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            words ^ (words >> 29)
        });
        let mut options = EngineOptions::new(7, key);
        let mut complaints = Vec::new();
        for record in journal::read(leases.as_bytes(), now.wall, &mut complaints) {
            match record {
                Record::Lease(lease) => {
                    table.load(Packed::new(&lease), true);
                }
                Record::PeerState(state) => {
                    options.peer_states.retain(|known| known.name != state.name);
                    options.peer_states.push(state);
                }
                Record::ServerDuid(_) | Record::Other(_) => {}
            }
        }
        assert!(complaints.is_empty(), "{complaints:?}");
        adjust(&mut options);
        // What an earlier agent left armed is in the kernel.
        let armed = options.adopted.iter().filter(|standing| standing.is_armed).map(|standing| {
            let Standing { address, chaddr, horizon, questions, .. } = standing.clone();
            (address, Arm { address, chaddr, peer: 0, bucket: 0, horizon, questions })
        });
        let armed = armed.collect();
        let mut world = Self {
            server: Server::new(config, table, options, now),
            now,
            syncs: true,
            revokes: true,
            probes: true,
            journal: String::new(),
            appended: JournalSeq(0),
            sent: Vec::new(),
            seen: Vec::new(),
            logs: Vec::new(),
            armed,
            words: BTreeMap::new(),
            pending_revokes: Vec::new(),
            pending_probes: Vec::new(),
            serving: BTreeMap::new(),
            executed: Vec::new(),
            generations: Vec::new(),
            reloaded: Vec::new(),
            key,
        };
        world.input(Input::Interfaces(vec![Interface {
            index: InterfaceIndex(2),
            name: "eth0".to_owned(),
            mac: [2, 0, 0, 0, 0, 0xff],
            addresses: vec![(SERVER, 24)],
            is_up: true,
        }]));
        world
    }

    /// Another configuration is to take over.
    pub(crate) fn reload(&mut self, conf: &str) {
        let loaded = crate::config::load("dhcpd.conf", &mut |_| Ok(conf.as_bytes().to_vec()));
        let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(false)));
        let format = super::format(&config, 0);
        self.input(Input::Reload(Box::new(Reload { config, format })));
    }

    /// Work in slices is done, without time that counts in seconds.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let Some(at) = self.server.poll_timeout() else { return };
            if at.since(self.now.boot) > super::limits::SLICE_PAUSE {
                return;
            }
            self.now.boot = at;
            self.input(Input::Timeout);
        }
        panic!("there is always something to do");
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.server.handle(input, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.server.poll_effect() {
            match effect {
                Effect::Append(seq, record) => {
                    assert_eq!(seq.0, self.appended.0 + 1, "records are numbered one by one");
                    self.appended = seq;
                    self.journal.push_str(&String::from_utf8(record).unwrap());
                    self.seen.push(Seen::Append(seq.0));
                    if self.syncs {
                        self.server.handle(Input::Durable(seq), self.now);
                    }
                }
                Effect::Send(datagram) => {
                    self.seen.push(Seen::Send(datagram.kind()));
                    self.sent.push(datagram);
                }
                Effect::Arm(arms) => {
                    for arm in arms {
                        self.seen.push(Seen::Arm(arm.address));
                        self.armed.insert(arm.address, arm);
                    }
                }
                Effect::Extend(horizons) => {
                    self.seen.push(Seen::Extend(horizons.iter().map(|(address, _)| *address).collect()));
                    for (address, horizon) in horizons {
                        if let Some(arm) = self.armed.get_mut(&address) {
                            arm.horizon = horizon;
                        }
                    }
                }
                Effect::Revoke(token, addresses) => {
                    self.seen.push(Seen::Revoke(addresses.clone()));
                    self.pending_revokes.push((token, addresses));
                    if self.revokes {
                        self.complete_revocation();
                    }
                }
                Effect::Probe { token, address, .. } => {
                    self.seen.push(Seen::Probe(address));
                    self.pending_probes.push((token, address));
                    if self.probes {
                        self.complete_probe(false);
                    }
                }
                Effect::Serving(peer, is_on) => {
                    self.serving.insert(peer, is_on);
                }
                Effect::Balance(..) => {}
                Effect::NewGeneration { token, generation, .. } => {
                    self.generations.push(generation.number());
                    self.seen.push(Seen::NewGeneration);
                    self.pending_revokes.push((token, self.armed.keys().copied().collect()));
                    if self.revokes {
                        self.complete_revocation();
                    }
                }
                Effect::Reloaded(reloaded) => self.reloaded.push(*reloaded),
                Effect::Log(level, line) => self.logs.push((level, line)),
                Effect::Execute { program, arguments } => self.executed.push((program, arguments)),
                Effect::PeerSend(..) | Effect::PeerDial { .. } | Effect::PeerClose(_) => {}
            }
        }
    }

    /// The oldest revocation is complete.
    pub(crate) fn complete_revocation(&mut self) {
        let (token, addresses) = self.pending_revokes.remove(0);
        let words = addresses
            .iter()
            .map(|address| {
                self.armed.remove(address);
                (*address, self.words.remove(address).unwrap_or_default())
            })
            .collect();
        self.server.handle(Input::Revoked(token, words), self.now);
        self.drain();
    }

    /// The oldest probe has ended.
    pub(crate) fn complete_probe(&mut self, is_in_use: bool) {
        let (token, _) = self.pending_probes.remove(0);
        self.server.handle(Input::Probed(token, is_in_use), self.now);
        self.drain();
    }

    /// Everything written so far is on disk.
    pub(crate) fn sync(&mut self) {
        let seq = self.appended;
        self.input(Input::Durable(seq));
    }

    /// Time passes, and timers ring.
    pub(crate) fn pass(&mut self, secs: u32) {
        self.now = Now {
            boot: BootTime::from_nanos(self.now.boot.nanos() + u64::from(secs) * 1_000_000_000),
            wall: self.now.wall.after(secs),
        };
        for _ in 0..10_000 {
            if self.server.poll_timeout().is_none_or(|at| at > self.now.boot) {
                return;
            }
            self.input(Input::Timeout);
        }
        panic!("the engine asks to be woken again and again");
    }

    /// Somebody sets the wall clock; the engine has not looked at it yet.
    pub(crate) fn step(&mut self, secs: i64) {
        self.now.wall = WallTime::from_secs(u64::try_from(i64::from(self.now.wall.secs()) + secs).unwrap());
    }

    /// A client's message arrives; what is sent because of it.
    pub(crate) fn take(&mut self, message: &Message) -> Vec<Datagram> {
        self.take_bytes(&message.bytes(), message.ciaddr)
    }

    pub(crate) fn take_bytes(&mut self, bytes: &[u8], source: Ipv4Addr) -> Vec<Datagram> {
        let before = self.sent.len();
        self.input(Input::Packet(Received {
            interface: InterfaceIndex(2),
            vlan: [0; 2],
            source: SocketAddrV4::new(source, 68),
            destination: Ipv4Addr::BROADCAST,
            message: bytes,
        }));
        self.sent[before..].to_vec()
    }

    /// The one reply to a message.
    pub(crate) fn ask(&mut self, message: &Message) -> Datagram {
        let mut replies = self.take(message);
        assert_eq!(replies.len(), 1, "one reply to {message:?}; log: {:?}", self.logs);
        replies.remove(0)
    }

    /// No reply to a message.
    pub(crate) fn silent(&mut self, message: &Message) {
        let replies = self.take(message);
        assert!(replies.is_empty(), "no reply to {message:?}, but {replies:?}");
    }

    /// DISCOVER, OFFER, REQUEST, ACK.
    pub(crate) fn join(&mut self, client: u8) -> Ipv4Addr {
        let offer = self.ask(&Message::discover(client));
        assert_eq!(offer.kind(), 2);
        let ack = self.ask(&Message::select(client, offer.yiaddr()));
        assert_eq!(ack.kind(), 5, "{:?}", self.logs);
        assert_eq!(ack.yiaddr(), offer.yiaddr());
        ack.yiaddr()
    }

    /// The kernel has answered a renewal just now.
    pub(crate) fn kernel_renews(&mut self, address: Ipv4Addr, granted: u32) -> Renewal {
        let at = self.now.boot.to_secs();
        let renewal = Renewal { at, until: BootSecs::new(at.secs() + granted) };
        self.words.insert(address, renewal);
        renewal
    }

    /// What humans see.
    pub(crate) fn status(&self) -> Status {
        self.server.status()
    }

    /// How often a reason was counted.
    pub(crate) fn ignored(&self, name: &str) -> u64 {
        self.status().ignored.iter().find(|(this, _)| *this == name).unwrap().1
    }

    /// The journal since the last call.
    pub(crate) fn take_journal(&mut self) -> String {
        std::mem::take(&mut self.journal)
    }

    /// What happened since the last call.
    pub(crate) fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// Whether a line was logged.
    pub(crate) fn logged(&self, line: &str) -> bool {
        self.logs.iter().any(|(_, text)| text == line)
    }
}
