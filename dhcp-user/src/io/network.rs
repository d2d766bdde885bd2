//! The sockets of the server together: what is read from them goes to the engine, what the engine sends waits
//! here until the batch leaves.
//!
//! ```text
//!   packet sockets (one per lane of each interface) --filter--> frame::parse --> storm --> engine
//!   engine --> Route::Raw --> frame::write --> packet socket     Route::Ip --> UDP socket --> IP stack
//! ```

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::OwnedFd,
    task::{Context, Poll},
};

use dhcp_ebpf::wire::ethernet::PORT_CLIENT;
use socket2::Socket;
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    engine::{
        port::{Datagram, Interface, InterfaceIndex, Received, Route},
        storm::{Late, Storm},
    },
    io::{
        clock,
        filter::{self, Lane},
        frame::{self, Envelope, Parsed, Refusal},
        interfaces::Found,
        neighbours::Neighbours,
        socket::{self, RawFrame, ReceiveBatch, UdpDatagram},
    },
};

/// Frames of one interface that are handled before the others get their turn.
pub const FRAMES_PER_TURN: usize = 256;
/// Of these, what every lane gets however full the more urgent ones are: nobody starves for good.
const FRAMES_PER_LANE_MIN: usize = 16;
/// The packet sockets see all protocols, through the filter: one for IPv4 alone would be shown tagged frames with
/// the tag already forgotten, and VLAN 5 would be answered as if it were the untagged network.
const ALL: u16 = libc::ETH_P_ALL as u16;
/// The VLAN number in a tag.
const VID_MASK: u32 = 0x0fff;
/// Where the kernel lists VLAN devices; absent without 802.1Q support.
const VLAN_DEVICES: &str = "/proc/thread-self/net/vlan/config";

/// What was counted at the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Datagrams given to the engine.
    pub received: u64,
    /// Frames not given to it, in the order of [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Frames the kernel dropped because a receive buffer was full.
    pub overrun: u64,
    /// Replies handed to the kernel.
    pub sent: u64,
    /// Replies that the kernel did not take.
    pub unsent: u64,
}

/// The socket of one interface.
#[derive(Debug)]
struct Link {
    interface: Interface,
    /// One for each lane, the most urgent first.
    lanes: [AsyncFd<OwnedFd>; Lane::ALL.len()],
    outgoing: Vec<Vec<u8>>,
}

/// What is ours: frames to anything else are left alone.
#[derive(Debug, Default)]
struct Ours {
    addresses: BTreeSet<Ipv4Addr>,
    broadcasts: BTreeSet<Ipv4Addr>,
    /// VLAN devices: interface below and VLAN number. Their frames are theirs.
    vlan_devices: BTreeSet<(String, u32)>,
}

/// All sockets of the server.
#[derive(Debug)]
pub struct Network {
    links: Vec<Link>,
    udp: Socket,
    /// Bytes that fit into the send buffer of `udp`.
    udp_room: usize,
    neighbours: Neighbours,
    local_port: u16,
    batch: ReceiveBatch,
    datagrams: Vec<UdpDatagram>,
    ours: Ours,
    storm: Storm,
    spare: Vec<Vec<u8>>,
    counts: Counts,
    last_send_error: Option<String>,
}

