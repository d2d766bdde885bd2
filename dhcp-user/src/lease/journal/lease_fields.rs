//! Reads the fields of one lease record.

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;

use super::agent::{self, Shape};
use super::cursor::{Cursor, Fault};
use super::date::{self, Civil};
use super::write::HARDWARE;
use crate::lease::record::{Billing, Lease, Value};
use crate::lease::state::BindingState;
use crate::lease::time::WallTime;

/// What was seen of a record's states, for what is missing.
#[derive(Debug, Default)]
struct Seen {
    state: Option<BindingState>,
    next: Option<BindingState>,
    rewind: Option<BindingState>,
}

/// Reads from behind the word `lease` to behind the closing brace.
///
/// dhcpd: without `binding state` a lease is active while it runs (and then free), free otherwise; a missing next or
/// rewind state is the state itself.
pub(super) fn parse(cursor: &mut Cursor<'_>, now: WallTime, scratch: &mut Vec<u8>) -> Result<Lease, Fault> {
    cursor.space()?;
    let mut lease = Lease::free(address(cursor)?);
    cursor.byte(b'{', "left brace expected")?;
    let mut seen = Seen::default();
    loop {
        // dhcpd's indentation, before a field.
        match cursor.rest() {
            [b'\n', b' ', b' ', b'a'..=b'z', ..] => cursor.skip(3),
            _ => cursor.space()?,
        }
        if cursor.peek()? == b'}' {
            cursor.skip(1);
            break;
        }
        let start = cursor.at();
        let word = cursor.word("lease field expected")?;
        field(word, start, cursor, &mut lease, &mut seen, scratch)?;
    }
    let (state, next) = match seen.state {
        Some(state) => (state, seen.next.unwrap_or(state)),
        None => {
            let has_events = lease.on_expiry.is_some() || lease.on_release.is_some();
            let is_running = lease.ends > now || has_events;
            let state = if is_running { BindingState::Active } else { BindingState::Free };
            (state, seen.next.unwrap_or(BindingState::Free))
        }
    };
    lease.state = state;
    lease.next_state = next;
    lease.rewind_state = seen.rewind.unwrap_or(state);
    Ok(lease)
}

fn field(
    word: &[u8],
    start: usize,
    cursor: &mut Cursor<'_>,
    lease: &mut Lease,
    seen: &mut Seen,
    scratch: &mut Vec<u8>,
) -> Result<(), Fault> {
    match word {
        b"starts" => lease.starts = time(cursor)?,
        b"ends" => lease.ends = time(cursor)?,
        b"tstp" => lease.tstp = time(cursor)?,
        b"tsfp" => lease.tsfp = time(cursor)?,
        b"atsfp" => lease.atsfp = time(cursor)?,
        b"cltt" => lease.cltt = time(cursor)?,
        b"binding" => binding(cursor, lease, seen)?,
        b"next" => seen.next = Some(other_state(cursor)?),
        b"rewind" => seen.rewind = Some(other_state(cursor)?),
        b"hardware" => lease.hw = Some(hardware(cursor, scratch)?),
        b"uid" => {
            cursor.string_or_octets(scratch, "client identifier expected")?;
            cursor.semicolon()?;
            // dhcpd: an empty identifier is none.
            lease.client_id = (!scratch.is_empty()).then(|| scratch.as_slice().into());
        }
        b"client-hostname" => {
            cursor.string(scratch)?;
            cursor.semicolon()?;
            lease.hostname = Some(scratch.as_slice().into());
        }
        b"set" => set(start, cursor, lease, scratch)?,
        b"option" => option(start, cursor, lease, scratch)?,
        b"on" => on(start, cursor, lease)?,
        _ => rare_field(word, start, cursor, lease, seen, scratch)?,
    }
    Ok(())
}

fn rare_field(
    word: &[u8],
    start: usize,
    cursor: &mut Cursor<'_>,
    lease: &mut Lease,
    seen: &mut Seen,
    scratch: &mut Vec<u8>,
) -> Result<(), Fault> {
    let lower = word.to_ascii_lowercase();
    match lower.as_slice() {
        b"reserved" => {
            cursor.semicolon()?;
            lease.is_reserved = true;
        }
        b"dynamic-bootp" => {
            cursor.semicolon()?;
            lease.is_bootp = true;
        }
        b"abandoned" => {
            cursor.semicolon()?;
            seen.state = Some(BindingState::Abandoned);
        }
        b"timestamp" => {
            // Written by version 2 when an offer was made; nothing reads it.
            time(cursor)?;
        }
        b"billing" => billing(cursor, lease, scratch)?,
        b"ddns-fwd-name" | b"ddns-rev-name" => {
            cursor.string(scratch)?;
            cursor.semicolon()?;
            let name = if lower == b"ddns-fwd-name" { "ddns-fwd-name" } else { "ddns-rev-name" };
            lease.variables.retain(|variable| &*variable.name != name);
            lease.set_variable(name, Value::Data(scratch.as_slice().into()));
        }
        _ if lower != word => field(&lower, start, cursor, lease, seen, scratch)?,
        _ => keep(start, cursor, lease)?,
    }
    Ok(())
}

