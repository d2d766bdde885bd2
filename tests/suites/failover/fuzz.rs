//! Any conversation at an endpoint: no panic, bounded memory, a database that is either untouched or follows the rules.
//! Mutated sessions are fed by the `fuzz` suite, through the same entry points.

use dhcp_user::failover::codec::{Body, Message, StateMessage, parse_message, write_message};
use dhcp_user::failover::limits::{RARE_COUNT_MAX, REFUSED_LINES_MAX};
use dhcp_user::failover::{BindingState, Effect, Endpoint, Input, Level, Link, Role, State};
use proptest::prelude::*;
use std::time::Duration;
use tests::fuzz::failover::{connected, feed};

use crate::flows::{FIRST, settings};
use crate::pair::{S, World};
use tests::failover::Store;

/// A message of the partner, each field from a small set, so that it often means something.
fn message() -> impl Strategy<Value = Vec<u8>> {
    (1_u8..13, proptest::collection::vec((1_u16..30, 0_u8..8, any::<u8>(), 0_u32..4), 0..10), 0_u32..6).prop_map(
        |(kind, options, xid)| {
            let mut body = Vec::new();
            for (code, len, byte, time) in options {
                let value = match code {
                    2 => vec![10, 77, 0, 98 + byte % 24],
                    3 => vec![byte % 9],
                    5 => vec![1, 2, 0xaa, 0, 0, 0, byte % 4],
                    6 | 13 | 18 | 25 => (1_795_336_700_u32 + time * 100).to_be_bytes().to_vec(),
                    12 => vec![0, byte % 4],
                    21 => vec![byte % 20],
                    23 => vec![byte % 2],
                    24 => vec![[2, 3, 4, 5, 6, 9, 10, 11, 254, 8, 7, 0, 99][usize::from(byte) % 13]],
                    _ => vec![byte; usize::from(len)],
                };
                body.extend_from_slice(&code.to_be_bytes());
                body.extend_from_slice(&(value.len() as u16).to_be_bytes());
                body.extend_from_slice(&value);
            }
            let mut raw = ((12 + body.len()) as u16).to_be_bytes().to_vec();
            raw.extend_from_slice(&[kind, 12]);
            raw.extend_from_slice(&1_795_336_788_u32.to_be_bytes());
            raw.extend_from_slice(&xid.to_be_bytes());
            raw.extend_from_slice(&body);
            raw
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_conversation_is_survived(role in 0_usize..2, messages in proptest::collection::vec(message(), 0..60)) {
        let (mut endpoint, mut store, greeting) = connected(role);
        let mut pieces = vec![greeting];
        pieces.extend(messages);
        feed(&mut endpoint, &mut store, &mut Duration::default(), &pieces);
    }

    #[test]
    fn any_bytes_are_survived(role in 0_usize..2, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (mut endpoint, mut store, greeting) = connected(role);
        feed(&mut endpoint, &mut store, &mut Duration::default(), &[greeting, bytes.clone(), bytes]);
        prop_assert_eq!(store.in_state(BindingState::Free), 20, "noise changes no lease");
    }
}

#[test]
fn an_impossible_state_closes_the_connection_and_changes_nothing() {
    for state in [1, 12, 99, 253, 255] {
        let (mut endpoint, mut store, greeting) = connected(S);
        let mut clock = Duration::default();
        let mut bytes = Vec::new();
        let body = Body::State(StateMessage { state, startup: false, since: None, extra: None });
        write_message(&Message { time: 0, xid: 1, body }, &mut bytes).unwrap();
        feed(&mut endpoint, &mut store, &mut clock, &[greeting]);
        assert!(endpoint.is_connected());
        feed(&mut endpoint, &mut store, &mut clock, &[bytes]);
        assert!(!endpoint.is_connected());
        assert_eq!(endpoint.state(), State::Startup);
    }
}

#[test]
fn a_flood_of_held_updates_ends_the_connection() {
    let (mut endpoint, mut store, greeting) = connected(S);
    let mut clock = Duration::default();
    feed(&mut endpoint, &mut store, &mut clock, &[greeting]);
    let mut binding = store.get(FIRST);
    binding.state = BindingState::Active;
    binding.rewind = BindingState::Active;
    binding.chaddr = vec![1, 2, 3, 4, 5, 6, 7];
    dhcp_user::failover::Leases::store(&mut store, binding);
    store.armed.insert(FIRST);
    let mut bytes = Vec::new();
    for xid in 1..9000 {
        let body = Body::BndUpd(dhcp_user::failover::codec::BndUpd {
            address: Some(FIRST),
            status: Some(BindingState::Released.wire()),
            chaddr: Some(vec![1, 2, 3, 4, 5, 6, 7]),
            ..Default::default()
        });
        write_message(&Message { time: 0, xid, body }, &mut bytes).unwrap();
    }
    let world = World::new(settings(), &[(FIRST, 20)], 3);
    let now = world.now(S);
    for chunk in bytes.chunks(4096) {
        endpoint.handle(Input::Bytes { link: Link(1), bytes: chunk }, &mut store, now);
    }
    assert!(!endpoint.is_connected());
    assert_eq!(store.get(FIRST).state, BindingState::Active, "nothing was applied halfway");
}

/// What an endpoint does about messages that all come at one moment.
fn at_once(endpoint: &mut Endpoint, store: &mut Store, bodies: &[Body], secs: u64) -> Vec<Effect> {
    let mut bytes = Vec::new();
    for (body, xid) in bodies.iter().zip(1..) {
        write_message(&Message { time: 0, xid, body: body.clone() }, &mut bytes).unwrap();
    }
    let mut world = World::new(settings(), &[(FIRST, 20)], 3);
    world.now_ms = 10_000 + 1000 * secs;
    for chunk in bytes.chunks(4096) {
        endpoint.handle(Input::Bytes { link: Link(1), bytes: chunk }, store, world.now(S));
    }
    std::iter::from_fn(|| endpoint.poll_effect()).collect()
}

#[test]
fn a_partner_that_asks_all_the_time_is_disconnected() {
    let state = |state| Body::State(StateMessage { state, startup: false, since: None, extra: None });
    for asked in [Body::UpdReqAll, Body::UpdReq, Body::PoolReq, Body::PoolResp { transferred: None }, state(2)] {
        let (mut endpoint, mut store, greeting) = connected(S);
        // The greeting has a STATE in it.
        feed(&mut endpoint, &mut store, &mut Duration::default(), &[greeting]);
        let often = vec![asked.clone(); RARE_COUNT_MAX as usize - 1];
        at_once(&mut endpoint, &mut store, &often, 0);
        assert!(endpoint.is_connected(), "{asked:?}");
        at_once(&mut endpoint, &mut store, &often, 61);
        assert!(endpoint.is_connected(), "{asked:?} in another minute");
        let effects = at_once(&mut endpoint, &mut store, &[asked.clone(), asked.clone()], 61);
        assert!(!endpoint.is_connected() && effects.contains(&Effect::Close { link: Link(1) }), "{asked:?}");
    }
    // Two states in turn are as many records: no more of them than this.
    let (mut endpoint, mut store, greeting) = connected(S);
    feed(&mut endpoint, &mut store, &mut Duration::default(), &[greeting]);
    let before = store.journal.len();
    let turns: Vec<Body> = (0..10_000).map(|turn| state(if turn % 2 == 0 { 2 } else { 3 })).collect();
    at_once(&mut endpoint, &mut store, &turns, 0);
    assert!(!endpoint.is_connected());
    assert!(store.journal.len() - before <= 2 * RARE_COUNT_MAX as usize, "{} records", store.journal.len() - before);
}

#[test]
fn updates_that_are_refused_do_not_fill_the_log() {
    let (mut endpoint, mut store, greeting) = connected(S);
    feed(&mut endpoint, &mut store, &mut Duration::default(), &[greeting]);
    let elsewhere = Body::BndUpd(dhcp_user::failover::codec::BndUpd {
        address: Some([192, 0, 2, 1].into()),
        status: Some(BindingState::Active.wire()),
        chaddr: Some(vec![1, 2, 3, 4, 5, 6, 7]),
        ..Default::default()
    });
    let lines = |effects: Vec<Effect>| -> Vec<String> {
        let told = |effect| match effect {
            Effect::Log(Level::Info | Level::Warn, line) => Some(line),
            _ => None,
        };
        effects.into_iter().filter_map(told).collect()
    };
    let flood = vec![elsewhere; 1000];
    let first = lines(at_once(&mut endpoint, &mut store, &flood, 0));
    assert_eq!(first.len(), REFUSED_LINES_MAX as usize, "{first:?}");
    let second = lines(at_once(&mut endpoint, &mut store, &flood, 60));
    assert_eq!(second.len(), REFUSED_LINES_MAX as usize + 1, "{second:?}");
    assert!(second[0].ends_with("without a line of their own: 980"), "{}", second[0]);
    assert!(endpoint.is_connected());
    assert!(
        !store.journal.iter().any(|record| matches!(record, tests::failover::Record::Lease(_))),
        "no lease is written"
    );
}

#[test]
fn half_open_connections_are_few_and_short() {
    let mut world = World::new(settings(), &[(FIRST, 20)], 3);
    let mut store = Store::new(&[(FIRST, 20)]);
    let mut endpoint = Endpoint::new(settings()[S].clone(), None, world.now(S));
    let closes = |endpoint: &mut Endpoint| {
        std::iter::from_fn(|| endpoint.poll_effect()).filter(|effect| matches!(effect, Effect::Close { .. })).count()
    };
    for link in 0..100 {
        endpoint.handle(Input::Connected { link: Link(link), dialled: false }, &mut store, world.now(S));
    }
    assert_eq!(closes(&mut endpoint), 96);
    world.now_ms = 15_000;
    endpoint.handle(Input::Timeout, &mut store, world.now(S));
    assert_eq!(closes(&mut endpoint), 4, "dhcpd's link startup timer");
    assert_eq!(endpoint.role(), Role::Secondary);
}

#[test]
fn messages_before_the_handshake_close_the_connection() {
    for vector in [vec![0_u8, 12, 9, 12, 0, 0, 0, 0, 0, 0, 0, 0], vec![0, 12, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0]] {
        assert!(parse_message(&vector).is_ok());
        let mut store = Store::new(&[(FIRST, 20)]);
        let world = World::new(settings(), &[(FIRST, 20)], 3);
        let mut endpoint = Endpoint::new(settings()[S].clone(), None, world.now(S));
        endpoint.handle(Input::Connected { link: Link(5), dialled: false }, &mut store, world.now(S));
        endpoint.handle(Input::Bytes { link: Link(5), bytes: &vector }, &mut store, world.now(S));
        let effects: Vec<Effect> = std::iter::from_fn(|| endpoint.poll_effect()).collect();
        assert!(effects.contains(&Effect::Close { link: Link(5) }), "{effects:?}");
        assert!(store.journal.is_empty());
    }
}
