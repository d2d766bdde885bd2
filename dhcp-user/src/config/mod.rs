//! The configuration: dhcpd.conf text to a checked, compiled model, and its evaluation for one packet.
//!
//! ```text
//!   bytes --lexer--> tokens with spans --parser--> statements and declarations --check--> Config
//!   Config + Context --classify--> Membership
//!   Config + Chain + Context --evaluate--> Evaluation: options, parameters, hooks, what they depended on
//! ```
//!
//! Pure: files are read through a function that [`load`] is given, and nothing else of the world is seen. Nothing of
//! the text is ignored silently: a statement acts, or there is a warning or an error with `file:line:column`.

pub mod classify;
mod comments;
pub mod context;
pub mod convert;
pub mod diagnostic;
pub mod difference;
mod domain;
pub mod evaluate;
pub mod ids;
mod lexer;
pub mod limits;
pub mod lint;
mod lookup;
mod machine;
pub mod model;
mod option_table;
pub mod options;
mod pair;
pub mod param;
mod parse;
mod pattern;
mod print;
mod received;
pub mod reference;
pub mod span;
mod statement;
#[cfg(test)]
mod tests;
pub mod trail;

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

pub use classify::{Member, Membership, Via};
pub use context::{Context, Malformed, ReceivedOptions, VariableValue, Variables};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use evaluate::{Chain, Depends, Evaluation, Execution, Hook, LogLine, LogPriority};
pub use ids::{ClassId, HostId, PeerId, PoolId, ScopeId, SharedNetworkId, SubclassId, SubnetId};
pub use model::{
    Address, Class, DbTimeFormat, FailoverPeer, GuardMode, Host, LeaseIdFormat, Permit, PermitKind, PermitVerdict,
    Pool, Process, Range, Role, SharedNetwork, StateBootstrap, StateName, Subclass, Subnet,
};
pub use options::{OptionRef, SpaceId, Spaces};
pub use param::Param;
pub use span::{FileId, Location, Sources, Span};

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; `None` when there is any error.
    pub config: Option<Config>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

/// Reads, checks and compiles a configuration. `root` names the main file; `read` opens it and what it includes, and
/// its error is a sentence for people.
#[must_use]
pub fn load(root: &str, read: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>) -> Loaded {
    let mut parser = parse::Parser::new(Config::new(Spaces::new()), read);
    parser.run(root);
    let parse::Parser { mut config, diagnostics: mut list, suppressed, .. } = parser;
    list.sort_by_key(|one| one.span.start);
    list.sort_by_key(|one| one.span.file);
    let diagnostics = Diagnostics { list, sources: config.sources.clone(), suppressed };
    if diagnostics.errors_count() > 0 {
        return Loaded { config: None, diagnostics };
    }
    config.complete();
    Loaded { config: Some(config), diagnostics }
}

/// Reads the body of a hook in the world of a configuration.
fn parse_hook(config: &Config, text: &str) -> Result<Hook, String> {
    let mut bare = Config::new(config.spaces.clone());
    bare.classes.clone_from(&config.classes);
    bare.class_names.clone_from(&config.class_names);
    let text = format!("on commit {{\n{text}\n}}\n");
    let mut read = |_: &str| Ok(text.clone().into_bytes());
    let mut parser = parse::Parser::new(bare, &mut read);
    parser.run("lease record");
    let parse::Parser { config: read_config, diagnostics: list, suppressed, .. } = parser;
    let diagnostics = Diagnostics { list, sources: read_config.sources, suppressed };
    let statement = read_config.scopes.into_iter().next().and_then(|scope| scope.statements.into_iter().next());
    match statement.map(|statement| statement.kind) {
        Some(statement::StatementKind::On(_, hook)) if diagnostics.errors_count() == 0 => Ok(hook),
        _ => Err(diagnostics.render(false)),
    }
}

