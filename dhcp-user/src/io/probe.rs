//! Conflict probes: does somebody use this address already? An ICMP echo request as dhcpd sends it, and on the
//! link an ARP probe as well, which firewalls do not swallow.
//!
//! The ARP probe has no sender address (RFC 5227 2.1.1), so it changes nobody's table, and routers that answer
//! ARP for others (proxy ARP) keep silent.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    task::{Context, Poll},
};

use dhcp_ebpf::wire::checksum::{fold, sum};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    engine::port::{Interface, InterfaceIndex, Token},
    io::{filter, socket},
    lease::time::BootTime,
};

/// Level and name of the option that says which ICMP types a raw socket does not want (linux/icmp.h).
const SOL_RAW: i32 = 255;
const ICMP_FILTER: i32 = 1;
/// Everything but echo replies (type 0).
const ALL_BUT_ECHO_REPLY: i32 = !1;
/// ICMP type of an echo request.
const ECHO_REQUEST: u8 = 8;
/// Shortest Ethernet frame without its checksum, in bytes.
const FRAME_LEN_MIN: usize = 60;
/// Buffer of the ARP sockets, in bytes.
const ARP_BUFFER_LEN: usize = 1 << 18;

#[derive(Debug)]
struct Pending {
    address: Ipv4Addr,
    interface: Option<InterfaceIndex>,
    until: BootTime,
}

/// All probes under way.
#[derive(Debug)]
pub struct Probes {
    icmp: Option<AsyncFd<Socket>>,
    arp: BTreeMap<InterfaceIndex, AsyncFd<OwnedFd>>,
    pending: BTreeMap<Token, Pending>,
    ident: [u8; 2],
    sequence: u16,
}

impl Probes {
    /// No probes. `ident` marks this server's echo requests. Without the right to open the sockets every probe
    /// ends with "nobody answered", as with dhcpd.
    #[must_use]
    pub fn new(ident: [u8; 2]) -> Self {
        let icmp = open_icmp().inspect_err(|error| tracing::warn!(%error, "no ICMP echo probes")).ok();
        Self { icmp, arp: BTreeMap::new(), pending: BTreeMap::new(), ident, sequence: 0 }
    }

    /// Asks whether somebody uses `address`; the answer comes from [`Probes::receive`] or [`Probes::expired`].
    pub fn start(&mut self, token: Token, address: Ipv4Addr, interface: Option<&Interface>, until: BootTime) {
        if let Some(icmp) = &self.icmp {
            self.sequence = self.sequence.wrapping_add(1);
            let request = echo_request(self.ident, self.sequence);
            // Not sent is not answered: the probe runs out.
            let _ = icmp.get_ref().send_to(&request, &SocketAddr::from((address, 0)).into());
        }
        if let Some(interface) = interface {
            if !self.arp.contains_key(&interface.index)
                && let Ok(socket) = open_arp(interface.index)
            {
                self.arp.insert(interface.index, socket);
            }
            if let Some(socket) = self.arp.get(&interface.index) {
                let probe = arp_probe(interface.mac, address);
                let _ = socket::send_frame(socket, interface.index, libc::ETH_P_ARP as u16, &probe);
            }
        }
        let interface = interface.map(|interface| interface.index);
        self.pending.insert(token, Pending { address, interface, until });
    }

    /// Ready when an answer may be there.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut is_ready = self.icmp.as_ref().is_some_and(|icmp| icmp.poll_read_ready(context).is_ready());
        for socket in self.arp.values() {
            is_ready |= socket.poll_read_ready(context).is_ready();
        }
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reads the answers that are there: the probes that somebody answered.
    pub fn receive(&mut self) -> Vec<Token> {
        let mut buffer = [0_u8; 256];
        let mut used = Vec::new();
        if let Some(icmp) = &self.icmp {
            while let Ok(len) = icmp.try_io(Interest::READABLE, |icmp| receive_into(icmp, &mut buffer)) {
                used.extend(
                    buffer.get(..len).and_then(|packet| echo_reply(packet, self.ident)).map(|from| (None, from)),
                );
            }
        }
        for (interface, socket) in &self.arp {
            while let Ok(len) = socket.try_io(Interest::READABLE, |socket| receive_into(socket, &mut buffer)) {
                used.extend(buffer.get(..len).and_then(arp_reply).map(|from| (Some(*interface), from)));
            }
        }
        let is_answered = |pending: &Pending| {
            used.iter().any(|(interface, from)| {
                *from == pending.address && (interface.is_none() || *interface == pending.interface)
            })
        };
        self.take(is_answered)
    }

    /// The probes that nobody answered in time.
    pub fn expired(&mut self, now: BootTime) -> Vec<Token> {
        self.take(|pending| pending.until <= now)
    }

    /// When the next probe runs out.
    #[must_use]
    pub fn deadline(&self) -> Option<BootTime> {
        self.pending.values().map(|pending| pending.until).min()
    }

    /// Forgets the sockets of interfaces that are not served any more.
    pub fn retain(&mut self, interfaces: &[Interface]) {
        self.arp.retain(|index, _| interfaces.iter().any(|interface| interface.index == *index));
    }

