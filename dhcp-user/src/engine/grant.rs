//! Acknowledges: REQUEST, and what every grant is made of (dhcpd: 11.3 of the reference).

use std::{fmt, net::Ipv4Addr};

use dhcp_ebpf::wire::dhcp::MessageType;

use crate::{
    config::{Config, Evaluation, Hook, HostId, Param, PoolId, SubnetId, VariableValue, Variables},
    lease::{
        Billing, BindingState, Lease, Value,
        time::{Now, WallTime},
    },
};

use super::{
    Outcome, Server,
    bills::Bill,
    churn,
    compose::{self, Composed, Kind, Subject},
    find::{Choice, Found, Hosts, is_held_by},
    herd::Jitter,
    limits::SELECTING_SHED_COUNT,
    peers::{self, Peer},
    port::{Effect, JournalSeq, Level},
    request::Request,
    route::{self, Heading},
    status::{Easing, Reason, Sent},
    terms::{self, Wanted},
};

/// The address that a reply is about, with everything that applies to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'t> {
    /// The address.
    pub(super) address: Ipv4Addr,
    /// Its subnet.
    pub(super) subnet: Option<SubnetId>,
    /// Its pool.
    pub(super) pool: Option<PoolId>,
    /// The host declaration that gives options.
    pub(super) host: Option<HostId>,
    /// Some host declaration fits the client.
    pub(super) is_known: bool,
    /// The lease; `None` = the address is the host declaration's.
    pub(super) lease: Option<&'t Lease>,
}

impl<'t> Target<'t> {
    /// The target of a choice.
    pub(super) fn new(config: &Config, choice: &'t Choice, hosts: &Hosts) -> Self {
        match choice {
            Choice::Static(address, host) => Self {
                address: *address,
                subnet: config.subnet_of(*address),
                pool: None,
                host: Some(*host),
                is_known: true,
                lease: None,
            },
            Choice::Dynamic(lease) => Self::of_lease(config, lease, hosts),
        }
    }

    /// The target of a pool's lease.
    pub(super) fn of_lease(config: &Config, lease: &'t Lease, hosts: &Hosts) -> Self {
        Self {
            address: lease.address,
            subnet: config.subnet_of(lease.address),
            pool: config.pool_of(lease.address),
            host: hosts.options,
            is_known: hosts.is_known,
            lease: Some(lease),
        }
    }

    /// The lease, if it runs.
    fn active(&self) -> Option<&'t Lease> {
        self.lease.filter(|lease| lease.state == BindingState::Active)
    }

    /// For whom the scopes are evaluated.
    pub(super) fn subject<'s>(&self, variables: &'s Variables, now: WallTime) -> Subject<'s> {
        Subject {
            subnet: self.subnet,
            pool: self.pool,
            host: self.host,
            address: Some(self.address),
            is_static: self.lease.is_none(),
            is_known: self.is_known,
            lease_time: self.active().map(|lease| terms::left(lease.ends, now)),
            variables,
        }
    }
}

/// What the scopes and the policies say about a target.
#[derive(Debug)]
pub(super) struct Terms {
    /// What the scopes came to.
    pub(super) evaluation: Evaluation,
    /// The lease time in seconds, before failover rules.
    pub(super) want: u32,
    /// What the lease is billed to.
    pub(super) billing: Option<Billing>,
    /// The lease's variables, as the evaluation saw them.
    pub(super) variables: Variables,
}

/// Why a client does not get what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Silence; the text for the log, if there is to be a line.
    Silent(Reason, Option<&'static str>),
    /// The pool is not active.
    Inactive,
}

