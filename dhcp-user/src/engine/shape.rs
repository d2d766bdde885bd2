//! How a question was asked, so that it can be answered anew under another configuration.
//!
//! The kernel knows digests, and a digest says nothing. What a client sent is kept here as a *shape*: the message but
//! for what its lease knows already (address, hardware address, client identifier, host name, option 82). Ten thousand
//! laptops of a kind share one shape, and a lease pays a pointer per question. A message put together again has to come
//! to the digest that is armed: if the lease has changed, it does not, and the client is asked by nobody but itself.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use dhcp_ebpf::{
    question::Question,
    wire::{
        dhcp::{COOKIE, HwAddr, OPTIONS_AT},
        ethernet::{PORT_CLIENT, PORT_SERVER},
        option::code,
    },
};

use crate::lease::Lease;

use super::{
    limits::SHAPES_COUNT_MAX,
    port::{InterfaceIndex, Received},
    request::Request,
};

/// What a lease knows of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Hole {
    ClientId,
    HostName,
    Address,
    AgentOptions,
}

impl Hole {
    fn fill(self, known: &Known<'_>, out: &mut Vec<u8>) {
        match self {
            Self::ClientId => out.extend_from_slice(known.client_id.unwrap_or_default()),
            Self::HostName => out.extend_from_slice(known.hostname.unwrap_or_default()),
            Self::Address => out.extend_from_slice(&known.address.octets()),
            Self::AgentOptions => out.extend_from_slice(known.agent_options.unwrap_or_default()),
        }
    }
}

/// What a lease says of its client, as far as a question can depend on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'l> {
    pub(crate) address: Ipv4Addr,
    pub(crate) hw: Option<HwAddr>,
    pub(crate) client_id: Option<&'l [u8]>,
    pub(crate) hostname: Option<&'l [u8]>,
    pub(crate) agent_options: Option<&'l [u8]>,
}

impl<'l> Known<'l> {
    pub(crate) fn of(lease: &'l Lease) -> Self {
        Self {
            address: lease.address,
            hw: lease.hw,
            client_id: lease.client_id.as_deref(),
            hostname: lease.hostname.as_deref(),
            agent_options: lease.agent_options.as_deref(),
        }
    }
}

/// How a question was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    interface: InterfaceIndex,
    vlan: [u32; 2],
    destination: Ipv4Addr,
    /// `op`, `htype`, `hlen`, `hops`.
    head: [u8; 4],
    flags: [u8; 2],
    giaddr: [u8; 4],
    has_ciaddr: bool,
    /// The answer is an offer.
    pub(crate) is_offer: bool,
    /// The option bytes without what the lease knows.
    bytes: Box<[u8]>,
    /// Where in `bytes` what the lease knows goes, ascending.
    holes: Box<[(u16, Hole)]>,
}

impl Shape {
    /// The shape of a request about a lease; `options` are its option bytes.
    pub(crate) fn of(request: &Request<'_>, lease: &Lease, is_offer: bool) -> Self {
        let mut bytes = Vec::new();
        let mut holes = Vec::new();
        let address = lease.address.octets();
        let mut rest = request.option_bytes();
        while let [this, len, after @ ..] = rest
            && !matches!(*this, code::PAD | code::END)
            && let Some((data, next)) = after.split_at_checked(usize::from(*len))
        {
            bytes.extend_from_slice(&[*this, *len]);
            let known = match *this {
                code::CLIENT_IDENTIFIER => lease.client_id.as_deref().map(|id| (0, id, Hole::ClientId)),
                code::HOST_NAME => lease.hostname.as_deref().map(|name| (0, name, Hole::HostName)),
                // Flags and two codes stand before the name (RFC 4702 2).
                code::FQDN => lease.hostname.as_deref().map(|name| (3, name, Hole::HostName)),
                code::REQUESTED_ADDRESS => Some((0, &address[..], Hole::Address)),
                code::RELAY_AGENT => lease.agent_options.as_deref().map(|agent| (0, agent, Hole::AgentOptions)),
                _ => None,
            }
            .and_then(|(at, known, hole)| {
                let (before, from) = data.split_at_checked(at)?;
                Some((before, from.strip_prefix(known)?, hole))
            });
            match known {
                Some((before, behind, hole)) => {
                    bytes.extend_from_slice(before);
                    // A message is shorter than 64 KiB.
                    holes.push((bytes.len() as u16, hole));
                    bytes.extend_from_slice(behind);
                }
                None => bytes.extend_from_slice(data),
            }
            rest = next;
        }
        bytes.extend_from_slice(rest);
        let header = &request.header;
        Self {
            interface: request.interface(),
            vlan: request.received.vlan,
            destination: request.received.destination,
            head: request.received.message.first_chunk().copied().unwrap_or_default(),
            flags: header.flags,
            giaddr: header.giaddr,
            has_ciaddr: request.ciaddr().is_some(),
            is_offer,
            bytes: bytes.into(),
            holes: holes.into(),
        }
    }

