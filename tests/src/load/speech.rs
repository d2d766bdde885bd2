//! What the clients of a load say, made once and changed in place; and how they read what they hear.

use std::net::Ipv4Addr;

use crate::frames::{Checksum, Envelope, Message, internet_checksum};

/// Where things stand in an untagged frame without IP options.
const FROM_MAC_AT: usize = 6;
const IP_AT: usize = 14;
const IP_SUM_AT: usize = 24;
const IP_FROM_AT: usize = 26;
const BOOTP_AT: usize = 42;
const XID_AT: usize = BOOTP_AT + 4;
const CIADDR_AT: usize = BOOTP_AT + 12;
const YIADDR_AT: usize = BOOTP_AT + 16;
const CHADDR_AT: usize = BOOTP_AT + 28;
const OPTIONS_AT: usize = BOOTP_AT + 240;
/// Options stand in this order: 53, 61, 12, and in a REQUEST 50, 54.
const CLIENT_ID_AT: usize = OPTIONS_AT + 3 + 3;
const HOST_NAME_AT: usize = OPTIONS_AT + 3 + 9 + 2;
const REQUESTED_AT: usize = HOST_NAME_AT + HOST_NAME_LEN + 2;
const HOST_NAME_LEN: usize = 12;

/// Message types that matter here.
pub(super) const OFFER: u8 = 2;
/// DHCPACK.
pub(super) const ACK: u8 = 5;
/// DHCPNAK.
pub(super) const NAK: u8 = 6;

/// The hardware address of a client.
fn mac(client: u32) -> [u8; 6] {
    let [a, b, c, d] = client.to_be_bytes();
    [2, 0x1d, a, b, c, d]
}

/// The frames of all clients.
#[derive(Debug)]
pub(super) struct Speech {
    discover: Vec<u8>,
    select: Vec<u8>,
    renewal: Vec<u8>,
}

impl Speech {
    /// Frames to a server at `server`, whose hardware address is `server_mac`.
    pub(super) fn new(server: Ipv4Addr, server_mac: [u8; 6]) -> Self {
        let message = |kind, state: &[(u8, Vec<u8>)]| {
            let mut message = Message::request(kind, mac(0), 0)
                .with(61, [&[1][..], &mac(0)].concat())
                .with(12, "host-0000000".as_bytes());
            message.options.extend(state.iter().cloned());
            message.with(55, [1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42])
        };
        let broadcast = Envelope { checksum: Checksum::Absent, ..Envelope::broadcast(mac(0)) };
        let unicast = Envelope::unicast(mac(0), Ipv4Addr::UNSPECIFIED, server_mac, server);
        let unicast = Envelope { checksum: Checksum::Absent, ..unicast };
        let state = [(50, vec![0; 4]), (54, server.octets().to_vec())];
        Self {
            discover: broadcast.wrap(&message(1, &[]).bytes()),
            select: broadcast.wrap(&message(3, &state).bytes()),
            renewal: unicast.wrap(&message(3, &[]).bytes()),
        }
    }

    /// A DISCOVER, to be finished by [`finish`].
    pub(super) fn discover(&self) -> &[u8] {
        &self.discover
    }

    /// A REQUEST for an offered address, to be finished by [`finish`] and [`finish_select`].
    pub(super) fn select(&self) -> &[u8] {
        &self.select
    }

    /// A unicast renewal, to be finished by [`finish`] and [`finish_renewal`].
    pub(super) fn renewal(&self) -> &[u8] {
        &self.renewal
    }
}

/// Writes who speaks.
pub(super) fn finish(frame: &mut [u8], client: u32, xid: u32) {
    let mac = mac(client);
    frame[FROM_MAC_AT..][..6].copy_from_slice(&mac);
    frame[XID_AT..][..4].copy_from_slice(&xid.to_be_bytes());
    frame[CHADDR_AT..][..6].copy_from_slice(&mac);
    frame[CLIENT_ID_AT..][..6].copy_from_slice(&mac);
    let mut rest = client;
    for digit in frame[HOST_NAME_AT + 5..][..HOST_NAME_LEN - 5].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Writes the address that was offered.
pub(super) fn finish_select(frame: &mut [u8], address: Ipv4Addr) {
    frame[REQUESTED_AT..][..4].copy_from_slice(&address.octets());
}

/// Writes the address that is renewed, and the sum of the IP header.
pub(super) fn finish_renewal(frame: &mut [u8], address: Ipv4Addr) {
    frame[CIADDR_AT..][..4].copy_from_slice(&address.octets());
    frame[IP_FROM_AT..][..4].copy_from_slice(&address.octets());
    frame[IP_SUM_AT..][..2].fill(0);
    let sum = internet_checksum(&frame[IP_AT..][..20], 0);
    frame[IP_SUM_AT..][..2].copy_from_slice(&sum.to_be_bytes());
}

/// A reply, as far as a client needs it to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    /// Option 53.
    pub(super) kind: u8,
    /// The transaction.
    pub(super) xid: u32,
    /// The address.
    pub(super) yiaddr: Ipv4Addr,
}

