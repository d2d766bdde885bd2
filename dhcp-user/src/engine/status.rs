//! What humans see of the engine: counters by reason, pools, partners, promises. Never for control flow.

use std::{marker::PhantomData, net::Ipv4Addr};

use super::port::JournalSeq;

/// Makes an enum of reasons with names and a table of counters over it.
macro_rules! counted {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in status output and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl Counted for $name {
            fn index(self) -> usize {
                self as usize
            }

            fn names() -> impl Iterator<Item = &'static str> {
                Self::ALL.iter().map(|one| one.name())
            }
        }
    };
}

counted! {
    /// A message that came in, by its type.
    Received {
        /// DHCPDISCOVER.
        Discover = "discover",
        /// DHCPREQUEST.
        Request = "request",
        /// DHCPDECLINE.
        Decline = "decline",
        /// DHCPRELEASE.
        Release = "release",
        /// DHCPINFORM.
        Inform = "inform",
        /// DHCPLEASEQUERY.
        LeaseQuery = "leasequery",
        /// A request without a message type.
        Bootp = "bootp",
        /// Anything that is no client's message, or broken.
        Other = "other",
    }
}

counted! {
    /// A message that went out, by its type.
    Sent {
        /// DHCPOFFER.
        Offer = "offer",
        /// DHCPOFFER of an address that is kept for nobody: the client can do without one (option 108).
        OfferIpv6Only = "offer-ipv6-only",
        /// DHCPACK that grants a lease.
        Ack = "ack",
        /// DHCPACK with the remaining time of an unaltered lease (dhcp-cache-threshold).
        AckUnaltered = "ack-unaltered",
        /// DHCPACK to an INFORM.
        AckInform = "ack-inform",
        /// DHCPNAK.
        Nak = "nak",
        /// BOOTREPLY without a message type.
        Bootp = "bootp",
        /// DHCPLEASEACTIVE.
        LeaseActive = "leaseactive",
        /// DHCPLEASEUNASSIGNED.
        LeaseUnassigned = "leaseunassigned",
        /// DHCPLEASEUNKNOWN.
        LeaseUnknown = "leaseunknown",
    }
}

counted! {
    /// Why a message was not answered, or what else happened to it.
    Reason {
        /// Shorter than the fixed fields and the cookie.
        Short = "short",
        /// Longer than anything that is looked at.
        Long = "long",
        /// Not a BOOTREQUEST.
        NotRequest = "not-request",
        /// `hlen` is more than `chaddr` holds.
        HardwareLength = "hardware-length",
        /// No magic cookie, in a message that is too short or too odd for BOOTP.
        Cookie = "cookie",
        /// An option's length is missing.
        OptionLengthMissing = "option-length-missing",
        /// An option reaches past the end of the message.
        OptionPastTheEnd = "option-past-the-end",
        /// Option 53 is not one byte.
        MessageTypeLength = "message-type-length",
        /// Option 53 has a number nobody knows.
        MessageTypeUnknown = "message-type-unknown",
        /// A message type that only servers send.
        ServerMessage = "server-message",
        /// Arrived at an interface that is not configured, or has no address.
        UnknownInterface = "unknown-interface",
        /// No declared subnet on this network segment.
        UnknownNetwork = "unknown-network",
        /// REQUEST for an address of another segment, and this server has no say there.
        NotAuthoritative = "not-authoritative",
        /// Every address is taken.
        NoFreeLeases = "no-free-leases",
        /// The partner has every address that is free.
        PeerHoldsFreeLeases = "peer-holds-free-leases",
        /// The failover endpoint's state does not allow an answer.
        NotResponding = "not-responding",
        /// The partner's half of the clients.
        LoadBalanced = "load-balanced",
        /// The partner's lease.
        LeaseOwnedByPeer = "lease-owned-by-peer",
        /// The lease is on its way from one state to another.
        LeaseInTransition = "lease-in-transition",
        /// Option 54 names another server.
        OtherServer = "other-server",
        /// An address in a subnet, but in no range.
        UnknownLease = "unknown-lease",
        /// `min-secs`.
        MinSecs = "min-secs",
        /// `deny unknown-clients`.
        UnknownClient = "unknown-client",
        /// `deny booting`.
        BootingDenied = "booting-denied",
        /// `deny bootp`, or no pool admits it.
        BootpDenied = "bootp-denied",
        /// Every class with a limit that the client is in is full.
        NoBilling = "no-billing",
        /// A permit list refuses the client.
        NotPermitted = "not-permitted",
        /// DECLINE without option 50.
        DeclineWithoutAddress = "decline-without-address",
        /// `deny declines`.
        DeclinesDenied = "declines-denied",
        /// DECLINE of an address that the sender neither holds nor was offered.
        DeclineFromOther = "decline-from-other",
        /// RELEASE of an address that the sender does not hold.
        ReleaseNotFound = "release-not-found",
        /// INFORM without any address.
        InformWithoutAddress = "inform-without-address",
        /// LEASEQUERY that is not allowed, or not through a relay.
        LeaseQueryDenied = "leasequery-denied",
        /// The journal cannot be written: nothing may be promised.
        JournalFailed = "journal-failed",
        /// Too many replies wait for the journal.
        JournalBusy = "journal-busy",
        /// Too many messages wait for revocations.
        ParkingFull = "parking-full",
        /// Too many conflict probes are under way.
        ProbesFull = "probes-full",
        /// The client's earlier DISCOVER is still being probed for.
        ProbeUnderWay = "probe-under-way",
        /// Somebody answered a conflict probe.
        AddressInUse = "address-in-use",
        /// The reply has no room for what must be in it.
        ReplyTooLong = "reply-too-long",
        /// The server has no address to answer from.
        NoServerAddress = "no-server-address",
        /// One circuit has as many leases as it may have.
        CircuitCap = "circuit-cap",
        /// One port has as many leases as it may have.
        PortCap = "port-cap",
        /// Too many new clients from one place.
        NewClientRate = "new-client-rate",
        /// Too many messages of one client.
        ClientRate = "client-rate",
        /// A retry of an exchange that is still waiting for the journal.
        Repeated = "repeated",
        /// Shed in a storm: a message that can wait more than others.
        Shed = "shed",
    }
}

