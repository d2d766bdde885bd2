//! What the next agent makes of leases and entries that an earlier one left.

use std::net::Ipv4Addr;

use dhcp_ebpf::abi::{BootSecs, Renewal};

use super::super::{
    port::{Arm, Input, Standing},
    testing::{Message, Reading as _, Seen, VISITORS, World, ip, mac},
};
use crate::lease::time::{BootTime, Now, WallTime};

/// The entry that an arm makes.
fn standing(arm: &Arm, renewal: Renewal) -> Standing {
    Standing {
        address: arm.address,
        chaddr: arm.chaddr,
        horizon: arm.horizon,
        questions: arm.questions.clone(),
        is_armed: true,
        renewal,
    }
}

/// The same entry, disarmed.
fn disarmed(standing: Standing) -> Standing {
    Standing { questions: [None, None, None], is_armed: false, ..standing }
}

/// The agent is killed; the next one starts on the same leases and kernel, `later` seconds on, its wall clock `step`
/// seconds from where it should be.
fn next(mut world: World, later: u32, step: i64, adjust: impl FnOnce(&mut Vec<Standing>)) -> World {
    let mut left: Vec<Standing> = world
        .armed
        .values()
        .map(|arm| standing(arm, world.words.get(&arm.address).copied().unwrap_or_default()))
        .collect();
    adjust(&mut left);
    let wall = i64::from(world.now.wall.secs()) + i64::from(later) + step;
    let now = Now {
        boot: BootTime::from_nanos(world.now.boot.nanos() + u64::from(later) * 1_000_000_000),
        wall: WallTime::from_secs(u64::try_from(wall).unwrap()),
    };
    let leases = world.take_journal();
    World::at(VISITORS, &leases, |options| options.adopted = left, now)
}

#[test]
fn a_renewal_while_nobody_was_there_moves_the_lease_exactly() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    world.kernel_renews(ip(50), 599);
    let mut world = next(world, 100, 0, |_| {});
    let lease = world.server.leases().next().unwrap();
    assert_eq!((lease.ends.secs(), lease.cltt.secs()), (1_795_348_800 + 899, 1_795_348_800 + 300));
    // The horizon was near: it has moved, after its record.
    assert_eq!(world.take_seen(), [Seen::Append(1), Seen::Extend(vec![ip(50)])]);
    assert!(world.journal.contains("ends 0 2026/11/22 12:14:59;"), "{}", world.journal);
    assert!(world.server.is_armed(ip(50)));
    // Armed as it is, nothing is told anew: the answer that the kernel has is the one that would be made.
    world.ask(&Message::renew(1, ip(50)));
    assert!(!world.take_seen().contains(&Seen::Revoke(vec![ip(50)])));
    assert_eq!(world.armed[&ip(50)].questions.iter().flatten().count(), 2);
}

#[test]
fn an_adopted_entry_is_revoked_before_its_address_is_freed() {
    let mut world = World::new(VISITORS);
    world.join(1);
    let mut world = next(world, 10, 0, |_| {});
    assert!(world.take_seen().is_empty(), "nothing has happened");
    world.silent(&Message::release(1, ip(50)));
    assert_eq!(world.take_seen(), [Seen::Revoke(vec![ip(50)]), Seen::Append(1)]);
    assert!(world.journal.contains("binding state free;"));
}

#[test]
fn an_entry_that_was_disarmed_still_says_what_was_promised_and_until_when_only() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    world.kernel_renews(ip(50), 599);
    let mut world = next(world, 1, 0, |left| *left = left.drain(..).map(disarmed).collect());
    assert!(!world.server.is_armed(ip(50)));
    let lease = world.server.leases().next().unwrap();
    assert_eq!(lease.ends.secs(), 1_795_348_800 + 899);
    // Known exactly, so the address is free when that is over, not only at the horizon.
    world.pass(602);
    assert!(world.journal.contains("binding state free;"), "{}", world.journal);
}

#[test]
fn a_horizon_that_was_written_and_not_yet_told_is_told_by_the_next_agent() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    let renewal = world.kernel_renews(ip(50), 599);
    let before = world.armed.clone();
    world.input(Input::Renewed(vec![(ip(50), renewal)]));
    // The record reached the disk, the store did not reach the kernel.
    world.armed = before;
    let mut world = next(world, 1, 0, |_| {});
    assert_eq!(world.take_seen(), [Seen::Extend(vec![ip(50)])]);
    assert_eq!(world.armed[&ip(50)].horizon, BootTime::from_secs(5000 + 300 + 900 - 1));
}

#[test]
fn a_step_of_the_wall_clock_between_two_agents_moves_no_promise() {
    for step in [-86_400, -60, 60, 86_400] {
        let mut world = World::new(VISITORS);
        world.join(1);
        world.pass(300);
        world.kernel_renews(ip(50), 599);
        let mut world = next(world, 10, step, |_| {});
        let mut other = 2;
        // Until the kernel's promise is over nobody else gets the address, whatever the clock on the wall says.
        for _ in 0..58 {
            world.pass(10);
            assert_ne!(world.join(other), ip(50), "clock stepped by {step} s");
            other = if other == 40 { 2 } else { other + 1 };
        }
        let journal = world.take_journal();
        assert!(!journal.contains("lease 192.168.150.50 {\n  starts 0 2026/11/22 12:05:10"), "{journal}");
    }
}

