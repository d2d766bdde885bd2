//! The slow path beside ISC dhcpd and Kea, in one run: `cargo xtask bench engine`.
//!
//! Every round starts each server anew with an empty leases file and asks it everything; the rounds take turns, and
//! medians are printed. The server, its journal included, has the first processor, the clients have the last. The
//! peers have their friendliest settings: no ping check, no log, no answer without a write (dhcpd's cache threshold;
//! Kea has none unless told), no work on host names, a fixed neighbour; dhcpd syncs every record, Kea writes and never
//! syncs. Ours is measured once more with `dont-use-fsync`: the same promise as Kea's, so what is left of a difference
//! between the two lines is the disk.

#![expect(clippy::print_stdout, reason = "a table for people")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tests::agent;
use tests::lab::{self, Folder};
use tests::load::server::{self, Server, Setting};
use tests::load::{Figures, Herd, Plan, Stage, Talk, bind_to};

/// Renewals go round among so many leases, with every server.
const RENEWING: usize = 10_000;
/// Clients that wait at the same time when a server's capacity is measured.
const IN_FLIGHT: [(Server, usize); 3] = [(Server::Xdhcpd, 512), (Server::Dhcpd, 64), (Server::Kea, 64)];
const WINDOW: Duration = Duration::from_secs(1);
/// How long latencies are watched: a disk that stops for some milliseconds once a second is in every one of them.
const LATENCY_WINDOW: Duration = Duration::from_secs(3);
/// Renewals/s at which every server's latency is compared.
const STEADY_RATE: f64 = 1000.0;
/// How many times its capacity a server is offered.
const OVERLOAD: f64 = 10.0;
/// Busy loops that share the server's processor while it is overloaded: one thread of clients cannot offer ten times
/// what a whole processor can do.
const HOGS: usize = 3;

/// Threads that do nothing, busily, on the server's processor.
struct Hogs(Arc<AtomicBool>);

impl Hogs {
    fn new(count: usize) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..count {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                if bind_to(0).is_ok() {
                    while !is_over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                }
            });
        }
        Self(is_over)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Who is measured, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entrant {
    server: Server,
    /// Whether it answers before the disk has what it says, though it could wait.
    is_hasty: bool,
}

impl Entrant {
    /// Ours, making the promise that Kea makes.
    const HASTY: Self = Self { server: Server::Xdhcpd, is_hasty: true };

    const fn name(self) -> &'static str {
        if self.is_hasty { "xdhcpd-hasty" } else { self.server.name() }
    }

    fn all() -> Vec<Self> {
        let mut all = Server::ALL.map(Self::from).to_vec();
        all.push(Self::HASTY);
        all
    }
}

impl From<Server> for Entrant {
    fn from(server: Server) -> Self {
        Self { server, is_hasty: false }
    }
}

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Exchanges,
    Renewals,
    CpuPerExchange,
    CpuPerRenewal,
    LoneP50,
    P50At1000,
    P99At1000,
    P50AtHalf,
    P99AtHalf,
    FloodOffered,
    FloodOnce,
    FloodRetrying,
    Slowed,
    SlowedOffered,
    SlowedOnce,
    SlowedRetrying,
}

impl Row {
    const ALL: [Self; 16] = [
        Self::Exchanges,
        Self::Renewals,
        Self::CpuPerExchange,
        Self::CpuPerRenewal,
        Self::LoneP50,
        Self::P50At1000,
        Self::P99At1000,
        Self::P50AtHalf,
        Self::P99AtHalf,
        Self::FloodOffered,
        Self::FloodOnce,
        Self::FloodRetrying,
        Self::Slowed,
        Self::SlowedOffered,
        Self::SlowedOnce,
        Self::SlowedRetrying,
    ];

