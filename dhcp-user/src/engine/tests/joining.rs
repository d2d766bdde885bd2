//! DISCOVER to ACK: addresses, times, options, records.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::super::{
    port::Route,
    testing::{LIST, Message, Reading, SERVER, Seen, VISITORS, World, ip, mac},
};

#[test]
fn the_first_client_gets_the_first_address_with_the_expected_options() {
    let mut world = World::new(VISITORS);
    let offer = world.ask(&Message::discover(1));
    assert_eq!((offer.kind(), offer.yiaddr()), (2, ip(50)));
    assert_eq!(offer.codes(), [53, 54, 51, 1, 3, 6, 15, 28]);
    assert_eq!(offer.lease_time(), 600);
    assert_eq!(offer.message.len(), 300);
    assert_eq!(offer.message[0], 2);
    assert_eq!(offer.option(54).unwrap(), SERVER.octets());
    assert_eq!(offer.option(1).unwrap(), [255, 255, 255, 0]);
    assert_eq!(offer.option(15).unwrap(), b"gsb.local");
    assert_eq!(offer.source, SERVER);
    assert_eq!(offer.destination, SocketAddrV4::new(ip(50), 68));
    assert_eq!(offer.route, Route::Raw { mac: mac(1), vlan: [0; 2] });
    assert_eq!(offer.message[20..24], [0; 4], "siaddr is next-server or zero");
    assert!(world.journal.is_empty(), "an OFFER writes nothing");
}

#[test]
fn without_a_list_the_usual_options_come_first() {
    let mut world = World::new(VISITORS);
    let offer = world.ask(&Message::new(1, 1));
    assert_eq!(offer.codes(), [53, 54, 51, 1, 3, 6, 15, 28]);
    let times = "option dhcp-renewal-time 300; option dhcp-rebinding-time 525;";
    let mut world = World::new(&format!("{times} {VISITORS}"));
    let offer = world.ask(&Message::new(1, 1).with(55, &[15]));
    assert_eq!(offer.codes(), [53, 54, 51, 58, 59, 15, 1]);
}

#[test]
fn the_lease_time_is_kept_within_its_bounds() {
    let mut world = World::new(VISITORS);
    let asked = |secs: u32| Message::discover(1).with(51, &secs.to_be_bytes());
    assert_eq!(world.ask(&asked(10)).lease_time(), 300);
    assert_eq!(world.ask(&asked(100_000)).lease_time(), 7200);
    assert_eq!(world.ask(&asked(u32::MAX)).lease_time(), 7200);
    assert_eq!(world.ask(&asked(1000)).lease_time(), 1000);
    assert_eq!(world.ask(&Message::discover(1).with(51, &[1, 2])).lease_time(), 600);
}

#[test]
fn an_ack_is_recorded_before_it_is_said() {
    let mut world = World::new(VISITORS);
    world.syncs = false;
    let offer = world.ask(&Message::discover(1));
    world.take_seen();
    world.silent(&Message::select(1, offer.yiaddr()));
    assert_eq!(world.take_seen(), [Seen::Append(1)]);
    assert!(!world.logs.iter().any(|(_, line)| line.starts_with("DHCPACK")));
    world.sync();
    assert_eq!(world.take_seen(), [Seen::Arm(ip(50)), Seen::Send(5)]);
    assert!(world.logged("DHCPACK on 192.168.150.50 to 02:00:00:00:00:01 via eth0"));
}

#[test]
fn the_record_of_an_ack_has_dhcpd_s_lines() {
    let mut world = World::new(VISITORS);
    world.ask(&Message::discover(1).with(12, b"alice"));
    let request = Message::select(1, ip(50)).with(12, b"alice").with(61, &[0, 0x72, 0x22, 0x71, 0x5c, 0x7a, 0x80]);
    world.ask(&request);
    assert_eq!(
        world.journal,
        "lease 192.168.150.50 {\n  starts 0 2026/11/22 12:00:00;\n  ends 0 2026/11/22 12:10:00;\n  tstp 0 2026/11/22 \
         12:15:00;\n  cltt 0 2026/11/22 12:00:00;\n  binding state active;\n  next binding state free;\n  rewind \
         binding state free;\n  hardware ethernet 02:00:00:00:00:01;\n  uid \"\\000r\\\"q\\\\z\\200\";\n  \
         client-hostname \"alice\";\n}\n"
    );
    assert!(world.logged("DHCPDISCOVER from 02:00:00:00:00:01 (alice) via eth0"));
    assert!(world.logged("DHCPOFFER on 192.168.150.50 to 02:00:00:00:00:01 (alice) via eth0"));
    assert!(world.logged("DHCPREQUEST for 192.168.150.50 (192.168.150.1) from 02:00:00:00:00:01 (alice) via eth0"));
}

