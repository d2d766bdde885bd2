//! Frames: from the bytes of a packet socket to a datagram for the engine, and from a reply to a raw frame.
//!
//! Nothing here trusts a length, and every reason to refuse a frame has its own counter.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcp_ebpf::{
    frame::Frame,
    wire::{
        checksum::{fold, fold_udp, sum, sum_u32},
        ethernet::{
            ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_QINQ, ETHERTYPE_VLAN, IPV4_LEN, IPV4_PLAIN, PROTOCOL_UDP, TOS_RAW,
            TTL_RAW, UDP_LEN,
        },
    },
};

/// Why a frame is not given to the engine; each is a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Refusal {
    /// The frame is longer than the receive buffer.
    Truncated,
    /// The frame ends before its headers do.
    Short,
    /// More VLAN tags than two.
    Tags,
    /// Not IPv4, or not UDP.
    NotUdp,
    /// An IPv4 header with an impossible length or a wrong checksum.
    IpHeader,
    /// Part of a fragmented datagram: packet sockets see fragments, nobody reassembles them.
    Fragment,
    /// The lengths of IP and UDP contradict each other or the frame.
    Length,
    /// The UDP checksum is wrong.
    UdpChecksum,
    /// The Ethernet destination is another machine's.
    OtherMac,
    /// The IP destination is neither a broadcast address nor one of ours.
    OtherAddress,
    /// A frame of a VLAN device on this interface: that device's socket reads it.
    OtherInterface,
    /// Our own frame, on its way out.
    Outgoing,
    /// It has waited here for longer than its client does: the client has asked again since.
    Stale,
    /// The client said the same again before it could hear the answer to the first time.
    Repeated,
}

impl Refusal {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::Truncated,
        Self::Short,
        Self::Tags,
        Self::NotUdp,
        Self::IpHeader,
        Self::Fragment,
        Self::Length,
        Self::UdpChecksum,
        Self::OtherMac,
        Self::OtherAddress,
        Self::OtherInterface,
        Self::Outgoing,
        Self::Stale,
        Self::Repeated,
    ];

    /// The counter's name in status output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Short => "short",
            Self::Tags => "tags",
            Self::NotUdp => "not-udp",
            Self::IpHeader => "ip-header",
            Self::Fragment => "fragment",
            Self::Length => "length",
            Self::UdpChecksum => "udp-checksum",
            Self::OtherMac => "other-mac",
            Self::OtherAddress => "other-address",
            Self::OtherInterface => "other-interface",
            Self::Outgoing => "outgoing",
            Self::Stale => "stale",
            Self::Repeated => "repeated",
        }
    }
}

/// What the kernel says about a frame besides its bytes (PACKET_AUXDATA).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aux {
    /// The tag that the kernel took from the frame: TPID and TCI; zero = none.
    pub tag: u32,
    /// Whether the UDP checksum can be judged: not when it is partial (the sender's hardware, or nobody on a
    /// veth, was to fill it in) and not needed when the hardware has verified it.
    pub is_checksum_settled: bool,
}

/// A datagram found in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// Ethernet destination.
    pub mac: [u8; 6],
    /// VLAN tags, outer first: TPID and TCI; zero = no tag.
    pub vlan: [u32; 2],
    /// IP source and UDP source port.
    pub source: SocketAddrV4,
    /// IP destination and UDP destination port.
    pub destination: SocketAddrV4,
    /// UDP payload.
    pub message: &'a [u8],
}

