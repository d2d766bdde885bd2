//! Keeps neighbours that do not answer from blocking the others.
//!
//! A datagram to a neighbour whose hardware address is not known yet waits in the kernel for some seconds, and its
//! bytes count against the socket's send buffer. Whoever makes the server answer many addresses that nobody has
//! could so fill the buffer for everybody. When half of it is waiting, datagrams to neighbours that the kernel is
//! still looking for are held back; all others leave.

use std::{collections::BTreeSet, fs, net::Ipv4Addr, os::fd::AsRawFd, time::Duration};

use crate::{io::clock, lease::time::BootTime};

/// The kernel's ARP table.
const TABLE: &str = "/proc/thread-self/net/arp";
/// How long a reading of the table is good.
const FRESH: Duration = Duration::from_millis(250);
/// Datagrams after which the table is read again, however fresh: a burst changes it.
const SENT_MAX: usize = 512;

/// Which datagrams may leave.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    unanswered: BTreeSet<Ipv4Addr>,
    read_at: Option<BootTime>,
    sent: usize,
}

impl Neighbours {
    /// Looks how full the send buffer of `socket` is, which holds `room` bytes, before `count` datagrams are sent.
    pub(super) fn look(&mut self, socket: &impl AsRawFd, room: usize, count: usize) {
        if waiting(socket) < room / 2 {
            self.unanswered.clear();
            self.read_at = None;
            return;
        }
        let now = clock::boot_time();
        let is_fresh = self.read_at.is_some_and(|at| now.since(at) < FRESH) && self.sent < SENT_MAX;
        if !is_fresh {
            self.unanswered = fs::read_to_string(TABLE).map(|text| unanswered(&text)).unwrap_or_default();
            self.read_at = Some(now);
            self.sent = 0;
        }
        self.sent = self.sent.saturating_add(count);
    }

    /// Whether a datagram to this address may leave now.
    #[must_use]
    pub(super) fn allow(&self, destination: Ipv4Addr) -> bool {
        !self.unanswered.contains(&destination)
    }
}

/// Bytes that wait in a socket's send buffer.
fn waiting(socket: &impl AsRawFd) -> usize {
    let mut len: libc::c_int = 0;
    // SAFETY: the request writes one int to `len`, which outlives the call.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut len) };
    if status < 0 { 0 } else { usize::try_from(len).unwrap_or(0) }
}

/// The neighbours that the kernel is still looking for: flags without ATF_COM (0x2).
fn unanswered(table: &str) -> BTreeSet<Ipv4Addr> {
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let address = fields.next()?.parse().ok()?;
            let flags = u32::from_str_radix(fields.nth(1)?.strip_prefix("0x")?, 16).ok()?;
            (flags & 2 == 0).then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_neighbours_without_an_answer_are_held_back() {
        let table = "\
IP address       HW type     Flags       HW address            Mask     Device
192.168.150.9    0x1         0x6         02:00:00:00:00:09     *        eth0
192.168.150.50   0x1         0x2         02:00:00:00:00:50     *        eth0
192.168.150.51   0x1         0x0         00:00:00:00:00:00     *        eth0
";
        assert_eq!(unanswered(table), [Ipv4Addr::new(192, 168, 150, 51)].into());
        assert_eq!(unanswered(""), BTreeSet::new());
        assert_eq!(unanswered("192.168.150.51 0x1\nx y z"), BTreeSet::new());
    }
}
