//! Bytes <-> [`Message`], as ISC dhcpd 4.4.3 writes and reads them.
//!
//! ```text
//!    0        2      3        4          8        12 (= payload offset)
//!   +--------+------+--------+----------+--------+---------------------------+
//!   | length | type | offset | time     | xid    | options: code, len, data  |
//!   +--------+------+--------+----------+--------+---------------------------+
//! ```
//!
//! Where ISC departs from failover-12 we follow ISC: the payload offset is 12, not 8; an unknown message type
//! is ignored when it is empty and fatal when it is not; an option may stand once. What ISC skips we may use,
//! but never require.

pub mod option;
mod read;
mod stream;
#[cfg(test)]
mod vectors;
mod write;

pub use read::{Malformed, parse_message};
pub use stream::Decoder;
pub use write::{Oversized, write_message};

use std::net::Ipv4Addr;

use super::binding::BindingState;
use super::state::State;

/// One message with its header (failover-12 6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The sender's clock when it was queued, unix seconds.
    pub time: u32,
    /// Transaction: copied into the reply.
    pub xid: u32,
    /// What it says.
    pub body: Body,
}

/// The twelve messages (failover-12 6.1), and what else may stand in the type byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Asks for a share of the free addresses (type 1).
    PoolReq,
    /// Answers it with the number of addresses given (type 2).
    PoolResp {
        /// How many, over all pools.
        transferred: Option<u32>,
    },
    /// A binding update (type 3).
    BndUpd(BndUpd),
    /// Its acknowledgement (type 4).
    BndAck(BndAck),
    /// Opens a connection, from the primary (type 5).
    Connect(Connect),
    /// The secondary's answer (type 6).
    ConnectAck(ConnectAck),
    /// Asks for every binding (type 7).
    UpdReqAll,
    /// All that was asked for has been sent and answered (type 8).
    UpdDone,
    /// Asks for the bindings not acknowledged yet (type 9).
    UpdReq,
    /// An endpoint's state (type 10).
    State(StateMessage),
    /// I am alive (type 11).
    Contact,
    /// The connection will be closed (type 12).
    Disconnect(Refusal),
    /// A type above 12 or 0, without options; ISC ignores it.
    Unknown(u8),
}

/// Why something was refused: reject-reason and message (options 21 and 16).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// Reject reason, see [`option::Reject`]; `None` when absent.
    pub reason: Option<u8>,
    /// Text for people.
    pub message: Option<Vec<u8>>,
}

/// CONNECT, options in ISC's order 22 14 19 28 20 27 15 11.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connect {
    /// Name of the relationship (22).
    pub name: Option<Vec<u8>>,
    /// How many BNDUPDs the sender takes without acknowledging one (14).
    pub updates_unacked_max: Option<u32>,
    /// After how many seconds of silence the sender gives up (19).
    pub receive_timer_secs: Option<u32>,
    /// Vendor class (28); ISC never looks at it.
    pub vendor: Option<Vec<u8>>,
    /// Protocol version (20); ISC never looks at it.
    pub version: Option<u8>,
    /// TLS-request (27), always 0.
    pub tls_request: Option<u8>,
    /// Maximum client lead time, seconds (15).
    pub mclt_secs: Option<u32>,
    /// Hash buckets served by the primary (11).
    pub buckets: Option<[u8; 32]>,
}

/// CONNECTACK, options in ISC's order 22 14 19 28 20 26 (29) (21 16).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectAck {
    /// Name of the relationship (22).
    pub name: Option<Vec<u8>>,
    /// How many BNDUPDs the sender takes without acknowledging one (14).
    pub updates_unacked_max: Option<u32>,
    /// After how many seconds of silence the sender gives up (19).
    pub receive_timer_secs: Option<u32>,
    /// Vendor class (28).
    pub vendor: Option<Vec<u8>>,
    /// Protocol version (20).
    pub version: Option<u8>,
    /// TLS-reply (26), only when CONNECT asked.
    pub tls_reply: Option<u8>,
    /// What only two of ours say to each other (29).
    pub extra: Option<Vec<u8>>,
    /// Why the connection is refused; accepted when there is no reason in it.
    pub refusal: Refusal,
}

/// STATE, options 24 23 25 (29).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateMessage {
    /// The sender's state (24) as it stands on the wire; absent is 0.
    pub state: u8,
    /// The sender has just started and only says what it was (23, bit 0).
    pub startup: bool,
    /// When the state began (25), unix seconds.
    pub since: Option<u32>,
    /// What only two of ours say to each other (29).
    pub extra: Option<Vec<u8>>,
}

impl StateMessage {
    /// The state, or `None` for a number that no state has.
    #[must_use]
    pub fn known_state(&self) -> Option<State> {
        State::from_wire(self.state)
    }
}

/// BNDUPD, options 2 3 (4) (5) 13 18 25 (6) (12) (29).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BndUpd {
    /// The address (2).
    pub address: Option<Ipv4Addr>,
    /// Binding status (3) as it stands on the wire.
    pub status: Option<u8>,
    /// DHCP client identifier (4), verbatim.
    pub client_id: Option<Vec<u8>>,
    /// Hardware type byte and address (5).
    pub chaddr: Option<Vec<u8>>,
    /// End of the client's lease (13), unix seconds.
    pub lease_expiry: Option<u32>,
    /// Up to when the sender may extend it (18), unix seconds.
    pub potential_expiry: Option<u32>,
    /// Start of the binding (25), unix seconds.
    pub since: Option<u32>,
    /// Client last transaction time (6), unix seconds.
    pub cltt: Option<u32>,
    /// RESERVED and BOOTP (12), see [`option`].
    pub flags: Option<u16>,
    /// What only two of ours say to each other (29).
    pub extra: Option<Vec<u8>>,
}

impl BndUpd {
    /// The binding status, or `None` when it is absent or no status.
    #[must_use]
    pub fn known_status(&self) -> Option<BindingState> {
        self.status.and_then(BindingState::from_wire)
    }
}

/// BNDACK, options 2 [21 16]; ISC misreads anything more (failover.md 9.1 5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BndAck {
    /// The address (2).
    pub address: Option<Ipv4Addr>,
    /// Why the update is refused; accepted when there is no reason in it.
    pub refusal: Refusal,
}
