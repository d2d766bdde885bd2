//! Bytes to tokens (reference section 1; dhcpd: conflex).

use std::borrow::Cow;

use super::limits::TOKEN_LEN_MAX;
use super::span::{FileId, Span};

/// Shape of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// `"..."`, with its quotes in the span.
    String,
    /// Digits, perhaps with a minus sign in front.
    Number,
    /// Only hexadecimal digits, not all decimal (`ff`, `0a`, `0x1f`).
    NumberOrName,
    /// A letter and what follows; or digits and letters that are not hexadecimal (`3com`).
    Name,
    /// Any other single byte.
    Punct(u8),
    /// The end of the file.
    End,
}

/// A token: what it looks like and where it is; its text is read from the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Span,
}

/// What the lexer itself finds wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LexError {
    /// A token longer than [`TOKEN_LEN_MAX`].
    TooLong,
    /// A string without an end.
    UnendedString,
    /// `\x` without two hexadecimal digits.
    BadHexEscape,
}

/// Splits a file into tokens; the last one is [`Kind::End`].
pub(super) fn tokenize(text: &[u8], file: FileId) -> (Vec<Token>, Vec<(LexError, Span)>) {
    let mut lexer = Lexer { text, at: 0, file, tokens: Vec::with_capacity(text.len() / 6), errors: Vec::new() };
    lexer.run();
    (lexer.tokens, lexer.errors)
}

struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
    file: FileId,
    tokens: Vec<Token>,
    errors: Vec<(LexError, Span)>,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn bump(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn span_from(&self, start: usize) -> Span {
        Span { file: self.file, start: start as u32, end: self.at as u32 }
    }

    fn push(&mut self, kind: Kind, start: usize) {
        let span = self.span_from(start);
        if self.at.saturating_sub(start) > TOKEN_LEN_MAX {
            self.errors.push((LexError::TooLong, span));
        }
        self.tokens.push(Token { kind, span });
    }

    fn run(&mut self) {
        while let Some(byte) = self.peek() {
            let start = self.at;
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => self.bump(),
                b'#' => {
                    while self.peek().is_some_and(|byte| byte != b'\n') {
                        self.bump();
                    }
                }
                b'"' => self.string(start),
                b'0'..=b'9' => self.number(start),
                b'-' if self.text.get(start.saturating_add(1)).is_some_and(u8::is_ascii_digit) => self.number(start),
                b'a'..=b'z' | b'A'..=b'Z' => self.word(start),
                _ => {
                    self.bump();
                    self.push(Kind::Punct(byte), start);
                }
            }
        }
        let start = self.at;
        self.push(Kind::End, start);
    }

    fn string(&mut self, start: usize) {
        self.bump();
        loop {
            match self.peek() {
                None => {
                    let span = self.span_from(start).first();
                    self.errors.push((LexError::UnendedString, span));
                    break;
                }
                Some(b'"') => {
                    self.bump();
                    break;
                }
                Some(b'\\') => {
                    let escape = self.at;
                    self.bump();
                    if self.peek() == Some(b'x') {
                        let digits = self.text.get(self.at.saturating_add(1)..self.at.saturating_add(3));
                        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                            let span = self.span_from(escape);
                            self.errors.push((LexError::BadHexEscape, span));
                        }
                    }
                    self.bump();
                    self.at = self.at.min(self.text.len());
                }
                Some(_) => self.bump(),
            }
        }
        self.push(Kind::String, start);
    }

    /// Digits first: becomes a hexadecimal octet or a name as soon as something says so (dhcpd: read_number).
    fn number(&mut self, start: usize) {
        let mut kind = Kind::Number;
        self.bump();
        while let Some(byte) = self.peek() {
            let is_hex_prefix = self.at == start.saturating_add(1)
                && self.text.get(start) == Some(&b'0')
                && matches!(byte, b'x' | b'X')
                && self.text.get(self.at.saturating_add(1)).is_some_and(u8::is_ascii_hexdigit);
            kind = match byte {
                b'0'..=b'9' => kind,
                _ if is_hex_prefix => Kind::NumberOrName,
                b'a'..=b'f' | b'A'..=b'F' if kind != Kind::Name => Kind::NumberOrName,
                b'-' | b'_' | b'a'..=b'z' | b'A'..=b'Z' => Kind::Name,
                _ => break,
            };
            self.bump();
        }
        self.push(kind, start);
    }

    fn word(&mut self, start: usize) {
        let mut kind = Kind::NumberOrName;
        while let Some(byte) = self.peek() {
            match byte {
                b'a'..=b'f' | b'A'..=b'F' | b'0'..=b'9' => {}
                b'-' | b'_' | b'g'..=b'z' | b'G'..=b'Z' => kind = Kind::Name,
                _ => break,
            }
            self.bump();
        }
        self.push(kind, start);
    }
}

