//! What the wire between the servers tells, and whether every message and every answer rests on the disk.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcp_user::failover::codec::{BndUpd, Body, Decoder, Message};
use dhcp_user::lease::BindingState;
use dhcp_user::lease::journal::Record;
use dhcp_user::lease::time::WallTime;

use crate::world::{EPOCH, World};

/// A potential expiry, and the update that told it.
#[derive(Debug, Clone, Copy)]
struct Heard {
    connection: u64,
    xid: u32,
    potential: u32,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    sent: BTreeMap<(u64, usize), Decoder>,
    delivered: BTreeMap<(u64, usize), Decoder>,
    /// Updates by connection, sender and xid.
    updates: BTreeMap<(u64, usize, u32), BndUpd>,
    /// How many records the receiver had written when each came.
    arrived: BTreeMap<(u64, usize, u32), usize>,
    /// Potential expiries heard from the partner, by receiver, oldest first: the one that was accepted last, and those
    /// that have not been answered. A refused update counts for nothing.
    heard: [BTreeMap<Ipv4Addr, Vec<Heard>>; 2],
    /// Potential expiry last acknowledged by the partner, by sender.
    acked: [BTreeMap<Ipv4Addr, u32>; 2],
    pub(crate) failures: Vec<String>,
    /// Maximum client lead time, seconds.
    pub(crate) mclt: u32,
}

impl Judge {
    pub(crate) fn new(mclt: u32) -> Self {
        Self { mclt, ..Self::default() }
    }

    /// I8: a message to the partner rests on what is on disk. A line for each, for whoever has to understand a failure.
    pub(crate) fn note_sent(&mut self, world: &World, from: usize, connection: u64, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for message in messages(self.sent.entry((connection, from)).or_default(), bytes) {
            lines.extend(told(&message));
            match message.body {
                Body::BndUpd(update) => {
                    self.check_update(world, from, &update);
                    self.updates.insert((connection, from, message.xid), update);
                }
                Body::BndAck(ack) if ack.refusal.reason.is_none() => {
                    let key = (connection, 1 - from, message.xid);
                    let (Some(update), Some(&since)) = (self.updates.get(&key), self.arrived.get(&key)) else {
                        self.failures.push(format!("{from} acknowledges what was never sent"));
                        continue;
                    };
                    if let Some(all) = update.address.and_then(|address| self.heard[from].get_mut(&address))
                        && let Some(at) =
                            all.iter().position(|one| (one.connection, one.xid) == (connection, message.xid))
                    {
                        all.drain(..at);
                    }
                    let disk = &world.nodes[from].disk;
                    let is_on_disk =
                        disk.pieces[..disk.durable].iter().skip(since).flatten().any(|record| match record {
                            Record::Lease(lease) => {
                                Some(lease.address) == update.address
                                    && Some(lease.tsfp.secs()) == update.potential_expiry
                            }
                            _ => false,
                        });
                    if !is_on_disk {
                        self.failures.push(format!(
                            "I8: {} {from} acknowledges before its record is on disk: {update:?}",
                            world.now_ms
                        ));
                    }
                }
                Body::BndAck(ack) => {
                    if let Some(all) = ack.address.and_then(|address| self.heard[from].get_mut(&address)) {
                        all.retain(|one| (one.connection, one.xid) != (connection, message.xid));
                    }
                }
                _ => {}
            }
        }
        lines
    }

    fn check_update(&mut self, world: &World, from: usize, update: &BndUpd) {
        let disk = &world.nodes[from].disk;
        let virgin = update.known_status() == Some(BindingState::Free) && update.potential_expiry == Some(0);
        let is_on_disk = disk.pieces[..disk.durable].iter().rev().flatten().any(|record| match record {
            Record::Lease(lease) => {
                Some(lease.address) == update.address
                    && Some(lease.state) == update.known_status()
                    && Some(lease.tstp.secs()) == update.potential_expiry
                    && lease.rewind_state == lease.state
            }
            _ => false,
        });
        if !is_on_disk && !virgin {
            self.failures.push(format!("I8: {} {from} announces what is not on its disk: {update:?}", world.now_ms));
        }
    }

