//! States and transitions (failover.md 3).

use super::table::{Step, step};
use super::{Command, Effect, Endpoint, Level, Made, StatusTransition};
use crate::failover::binding::{BindingState, Leases};
use crate::failover::codec::{Body, StateMessage};
use crate::failover::limits::TIMELINE_LEN;
use crate::failover::rules;
use crate::failover::state::{Role, Service, State};
use crate::lease::time::Now;

impl Endpoint {
    /// A STATE of the partner.
    pub(super) fn handle_state(&mut self, message: &StateMessage, leases: &mut dyn Leases, now: Now) {
        let said = message.known_state().filter(|state| *state != State::Startup);
        let Some(said) = said else {
            // dhcpd stops itself here; a partner that talks nonsense is rather not listened to.
            self.log(Level::Warn, format!("failover peer {}: impossible state {}", self.settings.name, message.state));
            if let Some(link) = self.session.as_ref().map(|session| session.link) {
                self.drop_link(link, "impossible state", leases, now);
            }
            return;
        };
        self.compare_facts(message.extra.as_deref());
        let is_first = self.session.as_ref().is_some_and(|session| !session.has_announced);
        if is_first && !(self.settings.role == Role::Secondary && said == State::ConflictDone) {
            self.announce(now);
        }
        self.take_state(said, message.startup, leases, now);
        // In conflict-done the primary takes few states; ours was chosen by the table first.
        self.announce(now);
    }

    fn take_state(&mut self, said: State, startup: bool, leases: &mut dyn Leases, now: Now) {
        let is_starting = self.startup_until.is_some();
        let before = self.partner;
        if said == before {
            if is_starting {
                let to = match self.state {
                    State::ResolutionInterrupted => State::PotentialConflict,
                    other => other,
                };
                self.set_state(to, leases, now);
                return;
            }
            // A primary that is in conflict-done again after a break wants to be answered.
            let is_settled = matches!(
                self.state,
                State::Normal | State::PotentialConflict | State::Shutdown | State::Paused | State::RecoverWait
            ) || (self.state == State::RecoverDone
                && !matches!(said, State::Normal | State::RecoverDone));
            if is_settled {
                return;
            }
        }
        self.partner = said;
        self.partner_since = now.wall;
        let seq = leases.store_state(&self.record());
        self.outbox.note(seq);
        if said != before {
            let (name, from, to) = (&self.settings.name, before.name(), said.name());
            self.log(Level::Info, format!("failover peer {name}: peer moves from {from} to {to}"));
            self.remember(false, before, said, now);
        }
        self.update_service();
        match step(self.settings.role, self.state, is_starting, before, said, startup) {
            Step::Stay => {}
            Step::Go(to) => self.set_state(to, leases, now),
            Step::FlushThenNormal => {
                self.send_updates(leases, now);
                self.set_state(State::Normal, leases, now);
            }
            Step::AskForAll => self.ask(true, now),
            Step::Ask => self.ask(false, now),
            Step::RecheckPools => {
                if !is_starting {
                    self.schedule_balance(leases, now);
                }
            }
        }
        if self.startup_until.is_some() {
            self.set_state(self.state, leases, now);
        }
        self.update_service();
    }

    /// The partner is gone (or never came).
    pub(super) fn handle_disconnect(&mut self, leases: &mut dyn Leases, now: Now) {
        if self.startup_until.is_some() {
            return;
        }
        self.go_on_alone(leases, now);
    }

    fn go_on_alone(&mut self, leases: &mut dyn Leases, now: Now) {
        let to = match self.state {
            State::Normal => State::CommunicationsInterrupted,
            State::PotentialConflict | State::UnknownState => State::ResolutionInterrupted,
            State::Startup
            | State::CommunicationsInterrupted
            | State::PartnerDown
            | State::Recover
            | State::Paused
            | State::Shutdown
            | State::RecoverDone
            | State::ResolutionInterrupted
            | State::ConflictDone
            | State::RecoverWait => self.state,
        };
        if to != self.state || self.startup_until.is_some() {
            self.set_state(to, leases, now);
        }
    }

