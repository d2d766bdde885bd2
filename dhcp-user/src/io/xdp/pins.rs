//! Links that outlive the agent: pinned in bpffs, one file per network namespace and interface.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::programs::{links::FdLink, xdp::XdpLink};

use crate::engine::port::InterfaceIndex;

/// Where bpffs is mounted on every system that mounts it.
const BPFFS: &str = "/sys/fs/bpf";
/// Our folder in it.
const FOLDER: &str = "/sys/fs/bpf/xdhcpd";

/// Pins a link, so that the program stays attached when the agent ends.
///
/// # Errors
///
/// A sentence saying what is missing, mostly the file system.
pub(super) fn keep(link: XdpLink, interface: InterfaceIndex) -> Result<()> {
    let link = FdLink::try_from(link).context("this kernel attaches XDP without links (5.9 or later is needed)")?;
    fs::create_dir_all(FOLDER)
        .with_context(|| format!("cannot make {FOLDER}: is bpffs mounted (mount -t bpf bpf {BPFFS})?"))?;
    let path = path_of(interface)?;
    link.pin(&path).with_context(|| format!("cannot pin at {}: is {BPFFS} a bpffs?", path.display()))?;
    Ok(())
}

/// Removes the link that an earlier agent left on this interface, which detaches its program; `false` when there is
/// none.
///
/// # Errors
///
/// What the file system says, for instance without privilege.
pub(super) fn remove(interface: InterfaceIndex) -> Result<bool> {
    let path = path_of(interface)?;
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// Interface numbers are per network namespace, bpffs is not: the file's name has both.
fn path_of(interface: InterfaceIndex) -> Result<PathBuf> {
    let namespace = fs::metadata("/proc/self/ns/net").context("cannot tell the network namespace")?.ino();
    Ok(Path::new(FOLDER).join(format!("link-{namespace}-{}", interface.0)))
}
