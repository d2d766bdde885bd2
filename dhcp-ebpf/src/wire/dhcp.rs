//! The fixed part of a BOOTP/DHCP message (RFC 2131 2, figure 1) and its codes.
//!
//! ```text
//!    0 op  1 htype  2 hlen  3 hops | 4 xid | 8 secs  10 flags | 12 ciaddr | 16 yiaddr | 20 siaddr
//!   24 giaddr | 28 chaddr (16) | 44 sname (64) | 108 file (128) | 236 cookie | 240 options ...
//! ```

use core::fmt;

use crate::frame::Frame;

/// Offset of the options, after the magic cookie.
pub const OPTIONS_AT: usize = 240;
/// Offset of the magic cookie.
pub const COOKIE_AT: usize = 236;
/// Offset of `sname`: everything from here on is the *tail* of a message, what a template carries.
pub const TAIL_AT: usize = 44;
/// Length of `sname` and `file` together, in bytes.
pub const SNAME_FILE_LEN: usize = 192;
/// The magic cookie that announces options (RFC 2131 3).
pub const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Length of a BOOTP message without its vendor field: no shorter one is whole (RFC 951 3).
pub const MESSAGE_LEN_FIXED: usize = COOKIE_AT;
/// Longest hardware address: the room of `chaddr`, in bytes.
pub const HW_ADDR_LEN_MAX: usize = 16;
/// The shortest reply a server sends: a BOOTP message (RFC 1542 2.1; dhcpd pads to it).
pub const MESSAGE_LEN_MIN: usize = 300;
/// The broadcast bit of `flags` (RFC 2131 2, figure 2).
pub const FLAG_BROADCAST: u16 = 0x8000;
/// `htype` of Ethernet.
pub const HTYPE_ETHERNET: u8 = 1;

/// `op` of a message from a client.
pub const BOOTREQUEST: u8 = 1;
/// `op` of a message from a server.
pub const BOOTREPLY: u8 = 2;

/// DHCP message type (RFC 2132 9.6, RFC 4388 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MessageType {
    /// A client looks for servers.
    Discover = 1,
    /// A server offers an address.
    Offer = 2,
    /// A client asks for an address, or to keep it.
    Request = 3,
    /// A client refuses an address that is in use.
    Decline = 4,
    /// A server grants an address.
    Ack = 5,
    /// A server refuses.
    Nak = 6,
    /// A client gives its address back.
    Release = 7,
    /// A client with an address asks for options.
    Inform = 8,
    /// A relay or access device asks about a lease.
    LeaseQuery = 10,
    /// The address is known, and nobody has it.
    LeaseUnassigned = 11,
    /// Nothing is known.
    LeaseUnknown = 12,
    /// The address is leased.
    LeaseActive = 13,
}

impl MessageType {
    /// The type with this number, if RFC 2132 or RFC 4388 knows it.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            10 => Self::LeaseQuery,
            11 => Self::LeaseUnassigned,
            12 => Self::LeaseUnknown,
            13 => Self::LeaseActive,
            _ => return None,
        })
    }
}

/// A hardware address as `htype`, `hlen` and `chaddr` carry it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HwAddr {
    htype: u8,
    len: u8,
    bytes: [u8; 16],
}

impl HwAddr {
    /// The longest address, in bytes: the room of `chaddr`.
    pub const LEN_MAX: usize = HW_ADDR_LEN_MAX;

    /// Makes an address of the given type; `None` if it does not fit into `chaddr`.
    #[must_use]
    pub fn new(htype: u8, address: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        bytes.get_mut(..address.len())?.copy_from_slice(address);
        Some(Self { htype, len: address.len() as u8, bytes })
    }

    /// Makes an Ethernet address.
    #[must_use]
    pub const fn ethernet(mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = mac;
        Self { htype: HTYPE_ETHERNET, len: 6, bytes: [a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }
    }

    /// The hardware type, 1 for Ethernet.
    #[must_use]
    pub const fn htype(&self) -> u8 {
        self.htype
    }

    /// The address without padding.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The six bytes of an Ethernet address; `None` for any other type or length.
    #[must_use]
    pub fn mac(&self) -> Option<[u8; 6]> {
        if self.htype != HTYPE_ETHERNET || self.len != 6 {
            return None;
        }
        self.bytes.first_chunk().copied()
    }
}

impl fmt::Debug for HwAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{self}", self.htype)
    }
}

/// Writes `00:1a:2b:3c:4d:5e`, as dhcpd logs it.
impl fmt::Display for HwAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.bytes().iter().enumerate() {
            if index > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The fixed fields of a message up to `sname`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 1 from clients, 2 from servers.
    pub op: u8,
    /// Hardware type.
    pub htype: u8,
    /// Hardware address length; at most 16 in a well-formed message.
    pub hlen: u8,
    /// Relay agents passed.
    pub hops: u8,
    /// Transaction, chosen by the client.
    pub xid: [u8; 4],
    /// Seconds since the client began, as it says.
    pub secs: [u8; 2],
    /// Broadcast bit and reserved bits.
    pub flags: [u8; 2],
    /// The client's address, if it has one it can be reached at.
    pub ciaddr: [u8; 4],
    /// "Your" address, from the server.
    pub yiaddr: [u8; 4],
    /// Next server to boot from.
    pub siaddr: [u8; 4],
    /// Relay agent's address.
    pub giaddr: [u8; 4],
    /// Client hardware address, with what follows it in the field.
    pub chaddr: [u8; 16],
}

