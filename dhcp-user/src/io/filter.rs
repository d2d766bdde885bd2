//! The classic BPF program on the packet sockets: lets only UDP datagrams for one port through, so that a busy
//! interface does not wake the agent for frames that are not DHCP.
//!
//! It sees the frame from the Ethernet header on. The kernel has taken the outer tag away (it comes as ancillary
//! data); an inner one still stands in the frame.

use std::{io, os::fd::AsRawFd};

use dhcp_ebpf::wire::ethernet::{ETHERNET_LEN, PROTOCOL_UDP};

const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_VLAN: u32 = 0x8100;
const ETHERTYPE_QINQ: u32 = 0x88a8;
const ETHERTYPE_ARP: u32 = 0x0806;
/// Offset of the EtherType in a frame.
const TYPE_AT: u32 = 12;
/// Bytes of a VLAN tag.
const TAG_LEN: u32 = 4;
/// Bytes of a frame that pass: all.
const WHOLE: u32 = 0x0004_0000;

const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_HALF_INDEXED: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
const LOAD_HEADER_LEN: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Lets IPv4 UDP datagrams to `port` through, untagged or behind one tag; later fragments do not pass.
#[must_use]
pub fn udp_to(port: u16) -> Vec<libc::sock_filter> {
    let plain = ETHERNET_LEN as u32;
    let mut program = vec![
        op(LOAD_HALF, 0, 0, TYPE_AT),
        op(JUMP_EQUAL, 4, 0, ETHERTYPE_IPV4),
        op(JUMP_EQUAL, 1, 0, ETHERTYPE_VLAN),
        op(JUMP_EQUAL, 0, 9, ETHERTYPE_QINQ),
        op(LOAD_HALF, 0, 0, TYPE_AT + TAG_LEN),
        op(JUMP_EQUAL, 9, 7, ETHERTYPE_IPV4),
    ];
    for ip_at in [plain, plain + TAG_LEN] {
        program.extend([
            op(LOAD_BYTE, 0, 0, ip_at + 9),
            op(JUMP_EQUAL, 0, 5, PROTOCOL_UDP.into()),
            op(LOAD_HALF, 0, 0, ip_at + 6),
            op(JUMP_SET, 3, 0, 0x1fff),
            op(LOAD_HEADER_LEN, 0, 0, ip_at),
            op(LOAD_HALF_INDEXED, 0, 0, ip_at + 2),
            op(JUMP_EQUAL, 1, 0, port.into()),
            op(RETURN, 0, 0, 0),
            op(RETURN, 0, 0, WHOLE),
        ]);
    }
    program
}

/// Lets ARP replies through, nothing else.
#[must_use]
pub fn arp_replies() -> Vec<libc::sock_filter> {
    vec![
        op(LOAD_HALF, 0, 0, TYPE_AT),
        op(JUMP_EQUAL, 0, 3, ETHERTYPE_ARP),
        op(LOAD_HALF, 0, 0, ETHERNET_LEN as u32 + 6),
        op(JUMP_EQUAL, 0, 1, 2),
        op(RETURN, 0, 0, WHOLE),
        op(RETURN, 0, 0, 0),
    ]
}

/// Lets nothing through.
#[must_use]
pub fn nothing() -> Vec<libc::sock_filter> {
    vec![op(RETURN, 0, 0, 0)]
}

/// Puts a program on a socket.
///
/// # Errors
/// The kernel's refusal.
pub fn attach(socket: &impl AsRawFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `len` instructions from `filter`, which outlive the call; it does not write them.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    /// Whether the kernel's own interpreter lets the frame through the program.
    fn passes(program: &[libc::sock_filter], frame: &[u8]) -> bool {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        attach(&receiver, program).unwrap();
        receiver.set_nonblocking(true).unwrap();
        // A filtered datagram is refused or swallowed, depending on the kernel: either way it does not arrive.
        let _ = sender.send(frame);
        let mut buffer = [0; 256];
        match receiver.recv(&mut buffer) {
            Ok(len) => {
                assert_eq!(&buffer[..len], frame);
                true
            }
            Err(_) => false,
        }
    }

    fn frame(tags: &[[u8; 4]], ihl: u8, protocol: u8, fragment: [u8; 2], port: u16) -> Vec<u8> {
        let mut frame = vec![0xff; 12];
        for tag in tags {
            frame.extend(tag);
        }
        frame.extend([8, 0, 0x40 | ihl, 0, 0, 0, 0, 0]);
        frame.extend(fragment);
        frame.extend([64, protocol]);
        frame.extend(vec![0; usize::from(ihl) * 4 - 10]);
        frame.extend([0, 68]);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 8]);
        frame
    }

    #[test]
    fn only_udp_for_the_port_passes_untagged_or_behind_one_tag() {
        let program = udp_to(67);
        let vlan = [0x81, 0, 0, 5];
        let qinq = [0x88, 0xa8, 0, 5];
        for tags in [&[][..], &[vlan], &[qinq]] {
            assert!(passes(&program, &frame(tags, 5, 17, [0, 0], 67)), "{tags:?}");
            assert!(passes(&program, &frame(tags, 7, 17, [0, 0], 67)), "IP options, {tags:?}");
            assert!(passes(&program, &frame(tags, 5, 17, [0x40, 0], 67)), "DF, {tags:?}");
            assert!(passes(&program, &frame(tags, 5, 17, [0x20, 0], 67)), "first fragment, {tags:?}");
            assert!(!passes(&program, &frame(tags, 5, 17, [0, 1], 67)), "later fragment, {tags:?}");
            assert!(!passes(&program, &frame(tags, 5, 17, [0, 0], 68)), "port, {tags:?}");
            assert!(!passes(&program, &frame(tags, 5, 6, [0, 0], 67)), "TCP, {tags:?}");
        }
        assert!(!passes(&program, &frame(&[vlan, vlan], 5, 17, [0, 0], 67)), "two tags in the frame");
        assert!(passes(&udp_to(1067), &frame(&[], 5, 17, [0, 0], 1067)));
    }

    #[test]
    fn a_frame_cut_before_the_port_does_not_pass() {
        let program = udp_to(67);
        let whole = frame(&[], 5, 17, [0, 0], 67);
        let port_end = 14 + 20 + 4;
        for cut in 1..whole.len() {
            assert_eq!(passes(&program, &whole[..cut]), cut >= port_end, "cut {cut}");
        }
    }

    #[test]
    fn arp_replies_pass_and_requests_do_not() {
        let arp = |op: u8| [&[0xff; 12][..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, op], &[0; 20]].concat();
        assert!(passes(&arp_replies(), &arp(2)));
        assert!(!passes(&arp_replies(), &arp(1)));
        assert!(!passes(&arp_replies(), &frame(&[], 5, 17, [0, 0], 67)));
        assert!(!passes(&nothing(), &arp(2)));
    }
}
