//! In partner-down an address waits for whatever the lost partner, or its kernel, may still promise: also where its last
//! acknowledgement was lost, and whatever has happened to the lease since (I1). And it comes back in the end (I3).

use std::net::Ipv4Addr;

use dhcp_user::failover::{Command, Input, State};
use dhcp_user::lease::time::WallTime;

use crate::agent::client_id;
use crate::flows::{MCLT, normal};
use crate::pair::{P, S, World};

/// What happens on the survivor after the partner's acknowledgement was lost with the partner's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    /// The client renews for a shorter time, before partner-down or in it.
    Renews {
        is_alone: bool,
    },
    /// It gives the address back.
    Releases {
        is_alone: bool,
    },
    /// The survivor is killed and comes back in between.
    RenewsAndCrashes,
}

/// A pair whose secondary has accepted a lease of 600 s, for which its kernel now answers, while the primary has not heard
/// that it did; the agent of the secondary is dead. The address, and what the secondary was told.
fn unheard() -> (World, Ipv4Addr, WallTime) {
    let mut world = normal(20);
    world.uses_kernel = true;
    let address = world.discover(P, 1, 100).unwrap();
    world.request(P, 1, address, 300).unwrap();
    world.run_for(3);
    assert!(world.is_settled());
    world.run_for(250);
    world.request(P, 1, address, 600).unwrap();
    let told = world.nodes[P].store.get(address).told_partner;
    assert!(world.run_until(1, |world| world.nodes[S].store.get(address).from_partner == told), "it has come");
    world.cut();
    world.run_for(1);
    assert_eq!(world.nodes[S].kernel[&address].horizon, told.after(MCLT), "its kernel may promise that much");
    assert!(world.nodes[P].store.get(address).from_partner < told, "the acknowledgement is lost");
    world.kill(S, false);
    world.run_for(20);
    assert_eq!(world.state(P), Some(State::CommunicationsInterrupted));
    (world, address, told)
}

fn play(then: Then) {
    let (mut world, address, told) = unheard();
    let lives_on = |world: &mut World, is_now: bool| {
        if !is_now {
            return;
        }
        match then {
            Then::Nothing => {}
            Then::Renews { .. } | Then::RenewsAndCrashes => {
                world.request(P, 1, address, 100).unwrap();
            }
            Then::Releases { .. } => world.release(P, 1, address),
        }
    };
    let is_before = matches!(then, Then::Renews { is_alone: false } | Then::Releases { is_alone: false });
    lives_on(&mut world, is_before);
    world.run_for(1);
    world.handle(P, |_| Input::Command(Command::PartnerDown));
    world.run_for(2);
    lives_on(&mut world, !is_before);
    world.run_for(2);
    if then == Then::RenewsAndCrashes {
        world.kill(P, false);
        world.start(P);
        world.run_for(1);
    }
    // The client's next message is heard by the dead server's kernel only: a renewal, or the first one after a reboot.
    world.run_for(90);
    let wall = world.now(P).wall;
    let secs = world.kernel_renews(S, &client_id(1), address, 600).expect("its kernel answers");
    let holds_until = wall.after(secs);
    assert_eq!(holds_until, told.after(MCLT).min(wall.after(600)));
    let is_free = |world: &World| {
        let binding = world.nodes[P].store.get(address);
        world.endpoint(P).is_mine_to_allocate(&binding, world.now(P).wall)
    };
    while world.now(P).wall <= holds_until {
        assert!(!is_free(&world), "{then:?}: I1: {} s before its end", holds_until.since(world.now(P).wall));
        world.run_for(1);
    }
    // I3: a lease and a half more, and MCLT.
    assert!(world.run_until(1000, is_free), "{then:?}: it never comes back: {:?}", world.nodes[P].store.get(address));
}

#[test]
fn an_address_waits_for_what_the_partner_may_have_accepted() {
    play(Then::Nothing);
}

#[test]
fn a_shorter_renewal_makes_nobody_forget_what_the_partner_was_told() {
    play(Then::Renews { is_alone: false });
    play(Then::Renews { is_alone: true });
    play(Then::RenewsAndCrashes);
}

#[test]
fn a_release_that_the_partner_did_not_hear_makes_nobody_forget_what_it_was_told() {
    play(Then::Releases { is_alone: false });
    play(Then::Releases { is_alone: true });
}
