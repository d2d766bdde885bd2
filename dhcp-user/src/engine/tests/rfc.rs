//! What the RFCs demand and no other test shows; the whole list is docs/rfc.md.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::super::{
    port::{Datagram, Input, Interface, InterfaceIndex, Received, Route},
    testing::{LIST, Message, Reading, SERVER, VISITORS, World, ip, mac},
};

/// A second network, behind the relay 10.9.0.1.
const TWO: &str = "subnet 10.9.0.0 netmask 255.255.255.0 { range 10.9.0.50 10.9.0.50; }";

fn two() -> String {
    format!("{VISITORS}{TWO}")
}

fn far(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, last)
}

/// Everything after the options' END in `bytes`, and the bytes before it.
fn split_at_end(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    while bytes[at] != 255 {
        at += if bytes[at] == 0 { 1 } else { 2 + usize::from(bytes[at + 1]) };
    }
    (&bytes[..at], &bytes[at + 1..])
}

// RFC 2131 2 #flags-reserved
#[test]
fn flags_but_for_the_broadcast_bit_change_nothing() {
    let mut world = World::new(VISITORS);
    let plain = world.ask(&Message::discover(1));
    let odd = world.ask(&Message { flags: 0x7fff, ..Message::discover(1) });
    assert_eq!((odd.route, odd.destination), (plain.route, plain.destination));
    assert_eq!(odd.message[12..], plain.message[12..]);
    assert!(matches!(plain.route, Route::Raw { mac: to, .. } if to == mac(1)));
}

// RFC 2131 3.2 #nak-broadcast, RFC 2131 3.2 #nak-to-relay, RFC 2131 4.3.2 #nak-broadcast-bit
#[test]
fn a_nak_is_for_everybody_on_the_link_or_goes_to_the_relay_that_broadcasts_it() {
    let mut world = World::new(VISITORS);
    world.join(1);
    let nak = world.ask(&Message::reboot(2, ip(50)));
    assert_eq!(nak.kind(), 6);
    assert_eq!(nak.destination, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
    assert!(matches!(nak.route, Route::Raw { mac: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff], .. }));
    let nak = world.ask(&Message::reboot(2, ip(50)).via(ip(3)));
    assert_eq!((nak.kind(), nak.destination, nak.route), (6, SocketAddrV4::new(ip(3), 67), Route::Ip));
    assert_eq!(nak.message[10] & 0x80, 0x80);
}

// RFC 2131 4.3.1 #nak-is-bare, RFC 2131 4.3.1 #server-identifier
#[test]
fn a_nak_says_who_refuses_and_why_and_no_more() {
    let mut world = World::new(&format!("filename \"boot\"; server-name \"me\"; option time-offset 7; {VISITORS}"));
    world.join(1);
    let nak = world.ask(&Message::reboot(2, ip(50)).with(57, &[5, 220]).with(51, &[0, 0, 9, 9]));
    assert_eq!(nak.codes(), [53, 54, 56]);
    assert!(nak.message[44..236].iter().all(|byte| *byte == 0), "no server name, no file name");
    assert_eq!(nak.message[16..24], [0; 8], "no address");
}

// RFC 2131 3.4 #inform-looks-for-no-lease, RFC 2131 4.3.5 #inform-gets-no-times
#[test]
fn an_inform_is_answered_whoever_has_the_address() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.silent(&Message::decline(1, ip(50)));
    world.join(2);
    let before: Vec<_> = world.server.leases().collect();
    let mut answers = Vec::new();
    // Its own, somebody else's, an abandoned one, one that nobody has, one outside of every range.
    for (client, last) in [(2, 51), (3, 51), (3, 50), (3, 77), (3, 9)] {
        let ack = world.ask(&Message::new(8, client).with(55, &LIST).from(ip(last)));
        assert_eq!((ack.kind(), ack.yiaddr()), (5, Ipv4Addr::UNSPECIFIED));
        answers.push(ack.codes());
    }
    assert!(answers.iter().all(|codes| *codes == [53, 54, 1, 3, 6, 15, 28]), "{answers:?}");
    assert_eq!(before, world.server.leases().collect::<Vec<_>>());
}

fn interface(index: u32, name: &str, addresses: &[Ipv4Addr]) -> Interface {
    Interface {
        index: InterfaceIndex(index),
        name: name.to_owned(),
        mac: [2, 0, 0, 0, 1, index as u8],
        addresses: addresses.iter().map(|address| (*address, 24)).collect(),
        is_up: true,
    }
}

fn take_on(world: &mut World, index: u32, message: &Message) -> Vec<Datagram> {
    let before = world.sent.len();
    let bytes = message.bytes();
    world.input(Input::Packet(Received {
        interface: InterfaceIndex(index),
        vlan: [0; 2],
        source: SocketAddrV4::new(message.ciaddr, 68),
        destination: Ipv4Addr::BROADCAST,
        message: &bytes,
    }));
    world.sent[before..].to_vec()
}

