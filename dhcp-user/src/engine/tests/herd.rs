//! A herd is told different times, so that it does not come back as one; and the kernel is armed as ever.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::super::{
    limits::HERD_COUNT_MIN,
    testing::{Message, Reading, VISITORS, World},
};

fn wide(more: &str) -> String {
    let conf = VISITORS
        .replace("255.255.255.0", "255.255.0.0")
        .replace("192.168.150.0", "192.168.0.0")
        .replace("192.168.150.50 192.168.150.100", "192.168.0.50 192.168.99.100");
    format!("{more} {conf}")
}

/// Client number `number` gets its lease; the ACK's times: 51, 58, 59.
fn arrives(world: &mut World, number: u32) -> (Ipv4Addr, [Option<u32>; 3]) {
    let [_, a, b, c] = number.to_be_bytes();
    let from = |message: Message| Message { mac: [2, 7, 7, a, b, c], xid: number.to_be_bytes(), ..message };
    let offer = world.ask(&from(Message::discover(1)));
    let ack = world.ask(&from(Message::select(1, offer.yiaddr())));
    assert_eq!(ack.kind(), 5);
    let of = |code| ack.option(code).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
    (ack.yiaddr(), [of(51), of(58), of(59)])
}

/// The largest number of renewals in one second, when a thousand clients get leases at a hundred a second.
fn peak_of_the_next_wave(conf: &str) -> usize {
    let mut world = World::new(conf);
    let mut wave = BTreeMap::<u64, usize>::new();
    for second in 0..10_u32 {
        for client in 0..100 {
            let (_, times) = arrives(&mut world, second * 100 + client);
            let [lease, renewal, _] = times;
            *wave.entry(u64::from(second + renewal.unwrap_or(lease.unwrap() / 2))).or_default() += 1;
        }
        world.pass(1);
    }
    *wave.values().max().unwrap()
}

#[test]
fn the_next_wave_of_a_herd_is_flat() {
    assert_eq!(peak_of_the_next_wave(&wide("xdhcpd-herd-jitter 0;")), 100);
    // The first HERD_COUNT_MIN come before anybody can know: they are the peak that stays, and some fall on them.
    for conf in ["", "option dhcp-renewal-time 300; option dhcp-rebinding-time 525;"] {
        let peak = peak_of_the_next_wave(&wide(conf));
        assert!(peak <= 120, "{conf} {peak}");
    }
    let mut world = World::new(&wide(""));
    for number in 0..HERD_COUNT_MIN {
        arrives(&mut world, number);
    }
    let mut wave = BTreeMap::<u32, usize>::new();
    for number in 0..1000 {
        let [lease, ..] = arrives(&mut world, 1000 + number).1;
        *wave.entry(lease.unwrap() / 2).or_default() += 1;
    }
    let most = wave.values().max().unwrap();
    // A thousand at once, over the 75 seconds of a quarter of T1: 13 a second if it were perfectly flat.
    assert!(*most <= 40 && wave.len() >= 70, "{most} in one second, {} seconds", wave.len());
}

#[test]
fn few_clients_and_steady_renewals_are_no_herd() {
    let mut world = World::new(&wide(""));
    for number in 0..HERD_COUNT_MIN {
        assert_eq!(arrives(&mut world, number).1[0], Some(600), "client {number}");
        if number % 20 == 19 {
            world.pass(1);
        }
    }
    assert!(world.status().storm.iter().all(|(_, count)| *count == 0));
}

#[test]
fn only_the_times_differ_and_the_record_holds_what_was_said() {
    let mut world = World::with(&wide("option dhcp-renewal-time 300; option dhcp-rebinding-time 525;"), "", |_| {});
    let mut plain =
        World::new(&wide("xdhcpd-herd-jitter 0; option dhcp-renewal-time 300; option dhcp-rebinding-time 525;"));
    let mut cut = 0;
    for number in 0..2 * HERD_COUNT_MIN {
        let (address, [lease, renewal, rebinding]) = arrives(&mut world, number);
        let (same, usual) = arrives(&mut plain, number);
        assert_eq!((address, lease, usual), (same, Some(600), [Some(600), Some(300), Some(525)]));
        let (renewal, rebinding) = (renewal.unwrap(), rebinding.unwrap());
        assert!((225..=300).contains(&renewal) && renewal < rebinding && rebinding <= 525, "{renewal} {rebinding}");
        cut += usize::from(renewal < 300);
        let blank = |world: &World| {
            let mut message = world.sent.last().unwrap().message.clone();
            // 53, 54, 51, 58, 59: the head of every ACK.
            message[240 + 3 + 6 + 2..240 + 3 + 6 + 6].fill(0);
            message[240 + 15 + 2..240 + 15 + 6].fill(0);
            message[240 + 21 + 2..240 + 21 + 6].fill(0);
            message
        };
        assert_eq!(blank(&world), blank(&plain));
        // The kernel is armed with the usual times, whatever was said now (I4).
        assert_eq!(world.armed[&address].questions, plain.armed[&address].questions);
    }
    assert!(cut > HERD_COUNT_MIN as usize / 2, "{cut}");

    let mut world = World::new(&wide(""));
    for number in 0..HERD_COUNT_MIN + 50 {
        let (address, [lease, ..]) = arrives(&mut world, number);
        let record = world.server.leases().find(|one| one.address == address).unwrap();
        assert_eq!(Some(record.ends.since(record.starts)), lease, "what the client was told is what is written");
        assert!(lease.unwrap() >= 450);
    }
}

#[test]
fn a_configured_minimum_is_kept_in_a_herd() {
    let mut world = World::new(&wide("min-lease-time 590;"));
    for number in 0..2 * HERD_COUNT_MIN {
        assert!(arrives(&mut world, number).1[0].unwrap() >= 590);
    }
}