impl Server {
    /// REQUEST (dhcpd: the decision table 11.3, row by row).
    pub(super) fn handle_request(&mut self, config: &Config, request: &Request<'_>, now: Now) -> Outcome {
        let requested = request.requested();
        let address = requested.or_else(|| request.ciaddr()).unwrap_or(Ipv4Addr::UNSPECIFIED);
        // Made only when somebody reads it.
        let line = fmt::from_fn(|f| {
            write!(f, "DHCPREQUEST for {address}")?;
            if let Some(server) = request.server_id() {
                write!(f, " ({server})")?;
            }
            write!(f, " from {} via {}", request.who(), request.via())
        });
        if self.options.honours_server_id && self.is_for_another_server(config, request, now) {
            self.log(Level::Debug, format_args!("{line}: for another server"));
            self.withdraw_offer(request, now);
            return Outcome::Ignored(Reason::OtherServer);
        }
        let subnet = config.subnet_of(address);
        let network = subnet.map(|subnet| config.subnet(subnet).shared_network);
        let search = self.search(config, now);
        let hosts = search.hosts(request, network);
        let found = network.map_or_else(Found::default, |network| search.find(request, network, &hosts));

        if let Some(Choice::Dynamic(lease)) = &found.choice
            && let Some(peer) = search.peer_of(lease.address)
            && let Some((reason, why)) = partner_says_no(peer, lease, now.wall)
        {
            self.log(Level::Debug, format_args!("{line}: {why}"));
            return Outcome::Ignored(reason);
        }
        // Row 4, for who does not honour option 54 everywhere.
        if config.process.server_id_check
            && found.choice.as_ref().is_some_and(|choice| search.peer_of(choice.address()).is_some())
            && self.is_for_another_server(config, request, now)
        {
            return Outcome::Ignored(Reason::OtherServer);
        }
        // The sender's network counts where it is known for sure: rows 5a to 5d.
        let is_sure = request.network.is_none()
            || (request.ciaddr().is_some() && request.giaddr().is_some())
            || (requested.is_some() && request.ciaddr().is_none());
        if is_sure {
            let is_on_network = request.network.is_some() && request.network == network;
            if !is_on_network {
                return self.refuse_network(config, request, address, subnet, &found, &line, now);
            }
        }
        let Some(choice) = found.choice.clone() else {
            if found.is_ours {
                self.log(Level::Info, format_args!("{line}: lease {address} unavailable."));
                return self.send_nak(config, request, address, found.message, now);
            }
            // RFC 2131 4.3.2 #silent-without-record
            self.log(Level::Info, format_args!("{line}: unknown lease {address}."));
            return Outcome::Ignored(Reason::UnknownLease);
        };
        let target = Target::new(config, &choice, &hosts);
        self.acknowledge(config, request, &target, &found, &line, now)
    }

    #[expect(clippy::too_many_arguments, reason = "one row of the decision table, called once")]
    fn refuse_network(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        address: Ipv4Addr,
        subnet: Option<SubnetId>,
        found: &Found,
        line: &dyn fmt::Display,
        now: Now,
    ) -> Outcome {
        let is_authoritative = match request.network {
            None => subnet.is_some_and(|subnet| config.subnet(subnet).authoritative),
            Some(network) => config.shared_network(network).authoritative,
        };
        if is_authoritative {
            self.log(Level::Info, format_args!("{line}: wrong network."));
            let why = if found.message.is_empty() { "requested address not available" } else { found.message };
            return self.send_nak(config, request, address, why, now);
        }
        let why = if request.network.is_none() && subnet.is_none() { "unknown subnet" } else { "not authoritative" };
        self.log(Level::Info, format_args!("{line}: ignored ({why})."));
        Outcome::Ignored(Reason::NotAuthoritative)
    }

