//! Permits, classes, hosts, limits and the other statements that say no or say it differently.

use super::super::testing::{Message, Reading, VISITORS, World, ip};

#[test]
fn unknown_clients_can_be_denied() {
    let conf = format!("deny unknown-clients; host h {{ hardware ethernet 02:00:00:00:00:01; }} {VISITORS}");
    let mut world = World::new(&conf);
    assert_eq!(world.ask(&Message::discover(1)).yiaddr(), ip(50));
    world.silent(&Message::discover(2));
    assert_eq!(world.ignored("unknown-client"), 1);
    assert!(world.logged("DHCPDISCOVER from 02:00:00:00:00:02 via eth0: unknown client"));
}

#[test]
fn pools_admit_by_permit() {
    let conf = VISITORS.replace(
        "pool { range 192.168.150.50 192.168.150.100; }",
        "pool { deny unknown-clients; range 192.168.150.50 192.168.150.59; }
         pool { allow unknown-clients; range 192.168.150.60 192.168.150.69; }",
    );
    let mut world = World::new(&format!("host h {{ hardware ethernet 02:00:00:00:00:01; }} {conf}"));
    assert_eq!(world.ask(&Message::discover(1)).yiaddr(), ip(50));
    assert_eq!(world.ask(&Message::discover(2)).yiaddr(), ip(60));
    assert_eq!(world.ask(&Message::reboot(2, ip(51))).kind(), 6, "a permit refuses, and the address is ours");
}

#[test]
fn booting_can_be_denied_to_a_host_and_ignored_without_a_word() {
    for (word, has_line) in [("deny", true), ("ignore", false)] {
        let conf = format!("host h {{ hardware ethernet 02:00:00:00:00:01; {word} booting; }} {VISITORS}");
        let mut world = World::new(&conf);
        world.silent(&Message::discover(1));
        assert_eq!(world.ignored("booting-denied"), 1);
        assert_eq!(world.logged("DHCPDISCOVER from 02:00:00:00:00:01 via eth0: booting disallowed"), has_line);
    }
}

#[test]
fn min_secs_makes_hasty_clients_wait() {
    let mut world = World::new(&format!("min-secs 3; {VISITORS}"));
    world.silent(&Message::discover(1));
    assert_eq!(world.ignored("min-secs"), 1);
    world.ask(&Message { secs: 3, ..Message::discover(1) });
}

#[test]
fn a_class_with_a_limit_fills_up_and_its_leases_are_billed() {
    let conf = format!("class \"ports\" {{ spawn with option agent.circuit-id; lease limit 1; }} {VISITORS}");
    let mut world = World::new(&conf);
    let on = |port: &[u8]| {
        let agent = [&[1, port.len() as u8][..], port].concat();
        move |message: Message| message.with(82, &agent).via(ip(7))
    };
    let one = on(b"p1");
    let offer = world.ask(&one(Message::discover(1)));
    world.ask(&one(Message::select(1, offer.yiaddr())));
    assert!(world.journal.contains("billing subclass \"ports\" \"p1\";"), "{}", world.journal);
    world.silent(&on(b"p1")(Message::discover(2)));
    assert_eq!(world.ignored("no-billing"), 1);
    world.ask(&on(b"p2")(Message::discover(3)));
    world.pass(300);
    assert_eq!(world.ask(&one(Message::reboot(1, offer.yiaddr()))).kind(), 5, "its own place is not taken twice");
    world.silent(&Message::release(1, offer.yiaddr()));
    world.ask(&on(b"p1")(Message::discover(2)));
}

#[test]
fn one_lease_per_client_releases_the_others() {
    let two = format!(
        "one-lease-per-client true; {VISITORS} subnet 10.9.0.0 netmask 255.255.255.0 {{ range 10.9.0.50 10.9.0.60; }}"
    );
    let mut world = World::new(&two);
    world.join(1);
    let relay = std::net::Ipv4Addr::new(10, 9, 0, 1);
    let offer = world.ask(&Message::discover(1).via(relay));
    world.take_journal();
    world.ask(&Message::reboot(1, offer.yiaddr()).via(relay));
    let journal = world.take_journal();
    assert!(journal.starts_with("lease 192.168.150.50 {") && journal.contains("binding state free;"), "{journal}");
}

