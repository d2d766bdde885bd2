//! (request, entry, control, now) -> [`Verdict`]: the whole fast path as one function over a frame and tables.
//!
//! The XDP program calls [`answer_in_place`] with the packet and the maps; the tests call the same function with
//! a buffer and a few vectors. Until everything is decided nothing is written, so whatever passes up is
//! bit-identical (I5). The order of checks is the order of their cost: most frames leave after two loads.

use crate::{
    abi::{BootSecs, Bucket, ClientBucket, ClientPlace, Control, Counter, Entry, Event, Renewal, Source, Template},
    answer::{self, Fixed, Times},
    frame::{Frame, FrameMut},
    question, shield,
    wire::{
        checksum,
        dhcp::{BOOTREQUEST, COOKIE, COOKIE_AT, HTYPE_ETHERNET, OPTIONS_AT, TAIL_AT, Words, word},
        ethernet::{
            ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_QINQ, ETHERTYPE_VLAN, IPV4_LEN, IPV4_PLAIN, PORT_CLIENT,
            PORT_SERVER, PROTOCOL_UDP, TOS_RAW, TTL_RAW, TTL_ROUTED, UDP_LEN,
        },
    },
};

/// What happens to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The frame now holds the reply; it goes out where it came in.
    Transmit,
    /// The frame is untouched; the kernel's stack and the slow path see it.
    Pass(Counter),
    /// The frame is certainly hostile or useless ([`crate::shield`]); or it was half written, which the bounds checked
    /// before exclude, and must not be seen by anybody.
    Drop(Counter),
}

/// The maps, a clock, and where the frame came in.
pub trait Tables {
    /// The control map's value.
    fn control(&self) -> Option<&Control>;
    /// A bucket of the directory.
    fn bucket(&self, index: u32) -> Option<&Bucket>;
    /// A copy of a bucket of the index by hardware address.
    fn client_bucket(&self, index: u32) -> Option<ClientBucket>;
    /// A whole copy of an entry; `None` while the agent writes it, or when there is no such entry.
    fn entry(&self, index: u32) -> Option<Entry>;
    /// Stores what was granted, in one write.
    fn store_renewal(&self, index: u32, renewal: Renewal);
    /// A template.
    fn template(&self, number: u16) -> Option<&Template>;
    /// Tells the agent that a horizon has to move; `false` when the ring is full. `is_late`: it is to look at once.
    fn send_event(&self, event: Event, is_late: bool) -> bool;
    /// Counts.
    fn count(&self, counter: Counter);
    /// The boot clock, ahead by [`crate::clock::CLOCK_AHEAD_NS`] in the kernel.
    fn now(&self) -> BootSecs;
    /// Index of the interface the frame came in through.
    fn interface(&self) -> u32;
    /// A random number.
    fn random(&self) -> u32;
    /// The token bucket at a place of the shield's table.
    fn source(&self, index: u32) -> Option<Source>;
    /// Stores a token bucket, in one write.
    fn store_source(&self, index: u32, source: Source);
}

/// Where a datagram stands in a frame: behind `TAGS` VLAN tags. A constant per number of tags, so that every offset
/// is one for the compiler and the verifier.
pub(crate) struct At<const TAGS: usize>;

impl<const TAGS: usize> At<TAGS> {
    pub(crate) const IP: usize = ETHERNET_LEN + TAGS * TAG_LEN;
    pub(crate) const UDP: usize = Self::IP + IPV4_LEN;
    pub(crate) const DHCP: usize = Self::UDP + UDP_LEN;
}

/// Length of a VLAN tag.
const TAG_LEN: usize = 4;

/// A request as it stands in a frame; words are read little-endian, addresses with the first byte lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Ethernet destination.
    to_mac: u64,
    /// Ethernet source.
    pub(crate) from_mac: u64,
    /// VLAN tags, outer first: TPID and TCI; zero = no tag.
    vlan: [u32; 2],
    /// IP destination: the server identifier the client knows, or everybody (REBINDING).
    to: u32,
    /// The fixed fields.
    pub(crate) words: Words,
    /// Number of option bytes after the cookie.
    pub(crate) options_len: usize,
}

/// An Ethernet address that means everybody.
const BROADCAST_MAC: u64 = 0xffff_ffff_ffff;