/// Reads Ethernet, tags, IPv4 and UDP.
///
/// # Errors
/// The first thing that is wrong with the frame.
pub fn parse(frame: &[u8], aux: Aux) -> Result<Parsed<'_>, Refusal> {
    let mac = frame.read::<6>(0).ok_or(Refusal::Short)?;
    let mut vlan = [aux.tag, 0];
    let mut at = ETHERNET_LEN - 2;
    loop {
        let ethertype = frame.read::<2>(at).ok_or(Refusal::Short)?;
        at += 2;
        match ethertype {
            ETHERTYPE_IPV4 => break,
            ETHERTYPE_VLAN | ETHERTYPE_QINQ => {
                let tci = frame.read::<2>(at).ok_or(Refusal::Short)?;
                let tag = u32::from_be_bytes([ethertype[0], ethertype[1], tci[0], tci[1]]);
                let free = vlan.iter_mut().find(|place| **place == 0).ok_or(Refusal::Tags)?;
                *free = tag;
                at += 2;
            }
            _ => return Err(Refusal::NotUdp),
        }
    }
    let packet = frame.get(at..).ok_or(Refusal::Short)?;
    let (source, destination, datagram) = parse_ip(packet)?;
    let [source_high, source_low, destination_high, destination_low, len_high, len_low, check_high, check_low] =
        datagram.read::<UDP_LEN>(0).ok_or(Refusal::Length)?;
    let len = usize::from(u16::from_be_bytes([len_high, len_low]));
    // Shorter than the IP payload is lawful padding; longer is a contradiction.
    let message = datagram.get(UDP_LEN..len).ok_or(Refusal::Length)?;
    // RFC 768: a checksum of zero means that none was computed.
    if [check_high, check_low] != [0, 0] && !aux.is_checksum_settled {
        let covered = datagram.get(..len).ok_or(Refusal::Length)?;
        let total = pseudo_header(source, destination, len) + sum(covered);
        if fold(total) != 0 {
            return Err(Refusal::UdpChecksum);
        }
    }
    Ok(Parsed {
        mac,
        vlan,
        source: SocketAddrV4::new(source, u16::from_be_bytes([source_high, source_low])),
        destination: SocketAddrV4::new(destination, u16::from_be_bytes([destination_high, destination_low])),
        message,
    })
}

fn parse_ip(packet: &[u8]) -> Result<(Ipv4Addr, Ipv4Addr, &[u8]), Refusal> {
    let [version_ihl, _tos, len_high, len_low] = packet.read::<4>(0).ok_or(Refusal::Short)?;
    let header_len = usize::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || header_len < IPV4_LEN {
        return Err(Refusal::IpHeader);
    }
    let header = packet.get(..header_len).ok_or(Refusal::Short)?;
    if fold(sum(header)) != 0 {
        return Err(Refusal::IpHeader);
    }
    let [flags, offset] = header.read::<2>(6).ok_or(Refusal::Short)?;
    // More fragments, or not the first.
    if flags & 0x3f != 0 || offset != 0 {
        return Err(Refusal::Fragment);
    }
    if header.read::<1>(9) != Some([PROTOCOL_UDP]) {
        return Err(Refusal::NotUdp);
    }
    let total_len = usize::from(u16::from_be_bytes([len_high, len_low]));
    let payload = packet.get(header_len..total_len).ok_or(Refusal::Length)?;
    let source = header.read::<4>(12).ok_or(Refusal::Short)?;
    let destination = header.read::<4>(16).ok_or(Refusal::Short)?;
    Ok((source.into(), destination.into(), payload))
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, udp_len: usize) -> u64 {
    sum_u32(source.octets()) + sum_u32(destination.octets()) + u64::from(PROTOCOL_UDP) + udp_len as u64
}

/// Where a raw frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Ethernet source: the interface's address.
    pub from: [u8; 6],
    /// Ethernet destination.
    pub to: [u8; 6],
    /// VLAN tags, outer first: TPID and TCI; zero = no tag.
    pub vlan: [u32; 2],
    /// IP source and UDP source port.
    pub source: SocketAddrV4,
    /// IP destination and UDP destination port.
    pub destination: SocketAddrV4,
}

