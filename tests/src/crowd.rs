//! A crowd of clients on one packet socket, and what the wire shows of them: who holds what of whom, until when.
//!
//! For suites that kill servers: the crowd goes on whatever happens, and its ledger says at once when two clients are told
//! that they own an address (I1), and afterwards whether a leases file covers what its server has promised (I2).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use dhcproto::v4::MessageType;

use crate::{
    client::{Client, Reply, Wire as _},
    dice::Dice,
    lab::{PacketSocket, now, unix_secs},
    leases,
};

/// Whole seconds are written, and two clocks are read: a promise may look this much longer than its record.
const SLACK: Duration = Duration::from_secs(2);

/// How the clients behave; shares are in percent of what they do while they hold an address.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// How many there are.
    pub clients: u8,
    /// The fifth byte of their Ethernet addresses.
    pub tribe: u8,
    /// Where their choices come from.
    pub seed: u64,
    /// Gives the address back.
    pub releases: u64,
    /// Says that somebody else uses the address.
    pub declines: u64,
    /// Is never heard of again: its lease runs out.
    pub vanishes: u64,
    /// How long a client waits for an answer.
    pub patience: Duration,
    /// How long nobody does anything then.
    pub pause: Duration,
}

impl Default for Habits {
    fn default() -> Self {
        let (patience, pause) = (Duration::from_millis(60), Duration::ZERO);
        Self { clients: 24, tribe: 0x33, seed: 3, releases: 3, declines: 0, vanishes: 2, patience, pause }
    }
}

/// What a client was told about an address, by each server.
#[derive(Debug, Clone)]
struct Promise {
    mac: [u8; 6],
    until: BTreeMap<Ipv4Addr, Instant>,
}

impl Promise {
    fn end(&self) -> Option<Instant> {
        self.until.values().max().copied()
    }
}

/// What the wire has shown.
#[derive(Debug, Default)]
struct Ledger {
    promises: BTreeMap<Ipv4Addr, Promise>,
    seen: Seen,
    fault: Option<String>,
    /// Servers whose agent does not run.
    absent: BTreeSet<Ipv4Addr>,
}

/// Counts of what the wire has shown.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// ACKs to clients that had asked for them.
    pub acks: u64,
    /// ACKs of a server whose agent was dead: its kernel's.
    pub acks_without_agent: u64,
    /// Refusals.
    pub naks: u64,
    /// Addresses given back.
    pub releases: u64,
    /// Addresses declined.
    pub declines: u64,
    /// Requests without an answer in time.
    pub unanswered: u64,
    /// Who was told that it has which address.
    pub owners: BTreeSet<(Ipv4Addr, [u8; 6])>,
    /// Promises found in a leases file.
    pub checks: u64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ACKs ({} with no agent), {} NAKs, {} releases, {} requests unanswered, {} different holders of an \
             address, {} promises found in the leases file",
            self.acks,
            self.acks_without_agent,
            self.naks,
            self.releases,
            self.unanswered,
            self.owners.len(),
            self.checks
        )
    }
}

impl Ledger {
    /// An ACK that its client takes seriously; `from` is when it had asked.
    fn acknowledged(&mut self, reply: &Reply, mac: [u8; 6], from: Instant) {
        let (address, Some(secs), Some(server)) = (reply.message.yiaddr(), reply.lease_secs(), reply.server()) else {
            return;
        };
        self.seen.acks += 1;
        self.seen.acks_without_agent += u64::from(self.absent.contains(&server));
        self.seen.owners.insert((address, mac));
        let at = now();
        let other = self.promises.get(&address).filter(|other| other.mac != mac);
        if let Some((other, end)) = other.and_then(|other| Some((other, other.end().filter(|end| *end > at)?))) {
            self.fault.get_or_insert(format!(
                "I1: {address} was promised to {mac:02x?} by {server} while {:02x?} holds it for {:?} more: {:?}",
                other.mac,
                end - at,
                other.until.keys()
            ));
        }
        let until = from + Duration::from_secs(u64::from(secs));
        let promise = self.promises.entry(address).or_insert_with(|| Promise { mac, until: BTreeMap::new() });
        if promise.mac != mac {
            *promise = Promise { mac, until: BTreeMap::new() };
        }
        promise.until.insert(server, until);
    }

    /// A client gives its address up, or is told to.
    fn given_up(&mut self, address: Ipv4Addr, mac: [u8; 6]) {
        if self.promises.get(&address).is_some_and(|promise| promise.mac == mac) {
            self.promises.remove(&address);
        }
    }

    /// A client has one address: the others that it had are nobody's.
    fn moved(&mut self, address: Ipv4Addr, mac: [u8; 6]) {
        self.promises.retain(|of, promise| promise.mac != mac || *of == address);
    }

