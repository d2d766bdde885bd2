//! The flows of a pair, one claim each (failover.md 3.6, 3.7, 4, 7).

use std::net::Ipv4Addr;

use dhcp_user::failover::codec::{Body, Decoder};
use dhcp_user::failover::{BindingState, Command, Input, Leases, State, StateRecord};
use dhcp_user::lease::time::WallTime;

use crate::pair::{P, S, Seen, World};

pub(crate) use tests::failover::{FIRST, MCLT, settings};

pub(crate) fn world(count: u32) -> World {
    World::new(settings(), &[(FIRST, count)], 7)
}

/// A pair that has reached normal from empty files.
pub(crate) fn normal(count: u32) -> World {
    let mut world = world(count);
    world.start(P);
    world.start(S);
    assert!(world.run_until(10, World::is_settled), "{:?} {:?}", world.nodes[P].log, world.nodes[S].log);
    world
}

/// A client's lease from this node, told to the partner.
fn leased(world: &mut World, node: usize, client: u32) -> Ipv4Addr {
    let address = world.discover(node, client, 100).unwrap();
    world.request(node, client, address, 300).unwrap();
    world.run_for(3);
    assert!(world.is_settled());
    address
}

fn states(world: &World, address: Ipv4Addr) -> [BindingState; 2] {
    [P, S].map(|node| world.nodes[node].store.get(address).state)
}

#[test]
fn two_servers_with_empty_files_come_up_by_themselves() {
    let mut world = world(20);
    world.start(P);
    world.run_for(2);
    assert_eq!(world.state(P), Some(State::Startup));
    world.start(S);
    assert!(world.run_until(1, World::is_settled), "{:#?}", world.nodes[P].log);
    let expected = [State::Recover, State::RecoverDone, State::Normal];
    assert_eq!(world.own_states(P), expected, "no MCLT wait between two empty ones");
    assert_eq!(world.own_states(S), expected);
    for node in [P, S] {
        assert_eq!(world.nodes[node].store.in_state(BindingState::Free), 10);
        assert_eq!(world.nodes[node].store.in_state(BindingState::Backup), 10);
    }
    assert_eq!(world.endpoint(S).mclt_secs(), MCLT, "the primary tells");
    assert_eq!(world.nodes[S].store.state_record().unwrap().mclt_secs, Some(MCLT));
    assert_eq!(world.nodes[P].store.state_record().unwrap().mclt_secs, None);
}

#[test]
fn an_odd_pool_of_51_is_split_26_free_25_backup() {
    let world = normal(51);
    for node in [P, S] {
        assert_eq!(world.nodes[node].store.in_state(BindingState::Free), 26);
        assert_eq!(world.nodes[node].store.in_state(BindingState::Backup), 25);
    }
}

#[test]
fn a_lone_server_with_an_empty_file_never_serves() {
    let mut world = world(20);
    world.start(P);
    world.run_for(1000);
    assert_eq!(world.state(P), Some(State::Recover));
    assert_eq!(world.discover(P, 1, 100), None);
}

#[test]
fn a_first_lease_is_mclt_and_its_renewal_is_whole() {
    for node in [P, S] {
        let mut world = normal(20);
        let address = world.discover(node, 1, 100).unwrap();
        let first = world.request(node, 1, address, 300).unwrap();
        assert_eq!(first.secs, MCLT);
        world.run_for(20);
        for side in [P, S] {
            let lease = world.nodes[side].store.get(address);
            assert_eq!(lease.state, BindingState::Active);
            assert_eq!(lease.from_partner, first.until.after(320 - MCLT), "agreed on both sides");
            assert_eq!(lease.acked_partner, lease.from_partner);
            assert_eq!(lease.client_id, crate::agent::client_id(1));
        }
        assert_eq!(world.request(node, 1, address, 300).unwrap().secs, 300);
        assert_eq!(world.request(1 - node, 1, address, 300).unwrap().secs, 300, "the other one renews as well");
    }
}

#[test]
fn clients_are_shared_by_their_hash() {
    let world = normal(50);
    for client in 0..200 {
        let offers = [P, S].map(|node| world.discover(node, client, 0).is_some());
        assert_ne!(offers[P], offers[S], "client {client} is served by exactly one");
        let patient = [P, S].map(|node| world.discover(node, client, 4).is_some());
        assert_eq!(patient, [true, true], "and by both when it has waited");
    }
}