counted! {
    /// What was done because many came at once.
    Easing {
        /// The times of a reply were cut, so that its client comes back apart from the others.
        Jittered = "times-jittered",
        /// An address was offered again that its first client had not taken up.
        OfferReclaimed = "offer-reclaimed",
    }
}

counted! {
    /// What is more than a client's or a place's share.
    Suspicion {
        /// Leases on one circuit.
        CircuitCap = "circuit-cap",
        /// Leases at one port.
        PortCap = "port-cap",
        /// New clients from one place.
        NewClientRate = "new-client-rate",
        /// Messages of one client.
        ClientRate = "client-rate",
    }
}

impl Suspicion {
    /// In words, for the log.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::CircuitCap => "one more lease than the circuit may have",
            Self::PortCap => "one more lease than the port may have",
            Self::NewClientRate => "more new clients than a place may have in a minute",
            Self::ClientRate => "more messages than a client may send",
        }
    }
}

counted! {
    /// Why an acknowledged lease was not handed to the kernel.
    NotArmed {
        /// The fast path is off.
        Off = "off",
        /// Not an Ethernet client.
        Hardware = "hardware",
        /// The answer depends on more than the question and the configuration.
        Depends = "depends",
        /// The request or the reply uses option overload.
        Overload = "overload",
        /// More option bytes than the kernel digests.
        LongQuestion = "long-question",
        /// A longer reply than the kernel writes.
        LongAnswer = "long-answer",
        /// The reply would not go where the kernel sends it.
        Destination = "destination",
        /// The lease is a static one or never ends.
        NoPromise = "no-promise",
        /// All templates are taken.
        TemplatesFull = "templates-full",
        /// The answer to the predicted question would not be an ACK.
        NoAnswer = "no-answer",
        /// Another configuration is about to take over.
        Reloading = "reloading",
        /// After a reload it is not known how the question was asked: the client has to ask once more.
        Forgotten = "forgotten",
    }
}

/// An enum whose variants are counted.
pub(crate) trait Counted: Copy {
    /// Its number.
    fn index(self) -> usize;
    /// The names of all, in the order of their numbers.
    fn names() -> impl Iterator<Item = &'static str>;
}

/// A counter per variant of a counted enum.
#[derive(Debug, Clone)]
pub(crate) struct Tally<C> {
    counts: Vec<u64>,
    of: PhantomData<C>,
}

