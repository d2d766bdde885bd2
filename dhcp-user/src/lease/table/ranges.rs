//! Addresses to slots and back: the ranges of all pools, numbered without gaps in the order of the configuration.

use std::net::Ipv4Addr;

use super::{Layout, PoolIndex};

/// One range of one pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    first: u32,
    last: u32,
    /// Slot of the first address.
    base: u32,
    pub(super) pool: PoolIndex,
}

/// All ranges.
#[derive(Debug)]
pub(super) struct Ranges {
    /// By first address.
    by_address: Vec<Range>,
    /// By first slot.
    by_slot: Vec<Range>,
    /// First slot and slot after the last of each pool.
    pools: Vec<(u32, u32)>,
}

impl Ranges {
    /// Numbers the addresses of a layout. An address that is in two ranges belongs to the first of them.
    pub(super) fn new(layout: &Layout) -> Self {
        let mut by_slot: Vec<Range> = Vec::new();
        let mut pools = Vec::with_capacity(layout.pools.len());
        let mut base = 0_u32;
        for (number, pool) in layout.pools.iter().enumerate() {
            let start = base;
            for (first, last) in &pool.ranges {
                let (first, last) = (u32::from(*first).min((*last).into()), u32::from(*first).max((*last).into()));
                for (first, last) in uncovered(&by_slot, first, last) {
                    let count = u64::from(last - first) + 1;
                    // Slot numbers are 32 bits and the highest one means "none".
                    let room = u64::from(u32::MAX - base);
                    let count = count.min(room) as u32;
                    let Some(last) = count.checked_sub(1).and_then(|more| first.checked_add(more)) else {
                        continue;
                    };
                    by_slot.push(Range { first, last, base, pool: PoolIndex(number) });
                    base = base.saturating_add(count);
                }
            }
            pools.push((start, base));
        }
        let mut by_address = by_slot.clone();
        by_address.sort_by_key(|range| range.first);
        Self { by_address, by_slot, pools }
    }

    pub(super) fn slot_count(&self) -> u32 {
        self.pools.last().map_or(0, |(_, end)| *end)
    }

    pub(super) fn pool_count(&self) -> usize {
        self.pools.len()
    }

    /// First slot of a pool and the slot after its last.
    pub(super) fn slots_of(&self, pool: PoolIndex) -> (u32, u32) {
        self.pools.get(pool.0).copied().unwrap_or_default()
    }

    /// The slot of an address, and its pool.
    pub(super) fn find(&self, address: Ipv4Addr) -> Option<(u32, PoolIndex)> {
        let address = u32::from(address);
        let after = self.by_address.partition_point(|range| range.first <= address);
        let range = self.by_address.get(after.checked_sub(1)?)?;
        (address <= range.last).then(|| (range.base + (address - range.first), range.pool))
    }

    /// The address of a slot, and its pool.
    pub(super) fn address_of(&self, slot: u32) -> Option<(Ipv4Addr, PoolIndex)> {
        let after = self.by_slot.partition_point(|range| range.base <= slot);
        let range = self.by_slot.get(after.checked_sub(1)?)?;
        let offset = slot - range.base;
        (offset <= range.last - range.first).then(|| (Ipv4Addr::from(range.first + offset), range.pool))
    }

    /// Slots from an address on, in address order, as spans: first address, first slot, count.
    pub(super) fn spans_from(&self, from: Ipv4Addr) -> impl Iterator<Item = (Ipv4Addr, u32, u32)> + '_ {
        let from = u32::from(from);
        self.by_address.iter().filter_map(move |range| {
            let first = range.first.max(from);
            (first <= range.last)
                .then(|| (Ipv4Addr::from(first), range.base + (first - range.first), range.last - first + 1))
        })
    }

    pub(super) fn heap_len(&self) -> usize {
        (self.by_address.capacity() + self.by_slot.capacity()) * size_of::<Range>() + self.pools.capacity() * 8
    }
}

/// The parts of `first..=last` that no range covers yet.
fn uncovered(ranges: &[Range], first: u32, last: u32) -> Vec<(u32, u32)> {
    let mut parts = vec![(first, last)];
    for range in ranges {
        parts = parts
            .into_iter()
            .flat_map(|(first, last)| {
                if range.last < first || last < range.first {
                    return [Some((first, last)), None];
                }
                let before = range.first.checked_sub(1).filter(|end| first <= *end).map(|end| (first, end));
                let after = range.last.checked_add(1).filter(|start| *start <= last).map(|start| (start, last));
                [before, after]
            })
            .flatten()
            .collect();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::table::PoolLayout;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn every_address_has_one_slot_and_every_slot_its_address() {
        let layout = Layout {
            pools: vec![
                PoolLayout {
                    ranges: vec![(ip("10.0.1.5"), ip("10.0.1.1")), (ip("10.0.0.0"), ip("10.0.0.3"))],
                    is_failover: false,
                },
                PoolLayout { ranges: vec![], is_failover: false },
                PoolLayout { ranges: vec![(ip("10.0.0.2"), ip("10.0.1.6"))], is_failover: true },
                PoolLayout { ranges: vec![(ip("255.255.255.254"), ip("255.255.255.255"))], is_failover: true },
            ],
            hash_key: [0; 2],
        };
        let ranges = Ranges::new(&layout);
        assert_eq!(ranges.slots_of(PoolIndex(0)), (0, 9));
        assert_eq!(ranges.slots_of(PoolIndex(1)), (9, 9));
        // 10.0.0.4 - 10.0.1.0 and 10.0.1.6
        assert_eq!(ranges.slots_of(PoolIndex(2)), (9, 9 + 253 + 1));
        for slot in 0..ranges.slot_count() {
            let (address, pool) = ranges.address_of(slot).unwrap();
            assert_eq!(ranges.find(address), Some((slot, pool)));
        }
        assert_eq!(ranges.address_of(ranges.slot_count()), None);
        assert_eq!(ranges.find(ip("10.0.1.7")), None);
        assert_eq!(ranges.find(ip("9.255.255.255")), None);
        let first = ranges.spans_from(ip("10.0.1.3")).next().unwrap();
        assert_eq!(first, (ip("10.0.1.3"), 2, 3));
    }
}