#[test]
fn a_release_is_free_on_both_sides_or_given_to_its_clients_server() {
    let mut has_stayed = false;
    let mut has_moved = false;
    for client in 0..8 {
        for at in [P, S] {
            let mut world = normal(20);
            let address = leased(&mut world, at, client);
            world.release(1 - at, client, address);
            assert_eq!(states(&world, address)[1 - at], BindingState::Released);
            world.run_for(3);
            let [on_p, on_s] = states(&world, address);
            assert_eq!(on_p, on_s);
            assert!(matches!(on_p, BindingState::Free | BindingState::Backup));
            has_stayed |= on_p == BindingState::Free;
            has_moved |= on_p == BindingState::Backup;
        }
    }
    assert!(has_stayed && has_moved, "affinity follows the hash of the client");
}

#[test]
fn in_normal_the_primary_expires_for_both() {
    let mut world = normal(20);
    let address = leased(&mut world, S, 1);
    let ends = world.nodes[S].store.get(address).ends;
    world.run_for(u64::from(MCLT) - 5);
    assert_eq!(states(&world, address), [BindingState::Active; 2]);
    assert!(world.now(P).wall < ends);
    world.run_for(5);
    let [on_p, on_s] = states(&world, address);
    assert_eq!(on_p, on_s);
    assert_ne!(on_p, BindingState::Active);
}

#[test]
fn an_early_expired_is_answered_when_the_lease_has_run_out() {
    let mut world = normal(20);
    world.nodes[P].skew_secs = 20;
    let address = leased(&mut world, S, 1);
    let ends = world.nodes[S].store.get(address).ends;
    // By its own clock the primary is twenty seconds early.
    world.run_until(100, |world| states(world, address)[P] == BindingState::Expired);
    assert!(world.now(S).wall.after(15) < ends);
    world.run_for(10);
    assert_eq!(states(&world, address), [BindingState::Expired, BindingState::Active], "dhcpd would have given it up");
    world.run_for(20);
    assert_ne!(states(&world, address)[S], BindingState::Active);
    assert_eq!(states(&world, address)[P], states(&world, address)[S]);
}

#[test]
fn a_renewal_overtakes_an_early_expired() {
    let mut world = normal(20);
    world.nodes[P].skew_secs = 20;
    let address = leased(&mut world, S, 1);
    world.run_until(100, |world| states(world, address)[P] == BindingState::Expired);
    world.run_for(2);
    assert_eq!(world.request(S, 1, address, 300).unwrap().secs, 300);
    world.run_for(30);
    assert_eq!(states(&world, address), [BindingState::Active; 2]);
    assert!(world.is_settled());
}

#[test]
fn a_decline_abandons_on_both_sides_and_comes_back_after_its_time() {
    let mut world = normal(20);
    let address = leased(&mut world, P, 1);
    world.decline(P, 1, address, 600);
    world.decline(S, 1, address, 600);
    world.run_for(3);
    assert_eq!(states(&world, address), [BindingState::Abandoned; 2], "crossing updates end well");
    assert!(world.nodes[P].store.get(address).chaddr.is_empty());
    world.run_for(700);
    let [on_p, on_s] = states(&world, address);
    assert_eq!(on_p, on_s);
    assert!(matches!(on_p, BindingState::Free | BindingState::Backup), "{on_p:?}");
}

#[test]
fn a_short_break_ends_in_normal_with_everything_told() {
    for killed in [P, S] {
        let mut world = normal(20);
        let address = leased(&mut world, killed, 1);
        world.kill(killed, false);
        world.run_for(1);
        let alive = 1 - killed;
        assert_eq!(world.state(alive), Some(State::CommunicationsInterrupted), "a reset is seen at once");
        let other = world.discover(alive, 2, 0).expect("everybody's clients are served");
        assert_eq!(world.request(alive, 2, other, 300).unwrap().secs, MCLT);
        assert_eq!(world.request(alive, 1, address, 300).unwrap().secs, 300, "agreed before");
        world.run_for(2);
        world.start(killed);
        assert!(world.run_until(10, World::is_settled), "{:#?}", world.nodes[alive].log);
        assert_eq!(states(&world, other), [BindingState::Active; 2]);
        let ends = [P, S].map(|node| world.nodes[node].store.get(address).ends);
        assert_eq!(ends[P], ends[S]);
    }
}

