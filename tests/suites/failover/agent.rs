//! As much of a DHCP server as a pair needs: allocate, renew, release, decline, each told to the endpoint.

use std::net::Ipv4Addr;

use dhcp_user::failover::{Binding, BindingState, Input, Leases, Seq};
use dhcp_user::lease::time::WallTime;

use crate::pair::{Node, World};

/// An answer to a client, to be given when its record is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) address: Ipv4Addr,
    pub(crate) secs: u32,
    /// Until when, by the server's clock.
    pub(crate) until: WallTime,
    /// The record it rests on.
    pub(crate) seq: Seq,
}

/// The client identifier of client `n`.
pub(crate) fn client_id(n: u32) -> Vec<u8> {
    [&[0xff][..], &n.to_be_bytes()].concat()
}

pub(crate) fn chaddr(n: u32) -> Vec<u8> {
    [&[1, 2, 0xaa][..], &n.to_be_bytes()].concat()
}

impl Node {
    fn lease_of(&self, client: u32) -> Option<Binding> {
        let id = client_id(client);
        let mut own: Vec<&Binding> = self.store.all().filter(|binding| binding.client_id == id).collect();
        own.sort_by_key(|binding| (binding.state != BindingState::Active, std::cmp::Reverse(binding.ends)));
        own.first().map(|binding| (*binding).clone())
    }
}

impl World {
    /// DISCOVER: the address that would be offered.
    pub(crate) fn discover(&self, node: usize, client: u32, secs: u16) -> Option<Ipv4Addr> {
        let this = &self.nodes[node];
        let endpoint = this.endpoint.as_ref()?;
        let wall = self.now(node).wall;
        if !endpoint.service().is_responding() {
            return None;
        }
        let known = this.lease_of(client).filter(|binding| self.may_have(node, binding, client));
        let address = known.map(|binding| binding.address).or_else(|| {
            let mut best: Option<&Binding> = None;
            for binding in this.store.all() {
                let usable = binding.state != BindingState::Abandoned && endpoint.is_mine_to_allocate(binding, wall);
                if usable && best.is_none_or(|best| binding.ends < best.ends) {
                    best = Some(binding);
                }
            }
            best.map(|binding| binding.address)
        })?;
        let own = endpoint.role().partner_state();
        let has_partner_some = (0..this.store.pool_count()).any(|pool| {
            let mut any = false;
            this.store.visit_allocatable(pool, own, &mut |_| {
                any = true;
                false
            });
            any
        });
        (endpoint.is_my_client(&client_id(client), secs, false) || !has_partner_some).then_some(address)
    }

    /// The head of the own list.
    pub(crate) fn discover_first(&self, node: usize) -> Option<Ipv4Addr> {
        let this = &self.nodes[node];
        let own = this.endpoint.as_ref()?.role().own_state();
        let mut first = None;
        this.store.visit_allocatable(0, own, &mut |binding| {
            first = Some(binding.address);
            false
        });
        first
    }

    /// Whether a REQUEST of this client for this lease is answered with an ACK.
    fn may_have(&self, node: usize, binding: &Binding, client: u32) -> bool {
        let Some(endpoint) = self.nodes[node].endpoint.as_ref() else {
            return false;
        };
        let is_clients = binding.client_id == client_id(client);
        match binding.state {
            BindingState::Active => is_clients,
            BindingState::Expired | BindingState::Released if is_clients && binding.rewind == BindingState::Active => {
                true
            }
            BindingState::Abandoned => false,
            BindingState::Free
            | BindingState::Backup
            | BindingState::Expired
            | BindingState::Released
            | BindingState::Reset => endpoint.is_mine_to_allocate(binding, self.now(node).wall),
        }
    }

    /// REQUEST, whatever the client's state: the ACK, or nothing.
    pub(crate) fn request(&mut self, node: usize, client: u32, address: Ipv4Addr, want: u32) -> Option<Ack> {
        let now = self.now(node);
        let mut binding = self.nodes[node].store.binding(address)?;
        let endpoint = self.nodes[node].endpoint.as_ref()?;
        if !endpoint.service().is_responding() || !self.may_have(node, &binding, client) {
            return None;
        }
        let grant = endpoint.grant(want, binding.from_partner, now.wall);
        let is_same = binding.state == BindingState::Active;
        let before = binding.clone();
        binding.state = BindingState::Active;
        binding.starts = now.wall;
        binding.cltt = now.wall;
        // A shorter answer may get lost: the client then goes on believing the longer one.
        let until = now.wall.after(grant.secs);
        binding.ends = if is_same { until.max(binding.ends) } else { until };
        binding.told_partner = grant.told_partner;
        binding.client_id = client_id(client);
        binding.chaddr = chaddr(client);
        endpoint.stamp_after(&before, &mut binding);
        let seq = self.change(node, binding);
        Some(Ack { address, secs: grant.secs, until, seq })
    }

    /// RELEASE.
    pub(crate) fn release(&mut self, node: usize, client: u32, address: Ipv4Addr) {
        if self.is_up(node) {
            self.disarm(node, address);
        }
        let now = self.now(node);
        let this = &self.nodes[node];
        let Some(endpoint) = this.endpoint.as_ref().filter(|endpoint| endpoint.service().is_responding()) else {
            return;
        };
        let Some(binding) = this.store.binding(address) else {
            return;
        };
        if binding.state == BindingState::Active && binding.client_id == client_id(client) {
            let binding = endpoint.retired(binding, BindingState::Released, now.wall);
            self.change(node, binding);
        }
    }

    /// DECLINE.
    pub(crate) fn decline(&mut self, node: usize, client: u32, address: Ipv4Addr, secs: u32) {
        if self.is_up(node) {
            self.disarm(node, address);
        }
        let now = self.now(node);
        let this = &self.nodes[node];
        let Some(endpoint) = this.endpoint.as_ref().filter(|endpoint| endpoint.service().is_responding()) else {
            return;
        };
        let Some(binding) = this.store.binding(address) else {
            return;
        };
        if binding.state == BindingState::Active && binding.client_id == client_id(client) {
            let binding = endpoint.abandoned(binding, now.wall.after(secs), now.wall);
            self.change(node, binding);
        }
    }

    fn change(&mut self, node: usize, binding: Binding) -> Seq {
        let address = [binding.address];
        let mut stored = Seq::default();
        self.handle(node, |store| {
            stored = store.store(binding);
            Input::Changed(&address, stored)
        });
        stored
    }
}
