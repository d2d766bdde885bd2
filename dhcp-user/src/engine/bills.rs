//! How many leases each limited class has (dhcpd: `lease limit`, `billing`).

use std::collections::HashMap;

use crate::{
    config::{Config, Membership, Via},
    lease::{Billing, BindingState, Lease},
};

/// Active leases by the class or subclass that they count against.
#[derive(Debug, Default)]
pub(crate) struct Bills {
    counts: HashMap<Billing, u32>,
}

/// The class that a lease counts against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bill {
    /// The client is in no class with a limit.
    Unlimited,
    /// This one has room.
    To(Billing),
    /// Every limited class is full.
    Full,
}

impl Bills {
    /// Whether any lease is billed to any class.
    pub(crate) fn is_used(&self) -> bool {
        !self.counts.is_empty()
    }

    /// Counts a lease that begins.
    pub(crate) fn count_in(&mut self, lease: &Lease) {
        if let Some(billing) = of_active(lease) {
            let count = self.counts.entry(billing.clone()).or_insert(0);
            *count = count.saturating_add(1);
        }
    }

    /// Forgets a lease that is replaced.
    pub(crate) fn count_out(&mut self, lease: &Lease) {
        let Some(billing) = of_active(lease) else { return };
        if let Some(count) = self.counts.get_mut(billing) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(billing);
            }
        }
    }

    /// Chooses the first class of the client that has a limit and room; what `lease` is billed to already counts as
    /// room (dhcpd).
    pub(crate) fn choose(&self, config: &Config, membership: &Membership, lease: Option<&Lease>) -> Bill {
        let present = lease.and_then(of_active);
        let mut bill = Bill::Unlimited;
        for member in &membership.members {
            let Some(limit) = member.lease_limit else { continue };
            let name = config.class_name(member.class).as_bytes();
            let billing = match member.via {
                Via::Class => Billing::Class(name.into()),
                Via::Subclass(_) | Via::Spawned => Billing::Subclass(name.into(), member.value.as_ref().into()),
            };
            if present == Some(&billing) || self.counts.get(&billing).copied().unwrap_or(0) < limit {
                return Bill::To(billing);
            }
            bill = Bill::Full;
        }
        bill
    }
}

fn of_active(lease: &Lease) -> Option<&Billing> {
    lease.billing.as_ref().filter(|_| lease.state == BindingState::Active)
}
