//! The DHCP server itself: packets, peers, commands and the time in; effects out. Touches nothing.
//!
//! ```text
//!   Packet --request--> who, where, what       Durable --gate--> Send, Arm, Extend
//!     DISCOVER/REQUEST --find--> address --grant--> terms, reply --> Append, (Durable) Send, Arm
//!     RELEASE/DECLINE/expiry of an armed lease: Revoke, park, .. Revoked: absorb, go on
//!   Renewed --kernel--> starts, ends and cltt move, the horizon when it has to
//! ```
//!
//! - `request` reads a message, `find` chooses the address (dhcpd: find_lease), `terms` the lease time.
//! - `explain` tells what became of a message.
//! - `compose` evaluates the scopes and makes the reply, for the slow path and for the kernel's templates alike.
//! - `elsewhere` remembers for a moment who has chosen another server.
//! - `packet` sorts messages, `offer` and `grant` offer and acknowledge, `surrender` takes leases back, `inform` tells.
//! - `promise` keeps what the kernel may say; `kernel` predicts questions, arms, absorbs what the kernel reports.
//! - `guard` watches for clients that ask for more than their share, and refuses them where that is wanted.
//! - `herd` tells a crowd that comes at once to come back apart; `churn` is about visitors that never come back.
//! - `intake` puts what has arrived in order before any of it is looked at.
//! - `reload` puts another configuration into its place; `shape` remembers how questions are asked, for `rearm` to arm them anew.
//! - `adopt` takes over what an earlier agent left, in the leases and in the kernel.
//! - `gate` holds back what rests on a record until that is durable (I8).
//! - `step` keeps promises where they are when somebody sets the wall clock.
//! - `storm` says what of a storm is not worth reading; whoever reads the sockets asks it first.
//! - `peers` is the seam to failover: what a peer's state means for clients; `partners` feeds the endpoints and does
//!   what they want, `shelf` is how they reach the leases.
//!
//! Guards I1 (an armed address is revoked before anybody else gets it), I5 (doubt is not armed), I6 (`limits`), I7
//! (horizons within what the partner agreed to) and I8.

mod adopt;
mod alike;
mod bills;
mod churn;
mod compose;
mod elsewhere;
pub mod explain;
mod extra;
mod facts;
mod find;
mod foresee;
mod gate;
mod grant;
mod guard;
mod herd;
mod hoard;
mod inform;
pub mod intake;
mod kernel;
mod learnt;
mod leasequery;
pub mod limits;
mod lines;
mod offer;
mod packet;
mod partners;
mod peers;
pub mod port;
mod probe;
mod promise;
mod rearm;
pub mod reload;
mod reply;
mod request;
mod route;
mod shape;
mod shelf;
pub mod status;
mod step;
pub mod storm;
mod surrender;
mod terms;
mod thresholds;

use std::{collections::VecDeque, fmt, net::Ipv4Addr, sync::Arc, time::Duration};

use dhcp_ebpf::abi::{DigestKey, Generation};
use hashbrown::HashMap;

use crate::{
    config::{Config, PoolId, SharedNetworkId},
    lease::{
        BindingState, Lease, PoolIndex, Table,
        journal::{self, Format, PeerState},
        time::{BootTime, Now, WallTime},
    },
};

use bills::Bills;
pub use churn::is_random;
pub use compose::Source;
use elsewhere::Elsewhere;
use explain::Story;
use extra::Asked;
use find::Search;
use gate::Gate;
use guard::Guard;
use herd::Window;
use lines::Lines;
use peers::Peer;
use port::{Effect, Input, Interface, InterfaceIndex, JournalSeq, Level, Standing, Token, Verbs};
use probe::Probes;
use promise::Promises;
use reload::Reloading;
pub use request::{Urgency, urgency};
use route::Ports;
pub use status::Status;
use status::{Easing, FastPathStatus, JournalStatus, NotArmed, PeerStatus, PoolStatus, Reason, Received, Sent, Tally};

