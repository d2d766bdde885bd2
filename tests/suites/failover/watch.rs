//! What the wire tells: who may rely on what, and whether every message rests on the disk (I8).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcp_user::failover::BindingState;
use dhcp_user::failover::codec::{BndUpd, Body, Decoder, Message};

use crate::pair::{EPOCH, Seen};
use crate::simulation::Simulation;
use tests::failover::Record;

/// What the wire told.
#[derive(Default)]
pub(crate) struct Watch {
    sent: BTreeMap<(u64, usize), Decoder>,
    delivered: BTreeMap<(u64, usize), Decoder>,
    /// Updates by connection, sender and xid.
    updates: BTreeMap<(u64, usize, u32), BndUpd>,
    /// How many records the receiver had written when the update came; same key.
    arrived: BTreeMap<(u64, usize, u32), usize>,
    /// The last update that came in for an address, and how many records there were before; by receiver.
    pub(crate) heard: [BTreeMap<Ipv4Addr, (u32, usize)>; 2],
    /// What each side may rely on, by address.
    pub(crate) agreed: [BTreeMap<Ipv4Addr, u32>; 2],
    messages: u64,
    /// When each update was sent, counted in messages; and when an update of the partner was last accepted.
    sent_at: BTreeMap<(u64, usize, u32), u64>,
    accepted_at: [BTreeMap<Ipv4Addr, u64>; 2],
}

impl Simulation {
    pub(crate) fn watch_wire(&mut self) {
        while let Some(seen) = self.world.seen.pop_front() {
            match seen {
                Seen::Sent { from, connection, bytes, durable } => {
                    for message in messages(self.watch.sent.entry((connection, from)).or_default(), &bytes) {
                        self.watch.messages += 1;
                        self.check_sent(from, connection, durable, message);
                    }
                }
                Seen::Delivered { to, connection, bytes, written } => {
                    for message in messages(self.watch.delivered.entry((connection, to)).or_default(), &bytes) {
                        self.note_delivered(to, connection, written, message);
                    }
                }
            }
        }
    }

    /// I8, and the list of what makes a dhcpd abort.
    fn check_sent(&mut self, from: usize, connection: u64, durable: usize, message: Message) {
        self.note_message(from, &message);
        let disk = &self.world.nodes[from].store.journal[..durable];
        match message.body {
            Body::BndUpd(update) => {
                let address = update.address.unwrap();
                let virgin = update.known_status() == Some(BindingState::Free) && update.potential_expiry == Some(0);
                let is_on_disk = disk.iter().rev().any(|record| match record {
                    Record::Lease(binding) => {
                        binding.address == address
                            && Some(binding.state) == update.known_status()
                            && Some(binding.told_partner.secs()) == update.potential_expiry
                            && binding.rewind == binding.state
                    }
                    Record::State(_) => false,
                });
                if !is_on_disk && !virgin {
                    self.failures.push(format!("I8: {from} announces what is not on its disk: {update:?}"));
                }
                let has_client = update.chaddr.is_some();
                let is_legal = match update.known_status() {
                    Some(BindingState::Active | BindingState::Expired | BindingState::Released) => has_client,
                    Some(BindingState::Abandoned) => !has_client && update.client_id.is_none(),
                    Some(BindingState::Free | BindingState::Backup | BindingState::Reset) => true,
                    None => false,
                };
                if !is_legal || message.xid == 0 {
                    self.failures.push(format!("a dhcpd could not take {update:?}"));
                }
                self.watch.sent_at.insert((connection, from, message.xid), self.watch.messages);
                self.watch.updates.insert((connection, from, message.xid), update);
            }
            Body::BndAck(ack) if ack.refusal.reason.is_none() => {
                let key = (connection, 1 - from, message.xid);
                let (Some(update), Some(&since)) = (self.watch.updates.get(&key), self.watch.arrived.get(&key)) else {
                    self.failures.push(format!("{from} acknowledges what was never sent"));
                    return;
                };
                let is_on_disk = disk.iter().skip(since).any(|record| match record {
                    Record::Lease(binding) => {
                        Some(binding.address) == update.address
                            && Some(binding.from_partner.secs()) == update.potential_expiry
                    }
                    Record::State(_) => false,
                });
                if !is_on_disk {
                    self.failures.push(format!("I8: {from} acknowledges before its record is on disk: {update:?}"));
                }
                if let (Some(address), Some(potential)) = (update.address, update.potential_expiry) {
                    self.watch.agreed[from].insert(address, potential);
                    self.watch.heard[from].remove(&address);
                    self.watch.accepted_at[from].insert(address, self.watch.messages);
                }
            }
            Body::State(state) => {
                let last = disk.iter().rev().find_map(|record| match record {
                    Record::State(record) => Some(record.mine.wire()),
                    Record::Lease(_) => None,
                });
                if last.is_some_and(|last| last != state.state) && !state.startup {
                    // A later transition may be on disk already; an earlier one must not be all there is.
                    let ever =
                        disk.iter().any(|record| matches!(record, Record::State(r) if r.mine.wire() == state.state));
                    if !ever {
                        self.failures.push(format!("I8: {from} announces a state that is not on its disk"));
                    }
                }
            }
            _ => {}
        }
    }

