//! request -> [`Question`] -> digest: the list of what may influence an answer.
//!
//! The digest is keyed and 64 bits wide: the sum over 32-bit words of `word * key[position]`, modulo 2^64, with
//! an independent random key per position. For two different questions of equal layout the difference of the
//! sums is a sum of `d * key` with some `d` between 1 and 2^32 in absolute value; each such product is uniform
//! over the multiples of a power of two of at most 2^31, so two questions collide with a probability of at most
//! 2^-33, whatever a client sends without knowing the key. A word of zero adds nothing, so trailing zero
//! padding (option 0, meaningless after END and between options) does not change a question.
//!
//! What only decides where the reply goes (the broadcast flag, whether the request was sent to everybody) or is merely copied (xid, secs, hops, flags) is no part of the digest. `sname` and `file` of a
//! request are not either: an answer that depended on them is never armed.

use crate::{abi::DigestKey, frame::Frame};

/// Most option bytes a question may have; a longer request is passed up.
pub const OPTIONS_LEN_MAX: usize = 384;

/// What may influence an answer, but for the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Question {
    /// The client's Ethernet address (`htype` 1, `hlen` 6).
    pub chaddr: [u8; 6],
    /// The address asked for: `ciaddr`, or option 50 of a rebooting client.
    pub address: [u8; 4],
    /// Whether `ciaddr` names it: RENEWING or REBINDING, not a reboot.
    pub has_ciaddr: bool,
    /// The relay, or zero.
    pub giaddr: [u8; 4],
    /// Arrival interface.
    pub interface: u32,
    /// VLAN tags, outer first: TPID and TCI; zero = no tag.
    pub vlan: [u32; 2],
}

/// Digests a question and the `len` option bytes that stand at `at` in `frame`.
///
/// `None` when there are more than [`OPTIONS_LEN_MAX`], or fewer in the frame than `len` says.
#[must_use]
#[inline(always)]
pub fn digest<F: Frame + ?Sized>(
    question: &Question,
    frame: &F,
    at: usize,
    len: usize,
    key: &DigestKey,
) -> Option<u64> {
    if len > OPTIONS_LEN_MAX {
        return None;
    }
    let [m0, m1, m2, m3, m4, m5] = question.chaddr;
    let words: [u32; 8] = [
        u32::from_le_bytes([m0, m1, m2, m3]),
        u32::from_le_bytes([m4, m5, 0, 0]),
        u32::from_le_bytes(question.address),
        u32::from_le_bytes(question.giaddr),
        question.interface,
        question.vlan[0],
        question.vlan[1],
        question.has_ciaddr as u32,
    ];
    let mut sum = 0_u64;
    let mut position = 0;
    while position < 8 {
        sum = sum.wrapping_add((words[position] as u64).wrapping_mul(key.words[position]));
        position += 1;
    }
    let mut done = 0;
    while done < OPTIONS_LEN_MAX {
        if done.wrapping_add(4) > len {
            break;
        }
        let word = u32::from_le_bytes(frame.read::<4>(at.wrapping_add(done))?);
        sum = sum.wrapping_add((word as u64).wrapping_mul(key.words[8 + done / 4]));
        done += 4;
    }
    if done < len && done < OPTIONS_LEN_MAX {
        let first = frame.read::<1>(at.wrapping_add(done))?[0];
        let second =
            if done.wrapping_add(1) < len { frame.read::<1>(at.wrapping_add(done).wrapping_add(1))?[0] } else { 0 };
        let third =
            if done.wrapping_add(2) < len { frame.read::<1>(at.wrapping_add(done).wrapping_add(2))?[0] } else { 0 };
        let word = u32::from_le_bytes([first, second, third, 0]);
        sum = sum.wrapping_add((word as u64).wrapping_mul(key.words[8 + done / 4]));
    }
    Some(sum)
}
