//! RELEASE, DECLINE, expiry, probes: what is taken back, in which order.

use super::super::{
    port::Input,
    testing::{GSB, Message, Reading, Seen, VISITORS, World, ip},
};

#[test]
fn a_release_disarms_before_it_frees() {
    let mut world = World::new(VISITORS);
    world.join(1);
    assert!(world.armed.contains_key(&ip(50)));
    world.revokes = false;
    world.take_seen();
    world.take_journal();
    world.silent(&Message::release(1, ip(50)));
    assert_eq!(world.take_seen(), [Seen::Revoke(vec![ip(50)])]);
    assert!(world.journal.is_empty());
    world.complete_revocation();
    assert_eq!(world.take_seen(), [Seen::Append(2)]);
    assert_eq!(
        world.journal,
        "lease 192.168.150.50 {\n  starts 0 2026/11/22 12:00:00;\n  ends 0 2026/11/22 12:00:00;\n  tstp 0 2026/11/22 \
         12:00:00;\n  cltt 0 2026/11/22 12:00:00;\n  binding state free;\n  hardware ethernet 02:00:00:00:00:01;\n}\n"
    );
    assert!(world.logged("DHCPRELEASE of 192.168.150.50 from 02:00:00:00:00:01 via eth0 (found)"));
}

#[test]
fn a_release_of_what_somebody_else_holds_does_nothing() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.take_seen();
    world.silent(&Message::release(2, ip(50)));
    world.silent(&Message::release(1, ip(51)));
    assert!(world.take_seen().is_empty());
    assert_eq!(world.ignored("release-not-found"), 2);
    assert!(world.logged("DHCPRELEASE of 192.168.150.50 from 02:00:00:00:00:02 via eth0 (not found)"));
}

#[test]
// RFC 2131 4.3.3 #declined-is-not-given
fn a_decline_by_the_holder_abandons_and_forgets_who_it_was() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.take_journal();
    world.take_seen();
    world.silent(&Message::decline(1, ip(50)));
    assert_eq!(world.take_seen(), [Seen::Revoke(vec![ip(50)]), Seen::Append(2)]);
    let journal = world.take_journal();
    assert!(journal.contains("ends 1 2026/11/23 12:00:00;\n  tstp 1 2026/11/23 12:00:00;"), "{journal}");
    assert!(journal.contains("binding state abandoned;\n  next binding state free;\n  rewind binding state free;\n}"));
    assert!(world.logged("Abandoning IP address 192.168.150.50: declined."));
    assert!(world.logged("DHCPDECLINE of 192.168.150.50 from 02:00:00:00:00:01 via eth0: abandoned"));
    assert_eq!(world.ask(&Message::discover(1)).yiaddr(), ip(51));
    world.pass(86_500);
    assert!(world.journal.contains("binding state free;"));
}

#[test]
fn a_decline_counts_only_from_the_holder_or_who_was_offered_it() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.silent(&Message::decline(2, ip(50)));
    world.silent(&Message::decline(2, ip(60)));
    assert_eq!(world.ignored("decline-from-other"), 2);
    assert_eq!(world.ask(&Message::renew(1, ip(50))).kind(), 5, "the owner is not bothered");
    world.ask(&Message::discover(2));
    world.silent(&Message::decline(2, ip(51)));
    assert!(world.logged("Abandoning IP address 192.168.150.51: declined."));
    let mut world = World::with(VISITORS, "", |options| options.checks_decliner = false);
    world.join(1);
    world.silent(&Message::decline(2, ip(50)));
    assert!(world.logged("Abandoning IP address 192.168.150.50: declined."), "dhcpd listens to anybody");
}

#[test]
fn denied_declines_are_ignored() {
    let mut world = World::new(&format!("deny declines; {VISITORS}"));
    world.join(1);
    world.silent(&Message::decline(1, ip(50)));
    assert_eq!(world.ignored("declines-denied"), 1);
    assert!(world.logged("DHCPDECLINE of 192.168.150.50 from 02:00:00:00:00:01 via eth0: ignored"));
}

#[test]
fn an_expiry_asks_the_kernel_first_and_believes_it() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    world.kernel_renews(ip(50), 600);
    world.take_seen();
    world.take_journal();
    world.pass(302);
    assert_eq!(world.take_seen(), [Seen::Revoke(vec![ip(50)])], "the table's end is reached, the kernel is asked");
    assert!(world.journal.is_empty(), "the lease goes on until the kernel's word ends");
    world.pass(298);
    assert!(world.journal.is_empty());
    world.pass(10);
    let journal = world.take_journal();
    assert!(journal.contains("binding state free;"), "{journal}");
    assert!(journal.contains("ends 0 2026/11/22 12:15:00;"), "{journal}");
    assert!(journal.contains("tstp 0 2026/11/22 12:15:00;"), "{journal}");
    assert!(journal.contains("hardware ethernet 02:00:00:00:00:01;"), "identity stays: {journal}");
}

