//! Everything that can be said of a pair from captures and leases files, at once.
//!
//! ```text
//!   look:  files ---- t ---- frames up to t ---- files again ---- judge
//!          `since`           what happened       what it may rest on
//! ```
//!
//! What passed is shown to the judges with what was on the disks; who has it from real processes, or made it up, is all the
//! same to the court.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcp_user::lease::journal;
use dhcp_user::lease::time::WallTime;
use dhcproto::v4::MessageType;

use super::untouched::{Place, Untouched};
use super::{Disk, Judge, Sight, Told};
use crate::client::Reply;
use crate::frames::open;
use crate::pcap::{Direction, Streams};

/// A frame that passed, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Of which server.
    pub side: usize,
    /// On which side of its XDP program.
    pub place: Place,
    /// When, in nanoseconds since 1970.
    pub at: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// How much was seen.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// ACKs with a lease.
    pub acks: u64,
    /// Messages between the servers.
    pub messages: u64,
    /// Records in the files.
    pub records: usize,
    /// Frames that went through an XDP program as they were.
    pub passed: u64,
    /// Requests that a kernel answered.
    pub answered: u64,
    /// ACKs of a kernel or an agent that could be compared with one of the other.
    pub compared: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Court {
    addresses: [Ipv4Addr; 2],
    disks: [Disk; 2],
    /// How many pieces of each file had been read before the last look's instant.
    known: [usize; 2],
    /// Frames that came after it.
    later: Vec<Frame>,
    streams: Streams,
    /// The connection that two ports belong to, whichever way.
    connections: BTreeMap<(u16, u16), u64>,
    /// When a client asked with an xid first.
    asked: BTreeMap<(u32, Vec<u8>), u64>,
    judge: Judge,
    untouched: [Untouched; 2],
    records: usize,
    acks: u64,
    messages: u64,
}

fn ports(direction: &Direction) -> (u16, u16) {
    (direction.1.min(direction.3), direction.1.max(direction.3))
}

impl Court {
    /// A pair with these addresses and interfaces, and its MCLT in seconds.
    #[must_use]
    pub fn new(addresses: [Ipv4Addr; 2], macs: [[u8; 6]; 2], mclt: u32) -> Self {
        let [primary, secondary] = macs;
        Self {
            addresses,
            disks: Default::default(),
            known: [0; 2],
            later: Vec::new(),
            streams: Streams::default(),
            connections: BTreeMap::new(),
            asked: BTreeMap::new(),
            judge: Judge::new(mclt),
            untouched: [Untouched::new("primary", primary), Untouched::new("secondary", secondary)],
            records: 0,
            acks: 0,
            messages: 0,
        }
    }

    /// The files have grown by these records, read at `now` (nanoseconds since 1970).
    pub fn read(&mut self, texts: [String; 2], now: u64) {
        let wall = WallTime::from_secs(now / 1_000_000_000);
        for (disk, text) in self.disks.iter_mut().zip(texts) {
            if !text.is_empty() {
                let records = journal::read(text.as_bytes(), wall, &mut Vec::new());
                self.records += records.len();
                disk.pieces.push(records);
            }
            disk.durable = disk.pieces.len();
        }
    }

    /// Marks the instant up to which frames are judged next, after the files were read and before they are read again:
    /// what the files had said before the last such instant. Hand it to [`Court::judge`].
    pub fn mark(&mut self) -> [usize; 2] {
        let pieces = [0, 1].map(|side| self.disks[side].pieces.len());
        std::mem::replace(&mut self.known, pieces)
    }

    /// Judges what has passed until an instant; the rest waits.
    pub fn judge(&mut self, frames: Vec<Frame>, since: [usize; 2], until: u64) {
        let mut all = std::mem::take(&mut self.later);
        all.extend(frames);
        all.sort_by_key(|frame| frame.at);
        for frame in all {
            if frame.at > until {
                self.later.push(frame);
                continue;
            }
            self.untouched[frame.side].see(frame.place, frame.at, &frame.bytes);
            if frame.place == Place::Behind {
                continue;
            }
            if frame.side == 0 {
                self.between_servers(&frame, since);
            }
            self.with_clients(&frame, since);
        }
        for untouched in &mut self.untouched {
            untouched.judge(until);
        }
    }

    /// What was wrong so far, by kind.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let untouched = self.untouched.iter().flat_map(|one| &one.failures);
        self.judge.failures.iter().chain(untouched).cloned().collect()
    }

    /// How much was seen.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let sum = |of: fn(&Untouched) -> u64| self.untouched.iter().map(of).sum();
        Tally {
            acks: self.acks,
            messages: self.messages,
            records: self.records,
            passed: sum(|one| one.passed),
            answered: sum(|one| one.answered),
            compared: sum(|one| one.compared),
        }
    }

    /// A segment of the servers' own connection, seen at the primary's port.
    fn between_servers(&mut self, passed: &Frame, since: [usize; 2]) {
        let Some(added) = self.streams.push(&passed.bytes) else { return };
        let Some(from) = self.addresses.iter().position(|address| address.octets() == added.direction.0) else {
            return;
        };
        let count = self.connections.len() as u64;
        if added.opens {
            // The same two ports again are another connection.
            self.connections.insert(ports(&added.direction), passed.at);
        }
        let connection = *self.connections.entry(ports(&added.direction)).or_insert(count);
        if added.bytes.is_empty() {
            return;
        }
        let to = 1 - from;
        let sight = sight(&self.disks[from], since[from], passed.at);
        self.messages += self.judge.note_sent(sight, from, connection, &added.bytes).len() as u64;
        self.judge.note_delivered(to, connection, since[to], &added.bytes);
    }

    /// A DHCP message, seen at the port of a server.
    fn with_clients(&mut self, passed: &Frame, since: [usize; 2]) {
        let (side, frame) = (passed.side, &passed.bytes);
        let Some(datagram) = open(frame) else { return };
        if let Some(reply) = Reply::parse(frame) {
            let is_its = reply.server() == Some(self.addresses[side]) && reply.kind() == Some(MessageType::Ack);
            let (Some(secs), true, Ok(mac)) = (reply.lease_secs(), is_its, <[u8; 6]>::try_from(reply.message.chaddr()))
            else {
                return;
            };
            // RFC 2131 4.4.1: a client counts from when it has asked.
            let key = (reply.message.xid(), mac.to_vec());
            let Some(&asked) = self.asked.get(&key) else { return };
            self.acks += 1;
            let told = Told { address: reply.message.yiaddr(), secs, mac, who: "server" };
            self.judge.check_promise(sight(&self.disks[side], since[side], asked), side, told);
            return;
        }
        let message = &datagram.payload;
        // A REQUEST: option 53 comes first in what the model client sends.
        if message.len() > 243 && message[0] == 1 && message[240..243] == [53, 1, 3] {
            let xid = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
            self.asked.entry((xid, message[28..34].to_vec())).or_insert(passed.at);
        }
    }
}

fn sight(disk: &Disk, since: usize, at: u64) -> Sight<'_> {
    Sight { disk, since, wall: WallTime::from_secs(at / 1_000_000_000), at: at / 1_000_000 }
}
