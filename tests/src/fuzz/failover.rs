//! Bytes of a partner at the codec and at an endpoint in either role: no panic, bounded memory, a database that is
//! either untouched or follows the rules.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcp_user::failover::codec::{Decoder, write_message};
use dhcp_user::failover::{Effect, Endpoint, Input, Link, Seq};
use dhcp_user::lease::time::{BootTime, Now, WallTime};

use super::{Pieces, Target, piece};
use crate::failover::{FIRST, Store, settings, streams};

pub(super) const TARGET: Target = Target {
    name: "failover",
    run,
    seeds,
    words: &[
        b"\x00\x0c\x01\x0c",
        b"\x00\x0c\x03\x0c",
        b"\x00\x0c\x05\x0c",
        b"\x00\x0c\x07\x0c",
        b"\x00\x0c\x09\x0c",
        b"\x00\x02\x00\x04\x0a\x4d\x00\x64",
        b"\x00\x03\x00\x01\x02",
        b"\x00\x05\x00\x07\x01\x02\xaa\x00\x00\x00\x01",
        b"\x00\x06\x00\x04\x6b\x00\x00\x00",
        b"\x00\x18\x00\x01\x02",
        b"\x00\x17\x00\x01\x00",
        b"\x00\x15\x00\x01\x05",
        b"\x00\x0c\x00\x02\x00\x01",
        b"\xff\xff",
    ],
    rounds: 1500,
};

/// Addresses of the pool.
const COUNT: u32 = 20;

fn now(secs: u64) -> Now {
    Now { boot: BootTime::from_secs(1000 + secs), wall: WallTime::from_secs(1_795_336_788 + secs) }
}

/// An endpoint with a connection, and the messages a real partner would greet it with.
#[must_use]
pub fn connected(role: usize) -> (Endpoint, Store, Vec<u8>) {
    let mut store = Store::new(&[(FIRST, COUNT)]);
    let mut endpoint = Endpoint::new(settings()[role].clone(), None, now(0));
    endpoint.handle(Input::Connected { link: Link(1), dialled: false }, &mut store, now(0));
    let mut other = Endpoint::new(settings()[1 - role].clone(), None, now(0));
    let mut others = Store::new(&[(FIRST, COUNT)]);
    other.handle(Input::Connected { link: Link(1), dialled: true }, &mut others, now(0));
    if role == 0 {
        let connect = said(&mut endpoint);
        other.handle(Input::Bytes { link: Link(1), bytes: &connect }, &mut others, now(0));
    }
    let greeting = said(&mut other);
    assert!(!greeting.is_empty());
    (endpoint, store, greeting)
}

/// Takes all effects, and returns the bytes that go to the partner.
fn said(endpoint: &mut Endpoint) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(effect) = endpoint.poll_effect() {
        if let Effect::Send { bytes, .. } = effect {
            all.extend(bytes);
        }
    }
    all
}

/// Feeds pieces with time passing between them, and gives every effect its answer.
pub fn feed(endpoint: &mut Endpoint, store: &mut Store, clock: &mut Duration, pieces: &[Vec<u8>]) {
    for piece in pieces {
        *clock += Duration::from_millis(1700);
        let now = now(clock.as_secs());
        endpoint.handle(Input::Bytes { link: Link(1), bytes: piece }, store, now);
        endpoint.handle(Input::Durable(Seq(store.journal.len() as u64)), store, now);
        endpoint.handle(Input::Timeout, store, now);
        let mut tokens = Vec::new();
        while let Some(effect) = endpoint.poll_effect() {
            match effect {
                Effect::Revoke { token, .. } => tokens.push(token),
                Effect::Send { bytes, .. } => assert!(bytes.len() <= 128 * 1024),
                Effect::Dial | Effect::Close { .. } | Effect::Service(_) | Effect::Moved(_) | Effect::Log(..) => {}
            }
        }
        for token in tokens {
            endpoint.handle(Input::Revoked(token), store, now);
        }
        let status = endpoint.status(store, now);
        assert!(
            status.traffic.updates_held <= 8192
                && status.traffic.updates_in_flight <= 4096
                && status.traffic.updates_queued <= 20
        );
        assert_eq!(store.all().count(), COUNT as usize);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (place, (_, _, bytes)) in streams().iter().enumerate() {
        let mut seed = vec![place as u8 & 3];
        for part in bytes.chunks(160).take(20) {
            seed.extend(piece(part));
        }
        seeds.push(seed);
    }
    for kind in 1..13_u8 {
        let mut message = vec![0, 0, kind, 12, 0x6b, 2, 0x4f, 0x14, 0, 0, 0, 1];
        let options: [&[u8]; 8] = [
            &[0, 2, 0, 4, 10, 77, 0, 100],
            &[0, 3, 0, 1, 2],
            &[0, 5, 0, 7, 1, 2, 0xaa, 0, 0, 0, 1],
            &[0, 13, 0, 4, 0x6b, 2, 0x4f, 0x20],
            &[0, 25, 0, 4, 0x6b, 2, 0x5f, 0x20],
            &[0, 24, 0, 1, 2],
            &[0, 23, 0, 1, 0],
            &[0, 12, 0, 2, 0, 1],
        ];
        message.extend(options.concat());
        let len = message.len() as u16;
        message[..2].copy_from_slice(&len.to_be_bytes());
        seeds.push([vec![kind & 3 | 2], piece(&message), piece(&message)].concat());
    }
    seeds
}

fn run(input: &[u8]) {
    let mut pieces = Pieces(input);
    let Some(state) = pieces.byte() else { return };
    let mut all = Vec::new();
    while let Some(piece) = pieces.piece().filter(|_| all.len() < 64) {
        all.push(piece.to_vec());
    }
    codec(&all.concat());
    let (mut endpoint, mut store, greeting) = connected(usize::from(state & 1));
    if state & 2 != 0 {
        all.insert(0, greeting);
    }
    for address in (0..COUNT).filter(|address| u32::from(state >> 2) >> (address % 6) & 1 != 0) {
        store.armed.insert(Ipv4Addr::from(u32::from(FIRST) + address));
    }
    feed(&mut endpoint, &mut store, &mut Duration::default(), &all);
}

/// What is understood is written, and understood again as the same.
fn codec(bytes: &[u8]) {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    while let Ok(Some(message)) = decoder.take_message() {
        let mut written = Vec::new();
        if write_message(&message, &mut written).is_err() {
            continue;
        }
        let mut again = Decoder::default();
        again.push(&written);
        assert_eq!(again.take_message().map_err(|why| why.to_string()), Ok(Some(message)), "{written:?}");
    }
}
