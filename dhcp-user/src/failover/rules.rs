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
        if condition { Transition::Accept } else { Transition::Refuse }
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
    /// Up to when the lost partner, or its kernel, may have promised this address to a client.
    ///
    /// Besides what the partner told us, and what it acknowledged, what we told it counts: it may have accepted an update
    /// whose acknowledgement was lost. That is so for what began before we were alone, and for whatever has become of it
    /// since: `rewind` says that the partner was told of a lease, and `told_partner` is never lowered while an answer is due
    /// ([`keep_told`], [`retired`]). Of an address that came back when we were alone, and of a client that got it then, the
    /// partner knows nothing (`expiry`: freed, `rewind` is free).
    ///
    /// The proof: let U be an update that the partner has accepted and whose acknowledgement did not come, t what it told.
    /// Its kernel promises at most t and MCLT. U was sent while `rewind` was made active, and before we were alone. If the
    /// address has not come back since, `rewind` is free or backup only if the partner has acknowledged the end, so that it
    /// has revoked; else `told_partner` is at least t: a renewal keeps it, an expiry does not touch it, a release keeps it,
    /// an acknowledgement of a later update makes `from_partner` at least t. So nobody else has the address before t and
    /// MCLT. (The other way round, what is told when we are alone counts although nobody hears it: at most a lease and a
    /// half and MCLT once for each address.)
    #[must_use]
    pub fn partner_promise(self, binding: &Binding) -> WallTime {
        let may_be_known =
            binding.starts <= self.since || !matches!(binding.rewind, BindingState::Free | BindingState::Backup);
        let told = if may_be_known { binding.told_partner } else { WallTime::NONE };
        let lead = self.mclt_secs.saturating_add(self.slack_secs);
        self.since.max(binding.from_partner).max(told).after(lead)
    }

    /// When an address that ran out, was released or was reset may be given to somebody else.
    #[must_use]
    pub fn reuse_at(self, binding: &Binding) -> WallTime {
        self.partner_promise(binding).max(binding.ends)
    }
}

