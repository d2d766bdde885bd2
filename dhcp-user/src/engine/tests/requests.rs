//! The decision table of REQUEST (11.3 of the reference), one case per row.

use super::super::testing::{Message, Reading, VISITORS, World, ip};

const TWO_NETWORKS: &str = r"
ping-check false;
authoritative;
subnet 192.168.150.0 netmask 255.255.255.0 { range 192.168.150.50 192.168.150.60; }
subnet 10.9.0.0 netmask 255.255.255.0 { range 10.9.0.50 10.9.0.60; }
";

fn not_authoritative() -> String {
    VISITORS.replace("authoritative;", "")
}

fn other(last: u8) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::new(10, 9, 0, last)
}

fn nak_text(world: &mut World, message: &Message) -> String {
    let nak = world.ask(message);
    assert_eq!(nak.kind(), 6);
    assert_eq!(nak.codes()[..2], [53, 54]);
    assert_eq!(nak.message[12..20], [0; 8], "a NAK names no address");
    assert_eq!(nak.message[10], 0x80, "a NAK is a broadcast");
    nak.text()
}

#[test]
fn row_5a_an_unknown_network_and_an_address_of_ours_is_refused() {
    let mut world = World::new(TWO_NETWORKS);
    let far = std::net::Ipv4Addr::new(172, 30, 0, 1);
    assert_eq!(nak_text(&mut world, &Message::reboot(1, ip(50)).via(far)), "requested address not available");
    assert!(world.logs.iter().any(|(_, line)| line.ends_with(": wrong network.")));
}

#[test]
fn row_5b_an_unknown_network_and_an_unknown_address_is_silence() {
    let mut world = World::new(TWO_NETWORKS);
    let far = std::net::Ipv4Addr::new(172, 30, 0, 1);
    world.silent(&Message::reboot(1, far).via(far));
    assert!(world.logs.iter().any(|(_, line)| line.ends_with(": ignored (unknown subnet).")));
}

#[test]
fn row_5c_an_address_of_another_network_is_refused_by_who_has_a_say() {
    let mut world = World::new(TWO_NETWORKS);
    let first = Message::reboot(1, other(50));
    assert_eq!(world.ask(&first).kind(), 6);
    // As a relayed client that names its address in ciaddr.
    let relayed = Message::renew(1, other(50)).via(ip(2));
    assert_eq!(world.ask(&relayed).kind(), 6);
    // And for an address of no network at all.
    assert_eq!(world.ask(&Message::reboot(1, std::net::Ipv4Addr::new(1, 2, 3, 4))).kind(), 6);
}

#[test]
fn row_5d_without_a_say_it_is_silence() {
    let mut world = World::new(&TWO_NETWORKS.replace("authoritative;", ""));
    world.silent(&Message::reboot(1, other(50)));
    assert_eq!(world.ignored("not-authoritative"), 1);
}

#[test]
fn row_6_an_address_of_another_client_is_refused_even_without_a_say() {
    let mut world = World::new(&not_authoritative());
    world.join(1);
    assert_eq!(nak_text(&mut world, &Message::reboot(2, ip(50))), "requested address not available");
    assert!(
        world.logged(
            "DHCPREQUEST for 192.168.150.50 from 02:00:00:00:00:02 via eth0: lease 192.168.150.50 unavailable."
        )
    );
    assert!(world.logged("DHCPNAK on 192.168.150.50 to 02:00:00:00:00:02 via eth0"));
}

#[test]
fn row_6_another_address_than_the_fixed_one_is_refused() {
    let conf = format!("host h {{ hardware ethernet 02:00:00:00:00:01; fixed-address 192.168.150.9; }} {VISITORS}");
    let mut world = World::new(&conf);
    assert_eq!(nak_text(&mut world, &Message::reboot(1, ip(50))), "requested address is incorrect");
    let ack = world.ask(&Message::reboot(1, ip(9)));
    assert_eq!((ack.kind(), ack.yiaddr()), (5, ip(9)));
    assert!(world.journal.is_empty(), "a fixed address is never journaled");
    assert!(world.armed.is_empty());
}

#[test]
fn row_7_an_abandoned_address_is_silence() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.silent(&Message::decline(1, ip(50)));
    world.silent(&Message::reboot(1, ip(50)));
    assert_eq!(world.ignored("unknown-lease"), 1);
}

#[test]
// RFC 2131 4.3.2 #silent-without-record
fn row_8_an_address_in_no_range_is_silence_even_with_a_say() {
    let mut world = World::new(VISITORS);
    world.silent(&Message::reboot(1, ip(7)));
    assert!(
        world.logged("DHCPREQUEST for 192.168.150.7 from 02:00:00:00:00:01 via eth0: unknown lease 192.168.150.7.")
    );
}

#[test]
// RFC 2131 4.3.2 #silent-without-record (dhcpd: granted)
fn row_10_a_free_address_is_granted_to_who_asks() {
    let mut world = World::new(VISITORS);
    let ack = world.ask(&Message::reboot(1, ip(77)));
    assert_eq!((ack.kind(), ack.yiaddr(), ack.lease_time()), (5, ip(77), 600));
}

