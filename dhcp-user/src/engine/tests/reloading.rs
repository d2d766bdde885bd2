//! Another configuration under a running server.

use std::net::Ipv4Addr;

use super::{
    super::{
        port::{Input, Reloaded},
        testing::{GSB, Message, Reading, Seen, VISITORS, World, ip, mac},
    },
    arming::{digest, kernel_answer},
};
use crate::lease::BindingState;

fn applied(world: &World) -> &super::super::port::Applied {
    match world.reloaded.last() {
        Some(Reloaded::Applied(applied)) => applied,
        other => panic!("{other:?}"),
    }
}

/// The kernel's answer to each of these is the slow path's, byte for byte.
fn both_say_the_same(world: &mut World, address: Ipv4Addr, messages: &[Message]) {
    let arm =
        world.armed.get(&address).cloned().unwrap_or_else(|| panic!("{address} is not armed: {:?}", world.status()));
    for message in messages {
        let fast = kernel_answer(&arm, message, digest(world, message), 600);
        let slow = world.ask(message);
        assert_eq!((slow.lease_time(), &slow.message), (600, &fast), "{message:?}");
    }
}

#[test]
fn the_new_configuration_answers_and_leases_are_armed_with_its_answers() {
    let mut world = World::new(VISITORS);
    for client in 1..=3 {
        world.join(client);
    }
    world.pass(300);
    world.take_journal();
    let other = VISITORS.replace("gsb.local", "elsewhere.example").replace("172.16.0.10", "172.16.0.10, 172.16.0.11");
    world.reload(&other);
    assert_eq!(world.generations, [2]);
    assert_eq!((applied(&world).generation, applied(&world).rearming), (2, 3));
    world.settle();
    assert_eq!(world.take_journal(), "", "a lease is what it was");
    assert_eq!(world.armed.keys().copied().collect::<Vec<_>>(), [ip(50), ip(51), ip(52)]);
    both_say_the_same(&mut world, ip(50), &[Message::renew(1, ip(50)), Message::reboot(1, ip(50))]);
    let ack = world.ask(&Message::renew(2, ip(51)));
    assert_eq!(ack.option(15).unwrap(), b"elsewhere.example");
    assert_eq!(ack.option(6).unwrap().len(), 8);
    // And once more, back again.
    world.pass(200);
    world.reload(VISITORS);
    world.settle();
    assert_eq!(world.generations, [2, 3]);
    both_say_the_same(&mut world, ip(52), &[Message::renew(3, ip(52))]);
}

#[test]
fn every_way_of_asking_is_remembered() {
    let mut world = World::new(VISITORS);
    let odd = |message: Message| {
        let id = [&[255][..], &[7; 30]].concat();
        Message {
            padded_to: 0,
            ..message.with(61, &id).with(12, b"alice\0").with(81, b"\x01\0\0alice.example.org").with(60, b"MSFT 5.0")
        }
    };
    world.ask(&odd(Message::discover(1)));
    world.ask(&odd(Message::select(1, ip(50))));
    // A relayed client, whose circuit only its lease knows.
    let relayed = |message: Message| message.via(ip(2)).with(82, &[1, 4, b'p', b'1', b'/', b'3']);
    world.ask(&relayed(Message::discover(2)));
    world.ask(&relayed(Message::select(2, ip(51))));
    // A client whose renewal is not the foreseen one.
    world.join(3);
    world.pass(300);
    let unlike = Message::renew(3, ip(52)).with(60, b"renewing");
    world.ask(&unlike);
    world.ask(&odd(Message::renew(1, ip(50))));
    world.ask(&Message::renew(2, ip(51)));
    world.reload(&VISITORS.replace("gsb.local", "elsewhere.example"));
    world.settle();
    world.pass(300);
    both_say_the_same(&mut world, ip(50), &[odd(Message::renew(1, ip(50))), odd(Message::reboot(1, ip(50)))]);
    both_say_the_same(&mut world, ip(51), &[Message::renew(2, ip(51))]);
    both_say_the_same(&mut world, ip(52), &[unlike, Message::renew(3, ip(52))]);
}