/// Keeps a field that nobody here knows.
fn keep(start: usize, cursor: &mut Cursor<'_>, lease: &mut Lease) -> Result<(), Fault> {
    cursor.statement()?;
    let text = cursor.since(start);
    let mut kept = lease.unknown.take().map(Vec::from).unwrap_or_default();
    if !kept.is_empty() {
        kept.extend_from_slice(b"\n  ");
    }
    kept.extend_from_slice(text);
    lease.unknown = Some(kept.into());
    Ok(())
}

/// An IPv4 address.
fn address(cursor: &mut Cursor<'_>) -> Result<Ipv4Addr, Fault> {
    let mut octets = [0_u8; 4];
    for (index, octet) in octets.iter_mut().enumerate() {
        if index > 0 {
            if cursor.peek()? != b'.' {
                return Err(Fault::Bad("IP address expected"));
            }
            cursor.skip(1);
        }
        let mut value = 0_u32;
        let mut len = 0;
        while let digit @ b'0'..=b'9' = cursor.peek()? {
            value = value * 10 + u32::from(digit - b'0');
            len += 1;
            if len > 3 {
                return Err(Fault::Bad("IP address expected"));
            }
            cursor.skip(1);
        }
        *octet = u8::try_from(value).ok().filter(|_| len > 0).ok_or(Fault::Bad("IP address expected"))?;
    }
    Ok(octets.into())
}

/// A date and its semicolon: `W YYYY/MM/DD HH:MM:SS [OFFSET]`, `epoch N` or `never`.
pub(super) fn time(cursor: &mut Cursor<'_>) -> Result<WallTime, Fault> {
    if cursor.peek()? == b' ' {
        cursor.skip(1);
    }
    if let Some((time, len)) = date::parse_plain(cursor.rest()) {
        cursor.skip(len);
        return Ok(time);
    }
    cursor.space()?;
    let mut ahead = cursor.clone();
    // A wrong date is pointed at where it begins.
    let time = rare_time(&mut ahead)?;
    *cursor = ahead;
    Ok(time)
}

fn rare_time(cursor: &mut Cursor<'_>) -> Result<WallTime, Fault> {
    const EXPECTED: &str = "date expected";
    if cursor.peek()?.is_ascii_alphabetic() {
        let word = cursor.word(EXPECTED)?;
        let time = if word.eq_ignore_ascii_case(b"never") {
            WallTime::NEVER
        } else if word.eq_ignore_ascii_case(b"epoch") {
            WallTime::from_secs(cursor.number(EXPECTED)?)
        } else {
            return Err(Fault::Bad(EXPECTED));
        };
        cursor.semicolon()?;
        return Ok(time);
    }
    cursor.number(EXPECTED)?;
    let mut parts = [0_u32; 6];
    for (part, before) in parts.iter_mut().zip([None, Some(b'/'), Some(b'/'), None, Some(b':'), Some(b':')]) {
        if let Some(byte) = before {
            cursor.byte(byte, EXPECTED)?;
        }
        *part = u32::try_from(cursor.number(EXPECTED)?).map_err(|_| Fault::Bad(EXPECTED))?;
    }
    let [year, month, day, hour, minute, second] = parts;
    cursor.space()?;
    let mut offset_secs = 0_i64;
    if cursor.peek()? != b';' {
        let is_negative = cursor.peek()? == b'-';
        if is_negative {
            cursor.skip(1);
        }
        offset_secs = i64::from(u32::try_from(cursor.number(EXPECTED)?).map_err(|_| Fault::Bad(EXPECTED))?);
        if is_negative {
            offset_secs = -offset_secs;
        }
    }
    cursor.semicolon()?;
    Civil { year, month, day, hour, minute, second }.to_wall(offset_secs).ok_or(Fault::Bad(EXPECTED))
}

/// The state behind `before`, when it stands there exactly as dhcpd writes it.
fn plain_state(cursor: &mut Cursor<'_>, before: &[u8]) -> Option<BindingState> {
    let rest = cursor.rest().strip_prefix(before)?;
    let (state, len) = match rest {
        [b'a', b'c', b't', b'i', b'v', b'e', b';', ..] => (BindingState::Active, 7),
        [b'f', b'r', b'e', b'e', b';', ..] => (BindingState::Free, 5),
        [b'e', b'x', b'p', b'i', b'r', b'e', b'd', b';', ..] => (BindingState::Expired, 8),
        [b'b', b'a', b'c', b'k', b'u', b'p', b';', ..] => (BindingState::Backup, 7),
        _ => return None,
    };
    cursor.skip(before.len() + len);
    Some(state)
}

