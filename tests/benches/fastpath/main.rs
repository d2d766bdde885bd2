//! The fast path measured, each figure beside its baseline in one run: `cargo xtask bench fastpath [PART]..`, which builds
//! the object with the bench's entry points and runs this.
//!
//! ```text
//!   cycles     nanoseconds per frame (BPF_PROG_TEST_RUN)
//!   cable      replies a second over a veth, beside a reflector (live frames)
//!   arming     a million leases armed, moved, disarmed, armed anew
//!   reload     the same through the running server, by a reload, while clients renew
//!   peers      renewals a second beside dhcpd and Kea: live frames, and a client in user space
//!   processor  processor time per renewal beside Kea, leases of ten minutes renewing at T1
//!   flood      latency of renewals while strangers flood the server
//! ```
#![expect(clippy::print_stdout, reason = "a table for people")]

use std::{env, fs, num::NonZero, sync::LazyLock, thread};

use anyhow::{Context as _, Result, bail};
use tests::{lab, load::bind_to};

mod arming;
mod cable;
mod cycles;
mod flood;
mod generator;
mod peers;
mod processor;
mod reload;
mod stand;

/// Rounds of every measurement; medians are printed.
pub(crate) const ROUNDS: usize = 5;

const PARTS: [&str; 7] = ["cycles", "cable", "arming", "reload", "peers", "processor", "flood"];

fn main() -> Result<()> {
    // `cargo test --benches` passes --test: nothing to prove here without the object.
    let Some(path) = env::var_os("XDHCPD_BENCH_OBJECT") else {
        println!("run through `cargo xtask bench fastpath`");
        return Ok(());
    };
    let object = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let words: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let Some(word) = words.iter().find(|word| !PARTS.contains(&word.as_str())) {
        bail!("there is no part {word}; there are {}", PARTS.join(", "));
    }
    let wants = |part: &str| words.is_empty() || words.iter().any(|word| word == part);
    if wants("cycles") {
        for (clients, wanted) in [(1_000, Some(180)), (131_072, None), (1_000_000, Some(300))] {
            cycles::measure(&object, clients, wanted)?;
        }
    }
    if wants("cable") {
        for (clients, wanted) in [(1_000, Some(70.0)), (4_096, None), (1_000_000, Some(55.0))] {
            cable::measure(&object, clients, wanted)?;
        }
    }
    if wants("arming") {
        arming::measure()?;
    }
    if wants("reload") {
        reload::measure()?;
    }
    if wants("peers") {
        peers::measure(&object)?;
    }
    if wants("processor") {
        processor::measure()?;
    }
    if wants("flood") {
        flood::measure()?;
    }
    Ok(())
}

/// Gives this thread, which is the clients', the last processor; the server has the first.
pub(crate) fn take_last_processor() -> Result<()> {
    // Asked once: who is bound already sees one processor.
    static COUNT: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));
    lab::available().map_err(anyhow::Error::msg)?;
    if *COUNT < 2 {
        bail!("this needs two processors: one for the server, one for the clients");
    }
    Ok(bind_to(*COUNT - 1)?)
}

/// What the issue wants, and whether it is so.
pub(crate) fn say(is_met: bool, what: &str) {
    println!("{:<8}{what}", if is_met { "met" } else { "MISSED" });
}

/// The median of some figures.
pub(crate) fn median<T: Copy + PartialOrd>(values: &[T]) -> Option<T> {
    let mut values = values.to_vec();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied()
}
