//! What crosses the maps: keys, values, events, counters. Sizes are asserted; a change bumps [`ABI_VERSION`].
//!
//! No field has two writers:
//!
//! ```text
//!   map         the agent writes              the kernel writes     read on the hot path
//!   CONTROL     all, word by word                                   switches, key
//!   DIRECTORY   all, before it attaches                             8 bytes, neighbours side by side
//!   CLIENTS     a way in one store                                  without `ciaddr` only: one line
//!   ENTRIES     words 0 to 6                  word 7 (`Renewal`)    one line
//!   TEMPLATES   before an entry refers to it                        the answer; shared, mostly in a cache
//!   COUNTERS                                  one count per CPU     own CPU's
//!   SOURCES                                   a word per source     never: only what passes up is looked at
//! ```
//!
//! How tearing is excluded. What fits a word is stored and loaded as one ([`Renewal`], [`Source`], a way of a
//! [`ClientBucket`], the switches of [`Control`]; the horizon shares its word with an address that does not change).
//! The agent's words of an [`Entry`] are guarded by [`Entry::sequence`]: odd while it writes, and with it in the same
//! word the generation, zero meanwhile. The program loads word 0, words 1 to 6, and the sequence again, and passes the
//! frame up when that was odd or has moved. x86-64 reorders neither loads with loads nor stores with stores, so the
//! copy is whole whenever both readings agree; on other processors the agent does not load the program. Templates and
//! directory are written before anything leads to them, and a template's place is used again only after a grace
//! period.
//!
//! Instants that the kernel sees are [`BootSecs`], never wall time.

use bytemuck::{Pod, Zeroable};

use crate::question::{BLOCK_COUNT, BLOCK_LEN, FIELD_WORDS, OPTIONS_LEN_MAX};

/// Version of everything in this file; an agent refuses pinned maps of another version.
pub const ABI_VERSION: u32 = 9;

/// Seconds of CLOCK_BOOTTIME (which goes on during suspend): the unit of promises the kernel sees.
///
/// 32 bits last 136 years of uptime. A promise is rounded down to whole seconds, a "now" as well, so a grant
/// computed from the two is never longer than the promise allows by more than the second that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct BootSecs(u32);

impl BootSecs {
    /// The instant `secs` seconds after boot.
    #[must_use]
    #[inline(always)]
    pub const fn new(secs: u32) -> Self {
        Self(secs)
    }

    /// Seconds since boot.
    #[must_use]
    #[inline(always)]
    pub const fn secs(self) -> u32 {
        self.0
    }

    /// Seconds from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Counts configurations: an entry armed under another generation is not armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct Generation(u32);

impl Generation {
    /// The generation with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The generation after this one; zero is skipped, since it means "never armed".
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(number) => Self(number),
            None => Self(1),
        }
    }
}

/// Questions an entry can answer: the renewal, the reboot, and one more (a relayed client's direct renewal, or
/// what a client really sends when the prediction missed).
pub const QUESTION_COUNT: usize = 3;

/// Highest number of failover peers that the serving table holds; index 0 is "no failover".
pub const PEER_COUNT: usize = 64;

/// Bytes of a set of the 256 hash buckets of RFC 3074.
pub const BUCKET_BYTES: usize = 32;

/// Highest number of access ports that the shield guards.
pub const ACCESS_PORT_COUNT: usize = 32;

/// What the shield does with a frame that is certainly hostile or useless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u32)]
pub enum ShieldMode {
    /// Nothing is looked at.
    Off = 0,
    /// It is counted and goes its way.
    #[default]
    Monitor = 1,
    /// It is counted and dropped.
    Enforce = 2,
}

/// The shield's settings. The agent alone writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Shield {
    /// A [`ShieldMode`]; every other number is "off".
    pub mode: u32,
    /// DISCOVERs per second that one source may send for long.
    pub discover_rate: u16,
    /// DISCOVERs that one source may send at once.
    pub discover_burst: u16,
    /// No meaning; zero.
    pub _pad: u32,
    /// Interfaces behind which there is no server and no relay; a zero ends the list.
    pub access_ports: [u32; ACCESS_PORT_COUNT],
}