impl<C: Counted> Tally<C> {
    /// All zero.
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; C::names().count()], of: PhantomData }
    }

    /// Adds one.
    pub(crate) fn add(&mut self, what: C) {
        if let Some(count) = self.counts.get_mut(what.index()) {
            *count = count.wrapping_add(1);
        }
    }

    /// Names with counts.
    pub(crate) fn list(&self) -> Vec<(&'static str, u64)> {
        C::names().zip(self.counts.iter().copied()).collect()
    }
}

/// A picture of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Number of the configuration generation.
    pub generation: u32,
    /// Messages received, by type.
    pub received: Vec<(&'static str, u64)>,
    /// Messages sent, by type.
    pub sent: Vec<(&'static str, u64)>,
    /// Messages not answered, by reason.
    pub ignored: Vec<(&'static str, u64)>,
    /// The journal.
    pub journal: JournalStatus,
    /// The fast path as the engine sees it.
    pub fast_path: FastPathStatus,
    /// Clients that ask for more than their share.
    pub guard: GuardStatus,
    /// What was done because many came at once.
    pub storm: Vec<(&'static str, u64)>,
    /// Pools in configuration order.
    pub pools: Vec<PoolStatus>,
    /// Failover partners in configuration order.
    pub peers: Vec<PeerStatus>,
}

/// The journal as the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JournalStatus {
    /// The last record handed out.
    pub appended: JournalSeq,
    /// The last record known to be on disk.
    pub durable: JournalSeq,
    /// Effects that wait for the disk.
    pub waiting: usize,
    /// Why nothing can be written, if so.
    pub failure: Option<String>,
}

/// The fast path as the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FastPathStatus {
    /// Whether leases are armed at all.
    pub enabled: bool,
    /// Leases armed now.
    pub armed: usize,
    /// Answers interned.
    pub templates: usize,
    /// Arms handed out since the start.
    pub arms: u64,
    /// Horizons moved since the start.
    pub extensions: u64,
    /// Renewals by the kernel that the engine has heard of.
    pub renewals: u64,
    /// Revocations asked for since the start, in addresses.
    pub revoked: u64,
    /// Addresses whose revocation is under way.
    pub revoking: usize,
    /// Messages that wait for revocations.
    pub parked: usize,
    /// Leases that a reload disarmed, and that wait to be armed anew.
    pub rearming: usize,
    /// Why acknowledged leases were not armed.
    pub not_armed: Vec<(&'static str, u64)>,
}

/// Clients that ask for more than their share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuardStatus {
    /// `monitor`, `enforce` or `off`.
    pub mode: &'static str,
    /// How often something was too much, by what it was.
    pub seen: Vec<(&'static str, u64)>,
    /// How often that was a reason not to answer.
    pub refused: Vec<(&'static str, u64)>,
    /// Clients and places whose messages are metered.
    pub metered: usize,
    /// The places where most of it was seen.
    pub suspects: Vec<SuspectStatus>,
}

/// A place where something was too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspectStatus {
    /// The place, in words.
    pub place: String,
    /// What was seen there last.
    pub what: &'static str,
    /// How often anything was.
    pub count: u64,
    /// Active leases there, if it is a circuit or a port.
    pub leases: u32,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStatus {
    /// Name of the shared network.
    pub network: String,
    /// First and last address of each range.
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Addresses in all.
    pub total: u64,
    /// Ours to give.
    pub free: u64,
    /// The failover partner's (or, on a secondary, ours) to give.
    pub backup: u64,
    /// Leased.
    pub active: u64,
    /// Run out, not yet free.
    pub expired: u64,
    /// Given back, not yet free.
    pub released: u64,
    /// In use by somebody the server does not know.
    pub abandoned: u64,
    /// Reset by the operator, not yet free.
    pub reset: u64,
    /// Failover partner, if any.
    pub peer: Option<String>,
}

/// One failover partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Name of the declaration.
    pub name: String,
    /// Whether this server is the primary.
    pub is_primary: bool,
    /// Our state, as the leases file spells it.
    pub my_state: &'static str,
    /// Since when, in seconds since 1970.
    pub my_since: u32,
    /// The partner's state, as far as known.
    pub partner_state: &'static str,
    /// Since when, in seconds since 1970.
    pub partner_since: u32,
    /// What the state means for clients.
    pub service: &'static str,
    /// Whether the kernel may answer for this partner's pools.
    pub is_serving: bool,
    /// What goes between the two servers.
    pub traffic: crate::failover::Traffic,
}
