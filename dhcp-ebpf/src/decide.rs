//! (request, entry, control, now) -> [`Verdict`]: the whole fast path as one function over a frame and tables.
//!
//! The XDP program calls [`answer_in_place`] with the packet and the maps; the tests call the same function with
//! a buffer and a few vectors. Until everything is decided nothing is written, so whatever passes up is
//! bit-identical (I5). The order of checks is the order of their cost: most frames leave after two loads.

use crate::{
    abi::{BootSecs, Bucket, ClientBucket, ClientPlace, Control, Counter, Entry, Event, Renewal, Source, Template},
    answer::{self, Fixed, Times},
    frame::{Frame, FrameMut},
    question::{self, Question},
    shield,
    wire::{
        checksum,
        dhcp::{BOOTREQUEST, COOKIE, COOKIE_AT, HTYPE_ETHERNET, Header, OPTIONS_AT, TAIL_AT},
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
    /// Tells the agent that a horizon has to move; `false` when the ring is full.
    fn send_event(&self, event: Event) -> bool;
    /// Counts.
    fn count(&self, counter: Counter);
    /// The boot clock.
    fn now(&self) -> BootSecs;
    /// Index of the interface the frame came in through.
    fn interface(&self) -> u32;
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

/// A request as it stands in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Ethernet addresses: destination, source.
    pub(crate) ethernet: [u8; 12],
    /// VLAN tags, outer first: TPID and TCI; zero = no tag.
    vlan: [u32; 2],
    /// IP destination: the server identifier the client knows, or everybody (REBINDING).
    to: [u8; 4],
    /// The fixed fields.
    pub(crate) header: Header,
    /// Number of option bytes after the cookie.
    pub(crate) options_len: usize,
}

/// Reads a client's request behind `TAGS` tags, or says why the frame is none.
///
/// # Errors
///
/// The reason for which the frame is passed up.
#[inline(always)]
fn parse<F: Frame + ?Sized, const TAGS: usize>(frame: &F, vlan: [u32; 2]) -> Result<Asked, Counter> {
    let ports = frame.read::<4>(At::<TAGS>::UDP).ok_or(Counter::NotDhcp)?;
    if frame.read::<1>(At::<TAGS>::IP + 9) != Some([PROTOCOL_UDP]) {
        return Err(Counter::NotDhcp);
    }
    if frame.read::<1>(At::<TAGS>::IP) != Some([IPV4_PLAIN]) {
        return Err(Counter::IpOptions);
    }
    // Everything but "don't fragment": more fragments, or an offset (RFC 791 3.1).
    let [fragment_high, fragment_low] = frame.read::<2>(At::<TAGS>::IP + 6).ok_or(Counter::Length)?;
    if fragment_high & 0x3f != 0 || fragment_low != 0 {
        return Err(Counter::Fragment);
    }
    if u16::from_be_bytes([ports[2], ports[3]]) != PORT_SERVER {
        return Err(Counter::NotDhcp);
    }
    let ip_len = usize::from(u16::from_be_bytes(frame.read::<2>(At::<TAGS>::IP + 2).ok_or(Counter::Length)?));
    let udp_len = usize::from(u16::from_be_bytes(frame.read::<2>(At::<TAGS>::UDP + 4).ok_or(Counter::Length)?));
    // The frame may be longer (Ethernet padding); the datagram may not.
    if ip_len != udp_len.wrapping_add(IPV4_LEN)
        || udp_len < UDP_LEN + OPTIONS_AT
        || ip_len.wrapping_add(At::<TAGS>::IP) > frame.len()
    {
        return Err(Counter::Length);
    }
    let header = Header::parse(frame, At::<TAGS>::DHCP).ok_or(Counter::Length)?;
    if header.op != BOOTREQUEST {
        return Err(Counter::NotRequest);
    }
    if header.htype != HTYPE_ETHERNET || header.hlen != 6 {
        return Err(Counter::Hardware);
    }
    if frame.read::<4>(At::<TAGS>::DHCP + COOKIE_AT) != Some(COOKIE) {
        return Err(Counter::Cookie);
    }
    // RENEWING and REBINDING: the client sends from the address it holds; INIT-REBOOT and DISCOVER: from none, and
    // `ciaddr` is zero as well (RFC 2131 4.3.6, table 5). A relay sends from its own.
    if header.giaddr == [0; 4] && frame.read::<4>(At::<TAGS>::IP + 12) != Some(header.ciaddr) {
        return Err(Counter::OtherSource);
    }
    let to = frame.read::<4>(At::<TAGS>::IP + 16).ok_or(Counter::Length)?;
    let ethernet = frame.read::<12>(0).ok_or(Counter::Length)?;
    let options_len = udp_len.wrapping_sub(UDP_LEN + OPTIONS_AT);
    Ok(Asked { ethernet, vlan, to, header, options_len })
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
        Err(reason) => shield::admit::<F, T, TAGS>(frame, tables, &request, reason),
    }
}