#[test]
fn a_cut_is_noticed_by_silence() {
    let mut world = normal(20);
    world.run_for(100);
    assert!(world.is_settled(), "CONTACTs keep it up");
    world.cut();
    world.run_for(10);
    assert_eq!([P, S].map(|node| world.state(node)), [Some(State::Normal); 2]);
    world.run_for(6);
    assert_eq!([P, S].map(|node| world.state(node)), [Some(State::CommunicationsInterrupted); 2]);
    world.heal();
    assert!(world.run_until(25, World::is_settled), "{:#?}", world.nodes[S].log);
}

#[test]
fn an_unsent_binding_is_rewound_when_it_ends_alone() {
    let mut world = normal(20);
    world.cut();
    world.run_for(20);
    let address = world.discover(S, 1, 0).unwrap();
    world.request(S, 1, address, 300).unwrap();
    world.run_for(u64::from(MCLT) + 2);
    assert_eq!(world.nodes[S].store.get(address).state, BindingState::Backup, "the primary never heard of it");
    world.heal();
    world.run_for(30);
    assert!(world.is_settled());
    assert_eq!(states(&world, address)[P], states(&world, address)[S]);
}

#[test]
fn a_told_binding_stays_expired_until_the_partner_knows() {
    let mut world = normal(20);
    let address = leased(&mut world, P, 1);
    world.cut();
    world.run_for(120);
    assert_eq!(states(&world, address), [BindingState::Expired; 2]);
    assert!(!world.endpoint(P).is_mine_to_allocate(&world.nodes[P].store.get(address), world.now(P).wall));
    world.heal();
    world.run_for(30);
    let [on_p, on_s] = states(&world, address);
    assert_eq!(on_p, on_s);
    assert!(matches!(on_p, BindingState::Free | BindingState::Backup));
}

#[test]
fn a_survivor_in_partner_down_gives_full_leases_and_takes_over_after_mclt() {
    let mut world = normal(20);
    world.kill(P, true);
    world.run_for(20);
    world.handle(S, |_| Input::Command(Command::PartnerDown));
    assert_eq!(world.state(S), Some(State::PartnerDown));
    for client in 0..10 {
        let address = world.discover(S, client, 0).unwrap();
        assert_eq!(world.request(S, client, address, 300).unwrap().secs, 300, "failover-12 9.4.2");
    }
    assert_eq!(world.discover(S, 10, 0), None, "the primary may have given these");
    world.run_for(u64::from(MCLT) + 2);
    for client in 10..20 {
        let address = world.discover(S, client, 0).unwrap();
        world.request(S, client, address, 300).unwrap();
    }
    assert_eq!(world.nodes[S].store.in_state(BindingState::Active), 20);
    // Back with its disk: recover without a wait, since the time it was in normal is long ago.
    world.start(P);
    assert!(world.run_until(5, World::is_settled), "{:#?}", world.nodes[P].log);
    assert_eq!(world.own_states(P), [State::Recover, State::RecoverDone, State::Normal]);
    assert_eq!(world.nodes[P].store.in_state(BindingState::Active), 20);
}

#[test]
fn the_mclt_limit_can_be_kept_in_partner_down() {
    let mut world = normal(20);
    world.nodes[S].settings.keeps_mclt_in_partner_down = true;
    world.kill(S, false);
    world.start(S);
    world.run_for(5);
    world.kill(P, true);
    world.run_for(20);
    world.handle(S, |_| Input::Command(Command::PartnerDown));
    let address = world.discover(S, 1, 0).unwrap();
    assert_eq!(world.request(S, 1, address, 300).unwrap().secs, MCLT);
}

#[test]
fn a_partner_that_lost_its_disk_waits_mclt() {
    let mut world = normal(20);
    let address = leased(&mut world, S, 1);
    world.kill(P, false);
    world.lose_disk(P);
    world.run_for(1);
    world.start(P);
    world.run_for(3);
    // Told of a partner that knows nothing, the survivor goes on alone at once.
    assert_eq!(world.state(S), Some(State::PartnerDown));
    assert_eq!(world.state(P), Some(State::RecoverWait));
    assert_eq!(world.nodes[P].store.get(address).state, BindingState::Active, "it has been told everything");
    assert_eq!(world.discover(P, 2, 0), None);
    assert!(world.discover(S, 2, 0).is_some());
    world.run_for(u64::from(MCLT) - 10);
    assert_eq!(world.state(P), Some(State::RecoverWait));
    world.run_for(10);
    assert!(world.is_settled(), "{:#?}", world.nodes[P].log);
    assert_eq!(world.own_states(P), [State::Recover, State::RecoverWait, State::RecoverDone, State::Normal]);
}

