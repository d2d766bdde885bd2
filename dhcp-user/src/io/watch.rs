//! What is watched at an operator's wish: the shadow check, and one client's next message. Nothing is done when nothing
//! is watched.
//!
//! ```text
//!   shadow   the kernel passes one of N requests up that it could answer
//!            --> what the kernel would say (the same code over the same maps) is kept
//!            --> the agent answers, and the two replies are compared, all but the times
//!            --> a difference: the fast path is switched off, request and both replies are kept in a file
//!   trace    the client's next message: answered by the kernel, or passed up and why
//! ```

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use dhcp_ebpf::{
    abi::{Counter, Generation, Renewal},
    decide::Verdict,
    wire::{
        dhcp::OPTIONS_AT,
        ethernet::PORT_SERVER,
        option::{Options, code},
    },
};
use tokio::sync::oneshot;
use tracing::error;

use crate::{
    control::message::{Answer, Traced},
    engine::port::{Datagram, Received, Route},
    io::{
        fastpath::FastPath,
        frame::{self, Aux, Envelope},
    },
    lease::time::{BootTime, Now},
};

/// Replies that are waited for at the same time.
const PENDING_MAX: usize = 256;
/// How long the agent's reply is waited for: the disk may be slow.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one question about a client waits; whoever wants to wait longer asks again.
const TRACE_PATIENCE: Duration = Duration::from_secs(5);
/// How often the kernel's word is looked at meanwhile.
const TRACE_EVERY: Duration = Duration::from_millis(100);
/// A hardware address for the server's end of a frame that is made up again: replies are compared above Ethernet.
const SOME_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0];

/// What is watched.
#[derive(Debug)]
pub(super) struct Watch {
    one_of: u32,
    folder: PathBuf,
    pending: Vec<Pending>,
    checked: u64,
    alarm: Option<String>,
    tracer: Option<Tracer>,
}

/// A request whose reply by the agent is waited for.
#[derive(Debug)]
struct Pending {
    request: Vec<u8>,
    chaddr: [u8; 6],
    xid: [u8; 4],
    /// What the kernel would have said.
    reply: Vec<u8>,
    /// What was armed, and under which generation.
    entry: (Ipv4Addr, Generation),
    until: BootTime,
}

/// An operator who waits for a client.
#[derive(Debug)]
struct Tracer {
    mac: [u8; 6],
    /// What is armed for the client, and the kernel's word there.
    armed: Option<(Ipv4Addr, Renewal)>,
    until: BootTime,
    answer: oneshot::Sender<Answer>,
}

impl Watch {
    /// Checks one of `one_of` fast replies (zero = none); evidence goes to `folder`.
    pub(super) const fn new(one_of: u32, folder: PathBuf) -> Self {
        Self { one_of, folder, pending: Vec::new(), checked: 0, alarm: None, tracer: None }
    }

    /// One of how many replies is checked.
    pub(super) const fn one_of(&self) -> u32 {
        self.one_of
    }

    /// Replies compared so far.
    pub(super) const fn checked(&self) -> u64 {
        self.checked
    }

    /// What was found, until an operator arms the fast path again.
    pub(super) fn alarm(&self) -> Option<&str> {
        self.alarm.as_deref()
    }

    /// An operator has seen the alarm.
    pub(super) fn forgive(&mut self) {
        self.alarm = None;
    }

    /// Whether messages need not be looked at.
    pub(super) const fn is_idle(&self) -> bool {
        self.tracer.is_none() && (self.one_of == 0 || self.alarm.is_some())
    }

    /// When to look again without a message.
    pub(super) fn wake_at(&self, now: BootTime) -> Option<BootTime> {
        self.tracer.as_ref().map(|_| now.after(TRACE_EVERY))
    }

