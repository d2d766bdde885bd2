//! Clients that come and go, and what breaks.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcp_user::engine::port::{Input, PeerInput};
use dhcp_user::failover::Command;
use dhcp_user::lease::{BindingState, FailoverState};
use tests::frames::Message;

use crate::world::{P, S, Seen, Weather, World, address_of};
use tests::dice::Dice;
use tests::judge::{Judge, Told};

/// Virtual time with clients and faults, seconds.
const STORM_SECS: u64 = 3600;
/// Names of custom events.
const CLIENT: u64 = 1;
const FAULT: u64 = 2;
const START: u64 = 10;
const HEAL: u64 = 20;
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);

#[derive(Debug, Clone, Copy)]
struct Promise {
    client: u16,
    until_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    address: Ipv4Addr,
    node: usize,
    asked_ms: u64,
    secs: u32,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy)]
struct Pending {
    client: u16,
    asked_ms: u64,
    is_discover: bool,
}

/// One seed.
pub(crate) struct Play {
    world: World,
    rng: Dice,
    judge: Judge,
    mclt: u32,
    want: u32,
    addresses: u32,
    clients: BTreeMap<u16, Option<Held>>,
    pending: BTreeMap<u32, Pending>,
    offers: Vec<(usize, Ipv4Addr, u32)>,
    promises: BTreeMap<Ipv4Addr, Vec<Promise>>,
    xid: u32,
    is_storming: bool,
    may_cut: bool,
    planned_start: [bool; 2],
    answers: [u64; 2],
    trace: Vec<String>,
    is_tracing: bool,
}

fn mac_of(client: u16) -> [u8; 6] {
    let [high, low] = client.to_be_bytes();
    [2, 0xaa, 0, 0, high, low]
}

impl Play {
    pub(crate) fn new(seed: u64, is_tracing: bool) -> Self {
        let mut rng = Dice::new(seed);
        let mclt = 70 + rng.below(120) as u32;
        let want = mclt + rng.below(600) as u32;
        let addresses = 4 + rng.below(16) as u32;
        let may_cut = rng.chance(60);
        let (split, window, balance) = (rng.below(257), 1 + rng.below(12), rng.below(4));
        let auto = if !may_cut && rng.chance(30) {
            format!("auto-partner-down {};", 60 + rng.below(100))
        } else {
            String::new()
        };
        let threshold = if rng.chance(50) { "dhcp-cache-threshold 0;" } else { "" };
        let last = Ipv4Addr::from(u32::from(FIRST) + addresses - 1);
        let configs = [P, S].map(|node| {
            let role =
                if node == P { format!("primary; mclt {mclt}; split {split};") } else { "secondary;".to_owned() };
            let (ours, theirs) = (address_of(node), address_of(1 - node));
            format!(
                "failover peer \"x\" {{ {role} address {ours}; peer address {theirs}; max-response-delay 15;\n\
                 max-unacked-updates {window}; load balance max seconds {balance}; {auto} }}\n\
                 authoritative; ping-check false; abandon-lease-time 300; ddns-update-style none; {threshold}\n\
                 default-lease-time {want}; max-lease-time {want}; min-lease-time 1;\n\
                 subnet 10.77.0.0 netmask 255.255.0.0 {{ pool {{ failover peer \"x\"; range {FIRST} {last}; }} }}\n"
            )
        });
        let weather =
            Weather { delay_ms: 1 + rng.below(300), disk_ms: 1 + rng.below(60), revoke_ms: 1 + rng.below(60) };
        let mut world = World::new(configs, seed, weather);
        world.uses_kernel = rng.chance(75);
        world.nodes[S].skew_secs = rng.below(7) as i64 - 3;
        let clients = (0..3 + rng.below(20) as u16).map(|client| (client, None)).collect();
        Self {
            world,
            rng,
            judge: Judge::new(mclt),
            mclt,
            want,
            addresses,
            clients,
            pending: BTreeMap::new(),
            offers: Vec::new(),
            promises: BTreeMap::new(),
            xid: 1,
            is_storming: true,
            may_cut,
            planned_start: [false; 2],
            answers: [0; 2],
            trace: Vec::new(),
            is_tracing,
        }
    }

