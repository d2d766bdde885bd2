//! The linter that thinks in client seconds: what a valid configuration will do to the people behind it.
//!
//! Each finding names the statement it comes from. Nothing here is an error: the configuration works, and somebody may
//! have wanted it like this.

use std::net::Ipv4Addr;

use super::classify::Membership;
use super::context::{Context, ReceivedOptions, Variables};
use super::diagnostic::{Diagnostic, Severity};
use super::evaluate::{Chain, Evaluation};
use super::ids::PoolId;
use super::model::{PermitKind, Pool, Role};
pub use super::pair::lint_pair;
use super::param::Param;
use super::span::Span;
use super::{Config, SharedNetworkId};

/// What the linter is told of the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crowd {
    /// Clients present at the same time; 0 = not known.
    pub clients: u64,
    /// New clients per hour; 0 = not known.
    pub arrivals_per_hour: u64,
}

/// What a pool means for its clients.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolForecast {
    /// The pool.
    pub pool: PoolId,
    /// Addresses.
    pub addresses: u64,
    /// First lease of a new client, in seconds.
    pub first_lease_secs: u32,
    /// Every later lease, in seconds.
    pub lease_secs: u32,
    /// Renewals per second with the crowd, thousandths.
    pub renewals_per_sec_milli: u64,
    /// Seconds until the pool is empty at the arrival rate; `None` = never, or the rate is not known.
    pub exhausted_after_secs: Option<u64>,
    /// Whether the answer of a plain client may be armed in the kernel.
    pub may_be_armed: bool,
    /// Requests that the kernel answers, in thousandths of all, with the crowd; `None` = there is no crowd.
    pub kernel_share_milli: Option<u64>,
}

/// Findings and forecasts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lint {
    /// Findings, in the order of the text.
    pub findings: Vec<Diagnostic>,
    /// One forecast per pool.
    pub forecasts: Vec<PoolForecast>,
}

/// Looks at a valid configuration; `own` are the addresses of this machine's interfaces, as far as they are known.
#[must_use]
pub fn lint(config: &Config, crowd: Crowd, own: &[(String, Ipv4Addr)]) -> Lint {
    let mut linter = Linter { config, own, lint: Lint::default() };
    for place in 0..config.pools.len() {
        linter.pool(PoolId(place), crowd);
    }
    linter.mixed_pools();
    linter.lint.findings.sort_by_key(|one| one.span);
    linter.lint
}

pub(super) fn finding(span: Span, message: impl Into<String>, label: impl Into<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        message: message.into(),
        span,
        label: label.into(),
        notes: Vec::new(),
        other: None,
    }
}

/// What a plain client is told at an address; `None` outside every subnet.
#[must_use]
pub fn evaluate_at(config: &Config, address: Ipv4Addr) -> Option<Evaluation> {
    let subnet = config.subnet_of(address)?;
    let options = ReceivedOptions::default();
    let variables = Variables::new();
    let context = Context { leased_address: Some(address), ..Context::nothing(&options, &variables) };
    let membership = Membership::none();
    let chain = Chain {
        network: Some(config.subnet(subnet).shared_network),
        subnet: Some(subnet),
        pool: config.pool_of(address),
        membership: &membership,
        host: None,
    };
    Some(config.evaluate(&chain, &context))
}

struct Linter<'c> {
    config: &'c Config,
    own: &'c [(String, Ipv4Addr)],
    lint: Lint,
}

