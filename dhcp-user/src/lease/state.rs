//! The words of the protocol for what a lease, or a failover endpoint, is.

/// State of a binding, with the numbers of the failover protocol (failover-12 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum BindingState {
    /// Allocatable by the primary, or by a server without a partner.
    #[default]
    Free = 1,
    /// Bound to a client.
    Active = 2,
    /// Ran out; the partner has not confirmed it yet.
    Expired = 3,
    /// Given back by the client; the partner has not confirmed it yet.
    Released = 4,
    /// Somebody else uses the address: declined, or it answered a probe.
    Abandoned = 5,
    /// Freed by an operator; the partner has not confirmed it yet.
    Reset = 6,
    /// Allocatable by the secondary.
    Backup = 7,
}

impl BindingState {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Free, Self::Active, Self::Expired, Self::Released, Self::Abandoned, Self::Reset, Self::Backup];

    /// The state with this number on the failover wire.
    #[must_use]
    pub const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Free,
            2 => Self::Active,
            3 => Self::Expired,
            4 => Self::Released,
            5 => Self::Abandoned,
            6 => Self::Reset,
            7 => Self::Backup,
            _ => return None,
        })
    }

    /// The number on the failover wire.
    #[must_use]
    pub const fn wire(self) -> u8 {
        self as u8
    }

    /// The word in the leases file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Released => "released",
            Self::Abandoned => "abandoned",
            Self::Reset => "reset",
            Self::Backup => "backup",
        }
    }

    /// The state that this word of a leases file means, in any case.
    ///
    /// dhcpd: `bootp` and `reserved`, which old versions wrote, are not states; the reader handles them.
    #[must_use]
    pub fn from_name(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|state| word.eq_ignore_ascii_case(state.name().as_bytes()))
    }
}

/// State of a failover endpoint, with the numbers of the protocol (failover-12 9.2) and of dhcpd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum FailoverState {
    /// Never heard of.
    #[default]
    UnknownState = 0,
    /// The process has just started.
    Startup = 1,
    /// Both partners serve, balanced.
    Normal = 2,
    /// The partner cannot be reached; it may be serving.
    CommunicationsInterrupted = 3,
    /// The partner is known to be down.
    PartnerDown = 4,
    /// Both may have served alone.
    PotentialConflict = 5,
    /// Learning everything anew from the partner.
    Recover = 6,
    /// dhcpd: the partner is being shut down for a short time.
    Paused = 7,
    /// dhcpd: the partner is being shut down.
    Shutdown = 8,
    /// Has learned everything, waits for the partner.
    RecoverDone = 9,
    /// A conflict's resolution lost its connection.
    ResolutionInterrupted = 10,
    /// A conflict is resolved on this side.
    ConflictDone = 11,
    /// Waits until old promises have run out.
    RecoverWait = 254,
}

impl FailoverState {
    /// All states.
    pub const ALL: [Self; 13] = [
        Self::UnknownState,
        Self::Startup,
        Self::Normal,
        Self::CommunicationsInterrupted,
        Self::PartnerDown,
        Self::PotentialConflict,
        Self::Recover,
        Self::Paused,
        Self::Shutdown,
        Self::RecoverDone,
        Self::ResolutionInterrupted,
        Self::ConflictDone,
        Self::RecoverWait,
    ];

    /// The state with this number on the wire.
    #[must_use]
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.wire() == number)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn wire(self) -> u8 {
        self as u8
    }

    /// The word in files and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownState => "unknown-state",
            Self::Startup => "startup",
            Self::Normal => "normal",
            Self::CommunicationsInterrupted => "communications-interrupted",
            Self::PartnerDown => "partner-down",
            Self::PotentialConflict => "potential-conflict",
            Self::Recover => "recover",
            Self::Paused => "paused",
            Self::Shutdown => "shutdown",
            Self::RecoverDone => "recover-done",
            Self::ResolutionInterrupted => "resolution-interrupted",
            Self::ConflictDone => "conflict-done",
            Self::RecoverWait => "recover-wait",
        }
    }

    /// The state that this word means, in any case.
    #[must_use]
    pub fn from_name(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|state| word.eq_ignore_ascii_case(state.name().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_comes_back_from_its_number_and_its_word() {
        for state in BindingState::ALL {
            assert_eq!(BindingState::from_wire(state.wire()), Some(state));
            assert_eq!(BindingState::from_name(state.name().to_uppercase().as_bytes()), Some(state));
        }
        for state in FailoverState::ALL {
            assert_eq!(FailoverState::from_wire(state.wire()), Some(state));
            assert_eq!(FailoverState::from_name(state.name().as_bytes()), Some(state));
        }
        assert_eq!(BindingState::from_wire(0), None);
        assert_eq!(BindingState::from_wire(8), None);
        assert_eq!(BindingState::from_name(b"bootp"), None);
    }
}