#[test]
// RFC 2131 4.2 #chaddr-identifies, RFC 4361 6.4 #chaddr-identifies
fn clients_get_addresses_upwards_and_keep_them() {
    let mut world = World::new(VISITORS);
    assert_eq!([1, 2, 3].map(|client| world.join(client)), [ip(50), ip(51), ip(52)]);
    assert_eq!(world.ask(&Message::discover(2)).yiaddr(), ip(51));
    world.pass(10_000);
    assert_eq!(world.ask(&Message::discover(2)).yiaddr(), ip(51), "a client that returns finds its old address");
}

#[test]
fn an_address_asked_for_is_given_when_it_is_free() {
    let mut world = World::new(VISITORS);
    let asked = Message::discover(1).with(50, &ip(77).octets());
    assert_eq!(world.ask(&asked).yiaddr(), ip(77));
    assert_eq!(world.ask(&Message::discover(2).with(50, &ip(77).octets())).yiaddr(), ip(50), "it is offered");
    world.ask(&Message::select(1, ip(77)));
    assert_eq!(world.ask(&Message::discover(3).with(50, &ip(77).octets())).yiaddr(), ip(51), "it is leased");
}

#[test]
fn an_offered_address_is_held_for_two_minutes() {
    let one = VISITORS.replace("192.168.150.100", "192.168.150.50");
    let mut world = World::new(&one);
    assert_eq!(world.ask(&Message::discover(1)).yiaddr(), ip(50));
    world.silent(&Message::discover(2));
    assert_eq!(world.ignored("no-free-leases"), 1);
    assert!(
        world.logged("DHCPDISCOVER from 02:00:00:00:00:02 via eth0: network 192.168.150.0/24: no free leases"),
        "{:?}",
        world.logs
    );
    world.pass(121);
    assert_eq!(world.ask(&Message::discover(2)).yiaddr(), ip(50));
}

#[test]
fn an_early_renewal_changes_nothing_and_writes_nothing() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.take_journal();
    world.pass(3);
    let ack = world.ask(&Message::renew(1, ip(50)));
    assert_eq!((ack.kind(), ack.lease_time()), (5, 597));
    assert!(world.journal.is_empty());
    assert!(world.logged(
        "reuse_lease: lease age 3 (secs) under 25% threshold, reply with unaltered, existing lease for 192.168.150.50"
    ));
    world.pass(148);
    let ack = world.ask(&Message::renew(1, ip(50)));
    assert_eq!(ack.lease_time(), 600, "after a quarter of the lease it is renewed");
    assert_eq!(world.journal.matches("lease 192.168.150.50 {").count(), 1);
}

#[test]
fn a_second_reply_never_overtakes_the_record_of_the_first() {
    let mut world = World::new(VISITORS);
    world.ask(&Message::discover(1));
    world.syncs = false;
    world.silent(&Message::select(1, ip(50)));
    world.silent(&Message { xid: [1; 4], ..Message::select(1, ip(50)) });
    world.sync();
    assert_eq!(world.sent.iter().filter(|reply| reply.kind() == 5).count(), 2);
}

#[test]
fn a_retry_of_an_exchange_that_waits_for_the_disk_is_answered_once() {
    let mut world = World::new(VISITORS);
    world.ask(&Message::discover(1));
    world.syncs = false;
    for _ in 0..3 {
        world.silent(&Message::select(1, ip(50)));
    }
    assert_eq!(world.ignored("repeated"), 2);
    world.sync();
    assert_eq!(world.sent.iter().filter(|reply| reply.kind() == 5).count(), 1);
    world.ask(&Message::select(1, ip(50)));
}

#[test]
fn a_renewal_is_answered_to_the_client_s_address_and_a_rebinding_as_well() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    let ack = world.ask(&Message::renew(1, ip(50)));
    assert_eq!((ack.interface, ack.route), (None, Route::Ip));
    assert_eq!(ack.destination, SocketAddrV4::new(ip(50), 68));
    assert_eq!(ack.message[12..16], ip(50).octets(), "ciaddr is copied");
    // The broadcast flag of a client on its own network decides otherwise (dhcpd).
    let ack = world.ask(&Message::renew(1, ip(50)).broadcast());
    assert_eq!(ack.destination, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
}

