//! The frame of a step, made as clients and relays make theirs.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};

use crate::frames::{Envelope, Message};

/// Address of the server's interface.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The relay of the canary, in a subnet that no case knows.
pub const CANARY_RELAY: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 1);
/// Start of the canary's transactions; those of steps are below.
pub const CANARY_XID: u32 = 0xca00_0000;
/// What is appended to every configuration so that the canary is heard.
pub const CANARY_CONFIGURATION: &str = "subnet 10.255.255.0 netmask 255.255.255.0 { authoritative; \
     allow unknown-clients; allow booting; min-secs 0; ping-check false; pool { range 10.255.255.100 10.255.255.120; } }\n";

/// What a client remembers between its messages.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Words of `client` steps.
    pub habits: Vec<(String, String)>,
    /// Address and server of the last OFFER or ACK.
    pub offered: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Address and server of the last ACK.
    pub held: Option<(Ipv4Addr, Ipv4Addr)>,
}

/// A message, ready to be sent.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// The frame.
    pub frame: Vec<u8>,
    /// Its transaction.
    pub xid: u32,
    /// The client's Ethernet address.
    pub mac: [u8; 6],
    /// Addresses that the sender answers ARP requests for.
    pub own: Vec<(Ipv4Addr, [u8; 6])>,
    /// How long an answer may take that is not made at once, in milliseconds.
    pub wait_ms: Option<u64>,
}

/// The Ethernet address of a client: `a` is 02:00:00:00:00:01.
#[must_use]
pub fn mac_of(client: char) -> [u8; 6] {
    let number = u8::try_from(u32::from(client).saturating_sub(u32::from('a')).saturating_add(1)).unwrap_or(0);
    [2, 0, 0, 0, 0, number]
}

/// The Ethernet address of a relay.
#[must_use]
pub fn relay_mac(relay: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = relay.octets();
    [2, 0xee, a, b, c, d]
}

