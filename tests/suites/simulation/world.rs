//! Two engines, two disks, two kernels, one wire between the servers, and a virtual clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};

use dhcp_ebpf::abi::{BootSecs, DigestKey, Generation, Renewal};
use dhcp_ebpf::question::{self, Question};
use dhcp_user::config;
use dhcp_user::engine::port::{
    Arm, Datagram, Effect, Input, Interface, InterfaceIndex, JournalSeq, PeerInput, Received, Standing, Token,
    Verbs as _,
};
use dhcp_user::engine::{self, EngineOptions, Server};
use dhcp_user::lease::journal::{self, Record};
use dhcp_user::lease::time::{BootTime, Now, WallTime};
use dhcp_user::lease::{Packed, Table};
use tests::dice::Dice;
use tests::frames::Message;
use tests::judge::{Disk, Sight};
use tests::tcp::{self, Arrival, Tcp};

pub(crate) const EPOCH: u64 = 1_795_336_788;
pub(crate) const P: usize = 0;
pub(crate) const S: usize = 1;
/// Boot time when the virtual clock stands at zero.
const BOOT_SECS: u64 = 1000;
/// How often the agent looks at the kernel's entries.
const SCAN_MS: u64 = 2000;

/// Address of a server.
pub(crate) fn address_of(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 1 + node as u8)
}

/// An entry of the kernel.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) arm: Arm,
    is_armed: bool,
    renewal: Renewal,
    is_reported: bool,
}

/// What survives the process.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) entries: BTreeMap<Ipv4Addr, Entry>,
    serving: BTreeMap<u8, bool>,
    buckets: BTreeMap<u8, [u8; 32]>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) server: Option<Server>,
    pub(crate) disk: Disk,
    pub(crate) kernel: Kernel,
    config: String,
    pub(crate) skew_secs: i64,
    pub(crate) life: u32,
    has_power: bool,
    /// The kernel may have promised what no record says.
    is_marked: bool,
    base: usize,
    asked: usize,
    pub(crate) log: Vec<String>,
    key: DigestKey,
}

#[derive(Debug)]
enum Event {
    Dialled { from: usize, life: u32 },
    Durable { node: usize, life: u32, upto: usize },
    Revoked { node: usize, life: u32, token: Token, addresses: Vec<Ipv4Addr> },
    Probed { node: usize, life: u32, token: Token },
    Scan { node: usize, life: u32 },
    Custom(u64),
}

/// What a checker wants to see, in order.
#[derive(Debug)]
pub(crate) enum Seen {
    /// A reply to a client left an agent.
    Reply { node: usize, message: Vec<u8> },
    /// Bytes left a server for its partner.
    Sent { from: usize, connection: u64, bytes: Vec<u8> },
    /// Bytes reached a server.
    Delivered { to: usize, connection: u64, bytes: Vec<u8>, written: usize },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) delay_ms: u64,
    pub(crate) disk_ms: u64,
    pub(crate) revoke_ms: u64,
}

pub(crate) struct World {
    pub(crate) nodes: [Node; 2],
    pub(crate) now_ms: u64,
    pub(crate) rng: Dice,
    pub(crate) weather: Weather,
    pub(crate) uses_kernel: bool,
    pub(crate) seen: VecDeque<Seen>,
    pub(crate) ripe: VecDeque<u64>,
    tcp: Tcp<Event>,
}

impl World {
    pub(crate) fn new(configs: [String; 2], seed: u64, weather: Weather) -> Self {
        let mut words = seed | 1;
        let mut key = || {
            DigestKey::draw(|| {
                words = words.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                words ^ (words >> 29)
            })
        };
        let nodes = configs.map(|config| Node {
            server: None,
            disk: Disk::default(),
            kernel: Kernel::default(),
            config,
            skew_secs: 0,
            life: 0,
            has_power: true,
            is_marked: false,
            base: 0,
            asked: 0,
            log: Vec::new(),
            key: key(),
        });
        Self {
            nodes,
            now_ms: 0,
            rng: Dice::new(seed ^ 0x5eed),
            weather,
            uses_kernel: true,
            seen: VecDeque::new(),
            ripe: VecDeque::new(),
            tcp: Tcp::default(),
        }
    }