/// Reads a client's request behind `TAGS` tags, or says why the frame is none.
///
/// # Errors
///
/// The reason for which the frame is passed up.
#[inline(always)]
fn parse<F: Frame + ?Sized, const TAGS: usize>(frame: &F, vlan: [u32; 2]) -> Result<Asked, Counter> {
    let headers = frame.window::<{ IPV4_LEN + UDP_LEN }>(At::<TAGS>::IP).ok_or(Counter::NotDhcp)?;
    let half = |at: usize| u16::from_be_bytes([headers[at], headers[at + 1]]);
    if headers[9] != PROTOCOL_UDP {
        return Err(Counter::NotDhcp);
    }
    if headers[0] != IPV4_PLAIN {
        return Err(Counter::IpOptions);
    }
    // Everything but "don't fragment": more fragments, or an offset (RFC 791 3.1).
    if half(6) & 0x3fff != 0 {
        return Err(Counter::Fragment);
    }
    if half(IPV4_LEN + 2) != PORT_SERVER {
        return Err(Counter::NotDhcp);
    }
    let (ip_len, udp_len) = (usize::from(half(2)), usize::from(half(IPV4_LEN + 4)));
    let (from, to) = (word(headers, 12), word(headers, 16));
    // The frame may be longer (Ethernet padding); the datagram may not.
    if ip_len != udp_len.wrapping_add(IPV4_LEN)
        || udp_len < UDP_LEN + OPTIONS_AT
        || ip_len.wrapping_add(At::<TAGS>::IP) > frame.len()
    {
        return Err(Counter::Length);
    }
    let message = frame.window::<OPTIONS_AT>(At::<TAGS>::DHCP).ok_or(Counter::Length)?;
    let words = Words::of(message);
    let [op, htype, hlen, _] = words.first.to_le_bytes();
    if op != BOOTREQUEST {
        return Err(Counter::NotRequest);
    }
    if htype != HTYPE_ETHERNET || hlen != 6 {
        return Err(Counter::Hardware);
    }
    if word(message, COOKIE_AT) != u32::from_le_bytes(COOKIE) {
        return Err(Counter::Cookie);
    }
    // RENEWING and REBINDING: the client sends from the address it holds; INIT-REBOOT and DISCOVER: from none, and
    // `ciaddr` is zero as well (RFC 2131 4.3.6, table 5). A relay sends from its own.
    if words.giaddr == 0 && from != words.ciaddr {
        return Err(Counter::OtherSource);
    }
    let ethernet = frame.window::<ETHERNET_LEN>(0).ok_or(Counter::Length)?;
    let to_mac = word(ethernet, 0) as u64 | (word(ethernet, 4) as u64 & 0xffff) << 32;
    let from_mac = (word(ethernet, 6) as u64) | (word(ethernet, 8) as u64 >> 16) << 32;
    let options_len = udp_len.wrapping_sub(UDP_LEN + OPTIONS_AT);
    Ok(Asked { to_mac, from_mac, vlan, to, words, options_len })
}

/// What a template can grant up to a horizon.
///
/// `None` when that is no useful lease: less than half of what the slow path would grant, or not longer than
/// the renewal and rebinding times that the template carries.
#[must_use]
#[inline(always)]
pub fn grant(template: &Template, horizon: BootSecs, now: BootSecs) -> Option<u32> {
    let left = horizon.since(now);
    let granted = if left < template.lease_time { left } else { template.lease_time };
    let is_useful = granted != 0
        && granted >= template.lease_time / 2
        && granted > template.renewal_time
        && granted > template.rebinding_time;
    if is_useful { Some(granted) } else { None }
}

