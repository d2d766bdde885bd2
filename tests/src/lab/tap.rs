//! A tap on a port of a switch: every frame that passes, with the instant at which the kernel saw it.

use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;

use socket2::Socket;

use super::{Namespace, PacketSocket};

/// The longest frame that a veth passes on: nobody has cut it into segments yet.
const FRAME_LEN_MAX: usize = 70_000;
/// How much the kernel keeps until it is taken.
const BUFFER_LEN: libc::c_int = 64 << 20;

/// A frame that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// When, in nanoseconds since 1970.
    pub at: u64,
    /// The frame.
    pub frame: Vec<u8>,
}

/// A socket that sees an interface's frames of both directions. Whatever passed before a [`Tap::take`] is in it.
#[derive(Debug)]
pub struct Tap {
    socket: Socket,
}

impl Tap {
    /// Opens it on an interface of a namespace.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub fn open(namespace: &Namespace, interface: &str) -> io::Result<Self> {
        let socket = namespace.enter(|| PacketSocket::open(interface))??.into_socket();
        set(&socket, libc::SO_RCVBUFFORCE, BUFFER_LEN)?;
        // The first question makes the kernel take stamps.
        let _ = stamp(&socket);
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// What has passed since the last call.
    ///
    /// # Panics
    /// When the kernel had to drop some of it: what was not seen cannot be judged.
    pub fn take(&mut self) -> Vec<Passed> {
        let mut passed = Vec::new();
        let mut buffer = vec![0; FRAME_LEN_MAX];
        while let Ok(len) = self.socket.read(&mut buffer) {
            let at = stamp(&self.socket).expect("a time stamp");
            passed.push(Passed { at, frame: buffer[..len].to_vec() });
        }
        assert_eq!(lost(&self.socket).expect("statistics"), 0, "the tap has lost frames");
        passed
    }
}

fn set(socket: &Socket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    #[expect(unsafe_code, reason = "socket2 does not know this option")]
    // SAFETY: the value is a number that lives until the call returns, and its length is passed.
    let status =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), len) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// When the kernel saw the frame that was read last.
fn stamp(socket: &Socket) -> io::Result<u64> {
    /// SIOCGSTAMPNS where a long has 64 bits (asm-generic/sockios.h).
    const REQUEST: libc::Ioctl = 0x8907;
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "std does not read control messages")]
    // SAFETY: the request writes one timespec, which lives until it returns.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), REQUEST, &raw mut at) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(at.tv_sec.unsigned_abs() * 1_000_000_000 + at.tv_nsec.unsigned_abs())
}

/// How many frames the kernel has dropped since the last call.
fn lost(socket: &Socket) -> io::Result<u32> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = size_of_val(&statistics) as libc::socklen_t;
    #[expect(unsafe_code, reason = "socket2 does not know packet statistics")]
    // SAFETY: both pointers are to values that live until the call returns; it writes at most `len` bytes.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut len,
        )
    };
    if status == 0 { Ok(statistics.tp_drops) } else { Err(io::Error::last_os_error()) }
}
