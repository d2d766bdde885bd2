//! Leases by what identifies a client: a hash table of chain heads, eight bytes per key; the chains run through
//! the slots, so that a client with many leases costs no more to move than one with a single lease.
//!
//! A head keeps half of its hash beside it: growing the table, and passing over the heads of others, would otherwise
//! read a slot each, somewhere in a hundred megabytes (half of the time that a start with a million leases took).

use dhcp_ebpf::wire::dhcp::HwAddr;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::hash::hash;
use super::slot::{Links, NO_SLOT, Slot, Slots};

/// Most leases that a look-up returns, the most recently written ones.
///
/// A client can own as many leases as it can invent identifiers; what a packet costs must not depend on that (I6).
pub(super) const LOOKUP_COUNT_MAX: usize = 64;

/// Most links that a look-up follows for them.
const VISIT_COUNT_MAX: usize = 4096;

/// Which key an index is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Hardware type and address.
    Hw,
    /// Client identifier, but for the usual one, which is found by hardware address.
    ClientId,
}

impl Key {
    const fn links(self, slot: &Slot) -> Links {
        match self {
            Self::Hw => slot.hw_links,
            Self::ClientId => slot.id_links,
        }
    }

    const fn links_mut(self, slot: &mut Slot) -> &mut Links {
        match self {
            Self::Hw => &mut slot.hw_links,
            Self::ClientId => &mut slot.id_links,
        }
    }

    /// Runs `read` on the key of a slot: a first byte and the rest.
    fn with<R>(self, slot: &Slot, read: impl FnOnce(u8, &[u8]) -> R) -> Option<R> {
        match self {
            Self::Hw => slot.hw().map(|hw| read(hw.htype(), hw.bytes())),
            Self::ClientId if slot.has_usual_id() => None,
            Self::ClientId => slot.with_client_id(|id| read(0, id)),
        }
    }
}

/// The first slot of a chain.
#[derive(Debug, Clone, Copy)]
struct Head {
    slot: u32,
    mark: Mark,
}

/// Half of a key's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark(u32);

impl Mark {
    const fn of(hash: u64) -> Self {
        Self(hash as u32)
    }

    /// What the table sees: it takes the bucket from the low bits and a tag from the highest seven.
    const fn spread(self) -> u64 {
        (self.0 as u64) << 32 | self.0 as u64
    }
}

/// One index.
#[derive(Debug)]
pub(super) struct Index {
    key: Key,
    hash_key: [u64; 2],
    heads: HashTable<Head>,
}

impl Index {
    pub(super) const fn new(key: Key, hash_key: [u64; 2]) -> Self {
        Self { key, hash_key, heads: HashTable::new() }
    }

    /// Whether no slot is in any chain.
    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Bytes of heap in use.
    pub(super) fn heap_len(&self) -> usize {
        self.heads.allocation_size()
    }

    pub(super) fn reserve(&mut self, count: usize) {
        self.heads.reserve(count, |head| head.mark.spread());
    }

    /// Enters a slot that is in no chain; one without the key is left out.
    pub(super) fn link(&mut self, index: u32, slots: &mut Slots) {
        let (key, hash_key) = (self.key, self.hash_key);
        let Some(slot) = slots.slot(index) else { return };
        let found = key.with(slot, |first, bytes| {
            let mark = Mark::of(hash(hash_key, first, bytes));
            let is_same = |head: &Head| head.mark == mark && has_key(key, slots, head.slot, first, bytes);
            match self.heads.entry(mark.spread(), is_same, |head| head.mark.spread()) {
                Entry::Occupied(mut head) => Some(std::mem::replace(&mut head.get_mut().slot, index)),
                Entry::Vacant(place) => {
                    place.insert(Head { slot: index, mark });
                    None
                }
            }
        });
        let Some(old_head) = found else { return };
        let next = old_head.unwrap_or(NO_SLOT);
        if let Some(slot) = slots.slot_mut(index) {
            *key.links_mut(slot) = Links { next, prev: NO_SLOT };
        }
        if let Some(next) = slots.slot_mut(next) {
            key.links_mut(next).prev = index;
        }
    }

    /// Takes a slot out; its key must still be what it was when it was linked.
    pub(super) fn unlink(&mut self, index: u32, slots: &mut Slots) {
        let (key, hash_key) = (self.key, self.hash_key);
        let Some(slot) = slots.slot(index) else { return };
        let Links { next, prev } = key.links(slot);
        if prev == NO_SLOT {
            let Some(mark) = key.with(slot, |first, bytes| Mark::of(hash(hash_key, first, bytes))) else {
                return;
            };
            let Ok(mut entry) = self.heads.find_entry(mark.spread(), |head| head.slot == index) else {
                return;
            };
            if next == NO_SLOT {
                entry.remove();
            } else {
                entry.get_mut().slot = next;
            }
        }
        if let Some(next) = slots.slot_mut(next) {
            key.links_mut(next).prev = prev;
        }
        if let Some(prev) = slots.slot_mut(prev) {
            key.links_mut(prev).next = next;
        }
        if let Some(slot) = slots.slot_mut(index) {
            *key.links_mut(slot) = Links::NONE;
        }
    }

    /// The slots with this hardware address, the most recently linked first.
    pub(super) fn by_hw(&self, hw: &HwAddr, slots: &Slots) -> Vec<u32> {
        self.find(hw.htype(), hw.bytes(), slots).take(LOOKUP_COUNT_MAX).collect()
    }

    /// The slots with this hardware address and the client identifier made of it, in the same order.
    pub(super) fn by_usual_id(&self, mac: [u8; 6], slots: &Slots) -> Vec<u32> {
        let hw = HwAddr::ethernet(mac);
        let found = self.find(hw.htype(), hw.bytes(), slots).take(VISIT_COUNT_MAX);
        found.filter(|index| slots.slot(*index).is_some_and(Slot::has_usual_id)).take(LOOKUP_COUNT_MAX).collect()
    }

    /// The slots with this client identifier, in the same order; those with the usual one are not among them.
    pub(super) fn by_client_id(&self, client_id: &[u8], slots: &Slots) -> Vec<u32> {
        self.find(0, client_id, slots).take(LOOKUP_COUNT_MAX).collect()
    }

    fn find<'a>(&self, first: u8, bytes: &[u8], slots: &'a Slots) -> impl Iterator<Item = u32> + use<'a> {
        let key = self.key;
        let mark = Mark::of(hash(self.hash_key, first, bytes));
        let is_same = |head: &Head| head.mark == mark && has_key(key, slots, head.slot, first, bytes);
        let head = self.heads.find(mark.spread(), is_same).map(|head| head.slot);
        std::iter::successors(head, move |index| slots.slot(*index).map(|slot| key.links(slot).next))
            .take_while(|index| *index != NO_SLOT)
    }
}

fn has_key(key: Key, slots: &Slots, index: u32, first: u8, bytes: &[u8]) -> bool {
    slots.slot(index).and_then(|slot| key.with(slot, |f, b| f == first && b == bytes)).unwrap_or(false)
}
