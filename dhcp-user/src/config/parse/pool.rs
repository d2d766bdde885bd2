//! Pools and their permits (reference section 5.2).

use super::{Frame, Parsed, Parser, Place, Reported};
use crate::config::ids::PoolId;
use crate::config::model::{Permit, PermitKind, Pool};
use crate::config::statement::ScopeKind;

impl Parser<'_> {
    /// `pool { ... }`
    pub(super) fn pool(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let Some(network) = frame.network else {
            return Err(Reported);
        };
        // dhcpd: the list of a pool follows that of the shared network, not of the subnet around it.
        let parent = self.config.shared_networks.get(network.0).map(|network| network.scope);
        let scope = self.new_scope(ScopeKind::Pool, parent, start);
        self.inherit_authority(scope, frame);
        let id = self.push_pool(Pool {
            shared_network: network,
            ranges: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            failover: self.network_peers.get(&network).copied(),
            valid_from: None,
            valid_until: None,
            is_implicit: false,
            span: start,
            scope,
        });
        let errors = self.errors_count();
        self.bootp_ranges.clear();
        let mut inner = Frame { place: Place::Pool, scope, pool: Some(id), ..frame.clone() };
        self.block(&mut inner)?;
        self.finish_scope(scope);
        let is_empty = self.config.pools.get(id.0).is_some_and(|pool| pool.ranges.is_empty());
        // A range that was refused has been reported already.
        if is_empty && errors == self.errors_count() {
            return self.fail(start, "pool without a range", "it needs at least one");
        }
        self.check_bootp(id);
        self.merge_pool(id);
        Ok(())
    }

    /// `range dynamic-bootp` cannot be shared with a partner (dhcpd; the protocol has no infinite leases).
    fn check_bootp(&mut self, id: PoolId) {
        let bad = std::mem::take(&mut self.bootp_ranges);
        if self.config.pools.get(id.0).is_none_or(|pool| pool.failover.is_none()) {
            return;
        }
        for span in bad {
            self.error(span, "`dynamic-bootp` is not possible in a failover pool", "leave the word away");
        }
    }

    /// dhcpd merges a pool into an earlier one of the same network with the same permits, peer and no statements.
    fn merge_pool(&mut self, id: PoolId) {
        if id.0.checked_add(1) != Some(self.config.pools.len()) {
            return;
        }
        let Some(pool) = self.config.pools.get(id.0) else {
            return;
        };
        if pool.is_implicit || self.config.scopes.get(pool.scope.0).is_none_or(|scope| !scope.statements.is_empty()) {
            return;
        }
        let kinds = |permits: &[Permit]| permits.iter().map(|permit| permit.kind).collect::<Vec<_>>();
        let key = (pool.shared_network, pool.failover, kinds(&pool.allow), kinds(&pool.deny));
        let same = *self.plain_pools.entry(key).or_insert(id);
        if same == id {
            return;
        }
        let Some(merged) = self.config.pools.pop() else { return };
        if let Some(network) = self.config.shared_networks.get_mut(merged.shared_network.0) {
            network.pools.pop_if(|last| *last == id);
        }
        if let Some(first) = self.config.pools.get_mut(same.0) {
            first.ranges.extend(merged.ranges);
        }
    }

    /// `allow WHO;` and `deny WHO;` of a pool.
    pub(super) fn permit(&mut self, frame: &Frame) -> Parsed<()> {
        const WHO: &[&str] = &[
            "known-clients",
            "unknown-clients",
            "members",
            "dynamic",
            "all",
            "authenticated",
            "unauthenticated",
            "after",
            "known",
            "unknown",
        ];
        let start = self.next();
        let is_allow = self.word_is(start, "allow");
        let (word, token) = self.word("whom to allow or deny")?;
        let kind = match &*word.to_ascii_lowercase() {
            "known-clients" => PermitKind::KnownClients,
            "unknown-clients" => PermitKind::UnknownClients,
            "known" => {
                self.expect_word("clients")?;
                PermitKind::KnownClients
            }
            "unknown" => {
                self.expect_word("clients")?;
                PermitKind::UnknownClients
            }
            "authenticated" => {
                self.expect_word("clients")?;
                PermitKind::AuthenticatedClients
            }
            "unauthenticated" => {
                self.expect_word("clients")?;
                PermitKind::UnauthenticatedClients
            }
            "all" => {
                self.expect_word("clients")?;
                PermitKind::AllClients
            }
            "dynamic" => {
                self.expect_word("bootp")?;
                if !self.eat_word("clients") {
                    self.expect_word("clients")?;
                }
                PermitKind::DynamicBootpClients
            }
            "members" => {
                self.expect_word("of")?;
                let (name, span) = self.quoted("the name of a class")?;
                PermitKind::MembersOf(self.class_by_name(&name, span)?)
            }
            "after" => PermitKind::After(self.date()?),
            other => {
                let verb = if is_allow { "allow" } else { "deny" };
                self.error(token.span, format!("`{verb} {word}` is not possible in a pool"), "expected whom to permit");
                if matches!(other, "booting" | "bootp" | "declines" | "duplicates" | "client-updates" | "leasequery") {
                    self.note("this one belongs outside of the pool: to the subnet or the top level");
                } else {
                    self.suggest(other, WHO.iter().copied());
                }
                return Err(Reported);
            }
        };
        self.semicolon()?;
        let span = start.span.to(self.last);
        let Some(pool) = frame.pool.and_then(|pool| self.config.pools.get_mut(pool.0)) else {
            return Err(Reported);
        };
        let mut is_second = false;
        if let PermitKind::After(at) = kind {
            is_second = pool.valid_from.is_some() || pool.valid_until.is_some();
            if is_allow {
                pool.valid_from = Some(at);
            } else {
                pool.valid_until = Some(at);
            }
        }
        let permit = Permit { kind, span };
        if is_allow {
            pool.allow.push(permit);
        } else {
            pool.deny.push(permit);
        }
        if is_second {
            return self.fail(span, "a pool can have one `after` only", "this is the second");
        }
        if kind == PermitKind::AuthenticatedClients {
            self.warning(span, "no client is ever authenticated", "this permit matches nobody");
        }
        Ok(())
    }
}
