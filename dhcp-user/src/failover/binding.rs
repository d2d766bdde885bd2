//! What failover sees of a lease, and the door through which it reaches leases.

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;

use super::state::StateRecord;
pub use crate::lease::BindingState;
use crate::lease::Lease;
use crate::lease::time::WallTime;

/// A lease as failover sees it: everything that a BNDUPD carries and that decides about one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The address.
    pub address: Ipv4Addr,
    /// Binding state.
    pub state: BindingState,
    /// The state most recently sent to or accepted from the partner.
    #[doc(alias = "rewind binding state")]
    pub rewind: BindingState,
    /// Start of the binding.
    pub starts: WallTime,
    /// End that the client was told.
    pub ends: WallTime,
    /// Potential expiry told to the partner.
    #[doc(alias = "tstp")]
    pub told_partner: WallTime,
    /// Potential expiry agreed with the partner: what it told us, or what it acknowledged; the last one counts.
    #[doc(alias = "tsfp")]
    pub from_partner: WallTime,
    /// As `from_partner`, but forgotten at every local change: `told_partner` beyond it means "has to be told".
    #[doc(alias = "atsfp")]
    pub acked_partner: WallTime,
    /// When this server last heard the client.
    pub cltt: WallTime,
    /// Kept for its client even when free.
    pub is_reserved: bool,
    /// Given to a BOOTP client.
    pub is_bootp: bool,
    /// Hardware type byte and address; empty = none.
    pub chaddr: Vec<u8>,
    /// Client identifier, verbatim; empty = none.
    pub client_id: Vec<u8>,
}

impl Binding {
    /// An address that was never used.
    #[must_use]
    pub const fn virgin(address: Ipv4Addr) -> Self {
        Self {
            address,
            state: BindingState::Free,
            rewind: BindingState::Free,
            starts: WallTime::NONE,
            ends: WallTime::NONE,
            told_partner: WallTime::NONE,
            from_partner: WallTime::NONE,
            acked_partner: WallTime::NONE,
            cltt: WallTime::NONE,
            is_reserved: false,
            is_bootp: false,
            chaddr: Vec::new(),
            client_id: Vec::new(),
        }
    }

    /// What load balancing hashes: the client identifier, else the hardware address without its type; `None` when
    /// no client is known.
    #[must_use]
    pub fn balance_key(&self) -> Option<&[u8]> {
        if !self.client_id.is_empty() {
            return Some(&self.client_id);
        }
        self.chaddr.split_first().map(|(_, address)| address).filter(|address| !address.is_empty())
    }

    /// Whether `other` names the same client.
    #[must_use]
    pub fn is_same_client(&self, other: &Self) -> bool {
        self.client_id == other.client_id && self.chaddr == other.chaddr
    }
}

impl From<&Lease> for Binding {
    fn from(lease: &Lease) -> Self {
        let chaddr = lease.hw.as_ref().map(|hw| [&[hw.htype()], hw.bytes()].concat());
        Self {
            address: lease.address,
            state: lease.state,
            rewind: lease.rewind_state,
            starts: lease.starts,
            ends: lease.ends,
            told_partner: lease.tstp,
            from_partner: lease.tsfp,
            acked_partner: lease.atsfp,
            cltt: lease.cltt,
            is_reserved: lease.is_reserved,
            is_bootp: lease.is_bootp,
            chaddr: chaddr.unwrap_or_default(),
            client_id: lease.client_id.as_deref().unwrap_or_default().to_vec(),
        }
    }
}

impl Binding {
    /// Writes what failover knows into a lease. What belongs to a client (hostname, relay options, variables, billing,
    /// statements) goes when the client changes or the binding ends.
    pub fn write_to(&self, lease: &mut Lease) {
        let is_same = Self::from(&*lease).is_same_client(self);
        if !is_same {
            let address = lease.address;
            *lease = Lease { unknown: lease.unknown.take(), ..Lease::free(address) };
        }
        if !is_same || self.state != lease.state && matches!(self.state, BindingState::Free | BindingState::Backup) {
            lease.hostname = None;
        }
        lease.state = self.state;
        lease.next_state = match self.state {
            BindingState::Active => BindingState::Expired,
            BindingState::Expired | BindingState::Released | BindingState::Abandoned | BindingState::Reset => {
                BindingState::Free
            }
            BindingState::Free | BindingState::Backup => self.state,
        };
        lease.rewind_state = self.rewind;
        lease.starts = self.starts;
        lease.ends = self.ends;
        lease.tstp = self.told_partner;
        lease.tsfp = self.from_partner;
        lease.atsfp = self.acked_partner;
        lease.cltt = self.cltt;
        lease.is_reserved = self.is_reserved;
        lease.is_bootp = self.is_bootp;
        lease.hw = self.chaddr.split_first().and_then(|(htype, address)| HwAddr::new(*htype, address));
        lease.client_id = Some(self.client_id.as_slice()).filter(|id| !id.is_empty()).map(Into::into);
    }
}