/// A client has renewed its lease: what the partner was told and has not answered stays the least that it is told. It may
/// have accepted it, and its kernel may promise up to that.
pub fn keep_told(before: &Binding, after: &mut Binding) {
    let is_renewal = before.state == BindingState::Active && after.state == BindingState::Active;
    if is_renewal && before.is_same_client(after) && before.told_partner > before.acked_partner {
        after.told_partner = after.told_partner.max(before.told_partner);
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
            // A partner that does not hear of it may go on promising what it was told.
            let may_promise = binding.told_partner > binding.acked_partner && binding.told_partner < WallTime::NEVER;
            binding.ends = now;
            binding.told_partner = if may_promise { binding.told_partner.max(now) } else { now };
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
        || matches!(binding.state, BindingState::Expired | BindingState::Released | BindingState::Reset)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const NOW: WallTime = WallTime::from_secs(1_795_336_788);
    const PAST: WallTime = WallTime::from_secs(1_795_336_000);

    fn binding(state: BindingState, ends: WallTime) -> Binding {
        let mut binding = Binding::virgin(Ipv4Addr::new(10, 77, 0, 100));
        binding.state = state;
        binding.rewind = state;
        binding.ends = ends;
        binding
    }

    /// `A` accepted, `R` refused, `e` only when the lease is about to end here, `p` only when the potential expiry has
    /// passed. Columns: free active expired released abandoned reset backup.
    const NORMAL: [(BindingState, Role, &str); 14] = [
        (BindingState::Free, Role::Primary, "AAAAAAA"),
        (BindingState::Free, Role::Secondary, "AAAAAAA"),
        (BindingState::Abandoned, Role::Primary, "AAAAAAA"),
        (BindingState::Abandoned, Role::Secondary, "AAAAAAA"),
        (BindingState::Backup, Role::Primary, "AAAAAAA"),
        (BindingState::Backup, Role::Secondary, "AAAAAAA"),
        (BindingState::Released, Role::Primary, "AAAAAAA"),
        (BindingState::Released, Role::Secondary, "AAAAAAA"),
        (BindingState::Expired, Role::Primary, "pAAAAAp"),
        (BindingState::Expired, Role::Secondary, "pAAAAAp"),
        (BindingState::Reset, Role::Primary, "pAAAAAp"),
        (BindingState::Reset, Role::Secondary, "pAAAAAp"),
        (BindingState::Active, Role::Primary, "RARAARR"),
        (BindingState::Active, Role::Secondary, "pAeAAAp"),
    ];

    fn expected(letter: u8, is_over: bool) -> Transition {
        match letter {
            b'A' => Transition::Accept,
            b'e' | b'p' if is_over => Transition::Accept,
            b'e' | b'p' | b'R' => Transition::Refuse,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn the_transition_table_in_normal() {
        for (from, role, row) in NORMAL {
            for (to, letter) in BindingState::ALL.into_iter().zip(row.bytes()) {
                for (time, is_over) in [(PAST, true), (NOW.after(600), false)] {
                    let verdict = check_transition(role, true, &binding(from, time), to, time, NOW);
                    assert_eq!(verdict, expected(letter, is_over), "{role:?} {from:?} to {to:?}, over: {is_over}");
                }
            }
        }
    }

    #[test]
    fn outside_normal_only_an_active_lease_refuses() {
        for role in [Role::Primary, Role::Secondary] {
            for from in BindingState::ALL {
                let row = if from == BindingState::Active { "RAeAAAR" } else { "AAAAAAA" };
                for (to, letter) in BindingState::ALL.into_iter().zip(row.bytes()) {
                    for (time, is_over) in [(PAST, true), (NOW.after(600), false)] {
                        let verdict = check_transition(role, false, &binding(from, time), to, time, NOW);
                        assert_eq!(verdict, expected(letter, is_over), "{from:?} to {to:?}, over: {is_over}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_expired_within_dhcpds_slack_waits_for_the_end() {
        for (ahead, verdict) in [
            (0, Transition::AcceptAt(NOW.after(1))),
            (65, Transition::AcceptAt(NOW.after(66))),
            (66, Transition::Refuse),
        ] {
            let mine = binding(BindingState::Active, NOW.after(ahead));
            let role = Role::Secondary;
            assert_eq!(check_transition(role, true, &mine, BindingState::Expired, PAST, NOW), verdict);
        }
    }

    #[test]
    fn crossing_updates_never_both_lose_an_active_lease() {
        let claim = |state, cltt: u64| Claim { state, cltt: WallTime::from_secs(cltt) };
        for mine in BindingState::ALL {
            for theirs in BindingState::ALL {
                for (a, b) in [(1, 2), (2, 2), (3, 2)] {
                    let on_p = is_mine_better(Role::Primary, claim(mine, a), claim(theirs, b));
                    let on_s = is_mine_better(Role::Secondary, claim(theirs, b), claim(mine, a));
                    let is_expiry = matches!(
                        (mine, theirs),
                        (BindingState::Active, BindingState::Expired) | (BindingState::Expired, BindingState::Active)
                    );
                    assert!(on_p != on_s || is_expiry, "P {mine:?} {a}, S {theirs:?} {b}: {on_p} {on_s}");
                    if mine == BindingState::Active && theirs != BindingState::Active && !is_expiry {
                        assert!(on_p, "active wins over {theirs:?}");
                    }
                    if theirs == BindingState::Active && mine != BindingState::Active && !is_expiry {
                        assert!(on_s, "active wins over {mine:?}");
                    }
                }
            }
        }
        let active = BindingState::Active;
        assert!(is_mine_better(Role::Secondary, claim(active, 3), claim(active, 2)), "later contact");
        assert!(!is_mine_better(Role::Secondary, claim(active, 2), claim(active, 2)), "equal: the primary's");
    }

    #[test]
    fn who_may_allocate_what() {
        let alone = |since: WallTime| Some(Alone { since, mclt_secs: 40, slack_secs: 0 });
        let long_ago = alone(WallTime::from_secs(u64::from(NOW.secs()) - 41));
        let just_not = alone(WallTime::from_secs(u64::from(NOW.secs()) - 40));
        use BindingState::{Active, Backup, Expired, Free, Released, Reset};
        let (p, s) = (Role::Primary, Role::Secondary);
        for (role, state, normal, too_early, in_time) in [
            (p, Active, false, false, false),
            (s, Active, false, false, false),
            (p, Free, true, true, true),
            (s, Free, false, false, true),
            (p, Backup, false, false, true),
            (s, Backup, true, true, true),
            (p, Expired, false, false, true),
            (s, Released, false, false, true),
            (p, Reset, false, false, true),
        ] {
            let lease = binding(state, PAST);
            assert_eq!(is_mine_to_allocate(role, None, &lease, NOW), normal, "{role:?} {state:?}");
            assert_eq!(is_mine_to_allocate(role, just_not, &lease, NOW), too_early, "{role:?} {state:?}");
            assert_eq!(is_mine_to_allocate(role, long_ago, &lease, NOW), in_time, "{role:?} {state:?}");
        }
        let mut rewound = binding(Expired, PAST);
        rewound.rewind = Free;
        assert!(is_mine_to_allocate(p, None, &rewound, NOW));
        assert!(!is_mine_to_allocate(s, None, &rewound, NOW));
        let mut declined = binding(BindingState::Abandoned, PAST);
        assert!(is_mine_to_allocate(p, None, &declined, NOW), "as a last resort");
        declined.told_partner = NOW;
        assert!(!is_mine_to_allocate(p, None, &declined, NOW), "the partner does not know yet");
    }

    #[test]
    fn what_the_partner_may_have_promised_counts_from_the_latest_it_knew() {
        let alone = Alone { since: NOW, mclt_secs: 40, slack_secs: 2 };
        let mut lease = binding(BindingState::Expired, PAST);
        assert_eq!(alone.partner_promise(&lease), NOW.after(42));
        lease.from_partner = NOW.after(100);
        assert_eq!(alone.partner_promise(&lease), NOW.after(142), "dhcpd frees it at entry + MCLT");
        lease.told_partner = NOW.after(200);
        assert_eq!(alone.reuse_at(&lease), NOW.after(242), "its acknowledgement may have been lost");
        lease.starts = NOW.after(1);
        lease.rewind = BindingState::Active;
        assert_eq!(alone.reuse_at(&lease), NOW.after(242), "renewed after the partner was gone: it is as it was");
        lease.rewind = BindingState::Free;
        assert_eq!(alone.reuse_at(&lease), NOW.after(142), "began after it was gone, with what it knew before");
        lease.from_partner = PAST;
        assert_eq!(alone.reuse_at(&lease), NOW.after(42), "began after the partner was gone");
        lease.ends = NOW.after(500);
        assert_eq!(alone.reuse_at(&lease), NOW.after(500));
    }

    #[test]
    fn what_was_told_and_not_answered_is_never_lowered_while_a_client_has_the_lease() {
        let mut before = binding(BindingState::Active, NOW);
        before.chaddr = vec![1, 2];
        before.told_partner = NOW.after(900);
        before.acked_partner = NOW.after(300);
        let renewed = |before: &Binding, chaddr: u8| {
            let mut after = before.clone();
            after.chaddr = vec![1, chaddr];
            after.told_partner = NOW.after(150);
            keep_told(before, &mut after);
            after.told_partner
        };
        assert_eq!(renewed(&before, 2), NOW.after(900));
        assert_eq!(renewed(&before, 3), NOW.after(150), "another client");
        let released =
            |before: &Binding| retired(before.clone(), BindingState::Released, Role::Primary, false, NOW).told_partner;
        assert_eq!(released(&before), NOW.after(900));
        before.acked_partner = before.told_partner;
        assert_eq!(renewed(&before, 2), NOW.after(150), "it was answered: `from_partner` counts");
        assert_eq!(released(&before), NOW);
        before.told_partner = WallTime::NEVER;
        before.acked_partner = WallTime::NONE;
        assert_eq!(released(&before), NOW, "it would never come back");
    }

    #[test]
    fn a_binding_that_ends_alone_goes_back_if_the_partner_never_heard_of_it() {
        let mut lease = binding(BindingState::Active, PAST);
        lease.rewind = BindingState::Backup;
        let ended = retired(lease.clone(), BindingState::Expired, Role::Secondary, true, NOW);
        assert_eq!((ended.state, ended.told_partner), (BindingState::Backup, PAST));
        let elsewhere = retired(lease.clone(), BindingState::Expired, Role::Primary, true, NOW);
        assert_eq!(elsewhere.state, BindingState::Expired);
        let released = retired(lease, BindingState::Released, Role::Secondary, false, NOW);
        assert_eq!((released.state, released.ends, released.told_partner), (BindingState::Released, NOW, NOW));
        assert!(needs_update(&released));
    }

    #[test]
    fn an_abandoned_address_has_no_client() {
        let mut lease = binding(BindingState::Active, NOW.after(100));
        lease.chaddr = vec![1, 2, 3];
        lease.client_id = vec![4];
        let gone = abandoned(lease, NOW.after(86_400), NOW);
        assert!(gone.chaddr.is_empty() && gone.client_id.is_empty());
        assert_eq!((gone.state, gone.ends), (BindingState::Abandoned, NOW.after(86_400)));
        assert!(needs_update(&gone));
    }
}
