//! A lease at rest: 80 bytes, and one allocation more for what few leases have.
//!
//! ```text
//!    0 starts ends tstp tsfp atsfp cltt          6 x 4
//!   24 mac 6 | identity 1 | flags 1              ethernet address, how hw and client id are kept
//!   32 states 2 | - 2                            state, next, rewind: three bits each
//!   36 hw next, prev | id next, prev             4 x 4, chains of leases with the same key
//!   52 queue, timer                              2 x 4, places in the heaps
//!   60 limit                                     4, of what an earlier agent may have promised
//!   64 extra                                     16, tag, length, bytes ...
//! ```
//!
//! The client identifier that nearly everybody sends is `01` and the Ethernet address: it costs nothing.

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;

use super::queue::{NOWHERE, Positions};
use crate::lease::record::{Billing, Lease, Value, Variable};
use crate::lease::state::BindingState;
use crate::lease::time::WallTime;

/// Slots per page: pages are made when the first of their leases is written.
pub(super) const PAGE_LEN: usize = 256;

/// No slot: the end of a chain.
pub(super) const NO_SLOT: u32 = u32::MAX;

const HW_NONE: u8 = 0;
const HW_ETHERNET: u8 = 1;
const HW_EXTRA: u8 = 2;
const ID_NONE: u8 = 0;
const ID_FROM_MAC: u8 = 4;
const ID_EXTRA: u8 = 8;
const HW_MASK: u8 = 3;
const ID_MASK: u8 = 12;

const FLAG_RESERVED: u8 = 1;
const FLAG_BOOTP: u8 = 2;

const TAG_HW: u8 = 1;
const TAG_CLIENT_ID: u8 = 2;
const TAG_HOSTNAME: u8 = 3;
const TAG_AGENT: u8 = 4;
const TAG_NAME: u8 = 5;
const TAG_DATA: u8 = 6;
const TAG_NUMBER: u8 = 7;
const TAG_BOOLEAN: u8 = 8;
const TAG_CLASS: u8 = 9;
const TAG_SUBCLASS: u8 = 10;
const TAG_ON_EXPIRY: u8 = 11;
const TAG_ON_RELEASE: u8 = 12;
const TAG_UNKNOWN: u8 = 13;

/// Chain links of one index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    pub(super) next: u32,
    pub(super) prev: u32,
}

impl Links {
    pub(super) const NONE: Self = Self { next: NO_SLOT, prev: NO_SLOT };

    /// Whether nobody else is in the chain.
    pub(super) const fn is_alone(self) -> bool {
        self.next == NO_SLOT && self.prev == NO_SLOT
    }
}

/// A lease at rest.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) starts: WallTime,
    pub(super) ends: WallTime,
    tstp: WallTime,
    tsfp: WallTime,
    atsfp: WallTime,
    pub(super) cltt: WallTime,
    mac: [u8; 6],
    identity: u8,
    flags: u8,
    states: u16,
    pub(super) hw_links: Links,
    pub(super) id_links: Links,
    pub(super) queue_at: u32,
    pub(super) timer_at: u32,
    /// Until when its client may have been told that it has the address, where that is not known for certain.
    pub(super) limit: WallTime,
    extra: Option<Box<[u8]>>,
}

const _: () = assert!(size_of::<Slot>() == 80);

/// What a client, or its relay, said, where it is not the usual: pieces of a lease at rest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spoken<'s> {
    pub(super) client_id: Option<&'s [u8]>,
    pub(super) hostname: Option<&'s [u8]>,
    pub(super) agent_options: Option<&'s [u8]>,
}

impl Slot {
    pub(super) const fn new() -> Self {
        Self {
            starts: WallTime::NONE,
            ends: WallTime::NONE,
            tstp: WallTime::NONE,
            tsfp: WallTime::NONE,
            atsfp: WallTime::NONE,
            cltt: WallTime::NONE,
            mac: [0; 6],
            identity: HW_NONE | ID_NONE,
            flags: 0,
            states: pack(BindingState::Free, BindingState::Free, BindingState::Free),
            hw_links: Links::NONE,
            id_links: Links::NONE,
            queue_at: NOWHERE,
            timer_at: NOWHERE,
            limit: WallTime::NONE,
            extra: None,
        }
    }

