//! The dialect of dhcpd.leases(5): records to text and back.

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

/// Writes the head of a file, as dhcpd does at every rewrite.
pub fn write_header(_out: &mut Vec<u8>) {
    todo!()
}

/// Writes a lease record.
pub fn write_lease(_lease: &Lease, _format: Format, _out: &mut Vec<u8>) {
    todo!()
}

/// Writes a failover state record.
pub fn write_peer_state(_state: &PeerState, _format: Format, _out: &mut Vec<u8>) {
    todo!()
}

/// Writes the server's DUID.
pub fn write_server_duid(_duid: &[u8], _format: Format, _out: &mut Vec<u8>) {
    todo!()
}

/// Writes any record.
pub fn write_record(_record: &Record, _format: Format, _out: &mut Vec<u8>) {
    todo!()
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

/// Reads all records of a text; never fails, complains instead.
///
/// `now` decides what a lease without a `binding state` is (dhcpd: active while it runs).
pub fn read(_text: &[u8], _now: WallTime, _complaints: &mut Vec<Complaint>) -> Vec<Record> {
    todo!()
}
