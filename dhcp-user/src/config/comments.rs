//! Comments of a configuration, and what each belongs to: the statement it stands before or beside, or the end of a
//! block. For `convert`, which writes statements in an order of its own.

use std::collections::{HashMap, HashSet};

use super::lexer::{Kind, scan};
use super::span::{FileId, Sources, Span};

/// First line of what `convert` writes.
pub(super) const HEADER: &str = "# Written by xdhcpd convert.";
/// What the comments begin with that `convert` adds: they are made anew each time, and so not read.
pub(super) const ADDED: &str = "#: ";

/// Where a statement begins.
type Place = (FileId, u32);

/// A statement with the comments that belong to it.
#[derive(Debug, Default)]
struct Noted {
    place: Place,
    /// Its blocks, in order: an `if` may have several.
    blocks: Vec<usize>,
    before: Vec<String>,
    beside: Vec<String>,
}

/// The inside of braces, or the top level.
#[derive(Debug, Default)]
struct Block {
    /// Its statements, those of included files among them.
    statements: Vec<usize>,
    /// Comments behind the last one.
    end: Vec<String>,
}

/// All comments; each is written once.
#[derive(Debug, Default)]
pub(super) struct Comments {
    /// What an empty line keeps apart from the first statement: it speaks of the whole file.
    pub(super) head: Vec<String>,
    statements: Vec<Noted>,
    by_place: HashMap<Place, usize>,
    blocks: Vec<Block>,
    /// Definitions of options (`name`, `space.name`) and of spaces (`space name`), in lower case.
    definitions: HashMap<String, Span>,
    /// Statements that are written elsewhere than in the block they stand in, and later.
    later: HashSet<Place>,
}

/// What the reader of one file knows.
struct Reader<'s> {
    sources: &'s Sources,
    /// Files by the `include` that opens them.
    included: HashMap<Place, FileId>,
    /// Comments that the next statement, or the end of the block, will get.
    pending: Vec<String>,
}

impl Comments {
    /// Collects the comments of all files.
    pub(super) fn of(sources: &Sources) -> Self {
        let mut comments = Self::default();
        comments.blocks.push(Block::default());
        if sources.ids().any(|file| sources.text(file).contains(&b'#')) {
            let opened = |file| Some((place_of(sources.included_at(file)?), file));
            let included = sources.ids().filter_map(opened).collect();
            let mut reader = Reader { sources, included, pending: Vec::new() };
            comments.read(&mut reader, FileId(0), 0);
            let rest = std::mem::take(&mut reader.pending);
            comments.block_mut(0).end.extend(rest);
        }
        comments
    }

    /// The block of a number: the numbers are those of [`Self::open`].
    fn block_mut(&mut self, block: usize) -> &mut Block {
        &mut self.blocks[block]
    }

    /// The statement of a number: the numbers are those of [`Self::begin`].
    fn noted_mut(&mut self, statement: usize) -> &mut Noted {
        &mut self.statements[statement]
    }

    fn begin(&mut self, place: Place, block: usize, before: Vec<String>) -> usize {
        let id = self.statements.len();
        self.statements.push(Noted { place, before, ..Noted::default() });
        self.by_place.insert(place, id);
        self.block_mut(block).statements.push(id);
        id
    }

    fn open(&mut self, statement: Option<usize>) -> usize {
        let id = self.blocks.len();
        self.blocks.push(Block::default());
        if let Some(statement) = statement {
            self.noted_mut(statement).blocks.push(id);
        }
        id
    }

