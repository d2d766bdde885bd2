//! Reads a reply by hand, down to the order of the options, and compares two.
//!
//! Nothing of the code under test is used. Options stay as they came: a code that was split over several options
//! (RFC 3396) stays split, and an option knows in which field it stood (RFC 2132 9.3).

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::frames::{COOKIE, Opened, open};

/// How far apart times of the two servers may be, in seconds: they play one after the other.
pub const TIMES_APART_SECS_MAX: u32 = 2;
/// Options that hold times which depend on when they are sent: 51, 58, 59, 91.
const TIMES: [u8; 4] = [51, 58, 59, 91];
/// Length of the fields before the cookie (RFC 2131 2).
const FIXED_LEN: usize = 236;

/// Where an option stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Behind the cookie.
    Options,
    /// In `file`.
    File,
    /// In `sname`.
    Sname,
}

/// A reply.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The datagram around it.
    pub datagram: Opened,
    /// Options as they came.
    pub options: Vec<(Area, u8, Vec<u8>)>,
}

impl Answer {
    /// Reads a frame; `None` when it is no BOOTREPLY.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let datagram = open(frame)?;
        let message = &datagram.payload;
        if message.first() != Some(&2) || message.get(FIXED_LEN..FIXED_LEN + 4)? != COOKIE.as_slice() {
            return None;
        }
        let mut options = Vec::new();
        walk(message.get(FIXED_LEN + 4..)?, Area::Options, &mut options);
        let overload = options.iter().find(|(_, code, _)| *code == 52).and_then(|(_, _, data)| data.first().copied());
        if matches!(overload, Some(1 | 3)) {
            walk(message.get(108..236)?, Area::File, &mut options);
        }
        if matches!(overload, Some(2 | 3)) {
            walk(message.get(44..108)?, Area::Sname, &mut options);
        }
        Some(Self { datagram, options })
    }

    /// Its transaction.
    #[must_use]
    pub fn xid(&self) -> u32 {
        u32::from_be_bytes(self.bytes(4))
    }

    /// `yiaddr`.
    #[must_use]
    pub fn yiaddr(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.bytes::<4>(16))
    }

    /// An option's data.
    #[must_use]
    pub fn option(&self, wanted: u8) -> Option<&[u8]> {
        self.options.iter().find(|(_, code, _)| *code == wanted).map(|(_, _, data)| data.as_slice())
    }

    /// Option 54.
    #[must_use]
    pub fn server(&self) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(*self.option(54)?.first_chunk::<4>()?))
    }

    /// The name of its type.
    #[must_use]
    pub fn kind(&self) -> String {
        let name = match self.option(53) {
            None => "reply",
            Some([2]) => "offer",
            Some([5]) => "ack",
            Some([6]) => "nak",
            Some([11]) => "unassigned",
            Some([12]) => "unknown",
            Some([13]) => "active",
            Some(other) => return format!("type{other:?}"),
        };
        name.to_owned()
    }

    /// One line: type, address, and when wished the codes of its options.
    #[must_use]
    pub fn shown(&self, has_codes: bool) -> String {
        let mut shown = self.kind();
        if self.yiaddr() != Ipv4Addr::UNSPECIFIED {
            let _ = write!(shown, " {}", self.yiaddr());
        }
        if has_codes {
            let codes: Vec<String> = self
                .options
                .iter()
                .map(|(area, code, data)| match (area, code, data.first_chunk::<4>()) {
                    (Area::File, _, _) => format!("file:{code}"),
                    (Area::Sname, _, _) => format!("sname:{code}"),
                    // dhcpd's endless leases end with its 31-bit clock: what is left of that is another number every second.
                    (Area::Options, 51, Some(time)) => match u32::from_be_bytes(*time) {
                        100_000_000..=0x7fff_ffff => String::from("51=2038"),
                        secs => format!("51={secs}"),
                    },
                    (Area::Options, _, _) => code.to_string(),
                })
                .collect();
            let _ = write!(shown, " [{}]", codes.join(" "));
        }
        shown
    }

    /// Everything, for a report.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.facts() {
            let _ = writeln!(text, "      {name}: {value}");
        }
        for (area, code, data) in &self.options {
            let _ = writeln!(text, "      {area:?} {code}: {}", hex(data));
        }
        text
    }

    /// Everything but the options, by name.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let message = &self.datagram.payload;
        let part = |from: usize, to: usize| hex(message.get(from..to).unwrap_or_default());
        let address = |at: usize| Ipv4Addr::from(self.bytes::<4>(at)).to_string();
        vec![
            ("Ethernet destination", hex(&self.datagram.to_mac)),
            ("Ethernet source", hex(&self.datagram.from_mac)),
            ("from", format!("{}:{}", self.datagram.from.0, self.datagram.from.1)),
            ("to", format!("{}:{}", self.datagram.to.0, self.datagram.to.1)),
            ("htype, hlen, hops", part(1, 4)),
            ("xid", part(4, 8)),
            ("secs", part(8, 10)),
            ("flags", part(10, 12)),
            ("ciaddr", address(12)),
            ("yiaddr", address(16)),
            ("siaddr", address(20)),
            ("giaddr", address(24)),
            ("chaddr", part(28, 44)),
            ("sname", text_or_hex(message.get(44..108).unwrap_or_default())),
            ("file", text_or_hex(message.get(108..236).unwrap_or_default())),
            ("length", message.len().to_string()),
        ]
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.datagram.payload.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
    }
}

