//! What an expression may look at: the message, its options, and what the engine already knows of the client.

use std::net::Ipv4Addr;
use std::sync::Arc;

use dhcp_ebpf::wire::dhcp::{COOKIE, COOKIE_AT, HwAddr, OPTIONS_AT, TAIL_AT};
use dhcp_ebpf::wire::option::{OptionError, Options, code};

/// Offset of `file` in a BOOTP message; `sname` lies before it.
const FILE_AT: usize = 108;

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
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let cookie = message.get(COOKIE_AT..OPTIONS_AT).ok_or(Malformed::Short)?;
        if cookie != COOKIE {
            return Err(Malformed::Cookie);
        }
        let mut joined = Joined::default();
        joined.walk(message.get(OPTIONS_AT..).unwrap_or_default())?;
        // RFC 2131 4.1 #overload-order
        let overload = match joined.get(code::OVERLOAD) {
            Some([value @ 1..=3]) => *value,
            Some(_) | None => 0,
        };
        if overload & 1 != 0 {
            joined.walk(message.get(FILE_AT..COOKIE_AT).unwrap_or_default())?;
        }
        if overload & 2 != 0 {
            joined.walk(message.get(TAIL_AT..FILE_AT).unwrap_or_default())?;
        }
        let mut this = Self { overload, ..Self::default() };
        for (code, data) in joined.list {
            this.push(code, &data);
        }
        Ok(this)
    }

    fn push(&mut self, code: u8, data: &[u8]) {
        // A message is shorter than 64 KiB, and so are its options together.
        let (Ok(start), Ok(len)) = (u16::try_from(self.bytes.len()), u16::try_from(data.len())) else {
            return;
        };
        self.bytes.extend_from_slice(data);
        self.entries.push((code, start, len));
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
    pub fn set(&mut self, code: u8, data: &[u8]) {
        self.remove(code);
        self.push(code, data);
    }

    /// Takes an option away that is as good as not sent.
    pub fn remove(&mut self, code: u8) {
        self.entries.retain(|(this, _, _)| *this != code);
    }
}

/// Options as they are put together: the instances of a code in one piece.
#[derive(Default)]
struct Joined {
    list: Vec<(u8, Vec<u8>)>,
}

impl Joined {
    fn get(&self, code: u8) -> Option<&[u8]> {
        self.list.iter().find(|(this, _)| *this == code).map(|(_, data)| &**data)
    }

    fn walk(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        for option in Options::new(bytes) {
            let (code, data) = option.map_err(|error| match error {
                OptionError::LengthMissing => Malformed::LengthMissing,
                OptionError::PastTheEnd => Malformed::PastTheEnd,
            })?;
            match self.list.iter_mut().find(|(this, _)| *this == code) {
                Some((_, joined)) => joined.extend_from_slice(data),
                None => self.list.push((code, data.to_vec())),
            }
        }
        Ok(())
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
        self.list.iter().find(|(this, _)| &**this == name).map(|(_, value)| value)
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
    /// Whether the evaluation notes what each statement did.
    pub explains: bool,
}

impl<'a> Context<'a> {
    /// No packet: what the process-wide parameters are evaluated with, and constants are folded with.
    pub(super) fn nothing(options: &'a ReceivedOptions, variables: &'a Variables) -> Self {
        Self {
            message: &[],
            options,
            hw: HwAddr::ethernet([0; 6]),
            known: false,
            is_static: false,
            leased_address: None,
            host_decl_name: None,
            lease_time: None,
            variables,
            now: 0,
            explains: false,
        }
    }
}