    /// Answers by agents and by kernels; or the first thing that was wrong, with what led to it.
    pub(crate) fn run(mut self) -> Result<(u64, u64), String> {
        self.world.start(P, false);
        self.world.start(S, false);
        self.world.plan_custom(20_000, CLIENT);
        self.world.plan_custom(60_000, FAULT);
        self.run_to(STORM_SECS * 1000);
        // Everything comes back, and the clients go away.
        self.is_storming = false;
        self.clients.clear();
        self.pending.clear();
        self.world.heal();
        self.run_to(self.world.now_ms + 40_000);
        for node in [P, S] {
            if !self.world.is_up(node) {
                self.world.start(node, false);
                self.run_to(self.world.now_ms + 40_000);
            }
        }
        let long = u64::from(self.want) * 4 + u64::from(self.mclt) * 3 + 600;
        self.run_to(self.world.now_ms + long * 1000);
        self.check_leaks();
        match self.judge.failures.first() {
            None => Ok((self.answers[0], self.answers[1])),
            Some(first) => {
                // Only what is about the address that the failure names, if it names one.
                let address = first
                    .split(|c: char| c != '.' && !c.is_ascii_digit())
                    .find(|word| word.starts_with("10.77.0.1") && word.len() == 11);
                let is_about = |line: &&String| {
                    !line.contains("10.77.0.1") || address.is_none_or(|address| line.contains(address))
                };
                let mut tail: Vec<&str> =
                    self.trace.iter().filter(is_about).rev().take(70).map(String::as_str).collect();
                tail.reverse();
                let logs = [P, S]
                    .map(|node| self.world.nodes[node].log.iter().rev().take(30).rev().cloned().collect::<Vec<_>>());
                Err(format!("{first}\n{}\n{logs:#?}", tail.join("\n")))
            }
        }
    }

    fn note(&mut self, line: impl FnOnce(u64) -> String) {
        if self.is_tracing {
            self.trace.push(line(self.world.now_ms));
        }
    }

    fn run_to(&mut self, until_ms: u64) {
        while self.judge.failures.is_empty() {
            self.world.run_to(until_ms);
            self.watch();
            match self.world.ripe.pop_front() {
                Some(CLIENT) => self.client_moves(),
                Some(FAULT) => self.fault(),
                Some(HEAL) => self.world.heal(),
                Some(node) => self.start((node - START) as usize),
                None if self.world.now_ms < until_ms => {}
                None => return,
            }
            self.watch();
        }
    }

    /// Looks at everything that left or arrived.
    fn watch(&mut self) {
        while let Some(seen) = self.world.seen.pop_front() {
            match seen {
                Seen::Reply { node, message } => self.reply(node, &message),
                Seen::Sent { from, connection, bytes } => {
                    for line in self.judge.note_sent(self.world.sight(from), from, connection, &bytes) {
                        self.note(|now| format!("{now} {from} {line}"));
                    }
                }
                Seen::Delivered { to, connection, bytes, written } => {
                    self.judge.note_delivered(to, connection, written, &bytes);
                }
            }
        }
    }

    // ---- faults -------------------------------------------------------------------------------------------------

    /// Whether this node must not come up, or lose its partner, without having heard the partner first: the partner
    /// serves alone and relies on it.
    fn is_bound(&self, node: usize) -> bool {
        let state_of = |node: usize| self.world.nodes[node].disk.state().map(|state| state.my_state);
        let is_alone = state_of(1 - node) == Some(FailoverState::PartnerDown);
        let may_serve = state_of(node).is_none_or(|mine| {
            matches!(
                mine,
                FailoverState::Normal | FailoverState::CommunicationsInterrupted | FailoverState::PartnerDown
            )
        });
        is_alone && may_serve
    }

    fn fault(&mut self) {
        if !self.is_storming {
            return;
        }
        self.world.plan_custom(5_000 + self.rng.below(400_000), FAULT);
        let node = self.rng.below(2) as usize;
        let other = 1 - node;
        match self.rng.below(10) {
            0..=3 if self.world.is_up(node) => {
                if (self.is_bound(node) || self.is_bound(other)) && self.world.is_up(other) {
                    return;
                }
                let power = self.rng.chance(50);
                self.note(|now| format!("{now} kill {node} power {power}"));
                self.world.kill(node, power);
                self.planned_start[node] = true;
                let after = 1000 + self.rng.below(600_000);
                self.world.plan_custom(after, START + node as u64);
            }
            4..=6 if self.may_cut && !self.world.is_cut() => {
                if self.is_bound(node) || self.is_bound(other) {
                    return;
                }
                self.note(|now| format!("{now} cut"));
                self.world.cut();
                let after = 500 + self.rng.below(200_000);
                self.world.plan_custom(after, HEAL);
            }
            7..=8 if self.world.is_up(node) && !self.world.is_up(other) && !self.world.is_cut() => {
                let server = self.world.nodes[node].server.as_ref().unwrap();
                if server.may(0, Command::PartnerDown).is_ok() {
                    self.note(|now| format!("{now} partner-down at {node}"));
                    let command = PeerInput::Command { peer: 0, command: Command::PartnerDown };
                    self.world.input(node, Input::Peer(command));
                }
            }
            _ => {}
        }
    }

