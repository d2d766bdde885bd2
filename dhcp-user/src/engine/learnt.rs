//! Leases that only the partner has granted are armed here too: the kernel of either server renews and rebinds every
//! client the moment the other one dies.
//!
//! A partner of ours tells the client's question with the lease. The answer is this server's own; the promise is what the
//! partner said it may promise (design 4).

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::{
    dhcp::{COOKIE, HTYPE_ETHERNET, OPTIONS_AT},
    option::code,
};

use crate::lease::{BindingState, Lease, time::Now};

use super::{
    Server,
    extra::Asked,
    foresee::{Foreseen, strip},
    port::Received,
    promise::{Armed, Place},
    request::Request,
    status::NotArmed,
};

/// Longest question that is kept for the partner, in bytes.
const ASKED_LEN_MAX: usize = 1024;

impl Server {
    /// Keeps what a client of a shared pool asked, for its partner. What it asks first says most: it names its address by
    /// option 50.
    pub(super) fn note_asked(&mut self, request: &Request<'_>, address: Ipv4Addr) {
        if self.peer_number(self.config.pool_of(address)).is_none()
            || (request.ciaddr().is_some() && self.asked.contains_key(&address))
        {
            return;
        }
        let options = strip(request.option_bytes(), &[code::SERVER_IDENTIFIER]);
        if options.len() <= ASKED_LEN_MAX {
            let giaddr = request.giaddr().unwrap_or(Ipv4Addr::UNSPECIFIED);
            let asked = Asked { giaddr, vlan: request.received.vlan, options: options.into() };
            self.asked.insert(address, asked);
        }
    }

    /// Arms a lease of the partner's with what its client asked there.
    pub(super) fn arm_learnt(&mut self, address: Ipv4Addr, now: Now) {
        let Some(asked) = self.asked.get(&address).cloned() else { return };
        let Some(lease) = self.table.get(address).filter(|lease| lease.state == BindingState::Active) else { return };
        if !self.options.fast_path
            || self.is_stopping
            || self.gate.failure().is_some()
            || self.promises.revocation_of(address).is_some()
            // Armed by what the client sent here; or by another card, which is revoked first when it comes.
            || self.promises.is_armed(address)
        {
            return;
        }
        if let Err(reason) = self.try_arm_learnt(&lease, &asked, now) {
            self.not_armed.add(reason);
        }
    }

    fn try_arm_learnt(&mut self, lease: &Lease, asked: &Asked, now: Now) -> Result<(), NotArmed> {
        let config = std::sync::Arc::clone(&self.config);
        let hw = lease.hw.filter(|hw| hw.htype() == HTYPE_ETHERNET).ok_or(NotArmed::Hardware)?;
        let chaddr = hw.mac().ok_or(NotArmed::Hardware)?;
        let network = config.subnet_of(lease.address).map(|subnet| config.subnet(subnet).shared_network);
        // A relayed client may come in anywhere; if it is elsewhere, its question differs and goes up.
        let attached = self.interfaces.iter().find(|(_, of)| *of == network).or_else(|| self.interfaces.first());
        let interface = attached.map(|(interface, _)| std::sync::Arc::clone(interface)).ok_or(NotArmed::NoAnswer)?;

        let mut message = vec![0; OPTIONS_AT];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = message.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &[1, HTYPE_ETHERNET, chaddr.len() as u8]);
        put(24, &asked.giaddr.octets());
        put(28, &chaddr);
        put(OPTIONS_AT - COOKIE.len(), &COOKIE);
        message.extend_from_slice(&asked.options);
        let received = Received {
            interface: interface.index,
            vlan: asked.vlan,
            source: std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            destination: Ipv4Addr::BROADCAST,
            message: &message,
        };
        let request = Request::parse(received, &interface).map_err(|_| NotArmed::NoAnswer)?;
        let mut armed = Armed { chaddr, questions: [None, None, None], shapes: [None, None, None] };
        let renewal = strip(request.option_bytes(), &[code::REQUESTED_ADDRESS, code::RELAY_AGENT]);
        let (answered, shape) = self.predict(&config, &request, lease, &renewal, Foreseen::Renewal, now)?;
        armed.put(Place::Renewal, answered, shape);
        if request.requested().is_some() {
            let bytes = request.option_bytes().to_vec();
            let (answered, shape) = self.predict(&config, &request, lease, &bytes, Foreseen::Reboot, now)?;
            armed.put(Place::Reboot, answered, shape);
        }
        let seq = self.record_of(lease.address);
        self.arm(lease, armed, seq, now);
        Ok(())
    }
}