// RFC 2131 4.1 #any-own-address, RFC 2131 4.1 #identifier-in-reach
#[test]
fn the_server_names_an_address_of_the_interface_and_answers_to_all_it_has() {
    let mut world = World::new(&two());
    let interfaces = vec![interface(2, "eth0", &[SERVER, ip(2)]), interface(3, "eth1", &[far(1), far(2)])];
    world.input(Input::Interfaces(interfaces));
    for (index, first, client) in [(2, SERVER, 1), (3, far(1), 2)] {
        let offer = take_on(&mut world, index, &Message::discover(client)).remove(0);
        assert_eq!((offer.option(54).unwrap(), offer.source), (first.octets().to_vec(), first));
        for named in [SERVER, ip(2), far(1), far(2)] {
            let select = Message::select(client, offer.yiaddr()).without(54).with(54, &named.octets());
            let acks = take_on(&mut world, index, &select);
            assert_eq!(acks.iter().map(Reading::kind).collect::<Vec<_>>(), [5], "{named} on {index}");
        }
        let other = Message::select(client, offer.yiaddr()).without(54).with(54, &ip(250).octets());
        assert!(take_on(&mut world, index, &other).is_empty());
    }
    // Addresses come and go while the server runs: the next answer knows.
    world.input(Input::Interfaces(vec![interface(2, "eth0", &[ip(2)])]));
    assert_eq!(take_on(&mut world, 2, &Message::discover(1)).remove(0).option(54).unwrap(), ip(2).octets());
    let gone = Message::reboot(1, ip(50)).with(54, &SERVER.octets());
    assert!(take_on(&mut world, 2, &gone).is_empty());
    assert!(take_on(&mut world, 3, &Message::discover(2)).is_empty());
    assert_eq!(world.ignored("unknown-interface"), 1);
}

// RFC 2131 4.1 #overload-is-said, RFC 2131 4.1 #overload-options-end, RFC 2131 4.1 #overload-fields,
// RFC 2131 4.1 #option-in-one-field, RFC 3046 2.2 #echo-not-overloaded
#[test]
fn overloaded_fields_are_whole_and_option_82_is_in_none_of_them() {
    let text = |len| "x".repeat(len);
    let (root, path, merit) = (text(240), text(100), text(55));
    let conf = format!(
        "option root-path \"{root}\"; option extensions-path \"{path}\"; option merit-dump \"{merit}\"; {VISITORS}"
    );
    let mut world = World::new(&conf);
    let agent = [1, 4, b'p', b'o', b'r', b't'];
    let list = [17, 18, 14, 3, 6, 15];
    let discover = Message::discover(1).without(55).with(55, &list).with(82, &agent).via(ip(7));
    let offer = world.ask(&discover);
    assert_eq!(offer.option(52), Some(vec![3]));
    let (options, rest) = split_at_end(&offer.message[240..]);
    assert!(rest.iter().all(|byte| *byte == 0));
    assert_eq!(options[options.len() - 8..], [82, 6, 1, 4, b'p', b'o', b'r', b't']);
    for (field, code, len) in [(&offer.message[108..236], 18, 100), (&offer.message[44..108], 14, 55)] {
        assert_eq!(field[..2], [code, len], "begins with an option, which is whole");
        let (options, rest) = split_at_end(field);
        assert!(!options.windows(2).any(|pair| pair == [82, 6]));
        assert!(rest.iter().all(|byte| *byte == 0), "{rest:?}");
    }
}

// RFC 2131 4.3.1 #no-requested-address, RFC 2131 4.3.1 #lease-time, RFC 2131 4.3.1 #no-request-list,
// RFC 2131 4.3.1 #no-message-size, RFC 2131 4.3.1 #server-identifier, RFC 2131 4.3.1 #address-is-returned,
// RFC 6842 3 #no-invented-client-id
#[test]
fn offers_and_acks_carry_what_they_must_and_nothing_they_must_not() {
    for (conf, id) in [(VISITORS.to_owned(), &[9, 9][..]), (format!("echo-client-id true; {VISITORS}"), &[])] {
        let mut world = World::new(&conf);
        let with = |message: Message| {
            let message = message.without(55).with(55, &[1, 50, 51, 54, 55, 57, 61, 3]).with(57, &[5, 220]);
            if id.is_empty() { message } else { message.with(61, id) }
        };
        let offer = world.ask(&with(Message::discover(1).with(50, &ip(60).octets())));
        let ack = world.ask(&with(Message::select(1, ip(60))));
        let renewed = world.ask(&with(Message::renew(1, ip(60))));
        for reply in [offer, ack, renewed] {
            assert_eq!(reply.yiaddr(), ip(60));
            assert_eq!(reply.codes(), [53, 54, 51, 1, 3], "neither 50 nor 55, 57, 61");
        }
    }
}