    pub(super) fn state(&self) -> BindingState {
        unpack(self.states)
    }

    pub(super) const fn is_reserved(&self) -> bool {
        self.flags & FLAG_RESERVED != 0
    }

    /// When something happens to the lease by itself: its end, or the limit of what its client may have been told.
    pub(super) fn rings_at(&self) -> WallTime {
        let at = match self.state() {
            BindingState::Active => self.ends.max(self.limit),
            BindingState::Abandoned => self.ends,
            BindingState::Free
            | BindingState::Expired
            | BindingState::Released
            | BindingState::Reset
            | BindingState::Backup => WallTime::NONE,
        };
        if at < WallTime::NEVER { at } else { WallTime::NONE }
    }

    /// What the client may have been told at most, where that is more than the end of the lease: the promise.
    pub(super) fn promised(&self) -> WallTime {
        // In a failover pool the partner's word is a promise as well.
        let most = self.tstp.max(self.tsfp);
        if self.state() == BindingState::Active && most > self.ends { most } else { WallTime::NONE }
    }

    pub(super) const fn is_used(&self) -> bool {
        self.identity != HW_NONE | ID_NONE
    }

    /// Whether there is nothing to say about the address.
    pub(super) fn is_blank(&self) -> bool {
        self.states == pack(BindingState::Free, BindingState::Free, BindingState::Free)
            && self.flags == 0
            && !self.is_used()
            && self.extra.is_none()
            && [self.starts, self.ends, self.tstp, self.tsfp, self.atsfp, self.cltt].iter().all(|time| !time.is_some())
    }

    /// The hardware address.
    pub(super) fn hw(&self) -> Option<HwAddr> {
        match self.identity & HW_MASK {
            HW_ETHERNET => Some(HwAddr::ethernet(self.mac)),
            HW_EXTRA => {
                let (htype, bytes) = self.field(TAG_HW)?.split_first()?;
                HwAddr::new(*htype, bytes)
            }
            _ => None,
        }
    }

    /// Whether the client identifier is `01` and the Ethernet address: it is found by that address then.
    pub(super) const fn has_usual_id(&self) -> bool {
        self.identity & ID_MASK == ID_FROM_MAC
    }

    /// Runs `read` on the client identifier.
    pub(super) fn with_client_id<R>(&self, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        match self.identity & ID_MASK {
            ID_FROM_MAC => {
                let [a, b, c, d, e, f] = self.mac;
                Some(read(&[1, a, b, c, d, e, f]))
            }
            ID_EXTRA => self.field(TAG_CLIENT_ID).map(read),
            _ => None,
        }
    }

