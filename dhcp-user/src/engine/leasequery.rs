//! LEASEQUERY: a relay or access device asks who has an address (RFC 4388; dhcpd: 11.8 of the reference).

use std::net::Ipv4Addr;

use dhcp_ebpf::{
    answer::{Fixed, Times},
    wire::{
        dhcp::{HwAddr, MessageType, TAIL_AT},
        option::code,
    },
};

use crate::{
    config::{Config, Param, Variables},
    lease::{BindingState, Lease, Value, time::Now},
};

use super::{
    Outcome, Server, compose,
    limits::ASSOCIATED_COUNT_MAX,
    packet::nobody,
    port::{JournalSeq, Level},
    reply::{self, Layout, Tail},
    request::Request,
    route,
    status::{Reason, Sent},
    terms,
};

/// What is known about the thing asked for.
enum Knowledge {
    /// The address is leased; the other addresses of the same client.
    Active(Box<Lease>, Vec<Ipv4Addr>),
    /// The address is ours, and nobody has it.
    Unassigned,
    /// Nothing.
    Unknown,
}

impl Server {
    /// LEASEQUERY. Only through a relay, and only where it is allowed.
    pub(super) fn handle_leasequery(&mut self, config: &Config, request: &Request<'_>, now: Now) -> Outcome {
        let Some(giaddr) = request.giaddr() else {
            self.log(Level::Debug, format!("DHCPLEASEQUERY from {}: missing giaddr", request.received.source.ip()));
            return Outcome::Ignored(Reason::LeaseQueryDenied);
        };
        let variables = Variables::new();
        let subject = compose::Subject { subnet: config.subnet_of(giaddr), ..nobody(&variables) };
        let evaluation = compose::evaluate(config, request, &subject, now.wall);
        if !evaluation.flag_or_default(Param::Leasequery) {
            self.log(Level::Debug, format!("DHCPLEASEQUERY from {giaddr}: not allowed"));
            return Outcome::Ignored(Reason::LeaseQueryDenied);
        }
        let Some((server, source)) = compose::server_identifier(request, &evaluation) else {
            return Outcome::Ignored(Reason::NoServerAddress);
        };
        let knowledge = self.look_up(config, request, now);
        let (kind, counter) = match &knowledge {
            Knowledge::Active(..) => (MessageType::LeaseActive, Sent::LeaseActive),
            Knowledge::Unassigned => (MessageType::LeaseUnassigned, Sent::LeaseUnassigned),
            Knowledge::Unknown => (MessageType::LeaseUnknown, Sent::LeaseUnknown),
        };
        let mut options: Vec<(u8, Vec<u8>)> =
            vec![(code::MESSAGE_TYPE, vec![kind as u8]), (code::SERVER_IDENTIFIER, server.octets().to_vec())];
        let mut head = request.head();
        let mut ciaddr = request.header.ciaddr;
        let mut agent = None;
        if let Knowledge::Active(lease, others) = &knowledge {
            ciaddr = lease.address.octets();
            put_hw(&mut head, lease.hw);
            // dhcpd tells all it knows, whatever option 55 lists.
            options.extend(facts(lease, others, now));
            agent = lease.agent_options.as_deref();
        }
        let layout = Layout {
            server_name: b"",
            file_name: b"",
            relay_agent: agent,
            room: reply::option_room(request.message_size(), None),
            last: None,
            // dhcpd: relays get what there is, and no padding.
            is_padded: false,
        };
        let tail = Tail::lay(&layout, options.iter().map(|(code, data)| (*code, &data[..])));
        let fixed = Fixed { flags: request.header.flags, ciaddr, yiaddr: [0; 4], siaddr: [0; 4] };
        let message = tail.write(&head, &fixed, &Times::default());
        self.log(Level::Info, format!("DHCPLEASEQUERY from {giaddr} for {}: {}", asked(request), counter.name()));
        let to = route::to_relay(giaddr, &self.ports);
        self.send(JournalSeq(0), to, source, message);
        self.sent.add(counter);
        Outcome::Done
    }

