//! The seam to failover: what a peer's state means for clients, for allocation and for lease times.
//!
//! Everything the engine asks about a partner goes through [`Peer`]. Without a connection to a partner the states
//! move as failover.md 3.2 says for a server that hears nobody; an endpoint that speaks the protocol sets them.

use crate::{
    config::{FailoverPeer, Role, StateName},
    lease::{
        BindingState, FailoverState, Lease,
        journal::PeerState,
        time::{BootTime, Now, WallTime},
    },
};

/// How long a server that was not in partner-down waits for its partner after the start, in seconds (dhcpd: 15).
const STARTUP_SECS: u64 = 15;

/// What a failover endpoint's state means for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Nobody is answered.
    NotResponding,
    /// Nobody is answered yet.
    Startup,
    /// Both partners answer, each its half of the new clients.
    Cooperating,
    /// The partner is out of reach: everybody is answered, within MCLT.
    NotCooperating,
    /// The partner is down: everybody is answered, with full leases.
    PartnerDown,
}

impl Service {
    /// Whether clients are answered at all.
    #[must_use]
    pub const fn is_answering(self) -> bool {
        match self {
            Self::NotResponding | Self::Startup => false,
            Self::Cooperating | Self::NotCooperating | Self::PartnerDown => true,
        }
    }

    /// The name in status output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotResponding => "not-responding",
            Self::Startup => "startup",
            Self::Cooperating => "cooperating",
            Self::NotCooperating => "not-cooperating",
            Self::PartnerDown => "partner-down",
        }
    }
}

/// One failover partner as the engine sees it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The state as the leases file records it; `startup` is never recorded.
    pub(crate) state: PeerState,
    /// Which side we are.
    pub(crate) role: Role,
    /// Maximum client lead time, in seconds.
    pub(crate) mclt: u32,
    /// Clients are not answered before this instant, since the partner may still speak up.
    startup_until: Option<BootTime>,
    /// Leases in partner-down stay within MCLT (dhcpd 4.4.3), instead of being full (failover-12 9.4.2).
    limits_in_partner_down: bool,
}

/// A peer at the start, and whether its state has to be journaled.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The peer.
    pub(crate) peer: Peer,
    /// The state is new: the leases file has no record of it.
    pub(crate) is_new: bool,
}

impl Peer {
    /// Begins where the leases file says, else where the configuration says, else in recover.
    pub(crate) fn begin(declared: &FailoverPeer, recorded: Option<&PeerState>, now: Now) -> Begun {
        let (state, is_new) = match recorded {
            Some(recorded) => (recorded.clone(), false),
            None => (bootstrap(declared, now.wall), true),
        };
        let mclt = if declared.mclt != 0 { declared.mclt } else { state.mclt.unwrap_or(0) };
        let startup_until = match state.my_state {
            // The partner is known to be down: there is nobody to wait for.
            FailoverState::PartnerDown => None,
            _ => Some(BootTime::from_nanos(now.boot.nanos() + STARTUP_SECS * 1_000_000_000)),
        };
        Begun { peer: Self { state, role: declared.role, mclt, startup_until, limits_in_partner_down: false }, is_new }
    }

    /// What the state means for clients.
    pub(crate) fn service(&self) -> Service {
        if self.startup_until.is_some() {
            return Service::Startup;
        }
        let service = match self.state.my_state {
            FailoverState::Normal => Service::Cooperating,
            FailoverState::CommunicationsInterrupted => Service::NotCooperating,
            FailoverState::PartnerDown => Service::PartnerDown,
            FailoverState::Startup => Service::Startup,
            FailoverState::UnknownState
            | FailoverState::PotentialConflict
            | FailoverState::Recover
            | FailoverState::Paused
            | FailoverState::Shutdown
            | FailoverState::RecoverDone
            | FailoverState::ResolutionInterrupted
            | FailoverState::ConflictDone
            | FailoverState::RecoverWait => Service::NotResponding,
        };
        // A partner that was last heard of in such a state may be serving alone (failover.md 3.1).
        let is_silenced = matches!(
            self.state.partner_state,
            FailoverState::PartnerDown
                | FailoverState::PotentialConflict
                | FailoverState::ConflictDone
                | FailoverState::ResolutionInterrupted
        );
        if is_silenced { Service::NotResponding } else { service }
    }

    /// Whether the kernel may answer for this peer's pools: renewals are answered in every answering state.
    pub(crate) fn is_serving(&self) -> bool {
        self.service().is_answering()
    }

