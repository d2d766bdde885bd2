//! Options inside options of a request: relay information, vendor spaces, the parts of option 81.

use std::borrow::Cow;

use super::Config;
use super::context::ReceivedOptions;
use super::domain;
use super::machine::Bytes;
use super::options::{OptionRef, SpaceId};

/// A field that ends at its first zero; `None` when it is empty.
pub(super) fn c_string(field: &[u8]) -> Option<&[u8]> {
    let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
    (!text.is_empty()).then_some(text)
}

/// An option of a space, out of the option that encapsulates the space.
pub(super) fn suboption<'c>(config: &'c Config, options: &'c ReceivedOptions, option: OptionRef) -> Option<Bytes<'c>> {
    if option.space == SpaceId::FQDN {
        return fqdn(options.get(81)?, option.code).map(Cow::Owned);
    }
    let outer = config.encapsulations.iter().find(|(_, space)| *space == option.space)?.0;
    let outer = if outer.space == SpaceId::DHCP {
        Cow::Borrowed(options.get(u8::try_from(outer.code).ok()?)?)
    } else if outer.space < option.space {
        suboption(config, options, outer)?
    } else {
        return None;
    };
    let space = config.spaces.space(option.space)?;
    let (code_width, length_width) = (usize::from(space.code_width), usize::from(space.length_width));
    let range = find(&outer, option.code, code_width, length_width)?;
    match outer {
        Cow::Borrowed(bytes) => bytes.get(range).map(Cow::Borrowed),
        Cow::Owned(bytes) => bytes.get(range).map(|bytes| Cow::Owned(bytes.to_vec())),
    }
}

/// Where the data of a code is among codes and lengths of these widths.
fn find(bytes: &[u8], code: u32, code_width: usize, length_width: usize) -> Option<std::ops::Range<usize>> {
    let number = |bytes: &[u8]| bytes.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
    let mut at = 0_usize;
    while at < bytes.len() {
        let after_code = at.checked_add(code_width)?;
        let this = number(bytes.get(at..after_code)?);
        if code_width == 1 && this == 0 && code != 0 {
            at = after_code;
            continue;
        }
        if code_width == 1 && this == 255 && code != 255 {
            return None;
        }
        let start = after_code.checked_add(length_width)?;
        let len = match length_width {
            0 => bytes.len().checked_sub(start)?,
            _ => usize::try_from(number(bytes.get(after_code..start)?)).ok()?,
        };
        let end = start.checked_add(len)?;
        if end > bytes.len() {
            return None;
        }
        if this == code {
            return Some(start..end);
        }
        at = end.max(after_code);
    }
    None
}

/// A part of option 81 (RFC 4702): flags, two codes, a name in text or in labels.
fn fqdn(bytes: &[u8], code: u32) -> Option<Vec<u8>> {
    let (&[flags, rcode1, rcode2], name) = bytes.split_first_chunk::<3>()?;
    let flag = |mask: u8| Some(vec![u8::from(flags & mask != 0)]);
    let name = || {
        if flags & 4 != 0 {
            domain::decode(name).and_then(|names| names.into_iter().next())
        } else {
            Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
        }
    };
    let not_empty = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
    match code {
        1 => flag(8),
        2 => flag(1),
        3 => flag(4),
        4 => Some(vec![rcode1]),
        5 => Some(vec![rcode2]),
        6 => not_empty(name()?.split('.').next().unwrap_or_default()),
        7 => not_empty(name()?.split_once('.').map_or("", |(_, domain)| domain)),
        8 => not_empty(&name()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_options_are_found_at_every_width() {
        assert_eq!(find(&[1, 2, 9, 9, 2, 1, 7], 2, 1, 1), Some(6..7));
        assert_eq!(find(&[0, 1, 1, 9], 1, 1, 1), Some(3..4));
        assert_eq!(find(&[0, 0, 0, 9, 2, 5, 6], 9, 4, 1), Some(5..7));
        assert_eq!(find(&[1, 5, 9], 1, 1, 1), None);
        assert_eq!(find(&[1], 1, 1, 1), None);
        assert_eq!(find(&[255, 1, 1, 9], 1, 1, 1), None);
    }

    #[test]
    fn the_name_of_option_81_is_read_in_both_forms() {
        let text = b"\x01\0\0pc1.example.org";
        let labels = b"\x05\0\0\x03pc1\x07example\x03org\0";
        for bytes in [&text[..], &labels[..]] {
            assert_eq!(fqdn(bytes, 6).unwrap(), b"pc1");
            assert_eq!(fqdn(bytes, 7).unwrap(), b"example.org");
            assert_eq!(fqdn(bytes, 2).unwrap(), [1]);
        }
        assert_eq!(fqdn(b"\x01\0", 8), None);
    }
}
