//! Sockets of failover links: listening, dialling, and the tasks that read and write.

use std::{
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
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{PeerEvent, Place};
use crate::engine::port::Token;

/// Bytes that are read at once: about three hundred updates.
const READ_LEN: usize = 32 * 1024;
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

/// Accepts connections of partners on one address and port, for ever.
pub(super) async fn listen(
    address: SocketAddrV4,
    partners: Vec<(usize, Vec<Ipv4Addr>)>,
    sender: mpsc::Sender<PeerEvent>,
) {
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

pub(super) async fn dial(place: &Place) -> io::Result<TcpStream> {
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
pub(super) async fn serve(
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
