//! Other ranges under a table that is in use: a second table grows beside the first, some leases at a time, and takes
//! its place at once.
//!
//! ```text
//!   begin --> step, step, ..   leases are copied in address order; what changes behind the copy is noted and copied again
//!         --> finish           the last changes, then the tables change places; what no range covers is aside
//! ```

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::{Layout, Place, PoolLayout, Table};
use crate::lease::state::BindingState;

/// A table that is growing, and how far it is.
#[derive(Debug)]
pub(super) struct Relayout {
    to: Table,
    /// The next address to copy; `None` = all are copied.
    next: Option<Ipv4Addr>,
    /// Addresses that changed after they were copied.
    changed: BTreeSet<Ipv4Addr>,
}

/// What other ranges have done to the leases.
#[derive(Debug, Default)]
pub struct Relaid {
    /// Leases that are in no range any more, and the running ones among them.
    pub orphans: usize,
    /// Running leases that are in no range any more, in address order, the first few.
    pub running: Vec<Ipv4Addr>,
    /// Number of all running ones.
    pub running_count: usize,
    /// Leases that were in no range before and are in one now.
    pub returned: usize,
    /// The old table, for whoever has the time to free its memory.
    pub old: Option<Box<Table>>,
}

/// Addresses that a [`Relaid`] names.
pub(super) const NAMED_MAX: usize = 16;

impl Table {
    /// Whether these are the pools that the table has, in this order.
    #[must_use]
    pub fn has_layout(&self, pools: &[PoolLayout]) -> bool {
        self.layout.len() == pools.len() && self.layout.iter().zip(pools).all(|(have, want)| have.ranges == want.ranges)
    }

    /// Begins to grow a table for other pools; one that was growing is forgotten.
    pub fn begin_relayout(&mut self, pools: &[PoolLayout]) {
        let layout = Layout { pools: pools.to_vec(), hash_key: self.hash_key };
        self.growing = Some(Box::new(Relayout {
            to: Self::new(&layout),
            next: Some(Ipv4Addr::UNSPECIFIED),
            changed: BTreeSet::new(),
        }));
    }

    /// Copies at most `count` leases; whether all are copied.
    pub fn step_relayout(&mut self, count: usize) -> bool {
        let Some(mut growing) = self.growing.take() else { return true };
        if let Some(from) = growing.next {
            let (leases, next) = self.slice(from, count);
            for lease in leases {
                self.copy_to(&mut growing.to, lease.address);
            }
            growing.next = next;
        } else {
            for _ in 0..count {
                let Some(address) = growing.changed.pop_first() else { break };
                self.copy_to(&mut growing.to, address);
            }
        }
        let is_done = growing.next.is_none() && growing.changed.len() < count;
        self.growing = Some(growing);
        is_done
    }

    /// Takes the place of the table it grew from, with everything that changed meanwhile.
    pub fn finish_relayout(&mut self) -> Relaid {
        while !self.step_relayout(usize::MAX) {}
        let Some(mut growing) = self.growing.take() else { return Relaid::default() };
        for address in std::mem::take(&mut growing.changed) {
            self.copy_to(&mut growing.to, address);
        }
        let mut relaid = Relaid::default();
        for lease in self.aside.values() {
            if growing.to.put(lease.clone()) != Place::Aside {
                relaid.returned += 1;
                // What was known of its promise besides the record is forgotten: the record's limit is the safe one.
                if lease.state == BindingState::Active && lease.tstp > lease.ends {
                    growing.to.set_limit(lease.address, lease.tstp);
                }
            }
        }
        for lease in growing.to.aside.values().filter(|lease| !self.aside.contains_key(&lease.address)) {
            relaid.orphans += 1;
            if lease.state == BindingState::Active {
                relaid.running_count += 1;
                if relaid.running.len() < NAMED_MAX {
                    relaid.running.push(lease.address);
                }
            }
        }
        relaid.old = Some(Box::new(std::mem::replace(self, growing.to)));
        relaid
    }

    /// Notes that something about an address is about to change.
    pub(super) fn note_change(&mut self, address: Ipv4Addr) {
        if let Some(growing) = &mut self.growing
            && growing.next.is_none_or(|next| address < next)
        {
            growing.changed.insert(address);
        }
    }

    /// When an address rings.
    fn timer_of(&self, address: Ipv4Addr) -> Option<u32> {
        let (index, _) = self.ranges.find(address)?;
        self.timers.time_at(self.slots.slot(index)?.timer_at)
    }