/// Makes the message of a step.
///
/// # Errors
/// When a word makes no sense, or the client has no lease to speak of.
pub fn say(
    memories: &BTreeMap<char, Memory>,
    client: char,
    verb: &str,
    target: Option<&str>,
    words: &[(String, String)],
    xid: u32,
    server_mac: [u8; 6],
) -> Result<Spoken> {
    let memory = memories.get(&client).cloned().unwrap_or_default();
    let mut said: Vec<(&str, &str)> = Vec::new();
    for (key, value) in memory.habits.iter().filter(|(key, _)| words.iter().all(|(other, _)| other != key)) {
        said.push((key, value));
    }
    said.extend(words.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let word = |wanted: &str| said.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value);
    let target = target.map(|target| address_of(memories, target)).transpose()?;
    let held =
        || target.or(memory.held.map(|held| held.0)).with_context(|| format!("client {client} holds no address"));
    let server = memory.held.or(memory.offered).map_or(SERVER, |known| known.1);

    let mut mac = mac_of(client);
    if let Some(own) = word("mac") {
        mac = *hex(own)?.first_chunk().context("a short mac")?;
    }
    let mut message = Message::request(0, mac, xid);
    message.options.clear();
    let mut envelope = Envelope::broadcast(mac);
    let mut state: Vec<(u8, Vec<u8>)> = Vec::new();
    let kind = match verb {
        "discover" => {
            if let Some(address) = target {
                state.push((50, address.octets().to_vec()));
            }
            Some(1)
        }
        "select" => {
            let (address, server) = memory.offered.with_context(|| format!("client {client} has no offer"))?;
            state.push((50, target.unwrap_or(address).octets().to_vec()));
            state.push((54, server.octets().to_vec()));
            Some(3)
        }
        "reboot" => {
            state.push((50, held()?.octets().to_vec()));
            Some(3)
        }
        "renew" => {
            message.ciaddr = held()?;
            envelope = Envelope::unicast(mac, message.ciaddr, server_mac, SERVER);
            Some(3)
        }
        "rebind" => {
            message.ciaddr = held()?;
            envelope.from.0 = message.ciaddr;
            Some(3)
        }
        "decline" => {
            state.push((50, held()?.octets().to_vec()));
            state.push((54, server.octets().to_vec()));
            Some(4)
        }
        "release" => {
            message.ciaddr = held()?;
            envelope = Envelope::unicast(mac, message.ciaddr, server_mac, SERVER);
            state.push((54, server.octets().to_vec()));
            Some(7)
        }
        "inform" => {
            message.ciaddr = target.or(memory.held.map(|held| held.0)).unwrap_or(Ipv4Addr::UNSPECIFIED);
            envelope.from.0 = message.ciaddr;
            Some(8)
        }
        "leasequery" => {
            message.ciaddr = target.unwrap_or(Ipv4Addr::UNSPECIFIED);
            Some(10)
        }
        "bootp" => None,
        "type" => Some(word("kind").context("`type` needs kind=N")?.parse()?),
        _ => bail!("nobody can `{verb}`"),
    };
    message.options.extend(kind.map(|kind| (53, vec![kind])));
    match word("server") {
        Some("none") => state.retain(|(code, _)| *code != 54),
        Some(server) => {
            state.retain(|(code, _)| *code != 54);
            state.push((54, address_of(memories, server)?.octets().to_vec()));
        }
        None => {}
    }
    message.options.extend(state);

    let mut wait_ms = None;
    let mut has_wishes = kind.is_none_or(|kind| matches!(kind, 4 | 7 | 10));
    for (key, value) in &said {
        let number = || value.parse::<u32>().with_context(|| format!("{key} is a number"));
        let code = match *key {
            "req" => {
                message.options.push((50, address_of(memories, value)?.octets().to_vec()));
                continue;
            }
            "prl" => {
                has_wishes = true;
                if *value != "none" {
                    let codes = value.split(',').map(str::parse).collect::<Result<Vec<u8>, _>>()?;
                    message.options.push((55, codes));
                }
                continue;
            }
            "lease" => {
                message.options.push((51, number()?.to_be_bytes().to_vec()));
                continue;
            }
            "max" => {
                message.options.push((57, u16::try_from(number()?)?.to_be_bytes().to_vec()));
                continue;
            }
            "id" => 61,
            "name" => 12,
            "vendor" => 60,
            "user" => 77,
            "agent" => {
                message.options.push((82, agent(value)?));
                continue;
            }
            "ci" => {
                message.ciaddr = address_of(memories, value)?;
                continue;
            }
            "gi" => {
                message.giaddr = value.parse()?;
                continue;
            }
            "secs" => {
                message.secs = u16::try_from(number()?)?;
                continue;
            }
            "hops" => {
                message.hops = u8::try_from(number()?)?;
                continue;
            }
            "flags" => {
                message.flags = u16::from_str_radix(value, 16)?;
                continue;
            }
            "htype" => {
                message.htype = u8::try_from(number()?)?;
                continue;
            }
            "hlen" => {
                message.hlen = u8::try_from(number()?)?;
                continue;
            }
            "file" => {
                fill(&mut message.file, &bytes(value)?);
                continue;
            }
            "sname" => {
                fill(&mut message.sname, &bytes(value)?);
                continue;
            }
            "pad" => {
                message.padded_to = usize::try_from(number()?)?;
                continue;
            }
            "src" | "cast" | "server" | "mac" | "kind" => continue,
            "wait" => {
                wait_ms = Some(u64::from(number()?));
                continue;
            }
            other => match other.strip_prefix('o').map(str::parse) {
                Some(Ok(code)) => code,
                _ => bail!("no such word: {other}={value}"),
            },
        };
        message.options.push((code, bytes(value)?));
    }
    if !has_wishes {
        message.options.push((55, vec![1, 3, 6, 15]));
    }

    let mut own = Vec::new();
    if message.ciaddr != Ipv4Addr::UNSPECIFIED {
        own.push((message.ciaddr, mac));
    }
    if message.giaddr != Ipv4Addr::UNSPECIFIED {
        let relay = relay_mac(message.giaddr);
        envelope = Envelope::relayed(relay, message.giaddr, server_mac, SERVER);
        own.push((message.giaddr, relay));
        // RFC 2131 4.1: who is asked by a relay was asked through it.
        message.hops = message.hops.max(1);
    }
    match word("cast") {
        Some("broadcast") => {
            envelope.to_mac = crate::frames::BROADCAST;
            envelope.to.0 = Ipv4Addr::BROADCAST;
        }
        Some("unicast") => {
            envelope.to_mac = server_mac;
            envelope.to.0 = SERVER;
        }
        Some(other) => bail!("no such cast: {other}"),
        None => {}
    }
    if let Some(source) = word("src") {
        envelope.from.0 = address_of(memories, source)?;
        own.push((envelope.from.0, mac));
    }
    Ok(Spoken { frame: envelope.wrap(&message.bytes()), xid, mac, own, wait_ms })
}

