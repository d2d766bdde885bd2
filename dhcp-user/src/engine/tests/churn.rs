//! Visitors that do not come back: lease curves, silent offers, clients that need no address.

use std::net::Ipv4Addr;

use super::super::testing::{LIST, Message, Reading, VISITORS, World, ip};

/// A client whose address is no invention.
fn steady(client: u8, message: Message) -> Message {
    Message { mac: [0, 0x1b, 0x21, 0, 0, client], ..message }
}

fn with(more: &str) -> String {
    format!("{more} {VISITORS}")
}

#[test]
fn a_randomised_address_gets_the_curve_and_others_the_usual_lease() {
    let mut world = World::new(&with("xdhcpd-random-mac-lease 120;"));
    assert_eq!(world.ask(&Message::discover(1)).lease_time(), 120);
    assert_eq!(world.ask(&steady(2, Message::discover(2))).lease_time(), 600);
    // Asking for more gives no more; a configured minimum is the last word.
    assert_eq!(world.ask(&Message::discover(1).with(51, &7200_u32.to_be_bytes())).lease_time(), 120);
    let mut world = World::new(&with("xdhcpd-random-mac-lease 120; min-lease-time 200;"));
    assert_eq!(world.ask(&Message::discover(1)).lease_time(), 200);
    // One step says the same to the same client for ever: the kernel may say it too.
    let mut world = World::new(&with("xdhcpd-random-mac-lease 120;"));
    world.join(1);
    assert_eq!(world.armed[&ip(50)].questions[0].as_ref().unwrap().1.lease_time, 120);
}

#[test]
fn the_curve_follows_the_fill_of_the_pool_and_stays_with_the_agent() {
    let ten = with("xdhcpd-random-mac-lease 3600, 50 900, 80 300;").replace("192.168.150.100", "192.168.150.59");
    let ten = ten.replace("default-lease-time 600", "default-lease-time 7200");
    let mut world = World::new(&ten);
    let mut told = Vec::new();
    for client in 1..=10 {
        told.push(world.ask(&Message::discover(client)).lease_time());
        world.join(client);
    }
    assert_eq!(told, [3600, 3600, 3600, 3600, 3600, 900, 900, 900, 300, 300]);
    assert!(world.armed.is_empty(), "the answer moves with the fill");
}

#[test]
fn a_curve_may_be_a_pool_s_own() {
    let two = VISITORS.replace(
        "pool { range 192.168.150.50 192.168.150.100; }",
        "pool { range 192.168.150.50 192.168.150.59; xdhcpd-random-mac-lease 60; }",
    );
    let more = "subnet 10.9.0.0 netmask 255.255.255.0 { range 10.9.0.50 10.9.0.60; }";
    let mut world = World::new(&format!("{two} {more}"));
    assert_eq!(world.ask(&Message::discover(1)).lease_time(), 60);
    assert_eq!(world.ask(&Message::discover(1).via(Ipv4Addr::new(10, 9, 0, 1))).lease_time(), 600);
}

#[test]
fn an_offer_that_nobody_takes_up_is_reclaimed_where_the_pool_is_nearly_full() {
    let five = |more: &str| with(more).replace("192.168.150.100", "192.168.150.54");
    for (statement, is_reclaimed) in
        [("", false), ("xdhcpd-reclaim-threshold 60;", true), ("xdhcpd-reclaim-threshold 61;", false)]
    {
        let mut world = World::new(&five(statement));
        for client in 1..=3 {
            world.join(client);
        }
        world.ask(&Message::discover(4));
        world.pass(3);
        world.ask(&Message::discover(5));
        world.silent(&Message::discover(6));
        world.pass(8);
        let answer = world.take(&Message::discover(6));
        assert_eq!(answer.len(), usize::from(is_reclaimed), "{statement}");
        if is_reclaimed {
            assert_eq!(answer[0].yiaddr(), ip(53), "the one that was offered longest ago");
            world.silent(&Message::discover(7));
            // The first client may still come, as long as nobody was quicker.
            assert_eq!(world.ask(&Message::select(6, ip(53))).kind(), 5);
            assert_eq!(world.ask(&Message::select(4, ip(53))).kind(), 6);
            assert_eq!(world.ask(&Message::select(5, ip(54))).kind(), 5);
        }
    }
}

