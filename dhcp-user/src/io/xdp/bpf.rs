//! The few facts about the kernel that aya does not tell: bpf(2) about links, bpffs, namespaces.
#![expect(unsafe_code, reason = "system calls")]

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// Commands of bpf(2) (linux/bpf.h).
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_DETACH: libc::c_long = 34;
/// `BPF_LINK_TYPE_XDP`.
const LINK_TYPE_XDP: u32 = 6;
/// `BPF_FS_MAGIC` (linux/magic.h).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// `SO_NETNS_COOKIE` (asm-generic/socket.h), since Linux 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// What a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkFacts {
    /// Whether it holds an XDP program.
    pub(super) is_xdp: bool,
    /// The interface it is attached to; zero when that is gone.
    pub(super) interface: u32,
}

fn bpf(command: libc::c_long, attributes: &mut [u64]) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are as long as is said, and what they point to outlives the call (the callers' duty).
    let status =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val::<[u64]>(attributes)) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
}

/// A `u32` pair as it stands in memory: `first` at the lower address.
const fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// Opens whatever is pinned at a path.
///
/// # Errors
///
/// What the kernel says.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = [path.as_ptr() as u64, 0, 0];
    let fd = bpf(BPF_OBJ_GET, &mut attributes)?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// What a link is.
///
/// # Errors
///
/// What the kernel says, for instance when the descriptor is no link's.
pub(super) fn link_facts(link: BorrowedFd<'_>) -> io::Result<LinkFacts> {
    // struct bpf_link_info: type, id, prog_id, a hole, then `xdp.ifindex`.
    let mut info = [0_u32; 16];
    let mut attributes =
        [pair(link.as_raw_fd() as u32, size_of_val(&info) as u32), std::ptr::from_mut(&mut info) as u64];
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    let [kind, _, _, _, interface, ..] = info;
    Ok(LinkFacts { is_xdp: kind == LINK_TYPE_XDP, interface: if kind == LINK_TYPE_XDP { interface } else { 0 } })
}

/// Takes a link off its interface at once, whoever else holds it.
///
/// # Errors
///
/// What the kernel says.
pub(super) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = [pair(link.as_raw_fd() as u32, 0)];
    bpf(BPF_LINK_DETACH, &mut attributes).map(drop)
}

/// Whether a bpffs is mounted at (or above) a path.
pub(super) fn is_bpffs(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: an all-zero statfs is valid, and both pointers outlive the call.
    let (status, facts) = unsafe {
        let mut facts: libc::statfs = std::mem::zeroed();
        (libc::statfs(path.as_ptr(), &raw mut facts), facts)
    };
    status == 0 && facts.f_type & 0xffff_ffff == BPF_FS_MAGIC
}

/// A number of this process's network namespace that no other has until the next boot; the number of its inode, which
/// may come back, where the kernel has none (before 5.14).
///
/// # Errors
///
/// When neither can be had.
pub(super) fn namespace() -> io::Result<u64> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut cookie = 0_u64;
    let mut len = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: both pointers outlive the call, and the length is the value's.
    let status = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut len)
    };
    if status == 0 && cookie != 0 {
        return Ok(cookie);
    }
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata("/proc/self/ns/net")?.ino())
}

/// Takes a lock that goes with the descriptor; `false` when somebody else has it.
///
/// # Errors
///
/// What the system says.
pub(super) fn try_lock(file: &fs::File) -> io::Result<bool> {
    // SAFETY: a system call without pointers.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

/// Seconds and nanoseconds that this process's boot clock is ahead of the kernel's (time_namespaces(7)); zero outside
/// of a time namespace, and where the kernel has none.
pub(super) fn boot_offset() -> (i64, i64) {
    let text = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    offset_in(&text)
}

fn offset_in(text: &str) -> (i64, i64) {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("boottime"));
    let mut numbers = line.unwrap_or_default().split_whitespace().map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_clock_that_is_another_than_the_kernels_is_seen() {
        assert_eq!(offset_in("monotonic           0         0\nboottime       3600         7\n"), (3600, 7));
        assert_eq!(offset_in("monotonic  0 0\nboottime  0 0\n"), (0, 0));
        assert_eq!(offset_in(""), (0, 0));
    }

    #[test]
    fn a_namespace_has_one_number() {
        assert_eq!(namespace().unwrap(), namespace().unwrap());
        assert!(!is_bpffs(Path::new("/proc")));
    }
}
