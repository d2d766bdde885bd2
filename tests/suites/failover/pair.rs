//! Two endpoints, two disks, one wire and a virtual clock.
//!
//! A connection keeps order, takes time, and survives nothing: a killed process resets it, a lost power supply leaves
//! it hanging, a cut holds its bytes back until it is healed.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use dhcp_user::failover::{BindingState, Effect, Endpoint, Input, Leases, Link, Seq, Settings, State, Token};
use dhcp_user::lease::time::{BootTime, Now, WallTime};

use tests::dice::Dice;
use tests::failover::Store;
use tests::tcp::{self, Arrival, Tcp};

/// Wall time when every world begins.
pub(crate) const EPOCH: u64 = 1_795_336_788;
/// The primary and the secondary.
pub(crate) const P: usize = 0;
pub(crate) const S: usize = 1;

/// What the kernel may answer for one lease.
#[derive(Debug, Clone)]
pub(crate) struct Armed {
    pub(crate) client_id: Vec<u8>,
    pub(crate) horizon: WallTime,
    /// `ends` of the last renewal. Stays in the map after a revocation: the record that holds it may not be durable yet.
    pub(crate) renewed: Option<WallTime>,
    pub(crate) is_armed: bool,
}

/// One server: what survives a crash and what does not.
#[derive(Debug)]
pub(crate) struct Node {
    /// Survives the process, not the power supply.
    pub(crate) kernel: BTreeMap<Ipv4Addr, Armed>,
    pub(crate) is_kernel_serving: bool,
    /// Leases that may be armed once these many records are durable.
    to_arm: Vec<(usize, Ipv4Addr)>,
    lost_power: bool,
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) endpoint: Option<Endpoint>,
    /// Virtual time when it was started.
    pub(crate) started_ms: u64,
    /// Difference of its wall clock, seconds.
    pub(crate) skew_secs: i64,
    pub(crate) log: Vec<String>,
    durable_asked: usize,
    /// Incarnation: what was planned for an earlier one is void.
    pub(crate) life: u32,
    has_power: bool,
}

#[derive(Debug)]
enum Event {
    Dialled { from: usize, life: u32 },
    Durable { node: usize, life: u32, upto: usize },
    Revoked { node: usize, life: u32, token: Token, addresses: Vec<Ipv4Addr> },
    Custom(u64),
}

/// Something a checker wants to see, in the order it happened.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// Bytes left a node.
    Sent { from: usize, connection: u64, bytes: Vec<u8>, durable: usize },
    /// Bytes reached a node; reported before the node acts on them.
    Delivered { to: usize, connection: u64, bytes: Vec<u8>, written: usize },
}

/// How the world treats messages and disks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Longest time on the wire, ms.
    pub(crate) delay_ms: u64,
    /// Longest time until a record is durable, ms.
    pub(crate) disk_ms: u64,
    /// Longest time until a revocation is complete, ms.
    pub(crate) revoke_ms: u64,
}

impl Weather {
    pub(crate) const FAIR: Self = Self { delay_ms: 1, disk_ms: 1, revoke_ms: 1 };
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now_ms: u64,
    pub(crate) rng: Dice,
    pub(crate) weather: Weather,
    /// Nothing becomes durable any more; by node.
    pub(crate) hangs: [bool; 2],
    pub(crate) seen: VecDeque<Seen>,
    pub(crate) watches: bool,
    pub(crate) uses_kernel: bool,
    tcp: Tcp<Event>,
    /// Where what goes out to a real network is collected, when one is used.
    pub(crate) outward: Option<VecDeque<Effect>>,
    /// Custom events that came up.
    pub(crate) ripe: VecDeque<u64>,
}

impl World {
    pub(crate) fn new(settings: [Settings; 2], pools: &[(Ipv4Addr, u32)], seed: u64) -> Self {
        let node = |settings: Settings| Node {
            kernel: BTreeMap::new(),
            is_kernel_serving: false,
            to_arm: Vec::new(),
            lost_power: false,
            settings,
            store: Store::new(pools),
            endpoint: None,
            started_ms: 0,
            skew_secs: 0,
            log: Vec::new(),
            durable_asked: 0,
            life: 0,
            has_power: true,
        };
        Self {
            nodes: settings.into_iter().map(node).collect(),
            now_ms: 0,
            rng: Dice::new(seed),
            weather: Weather::FAIR,
            hangs: [false; 2],
            seen: VecDeque::new(),
            watches: false,
            uses_kernel: false,
            tcp: Tcp::default(),
            outward: None,
            ripe: VecDeque::new(),
        }
    }

