//! Real sessions of dhcpd, message by message.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;

use dhcp_user::failover::Buckets;
use dhcp_user::failover::codec::{
    BndAck, BndUpd, Body, Connect, ConnectAck, Decoder, Message, Refusal, StateMessage, option, parse_message,
    write_message,
};

use tests::failover::streams;
use tests::lab::{Folder, program, run};
use tests::need;
use tests::pcap::{Direction, write_capture};

/// Whether these bytes were written by a script rather than by dhcpd.
fn is_scripted(file: &str, direction: Direction) -> bool {
    match file.as_bytes() {
        [b'0', b'7', ..] => direction.0 == [10, 78, 0, 1],
        [b'0', b'8' | b'9', ..] => direction.0 == [10, 78, 0, 2],
        _ => false,
    }
}

fn written(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    write_message(message, &mut out).unwrap();
    out
}

#[test]
fn every_message_of_dhcpd_is_written_back_byte_for_byte() {
    let mut by_type = [0_usize; 256];
    for (file, direction, bytes) in streams() {
        if is_scripted(&file, direction) {
            continue;
        }
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        let mut at = 0;
        while let Some(message) =
            decoder.take_message().unwrap_or_else(|why| panic!("{file} {direction:?} {at}: {why}"))
        {
            let again = written(&message);
            assert_eq!(again, bytes[at..at + again.len()], "{file} {direction:?} at {at}: {message:?}");
            by_type[usize::from(bytes[at + 2])] += 1;
            at += again.len();
        }
        assert_eq!(at, bytes.len(), "{file} {direction:?}: nothing is left over");
    }
    for (kind, count) in by_type.iter().enumerate().take(13).skip(1) {
        assert!(*count > 0, "no message of type {kind} in the captures");
    }
    assert!(by_type.iter().sum::<usize>() > 700, "{by_type:?}");
}

#[test]
fn what_scripts_sent_is_read_or_refused() {
    let mut refused = 0;
    for (file, direction, bytes) in streams() {
        if !is_scripted(&file, direction) {
            continue;
        }
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        loop {
            match decoder.take_message() {
                Ok(Some(message)) => assert!(!written(&message).is_empty()),
                Ok(None) => break,
                Err(_) => {
                    refused += 1;
                    break;
                }
            }
        }
    }
    assert!(refused >= 4, "bad lengths, duplicates, sizes: {refused}");
}

/// What tshark's dissector says of messages: a line of fields for each segment, and everything at all in words.
struct Dissected {
    /// Types of all messages, in order.
    kinds: Vec<u8>,
    /// Whatever is malformed, or has an expert note of a warning or worse.
    complaints: String,
    /// The whole tree.
    text: String,
}

/// Runs tshark's dissector over messages.
fn dissect(name: &str, messages: &[Vec<u8>]) -> Dissected {
    let folder = Folder::new(name).unwrap();
    let path = folder.path().join("messages.pcap");
    std::fs::write(&path, write_capture(messages)).unwrap();
    let ask = |arguments: &[&str]| {
        let mut command = Command::new("tshark");
        run(command.args(["-d", "tcp.port==647,dhcpfo"]).args(arguments).arg("-r").arg(&path)).unwrap()
    };
    let kinds = ask(&["-T", "fields", "-e", "dhcpfo.type"]);
    Dissected {
        kinds: kinds.split([',', '\n']).filter_map(|kind| kind.trim().parse().ok()).collect(),
        complaints: ask(&["-Y", "_ws.malformed or _ws.expert.severity >= 6291456"]),
        text: ask(&["-O", "dhcpfo"]),
    }
}

#[test]
fn tshark_finds_nothing_malformed_in_what_we_write() {
    need!("failover::captures::tshark", program("tshark"));
    let mut messages = Vec::new();
    for (file, direction, bytes) in streams() {
        if is_scripted(&file, direction) {
            continue;
        }
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        while let Ok(Some(message)) = decoder.take_message() {
            messages.push(written(&message));
        }
    }
    let dissected = dissect("captures", &messages);
    assert_eq!(dissected.complaints, "");
    assert!(dissected.kinds.iter().eq(messages.iter().map(|message| &message[2])), "the dissector sees every message");
}