    /// Row 10: everything is fine, so say ACK; but first make it durable.
    fn acknowledge(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        target: &Target<'_>,
        found: &Found,
        line: &dyn fmt::Display,
        now: Now,
    ) -> Outcome {
        if let Some(outcome) = self.hold_back(request, target) {
            return outcome;
        }
        let mut terms = match self.terms(config, request, target, now) {
            Ok(terms) => terms,
            Err(Refusal::Inactive) => return self.send_nak(config, request, target.address, found.message, now),
            Err(refusal) => return self.refuse(refusal, line),
        };
        if let Some(reason) = self.meter_grant(config, request, target, &terms.evaluation, !found.is_familiar, now) {
            return Outcome::Ignored(reason);
        }
        let mut releases = found.releases.clone();
        if terms.evaluation.flag_or_default(Param::OneLeasePerClient) {
            self.list_other_leases(request, target, &terms.evaluation, &mut releases);
        }
        let found = Found { releases, ..found.clone() };
        if let Err(outcome) = self.give_up(request, &found, now) {
            return outcome;
        }
        if let Some(hook) = terms.evaluation.on_commit.clone() {
            let subject = target.subject(&terms.variables, now.wall);
            let context = compose::context(config, request, &subject, now.wall);
            config.run_hook(&hook, &context, &mut terms.evaluation);
        }
        let unaltered = self.unaltered(request, target, &terms, now);
        let granted = self.limited(target, terms.want, now);
        let jitter = if unaltered.is_some() { None } else { self.jitter_of(target, &terms.evaluation, granted, now) };
        let granted = spread(jitter, &terms.evaluation, granted);
        let variables = Variables::new();
        let subject = target.subject(&variables, now.wall);
        let kind = Kind::Lease(MessageType::Ack, unaltered.unwrap_or(granted));
        let composed = match compose::compose(config, request, &terms.evaluation, &subject, kind) {
            Ok(composed) => composed,
            Err(reason) => return Outcome::Ignored(reason),
        };
        self.tell(Some(target), &terms.evaluation, Some(&composed), Some((terms.want, unaltered.unwrap_or(granted))));
        self.tell_armable(config, request, &terms.evaluation, &composed, target, terms.want, now);
        self.log(Level::Info, line);
        if found.is_reclaimed {
            let address = target.address;
            self.log(Level::Error, format!("Reclaiming REQUESTed abandoned IP address {address}."));
        }
        let rests_on = match (target.lease, unaltered) {
            (None, _) => JournalSeq(0),
            (Some(lease), Some(_)) => {
                self.note_unaltered(lease, request, &terms.evaluation, now);
                let seq = self.record_of(target.address);
                self.teach_kernel(config, request, target, &terms, lease, seq, now);
                seq
            }
            (Some(lease), None) => {
                let lease = self.granted_lease(config, request, target, &terms, lease, granted, &composed, now);
                self.note_grant(target.pool, now);
                let seq = self.commit_for(lease.clone(), Some(request.header.xid));
                self.arm_granted(config, request, target, &terms, &lease, &composed, seq, now);
                seq
            }
        };
        self.run_side_effects(&terms.evaluation, rests_on);
        if let Some(pool) = target.pool {
            self.watch_fill(config, &terms.evaluation, pool, target.address);
        }
        let address = target.address;
        self.reply(config, request, target, &spread_times(jitter, composed), true, rests_on);
        if self.is_heard(Level::Info) {
            let ack = format!("DHCPACK on {address} to {} via {}", request.who(), request.via());
            self.gate.hold(rests_on, Effect::Log(Level::Info, ack), &mut self.effects);
        }
        self.sent.add(if unaltered.is_some() { Sent::AckUnaltered } else { Sent::Ack });
        Outcome::Done
    }

    /// What keeps an ACK from being worked out now: the journal, or a revocation of this very address.
    pub(super) fn hold_back(&mut self, request: &Request<'_>, target: &Target<'_>) -> Option<Outcome> {
        target.lease?;
        if self.gate.failure().is_some() {
            return Some(Outcome::Ignored(Reason::JournalFailed));
        }
        if self.gate.is_full() {
            return Some(Outcome::Ignored(Reason::JournalBusy));
        }
        // New clients are shed before those that already have an address (I6).
        if request.server_id().is_some() && self.gate.waiting_count() >= SELECTING_SHED_COUNT {
            return Some(Outcome::Ignored(Reason::Shed));
        }
        if self.is_under_way(target.address, request.header.xid)
            && target.lease.is_some_and(|lease| lease.hw == Some(request.hw))
        {
            return Some(Outcome::Ignored(Reason::Repeated));
        }
        if let Some(token) = self.promises.revocation_of(target.address) {
            return Some(Outcome::Await(token));
        }
        // The same identity on another card: the old card's questions must not be answered any more.
        let is_other_card =
            self.promises.armed(target.address).is_some_and(|armed| Some(armed.chaddr) != request.hw.mac());
        if is_other_card { Some(self.revoke_and_wait(vec![target.address])) } else { None }
    }

