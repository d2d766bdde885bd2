//! What happens later, and TCP between two machines, on a virtual clock: connections that keep their order, are cut, healed
//! and reset. The suites `failover` and `simulation` play on it; whoever does decides when everything happens.

use std::collections::BTreeMap;

/// What arrives at one end of a connection.
#[derive(Debug)]
pub enum Arrival {
    /// Bytes that the other end has sent.
    Bytes {
        /// The connection.
        connection: u64,
        /// The node they come to.
        to: usize,
        /// What was sent.
        bytes: Vec<u8>,
    },
    /// The other end is closed.
    Closed {
        /// The connection.
        connection: u64,
        /// The node that hears of it.
        to: usize,
    },
}

/// One connection; both by node.
#[derive(Debug)]
struct Connection {
    /// Which side still has its end.
    open: [bool; 2],
    /// When the last of what is on its way arrives: nothing overtakes.
    last_ms: [u64; 2],
}

/// Something that will happen.
#[derive(Debug)]
pub enum Event<E> {
    /// On the wire.
    Wire(Arrival),
    /// Anything else.
    Other(E),
}

/// What two machines have between them, and everything that is still to happen.
#[derive(Debug)]
pub struct Tcp<E> {
    events: BTreeMap<(u64, u64), Event<E>>,
    connections: BTreeMap<u64, Connection>,
    /// Arrivals that the cut holds back; `None` while nothing is cut.
    parked: Option<Vec<Arrival>>,
    counter: u64,
}

impl<E> Default for Tcp<E> {
    fn default() -> Self {
        Self { events: BTreeMap::new(), connections: BTreeMap::new(), parked: None, counter: 0 }
    }
}

impl<E> Tcp<E> {
    /// Lets something happen at an instant, after what was planned for it before.
    pub fn plan(&mut self, at_ms: u64, event: E) {
        self.insert(at_ms, Event::Other(event));
    }

    fn insert(&mut self, at_ms: u64, event: Event<E>) {
        self.counter += 1;
        self.events.insert((at_ms, self.counter), event);
    }

    /// When the next thing happens; never is the end of time.
    #[must_use]
    pub fn next_ms(&self) -> u64 {
        self.events.first_key_value().map_or(u64::MAX, |((at, _), _)| *at)
    }

    /// What happens next, if that is now; what the cut holds back does not.
    pub fn take(&mut self, now_ms: u64) -> Option<Event<E>> {
        loop {
            let entry = self.events.first_entry().filter(|entry| entry.key().0 <= now_ms)?;
            match (entry.remove(), &mut self.parked) {
                (Event::Wire(arrival), Some(parked)) => parked.push(arrival),
                (event, _) => return Some(event),
            }
        }
    }

    /// Whether nothing passes.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.parked.is_some()
    }

    /// Nothing passes any more, and nobody is told.
    pub fn cut(&mut self) {
        self.parked.get_or_insert_default();
    }

    /// What was held back goes on.
    pub fn heal(&mut self, now_ms: u64) {
        for arrival in self.parked.take().into_iter().flatten() {
            self.insert(now_ms + 1, Event::Wire(arrival));
        }
    }

    /// A name for a connection that somebody tries to open.
    pub const fn name(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Both ends are open from now on.
    pub fn open(&mut self, connection: u64) {
        self.connections.insert(connection, Connection { open: [true; 2], last_ms: [0; 2] });
    }

    /// Whether a node still has its end.
    #[must_use]
    pub fn is_open(&self, connection: u64, node: usize) -> bool {
        self.connections.get(&connection).is_some_and(|link| link.open[node])
    }

    /// A node gives its end up; whether it had it.
    pub fn leave(&mut self, connection: u64, node: usize) -> bool {
        self.connections.get_mut(&connection).is_some_and(|link| std::mem::take(&mut link.open[node]))
    }

    /// A node gives all its ends up; which.
    pub fn leave_all(&mut self, node: usize) -> Vec<u64> {
        let own = self.connections.iter_mut().filter(|(_, link)| link.open[node]);
        own.map(|(name, link)| {
            link.open[node] = false;
            *name
        })
        .collect()
    }

    /// Lets something arrive at an instant, not before what is on its way already.
    pub fn send(&mut self, at_ms: u64, arrival: Arrival) {
        let (Arrival::Bytes { connection, to, .. } | Arrival::Closed { connection, to }) = arrival;
        let Some(link) = self.connections.get_mut(&connection) else { return };
        let at = at_ms.max(link.last_ms[to]);
        link.last_ms[to] = at;
        self.insert(at, Event::Wire(arrival));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(connection: u64, text: &str) -> Arrival {
        Arrival::Bytes { connection, to: 1, bytes: text.as_bytes().to_vec() }
    }

    /// Everything until an instant, in words.
    fn told(tcp: &mut Tcp<&str>, until_ms: u64) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(event) = tcp.take(until_ms) {
            all.push(match event {
                Event::Other(name) => name.to_owned(),
                Event::Wire(Arrival::Closed { .. }) => "closed".to_owned(),
                Event::Wire(Arrival::Bytes { bytes, .. }) => String::from_utf8(bytes).unwrap(),
            });
        }
        all
    }

    #[test]
    fn nothing_overtakes_on_a_connection_and_a_cut_holds_everything_back() {
        let mut tcp = Tcp::default();
        let link = tcp.name();
        tcp.open(link);
        tcp.send(30, bytes(link, "one"));
        tcp.send(10, bytes(link, "two"));
        tcp.plan(20, "aside");
        assert_eq!(told(&mut tcp, 29), ["aside"]);
        tcp.cut();
        tcp.send(40, Arrival::Closed { connection: link, to: 1 });
        tcp.plan(50, "later");
        assert_eq!(told(&mut tcp, 60), ["later"]);
        tcp.heal(60);
        assert_eq!((tcp.is_cut(), tcp.next_ms()), (false, 61));
        assert_eq!(told(&mut tcp, 61), ["one", "two", "closed"]);
        assert!(tcp.leave(link, 0) && !tcp.leave(link, 0) && tcp.is_open(link, 1));
        assert_eq!((tcp.leave_all(0), tcp.leave_all(1)), (vec![], vec![link]));
    }
}
