//! The shield in its three modes: what is hostile is dropped, counted, or not looked at; an honest client never
//! notices any of them.

use std::net::Ipv4Addr;

use dhcp_ebpf::{
    abi::{Counter, ShieldMode},
    decide::Verdict,
};
use tests::{
    fastpath::{ADDRESS, CLIENT_MAC, SERVER, SERVER_MAC, renewal, unicast},
    frames::{self, Envelope, Message},
    need,
};

use crate::stage::{LAST, Stage, plain};

const MODES: [ShieldMode; 3] = [ShieldMode::Off, ShieldMode::Monitor, ShieldMode::Enforce];

/// Runs a frame, and says whether the shield counted it besides.
fn run(stage: &mut Stage, frame: &[u8], seen: Counter) -> (Verdict, bool) {
    stage.reached.clear();
    let verdict = stage.run(frame).0;
    (verdict, stage.reached.contains(&seen))
}

#[test]
fn what_is_no_bootp_message_is_counted_or_dropped() {
    let mut stage = need!("kernel::shield-malformed", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    let good = unicast(&message);
    let poked = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        frame
    };
    let of_len = |len: usize| Envelope::unicast(CLIENT_MAC, ADDRESS, SERVER_MAC, SERVER).wrap(&message.bytes()[..len]);
    let mut tagged = Envelope::unicast(CLIENT_MAC, ADDRESS, SERVER_MAC, SERVER);
    tagged.tags = vec![(frames::QINQ, 5), (frames::VLAN, 6)];
    let hostile = [
        ("235 bytes", of_len(235), Counter::Length),
        ("10 bytes", of_len(10), Counter::Length),
        ("op 0", poked(42, 0), Counter::NotRequest),
        ("op 9", poked(42, 9), Counter::NotRequest),
        ("hlen 17", poked(42 + 2, 17), Counter::Hardware),
        ("100 bytes behind tags", tagged.wrap(&message.bytes()[..100]), Counter::Length),
    ];
    let doubtful = [
        ("BOOTP without a cookie's room", of_len(236), Counter::Length),
        ("a message that ends at its cookie", of_len(239), Counter::Length),
        ("another hardware type", poked(42 + 1, 6), Counter::Hardware),
        ("hlen 16", poked(42 + 2, 16), Counter::Hardware),
        ("lengths that contradict", poked(14 + 2, 0x7f), Counter::Length),
        ("a cookie of BOOTP's", poked(42 + 236, 98), Counter::Cookie),
        ("a reply on its way to a relay", poked(42, 2), Counter::NotRequest),
        ("a fragment", poked(14 + 6, 0x20), Counter::Fragment),
    ];
    for mode in MODES {
        stage.guard(mode, 10, 100, false);
        for (name, frame, reason) in &hostile {
            let expected = match mode {
                ShieldMode::Off => (Verdict::Pass(*reason), false),
                ShieldMode::Monitor => (Verdict::Pass(*reason), true),
                ShieldMode::Enforce => (Verdict::Drop(Counter::MalformedDropped), false),
            };
            assert_eq!(run(&mut stage, frame, Counter::MalformedSeen), expected, "{name}, {mode:?}");
        }
        for (name, frame, reason) in &doubtful {
            let expected = (Verdict::Pass(*reason), false);
            assert_eq!(run(&mut stage, frame, Counter::MalformedSeen), expected, "{name}, {mode:?}");
        }
        stage.arm(&message, &plain(), 900);
        assert_eq!(run(&mut stage, &good, Counter::MalformedSeen), (Verdict::Transmit, false), "{mode:?}");
    }
}

#[test]
fn a_servers_message_is_spoofed_on_an_access_port_only() {
    let mut stage = need!("kernel::shield-spoof", Stage::new());
    let rogue = [2, 7, 7, 7, 7, 7];
    let mut offer = Message::request(2, CLIENT_MAC, 1);
    offer.op = 2;
    offer.yiaddr = LAST;
    let to_client = Envelope { from: (LAST, 67), to: (ADDRESS, 68), ..Envelope::broadcast(rogue) };
    let to_relay = Envelope { from: (LAST, 67), to: (Ipv4Addr::new(10, 0, 0, 1), 67), ..to_client.clone() };
    let tagged = Envelope { tags: vec![(frames::VLAN, 7)], ..to_client.clone() };
    let hostile = [
        (to_client.wrap(&offer.bytes()), Counter::NotDhcp),
        (to_relay.wrap(&offer.bytes()), Counter::NotRequest),
        (tagged.wrap(&offer.bytes()), Counter::NotDhcp),
    ];
    let request = Message { op: 1, ..offer.clone() };
    let honest = [
        // Somebody's datagram to the client's port; a request; a reply from a port that is no server's.
        (Envelope { from: (LAST, 53), ..to_client.clone() }.wrap(&offer.bytes()), Counter::NotDhcp),
        (to_client.wrap(&request.bytes()), Counter::NotDhcp),
        (Envelope { from: (LAST, 4011), ..to_relay.clone() }.wrap(&offer.bytes()), Counter::NotRequest),
        (Envelope { to: (ADDRESS, 69), ..to_client.clone() }.wrap(&offer.bytes()), Counter::NotDhcp),
    ];
    for mode in MODES {
        for is_access_port in [true, false] {
            stage.guard(mode, 10, 100, is_access_port);
            for (frame, reason) in &hostile {
                let expected = match mode {
                    ShieldMode::Monitor if is_access_port => (Verdict::Pass(*reason), true),
                    ShieldMode::Enforce if is_access_port => (Verdict::Drop(Counter::SpoofDropped), false),
                    ShieldMode::Off | ShieldMode::Monitor | ShieldMode::Enforce => (Verdict::Pass(*reason), false),
                };
                let found = run(&mut stage, frame, Counter::SpoofSeen);
                assert_eq!(found, expected, "{mode:?}, access port: {is_access_port}");
            }
            for (frame, reason) in &honest {
                assert_eq!(run(&mut stage, frame, Counter::SpoofSeen), (Verdict::Pass(*reason), false));
            }
        }
    }
}

