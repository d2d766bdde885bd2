//! Offers: DISCOVER, and BOOTP which skips the offer (dhcpd: 11.2 and 11.7 of the reference).

use std::{fmt, net::Ipv4Addr, time::Duration};

use dhcp_ebpf::wire::dhcp::MessageType;

use crate::{
    config::{Config, Evaluation, Param, Variables},
    lease::{
        BindingState, Lease,
        time::{BootTime, Now, WallTime},
    },
};

use super::{
    Outcome, Server, churn,
    compose::{self, Kind},
    find::{Choice, is_held_by},
    grant::{Target, recorded_client_id, spread, spread_times},
    limits::{DISCOVER_SHED_COUNT, OFFER_HOLD_SECS},
    port::{JournalSeq, Level},
    request::Request,
    status::{Reason, Sent},
};

impl Server {
    /// DISCOVER (dhcpd: 11.2).
    pub(super) fn handle_discover(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        probed: Option<Ipv4Addr>,
        now: Now,
    ) -> Outcome {
        let Some(network) = request.network else { return Outcome::Ignored(Reason::UnknownNetwork) };
        if self.gate.waiting_count() >= DISCOVER_SHED_COUNT {
            return Outcome::Ignored(Reason::Shed);
        }
        if self.elsewhere.knows(request.header.xid, request.hw, now.boot) {
            return Outcome::Ignored(Reason::OtherServer);
        }
        let line = fmt::from_fn(|f| write!(f, "DHCPDISCOVER from {} via {}", request.who(), request.via()));
        let search = self.search(config, now);
        let hosts = search.hosts(request, Some(network));
        let mut found = search.find(request, network, &hosts);
        if let Some(Choice::Dynamic(lease)) = &found.choice
            && let Some(peer) = search.peer_of(lease.address)
            && lease.state != BindingState::Active
            && lease.rewind_state != BindingState::Active
            && !peer.is_mine_to_allocate(lease, now.wall)
        {
            found.choice = None;
        }
        if found.choice.is_none() {
            match search.allocate(request, network, hosts.is_known) {
                Ok(lease) => found.choice = Some(Choice::Dynamic(Box::new(lease))),
                Err(true) => {
                    self.log(Level::Error, format!("{line}: peer holds all free leases"));
                    return Outcome::Ignored(Reason::PeerHoldsFreeLeases);
                }
                Err(false) => {
                    if let Some(lease) = self.reclaim_offer(config, request, network, hosts.is_known, now) {
                        found.choice = Some(Choice::Dynamic(Box::new(lease)));
                    }
                }
            }
        }
        if found.choice.is_none() {
            if let Some(outcome) = self.offer_nothing(config, request, network, &line, now) {
                return outcome;
            }
            let name = &config.shared_network(network).name;
            self.log(Level::Error, format!("{line}: network {name}: no free leases"));
            return Outcome::Ignored(Reason::NoFreeLeases);
        }
        if let Err(outcome) = self.give_up(request, &found, now) {
            return outcome;
        }
        let Some(choice) = found.choice else { return Outcome::Ignored(Reason::NoFreeLeases) };
        let target = Target::new(config, &choice, &hosts);
        if let Some(peer) = self.peer_of_pool(target.pool)
            && !peer.service().is_responding()
        {
            self.log(Level::Info, format!("{line}: not responding"));
            return Outcome::Ignored(Reason::NotResponding);
        }
        // A partner without addresses cannot take its half of the clients (dhcpd: failover.md 6, rule 3).
        if let Some(peer) = self.peer_of_pool(target.pool)
            && !self.is_balanced_to_us(config, request, &target, now)
            && self.search(config, now).has_partner_some(peer, network)
        {
            self.log(Level::Debug, format!("{line}: load balance to peer {}", peer.name));
            return Outcome::Ignored(Reason::LoadBalanced);
        }
        self.offer(config, request, &target, !found.is_familiar, &line, probed, now)
    }

    /// Whether a new client is in this server's half (RFC 3074; failover.md 6, rules 1 and 2); always without a partner.
    fn is_balanced_to_us(&self, config: &Config, request: &Request<'_>, target: &Target<'_>, now: Now) -> bool {
        let Some(peer) = self.peer_of_pool(target.pool) else { return true };
        let key = request.client_id().unwrap_or(request.hw.bytes());
        let secs = request.secs();
        // Only a value with an empty low byte can be one that was written the wrong way round.
        let may_be_swapped = secs & 0xff == 0 && secs != 0;
        let checks_byte_order = may_be_swapped && {
            let variables = Variables::new();
            let evaluation = compose::evaluate(config, request, &target.subject(&variables, now.wall), now.wall);
            evaluation.flag_or_default(Param::CheckSecsByteOrder)
        };
        peer.endpoint.is_my_client(key, secs, checks_byte_order)
    }