#[test]
fn no_lease_that_runs_is_ever_reclaimed() {
    let mut world = World::new(&with("xdhcpd-reclaim-threshold 1;").replace("192.168.150.100", "192.168.150.51"));
    world.join(1);
    world.join(2);
    world.pass(599);
    world.silent(&Message::discover(3));
    assert_eq!(world.ask(&Message::renew(1, ip(50))).kind(), 5);
}

fn can_do_without(client: u8) -> Message {
    Message::discover(client).without(55).with(55, &[1, 3, 108])
}

#[test]
fn a_client_that_can_do_without_an_address_costs_none() {
    let conf =
        with("option v6-only-preferred 1800; xdhcpd-ipv6-only on;").replace("ping-check false", "ping-check true");
    let mut world = World::new(&conf);
    world.probes = false;
    for client in 1..=3 {
        let offer = world.ask(&can_do_without(client));
        assert_eq!((offer.kind(), offer.yiaddr()), (2, ip(50)), "kept for nobody, and not asked about");
        assert_eq!(offer.option(108).unwrap(), 1800_u32.to_be_bytes());
    }
    assert!(world.journal.is_empty() && world.pending_probes.is_empty());
    let offers = |world: &World, name| world.status().sent.iter().find(|(this, _)| *this == name).unwrap().1;
    assert_eq!((offers(&world, "offer"), offers(&world, "offer-ipv6-only")), (0, 3));
    // Whoever asks for the address after all is served (RFC 8925 3.3).
    let ack = world.ask(&Message::select(1, ip(50)).without(55).with(55, &[1, 3, 108]));
    assert_eq!((ack.kind(), ack.yiaddr()), (5, ip(50)));
    assert_eq!(world.ask(&can_do_without(1)).yiaddr(), ip(50), "and keeps it");
    // Others are probed for and offered as ever.
    world.silent(&Message::discover(4));
    assert_eq!(world.pending_probes.len(), 1);
}

#[test]
fn an_empty_pool_still_tells_such_a_client_that_it_needs_nothing() {
    let one = with("option v6-only-preferred 1800; xdhcpd-ipv6-only on;").replace("192.168.150.100", "192.168.150.50");
    let mut world = World::new(&one);
    world.join(9);
    let offer = world.ask(&can_do_without(1));
    assert_eq!((offer.kind(), offer.yiaddr()), (2, Ipv4Addr::UNSPECIFIED));
    assert_eq!(*offer.destination.ip(), Ipv4Addr::BROADCAST, "nobody has the address zero");
    assert_eq!(offer.option(108).unwrap(), 1800_u32.to_be_bytes());
    world.silent(&Message::discover(2));
    assert_eq!(world.ignored("no-free-leases"), 1);
}

#[test]
fn without_the_statement_option_108_is_an_option_like_others() {
    let mut world = World::new(&with("option v6-only-preferred 1800;"));
    assert_eq!(world.ask(&can_do_without(1)).yiaddr(), ip(50));
    assert_eq!(world.ask(&can_do_without(2)).yiaddr(), ip(51), "the first is kept for its client");
    // The option goes only to those that list it (RFC 8925 3.3).
    assert_eq!(world.ask(&Message::discover(3)).option(108), None);
    assert!(!LIST.contains(&108));
}

#[test]
fn captive_portal_and_classless_routes_go_out_as_they_are_configured() {
    // RFC 8910 and RFC 3442.
    let conf = with(
        "option default-url \"https://portal/\";
         option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
         option rfc3442-classless-static-routes 24, 10, 1, 2, 192, 168, 150, 7;",
    );
    let mut world = World::new(&conf);
    let offer = world.ask(&Message::new(1, 1).with(55, &[114, 121, 3]));
    assert_eq!(offer.option(114).unwrap(), b"https://portal/");
    assert_eq!(offer.option(121).unwrap(), [24, 10, 1, 2, 192, 168, 150, 7]);
}
