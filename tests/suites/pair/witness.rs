//! What a stranger sees of a pair: frames at the two ports of the switch, and the two leases files. The judge says whether
//! every message and every answer rests on what the files said (I2, I8) and on what the servers had agreed (I7).
//!
//! ```text
//!   look:  files ---- t ---- frames up to t ---- files again ---- judge
//!          `since`           what happened       what it may rest on
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

use dhcp_user::lease::journal;
use dhcp_user::lease::time::WallTime;
use dhcproto::v4::MessageType;
use tests::client::Reply;
use tests::duo::{ADDRESSES, Duo, P, S};
use tests::frames::open;
use tests::judge::{Disk, Judge, Sight, Told};
use tests::lab::{Passed, Tap};
use tests::pcap::{Direction, Streams};

/// A leases file as it grows. One that is put in its place does not hide what the old one said last.
struct Followed {
    path: PathBuf,
    file: Option<File>,
    read: usize,
}

impl Followed {
    /// What has been added; a record that is not whole waits.
    fn more(&mut self) -> String {
        let mut text = self.rest();
        let inode = |file: &File| file.metadata().map(|file| file.ino()).ok();
        let Ok(current) = File::open(&self.path) else { return text };
        if self.file.as_ref().and_then(inode) != inode(&current) {
            text.push_str(&self.rest());
            (self.file, self.read) = (Some(current), 0);
            text.push_str(&self.rest());
        }
        text
    }

    fn rest(&mut self) -> String {
        let Some(file) = &self.file else { return String::new() };
        let len = file.metadata().map_or(0, |file| usize::try_from(file.len()).unwrap_or(0));
        let mut fresh = vec![0; len.saturating_sub(self.read)];
        let Ok(count) = file.read_at(&mut fresh, self.read as u64) else { return String::new() };
        fresh.truncate(count);
        let end = fresh.windows(3).rposition(|three| three == b"\n}\n").map_or(0, |at| at + 3);
        self.read += end;
        String::from_utf8_lossy(&fresh[..end]).into_owned()
    }
}

/// How much was seen.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    /// ACKs with a lease.
    pub(crate) acks: u64,
    /// Messages between the servers.
    pub(crate) messages: u64,
    /// Records in the files.
    pub(crate) records: usize,
}

/// Sees, and judges.
pub(crate) struct Witness {
    taps: [Tap; 2],
    files: [Followed; 2],
    disks: [Disk; 2],
    /// How many pieces of each file had been read before the last look's instant.
    known: [usize; 2],
    /// Frames that came after it, by port.
    later: Vec<(usize, Passed)>,
    streams: Streams,
    /// The connection that two ports belong to, whichever way.
    connections: BTreeMap<(u16, u16), u64>,
    /// When a client asked with an xid first.
    asked: BTreeMap<(u32, Vec<u8>), u64>,
    judge: Judge,
    pub(crate) tally: Tally,
}

fn ports(direction: &Direction) -> (u16, u16) {
    (direction.1.min(direction.3), direction.1.max(direction.3))
}

impl Witness {
    pub(crate) fn new(duo: &Duo, mclt: u32) -> Self {
        let file = |side: usize| {
            let path = duo.sides[side].folder.path().join("dhcpd.leases");
            Followed { path, file: None, read: 0 }
        };
        Self {
            taps: [P, S].map(|side| duo.tap(side)),
            files: [P, S].map(file),
            disks: [P, S].map(|_| Disk::default()),
            known: [0; 2],
            later: Vec::new(),
            streams: Streams::default(),
            connections: BTreeMap::new(),
            asked: BTreeMap::new(),
            judge: Judge::new(mclt),
            tally: Tally::default(),
        }
    }

    /// Judges what has happened since the last look; the first thing that was wrong.
    pub(crate) fn look(&mut self) -> Result<(), String> {
        // What the files said before the first of these frames.
        let since = self.known;
        self.read_files();
        let until = unix_nanos();
        let mut frames = std::mem::take(&mut self.later);
        for port in [P, S] {
            frames.extend(self.taps[port].take().into_iter().map(|passed| (port, passed)));
        }
        frames.sort_by_key(|(_, passed)| passed.at);
        // The next look begins with frames after `until`; these pieces were read before.
        self.known = [P, S].map(|side| self.disks[side].pieces.len());
        self.read_files();
        for (port, passed) in frames {
            if passed.at > until {
                self.later.push((port, passed));
                continue;
            }
            if port == P {
                self.between_servers(&passed, since);
            }
            self.with_clients(port, &passed, since);
        }
        self.judge.failures.first().map_or(Ok(()), |first| Err(first.clone()))
    }

    fn read_files(&mut self) {
        for side in [P, S] {
            let text = self.files[side].more();
            if !text.is_empty() {
                let wall = WallTime::from_secs(tests::lab::unix_secs());
                let records = journal::read(text.as_bytes(), wall, &mut Vec::new());
                self.tally.records += records.len();
                self.disks[side].pieces.push(records);
            }
            self.disks[side].durable = self.disks[side].pieces.len();
        }
    }

    /// A segment of the servers' own connection, seen at the primary's port.
    fn between_servers(&mut self, passed: &Passed, since: [usize; 2]) {
        let Some(added) = self.streams.push(&passed.frame) else { return };
        let Some(from) = ADDRESSES.iter().position(|address| address.octets() == added.direction.0) else { return };
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
        self.tally.messages += self.judge.note_sent(sight, from, connection, &added.bytes).len() as u64;
        self.judge.note_delivered(to, connection, since[to], &added.bytes);
    }

    /// A DHCP message, seen at the port of a server.
    fn with_clients(&mut self, side: usize, passed: &Passed, since: [usize; 2]) {
        let Some(datagram) = open(&passed.frame) else { return };
        if let Some(reply) = Reply::parse(&passed.frame) {
            let is_its = reply.server() == Some(ADDRESSES[side]) && reply.kind() == Some(MessageType::Ack);
            let (Some(secs), true, Ok(mac)) = (reply.lease_secs(), is_its, <[u8; 6]>::try_from(reply.message.chaddr()))
            else {
                return;
            };
            // RFC 2131 4.4.1: a client counts from when it has asked.
            let key = (reply.message.xid(), mac.to_vec());
            let Some(&asked) = self.asked.get(&key) else { return };
            self.tally.acks += 1;
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

#[expect(clippy::disallowed_methods, reason = "frames are stamped with the real clock")]
fn unix_nanos() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
