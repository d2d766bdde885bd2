//! Where a reply goes (dhcpd: 12.4 of the reference; RFC 2131 4.1).

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcp_ebpf::wire::{
    dhcp::FLAG_BROADCAST,
    ethernet::{PORT_CLIENT, PORT_SERVER},
};

use crate::config::Process;

use super::{
    port::{InterfaceIndex, Route},
    request::Request,
};

/// Broadcast on the wire.
const MAC_BROADCAST: [u8; 6] = [0xff; 6];

/// The ports, and the address that stands for everybody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    server: u16,
    client: u16,
    everybody: Ipv4Addr,
}

impl Ports {
    /// What the configuration says.
    pub(crate) fn of(process: &Process) -> Self {
        Self {
            server: process.local_port.unwrap_or(PORT_SERVER),
            client: process.remote_port.unwrap_or(PORT_CLIENT),
            everybody: process.limited_broadcast.unwrap_or(Ipv4Addr::BROADCAST),
        }
    }
}

impl Ports {
    /// Whether ports and broadcast address are those of RFC 2131, the only ones the kernel knows.
    pub(crate) fn are_usual(&self) -> bool {
        self.server == PORT_SERVER && self.client == PORT_CLIENT && self.everybody == Ipv4Addr::BROADCAST
    }
}

/// What decides where a reply goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heading {
    /// Whether it is an ACK; only those are sent to `ciaddr`.
    pub(crate) is_ack: bool,
    /// `flags` of the reply.
    pub(crate) flags: [u8; 2],
    /// `yiaddr` of the reply.
    pub(crate) yiaddr: Ipv4Addr,
    /// The client is on the network that its lease belongs to.
    pub(crate) is_on_its_network: bool,
}

/// Where a reply goes: the interface (`None` = the routing table knows), the way, and the address.
pub(crate) type Destination = (Option<InterfaceIndex>, Route, SocketAddrV4);

/// Finds the destination of an OFFER or ACK.
pub(crate) fn destination(request: &Request<'_>, heading: &Heading, ports: &Ports) -> Destination {
    if let Some(giaddr) = request.giaddr() {
        return to_relay(giaddr, ports);
    }
    // RFC 2131 2 #flags-reserved: one bit says something.
    let is_broadcast = u16::from_be_bytes(heading.flags) & FLAG_BROADCAST != 0;
    if let Some(ciaddr) = request.ciaddr()
        && heading.is_ack
        && !((request.server_id().is_some() || is_broadcast) && heading.is_on_its_network)
    {
        return (None, Route::Ip, SocketAddrV4::new(ciaddr, ports.client));
    }
    // Whatever the hardware is called: six bytes are an address on this link (dhcpd).
    match <[u8; 6]>::try_from(request.hw.bytes()) {
        // Nobody answers to the address zero: an offer of none is for everybody (RFC 8925 3.3).
        Ok(mac) if !is_broadcast && !heading.yiaddr.is_unspecified() => {
            (Some(request.interface()), raw(request, mac), SocketAddrV4::new(heading.yiaddr, ports.client))
        }
        Ok(_) | Err(_) => to_everybody(request, ports),
    }
}

/// Finds the destination of a NAK: the relay (RFC 2131 3.2 #nak-to-relay), or everybody (RFC 2131 3.2 #nak-broadcast).
pub(crate) fn destination_of_nak(request: &Request<'_>, ports: &Ports) -> Destination {
    match request.giaddr() {
        Some(giaddr) => to_relay(giaddr, ports),
        None => to_everybody(request, ports),
    }
}

/// Finds the destination of an ACK to an INFORM from `address` (dhcpd).
pub(crate) fn destination_of_inform(request: &Request<'_>, address: Ipv4Addr, ports: &Ports) -> Destination {
    match request.giaddr() {
        Some(giaddr) if request.ciaddr().is_none() => to_relay(giaddr, ports),
        Some(_) | None => (None, Route::Ip, SocketAddrV4::new(address, ports.client)),
    }
}

/// RFC 3527 3 #same-way-back: whatever link the relay selects.
/// The relay's server port; the client port of a relay on this host (dhcpd).
pub(crate) fn to_relay(giaddr: Ipv4Addr, ports: &Ports) -> Destination {
    let port = if giaddr == Ipv4Addr::LOCALHOST { ports.client } else { ports.server };
    (None, Route::Ip, SocketAddrV4::new(giaddr, port))
}

fn to_everybody(request: &Request<'_>, ports: &Ports) -> Destination {
    let to = SocketAddrV4::new(ports.everybody, ports.client);
    (Some(request.interface()), raw(request, MAC_BROADCAST), to)
}

fn raw(request: &Request<'_>, mac: [u8; 6]) -> Route {
    Route::Raw { mac, vlan: request.received.vlan }
}