    /// Reads one file as statements of a block. What is left at its end stays pending.
    fn read(&mut self, reader: &mut Reader<'_>, file: FileId, block: usize) {
        let sources = reader.sources;
        let text = sources.text(file);
        // The blocks around, each with the statement it belongs to; the innermost last.
        let mut around: Vec<(usize, Option<usize>)> = Vec::new();
        let mut block = block;
        // The statement that is being read, and how many tokens of it there are; the one that has just ended.
        let (mut current, mut tokens): (Option<usize>, usize) = (None, 0);
        let mut ended: Option<usize> = None;
        let mut at = 0_usize;
        loop {
            let token = scan(text, file, at);
            let start = token.span.start as usize;
            let word = text.get(start..token.span.end as usize).unwrap_or_default();
            let goes_on =
                current.is_none() && (word.eq_ignore_ascii_case(b"elsif") || word.eq_ignore_ascii_case(b"else"));
            let gap = text.get(at..start).unwrap_or_default();
            self.gap(reader, gap, ended.filter(|_| !goes_on), file == FileId(0) && at == 0 && token.kind != Kind::End);
            at = token.span.end as usize;
            if goes_on {
                current = ended;
            }
            ended = None;
            match token.kind {
                Kind::End => return,
                Kind::Punct(b'{') => {
                    if let Some(current) = current {
                        let inside = std::mem::take(&mut reader.pending);
                        self.noted_mut(current).before.extend(inside);
                    }
                    around.push((block, current));
                    block = self.open(current);
                    current = None;
                }
                Kind::Punct(b'}') => {
                    let rest = std::mem::take(&mut reader.pending);
                    self.block_mut(block).end.extend(rest);
                    if let Some((outer, statement)) = around.pop() {
                        (block, ended) = (outer, statement);
                    }
                    current = None;
                }
                Kind::Punct(b';') => {
                    ended = current.take();
                    let Some(id) = ended else { continue };
                    let inside = std::mem::take(&mut reader.pending);
                    let noted = self.noted_mut(id);
                    noted.before.extend(inside);
                    if let Some(opened) = reader.included.get(&noted.place).copied() {
                        // What is said of the `include` is said of what it brings.
                        reader.pending = std::mem::take(&mut noted.before);
                        self.read(reader, opened, block);
                        ended = None;
                    }
                }
                Kind::Punct(b':') if current.is_some_and(|id| self.is_label(sources, id, tokens)) => current = None,
                Kind::Punct(_) | Kind::Name | Kind::Number | Kind::NumberOrName | Kind::String => {
                    if current.is_none() {
                        let before = std::mem::take(&mut reader.pending);
                        let id = self.begin((file, token.span.start), block, before);
                        if block == 0 && word.eq_ignore_ascii_case(b"option") {
                            self.define(text, token.span);
                        }
                        current = Some(id);
                        tokens = 0;
                    }
                    tokens = tokens.saturating_add(1);
                }
            }
        }
    }

    /// Notes where an option or a space is defined, if that is what begins with `option` here.
    fn define(&mut self, text: &[u8], at: Span) {
        let mut words: Vec<String> = Vec::new();
        let mut end = at.end as usize;
        // `option space NAME`, `option NAME code`, `option SPACE.NAME code`.
        while words.len() < 4 && words.last().is_none_or(|word| word != "code") {
            let token = scan(text, at.file, end);
            end = token.span.end as usize;
            let word = text.get(token.span.start as usize..end).unwrap_or_default();
            words.push(String::from_utf8_lossy(word).to_ascii_lowercase());
        }
        let name = match &*words {
            [space, name, ..] if space == "space" => format!("space {name}"),
            [name, code] if code == "code" => name.clone(),
            [space, dot, name, code] if dot == "." && code == "code" => format!("{space}.{name}"),
            _ => return,
        };
        self.definitions.entry(name).or_insert(at);
    }

    /// Whether a colon behind so many tokens of a statement ends a `case X:` or a `default:`.
    fn is_label(&self, sources: &Sources, statement: usize, tokens: usize) -> bool {
        let Some((file, start)) = self.statements.get(statement).map(|noted| noted.place) else { return false };
        let text = sources.text(file);
        let first = scan(text, file, start as usize).span;
        let word = text.get(first.start as usize..first.end as usize).unwrap_or_default();
        word.eq_ignore_ascii_case(b"case") || (tokens == 1 && word.eq_ignore_ascii_case(b"default"))
    }

    /// Takes the comments between two tokens. The first belongs to the statement that has just ended when it stands on
    /// the same line.
    fn gap(&mut self, reader: &mut Reader<'_>, gap: &[u8], ended: Option<usize>, is_first: bool) {
        if !gap.contains(&b'#') {
            return;
        }
        let mut lines = gap.split(|byte| *byte == b'\n').enumerate().peekable();
        // An empty line between two comments is kept, as an empty comment.
        let mut is_apart = false;
        while let Some((number, line)) = lines.next() {
            let Some(at) = line.iter().position(|byte| *byte == b'#') else {
                // What is behind the last line end are the blanks before the next token.
                is_apart = number > 0 && !reader.pending.is_empty();
                if is_first && !reader.pending.is_empty() && lines.peek().is_some() {
                    if !self.head.is_empty() {
                        self.head.push(String::new());
                    }
                    self.head.append(&mut reader.pending);
                    is_apart = false;
                }
                continue;
            };
            let text = String::from_utf8_lossy(line.get(at..).unwrap_or_default()).trim_end().to_owned();
            if text == HEADER || text.starts_with(ADDED.trim_end()) {
                continue;
            }
            match ended.filter(|_| number == 0) {
                Some(ended) => self.noted_mut(ended).beside.push(text),
                None => {
                    if std::mem::take(&mut is_apart) {
                        reader.pending.push(String::new());
                    }
                    reader.pending.push(text);
                }
            }
        }
    }

