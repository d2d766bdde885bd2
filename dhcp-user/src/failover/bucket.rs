//! Load balancing: Pearson's hash and the 256 buckets (RFC 3074, failover-12 5.4).

/// Pearson's permutation (RFC 3074 6).
const PERMUTATION: [u8; 256] = [
    0xfb, 0xaf, 0x77, 0xd7, 0x51, 0x0e, 0x4f, 0xbf, 0x67, 0x31, 0xb5, 0x8f, 0xba, 0x9d, 0x00, 0xe8, 0x1f, 0x20, 0x37,
    0x3c, 0x98, 0x3a, 0x11, 0xed, 0xae, 0x46, 0xa0, 0x90, 0xdc, 0x5a, 0x39, 0xdf, 0x3b, 0x03, 0x12, 0x8c, 0x6f, 0xa6,
    0xcb, 0xc4, 0x86, 0xf3, 0x7c, 0x5f, 0xde, 0xb3, 0xc5, 0x41, 0xb4, 0x30, 0x24, 0x0f, 0x6b, 0x2e, 0xe9, 0x82, 0xa5,
    0x1e, 0x7b, 0xa1, 0xd1, 0x17, 0x61, 0x10, 0x28, 0x5b, 0xdb, 0x3d, 0x64, 0x0a, 0xd2, 0x6d, 0xfa, 0x7f, 0x16, 0x8a,
    0x1d, 0x6c, 0xf4, 0x43, 0xcf, 0x09, 0xb2, 0xcc, 0x4a, 0x62, 0x7e, 0xf9, 0xa7, 0x74, 0x22, 0x4d, 0xc1, 0xc8, 0x79,
    0x05, 0x14, 0x71, 0x47, 0x23, 0x80, 0x0d, 0xb6, 0x5e, 0x19, 0xe2, 0xe3, 0xc7, 0x4b, 0x1b, 0x29, 0xf5, 0xe6, 0xe0,
    0x2b, 0xe1, 0xb1, 0x1a, 0x9b, 0x96, 0xd4, 0x8e, 0xda, 0x73, 0xf1, 0x49, 0x58, 0x69, 0x27, 0x72, 0x3e, 0xff, 0xc0,
    0xc9, 0x91, 0xd6, 0xa8, 0x9e, 0xdd, 0x94, 0x9a, 0x7a, 0x0c, 0x54, 0x52, 0xa3, 0x2c, 0x8b, 0xe4, 0xec, 0xcd, 0xf2,
    0xd9, 0x0b, 0xbb, 0x92, 0x9f, 0x40, 0x56, 0xef, 0xc3, 0x2a, 0x6a, 0xc6, 0x76, 0x70, 0xb8, 0xac, 0x57, 0x02, 0xad,
    0x75, 0xb0, 0xe5, 0xf7, 0xfd, 0x89, 0xb9, 0x63, 0xa4, 0x66, 0x93, 0x2d, 0x42, 0xe7, 0x34, 0x8d, 0xd3, 0xc2, 0xce,
    0xf6, 0xee, 0x38, 0x6e, 0x4e, 0xf8, 0x3f, 0xf0, 0xbd, 0x5d, 0x5c, 0x33, 0x35, 0xb7, 0x13, 0xab, 0x48, 0x32, 0x21,
    0x68, 0x65, 0x45, 0x08, 0xfc, 0x53, 0x78, 0x4c, 0x87, 0x55, 0x36, 0xca, 0x7d, 0xbc, 0xd5, 0x60, 0xeb, 0x88, 0xd0,
    0xa2, 0x81, 0xbe, 0x84, 0x9c, 0x26, 0x2f, 0x01, 0x07, 0xfe, 0x18, 0x04, 0xd8, 0x83, 0x59, 0x15, 0x1c, 0x85, 0x25,
    0x99, 0x95, 0x50, 0xaa, 0x44, 0x06, 0xa9, 0xea, 0x97,
];

/// The bucket of a client: its identifier, else its hardware address without type and padding.
#[must_use]
pub fn hash(key: &[u8]) -> u8 {
    key.iter()
        .rev()
        .fold(key.len() as u8, |hash, byte| PERMUTATION.get(usize::from(hash ^ byte)).copied().unwrap_or_default())
}

/// Which buckets the primary serves; the secondary serves the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Buckets(pub [u8; 32]);

impl Buckets {
    /// `split N`: the primary serves hash values below `n`, 0..=256.
    #[must_use]
    pub fn split(n: u16) -> Self {
        let mut bits = [0; 32];
        for (index, byte) in bits.iter_mut().enumerate() {
            let below = usize::from(n).saturating_sub(index.saturating_mul(8)).min(8);
            *byte = ((1_u16 << below) - 1) as u8;
        }
        Self(bits)
    }

    /// Whether the primary serves the client with this key.
    #[must_use]
    pub fn is_primary(&self, key: &[u8]) -> bool {
        let hash = hash(key);
        let byte = self.0.get(usize::from(hash >> 3)).copied().unwrap_or_default();
        byte & (1 << (hash & 7)) != 0
    }
}

/// Whether a client has waited longer than `load balance max seconds`, so that either server answers.
///
/// `check_byte_order` is `check-secs-byte-order`: a value with an empty low byte comes from a client that writes
/// the field the wrong way round.
#[must_use]
pub const fn has_waited(secs: u16, secs_max: u32, check_byte_order: bool) -> bool {
    let secs = if check_byte_order && secs & 0xff == 0 && secs > 0xff { secs.swap_bytes() } else { secs };
    secs_max == 0 || secs as u32 > secs_max
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_hash_has_the_measured_values() {
        for (key, expected) in [
            (bytes("020000007703"), 84),
            (bytes("01020000007703"), 145),
            (bytes("02aa00000001"), 204),
            (bytes("02aa00000002"), 52),
            (bytes("02aa00000003"), 160),
            (bytes("ff00000001"), 50),
            (bytes("001122334455"), 135),
            (bytes("01001122334455"), 223),
            (b"abc".to_vec(), 170),
            (b"client-1".to_vec(), 1),
            (b"hello world".to_vec(), 120),
            (Vec::new(), 0),
        ] {
            assert_eq!(hash(&key), expected, "{key:02x?}");
        }
    }

    #[test]
    fn the_table_is_a_permutation() {
        let mut seen = PERMUTATION;
        seen.sort_unstable();
        assert!(seen.iter().enumerate().all(|(at, &value)| at == usize::from(value)));
    }

    #[test]
    fn split_gives_the_low_hash_values_to_the_primary() {
        assert_eq!(Buckets::split(0).0, [0; 32]);
        assert_eq!(Buckets::split(256).0, [0xff; 32]);
        let half = Buckets::split(128).0;
        assert_eq!(half[..16], [0xff; 16]);
        assert_eq!(half[16..], [0; 16]);
        assert_eq!(Buckets::split(3).0[0], 0b111);
        assert!(Buckets::split(128).is_primary(b"hello world"), "120 is below 128");
        assert!(!Buckets::split(128).is_primary(b"abc"), "170 is not");
    }

    #[test]
    fn a_client_that_waited_longer_than_the_limit_is_anybodys() {
        assert!(has_waited(0, 0, false), "no limit: load balancing is off");
        assert!(!has_waited(3, 3, false));
        assert!(has_waited(4, 3, false));
        assert!(has_waited(0x0200, 3, false));
        assert!(!has_waited(0x0200, 3, true), "two seconds, written the wrong way round");
    }
}
