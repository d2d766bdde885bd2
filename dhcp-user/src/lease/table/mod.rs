//! The lease table: every address of the configured ranges, thin, with its indexes.

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;

use super::record::Lease;
use super::state::BindingState;
use super::time::WallTime;

/// Number of a pool in the [`Layout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolIndex(pub usize);

/// The addresses that can be leased.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The pools, in the order of the configuration.
    pub pools: Vec<PoolLayout>,
    /// Key of the indexes' hash: random, since clients choose what is hashed.
    pub hash_key: [u64; 2],
}

/// The addresses of one pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolLayout {
    /// First and last address of each range, in the order of the configuration.
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Whether the pool is shared with a failover partner.
    pub is_failover: bool,
}

/// Where a lease was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a pool.
    Pool(PoolIndex),
    /// In no configured range: kept aside, never given out, never discarded.
    Aside,
}

/// How many leases of a pool are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Addresses in the pool.
    pub total: u32,
    /// By [`BindingState::wire`] minus one; reserved free and backup leases are not counted here (dhcpd).
    pub by_state: [u32; 7],
    /// Free and backup leases that are reserved.
    pub reserved: u32,
}

impl Counts {
    /// Leases in this state.
    #[must_use]
    pub fn of(&self, state: BindingState) -> u32 {
        self.by_state
            .get(usize::from(state.wire()) - 1)
            .copied()
            .unwrap_or_default()
    }
}

/// All leases.
#[derive(Debug)]
pub struct Table {}

impl Table {
    /// An empty table for these addresses.
    #[must_use]
    pub fn new(_layout: &Layout) -> Self {
        todo!()
    }

    /// The lease of an address; a never-used one when nothing was ever put there, `None` outside the layout and
    /// not kept aside.
    #[must_use]
    pub fn get(&self, _address: Ipv4Addr) -> Option<Lease> {
        todo!()
    }

    /// The pool of an address.
    #[must_use]
    pub fn pool_of(&self, _address: Ipv4Addr) -> Option<PoolIndex> {
        todo!()
    }

    /// Replaces what is known about the lease's address, completely.
    pub fn put(&mut self, _lease: Lease) -> Place {
        todo!()
    }

    /// The leases with this client identifier, in dhcpd's order: active (longest first), expired and released
    /// (latest contact first), free and backup, abandoned.
    #[must_use]
    pub fn by_client_id(&self, _client_id: &[u8]) -> Vec<Ipv4Addr> {
        todo!()
    }

    /// The leases with this hardware address, in the same order.
    #[must_use]
    pub fn by_hw(&self, _hw: &HwAddr) -> Vec<Ipv4Addr> {
        todo!()
    }

    /// The address of a pool to give next out of `Free`, `Backup` or `Abandoned` leases: the head of dhcpd's queue.
    /// `None` when there is none, or when even the head is held by an offer or ends later than `now`.
    #[must_use]
    pub fn first_available(&self, _pool: PoolIndex, _state: BindingState, _now: WallTime) -> Option<Ipv4Addr> {
        todo!()
    }

    /// The best of several pools' heads (dhcpd: never used, then previously used, oldest expiry first; earlier
    /// pools win ties).
    #[must_use]
    pub fn choose(&self, _pools: &[(PoolIndex, BindingState)], _now: WallTime) -> Option<Ipv4Addr> {
        todo!()
    }

    /// Keeps an address from being chosen until then (a soft offer). A later `put` of the address ends it.
    pub fn hold(&mut self, _address: Ipv4Addr, _until: WallTime) {
        todo!()
    }

    /// Until when an address is held by an offer.
    #[must_use]
    pub fn held_until(&self, _address: Ipv4Addr) -> Option<WallTime> {
        todo!()
    }

    /// How many leases of a pool are in each state.
    #[must_use]
    pub fn counts(&self, _pool: PoolIndex) -> Counts {
        todo!()
    }

    /// Takes the next timer that has rung: `Active` and `Abandoned` leases ring at `ends`, others only by
    /// [`Table::set_timer`]. A timer rings once; the next `put` or `set_timer` winds it again.
    pub fn poll_expired(&mut self, _now: WallTime) -> Option<Ipv4Addr> {
        todo!()
    }

    /// When the next timer rings.
    #[must_use]
    pub fn next_expiry(&self) -> Option<WallTime> {
        todo!()
    }

    /// Makes an address ring at this instant instead; [`WallTime::NONE`] = never.
    pub fn set_timer(&mut self, _address: Ipv4Addr, _at: WallTime) {
        todo!()
    }

    /// All leases that say anything, in address order; never-used ones are skipped, those aside come last.
    pub fn iter(&self) -> impl Iterator<Item = Lease> + '_ {
        std::iter::empty()
    }

    /// The leases in one state of one pool, in dhcpd's queue order (free, backup: next to be given first).
    #[must_use]
    pub fn queue(&self, _pool: PoolIndex, _state: BindingState) -> Vec<Ipv4Addr> {
        todo!()
    }

    /// At most `count` leases that say anything from `from` on, in address order, and where to go on. For snapshots in
    /// slices that stop nobody.
    #[must_use]
    pub fn slice(&self, _from: Ipv4Addr, _count: usize) -> (Vec<Lease>, Option<Ipv4Addr>) {
        todo!()
    }

    /// Leases outside every configured range, in address order.
    pub fn aside(&self) -> impl Iterator<Item = &Lease> {
        std::iter::empty()
    }

    /// Bytes of heap in use.
    #[must_use]
    pub fn heap_len(&self) -> usize {
        todo!()
    }
}
