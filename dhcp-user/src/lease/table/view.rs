//! The table as others see it: whole, in slices, in the order of a queue. Nothing here changes it.

use std::net::Ipv4Addr;

use super::slot::{PAGE_LEN, Slot};
use super::{PoolIndex, Table};
use crate::lease::record::Lease;
use crate::lease::state::BindingState;
use crate::lease::time::WallTime;

impl Table {
    /// All leases that say anything, in address order; those aside come last.
    pub fn iter(&self) -> impl Iterator<Item = Lease> + '_ {
        self.iter_from(Ipv4Addr::UNSPECIFIED).chain(self.aside.values().cloned())
    }

    /// The leases in one state of one pool, in dhcpd's queue order (free, backup: next to be given first; others
    /// by the end of the lease). Reserved free and backup leases are left out. Visits the whole pool.
    #[must_use]
    pub fn queue(&self, pool: PoolIndex, state: BindingState) -> Vec<Ipv4Addr> {
        let (start, end) = self.ranges.slots_of(pool);
        let mut found: Vec<(u32, u32)> = match self.pools.get(pool.0).and_then(|pool| pool.queue(state)) {
            Some(queue) => queue.sorted(),
            None => (start..end)
                .filter_map(|index| Some((self.slots.slot(index)?, index)))
                .filter(|(slot, _)| slot.state() == state)
                .map(|(slot, index)| (slot.ends.secs(), index))
                .collect(),
        };
        if state == BindingState::Free {
            found.extend((start..end).filter(|index| self.is_virgin(*index)).map(|index| (0, index)));
        }
        // The backup queue is sorted already, its ties the other way round.
        if state != BindingState::Backup {
            found.sort_unstable();
        }
        found.into_iter().filter_map(|(_, index)| self.address(index)).collect()
    }

    /// At most `count` leases that say anything from `from` on, in address order, and where to go on; leases aside
    /// are not among them. For snapshots in slices that stop nobody.
    #[must_use]
    pub fn slice(&self, from: Ipv4Addr, count: usize) -> (Vec<Lease>, Option<Ipv4Addr>) {
        let mut leases = self.iter_from(from);
        let slice: Vec<Lease> = leases.by_ref().take(count).collect();
        (slice, leases.next().map(|lease| lease.address))
    }

    /// Visits at most `count` addresses of a pool from its position `from` on, each with its limit: states and times, not
    /// who has it. Where to go on; `None` at the end of the pool. The layout must not change between two slices.
    pub fn visit(
        &self,
        pool: PoolIndex,
        from: u32,
        count: u32,
        visitor: &mut dyn FnMut(&Lease, WallTime),
    ) -> Option<u32> {
        let (start, end) = self.ranges.slots_of(pool);
        let first = start.saturating_add(from).min(end);
        let last = first.saturating_add(count).min(end);
        for index in first..last {
            let Some(address) = self.address(index) else { continue };
            match self.slots.slot(index) {
                Some(slot) => visitor(&slot.load_thin(address), slot.limit),
                None => visitor(&Lease::free(address), WallTime::NONE),
            }
        }
        (last < end).then(|| last.saturating_sub(start))
    }

    /// Leases outside every configured range, in address order.
    pub fn aside(&self) -> impl Iterator<Item = &Lease> {
        self.aside.values()
    }

    pub(super) fn iter_from(&self, from: Ipv4Addr) -> impl Iterator<Item = Lease> + '_ {
        self.slots_from(from).map(|(address, slot)| slot.load(address))
    }

    /// The slots that say anything, in address order.
    pub(super) fn slots_from(&self, from: Ipv4Addr) -> impl Iterator<Item = (Ipv4Addr, &Slot)> + '_ {
        self.ranges.spans_from(from).flat_map(move |(first, base, count)| {
            let mut offset = 0;
            std::iter::from_fn(move || {
                while offset < count {
                    let (index, at) = (base + offset, offset);
                    offset += 1;
                    if !self.slots.has_page_of(index) {
                        offset += PAGE_LEN as u32 - 1 - index % PAGE_LEN as u32;
                        continue;
                    }
                    let slot = self.slots.slot(index).filter(|slot| !slot.is_blank());
                    if let Some(slot) = slot {
                        return Some((Ipv4Addr::from(u32::from(first) + at), slot));
                    }
                }
                None
            })
        })
    }
}