    /// Bytes of heap beside the slot, as the allocator rounds them (to 16, with 8 of its own).
    pub(super) fn extra_len(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| (extra.len() + 8).next_multiple_of(16).max(32))
    }

    /// A lease at rest, linked nowhere.
    pub(super) fn of(lease: &Lease) -> Self {
        let mut slot = Self {
            starts: lease.starts,
            ends: lease.ends,
            tstp: lease.tstp,
            tsfp: lease.tsfp,
            atsfp: lease.atsfp,
            cltt: lease.cltt,
            states: pack(lease.state, lease.next_state, lease.rewind_state),
            flags: if lease.is_reserved { FLAG_RESERVED } else { 0 } | if lease.is_bootp { FLAG_BOOTP } else { 0 },
            ..Self::new()
        };
        slot.store_identity_and_extra(lease);
        slot
    }

    /// Says from now on what another one says; links, places and the limit stay as they are.
    pub(super) fn replace(&mut self, new: Self) {
        *self = Self {
            hw_links: self.hw_links,
            id_links: self.id_links,
            queue_at: self.queue_at,
            timer_at: self.timer_at,
            limit: self.limit,
            ..new
        };
    }

    /// Takes the times of a lease.
    pub(super) const fn set_times(&mut self, lease: &Lease) {
        self.starts = lease.starts;
        self.ends = lease.ends;
        self.tstp = lease.tstp;
        self.tsfp = lease.tsfp;
        self.atsfp = lease.atsfp;
        self.cltt = lease.cltt;
    }

    /// Whether both are found under the same client identifier, or both under none but the hardware address.
    pub(super) fn has_id_of(&self, other: &Self) -> bool {
        // The usual identifier is not in the index; one that becomes usual leaves it, though it is the same.
        self.has_usual_id() == other.has_usual_id()
            && self
                .with_client_id(|id| other.with_client_id(|theirs| id == theirs).unwrap_or(false))
                .unwrap_or_else(|| other.with_client_id(|_| ()).is_none())
    }

    /// Whether the lease counts against a class, or is one of a relay's circuit.
    pub(super) fn is_billed(&self) -> bool {
        self.field(TAG_CLASS).is_some() || self.field(TAG_AGENT).is_some()
    }

    fn store_identity_and_extra(&mut self, lease: &Lease) {
        let mut extra = Vec::new();
        let mac = lease.hw.as_ref().and_then(HwAddr::mac);
        self.mac = mac.unwrap_or_default();
        self.identity = match (&lease.hw, mac) {
            (None, _) => HW_NONE,
            (Some(_), Some(_)) => HW_ETHERNET,
            (Some(hw), None) => {
                let mut field = vec![hw.htype()];
                field.extend_from_slice(hw.bytes());
                push(&mut extra, TAG_HW, &field);
                HW_EXTRA
            }
        };
        self.identity |= match &lease.client_id {
            None => ID_NONE,
            Some(_) if has_usual_id(lease) => ID_FROM_MAC,
            Some(id) => {
                push(&mut extra, TAG_CLIENT_ID, id);
                ID_EXTRA
            }
        };
        for (tag, field) in [
            (TAG_HOSTNAME, &lease.hostname),
            (TAG_AGENT, &lease.agent_options),
            (TAG_ON_EXPIRY, &lease.on_expiry),
            (TAG_ON_RELEASE, &lease.on_release),
            (TAG_UNKNOWN, &lease.unknown),
        ] {
            if let Some(bytes) = field {
                push(&mut extra, tag, bytes);
            }
        }
        for Variable { name, value } in &lease.variables {
            push(&mut extra, TAG_NAME, name.as_bytes());
            match value {
                Value::Data(bytes) => push(&mut extra, TAG_DATA, bytes),
                Value::Number(number) => push(&mut extra, TAG_NUMBER, &number.to_le_bytes()),
                Value::Boolean(is_true) => push(&mut extra, TAG_BOOLEAN, &[u8::from(*is_true)]),
            }
        }
        match &lease.billing {
            Some(Billing::Class(name)) => push(&mut extra, TAG_CLASS, name),
            Some(Billing::Subclass(name, value)) => {
                push(&mut extra, TAG_CLASS, name);
                push(&mut extra, TAG_SUBCLASS, value);
            }
            None => {}
        }
        self.extra = (!extra.is_empty()).then(|| extra.into_boxed_slice());
    }

    /// The lease without who has it and what few leases have: nothing is allocated.
    pub(super) fn load_thin(&self, address: Ipv4Addr) -> Lease {
        let (state, next_state, rewind_state) =
            (unpack(self.states), unpack(self.states >> 3), unpack(self.states >> 6));
        Lease {
            starts: self.starts,
            ends: self.ends,
            tstp: self.tstp,
            tsfp: self.tsfp,
            atsfp: self.atsfp,
            cltt: self.cltt,
            state,
            next_state,
            rewind_state,
            is_reserved: self.is_reserved(),
            is_bootp: self.flags & FLAG_BOOTP != 0,
            ..Lease::free(address)
        }
    }

    /// The lease, thick again.
    pub(super) fn load(&self, address: Ipv4Addr) -> Lease {
        let mut lease =
            Lease { hw: self.hw(), client_id: self.with_client_id(|id| id.into()), ..self.load_thin(address) };
        let mut name: Option<&[u8]> = None;
        for (tag, bytes) in self.fields() {
            match tag {
                TAG_HOSTNAME => lease.hostname = Some(bytes.into()),
                TAG_AGENT => lease.agent_options = Some(bytes.into()),
                TAG_ON_EXPIRY => lease.on_expiry = Some(bytes.into()),
                TAG_ON_RELEASE => lease.on_release = Some(bytes.into()),
                TAG_UNKNOWN => lease.unknown = Some(bytes.into()),
                TAG_NAME => name = Some(bytes),
                TAG_CLASS => lease.billing = Some(Billing::Class(bytes.into())),
                TAG_SUBCLASS => {
                    if let Some(Billing::Class(class)) = lease.billing.take() {
                        lease.billing = Some(Billing::Subclass(class, bytes.into()));
                    }
                }
                _ => {
                    if let (Some(name), Some(value)) = (name, value_of(tag, bytes)) {
                        let name = String::from_utf8_lossy(name).into();
                        lease.variables.push(Variable { name, value });
                    }
                }
            }
        }
        lease
    }

    /// The promise.
    pub(super) const fn tstp(&self) -> WallTime {
        self.tstp
    }

    /// What stands beside the slot of what its client said.
    pub(super) fn spoken(&self) -> Spoken<'_> {
        let mut spoken = Spoken::default();
        for (tag, bytes) in self.fields() {
            match tag {
                TAG_CLIENT_ID if self.identity & ID_MASK == ID_EXTRA => spoken.client_id = Some(bytes),
                TAG_HOSTNAME => spoken.hostname = Some(bytes),
                TAG_AGENT => spoken.agent_options = Some(bytes),
                _ => {}
            }
        }
        spoken
    }

    fn field(&self, tag: u8) -> Option<&[u8]> {
        self.fields().find(|(found, _)| *found == tag).map(|(_, bytes)| bytes)
    }

    fn fields(&self) -> Fields<'_> {
        Fields { rest: self.extra.as_deref().unwrap_or_default() }
    }
}

