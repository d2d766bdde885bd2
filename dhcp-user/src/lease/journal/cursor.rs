//! Walks over the tokens of a leases file without copying them.
//!
//! Two things are watched all the time, because a power cut can leave them in the middle of a record: a long run of
//! newlines (filler that a lost write should have replaced) and the beginning of another record at the start of a
//! line. Either means that what stands before and what stands after do not belong together.

/// Longest run of newlines that a record may contain. A lost disk sector shows at least several hundred.
const NEWLINE_RUN_MAX: usize = 64;

/// What is said of zeros and of long runs of newlines.
const HOLE: &str = "a hole in the middle of a record";

/// Why a walk stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The text ended.
    End,
    /// Something else was expected.
    Bad(&'static str),
}

/// A place in a text.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The text from `start` to here.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.text.get(start..self.at).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Result<u8, Fault> {
        self.text.get(self.at).copied().ok_or(Fault::End)
    }

    pub(super) const fn skip(&mut self, count: usize) {
        self.at = self.at.saturating_add(count);
    }

    /// Skips white space and comments.
    pub(super) fn space(&mut self) -> Result<(), Fault> {
        let mut run = 0;
        loop {
            match self.peek()? {
                b'\n' => {
                    self.skip(1);
                    run += 1;
                    if run > NEWLINE_RUN_MAX {
                        return Err(Fault::Bad(HOLE));
                    }
                    if is_record_start(self.rest()) {
                        return Err(Fault::Bad("a record begins in the middle of another"));
                    }
                }
                b' ' | b'\t' | b'\r' | 0x0b | 0x0c => self.skip(1),
                b'#' => {
                    self.line_end()?;
                    run = 0;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Skips to the end of the line; the newline stays.
    pub(super) fn line_end(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let len = rest.iter().position(|byte| matches!(byte, b'\n' | 0)).ok_or(Fault::End)?;
        self.skip(len);
        if rest.get(len) == Some(&0) { Err(Fault::Bad(HOLE)) } else { Ok(()) }
    }

    /// A word of letters, digits, `-` and `_`.
    pub(super) fn word(&mut self, expected: &'static str) -> Result<&'a [u8], Fault> {
        let rest = self.rest();
        let len = rest.iter().position(|byte| !is_word_byte(*byte)).ok_or(Fault::End)?;
        if len == 0 {
            return Err(Fault::Bad(expected));
        }
        self.skip(len);
        Ok(rest.get(..len).unwrap_or_default())
    }

    /// White space, then a word.
    pub(super) fn next_word(&mut self, expected: &'static str) -> Result<&'a [u8], Fault> {
        self.space()?;
        self.word(expected)
    }

    /// White space, then exactly this word in any case.
    pub(super) fn keyword(&mut self, word: &str, expected: &'static str) -> Result<(), Fault> {
        let found = self.next_word(expected)?;
        if found.eq_ignore_ascii_case(word.as_bytes()) { Ok(()) } else { Err(Fault::Bad(expected)) }
    }

    /// White space, then this byte.
    pub(super) fn byte(&mut self, byte: u8, expected: &'static str) -> Result<(), Fault> {
        if self.peek()? != byte {
            self.space()?;
            if self.peek()? != byte {
                return Err(Fault::Bad(expected));
            }
        }
        self.skip(1);
        Ok(())
    }

    /// White space, then a semicolon.
    pub(super) fn semicolon(&mut self) -> Result<(), Fault> {
        self.byte(b';', "semicolon expected")
    }

    /// White space, then a decimal number.
    pub(super) fn number(&mut self, expected: &'static str) -> Result<u64, Fault> {
        self.space()?;
        let rest = self.rest();
        let len = rest.iter().position(|byte| !byte.is_ascii_digit()).ok_or(Fault::End)?;
        let digits = rest.get(..len).unwrap_or_default();
        if digits.is_empty() || digits.len() > 19 {
            return Err(Fault::Bad(expected));
        }
        self.skip(len);
        Ok(digits.iter().fold(0_u64, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))))
    }

    /// A quoted string, decoded into `out`.
    ///
    /// dhcpd: `\t \r \n \b`, `\ooo`, `\xHH`, and a backslash before anything else means that.
    pub(super) fn string(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.clear();
        self.byte(b'"', "string expected")?;
        loop {
            let rest = self.rest();
            let len = rest.iter().position(|byte| is_string_special(*byte)).ok_or(Fault::End)?;
            let (plain, after) = rest.split_at(len);
            out.extend_from_slice(plain);
            self.skip(len + 1);
            match after {
                [b'"', ..] => return Ok(()),
                // A backslash takes nothing of a newline's meaning: the string is as likely cut there.
                [b'\\', newline @ ..] if newline.first() == Some(&b'\n') => {
                    string_line_end(newline)?;
                    out.push(b'\n');
                    self.skip(1);
                }
                [b'\\', escape @ ..] => {
                    let (byte, len) = unescape(escape)?;
                    out.push(byte);
                    self.skip(len);
                }
                _ => {
                    string_line_end(after)?;
                    out.push(b'\n');
                }
            }
        }
    }

    /// Octets in hex with colons between them (`1:a:ff`), appended to `out`.
    pub(super) fn octets(&mut self, out: &mut Vec<u8>, expected: &'static str) -> Result<(), Fault> {
        out.clear();
        self.space()?;
        loop {
            let digits = self.word(expected)?;
            // A damaged file may hold any number of digits here.
            let value = match digits {
                [] | [_, _, _, ..] => None,
                digits => digits.iter().try_fold(0_u32, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?)),
            };
            match value {
                Some(value) => out.push(value as u8),
                None => return Err(Fault::Bad(expected)),
            }
            self.space()?;
            if self.peek()? != b':' {
                return Ok(());
            }
            self.skip(1);
            self.space()?;
        }
    }

    /// A quoted string or octets in hex.
    pub(super) fn string_or_octets(&mut self, out: &mut Vec<u8>, expected: &'static str) -> Result<(), Fault> {
        self.space()?;
        if self.peek()? == b'"' { self.string(out) } else { self.octets(out, expected) }
    }

    /// Skips to the end of a statement: behind its `;`, or behind the `}` of its block.
    pub(super) fn statement(&mut self) -> Result<(), Fault> {
        let mut depth = 0_u32;
        loop {
            self.space()?;
            match self.peek()? {
                b'"' => self.skip_string()?,
                b'{' => {
                    depth += 1;
                    self.skip(1);
                }
                b'}' => {
                    depth = depth.checked_sub(1).ok_or(Fault::Bad("unexpected closing brace"))?;
                    self.skip(1);
                    if depth == 0 {
                        return Ok(());
                    }
                }
                b';' => {
                    self.skip(1);
                    if depth == 0 {
                        return Ok(());
                    }
                }
                byte if byte.is_ascii_graphic() => self.skip(1),
                _ => return Err(Fault::Bad("bytes that are no text")),
            }
        }
    }

    /// After an opening brace: the text up to the brace that closes it, and behind that.
    pub(super) fn block(&mut self) -> Result<&'a [u8], Fault> {
        let start = self.at;
        loop {
            self.space()?;
            if self.peek()? == b'}' {
                let body = self.since(start);
                self.skip(1);
                return Ok(body);
            }
            self.statement()?;
        }
    }

    fn skip_string(&mut self) -> Result<(), Fault> {
        self.skip(1);
        loop {
            let rest = self.rest();
            let len = rest.iter().position(|byte| is_string_special(*byte)).ok_or(Fault::End)?;
            self.skip(len + 1);
            match rest.get(len..) {
                Some([b'"', ..]) => return Ok(()),
                Some([b'\\', newline @ ..]) if newline.first() == Some(&b'\n') => {
                    string_line_end(newline)?;
                    self.skip(1);
                }
                Some([b'\\', ..]) => self.skip(1),
                Some(after) => string_line_end(after)?,
                None => return Err(Fault::End),
            }
        }
    }
}

/// Bytes that a string does not simply consist of. dhcpd writes zeros as `\000`: one that stands there is a hole.
const fn is_string_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | b'\n' | 0)
}

