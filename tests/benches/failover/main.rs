//! `cargo xtask bench failover`: the figures of two xdhcpd as one service, in namespaces, with their files on a real disk.
//!
//! - `updates`: two servers meet, the primary has changed so many leases: each is made durable, sent, made durable there,
//!   acknowledged, and the acknowledgement is made durable here; then the same with a key for the link;
//! - `resync`: one serves alone and has so many leases, the other one has nothing and asks for everything; a client that
//!   renews every few milliseconds, at the agent, sees how long it waits meanwhile; then the same with a key for the link;
//! - `outlook`: one that serves alone has so many leases, and is asked for its metrics all the time, each time a look at all
//!   of them; how long that takes, and how long the same client waits meanwhile;
//! - `detection`: SIGKILL (a reset follows) and a cut cable (silence), until the survivor has said so on its disk;
//! - `kill`: clients renew and rebind all the time while one of the two is killed; who was not answered, and when.
//!
//! With a number as its argument it takes so many leases; with names of parts only those.

#![expect(clippy::print_stdout, reason = "a table for people")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod kill;
mod stage;

use std::time::{Duration, Instant};

use tests::duo::{Duo, P, S, Setup};
use tests::lab;

use crate::stage::{LEASE_SECS, OURS, Prober, alone, both_normal, leases, pool, row, status, wait};

/// Leases that have changed when the two meet.
const CHANGED: u32 = 200_000;
/// A key for the link.
const KEY: &str = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ+/8=";
/// Detections measured.
const ROUNDS: usize = 5;
/// `max-response-delay` where silence is measured, seconds.
const RESPONSE_SECS: u32 = 6;

fn main() {
    if let Err(why) = lab::available() {
        eprintln!("bench failover: {why}");
        std::process::exit(1);
    }
    // `cargo bench` adds an option of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let count: Option<u32> = words.iter().find_map(|word| word.parse().ok());
    let is_wanted =
        |part: &str| words.iter().all(|word| word.parse::<u32>().is_ok()) || words.iter().any(|w| w == part);
    if is_wanted("updates") {
        updates(count.unwrap_or(CHANGED), None);
        updates(count.unwrap_or(CHANGED), Some(KEY));
    }
    if is_wanted("resync") {
        resync(count.unwrap_or(1_000_000), None);
        resync(count.unwrap_or(1_000_000), Some(KEY));
    }
    if is_wanted("outlook") {
        outlook(count.unwrap_or(1_000_000));
    }
    if is_wanted("detection") {
        detection();
    }
    if is_wanted("kill") {
        kill::kill();
    }
}

/// A pair with room for so many leases, nothing running.
fn pair(count: u32, fast_path: &'static str) -> Duo {
    let setup = Setup {
        mclt: 1,
        lease_secs: LEASE_SECS,
        response_secs: 30,
        window: 4096,
        range: pool(count),
        network: "192.128.0.0 netmask 255.128.0.0",
        ..Setup::default()
    };
    let [primary, secondary] = setup.configurations();
    Duo::new(OURS, [&primary, &secondary], fast_path).expect("a stage")
}

fn updates(count: u32, key: Option<&str>) {
    let mut duo = pair(count, "off");
    if let Some(key) = key {
        duo.sides.iter().for_each(|side| side.protect(key));
    }
    duo.sides[P].write("dhcpd.leases", &format!("{}{}", both_normal(), leases(count, 0)));
    duo.sides[S].write("dhcpd.leases", both_normal());
    duo.sides[S].start().expect("the secondary");
    duo.sides[P].start().expect("the primary");
    let mut begin = None;
    let end = wait(Duration::from_secs(120), || {
        let peer = status(&duo.sides[P]).peers.swap_remove(0);
        if peer.updates.sent > 0 {
            begin.get_or_insert_with(|| (Instant::now(), peer.updates.acked));
        }
        peer.updates.acked >= u64::from(count)
    });
    wait(Duration::from_secs(30), || {
        let journal = status(&duo.sides[P]).journal;
        journal.durable == journal.appended
    });
    let (begin, acked) = begin.expect("updates were sent");
    let secs = (end - begin).as_secs_f64();
    let there = status(&duo.sides[S]);
    assert_eq!(there.pools[0].active, u64::from(count), "all are known there");
    let rate = (f64::from(count) - acked as f64) / secs;
    row(
        &format!("BNDUPD and BNDACK, both durable{}", if key.is_some() { ", key" } else { "" }),
        &format!("{rate:.0}/s"),
        &format!("(at least 50,000/s) {count} in {secs:.2} s"),
    );
}