/// Whether one line of [`Answer::shown`] is what was expected, times being allowed to have moved.
#[must_use]
pub fn is_shown_as(shown: &str, expected: &str) -> bool {
    let time = |word: &str| word.strip_prefix("51=")?.trim_end_matches(']').parse::<u32>().ok();
    let (shown, expected): (Vec<_>, Vec<_>) = (shown.split(' ').collect(), expected.split(' ').collect());
    shown.len() == expected.len()
        && shown.iter().zip(&expected).all(|(shown, expected)| match (time(shown), time(expected)) {
            (Some(shown), Some(expected)) => shown.abs_diff(expected) <= TIMES_APART_SECS_MAX,
            _ => shown == expected,
        })
}

/// In what the answers to one message differ; nothing when they agree.
#[must_use]
pub fn differences(theirs: &[Answer], ours: &[Answer], any_order: bool) -> Vec<String> {
    let shown = |answers: &[Answer]| match answers {
        [] => String::from("silence"),
        some => some.iter().map(|answer| answer.shown(true)).collect::<Vec<_>>().join(" and "),
    };
    if theirs.len() != ours.len() {
        return vec![format!("dhcpd: {}; xdhcpd: {}", shown(theirs), shown(ours))];
    }
    theirs.iter().zip(ours).flat_map(|(theirs, ours)| differences_of(theirs, ours, any_order)).collect()
}

fn differences_of(theirs: &Answer, ours: &Answer, any_order: bool) -> Vec<String> {
    let mut found = Vec::new();
    for ((name, theirs_value), (_, ours_value)) in theirs.facts().into_iter().zip(ours.facts()) {
        // Overloaded fields are compared as the options in them.
        let is_overloaded =
            matches!(name, "sname" | "file") && (theirs.option(52).is_some() || ours.option(52).is_some());
        if theirs_value != ours_value && !is_overloaded {
            found.push(format!("{name}: dhcpd {theirs_value}; xdhcpd {ours_value}"));
        }
    }
    if !ours.datagram.is_ip_sum_right {
        found.push(String::from("xdhcpd's IP checksum is wrong"));
    }
    let (mut left, mut right) = (theirs.options.clone(), ours.options.clone());
    if any_order {
        left.sort();
        right.sort();
    }
    let codes = |options: &[(Area, u8, Vec<u8>)]| -> Vec<(Area, u8)> {
        options.iter().map(|(area, code, _)| (*area, *code)).collect()
    };
    if codes(&left) != codes(&right) {
        found.push(format!("options: dhcpd {}; xdhcpd {}", theirs.shown(true), ours.shown(true)));
        for (area, code, data) in &left {
            if !right.iter().any(|(_, other, _)| other == code) {
                found.push(format!("  only dhcpd sent {code} ({area:?}) = {}", hex(data)));
            }
        }
        for (area, code, data) in &right {
            if !left.iter().any(|(_, other, _)| other == code) {
                found.push(format!("  only xdhcpd sent {code} ({area:?}) = {}", hex(data)));
            }
        }
    }
    for (_, code, data) in &left {
        let Some((_, _, other)) = right.iter().find(|(_, other, _)| other == code) else { continue };
        let is_unique = left.iter().filter(|(_, other, _)| other == code).count() == 1;
        if is_unique && !is_same(*code, data, other) {
            found.push(format!("option {code}: dhcpd {}; xdhcpd {}", hex(data), hex(other)));
        } else if !is_unique {
            let all = |options: &[(Area, u8, Vec<u8>)]| -> Vec<Vec<u8>> {
                options.iter().filter(|(_, other, _)| other == code).map(|(_, _, data)| data.clone()).collect()
            };
            let (theirs, ours) = (all(&left), all(&right));
            if theirs != ours {
                let lens = |parts: &[Vec<u8>]| parts.iter().map(Vec::len).collect::<Vec<_>>();
                let (theirs, ours) = (lens(&theirs), lens(&ours));
                found.push(format!("option {code}, in parts of so many bytes: dhcpd {theirs:?}; xdhcpd {ours:?}"));
            }
        }
    }
    found
}