/// What one second of a flood came to: DISCOVERs that passed unseen, that were counted, that were dropped.
#[derive(Debug, PartialEq, Eq)]
struct Flood {
    passed: usize,
    seen: usize,
    dropped: usize,
}

/// Sends frames within one second of the clock; `None` when it ticked.
fn flood(stage: &mut Stage, frames: &[Vec<u8>]) -> Option<Flood> {
    let mut flood = Flood { passed: 0, seen: 0, dropped: 0 };
    let before = stage.now();
    for frame in frames {
        stage.reached.clear();
        match stage.try_run(frame)?.0 {
            Verdict::Drop(Counter::FloodDropped) => flood.dropped += 1,
            Verdict::Pass(_) if stage.reached.contains(&Counter::FloodSeen) => flood.seen += 1,
            Verdict::Pass(_) => flood.passed += 1,
            verdict => panic!("{verdict:?}"),
        }
    }
    (stage.now() == before).then_some(flood)
}

/// A DISCOVER of a client nobody knows, sent from an Ethernet address.
fn discover(from: [u8; 6], chaddr: [u8; 6]) -> Vec<u8> {
    Envelope::broadcast(from).wrap(&Message::request(1, chaddr, 1).with(55, [1, 3, 6]).bytes())
}

#[test]
fn a_source_that_floods_is_counted_or_dropped_and_no_other_is() {
    need!("kernel::shield-flood", Stage::new());
    let forger = [2, 0xbb, 0, 0, 0, 1];
    let neighbour = [2, 0xbb, 0, 0, 0, 2];
    // A tool that forges `chaddr` alone is one source.
    let many: Vec<_> = (0..12).map(|number| discover(forger, [2, 0xcc, 0, 0, 0, number])).collect();
    let relay = Ipv4Addr::new(10, 0, 0, 1);
    let relayed = |chaddr: [u8; 6]| {
        let mut message = Message::request(1, chaddr, 1);
        message.giaddr = relay;
        Envelope::relayed([2, 0, 0, 0, 0, 0x99], relay, SERVER_MAC, SERVER).wrap(&message.bytes())
    };
    // Behind a relay all frames have its address: there every client is a source of its own.
    let behind_relay: Vec<_> = (0..12).map(|number| relayed([2, 0xdd, 0, 0, 0, number])).collect();
    let one_behind_relay = vec![relayed([2, 0xee, 0, 0, 0, 1]); 12];
    let type_in_third = Message::request(1, forger, 1).with(12, *b"host").with(53, [1]);
    let mut type_in_third = Message { options: type_in_third.options[1..].to_vec(), ..type_in_third };
    type_in_third.options.insert(0, (60, b"vendor".to_vec()));
    let type_in_third = vec![Envelope::broadcast([2, 0xab, 0, 0, 0, 1]).wrap(&type_in_third.bytes()); 12];
    let requests = vec![Envelope::broadcast(forger).wrap(&Message::request(3, forger, 1).bytes()); 12];

    for mode in MODES {
        let over = |count: usize| match mode {
            ShieldMode::Off => Flood { passed: 12, seen: 0, dropped: 0 },
            ShieldMode::Monitor => Flood { passed: 12 - count, seen: count, dropped: 0 },
            ShieldMode::Enforce => Flood { passed: 12 - count, seen: 0, dropped: count },
        };
        // The clock may tick in the middle; then everything begins anew.
        let is_shown = (0..20).any(|_| {
            let mut stage = Stage::new().unwrap();
            stage.guard(mode, 1, 5, false);
            let run = |stage: &mut Stage| {
                let before = stage.now();
                let found = (
                    flood(stage, &many)?,
                    flood(stage, &[discover(neighbour, neighbour)])?,
                    flood(stage, &requests)?,
                    flood(stage, &behind_relay)?,
                    flood(stage, &one_behind_relay)?,
                    flood(stage, &type_in_third)?,
                );
                (stage.now() == before).then_some(found)
            };
            let Some(found) = run(&mut stage) else { return false };
            let one = Flood { passed: 1, seen: 0, dropped: 0 };
            assert_eq!(found, (over(7), one, over(0), over(0), over(7), over(7)), "{mode:?}");
            true
        });
        assert!(is_shown, "the clock ticked in each of twenty attempts");
    }
}

#[test]
fn a_discover_that_the_fast_path_answers_costs_no_token() {
    let mut stage = need!("kernel::shield-answered", Stage::new());
    let mut message = renewal(CLIENT_MAC, ADDRESS, 1);
    message.ciaddr = Ipv4Addr::UNSPECIFIED;
    message.options[0].1 = vec![1];
    let mut offer = plain();
    offer.is_offer = 1;
    stage.guard(ShieldMode::Enforce, 1, 1, false);
    stage.arm(&message, &offer, 900);
    let frame = Envelope::broadcast(CLIENT_MAC).wrap(&message.bytes());
    for _ in 0..50 {
        assert_eq!(stage.run(&frame).0, Verdict::Transmit);
    }
    assert_eq!(stage.model.sources.borrow().len(), 0);
}
