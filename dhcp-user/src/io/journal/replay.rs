//! Reads a whole file into whoever wants its records, and tells what has to be repaired.
//!
//! Two threads: one reads and parses, the caller takes in. A million records are there in a few tenths of a second.

use std::io;
use std::sync::mpsc;

use super::disk::{DiskFile, read_full};
use crate::lease::journal::{Complaint, Found, Reader, Record, Span};
use crate::lease::time::WallTime;

/// Bytes read at once: small enough to stay in the cache between reading and parsing.
const PIECE_LEN: usize = 512 * 1024;

/// Records handed over at once.
const BATCH_LEN: usize = 1024;

/// Batches on the way.
const BATCHES_MAX: usize = 16;

/// Complaints kept; a file with more is beyond listing.
const COMPLAINTS_MAX: usize = 1000;

/// What a file is like.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Lease records.
    pub(super) leases: u64,
    /// What was wrong.
    pub(super) complaints: Vec<Complaint>,
    /// Damaged stretches in the middle.
    pub(super) damaged: Vec<Span>,
    /// The torn last record.
    pub(super) torn: Option<Span>,
    /// Why this is no leases file.
    pub(super) foreign: Option<Complaint>,
    /// Length of the file.
    pub(super) file_len: u64,
}

/// Reads `file` up to `limit` on this thread.
pub(super) fn scan(
    file: &dyn DiskFile,
    limit: u64,
    now: WallTime,
    sink: &mut dyn FnMut(Record, Span),
) -> io::Result<Survey> {
    let mut survey = Survey::default();
    let mut reader = Reader::new(now);
    let mut buffer = vec![0; PIECE_LEN];
    // The buffer holds `held` bytes that end at file offset `read_end`.
    let (mut held, mut read_end) = (0_usize, 0_u64);
    loop {
        if held == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        let room = usize::try_from(limit - read_end).unwrap_or(usize::MAX).min(buffer.len() - held);
        let piece = buffer.get_mut(held..held + room).unwrap_or_default();
        let len = read_full(file, piece, read_end)?;
        read_end += len as u64;
        held += len;
        let is_last = len < room || read_end == limit;
        let text = buffer.get(..held).unwrap_or_default();
        let done = reader.feed(text, is_last, &mut |found| match found {
            Found::Record(record, span) => {
                survey.leases += u64::from(matches!(record, Record::Lease(_)));
                sink(record, span);
            }
            Found::Damaged(complaint, span) => {
                keep(&mut survey.complaints, complaint);
                survey.damaged.push(span);
            }
            Found::Torn(complaint, span) => {
                keep(&mut survey.complaints, complaint);
                survey.torn = Some(span);
            }
        });
        if is_last {
            break;
        }
        buffer.copy_within(done..held, 0);
        held -= done;
    }
    survey.file_len = read_end;
    survey.foreign = reader.foreign().cloned();
    Ok(survey)
}

/// Takes the records of a file at the start, in their order.
///
/// A million records are read on one thread and taken in on another; what can be done for one alone is done on the
/// first.
pub trait Intake {
    /// A record on its way.
    type Item: Send;

    /// Makes a record ready, on the thread that reads.
    fn prepare(record: Record) -> Self::Item;

    /// Takes it in, on the thread that opens the journal.
    fn take(&mut self, item: Self::Item);
}

/// Whoever wants the records as they are.
impl<F: FnMut(Record) + ?Sized> Intake for F {
    type Item = Record;

    fn prepare(record: Record) -> Record {
        record
    }

    fn take(&mut self, record: Record) {
        self(record);
    }
}

/// Reads all of `file` on another thread, where `see` gets every record, and hands them over on this one.
pub(super) fn replay<I: Intake + ?Sized>(
    file: &dyn DiskFile,
    now: WallTime,
    see: &mut (dyn FnMut(&Record) + Send),
    intake: &mut I,
) -> io::Result<Survey> {
    let (sender, receiver) = mpsc::sync_channel::<Vec<I::Item>>(BATCHES_MAX);
    std::thread::scope(|scope| {
        let parser = scope.spawn(move || {
            let mut batch = Vec::with_capacity(BATCH_LEN);
            let survey = scan(file, u64::MAX, now, &mut |record, _| {
                see(&record);
                batch.push(I::prepare(record));
                if batch.len() == BATCH_LEN {
                    // The receiver only goes away when the applying side panics.
                    drop(sender.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH_LEN))));
                }
            });
            drop(sender.send(batch));
            survey
        });
        for item in receiver.into_iter().flatten() {
            intake.take(item);
        }
        match parser.join() {
            Ok(survey) => survey,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn keep(complaints: &mut Vec<Complaint>, complaint: Complaint) {
    if complaints.len() < COMPLAINTS_MAX {
        complaints.push(complaint);
    }
}