fn binding(cursor: &mut Cursor<'_>, lease: &mut Lease, seen: &mut Seen) -> Result<(), Fault> {
    if let Some(state) = plain_state(cursor, b" state ") {
        seen.state = Some(state);
        return Ok(());
    }
    cursor.keyword("state", "binding state expected")?;
    let word = cursor.next_word("binding state expected")?;
    if let Some(state) = BindingState::from_name(word) {
        seen.state = Some(state);
    } else if word.eq_ignore_ascii_case(b"bootp") {
        lease.is_bootp = true;
        seen.state = Some(BindingState::Active);
    } else if word.eq_ignore_ascii_case(b"reserved") {
        lease.is_reserved = true;
        seen.state = Some(BindingState::Active);
    } else {
        return Err(Fault::Bad("binding state expected"));
    }
    cursor.semicolon()
}

fn other_state(cursor: &mut Cursor<'_>) -> Result<BindingState, Fault> {
    if let Some(state) = plain_state(cursor, b" binding state ") {
        return Ok(state);
    }
    cursor.keyword("binding", "binding state expected")?;
    cursor.keyword("state", "binding state expected")?;
    let word = cursor.next_word("binding state expected")?;
    let state = BindingState::from_name(word).ok_or(Fault::Bad("binding state expected"))?;
    cursor.semicolon()?;
    Ok(state)
}

/// ` ethernet xx:xx:xx:xx:xx:xx;` when it stands exactly so.
fn plain_ethernet(cursor: &mut Cursor<'_>) -> Option<HwAddr> {
    const BEFORE: &[u8] = b" ethernet ";
    const LEN: usize = 18;
    let text = cursor.rest().strip_prefix(BEFORE)?.first_chunk::<LEN>()?;
    let mut mac = [0_u8; 6];
    for (octet, digits) in mac.iter_mut().zip(text.chunks_exact(3)) {
        let [high, low, b':' | b';'] = digits else { return None };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        *octet = (digit(high)? << 4 | digit(low)?) as u8;
    }
    if text.last() != Some(&b';') {
        return None;
    }
    cursor.skip(BEFORE.len() + LEN);
    Some(HwAddr::ethernet(mac))
}

fn hardware(cursor: &mut Cursor<'_>, scratch: &mut Vec<u8>) -> Result<HwAddr, Fault> {
    const EXPECTED: &str = "hardware address expected";
    if let Some(hw) = plain_ethernet(cursor) {
        return Ok(hw);
    }
    let word = cursor.next_word("hardware type expected")?;
    let named = HARDWARE.iter().find(|(_, name)| word.eq_ignore_ascii_case(name.as_bytes())).map(|(htype, _)| *htype);
    let numbered = || std::str::from_utf8(word.strip_prefix(b"unknown-")?).ok()?.parse().ok();
    let htype = named.or_else(numbered).ok_or(Fault::Bad("hardware type expected"))?;
    cursor.octets(scratch, EXPECTED)?;
    cursor.semicolon()?;
    HwAddr::new(htype, scratch).ok_or(Fault::Bad(EXPECTED))
}

fn set(start: usize, cursor: &mut Cursor<'_>, lease: &mut Lease, scratch: &mut Vec<u8>) -> Result<(), Fault> {
    let name = cursor.next_word("variable name expected")?;
    cursor.byte(b'=', "equal sign expected")?;
    cursor.space()?;
    let value = match cursor.peek()? {
        b'"' => {
            cursor.string(scratch)?;
            Some(Value::Data(scratch.as_slice().into()))
        }
        b'%' => {
            cursor.skip(1);
            cursor.space()?;
            let is_negative = cursor.peek()? == b'-';
            if is_negative {
                cursor.skip(1);
            }
            let number = cursor.number("number expected")?;
            let number = i64::try_from(number).map_err(|_| Fault::Bad("number expected"))?;
            Some(Value::Number(if is_negative { -number } else { number }))
        }
        byte if byte.is_ascii_alphabetic() => match cursor.word("value expected")? {
            b"true" => Some(Value::Boolean(true)),
            b"false" => Some(Value::Boolean(false)),
            _ => None,
        },
        _ => None,
    };
    // Anything but a constant, dhcpd would refuse; it is kept as it stands.
    let is_whole = value.is_some() && {
        cursor.space()?;
        cursor.peek()? == b';'
    };
    match (value, std::str::from_utf8(name)) {
        (Some(value), Ok(name)) if is_whole => {
            cursor.skip(1);
            // dhcpd: the first place that a name has in the file stays its place; here the order is kept as written.
            match lease.variables.iter_mut().find(|variable| &*variable.name == name) {
                Some(variable) => variable.value = value,
                None => lease.variables.push(crate::lease::record::Variable { name: name.into(), value }),
            }
            Ok(())
        }
        _ => keep(start, cursor, lease),
    }
}

