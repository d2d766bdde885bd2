//! A failover pool without a partner: partner-down serves, everything else waits.

use super::super::testing::{GSB, Message, Reading, World, ip};

#[test]
fn the_first_start_in_partner_down_journals_the_state_and_full_leases() {
    let mut world = World::new(GSB);
    assert_eq!(
        world.take_journal(),
        "\nfailover peer \"GSB\" state {\n  my state partner-down at 0 2026/11/22 12:00:00;\n  partner state \
         unknown-state at 0 2026/11/22 12:00:00;\n}\n"
    );
    assert_eq!(world.serving.get(&1), Some(&true));
    let offer = world.ask(&Message::discover(1));
    assert_eq!((offer.yiaddr(), offer.lease_time()), (ip(50), 600));
    world.ask(&Message::select(1, ip(50)));
    let journal = world.take_journal();
    for line in [
        "starts 0 2026/11/22 12:00:00;",
        "ends 0 2026/11/22 12:10:00;",
        "tstp 0 2026/11/22 12:15:00;",
        "cltt 0 2026/11/22 12:00:00;",
        "binding state active;",
        "next binding state expired;",
        "hardware ethernet 02:00:00:00:00:01;",
    ] {
        assert!(journal.contains(line), "{line} in {journal}");
    }
    assert_eq!(world.armed[&ip(50)].peer, 1);
}

#[test]
fn a_recorded_state_wins_over_the_configuration_s() {
    let recorded = "failover peer \"GSB\" state {\n  my state recover at 0 2026/11/22 11:00:00;\n  partner state \
                    unknown-state at 0 2026/11/22 11:00:00;\n}\n";
    let mut world = World::with(GSB, recorded, |_| {});
    assert!(world.journal.is_empty());
    assert_eq!(world.serving.get(&1), Some(&false));
    world.pass(20);
    world.silent(&Message::discover(1));
    assert_eq!(world.ignored("not-responding"), 1);
    world.silent(&Message::reboot(1, ip(50)));
    assert_eq!(world.ignored("not-responding"), 2);
}

#[test]
fn a_server_that_was_normal_waits_for_its_partner_and_then_serves_alone() {
    let recorded = "failover peer \"GSB\" state {\n  my state normal at 0 2026/11/22 11:00:00;\n  partner state normal \
                    at 0 2026/11/22 11:00:00;\n}\n";
    let mut world = World::with(GSB, recorded, |_| {});
    world.silent(&Message::discover(1));
    world.pass(15);
    assert!(world.logged("failover peer GSB: I move from startup to communications-interrupted"));
    // dhcpd: leaving startup does not change since when.
    assert!(world.journal.contains("my state communications-interrupted at 0 2026/11/22 11:00:00;"));
    assert_eq!(world.serving.get(&1), Some(&true));
    let offer = world.ask(&Message::discover(1));
    assert_eq!(offer.lease_time(), 3, "outside partner-down a new client gets MCLT");
}

#[test]
fn the_partner_s_addresses_are_left_alone_outside_partner_down() {
    let lease = "lease 192.168.150.50 {\n  binding state backup;\n}\n";
    let interrupted = "failover peer \"GSB\" state {\n  my state communications-interrupted at 0 2026/11/22 11:00:00;\n  \
                       partner state normal at 0 2026/11/22 11:00:00;\n}\n";
    let mut world = World::with(GSB, &format!("{interrupted}{lease}"), |_| {});
    world.pass(16);
    assert_eq!(world.ask(&Message::discover(1)).yiaddr(), ip(51));
    world.silent(&Message::reboot(2, ip(50)));
    assert_eq!(world.ignored("lease-owned-by-peer"), 1);
}

#[test]
fn an_expired_lease_passes_through_expired_and_becomes_free_without_the_partner() {
    let mut world = World::new(GSB);
    // What began with partner-down may have been promised by the partner as well.
    world.pass(1);
    world.join(1);
    world.take_journal();
    world.pass(700);
    let journal = world.take_journal();
    let expired = journal.find("binding state expired;").unwrap();
    let free = journal.rfind("binding state free;").unwrap();
    assert!(expired < free, "{journal}");
    assert_eq!(world.status().pools[0].free, 51);
}

#[test]
fn what_a_client_gave_back_while_the_partner_was_away_is_given_to_it_again() {
    let leases = "failover peer \"GSB\" state {\n  my state normal at 0 2026/11/22 11:00:00;\n  partner state normal at 0 \
                  2026/11/22 11:00:00;\n}\nlease 192.168.150.50 {\n  starts 0 2026/11/22 11:59:00;\n  ends 0 2026/11/22 \
                  12:09:00;\n  tstp 0 2026/11/22 12:14:00;\n  tsfp 0 2026/11/22 12:14:00;\n  atsfp 0 2026/11/22 \
                  12:14:00;\n  binding state active;\n  hardware ethernet 02:00:00:00:00:01;\n}\n";
    let mut world = World::with(GSB, leases, |_| {});
    world.pass(16);
    world.silent(&Message::release(1, ip(50)));
    assert!(
        world
            .take_journal()
            .contains("binding state released;\n  next binding state free;\n  rewind binding state active;")
    );
    // Nobody else gets it, since the partner thinks that it is this client's.
    assert_eq!(world.ask(&Message::discover(2)).yiaddr(), ip(51));
    let offer = world.ask(&Message::discover(1));
    assert_eq!(offer.yiaddr(), ip(50));
    let answer = world.ask(&Message::select(1, ip(50)));
    assert_eq!((answer.kind(), answer.yiaddr()), (5, ip(50)), "what is offered is granted");
}

#[test]
fn an_address_that_a_client_had_and_the_partner_may_give_is_no_reason_to_refuse_it() {
    // It gave it back, and has got it again from the partner, which could not tell us yet.
    let lease = "lease 192.168.150.50 {\n  ends 0 2026/11/22 11:30:00;\n  binding state backup;\n  hardware ethernet \
                 02:00:00:00:00:01;\n}\n";
    let interrupted = "failover peer \"GSB\" state {\n  my state communications-interrupted at 0 2026/11/22 11:00:00;\n  \
                       partner state normal at 0 2026/11/22 11:00:00;\n}\n";
    let mut world = World::with(GSB, &format!("{interrupted}{lease}"), |_| {});
    world.pass(16);
    world.silent(&Message::reboot(1, ip(50)));
    world.silent(&Message::renew(1, ip(50)));
    assert_eq!(world.ignored("lease-owned-by-peer"), 2);
    assert_eq!(world.ask(&Message::discover(1).with(50, &ip(50).octets())).yiaddr(), ip(51));
}