    /// The lease as it is after an ACK.
    #[expect(clippy::too_many_arguments, reason = "everything that a record is made of")]
    pub(super) fn granted_lease(
        &self,
        config: &Config,
        request: &Request<'_>,
        target: &Target<'_>,
        terms: &Terms,
        old: &Lease,
        granted: u32,
        composed: &Composed,
        now: Now,
    ) -> Lease {
        let is_renewal = old.state == BindingState::Active && is_held_by(old, request);
        let mut lease = old.clone();
        let peer = self.peer_of_pool(target.pool);
        lease.starts = now.wall;
        lease.ends = terms::ends(now.wall, granted);
        lease.cltt = now.wall;
        lease.next_state = if peer.is_some() { BindingState::Expired } else { BindingState::Free };
        lease.state = BindingState::Active;
        lease.is_bootp = request.kind.is_none();
        lease.hw = Some(request.hw);
        lease.client_id = recorded_client_id(request, &terms.evaluation);
        lease.hostname = request.host_name().map(Into::into);
        if !is_renewal {
            lease.agent_options = None;
        }
        // BOOTP clients do not renew: nothing is remembered for that (dhcpd).
        if let Some(agent) = request.relay_agent()
            && request.kind.is_some()
            && terms.evaluation.flag_or_default(Param::StashAgentOptions)
        {
            lease.agent_options = Some(agent.into());
        }
        store_variables(&mut lease, &terms.evaluation, request);
        lease.on_expiry = terms.evaluation.on_expiry.as_ref().map(hook_text);
        lease.on_release = terms.evaluation.on_release.as_ref().map(hook_text);
        lease.billing = terms.billing.clone();
        lease.unknown = None;
        match peer {
            Some(peer) => {
                // The kernel may promise up to the old one until it is told of the new one.
                let promised = if self.promises.is_armed(lease.address) { old.tstp } else { WallTime::NONE };
                lease.tstp = peer.potential_expiry(terms.want, old.tsfp, now.wall).max(promised);
                lease.tsfp = Peer::agreed(old);
                if is_renewal {
                    // The answer may be lost: the client then goes on believing the longer one (I1).
                    let told = self.table.limit(old.address).unwrap_or_default().max(old.ends);
                    lease.ends = lease.ends.max(told);
                }
            }
            None => {
                let may_be_armed =
                    self.is_armable(config, request, &terms.evaluation, composed, target, terms.want, now).is_ok();
                let promised = if self.promises.is_armed(lease.address) { old.tstp } else { WallTime::NONE };
                let horizon = peers::lease_and_a_half(terms.want, granted, now.wall);
                lease.tstp = if may_be_armed { horizon.max(promised) } else { promised };
            }
        }
        lease
    }

    /// dhcp-cache-threshold: early in its life a lease is confirmed as it is, and nothing is written. What is left of it
    /// in seconds, if so.
    pub(super) fn unaltered(&self, request: &Request<'_>, target: &Target<'_>, terms: &Terms, now: Now) -> Option<u32> {
        let lease = target.active()?;
        let threshold = terms.evaluation.secs_or_default(Param::DhcpCacheThreshold);
        let is_same = lease.hw == Some(request.hw)
            && lease.client_id == recorded_client_id(request, &terms.evaluation)
            && request.host_name().is_none_or(|name| lease.hostname.as_deref() == Some(name))
            && lease.billing == terms.billing;
        // A client without its address may have given it back at the partner: what it is told now has to be told there,
        // or the release that is on its way would free the address (I1; dhcpd confirms it all the same).
        let may_be_released = request.ciaddr().is_none() && self.peer_of_pool(target.pool).is_some();
        if threshold == 0 || !is_same || may_be_released || lease.ends <= now.wall {
            return None;
        }
        let age = u64::from(now.wall.since(lease.starts));
        let length = u64::from(lease.ends.since(lease.starts));
        if lease.starts > now.wall || age > length.saturating_mul(u64::from(threshold)) / 100 {
            return None;
        }
        let left = terms::left(lease.ends, now.wall);
        // After a crash a lease lasts as long as the kernel may have promised; nobody is told that much of it.
        let is_raised = lease.ends == lease.tstp && lease.ends < WallTime::NEVER && left > terms.want;
        // Nor more than the partner has agreed to by now (I7).
        let is_agreed = self.limited(target, left, now) >= left;
        (!is_raised && is_agreed).then_some(left)
    }

