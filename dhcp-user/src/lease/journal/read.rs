//! Text to records, in pieces of any size, naming what is wrong and where, and going on behind it.
//!
//! A statement is one of: a record; something complete that nobody here knows (kept as it stands); damage, from its
//! first byte to the next line that begins a record; or, at the very end, a torn record.

use super::cursor::{Cursor, Fault, is_record_start};
use super::{Complaint, PeerState, Record, lease_fields};
use crate::lease::state::FailoverState;
use crate::lease::time::WallTime;

/// A stretch of bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// What a reader finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A record.
    Record(Record, Span),
    /// Bytes in the middle that are no record: to be put aside.
    Damaged(Complaint, Span),
    /// An incomplete record at the very end.
    Torn(Complaint, Span),
}

/// Words that begin a statement which dhcpd knows at the top level of a leases file.
const KNOWN: [&[u8]; 11] = [
    b"lease",
    b"failover",
    b"server-duid",
    b"authoring-byte-order",
    b"host",
    b"group",
    b"class",
    b"subclass",
    b"ia-na",
    b"ia-ta",
    b"ia-pd",
];

/// Reads a file piece by piece.
#[derive(Debug)]
pub struct Reader {
    now: WallTime,
    /// Offset of the next piece in the file.
    offset: u64,
    /// Lines before the next piece.
    lines: u64,
    /// Bytes before it on its line.
    column: u64,
    known_count: u64,
    /// Where a statement that nobody knows stands before any record.
    stranger: Option<Complaint>,
    scratch: Vec<u8>,
}

impl Reader {
    /// A reader at the beginning of a file. `now` decides what a lease without a `binding state` is.
    #[must_use]
    pub const fn new(now: WallTime) -> Self {
        Self { now, offset: 0, lines: 0, column: 0, known_count: 0, stranger: None, scratch: Vec::new() }
    }

    /// Records read so far that only a leases file has.
    #[must_use]
    pub const fn known_count(&self) -> u64 {
        self.known_count
    }

    /// Why this is not a leases file, once all of it has been read: its first statement is a stranger's, and nothing
    /// after it was a record.
    #[must_use]
    pub fn foreign(&self) -> Option<&Complaint> {
        self.stranger.as_ref().filter(|_| self.known_count == 0)
    }

    /// Reads all that is complete in the next piece, and how many of its bytes are done with; the others must come
    /// again, with more behind them. With `is_last` everything is done with.
    pub fn feed(&mut self, text: &[u8], is_last: bool, sink: &mut dyn FnMut(Found)) -> usize {
        let mut at = 0;
        loop {
            at = skip_blank(text, at, is_last);
            if at >= text.len() {
                break;
            }
            match self.statement(text, at, is_last) {
                Some((found, end)) => {
                    if let Some(found) = found {
                        sink(found);
                    }
                    at = end;
                }
                None => break,
            }
        }
        self.advance(text.get(..at).unwrap_or_default());
        at
    }

