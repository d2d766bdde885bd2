//! The classic BPF programs on the packet sockets: they let only UDP datagrams for one port through, so that a busy
//! interface does not wake the agent for frames that are not DHCP, and sort those by urgency.
//!
//! When there is more than can be answered, somebody has to be left out. Each lane has a socket with a buffer of its
//! own: a flood of DISCOVERs fills the DISCOVERs' buffer, the kernel drops what is too much of them without waking
//! anybody, and a renewal finds its own buffer empty (I6).
//!
//! It sees the frame from the Ethernet header on. The kernel has taken the outer tag away (it comes as ancillary
//! data); an inner one still stands in the frame.

use std::{io, os::fd::AsRawFd};

use dhcp_ebpf::wire::{
    dhcp::MessageType,
    ethernet::{ETHERNET_LEN, PROTOCOL_UDP},
    option::code,
};

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

/// Bytes of an UDP header.
const UDP_LEN: u32 = 8;
/// Where `ciaddr` and the options stand in a message.
const CIADDR_AT: u32 = 12;
const OPTIONS_AT: u32 = dhcp_ebpf::wire::dhcp::OPTIONS_AT as u32;
/// Options that are looked at for the message type: real clients send it first.
const OPTIONS_SEEN: usize = 8;

/// Which of an interface's sockets a datagram belongs to, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A client that keeps, gives back or refuses an address.
    Holder,
    /// A client that takes what it was offered, or wants back what it had.
    Selecting,
    /// Everybody else.
    Seeking,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Holder, Self::Selecting, Self::Seeking];
}

const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_HALF_INDEXED: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
const LOAD_WORD_INDEXED: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_IND) as u16;
const LOAD_BYTE_INDEXED: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
const LOAD_FRAME_LEN: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_LEN) as u16;
const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_IMM) as u16;
const RECALL_X: u16 = (libc::BPF_LDX | libc::BPF_MEM) as u16;
const KEEP_X: u16 = libc::BPF_STX as u16;
const A_TO_X: u16 = (libc::BPF_MISC | libc::BPF_TAX) as u16;
const ADD_X: u16 = (libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X) as u16;
const SUBTRACT_X: u16 = (libc::BPF_ALU | libc::BPF_SUB | libc::BPF_X) as u16;
const ADD: u16 = (libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_NOT_BELOW: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_NOT_BELOW_X: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_X) as u16;
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

/// Lets what [`udp_to`] lets through if it belongs to this lane: every datagram belongs to exactly one.
#[must_use]
pub fn udp_to_in(port: u16, lane: Lane) -> Vec<libc::sock_filter> {
    let mut program = udp_to(port);
    let plain = ETHERNET_LEN as u32;
    // The tagged block is the last, so that it grows without moving the other; that one is moved by hand.
    for (ip_at, passes_at) in [(plain + TAG_LEN, program.len() - 1), (plain, program.len() - 10)] {
        let sorting = sort(ip_at + UDP_LEN, lane);
        let shift = sorting.len() - 1;
        program.splice(passes_at..=passes_at, sorting);
        if ip_at == plain
            && let Some(jump) = program.get_mut(5)
        {
            // From behind the tag to the tagged block.
            jump.jt += u8::try_from(shift).unwrap_or(u8::MAX);
        }
    }
    program
}

