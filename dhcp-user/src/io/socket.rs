//! Packet sockets and the UDP socket: descriptors with the right options, batches in, batches out.
//!
//! The packet sockets read everything, broadcast and unicast: one reader means that each packet is handled
//! exactly once. The UDP socket holds the port (so that the kernel answers no unicast request with "port
//! unreachable", and a second server is noticed) and sends through the IP stack; a filter that lets nothing
//! through keeps its receive queue empty without anybody draining it.

use std::{
    io, mem,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    engine::port::InterfaceIndex,
    io::{filter, frame::Aux},
};

/// Datagrams read or sent by one system call.
pub const BATCH_COUNT: usize = 64;
/// Room for one received frame, in bytes; a longer one is cut and refused. Far above what a DHCP message on a
/// 1500-byte link needs.
pub const FRAME_LEN_MAX: usize = 4096;
/// Receive and send buffers of the sockets, in bytes: with the default of 208 KiB a stall of some tens of
/// milliseconds loses packets.
pub const SOCKET_BUFFER_LEN: usize = 8 << 20;
/// The same for clients that look for an address: some 1,600 of them, in bytes. In a flood it is always full, and
/// who waits in it for longer than it has patience is answered for nothing: with 8 MiB and a server that is slowed
/// down, now and then nearly all of them.
pub const SEEKING_BUFFER_LEN: usize = 1 << 20;

/// Room for the ancillary data of one message: the auxdata of a packet socket and the time, or an `in_pktinfo`.
const CONTROL_LEN: usize = 96;

/// A frame as a packet socket hands it out.
#[derive(Debug, Clone, Copy)]
pub struct RawFrame<'a> {
    /// The frame from the Ethernet header on.
    pub bytes: &'a [u8],
    /// Whether the frame was longer than the buffer.
    pub is_truncated: bool,
    /// Ancillary data.
    pub aux: Aux,
    /// When it arrived, on the wall clock; zero = the kernel does not say.
    pub arrived: Duration,
    /// The interface that the kernel says it came in on.
    pub interface: InterfaceIndex,
    /// `sll_pkttype`: for us, broadcast, for others, outgoing.
    pub kind: u8,
}

/// Ancillary data, aligned as the kernel wants it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct ControlRoom([u8; CONTROL_LEN]);

/// Buffers for one call of `recvmmsg`; one is enough for all sockets.
pub struct ReceiveBatch {
    frames: Box<[[u8; FRAME_LEN_MAX]]>,
    names: Box<[libc::sockaddr_ll]>,
    controls: Box<[ControlRoom]>,
    lens: [(usize, i32, usize); BATCH_COUNT],
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiveBatch").finish_non_exhaustive()
    }
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        // SAFETY: sockaddr_ll is plain integers and arrays of them; all zeroes is a value.
        let name: libc::sockaddr_ll = unsafe { mem::zeroed() };
        Self {
            frames: vec![[0; FRAME_LEN_MAX]; BATCH_COUNT].into_boxed_slice(),
            names: vec![name; BATCH_COUNT].into_boxed_slice(),
            controls: vec![ControlRoom([0; CONTROL_LEN]); BATCH_COUNT].into_boxed_slice(),
            lens: [(0, 0, 0); BATCH_COUNT],
        }
    }
}

impl ReceiveBatch {
    /// Reads what is there, at most `most` frames and a batch; returns how many.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; otherwise the kernel's.
    pub fn receive(&mut self, socket: &impl AsRawFd, most: usize) -> io::Result<usize> {
        let mut vectors: [libc::iovec; BATCH_COUNT] =
            std::array::from_fn(|_| libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 });
        // SAFETY: mmsghdr is integers and pointers; all zeroes is a value.
        let mut headers: [libc::mmsghdr; BATCH_COUNT] = unsafe { mem::zeroed() };
        let rooms = self.frames.iter_mut().zip(self.names.iter_mut()).zip(self.controls.iter_mut());
        for ((vector, header), ((frame, name), control)) in vectors.iter_mut().zip(&mut headers).zip(rooms) {
            vector.iov_base = frame.as_mut_ptr().cast();
            vector.iov_len = frame.len();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_LEN;
        }
        // SAFETY: every header points to an iovec, a frame, a name and a control room that outlive the call, with
        // their true lengths; no timeout is passed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                most.min(BATCH_COUNT) as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (lens, header) in self.lens.iter_mut().zip(&headers).take(count) {
            *lens = (header.msg_len as usize, header.msg_hdr.msg_flags, header.msg_hdr.msg_controllen);
        }
        Ok(count)
    }

    /// The frames of the last call, of which there are `count`.
    pub fn frames(&self, count: usize) -> impl Iterator<Item = RawFrame<'_>> {
        let rooms = self.frames.iter().zip(self.names.iter()).zip(self.controls.iter());
        self.lens.iter().zip(rooms).take(count).map(|(&(len, flags, control_len), ((frame, name), control))| RawFrame {
            arrived: arrived(control.0.get(..control_len).unwrap_or_default()),
            bytes: frame.get(..len).unwrap_or(frame),
            is_truncated: flags & libc::MSG_TRUNC != 0 || len > FRAME_LEN_MAX,
            aux: aux(control.0.get(..control_len).unwrap_or_default()),
            interface: InterfaceIndex(u32::try_from(name.sll_ifindex).unwrap_or(0)),
            kind: name.sll_pkttype,
        })
    }
}