#[test]
fn a_fixed_address_is_offered_and_a_host_without_one_gives_options() {
    let conf = format!(
        "use-host-decl-names true;
         host fixed {{ hardware ethernet 02:00:00:00:00:01; fixed-address 192.168.150.9; option domain-name \"one\"; }}
         host loose {{ hardware ethernet 02:00:00:00:00:02; option domain-name \"two\"; }}
         {VISITORS}"
    );
    let mut world = World::new(&conf);
    let list = [12, 15];
    let offer = world.ask(&Message::new(1, 1).with(55, &list));
    assert_eq!((offer.yiaddr(), offer.option(15).unwrap()), (ip(9), b"one".to_vec()));
    assert_eq!(offer.option(12).unwrap(), b"fixed");
    let offer = world.ask(&Message::new(1, 2).with(55, &list));
    assert_eq!((offer.yiaddr(), offer.option(15).unwrap()), (ip(50), b"two".to_vec()));
}

#[test]
fn always_broadcast_and_next_server_show_in_the_reply() {
    let conf = format!("always-broadcast true; next-server 192.168.150.4; filename \"boot\"; {VISITORS}");
    let mut world = World::new(&conf);
    let offer = world.ask(&Message::discover(1));
    assert_eq!(offer.message[10], 0x80);
    assert_eq!(offer.message[20..24], ip(4).octets());
    assert_eq!(offer.message[108..113], *b"boot\0");
    assert_eq!(*offer.destination.ip(), std::net::Ipv4Addr::BROADCAST);
}

#[test]
// RFC 6842 3 #echo-client-id
fn the_client_identifier_is_echoed_when_configured() {
    let mut world = World::new(&format!("echo-client-id true; {VISITORS}"));
    let offer = world.ask(&Message::discover(1).with(61, &[1, 2, 3]));
    assert_eq!(offer.codes()[..5], [53, 54, 51, 61, 1]);
    assert_eq!(offer.option(61).unwrap(), [1, 2, 3]);
}

#[test]
fn a_full_pool_shortens_leases_when_told_to() {
    let four = VISITORS
        .replace("192.168.150.100", "192.168.150.53")
        .replace("authoritative;", "authoritative; adaptive-lease-time-threshold 50; min-lease-time 60;");
    let mut world = World::new(&four);
    assert_eq!(world.ask(&Message::discover(1)).lease_time(), 600);
    world.join(1);
    world.join(2);
    assert_eq!(world.ask(&Message::discover(3)).lease_time(), 60);
}

#[test]
fn a_commit_hook_runs_with_every_ack_and_its_program_waits_for_the_disk() {
    let conf =
        format!("on commit {{ execute(\"/bin/hook\", binary-to-ascii(10, 8, \".\", leased-address)); }} {VISITORS}");
    let mut world = World::new(&conf);
    world.ask(&Message::discover(1));
    assert!(world.executed.is_empty());
    world.syncs = false;
    world.silent(&Message::select(1, ip(50)));
    assert!(world.executed.is_empty());
    world.sync();
    assert_eq!(world.executed, [("/bin/hook".to_owned(), vec![b"192.168.150.50".to_vec()])]);
    world.ask(&Message::renew(1, ip(50)));
    assert_eq!(world.executed.len(), 2, "unaltered leases run it as well");
}

#[test]
fn bootp_gets_an_endless_lease_only_where_it_is_admitted() {
    let bootp = Message { options: Vec::new(), ..Message::new(0, 1) };
    let mut world = World::new(VISITORS);
    let reply = world.ask(&bootp);
    assert_eq!(reply.yiaddr(), ip(50));
    assert!(world.journal.contains("ends never;") && world.journal.contains("dynamic-bootp;"), "{}", world.journal);
    let mut world = World::new(&format!("deny bootp; {VISITORS}"));
    world.silent(&bootp);
    let mut world = World::new(&VISITORS.replace("pool {", "pool { deny dynamic bootp clients;"));
    world.silent(&bootp);
    assert_eq!(world.ignored("bootp-denied"), 1);
}

#[test]
fn a_pool_that_fills_up_says_so_once_and_again_when_it_has_emptied() {
    let four = VISITORS
        .replace("192.168.150.100", "192.168.150.53")
        .replace("authoritative;", "authoritative; log-threshold-high 50; log-threshold-low 25;");
    let mut world = World::new(&four);
    let said = |world: &World, text: &str| world.logs.iter().filter(|(_, line)| line.contains(text)).count();
    world.join(1);
    assert_eq!(said(&world, "Pool threshold"), 0);
    world.join(2);
    assert!(world.logged(
        "Pool threshold exceeded - shared subnet: 192.168.150.0/24; address: 192.168.150.51; high threshold 50% 2/4."
    ));
    world.join(3);
    assert_eq!(said(&world, "Pool threshold exceeded"), 1);
    world.silent(&Message::release(2, ip(51)));
    world.silent(&Message::release(3, ip(52)));
    world.pass(300);
    world.ask(&Message::renew(1, ip(50)));
    assert_eq!(said(&world, "Pool threshold reset"), 1);
    world.join(2);
    assert_eq!(said(&world, "Pool threshold exceeded"), 2);
}
