//! A herd of clients: as many as are wanted, from one thread, fast enough that the server is what is measured.
//!
//! ```text
//!   closed loop   so many exchanges are under way; one that ends is followed by the next
//!   open loop     exchanges begin at a rate, whatever becomes of the others; what a client waits is counted from when it
//!                 was to begin
//! ```
//!
//! An exchange is DISCOVER to ACK of a client that nobody knows yet, or one renewal of a client that has a lease. The
//! thread never sleeps: it wants a processor of its own. It works against any server; replies are told apart by
//! their transaction, whose number is the number of the exchange.

pub mod server;
mod socket;
mod speech;
mod stage;

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::lab::{Namespace, now};

use socket::BatchSocket;
use speech::{ACK, NAK, OFFER, Speech};
pub use stage::Stage;

/// Messages that are begun or repeated at most between two looks at the replies.
const BURST_COUNT: u64 = 64;
/// Strangers that ask at most between two looks at the replies: clients do not send on each other's behalf, so none waits
/// behind a burst of the same thread.
const FLOOD_BURST_COUNT: u64 = 8;
/// Clients and transactions from here on are strangers'; one bit, since the socket's filter asks for it.
const STRANGERS: u32 = 0x8000_0000;
/// Batches of replies read in one look at most: who has an answer goes on before anybody begins.
const LOOK_COUNT: usize = 8;
/// Waits between the tries of a client double that often (RFC 2131 4.1).
const TRIES_MAX: usize = 4;

/// What the clients want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// DISCOVER, OFFER, REQUEST, ACK, each by a new client.
    Exchange,
    /// Unicast renewals of leases that earlier exchanges brought.
    Renewal,
}

/// When exchanges begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many are under way all the time.
    Closed(usize),
    /// So many begin every second.
    Open(f64),
}

/// One run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What the clients want.
    pub talk: Talk,
    /// When they begin.
    pub pace: Pace,
    /// After how long a client repeats a message that was not answered, the first time; then after twice as long.
    pub retry: Option<Duration>,
    /// After how long a client without an answer gives up.
    pub patience: Duration,
    /// What is not counted, at the beginning.
    pub warm_up: Duration,
    /// What is counted.
    pub window: Duration,
    /// How long replies are waited for that are still on their way when the window is over.
    pub drain: Duration,
    /// DISCOVERs of strangers every second besides, whose offers nobody wants.
    pub flood_per_sec: f64,
}

impl Plan {
    /// A closed loop whose clients repeat after a second, as the closed loop would stand still without.
    #[must_use]
    pub const fn closed(talk: Talk, in_flight: usize, window: Duration) -> Self {
        Self {
            talk,
            pace: Pace::Closed(in_flight),
            retry: Some(Duration::from_secs(1)),
            patience: Duration::from_secs(10),
            warm_up: Duration::from_millis(200),
            window,
            drain: Duration::from_millis(300),
            flood_per_sec: 0.0,
        }
    }

