//! TCP with failover partners: listens, dials, and passes bytes on; decides nothing.
//!
//! ```text
//!   listener --only from the partner's address--> [greeting] --> Connected <-- [greeting] <-- dial task
//!   connection: reader --> [open] --bounded channel--> Bytes, Closed         writer <-- [seal] <-- bounded bytes <-- engine
//! ```
//!
//! What stands in brackets is done where the two share a key (`key`, `seal`): then nothing is passed on, and nothing said,
//! before the other side has shown that it has it.
//!
//! Whoever connects from elsewhere is closed at once without a byte (dhcpd). A partner that sends faster than the engine
//! works is slowed down by TCP, since the channel is bounded; one that does not read is dropped when its bytes pile up.

mod key;
mod seal;
mod tcp;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
};
use tracing::{debug, info, warn};

use crate::{
    config::{Config, Role},
    engine::port::{PeerInput, Token},
    failover::limits::HALF_OPEN_MAX,
};

pub(super) use key::check as check_keys;
use seal::Seal;

/// Pieces from all partners that wait for the engine; of 32 KiB, half a megabyte.
const EVENTS_MAX: usize = 16;
/// Bytes that wait for one partner to read them. A full window of updates and everything that may be owed is less.
const OUTGOING_LEN_MAX: usize = 32 * 1024 * 1024;
/// Connections of one partner at the same time: one, and some whose handshake is not complete.
const LINKS_MAX: usize = 8;

/// Where one partner is, and where we are for it.
#[derive(Debug, Clone)]
struct Place {
    name: String,
    role: Role,
    listens: SocketAddrV4,
    partner: Vec<Ipv4Addr>,
    partner_port: u16,
    /// Where the key is; `None` = the link is plain.
    key_file: Option<Arc<str>>,
    /// Places for connections of the partner's that have not shown the key yet.
    greetings: Arc<Semaphore>,
}

/// A connection, and what protects it.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    seal: Option<Seal>,
}

/// What the tasks report.
#[derive(Debug)]
pub enum PeerEvent {
    /// A connection from the partner's address, or to it.
    Connected {
        /// Number of the declaration.
        peer: usize,
        /// The connection.
        wire: Wire,
        /// Whether we dialled.
        dialled: bool,
    },
    /// A dial has failed.
    Failed {
        /// Number of the declaration.
        peer: usize,
        /// Why, in a sentence.
        error: String,
    },
    /// A connection from the partner's address that did not show the key.
    Refused {
        /// Number of the declaration.
        peer: usize,
        /// Why, in a sentence.
        error: String,
    },
    /// Bytes arrived.
    Bytes(Token, Vec<u8>),
    /// A connection is gone; and what was wrong with it.
    Closed(Token, Option<String>),
}

/// Connections that were closed at once, since the start.
#[derive(Debug, Default)]
struct Refusals {
    strangers: AtomicU64,
    crowd: AtomicU64,
}

/// How the link with a partner stands, below the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether a key protects it.
    pub is_protected: bool,
    /// Why there is no connection, as far as known.
    pub trouble: Option<String>,
}

/// What is wrong with the links of one partner, each said once.
#[derive(Debug, Default)]
struct Complaints {
    dialled: Option<String>,
    accepted: Option<String>,
}

/// One connection. Dropping it flushes what was said, and closes.
#[derive(Debug)]
struct Connection {
    peer: usize,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    outgoing_len: Arc<AtomicUsize>,
    /// Sent: given up, the reader reports the end. Dropped: closed by the engine, which knows.
    closing: Option<oneshot::Sender<()>>,
}

/// All connections with all partners.
#[derive(Debug)]
pub struct Peers {
    places: Vec<Place>,
    connections: HashMap<Token, Connection>,
    listeners: Vec<JoinHandle<()>>,
    is_dialling: Vec<bool>,
    complaints: Vec<Complaints>,
    refusals: Arc<Refusals>,
    /// Connections whose partner did not show the key, since the start.
    distrusted: u64,
    token_next: u64,
    sender: mpsc::Sender<PeerEvent>,
    events: mpsc::Receiver<PeerEvent>,
}