fn option(start: usize, cursor: &mut Cursor<'_>, lease: &mut Lease, scratch: &mut Vec<u8>) -> Result<(), Fault> {
    let space = cursor.next_word("option name expected")?;
    if !space.eq_ignore_ascii_case(b"agent") || cursor.peek()? != b'.' {
        return keep(start, cursor, lease);
    }
    cursor.skip(1);
    let name = cursor.word("option name expected")?;
    let Some((code, shape)) = agent::code_of(name) else {
        return keep(start, cursor, lease);
    };
    cursor.space()?;
    scratch.clear();
    match (cursor.peek()?, shape) {
        (b';', _) => {}
        (b'"', _) => cursor.string(scratch)?,
        (_, Shape::Address) => {
            let mut ahead = cursor.clone();
            match address(&mut ahead) {
                Ok(address) => {
                    scratch.extend_from_slice(&address.octets());
                    *cursor = ahead;
                }
                Err(Fault::Bad(_)) => cursor.octets(scratch, "IP address expected")?,
                Err(Fault::End) => return Err(Fault::End),
            }
        }
        (_, Shape::Number) => {
            let mut ahead = cursor.clone();
            let number = ahead.number("number expected").and_then(|number| ahead.semicolon().map(|()| number));
            match number.map(u32::try_from) {
                Ok(Ok(number)) => {
                    scratch.extend_from_slice(&number.to_be_bytes());
                    cursor.number("number expected")?;
                }
                Ok(Err(_)) | Err(Fault::Bad(_)) => cursor.octets(scratch, "number expected")?,
                Err(Fault::End) => return Err(Fault::End),
            }
        }
        (_, Shape::Bytes | Shape::Nothing) => cursor.octets(scratch, "string or hex octets expected")?,
    }
    cursor.semicolon()?;
    let Ok(len) = u8::try_from(scratch.len()) else {
        return Err(Fault::Bad("agent option too long"));
    };
    let mut raw = lease.agent_options.take().map(Vec::from).unwrap_or_default();
    raw.extend_from_slice(&[code, len]);
    raw.extend_from_slice(scratch);
    lease.agent_options = Some(raw.into());
    Ok(())
}

fn billing(cursor: &mut Cursor<'_>, lease: &mut Lease, scratch: &mut Vec<u8>) -> Result<(), Fault> {
    let kind = cursor.next_word("class or subclass expected")?;
    let is_subclass = kind.eq_ignore_ascii_case(b"subclass");
    if !is_subclass && !kind.eq_ignore_ascii_case(b"class") {
        return Err(Fault::Bad("class or subclass expected"));
    }
    cursor.string(scratch)?;
    let class = scratch.as_slice().into();
    lease.billing = Some(if is_subclass {
        cursor.string_or_octets(scratch, "subclass value expected")?;
        Billing::Subclass(class, scratch.as_slice().into())
    } else {
        Billing::Class(class)
    });
    cursor.semicolon()
}

fn on(start: usize, cursor: &mut Cursor<'_>, lease: &mut Lease) -> Result<(), Fault> {
    let (mut expiry, mut release, mut is_known) = (false, false, true);
    loop {
        let event = cursor.next_word("event expected")?;
        match event {
            b"expiry" => expiry = true,
            b"release" => release = true,
            _ => is_known = false,
        }
        cursor.space()?;
        if cursor.peek()? == b'{' {
            cursor.skip(1);
            break;
        }
        cursor.keyword("or", "left brace expected")?;
    }
    if !is_known {
        let mut again = cursor.clone();
        again.block()?;
        *cursor = again;
        let text: Box<[u8]> = cursor.since(start).into();
        let mut kept = lease.unknown.take().map(Vec::from).unwrap_or_default();
        if !kept.is_empty() {
            kept.extend_from_slice(b"\n  ");
        }
        kept.extend_from_slice(&text);
        lease.unknown = Some(kept.into());
        return Ok(());
    }
    let body = cursor.block()?;
    if expiry {
        lease.on_expiry = Some(body.into());
    }
    if release {
        lease.on_release = Some(body.into());
    }
    Ok(())
}
