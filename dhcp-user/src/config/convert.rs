//! A configuration back to text: canonical, and equal in meaning to what was read.
//!
//! Blocks come in the order of their declaration, since the order of classes, hosts and pools means something. Within a
//! block statements come first. Option spaces, definitions and failover peers come at the top, since they must stand
//! before their use. Comments go with the statement they stand before or beside; those that begin with `#:` are ours.

use std::collections::{BTreeMap, HashMap};

use super::Config;
use super::comments::{ADDED, Comments, HEADER};
use super::ids::{ClassId, HostId, PoolId, ScopeId, SharedNetworkId, SubnetId};
use super::model::{Address, DbTimeFormat, FailoverPeer, LeaseIdFormat, Permit, PermitKind, Pool, Role};
use super::options::{OptionRef, SpaceId};
use super::param::{LINK_KEY_FILE, Status};
use super::print::{expression, quote, typed_text, write_statement};
use super::span::Span;
use super::statement::{ScopeKind, StatementKind, Target};

/// Indentation of one level, in spaces.
const STEP: usize = 2;

/// What a scope belongs to.
#[derive(Debug, Clone, Copy)]
enum Owner {
    Network(SharedNetworkId),
    Subnet(SubnetId),
    Pool(PoolId),
    Class(ClassId),
}

/// A block in another one.
#[derive(Debug, Clone, Copy)]
enum Child {
    Scope(ScopeId),
    /// A host may be without a scope of its own.
    Host(HostId),
}

/// Writes a configuration, with its comments and a few more.
#[must_use]
pub fn convert(config: &Config) -> String {
    Writer::new(config, Some(Comments::of(&config.sources))).write()
}

/// Writes a configuration without any comment: what has the same meaning has the same text.
#[must_use]
pub fn canonical(config: &Config) -> String {
    Writer::new(config, None).write()
}

struct Writer<'c> {
    config: &'c Config,
    owners: HashMap<ScopeId, Owner>,
    /// Blocks by the scope around them, in order of declaration.
    children: HashMap<ScopeId, Vec<Child>>,
    is_commented: bool,
    comments: Comments,
    out: String,
}

impl<'c> Writer<'c> {
    fn new(config: &'c Config, comments: Option<Comments>) -> Self {
        let mut writer = Self {
            config,
            owners: HashMap::new(),
            children: HashMap::new(),
            is_commented: comments.is_some(),
            comments: comments.unwrap_or_default(),
            out: String::new(),
        };
        writer.index();
        writer
    }

    fn write(mut self) -> String {
        self.root();
        self.comments.end_of_file(&mut self.out);
        self.out
    }

    fn index(&mut self) {
        let config = self.config;
        for (place, network) in config.shared_networks.iter().enumerate() {
            self.owners.insert(network.scope, Owner::Network(SharedNetworkId(place)));
        }
        // A lone subnet shares its scope with the network that it implies, and is what is written.
        for (place, subnet) in config.subnets.iter().enumerate() {
            self.owners.insert(subnet.scope, Owner::Subnet(SubnetId(place)));
        }
        for (place, pool) in config.pools.iter().enumerate() {
            self.owners.insert(pool.scope, Owner::Pool(PoolId(place)));
            self.comments.comes_later(pool.span);
        }
        for (place, class) in config.classes.iter().enumerate() {
            self.owners.insert(class.scope, Owner::Class(ClassId(place)));
        }
        for subclass in &config.subclasses {
            self.comments.comes_later(subclass.span);
        }
        let mut children: BTreeMap<ScopeId, Vec<(Span, Child)>> = BTreeMap::new();
        for (place, scope) in config.scopes.iter().enumerate().filter(|(_, scope)| scope.kind != ScopeKind::Host) {
            if let Some(parent) = scope.parent {
                children.entry(parent).or_default().push((scope.span, Child::Scope(ScopeId(place))));
            }
        }
        for (place, host) in config.hosts.iter().enumerate() {
            let own = config.scopes.get(host.scope.0).filter(|scope| scope.kind == ScopeKind::Host);
            let around = own.map_or(Some(host.scope), |scope| scope.parent).unwrap_or(ScopeId(0));
            children.entry(around).or_default().push((host.span, Child::Host(HostId(place))));
        }
        let in_order = |mut all: Vec<(Span, Child)>| {
            all.sort_by_cached_key(|(span, _)| config.sources.order(*span));
            all.into_iter().map(|(_, child)| child).collect()
        };
        for (scope, all) in children {
            self.children.insert(scope, in_order(all));
        }
    }

