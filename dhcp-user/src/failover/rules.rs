//! Who may do what with a lease: crossing updates, transitions, allocation, the end of a lease (failover.md 3.1, 4, 5).

use super::binding::{Binding, BindingState};
use super::limits::EXPIRY_SLACK_SECS;
use super::state::Role;
use crate::lease::time::WallTime;

impl Role {
    /// The state whose addresses this server may give to new clients.
    #[must_use]
    pub const fn own_state(self) -> BindingState {
        match self {
            Self::Primary => BindingState::Free,
            Self::Secondary => BindingState::Backup,
        }
    }

    /// The state whose addresses the partner may give to new clients.
    #[must_use]
    pub const fn partner_state(self) -> BindingState {
        match self {
            Self::Primary => BindingState::Backup,
            Self::Secondary => BindingState::Free,
        }
    }
}

/// An update as far as crossing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Announced state.
    pub state: BindingState,
    /// When its sender last heard the client; none counts as 0.
    pub cltt: WallTime,
}

/// Whether my own update, which the partner has not answered, counts for more than the one that came in.
///
/// dhcpd lets every update of the primary's win over one of the secondary's that is not about an active lease. Here an
/// active lease that the partner has not heard of also wins on the secondary: a late give-away or release would
/// otherwise take the address from a client that has just been given it (I1). dhcpd as primary lets our "active" win as
/// well, so both ends agree. Where one says active and the other expired, each side takes the other's, and the
/// transition check settles it by the lease's end.
#[must_use]
pub fn is_mine_better(role: Role, mine: Claim, theirs: Claim) -> bool {
    use BindingState::{Abandoned, Active, Backup, Expired, Free, Released, Reset};
    match (mine.state, theirs.state) {
        (Active, Active) => mine.cltt > theirs.cltt || (mine.cltt == theirs.cltt && role == Role::Primary),
        (Active, Expired) => false,
        (Active, Free | Backup | Released | Reset | Abandoned) => true,
        (Free | Expired | Released | Abandoned | Reset | Backup, Active) => false,
        (
            Free | Expired | Released | Abandoned | Reset | Backup,
            Free | Expired | Released | Abandoned | Reset | Backup,
        ) => role == Role::Primary,
    }
}

/// Whether an update may be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Now.
    Accept,
    /// Not before this instant: the client's lease runs until then. dhcpd accepts at once and lets the address be
    /// given to somebody else up to 65 seconds early.
    AcceptAt(WallTime),
    /// Never; reject reason 2.
    Refuse,
}

/// Checks an update from the partner against the lease as it stands here (failover.md 4.4).
#[must_use]
pub fn check_transition(
    role: Role,
    is_normal: bool,
    mine: &Binding,
    to: BindingState,
    potential_expiry: WallTime,
    now: WallTime,
) -> Transition {
    use BindingState::{Abandoned, Active, Backup, Expired, Free, Released, Reset};
    let accept_if = |condition: bool| {
        if condition {
            Transition::Accept
        } else {
            Transition::Refuse
        }
    };
    let expire = || {
        // The second of `ends` itself still belongs to the client.
        if mine.ends < now {
            Transition::Accept
        } else if mine.ends <= now.after(EXPIRY_SLACK_SECS) {
            Transition::AcceptAt(mine.ends.after(1))
        } else {
            Transition::Refuse
        }
    };
    if mine.state == to {
        return Transition::Accept;
    }
    if !is_normal {
        return match (mine.state, to) {
            (Active, Free | Backup) => Transition::Refuse,
            (Active, Expired) => expire(),
            (Active, Active | Released | Reset | Abandoned) => Transition::Accept,
            (Free | Expired | Released | Abandoned | Reset | Backup, _) => Transition::Accept,
        };
    }
    match (mine.state, to) {
        (Free | Abandoned | Backup | Released, _) => Transition::Accept,
        (Expired | Reset, Free | Backup) => accept_if(potential_expiry <= now),
        (Expired | Reset, Active | Expired | Released | Abandoned | Reset) => Transition::Accept,
        (Active, Active | Released | Abandoned) => Transition::Accept,
        (Active, Expired | Free | Backup | Reset) if role == Role::Primary => Transition::Refuse,
        (Active, Reset) => Transition::Accept,
        (Active, Free | Backup) => accept_if(potential_expiry <= now),
        (Active, Expired) => expire(),
    }
}

