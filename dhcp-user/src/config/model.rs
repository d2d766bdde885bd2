//! The checked model: what the engine asks about networks, pools, hosts, classes and peers.

use std::net::Ipv4Addr;
use std::sync::Arc;

use dhcp_ebpf::wire::dhcp::HwAddr;

use super::ids::{ClassId, PeerId, PoolId, ScopeId, SharedNetworkId, SubnetId};
use super::span::Span;

/// An address as the text gives it: digits, or a name that is resolved outside ([`super::Config::host_names`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// Digits.
    Literal(Ipv4Addr),
    /// A name: place in the list of [`super::Config::host_names`].
    Name(u32),
}

/// Addresses in order: nearly always one, which needs no room elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// One.
    One([Address; 1]),
    /// None, or several.
    Many(Box<[Address]>),
}

impl Default for Addresses {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

impl From<Vec<Address>> for Addresses {
    fn from(all: Vec<Address>) -> Self {
        Self::Many(all.into())
    }
}

impl std::ops::Deref for Addresses {
    type Target = [Address];

    fn deref(&self) -> &[Address] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

/// The name of a host: where it stands among all names, which are kept in one piece
/// ([`super::Config::host_name`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostName {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// How dates are written to the leases file (`db-time-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DbTimeFormat {
    /// `W YYYY/MM/DD HH:MM:SS` in UTC.
    #[default]
    Default,
    /// `epoch N; # local time`.
    Local,
}

/// How client identifiers are written to the leases file (`lease-id-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeaseIdFormat {
    /// Quoted text with octal escapes.
    #[default]
    Octal,
    /// Hexadecimal octets.
    Hex,
}

/// What is set once for the whole process, from the root scope (reference section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// `lease-file-name`; `None` = the command line or the default decides.
    pub lease_file: Option<String>,
    /// `pid-file-name`.
    pub pid_file: Option<String>,
    /// `log-facility`, lower case (`local7`).
    pub log_facility: Option<String>,
    /// `local-port`, default 67.
    pub local_port: Option<u16>,
    /// `remote-port`, default 68.
    pub remote_port: Option<u16>,
    /// `local-address`.
    pub local_address: Option<Ipv4Addr>,
    /// `limited-broadcast-address`.
    pub limited_broadcast: Option<Ipv4Addr>,
    /// `db-time-format`.
    pub db_time_format: DbTimeFormat,
    /// `lease-id-format`.
    pub lease_id_format: LeaseIdFormat,
    /// `delayed-ack`: how many ACKs may wait for one sync; 0 = off.
    pub delayed_ack: u16,
    /// `max-ack-delay`, microseconds.
    pub max_ack_delay_us: u32,
    /// `dont-use-fsync`.
    pub dont_use_fsync: bool,
    /// `server-id-check`.
    pub server_id_check: bool,
    /// `abandon-lease-time`, seconds.
    pub abandon_lease_time: u32,
    /// `omapi-port`, if configured.
    pub omapi_port: Option<u16>,
    /// `xdhcpd-guard`.
    pub guard: GuardMode,
    /// `xdhcpd-client-rate`: messages of one client in a minute; 0 = any number.
    pub client_rate: u32,
}

/// What is done about clients that ask for more than their share (`xdhcpd-guard`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GuardMode {
    /// It is counted and shown; everybody is served.
    #[default]
    Monitor,
    /// It is counted, and not served.
    Enforce,
    /// Nobody looks.
    Off,
}

impl GuardMode {
    /// The word in dhcpd.conf.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Enforce => "enforce",
            Self::Off => "off",
        }
    }
}

impl Default for Process {
    fn default() -> Self {
        Self {
            lease_file: None,
            pid_file: None,
            log_facility: None,
            local_port: None,
            remote_port: None,
            local_address: None,
            limited_broadcast: None,
            db_time_format: DbTimeFormat::Default,
            lease_id_format: LeaseIdFormat::Octal,
            delayed_ack: 0,
            max_ack_delay_us: 250_000,
            dont_use_fsync: false,
            server_id_check: false,
            abandon_lease_time: 86_400,
            omapi_port: None,
            guard: GuardMode::Monitor,
            client_rate: 300,
        }
    }
}

/// A shared network.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedNetwork {
    /// Name; `NET/LEN` for the implicit network of a lone subnet.
    pub name: Arc<str>,
    /// Whether a lone subnet implied it.
    pub is_implicit: bool,
    /// Its subnets, in order of declaration.
    pub subnets: Vec<SubnetId>,
    /// Its pools, in order of declaration.
    pub pools: Vec<PoolId>,
    /// `authoritative` in force in its block.
    pub authoritative: bool,
    /// `interface NAME`.
    pub interface: Option<String>,
    /// Where it is declared.
    pub span: Span,
    /// Its statements.
    pub scope: ScopeId,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq)]
