//! What the wire between two servers tells, and whether every message and every answer rests on the disk (I2, I7, I8); with
//! what passes on both sides of the XDP programs also I4 and I5 ([`untouched`]), and I6 as far as it can be seen from
//! outside ([`bounds`], and the window of updates here).
//!
//! The judge sees packets and what stands in the leases files, nothing of the insides. The simulation shows it model
//! disks on a virtual clock; the suite `pair` shows it captures and the files of real processes.

pub mod bounds;
#[cfg(test)]
mod broken;
pub mod court;
pub mod untouched;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcp_user::failover::codec::{BndUpd, Body, Decoder, Message};
use dhcp_user::lease::journal::{PeerState, Record};
use dhcp_user::lease::time::WallTime;
use dhcp_user::lease::{BindingState, Lease};

/// When an update that was not answered counts as lost, and is sent again: a minute after it was made, and it has waited for
/// its record before it was seen.
const LOST_AFTER_MS: u64 = 55_000;

/// What one server has written, in pieces: each with what it says.
#[derive(Debug, Default)]
pub struct Disk {
    /// Everything written, in order.
    pub pieces: Vec<Vec<Record>>,
    /// So many of the pieces are on disk.
    pub durable: usize,
}

impl Disk {
    /// The newest record of an address among the first `count` pieces.
    #[must_use]
    pub fn lease(&self, address: Ipv4Addr, count: usize) -> Option<&Lease> {
        self.pieces[..count].iter().rev().flat_map(|piece| piece.iter().rev()).find_map(|record| match record {
            Record::Lease(lease) if lease.address == address => Some(lease),
            _ => None,
        })
    }

    /// The newest state record.
    #[must_use]
    pub fn state(&self) -> Option<&PeerState> {
        self.states().next()
    }

    /// State records, newest first.
    fn states(&self) -> impl Iterator<Item = &PeerState> {
        self.pieces.iter().rev().flat_map(|piece| piece.iter().rev()).filter_map(|record| match record {
            Record::PeerState(state) => Some(state),
            _ => None,
        })
    }

    /// What is on disk from piece `since` on.
    fn records(&self, since: usize) -> impl DoubleEndedIterator<Item = &Record> {
        self.pieces[..self.durable].iter().skip(since).flatten()
    }
}

/// When something was seen, and what was on the server's disk.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// The server's disk.
    pub disk: &'a Disk,
    /// So many pieces were there for certain when it happened; where the disk can only be looked at afterwards, later
    /// ones may have been there as well. In the simulation what is durable.
    pub since: usize,
    /// The server's clock.
    pub wall: WallTime,
    /// When, for people.
    pub at: u64,
}

impl Sight<'_> {
    /// What the disk may have said of an address: the newest record before, and any after.
    fn leases(&self, address: Ipv4Addr) -> impl Iterator<Item = &Lease> {
        let later = self.disk.records(self.since).filter_map(move |record| match record {
            Record::Lease(lease) if lease.address == address => Some(lease),
            _ => None,
        });
        self.disk.lease(address, self.since.min(self.disk.durable)).into_iter().chain(later)
    }

    /// Whether the server may have served alone.
    fn is_alone(&self) -> bool {
        let count = |pieces: &[Vec<Record>]| {
            pieces.iter().flatten().filter(|record| matches!(record, Record::PeerState(_))).count()
        };
        let later = count(self.disk.pieces.get(self.since..).unwrap_or_default());
        self.disk.states().take(later + 1).any(|state| state.my_state.name() == "partner-down")
    }
}

/// A client that is told that it has an address.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The address.
    pub address: Ipv4Addr,
    /// For how long, in seconds.
    pub secs: u32,
    /// The client.
    pub mac: [u8; 6],
    /// Who says so, for people.
    pub who: &'a str,
}

/// A potential expiry, and the update that told it.
#[derive(Debug, Clone, Copy)]
struct Heard {
    connection: u64,
    xid: u32,
    potential: u32,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Judge {
    sent: BTreeMap<(u64, usize), Decoder>,
    delivered: BTreeMap<(u64, usize), Decoder>,
    /// Updates by connection, sender and xid.
    updates: BTreeMap<(u64, usize, u32), BndUpd>,
    /// How many records the receiver had written when each came.
    arrived: BTreeMap<(u64, usize, u32), usize>,
    /// Potential expiries heard from the partner, by receiver, oldest first: the one that was accepted last, and those
    /// that have not been answered. A refused update counts for nothing.
    heard: [BTreeMap<Ipv4Addr, Vec<Heard>>; 2],
    /// How many updates each side takes before it answers one, and those that it has not answered, with when each was
    /// sent; by connection and receiver.
    windows: BTreeMap<(u64, usize), u32>,
    unanswered: BTreeMap<(u64, usize), BTreeMap<u32, u64>>,
    /// Potential expiry last acknowledged by the partner, by sender.
    acked: [BTreeMap<Ipv4Addr, u32>; 2],
    /// What was wrong, in order.
    pub failures: Vec<String>,
    /// Maximum client lead time, seconds.
    pub mclt: u32,
}

impl Judge {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(mclt: u32) -> Self {
        Self { mclt, ..Self::default() }
    }