    /// One statement: what it is, and where it ends; `None` when more text is needed.
    fn statement(&mut self, text: &[u8], start: usize, is_last: bool) -> Option<(Option<Found>, usize)> {
        let mut cursor = Cursor::new(text, start);
        let fault = match self.record(&mut cursor) {
            Ok(record) => {
                self.known_count += u64::from(!matches!(record, Some(Record::Other(_))));
                let end = cursor.at();
                let span = self.span(start, end);
                return Some((record.map(|record| Found::Record(record, span)), end));
            }
            Err(Fault::End) if !is_last => return None,
            Err(fault) => fault,
        };
        let fault_at = cursor.at();
        if self.known_count == 0 && self.stranger.is_none() {
            let word = Cursor::new(text, start).word("").unwrap_or_default();
            let is_stranger = !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(word));
            // A torn first word may be the beginning of one that is known.
            let tail = text.get(start..).unwrap_or_default();
            let is_cut = tail.len() < 24 && KNOWN.iter().any(|known| known.starts_with(tail.trim_ascii_end()));
            if is_stranger && !is_cut {
                self.stranger = Some(self.complaint(text, start, "this is no statement of a leases file"));
            }
        }
        let end = match resume(text, start) {
            Some(end) => end,
            None if is_last => text.len(),
            None => return None,
        };
        let is_rest = end == text.len();
        let region = text.get(start..end).unwrap_or_default();
        let what = match fault {
            Fault::End => "the record is not complete",
            Fault::Bad(what) => what,
        };
        if is_rest && fault == Fault::End {
            let span = self.span(start, end);
            return Some((Some(Found::Torn(self.complaint(text, start, "torn last record"), span)), end));
        }
        let kept_len = if may_be_kept(region) { statements_len(region) } else { 0 };
        if let Some(kept) = region.get(..kept_len).filter(|kept| !kept.is_empty()) {
            let end = start + kept_len;
            let span = self.span(start, end);
            return Some((Some(Found::Record(Record::Other(kept.trim_ascii_end().into()), span)), end));
        }
        let span = self.span(start, end);
        let complaint = self.complaint(text, fault_at.clamp(start, end.saturating_sub(1).max(start)), what);
        let is_only_filler_behind = is_rest && is_blank_behind(region, fault_at.saturating_sub(start));
        if is_only_filler_behind && is_last {
            return Some((Some(Found::Torn(complaint, span)), end));
        }
        Some((Some(Found::Damaged(complaint, span)), end))
    }

    /// A record that is known; `None` in it for one that needs no keeping.
    fn record(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Record>, Fault> {
        let start = cursor.at();
        let word = cursor.word("Corrupt lease file - possible data loss!")?;
        if word == b"lease" {
            return lease_fields::parse(cursor, self.now, &mut self.scratch).map(|lease| Some(Record::Lease(lease)));
        }
        match word.to_ascii_lowercase().as_slice() {
            b"lease" => {
                lease_fields::parse(cursor, self.now, &mut self.scratch).map(|lease| Some(Record::Lease(lease)))
            }
            b"failover" => self.peer_state(cursor).map(|state| Some(Record::PeerState(state))),
            b"server-duid" => {
                cursor.string_or_octets(&mut self.scratch, "DUID expected")?;
                cursor.semicolon()?;
                Ok(Some(Record::ServerDuid(self.scratch.as_slice().into())))
            }
            b"authoring-byte-order" => {
                let order = cursor.next_word("byte order expected")?;
                if !order.eq_ignore_ascii_case(b"little-endian") && !order.eq_ignore_ascii_case(b"big-endian") {
                    return Err(Fault::Bad("byte order expected"));
                }
                cursor.semicolon()?;
                Ok(None)
            }
            known if KNOWN.contains(&known) => {
                cursor.statement()?;
                Ok(Some(Record::Other(cursor.since(start).into())))
            }
            _ => Err(Fault::Bad("Corrupt lease file - possible data loss!")),
        }
    }

    fn peer_state(&mut self, cursor: &mut Cursor<'_>) -> Result<PeerState, Fault> {
        cursor.keyword("peer", "failover peer expected")?;
        cursor.space()?;
        if cursor.peek()? == b'"' {
            cursor.string(&mut self.scratch)?;
        } else {
            let name = cursor.word("failover peer name expected")?;
            self.scratch.clear();
            self.scratch.extend_from_slice(name);
        }
        let mut state = PeerState {
            name: self.scratch.as_slice().into(),
            my_state: FailoverState::UnknownState,
            my_since: self.now,
            partner_state: FailoverState::UnknownState,
            partner_since: self.now,
            mclt: None,
        };
        cursor.keyword("state", "failover state expected")?;
        cursor.byte(b'{', "left brace expected")?;
        loop {
            cursor.space()?;
            if cursor.peek()? == b'}' {
                cursor.skip(1);
                return Ok(state);
            }
            let word = cursor.word("my, partner or mclt expected")?;
            match word.to_ascii_lowercase().as_slice() {
                b"my" => (state.my_state, state.my_since) = self.endpoint(cursor)?,
                b"partner" | b"peer" => (state.partner_state, state.partner_since) = self.endpoint(cursor)?,
                b"mclt" => {
                    let mclt = cursor.number("seconds expected")?;
                    state.mclt = Some(u32::try_from(mclt).map_err(|_| Fault::Bad("seconds expected"))?);
                    cursor.semicolon()?;
                }
                _ => return Err(Fault::Bad("my, partner or mclt expected")),
            }
        }
    }

    fn endpoint(&self, cursor: &mut Cursor<'_>) -> Result<(FailoverState, WallTime), Fault> {
        cursor.keyword("state", "state expected")?;
        let word = cursor.next_word("failover state expected")?;
        let state = FailoverState::from_name(word).ok_or(Fault::Bad("failover state expected"))?;
        cursor.space()?;
        if cursor.peek()? == b';' {
            cursor.skip(1);
            return Ok((state, self.now));
        }
        cursor.keyword("at", "at expected")?;
        Ok((state, lease_fields::time(cursor)?))
    }

    const fn span(&self, start: usize, end: usize) -> Span {
        Span { offset: self.offset + start as u64, len: (end - start) as u64 }
    }

    fn complaint(&self, text: &[u8], at: usize, what: &str) -> Complaint {
        let before = text.get(..at).unwrap_or_default();
        let lines = count_newlines(before);
        let column = match before.iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => (at - newline) as u64,
            None => self.column + at as u64 + 1,
        };
        Complaint { line: self.lines + lines + 1, column, offset: self.offset + at as u64, text: what.to_owned() }
    }

    fn advance(&mut self, done: &[u8]) {
        self.offset += done.len() as u64;
        self.lines += count_newlines(done);
        self.column = match done.iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => (done.len() - newline - 1) as u64,
            None => self.column + done.len() as u64,
        };
    }
}

