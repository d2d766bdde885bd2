//! Conflict probes before an OFFER (dhcpd: `ping-check`): asynchronous, bounded, nobody else waits.

use std::{
    collections::{BTreeMap, HashSet},
    net::Ipv4Addr,
};

use crate::lease::time::{BootTime, Now};

use super::{
    Server,
    limits::PROBES_COUNT_MAX,
    port::{Effect, Token},
    promise::Parked,
    request::Request,
    status::Reason,
};

/// Probes under way, each with the DISCOVER that waits for it.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    waiting: BTreeMap<Token, (Ipv4Addr, Parked)>,
    addresses: HashSet<Ipv4Addr>,
}

impl Probes {
    /// Whether an address is being probed.
    pub(crate) fn is_probing(&self, address: Ipv4Addr) -> bool {
        self.addresses.contains(&address)
    }
}

impl Server {
    /// Asks whether somebody uses an address; `false` when too many are asked already.
    pub(super) fn probe(&mut self, request: &Request<'_>, address: Ipv4Addr, until: BootTime) -> bool {
        if self.probes.waiting.len() >= PROBES_COUNT_MAX {
            return false;
        }
        let token = self.draw_token();
        let parked = Parked::new(&request.received, Some(address));
        self.probes.waiting.insert(token, (address, parked));
        self.probes.addresses.insert(address);
        let interface = request.giaddr().is_none().then(|| request.interface());
        self.effects.push_back(Effect::Probe { token, address, interface, until });
        true
    }

    /// A probe has ended: the DISCOVER that waited for it goes on, with this address or with the next.
    pub(super) fn handle_probed(&mut self, token: Token, is_in_use: bool, now: Now) {
        let Some((address, mut parked)) = self.probes.waiting.remove(&token) else { return };
        self.probes.addresses.remove(&address);
        if is_in_use {
            self.ignored.add(Reason::AddressInUse);
            parked.probed = None;
            if let Some(lease) = self.table.get(address)
                && lease.state != crate::lease::BindingState::Active
            {
                self.abandon(lease, "pinged before offer", now);
            }
        }
        self.handle_parked(&parked, now);
    }
}
