//! The shield: what is certainly hostile or useless never reaches userspace.
//!
//! Three things, each with a counter of its own in both modes; everything else, and every doubt, passes (I5):
//!
//! ```text
//!   malformed   to port 67, whole, and no BOOTP message: shorter than 236 bytes, an `op` that does not exist, or a
//!               hardware address longer than its field. The slow path throws the same away.
//!   spoof       a server's message (BOOTREPLY from port 67) that came in through an access port, where no server
//!               and no relay lives. Only interfaces that the operator named are access ports.
//!   flood       DISCOVERs of one source beyond its token bucket. The source is the Ethernet address that sent the
//!               frame, since many tools forge `chaddr` alone; behind a relay it is `chaddr`.
//! ```
//!
//! Only what would be passed up anyway is looked at: what the fast path answers costs no token. A source whose type
//! of message does not stand among its first [`OPTIONS_WALKED_MAX`] options is no flood.

use crate::{
    abi::{ClientPlace, Control, Counter, SOURCE_COUNT, ShieldMode, Source},
    decide::{Asked, At, Tables, Verdict},
    frame::Frame,
    wire::{
        dhcp::{BOOTREPLY, BOOTREQUEST, HW_ADDR_LEN_MAX, MESSAGE_LEN_FIXED, MessageType, OPTIONS_AT},
        ethernet::{IPV4_LEN, PORT_CLIENT, PORT_SERVER, UDP_LEN},
        option::code,
    },
};

/// Options that are looked at for the type of a message; every client we know writes it first.
pub const OPTIONS_WALKED_MAX: usize = 8;

/// What becomes of a frame that is no request of an Ethernet client, for the reason that [`crate::decide`] found.
#[inline(always)]
pub(crate) fn refuse<F: Frame + ?Sized, T: Tables + ?Sized, const TAGS: usize>(
    frame: &F,
    tables: &T,
    reason: Counter,
) -> Verdict {
    let is_to_client = match reason {
        Counter::NotDhcp => {
            let [from_high, from_low] = PORT_SERVER.to_be_bytes();
            let [to_high, to_low] = PORT_CLIENT.to_be_bytes();
            if frame.read::<4>(At::<TAGS>::UDP) != Some([from_high, from_low, to_high, to_low]) {
                return Verdict::Pass(reason);
            }
            true
        }
        Counter::Length | Counter::NotRequest | Counter::Hardware => false,
        _ => return Verdict::Pass(reason),
    };
    let Some(control) = tables.control() else { return Verdict::Pass(reason) };
    if control.shield.mode() == ShieldMode::Off {
        return Verdict::Pass(reason);
    }
    let Some([op, _, hlen, _]) = frame.read::<4>(At::<TAGS>::DHCP) else { return Verdict::Pass(reason) };
    if op == BOOTREPLY {
        let is_from_server = frame.read::<2>(At::<TAGS>::UDP) == Some(PORT_SERVER.to_be_bytes());
        if is_from_server && is_access_port(control, tables.interface()) {
            return sentence(control, tables, reason, Counter::SpoofSeen, Counter::SpoofDropped);
        }
        return Verdict::Pass(reason);
    }
    if is_to_client {
        return Verdict::Pass(reason);
    }
    let is_malformed = match reason {
        Counter::Length => is_cut_short::<F, TAGS>(frame),
        Counter::NotRequest => op != BOOTREQUEST,
        _ => usize::from(hlen) > HW_ADDR_LEN_MAX,
    };
    if is_malformed {
        return sentence(control, tables, reason, Counter::MalformedSeen, Counter::MalformedDropped);
    }
    Verdict::Pass(reason)
}

/// Whether a whole datagram, whose lengths agree, has no room for a BOOTP message.
#[inline(always)]
fn is_cut_short<F: Frame + ?Sized, const TAGS: usize>(frame: &F) -> bool {
    let word = |at: usize| frame.read::<2>(at).map(|bytes| usize::from(u16::from_be_bytes(bytes)));
    let (Some(ip_len), Some(udp_len)) = (word(At::<TAGS>::IP + 2), word(At::<TAGS>::UDP + 4)) else { return false };
    ip_len == udp_len.wrapping_add(IPV4_LEN)
        && ip_len.wrapping_add(At::<TAGS>::IP) <= frame.len()
        && (UDP_LEN..UDP_LEN + MESSAGE_LEN_FIXED).contains(&udp_len)
}

#[inline(always)]
fn is_access_port(control: &Control, interface: u32) -> bool {
    let mut is_listed = false;
    let mut place = 0;
    while place < control.shield.access_ports.len() {
        is_listed |= interface != 0 && control.shield.access_ports[place] == interface;
        place += 1;
    }
    is_listed
}