    pub(crate) fn note_delivered(&mut self, to: usize, connection: u64, written: usize, bytes: &[u8]) {
        for message in messages(self.delivered.entry((connection, to)).or_default(), bytes) {
            match message.body {
                Body::BndUpd(update) => {
                    if let (Some(address), Some(potential)) = (update.address, update.potential_expiry) {
                        let heard = Heard { connection, xid: message.xid, potential };
                        self.heard[to].entry(address).or_default().push(heard);
                    }
                    self.arrived.insert((connection, 1 - to, message.xid), written);
                }
                Body::BndAck(ack) if ack.refusal.reason.is_none() => {
                    if let Some(update) = self.updates.get(&(connection, to, message.xid))
                        && let (Some(address), Some(potential)) = (update.address, update.potential_expiry)
                    {
                        self.acked[to].insert(address, potential);
                    }
                }
                _ => {}
            }
        }
    }

    /// I7 and I2: a client is told that it has an address for so long.
    pub(crate) fn check_promise(
        &mut self,
        world: &World,
        node: usize,
        address: Ipv4Addr,
        secs: u32,
        mac: [u8; 6],
        who: &str,
    ) {
        let wall = world.now(node).wall;
        let until = wall.after(secs);
        let disk = &world.nodes[node].disk;
        let now = world.now_ms;
        let lease = disk.lease(address, disk.durable);
        let is_covered = lease.is_some_and(|lease| {
            let is_its = lease.hw.as_ref().is_some_and(|hw| hw.bytes() == mac);
            // The two clocks are whole seconds.
            // What the partner said that it may promise is a promise as well.
            let promised = lease.ends.max(lease.tstp).max(lease.tsfp);
            lease.state == BindingState::Active && is_its && promised.after(1) >= until
        });
        if !is_covered {
            self.failures
                .push(format!("I2: {now} {who} of {node} tells {address} until {until:?}, on its disk is {lease:?}"));
        }
        if disk.state().is_some_and(|state| state.my_state.name() == "partner-down") {
            return;
        }
        // Until it is answered, what was heard last may be about to be refused.
        let heard = self.heard[node].get(&address).into_iter().flatten().map(|one| one.potential).max().unwrap_or(0);
        let acked = self.acked[node].get(&address).copied().unwrap_or(0);
        let agreed = WallTime::from_secs(u64::from(heard.max(acked)));
        let limit = agreed.max(wall).after(self.mclt);
        if until > limit.after(1) {
            self.failures
                .push(format!("I7: {now} {who} of {node} tells {address} until {until:?}, limit {limit:?}, {lease:?}"));
        }
    }
}

fn told(message: &Message) -> Option<String> {
    let after = |secs: Option<u32>| i64::from(secs.unwrap_or(0)) - EPOCH as i64;
    Some(match &message.body {
        Body::BndUpd(update) => {
            let (address, state) = (update.address?, update.known_status());
            let (ends, potential, cltt) =
                (after(update.lease_expiry), after(update.potential_expiry), after(update.cltt));
            let client = update.chaddr.as_deref().and_then(<[u8]>::last);
            format!("BNDUPD {address} {state:?} client {client:?} ends {ends} potential {potential} cltt {cltt}")
        }
        Body::BndAck(ack) => format!("BNDACK {} {:?}", ack.address?, ack.refusal.reason),
        Body::State(state) => format!("STATE {:?} startup {}", state.known_state(), state.startup),
        Body::Contact | Body::Connect(_) | Body::ConnectAck(_) => return None,
        other => format!("{other:?}"),
    })
}

fn messages(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Message> {
    decoder.push(bytes);
    std::iter::from_fn(|| decoder.take_message().unwrap()).collect()
}
