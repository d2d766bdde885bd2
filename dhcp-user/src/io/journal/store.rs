//! The journal file itself: opening and repair, commits, the switch to a rewritten file. One step at a time, on
//! whatever thread: the `crash` suite drives it without any.
//!
//! ```text
//!   | header, records ............................ | \n\n\n\n\n\n\n\n\n\n\n |
//!                                          live_end ^           filled_end ^
//! ```
//!
//! Behind the records stands filler, written and synced beforehand, so that a commit changes bytes and no metadata:
//! half the time of an append. A commit that does not fit goes out together with the next stretch of filler, in one
//! write and one sync.
//!
//! Filler is newlines, white space to every reader of the file; but dhcpd 4.4.3 exits with "whitespace too long, buffer
//! overflow" at 1,500 of them, so every [`FILLER_LINE_LEN`] bytes of the file a `#` makes a comment.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile, read_full};
use super::follow::Feed;
use super::replay::{Intake, Survey, replay};
use super::{JournalOptions, OpenError, Replay};
use crate::lease::journal::{Record, Span, write_header, write_record};

/// Filler written behind a commit that does not fit: at least, and at most. A commit that brings 64 KiB of it takes
/// 0.2 ms longer than one that fits, and one that brings 256 KiB 0.5 ms: only large commits, whose clients wait longer
/// anyway, bring that much.
const FILLER_LEN: [usize; 2] = [64 * 1024, 256 * 1024];

/// How many commits like the one that brings it the filler is meant for.
const FILLED_COMMITS: usize = 4;

/// Distance of the comments in the filler; they stand at multiples of it. A disk sector of filler has several hundred
/// newlines in a row, so the reader knows a lost write when it sees one.
const FILLER_LINE_LEN: u64 = 512;

/// Bytes copied at once.
const COPY_LEN: usize = 64 * 1024;

/// An open, locked leases file.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Where the next record goes.
    live_end: u64,
    /// End of the filler behind it.
    filled_end: u64,
    /// Length of the file when it had been rewritten last, or was opened.
    rewritten_len: u64,
    /// What stands before `live_end` does not end with a newline.
    needs_newline: bool,
    skip_sync: bool,
    /// A sync or write has failed: the file is written no more.
    is_failed: bool,
    /// Records that the table does not hold, for a restore: text.
    kept: Vec<u8>,
    /// Room for a commit with its filler.
    scratch: Vec<u8>,
    feed: Arc<Feed>,
}