/// Whether two values of an option are the same, times being allowed to have moved.
fn is_same(code: u8, theirs: &[u8], ours: &[u8]) -> bool {
    if theirs == ours {
        return true;
    }
    match (TIMES.contains(&code), <[u8; 4]>::try_from(theirs), <[u8; 4]>::try_from(ours)) {
        (true, Ok(theirs), Ok(ours)) => {
            u32::from_be_bytes(theirs).abs_diff(u32::from_be_bytes(ours)) <= TIMES_APART_SECS_MAX
        }
        _ => false,
    }
}

/// Reads options until END or the end.
fn walk(field: &[u8], area: Area, options: &mut Vec<(Area, u8, Vec<u8>)>) {
    let mut rest = field;
    loop {
        rest = match rest {
            [] | [255, ..] => return,
            [0, rest @ ..] => rest,
            [code, len, rest @ ..] if rest.len() >= usize::from(*len) => {
                let (data, rest) = rest.split_at(usize::from(*len));
                options.push((area, *code, data.to_vec()));
                rest
            }
            [code, ..] => {
                // Cut off: kept as an option nobody sends, so that it is seen in a report.
                options.push((area, *code, b"cut".to_vec()));
                return;
            }
        };
    }
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text_or_hex(field: &[u8]) -> String {
    let used = field.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let used = field.get(..used).unwrap_or_default();
    if used.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        format!("{:?}", String::from_utf8_lossy(used))
    } else {
        hex(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Envelope, Message};

    fn answer(options: &[(u8, &[u8])]) -> Answer {
        let mut message = Message::request(2, [2, 0, 0, 0, 0, 1], 5);
        message.op = 2;
        for (code, data) in options {
            message = message.with(*code, *data);
        }
        Answer::read(&Envelope::broadcast([1; 6]).wrap(&message.bytes())).unwrap()
    }

    #[test]
    fn order_is_part_of_an_answer_unless_it_is_said_to_differ() {
        let (one, other) = (answer(&[(1, &[1]), (3, &[3])]), answer(&[(3, &[3]), (1, &[1])]));
        assert!(differences(std::slice::from_ref(&one), std::slice::from_ref(&one), false).is_empty());
        assert!(!differences(std::slice::from_ref(&one), std::slice::from_ref(&other), false).is_empty());
        assert!(differences(&[one], &[other], true).is_empty());
    }

    #[test]
    fn silence_differs_from_an_answer_and_a_value_from_another() {
        let one = answer(&[(1, &[1])]);
        assert_eq!(differences(std::slice::from_ref(&one), &[], false).len(), 1);
        assert_eq!(differences(&[one], &[answer(&[(1, &[2])])], false).len(), 1);
    }

    #[test]
    fn what_was_recorded_is_recognised_a_second_later() {
        assert!(is_shown_as("ack 10.0.0.1 [53 51=199 1]", "ack 10.0.0.1 [53 51=200 1]"));
        assert!(is_shown_as("ack 10.0.0.1 [53 51=199]", "ack 10.0.0.1 [53 51=200]"));
        assert!(!is_shown_as("ack 10.0.0.1 [53 51=190 1]", "ack 10.0.0.1 [53 51=200 1]"));
        assert!(!is_shown_as("ack 10.0.0.1 [53 1]", "ack 10.0.0.1 [53 51=200 1]"));
        assert!(!is_shown_as("silence", "ack"));
    }

    #[test]
    fn only_times_may_have_moved_and_only_by_little() {
        let one = answer(&[(51, &[0, 0, 1, 44]), (26, &[5, 220])]);
        assert!(
            differences(std::slice::from_ref(&one), &[answer(&[(51, &[0, 0, 1, 42]), (26, &[5, 220])])], false)
                .is_empty()
        );
        assert_eq!(
            differences(std::slice::from_ref(&one), &[answer(&[(51, &[0, 0, 1, 40]), (26, &[5, 220])])], false).len(),
            1
        );
        assert_eq!(differences(&[one], &[answer(&[(51, &[0, 0, 1, 44]), (26, &[5, 221])])], false).len(), 1);
    }
}
