//! `cargo xtask check`: what to run before a commit; no privileges, nothing installed.

use std::process::Command;

use anyhow::Result;

use crate::{shed, test, tidy};

/// Format, lints, house rules, documentation and the fast suites; needs no privileges.
///
/// Runs rustfmt --check, clippy on the whole workspace with warnings denied, `tidy`, rustdoc with warnings denied,
/// then the unit tests and those suites that need neither root nor other programs. CI runs the same.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Leave the suites out: only what reads the source.
    #[arg(long)]
    no_tests: bool,
}

/// Runs every check in turn; the first that fails ends it.
pub(crate) fn run(options: &Options) -> Result<()> {
    step("rustfmt", cargo(&["fmt", "--all", "--", "--check"]))?;
    tidy::run(&tidy::Options::default())?;
    step("clippy", cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    let mut docs = cargo(&["doc", "--locked", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    step("rustdoc", docs)?;
    if !options.no_tests {
        test::run_fast()?;
    }
    shed::print("check: all is well");
    Ok(())
}

/// Cargo in the root of the tree.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(shed::cargo());
    command.current_dir(shed::root()).args(arguments);
    command
}

/// Says what runs, and runs it.
fn step(name: &str, mut command: Command) -> Result<()> {
    shed::say(name);
    shed::run(&mut command)
}