    /// An open loop whose clients ask once.
    #[must_use]
    pub const fn open(talk: Talk, per_sec: f64, window: Duration) -> Self {
        Self {
            talk,
            pace: Pace::Open(per_sec),
            retry: None,
            patience: Duration::from_secs(4),
            warm_up: Duration::from_millis(300),
            window,
            drain: Duration::from_millis(300),
            flood_per_sec: 0.0,
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Exchanges begun every second of the window.
    pub offered_per_sec: f64,
    /// Exchanges that ended with an ACK, every second of the window.
    pub completed_per_sec: f64,
    /// Exchanges begun in the window that had no ACK when the run was over, of those begun.
    pub unanswered: (u64, u64),
    /// DISCOVERs of strangers sent every second of the window.
    pub flooded_per_sec: f64,
    /// Refusals.
    pub naks: u64,
    /// First frame to ACK, in nanoseconds, of exchanges that ended in the window; sorted.
    pub latencies_ns: Vec<u32>,
}

impl Figures {
    /// A percentile of the latencies, in microseconds.
    #[must_use]
    pub fn latency_us(&self, percent: f64) -> f64 {
        let last = self.latencies_ns.len().saturating_sub(1);
        let at = (last as f64 * percent / 100.0).round() as usize;
        self.latencies_ns.get(at).map_or(f64::NAN, |ns| f64::from(*ns) / 1e3)
    }
}

/// An exchange under way.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    begun_ns: u64,
    client: u32,
    address: Ipv4Addr,
    state: State,
    tries: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Discovering,
    Requesting,
    Over,
}

/// Clients behind one interface, and the leases they got.
#[derive(Debug)]
pub struct Herd {
    socket: BatchSocket,
    speech: Speech,
    /// Clients with their addresses.
    leases: Vec<(u32, Ipv4Addr)>,
    next_client: u32,
    next_xid: u32,
    /// Renewals so far: they go round among the leases, from run to run.
    renewed: usize,
    next_stranger: u32,
}

impl Herd {
    /// A herd behind `interface` of a namespace, which speaks to the server at `server`.
    fn new(
        namespace: &Namespace,
        interface: &str,
        server: Ipv4Addr,
        server_mac: [u8; 6],
        first: u32,
    ) -> io::Result<Self> {
        let socket = namespace.enter(|| BatchSocket::open(interface))??;
        let speech = Speech::new(server, server_mac);
        Ok(Self {
            socket,
            speech,
            leases: Vec::new(),
            next_client: first,
            next_xid: first,
            renewed: 0,
            next_stranger: STRANGERS,
        })
    }

    /// Keeps at most so many leases.
    pub fn keep(&mut self, count: usize) {
        self.leases.truncate(count);
    }

    /// The renewals of all leases, as frames.
    #[must_use]
    pub fn renewals(&self) -> Vec<Vec<u8>> {
        let frame = |(number, (client, address)): (usize, &(u32, Ipv4Addr))| {
            let mut frame = self.speech.renewal().to_vec();
            speech::finish(&mut frame, *client, number as u32);
            speech::finish_renewal(&mut frame, *address);
            frame
        };
        self.leases.iter().enumerate().map(frame).collect()
    }

    /// Sends these frames, round after round, as fast as this thread can, and looks at no reply; how many were sent.
    pub fn blast(&mut self, frames: &[Vec<u8>], window: Duration) -> u64 {
        let begin = now();
        let (before, mut sent, mut next) = (self.socket.refused, 0, 0);
        while begin.elapsed() < window {
            for _ in 0..BURST_COUNT {
                self.socket.push(&frames[next]);
                next = if next + 1 < frames.len() { next + 1 } else { 0 };
            }
            self.socket.flush();
            sent += BURST_COUNT;
        }
        sent - (self.socket.refused - before)
    }

    /// How many clients have a lease.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// Runs a plan.
    ///
    /// # Panics
    /// When renewals are wanted of a herd without leases.
    pub fn run(&mut self, plan: &Plan) -> Figures {
        assert!(plan.talk == Talk::Exchange || !self.leases.is_empty(), "nobody has a lease to renew");
        // What is left of an earlier run.
        while self.socket.receive() > 0 {}
        let first_xid = self.next_xid;
        let mut run = Run {
            plan: *plan,
            start: now(),
            now_ns: 0,
            first_xid,
            exchanges: Vec::new(),
            under_way: 0,
            again: std::array::from_fn(|_| VecDeque::new()),
            over: VecDeque::new(),
            stranger_ns: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            figures: Figures::default(),
            completed: 0,
            flooded: 0,
            offered: 0,
            unanswered: 0,
            herd: self,
        };
        run.run();
        let mut figures = run.figures;
        let secs = plan.window.as_secs_f64();
        figures.offered_per_sec = run.offered as f64 / secs;
        figures.completed_per_sec = run.completed as f64 / secs;
        figures.flooded_per_sec = run.flooded as f64 / secs;
        figures.unanswered = (run.unanswered, run.offered);
        figures.latencies_ns.sort_unstable();
        figures
    }
}

/// One run under way.
struct Run<'h> {
    herd: &'h mut Herd,
    plan: Plan,
    start: Instant,
    now_ns: u64,
    first_xid: u32,
    /// All exchanges of the run, by transaction.
    exchanges: Vec<Exchange>,
    under_way: usize,
    /// By number of tries: exchanges to repeat, in the order in which they fall due.
    again: [VecDeque<(u64, u32, State)>; TRIES_MAX],
    /// Exchanges to give up, in the order in which they fall due.
    over: VecDeque<(u64, u32)>,
    /// When the next stranger asks.
    stranger_ns: u64,
    random: u64,
    figures: Figures,
    offered: u64,
    completed: u64,
    flooded: u64,
    unanswered: u64,
}