    /// UPDDONE: everything we asked for has come.
    pub(super) fn handle_update_done(&mut self, leases: &mut dyn Leases, now: Now) {
        self.is_asking_for_all = false;
        let has_conflict_done = self.partner == State::ConflictDone;
        match (self.state, self.settings.role) {
            (State::Recover, _) => {
                let is_over = self.since.after(self.mclt_secs) <= now.wall;
                let is_fresh = matches!(self.partner, State::Recover | State::RecoverDone);
                let to = if is_over || is_fresh { State::RecoverDone } else { State::RecoverWait };
                self.set_state(to, leases, now);
            }
            (State::PotentialConflict, Role::Primary) if !has_conflict_done => {
                self.set_state(State::ConflictDone, leases, now);
            }
            (State::PotentialConflict, Role::Secondary) if has_conflict_done => {
                self.set_state(State::Normal, leases, now);
            }
            _ => self.log(Level::Info, format!("failover peer {}: spurious UPDDONE", self.settings.name)),
        }
    }

    /// Sends UPDREQ or UPDREQALL.
    pub(super) fn ask(&mut self, for_all: bool, now: Now) {
        if self.session.as_ref().is_none_or(|session| !session.has_announced) {
            return;
        }
        let for_all = for_all || self.is_asking_for_all;
        self.is_asking_for_all = for_all;
        self.originate(if for_all { Body::UpdReqAll } else { Body::UpdReq }, now);
    }

    /// Makes a transition, in the order of failover.md 3.5. Also made when the state stays the same.
    pub(super) fn set_state(&mut self, to: State, leases: &mut dyn Leases, now: Now) {
        let from = self.state;
        let was_starting = self.startup_until.take().is_some();
        if matches!(from, State::Normal | State::PotentialConflict | State::PartnerDown) && !was_starting {
            self.updates.requeue_all();
        }
        // dhcpd keeps the old instant on every way out of startup. Whoever begins to serve alone counts from now: until
        // its crash, the partner may have promised what it could not tell us (I1).
        let begins_alone = to == State::PartnerDown && from != State::PartnerDown;
        if begins_alone || !was_starting && to != State::RecoverWait {
            let is_clean_stop = from == State::Shutdown
                && to == State::Recover
                && self.partner == State::PartnerDown
                && self.updates.queued_len() == 0
                && self.updates.in_flight_len() == 0;
            self.since = now.wall;
            if is_clean_stop {
                let secs = u64::from(now.wall.secs()).saturating_sub(u64::from(self.mclt_secs));
                self.since = crate::lease::time::WallTime::from_secs(secs);
            }
        }
        self.state = to;
        let seq = leases.store_state(&self.record());
        self.outbox.note(seq);
        self.auto_partner_down_at = None;
        self.recover_wait_at = None;
        self.reuse.clear();
        self.update_service();
        self.restart_survey(true, now);
        if from != to || was_starting {
            let name = &self.settings.name;
            let left = if was_starting { State::Startup } else { from };
            let text = format!("failover peer {name}: I move from {} to {}", left.name(), to.name());
            self.log(Level::Info, text);
            self.remember(true, left, to, now);
        }
        if self.session.is_some() {
            match self.session.as_ref().is_some_and(|session| session.has_announced) {
                true => self.send_state(now),
                false => self.announce(now),
            }
        }
        self.enter(to, was_starting, from, leases, now);
    }

    /// What a state begins with.
    fn enter(&mut self, to: State, was_starting: bool, from: State, leases: &mut dyn Leases, now: Now) {
        let may_have_slept = was_starting || from == State::Normal;
        match to {
            State::Normal => {
                if self.settings.role == Role::Primary {
                    self.end_overdue(leases, now);
                }
                self.balance(false, leases, now);
                self.queue_needed(leases);
                self.send_updates(leases, now);
                self.begin_survey(Some("if the partner dies now"), leases, now);
            }
            State::PotentialConflict => {
                // A database that may be incomplete needs everything, not only what has not been acknowledged.
                self.is_asking_for_all |= from == State::Recover;
                if self.settings.role == Role::Primary || self.partner == State::ConflictDone {
                    self.ask(false, now);
                }
            }
            State::Recover => self.ask(true, now),
            State::RecoverWait => {
                let until = self.since.after(self.mclt_secs);
                if until <= now.wall {
                    self.set_state(State::RecoverDone, leases, now);
                } else {
                    self.recover_wait_at = Some(now.boot_of(until));
                }
            }
            State::RecoverDone => {
                // The partner may have gone to normal while we waited, and will not say so again.
                if self.session.is_some() && matches!(self.partner, State::Normal | State::RecoverDone) {
                    self.set_state(State::Normal, leases, now);
                }
            }
            State::PartnerDown => {
                if may_have_slept {
                    self.end_overdue(leases, now);
                }
                self.plan_reuse(leases, now);
            }
            State::CommunicationsInterrupted => {
                if may_have_slept {
                    self.end_overdue(leases, now);
                }
                let secs = u64::from(self.settings.auto_partner_down_secs);
                if secs != 0 {
                    self.auto_partner_down_at = Some(now.boot.after(std::time::Duration::from_secs(secs)));
                }
                self.begin_survey(Some("if the partner is dead"), leases, now);
            }
            State::UnknownState
            | State::Startup
            | State::Paused
            | State::Shutdown
            | State::ResolutionInterrupted
            | State::ConflictDone => {}
        }
    }