/// Every message that there is, each with every option that it may carry.
fn everything() -> Vec<Message> {
    let refusal = |reason: u8| Refusal { reason: Some(reason), message: Some(b"why not".to_vec()) };
    let connect = Connect {
        name: Some(b"GSB".to_vec()),
        updates_unacked_max: Some(100),
        receive_timer_secs: Some(20),
        vendor: Some(b"isc-4.4.3-P1".to_vec()),
        version: Some(1),
        tls_request: Some(0),
        mclt_secs: Some(3600),
        buckets: Some(Buckets::split(128).0),
    };
    let ack = |refusal| ConnectAck {
        name: Some(b"GSB".to_vec()),
        updates_unacked_max: Some(100),
        receive_timer_secs: Some(20),
        vendor: Some(b"isc-4.4.3-P1".to_vec()),
        version: Some(1),
        tls_reply: Some(0),
        extra: Some(vec![1, 0, 1, 7]),
        refusal,
    };
    let update = |status: u8| BndUpd {
        address: Some(Ipv4Addr::new(192, 168, 150, 50)),
        status: Some(status),
        client_id: (status != 5).then(|| vec![1, 2, 0, 0, 0, 0, 1]),
        chaddr: (status != 5).then(|| vec![1, 2, 0, 0, 0, 0, 1]),
        lease_expiry: Some(1_795_337_388),
        potential_expiry: Some(1_795_337_688),
        since: Some(1_795_336_788),
        cltt: Some(1_795_336_788),
        flags: Some(option::FLAG_RESERVED | option::FLAG_BOOTP),
        extra: Some(b"\x01\x00\x08portable".to_vec()),
    };
    let mut bodies = vec![
        Body::PoolReq,
        Body::PoolResp { transferred: Some(25) },
        Body::BndAck(BndAck { address: update(2).address, refusal: Refusal::default() }),
        Body::Connect(connect),
        Body::ConnectAck(ack(Refusal::default())),
        Body::UpdReqAll,
        Body::UpdDone,
        Body::UpdReq,
        Body::Contact,
    ];
    bodies.extend((1..=7).map(|status| Body::BndUpd(update(status))));
    for reason in [1, 2, 3, 4, 5, 6, 7, 8, 16, 18, 19] {
        bodies.push(Body::BndAck(BndAck { address: update(2).address, refusal: refusal(reason) }));
        bodies.push(Body::ConnectAck(ack(refusal(reason))));
        bodies.push(Body::Disconnect(refusal(reason)));
    }
    for state in (2..=11).chain([254]) {
        for startup in [false, true] {
            let (since, extra) = (Some(1_795_336_788), Some(vec![1, 0, 1, 7]));
            bodies.push(Body::State(StateMessage { state, startup, since, extra }));
        }
    }
    bodies.into_iter().zip(1..).map(|(body, xid)| Message { time: 1_795_336_788, xid, body }).collect()
}

#[test]
fn every_message_and_option_that_we_write_is_known_to_tshark() {
    need!("failover::captures::everything", program("tshark"));
    let messages: Vec<Vec<u8>> = everything().iter().map(written).collect();
    for (message, bytes) in everything().iter().zip(&messages) {
        assert_eq!(parse_message(bytes).as_ref(), Ok(message));
    }
    let dissected = dissect("everything", &messages);
    assert_eq!(dissected.complaints, "");
    assert!(dissected.kinds.iter().eq(messages.iter().map(|message| &message[2])), "{:?}", dissected.kinds);
    let kinds: BTreeSet<u8> = dissected.kinds.iter().copied().collect();
    assert!(kinds.into_iter().eq(1..=12), "all twelve");
    // "DHCP Style Option, server-state (24), Normal (2)"
    let options = dissected.text.lines().filter_map(|line| line.trim().strip_prefix("DHCP Style Option, "));
    let codes: BTreeSet<u16> =
        options.filter_map(|line| line.split_once(" (")?.1.split_once(')')?.0.parse().ok()).collect();
    // What nobody writes: replies and requests of the client (7, 8), DDNS (9), delayed service (10), digests (17).
    let ours = (1..=option::HIGHEST).filter(|code| !matches!(code, 7..=10 | 17));
    assert!(codes.iter().copied().eq(ours), "{codes:?}");
    // The number of recover-wait is dhcpd's own; reason 6 is called so.
    let unknown = dissected.text.lines().find(|line| {
        line.contains("nknown") && !line.contains("Unknown (254)") && !line.contains("unknown reason (6)")
    });
    assert_eq!(unknown, None);
}