/// The bytes of a control message of this kind, if there is one.
fn control_message(mut control: &[u8], level: i32, kind: i32) -> Option<&[u8]> {
    let header_len = size_of::<libc::cmsghdr>();
    while control.len() >= header_len {
        // SAFETY: the bytes are there (checked above) and come from a buffer that the kernel wrote; the read does not
        // ask for alignment, and the type is plain integers.
        let header = unsafe { ptr::read_unaligned(control.as_ptr().cast::<libc::cmsghdr>()) };
        if header.cmsg_level == level && header.cmsg_type == kind {
            return control.get(header_len..header.cmsg_len);
        }
        control = control.get(header.cmsg_len.max(header_len).next_multiple_of(align_of::<libc::cmsghdr>())..)?;
    }
    None
}

/// When a frame arrived (SO_TIMESTAMPNS); zero when the kernel does not say.
fn arrived(control: &[u8]) -> Duration {
    let Some(bytes) = control_message(control, libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS)
        .filter(|bytes| bytes.len() >= size_of::<libc::timespec>())
    else {
        return Duration::ZERO;
    };
    // SAFETY: the bytes are there (checked above); the read does not ask for alignment, and the type is plain integers.
    let time = unsafe { ptr::read_unaligned(bytes.as_ptr().cast::<libc::timespec>()) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Reads PACKET_AUXDATA; all zero when there is none.
fn aux(control: &[u8]) -> Aux {
    let Some(bytes) = control_message(control, libc::SOL_PACKET, libc::PACKET_AUXDATA)
        .filter(|bytes| bytes.len() >= size_of::<libc::tpacket_auxdata>())
    else {
        return Aux::default();
    };
    // SAFETY: the bytes are there (checked above); the read does not ask for alignment, and the type is plain integers.
    let data = unsafe { ptr::read_unaligned(bytes.as_ptr().cast::<libc::tpacket_auxdata>()) };
    let has = |bit: u32| data.tp_status & bit != 0;
    let tpid = if has(libc::TP_STATUS_VLAN_TPID_VALID) { data.tp_vlan_tpid } else { libc::ETH_P_8021Q as u16 };
    let tag = if has(libc::TP_STATUS_VLAN_VALID) { u32::from(tpid) << 16 | u32::from(data.tp_vlan_tci) } else { 0 };
    Aux { tag, is_checksum_settled: has(libc::TP_STATUS_CSUMNOTREADY) || has(libc::TP_STATUS_CSUM_VALID) }
}

/// Opens a packet socket on an interface that reads frames of one protocol (EtherType) through a filter.
///
/// # Errors
/// The kernel's refusal; without CAP_NET_RAW it is `PermissionDenied`.
pub fn open_packet(
    interface: InterfaceIndex,
    protocol: u16,
    program: &[libc::sock_filter],
    buffer_len: usize,
) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // Protocol 0: nothing arrives before the filter is in place.
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    filter::attach(&fd, program)?;
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
    set_option(&fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    enlarge_buffers(&fd, buffer_len)?;
    let address = link_address(interface, protocol, None);
    // SAFETY: `address` is a sockaddr_ll of the length given, and outlives the call.
    let status = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// Spares a packet socket the frames that this machine sends.
///
/// # Errors
/// The kernel's refusal.
pub fn ignore_outgoing(socket: &impl AsRawFd) -> io::Result<()> {
    set_option(socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)
}

fn link_address(interface: InterfaceIndex, protocol: u16, mac: Option<[u8; 6]>) -> libc::sockaddr_ll {
    // SAFETY: sockaddr_ll is plain integers and arrays of them; all zeroes is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(interface.0).unwrap_or(0);
    if let Some(mac) = mac {
        address.sll_halen = 6;
        for (place, byte) in address.sll_addr.iter_mut().zip(mac) {
            *place = byte;
        }
    }
    address
}

/// Sends one frame on a packet socket's interface.
///
/// # Errors
/// The kernel's refusal; `WouldBlock` when the send buffer is full.
pub fn send_frame(socket: &impl AsRawFd, interface: InterfaceIndex, protocol: u16, frame: &[u8]) -> io::Result<()> {
    let mac = frame.first_chunk::<6>().copied();
    let address = link_address(interface, protocol, mac);
    // SAFETY: frame and address outlive the call and are passed with their true lengths.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends frames on a packet socket that is bound to its interface; calls `refused` for each that did not leave.
pub fn send_frames(socket: &impl AsRawFd, frames: &[Vec<u8>], mut refused: impl FnMut(usize, io::Error)) {
    for (chunk_index, chunk) in frames.chunks(BATCH_COUNT).enumerate() {
        let mut vectors: Vec<libc::iovec> = chunk
            .iter()
            .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: mmsghdr is integers and pointers; all zeroes is a value.
                let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        let base = chunk_index * BATCH_COUNT;
        send_all(socket, &mut headers, |index, error| refused(base + index, error));
    }
}

/// One datagram for the UDP socket.
#[derive(Debug, Clone)]
pub struct UdpDatagram {
    /// Source address; unspecified = the kernel chooses.
    pub source: Ipv4Addr,
    /// The interface it leaves through; zero = the kernel routes.
    pub interface: InterfaceIndex,
    /// Destination.
    pub destination: SocketAddrV4,
    /// UDP payload.
    pub message: Vec<u8>,
}

/// Sends datagrams through the IP stack, never waiting: a neighbour that is not resolved yet is the kernel's to
/// wait for. Calls `refused` for each that did not leave.
pub fn send_datagrams(socket: &impl AsRawFd, datagrams: &[UdpDatagram], mut refused: impl FnMut(usize, io::Error)) {
    for (chunk_index, chunk) in datagrams.chunks(BATCH_COUNT).enumerate() {
        let mut names: Vec<libc::sockaddr_in> = chunk
            .iter()
            .map(|datagram| libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: datagram.destination.port().to_be(),
                sin_addr: in_addr(*datagram.destination.ip()),
                sin_zero: [0; 8],
            })
            .collect();
        let mut controls: Vec<ControlRoom> = chunk.iter().map(packet_info).collect();
        let mut vectors: Vec<libc::iovec> = chunk
            .iter()
            .map(|datagram| libc::iovec {
                iov_base: datagram.message.as_ptr().cast_mut().cast(),
                iov_len: datagram.message.len(),
            })
            .collect();
        let rooms = names.iter_mut().zip(&mut controls).zip(&mut vectors);
        let mut headers: Vec<libc::mmsghdr> = rooms
            .map(|((name, control), vector)| {
                // SAFETY: mmsghdr is integers and pointers; all zeroes is a value.
                let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
                header.msg_hdr.msg_name = ptr::from_mut(name).cast();
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = PACKET_INFO_SPACE;
                header
            })
            .collect();
        let base = chunk_index * BATCH_COUNT;
        send_all(socket, &mut headers, |index, error| refused(base + index, error));
    }
}

/// Bytes of a control message with an `in_pktinfo`: header and data, both rounded up to eight.
const PACKET_INFO_SPACE: usize = size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>().next_multiple_of(8);
const _: () = assert!(PACKET_INFO_SPACE <= CONTROL_LEN && size_of::<libc::cmsghdr>().is_multiple_of(8));

fn packet_info(datagram: &UdpDatagram) -> ControlRoom {
    let header = libc::cmsghdr {
        cmsg_len: size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>(),
        cmsg_level: libc::IPPROTO_IP,
        cmsg_type: libc::IP_PKTINFO,
    };
    let info = libc::in_pktinfo {
        ipi_ifindex: i32::try_from(datagram.interface.0).unwrap_or(0),
        ipi_spec_dst: in_addr(datagram.source),
        ipi_addr: in_addr(Ipv4Addr::UNSPECIFIED),
    };
    let mut room = ControlRoom([0; CONTROL_LEN]);
    // SAFETY: the room is longer than header and data together (asserted above); the writes ask for no alignment.
    unsafe {
        ptr::write_unaligned(room.0.as_mut_ptr().cast(), header);
        ptr::write_unaligned(room.0.as_mut_ptr().add(size_of::<libc::cmsghdr>()).cast(), info);
    }
    room
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) }
}

/// `sendmmsg` until everything is sent or refused; the kernel stops at the first message it refuses.
fn send_all(socket: &impl AsRawFd, headers: &mut [libc::mmsghdr], mut refused: impl FnMut(usize, io::Error)) {
    let mut done = 0;
    while let Some(rest) = headers.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let rest_count = rest.len() as libc::c_uint;
        // SAFETY: the headers point to iovecs, names and control rooms of the caller, which outlive the call.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest_count, libc::MSG_DONTWAIT) };
        match usize::try_from(sent) {
            Ok(sent) if sent > 0 => done += sent,
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                refused(done, error);
                done += 1;
            }
        }
    }
}

