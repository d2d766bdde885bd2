//! Whoever is not the partner, or does not behave like one, at the failover port of a running server.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::time::Duration;

use dhcp_user::failover::BindingState;
use dhcp_user::failover::codec::{BndUpd, Body, Connect, ConnectAck, Decoder, Message, StateMessage, write_message};
use dhcp_user::failover::limits::{HALF_OPEN_MAX, HANDSHAKE_TIMEOUT};
use tests::agent::binary;
use tests::duo::{ADDRESSES, Duo, Kind, P, PATIENCE, S, Setup};
use tests::lab::{self, Namespace, until};
use tests::need;

use crate::act::{joins, lease_of, renews, stage};

/// Both are in normal, by the file: who meets its partner serves at once.
const BOTH_NORMAL: &str =
    "failover peer \"GSB\" state {\n  my state normal at epoch 1;\n  partner state normal at epoch 1;\n}\n";

fn duo() -> Duo {
    let [primary, secondary] = Setup::default().configurations();
    Duo::new([Kind::Ours, Kind::Ours], [&primary, &secondary], "off").unwrap()
}

/// A connection from a namespace to a server's failover port.
fn connect(from: &Namespace, server: usize) -> TcpStream {
    let to = SocketAddrV4::new(ADDRESSES[server], [647, 847][server]);
    let stream = from.enter(|| until("a connection", PATIENCE, || TcpStream::connect(to).ok())).unwrap().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Whether the other side has closed, without a byte.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(len) => len == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn refused(duo: &Duo, side: usize, reason: &str) -> u64 {
    duo.sides[side].status().unwrap()["links_refused"][reason].as_u64().unwrap_or(0)
}

#[test]
fn only_the_partners_address_is_heard() {
    need!("pair::strangers::address", stage());
    let mut duo = duo();
    duo.clients.ip("addr add 192.168.150.200/24 dev c0").unwrap();
    duo.sides[P].start().unwrap();
    for _ in 0..3 {
        assert!(is_closed(&mut connect(&duo.clients, P)), "a stranger hears nothing");
    }
    assert_eq!(refused(&duo, P, "stranger"), 3);
    let mut hello = [0; 3];
    connect(&duo.sides[S].namespace, P).read_exact(&mut hello).unwrap();
    assert_eq!(hello[2], 5, "the partner is met with CONNECT");
    assert_eq!(refused(&duo, P, "stranger"), 3);
}

#[test]
fn who_never_says_connect_has_few_places_and_loses_them_in_time() {
    need!("pair::strangers::half_open", stage());
    let mut duo = duo();
    duo.sides[S].start().unwrap();
    let begin = lab::now();
    let mut idle: Vec<TcpStream> = (0..HALF_OPEN_MAX).map(|_| connect(&duo.sides[P].namespace, S)).collect();
    // One of them says something all the time, and never the whole of it.
    let mut connect_message = vec![0, 200, 5, 12];
    connect_message.resize(200, 0);
    idle[0].set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    for _ in 0..2 {
        assert!(is_closed(&mut connect(&duo.sides[P].namespace, S)), "one too many");
    }
    assert!(begin.elapsed() < HANDSHAKE_TIMEOUT, "closed because there were too many, not because it was time");
    let mut bytes = connect_message.iter();
    let mut is_open = true;
    while is_open {
        assert!(begin.elapsed() < HANDSHAKE_TIMEOUT + PATIENCE, "still open");
        std::thread::sleep(Duration::from_millis(200));
        let byte = [*bytes.next().expect("it is closed before the message is whole")];
        is_open = idle[0].write_all(&byte).is_ok()
            && !matches!(idle[0].read(&mut [0]), Ok(0))
            && !idle[0].read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
    }
    assert!(begin.elapsed() >= HANDSHAKE_TIMEOUT, "not before its time");
    for stream in &mut idle[1..] {
        assert!(is_closed(stream));
    }
    // The places are free again.
    let mut partner = Partner::primary(&duo);
    assert!(partner.hears(|body| matches!(body, Body::State(_))), "the handshake is complete");
}

#[test]
fn connections_of_a_partner_that_comes_too_often_are_closed_at_once() {
    need!("pair::strangers::rate", stage());
    let mut duo = duo();
    duo.sides[P].start().unwrap();
    let begin = lab::now();
    let mut served = 0_u64;
    for _ in 0..60 {
        let mut stream = connect(&duo.sides[S].namespace, P);
        // A length that no message has.
        let _ = stream.write_all(&[0xff; 64]);
        served += u64::from(!is_closed(&mut stream));
    }
    // Sixteen at once and one in every second: those meet a CONNECT, and the rest nothing.
    let allowed = 17 + begin.elapsed().as_secs();
    assert!((1..=allowed).contains(&served), "{served} of 60 were served, {allowed} might have been");
    assert!(refused(&duo, P, "too-many") >= 60 - allowed);
    let said = duo.sides[P].process.as_ref().unwrap().said();
    let lines = said.iter().filter(|line| line.contains("failover")).count() as u64;
    assert!(lines <= 4 * allowed, "{lines} lines in the log");
}

/// A partner that a test plays.
struct Partner {
    stream: TcpStream,
    decoder: Decoder,
    xid: u32,
}

impl Partner {
    /// Plays the primary, up to CONNECT.
    fn primary(duo: &Duo) -> Self {
        let mut partner = Self::over(connect(&duo.sides[P].namespace, S));
        partner.says(Body::Connect(Connect {
            name: Some(b"GSB".to_vec()),
            updates_unacked_max: Some(10),
            receive_timer_secs: Some(60),
            vendor: Some(b"isc-4.4.3".to_vec()),
            version: Some(1),
            tls_request: Some(0),
            mclt_secs: Some(10),
            buckets: Some([0xff; 32]),
        }));
        partner.says(Body::State(StateMessage { state: 2, startup: false, since: Some(1), extra: None }));
        partner
    }

    /// Plays the secondary that is in normal.
    fn secondary(duo: &Duo) -> Self {
        let mut partner = Self::over(connect(&duo.sides[S].namespace, P));
        assert!(partner.hears(|body| matches!(body, Body::Connect(_))));
        partner.says(Body::ConnectAck(ConnectAck {
            name: Some(b"GSB".to_vec()),
            updates_unacked_max: Some(10),
            receive_timer_secs: Some(60),
            vendor: Some(b"isc-4.4.3".to_vec()),
            version: Some(1),
            ..ConnectAck::default()
        }));
        partner.says(Body::State(StateMessage { state: 2, startup: false, since: Some(1), extra: None }));
        partner
    }

    fn over(stream: TcpStream) -> Self {
        Self { stream, decoder: Decoder::default(), xid: 0 }
    }

    fn message(&mut self, body: Body) -> Vec<u8> {
        let mut bytes = Vec::new();
        let message = Message { time: lab::unix_secs() as u32, xid: self.xid, body };
        write_message(&message, &mut bytes).unwrap();
        self.xid += 1;
        bytes
    }

    fn says(&mut self, body: Body) {
        let bytes = self.message(body);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Whether a message like this comes before the end.
    fn hears(&mut self, is_meant: impl Fn(&Body) -> bool) -> bool {
        let mut buffer = [0; 4096];
        loop {
            while let Some(message) = self.decoder.take_message().unwrap() {
                if is_meant(&message.body) {
                    return true;
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(len @ 1..) => self.decoder.push(&buffer[..len]),
                Ok(0) | Err(_) => return false,
            }
        }
    }
}

/// Memory that a process has touched, in KiB.
fn resident(duo: &Duo, side: usize) -> u64 {
    let id = duo.sides[side].process.as_ref().unwrap().id();
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_flood_of_a_partner_is_bounded_and_harms_neither_clients_nor_leases() {
    need!("pair::strangers::flood", stage());
    let mut duo = duo();
    duo.sides[P].write("dhcpd.leases", BOTH_NORMAL);
    duo.sides[P].start().unwrap();
    let mut listening = Some(Partner::secondary(&duo));
    duo.wait("normal", |duo| duo.sides[P].states().0 == "normal");
    let mut client = joins(&duo, 1, P);
    let held = lease_of(&client).address;
    let before = resident(&duo, P);

    // Lies about the client's lease and everybody else's, first by one that hears the answers, then by one that does not.
    let mut longest = Duration::ZERO;
    let mut most = 0;
    for reads in [true, false] {
        let mut speaker = if reads { listening.take().unwrap() } else { Partner::secondary(&duo) };
        let flood = lies(&mut speaker, held);
        let flood_len = flood.len();
        let sender = std::thread::spawn({
            let mut stream = speaker.stream.try_clone().unwrap();
            move || {
                let begin = lab::now();
                let mut sent = 0;
                while begin.elapsed() < Duration::from_secs(if reads { 3 } else { 30 })
                    && stream.write_all(&flood).is_ok()
                {
                    sent += flood.len();
                }
                sent
            }
        });
        let listener = reads.then(|| {
            let mut stream = speaker.stream.try_clone().unwrap();
            std::thread::spawn(move || while matches!(stream.read(&mut [0; 65_536]), Ok(1..)) {})
        });
        while !sender.is_finished() {
            let begin = lab::now();
            let secs = renews(&duo, &mut client);
            assert!(secs <= 10, "what a partner has not acknowledged is MCLT: {secs}");
            longest = longest.max(begin.elapsed());
            most = most.max(resident(&duo, P));
        }
        let sent = sender.join().unwrap();
        assert!(sent >= flood_len, "a flood: {sent} bytes");
        let ends: &[&str] = if reads {
            // Bytes that are no message end it, unless it has been faster than the disk before.
            let _ = speaker.stream.write_all(&[0xff; 4096]);
            &["disconnected (malformed message)", "disconnected (partner does not keep to its window)"]
        } else {
            &["a failover partner does not read: connection closed"]
        };
        says(&mut duo, ends);
        duo.wait("the end", |duo| duo.sides[P].states().0 == "communications-interrupted");
        listener.map(std::thread::JoinHandle::join);
    }
    assert!(most < before + 96 * 1024, "from {before} to {most} KiB");
    assert!(longest < Duration::from_secs(5), "a client waited {longest:?}");

    let record = duo.sides[P].record(held).unwrap();
    assert_eq!(record.value("binding state"), Some("active"));
    assert!(record.value("hardware").unwrap().starts_with("ethernet 02:00:00:77"), "{record:?}");
    let said = duo.sides[P].process.as_ref().unwrap().said();
    let lines = said.iter().filter(|line| !line.starts_with("DHCP")).count();
    assert!(lines < 200, "{lines} lines in the log besides the client's");
    duo.sides[P].stop().unwrap();
    let [conf, leases] = ["dhcpd.conf", "dhcpd.leases"].map(|name| duo.sides[P].folder.path().join(name));
    let check = Command::new(binary()).args(["-T", "-cf"]).arg(conf).arg("-lf").arg(leases).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

/// Waits until one of these is in the log.
fn says(duo: &mut Duo, words: &[&str]) {
    let said = |duo: &Duo| duo.sides[P].process.as_ref().unwrap().said();
    duo.wait("the log", |duo| said(duo).iter().any(|line| words.iter().any(|words| line.contains(words))));
}

/// Updates by the thousand about addresses that the partner does not share, one that it may give, and one whose lease runs.
fn lies(speaker: &mut Partner, held: Ipv4Addr) -> Vec<u8> {
    let mut flood = Vec::new();
    let now = lab::unix_secs() as u32;
    for round in 0..200_u32 {
        for last in [40, 41, 42, 43, 44, 45, 46, 47, 69, held.octets()[3]] {
            let address = Ipv4Addr::new(192, 168, 150, last);
            let lie = if address == held { BindingState::Free } else { BindingState::Active };
            flood.extend(speaker.message(Body::BndUpd(BndUpd {
                address: Some(address),
                status: Some(lie.wire()),
                chaddr: Some(vec![1, 2, 0xbb, 0, round as u8, 0, last]),
                lease_expiry: Some(now + 600),
                potential_expiry: Some(now + 900),
                since: Some(now),
                cltt: Some(now + round),
                ..BndUpd::default()
            })));
        }
        flood.extend(speaker.message(Body::Contact));
    }
    flood
}
