//! The internet checksum (RFC 1071): one's-complement sums kept as a wide integer and folded once.

/// Adds the bytes as big-endian 16-bit words, the last odd byte as the high half of a word.
///
/// The slice must start at an even offset of what is summed.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let mut total = 0_u64;
    let mut words = bytes.chunks_exact(2);
    for word in &mut words {
        if let [high, low] = word {
            total = total.wrapping_add(u64::from(u16::from_be_bytes([*high, *low])));
        }
    }
    if let [high] = words.remainder() {
        total = total.wrapping_add(u64::from(u16::from_be_bytes([*high, 0])));
    }
    total
}

/// What four bytes at an odd offset add to a sum.
#[must_use]
#[inline(always)]
pub fn sum_u32_at_odd(value: u32) -> u64 {
    let [a, b, c, d] = value.to_be_bytes();
    (a as u64).wrapping_add(u16::from_be_bytes([b, c]) as u64).wrapping_add(u16::from_be_bytes([d, 0]) as u64)
}

/// Adds a 32-bit word that starts at an even offset.
#[must_use]
#[inline(always)]
pub fn sum_u32(value: [u8; 4]) -> u64 {
    let [a, b, c, d] = value;
    (u16::from_be_bytes([a, b]) as u64).wrapping_add(u16::from_be_bytes([c, d]) as u64)
}

/// Folds a sum and complements it: the value of a checksum field.
#[must_use]
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let mut sum = sum;
    // 64 -> 33 -> 18 -> 17 -> 16 bits; a fixed number of steps, for the verifier.
    sum = (sum & 0xffff_ffff).wrapping_add(sum >> 32);
    sum = (sum & 0xffff).wrapping_add((sum >> 16) & 0xffff).wrapping_add(sum >> 32);
    sum = (sum & 0xffff).wrapping_add(sum >> 16);
    sum = (sum & 0xffff).wrapping_add(sum >> 16);
    !(sum as u16)
}

/// The checksum of a UDP datagram: zero means "none" on the wire, so a computed zero is sent as all ones
/// (RFC 768).
#[must_use]
#[inline(always)]
pub fn fold_udp(sum: u64) -> u16 {
    match fold(sum) {
        0 => 0xffff,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(!fold(sum(&bytes)), 0xddf2);
    }

    #[test]
    fn a_word_at_an_odd_offset_adds_what_its_bytes_add() {
        for value in [0_u32, 1, 0xff00_00ff, 0x1234_5678, u32::MAX] {
            let mut bytes = [0_u8; 6];
            bytes[1..5].copy_from_slice(&value.to_be_bytes());
            assert_eq!(fold(sum(&bytes)), fold(sum_u32_at_odd(value)));
        }
    }

    #[test]
    fn folding_survives_the_largest_sum() {
        assert_eq!(fold(u64::MAX), 0);
        assert_eq!(fold_udp(u64::MAX), 0xffff);
        assert_eq!(fold(0), 0xffff);
    }
}