impl Network {
    /// Sockets around `udp`, on no interface yet. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(udp: Socket, local_port: u16) -> Self {
        Self {
            links: Vec::new(),
            udp_room: udp.send_buffer_size().unwrap_or(socket::SOCKET_BUFFER_LEN),
            neighbours: Neighbours::default(),
            udp,
            local_port,
            batch: ReceiveBatch::default(),
            datagrams: Vec::new(),
            ours: Ours::default(),
            storm: Storm::default(),
            spare: Vec::new(),
            counts: Counts::default(),
            last_send_error: None,
        }
    }

    /// Listens on these interfaces and no others; sockets of interfaces that stay are kept. `found` are all
    /// interfaces of the machine: a request may be sent to any of its addresses.
    ///
    /// # Errors
    /// The first interface that could not be opened, with the kernel's refusal; the others are served.
    pub fn serve(&mut self, interfaces: &[Interface], found: &[Found]) -> Result<(), (String, io::Error)> {
        let addresses = |interface: &Interface| interface.addresses.clone();
        self.ours = Ours {
            addresses: found.iter().flat_map(|one| addresses(&one.interface)).map(|(address, _)| address).collect(),
            broadcasts: interfaces.iter().flat_map(addresses).filter_map(directed_broadcast).collect(),
            // Without 802.1Q support there is no list, and no VLAN device.
            vlan_devices: std::fs::read_to_string(VLAN_DEVICES).map(|text| vlan_devices(&text)).unwrap_or_default(),
        };
        let mut result = Ok(());
        let mut old = std::mem::take(&mut self.links);
        for interface in interfaces {
            let kept = old.iter().position(|link| link.interface.index == interface.index);
            if let Some(position) = kept {
                let mut link = old.swap_remove(position);
                link.interface = interface.clone();
                self.links.push(link);
                continue;
            }
            match Link::open(interface, self.local_port) {
                Ok(link) => self.links.push(link),
                Err(error) if result.is_ok() => result = Err((interface.name.clone(), error)),
                Err(_) => {}
            }
        }
        result
    }

    /// Ready when any socket has something to read.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut is_ready = false;
        for lane in self.links.iter().flat_map(|link| &link.lanes) {
            is_ready |= lane.poll_read_ready(context).is_ready();
        }
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reads what is there, at most a turn's share of each interface and the most urgent first, and gives every
    /// datagram for this server to `handle`. Returns how many.
    pub fn receive(&mut self, mut handle: impl FnMut(Received<'_>)) -> usize {
        let before = self.counts.received;
        let now = clock::boot_time();
        let stamp = clock::stamp();
        for link in &self.links {
            let mut share = FRAMES_PER_TURN;
            for lane in &link.lanes {
                let mut left = share.max(FRAMES_PER_LANE_MIN);
                while left > 0 {
                    // A lane that is not known to be ready is not empty for that: in a flood the loop does not sleep,
                    // and tokio does not look. REQUESTs starved so while DISCOVERs were read.
                    let known = lane.try_io(Interest::READABLE, |fd| self.batch.receive(fd, left));
                    // An interface that went down says so once (ENETDOWN); its socket goes on.
                    let Ok(count) = known.or_else(|_| self.batch.receive(lane.get_ref(), left)) else { break };
                    for raw in self.batch.frames(count) {
                        let accepted = accept(&raw, &link.interface, &self.ours).and_then(|parsed| {
                            // A clock that was set back makes nobody wait.
                            let waited = stamp.saturating_sub(raw.arrived);
                            let waited = if raw.arrived.is_zero() { raw.arrived } else { waited };
                            match self.storm.judge(parsed.message, waited, now) {
                                None => Ok(parsed),
                                Some(Late::Stale) => Err(Refusal::Stale),
                                Some(Late::Repeated) => Err(Refusal::Repeated),
                            }
                        });
                        match accepted {
                            Ok(parsed) => {
                                self.counts.received += 1;
                                handle(Received {
                                    interface: link.interface.index,
                                    vlan: parsed.vlan,
                                    source: parsed.source,
                                    destination: *parsed.destination.ip(),
                                    message: parsed.message,
                                });
                            }
                            Err(refusal) => {
                                if let Some(count) = self.counts.refused.get_mut(refusal as usize) {
                                    *count += 1;
                                }
                            }
                        }
                    }
                    share = share.saturating_sub(count);
                    let was_full = count == left.min(socket::BATCH_COUNT);
                    left -= count.min(left);
                    if !was_full {
                        break;
                    }
                }
            }
        }
        usize::try_from(self.counts.received - before).unwrap_or(usize::MAX)
    }

    /// Takes a reply; it leaves with [`Network::flush`].
    pub fn send(&mut self, datagram: Datagram) {
        match datagram.route {
            Route::Ip => self.datagrams.push(UdpDatagram {
                // A server identifier may be an address that no interface here has; the kernel then picks one (dhcpd).
                source: if self.ours.addresses.contains(&datagram.source) {
                    datagram.source
                } else {
                    Ipv4Addr::UNSPECIFIED
                },
                interface: datagram.interface.unwrap_or(InterfaceIndex(0)),
                destination: datagram.destination,
                message: datagram.message,
            }),
            Route::Raw { mac, vlan } => {
                let link = self.links.iter_mut().find(|link| Some(link.interface.index) == datagram.interface);
                let Some(link) = link else {
                    self.counts.unsent += 1;
                    return;
                };
                let envelope = Envelope {
                    from: link.interface.mac,
                    to: mac,
                    vlan,
                    source: SocketAddrV4::new(datagram.source, self.local_port),
                    destination: datagram.destination,
                };
                let mut frame = self.spare.pop().unwrap_or_default();
                if frame::write(&envelope, &datagram.message, &mut frame).is_some() {
                    link.outgoing.push(frame);
                } else {
                    self.counts.unsent += 1;
                }
            }
        }
    }

    /// Hands everything that waits to the kernel. Never waits: what the kernel does not take is counted, and the
    /// client asks again.
    pub fn flush(&mut self) {
        let mut unsent = 0;
        let mut last_error = None;
        for link in &mut self.links {
            if link.outgoing.is_empty() {
                continue;
            }
            let total = link.outgoing.len() as u64;
            let mut failed = 0;
            let [socket, ..] = &link.lanes;
            socket::send_frames(socket, &link.outgoing, |_, error| {
                failed += 1;
                last_error = Some(format!("{}: {error}", link.interface.name));
            });
            self.counts.sent += total - failed;
            unsent += failed;
            let room = socket::BATCH_COUNT.saturating_sub(self.spare.len());
            self.spare.extend(link.outgoing.drain(..).take(room));
            link.outgoing.clear();
        }
        let mut datagrams = std::mem::take(&mut self.datagrams);
        for chunk in datagrams.chunks_mut(socket::BATCH_COUNT) {
            self.neighbours.look(&self.udp, self.udp_room, chunk.len());
            let mut allowed_count = 0;
            for index in 0..chunk.len() {
                if chunk.get(index).is_some_and(|datagram| self.neighbours.allow(*datagram.destination.ip())) {
                    chunk.swap(allowed_count, index);
                    allowed_count += 1;
                }
            }
            let (allowed, held) = chunk.split_at(allowed_count);
            if let Some(datagram) = held.first() {
                last_error = Some(format!("{}: nobody has this address", datagram.destination.ip()));
            }
            let mut failed = held.len() as u64;
            socket::send_datagrams(&self.udp, allowed, |index, error| {
                failed += 1;
                let destination = allowed.get(index).map(|datagram| datagram.destination);
                last_error = Some(match destination {
                    Some(destination) => format!("{destination}: {error}"),
                    None => error.to_string(),
                });
            });
            self.counts.sent += chunk.len() as u64 - failed;
            unsent += failed;
        }
        datagrams.clear();
        self.datagrams = datagrams;
        self.counts.unsent += unsent;
        if last_error.is_some() {
            self.last_send_error = last_error;
        }
    }

    /// Why the last reply that did not leave did not, once.
    pub fn take_send_error(&mut self) -> Option<String> {
        self.last_send_error.take()
    }

    /// What was counted.
    pub fn counts(&mut self) -> Counts {
        for lane in self.links.iter().flat_map(|link| &link.lanes) {
            self.counts.overrun += u64::from(socket::dropped(lane));
        }
        self.counts
    }

    /// The interfaces listened on.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.links.iter().map(|link| &link.interface)
    }
}

