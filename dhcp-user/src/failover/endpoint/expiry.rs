//! The end of a lease (failover.md 5.4): who may end it, what must be revoked first, when the address is free again.

use std::net::Ipv4Addr;

use super::exchange::is_transitional;
use super::{Effect, Endpoint, Token};
use crate::failover::binding::{BindingState, Leases, Seq};
use crate::failover::rules;
use crate::failover::state::{Role, Service};
use crate::lease::time::{Now, WallTime};

impl Endpoint {
    /// The engine says that the time of these leases has come.
    pub(super) fn handle_due(&mut self, addresses: &[Ipv4Addr], leases: &mut dyn Leases, now: Now) {
        if self.startup_until.is_some() {
            // Looked at when we know what the partner says.
            return;
        }
        let mut armed = Vec::new();
        for &address in addresses {
            let Some(binding) = leases.binding(address) else {
                continue;
            };
            if binding.ends >= now.wall && binding.ends < WallTime::NEVER {
                // The second of `ends` itself still belongs to the client.
                self.later.insert((binding.ends, address));
                continue;
            }
            if !self.may_end(address, leases, now) {
                self.plan_reuse_of(address, leases, now);
                continue;
            }
            if leases.is_armed(address) {
                armed.push(address);
            } else {
                self.end(address, leases, now);
            }
        }
        if !armed.is_empty() {
            let token = self.token();
            self.effects.push_back(Effect::Revoke { token, addresses: armed.clone() });
            self.ending.insert(token, armed);
        }
    }

    /// A revocation is complete: leases carry what the kernel had promised, so everything is judged again.
    pub(super) fn handle_revoked(&mut self, token: Token, leases: &mut dyn Leases, now: Now) {
        for address in self.ending.remove(&token).unwrap_or_default() {
            if self.may_end(address, leases, now) {
                self.end(address, leases, now);
            }
        }
        for address in self.ready_held(Some(token), now) {
            self.resume_held(address, true, leases, now);
        }
    }

    /// Whether a lease has run out and it is on us to say so. In normal the primary says it for both. An abandoned one
    /// comes back by each side's own timer, but not before the partner knows that it was abandoned: until then the
    /// partner may go on renewing it for its client (dhcpd does not wait).
    fn may_end(&self, address: Ipv4Addr, leases: &dyn Leases, now: Now) -> bool {
        let Some(binding) = leases.binding(address) else {
            return false;
        };
        match binding.state {
            BindingState::Active => {
                let is_partners = self.is_normal() && self.settings.role == Role::Secondary;
                binding.ends < now.wall && !is_partners
            }
            BindingState::Abandoned => binding.ends < now.wall && binding.acked_partner >= binding.told_partner,
            BindingState::Free
            | BindingState::Backup
            | BindingState::Expired
            | BindingState::Released
            | BindingState::Reset => false,
        }
    }

    /// After an abandonment was acknowledged: perhaps its time is over already.
    pub(super) fn end_if_over(&mut self, address: Ipv4Addr, leases: &mut dyn Leases, now: Now) {
        if self.may_end(address, leases, now) {
            self.end(address, leases, now);
        }
    }

    fn end(&mut self, address: Ipv4Addr, leases: &mut dyn Leases, now: Now) {
        let Some(binding) = leases.binding(address) else { return };
        let next = match binding.state {
            BindingState::Abandoned => {
                let mut next = binding;
                next.state = BindingState::Free;
                next.told_partner = next.told_partner.max(next.ends);
                self.stamp(&mut next);
                next
            }
            BindingState::Active => {
                let is_interrupted = self.service == Service::NotCooperating;
                let mut next =
                    rules::retired(binding, BindingState::Expired, self.settings.role, is_interrupted, now.wall);
                self.stamp(&mut next);
                next
            }
            BindingState::Free
            | BindingState::Backup
            | BindingState::Expired
            | BindingState::Released
            | BindingState::Reset => return,
        };
        let seq = self.store(leases, next);
        self.updates.enqueue(address, seq);
        self.plan_reuse_of(address, leases, now);
    }

    /// The engine has changed these leases.
    pub(super) fn handle_changed(&mut self, addresses: &[Ipv4Addr], seq: Seq, leases: &mut dyn Leases, now: Now) {
        self.outbox.note(seq);
        for &address in addresses {
            self.updates.enqueue(address, seq);
            self.plan_reuse_of(address, leases, now);
        }
        // dhcpd looks at the lists at every change; once a second is as good for a timer of seconds.
        let is_fresh = self.schedule_checked_at.is_some_and(|at| now.boot.since(at).as_secs() == 0);
        if self.is_normal() && !is_fresh {
            self.schedule_checked_at = Some(now.boot);
            self.schedule_balance(leases, now);
        }
    }

