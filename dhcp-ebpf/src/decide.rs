//! (request, entry, control, now) -> [`Verdict`]: the whole fast path as one function over a frame and tables.
//!
//! The XDP program calls [`answer_in_place`] with the packet and the maps; the tests call the same function with
//! a buffer and a few vectors. Until everything is decided nothing is written, so whatever passes up is
//! bit-identical (I5). The order of checks is the order of their cost: most frames leave after two loads.

use crate::{
    abi::{BootSecs, Bucket, Control, Counter, Entry, Event, Renewal, Template},
    answer::{self, Fixed, Times},
    frame::{Frame, FrameMut},
    question::{self, Question},
    wire::{
        checksum,
        dhcp::{BOOTREQUEST, COOKIE, COOKIE_AT, HTYPE_ETHERNET, Header, OPTIONS_AT, TAIL_AT},
        ethernet::{
            ETHERNET_LEN, ETHERTYPE_IPV4, IPV4_LEN, IPV4_PLAIN, PORT_CLIENT, PORT_SERVER, PROTOCOL_UDP, TTL_ROUTED,
            UDP_LEN,
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
    /// The frame was half written, which the bounds checked before exclude; it must not be seen by anybody.
    Drop(Counter),
}

/// The maps, a clock, and where the frame came in.
pub trait Tables {
    /// The control map's value.
    fn control(&self) -> Option<&Control>;
    /// A bucket of the directory.
    fn bucket(&self, index: u32) -> Option<&Bucket>;
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
}

const IP_AT: usize = ETHERNET_LEN;
const UDP_AT: usize = IP_AT + IPV4_LEN;
const DHCP_AT: usize = UDP_AT + UDP_LEN;

/// A renewal as it stands in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renew {
    /// Ethernet addresses: destination, source.
    ethernet: [u8; 12],
    /// IP destination: the server identifier the client knows.
    server: [u8; 4],
    /// The fixed fields.
    header: Header,
    /// Number of option bytes after the cookie.
    options_len: usize,
}

/// Reads a unicast renewal, or says why the frame is none.
///
/// # Errors
///
/// The reason for which the frame is passed up.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Renew, Counter> {
    if frame.read::<2>(12) != Some(ETHERTYPE_IPV4) {
        return Err(Counter::NotIpv4);
    }
    let ports = frame.read::<4>(UDP_AT).ok_or(Counter::NotDhcp)?;
    if frame.read::<1>(IP_AT + 9) != Some([PROTOCOL_UDP]) {
        return Err(Counter::NotDhcp);
    }
    if frame.read::<1>(IP_AT) != Some([IPV4_PLAIN]) {
        return Err(Counter::IpOptions);
    }
    // Everything but "don't fragment": more fragments, or an offset (RFC 791 3.1).
    let [fragment_high, fragment_low] = frame.read::<2>(IP_AT + 6).ok_or(Counter::Length)?;
    if fragment_high & 0x3f != 0 || fragment_low != 0 {
        return Err(Counter::Fragment);
    }
    if u16::from_be_bytes([ports[2], ports[3]]) != PORT_SERVER {
        return Err(Counter::NotDhcp);
    }
    let ip_len = usize::from(u16::from_be_bytes(frame.read::<2>(IP_AT + 2).ok_or(Counter::Length)?));
    let udp_len = usize::from(u16::from_be_bytes(frame.read::<2>(UDP_AT + 4).ok_or(Counter::Length)?));
    // The frame may be longer (Ethernet padding); the datagram may not.
    if ip_len != udp_len.wrapping_add(IPV4_LEN)
        || udp_len < UDP_LEN + OPTIONS_AT
        || ip_len.wrapping_add(IP_AT) > frame.len()
    {
        return Err(Counter::Length);
    }
    let header = Header::parse(frame, DHCP_AT).ok_or(Counter::Length)?;
    if header.op != BOOTREQUEST {
        return Err(Counter::NotRequest);
    }
    if header.htype != HTYPE_ETHERNET || header.hlen != 6 {
        return Err(Counter::Hardware);
    }
    if frame.read::<4>(DHCP_AT + COOKIE_AT) != Some(COOKIE) {
        return Err(Counter::Cookie);
    }
    if header.giaddr != [0; 4] {
        return Err(Counter::Relayed);
    }
    if header.ciaddr == [0; 4] {
        return Err(Counter::NoAddress);
    }
    let server = frame.read::<4>(IP_AT + 16).ok_or(Counter::Length)?;
    if header.is_broadcast() || server == [255; 4] {
        return Err(Counter::Broadcast);
    }
    // RENEWING: the client sends from the address it holds (RFC 2131 4.3.6, table 5).
    if frame.read::<4>(IP_AT + 12) != Some(header.ciaddr) {
        return Err(Counter::OtherServer);
    }
    let ethernet = frame.read::<12>(0).ok_or(Counter::Length)?;
    let options_len = udp_len.wrapping_sub(UDP_LEN + OPTIONS_AT);
    Ok(Renew { ethernet, server, header, options_len })
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

/// Answers the renewal in `frame` in place, if everything about it is known and promised.
#[inline(always)]
pub fn answer_in_place<F: FrameMut + ?Sized, T: Tables + ?Sized>(frame: &mut F, tables: &T) -> Verdict {
    let request = match parse(frame) {
        Ok(request) => request,
        Err(reason) => return Verdict::Pass(reason),
    };
    match judge(frame, tables, &request) {
        Ok(answer) => transmit(frame, tables, &request, &answer),
        Err(reason) => Verdict::Pass(reason),
    }
}

/// An answer that may be given.
struct Granted<'t> {
    entry: u32,
    template: &'t Template,
    now: BootSecs,
    granted: u32,
    /// Whether the horizon has to move before the client's next renewal.
    is_near: bool,
}