/// Counts lines in blocks that fit into a byte, which the compiler turns into vector code.
fn count_newlines(text: &[u8]) -> u64 {
    let count_block = |block: &[u8]| block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(u8::from(*byte == b'\n')));
    text.chunks(255).map(|block| u64::from(count_block(block))).sum()
}

/// Skips white space, comments, and zeros with nothing but filler behind them; up to the end of the
/// text or to a comment that may go on.
fn skip_blank(text: &[u8], mut at: usize, is_last: bool) -> usize {
    while let Some(byte) = text.get(at) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => at += 1,
            b'#' => match text.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
                Some(len) => at += len,
                None if is_last => return text.len(),
                None => return at,
            },
            0 if is_last
                && text.get(at..).is_some_and(|rest| rest.iter().all(|byte| matches!(byte, 0 | b'\n' | b'#'))) =>
            {
                return text.len();
            }
            _ => return at,
        }
    }
    at
}

/// Where to go on after a fault: the next line that begins a record.
fn resume(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += text.get(at..)?.iter().position(|byte| *byte == b'\n')? + 1;
        let line = text.get(at..)?;
        let word_len = line.iter().position(|byte| !byte.is_ascii_lowercase() && *byte != b'-')?;
        let is_known = line.get(..word_len).is_some_and(|word| word != b"lease" && KNOWN.contains(&word));
        if is_record_start(line) || is_known && line.get(word_len).is_some_and(|byte| *byte == b' ') {
            return Some(at);
        }
        // Not enough of the line to tell.
        if line.len() < 24 && !line.contains(&b'\n') {
            return None;
        }
    }
}

/// How long the sequence of whole statements is that a text consists of; zero when it is anything else.
fn statements_len(region: &[u8]) -> usize {
    let mut cursor = Cursor::new(region, 0);
    let mut len = 0;
    loop {
        let blank = skip_blank(region, cursor.at(), true);
        if blank >= region.len() {
            return len;
        }
        cursor = Cursor::new(region, blank);
        let is_word = cursor.peek().is_ok_and(|byte| byte.is_ascii_alphabetic());
        if !is_word || cursor.statement().is_err() {
            return 0;
        }
        len = cursor.at();
    }
}

/// Whether a statement begins with a word of its own: neither one that is known (then it is a broken record), nor the
/// end of one (then its beginning is lost).
fn may_be_kept(region: &[u8]) -> bool {
    let word = Cursor::new(region, 0).word("").unwrap_or_default().to_ascii_lowercase();
    !word.is_empty() && !KNOWN.iter().any(|known| known.ends_with(&word))
}

fn is_blank_behind(region: &[u8], at: usize) -> bool {
    region.get(at..).unwrap_or_default().iter().all(|byte| matches!(byte, 0 | b'\n' | b'\r' | b' ' | b'\t' | b'#'))
}
