//! The thread that commits, and the queue in front of it.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::compact::{Compaction, REST_LEN_MAX};
use super::follow::Feed;
use super::store::{Rewrite, Store};
use super::{JournalEvent, JournalOptions, JournalStatus};
use crate::engine::port::JournalSeq;
use crate::lease::time::WallTime;

/// How often the thread looks around when nothing happens.
const TICK: Duration = Duration::from_secs(10);

/// The same, for settings that want a compaction more often than that.
const TICK_MIN: Duration = Duration::from_millis(10);

/// How long to wait between two looks at a disk that refused: first, and at most.
const PROBE_AFTER: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// Bytes written to see whether a disk can be written again.
const PROBE_LEN: usize = 64 * 1024;

/// Times a compaction copies what came meanwhile before it leaves the rest to the commit thread.
const CATCH_UP_MAX: usize = 50;

/// What happens to records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// They are committed.
    Running,
    /// They are dropped.
    Failed,
    /// They are written to a new file.
    Restoring,
}

/// What both threads see.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    pub(super) wake: Condvar,
    /// Where the records end that are durable, for the compactor.
    pub(super) live_end: AtomicU64,
    pub(super) is_cancelled: Arc<AtomicBool>,
}

/// What waits to be done.
#[derive(Debug)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// Number and length of each record in `bytes`.
    pub(super) records: VecDeque<(Option<JournalSeq>, usize)>,
    /// Whether what is queued shall be written; a group that is still growing waits.
    is_called: bool,
    /// The last number that was appended, dropped or not.
    last_seq: Option<JournalSeq>,
    pub(super) mode: Mode,
    /// Counts the restores that were begun.
    pub(super) restores: u64,
    pub(super) is_restore_complete: bool,
    pub(super) wants_compaction: bool,
    is_compaction_ready: bool,
    pub(super) is_closing: bool,
    pub(super) status: JournalStatus,
}

impl Queue {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.is_called = false;
    }

    /// Moves at most `count` records into `batch`: the last number among them, and how many.
    fn take(&mut self, count: usize, batch: &mut Vec<u8>) -> (Option<JournalSeq>, usize) {
        batch.clear();
        if self.records.len() <= count {
            std::mem::swap(&mut self.bytes, batch);
            let last = self.records.iter().rev().find_map(|(seq, _)| *seq);
            let taken = self.records.len();
            self.records.clear();
            self.is_called = false;
            return (last, taken);
        }
        let mut last = None;
        let mut len = 0;
        for (seq, record_len) in self.records.drain(..count) {
            last = seq.or(last);
            len += record_len;
        }
        batch.extend(self.bytes.drain(..len));
        (last, count)
    }
}