#[test]
fn a_break_in_the_middle_of_a_dump_forgets_nothing() {
    for at in 1..60 {
        let mut world = normal(40);
        leased(&mut world, S, 1);
        world.kill(P, false);
        world.lose_disk(P);
        world.start(P);
        world.weather.delay_ms = 3;
        world.run_to(world.now_ms + at);
        world.cut();
        world.run_for(20);
        world.heal();
        assert!(
            world.run_until(u64::from(MCLT) + 30, World::is_settled),
            "cut after {at} ms: {:?} {:?} {:#?}",
            world.state(P),
            world.state(S),
            world.nodes[P].log
        );
        assert_eq!(
            world.nodes[P].store.in_state(BindingState::Active),
            world.nodes[S].store.in_state(BindingState::Active)
        );
    }
}

#[test]
fn both_in_partner_down_resolve_their_conflicts() {
    let mut world = normal(20);
    world.cut();
    world.run_for(20);
    for node in [P, S] {
        world.handle(node, |_| Input::Command(Command::PartnerDown));
    }
    world.run_for(u64::from(MCLT) + 5);
    for client in 0..5 {
        let address = world.discover(P, client, 0).unwrap();
        world.request(P, client, address, 3000).unwrap();
        let address = world.discover(S, 100 + client, 0).unwrap();
        world.request(S, 100 + client, address, 3000).unwrap();
    }
    world.heal();
    assert!(world.run_until(60, World::is_settled), "{:#?} {:#?}", world.nodes[P].log, world.nodes[S].log);
    let tail = |node: usize| world.own_states(node).split_off(world.own_states(node).len() - 3);
    assert_eq!(tail(P), [State::PotentialConflict, State::ConflictDone, State::Normal]);
    assert_eq!(tail(S)[1..], [State::PotentialConflict, State::Normal]);
    for lease in world.nodes[P].store.all() {
        let other = world.nodes[S].store.get(lease.address);
        assert_eq!((lease.state, &lease.client_id), (other.state, &other.client_id), "{}", lease.address);
    }
}

#[test]
fn a_break_during_resolution_is_survived() {
    for at in 1..80 {
        for killed in [None, Some(P), Some(S)] {
            let mut world = normal(12);
            world.cut();
            world.run_for(20);
            for node in [P, S] {
                world.handle(node, |_| Input::Command(Command::PartnerDown));
            }
            world.run_for(1);
            for client in 0..4 {
                for node in [P, S] {
                    if let Some(address) = world.discover(node, client, 0) {
                        world.request(node, client, address, 3000).unwrap();
                    }
                }
            }
            world.heal();
            world.run_until(30, |world| world.state(P) == Some(State::PotentialConflict));
            world.weather.delay_ms = 3;
            world.run_to(world.now_ms + at);
            match killed {
                Some(node) => {
                    world.kill(node, false);
                    world.run_for(3);
                    world.start(node);
                }
                None => {
                    world.cut();
                    world.run_for(20);
                    world.heal();
                }
            }
            let text = format!("{at} ms, {killed:?}");
            assert!(
                world.run_until(60, World::is_settled),
                "{text}: {:?} {:?} {:#?} {:#?}",
                world.state(P),
                world.state(S),
                world.nodes[P].log,
                world.nodes[S].log
            );
        }
    }
}

#[test]
fn an_exhausted_server_asks_for_addresses() {
    let mut world = normal(20);
    for client in 0..10 {
        let address = world.discover(S, client, 100).unwrap();
        world.request(S, client, address, 3000).unwrap();
        world.run_for(1);
    }
    assert_eq!(world.nodes[S].store.in_state(BindingState::Backup), 0);
    let asked = world.run_until(70, |world| world.nodes[S].store.in_state(BindingState::Backup) == 5);
    assert!(asked, "{:#?}", world.nodes[P].log);
    world.run_for(3);
    assert!(world.is_settled());
}

#[test]
fn auto_partner_down_takes_over_after_its_time() {
    let mut world = normal(20);
    world.nodes[S].settings.auto_partner_down_secs = 100;
    world.kill(S, false);
    world.start(S);
    world.run_for(5);
    world.kill(P, false);
    world.run_for(99);
    assert_eq!(world.state(S), Some(State::CommunicationsInterrupted));
    world.run_for(2);
    assert_eq!(world.state(S), Some(State::PartnerDown));
}

