//! The seam to failover: one endpoint per partner, and what its state means for clients, allocation and lease times.
//!
//! ```text
//!   find, offer, grant, surrender, kernel --ask--> Peer --> Endpoint        (this file)
//!   client changed a lease: commit -> Changed; time: Due, Timeout; TCP: Connected, Bytes, Closed   (partners)
//!   endpoint reads and stores leases: one table, one journal                (shelf)
//! ```
//!
//! There is one lease table. An endpoint sees it through `shelf`, and every record that it rests on goes through the
//! same gate as a client's (I8).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{
    config::{Config, FailoverPeer, PeerId, PoolId, Role, StateName},
    failover::{self, Binding, Buckets, Endpoint, Service, Settings, StateRecord},
    lease::{
        BindingState, FailoverState, Lease,
        journal::PeerState,
        time::{Now, WallTime},
    },
};

use super::{
    facts,
    port::{JournalSeq, Token},
};

/// One failover partner as the engine sees it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Name of the relationship.
    pub(crate) name: Arc<str>,
    /// Speaks with the partner.
    pub(crate) endpoint: Endpoint,
    /// The pools that name it, in configuration order.
    pub(crate) pools: Vec<PoolId>,
    /// The state that the journal knows, and the record's number.
    pub(crate) recorded: Option<(StateRecord, JournalSeq)>,
    /// Revocations that the endpoint waits for, each with those of the engine that it consists of.
    pub(crate) revoking: Vec<(failover::Token, BTreeSet<Token>)>,
}

impl Peer {
    /// Begins where the leases file says, else where the configuration says, else in recover.
    pub(crate) fn begin(config: &Config, id: PeerId, recorded: Option<&PeerState>, seed: u64, now: Now) -> Self {
        let declared = config.failover_peer(id);
        let known = recorded.map(record_of);
        let record = known.unwrap_or_else(|| bootstrap(declared, now.wall));
        Self {
            name: Arc::clone(&declared.name),
            endpoint: Endpoint::new(
                Settings { facts: facts::of(config, id), ..settings(declared, seed) },
                Some(record),
                now,
            ),
            pools: pools_of(config, id),
            recorded: known.map(|record| (record, JournalSeq(0))),
            revoking: Vec::new(),
        }
    }

    /// What the state means for clients.
    pub(crate) const fn service(&self) -> Service {
        self.endpoint.service()
    }

    /// Whether the kernel may answer for this peer's pools: renewals are answered in every answering state.
    pub(crate) const fn is_serving(&self) -> bool {
        self.service().is_responding()
    }

    /// The state as the leases file records it.
    pub(crate) fn state(&self) -> PeerState {
        peer_state(&self.name, &self.endpoint.record())
    }

    /// Whether this server may give the address to a new client (failover.md 3.1).
    pub(crate) fn is_mine_to_allocate(&self, lease: &Lease, now: WallTime) -> bool {
        self.endpoint.is_mine_to_allocate(&Binding::from(lease), now)
    }

    /// The queue of a pool from which this server allocates, and the partner's if that may be used now.
    pub(crate) fn queues(&self, now: WallTime) -> (BindingState, Option<BindingState>) {
        let role = self.endpoint.role();
        (role.own_state(), self.endpoint.takes_partners_addresses(now).then_some(role.partner_state()))
    }

    /// The state of the addresses that only the partner may give to new clients.
    pub(crate) const fn partner_state(&self) -> BindingState {
        self.endpoint.role().partner_state()
    }

    /// What the partner is known to honour when a lease is granted: what it acknowledged; of a lease that has ended no
    /// more than what it was told with that. It may have accepted an update whose answer was lost (I7).
    pub(crate) fn agreed(lease: &Lease) -> WallTime {
        if lease.state == BindingState::Active { lease.tsfp } else { lease.tsfp.min(lease.tstp) }
    }

    /// Limits a lease time so that it does not outlast what the partner knows by more than MCLT (I7).
    pub(crate) fn limit(&self, want: u32, tsfp: WallTime, now: WallTime) -> u32 {
        self.endpoint.grant(want, tsfp, now).secs
    }

    /// What the partner is told of a lease that was granted: the lease and a half, so that at half of what was granted
    /// the full time can be given again (failover.md 5.3).
    pub(crate) fn potential_expiry(&self, want: u32, tsfp: WallTime, now: WallTime) -> WallTime {
        self.endpoint.grant(want, tsfp, now).told_partner
    }

