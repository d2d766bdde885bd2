//! What happens to a lease by itself: its timer, one per address.

use std::net::Ipv4Addr;

use super::Table;
use super::queue::NOWHERE;
use super::slot::InTimers;
use crate::lease::record::Lease;
use crate::lease::state::BindingState;
use crate::lease::time::WallTime;

impl Table {
    /// Takes the next timer that has rung: `Active` and `Abandoned` leases ring at `ends`, others only by
    /// [`Table::set_timer`]. A timer rings once; the next `put` or `set_timer` winds it again.
    pub fn poll_expired(&mut self, now: WallTime) -> Option<Ipv4Addr> {
        let (time, index) = self.timers.head()?;
        if time > now.secs() {
            return None;
        }
        self.wind(index, WallTime::NONE);
        let address = self.address(index)?;
        self.note_change(address);
        Some(address)
    }

    /// Up to `count_max` of the addresses that [`Table::poll_expired`] would return now, in no order.
    #[must_use]
    pub fn due(&self, now: WallTime, count_max: usize) -> Vec<Ipv4Addr> {
        self.timers.until(now.secs(), count_max).into_iter().filter_map(|index| self.address(index)).collect()
    }

    /// When the next timer rings.
    #[must_use]
    pub fn next_expiry(&self) -> Option<WallTime> {
        self.timers.head().map(|(time, _)| WallTime::from_secs(time.into()))
    }

    /// Takes the times of an active lease that is otherwise what it was: a [`Table::put`] for renewals by the thousand.
    pub fn put_times(&mut self, lease: &Lease) {
        let found = self.ranges.find(lease.address);
        let Some((index, slot)) = found.and_then(|(index, _)| Some((index, self.slots.slot_mut(index)?))) else {
            self.put(lease.clone());
            return;
        };
        debug_assert!(slot.state() == BindingState::Active && lease.state == BindingState::Active);
        slot.set_times(lease);
        let rings_at = slot.rings_at();
        if !self.holds.is_empty() {
            self.holds.remove(&index);
        }
        self.note_change(lease.address);
        self.wind(index, rings_at);
    }

    /// Makes an address ring at this instant instead; [`WallTime::NONE`] = never.
    pub fn set_timer(&mut self, address: Ipv4Addr, at: WallTime) {
        self.note_change(address);
        let Some((index, pool)) = self.ranges.find(address) else {
            return;
        };
        if self.slots.make(index).is_none() {
            return;
        }
        let was_virgin = self.forget_virgin(index);
        self.wind(index, at);
        if was_virgin {
            self.requeue(index, pool, BindingState::Free, false);
        }
    }

    /// Winds the timer of an address as `put` did, if it has rung since: whoever had no time for it then has now.
    pub fn wind_again(&mut self, address: Ipv4Addr) {
        let Some((index, _)) = self.ranges.find(address) else { return };
        let Some(slot) = self.slots.slot(index).filter(|slot| slot.timer_at == NOWHERE) else { return };
        let at = slot.rings_at();
        if at.is_some() {
            self.note_change(address);
            self.wind(index, at);
        }
    }

    /// Winds the timer of a slot.
    pub(super) fn wind(&mut self, index: u32, at: WallTime) {
        let Some(place) = self.slots.slot(index).map(|slot| slot.timer_at) else {
            return;
        };
        let mut places = InTimers(&mut self.slots);
        match (place, at.is_some()) {
            (NOWHERE, true) => self.timers.push(at.secs(), index, &mut places),
            (NOWHERE, false) => {}
            (place, true) => self.timers.change(place, at.secs(), index, &mut places),
            (place, false) => self.timers.remove(place, &mut places),
        }
    }
}
