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

use crate::{
    config::{Address, Config, FailoverPeer, PeerId},
    failover,
    lease::{Relaid, journal::Format, time::Now},
};

use super::{
    Server,
    alike::Alike,
    facts,
    herd::Window,
    hoard::Hoard,
    limits::RELAYOUT_SLICE_COUNT,
    peers, pools_of,
    port::{Effect, Token},
    promise::{Armed, Parked},
    route::Ports,
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
    /// Pages of them that nobody has begun with, the first one last.
    order: Vec<u32>,
    /// What is left of the page that is being armed, the first lease last.
    page: Vec<(Ipv4Addr, Armed)>,
    /// Answers under the present one, by kind of lease.
    pub(crate) alike: Alike,
    /// Answers that were worked out in full for the lease that is being armed.
    pub(crate) full_count: usize,
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
    pub(crate) const fn wants_time(&self) -> bool {
        matches!(self.stage, Stage::Growing(_)) || self.rearming_count() > 0
    }

    /// Leases that wait to be armed anew.
    pub(crate) const fn rearming_count(&self) -> usize {
        self.armed.len().saturating_add(self.page.len())
    }

    /// The next lease to be armed anew, in the order of addresses.
    pub(crate) fn next(&mut self) -> Option<(Ipv4Addr, Armed)> {
        while self.page.is_empty() {
            if self.order.is_empty() {
                self.order = self.armed.pages();
                self.order.reverse();
            }
            self.page = self.armed.take_page(self.order.pop()?);
            self.page.reverse();
        }
        self.page.pop()
    }

    /// Takes all leases that still wait.
    fn take_rest(&mut self) -> Hoard {
        let mut rest = std::mem::take(&mut self.armed);
        for (address, armed) in self.page.drain(..) {
            rest.insert(address, armed);
        }
        self.order.clear();
        rest
    }

    /// The server stops: nothing is changed or armed any more.
    pub(crate) fn stop(&mut self) {
        if matches!(self.stage, Stage::Growing(_)) {
            self.stage = Stage::Idle;
        }
        self.alike.forget();
        drop(self.take_rest());
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
        self.rearm_slice(now);
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
        armed.take_in(self.reloading.take_rest());
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
