//! The lease table: every address of the configured ranges, thin, with its indexes.
//!
//! Guards I1: one slot per address, and what the indexes say is what the slots say, since both change in `put`
//! alone. Guards I6: a look-up returns a bounded number of leases, nothing scans the table but what says so.
//!
//! dhcpd keeps a structure of 300 bytes and more for every address of every range from the start. Here an address
//! that was never used costs one bit, a plain lease 80 bytes and its places in the indexes.

mod hash;
mod index;
mod queue;
mod ranges;
mod relayout;
mod resting;
mod slot;
#[cfg(test)]
mod tests;
mod timers;
mod view;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;

use self::index::{Index, Key};
use self::queue::{NOWHERE, Queue, Ties};
use self::ranges::Ranges;
pub use self::relayout::Relaid;
use self::relayout::Relayout;
pub use self::resting::Resting;
use self::slot::{InQueue, Slot, Slots};

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
        self.by_state.get(usize::from(state.wire()) - 1).copied().unwrap_or_default()
    }
}

/// A lease as the table keeps it: made on one thread, put into the table on another, without an allocation that
/// changes hands but the one that stays.
#[derive(Debug)]
pub struct Packed {
    address: Ipv4Addr,
    slot: Slot,
}

impl Packed {
    /// The same lease, thin.
    #[must_use]
    pub fn new(lease: &Lease) -> Self {
        Self { address: lease.address, slot: Slot::of(lease) }
    }
}

/// All leases.
///
/// ```text
///   address --ranges--> slot number --> Slot (80 bytes, pages of 256)
///   client id, hw ------> head of a chain through the slots
///   free, backup, abandoned leases of a pool: one heap each, by end of the last lease
///   active and abandoned leases: one heap, by the time that something happens to them
///   never-used addresses: one bit each, given out in ascending order before anything else
/// ```
#[derive(Debug)]
pub struct Table {
    ranges: Ranges,
    slots: Slots,
    /// One bit per slot: nothing was ever said about it.
    virgins: Vec<u64>,
    pools: Vec<Pool>,
    timers: Queue,
    by_hw: Index,
    by_client_id: Index,
    holds: BTreeMap<u32, WallTime>,
    aside: BTreeMap<Ipv4Addr, Lease>,
    extra_len: usize,
    has_billed: bool,
    layout: Vec<PoolLayout>,
    hash_key: [u64; 2],
    growing: Option<Box<Relayout>>,
}

/// What is kept per pool.
#[derive(Debug)]
struct Pool {
    free: Queue,
    backup: Queue,
    abandoned: Queue,
    counts: Counts,
    /// No slot before this one was never used.
    virgin_hint: u32,
}

impl Pool {
    fn queue(&self, state: BindingState) -> Option<&Queue> {
        match state {
            BindingState::Free => Some(&self.free),
            BindingState::Backup => Some(&self.backup),
            BindingState::Abandoned => Some(&self.abandoned),
            BindingState::Active | BindingState::Expired | BindingState::Released | BindingState::Reset => None,
        }
    }

    fn queue_mut(&mut self, state: BindingState) -> Option<&mut Queue> {
        match state {
            BindingState::Free => Some(&mut self.free),
            BindingState::Backup => Some(&mut self.backup),
            BindingState::Abandoned => Some(&mut self.abandoned),
            BindingState::Active | BindingState::Expired | BindingState::Released | BindingState::Reset => None,
        }
    }

    fn count(&mut self, state: BindingState, is_reserved: bool) -> &mut u32 {
        let is_apart = is_reserved && matches!(state, BindingState::Free | BindingState::Backup);
        let [free, active, expired, released, abandoned, reset, backup] = &mut self.counts.by_state;
        match state {
            _ if is_apart => &mut self.counts.reserved,
            BindingState::Free => free,
            BindingState::Active => active,
            BindingState::Expired => expired,
            BindingState::Released => released,
            BindingState::Abandoned => abandoned,
            BindingState::Reset => reset,
            BindingState::Backup => backup,
        }
    }
}