/// What becomes of a request that the fast path does not answer, for the given reason.
#[inline(always)]
pub(crate) fn admit<F: Frame + ?Sized, T: Tables + ?Sized, const TAGS: usize>(
    frame: &F,
    tables: &T,
    request: &Asked,
    reason: Counter,
) -> Verdict {
    if request.words.ciaddr != 0 {
        return Verdict::Pass(reason);
    }
    let Some(control) = tables.control() else { return Verdict::Pass(reason) };
    if control.shield.mode() == ShieldMode::Off || !is_discover::<F, TAGS>(frame, request.options_len) {
        return Verdict::Pass(reason);
    }
    let source = if request.words.giaddr == 0 { request.from_mac } else { request.words.mac() };
    let place = ClientPlace::of_word(source, &control.key, SOURCE_COUNT - 1);
    let Some(before) = tables.source(place.bucket) else { return Verdict::Pass(reason) };
    let shield = &control.shield;
    let (is_within, after) =
        draw(before, place.tag as u16, tables.now().secs(), shield.discover_rate, shield.discover_burst);
    tables.store_source(place.bucket, after);
    if is_within {
        return Verdict::Pass(reason);
    }
    sentence(control, tables, reason, Counter::FloodSeen, Counter::FloodDropped)
}

/// Takes a token out of a source's bucket; `false` when it is empty. Tokens come back by the second.
#[must_use]
#[inline(always)]
pub fn draw(bucket: Source, tag: u16, now: u32, rate: u16, burst: u16) -> (bool, Source) {
    let at = crate::abi::BootSecs::new(now);
    if bucket.tag != tag || bucket.at.secs() == 0 {
        return (burst != 0, Source { at, tokens: burst.saturating_sub(1), tag });
    }
    let earned = (at.since(bucket.at) as u64).wrapping_mul(rate as u64).wrapping_add(bucket.tokens as u64);
    let tokens = if earned < burst as u64 { earned as u16 } else { burst };
    (tokens != 0, Source { at, tokens: tokens.saturating_sub(1), tag })
}

/// Whether the message is a DISCOVER: a short walk, over what the fast path has not understood.
#[inline(always)]
fn is_discover<F: Frame + ?Sized, const TAGS: usize>(frame: &F, options_len: usize) -> bool {
    let mut at = 0_usize;
    let mut walked = 0;
    while walked < OPTIONS_WALKED_MAX {
        if at >= options_len || at > crate::question::OPTIONS_LEN_MAX {
            return false;
        }
        let Some([kind, len, value]) = frame.read::<3>(At::<TAGS>::DHCP + OPTIONS_AT + at) else { return false };
        match kind {
            code::MESSAGE_TYPE => return len == 1 && value == MessageType::Discover as u8,
            code::END => return false,
            code::PAD => at = at.wrapping_add(1),
            _ => at = at.wrapping_add(2).wrapping_add(len as usize),
        }
        walked += 1;
    }
    false
}

/// Counts what was found, and drops it if that is the operator's will.
#[inline(always)]
fn sentence<T: Tables + ?Sized>(
    control: &Control,
    tables: &T,
    reason: Counter,
    seen: Counter,
    dropped: Counter,
) -> Verdict {
    match control.shield.mode() {
        ShieldMode::Off => Verdict::Pass(reason),
        ShieldMode::Monitor => {
            tables.count(seen);
            Verdict::Pass(reason)
        }
        ShieldMode::Enforce => Verdict::Drop(dropped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::BootSecs;

    #[test]
    fn a_source_spends_its_burst_and_earns_its_rate() {
        let (rate, burst) = (2, 5);
        let mut bucket = Source::default();
        let mut passed = |now| {
            let (is_within, after) = draw(bucket, 7, now, rate, burst);
            bucket = after;
            is_within
        };
        assert_eq!((0..9).filter(|_| passed(100)).count(), 5, "the burst");
        assert_eq!((0..9).filter(|_| passed(101)).count(), 2, "a second's worth");
        assert_eq!((0..9).filter(|_| passed(1000)).count(), 5, "never more than the burst");
        // A clock that seems to stand still or to go back earns nothing.
        assert!(!passed(999));
    }

    #[test]
    fn a_place_in_the_hash_is_taken_over_with_a_full_bucket() {
        let empty = Source { at: BootSecs::new(100), tokens: 0, tag: 1 };
        assert!(!draw(empty, 1, 100, 1, 5).0);
        assert_eq!(draw(empty, 2, 100, 1, 5), (true, Source { at: BootSecs::new(100), tokens: 4, tag: 2 }));
        assert!(!draw(empty, 2, 100, 1, 0).0, "a burst of zero admits nobody");
    }
}
