//! A packet socket: whole Ethernet frames in and out of one interface.

use std::io::{self, Read as _};
use std::mem;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use socket2::Socket;

use crate::client::Wire;
use crate::lab::now;

/// The longest frame that is read, in bytes.
const FRAME_LEN_MAX: usize = 2048;

/// A socket on one interface of the namespace it was opened in.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
}

impl PacketSocket {
    /// Opens it on `interface` of the calling thread's namespace.
    ///
    /// # Errors
    /// When there is no such interface, or the caller may not.
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        let name = std::ffi::CString::new(interface)?;
        #[expect(unsafe_code, reason = "socket2 does not know link-layer addresses")]
        // SAFETY: the name is a C string that lives until the call returns.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let Ok(index @ 1..) = i32::try_from(index) else {
            return Err(io::Error::last_os_error());
        };
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        #[expect(unsafe_code, reason = "std has no packet sockets")]
        // SAFETY: socket takes three numbers; the descriptor it returns is nobody else's.
        let fd = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol));
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        #[expect(unsafe_code, reason = "socket2 does not know link-layer addresses")]
        // SAFETY: all-zero bytes are a valid sockaddr_ll, it lives until bind returns, and its length is passed.
        let status = unsafe {
            let mut address: libc::sockaddr_ll = mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = index;
            let len = size_of_val(&address) as libc::socklen_t;
            libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len)
        };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket: Socket::from(fd) })
    }

    /// The socket itself.
    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }
}

impl Wire for PacketSocket {
    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).map(drop)
    }

    fn receive(&mut self, wait: Duration) -> io::Result<Option<Vec<u8>>> {
        let deadline = now() + wait;
        loop {
            let left = deadline.saturating_duration_since(now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left))?;
            let mut frame = vec![0; FRAME_LEN_MAX];
            match self.socket.read(&mut frame) {
                Ok(len) => {
                    frame.truncate(len);
                    return Ok(Some(frame));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted && now() < deadline => {}
                Err(error) => return Err(error),
            }
        }
    }
}
