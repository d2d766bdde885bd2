//! Clients on one packet socket, and what the wire shows of them: who holds what, until when.

use std::{
    collections::BTreeMap,
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
use tests::{
    client::{Client, Reply, Wire as _},
    dice::Dice,
    lab::{PacketSocket, now},
    leases,
};

use super::epoch;

/// Whole seconds are written, and two clocks are read: a promise may look this much longer than its record.
const SLACK: Duration = Duration::from_secs(2);

/// What a client was told last about an address.
#[derive(Debug, Clone, Copy)]
struct Promise {
    mac: [u8; 6],
    until: Instant,
}

/// What the wire has shown.
#[derive(Debug, Default)]
struct Ledger {
    promises: BTreeMap<Ipv4Addr, Promise>,
    seen: Seen,
    fault: Option<String>,
    is_agent_there: bool,
}

/// Counts of what the wire has shown.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) acks: u64,
    /// ACKs between the death of an agent and the start of the next: the kernel's.
    pub(super) acks_without_agent: u64,
    naks: u64,
    releases: u64,
    unanswered: u64,
    owners: std::collections::BTreeSet<(Ipv4Addr, [u8; 6])>,
    checks: u64,
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
    /// A frame that came back from the server.
    fn received(&mut self, reply: &Reply, at: Instant) {
        let Ok(mac) = <[u8; 6]>::try_from(reply.message.chaddr()) else { return };
        match reply.kind() {
            Some(MessageType::Ack) => {}
            Some(MessageType::Nak) => {
                self.seen.naks += 1;
                self.promises.retain(|_, promise| promise.mac != mac);
                return;
            }
            _ => return,
        }
        let (address, Some(secs)) = (reply.message.yiaddr(), reply.lease_secs()) else { return };
        self.seen.acks += 1;
        self.seen.acks_without_agent += u64::from(!self.is_agent_there);
        self.seen.owners.insert((address, mac));
        if let Some(other) = self.promises.get(&address).filter(|other| other.mac != mac && other.until > at) {
            let left = other.until - at;
            self.fault.get_or_insert(format!(
                "I1: {address} was promised to {mac:02x?} while {:02x?} holds it for {left:?} more",
                other.mac
            ));
        }
        self.promises.insert(address, Promise { mac, until: at + Duration::from_secs(u64::from(secs)) });
    }

    /// A client gives its address up.
    fn released(&mut self, address: Ipv4Addr, mac: [u8; 6]) {
        self.seen.releases += 1;
        if self.promises.get(&address).is_some_and(|promise| promise.mac == mac) {
            self.promises.remove(&address);
        }
    }
}

/// Clients at work on a thread of their own.
#[derive(Debug)]
pub(super) struct Load {
    ledger: Arc<Mutex<Ledger>>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

fn open(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    pub(super) fn start(wire: PacketSocket, clients: u8) -> Self {
        let ledger = Arc::new(Mutex::new(Ledger { is_agent_there: true, ..Ledger::default() }));
        let is_over = Arc::new(AtomicBool::new(false));
        let (of_thread, end) = (Arc::clone(&ledger), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let clients = (0..clients).map(|number| Client::new([2, 0, 0, 0, 0x33, number])).collect();
            Crowd { clients, held: BTreeMap::new(), wire, dice: Dice::new(3), ledger: of_thread }.work(&end);
        });
        Self { ledger, is_over, thread }
    }

    /// Whether an agent may be answering.
    pub(super) fn agent_is(&self, there: bool) {
        open(&self.ledger).is_agent_there = there;
    }

