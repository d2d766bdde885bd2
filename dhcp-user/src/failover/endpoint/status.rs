//! What humans see of an endpoint; never read for control flow.

use std::collections::BTreeMap;

use super::{Endpoint, Outlook};
use crate::failover::binding::{Counts, Leases};
use crate::failover::bucket::Buckets;
use crate::failover::state::{Role, Service, State};
use crate::lease::time::{Now, WallTime};

/// A transition of either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusTransition {
    /// When.
    pub at: WallTime,
    /// Own state, or the partner's as heard.
    pub is_mine: bool,
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
}

/// How often one transition was made since the start, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Made {
    /// How often.
    pub count: u64,
    /// When it was made last.
    pub last: WallTime,
}

/// What was counted since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// BNDUPDs sent.
    pub updates_sent: u64,
    /// BNDUPDs of ours that the partner accepted.
    pub updates_acked: u64,
    /// BNDUPDs of ours that the partner refused.
    pub updates_rejected: u64,
    /// BNDUPDs of ours sent again because no answer came.
    pub updates_repeated: u64,
    /// BNDUPDs received.
    pub updates_received: u64,
    /// BNDUPDs of the partner that we refused.
    pub updates_refused: u64,
    /// BNDACKs for nothing in flight.
    pub acks_ignored: u64,
    /// Messages that were none.
    pub malformed: u64,
    /// Messages that would not have fitted.
    pub oversized: u64,
    /// What differs from a partner of ours, in plain words.
    pub differing_facts: Vec<String>,
}

/// What goes between the two servers, now and since the start. Taken without a look at the leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Whether the link is up.
    pub is_connected: bool,
    /// How long ago the partner said anything, seconds; `None` = not since the start.
    pub heard_secs_ago: Option<u64>,
    /// MCLT in force, seconds.
    pub mclt_secs: u32,
    /// Updates that wait for the window or the link.
    pub updates_queued: usize,
    /// Updates sent and not acknowledged.
    pub updates_in_flight: usize,
    /// How long the partner has not known the oldest change that it has to know, seconds.
    pub updates_lag_secs: u64,
    /// Updates of the partner that wait for a revocation or the end of a lease.
    pub updates_held: usize,
    /// Leases still to be answered for the partner's running update request.
    pub request_outstanding: Option<usize>,
    /// Counters.
    pub counters: Counters,
}

/// The picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Name of the relationship.
    pub name: String,
    /// Own role.
    pub role: Role,
    /// Own state; startup while starting.
    pub state: State,
    /// Since when.
    pub since: WallTime,
    /// The partner's state as last heard.
    pub partner: State,
    /// When it was heard.
    pub partner_since: WallTime,
    /// What may be done with clients.
    pub service: Service,
    /// Whether the partner is one of ours.
    pub is_partner_ours: bool,
    /// MCLT in force, seconds.
    pub mclt_secs: u32,
    /// Of 256 hash values of clients, how many are ours when both serve.
    pub own_buckets: u32,
    /// `load balance max seconds`; 0 = load balancing off.
    pub load_balance_secs_max: u32,
    /// Per pool: free, backup, other.
    pub pools: Vec<Counts>,
    /// What goes between the two.
    pub traffic: Traffic,
    /// What this server can do without its partner, as seen by the last [`super::Input::Survey`] that is complete.
    pub outlook: Option<Outlook>,
    /// The last transitions, oldest first.
    pub timeline: Vec<StatusTransition>,
    /// Every transition since the start: of which side (`true`: ours), from what, to what.
    pub transitions: BTreeMap<(bool, State, State), Made>,
}

impl Endpoint {
    /// A picture for humans. Looks at no lease.
    #[must_use]
    pub fn status(&self, leases: &dyn Leases, now: Now) -> Status {
        let pools: Vec<Counts> = (0..leases.pool_count()).map(|pool| leases.counts(pool)).collect();
        Status {
            name: self.settings.name.clone(),
            role: self.settings.role,
            state: self.state(),
            since: self.since,
            partner: self.partner,
            partner_since: self.partner_since,
            service: self.service,
            is_partner_ours: self.session.as_ref().is_some_and(|session| session.is_ours),
            mclt_secs: self.mclt_secs,
            own_buckets: {
                let primarys =
                    self.buckets.map_or(256, |Buckets(bits)| bits.iter().map(|byte| byte.count_ones()).sum());
                match self.settings.role {
                    Role::Primary => primarys,
                    Role::Secondary => 256_u32.saturating_sub(primarys),
                }
            },
            load_balance_secs_max: self.settings.load_balance_secs_max,
            pools,
            traffic: self.traffic(now),
            outlook: self.outlook,
            timeline: self.timeline.iter().copied().collect(),
            transitions: self.transitions.clone(),
        }
    }

    /// Until when the client of a running lease may be told that it has it, as things stand; `None` while nobody is
    /// answered, [`WallTime::NEVER`] when the partner is down. `from_partner` is what the partner knows of it.
    #[must_use]
    pub fn extendable_until(&self, from_partner: WallTime, now: WallTime) -> Option<WallTime> {
        self.service.is_responding().then(|| self.horizon(from_partner, now))
    }

    /// What goes between the two servers.
    #[must_use]
    pub fn traffic(&self, now: Now) -> Traffic {
        Traffic {
            is_connected: self.session.is_some(),
            heard_secs_ago: self.heard_at.map(|at| now.boot.since(at).as_secs()),
            mclt_secs: self.mclt_secs,
            updates_queued: self.updates.queued_len(),
            updates_in_flight: self.updates.in_flight_len(),
            updates_lag_secs: self.updates.lag(now.boot).as_secs(),
            updates_held: self.held_count,
            request_outstanding: self.updates.request_outstanding(),
            counters: self.counters.clone(),
        }
    }
}