/// Opens the UDP socket that holds the server's port and sends through the IP stack.
///
/// # Errors
/// The kernel's refusal; `AddrInUse` when another program holds the port.
pub fn open_udp(address: Ipv4Addr, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    filter::attach(&socket, &filter::nothing())?;
    socket.set_broadcast(true)?;
    socket.set_ttl_v4(u32::from(dhcp_ebpf::wire::ethernet::TTL_ROUTED))?;
    enlarge_buffers(&socket, SOCKET_BUFFER_LEN)?;
    socket.bind(&SocketAddr::from((address, port)).into())?;
    Ok(socket)
}

/// Enlarges both buffers, past the system's limit where the privilege is there (CAP_NET_ADMIN).
///
/// # Errors
/// The kernel's refusal to set them at all.
pub fn enlarge_buffers(socket: &impl AsRawFd, len: usize) -> io::Result<()> {
    let len = i32::try_from(len).unwrap_or(i32::MAX);
    for (forced, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if set_option(socket, libc::SOL_SOCKET, forced, len).is_err() {
            set_option(socket, libc::SOL_SOCKET, plain, len)?;
        }
    }
    Ok(())
}

/// Sets an integer option.
pub(super) fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: `value` outlives the call and is passed with its length.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Frames that the kernel dropped because the receive buffer was full, since the last call.
pub fn dropped(socket: &impl AsRawFd) -> u32 {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: `statistics` and `len` outlive the call, and `len` is the true length.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut len,
        )
    };
    if status < 0 { 0 } else { statistics.tp_drops }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn datagrams_leave_in_order_from_the_source_they_name() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let destination = match receiver.local_addr().unwrap() {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => unreachable!(),
        };
        let socket = open_udp(Ipv4Addr::UNSPECIFIED, 0).unwrap();
        let datagrams: Vec<UdpDatagram> = (0..100_u8)
            .map(|number| UdpDatagram {
                source: Ipv4Addr::new(127, 0, 0, 7),
                interface: InterfaceIndex(0),
                destination,
                message: vec![number; 3],
            })
            .collect();
        send_datagrams(&socket, &datagrams, |index, error| panic!("{index}: {error}"));
        for number in 0..100_u8 {
            let mut buffer = [0; 8];
            let (len, from) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..len], [number; 3]);
            assert_eq!(from.ip(), Ipv4Addr::new(127, 0, 0, 7));
        }
    }

    #[test]
    fn a_datagram_that_is_refused_does_not_stop_the_others() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(destination) = receiver.local_addr().unwrap() else { unreachable!() };
        let socket = open_udp(Ipv4Addr::UNSPECIFIED, 0).unwrap();
        let good =
            UdpDatagram { source: Ipv4Addr::LOCALHOST, interface: InterfaceIndex(0), destination, message: vec![1] };
        // 203.0.113.1 is no address of this machine.
        let bad = UdpDatagram { source: Ipv4Addr::new(203, 0, 113, 1), ..good.clone() };
        let mut refused = Vec::new();
        send_datagrams(&socket, &[good.clone(), bad, good], |index, _| refused.push(index));
        assert_eq!(refused, [1]);
        let mut buffer = [0; 8];
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 1);
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 1);
    }

    #[test]
    fn the_udp_socket_holds_its_port_and_keeps_nothing_that_arrives() {
        let socket = open_udp(Ipv4Addr::LOCALHOST, 0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let second = open_udp(Ipv4Addr::LOCALHOST, address.port()).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(address).unwrap();
        for _ in 0..3 {
            // "Port unreachable" would come back as an error of a later send.
            sender.send(b"hello").unwrap();
        }
        let mut buffer = [mem::MaybeUninit::uninit(); 8];
        assert_eq!(socket.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
