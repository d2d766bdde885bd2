//! `cargo xtask bench`: the figures, each with what it is compared to in the same run.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::{bpf, shed, test};

/// Measure: every figure beside its baseline, interleaved in one run, medians.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The fast path (needs root): nanoseconds per frame, replies a second over a veth beside a reflector's, arming a
    /// million leases, a reload with as many, renewals a second and processor time per renewal beside dhcpd and Kea,
    /// latency under a flood.
    Fastpath {
        /// Parts to measure, instead of all: cycles, cable, arming, reload, peers, processor, flood.
        parts: Vec<String>,
    },
    /// The configuration: `check` on 100,000 hosts beside `dhcpd -t`, and one packet against many hosts and classes
    /// beside none.
    Config,
    /// How long the engine holds its thread while a reload takes over a million leases that the kernel answers for.
    Reload,
    /// The slow path beside dhcpd and Kea (needs root): exchanges and renewals a second, latencies, ten times overload.
    Engine {
        /// For the bench itself: `--rounds N`, `--servers xdhcpd,dhcpd,kea,xdhcpd-hasty`, `--overload no`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Two servers as one service (needs root): updates acknowledged a second, a full resync of a million leases with
    /// renewals answered meanwhile, how soon a dead partner is noticed, renewals lost when one is killed.
    Failover {
        /// Parts to measure, instead of all: updates, resync, detection, kill; a number is how many leases.
        parts: Vec<String>,
    },
    /// The lease store: starting with a million leases (needs root, and dhcpd to compare with), durable commits, and
    /// the longest stall while a compaction runs.
    Store {
        /// Parts to measure, instead of all: replay, start, commit, compaction; a number is how many leases.
        parts: Vec<String>,
    },
}

/// Builds what is measured, optimised, and measures it.
pub(crate) fn run(options: &Options) -> Result<()> {
    match &options.what {
        What::Config => with_server("config", &[], &[]),
        What::Reload => shed::run(Command::new(shed::cargo()).current_dir(shed::root()).args([
            "bench",
            "--package",
            "tests",
            "--bench",
            "reload",
        ])),
        What::Engine { arguments } => {
            test::install(&[("dhcpd", "isc-dhcp-server"), ("kea-dhcp4", "kea-dhcp4-server")])?;
            with_server("engine", arguments, &[])
        }
        What::Fastpath { parts } => {
            let is_alone = |part: &String| ["cycles", "cable", "arming", "reload", "flood"].contains(&part.as_str());
            if parts.is_empty() || !parts.iter().all(is_alone) {
                test::install(&[("dhcpd", "isc-dhcp-server"), ("kea-dhcp4", "kea-dhcp4-server")])?;
            }
            let object = bpf::build_for_bench()?;
            with_server("fastpath", parts, &[("XDHCPD_BENCH_OBJECT", &object)])
        }
        What::Failover { parts } => with_server("failover", parts, &[]),
        What::Store { parts } => with_server("store", parts, &[]),
    }
}

/// Runs a bench of the proving ground that starts an optimised server.
fn with_server(bench: &str, arguments: &[String], environment: &[(&str, &Path)]) -> Result<()> {
    let cargo = || {
        let mut cargo = Command::new(shed::cargo());
        cargo.current_dir(shed::root());
        cargo
    };
    shed::run(cargo().args(["build", "--release", "--package", "dhcp-user", "--bin", "xdhcpd"]))?;
    shed::run(
        cargo()
            .args(["bench", "--package", "tests", "--bench", bench, "--"])
            .args(arguments)
            .envs(environment.iter().copied())
            .env("XDHCPD_BIN", shed::target().join("release").join("xdhcpd")),
    )
}
