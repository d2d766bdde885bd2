//! Frames as clients and relays make them, written by hand from the RFCs.
//!
//! Nothing of the code under test is used here: an encoder that shared its mistakes would find none.

use std::net::Ipv4Addr;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad tag.
pub const QINQ: u16 = 0x88a8;
/// The Ethernet broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];
/// Magic cookie of DHCP (RFC 2131 3).
pub const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// What the UDP checksum of a frame looks like; each is met in the wild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// As RFC 768 wants it.
    Right,
    /// Zero: none was made (raw-socket clients).
    Absent,
    /// Only the pseudo header is summed: what a veth carries when the sender left it to the hardware.
    Partial,
    /// Neither: a damaged frame.
    Wrong,
}

/// Everything below DHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Ethernet destination.
    pub to_mac: [u8; 6],
    /// Ethernet source.
    pub from_mac: [u8; 6],
    /// VLAN tags, outer first: TPID and TCI.
    pub tags: Vec<(u16, u16)>,
    /// IP source and UDP source port.
    pub from: (Ipv4Addr, u16),
    /// IP destination and UDP destination port.
    pub to: (Ipv4Addr, u16),
    /// Type of service.
    pub tos: u8,
    /// IP identification.
    pub id: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// IP options, a multiple of four bytes.
    pub ip_options: Vec<u8>,
    /// How the UDP checksum is made.
    pub checksum: Checksum,
}

impl Envelope {
    /// A broadcast from a client that has no address yet (RFC 2131 4.1).
    #[must_use]
    pub fn broadcast(mac: [u8; 6]) -> Self {
        Self {
            to_mac: BROADCAST,
            from_mac: mac,
            tags: Vec::new(),
            from: (Ipv4Addr::UNSPECIFIED, 68),
            to: (Ipv4Addr::BROADCAST, 67),
            tos: 0,
            id: 0,
            fragment: 0,
            ttl: 64,
            ip_options: Vec::new(),
            checksum: Checksum::Right,
        }
    }

    /// A datagram from a client with an address to its server.
    #[must_use]
    pub fn unicast(mac: [u8; 6], address: Ipv4Addr, server_mac: [u8; 6], server: Ipv4Addr) -> Self {
        Self {
            to_mac: server_mac,
            from: (address, 68),
            to: (server, 67),
            id: 0x4f21,
            fragment: 0x4000,
            ..Self::broadcast(mac)
        }
    }

    /// A datagram from a relay agent to a server (RFC 1542 4.1.1).
    #[must_use]
    pub fn relayed(relay_mac: [u8; 6], relay: Ipv4Addr, server_mac: [u8; 6], server: Ipv4Addr) -> Self {
        Self { from: (relay, 67), ..Self::unicast(relay_mac, relay, server_mac, server) }
    }

    /// Puts this envelope around a UDP payload.
    #[must_use]
    pub fn wrap(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(payload.len() + 64);
        frame.extend(self.to_mac);
        frame.extend(self.from_mac);
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        frame.extend(IPV4.to_be_bytes());

        let udp_len = (8 + payload.len()) as u16;
        let header_len = 20 + self.ip_options.len();
        let mut ip = vec![0x40 | (header_len / 4) as u8, self.tos];
        ip.extend((header_len as u16 + udp_len).to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, 17, 0, 0]);
        ip.extend(self.from.0.octets());
        ip.extend(self.to.0.octets());
        ip.extend(&self.ip_options);
        let sum = internet_checksum(&ip, 0);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend(&ip);

        let mut udp = Vec::with_capacity(usize::from(udp_len));
        udp.extend(self.from.1.to_be_bytes());
        udp.extend(self.to.1.to_be_bytes());
        udp.extend(udp_len.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(payload);
        let pseudo = pseudo_sum(self.from.0, self.to.0, udp_len);
        let right = match internet_checksum(&udp, pseudo) {
            0 => 0xffff,
            sum => sum,
        };
        let sum = match self.checksum {
            Checksum::Right => right,
            Checksum::Absent => 0,
            Checksum::Partial => !internet_checksum(&[], pseudo),
            Checksum::Wrong => right ^ 0x5555,
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        frame.extend(udp);
        frame
    }
}

/// A BOOTP message, field by field (RFC 2131 2, figure 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// 1 = from a client.
    pub op: u8,
    /// Hardware type.
    pub htype: u8,
    /// Length of the hardware address.
    pub hlen: u8,
    /// Relays passed.
    pub hops: u8,
    /// Transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Bit 15 = broadcast.
    pub flags: u16,
    /// The client's address.
    pub ciaddr: Ipv4Addr,
    /// From the server only.
    pub yiaddr: Ipv4Addr,
    /// From the server only.
    pub siaddr: Ipv4Addr,
    /// The relay's address.
    pub giaddr: Ipv4Addr,
    /// Hardware address with padding.
    pub chaddr: [u8; 16],
    /// Server name field.
    pub sname: [u8; 64],
    /// Boot file field.
    pub file: [u8; 128],
    /// Options in order, without END.
    pub options: Vec<(u8, Vec<u8>)>,
    /// Zeros are added after END until the message has this many bytes.
    pub padded_to: usize,
}