    /// Waits for a client's next message, and tells the operator then.
    pub(super) fn trace(
        &mut self,
        mac: [u8; 6],
        answer: oneshot::Sender<Answer>,
        fast_path: &dyn FastPath,
        now: BootTime,
    ) {
        if let Some(Tracer { answer, .. }) = self.tracer.take() {
            let _ = answer.send(Answer::Error("another operator asks about a client".to_owned()));
        }
        let armed = fast_path.armed_for(mac);
        let armed = armed.map(|address| (address, fast_path.renewal(address).unwrap_or_default()));
        self.tracer = Some(Tracer { mac, armed, until: now.after(TRACE_PATIENCE), answer });
    }

    /// Looks at a message before the engine does.
    pub(super) fn look(&mut self, received: &Received<'_>, fast_path: &dyn FastPath, now: Now) {
        let Some((xid, chaddr)) = names(received.message) else { return };
        let is_traced = self.tracer.as_ref().is_some_and(|tracer| tracer.mac == chaddr);
        let is_checked = self.one_of != 0 && self.alarm.is_none() && self.pending.len() < PENDING_MAX;
        if !is_traced && !is_checked {
            return;
        }
        let Some(request) = frame_of(received, chaddr) else { return };
        let Some((verdict, reply)) = fast_path.would_say(&request, received.interface, now.boot) else { return };
        if is_traced && let Some(tracer) = self.tracer.take() {
            let reason = match verdict {
                Verdict::Transmit if self.one_of != 0 => Counter::Sampled,
                Verdict::Transmit => Counter::Answered,
                Verdict::Pass(reason) | Verdict::Drop(reason) => reason,
            };
            let _ = tracer.answer.send(Answer::Traced(Traced {
                seen: "agent".to_owned(),
                reason: reason.name().to_owned(),
                meaning: meaning(reason).to_owned(),
                armed: fast_path.armed_for(chaddr),
            }));
        }
        if is_checked
            && verdict == Verdict::Transmit
            // It stands in the reply where the request had its message, whether that is a whole frame or not.
            && let Some(address) = reply.get(request.len() - received.message.len()..).and_then(yiaddr)
            && let Some(entry) = fast_path.entry(address)
        {
            let (entry, until) = ((address, entry.generation), now.boot.after(PATIENCE));
            self.pending.push(Pending { request, chaddr, xid, reply, entry, until });
        }
    }

    /// Looks at a reply before it is sent.
    pub(super) fn sent(&mut self, datagram: &Datagram, fast_path: &mut dyn FastPath, now: Now) {
        if self.pending.is_empty() {
            return;
        }
        let Some(names) = names(&datagram.message) else { return };
        let Some(at) = self.pending.iter().position(|pending| (pending.xid, pending.chaddr) == names) else { return };
        let pending = self.pending.swap_remove(at);
        self.checked += 1;
        let source = SocketAddrV4::new(datagram.source, PORT_SERVER);
        let difference = match frame::parse(&pending.reply, Aux::default()) {
            Err(refusal) => Some(format!("no receiver takes it ({})", refusal.name())),
            Ok(fast) if (fast.source, fast.destination) != (source, datagram.destination) => Some(format!(
                "from {} to {} instead of from {source} to {}",
                fast.source, fast.destination, datagram.destination
            )),
            Ok(fast) => {
                first_difference(fast.message, &datagram.message).map(|at| format!("at byte {at} of the message"))
            }
        };
        let Some(difference) = difference else { return };
        // What was taken from the kernel meanwhile would not have been said any more.
        let (address, generation) = pending.entry;
        if fast_path.entry(address).is_none_or(|entry| entry.generation != generation) {
            return;
        }
        self.pending.clear();
        fast_path.switch(false);
        let client = dhcp_ebpf::wire::dhcp::HwAddr::ethernet(pending.chaddr);
        let slow = slow_frame(datagram, pending.chaddr).unwrap_or_default();
        let kept = match self.keep(&[&pending.request, &pending.reply, &slow], now) {
            Ok(file) => format!("request and both replies are in {}", file.display()),
            Err(error) => format!("the evidence cannot be kept in {}: {error}", self.folder.display()),
        };
        let text = format!(
            "the kernel would have answered {client} with another reply than the agent: {difference}. The fast path is \
             switched off (`xdhcpd fastpath arm` switches it on again); {kept}"
        );
        error!("shadow check: {text}");
        self.alarm = Some(text);
    }

