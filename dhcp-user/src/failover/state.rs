//! States of an endpoint, what each may do with clients, and its record in the leases file.

pub use crate::lease::FailoverState as State;
use crate::lease::time::WallTime;

/// Which of the two servers this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends CONNECT, allocates `free` addresses.
    Primary,
    /// Answers it, allocates `backup` addresses.
    Secondary,
}

/// What an endpoint may do with client traffic for its pools (failover.md 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Just started: silent.
    Startup,
    /// Answers, new clients by load balance.
    Cooperating,
    /// Answers everybody.
    NotCooperating,
    /// Answers everybody, alone.
    PartnerDown,
    /// Silent.
    NotResponding,
}

impl Service {
    /// What `mine` allows while the partner was last heard to be in `partner`. A partner that serves alone or
    /// resolves conflicts silences us, even after a restart (dhcpd: peer-imposed silence).
    #[must_use]
    pub const fn of(mine: State, partner: State) -> Self {
        let service = match mine {
            State::Startup => Self::Startup,
            State::Normal => Self::Cooperating,
            State::CommunicationsInterrupted => Self::NotCooperating,
            State::PartnerDown => Self::PartnerDown,
            State::UnknownState
            | State::PotentialConflict
            | State::Recover
            | State::Paused
            | State::Shutdown
            | State::RecoverDone
            | State::ResolutionInterrupted
            | State::ConflictDone
            | State::RecoverWait => Self::NotResponding,
        };
        match partner {
            State::PartnerDown | State::PotentialConflict | State::ConflictDone | State::ResolutionInterrupted => {
                Self::NotResponding
            }
            State::UnknownState
            | State::Startup
            | State::Normal
            | State::CommunicationsInterrupted
            | State::Recover
            | State::Paused
            | State::Shutdown
            | State::RecoverDone
            | State::RecoverWait => service,
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

    /// Whether clients are answered at all.
    #[must_use]
    pub const fn is_responding(self) -> bool {
        match self {
            Self::Cooperating | Self::NotCooperating | Self::PartnerDown => true,
            Self::Startup | Self::NotResponding => false,
        }
    }
}

/// `failover peer "X" state { ... }` of the leases file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateRecord {
    /// Own state; never startup.
    pub mine: State,
    /// When it began.
    #[doc(alias = "stos")]
    pub mine_since: WallTime,
    /// The partner's state as last heard.
    pub partner: State,
    /// When it was heard.
    pub partner_since: WallTime,
    /// MCLT that the primary told us, seconds; only on the secondary.
    pub mclt_secs: Option<u32>,
}