impl Message {
    /// A message of the given type (option 53 first) from an Ethernet client.
    #[must_use]
    pub fn request(kind: u8, mac: [u8; 6], xid: u32) -> Self {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&mac);
        Self {
            op: 1,
            htype: 1,
            hlen: 6,
            hops: 0,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            sname: [0; 64],
            file: [0; 128],
            options: vec![(53, vec![kind])],
            padded_to: 300,
        }
    }

    /// Adds an option at the end.
    #[must_use]
    pub fn with(mut self, code: u8, data: impl Into<Vec<u8>>) -> Self {
        self.options.push((code, data.into()));
        self
    }

    /// The bytes of the message.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.op, self.htype, self.hlen, self.hops];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            bytes.extend(address.octets());
        }
        bytes.extend(self.chaddr);
        bytes.extend(self.sname);
        bytes.extend(self.file);
        bytes.extend(COOKIE);
        for (code, data) in &self.options {
            bytes.extend([*code, data.len() as u8]);
            bytes.extend(data);
        }
        bytes.push(255);
        bytes.resize(bytes.len().max(self.padded_to), 0);
        bytes
    }
}

/// The datagram of a frame, checked on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Ethernet destination.
    pub to_mac: [u8; 6],
    /// Ethernet source.
    pub from_mac: [u8; 6],
    /// VLAN tags, outer first.
    pub tags: Vec<(u16, u16)>,
    /// IP source and UDP source port.
    pub from: (Ipv4Addr, u16),
    /// IP destination and UDP destination port.
    pub to: (Ipv4Addr, u16),
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Whether the IP header's checksum is right.
    pub is_ip_sum_right: bool,
    /// Whether the UDP checksum is right or absent.
    pub is_udp_sum_right: bool,
    /// Whether only the pseudo header is summed: the sender left the rest to the hardware.
    pub is_udp_sum_partial: bool,
    /// The UDP checksum as it stands in the frame.
    pub udp_sum: u16,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// Opens a frame that holds an unfragmented UDP datagram; `None` for everything else and everything cut.
#[must_use]
pub fn open(frame: &[u8]) -> Option<Opened> {
    let to_mac = *frame.first_chunk::<6>()?;
    let from_mac = *frame.get(6..)?.first_chunk::<6>()?;
    let mut at = 12;
    let mut tags = Vec::new();
    loop {
        let kind = word(frame, at)?;
        at += 2;
        match kind {
            VLAN | QINQ => {
                tags.push((kind, word(frame, at)?));
                at += 2;
            }
            IPV4 => break,
            _ => return None,
        }
    }
    let ip = frame.get(at..)?;
    let header_len = usize::from(ip.first()? & 0x0f) * 4;
    let total_len = usize::from(word(ip, 2)?);
    if ip.first()? >> 4 != 4 || header_len < 20 || ip.get(9)? != &17 || word(ip, 6)? & 0x3fff != 0 {
        return None;
    }
    let ip = ip.get(..total_len)?;
    let address = |at: usize| Some(Ipv4Addr::from(*ip.get(at..)?.first_chunk::<4>()?));
    let (source, target) = (address(12)?, address(16)?);
    let udp = ip.get(header_len..)?;
    let udp_len = word(udp, 4)?;
    let udp = udp.get(..usize::from(udp_len))?;
    let udp_sum = word(udp, 6)?;
    Some(Opened {
        to_mac,
        from_mac,
        tags,
        from: (source, word(udp, 0)?),
        to: (target, word(udp, 2)?),
        ttl: *ip.get(8)?,
        tos: *ip.get(1)?,
        is_ip_sum_right: internet_checksum(ip.get(..header_len)?, 0) == 0,
        is_udp_sum_right: udp_sum == 0 || internet_checksum(udp, pseudo_sum(source, target, udp_len)) == 0,
        is_udp_sum_partial: udp_sum == !internet_checksum(&[], pseudo_sum(source, target, udp_len)),
        udp_sum,
        payload: udp.get(8..)?.to_vec(),
    })
}

/// The 16-bit word at an offset, in network order.
fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk::<2>()?))
}

/// One's-complement sum of the UDP pseudo header (RFC 768).
fn pseudo_sum(from: Ipv4Addr, to: Ipv4Addr, udp_len: u16) -> u32 {
    let half = |address: Ipv4Addr| {
        let number = u32::from(address);
        (number >> 16) + (number & 0xffff)
    };
    half(from) + half(to) + 17 + u32::from(udp_len)
}

/// The Internet checksum (RFC 1071) over `bytes`, starting from a sum.
#[must_use]
pub fn internet_checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = u64::from(start);
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_opens_with_right_sums() {
        let mac = [2, 0, 0, 0, 0, 1];
        let mut envelope = Envelope::unicast(mac, Ipv4Addr::new(10, 0, 0, 9), [2; 6], Ipv4Addr::new(10, 0, 0, 1));
        envelope.tags = vec![(QINQ, 100), (VLAN, 7)];
        let frame = envelope.wrap(&Message::request(3, mac, 0x1234_5678).bytes());
        let opened = open(&frame).unwrap();
        assert!(opened.is_ip_sum_right && opened.is_udp_sum_right);
        assert_eq!(opened.tags, envelope.tags);
        assert_eq!((opened.from, opened.to), (envelope.from, envelope.to));
        assert_eq!(opened.payload.len(), 300);
        for cut in 0..frame.len() {
            assert!(open(&frame[..cut]).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn a_wrong_or_partial_sum_is_seen() {
        let mac = [2, 0, 0, 0, 0, 1];
        for (checksum, right) in
            [(Checksum::Right, true), (Checksum::Absent, true), (Checksum::Partial, false), (Checksum::Wrong, false)]
        {
            let envelope = Envelope { checksum, ..Envelope::broadcast(mac) };
            let frame = envelope.wrap(&Message::request(1, mac, 7).bytes());
            assert_eq!(open(&frame).unwrap().is_udp_sum_right, right, "{checksum:?}");
        }
    }
}
