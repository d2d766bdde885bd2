//! Clients that ask for more than their share: counted by default, refused when the configuration says so.

use std::net::Ipv4Addr;

use super::super::{
    limits::{CLIENT_BURST_SECS, SUSPECT_SILENCE_SECS, SUSPECTS_COUNT_MAX},
    testing::{Message, Reading, VISITORS, World, ip},
};

/// Clients enough for everybody.
fn wide(more: &str) -> String {
    let conf = VISITORS
        .replace("255.255.255.0", "255.255.0.0")
        .replace("192.168.150.0", "192.168.0.0")
        .replace("192.168.150.50 192.168.150.100", "192.168.0.50 192.168.99.100");
    format!("{more} {conf}")
}

fn agent(circuit: &[u8], remote: &[u8]) -> Vec<u8> {
    let mut agent = Vec::new();
    for (code, data) in [(1, circuit), (2, remote)].into_iter().filter(|(_, data)| !data.is_empty()) {
        agent.extend([code, data.len() as u8]);
        agent.extend_from_slice(data);
    }
    agent
}

fn stranger(number: u32) -> Message {
    let [_, a, b, c] = number.to_be_bytes();
    Message { mac: [2, 7, 7, a, b, c], xid: number.to_be_bytes(), ..Message::discover(1) }
}

/// DISCOVER to ACK through a relay that adds this option 82; whether there was an OFFER.
fn joins(world: &mut World, number: u32, agent: &[u8]) -> bool {
    let through = |message: Message| message.with(82, agent).via(ip(7));
    let discover = through(stranger(number));
    let Some(offer) = world.take(&discover).pop() else { return false };
    let select = Message { mac: discover.mac, ..through(Message::select(1, offer.yiaddr())) };
    let ack = world.ask(&select);
    assert_eq!(ack.kind(), 5, "who was offered an address gets it");
    true
}

fn seen(world: &World, what: &str) -> (u64, u64) {
    let guard = world.status().guard;
    let of = |list: &[(&str, u64)]| list.iter().find(|(name, _)| *name == what).unwrap().1;
    (of(&guard.seen), of(&guard.refused))
}

#[test]
fn a_circuit_past_its_cap_is_shown_and_served_until_enforced() {
    let circuit = agent(b"port-7", b"switch-1");
    for (statement, is_served) in [("", true), ("xdhcpd-guard monitor;", true), ("xdhcpd-guard enforce;", false)] {
        let mut world = World::new(&wide(&format!("{statement} xdhcpd-circuit-leases 3;")));
        for number in 0..3 {
            assert!(joins(&mut world, number, &circuit), "{statement}");
        }
        assert_eq!(seen(&world, "circuit-cap"), (0, 0));
        assert_eq!(joins(&mut world, 3, &circuit), is_served, "{statement}");
        assert_eq!(world.ignored("circuit-cap"), u64::from(!is_served));
        let (counted, refused) = seen(&world, "circuit-cap");
        assert!(counted > 0 && (refused > 0) != is_served, "{statement}: {counted} {refused}");
        let suspects = world.status().guard.suspects;
        assert_eq!(suspects.len(), 1);
        assert_eq!(suspects[0].place, "circuit \"port-7\" of \"switch-1\" on 192.168.0.0/16");
        // Another circuit of the same switch has its own cap.
        assert!(joins(&mut world, 4, &agent(b"port-8", b"switch-1")), "{statement}");
    }
}

#[test]
fn a_cap_can_differ_by_class_and_a_lease_that_ends_makes_room() {
    let conf = wide(
        "xdhcpd-guard enforce; xdhcpd-circuit-leases 1;
         class \"uplinks\" { match if option agent.circuit-id = \"up\"; xdhcpd-circuit-leases 2; }",
    );
    let mut world = World::new(&conf);
    let (up, down) = (agent(b"up", b""), agent(b"down", b""));
    assert!(joins(&mut world, 0, &up) && joins(&mut world, 1, &up) && joins(&mut world, 2, &down));
    assert!(!joins(&mut world, 3, &up) && !joins(&mut world, 4, &down));
    // Whoever has a lease keeps it, through its relay or directly.
    let held = Ipv4Addr::new(192, 168, 0, 52);
    let renew = Message { mac: stranger(2).mac, ..Message::renew(1, held) };
    world.pass(300);
    assert_eq!(world.ask(&renew).kind(), 5);
    world.silent(&Message { mac: stranger(2).mac, ..Message::release(1, held) });
    assert!(joins(&mut world, 4, &down));
}

#[test]
fn leases_of_a_port_are_counted_over_all_its_circuits_and_after_a_restart() {
    let conf = wide("xdhcpd-guard enforce; xdhcpd-port-leases 2;");
    let mut world = World::new(&conf);
    for (number, circuit, joined) in [(0, b"a", true), (1, b"b", true), (2, b"c", false)] {
        assert_eq!(joins(&mut world, number, &agent(circuit, b"modem")), joined);
    }
    assert_eq!(world.ignored("port-cap"), 1);
    let journal = world.take_journal();
    let mut world = World::with(&conf, &journal, |_| {});
    assert!(!joins(&mut world, 2, &agent(b"c", b"modem")));
    assert!(joins(&mut world, 3, &agent(b"c", b"other")));
}

