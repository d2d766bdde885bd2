//! The parser's place among the tokens: looking, taking, and finding a foothold again after a mistake.

use super::{Parsed, Parser};
use crate::config::lexer::{Kind, LexError, Token, faults, scan, unquote};
use crate::config::limits::TOKEN_LEN_MAX;
use crate::config::span::Span;

/// A word in lower case. No word of the language is as long as the room here; a longer one is empty, and so no word
/// of the language either.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    bytes: [u8; 48],
    len: usize,
}

impl Word {
    fn new(raw: &[u8]) -> Self {
        let mut word = Self { bytes: [0; 48], len: raw.len() };
        match word.bytes.get_mut(..raw.len()) {
            Some(room) => {
                room.copy_from_slice(raw);
                room.make_ascii_lowercase();
            }
            None => word.len = 0,
        }
        word
    }

    pub(super) fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> Token {
        self.token
    }

    /// The token that comes `ahead` tokens behind the next one.
    pub(super) fn peek_at(&self, ahead: usize) -> Token {
        let mut token = self.token;
        if let Some(input) = self.inputs.last() {
            for _ in 0..ahead {
                token = scan(&input.text, input.file, token.span.end as usize);
            }
        }
        token
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.token;
        self.last = token.span;
        if token.kind != Kind::End {
            let len = token.span.end.saturating_sub(token.span.start) as usize;
            if token.kind == Kind::String || len > TOKEN_LEN_MAX {
                self.check_token(token);
            }
            self.go_to(token.span.end as usize);
        }
        token
    }

    /// Makes the token at or behind an offset the next one.
    pub(super) fn go_to(&mut self, at: usize) {
        if let Some(input) = self.inputs.last() {
            self.token = scan(&input.text, input.file, at);
        }
    }

    /// Makes the end of the file the next token.
    pub(super) fn give_up(&mut self) {
        self.go_to(self.inputs.last().map_or(0, |input| input.text.len()));
    }

    pub(super) fn check_token(&mut self, token: Token) {
        for (error, span) in faults(self.raw(token), token) {
            match error {
                LexError::TooLong => {
                    self.error(span.first(), "token too long", format!("at most {TOKEN_LEN_MAX} bytes"));
                }
                LexError::UnendedString => {
                    self.error(span, "string without an end", "no closing quote until the end of the file");
                }
                LexError::BadHexEscape => {
                    self.error(span, "bad escape in a string", "`\\x` wants exactly two hexadecimal digits");
                }
            }
        }
    }

    /// The bytes of a token as they are written.
    pub(super) fn raw(&self, token: Token) -> &[u8] {
        let text = match self.inputs.last() {
            Some(input) if input.file == token.span.file => &**input.text,
            _ => return self.config.sources.text(token.span.file),
        };
        text.get(token.span.start as usize..token.span.end as usize).unwrap_or_default()
    }

    /// A word in lower case.
    pub(super) fn lower(&self, token: Token) -> Word {
        Word::new(self.raw(token))
    }

    /// The text of a word or number.
    pub(super) fn text(&self, token: Token) -> String {
        String::from_utf8_lossy(self.raw(token)).into_owned()
    }

    /// The bytes that a quoted string stands for.
    pub(super) fn string_bytes(&self, token: Token) -> Vec<u8> {
        unquote(self.raw(token)).into_owned()
    }

    pub(super) fn is_word(token: Token) -> bool {
        matches!(token.kind, Kind::Name | Kind::NumberOrName)
    }

    pub(super) fn at_word(&self, word: &str) -> bool {
        self.word_is(self.peek(), word)
    }

    pub(super) fn word_is(&self, token: Token, word: &str) -> bool {
        Self::is_word(token) && self.raw(token).eq_ignore_ascii_case(word.as_bytes())
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let yes = self.at_word(word);
        if yes {
            self.next();
        }
        yes
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.eat_word(word) {
            return Ok(());
        }
        let found = self.peek();
        self.fail(found.span, format!("expected `{word}`"), "")
    }

    pub(super) fn at(&self, byte: u8) -> bool {
        self.peek().kind == Kind::Punct(byte)
    }

    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let yes = self.at(byte);
        if yes {
            self.next();
        }
        yes
    }

    pub(super) fn expect(&mut self, byte: u8) -> Parsed<Span> {
        if self.at(byte) {
            return Ok(self.next().span);
        }
        let place = self.place_of_missing();
        self.fail(place, format!("expected `{}`", char::from(byte)), "")
    }

    /// Takes the `;` that ends a statement.
    pub(super) fn semicolon(&mut self) -> Parsed<()> {
        self.expect(b';').map(|_| ())
    }

    /// Where to point when something is missing: at what stands there instead, or behind the last token when
    /// that is on a later line.
    pub(super) fn place_of_missing(&self) -> Span {
        let found = self.peek().span;
        let behind = Span { start: self.last.end, end: self.last.end, ..self.last };
        if found.file != behind.file || behind.end == 0 {
            return found;
        }
        let text = self.inputs.last().map_or(&[][..], |input| &**input.text);
        let between = text.get(behind.end as usize..found.start as usize).unwrap_or_default();
        if between.contains(&b'\n') { behind } else { found }
    }

    /// Goes on after an error in a statement that began behind `before`: to the end of the statement, unless that has
    /// been reached already.
    pub(super) fn recover(&mut self, before: Span) {
        let is_at_end =
            matches!(self.config.sources.text(self.last.file).get(self.last.start as usize), Some(b';' | b'}'))
                && self.last.end == self.last.start.saturating_add(1);
        if self.last == before || !is_at_end {
            self.skip_statement();
        }
    }

    /// Skips to behind the next `;`, or over the next block, or before a `}` that ends the block we are in.
    pub(super) fn skip_statement(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.peek().kind {
                Kind::End => return,
                Kind::Punct(b'{') => depth = depth.saturating_add(1),
                Kind::Punct(b'}') => {
                    if depth == 0 {
                        return;
                    }
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.next();
                        return;
                    }
                }
                Kind::Punct(b';') if depth == 0 => {
                    self.next();
                    return;
                }
                Kind::Punct(_) | Kind::Name | Kind::Number | Kind::NumberOrName | Kind::String => {}
            }
            self.next();
        }
    }
}
