//! The kernel's side of leases: which answers may be armed, which questions a client will ask, what a revocation
//! brings back, and what the kernel reports (design: question, answer, promise).
//!
//! ```text
//!   ACK --is_armable--> tstp in the record --Durable--> Arm(horizon, up to three questions with their answers)
//!   RELEASE, DECLINE, expiry, another identity: Revoke --> (grace period) --> Revoked: absorb, then act
//!   Renewed: starts, ends, cltt; a horizon that is near: record --Durable--> Extend
//! ```

use std::{net::Ipv4Addr, time::Duration};

use dhcp_ebpf::{
    abi::{Renewal, TAIL_LEN_MAX, Template},
    wire::{
        dhcp::{HTYPE_ETHERNET, MessageType},
        option::code,
    },
};

use crate::{
    config::{Config, Evaluation, Param},
    failover,
    lease::{
        BindingState, Lease, journal,
        time::{BootTime, Now, WallTime},
    },
};

use super::{
    Outcome, Server, churn,
    compose::{self, Composed, Kind},
    foresee::{Foreseen, strip, template_of},
    grant::{Target, Terms},
    peers,
    port::{Arm, Effect, JournalSeq, Token},
    promise::{Armed, Parked, Place},
    request::Request,
    serving_index,
    shape::Shape,
    status::{NotArmed, Reason},
    terms,
};

/// What the kernel's horizon stays behind the journaled one, in seconds: the wall clock is read in whole seconds,
/// and the kernel must not promise beyond what the record says.
const HORIZON_MARGIN: Duration = Duration::from_secs(1);

/// Room for the record of a lease: most are a little shorter.
const RECORD_LEN: usize = 352;

/// How long a partner may be told nothing of a renewal by the kernel, in seconds: dhcpd takes an "expired" back when it
/// comes within 65 seconds of the lease's end.
const PARTNER_STALE_SECS_MAX: u32 = 30;

impl Server {
    /// Whether the reply to this request may be repeated by the kernel.
    #[expect(clippy::too_many_arguments, reason = "everything that an answer may depend on")]
    pub(super) fn is_armable(
        &self,
        config: &Config,
        request: &Request<'_>,
        evaluation: &Evaluation,
        composed: &Composed,
        target: &Target<'_>,
        want: u32,
        now: Now,
    ) -> Result<(), NotArmed> {
        if request.hw.mac().is_none() || request.header.htype != HTYPE_ETHERNET || request.kind.is_none() {
            return Err(NotArmed::Hardware);
        }
        if compose::depends(request, evaluation).is_anything() {
            return Err(NotArmed::Depends);
        }
        if let Some(pool) = target.pool {
            let pools = config.pool(pool);
            let permit = config.permits(pool, &request.membership, target.is_known, false, now.wall.secs());
            if permit.until.is_some() || pools.valid_from.is_some() || pools.valid_until.is_some() {
                return Err(NotArmed::Depends);
            }
        }
        // The lease time would move with the pool's fill.
        if churn::moves_with_fill(evaluation, &request.hw) {
            return Err(NotArmed::Depends);
        }
        if evaluation.secs(Param::AdaptiveLeaseTimeThreshold).is_some_and(|threshold| threshold > 0) {
            return Err(NotArmed::Depends);
        }
        if request.options.has_overload() || composed.tail.uses_overload() {
            return Err(NotArmed::Overload);
        }
        if composed.tail.bytes().len() > TAIL_LEN_MAX {
            return Err(NotArmed::LongAnswer);
        }
        if evaluation.flag_or_default(Param::AlwaysBroadcast)
            || composed.server != composed.source
            || !self.ports.are_usual()
        {
            return Err(NotArmed::Destination);
        }
        if want == terms::INFINITE || want == 0 {
            return Err(NotArmed::NoPromise);
        }
        Ok(())
    }

    /// Hands a lease that was just granted to the kernel, as soon as its record is durable.
    #[expect(clippy::too_many_arguments, reason = "a reply and the record it rests on")]
    pub(super) fn arm_granted(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        target: &Target<'_>,
        terms: &Terms,
        lease: &Lease,
        composed: &Composed,
        seq: JournalSeq,
        now: Now,
    ) {
        self.note_asked(request, lease.address);
        if let Err(reason) = self.try_arm(config, request, target, terms, lease, composed, seq, true, now) {
            self.not_armed.add(reason);
        }
    }

