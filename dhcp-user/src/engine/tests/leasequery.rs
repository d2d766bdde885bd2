//! LEASEQUERY, as an access device asks.

use super::super::testing::{Message, Reading, VISITORS, World, ip, mac};

fn allowed() -> World {
    World::new(&format!("allow leasequery; {VISITORS}"))
}

fn query() -> Message {
    Message::new(10, 99).via(ip(2))
}

#[test]
fn an_active_lease_is_described() {
    let mut world = allowed();
    let agent = [1, 2, b'p', b'1'];
    let id = [7, 7, 7];
    world.ask(&Message::discover(1).with(61, &id).with(82, &agent).via(ip(7)));
    world.ask(&Message::select(1, ip(50)).with(61, &id).with(60, b"phone").with(82, &agent).via(ip(7)));
    world.pass(100);
    let reply = world.ask(&query().from(ip(50)));
    assert_eq!(reply.kind(), 13);
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 91, 60, 61, 82]);
    assert_eq!(reply.message[12..16], ip(50).octets());
    assert_eq!(reply.message[28..34], mac(1));
    let secs = |code| u32::from_be_bytes(reply.option(code).unwrap().try_into().unwrap());
    assert_eq!((secs(51), secs(58), secs(59), secs(91)), (500, 200, 425, 100));
    assert_eq!(reply.option(60).unwrap(), b"phone");
    assert_eq!(reply.option(82).unwrap(), agent);
    assert_eq!((*reply.destination.ip(), reply.destination.port()), (ip(2), 67));
    let by_id = world.ask(&query().with(61, &id));
    assert_eq!(by_id.message[12..16], ip(50).octets());
    let by_mac = world.ask(&Message { mac: mac(1), ..query() });
    assert_eq!(by_mac.message[12..16], ip(50).octets());
    // dhcpd: whatever the list says.
    let listed = world.ask(&query().from(ip(50)).with(55, &[51]));
    assert_eq!(listed.codes(), reply.codes());
}

#[test]
fn what_nobody_has_and_what_nobody_knows_are_told_apart() {
    let mut world = allowed();
    assert_eq!(world.ask(&query().from(ip(60))).kind(), 11);
    assert_eq!(world.ask(&query().from(ip(9))).kind(), 12);
    assert_eq!(world.ask(&query()).kind(), 12);
}

#[test]
fn nobody_may_ask_directly_or_where_it_is_not_allowed() {
    let mut world = allowed();
    world.silent(&Message::new(10, 99).from(ip(50)));
    let mut denied = World::new(VISITORS);
    denied.silent(&query().from(ip(50)));
    assert_eq!((world.ignored("leasequery-denied"), denied.ignored("leasequery-denied")), (1, 1));
}
