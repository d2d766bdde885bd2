//! Processor time per 10,000 renewals beside Kea: leases of ten minutes, renewed at T1.
//!
//! Clients that renew every 300 s are `300 * rate` many: two rates, 100,000 clients' and 1,000,000 clients'. Every
//! client renews once, and its lease is as old then as at T1: it was granted for 400 s, so its horizon (a lease and a
//! half) is 600 s away, as it is 300 s after a grant of 600 s; then the configuration says 600 s. So every renewal moves
//! a horizon: event, record, sync.
//!
//! What is counted:
//!
//! ```text
//!   xdhcpd   all threads of the agent (events, journal, syncs, horizons), and the XDP program's own run time as the
//!            kernel measures it (BPF_ENABLE_STATS), its two readings of the clock included
//!   kea      all threads of the process
//! ```
//!
//! Neither has the driver's or the stack's receiving side, which is the sender's here: in Kea's favour, whose frames
//! pass through the whole stack.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aya::sys::Stats;
use tests::load::{
    Herd, Plan, Stage, Talk,
    server::{self, Running, Server, Setting},
};

use crate::{ROUNDS, median, peers::lease, say, take_last_processor};

/// Renewals a second, and how many clients that are.
const RATES: [(f64, &str); 2] = [(100_000.0 / 300.0, "100,000 clients"), (1_000_000.0 / 300.0, "1,000,000 clients")];
const WINDOW: Duration = Duration::from_secs(6);
/// How long the agent is watched afterwards: it reads its events once a second.
const SETTLE: Duration = Duration::from_millis(1_200);
/// The lease that is renewed, and the one that was granted before.
const LEASE_SECS: u32 = 600;
const YOUNG_LEASE_SECS: u32 = 400;

/// One server under way, with its clients.
struct Side {
    server: Server,
    stage: Stage,
    herd: Herd,
    running: Running,
}

impl Side {
    fn new(server: Server, clients: usize) -> Result<Self> {
        let stage = Stage::new()?;
        let mut herd = stage.herd(1)?;
        let is_ours = server == Server::Xdhcpd;
        let young = Setting { fast_path: "native", lease_secs: YOUNG_LEASE_SECS, ..Setting::default() };
        let setting = if is_ours { young } else { Setting { lease_secs: LEASE_SECS, ..Setting::default() } };
        let running = server::start(&stage, server, &setting, &mut herd)?;
        lease(&mut herd, clients)?;
        if is_ours {
            running.reload(server, &Setting { lease_secs: LEASE_SECS, ..young })?;
            std::thread::sleep(Duration::from_secs(3));
        }
        Ok(Self { server, stage, herd, running })
    }

    /// Microseconds of processor time per renewal at a rate.
    fn play(&mut self, rate: f64) -> Result<Spent> {
        let plan = Plan { warm_up: Duration::ZERO, ..Plan::open(Talk::Renewal, rate, WINDOW) };
        // Asking for the status is no renewal.
        let by_kernel = self.by_kernel()?;
        let before = self.spent()?;
        let figures = self.herd.run(&plan);
        if self.server == Server::Xdhcpd {
            // What the agent has put off is part of it.
            std::thread::sleep(SETTLE);
        }
        let after = self.spent()?;
        let by_kernel = self.by_kernel()? - by_kernel;
        let renewals = figures.completed_per_sec * WINDOW.as_secs_f64();
        ensure!(renewals >= 0.95 * rate * WINDOW.as_secs_f64(), "only {renewals} renewals were answered");
        if self.server == Server::Xdhcpd {
            ensure!(by_kernel as f64 >= 0.95 * renewals, "only {by_kernel} of {renewals} were the kernel's");
        }
        Ok(Spent {
            agent: (after.agent - before.agent) / renewals,
            program: (after.program - before.program) / renewals,
        })
    }

    fn by_kernel(&self) -> Result<u64> {
        if self.server != Server::Xdhcpd {
            return Ok(0);
        }
        let status: serde_json::Value = serde_json::from_str(&self.running.ask(&["status", "--json"])?)?;
        status.pointer("/status/replies/kernel").and_then(serde_json::Value::as_u64).context("status has no replies")
    }

    fn spent(&self) -> Result<Spent> {
        Ok(Spent { agent: self.running.cpu_us(), program: self.program_us()? })
    }

    /// Run time of the XDP program on the server's interface.
    fn program_us(&self) -> Result<f64> {
        if self.server != Server::Xdhcpd {
            return Ok(0.0);
        }
        let text = self.stage.server.ip(&format!("-j link show {}", Stage::INTERFACE))?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let id = links.pointer("/0/xdp/prog/id").and_then(serde_json::Value::as_u64).context("no XDP program")?;
        for program in aya::programs::loaded_programs() {
            let program = program?;
            if u64::from(program.id()) == id {
                return Ok(program.run_time().as_secs_f64() * 1e6);
            }
        }
        bail!("program {id} is gone")
    }
}

/// Microseconds.
#[derive(Debug, Clone, Copy)]
struct Spent {
    agent: f64,
    program: f64,
}

impl Spent {
    fn all(&self) -> f64 {
        self.agent + self.program
    }
}

/// Measures, and prints.
pub(crate) fn measure() -> Result<()> {
    take_last_processor()?;
    let renewals: f64 = RATES.iter().map(|(rate, _)| rate * WINDOW.as_secs_f64()).sum();
    let clients = (renewals * ROUNDS as f64 * 1.1) as usize;
    let mut ours = Side::new(Server::Xdhcpd, clients)?;
    let mut kea = Side::new(Server::Kea, clients)?;
    // The peer of XDP_TX over a veth needs a program too.
    let _pass = ours.stage.clients.attach_pass(Stage::CLIENTS)?;
    let _stats: OwnedFd = aya::sys::enable_stats(Stats::RunTime)?;
    let mut shown = vec![(Vec::new(), Vec::new()); RATES.len()];
    for _ in 0..ROUNDS {
        for ((rate, _), (of_ours, of_kea)) in RATES.into_iter().zip(&mut shown) {
            of_ours.push(ours.play(rate)?);
            of_kea.push(kea.play(rate)?);
        }
    }
    println!("processor time per 10,000 renewals, medians of {ROUNDS} rounds of {WINDOW:?}, interleaved:");
    println!("{:<20}{:>14}{:>18}{:>18}{:>14}", "renewing at T1", "xdhcpd", "of it the agent", "the program", "kea");
    let middle = |of: &[Spent], what: fn(&Spent) -> f64| {
        // Microseconds each are hundredths of a second for 10,000.
        median(&of.iter().map(what).collect::<Vec<_>>()).unwrap_or(f64::NAN) / 100.0
    };
    let mut verdicts = Vec::new();
    for ((_, name), (of_ours, of_kea)) in RATES.into_iter().zip(&shown) {
        let [all, agent, program, kea] = [
            middle(of_ours, Spent::all),
            middle(of_ours, |spent| spent.agent),
            middle(of_ours, |spent| spent.program),
            middle(of_kea, Spent::all),
        ];
        println!("{name:<20}{all:>12.4} s{agent:>16.4} s{program:>16.4} s{kea:>12.4} s");
        verdicts.push((25.0 * all <= kea, format!("{name}: 1/{:.0} of Kea's (at most 1/25)", kea / all)));
    }
    for (is_met, what) in verdicts {
        say(is_met, &what);
    }
    Ok(())
}