    fn start(&mut self, node: usize) {
        if self.world.is_up(node) || !self.is_storming && !self.planned_start[node] {
            return;
        }
        // The other one serves alone: this one may only come up where it can hear that.
        if self.is_bound(node) && (self.world.is_cut() || !self.world.is_up(1 - node)) {
            self.world.plan_custom(5_000, START + node as u64);
            return;
        }
        self.planned_start[node] = false;
        let adopts = self.rng.chance(50);
        self.note(|now| format!("{now} start {node} adopts {adopts}"));
        self.world.start(node, adopts);
    }

    // ---- clients ------------------------------------------------------------------------------------------------

    fn message(&mut self, kind: u8, client: u16, is_discover: bool) -> Message {
        self.xid += 1;
        let asked_ms = self.world.now_ms;
        self.pending.insert(self.xid, Pending { client, asked_ms, is_discover });
        Message::request(kind, mac_of(client), self.xid)
    }

    fn client_moves(&mut self) {
        if !self.is_storming {
            return;
        }
        self.world.plan_custom(100 + self.rng.below(15_000), CLIENT);
        let client = self.rng.below(self.clients.len() as u64) as u16;
        let now = self.world.now_ms;
        let held = self.clients[&client].filter(|held| now < held.asked_ms + u64::from(held.secs) * 1000);
        // Whatever it asked before is given up.
        self.pending.retain(|_, pending| pending.client != client);
        let Some(held) = held else {
            self.clients.insert(client, None);
            return self.joins(client);
        };
        let lived = (now - held.asked_ms) * 100 / (u64::from(held.secs) * 1000).max(1);
        match self.rng.below(20) {
            0 => {
                self.note(|now| format!("{now} client {client} releases {}", held.address));
                self.gives_up(client, held.address);
                if !self.rng.chance(10) {
                    let server = address_of(held.node).octets();
                    let message = Message { ciaddr: held.address, ..self.message(7, client, false) }.with(54, server);
                    self.world.packet(held.node, &message, true);
                }
            }
            1 => {
                self.note(|now| format!("{now} client {client} declines {}", held.address));
                self.gives_up(client, held.address);
                let server = address_of(held.node).octets();
                let message = self.message(4, client, false).with(50, held.address.octets()).with(54, server);
                for node in [P, S] {
                    self.world.packet(node, &message, false);
                }
            }
            2 => {
                let message = self.message(3, client, false).with(50, held.address.octets()).with(55, [1, 3, 6, 15]);
                self.asks(client, &[P, S], &message, false);
            }
            3..=4 => {}
            _ if lived >= 87 => {
                let message =
                    Message { ciaddr: held.address, ..self.message(3, client, false) }.with(55, [1, 3, 6, 15]);
                self.asks(client, &[P, S], &message, false);
            }
            _ if lived >= 45 => {
                let message =
                    Message { ciaddr: held.address, ..self.message(3, client, false) }.with(55, [1, 3, 6, 15]);
                self.asks(client, &[held.node], &message, true);
            }
            _ => {}
        }
    }

    fn joins(&mut self, client: u16) {
        let secs = self.rng.below(8) as u16;
        let message = Message { secs, ..self.message(1, client, true) }.with(55, [1, 3, 6, 15]);
        self.offers.clear();
        for node in [P, S] {
            if !self.rng.chance(10) {
                self.world.packet(node, &message, false);
                self.watch();
            }
        }
        let offers = std::mem::take(&mut self.offers);
        if offers.is_empty() {
            return;
        }
        let (node, address, _) = offers[self.rng.below(offers.len() as u64) as usize];
        let message = self
            .message(3, client, false)
            .with(50, address.octets())
            .with(54, address_of(node).octets())
            .with(55, [1, 3, 6, 15]);
        self.asks(client, &[P, S], &message, false);
    }

    /// REQUEST to these servers; the kernel has the first word.
    fn asks(&mut self, client: u16, nodes: &[usize], message: &Message, is_unicast: bool) {
        for &node in nodes {
            if self.rng.chance(10) {
                continue;
            }
            // A machine without power answers nothing; a killed agent's kernel goes on.
            let has_server_id = message.options.iter().any(|(code, _)| *code == 54);
            if !has_server_id && let Some((address, secs)) = self.world.kernel_answers(node, message, is_unicast) {
                self.answers[1] += 1;
                let mac = mac_of(client);
                self.judge.check_promise(self.world.sight(node), node, Told { address, secs, mac, who: "kernel" });
                self.hand_out(node, client, address, self.world.now_ms, secs);
                continue;
            }
            self.world.packet(node, message, is_unicast);
            self.watch();
        }
    }