/// Whether a lease's client identifier is `01` and its Ethernet address.
pub(super) fn has_usual_id(lease: &Lease) -> bool {
    let mac = lease.hw.as_ref().and_then(HwAddr::mac);
    match (lease.client_id.as_deref(), mac) {
        (Some([1, rest @ ..]), Some(mac)) => *rest == mac,
        _ => false,
    }
}

fn value_of(tag: u8, bytes: &[u8]) -> Option<Value> {
    match tag {
        TAG_DATA => Some(Value::Data(bytes.into())),
        TAG_NUMBER => bytes.first_chunk().map(|bytes| Value::Number(i64::from_le_bytes(*bytes))),
        TAG_BOOLEAN => bytes.first().map(|byte| Value::Boolean(*byte != 0)),
        _ => None,
    }
}

/// Appends a field: tag, length in groups of seven bits, bytes.
fn push(extra: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    extra.reserve_exact(bytes.len() + 2);
    extra.push(tag);
    let mut len = bytes.len();
    while len >= 0x80 {
        extra.push(len as u8 | 0x80);
        len >>= 7;
    }
    extra.push(len as u8);
    extra.extend_from_slice(bytes);
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (tag, mut rest) = self.rest.split_first()?;
        let mut len = 0_usize;
        let mut shift = 0_u32;
        loop {
            let (byte, after) = rest.split_first()?;
            rest = after;
            len |= usize::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (bytes, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some((*tag, bytes))
    }
}

const fn pack(state: BindingState, next: BindingState, rewind: BindingState) -> u16 {
    state.wire() as u16 | (next.wire() as u16) << 3 | (rewind.wire() as u16) << 6
}

fn unpack(bits: u16) -> BindingState {
    BindingState::from_wire((bits & 7) as u8).unwrap_or_default()
}

/// All slots, in pages that are made when they are needed.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pages: Vec<Option<Box<[Slot; PAGE_LEN]>>>,
}

impl Slots {
    pub(super) fn with_count(count: usize) -> Self {
        Self { pages: std::iter::repeat_with(|| None).take(count.div_ceil(PAGE_LEN)).collect() }
    }

    pub(super) fn slot(&self, index: u32) -> Option<&Slot> {
        let index = index as usize;
        self.pages.get(index / PAGE_LEN)?.as_ref()?.get(index % PAGE_LEN)
    }

    pub(super) fn slot_mut(&mut self, index: u32) -> Option<&mut Slot> {
        let index = index as usize;
        self.pages.get_mut(index / PAGE_LEN)?.as_mut()?.get_mut(index % PAGE_LEN)
    }

    /// The slot, and its page if there was none.
    pub(super) fn make(&mut self, index: u32) -> Option<&mut Slot> {
        let index = index as usize;
        let page = self.pages.get_mut(index / PAGE_LEN)?;
        let page = page.get_or_insert_with(|| Box::new(std::array::from_fn(|_| Slot::new())));
        page.get_mut(index % PAGE_LEN)
    }