    /// Lets time pass.
    pub(super) fn on_time(&mut self, fast_path: &dyn FastPath, now: BootTime) {
        self.pending.retain(|pending| pending.until > now);
        let Some(tracer) = &self.tracer else { return };
        let armed = tracer.armed.map(|(address, _)| address);
        // A client that is not armed yet sends something to the agent first.
        let has_moved = tracer
            .armed
            .is_some_and(|(address, before)| fast_path.renewal(address).is_some_and(|renewal| renewal != before));
        let traced = if has_moved {
            Traced {
                seen: "kernel".to_owned(),
                reason: Counter::Answered.name().to_owned(),
                meaning: meaning(Counter::Answered).to_owned(),
                armed,
            }
        } else if tracer.until <= now {
            Traced { seen: "nothing".to_owned(), armed, ..Traced::default() }
        } else {
            return;
        };
        if let Some(tracer) = self.tracer.take() {
            // The operator may have gone away.
            let _ = tracer.answer.send(Answer::Traced(traced));
        }
    }

    /// Writes frames as a capture that `xdhcpd trace` and others read.
    fn keep(&self, frames: &[&[u8]], now: Now) -> io::Result<PathBuf> {
        let file = self.folder.join(format!("shadow-{}.pcap", now.wall.secs()));
        fs::write(&file, capture(frames, now.wall.secs()))?;
        Ok(file)
    }
}