/// Answers the request in `frame` in place, if everything about it is known and promised.
#[inline(always)]
pub fn answer_in_place<F: FrameMut + ?Sized, T: Tables + ?Sized>(frame: &mut F, tables: &T) -> Verdict {
    let Some(outer) = frame.read::<2>(12) else { return Verdict::Pass(Counter::NotIpv4) };
    if outer == ETHERTYPE_IPV4 {
        return answer_behind::<F, T, 0>(frame, tables, [0; 2]);
    }
    if outer != ETHERTYPE_VLAN && outer != ETHERTYPE_QINQ {
        return Verdict::Pass(Counter::NotIpv4);
    }
    let Some([a, b, inner @ ..]) = frame.read::<4>(14) else { return Verdict::Pass(Counter::NotIpv4) };
    let first = u32::from_be_bytes([outer[0], outer[1], a, b]);
    if inner == ETHERTYPE_IPV4 {
        return answer_behind::<F, T, 1>(frame, tables, [first, 0]);
    }
    if inner != ETHERTYPE_VLAN {
        return Verdict::Pass(Counter::NotIpv4);
    }
    let Some([a, b, last @ ..]) = frame.read::<4>(18) else { return Verdict::Pass(Counter::NotIpv4) };
    if last == ETHERTYPE_IPV4 {
        let second = u32::from_be_bytes([inner[0], inner[1], a, b]);
        return answer_behind::<F, T, 2>(frame, tables, [first, second]);
    }
    Verdict::Pass(if last == ETHERTYPE_VLAN { Counter::Tagged } else { Counter::NotIpv4 })
}

#[inline(always)]
fn answer_behind<F: FrameMut + ?Sized, T: Tables + ?Sized, const TAGS: usize>(
    frame: &mut F,
    tables: &T,
    vlan: [u32; 2],
) -> Verdict {
    let request = match parse::<F, TAGS>(frame, vlan) {
        Ok(request) => request,
        Err(reason) => return shield::refuse::<F, T, TAGS>(frame, tables, reason),
    };
    match judge::<F, T, TAGS>(frame, tables, &request) {
        Ok(answer) => transmit::<F, T, TAGS>(frame, tables, &request, &answer),
        Err(Counter::Sampled) => Verdict::Pass(Counter::Sampled),
        Err(reason) => shield::admit::<F, T, TAGS>(frame, tables, &request, reason),
    }
}

/// An answer that may be given.
struct Granted<'t> {
    entry: u32,
    /// The leased address.
    address: u32,
    template: &'t Template,
    now: BootSecs,
    granted: u32,
    /// Whether the horizon has to move before the client's next renewal.
    is_near: bool,
    /// Whether it should have moved before this one: an event was lost, or the client came late.
    is_late: bool,
}

#[inline(always)]
fn judge<'t, F: Frame + ?Sized, T: Tables + ?Sized, const TAGS: usize>(
    frame: &F,
    tables: &'t T,
    request: &Asked,
) -> Result<Granted<'t>, Counter> {
    let control = tables.control().ok_or(Counter::Off)?;
    if control.enabled == 0 {
        return Err(Counter::Off);
    }
    // Reading the clock waits for everything that was asked of memory before; the entry, which is rarely in a cache,
    // is asked for afterwards.
    let now = tables.now();
    let has_address = request.words.ciaddr != 0;
    let index = if has_address {
        let address = request.words.ciaddr.swap_bytes();
        let prefix = address >> 8;
        let bucket = tables.bucket(Bucket::index_of(prefix)).ok_or(Counter::NoEntry)?;
        bucket.base_of(prefix).ok_or(Counter::NoEntry)?.wrapping_add(address & 0xff)
    } else {
        let place = ClientPlace::of_word(request.words.mac(), &control.key, control.client_mask);
        tables.client_bucket(place.bucket).and_then(|bucket| bucket.entry_of(place.tag)).ok_or(Counter::NoAddress)?
    };
    let [low, high, _, _] = request.words.chaddr;
    let fields = [
        low,
        high & 0xffff,
        request.words.ciaddr,
        request.words.giaddr,
        tables.interface(),
        request.vlan[0],
        request.vlan[1],
        has_address as u32,
    ];
    // All that needs no entry comes before it: a lease that is in no cache is waited for with the rest in flight.
    let digest =
        question::digest_words(&fields, frame, At::<TAGS>::DHCP + OPTIONS_AT, request.options_len, &control.key)
            .ok_or(Counter::LongOptions)?;
    let entry = tables.entry(index).ok_or(Counter::NotArmed)?;
    let address = u32::from_le_bytes(entry.address);
    if has_address && address != request.words.ciaddr {
        return Err(Counter::NoEntry);
    }
    if entry.generation != control.generation || control.generation.number() == 0 {
        return Err(Counter::NotArmed);
    }
    if entry.mac() != request.words.mac() {
        return Err(Counter::OtherClient);
    }
    if control.serving.get(usize::from(entry.peer)) != Some(&1) {
        return Err(Counter::NotServing);
    }
    // A renewal goes to the server that granted it; what both partners hear is answered by one (RFC 3074).
    let is_for_us_alone = has_address && request.words.giaddr == 0 && request.to != u32::MAX;
    if entry.peer != 0 && !is_for_us_alone && !is_in_our_buckets(control, &entry) {
        return Err(Counter::OtherBucket);
    }
    // Without `ciaddr` the address asked for is option 50, which the digest covers byte for byte; the slow path knew it.
    let digest = if has_address { digest } else { question::with_address(digest, address, &control.key) };
    let number = if entry.digest[0] == digest {
        entry.template[0]
    } else if entry.digest[1] == digest {
        entry.template[1]
    } else if entry.digest[2] == digest {
        entry.template[2]
    } else {
        return Err(Counter::OtherQuestion);
    };
    if number == 0 {
        return Err(Counter::OtherQuestion);
    }
    let template = tables.template(number).ok_or(Counter::OtherQuestion)?;
    if request.to != u32::from_le_bytes(template.server) && request.to != u32::MAX {
        return Err(Counter::OtherServer);
    }
    if now >= control.dead_man {
        return Err(Counter::DeadMan);
    }
    let granted = grant(template, entry.horizon, now).ok_or(Counter::Horizon)?;
    if control.shadow != 0 && tables.random() < control.shadow {
        return Err(Counter::Sampled);
    }
    let (left, quarter) = (entry.horizon.since(now), template.lease_time / 4);
    let is_near = left < template.lease_time.wrapping_add(quarter);
    let is_late = left < template.lease_time.wrapping_sub(quarter);
    Ok(Granted { entry: index, address, template, now, granted, is_near, is_late })
}

