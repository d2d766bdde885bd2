//! Every limit of this room, with its unit and its reason.

use std::time::Duration;

/// Bytes before the first option.
pub const HEADER_LEN: usize = 12;
/// The longest message that ISC accepts.
pub const MESSAGE_LEN_MAX: usize = 2048;
/// Longest hardware address on the wire, type byte included (ISC's limit).
pub const CHADDR_LEN_MAX: usize = 21;
/// How long a fresh connection may take for its handshake (ISC's link startup timer).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a starting server waits for its partner before it goes on alone (ISC).
pub const STARTUP_TIMEOUT: Duration = Duration::from_secs(15);
/// Time between a failed or closed connection and the next dial (ISC).
pub const REDIAL_DELAY: Duration = Duration::from_secs(5);
/// How far the clocks may be apart at connect time, seconds (ISC).
pub const CLOCK_SKEW_SECS_MAX: u32 = 60;
/// How far the partner's clock may be behind when it was never heard since the start, seconds.
pub const CLOCK_SLACK_SECS: u32 = 5;
/// How early an "expired" may come for a lease that runs here, seconds (ISC). We answer it when the lease has run out.
pub const EXPIRY_SLACK_SECS: u32 = 65;
/// Connections of one partner whose handshake is not complete; more are closed at once.
pub const HALF_OPEN_MAX: usize = 4;
/// Binding updates sent and not answered, whatever the partner offers: bounds memory.
pub const UPDATES_IN_FLIGHT_MAX: u32 = 4096;
/// Binding updates received that wait for a revocation or for the end of a lease; a partner that sends more than its
/// window allows, and more than this, is disconnected.
pub const UPDATES_HELD_MAX: usize = 8192;
/// Messages that wait for the journal before they may be sent; a partner that makes us owe more is disconnected.
pub const OUTBOX_MAX: usize = 65_536;
/// Addresses whose update the partner refused, kept to offer them again.
pub const REFUSED_MAX: usize = 4096;
/// When refused updates are offered again: often enough that no address leaks, seldom enough that two servers that
/// disagree do not shout.
pub const REFUSED_RETRY: Duration = Duration::from_secs(60);
/// When an update that the partner never answered is sent again. ISC answers within two seconds.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(60);
/// Leases looked at in one turn while an update request of the partner is worked off: a third of a millisecond.
pub const REQUEST_SLICE_LEN: u32 = 8192;
/// Leases looked at in one turn for what the server can do without its partner: as above.
pub const SURVEY_SLICE_LEN: u32 = 8192;
/// Time between two of these turns, so that packets come in between.
pub const SURVEY_PAUSE: Duration = Duration::from_millis(1);
/// Updates that wait for the window while the rest of an update request is not looked at: enough for the next windows,
/// and a fraction of a million entries.
pub const REQUEST_AHEAD: usize = 16_384;
/// Messages in a minute that change states, ask for updates or for addresses: each may be much work or a record. A partner
/// sends a handful when the link comes up, and two in a minute later; one that sends more is disconnected.
pub const RARE_COUNT_MAX: u32 = 64;
/// Refused updates that have a line of their own in the log, in a minute; the others are counted in one line.
pub const REFUSED_LINES_MAX: u32 = 20;
/// The minute of these two.
pub const RATE_WINDOW: Duration = Duration::from_secs(60);
/// Random spread of the pool balance timer, seconds (ISC: 0..4).
pub const BALANCE_JITTER_SECS: u32 = 5;
/// Time between two runs of pool balancing that the partner may ask for; dhcpd asks once a minute at most.
pub const POOL_REQUEST_INTERVAL: Duration = Duration::from_secs(1);
/// Longest vendor option between two of ours: leaves room for the rest of a message.
pub const EXTRA_LEN_MAX: usize = 1400;
/// Bytes of one [`super::Effect::Send`] before the next one is begun.
pub const SEND_LEN_MAX: usize = 64 * 1024;
/// Transitions remembered for `status`.
pub const TIMELINE_LEN: usize = 32;
