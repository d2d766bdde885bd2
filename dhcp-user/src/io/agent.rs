//! The event loop: one thread that owns the engine, feeds it and does what it says.
//!
//! ```text
//!   turn:  everything that is there --handle--> engine
//!          engine --poll_effect--> journal, sockets, kernel, probes, log
//!          replies leave together, then the loop sleeps until something happens or the alarm rings
//! ```
//!
//! Work in slices (leases armed anew, ranges laid out, expiries) is gone on with for a millisecond, then the loop looks
//! whether anybody has come, and whoever has comes first.
//!
//! A turn takes all packets that have arrived before it looks at effects, so that one sync of the journal serves
//! them all. Whatever could wait (the disk, grace periods, operators) is done elsewhere and reports by a channel
//! or a descriptor.

mod effects;
mod links;
mod operator;
mod restore;

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    path::PathBuf,
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
};
use tracing::{error, info, warn};

use self::restore::Restore;
use crate::{
    control::{listener::Asked, message::Answer},
    engine::{
        Server,
        intake::Intake,
        port::{Input, Interface, Level, Received, Verbs as _},
    },
    io::{
        clock::{self, Alarm},
        fastpath::{Attachment, FastPath},
        interfaces::{self, Found},
        journal::{Journal, JournalEvent},
        log::Log,
        mark::Mark,
        network::{FRAMES_PER_TURN, Network},
        peers::{PeerEvent, Peers},
        probe::Probes,
        programs::Programs,
        reload::{Prepared, Reloader},
        rounds::Rounds,
        signals::{Signal, Signals},
        snapshot,
        watch::Watch,
    },
    lease::{
        journal::{Format, Record},
        time::{BootTime, Now},
    },
};

/// How long work in slices is gone on with before the loop looks whether somebody waits: a client does not notice, and
/// those that come meanwhile share a sync.
const SLICES_TIME: Duration = Duration::from_millis(1);
/// How long interfaces are left to settle before they are listed again.
const SETTLE: Duration = Duration::from_millis(100);
/// How long a stop waits for the disk.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How often a turn reads when more has arrived than it handles: fair shares need something to choose from.
const READS_PER_TURN: usize = 2;
/// Pieces from failover partners that are taken before the others get their turn: with 1400 acknowledgements in each, ten
/// milliseconds.
const PEER_EVENTS_PER_TURN: usize = 2;

/// What the loop is made of.
#[derive(Debug)]
pub struct Parts {
    /// The engine.
    pub server: Server,
    /// Sockets, on no interface yet.
    pub network: Network,
    /// Connections with failover partners.
    pub peers: Peers,
    /// The journal.
    pub journal: Journal,
    /// What the journal reports.
    pub journal_events: mpsc::UnboundedReceiver<JournalEvent>,
    /// How records are written.
    pub format: Format,
    /// Records of the leases file that are neither leases nor failover states, kept for a restore.
    pub others: Vec<Record>,
    /// Operators' questions; `None` when there is no control socket.
    pub questions: Option<mpsc::Receiver<Asked>>,
    /// The log.
    pub log: Log,
    /// Interfaces named on the command line.
    pub named: Vec<String>,
    /// Marks this server's echo requests.
    pub ident: [u8; 2],
    /// Says that the kernel may have promised more than the records, until a clean stop.
    pub mark: Mark,
    /// Reads configurations that are to take over.
    pub reloader: Reloader,
    /// Whether `execute` statements run their programs.
    pub runs_programs: bool,
    /// Whether the kernel goes on answering after a stop.
    pub stays_attached: bool,
    /// One of how many fast replies is checked; zero = none.
    pub shadow: u32,
    /// Folder for what the check finds.
    pub evidence: PathBuf,
    /// What status output says about this process.
    pub about: About,
}

/// What status output says about this process.
#[derive(Debug, Clone)]
pub struct About {
    /// Configuration file.
    pub config: PathBuf,
    /// Leases file.
    pub leases: PathBuf,
    /// When the server started.
    pub started: BootTime,
}