/// Whether a string may go on behind a newline (or a zero) that stands in it.
fn string_line_end(text: &[u8]) -> Result<(), Fault> {
    if text.first() == Some(&0)
        || text.iter().take(NEWLINE_RUN_MAX + 1).filter(|b| **b == b'\n').count() > NEWLINE_RUN_MAX
    {
        return Err(Fault::Bad(HOLE));
    }
    if text.get(1..).is_some_and(is_record_start) {
        return Err(Fault::Bad("a record begins in the middle of a string"));
    }
    Ok(())
}

/// The byte that an escape means, and its length without the backslash.
fn unescape(escape: &[u8]) -> Result<(u8, usize), Fault> {
    let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    match escape {
        [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
            Ok((((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'), 3))
        }
        [b't', ..] => Ok((b'\t', 1)),
        [b'r', ..] => Ok((b'\r', 1)),
        [b'n', ..] => Ok((b'\n', 1)),
        [b'b', ..] => Ok((8, 1)),
        [b'x', high, low, ..] => match (hex(*high), hex(*low)) {
            (Some(high), Some(low)) => Ok((high << 4 | low, 3)),
            _ => Ok((b'x', 1)),
        },
        [b'0', _, _, ..] => Ok((0, 1)),
        [byte, _, _, ..] => Ok((*byte, 1)),
        _ => Err(Fault::End),
    }
}

const fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Whether a line begins a record that stands only at the top level.
pub(super) fn is_record_start(line: &[u8]) -> bool {
    match line {
        [b'l', rest @ ..] => {
            rest.strip_prefix(b"ease ").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
        }
        [b'f', rest @ ..] => rest.starts_with(b"ailover peer "),
        [b's', rest @ ..] => rest.starts_with(b"erver-duid "),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::new();
        Cursor::new(text.as_bytes(), 0).string(&mut out).map(|()| out)
    }

    #[test]
    fn strings_are_decoded_as_dhcpd_decodes_them() {
        assert_eq!(string(r#""a\bb\tc\001\"\\ " "#).unwrap(), b"a\x08b\tc\x01\"\\ ");
        assert_eq!(string(r#""\x41\377\q\0x\400" "#).unwrap(), b"A\xffq\0x400");
        assert_eq!(string("\"two\nlines\" ").unwrap(), b"two\nlines");
        assert_eq!(string("\"cut\nlease 1.2.3.4 {\" "), Err(Fault::Bad("a record begins in the middle of a string")));
        assert_eq!(string("\"open"), Err(Fault::End));
        assert_eq!(string("\"open\\"), Err(Fault::End));
    }

    #[test]
    fn a_statement_ends_where_its_braces_say() {
        let mut cursor = Cursor::new(b"host x { a \"};{\"; # }\n b { c; } } rest", 0);
        cursor.statement().unwrap();
        assert_eq!(cursor.rest(), b" rest");
        let mut cursor = Cursor::new(b"foo; }", 0);
        cursor.statement().unwrap();
        assert_eq!(cursor.statement(), Err(Fault::Bad("unexpected closing brace")));
        assert_eq!(Cursor::new(b"foo \x80;", 0).statement(), Err(Fault::Bad("bytes that are no text")));
    }

    #[test]
    fn a_hole_is_not_white_space() {
        let hole = [b"a".as_slice(), &[b'\n'; 65], b"b "].concat();
        let mut cursor = Cursor::new(&hole, 1);
        assert_eq!(cursor.space(), Err(Fault::Bad("a hole in the middle of a record")));
        let mut out = Vec::new();
        for hole in [[b'\n'; 70], [0; 70]] {
            let string = [b"\"a".as_slice(), &hole, b"b\" "].concat();
            assert_eq!(Cursor::new(&string, 0).string(&mut out), Err(Fault::Bad(HOLE)));
            let comment = [b"# a".as_slice(), &hole, b"b\n x"].concat();
            assert_eq!(Cursor::new(&comment, 0).space(), Err(Fault::Bad(HOLE)));
        }
        let gap = [b"a".as_slice(), &[b'\n'; 64], b"b "].concat();
        assert_eq!(Cursor::new(&gap, 1).space(), Ok(()));
    }
}