    pub(super) fn has_page_of(&self, index: u32) -> bool {
        self.pages.get(index as usize / PAGE_LEN).is_some_and(Option::is_some)
    }

    pub(super) fn heap_len(&self) -> usize {
        let pages = self.pages.iter().flatten().count();
        self.pages.capacity() * size_of::<Option<Box<Slot>>>() + pages * (PAGE_LEN * size_of::<Slot>() + 16)
    }
}

/// Places in the choice queues.
pub(super) struct InQueue<'a>(pub(super) &'a mut Slots);

impl Positions for InQueue<'_> {
    fn place(&mut self, slot: u32, at: u32) {
        if let Some(slot) = self.0.slot_mut(slot) {
            slot.queue_at = at;
        }
    }
}

/// Places among the timers.
pub(super) struct InTimers<'a>(pub(super) &'a mut Slots);

impl Positions for InTimers<'_> {
    fn place(&mut self, slot: u32, at: u32) {
        if let Some(slot) = self.0.slot_mut(slot) {
            slot.timer_at = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Lease {
        Lease {
            starts: WallTime::from_secs(1),
            ends: WallTime::NEVER,
            tstp: WallTime::from_secs(3),
            tsfp: WallTime::from_secs(4),
            atsfp: WallTime::from_secs(5),
            cltt: WallTime::from_secs(6),
            state: BindingState::Backup,
            next_state: BindingState::Reset,
            rewind_state: BindingState::Abandoned,
            is_reserved: true,
            is_bootp: true,
            hw: HwAddr::new(32, &[9; 16]),
            client_id: Some(vec![7; 300].into()),
            hostname: Some((*b"name").into()),
            agent_options: Some([1, 2, 3, 4].into()),
            variables: vec![
                Variable { name: "b".into(), value: Value::Number(-5) },
                Variable { name: "a".into(), value: Value::Data((*b"x").into()) },
                Variable { name: "c".into(), value: Value::Boolean(true) },
            ],
            billing: Some(Billing::Subclass((*b"class").into(), [0, 1].into())),
            on_expiry: Some((*b" log (info, \"x\"); ").into()),
            on_release: Some((*b"").into()),
            unknown: Some((*b"new-field 5;").into()),
            ..Lease::free(Ipv4Addr::new(10, 0, 0, 1))
        }
    }

    #[test]
    fn everything_a_lease_says_comes_back() {
        let lease = full();
        assert_eq!(Slot::of(&lease).load(lease.address), lease);
        let plain = Lease {
            hw: Some(HwAddr::ethernet([2, 0, 0, 0, 0, 1])),
            client_id: Some([1, 2, 0, 0, 0, 0, 1].into()),
            billing: Some(Billing::Class((*b"c").into())),
            ..Lease::free(lease.address)
        };
        let mut slot = Slot::of(&lease);
        slot.replace(Slot::of(&plain));
        assert_eq!(slot.load(lease.address), plain);
    }

    #[test]
    fn the_usual_identifier_costs_nothing() {
        let mut slot = Slot::of(&Lease {
            hw: Some(HwAddr::ethernet([2, 0, 0, 0, 0, 1])),
            client_id: Some([1, 2, 0, 0, 0, 0, 1].into()),
            ..Lease::free(Ipv4Addr::LOCALHOST)
        });
        assert_eq!(slot.extra_len(), 0);
        assert!(slot.is_used() && !slot.is_blank());
        slot.replace(Slot::of(&Lease::free(Ipv4Addr::LOCALHOST)));
        assert!(slot.is_blank());
    }

    #[test]
    fn any_one_thing_said_makes_a_lease_not_blank() {
        let blank = Lease::free(Ipv4Addr::LOCALHOST);
        let time = WallTime::from_secs(9);
        let said = [
            Lease { starts: time, ..blank.clone() },
            Lease { tsfp: time, ..blank.clone() },
            Lease { state: BindingState::Backup, ..blank.clone() },
            Lease { rewind_state: BindingState::Backup, ..blank.clone() },
            Lease { is_reserved: true, ..blank.clone() },
            Lease { hostname: Some((*b"x").into()), ..blank },
        ];
        for lease in said {
            assert!(!Slot::of(&lease).is_blank(), "{lease:?}");
        }
    }
}