/// A descriptor of the fast path, which keeps it open as long as it lives.
#[derive(Debug)]
struct Watched(RawFd);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// The running server.
pub struct Agent {
    // Dropped before the fast path that owns the descriptors.
    events_fd: Option<AsyncFd<Watched>>,
    revoked_fd: Option<AsyncFd<Watched>>,
    fast_path: Box<dyn FastPath>,
    parts: Parts,
    probes: Probes,
    alarm: Alarm,
    changes: AsyncFd<OwnedFd>,
    relist_at: Option<BootTime>,
    rounds: Rounds,
    restore: Option<Restore>,
    intake: Intake,
    /// More has arrived than the last turn handled.
    is_crowded: bool,
    /// The engine has more to do in slices.
    is_slicing: bool,
    programs: Programs,
    watch: Watch,
    /// Operators who wait for the failover relationships to have looked at their leases.
    curious: Vec<oneshot::Sender<Answer>>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("parts", &self.parts).finish_non_exhaustive()
    }
}

/// What happened, as far as the borrow of the loop's parts allows to say it in one word.
enum Happened {
    Signal(Signal),
    Journal(Option<JournalEvent>),
    Alarm,
    Slices,
    Revoked,
    Events,
    Links,
    Probed,
    Asked(Option<Asked>),
    Peer(PeerEvent),
    Packets,
    Prepared(Result<Box<Prepared>, String>),
}

impl Agent {
    /// Puts the parts together, listens on `interfaces`, and tells the engine. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The first thing the kernel refused, in a sentence.
    pub fn new(
        mut parts: Parts,
        mut fast_path: Box<dyn FastPath>,
        interfaces: Vec<Interface>,
        found: &[Found],
    ) -> Result<Self, String> {
        let system = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        parts.network.serve(&interfaces, found).map_err(|(name, error)| open_error(&name, &error))?;
        let changes = interfaces::watch().map_err(system("netlink socket"))?;
        // SAFETY: an `OwnedFd` keeps its descriptor open, and the same one, as long as it is registered.
        let changes = unsafe { AsyncFd::register_with_interest(changes, Interest::READABLE) }
            .map_err(|error| format!("netlink socket: {}", io::Error::from(error)))?;
        let alarm = Alarm::new().map_err(system("timer"))?;
        fast_path.serve(&interfaces);
        fast_path.set_shadow(parts.shadow);
        let watched = Watch::new(parts.shadow, parts.evidence.clone());
        let events_fd = watch(fast_path.event_fd())?;
        let revoked_fd = watch(fast_path.revoked_fd())?;
        let probes = Probes::new(parts.ident);
        let programs = Programs::new(parts.runs_programs);
        let now = clock::now();
        fast_path.heartbeat(now.boot);
        let mut agent = Self {
            events_fd,
            revoked_fd,
            fast_path,
            parts,
            probes,
            alarm,
            changes,
            relist_at: None,
            rounds: Rounds::new(now.boot),
            restore: None,
            intake: Intake::default(),
            is_crowded: false,
            is_slicing: false,
            programs,
            watch: watched,
            curious: Vec::new(),
        };
        agent.parts.server.handle(Input::Interfaces(interfaces), now);
        agent.run_effects();
        Ok(agent)
    }

    /// How the fast path stands on each interface served.
    #[must_use]
    pub fn attachments(&self) -> Vec<Attachment> {
        self.fast_path.attachments()
    }

