//! INFORM: options for a client that has an address (dhcpd: 11.6 of the reference; RFC 2131 4.3.5).

use std::net::Ipv4Addr;

use crate::{
    config::{Config, HostId, Variables},
    lease::time::Now,
};

use super::{
    Outcome, Server,
    compose::{self, Kind, Subject},
    grant::Target,
    limits::INFORM_LOG_INTERVAL,
    port::{JournalSeq, Level},
    request::{self, Request},
    route,
    status::{Reason, Sent},
};

impl Server {
    /// RFC 2131 3.4 #inform-looks-for-no-lease
    /// INFORM: no lease is looked for, none is changed.
    pub(super) fn handle_inform(&mut self, config: &Config, request: &Request<'_>, now: Now) -> Outcome {
        let source = *request.received.source.ip();
        let address = request.ciaddr().unwrap_or(source);
        if address.is_unspecified() {
            return Outcome::Ignored(Reason::InformWithoutAddress);
        }
        let line = format!("DHCPINFORM from {address} via {}", request.via());
        let place = request::selected_link(&request.options)
            .or_else(|| request.giaddr().filter(|_| request.ciaddr().is_none()))
            .unwrap_or(address);
        let Some(subnet) = config.subnet_of(place) else {
            self.log(Level::Info, format!("{line}: unknown subnet for address {place}"));
            return Outcome::Ignored(Reason::UnknownNetwork);
        };
        if !config.subnet(subnet).authoritative {
            if self.informs_unanswered.is_multiple_of(INFORM_LOG_INTERVAL) {
                self.log(Level::Info, format!("{line}: not authoritative for subnet {}", config.subnet(subnet).net));
            }
            self.informs_unanswered = self.informs_unanswered.wrapping_add(1);
            return Outcome::Ignored(Reason::NotAuthoritative);
        }
        // dhcpd: the pool of the address, leased or not.
        let pool = request.ciaddr().and_then(|ciaddr| config.pool_of(ciaddr));
        let host = informed_host(config, request, address);
        let variables = Variables::new();
        let subject = Subject {
            subnet: Some(subnet),
            pool,
            host,
            address: Some(address),
            is_static: false,
            is_known: host.is_some(),
            lease_time: None,
            variables: &variables,
        };
        let evaluation = compose::evaluate(config, request, &subject, now.wall);
        self.run_side_effects(&evaluation, JournalSeq(0));
        let mut composed = match compose::compose(config, request, &evaluation, &subject, Kind::Inform) {
            Ok(composed) => composed,
            Err(reason) => return Outcome::Ignored(reason),
        };
        let target = Target { address, subnet: Some(subnet), pool, host, is_known: host.is_some(), lease: None };
        self.tell(Some(&target), &evaluation, Some(&composed), None);
        let to = route::destination_of_inform(request, address, &self.ports);
        if request.giaddr().is_some() && request.ciaddr().is_none() {
            let flags = u16::from_be_bytes(composed.flags) | dhcp_ebpf::wire::dhcp::FLAG_BROADCAST;
            composed.flags = flags.to_be_bytes();
        }
        let message = composed.write(request, request.header.ciaddr, Ipv4Addr::UNSPECIFIED);
        self.log(Level::Info, line);
        self.log(Level::Info, format!("DHCPACK to {address} ({}) via {}", request.hw, request.via()));
        self.send(JournalSeq(0), to, composed.source, message);
        self.sent.add(Sent::AckInform);
        Outcome::Done
    }
}

/// The host declaration of a client that asks: identity with this address first, then identity without one (dhcpd).
fn informed_host(config: &Config, request: &Request<'_>, address: Ipv4Addr) -> Option<HostId> {
    let by_id = request.client_id().map_or(&[][..], |id| config.hosts_by_client_id(id));
    let by_hw = config.hosts_by_hw(&request.hw);
    let with_address =
        |hosts: &[HostId]| hosts.iter().copied().find(|host| config.fixed_addresses(*host).contains(&address));
    let without = |hosts: &[HostId]| hosts.iter().copied().find(|host| config.host(*host).fixed_addresses.is_empty());
    with_address(by_id).or_else(|| with_address(by_hw)).or_else(|| without(by_id)).or_else(|| without(by_hw))
}