impl Drop for Peers {
    fn drop(&mut self) {
        for listener in &self.listeners {
            listener.abort();
        }
    }
}

impl Peers {
    /// Listens for the partners of a configuration. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let places: Vec<Place> = config
            .failover_peers
            .iter()
            .map(|declared| Place {
                name: declared.name.to_string(),
                role: declared.role,
                key_file: declared.link_key_file.clone(),
                greetings: Arc::new(Semaphore::new(HALF_OPEN_MAX)),
                listens: SocketAddrV4::new(
                    declared
                        .address
                        .as_ref()
                        .and_then(|address| config.address(address))
                        .unwrap_or(Ipv4Addr::UNSPECIFIED),
                    declared.port,
                ),
                partner: declared.peer_address.as_ref().map(|address| config.addresses(address)).unwrap_or_default(),
                partner_port: declared.peer_port,
            })
            .collect();
        let mut doors: BTreeMap<SocketAddrV4, Vec<(usize, Place)>> = BTreeMap::new();
        for (number, place) in places.iter().enumerate() {
            doors.entry(place.listens).or_default().push((number, place.clone()));
        }
        let refusals = Arc::new(Refusals::default());
        let listeners = doors
            .into_iter()
            .map(|(address, partners)| {
                tokio::spawn(tcp::listen(address, partners, sender.clone(), Arc::clone(&refusals)))
            })
            .collect();
        Self {
            is_dialling: vec![false; places.len()],
            complaints: places.iter().map(|_| Complaints::default()).collect(),
            refusals,
            distrusted: 0,
            places,
            connections: HashMap::new(),
            listeners,
            token_next: 1,
            sender,
            events,
        }
    }

    /// The next thing that happened.
    pub async fn next(&mut self) -> PeerEvent {
        match self.events.recv().await {
            Some(event) => event,
            // Cannot be: a sender is kept here.
            None => std::future::pending().await,
        }
    }

    /// What has happened already, if anything.
    pub fn try_next(&mut self) -> Option<PeerEvent> {
        self.events.try_recv().ok()
    }

    /// Makes an input of an event.
    pub fn take(&mut self, event: PeerEvent, handle: impl FnOnce(PeerInput<'_>)) {
        match event {
            PeerEvent::Connected { peer, wire, dialled } => {
                if dialled {
                    self.end_dial(peer);
                }
                let count = self.connections.values().filter(|connection| connection.peer == peer).count();
                if count >= LINKS_MAX {
                    debug!(peer, "too many connections of one failover partner: closed");
                    self.refusals.crowd.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                let link = self.open(peer, wire);
                handle(PeerInput::Connected { peer, link, dialled });
            }
            PeerEvent::Failed { peer, error } => {
                self.end_dial(peer);
                self.complain(peer, true, error);
                let link = self.name();
                handle(PeerInput::Closed { peer, link });
            }
            PeerEvent::Refused { peer, error } => {
                self.distrusted = self.distrusted.saturating_add(1);
                self.complain(peer, false, error);
            }
            PeerEvent::Bytes(link, bytes) => {
                if let Some(connection) = self.connections.get(&link) {
                    if let Some(complaints) = self.complaints.get_mut(connection.peer) {
                        *complaints = Complaints::default();
                    }
                    handle(PeerInput::Bytes { peer: connection.peer, link, bytes: &bytes });
                }
            }
            PeerEvent::Closed(link, why) => {
                if let Some(connection) = self.connections.remove(&link) {
                    if let Some(why) = why {
                        self.distrusted = self.distrusted.saturating_add(1);
                        self.complain(connection.peer, false, why);
                    }
                    handle(PeerInput::Closed { peer: connection.peer, link });
                }
            }
        }
    }

    /// Dials a partner, unless a dial is under way.
    pub fn dial(&mut self, peer: usize) {
        let (Some(place), Some(is_dialling)) = (self.places.get(peer), self.is_dialling.get_mut(peer)) else { return };
        if std::mem::replace(is_dialling, true) {
            return;
        }
        let (place, sender) = (place.clone(), self.sender.clone());
        tokio::spawn(async move {
            let event = match tcp::dial(&place).await {
                Ok(wire) => PeerEvent::Connected { peer, wire, dialled: true },
                Err(error) => PeerEvent::Failed { peer, error },
            };
            // The loop may be gone: then nobody needs to know.
            let _ = sender.send(event).await;
        });
    }

    /// Sends bytes; those for a connection that is gone are forgotten.
    pub fn send(&mut self, link: Token, bytes: Vec<u8>) {
        let Some(connection) = self.connections.get_mut(&link) else { return };
        let len = bytes.len();
        let waiting = connection.outgoing_len.fetch_add(len, Ordering::Relaxed).saturating_add(len);
        if waiting > OUTGOING_LEN_MAX {
            if let Some(closing) = connection.closing.take() {
                warn!("a failover partner does not read: connection closed");
                // The reader reports the end, as when the partner had closed.
                let _ = closing.send(());
            }
            return;
        }
        // A writer that has failed has ended the reader as well, which reports it.
        let _ = connection.outgoing.send(bytes);
    }

    /// Flushes, then closes a connection.
    pub fn close(&mut self, link: Token) {
        self.connections.remove(&link);
    }

    /// How the link with a partner stands.
    #[must_use]
    pub fn link(&self, peer: usize) -> LinkStatus {
        let complaints = self.complaints.get(peer);
        LinkStatus {
            is_protected: self.places.get(peer).is_some_and(|place| place.key_file.is_some()),
            // What the partner does here says more than that it cannot be reached there.
            trouble: complaints.and_then(|said| said.accepted.clone().or_else(|| said.dialled.clone())),
        }
    }

    /// Connections that were closed since the start, by what was wrong with them.
    #[must_use]
    pub fn refused(&self) -> [(&'static str, u64); 3] {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("stranger", count(&self.refusals.strangers)),
            ("too-many", count(&self.refusals.crowd)),
            ("key", self.distrusted),
        ]
    }

    /// Says what is wrong with a partner's link, when it is something else than the last time.
    fn complain(&mut self, peer: usize, dialled: bool, text: String) {
        let (Some(place), Some(complaints)) = (self.places.get(peer), self.complaints.get_mut(peer)) else { return };
        let complaint = if dialled { &mut complaints.dialled } else { &mut complaints.accepted };
        if complaint.as_ref() == Some(&text) {
            return;
        }
        if dialled {
            info!("failover peer {}: cannot connect: {text}", place.name);
        } else {
            warn!("failover peer {}: connection refused: {text}", place.name);
        }
        *complaint = Some(text);
    }

    fn end_dial(&mut self, peer: usize) {
        if let Some(is_dialling) = self.is_dialling.get_mut(peer) {
            *is_dialling = false;
        }
    }

    fn name(&mut self) -> Token {
        let token = Token(self.token_next);
        self.token_next = self.token_next.wrapping_add(1);
        token
    }

    fn open(&mut self, peer: usize, wire: Wire) -> Token {
        let link = self.name();
        let (outgoing, waiting) = mpsc::unbounded_channel();
        let (closing, closed) = oneshot::channel();
        let outgoing_len = Arc::new(AtomicUsize::new(0));
        // Updates are small and somebody waits for each.
        let _ = wire.stream.set_nodelay(true);
        tokio::spawn(tcp::serve(link, wire, waiting, Arc::clone(&outgoing_len), closed, self.sender.clone()));
        self.connections.insert(link, Connection { peer, outgoing, outgoing_len, closing: Some(closing) });
        link
    }
}
