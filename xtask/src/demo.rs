//! `cargo xtask demo`: the whole idea in a few seconds, with real packets.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shed;

/// Show a lease given by the agent and its renewals answered by the kernel, with real packets.
///
/// Builds xdhcpd, makes network namespaces of its own (a server, and two clients called Portable1 and Portable2 on
/// one switch), serves the visitor VLAN of the examples, and tells step by step who answered what. Takes some ten
/// seconds after the build, and removes everything it made, also on Ctrl-C. Not root: builds first, then asks sudo.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How the XDP program is attached.
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = ["auto", "native", "generic", "off"])]
    fast_path: String,
    /// Use the model client even when udhcpc is installed.
    #[arg(long)]
    model_client: bool,
}

/// Builds as the user, then runs the demo as root.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("the demo needs Linux: network namespaces and XDP are its subject");
    }
    if shed::find_program("ip").is_none() {
        bail!("the demo needs the program `ip`: install iproute2");
    }
    let root = shed::root();
    shed::say("building xdhcpd and the demo");
    shed::run(Command::new(shed::cargo()).current_dir(&root).args([
        "build",
        "--locked",
        "--quiet",
        "--package",
        "dhcp-user",
        "--bin",
        "xdhcpd",
        "--package",
        "tests",
        "--bin",
        "demo",
    ]))?;
    let built = shed::target().join("debug");
    let mut command = shed::as_root(&built.join("demo")).context("the demo makes network namespaces")?;
    command.arg("--config").arg(root.join("dhcp-user/examples/gsb-primary-partner-down.conf"));
    command.args(["--fast-path", &options.fast_path]);
    if options.model_client {
        command.arg("--model-client");
    }
    // The demo hears Ctrl-C itself (same terminal) and tidies up; we only wait for it.
    shed::ignore_interrupt();
    let status = command.status().context("cannot start the demo")?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => bail!("the demo failed (status {code})"),
        None => bail!("the demo was ended by a signal ({status})"),
    }
}