#[test]
fn a_promise_that_the_journal_does_not_know_is_kept_and_written_down() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    world.kernel_renews(ip(50), 599);
    // Somebody put an old leases file back.
    world.take_journal();
    world.revokes = true;
    let world = next(world, 1, 0, |_| {});
    assert!(world.journal.contains("hardware ethernet 02:00:00:00:00:01;"), "{}", world.journal);
    assert!(world.seen.contains(&Seen::Revoke(vec![ip(50)])), "{:?}", world.seen);
    assert!(!world.server.is_armed(ip(50)));
    let mut world = world;
    assert_ne!(world.join(2), ip(50));
    assert!(world.logs.iter().any(|(_, line)| line.contains("the leases file does not know it")), "{:?}", world.logs);
}

#[test]
fn a_release_that_is_written_is_newer_than_the_kernels_last_word() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    let renewal = world.kernel_renews(ip(50), 599);
    let entry = standing(&world.armed[&ip(50)], renewal);
    world.pass(10);
    world.silent(&Message::release(1, ip(50)));
    let mut world = next(world, 1, 0, |left| left.push(disarmed(entry)));
    assert!(world.take_journal().is_empty() && world.logs.is_empty(), "{:?}", world.logs);
    world.ask(&Message::discover(2).with(50, &ip(50).octets()));
    let ack = world.ask(&Message::select(2, ip(50)));
    assert_eq!((ack.kind(), ack.yiaddr()), (5, ip(50)), "it is free");
}

#[test]
fn the_word_of_an_earlier_holder_moves_nothing_beyond_the_promise_of_the_present_one() {
    let mut world = World::new(VISITORS);
    world.join(1);
    let mut world = next(world, 100, 0, |left| {
        for one in left {
            one.renewal = Renewal { at: BootSecs::new(4000), until: BootSecs::new(9999) };
        }
    });
    let lease = world.server.leases().next().unwrap();
    assert!(lease.ends.secs() <= 1_795_348_800 + 900);
    world.pass(900);
    assert!(world.journal.contains("binding state free;"));
}

#[test]
fn a_hundred_thousand_entries_are_adopted_and_their_horizons_move_in_one_record() {
    const COUNT: u32 = 100_000;
    let conf = VISITORS
        .replace("subnet 192.168.150.0 netmask 255.255.255.0", "subnet 10.0.0.0 netmask 255.0.0.0")
        .replace("range 192.168.150.50 192.168.150.100;", "range 10.0.0.1 10.2.0.0;")
        .replace("option routers 192.168.150.1;", "")
        .replace("option broadcast-address 192.168.150.255;", "");
    let mut world = World::new(VISITORS);
    world.join(1);
    let (arm, journal) = (world.armed[&ip(50)].clone(), world.take_journal());
    let address_of = |number: u32| Ipv4Addr::from(0x0a00_0001 + number);
    let mac_of = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        [2, 0, 0, a, b, c]
    };
    let mut leases = String::new();
    let mut left = Vec::new();
    let renewal = Renewal { at: BootSecs::new(5300), until: BootSecs::new(5899) };
    for number in 0..COUNT {
        let [a, b, c, d, e, f] = mac_of(number);
        leases.push_str(
            &journal
                .replace("lease 192.168.150.50", &format!("lease {}", address_of(number)))
                .replace("02:00:00:00:00:01", &format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")),
        );
        let arm = Arm { address: address_of(number), chaddr: mac_of(number), ..arm.clone() };
        left.push(standing(&arm, renewal));
    }
    let now = Now { boot: BootTime::from_secs(5400), wall: WallTime::from_secs(1_795_348_800 + 400) };
    let mut world = World::at(&conf, &leases, |options| options.adopted = left, now);
    let appends = world.take_seen();
    assert!(
        matches!(&appends[..], [Seen::Append(1), Seen::Extend(moved)] if moved.len() == COUNT as usize),
        "{} effects",
        appends.len()
    );
    let status = world.status();
    assert_eq!((status.fast_path.armed, status.fast_path.renewals), (COUNT as usize, u64::from(COUNT)));
    assert_eq!(status.fast_path.templates, 1, "renewal and reboot of all share one answer");
    let last = world.server.table().get(address_of(COUNT - 1)).unwrap();
    assert_eq!((last.ends.secs(), last.tstp.secs()), (1_795_348_800 + 899, 1_795_348_800 + 400 + 900));
    assert_eq!(last.hw.and_then(|hw| hw.mac()), Some(mac_of(COUNT - 1)));
    assert_ne!(mac(1), mac_of(COUNT - 1));
}