/// The bytes a quoted string stands for (reference section 1: escapes).
pub(super) fn unquote(raw: &[u8]) -> Cow<'_, [u8]> {
    let inner = raw.strip_prefix(b"\"").unwrap_or(raw);
    let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'\\' {
            out.push(byte);
            rest = after;
            continue;
        }
        let Some((&kind, after)) = after.split_first() else {
            break;
        };
        rest = after;
        match kind {
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b'b' => out.push(8),
            b'x' => {
                let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                if let Some(value) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    out.push(value);
                    rest = after.get(2..).unwrap_or_default();
                }
            }
            b'0'..=b'3' => match after.get(..2) {
                Some([a @ b'0'..=b'7', b @ b'0'..=b'7']) => {
                    out.push((kind & 7) << 6 | (a & 7) << 3 | (b & 7));
                    rest = after.get(2..).unwrap_or_default();
                }
                Some(_) | None if kind == b'0' => out.push(0),
                Some(_) | None => out.push(kind),
            },
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, String)> {
        let (tokens, errors) = tokenize(text.as_bytes(), FileId(0));
        assert_eq!(errors, []);
        tokens
            .iter()
            .map(|token| (token.kind, text[token.span.start as usize..token.span.end as usize].to_owned()))
            .collect()
    }

    #[test]
    fn every_shape_of_token_is_told_apart() {
        use Kind::{Name, Number, NumberOrName, Punct, String};
        for (text, want) in [
            ("42", Number),
            ("-1", Number),
            ("007", Number),
            ("ff", NumberOrName),
            ("0a", NumberOrName),
            ("0x1f", NumberOrName),
            ("dead", NumberOrName),
            ("3com", Name),
            ("0x", Name),
            ("subnet", Name),
            ("192-168", Name),
            ("default-lease-time", Name),
            ("a_b", Name),
            ("\"x y\"", String),
            ("\"a\nb\"", String),
            (";", Punct(b';')),
            ("-", Punct(b'-')),
            ("\u{e9}", Punct(0xc3)),
        ] {
            let (tokens, errors) = tokenize(text.as_bytes(), FileId(0));
            assert_eq!((tokens[0].kind, errors.len()), (want, 0), "{text}");
        }
    }

    #[test]
    fn a_dot_ends_a_name_and_a_number() {
        let all = kinds("agent.circuit-id 10.0.0.1;# tail \"\n}");
        let words: Vec<_> = all.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(words, ["agent", ".", "circuit-id", "10", ".", "0", ".", "0", ".", "1", ";", "}", ""]);
        assert_eq!(all.last().unwrap().0, Kind::End);
    }

    #[test]
    fn strings_keep_their_escapes_until_they_are_asked_for() {
        for (text, want) in [
            (r#""plain""#, &b"plain"[..]),
            (r#""\t\r\n\b""#, b"\t\r\n\x08"),
            (r#""\001\377\x41""#, b"\x01\xffA"),
            (r#""\"\\\q""#, b"\"\\q"),
            (r#""\0z""#, b"\0z"),
            (r#""""#, b""),
        ] {
            assert_eq!(&*unquote(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn what_the_lexer_cannot_take_is_named() {
        assert_eq!(tokenize(b"\"abc", FileId(0)).1[0].0, LexError::UnendedString);
        assert_eq!(tokenize(b"\"\\xg0\"", FileId(0)).1[0].0, LexError::BadHexEscape);
        assert_eq!(tokenize(&[b'a'; 1500], FileId(0)).1, []);
        assert_eq!(tokenize(&[b'a'; 1501], FileId(0)).1[0].0, LexError::TooLong);
        assert_eq!(tokenize(b"\"\\", FileId(0)).1[0].0, LexError::UnendedString);
    }
}