#[test]
fn until_the_kernel_is_silent_renewals_wait_and_the_old_configuration_answers_the_others() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    world.revokes = false;
    world.reload(&VISITORS.replace("gsb.local", "elsewhere.example"));
    assert!(world.reloaded.is_empty());
    world.silent(&Message::renew(1, ip(50)));
    let stranger = world.join(2);
    let ack = world.sent.last().unwrap();
    assert_eq!((ack.kind(), ack.option(15).unwrap()), (5, b"gsb.local".to_vec()));
    assert_eq!(world.armed.keys().copied().collect::<Vec<_>>(), [ip(50)], "{stranger} is not armed for the past");
    let before = world.sent.len();
    world.complete_revocation();
    assert_eq!(applied(&world).rearming, 1);
    let replies = &world.sent[before..];
    assert_eq!(replies.len(), 1, "the renewal that waited");
    assert_eq!(replies[0].option(15).unwrap(), b"elsewhere.example");
    world.revokes = true;
    world.settle();
    both_say_the_same(&mut world, ip(50), &[Message::renew(1, ip(50))]);
}

#[test]
fn what_the_kernel_said_to_the_last_is_known() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    world.revokes = false;
    world.reload(&VISITORS.replace("gsb.local", "elsewhere.example"));
    world.kernel_renews(ip(50), 600);
    world.complete_revocation();
    let lease = world.server.leases().find(|lease| lease.address == ip(50)).unwrap();
    assert_eq!(lease.ends, world.now.wall.after(600));
    assert_eq!(lease.cltt, world.now.wall);
}

#[test]
fn what_the_kernel_said_may_come_back_in_parts_before_anything_changes() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.join(2);
    world.pass(300);
    world.revokes = false;
    world.reload(&VISITORS.replace("gsb.local", "elsewhere.example"));
    let renewal = world.kernel_renews(ip(50), 600);
    world.input(Input::Returned(vec![(ip(50), renewal)]));
    let lease = world.server.leases().find(|lease| lease.address == ip(50)).unwrap();
    assert_eq!((lease.ends, lease.cltt), (world.now.wall.after(600), world.now.wall));
    assert!(world.reloaded.is_empty());
    world.silent(&Message::renew(1, ip(50)));
    world.complete_revocation();
    assert_eq!(applied(&world).rearming, 2);
    world.revokes = true;
    world.settle();
    both_say_the_same(&mut world, ip(51), &[Message::renew(2, ip(51))]);
}

#[test]
fn a_reload_while_leases_of_another_are_armed_anew_loses_none() {
    let mut world = World::new(VISITORS);
    let clients = 40;
    for client in 1..=clients {
        world.join(client);
    }
    world.pass(300);
    // Everybody has an answer of their own: a slice is a few leases.
    let own = |name: &str| {
        let name = format!("option domain-name = concat(\"{name}\", binary-to-ascii(16, 8, \"-\", hardware));");
        format!("dhcp-cache-threshold 0;\n{}", VISITORS.replace("option domain-name \"gsb.local\";", &name))
    };
    world.reload(&own("second"));
    world.input(Input::Timeout);
    let waiting = world.status().fast_path.rearming;
    assert!((1..usize::from(clients)).contains(&waiting), "{waiting}");
    assert_eq!(world.armed.len() + waiting, usize::from(clients));
    world.reload(&own("third"));
    assert_eq!(applied(&world).rearming, usize::from(clients));
    world.settle();
    assert_eq!(world.status().fast_path.rearming, 0);
    for client in 1..=clients {
        let address = ip(49 + client);
        assert_eq!(world.armed[&address].chaddr, mac(client));
        both_say_the_same(&mut world, address, &[Message::renew(client, address), Message::reboot(client, address)]);
    }
}

#[test]
fn a_question_that_names_what_its_lease_has_forgotten_is_not_armed_anew() {
    let mut world = World::new(VISITORS);
    let named = |message: Message, name: &str| message.with(12, name.as_bytes());
    for (client, name) in [(1, "one"), (2, "two")] {
        world.ask(&named(Message::discover(client), name));
        world.ask(&named(Message::select(client, ip(49 + client)), name));
    }
    world.pass(300);
    world.ask(&named(Message::renew(2, ip(51)), "other"));
    let count = |world: &World| world.armed[&ip(51)].questions.iter().flatten().count();
    assert_eq!(count(&world), 3);
    world.reload(&VISITORS.replace("gsb.local", "elsewhere.example"));
    world.settle();
    // Both are of one kind, and the first one's answers would do, but nobody knows any more what was asked.
    assert_eq!((world.armed[&ip(50)].questions.iter().flatten().count(), count(&world)), (2, 1));
    world.pass(300);
    both_say_the_same(&mut world, ip(51), &[named(Message::renew(2, ip(51)), "other")]);
}

