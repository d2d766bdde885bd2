//! Another configuration under a running server.
//!
//! ```text
//!   Reload --> the table grows for other ranges, in slices        the old configuration answers
//!          --> NewGeneration: the kernel answers nothing any more    messages about armed leases wait
//!   Revoked --> what the kernel promised is known (design: revocation); the configurations change places; Reloaded
//!          --> what waited goes on; leases are armed anew, in slices   the new configuration answers
//! ```
//!
//! The instant of `Revoked` is the one at which the configuration changes, for the slow path and the kernel alike:
//! nothing that the old one said is said after it (I1), and what was promised before it is in the table (I2). Between
//! `NewGeneration` and `Revoked` nothing is armed, so that no answer of the old configuration bears the new generation.
//!
//! An answer of the kernel is the configuration's word about a question, and the kernel keeps only the question's digest:
//! `shape` remembers how it was asked, and here it is answered anew.

use std::{net::Ipv4Addr, sync::Arc};

use dhcp_ebpf::wire::dhcp::MessageType;

use crate::{
    config::{Address, Config, FailoverPeer, Param, PeerId},
    failover,
    lease::{BindingState, Lease, Relaid, journal::Format, time::Now},
};

use super::{
    Server,
    alike::{self, Alike, Kind},
    facts,
    find::{Choice, Hosts},
    grant,
    grant::{Target, Terms},
    herd::Window,
    hoard::Hoard,
    limits::{REARM_FULL_COUNT, REARM_SLICE_COUNT, RELAYOUT_SLICE_COUNT},
    peers, pools_of,
    port::{Effect, Token},
    promise::{Answered, Armed, Parked},
    request::Request,
    route::Ports,
    shape::Shape,
    status::NotArmed,
};

/// A configuration that is to take over.
#[derive(Debug)]
pub struct Reload {
    /// The configuration, checked, its names resolved, with the ports of the running server.
    pub config: Config,
    /// How records are written from then on.
    pub format: Format,
}

/// How a reload went.
#[derive(Debug)]
pub enum Reloaded {
    /// The new configuration answers.
    Applied(Applied),
    /// The running one stays, and this is why.
    Refused(String),
}

/// What a reload did.
#[derive(Debug)]
pub struct Applied {
    /// Number of the generation that has begun.
    pub generation: u32,
    /// Leases that were armed, to be armed anew one after the other.
    pub rearming: usize,
    /// What other ranges did to the leases.
    pub leases: Relaid,
    /// The configuration that went, for whoever has the time to free its memory.
    pub old: Arc<Config>,
}

/// Where a reload stands.
#[derive(Debug, Default)]
pub(crate) struct Reloading {
    stage: Stage,
    /// Leases that were armed under the last configuration.
    armed: Hoard,
    /// Addresses of the shelf that is being armed, the first one last.
    order: Vec<Ipv4Addr>,
    /// Answers under the present one, by kind of lease.
    pub(crate) alike: Alike,
    /// Answers that were worked out in full for the lease that is being armed.
    full_count: usize,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// The table grows for other ranges.
    Growing(Box<Reload>),
    /// The kernel gives everything back.
    Disarming(Box<Reload>),
}

impl Reloading {
    /// Whether the kernel is giving everything back.
    pub(crate) const fn is_disarming(&self) -> bool {
        matches!(self.stage, Stage::Disarming(_))
    }

    /// Whether there is work to do in slices.
    pub(crate) fn wants_time(&self) -> bool {
        matches!(self.stage, Stage::Growing(_)) || !self.armed.is_empty()
    }

    /// Leases that wait to be armed anew.
    pub(crate) const fn rearming_count(&self) -> usize {
        self.armed.len()
    }

    /// The next lease to be armed anew, in an order that is the same each time.
    fn next(&mut self) -> Option<(Ipv4Addr, Armed)> {
        if self.order.is_empty() {
            self.order = self.armed.some_addresses();
            self.order.reverse();
        }
        let address = self.order.pop()?;
        Some((address, self.armed.remove(address)?))
    }

