//! Where the kernel's entries of an address stand: /24 blocks of the configured ranges, laid out one after the
//! other, and the directory that leads to them.

use std::{collections::BTreeMap, net::Ipv4Addr};

use dhcp_ebpf::abi::{Bucket, DIRECTORY_BUCKETS, DIRECTORY_WAYS};

/// Entries in one block: the addresses of a /24.
const BLOCK_LEN: u32 = 256;

/// The blocks of the configured ranges and the directory over them.
#[derive(Debug)]
pub(super) struct Places {
    bases: BTreeMap<u32, u32>,
    directory: Vec<Bucket>,
    left_out: Vec<Ipv4Addr>,
}

impl Places {
    /// Lays out the blocks that `ranges` (first and last address, inclusive) touch.
    ///
    /// A block whose bucket of the directory is full is left out: its addresses stay on the slow path. At most
    /// `blocks_max` blocks are laid out.
    pub(super) fn new(ranges: impl IntoIterator<Item = (Ipv4Addr, Ipv4Addr)>, blocks_max: usize) -> Self {
        let mut bases = BTreeMap::new();
        for (first, last) in ranges {
            let (first, last) = (u32::from(first) >> 8, u32::from(last) >> 8);
            for prefix in first..=last {
                if bases.len() >= blocks_max {
                    break;
                }
                bases.insert(prefix, 0);
            }
        }
        let mut directory = vec![Bucket::default(); DIRECTORY_BUCKETS];
        let mut left_out = Vec::new();
        let mut next = 0;
        bases.retain(|prefix, base| {
            let Some(bucket) = directory.get_mut(Bucket::index_of(*prefix) as usize) else {
                return false;
            };
            // Its own way first: there it is found at once.
            let own = Bucket::way_of(*prefix);
            for way in std::iter::once(own).chain(0..DIRECTORY_WAYS) {
                // 0.0.0.0/24 is never leased, so a zero prefix marks an empty way.
                if bucket.prefix[way] == 0 {
                    *base = next;
                    bucket.prefix[way] = *prefix;
                    bucket.base[way] = next;
                    next += BLOCK_LEN;
                    return *prefix != 0;
                }
            }
            left_out.push(Ipv4Addr::from(*prefix << 8));
            false
        });
        Self { bases, directory, left_out }
    }

    /// Number of entries the map needs; at least one block.
    pub(super) fn entry_count(&self) -> u32 {
        (self.bases.len() as u32).max(1) * BLOCK_LEN
    }

    /// Number of the entry of `address`; `None` when the kernel has none for it.
    pub(super) fn entry_of(&self, address: Ipv4Addr) -> Option<usize> {
        let address = u32::from(address);
        let base = self.bases.get(&(address >> 8))?;
        Some((base + (address & 0xff)) as usize)
    }

    /// All addresses that have an entry, with its number.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, usize)> + '_ {
        self.bases.iter().flat_map(|(prefix, base)| {
            (0..BLOCK_LEN).map(move |low| (Ipv4Addr::from((prefix << 8) | low), (base + low) as usize))
        })
    }

    /// The directory's buckets.
    pub(super) fn directory(&self) -> &[Bucket] {
        &self.directory
    }

    /// Blocks the directory had no place for.
    pub(super) fn left_out(&self) -> &[Ipv4Addr] {
        &self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_range_has_its_own_entry_and_the_directory_leads_to_it() {
        let ranges = [
            (Ipv4Addr::new(10, 0, 0, 250), Ipv4Addr::new(10, 0, 3, 4)),
            (Ipv4Addr::new(192, 168, 150, 50), Ipv4Addr::new(192, 168, 150, 100)),
            (Ipv4Addr::new(192, 168, 150, 120), Ipv4Addr::new(192, 168, 150, 130)),
        ];
        let places = Places::new(ranges, 1 << 16);
        assert_eq!(places.entry_count(), 5 * 256);
        let mut seen = std::collections::BTreeSet::new();
        for (address, entry) in places.iter() {
            assert!(seen.insert(entry), "{address} shares entry {entry}");
            assert_eq!(places.entry_of(address), Some(entry));
            let prefix = u32::from(address) >> 8;
            let bucket = places.directory()[Bucket::index_of(prefix) as usize];
            assert_eq!(bucket.base_of(prefix).map(|base| base + (u32::from(address) & 0xff)), Some(entry as u32));
        }
        assert_eq!(places.entry_of(Ipv4Addr::new(10, 0, 4, 0)), None);
    }

    #[test]
    fn a_million_addresses_find_a_place() {
        let places = Places::new([(Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(10, 15, 255, 255))], 1 << 16);
        assert!(places.left_out().is_empty(), "{} blocks left out", places.left_out().len());
        assert_eq!(places.entry_count(), 1 << 20);
    }

    #[test]
    fn pools_of_several_private_networks_find_a_place_side_by_side() {
        // The whole of a /12 and of a /16, and a thousand /24s here and there.
        let large = [[10, 16, 0, 0], [172, 16, 0, 0], [192, 168, 0, 0]].map(Ipv4Addr::from);
        let lasts = [[10, 31, 255, 255], [172, 31, 255, 255], [192, 168, 255, 255]].map(Ipv4Addr::from);
        let small = (0..1000_u32).map(|number| Ipv4Addr::from((100 << 24) | (number * 0x9e37) << 8));
        let ranges = large.into_iter().zip(lasts).chain(small.map(|address| (address, address)));
        let places = Places::new(ranges, 1 << 16);
        let (laid, left_out) = (places.entry_count() / BLOCK_LEN, places.left_out().len());
        assert!(left_out <= 20, "{left_out} of {laid} blocks left out");
    }
}