impl Header {
    /// Length of the fixed fields up to `sname`, in bytes.
    pub const LEN: usize = TAIL_AT;

    /// Reads the fields at `at`; `None` if the frame ends before them.
    #[inline(always)]
    pub fn parse<F: Frame + ?Sized>(frame: &F, at: usize) -> Option<Self> {
        let [op, htype, hlen, hops] = frame.read::<4>(at)?;
        Some(Self {
            op,
            htype,
            hlen,
            hops,
            xid: frame.read(at.wrapping_add(4))?,
            secs: frame.read(at.wrapping_add(8))?,
            flags: frame.read(at.wrapping_add(10))?,
            ciaddr: frame.read(at.wrapping_add(12))?,
            yiaddr: frame.read(at.wrapping_add(16))?,
            siaddr: frame.read(at.wrapping_add(20))?,
            giaddr: frame.read(at.wrapping_add(24))?,
            chaddr: frame.read(at.wrapping_add(28))?,
        })
    }

    /// The client's hardware address; `None` when `hlen` is more than `chaddr` holds.
    #[must_use]
    pub fn hw_addr(&self) -> Option<HwAddr> {
        HwAddr::new(self.htype, self.chaddr.get(..usize::from(self.hlen))?)
    }

    /// Whether the client asks for a broadcast reply.
    #[must_use]
    #[inline(always)]
    pub fn is_broadcast(&self) -> bool {
        u16::from_be_bytes(self.flags) & FLAG_BROADCAST != 0
    }
}

/// The fixed fields of a request as words, each read little-endian as it stands in the packet: what the fast path
/// compares, copies and sums, without taking them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// op, htype, hlen, hops.
    pub first: u32,
    /// Transaction.
    pub xid: u32,
    /// secs (lower half), flags.
    pub secs_flags: u32,
    /// `ciaddr`.
    pub ciaddr: u32,
    /// `giaddr`.
    pub giaddr: u32,
    /// `chaddr` with its padding.
    pub chaddr: [u32; 4],
}

impl Words {
    /// Reads the words of a message.
    #[must_use]
    #[inline(always)]
    pub fn of(message: &[u8; OPTIONS_AT]) -> Self {
        Self {
            first: word(message, 0),
            xid: word(message, 4),
            secs_flags: word(message, 8),
            ciaddr: word(message, 12),
            giaddr: word(message, 24),
            chaddr: [word(message, 28), word(message, 32), word(message, 36), word(message, 40)],
        }
    }

    /// An Ethernet client's address: six bytes, the first one lowest.
    #[must_use]
    #[inline(always)]
    pub const fn mac(&self) -> u64 {
        let [low, high, _, _] = self.chaddr;
        low as u64 | ((high as u64 & 0xffff) << 32)
    }

    /// `flags`.
    #[must_use]
    #[inline(always)]
    pub const fn flags(&self) -> [u8; 2] {
        ((self.secs_flags >> 16) as u16).to_le_bytes()
    }

    /// Whether the client asks for a broadcast reply.
    #[must_use]
    #[inline(always)]
    pub const fn is_broadcast(&self) -> bool {
        (self.secs_flags >> 16) & FLAG_BROADCAST.swap_bytes() as u32 != 0
    }
}

/// The four bytes at `at`, read little-endian; `at` is a constant, so the bound is the compiler's.
#[inline(always)]
pub(crate) fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_hardware_address_longer_than_chaddr_is_refused() {
        assert!(HwAddr::new(1, &[0; 17]).is_none());
        assert_eq!(HwAddr::new(1, &[2, 0, 0, 0, 0, 1]).and_then(|hw| hw.mac()), Some([2, 0, 0, 0, 0, 1]));
        assert_eq!(HwAddr::ethernet([0, 0x1a, 0x2b, 0, 0, 9]).to_string(), "00:1a:2b:00:00:09");
    }

    #[test]
    fn the_words_say_what_the_header_says() {
        let bytes: [u8; OPTIONS_AT] = core::array::from_fn(|at| (at * 7 + 1) as u8);
        let (words, header) = (Words::of(&bytes), Header::parse(&bytes[..], 0).unwrap());
        assert_eq!(words.first.to_le_bytes(), [header.op, header.htype, header.hlen, header.hops]);
        assert_eq!((words.xid.to_le_bytes(), words.ciaddr.to_le_bytes()), (header.xid, header.ciaddr));
        assert_eq!((words.giaddr.to_le_bytes(), words.flags()), (header.giaddr, header.flags));
        assert_eq!(words.mac().to_le_bytes()[..6], header.chaddr[..6]);
        assert_eq!(words.is_broadcast(), header.is_broadcast());
        for (flags, is_broadcast) in [([0x80, 0], true), ([0x7f, 0xff], false)] {
            let mut bytes = bytes;
            bytes[10..12].copy_from_slice(&flags);
            assert_eq!(Words::of(&bytes).is_broadcast(), is_broadcast);
        }
    }

    #[test]
    fn a_header_is_refused_at_every_shorter_length() {
        let mut bytes = [0_u8; Header::LEN];
        bytes[0] = BOOTREQUEST;
        bytes[2] = 6;
        assert!(Header::parse(&bytes[..], 0).is_some());
        for cut in 0..Header::LEN {
            assert!(Header::parse(&bytes[..cut], 0).is_none(), "cut {cut}");
        }
    }
}
