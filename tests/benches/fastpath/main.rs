//! The fast path measured: nanoseconds per frame (BPF_PROG_TEST_RUN), and replies per second over a cable (live
//! frames), each figure beside its baseline in one run.
//!
//! `cargo xtask bench fastpath` builds the object with the bench's entry points and runs this.
//! `XDHCPD_BENCH_PART=cycles` or `cable` runs one half.

use std::{env, fs};

use anyhow::{Context as _, Result};

mod cable;
mod cycles;

/// Rounds of every measurement; medians are printed.
pub(crate) const ROUNDS: usize = 5;

fn main() -> Result<()> {
    // `cargo test --benches` passes --test: nothing to prove here without the object.
    let Some(path) = env::var_os("XDHCPD_BENCH_OBJECT") else {
        println!("run through `cargo xtask bench fastpath`");
        return Ok(());
    };
    let object = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let part = env::var("XDHCPD_BENCH_PART").unwrap_or_default();
    if part.is_empty() || part == "cycles" {
        for clients in [1_000, 131_072, 1_000_000] {
            cycles::measure(&object, clients)?;
        }
    }
    if part.is_empty() || part == "cable" {
        for clients in [1_000, 4_096, 1_000_000] {
            cable::measure(&object, clients)?;
        }
    }
    Ok(())
}

/// The median of some figures.
pub(crate) fn median<T: Copy + PartialOrd>(values: &[T]) -> Option<T> {
    let mut values = values.to_vec();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied()
}
