//! Leases are armed anew under another configuration, in slices and in the order of their addresses: those of a kind
//! alike, as a rule, and each of the others by itself.

use std::{net::Ipv4Addr, sync::Arc};

use dhcp_ebpf::{abi::QUESTION_COUNT, wire::dhcp::MessageType};

use crate::{
    config::{Config, Param},
    failover,
    lease::{
        BindingState, Lease,
        time::{Now, WallTime},
    },
};

use super::{
    Server,
    alike::{self, Kind},
    find::{Choice, Hosts},
    grant::{self, Target, Terms},
    limits::{REARM_FULL_COUNT, REARM_SLICE_COUNT},
    port::{Arm, Effect},
    promise::{Answered, Armed},
    request::Request,
    shape::{Known, Shape},
    status::NotArmed,
};

/// What a lease is armed with that others of its kind have been answered for.
struct Alike {
    questions: [Option<Answered>; QUESTION_COUNT],
    /// Until when it may be promised.
    limit: WallTime,
    bucket: u8,
}

impl Server {
    /// Arms the next leases anew.
    pub(super) fn rearm_slice(&mut self, now: Now) {
        let config = Arc::clone(&self.config);
        let mut arms = Vec::with_capacity(REARM_SLICE_COUNT.min(self.reloading.rearming_count()));
        let mut options = Vec::new();
        let mut left = REARM_SLICE_COUNT;
        while left > 0 {
            let Some((address, armed)) = self.reloading.next() else { break };
            left = left.saturating_sub(1);
            match self.answers_alike(&config, address, &armed, &mut options, now) {
                Some(alike) => arms.push(self.rearm_alike(address, armed, alike, now)),
                None => {
                    self.reloading.full_count = 0;
                    if let Err(reason) = self.rearm(&config, address, &armed, now) {
                        self.not_armed.add(reason);
                    }
                    left = left.saturating_sub(self.reloading.full_count * REARM_FULL_COUNT);
                }
            }
        }
        if !arms.is_empty() {
            self.effects.push_back(Effect::Arm(arms));
        }
        if self.reloading.rearming_count() == 0 {
            self.reloading.alike.forget();
        }
    }

    /// The answers that a lease gets as others of its kind did; `None` = it has to be looked at in full, for any reason.
    /// Nothing is copied: a million leases are passed by here.
    fn answers_alike(
        &self,
        config: &Config,
        address: Ipv4Addr,
        was: &Armed,
        options: &mut Vec<u8>,
        now: Now,
    ) -> Option<Alike> {
        let lease = self.table.look(address)?;
        let hw = lease.hw()?;
        let is_running = lease.state() == BindingState::Active && lease.ends() > now.wall && lease.tstp() > now.wall;
        if !is_running || !lease.is_wound() || hw.mac() != Some(was.chaddr) || self.promises.is_armed(address) {
            return None;
        }
        let known = Known {
            address,
            hw: Some(hw),
            client_id: lease.client_id(),
            hostname: lease.hostname(),
            agent_options: lease.agent_options(),
        };
        let pool = config.pool_of(address)?;
        let limit = match self.peer_of_pool(Some(pool)) {
            None => lease.tstp(),
            Some(peer) => {
                let thin = lease.thin();
                if grant::partner_says_no(peer, &thin, now.wall).is_some() {
                    return None;
                }
                peer.horizon(&thin)
            }
        };
        if !config.is_stranger(&hw, known.client_id) || !lease.is_alone() {
            return None;
        }
        // What it is armed with waits for a record.
        if self.record_of(address) > self.gate.seqs().1 {
            return None;
        }
        let mut questions = [const { None }; QUESTION_COUNT];
        for ((question, shape), answered) in was.questions.iter().zip(&was.shapes).zip(&mut questions) {
            let (Some((digest, _)), Some(shape)) = (question, shape) else { continue };
            let kind = Kind::of(config, pool, shape, &known)?;
            let answer = self.reloading.alike.answer(&kind)?;
            // The lease may know something else of its client by now than when the question was asked.
            if self.digest_of(shape, &known, options) != Some(*digest) {
                return None;
            }
            *answered = Some((*digest, answer));
        }
        let bucket = failover::hash(known.client_id.unwrap_or(&was.chaddr));
        questions.iter().any(Option::is_some).then_some(Alike { questions, limit, bucket })
    }

    fn rearm_alike(&mut self, address: Ipv4Addr, mut armed: Armed, alike: Alike, now: Now) -> Arm {
        let arm = Arm {
            address,
            chaddr: armed.chaddr,
            peer: self.serving_index_of(address),
            bucket: alike.bucket,
            horizon: super::kernel::horizon_of(alike.limit, now),
            questions: alike.questions.clone(),
        };
        for (question, shape) in alike.questions.iter().zip(&mut armed.shapes) {
            if question.is_none() {
                *shape = None;
            }
        }
        armed.questions = alike.questions;
        self.promises.arm(address, armed);
        arm
    }