/// An answer that may be given.
struct Granted<'t> {
    entry: u32,
    /// The leased address.
    address: [u8; 4],
    template: &'t Template,
    now: BootSecs,
    granted: u32,
    /// Whether the horizon has to move before the client's next renewal.
    is_near: bool,
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
    let [m0, m1, m2, m3, m4, m5, ..] = request.header.chaddr;
    let chaddr = [m0, m1, m2, m3, m4, m5];
    let [a, b, c, d] = request.header.ciaddr;
    let has_address = request.header.ciaddr != [0; 4];
    let index = if has_address {
        let prefix = u32::from_be_bytes([0, a, b, c]);
        let bucket = tables.bucket(Bucket::index_of(prefix)).ok_or(Counter::NoEntry)?;
        bucket.base_of(prefix).ok_or(Counter::NoEntry)?.wrapping_add(u32::from(d))
    } else {
        let place = ClientPlace::new(chaddr, &control.key, control.client_mask);
        tables.client_bucket(place.bucket).and_then(|bucket| bucket.entry_of(place.tag)).ok_or(Counter::NoAddress)?
    };
    let entry = tables.entry(index).ok_or(Counter::NotArmed)?;
    if has_address && entry.address != request.header.ciaddr {
        return Err(Counter::NoEntry);
    }
    if entry.generation != control.generation || control.generation.number() == 0 {
        return Err(Counter::NotArmed);
    }
    if entry.chaddr != chaddr {
        return Err(Counter::OtherClient);
    }
    if control.serving.get(usize::from(entry.peer)) != Some(&1) {
        return Err(Counter::NotServing);
    }
    // A renewal goes to the server that granted it; what both partners hear is answered by one (RFC 3074).
    let is_for_us_alone = has_address && request.header.giaddr == [0; 4] && request.to != [255; 4];
    if entry.peer != 0 && !is_for_us_alone && !is_in_our_buckets(control, &entry) {
        return Err(Counter::OtherBucket);
    }
    let question = Question {
        chaddr,
        // Without `ciaddr` the address asked for is option 50, which the digest covers byte for byte.
        address: entry.address,
        has_ciaddr: has_address,
        giaddr: request.header.giaddr,
        interface: tables.interface(),
        vlan: request.vlan,
    };
    let digest = question::digest(&question, frame, At::<TAGS>::DHCP + OPTIONS_AT, request.options_len, &control.key)
        .ok_or(Counter::LongOptions)?;
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
    if request.to != template.server && request.to != [255; 4] {
        return Err(Counter::OtherServer);
    }
    let now = tables.now();
    if now >= control.dead_man {
        return Err(Counter::DeadMan);
    }
    let granted = grant(template, entry.horizon, now).ok_or(Counter::Horizon)?;
    let address = entry.address;
    let is_near = entry.horizon.since(now) < template.lease_time.wrapping_add(template.lease_time / 4);
    Ok(Granted { entry: index, address, template, now, granted, is_near })
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
        if !tables.send_event(Event { address: answer.address, renewal }) {
            tables.count(Counter::EventLost);
        }
    }
    Verdict::Transmit
}

/// Where a reply goes below DHCP (dhcpd: destinations; RFC 2131 4.1), and what its headers look like.
struct Envelope {
    to_mac: [u8; 6],
    from_mac: [u8; 6],
    to: [u8; 4],
    port: u16,
    tos: u8,
    ttl: u8,
    dont_fragment: u8,
}