impl Shared {
    pub(super) fn new(live_end: u64) -> Self {
        let queue = Queue {
            bytes: Vec::new(),
            records: VecDeque::new(),
            is_called: false,
            last_seq: None,
            mode: Mode::Running,
            restores: 0,
            is_restore_complete: false,
            wants_compaction: false,
            is_compaction_ready: false,
            is_closing: false,
            status: JournalStatus::default(),
        };
        Self {
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            live_end: AtomicU64::new(live_end),
            is_cancelled: Arc::default(),
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, seq: Option<JournalSeq>, record: &[u8]) {
        if self.add(seq, record) {
            self.call();
        }
    }

    /// Adds a record to the group that [`Self::call`] will have written.
    pub(super) fn queue_up(&self, seq: JournalSeq, record: &[u8]) {
        self.add(Some(seq), record);
    }

    fn add(&self, seq: Option<JournalSeq>, record: &[u8]) -> bool {
        let mut queue = self.queue();
        queue.last_seq = seq.or(queue.last_seq);
        if queue.mode == Mode::Failed {
            return false;
        }
        queue.bytes.extend_from_slice(record);
        queue.records.push_back((seq, record.len()));
        true
    }

    /// Has what is queued written.
    pub(super) fn call(&self) {
        let mut queue = self.queue();
        let is_news = !queue.is_called && !queue.records.is_empty();
        queue.is_called |= is_news;
        drop(queue);
        if is_news {
            self.wake.notify_one();
        }
    }
}

/// What to do next.
enum Work {
    Commit(Option<JournalSeq>, usize),
    BeginRestore,
    Restore,
    EndRestore,
    Compact,
    FinishCompaction,
    Probe,
    Tick,
    Close,
}

/// The commit thread.
pub(super) struct Writer {
    store: Store,
    options: JournalOptions,
    shared: Arc<Shared>,
    report: Box<dyn Fn(JournalEvent) + Send>,
    batch: Vec<u8>,
    /// Records in the commit before this one: with company, it may be worth waiting for more.
    last_count: usize,
    restores: u64,
    rewrite: Option<Rewrite>,
    /// The last record that is part of the restore.
    restored_seq: Option<JournalSeq>,
    compactor: Option<JoinHandle<io::Result<Compaction>>>,
    compacted_at: Instant,
    has_news: bool,
    /// When to look at the disk, and how long to wait after that; `None` once it looked well.
    probe: Option<(Instant, Duration)>,
}

impl Writer {
    pub(super) fn new(
        store: Store,
        options: JournalOptions,
        shared: Arc<Shared>,
        report: Box<dyn Fn(JournalEvent) + Send>,
    ) -> Self {
        Self {
            store,
            options,
            shared,
            report,
            batch: Vec::new(),
            last_count: 0,
            restores: 0,
            rewrite: None,
            restored_seq: None,
            compactor: None,
            compacted_at: instant(),
            has_news: false,
            probe: None,
        }
    }

    pub(super) fn run(mut self) {
        be_nice(JOURNAL_NICE);
        loop {
            match self.next() {
                Work::Commit(seq, count) => self.commit(seq, count),
                Work::BeginRestore => self.begin_restore(),
                Work::Restore => self.restore(),
                Work::EndRestore => self.end_restore(),
                Work::Compact => self.compact(),
                Work::FinishCompaction => self.finish_compaction(),
                Work::Probe => self.probe(),
                Work::Tick => self.tick(),
                Work::Close => break,
            }
        }
        if let Some(compactor) = self.compactor.take() {
            drop(compactor.join());
        }
        if let Err(error) = self.store.close() {
            (self.report)(JournalEvent::Warning(format!("the leases file could not be trimmed: {error}")));
        }
    }

    /// Waits for something to do. Commits go first: everything else can wait a sync longer.
    fn next(&mut self) -> Work {
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.queue();
        loop {
            if queue.mode == Mode::Restoring && queue.restores != self.restores {
                self.restores = queue.restores;
                return Work::BeginRestore;
            }
            let is_called = queue.is_called || queue.is_closing || queue.mode == Mode::Restoring;
            if is_called && !queue.records.is_empty() {
                queue = self.linger(&shared, queue);
                let max = self.options.batch_records_max.max(1);
                let mode = queue.mode;
                let (seq, count) = queue.take(max, &mut self.batch);
                return if mode == Mode::Restoring { Work::Restore } else { Work::Commit(seq, count) };
            }
            if queue.mode == Mode::Restoring && queue.is_restore_complete {
                self.restored_seq = queue.last_seq;
                return Work::EndRestore;
            }
            if queue.is_closing {
                return Work::Close;
            }
            if queue.is_compaction_ready {
                queue.is_compaction_ready = false;
                return Work::FinishCompaction;
            }
            if queue.wants_compaction && self.compactor.is_none() && queue.mode == Mode::Running {
                queue.wants_compaction = false;
                return Work::Compact;
            }
            let wait = match (queue.mode, self.probe) {
                (Mode::Failed, Some((at, _))) => {
                    let wait = at.saturating_duration_since(instant());
                    if wait.is_zero() {
                        return Work::Probe;
                    }
                    wait
                }
                (Mode::Failed | Mode::Running | Mode::Restoring, _) => {
                    TICK.min(self.options.compact_after.max(TICK_MIN))
                }
            };
            let (guard, timeout) = shared.wake.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner);
            queue = guard;
            if timeout.timed_out() && queue.mode == Mode::Running && queue.records.is_empty() && !queue.is_closing {
                return Work::Tick;
            }
        }
    }

