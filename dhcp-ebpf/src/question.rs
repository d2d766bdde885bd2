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
pub const OPTIONS_LEN_MAX: usize = BLOCK_COUNT * BLOCK_LEN;
/// Words of the fixed fields.
pub const FIELD_WORDS: usize = 8;
/// Blocks that the option bytes are taken in.
pub const BLOCK_COUNT: usize = 12;
/// Length of a block, in bytes.
pub const BLOCK_LEN: usize = 32;

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

impl Question {
    /// The fixed fields as the digest takes them.
    #[must_use]
    #[inline(always)]
    pub const fn words(&self) -> [u32; FIELD_WORDS] {
        let [m0, m1, m2, m3, m4, m5] = self.chaddr;
        [
            u32::from_le_bytes([m0, m1, m2, m3]),
            u32::from_le_bytes([m4, m5, 0, 0]),
            u32::from_le_bytes(self.address),
            u32::from_le_bytes(self.giaddr),
            self.interface,
            self.vlan[0],
            self.vlan[1],
            self.has_ciaddr as u32,
        ]
    }
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
    digest_words(&question.words(), frame, at, len, key)
}

/// [`digest`] of a question whose fixed fields are words already.
#[must_use]
#[inline(always)]
pub fn digest_words<F: Frame + ?Sized>(
    words: &[u32; FIELD_WORDS],
    frame: &F,
    at: usize,
    len: usize,
    key: &DigestKey,
) -> Option<u64> {
    if len > OPTIONS_LEN_MAX {
        return None;
    }
    let mut sum = 0_u64;
    let mut position = 0;
    while position < FIELD_WORDS {
        sum = sum.wrapping_add((words[position] as u64).wrapping_mul(key.fields[position]));
        position += 1;
    }
    // Whole blocks, then what is left of the last one: eight bytes at a time, four, and the last three.
    let (mut at, mut left) = (at, len);
    for keys in &key.options {
        if left < BLOCK_LEN {
            let pairs = keys.as_chunks::<2>().0;
            for pair in pairs {
                if left < 8 {
                    return Some(sum.wrapping_add(digest_end(frame, at, left, pair)?));
                }
                sum = sum.wrapping_add(digest_pair(frame.read::<8>(at)?, pair));
                at = at.wrapping_add(8);
                left = left.wrapping_sub(8);
            }
            return Some(sum);
        }
        let block = frame.window::<BLOCK_LEN>(at)?;
        let (bytes, pairs) = (block.as_chunks::<8>().0, keys.as_chunks::<2>().0);
        let mut eighth = 0;
        while eighth < BLOCK_LEN / 8 {
            sum = sum.wrapping_add(digest_pair(bytes[eighth], &pairs[eighth]));
            eighth += 1;
        }
        at = at.wrapping_add(BLOCK_LEN);
        left = left.wrapping_sub(BLOCK_LEN);
    }
    Some(sum)
}

/// The digest of a question without an address, given the address.
#[must_use]
#[inline(always)]
pub const fn with_address(digest: u64, address: u32, key: &DigestKey) -> u64 {
    digest.wrapping_add((address as u64).wrapping_mul(key.fields[2]))
}

/// What eight bytes add: two words.
#[inline(always)]
fn digest_pair(bytes: [u8; 8], keys: &[u64; 2]) -> u64 {
    let both = u64::from_le_bytes(bytes);
    let [first, second] = *keys;
    (both & 0xffff_ffff).wrapping_mul(first).wrapping_add((both >> 32).wrapping_mul(second))
}

/// What the last `len` bytes add, fewer than eight.
#[inline(always)]
fn digest_end<F: Frame + ?Sized>(frame: &F, at: usize, len: usize, keys: &[u64; 2]) -> Option<u64> {
    let [first, second] = *keys;
    if len < 4 {
        return Some(last_word(frame, at, len)?.wrapping_mul(first));
    }
    let word = u32::from_le_bytes(frame.read::<4>(at)?) as u64;
    let last = last_word(frame, at.wrapping_add(4), len.wrapping_sub(4))?;
    Some(word.wrapping_mul(first).wrapping_add(last.wrapping_mul(second)))
}

/// The last `len` bytes as a word, fewer than four.
#[inline(always)]
fn last_word<F: Frame + ?Sized>(frame: &F, at: usize, len: usize) -> Option<u64> {
    let mut word = 0_u64;
    if len > 0 {
        word = frame.read::<1>(at)?[0] as u64;
    }
    if len > 1 {
        word |= (frame.read::<1>(at.wrapping_add(1))?[0] as u64) << 8;
    }
    if len > 2 {
        word |= (frame.read::<1>(at.wrapping_add(2))?[0] as u64) << 16;
    }
    Some(word)
}
