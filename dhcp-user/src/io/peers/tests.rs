//! Two ends on the loopback interface.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
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
        assert!(peers.complaints[0].dialled.as_ref().unwrap().contains("127.0.0.1"));
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

/// A configuration of one side whose link has a key.
fn keyed(port: u16, peer_port: u16, role: &str, file: &str) -> Config {
    let text = format!(
        "failover peer \"x\" {{ {role} address 127.0.0.1; port {port}; peer address 127.0.0.1; peer port {peer_port}; \
         max-response-delay 60; max-unacked-updates 10; {file} }}\n\
         subnet 10.0.0.0 netmask 255.255.255.0 {{ pool {{ failover peer \"x\"; range 10.0.0.10 10.0.0.20; }} }}"
    );
    config(&text)
}

const PRIMARY: &str = "primary; mclt 60; split 128;";
const SECONDARY: &str = "secondary;";

/// A file with a key made of one byte, removed at the end.
struct KeyFile(std::path::PathBuf);

impl KeyFile {
    fn new(name: &str, text: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("xdhcpd-link-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self(path)
    }

    fn statement(&self) -> String {
        format!("xdhcpd-link-key-file \"{}\";", self.0.display())
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const KEY: &str = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ+/8=";
const OTHER_KEY: &str = "4q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ+/8=";

/// Dials until the listener is there: what each of the two hears of it.
async fn dials(peers: &mut Peers, other: &mut Peers) -> (String, String) {
    let dialled = async {
        loop {
            peers.dial(0);
            let outcome = next(peers).await;
            if peers.complaints[0].dialled.take_if(|said| said.contains("Connection refused")).is_none() {
                return outcome;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::join!(dialled, next(other))
}

#[test]
fn with_the_same_key_bytes_go_both_ways_and_nobody_on_the_way_can_read_them() {
    run(async {
        let file = KeyFile::new("same", KEY);
        let (one, two, tap) = (free_port(), free_port(), free_port());
        let mut dialler = Peers::new(&keyed(one, tap, PRIMARY, &file.statement()));
        let mut listener = Peers::new(&keyed(two, one, SECONDARY, &file.statement()));
        // Somebody on the way, who keeps what goes by.
        let wire = tokio::net::TcpListener::bind(("127.0.0.1", tap)).await.unwrap();
        let seen = tokio::spawn(async move {
            let (mut from, _) = wire.accept().await.unwrap();
            let mut to = loop {
                match TcpStream::connect((Ipv4Addr::LOCALHOST, two)).await {
                    Ok(stream) => break stream,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            };
            let (mut a, mut b) = (vec![0; 4096], vec![0; 4096]);
            let mut kept = Vec::new();
            loop {
                tokio::select! {
                    len = from.read(&mut a) => match len {
                        Ok(len @ 1..) => { kept.extend_from_slice(&a[..len]); to.write_all(&a[..len]).await.unwrap(); }
                        _ => break kept,
                    },
                    len = to.read(&mut b) => match len {
                        Ok(len @ 1..) => { kept.extend_from_slice(&b[..len]); from.write_all(&b[..len]).await.unwrap(); }
                        _ => break kept,
                    },
                }
            }
        });
        let (dialled, accepted) = dials(&mut dialler, &mut listener).await;
        assert!(dialled.contains("dialled: true") && accepted.contains("dialled: false"), "{dialled} {accepted}");
        assert!(dialler.link(0).is_protected && dialler.link(0).trouble.is_none());
        let link = *dialler.connections.keys().next().unwrap();
        let other = *listener.connections.keys().next().unwrap();
        dialler.send(link, b"the name of a client".to_vec());
        assert!(next(&mut listener).await.contains(&format!("{:?}", b"the name of a client")));
        listener.send(other, vec![9; 100_000]);
        listener.close(other);
        let mut len = 0;
        while len < 100_000 {
            let event = dialler.next().await;
            assert!(matches!(event, PeerEvent::Bytes(..)), "{event:?} after {len}");
            dialler.take(event, |input| {
                if let PeerInput::Bytes { bytes, .. } = input {
                    assert!(bytes.iter().all(|byte| *byte == 9));
                    len += bytes.len();
                }
            });
        }
        assert!(next(&mut dialler).await.contains("Closed"), "the last word was flushed");
        let kept = seen.await.unwrap();
        assert!(kept.len() > 100_000 && !kept.windows(4).any(|four| four == [9; 4] || four == *b"name"));
    });
}

#[test]
fn another_key_and_no_key_are_refused_on_either_side_with_a_sentence_and_never_a_plain_byte() {
    run(async {
        let (good, bad) = (KeyFile::new("good", KEY), KeyFile::new("bad", OTHER_KEY));
        let none = String::new();
        let cases = [
            // What the dialler has, the listener, and what each says of the other.
            (&good.statement(), &bad.statement(), "it closes the connection instead", "it has another key"),
            (&good.statement(), &none, "it closes the connection instead", "it wants a link that a key protects"),
        ];
        for (dials_with, listens_with, dialler_says, listener_says) in cases {
            let (one, two) = (free_port(), free_port());
            let mut dialler = Peers::new(&keyed(one, two, PRIMARY, dials_with));
            let mut listener = Peers::new(&keyed(two, one, SECONDARY, listens_with));
            let (dialled, accepted) = dials(&mut dialler, &mut listener).await;
            assert!(dialled.contains("Closed"), "{dialled}");
            if listens_with.is_empty() {
                assert!(accepted.contains("Connected"), "as far as a plain server can see");
                assert!(next(&mut listener).await.contains("Closed"));
            } else {
                assert_eq!(accepted, "", "the engine hears nothing of it");
            }
            assert!(dialler.link(0).trouble.unwrap().contains(dialler_says));
            assert!(listener.link(0).trouble.unwrap().contains(listener_says));
            assert!(dialler.connections.is_empty() && listener.connections.is_empty());
            assert_eq!(listener.refused(), [("stranger", 0), ("too-many", 0), ("key", 1)]);
        }

        // A plain primary speaks first on whatever comes in: to one with a key that is no greeting.
        let (one, two) = (free_port(), free_port());
        let mut dialler = Peers::new(&keyed(one, two, SECONDARY, &good.statement()));
        let plain = tokio::net::TcpListener::bind(("127.0.0.1", two)).await.unwrap();
        let talks = tokio::spawn(async move {
            let (mut stream, _) = plain.accept().await.unwrap();
            stream.write_all(&[0, 64, 5, 12]).await.unwrap();
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard).await;
            heard
        });
        dialler.dial(0);
        assert!(next(&mut dialler).await.contains("Closed"));
        assert!(dialler.link(0).trouble.unwrap().contains("it speaks without protection"));
        assert_eq!(talks.await.unwrap().len(), seal::MAGIC.len() + seal::GREETING_LEN, "a greeting, and no more");
    });
}

#[test]
fn a_key_file_that_is_gone_closes_the_link_and_a_new_key_takes_effect_with_the_next_connection() {
    run(async {
        let (good, bad) = (KeyFile::new("kept", KEY), KeyFile::new("changed", OTHER_KEY));
        let (one, two) = (free_port(), free_port());
        let mut dialler = Peers::new(&keyed(one, two, PRIMARY, &good.statement()));
        let mut listener = Peers::new(&keyed(two, one, SECONDARY, &bad.statement()));
        let (dialled, _) = dials(&mut dialler, &mut listener).await;
        assert!(dialled.contains("Closed"), "{dialled}");
        std::fs::write(&bad.0, KEY).unwrap();
        let (dialled, accepted) = dials(&mut dialler, &mut listener).await;
        assert!(dialled.contains("Connected") && accepted.contains("Connected"), "{dialled} {accepted}");
        std::fs::remove_file(&bad.0).unwrap();
        let (dialled, _) = dials(&mut dialler, &mut listener).await;
        assert!(dialled.contains("Closed"), "{dialled}");
        assert!(listener.link(0).trouble.unwrap().contains("cannot be read"));
    });
}

#[test]
fn those_who_say_nothing_have_few_places_and_lose_them_in_time() {
    run(async {
        let file = KeyFile::new("silent", KEY);
        let (one, two) = (free_port(), free_port());
        let mut listener = Peers::new(&keyed(one, two, PRIMARY, &file.statement()));
        let mut silent = Vec::new();
        while silent.len() < HALF_OPEN_MAX + 3 {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, one)).await {
                Ok(stream) => silent.push(stream),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
        let mut byte = [0];
        for stream in &mut silent[HALF_OPEN_MAX..] {
            assert_eq!(stream.read(&mut byte).await.unwrap_or(0), 0, "no place: closed at once");
        }
        assert_eq!(listener.refused()[1], ("too-many", 3));
        for stream in &mut silent[..HALF_OPEN_MAX] {
            assert_eq!(stream.read(&mut byte).await.unwrap_or(0), 0, "closed when the time is over, without a byte");
        }
        for _ in 0..HALF_OPEN_MAX {
            assert_eq!(next(&mut listener).await, "", "the engine hears nothing of it");
        }
        assert!(listener.link(0).trouble.unwrap().contains("it does not show a key"));
        assert_eq!(listener.refused()[2], ("key", HALF_OPEN_MAX as u64));
    });
}

#[test]
fn rubbish_on_a_protected_link_ends_it() {
    run(async {
        let file = KeyFile::new("rubbish", KEY);
        let (one, two) = (free_port(), free_port());
        let mut listener = Peers::new(&keyed(one, two, PRIMARY, &file.statement()));
        let mut stream = loop {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, one)).await {
                Ok(stream) => break stream,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        let key = key::read(&file.0).unwrap();
        let (greeted, greeting) = seal::Greeted::begin(&key, Role::Secondary).unwrap();
        stream.write_all(&greeting).await.unwrap();
        let mut answer = [0; seal::MAGIC.len() + seal::GREETING_LEN];
        stream.read_exact(&mut answer).await.unwrap();
        let (mut seal, proof) = greeted.finish(&answer[seal::MAGIC.len()..], Role::Secondary).unwrap();
        stream.write_all(&proof).await.unwrap();
        assert!(next(&mut listener).await.contains("Connected"));
        let record = seal.sealer.seal(b"hello").unwrap();
        stream.write_all(&record).await.unwrap();
        assert!(next(&mut listener).await.contains(&format!("{:?}", b"hello")));
        // The same once more: whoever has recorded it gets nowhere.
        stream.write_all(&record).await.unwrap();
        assert!(next(&mut listener).await.contains("Closed"));
        assert!(listener.link(0).trouble.unwrap().contains("altered on the way"));
        assert_eq!(listener.refused()[2], ("key", 1));
    });
}
