//! Places in the text: which file, which bytes; and how the file came to be read.

use std::fmt;
use std::sync::Arc;

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
    text: Arc<[u8]>,
    /// Offsets of the first byte of each line.
    lines: Arc<[u32]>,
    /// The `include` that opened it; `None` for the main file.
    included_at: Option<Span>,
}

/// All opened files: turns spans into places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Takes in a file.
    pub(super) fn add(&mut self, name: String, text: Arc<[u8]>, included_at: Option<Span>) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        let mut lines = vec![0];
        lines.extend(
            text.iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'\n')
                .map(|(at, _)| u32::try_from(at.saturating_add(1)).unwrap_or(u32::MAX)),
        );
        self.files.push(Source { name, text, lines: lines.into(), included_at });
        id
    }

    fn source(&self, file: FileId) -> Option<&Source> {
        self.files.get(usize::try_from(file.0).ok()?)
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
        let line = source.lines.partition_point(|&start| start <= span.start).max(1);
        let start = source.lines.get(line.saturating_sub(1)).copied().unwrap_or(0) as usize;
        let before = source.text.get(start..(span.start as usize).min(source.text.len())).unwrap_or_default();
        let column = String::from_utf8_lossy(before).chars().count().saturating_add(1);
        Location { file: source.name.clone(), line, column }
    }

    /// The whole line that `span` starts on, without its end, with bytes that are not UTF-8 replaced.
    #[must_use]
    pub fn line_text(&self, span: Span) -> String {
        let Some(source) = self.source(span.file) else {
            return String::new();
        };
        let line = source.lines.partition_point(|&start| start <= span.start);
        let start = source.lines.get(line.saturating_sub(1)).copied().unwrap_or(0) as usize;
        let rest = source.text.get(start..).unwrap_or_default();
        let line = rest.split(|&byte| byte == b'\n').next().unwrap_or_default();
        String::from_utf8_lossy(line).trim_end_matches('\r').to_owned()
    }
}
