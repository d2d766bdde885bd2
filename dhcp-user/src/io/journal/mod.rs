//! The journal file: lock, replay, group commit, compaction, follow.
//!
//! Skin: it decides nothing about leases. Guards I2 and I8: `Durable` is only said after a sync that covered the
//! record, and after one that failed nothing is said any more until a new file holds everything.
//!
//! ```text
//!   engine's thread --append--> queue --swap--> journal thread: write, fdatasync --> Durable(seq)
//!                                                  everything queued during a sync goes out with the next
//!   compactor thread: reads the file, writes FILE.<time> ... the journal thread switches between two commits
//! ```

mod compact;
mod disk;
mod follow;
mod replay;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::compact::Compaction;
pub use self::disk::{Disk, DiskFile, RealDisk};
pub use self::follow::{Feed, FollowError, Follower, Position};
pub use self::replay::Intake;
pub use self::snapshot::Snapshot;
pub use self::store::{Rewrite, Store};
use self::writer::{Mode, Shared, Writer};

use crate::engine::port::JournalSeq;
use crate::lease::journal::{Complaint, Format};
use crate::lease::time::WallTime;

/// Settings of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalOptions {
    /// Make the file when it does not exist (dhcpd refuses).
    pub create: bool,
    /// How the header and repaired records are written.
    pub format: Format,
    /// The present, for records without a state.
    pub now: WallTime,
    /// Most records in one commit (`delayed-ack`).
    pub batch_records_max: usize,
    /// How long a commit may wait for company, when there was company last time (`max-ack-delay`). Zero = never.
    pub latency_budget: Duration,
    /// `dont-use-fsync`: written is good enough.
    pub skip_sync: bool,
    /// Compact when the file is longer than this many times what lives in it.
    pub waste_factor: u32,
    /// Bytes up to which a file is not compacted for waste.
    pub waste_len_min: u64,
    /// Compact after this long when anything was written (dhcpd: one hour).
    pub compact_after: Duration,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            create: false,
            format: Format::default(),
            now: WallTime::NONE,
            batch_records_max: 4096,
            latency_budget: Duration::ZERO,
            skip_sync: false,
            waste_factor: 4,
            // Half a second to read again at a start, and ten seconds of 100,000 commits/s: with less, a busy server
            // would do little else.
            waste_len_min: 256 << 20,
            compact_after: Duration::from_secs(3600),
        }
    }
}

/// What was found in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// Lease records applied.
    pub leases: u64,
    /// Everything that was wrong, in the order of the file.
    pub complaints: Vec<Complaint>,
    /// Bytes of a torn last record that were cut off.
    pub torn_len: u64,
    /// Where damaged bytes from the middle were put.
    pub damaged: Option<PathBuf>,
}

/// Why a journal does not open. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error("Can't open lease database {path}: it does not exist{hint}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do about it.
        hint: String,
    },
    /// Another server has it.
    #[error("lease database {path} is in use by another server")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is not a leases file.
    #[error("{path} is not a leases file: {reason}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The system refused.
    #[error("lease database {path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

/// What a journal reports, from its own thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEvent {
    /// Everything up to this record is on disk.
    Durable(JournalSeq),
    /// Nothing can be made durable any more; appended records are dropped until a restore.
    Failed(String),
    /// The disk can be written again: call `restore_begin`, push the whole table, `restore_end`.
    Writable,
    /// The restore is complete and durable.
    Restored,
    /// A compaction is complete.
    Compacted {
        /// Bytes before.
        before_len: u64,
        /// Bytes after.
        after_len: u64,
    },
    /// Something somebody should look at.
    Warning(String),
}

/// Figures of a journal, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalStatus {
    /// Records that wait for their commit.
    pub backlog_count: usize,
    /// Bytes of records in the file.
    pub live_len: u64,
    /// Whether nothing can be made durable.
    pub is_failed: bool,
    /// Commits since the start.
    pub commits: u64,
    /// Records committed since the start.
    pub records: u64,
    /// Compactions since the start.
    pub compactions: u64,
    /// The longest that the thread spent in one commit or switch, in microseconds.
    pub longest_stall_us: u64,
}

/// A journal that is open for writing. Dropping it closes it cleanly.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    feed: Arc<Feed>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens, locks, replays and repairs a leases file; `intake` gets every record in the order of the file,
    /// `report` every event from the journal's thread.
    ///
    /// A torn last record is cut, damage in the middle is put aside; both are in the [`Replay`].
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(
        path: &Path,
        options: JournalOptions,
        intake: &mut (impl Intake + ?Sized),
        report: Box<dyn Fn(JournalEvent) + Send>,
    ) -> Result<(Self, Replay), OpenError> {
        Self::open_on(Arc::new(RealDisk), path, options, intake, report)
    }

    /// The same on another disk.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: JournalOptions,
        intake: &mut (impl Intake + ?Sized),
        report: Box<dyn Fn(JournalEvent) + Send>,
    ) -> Result<(Self, Replay), OpenError> {
        let (store, replay) = Store::open(disk, path, &options, intake)?;
        let feed = Arc::clone(store.feed());
        let shared = Arc::new(Shared::new(store.live_end()));
        if replay.damaged.is_some() {
            // What was put aside need not be found again.
            shared.queue().wants_compaction = true;
        }
        let writer = Writer::new(store, options, Arc::clone(&shared), report);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::Io { path: path.into(), reason: error.to_string() })?;
        Ok((Self { shared, feed, thread: Some(thread) }, replay))
    }

    /// Appends one record; `Durable(seq)`, or that of a later record, follows. While the journal has failed the record
    /// is dropped: a restore brings what it said.
    pub fn append(&self, seq: JournalSeq, record: &[u8]) {
        self.shared.push(Some(seq), record);
    }

    /// Queues a record that need not be committed before [`Self::commit`] says so: a group of them is one commit.
    pub fn queue(&self, seq: JournalSeq, record: &[u8]) {
        self.shared.queue_up(seq, record);
    }

    /// Has everything that is queued committed, together.
    pub fn commit(&self) {
        self.shared.call();
    }

    /// Asks for a compaction now.
    pub fn compact(&self) {
        self.shared.queue().wants_compaction = true;
        self.shared.wake.notify_one();
    }

    /// Starts a restore after a failure: a new file is begun, with what was in the old one beside leases. All leases
    /// (and the failover states) are to be pushed then, by the thread that appends.
    pub fn restore_begin(&self) {
        let mut queue = self.shared.queue();
        queue.clear();
        queue.mode = Mode::Restoring;
        queue.restores += 1;
        queue.is_restore_complete = false;
        drop(queue);
        self.shared.wake.notify_one();
    }

    /// Adds records to the restore; appends may come in between.
    pub fn restore_push(&self, records: &[u8]) {
        self.shared.push(None, records);
    }

    /// Completes the restore; `Restored` and `Durable` of all that was appended follow, or `Failed`.
    pub fn restore_end(&self) {
        self.shared.queue().is_restore_complete = true;
        self.shared.wake.notify_one();
    }

    /// Every committed change from now on, or from any position since the start.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Figures for people.
    #[must_use]
    pub fn status(&self) -> JournalStatus {
        let queue = self.shared.queue();
        JournalStatus {
            backlog_count: queue.records.len(),
            is_failed: queue.mode != Mode::Running,
            live_len: self.shared.live_end.load(Ordering::Relaxed),
            ..queue.status
        }
    }

    /// Writes what is queued, trims the file, unlocks it.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.queue().is_closing = true;
        self.shared.is_cancelled.store(true, Ordering::Relaxed);
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic handler.
            drop(thread.join());
        }
    }
}
