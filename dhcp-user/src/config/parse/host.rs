//! Host declarations.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::hash_table::Entry;

use super::{Frame, Parsed, Parser, Place};
use crate::config::Config;
use crate::config::ids::{HostId, ScopeId};
use crate::config::limits::IDENTIFIER_COUNT_MAX;
use crate::config::model::{Addresses, Host, HostName};
use crate::config::span::Span;
use crate::config::statement::{Expr, ScopeKind};

impl Parser<'_> {
    /// `host NAME { ... }`
    pub(super) fn host(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let (name, name_span) = self.declared_name()?;
        let span = start.to(name_span);
        let id = HostId(self.config.hosts.len());
        if let Some(first) = self.same_name(id, name) {
            let text = self.config.declared_name(name).to_owned();
            self.error(name_span, format!("host `{text}` is declared twice"), "names of hosts are global");
            self.other(first, "first declared here");
        }
        if frame.network.is_some() {
            self.warning(
                span,
                "host declarations are global",
                format!(
                    "it holds everywhere, not only in this {}",
                    if frame.subnet.is_some() { "subnet" } else { "network" }
                ),
            );
        }
        let scope = self.new_scope(ScopeKind::Host, Some(frame.scope), span);
        self.inherit_authority(scope, frame);
        self.config.hosts.push(Host {
            name,
            fixed_addresses: Addresses::default(),
            hw: None,
            client_id: None,
            identifier: None,
            span,
            scope,
        });
        let mut inner = Frame { place: Place::Host, scope, host: Some(id), ..frame.clone() };
        self.block(&mut inner)?;
        self.finish_scope(scope);
        self.drop_empty_scope(id, frame.scope);
        Ok(())
    }

    /// Where a host of this name has been declared; if nowhere, it is now.
    fn same_name(&mut self, id: HostId, name: HostName) -> Option<Span> {
        let Config { hosts, declared_names, .. } = &self.config;
        let text = |name: HostName| declared_names.get(name.start as usize..name.end as usize);
        // The text is at most 2^28 bytes: hosts are counted in 32 bits.
        let (half, place) = (self.hasher.hash_one(text(name)) as u32, id.0 as u32);
        let whole = |half: u32| u64::from(half) << 32 | u64::from(half);
        let is_same = |known: &(u32, u32)| {
            known.0 == half && hosts.get(known.1 as usize).is_some_and(|host| text(host.name) == text(name))
        };
        match self.host_names.entry(whole(half), is_same, |known| whole(known.0)) {
            Entry::Occupied(known) => hosts.get(known.get().1 as usize).map(|host| host.span),
            Entry::Vacant(room) => {
                room.insert((half, place));
                None
            }
        }
    }

    /// A host without statements, as most are, has no scope of its own: nothing would run in it.
    fn drop_empty_scope(&mut self, id: HostId, around: ScopeId) {
        if let Some(host) = self.config.hosts.get_mut(id.0)
            && host.scope.0.saturating_add(1) == self.config.scopes.len()
            && self.config.scopes.last().is_some_and(|scope| scope.statements.is_empty())
        {
            self.config.scopes.pop();
            host.scope = around;
        }
    }

    /// `hardware`, `fixed-address`, `uid`, `host-identifier`: at most one of each.
    pub(super) fn host_statement(&mut self, id: HostId, word: &str) -> Parsed<()> {
        let start = self.next().span;
        match word {
            // Words of the leases file.
            "dynamic" | "deleted" => {
                self.semicolon()?;
                self.warning(
                    start,
                    format!("`{word}` does nothing in a configuration"),
                    "it belongs to the leases file",
                );
            }
            "hardware" => {
                let hw = self.hardware()?;
                self.semicolon()?;
                if self.config.hosts.get(id.0).is_some_and(|host| host.hw.is_some()) {
                    return self.twice(start, word);
                }
                if let Some(host) = self.config.hosts.get_mut(id.0) {
                    host.hw = Some(hw);
                }
            }
            "fixed-address" => {
                let first = self.address()?.0;
                let mut addresses = Addresses::One([first]);
                if self.at(b',') {
                    let mut all = vec![first];
                    while self.eat(b',') {
                        all.push(self.address()?.0);
                    }
                    addresses = all.into();
                }
                self.semicolon()?;
                if self.config.hosts.get(id.0).is_some_and(|host| !host.fixed_addresses.is_empty()) {
                    return self.twice(start, word);
                }
                if let Some(host) = self.config.hosts.get_mut(id.0) {
                    host.fixed_addresses = addresses;
                }
            }
            "uid" => {
                let bytes = self.string_or_octets()?;
                self.semicolon()?;
                if !self.hosts_with_uid.insert(id) {
                    return self.twice(start, word);
                }
                let Some(host) = self.config.hosts.get_mut(id.0) else {
                    return Ok(());
                };
                if host.client_id.replace(bytes.into()).is_some() {
                    self.warning(start, "this host has a client identifier already", "this one counts");
                }
            }
            _ => {
                self.expect_word("option")?;
                let (option, _) = self.option_name()?;
                let ty = self.config.spaces.type_of(option);
                let value_start = self.peek().span;
                let value = self.typed_value(&ty)?;
                let value_span = value_start.to(self.last);
                self.semicolon()?;
                let Expr::Const(bytes) = value else {
                    return self.fail(
                        value_span,
                        "a host identifier is a constant",
                        "host names are not resolved here",
                    );
                };
                self.identifiers.insert(option);
                if self.identifiers.len() > IDENTIFIER_COUNT_MAX {
                    let most = format!("at most {IDENTIFIER_COUNT_MAX}");
                    return self.fail(start, "too many different options identify hosts", most);
                }
                if self.config.hosts.get(id.0).is_some_and(|host| host.identifier.is_some()) {
                    return self.twice(start, word);
                }
                if let Some(host) = self.config.hosts.get_mut(id.0) {
                    host.identifier = Some(Box::new((option, bytes)));
                }
            }
        }
        Ok(())
    }

    fn twice<T>(&mut self, span: Span, word: &str) -> Parsed<T> {
        self.fail(span, format!("a host has one `{word}` only"), "this is the second")
    }

    /// `option dhcp-client-identifier VALUE;` in a host: what to match, as `uid` does.
    pub(super) fn host_client_id(&mut self, id: HostId, bytes: Arc<[u8]>, span: Span) -> Parsed<()> {
        if self.hosts_with_uid.contains(&id) {
            self.warning(span, "this host has a client identifier already", "ignored");
            return Ok(());
        }
        let Some(host) = self.config.hosts.get_mut(id.0) else {
            return Ok(());
        };
        if host.client_id.replace(bytes).is_some() {
            self.warning(span, "this host has a client identifier already", "this one counts");
        }
        Ok(())
    }
}
