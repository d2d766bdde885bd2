//! TCP with failover partners: listens, dials, and passes bytes on; decides nothing.
//!
//! ```text
//!   listener --only from the partner's address--> Accepted        dial task --> Dialled
//!   connection: reader --bounded channel--> Bytes, Closed         writer <-- bounded bytes <-- engine
//! ```
//!
//! Whoever connects from elsewhere is closed at once without a byte (dhcpd). A partner that sends faster than the engine
//! works is slowed down by TCP, since the channel is bounded; one that does not read is dropped when its bytes pile up.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    config::Config,
    engine::port::{PeerInput, Token},
};

/// Bytes that are read at once: about three hundred updates.
const READ_LEN: usize = 32 * 1024;
/// Pieces from all partners that wait for the engine; with [`READ_LEN`] half a megabyte.
const EVENTS_MAX: usize = 16;
/// Bytes that wait for one partner to read them. A full window of updates and everything that may be owed is less.
const OUTGOING_LEN_MAX: usize = 32 * 1024 * 1024;
/// Connections of one partner at the same time: one, and some whose handshake is not complete.
const LINKS_MAX: usize = 8;
/// How long a dial may take.
const DIAL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a closed connection may take to flush what was said last.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// How long after a failed `listen` it is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// Pause after a connection that is not the partner's: a hundred in a second at most.
const STRANGER_PAUSE: Duration = Duration::from_millis(10);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 16;

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
            .map(|(address, partners)| tokio::spawn(listen(address, partners, sender.clone())))
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
            let event = match dial(&place).await {
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
        tokio::spawn(serve(link, stream, waiting, Arc::clone(&outgoing_len), closed, self.sender.clone()));
        self.connections.insert(link, Connection { peer, outgoing, outgoing_len, closing: Some(closing) });
        link
    }
}

/// Accepts connections of partners on one address and port, for ever.
async fn listen(address: SocketAddrV4, partners: Vec<(usize, Vec<Ipv4Addr>)>, sender: mpsc::Sender<PeerEvent>) {
    let mut complaint = None;
    loop {
        let listener = match bind(address) {
            Ok(listener) => listener,
            Err(error) => {
                let text = error.to_string();
                if complaint.as_ref() != Some(&text) {
                    warn!(
                        "failover: cannot listen on {address}: {text}; trying again (`address` and `port` of `failover \
                         peer` name this server's own)"
                    );
                    complaint = Some(text);
                }
                sleep(LISTEN_AGAIN).await;
                continue;
            }
        };
        info!("failover: listening on {address}");
        loop {
            match listener.accept().await {
                Ok((stream, source)) => {
                    let partner = partners.iter().find(|(_, known)| match source.ip() {
                        IpAddr::V4(source) => known.contains(&source),
                        IpAddr::V6(_) => false,
                    });
                    let Some((peer, _)) = partner else {
                        debug!("failover: connection from {}, which is no partner of ours: closed", source.ip());
                        drop(stream);
                        sleep(STRANGER_PAUSE).await;
                        continue;
                    };
                    let event = PeerEvent::Connected { peer: *peer, stream, dialled: false };
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
                // Out of descriptors, or the connection is gone already.
                Err(error) => {
                    debug!("failover: accept: {error}");
                    sleep(STRANGER_PAUSE).await;
                }
            }
        }
    }
}

fn bind(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::V4(address))?;
    socket.listen(BACKLOG)
}

async fn dial(place: &Place) -> io::Result<TcpStream> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "its `peer address` has no address"));
    for partner in &place.partner {
        let to = SocketAddrV4::new(*partner, place.partner_port);
        outcome = dial_one(*place.listens.ip(), to).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The partner knows us by our address only, so the connection has to come from it.
async fn dial_one(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::V4(SocketAddrV4::new(from, 0)))?;
    match timeout(DIAL_PATIENCE, socket.connect(SocketAddr::V4(to))).await {
        Ok(outcome) => outcome.map_err(|error| io::Error::new(error.kind(), format!("{to}: {error}"))),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{to}: no answer"))),
    }
}