/// What goes through the IP stack on the slow path looks as Linux sends it; what has to be broadcast is a raw
/// frame as dhcpd makes it.
#[inline(always)]
fn envelope(request: &Asked, answer: &Granted<'_>) -> Envelope {
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = request.ethernet;
    // A request to a group address has no sender address of ours in it.
    let from_mac = if d0 & 1 != 0 { answer.template.source_mac } else { [d0, d1, d2, d3, d4, d5] };
    let routed = Envelope {
        to_mac: [s0, s1, s2, s3, s4, s5],
        from_mac,
        to: request.header.ciaddr,
        port: PORT_CLIENT,
        tos: 0,
        ttl: TTL_ROUTED,
        dont_fragment: 0x40,
    };
    if request.header.giaddr != [0; 4] {
        return Envelope { to: request.header.giaddr, port: PORT_SERVER, ..routed };
    }
    // dhcpd: the broadcast flag of a client that has an address counts on its own network only.
    let is_routed = answer.template.is_routed != 0 && request.header.ciaddr != [0; 4];
    if request.header.is_broadcast() && !is_routed {
        return Envelope { to_mac: [255; 6], to: [255; 4], tos: TOS_RAW, ttl: TTL_RAW, dont_fragment: 0, ..routed };
    }
    if request.header.ciaddr == [0; 4] {
        // A raw frame to the hardware address that the client names (RFC 2131 4.1).
        let [m0, m1, m2, m3, m4, m5, ..] = request.header.chaddr;
        return Envelope {
            to_mac: [m0, m1, m2, m3, m4, m5],
            to: answer.address,
            tos: TOS_RAW,
            ttl: TTL_RAW,
            dont_fragment: 0,
            ..routed
        };
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
    let server = answer.template.server;
    let fixed = Fixed {
        flags: request.header.flags,
        ciaddr: request.header.ciaddr,
        yiaddr: answer.address,
        siaddr: answer.template.siaddr,
    };
    let times = Times {
        lease: answer.granted,
        renewal: answer.template.renewal_time,
        rebinding: answer.template.rebinding_time,
    };
    let udp_len = (UDP_LEN as u16).wrapping_add(message_len as u16);
    let ip_len = (IPV4_LEN as u16).wrapping_add(udp_len);
    let [len_high, len_low] = ip_len.to_be_bytes();
    let [udp_high, udp_low] = udp_len.to_be_bytes();

    let [d0, d1, d2, d3, d4, d5] = envelope.to_mac;
    let [s0, s1, s2, s3, s4, s5] = envelope.from_mac;
    frame.write(0, [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5])?;

    let addresses = checksum::sum_u32(server).wrapping_add(checksum::sum_u32(envelope.to));
    let ip_sum = addresses
        .wrapping_add(u64::from(u16::from_be_bytes([IPV4_PLAIN, envelope.tos])))
        .wrapping_add(u64::from(ip_len))
        .wrapping_add(u64::from(u16::from_be_bytes([envelope.dont_fragment, 0])))
        .wrapping_add(u64::from(u16::from_be_bytes([envelope.ttl, PROTOCOL_UDP])));
    let [check_high, check_low] = checksum::fold(ip_sum).to_be_bytes();
    frame.write(
        At::<TAGS>::IP,
        [
            IPV4_PLAIN,
            envelope.tos,
            len_high,
            len_low,
            0,
            0,
            envelope.dont_fragment,
            0,
            envelope.ttl,
            PROTOCOL_UDP,
            check_high,
            check_low,
        ],
    )?;
    frame.write(At::<TAGS>::IP + 12, server)?;
    frame.write(At::<TAGS>::IP + 16, envelope.to)?;

    // The sum of the message by parts: what is copied, what the template carries, the times.
    let udp_sum = addresses
        .wrapping_add(u64::from(PROTOCOL_UDP))
        .wrapping_add(u64::from(udp_len).wrapping_mul(2))
        .wrapping_add(u64::from(PORT_SERVER))
        .wrapping_add(u64::from(envelope.port))
        .wrapping_add(answer::sum_fixed(&request.header, &fixed))
        .wrapping_add(u64::from(answer.template.tail_sum))
        .wrapping_add(times.sum());
    let [check_high, check_low] = checksum::fold_udp(udp_sum).to_be_bytes();
    let [from_high, from_low] = PORT_SERVER.to_be_bytes();
    let [to_high, to_low] = envelope.port.to_be_bytes();
    frame.write(At::<TAGS>::UDP, [from_high, from_low, to_high, to_low, udp_high, udp_low, check_high, check_low])?;

    let tail_len = message_len.wrapping_sub(TAIL_AT);
    answer::write(frame, At::<TAGS>::DHCP, &fixed, &answer.template.tail, tail_len, &times)
}
