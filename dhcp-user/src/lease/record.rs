//! One lease, thick and owned: what the engine thinks with and what a record of the journal says.

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;

use super::state::BindingState;
use super::time::WallTime;

/// One binding of an address, with everything the leases file can say about it.
///
/// A time that is not known is [`WallTime::NONE`] and is not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The leased address.
    pub address: Ipv4Addr,
    /// When the lease began.
    pub starts: WallTime,
    /// Until when the client was told it owns the address.
    pub ends: WallTime,
    /// The promise (horizon): the latest instant up to which this server may tell the client it owns the
    /// address; in a failover pool also what the partner was told.
    #[doc(alias = "horizon")]
    #[doc(alias = "potential_expiry_sent")]
    pub tstp: WallTime,
    /// The potential expiry the partner told us, or acknowledged.
    #[doc(alias = "potential_expiry_received")]
    pub tsfp: WallTime,
    /// The potential expiry the partner has acknowledged or sent; none while a change is not acknowledged.
    #[doc(alias = "potential_expiry_acknowledged")]
    pub atsfp: WallTime,
    /// Last transaction with the client on this server.
    pub cltt: WallTime,
    /// The state.
    pub state: BindingState,
    /// The state it goes to at `ends`.
    pub next_state: BindingState,
    /// The state most recently told to, or accepted from, the partner.
    pub rewind_state: BindingState,
    /// The address is reserved for its client, also while free.
    pub is_reserved: bool,
    /// Given to a BOOTP client (`dynamic-bootp`).
    pub is_bootp: bool,
    /// The client's hardware address.
    pub hw: Option<HwAddr>,
    /// The client identifier (option 61), without the option's code and length.
    #[doc(alias = "uid")]
    pub client_id: Option<Box<[u8]>>,
    /// The host name the client sent (option 12), raw; the journal leaves it out when it cannot be printed.
    pub hostname: Option<Box<[u8]>>,
    /// The relay's option 82: its sub-options as they came, each with code and length.
    pub agent_options: Option<Box<[u8]>>,
    /// `set` variables, the most recently created first.
    pub variables: Vec<Variable>,
    /// The class whose places this lease counts against.
    pub billing: Option<Billing>,
    /// Statements for when the lease expires: the text between the braces as the file has it.
    pub on_expiry: Option<Box<[u8]>>,
    /// Statements for when the client releases; equal to `on_expiry` means one `on expiry or release` block.
    pub on_release: Option<Box<[u8]>>,
    /// Fields of a foreign file that this server does not know, as they stood, each with its `;` or `}`.
    pub unknown: Option<Box<[u8]>>,
}

impl Lease {
    /// A free lease that was never used.
    #[must_use]
    pub const fn free(address: Ipv4Addr) -> Self {
        Self {
            address,
            starts: WallTime::NONE,
            ends: WallTime::NONE,
            tstp: WallTime::NONE,
            tsfp: WallTime::NONE,
            atsfp: WallTime::NONE,
            cltt: WallTime::NONE,
            state: BindingState::Free,
            next_state: BindingState::Free,
            rewind_state: BindingState::Free,
            is_reserved: false,
            is_bootp: false,
            hw: None,
            client_id: None,
            hostname: None,
            agent_options: None,
            variables: Vec::new(),
            billing: None,
            on_expiry: None,
            on_release: None,
            unknown: None,
        }
    }

    /// Whether a client ever had it, as far as is known: it has a hardware address or a client identifier.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.hw.is_some() || self.client_id.is_some()
    }

    /// Until when the client may believe it owns the address: `ends`, or the promise when that is later.
    #[must_use]
    pub fn promised_until(&self) -> WallTime {
        self.ends.max(self.tstp)
    }

    /// The value of a `set` variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&Value> {
        self.variables.iter().find(|variable| &*variable.name == name).map(|variable| &variable.value)
    }

    /// Sets a variable: in its place when it exists, as the first otherwise (dhcpd: newest first).
    pub fn set_variable(&mut self, name: &str, value: Value) {
        match self.variables.iter_mut().find(|variable| &*variable.name == name) {
            Some(variable) => variable.value = value,
            None => self.variables.insert(0, Variable { name: name.into(), value }),
        }
    }
}

/// A named value stored with a lease (`set NAME = VALUE;`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Variable {
    /// The name.
    pub name: Box<str>,
    /// The value.
    pub value: Value,
}

/// The value of a variable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// Bytes, written as a quoted string.
    Data(Box<[u8]>),
    /// A number, written `%N`.
    Number(i64),
    /// `true` or `false`.
    Boolean(bool),
}

/// The class that a lease is billed to (dhcpd: `lease limit`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Billing {
    /// A class.
    Class(Box<[u8]>),
    /// A subclass: the class's name and the subclass's value.
    Subclass(Box<[u8]>, Box<[u8]>),
}