/// Reads and writes one connection until either side ends it.
async fn serve(
    link: Token,
    stream: TcpStream,
    mut waiting: mpsc::UnboundedReceiver<Vec<u8>>,
    outgoing_len: Arc<AtomicUsize>,
    mut closed: oneshot::Receiver<()>,
    events: mpsc::Sender<PeerEvent>,
) {
    let (mut reader, mut writer) = stream.into_split();
    let mut writing = tokio::spawn(async move {
        while let Some(bytes) = waiting.recv().await {
            writer.write_all(&bytes).await?;
            outgoing_len.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
        writer.shutdown().await
    });
    let mut buffer = vec![0; READ_LEN];
    let is_ours = loop {
        let outcome = tokio::select! {
            given_up = &mut closed => break given_up.is_err(),
            outcome = reader.read(&mut buffer) => outcome,
        };
        let bytes = match outcome {
            Ok(len @ 1..) => buffer.get(..len).unwrap_or_default().to_vec(),
            Ok(_) | Err(_) => break false,
        };
        if events.send(PeerEvent::Bytes(link, bytes)).await.is_err() {
            break true;
        }
    };
    if is_ours {
        // Unread bytes would turn the close into a reset, and the last word would be lost.
        let _ = timeout(CLOSE_PATIENCE, async {
            let _ = (&mut writing).await;
            while matches!(reader.read(&mut buffer).await, Ok(1..)) {}
        })
        .await;
    } else {
        let _ = events.send(PeerEvent::Closed(link)).await;
    }
    writing.abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let loaded = crate::config::load("dhcpd.conf", &mut |_| Ok(text.as_bytes().to_vec()));
        loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(false)))
    }

    fn pair(port: u16, peer_port: u16, peer: &str) -> Config {
        config(&format!(
            "failover peer \"x\" {{ primary; address 127.0.0.1; port {port}; peer address {peer}; peer port \
             {peer_port}; max-response-delay 60; max-unacked-updates 10; mclt 60; split 128; }}\n\
             subnet 10.0.0.0 netmask 255.255.255.0 {{ pool {{ failover peer \"x\"; range 10.0.0.10 10.0.0.20; }} }}"
        ))
    }

    /// A port that nobody listens on, as far as that can be known.
    fn free_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(Duration::from_secs(30), test).await.expect("in time") });
    }

    async fn next(peers: &mut Peers) -> String {
        let event = peers.next().await;
        let mut text = String::new();
        peers.take(event, |input| text = format!("{input:?}"));
        text
    }

    #[test]
    fn bytes_go_both_ways_and_the_last_word_is_flushed() {
        run(async {
            let (one, two) = (free_port(), free_port());
            let mut dialler = Peers::new(&pair(one, two, "127.0.0.1"));
            let mut listener = Peers::new(&pair(two, one, "127.0.0.1"));
            loop {
                dialler.dial(0);
                if next(&mut dialler).await.contains("dialled: true") {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
            let link = *dialler.connections.keys().next().unwrap();
            assert!(next(&mut listener).await.contains("dialled: false"));
            let other = *listener.connections.keys().next().unwrap();
            dialler.send(link, vec![1, 2, 3]);
            assert!(next(&mut listener).await.contains("bytes: [1, 2, 3]"));
            // Unread bytes on the way do not turn the close into a reset.
            dialler.send(link, vec![4; 10]);
            listener.send(other, vec![9; 1000]);
            listener.close(other);
            let mut len = 0;
            while len < 1000 {
                let event = dialler.next().await;
                assert!(matches!(event, PeerEvent::Bytes(..)), "{event:?} after {len}");
                dialler.take(event, |input| {
                    if let PeerInput::Bytes { bytes, .. } = input {
                        len += bytes.len();
                    }
                });
            }
            assert!(next(&mut dialler).await.contains("Closed"));
            assert!(dialler.connections.is_empty());
        });
    }

    #[test]
    fn a_stranger_is_closed_without_a_byte() {
        run(async {
            let port = free_port();
            let mut peers = Peers::new(&pair(port, 1, "127.0.0.2"));
            let mut stranger = loop {
                match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                    Ok(stream) => break stream,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            };
            let mut buffer = [0; 10];
            assert_eq!(stranger.read(&mut buffer).await.unwrap_or(0), 0);
            assert!(peers.try_next().is_none());
        });
    }

    #[test]
    fn a_partner_that_is_not_there_is_reported() {
        run(async {
            let mut peers = Peers::new(&pair(free_port(), free_port(), "127.0.0.1"));
            peers.dial(0);
            peers.dial(0);
            assert!(next(&mut peers).await.contains("Closed"));
            assert!(peers.try_next().is_none(), "one dial at a time");
            assert!(peers.complaints[0].as_ref().unwrap().contains("127.0.0.1"));
        });
    }

    #[test]
    fn a_partner_that_does_not_read_is_dropped() {
        run(async {
            let (one, two) = (free_port(), free_port());
            let mut peers = Peers::new(&pair(one, two, "127.0.0.1"));
            let lazy = std::net::TcpListener::bind(("127.0.0.1", two)).unwrap();
            peers.dial(0);
            assert!(next(&mut peers).await.contains("dialled: true"));
            let link = *peers.connections.keys().next().unwrap();
            for _ in 0..=OUTGOING_LEN_MAX / (1 << 20) {
                peers.send(link, vec![0; 1 << 20]);
            }
            assert!(next(&mut peers).await.contains("Closed"));
            drop(lazy);
        });
    }
}