    /// Whether this server may give the address to a new client (failover.md 3.1).
    pub(crate) fn is_mine_to_allocate(&self, lease: &Lease, now: WallTime) -> bool {
        match lease.state {
            BindingState::Active => false,
            BindingState::Free | BindingState::Abandoned => {
                self.is_primary() || self.is_the_partners_usable(lease, now)
            }
            BindingState::Backup => !self.is_primary() || self.is_the_partners_usable(lease, now),
            BindingState::Expired | BindingState::Released => {
                let mine = if self.is_primary() { BindingState::Free } else { BindingState::Backup };
                lease.rewind_state == mine || self.is_reset_usable(lease, now)
            }
            BindingState::Reset => self.is_reset_usable(lease, now),
        }
    }

    /// The queue of a pool from which this server allocates, and the partner's if that may be used now.
    pub(crate) fn queues(&self, now: WallTime) -> (BindingState, Option<BindingState>) {
        let (mine, theirs) = if self.is_primary() {
            (BindingState::Free, BindingState::Backup)
        } else {
            (BindingState::Backup, BindingState::Free)
        };
        let is_usable = self.is_in_partner_down() && now > self.state.my_since.after(self.mclt);
        (mine, is_usable.then_some(theirs))
    }

    /// Limits a lease time so that it does not outlast what the partner knows by more than MCLT (I7).
    pub(crate) fn limit(&self, want: u32, tsfp: WallTime, now: WallTime) -> u32 {
        if self.is_in_partner_down() && !self.limits_in_partner_down {
            return want;
        }
        want.min(tsfp.since(now).saturating_add(self.mclt).max(self.mclt))
    }

    /// What the partner is told, or would be: the lease and a half, so that at half of what was granted the full
    /// time can be given again (failover.md 5.3).
    pub(crate) fn potential_expiry(want: u32, granted: u32, now: WallTime) -> WallTime {
        if want == u32::MAX { WallTime::NEVER } else { now.after(want).after(granted / 2) }
    }

    /// The latest instant up to which the kernel may promise (I7): everything in partner-down, otherwise what the
    /// partner acknowledged and MCLT.
    pub(crate) fn horizon(&self, lease: &Lease) -> WallTime {
        if self.is_in_partner_down() && !self.limits_in_partner_down {
            lease.tstp
        } else {
            lease.tstp.min(lease.tsfp.after(self.mclt)).max(lease.ends)
        }
    }

    /// When an expired or released lease becomes free without the partner's word; `None` = not before it speaks.
    pub(crate) fn free_at(&self, lease: &Lease) -> Option<WallTime> {
        self.is_in_partner_down().then(|| self.state.my_since.after(self.mclt).max(lease.ends))
    }

    /// The state to which a lease goes straight back while the partner is out of reach: the partner was last told, or
    /// told us, that it is ours to give (failover.md 5.4).
    pub(crate) fn rewound(&self, lease: &Lease) -> Option<BindingState> {
        let mine = if self.is_primary() { BindingState::Free } else { BindingState::Backup };
        let is_alone = self.service() == Service::NotCooperating;
        (is_alone && lease.rewind_state == mine).then_some(mine)
    }

    /// Waiting for the partner after the start ends.
    pub(crate) const fn startup_until(&self) -> Option<BootTime> {
        self.startup_until
    }

    /// Ends the wait for a partner that has not spoken up; `true` when the state changed and has to be journaled.
    pub(crate) fn end_startup(&mut self, now: Now) -> bool {
        self.startup_until = None;
        let next = match self.state.my_state {
            FailoverState::Normal => FailoverState::CommunicationsInterrupted,
            FailoverState::PotentialConflict => FailoverState::ResolutionInterrupted,
            other => other,
        };
        let is_changed = next != self.state.my_state;
        if is_changed {
            self.state.my_state = next;
            self.state.my_since = now.wall;
        }
        is_changed
    }

    /// Whether this side is the primary.
    pub(crate) fn is_primary(&self) -> bool {
        self.role == Role::Primary
    }

    fn is_in_partner_down(&self) -> bool {
        self.state.my_state == FailoverState::PartnerDown
    }

    fn is_the_partners_usable(&self, lease: &Lease, now: WallTime) -> bool {
        self.is_in_partner_down() && now > self.state.my_since.max(lease.tsfp).after(self.mclt)
    }

    fn is_reset_usable(&self, lease: &Lease, now: WallTime) -> bool {
        self.is_in_partner_down() && lease.tsfp < now
    }
}

fn bootstrap(declared: &FailoverPeer, now: WallTime) -> PeerState {
    let block = declared.bootstrap.as_ref();
    let at = |at: Option<u32>| at.map_or(now, |at| WallTime::from_secs(u64::from(at)));
    PeerState {
        name: declared.name.as_bytes().into(),
        my_state: block.and_then(|block| block.my_state).map_or(FailoverState::Recover, state_of),
        my_since: at(block.and_then(|block| block.my_at)),
        partner_state: block.and_then(|block| block.partner_state).map_or(FailoverState::UnknownState, state_of),
        partner_since: at(block.and_then(|block| block.partner_at)),
        mclt: block.and_then(|block| block.mclt),
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