impl Shield {
    /// The mode in force.
    #[must_use]
    #[inline(always)]
    pub const fn mode(&self) -> ShieldMode {
        match self.mode {
            1 => ShieldMode::Monitor,
            2 => ShieldMode::Enforce,
            _ => ShieldMode::Off,
        }
    }
}

/// How many sources the shield tells apart at a time; a power of two.
pub const SOURCE_COUNT: u32 = 1 << 13;

/// The token bucket of a source of DISCOVERs: one 64-bit word, written by the kernel only. Whoever comes to a place
/// that another source holds takes it over with a full bucket, so nobody pays for a neighbour in the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Source {
    /// When it was counted last.
    pub at: BootSecs,
    /// DISCOVERs it may send at once.
    pub tokens: u16,
    /// Whose it is: bits of the keyed hash of the hardware address.
    pub tag: u16,
}

/// The control map's single value. The agent alone writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Control {
    /// [`ABI_VERSION`] of the agent that made the maps.
    pub abi_version: u32,
    /// The generation whose entries are armed.
    pub generation: Generation,
    /// 1 = the fast path answers, 0 = everything is passed up. One store switches it.
    pub enabled: u32,
    /// The kernel answers nothing from this instant on; the agent moves it ahead while it lives.
    pub dead_man: BootSecs,
    /// Number of client buckets minus one; the number is a power of two.
    pub client_mask: u32,
    /// What is done about hostile frames.
    pub shield: Shield,
    /// Per failover peer: 1 = its pools may be answered here. Index 0 (no failover) is always 1.
    pub serving: [u8; PEER_COUNT],
    /// Per failover peer: the RFC 3074 buckets whose broadcasts are answered here, bit `n & 7` of byte `n >> 3`.
    pub buckets: [[u8; BUCKET_BYTES]; PEER_COUNT],
    /// The shadow check: a request that could be answered is passed up instead when a random number is below this; zero =
    /// never. The agent answers it, and compares.
    pub shadow: u32,
    /// No meaning; zero.
    pub _pad: u32,
    /// What the answers were made of (configuration, interfaces, program version), as a hash: an agent that would make
    /// others starts a new generation. Zero = unknown. The program does not look at it.
    pub answers: u64,
    /// Key of the question digest, drawn at random when the maps are made.
    pub key: DigestKey,
}

/// Key of the question digest: one random 64-bit word per 32-bit word of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct DigestKey {
    /// For the fixed fields.
    pub fields: [u64; FIELD_WORDS],
    /// For the options, block by block.
    pub options: [[u64; BLOCK_LEN / 4]; BLOCK_COUNT],
    /// For the index by hardware address.
    pub client: u64,
}

impl DigestKey {
    /// Draws a key from a source of random words.
    pub fn draw(mut random: impl FnMut() -> u64) -> Self {
        Self {
            fields: core::array::from_fn(|_| random()),
            options: core::array::from_fn(|_| core::array::from_fn(|_| random())),
            client: random(),
        }
    }
}

/// Ways of a directory bucket.
pub const DIRECTORY_WAYS: usize = 4;
/// Number of directory buckets; a power of two.
pub const DIRECTORY_BUCKETS: usize = 1 << 14;

/// One bucket of the directory: where the 256 entries of a /24 start.
///
/// A bucket holds up to four prefixes; the agent leaves a prefix whose bucket is full to the slow path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Bucket {
    /// The upper 24 bits of the addresses, or zero in an empty way (0.0.0.0/24 is never leased).
    pub prefix: [u32; DIRECTORY_WAYS],
    /// Number of the entry of the prefix's address `.0`.
    pub base: [u32; DIRECTORY_WAYS],
}