    /// The potential expiry of the last update for an address, if its receiver has written it down.
    pub(crate) fn heard_in_journal(&self, node: usize, address: Ipv4Addr) -> Option<u32> {
        let &(potential, since) = self.watch.heard[node].get(&address)?;
        let journal = &self.world.nodes[node].store.journal;
        let is_taken = journal.iter().skip(since).any(|record| match record {
            Record::Lease(binding) => binding.address == address && binding.from_partner.secs() == potential,
            Record::State(_) => false,
        });
        is_taken.then_some(potential)
    }

    /// A line for whoever has to understand a failing seed.
    fn note_message(&mut self, from: usize, message: &Message) {
        if !self.is_tracing {
            return;
        }
        let (now, xid) = (self.world.now_ms, message.xid);
        let after = |secs: Option<u32>| i64::from(secs.unwrap_or(0)) - EPOCH as i64;
        let text = match &message.body {
            Body::BndUpd(update) => {
                let address = update.address.unwrap();
                let client = update.client_id.as_ref().map(|id| id[4]);
                let (state, ends) = (update.known_status(), after(update.lease_expiry));
                let (potential, cltt) = (after(update.potential_expiry), after(update.cltt));
                format!("{address} BNDUPD {state:?} client {client:?} ends {ends} potential {potential} cltt {cltt}")
            }
            Body::BndAck(ack) => format!("{} BNDACK {:?}", ack.address.unwrap(), ack.refusal.reason),
            Body::State(state) => format!("STATE {:?} startup {}", state.known_state(), state.startup),
            Body::UpdReq | Body::UpdReqAll | Body::UpdDone => format!("{:?}", message.body),
            _ => return,
        };
        self.note(|_| format!("{now} {from} sends xid {xid} {text}"));
    }

    fn note_delivered(&mut self, to: usize, connection: u64, written: usize, message: Message) {
        match message.body {
            Body::BndUpd(update) => {
                if let (Some(address), Some(potential)) = (update.address, update.potential_expiry) {
                    // The one before may have been taken although its acknowledgement never left.
                    if let Some(taken) = self.heard_in_journal(to, address) {
                        self.watch.agreed[to].insert(address, taken);
                    }
                    self.watch.heard[to].insert(address, (potential, written));
                }
                self.watch.arrived.insert((connection, 1 - to, message.xid), written);
            }
            Body::BndAck(ack) if ack.refusal.reason.is_none() => {
                if let Some(update) = self.watch.updates.get(&(connection, to, message.xid))
                    && let (Some(address), Some(potential)) = (update.address, update.potential_expiry)
                {
                    // Where both told each other at once, each holds itself to the later one.
                    let sent = self.watch.sent_at[&(connection, to, message.xid)];
                    let crossed = self.watch.accepted_at[to].get(&address).is_some_and(|accepted| *accepted > sent);
                    let before = self.watch.agreed[to].get(&address).copied().filter(|_| crossed).unwrap_or(0);
                    let heard = self.heard_in_journal(to, address).unwrap_or(0);
                    self.watch.heard[to].remove(&address);
                    self.watch.agreed[to].insert(address, potential.max(before).max(heard));
                }
            }
            _ => {}
        }
    }
}

fn messages(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Message> {
    decoder.push(bytes);
    std::iter::from_fn(|| decoder.take_message().unwrap()).collect()
}