    /// Notes an ACK that altered nothing.
    fn note_unaltered(&mut self, lease: &Lease, request: &Request<'_>, evaluation: &Evaluation, now: Now) {
        let age = now.wall.since(lease.starts);
        let threshold = evaluation.secs_or_default(Param::DhcpCacheThreshold);
        let address = lease.address;
        self.log(
            Level::Info,
            format!(
                "reuse_lease: lease age {age} (secs) under {threshold}% threshold, reply with unaltered, existing \
                 lease for {address}"
            ),
        );
        let mut lease = lease.clone();
        lease.cltt = now.wall;
        if let Some(agent) = request.relay_agent()
            && evaluation.flag_or_default(Param::StashAgentOptions)
        {
            lease.agent_options = Some(agent.into());
        }
        self.keep(lease);
    }

    /// Evaluates the scopes and asks every policy.
    pub(super) fn terms(
        &self,
        config: &Config,
        request: &Request<'_>,
        target: &Target<'_>,
        now: Now,
    ) -> Result<Terms, Refusal> {
        let variables = target.active().map_or_else(Variables::new, variables_of);
        let subject = target.subject(&variables, now.wall);
        let evaluation = compose::evaluate(config, request, &subject, now.wall);
        let is_discover = request.kind == Some(MessageType::Discover);
        if is_discover && u32::from(request.secs()) < evaluation.secs_or_default(Param::MinSecs) {
            return Err(Refusal::Silent(Reason::MinSecs, Some("configured min-secs value is greater than secs field")));
        }
        let denied = |param, reason, text| {
            if evaluation.flag_or_default(param) {
                return Ok(());
            }
            Err(Refusal::Silent(reason, (!evaluation.is_ignored(param)).then_some(text)))
        };
        if target.host.is_none() {
            denied(Param::BootUnknownClients, Reason::UnknownClient, "unknown client")?;
        }
        denied(Param::AllowBooting, Reason::BootingDenied, "booting disallowed")?;
        if request.kind.is_none() {
            denied(Param::AllowBootp, Reason::BootpDenied, "bootp disallowed")?;
        }
        let billing = match self.bills.choose(config, &request.membership, target.lease) {
            Bill::Full => return Err(Refusal::Silent(Reason::NoBilling, Some("no available billing"))),
            Bill::Unlimited => None,
            Bill::To(billing) => target.lease.map(|_| billing),
        };
        let want = if request.kind.is_none() {
            evaluation.secs(Param::DynamicBootpLeaseLength).unwrap_or(terms::INFINITE)
        } else {
            let fill = target.pool.map(|pool| self.fill(pool));
            let is_random = target.lease.is_some() && churn::is_random(&request.hw);
            let wanted = Wanted {
                asked: request.lease_time(),
                fill,
                curve: if is_random { churn::curve_at(&evaluation, fill) } else { None },
                left: target.active().map(|lease| terms::left(lease.ends, now.wall)),
                now: now.wall,
            };
            terms::lease_time(&evaluation, target.pool.map(|pool| config.pool(pool)), &wanted)
                .map_err(|terms::Inactive| Refusal::Inactive)?
        };
        Ok(Terms { evaluation, want, billing, variables })
    }

    /// Addresses of a pool that are not free, and all.
    pub(super) fn fill(&self, pool: PoolId) -> (u64, u64) {
        let counts = self.table.counts(crate::lease::PoolIndex(pool.0));
        let free = counts.of(BindingState::Free).saturating_add(counts.of(BindingState::Backup));
        (u64::from(counts.total.saturating_sub(free)), u64::from(counts.total))
    }

