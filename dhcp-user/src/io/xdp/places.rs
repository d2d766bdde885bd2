//! Where the kernel's entries of an address stand: /24 blocks of the configured ranges, laid out one after the
//! other, and the directory that leads to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use dhcp_ebpf::abi::{Bucket, DIRECTORY_BUCKETS, DIRECTORY_WAYS};

/// Entries in one block: the addresses of a /24.
const BLOCK_LEN: u32 = 256;

/// Most /24s that are looked at when ranges change: a /8 of them.
const PREFIXES_MAX: usize = 1 << 16;

/// Blocks that are kept free for ranges of a later configuration, at least.
const SPARE_BLOCKS_MIN: usize = 16;

/// The blocks of the configured ranges and the directory over them.
#[derive(Debug)]
pub(super) struct Places {
    bases: BTreeMap<u32, u32>,
    directory: Vec<Bucket>,
    left_out: Vec<Ipv4Addr>,
    /// First entries of blocks that belong to nobody, the first one to be given last.
    free: Vec<u32>,
    block_count: usize,
}

impl Places {
    /// Lays out the blocks that `ranges` (first and last address, inclusive) touch, and a quarter more for later.
    ///
    /// A block whose bucket of the directory is full is left out: its addresses stay on the slow path. At most
    /// `blocks_max` blocks are laid out.
    pub(super) fn new(ranges: impl IntoIterator<Item = (Ipv4Addr, Ipv4Addr)>, blocks_max: usize) -> Self {
        let wanted = prefixes(ranges, blocks_max);
        let spare = (wanted.len() / 4).max(SPARE_BLOCKS_MIN);
        let block_count = (wanted.len() + spare).min(blocks_max).max(1);
        let mut places = Self {
            bases: BTreeMap::new(),
            directory: vec![Bucket::default(); DIRECTORY_BUCKETS],
            left_out: Vec::new(),
            free: (0..block_count as u32).rev().map(|block| block * BLOCK_LEN).collect(),
            block_count,
        };
        for prefix in wanted {
            places.add(prefix);
        }
        places
    }

    /// Lays out the blocks of other ranges; those that stay keep their places. The buckets of the directory that changed.
    pub(super) fn lay_out_anew(&mut self, ranges: &[(Ipv4Addr, Ipv4Addr)]) -> BTreeSet<usize> {
        let wanted = prefixes(ranges.iter().copied(), PREFIXES_MAX);
        let gone: Vec<u32> = self.bases.keys().copied().filter(|prefix| !wanted.contains(prefix)).collect();
        let mut changed = BTreeSet::new();
        for prefix in gone {
            changed.insert(self.remove(prefix));
        }
        self.left_out.clear();
        for prefix in wanted {
            if !self.bases.contains_key(&prefix) {
                changed.insert(self.add(prefix));
            }
        }
        changed
    }

    /// Gives a block to a prefix, or leaves it out; the bucket it belongs to.
    fn add(&mut self, prefix: u32) -> usize {
        let number = Bucket::index_of(prefix) as usize;
        // 0.0.0.0/24 is never leased, so a zero prefix marks an empty way.
        let way = self.directory.get_mut(number).filter(|_| prefix != 0).and_then(|bucket| {
            // Its own way first: there it is found at once.
            let mut ways = std::iter::once(Bucket::way_of(prefix)).chain(0..DIRECTORY_WAYS);
            let way = ways.find(|way| bucket.prefix.get(*way) == Some(&0))?;
            Some((bucket, way))
        });
        match (way, self.free.pop()) {
            (Some((bucket, way)), Some(base)) => {
                if let (Some(to), Some(at)) = (bucket.prefix.get_mut(way), bucket.base.get_mut(way)) {
                    (*to, *at) = (prefix, base);
                }
                self.bases.insert(prefix, base);
            }
            (_, base) => {
                self.free.extend(base);
                if prefix != 0 {
                    self.left_out.push(Ipv4Addr::from(prefix << 8));
                }
            }
        }
        number
    }

    /// Takes a block from a prefix; the bucket it belonged to.
    fn remove(&mut self, prefix: u32) -> usize {
        let number = Bucket::index_of(prefix) as usize;
        self.free.extend(self.bases.remove(&prefix));
        if let Some(bucket) = self.directory.get_mut(number)
            && let Some(way) = bucket.prefix.iter().position(|known| *known == prefix)
            && let (Some(to), Some(at)) = (bucket.prefix.get_mut(way), bucket.base.get_mut(way))
        {
            (*to, *at) = (0, 0);
        }
        number
    }

