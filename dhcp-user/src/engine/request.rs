//! A message as the engine sees it: fixed fields, options, the network it came from.

use std::{fmt, net::Ipv4Addr};

use dhcp_ebpf::wire::{
    dhcp::{BOOTREQUEST, COOKIE, COOKIE_AT, Header, HwAddr, MessageType, OPTIONS_AT, TAIL_AT},
    option::{Options, code},
};

use crate::config::{Config, Malformed, Membership, ReceivedOptions, SharedNetworkId, SubnetId};

use super::{
    limits::{HOST_NAME_LEN_MAX, MESSAGE_LEN_MAX},
    port::{Interface, InterfaceIndex, Received},
    status::Reason,
};

/// A message that could be read.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    /// As it arrived.
    pub(crate) received: Received<'a>,
    /// The fixed fields.
    pub(crate) header: Header,
    /// The client's hardware address.
    pub(crate) hw: HwAddr,
    /// The options, with a stashed option 82 if there is one.
    pub(crate) options: ReceivedOptions,
    /// Option 53; `None` = BOOTP.
    pub(crate) kind: Option<MessageType>,
    /// The network the client is on, if known.
    pub(crate) network: Option<SharedNetworkId>,
    /// The classes the client is in.
    pub(crate) membership: Membership,
    /// The first address of the receiving interface.
    pub(crate) interface_address: Option<Ipv4Addr>,
    /// Name of the receiving interface.
    pub(crate) interface_name: &'a str,
    /// Option 82 was not in the message: it is what the lease remembers, and is not sent back.
    pub(crate) is_stashed: bool,
    /// Somebody wants to know what sets the values of the reply.
    pub(crate) explains: bool,
}

impl<'a> Request<'a> {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// Why it cannot be read; it is then dropped and counted.
    pub(crate) fn parse(received: Received<'a>, interface: &'a Interface) -> Result<Self, Reason> {
        let message = received.message;
        if message.len() > MESSAGE_LEN_MAX {
            return Err(Reason::Long);
        }
        let header = Header::parse(message, 0).ok_or(Reason::Short)?;
        if header.op != BOOTREQUEST {
            return Err(Reason::NotRequest);
        }
        let hw = header.hw_addr().ok_or(Reason::HardwareLength)?;
        let cookie = message.get(COOKIE_AT..OPTIONS_AT).ok_or(Reason::Short)?;
        if cookie != COOKIE {
            return Err(Reason::Cookie);
        }
        let mut options = ReceivedOptions::parse(message).map_err(|malformed| match malformed {
            Malformed::Short => Reason::Short,
            Malformed::Cookie => Reason::Cookie,
            Malformed::LengthMissing => Reason::OptionLengthMissing,
            Malformed::PastTheEnd => Reason::OptionPastTheEnd,
        })?;
        if let Some(agent) = options.get(code::RELAY_AGENT) {
            let sound = sound_part(agent);
            if sound.is_empty() {
                options.remove(code::RELAY_AGENT);
            } else if sound.len() < agent.len() {
                let sound = sound.to_vec();
                options.set(code::RELAY_AGENT, &sound);
            }
        }
        let kind = match options.get(code::MESSAGE_TYPE) {
            None => None,
            Some(&[number]) => Some(MessageType::from_number(number).ok_or(Reason::MessageTypeUnknown)?),
            Some(_) => return Err(Reason::MessageTypeLength),
        };
        Ok(Self {
            received,
            header,
            hw,
            options,
            kind,
            network: None,
            membership: Membership::none(),
            interface_address: interface.addresses.first().map(|(address, _)| *address),
            interface_name: &interface.name,
            is_stashed: false,
            explains: false,
        })
    }

    /// `ciaddr`, unless zero.
    pub(crate) fn ciaddr(&self) -> Option<Ipv4Addr> {
        some_address(self.header.ciaddr)
    }

    /// `giaddr`, unless zero.
    pub(crate) fn giaddr(&self) -> Option<Ipv4Addr> {
        some_address(self.header.giaddr)
    }

    /// Option 50, if it is an address.
    pub(crate) fn requested(&self) -> Option<Ipv4Addr> {
        self.address_option(code::REQUESTED_ADDRESS)
    }

    /// Option 54, if it is an address.
    pub(crate) fn server_id(&self) -> Option<Ipv4Addr> {
        self.address_option(code::SERVER_IDENTIFIER)
    }

