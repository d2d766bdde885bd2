//! Domain names as RFC 1035 3.1 encodes them, alone or in a list that shares suffixes (RFC 1035 4.1.4, RFC 3397).

use std::collections::HashMap;

/// Encodes names one after another; `None` if one is not a domain name. With `compressed`, suffixes that occurred
/// before are replaced by pointers.
pub(super) fn encode<'a>(names: impl Iterator<Item = &'a str>, compressed: bool) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::new();
    let mut suffixes: HashMap<String, u16> = HashMap::new();
    for name in names {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.len() > 253 {
            return None;
        }
        let mut rest = name;
        loop {
            if rest.is_empty() {
                out.push(0);
                break;
            }
            let key = rest.to_ascii_lowercase();
            if compressed && let Some(at) = suffixes.get(&key) {
                out.extend_from_slice(&(0xc000 | at).to_be_bytes());
                break;
            }
            if let Ok(at) = u16::try_from(out.len())
                && at < 0x4000
            {
                suffixes.insert(key, at);
            }
            let (label, after) = rest.split_once('.').unwrap_or((rest, ""));
            let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len))?;
            if rest.ends_with('.') {
                return None;
            }
            out.push(len);
            out.extend_from_slice(label.as_bytes());
            rest = after;
        }
    }
    Some(out)
}

/// Reads a list of names; `None` if the bytes are not one.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let mut name = String::new();
        let mut here = at;
        let mut after = None;
        let mut steps = 0_u32;
        loop {
            steps = steps.saturating_add(1);
            if steps > 255 {
                return None;
            }
            let len = *bytes.get(here)?;
            let next = here.checked_add(1)?;
            match len {
                0 => {
                    after.get_or_insert(next);
                    break;
                }
                1..=63 => {
                    let end = next.checked_add(usize::from(len))?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.push_str(std::str::from_utf8(bytes.get(next..end)?).ok()?);
                    here = end;
                }
                0xc0.. => {
                    after.get_or_insert(next.checked_add(1)?);
                    here = usize::from(u16::from_be_bytes([len & 0x3f, *bytes.get(next)?]));
                }
                _ => return None,
            }
        }
        names.push(name);
        at = after?;
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_shared_when_asked() {
        let names = ["eng.example.org", "example.org", "a.example.org"];
        let plain = encode(names.into_iter(), false).unwrap();
        let short = encode(names.into_iter(), true).unwrap();
        assert_eq!(&short[..17], b"\x03eng\x07example\x03org\x00");
        assert_eq!(&short[17..], [0xc0, 4, 1, b'a', 0xc0, 4]);
        assert_eq!(decode(&plain).unwrap(), names);
        assert_eq!(decode(&short).unwrap(), names);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["a..b", ".a", "a.b..", &"x".repeat(64)] {
            assert_eq!(encode([bad].into_iter(), false), None, "{bad}");
        }
        assert_eq!(decode(&[0xc0, 0]), None);
        assert_eq!(decode(&[3, b'a']), None);
    }
}