impl Bucket {
    /// The bucket that a prefix lives in: four neighbours share one, and blocks of a /8 lie in a row. So a large pool
    /// keeps its part of the directory in few cache lines, and never crowds itself out; different /8s are shifted
    /// against each other.
    #[must_use]
    #[inline(always)]
    pub const fn index_of(prefix: u32) -> u32 {
        ((prefix >> 2) ^ (prefix >> 16).wrapping_mul(0x2d51)) & (DIRECTORY_BUCKETS as u32 - 1)
    }

    /// The way that a prefix has in its bucket unless another prefix was there first.
    #[must_use]
    #[inline(always)]
    pub const fn way_of(prefix: u32) -> usize {
        prefix as usize % DIRECTORY_WAYS
    }

    /// Number of the first entry of `prefix`, if it lives in this bucket.
    #[must_use]
    #[inline(always)]
    pub const fn base_of(&self, prefix: u32) -> Option<u32> {
        let way = Self::way_of(prefix);
        if self.prefix[way] == prefix {
            return Some(self.base[way]);
        }
        let [a, b, c, d] = self.prefix;
        let [base_a, base_b, base_c, base_d] = self.base;
        if a == prefix {
            Some(base_a)
        } else if b == prefix {
            Some(base_b)
        } else if c == prefix {
            Some(base_c)
        } else if d == prefix {
            Some(base_d)
        } else {
            None
        }
    }
}

/// Ways of a client bucket.
pub const CLIENT_WAYS: usize = 8;

/// One bucket of the index by hardware address, for requests that name no address in `ciaddr`: one cache line.
///
/// A way holds a tag of the address (upper half) and the number of an entry plus one (lower half); zero = empty.
/// The agent stores a way as one word. A way may be stale: the entry itself says whose it is. The hash is keyed, so
/// nobody can choose addresses that crowd a bucket; what a crowded bucket forgets stays on the slow path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct ClientBucket {
    /// The ways.
    pub ways: [u64; CLIENT_WAYS],
}

/// Where a hardware address lives in the index: bucket and tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientPlace {
    /// Number of the bucket.
    pub bucket: u32,
    /// Upper half of its way.
    pub tag: u32,
}

impl ClientPlace {
    /// Hashes an Ethernet address with a random key.
    #[must_use]
    #[inline(always)]
    pub const fn new(chaddr: [u8; 6], key: &DigestKey, mask: u32) -> Self {
        let [a, b, c, d, e, f] = chaddr;
        Self::of_word(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]), key, mask)
    }

    /// The same for an address as [`crate::wire::dhcp::Words::mac`] reads it.
    #[must_use]
    #[inline(always)]
    pub const fn of_word(mac: u64, key: &DigestKey, mask: u32) -> Self {
        let hash = (mac.swap_bytes() >> 16).wrapping_mul(key.client | 1);
        // The upper bits depend on all bytes; bucket and tag share none up to 2^24 buckets.
        Self { bucket: ((hash >> 40) as u32) & mask, tag: (hash >> 8) as u32 }
    }
}

impl ClientBucket {
    /// Number of the entry in the way with this tag.
    #[must_use]
    #[inline(always)]
    pub fn entry_of(&self, tag: u32) -> Option<u32> {
        let mut found = 0_u32;
        let mut way = 0;
        while way < CLIENT_WAYS {
            let word = self.ways[way];
            if (word >> 32) as u32 == tag && word as u32 != 0 {
                found = word as u32;
            }
            way += 1;
        }
        found.checked_sub(1)
    }

    /// The word of a way.
    #[must_use]
    pub const fn way(tag: u32, entry: u32) -> u64 {
        ((tag as u64) << 32) | (entry.wrapping_add(1) as u64)
    }
}

/// What the kernel did last for a lease: one 64-bit word, written by the kernel only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Renewal {
    /// When it answered last; zero = never.
    pub at: BootSecs,
    /// Until when it told the client it owns the address; zero = never.
    pub until: BootSecs,
}

