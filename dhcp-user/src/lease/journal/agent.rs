//! Option 82 in the leases file: `option agent.NAME VALUE;`, one line per sub-option.

use std::net::Ipv4Addr;

use super::date::write_number;

/// How a sub-option's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Text when it can be printed, hex otherwise.
    Bytes,
    /// One IPv4 address.
    Address,
    /// A 32-bit number.
    Number,
    /// No value.
    Nothing,
}

impl Shape {
    /// Whether a value can be written in this shape and read back.
    const fn fits(self, value: &[u8]) -> bool {
        match self {
            Self::Bytes => true,
            Self::Address | Self::Number => value.len() == 4,
            Self::Nothing => value.is_empty(),
        }
    }
}

/// The sub-options dhcpd has names for: code, name, shape.
const NAMED: [(u8, &str, Shape); 6] = [
    (1, "circuit-id", Shape::Bytes),
    (2, "remote-id", Shape::Bytes),
    (3, "agent-id", Shape::Address),
    (4, "DOCSIS-device-class", Shape::Number),
    (5, "link-selection", Shape::Address),
    (19, "relay-port", Shape::Nothing),
];

/// Code and shape of a name, `unknown-N` included; names are compared without case.
pub(super) fn code_of(name: &[u8]) -> Option<(u8, Shape)> {
    let named = NAMED.iter().find(|(_, known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
    if let Some((code, _, shape)) = named {
        return Some((*code, *shape));
    }
    let number = name.strip_prefix(b"unknown-")?;
    let code = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some((code, Shape::Bytes))
}

/// The sub-options of a raw option 82: code and value each; what does not hold together at the end is left out.
pub(super) fn sub_options(raw: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        let [code, len, after @ ..] = rest else { return None };
        let (value, after) = after.split_at_checked(usize::from(*len))?;
        rest = after;
        Some((*code, value))
    })
}

/// Writes all sub-options, a line each.
pub(super) fn write(raw: &[u8], out: &mut Vec<u8>) {
    for (code, value) in sub_options(raw) {
        out.extend_from_slice(b"  option agent.");
        // A value that has not its name's shape goes by its number: the name would give it another meaning.
        let named = NAMED.iter().find(|(known, _, shape)| *known == code && shape.fits(value));
        match named {
            Some((_, name, _)) => out.extend_from_slice(name.as_bytes()),
            None => {
                out.extend_from_slice(b"unknown-");
                write_number(code.into(), out);
            }
        }
        let shape = named.map_or(Shape::Bytes, |(_, _, shape)| *shape);
        match (shape, <[u8; 4]>::try_from(value)) {
            (Shape::Address, Ok(address)) => {
                out.push(b' ');
                out.extend_from_slice(Ipv4Addr::from(address).to_string().as_bytes());
            }
            (Shape::Number, Ok(number)) => {
                out.push(b' ');
                write_number(u32::from_be_bytes(number), out);
            }
            (Shape::Nothing, _) if value.is_empty() => {}
            (Shape::Bytes | Shape::Address | Shape::Number | Shape::Nothing, _) => {
                out.push(b' ');
                write_value(value, out);
            }
        }
        out.extend_from_slice(b";\n");
    }
}

/// dhcpd: text when every byte can be printed, with `" ' $ \` \` escaped; otherwise hex without leading zeros.
///
/// dhcpd also writes text for a value that ends in a NUL, and loses the NUL; here that is hex.
fn write_value(value: &[u8], out: &mut Vec<u8>) {
    if value.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        out.push(b'"');
        for byte in value {
            if matches!(byte, b'"' | b'\'' | b'$' | b'`' | b'\\') {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        out.push(b'"');
        return;
    }
    for (index, byte) in value.iter().enumerate() {
        if index > 0 {
            out.push(b':');
        }
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let [high, low] = [byte >> 4, byte & 15];
        if high > 0 {
            out.extend(DIGITS.get(usize::from(high)));
        }
        out.extend(DIGITS.get(usize::from(low)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_options_are_written_as_dhcpd_writes_them() {
        let mut raw = Vec::new();
        for (code, value) in [
            (1, b"p1/3".as_slice()),
            (2, b"\xa4\x02"),
            (3, b"\x01\x02\x03\x04"),
            (4, b"\0\0\0\x02"),
            (4, b"\x80"),
            (9, b"a'b$c`d\"\\"),
            (12, b"abc\0"),
            (19, b""),
        ] {
            raw.extend_from_slice(&[code, value.len() as u8]);
            raw.extend_from_slice(value);
        }
        let mut out = Vec::new();
        write(&raw, &mut out);
        let expected = [
            "  option agent.circuit-id \"p1/3\";\n",
            "  option agent.remote-id a4:2;\n",
            "  option agent.agent-id 1.2.3.4;\n",
            "  option agent.DOCSIS-device-class 2;\n",
            "  option agent.unknown-4 80;\n",
            "  option agent.unknown-9 \"a\\'b\\$c\\`d\\\"\\\\\";\n",
            "  option agent.unknown-12 61:62:63:0;\n",
            "  option agent.relay-port;\n",
        ];
        assert_eq!(String::from_utf8(out).unwrap(), expected.concat());
    }

    #[test]
    fn a_cut_sub_option_is_left_out() {
        assert_eq!(sub_options(&[1, 2, 7, 7, 2, 5, 1]).collect::<Vec<_>>(), [(1, [7, 7].as_slice())]);
    }
}