/// A capture file (pcap, Ethernet).
fn capture(frames: &[&[u8]], secs: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for (number, frame) in frames.iter().enumerate() {
        let len = frame.len() as u32;
        for word in [secs, number as u32, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(*frame);
    }
    bytes
}

/// `xid` and the Ethernet address of a message.
fn names(message: &[u8]) -> Option<([u8; 4], [u8; 6])> {
    Some((message.get(4..8)?.try_into().ok()?, message.get(28..34)?.try_into().ok()?))
}

fn yiaddr(message: &[u8]) -> Option<Ipv4Addr> {
    message.get(16..20)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

/// The frame that brought a message, as far as it matters above Ethernet.
fn frame_of(received: &Received<'_>, chaddr: [u8; 6]) -> Option<Vec<u8>> {
    let to = if received.destination.is_broadcast() { [0xff; 6] } else { SOME_MAC };
    let envelope = Envelope {
        from: chaddr,
        to,
        vlan: received.vlan,
        source: received.source,
        destination: SocketAddrV4::new(received.destination, PORT_SERVER),
    };
    let mut bytes = Vec::new();
    frame::write(&envelope, received.message, &mut bytes)?;
    Some(bytes)
}

/// The frame of the agent's reply, as far as it matters above Ethernet.
fn slow_frame(datagram: &Datagram, chaddr: [u8; 6]) -> Option<Vec<u8>> {
    let (to, vlan) = match datagram.route {
        Route::Ip => (chaddr, [0; 2]),
        Route::Raw { mac, vlan } => (mac, vlan),
    };
    let envelope = Envelope {
        from: SOME_MAC,
        to,
        vlan,
        source: SocketAddrV4::new(datagram.source, PORT_SERVER),
        destination: datagram.destination,
    };
    let mut bytes = Vec::new();
    frame::write(&envelope, &datagram.message, &mut bytes)?;
    Some(bytes)
}

/// The first byte in which two replies differ, but for the values of their times.
fn first_difference(fast: &[u8], slow: &[u8]) -> Option<usize> {
    let (fast, slow) = (without_times(fast), without_times(slow));
    let at = fast.iter().zip(&slow).position(|(fast, slow)| fast != slow);
    at.or_else(|| (fast.len() != slow.len()).then(|| fast.len().min(slow.len())))
}

fn without_times(message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    let options = message.get(OPTIONS_AT..).unwrap_or_default();
    for (option, data) in Options::new(options).map_while(Result::ok) {
        if [code::LEASE_TIME, code::RENEWAL_TIME, code::REBINDING_TIME].contains(&option) {
            let at = data.as_ptr().addr() - message.as_ptr().addr();
            if let Some(value) = bytes.get_mut(at..at + data.len()) {
                value.fill(0);
            }
        }
    }
    bytes
}

/// What a verdict means, for people.
pub(super) const fn meaning(reason: Counter) -> &'static str {
    match reason {
        Counter::Answered => "the kernel answers it",
        Counter::Sampled => "the kernel could answer it, and passed it up for the shadow check",
        Counter::HorizonAsked => "answered, and a later horizon was asked for",
        Counter::EventLost => "the event ring was full; the scan finds what it would have said",
        Counter::NotIpv4 => "not IPv4",
        Counter::NotDhcp => "not UDP to port 67",
        Counter::Fragment => "a fragment of a datagram",
        Counter::IpOptions => "its IP header has options",
        Counter::Length => "its lengths contradict each other",
        Counter::NotRequest => "not a client's message",
        Counter::Hardware => "not an Ethernet client",
        Counter::Cookie => "no DHCP message: the magic cookie is missing",
        Counter::NoAddress => "it names no address, and no lease of this client is armed",
        Counter::Tagged => "more than two VLAN tags",
        Counter::OtherSource => "sent from another address than the client's own, and not through a relay",
        Counter::LongOptions => "more option bytes than the kernel compares",
        Counter::Off => "the fast path is switched off",
        Counter::DeadMan => "no agent was alive for too long",
        Counter::NoEntry => "the address is in no range that the kernel knows, or was never armed",
        Counter::NotArmed => "the lease is not armed: released, revoked, or of an earlier configuration",
        Counter::OtherClient => "another client holds the address",
        Counter::NotServing => "the state of the failover peer does not allow an answer",
        Counter::OtherQuestion => "the client asks something that the agent has not answered before",
        Counter::OtherServer => "sent to another server",
        Counter::Horizon => "the promise does not reach far enough for a useful lease",
        Counter::Resize => "the frame could not get the length of the reply",
        Counter::OtherBucket => "the failover partner answers this client's broadcasts (RFC 3074)",
        Counter::FloodSeen | Counter::FloodDropped => "its source sends too many DISCOVERs",
        Counter::MalformedSeen | Counter::MalformedDropped => "no BOOTP message",
        Counter::SpoofSeen | Counter::SpoofDropped => "a server's message out of an access port",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(lease: u32, name: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 236];
        bytes.extend([99, 130, 83, 99, 53, 1, 5, 51, 4]);
        bytes.extend(lease.to_be_bytes());
        bytes.extend([15, name.len() as u8]);
        bytes.extend(name);
        bytes.push(255);
        bytes
    }

    #[test]
    fn replies_may_differ_in_their_times_and_in_nothing_else() {
        assert_eq!(first_difference(&message(600, b"gsb"), &message(412, b"gsb")), None);
        assert_eq!(first_difference(&message(600, b"gsb"), &message(600, b"gsc")), Some(253));
        let (long, short) = (message(600, b"gsb"), message(600, b"gs"));
        assert_eq!(first_difference(&long, &short), Some(250), "the length of the name");
        let mut padded = long.clone();
        padded.push(0);
        assert_eq!(first_difference(&long, &padded), Some(long.len()));
        // Broken options end the search for times, not the comparison.
        assert_eq!(first_difference(&[1, 2, 3], &[1, 2, 4]), Some(2));
    }

    #[test]
    fn evidence_is_a_capture_of_ethernet_frames() {
        let bytes = capture(&[&[1, 2, 3], &[4]], 7);
        assert_eq!(bytes.len(), 24 + 16 + 3 + 16 + 1);
        assert_eq!(&bytes[..4], &[0xd4, 0xc3, 0xb2, 0xa1]);
        assert_eq!(&bytes[20..24], &[1, 0, 0, 0], "Ethernet");
        assert_eq!(&bytes[24..28], &[7, 0, 0, 0]);
        assert_eq!(&bytes[40..43], &[1, 2, 3]);
    }
}