/// What an engine is born with besides its configuration and its leases.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Seed of everything random.
    pub seed: u64,
    /// Key of the question digest, the one in the kernel's control map.
    pub digest_key: DigestKey,
    /// Whether leases are armed in the kernel.
    pub fast_path: bool,
    /// Generation of the configuration, the one in the kernel's control map.
    pub generation: Generation,
    /// What an earlier agent left in the kernel.
    pub adopted: Vec<Standing>,
    /// Failover states found in the leases file, the last record of each peer.
    pub peer_states: Vec<PeerState>,
    /// How records are written.
    pub format: Format,
    /// Number of the last journal record already written.
    pub journal_seq: JournalSeq,
    /// A REQUEST that names another server in option 54 is left to that server (RFC 2131 4.3.2); dhcpd answers it.
    pub honours_server_id: bool,
    /// Only the holder of a lease, or who was offered it, can DECLINE it; dhcpd lets anybody.
    pub checks_decliner: bool,
    /// The least urgent lines that anybody reads: others are not even made.
    pub least_level: Level,
}

impl EngineOptions {
    /// The safe choice for everything.
    #[must_use]
    pub fn new(seed: u64, digest_key: DigestKey) -> Self {
        Self {
            seed,
            digest_key,
            fast_path: true,
            generation: Generation::new(1),
            adopted: Vec::new(),
            peer_states: Vec::new(),
            format: Format::default(),
            journal_seq: JournalSeq(0),
            honours_server_id: true,
            checks_decliner: true,
            least_level: Level::Debug,
        }
    }
}

/// A DHCP server without sockets, clocks or files.
#[derive(Debug)]
pub struct Server {
    config: Arc<Config>,
    table: Table,
    options: EngineOptions,
    ports: Ports,
    /// Interfaces, each with the network it is attached to.
    interfaces: Vec<(Arc<Interface>, Option<SharedNetworkId>)>,
    effects: VecDeque<Effect>,
    gate: Gate,
    /// The last record of an address, while it may not be durable, and the exchange that it belongs to.
    records: HashMap<Ipv4Addr, (JournalSeq, Option<[u8; 4]>)>,
    promises: Promises,
    reloading: Reloading,
    /// What becomes of the next message, if somebody wants to know.
    story: Option<Box<Story>>,
    probes: Probes,
    bills: Bills,
    guard: Guard,
    elsewhere: Elsewhere,
    /// Per pool: what was granted lately.
    herds: Vec<Window>,
    peers: Vec<Peer>,
    /// Leases of failover pools that clients changed and their partners have not been told of, with their records.
    changed: Vec<(usize, Ipv4Addr, JournalSeq)>,
    /// What clients of shared pools asked, for their partners.
    asked: HashMap<Ipv4Addr, Asked>,
    /// Leases that came from a partner in this turn.
    learnt: Vec<Ipv4Addr>,
    /// Leases that an endpoint ended: their statements are still to run.
    ended: Vec<Lease>,
    lines: Lines,
    /// Per pool: its high mark was reached and said.
    thresholds: Vec<bool>,
    next_token: u64,
    /// The clocks at the last input.
    clock: Now,
    /// Where the records that a step of the wall clock has changed are written on from.
    stepped: Option<Ipv4Addr>,
    is_stopping: bool,
    received: Tally<Received>,
    sent: Tally<Sent>,
    ignored: Tally<Reason>,
    not_armed: Tally<NotArmed>,
    storm: Tally<Easing>,
    informs_unanswered: u64,
}

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is done with.
    Done,
    /// It is not answered.
    Ignored(Reason),
    /// It has to wait for a revocation.
    Await(Token),
}

impl Server {
    /// A server with this configuration and these leases. Nothing has been said to anybody yet; the first input should
    /// be [`Input::Interfaces`].
    #[must_use]
    pub fn new(config: Config, table: Table, options: EngineOptions, now: Now) -> Self {
        let mut server = Self {
            ports: Ports::of(&config.process),
            table,
            gate: Gate::new(options.journal_seq),
            interfaces: Vec::new(),
            effects: VecDeque::new(),
            records: HashMap::new(),
            promises: Promises::default(),
            reloading: Reloading::default(),
            story: None,
            probes: Probes::default(),
            bills: Bills::default(),
            guard: Guard::default(),
            elsewhere: Elsewhere::default(),
            herds: vec![Window::default(); config.pools.len()],
            peers: Vec::new(),
            changed: Vec::new(),
            asked: HashMap::new(),
            learnt: Vec::new(),
            ended: Vec::new(),
            lines: Lines::default(),
            thresholds: vec![false; config.pools.len()],
            config: Arc::new(config),
            next_token: 1,
            clock: now,
            stepped: None,
            is_stopping: false,
            received: Tally::new(),
            sent: Tally::new(),
            ignored: Tally::new(),
            not_armed: Tally::new(),
            storm: Tally::new(),
            informs_unanswered: 0,
            options,
        };
        let standing = std::mem::take(&mut server.options.adopted);
        server.make_peers(now);
        let owned = server.adopt_words(&standing, now);
        server.begin_peers(now);
        server.inherit(&standing, &owned, now);
        server
    }