/// Whether this server answers what the client of this entry sends to both partners.
#[inline(always)]
fn is_in_our_buckets(control: &Control, entry: &Entry) -> bool {
    let byte = control.buckets.get(usize::from(entry.peer)).and_then(|set| set.get(usize::from(entry.bucket >> 3)));
    byte.is_some_and(|byte| byte & (1 << (entry.bucket & 7)) != 0)
}

#[inline(always)]
fn transmit<F: FrameMut + ?Sized, T: Tables + ?Sized, const TAGS: usize>(
    frame: &mut F,
    tables: &T,
    request: &Asked,
    answer: &Granted<'_>,
) -> Verdict {
    let tail_len = answer.template.tail_len as usize;
    let message_len = TAIL_AT.wrapping_add(tail_len);
    if frame.resize(At::<TAGS>::DHCP.wrapping_add(message_len)).is_none() {
        return Verdict::Pass(Counter::Resize);
    }
    let renewal = Renewal { at: answer.now, until: BootSecs::new(answer.now.secs().wrapping_add(answer.granted)) };
    let is_promise = answer.template.is_offer == 0;
    if is_promise {
        // Known before it is said: from here on the agent finds the promise (design: revocation).
        tables.store_renewal(answer.entry, renewal);
    }
    if write_reply::<F, TAGS>(frame, request, answer, message_len).is_none() {
        return Verdict::Drop(Counter::Resize);
    }
    if answer.is_near && is_promise {
        tables.count(Counter::HorizonAsked);
        if !tables.send_event(Event { address: answer.address.to_le_bytes(), renewal }, answer.is_late) {
            tables.count(Counter::EventLost);
        }
    }
    Verdict::Transmit
}

/// Where a reply goes below DHCP (dhcpd: destinations; RFC 2131 4.1), and what its headers look like.
struct Envelope {
    to_mac: u64,
    from_mac: u64,
    to: u32,
    port: u16,
    tos: u8,
    ttl: u8,
    dont_fragment: u8,
}