    fn line(&mut self, indent: usize, text: &str) {
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// A statement of one line, with its comments when it is known where it stood.
    fn item(&mut self, at: Option<Span>, indent: usize, text: &str) {
        if let Some(at) = at {
            self.comments.before(at, indent, &mut self.out);
        }
        self.line(indent, text);
        if let Some(at) = at {
            self.comments.beside(at, &mut self.out);
        }
    }

    /// The first line of a block.
    fn open(&mut self, at: Span, indent: usize, text: &str) {
        self.gap();
        self.comments.before(at, indent, &mut self.out);
        self.line(indent, text);
    }

    /// The last line of a block.
    fn close(&mut self, at: Span, indent: usize) {
        self.comments.end(at, 0, indent.saturating_add(STEP), &mut self.out);
        self.line(indent, "}");
        self.comments.beside(at, &mut self.out);
    }

    /// A comment of ours.
    fn explain(&mut self, indent: usize, text: &str) {
        if self.is_commented {
            self.line(indent, &format!("{ADDED}{text}"));
        }
    }

    /// Where a statement of a block stood that the model keeps no place of.
    fn named(&self, block: Span, words: &[&str]) -> Option<Span> {
        self.comments.named(block, words, &self.config.sources)
    }

    /// An empty line, unless a block has just begun.
    fn gap(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("{\n") && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    fn root(&mut self) {
        if self.is_commented {
            self.line(0, HEADER);
        }
        for comment in std::mem::take(&mut self.comments.head) {
            self.line(0, &comment);
        }
        self.gap();
        self.definitions();
        for peer in &self.config.failover_peers {
            self.peer(peer);
        }
        let sources = &self.config.sources;
        if self.config.process.db_time_format == DbTimeFormat::Local {
            let at = self.comments.named_on_top(&["db-time-format"], sources);
            self.item(at, 0, "db-time-format local;");
        }
        if self.config.process.lease_id_format == LeaseIdFormat::Hex {
            let at = self.comments.named_on_top(&["lease-id-format"], sources);
            self.item(at, 0, "lease-id-format hex;");
        }
        self.gap();
        self.scope(ScopeId(0), None, 0);
    }

    fn definitions(&mut self) {
        let spaces = &self.config.spaces;
        for (_, space) in spaces.iter().filter(|(_, space)| space.is_custom) {
            let mut text = format!("option space {}", space.name);
            if (space.code_width, space.length_width) != (1, 1) {
                text.push_str(&format!(" code width {} length width {}", space.code_width, space.length_width));
            }
            let at = self.comments.definition(&format!("space {}", space.name));
            self.item(at, 0, &format!("{text};"));
        }
        for (id, _) in spaces.iter() {
            for (code, def) in spaces.custom_options(id) {
                let name = match id {
                    SpaceId::DHCP => def.name.to_string(),
                    _ => format!("{}.{}", spaces.name(id), def.name),
                };
                let at = self.comments.definition(&name);
                self.item(at, 0, &format!("option {name} code {code} = {};", def.ty.text(spaces)));
            }
        }
    }

    fn address(&self, address: &Address) -> String {
        match address {
            Address::Literal(address) => address.to_string(),
            Address::Name(place) => {
                self.config.names.get(*place as usize).map(|(name, _)| name.clone()).unwrap_or_default()
            }
        }
    }

    fn peer(&mut self, peer: &FailoverPeer) {
        let own = peer.span;
        self.open(own, 0, &format!("failover peer {} {{", quote(peer.name.as_bytes())));
        let role = if peer.role == Role::Primary { "primary" } else { "secondary" };
        self.item(self.named(own, &[role]), STEP, &format!("{role};"));
        let addresses = [("", &peer.address, peer.port), ("peer ", &peer.peer_address, peer.peer_port)];
        for (whose, address, port) in addresses {
            let name = |what: &'static str| if whose.is_empty() { vec![what] } else { vec!["peer", what] };
            if let Some(address) = address {
                let text = format!("{whose}address {};", self.address(address));
                self.item(self.named(own, &name("address")), STEP, &text);
            }
            self.item(self.named(own, &name("port")), STEP, &format!("{whose}port {port};"));
        }
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
            let words: Vec<&str> = name.split(' ').collect();
            self.item(self.named(own, &words), STEP, &format!("{name} {value};"));
        }
        match (peer.split, peer.hba) {
            (Some(split), _) => self.item(self.named(own, &["split"]), STEP, &format!("split {split};")),
            (None, Some(hba)) => self.item(self.named(own, &["hba"]), STEP, &format!("hba {};", octets(&hba))),
            (None, None) => {}
        }
        if let Some(path) = &peer.link_key_file {
            let text = format!("{LINK_KEY_FILE} {};", quote(path.as_bytes()));
            self.item(self.named(own, &[LINK_KEY_FILE]), STEP, &text);
        }
        self.close(own, 0);
        let Some(state) = peer.bootstrap else { return };
        self.comments.before(state.span, 0, &mut self.out);
        self.line(0, &format!("failover peer {} state {{", quote(peer.name.as_bytes())));
        for (whose, name, at) in
            [("my", state.my_state, state.my_at), ("partner", state.partner_state, state.partner_at)]
        {
            if let Some(name) = name {
                let at = at.map_or_else(String::new, |at| format!(" at {}", date(at)));
                let words = [whose, "state"];
                self.item(self.named(state.span, &words), STEP, &format!("{whose} state {}{at};", name.name()));
            }
        }
        if let Some(mclt) = state.mclt {
            self.item(self.named(state.span, &["mclt"]), STEP, &format!("mclt {mclt};"));
        }
        self.close(state.span, 0);
    }

    /// The statements of the block of a declaration, then the blocks in it.
    fn scope(&mut self, id: ScopeId, own: Option<Span>, indent: usize) {
        let config = self.config;
        let Some(scope) = config.scopes.get(id.0) else { return };
        let around =
            scope.parent.and_then(|parent| config.scopes.get(parent.0)).is_some_and(|scope| scope.authoritative);
        let says =
            matches!(scope.kind, ScopeKind::Root | ScopeKind::SharedNetwork | ScopeKind::Subnet | ScopeKind::Group(_));
        if says && scope.authoritative != around {
            let words: &[&str] = if scope.authoritative { &["authoritative"] } else { &["not", "authoritative"] };
            let at = match own {
                Some(own) => self.named(own, words),
                None => self.comments.named_on_top(words, &config.sources),
            };
            self.item(at, indent, &format!("{};", words.join(" ")));
        }
        for statement in &scope.statements {
            if let StatementKind::Assign { target: Target::Param(param), .. } = statement.kind
                && param.info().status == Status::Later
            {
                self.explain(indent, "accepted, but does nothing here");
            }
            write_statement(statement, config, indent, &mut self.comments, &mut self.out);
        }
        let children = self.children.get(&id).cloned().unwrap_or_default();
        for child in children {
            match child {
                Child::Scope(id) => self.child(id, indent),
                Child::Host(host) => self.host(host, indent),
            }
        }
    }

    fn child(&mut self, id: ScopeId, indent: usize) {
        let config = self.config;
        let inner = indent.saturating_add(STEP);
        match self.owners.get(&id).copied() {
            Some(Owner::Network(network)) => {
                let network = config.shared_network(network);
                let own = network.span;
                self.open(own, indent, &format!("shared-network {} {{", quote(network.name.as_bytes())));
                if let Some(interface) = &network.interface
                    && !network.subnets.iter().any(|id| config.subnet(*id).interface.is_some())
                {
                    let text = format!("interface {};", quote(interface.as_bytes()));
                    self.item(self.named(own, &["interface"]), inner, &text);
                }
                self.scope(id, Some(own), inner);
                self.close(own, indent);
            }
            Some(Owner::Subnet(subnet)) => self.subnet(subnet, id, indent),
            Some(Owner::Pool(pool)) => {
                let pool = config.pool(pool);
                if !pool.is_implicit {
                    self.pool(pool, id, indent);
                }
            }
            Some(Owner::Class(class)) => self.class(class, id, indent),
            None => {
                if let Some(scope) = config.scopes.get(id.0)
                    && let ScopeKind::Group(name) = &scope.kind
                {
                    let name = name.as_ref().map_or_else(String::new, |name| format!("{} ", quote(name.as_bytes())));
                    self.open(scope.span, indent, &format!("group {name}{{"));
                    self.scope(id, Some(scope.span), inner);
                    self.close(scope.span, indent);
                }
            }
        }
    }

    fn subnet(&mut self, subnet: SubnetId, id: ScopeId, indent: usize) {
        let config = self.config;
        let subnet = config.subnet(subnet);
        let inner = indent.saturating_add(STEP);
        let own = subnet.span;
        self.open(own, indent, &format!("subnet {} netmask {} {{", subnet.net, subnet.mask));
        if let Some(interface) = &subnet.interface {
            let text = format!("interface {};", quote(interface.as_bytes()));
            self.item(self.named(own, &["interface"]), inner, &text);
        }
        let network = config.shared_network(subnet.shared_network);
        for pool in network.pools.iter().map(|id| config.pool(*id)).filter(|pool| pool.is_implicit) {
            for range in pool
                .ranges
                .iter()
                .filter(|range| config.subnet_of(range.first).map(|id| config.subnet(id).scope) == Some(id))
            {
                let bootp = if pool.deny.is_empty() { "dynamic-bootp " } else { "" };
                self.item(Some(range.span), inner, &format!("range {bootp}{} {};", range.first, range.last));
            }
        }
        self.scope(id, Some(own), inner);
        self.close(own, indent);
    }

    fn pool(&mut self, pool: &Pool, id: ScopeId, indent: usize) {
        let inner = indent.saturating_add(STEP);
        let own = pool.span;
        self.open(own, indent, "pool {");
        let count = pool.address_count();
        self.explain(inner, &if count == 1 { "1 address".to_owned() } else { format!("{count} addresses") });
        if let Some(peer) = pool.failover {
            let name = quote(self.config.failover_peer(peer).name.as_bytes());
            self.item(self.named(own, &["failover"]), inner, &format!("failover peer {name};"));
        }
        for range in &pool.ranges {
            self.item(Some(range.span), inner, &format!("range {} {};", range.first, range.last));
        }
        for (verb, permits) in [("allow", &pool.allow), ("deny", &pool.deny)] {
            for permit in permits {
                let who = self.permit(permit);
                self.item(Some(permit.span), inner, &format!("{verb} {who};"));
            }
        }
        self.scope(id, Some(own), inner);
        self.close(own, indent);
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

    fn host(&mut self, host: HostId, indent: usize) {
        let config = self.config;
        let host = config.host(host);
        let inner = indent.saturating_add(STEP);
        let own = host.span;
        self.open(own, indent, &format!("host {} {{", config.declared_name(host.name)));
        if let Some(hw) = host.hw {
            let kind = match hw.htype() {
                1 => "ethernet".to_owned(),
                6 => "token-ring".to_owned(),
                8 => "fddi".to_owned(),
                32 => "infiniband".to_owned(),
                other => format!("unknown-{other}"),
            };
            self.item(self.named(own, &["hardware"]), inner, &format!("hardware {kind} {hw};"));
        }
        if let Some(client_id) = &host.client_id {
            let text = format!("uid {};", super::print::bytes_text(client_id));
            self.item(self.named(own, &["uid"]), inner, &text);
        }
        if let Some((option, value)) = host.identifier.as_deref() {
            let name = config.spaces.option_name(*option);
            let text = typed_text(&config.spaces.type_of(*option), value).unwrap_or_default();
            let at = self.named(own, &["host-identifier"]);
            self.item(at, inner, &format!("host-identifier option {name} {text};"));
        }
        if !host.fixed_addresses.is_empty() {
            let all: Vec<String> = host.fixed_addresses.iter().map(|address| self.address(address)).collect();
            self.item(self.named(own, &["fixed-address"]), inner, &format!("fixed-address {};", all.join(", ")));
        }
        if config.scopes.get(host.scope.0).is_some_and(|scope| scope.kind == ScopeKind::Host) {
            self.scope(host.scope, Some(own), inner);
        }
        self.close(own, indent);
    }

    fn class(&mut self, class: ClassId, id: ScopeId, indent: usize) {
        let config = self.config;
        let inner = indent.saturating_add(STEP);
        let of = class;
        let class = config.class(class);
        let name = quote(class.name.as_bytes());
        let own = class.span;
        self.open(own, indent, &format!("class {name} {{"));
        if let Some(condition) = &class.match_if {
            let text = format!("match if {};", expression(condition, config));
            self.item(self.named(own, &["match", "if"]), inner, &text);
        }
        if let Some(submatch) = &class.submatch {
            let verb = if class.is_spawning { "spawn with" } else { "match" };
            let words: &[&str] = if class.is_spawning { &["spawn", "with"] } else { &["match"] };
            self.item(self.named(own, words), inner, &format!("{verb} {};", expression(submatch, config)));
        }
        if let Some(limit) = class.lease_limit {
            self.item(self.named(own, &["lease", "limit"]), inner, &format!("lease limit {limit};"));
        }
        self.scope(id, Some(own), inner);
        self.close(own, indent);
        for subclass in config.subclasses.iter().filter(|subclass| subclass.class == of) {
            let head = format!("subclass {name} {}", super::print::bytes_text(&subclass.value));
            let has_block = subclass.scope != id || subclass.lease_limit != class.lease_limit;
            let own = subclass.span;
            if !has_block {
                self.item(Some(own), indent, &format!("{head};"));
                continue;
            }
            self.comments.before(own, indent, &mut self.out);
            self.line(indent, &format!("{head} {{"));
            if let Some(limit) = subclass.lease_limit.filter(|_| subclass.lease_limit != class.lease_limit) {
                self.item(self.named(own, &["lease", "limit"]), inner, &format!("lease limit {limit};"));
            }
            if subclass.scope != id {
                self.scope(subclass.scope, Some(own), inner);
            }
            self.close(own, indent);
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
