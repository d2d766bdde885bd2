//! One end of a failover relationship: states, timers, updates in flight, pool balance.
//!
//! ```text
//!   engine                          Endpoint                          skin
//!     Changed(lease), Due(leases) ->  machine   states (failover.md 3)
//!     Revoked, Durable            ->  exchange  BNDUPD, BNDACK, UPDREQ*  -> Send, Dial, Close
//!     Command                     ->  pools     free <-> backup
//!                                     session   handshake, keepalive  <- Connected, Bytes, Closed
//!                                     outbox    what waits for the journal
//! ```
//!
//! What the engine owes an endpoint:
//!
//! - at the start, [`Endpoint::record`] stored when the leases file had none, and how far the disk reaches
//!   ([`Input::Durable`]);
//! - every change of its own stored first, stamped ([`Endpoint::stamp`]), then reported ([`Input::Changed`]);
//! - `ends` of a client's lease never shortened by a renewal: the answer may be lost, the client believes the longer
//!   one;
//! - each `ends` reported once ([`Input::Due`]), whoever may act on it: the endpoint remembers;
//! - what the kernel had promised written into the lease, and reported as a change, before [`Input::Revoked`]; and kept
//!   in the kernel's map until that record is durable.
//!
//! Everything that is sent after the handshake goes through one queue in which each message carries the journal
//! record it rests on; the queue stops at the first record that is not on disk. So messages never overtake each
//! other, and none overtakes its record (I8).

mod exchange;
mod expiry;
mod machine;
mod outbox;
mod outlook;
mod pools;
mod session;
mod status;
mod table;
mod updates;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use super::binding::{Binding, BindingState, Leases, Seq};
use super::bucket::{Buckets, has_waited};
use super::limits::{CLOCK_SLACK_SECS, REDIAL_DELAY, STARTUP_TIMEOUT};
use super::rules::{self, Alone};
use super::state::{Role, Service, State, StateRecord};
use super::times::{self, Grant};
use crate::lease::time::{BootTime, Now, WallTime};

pub use outlook::{LeaseBounds, Outlook, PartnerLoss};
pub use status::{Counters, Made, Status, StatusTransition, Traffic};

use exchange::HeldUpdate;
use outbox::Outbox;
use outlook::Survey;
use session::{HalfOpen, Rate, Session};
use updates::Updates;

/// Names a connection; chosen by the skin, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link(pub u64);

/// Names a revocation until it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// `failover peer "NAME" { ... }` and what the endpoint needs besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the relationship, the same on both servers.
    pub name: String,
    /// `primary` or `secondary`.
    pub role: Role,
    /// `max-response-delay`, seconds: silence after which the partner counts as unreachable.
    pub receive_timer_secs: u32,
    /// `max-unacked-updates`: how many updates the partner may send before we acknowledge one.
    pub updates_unacked_max: u32,
    /// `mclt`, seconds. On the secondary only a first guess: the primary tells.
    pub mclt_secs: u32,
    /// `split` or `hba`; only on the primary.
    pub buckets: Option<Buckets>,
    /// `load balance max seconds`; 0 = load balancing off.
    pub load_balance_secs_max: u32,
    /// `auto-partner-down`, seconds in communications-interrupted; 0 = off.
    pub auto_partner_down_secs: u32,
    /// `max-lease-misbalance`, percent.
    pub misbalance_percent_max: u32,
    /// `max-lease-ownership`, percent.
    pub ownership_percent_max: u32,
    /// `min-balance`, seconds between two runs of pool balancing.
    pub balance_secs_min: u32,
    /// `max-balance`, seconds.
    pub balance_secs_max: u32,
    /// Keeps the MCLT limit for leases in partner-down, as dhcpd does. Off: full leases (failover-12 9.4.2).
    pub keeps_mclt_in_partner_down: bool,
    /// What is compared with the partner's when it is one of ours: name and value, in plain words.
    pub facts: Vec<(String, String)>,
    /// Seed of the few random draws.
    pub seed: u64,
}