    /// Option 61, unless empty.
    pub(crate) fn client_id(&self) -> Option<&[u8]> {
        self.options.get(code::CLIENT_IDENTIFIER).filter(|id| !id.is_empty())
    }

    /// Option 57.
    pub(crate) fn message_size(&self) -> Option<u16> {
        self.options.get(code::MAX_MESSAGE_SIZE)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// Option 51, if it is four bytes.
    pub(crate) fn lease_time(&self) -> Option<u32> {
        self.options.get(code::LEASE_TIME)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Option 82 as it came with the message; a stashed one is not sent back.
    pub(crate) fn relay_agent(&self) -> Option<&[u8]> {
        self.options.get(code::RELAY_AGENT).filter(|_| !self.is_stashed)
    }

    /// `secs`.
    pub(crate) fn secs(&self) -> u16 {
        u16::from_be_bytes(self.header.secs)
    }

    /// RFC 2132 2 #trailing-nul
    /// The host name of option 12 without trailing NULs, if there is any.
    pub(crate) fn host_name(&self) -> Option<&[u8]> {
        let name = self.options.get(code::HOST_NAME)?;
        let len = name.iter().rposition(|byte| *byte != 0)? + 1;
        name.get(..len.min(HOST_NAME_LEN_MAX))
    }

    /// Whether the client ends its host name with NUL, as old Windows does: its text options get one as well.
    pub(crate) fn wants_nul(&self) -> bool {
        self.options.get(code::HOST_NAME).is_some_and(|name| name.len() > 1 && name.last() == Some(&0))
    }

    /// The fixed fields that a reply copies.
    pub(crate) fn head(&self) -> [u8; TAIL_AT] {
        self.received.message.first_chunk().copied().unwrap_or([0; TAIL_AT])
    }

    /// The option bytes after the cookie, as they stand.
    pub(crate) fn option_bytes(&self) -> &'a [u8] {
        self.received.message.get(OPTIONS_AT..).unwrap_or_default()
    }

    /// The receiving interface.
    pub(crate) const fn interface(&self) -> InterfaceIndex {
        self.received.interface
    }

    /// `from MAC (hostname)` of the log lines (dhcpd).
    pub(crate) fn who(&self) -> Who<'_> {
        Who { hw: self.hw, name: self.host_name() }
    }

    /// `via IF` or `via GIADDR` of the log lines (dhcpd).
    pub(crate) fn via(&self) -> Via<'_> {
        match self.giaddr() {
            Some(giaddr) => Via::Relay(giaddr),
            None => Via::Interface(self.interface_name),
        }
    }

    fn address_option(&self, code: u8) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = self.options.get(code)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    }
}

/// How urgent a message is when there are more than can be answered: who has an address goes first (I6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Urgency {
    /// A client that keeps, gives back or refuses an address.
    Holder,
    /// A client that takes what it was offered.
    Selecting,
    /// A client that looks for an address.
    Seeking,
    /// Anything else, and what cannot be read.
    Other,
}

/// Tells how urgent a message is, by a look at `ciaddr` and option 53; for whoever has to choose what to read first.
#[must_use]
pub fn urgency(message: &[u8]) -> Urgency {
    let Some(header) = Header::parse(message, 0).filter(|header| header.op == BOOTREQUEST) else {
        return Urgency::Other;
    };
    let mut options = Options::new(message.get(OPTIONS_AT..).unwrap_or_default());
    let kind = options.find_map(|option| match option {
        Ok((code::MESSAGE_TYPE, &[kind])) => Some(MessageType::from_number(kind)),
        Ok(_) => None,
        Err(_) => Some(None),
    });
    match kind.flatten() {
        Some(MessageType::Request) if header.ciaddr != [0; 4] => Urgency::Holder,
        Some(MessageType::Release | MessageType::Decline) => Urgency::Holder,
        Some(MessageType::Request) => Urgency::Selecting,
        Some(MessageType::Discover) => Urgency::Seeking,
        Some(_) | None => Urgency::Other,
    }
}