/// One lease as the kernel sees it: one cache line.
///
/// ```text
///   0 sequence | 4 generation | 8 chaddr (6), peer, bucket | 16 digest 0 | 24 digest 1 | 32 digest 2
///  40 template 0, 1, 2 (2 each), - | 48 horizon | 52 address | 56 renewal.at | 60 renewal.until
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Entry {
    /// Even: the agent's words are whole; odd: they are being written.
    pub sequence: u32,
    /// The entry is armed while this equals the control map's generation; zero = disarmed.
    pub generation: Generation,
    /// The client's Ethernet address.
    pub chaddr: [u8; 6],
    /// The failover peer of the pool, an index into [`Control::serving`]; zero = none.
    pub peer: u8,
    /// The client's RFC 3074 hash bucket, an index into [`Control::buckets`].
    pub bucket: u8,
    /// Digests of the questions this entry can answer; zero in unused places.
    pub digest: [u64; QUESTION_COUNT],
    /// The answers to them, numbers of templates; zero = no answer.
    pub template: [u16; QUESTION_COUNT],
    /// No meaning; zero.
    pub _pad: u16,
    /// The latest instant up to which the client may be told it owns the address (the promise).
    pub horizon: BootSecs,
    /// The leased address, in network order.
    pub address: [u8; 4],
    /// The kernel's word.
    pub renewal: Renewal,
}

impl Entry {
    /// The client's Ethernet address as [`crate::wire::dhcp::Words::mac`] reads it.
    #[must_use]
    #[inline(always)]
    pub const fn mac(&self) -> u64 {
        let [a, b, c, d, e, f] = self.chaddr;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

/// Longest tail of a reply that the kernel writes, in bytes: `sname`, `file`, cookie and options.
///
/// 504 bytes make a DHCP message of 548, what every client must accept (RFC 2131 2: 576-byte datagrams).
pub const TAIL_LEN_MAX: usize = 504;

/// An answer: everything of a reply that does not come from the request. Interned, shared by many leases.
///
/// The agent writes a template once, before the first entry refers to it, and never changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct Template {
    /// `siaddr` of the reply.
    pub siaddr: [u8; 4],
    /// Source address of the reply, the server identifier. Unicast requests to any other address pass.
    pub server: [u8; 4],
    /// Lease time in seconds that the slow path would grant now; the most the kernel grants.
    pub lease_time: u32,
    /// Value of option 58 in seconds; zero = the reply has none.
    pub renewal_time: u32,
    /// Value of option 59 in seconds; zero = the reply has none.
    pub rebinding_time: u32,
    /// One's-complement sum of the tail with its time options zeroed ([`crate::wire::checksum`]).
    pub tail_sum: u32,
    /// Bytes of the tail in use; the message is 44 bytes longer.
    pub tail_len: u32,
    /// Ethernet address of the interface the reply leaves through, for requests that were sent to everybody.
    pub source_mac: [u8; 6],
    /// 1 = an OFFER, which promises nothing.
    pub is_offer: u8,
    /// 1 = the client is behind a router, not on its lease's network: a reply to its `ciaddr` is never broadcast.
    pub is_routed: u8,
    /// No meaning; zero.
    pub _pad: [u8; 4],
    /// `sname`, `file`, cookie, options, END, padding; the values of 51, 58 and 59 are zero.
    pub tail: [u8; TAIL_LEN_MAX],
}

/// What the kernel tells the agent through the ring buffer: a horizon has to move soon.
///
/// A lost event loses nothing: the scan of the entries finds the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Event {
    /// The leased address, in network order.
    pub address: [u8; 4],
    /// What was just granted.
    pub renewal: Renewal,
}