impl Store {
    /// Opens, locks, replays and repairs a leases file. See [`super::Journal::open`].
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; the file is then as it was.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: &JournalOptions,
        intake: &mut (impl Intake + ?Sized),
    ) -> Result<(Self, Replay), OpenError> {
        let system = |error: io::Error| OpenError::Io { path: path.into(), reason: error.to_string() };
        let file = open_locked(&*disk, path, options.create)?;
        let mut kept = Vec::new();
        let mut keep = |record: &Record| {
            if !matches!(record, Record::Lease(_)) {
                write_record(record, options.format, &mut kept);
            }
        };
        let survey = replay(&*file, options.now, &mut keep, intake).map_err(system)?;
        if let Some(complaint) = &survey.foreign {
            return Err(OpenError::Foreign { path: path.into(), reason: complaint.to_string() });
        }
        let damaged = put_aside(&*disk, path, &*file, options, &survey).map_err(system)?;
        let cut_at = cut_of(&survey);
        let (live_end, needs_newline) = text_end(&*file, cut_at).map_err(system)?;
        let mut filled_end = survey.file_len;
        if cut_at < survey.file_len {
            file.set_len(live_end).and_then(|()| file.sync_data()).map_err(system)?;
            filled_end = live_end;
        }
        let mut store = Self {
            feed: Feed::new(Arc::clone(&file), live_end),
            disk,
            path: path.into(),
            file,
            live_end,
            filled_end,
            rewritten_len: live_end,
            needs_newline,
            skip_sync: options.skip_sync,
            is_failed: false,
            kept,
            scratch: Vec::new(),
        };
        if live_end == 0 && options.create {
            let mut header = Vec::new();
            write_header(&mut header);
            store.commit(&header).map_err(system)?;
        }
        let replay = Replay {
            leases: survey.leases,
            complaints: survey.complaints,
            torn_len: survey.torn.map_or(0, |span| span.len),
            damaged,
        };
        Ok((store, replay))
    }

    /// The file's name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of records in the file.
    #[must_use]
    pub const fn live_end(&self) -> u64 {
        self.live_end
    }

    /// Length of the records when they had been rewritten last.
    #[must_use]
    pub const fn rewritten_len(&self) -> u64 {
        self.rewritten_len
    }

    /// Whether nothing can be made durable here any more.
    #[must_use]
    pub const fn is_failed(&self) -> bool {
        self.is_failed
    }

    pub(super) const fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// What followers read.
    #[must_use]
    pub const fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Makes records durable: they are when this returns.
    ///
    /// # Errors
    ///
    /// What the system said. The store has failed then, for good: the system may have forgotten what it could not
    /// write, and a second sync that succeeds would say nothing about it. Only [`Store::replace`] helps.
    pub fn commit(&mut self, records: &[u8]) -> io::Result<()> {
        if self.is_failed {
            return Err(io::Error::other("the file has failed before"));
        }
        let result = self.write(records);
        self.is_failed = result.is_err();
        result
    }

    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        let with_newline;
        let bytes = if self.needs_newline {
            with_newline = [b"\n", records].concat();
            &with_newline
        } else {
            records
        };
        let end = self.live_end + bytes.len() as u64;
        if end <= self.filled_end {
            self.file.write_at(bytes, self.live_end)?;
        } else {
            let filler = filler_len(bytes.len());
            self.scratch.clear();
            self.scratch.reserve(bytes.len() + filler);
            self.scratch.extend_from_slice(bytes);
            push_filler(&mut self.scratch, end, filler);
            match self.file.write_at(&self.scratch, self.live_end) {
                Ok(()) => self.filled_end = end + filler as u64,
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    // There may be room for the records alone.
                    self.file.write_at(bytes, self.live_end)?;
                    self.filled_end = end;
                }
                Err(error) => return Err(error),
            }
        }
        if !self.skip_sync {
            self.file.sync_data()?;
        }
        self.live_end = end;
        self.needs_newline = false;
        self.feed.committed(end);
        Ok(())
    }

    /// Begins a file that will take this one's place: `FILE.<unix-time>`, locked.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn begin_rewrite(&self, unix_time: u64) -> io::Result<Rewrite> {
        Rewrite::begin(&self.disk, &self.path, unix_time)
    }

    /// Begins a file for a restore: it has the header and what the table does not hold.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn begin_restore(&self, unix_time: u64) -> io::Result<Rewrite> {
        let mut rewrite = self.begin_rewrite(unix_time)?;
        let mut head = Vec::new();
        write_header(&mut head);
        head.extend_from_slice(&self.kept);
        rewrite.push(&head)?;
        Ok(rewrite)
    }

    /// Puts a rewritten file in the place of this one: sync, hard link to `FILE~`, rename, sync of the folder. The
    /// old file is still there under its name until the rename, so a crash finds one or the other, whole.
    ///
    /// # Errors
    ///
    /// What the system said. Before the rename nothing has changed; after it the store has failed.
    pub fn replace(&mut self, mut rewrite: Rewrite) -> io::Result<()> {
        let [filler, _] = FILLER_LEN;
        let mut filled = Vec::with_capacity(filler);
        push_filler(&mut filled, rewrite.len, filler);
        match rewrite.file.write_at(&filled, rewrite.len) {
            Ok(()) => rewrite.filled_end = rewrite.len + filler as u64,
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                rewrite.file.set_len(rewrite.len)?;
                rewrite.filled_end = rewrite.len;
            }
            Err(error) => return Err(error),
        }
        rewrite.file.sync_data()?;
        rewrite.remove_backup()?;
        match self.disk.link(&self.path, &rewrite.backup) {
            // Somebody removed the journal under us; a new one is all the more welcome.
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.disk.rename(&rewrite.path, &self.path)?;
        rewrite.is_placed = true;
        self.is_failed = true;
        self.disk.sync_folder(&self.path)?;
        self.is_failed = false;
        let old = std::mem::replace(&mut self.file, Arc::clone(&rewrite.file));
        // The old file is a backup now; that its filler goes is a courtesy to people who look at it.
        drop(old.set_len(self.live_end));
        self.feed.switched(Arc::clone(&rewrite.file), rewrite.len);
        self.live_end = rewrite.len;
        self.filled_end = rewrite.filled_end;
        self.rewritten_len = rewrite.len;
        self.needs_newline = false;
        Ok(())
    }

    /// Trims the filler and makes the length durable.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn close(self) -> io::Result<()> {
        if self.is_failed || self.filled_end == self.live_end {
            return Ok(());
        }
        self.file.set_len(self.live_end)?;
        self.file.sync_data()
    }
}

