//! What the leases file says, taken in while it is read: leases into the table, the rest beside it.

use crate::{
    io::journal::Intake,
    lease::{
        Packed, Table,
        journal::{PeerState, Record},
    },
};

/// Everything that a leases file says.
#[derive(Debug)]
pub(super) struct Recovery {
    /// The leases.
    pub(super) table: Table,
    /// The last state of every failover peer.
    pub(super) peer_states: Vec<PeerState>,
    /// Records that are neither, in their order.
    pub(super) others: Vec<Record>,
    has_promises: bool,
}

impl Recovery {
    /// Begins with an empty table. `has_promises`: a server of ours wrote the file last and did not stop cleanly.
    pub(super) const fn new(table: Table, has_promises: bool) -> Self {
        Self { table, peer_states: Vec::new(), others: Vec::new(), has_promises }
    }
}

/// A record on its way from the thread that reads.
#[derive(Debug)]
pub(super) enum Read {
    /// A lease, as the table keeps it.
    Lease(Packed),
    /// Anything else.
    Other(Record),
}

impl Intake for Recovery {
    type Item = Read;

    fn prepare(record: Record) -> Read {
        match record {
            Record::Lease(lease) => Read::Lease(Packed::new(&lease)),
            other @ (Record::PeerState(_) | Record::ServerDuid(_) | Record::Other(_)) => Read::Other(other),
        }
    }

    fn take(&mut self, item: Read) {
        match item {
            Read::Lease(lease) => {
                self.table.load(lease, self.has_promises);
            }
            Read::Other(Record::Lease(lease)) => {
                self.table.load(Packed::new(&lease), self.has_promises);
            }
            Read::Other(Record::PeerState(state)) => {
                self.peer_states.retain(|known| known.name != state.name);
                self.peer_states.push(state);
            }
            Read::Other(other @ (Record::ServerDuid(_) | Record::Other(_))) => self.others.push(other),
        }
    }
}