    /// Offers an address, if need be after a conflict probe.
    #[expect(clippy::too_many_arguments, reason = "the last part of handling a DISCOVER, called once")]
    fn offer(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        target: &Target<'_>,
        is_stranger: bool,
        line: &dyn fmt::Display,
        probed: Option<Ipv4Addr>,
        now: Now,
    ) -> Outcome {
        if probed != Some(target.address) && self.probes.is_probing(target.address) {
            return Outcome::Ignored(Reason::ProbeUnderWay);
        }
        let terms = match self.terms(config, request, target, now) {
            Ok(terms) => terms,
            Err(refusal) => return self.refuse(refusal, line),
        };
        // What comes back from its probe has been counted.
        if probed != Some(target.address)
            && let Some(reason) = self.meter_grant(config, request, target, &terms.evaluation, is_stranger, now)
        {
            return Outcome::Ignored(reason);
        }
        self.run_side_effects(&terms.evaluation, JournalSeq(0));
        let granted = self.limited(target, terms.want, now);
        let (time, jitter) = match self.unaltered(request, target, &terms, now) {
            Some(left) => (left, None),
            None => {
                let jitter = self.jitter_of(target, &terms.evaluation, granted, now);
                (spread(jitter, &terms.evaluation, granted), jitter)
            }
        };
        // Nobody expects such a client to take the offer: the address is neither kept for it nor asked about first.
        let keeps_lease = target.lease.is_some_and(|lease| lease.state == BindingState::Active);
        let is_spared = !keeps_lease && target.lease.is_some() && churn::can_do_without(&terms.evaluation, request);
        if let Some(lease) = target.lease
            && !is_spared
            && probed != Some(target.address)
            && wants_probe(&terms.evaluation, lease, request, now)
        {
            let until = probe_until(&terms.evaluation, now);
            if !self.probe(request, target.address, until) {
                return Outcome::Ignored(Reason::ProbesFull);
            }
            self.hold_for(request, lease, &terms.evaluation, now);
            return Outcome::Done;
        }
        let variables = Variables::new();
        let subject = target.subject(&variables, now.wall);
        let kind = Kind::Lease(MessageType::Offer, time);
        let composed = match compose::compose(config, request, &terms.evaluation, &subject, kind) {
            Ok(composed) => composed,
            Err(reason) => return Outcome::Ignored(reason),
        };
        self.tell(Some(target), &terms.evaluation, Some(&composed), Some((terms.want, time)));
        self.tell_armable(config, request, &terms.evaluation, &composed, target, terms.want, now);
        if let Some(lease) = target.lease.filter(|_| !is_spared) {
            self.hold_for(request, lease, &terms.evaluation, now);
        }
        self.log(Level::Info, line);
        let address = target.address;
        self.log(Level::Info, format_args!("DHCPOFFER on {address} to {} via {}", request.who(), request.via()));
        self.reply(config, request, target, &spread_times(jitter, composed), false, JournalSeq(0));
        self.teach_offer(config, request, target, &terms, now);
        self.sent.add(if is_spared { Sent::OfferIpv6Only } else { Sent::Offer });
        Outcome::Done
    }

    /// The client has chosen another server: what it was offered here is free for others at once (RFC 2131 3.1).
    pub(super) fn withdraw_offer(&mut self, request: &Request<'_>, now: Now) {
        // Of who had no offer the DISCOVER may still be to come; of its own lease nothing is kept by another one.
        let mut has_something = false;
        let by_id = request.client_id().map_or_else(Vec::new, |id| self.table.by_client_id(id));
        let by_hw = if request.client_id().is_none() { self.table.by_hw(&request.hw) } else { Vec::new() };
        for address in by_id.into_iter().chain(by_hw) {
            let is_offered = self.table.held_until(address).is_some_and(|until| until > now.wall);
            if is_offered && !self.probes.is_probing(address) {
                self.table.hold(address, WallTime::NONE);
            }
            has_something |=
                is_offered || self.table.get(address).is_some_and(|lease| lease.state == BindingState::Active);
        }
        if !has_something {
            self.elsewhere.note(request.header.xid, request.hw, now.boot);
        }
    }