/// A file that is about to take the place of the journal.
#[derive(Debug)]
pub struct Rewrite {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// `FILE~`, where the old file goes.
    backup: PathBuf,
    file: Arc<dyn DiskFile>,
    len: u64,
    filled_end: u64,
    is_placed: bool,
}

impl Rewrite {
    fn begin(disk: &Arc<dyn Disk>, journal: &Path, unix_time: u64) -> io::Result<Self> {
        let mut number = unix_time;
        let (path, file) = loop {
            let path = suffixed(journal, &format!(".{number}"));
            match disk.create(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        };
        let backup = suffixed(journal, "~");
        let rewrite = Self { disk: Arc::clone(disk), backup, path, file, len: 0, filled_end: 0, is_placed: false };
        if !rewrite.file.try_lock()? {
            return Err(io::Error::other("somebody locked the new file"));
        }
        Ok(rewrite)
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing has been written yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds text at the end.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn push(&mut self, text: &[u8]) -> io::Result<()> {
        self.file.write_at(text, self.len)?;
        self.len += text.len() as u64;
        Ok(())
    }

    /// Makes durable what was written so far, to have less to do at the end.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Takes the name of `FILE~` away; the file that had it, or `None` when there was none.
    pub(super) fn remove_backup(&self) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let backup = self.disk.open(&self.backup).ok();
        match self.disk.remove(&self.backup) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(backup),
        }
    }

    /// Copies a stretch of another file to the end.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn copy(&mut self, source: &dyn DiskFile, mut from: u64, until: u64) -> io::Result<()> {
        let mut buffer = vec![0; COPY_LEN];
        while from < until {
            let len = usize::try_from(until - from).unwrap_or(usize::MAX).min(COPY_LEN);
            let piece = buffer.get_mut(..len).unwrap_or_default();
            if read_full(source, piece, from)? < len {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the journal is shorter than it was"));
            }
            self.push(piece)?;
            from += len as u64;
        }
        Ok(())
    }
}

/// A file that did not take its place is removed.
impl Drop for Rewrite {
    fn drop(&mut self) {
        if !self.is_placed {
            drop(self.disk.remove(&self.path));
        }
    }
}

/// `path` with `suffix` behind its name.
pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn open_locked(disk: &dyn Disk, path: &Path, create: bool) -> Result<Arc<dyn DiskFile>, OpenError> {
    let system = |error: io::Error| OpenError::Io { path: path.into(), reason: error.to_string() };
    loop {
        let file = match disk.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && create => match disk.create(path) {
                Ok(file) => {
                    disk.sync_folder(path).map_err(system)?;
                    file
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(system(error)),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let backup = suffixed(path, "~");
                let hint = if disk.exists(&backup) {
                    format!("; a rewrite may have failed: its backup {} is there, restore it", backup.display())
                } else {
                    "; a new server needs an empty one (see dhcpd.leases(5))".to_owned()
                };
                return Err(OpenError::Missing { path: path.into(), hint });
            }
            Err(error) => return Err(system(error)),
        };
        if !file.try_lock().map_err(system)? {
            return Err(OpenError::Locked { path: path.into() });
        }
        // Another server may have put a new file in its place between opening and locking.
        if disk.is_at(&*file, path).unwrap_or(false) {
            return Ok(file);
        }
    }
}