    const fn title(self) -> &'static str {
        match self {
            Self::Exchanges => "four-way exchanges/s",
            Self::Renewals => "renewals/s",
            Self::CpuPerExchange => "CPU us per exchange",
            Self::CpuPerRenewal => "CPU us per renewal",
            Self::LoneP50 => "renewals, one client at a time: p50 us",
            Self::P50At1000 => "renewals at 1000/s: p50 us",
            Self::P99At1000 => "renewals at 1000/s: p99 us",
            Self::P50AtHalf => "renewals at half its capacity: p50 us",
            Self::P99AtHalf => "renewals at half its capacity: p99 us",
            Self::FloodOffered => "ten times its exchanges/s due, really offered by one thread",
            Self::FloodOnce => "completed % of its exchanges/s, clients that ask once",
            Self::FloodRetrying => "completed %, clients that ask again after 1 s",
            Self::Slowed => "exchanges/s, processor shared with three busy loops",
            Self::SlowedOffered => "ten times these due, really offered",
            Self::SlowedOnce => "completed % of these, clients that ask once",
            Self::SlowedRetrying => "completed % of these, clients that ask again after 1 s",
        }
    }
}

/// Clients that wait at the same time when a server's capacity is measured.
fn in_flight(server: Server) -> usize {
    IN_FLIGHT.iter().find(|(of, _)| *of == server).map_or(64, |(_, count)| *count)
}

/// What a server showed in one round.
type Shown = Vec<(Row, f64)>;

/// Folders of servers that have ended. They go when everything is measured: where the disk is told of freed space
/// (`discard`), the removal of one server's files keeps the next one's commits waiting.
type Attic = Vec<Folder>;

fn measure(stage: &Stage, entrant: Entrant, wants_overload: bool, attic: &mut Attic) -> Result<Shown> {
    let Entrant { server, is_hasty } = entrant;
    let mut herd = stage.herd(1)?;
    let setting = Setting { syncs: !is_hasty, ..Setting::default() };
    let running = server::start(stage, server, &setting, &mut herd)?;
    let in_flight = in_flight(server);
    let mut shown = Shown::new();
    let mut capacity = |herd: &mut Herd, talk, rate, cpu| {
        let before = running.cpu_us();
        let begin = Instant::now();
        let figures = herd.run(&Plan::closed(talk, in_flight, WINDOW));
        let busy = (running.cpu_us() - before) / begin.elapsed().as_secs_f64();
        shown.push((rate, figures.completed_per_sec));
        shown.push((cpu, busy / figures.completed_per_sec));
        figures.completed_per_sec
    };
    capacity(&mut herd, Talk::Exchange, Row::Exchanges, Row::CpuPerExchange);
    herd.keep(RENEWING);
    let renewals = capacity(&mut herd, Talk::Renewal, Row::Renewals, Row::CpuPerRenewal);
    let lone = herd.run(&Plan::closed(Talk::Renewal, 1, WINDOW / 2));
    shown.push((Row::LoneP50, lone.latency_us(50.0)));
    let mut at_rate = |herd: &mut Herd, rate, rows: [Row; 2]| {
        let figures: Figures = herd.run(&Plan::open(Talk::Renewal, rate, LATENCY_WINDOW));
        shown.push((rows[0], figures.latency_us(50.0)));
        shown.push((rows[1], figures.latency_us(99.0)));
    };
    at_rate(&mut herd, STEADY_RATE, [Row::P50At1000, Row::P99At1000]);
    at_rate(&mut herd, renewals / 2.0, [Row::P50AtHalf, Row::P99AtHalf]);
    attic.push(running.end());
    if wants_overload && !is_hasty {
        // A fresh server: offers of an earlier flood hold their addresses.
        let mut herd = stage.herd(1)?;
        let running = server::start(stage, server, &Setting { is_flooded: true, ..Setting::default() }, &mut herd)?;
        let exchanges = herd.run(&Plan::closed(Talk::Exchange, in_flight, WINDOW)).completed_per_sec;
        let rows = [Row::FloodOffered, Row::FloodOnce, Row::FloodRetrying];
        let offered = overload(&mut herd, exchanges, rows, &mut shown);
        if offered < OVERLOAD * 0.9 {
            let _hogs = Hogs::new(HOGS);
            let slowed = herd.run(&Plan::closed(Talk::Exchange, in_flight, WINDOW)).completed_per_sec;
            shown.push((Row::Slowed, slowed));
            let rows = [Row::SlowedOffered, Row::SlowedOnce, Row::SlowedRetrying];
            overload(&mut herd, slowed, rows, &mut shown);
        }
        attic.push(running.end());
    }
    eprintln!(
        "{}: {}",
        entrant.name(),
        shown.iter().map(|(row, value)| format!("{row:?} {value:.1}")).collect::<Vec<_>>().join(", ")
    );
    Ok(shown)
}

