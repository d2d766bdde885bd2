//! Latency of renewals, quiet and while strangers flood the server with DISCOVERs: 2,000 renewals a second, the fast
//! path with its default settings (the shield counts and drops nothing).
//!
//! The same thread sends both, and over a veth the sender's processor is the one that receives: a DISCOVER takes it until
//! it is in the agent's socket and the agent is woken. So a renewal that is due meanwhile waits, and its wait is counted
//! from when it was due, as on one queue of a network card; strangers ask at random moments. What is not counted is what
//! no client waits for: DISCOVERs sent after it, and offers to strangers, which the socket's filter drops.

use std::time::Duration;

use anyhow::Result;
use tests::load::{Plan, Talk};

use crate::{median, say, stand::Stand};

const CLIENTS: usize = 4_096;
const RATE: f64 = 2_000.0;
/// DISCOVERs a second: more than the agent answers, and more than renewals by fifty.
const FLOODS: [f64; 2] = [10_000.0, 50_000.0];
const WINDOW: Duration = Duration::from_secs(1);
/// Many and short, so that what else a machine does for a moment is in few of them.
const ROUNDS: usize = 15;

/// Measures, and prints.
pub(crate) fn measure() -> Result<()> {
    let mut stand = Stand::new(&Stand::setting(), CLIENTS)?;
    let mut shown = [const { Vec::new() }; 1 + FLOODS.len()];
    for _ in 0..ROUNDS {
        for (flood, shown) in [0.0].into_iter().chain(FLOODS).zip(&mut shown) {
            let plan = Plan { flood_per_sec: flood, ..Plan::open(Talk::Renewal, RATE, WINDOW) };
            let figures = stand.herd.run(&plan);
            let lost = figures.unanswered.0 as f64;
            shown.push([figures.latency_us(50.0), figures.latency_us(99.0), figures.flooded_per_sec, lost]);
        }
    }
    let middle = |of: &[[f64; 4]], at: usize| median(&of.iter().map(|one| one[at]).collect::<Vec<_>>()).unwrap_or(0.0);
    println!("renewals at {RATE:.0}/s, medians of {ROUNDS} rounds of {WINDOW:?}, interleaved:");
    println!("{:>24}{:>12}{:>12}{:>12}", "DISCOVERs/s beside", "p50 us", "p99 us", "unanswered");
    for of in &shown {
        println!(
            "{:>24.0}{:>12.1}{:>12.1}{:>12.0}",
            middle(of, 2),
            middle(of, 0),
            middle(of, 1),
            of.iter().map(|one| one[3]).sum::<f64>()
        );
    }
    let quiet = middle(&shown[0], 1);
    for of in &shown[1..] {
        let (flooded, p99) = (middle(of, 2), middle(of, 1));
        let what = format!("p99 beside {flooded:.0} DISCOVERs/s: {:.2} times the quiet one (at most 2)", p99 / quiet);
        say(p99 <= 2.0 * quiet, &what);
    }
    Ok(())
}
