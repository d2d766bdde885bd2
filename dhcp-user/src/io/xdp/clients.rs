//! The index by hardware address, for requests that name no address in `ciaddr`.

use std::sync::atomic::Ordering;

use dhcp_ebpf::abi::{CLIENT_WAYS, ClientBucket, ClientPlace, DigestKey, Entry};

use super::shared::Shared;

/// Leases per bucket of eight ways that the index is sized for.
const LEASES_PER_BUCKET: u32 = 4;
/// Most buckets: beyond these the hash has no more bits.
const BUCKETS_MAX: u32 = 1 << 24;

/// Number of buckets for this many entries: a power of two.
pub(super) fn bucket_count(entries: u32) -> u32 {
    (entries / LEASES_PER_BUCKET).next_power_of_two().clamp(1, BUCKETS_MAX)
}

/// `client_mask` of the control map for this many entries.
pub(super) fn mask(entries: u32) -> u32 {
    bucket_count(entries) - 1
}

/// Leads from a client's hardware address to its entry; `false` when its bucket is full of armed entries of others,
/// and the client stays on the slow path until it names its address.
pub(super) fn point_to(shared: &Shared, key: &DigestKey, mask: u32, entry: &Entry, index: u32) -> bool {
    let place = ClientPlace::new(entry.chaddr, key, mask);
    let word = ClientBucket::way(place.tag, index);
    let mut room = None;
    for way in 0..CLIENT_WAYS {
        let Some(found) = shared.client_way(place.bucket, way).map(|way| way.load(Ordering::Relaxed)) else {
            return false;
        };
        if found == word {
            return true;
        }
        if (found >> 32) as u32 == place.tag || is_stale(shared, key, mask, found) {
            // The client's own old way is the best place; any way that leads nowhere will do.
            let is_own = (found >> 32) as u32 == place.tag && found != 0;
            if is_own || room.is_none() {
                room = Some(way);
            }
            if is_own {
                break;
            }
        }
    }
    let Some(way) = room.and_then(|way| shared.client_way(place.bucket, way)) else { return false };
    way.store(word, Ordering::Release);
    true
}

/// Whether a way leads to no armed entry of the client it names.
fn is_stale(shared: &Shared, key: &DigestKey, mask: u32, word: u64) -> bool {
    let Some(index) = (word as u32).checked_sub(1) else { return true };
    let Some(entry) = shared.entry(index as usize) else { return true };
    entry.generation.number() == 0 || ClientPlace::new(entry.chaddr, key, mask).tag != (word >> 32) as u32
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