#[test]
fn a_shutdown_lets_the_partner_go_on_alone_at_once() {
    let mut world = normal(20);
    world.handle(P, |_| Input::Command(Command::Shutdown));
    world.run_for(1);
    assert_eq!(world.state(S), Some(State::PartnerDown));
    assert_eq!(world.discover(P, 1, 0), None);
    world.kill(P, false);
    world.run_for(60);
    world.start(P);
    assert!(world.run_until(10, World::is_settled), "{:#?}", world.nodes[P].log);
    assert_eq!(world.own_states(P)[0], State::Recover, "it fetches what it missed");
}

#[test]
fn a_pause_is_resumed() {
    let mut world = normal(20);
    world.handle(S, |_| Input::Command(Command::Pause));
    world.run_for(1);
    assert_eq!(world.state(P), Some(State::CommunicationsInterrupted));
    world.handle(S, |_| Input::Command(Command::Resume));
    assert!(world.run_until(10, World::is_settled), "{:#?}", world.nodes[P].log);
}

#[test]
fn a_connected_partner_cannot_be_declared_down() {
    let mut world = normal(20);
    world.handle(P, |_| Input::Command(Command::PartnerDown));
    assert_eq!(world.state(P), Some(State::Normal));
    world.handle(P, |_| Input::Command(Command::Resume));
    assert_eq!(world.state(P), Some(State::Normal));
}

#[test]
fn an_armed_lease_is_revoked_before_it_is_taken_away() {
    let mut world = normal(20);
    let address = leased(&mut world, P, 1);
    world.nodes[S].store.armed.insert(address);
    world.weather.revoke_ms = 500;
    world.release(P, 1, address);
    // The wire takes a millisecond, the revocation some more: in between the lease stands, unanswered.
    let mut has_waited = false;
    while world.nodes[S].store.armed.contains(&address) {
        assert_eq!(states(&world, address), [BindingState::Released, BindingState::Active]);
        has_waited = true;
        world.run_to(world.now_ms + 1);
    }
    assert!(has_waited);
    assert_ne!(states(&world, address)[S], BindingState::Active);
    world.run_for(1);
    assert_eq!(states(&world, address)[S], states(&world, address)[P]);
}

#[test]
fn an_ack_waits_for_the_disk() {
    let mut world = normal(20);
    let address = leased(&mut world, P, 1);
    world.weather.disk_ms = 1;
    world.request(P, 1, address, 300).unwrap();
    let journal = world.nodes[S].store.journal.len();
    world.run_until(1, |world| world.nodes[S].store.journal.len() > journal);
    assert!(world.nodes[S].store.durable < world.nodes[S].store.journal.len());
    let acked = |world: &World| world.nodes[P].store.get(address).acked_partner != WallTime::NONE;
    assert!(!acked(&world));
    world.run_for(1);
    assert!(acked(&world));
}

#[test]
fn clocks_that_differ_too_much_are_refused() {
    let mut world = world(20);
    world.nodes[S].skew_secs = 61;
    world.start(P);
    world.start(S);
    world.run_for(30);
    assert!(!world.endpoint(P).is_connected());
    assert!(world.nodes[S].log.iter().any(|line| line.contains("time offset too large")), "{:?}", world.nodes[S].log);
    world.nodes[S].skew_secs = 59;
    assert!(world.run_until(30, World::is_settled));
}

#[test]
fn two_of_ours_say_what_differs() {
    let mut both = settings();
    both[P].facts = vec![("default-lease-time".to_owned(), "600".to_owned()), ("pools".to_owned(), "1".to_owned())];
    both[S].facts = vec![("default-lease-time".to_owned(), "300".to_owned()), ("pools".to_owned(), "1".to_owned())];
    let mut world = World::new(both, &[(FIRST, 4)], 1);
    world.start(P);
    world.start(S);
    world.run_for(5);
    for (node, text) in
        [(P, "default-lease-time is 600 here and 300 there"), (S, "default-lease-time is 300 here and 600 there")]
    {
        assert!(world.nodes[node].log.iter().any(|line| line.contains(text)), "{:?}", world.nodes[node].log);
        let status = world.endpoint(node).status(&world.nodes[node].store, world.now(node));
        assert_eq!(status.traffic.counters.differing_facts.len(), 1);
    }
}