    /// The latest instant up to which the kernel may promise (I7): what is journaled, by us or as the partner's word, in
    /// partner-down; otherwise not beyond what the partner acknowledged or said, and MCLT. The end of the lease does not
    /// count: after a crash it may be no more than a guess at what an earlier agent promised.
    pub(crate) fn horizon(&self, lease: &Lease) -> WallTime {
        lease.tstp.max(lease.tsfp).min(self.endpoint.horizon(lease.tsfp, WallTime::NONE))
    }

    /// Whether this side is the primary.
    pub(crate) fn is_primary(&self) -> bool {
        self.endpoint.role() == failover::Role::Primary
    }
}

/// The lease and a half, where there is no partner: what the kernel may promise.
pub(crate) fn lease_and_a_half(want: u32, granted: u32, now: WallTime) -> WallTime {
    if want == u32::MAX { WallTime::NEVER } else { now.after(want).after(granted / 2) }
}

/// What the endpoint needs of a declaration.
pub(crate) fn settings(declared: &FailoverPeer, seed: u64) -> Settings {
    let role = match declared.role {
        Role::Primary => failover::Role::Primary,
        Role::Secondary => failover::Role::Secondary,
    };
    Settings {
        receive_timer_secs: declared.max_response_delay,
        updates_unacked_max: declared.max_unacked,
        mclt_secs: declared.mclt,
        buckets: declared.hba.map(Buckets),
        load_balance_secs_max: declared.load_balance_max_secs,
        auto_partner_down_secs: declared.auto_partner_down,
        misbalance_percent_max: declared.max_lease_misbalance,
        ownership_percent_max: declared.max_lease_ownership,
        balance_secs_min: declared.min_balance,
        balance_secs_max: declared.max_balance,
        seed,
        ..Settings::new(&declared.name, role)
    }
}

/// The pools that name a peer.
pub(crate) fn pools_of(config: &Config, id: PeerId) -> Vec<PoolId> {
    let numbered = config.pools.iter().enumerate();
    numbered.filter(|(_, pool)| pool.failover == Some(id)).map(|(number, _)| PoolId(number)).collect()
}

/// The endpoint's state as a record of the leases file.
pub(crate) fn peer_state(name: &str, record: &StateRecord) -> PeerState {
    PeerState {
        name: name.as_bytes().into(),
        my_state: record.mine,
        my_since: record.mine_since,
        partner_state: record.partner,
        partner_since: record.partner_since,
        mclt: record.mclt_secs,
    }
}

fn record_of(state: &PeerState) -> StateRecord {
    StateRecord {
        mine: state.my_state,
        mine_since: state.my_since,
        partner: state.partner_state,
        partner_since: state.partner_since,
        mclt_secs: state.mclt,
    }
}

fn bootstrap(declared: &FailoverPeer, now: WallTime) -> StateRecord {
    let block = declared.bootstrap.as_ref();
    let at = |at: Option<u32>| at.map_or(now, |at| WallTime::from_secs(u64::from(at)));
    StateRecord {
        mine: block.and_then(|block| block.my_state).map_or(FailoverState::Recover, state_of),
        mine_since: at(block.and_then(|block| block.my_at)),
        partner: block.and_then(|block| block.partner_state).map_or(FailoverState::UnknownState, state_of),
        partner_since: at(block.and_then(|block| block.partner_at)),
        mclt_secs: block.and_then(|block| block.mclt),
    }
}

const fn state_of(name: StateName) -> FailoverState {
    match name {
        StateName::Startup => FailoverState::Startup,
        StateName::Recover => FailoverState::Recover,
        StateName::RecoverWait => FailoverState::RecoverWait,
        StateName::RecoverDone => FailoverState::RecoverDone,
        StateName::Normal => FailoverState::Normal,
        StateName::CommunicationsInterrupted => FailoverState::CommunicationsInterrupted,
        StateName::PartnerDown => FailoverState::PartnerDown,
        StateName::PotentialConflict => FailoverState::PotentialConflict,
        StateName::ConflictDone => FailoverState::ConflictDone,
        StateName::ResolutionInterrupted => FailoverState::ResolutionInterrupted,
        StateName::Paused => FailoverState::Paused,
        StateName::Shutdown => FailoverState::Shutdown,
        StateName::Unknown => FailoverState::UnknownState,
    }
}