    /// The server stops: nothing is changed or armed any more.
    pub(crate) fn stop(&mut self) {
        if matches!(self.stage, Stage::Growing(_)) {
            self.stage = Stage::Idle;
        }
        self.order.clear();
        self.alike.forget();
        self.armed = Hoard::default();
    }
}

/// Why a configuration cannot take over from another one without a restart.
#[must_use]
pub fn obstacle(old: &Config, new: &Config) -> Option<String> {
    let key = |config: &Config| -> Vec<_> {
        config.failover_peers.iter().map(|peer| (Arc::clone(&peer.name), peer.role)).collect()
    };
    let (old, new) = (key(old), key(new));
    if old == new {
        return None;
    }
    let names = |peers: &[(Arc<str>, crate::config::Role)]| {
        let names: Vec<String> =
            peers.iter().map(|(name, role)| format!("\"{name}\" ({role:?})").to_lowercase()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    Some(format!(
        "the failover peers were {}, and would be {}: peers come, go and change sides only with a restart, since the \
         partner has to agree",
        names(&old),
        names(&new)
    ))
}

impl Server {
    /// A configuration is to take over.
    pub(super) fn handle_reload(&mut self, mut reload: Reload, now: Now) {
        let why = match self.reloading.stage {
            _ if self.is_stopping => Some("the server is stopping".to_owned()),
            Stage::Growing(_) | Stage::Disarming(_) => Some("another reload is under way".to_owned()),
            Stage::Idle => obstacle(&self.config, &reload.config),
        };
        if let Some(why) = why {
            return self.effects.push_back(Effect::Reloaded(Box::new(Reloaded::Refused(why))));
        }
        keep_peers(&self.config, &mut reload.config);
        let pools = pools_of(&reload.config);
        if self.table.has_layout(&pools) {
            return self.begin_generation(Box::new(reload));
        }
        self.table.begin_relayout(&pools);
        self.reloading.stage = Stage::Growing(Box::new(reload));
        self.reload_slice(now);
    }

    /// Does what a reload can do in slices.
    pub(super) fn reload_slice(&mut self, now: Now) {
        if matches!(self.reloading.stage, Stage::Growing(_)) {
            if self.table.step_relayout(RELAYOUT_SLICE_COUNT)
                && let Stage::Growing(reload) = std::mem::take(&mut self.reloading.stage)
            {
                self.begin_generation(reload);
            }
            return;
        }
        let mut left = REARM_SLICE_COUNT;
        while left > 0 {
            let Some((address, armed)) = self.reloading.next() else { break };
            self.reloading.full_count = 0;
            if let Err(reason) = self.rearm(address, &armed, now) {
                self.not_armed.add(reason);
            }
            left = left.saturating_sub(1 + self.reloading.full_count * REARM_FULL_COUNT);
        }
        if self.reloading.armed.is_empty() {
            self.reloading.alike.forget();
        }
    }

    /// Takes everything from the kernel, with one store.
    fn begin_generation(&mut self, reload: Box<Reload>) {
        let token: Token = self.draw_token();
        self.promises.begin_all(token);
        self.options.generation = self.options.generation.next();
        let ranges =
            reload.config.pools.iter().flat_map(|pool| &pool.ranges).map(|range| (range.first, range.last)).collect();
        self.effects.push_back(Effect::NewGeneration { token, generation: self.options.generation, ranges });
        self.reloading.stage = Stage::Disarming(reload);
    }

    /// The kernel has given everything back, and its promises are in the table: the configurations change places.
    pub(super) fn disarmed(&mut self, token: Token, mut armed: Hoard, parked: &[Parked], now: Now) {
        let Stage::Disarming(reload) = std::mem::take(&mut self.reloading.stage) else { return };
        // Those of an earlier reload that were not armed again yet.
        armed.take_in(std::mem::take(&mut self.reloading.armed));
        self.reloading.order.clear();
        self.reloading.alike.forget();
        if self.is_stopping {
            return self.write_final(&armed.addresses());
        }
        let Reload { config, format } = *reload;
        let leases = self.table.finish_relayout();
        let old = std::mem::replace(&mut self.config, Arc::new(config));
        self.options.format = format;
        self.ports = Ports::of(&self.config.process);
        self.thresholds = vec![false; self.config.pools.len()];
        self.herds = vec![Window::default(); self.config.pools.len()];
        let interfaces = std::mem::take(&mut self.interfaces);
        self.set_interfaces(interfaces.into_iter().map(|(interface, _)| Arc::unwrap_or_clone(interface)).collect());
        for (number, peer) in self.peers.iter_mut().enumerate() {
            peer.pools = peers::pools_of(&self.config, PeerId(number));
        }
        let applied = Applied { generation: self.options.generation.number(), rearming: armed.len(), leases, old };
        self.effects.push_back(Effect::Reloaded(Box::new(Reloaded::Applied(applied))));
        self.reloading.armed = armed;
        self.tell_changes(now);
        for number in 0..self.peers.len() {
            let facts = facts::of(&self.config, PeerId(number));
            self.tell_peer(number, failover::Input::Reconfigured(&facts), now);
        }
        self.end_revocation_for_peers(token, now);
        for message in parked {
            self.handle_parked(message, now);
        }
        self.expire(now);
    }

    /// Answers the questions of a lease anew that it was armed with.
    fn rearm(&mut self, address: Ipv4Addr, was: &Armed, now: Now) -> Result<(), NotArmed> {
        let config = Arc::clone(&self.config);
        let Some(lease) = self.table.get(address) else { return Ok(()) };
        // Its timer may have rung while it was on its way back, and would not ring again.
        if lease.state == BindingState::Active && !self.promises.is_armed(address) {
            self.table.wind_again(address);
        }
        let is_running = lease.state == BindingState::Active && lease.ends > now.wall && lease.tstp > now.wall;
        let is_its = lease.hw.and_then(|hw| hw.mac()) == Some(was.chaddr);
        if !is_running || !is_its || self.promises.is_armed(address) || config.pool_of(address).is_none() {
            return Ok(());
        }
        let is_alone = self.is_alone(&config, &lease, now);
        let mut armed = Armed::new(was.chaddr);
        let mut why = NotArmed::Forgotten;
        for (place, (question, shape)) in was.questions.iter().zip(&was.shapes).enumerate() {
            let (Some((digest, _)), Some(shape)) = (question, shape) else { continue };
            let kind = if is_alone { Kind::of(&config, shape, &lease) } else { None };
            match self.answer_anew(&config, &lease, shape, kind, *digest, now) {
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
        let is_only = |found: &[Ipv4Addr]| found.iter().all(|address| *address == lease.address);
        config.is_stranger(hw, lease.client_id.as_deref())
            && self
                .peer_of_pool(config.pool_of(lease.address))
                .is_none_or(|peer| grant::partner_says_no(peer, lease, now.wall).is_none())
            && is_only(&self.table.by_hw(hw))
            && lease.client_id.as_ref().is_none_or(|id| is_only(&self.table.by_client_id(id)))
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
        if self.digest_of(shape, lease) != Some(digest) {
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

/// What a partner knows of a declaration changes with a restart; until then it stays as it was.
fn keep_peers(old: &Config, new: &mut Config) {
    let settled =
        |address: &Option<Address>| address.as_ref().and_then(|address| old.address(address)).map(Address::Literal);
    for (old, new) in old.failover_peers.iter().zip(&mut new.failover_peers) {
        *new = FailoverPeer {
            span: new.span,
            // A name has another number in another configuration.
            address: settled(&old.address),
            peer_address: settled(&old.peer_address),
            ..old.clone()
        };
    }
}