#[test]
fn the_broadcast_flag_and_relays_direct_replies() {
    let mut world = World::new(VISITORS);
    let offer = world.ask(&Message::discover(1).broadcast());
    assert_eq!(offer.destination, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
    assert_eq!(offer.route, Route::Raw { mac: [0xff; 6], vlan: [0; 2] });
    let agent = [1, 4, b'p', b'1', b'/', b'3', 2, 2, 0xaa, 0xbb, 9, 3, 1, 2, 3];
    let offer = world.ask(&Message::discover(2).with(82, &agent).via(ip(7)));
    assert_eq!((offer.route, offer.destination), (Route::Ip, SocketAddrV4::new(ip(7), 67)));
    assert_eq!(offer.option(82).unwrap(), agent);
    assert_eq!(offer.codes().last(), Some(&82));
    assert_eq!(offer.message[3], 1, "hops are copied");
    world.ask(&Message::select(2, offer.yiaddr()).with(82, &agent).via(ip(7)));
    for line in ["option agent.circuit-id \"p1/3\";", "option agent.remote-id aa:bb;", "option agent.unknown-9 1:2:3;"]
    {
        assert!(world.journal.contains(line), "{line} in {}", world.journal);
    }
}

#[test]
// RFC 3046 2.2 #not-expected
fn stashed_agent_options_are_used_and_not_sent_back() {
    let conf = VISITORS.replace(
        "option routers",
        "if option agent.circuit-id = \"p1\" { option domain-name \"port-one\"; }\n option routers",
    );
    let mut world = World::new(&conf);
    let agent = [1, 2, b'p', b'1'];
    let offer = world.ask(&Message::discover(1).with(82, &agent).via(ip(7)));
    world.ask(&Message::select(1, offer.yiaddr()).with(82, &agent).via(ip(7)));
    world.pass(300);
    let ack = world.ask(&Message::renew(1, offer.yiaddr()));
    assert_eq!(ack.option(15).unwrap(), b"port-one");
    assert_eq!(ack.option(82), None);
    assert!(world.journal.ends_with("option agent.circuit-id \"p1\";\n}\n"), "{}", world.journal);
}

#[test]
// RFC 2131 4.2 #client-id-identifies, RFC 4361 6.3 #client-id-identifies
fn identity_is_the_client_identifier_when_there_is_one() {
    let mut world = World::new(VISITORS);
    let id = [1, 2, 3];
    let offer = world.ask(&Message::discover(1).with(61, &id));
    world.ask(&Message::select(1, offer.yiaddr()).with(61, &id));
    // The same identity on another card finds its lease; the same card without identity does not.
    assert_eq!(world.ask(&Message::discover(2).with(61, &id)).yiaddr(), ip(50));
    assert_eq!(world.ask(&Message::discover(1)).yiaddr(), ip(51));
}

#[test]
fn rapid_commit_is_ignored_and_option_118_is_echoed() {
    let mut world = World::new(VISITORS);
    let offer = world.ask(&Message::discover(1).with(80, &[]).with(118, &ip(0).octets()));
    assert_eq!(offer.kind(), 2);
    assert_eq!(offer.codes()[..4], [53, 54, 51, 118]);
}

#[test]
fn an_inform_gets_options_and_no_lease() {
    let mut world = World::new(VISITORS);
    let ack = world.ask(&Message::new(8, 1).with(55, &LIST).from(ip(9)));
    assert_eq!(ack.kind(), 5);
    assert_eq!(ack.codes(), [53, 54, 1, 3, 6, 15, 28]);
    assert_eq!(ack.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!((ack.route, ack.destination), (Route::Ip, SocketAddrV4::new(ip(9), 68)));
    assert!(world.journal.is_empty());
    let ack = world.ask(&Message::new(8, 1).with(55, &[6]).from(ip(9)));
    assert_eq!(ack.codes(), [53, 54, 6], "an INFORM gets the mask only when it asks");
    world.silent(&Message::new(8, 1).with(55, &LIST));
    let mut world = World::new(&VISITORS.replace("authoritative;", ""));
    world.silent(&Message::new(8, 1).with(55, &LIST).from(ip(9)));
    assert_eq!(world.ignored("not-authoritative"), 1);
}

#[test]
fn long_option_sets_overflow_into_file_and_sname() {
    let long = "x".repeat(200);
    let conf = format!("option root-path \"{long}\"; option extensions-path \"{long}\"; {VISITORS}");
    let mut world = World::new(&conf);
    let offer = world.ask(&Message::discover(1).without(55).with(55, &[17, 1, 3, 6, 15, 18]));
    assert_eq!(offer.option(52), Some(vec![3]), "the second text is spread over what is left");
    let offer = world.ask(&Message::discover(1).without(55).with(55, &[17, 1, 3, 6, 15, 18]).with(57, &[5, 220]));
    assert_eq!(offer.codes(), [53, 54, 51, 17, 1, 3, 6, 15, 18]);
}