    /// Waits for more records if there were several last time, and the settings allow it. A lone client never waits.
    fn linger<'a>(&self, shared: &'a Shared, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let budget = self.options.latency_budget;
        let max = self.options.batch_records_max;
        if budget.is_zero() || self.last_count < 2 || queue.mode != Mode::Running {
            return queue;
        }
        let wait =
            shared.wake.wait_timeout_while(queue, budget, |queue| queue.records.len() < max && !queue.is_closing);
        wait.unwrap_or_else(PoisonError::into_inner).0
    }

    fn commit(&mut self, seq: Option<JournalSeq>, count: usize) {
        let start = instant();
        match self.store.commit(&self.batch) {
            Ok(()) => {
                self.last_count = count;
                self.has_news = true;
                self.shared.live_end.store(self.store.live_end(), Ordering::Release);
                let mut queue = self.shared.queue();
                queue.status.commits += 1;
                queue.status.records += count as u64;
                drop(queue);
                self.note_stall(start);
                if let Some(seq) = seq {
                    (self.report)(JournalEvent::Durable(seq));
                }
                self.look_for_waste();
            }
            Err(error) => self.fail(&error),
        }
    }

    fn look_for_waste(&self) {
        let live_end = self.store.live_end();
        let factor = u64::from(self.options.waste_factor.max(2));
        let wasteful_len = self.options.waste_len_min.max(self.store.rewritten_len().saturating_mul(factor));
        if live_end > wasteful_len && self.compactor.is_none() {
            self.shared.queue().wants_compaction = true;
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.rewrite = None;
        let mut queue = self.shared.queue();
        // A restore that was begun meanwhile has its own file.
        if queue.mode == Mode::Restoring && queue.restores != self.restores {
            return;
        }
        queue.mode = Mode::Failed;
        queue.clear();
        drop(queue);
        let wait = self.probe.map_or(PROBE_AFTER[0], |(_, wait)| wait);
        self.probe = Some((instant() + wait, wait));
        let path = self.store.path().display();
        (self.report)(JournalEvent::Failed(format!("lease database {path} cannot be written: {error}")));
    }

    /// Looks whether the disk can be written again.
    fn probe(&mut self) {
        let result = self.store.begin_rewrite(unix_time()).and_then(|mut rewrite| {
            rewrite.push(&[b'\n'; PROBE_LEN])?;
            rewrite.sync()
        });
        let [_, longest] = PROBE_AFTER;
        let wait = self.probe.map_or(longest, |(_, wait)| (wait * 2).min(longest));
        match result {
            Ok(()) => {
                // The next failure waits longer; a restore that succeeds starts afresh.
                self.probe = Some((instant() + Duration::from_secs(u64::from(u32::MAX)), wait));
                (self.report)(JournalEvent::Writable);
            }
            Err(_) => self.probe = Some((instant() + wait, wait)),
        }
    }

    fn begin_restore(&mut self) {
        match self.store.begin_restore(unix_time()) {
            Ok(rewrite) => self.rewrite = Some(rewrite),
            Err(error) => self.fail(&error),
        }
    }

    fn restore(&mut self) {
        let result = match &mut self.rewrite {
            Some(rewrite) => rewrite.push(&self.batch),
            None => Ok(()),
        };
        if let Err(error) = result {
            self.fail(&error);
        }
    }

    fn end_restore(&mut self) {
        let Some(rewrite) = self.rewrite.take() else {
            self.fail(&io::Error::other("the restore was not begun"));
            return;
        };
        match self.store.replace(rewrite) {
            Ok(()) => {
                self.shared.live_end.store(self.store.live_end(), Ordering::Release);
                let mut queue = self.shared.queue();
                queue.mode = Mode::Running;
                queue.is_restore_complete = false;
                drop(queue);
                self.probe = None;
                self.compacted_at = instant();
                (self.report)(JournalEvent::Restored);
                if let Some(seq) = self.restored_seq {
                    (self.report)(JournalEvent::Durable(seq));
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    fn tick(&mut self) {
        let is_due = self.compacted_at.elapsed() >= self.options.compact_after;
        if is_due && self.has_news && self.compactor.is_none() {
            self.shared.queue().wants_compaction = true;
        }
    }

    fn compact(&mut self) {
        let now = WallTime::from_secs(unix_time());
        self.has_news = false;
        self.compacted_at = instant();
        let started =
            Compaction::begin(&self.store, now, Arc::clone(&self.shared.is_cancelled)).and_then(|compaction| {
                let shared = Arc::clone(&self.shared);
                let feed = Arc::clone(self.store.feed());
                std::thread::Builder::new().name("compactor".to_owned()).spawn(move || {
                    be_nice(COMPACTOR_NICE);
                    let result = prepare(compaction, &shared, &feed);
                    shared.queue().is_compaction_ready = true;
                    shared.wake.notify_one();
                    result
                })
            });
        match started {
            Ok(compactor) => self.compactor = Some(compactor),
            Err(error) => (self.report)(JournalEvent::Warning(format!("no compaction: {error}"))),
        }
    }

    fn finish_compaction(&mut self) {
        let Some(compactor) = self.compactor.take() else { return };
        let compaction = match compactor.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("the compactor panicked")),
        };
        let start = instant();
        let before_len = self.store.live_end();
        let had_failed = self.store.is_failed();
        match compaction.and_then(|compaction| compaction.finish(&mut self.store)) {
            Ok(()) => {
                let after_len = self.store.live_end();
                self.shared.live_end.store(after_len, Ordering::Release);
                self.shared.queue().status.compactions += 1;
                self.note_stall(start);
                (self.report)(JournalEvent::Compacted { before_len, after_len });
            }
            Err(error) if self.store.is_failed() && !had_failed => self.fail(&error),
            Err(error) => (self.report)(JournalEvent::Warning(format!("no compaction: {error}"))),
        }
    }

    fn note_stall(&self, start: Instant) {
        let stall_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut queue = self.shared.queue();
        queue.status.longest_stall_us = queue.status.longest_stall_us.max(stall_us);
    }
}

/// All of a compaction that needs no standstill.
fn prepare(mut compaction: Compaction, shared: &Shared, feed: &Feed) -> io::Result<Compaction> {
    compaction.run(shared.live_end.load(Ordering::Acquire))?;
    compaction.clear_away(feed)?;
    for _ in 0..CATCH_UP_MAX {
        if compaction.catch_up(shared.live_end.load(Ordering::Acquire))? <= REST_LEN_MAX {
            break;
        }
    }
    Ok(compaction)
}

/// Nobody waits for a compaction: every other thread goes first.
const COMPACTOR_NICE: i32 = 15;

/// Everybody waits for a commit, and it needs little of a processor: it goes before the thread that makes work for it.
/// Where that is not allowed nothing changes.
const JOURNAL_NICE: i32 = -10;

/// Gives the calling thread another priority.
fn be_nice(nice: i32) {
    // SAFETY: the call takes three integers and changes the priority of the calling thread alone (0 = myself; on Linux
    // priorities belong to threads). Its failure changes nothing, so the result does not matter.
    #[expect(unsafe_code, reason = "std has no thread priorities")]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, nice);
    }
}

fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the skin times its own waits; no promise depends on it")]
    Instant::now()
}

/// The suffix of new files (dhcpd: seconds since 1970).
fn unix_time() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "only names a file and dates stateless records of old files")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
