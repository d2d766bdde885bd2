//! `cargo xtask load`: build xdhcpd and run it on a real interface.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shed;

/// Build xdhcpd and run it in the foreground on a real interface.
///
/// The configuration decides what is served: an interface whose address lies in none of its subnets is refused.
/// Ctrl-C stops the server and takes the XDP program off the interface. Not root: builds first, then asks sudo.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The interface to serve.
    #[arg(long, short, value_name = "IF")]
    interface: String,
    /// The configuration, in dhcpd.conf's language.
    #[arg(long, short, value_name = "FILE", default_value = "dhcp-user/examples/gsb-primary-partner-down.conf")]
    config: PathBuf,
    /// The leases file; made when it is not there.
    #[arg(long, value_name = "FILE", default_value = "target/load.leases")]
    leases: PathBuf,
    /// How the XDP program is attached: native where the driver can and generic otherwise (auto), or not at all.
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = ["auto", "native", "generic", "off"])]
    fast_path: String,
}

/// Builds, then becomes the server.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = shed::root();
    let configuration = root.join(&options.config);
    if !configuration.is_file() {
        bail!("{} is not there", configuration.display());
    }
    let leases = root.join(&options.leases);
    shed::run(Command::new(shed::cargo()).current_dir(&root).args([
        "build",
        "--locked",
        "--release",
        "--package",
        "dhcp-user",
        "--bin",
        "xdhcpd",
    ]))?;
    let server = shed::target().join("release").join("xdhcpd");
    if !leases.exists() {
        std::fs::write(&leases, "").with_context(|| format!("cannot make {}", leases.display()))?;
    }
    let mut command = shed::as_root(&server)?;
    command.args(["-4", "-f", "-d", "-cf"]).arg(&configuration).arg("-lf").arg(&leases).arg("-pf");
    command.arg(leases.with_extension("pid")).arg("--control").arg(leases.with_extension("sock"));
    command.args(["--fast-path", &options.fast_path]).arg(&options.interface);
    Err(command.exec()).with_context(|| format!("cannot start {}", server.display()))
}