    /// Answers the questions of a lease anew that it was armed with.
    fn rearm(&mut self, config: &Config, address: Ipv4Addr, was: &Armed, now: Now) -> Result<(), NotArmed> {
        let Some(lease) = self.table.get(address) else { return Ok(()) };
        // Its timer may have rung while it was on its way back, and would not ring again.
        if lease.state == BindingState::Active && !self.promises.is_armed(address) {
            self.table.wind_again(address);
        }
        let is_running = lease.state == BindingState::Active && lease.ends > now.wall && lease.tstp > now.wall;
        let is_its = lease.hw.and_then(|hw| hw.mac()) == Some(was.chaddr);
        let Some(pool) = config.pool_of(address) else { return Ok(()) };
        if !is_running || !is_its || self.promises.is_armed(address) {
            return Ok(());
        }
        let is_alone = self.is_alone(config, &lease, now);
        let mut armed = Armed::new(was.chaddr);
        let mut why = NotArmed::Forgotten;
        for (place, (question, shape)) in was.questions.iter().zip(&was.shapes).enumerate() {
            let (Some((digest, _)), Some(shape)) = (question, shape) else { continue };
            let kind = if is_alone { Kind::of(config, pool, shape, &Known::of(&lease)) } else { None };
            match self.answer_anew(config, &lease, shape, kind, *digest, now) {
                Ok(answered) => {
                    if let (Some(to), Some(known)) = (armed.questions.get_mut(place), armed.shapes.get_mut(place)) {
                        (*to, *known) = (Some(answered), Some(Arc::clone(shape)));
                    }
                }
                Err(reason) => why = reason,
            }
        }
        if armed.questions.iter().all(Option::is_none) {
            return Err(why);
        }
        let seq = self.record_of(address);
        self.arm(&lease, armed, seq, now);
        Ok(())
    }

    /// Whether nobody else has a claim to this lease, and its client none to another one: a search for it comes to this
    /// lease, if its pool admits the client.
    fn is_alone(&self, config: &Config, lease: &Lease, now: Now) -> bool {
        let Some(hw) = &lease.hw else { return false };
        config.is_stranger(hw, lease.client_id.as_deref())
            && self
                .peer_of_pool(config.pool_of(lease.address))
                .is_none_or(|peer| grant::partner_says_no(peer, lease, now.wall).is_none())
            && self.table.look(lease.address).is_some_and(|resting| resting.is_alone())
    }

    fn answer_anew(
        &mut self,
        config: &Config,
        lease: &Lease,
        shape: &Arc<Shape>,
        kind: Option<Kind>,
        digest: u64,
        now: Now,
    ) -> Result<Answered, NotArmed> {
        // The lease may know something else of its client by now than when the question was asked.
        if self.digest_of(shape, &Known::of(lease), &mut Vec::new()) != Some(digest) {
            return Err(NotArmed::Forgotten);
        }
        if let Some(answer) = kind.and_then(|kind| self.reloading.alike.answer(&kind)) {
            return Ok((digest, answer));
        }
        self.reloading.full_count += 1;
        let message = shape.message(lease);
        let received = shape.received(lease, &message);
        let (interface, _) = self.interface(received.interface).ok_or(NotArmed::NoAnswer)?;
        let asked = self.read_for(config, received, &interface, lease, now)?;
        let (hosts, terms) = self.would_grant(config, &asked, lease, now).ok_or(NotArmed::NoAnswer)?;
        let target = Target::of_lease(config, lease, &hosts);
        let message_type = if shape.is_offer { MessageType::Offer } else { MessageType::Ack };
        let answered = self.answer_on(config, &asked, &target, lease, &terms, message_type, now)?;
        if answered.0 != digest {
            return Err(NotArmed::Forgotten);
        }
        if let Some(kind) = kind.filter(|_| alike::is_of_kind(&asked, lease, &hosts, &terms)) {
            self.reloading.alike.note(kind, shape, &answered.1);
        }
        Ok(answered)
    }

    /// On what terms the slow path would grant this lease to this request; `None` = it would not, or in doubt (I5).
    fn would_grant(&self, config: &Config, asked: &Request<'_>, lease: &Lease, now: Now) -> Option<(Hosts, Terms)> {
        let network = config.subnet_of(lease.address).map(|subnet| config.subnet(subnet).shared_network)?;
        let is_direct_renewal = asked.ciaddr().is_some() && asked.giaddr().is_none();
        // The slow path trusts a client's own address before the interface that it came in through.
        if asked.network != Some(network) && !(is_direct_renewal && asked.network.is_some()) {
            return None;
        }
        let search = self.search(config, now);
        let hosts = search.hosts(asked, Some(network));
        if hosts.fixed.is_some() {
            return None;
        }
        let found = search.find(asked, network, &hosts);
        if !matches!(&found.choice, Some(Choice::Dynamic(choice)) if choice.address == lease.address)
            || !found.releases.is_empty()
        {
            return None;
        }
        if let Some(peer) = search.peer_of(lease.address)
            && grant::partner_says_no(peer, lease, now.wall).is_some()
        {
            return None;
        }
        let target = Target::of_lease(config, lease, &hosts);
        let terms = self.terms(config, asked, &target, now).ok()?;
        let mut others = Vec::new();
        if terms.evaluation.flag_or_default(Param::OneLeasePerClient) {
            self.list_other_leases(asked, &target, &terms.evaluation, &mut others);
        }
        others.is_empty().then_some((hosts, terms))
    }
}