#[test]
fn a_server_whose_disk_hangs_falls_silent_and_promises_nothing() {
    let mut world = normal(20);
    world.hangs[P] = true;
    let address = world.discover(P, 1, 100).unwrap();
    world.request(P, 1, address, 300).unwrap();
    world.run_for(10);
    assert_eq!(world.nodes[S].store.get(address).state, BindingState::Free, "the partner has not heard of it");
    world.run_for(10);
    assert_eq!(world.state(S), Some(State::CommunicationsInterrupted), "a CONTACT would be a lie");
}

#[test]
fn two_of_ours_replicate_what_the_protocol_cannot_carry() {
    let mut world = normal(20);
    let address = world.discover(P, 1, 100).unwrap();
    world.nodes[P].store.extras.insert(address, b"hostname=portable1".to_vec());
    world.request(P, 1, address, 300).unwrap();
    world.run_for(1);
    assert_eq!(world.nodes[S].store.extras.get(&address).map(Vec::as_slice), Some(&b"hostname=portable1"[..]));
}

/// The course's procedure: `my state partner-down` on both, the primary first.
#[test]
fn the_courses_eleven_steps_work() {
    let mut both = settings();
    both[P].mclt_secs = 3;
    let mut world = World::new(both, &[(FIRST, 51)], 7);
    for node in [P, S] {
        let now = world.now(node).wall;
        let record = StateRecord {
            mine: State::PartnerDown,
            mine_since: now,
            partner: State::UnknownState,
            partner_since: now,
            mclt_secs: None,
        };
        let store = &mut world.nodes[node].store;
        store.store_state(&record);
        store.durable = store.journal.len();
    }
    world.start(P);
    world.run_for(16);
    assert_eq!(world.state(P), Some(State::PartnerDown));
    let mut leases = Vec::new();
    for client in 1..=2 {
        let address = world.discover(P, client, 0).unwrap();
        let ack = world.request(P, client, address, 600).unwrap();
        assert_eq!(ack.secs, 600);
        let lease = world.nodes[P].store.get(address);
        assert_eq!(lease.told_partner, lease.starts.after(900), "tstp as in the transcript");
        leases.push(address);
    }
    world.start(S);
    assert!(world.run_until(30, World::is_settled), "{:#?}", world.nodes[S].log);
    for (address, client) in leases.into_iter().zip(1..) {
        for node in [P, S] {
            let lease = world.nodes[node].store.get(address);
            assert_eq!((lease.state, &lease.client_id), (BindingState::Active, &crate::agent::client_id(client)));
            assert!(lease.from_partner.is_some() && lease.acked_partner.is_some(), "tsfp and atsfp are there");
        }
    }
    // 49 left: dhcpd's arithmetic leaves the extra one with the giver.
    for node in [P, S] {
        assert_eq!(world.nodes[node].store.in_state(BindingState::Free), 25);
        assert_eq!(world.nodes[node].store.in_state(BindingState::Backup), 24);
    }
    // The primary is stopped, its block commented out, and started again.
    world.kill(P, false);
    world.run_for(5);
    world.start(P);
    assert!(world.run_until(30, World::is_settled));
    assert_eq!(world.own_states(P), [State::Normal]);
}

#[test]
fn an_update_that_was_overtaken_counts_for_the_window_until_it_is_answered() {
    let mut world = normal(20);
    let address = leased(&mut world, P, 1);
    world.hangs[S] = true;
    world.watches = true;
    for _ in 0..25 {
        world.request(P, 1, address, 300).unwrap();
        world.run_for(0);
        world.run_to(world.now_ms + 100);
    }
    let updates = |world: &World| {
        let mut decoder = Decoder::default();
        for seen in &world.seen {
            if let Seen::Sent { from: P, bytes, .. } = seen {
                decoder.push(bytes);
            }
        }
        let all = std::iter::from_fn(|| decoder.take_message().unwrap());
        all.filter(|message| matches!(message.body, Body::BndUpd(_))).count()
    };
    assert_eq!(updates(&world), 10, "no more than it takes before it answers one");
    world.hangs[S] = false;
    assert!(world.run_until(30, World::is_settled), "{:?}", world.nodes[P].log);
    let [mine, theirs] = [P, S].map(|node| world.nodes[node].store.get(address));
    assert_eq!((mine.ends, mine.told_partner), (theirs.ends, theirs.from_partner), "the last one is told");
}
