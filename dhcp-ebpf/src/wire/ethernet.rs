//! The layers below DHCP: Ethernet II, IPv4 and UDP, as offsets from the start of a frame.
//!
//! Header layouts come from `network-types`; what is named here is what it does not name.

use network_types::{eth::EthHdr, ip::Ipv4Hdr, udp::UdpHdr};

/// Length of an Ethernet II header without tags, in bytes.
pub const ETHERNET_LEN: usize = EthHdr::LEN;
/// Length of an IPv4 header without options, in bytes.
pub const IPV4_LEN: usize = Ipv4Hdr::LEN;
/// Length of a UDP header, in bytes.
pub const UDP_LEN: usize = UdpHdr::LEN;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// EtherType of an 802.1Q tag (C-tag).
pub const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
/// EtherType of an 802.1ad tag (S-tag, QinQ).
pub const ETHERTYPE_QINQ: [u8; 2] = [0x88, 0xa8];

/// First byte of an IPv4 header without options: version 4, header length 5 words.
pub const IPV4_PLAIN: u8 = 0x45;
/// Protocol number of UDP in an IPv4 header.
pub const PROTOCOL_UDP: u8 = 17;
/// UDP port of DHCP servers and relay agents (RFC 2131 4.1).
pub const PORT_SERVER: u16 = 67;
/// UDP port of DHCP clients (RFC 2131 4.1).
pub const PORT_CLIENT: u16 = 68;

/// Time to live of replies that go through the IP stack, as Linux sends them.
pub const TTL_ROUTED: u8 = 64;
/// Time to live of replies to clients without an address (dhcpd: raw frames).
pub const TTL_RAW: u8 = 128;
/// Type of service of raw replies: low delay (dhcpd: raw frames).
pub const TOS_RAW: u8 = 0x10;
