//! A configuration back to text: canonical, and equal in meaning to what was read.
//!
//! Blocks come in the order of their declaration, since the order of classes, hosts and pools means something. Within a
//! block statements come first. Option spaces, definitions and failover peers come at the top, since they must stand
//! before their use.

use std::collections::HashMap;

use super::Config;
use super::ids::{ClassId, HostId, PoolId, ScopeId, SharedNetworkId, SubnetId};
use super::model::{Address, DbTimeFormat, FailoverPeer, LeaseIdFormat, Permit, PermitKind, Pool, Role};
use super::options::{OptionRef, SpaceId};
use super::print::{expression, quote, typed_text, write_statement};
use super::statement::ScopeKind;

/// Indentation of one level, in spaces.
const STEP: usize = 2;

/// What a scope belongs to.
#[derive(Debug, Clone, Copy)]
enum Owner {
    Network(SharedNetworkId),
    Subnet(SubnetId),
    Pool(PoolId),
    Host(HostId),
    Class(ClassId),
}

/// Writes a configuration.
#[must_use]
pub fn convert(config: &Config) -> String {
    let mut writer = Writer { config, owners: HashMap::new(), children: HashMap::new(), out: String::new() };
    writer.index();
    writer.root();
    writer.out
}

struct Writer<'c> {
    config: &'c Config,
    owners: HashMap<ScopeId, Owner>,
    /// Scopes by the scope around them, in order of declaration.
    children: HashMap<ScopeId, Vec<ScopeId>>,
    out: String,
}

