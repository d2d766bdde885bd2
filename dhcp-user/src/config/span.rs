//! Places in the text: which file, which bytes; and how the file came to be read.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::limits::EXCERPT_LEN_MAX;

/// A file of the configuration, by the order of its first opening; the main file is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileId(pub u32);

/// A stretch of bytes of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte; equal to `start` for a place between two bytes.
    pub end: u32,
}

impl Span {
    /// The stretch from the start of `self` to the end of `last`; `self` when `last` is in another file.
    #[must_use]
    pub fn to(self, last: Self) -> Self {
        if self.file == last.file && last.end >= self.start { Self { end: last.end, ..self } } else { self }
    }

    /// The first byte only.
    #[must_use]
    pub fn first(self) -> Self {
        Self { end: self.end.min(self.start.saturating_add(1)), ..self }
    }
}

/// A place for people: `file:line:column`, both counted from 1, the column in characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Name of the file as it was opened.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One opened file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    name: String,
    text: Arc<Vec<u8>>,
    /// For each piece of [`PIECE_LEN`] bytes: number of lines that end before it, and where the line begins that it
    /// goes on with. Found when first asked for: a text without findings needs none.
    lines: OnceLock<Arc<[(u32, u32)]>>,
    /// The `include` that opened it; `None` for the main file.
    included_at: Option<Span>,
}

/// Bytes of text whose line ends are counted together.
const PIECE_LEN: usize = 4096;

impl Source {
    fn lines(&self) -> &[(u32, u32)] {
        self.lines.get_or_init(|| {
            let mut lines = vec![(0, 0)];
            let (mut count, mut start) = (0_u32, 0_u32);
            for (place, piece) in self.text.chunks(PIECE_LEN).enumerate() {
                count = count.saturating_add(line_ends(piece));
                if let Some(end) = piece.iter().rposition(|byte| *byte == b'\n') {
                    let behind = place.saturating_mul(PIECE_LEN).saturating_add(end).saturating_add(1);
                    start = u32::try_from(behind).unwrap_or(u32::MAX);
                }
                lines.push((count, start));
            }
            lines.into()
        })
    }

    /// Number of the line that an offset is on, from 1, and where it begins.
    fn line_at(&self, at: u32) -> (usize, usize) {
        let at = (at as usize).min(self.text.len());
        let piece = at.checked_div(PIECE_LEN).unwrap_or(0);
        let first = piece.saturating_mul(PIECE_LEN);
        let (count, start) = self.lines().get(piece).copied().unwrap_or((0, 0));
        let inside = self.text.get(first..at).unwrap_or_default();
        let line = count.saturating_add(line_ends(inside)).saturating_add(1);
        let behind =
            inside.iter().rposition(|byte| *byte == b'\n').map(|end| first.saturating_add(end).saturating_add(1));
        (line as usize, behind.unwrap_or(start as usize))
    }
}

fn line_ends(text: &[u8]) -> u32 {
    text.iter().map(|byte| u32::from(*byte == b'\n')).sum()
}

/// All opened files: turns spans into places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Takes in a file.
    pub(super) fn add(&mut self, name: String, text: Arc<Vec<u8>>, included_at: Option<Span>) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(Source { name, text, lines: OnceLock::new(), included_at });
        id
    }

    fn source(&self, file: FileId) -> Option<&Source> {
        self.files.get(usize::try_from(file.0).ok()?)
    }

    /// All files, in the order of their opening.
    pub(super) fn ids(&self) -> impl Iterator<Item = FileId> {
        (0..self.files.len()).map(|place| FileId(u32::try_from(place).unwrap_or(u32::MAX)))
    }

    /// Where a place comes in the text as it is read, with all includes in it.
    pub(super) fn order(&self, span: Span) -> Vec<u32> {
        let mut order = vec![span.start];
        let mut file = span.file;
        while let Some(at) = self.included_at(file) {
            order.push(at.start);
            file = at.file;
        }
        order.reverse();
        order
    }

    /// Name of a file as it was opened; empty for a file that is not known here.
    #[must_use]
    pub fn name(&self, file: FileId) -> &str {
        self.source(file).map_or("", |source| &source.name)
    }

    /// Bytes of a file; empty for a file that is not known here.
    #[must_use]
    pub fn text(&self, file: FileId) -> &[u8] {
        self.source(file).map_or(&[], |source| &source.text)
    }

    /// Every file that was read, with its bytes.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|file| (&*file.name, file.text.as_slice()))
    }

    /// Where the file was included from; `None` for the main file.
    #[must_use]
    pub fn included_at(&self, file: FileId) -> Option<Span> {
        self.source(file)?.included_at
    }

    /// File, line and column of the first byte of `span`.
    #[must_use]
    pub fn locate(&self, span: Span) -> Location {
        let Some(source) = self.source(span.file) else {
            return Location { file: String::new(), line: 0, column: 0 };
        };
        let (line, start) = source.line_at(span.start);
        let before = source.text.get(start..(span.start as usize).min(source.text.len())).unwrap_or_default();
        let column = if before.is_ascii() { before.len() } else { String::from_utf8_lossy(before).chars().count() };
        let column = column.saturating_add(1);
        Location { file: source.name.clone(), line, column }
    }

    /// The line that `span` starts on, without its end: the piece of it around the span, cut to
    /// [`EXCERPT_LEN_MAX`] bytes on either side; in front what is before the span, then the rest. Bytes that are not
    /// UTF-8 are replaced.
    #[must_use]
    pub fn excerpt(&self, span: Span) -> (String, String) {
        let Some(source) = self.source(span.file) else {
            return (String::new(), String::new());
        };
        let (_, start) = source.line_at(span.start);
        let at = (span.start as usize).min(source.text.len());
        let before = source.text.get(start.max(at.saturating_sub(EXCERPT_LEN_MAX))..at).unwrap_or_default();
        let rest = source.text.get(at..).unwrap_or_default();
        let rest = rest.get(..EXCERPT_LEN_MAX).unwrap_or(rest);
        let rest = rest.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(before), text(rest).trim_end_matches('\r').to_owned())
    }
}
