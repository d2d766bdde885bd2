//! Free and backup addresses move between the servers (failover.md 7).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::exchange::ends_binding;
use super::{Endpoint, Level};
use crate::failover::binding::{Binding, BindingState, Counts, Leases, Seq};
use crate::failover::codec::{BndUpd, Body};
use crate::failover::limits::{BALANCE_JITTER_SECS, POOL_REQUEST_INTERVAL};
use crate::failover::state::Role;
use crate::lease::time::{Now, WallTime};

/// The figures of one pool, as dhcpd computes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Balance {
    /// How many addresses we have too many (negative: too few).
    pub(super) to_send: i64,
    /// From how many on the pool counts as imbalanced.
    pub(super) threshold: i64,
    /// How many beyond an even share may go to, or stay with, a server whose clients last had them.
    pub(super) hold: i64,
}

impl Balance {
    pub(super) fn of(role: Role, counts: Counts, misbalance_percent: u32, ownership_percent: u32) -> Self {
        let (free, backup) = (i64::from(counts.free), i64::from(counts.backup));
        let total = free.saturating_add(backup);
        let share = |percent: u32| total.saturating_mul(i64::from(percent)).saturating_add(50) / 100;
        let surplus = match role {
            Role::Primary => free.saturating_sub(backup),
            Role::Secondary => backup.saturating_sub(free),
        };
        Self { to_send: surplus / 2, threshold: share(misbalance_percent), hold: share(ownership_percent) }
    }

    /// Below this surplus we ask the partner for addresses.
    pub(super) const fn panic(self) -> i64 {
        if self.threshold == 0 { -1 } else { self.threshold.saturating_mul(-2) }
    }
}

impl Endpoint {
    fn balance_of(&self, counts: Counts) -> Balance {
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        Balance::of(
            self.settings.role,
            counts,
            or(self.settings.misbalance_percent_max, 15),
            or(self.settings.ownership_percent_max, 10),
        )
    }

    /// POOLREQ: gives what can be given and says how many, before the updates go out.
    pub(super) fn handle_pool_request(&mut self, xid: u32, leases: &mut dyn Leases, now: Now) {
        // A partner that asks all the time is told "none" all the time: a run may walk every address.
        let is_fresh = self.balanced_at.is_some_and(|at| now.boot.since(at) < POOL_REQUEST_INTERVAL);
        let given = if self.is_normal() && !is_fresh { self.balance(false, leases, now) } else { 0 };
        let transferred = Some(u32::try_from(given).unwrap_or(u32::MAX));
        self.push(xid, Body::PoolResp { transferred }, Seq::default(), now);
    }

    /// One run over all pools; how many addresses were given away.
    pub(super) fn balance(&mut self, may_ask: bool, leases: &mut dyn Leases, now: Now) -> usize {
        let mut given = 0_usize;
        let mut must_ask = false;
        for pool in 0..leases.pool_count() {
            let counts = leases.counts(pool);
            let balance = self.balance_of(counts);
            let gifts = self.gifts(pool, balance, &*leases);
            if !gifts.is_empty() {
                let (name, free, backup) = (&self.settings.name, counts.free, counts.backup);
                let (lts, count) = (balance.to_send, gifts.len());
                let text =
                    format!("balancing pool {pool} of {name}: free {free} backup {backup} lts {lts}: {count} given");
                self.log(Level::Info, text);
            }
            given = given.saturating_add(gifts.len());
            for address in gifts {
                self.give(address, leases, now);
            }
            must_ask |= balance.to_send < balance.panic();
        }
        self.balanced_at = Some(now.boot);
        self.balance_at = None;
        if may_ask && must_ask {
            self.originate(Body::PoolReq, now);
        }
        self.schedule_balance(leases, now);
        given
    }

    /// Which addresses of a pool to give: first those whose last client is the partner's, then any.
    fn gifts(&self, pool: usize, balance: Balance, leases: &dyn Leases) -> Vec<Ipv4Addr> {
        let own = self.settings.role.own_state();
        let mut to_send = balance.to_send;
        let mut gifts = Vec::new();
        let mut taken = BTreeSet::new();
        let floor = balance.hold.saturating_neg();
        if to_send <= floor {
            return gifts;
        }
        leases.visit_allocatable(pool, own, &mut |binding| {
            if binding.balance_key().is_some_and(|key| self.is_partners_key(key)) {
                gifts.push(binding.address);
                taken.insert(binding.address);
                to_send = to_send.saturating_sub(1);
            }
            to_send > floor
        });
        if to_send <= floor {
            return gifts;
        }
        leases.visit_allocatable(pool, own, &mut |binding| {
            if taken.contains(&binding.address) {
                return true;
            }
            let enough = if binding.ends.is_some() { balance.hold } else { 0 };
            if to_send <= enough {
                return false;
            }
            gifts.push(binding.address);
            to_send = to_send.saturating_sub(1);
            true
        });
        gifts
    }

