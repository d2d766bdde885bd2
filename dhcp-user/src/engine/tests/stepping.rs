//! What becomes of promises when somebody sets the wall clock, or the machine sleeps.

use super::super::{
    port::Input,
    testing::{GSB, Message, Reading as _, Seen, VISITORS, World, ip, mac},
};
use crate::lease::BindingState;

/// Second on the wall at which the world begins.
const START: u32 = 1_795_348_800;

/// A client that was told to have 192.168.150.50 for 599 s by the kernel, just now.
fn renewed() -> World {
    let mut world = World::new(VISITORS);
    world.revokes = true;
    assert_eq!(world.join(1), ip(50));
    world.pass(300);
    world.kernel_renews(ip(50), 599);
    world
}

impl World {
    /// Somebody sets the wall clock, and the server looks at it, as it does every two seconds.
    fn set_clock(&mut self, secs: i64) {
        self.step(secs);
        self.input(Input::Timeout);
    }
}

#[test]
fn a_step_while_the_server_runs_moves_no_promise() {
    for step in [-86_400, -3600, -60, 3, 60, 400, 3600, 86_400, 1_000_000_000] {
        for is_heard in [false, true] {
            let mut world = World::new(VISITORS);
            if is_heard {
                world = renewed();
            } else {
                world.revokes = true;
                world.join(1);
            }
            world.set_clock(step.min(i64::from(u32::MAX >> 1) - i64::from(START) - 2000));
            let mut other = 2;
            // Until the promise is over nobody else gets the address, whatever the clock on the wall says.
            for _ in 0..58 {
                world.pass(10);
                assert_ne!(world.join(other), ip(50), "clock set by {step} s");
                other = if other == 51 { 2 } else { other + 1 };
                let lease = world.server.table().get(ip(50)).unwrap();
                assert_eq!((lease.state, lease.hw.and_then(|hw| hw.mac())), (BindingState::Active, Some(mac(1))));
            }
            assert_eq!(world.logs.iter().filter(|(_, line)| line.contains("the wall clock was set")).count(), 1);
        }
    }
}

#[test]
fn an_address_comes_back_after_its_promise_and_not_after_the_step() {
    let mut world = renewed();
    world.set_clock(86_400);
    // Armed, so up to the horizon and no longer.
    world.pass(590);
    assert!(!world.journal.contains("\n  binding state free;"), "{}", world.journal);
    for _ in 0..10 {
        world.pass(35);
    }
    assert!(world.journal.contains("\n  binding state free;"), "{}", world.journal);
}

#[test]
fn a_loss_of_power_after_a_step_finds_records_that_are_right() {
    let mut world = renewed();
    world.take_journal();
    world.set_clock(86_400);
    world.pass(1);
    let record = world.take_journal();
    assert!(record.contains("  ends 1 2026/11/23 12:15:00;"), "the horizon, a day later: {record}");
    assert!(record.contains("\n  binding state active;"), "{record}");
    let now = world.now;
    let mut next = World::at(VISITORS, &record, |_| {}, now);
    for other in 2..=51 {
        assert_ne!(next.join(other), ip(50), "{record}");
    }
    next.silent(&Message::discover(52));
}

#[test]
fn a_loss_of_power_after_a_step_takes_no_lease_from_a_client_that_a_partner_knows() {
    for step in [60, 900, 86_400] {
        let mut world = World::new(GSB);
        world.revokes = true;
        world.pass(1);
        assert_eq!(world.join(1), ip(50));
        world.pass(300);
        world.kernel_renews(ip(50), 599);
        let begun = world.take_journal();
        world.set_clock(step);
        world.pass(1);
        let stepped = world.take_journal();
        // In memory, and for the partner, the times stay what they were agreed to be.
        let lease = world.server.table().get(ip(50)).unwrap();
        assert!(lease.ends.secs() <= START + 301 + 600, "{lease:?}");
        let until = world.server.table().limit(ip(50)).unwrap();
        // The horizon of the first grant, a lease and a half after it.
        assert!(until.secs() >= START + 1 + 900 + u32::try_from(step).unwrap() - 1, "{until:?}");

        let now = world.now;
        let mut next = World::at(GSB, &format!("{begun}{stepped}"), |_| {}, now);
        for minute in 0..9 {
            // More than there are other addresses.
            for other in 2..=60 {
                let taken = next.take(&Message::discover(other));
                assert!(
                    taken.iter().all(|offer| offer.yiaddr() != ip(50)),
                    "set by {step} s, minute {minute}: {stepped}"
                );
            }
            next.pass(60);
        }
        // And it comes back when the promise is over.
        next.pass(3600);
        assert_ne!(next.server.table().get(ip(50)).unwrap().state, BindingState::Active, "{:?}", next.logs);
    }
}

#[test]
fn a_client_that_renews_after_a_step_is_answered_as_before() {
    let mut world = renewed();
    world.step(86_400);
    let ack = world.ask(&Message::renew(1, ip(50)));
    assert_eq!((ack.kind(), ack.yiaddr()), (5, ip(50)));
    assert!(!world.take_seen().contains(&Seen::Revoke(vec![ip(50)])));
    let lease = world.server.leases().next().unwrap();
    assert!(lease.ends.secs() >= START + 300 + 86_400 + 600, "{lease:?}");
}

#[test]
fn clocks_that_drift_apart_as_ntp_lets_them_are_no_step() {
    let mut world = World::new(VISITORS);
    world.join(1);
    for _ in 0..20 {
        world.pass(1000);
        world.step(-1);
    }
    assert!(!world.logs.iter().any(|(_, line)| line.contains("the wall clock was set")), "{:?}", world.logs);
}

#[test]
fn a_machine_that_slept_finds_its_expired_leases_expired() {
    let mut world = renewed();
    // The boot clock goes on during suspend, and so does the wall clock.
    world.pass(8 * 3600);
    assert!(world.journal.contains("\n  binding state free;"), "{}", world.journal);
    assert!(!world.server.is_armed(ip(50)));
    assert!(!world.logs.iter().any(|(_, line)| line.contains("the wall clock was set")), "{:?}", world.logs);
}