/// Reads one assignment of an option in the world of a configuration: what is assigned, and the bytes.
fn parse_option(config: &Config, text: &str) -> Result<(OptionRef, Vec<u8>), String> {
    let mut read = |_: &str| Ok(text.as_bytes().to_vec());
    let mut parser = parse::Parser::new(Config::new(config.spaces.clone()), &mut read);
    parser.run("--option");
    let parse::Parser { config: read_config, diagnostics: list, suppressed, .. } = parser;
    let diagnostics = Diagnostics { list, sources: read_config.sources, suppressed };
    if diagnostics.errors_count() > 0 {
        return Err(diagnostics.render(false));
    }
    let statement = read_config.scopes.into_iter().next().and_then(|scope| scope.statements.into_iter().next());
    match statement.map(|statement| statement.kind) {
        Some(statement::StatementKind::Assign {
            target: statement::Target::Option(option),
            value: statement::Expr::Const(bytes),
            ..
        }) => Ok((option, bytes.to_vec())),
        _ => Err("the value must be the same for every message".to_owned()),
    }
}

/// A checked and compiled configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is set once for the whole process.
    pub process: Process,
    /// Networks, in order of declaration; [`SharedNetworkId`] is the place.
    pub shared_networks: Vec<SharedNetwork>,
    /// Subnets; [`SubnetId`] is the place.
    pub subnets: Vec<Subnet>,
    /// Pools; [`PoolId`] is the place.
    pub pools: Vec<Pool>,
    /// Host declarations; [`HostId`] is the place.
    pub hosts: Vec<Host>,
    /// Classes; [`ClassId`] is the place.
    pub classes: Vec<Class>,
    /// Declared subclasses; [`SubclassId`] is the place.
    pub subclasses: Vec<Subclass>,
    /// Failover peers; [`PeerId`] is the place.
    pub failover_peers: Vec<FailoverPeer>,
    /// Option spaces.
    pub spaces: Spaces,
    /// The text, for people.
    pub sources: Sources,
    /// Statements that only this server knows, where they are written.
    pub extensions: Vec<(&'static str, Span)>,
    scopes: Vec<statement::Scope>,
    class_names: HashMap<Arc<str>, ClassId>,
    /// Names of functions made with `define` anywhere.
    functions: HashSet<String>,
    /// Functions of the top level: known to classes too.
    global_functions: HashMap<Arc<str>, Arc<statement::Function>>,
    /// Names of all host declarations, one behind the other.
    declared_names: String,
    /// Host names and what they resolved to.
    names: Vec<(String, Vec<Ipv4Addr>)>,
    /// `gethostname()`.
    machine_name: Option<String>,
    encapsulations: Vec<(OptionRef, SpaceId)>,
    lookup: lookup::Lookup,
}

impl Config {
    fn new(spaces: Spaces) -> Self {
        Self {
            process: Process::default(),
            shared_networks: Vec::new(),
            subnets: Vec::new(),
            pools: Vec::new(),
            hosts: Vec::new(),
            classes: Vec::new(),
            subclasses: Vec::new(),
            failover_peers: Vec::new(),
            spaces,
            sources: Sources::default(),
            extensions: Vec::new(),
            scopes: Vec::new(),
            class_names: HashMap::new(),
            functions: HashSet::new(),
            global_functions: HashMap::new(),
            declared_names: String::new(),
            names: Vec::new(),
            machine_name: None,
            encapsulations: Vec::new(),
            lookup: lookup::Lookup::default(),
        }
    }

    /// A configuration that knows nothing: the world that constants are folded in.
    fn empty() -> Self {
        Self::new(Spaces::none())
    }

    /// A network.
    ///
    /// # Panics
    ///
    /// If the number is of another configuration; so do the other lookups by number.
    #[must_use]
    pub fn shared_network(&self, id: SharedNetworkId) -> &SharedNetwork {
        &self.shared_networks[id.0]
    }

