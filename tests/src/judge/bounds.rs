//! I6 from the outside: the memory of the processes, and what each server says of its queues.

use dhcp_user::control::message::Status;
use dhcp_user::engine::limits::GATED_COUNT_MAX;

/// How much larger than when it was weighed first a server may become, KiB: with a handful of clients it is a hundred, and an
/// allocator keeps some.
const GROWTH_KIB_MAX: u64 = 8 * 1024;

/// What was weighed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Memory {
    /// Process, and its memory when it was weighed first; by side.
    born: [Option<(u32, u64)>; 2],
    /// How often.
    pub weighed: u64,
    /// The most that a server has grown, KiB.
    pub growth_kib: u64,
    /// The most updates that waited or were under way.
    pub updates: u64,
}

impl Memory {
    /// A server's process has so much memory, and says this of itself; `window` is how many updates it may be sent before it
    /// answers one.
    ///
    /// # Errors
    /// What has grown beyond its limit.
    pub fn weigh(&mut self, side: usize, pid: u32, kib: u64, window: u64, status: &Status) -> Result<(), String> {
        let born = match self.born[side].filter(|(of, _)| *of == pid) {
            Some((_, born)) => born,
            None => {
                self.born[side] = Some((pid, kib));
                kib
            }
        };
        let growth = kib.saturating_sub(born);
        self.growth_kib = self.growth_kib.max(growth);
        self.weighed += 1;
        if growth > GROWTH_KIB_MAX {
            return Err(format!("I6: {side} had {born} KiB and has {kib} KiB"));
        }
        if status.journal.waiting > GATED_COUNT_MAX as u64 {
            return Err(format!("I6: {} replies of {side} wait for the disk", status.journal.waiting));
        }
        for peer in &status.peers {
            let pools = status.pools.iter().filter(|pool| pool.peer.as_ref() == Some(&peer.name));
            let addresses: u64 = pools.map(|pool| pool.total).sum();
            let updates = peer.updates_queued + peer.updates_in_flight;
            self.updates = self.updates.max(updates);
            // One address has one update, however often it changes.
            if updates > addresses {
                return Err(format!("I6: {side} has {updates} updates for {addresses} addresses"));
            }
            if peer.updates_held > window {
                return Err(format!("I6: {side} holds {} updates of a window of {window}", peer.updates_held));
            }
        }
        Ok(())
    }
}
