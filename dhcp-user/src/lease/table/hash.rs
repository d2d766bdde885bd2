//! SipHash-1-3: clients choose what the indexes hash, so the hash is keyed and nobody outside can aim collisions.

/// Hashes `bytes` after a first word that keeps the index's keys apart.
pub(super) fn hash(key: [u64; 2], first: u8, bytes: &[u8]) -> u64 {
    let [k0, k1] = key;
    let mut state = State {
        v0: k0 ^ 0x736f_6d65_7073_6575,
        v1: k1 ^ 0x646f_7261_6e64_6f6d,
        v2: k0 ^ 0x6c79_6765_6e65_7261,
        v3: k1 ^ 0x7465_6462_7974_6573,
    };
    let mut word = u64::from(first);
    let mut filled = 1_u32;
    for byte in bytes {
        word |= u64::from(*byte) << (filled * 8);
        filled += 1;
        if filled == 8 {
            state.absorb(word);
            word = 0;
            filled = 0;
        }
    }
    let len = bytes.len().wrapping_add(1) as u64;
    state.absorb(word | (len << 56));
    state.v2 ^= 0xff;
    for _ in 0..3 {
        state.round();
    }
    state.v0 ^ state.v1 ^ state.v2 ^ state.v3
}

struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    const fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    const fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use super::*;

    #[test]
    fn it_is_the_siphash_of_the_standard_library() {
        for len in 0..40_u8 {
            let bytes: Vec<u8> = (0..len).collect();
            let mut theirs = std::hash::DefaultHasher::new();
            theirs.write(&[7]);
            theirs.write(&bytes);
            assert_eq!(hash([0, 0], 7, &bytes), theirs.finish(), "{len} bytes");
        }
    }

    #[test]
    fn another_key_is_another_hash() {
        assert_ne!(hash([1, 2], 0, b"abc"), hash([1, 3], 0, b"abc"));
        assert_ne!(hash([1, 2], 0, b"abc"), hash([1, 2], 1, b"abc"));
    }
}
