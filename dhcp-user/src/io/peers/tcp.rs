//! Sockets of failover links: listening, dialling, showing the key, and the tasks that read and write.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    PeerEvent, Place, Refusals, Wire, key,
    seal::{self, Distrust, GREETING_LEN, Greeted, MAGIC, PROOF_LEN, Seal},
};
use crate::{engine::port::Token, io::clock, lease::time::BootTime};

/// Bytes that are read at once: about three hundred updates.
const READ_LEN: usize = 32 * 1024;
/// How long a dial may take.
const DIAL_PATIENCE: Duration = Duration::from_secs(5);
/// How long the other side may take to show that it has the key.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);
/// How long the place of a greeting that failed stays taken: with four places, four attempts in a second.
const DISTRUST_PAUSE: Duration = Duration::from_secs(1);
/// How long a closed connection may take to flush what was said last.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// How long after a failed `listen` it is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// Pause after a connection, whoever it is from: a hundred in a second at most.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Connections that a partner may make at once; it needs one, and another one five seconds after that has failed.
const PARTNER_BURST: u32 = 16;
/// How often it may make one more.
const PARTNER_EVERY: Duration = Duration::from_secs(1);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 16;

const SILENT: &str = "it does not show a key (xdhcpd-link-key-file in both files, or in neither)";
const GONE: &str =
    "it closes the connection instead of showing a key: it has another one, or none (xdhcpd-link-key-file)";
const PROTECTED: &str = "it wants a link that a key protects, and this server has no key for it (xdhcpd-link-key-file in \
                         both files, or in neither)";

/// Accepts connections of partners on one address and port, for ever.
pub(super) async fn listen(
    address: SocketAddrV4,
    partners: Vec<(usize, Place)>,
    sender: mpsc::Sender<PeerEvent>,
    refusals: Arc<Refusals>,
) {
    let mut complaint = None;
    let mut allowances: Vec<Allowance> = partners.iter().map(|_| Allowance::new()).collect();
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
                    let mut partners = partners.iter().zip(&mut allowances);
                    let partner = partners.find(|((_, place), _)| match source.ip() {
                        IpAddr::V4(source) => place.partner.contains(&source),
                        IpAddr::V6(_) => false,
                    });
                    if let Some(((peer, place), allowance)) = partner {
                        if !allowance.take(clock::boot_time()) {
                            debug!("failover peer {}: it connects too often: closed", place.name);
                            refusals.crowd.fetch_add(1, Ordering::Relaxed);
                        } else if !admit(*peer, place, stream, &sender, &refusals).await {
                            return;
                        }
                    } else {
                        debug!("failover: connection from {}, which is no partner of ours: closed", source.ip());
                        refusals.strangers.fetch_add(1, Ordering::Relaxed);
                        drop(stream);
                    }
                }
                // Out of descriptors, or the connection is gone already.
                Err(error) => debug!("failover: accept: {error}"),
            }
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// How many connections a partner may make.
struct Allowance {
    left: u32,
    /// Up to when it has been filled up.
    filled: Option<BootTime>,
}

impl Allowance {
    const fn new() -> Self {
        Self { left: PARTNER_BURST, filled: None }
    }

    /// Whether there is one more.
    fn take(&mut self, now: BootTime) -> bool {
        let filled = *self.filled.get_or_insert(now);
        let earned = u32::try_from(now.since(filled).as_secs() / PARTNER_EVERY.as_secs()).unwrap_or(u32::MAX);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(PARTNER_BURST);
            self.filled = Some(filled.after(PARTNER_EVERY.saturating_mul(earned)));
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

fn bind(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::V4(address))?;
    socket.listen(BACKLOG)
}

/// A connection from the partner's address: passed on, or first asked for the key. Whether anybody still listens.
async fn admit(
    peer: usize,
    place: &Place,
    stream: TcpStream,
    sender: &mpsc::Sender<PeerEvent>,
    refusals: &Refusals,
) -> bool {
    let Some(file) = place.key_file.clone() else {
        let wire = Wire { stream, seal: None };
        return sender.send(PeerEvent::Connected { peer, wire, dialled: false }).await.is_ok();
    };
    match Arc::clone(&place.greetings).try_acquire_owned() {
        Ok(permit) => {
            tokio::spawn(welcome(peer, place.clone(), file, stream, permit, sender.clone()));
        }
        Err(_) => {
            debug!("failover peer {}: too many connections wait to show the key: closed", place.name);
            refusals.crowd.fetch_add(1, Ordering::Relaxed);
        }
    }
    true
}

/// Lets a connection of the partner's show that it has the key, and passes it on.
async fn welcome(
    peer: usize,
    place: Place,
    file: Arc<str>,
    mut stream: TcpStream,
    permit: OwnedSemaphorePermit,
    sender: mpsc::Sender<PeerEvent>,
) {
    let outcome = timeout(GREETING_PATIENCE, show_as_listener(&mut stream, &file, &place)).await;
    // The loop may be gone: then nobody needs to know.
    match outcome.unwrap_or_else(|_| Err(SILENT.to_owned())) {
        Ok(seal) => {
            let wire = Wire { stream, seal: Some(seal) };
            let _ = sender.send(PeerEvent::Connected { peer, wire, dialled: false }).await;
        }
        Err(error) => {
            drop(stream);
            let _ = sender.send(PeerEvent::Refused { peer, error }).await;
            sleep(DISTRUST_PAUSE).await;
        }
    }
    drop(permit);
}

async fn show_as_listener(stream: &mut TcpStream, file: &str, place: &Place) -> Result<Seal, String> {
    let key = key::read(Path::new(file))?;
    let greeting = read_greeting(stream).await?;
    let (mut seal, answer) = seal::accept(&key, &greeting, place.role).map_err(|why| why.to_string())?;
    stream.write_all(&answer).await.map_err(|_| GONE)?;
    let mut proof = [0; PROOF_LEN];
    stream.read_exact(&mut proof).await.map_err(|_| GONE)?;
    seal.accept_proof(&proof).map_err(|why| why.to_string())?;
    Ok(seal)
}

async fn show_as_dialler(stream: &mut TcpStream, file: &str, place: &Place) -> Result<Seal, String> {
    let key = key::read(Path::new(file))?;
    let (greeted, greeting) = Greeted::begin(&key, place.role).map_err(|why| why.to_string())?;
    stream.write_all(&greeting).await.map_err(|_| GONE)?;
    let answer = read_greeting(stream).await?;
    let (seal, proof) = greeted.finish(&answer, place.role).map_err(|why| why.to_string())?;
    stream.write_all(&proof).await.map_err(|_| GONE)?;
    Ok(seal)
}

/// What the other side says first, without its magic number.
async fn read_greeting(stream: &mut TcpStream) -> Result<[u8; GREETING_LEN], String> {
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).await.map_err(|_| GONE)?;
    if magic != MAGIC {
        return Err(Distrust::Plain.to_string());
    }
    let mut greeting = [0; GREETING_LEN];
    stream.read_exact(&mut greeting).await.map_err(|_| GONE)?;
    Ok(greeting)
}