    /// All leases that say anything, in address order, with what the engine knows (not what the kernel has not yet
    /// reported).
    pub fn leases(&self) -> impl Iterator<Item = Lease> + '_ {
        self.table.iter()
    }

    /// Failover states as the leases file records them.
    pub fn peer_states(&self) -> impl Iterator<Item = PeerState> + '_ {
        self.peers.iter().map(Peer::state)
    }

    /// The table, for snapshots in slices.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Whether the kernel may answer for this address now.
    #[must_use]
    pub fn is_armed(&self, address: Ipv4Addr) -> bool {
        self.promises.is_armed(address)
    }

    /// Armed leases that would expire now as far as the engine knows: the shell asks the kernel about them before it says
    /// [`Input::Timeout`], and those that it has renewed stay armed.
    #[must_use]
    pub fn due(&self, now: Now) -> Vec<Ipv4Addr> {
        let mut due = self.table.due(expiry_line(now), limits::EXPIRY_BATCH_COUNT);
        due.retain(|address| self.promises.is_armed(*address));
        due
    }

    /// Whether nothing waits for the journal or for a revocation: after [`Input::Stop`] the agent may go.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let (appended, durable) = self.gate.seqs();
        appended == durable && self.promises.revoking_count() == 0 && self.effects.is_empty()
    }

    /// Stores a lease and hands its record out.
    fn commit(&mut self, lease: Lease) -> JournalSeq {
        self.commit_for(lease, None)
    }

    /// Stores a lease that a client's exchange brought about; a partner that shares it will be told.
    fn commit_for(&mut self, mut lease: Lease, xid: Option<[u8; 4]>) -> JournalSeq {
        let address = lease.address;
        let partner = self.stamp(&mut lease);
        let seq = self.write(lease, xid);
        if let Some(partner) = partner {
            self.changed.push((partner, address, seq));
        }
        seq
    }

    /// Stores a lease and hands its record out.
    fn write(&mut self, lease: Lease, xid: Option<[u8; 4]>) -> JournalSeq {
        let mut record = Vec::with_capacity(320);
        journal::write_lease(&lease, self.options.format, &mut record);
        let address = lease.address;
        self.table.set_limit(address, WallTime::NONE);
        if lease.state != BindingState::Active {
            self.asked.remove(&address);
        }
        self.keep(lease);
        let seq = self.gate.append(record, &mut self.effects);
        self.records.insert(address, (seq, xid));
        seq
    }

    /// Stores a lease in memory only.
    fn keep(&mut self, lease: Lease) {
        let counts_places = self.guard.counts_leases() || lease.agent_options.is_some();
        let counts_bills = self.bills.is_used() || lease.billing.is_some();
        let old = if counts_places || counts_bills { self.table.get(lease.address) } else { None };
        if let Some(old) = &old {
            self.bills.count_out(old);
            self.guard.count_out(&self.config, old);
        }
        self.bills.count_in(&lease);
        self.guard.count_in(&self.config, &lease);
        self.table.put(lease);
    }

    /// The record that everything said about an address rests on.
    fn record_of(&self, address: Ipv4Addr) -> JournalSeq {
        self.records.get(&address).map(|(seq, _)| *seq).unwrap_or_default()
    }

    /// Whether the ACK of this very exchange waits for the disk.
    fn is_under_way(&self, address: Ipv4Addr, xid: [u8; 4]) -> bool {
        let (_, durable) = self.gate.seqs();
        self.records.get(&address).is_some_and(|(seq, of)| *seq > durable && *of == Some(xid))
    }

    /// Writes a line, as long as somebody reads it and there are not too many of its kind in this second.
    fn log(&mut self, level: Level, line: impl fmt::Display) {
        // One message too many is not worth a line that somebody reads.
        let level = if self.guard.is_noisy { Level::Debug } else { level };
        if self.is_heard(level) {
            self.effects.push_back(Effect::Log(level, line.to_string()));
        }
    }

    /// Whether a line of this level is worth making; says before it how many were not.
    fn is_heard(&mut self, level: Level) -> bool {
        if level < self.options.least_level {
            return false;
        }
        let (is_admitted, summary) = self.lines.admit(level, self.clock.boot);
        self.effects.extend(summary.map(|line| Effect::Log(Level::Warn, line)));
        is_admitted
    }

    fn draw_token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token = self.next_token.wrapping_add(1);
        token
    }

    fn search<'s>(&'s self, config: &'s Config, now: Now) -> Search<'s> {
        Search { config, table: &self.table, peers: &self.peers, now: now.wall }
    }

    /// The partner that shares a pool.
    fn peer_of_pool(&self, pool: Option<PoolId>) -> Option<&Peer> {
        self.peers.get(self.config.pool(pool?).failover?.0)
    }

    fn set_interfaces(&mut self, interfaces: Vec<Interface>) {
        // What the kernel was armed with carries addresses of the interface that each request came through.
        let is_kept = |old: &Interface| {
            interfaces.iter().any(|new| {
                new.index == old.index && (new.mac, &new.addresses, &new.name) == (old.mac, &old.addresses, &old.name)
            })
        };
        if !self.interfaces.iter().all(|(old, _)| is_kept(old)) {
            self.disarm_all();
        }
        self.reloading.alike.forget();
        self.interfaces = interfaces
            .into_iter()
            .map(|interface| {
                let network = self.config.shared_network_of_interface(&interface.name, &interface.addresses);
                (Arc::new(interface), network)
            })
            .collect();
    }

    fn interface(&self, index: InterfaceIndex) -> Option<(Arc<Interface>, Option<SharedNetworkId>)> {
        let (interface, network) = self.interfaces.iter().find(|(interface, _)| interface.index == index)?;
        Some((Arc::clone(interface), *network))
    }
}