    // For the writer. What is written is taken out, so that nothing is written twice.

    /// Writes the comments before a statement.
    pub(super) fn before(&mut self, at: Span, indent: usize, out: &mut String) {
        if let Some(id) = self.by_place.get(&place_of(at)).copied() {
            let all = std::mem::take(&mut self.noted_mut(id).before);
            write(all, indent, out);
        }
    }

    /// Writes the comment beside a statement: behind the last line of it.
    pub(super) fn beside(&mut self, at: Span, out: &mut String) {
        if let Some(id) = self.by_place.get(&place_of(at)).copied() {
            for comment in std::mem::take(&mut self.noted_mut(id).beside) {
                if out.ends_with('\n') {
                    out.pop();
                }
                out.push(' ');
                out.push_str(&comment);
                out.push('\n');
            }
        }
    }

    /// Writes what is left inside of a statement's block: comments of statements that are not written, and those at its
    /// end.
    pub(super) fn end(&mut self, at: Span, block: usize, indent: usize, out: &mut String) {
        let noted = self.by_place.get(&place_of(at)).and_then(|id| self.statements.get(*id));
        if let Some(block) = noted.and_then(|noted| noted.blocks.get(block)).copied() {
            self.rest(block, indent, out);
        }
    }

    /// The same, of the top level.
    pub(super) fn end_of_file(&mut self, out: &mut String) {
        self.later.clear();
        if !self.blocks.is_empty() {
            self.rest(0, 0, out);
        }
    }

    fn rest(&mut self, block: usize, indent: usize, out: &mut String) {
        let all = std::mem::take(&mut self.block_mut(block).statements);
        let is_later = |id: &usize| self.statements.get(*id).is_some_and(|noted| self.later.contains(&noted.place));
        let (later, now): (Vec<usize>, Vec<usize>) = all.into_iter().partition(is_later);
        self.block_mut(block).statements = later;
        for id in now {
            let noted = self.noted_mut(id);
            let own = [std::mem::take(&mut noted.before), std::mem::take(&mut noted.beside)].concat();
            let inner = std::mem::take(&mut noted.blocks);
            write(own, indent, out);
            for block in inner {
                self.rest(block, indent, out);
            }
        }
        let end = std::mem::take(&mut self.block_mut(block).end);
        write(end, indent, out);
    }

    /// Where the first statement inside a declaration's block begins that starts with one of these words: for what
    /// the model keeps no place of.
    pub(super) fn named(&self, at: Span, words: &[&str], sources: &Sources) -> Option<Span> {
        let noted = self.by_place.get(&place_of(at)).and_then(|id| self.statements.get(*id))?;
        let block = self.blocks.get(*noted.blocks.first()?)?;
        block.statements.iter().find_map(|id| self.begins(*id, words, sources))
    }

    /// The same, at the top level.
    pub(super) fn named_on_top(&self, words: &[&str], sources: &Sources) -> Option<Span> {
        self.blocks.first()?.statements.iter().find_map(|id| self.begins(*id, words, sources))
    }

    /// Where an option (`name`, `space.name`) or a space (`space name`) is defined.
    pub(super) fn definition(&self, name: &str) -> Option<Span> {
        self.definitions.get(&name.to_ascii_lowercase()).copied()
    }

    /// Says that a statement will be written behind the block it stands in.
    pub(super) fn comes_later(&mut self, at: Span) {
        self.later.insert(place_of(at));
    }

    /// The place of a statement, when it begins with these words.
    fn begins(&self, id: usize, words: &[&str], sources: &Sources) -> Option<Span> {
        let (file, start) = self.statements.get(id)?.place;
        let text = sources.text(file);
        let mut at = start as usize;
        for word in words {
            let token = scan(text, file, at);
            at = token.span.end as usize;
            if !text.get(token.span.start as usize..at)?.eq_ignore_ascii_case(word.as_bytes()) {
                return None;
            }
        }
        Some(Span { file, start, end: start })
    }
}

fn write(comments: Vec<String>, indent: usize, out: &mut String) {
    for comment in comments {
        if !comment.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(&comment);
        }
        out.push('\n');
    }
}

fn place_of(span: Span) -> Place {
    (span.file, span.start)
}