/// Goes on where a datagram is known to be for the port, its IP header's length in X: `message_at` and X is where its
/// message begins. Ends by letting it through or not.
fn sort(message_at: u32, lane: Lane) -> Vec<libc::sock_filter> {
    // Targets of jumps, counted from the end: three verdicts, and before them the look at ciaddr.
    const VERDICTS: usize = 3;
    const CIADDR: usize = 3;
    const KINDS: usize = 5;
    const STEP: usize = 13;
    let options_at = message_at + OPTIONS_AT;
    let total = 1 + STEP * OPTIONS_SEEN + 1 + KINDS + CIADDR + VERDICTS;
    let kinds_at = 1 + STEP * OPTIONS_SEEN + 1;
    let ciaddr_at = kinds_at + KINDS;
    let verdict_at = |lane: Lane| total - VERDICTS + lane as usize;
    let by = |from: usize, to: usize| u8::try_from(to - from - 1).unwrap_or(u8::MAX);
    let far = |from: usize, to: usize| op(JUMP, 0, 0, (to - from - 1) as u32);
    let seeking = verdict_at(Lane::Seeking);
    let mut program = vec![op(KEEP_X, 0, 0, 0)];
    for _ in 0..OPTIONS_SEEN {
        let at = program.len();
        program.extend([
            // A load past the end would end the program: a message that is cut is everybody else's.
            op(LOAD_FRAME_LEN, 0, 0, 0),
            op(JUMP_NOT_BELOW_X, 0, by(at + 1, seeking), 0),
            op(SUBTRACT_X, 0, 0, 0),
            op(JUMP_NOT_BELOW, 0, by(at + 3, seeking), options_at + 3),
            op(LOAD_BYTE_INDEXED, 0, 0, options_at),
            op(JUMP_EQUAL, by(at + 5, kinds_at), 0, code::MESSAGE_TYPE.into()),
            op(JUMP_EQUAL, 0, 2, code::PAD.into()),
            op(LOAD_NUMBER, 0, 0, 1),
            far(at + 8, at + 11),
            op(LOAD_BYTE_INDEXED, 0, 0, options_at + 1),
            op(ADD, 0, 0, 2),
            op(ADD_X, 0, 0, 0),
            op(A_TO_X, 0, 0, 0),
        ]);
    }
    program.push(far(program.len(), seeking));
    let at = program.len();
    let kind = |kind: MessageType| u32::from(kind as u8);
    program.extend([
        op(LOAD_BYTE_INDEXED, 0, 0, options_at + 2),
        op(JUMP_EQUAL, by(at + 1, ciaddr_at), 0, kind(MessageType::Request)),
        op(JUMP_EQUAL, by(at + 2, verdict_at(Lane::Holder)), 0, kind(MessageType::Release)),
        op(JUMP_EQUAL, by(at + 3, verdict_at(Lane::Holder)), 0, kind(MessageType::Decline)),
        far(at + 4, seeking),
        op(RECALL_X, 0, 0, 0),
        op(LOAD_WORD_INDEXED, 0, 0, message_at + CIADDR_AT),
        op(JUMP_EQUAL, by(at + 7, verdict_at(Lane::Selecting)), by(at + 7, verdict_at(Lane::Holder)), 0),
    ]);
    program.extend(Lane::ALL.map(|this| op(RETURN, 0, 0, if this == lane { WHOLE } else { 0 })));
    debug_assert_eq!(program.len(), total);
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
        let mut buffer = [0; 2048];
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

    /// The lanes of a frame: exactly one when it is for the port.
    fn lanes(frame: &[u8]) -> Vec<Lane> {
        Lane::ALL.into_iter().filter(|lane| passes(&udp_to_in(67, *lane), frame)).collect()
    }

    fn message(ciaddr: u8, options: &[u8]) -> Vec<u8> {
        let mut message = vec![1, 1, 6, 0];
        message.resize(OPTIONS_AT as usize - 4, 0);
        message[CIADDR_AT as usize] = ciaddr;
        message.extend([99, 130, 83, 99]);
        message.extend(options);
        message
    }

    fn framed(tags: &[[u8; 4]], ihl: u8, message: &[u8]) -> Vec<u8> {
        let mut frame = frame(tags, ihl, 17, [0, 0], 67);
        frame.truncate(frame.len() - 4);
        frame.extend(message);
        frame
    }

    #[test]
    fn every_message_has_one_lane_and_it_is_the_one_the_engine_thinks_of() {
        use crate::engine::{Urgency, urgency};
        let kinds = (0..=18_u8).flat_map(|kind| [0, 10].map(|ciaddr| (kind, ciaddr)));
        for (kind, ciaddr) in kinds {
            let after = [&[61, 3, 1, 2, 3, 0, 0, 12, 1, b'x', 53, 1, kind][..], &[255, 0, 0]].concat();
            for options in [&[53, 1, kind, 50, 4, 1, 2, 3, 4, 255][..], &after] {
                let message = message(ciaddr, options);
                let expected = match urgency(&message) {
                    Urgency::Holder => Lane::Holder,
                    Urgency::Selecting => Lane::Selecting,
                    Urgency::Seeking | Urgency::Other => Lane::Seeking,
                };
                for (tags, ihl) in [(&[][..], 5), (&[], 7), (&[[0x81, 0, 0, 5]], 5), (&[[0x81, 0, 0, 5]], 6)] {
                    assert_eq!(lanes(&framed(tags, ihl, &message)), [expected], "{kind} {ciaddr} {tags:?} {ihl}");
                }
            }
        }
    }

    #[test]
    fn a_message_that_is_cut_or_never_says_its_type_is_everybody_elses() {
        let whole = framed(&[], 5, &message(10, &[61, 3, 1, 2, 3, 53, 1, 3, 255]));
        let port_end = 14 + 20 + 4;
        for cut in port_end..whole.len() - 1 {
            assert_eq!(lanes(&whole[..cut]), [Lane::Seeking], "cut {cut}");
        }
        assert_eq!(lanes(&whole), [Lane::Holder]);
        let long = [&[12, 1, 0].repeat(OPTIONS_SEEN)[..], &[53, 1, 3, 255]].concat();
        assert_eq!(lanes(&framed(&[], 5, &message(10, &long))), [Lane::Seeking]);
        assert_eq!(lanes(&framed(&[], 5, &message(10, &[0; 60]))), [Lane::Seeking]);
        assert_eq!(lanes(&frame(&[], 5, 17, [0, 0], 68)), []);
        assert_eq!(lanes(&frame(&[[0x81, 0, 0, 5]], 5, 17, [0, 1], 67)), []);
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