impl Settings {
    /// dhcpd's defaults for a relationship.
    #[must_use]
    pub fn new(name: &str, role: Role) -> Self {
        Self {
            name: name.to_owned(),
            role,
            receive_timer_secs: 20,
            updates_unacked_max: 100,
            mclt_secs: 0,
            buckets: None,
            load_balance_secs_max: 0,
            auto_partner_down_secs: 0,
            misbalance_percent_max: 15,
            ownership_percent_max: 10,
            balance_secs_min: 60,
            balance_secs_max: 3600,
            keeps_mclt_in_partner_down: false,
            facts: Vec::new(),
            seed: 0,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A connection with the partner's address is up.
    Connected {
        /// Names it.
        link: Link,
        /// Whether we dialled.
        dialled: bool,
    },
    /// Bytes arrived.
    Bytes {
        /// On this connection.
        link: Link,
        /// Any piece of the stream.
        bytes: &'a [u8],
    },
    /// The connection is gone, or a dial has failed (with a name that was never connected).
    Closed {
        /// Names it.
        link: Link,
    },
    /// Everything up to this record is on disk.
    Durable(Seq),
    /// The revocation is complete; leases already carry what the kernel had promised.
    Revoked(Token),
    /// The time of these leases has come: `ends` of active and abandoned ones. The engine reports each `ends` once;
    /// the endpoint decides, and remembers what it may not do yet.
    Due(&'a [Ipv4Addr]),
    /// The engine has changed these leases by itself (a client, the administrator) and stored their records.
    Changed(&'a [Ipv4Addr], Seq),
    /// The operator says.
    Command(Command),
    /// The time of [`Endpoint::poll_timeout`] has come.
    Timeout,
    /// The configuration was read again: the pools may be others, and this is what is compared with the partner's now
    /// ([`Settings::facts`]).
    Reconfigured(&'a [(String, String)]),
    /// Somebody wants to know what this server can do without its partner: [`Endpoint::status`] says so when
    /// [`Endpoint::is_surveying`] does not any more, in a small network at once.
    Survey,
}

/// What an operator may ask for (`xdhcpd failover ...`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// The partner is switched off and will not serve until it has spoken with us.
    PartnerDown,
    /// Ends paused or shutdown.
    Resume,
    /// Tells the partner to go on alone, and falls silent.
    Shutdown,
    /// Falls silent for a moment; the partner goes to communications-interrupted.
    Pause,
}

/// What to do about it, in the order it comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write bytes to a connection.
    Send {
        /// Which.
        link: Link,
        /// What.
        bytes: Vec<u8>,
    },
    /// Dial the partner, unless a dial is under way.
    Dial,
    /// Flush, then close a connection; no [`Input::Closed`] is needed for it.
    Close {
        /// Which.
        link: Link,
    },
    /// Take these addresses from the kernel, then report [`Input::Revoked`].
    Revoke {
        /// To report with.
        token: Token,
        /// Which.
        addresses: Vec<Ipv4Addr>,
    },
    /// What may be done with client traffic from here on. Comes out before anything that relies on it.
    Service(Service),
    /// Potential expiry or state of these leases changed: arm, extend or forget them. Their records may not be durable
    /// yet.
    Moved(Vec<Ipv4Addr>),
    /// A line for the log.
    Log(Level, String),
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Per update.
    Debug,
    /// State changes.
    Info,
    /// Somebody should look.
    Warn,
}

/// One end of a relationship.
#[derive(Debug)]
pub struct Endpoint {
    settings: Settings,
    mclt_secs: u32,
    buckets: Option<Buckets>,
    /// Own state; while `startup_until` is set, the state to go on with.
    state: State,
    since: WallTime,
    startup_until: Option<BootTime>,
    partner: State,
    partner_since: WallTime,
    service: Service,
    half_open: Vec<HalfOpen>,
    session: Option<Session>,
    outbox: Outbox,
    updates: Updates,
    held: BTreeMap<Ipv4Addr, HeldUpdate>,
    held_count: usize,
    /// Leases whose end waits for a revocation.
    ending: BTreeMap<Token, Vec<Ipv4Addr>>,
    /// In partner-down: when addresses that ran out may be used again.
    reuse: BTreeSet<(WallTime, Ipv4Addr)>,
    /// Leases whose time comes with the next second.
    later: BTreeSet<(WallTime, Ipv4Addr)>,
    redial_at: Option<BootTime>,
    auto_partner_down_at: Option<BootTime>,
    recover_wait_at: Option<BootTime>,
    balance_at: Option<BootTime>,
    balanced_at: Option<BootTime>,
    schedule_checked_at: Option<BootTime>,
    /// The last update request we sent was for everything, and is not answered.
    is_asking_for_all: bool,
    moved: Vec<Ipv4Addr>,
    token_next: u64,
    /// By how much the partner's clock was behind when it was last heard, seconds.
    slack_secs: u32,
    random: u64,
    effects: VecDeque<Effect>,
    timeline: VecDeque<StatusTransition>,
    transitions: BTreeMap<(bool, State, State), Made>,
    survey: Option<Survey>,
    outlook: Option<Outlook>,
    counters: Counters,
    refused_lines: Rate,
    /// When the partner said something last.
    heard_at: Option<BootTime>,
    /// What a partner of ours said last of its configuration.
    their_facts: Option<Vec<u8>>,
}

impl Endpoint {
    /// A starting endpoint. `record` is the last state record of the leases file, or the bootstrap block of
    /// dhcpd.conf when the leases file has none; without any the database may be incomplete: recover.
    ///
    /// A server that was shut down on purpose comes back as one that must fetch what it missed.
    #[must_use]
    pub fn new(settings: Settings, record: Option<StateRecord>, now: Now) -> Self {
        let record = record.unwrap_or(StateRecord {
            mine: State::Recover,
            mine_since: now.wall,
            partner: State::UnknownState,
            partner_since: now.wall,
            mclt_secs: None,
        });
        let state = match record.mine {
            State::Shutdown | State::Startup | State::UnknownState => State::Recover,
            State::Paused => State::CommunicationsInterrupted,
            State::Normal
            | State::CommunicationsInterrupted
            | State::PartnerDown
            | State::PotentialConflict
            | State::Recover
            | State::RecoverDone
            | State::ResolutionInterrupted
            | State::ConflictDone
            | State::RecoverWait => record.mine,
        };
        let mclt_secs = match settings.role {
            Role::Primary => settings.mclt_secs,
            Role::Secondary => record.mclt_secs.unwrap_or(settings.mclt_secs),
        };
        let mut endpoint = Self {
            mclt_secs,
            buckets: settings.buckets,
            state,
            since: record.mine_since,
            // A server that serves alone has its operator's word that there is nobody to wait for.
            startup_until: Some(if state == State::PartnerDown { now.boot } else { now.boot.after(STARTUP_TIMEOUT) }),
            partner: record.partner,
            partner_since: record.partner_since,
            service: Service::of(State::Startup, record.partner),
            half_open: Vec::new(),
            session: None,
            outbox: Outbox::default(),
            updates: Updates::default(),
            held: BTreeMap::new(),
            held_count: 0,
            ending: BTreeMap::new(),
            reuse: BTreeSet::new(),
            later: BTreeSet::new(),
            redial_at: Some(now.boot.after(REDIAL_DELAY)),
            auto_partner_down_at: None,
            recover_wait_at: None,
            balance_at: None,
            balanced_at: None,
            schedule_checked_at: None,
            is_asking_for_all: false,
            moved: Vec::new(),
            token_next: 1,
            slack_secs: CLOCK_SLACK_SECS,
            random: settings.seed | 1,
            effects: VecDeque::new(),
            timeline: VecDeque::new(),
            transitions: BTreeMap::new(),
            survey: None,
            outlook: None,
            counters: Counters::default(),
            refused_lines: Rate::default(),
            heard_at: None,
            their_facts: None,
            settings,
        };
        endpoint.effects.push_back(Effect::Service(endpoint.service));
        endpoint.effects.push_back(Effect::Dial);
        endpoint
    }

    /// Takes one input.
    pub fn handle(&mut self, input: Input<'_>, leases: &mut dyn Leases, now: Now) {
        self.updates.set_clock(now.boot);
        match input {
            Input::Connected { link, dialled } => self.handle_connected(link, dialled, now),
            Input::Bytes { link, bytes } => self.handle_bytes(link, bytes, leases, now),
            Input::Closed { link } => self.handle_closed(link, leases, now),
            Input::Durable(seq) => self.outbox.set_durable(seq),
            Input::Revoked(token) => self.handle_revoked(token, leases, now),
            Input::Due(addresses) => self.handle_due(addresses, leases, now),
            Input::Changed(addresses, seq) => self.handle_changed(addresses, seq, leases, now),
            Input::Command(command) => self.handle_command(command, leases, now),
            Input::Timeout => self.handle_timeout(leases, now),
            Input::Reconfigured(facts) => self.handle_reconfigured(facts, now),
            Input::Survey => self.begin_survey(None, leases, now),
        }
        if self.updates.request_to_walk().is_some() {
            self.walk_request(leases, now);
        }
        self.send_updates(leases, now);
        self.flush(now);
    }

    /// The next thing to do; `None` when there is nothing.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to come back with [`Input::Timeout`]; an instant that has passed means at once.
    #[must_use]
    pub fn poll_timeout(&self, now: Now) -> Option<BootTime> {
        let session = self.session.as_ref();
        let held = self.held.values().filter_map(HeldUpdate::due).min().map(|due| now.boot_of(due));
        let later = self.later.first().map(|(ends, _)| now.boot_of(ends.after(1)));
        let reuse = self.reuse.first().map(|(due, _)| now.boot_of(due.after(1)));
        [
            self.startup_until,
            self.redial_at.filter(|_| self.session.is_none()),
            self.auto_partner_down_at,
            self.recover_wait_at,
            self.balance_at,
            session.map(Session::next_deadline),
            self.half_open.iter().map(|half| half.until).min(),
            self.updates.next_deadline().filter(|_| session.is_some()),
            held,
            later,
            reuse,
            self.survey_due(),
            // The rest of the partner's request, a slice in each turn.
            self.updates.request_to_walk().filter(|_| session.is_some()).map(|_| now.boot),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What may be done with client traffic now.
    #[must_use]
    pub const fn service(&self) -> Service {
        self.service
    }

    /// Own state; startup while starting.
    #[must_use]
    pub const fn state(&self) -> State {
        if self.startup_until.is_some() { State::Startup } else { self.state }
    }

    /// The partner's state as last heard.
    #[must_use]
    pub const fn partner_state(&self) -> State {
        self.partner
    }

    /// Own role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.settings.role
    }

    /// Maximum client lead time in force, seconds.
    #[must_use]
    pub const fn mclt_secs(&self) -> u32 {
        self.mclt_secs
    }

    /// Whether the handshake with the partner is complete.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    /// The state record as it stands.
    #[must_use]
    pub const fn record(&self) -> StateRecord {
        StateRecord {
            mine: self.state,
            mine_since: self.since,
            partner: self.partner,
            partner_since: self.partner_since,
            mclt_secs: match self.settings.role {
                Role::Primary => None,
                Role::Secondary => Some(self.mclt_secs),
            },
        }
    }

    /// Whether a new client with this balance key is ours (failover.md 6, rules 1 and 2). `secs` is the field of its
    /// message in host order. Where this says no, the engine still answers a DISCOVER when the partner has no
    /// allocatable address in the shared network, and is silent otherwise.
    #[must_use]
    pub fn is_my_client(&self, key: &[u8], secs: u16, check_byte_order: bool) -> bool {
        match self.service {
            Service::Startup | Service::NotResponding => false,
            Service::NotCooperating | Service::PartnerDown => true,
            Service::Cooperating => {
                has_waited(secs, self.settings.load_balance_secs_max, check_byte_order) || !self.is_partners_key(key)
            }
        }
    }

    /// The hash values whose clients are answered here when both servers hear them; `None` while nobody is answered.
    #[must_use]
    pub fn answered_buckets(&self) -> Option<[u8; 32]> {
        match self.service {
            Service::Startup | Service::NotResponding => None,
            Service::NotCooperating | Service::PartnerDown => Some([0xff; 32]),
            Service::Cooperating if self.settings.load_balance_secs_max == 0 => Some([0xff; 32]),
            Service::Cooperating => {
                let primarys = self.buckets.map_or([0xff; 32], |Buckets(bits)| bits);
                Some(match self.settings.role {
                    Role::Primary => primarys,
                    Role::Secondary => primarys.map(|bits| !bits),
                })
            }
        }
    }

    /// Whether this address may be given to a new client.
    #[must_use]
    pub fn is_mine_to_allocate(&self, binding: &Binding, now: WallTime) -> bool {
        rules::is_mine_to_allocate(self.settings.role, self.alone(), binding, now)
    }

    /// Whether addresses that were the partner's to give may be used now, as far as nothing about the single address
    /// speaks against it: in partner-down, when everything that the partner may have promised is over.
    #[must_use]
    pub fn takes_partners_addresses(&self, now: WallTime) -> bool {
        self.alone().is_some_and(|alone| now > alone.partner_promise(&Binding::virgin(Ipv4Addr::UNSPECIFIED)))
    }

    /// Lease time and potential expiry for a client that wants `want` seconds ([`times::WANT_FOREVER`]: for ever);
    /// `from_partner` is the lease's before the request.
    #[must_use]
    pub fn grant(&self, want: u32, from_partner: WallTime, now: WallTime) -> Grant {
        let secs =
            if self.is_unlimited() { want } else { times::granted_secs(want, from_partner, self.mclt_secs, now) };
        Grant { secs, told_partner: times::potential_expiry(want, secs, from_partner, now) }
    }

    /// The latest instant that the client of a lease may be told without asking the partner again (I7).
    #[must_use]
    pub fn horizon(&self, from_partner: WallTime, now: WallTime) -> WallTime {
        if self.is_unlimited() { WallTime::NEVER } else { times::horizon(from_partner, self.mclt_secs, now) }
    }

    /// Whether a local change will be told to the partner at once: its record then carries `rewind = state`, which
    /// saves a second record before the update is sent.
    #[must_use]
    pub fn tells_at_once(&self) -> bool {
        self.session.as_ref().is_some_and(Session::may_send)
    }

    /// What a lease becomes when its client releases it or the administrator resets it: store the result, then report
    /// [`Input::Changed`].
    #[must_use]
    pub fn retired(&self, binding: Binding, to: BindingState, now: WallTime) -> Binding {
        let is_interrupted = self.service == Service::NotCooperating;
        let mut binding = rules::retired(binding, to, self.settings.role, is_interrupted, now);
        self.stamp(&mut binding);
        binding
    }

    /// What a lease becomes when its address is declined or answers a probe: store the result, then report
    /// [`Input::Changed`].
    #[must_use]
    pub fn abandoned(&self, binding: Binding, until: WallTime, now: WallTime) -> Binding {
        let mut binding = rules::abandoned(binding, until, now);
        self.stamp(&mut binding);
        binding
    }

    /// Marks what a client has changed, with the lease as it was before: [`Endpoint::stamp`], and what the partner may have
    /// accepted without our knowing is kept.
    pub fn stamp_after(&self, before: &Binding, binding: &mut Binding) {
        rules::keep_told(before, binding);
        self.stamp(binding);
    }

    /// Marks a local change: nothing acknowledged, and sent when it can be sent.
    pub fn stamp(&self, binding: &mut Binding) {
        binding.acked_partner = WallTime::NONE;
        if self.tells_at_once() {
            binding.rewind = binding.state;
        }
    }

    /// Whether leases are whole whatever the partner knows. Not while it listens: what it is told of now need not be
    /// answered when it has caught up and serves again, perhaps without us (I7).
    const fn is_unlimited(&self) -> bool {
        matches!(self.service, Service::PartnerDown)
            && self.session.is_none()
            && !self.settings.keeps_mclt_in_partner_down
    }

    fn alone(&self) -> Option<Alone> {
        (self.state == State::PartnerDown && self.startup_until.is_none()).then_some(self.alone_since(self.since))
    }

    const fn alone_since(&self, since: WallTime) -> Alone {
        Alone { since, mclt_secs: self.mclt_secs, slack_secs: self.slack_secs }
    }

    fn is_partners_key(&self, key: &[u8]) -> bool {
        let is_primarys = self.buckets.is_none_or(|buckets| buckets.is_primary(key));
        match self.settings.role {
            Role::Primary => !is_primarys,
            Role::Secondary => is_primarys,
        }
    }

    fn log(&mut self, level: Level, text: impl Into<String>) {
        self.effects.push_back(Effect::Log(level, text.into()));
    }

    const fn token(&mut self) -> Token {
        let token = Token(self.token_next);
        self.token_next = self.token_next.wrapping_add(1);
        token
    }

    /// xorshift64*: spreads timers, nothing that anybody must not guess.
    const fn random_below(&mut self, bound: u32) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let high = (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32;
        if bound == 0 { 0 } else { high % bound }
    }

    /// Stores a changed lease and remembers that the engine has to look at it.
    fn store(&mut self, leases: &mut dyn Leases, binding: Binding) -> Seq {
        self.moved.push(binding.address);
        let seq = leases.store(binding);
        self.outbox.note(seq);
        seq
    }

    /// Lets out what may be sent, and reports what moved.
    fn flush(&mut self, now: Now) {
        if !self.moved.is_empty() {
            let moved = std::mem::take(&mut self.moved);
            self.effects.push_back(Effect::Moved(moved));
        }
        let Some(session) = &mut self.session else { return };
        if self.outbox.release(session.link, &mut self.effects) {
            session.note_sent(now.boot);
        }
    }
}