pub struct Subnet {
    /// Network address.
    pub net: Ipv4Addr,
    /// Netmask.
    pub mask: Ipv4Addr,
    /// The network it is on.
    pub shared_network: SharedNetworkId,
    /// `authoritative` in force in its block.
    pub authoritative: bool,
    /// `interface NAME`.
    pub interface: Option<String>,
    /// Where it is declared.
    pub span: Span,
    /// Its statements; the network's when that is implicit.
    pub scope: ScopeId,
}

impl Subnet {
    /// Whether `address` is in the subnet.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask.to_bits() == self.net.to_bits()
    }

    /// Number of one-bits of the netmask.
    #[must_use]
    pub fn prefix_len(&self) -> u8 {
        self.mask.to_bits().count_ones() as u8
    }
}

/// Addresses from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// Lowest address.
    pub first: Ipv4Addr,
    /// Highest address.
    pub last: Ipv4Addr,
    /// Where it is declared.
    pub span: Span,
}

impl Range {
    /// Number of addresses.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::from(self.last.to_bits()).saturating_sub(u64::from(self.first.to_bits())).saturating_add(1)
    }

    /// Whether `address` is in the range.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

/// Whom a permit speaks of (reference section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PermitKind {
    /// Clients with a host declaration.
    KnownClients,
    /// Clients without one.
    UnknownClients,
    /// Clients that authenticated: nobody.
    AuthenticatedClients,
    /// Clients that did not: everybody.
    UnauthenticatedClients,
    /// Everybody.
    AllClients,
    /// BOOTP clients without a host declaration's address.
    DynamicBootpClients,
    /// Members of a class or of one of its subclasses.
    MembersOf(ClassId),
    /// Everybody, after this instant (seconds since 1970).
    After(u32),
}

/// One entry of a pool's `allow` or `deny` list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// Whom it speaks of.
    pub kind: PermitKind,
    /// Where it is written.
    pub span: Span,
}

/// Whether a pool may serve a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PermitVerdict {
    /// Whether it may.
    pub allowed: bool,
    /// The instant (seconds since 1970) at which an `after` changes the answer; `None` = it does not.
    pub until: Option<u32>,
    /// The entry that decided; `None` = there is no list, or nothing in it fits.
    pub by: Option<Span>,
}

/// A pool of addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// The network it serves.
    pub shared_network: SharedNetworkId,
    /// Its ranges, in order of declaration.
    pub ranges: Vec<Range>,
    /// `allow` list.
    pub allow: Vec<Permit>,
    /// `deny` list.
    pub deny: Vec<Permit>,
    /// The failover peer that shares it.
    pub failover: Option<PeerId>,
    /// `allow after`: not usable before (seconds since 1970).
    pub valid_from: Option<u32>,
    /// `deny after`: not usable later, and leases end there.
    pub valid_until: Option<u32>,
    /// Whether a range directly in a subnet implied it.
    pub is_implicit: bool,
    /// Where it is declared.
    pub span: Span,
    /// Its statements.
    pub scope: ScopeId,
}

impl Pool {
    /// Number of addresses.
    #[must_use]
    pub fn address_count(&self) -> u64 {
        self.ranges.iter().map(Range::count).sum()
    }
}

/// A host declaration. There may be a hundred thousand: what is rare has its room elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Name.
    pub name: HostName,
    /// `fixed-address`, in order.
    pub fixed_addresses: Addresses,
    /// `hardware`.
    pub hw: Option<HwAddr>,
    /// `uid` or `option dhcp-client-identifier`.
    pub client_id: Option<Arc<[u8]>>,
    /// `host-identifier option`: space, code and value.
    pub identifier: Option<Box<(super::options::OptionRef, Arc<[u8]>)>>,
    /// Where it is declared.
    pub span: Span,
    /// Its statements; those of the block around it when it has none.
    pub scope: ScopeId,
}

/// Which side of a failover pair this server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Primary.
    Primary,
    /// Secondary.
    Secondary,
}

/// A failover state as `state` blocks write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are dhcpd's")]
pub enum StateName {
    Startup,
    Recover,
    RecoverWait,
    RecoverDone,
    Normal,
    CommunicationsInterrupted,
    PartnerDown,
    PotentialConflict,
    ConflictDone,
    ResolutionInterrupted,
    Paused,
    Shutdown,
    Unknown,
}