/// Finds the network a client is on (dhcpd; RFC 3527, RFC 3011): link selection, subnet selection, relay, interface.
/// `attached` is the network of the receiving interface.
pub(crate) fn locate(
    config: &Config,
    request: &Request<'_>,
    attached: Option<SharedNetworkId>,
) -> Option<SharedNetworkId> {
    let network_of = |address: Ipv4Addr| {
        config.subnet_of(address).map(|SubnetId(number)| config.subnet(SubnetId(number)).shared_network)
    };
    if let Some(selected) = selected_link(&request.options) {
        return network_of(selected);
    }
    match request.giaddr() {
        Some(giaddr) => network_of(giaddr),
        None => attached,
    }
}

/// The subnet that the relay (option 82, sub-option 5) or else the client (option 118) names
/// (RFC 3527 3 #before-subnet-selection).
pub(crate) fn selected_link(options: &ReceivedOptions) -> Option<Ipv4Addr> {
    let of_relay = options.get(code::RELAY_AGENT).and_then(|agent| sub_option(agent, 5));
    let selected = of_relay.or_else(|| options.get(code::SUBNET_SELECTION))?;
    <[u8; 4]>::try_from(selected).ok().map(Ipv4Addr::from)
}

/// The sub-options of option 82 up to the first that is empty or cut (RFC 3046 2.0); dhcpd knows and echoes no more.
fn sound_part(agent: &[u8]) -> &[u8] {
    let mut sound_len = 0;
    while let Some([_, len @ 1..=u8::MAX, after @ ..]) = agent.get(sound_len..)
        && after.len() >= usize::from(*len)
    {
        sound_len += 2 + usize::from(*len);
    }
    agent.get(..sound_len).unwrap_or_default()
}

/// A sub-option of option 82 (RFC 3046 2.0).
pub(crate) fn sub_option(agent: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = agent;
    while let [code, len, after @ ..] = rest {
        let (data, next) = after.split_at_checked(usize::from(*len))?;
        if *code == wanted {
            return Some(data);
        }
        rest = next;
    }
    None
}

/// Whether two option bytes are the same address; zero is none.
fn some_address(bytes: [u8; 4]) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from(bytes);
    (!address.is_unspecified()).then_some(address)
}

/// `MAC (hostname)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    hw: HwAddr,
    name: Option<&'a [u8]>,
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.hw)?;
        match self.name {
            None => Ok(()),
            Some(name) => match printable(name) {
                Some(name) => write!(f, " ({name})"),
                None => f.write_str(" (Hostname Unsuitable for Printing)"),
            },
        }
    }
}

/// A host name that may stand in a log line or in the leases file (dhcpd: printable, no quote, no backslash).
pub(crate) fn printable(name: &[u8]) -> Option<&str> {
    let is_plain = name.iter().all(|byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\'));
    if is_plain { std::str::from_utf8(name).ok() } else { None }
}

/// Where a message came through.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Via<'a> {
    /// A relay.
    Relay(Ipv4Addr),
    /// An interface.
    Interface(&'a str),
}

impl fmt::Display for Via<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay(giaddr) => write!(f, "{giaddr}"),
            Self::Interface(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_option_is_found_and_never_read_past_the_end() {
        let agent = [1, 4, b'p', b'1', b'/', b'3', 5, 4, 10, 0, 0, 0, 9, 200, 1];
        assert_eq!(sub_option(&agent, 1), Some(&b"p1/3"[..]));
        assert_eq!(sub_option(&agent, 5), Some(&[10, 0, 0, 0][..]));
        assert_eq!(sub_option(&agent, 9), None);
        assert_eq!(sub_option(&[5], 5), None);
    }

    #[test]
    fn option_82_ends_where_it_makes_no_sense() {
        assert_eq!(sound_part(&[1, 1, b'a', 9, 2, 1, 2]), [1, 1, b'a', 9, 2, 1, 2]);
        for tail in [&[5][..], &[5, 4], &[1, 0], &[0], &[255]] {
            assert_eq!(sound_part(&[&[1, 1, b'a'], tail].concat()), [1, 1, b'a']);
            assert!(sound_part(tail).is_empty());
        }
        assert!(sound_part(&[]).is_empty());
    }

    #[test]
    fn an_unprintable_host_name_is_said_to_be_so() {
        let who = Who { hw: HwAddr::ethernet([2, 0, 0, 0, 0, 1]), name: Some(b"b\"b\\c\xe9") };
        assert_eq!(who.to_string(), "02:00:00:00:00:01 (Hostname Unsuitable for Printing)");
        let who = Who { name: Some(b"alice"), ..who };
        assert_eq!(who.to_string(), "02:00:00:00:00:01 (alice)");
    }
}
