//! How much of anything the engine keeps, each number with its unit and its reason (I6).

/// Inputs that wait for a revocation, in packets.
///
/// A revocation takes one RCU grace period, some milliseconds; this many messages about armed leases in that
/// time are a flood, and the rest is counted and dropped (clients repeat).
pub const PARKED_COUNT_MAX: usize = 4096;

/// Revocations under way at once, in tokens: each batch of expiries is one, each RELEASE or DECLINE another.
pub const REVOCATIONS_COUNT_MAX: usize = 1024;

/// Addresses in one batch of expiries: bounds the time between two looks at the sockets.
pub const EXPIRY_BATCH_COUNT: usize = 1024;

/// Replies and arms that wait for the journal, in effects.
///
/// A group commit holds a few hundred; beyond this the disk has stopped, and new requests are dropped before
/// anything is promised.
pub const GATED_COUNT_MAX: usize = 65_536;

/// From so many waiting effects on, DISCOVERs are shed: whoever has no address yet can ask again.
pub const DISCOVER_SHED_COUNT: usize = GATED_COUNT_MAX / 4;

/// From so many waiting effects on, REQUESTs of new leases are shed as well; renewals come last.
pub const SELECTING_SHED_COUNT: usize = GATED_COUNT_MAX / 2;

/// Lines per second of what happens per packet; dhcpd writes two or three per exchange.
pub const LINES_PER_SEC_MAX: u32 = 10_000;

/// Lines per second of what somebody should look at; more are one line with their number.
pub const COMPLAINTS_PER_SEC_MAX: u32 = 100;

/// Conflict probes under way at once: each one is a client waiting for its OFFER.
pub const PROBES_COUNT_MAX: usize = 1024;

/// Answers interned for the kernel; the kernel's table has 4096, of which some belong to older generations.
pub const TEMPLATES_COUNT_MAX: usize = 4000;

/// Kinds of requests remembered, to answer them anew after a reload: the options of clients of one make are the same
/// but for their names. One is some 250 bytes.
pub const SHAPES_COUNT_MAX: usize = 16_384;

/// Leases copied per turn into a table that grows for other ranges: about a millisecond.
pub const RELAYOUT_SLICE_COUNT: usize = 1024;

/// Kinds of leases that are answered alike after a reload; one is 100 bytes.
pub const ALIKE_COUNT_MAX: usize = 16_384;

/// Leases armed anew at once after a reload: a fifth of a millisecond, the kernel's part included.
pub const REARM_SLICE_COUNT: usize = 512;

/// As how many of these one counts for each of its answers that is worked out in full.
pub const REARM_FULL_COUNT: usize = 16;

/// Time between two turns of work in slices that the disk has to follow.
pub const SLICE_PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

/// How long an offered address is kept for its client, in seconds (dhcpd: 120).
pub const OFFER_HOLD_SECS: u32 = 120;

/// Most option bytes of a reply when the client names no size: 576 - 28 - 236, the cookie included
/// (RFC 2131 2, dhcpd).
pub const OPTION_ROOM_DEFAULT: usize = 312;

/// Smallest and largest datagram that option 57 is taken to mean, in bytes (dhcpd).
pub const MESSAGE_SIZE_RANGE: (u16, u16) = (576, 1500);

/// Bytes of the IP and UDP headers and of the fixed BOOTP fields, which option 57 includes.
pub const FIXED_LEN: usize = 28 + 236;

/// Longest message that is looked at, in bytes: what fits into one Ethernet frame, and some more for relays.
pub const MESSAGE_LEN_MAX: usize = 4096;

/// Most addresses listed in option 92 of an answer to LEASEQUERY (dhcpd: 40).
pub const ASSOCIATED_COUNT_MAX: usize = 40;

/// Longest text of a client's option 12 that is kept, in bytes.
pub const HOST_NAME_LEN_MAX: usize = 255;

/// How long after its end a lease is taken from its client, in seconds.
///
/// Instants are whole seconds, rounded down, of two clocks: what a client was told may run up to two seconds past
/// what the table says (I1).
pub const EXPIRY_GRACE_SECS: u32 = 2;

/// An INFORM that is not answered for want of authority is logged once in so many (dhcpd: 100).
pub const INFORM_LOG_INTERVAL: u64 = 100;

/// Clients, or places, whose messages are metered, in each of two generations: about 60 bytes each.
pub const METERS_COUNT_MAX: usize = 32_768;

/// How many seconds' worth of messages a client may send at once, and how many messages at least: a computer that boots
/// from the network asks three times, each time with retries.
pub const CLIENT_BURST_SECS: u32 = 10;
/// See [`CLIENT_BURST_SECS`].
pub const CLIENT_BURST_MIN: u32 = 10;

/// New clients in a minute from one place, when the configuration does not say: a quarter of the network's addresses, but
/// at least and at most so many. A class of pupils arrives in a minute; whoever invents clients invents thousands.
pub const NEW_CLIENTS_RANGE: (u32, u32) = (60, 6000);

/// Places remembered because somebody there asked for too much.
pub const SUSPECTS_COUNT_MAX: usize = 1024;

/// Places shown, those with the highest counts.
pub const SUSPECTS_SHOWN_MAX: usize = 20;

/// Seconds between two lines about the same place.
pub const SUSPECT_SILENCE_SECS: u32 = 600;

/// Seconds over which a pool's grants are counted when looking for a herd.
pub const HERD_SECS: usize = 10;

/// Fewer grants than this in [`HERD_SECS`] are no herd.
pub const HERD_COUNT_MIN: u32 = 256;

/// So many times what the pool's renewals explain is a herd.
pub const HERD_EXCESS: u64 = 4;

/// Times are cut by half at most, whatever is configured: a client that renews at a quarter of its lease writes nothing.
pub const JITTER_PERCENT_MAX: u32 = 50;

/// How long after a client has named another server a DISCOVER of the same exchange gets no offer: what arrives together
/// is looked at within this, and a client with one xid for everything asks again later.
pub const ELSEWHERE_TIME: std::time::Duration = std::time::Duration::from_secs(2);

/// So many such exchanges are remembered; each is looked at for every DISCOVER while there are any.
pub const ELSEWHERE_COUNT_MAX: usize = 256;

/// How long an offered address is kept where addresses are short, in seconds: who wants it asks within a second or two,
/// and repeats after four (RFC 2131 4.1).
pub const OFFER_SILENT_SECS: u32 = 10;

/// Messages of one class of urgency that wait to be looked at: a tenth of a second's work, or less.
pub const INTAKE_COUNT_MAX: usize = 1024;

/// So many of them may always be one source's, however many sources there are.
pub const INTAKE_SOURCE_COUNT_MIN: usize = 16;
