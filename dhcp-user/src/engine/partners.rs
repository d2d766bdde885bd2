//! The engine and its failover endpoints: what happens goes to them, what they want is done.
//!
//! Whatever an endpoint stores, and whatever a client changes in a failover pool, is one record in one journal; the
//! endpoint hears of a client's change in the same turn, and its update waits for the record like the ACK does.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use crate::{
    config::{PeerId, PoolId},
    failover::{self, Link, Seq},
    lease::{
        BindingState, Lease,
        time::{BootTime, Now, WallTime},
    },
};

use super::{
    Server,
    peers::Peer,
    port::{Effect, JournalSeq, Level, PeerInput, Token},
    serving_index,
    shelf::Shelf,
};

impl Server {
    /// Makes every failover peer as the leases file or the configuration says; none of them acts yet.
    pub(super) fn make_peers(&mut self, now: Now) {
        let config = Arc::clone(&self.config);
        for (number, declared) in config.failover_peers.iter().enumerate() {
            let recorded = self.options.peer_states.iter().find(|state| *state.name == *declared.name.as_bytes());
            let seed = self.options.seed.wrapping_add(number as u64);
            let peer = Peer::begin(&config, PeerId(number), recorded, seed, now);
            self.effects.push_back(Effect::Serving(serving_index(number), peer.is_serving()));
            self.peers.push(peer);
        }
    }

    /// Begins every failover peer, when what the kernel may have promised is known, and journals a state that the file
    /// does not know.
    pub(super) fn begin_peers(&mut self, now: Now) {
        let (_, durable) = self.gate.seqs();
        for number in 0..self.peers.len() {
            if let Some(peer) = self.peers.get(number)
                && peer.recorded.is_none()
            {
                let state = peer.endpoint.record();
                self.with_shelf(number, |_, shelf| failover::Leases::store_state(shelf, &state));
            }
            self.tell_peer(number, failover::Input::Durable(Seq(durable.0)), now);
            // A server that was alone before is alone now: it waits for nobody.
            self.tell_peer(number, failover::Input::Timeout, now);
        }
    }

    /// What happened on a failover link.
    pub(super) fn handle_peer(&mut self, input: &PeerInput<'_>, now: Now) {
        match *input {
            PeerInput::Connected { peer, link, dialled } => {
                self.tell_peer(peer, failover::Input::Connected { link: Link(link.0), dialled }, now);
            }
            PeerInput::Bytes { peer, link, bytes } => {
                self.tell_peer(peer, failover::Input::Bytes { link: Link(link.0), bytes }, now);
            }
            PeerInput::Closed { peer, link } => {
                self.tell_peer(peer, failover::Input::Closed { link: Link(link.0) }, now);
            }
            PeerInput::Command { peer, command } => {
                self.tell_peer(peer, failover::Input::Command(command), now);
            }
        }
    }

    /// Gives an input to an endpoint, and does what it wants done.
    pub(super) fn tell_peer(&mut self, number: usize, input: failover::Input<'_>, now: Now) {
        self.with_shelf(number, |peer, shelf| peer.handle(input, shelf, now));
        for lease in std::mem::take(&mut self.ended) {
            let config = Arc::clone(&self.config);
            self.run_hook_of(&config, lease.on_expiry.as_deref(), &lease, None, now);
        }
        for address in std::mem::take(&mut self.learnt) {
            self.arm_learnt(address, now);
        }
        while let Some(effect) = self.peers.get_mut(number).and_then(|peer| peer.endpoint.poll_effect()) {
            self.run_peer_effect(number, effect, now);
        }
    }