    /// See [`Crowd::check`].
    fn check(&mut self, server: Ipv4Addr, leases: &str) -> Result<(), String> {
        let newest: BTreeMap<Ipv4Addr, leases::Record> =
            leases::newest(leases).into_iter().map(|record| (record.address, record)).collect();
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let (at, wall) = (now(), unix_secs());
        let mut checks = 0;
        for (address, promise) in &self.promises {
            let until = promise.until.get(&server).and_then(|until| until.checked_duration_since(at));
            let Some(left) = until.and_then(|left| left.checked_sub(SLACK)) else { continue };
            let record =
                newest.get(address).ok_or_else(|| format!("I2: {address} was promised and is not in the file"))?;
            let hardware: Vec<String> = promise.mac.iter().map(|byte| format!("{byte:02x}")).collect();
            let until = ["ends", "tstp", "tsfp"].map(|date| record.epoch(date)).into_iter().max().unwrap_or(0);
            let is_covered = record.value("binding state") == Some("active")
                && record.value("hardware ethernet") == Some(&hardware.join(":"))
                && until >= wall + left.as_secs();
            if !is_covered {
                return Err(format!(
                    "I2: {address} is promised to {} by {server} for {left:?} from {wall}, and its file says\n{}",
                    hardware.join(":"),
                    record.text
                ));
            }
            checks += 1;
        }
        self.seen.checks += checks;
        Ok(())
    }
}

/// Clients at work on a thread of their own.
#[derive(Debug)]
pub struct Crowd {
    ledger: Arc<Mutex<Ledger>>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

fn open(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Crowd {
    /// Lets the clients begin.
    #[must_use]
    pub fn start(wire: PacketSocket, habits: Habits) -> Self {
        let ledger = Arc::<Mutex<Ledger>>::default();
        let is_over = Arc::new(AtomicBool::new(false));
        let (of_thread, end) = (Arc::clone(&ledger), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let client =
                |number| Member { client: Client::new([2, 0, 0, 0, habits.tribe, number]), asked: now(), held: None };
            let members = (0..habits.clients).map(client).collect();
            Work { members, wire, dice: Dice::new(habits.seed), ledger: of_thread, habits }.work(&end);
        });
        Self { ledger, is_over, thread }
    }

    /// Whether the agent of a server may be answering.
    pub fn agent_is(&self, server: Ipv4Addr, there: bool) {
        let mut ledger = open(&self.ledger);
        if there {
            ledger.absent.remove(&server);
        } else {
            ledger.absent.insert(server);
        }
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        open(&self.ledger).seen.clone()
    }

    /// I1 on the wire so far, and I2: the file of a server covers every promise of it that has been seen.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, server: Ipv4Addr, leases: &str) -> Result<(), String> {
        open(&self.ledger).check(server, leases)
    }

    /// Ends it.
    ///
    /// # Errors
    /// The first thing that was wrong on the wire.
    pub fn finish(self) -> Result<Seen, String> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the crowd's thread panicked".to_owned())?;
        let ledger = open(&self.ledger);
        match &ledger.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(ledger.seen.clone()),
        }
    }
}

/// One client.
struct Member {
    client: Client,
    /// When it asked last.
    asked: Instant,
    /// Until when it may use its address.
    held: Option<Instant>,
}

/// The clients.
struct Work {
    members: Vec<Member>,
    wire: PacketSocket,
    dice: Dice,
    ledger: Arc<Mutex<Ledger>>,
    habits: Habits,
}

impl Work {
    fn work(&mut self, end: &AtomicBool) {
        while !end.load(Ordering::Relaxed) {
            let number = self.dice.index(self.members.len());
            let member = &mut self.members[number];
            if member.held.is_some_and(|until| until <= now()) {
                (member.client.lease, member.held) = (None, None);
            }
            self.step(number);
            if !self.habits.pause.is_zero() {
                thread::sleep(self.habits.pause);
            }
        }
    }

    fn step(&mut self, number: usize) {
        let Habits { releases, declines, vanishes, .. } = self.habits;
        let member = &mut self.members[number];
        let Some(lease) = member.client.lease.clone() else {
            return self.join(number);
        };
        let client = &mut member.client;
        let choice = self.dice.below(100);
        let frame = if choice < releases + declines {
            // Known to be given up before it is said.
            let mut ledger = open(&self.ledger);
            ledger.given_up(lease.address, client.mac);
            let is_release = choice < releases;
            *(if is_release { &mut ledger.seen.releases } else { &mut ledger.seen.declines }) += 1;
            drop(ledger);
            let last = if is_release { client.release() } else { client.decline() };
            member.held = None;
            let _ = self.wire.send(&last.expect("it has a lease"));
            return;
        } else if choice < releases + declines + vanishes {
            // Its lease runs out, and somebody else may get the address.
            (client.lease, member.held) = (None, None);
            return;
        } else {
            match self.dice.below(10) {
                0 => client.rebinding().expect("it has a lease"),
                1 => client.reboot(lease.address),
                _ => client.renewal().expect("it has a lease"),
            }
        };
        if let Some(reply) = self.ask(number, &frame) {
            self.take(number, &reply);
        }
    }

    fn join(&mut self, number: usize) {
        let discover = self.members[number].client.discover();
        let Some(offer) = self.ask(number, &discover) else { return };
        if offer.kind() != Some(MessageType::Offer) {
            return;
        }
        let Ok(request) = self.members[number].client.select(&offer) else { return };
        // Another server's OFFER may come in between; it is none to this.
        if let Some(reply) = self.ask(number, &request).filter(|reply| reply.kind() != Some(MessageType::Offer)) {
            self.take(number, &reply);
        }
    }

