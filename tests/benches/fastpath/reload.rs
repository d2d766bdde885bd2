//! A reload of the running server with a million armed leases: from the order to the last lease armed anew, while clients
//! renew.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use dhcp_user::control::{
    client::Client,
    message::{Answer, Command},
};
use tests::{
    lab::now,
    load::{
        Plan, Talk,
        server::{Running, Server, Setting},
    },
};

use crate::{ROUNDS, median, say, stand::Stand};

const CLIENTS: usize = 1_000_000;
/// Renewals a second meanwhile.
const RATE: f64 = 5_000.0;
const WINDOW: Duration = Duration::from_secs(5);
/// When the order comes.
const ORDER_AFTER: Duration = Duration::from_secs(1);
/// How often the server is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures, and prints.
pub(crate) fn measure() -> Result<()> {
    let setting = Stand::setting();
    let mut stand = Stand::new(&setting, CLIENTS)?;
    let Stand { running, herd, .. } = &mut stand;
    let all = settled(&running.control())?;
    println!("reloads of the running server, {all} leases armed, {RATE:.0} renewals/s meanwhile:");
    println!(
        "{:>16}{:>16}{:>16}{:>12}{:>12}{:>12}",
        "applied ms", "armed anew ms", "unanswered", "p50 us", "p99 us", "p99.9 us"
    );
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        // Another lease time is another answer to everybody.
        let setting = Setting { lease_secs: 601 + round as u32, ..setting };
        let (figures, reload) = std::thread::scope(|scope| {
            let reload = scope.spawn(|| {
                std::thread::sleep(ORDER_AFTER);
                reload(running, &setting, all)
            });
            let figures = herd.run(&Plan { warm_up: Duration::ZERO, ..Plan::open(Talk::Renewal, RATE, WINDOW) });
            (figures, reload.join())
        });
        let [applied, armed] = reload.map_err(|_| anyhow::anyhow!("the reloading thread panicked"))??;
        println!(
            "{:>16.1}{:>16.1}{:>16}{:>12.1}{:>12.1}{:>12.1}",
            applied.as_secs_f64() * 1e3,
            armed.as_secs_f64() * 1e3,
            figures.unanswered.0,
            figures.latency_us(50.0),
            figures.latency_us(99.0),
            figures.latency_us(99.9)
        );
        times.push(armed.as_secs_f64());
    }
    let secs = median(&times).unwrap_or(f64::NAN);
    say(secs <= 1.0, &format!("a reload, from the order to the last lease armed anew: {secs:.2} s (at most 1)"));
    Ok(())
}

/// How long a reload took to apply, and until all leases were armed again.
fn reload(running: &Running, setting: &Setting<'_>, all: u64) -> Result<[Duration; 2]> {
    let begin = now();
    running.reload(Server::Xdhcpd, setting)?;
    let applied = begin.elapsed();
    let mut client = Client::connect(&running.control())?;
    while armed(&mut client)? < all {
        ensure!(begin.elapsed() < PATIENCE, "not all leases are armed anew");
        std::thread::sleep(LOOK_EVERY);
    }
    Ok([applied, begin.elapsed()])
}

/// How many leases are armed, once nothing more is on its way to the disk.
fn settled(control: &Path) -> Result<u64> {
    let mut client = Client::connect(control)?;
    let begin = now();
    loop {
        let before = armed(&mut client)?;
        std::thread::sleep(Duration::from_millis(200));
        if armed(&mut client)? == before && before >= CLIENTS as u64 {
            return Ok(before);
        }
        ensure!(begin.elapsed() < PATIENCE, "only {before} leases are armed");
    }
}

fn armed(client: &mut Client) -> Result<u64> {
    match client.ask(Command::Status)? {
        (_, Answer::Status(status)) => Ok(status.fast_path.armed),
        (line, _) => bail!("not a status: {line}"),
    }
}