#[test]
fn a_horizon_that_is_not_on_the_disk_yet_is_not_armed_anew_before_it_is() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.join(2);
    world.pass(300);
    world.syncs = false;
    let renewal = world.kernel_renews(ip(51), 600);
    world.input(Input::Renewed(vec![(ip(51), renewal)]));
    world.reload(&VISITORS.replace("gsb.local", "elsewhere.example"));
    world.take_seen();
    world.settle();
    assert!(world.take_seen().contains(&Seen::Arm(ip(50))));
    assert!(!world.armed.contains_key(&ip(51)), "its record is not durable");
    world.sync();
    assert!(world.take_seen().contains(&Seen::Arm(ip(51))));
}

#[test]
fn an_answer_of_the_old_configuration_that_waited_for_the_disk_is_never_armed() {
    let mut world = World::new(VISITORS);
    world.ask(&Message::discover(1));
    world.syncs = false;
    world.silent(&Message::select(1, ip(50)));
    assert!(!world.take_seen().contains(&Seen::Arm(ip(50))));
    world.reload(&VISITORS.replace("gsb.local", "elsewhere.example"));
    world.settle();
    world.sync();
    let arm = &world.armed[&ip(50)];
    let renew = Message::renew(1, ip(50));
    let reply = kernel_answer(arm, &renew, digest(&world, &renew), 600);
    assert!(reply.windows(17).any(|window| window == b"elsewhere.example"), "{reply:?}");
    assert_eq!(world.take_seen().iter().filter(|seen| **seen == Seen::Arm(ip(50))).count(), 1);
}

#[test]
fn a_lease_whose_range_is_gone_is_kept_for_its_return() {
    let mut world = World::new(VISITORS);
    for client in 1..=3 {
        world.join(client);
    }
    world.pass(300);
    world.take_journal();
    let less = VISITORS.replace("range 192.168.150.50 ", "range 192.168.150.52 ");
    world.reload(&less);
    world.settle();
    let leases = &applied(&world).leases;
    assert_eq!((leases.orphans, leases.running_count, &leases.running[..]), (2, 2, &[ip(50), ip(51)][..]));
    assert_eq!(world.armed.keys().copied().collect::<Vec<_>>(), [ip(52)]);
    world.silent(&Message::renew(1, ip(50)));
    assert_eq!(world.join(9), ip(53), "nobody gets an address without a range");
    world.reload(VISITORS);
    world.settle();
    assert_eq!(applied(&world).leases.returned, 2);
    assert!(!world.take_journal().contains("lease 192.168.150.50 "), "nothing was written about it");
    let ack = world.ask(&Message::renew(2, ip(51)));
    assert_eq!((ack.kind(), ack.yiaddr()), (5, ip(51)));
    // The other one runs out as it would have.
    world.pass(400);
    let lease = world.server.leases().find(|lease| lease.address == ip(50)).unwrap();
    assert_eq!(lease.state, BindingState::Active, "its horizon is the truth");
    world.pass(400);
    let lease = world.server.leases().find(|lease| lease.address == ip(50)).unwrap();
    assert_eq!(lease.state, BindingState::Free);
}

#[test]
fn whom_the_new_configuration_refuses_is_not_armed() {
    let pool = "pool { range 192.168.150.50 192.168.150.100; }";
    let refusals = [
        VISITORS.replace(pool, "pool { deny all clients; range 192.168.150.50 192.168.150.100; }"),
        format!("deny unknown-clients; {VISITORS}"),
        format!("host a {{ hardware ethernet 02:00:00:00:00:01; fixed-address 192.168.150.9; }} {VISITORS}"),
        format!("class \"a\" {{ match if hardware = 1:02:00:00:00:00:01; deny booting; }} {VISITORS}"),
        format!("on commit {{ execute(\"/bin/true\"); }} {VISITORS}"),
    ];
    for conf in refusals {
        let mut world = World::new(VISITORS);
        world.join(1);
        world.reload(&conf);
        world.settle();
        assert_eq!(applied(&world).rearming, 1);
        assert!(world.armed.is_empty(), "{conf}");
    }
}