/// Why the kernel passed a frame up or dropped it, or that it answered: the index of a per-CPU counter.
///
/// "Not ours" and "broken" are different reasons; doubt always passes (I5). What the shield sees in monitor mode is
/// counted beside the reason for which the frame passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Counter {
    /// A reply was transmitted.
    Answered = 0,
    /// An answered renewal also asked the agent for a later horizon.
    HorizonAsked = 1,
    /// The ring buffer was full; the scan will find what the event would have said.
    EventLost = 2,
    /// Not IPv4, or too short to tell.
    NotIpv4 = 3,
    /// IPv4, but not UDP to port 67.
    NotDhcp = 4,
    /// A fragment of a datagram.
    Fragment = 5,
    /// An IPv4 header with options.
    IpOptions = 6,
    /// The lengths of IP, UDP and BOOTP contradict each other or the frame.
    Length = 7,
    /// Not a BOOTREQUEST.
    NotRequest = 8,
    /// Not an Ethernet client.
    Hardware = 9,
    /// No magic cookie.
    Cookie = 10,
    /// `ciaddr` is zero, and no entry belongs to this hardware address.
    NoAddress = 11,
    /// More VLAN tags than two.
    Tagged = 12,
    /// Sent from another address than `ciaddr`, and not through a relay.
    OtherSource = 13,
    /// More option bytes than the digest covers.
    LongOptions = 14,
    /// The fast path is switched off.
    Off = 15,
    /// No agent has been seen for too long.
    DeadMan = 16,
    /// The address is in no range that the kernel knows.
    NoEntry = 17,
    /// The entry is disarmed, of another generation, or being written.
    NotArmed = 18,
    /// Another client holds the address.
    OtherClient = 19,
    /// The failover endpoint's state does not allow an answer.
    NotServing = 20,
    /// A question the slow path has not answered yet.
    OtherQuestion = 21,
    /// Sent to an address that is not this server's identifier.
    OtherServer = 22,
    /// The promise does not reach far enough for a useful lease.
    Horizon = 23,
    /// The frame could not be given the reply's length.
    Resize = 24,
    /// A broadcast of a client that the failover partner answers (RFC 3074).
    OtherBucket = 25,
    /// Shield: a source sends more DISCOVERs than it may; counted only.
    FloodSeen = 26,
    /// Shield: the same, dropped.
    FloodDropped = 27,
    /// Shield: sent to port 67 and no BOOTP message; counted only.
    MalformedSeen = 28,
    /// Shield: the same, dropped.
    MalformedDropped = 29,
    /// Shield: a server's message came in through an access port; counted only.
    SpoofSeen = 30,
    /// Shield: the same, dropped.
    SpoofDropped = 31,
    /// It could have been answered, and was passed up for the shadow check.
    Sampled = 32,
}

impl Counter {
    /// Number of counters.
    pub const COUNT: usize = 33;

    /// All counters, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Answered,
        Self::HorizonAsked,
        Self::EventLost,
        Self::NotIpv4,
        Self::NotDhcp,
        Self::Fragment,
        Self::IpOptions,
        Self::Length,
        Self::NotRequest,
        Self::Hardware,
        Self::Cookie,
        Self::NoAddress,
        Self::Tagged,
        Self::OtherSource,
        Self::LongOptions,
        Self::Off,
        Self::DeadMan,
        Self::NoEntry,
        Self::NotArmed,
        Self::OtherClient,
        Self::NotServing,
        Self::OtherQuestion,
        Self::OtherServer,
        Self::Horizon,
        Self::Resize,
        Self::OtherBucket,
        Self::FloodSeen,
        Self::FloodDropped,
        Self::MalformedSeen,
        Self::MalformedDropped,
        Self::SpoofSeen,
        Self::SpoofDropped,
        Self::Sampled,
    ];

    /// The counter's name in status output and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::HorizonAsked => "horizon-asked",
            Self::EventLost => "event-lost",
            Self::NotIpv4 => "not-ipv4",
            Self::NotDhcp => "not-dhcp",
            Self::Fragment => "fragment",
            Self::IpOptions => "ip-options",
            Self::Length => "length",
            Self::NotRequest => "not-request",
            Self::Hardware => "hardware",
            Self::Cookie => "cookie",
            Self::NoAddress => "no-address",
            Self::Tagged => "tagged",
            Self::OtherSource => "other-source",
            Self::LongOptions => "long-options",
            Self::Off => "off",
            Self::DeadMan => "dead-man",
            Self::NoEntry => "no-entry",
            Self::NotArmed => "not-armed",
            Self::OtherClient => "other-client",
            Self::NotServing => "not-serving",
            Self::OtherQuestion => "other-question",
            Self::OtherServer => "other-server",
            Self::Horizon => "horizon",
            Self::Resize => "resize",
            Self::OtherBucket => "other-bucket",
            Self::FloodSeen => "flood-seen",
            Self::FloodDropped => "flood-dropped",
            Self::MalformedSeen => "malformed-seen",
            Self::MalformedDropped => "malformed-dropped",
            Self::SpoofSeen => "spoof-seen",
            Self::SpoofDropped => "spoof-dropped",
            Self::Sampled => "sampled",
        }
    }
}