/// What goes through the IP stack on the slow path looks as Linux sends it; what has to be broadcast is a raw
/// frame as dhcpd makes it.
#[inline(always)]
fn envelope(request: &Asked, answer: &Granted<'_>) -> Envelope {
    // A request to a group address has no sender address of ours in it.
    let [s0, s1, s2, s3, s4, s5] = answer.template.source_mac;
    let own_mac = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, 0, 0]);
    let from_mac = if request.to_mac & 1 != 0 { own_mac } else { request.to_mac };
    let routed = Envelope {
        to_mac: request.from_mac,
        from_mac,
        to: request.words.ciaddr,
        port: PORT_CLIENT,
        tos: 0,
        ttl: TTL_ROUTED,
        dont_fragment: 0x40,
    };
    if request.words.giaddr != 0 {
        return Envelope { to: request.words.giaddr, port: PORT_SERVER, ..routed };
    }
    let raw = Envelope { tos: TOS_RAW, ttl: TTL_RAW, dont_fragment: 0, ..routed };
    // dhcpd: the broadcast flag of a client that has an address counts on its own network only.
    let is_routed = answer.template.is_routed != 0 && request.words.ciaddr != 0;
    if request.words.is_broadcast() && !is_routed {
        return Envelope { to_mac: BROADCAST_MAC, to: u32::MAX, ..raw };
    }
    if request.words.ciaddr == 0 {
        // A raw frame to the hardware address that the client names (RFC 2131 4.1).
        return Envelope { to_mac: request.words.mac(), to: answer.address, ..raw };
    }
    routed
}

/// Writes Ethernet, IPv4, UDP and the message.
#[inline(always)]
fn write_reply<F: FrameMut + ?Sized, const TAGS: usize>(
    frame: &mut F,
    request: &Asked,
    answer: &Granted<'_>,
    message_len: usize,
) -> Option<()> {
    let envelope = envelope(request, answer);
    let server = u32::from_le_bytes(answer.template.server);
    let fixed = Fixed {
        flags: request.words.flags(),
        ciaddr: request.words.ciaddr.to_le_bytes(),
        yiaddr: answer.address.to_le_bytes(),
        siaddr: answer.template.siaddr,
    };
    let times = Times {
        lease: answer.granted,
        renewal: answer.template.renewal_time,
        rebinding: answer.template.rebinding_time,
    };
    let udp_len = (UDP_LEN as u16).wrapping_add(message_len as u16);
    let ip_len = (IPV4_LEN as u16).wrapping_add(udp_len);

    let ethernet = frame.window_mut::<12>(0)?;
    ethernet[..8].copy_from_slice(&(envelope.to_mac | envelope.from_mac << 48).to_le_bytes());
    ethernet[8..].copy_from_slice(&((envelope.from_mac >> 16) as u32).to_le_bytes());

    // Sums of little-endian words: nothing is swapped but the result of the compiler's constants.
    let addresses = u64::from(server).wrapping_add(u64::from(envelope.to));
    let first = u32::from(IPV4_PLAIN) | u32::from(envelope.tos) << 8 | u32::from(ip_len.swap_bytes()) << 16;
    let second = u32::from(envelope.dont_fragment) << 16;
    let third = u32::from(envelope.ttl) | u32::from(PROTOCOL_UDP) << 8;
    let ip_sum =
        addresses.wrapping_add(u64::from(first)).wrapping_add(u64::from(second)).wrapping_add(u64::from(third));
    let third = third | u32::from(checksum::fold(ip_sum)) << 16;

    // The sum of the message by parts: what is copied, what the template carries, the times.
    let numbers = u64::from(PROTOCOL_UDP)
        .wrapping_add(u64::from(udp_len).wrapping_mul(2))
        .wrapping_add(u64::from(PORT_SERVER))
        .wrapping_add(u64::from(envelope.port))
        .wrapping_add(u64::from(answer.template.tail_sum));
    let udp_sum = addresses
        .wrapping_add(checksum::turn(numbers))
        .wrapping_add(answer::sum_fixed(&request.words, &fixed))
        .wrapping_add(times.sum());
    let ports = u32::from(PORT_SERVER.swap_bytes()) | u32::from(envelope.port.swap_bytes()) << 16;
    let last = u32::from(udp_len.swap_bytes()) | u32::from(checksum::fold_udp(udp_sum)) << 16;
    let headers = frame.window_mut::<{ IPV4_LEN + UDP_LEN }>(At::<TAGS>::IP)?;
    for (place, word) in
        headers.as_chunks_mut::<4>().0.iter_mut().zip([first, second, third, server, envelope.to, ports, last])
    {
        *place = word.to_le_bytes();
    }

    let tail_len = message_len.wrapping_sub(TAIL_AT);
    answer::write(frame, At::<TAGS>::DHCP, &fixed, &answer.template.tail, tail_len, &times)
}