    /// A reply of an agent; it may get lost.
    fn reply(&mut self, node: usize, message: &[u8]) {
        let xid = u32::from_be_bytes(message[4..8].try_into().unwrap());
        let option = |code: u8| {
            let mut at = 240;
            while at + 1 < message.len() && message[at] != 255 {
                if message[at] == 0 {
                    at += 1;
                    continue;
                }
                let len = usize::from(message[at + 1]);
                if message[at] == code {
                    return Some(&message[at + 2..at + 2 + len]);
                }
                at += 2 + len;
            }
            None
        };
        let address = Ipv4Addr::new(message[16], message[17], message[18], message[19]);
        let secs = option(51).map_or(0, |data| u32::from_be_bytes(data.try_into().unwrap()));
        let kind = option(53).map_or(0, |data| data[0]);
        let mac: [u8; 6] = message[28..34].try_into().unwrap();
        if kind == 5 {
            self.judge.check_promise(self.world.sight(node), node, Told { address, secs, mac, who: "agent" });
        }
        let Some(pending) = self.pending.get(&xid).copied() else { return };
        match kind {
            2 if pending.is_discover => self.offers.push((node, address, secs)),
            5 if !pending.is_discover => {
                self.answers[0] += 1;
                self.hand_out(node, pending.client, address, pending.asked_ms, secs);
            }
            6 => {
                if let Some(held) = self.clients.get(&pending.client).copied().flatten() {
                    self.note(|now| format!("{now} NAK to {} by {node} for {}", pending.client, held.address));
                    self.gives_up(pending.client, held.address);
                }
            }
            _ => {}
        }
    }

    /// I1: a client is told that it owns an address; one in ten answers is lost.
    fn hand_out(&mut self, node: usize, client: u16, address: Ipv4Addr, asked_ms: u64, secs: u32) {
        let now = self.world.now_ms;
        let is_lost = self.rng.chance(10);
        let until_ms = asked_ms + u64::from(secs) * 1000;
        self.note(|now| format!("{now} ACK {address} to {client} by {node} for {secs} lost {is_lost}"));
        let promises = self.promises.entry(address).or_default();
        promises.retain(|promise| promise.until_ms > now);
        if let Some(other) = promises.iter().find(|promise| promise.client != client) {
            let text = format!("I1: {now} {address} promised to {client} by {node} while held by {other:?}");
            self.judge.failures.push(text);
        }
        if is_lost {
            return;
        }
        match promises.iter_mut().find(|promise| promise.client == client) {
            Some(mine) => mine.until_ms = until_ms,
            None => promises.push(Promise { client, until_ms }),
        }
        if let Some(mine) = self.clients.get_mut(&client) {
            // A client has one address; another one that it held is given up silently.
            let before = mine.replace(Held { address, node, asked_ms, secs });
            if let Some(before) = before.filter(|before| before.address != address) {
                self.end_promise(client, before.address);
            }
        }
    }

    fn gives_up(&mut self, client: u16, address: Ipv4Addr) {
        self.end_promise(client, address);
        if let Some(held) = self.clients.get_mut(&client) {
            *held = None;
        }
    }

    fn end_promise(&mut self, client: u16, address: Ipv4Addr) {
        if let Some(promises) = self.promises.get_mut(&address) {
            promises.retain(|promise| promise.client != client);
        }
    }

    /// I3: at the end every address is free, and both sides say whose.
    fn check_leaks(&mut self) {
        if !self.judge.failures.is_empty() {
            return;
        }
        if !self.world.is_settled() {
            let pictures = [P, S].map(|node| {
                let now = self.world.now(node);
                self.world.nodes[node].server.as_mut().map(|server| server.failover_status(now))
            });
            self.judge
                .failures
                .push(format!("I3: not settled: {:?} {pictures:#?}", [P, S].map(|node| self.world.state(node))));
            return;
        }
        for number in 0..self.addresses {
            let address = Ipv4Addr::from(u32::from(FIRST) + number);
            let [one, other] =
                [P, S].map(|node| self.world.nodes[node].server.as_ref().unwrap().table().get(address).unwrap());
            let is_free = matches!(one.state, BindingState::Free | BindingState::Backup);
            if !is_free || other.state != one.state {
                self.judge.failures.push(format!("I3: {one:?}\nbut {other:?}"));
                return;
            }
        }
    }
}
