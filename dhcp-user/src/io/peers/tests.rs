//! Two ends on the loopback interface.

use std::time::Duration;

use tokio::{
    io::AsyncReadExt as _,
    time::{sleep, timeout},
};

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