    /// Timers of states.
    pub(super) fn poll_states(&mut self, leases: &mut dyn Leases, now: Now) {
        if self.startup_until.is_some_and(|at| at <= now.boot) && self.session.is_none() {
            self.go_on_alone(leases, now);
        } else if self.startup_until.is_some_and(|at| at <= now.boot) {
            // Connected, and its STATE is on the way: the receive timer decides.
            self.startup_until = Some(now.boot.after(crate::failover::limits::STARTUP_TIMEOUT));
        }
        if self.auto_partner_down_at.is_some_and(|at| at <= now.boot) {
            self.auto_partner_down_at = None;
            if self.state == State::CommunicationsInterrupted {
                self.set_state(State::PartnerDown, leases, now);
            }
        }
        if self.state == State::RecoverWait && self.recover_wait_at.is_some_and(|at| at <= now.boot) {
            // Reads the wall clock again: it may have been stepped since the timer was set.
            self.enter(State::RecoverWait, false, State::RecoverWait, leases, now);
        }
    }

    pub(super) fn handle_command(&mut self, command: Command, leases: &mut dyn Leases, now: Now) {
        if let Err(why) = self.may(command) {
            self.log(Level::Warn, format!("failover peer {}: {why}", self.settings.name));
            return;
        }
        match command {
            Command::PartnerDown => self.set_state(State::PartnerDown, leases, now),
            Command::Shutdown => self.set_state(State::Shutdown, leases, now),
            Command::Pause => self.set_state(State::Paused, leases, now),
            Command::Resume if self.state == State::Paused => {
                self.set_state(State::CommunicationsInterrupted, leases, now);
                if self.session.is_some() {
                    let step = step(self.settings.role, self.state, false, self.partner, self.partner, false);
                    if step == Step::FlushThenNormal {
                        self.set_state(State::Normal, leases, now);
                    }
                }
            }
            Command::Resume => self.set_state(State::Recover, leases, now),
        }
    }

    /// Whether a command can be followed now.
    ///
    /// # Errors
    ///
    /// Why not, for the operator.
    pub fn may(&self, command: Command) -> Result<(), &'static str> {
        let is_heard = self.session.is_some();
        match command {
            Command::PartnerDown if is_heard && self.partner != State::Recover => {
                Err("the partner is connected: it is not down")
            }
            Command::PartnerDown | Command::Shutdown | Command::Pause => Ok(()),
            Command::Resume if matches!(self.state, State::Paused | State::Shutdown) => Ok(()),
            Command::Resume => Err("neither paused nor shut down: the states resume by themselves"),
        }
    }

    /// Recomputes what may be done with clients, and says so when it changed.
    pub(super) fn update_service(&mut self) {
        let mine = if self.startup_until.is_some() { State::Startup } else { self.state };
        let service = Service::of(mine, self.partner);
        if service != self.service {
            self.service = service;
            self.effects.push_back(Effect::Service(service));
        }
    }

    fn remember(&mut self, is_mine: bool, from: State, to: State, now: Now) {
        if self.timeline.len() >= TIMELINE_LEN {
            self.timeline.pop_front();
        }
        self.timeline.push_back(StatusTransition { at: now.wall, is_mine, from, to });
        let made = self.transitions.entry((is_mine, from, to)).or_default();
        *made = Made { count: made.count.saturating_add(1), last: now.wall };
    }

    /// Queues every lease that the partner has to hear of.
    pub(super) fn queue_needed(&mut self, leases: &mut dyn Leases) {
        let seq = self.outbox.newest();
        for pool in 0..leases.pool_count() {
            leases.visit_all(pool, &mut |binding| {
                if rules::needs_update(binding) {
                    self.updates.enqueue_if_absent(binding.address, seq);
                }
            });
        }
    }

    pub(super) const fn is_normal(&self) -> bool {
        matches!(self.state, State::Normal) && self.startup_until.is_none()
    }

    pub(super) const fn gives_free(&self) -> BindingState {
        self.settings.role.partner_state()
    }
}