    /// Serves until a signal says stop.
    ///
    /// # Errors
    /// What made it impossible to go on.
    pub async fn run(mut self, mut signals: Signals) -> Result<(), String> {
        loop {
            self.run_effects();
            self.parts.log.flush();
            self.alarm.set(Some(self.next_alarm())).map_err(|error| format!("timer: {error}"))?;
            match self.next(&mut signals).await {
                Happened::Signal(Signal::Stop) => break,
                Happened::Signal(Signal::Ignored) => {}
                // What still waits goes on, behind what is more urgent and has come meanwhile.
                Happened::Alarm if !self.intake.is_empty() => self.on_packets(),
                // What is to be done by now is done below.
                Happened::Alarm | Happened::Slices => {}
                Happened::Signal(Signal::Reload) => self.reload(None),
                Happened::Prepared(Ok(prepared)) => {
                    let reload = self.parts.reloader.begin(*prepared);
                    self.parts.format = reload.format;
                    self.parts.server.handle(Input::Reload(reload), clock::now());
                }
                Happened::Prepared(Err(why)) => {
                    if self.parts.reloader.refuse(&why) {
                        self.reload(None);
                    }
                }
                Happened::Journal(Some(event)) => self.on_journal(event),
                Happened::Journal(None) => return Err("the journal's thread is gone".to_owned()),
                Happened::Revoked => {
                    self.on_revoked();
                    // A generation that ends comes back in many parts.
                    self.on_packets();
                }
                Happened::Events => self.on_events(),
                Happened::Links => {
                    // It ends with WouldBlock, which clears the readiness.
                    let _ = self.changes.try_io(Interest::READABLE, interfaces::drain);
                    self.relist_at.get_or_insert(clock::boot_time().after(SETTLE));
                }
                Happened::Probed => self.on_probed(),
                Happened::Asked(Some(asked)) => self.answer(asked),
                Happened::Asked(None) => return Err("the control socket's task is gone".to_owned()),
                Happened::Peer(event) => {
                    self.on_peer(event);
                    // A partner that has much to say keeps no client waiting.
                    self.on_packets();
                }
                Happened::Packets => self.on_packets(),
            }
            self.on_time();
        }
        self.stop().await;
        Ok(())
    }

    async fn next(&mut self, signals: &mut Signals) -> Happened {
        let Self { events_fd, revoked_fd, parts, probes, alarm, changes, is_slicing, .. } = self;
        tokio::select! {
            biased;
            signal = signals.next() => Happened::Signal(signal),
            event = parts.journal_events.recv() => Happened::Journal(event),
            () = readable(revoked_fd.as_ref()) => Happened::Revoked,
            () = alarm.rung() => Happened::Alarm,
            () = readable(events_fd.as_ref()) => Happened::Events,
            _ = changes.readable() => Happened::Links,
            () = std::future::poll_fn(|context| probes.poll_ready(context)) => Happened::Probed,
            asked = question(parts.questions.as_mut()) => Happened::Asked(asked),
            event = parts.peers.next() => Happened::Peer(event),
            prepared = parts.reloader.ready() => Happened::Prepared(prepared),
            () = std::future::poll_fn(|context| parts.network.poll_ready(context)) => Happened::Packets,
            // The runtime looks at all descriptors in between, so this comes when nothing else has.
            () = tokio::task::yield_now(), if *is_slicing => Happened::Slices,
        }
    }