    /// I8: a message to the partner rests on what is on disk. A line for each, for whoever has to understand a failure.
    pub fn note_sent(&mut self, sight: Sight<'_>, from: usize, connection: u64, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for message in messages(self.sent.entry((connection, from)).or_default(), bytes) {
            lines.extend(told(&message));
            self.check_window(sight, from, connection, &message);
            match message.body {
                Body::BndUpd(update) => {
                    self.check_update(sight, from, &update);
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
                    let is_on_disk = sight.disk.records(since).any(|record| match record {
                        Record::Lease(lease) => {
                            Some(lease.address) == update.address && Some(lease.tsfp.secs()) == update.potential_expiry
                        }
                        _ => false,
                    });
                    if !is_on_disk {
                        self.failures.push(format!(
                            "I8: {} {from} acknowledges before its record is on disk: {update:?}",
                            sight.at
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

    /// I6: no more updates are sent than the partner takes before it answers one.
    fn check_window(&mut self, sight: Sight<'_>, from: usize, connection: u64, message: &Message) {
        let to = 1 - from;
        match &message.body {
            Body::Connect(connect) => {
                self.windows.insert((connection, from), connect.updates_unacked_max.unwrap_or(u32::MAX));
            }
            Body::ConnectAck(ack) => {
                self.windows.insert((connection, from), ack.updates_unacked_max.unwrap_or(u32::MAX));
            }
            Body::BndUpd(_) => {
                let window = self.windows.get(&(connection, to)).copied().unwrap_or(u32::MAX);
                let unanswered = self.unanswered.entry((connection, to)).or_default();
                unanswered.retain(|_, sent| *sent + LOST_AFTER_MS > sight.at);
                unanswered.insert(message.xid, sight.at);
                let count = unanswered.len();
                if count > window as usize {
                    self.failures.push(format!(
                        "I6: {} {from} sends {count} updates, the window is {window}: {unanswered:?}",
                        sight.at
                    ));
                }
            }
            Body::BndAck(_) => {
                self.unanswered.entry((connection, from)).or_default().remove(&message.xid);
            }
            _ => {}
        }
    }

    fn check_update(&mut self, sight: Sight<'_>, from: usize, update: &BndUpd) {
        let virgin = update.known_status() == Some(BindingState::Free) && update.potential_expiry == Some(0);
        let is_on_disk = sight.disk.records(0).rev().any(|record| match record {
            Record::Lease(lease) => {
                Some(lease.address) == update.address
                    && Some(lease.state) == update.known_status()
                    && Some(lease.tstp.secs()) == update.potential_expiry
                    && lease.rewind_state == lease.state
            }
            _ => false,
        });
        if !is_on_disk && !virgin {
            self.failures.push(format!("I8: {} {from} announces what is not on its disk: {update:?}", sight.at));
        }
    }

    /// A message of the partner has reached a server, which had `written` so many pieces before.
    pub fn note_delivered(&mut self, to: usize, connection: u64, written: usize, bytes: &[u8]) {
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

    /// I7 and I2: a server tells a client that it has an address for so long.
    pub fn check_promise(&mut self, sight: Sight<'_>, node: usize, told: Told<'_>) {
        let Told { address, secs, mac, who } = told;
        let (until, at) = (sight.wall.after(secs), sight.at);
        let is_covered = sight.leases(address).any(|lease| {
            let is_its = lease.hw.as_ref().is_some_and(|hw| hw.bytes() == mac);
            // The two clocks are whole seconds.
            // What the partner said that it may promise is a promise as well.
            let promised = lease.ends.max(lease.tstp).max(lease.tsfp);
            lease.state == BindingState::Active && is_its && promised.after(1) >= until
        });
        let said: Vec<&Lease> = sight.leases(address).collect();
        if !is_covered {
            self.failures
                .push(format!("I2: {at} {who} of {node} tells {address} until {until:?}, on its disk is {said:?}"));
        }
        if sight.is_alone() {
            return;
        }
        // Until it is answered, what was heard last may be about to be refused.
        let heard = self.heard[node].get(&address).into_iter().flatten().map(|one| one.potential).max().unwrap_or(0);
        let acked = self.acked[node].get(&address).copied().unwrap_or(0);
        let agreed = WallTime::from_secs(u64::from(heard.max(acked)));
        let limit = agreed.max(sight.wall).after(self.mclt);
        if until > limit.after(1) {
            self.failures
                .push(format!("I7: {at} {who} of {node} tells {address} until {until:?}, limit {limit:?}, {said:?}"));
        }
    }
}

/// I3: what an address is on both sides when no client has it any more: free, on exactly one.
///
/// # Errors
/// What it is instead.
pub fn check_free(address: Ipv4Addr, states: [&str; 2]) -> Result<(), String> {
    let is_well = states[0] == states[1] && matches!(states[0], "free" | "backup");
    if is_well { Ok(()) } else { Err(format!("I3: {address} is {states:?}")) }
}

fn told(message: &Message) -> Option<String> {
    let after = |secs: Option<u32>| i64::from(secs.unwrap_or(0)) - i64::from(message.time);
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
