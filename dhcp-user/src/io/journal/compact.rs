//! Compaction: the journal without what has been overtaken, in the background.
//!
//! The journal re-reads its own file, on a thread of its own, and copies the last record of every address as it
//! stands. Why not write out the engine's table: that would need the engine's thread for as long as a million leases
//! take, or a copy of them; and what only the file knows (records outside every range, hosts of OMAPI, a newer
//! server's fields) survives here by not being touched. The price is an index of 16 bytes per address while it runs.
//!
//! ```text
//!   compactor   scan 0..A | copy last records, 256 KiB at a time, each synced | copy A..B | copy B..C | ..
//!   journal     commits go on in the old file ............................................... | copy the rest,
//!                                                                            sync, link, rename, sync folder
//! ```
//!
//! What is dirty is never more than a stretch of 256 KiB, so a commit of the journal does not have to wait for 300 MB.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::{DiskFile, free, read_full};
use super::follow::Feed;
use super::replay::scan;
use super::store::{Rewrite, Store};
use crate::lease::Lease;
use crate::lease::journal::{Record, Span, write_header};
use crate::lease::time::WallTime;

/// Bytes written between two syncs of the new file. A commit may have to wait for one of them: 256 KiB take a third of
/// a millisecond where 1 MiB takes three and a half.
const STRETCH_LEN: usize = 256 * 1024;

/// Most bytes that are left to the journal's thread at the end.
pub(super) const REST_LEN_MAX: u64 = 128 * 1024;

/// A compaction under way.
#[derive(Debug)]
pub struct Compaction {
    source: Arc<dyn DiskFile>,
    /// Everything before this offset of the source is in the new file.
    copied_end: u64,
    rewrite: Rewrite,
    now: WallTime,
    is_cancelled: Arc<AtomicBool>,
}

impl Compaction {
    /// Begins: makes the new file. It gives up when `is_cancelled` is set.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn begin(store: &Store, now: WallTime, is_cancelled: Arc<AtomicBool>) -> io::Result<Self> {
        let rewrite = store.begin_rewrite(now.secs().into())?;
        Ok(Self { source: Arc::clone(store.file()), copied_end: 0, rewrite, now, is_cancelled })
    }

    fn stop_if_cancelled(&self) -> io::Result<()> {
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("the journal is being closed"));
        }
        Ok(())
    }

    /// Copies what lives in the source before `live_end`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn run(&mut self, live_end: u64) -> io::Result<()> {
        let mut index = Index::default();
        self.stop_if_cancelled()?;
        scan(&*self.source, live_end, self.now, &mut |record, span| index.add(record, span))?;
        let mut out = Vec::with_capacity(STRETCH_LEN * 2);
        write_header(&mut out);
        let mut window = Window::new(&*self.source);
        for (span, has_blank_line) in index.spans()? {
            if has_blank_line {
                out.push(b'\n');
            }
            window.read(span, &mut out)?;
            out.push(b'\n');
            if out.len() >= STRETCH_LEN {
                self.rewrite.push(&out)?;
                self.rewrite.sync()?;
                out.clear();
                self.stop_if_cancelled()?;
            }
        }
        self.rewrite.push(&out)?;
        self.rewrite.sync()?;
        self.copied_end = live_end;
        Ok(())
    }

    /// Copies what was committed since, and how much it was. All of it is newer than what `run` copied.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn catch_up(&mut self, live_end: u64) -> io::Result<u64> {
        let len = live_end - self.copied_end;
        let mut from = self.copied_end;
        while from < live_end {
            let until = live_end.min(from + STRETCH_LEN as u64);
            self.rewrite.copy(&*self.source, from, until)?;
            self.rewrite.sync()?;
            from = until;
        }
        self.copied_end = live_end;
        Ok(len)
    }

    /// Removes `FILE~` ahead of the switch, and gives back the space of what nobody follows any more.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn clear_away(&self, feed: &Feed) -> io::Result<()> {
        for file in feed.retire() {
            free(file, &self.is_cancelled);
        }
        // A crash between link and rename leaves a backup that is the journal itself: `free` spares what has a name.
        if let Some(backup) = self.rewrite.remove_backup()?
            && !feed.keeps(&*backup)?
        {
            free(backup, &self.is_cancelled);
        }
        Ok(())
    }

    /// Completes it: the last records, then the switch.
    ///
    /// # Errors
    ///
    /// What the system says; see [`Store::replace`].
    pub fn finish(mut self, store: &mut Store) -> io::Result<()> {
        if !Arc::ptr_eq(&self.source, store.file()) || store.is_failed() {
            return Err(io::Error::other("the journal has been replaced meanwhile"));
        }
        self.rewrite.copy(&*self.source, self.copied_end, store.live_end())?;
        store.replace(self.rewrite)
    }
}