#[test]
fn invented_clients_are_counted_by_where_they_come_from() {
    for (statement, is_refused) in [("", false), ("xdhcpd-guard enforce;", true)] {
        let mut world = World::new(&wide(&format!("{statement} xdhcpd-new-clients 10;")));
        world.join(1);
        let answered = (0..50).filter(|number| !world.take(&stranger(*number)).is_empty()).count();
        assert_eq!(answered, if is_refused { 9 } else { 50 }, "{statement}");
        let (counted, refused) = seen(&world, "new-client-rate");
        assert_eq!((counted, refused > 0), (41, is_refused));
        assert_eq!(world.status().guard.suspects[0].place, "interface eth0");
        // Who was there before is served; and so is who comes from elsewhere.
        assert_eq!(world.ask(&Message::discover(1)).kind(), 2);
        assert_eq!(world.ask(&stranger(100).via(ip(7))).kind(), 2);
        // One line about it, not fifty; nobody can fill the log.
        let lines =
            |world: &World| world.logs.iter().filter(|(_, line)| line.starts_with("interface eth0: more")).count();
        assert_eq!(lines(&world), 1);
        world.pass(SUSPECT_SILENCE_SECS + 1);
        (200..250).for_each(|number| drop(world.take(&stranger(number))));
        assert_eq!(lines(&world), 2);
    }
}

#[test]
fn a_minute_is_enough_for_a_class_of_pupils_without_any_statement() {
    let mut world = World::new(&wide("xdhcpd-guard enforce;"));
    for number in 0..1500 {
        assert_eq!(world.ask(&stranger(number)).kind(), 2);
    }
    // A quarter of a small pool would be less than sixty.
    let mut world = World::new(&format!("xdhcpd-guard enforce; {VISITORS}"));
    for number in 0..51 {
        assert_eq!(world.ask(&stranger(number)).kind(), 2);
    }
    assert_eq!(seen(&world, "new-client-rate"), (0, 0));
}

#[test]
fn a_client_in_a_loop_has_a_bucket_of_its_own() {
    let conf = format!("xdhcpd-guard enforce; xdhcpd-client-rate 120; {VISITORS}");
    let mut world = World::new(&conf);
    world.join(1);
    world.join(2);
    let burst = 120 * CLIENT_BURST_SECS / 60;
    let answered = (0..100).filter(|_| !world.take(&Message::renew(1, ip(50))).is_empty()).count();
    assert_eq!(answered as u32, burst - 2, "the first two went into getting the lease");
    assert_eq!(world.ignored("client-rate"), 100 - answered as u64);
    assert_eq!(world.ask(&Message::renew(2, ip(51))).kind(), 5, "nobody else is bothered");
    // The same hardware address at another place is another client: nobody can use up somebody else's share.
    assert_eq!(world.ask(&Message::discover(1).via(ip(7))).kind(), 2);
    world.pass(1);
    assert_eq!(world.ask(&Message::renew(1, ip(50))).kind(), 5, "two more each second");
}

#[test]
fn lines_about_a_message_too_many_are_not_for_the_log() {
    let mut world = World::new(&format!("xdhcpd-client-rate 60; {VISITORS}"));
    for _ in 0..500 {
        world.silent(&Message::release(1, ip(99)));
    }
    let of = |world: &World, level| world.logs.iter().filter(|(this, _)| *this == level).count();
    use super::super::port::Level;
    assert!(of(&world, Level::Info) <= 11 && of(&world, Level::Warn) == 1, "{:?}", &world.logs[..20]);
    assert_eq!(world.ignored("release-not-found"), 500, "all of them were looked at");
}

#[test]
fn the_list_of_suspects_is_bounded_and_off_is_off() {
    let mut world = World::new(&wide("xdhcpd-circuit-leases 1; xdhcpd-new-clients 1;"));
    for number in 0..2 * SUSPECTS_COUNT_MAX as u32 + 20 {
        let agent = agent(&(number / 2).to_be_bytes(), b"");
        world.take(&stranger(number).with(82, &agent).via(ip(7)));
    }
    let guard = world.status().guard;
    assert_eq!(guard.suspects.len(), super::super::limits::SUSPECTS_SHOWN_MAX);
    assert_eq!(seen(&world, "new-client-rate").0, SUSPECTS_COUNT_MAX as u64 + 10);
    let mut world = World::new(&wide("xdhcpd-guard off; xdhcpd-new-clients 1;"));
    (0..9).for_each(|number| drop(world.ask(&stranger(number))));
    assert_eq!((seen(&world, "new-client-rate"), world.status().guard.metered), ((0, 0), 0));
}
