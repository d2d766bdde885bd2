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
pub mod context;
pub mod diagnostic;
pub mod evaluate;
pub mod ids;
pub mod model;
pub mod options;
pub mod param;
pub mod span;

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;

pub use classify::{Member, Membership, Via};
pub use context::{Context, Malformed, ReceivedOptions, VariableValue, Variables};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use evaluate::{Chain, Depends, Evaluation, Execution, Hook, LogLine, LogPriority};
pub use ids::{ClassId, HostId, PeerId, PoolId, ScopeId, SharedNetworkId, SubclassId, SubnetId};
pub use model::{
    Address, DbTimeFormat, FailoverPeer, Host, LeaseIdFormat, Permit, PermitKind, PermitVerdict, Pool, Process, Range,
    Role, SharedNetwork, StateBootstrap, StateName, Subnet,
};
pub use options::{OptionRef, SpaceId};
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
pub fn load(_root: &str, _read: &mut dyn FnMut(&str) -> Result<Vec<u8>, String>) -> Loaded {
    todo!()
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
    /// Failover peers; [`PeerId`] is the place.
    pub failover_peers: Vec<FailoverPeer>,
    /// The text, for people.
    pub sources: Sources,
}

impl Config {
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

    /// A failover peer.
    #[must_use]
    pub fn failover_peer(&self, id: PeerId) -> &FailoverPeer {
        &self.failover_peers[id.0]
    }

    /// Name of a class, as `billing class "..."` writes it.
    #[must_use]
    pub fn class_name(&self, _id: ClassId) -> &str {
        todo!()
    }

    /// The class of this name (case-sensitive).
    #[must_use]
    pub fn class_by_name(&self, _name: &str) -> Option<ClassId> {
        todo!()
    }

    /// The most specific subnet that contains the address.
    #[must_use]
    pub fn subnet_of(&self, _address: Ipv4Addr) -> Option<SubnetId> {
        todo!()
    }

    /// The pool whose ranges contain the address.
    #[must_use]
    pub fn pool_of(&self, _address: Ipv4Addr) -> Option<PoolId> {
        todo!()
    }

    /// The network of an interface: by `interface NAME`, else the subnet that contains one of its addresses.
    #[must_use]
    pub fn shared_network_of_interface(&self, _name: &str, _addresses: &[(Ipv4Addr, u8)]) -> Option<SharedNetworkId> {
        todo!()
    }

    /// The authoritative flag of the root scope.
    #[must_use]
    pub fn is_authoritative(&self) -> bool {
        todo!()
    }

    /// Host declarations with this client identifier, in dhcpd's order of search.
    #[must_use]
    pub fn hosts_by_client_id(&self, _client_id: &[u8]) -> &[HostId] {
        todo!()
    }

    /// Host declarations with this hardware address.
    #[must_use]
    pub fn hosts_by_hw(&self, _hw: &HwAddr) -> &[HostId] {
        todo!()
    }

    /// Host declarations whose `host-identifier` the packet carries.
    #[must_use]
    pub fn hosts_by_identifier(&self, _context: &Context<'_>) -> Vec<HostId> {
        todo!()
    }

    /// Addresses of a host declaration: digits, and what names resolved to.
    #[must_use]
    pub fn fixed_addresses(&self, _id: HostId) -> Vec<Ipv4Addr> {
        todo!()
    }

    /// Names that stand where addresses may; to be resolved outside and brought back with [`Self::resolve`].
    pub fn host_names(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// Brings in the addresses of a name.
    pub fn resolve(&mut self, _name: &str, _addresses: Vec<Ipv4Addr>) {
        todo!()
    }

    /// What an address came to; the first one of a name.
    #[must_use]
    pub fn address(&self, _address: &Address) -> Option<Ipv4Addr> {
        todo!()
    }

    /// Whether an option of the message holds text (clients that end their host name with NUL get text that does).
    #[must_use]
    pub fn is_text_option(&self, _code: u8) -> bool {
        todo!()
    }

    /// Name of an option of the message (`domain-name-servers`, `unknown-200`).
    #[must_use]
    pub fn option_name(&self, _code: u8) -> String {
        todo!()
    }

    /// File, line and column of a span.
    #[must_use]
    pub fn locate(&self, span: Span) -> Location {
        self.sources.locate(span)
    }
}