/// Where the file is cut: before a torn record, and before damage that reaches to the end.
fn cut_of(survey: &Survey) -> u64 {
    let last = survey.damaged.last().filter(|span| span.offset + span.len == survey.file_len);
    [survey.torn.as_ref(), last].into_iter().flatten().map(|span| span.offset).min().unwrap_or(survey.file_len)
}

/// Writes damaged bytes to `FILE.damaged-<time>`, each stretch behind a comment that says where it stood.
fn put_aside(
    disk: &dyn Disk,
    path: &Path,
    file: &dyn DiskFile,
    options: &JournalOptions,
    survey: &Survey,
) -> io::Result<Option<PathBuf>> {
    if survey.damaged.is_empty() {
        return Ok(None);
    }
    let mut number = options.now.secs();
    let (aside, target) = loop {
        let aside = suffixed(path, &format!(".damaged-{number}"));
        match disk.create(&aside) {
            Ok(target) => break (aside, target),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    };
    let mut at = 0;
    for Span { offset, len } in &survey.damaged {
        let mut text = format!("# {}: bytes {offset} to {}\n", path.display(), offset + len).into_bytes();
        let start = text.len();
        text.resize(start + usize::try_from(*len).unwrap_or(0), 0);
        read_full(file, text.get_mut(start..).unwrap_or_default(), *offset)?;
        text.push(b'\n');
        target.write_at(&text, at)?;
        at += text.len() as u64;
    }
    target.sync_data()?;
    disk.sync_folder(&aside)?;
    Ok(Some(aside))
}

/// Where the text before `limit` ends, behind its newline if it has one; and whether it has none.
fn text_end(file: &dyn DiskFile, limit: u64) -> io::Result<(u64, bool)> {
    let mut end = limit;
    let mut buffer = vec![0; COPY_LEN];
    while end > 0 {
        let start = end.saturating_sub(COPY_LEN as u64);
        let piece = buffer.get_mut(..usize::try_from(end - start).unwrap_or(0)).unwrap_or_default();
        let len = read_full(file, piece, start)?;
        let piece = piece.get(..len).unwrap_or_default();
        let is_filler = |index: usize, byte: u8| match byte {
            b'\n' | 0 => true,
            b'#' => {
                (start + index as u64).is_multiple_of(FILLER_LINE_LEN)
                    && piece.get(index + 1).is_none_or(|next| *next == b'\n')
            }
            _ => false,
        };
        if let Some((last, _)) = piece.iter().enumerate().rfind(|(index, byte)| !is_filler(*index, **byte)) {
            let after = start + last as u64 + 1;
            let mut next = [0; 2];
            let next_len = read_full(file, &mut next, after)?.min(usize::try_from(limit - after).unwrap_or(2));
            let newlines = next.iter().take(next_len).take_while(|byte| **byte == b'\n').count();
            // An empty line stands behind the header and the DUID.
            let is_statement = piece.get(last) == Some(&b';');
            let kept = if is_statement { newlines } else { newlines.min(1) };
            return Ok((after + kept as u64, newlines == 0));
        }
        end = start;
    }
    Ok((0, false))
}

/// Appends `len` bytes of filler that will stand at `at` in the file.
fn push_filler(out: &mut Vec<u8>, at: u64, len: usize) {
    const LINE: [u8; FILLER_LINE_LEN as usize] = {
        let mut line = [b'\n'; FILLER_LINE_LEN as usize];
        line[0] = b'#';
        line
    };
    let end = out.len() + len;
    // The first line may have begun already.
    out.extend(LINE.iter().skip((at % FILLER_LINE_LEN) as usize).take(len));
    while out.len() < end {
        let line = LINE.get(..end - out.len()).unwrap_or(&LINE);
        out.extend_from_slice(line);
    }
}

fn filler_len(commit_len: usize) -> usize {
    let [least, most] = FILLER_LEN;
    commit_len.saturating_mul(FILLED_COMMITS).clamp(least, most)
}