#[inline(always)]
fn judge<'t, F: Frame + ?Sized, T: Tables + ?Sized>(
    frame: &F,
    tables: &'t T,
    request: &Renew,
) -> Result<Granted<'t>, Counter> {
    let control = tables.control().ok_or(Counter::Off)?;
    if control.enabled == 0 {
        return Err(Counter::Off);
    }
    let [a, b, c, d] = request.header.ciaddr;
    let prefix = u32::from_be_bytes([0, a, b, c]);
    let bucket = tables.bucket(Bucket::index_of(prefix)).ok_or(Counter::NoEntry)?;
    let base = bucket.base_of(prefix).ok_or(Counter::NoEntry)?;
    let index = base.wrapping_add(u32::from(d));
    let entry = tables.entry(index).ok_or(Counter::NotArmed)?;
    if entry.address != request.header.ciaddr {
        return Err(Counter::NoEntry);
    }
    if entry.generation != control.generation || control.generation.number() == 0 {
        return Err(Counter::NotArmed);
    }
    let [m0, m1, m2, m3, m4, m5, ..] = request.header.chaddr;
    let chaddr = [m0, m1, m2, m3, m4, m5];
    if entry.chaddr != chaddr {
        return Err(Counter::OtherClient);
    }
    if control.serving.get(usize::from(entry.peer)) != Some(&1) {
        return Err(Counter::NotServing);
    }
    let question = Question {
        chaddr,
        address: request.header.ciaddr,
        giaddr: request.header.giaddr,
        interface: tables.interface(),
        vlan: [0; 2],
    };
    let digest = question::digest(&question, frame, DHCP_AT + OPTIONS_AT, request.options_len, &control.key)
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
    if template.server != request.server {
        return Err(Counter::OtherServer);
    }
    let now = tables.now();
    if now >= control.dead_man {
        return Err(Counter::DeadMan);
    }
    let granted = grant(template, entry.horizon, now).ok_or(Counter::Horizon)?;
    let is_near = entry.horizon.since(now) < template.lease_time.wrapping_add(template.lease_time / 4);
    Ok(Granted { entry: index, template, now, granted, is_near })
}