    pub(crate) fn now(&self, node: usize) -> Now {
        let wall = (EPOCH + self.now_ms / 1000) as i64 + self.nodes[node].skew_secs;
        Now { boot: BootTime::from_nanos(self.now_ms * 1_000_000), wall: WallTime::from_secs(wall as u64) }
    }

    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.nodes[node].endpoint.is_some()
    }

    pub(crate) fn state(&self, node: usize) -> Option<State> {
        self.nodes[node].endpoint.as_ref().map(Endpoint::state)
    }

    pub(crate) fn endpoint(&self, node: usize) -> &Endpoint {
        self.nodes[node].endpoint.as_ref().unwrap()
    }

    pub(crate) fn start(&mut self, node: usize) {
        let now = self.now(node);
        let at = self.now_ms;
        let this = &mut self.nodes[node];
        this.store = this.store.after_crash();
        this.durable_asked = this.store.durable;
        this.life += 1;
        this.started_ms = at;
        this.has_power = true;
        this.endpoint = Some(Endpoint::new(this.settings.clone(), this.store.state_record(), now));
        this.is_kernel_serving = false;
        this.to_arm.clear();
        let mclt = this.endpoint.as_ref().unwrap().mclt_secs();
        if std::mem::take(&mut this.lost_power) {
            // Whatever the kernel may have promised: the journal's horizon is the truth.
            for mut binding in this.store.all().cloned().collect::<Vec<_>>() {
                let horizon = binding.from_partner.after(mclt);
                if self.uses_kernel && binding.state == BindingState::Active && binding.ends < horizon {
                    binding.ends = horizon;
                    this.store.store(binding);
                }
            }
        }
        for (address, armed) in &this.kernel {
            let mut binding = this.store.get(*address);
            if armed.is_armed {
                this.store.armed.insert(*address);
            }
            if binding.state != BindingState::Active || binding.client_id != armed.client_id {
                continue;
            }
            if let Some(ends) = armed.renewed.filter(|ends| *ends > binding.ends) {
                binding.ends = ends;
                this.store.store(binding);
            }
        }
        // The first thing a server says to its endpoint: how far the disk reaches.
        let durable = Seq(this.store.durable as u64);
        self.handle(node, |_| Input::Durable(durable));
    }

    /// Loses the database as well.
    pub(crate) fn lose_disk(&mut self, node: usize) {
        let store = &mut self.nodes[node].store;
        store.durable = 0;
        *store = store.after_crash();
    }

    /// Ends a node's process, or its power supply: then nobody is told.
    pub(crate) fn kill(&mut self, node: usize, power: bool) {
        self.nodes[node].endpoint = None;
        self.nodes[node].has_power = !power;
        self.nodes[node].lost_power |= power;
        if power {
            self.nodes[node].kernel.clear();
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
    pub(crate) fn handle<'a>(&mut self, node: usize, input: impl FnOnce(&mut Store) -> Input<'a>) {
        let now = self.now(node);
        let this = &mut self.nodes[node];
        let Some(endpoint) = &mut this.endpoint else { return };
        let input = input(&mut this.store);
        endpoint.handle(input, &mut this.store, now);
        self.work(node);
    }

    fn work(&mut self, node: usize) {
        while let Some(effect) = self.nodes[node].endpoint.as_mut().and_then(Endpoint::poll_effect) {
            if let Some(outward) = &mut self.outward
                && matches!(effect, Effect::Send { .. } | Effect::Dial | Effect::Close { .. })
            {
                outward.push_back(effect);
                continue;
            }
            match effect {
                Effect::Send { link, bytes } => {
                    if self.watches {
                        self.seen.push_back(Seen::Sent {
                            from: node,
                            connection: link.0,
                            bytes: bytes.clone(),
                            durable: self.nodes[node].store.durable,
                        });
                    }
                    if self.tcp.is_open(link.0, node) {
                        self.send(Arrival::Bytes { connection: link.0, to: 1 - node, bytes });
                    }
                }
                Effect::Dial => {
                    let delay = 1 + self.rng.below(self.weather.delay_ms);
                    let life = self.nodes[node].life;
                    self.tcp.plan(self.now_ms + delay, Event::Dialled { from: node, life });
                }
                Effect::Close { link } => {
                    if self.tcp.leave(link.0, node) {
                        self.send(Arrival::Closed { connection: link.0, to: 1 - node });
                    }
                }
                Effect::Revoke { token, addresses } => {
                    let delay = 1 + self.rng.below(self.weather.revoke_ms);
                    let life = self.nodes[node].life;
                    self.tcp.plan(self.now_ms + delay, Event::Revoked { node, life, token, addresses });
                }
                Effect::Service(service) => self.nodes[node].is_kernel_serving = service.is_responding(),
                Effect::Moved(addresses) => {
                    if self.uses_kernel {
                        let upto = self.nodes[node].store.journal.len();
                        self.nodes[node].to_arm.extend(addresses.into_iter().map(|address| (upto, address)));
                    }
                }
                Effect::Log(level, text) => self.nodes[node].log.push(format!("{} {level:?} {text}", self.now_ms)),
            }
        }
        let this = &mut self.nodes[node];
        let written = this.store.journal.len();
        if this.endpoint.is_some() && written > this.durable_asked {
            this.durable_asked = written;
            let life = this.life;
            let delay = 1 + self.rng.below(self.weather.disk_ms);
            self.tcp.plan(self.now_ms + delay, Event::Durable { node, life, upto: written });
        }
    }

    fn next_deadline(&self, node: usize) -> Option<u64> {
        let now = self.now(node);
        let endpoint = self.nodes[node].endpoint.as_ref()?;
        endpoint.poll_timeout(now).map(|at| at.nanos().div_ceil(1_000_000))
    }

    fn next_due(&self, node: usize) -> Option<u64> {
        let this = &self.nodes[node];
        this.endpoint.as_ref()?;
        let (ends, _) = this.store.due.first()?;
        let at = i64::from(ends.secs()) - this.skew_secs - EPOCH as i64;
        Some((at.max(0) as u64) * 1000)
    }

    /// Goes on until `until_ms`, or until a custom event is ripe.
    pub(crate) fn run_to(&mut self, until_ms: u64) {
        let mut stuck = 0;
        while self.ripe.is_empty() {
            let mut next = self.tcp.next_ms();
            for node in [P, S] {
                for at in [self.next_deadline(node), self.next_due(node)].into_iter().flatten() {
                    next = next.min(at.max(self.now_ms));
                }
            }
            if next > until_ms {
                self.now_ms = until_ms;
                return;
            }
            stuck = if next > self.now_ms { 0 } else { stuck + 1 };
            assert!(stuck < 100_000, "time stands still at {next}: {:?}", self.nodes);
            self.now_ms = next;
            self.step();
        }
    }

    pub(crate) fn run_for(&mut self, secs: u64) {
        self.run_to(self.now_ms + secs * 1000);
    }

    /// Goes on until `condition`, at most `secs`.
    pub(crate) fn run_until(&mut self, secs: u64, condition: impl Fn(&Self) -> bool) -> bool {
        let end = self.now_ms + secs * 1000;
        while self.now_ms < end {
            if condition(self) {
                return true;
            }
            self.run_to((self.now_ms + 1).min(end));
        }
        condition(self)
    }

    fn step(&mut self) {
        for node in [P, S] {
            if self.next_deadline(node).is_some_and(|at| at <= self.now_ms) {
                self.handle(node, |_| Input::Timeout);
            }
            if self.next_due(node).is_some_and(|at| at <= self.now_ms) {
                let wall = self.now(node).wall;
                let due = &mut self.nodes[node].store.due;
                let rest = due.split_off(&(wall.after(1), Ipv4Addr::UNSPECIFIED));
                let addresses: Vec<Ipv4Addr> = std::mem::replace(due, rest).into_iter().map(|(_, at)| at).collect();
                self.handle(node, |_| Input::Due(&addresses));
            }
        }
        while let Some(event) = self.tcp.take(self.now_ms) {
            match event {
                tcp::Event::Wire(arrival) => self.arrive(arrival),
                tcp::Event::Other(event) => self.happen(event),
            }
            if !self.ripe.is_empty() {
                return;
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
                if self.watches {
                    let written = self.nodes[to].store.journal.len();
                    self.seen.push_back(Seen::Delivered { to, connection, bytes: bytes.clone(), written });
                }
                self.handle(to, |_| Input::Bytes { link: Link(connection), bytes: &bytes });
            }
            Arrival::Closed { connection, to } => {
                if self.tcp.leave(connection, to) {
                    self.handle(to, |_| Input::Closed { link: Link(connection) });
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Dialled { from, life } => self.connect(from, life),
            Event::Durable { node, life, upto } => {
                let this = &mut self.nodes[node];
                if this.life == life && this.endpoint.is_some() && !self.hangs[node] {
                    this.store.durable = this.store.durable.max(upto);
                    self.handle(node, |_| Input::Durable(Seq(upto as u64)));
                    self.arm(node);
                }
            }
            Event::Revoked { node, life, token, addresses } => {
                if self.nodes[node].life == life {
                    // Until here the kernel may have gone on answering.
                    for address in addresses {
                        self.disarm(node, address);
                    }
                    self.handle(node, |_| Input::Revoked(token));
                }
            }
            Event::Custom(name) => self.ripe.push_back(name),
        }
    }

    fn connect(&mut self, from: usize, life: u32) {
        if self.nodes[from].life != life || !self.is_up(from) || self.is_cut() {
            return;
        }
        let name = self.tcp.name();
        if !self.is_up(1 - from) {
            if self.nodes[1 - from].has_power {
                self.handle(from, |_| Input::Closed { link: Link(name) });
            }
            return;
        }
        self.tcp.open(name);
        self.handle(from, |_| Input::Connected { link: Link(name), dialled: true });
        self.handle(1 - from, |_| Input::Connected { link: Link(name), dialled: false });
    }

    /// Arms what has become durable, never further than the partner agreed.
    fn arm(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        let Some(endpoint) = &this.endpoint else { return };
        let durable = this.store.durable;
        let mclt = endpoint.mclt_secs();
        for (_, address) in this.to_arm.extract_if(.., |(upto, _)| *upto <= durable) {
            let binding = this.store.get(address);
            if binding.state != BindingState::Active || !binding.from_partner.is_some() {
                continue;
            }
            let before = this.kernel.get(&address).filter(|armed| armed.client_id == binding.client_id);
            let renewed = before.and_then(|armed| armed.renewed);
            let horizon = binding.from_partner.after(mclt);
            let armed = Armed { client_id: binding.client_id, horizon, renewed, is_armed: true };
            this.kernel.insert(address, armed);
            this.store.armed.insert(address);
        }
    }

    /// Takes an address from the kernel; what it had promised becomes the lease's.
    pub(crate) fn disarm(&mut self, node: usize, address: Ipv4Addr) {
        let this = &mut self.nodes[node];
        this.store.armed.remove(&address);
        let Some(armed) = this.kernel.get_mut(&address) else {
            return;
        };
        armed.is_armed = false;
        let (renewed, client_id) = (armed.renewed, armed.client_id.clone());
        if this.store.get(address).client_id == client_id {
            self.learn(node, address, renewed);
        }
    }

    /// The agent hears of a renewal by the kernel.
    pub(crate) fn learn(&mut self, node: usize, address: Ipv4Addr, renewed: Option<WallTime>) {
        let wall = self.now(node).wall;
        let this = &mut self.nodes[node];
        let mut binding = this.store.get(address);
        let is_active = binding.state == BindingState::Active;
        let Some(ends) = renewed.filter(|ends| is_active && *ends > binding.ends) else {
            return;
        };
        let Some(endpoint) = &this.endpoint else { return };
        binding.ends = ends;
        binding.told_partner = binding.told_partner.max(wall.after(ends.since(wall) / 2).max(ends));
        binding.cltt = wall;
        endpoint.stamp(&mut binding);
        let address = [address];
        self.handle(node, |store| {
            let seq = store.store(binding);
            Input::Changed(&address, seq)
        });
    }

    /// A renewal that the kernel answers: until when.
    pub(crate) fn kernel_renews(&mut self, node: usize, client_id: &[u8], address: Ipv4Addr, want: u32) -> Option<u32> {
        let wall = self.now(node).wall;
        let this = &mut self.nodes[node];
        let armed = this.kernel.get_mut(&address).filter(|armed| this.is_kernel_serving && armed.is_armed)?;
        let secs = want.min(armed.horizon.since(wall));
        if armed.client_id != client_id || secs < want / 2 {
            return None;
        }
        armed.renewed = Some(wall.after(secs));
        Some(secs)
    }

    /// Both in normal, linked, and nothing on its way.
    pub(crate) fn is_settled(&self) -> bool {
        [P, S].into_iter().all(|node| {
            let this = &self.nodes[node];
            self.state(node) == Some(State::Normal)
                && this.store.durable == this.store.journal.len()
                && this.endpoint.as_ref().is_some_and(|endpoint| {
                    let status = endpoint.status(&this.store, self.now(node));
                    status.traffic.is_connected
                        && status.traffic.updates_queued
                            + status.traffic.updates_in_flight
                            + status.traffic.updates_held
                            == 0
                })
        })
    }

    /// What the log of a node says about transitions, own and heard.
    pub(crate) fn transitions(&self, node: usize) -> Vec<(bool, State, State)> {
        let this = &self.nodes[node];
        let status = this.endpoint.as_ref().unwrap().status(&this.store, self.now(node));
        status.timeline.iter().map(|step| (step.is_mine, step.from, step.to)).collect()
    }

    pub(crate) fn own_states(&self, node: usize) -> Vec<State> {
        self.transitions(node).into_iter().filter(|step| step.0).map(|step| step.2).collect()
    }
}
