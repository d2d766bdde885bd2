//! What goes into the engine and what comes out: the only words the skin and the heart share.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use dhcp_ebpf::abi::{Generation, QUESTION_COUNT, Renewal, Template};

use crate::{
    failover::Command,
    lease::time::{BootTime, Now},
};

pub use super::reload::{Applied, Reload, Reloaded};

/// A network interface, by the kernel's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceIndex(pub u32);

/// Number of a journal record; grows by one with every [`Effect::Append`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct JournalSeq(pub u64);

/// Names a revocation, a probe or a command until its answer comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// An interface the server listens on, with what an answer needs of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interface {
    /// Kernel index.
    pub index: InterfaceIndex,
    /// Name, as in `dhcpd IF...` and in log lines.
    pub name: String,
    /// Hardware address.
    pub mac: [u8; 6],
    /// IPv4 addresses with prefix lengths, in the kernel's order; the first is the server identifier.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// Whether the interface is up.
    pub is_up: bool,
}

/// One datagram for port 67, as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Where it arrived.
    pub interface: InterfaceIndex,
    /// VLAN tags of the frame, outer first, each with its TPID ethertype and TCI; zero = no tag.
    pub vlan: [u32; 2],
    /// IP source and UDP source port.
    pub source: SocketAddrV4,
    /// IP destination: the broadcast address, or one of this server's.
    pub destination: Ipv4Addr,
    /// The BOOTP message (UDP payload).
    pub message: &'a [u8],
}

/// Everything that may happen to the engine.
#[derive(Debug)]
pub enum Input<'a> {
    /// A client's or relay's message.
    Packet(Received<'a>),
    /// Everything up to this record is on disk.
    Durable(JournalSeq),
    /// The journal cannot be written: no new promise until [`Input::JournalRestored`]. Text for people.
    JournalFailed(String),
    /// The journal works again (the whole table has been rewritten).
    JournalRestored,
    /// The interfaces as they are now; the first thing an engine hears.
    Interfaces(Vec<Interface>),
    /// A revocation is complete: no program that saw the old entries runs any more, and this is what the kernel
    /// had promised for each address.
    Revoked(Token, Vec<(Ipv4Addr, Renewal)>),
    /// Part of what the kernel had promised and nobody knew, while everything is on its way back: the rest comes with
    /// [`Input::Revoked`].
    Returned(Vec<(Ipv4Addr, Renewal)>),
    /// The kernel answered renewals: from the event ring or the scan. At most one per address.
    Renewed(Vec<(Ipv4Addr, Renewal)>),
    /// A conflict probe has ended: `true` when somebody answered.
    Probed(Token, bool),
    /// Another configuration is to take over; [`Effect::Reloaded`] says how it went.
    Reload(Box<Reload>),
    /// Time has passed; the instant that `poll_timeout` asked for.
    Timeout,
    /// The agent is about to stop: take everything from the kernel and write exact times, unless the kernel is to go
    /// on alone. Done when `Server::is_idle`.
    Stop {
        /// The program stays attached and answers within its horizons.
        leaves_kernel: bool,
    },
    /// A failover partner's bytes, connection events and commands come in through these.
    Peer(PeerInput<'a>),
    /// An operator wants to know how the failover relationships stand: `Server::failover_status` says so when
    /// `Server::is_surveying` does not any more.
    Survey,
}

/// What happens on a failover link.
#[derive(Debug)]
pub enum PeerInput<'a> {
    /// A TCP connection with this peer is up; `true` when we dialled.
    Connected {
        /// Number of the failover declaration.
        peer: usize,
        /// Names the connection.
        link: Token,
        /// Whether this side dialled.
        dialled: bool,
    },
    /// Bytes arrived.
    Bytes {
        /// Number of the failover declaration.
        peer: usize,
        /// Names the connection.
        link: Token,
        /// Any piece of the stream.
        bytes: &'a [u8],
    },
    /// The connection is gone, or a dial has failed (with a name that was never connected).
    Closed {
        /// Number of the failover declaration.
        peer: usize,
        /// Names the connection.
        link: Token,
    },
    /// The operator says; `Server::may` has said that it can be followed.
    Command {
        /// Number of the failover declaration.
        peer: usize,
        /// What.
        command: Command,
    },
}