/// The server is in partner-down since then, with this MCLT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alone {
    /// When it entered the state.
    pub since: WallTime,
    /// Maximum client lead time, seconds.
    pub mclt_secs: u32,
    /// By how much the partner's clock may be behind, seconds: it ends its promises by its own.
    pub slack_secs: u32,
}

impl Alone {
    /// Up to when the lost partner may have promised this address to a client that we never heard of.
    ///
    /// Besides what the partner told us, what we told the partner counts, as long as it was alive: its
    /// acknowledgement may have been lost.
    #[must_use]
    pub fn partner_promise(self, binding: &Binding) -> WallTime {
        let told = if binding.starts <= self.since {
            binding.told_partner
        } else {
            WallTime::NONE
        };
        let lead = self.mclt_secs.saturating_add(self.slack_secs);
        self.since.max(binding.from_partner).max(told).after(lead)
    }

    /// When an address that ran out, was released or was reset may be given to somebody else. A binding that began
    /// in partner-down is ours alone.
    #[must_use]
    pub fn reuse_at(self, binding: &Binding) -> WallTime {
        if binding.starts > self.since {
            self.since.after(self.mclt_secs.saturating_add(self.slack_secs)).max(binding.ends)
        } else {
            self.partner_promise(binding).max(binding.ends)
        }
    }
}

/// Whether this server may give the address to a new client; `alone` is set in partner-down.
#[must_use]
pub fn is_mine_to_allocate(role: Role, alone: Option<Alone>, binding: &Binding, now: WallTime) -> bool {
    use BindingState::{Abandoned, Active, Backup, Expired, Free, Released, Reset};
    let has_partner_lost_it = || alone.is_some_and(|alone| now > alone.partner_promise(binding));
    let is_over = || alone.is_some_and(|alone| now > alone.reuse_at(binding));
    match (binding.state, role) {
        (Active, _) => false,
        // A partner that does not know of the abandonment may go on renewing the address for its client.
        (Abandoned, Role::Primary) => binding.acked_partner >= binding.told_partner || has_partner_lost_it(),
        (Free, Role::Primary) | (Backup, Role::Secondary) => true,
        (Free | Abandoned, Role::Secondary) | (Backup, Role::Primary) => has_partner_lost_it(),
        (Expired | Released, _) => binding.rewind == role.own_state() || is_over(),
        (Reset, _) => is_over(),
    }
}

/// What a binding becomes at its end here: `to` is expired, released or reset.
///
/// While communications are interrupted, an address whose binding the partner never heard of goes straight back to
/// where it came from (dhcpd: rewind binding state).
#[must_use]
pub fn retired(mut binding: Binding, to: BindingState, role: Role, is_interrupted: bool, now: WallTime) -> Binding {
    match to {
        BindingState::Released | BindingState::Reset => {
            binding.ends = now;
            binding.told_partner = now;
        }
        BindingState::Expired => {
            if binding.told_partner >= WallTime::NEVER {
                binding.told_partner = binding.ends;
            }
        }
        BindingState::Free | BindingState::Active | BindingState::Abandoned | BindingState::Backup => {}
    }
    binding.state = to;
    if is_interrupted && binding.rewind == role.own_state() {
        binding.state = role.own_state();
        binding.told_partner = binding.ends;
    }
    binding.acked_partner = WallTime::NONE;
    binding
}

/// What a binding becomes when its address is declined, or answers a probe before it is offered: nobody's, until then.
#[must_use]
pub fn abandoned(mut binding: Binding, until: WallTime, now: WallTime) -> Binding {
    binding.state = BindingState::Abandoned;
    binding.ends = until;
    binding.told_partner = binding.told_partner.max(now);
    binding.acked_partner = WallTime::NONE;
    binding.chaddr.clear();
    binding.client_id.clear();
    binding
}

/// Whether the partner has to be told about this lease: something changed here since its last acknowledgement.
#[must_use]
pub fn needs_update(binding: &Binding) -> bool {
    binding.told_partner > binding.acked_partner
        || binding.rewind != binding.state
        || matches!(
            binding.state,
            BindingState::Expired | BindingState::Released | BindingState::Reset
        )
}