/// Reads a frame; `None` when it is no reply.
pub(super) fn hear(frame: &[u8]) -> Option<Heard> {
    if frame.get(BOOTP_AT) != Some(&2) {
        return None;
    }
    let word = |at: usize| frame.get(at..)?.first_chunk::<4>().copied();
    let mut options = frame.get(OPTIONS_AT..)?;
    let kind = loop {
        match options {
            [53, 1, kind, ..] => break *kind,
            [0, rest @ ..] => options = rest,
            [255, ..] | [] | [_] => return None,
            [_, len, rest @ ..] => options = rest.get(usize::from(*len)..)?,
        }
    };
    Some(Heard { kind, xid: u32::from_be_bytes(word(XID_AT)?), yiaddr: word(YIADDR_AT)?.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Reply;
    use crate::frames::open;
    use dhcproto::v4::{self, DhcpOption, OptionCode};
    use dhcproto::{Decodable as _, Decoder};

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn read(frame: &[u8]) -> (crate::frames::Opened, v4::Message) {
        let opened = open(frame).unwrap();
        assert!(opened.is_ip_sum_right && opened.is_udp_sum_right);
        let message = v4::Message::decode(&mut Decoder::new(&opened.payload)).unwrap();
        (opened, message)
    }

    #[test]
    fn what_is_changed_in_place_is_read_by_others() {
        let speech = Speech::new(SERVER, [2; 6]);
        let address = Ipv4Addr::new(10, 64, 1, 2);
        let mut frame = speech.select().to_vec();
        finish(&mut frame, 0x0102_0304, 77);
        finish_select(&mut frame, address);
        let (opened, message) = read(&frame);
        assert_eq!(opened.from_mac, [2, 0x1d, 1, 2, 3, 4]);
        assert_eq!((message.chaddr(), message.xid()), (&opened.from_mac[..], 77));
        let option = |code| message.opts().get(code).unwrap();
        assert_eq!(option(OptionCode::RequestedIpAddress), &DhcpOption::RequestedIpAddress(address));
        assert_eq!(option(OptionCode::ServerIdentifier), &DhcpOption::ServerIdentifier(SERVER));
        assert_eq!(option(OptionCode::Hostname), &DhcpOption::Hostname("host-6909060".to_owned()));
        let id = DhcpOption::ClientIdentifier(vec![1, 2, 0x1d, 1, 2, 3, 4]);
        assert_eq!(option(OptionCode::ClientIdentifier), &id);

        let mut frame = speech.renewal().to_vec();
        finish(&mut frame, 9, 78);
        finish_renewal(&mut frame, address);
        let (opened, message) = read(&frame);
        assert_eq!((opened.from.0, opened.to, message.ciaddr()), (address, (SERVER, 67), address));
    }

    #[test]
    fn a_reply_is_heard_as_dhcproto_hears_it_and_a_cut_one_not_at_all() {
        let mut message = Message::request(5, mac(3), 0x0a0b_0c0d);
        message.op = 2;
        message.yiaddr = Ipv4Addr::new(10, 64, 0, 9);
        // Kea sorts its options: the type is not the first.
        message.options.insert(0, (1, vec![255, 0, 0, 0]));
        let frame = Envelope { to: (message.yiaddr, 68), ..Envelope::broadcast(mac(3)) }.wrap(&message.bytes());
        let reply = Reply::parse(&frame).unwrap();
        let heard = hear(&frame).unwrap();
        assert_eq!((heard.xid, heard.yiaddr), (reply.message.xid(), reply.message.yiaddr()));
        assert_eq!(heard.kind, ACK);
        assert!((0..OPTIONS_AT + 9).all(|cut| hear(&frame[..cut]).is_none()));
    }
}
