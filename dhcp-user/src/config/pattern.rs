//! POSIX extended regular expressions (`~=`, `~~`) on bytes, for an engine with linear time.

use regex::bytes::{Regex, RegexBuilder};

/// Largest compiled program of one pattern, in bytes.
const PROGRAM_LEN_MAX: usize = 1 << 20;

/// Compiles a pattern.
///
/// # Errors
///
/// A sentence for people.
pub(super) fn compile(pattern: &[u8], ignore_case: bool) -> Result<Regex, String> {
    RegexBuilder::new(&translate(pattern))
        .unicode(false)
        .case_insensitive(ignore_case)
        .dot_matches_new_line(true)
        .size_limit(PROGRAM_LEN_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
            other => other.to_string().lines().last().unwrap_or("it is not well formed").trim().to_owned(),
        })
}

/// Writes POSIX notation in the notation of the engine: inside brackets a backslash is a backslash, and bytes that
/// are not ASCII stand for themselves.
fn translate(pattern: &[u8]) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut at = 0;
    while let Some(&byte) = pattern.get(at) {
        at = at.saturating_add(1);
        match byte {
            b'\\' => {
                let Some(&next) = pattern.get(at) else {
                    out.push_str("\\\\");
                    break;
                };
                at = at.saturating_add(1);
                match next {
                    b'w' | b'W' | b's' | b'S' | b'b' | b'B' => {
                        out.push('\\');
                        out.push(char::from(next));
                    }
                    _ => literal(next, &mut out),
                }
            }
            b'[' => at = bracket(pattern, at, &mut out),
            0x21..=0x7e => out.push(char::from(byte)),
            _ => literal(byte, &mut out),
        }
    }
    out
}

fn literal(byte: u8, out: &mut String) {
    out.push_str(&format!("\\x{byte:02x}"));
}

/// Copies a bracket expression; returns where it ends.
fn bracket(pattern: &[u8], mut at: usize, out: &mut String) -> usize {
    out.push('[');
    if pattern.get(at) == Some(&b'^') {
        out.push('^');
        at = at.saturating_add(1);
    }
    let first = at;
    while let Some(&byte) = pattern.get(at) {
        match byte {
            b']' if at > first => {
                out.push(']');
                return at.saturating_add(1);
            }
            b'[' if pattern.get(at.saturating_add(1)) == Some(&b':') => {
                let rest = pattern.get(at..).unwrap_or_default();
                let end = rest.windows(2).position(|pair| pair == b":]");
                let Some(end) = end else {
                    literal(byte, out);
                    at = at.saturating_add(1);
                    continue;
                };
                let end = end.saturating_add(2);
                out.push_str(&String::from_utf8_lossy(rest.get(..end).unwrap_or_default()));
                at = at.saturating_add(end);
            }
            b'-' if at > first && pattern.get(at.saturating_add(1)).is_some_and(|next| *next != b']') => {
                out.push('-');
                at = at.saturating_add(1);
            }
            _ => {
                literal(byte, out);
                at = at.saturating_add(1);
            }
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn patterns_mean_what_posix_says() {
        for (pattern, text, ignore_case, want) in [
            ("^PXEClient:Arch:0000[0-9]", "PXEClient:Arch:00007:UNDI", false, true),
            ("^pxe", "PXEClient", false, false),
            ("^pxe", "PXEClient", true, true),
            ("a.c$", "abc", false, true),
            ("a\\.c", "abc", false, false),
            ("[\\d]", "d", false, true),
            ("[\\d]", "5", false, false),
            ("[]x]+$", "]x]", false, true),
            ("[^]]", "]", false, false),
            ("[[:digit:]]{3}", "a123", false, true),
            ("(ab|cd)+", "xcdx", false, true),
            ("[a-c&&b]", "&", false, true),
        ] {
            let regex = compile(pattern.as_bytes(), ignore_case).unwrap();
            assert_eq!(regex.is_match(text.as_bytes()), want, "{pattern} on {text}");
        }
        assert!(compile(b"(", false).is_err());
    }

    #[test]
    fn bytes_that_are_not_ascii_stand_for_themselves() {
        assert!(compile(b"^\xff[\xf0-\xfe]$", false).unwrap().is_match(b"\xff\xf8"));
    }
}
