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

/// What a byte means to the lexer where a token may begin, or go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Blank,
    Digit,
    /// `a` to `f`: a letter, and a hexadecimal digit.
    Hex,
    /// Any other letter.
    Letter,
    /// `-` and `_`, which go on with a name.
    Joint,
    Other,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => Class::Blank,
            b'0'..=b'9' => Class::Digit,
            b'a'..=b'f' | b'A'..=b'F' => Class::Hex,
            b'g'..=b'z' | b'G'..=b'Z' => Class::Letter,
            b'-' | b'_' => Class::Joint,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// Whether a byte would go on with a word or number before it.
pub(super) fn is_word_byte(byte: u8) -> bool {
    !matches!(class(byte), Class::Blank | Class::Other)
}

/// The token that begins at or behind `at`; [`Kind::End`] when there is none.
///
/// Tokens are read one by one as the parser asks for them: a list of them would be larger than the text.
pub(super) fn scan(text: &[u8], file: FileId, at: usize) -> Token {
    let mut start = at;
    let kind = loop {
        let Some(&byte) = text.get(start) else {
            start = text.len();
            break Kind::End;
        };
        match class(byte) {
            Class::Blank => {}
            Class::Digit => break Kind::Number,
            Class::Hex | Class::Letter => break Kind::Name,
            Class::Joint | Class::Other => match byte {
                b'#' => {
                    let rest = text.get(start..).unwrap_or_default();
                    start = start.saturating_add(rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
                    continue;
                }
                b'"' => break Kind::String,
                b'-' if text.get(start.saturating_add(1)).is_some_and(u8::is_ascii_digit) => break Kind::Number,
                _ => break Kind::Punct(byte),
            },
        }
        start = start.saturating_add(1);
    };
    let rest = text.get(start..).unwrap_or_default();
    let (kind, len) = match kind {
        Kind::Number => number(rest),
        Kind::Name | Kind::NumberOrName => word(rest),
        Kind::String => (kind, string_len(rest)),
        Kind::Punct(_) => (kind, 1),
        Kind::End => (kind, 0),
    };
    // Offsets are 32 bits: the limit on the length of the text holds them there.
    let span = Span { file, start: start as u32, end: start.saturating_add(len) as u32 };
    Token { kind, span }
}

/// Digits first: becomes a hexadecimal octet or a name as soon as something says so (dhcpd: read_number).
fn number(text: &[u8]) -> (Kind, usize) {
    let is_hexadecimal = matches!(text, [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit());
    let (mut kind, first) = if is_hexadecimal { (Kind::NumberOrName, 2) } else { (Kind::Number, 1) };
    for (place, &byte) in text.iter().enumerate().skip(first) {
        match class(byte) {
            Class::Digit => {}
            Class::Hex if kind != Kind::Name => kind = Kind::NumberOrName,
            Class::Hex | Class::Letter | Class::Joint => kind = Kind::Name,
            Class::Blank | Class::Other => return (kind, place),
        }
    }
    (kind, text.len())
}

fn word(text: &[u8]) -> (Kind, usize) {
    let mut kind = Kind::NumberOrName;
    for (place, &byte) in text.iter().enumerate() {
        match class(byte) {
            Class::Hex | Class::Digit => {}
            Class::Joint | Class::Letter => kind = Kind::Name,
            Class::Blank | Class::Other => return (kind, place),
        }
    }
    (kind, text.len())
}

/// Length of a string with its quotes; up to the end of the text when it has no end.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1_usize;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at.saturating_add(1),
            b'\\' => at = at.saturating_add(2),
            _ => at = at.saturating_add(1),
        }
    }
    text.len()
}

/// What is wrong with a token itself, and where.
pub(super) fn faults(raw: &[u8], token: Token) -> Vec<(LexError, Span)> {
    let mut faults = Vec::new();
    if token.kind == Kind::String {
        let place = |at: usize| token.span.start.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
        let mut at = 1_usize;
        let is_ended = loop {
            match raw.get(at) {
                None => break false,
                Some(b'"') => break true,
                Some(b'\\') => {
                    let digits = raw.get(at.saturating_add(2)..at.saturating_add(4));
                    if raw.get(at.saturating_add(1)) == Some(&b'x')
                        && !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
                    {
                        let end = place(at.saturating_add(2));
                        faults.push((LexError::BadHexEscape, Span { start: place(at), end, ..token.span }));
                    }
                    at = at.saturating_add(2);
                }
                Some(_) => at = at.saturating_add(1),
            }
        };
        if !is_ended {
            faults.push((LexError::UnendedString, token.span.first()));
        }
    }
    if raw.len() > TOKEN_LEN_MAX {
        faults.push((LexError::TooLong, token.span));
    }
    faults
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

    /// All tokens of a text, and what is wrong with them.
    fn tokenize(text: &[u8], file: FileId) -> (Vec<Token>, Vec<(LexError, Span)>) {
        let (mut tokens, mut errors) = (Vec::new(), Vec::new());
        let mut at = 0;
        loop {
            let token = scan(text, file, at);
            at = token.span.end as usize;
            errors.extend(faults(&text[token.span.start as usize..at], token));
            tokens.push(token);
            if token.kind == Kind::End {
                return (tokens, errors);
            }
        }
    }

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