impl Writer<'_> {
    fn index(&mut self) {
        for (place, network) in self.config.shared_networks.iter().enumerate() {
            self.owners.insert(network.scope, Owner::Network(SharedNetworkId(place)));
        }
        // A lone subnet shares its scope with the network that it implies, and is what is written.
        for (place, subnet) in self.config.subnets.iter().enumerate() {
            self.owners.insert(subnet.scope, Owner::Subnet(SubnetId(place)));
        }
        for (place, pool) in self.config.pools.iter().enumerate() {
            self.owners.insert(pool.scope, Owner::Pool(PoolId(place)));
        }
        for (place, host) in self.config.hosts.iter().enumerate() {
            self.owners.insert(host.scope, Owner::Host(HostId(place)));
        }
        for (place, class) in self.config.classes.iter().enumerate() {
            self.owners.insert(class.scope, Owner::Class(ClassId(place)));
        }
        for (place, scope) in self.config.scopes.iter().enumerate() {
            if let Some(parent) = scope.parent {
                self.children.entry(parent).or_default().push(ScopeId(place));
            }
        }
    }

    fn line(&mut self, indent: usize, text: &str) {
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// An empty line, unless a block has just begun.
    fn gap(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("{\n") {
            self.out.push('\n');
        }
    }

    fn root(&mut self) {
        self.line(0, "# Written by xdhcpd convert.");
        self.definitions();
        for peer in &self.config.failover_peers {
            self.peer(peer);
        }
        if self.config.process.db_time_format == DbTimeFormat::Local {
            self.line(0, "db-time-format local;");
        }
        if self.config.process.lease_id_format == LeaseIdFormat::Hex {
            self.line(0, "lease-id-format hex;");
        }
        self.gap();
        self.scope(ScopeId(0), 0);
    }

    fn definitions(&mut self) {
        let spaces = &self.config.spaces;
        let mut lines = Vec::new();
        for (_, space) in spaces.iter().filter(|(_, space)| space.is_custom) {
            let mut text = format!("option space {}", space.name);
            if (space.code_width, space.length_width) != (1, 1) {
                text.push_str(&format!(" code width {} length width {}", space.code_width, space.length_width));
            }
            lines.push(format!("{text};"));
        }
        for (id, _) in spaces.iter() {
            for (code, def) in spaces.custom_options(id) {
                let name = match id {
                    SpaceId::DHCP => def.name.to_string(),
                    _ => format!("{}.{}", spaces.name(id), def.name),
                };
                lines.push(format!("option {name} code {code} = {};", def.ty.text(spaces)));
            }
        }
        if !lines.is_empty() {
            self.gap();
        }
        for line in lines {
            self.line(0, &line);
        }
    }

    fn address(&self, address: &Address) -> String {
        match address {
            Address::Literal(address) => address.to_string(),
            Address::Name(place) => self.config.names.get(*place).map(|(name, _)| name.clone()).unwrap_or_default(),
        }
    }

    fn peer(&mut self, peer: &FailoverPeer) {
        self.gap();
        self.line(0, &format!("failover peer {} {{", quote(peer.name.as_bytes())));
        let is_primary = peer.role == Role::Primary;
        self.line(STEP, if is_primary { "primary;" } else { "secondary;" });
        if let Some(address) = &peer.address {
            self.line(STEP, &format!("address {};", self.address(address)));
        }
        self.line(STEP, &format!("port {};", peer.port));
        if let Some(address) = &peer.peer_address {
            self.line(STEP, &format!("peer address {};", self.address(address)));
        }
        self.line(STEP, &format!("peer port {};", peer.peer_port));
        let mut settings =
            vec![("max-response-delay", peer.max_response_delay), ("max-unacked-updates", peer.max_unacked)];
        if peer.mclt != 0 {
            settings.push(("mclt", peer.mclt));
        }
        settings.push(("load balance max seconds", peer.load_balance_max_secs));
        settings.push(("auto-partner-down", peer.auto_partner_down));
        settings.push(("max-lease-misbalance", peer.max_lease_misbalance));
        settings.push(("max-lease-ownership", peer.max_lease_ownership));
        settings.push(("min-balance", peer.min_balance));
        settings.push(("max-balance", peer.max_balance));
        for (name, value) in settings {
            self.line(STEP, &format!("{name} {value};"));
        }
        match (peer.split, peer.hba) {
            (Some(split), _) => self.line(STEP, &format!("split {split};")),
            (None, Some(hba)) => self.line(STEP, &format!("hba {};", octets(&hba))),
            (None, None) => {}
        }
        self.line(0, "}");
        let Some(state) = peer.bootstrap else { return };
        self.line(0, &format!("failover peer {} state {{", quote(peer.name.as_bytes())));
        for (whose, name, at) in
            [("my", state.my_state, state.my_at), ("partner", state.partner_state, state.partner_at)]
        {
            if let Some(name) = name {
                let at = at.map_or_else(String::new, |at| format!(" at {}", date(at)));
                self.line(STEP, &format!("{whose} state {}{at};", name.name()));
            }
        }
        if let Some(mclt) = state.mclt {
            self.line(STEP, &format!("mclt {mclt};"));
        }
        self.line(0, "}");
    }

    /// The statements of a block, then the blocks in it.
    fn scope(&mut self, id: ScopeId, indent: usize) {
        let config = self.config;
        let Some(scope) = config.scopes.get(id.0) else { return };
        let around =
            scope.parent.and_then(|parent| config.scopes.get(parent.0)).is_some_and(|scope| scope.authoritative);
        let says =
            matches!(scope.kind, ScopeKind::Root | ScopeKind::SharedNetwork | ScopeKind::Subnet | ScopeKind::Group(_));
        if says && scope.authoritative != around {
            self.line(indent, if scope.authoritative { "authoritative;" } else { "not authoritative;" });
        }
        for statement in &scope.statements {
            write_statement(statement, config, indent, &mut self.out);
        }
        let children = self.children.get(&id).cloned().unwrap_or_default();
        for child in children {
            self.child(child, indent);
        }
    }

    fn child(&mut self, id: ScopeId, indent: usize) {
        let config = self.config;
        match self.owners.get(&id).copied() {
            Some(Owner::Network(network)) => {
                let network = config.shared_network(network);
                self.gap();
                self.line(indent, &format!("shared-network {} {{", quote(network.name.as_bytes())));
                if let Some(interface) = &network.interface
                    && !network.subnets.iter().any(|id| config.subnet(*id).interface.is_some())
                {
                    self.line(indent.saturating_add(STEP), &format!("interface {};", quote(interface.as_bytes())));
                }
                self.scope(id, indent.saturating_add(STEP));
                self.line(indent, "}");
            }
            Some(Owner::Subnet(subnet)) => self.subnet(subnet, id, indent),
            Some(Owner::Pool(pool)) => {
                let pool = config.pool(pool);
                if !pool.is_implicit {
                    self.pool(pool, id, indent);
                }
            }
            Some(Owner::Host(host)) => self.host(host, id, indent),
            Some(Owner::Class(class)) => self.class(class, id, indent),
            None => {
                if let Some(ScopeKind::Group(name)) = config.scopes.get(id.0).map(|scope| &scope.kind) {
                    let name = name.as_ref().map_or_else(String::new, |name| format!("{} ", quote(name.as_bytes())));
                    self.gap();
                    self.line(indent, &format!("group {name}{{"));
                    self.scope(id, indent.saturating_add(STEP));
                    self.line(indent, "}");
                }
            }
        }
    }

    fn subnet(&mut self, subnet: SubnetId, id: ScopeId, indent: usize) {
        let config = self.config;
        let subnet = config.subnet(subnet);
        let inner = indent.saturating_add(STEP);
        self.gap();
        self.line(indent, &format!("subnet {} netmask {} {{", subnet.net, subnet.mask));
        if let Some(interface) = &subnet.interface {
            self.line(inner, &format!("interface {};", quote(interface.as_bytes())));
        }
        let network = config.shared_network(subnet.shared_network);
        for pool in network.pools.iter().map(|id| config.pool(*id)).filter(|pool| pool.is_implicit) {
            for range in pool
                .ranges
                .iter()
                .filter(|range| config.subnet_of(range.first).map(|id| config.subnet(id).scope) == Some(id))
            {
                let bootp = if pool.deny.is_empty() { "dynamic-bootp " } else { "" };
                self.line(inner, &format!("range {bootp}{} {};", range.first, range.last));
            }
        }
        self.scope(id, inner);
        self.line(indent, "}");
    }

    fn pool(&mut self, pool: &Pool, id: ScopeId, indent: usize) {
        let inner = indent.saturating_add(STEP);
        self.gap();
        self.line(indent, "pool {");
        if let Some(peer) = pool.failover {
            let name = quote(self.config.failover_peer(peer).name.as_bytes());
            self.line(inner, &format!("failover peer {name};"));
        }
        for range in &pool.ranges {
            self.line(inner, &format!("range {} {};", range.first, range.last));
        }
        for (verb, permits) in [("allow", &pool.allow), ("deny", &pool.deny)] {
            for permit in permits {
                let who = self.permit(permit);
                self.line(inner, &format!("{verb} {who};"));
            }
        }
        self.scope(id, inner);
        self.line(indent, "}");
    }

    fn permit(&self, permit: &Permit) -> String {
        match permit.kind {
            PermitKind::KnownClients => "known-clients".to_owned(),
            PermitKind::UnknownClients => "unknown-clients".to_owned(),
            PermitKind::AuthenticatedClients => "authenticated clients".to_owned(),
            PermitKind::UnauthenticatedClients => "unauthenticated clients".to_owned(),
            PermitKind::AllClients => "all clients".to_owned(),
            PermitKind::DynamicBootpClients => "dynamic bootp clients".to_owned(),
            PermitKind::MembersOf(class) => format!("members of {}", quote(self.config.class_name(class).as_bytes())),
            PermitKind::After(at) => format!("after {}", date(at)),
        }
    }

    fn host(&mut self, host: HostId, id: ScopeId, indent: usize) {
        let config = self.config;
        let host = config.host(host);
        let inner = indent.saturating_add(STEP);
        self.gap();
        self.line(indent, &format!("host {} {{", host.name));
        if let Some(hw) = host.hw {
            let kind = match hw.htype() {
                1 => "ethernet".to_owned(),
                6 => "token-ring".to_owned(),
                8 => "fddi".to_owned(),
                32 => "infiniband".to_owned(),
                other => format!("unknown-{other}"),
            };
            self.line(inner, &format!("hardware {kind} {hw};"));
        }
        if let Some(client_id) = &host.client_id {
            self.line(inner, &format!("uid {};", super::print::bytes_text(client_id)));
        }
        if let Some((option, value)) = &host.identifier {
            let name = config.spaces.option_name(*option);
            let text = typed_text(&config.spaces.type_of(*option), value).unwrap_or_default();
            self.line(inner, &format!("host-identifier option {name} {text};"));
        }
        if !host.fixed_addresses.is_empty() {
            let all: Vec<String> = host.fixed_addresses.iter().map(|address| self.address(address)).collect();
            self.line(inner, &format!("fixed-address {};", all.join(", ")));
        }
        self.scope(id, inner);
        self.line(indent, "}");
    }

    fn class(&mut self, class: ClassId, id: ScopeId, indent: usize) {
        let config = self.config;
        let inner = indent.saturating_add(STEP);
        let of = class;
        let class = config.class(class);
        let name = quote(class.name.as_bytes());
        self.gap();
        self.line(indent, &format!("class {name} {{"));
        if let Some(condition) = &class.match_if {
            self.line(inner, &format!("match if {};", expression(condition, config)));
        }
        if let Some(submatch) = &class.submatch {
            let verb = if class.is_spawning { "spawn with" } else { "match" };
            self.line(inner, &format!("{verb} {};", expression(submatch, config)));
        }
        if let Some(limit) = class.lease_limit {
            self.line(inner, &format!("lease limit {limit};"));
        }
        self.scope(id, inner);
        self.line(indent, "}");
        for subclass in config.subclasses.iter().filter(|subclass| subclass.class == of) {
            let head = format!("subclass {name} {}", super::print::bytes_text(&subclass.value));
            let has_block = subclass.scope != id || subclass.lease_limit != class.lease_limit;
            if !has_block {
                self.line(indent, &format!("{head};"));
                continue;
            }
            self.line(indent, &format!("{head} {{"));
            if let Some(limit) = subclass.lease_limit.filter(|_| subclass.lease_limit != class.lease_limit) {
                self.line(inner, &format!("lease limit {limit};"));
            }
            if subclass.scope != id {
                self.scope(subclass.scope, inner);
            }
            self.line(indent, "}");
        }
    }
}

fn octets(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// A date as the text takes it back.
fn date(at: u32) -> String {
    if at >= 0x7fff_ffff { "never".to_owned() } else { format!("epoch {at}") }
}

/// The name of an option with its space, for people.
#[must_use]
pub fn option_text(config: &Config, option: OptionRef, bytes: &[u8]) -> String {
    typed_text(&config.spaces.type_of(option), bytes).unwrap_or_else(|| super::print::bytes_text(bytes))
}
