//! Shared networks, subnets and ranges (reference section 2).

use std::net::Ipv4Addr;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{Frame, Parsed, Parser, Place, Reported};
use crate::config::ids::{PoolId, SharedNetworkId, SubnetId};
use crate::config::lexer::Kind;
use crate::config::limits::NETMASK_COUNT_MAX;
use crate::config::model::{Permit, PermitKind, Pool, Range, SharedNetwork, Subnet};
use crate::config::span::Span;
use crate::config::statement::ScopeKind;

impl Parser<'_> {
    /// `shared-network NAME { ... }`
    pub(super) fn shared_network(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let name = match self.peek().kind {
            Kind::String => self.quoted("a name")?.0,
            _ => self.dotted_name("a name for the shared-network")?.0,
        };
        if name.is_empty() {
            return self.fail(self.last, "a shared-network needs a name", "this one is empty");
        }
        let span = start.to(self.last);
        // A network that a lone subnet implies has a name, too.
        if let Some(first) = self.network_names.get(&*name).copied() {
            self.warning(span, format!("shared-network `{name}` is declared twice"), "");
            self.other(first, "first declared here");
        } else {
            self.network_names.insert(Self::arc(&name), span);
        }
        let scope = self.new_scope(ScopeKind::SharedNetwork, Some(frame.scope), span);
        self.inherit_authority(scope, frame);
        let id = SharedNetworkId(self.config.shared_networks.len());
        self.config.shared_networks.push(SharedNetwork {
            name: name.as_str().into(),
            is_implicit: false,
            subnets: Vec::new(),
            pools: Vec::new(),
            authoritative: frame.authoritative,
            interface: None,
            span,
            scope,
        });
        let mut inner = Frame { place: Place::SharedNetwork, scope, network: Some(id), ..frame.clone() };
        self.block(&mut inner)?;
        self.finish_scope(scope);
        let Some(network) = self.config.shared_networks.get_mut(id.0) else {
            return Ok(());
        };
        network.authoritative = inner.authoritative;
        if network.subnets.is_empty() {
            return self.fail(span, format!("shared-network `{name}` has no subnet"), "it needs at least one");
        }
        Ok(())
    }

    /// `subnet A netmask B { ... }`
    pub(super) fn subnet(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let (net, net_span) = self.ip()?;
        if self.at(b'/') {
            let span = net_span.to(self.peek_at(1).span);
            return self.fail(span, "expected `netmask`", "write `subnet A netmask B`, not a prefix length");
        }
        self.expect_word("netmask")?;
        let (mask, mask_span) = self.ip()?;
        let span = start.to(mask_span);
        if net.to_bits() & !mask.to_bits() != 0 {
            let wanted = Ipv4Addr::from_bits(net.to_bits() & mask.to_bits());
            self.error(net_span, "subnet number and netmask do not fit", format!("the subnet would be {wanted}"));
        }
        if mask.to_bits().leading_ones() != mask.to_bits().count_ones() {
            self.warning(mask_span, "this netmask has holes", "a netmask is ones, then zeros");
        }
        let net = Ipv4Addr::from_bits(net.to_bits() & mask.to_bits());
        let id = SubnetId(self.config.subnets.len());
        let kind = if frame.network.is_some() { ScopeKind::Subnet } else { ScopeKind::SharedNetwork };
        let scope = self.new_scope(kind, Some(frame.scope), span);
        self.inherit_authority(scope, frame);
        let network = match frame.network {
            Some(network) => network,
            None => {
                // A lone subnet implies a network; both share one list of statements.
                let network = SharedNetworkId(self.config.shared_networks.len());
                let name: Arc<str> = format!("{net}/{}", mask.to_bits().count_ones()).into();
                self.network_names.entry(Arc::clone(&name)).or_insert(span);
                self.config.shared_networks.push(SharedNetwork {
                    name,
                    is_implicit: true,
                    subnets: Vec::new(),
                    pools: Vec::new(),
                    authoritative: frame.authoritative,
                    interface: None,
                    span,
                    scope,
                });
                network
            }
        };
        self.index_subnet(id, network, (net, mask), mask_span)?;
        self.config.subnets.push(Subnet {
            net,
            mask,
            shared_network: network,
            authoritative: frame.authoritative,
            interface: None,
            span,
            scope,
        });
        if let Some(network) = self.config.shared_networks.get_mut(network.0) {
            network.subnets.push(id);
        }
        let mut inner =
            Frame { place: Place::Subnet, scope, network: Some(network), subnet: Some(id), ..frame.clone() };
        let result = self.block(&mut inner);
        self.finish_scope(scope);
        if let Some(subnet) = self.config.subnets.get_mut(id.0) {
            subnet.authoritative = inner.authoritative;
        }
        if let Some(network) = self.config.shared_networks.get_mut(network.0)
            && network.is_implicit
        {
            network.authoritative = inner.authoritative;
        }
        result
    }

    fn index_subnet(
        &mut self,
        id: SubnetId,
        network: SharedNetworkId,
        (net, mask): (Ipv4Addr, Ipv4Addr),
        mask_span: Span,
    ) -> Parsed<()> {
        let known = self.subnets.iter().position(|(known, _)| *known == mask.to_bits());
        if known.is_none() {
            if self.subnets.len() >= NETMASK_COUNT_MAX {
                return self.fail(mask_span, "too many different netmasks", format!("at most {NETMASK_COUNT_MAX}"));
            }
            self.subnets.push((mask.to_bits(), HashMap::new()));
        }
        let place = known.unwrap_or_else(|| self.subnets.len().saturating_sub(1));
        if let Some((_, nets)) = self.subnets.get_mut(place) {
            nets.entry((network, net.to_bits())).or_insert(id);
        }
        Ok(())
    }

    /// `range [dynamic-bootp] A [B];`
    pub(super) fn range(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let is_bootp = self.eat_word("dynamic-bootp");
        let (first, first_span) = self.ip()?;
        if self.at(b'/') {
            let span = first_span.to(self.peek_at(1).span);
            return self.fail(
                span,
                "a range is not written with a prefix length",
                "write the first and the last address",
            );
        }
        let (last, last_span) = if self.at(b';') {
            (first, first_span)
        } else if self.peek().kind == Kind::Number {
            self.ip()?
        } else {
            let place = self.place_of_missing();
            return self.fail(place, "expected the last address of the range, or `;`", "");
        };
        self.semicolon()?;
        let span = start.to(self.last);
        let (low, high) = (first.min(last), first.max(last));
        if first > last {
            self.warning(first_span.to(last_span), "the range ends before it begins", "the two are exchanged");
        }
        let Some(network) = frame.network else {
            return Err(Reported);
        };
        self.check_range(frame, network, (low, first_span), (high, last_span))?;
        let range = Range { first: low, last: high, span };
        let pool = match frame.pool {
            Some(pool) => pool,
            None => self.implicit_pool(network, is_bootp, span),
        };
        let Some(pool) = self.config.pools.get_mut(pool.0) else {
            return Err(Reported);
        };
        pool.ranges.push(range);
        if is_bootp && frame.pool.is_some() {
            self.bootp_ranges.push(span);
        }
        Ok(())
    }

    /// A range lies in one subnet: that of the block, or any of the network for a pool of a shared network.
    fn check_range(
        &mut self,
        frame: &Frame,
        network: SharedNetworkId,
        (low, low_span): (Ipv4Addr, Span),
        (high, high_span): (Ipv4Addr, Span),
    ) -> Parsed<()> {
        // The subnet of the block; or, in a pool of a shared network, whichever subnet of that contains the address.
        let own = frame.subnet.and_then(|id| self.config.subnets.get(id.0));
        let (has_low, has_both) = match own {
            Some(own) => (own.contains(low), own.contains(low) && own.contains(high)),
            None => {
                let mut found = (false, false);
                for (mask, nets) in &self.subnets {
                    if nets.contains_key(&(network, low.to_bits() & mask)) {
                        found = (true, found.1 || high.to_bits() & mask == low.to_bits() & mask);
                    }
                }
                found
            }
        };
        if has_both {
            return Ok(());
        }
        let (bad, span) = if has_low { (high, high_span) } else { (low, low_span) };
        let known = self.config.shared_networks.get(network.0).map_or(&[][..], |network| &network.subnets);
        let only = own.or_else(|| match known {
            [one] => self.config.subnets.get(one.0),
            _ => None,
        });
        let (label, other) = match only {
            Some(one) => (format!("not in subnet {} netmask {}", one.net, one.mask), Some(one.span)),
            None if known.is_empty() => ("a subnet must stand before the pool".to_owned(), None),
            None => ("in no subnet of this shared-network that stands before".to_owned(), None),
        };
        self.error(span, format!("bad range: {bad} is outside of the subnet"), label);
        if let Some(other) = other {
            self.other(other, "the subnet");
        }
        Err(Reported)
    }

    /// The pool that ranges directly in a subnet share: it admits everybody but dynamic BOOTP clients.
    fn implicit_pool(&mut self, network: SharedNetworkId, is_bootp: bool, span: Span) -> PoolId {
        if let Some(same) = self.implicit_pools.get(&(network, is_bootp)) {
            return *same;
        }
        let id = PoolId(self.config.pools.len());
        let parent = self.config.shared_networks.get(network.0).map(|network| network.scope);
        let scope = self.new_scope(ScopeKind::Pool, parent, span);
        self.implicit_pools.insert((network, is_bootp), id);
        let permit = |kind| vec![Permit { kind, span }];
        self.config.pools.push(Pool {
            shared_network: network,
            ranges: Vec::new(),
            allow: if is_bootp { permit(PermitKind::AllClients) } else { Vec::new() },
            deny: if is_bootp { Vec::new() } else { permit(PermitKind::DynamicBootpClients) },
            failover: None,
            valid_from: None,
            valid_until: None,
            is_implicit: true,
            span,
            scope,
        });
        if let Some(network) = self.config.shared_networks.get_mut(network.0) {
            network.pools.push(id);
        }
        id
    }

    /// Gives a new block the authority of the block around it.
    pub(super) fn inherit_authority(&mut self, scope: crate::config::ScopeId, frame: &Frame) {
        if let Some(scope) = self.config.scopes.get_mut(scope.0) {
            scope.authoritative = frame.authoritative;
        }
    }

    /// Warns of assignments that a later one in the same block makes useless.
    pub(super) fn finish_scope(&mut self, scope: crate::config::ScopeId) {
        use crate::config::statement::{Mode, StatementKind, Target};
        let Some(scope) = self.config.scopes.get(scope.0).filter(|scope| scope.statements.len() > 1) else {
            return;
        };
        let mut seen: HashMap<Target, Span> = HashMap::new();
        let mut twice = Vec::new();
        for statement in &scope.statements {
            if let StatementKind::Assign { mode: Mode::Supersede, target, .. } = statement.kind
                && let Some(first) = seen.insert(target, statement.span)
            {
                twice.push((target, first, statement.span));
            }
        }
        for (target, first, second) in twice {
            let name = match target {
                Target::Option(option) => format!("option {}", self.config.spaces.option_name(option)),
                Target::Param(param) => param.name().to_owned(),
            };
            self.warning(second, format!("`{name}` is set twice in the same block"), "the last one wins");
            self.other(first, "this one has no effect");
        }
    }

    /// Adds a pool to its network.
    pub(super) fn push_pool(&mut self, pool: Pool) -> PoolId {
        let id = PoolId(self.config.pools.len());
        if let Some(network) = self.config.shared_networks.get_mut(pool.shared_network.0) {
            network.pools.push(id);
        }
        self.config.pools.push(pool);
        id
    }

    /// No address is in two ranges.
    pub(super) fn check_ranges(&mut self) {
        let mut ranges: Vec<Range> = self.config.pools.iter().flat_map(|pool| pool.ranges.iter().copied()).collect();
        ranges.sort_by_key(|range| (range.first, range.last, range.span));
        let mut highest: Option<Range> = None;
        for range in ranges {
            if let Some(before) = highest
                && range.first <= before.last
            {
                let (early, late) = if before.span < range.span { (before, range) } else { (range, before) };
                self.error(late.span, format!("address {} is declared twice", range.first), "in this range");
                self.other(early.span, "and in this one");
            }
            if highest.is_none_or(|before| range.last > before.last) {
                highest = Some(range);
            }
        }
    }

    /// Subnets may overlap; the most specific one wins, which is rarely what is meant.
    pub(super) fn check_subnets(&mut self) {
        let mut subnets: Vec<(u32, u32, Span)> = self
            .config
            .subnets
            .iter()
            .map(|subnet| (subnet.net.to_bits(), subnet.net.to_bits() | !subnet.mask.to_bits(), subnet.span))
            .collect();
        subnets.sort_unstable();
        let mut highest: Option<(u32, Span)> = None;
        for (first, last, span) in subnets {
            if let Some((before, other)) = highest
                && first <= before
            {
                let (early, late) = if other < span { (other, span) } else { (span, other) };
                self.warning(late, "this subnet overlaps another one", "the most specific one wins");
                self.other(early, "the other one");
            }
            if highest.is_none_or(|(before, _)| last > before) {
                highest = Some((last, span));
            }
        }
    }

    /// A name, shared.
    pub(super) fn arc(text: &str) -> Arc<str> {
        text.into()
    }
}