/// Offers a server ten times its capacity, or what one thread can, by clients that ask once and by clients that ask
/// again; how many times it was.
fn overload(herd: &mut Herd, capacity: f64, [offered, once, retrying]: [Row; 3], shown: &mut Shown) -> f64 {
    let rate = capacity * OVERLOAD;
    let figures = herd.run(&Plan { patience: Duration::from_secs(2), ..Plan::open(Talk::Exchange, rate, WINDOW) });
    let times = figures.offered_per_sec / capacity;
    shown.push((offered, times));
    shown.push((once, figures.completed_per_sec / capacity * 100.0));
    let plan = Plan {
        retry: Some(Duration::from_secs(1)),
        warm_up: Duration::from_millis(1500),
        ..Plan::open(Talk::Exchange, rate, WINDOW)
    };
    shown.push((retrying, herd.run(&plan).completed_per_sec / capacity * 100.0));
    times
}

/// What the disk alone takes for the writing and syncing of a record: the floor under every durable ACK.
#[derive(Debug, Default)]
struct Disk {
    /// One after the other, in microseconds: the median of every round.
    alone_us: Vec<f64>,
    /// At [`STEADY_RATE`]: the median and the 99th percentile of every round.
    steady_us: [Vec<f64>; 2],
}

impl Disk {
    fn measure(&mut self, attic: &mut Attic) -> Result<()> {
        const COUNT: u64 = 500;
        const RECORD_LEN: u64 = 300;
        let folder = Folder::new("sync")?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.path().join("file"))?;
        let steady = (STEADY_RATE * LATENCY_WINDOW.as_secs_f64()) as u64;
        file.write_all_at(&vec![b'\n'; ((COUNT + steady) * RECORD_LEN) as usize], 0)?;
        file.sync_all()?;
        let sync = |number: u64, since: Instant| -> Result<f64> {
            file.write_all_at(&[b'x'; RECORD_LEN as usize], number * RECORD_LEN)?;
            file.sync_data()?;
            Ok(since.elapsed().as_secs_f64() * 1e6)
        };
        let mut times = (0..COUNT).map(|number| sync(number, Instant::now())).collect::<Result<Vec<_>>>()?;
        self.alone_us.push(percentile(&mut times, 50));
        let begin = Instant::now();
        let mut times = Vec::new();
        for number in 0..steady {
            let due = begin + Duration::from_secs_f64(number as f64 / STEADY_RATE);
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            times.push(sync(COUNT + number, due)?);
        }
        for (all, percent) in self.steady_us.iter_mut().zip([50, 99]) {
            all.push(percentile(&mut times, percent));
        }
        attic.push(folder);
        Ok(())
    }
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * percent / 100).copied().unwrap_or(f64::NAN)
}

/// The word after `--name` on the command line.
fn option(name: &str) -> Option<String> {
    let mut words = std::env::args().skip_while(|word| *word != format!("--{name}"));
    words.nth(1)
}