    fn on_packets(&mut self) {
        let Self { parts: Parts { server, network, .. }, intake, is_crowded, fast_path, watch, .. } = self;
        let now = clock::now();
        let mut take = |received: Received<'_>| {
            if !watch.is_idle() {
                watch.look(&received, &**fast_path, now);
            }
            server.handle(Input::Packet(received), now);
        };
        if !*is_crowded && intake.is_empty() {
            let count = network.receive(&mut take);
            *is_crowded = count >= FRAMES_PER_TURN;
            return;
        }
        let mut is_full = true;
        for _ in 0..READS_PER_TURN {
            if is_full && intake.room() >= FRAMES_PER_TURN {
                is_full = network.receive(|received| intake.push(&received)) >= FRAMES_PER_TURN;
            }
        }
        for _ in 0..FRAMES_PER_TURN {
            if !intake.pop(&mut take) {
                break;
            }
        }
        *is_crowded = is_full;
    }

    fn on_peer(&mut self, event: PeerEvent) {
        let Parts { server, peers, .. } = &mut self.parts;
        let now = clock::now();
        peers.take(event, |input| server.handle(Input::Peer(input), now));
        for _ in 1..PEER_EVENTS_PER_TURN {
            let Some(event) = peers.try_next() else { break };
            peers.take(event, |input| server.handle(Input::Peer(input), now));
        }
    }

    fn on_journal(&mut self, event: JournalEvent) {
        // Everything that was reported meanwhile: one "durable up to here" says it for all before it.
        let mut events = vec![event];
        while let Ok(event) = self.parts.journal_events.try_recv() {
            if let (Some(JournalEvent::Durable(last)), JournalEvent::Durable(newer)) = (events.last_mut(), &event) {
                *last = *newer;
            } else {
                events.push(event);
            }
        }
        let now = clock::now();
        for event in events {
            let server = &mut self.parts.server;
            match event {
                JournalEvent::Durable(seq) => server.handle(Input::Durable(seq), now),
                JournalEvent::Failed(reason) => {
                    error!("the leases file cannot be written, no lease is given or renewed: {reason}");
                    self.restore = None;
                    server.handle(Input::JournalFailed(reason), now);
                }
                JournalEvent::Writable => {
                    info!("the leases file can be written again: writing all leases");
                    self.restore_begin();
                }
                JournalEvent::Restored => {
                    info!("all leases are written, serving again");
                    server.handle(Input::JournalRestored, now);
                }
                JournalEvent::Compacted { before_len, after_len } => {
                    tracing::debug!(before_len, after_len, "leases file compacted");
                }
                JournalEvent::Warning(text) => warn!("{text}"),
            }
        }
    }

    fn on_revoked(&mut self) {
        if let Some(fd) = &self.revoked_fd {
            clear(fd);
        }
        // The effects' turn takes them.
    }

    fn on_events(&mut self) {
        let renewed = self.fast_path.events();
        self.renewed(renewed);
        let now = clock::boot_time();
        self.rounds.read_events(now);
        if self.fast_path.has_lost_events() {
            self.rounds.hurry(now, self.fast_path.scan_slices());
        }
    }

    fn renewed(&mut self, renewed: Vec<(Ipv4Addr, dhcp_ebpf::abi::Renewal)>) {
        if let Some(fd) = &self.events_fd {
            clear(fd);
        }
        if !renewed.is_empty() {
            self.parts.server.handle(Input::Renewed(renewed), clock::now());
        }
    }

    fn on_probed(&mut self) {
        let now = clock::now();
        for token in self.probes.receive() {
            self.parts.server.handle(Input::Probed(token, true), now);
        }
    }

    fn next_alarm(&self) -> BootTime {
        if self.restore.is_some() || !self.intake.is_empty() {
            return BootTime::default();
        }
        let watch = self.watch.wake_at(clock::boot_time());
        let server = if self.is_slicing { None } else { self.parts.server.poll_timeout() };
        let others = [server, self.probes.deadline(), self.relist_at, watch];
        others.into_iter().flatten().fold(self.rounds.wake_at(), BootTime::min)
    }

    fn on_time(&mut self) {
        let now = clock::now();
        let is_round = self.rounds.wants_events(now.boot);
        if is_round {
            self.on_events();
            self.watch.on_time(&*self.fast_path, now.boot);
            if let Some(error) = self.parts.network.take_send_error() {
                warn!("replies were not sent, the last one: {error}");
            }
        }
        if self.rounds.wants_slice(now.boot, is_round) {
            self.fast_path.heartbeat(now.boot);
            let renewed = self.fast_path.scan();
            let is_shared = !self.parts.server.config().failover_peers.is_empty();
            self.rounds.looked(now.boot, renewed.len(), self.fast_path.scan_slices(), is_shared);
            self.renewed(renewed);
        }
        if self.watch.wake_at(now.boot).is_some() {
            self.watch.on_time(&*self.fast_path, now.boot);
        }
        for token in self.probes.expired(now.boot) {
            self.parts.server.handle(Input::Probed(token, false), now);
        }
        if self.relist_at.is_some_and(|at| at <= now.boot) {
            self.relist_at = None;
            self.relist(now);
        }
        // In every round as well: whether somebody has set the wall clock, the engine sees when it is asked.
        if is_round {
            self.time_out(now);
        }
        self.slices(now);
        self.restore_slice();
        if !self.curious.is_empty() && !self.parts.server.is_surveying() {
            let answer = snapshot::failover(&mut self.parts, now);
            for asker in self.curious.drain(..) {
                // The operator may have gone away.
                let _ = asker.send(answer.clone());
            }
        }
    }

    /// Does what the engine has to do by now, for as long as nobody notices.
    fn slices(&mut self, mut now: Now) {
        let until = now.boot.after(SLICES_TIME);
        loop {
            self.is_slicing = self.parts.server.poll_timeout().is_some_and(|at| at <= now.boot);
            if !self.is_slicing || now.boot >= until {
                return;
            }
            // Whoever has been answered gets the answer first.
            self.run_effects();
            self.time_out(now);
            now = clock::now();
        }
    }

    /// Tells the engine the time, and before it what the kernel knows better of leases that would end by now.
    fn time_out(&mut self, now: Now) {
        let due = self.parts.server.due(now);
        if !due.is_empty() {
            let renewed = self.fast_path.news(&due);
            self.renewed(renewed);
        }
        self.parts.server.handle(Input::Timeout, now);
    }

    /// A clean stop: the engine takes everything from the kernel and writes what that granted, unless the kernel is
    /// to go on alone; then the disk is waited for, and the journal closed.
    async fn stop(mut self) {
        let mut leaves_kernel = false;
        if self.parts.stays_attached {
            match self.fast_path.leave() {
                Ok(()) => leaves_kernel = true,
                Err(reason) => warn!("the fast path does not stay attached: {reason}"),
            }
        }
        info!("stopping");
        self.parts.server.handle(Input::Stop { leaves_kernel }, clock::now());
        let deadline = clock::boot_time().after(STOP_PATIENCE);
        loop {
            self.run_effects();
            if self.parts.server.is_idle() {
                if !leaves_kernel {
                    self.parts.mark.clear();
                }
                break;
            }
            let left = deadline.since(clock::boot_time());
            tokio::select! {
                event = self.parts.journal_events.recv() => match event {
                    Some(event) => self.on_journal(event),
                    None => break,
                },
                () = readable(self.revoked_fd.as_ref()) => self.on_revoked(),
                () = tokio::time::sleep(left) => {
                    warn!("the disk or the kernel did not answer in time: exact times of some leases are not written");
                    break;
                }
            }
        }
        if !leaves_kernel {
            self.fast_path.detach();
        }
        self.parts.log.line(Level::Info, "stopped");
        self.parts.log.flush();
        self.parts.journal.close();
    }
}

