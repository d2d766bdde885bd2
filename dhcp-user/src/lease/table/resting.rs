//! A lease looked at where it rests: nothing is copied, which is what a look at a million of them comes to.

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;

use super::Table;
use super::queue::NOWHERE;
use super::slot::{Slot, Spoken};
use crate::lease::record::Lease;
use crate::lease::state::BindingState;
use crate::lease::time::WallTime;

/// A lease of a configured range.
#[derive(Debug)]
pub struct Resting<'t> {
    table: &'t Table,
    slot: &'t Slot,
    address: Ipv4Addr,
    /// The usual client identifier, if it has that one.
    usual: Option<[u8; 7]>,
    spoken: Spoken<'t>,
}

impl Table {
    /// The lease of an address in a configured range, if anything was ever said about the address.
    #[must_use]
    pub fn look(&self, address: Ipv4Addr) -> Option<Resting<'_>> {
        let (index, _) = self.ranges.find(address)?;
        let slot = self.slots.slot(index)?;
        let usual = slot.has_usual_id().then(|| slot.with_client_id(|id| id.try_into().ok()).flatten()).flatten();
        Some(Resting { table: self, slot, address, usual, spoken: slot.spoken() })
    }
}

impl Resting<'_> {
    /// The state.
    #[must_use]
    pub fn state(&self) -> BindingState {
        self.slot.state()
    }

    /// Until when the client was told it owns the address.
    #[must_use]
    pub const fn ends(&self) -> WallTime {
        self.slot.ends
    }

    /// The promise.
    #[must_use]
    pub const fn tstp(&self) -> WallTime {
        self.slot.tstp()
    }

    /// The client's hardware address.
    #[must_use]
    pub fn hw(&self) -> Option<HwAddr> {
        self.slot.hw()
    }

    /// The client identifier.
    #[must_use]
    pub fn client_id(&self) -> Option<&[u8]> {
        self.usual.as_ref().map(<[u8; 7]>::as_slice).or(self.spoken.client_id)
    }

    /// The host name that the client sent.
    #[must_use]
    pub const fn hostname(&self) -> Option<&[u8]> {
        self.spoken.hostname
    }

    /// The relay's option 82.
    #[must_use]
    pub const fn agent_options(&self) -> Option<&[u8]> {
        self.spoken.agent_options
    }

    /// Whether its timer will ring, or need not.
    #[must_use]
    pub fn is_wound(&self) -> bool {
        self.slot.timer_at != NOWHERE || !self.slot.rings_at().is_some()
    }

    /// States and times, not who has it.
    #[must_use]
    pub fn thin(&self) -> Lease {
        self.slot.load_thin(self.address)
    }

    /// Whether no other lease has its client's hardware address or client identifier: [`Table::by_hw`] and
    /// [`Table::by_client_id`] come to this one alone. `false` for a lease without a hardware address.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        let Table { by_hw, by_client_id, slots, .. } = self.table;
        if self.slot.hw().is_none() || !self.slot.hw_links.is_alone() {
            return false;
        }
        match (self.usual, self.spoken.client_id) {
            // The same identifier, of another hardware address.
            (Some(usual), _) => by_client_id.is_empty() || by_client_id.by_client_id(&usual, slots).is_empty(),
            (None, None) => true,
            (None, Some(id)) => {
                let mac = id.strip_prefix(&[1]).and_then(|mac| mac.try_into().ok());
                self.slot.id_links.is_alone() && mac.is_none_or(|mac| by_hw.by_usual_id(mac, slots).is_empty())
            }
        }
    }
}