impl Run<'_> {
    fn run(&mut self) {
        let warm_ns = nanos(self.plan.warm_up);
        let end_ns = warm_ns + nanos(self.plan.window);
        let drained_ns = end_ns + nanos(self.plan.drain);
        loop {
            self.now_ns = nanos(now().duration_since(self.start));
            let is_counted = (warm_ns..end_ns).contains(&self.now_ns);
            self.listen(is_counted);
            let repeated = self.repeat();
            if self.now_ns < end_ns {
                self.begin(is_counted, BURST_COUNT.saturating_sub(repeated));
                if self.plan.flood_per_sec > 0.0 {
                    // What this thread does for strangers is no client's time, unless it asks meanwhile: then it waits
                    // behind them as on a cable.
                    self.herd.socket.flush();
                    self.now_ns = nanos(now().duration_since(self.start));
                    self.listen(is_counted);
                    self.flood(is_counted);
                }
            } else if self.under_way == 0 || self.now_ns >= drained_ns {
                break;
            }
            self.herd.socket.flush();
        }
        let was_counted = |one: &&Exchange| one.state != State::Over && (warm_ns..end_ns).contains(&one.begun_ns);
        self.unanswered += self.exchanges.iter().filter(was_counted).count() as u64;
    }

    fn listen(&mut self, is_counted: bool) {
        for _ in 0..LOOK_COUNT {
            let count = self.herd.socket.receive();
            if count == 0 {
                break;
            }
            self.listen_to(count, is_counted);
        }
    }

    fn listen_to(&mut self, count: usize, is_counted: bool) {
        for at in 0..count {
            let Some(heard) = speech::hear(self.herd.socket.frame(at)) else { continue };
            let index = heard.xid.wrapping_sub(self.first_xid) as usize;
            let Some(exchange) = self.exchanges.get_mut(index) else { continue };
            match (exchange.state, heard.kind) {
                (State::Discovering, OFFER) => {
                    exchange.state = State::Requesting;
                    exchange.address = heard.yiaddr;
                    exchange.tries = 0;
                    self.say(index);
                }
                (State::Requesting, ACK) => {
                    exchange.state = State::Over;
                    let took_ns = self.now_ns - exchange.begun_ns;
                    if self.plan.talk == Talk::Exchange {
                        self.herd.leases.push((exchange.client, heard.yiaddr));
                    }
                    self.under_way -= 1;
                    if is_counted {
                        self.completed += 1;
                        self.figures.latencies_ns.push(u32::try_from(took_ns).unwrap_or(u32::MAX));
                    }
                }
                (State::Requesting, NAK) => {
                    exchange.state = State::Over;
                    self.under_way -= 1;
                    self.figures.naks += 1;
                }
                (State::Discovering | State::Requesting | State::Over, _) => {}
            }
        }
    }

    /// Says what an exchange has to say in its state.
    fn say(&mut self, index: usize) {
        let Exchange { client, address, state, tries, .. } = self.exchanges[index];
        let xid = self.first_xid.wrapping_add(index as u32);
        let Herd { socket, speech, .. } = &mut *self.herd;
        match (state, self.plan.talk) {
            (State::Over, _) => return,
            (State::Discovering, _) => speech::finish(socket.push(speech.discover()), client, xid),
            (State::Requesting, Talk::Exchange) => {
                let frame = socket.push(speech.select());
                speech::finish(frame, client, xid);
                speech::finish_select(frame, address);
            }
            (State::Requesting, Talk::Renewal) => {
                let frame = socket.push(speech.renewal());
                speech::finish(frame, client, xid);
                speech::finish_renewal(frame, address);
            }
        }
        if let Some(retry) = self.plan.retry
            && let Some(queue) = self.again.get_mut(usize::from(tries))
        {
            queue.push_back((self.now_ns + (nanos(retry) << tries), index as u32, state));
        }
    }

    /// Repeats what was not answered, and gives up what has been waiting for too long. How many were repeated.
    fn repeat(&mut self) -> u64 {
        let mut repeated = 0;
        for tries in 0..TRIES_MAX {
            while repeated < BURST_COUNT
                && let Some(&(due_ns, index, state)) = self.again[tries].front()
                && due_ns <= self.now_ns
            {
                self.again[tries].pop_front();
                let exchange = &mut self.exchanges[index as usize];
                // Otherwise it has been answered, and what it waits for now stands behind.
                if exchange.state == state && state != State::Over && usize::from(exchange.tries) == tries {
                    exchange.tries += 1;
                    repeated += 1;
                    self.say(index as usize);
                }
            }
        }
        while let Some(&(due_ns, index)) = self.over.front()
            && due_ns <= self.now_ns
        {
            self.over.pop_front();
            let exchange = &mut self.exchanges[index as usize];
            if exchange.state != State::Over {
                exchange.state = State::Over;
                self.under_way -= 1;
                let warm_ns = nanos(self.plan.warm_up);
                if (warm_ns..warm_ns + nanos(self.plan.window)).contains(&exchange.begun_ns) {
                    self.unanswered += 1;
                }
            }
        }
        repeated
    }

    /// Begins what is to begin now.
    fn begin(&mut self, is_counted: bool, most: u64) {
        let begun = self.exchanges.len() as u64;
        let due = match self.plan.pace {
            Pace::Closed(count) => count.saturating_sub(self.under_way) as u64,
            Pace::Open(per_sec) => {
                let due = (self.now_ns as f64 * per_sec / 1e9) as u64;
                due.saturating_sub(begun).min(most)
            }
        };
        for number in begun..begun.saturating_add(due) {
            let begun_ns = match self.plan.pace {
                Pace::Closed(_) => self.now_ns,
                Pace::Open(per_sec) => (((number + 1) as f64 * 1e9 / per_sec) as u64).min(self.now_ns),
            };
            let (client, address, state) = match self.plan.talk {
                Talk::Exchange => {
                    let client = self.herd.next_client;
                    self.herd.next_client = client.wrapping_add(1);
                    (client, Ipv4Addr::UNSPECIFIED, State::Discovering)
                }
                Talk::Renewal => {
                    let (client, address) = self.herd.leases[self.herd.renewed % self.herd.leases.len()];
                    self.herd.renewed += 1;
                    (client, address, State::Requesting)
                }
            };
            let index = self.exchanges.len();
            self.exchanges.push(Exchange { begun_ns, client, address, state, tries: 0 });
            self.herd.next_xid = self.first_xid.wrapping_add(index as u32 + 1);
            self.over.push_back((self.now_ns + nanos(self.plan.patience), index as u32));
            self.under_way += 1;
            self.offered += u64::from(is_counted);
            self.say(index);
        }
    }
}

impl Run<'_> {
    /// Lets strangers ask who is there.
    fn flood(&mut self, is_counted: bool) {
        for _ in 0..FLOOD_BURST_COUNT {
            if self.stranger_ns > self.now_ns {
                break;
            }
            // At random moments: at regular ones a rate that is a multiple of the clients' would meet every one of them.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let chance = ((self.random >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
            self.stranger_ns += (-chance.ln() * 1e9 / self.plan.flood_per_sec) as u64;
            let Herd { socket, speech, next_stranger, .. } = &mut *self.herd;
            // Nothing is under way with this transaction: the offer is not heard.
            speech::finish(socket.push(speech.discover()), *next_stranger, *next_stranger);
            *next_stranger = next_stranger.wrapping_add(1) | STRANGERS;
            self.flooded += u64::from(is_counted);
        }
    }
}

/// Binds the calling thread, and what it starts from now on, to one processor.
///
/// # Errors
/// When there is no such processor.
pub fn bind_to(processor: usize) -> io::Result<()> {
    #[expect(unsafe_code, reason = "std cannot bind a thread to a processor")]
    // SAFETY: all-zero bytes are an empty set, CPU_SET writes inside it, and its size is passed with it.
    let status = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