/// Connects, and shows the key where there is one.
///
/// # Errors
/// Why not, in a sentence.
pub(super) async fn dial(place: &Place) -> Result<Wire, String> {
    let mut stream = connect(place).await.map_err(|error| error.to_string())?;
    let Some(file) = &place.key_file else { return Ok(Wire { stream, seal: None }) };
    match timeout(GREETING_PATIENCE, show_as_dialler(&mut stream, file, place)).await {
        Ok(seal) => Ok(Wire { seal: Some(seal?), stream }),
        Err(_) => Err(SILENT.to_owned()),
    }
}

async fn connect(place: &Place) -> io::Result<TcpStream> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "its `peer address` has no address"));
    for partner in &place.partner {
        let to = SocketAddrV4::new(*partner, place.partner_port);
        outcome = connect_one(*place.listens.ip(), to).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The partner knows us by our address only, so the connection has to come from it.
async fn connect_one(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::V4(SocketAddrV4::new(from, 0)))?;
    match timeout(DIAL_PATIENCE, socket.connect(SocketAddr::V4(to))).await {
        Ok(outcome) => outcome.map_err(|error| io::Error::new(error.kind(), format!("{to}: {error}"))),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{to}: no answer"))),
    }
}

/// Reads and writes one connection until either side ends it.
pub(super) async fn serve(
    link: Token,
    wire: Wire,
    mut waiting: mpsc::UnboundedReceiver<Vec<u8>>,
    outgoing_len: Arc<AtomicUsize>,
    mut closed: oneshot::Receiver<()>,
    events: mpsc::Sender<PeerEvent>,
) {
    let (mut reader, mut writer) = wire.stream.into_split();
    let (mut sealer, mut opener) = wire.seal.map(|seal| (seal.sealer, seal.opener)).unzip();
    let mut writing = tokio::spawn(async move {
        while let Some(bytes) = waiting.recv().await {
            match &mut sealer {
                Some(sealer) => writer.write_all(&sealer.seal(&bytes).map_err(io::Error::other)?).await?,
                None => writer.write_all(&bytes).await?,
            }
            outgoing_len.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
        writer.shutdown().await
    });
    let mut buffer = vec![0; READ_LEN];
    let mut is_first = true;
    let mut trouble = None;
    let is_ours = loop {
        let outcome = tokio::select! {
            given_up = &mut closed => break given_up.is_err(),
            outcome = reader.read(&mut buffer) => outcome,
        };
        let bytes = match outcome {
            Ok(len @ 1..) => buffer.get(..len).unwrap_or_default(),
            Ok(_) | Err(_) => break false,
        };
        let bytes = match &mut opener {
            Some(opener) => opener.open(bytes).map_err(|why| why.to_string()),
            None if is_first && bytes.starts_with(&MAGIC) => Err(PROTECTED.to_owned()),
            None => Ok(bytes.to_vec()),
        };
        is_first = false;
        match bytes {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => {
                if events.send(PeerEvent::Bytes(link, bytes)).await.is_err() {
                    break true;
                }
            }
            Err(why) => {
                trouble = Some(why);
                break false;
            }
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
        let _ = events.send(PeerEvent::Closed(link, trouble)).await;
    }
    writing.abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partner_may_connect_sixteen_times_at_once_and_once_in_a_second() {
        let mut allowance = Allowance::new();
        let begin = BootTime::default();
        let at = |millis: u64| begin.after(Duration::from_millis(millis));
        assert_eq!((0..100).filter(|_| allowance.take(at(0))).count(), 16);
        assert!(!allowance.take(at(999)));
        assert!(allowance.take(at(1000)) && !allowance.take(at(1500)));
        assert!(allowance.take(at(2000)) && !allowance.take(at(2999)), "halves are not lost");
        assert_eq!((0..100).filter(|_| allowance.take(at(3_600_000))).count(), 16, "never more at once");
    }
}
