//! The journal is written anew after a failure, some leases in a turn.

use std::net::Ipv4Addr;

use crate::lease::journal as dialect;

use super::{Agent, Parts};

/// Leases put into a restored journal per turn.
const RESTORE_SLICE: usize = 512;

/// A journal that is being written anew after a failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restore {
    /// The next address to write.
    from: Ipv4Addr,
}

impl Agent {
    pub(super) fn restore_begin(&mut self) {
        let Parts { server, journal, format, others, .. } = &self.parts;
        journal.restore_begin();
        let mut text = Vec::new();
        for record in others {
            dialect::write_record(record, *format, &mut text);
        }
        // Leases outside every range are in no slice, and live in the file alone.
        for lease in server.table().aside() {
            dialect::write_lease(lease, *format, &mut text);
        }
        for state in server.peer_states() {
            dialect::write_peer_state(&state, *format, &mut text);
        }
        journal.restore_push(&text);
        self.restore = Some(Restore { from: Ipv4Addr::UNSPECIFIED });
    }

    pub(super) fn restore_slice(&mut self) {
        let Some(Restore { from }) = self.restore else { return };
        let Parts { server, journal, format, .. } = &self.parts;
        let (leases, next) = server.table().slice(from, RESTORE_SLICE);
        let mut text = Vec::new();
        for lease in &leases {
            dialect::write_lease(lease, *format, &mut text);
        }
        journal.restore_push(&text);
        self.restore = next.map(|from| Restore { from });
        if self.restore.is_none() {
            journal.restore_end();
        }
    }
}