    /// Copies what is known of an address: lease, limit, hold, timer.
    fn copy_to(&self, to: &mut Self, address: Ipv4Addr) {
        let Some((index, _)) = self.ranges.find(address) else { return };
        let Some(slot) = self.slots.slot(index) else { return };
        let lease = slot.load(address);
        // An orphan says something, or nobody has to remember it.
        if to.ranges.find(address).is_none() && slot.is_blank() {
            return;
        }
        let place = to.put(lease);
        if place == Place::Aside {
            return;
        }
        if let Some(until) = self.holds.get(&index) {
            to.hold(address, *until);
        }
        to.set_limit(address, slot.limit);
        if let Some(at) = self.timers.time_at(slot.timer_at)
            && to.timer_of(address) != Some(at)
        {
            to.set_timer(address, super::WallTime::from_secs(at.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::time::WallTime;
    use crate::lease::{Lease, PoolIndex};
    use dhcp_ebpf::wire::dhcp::HwAddr;

    fn ip(number: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + number)
    }

    fn at(secs: u32) -> WallTime {
        WallTime::from_secs(secs.into())
    }

    fn pools(ranges: &[&[(u32, u32)]]) -> Vec<PoolLayout> {
        let of = |pool: &&[(u32, u32)]| PoolLayout {
            ranges: pool.iter().map(|(first, last)| (ip(*first), ip(*last))).collect(),
            is_failover: false,
        };
        ranges.iter().map(of).collect()
    }

    fn table(ranges: &[&[(u32, u32)]]) -> Table {
        Table::new(&Layout { pools: pools(ranges), hash_key: [5, 6] })
    }

    fn active(number: u32, ends: u32) -> Lease {
        Lease {
            state: BindingState::Active,
            ends: at(ends),
            hw: Some(HwAddr::ethernet([2, 0, 0, 0, (number >> 8) as u8, number as u8])),
            ..Lease::free(ip(number))
        }
    }

    /// Leases, counts, queues, timers.
    type Picture = (Vec<Lease>, Vec<super::super::Counts>, Vec<Vec<Ipv4Addr>>, Vec<(u32, Ipv4Addr)>);

    /// Pools, each with its ranges.
    type Pools = &'static [&'static [(u32, u32)]];

    /// Everything that can be asked of a table.
    fn picture(table: &Table, pools: usize) -> Picture {
        use BindingState as S;
        let mut timers: Vec<(u32, Ipv4Addr)> =
            table.timers.sorted().into_iter().filter_map(|(time, index)| Some((time, table.address(index)?))).collect();
        timers.sort_unstable();
        let each = || (0..pools).map(PoolIndex);
        (
            table.iter().collect(),
            each().map(|pool| table.counts(pool)).collect(),
            each()
                .flat_map(|pool| [S::Free, S::Backup, S::Abandoned, S::Active].map(|state| table.queue(pool, state)))
                .collect(),
            timers,
        )
    }

    #[test]
    fn changes_while_a_table_grows_are_in_it_and_the_result_is_that_of_a_new_table() {
        let (before, after): (Pools, Pools) =
            (&[&[(0, 999)], &[(2000, 2099)]], &[&[(2050, 2999)], &[(500, 1500)], &[(0, 9)]]);
        let mut old = table(before);
        for number in (0..1000).step_by(3).chain(2000..2100) {
            old.put(active(number, 10_000 + number));
        }
        old.put(Lease { state: BindingState::Abandoned, ends: at(77), ..Lease::free(ip(1)) });
        old.set_timer(ip(600), at(123_456));
        old.begin_relayout(&pools(after));
        let mut number = 0;
        while !old.step_relayout(20) {
            // Behind the copy, before it, and where there was nothing.
            number += 7;
            old.put(active(number % 1000, 50_000 + number));
            old.put(active(999 - number % 1000, 60_000 + number));
            old.hold(ip(2000 + number % 100), at(70_000));
            let rung = old.poll_expired(at(10_000 + number)).map(|address| old.get(address).unwrap());
            if let Some(lease) = rung {
                old.put(Lease { state: BindingState::Free, ..lease });
            }
        }
        old.set_timer(ip(700), at(99_999));
        let wanted: Vec<Lease> = old.iter().collect();
        let relaid = old.finish_relayout();
        let mut wanted_table = table(after);
        for lease in &wanted {
            wanted_table.put(lease.clone());
        }
        wanted_table.set_timer(ip(600), at(123_456));
        wanted_table.set_timer(ip(700), at(99_999));
        let before_table = relaid.old.unwrap();
        for lease in &wanted {
            if let Some(until) = before_table.held_until(lease.address) {
                wanted_table.hold(lease.address, until);
            }
        }
        assert_eq!(picture(&old, 3), picture(&wanted_table, 3));
        let by_hw = |table: &Table| {
            wanted.iter().map(|lease| table.by_hw(&lease.hw.unwrap_or(HwAddr::ethernet([0; 6])))).collect::<Vec<_>>()
        };
        assert_eq!(by_hw(&old), by_hw(&wanted_table));
        assert_eq!(relaid.orphans, old.aside().count());
        assert!(relaid.running_count > 0 && relaid.running.len() == NAMED_MAX && relaid.returned == 0);
        assert!(old.has_layout(&pools(after)) && !old.has_layout(&pools(before)));
    }

    #[test]
    fn an_orphan_is_kept_aside_and_returns_with_its_range() {
        let mut table = table(&[&[(0, 9), (20, 29)]]);
        for number in [3, 4, 22] {
            table.put(active(number, 1000 + number));
        }
        table.begin_relayout(&pools(&[&[(0, 3)]]));
        let relaid = table.finish_relayout();
        assert_eq!((relaid.orphans, relaid.running_count, relaid.returned), (2, 2, 0));
        assert_eq!(relaid.running, [ip(4), ip(22)]);
        assert_eq!(table.get(ip(22)), Some(active(22, 1022)), "it is not forgotten");
        assert_eq!(table.next_expiry(), Some(at(1003)), "and it does not ring");
        table.begin_relayout(&pools(&[&[(0, 9), (22, 29)]]));
        let relaid = table.finish_relayout();
        assert_eq!((relaid.orphans, relaid.returned), (0, 2));
        assert_eq!(table.state(ip(22)), Some(BindingState::Active));
        assert_eq!(table.aside().count(), 0);
        let rung: Vec<_> = std::iter::from_fn(|| table.poll_expired(at(5000))).collect();
        assert_eq!(rung, [ip(3), ip(4), ip(22)]);
    }
}
