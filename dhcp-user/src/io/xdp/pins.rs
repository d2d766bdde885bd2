//! Where program, links and maps live on without an agent: a folder in bpffs per server.
//!
//! ```text
//!   /sys/fs/bpf/xdhcpd/<network namespace>-<server>/     locked (flock) by the agent that serves with it
//!     maps/CONTROL maps/ENTRIES ..    all of them or none: they are made in `fresh/`, which is renamed
//!     program
//!     link-<interface>-<mode>         attached as long as this stands
//! ```
//!
//! Interface numbers are per network namespace and bpffs is not, so the folder's name has the namespace's cookie, a
//! number that is never used twice. The server is who it keeps promises for: the leases file, or the state directory.

use std::{
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use aya::programs::{
    Xdp,
    links::{FdLink, PinnedLink},
    xdp::{XdpLink, XdpLinkId},
};
use tracing::info;

use super::bpf;
use crate::{engine::port::InterfaceIndex, io::fastpath::Mode};

/// Where bpffs is mounted on every system that mounts it.
const BPFFS: &str = "/sys/fs/bpf";
/// Our folder in it.
const FOLDER: &str = "xdhcpd";
/// Maps of a server.
const MAPS: &str = "maps";
/// Maps that are being made.
const FRESH: &str = "fresh";
/// The program.
const PROGRAM: &str = "program";
/// Start of the names of links.
const LINK: &str = "link-";

/// A server's folder, locked.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    _lock: fs::File,
}

/// A link that stands in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// Its interface.
    pub(super) interface: InterfaceIndex,
    /// How it is attached.
    pub(super) mode: Mode,
    /// Where it is pinned.
    pub(super) path: PathBuf,
}

impl Place {
    /// Makes or finds the folder of the server that `identity` names, and locks it.
    ///
    /// # Errors
    ///
    /// A sentence saying why there can be none: no bpffs, no privilege, or another agent that serves with it.
    pub fn claim(identity: &Path) -> Result<Self> {
        let root = root()?;
        let namespace = bpf::namespace().context("cannot tell the network namespace")?;
        let name = format!("{namespace}-{:016x}", super::adopt::hash_of(identity));
        sweep(&root, &name);
        let path = root.join(name);
        for _ in 0..8 {
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
            let Some(lock) = lock(&path)? else {
                bail!(
                    "another xdhcpd serves with {}: give this one a leases file or --state-dir of its own",
                    path.display()
                )
            };
            // Another agent's sweep may have removed the folder between the two steps.
            if is_at(&lock, &path) {
                return Ok(Self { path, _lock: lock });
            }
        }
        bail!("{} is removed as fast as it is made", path.display())
    }

    /// Folder of the whole set of maps.
    pub(super) fn maps(&self) -> PathBuf {
        self.path.join(MAPS)
    }

    /// An empty folder for maps to be made in; [`Self::settle`] makes it the set.
    pub(super) fn fresh(&self) -> Result<PathBuf> {
        let path = self.path.join(FRESH);
        empty(&path).and_then(|()| fs::create_dir(&path)).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// The maps in the fresh folder are the set from now on.
    pub(super) fn settle(&self) -> Result<()> {
        let (fresh, maps) = (self.path.join(FRESH), self.maps());
        empty(&maps)
            .and_then(|()| fs::rename(&fresh, &maps))
            .with_context(|| format!("cannot rename {} to {}", fresh.display(), maps.display()))
    }

    /// Pins the program, in the place of an earlier one.
    pub(super) fn keep_program(&self, program: &mut Xdp) -> Result<()> {
        let path = self.path.join(PROGRAM);
        gone(fs::remove_file(&path)).with_context(|| format!("cannot remove {}", path.display()))?;
        program.pin(&path).with_context(|| format!("cannot pin {}", path.display()))
    }

    /// Pins an attached program's link, so that the program stays attached whatever becomes of the agent.
    pub(super) fn keep_link(
        &self,
        program: &mut Xdp,
        link: XdpLinkId,
        interface: InterfaceIndex,
        mode: Mode,
    ) -> Result<XdpLinkId> {
        let link = program.take_link(link)?;
        let link = FdLink::try_from(link).context("this kernel attaches XDP without links (5.9 or later is needed)")?;
        let path = self.path.join(format!("{LINK}{}-{mode}", interface.0));
        let pinned = link.pin(&path).with_context(|| format!("cannot pin {}", path.display()))?;
        // The same program over itself: this hands the link back to the program's list.
        Ok(program.attach_to_link(XdpLink::try_from(FdLink::from(pinned))?)?)
    }

    /// Links of earlier agents whose interfaces are there; those of interfaces that are gone are removed.
    pub(super) fn links(&self) -> Vec<Standing> {
        let mut standing = Vec::new();
        for path in pinned_links(&self.path) {
            let Some((interface, mode)) = path.file_name().and_then(|name| name.to_str()).and_then(parse_link) else {
                continue;
            };
            match bpf::open_pin(&path).and_then(|link| bpf::link_facts(link.as_fd())) {
                Ok(facts) if facts.is_xdp && facts.interface == interface.0 => {
                    standing.push(Standing { interface, mode, path });
                }
                // The interface is gone; a later one may have its number.
                Ok(_) | Err(_) => drop(fs::remove_file(&path)),
            }
        }
        standing
    }

    /// Puts `program` in the place of the one that a standing link holds, at once and without a gap.
    pub(super) fn take_over(program: &mut Xdp, standing: &Standing) -> Result<XdpLinkId> {
        let pinned = PinnedLink::from_pin(&standing.path)?;
        Ok(program.attach_to_link(XdpLink::try_from(FdLink::from(pinned))?)?)
    }

    /// Takes the program off one interface.
    pub(super) fn detach(&self, interface: InterfaceIndex) -> io::Result<()> {
        for mode in [Mode::Native, Mode::Generic] {
            detach(&self.path.join(format!("{LINK}{}-{mode}", interface.0)))?;
        }
        Ok(())
    }

    /// Takes the program off all interfaces and removes everything that is pinned here.
    pub(super) fn clear(&self) -> Result<usize> {
        clear(&self.path).with_context(|| format!("cannot empty {}", self.path.display()))
    }

    /// As [`Self::clear`], and the folder goes as well.
    pub(super) fn remove(&self) -> Result<usize> {
        let count = self.clear()?;
        fs::remove_dir(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))?;
        Ok(count)
    }
}