    /// A subnet.
    #[must_use]
    pub fn subnet(&self, id: SubnetId) -> &Subnet {
        &self.subnets[id.0]
    }

    /// A pool.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> &Pool {
        &self.pools[id.0]
    }

    /// A host declaration.
    #[must_use]
    pub fn host(&self, id: HostId) -> &Host {
        &self.hosts[id.0]
    }

    /// Name of a host declaration.
    #[must_use]
    pub fn host_name(&self, id: HostId) -> &str {
        self.declared_name(self.host(id).name)
    }

    fn declared_name(&self, name: model::HostName) -> &str {
        self.declared_names.get(name.start as usize..name.end as usize).unwrap_or_default()
    }

    /// A failover peer.
    #[must_use]
    pub fn failover_peer(&self, id: PeerId) -> &FailoverPeer {
        &self.failover_peers[id.0]
    }

    /// A class.
    #[must_use]
    pub fn class(&self, id: ClassId) -> &Class {
        &self.classes[id.0]
    }

    /// A declared subclass.
    #[must_use]
    pub fn subclass(&self, id: SubclassId) -> &Subclass {
        &self.subclasses[id.0]
    }

    /// Name of a class, as `billing class "..."` writes it.
    #[must_use]
    pub fn class_name(&self, id: ClassId) -> &str {
        &self.class(id).name
    }

    /// The class of this name (case-sensitive).
    #[must_use]
    pub fn class_by_name(&self, name: &str) -> Option<ClassId> {
        self.class_names.get(name).copied()
    }

    /// The authoritative flag of the root scope.
    #[must_use]
    pub fn is_authoritative(&self) -> bool {
        self.scopes.first().is_some_and(|scope| scope.authoritative)
    }

    /// Names that stand where addresses may; to be resolved outside and brought back with [`Self::resolve`].
    pub fn host_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| &**name)
    }

    /// Brings in the addresses of a name.
    pub fn resolve(&mut self, name: &str, addresses: &[Ipv4Addr]) {
        if let Some((_, known)) = self.names.iter_mut().find(|(known, _)| known == name) {
            *known = addresses.to_vec();
        }
    }

    /// Brings in the name of the machine, for `gethostname()`.
    pub fn set_machine_name(&mut self, name: &str) {
        self.machine_name = Some(name.to_owned());
    }

    /// What an address came to; the first one of a name.
    #[must_use]
    pub fn address(&self, address: &Address) -> Option<Ipv4Addr> {
        self.addresses(address).first().copied()
    }

    /// What an address came to; all of a name.
    #[must_use]
    pub fn addresses(&self, address: &Address) -> Vec<Ipv4Addr> {
        match address {
            Address::Literal(address) => vec![*address],
            Address::Name(place) => {
                self.names.get(*place as usize).map(|(_, addresses)| addresses.clone()).unwrap_or_default()
            }
        }
    }

    /// Addresses of a host declaration: digits, and what names resolved to.
    #[must_use]
    pub fn fixed_addresses(&self, id: HostId) -> Vec<Ipv4Addr> {
        self.host(id).fixed_addresses.iter().flat_map(|address| self.addresses(address)).collect()
    }

    /// Whether an option of the message holds text (clients that end their host name with NUL get text that does).
    #[must_use]
    pub fn is_text_option(&self, code: u8) -> bool {
        let ty = self.spaces.type_of(OptionRef { space: SpaceId::DHCP, code: u32::from(code) });
        ty.elems.last() == Some(&options::Elem::Text)
    }

    /// Name of an option of the message (`domain-name-servers`, `unknown-200`).
    #[must_use]
    pub fn option_name(&self, code: u8) -> String {
        self.spaces.option_name(OptionRef { space: SpaceId::DHCP, code: u32::from(code) })
    }

    /// File, line and column of a span.
    #[must_use]
    pub fn locate(&self, span: Span) -> Location {
        self.sources.locate(span)
    }
}