/// Names of the maps in the object.
#[allow(missing_docs, reason = "each is the map of the value type it names")]
pub mod map {
    pub const CONTROL: &str = "CONTROL";
    pub const DIRECTORY: &str = "DIRECTORY";
    pub const CLIENTS: &str = "CLIENTS";
    pub const ENTRIES: &str = "ENTRIES";
    pub const TEMPLATES: &str = "TEMPLATES";
    pub const COUNTERS: &str = "COUNTERS";
    pub const EVENTS: &str = "EVENTS";
    pub const SOURCES: &str = "SOURCES";
    /// All maps: what an agent pins, and the next one adopts.
    pub const ALL: [&str; 8] = [CONTROL, DIRECTORY, CLIENTS, ENTRIES, TEMPLATES, COUNTERS, EVENTS, SOURCES];
    /// Name of the program.
    pub const PROGRAM: &str = "xdhcpd";
}

/// Templates the kernel can hold; number 0 is "no answer".
pub const TEMPLATE_COUNT: u32 = 4096;
/// Bytes of the event ring; a power of two and a multiple of the page size.
pub const EVENT_RING_LEN: u32 = 1 << 18;

const _: () = {
    assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 64);
    assert!(size_of::<Bucket>() == 32);
    assert!(size_of::<ClientBucket>() == 64);
    assert!(size_of::<Renewal>() == 8);
    assert!(size_of::<Event>() == 12);
    assert!(size_of::<Template>() == 40 + TAIL_LEN_MAX);
    assert!(size_of::<DigestKey>() == (FIELD_WORDS + OPTIONS_LEN_MAX / 4 + 1) * 8);
    assert!(size_of::<Shield>() == 12 + ACCESS_PORT_COUNT * 4);
    assert!(size_of::<Source>() == 8);
    assert!(
        size_of::<Control>() == 36 + size_of::<Shield>() + PEER_COUNT * (1 + BUCKET_BYTES) + size_of::<DigestKey>()
    );
    assert!(TAIL_LEN_MAX.is_multiple_of(8));
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_numbered_as_they_are_listed() {
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, index, "{}", counter.name());
        }
    }

    #[test]
    fn a_prefix_is_found_in_the_way_it_was_put() {
        let mut bucket = Bucket::default();
        bucket.prefix[2] = 0x00c0_a896;
        bucket.base[2] = 512;
        assert_eq!(bucket.base_of(0x00c0_a896), Some(512));
        assert_eq!(bucket.base_of(0x00c0_a897), None);
        bucket.prefix[Bucket::way_of(0x000a_0001)] = 0x000a_0001;
        bucket.base[Bucket::way_of(0x000a_0001)] = 768;
        assert_eq!(bucket.base_of(0x000a_0001), Some(768));
        assert!((Bucket::index_of(0x00ff_ffff) as usize) < DIRECTORY_BUCKETS);
    }

    #[test]
    fn a_generation_is_never_zero_after_the_first() {
        assert_eq!(Generation::new(u32::MAX).next(), Generation::new(1));
        assert_eq!(Generation::new(1).next(), Generation::new(2));
    }
}
