//! The dialect of dhcpd.leases(5): records to text and back.
//!
//! The writer writes what ISC dhcpd 4.4.3 writes, byte for byte; the reader takes what dhcpd 3 and 4 and people have
//! written, and never loses what it does not know. The last record of an address wins completely.
//!
//! A power cut can leave any subset of the sectors written since the last sync. Records are text and carry no
//! checksum (dhcpd must be able to read them), so the reader looks for the traces: filler inside a record, a record
//! inside a record. A record pieced together from two must not come out (I2).

mod agent;
mod cursor;
mod date;
mod lease_fields;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Found, Reader, Span};
pub use write::{is_printable_name, write_header, write_lease, write_peer_state, write_record, write_server_duid};

use super::record::Lease;
use super::state::FailoverState;
use super::time::WallTime;

/// How dates are written (`db-time-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DateFormat {
    /// `W YYYY/MM/DD HH:MM:SS` in UTC.
    #[default]
    Default,
    /// `epoch SECONDS; # Www Mon DD HH:MM:SS YYYY`, the comment in local time: seconds east of UTC.
    Local {
        /// What to add to UTC for the comment.
        utc_offset_secs: i32,
    },
}

/// How client identifiers are written (`lease-id-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IdFormat {
    /// `uid "\001a";`
    #[default]
    Octal,
    /// `uid 01:61;`
    Hex,
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Format {
    /// Dates.
    pub dates: DateFormat,
    /// Client identifiers.
    pub ids: IdFormat,
}

/// A `failover peer "NAME" state` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// Name of the failover relationship.
    pub name: Box<[u8]>,
    /// Our state.
    pub my_state: FailoverState,
    /// Since when.
    pub my_since: WallTime,
    /// The partner's state, as far as we know.
    pub partner_state: FailoverState,
    /// Since when.
    pub partner_since: WallTime,
    /// The MCLT in seconds; written by the secondary only.
    pub mclt: Option<u32>,
}

/// One record of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A lease.
    Lease(Lease),
    /// A failover endpoint's state.
    PeerState(PeerState),
    /// `server-duid`: the raw identifier.
    ServerDuid(Box<[u8]>),
    /// Anything else: `host`, `group`, `class`, `ia-na`, and what nobody knows; kept as it stands.
    Other(Box<[u8]>),
}

/// Something wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Line, from 1.
    pub line: u64,
    /// Column in bytes, from 1.
    pub column: u64,
    /// Byte offset in the file.
    pub offset: u64,
    /// What was expected, or what is wrong.
    pub text: String,
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

/// Reads all records of a text; never fails, complains instead.
///
/// `now` decides what a lease without a `binding state` is (dhcpd: active while it runs).
pub fn read(text: &[u8], now: WallTime, complaints: &mut Vec<Complaint>) -> Vec<Record> {
    let mut records = Vec::new();
    Reader::new(now).feed(text, true, &mut |found| match found {
        Found::Record(record, _) => records.push(record),
        Found::Damaged(complaint, _) | Found::Torn(complaint, _) => complaints.push(complaint),
    });
    records
}
