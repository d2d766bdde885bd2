//! The tool shed: whatever a human or CI runs on this tree. `cargo xtask --help` is the manual.
//!
//! One module per command; [`shed`] is what they share. Tools are started as processes with an argument list,
//! never through a shell.

mod bench;
mod bpf;
mod shed;

use clap::{Parser, Subcommand};

/// Builds, proves and shows xdhcpd.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 110)]
struct Shed {
    #[command(subcommand)]
    command: Command,
}

/// What the shed can do.
#[derive(Debug, Subcommand)]
enum Command {
    Bpf(bpf::Options),
    Bench(bench::Options),
}

fn main() -> std::process::ExitCode {
    let result = match Shed::parse().command {
        Command::Bpf(options) => bpf::run(&options),
        Command::Bench(options) => bench::run(&options),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            shed::complain(&format!("{error:#}"));
            std::process::ExitCode::FAILURE
        }
    }
}
