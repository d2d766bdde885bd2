//! Values that statements share: numbers, times, dates, addresses, names, octets.

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;

use super::{Parsed, Parser, Place, Reported};
use crate::config::lexer::{Kind, Token, is_word_byte, scan};
use crate::config::limits::TOKEN_LEN_MAX;
use crate::config::model::{Address, HostName};
use crate::config::span::Span;

/// Latest instant a date can name: dhcpd's `never`.
const NEVER: u32 = 0x7fff_ffff;

impl Parser<'_> {
    /// A number in decimal, `0x` hexadecimal or leading-zero octal, within `min..=max`.
    pub(super) fn number(&mut self, min: i64, max: i64) -> Parsed<i64> {
        let token = self.peek();
        if !matches!(token.kind, Kind::Number | Kind::NumberOrName) {
            return self.fail(token.span, "expected a number", format!("from {min} to {max}"));
        }
        let text = self.text(token);
        let (sign, digits) = text.strip_prefix('-').map_or((1, &*text), |rest| (-1, rest));
        let lower = digits.to_ascii_lowercase();
        let parsed = if let Some(hex) = lower.strip_prefix("0x") {
            i64::from_str_radix(hex, 16)
        } else if lower.len() > 1 && lower.starts_with('0') {
            i64::from_str_radix(&lower, 8)
        } else {
            lower.parse()
        };
        let Ok(value) = parsed else {
            return self.fail(token.span, format!("`{text}` is not a number"), format!("from {min} to {max}"));
        };
        let value = value.saturating_mul(sign);
        if value < min || value > max {
            return self.fail(token.span, format!("{text} is out of range"), format!("from {min} to {max}"));
        }
        self.next();
        Ok(value)
    }

    /// An unsigned number of at most 32 bits.
    pub(super) fn unsigned(&mut self, max: u32) -> Parsed<u32> {
        self.number(0, i64::from(max)).map(|value| u32::try_from(value).unwrap_or(max))
    }

    /// A time: seconds, or `infinite`; -1 is the same as that.
    pub(super) fn time(&mut self) -> Parsed<u32> {
        if self.eat_word("infinite") {
            return Ok(u32::MAX);
        }
        let token = self.peek();
        if !matches!(token.kind, Kind::Number | Kind::NumberOrName) {
            self.error(token.span, "expected a time", "seconds, or `infinite`");
            return Err(Reported);
        }
        let value = self.number(-1, i64::from(u32::MAX))?;
        // A unit behind the number would be the next token, or part of this one.
        Ok(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// A date: `never`, `epoch N`, or `W YYYY/MM/DD HH:MM:SS [offset]`; seconds since 1970.
    pub(super) fn date(&mut self) -> Parsed<u32> {
        if self.eat_word("never") {
            return Ok(NEVER);
        }
        if self.eat_word("epoch") {
            let secs = self.number(0, i64::MAX)?;
            return Ok(u32::try_from(secs).unwrap_or(NEVER).min(NEVER));
        }
        self.decimal(0, 6, "a day of the week, 0 to 6")?;
        let year = self.decimal(0, 9999, "a year")?;
        // dhcpd: years of two digits count from 1900.
        let year = if year < 1900 { year.saturating_add(1900) } else { year };
        self.expect(b'/')?;
        let month = self.decimal(1, 12, "a month")?;
        self.expect(b'/')?;
        let day = self.decimal(1, 31, "a day of the month")?;
        let hour = self.decimal(0, 23, "an hour")?;
        self.expect(b':')?;
        let minute = self.decimal(0, 59, "a minute")?;
        self.expect(b':')?;
        let second = self.decimal(0, 60, "a second")?;
        let offset = if self.peek().kind == Kind::Number { self.number(-86_400, 86_400)? } else { 0 };
        if year >= 2038 {
            return Ok(NEVER);
        }
        let days = days_from_civil(year, month, day);
        let secs = days
            .saturating_mul(86_400)
            .saturating_add(hour.saturating_mul(3600))
            .saturating_add(minute.saturating_mul(60))
            .saturating_add(second)
            .saturating_sub(offset);
        Ok(u32::try_from(secs.max(0)).unwrap_or(NEVER).min(NEVER))
    }

    /// A number in decimal, leading zeros allowed.
    fn decimal(&mut self, min: i64, max: i64, what: &str) -> Parsed<i64> {
        let token = self.peek();
        let value: Option<i64> = if token.kind == Kind::Number { self.text(token).parse().ok() } else { None };
        match value {
            Some(value) if (min..=max).contains(&value) => {
                self.next();
                Ok(value)
            }
            Some(_) | None => self.fail(
                token.span,
                format!("expected {what}"),
                "a date is `never`, `epoch N` or `W YYYY/MM/DD HH:MM:SS`, UTC",
            ),
        }
    }

    /// Whether an address in digits begins here.
    fn at_address(&self) -> bool {
        self.peek().kind == Kind::Number
            && self.peek_at(1).kind == Kind::Punct(b'.')
            && self.peek_at(2).kind == Kind::Number
    }

    /// Takes what was read at once from the next token's first byte up to an offset, of which the last token began at
    /// `last`; not when `glue` follows, which would go on with it.
    fn take_at_once(&mut self, last: usize, end: usize, glue: u8) -> Option<Span> {
        let input = self.inputs.last()?;
        if input.text.get(end).is_some_and(|byte| is_word_byte(*byte)) {
            return None;
        }
        let start = self.token.span;
        let behind = scan(&input.text, input.file, end);
        if behind.kind == Kind::Punct(glue) {
            return None;
        }
        self.token = behind;
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.last = Span { start: offset(last), end: offset(end), ..start };
        Some(start.to(self.last))
    }

    /// The text from the next token on.
    fn rest(&self) -> &[u8] {
        let text = self.inputs.last().map_or(&[][..], |input| &**input.text);
        text.get(self.token.span.start as usize..).unwrap_or_default()
    }

    /// An address in digits as it is nearly always written: without blanks.
    fn plain_ip(&mut self) -> Option<(Ipv4Addr, Span)> {
        let rest = self.rest();
        let mut octets = [0_u8; 4];
        let (mut at, mut last) = (0_usize, 0_usize);
        for (place, octet) in octets.iter_mut().enumerate() {
            if place > 0 {
                if rest.get(at) != Some(&b'.') {
                    return None;
                }
                at = at.saturating_add(1);
            }
            last = at;
            let mut value = 0_u32;
            while let Some(digit) = rest.get(at).filter(|byte| byte.is_ascii_digit()) {
                value = value.saturating_mul(10).saturating_add(u32::from(digit.wrapping_sub(b'0')));
                at = at.saturating_add(1);
            }
            if at == last {
                return None;
            }
            *octet = u8::try_from(value).ok()?;
        }
        let first = self.token.span.start as usize;
        let span = self.take_at_once(first.saturating_add(last), first.saturating_add(at), b'.')?;
        Some((Ipv4Addr::from(octets), span))
    }

    /// Octets as they are nearly always written: one or two digits each, no blanks, not more than a hardware address.
    fn plain_octets(&mut self) -> Option<([u8; HwAddr::LEN_MAX], usize)> {
        let rest = self.rest();
        let mut octets = [0_u8; HwAddr::LEN_MAX];
        let mut count = 0_usize;
        let mut at = 0_usize;
        let last = loop {
            let digit = |at: usize| rest.get(at).and_then(|byte| char::from(*byte).to_digit(16));
            let mut value = digit(at)?;
            let first = at;
            at = at.saturating_add(1);
            if let Some(low) = digit(at) {
                value = value << 4 | low;
                at = at.saturating_add(1);
            }
            *octets.get_mut(count)? = u8::try_from(value).ok()?;
            count = count.saturating_add(1);
            if rest.get(at) != Some(&b':') {
                break first;
            }
            at = at.saturating_add(1);
        };
        let first = self.token.span.start as usize;
        self.take_at_once(first.saturating_add(last), first.saturating_add(at), b':')?;
        Some((octets, count))
    }

    /// An address in digits.
    pub(super) fn ip(&mut self) -> Parsed<(Ipv4Addr, Span)> {
        let start = self.peek();
        if start.kind == Kind::Number
            && let Some(plain) = self.plain_ip()
        {
            return Ok(plain);
        }
        if start.kind != Kind::Number {
            return self.fail(start.span, "expected an IPv4 address", "four numbers with dots, as in 192.0.2.1");
        }
        let mut octets = [0_u8; 4];
        for (place, octet) in octets.iter_mut().enumerate() {
            if place > 0 {
                if !self.at(b'.') {
                    let span = start.span.to(self.last);
                    return self.fail(span, "expected an IPv4 address", "four numbers with dots, as in 192.0.2.1");
                }
                self.next();
            }
            let token = self.peek();
            let value = if token.kind == Kind::Number { self.text(token).parse().ok() } else { None };
            let Some(value) = value else {
                return self.fail(token.span, "expected a number from 0 to 255", "part of an IPv4 address");
            };
            *octet = value;
            self.next();
        }
        let span = start.span.to(self.last);
        if self.at(b'.') {
            return self.fail(span.to(self.peek().span), "expected an IPv4 address", "this has more than four numbers");
        }
        Ok((Ipv4Addr::from(octets), span))
    }

    /// An address in digits, or a name that stands for one or more.
    pub(super) fn address(&mut self) -> Parsed<(Address, Span)> {
        if self.peek().kind == Kind::Number
            && let Some((address, span)) = self.plain_ip()
        {
            return Ok((Address::Literal(address), span));
        }
        if self.at_address() {
            let (address, span) = self.ip()?;
            return Ok((Address::Literal(address), span));
        }
        let token = self.peek();
        if !Self::is_word(token) && token.kind != Kind::Number {
            let found = if token.kind == Kind::String { "write it without quotes" } else { "" };
            return self.fail(token.span, "expected an IPv4 address or a host name", found);
        }
        let (name, span) = self.dotted_name("a host name")?;
        // Each name takes bytes of a text whose offsets are 32 bits.
        Ok((Address::Name(self.host_name_place(&name) as u32), span))
    }

    /// The place of a name in the list of names to resolve.
    pub(super) fn host_name_place(&mut self, name: &str) -> usize {
        if let Some(place) = self.name_places.get(name) {
            return *place;
        }
        let place = self.config.names.len();
        self.config.names.push((name.into(), Vec::new()));
        self.name_places.insert(name.into(), place);
        place
    }

    /// A name as it is nearly always written: words and numbers joined by dots, without blanks.
    fn plain_name(&mut self) -> Option<Span> {
        if !Self::is_word(self.peek()) && self.peek().kind != Kind::Number {
            return None;
        }
        let rest = self.rest();
        let (mut at, mut last) = (0_usize, 0_usize);
        while let Some(byte) = rest.get(at) {
            if *byte == b'.' {
                last = at.saturating_add(1);
                rest.get(last).filter(|byte| byte.is_ascii_alphanumeric())?;
            } else if !is_word_byte(*byte) {
                break;
            }
            at = at.saturating_add(1);
        }
        if at > TOKEN_LEN_MAX {
            return None;
        }
        let first = self.token.span.start as usize;
        self.take_at_once(first.saturating_add(last), first.saturating_add(at), b'.')
    }

    /// The name of a host declaration, added to those of all others.
    pub(super) fn declared_name(&mut self) -> Parsed<(HostName, Span)> {
        let start = self.config.declared_names.len();
        let span = match self.plain_name() {
            Some(span) => {
                let text = self.inputs.last().map_or(&[][..], |input| &**input.text);
                let name = text.get(span.start as usize..span.end as usize).unwrap_or_default();
                self.config.declared_names.push_str(std::str::from_utf8(name).unwrap_or_default());
                span
            }
            None => {
                let (name, span) = self.dotted_name("a name for the host")?;
                self.config.declared_names.push_str(&name);
                span
            }
        };
        // All names together are no longer than the text, whose offsets are 32 bits.
        let name = HostName { start: start as u32, end: self.config.declared_names.len() as u32 };
        Ok((name, span))
    }

    /// Words and numbers joined by dots: names of hosts, domains, networks.
    pub(super) fn dotted_name(&mut self, what: &str) -> Parsed<(String, Span)> {
        if let Some(span) = self.plain_name() {
            let token = Token { kind: Kind::Name, span };
            return Ok((self.text(token), span));
        }
        let start = self.peek();
        let mut name = String::new();
        loop {
            let token = self.peek();
            if !Self::is_word(token) && token.kind != Kind::Number {
                if name.is_empty() {
                    return self.fail(token.span, format!("expected {what}"), "");
                }
                // A trailing dot ends a name that is complete.
                break;
            }
            // Words and numbers are ASCII.
            name.push_str(std::str::from_utf8(self.raw(token)).unwrap_or_default());
            self.next();
            if !self.at(b'.') {
                break;
            }
            self.next();
            name.push('.');
        }
        Ok((name, start.span.to(self.last)))
    }

    /// Octets in hexadecimal, separated by colons.
    pub(super) fn octets(&mut self) -> Parsed<Vec<u8>> {
        if matches!(self.peek().kind, Kind::Number | Kind::NumberOrName)
            && let Some((octets, count)) = self.plain_octets()
        {
            return Ok(octets.get(..count).unwrap_or_default().to_vec());
        }
        let mut bytes = Vec::new();
        loop {
            bytes.push(self.octet()?);
            if !self.at(b':') {
                return Ok(bytes);
            }
            self.next();
        }
    }

    fn octet(&mut self) -> Parsed<u8> {
        let token = self.peek();
        if !matches!(token.kind, Kind::Number | Kind::NumberOrName) {
            return self.fail(token.span, "expected a hexadecimal octet", "from 0 to ff");
        }
        let text = std::str::from_utf8(self.raw(token)).unwrap_or_default();
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        let Ok(value) = u8::from_str_radix(digits, 16) else {
            let message = format!("`{text}` is not a hexadecimal octet");
            return self.fail(token.span, message, "from 0 to ff");
        };
        self.next();
        Ok(value)
    }

    /// Quoted text or hexadecimal octets.
    pub(super) fn string_or_octets(&mut self) -> Parsed<Vec<u8>> {
        let token = self.peek();
        match token.kind {
            Kind::String => {
                self.next();
                Ok(self.string_bytes(token))
            }
            Kind::Number | Kind::NumberOrName => self.octets(),
            Kind::Name | Kind::Punct(_) | Kind::End => {
                self.fail(token.span, "expected quoted text or hexadecimal octets", "as in \"abc\" or 61:62:63")
            }
        }
    }

    /// A quoted string, as text.
    pub(super) fn quoted(&mut self, what: &str) -> Parsed<(String, Span)> {
        let token = self.peek();
        if token.kind != Kind::String {
            return self.fail(token.span, format!("expected {what} in quotes"), "");
        }
        self.next();
        Ok((String::from_utf8_lossy(&self.string_bytes(token)).into_owned(), token.span))
    }

    /// A word, as it is written.
    pub(super) fn word(&mut self, what: &str) -> Parsed<(String, Token)> {
        let token = self.peek();
        if !Self::is_word(token) {
            let label = if token.kind == Kind::String { "write it without quotes" } else { "" };
            return self.fail(token.span, format!("expected {what}"), label);
        }
        self.next();
        Ok((self.text(token), token))
    }

    /// `on`, `true` = 1, `off`, `false` = 0, `ignore` = 2.
    pub(super) fn flag(&mut self) -> Parsed<u8> {
        let token = self.peek();
        let text = self.text(token).to_ascii_lowercase();
        let value = match &*text {
            "on" | "true" => 1,
            "off" | "false" => 0,
            "ignore" => 2,
            _ => {
                self.error(token.span, "expected a flag", "one of `on`, `off`, `true`, `false`");
                match &*text {
                    "yes" | "1" => self.note("write `on`: dhcpd does not know this spelling"),
                    "no" | "0" => self.note("write `off`: dhcpd does not know this spelling"),
                    _ => {}
                }
                return Err(Reported);
            }
        };
        self.next();
        Ok(value)
    }

    /// `TYPE OCTETS` of `hardware`.
    pub(super) fn hardware(&mut self) -> Parsed<HwAddr> {
        let token = self.peek();
        if !Self::is_word(token) {
            self.word("a hardware type")?;
        }
        let kind = self.lower(token);
        self.next();
        let htype = match kind.as_str() {
            "ethernet" => 1,
            "token-ring" => 6,
            "fddi" => 8,
            "infiniband" => 32,
            other => match other.strip_prefix("unknown-").and_then(|number| number.parse().ok()) {
                Some(number) => number,
                None => {
                    let kind = self.text(token);
                    self.error(
                        token.span,
                        format!("unknown hardware type `{kind}`"),
                        "one of `ethernet`, `token-ring`, `fddi`, `infiniband`, `unknown-N`",
                    );
                    return Err(Reported);
                }
            },
        };
        let start = self.peek();
        let plain = if matches!(start.kind, Kind::Number | Kind::NumberOrName) { self.plain_octets() } else { None };
        let many;
        let bytes = match &plain {
            Some((octets, count)) => octets.get(..*count).unwrap_or_default(),
            None => {
                many = self.octets()?;
                &*many
            }
        };
        let span = start.span.to(self.last);
        if htype == 1 && bytes.len() != 6 {
            self.warning(span, "an Ethernet address has six octets", format!("this has {}", bytes.len()));
        }
        match HwAddr::new(htype, bytes) {
            Some(hw) => Ok(hw),
            None => self.fail(span, "hardware address too long", format!("at most {} octets", HwAddr::LEN_MAX)),
        }
    }

    /// Refuses a declaration where it may not stand.
    pub(super) fn misplaced<T>(&mut self, span: Span, what: &str, place: Place, allowed: &str) -> Parsed<T> {
        self.fail(span, format!("`{what}` is not allowed in {}", place.name()), format!("allowed in {allowed}"))
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last one; 400 years have 146097 days.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let month = (month + 9).rem_euclid(12);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::days_from_civil;

    #[test]
    fn dates_are_counted_from_1970() {
        for (date, days) in
            [((1970, 1, 1), 0), ((2000, 2, 29), 11_016), ((2000, 3, 1), 11_017), ((2026, 11, 22), 20_779)]
        {
            assert_eq!(days_from_civil(date.0, date.1, date.2), days, "{date:?}");
        }
    }
}
