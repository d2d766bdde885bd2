//! Which address a client gets (dhcpd: find_lease and allocate_lease; 11.1 of the reference).
//!
//! Nothing is changed here: what would have to be taken from the client or from another lease is listed, so that
//! the caller can revoke it first.

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::MessageType;

use crate::{
    config::{Config, HostId, PoolId, SharedNetworkId},
    lease::{BindingState, Lease, PoolIndex, Table, time::WallTime},
};

use super::{
    compose,
    limits::{OFFER_HOLD_SECS, OFFER_SILENT_SECS},
    peers::Peer,
    request::Request,
};

/// An address for a client.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// A host declaration's; never in the table, never journaled.
    Static(Ipv4Addr, HostId),
    /// One of a pool's.
    Dynamic(Box<Lease>),
}

impl Choice {
    /// The address.
    pub(crate) fn address(&self) -> Ipv4Addr {
        match self {
            Self::Static(address, _) => *address,
            Self::Dynamic(lease) => lease.address,
        }
    }
}

/// What a search came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// The address, if there is one that the client may have.
    pub(crate) choice: Option<Choice>,
    /// The address asked for is one of ours: if the client cannot have it, it gets a NAK.
    pub(crate) is_ours: bool,
    /// Why there is none, in dhcpd's words; text of a NAK.
    pub(crate) message: &'static str,
    /// Active leases of the client that it gives up by this.
    pub(crate) releases: Vec<Ipv4Addr>,
    /// The address was abandoned, and its client asks for it.
    pub(crate) is_reclaimed: bool,
    /// The client has, or had, an address of the network.
    pub(crate) is_familiar: bool,
}

/// What a search looks at.
pub(crate) struct Search<'s> {
    /// The configuration.
    pub(crate) config: &'s Config,
    /// The leases.
    pub(crate) table: &'s Table,
    /// The partners.
    pub(crate) peers: &'s [Peer],
    /// Now.
    pub(crate) now: WallTime,
}

/// The host declarations that fit a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts {
    /// Some declaration fits.
    pub(crate) is_known: bool,
    /// A declaration with an address on the network.
    pub(crate) fixed: Option<(Ipv4Addr, HostId)>,
    /// The declaration whose options a pool's lease gets: the first without an address.
    pub(crate) options: Option<HostId>,
}