    fn take(&mut self, number: usize, reply: &Reply) {
        let member = &mut self.members[number];
        let mac = member.client.mac;
        match member.client.bind(reply) {
            Ok(lease) => {
                member.held = Some(member.asked + Duration::from_secs(u64::from(lease.secs)));
                open(&self.ledger).moved(lease.address, mac);
            }
            Err(_) => {
                if let Some(lease) = member.client.lease.take() {
                    open(&self.ledger).given_up(lease.address, mac);
                }
                member.held = None;
            }
        }
    }

    /// Sends, and waits a little for the answer; whatever else arrives is written down as well.
    fn ask(&mut self, number: usize, frame: &[u8]) -> Option<Reply> {
        self.members[number].asked = now();
        self.wire.send(frame).ok()?;
        let deadline = now() + self.habits.patience;
        while let Some(left) = deadline.checked_duration_since(now()).filter(|left| !left.is_zero()) {
            let Ok(Some(arrived)) = self.wire.receive(left) else { break };
            let Some(reply) = Reply::parse(&arrived) else { continue };
            self.note(&reply, &arrived);
            if self.members[number].client.read(&arrived).is_some() {
                return Some(reply);
            }
        }
        open(&self.ledger).seen.unanswered += 1;
        None
    }

    /// An answer to anybody: what its client believes of it is a promise. What it has stopped waiting for it ignores
    /// (RFC 2131 4.4.1), unless that is the address it has.
    fn note(&self, reply: &Reply, frame: &[u8]) {
        let mac = reply.message.chaddr();
        let Some(member) = self.members.iter().find(|member| member.client.mac == mac) else { return };
        let mut ledger = open(&self.ledger);
        let holds = member.client.lease.as_ref().is_some_and(|lease| lease.address == reply.message.yiaddr());
        match reply.kind() {
            Some(MessageType::Ack) if holds || member.client.read(frame).is_some() => {
                ledger.acknowledged(reply, member.client.mac, member.asked);
            }
            Some(MessageType::Nak) => ledger.seen.naks += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Envelope, Message};

    const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 150, 1), Ipv4Addr::new(192, 168, 150, 2)];
    const LEASED: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 50);
    const ONE: [u8; 6] = [2, 0, 0, 0, 0x33, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0x33, 2];

    fn ack(server: Ipv4Addr, mac: [u8; 6]) -> Reply {
        let message = Message { op: 2, yiaddr: LEASED, ..Message::request(5, mac, 1) }
            .with(54, server.octets())
            .with(51, 600_u32.to_be_bytes());
        let envelope = Envelope { from: (server, 67), to: (LEASED, 68), ..Envelope::broadcast(mac) };
        Reply::parse(&envelope.wrap(&message.bytes())).unwrap()
    }

    fn file(mac: [u8; 6], state: &str, secs: u64) -> String {
        let [a, b, c, d, e, f] = mac;
        let until = unix_secs() + secs;
        format!(
            "lease {LEASED} {{\n  ends epoch {until};\n  binding state {state};\n  hardware ethernet \
             {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x};\n}}\n"
        )
    }

    #[test]
    fn two_owners_of_an_address_are_found_whoever_tells_them() {
        for second in SERVERS {
            let mut ledger = Ledger::default();
            ledger.acknowledged(&ack(SERVERS[0], ONE), ONE, now());
            ledger.acknowledged(&ack(SERVERS[1], ONE), ONE, now());
            assert_eq!(ledger.fault, None, "the same client, of both servers");
            ledger.acknowledged(&ack(second, OTHER), OTHER, now());
            let fault = ledger.check(second, &file(OTHER, "active", 600)).unwrap_err();
            assert!(fault.starts_with("I1: "), "{fault}");
        }
        let mut ledger = Ledger::default();
        ledger.acknowledged(&ack(SERVERS[0], ONE), ONE, now());
        ledger.given_up(LEASED, ONE);
        ledger.acknowledged(&ack(SERVERS[1], OTHER), OTHER, now());
        assert_eq!(ledger.check(SERVERS[1], &file(OTHER, "active", 600)), Ok(()), "the first one had given it back");
    }

    #[test]
    fn a_promise_that_a_file_does_not_cover_is_found() {
        let mut ledger = Ledger::default();
        ledger.acknowledged(&ack(SERVERS[0], ONE), ONE, now());
        assert_eq!(ledger.check(SERVERS[0], &file(ONE, "active", 600)), Ok(()));
        assert_eq!(ledger.seen.checks, 1);
        assert_eq!(ledger.check(SERVERS[1], ""), Ok(()), "another server has promised nothing");
        for wrong in [
            String::new(),
            file(ONE, "active", 500),
            file(OTHER, "active", 600),
            file(ONE, "expired", 600),
            format!("{}{}", file(ONE, "active", 600), file(ONE, "free", 600)),
        ] {
            let fault = ledger.check(SERVERS[0], &wrong).unwrap_err();
            assert!(fault.starts_with("I2: "), "{fault}");
        }
    }
}