    /// Keeps an offered address for its client, in memory only (dhcpd: a soft offer of two minutes).
    fn hold_for(&mut self, request: &Request<'_>, lease: &Lease, evaluation: &Evaluation, now: Now) {
        if lease.state == BindingState::Active {
            return;
        }
        let mut lease = lease.clone();
        lease.hw = Some(request.hw);
        lease.client_id = recorded_client_id(request, evaluation);
        lease.cltt = now.wall;
        let address = lease.address;
        self.keep(lease);
        self.table.hold(address, now.wall.after(OFFER_HOLD_SECS));
    }

    /// A request without a message type (dhcpd: 11.7).
    pub(super) fn handle_bootp(&mut self, config: &Config, request: &Request<'_>, now: Now) -> Outcome {
        let Some(network) = request.network else { return Outcome::Ignored(Reason::UnknownNetwork) };
        let line = format!("BOOTREQUEST from {} via {}", request.hw, request.via());
        let search = self.search(config, now);
        let hosts = search.hosts(request, Some(network));
        let mut found = search.find(request, network, &hosts);
        if !matches!(found.choice, Some(Choice::Static(..))) {
            let is_its = matches!(&found.choice, Some(Choice::Dynamic(lease)) if is_held_by(lease, request));
            if !is_its {
                found.choice = search
                    .allocate(request, network, hosts.is_known)
                    .ok()
                    .map(|lease| Choice::Dynamic(Box::new(lease)));
            }
        }
        let Some(choice) = found.choice.take() else {
            self.log(Level::Info, format!("{line}: no dynamic leases for BOOTP clients"));
            return Outcome::Ignored(Reason::BootpDenied);
        };
        let target = Target::new(config, &choice, &hosts);
        if let Some(peer) = self.peer_of_pool(target.pool)
            && !peer.service().is_responding()
        {
            return Outcome::Ignored(Reason::NotResponding);
        }
        if !self.is_balanced_to_us(config, request, &target, now) {
            return Outcome::Ignored(Reason::LoadBalanced);
        }
        if let Some(outcome) = self.hold_back(request, &target) {
            return outcome;
        }
        let terms = match self.terms(config, request, &target, now) {
            Ok(terms) => terms,
            Err(refusal) => return self.refuse(refusal, &line),
        };
        if let Some(reason) = self.meter_grant(config, request, &target, &terms.evaluation, !found.is_familiar, now) {
            return Outcome::Ignored(reason);
        }
        let variables = Variables::new();
        let subject = target.subject(&variables, now.wall);
        let mut composed = match compose::compose(config, request, &terms.evaluation, &subject, Kind::Bootp) {
            Ok(composed) => composed,
            Err(reason) => return Outcome::Ignored(reason),
        };
        self.tell(Some(&target), &terms.evaluation, Some(&composed), Some((terms.want, terms.want)));
        let rests_on = match target.lease {
            None => {
                // A host's own address: the next server is this one unless configured (dhcpd).
                if composed.siaddr == [0; 4] {
                    composed.siaddr = composed.source.octets();
                }
                JournalSeq(0)
            }
            Some(lease) => {
                let lease = self.granted_lease(config, request, &target, &terms, lease, terms.want, &composed, now);
                self.commit(lease)
            }
        };
        self.log(Level::Info, line);
        self.run_side_effects(&terms.evaluation, rests_on);
        self.reply(config, request, &target, &composed, false, rests_on);
        self.sent.add(Sent::Bootp);
        Outcome::Done
    }
}

/// Whether somebody might already use the address (dhcpd: 11.2, step 5).
fn wants_probe(evaluation: &Evaluation, lease: &Lease, request: &Request<'_>, now: Now) -> bool {
    if !evaluation.flag_or_default(Param::PingCheck) || lease.state == BindingState::Active {
        return false;
    }
    let is_same_client = lease.is_used() && is_held_by(lease, request);
    !lease.cltt.is_some()
        || !is_same_client
        || lease.state == BindingState::Abandoned
        || now.wall.since(lease.cltt) >= evaluation.secs_or_default(Param::PingClttSecs)
}

fn probe_until(evaluation: &Evaluation, now: Now) -> BootTime {
    let millis = evaluation.secs_or_default(Param::PingTimeoutMs);
    let wait = if millis > 0 {
        u64::from(millis)
    } else {
        u64::from(evaluation.secs_or_default(Param::PingTimeout)).saturating_mul(1000)
    };
    now.boot.after(Duration::from_millis(wait))
}
