//! The pen: template + request + times -> reply. Nobody else writes a BOOTREPLY.
//!
//! A reply is written over its request: what is copied (htype, hlen, hops, xid, secs, giaddr, chaddr) stays where it
//! stands, and the rest is overwritten. The agent lays the 44 bytes of the request into a buffer first, the
//! kernel has them in the packet; from there on both run [`write()`].
//!
//! ```text
//!    0 op=2 | htype hlen hops xid secs: the request's | 10 flags | 12 ciaddr | 16 yiaddr | 20 siaddr
//!   24 giaddr chaddr: the request's | 44 tail: sname (64) file (128) cookie 53 54 51 [58] [59] ... END padding
//! ```
//!
//! The head of the options is fixed (dhcpd: 53, 54, 51, 58, 59 come first, whatever the client asks for), so
//! the time options stand at known offsets of the tail. A template carries them with the value zero.

use crate::{
    frame::FrameMut,
    wire::dhcp::{BOOTREPLY, COOKIE_AT, TAIL_AT, Words},
};

/// Offset in the tail of the value of option 51, when there is one: after the cookie, option 53 (3 bytes) and
/// option 54 (6 bytes), and its own code and length.
pub const LEASE_TIME_AT: usize = COOKIE_AT - TAIL_AT + 4 + 3 + 6 + 2;
/// Offset in the tail of the value of the second time option.
pub const SECOND_TIME_AT: usize = LEASE_TIME_AT + 6;
/// Offset in the tail of the value of the third time option.
pub const THIRD_TIME_AT: usize = SECOND_TIME_AT + 6;

/// The fixed fields of a reply that are not the request's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// `flags`: the request's, with the broadcast bit set where the server wants it.
    pub flags: [u8; 2],
    /// `ciaddr`: the request's, zero in a NAK.
    pub ciaddr: [u8; 4],
    /// `yiaddr`: the address granted, zero in a NAK and in an answer to INFORM.
    pub yiaddr: [u8; 4],
    /// `siaddr`: `next-server`, else zero (dhcpd).
    pub siaddr: [u8; 4],
}

/// The times of a reply, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Option 51; the tail has it at [`LEASE_TIME_AT`] whenever this is not zero.
    pub lease: u32,
    /// Option 58; zero = the tail has none.
    pub renewal: u32,
    /// Option 59; zero = the tail has none.
    pub rebinding: u32,
}

impl Times {
    /// What the values add to the sum of the tail, which holds zeros in their places; the sum is one of little-endian
    /// words.
    #[must_use]
    #[inline(always)]
    pub const fn sum(&self) -> u64 {
        // All three places are at odd offsets of the tail, in whatever order they are filled: network order and the odd
        // place are two shifts by a byte, which is none.
        (self.lease as u64).wrapping_add(self.renewal as u64).wrapping_add(self.rebinding as u64)
    }
}

/// Writes a reply over the request that stands at `at`: the first `tail_len` bytes of `tail` become its tail.
///
/// `None` when the frame is too short or `tail_len` is past the tail; then the frame may be half written.
#[inline(always)]
pub fn write<F: FrameMut + ?Sized, const N: usize>(
    frame: &mut F,
    at: usize,
    fixed: &Fixed,
    tail: &[u8; N],
    tail_len: usize,
    times: &Times,
) -> Option<()> {
    let head = frame.window_mut::<TAIL_AT>(at)?;
    head[0] = BOOTREPLY;
    head[10..12].copy_from_slice(&fixed.flags);
    head[12..16].copy_from_slice(&fixed.ciaddr);
    head[16..20].copy_from_slice(&fixed.yiaddr);
    head[20..24].copy_from_slice(&fixed.siaddr);
    let tail_at = at.wrapping_add(TAIL_AT);
    frame.copy_from(tail_at, tail, tail_len)?;
    if times.lease != 0 {
        frame.write(tail_at.wrapping_add(LEASE_TIME_AT), times.lease.to_be_bytes())?;
    }
    let second = if times.renewal != 0 { times.renewal } else { times.rebinding };
    if second != 0 {
        frame.write(tail_at.wrapping_add(SECOND_TIME_AT), second.to_be_bytes())?;
    }
    if times.renewal != 0 && times.rebinding != 0 {
        frame.write(tail_at.wrapping_add(THIRD_TIME_AT), times.rebinding.to_be_bytes())?;
    }
    Some(())
}