/// A question that every server answers at once with a NAK and without a lease: an address of another network.
#[must_use]
pub fn canary(number: u32, server_mac: [u8; 6]) -> Vec<u8> {
    let message = Message {
        giaddr: CANARY_RELAY,
        hops: 1,
        ..Message::request(3, [2, 0xfe, 0, 0, 0, 1], CANARY_XID.wrapping_add(number)).with(50, [192, 0, 2, 1])
    };
    Envelope::relayed(relay_mac(CANARY_RELAY), CANARY_RELAY, server_mac, SERVER).wrap(&message.bytes())
}

/// A DISCOVER, and with `offered` the REQUEST after it, of a client that comes last: its ACK is written behind
/// everything before.
#[must_use]
pub fn farewell(number: u32, offered: Option<(Ipv4Addr, Ipv4Addr)>, server_mac: [u8; 6]) -> Vec<u8> {
    let kind = if offered.is_some() { 3 } else { 1 };
    let mut message = Message::request(kind, [2, 0xfe, 0, 0, 0, 2], CANARY_XID.wrapping_add(number));
    message.giaddr = CANARY_RELAY;
    message.hops = 1;
    if let Some((address, server)) = offered {
        message = message.with(50, address.octets()).with(54, server.octets());
    }
    Envelope::relayed(relay_mac(CANARY_RELAY), CANARY_RELAY, server_mac, SERVER).wrap(&message.bytes())
}

/// An address, or that of another client: `$b`.
fn address_of(memories: &BTreeMap<char, Memory>, word: &str) -> Result<Ipv4Addr> {
    let Some(name) = word.strip_prefix('$') else {
        return word.parse().with_context(|| format!("`{word}` is no address"));
    };
    let memory = name.chars().next().and_then(|client| memories.get(&client));
    let known = memory.and_then(|memory| memory.held.or(memory.offered));
    Ok(known.with_context(|| format!("client {name} has no address"))?.0)
}

/// Text with `\xHH`, or `hex:` and hexadecimal digits.
fn bytes(word: &str) -> Result<Vec<u8>> {
    if let Some(digits) = word.strip_prefix("hex:") {
        return hex(digits);
    }
    let mut bytes = Vec::new();
    let mut pieces = word.split("\\x");
    bytes.extend(pieces.next().unwrap_or_default().bytes());
    for piece in pieces {
        bytes.extend(hex(piece.get(..2).context("\\x needs two digits")?)?);
        bytes.extend(piece.bytes().skip(2));
    }
    Ok(bytes)
}

/// Hexadecimal digits, colons between them ignored.
fn hex(digits: &str) -> Result<Vec<u8>> {
    let digits: Vec<char> = digits.chars().filter(|digit| *digit != ':').collect();
    digits.chunks(2).map(|pair| Ok(u8::from_str_radix(&pair.iter().collect::<String>(), 16)?)).collect()
}

/// Sub-options of option 82: `circuit:TEXT`, `remote:TEXT`, `link:ADDRESS`, `N:TEXT`, separated by commas.
fn agent(word: &str) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    for part in word.split(',') {
        let (name, value) = part.split_once(':').context("a sub-option is NAME:VALUE")?;
        let value = match name {
            "link" | "override" => value.parse::<Ipv4Addr>()?.octets().to_vec(),
            _ => match value.strip_prefix('#') {
                Some(digits) => hex(digits)?,
                None => bytes(value)?,
            },
        };
        let code = match name {
            "circuit" => 1,
            "remote" => 2,
            "link" => 5,
            "override" => 11,
            number => number.parse()?,
        };
        data.push(code);
        data.push(u8::try_from(value.len())?);
        data.extend(value);
    }
    Ok(data)
}

fn fill(field: &mut [u8], value: &[u8]) {
    for (byte, value) in field.iter_mut().zip(value) {
        *byte = *value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_options_in_their_order() {
        let words =
            [("name", "x"), ("agent", "circuit:p1,9:#0102"), ("prl", "3,1")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let spoken = say(&BTreeMap::new(), 'b', "discover", Some("10.77.0.60"), &words, 7, [9; 6]).unwrap();
        let payload = crate::frames::open(&spoken.frame).unwrap().payload;
        let wanted =
            [53, 1, 1, 50, 4, 10, 77, 0, 60, 12, 1, b'x', 82, 8, 1, 2, b'p', b'1', 9, 2, 1, 2, 55, 2, 3, 1, 255];
        assert_eq!(payload[240..240 + wanted.len()], wanted);
        assert_eq!(spoken.mac, [2, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn who_holds_nothing_cannot_renew() {
        assert!(say(&BTreeMap::new(), 'a', "renew", None, &[], 1, [9; 6]).is_err());
        assert!(say(&BTreeMap::new(), 'a', "sing", None, &[], 1, [9; 6]).is_err());
    }
}