    pub(crate) fn now(&self, node: usize) -> Now {
        let wall = (EPOCH + self.now_ms / 1000) as i64 + self.nodes[node].skew_secs;
        Now {
            boot: BootTime::from_nanos((BOOT_SECS * 1000 + self.now_ms) * 1_000_000),
            wall: WallTime::from_secs(wall as u64),
        }
    }

    /// What a checker sees of a node now.
    pub(crate) fn sight(&self, node: usize) -> Sight<'_> {
        let disk = &self.nodes[node].disk;
        Sight { disk, since: disk.durable, wall: self.now(node).wall, at: self.now_ms }
    }

    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.nodes[node].server.is_some()
    }

    /// Own state as the engine tells people.
    pub(crate) fn state(&self, node: usize) -> Option<&'static str> {
        self.nodes[node].server.as_ref().map(|server| server.status().peers[0].my_state)
    }

    pub(crate) fn start(&mut self, node: usize, adopts: bool) {
        let now = self.now(node);
        let seed = self.rng.below(u64::MAX);
        let uses_kernel = self.uses_kernel;
        let this = &mut self.nodes[node];
        let config = this.config.clone();
        let loaded = config::load("dhcpd.conf", &mut |_| Ok(config.as_bytes().to_vec()));
        let rendered = loaded.diagnostics.render(false);
        let config = loaded.config.unwrap_or_else(|| panic!("{rendered}"));
        let mut table = Table::new(&engine::layout(&config, [1, 2]));
        let mut options = EngineOptions::new(seed, this.key);
        for record in this.disk.pieces.iter().flatten() {
            match record {
                Record::Lease(lease) => {
                    table.load(Packed::new(lease), this.is_marked);
                }
                Record::PeerState(state) => options.peer_states = vec![state.clone()],
                Record::ServerDuid(_) | Record::Other(_) => {}
            }
        }
        options.fast_path = uses_kernel;
        options.generation = Generation::new(1);
        if !(adopts && this.is_marked) {
            this.kernel = Kernel::default();
        }
        // What is adopted has been read: the kernel's word, and whether it goes on answering.
        let left = this.kernel.entries.values_mut().map(|entry| {
            entry.is_reported = true;
            let Arm { address, chaddr, horizon, questions, .. } = entry.arm.clone();
            let questions = if entry.is_armed { questions } else { Default::default() };
            Standing { address, chaddr, horizon, questions, is_armed: entry.is_armed, renewal: entry.renewal }
        });
        options.adopted = left.filter(|left| left.is_armed || left.renewal.at.secs() != 0).collect();
        this.is_marked |= uses_kernel;
        this.life += 1;
        this.has_power = true;
        this.base = this.disk.pieces.len();
        this.disk.durable = this.base;
        this.asked = this.base;
        this.log.clear();
        let life = this.life;
        this.server = Some(Server::new(config, table, options, now));
        let mac = [2, 0xff, 0, 0, 0, node as u8];
        self.input(
            node,
            Input::Interfaces(vec![Interface {
                index: InterfaceIndex(2),
                name: "eth0".to_owned(),
                mac,
                addresses: vec![(address_of(node), 16)],
                is_up: true,
            }]),
        );
        self.tcp.plan(self.now_ms + SCAN_MS, Event::Scan { node, life });
    }

    /// Ends a node's process, or its power supply: then nobody is told, and the kernel's entries are gone.
    pub(crate) fn kill(&mut self, node: usize, power: bool) {
        let kept = self.nodes[node].disk.durable as u64;
        let written = self.nodes[node].disk.pieces.len() as u64;
        let left = kept + self.rng.below(written - kept + 1);
        let this = &mut self.nodes[node];
        this.server = None;
        this.has_power = !power;
        this.disk.pieces.truncate(left as usize);
        if power {
            this.kernel = Kernel::default();
        }
        for connection in self.tcp.leave_all(node) {
            if !power {
                self.send(Arrival::Closed { connection, to: 1 - node });
            }
        }
    }

    pub(crate) fn cut(&mut self) {
        self.tcp.cut();
    }

    pub(crate) fn heal(&mut self) {
        self.tcp.heal(self.now_ms);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.tcp.is_cut()
    }

    pub(crate) fn plan_custom(&mut self, in_ms: u64, name: u64) {
        self.tcp.plan(self.now_ms + in_ms, Event::Custom(name));
    }

    fn send(&mut self, arrival: Arrival) {
        let delay = 1 + self.rng.below(self.weather.delay_ms);
        self.tcp.send(self.now_ms + delay, arrival);
    }

    /// Gives an input to a node and does what it wants done.
    pub(crate) fn input(&mut self, node: usize, input: Input<'_>) {
        let now = self.now(node);
        let Some(server) = &mut self.nodes[node].server else { return };
        server.handle(input, now);
        self.work(node);
    }

    /// A packet from a client for the agent.
    pub(crate) fn packet(&mut self, node: usize, message: &Message, is_unicast: bool) {
        let bytes = message.bytes();
        self.input(
            node,
            Input::Packet(Received {
                interface: InterfaceIndex(2),
                vlan: [0; 2],
                source: SocketAddrV4::new(message.ciaddr, 68),
                destination: if is_unicast { address_of(node) } else { Ipv4Addr::BROADCAST },
                message: &bytes,
            }),
        );
    }

    fn work(&mut self, node: usize) {
        while let Some(effect) = self.nodes[node].server.as_mut().and_then(Server::poll_effect) {
            let life = self.nodes[node].life;
            match effect {
                Effect::Append(_, text) => {
                    let mut complaints = Vec::new();
                    let wall = self.now(node).wall;
                    let records = journal::read(&text, wall, &mut complaints);
                    assert!(complaints.is_empty(), "{complaints:?}");
                    self.nodes[node].disk.pieces.push(records);
                }
                Effect::Send(Datagram { message, .. }) => self.seen.push_back(Seen::Reply { node, message }),
                Effect::Arm(arms) => {
                    for arm in arms {
                        let renewal = Renewal::default();
                        let entry = Entry { arm, is_armed: true, renewal, is_reported: true };
                        let old = self.nodes[node].kernel.entries.insert(entry.arm.address, entry);
                        // The word of the entry is the kernel's alone: an arm leaves it.
                        if let Some(old) = old.filter(|old| old.is_armed)
                            && let Some(new) = self.nodes[node].kernel.entries.get_mut(&old.arm.address)
                        {
                            (new.renewal, new.is_reported) = (old.renewal, old.is_reported);
                        }
                    }
                }
                Effect::Extend(horizons) => {
                    for (address, horizon) in horizons {
                        if let Some(entry) = self.nodes[node].kernel.entries.get_mut(&address) {
                            entry.arm.horizon = horizon;
                        }
                    }
                }
                Effect::Revoke(token, addresses) => {
                    let delay = 1 + self.rng.below(self.weather.revoke_ms);
                    self.tcp.plan(self.now_ms + delay, Event::Revoked { node, life, token, addresses });
                }
                Effect::Serving(peer, is_on) => drop(self.nodes[node].kernel.serving.insert(peer, is_on)),
                Effect::Balance(peer, buckets) => drop(self.nodes[node].kernel.buckets.insert(peer, buckets)),
                Effect::NewGeneration { token, .. } => {
                    let mut addresses: Vec<Ipv4Addr> = self.nodes[node].kernel.entries.keys().copied().collect();
                    addresses.sort_unstable();
                    let delay = 1 + self.rng.below(self.weather.revoke_ms);
                    self.tcp.plan(self.now_ms + delay, Event::Revoked { node, life, token, addresses });
                }
                Effect::Reloaded(_) => {}
                Effect::Probe { token, .. } => self.tcp.plan(self.now_ms + 1, Event::Probed { node, life, token }),
                Effect::PeerSend(Token(connection), bytes) => {
                    self.seen.push_back(Seen::Sent { from: node, connection, bytes: bytes.clone() });
                    if self.tcp.is_open(connection, node) {
                        self.send(Arrival::Bytes { connection, to: 1 - node, bytes });
                    }
                }
                Effect::PeerDial { .. } => {
                    let delay = 1 + self.rng.below(self.weather.delay_ms);
                    self.tcp.plan(self.now_ms + delay, Event::Dialled { from: node, life });
                }
                Effect::PeerClose(Token(connection)) => {
                    if self.tcp.leave(connection, node) {
                        self.send(Arrival::Closed { connection, to: 1 - node });
                    }
                }
                Effect::Execute { .. } => {}
                Effect::Log(level, text) => self.nodes[node].log.push(format!("{} {level:?} {text}", self.now_ms)),
            }
        }
        let this = &mut self.nodes[node];
        let written = this.disk.pieces.len();
        if this.server.is_some() && written > this.asked {
            this.asked = written;
            let life = this.life;
            let delay = 1 + self.rng.below(self.weather.disk_ms);
            self.tcp.plan(self.now_ms + delay, Event::Durable { node, life, upto: written });
        }
    }

    fn next_deadline(&self, node: usize) -> Option<u64> {
        let at = self.nodes[node].server.as_ref()?.poll_timeout()?;
        Some((at.nanos().div_ceil(1_000_000)).saturating_sub(BOOT_SECS * 1000))
    }

    /// Goes on until `until_ms`, or until a custom event is ripe or there is something to see.
    pub(crate) fn run_to(&mut self, until_ms: u64) {
        let mut stuck = 0;
        while self.ripe.is_empty() && self.seen.is_empty() {
            let mut next = self.tcp.next_ms();
            for node in [P, S] {
                next = next.min(self.next_deadline(node).unwrap_or(u64::MAX));
            }
            let next = next.max(self.now_ms);
            if next > until_ms {
                self.now_ms = until_ms;
                return;
            }
            stuck = if next > self.now_ms { 0 } else { stuck + 1 };
            assert!(stuck < 100_000, "time stands still at {next}: {:?}", self.nodes[P].log);
            self.now_ms = next;
            for node in [P, S] {
                if self.next_deadline(node).is_some_and(|at| at <= self.now_ms) {
                    self.input(node, Input::Timeout);
                }
            }
            while let Some(event) = self.tcp.take(self.now_ms) {
                match event {
                    tcp::Event::Wire(arrival) => self.arrive(arrival),
                    tcp::Event::Other(event) => self.happen(event),
                }
                if !self.ripe.is_empty() || !self.seen.is_empty() {
                    return;
                }
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Bytes { connection, to, .. } if !self.tcp.is_open(connection, to) => {
                // A process that does not know the connection resets it; a machine without power does not.
                if self.nodes[to].has_power && self.tcp.is_open(connection, 1 - to) {
                    self.send(Arrival::Closed { connection, to: 1 - to });
                }
            }
            Arrival::Bytes { connection, to, bytes } => {
                let written = self.nodes[to].disk.pieces.len();
                self.seen.push_back(Seen::Delivered { to, connection, bytes: bytes.clone(), written });
                self.input(to, Input::Peer(PeerInput::Bytes { peer: 0, link: Token(connection), bytes: &bytes }));
            }
            Arrival::Closed { connection, to } => {
                if self.tcp.leave(connection, to) {
                    self.input(to, Input::Peer(PeerInput::Closed { peer: 0, link: Token(connection) }));
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let lives = |world: &Self, node: usize, life: u32| world.nodes[node].life == life && world.is_up(node);
        match event {
            Event::Dialled { from, life } => self.connect(from, life),
            Event::Durable { node, life, upto } if lives(self, node, life) => {
                let this = &mut self.nodes[node];
                this.disk.durable = this.disk.durable.max(upto);
                let seq = JournalSeq((upto - this.base) as u64);
                self.input(node, Input::Durable(seq));
            }
            Event::Revoked { node, life, token, addresses } if lives(self, node, life) => {
                // Until here the kernel may have gone on answering.
                let words = addresses.iter().map(|address| (*address, self.disarm(node, *address))).collect();
                self.input(node, Input::Revoked(token, words));
            }
            Event::Probed { node, life, token } if lives(self, node, life) => {
                self.input(node, Input::Probed(token, false));
            }
            Event::Scan { node, life } if lives(self, node, life) => {
                self.scan(node);
                self.tcp.plan(self.now_ms + SCAN_MS, Event::Scan { node, life });
            }
            Event::Custom(name) => self.ripe.push_back(name),
            Event::Durable { .. } | Event::Revoked { .. } | Event::Probed { .. } | Event::Scan { .. } => {}
        }
    }

    fn connect(&mut self, from: usize, life: u32) {
        if self.nodes[from].life != life || !self.is_up(from) {
            return;
        }
        let name = self.tcp.name();
        if self.is_cut() || !self.is_up(1 - from) {
            return self.input(from, Input::Peer(PeerInput::Closed { peer: 0, link: Token(name) }));
        }
        self.tcp.open(name);
        for (node, dialled) in [(from, true), (1 - from, false)] {
            self.input(node, Input::Peer(PeerInput::Connected { peer: 0, link: Token(name), dialled }));
        }
    }

    // ---- kernel -------------------------------------------------------------------------------------------------

    fn disarm(&mut self, node: usize, address: Ipv4Addr) -> Renewal {
        let Some(entry) = self.nodes[node].kernel.entries.get_mut(&address) else { return Renewal::default() };
        entry.is_armed = false;
        if std::mem::replace(&mut entry.is_reported, true) { Renewal::default() } else { entry.renewal }
    }

    pub(crate) fn scan(&mut self, node: usize) {
        let mut words = Vec::new();
        for entry in self.nodes[node].kernel.entries.values_mut().filter(|entry| entry.is_armed) {
            if !std::mem::replace(&mut entry.is_reported, true) {
                words.push((entry.arm.address, entry.renewal));
            }
        }
        if !words.is_empty() {
            self.input(node, Input::Renewed(words));
        }
    }

    /// What the kernel answers to a REQUEST that names its address by `ciaddr` or option 50, if it does: the lease time.
    pub(crate) fn kernel_answers(
        &mut self,
        node: usize,
        message: &Message,
        is_unicast: bool,
    ) -> Option<(Ipv4Addr, u32)> {
        let now = self.now(node).boot;
        let requested = message.options.iter().find(|(code, _)| *code == 50);
        let address = match requested {
            Some((_, data)) => Ipv4Addr::from(<[u8; 4]>::try_from(&data[..]).unwrap()),
            None => message.ciaddr,
        };
        let this = &mut self.nodes[node];
        let entry = this.kernel.entries.get_mut(&address).filter(|entry| entry.is_armed)?;
        let peer = entry.arm.peer;
        if !this.kernel.serving.get(&peer).copied().unwrap_or(false) || entry.arm.chaddr[..] != message.chaddr[..6] {
            return None;
        }
        let bucket = entry.arm.bucket;
        let is_ours =
            this.kernel.buckets.get(&peer).is_some_and(|set| set[usize::from(bucket >> 3)] & 1 << (bucket & 7) != 0);
        if !is_unicast && !is_ours {
            return None;
        }
        let bytes = message.bytes();
        let question = Question {
            chaddr: entry.arm.chaddr,
            address: address.octets(),
            has_ciaddr: !message.ciaddr.is_unspecified(),
            giaddr: [0; 4],
            interface: 2,
            vlan: [0; 2],
        };
        let digest = question::digest(&question, &bytes[..], 240, bytes.len() - 240, &this.key)?;
        let known =
            entry.arm.questions.iter().flatten().find(|(known, template)| *known == digest && template.is_offer == 0);
        let time = known?.1.lease_time;
        let secs = time.min(entry.arm.horizon.to_secs().secs().saturating_sub(now.to_secs().secs()));
        if secs < time / 2 {
            return None;
        }
        let at = now.to_secs();
        entry.renewal = Renewal { at, until: BootSecs::new(at.secs() + secs) };
        entry.is_reported = false;
        Some((address, secs))
    }

    /// Both in normal, linked, and nothing on its way.
    pub(crate) fn is_settled(&mut self) -> bool {
        [P, S].into_iter().all(|node| {
            let now = self.now(node);
            let this = &mut self.nodes[node];
            this.disk.durable == this.disk.pieces.len()
                && this.server.as_mut().is_some_and(|server| {
                    let status = &server.failover_status(now)[0];
                    status.state.name() == "normal"
                        && status.traffic.is_connected
                        && status.traffic.updates_queued
                            + status.traffic.updates_in_flight
                            + status.traffic.updates_held
                            == 0
                })
        })
    }
}