#[inline(always)]
fn transmit<F: FrameMut + ?Sized, T: Tables + ?Sized>(
    frame: &mut F,
    tables: &T,
    request: &Renew,
    answer: &Granted<'_>,
) -> Verdict {
    let tail_len = answer.template.tail_len as usize;
    let message_len = TAIL_AT.wrapping_add(tail_len);
    if frame.resize(DHCP_AT.wrapping_add(message_len)).is_none() {
        return Verdict::Pass(Counter::Resize);
    }
    let renewal = Renewal { at: answer.now, until: BootSecs::new(answer.now.secs().wrapping_add(answer.granted)) };
    // Known before it is said: from here on the agent finds the promise (design: revocation).
    tables.store_renewal(answer.entry, renewal);
    if write_reply(frame, request, answer, message_len).is_none() {
        return Verdict::Drop(Counter::Resize);
    }
    if answer.is_near {
        tables.count(Counter::HorizonAsked);
        if !tables.send_event(Event { address: request.header.ciaddr, renewal }) {
            tables.count(Counter::EventLost);
        }
    }
    Verdict::Transmit
}

/// Writes Ethernet, IPv4, UDP and the message, as the slow path's reply to a renewal looks on the wire: IP id 0,
/// "don't fragment", TTL 64.
#[inline(always)]
fn write_reply<F: FrameMut + ?Sized>(
    frame: &mut F,
    request: &Renew,
    answer: &Granted<'_>,
    message_len: usize,
) -> Option<()> {
    let client = request.header.ciaddr;
    let server = request.server;
    let fixed = Fixed { flags: request.header.flags, ciaddr: client, yiaddr: client, siaddr: answer.template.siaddr };
    let times = Times {
        lease: answer.granted,
        renewal: answer.template.renewal_time,
        rebinding: answer.template.rebinding_time,
    };
    let udp_len = (UDP_LEN as u16).wrapping_add(message_len as u16);
    let ip_len = (IPV4_LEN as u16).wrapping_add(udp_len);
    let [len_high, len_low] = ip_len.to_be_bytes();
    let [udp_high, udp_low] = udp_len.to_be_bytes();

    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = request.ethernet;
    frame.write(0, [s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5])?;

    let addresses = checksum::sum_u32(server).wrapping_add(checksum::sum_u32(client));
    let ip_sum = addresses
        .wrapping_add(u64::from(u16::from_be_bytes([IPV4_PLAIN, 0])))
        .wrapping_add(u64::from(ip_len))
        .wrapping_add(0x4000)
        .wrapping_add(u64::from(u16::from_be_bytes([TTL_ROUTED, PROTOCOL_UDP])));
    let [check_high, check_low] = checksum::fold(ip_sum).to_be_bytes();
    frame.write(
        IP_AT,
        [IPV4_PLAIN, 0, len_high, len_low, 0, 0, 0x40, 0, TTL_ROUTED, PROTOCOL_UDP, check_high, check_low],
    )?;
    frame.write(IP_AT + 12, server)?;
    frame.write(IP_AT + 16, client)?;

    // The sum of the message by parts: what is copied, what the template carries, the times.
    let udp_sum = addresses
        .wrapping_add(u64::from(PROTOCOL_UDP))
        .wrapping_add(u64::from(udp_len).wrapping_mul(2))
        .wrapping_add(u64::from(PORT_SERVER))
        .wrapping_add(u64::from(PORT_CLIENT))
        .wrapping_add(answer::sum_fixed(&request.header, &fixed))
        .wrapping_add(u64::from(answer.template.tail_sum))
        .wrapping_add(times.sum());
    let [check_high, check_low] = checksum::fold_udp(udp_sum).to_be_bytes();
    let [from_high, from_low] = PORT_SERVER.to_be_bytes();
    let [to_high, to_low] = PORT_CLIENT.to_be_bytes();
    frame.write(UDP_AT, [from_high, from_low, to_high, to_low, udp_high, udp_low, check_high, check_low])?;

    let tail_len = message_len.wrapping_sub(TAIL_AT);
    answer::write(frame, DHCP_AT, &fixed, &answer.template.tail, tail_len, &times)
}