impl Search<'_> {
    /// The partner that shares the pool of a lease.
    pub(crate) fn peer_of(&self, address: Ipv4Addr) -> Option<&Peer> {
        let pool = self.config.pool_of(address)?;
        self.peers.get(self.config.pool(pool).failover?.0)
    }

    /// Looks the host declarations up: client identifier, hardware address, then `host-identifier` (dhcpd).
    pub(crate) fn hosts(&self, request: &Request<'_>, network: Option<SharedNetworkId>) -> Hosts {
        let mut hosts = Hosts::default();
        let by_id = request.client_id().map_or(&[][..], |id| self.config.hosts_by_client_id(id));
        let by_hw = self.config.hosts_by_hw(&request.hw);
        let by_identifier = {
            let variables = crate::config::Variables::new();
            let subject = compose::Subject {
                subnet: None,
                pool: None,
                host: None,
                address: None,
                is_static: false,
                is_known: false,
                lease_time: None,
                variables: &variables,
            };
            self.config.hosts_by_identifier(&compose::context(self.config, request, &subject, self.now))
        };
        let mut has_options_source = false;
        for list in [by_id, by_hw, &by_identifier] {
            if list.is_empty() {
                continue;
            }
            hosts.is_known = true;
            if hosts.fixed.is_none()
                && let Some(network) = network
            {
                hosts.fixed = self.fixed_on(list, network);
            }
            if !has_options_source {
                has_options_source = true;
                hosts.options = list.iter().copied().find(|host| self.config.host(*host).fixed_addresses.is_empty());
            }
            if hosts.fixed.is_some() {
                break;
            }
        }
        hosts
    }

    fn fixed_on(&self, hosts: &[HostId], network: SharedNetworkId) -> Option<(Ipv4Addr, HostId)> {
        hosts.iter().find_map(|host| {
            let address = self.config.fixed_addresses(*host).into_iter().find(|address| {
                self.config
                    .subnet_of(*address)
                    .is_some_and(|subnet| self.config.subnet(subnet).shared_network == network)
            })?;
            Some((address, *host))
        })
    }

    /// Finds the address that the client has, asks for, or had.
    pub(crate) fn find(&self, request: &Request<'_>, network: SharedNetworkId, hosts: &Hosts) -> Found {
        let is_request = request.kind == Some(MessageType::Request);
        let asked = request.ciaddr().or_else(|| request.requested());
        let mut found = Found { message: "requested address not available", ..Found::default() };
        if is_request
            && let Some((address, _)) = hosts.fixed
            && asked != Some(address)
        {
            found.is_ours = true;
            found.message = "requested address is incorrect";
            return found;
        }
        let can_free = request.ciaddr().is_none();
        let uid_lease = self.by_client_id(request, network, hosts.is_known, can_free, &mut found.releases);
        let hw_lease = self.by_hw(request, network, hosts.is_known, can_free, &mut found.releases);
        let mut ip_lease = self.by_address(request, network, asked, hosts.is_known, can_free, &mut found);

        found.is_familiar = uid_lease.is_some() || hw_lease.is_some();
        // dhcpd: of a DISCOVER only. A REQUEST goes on with the address it names: what the client gave back is still its
        // own while the partner knows of nothing else, and what the partner may give is answered by silence, never a NAK.
        if let Some(lease) = &ip_lease
            && !is_request
            && (uid_lease.is_some() || hw_lease.is_some())
            && lease.state != BindingState::Active
            && lease.rewind_state != BindingState::Active
            && let Some(peer) = self.peer_of(lease.address)
            && !peer.is_mine_to_allocate(lease, self.now)
        {
            ip_lease = None;
        }
        if is_request && ip_lease.is_none() && hosts.fixed.is_none() {
            return found;
        }
        let asked_lease = ip_lease.as_ref().map(|lease| lease.address);
        let mut choice = hosts.fixed.map(|(address, host)| Choice::Static(address, host));
        if let Some(lease) = ip_lease {
            if choice.is_some() {
                if can_free {
                    note_release(&lease, request, &mut found.releases);
                }
            } else {
                choice = Some(Choice::Dynamic(Box::new(lease)));
            }
        }
        if let Some(lease) = uid_lease {
            match &choice {
                Some(chosen) if chosen.address() == lease.address => {}
                Some(_) => {
                    if can_free && is_request {
                        note_release(&lease, request, &mut found.releases);
                    }
                }
                None => choice = Some(Choice::Dynamic(Box::new(lease))),
            }
        }
        if let Some(lease) = hw_lease
            && choice.is_none()
            && (lease.client_id.is_none() || has_client_id(&lease, request) || request.kind.is_none())
        {
            choice = Some(Choice::Dynamic(Box::new(lease)));
        }
        if let Some(Choice::Dynamic(lease)) = &choice
            && lease.state == BindingState::Abandoned
        {
            if asked_lease == Some(lease.address) {
                found.is_reclaimed = true;
            } else {
                choice = None;
            }
        }
        found.choice = choice;
        found
    }

    /// The client's best lease by option 61.
    fn by_client_id(
        &self,
        request: &Request<'_>,
        network: SharedNetworkId,
        is_known: bool,
        can_free: bool,
        releases: &mut Vec<Ipv4Addr>,
    ) -> Option<Lease> {
        let id = request.client_id()?;
        for address in self.table.by_client_id(id) {
            let Some(pool) = self.pool_on(address, network) else { continue };
            let Some(lease) = self.table.get(address) else { continue };
            if self.is_permitted(pool, request, is_known) {
                return Some(lease);
            }
            if can_free {
                note_release(&lease, request, releases);
            }
        }
        None
    }

    /// The client's best lease by hardware address that is not another identity's.
    fn by_hw(
        &self,
        request: &Request<'_>,
        network: SharedNetworkId,
        is_known: bool,
        can_free: bool,
        releases: &mut Vec<Ipv4Addr>,
    ) -> Option<Lease> {
        for address in self.table.by_hw(&request.hw) {
            let Some(pool) = self.pool_on(address, network) else { continue };
            let Some(lease) = self.table.get(address) else { continue };
            let is_given_back = matches!(lease.state, BindingState::Free | BindingState::Backup);
            if !is_given_back && lease.client_id.is_some() && !has_client_id(&lease, request) {
                continue;
            }
            if self.is_permitted(pool, request, is_known) {
                return Some(lease);
            }
            if can_free {
                note_release(&lease, request, releases);
            }
        }
        None
    }

    /// The lease of the address asked for, if the client may have it.
    fn by_address(
        &self,
        request: &Request<'_>,
        network: SharedNetworkId,
        asked: Option<Ipv4Addr>,
        is_known: bool,
        can_free: bool,
        found: &mut Found,
    ) -> Option<Lease> {
        let address = asked?;
        let pool = self.config.pool_of(address)?;
        let lease = self.table.get(address)?;
        found.is_ours = true;
        if self.config.pool(pool).shared_network != network {
            found.message = "requested address on bad subnet";
            return None;
        }
        if !is_held_by(&lease, request) {
            let is_free = match self.peer_of(address) {
                Some(_) => matches!(lease.state, BindingState::Free | BindingState::Backup),
                None => lease.state == BindingState::Free,
            };
            let is_offered = self.table.held_until(address).is_some_and(|until| until > self.now);
            if !is_free || (is_offered && request.kind == Some(MessageType::Discover)) {
                found.is_ours = lease.state == BindingState::Active;
                return None;
            }
        }
        if !self.is_permitted(pool, request, is_known) {
            if can_free {
                note_release(&lease, request, &mut found.releases);
            }
            return None;
        }
        Some(lease)
    }

    /// RFC 3527 3 #address-on-the-link, RFC 3527 3 #no-other-link: `network` is the one that the relay selected.
    /// Chooses a new address: the best of the heads of all pools that admit the client. `Err(true)` when the
    /// partner has free addresses.
    pub(crate) fn allocate(
        &self,
        request: &Request<'_>,
        network: SharedNetworkId,
        is_known: bool,
    ) -> Result<Lease, bool> {
        self.allocate_at(request, network, is_known, self.now)
    }

    /// The address that was offered longest ago and not asked for since, if that is some seconds.
    pub(crate) fn silent_offer(
        &self,
        request: &Request<'_>,
        network: SharedNetworkId,
        is_known: bool,
    ) -> Option<Lease> {
        // An address on offer stands in its queue at the end of its time: what ends sooner than a fresh offer would is old.
        let line = self.now.after(OFFER_HOLD_SECS.saturating_sub(OFFER_SILENT_SECS));
        self.allocate_at(request, network, is_known, line).ok()
    }

    fn allocate_at(
        &self,
        request: &Request<'_>,
        network: SharedNetworkId,
        is_known: bool,
        line: WallTime,
    ) -> Result<Lease, bool> {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        let mut abandoned = Vec::new();
        let mut peer_has_leases = false;
        for &pool in &self.config.shared_network(network).pools {
            if !self.is_permitted(pool, request, is_known) {
                continue;
            }
            let index = PoolIndex(pool.0);
            match self.config.pool(pool).failover.and_then(|peer| self.peers.get(peer.0)) {
                None => {
                    ours.push((index, BindingState::Free));
                    abandoned.push((index, BindingState::Abandoned));
                }
                Some(peer) => {
                    let (mine, other) = peer.queues(self.now);
                    ours.push((index, mine));
                    abandoned.push((index, BindingState::Abandoned));
                    if let Some(other) = other {
                        theirs.push((index, other));
                    }
                    peer_has_leases |= self.table.counts(index).of(peer.partner_state()) > 0;
                }
            }
        }
        let mut both = ours.clone();
        both.extend_from_slice(&theirs);
        for queues in [both, ours, abandoned] {
            if let Some(lease) = self.table.choose(&queues, line).and_then(|address| self.table.get(address))
                && self.peer_of(lease.address).is_none_or(|peer| peer.is_mine_to_allocate(&lease, self.now))
            {
                return Ok(lease);
            }
        }
        Err(peer_has_leases)
    }

    /// Whether a partner could answer a new client of this network itself: it has addresses to give (failover.md 6).
    pub(crate) fn has_partner_some(&self, peer: &Peer, network: SharedNetworkId) -> bool {
        let state = peer.partner_state();
        let pools = &self.config.shared_network(network).pools;
        pools.iter().any(|pool| peer.pools.contains(pool) && self.table.counts(PoolIndex(pool.0)).of(state) > 0)
    }

    /// The pool of an address, if it is on the network.
    fn pool_on(&self, address: Ipv4Addr, network: SharedNetworkId) -> Option<PoolId> {
        self.config.pool_of(address).filter(|pool| self.config.pool(*pool).shared_network == network)
    }

    fn is_permitted(&self, pool: PoolId, request: &Request<'_>, is_known: bool) -> bool {
        let is_bootp = request.kind.is_none();
        self.config.permits(pool, &request.membership, is_known, is_bootp, self.now.secs()).allowed
    }
}

/// RFC 2131 4.2 #client-id-identifies, RFC 2131 4.2 #chaddr-identifies, RFC 4361 6.3 #client-id-identifies,
/// RFC 4361 6.4 #chaddr-identifies
/// Whether a lease is this client's: by client identifier if it has one, else by hardware address (dhcpd).
pub(crate) fn is_held_by(lease: &Lease, request: &Request<'_>) -> bool {
    match &lease.client_id {
        Some(_) => has_client_id(lease, request),
        None => lease.hw == Some(request.hw),
    }
}

fn has_client_id(lease: &Lease, request: &Request<'_>) -> bool {
    lease.client_id.is_some() && lease.client_id.as_deref() == request.client_id()
}

/// Lists an active lease of the client that it gives up (dhcpd: release_lease does nothing for others).
fn note_release(lease: &Lease, request: &Request<'_>, releases: &mut Vec<Ipv4Addr>) {
    if lease.state == BindingState::Active && is_held_by(lease, request) && !releases.contains(&lease.address) {
        releases.push(lease.address);
    }
}
