//! What an expression may look at: the message, its options, and what the engine already knows of the client.

use std::net::Ipv4Addr;
use std::sync::Arc;

use dhcp_ebpf::wire::dhcp::HwAddr;

/// Why the options of a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The message ends before the options.
    Short,
    /// The magic cookie is not there.
    Cookie,
    /// An option has no length byte.
    LengthMissing,
    /// An option says it is longer than its field.
    PastTheEnd,
}

/// The options of a message: the instances of a code joined (RFC 3396), `file` and `sname` read when option 52 says
/// so (RFC 2131 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReceivedOptions {
    /// Code, start and length in `bytes`, in order of first appearance.
    entries: Vec<(u8, u16, u16)>,
    bytes: Vec<u8>,
    overload: u8,
}

impl ReceivedOptions {
    /// Reads the options of a whole BOOTP message.
    ///
    /// # Errors
    ///
    /// [`Malformed`], one variant per reason; the message should then be dropped.
    pub fn parse(_message: &[u8]) -> Result<Self, Malformed> {
        todo!()
    }

    /// The joined bytes of an option; `None` when it is absent.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        let (_, start, len) = self.entries.iter().find(|(this, _, _)| *this == code)?;
        let start = usize::from(*start);
        self.bytes.get(start..start.checked_add(usize::from(*len))?)
    }

    /// The codes, in order of first appearance.
    pub fn codes(&self) -> impl Iterator<Item = u8> + '_ {
        self.entries.iter().map(|(code, _, _)| *code)
    }

    /// Whether `file` or `sname` carried options.
    #[must_use]
    pub fn has_overload(&self) -> bool {
        self.overload != 0
    }

    /// Adds an option that the message did not carry (stashed option 82), or replaces it.
    pub fn set(&mut self, _code: u8, _data: &[u8]) {
        todo!()
    }
}

/// The value of a variable (`set`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariableValue {
    /// Bytes.
    Data(Arc<[u8]>),
    /// A number, written `%N` to the leases file.
    Number(u64),
    /// `true` or `false`.
    Boolean(bool),
}

/// Variables of a lease, the most recently created first, as dhcpd writes them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variables {
    list: Vec<(Arc<str>, VariableValue)>,
}

impl Variables {
    /// No variables.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&VariableValue> {
        self.list
            .iter()
            .find(|(this, _)| &**this == name)
            .map(|(_, value)| value)
    }

    /// Creates a variable in front of the others, or replaces its value in place.
    pub fn set(&mut self, name: &str, value: VariableValue) {
        match self.list.iter_mut().find(|(this, _)| &**this == name) {
            Some((_, old)) => *old = value,
            None => self.list.insert(0, (name.into(), value)),
        }
    }

    /// Forgets a variable.
    pub fn unset(&mut self, name: &str) {
        self.list.retain(|(this, _)| &**this != name);
    }

    /// Name and value, the most recently created first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &VariableValue)> {
        self.list.iter().map(|(name, value)| (&**name, value))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// What an expression may look at.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The whole BOOTP message.
    pub message: &'a [u8],
    /// Its options.
    pub options: &'a ReceivedOptions,
    /// The client's hardware address.
    pub hw: HwAddr,
    /// `known`: a host declaration fits.
    pub known: bool,
    /// `static`: the lease comes from a host declaration.
    pub is_static: bool,
    /// `leased-address`.
    pub leased_address: Option<Ipv4Addr>,
    /// `host-decl-name`.
    pub host_decl_name: Option<&'a str>,
    /// `lease-time`, seconds left.
    pub lease_time: Option<u32>,
    /// Variables of the lease.
    pub variables: &'a Variables,
    /// Wall time, seconds since 1970.
    pub now: u32,
}
