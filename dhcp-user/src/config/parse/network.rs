//! Shared networks, subnets and ranges (reference section 2).

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::{Frame, Parsed, Parser, Place, Reported};
use crate::config::ids::{PoolId, SharedNetworkId, SubnetId};
use crate::config::lexer::Kind;
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
        if let Some(first) = self.config.shared_networks.iter().find(|one| *one.name == *name).map(|one| one.span) {
            self.warning(span, format!("shared-network `{name}` is declared twice"), "");
            self.other(first, "first declared here");
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
                self.config.shared_networks.push(SharedNetwork {
                    name: format!("{net}/{}", mask.to_bits().count_ones()).into(),
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
        if is_bootp {
            self.bootp_ranges.push((frame.pool, span));
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
        let candidates: Vec<SubnetId> = match (frame.subnet, self.config.shared_networks.get(network.0)) {
            (Some(subnet), _) => vec![subnet],
            (None, Some(network)) => network.subnets.clone(),
            (None, None) => Vec::new(),
        };
        let subnets: Vec<&Subnet> = candidates.iter().filter_map(|id| self.config.subnets.get(id.0)).collect();
        let both = |subnet: &&&Subnet| subnet.contains(low) && subnet.contains(high);
        if subnets.iter().any(|subnet| both(&subnet)) {
            return Ok(());
        }
        let (bad, span) =
            if subnets.iter().any(|subnet| subnet.contains(low)) { (high, high_span) } else { (low, low_span) };
        let (label, other) = match &*subnets {
            [one] => (format!("not in subnet {} netmask {}", one.net, one.mask), Some(one.span)),
            [] => ("a subnet must stand before the pool".to_owned(), None),
            _ => ("in no subnet of this shared-network that stands before".to_owned(), None),
        };
        self.error(span, format!("bad range: {bad} is outside of the subnet"), label);
        if let Some(other) = other {
            self.other(other, "the subnet");
        }
        Err(Reported)
    }

    /// The pool that ranges directly in a subnet share: it admits everybody but dynamic BOOTP clients.
    fn implicit_pool(&mut self, network: SharedNetworkId, is_bootp: bool, span: Span) -> PoolId {
        let pools = self.config.shared_networks.get(network.0).map_or(&[][..], |network| &network.pools);
        let same = pools.iter().copied().find(|id| {
            self.config.pools.get(id.0).is_some_and(|pool| pool.is_implicit && pool.deny.is_empty() == is_bootp)
        });
        if let Some(same) = same {
            return same;
        }
        let id = PoolId(self.config.pools.len());
        let parent = self.config.shared_networks.get(network.0).map(|network| network.scope);
        let scope = self.new_scope(ScopeKind::Pool, parent, span);
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
        let Some(scope) = self.config.scopes.get(scope.0) else {
            return;
        };
        let mut seen: Vec<(Target, Span)> = Vec::new();
        let mut twice = Vec::new();
        for statement in &scope.statements {
            if let StatementKind::Assign { mode: Mode::Supersede, target, .. } = statement.kind {
                match seen.iter_mut().find(|(other, _)| *other == target) {
                    Some((_, first)) => {
                        twice.push((target, *first, statement.span));
                        *first = statement.span;
                    }
                    None => seen.push((target, statement.span)),
                }
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