fn watch(fd: Option<RawFd>) -> Result<Option<AsyncFd<Watched>>, String> {
    let Some(fd) = fd else { return Ok(None) };
    // SAFETY: the fast path keeps the descriptor open as long as it lives, and the agent drops this before it.
    let watched = unsafe { AsyncFd::register_with_interest(Watched(fd), Interest::READABLE) }
        .map_err(|error| format!("fast path: {}", io::Error::from(error)))?;
    Ok(Some(watched))
}

async fn question(questions: Option<&mut mpsc::Receiver<Asked>>) -> Option<Asked> {
    match questions {
        Some(questions) => questions.recv().await,
        None => std::future::pending().await,
    }
}

async fn readable(fd: Option<&AsyncFd<Watched>>) {
    match fd {
        Some(fd) => {
            // An error is a readiness as well: whoever reads it finds out.
            let _ = fd.readable().await;
        }
        None => std::future::pending().await,
    }
}

/// Forgets a readiness before the source is drained: what comes later is ready anew.
fn clear(fd: &AsyncFd<Watched>) {
    let _ = fd.try_io(Interest::READABLE, |_| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
}

fn open_error(name: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{name}: packet sockets need root or CAP_NET_RAW ({error})")
        }
        _ => format!("{name}: cannot listen: {error}"),
    }
}
