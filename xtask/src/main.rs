//! The tool shed: whatever a human or CI runs on this tree. `cargo xtask --help` is the manual.
//!
//! One module per command; [`shed`] is what they share. Tools are started as processes with an argument list,
//! never through a shell.

mod bench;
mod bpf;
mod check;
mod demo;
mod fuzz;
mod load;
mod oldest;
mod shed;
mod test;
mod tidy;

use clap::{Parser, Subcommand};

/// Builds, proves and shows xdhcpd.
///
/// Start with `demo`: it needs a Linux machine, rustup and root (it asks sudo), and shows a client's renewals
/// being answered in the driver. `test` runs every suite; `check` is what to run before a commit.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 110)]
struct Shed {
    #[command(subcommand)]
    command: Command,
}

/// What the shed can do.
#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Options),
    Test(test::Options),
    Check(check::Options),
    Tidy(tidy::Options),
    Bpf(bpf::Options),
    Load(load::Options),
    Bench(bench::Options),
    Oldest(oldest::Options),
    Fuzz(fuzz::Options),
}

fn main() -> std::process::ExitCode {
    let result = match Shed::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Tidy(options) => tidy::run(&options),
        Command::Bpf(options) => bpf::run(&options),
        Command::Load(options) => load::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Oldest(options) => oldest::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            shed::complain(&format!("{error:#}"));
            std::process::ExitCode::FAILURE
        }
    }
}
