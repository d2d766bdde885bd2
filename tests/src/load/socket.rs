//! A packet socket that moves frames by the batch, so that the generator is not what is measured.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;

/// Frames of one system call.
const BATCH_COUNT: usize = 64;
/// Room for one frame, in bytes.
const FRAME_LEN_MAX: usize = 1024;
/// Buffers of the socket, in bytes: replies to a thousand clients at once must fit.
const BUFFER_LEN: i32 = 32 << 20;

/// A socket on one interface, with rooms for a batch each way. Reads only UDP datagrams to the clients' port.
pub(super) struct BatchSocket {
    fd: OwnedFd,
    outgoing: Vec<Vec<u8>>,
    outgoing_count: usize,
    incoming: Vec<[u8; FRAME_LEN_MAX]>,
    lens: [usize; BATCH_COUNT],
    /// Frames that the kernel did not take.
    pub(super) refused: u64,
}

impl BatchSocket {
    /// Opens it on an interface of the calling thread's namespace.
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        let name = std::ffi::CString::new(interface)?;
        #[expect(unsafe_code, reason = "std does not know interfaces")]
        // SAFETY: the name is a C string that lives until the call returns.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let Ok(index @ 1..) = i32::try_from(index) else {
            return Err(io::Error::last_os_error());
        };
        #[expect(unsafe_code, reason = "std has no packet sockets")]
        // SAFETY: socket takes three numbers; the descriptor it returns is nobody else's.
        let fd = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let socket = Self {
            fd,
            outgoing: vec![Vec::new(); BATCH_COUNT],
            outgoing_count: 0,
            incoming: vec![[0; FRAME_LEN_MAX]; BATCH_COUNT],
            lens: [0; BATCH_COUNT],
            refused: 0,
        };
        socket.filter()?;
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BUFFER_LEN)?;
        socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &BUFFER_LEN)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1)?;
        #[expect(unsafe_code, reason = "std does not know link-layer addresses")]
        // SAFETY: all-zero bytes are a valid sockaddr_ll, it lives until bind returns, and its length is passed.
        let status = unsafe {
            let mut address: libc::sockaddr_ll = mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
            address.sll_ifindex = index;
            let len = size_of_val(&address) as libc::socklen_t;
            libc::bind(socket.fd.as_raw_fd(), (&raw const address).cast(), len)
        };
        if status == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
    }

    /// Keeps everything but untagged UDP to port 68 in the kernel, and what is for strangers: no client here would hear it.
    fn filter(&self) -> io::Result<()> {
        const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
        const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
        const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        const JUMP_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
        const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
        let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        // No reply has IP options.
        let mut program = [
            op(LOAD_BYTE, 0, 0, 23),
            op(JUMP_EQUAL, 0, 5, 17),
            op(LOAD_HALF, 0, 0, 36),
            op(JUMP_EQUAL, 0, 3, 68),
            op(LOAD_WORD, 0, 0, 46),
            op(JUMP_SET, 1, 0, super::STRANGERS),
            op(RETURN, 0, 0, 0x0004_0000),
            op(RETURN, 0, 0, 0),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    fn set<T>(&self, level: i32, name: i32, value: &T) -> io::Result<()> {
        #[expect(unsafe_code, reason = "std has no socket options of packet sockets")]
        // SAFETY: the value lives until the call returns and is passed with its length; the kernel copies it, and for
        // a filter also the instructions it points to, which live as long.
        let status = unsafe {
            let len = size_of::<T>() as libc::socklen_t;
            libc::setsockopt(self.fd.as_raw_fd(), level, name, ptr::from_ref(value).cast(), len)
        };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// A place in the batch that goes out, filled with a copy of `template`; it leaves with [`Self::flush`] or when
    /// the batch is full.
    pub(super) fn push(&mut self, template: &[u8]) -> &mut [u8] {
        if self.outgoing_count == BATCH_COUNT {
            self.flush();
        }
        let frame = &mut self.outgoing[self.outgoing_count];
        self.outgoing_count += 1;
        frame.clear();
        frame.extend_from_slice(template);
        frame
    }

    /// Sends the batch. What the kernel does not take is counted and lost, as on a cable.
    pub(super) fn flush(&mut self) {
        let count = mem::take(&mut self.outgoing_count);
        if count == 0 {
            return;
        }
        let mut vectors: [libc::iovec; BATCH_COUNT] = std::array::from_fn(|at| libc::iovec {
            iov_base: self.outgoing[at].as_mut_ptr().cast(),
            iov_len: self.outgoing[at].len(),
        });
        let mut headers = headers(&mut vectors);
        let mut done = 0;
        while done < count {
            #[expect(unsafe_code, reason = "std has no sendmmsg")]
            // SAFETY: the headers point to iovecs, and those to frames, that outlive the call.
            let sent =
                unsafe { libc::sendmmsg(self.fd.as_raw_fd(), headers[done..].as_mut_ptr(), (count - done) as u32, 0) };
            match usize::try_from(sent) {
                Ok(sent @ 1..) => done += sent,
                Ok(0) | Err(_) => {
                    self.refused += 1;
                    done += 1;
                }
            }
        }
    }

    /// Reads what is there, at most a batch; how many frames.
    pub(super) fn receive(&mut self) -> usize {
        let mut vectors: [libc::iovec; BATCH_COUNT] = std::array::from_fn(|at| libc::iovec {
            iov_base: self.incoming[at].as_mut_ptr().cast(),
            iov_len: FRAME_LEN_MAX,
        });
        let mut headers = headers(&mut vectors);
        #[expect(unsafe_code, reason = "std has no recvmmsg")]
        // SAFETY: the headers point to iovecs, and those to rooms of the length given, that outlive the call; there is
        // no timeout.
        let count = unsafe {
            let flags = libc::MSG_DONTWAIT;
            libc::recvmmsg(self.fd.as_raw_fd(), headers.as_mut_ptr(), BATCH_COUNT as u32, flags, ptr::null_mut())
        };
        let count = usize::try_from(count).unwrap_or(0);
        for (len, header) in self.lens.iter_mut().zip(&headers).take(count) {
            *len = (header.msg_len as usize).min(FRAME_LEN_MAX);
        }
        count
    }

    /// A frame of the last batch read.
    pub(super) fn frame(&self, at: usize) -> &[u8] {
        &self.incoming[at][..self.lens[at]]
    }
}

impl std::fmt::Debug for BatchSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchSocket").finish_non_exhaustive()
    }
}

/// One header for each vector.
fn headers(vectors: &mut [libc::iovec; BATCH_COUNT]) -> [libc::mmsghdr; BATCH_COUNT] {
    #[expect(unsafe_code, reason = "libc's structures have no constructors")]
    // SAFETY: mmsghdr is integers and pointers; all zeroes is a value.
    let mut headers: [libc::mmsghdr; BATCH_COUNT] = unsafe { mem::zeroed() };
    for (header, vector) in headers.iter_mut().zip(vectors) {
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
    }
    headers
}
