//! What the partner's states do to ours: the table of failover.md 3.4.

use crate::failover::state::{Role, State};

/// What a STATE of the partner asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// This transition.
    Go(State),
    /// First what is queued, then normal.
    FlushThenNormal,
    /// Everything is asked for again.
    AskForAll,
    /// What has not been acknowledged is asked for.
    Ask,
    /// The balance of the pools is looked at.
    RecheckPools,
}

/// The table of failover.md 3.4, without its step 0. `is_starting`: `mine` is the state saved from before the start.
/// `before` is the partner's state recorded before this one.
///
/// Departures from dhcpd, all where it would abort, stop for good or endanger its partner: a primary in conflict-done
/// survives every state; a secondary that meets a primary in conflict-done always resolves its side.
pub(super) fn step(role: Role, mine: State, is_starting: bool, before: State, said: State, startup: bool) -> Step {
    use State::{
        CommunicationsInterrupted, ConflictDone, Normal, PartnerDown, Paused, PotentialConflict, Recover, RecoverDone,
        RecoverWait, ResolutionInterrupted, Shutdown, Startup, UnknownState,
    };
    if role == Role::Secondary
        && said == ConflictDone
        && !matches!(mine, PotentialConflict | Shutdown | Paused | UnknownState | Startup)
    {
        return Step::Go(PotentialConflict);
    }
    match (mine, said) {
        (Normal, Normal) => Step::RecheckPools,
        (Normal, PartnerDown) => Step::Go(if is_starting { Recover } else { PotentialConflict }),
        (Normal, Recover | Shutdown) => Step::Go(PartnerDown),
        (Normal, Paused) => Step::Go(CommunicationsInterrupted),
        (Normal, PotentialConflict | ResolutionInterrupted | ConflictDone) => Step::Go(Shutdown),
        (Normal, UnknownState | Startup | CommunicationsInterrupted | RecoverDone | RecoverWait) => Step::Stay,

        (Recover, Recover | PartnerDown | CommunicationsInterrupted) => {
            if is_starting {
                Step::Stay
            } else {
                Step::AskForAll
            }
        }
        (Recover, Normal | PotentialConflict | ResolutionInterrupted | ConflictDone) => Step::Go(PotentialConflict),
        (Recover, Shutdown) => Step::Go(PartnerDown),
        (Recover, UnknownState | Startup | Paused | RecoverDone | RecoverWait) => Step::Stay,

        (RecoverWait, _) => Step::Stay,

        (RecoverDone, Normal | RecoverDone) => Step::Go(Normal),
        (RecoverDone, Shutdown) => Step::Go(PartnerDown),
        (
            RecoverDone,
            UnknownState
            | Startup
            | CommunicationsInterrupted
            | PartnerDown
            | PotentialConflict
            | Recover
            | Paused
            | ResolutionInterrupted
            | ConflictDone
            | RecoverWait,
        ) => Step::Stay,

        (CommunicationsInterrupted, Normal | CommunicationsInterrupted | RecoverDone | RecoverWait) => {
            Step::FlushThenNormal
        }
        (CommunicationsInterrupted, Recover | Shutdown) => Step::Go(PartnerDown),
        (CommunicationsInterrupted, PartnerDown | PotentialConflict | ResolutionInterrupted | ConflictDone) => {
            Step::Go(PotentialConflict)
        }
        (CommunicationsInterrupted, UnknownState | Startup | Paused) => Step::Stay,

        (PartnerDown, _) if startup => Step::Stay,
        (PartnerDown, RecoverDone) => Step::Go(Normal),
        (
            PartnerDown,
            Normal | CommunicationsInterrupted | PartnerDown | PotentialConflict | ResolutionInterrupted | ConflictDone,
        ) => Step::Go(PotentialConflict),
        (PartnerDown, UnknownState | Startup | Recover | RecoverWait | Shutdown | Paused) => Step::Stay,

        (PotentialConflict, ConflictDone) if before == PotentialConflict && !is_starting => Step::Ask,
        (PotentialConflict, Recover) => Step::Go(Recover),
        (PotentialConflict, Shutdown) => Step::Go(PartnerDown),
        (PotentialConflict, Normal) => Step::Go(Shutdown),
        (
            PotentialConflict,
            UnknownState
            | Startup
            | CommunicationsInterrupted
            | PartnerDown
            | PotentialConflict
            | Paused
            | RecoverDone
            | ResolutionInterrupted
            | ConflictDone
            | RecoverWait,
        ) => Step::Stay,

        (ResolutionInterrupted, Shutdown) => Step::Go(PartnerDown),
        (
            ResolutionInterrupted,
            Normal
            | Recover
            | RecoverWait
            | RecoverDone
            | CommunicationsInterrupted
            | PartnerDown
            | PotentialConflict
            | ResolutionInterrupted
            | ConflictDone,
        ) => Step::Go(PotentialConflict),
        (ResolutionInterrupted, UnknownState | Startup | Paused) => Step::Stay,

        (ConflictDone, Normal) => Step::Go(Normal),
        (ConflictDone, Shutdown) => Step::Go(Shutdown),
        // The secondary has lost what it knew: we know everything it had told us, and it serves nobody.
        (ConflictDone, Recover) => Step::Go(PartnerDown),
        (ConflictDone, PartnerDown | CommunicationsInterrupted | RecoverDone | RecoverWait | ConflictDone) => {
            Step::Go(PotentialConflict)
        }
        (ConflictDone, PotentialConflict | ResolutionInterrupted | UnknownState | Startup | Paused) => Step::Stay,

        (Shutdown | Paused | UnknownState | Startup, _) => Step::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::state::Service;

    const COLUMNS: [State; 11] = [
        State::Normal,
        State::CommunicationsInterrupted,
        State::PartnerDown,
        State::PotentialConflict,
        State::Recover,
        State::Paused,
        State::Shutdown,
        State::RecoverDone,
        State::ResolutionInterrupted,
        State::ConflictDone,
        State::RecoverWait,
    ];

    /// failover.md 3.4 for a running server. Letters: `.` stay, `n` normal, `f` flush then normal, `p` partner-down,
    /// `c` potential-conflict, `i` communications-interrupted, `r` recover, `x` shutdown, `A` UPDREQALL, `b` pools.
    const TABLE: [(State, &str); 10] = [
        //                                 no ci pd pc re pa sh rd ri cd rw
        (State::Normal, "b.cxpip.xx."),
        (State::Recover, "cAAcA.p.cc."),
        (State::RecoverWait, "..........."),
        (State::RecoverDone, "n.....pn..."),
        (State::CommunicationsInterrupted, "ffccp.pfccf"),
        (State::PartnerDown, "cccc...ncc."),
        (State::PotentialConflict, "x...r.p...."),
        (State::ResolutionInterrupted, "ccccc.pcccc"),
        (State::Shutdown, "..........."),
        (State::Paused, "..........."),
    ];

    fn letter(step: Step) -> char {
        match step {
            Step::Stay => '.',
            Step::Go(State::Normal) => 'n',
            Step::FlushThenNormal => 'f',
            Step::Go(State::PartnerDown) => 'p',
            Step::Go(State::PotentialConflict) => 'c',
            Step::Go(State::CommunicationsInterrupted) => 'i',
            Step::Go(State::Recover) => 'r',
            Step::Go(State::Shutdown) => 'x',
            Step::AskForAll => 'A',
            Step::Ask => 'a',
            Step::RecheckPools => 'b',
            Step::Go(other) => panic!("{other:?}"),
        }
    }

    fn row(role: Role, mine: State, is_starting: bool, startup: bool) -> String {
        COLUMNS.iter().map(|&said| letter(step(role, mine, is_starting, State::UnknownState, said, startup))).collect()
    }

    #[test]
    fn the_primarys_table_is_dhcpds() {
        for (mine, expected) in TABLE {
            assert_eq!(row(Role::Primary, mine, false, false), expected, "{mine:?}");
        }
    }

    #[test]
    fn a_primary_in_conflict_done_survives_every_state() {
        assert_eq!(row(Role::Primary, State::ConflictDone, false, false), "ncc.p.xc.cc");
    }

    #[test]
    fn the_secondarys_table_differs_only_where_the_primary_is_in_conflict_done() {
        for (mine, expected) in TABLE {
            let got = row(Role::Secondary, mine, false, false);
            for ((said, got), expected) in COLUMNS.iter().zip(got.chars()).zip(expected.chars()) {
                let is_silent = matches!(mine, State::Shutdown | State::Paused | State::PotentialConflict);
                if *said == State::ConflictDone && !is_silent {
                    assert_eq!(got, 'c', "{mine:?}");
                } else {
                    assert_eq!(got, expected, "{mine:?} {said:?}");
                }
            }
        }
    }

    #[test]
    fn a_starting_server_that_meets_a_lonely_partner_recovers() {
        assert_eq!(row(Role::Primary, State::Normal, true, false), "b.rxpip.xx.");
        assert_eq!(row(Role::Primary, State::Recover, true, false), "c..c..p.cc.", "the entry action asks");
    }

    #[test]
    fn only_partner_down_looks_at_the_startup_flag() {
        assert_eq!(row(Role::Primary, State::PartnerDown, false, true), "...........");
        for (mine, expected) in TABLE.into_iter().filter(|(mine, _)| *mine != State::PartnerDown) {
            assert_eq!(row(Role::Primary, mine, false, true), expected, "{mine:?}");
        }
    }

    #[test]
    fn the_secondary_asks_when_the_primary_has_done_its_part() {
        let ask = |before| step(Role::Secondary, State::PotentialConflict, false, before, State::ConflictDone, false);
        assert_eq!(ask(State::PotentialConflict), Step::Ask);
        assert_eq!(ask(State::ConflictDone), Step::Stay);
    }

    #[test]
    fn who_may_answer_clients() {
        use Service::{Cooperating, NotCooperating, NotResponding, PartnerDown, Startup};
        for (mine, service) in [
            (State::Normal, Cooperating),
            (State::CommunicationsInterrupted, NotCooperating),
            (State::PartnerDown, PartnerDown),
            (State::Startup, Startup),
            (State::Recover, NotResponding),
            (State::RecoverWait, NotResponding),
            (State::RecoverDone, NotResponding),
            (State::PotentialConflict, NotResponding),
            (State::ConflictDone, NotResponding),
            (State::ResolutionInterrupted, NotResponding),
            (State::Paused, NotResponding),
            (State::Shutdown, NotResponding),
            (State::UnknownState, NotResponding),
        ] {
            assert_eq!(Service::of(mine, State::Normal), service, "{mine:?}");
            assert_eq!(Service::of(mine, State::PartnerDown), NotResponding, "{mine:?}: the partner serves alone");
        }
    }
}