impl Linter<'_> {
    fn add(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        self.lint.findings.push(finding(span, message, label));
    }

    fn pool(&mut self, id: PoolId, crowd: Crowd) {
        let config = self.config;
        let pool = config.pool(id);
        let Some(first) = pool.ranges.first().map(|range| range.first) else {
            return;
        };
        let Some(evaluation) = evaluate_at(config, first) else {
            return;
        };
        let lease = self.lease_time(pool, &evaluation);
        let peer = pool.failover.map(|peer| config.failover_peer(peer));
        let first_lease = match peer {
            Some(peer) if peer.role == Role::Primary && peer.mclt > 0 => lease.min(peer.mclt),
            Some(_) | None => lease,
        };
        if let Some(peer) = peer.filter(|_| first_lease < 60) {
            self.add(
                peer.span,
                format!(
                    "a new client of this pool gets {first_lease} s first, and must ask again after {} s",
                    first_lease / 2
                ),
                "`mclt` is the length of every first lease",
            );
        }
        if evaluation.flag_or_default(Param::PingCheck) {
            let wait = evaluation.secs_or_default(Param::PingTimeoutMs);
            let wait =
                if wait > 0 { wait } else { evaluation.secs_or_default(Param::PingTimeout).saturating_mul(1000) };
            let origin = evaluation.param_origin(Param::PingCheck).unwrap_or(pool.span);
            self.add(
                origin,
                format!("every new client waits {wait} ms for a ping that nobody answers"),
                "`ping-check off;`",
            );
        }
        let admits_bootp = config.permits(id, &Membership::none(), false, true, 0).allowed;
        if admits_bootp && evaluation.flag_or_default(Param::AllowBootp) && !pool.is_implicit {
            self.add(
                pool.span,
                "a BOOTP client takes an address of this pool for ever",
                "`deny dynamic bootp clients;`",
            );
        }
        self.ranges(pool, &evaluation);
        if let Some(default) = evaluation.secs(Param::DefaultLeaseTime)
            && let Some(max) = evaluation.secs(Param::MaxLeaseTime)
            && default > max
            && let Some(origin) = evaluation.param_origin(Param::DefaultLeaseTime)
        {
            self.add(origin, format!("`default-lease-time` is cut to `max-lease-time`, {max} s"), "");
        }
        if evaluation.depends.is_anything() {
            let what = if evaluation.depends.hooks {
                "`on commit` or `execute` runs"
            } else {
                "it depends on more than the question"
            };
            self.add(pool.span, "renewals of this pool are never answered by the kernel", what);
        }
        // A client renews at half of its lease (RFC 2131 4.4.5).
        let addresses = pool.address_count();
        let clients = crowd.clients.min(addresses);
        let renewals_per_sec_milli = clients.saturating_mul(2000).checked_div(u64::from(lease)).unwrap_or(0);
        // Each arrival holds its address for one lease: when more arrive in that time than there are addresses, it fills.
        let arrivals = crowd.arrivals_per_hour;
        let held = arrivals.saturating_mul(u64::from(lease)) / 3600;
        let exhausted_after_secs =
            if held > addresses { addresses.saturating_mul(3600).checked_div(arrivals) } else { None };
        if let Some(secs) = exhausted_after_secs {
            let span = pool.ranges.first().map_or(pool.span, |range| range.span);
            self.add(span, format!("with {arrivals} new clients per hour the pool is empty after {secs} s"), "");
        }
        // An arrival costs the agent a DISCOVER, a REQUEST, and with a partner the renewal of the short first lease.
        let per_arrival = if first_lease < lease { 3000 } else { 2000 };
        let by_agent = arrivals.saturating_mul(per_arrival) / 3600;
        let may_be_armed = !evaluation.depends.is_anything();
        let by_kernel = if may_be_armed { renewals_per_sec_milli } else { 0 };
        let all = renewals_per_sec_milli.saturating_add(by_agent);
        let kernel_share_milli = by_kernel.saturating_mul(1000).checked_div(all);
        self.lint.forecasts.push(PoolForecast {
            pool: id,
            addresses,
            first_lease_secs: first_lease,
            lease_secs: lease,
            renewals_per_sec_milli,
            exhausted_after_secs,
            may_be_armed,
            kernel_share_milli,
        });
    }

    /// The lease of a client that does not ask for a time (reference 4.1), with a word about `min-lease-time`.
    fn lease_time(&mut self, pool: &Pool, evaluation: &Evaluation) -> u32 {
        let max = evaluation.secs_or_default(Param::MaxLeaseTime);
        let min = evaluation.secs(Param::MinLeaseTime).unwrap_or_else(|| max.min(300));
        let default = evaluation.secs_or_default(Param::DefaultLeaseTime);
        let lease = default.min(max);
        if lease < min {
            let origin = evaluation.param_origin(Param::DefaultLeaseTime).unwrap_or(pool.span);
            let why = if evaluation.secs(Param::MinLeaseTime).is_some() {
                "`min-lease-time`"
            } else {
                "the default `min-lease-time`"
            };
            self.add(origin, format!("clients get {min} s, not {lease} s"), format!("{why} is {min} s"));
        }
        lease.max(min)
    }

    /// Addresses that belong to somebody else.
    fn ranges(&mut self, pool: &Pool, evaluation: &Evaluation) {
        let config = self.config;
        let address_list = |code| -> Vec<Ipv4Addr> {
            let bytes: &[u8] = evaluation.option(code).unwrap_or_default();
            bytes
                .chunks_exact(4)
                .filter_map(|octets| octets.first_chunk::<4>())
                .map(|octets| Ipv4Addr::from(*octets))
                .collect()
        };
        let (routers, broadcast) = (address_list(3), address_list(28));
        let names = address_list(6);
        let boot: Vec<Ipv4Addr> = evaluation.address(Param::NextServer).into_iter().collect();
        let servers: Vec<Ipv4Addr> = config
            .failover_peers
            .iter()
            .flat_map(|peer| [&peer.address, &peer.peer_address])
            .flatten()
            .filter_map(|address| config.address(address))
            .chain(address_list(54))
            .collect();
        for range in &pool.ranges {
            for (what, addresses) in [
                ("router", &routers),
                ("server", &servers),
                ("broadcast address", &broadcast),
                ("domain name server", &names),
                ("next server", &boot),
            ] {
                if let Some(bad) = addresses.iter().find(|address| range.contains(**address)) {
                    self.add(
                        range.span,
                        format!("the range contains the {what} {bad}"),
                        "it would be leased to a client",
                    );
                }
            }
            // What the configuration calls the server has been named.
            let is_new = |address: &Ipv4Addr| range.contains(*address) && !servers.contains(address);
            if let Some((interface, bad)) = self.own.iter().find(|(_, address)| is_new(address)) {
                self.add(
                    range.span,
                    format!("the range contains {bad}, the address of {interface} on this machine"),
                    "it would be leased to a client",
                );
            }
            let Some(subnet) = config.subnet_of(range.first).map(|id| config.subnet(id)) else {
                continue;
            };
            let last = Ipv4Addr::from_bits(subnet.net.to_bits() | !subnet.mask.to_bits());
            if subnet.prefix_len() < 31 && (range.contains(subnet.net) || range.contains(last)) {
                self.add(range.span, "the range contains the network or the broadcast address of its subnet", "");
            }
        }
    }

    /// Pools with a partner beside pools without one on the same network.
    fn mixed_pools(&mut self) {
        let config = self.config;
        for place in 0..config.shared_networks.len() {
            let network = config.shared_network(SharedNetworkId(place));
            let pools: Vec<&Pool> = network.pools.iter().map(|id| config.pool(*id)).collect();
            if !pools.iter().any(|pool| pool.failover.is_some()) {
                continue;
            }
            for pool in pools.iter().filter(|pool| pool.failover.is_none()) {
                let who = pool.deny.iter().any(|permit| permit.kind == PermitKind::AllClients);
                if !who {
                    self.add(
                        pool.span,
                        "this pool has no failover peer, and others of its network have one",
                        "only this server can renew its leases",
                    );
                }
            }
        }
    }
}