/// Number of a journal record, growing: everything up to it is on disk once [`super::Input::Durable`] says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(pub u64);

/// How many addresses of a pool stand in which state. Reserved ones are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Counts {
    /// Allocatable by the primary.
    pub free: u32,
    /// Allocatable by the secondary.
    pub backup: u32,
    /// Everything else.
    pub other: u32,
}

/// The leases of one relationship: the pools that name it, numbered in configuration order.
///
/// Implemented by the engine over its table and journal, by tests over a map. The endpoint calls it only from
/// inside [`super::Endpoint::handle`].
pub trait Leases {
    /// The lease of an address; `None` when it is in no pool of this relationship.
    fn binding(&self, address: Ipv4Addr) -> Option<Binding>;

    /// Stores a lease and appends its record to the journal. What else the lease carries (hostname, relay
    /// options, variables) stays as long as the client stays the same.
    fn store(&mut self, binding: Binding) -> Seq;

    /// Appends a state record (`failover peer "X" state { ... }`) to the journal.
    fn store_state(&mut self, record: &StateRecord) -> Seq;

    /// Whether the kernel may be answering for this address: it is revoked before it is taken away. True until the
    /// revocation is complete, not only until it was asked for.
    fn is_armed(&self, address: Ipv4Addr) -> bool;

    /// How many pools there are.
    fn pool_count(&self) -> usize;

    /// Counts of one pool; zero for a pool that does not exist.
    fn counts(&self, pool: usize) -> Counts;

    /// Pool of an address.
    fn pool_of(&self, address: Ipv4Addr) -> Option<usize>;

    /// Visits the unreserved leases of a pool in one of the allocatable states (free, backup), oldest `ends` first,
    /// of equal ones the one that came last first, until the visitor says `false`. Often only the head is looked at.
    fn visit_allocatable(&self, pool: usize, state: BindingState, visitor: &mut dyn FnMut(&Binding) -> bool);

    /// Visits at most `count` leases of a pool from position `from` on, in an order of its own, and without who has them
    /// (no hardware address, no client identifier): cheap. Where to go on; `None` at the end.
    fn visit_some(&self, pool: usize, from: u32, count: u32, visitor: &mut dyn FnMut(&Binding)) -> Option<u32>;

    /// The same for every lease of a pool.
    fn visit_all(&self, pool: usize, visitor: &mut dyn FnMut(&Binding)) {
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.visit_some(pool, at, u32::MAX, visitor);
        }
    }

    /// What a BNDUPD between two of ours carries beside the standard options (hostname, relay options, variables,
    /// the client's question); empty = nothing.
    fn extra(&self, _address: Ipv4Addr) -> Vec<u8> {
        Vec::new()
    }

    /// Takes what [`Leases::extra`] wrote on the other side; called right before the [`Leases::store`] of the same
    /// address.
    fn take_extra(&mut self, _address: Ipv4Addr, _extra: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leased() -> Lease {
        Lease {
            state: BindingState::Active,
            rewind_state: BindingState::Free,
            ends: WallTime::from_secs(2000),
            tstp: WallTime::from_secs(3000),
            hw: HwAddr::new(1, &[2, 0xaa, 0, 0, 0, 2]),
            client_id: Some(Box::from(&[0xff, 0, 0, 0, 1][..])),
            hostname: Some(Box::from(&b"portable1"[..])),
            ..Lease::free(Ipv4Addr::new(10, 77, 0, 100))
        }
    }

    #[test]
    fn a_binding_written_back_changes_nothing() {
        let lease = leased();
        let binding = Binding::from(&lease);
        assert_eq!(binding.chaddr, [1, 2, 0xaa, 0, 0, 0, 2]);
        assert_eq!(binding.balance_key(), Some(&[0xff, 0, 0, 0, 1][..]));
        let mut again = lease.clone();
        binding.write_to(&mut again);
        assert_eq!(Binding::from(&again), binding);
        assert_eq!(again.hostname, lease.hostname);
        assert_eq!(again.next_state, BindingState::Expired);
    }

    #[test]
    fn what_belongs_to_a_client_goes_with_it() {
        let mut lease = leased();
        let mut binding = Binding::from(&lease);
        binding.client_id = vec![1];
        binding.write_to(&mut lease);
        assert_eq!(lease.hostname, None);
        let mut given = leased();
        let mut binding = Binding::from(&given);
        binding.state = BindingState::Backup;
        binding.write_to(&mut given);
        assert_eq!((given.hostname, given.next_state), (None, BindingState::Backup));
    }

    #[test]
    fn without_an_identifier_the_address_without_its_type_is_hashed() {
        let mut binding = Binding::from(&leased());
        binding.client_id.clear();
        assert_eq!(binding.balance_key(), Some(&[2, 0xaa, 0, 0, 0, 2][..]));
        binding.chaddr = vec![1];
        assert_eq!(binding.balance_key(), None);
    }
}