    fn take(&mut self, is_over: impl Fn(&Pending) -> bool) -> Vec<Token> {
        self.pending.extract_if(.., |_, pending| is_over(pending)).map(|(token, _)| token).collect()
    }
}

fn open_icmp() -> io::Result<AsyncFd<Socket>> {
    let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking().cloexec(), Some(Protocol::ICMPV4))?;
    socket::set_option(&socket, SOL_RAW, ICMP_FILTER, ALL_BUT_ECHO_REPLY)?;
    // SAFETY: a `Socket` keeps its descriptor open, and the same one, as long as it is registered.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

fn open_arp(interface: InterfaceIndex) -> io::Result<AsyncFd<OwnedFd>> {
    let program = filter::arp_replies();
    let socket = socket::open_packet(interface, libc::ETH_P_ARP as u16, &program, ARP_BUFFER_LEN)?;
    // SAFETY: an `OwnedFd` keeps its descriptor open, and the same one, as long as it is registered.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

fn receive_into(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer outlives the call and is passed with its length.
    let len = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}

fn echo_request(ident: [u8; 2], sequence: u16) -> [u8; 16] {
    let mut packet = [0_u8; 16];
    packet[0] = ECHO_REQUEST;
    packet[4..6].copy_from_slice(&ident);
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    let checksum = fold(sum(&packet));
    packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// The sender of an echo reply to one of ours; `packet` begins with the IP header.
fn echo_reply(packet: &[u8], ident: [u8; 2]) -> Option<Ipv4Addr> {
    let header_len = usize::from(packet.first()? & 0x0f) * 4;
    let icmp = packet.get(header_len..)?;
    let is_ours = icmp.first() == Some(&0) && icmp.get(4..6)? == ident;
    let from: [u8; 4] = *packet.get(12..)?.first_chunk()?;
    is_ours.then(|| from.into())
}

fn arp_probe(mac: [u8; 6], address: Ipv4Addr) -> [u8; FRAME_LEN_MIN] {
    let mut frame = [0; FRAME_LEN_MIN];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    // ARP for IPv4 over Ethernet, request; the sender's address stays zero.
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// The address that an ARP reply speaks for.
fn arp_reply(frame: &[u8]) -> Option<Ipv4Addr> {
    let is_reply = frame.get(12..22)? == [8, 6, 0, 1, 8, 0, 6, 4, 0, 2];
    let from: [u8; 4] = *frame.get(28..)?.first_chunk()?;
    is_reply.then(|| from.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_request_has_a_checksum_that_adds_up() {
        let request = echo_request([0x12, 0x34], 7);
        assert_eq!(fold(sum(&request)), 0);
        assert_eq!(request[0], 8);
    }

    #[test]
    fn only_replies_to_our_own_requests_count() {
        let mut packet = vec![0x45; 1];
        packet.resize(20, 0);
        packet[12..16].copy_from_slice(&[10, 0, 0, 9]);
        packet.extend([0, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert_eq!(echo_reply(&packet, [0x12, 0x34]), Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(echo_reply(&packet, [0x12, 0x35]), None);
        for cut in 0..26 {
            assert_eq!(echo_reply(&packet[..cut], [0x12, 0x34]), None, "cut {cut}");
        }
        packet[20] = 8;
        assert_eq!(echo_reply(&packet, [0x12, 0x34]), None, "our own request");
    }

    #[test]
    fn an_arp_probe_has_no_sender_address_and_its_answer_names_the_target() {
        let address = Ipv4Addr::new(192, 168, 150, 77);
        let probe = arp_probe([2, 0, 0, 0, 0, 1], address);
        assert_eq!(probe[28..32], [0; 4]);
        assert_eq!(arp_reply(&probe), None, "a request is no reply");
        let mut reply = probe;
        reply[21] = 2;
        reply[28..32].copy_from_slice(&address.octets());
        assert_eq!(arp_reply(&reply), Some(address));
        for cut in 0..32 {
            assert_eq!(arp_reply(&reply[..cut]), None, "cut {cut}");
        }
    }

    #[test]
    fn the_loopback_answers_and_an_unused_address_runs_out() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut probes = Probes::new([0xab, 0xcd]);
            if probes.icmp.is_none() {
                // Without CAP_NET_RAW only the deadline can be seen.
                probes.start(Token(1), Ipv4Addr::LOCALHOST, None, BootTime::from_secs(5));
            } else {
                probes.start(Token(1), Ipv4Addr::LOCALHOST, None, BootTime::from_secs(5));
                std::future::poll_fn(|context| probes.poll_ready(context)).await;
                assert_eq!(probes.receive(), [Token(1)]);
                probes.start(Token(1), Ipv4Addr::new(192, 0, 2, 1), None, BootTime::from_secs(5));
            }
            assert_eq!(probes.deadline(), Some(BootTime::from_secs(5)));
            assert_eq!(probes.expired(BootTime::from_secs(4)), []);
            assert_eq!(probes.expired(BootTime::from_secs(5)), [Token(1)]);
            assert_eq!(probes.deadline(), None);
        });
    }
}