/// The last record of everything.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Address, then offset (40 bits) and length (24 bits) of a record; length zero when it says nothing.
    leases: Vec<(u32, u64)>,
    /// How many to collect before those that were overtaken are dropped.
    limit: usize,
    peers: Vec<(Box<[u8]>, Span)>,
    duid: Option<Span>,
    others: Vec<Span>,
    has_giant: bool,
}

/// Fewest leases that are worth sorting.
const SETTLE_COUNT_MIN: usize = 64 * 1024;

impl Index {
    pub(super) fn add(&mut self, record: Record, span: Span) {
        match record {
            Record::Lease(lease) => {
                self.has_giant |= span.offset >= 1 << 40 || span.len >= 1 << 24;
                // dhcpd leaves out free leases that were never used.
                let len = if lease == Lease::free(lease.address) { 0 } else { span.len };
                self.leases.push((lease.address.into(), (span.offset << 24) | len));
                if self.leases.len() > self.limit {
                    self.settle();
                    self.limit = SETTLE_COUNT_MIN.max(self.leases.len() * 2);
                }
            }
            Record::PeerState(state) => {
                self.peers.retain(|(name, _)| *name != state.name);
                self.peers.push((state.name, span));
            }
            Record::ServerDuid(_) => self.duid = Some(span),
            Record::Other(_) => self.others.push(span),
        }
    }

    /// Drops what was overtaken.
    fn settle(&mut self) {
        self.leases.sort_unstable();
        self.leases.reverse();
        self.leases.dedup_by_key(|(address, _)| *address);
    }

    /// Everything in the order it is written, and whether an empty line goes before it: other declarations first, as
    /// dhcpd does, leases as they follow each other in the source.
    pub(super) fn spans(mut self) -> io::Result<impl Iterator<Item = (Span, bool)>> {
        if self.has_giant {
            return Err(io::Error::other("a record is too long, or the file is, to be compacted"));
        }
        self.settle();
        let mut leases: Vec<u64> =
            self.leases.into_iter().map(|(_, packed)| packed).filter(|packed| packed & 0xff_ffff != 0).collect();
        leases.sort_unstable();
        let leases = leases.into_iter().map(|packed| (Span { offset: packed >> 24, len: packed & 0xff_ffff }, false));
        let others = self.others.into_iter().chain(self.duid).map(|span| (span, false));
        let peers = self.peers.into_iter().map(|(_, span)| (span, true));
        Ok(others.chain(peers).chain(leases))
    }
}

/// Reads stretches of a file that mostly follow each other.
pub(super) struct Window<'a> {
    file: &'a dyn DiskFile,
    start: u64,
    bytes: Vec<u8>,
    len: usize,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn DiskFile) -> Self {
        Self { file, start: 0, bytes: vec![0; STRETCH_LEN], len: 0 }
    }

    pub(super) fn read(&mut self, span: Span, out: &mut Vec<u8>) -> io::Result<()> {
        let len = usize::try_from(span.len).map_err(io::Error::other)?;
        let is_inside = span.offset >= self.start && span.offset + span.len <= self.start + self.len as u64;
        if !is_inside {
            if self.bytes.len() < len {
                self.bytes.resize(len, 0);
            }
            self.start = span.offset;
            self.len = read_full(self.file, &mut self.bytes, span.offset)?;
        }
        let from = usize::try_from(span.offset - self.start).map_err(io::Error::other)?;
        let text = self.bytes.get(..self.len).and_then(|bytes| bytes.get(from..from + len));
        out.extend_from_slice(text.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }
}