/// Takes everything away that agents which are gone left in this network namespace; says what it did.
///
/// # Errors
///
/// A sentence saying what is in the way, for instance an agent that serves.
pub fn detach_all() -> Result<Vec<String>> {
    let root = root()?;
    let namespace = format!("{}-", bpf::namespace().context("cannot tell the network namespace")?);
    let mut done = Vec::new();
    for path in folders(&root) {
        if !path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&namespace)) {
            continue;
        }
        let Some(lock) = lock(&path)? else {
            bail!("an agent serves with {}: stop it, or ask it with `xdhcpd fastpath detach`", path.display())
        };
        let count = clear(&path).with_context(|| format!("cannot empty {}", path.display()))?;
        fs::remove_dir(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        drop(lock);
        done.push(format!("{}: {count} interfaces", path.display()));
    }
    Ok(done)
}

fn root() -> Result<PathBuf> {
    let bpffs = Path::new(BPFFS);
    if !bpf::is_bpffs(bpffs) {
        bail!("no bpffs at {BPFFS} (mount -t bpf bpf {BPFFS})");
    }
    Ok(bpffs.join(FOLDER))
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Locks a folder; `None` when somebody else has.
fn lock(path: &Path) -> Result<Option<fs::File>> {
    let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let is_ours = bpf::try_lock(&file).with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(is_ours.then_some(file))
}

fn is_at(open: &fs::File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (open.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(path)) => (open.dev(), open.ino()) == (path.dev(), path.ino()),
        _ => false,
    }
}

/// Removes folders whose agent is gone and whose interfaces are, too: nothing is answered with them any more.
fn sweep(root: &Path, own: &str) {
    for path in folders(root) {
        if path.file_name().is_some_and(|name| name == own) {
            continue;
        }
        let Ok(Some(_lock)) = lock(&path) else { continue };
        let is_attached = pinned_links(&path).iter().any(|link| {
            let facts = bpf::open_pin(link).and_then(|link| bpf::link_facts(link.as_fd()));
            facts.is_ok_and(|facts| facts.interface != 0)
        });
        if !is_attached && clear(&path).and_then(|_| fs::remove_dir(&path)).is_ok() {
            info!(path = %path.display(), "the fast path of a server whose interfaces are gone: removed");
        }
    }
}

fn pinned_links(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(LINK)))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

fn parse_link(name: &str) -> Option<(InterfaceIndex, Mode)> {
    let (interface, mode) = name.strip_prefix(LINK)?.split_once('-')?;
    let mode = [Mode::Native, Mode::Generic].into_iter().find(|known| known.to_string() == mode)?;
    Some((InterfaceIndex(interface.parse().ok()?), mode))
}

/// Detaches a pinned link and removes its pin.
fn detach(link: &Path) -> io::Result<()> {
    let open = match bpf::open_pin(link) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if bpf::link_facts(open.as_fd())?.interface != 0 {
        bpf::detach(open.as_fd())?;
    }
    gone(fs::remove_file(link))
}

/// Detaches and removes everything in a place; returns how many links there were.
fn clear(place: &Path) -> io::Result<usize> {
    let links = pinned_links(place);
    for link in &links {
        detach(link)?;
    }
    gone(fs::remove_file(place.join(PROGRAM)))?;
    empty(&place.join(FRESH))?;
    empty(&place.join(MAPS))?;
    Ok(links.len())
}

/// Removes a folder of pins.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        gone(fs::remove_file(entry.path()))?;
    }
    gone(fs::remove_dir(folder))
}

/// What is gone already need not be removed.
fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_name_says_interface_and_mode() {
        assert_eq!(parse_link("link-7-native"), Some((InterfaceIndex(7), Mode::Native)));
        assert_eq!(parse_link("link-12-generic"), Some((InterfaceIndex(12), Mode::Generic)));
        for other in ["link-7", "link-x-native", "link-7-off", "program"] {
            assert_eq!(parse_link(other), None, "{other}");
        }
    }
}
