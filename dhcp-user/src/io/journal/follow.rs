//! Every committed change, once and in order, for whoever wants to follow: replicas, exporters, `leases --follow`.
//!
//! A position counts the bytes committed since the journal was opened. It survives a rewrite: the file before it is
//! kept open as long as somebody may read it, and the new one goes on where the old one ended.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::disk::{DiskFile, read_full};
use super::snapshot::Snapshot;
use crate::lease::journal::{Found, Reader, Record};
use crate::lease::time::WallTime;

/// Rewritten files that are kept for followers, the current one included.
const SEGMENTS_MAX: usize = 3;

/// Bytes read at once.
const PIECE_LEN: usize = 64 * 1024;

/// Bytes committed since the journal was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u64);

/// Why a follower cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The changes at this position are gone: take a snapshot, and follow from its position.
    #[error("the changes at this position are no longer kept")]
    Gone,
    /// They cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What has been committed, and where it is.
#[derive(Debug)]
pub struct Feed {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug)]
struct State {
    /// The last one is the current file.
    segments: VecDeque<Segment>,
    /// Position behind the last durable record.
    end: u64,
}

/// A file, and the position of its byte `file_start`.
#[derive(Debug)]
struct Segment {
    file: Arc<dyn DiskFile>,
    start: u64,
    file_start: u64,
}

impl Feed {
    pub(super) fn new(file: Arc<dyn DiskFile>, file_start: u64) -> Arc<Self> {
        let segments = VecDeque::from([Segment { file, start: 0, file_start }]);
        Arc::new(Self { state: Mutex::new(State { segments, end: 0 }), news: Condvar::new() })
    }

    /// The file is durable up to this offset.
    pub(super) fn committed(&self, live_end: u64) {
        let mut state = self.state();
        if let Some(segment) = state.segments.back() {
            state.end = segment.start + (live_end - segment.file_start);
        }
        drop(state);
        self.news.notify_all();
    }

    /// Another file has taken over; its next record goes to `live_end`.
    pub(super) fn switched(&self, file: Arc<dyn DiskFile>, live_end: u64) {
        let mut state = self.state();
        let start = state.end;
        state.segments.push_back(Segment { file, start, file_start: live_end });
    }

    /// Hands out the files that are too old to be kept. Giving back their space takes long, so this is not for the
    /// thread that commits.
    pub(super) fn retire(&self) -> Vec<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let count = state.segments.len().saturating_sub(SEGMENTS_MAX);
        state.segments.drain(..count).map(|segment| segment.file).collect()
    }

    /// Whether a file is kept for followers.
    pub(super) fn keeps(&self, file: &dyn DiskFile) -> io::Result<bool> {
        let identity = file.identity()?;
        let files: Vec<_> = self.state().segments.iter().map(|segment| Arc::clone(&segment.file)).collect();
        for kept in files {
            if kept.identity()? == identity {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The position behind everything that is durable.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.state().end)
    }

    /// Everything that is durable, as it is now.
    ///
    /// # Panics
    ///
    /// Never: the current file is always there.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        #[expect(clippy::expect_used, reason = "made with one segment, and the last one is never taken out")]
        let segment = state.segments.back().expect("the current file");
        let end = segment.file_start + (state.end - segment.start);
        Snapshot { file: Arc::clone(&segment.file), end, position: Position(state.end) }
    }

    /// Follows from a position on.
    #[must_use]
    pub fn follow(self: &Arc<Self>, from: Position) -> Follower {
        Follower { feed: Arc::clone(self), at: from.0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file, an offset in it, and how many bytes there are.
type Stretch = (Arc<dyn DiskFile>, u64, u64);

/// Somebody who follows.
#[derive(Debug)]
pub struct Follower {
    feed: Arc<Feed>,
    at: u64,
}

impl Follower {
    /// The position behind the last record that was returned.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position(self.at)
    }

    /// The next committed records; none when there are none yet.
    ///
    /// # Errors
    ///
    /// [`FollowError::Gone`] when the follower is too slow, or its position is of another run.
    pub fn poll(&mut self) -> Result<Vec<Record>, FollowError> {
        let mut len = PIECE_LEN;
        loop {
            let Some((file, offset, available)) = self.locate()? else {
                return Ok(Vec::new());
            };
            let wanted = usize::try_from(available).unwrap_or(usize::MAX).min(len);
            let mut text = vec![0; wanted];
            let found = read_full(&*file, &mut text, offset)?;
            if found < wanted {
                return Err(FollowError::Gone);
            }
            let is_last = wanted as u64 == available;
            let mut records = Vec::new();
            // A record of this server always has its state, so the time does not matter.
            let done = Reader::new(WallTime::NONE).feed(&text, is_last, &mut |found| {
                if let Found::Record(record, _) = found {
                    records.push(record);
                }
            });
            if done == 0 {
                len *= 2;
                continue;
            }
            self.at += done as u64;
            if !records.is_empty() {
                return Ok(records);
            }
        }
    }

    /// Waits until there may be something to poll, at most so long.
    pub fn wait(&self, at_most: Duration) {
        let state = self.feed.state();
        let wait = self.feed.news.wait_timeout_while(state, at_most, |state| state.end <= self.at);
        drop(wait);
    }

    /// The file, offset and length of what comes next; `None` when there is nothing yet.
    fn locate(&self) -> Result<Option<Stretch>, FollowError> {
        let state = self.feed.state();
        if self.at == state.end {
            return Ok(None);
        }
        let number = state.segments.partition_point(|segment| segment.start <= self.at);
        let segment = number.checked_sub(1).and_then(|number| state.segments.get(number)).ok_or(FollowError::Gone)?;
        let end = state.segments.get(number).map_or(state.end, |next| next.start);
        let available = end.checked_sub(self.at).filter(|len| *len > 0).ok_or(FollowError::Gone)?;
        Ok(Some((Arc::clone(&segment.file), segment.file_start + (self.at - segment.start), available)))
    }
}