    /// Teaches the kernel a question that it did not know, after an ACK that altered nothing.
    #[expect(clippy::too_many_arguments, reason = "a reply and the record it rests on")]
    pub(super) fn teach_kernel(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        target: &Target<'_>,
        terms: &Terms,
        lease: &Lease,
        seq: JournalSeq,
        now: Now,
    ) {
        if !self.promises.is_armed(lease.address) {
            return;
        }
        let variables = terms.variables.clone();
        let subject = target.subject(&variables, now.wall);
        let kind = Kind::Lease(MessageType::Ack, terms.want);
        if let Ok(composed) = compose::compose(config, request, &terms.evaluation, &subject, kind) {
            // Why it cannot be armed was counted when the lease was granted.
            let _ = self.try_arm(config, request, target, terms, lease, &composed, seq, false, now);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a reply and the record it rests on")]
    fn try_arm(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        target: &Target<'_>,
        terms: &Terms,
        lease: &Lease,
        composed: &Composed,
        seq: JournalSeq,
        is_granted: bool,
        now: Now,
    ) -> Result<(), NotArmed> {
        if !self.options.fast_path || self.is_stopping {
            return Err(NotArmed::Off);
        }
        // What is armed now would be disarmed in a moment, and the answer may be another one then.
        if self.reloading.is_disarming() {
            return Err(NotArmed::Reloading);
        }
        self.is_armable(config, request, &terms.evaluation, composed, target, terms.want, now)?;
        let chaddr = request.hw.mac().ok_or(NotArmed::Hardware)?;
        let mut armed = match self.promises.armed(lease.address) {
            Some(armed) if armed.chaddr == chaddr => armed.clone(),
            Some(_) | None => Armed::new(chaddr),
        };
        if request.ciaddr().is_some() {
            // What really came: the answer is the one that was just made. With option 54 its way back would be another.
            if request.server_id().is_some() {
                return Err(NotArmed::Destination);
            }
            let digest = self.digest(request, lease.address, request.option_bytes()).ok_or(NotArmed::LongQuestion)?;
            let template = template_of(composed, terms.want, self.reach_of(config, request, lease));
            let template = self.promises.intern(template).ok_or(NotArmed::TemplatesFull)?;
            let place = if request.giaddr().is_some() { Place::Learned } else { armed.place_of_renewal(digest) };
            let shape = self.promises.shapes.intern(Shape::of(request, lease, false));
            armed.put(place, (digest, template), shape);
        }
        if request.ciaddr().is_none() || request.giaddr().is_some() {
            let bytes = request.option_bytes();
            let renewal = strip(bytes, &[code::REQUESTED_ADDRESS, code::SERVER_IDENTIFIER, code::RELAY_AGENT]);
            let (renewal, shape) = self.predict(config, request, lease, &renewal, Foreseen::Renewal, now)?;
            armed.put(Place::Renewal, renewal, shape);
            if request.ciaddr().is_none() {
                let reboot = strip(bytes, &[code::SERVER_IDENTIFIER]);
                let (reboot, shape) = self.predict(config, request, lease, &reboot, Foreseen::Reboot, now)?;
                armed.put(Place::Reboot, reboot, shape);
            }
        }
        // After an ACK that altered nothing the horizon is the old one: only new questions are worth telling.
        let is_known = self.promises.armed(lease.address).is_some_and(|present| present.is_same(&armed));
        if is_granted || !is_known {
            self.arm(lease, armed, seq, now);
        }
        Ok(())
    }

    pub(super) fn arm(&mut self, lease: &Lease, armed: Armed, seq: JournalSeq, now: Now) {
        let arm = Arm {
            address: lease.address,
            chaddr: armed.chaddr,
            peer: self.serving_index_of(lease.address),
            bucket: failover::hash(lease.client_id.as_deref().unwrap_or(&armed.chaddr)),
            horizon: self.horizon(lease, now),
            questions: armed.questions.clone(),
        };
        self.promises.arm(lease.address, armed);
        self.gate.hold(seq, Effect::Arm(vec![arm]), &mut self.effects);
    }

    /// Teaches the kernel to offer a running lease to its client again (DISCOVER of a client that forgot it). An offer
    /// promises nothing, and takes the third place only as long as no renewal needs it.
    pub(super) fn teach_offer(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        target: &Target<'_>,
        terms: &Terms,
        now: Now,
    ) {
        let Some(lease) = target.lease else { return };
        let Some(armed) = self.promises.armed(lease.address) else { return };
        // `secs` is no part of the question, and with a partner the balance may turn.
        if !self.options.fast_path
            || self.is_stopping
            || self.reloading.is_disarming()
            || self.promises.revocation_of(lease.address).is_some()
            || Some(armed.chaddr) != request.hw.mac()
            || !armed.takes_offers()
            || self.peer_of_pool(target.pool).is_some()
            || terms.evaluation.secs_or_default(Param::MinSecs) > 0
            // Another address asked for may be free one day.
            || request.requested().is_some_and(|requested| requested != lease.address)
        {
            return;
        }
        let mut armed = armed.clone();
        let subject = target.subject(&terms.variables, now.wall);
        let kind = Kind::Lease(MessageType::Offer, terms.want);
        let Ok(composed) = compose::compose(config, request, &terms.evaluation, &subject, kind) else { return };
        if self.is_armable(config, request, &terms.evaluation, &composed, target, terms.want, now).is_err() {
            return;
        }
        let Some(digest) = self.digest(request, lease.address, request.option_bytes()) else { return };
        let template =
            Template { is_offer: 1, ..template_of(&composed, terms.want, self.reach_of(config, request, lease)) };
        let Some(template) = self.promises.intern(template) else { return };
        let shape = self.promises.shapes.intern(Shape::of(request, lease, true));
        armed.put(Place::Learned, (digest, template), shape);
        if self.promises.armed(lease.address).is_none_or(|present| !present.is_same(&armed)) {
            let seq = self.record_of(lease.address);
            self.arm(lease, armed, seq, now);
        }
    }

    /// The latest instant that the kernel may promise for a lease.
    pub(super) fn horizon(&self, lease: &Lease, now: Now) -> BootTime {
        let limit = match self.peer_of_pool(self.config.pool_of(lease.address)) {
            Some(peer) => peer.horizon(lease),
            None => lease.tstp,
        };
        horizon_of(limit, now)
    }

    pub(super) fn serving_index_of(&self, address: Ipv4Addr) -> u8 {
        let peer = self.config.pool_of(address).and_then(|pool| self.config.pool(pool).failover);
        peer.map_or(0, |peer| serving_index(peer.0))
    }

    /// Asks for these addresses back, if any of them is in the kernel's hands or on its way out of them; the input has
    /// to wait then.
    pub(super) fn revoke_first(&mut self, addresses: &[Ipv4Addr]) -> Option<Outcome> {
        if let Some(token) = addresses.iter().find_map(|address| self.promises.revocation_of(*address)) {
            return Some(Outcome::Await(token));
        }
        let armed: Vec<_> = addresses.iter().copied().filter(|address| self.promises.is_armed(*address)).collect();
        if armed.is_empty() { None } else { Some(self.revoke_and_wait(armed)) }
    }

    /// Begins a revocation, for which the input has to wait.
    pub(super) fn revoke_and_wait(&mut self, addresses: Vec<Ipv4Addr>) -> Outcome {
        let token = self.draw_token();
        match self.promises.begin(token, addresses.clone()) {
            Ok(()) => {
                self.effects.push_back(Effect::Revoke(token, addresses));
                Outcome::Await(token)
            }
            Err(_) => Outcome::Ignored(Reason::ParkingFull),
        }
    }

    /// A revocation is complete: what the kernel promised is known now, and what waited goes on.
    pub(super) fn handle_revoked(&mut self, token: Token, words: &[(Ipv4Addr, Renewal)], now: Now) {
        self.take_words(words, now);
        if let Some((armed, parked)) = self.promises.end_all(token) {
            return self.disarmed(token, armed, &parked, now);
        }
        let Some(revocation) = self.promises.end(token) else { return };
        self.tell_changes(now);
        self.end_revocation_for_peers(token, now);
        for address in &revocation.addresses {
            // The timer has rung and would not ring again for a lease that runs on.
            if let Some(lease) = self.table.get(*address) {
                self.table.put(lease);
            }
        }
        let parked: Vec<Parked> = revocation.parked;
        for message in &parked {
            self.handle_parked(message, now);
        }
        if self.is_stopping {
            self.write_final(&revocation.addresses);
        } else {
            self.expire(now);
        }
    }

    /// What the kernel promised, of leases that are not armed any more.
    pub(super) fn take_words(&mut self, words: &[(Ipv4Addr, Renewal)], now: Now) {
        for (address, renewal) in words {
            let before = self.table.get(*address).map(|lease| lease.ends);
            let after = self.absorb(*address, *renewal, now);
            // A partner hears what the kernel promised before anything is decided about the address.
            if let Some(lease) = after
                && before.is_some_and(|before| before < lease.ends)
                && self.peer_number(self.config.pool_of(*address)).is_some()
            {
                self.commit(Lease { tstp: lease.tstp.max(lease.ends), ..lease });
            }
        }
    }

    /// The kernel answered renewals: leases move, and horizons that are near move ahead of them.
    pub(super) fn handle_renewed(&mut self, words: &[(Ipv4Addr, Renewal)], now: Now) {
        let mut record = Vec::with_capacity(words.len() * RECORD_LEN);
        let mut moved = Vec::with_capacity(words.len());
        let mut partners = Vec::new();
        for (address, renewal) in words {
            self.promises.renewals = self.promises.renewals.wrapping_add(1);
            // What is not armed has been revoked, and the revocation brought its last word.
            let Some(longest) = self.promises.armed(*address).map(Armed::longest) else { continue };
            let Some((mut lease, has_moved)) = self.heard(*address, *renewal, now) else { continue };
            let Some(horizon) = longest.and_then(|time| self.further(&lease, time, now)) else {
                if has_moved {
                    self.table.put_times(&lease);
                }
                continue;
            };
            lease.tstp = horizon;
            let partner = self.stamp(&mut lease);
            journal::write_lease(&lease, self.options.format, &mut record);
            moved.push((lease.address, self.horizon(&lease, now)));
            match partner {
                Some(number) => {
                    partners.push((number, lease.address));
                    self.keep(lease);
                }
                None => self.table.put_times(&lease),
            }
        }
        if moved.is_empty() {
            return;
        }
        self.promises.extensions = self.promises.extensions.wrapping_add(moved.len() as u64);
        let seq = self.gate.append(record, &mut self.effects);
        for (address, _) in &moved {
            self.records.insert(*address, (seq, None));
        }
        self.gate.hold(seq, Effect::Extend(moved), &mut self.effects);
        self.changed.extend(partners.into_iter().map(|(number, address)| (number, address, seq)));
    }

    /// A horizon further away for a lease of so many seconds, if it has to move and may.
    fn further(&self, lease: &Lease, time: u32, now: Now) -> Option<WallTime> {
        if self.is_stopping || self.gate.failure().is_some() || self.promises.revocation_of(lease.address).is_some() {
            return None;
        }
        let peer = self.peer_of_pool(self.config.pool_of(lease.address));
        let slack = match peer {
            None => time / 4,
            // A partner believes what it was told last: it may not take a lease for over that was renewed here.
            Some(_) => (time / 2).saturating_sub((time / 16).min(PARTNER_STALE_SECS_MAX)),
        };
        if lease.tstp >= now.wall.after(time).after(slack) {
            return None;
        }
        let horizon = match peer {
            None => peers::lease_and_a_half(time, time, now.wall),
            Some(peer) => peer.potential_expiry(time, lease.tsfp, now.wall),
        };
        (horizon > lease.tstp).then_some(horizon)
    }

    /// Brings the kernel's word into the table: what the client was told last. The lease, if it runs.
    pub(super) fn absorb(&mut self, address: Ipv4Addr, renewal: Renewal, now: Now) -> Option<Lease> {
        let (lease, has_moved) = self.heard(address, renewal, now)?;
        if has_moved {
            self.table.put_times(&lease);
        }
        Some(lease)
    }

    /// A running lease with what the kernel told its client, and whether that is news.
    fn heard(&self, address: Ipv4Addr, renewal: Renewal, now: Now) -> Option<(Lease, bool)> {
        if renewal.at.secs() == 0 {
            return None;
        }
        let mut lease = self.table.get(address)?;
        if lease.state != BindingState::Active {
            return None;
        }
        let until = now.wall_of(renewal.until);
        let at = now.wall_of(renewal.at);
        // Never beyond the promise, whatever the roundings of two clocks come to. With a partner that is what was on disk when
        // the kernel was armed: what may be promised now can be less, since the partner listens again.
        let limit = match self.peer_of_pool(self.config.pool_of(address)) {
            Some(_) => lease.tstp.max(lease.tsfp),
            None => lease.tstp.max(lease.ends),
        };
        let until = if lease.tstp.is_some() || limit > lease.ends { until.min(limit) } else { until };
        let has_moved = until > lease.ends || at > lease.cltt;
        if has_moved {
            lease.starts = lease.starts.max(at);
            lease.ends = lease.ends.max(until);
            lease.cltt = lease.cltt.max(at);
        }
        Some((lease, has_moved))
    }

    /// Takes everything from the kernel: what it would answer is not what the agent would say now. Each client's next
    /// message arms it again.
    pub(super) fn disarm_all(&mut self) {
        let armed = self.promises.armed_addresses();
        if !armed.is_empty() {
            // With too many revocations under way the clients are armed anew one by one, by what they ask next.
            let _ = self.revoke_and_wait(armed);
        }
    }

    /// The agent stops: nothing is armed any more; what is armed is taken back, unless the kernel goes on alone.
    pub(super) fn stop(&mut self, leaves_kernel: bool, now: Now) {
        self.is_stopping = true;
        self.reloading.stop();
        if leaves_kernel {
            return;
        }
        self.write_inherited(now);
        let armed = self.promises.armed_addresses();
        if armed.is_empty() {
            return;
        }
        let token = self.draw_token();
        if self.promises.begin(token, armed.clone()).is_ok() {
            self.effects.push_back(Effect::Revoke(token, armed));
        }
    }

    /// What an earlier agent may have promised stands in no record: the next one would not know of it.
    fn write_inherited(&mut self, now: Now) {
        let mut record = Vec::new();
        for (address, until) in self.table.limits() {
            self.table.set_limit(address, WallTime::NONE);
            let Some(lease) = self.table.get(address) else { continue };
            if lease.state == BindingState::Active && until > lease.ends.max(now.wall) {
                let lease = Lease { ends: until, ..lease };
                journal::write_lease(&lease, self.options.format, &mut record);
                self.keep(lease);
            }
        }
        if !record.is_empty() {
            self.gate.append(record, &mut self.effects);
        }
    }

    /// Writes what clients were really told: with nothing armed, the promise ends where the lease does.
    pub(super) fn write_final(&mut self, addresses: &[Ipv4Addr]) {
        let mut record = Vec::new();
        for address in addresses {
            let Some(mut lease) = self.table.get(*address) else { continue };
            if lease.state != BindingState::Active {
                continue;
            }
            if self.peer_number(self.config.pool_of(*address)).is_none() {
                lease.tstp = WallTime::NONE;
            }
            journal::write_lease(&lease, self.options.format, &mut record);
            self.keep(lease);
        }
        if !record.is_empty() {
            self.gate.append(record, &mut self.effects);
        }
    }
}

/// The latest instant that the kernel may promise, where the records allow this.
pub(super) fn horizon_of(limit: WallTime, now: Now) -> BootTime {
    BootTime::from_nanos(now.boot_of(limit).nanos().saturating_sub(HORIZON_MARGIN.as_nanos() as u64))
}