#[test]
fn a_reboot_to_another_free_address_gives_the_old_one_up() {
    let mut world = World::new(VISITORS);
    let id = [7; 7];
    world.ask(&Message::discover(1).with(61, &id));
    world.ask(&Message::select(1, ip(50)).with(61, &id));
    world.take_journal();
    let ack = world.ask(&Message::reboot(1, ip(77)).with(61, &id));
    assert_eq!((ack.kind(), ack.yiaddr()), (5, ip(77)));
    let journal = world.take_journal();
    let (old, new) = (journal.find("lease 192.168.150.50 {").unwrap(), journal.find("lease 192.168.150.77 {").unwrap());
    assert!(old < new && journal.contains("binding state free;"), "{journal}");
    assert!(world.logs.iter().any(|(_, line)| line.starts_with("uid lease 192.168.150.50 for client")));
}

#[test]
fn a_renewal_of_an_address_elsewhere_is_silence() {
    let mut world = World::new(VISITORS);
    world.silent(&Message::renew(1, std::net::Ipv4Addr::new(1, 2, 3, 4)));
    assert_eq!(world.ignored("unknown-lease"), 1);
}

#[test]
fn a_request_for_another_server_is_left_to_it_unless_told_otherwise() {
    let elsewhere = Message::reboot(1, ip(50)).with(54, &[192, 168, 150, 3]);
    let mut world = World::new(VISITORS);
    world.silent(&elsewhere);
    assert_eq!(world.ignored("other-server"), 1);
    let mut world = World::with(VISITORS, "", |options| options.honours_server_id = false);
    assert_eq!(world.ask(&elsewhere).kind(), 5, "dhcpd acknowledges what another server was asked for");
}

#[test]
fn a_configured_server_identifier_is_ours() {
    let conf = format!("server-identifier 192.168.150.200; {VISITORS}");
    let mut world = World::new(&conf);
    let offer = world.ask(&Message::discover(1));
    assert_eq!(offer.option(54).unwrap(), [192, 168, 150, 200]);
    assert_eq!(offer.source, ip(200));
    let request = Message::reboot(1, ip(50)).with(54, &[192, 168, 150, 200]);
    assert_eq!(world.ask(&request).kind(), 5);
}

#[test]
// RFC 6842 3 #echo-client-id
fn a_nak_echoes_the_relay_s_option_and_the_identifier_when_configured() {
    let mut world = World::new(&format!("echo-client-id true; {VISITORS}"));
    world.join(1);
    let nak = world.ask(&Message::reboot(2, ip(50)).with(61, &[1, 9]).with(82, &[1, 1, 7]).via(ip(3)));
    assert_eq!(nak.codes(), [53, 54, 56, 61, 82]);
    assert_eq!(*nak.destination.ip(), ip(3));
}

#[test]
fn a_client_that_chose_another_server_frees_what_it_was_offered() {
    let mut world = World::new(&VISITORS.replace("192.168.150.100", "192.168.150.50"));
    world.ask(&Message::discover(1));
    world.silent(&Message::discover(2));
    world.silent(&Message::select(1, ip(50)).without(54).with(54, &[192, 168, 150, 3]));
    assert_eq!(world.ask(&Message::discover(2)).yiaddr(), ip(50));
}

#[test]
fn a_request_that_overtakes_its_discover_leaves_nothing_on_offer() {
    let mut world = World::new(&VISITORS.replace("192.168.150.100", "192.168.150.50"));
    world.silent(&Message::select(1, ip(50)).without(54).with(54, &[192, 168, 150, 3]));
    world.silent(&Message::discover(1));
    assert_eq!(world.ignored("other-server"), 2);
    assert_eq!(world.ask(&Message::discover(2)).yiaddr(), ip(50), "the only address is nobody's");
    // Another exchange of that client is a new question, and so is the same one later.
    world.silent(&Message { xid: [1; 4], ..Message::discover(1) });
    assert_eq!(world.ignored("other-server"), 2);
    world.silent(&Message::select(2, ip(50)).without(54).with(54, &[192, 168, 150, 3]));
    world.pass(3);
    assert_eq!(world.ask(&Message::discover(1)).yiaddr(), ip(50));
}

#[test]
// RFC 3527 3 #address-on-the-link, RFC 5107 4 #override-is-sent, RFC 5107 4 #override-is-accepted
fn link_selection_and_the_server_id_override_are_honoured() {
    // RFC 3527: the relay names the client's subnet; RFC 5107: and the server identifier that leads back to it.
    let mut world = World::new(TWO_NETWORKS);
    let agent = [5, 4, 10, 9, 0, 0, 11, 4, 192, 168, 150, 7];
    let offer = world.ask(&Message::discover(1).with(82, &agent).via(ip(7)));
    assert_eq!(offer.yiaddr(), other(50));
    assert_eq!(offer.option(54).unwrap(), [192, 168, 150, 7]);
    assert_eq!(offer.source, super::super::testing::SERVER, "the datagram's source stays this server");
    let select = Message::select(1, other(50)).without(54).with(54, &[192, 168, 150, 7]);
    assert_eq!(world.ask(&select.with(82, &agent).via(ip(7))).kind(), 5);
}
