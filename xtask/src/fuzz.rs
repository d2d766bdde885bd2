//! `cargo xtask fuzz`: the fuzz targets under libFuzzer, guided by coverage, with the stable compiler.
//!
//! The instrumentation is LLVM's own pass, which stable rustc runs when it is asked to by name; libFuzzer is compiled
//! from the sources that `libfuzzer-sys` carries. Everything is below `target/fuzz`.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shed;

/// What the compiler has to add: counters for every edge, and the operands of comparisons.
const FLAGS: [&str; 9] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
    "-Ccodegen-units=1",
];

/// Feed a target with bytes, guided by what they reach: config, leases, engine, failover or frame.
///
/// Seeds come from the corpus; what is found on the way is kept below target/fuzz and used again. An input that fails
/// is named at the end: fix what it shows, keep it in tests/regressions/fuzz with a line that says what it taught.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The target.
    target: String,
    /// How long; until something fails or somebody stops it when 0.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Longest input, in bytes.
    #[arg(long, default_value_t = 4096)]
    max_len: u32,
}

/// Builds the targets and runs one.
pub(crate) fn run(options: &Options) -> Result<()> {
    let about = shed::read(Command::new(shed::rustc()).arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not say its host")?;
    let folder = shed::target().join("fuzz");
    shed::say("building the fuzz targets");
    shed::run(
        Command::new(shed::cargo())
            .current_dir(shed::root())
            .args(["build", "--release", "--package", "tests", "--bin", "fuzz", "--target", host, "--target-dir"])
            .arg(folder.join("build"))
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}")),
    )?;
    let own = folder.join(&options.target);
    let (corpus, seeds, failures) = (own.join("corpus"), own.join("seeds"), own.join("failures"));
    for folder in [&corpus, &seeds, &failures] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let regressions = shed::root().join("tests").join("regressions").join("fuzz");
    let start = format!("{}-", options.target);
    for entry in fs::read_dir(&regressions).with_context(|| regressions.display().to_string())? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|name| name.to_string_lossy().starts_with(&start)) {
            fs::copy(&path, seeds.join(name)).with_context(|| path.display().to_string())?;
        }
    }
    let status = Command::new(folder.join("build").join(host).join("release").join("fuzz"))
        .current_dir(&own)
        .arg(&corpus)
        .arg(&seeds)
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-max_len={}", options.max_len))
        .args([
            "-dict=words",
            "-artifact_prefix=failures/",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
        ])
        .env("XDHCPD_FUZZ_TARGET", &options.target)
        .env("XDHCPD_FUZZ_FOLDER", &own)
        .status()
        .context("cannot start the fuzz target")?;
    if !status.success() {
        bail!("{} failed; the input is in {}", options.target, failures.display());
    }
    Ok(())
}