#[test]
fn a_client_that_asks_before_its_turn_is_armed_once() {
    let mut world = World::new(VISITORS);
    let clients = 40;
    for client in 1..=clients {
        world.join(client);
    }
    world.pass(300);
    world.reload(&VISITORS.replace("gsb.local", "elsewhere.example"));
    world.ask(&Message::renew(clients, ip(49 + clients)));
    world.take_seen();
    world.settle();
    let arms = world.take_seen().into_iter().filter(|seen| matches!(seen, Seen::Arm(_))).count();
    assert_eq!(arms, usize::from(clients) - 1);
    assert_eq!(world.armed.len(), usize::from(clients));
    assert_eq!(world.armed[&ip(50)].chaddr, mac(1));
}

#[test]
fn partners_come_and_go_only_with_a_restart() {
    let mut world = World::new(GSB);
    world.join(1);
    let without = VISITORS.to_owned();
    let other_side = GSB.replace("primary;", "secondary;").replace("mclt 3; split 128;", "");
    for conf in [without, other_side] {
        world.reload(&conf);
        let Some(Reloaded::Refused(why)) = world.reloaded.pop() else { panic!("it was applied") };
        assert!(why.contains("\"gsb\" (primary)") && why.contains("restart"), "{why}");
    }
    assert!(world.generations.is_empty());
    world.pass(300);
    both_say_the_same(&mut world, ip(50), &[Message::renew(1, ip(50))]);
    // What the partner knows stays as it was.
    world.reload(&GSB.replace("mclt 3", "mclt 300").replace("gsb.local", "elsewhere.example"));
    world.settle();
    assert_eq!(world.server.config().failover_peers[0].mclt, 3);
    both_say_the_same(&mut world, ip(50), &[Message::renew(1, ip(50))]);
}

#[test]
fn a_second_reload_has_to_wait_for_the_first_and_a_stop_for_none() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(100);
    world.revokes = false;
    world.reload(&VISITORS.replace("gsb.local", "elsewhere.example"));
    world.reload(VISITORS);
    assert!(matches!(world.reloaded.pop(), Some(Reloaded::Refused(why)) if why.contains("under way")));
    world.kernel_renews(ip(50), 600);
    world.take_journal();
    world.input(Input::Stop { leaves_kernel: false });
    assert!(!world.server.is_idle());
    world.complete_revocation();
    assert!(world.reloaded.is_empty(), "nothing takes over any more");
    let ends = crate::lease::journal::read(world.take_journal().as_bytes(), world.now.wall, &mut Vec::new());
    let [crate::lease::journal::Record::Lease(lease)] = &ends[..] else { panic!("{ends:?}") };
    assert_eq!(lease.ends, world.now.wall.after(600), "a clean stop writes exact times");
    assert!(world.server.is_idle());
}

#[test]
fn ranges_change_in_slices_and_what_happens_meanwhile_counts() {
    let big = "ping-check false; authoritative; subnet 10.0.0.0 netmask 255.255.0.0 { range 10.0.0.10 10.0.20.255; }
        subnet 192.168.150.0 netmask 255.255.255.0 { range 192.168.150.50 192.168.150.100; }";
    let mut leases = String::new();
    for number in 0..5000_u32 {
        let address = Ipv4Addr::from(0x0a00_000a + number);
        leases.push_str(&format!(
            "lease {address} {{\n  starts 0 2026/11/22 11:59:00;\n  ends 0 2026/11/22 13:00:00;\n  binding state active;\n  \
             hardware ethernet 02:01:00:00:{:02x}:{:02x};\n}}\n",
            number >> 8,
            number & 255
        ));
    }
    let mut world = World::with(big, &leases, |_| {});
    world.reload(&big.replace("10.0.20.255", "10.0.10.255"));
    assert!(world.reloaded.is_empty(), "5000 leases are more than one slice");
    let address = world.join(1);
    world.settle();
    let leases = &applied(&world).leases;
    // 10.0.11.0 to 10.0.19.145.
    assert_eq!((leases.orphans, leases.running_count), (2194, 2194));
    assert_eq!(world.status().pools[0].active, 5000 - 2194);
    assert!(world.server.leases().any(|lease| lease.address == address && lease.state == BindingState::Active));
}

