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

/// Adds a 32-bit word that starts at an even offset, as part of a sum of big-endian words.
#[must_use]
#[inline(always)]
pub fn sum_u32(value: [u8; 4]) -> u64 {
    // Folding brings the upper half down: 2^16 is 1 in these sums.
    u32::from_be_bytes(value) as u64
}

/// Turns a sum of big-endian words into one of little-endian words, and back (RFC 1071 2 B): in these sums 2^16 is 1,
/// so a shift by a byte swaps the bytes. The sum must be below 2^56.
#[must_use]
#[inline(always)]
pub const fn turn(sum: u64) -> u64 {
    sum << 8
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
    fn the_order_of_bytes_makes_no_difference() {
        for value in [0_u32, 1, 0xff00_00ff, 0x1234_5678, u32::MAX] {
            let bytes = value.to_be_bytes();
            assert_eq!(fold(sum_u32(bytes)), fold(sum(&bytes)), "{value:x}");
            let of_words = fold(u64::from(u32::from_le_bytes(bytes)));
            assert_eq!(of_words.swap_bytes(), fold(sum(&bytes)), "{value:x}");
            assert_eq!(fold(turn(sum(&bytes))), of_words, "{value:x}");
            // At an odd offset, as the times of a reply stand.
            let mut bytes = [0_u8; 6];
            bytes[1..5].copy_from_slice(&value.to_be_bytes());
            assert_eq!(fold(u64::from(value)).swap_bytes(), fold(sum(&bytes)), "{value:x}");
        }
    }

    #[test]
    fn folding_survives_the_largest_sum() {
        assert_eq!(fold(u64::MAX), 0);
        assert_eq!(fold_udp(u64::MAX), 0xffff);
        assert_eq!(fold(0), 0xffff);
    }
}
