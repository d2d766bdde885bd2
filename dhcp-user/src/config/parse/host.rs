//! Host declarations.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::hash_table::Entry;

use super::{Frame, Parsed, Parser, Place};
use crate::config::ids::HostId;
use crate::config::limits::IDENTIFIER_COUNT_MAX;
use crate::config::model::Host;
use crate::config::span::Span;
use crate::config::statement::{Expr, ScopeKind};

impl Parser<'_> {
    /// `host NAME { ... }`
    pub(super) fn host(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let (name, name_span): (Arc<str>, Span) = match self.plain_name() {
            Some(plain) => plain,
            None => self.dotted_name("a name for the host").map(|(name, span)| (name.into(), span))?,
        };
        let span = start.to(name_span);
        let id = HostId(self.config.hosts.len());
        let hash = |name: &str| self.hasher.hash_one(name);
        let hosts = &self.config.hosts;
        let known = self.host_names.entry(
            hash(&name),
            |known| hosts.get(known.0).is_some_and(|host| host.name == name),
            |known| hosts.get(known.0).map_or(0, |host| hash(&host.name)),
        );
        match known {
            Entry::Occupied(known) => {
                let first = hosts.get(known.get().0).map(|host| host.span).unwrap_or_default();
                self.error(name_span, format!("host `{name}` is declared twice"), "names of hosts are global");
                self.other(first, "first declared here");
            }
            Entry::Vacant(room) => {
                room.insert(id);
            }
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
            fixed_addresses: Vec::new(),
            hw: None,
            client_id: None,
            identifier: None,
            span,
            scope,
        });
        let mut inner = Frame { place: Place::Host, scope, host: Some(id), ..frame.clone() };
        self.block(&mut inner)?;
        self.finish_scope(scope);
        Ok(())
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
                let mut addresses = vec![self.address()?.0];
                while self.eat(b',') {
                    addresses.push(self.address()?.0);
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
                    host.identifier = Some((option, bytes));
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
