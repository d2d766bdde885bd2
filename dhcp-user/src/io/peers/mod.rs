//! TCP with failover partners: listens, dials, and passes bytes on; decides nothing.
//!
//! ```text
//!   listener --only from the partner's address--> Accepted        dial task --> Dialled
//!   connection: reader --bounded channel--> Bytes, Closed         writer <-- bounded bytes <-- engine
//! ```
//!
//! Whoever connects from elsewhere is closed at once without a byte (dhcpd). A partner that sends faster than the engine
//! works is slowed down by TCP, since the channel is bounded; one that does not read is dropped when its bytes pile up.

mod tcp;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tracing::{debug, info, warn};

use crate::{
    config::Config,
    engine::port::{PeerInput, Token},
};

/// Pieces from all partners that wait for the engine; of 32 KiB, half a megabyte.
const EVENTS_MAX: usize = 16;
/// Bytes that wait for one partner to read them. A full window of updates and everything that may be owed is less.
const OUTGOING_LEN_MAX: usize = 32 * 1024 * 1024;
/// Connections of one partner at the same time: one, and some whose handshake is not complete.
const LINKS_MAX: usize = 8;

/// Where one partner is, and where we are for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    name: String,
    listens: SocketAddrV4,
    partner: Vec<Ipv4Addr>,
    partner_port: u16,
}

/// What the tasks report.
#[derive(Debug)]
pub enum PeerEvent {
    /// A connection from the partner's address, or to it.
    Connected {
        /// Number of the declaration.
        peer: usize,
        /// The connection.
        stream: TcpStream,
        /// Whether we dialled.
        dialled: bool,
    },
    /// A dial has failed.
    Failed {
        /// Number of the declaration.
        peer: usize,
        /// Why.
        error: io::Error,
    },
    /// Bytes arrived.
    Bytes(Token, Vec<u8>),
    /// A connection is gone.
    Closed(Token),
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
    /// Why each partner could not be reached last: said once.
    complaints: Vec<Option<String>>,
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
        let mut doors: BTreeMap<SocketAddrV4, Vec<(usize, Vec<Ipv4Addr>)>> = BTreeMap::new();
        for (number, place) in places.iter().enumerate() {
            doors.entry(place.listens).or_default().push((number, place.partner.clone()));
        }
        let listeners = doors
            .into_iter()
            .map(|(address, partners)| tokio::spawn(tcp::listen(address, partners, sender.clone())))
            .collect();
        Self {
            is_dialling: vec![false; places.len()],
            complaints: vec![None; places.len()],
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
            PeerEvent::Connected { peer, stream, dialled } => {
                if dialled {
                    self.end_dial(peer);
                }
                let count = self.connections.values().filter(|connection| connection.peer == peer).count();
                if count >= LINKS_MAX {
                    debug!(peer, "too many connections of one failover partner: closed");
                    return;
                }
                if let Some(complaint) = self.complaints.get_mut(peer) {
                    *complaint = None;
                }
                let link = self.open(peer, stream);
                handle(PeerInput::Connected { peer, link, dialled });
            }
            PeerEvent::Failed { peer, error } => {
                self.end_dial(peer);
                let text = error.to_string();
                if let (Some(place), Some(complaint)) = (self.places.get(peer), self.complaints.get_mut(peer))
                    && complaint.as_ref() != Some(&text)
                {
                    info!("failover peer {}: cannot connect: {text}", place.name);
                    *complaint = Some(text);
                }
                let link = self.name();
                handle(PeerInput::Closed { peer, link });
            }
            PeerEvent::Bytes(link, bytes) => {
                if let Some(connection) = self.connections.get(&link) {
                    handle(PeerInput::Bytes { peer: connection.peer, link, bytes: &bytes });
                }
            }
            PeerEvent::Closed(link) => {
                if let Some(connection) = self.connections.remove(&link) {
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
                Ok(stream) => PeerEvent::Connected { peer, stream, dialled: true },
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

    fn open(&mut self, peer: usize, stream: TcpStream) -> Token {
        let link = self.name();
        let (outgoing, waiting) = mpsc::unbounded_channel();
        let (closing, closed) = oneshot::channel();
        let outgoing_len = Arc::new(AtomicUsize::new(0));
        // Updates are small and somebody waits for each.
        let _ = stream.set_nodelay(true);
        tokio::spawn(tcp::serve(link, stream, waiting, Arc::clone(&outgoing_len), closed, self.sender.clone()));
        self.connections.insert(link, Connection { peer, outgoing, outgoing_len, closing: Some(closing) });
        link
    }
}
