//! What two of ours tell each other of a lease beside the standard options: dhcpd's BNDUPD has no place for it.
//!
//! ```text
//!   tag 1, length 2, data       hostname | option 82 | variable: kind 1, length of name 1, name, data | question
//!   question: giaddr 4, VLAN tags 2 x 4, the client's option bytes but for option 54
//! ```
//!
//! Unknown tags are skipped: a newer partner may say more.

use std::net::Ipv4Addr;

use crate::lease::{Lease, Value};

const HOST_NAME: u8 = 1;
const RELAY_AGENT: u8 = 2;
const VARIABLE: u8 = 3;
const QUESTION: u8 = 4;

/// Bytes of all of it; leaves room for the rest of a message.
const LEN_MAX: usize = 1400;
/// Bytes of a question's head.
const HEAD_LEN: usize = 12;

/// What a client asked, as far as an answer may depend on it: enough to foresee its next question elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The relay, or zero.
    pub(crate) giaddr: Ipv4Addr,
    /// VLAN tags as they arrived.
    pub(crate) vlan: [u32; 2],
    /// Option bytes without option 54, END and padding included.
    pub(crate) options: Box<[u8]>,
}

/// What a partner told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extra {
    hostname: Option<Box<[u8]>>,
    agent_options: Option<Box<[u8]>>,
    variables: Vec<(String, Value)>,
    /// The client's question.
    pub(crate) asked: Option<Asked>,
}

impl Extra {
    /// Writes what belongs to the client into its lease.
    pub(crate) fn write_to(&self, lease: &mut Lease) {
        lease.hostname.clone_from(&self.hostname);
        lease.agent_options.clone_from(&self.agent_options);
        lease.variables.clear();
        for (name, value) in self.variables.iter().rev() {
            lease.set_variable(name, value.clone());
        }
    }
}

/// Writes what a partner of ours should know; what does not fit is left out, the question first.
pub(crate) fn write(lease: &Lease, asked: Option<&Asked>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(name) = &lease.hostname {
        put(&mut bytes, HOST_NAME, &[name]);
    }
    if let Some(agent) = &lease.agent_options {
        put(&mut bytes, RELAY_AGENT, &[agent]);
    }
    for variable in &lease.variables {
        let name = variable.name.as_bytes();
        let Ok(name_len) = u8::try_from(name.len()) else { continue };
        let (kind, data) = match &variable.value {
            Value::Data(data) => (0, data.to_vec()),
            Value::Number(number) => (1, number.to_be_bytes().to_vec()),
            Value::Boolean(flag) => (2, vec![u8::from(*flag)]),
        };
        put(&mut bytes, VARIABLE, &[&[kind, name_len], name, &data]);
    }
    if let Some(asked) = asked {
        let [outer, inner] = asked.vlan.map(u32::to_be_bytes);
        put(&mut bytes, QUESTION, &[&asked.giaddr.octets(), &outer, &inner, &asked.options]);
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    if let Ok(short) = u16::try_from(len)
        && bytes.len().saturating_add(len).saturating_add(3) <= LEN_MAX
    {
        bytes.push(tag);
        bytes.extend(short.to_be_bytes());
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
    }
}

/// Reads what a partner wrote; what makes no sense is left out.
pub(crate) fn read(bytes: &[u8]) -> Extra {
    let mut extra = Extra::default();
    let mut rest = bytes;
    while let [tag, high, low, after @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((data, next)) = after.split_at_checked(len) else { break };
        rest = next;
        match *tag {
            HOST_NAME => extra.hostname = Some(data.into()),
            RELAY_AGENT => extra.agent_options = Some(data.into()),
            VARIABLE => extra.variables.extend(variable(data)),
            QUESTION => extra.asked = question(data),
            _ => {}
        }
    }
    extra
}

fn variable(data: &[u8]) -> Option<(String, Value)> {
    let [kind, name_len, rest @ ..] = data else { return None };
    let (name, value) = rest.split_at_checked(usize::from(*name_len))?;
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.iter().all(is_name) {
        return None;
    }
    let value = match kind {
        0 => Value::Data(value.into()),
        1 => Value::Number(i64::from_be_bytes(value.try_into().ok()?)),
        2 => Value::Boolean(value == [1]),
        _ => return None,
    };
    Some((String::from_utf8_lossy(name).into_owned(), value))
}

fn question(data: &[u8]) -> Option<Asked> {
    let (head, options) = data.split_at_checked(HEAD_LEN)?;
    let [a, b, c, d, outer @ .., _, _, _, _] = head else { return None };
    let outer = u32::from_be_bytes(outer.try_into().ok()?);
    let inner = u32::from_be_bytes(head.get(8..)?.try_into().ok()?);
    Some(Asked { giaddr: Ipv4Addr::new(*a, *b, *c, *d), vlan: [outer, inner], options: options.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        let mut lease = Lease::free(Ipv4Addr::new(10, 0, 0, 1));
        lease.hostname = Some((*b"portable").into());
        lease.agent_options = Some([1, 2, b'p', b'1'].into());
        lease.set_variable("flag", Value::Boolean(true));
        lease.set_variable("count", Value::Number(-7));
        lease.set_variable("vendor-class-identifier", Value::Data((*b"x\0y").into()));
        lease
    }

    fn asked() -> Asked {
        Asked { giaddr: Ipv4Addr::new(10, 9, 8, 7), vlan: [0x8100_0005, 7], options: [53, 1, 3, 255].into() }
    }

    #[test]
    fn a_partner_reads_what_was_written() {
        let bytes = write(&lease(), Some(&asked()));
        let extra = read(&bytes);
        assert_eq!(extra.asked, Some(asked()));
        let mut copy = Lease::free(Ipv4Addr::new(10, 0, 0, 1));
        extra.write_to(&mut copy);
        assert_eq!(copy, lease());
    }

    #[test]
    fn nonsense_is_left_out_wherever_it_is_cut() {
        let bytes = write(&lease(), Some(&asked()));
        for end in 0..bytes.len() {
            let _ = read(&bytes[..end]);
            for change in [0, 1, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[end] ^= change;
                let _ = read(&bytes);
            }
        }
        assert_eq!(read(&[VARIABLE, 0, 4, 0, 1, b';', 1]).variables, []);
        assert_eq!(read(&[99, 0, 1, 7, HOST_NAME, 0, 1, b'a']).hostname.as_deref(), Some(&b"a"[..]));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let long = Asked { options: vec![0; 2000].into(), ..asked() };
        let bytes = write(&lease(), Some(&long));
        assert!(bytes.len() <= LEN_MAX);
        assert_eq!(read(&bytes).asked, None);
        assert!(read(&bytes).hostname.is_some());
    }
}
