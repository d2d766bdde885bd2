//! Foreseen questions: the requests that a client will send, and what the slow path would answer to each.

use std::{net::Ipv4Addr, sync::Arc};

use dhcp_ebpf::{
    abi::{TAIL_LEN_MAX, Template},
    question::{self, OPTIONS_LEN_MAX, Question},
    wire::{
        checksum,
        dhcp::{COOKIE, FLAG_BROADCAST, MessageType, OPTIONS_AT},
        option::code,
    },
};

use crate::{
    config::Config,
    lease::{Lease, time::Now},
};

use super::{
    Server,
    compose::{self, Composed, Kind},
    grant::{Target, Terms},
    packet,
    port::{Interface, Received},
    promise::Answered,
    request::{self, Request},
    shape::{Known, Shape},
    status::NotArmed,
};

impl Server {
    /// Works out what the slow path would answer to a request that this client will send, and the digest of it.
    pub(super) fn predict(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        lease: &Lease,
        options: &[u8],
        foreseen: Foreseen,
        now: Now,
    ) -> Result<(Answered, Option<Arc<Shape>>), NotArmed> {
        if options.len() > OPTIONS_LEN_MAX {
            return Err(NotArmed::LongQuestion);
        }
        let message = foresee(request, lease.address, options, foreseen);
        let received = Received { message: &message, ..request.received };
        let (interface, _) = self.interface(request.interface()).ok_or(NotArmed::NoAnswer)?;
        let asked = self.read_for(config, received, &interface, lease, now)?;
        let answered = self.answer_to(config, &asked, lease, MessageType::Ack, now)?;
        let shape = self.promises.shapes.intern(Shape::of(&asked, lease, false));
        Ok((answered, shape))
    }

    /// Reads a message that the client of a lease will send.
    pub(super) fn read_for<'m>(
        &self,
        config: &Config,
        received: Received<'m>,
        interface: &'m Interface,
        lease: &Lease,
        now: Now,
    ) -> Result<Request<'m>, NotArmed> {
        let attached = self.interface(received.interface).and_then(|(_, attached)| attached);
        let mut asked = Request::parse(received, interface).map_err(|_| NotArmed::NoAnswer)?;
        asked.network = request::locate(config, &asked, attached);
        self.recall_for(&mut asked, lease);
        packet::classify(config, &mut asked, now.wall);
        Ok(asked)
    }

    /// Works out what the slow path would answer to a request about a lease, and the digest of it.
    pub(super) fn answer_to(
        &mut self,
        config: &Config,
        asked: &Request<'_>,
        lease: &Lease,
        kind: MessageType,
        now: Now,
    ) -> Result<Answered, NotArmed> {
        let network = config.subnet_of(lease.address).map(|subnet| config.subnet(subnet).shared_network);
        let hosts = self.search(config, now).hosts(asked, network);
        if hosts.fixed.is_some() {
            return Err(NotArmed::NoAnswer);
        }
        let target = Target::of_lease(config, lease, &hosts);
        let terms = self.terms(config, asked, &target, now).map_err(|_| NotArmed::NoAnswer)?;
        self.answer_on(config, asked, &target, lease, &terms, kind, now)
    }

    /// The same on terms that are known.
    #[expect(clippy::too_many_arguments, reason = "everything that an answer may depend on")]
    pub(super) fn answer_on(
        &mut self,
        config: &Config,
        asked: &Request<'_>,
        target: &Target<'_>,
        lease: &Lease,
        terms: &Terms,
        kind: MessageType,
        now: Now,
    ) -> Result<Answered, NotArmed> {
        let subject = target.subject(&terms.variables, now.wall);
        let composed = compose::compose(config, asked, &terms.evaluation, &subject, Kind::Lease(kind, terms.want))
            .map_err(|_| NotArmed::NoAnswer)?;
        self.is_armable(config, asked, &terms.evaluation, &composed, target, terms.want, now)?;
        let digest = self.digest(asked, lease.address, asked.option_bytes()).ok_or(NotArmed::LongQuestion)?;
        let template = Template {
            is_offer: u8::from(kind == MessageType::Offer),
            ..template_of(&composed, terms.want, self.reach_of(config, asked, lease))
        };
        let template = self.promises.intern(template).ok_or(NotArmed::TemplatesFull)?;
        Ok((digest, template))
    }

    fn recall_for(&self, asked: &mut Request<'_>, lease: &Lease) {
        if asked.ciaddr().is_some()
            && asked.options.get(code::RELAY_AGENT).is_none()
            && let Some(agent) = &lease.agent_options
        {
            asked.options.set(code::RELAY_AGENT, agent);
            asked.is_stashed = true;
        }
    }

    /// The digest of the question that the client of a lease asks in this way; `options` is room to write them into.
    pub(super) fn digest_of(&self, shape: &Shape, known: &Known<'_>, options: &mut Vec<u8>) -> Option<u64> {
        options.clear();
        shape.write_options(known, options);
        let question = shape.question(known)?;
        question::digest(&question, options.as_slice(), 0, options.len(), &self.options.digest_key)
    }

    pub(super) fn digest(&self, request: &Request<'_>, address: Ipv4Addr, options: &[u8]) -> Option<u64> {
        let question = Question {
            chaddr: request.hw.mac()?,
            address: address.octets(),
            has_ciaddr: request.ciaddr().is_some(),
            giaddr: request.header.giaddr,
            interface: request.interface().0,
            vlan: request.received.vlan,
        };
        question::digest(&question, options, 0, options.len(), &self.options.digest_key)
    }

    /// How a client is reached from the interface that its request came in through.
    pub(super) fn reach_of(&self, config: &Config, request: &Request<'_>, lease: &Lease) -> Reach {
        let network = config.subnet_of(lease.address).map(|subnet| config.subnet(subnet).shared_network);
        Reach {
            source_mac: self.interface(request.interface()).map_or([0; 6], |(interface, _)| interface.mac),
            is_routed: network.is_none() || network != request.network,
        }
    }
}