/// Visitor number N: every third has no client identifier, and every fourth a random address.
fn visitor(message: Message, client: u8) -> Message {
    let first = if client.is_multiple_of(4) { 2 } else { 4 };
    let message = Message { mac: [first, 0, 0, 0, 0, client], ..message };
    let end = if client.is_multiple_of(5) { "\0" } else { "" };
    let message = message.with(60, b"android").with(12, format!("phone-{client}{end}").as_bytes());
    if client.is_multiple_of(3) { message } else { message.with(61, format!("\0visitor {client}").as_bytes()) }
}

/// Leases of a kind are answered alike after a reload; where an answer depends on who asks, each is answered by itself.
#[test]
fn what_depends_on_who_asks_is_never_taken_from_another() {
    // What the configuration says more, before the subnet and in it, and how many of twelve are armed at least.
    let cases = [
        ("", "", 12),
        ("host three { hardware ethernet 04:00:00:00:00:03; option domain-name \"three.example\"; }", "", 12),
        (
            "host four { option dhcp-client-identifier \"\\000visitor 4\"; option domain-name \"four.example\"; }",
            "",
            12,
        ),
        ("host five { host-identifier option host-name \"phone-6\"; option domain-name \"six.example\"; }", "", 12),
        ("host six { hardware ethernet 04:00:00:00:00:06; fixed-address 192.168.150.200; }", "", 11),
        ("class \"odd\" { match if substring(hardware, 6, 1) = 07; option domain-name \"seven.example\"; }", "", 12),
        (
            "class \"ids\" { match option dhcp-client-identifier; } subclass \"ids\" \"\\000visitor 8\" \
             { option domain-name \"eight.example\"; }",
            "",
            12,
        ),
        ("if option host-name = \"phone-9\" { option domain-name \"nine.example\"; }", "", 12),
        ("if option host-name = \"phone-9\" { default-lease-time 700; }", "", 12),
        ("if exists dhcp-client-identifier { option domain-name \"id.example\"; }", "", 12),
        ("option domain-name = concat(\"h\", binary-to-ascii(10, 8, \"-\", leased-address));", "", 12),
        ("option domain-name = concat(\"h\", binary-to-ascii(16, 8, \"-\", hardware));", "", 12),
        (
            "if known { option domain-name \"known.example\"; } host one { hardware ethernet 04:00:00:00:00:01; }",
            "",
            12,
        ),
        ("use-lease-addr-for-default-route on;", "no routers", 12),
        ("echo-client-id on;", "", 12),
        ("one-lease-per-client on;", "", 12),
        (
            "class \"android\" { match if option vendor-class-identifier = \"android\"; option domain-name \"a.example\"; }",
            "",
            12,
        ),
        ("xdhcpd-random-mac-lease 300;", "", 12),
        ("xdhcpd-random-mac-lease 300, 50 200;", "", 9),
    ];
    for (before, inside, armed_min) in cases {
        let mut world = World::new(VISITORS);
        let mut addresses = Vec::new();
        for client in 1..=12 {
            let offer = world.ask(&visitor(Message::discover(client), client));
            world.ask(&visitor(Message::select(client, offer.yiaddr()), client));
            addresses.push(offer.yiaddr());
        }
        let subnet = VISITORS.replace("gsb.local", "elsewhere.example");
        let subnet = if inside.is_empty() { subnet } else { subnet.replace("option routers 192.168.150.1;", "") };
        // A lease that is young is granted for what is left of it: not here.
        world.reload(&format!("{subnet}\ndhcp-cache-threshold 0;\n{before}"));
        world.settle();
        let mut armed = 0;
        for (client, address) in (1..=12).zip(addresses) {
            for message in [Message::renew(client, address), Message::reboot(client, address)] {
                let message = visitor(message, client);
                let Some(arm) = world.armed.get(&address).cloned() else { continue };
                let digest = digest(&world, &message);
                let known = arm.questions.iter().flatten().find(|(known, _)| *known == digest);
                let Some((_, template)) = known else { continue };
                armed += usize::from(message.ciaddr == address);
                let slow = world.ask(&message);
                let fast = kernel_answer(&arm, &message, digest, slow.lease_time());
                assert_eq!((&slow.message, slow.lease_time()), (&fast, template.lease_time), "{before}: {message:?}");
            }
        }
        assert!(armed >= armed_min, "{before}: {armed} armed, {:?}", world.status().fast_path);
    }
}
