//! What a server can do without its partner: found in slices, restarted by another state, and right.

use dhcp_user::failover::endpoint::{Made, Outlook};
use dhcp_user::failover::limits::SURVEY_SLICE_LEN;
use dhcp_user::failover::{Command, Input, Leases, State, StateRecord};
use dhcp_user::lease::time::WallTime;

use crate::flows::{MCLT, normal, world};
use crate::pair::{P, S, World};

/// Asks, and waits for the answer.
fn outlook(world: &mut World, node: usize) -> Outlook {
    world.handle(node, |_| Input::Survey);
    assert!(world.run_until(1, |world| !world.endpoint(node).is_surveying()), "it ends");
    world.endpoint(node).status(&world.nodes[node].store, world.now(node)).outlook.unwrap()
}

/// A primary that serves alone, with a pool of several slices.
fn alone(count: u32) -> World {
    let mut world = world(count);
    let since = world.now(P).wall;
    let store = &mut world.nodes[P].store;
    store.store_state(&StateRecord {
        mine: State::PartnerDown,
        mine_since: since,
        partner: State::Normal,
        partner_since: since,
        mclt_secs: None,
    });
    store.durable = store.journal.len();
    world.start(P);
    world.run_for(2);
    assert_eq!(world.state(P), Some(State::PartnerDown));
    world
}

#[test]
fn many_leases_are_looked_at_in_slices_with_pauses() {
    let count = SURVEY_SLICE_LEN * 2 + 100;
    let mut world = alone(count);
    let visited = |world: &World| world.nodes[P].store.visited.get();
    let before = visited(&world);
    world.handle(P, |_| Input::Survey);
    assert_eq!(visited(&world) - before, SURVEY_SLICE_LEN, "one slice");
    // Others who ask, and whatever else happens in the same moment, make it no longer.
    world.handle(P, |_| Input::Survey);
    world.handle(P, |_| Input::Timeout);
    assert_eq!(visited(&world) - before, SURVEY_SLICE_LEN, "a pause");
    assert!(world.endpoint(P).is_surveying());
    let begun = world.now_ms;
    let found = outlook(&mut world, P);
    assert_eq!(visited(&world) - before, count, "each once");
    assert!(world.now_ms - begun >= 2, "two pauses");
    assert_eq!(found.loss.own_addresses, count);
}

#[test]
fn another_state_begins_the_look_anew() {
    let count = SURVEY_SLICE_LEN + 100;
    let mut world = alone(count);
    let before = world.nodes[P].store.visited.get();
    world.handle(P, |_| Input::Survey);
    world.run_for(0);
    world.handle(P, |_| Input::Command(Command::Pause));
    assert!(world.endpoint(P).is_surveying());
    let found = outlook(&mut world, P);
    assert_eq!(world.nodes[P].store.visited.get() - before, SURVEY_SLICE_LEN + count);
    assert_eq!(found.loss.own_addresses, count, "nothing twice");
}

#[test]
fn the_outlook_says_what_bounds_leases_and_what_a_dead_partner_means() {
    let mut world = normal(20);
    let known = world.discover(P, 1, 100).unwrap();
    world.request(P, 1, known, 300).unwrap();
    world.run_for(3);
    let found = outlook(&mut world, P);
    let agreed = world.nodes[P].store.get(known).from_partner;
    assert_eq!((found.bounds.active, found.bounds.acknowledged), (1, 1));
    assert_eq!(found.loss.renewals_covered_until, Some(agreed.after(MCLT)));
    assert_eq!((found.bounds.soonest, found.bounds.latest), (Some(agreed.after(MCLT)), Some(agreed.after(MCLT))));
    assert_eq!(found.loss.own_addresses, 9);

    world.kill(S, false);
    assert!(world.run_until(2, |world| world.state(P) == Some(State::CommunicationsInterrupted)));
    let fresh = world.discover(P, 2, 100).unwrap();
    world.request(P, 2, fresh, 300).unwrap();
    let found = outlook(&mut world, P);
    assert_eq!((found.bounds.active, found.bounds.acknowledged), (2, 1));
    assert_eq!(found.loss.renewals_covered_until, Some(world.now(P).wall.after(MCLT)), "the one nobody heard of");
    assert_eq!(found.bounds.latest, Some(agreed.after(MCLT)));
    assert!(!found.bounds.is_unlimited);
    assert!(found.loss.takeover_complete >= found.at.after(MCLT), "{found:?}");

    world.handle(P, |_| Input::Command(Command::PartnerDown));
    let said = world.now(P).wall;
    world.run_for(7);
    let found = outlook(&mut world, P);
    assert!(found.bounds.is_unlimited);
    assert_eq!(found.loss.renewals_covered_until, Some(WallTime::NEVER));
    let takeover = found.loss.takeover_complete;
    assert!(
        takeover >= said.after(MCLT) && takeover < said.after(MCLT + 7),
        "counted from when it was said: {found:?}"
    );
    let is_taken = |world: &World| world.endpoint(P).takes_partners_addresses(world.now(P).wall);
    world.run_for(u64::from(takeover.since(world.now(P).wall)));
    assert!(!is_taken(&world), "until then");
    world.run_for(1);
    assert!(is_taken(&world), "and not longer");
}

#[test]
fn every_transition_is_counted_however_long_ago() {
    let mut world = normal(20);
    for _ in 0..20 {
        for command in [Command::Pause, Command::Resume] {
            world.handle(P, |_| Input::Command(command));
            world.run_for(1);
        }
        assert!(world.run_until(30, World::is_settled));
    }
    let status = world.endpoint(P).status(&world.nodes[P].store, world.now(P));
    let of = |is_mine, from, to| status.transitions.get(&(is_mine, from, to)).copied().unwrap_or_default();
    let first = of(true, State::Startup, State::Recover);
    assert_eq!(first.count, 1);
    assert_eq!(of(true, State::Normal, State::Paused).count, 20);
    assert!(of(true, State::Normal, State::Paused).last > first.last);
    assert_eq!(of(true, State::Normal, State::PartnerDown), Made::default());
    let remembered = status.timeline.iter().filter(|step| step.to == State::Paused).count();
    assert!(remembered < 20, "the timeline has forgotten some: {remembered}");
    assert!(status.transitions.keys().any(|(is_mine, ..)| !is_mine), "the partner's too");
}