    fn give(&mut self, address: Ipv4Addr, leases: &mut dyn Leases, now: Now) {
        let Some(mut binding) = leases.binding(address) else {
            return;
        };
        binding.state = self.gives_free();
        binding.starts = now.wall;
        binding.told_partner = now.wall;
        self.stamp(&mut binding);
        let seq = self.store(leases, binding);
        self.updates.enqueue(address, seq);
    }

    /// After accepting an update that ended a binding (primary only, failover.md 7.5).
    pub(super) fn give_by_affinity(&mut self, address: Ipv4Addr, update: &BndUpd, leases: &mut dyn Leases, now: Now) {
        if ends_binding(update) {
            self.give_if_partners(address, leases, now);
        }
    }

    /// Gives a lease that has just become free to the secondary when its client is the secondary's.
    pub(super) fn give_if_partners(&mut self, address: Ipv4Addr, leases: &mut dyn Leases, now: Now) {
        if self.settings.role != Role::Primary || !self.is_normal() {
            return;
        }
        let Some(binding) = leases.binding(address) else { return };
        let is_plain = binding.state == BindingState::Free && !binding.is_reserved && !binding.is_bootp;
        let is_partners = binding.balance_key().is_some_and(|key| self.is_partners_key(key));
        let Some(pool) = leases.pool_of(address).filter(|_| is_plain && is_partners) else {
            return;
        };
        let balance = self.balance_of(leases.counts(pool));
        if balance.to_send > balance.hold.saturating_neg() {
            self.give(address, leases, now);
        }
    }

    /// Plans the next run (failover.md 7.2); one that is planned earlier stays.
    pub(super) fn schedule_balance(&mut self, leases: &mut dyn Leases, now: Now) {
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        let mut wait = or(self.settings.balance_secs_max, 3600);
        for pool in 0..leases.pool_count() {
            let free = self.patience(pool, BindingState::Free, leases, now.wall);
            let backup = self.patience(pool, BindingState::Backup, leases, now.wall);
            wait = match self.settings.role {
                Role::Primary => wait.min(free.saturating_mul(2)).min(backup),
                Role::Secondary => wait.min(free).min(backup.saturating_mul(2)),
            };
        }
        let mut at = now.boot.after(Duration::from_secs(u64::from(wait)));
        if let Some(last) = self.balanced_at {
            at = at.max(last.after(Duration::from_secs(u64::from(or(self.settings.balance_secs_min, 60)))));
        }
        at = at.after(Duration::from_secs(u64::from(self.random_below(BALANCE_JITTER_SECS))));
        self.balance_at = Some(self.balance_at.map_or(at, |planned| planned.min(at)));
    }

    /// A share of how long the oldest allocatable address of this state has been unused; 0 when there is none.
    fn patience(&self, pool: usize, state: BindingState, leases: &dyn Leases, now: WallTime) -> u32 {
        let mut age = 0;
        leases.visit_allocatable(pool, state, &mut |head: &Binding| {
            age = now.since(head.ends);
            false
        });
        let percent = match self.settings.misbalance_percent_max {
            0 => 15,
            percent => percent,
        };
        let share = u64::from(age).saturating_mul(u64::from(percent)).saturating_add(50) / 100;
        u32::try_from(share).unwrap_or(u32::MAX)
    }

    /// The timer of pool balancing: the only run that may ask the partner.
    pub(super) fn poll_balance(&mut self, leases: &mut dyn Leases, now: Now) {
        if self.balance_at.is_none_or(|at| at > now.boot) {
            return;
        }
        self.balance_at = None;
        if self.is_normal() && self.session.is_some() {
            self.balance(true, leases, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn counts(free: u32, backup: u32) -> Counts {
        Counts { free, backup, other: 0 }
    }

    #[test]
    fn the_figures_are_dhcpds() {
        let balance = Balance::of(Role::Primary, counts(51, 0), 15, 10);
        assert_eq!(balance, Balance { to_send: 25, threshold: 8, hold: 5 });
        assert_eq!(balance.panic(), -16);
        assert_eq!(Balance::of(Role::Secondary, counts(51, 0), 15, 10).to_send, -25);
        let measured = Balance::of(Role::Secondary, counts(8, 0), 15, 10);
        assert_eq!((measured.to_send, measured.threshold, measured.panic()), (-4, 1, -2), "capture 02: asks");
        assert_eq!(Balance::of(Role::Primary, counts(0, 1), 15, 10).panic(), -1);
    }
}
