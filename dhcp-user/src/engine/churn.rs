//! Visitors: who invents a hardware address for each network does not come back for the lease it had.
//!
//! All of it is off unless configured: a lease curve for randomised addresses (`xdhcpd-random-mac-lease`), offers that
//! nobody takes up in a pool that is nearly full (`xdhcpd-reclaim-threshold`), and clients that can do without an
//! address (`xdhcpd-ipv6-only`, RFC 8925).

use std::{fmt, net::Ipv4Addr};

use dhcp_ebpf::wire::{
    dhcp::{HwAddr, MessageType},
    option::code,
};

use crate::{
    config::{Config, Evaluation, Param, SharedNetworkId, Variables},
    lease::{BindingState, Lease, time::Now},
};

use super::{
    Outcome, Server,
    compose::{self, Kind, Subject},
    grant::Target,
    port::{JournalSeq, Level},
    request::Request,
    status::{Easing, Sent},
};

/// Bits of the first octet of a MAC: a group, and locally administered (IEEE 802).
const GROUP: u8 = 0x01;
const LOCAL: u8 = 0x02;

/// Whether a hardware address was made up by its owner: an individual, locally administered Ethernet address.
#[must_use]
pub fn is_random(hw: &HwAddr) -> bool {
    hw.mac().is_some_and(|[first, ..]| first & (GROUP | LOCAL) == LOCAL)
}

/// The longest lease that a client with a randomised address gets at this fill of the pool (used, all), if its scope
/// has a curve.
pub(crate) fn curve_at(evaluation: &Evaluation, fill: Option<(u64, u64)>) -> Option<u32> {
    let curve = evaluation.param(Param::XdhcpdRandomMacLease)?;
    let (used, total) = fill.unwrap_or((0, 1));
    let percent = used.saturating_mul(100).checked_div(total).unwrap_or(0);
    steps(curve).take_while(|(from, _)| u64::from(*from) <= percent).last().map(|(_, secs)| secs)
}

/// Whether the lease time of this client moves with the fill of its pool.
pub(crate) fn moves_with_fill(evaluation: &Evaluation, hw: &HwAddr) -> bool {
    is_random(hw) && evaluation.param(Param::XdhcpdRandomMacLease).is_some_and(|curve| steps(curve).count() > 1)
}

fn steps(curve: &[u8]) -> impl Iterator<Item = (u8, u32)> + '_ {
    curve.chunks_exact(5).filter_map(|step| {
        let (percent, secs) = step.split_first()?;
        Some((*percent, u32::from_be_bytes(secs.try_into().ok()?)))
    })
}

/// Whether the client says that it can do without an address, and the network is one where it can (RFC 8925 3.3).
pub(crate) fn can_do_without(evaluation: &Evaluation, request: &Request<'_>) -> bool {
    evaluation.flag_or_default(Param::XdhcpdIpv6Only)
        && evaluation.option(code::V6_ONLY_PREFERRED).is_some()
        && request.options.get(code::PARAMETER_REQUEST_LIST).is_some_and(|list| list.contains(&code::V6_ONLY_PREFERRED))
}

impl Server {
    /// When nothing is left to give: the address that was offered longest ago and not taken up, where its pool is so full
    /// that this is wanted. Whoever was offered it may still ask for it, and gets it if nobody was quicker.
    pub(super) fn reclaim_offer(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        network: SharedNetworkId,
        is_known: bool,
        now: Now,
    ) -> Option<Lease> {
        let lease = self.search(config, now).silent_offer(request, network, is_known)?;
        if self.probes.is_probing(lease.address) || lease.state == BindingState::Abandoned {
            return None;
        }
        let pool = config.pool_of(lease.address)?;
        let variables = Variables::new();
        let subject = Subject {
            subnet: config.subnet_of(lease.address),
            pool: Some(pool),
            address: Some(lease.address),
            is_known,
            ..super::packet::nobody(&variables)
        };
        let evaluation = compose::evaluate(config, request, &subject, now.wall);
        let threshold = u64::from(evaluation.secs(Param::XdhcpdReclaimThreshold).filter(|threshold| *threshold != 0)?);
        let (used, total) = self.fill(pool);
        if used.saturating_mul(100) < total.saturating_mul(threshold) {
            return None;
        }
        self.storm.add(Easing::OfferReclaimed);
        Some(lease)
    }

    /// An offer to a client that can do without an address, when there is none: the address zero says so
    /// (RFC 8925 3.3).
    pub(super) fn offer_nothing(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        network: SharedNetworkId,
        line: &dyn fmt::Display,
        now: Now,
    ) -> Option<Outcome> {
        let network = config.shared_network(network);
        let target = Target {
            address: Ipv4Addr::UNSPECIFIED,
            subnet: network.subnets.first().copied(),
            pool: network.pools.first().copied(),
            host: None,
            is_known: false,
            lease: None,
        };
        let terms = self.terms(config, request, &target, now).ok()?;
        if !can_do_without(&terms.evaluation, request) {
            return None;
        }
        let subject = target.subject(&terms.variables, now.wall);
        let kind = Kind::Lease(MessageType::Offer, terms.want);
        let composed = compose::compose(config, request, &terms.evaluation, &subject, kind).ok()?;
        self.log(Level::Info, line);
        self.log(Level::Info, format_args!("DHCPOFFER on 0.0.0.0 to {} via {}", request.who(), request.via()));
        self.reply(config, request, &target, &composed, false, JournalSeq(0));
        self.sent.add(Sent::OfferIpv6Only);
        Some(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_randomised_address_is_local_and_no_group() {
        let with = |first| HwAddr::ethernet([first, 0, 0, 0, 0, 1]);
        assert!(is_random(&with(0x02)) && is_random(&with(0xda)) && is_random(&with(0xfe)));
        assert!(!is_random(&with(0x00)) && !is_random(&with(0x03)) && !is_random(&with(0x01)));
        assert!(!HwAddr::new(32, &[2; 16]).is_some_and(|hw| is_random(&hw)), "not Ethernet");
    }
}