// RFC 2131 4.3.1 #configured-is-sent, RFC 2131 4.3.1 #unknown-is-not-sent, RFC 2131 4.3.1 #once,
// RFC 2131 4.3.1 #host-requirements
#[test]
fn what_is_asked_for_and_known_is_sent_once() {
    let mut world = World::new(VISITORS);
    // 44 and 23 (the default TTL, for which the Host Requirements have a value) are not configured.
    let offer = world.ask(&Message::new(1, 1).with(55, &[6, 3, 6, 44, 15, 3, 23, 6]));
    assert_eq!(offer.codes(), [53, 54, 51, 6, 1, 15, 3]);
}

// RFC 2132 2 #trailing-nul
#[test]
fn text_with_and_without_a_nul_behind_it_is_the_same() {
    for name in [&b"alice"[..], b"alice\0", b"alice\0\0\0"] {
        let mut world = World::new(VISITORS);
        world.ask(&Message::discover(1).with(12, name));
        world.ask(&Message::select(1, ip(50)).with(12, name));
        assert!(world.journal.contains("client-hostname \"alice\";"), "{}", world.journal);
    }
}

// RFC 2132 8.4 #vendor-options-are-ignored, RFC 2132 9.13 #vendor-class-is-ignored
#[test]
fn vendor_information_that_nobody_asks_for_changes_nothing() {
    let mut world = World::new(VISITORS);
    let plain = world.ask(&Message::discover(1));
    let vendor = world.ask(&Message::discover(1).with(43, &[1, 200, 9]).with(60, b"\xff\0odd"));
    assert_eq!(plain, vendor);
}

// RFC 3046 2.2 #echo-whole, RFC 3046 2.2 #echo-last
#[test]
fn every_kind_of_reply_ends_with_the_relay_s_option() {
    let mut world = World::new(VISITORS);
    let agent = [1, 2, 0, 255, 2, 1, 7, 200, 3, 1, 2, 3];
    let through = |message: Message| message.with(82, &agent).via(ip(7));
    let offer = world.ask(&through(Message::discover(1)));
    let ack = world.ask(&through(Message::select(1, ip(50))));
    let nak = world.ask(&through(Message::reboot(2, ip(50))));
    let inform = world.ask(&through(Message::new(8, 3).from(ip(9))));
    for (reply, kind) in [(offer, 2), (ack, 5), (nak, 6), (inform, 5)] {
        assert_eq!(
            (reply.kind(), reply.codes().last(), reply.option(82).as_deref()),
            (kind, Some(&82), Some(&agent[..]))
        );
    }
}

// RFC 3046 2.2 #echo-or-nothing
#[test]
fn an_option_82_too_long_for_one_option_is_not_sent_back_in_part() {
    let mut world = World::new(VISITORS);
    let piece = |code: u8| [&[code, 198][..], &[7; 198]].concat();
    let offer = world.ask(&Message::discover(1).with(82, &piece(9)).with(82, &piece(10)).via(ip(7)));
    assert_eq!((offer.kind(), offer.option(82)), (2, None));
}

// RFC 3527 3 #before-subnet-selection, RFC 3527 3 #no-other-link, RFC 3527 3 #same-way-back
#[test]
fn link_selection_chooses_the_link_and_only_that() {
    let mut world = World::new(&two());
    let agent = [5, 4, 10, 9, 0, 0];
    let ask = |client| Message::discover(client).with(118, &ip(0).octets()).with(82, &agent).via(ip(7));
    let offer = world.ask(&ask(1));
    assert_eq!(offer.yiaddr(), far(50), "not the subnet of option 118, nor that of the relay");
    assert_eq!(offer.destination, SocketAddrV4::new(ip(7), 67), "but back through the relay");
    assert_eq!(world.ask(&Message::discover(9).via(ip(7))).destination, offer.destination);
    // The only address there is taken: nothing from elsewhere.
    world.silent(&ask(2));
    assert_eq!(world.ignored("no-free-leases"), 1);
}

// RFC 5107 4 #override-is-remembered, RFC 5107 4 #override-is-accepted
#[test]
fn a_server_identifier_override_holds_for_direct_messages_too() {
    let mut world = World::new(VISITORS);
    let (override_, agent) = (ip(7), [11, 4, 192, 168, 150, 7]);
    let through = |message: Message| message.with(82, &agent).via(ip(7));
    world.ask(&through(Message::discover(1)));
    world.ask(&through(Message::select(1, ip(50)).without(54).with(54, &override_.octets())));
    world.pass(300);
    let direct = world.ask(&Message::renew(1, ip(50)));
    assert_eq!(direct.option(54).unwrap(), override_.octets());
    assert_eq!(direct.option(82), None);
    // The relay does not say it any more: the server is itself again.
    let ack = world.ask(&Message::renew(1, ip(50)).with(82, &[1, 1, 7]).via(ip(7)));
    assert_eq!(ack.option(54).unwrap(), SERVER.octets());
}