fn main() -> Result<()> {
    if option("rounds").is_none() && std::env::var_os(agent::BINARY_ENV).is_none() {
        println!("run through `cargo xtask bench engine`");
        return Ok(());
    }
    lab::available().map_err(anyhow::Error::msg)?;
    let rounds = option("rounds").map_or(Ok(5), |text| text.parse::<usize>()).context("--rounds N")?;
    let mut entrants = Entrant::all();
    if let Some(names) = option("servers") {
        entrants.retain(|entrant| names.split(',').any(|name| name == entrant.name()));
    }
    let wants_overload = option("overload").is_none_or(|word| word != "no");
    let last = std::thread::available_parallelism()?.get() - 1;
    if last == 0 {
        bail!("this needs two processors: one for the server, one for the clients");
    }
    bind_to(last)?;
    let stage = Stage::new()?;
    let mut shown: Vec<(Entrant, Shown)> = Vec::new();
    let mut disk = Disk::default();
    let mut attic = Attic::new();
    for _ in 0..rounds {
        disk.measure(&mut attic)?;
        for &entrant in &entrants {
            shown.push((entrant, measure(&stage, entrant, wants_overload, &mut attic)?));
        }
    }
    let sync_us = percentile(&mut disk.alone_us, 50);
    let [steady_p50, steady_p99] = disk.steady_us.map(|mut rounds| percentile(&mut rounds, 50));
    println!("the disk alone, writing and syncing 300 bytes: {sync_us:.0} us one after the other, medians of rounds");
    println!("the same {STEADY_RATE} times a second: p50 {steady_p50:.0} us, p99 {steady_p99:.0} us");
    let of = |entrant: Entrant, row: Row| {
        let rounds = shown.iter().filter(|(of, _)| *of == entrant);
        let mut values: Vec<f64> =
            rounds.flat_map(|(_, shown)| shown).filter(|(of, _)| *of == row).map(|(_, value)| *value).collect();
        percentile(&mut values, 50)
    };
    print!("{:<62}", format!("medians of {rounds}, interleaved"));
    for entrant in &entrants {
        print!("{:>14}", entrant.name());
    }
    println!();
    for row in Row::ALL {
        print!("{:<62}", row.title());
        for &entrant in &entrants {
            let value = of(entrant, row);
            if value.is_nan() { print!("{:>14}", "-") } else { print!("{value:>14.1}") }
        }
        println!();
    }
    verdicts(&of, sync_us);
    Ok(())
}

/// What issue 5 wants, and whether it is so; nothing is said of who was not measured.
fn verdicts(of: &dyn Fn(Entrant, Row) -> f64, sync_us: f64) {
    let say = |what: String, is_met: bool| println!("{:<8}{what}", if is_met { "met" } else { "MISSED" });
    let [ours, dhcpd, kea] = Server::ALL.map(Entrant::from);
    let compare = |row: Row, one: Entrant, other: Entrant, judge: &dyn Fn(f64, f64)| {
        let (one, other) = (of(one, row), of(other, row));
        if !one.is_nan() && !other.is_nan() {
            judge(one, other);
        }
    };
    for row in [Row::Exchanges, Row::Renewals] {
        for (peer, wanted) in [(dhcpd, 20.0), (kea, 2.0)] {
            compare(row, ours, peer, &|one, other| {
                let times = one / other;
                say(format!("{}: {times:.1} times {} (wanted {wanted})", row.title(), peer.name()), times >= wanted);
            });
        }
    }
    // One sync, the way there and back, and no batch.
    let waits = of(ours, Row::LoneP50) / sync_us;
    say(format!("a lone client waits {waits:.1} syncs (wanted: at most 3)"), waits <= 3.0);
    for row in [Row::P50At1000, Row::P99At1000, Row::P50AtHalf, Row::P99AtHalf] {
        for (one, peer) in [(ours, dhcpd), (ours, kea), (Entrant::HASTY, kea)] {
            compare(row, one, peer, &|mine, theirs| {
                let who = format!("{}: {} {mine:.0}, {} {theirs:.0}", row.title(), one.name(), peer.name());
                say(format!("{who} (wanted: below)"), mine < theirs);
            });
        }
    }
    for row in [Row::FloodOnce, Row::FloodRetrying, Row::SlowedOnce, Row::SlowedRetrying] {
        let percent = of(ours, row);
        if !percent.is_nan() {
            say(format!("{}: {percent:.0} (wanted 90)", row.title()), percent >= 90.0);
        }
    }
}
