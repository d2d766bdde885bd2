//! `cargo xtask bench`: the figures, each with what it is compared to in the same run.

use std::process::Command;

use anyhow::Result;

use crate::{bpf, shed};

/// Measure: every figure beside its baseline, interleaved in one run, medians.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The XDP program alone (BPF_PROG_TEST_RUN, needs root): nanoseconds per armed renewal above making the same
    /// frame, beside XDP_DROP and a frame that is not DHCP.
    Fastpath,
    /// The configuration: `check` on 100,000 hosts beside `dhcpd -t`, and one packet against many hosts and classes
    /// beside none.
    Config,
}

/// Builds what is measured, optimised, and measures it.
pub(crate) fn run(options: &Options) -> Result<()> {
    match options.what {
        What::Config => {
            let build = ["build", "--release", "--package", "dhcp-user", "--bin", "xdhcpd"];
            shed::run(Command::new(shed::cargo()).current_dir(shed::root()).args(build))?;
            shed::run(
                Command::new(shed::cargo())
                    .current_dir(shed::root())
                    .args(["bench", "--package", "tests", "--bench", "config"])
                    .env("XDHCPD_BIN", shed::target().join("release").join("xdhcpd")),
            )
        }
        What::Fastpath => {
            let object = bpf::build_for_bench()?;
            shed::run(
                Command::new(shed::cargo())
                    .current_dir(shed::root())
                    .args(["bench", "--package", "tests", "--bench", "fastpath"])
                    .env("XDHCPD_BENCH_OBJECT", object),
            )
        }
    }
}
