//! The index by hardware address, for requests that name no address in `ciaddr`.

#![expect(unsafe_code, reason = "prefetching takes a pointer")]

use std::sync::atomic::{AtomicU64, Ordering};

use dhcp_ebpf::abi::{CLIENT_WAYS, ClientBucket, ClientPlace, DigestKey, Entry, Generation};

use super::shared::Shared;

/// Leases per bucket of eight ways that the index is sized for.
const LEASES_PER_BUCKET: u32 = 4;
/// Most buckets: beyond these the hash has no more bits.
const BUCKETS_MAX: u32 = 1 << 24;

/// Leases whose buckets are asked for before the first of them is looked at: about as many as a processor waits for at once.
pub(super) const AHEAD: usize = 16;

/// Number of buckets for this many entries: a power of two.
pub(super) fn bucket_count(entries: u32) -> u32 {
    (entries / LEASES_PER_BUCKET).next_power_of_two().clamp(1, BUCKETS_MAX)
}

/// `client_mask` of the control map for this many entries.
pub(super) fn mask(entries: u32) -> u32 {
    bucket_count(entries) - 1
}

/// Asks for a bucket that will be looked at in a moment, and does not wait for it: a million leases are armed twice as fast.
pub(super) fn fetch(shared: &Shared, place: ClientPlace) {
    #[cfg(target_arch = "x86_64")]
    if let Some(way) = shared.client_way(place.bucket, 0) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: an address inside a mapping; a prefetch changes nothing but what is in the caches.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(way).cast()) };
    }
}

/// Leads from a client's hardware address to its entry; `false` when its bucket is full of armed entries of others,
/// and the client stays on the slow path until it names its address.
pub(super) fn point_to(shared: &Shared, key: &DigestKey, mask: u32, entry: &Entry, index: u32) -> bool {
    let place = ClientPlace::new(entry.chaddr, key, mask);
    let word = ClientBucket::way(place.tag, index);
    let mut empty = None;
    let mut own = None;
    for way in 0..CLIENT_WAYS {
        let Some(way) = shared.client_way(place.bucket, way) else { return false };
        match way.load(Ordering::Relaxed) {
            found if found == word => return true,
            0 => empty = empty.or(Some(way)),
            // The client's own old way is the best place.
            found if (found >> 32) as u32 == place.tag => own = Some(way),
            _ => {}
        }
    }
    // A way that leads nowhere will do; whether it does is in an entry somewhere, so those are looked at last.
    let stale = || {
        let ways = (0..CLIENT_WAYS).filter_map(|way| shared.client_way(place.bucket, way));
        let is_free = |way: &&AtomicU64| is_stale(shared, key, mask, entry.generation, way.load(Ordering::Relaxed));
        ways.into_iter().find(is_free)
    };
    let Some(way) = own.or(empty).or_else(stale) else { return false };
    way.store(word, Ordering::Release);
    true
}

/// Whether a way leads to no armed entry of the client it names.
fn is_stale(shared: &Shared, key: &DigestKey, mask: u32, generation: Generation, word: u64) -> bool {
    let Some(index) = (word as u32).checked_sub(1) else { return true };
    let Some(entry) = shared.entry(index as usize) else { return true };
    entry.generation != generation || ClientPlace::new(entry.chaddr, key, mask).tag != (word >> 32) as u32
}

const _: () = assert!(LEASES_PER_BUCKET as usize <= CLIENT_WAYS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_has_two_ways_per_lease_and_a_power_of_two_of_buckets() {
        for entries in [256, 1024, 1_000_192] {
            let buckets = bucket_count(entries);
            assert!(buckets.is_power_of_two());
            assert!(buckets as usize * CLIENT_WAYS >= entries as usize * 2, "{entries} entries, {buckets} buckets");
            assert_eq!(mask(entries) + 1, buckets);
        }
    }
}
