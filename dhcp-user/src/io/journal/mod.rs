//! The journal file: lock, replay, group commit, compaction, follow.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::port::JournalSeq;
use crate::lease::journal::{Complaint, Format, Record};
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

/// A journal that is open for writing. Dropping it closes it cleanly.
#[derive(Debug)]
pub struct Journal {}

impl Journal {
    /// Opens, locks, replays and repairs a leases file; `apply` gets every record in the order of the file, `report`
    /// every event from the journal's thread.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(
        _path: &Path,
        _options: JournalOptions,
        _apply: &mut dyn FnMut(Record),
        _report: Box<dyn Fn(JournalEvent) + Send>,
    ) -> Result<(Self, Replay), OpenError> {
        todo!()
    }

    /// Appends one record; `Durable(seq)` follows.
    pub fn append(&self, _seq: JournalSeq, _record: &[u8]) {
        todo!()
    }

    /// Asks for a compaction now.
    pub fn compact(&self) {
        todo!()
    }

    /// Starts a restore after a failure: a new file is begun.
    pub fn restore_begin(&self) {
        todo!()
    }

    /// Adds records to the restore; appends may come in between.
    pub fn restore_push(&self, _records: &[u8]) {
        todo!()
    }

    /// Completes the restore; `Restored` or `Failed` follows.
    pub fn restore_end(&self) {
        todo!()
    }

    /// Writes what is queued, trims the file, unlocks it.
    pub fn close(self) {
        todo!()
    }
}