    /// Lets an endpoint work on the leases of its pools.
    fn with_shelf<T>(
        &mut self,
        number: usize,
        work: impl FnOnce(&mut failover::Endpoint, &mut Shelf<'_>) -> T,
    ) -> Option<T> {
        let mut peers = std::mem::take(&mut self.peers);
        let mut ended = std::mem::take(&mut self.ended);
        let outcome = peers.get_mut(number).map(|peer| {
            let Peer { name, endpoint, pools, recorded, .. } = peer;
            work(endpoint, &mut Shelf { server: self, name, pools, recorded, told: None, ended: &mut ended })
        });
        self.peers = peers;
        self.ended = ended;
        outcome
    }

    fn run_peer_effect(&mut self, number: usize, effect: failover::Effect, now: Now) {
        match effect {
            failover::Effect::Send { link, bytes } => self.effects.push_back(Effect::PeerSend(Token(link.0), bytes)),
            failover::Effect::Dial => self.effects.push_back(Effect::PeerDial { peer: number }),
            failover::Effect::Close { link } => self.effects.push_back(Effect::PeerClose(Token(link.0))),
            failover::Effect::Revoke { token, addresses } => self.revoke_for_peer(number, token, addresses, now),
            failover::Effect::Service(service) => {
                // Before the switch goes on: what both hear is answered by one.
                if let Some(buckets) = self.peers.get(number).and_then(|peer| peer.endpoint.answered_buckets()) {
                    self.effects.push_back(Effect::Balance(serving_index(number), buckets));
                }
                self.effects.push_back(Effect::Serving(serving_index(number), service.is_responding()));
            }
            failover::Effect::Moved(addresses) => self.move_horizons(&addresses, now),
            failover::Effect::Log(level, text) => {
                let level = match level {
                    failover::Level::Debug => Level::Debug,
                    failover::Level::Info => Level::Info,
                    failover::Level::Warn => Level::Warn,
                };
                self.log(level, text);
            }
        }
    }

    /// Takes addresses from the kernel for an endpoint. Those that are on their way out already are waited for.
    fn revoke_for_peer(&mut self, number: usize, token: failover::Token, addresses: Vec<Ipv4Addr>, now: Now) {
        let mut waits = BTreeSet::new();
        let mut armed = Vec::new();
        for address in addresses {
            match self.promises.revocation_of(address) {
                Some(under_way) => {
                    waits.insert(under_way);
                }
                None if self.promises.is_armed(address) => armed.push(address),
                None => {}
            }
        }
        if !armed.is_empty() {
            let own = self.draw_token();
            // Bounded by what an endpoint may hold, so none is refused.
            self.promises.begin_always(own, armed.clone());
            self.effects.push_back(Effect::Revoke(own, armed));
            waits.insert(own);
        }
        if waits.is_empty() {
            self.tell_peer(number, failover::Input::Revoked(token), now);
        } else if let Some(peer) = self.peers.get_mut(number) {
            peer.revoking.push((token, waits));
        }
    }

    /// A revocation is complete: endpoints that waited for it go on.
    pub(super) fn end_revocation_for_peers(&mut self, token: Token, now: Now) {
        for number in 0..self.peers.len() {
            let Some(peer) = self.peers.get_mut(number) else { continue };
            for (_, waits) in &mut peer.revoking {
                waits.remove(&token);
            }
            let done: Vec<failover::Token> =
                peer.revoking.extract_if(.., |(_, waits)| waits.is_empty()).map(|(token, _)| token).collect();
            for token in done {
                self.tell_peer(number, failover::Input::Revoked(token), now);
            }
        }
    }

    /// Horizons of armed leases whose potential expiry has moved: further once the record is durable.
    fn move_horizons(&mut self, addresses: &[Ipv4Addr], now: Now) {
        let mut horizons = Vec::new();
        let mut rests_on = JournalSeq(0);
        for address in addresses {
            if !self.promises.is_armed(*address) || self.promises.revocation_of(*address).is_some() {
                continue;
            }
            if let Some(lease) = self.table.get(*address).filter(|lease| lease.state == BindingState::Active) {
                horizons.push((*address, self.horizon(&lease, now)));
                rests_on = rests_on.max(self.record_of(*address));
            }
        }
        if !horizons.is_empty() && !self.is_stopping {
            self.gate.hold(rests_on, Effect::Extend(horizons), &mut self.effects);
        }
    }

    /// A client, or the kernel for it, changed a lease that is shared with a partner: marks it, and remembers to tell.
    /// The number of the partner, if there is one.
    pub(super) fn stamp(&self, lease: &mut Lease) -> Option<usize> {
        let number = self.config.pool(self.config.pool_of(lease.address)?).failover?.0;
        let peer = self.peers.get(number)?;
        let mut binding = failover::Binding::from(&*lease);
        match self.table.get(lease.address) {
            Some(before) => peer.endpoint.stamp_after(&failover::Binding::from(&before), &mut binding),
            None => peer.endpoint.stamp(&mut binding),
        }
        lease.tstp = binding.told_partner;
        lease.atsfp = binding.acked_partner;
        lease.rewind_state = binding.rewind;
        Some(number)
    }

    /// Tells the endpoints what has changed since they were told last.
    pub(super) fn tell_changes(&mut self, now: Now) {
        while !self.changed.is_empty() {
            let changed = std::mem::take(&mut self.changed);
            for number in 0..self.peers.len() {
                let own = changed.iter().filter(|(of, ..)| *of == number);
                let seq = own.clone().map(|(.., seq)| seq.0).max().unwrap_or_default();
                let addresses: Vec<Ipv4Addr> = own.map(|(_, address, _)| *address).collect();
                if !addresses.is_empty() {
                    self.tell_peer(number, failover::Input::Changed(&addresses, Seq(seq)), now);
                }
            }
        }
    }

    /// The journal has reached this record.
    pub(super) fn tell_durable(&mut self, now: Now) {
        let (_, durable) = self.gate.seqs();
        for number in 0..self.peers.len() {
            self.tell_peer(number, failover::Input::Durable(Seq(durable.0)), now);
        }
    }

    /// Timers of endpoints that have come.
    pub(super) fn poll_peers(&mut self, now: Now) {
        for number in 0..self.peers.len() {
            let due = self.peers.get(number).and_then(|peer| peer.endpoint.poll_timeout(now));
            if due.is_some_and(|at| at <= now.boot) {
                self.tell_peer(number, failover::Input::Timeout, now);
            }
        }
    }

    /// When the first timer of an endpoint comes.
    pub(super) fn next_peer_timeout(&self) -> Option<BootTime> {
        if self.is_stopping {
            return None;
        }
        self.peers.iter().filter_map(|peer| peer.endpoint.poll_timeout(self.clock)).min()
    }

    /// The time of these leases has come; their endpoints decide.
    pub(super) fn tell_due(&mut self, due: &[(usize, Ipv4Addr)], now: Now) {
        for number in 0..self.peers.len() {
            let addresses: Vec<Ipv4Addr> =
                due.iter().filter(|(of, _)| *of == number).map(|(_, address)| *address).collect();
            if !addresses.is_empty() {
                self.tell_peer(number, failover::Input::Due(&addresses), now);
            }
        }
    }

    /// Number of the partner that shares a pool.
    pub(super) fn peer_number(&self, pool: Option<PoolId>) -> Option<usize> {
        self.config.pool(pool?).failover.map(|peer| peer.0).filter(|number| *number < self.peers.len())
    }

    /// Number of the relationship with this name, or of the only one.
    ///
    /// # Errors
    ///
    /// A sentence for the operator.
    pub fn find_peer(&self, name: Option<&str>) -> Result<usize, String> {
        let names = || self.peers.iter().map(|peer| &*peer.name).collect::<Vec<_>>().join(", ");
        match name {
            Some(name) => self.peers.iter().position(|peer| &*peer.name == name).ok_or_else(|| {
                if self.peers.is_empty() {
                    "this server has no failover peer".to_owned()
                } else {
                    format!("no failover peer is called {name}; there is: {}", names())
                }
            }),
            None => match self.peers.len() {
                0 => Err("this server has no failover peer".to_owned()),
                1 => Ok(0),
                _ => Err(format!("which failover peer? --peer NAME, one of: {}", names())),
            },
        }
    }

    /// Whether an operator's command can be followed now.
    ///
    /// # Errors
    ///
    /// Why not, for the operator.
    pub fn may(&self, peer: usize, command: failover::Command) -> Result<(), String> {
        let peer = self.peers.get(peer).ok_or("no such failover peer")?;
        peer.endpoint.may(command).map_err(str::to_owned)
    }

    /// What bounds a running lease that is shared with a partner: up to when the partner knows of it, and up to when this
    /// server may extend it now; `None` for every other lease.
    #[must_use]
    pub fn bound(&self, lease: &Lease, now: Now) -> Option<(WallTime, Option<WallTime>)> {
        let peer = self.peers.get(self.peer_number(self.config.pool_of(lease.address))?)?;
        let agreed = Peer::agreed(lease);
        (lease.state == BindingState::Active).then(|| (agreed, peer.endpoint.extendable_until(agreed, now.wall)))
    }

    /// Lets every relationship look at its leases; a slice each at once, the rest by and by.
    pub(super) fn survey(&mut self, now: Now) {
        for number in 0..self.peers.len() {
            self.tell_peer(number, failover::Input::Survey, now);
        }
    }

    /// Whether a relationship is looking at its leases.
    #[must_use]
    pub fn is_surveying(&self) -> bool {
        self.peers.iter().any(|peer| peer.endpoint.is_surveying())
    }

    /// A picture of every relationship for humans, with what the last survey has found. Looks at no lease.
    pub fn failover_status(&mut self, now: Now) -> Vec<failover::Status> {
        (0..self.peers.len())
            .filter_map(|number| self.with_shelf(number, |endpoint, shelf| endpoint.status(shelf, now)))
            .collect()
    }
}