impl Table {
    /// An empty table for these addresses.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        let ranges = Ranges::new(layout);
        let slot_count = ranges.slot_count();
        let mut virgins = vec![u64::MAX; (slot_count as usize).div_ceil(64)];
        if let (Some(word), rest @ 1..) = (virgins.last_mut(), slot_count % 64) {
            *word = (1 << rest) - 1;
        }
        let pools = (0..ranges.pool_count())
            .map(|number| {
                let (start, end) = ranges.slots_of(PoolIndex(number));
                let mut counts = Counts { total: end - start, ..Counts::default() };
                if let Some(free) = counts.by_state.first_mut() {
                    *free = end - start;
                }
                Pool {
                    free: Queue::new(Ties::Ascending),
                    backup: Queue::new(Ties::Descending),
                    abandoned: Queue::new(Ties::Ascending),
                    counts,
                    virgin_hint: start,
                }
            })
            .collect();
        Self {
            slots: Slots::with_count(slot_count as usize),
            ranges,
            virgins,
            pools,
            timers: Queue::new(Ties::Ascending),
            by_hw: Index::new(Key::Hw, layout.hash_key),
            by_client_id: Index::new(Key::ClientId, layout.hash_key),
            holds: BTreeMap::new(),
            aside: BTreeMap::new(),
            extra_len: 0,
            has_billed: false,
            layout: layout.pools.clone(),
            hash_key: layout.hash_key,
            growing: None,
        }
    }

    /// Makes room for so many leases in the index that all of them are in, before a replay of about that many.
    pub fn reserve(&mut self, count: usize) {
        let count = count.min(self.ranges.slot_count() as usize);
        self.by_hw.reserve(count);
    }

    /// The lease of an address; a never-used one when nothing was ever put there, `None` outside the layout and
    /// not kept aside.
    #[must_use]
    pub fn get(&self, address: Ipv4Addr) -> Option<Lease> {
        match self.ranges.find(address) {
            Some((index, _)) => {
                Some(self.slots.slot(index).map_or_else(|| Lease::free(address), |slot| slot.load(address)))
            }
            None => self.aside.get(&address).cloned(),
        }
    }

    /// The state of an address, cheaper than the whole lease; `None` outside the layout.
    #[must_use]
    pub fn state(&self, address: Ipv4Addr) -> Option<BindingState> {
        let (index, _) = self.ranges.find(address)?;
        Some(self.slots.slot(index).map_or(BindingState::Free, Slot::state))
    }

    /// The pool of an address.
    #[must_use]
    pub fn pool_of(&self, address: Ipv4Addr) -> Option<PoolIndex> {
        self.ranges.find(address).map(|(_, pool)| pool)
    }

    /// Takes a lease out of the leases file at the start: as [`Table::put`], but with `has_promises` the agent that wrote
    /// it died, and the kernel may have renewed it within its promise. What its client was told last is then not known,
    /// only its limit (design.md 5): an active lease whose `tstp` is later than its end rings at `tstp`.
    pub fn load(&mut self, lease: Packed, has_promises: bool) -> Place {
        self.has_billed |= lease.slot.is_billed();
        let limit = if has_promises { lease.slot.promised() } else { WallTime::NONE };
        if let Some((index, _)) = self.ranges.find(lease.address)
            && let Some(slot) = self.slots.make(index)
        {
            slot.limit = limit;
        }
        self.put_packed(lease)
    }

    /// Until when the client of a lease out of the leases file may have been told that it has the address, if that is
    /// later than what the file says for certain.
    #[must_use]
    pub fn limit(&self, address: Ipv4Addr) -> Option<WallTime> {
        let (index, _) = self.ranges.find(address)?;
        self.slots.slot(index).map(|slot| slot.limit).filter(|limit| limit.is_some())
    }

    /// All such limits, in address order. Visits the whole table.
    #[must_use]
    pub fn limits(&self) -> Vec<(Ipv4Addr, WallTime)> {
        self.limits_from(Ipv4Addr::UNSPECIFIED).collect()
    }

    /// Such limits from an address on, in address order.
    pub fn limits_from(&self, from: Ipv4Addr) -> impl Iterator<Item = (Ipv4Addr, WallTime)> + '_ {
        self.slots_from(from).filter(|(_, slot)| slot.limit.is_some()).map(|(address, slot)| (address, slot.limit))
    }

    /// Sets that limit to what is known better, and the lease rings then, or at its end if that is later.
    /// [`WallTime::NONE`] = what the client was told is known.
    pub fn set_limit(&mut self, address: Ipv4Addr, limit: WallTime) {
        if let Some((index, _)) = self.ranges.find(address)
            && let Some(slot) = self.slots.slot_mut(index)
            && slot.limit != limit
        {
            slot.limit = limit;
            let rings_at = slot.rings_at();
            self.wind(index, rings_at);
            self.note_change(address);
        }
    }

    /// Whether any lease that was loaded counts against a class or a circuit.
    #[must_use]
    pub const fn has_billed(&self) -> bool {
        self.has_billed
    }

    /// Replaces what is known about the lease's address, completely. A hold of the address ends.
    pub fn put(&mut self, lease: Lease) -> Place {
        match self.ranges.find(lease.address) {
            Some(_) => self.put_packed(Packed::new(&lease)),
            None => {
                self.aside.insert(lease.address, lease);
                Place::Aside
            }
        }
    }

    fn put_packed(&mut self, lease: Packed) -> Place {
        let Packed { address, slot: new } = lease;
        self.note_change(address);
        let Some((index, pool)) = self.ranges.find(address) else {
            self.aside.insert(address, new.load(address));
            return Place::Aside;
        };
        if !self.holds.is_empty() {
            self.holds.remove(&index);
        }
        self.forget_virgin(index);
        let Some(slot) = self.slots.make(index) else {
            return Place::Pool(pool);
        };
        let (old_state, old_reserved) = (slot.state(), slot.is_reserved());
        let keeps_hw = slot.hw() == new.hw();
        let keeps_id = slot.has_id_of(&new);
        if !keeps_hw {
            self.by_hw.unlink(index, &mut self.slots);
        }
        if !keeps_id {
            self.by_client_id.unlink(index, &mut self.slots);
        }
        if let Some(slot) = self.slots.slot_mut(index) {
            self.extra_len -= slot.extra_len();
            slot.replace(new);
            self.extra_len += slot.extra_len();
        }
        if !keeps_hw {
            self.by_hw.link(index, &mut self.slots);
        }
        if !keeps_id {
            self.by_client_id.link(index, &mut self.slots);
        }
        self.wind(index, self.slots.slot(index).map(Slot::rings_at).unwrap_or_default());
        self.requeue(index, pool, old_state, old_reserved);
        Place::Pool(pool)
    }

    /// The leases with this client identifier, in dhcpd's order: active (longest first), expired and released
    /// (latest contact first), free and backup, abandoned. A bounded number.
    #[must_use]
    pub fn by_client_id(&self, client_id: &[u8]) -> Vec<Ipv4Addr> {
        let mut found = self.by_client_id.by_client_id(client_id, &self.slots);
        if let [1, mac @ ..] = client_id
            && let Ok(mac) = mac.try_into()
        {
            found.extend(self.by_hw.by_usual_id(mac, &self.slots));
        }
        self.in_order(found)
    }

    /// The leases with this hardware address, in the same order.
    #[must_use]
    pub fn by_hw(&self, hw: &HwAddr) -> Vec<Ipv4Addr> {
        self.in_order(self.by_hw.by_hw(hw, &self.slots))
    }

    /// The address of a pool to give next out of `Free`, `Backup` or `Abandoned` leases: the head of dhcpd's queue.
    /// `None` when there is none, or when even the head is held by an offer or ends later than `now`.
    #[must_use]
    pub fn first_available(&self, pool: PoolIndex, state: BindingState, now: WallTime) -> Option<Ipv4Addr> {
        let (time, index) = self.head(pool, state)?;
        (time <= now.secs()).then(|| self.address(index)).flatten()
    }

    /// The best of several pools' heads (dhcpd: never used, then previously used, oldest expiry first; earlier
    /// ones win ties). Abandoned leases come last, and only where the pool's other states listed are empty.
    #[must_use]
    pub fn choose(&self, pools: &[(PoolIndex, BindingState)], now: WallTime) -> Option<Ipv4Addr> {
        let heads = pools.iter().filter_map(|&(pool, state)| {
            let is_abandoned = state == BindingState::Abandoned;
            let has_better = |&(other, state): &(PoolIndex, BindingState)| {
                other == pool && state != BindingState::Abandoned && self.head(other, state).is_some()
            };
            if is_abandoned && pools.iter().any(has_better) {
                return None;
            }
            let (time, index) = self.head(pool, state)?;
            let is_used = self.slots.slot(index).is_some_and(Slot::is_used);
            // dhcpd: better an abandoned address than none, however long it was to be left alone.
            let is_held = self.holds.get(&index).is_some_and(|until| *until > now);
            let is_over = if is_abandoned { !is_held } else { time <= now.secs() };
            is_over.then_some((is_abandoned, is_used, time, index))
        });
        let best = heads.min_by_key(|(is_abandoned, is_used, time, _)| (*is_abandoned, *is_used, *time));
        best.and_then(|(_, _, _, index)| self.address(index))
    }

    /// Keeps an address from being chosen until then (a soft offer); [`WallTime::NONE`] lets it go. A later `put`
    /// of the address ends it.
    pub fn hold(&mut self, address: Ipv4Addr, until: WallTime) {
        self.note_change(address);
        let Some((index, pool)) = self.ranges.find(address) else {
            return;
        };
        self.forget_virgin(index);
        let Some(slot) = self.slots.make(index) else { return };
        let (state, is_reserved) = (slot.state(), slot.is_reserved());
        if until.is_some() {
            self.holds.insert(index, until);
        } else {
            self.holds.remove(&index);
        }
        self.requeue(index, pool, state, is_reserved);
    }

    /// Until when an address is held by an offer; the instant may be past.
    #[must_use]
    pub fn held_until(&self, address: Ipv4Addr) -> Option<WallTime> {
        let (index, _) = self.ranges.find(address)?;
        self.holds.get(&index).copied()
    }

    /// How many leases of a pool are in each state.
    #[must_use]
    pub fn counts(&self, pool: PoolIndex) -> Counts {
        self.pools.get(pool.0).map(|pool| pool.counts).unwrap_or_default()
    }

    /// Bytes of heap in use, but for the leases aside.
    #[must_use]
    pub fn heap_len(&self) -> usize {
        let queues = self
            .pools
            .iter()
            .map(|pool| pool.free.heap_len() + pool.backup.heap_len() + pool.abandoned.heap_len() + size_of::<Pool>());
        self.slots.heap_len()
            + self.extra_len
            + self.virgins.capacity() * 8
            + queues.sum::<usize>()
            + self.timers.heap_len()
            + self.by_hw.heap_len()
            + self.by_client_id.heap_len()
            + self.ranges.heap_len()
            // A node of eleven keys and values is never less than half full.
            + self.holds.len() * 24
    }

    fn address(&self, index: u32) -> Option<Ipv4Addr> {
        self.ranges.address_of(index).map(|(address, _)| address)
    }

    /// Sorts leases of one client as dhcpd lists them.
    fn in_order(&self, mut found: Vec<u32>) -> Vec<Ipv4Addr> {
        found.sort_by_cached_key(|index| {
            let Some(slot) = self.slots.slot(*index) else {
                return (u8::MAX, 0, *index);
            };
            let (rank, latest) = match slot.state() {
                BindingState::Active => (0, slot.ends),
                BindingState::Expired | BindingState::Released | BindingState::Reset => (1, slot.cltt),
                BindingState::Free | BindingState::Backup => (2, slot.ends),
                BindingState::Abandoned => (3, slot.ends),
            };
            (rank, u32::MAX - latest.secs(), *index)
        });
        found.into_iter().filter_map(|index| self.address(index)).collect()
    }

    /// The time and slot at the head of a pool's queue, never-used addresses included.
    fn head(&self, pool: PoolIndex, state: BindingState) -> Option<(u32, u32)> {
        let head = self.pools.get(pool.0)?.queue(state)?.head();
        let virgin = (state == BindingState::Free).then(|| self.first_virgin(pool)).flatten().map(|index| (0, index));
        match (head, virgin) {
            (Some(head), Some(virgin)) => Some(head.min(virgin)),
            (head, virgin) => head.or(virgin),
        }
    }

    fn is_virgin(&self, index: u32) -> bool {
        self.virgins.get(index as usize / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn first_virgin(&self, pool: PoolIndex) -> Option<u32> {
        let (_, end) = self.ranges.slots_of(pool);
        let hint = self.pools.get(pool.0)?.virgin_hint;
        let mut mask = u64::MAX << (hint % 64);
        for (number, word) in self.virgins.iter().enumerate().skip(hint as usize / 64) {
            let base = number as u32 * 64;
            if base >= end {
                return None;
            }
            let found = word & mask;
            if found != 0 {
                return Some(base + found.trailing_zeros()).filter(|index| *index < end);
            }
            mask = u64::MAX;
        }
        None
    }

    /// Something is about to be said about an address. Whether it was never used before.
    fn forget_virgin(&mut self, index: u32) -> bool {
        let was_virgin = self.is_virgin(index);
        if was_virgin && let Some(word) = self.virgins.get_mut(index as usize / 64) {
            *word &= !(1 << (index % 64));
            let Some((_, pool)) = self.ranges.address_of(index) else {
                return was_virgin;
            };
            if self.pools.get(pool.0).is_some_and(|pool| pool.virgin_hint == index) {
                let hint = self.first_virgin(pool).unwrap_or(self.ranges.slots_of(pool).1);
                if let Some(pool) = self.pools.get_mut(pool.0) {
                    pool.virgin_hint = hint;
                }
            }
        }
        was_virgin
    }

    /// Puts a slot into the queue of its state and counts it there.
    fn requeue(&mut self, index: u32, pool: PoolIndex, old_state: BindingState, old_reserved: bool) {
        let Some(slot) = self.slots.slot(index) else { return };
        let (state, is_reserved, at) = (slot.state(), slot.is_reserved(), slot.queue_at);
        let held = self.holds.get(&index).copied();
        let is_blank = slot.is_blank() && held.is_none() && slot.timer_at == NOWHERE;
        let time = match held {
            // The next abandoned address is for the next client.
            Some(_) if state == BindingState::Abandoned => u32::MAX,
            held => slot.ends.max(held.unwrap_or_default()).secs(),
        };
        let Some(pool) = self.pools.get_mut(pool.0) else { return };
        *pool.count(old_state, old_reserved) -= 1;
        *pool.count(state, is_reserved) += 1;
        let is_apart = is_reserved && state != BindingState::Abandoned;
        let belongs = !is_blank && !is_apart;
        let was_there = at != NOWHERE;
        let mut places = InQueue(&mut self.slots);
        if was_there
            && (old_state != state || !belongs)
            && let Some(queue) = pool.queue_mut(old_state)
        {
            queue.remove(at, &mut places);
        }
        if belongs && let Some(queue) = pool.queue_mut(state) {
            if was_there && old_state == state {
                queue.change(at, time, index, &mut places);
            } else {
                queue.push(time, index, &mut places);
            }
        }
        if is_blank && let Some(word) = self.virgins.get_mut(index as usize / 64) {
            *word |= 1 << (index % 64);
            pool.virgin_hint = pool.virgin_hint.min(index);
        }
    }
}