    /// Number of entries the map needs; at least one block.
    pub(super) fn entry_count(&self) -> u32 {
        self.block_count as u32 * BLOCK_LEN
    }

    /// Number of the entry of `address`; `None` when the kernel has none for it.
    pub(super) fn entry_of(&self, address: Ipv4Addr) -> Option<usize> {
        let address = u32::from(address);
        let prefix = address >> 8;
        let bucket = self.directory.get(Bucket::index_of(prefix) as usize).filter(|_| prefix != 0)?;
        Some((bucket.base_of(prefix)? + (address & 0xff)) as usize)
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

/// The /24s that ranges touch, at most so many.
fn prefixes(ranges: impl IntoIterator<Item = (Ipv4Addr, Ipv4Addr)>, count_max: usize) -> BTreeSet<u32> {
    let mut prefixes = BTreeSet::new();
    for (first, last) in ranges {
        let (first, last) = (u32::from(first) >> 8, u32::from(last) >> 8);
        for prefix in first..=last {
            if prefixes.len() >= count_max {
                return prefixes;
            }
            prefixes.insert(prefix);
        }
    }
    prefixes
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
        assert_eq!(places.entry_count(), (5 + 16) * 256, "five blocks, and some for later");
        let mut seen = BTreeSet::new();
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
    fn other_ranges_get_the_places_of_those_that_went_and_what_stays_stays() {
        let block = |number: u8| (Ipv4Addr::new(10, 0, number, 1), Ipv4Addr::new(10, 0, number, 200));
        let mut places = Places::new([block(1), block(2)], 1 << 16);
        let before = places.entry_of(Ipv4Addr::new(10, 0, 2, 9)).unwrap();
        let seventeen: Vec<_> = (2..=18).map(block).collect();
        let changed = places.lay_out_anew(&seventeen);
        assert_eq!(places.entry_of(Ipv4Addr::new(10, 0, 2, 9)), Some(before));
        assert_eq!(places.entry_of(Ipv4Addr::new(10, 0, 1, 9)), None);
        assert!(places.left_out().is_empty());
        let mut seen = BTreeSet::new();
        for (address, entry) in places.iter() {
            assert!(entry < places.entry_count() as usize && seen.insert(entry), "{address} shares entry {entry}");
            let prefix = u32::from(address) >> 8;
            let bucket = places.directory()[Bucket::index_of(prefix) as usize];
            assert_eq!(bucket.base_of(prefix).map(|base| base + (u32::from(address) & 0xff)), Some(entry as u32));
        }
        assert_eq!(seen.len(), 17 * 256);
        let old = u32::from(Ipv4Addr::new(10, 0, 1, 0)) >> 8;
        assert_eq!(places.directory()[Bucket::index_of(old) as usize].base_of(old), None);
        assert!(changed.contains(&(Bucket::index_of(old) as usize)));
        // More than there is room for: the rest stays on the slow path.
        let many: Vec<_> = (2..=40).map(block).collect();
        places.lay_out_anew(&many);
        assert_eq!(places.iter().count(), 18 * 256);
        places.lay_out_anew(&[]);
        assert_eq!(places.iter().count(), 0);
        assert!(places.directory().iter().all(|bucket| bucket.prefix == [0; DIRECTORY_WAYS]));
    }

    #[test]
    fn a_million_addresses_find_a_place() {
        let places = Places::new([(Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(10, 15, 255, 255))], 1 << 16);
        assert!(places.left_out().is_empty(), "{} blocks left out", places.left_out().len());
        assert_eq!(places.entry_count(), (4096 + 1024) << 8, "and a quarter for later");
    }

    #[test]
    fn pools_of_several_private_networks_find_a_place_side_by_side() {
        // The whole of a /12 and of a /16, and a thousand /24s here and there.
        let large = [[10, 16, 0, 0], [172, 16, 0, 0], [192, 168, 0, 0]].map(Ipv4Addr::from);
        let lasts = [[10, 31, 255, 255], [172, 31, 255, 255], [192, 168, 255, 255]].map(Ipv4Addr::from);
        let small = (0..1000_u32).map(|number| Ipv4Addr::from((100 << 24) | (number * 0x9e37) << 8));
        let ranges = large.into_iter().zip(lasts).chain(small.map(|address| (address, address)));
        let places = Places::new(ranges, 1 << 16);
        // Four neighbours fill a bucket, so a lone /24 and a large pool that meet in one crowd each other out: those
        // clients are the agent's. The price of few cache lines for large pools, and none left out of one alone.
        let (laid, left_out) = (places.bases.len(), places.left_out().len());
        assert!(left_out * 50 <= laid, "{left_out} blocks left out of {laid} that have a place");
    }
}