    /// I1 on the wire so far, and I2: the file covers every promise that has been seen.
    pub(super) fn check(&self, leases: &str) -> Result<(), String> {
        let newest: BTreeMap<Ipv4Addr, leases::Record> =
            leases::newest(leases).into_iter().map(|record| (record.address, record)).collect();
        let mut ledger = open(&self.ledger);
        if let Some(fault) = &ledger.fault {
            return Err(fault.clone());
        }
        let (at, wall) = (now(), wall_secs());
        let promises = ledger.promises.clone();
        for (address, promise) in &promises {
            let Some(left) = promise.until.checked_duration_since(at).and_then(|left| left.checked_sub(SLACK)) else {
                continue;
            };
            let record =
                newest.get(address).ok_or_else(|| format!("I2: {address} was promised and is not in the file"))?;
            let hardware: Vec<String> = promise.mac.iter().map(|byte| format!("{byte:02x}")).collect();
            let until = epoch(record, "ends").max(epoch(record, "tstp"));
            let is_covered = record.value("binding state") == Some("active")
                && record.value("hardware ethernet") == Some(&hardware.join(":"))
                && until >= wall + left.as_secs();
            if !is_covered {
                return Err(format!(
                    "I2: {address} is promised to {} for {left:?} from {wall}, and the file says\n{}",
                    hardware.join(":"),
                    record.text
                ));
            }
            ledger.seen.checks += 1;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Seen, String> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the load's thread panicked".to_owned())?;
        let ledger = open(&self.ledger);
        match &ledger.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(ledger.seen.clone()),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the leases file has wall time in it")]
fn wall_secs() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The clients.
struct Crowd {
    clients: Vec<Client>,
    /// Until when each client may use its address.
    held: BTreeMap<usize, Instant>,
    wire: PacketSocket,
    dice: Dice,
    ledger: Arc<Mutex<Ledger>>,
}

impl Crowd {
    fn work(&mut self, end: &AtomicBool) {
        while !end.load(Ordering::Relaxed) {
            let number = self.dice.index(self.clients.len());
            if self.held.get(&number).is_some_and(|until| *until <= now()) {
                self.clients[number].lease = None;
                self.held.remove(&number);
            }
            self.step(number);
        }
    }

    fn step(&mut self, number: usize) {
        let Some(lease) = self.clients[number].lease.clone() else {
            return self.join(number);
        };
        let client = &mut self.clients[number];
        let frame = match self.dice.below(100) {
            // Known to be given up before it is said.
            0..3 => {
                let mac = client.mac;
                let release = client.release().expect("it has a lease");
                open(&self.ledger).released(lease.address, mac);
                self.held.remove(&number);
                let _ = self.wire.send(&release);
                return;
            }
            // Goes silent: its lease runs out, and somebody else may get the address.
            3..5 => {
                client.lease = None;
                self.held.remove(&number);
                return;
            }
            5..15 => client.rebinding().expect("it has a lease"),
            15..25 => client.reboot(lease.address),
            _ => client.renewal().expect("it has a lease"),
        };
        if let Some(reply) = self.ask(number, &frame) {
            self.take(number, &reply);
        }
    }

    fn join(&mut self, number: usize) {
        let discover = self.clients[number].discover();
        let Some(offer) = self.ask(number, &discover) else { return };
        if offer.kind() != Some(MessageType::Offer) {
            return;
        }
        let Ok(request) = self.clients[number].select(&offer) else { return };
        if let Some(reply) = self.ask(number, &request) {
            self.take(number, &reply);
        }
    }

    fn take(&mut self, number: usize, reply: &Reply) {
        let client = &mut self.clients[number];
        match client.bind(reply) {
            Ok(lease) => {
                self.held.insert(number, now() + Duration::from_secs(u64::from(lease.secs)));
            }
            Err(_) => {
                client.lease = None;
                self.held.remove(&number);
            }
        }
    }

    /// Sends, and waits a little for the answer; whatever else arrives is written down as well.
    fn ask(&mut self, number: usize, frame: &[u8]) -> Option<Reply> {
        self.wire.send(frame).ok()?;
        let deadline = now() + Duration::from_millis(60);
        while let Some(left) = deadline.checked_duration_since(now()).filter(|left| !left.is_zero()) {
            let Ok(Some(arrived)) = self.wire.receive(left) else { break };
            let Some(reply) = Reply::parse(&arrived) else { continue };
            open(&self.ledger).received(&reply, now());
            if self.clients[number].read(&arrived).is_some() {
                return Some(reply);
            }
        }
        open(&self.ledger).seen.unanswered += 1;
        None
    }
}