fn resync(count: u32, key: Option<&str>) {
    let mut duo = pair(count, "off");
    if let Some(key) = key {
        duo.sides.iter().for_each(|side| side.protect(key));
    }
    let with = if key.is_some() { ", key" } else { "" };
    duo.sides[P].write("dhcpd.leases", &format!("{}{}", alone(), leases(count, 1)));
    duo.sides[S].write("dhcpd.leases", "");
    duo.sides[P].start().expect("the primary");
    let before = Prober::start(&duo, count, Duration::from_millis(10));
    std::thread::sleep(Duration::from_secs(4));
    let quiet = before.stop();
    let prober = Prober::start(&duo, count, Duration::from_millis(10));
    let begin = Instant::now();
    duo.sides[S].start().expect("the secondary");
    let started = begin.elapsed();
    let mut connected = None;
    let end = wait(Duration::from_secs(300), || {
        let peer = status(&duo.sides[S]).peers.swap_remove(0);
        if peer.connected {
            connected.get_or_insert_with(Instant::now);
        }
        ["recover-wait", "recover-done", "normal"].contains(&&*peer.my_state)
    });
    let busy = prober.stop();
    let secs = (end - connected.expect("a connection")).as_secs_f64();
    let there = status(&duo.sides[S]);
    assert_eq!(there.pools[0].active, u64::from(count), "all are known there");
    assert_eq!(there.peers[0].link_protected, key.is_some(), "as it was to be");
    row(
        &format!("full resync of {count} leases{with}"),
        &format!("{secs:.1} s"),
        &format!(
            "(at most 15 s) {:.0} leases/s; the empty server listened after {:.1} s",
            f64::from(count) / secs,
            started.as_secs_f64()
        ),
    );
    row(
        "renewals by the agent meanwhile",
        &format!("p99 {:.1} ms", busy.percentile_ms(99.0)),
        &format!(
            "worst {:.1} ms, {} of {} unanswered; before: p99 {:.1} ms, worst {:.1} ms",
            busy.percentile_ms(100.0),
            busy.lost,
            busy.asked,
            quiet.percentile_ms(99.0),
            quiet.percentile_ms(100.0)
        ),
    );
    wait(Duration::from_secs(60), || status(&duo.sides[P]).peers[0].my_state == "normal");
}

fn outlook(count: u32) {
    let mut duo = pair(count, "off");
    duo.sides[P].write("dhcpd.leases", &format!("{}{}", alone(), leases(count, 1)));
    duo.sides[P].start().expect("the primary");
    // No more than a kernel's table of neighbours holds.
    let clients = count.min(500);
    let before = Prober::start(&duo, clients, Duration::from_millis(2));
    std::thread::sleep(Duration::from_secs(8));
    let quiet = before.stop();
    let prober = Prober::start(&duo, clients, Duration::from_millis(2));
    let (begin, mut took) = (Instant::now(), Vec::new());
    while begin.elapsed() < Duration::from_secs(8) {
        let asked = Instant::now();
        let text = duo.sides[P].metrics().expect("metrics");
        took.push(asked.elapsed().as_secs_f64() * 1e3);
        let all = format!("xdhcpd_failover_leases{{peer=\"GSB\",bound=\"none\"}} {count}\n");
        assert!(text.contains(&all), "{text}");
    }
    let busy = prober.stop();
    took.sort_unstable_by(f64::total_cmp);
    row(
        &format!("metrics with {count} leases"),
        &format!("{:.0} ms", took[took.len() / 2]),
        &format!("median of {}, one after the other; at most {:.0} ms", took.len(), took[took.len() - 1]),
    );
    row(
        "renewals by the agent meanwhile",
        &format!("p99 {:.1} ms", busy.percentile_ms(99.0)),
        &format!(
            "median {:.1} ms, worst {:.1} ms, {} of {} unanswered; before: median {:.1} ms, p99 {:.1} ms, worst {:.1} ms, {} of {}",
            busy.percentile_ms(50.0),
            busy.percentile_ms(100.0),
            busy.lost,
            busy.asked,
            quiet.percentile_ms(50.0),
            quiet.percentile_ms(99.0),
            quiet.percentile_ms(100.0),
            quiet.lost,
            quiet.asked
        ),
    );
}

fn detection() {
    let setup = Setup { response_secs: RESPONSE_SECS, ..Setup::default() };
    let [primary, secondary] = setup.configurations();
    let mut duo = Duo::new(OURS, [&primary, &secondary], "off").expect("a stage");
    duo.sides[P].start().expect("the primary");
    duo.sides[S].start().expect("the secondary");
    let (mut resets, mut silences) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let dead = round % 2;
        duo.wait_normal();
        let begin = Instant::now();
        duo.sides[dead].kill().expect("it runs");
        resets.push((noticed(&duo, 1 - dead) - begin).as_secs_f64());
        duo.sides[dead].start().expect("it starts again");
    }
    for round in 0..2 {
        let dead = round % 2;
        duo.wait_normal();
        let port = format!("port-{}", tests::duo::INTERFACES[dead]);
        let cable = |end: &str| duo.switch.namespace().ip(&format!("link set {port} {end}"));
        cable("nomaster").expect("a cable");
        let begin = Instant::now();
        silences.push((noticed(&duo, 1 - dead) - begin).as_secs_f64());
        cable("master lan").expect("a cable");
    }
    let worst = |all: &[f64]| all.iter().copied().fold(0.0, f64::max);
    row(
        "dead partner noticed, by reset",
        &format!("{:.0} ms", worst(&resets) * 1e3),
        &format!("(at most 1 s) the worst of {ROUNDS}, on disk"),
    );
    row(
        "dead partner noticed, by silence",
        &format!("{:.1} s", worst(&silences)),
        &format!("(max-response-delay, {RESPONSE_SECS} s) the worst of {}, on disk", silences.len()),
    );
}

/// When a survivor's file says that it is alone.
fn noticed(duo: &Duo, alive: usize) -> Instant {
    wait(Duration::from_secs(60), || duo.sides[alive].states().0 == "communications-interrupted")
}