    /// The lease time that may be granted: with a partner not beyond what it knows (I7).
    pub(super) fn limited(&self, target: &Target<'_>, want: u32, now: Now) -> u32 {
        match (self.peer_of_pool(target.pool), target.lease) {
            (Some(peer), Some(lease)) => peer.limit(want, Peer::agreed(lease), now.wall),
            _ => want,
        }
    }

    /// By how much the times of a pool's lease are cut, when a herd is seen.
    pub(super) fn jitter_of(
        &mut self,
        target: &Target<'_>,
        evaluation: &Evaluation,
        granted: u32,
        now: Now,
    ) -> Option<Jitter> {
        target.lease?;
        let jitter = self.jitter(evaluation, target.pool, target.address, granted, now);
        if jitter.is_some() {
            self.storm.add(Easing::Jittered);
        }
        jitter
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, line: &dyn fmt::Display) -> Outcome {
        match refusal {
            Refusal::Silent(reason, text) => {
                if let Some(text) = text {
                    self.log(Level::Info, format_args!("{line}: {text}"));
                }
                Outcome::Ignored(reason)
            }
            Refusal::Inactive => Outcome::Ignored(Reason::NotPermitted),
        }
    }

    /// `one-lease-per-client`: every other active lease of the client.
    pub(super) fn list_other_leases(
        &self,
        request: &Request<'_>,
        target: &Target<'_>,
        evaluation: &Evaluation,
        releases: &mut Vec<Ipv4Addr>,
    ) {
        let mut others = request.client_id().map_or_else(Vec::new, |id| self.table.by_client_id(id));
        let denies_duplicates = !evaluation.flag_or_default(Param::Duplicates)
            && target.host.is_some_and(|host| self.config.host(host).client_id.is_none());
        if request.client_id().is_none() || denies_duplicates {
            others.extend(self.table.by_hw(&request.hw));
        }
        for address in others {
            let is_active = self.table.get(address).is_some_and(|lease| lease.state == BindingState::Active);
            if is_active && address != target.address && !releases.contains(&address) {
                releases.push(address);
            }
        }
    }

    /// Lets the client give up other leases of its own; those in the kernel's hands have to be revoked first.
    pub(super) fn give_up(&mut self, request: &Request<'_>, found: &Found, now: Now) -> Result<(), Outcome> {
        if found.releases.is_empty() {
            return Ok(());
        }
        if let Some(outcome) = self.revoke_first(&found.releases) {
            return Err(outcome);
        }
        for address in &found.releases {
            if let Some(lease) = self.table.get(*address) {
                let network = &config_network_name(&self.config, *address);
                self.log(
                    Level::Debug,
                    format!("uid lease {address} for client {} is duplicate on {network}", request.hw),
                );
                self.release(lease, now);
            }
        }
        Ok(())
    }

    /// Writes the reply and sends it where it belongs.
    pub(super) fn reply(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        target: &Target<'_>,
        composed: &Composed,
        is_ack: bool,
        rests_on: JournalSeq,
    ) {
        let message = composed.write(request, request.header.ciaddr, target.address);
        let network = target.subnet.map(|subnet| config.subnet(subnet).shared_network);
        let heading = Heading {
            is_ack,
            flags: composed.flags,
            yiaddr: target.address,
            is_on_its_network: network.is_some() && network == request.network,
        };
        let to = route::destination(request, &heading, &self.ports);
        self.send(rests_on, to, composed.source, message);
    }

    /// Logs and runs what the statements wanted.
    pub(super) fn run_side_effects(&mut self, evaluation: &Evaluation, rests_on: JournalSeq) {
        use crate::config::LogPriority;
        for line in &evaluation.logs {
            let level = match line.priority {
                LogPriority::Fatal | LogPriority::Error => Level::Error,
                LogPriority::Info => Level::Info,
                LogPriority::Debug => Level::Debug,
            };
            self.log(level, String::from_utf8_lossy(&line.text).into_owned());
        }
        for execution in &evaluation.executions {
            let effect = Effect::Execute {
                program: execution.program.to_string(),
                arguments: execution.arguments.iter().map(|argument| argument.to_vec()).collect(),
            };
            self.gate.hold(rests_on, effect, &mut self.effects);
        }
    }
}

