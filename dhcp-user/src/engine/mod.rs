//! The DHCP server itself: packets, peers, commands and the time in; effects out. Touches nothing.
//!
//! ```text
//!   Packet --request--> who, where, what       Durable --gate--> Send, Arm, Extend
//!     DISCOVER/REQUEST --find--> address --terms--> times --compose--> reply
//!     RELEASE/DECLINE/expiry of an armed lease: Revoke, park, .. Revoked: absorb, go on
//!   Renewed --promise--> ends and cltt move, the horizon when it has to
//! ```
//!
//! - `request` reads a message, `find` chooses the address (dhcpd: find_lease), `terms` the lease time.
//! - `compose` evaluates the scopes and makes the reply, for the slow path and for the kernel's templates alike.
//! - `promise` is the kernel's side of leases: horizons, predicted questions, revocations, what the kernel reports.
//! - `gate` holds back what rests on a record until that is durable (I8).
//! - `peers` is the seam to failover: what a peer's state means for clients.

pub mod limits;
pub mod port;
mod reply;
mod request;
mod route;
pub mod status;

use dhcp_ebpf::abi::{DigestKey, Generation};

use crate::{
    config::Config,
    lease::{
        Lease, Table,
        journal::{Format, PeerState},
        time::{BootTime, Now},
    },
};

use port::{Effect, Input, JournalSeq, Verbs};
pub use status::Status;

/// What an engine is born with besides its configuration and its leases.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Seed of everything random.
    pub seed: u64,
    /// Key of the question digest, the one in the kernel's control map.
    pub digest_key: DigestKey,
    /// Whether leases are armed in the kernel.
    pub fast_path: bool,
    /// Generation of the configuration, the one in the kernel's control map.
    pub generation: Generation,
    /// The kernel's entries were adopted from an earlier agent: what the leases promise may be armed.
    pub adopted: bool,
    /// Failover states found in the leases file, the last record of each peer.
    pub peer_states: Vec<PeerState>,
    /// How records are written.
    pub format: Format,
    /// Number of the last journal record already written.
    pub journal_seq: JournalSeq,
}

/// A DHCP server without sockets, clocks or files.
#[derive(Debug)]
pub struct Server {}

impl Server {
    /// A server with this configuration and these leases. Nothing has been said to anybody yet; the first input
    /// should be [`Input::Interfaces`].
    #[must_use]
    pub fn new(_config: Config, _table: Table, _options: EngineOptions, _now: Now) -> Self {
        todo!()
    }

    /// All leases that say anything, in address order, with what the engine knows (not what the kernel has not yet
    /// reported).
    pub fn leases(&self) -> impl Iterator<Item = Lease> + '_ {
        std::iter::empty()
    }

    /// Failover states as the leases file records them.
    pub fn peer_states(&self) -> impl Iterator<Item = PeerState> + '_ {
        std::iter::empty()
    }

    /// The table, for snapshots in slices.
    #[must_use]
    pub fn table(&self) -> &Table {
        todo!()
    }
}

impl Verbs for Server {
    type Status = Status;

    fn handle(&mut self, _input: Input<'_>, _now: Now) {
        todo!()
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        todo!()
    }

    fn poll_timeout(&self) -> Option<BootTime> {
        todo!()
    }

    fn status(&self) -> Status {
        todo!()
    }
}