    /// Ends what ran out while nobody could: during the start, or on a secondary in normal.
    pub(super) fn end_overdue(&mut self, leases: &mut dyn Leases, now: Now) {
        let mut overdue = Vec::new();
        for pool in 0..leases.pool_count() {
            leases.visit_all(pool, &mut |binding| {
                let can_end = matches!(binding.state, BindingState::Active | BindingState::Abandoned);
                if can_end && binding.ends <= now.wall {
                    overdue.push(binding.address);
                }
            });
        }
        self.handle_due(&overdue, leases, now);
    }

    /// In partner-down: notes when each address that ran out may be used again.
    pub(super) fn plan_reuse(&mut self, leases: &mut dyn Leases, now: Now) {
        let Some(alone) = self.alone() else { return };
        for pool in 0..leases.pool_count() {
            leases.visit_all(pool, &mut |binding| {
                if may_come_back(binding.state) {
                    self.reuse.insert((alone.reuse_at(binding), binding.address));
                }
            });
        }
        self.poll_reuse(leases, now);
    }

    /// The same for one address.
    pub(super) fn plan_reuse_of(&mut self, address: Ipv4Addr, leases: &mut dyn Leases, now: Now) {
        let Some(alone) = self.alone() else { return };
        let Some(binding) = leases.binding(address).filter(|binding| may_come_back(binding.state)) else {
            return;
        };
        self.reuse.insert((alone.reuse_at(&binding), address));
        self.poll_reuse(leases, now);
    }

    /// Frees what may be used again.
    pub(super) fn poll_reuse(&mut self, leases: &mut dyn Leases, now: Now) {
        while let Some(&(due, address)) = self.reuse.first().filter(|(due, _)| *due < now.wall) {
            self.reuse.remove(&(due, address));
            let Some(alone) = self.alone() else { continue };
            let Some(mut binding) = leases.binding(address).filter(|binding| may_come_back(binding.state)) else {
                continue;
            };
            let due = alone.reuse_at(&binding);
            if due >= now.wall {
                self.reuse.insert((due, address));
                continue;
            }
            binding.state = BindingState::Free;
            // Whatever the partner was told of it is over: who gets it next is unknown there.
            binding.rewind = BindingState::Free;
            binding.told_partner = binding.told_partner.max(binding.ends).min(WallTime::NEVER);
            self.stamp(&mut binding);
            let seq = self.store(leases, binding);
            self.updates.enqueue(address, seq);
        }
    }

    /// Leases that were reported in the last second of their time.
    fn poll_later(&mut self, leases: &mut dyn Leases, now: Now) {
        let rest = self.later.split_off(&(now.wall, Ipv4Addr::UNSPECIFIED));
        let over: Vec<Ipv4Addr> = std::mem::replace(&mut self.later, rest).into_iter().map(|(_, at)| at).collect();
        if !over.is_empty() {
            self.handle_due(&over, leases, now);
        }
    }

    /// Everything that waits for nothing but the time.
    pub(super) fn handle_timeout(&mut self, leases: &mut dyn Leases, now: Now) {
        self.poll_later(leases, now);
        self.poll_connections(leases, now);
        self.poll_states(leases, now);
        self.poll_reuse(leases, now);
        self.poll_balance(leases, now);
        self.poll_survey(leases, now);
        for address in self.ready_held(None, now) {
            self.resume_held(address, false, leases, now);
        }
        if self.session.is_some() {
            let count = self.updates.requeue_unanswered(now.boot);
            self.counters.updates_repeated = self.counters.updates_repeated.saturating_add(count as u64);
            self.retry_refused(leases, now);
        }
    }

    fn retry_refused(&mut self, leases: &mut dyn Leases, now: Now) {
        let Some((refused, has_more)) = self.updates.take_refused(now.boot) else {
            return;
        };
        if has_more {
            self.queue_needed(leases);
            return;
        }
        let seq = self.outbox.newest();
        for address in refused {
            if leases.binding(address).is_some_and(|binding| rules::needs_update(&binding)) {
                self.updates.enqueue_if_absent(address, seq);
            }
        }
    }
}

/// Whether such a lease becomes free without the partner, in partner-down, when all promises have run out.
const fn may_come_back(state: BindingState) -> bool {
    is_transitional(state) || matches!(state, BindingState::Abandoned)
}