/// The lease time in a herd, where clients reckon their renewal from it; never below a configured minimum.
pub(super) fn spread(jitter: Option<Jitter>, evaluation: &Evaluation, granted: u32) -> u32 {
    use dhcp_ebpf::wire::option::code;
    let is_told = [code::RENEWAL_TIME, code::REBINDING_TIME].iter().any(|code| evaluation.option(*code).is_some());
    match jitter.filter(|_| !is_told) {
        Some(jitter) => jitter.cut(granted).max(evaluation.secs(Param::MinLeaseTime).unwrap_or(0)).min(granted),
        None => granted,
    }
}

/// The reply in a herd, where clients are told when to renew.
pub(super) fn spread_times(jitter: Option<Jitter>, composed: Composed) -> Composed {
    match jitter {
        Some(jitter) => Composed { times: jitter.cut_times(composed.times), ..composed },
        None => composed,
    }
}

/// Rows 1 to 3: a partner's lease, or a state in which nobody is answered.
pub(super) fn partner_says_no(peer: &Peer, lease: &Lease, now: WallTime) -> Option<(Reason, &'static str)> {
    let is_mine = peer.is_mine_to_allocate(lease, now);
    match lease.state {
        BindingState::Released | BindingState::Expired if lease.rewind_state != BindingState::Active && !is_mine => {
            return Some((Reason::LeaseInTransition, "lease in transition state"));
        }
        BindingState::Reset if !is_mine => return Some((Reason::LeaseInTransition, "lease reset by administrator")),
        _ => {}
    }
    if !peer.service().is_responding() {
        return Some((Reason::NotResponding, "not responding"));
    }
    let is_theirs = matches!(lease.state, BindingState::Free | BindingState::Backup) && !is_mine;
    is_theirs.then_some((Reason::LeaseOwnedByPeer, "lease owned by peer"))
}

/// The client identifier as it is recorded (`ignore-client-uids`).
pub(super) fn recorded_client_id(request: &Request<'_>, evaluation: &Evaluation) -> Option<Box<[u8]>> {
    if evaluation.flag_or_default(Param::IgnoreClientUids) { None } else { request.client_id().map(Into::into) }
}

/// The body of a hook as it stands in a record, between the braces.
fn hook_text(hook: &Hook) -> Box<[u8]> {
    format!("\n{}\n  ", hook.text().trim_end()).into_bytes().into()
}

/// A lease's variables as expressions see them.
pub(super) fn variables_of(lease: &Lease) -> Variables {
    let mut variables = Variables::new();
    for variable in lease.variables.iter().rev() {
        let value = match &variable.value {
            Value::Data(data) => VariableValue::Data(data.as_ref().into()),
            Value::Number(number) => VariableValue::Number(u64::try_from(*number).unwrap_or_default()),
            Value::Boolean(flag) => VariableValue::Boolean(*flag),
        };
        variables.set(&variable.name, value);
    }
    variables
}

/// Stores the variables of an evaluation with the lease, and option 60 as dhcpd does.
fn store_variables(lease: &mut Lease, evaluation: &Evaluation, request: &Request<'_>) {
    lease.variables.clear();
    let mut variables: Vec<_> = evaluation.variables.iter().collect();
    variables.reverse();
    for (name, value) in variables {
        let value = match value {
            VariableValue::Data(data) => Value::Data(data.as_ref().into()),
            VariableValue::Number(number) => Value::Number(i64::try_from(*number).unwrap_or(i64::MAX)),
            VariableValue::Boolean(flag) => Value::Boolean(*flag),
        };
        lease.set_variable(name, value);
    }
    if let Some(class) = request.options.get(dhcp_ebpf::wire::option::code::VENDOR_CLASS) {
        lease.set_variable("vendor-class-identifier", Value::Data(class.into()));
    }
}

fn config_network_name(config: &Config, address: Ipv4Addr) -> String {
    config
        .subnet_of(address)
        .map(|subnet| config.shared_network(config.subnet(subnet).shared_network).name.to_string())
        .unwrap_or_default()
}