    /// Writes the option bytes as the client of this lease sends them.
    pub(crate) fn write_options(&self, known: &Known<'_>, out: &mut Vec<u8>) {
        let mut from = 0;
        for (at, hole) in &self.holes {
            let at = usize::from(*at);
            out.extend_from_slice(self.bytes.get(from..at).unwrap_or_default());
            hole.fill(known, out);
            from = at;
        }
        out.extend_from_slice(self.bytes.get(from..).unwrap_or_default());
    }

    /// What else the kernel takes the digest of.
    pub(crate) fn question(&self, known: &Known<'_>) -> Option<Question> {
        Some(Question {
            chaddr: known.hw?.mac()?,
            address: known.address.octets(),
            has_ciaddr: self.has_ciaddr,
            giaddr: self.giaddr,
            interface: self.interface.0,
            vlan: self.vlan,
        })
    }

    /// The message as the client of this lease would send it.
    pub(crate) fn message(&self, lease: &Lease) -> Vec<u8> {
        let mut message = vec![0; OPTIONS_AT];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = message.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &self.head);
        put(10, &self.flags);
        if self.has_ciaddr {
            put(12, &lease.address.octets());
        }
        put(24, &self.giaddr);
        put(28, lease.hw.as_ref().map_or(&[][..], |hw| hw.bytes()));
        put(OPTIONS_AT - COOKIE.len(), &COOKIE);
        self.write_options(&Known::of(lease), &mut message);
        message
    }

    /// `message` as it would arrive.
    pub(crate) fn received<'m>(&self, lease: &Lease, message: &'m [u8]) -> Received<'m> {
        let giaddr = Ipv4Addr::from(self.giaddr);
        let source = match (giaddr.is_unspecified(), self.has_ciaddr) {
            (false, _) => SocketAddrV4::new(giaddr, PORT_SERVER),
            (true, true) => SocketAddrV4::new(lease.address, PORT_CLIENT),
            (true, false) => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT_CLIENT),
        };
        Received { interface: self.interface, vlan: self.vlan, source, destination: self.destination, message }
    }
}

/// All shapes, each once.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    set: HashSet<Arc<Shape>>,
    /// New shapes that are turned away before the set is looked through again for old ones.
    turned_away: usize,
}

impl Shapes {
    /// The shared copy of a shape; `None` when there are too many kinds of clients.
    pub(crate) fn intern(&mut self, shape: Shape) -> Option<Arc<Shape>> {
        if let Some(known) = self.set.get(&shape) {
            return Some(Arc::clone(known));
        }
        if self.set.len() >= SHAPES_COUNT_MAX {
            if self.turned_away > 0 {
                self.turned_away -= 1;
                return None;
            }
            self.set.retain(|shape| Arc::strong_count(shape) > 1);
            if self.set.len() >= SHAPES_COUNT_MAX {
                self.turned_away = SHAPES_COUNT_MAX / 8;
                return None;
            }
        }
        let shape = Arc::new(shape);
        self.set.insert(Arc::clone(&shape));
        Some(shape)
    }
}