    /// Looks up by address, else by client identifier, else by hardware address (RFC 4388 6.4.1).
    fn look_up(&self, config: &Config, request: &Request<'_>, now: Now) -> Knowledge {
        let is_running = |lease: &Lease| lease.state == BindingState::Active && lease.ends > now.wall;
        if let Some(address) = request.ciaddr() {
            if config.pool_of(address).is_none() {
                return Knowledge::Unknown;
            }
            let Some(lease) = self.table.get(address).filter(is_running) else { return Knowledge::Unassigned };
            // dhcpd: who asks for an address is told about that address.
            return Knowledge::Active(Box::new(lease), Vec::new());
        }
        let addresses = match request.client_id() {
            Some(id) => self.table.by_client_id(id),
            None => self.table.by_hw(&request.hw),
        };
        let newest = addresses
            .into_iter()
            .filter_map(|address| self.table.get(address))
            .filter(is_running)
            .max_by_key(|lease| (lease.cltt, std::cmp::Reverse(lease.address)));
        match newest {
            None => Knowledge::Unknown,
            Some(lease) => {
                let others = self.others_of(&lease, now);
                Knowledge::Active(Box::new(lease), others)
            }
        }
    }

    fn others_of(&self, lease: &Lease, now: Now) -> Vec<Ipv4Addr> {
        let addresses = match (&lease.client_id, &lease.hw) {
            (Some(id), _) => self.table.by_client_id(id),
            (None, Some(hw)) => self.table.by_hw(hw),
            (None, None) => Vec::new(),
        };
        addresses
            .into_iter()
            .filter(|address| *address != lease.address)
            .filter(|address| {
                self.table
                    .get(*address)
                    .is_some_and(|other| other.state == BindingState::Active && other.ends > now.wall)
            })
            .take(ASSOCIATED_COUNT_MAX)
            .collect()
    }
}

/// What a LEASEACTIVE says, in the order of the reply: times first, then who it is.
fn facts(lease: &Lease, others: &[Ipv4Addr], now: Now) -> Vec<(u8, Vec<u8>)> {
    let mut facts = Vec::new();
    let mut put = |code: u8, value: u32| facts.push((code, value.to_be_bytes().to_vec()));
    put(code::LEASE_TIME, terms::left(lease.ends, now.wall));
    let term = lease.ends.since(lease.starts);
    let renewal = lease.starts.after(term / 2);
    let rebinding = lease.starts.after(term / 2 + term / 4 + term / 8);
    for (code, at) in [(code::RENEWAL_TIME, renewal), (code::REBINDING_TIME, rebinding)] {
        if at > now.wall {
            put(code, at.since(now.wall));
        }
    }
    if !others.is_empty() {
        facts.push((code::ASSOCIATED_IP, others.iter().flat_map(|address| address.octets()).collect()));
    }
    let silence = now.wall.since(lease.cltt);
    facts.push((code::CLIENT_LAST_TRANSACTION_TIME, silence.to_be_bytes().to_vec()));
    if let Some(Value::Data(class)) = lease.variable("vendor-class-identifier") {
        facts.push((code::VENDOR_CLASS, class.to_vec()));
    }
    if let Some(id) = &lease.client_id {
        facts.push((code::CLIENT_IDENTIFIER, id.to_vec()));
    }
    facts
}

/// Lays the lease's hardware address over the request's (RFC 4388 6.4.2).
fn put_hw(head: &mut [u8; TAIL_AT], hw: Option<HwAddr>) {
    let Some(hw) = hw else { return };
    let bytes = hw.bytes();
    let mut chaddr = [0; HwAddr::LEN_MAX];
    for (place, byte) in chaddr.iter_mut().zip(bytes) {
        *place = *byte;
    }
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = head.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(1, &[hw.htype(), bytes.len() as u8]);
    put(28, &chaddr);
}

fn asked(request: &Request<'_>) -> String {
    match (request.ciaddr(), request.client_id()) {
        (Some(address), _) => format!("IP {address}"),
        (None, Some(id)) => {
            let hex: Vec<_> = id.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("client-id {}", hex.join(":"))
        }
        (None, None) => format!("MAC address {}", request.hw),
    }
}