/// Writes a reply as a raw frame into `frame` (dhcpd: TOS 0x10, TTL 128, id 0, no DF, UDP checksum).
///
/// `None` when the message does not fit into an IPv4 datagram.
pub fn write(envelope: &Envelope, message: &[u8], frame: &mut Vec<u8>) -> Option<()> {
    let udp_len = u16::try_from(UDP_LEN + message.len()).ok()?;
    let total_len = udp_len.checked_add(IPV4_LEN as u16)?;
    frame.clear();
    frame.extend(envelope.to);
    frame.extend(envelope.from);
    for tag in envelope.vlan.into_iter().filter(|&tag| tag != 0) {
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(ETHERTYPE_IPV4);

    let source = *envelope.source.ip();
    let destination = *envelope.destination.ip();
    let mut header = [0_u8; IPV4_LEN];
    header[0] = IPV4_PLAIN;
    header[1] = TOS_RAW;
    header[2..4].copy_from_slice(&total_len.to_be_bytes());
    header[8] = TTL_RAW;
    header[9] = PROTOCOL_UDP;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let checksum = fold(sum(&header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(header);

    let mut udp = [0_u8; UDP_LEN];
    udp[0..2].copy_from_slice(&envelope.source.port().to_be_bytes());
    udp[2..4].copy_from_slice(&envelope.destination.port().to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    let total = pseudo_header(source, destination, usize::from(udp_len)) + sum(&udp) + sum(message);
    udp[6..8].copy_from_slice(&fold_udp(total).to_be_bytes());
    frame.extend(udp);
    frame.extend(message);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: Envelope = Envelope {
        from: [2, 0, 0, 0, 0, 1],
        to: [2, 0, 0, 0, 0, 9],
        vlan: [0, 0],
        source: SocketAddrV4::new(Ipv4Addr::new(192, 168, 150, 1), 67),
        destination: SocketAddrV4::new(Ipv4Addr::new(192, 168, 150, 50), 68),
    };

    /// An independent one's-complement checksum: bit by bit as RFC 1071 tells it, nothing shared with the pen.
    fn ones_complement(bytes: &[u8]) -> u16 {
        let mut total = 0_u16;
        for pair in bytes.chunks(2) {
            let word = u16::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u16::from(low));
            let (next, carry) = total.overflowing_add(word);
            total = next + u16::from(carry);
        }
        total
    }

    fn build(envelope: &Envelope, message: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write(envelope, message, &mut frame).unwrap();
        frame
    }

    #[test]
    fn a_raw_frame_looks_as_dhcpd_sends_it() {
        let message: Vec<u8> = (0..=255).chain(0..45).collect();
        let frame = build(&ENVELOPE, &message);
        assert_eq!(frame[..14], [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0]);
        assert_eq!(frame[14..24], [0x45, 0x10, 1, 73, 0, 0, 0, 0, 128, 17], "TOS, length, id, no DF, TTL, UDP");
        assert_eq!(ones_complement(&frame[14..34]), 0xffff);
        let udp = &frame[34..];
        assert_eq!(udp[..6], [0, 67, 0, 68, 1, 53]);
        let pseudo = [&frame[26..34], &[0, 17], &udp[4..6], udp].concat();
        assert_eq!(ones_complement(&pseudo), 0xffff);
        assert_eq!(frame[42..], message);
    }

    #[test]
    fn a_checksum_that_comes_out_as_zero_is_sent_as_all_ones() {
        // The message is chosen so that the sum of everything else and it is 0xffff.
        let bare = build(&ENVELOPE, &[0, 0]);
        let rest = u16::from_be_bytes([bare[40], bare[41]]);
        let frame = build(&ENVELOPE, &rest.to_be_bytes());
        assert_eq!(frame[40..42], [0xff, 0xff]);
        assert!(parse(&frame, Aux::default()).is_ok());
    }

    #[test]
    fn what_is_written_is_what_is_parsed_with_any_tags() {
        for vlan in [[0, 0], [0x8100_0005, 0], [0x88a8_2005, 0x8100_0007]] {
            let frame = build(&Envelope { vlan, ..ENVELOPE }, b"hello");
            let parsed = parse(&frame, Aux::default()).unwrap();
            assert_eq!(parsed.vlan, vlan);
            assert_eq!((parsed.source, parsed.destination), (ENVELOPE.source, ENVELOPE.destination));
            assert_eq!((parsed.mac, parsed.message), (ENVELOPE.to, &b"hello"[..]));
        }
    }

    #[test]
    fn the_tag_that_the_kernel_took_away_is_the_outer_one() {
        let frame = build(&Envelope { vlan: [0x8100_0007, 0], ..ENVELOPE }, b"x");
        let aux = Aux { tag: 0x88a8_0005, is_checksum_settled: false };
        assert_eq!(parse(&frame, aux).unwrap().vlan, [0x88a8_0005, 0x8100_0007]);
        let frame = build(&Envelope { vlan: [0x8100_0007, 0x8100_0008], ..ENVELOPE }, b"x");
        assert_eq!(parse(&frame, aux), Err(Refusal::Tags));
    }

    #[test]
    fn a_frame_cut_anywhere_is_refused_and_never_panics() {
        for vlan in [[0, 0], [0x88a8_0005, 0x8100_0007]] {
            let frame = build(&Envelope { vlan, ..ENVELOPE }, &[7; 300]);
            for cut in 0..frame.len() {
                let refusal = parse(&frame[..cut], Aux::default()).unwrap_err();
                assert!(matches!(refusal, Refusal::Short | Refusal::Length), "cut {cut}: {refusal:?}");
            }
        }
    }

    #[test]
    fn every_bit_that_flips_in_the_headers_or_the_message_is_noticed_or_harmless() {
        let frame = build(&ENVELOPE, &[7; 40]);
        for at in 12..frame.len() {
            for bit in 0..8 {
                let mut bad = frame.clone();
                bad[at] ^= 1 << bit;
                // A checksum of zero would mean "none"; no single flip makes one here.
                assert!(parse(&bad, Aux::default()).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_partial_checksum_is_not_judged_and_a_missing_one_is_accepted() {
        let mut frame = build(&ENVELOPE, &[7; 40]);
        frame[40] ^= 0x55;
        assert_eq!(parse(&frame, Aux::default()), Err(Refusal::UdpChecksum));
        assert!(parse(&frame, Aux { tag: 0, is_checksum_settled: true }).is_ok());
        frame[40..42].copy_from_slice(&[0, 0]);
        assert!(parse(&frame, Aux::default()).is_ok());
    }

    #[test]
    fn ethernet_padding_behind_the_datagram_is_not_part_of_the_message() {
        let mut frame = build(&ENVELOPE, b"short");
        frame.resize(60, 0xaa);
        assert_eq!(parse(&frame, Aux::default()).unwrap().message, b"short");
    }

    #[test]
    fn fragments_and_strangers_are_told_apart() {
        let refused = |at: usize, value: u8| {
            let mut frame = build(&ENVELOPE, &[7; 40]);
            frame[at] = value;
            let fresh = {
                frame[24..26].copy_from_slice(&[0, 0]);
                !ones_complement(&frame[14..34])
            };
            frame[24..26].copy_from_slice(&fresh.to_be_bytes());
            parse(&frame, Aux { tag: 0, is_checksum_settled: true }).unwrap_err()
        };
        assert_eq!(refused(20, 0x20), Refusal::Fragment);
        assert_eq!(refused(21, 1), Refusal::Fragment);
        assert_eq!(refused(23, 6), Refusal::NotUdp);
        assert_eq!(refused(14, 0x65), Refusal::IpHeader);
        assert_eq!(refused(14, 0x44), Refusal::IpHeader);
        assert_eq!(refused(12, 0x86), Refusal::NotUdp);
        assert_eq!(refused(39, 200), Refusal::Length, "UDP longer than IP");
        assert_eq!(refused(39, 7), Refusal::Length, "UDP shorter than its header");
    }

    #[test]
    fn a_message_longer_than_a_datagram_is_not_written() {
        let mut frame = Vec::new();
        assert_eq!(write(&ENVELOPE, &vec![0; 65_508], &mut frame), None);
        assert_eq!(write(&ENVELOPE, &vec![0; 65_507], &mut frame), Some(()));
    }

    #[test]
    fn refusals_are_numbered_as_they_are_listed() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index, "{}", refusal.name());
        }
    }
}