/// Index of a failover peer in the kernel's serving table; 0 is "no failover".
fn serving_index(peer: usize) -> u8 {
    u8::try_from(peer.saturating_add(1)).unwrap_or(u8::MAX)
}

impl Verbs for Server {
    type Status = Status;

    fn handle(&mut self, input: Input<'_>, now: Now) {
        self.read_clocks(now);
        self.guard.is_noisy = false;
        match input {
            Input::Packet(received) => self.handle_packet(received, now),
            Input::Durable(seq) => {
                self.gate.pass(seq, &mut self.effects, |effect| self.promises.still_wants(effect));
                let (appended, durable) = self.gate.seqs();
                if appended == durable {
                    self.records.clear();
                }
                self.tell_durable(now);
            }
            Input::JournalFailed(why) => {
                self.log(Level::Error, format!("the journal cannot be written: {why}"));
                self.gate.fail(why);
            }
            Input::JournalRestored => {
                self.gate.restore(&mut self.effects, |effect| self.promises.still_wants(effect));
                self.records.clear();
                self.tell_durable(now);
            }
            Input::Interfaces(interfaces) => self.set_interfaces(interfaces),
            Input::Revoked(token, words) => self.handle_revoked(token, &words, now),
            Input::Returned(words) => self.take_words(&words, now),
            Input::Renewed(words) => self.handle_renewed(&words, now),
            Input::Probed(token, is_in_use) => self.handle_probed(token, is_in_use, now),
            Input::Reload(reload) => self.handle_reload(*reload, now),
            Input::Timeout => {
                self.poll_peers(now);
                self.expire(now);
                self.reload_slice(now);
                self.write_step();
            }
            Input::Stop { leaves_kernel } => self.stop(leaves_kernel, now),
            Input::Peer(input) => self.handle_peer(&input, now),
            Input::Survey => self.survey(now),
        }
        self.tell_changes(now);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<BootTime> {
        let is_waiting = self.is_stopping || self.gate.failure().is_some();
        let expiry = if is_waiting { None } else { self.table.next_expiry() };
        let expiry = expiry.map(|at| self.clock.boot_of(at.after(limits::EXPIRY_GRACE_SECS)));
        let has_slices = !is_waiting && (self.reloading.wants_time() || self.stepped.is_some());
        // Whoever drives this serves clients between two slices; only what is written to the disk leaves it time.
        let pause = if self.reloading.wants_time() { Duration::ZERO } else { limits::SLICE_PAUSE };
        let slice = has_slices.then(|| self.clock.boot.after(pause));
        self.next_peer_timeout().into_iter().chain(expiry).chain(slice).min()
    }

    fn status(&self) -> Status {
        let (appended, durable) = self.gate.seqs();
        Status {
            generation: self.options.generation.number(),
            received: self.received.list(),
            sent: self.sent.list(),
            ignored: self.ignored.list(),
            journal: JournalStatus {
                appended,
                durable,
                waiting: self.gate.waiting_count(),
                failure: self.gate.failure().map(str::to_owned),
            },
            fast_path: FastPathStatus {
                enabled: self.options.fast_path,
                not_armed: self.not_armed.list(),
                rearming: self.reloading.rearming_count(),
                ..self.promises.status()
            },
            guard: self.guard_status(),
            storm: self.storm.list(),
            pools: self.pool_statuses(),
            peers: self.peers.iter().map(|peer| peer_status(peer, self.clock)).collect(),
        }
    }
}

impl Server {
    fn pool_statuses(&self) -> Vec<PoolStatus> {
        let config = &self.config;
        let of_pool = |(number, pool): (usize, &crate::config::Pool)| {
            let counts = self.table.counts(PoolIndex(number));
            let of = |state| u64::from(counts.of(state));
            PoolStatus {
                network: config.shared_network(pool.shared_network).name.to_string(),
                ranges: pool.ranges.iter().map(|range| (range.first, range.last)).collect(),
                total: u64::from(counts.total),
                free: of(BindingState::Free),
                backup: of(BindingState::Backup),
                active: of(BindingState::Active),
                expired: of(BindingState::Expired),
                released: of(BindingState::Released),
                abandoned: of(BindingState::Abandoned),
                reset: of(BindingState::Reset),
                peer: pool.failover.map(|peer| config.failover_peer(peer).name.to_string()),
            }
        };
        config.pools.iter().enumerate().map(of_pool).collect()
    }
}

fn peer_status(peer: &Peer, now: Now) -> PeerStatus {
    let state = peer.state();
    PeerStatus {
        name: peer.name.to_string(),
        is_primary: peer.is_primary(),
        my_state: peer.endpoint.state().name(),
        my_since: state.my_since.secs(),
        partner_state: state.partner_state.name(),
        partner_since: state.partner_since.secs(),
        service: peer.service().name(),
        is_serving: peer.is_serving(),
        traffic: peer.endpoint.traffic(now),
    }
}

/// The addresses of a configuration, as the lease table wants them. `hash_key` should be random: clients choose what
/// is hashed.
#[must_use]
pub fn layout(config: &Config, hash_key: [u64; 2]) -> crate::lease::Layout {
    crate::lease::Layout { pools: pools_of(config), hash_key }
}

fn pools_of(config: &Config) -> Vec<crate::lease::PoolLayout> {
    let pool = |pool: &crate::config::Pool| crate::lease::PoolLayout {
        ranges: pool.ranges.iter().map(|range| (range.first, range.last)).collect(),
        is_failover: pool.failover.is_some(),
    };
    config.pools.iter().map(pool).collect()
}

/// How a configuration wants records to be written; `utc_offset_secs` is for the comments of local dates.
#[must_use]
pub fn format(config: &Config, utc_offset_secs: i32) -> Format {
    use crate::config::{DbTimeFormat, LeaseIdFormat};
    use crate::lease::journal::{DateFormat, IdFormat};
    Format {
        dates: match config.process.db_time_format {
            DbTimeFormat::Default => DateFormat::Default,
            DbTimeFormat::Local => DateFormat::Local { utc_offset_secs },
        },
        ids: match config.process.lease_id_format {
            LeaseIdFormat::Octal => IdFormat::Octal,
            LeaseIdFormat::Hex => IdFormat::Hex,
        },
    }
}

/// `now`, a little earlier: a lease has run out for others only when it has for the client as well, whatever the
/// fractions of seconds that the clocks do not show.
fn expiry_line(now: Now) -> WallTime {
    WallTime::from_secs(u64::from(now.wall.secs().saturating_sub(limits::EXPIRY_GRACE_SECS)))
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