impl StateName {
    /// The name in configuration and leases files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Recover => "recover",
            Self::RecoverWait => "recover-wait",
            Self::RecoverDone => "recover-done",
            Self::Normal => "normal",
            Self::CommunicationsInterrupted => "communications-interrupted",
            Self::PartnerDown => "partner-down",
            Self::PotentialConflict => "potential-conflict",
            Self::ConflictDone => "conflict-done",
            Self::ResolutionInterrupted => "resolution-interrupted",
            Self::Paused => "paused",
            Self::Shutdown => "shutdown",
            Self::Unknown => "unknown-state",
        }
    }

    /// All states.
    pub const ALL: [Self; 13] = [
        Self::Startup,
        Self::Recover,
        Self::RecoverWait,
        Self::RecoverDone,
        Self::Normal,
        Self::CommunicationsInterrupted,
        Self::PartnerDown,
        Self::PotentialConflict,
        Self::ConflictDone,
        Self::ResolutionInterrupted,
        Self::Paused,
        Self::Shutdown,
        Self::Unknown,
    ];
}

/// `failover peer "N" state { ... }` in the configuration: where to begin when the leases file does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateBootstrap {
    /// `my state`.
    pub my_state: Option<StateName>,
    /// `at` of it, seconds since 1970; `None` = now.
    pub my_at: Option<u32>,
    /// `partner state`.
    pub partner_state: Option<StateName>,
    /// `at` of it, seconds since 1970; `None` = now.
    pub partner_at: Option<u32>,
    /// `mclt`, seconds (secondary only).
    pub mclt: Option<u32>,
    /// Where it is written.
    pub span: Span,
}

/// A failover peer declaration (reference section 10).
#[derive(Debug, Clone, PartialEq)]
pub struct FailoverPeer {
    /// Name.
    pub name: Arc<str>,
    /// Our side.
    pub role: Role,
    /// `address`: ours, to listen on and to dial from. dhcpd refuses to start without one.
    pub address: Option<Address>,
    /// `port`, default 647.
    pub port: u16,
    /// `peer address`: the partner's.
    pub peer_address: Option<Address>,
    /// `peer port`, default 647.
    pub peer_port: u16,
    /// `max-response-delay`, seconds, default 20.
    pub max_response_delay: u32,
    /// `max-unacked-updates`, default 100.
    pub max_unacked: u32,
    /// `mclt`, seconds; 0 on a secondary that learns it.
    pub mclt: u32,
    /// `split` or `hba`: bit set = the primary serves that hash value (byte `h >> 3`, bit `h & 7`); `None` on a
    /// secondary.
    pub hba: Option<[u8; 32]>,
    /// `split` as written, if it was that.
    pub split: Option<u16>,
    /// `load balance max seconds`; 0 = load balancing off.
    pub load_balance_max_secs: u32,
    /// `auto-partner-down`, seconds; 0 = never.
    pub auto_partner_down: u32,
    /// `max-lease-misbalance`, percent, default 15.
    pub max_lease_misbalance: u32,
    /// `max-lease-ownership`, percent, default 10.
    pub max_lease_ownership: u32,
    /// `min-balance`, seconds, default 60.
    pub min_balance: u32,
    /// `max-balance`, seconds, default 3600.
    pub max_balance: u32,
    /// `xdhcpd-link-key-file`: where the key is that protects the link; `None` = plain, as dhcpd speaks.
    pub link_key_file: Option<Arc<str>>,
    /// The `state` block of the configuration.
    pub bootstrap: Option<StateBootstrap>,
    /// Where it is declared.
    pub span: Span,
}

/// A class.
#[derive(Debug, Clone)]
pub struct Class {
    /// Name.
    pub name: Arc<str>,
    /// `match if`.
    pub(super) match_if: Option<super::statement::Expr>,
    /// `match` or `spawn with`.
    pub(super) submatch: Option<super::statement::Expr>,
    /// Whether an unknown value makes a subclass.
    pub is_spawning: bool,
    /// `lease limit`.
    pub lease_limit: Option<u32>,
    /// Its statements.
    pub scope: ScopeId,
    /// Subclasses by value.
    pub(super) subclasses: hashbrown::HashMap<Arc<[u8]>, super::ids::SubclassId>,
    /// Where it is first declared.
    pub span: Span,
}

/// A declared subclass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subclass {
    /// The class it belongs to.
    pub class: ClassId,
    /// The value it stands for.
    pub value: Arc<[u8]>,
    /// `lease limit`, its own or that of the class.
    pub lease_limit: Option<u32>,
    /// Its statements; the class's when it has no block.
    pub scope: ScopeId,
    /// Where it is declared.
    pub span: Span,
}