impl Link {
    fn open(interface: &Interface, port: u16) -> io::Result<Self> {
        let open = |lane| -> io::Result<AsyncFd<OwnedFd>> {
            let program = filter::udp_to_in(port, lane);
            let buffer_len = match lane {
                Lane::Holder | Lane::Selecting => socket::SOCKET_BUFFER_LEN,
                Lane::Seeking => socket::SEEKING_BUFFER_LEN,
            };
            let socket = socket::open_packet(interface.index, ALL, &program, buffer_len)?;
            socket::ignore_outgoing(&socket)?;
            // SAFETY: an `OwnedFd` keeps its descriptor open, and the same one, as long as it is registered.
            Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
        };
        let [holder, selecting, seeking] = Lane::ALL;
        let lanes = [open(holder)?, open(selecting)?, open(seeking)?];
        Ok(Self { interface: interface.clone(), lanes, outgoing: Vec::new() })
    }
}

/// The broadcast address of an interface's subnet; none on links of two.
fn directed_broadcast((address, prefix): (Ipv4Addr, u8)) -> Option<Ipv4Addr> {
    let hosts = u32::MAX.checked_shr(prefix.into()).filter(|hosts| *hosts > 1)?;
    Some(Ipv4Addr::from_bits(address.to_bits() | hosts))
}

/// Reads the kernel's list of VLAN devices: `NAME | VID | BELOW` after two lines of head.
fn vlan_devices(text: &str) -> BTreeSet<(String, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split('|').map(str::trim).skip(1);
            let vid = fields.next()?.parse().ok()?;
            Some((fields.next()?.to_owned(), vid))
        })
        .collect()
}

/// Judges a frame: is it whole, is it DHCP, is it for us?
fn accept<'a>(raw: &RawFrame<'a>, interface: &Interface, ours: &Ours) -> Result<Parsed<'a>, Refusal> {
    if raw.kind == libc::PACKET_OUTGOING {
        return Err(Refusal::Outgoing);
    }
    if raw.interface != interface.index {
        return Err(Refusal::OtherInterface);
    }
    if raw.is_truncated {
        return Err(Refusal::Truncated);
    }
    let parsed = frame::parse(raw.bytes, raw.aux)?;
    let [outer, _] = parsed.vlan;
    let is_of_device = |vid| ours.vlan_devices.contains(&(interface.name.clone(), vid));
    if outer != 0 && !ours.vlan_devices.is_empty() && is_of_device(outer & VID_MASK) {
        return Err(Refusal::OtherInterface);
    }
    if raw.kind == libc::PACKET_OTHERHOST {
        return Err(Refusal::OtherMac);
    }
    let destination = parsed.destination.ip();
    if !destination.is_broadcast() && !ours.addresses.contains(destination) && !ours.broadcasts.contains(destination) {
        return Err(Refusal::OtherAddress);
    }
    Ok(parsed)
}

/// The client port that goes with a server port (dhcpd: the next one).
#[must_use]
pub const fn client_port(server_port: u16) -> u16 {
    match server_port.checked_add(1) {
        Some(port) => port,
        None => PORT_CLIENT,
    }
}

#[cfg(test)]
mod tests;