/// What the skin has to do, in the order it comes out. The engine has already made sure that it may be done at
/// once: a reply or an arm only comes out after its record is durable (I8), what a revocation protects only
/// after it is complete.
#[derive(Debug)]
pub enum Effect {
    /// Append a record to the journal; report [`Input::Durable`] when it is on disk.
    Append(JournalSeq, Vec<u8>),
    /// Send a reply.
    Send(Datagram),
    /// Let the kernel answer for these leases.
    Arm(Vec<Arm>),
    /// Move the horizons of armed leases: `(address, horizon)`. Entries that are not armed stay as they are.
    Extend(Vec<(Ipv4Addr, BootTime)>),
    /// Take these addresses from the kernel; report [`Input::Revoked`].
    Revoke(Token, Vec<Ipv4Addr>),
    /// Switch a failover peer's pools on or off in the kernel (index into the serving table).
    Serving(u8, bool),
    /// Which buckets of a failover peer's clients the kernel answers when both servers hear them (index into the serving
    /// table; RFC 3074).
    Balance(u8, [u8; 32]),
    /// Disarm everything at once, a new generation begins; report [`Input::Revoked`] with what the kernel had promised
    /// (addresses about which there is nothing new may be left out), and make places for these ranges (first and last
    /// address, inclusive).
    NewGeneration {
        /// To report with.
        token: Token,
        /// The generation.
        generation: Generation,
        /// All addresses that may be armed from now on.
        ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    },
    /// How [`Input::Reload`] went.
    Reloaded(Box<Reloaded>),
    /// Ask whether somebody uses an address; report [`Input::Probed`] at the latest after `wait`.
    Probe {
        /// To report with.
        token: Token,
        /// The address that is about to be offered.
        address: Ipv4Addr,
        /// Where it would be used; `None` when the client is behind a relay (ICMP only).
        interface: Option<InterfaceIndex>,
        /// Until when to wait for an answer.
        until: BootTime,
    },
    /// Bytes for a failover link.
    PeerSend(Token, Vec<u8>),
    /// Dial a failover partner.
    PeerDial {
        /// Number of the failover declaration.
        peer: usize,
    },
    /// Close a failover link.
    PeerClose(Token),
    /// A line for the log, in dhcpd's words.
    Log(Level, String),
    /// Run a program (`execute`); nobody waits for it.
    Execute {
        /// Its path.
        program: String,
        /// Arguments after the program's name.
        arguments: Vec<Vec<u8>>,
    },
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Per decision.
    Debug,
    /// State changes, and dhcpd's DHCPDISCOVER..DHCPACK lines.
    Info,
    /// Somebody should look.
    Warn,
    /// Something does not work.
    Error,
}

/// A reply and where it goes (dhcpd: destinations, RFC 2131 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// The interface it leaves through; `None` = the kernel routes (to a relay, or an INFORM's sender).
    pub interface: Option<InterfaceIndex>,
    /// How it is put on the wire.
    pub route: Route,
    /// Source address: the server identifier.
    pub source: Ipv4Addr,
    /// IP destination and UDP port.
    pub destination: SocketAddrV4,
    /// The BOOTP message.
    pub message: Vec<u8>,
}

/// How a reply reaches its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Through the IP stack: the kernel finds the route and the neighbour.
    Ip,
    /// A raw frame to this hardware address: the client has no address yet, or everybody is meant. The tags of
    /// the request are repeated.
    Raw {
        /// Ethernet destination.
        mac: [u8; 6],
        /// VLAN tags, as received.
        vlan: [u32; 2],
    },
}

/// What the kernel needs to answer for one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arm {
    /// The leased address.
    pub address: Ipv4Addr,
    /// The client's Ethernet address.
    pub chaddr: [u8; 6],
    /// Index into the serving table; 0 = no failover.
    pub peer: u8,
    /// The client's hash bucket (RFC 3074): which partner answers what it sends to both.
    pub bucket: u8,
    /// The promise: durable, and agreed with the partner.
    pub horizon: BootTime,
    /// Questions and their answers; unused places are `None`. Equal answers are usually the same allocation.
    pub questions: [Option<(u64, Arc<Template>)>; QUESTION_COUNT],
}

/// An entry of the kernel's that an earlier agent left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The address.
    pub address: Ipv4Addr,
    /// The client's Ethernet address.
    pub chaddr: [u8; 6],
    /// The promise, while it is armed.
    pub horizon: BootTime,
    /// Questions and their answers; none when it is not armed.
    pub questions: [Option<(u64, Arc<Template>)>; QUESTION_COUNT],
    /// Whether the kernel goes on answering for it.
    pub is_armed: bool,
    /// What the kernel granted last, at any time.
    pub renewal: Renewal,
}

/// The four verbs of everything stateful here.
///
/// ```text
///   handle(input, now)     what happened
///   poll_effect()          what to do about it, until None
///   poll_timeout()         when to come back without being asked
///   status()               for humans, never for control flow
/// ```
pub trait Verbs {
    /// What humans see.
    type Status;

    /// Takes one input.
    fn handle(&mut self, input: Input<'_>, now: Now);

    /// The next thing to do; `None` when there is nothing.
    fn poll_effect(&mut self) -> Option<Effect>;

    /// When to call [`Verbs::handle`] with [`Input::Timeout`].
    fn poll_timeout(&self) -> Option<BootTime>;

    /// A picture for humans.
    fn status(&self) -> Self::Status;
}