#[test]
fn a_lease_that_the_kernel_is_known_to_have_renewed_is_not_taken_from_it() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.join(2);
    world.pass(300);
    let renewal = world.kernel_renews(ip(50), 600);
    world.pass(300);
    assert!(world.server.due(world.now).is_empty());
    world.take_seen();
    // As the shell does before it says that the time has come.
    world.now = crate::lease::time::Now {
        boot: world.now.boot.after(std::time::Duration::from_secs(3)),
        wall: world.now.wall.after(3),
    };
    let mut due = world.server.due(world.now);
    due.sort();
    assert_eq!(due, [ip(50), ip(51)]);
    world.input(Input::Renewed(vec![(ip(50), renewal)]));
    world.input(Input::Timeout);
    let seen = world.take_seen();
    let revoked: Vec<_> = seen.iter().filter(|seen| matches!(seen, Seen::Revoke(_))).collect();
    assert_eq!(revoked, [&Seen::Revoke(vec![ip(51)])], "the other one is still in the kernel's hands");
    assert!(world.server.is_armed(ip(50)) && !world.server.is_armed(ip(51)));
    world.pass(298);
    assert!(world.server.due(world.now).is_empty(), "it ends when its client was told");
    assert!(world.server.is_armed(ip(50)));
}

#[test]
fn expiries_of_one_moment_share_one_revocation() {
    let mut world = World::new(VISITORS);
    for client in 1..=5 {
        world.join(client);
    }
    world.take_seen();
    world.take_journal();
    world.pass(700);
    let seen = world.take_seen();
    let revokes: Vec<_> = seen.iter().filter(|seen| matches!(seen, Seen::Revoke(_))).collect();
    let [Seen::Revoke(addresses)] = &revokes[..] else { panic!("{seen:?}") };
    assert_eq!(addresses.len(), 5);
    assert_eq!(world.take_journal().matches("binding state free;\n  hardware").count(), 5);
}

#[test]
fn what_comes_while_a_revocation_is_under_way_waits_for_it() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    world.revokes = false;
    world.silent(&Message::release(1, ip(50)));
    world.silent(&Message::renew(1, ip(50)));
    assert_eq!(world.ask(&Message::reboot(2, ip(50))).kind(), 6, "it is still leased");
    world.kernel_renews(ip(50), 600);
    world.revokes = true;
    world.complete_revocation();
    // The release first, as it came; then the renewal of a free address, which dhcpd grants to its old holder.
    let acks: Vec<_> = world.sent.iter().filter(|reply| reply.kind() == 5).collect();
    assert_eq!(acks.len(), 2);
    assert_eq!(world.armed.len(), 1, "armed again for the new grant");
}

#[test]
fn an_arm_that_waits_for_the_disk_does_not_overtake_a_release() {
    let mut world = World::new(VISITORS);
    world.ask(&Message::discover(1));
    world.syncs = false;
    world.silent(&Message::select(1, ip(50)));
    world.silent(&Message::release(1, ip(50)));
    world.sync();
    assert!(world.armed.is_empty());
    assert!(!world.take_seen().iter().any(|seen| matches!(seen, Seen::Arm(_))));
}

#[test]
fn the_address_of_a_lease_that_ran_out_goes_to_the_next_client_when_nothing_else_is_left() {
    let one = VISITORS.replace("192.168.150.100", "192.168.150.50");
    let mut world = World::new(&one);
    world.join(1);
    world.pass(599);
    world.silent(&Message::discover(2));
    world.pass(4);
    assert_eq!(world.join(2), ip(50));
    assert_eq!(world.ask(&Message::reboot(1, ip(50))).kind(), 6);
}

#[test]
fn a_probe_delays_the_offer_and_a_hit_abandons_the_address() {
    let conf = VISITORS.replace("ping-check false;", "");
    let mut world = World::new(&conf);
    world.probes = false;
    world.silent(&Message::discover(1));
    world.silent(&Message::discover(1));
    assert_eq!(world.ignored("probe-under-way"), 1);
    assert_eq!(world.take_seen(), [Seen::Probe(ip(50))]);
    world.complete_probe(true);
    assert!(world.logged("Abandoning IP address 192.168.150.50: pinged before offer"));
    assert_eq!(world.pending_probes.len(), 1, "the next address is probed");
    world.complete_probe(false);
    let offer = world.sent.pop().unwrap();
    assert_eq!((offer.kind(), offer.yiaddr()), (2, ip(51)));
    assert_eq!(world.ask(&Message::select(1, ip(51))).kind(), 5);
    // Soon afterwards the same client is offered its address without a probe.
    world.silent(&Message::release(1, ip(51)));
    assert_eq!(world.ask(&Message::discover(1)).yiaddr(), ip(51));
}

#[test]
fn a_failed_journal_promises_nothing_and_a_restored_one_goes_on() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.input(Input::JournalFailed("disk full".to_owned()));
    world.pass(200);
    world.silent(&Message::renew(1, ip(50)));
    world.silent(&Message::release(1, ip(50)));
    assert_eq!(world.ignored("journal-failed"), 2);
    world.pass(600);
    assert_eq!(world.status().journal.failure.as_deref(), Some("disk full"));
    world.input(Input::JournalRestored);
    world.pass(1);
    assert!(world.journal.contains("binding state free;"), "the expiry that was due is made up for");
}

#[test]
fn with_a_partner_down_a_release_passes_through_released() {
    let mut world = World::new(GSB);
    world.pass(10);
    world.join(1);
    world.take_journal();
    world.silent(&Message::release(1, ip(50)));
    world.pass(1);
    let journal = world.take_journal();
    let released = journal.find("binding state released;").unwrap();
    let free = journal.rfind("binding state free;").unwrap();
    assert!(released < free, "{journal}");
}