/// Sums the fixed part of the reply to `request` as little-endian words, for the UDP checksum.
#[must_use]
#[inline(always)]
pub const fn sum_fixed(request: &Words, fixed: &Fixed) -> u64 {
    let [a, b, c, d] = request.chaddr;
    let first = (request.first & !0xff) | BOOTREPLY as u32;
    let flags = u16::from_le_bytes(fixed.flags) as u32;
    let secs_flags = (request.secs_flags & 0xffff) | (flags << 16);
    (first as u64)
        .wrapping_add(request.xid as u64)
        .wrapping_add(secs_flags as u64)
        .wrapping_add(u32::from_le_bytes(fixed.ciaddr) as u64)
        .wrapping_add(u32::from_le_bytes(fixed.yiaddr) as u64)
        .wrapping_add(u32::from_le_bytes(fixed.siaddr) as u64)
        .wrapping_add(request.giaddr as u64)
        .wrapping_add((a as u64).wrapping_add(b as u64))
        .wrapping_add((c as u64).wrapping_add(d as u64))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::{
        frame::Buffer,
        wire::{
            checksum,
            dhcp::{BOOTREQUEST, COOKIE},
        },
    };
    use std::vec::Vec;

    fn tail(renewal: bool, rebinding: bool) -> [u8; 300] {
        let mut bytes = [0_u8; 300];
        let mut options: Vec<u8> = COOKIE.to_vec();
        options.extend([53, 1, 5, 54, 4, 10, 0, 0, 1, 51, 4, 0, 0, 0, 0]);
        if renewal {
            options.extend([58, 4, 0, 0, 0, 0]);
        }
        if rebinding {
            options.extend([59, 4, 0, 0, 0, 0]);
        }
        options.extend([1, 4, 255, 255, 255, 0, 255]);
        bytes[192..192 + options.len()].copy_from_slice(&options);
        bytes
    }

    #[test]
    fn the_times_stand_behind_their_codes_in_every_combination() {
        for (renewal, rebinding) in [(0, 0), (300, 0), (0, 525), (300, 525)] {
            let tail = tail(renewal != 0, rebinding != 0);
            let mut room = [0xaa_u8; 400];
            room[0] = BOOTREQUEST;
            let fixed = Fixed { flags: [0; 2], ciaddr: [10, 0, 0, 9], yiaddr: [10, 0, 0, 9], siaddr: [0; 4] };
            let times = Times { lease: 600, renewal, rebinding };
            write(&mut Buffer::new(&mut room, 344), 0, &fixed, &tail, 300, &times).unwrap();
            let value = |code: u8| {
                crate::wire::option::Options::new(&room[240..344])
                    .map(Result::unwrap)
                    .find(|(found, _)| *found == code)
                    .map(|(_, data)| u32::from_be_bytes(data.try_into().unwrap()))
            };
            assert_eq!(value(51), Some(600));
            assert_eq!(value(58), (renewal != 0).then_some(renewal));
            assert_eq!(value(59), (rebinding != 0).then_some(rebinding));
            let words = Words::of(room.first_chunk().unwrap());
            let of_tail = checksum::turn(checksum::sum(&tail));
            let by_parts = sum_fixed(&words, &fixed).wrapping_add(of_tail).wrapping_add(times.sum());
            assert_eq!(checksum::fold(by_parts).swap_bytes(), checksum::fold(checksum::sum(&room[..344])));
        }
    }

    #[test]
    fn a_frame_too_short_for_the_tail_is_refused() {
        let mut room = [0_u8; 400];
        let fixed = Fixed { flags: [0; 2], ciaddr: [0; 4], yiaddr: [0; 4], siaddr: [0; 4] };
        let mut frame = Buffer::new(&mut room, 343);
        assert_eq!(write(&mut frame, 0, &fixed, &tail(false, false), 300, &Times::default()), None);
        assert_eq!(write(&mut frame, 0, &fixed, &tail(false, false), 301, &Times::default()), None);
    }
}