/// What of an answer depends on where its client is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// Ethernet address of the interface.
    source_mac: [u8; 6],
    /// Whether the client is elsewhere than on the network of its lease.
    is_routed: bool,
}

/// The answer as the kernel repeats it: the same tail, the values of its time options zero.
pub(super) fn template_of(composed: &Composed, lease_time: u32, reach: Reach) -> Template {
    let bytes = composed.tail.bytes();
    let mut tail = [0; TAIL_LEN_MAX];
    let len = bytes.len().min(TAIL_LEN_MAX);
    if let (Some(place), Some(bytes)) = (tail.get_mut(..len), bytes.get(..len)) {
        place.copy_from_slice(bytes);
    }
    Template {
        siaddr: composed.siaddr,
        server: composed.server.octets(),
        lease_time,
        renewal_time: composed.times.renewal,
        rebinding_time: composed.times.rebinding,
        tail_sum: checksum::sum(&tail) as u32,
        tail_len: len as u32,
        source_mac: reach.source_mac,
        is_offer: 0,
        is_routed: u8::from(reach.is_routed),
        _pad: [0; 4],
        tail,
    }
}

/// A request that a client is expected to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreseen {
    /// Directly, from the address it got.
    Renewal,
    /// Without an address, the way this request came.
    Reboot,
}

/// The request that a client will send: the same options but for some, from the address it got.
fn foresee(request: &Request<'_>, address: Ipv4Addr, options: &[u8], foreseen: Foreseen) -> Vec<u8> {
    let mut message = vec![0; OPTIONS_AT];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = message.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    let flags = u16::from_be_bytes(request.header.flags) & !FLAG_BROADCAST;
    put(0, &[request.header.op, request.header.htype, request.header.hlen]);
    put(10, &flags.to_be_bytes());
    match foreseen {
        Foreseen::Renewal => put(12, &address.octets()),
        Foreseen::Reboot => put(24, &request.header.giaddr),
    }
    put(28, &request.header.chaddr);
    put(OPTIONS_AT - COOKIE.len(), &COOKIE);
    message.extend_from_slice(options);
    message
}

/// Option bytes without some options; everything else as it stood, END and padding included.
pub(super) fn strip(bytes: &[u8], codes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        match rest {
            [] => return kept,
            [code::END, ..] => {
                kept.extend_from_slice(rest);
                return kept;
            }
            [code::PAD, after @ ..] => {
                kept.push(code::PAD);
                rest = after;
            }
            [this, len, after @ ..] => {
                let Some((data, next)) = after.split_at_checked(usize::from(*len)) else {
                    kept.extend_from_slice(rest);
                    return kept;
                };
                if !codes.contains(this) {
                    kept.extend_from_slice(&[*this, *len]);
                    kept.extend_from_slice(data);
                }
                rest = next;
            }
            [_] => {
                kept.extend_from_slice(rest);
                return kept;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripping_keeps_everything_else_as_it_stood() {
        let bytes = [53, 1, 3, 0, 50, 4, 1, 2, 3, 4, 61, 2, 50, 54, 54, 4, 9, 9, 9, 9, 55, 1, 1, 255, 0, 0];
        assert_eq!(strip(&bytes, &[50, 54]), [53, 1, 3, 0, 61, 2, 50, 54, 55, 1, 1, 255, 0, 0]);
        assert_eq!(strip(&bytes, &[54]), [53, 1, 3, 0, 50, 4, 1, 2, 3, 4, 61, 2, 50, 54, 55, 1, 1, 255, 0, 0]);
        assert_eq!(strip(&[12], &[50]), [12]);
        assert_eq!(strip(&[12, 9, 1], &[50]), [12, 9, 1]);
    }
}
