//! Hostile input: counted by reason, ignored, bounded.

use std::net::Ipv4Addr;

use super::super::{
    limits::{PARKED_COUNT_MAX, PROBES_COUNT_MAX},
    testing::{Message, Seen, VISITORS, World, ip},
};

fn counted(world: &World) -> u64 {
    world.status().ignored.iter().map(|(_, count)| count).sum()
}

#[test]
fn every_truncation_is_counted_and_nothing_is_answered_that_is_broken() {
    let whole = Message::discover(1).with(12, b"name").with(61, &[1, 2, 3]).bytes();
    let options_end = whole.iter().rposition(|byte| *byte == 255).unwrap();
    for cut in 0..options_end {
        let mut world = World::new(VISITORS);
        let replies = world.take_bytes(&whole[..cut], Ipv4Addr::UNSPECIFIED);
        // A cut between two options is a shorter, whole message (dhcpd: END may be missing).
        assert_eq!(counted(&world) + replies.len() as u64, 1, "cut at {cut}");
        if cut < 240 {
            assert_eq!(world.ignored("short"), 1, "cut at {cut}");
        }
    }
}

#[test]
fn broken_fields_have_a_reason_each() {
    let good = Message::discover(1).bytes();
    let broken = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    for (bytes, reason) in [
        (broken(0, 2), "not-request"),
        (broken(2, 17), "hardware-length"),
        (broken(236, 0), "cookie"),
        (broken(241, 200), "option-past-the-end"),
        (broken(242, 99), "message-type-unknown"),
        (broken(242, 5), "server-message"),
        (vec![0; 9000], "long"),
        (Message::new(1, 1).without(53).with(53, &[1, 1]).bytes(), "message-type-length"),
    ] {
        let mut world = World::new(VISITORS);
        assert!(world.take_bytes(&bytes, Ipv4Addr::UNSPECIFIED).is_empty(), "{reason}");
        assert_eq!((world.ignored(reason), counted(&world)), (1, 1), "{reason}");
        assert!(world.logs.is_empty(), "{reason}");
    }
}

#[test]
fn every_byte_of_a_message_may_be_anything() {
    let good = Message::select(1, ip(50)).with(82, &[1, 2, 3, 4]).with(61, &[9; 9]).bytes();
    let mut world = World::new(VISITORS);
    for at in 0..good.len() {
        for byte in [0, 1, 0x7f, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            world.take_bytes(&bytes, Ipv4Addr::UNSPECIFIED);
        }
    }
    let status = world.status();
    let received: u64 = status.received.iter().map(|(_, count)| count).sum();
    assert_eq!(received, 4 * good.len() as u64, "every message is counted once");
}

#[test]
fn parked_messages_are_bounded() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    world.revokes = false;
    let before = counted(&world);
    for _ in 0..PARKED_COUNT_MAX + 10 {
        world.silent(&Message::release(1, ip(50)));
    }
    assert_eq!(world.ignored("parking-full"), 10);
    assert_eq!(counted(&world) - before, 10);
    assert_eq!(world.status().fast_path.parked, PARKED_COUNT_MAX);
}

#[test]
fn probes_are_bounded() {
    let conf = VISITORS
        .replace("ping-check false;", "")
        .replace("255.255.255.0", "255.255.0.0")
        .replace("192.168.150.0", "192.168.0.0")
        .replace("192.168.150.50 192.168.150.100", "192.168.0.50 192.168.99.100");
    let mut world = World::new(&conf);
    world.probes = false;
    for client in 0..PROBES_COUNT_MAX + 5 {
        let [high, low] = (client as u16).to_be_bytes();
        let discover = Message { mac: [2, 0, 0, 1, high, low], ..Message::discover(1) };
        world.silent(&discover);
    }
    assert_eq!(world.ignored("probes-full"), 5);
    assert_eq!(world.take_seen().iter().filter(|seen| matches!(seen, Seen::Probe(_))).count(), PROBES_COUNT_MAX);
}

#[test]
fn an_unknown_interface_is_a_reason() {
    let mut world = World::new(VISITORS);
    world.input(super::super::port::Input::Interfaces(Vec::new()));
    world.silent(&Message::discover(1));
    assert_eq!(world.ignored("unknown-interface"), 1);
}

#[test]
fn in_a_storm_new_clients_are_shed_first_and_renewals_last() {
    use super::super::limits::{DISCOVER_SHED_COUNT, SELECTING_SHED_COUNT};
    let conf = VISITORS
        .replace("255.255.255.0", "255.255.0.0")
        .replace("192.168.150.0", "192.168.0.0")
        .replace("192.168.150.50 192.168.150.100", "192.168.0.50 192.168.199.100");
    let mut world = World::with(&conf, "", |options| options.fast_path = false);
    world.syncs = false;
    let mut client = 0_u32;
    let mut flood = |world: &mut World, until: usize| {
        while world.status().journal.waiting < until {
            client += 1;
            let [_, a, b, c] = client.to_be_bytes();
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 168, 0, 50)) + client);
            world.silent(&Message { mac: [2, 1, 1, a, b, c], ..Message::renew(1, address) });
        }
    };
    flood(&mut world, DISCOVER_SHED_COUNT);
    world.silent(&Message::discover(1));
    assert_eq!(world.ignored("shed"), 1);
    let other = Ipv4Addr::new(192, 168, 199, 9);
    world.silent(&Message::select(1, other));
    assert_eq!(world.ignored("shed"), 1, "a chosen offer is still taken");
    flood(&mut world, SELECTING_SHED_COUNT);
    world.silent(&Message::select(2, Ipv4Addr::new(192, 168, 199, 10)));
    assert_eq!(world.ignored("shed"), 2);
    let before = world.status().journal.waiting;
    world.silent(&Message::renew(3, Ipv4Addr::new(192, 168, 199, 11)));
    assert!(world.status().journal.waiting > before, "a renewal is taken to the last");
}

#[test]
fn urgency_puts_who_has_an_address_first() {
    use super::super::{Urgency, urgency};
    for (message, expected) in [
        (Message::renew(1, ip(50)), Urgency::Holder),
        (Message::release(1, ip(50)), Urgency::Holder),
        (Message::select(1, ip(50)), Urgency::Selecting),
        (Message::discover(1), Urgency::Seeking),
        (Message::new(8, 1), Urgency::Other),
    ] {
        let bytes = message.bytes();
        assert_eq!(urgency(&bytes), expected);
        for cut in 0..240 {
            assert_eq!(urgency(&bytes[..cut]), Urgency::Other);
        }
    }
}
