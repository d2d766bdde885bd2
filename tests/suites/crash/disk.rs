//! A liar of a disk: it tears writes, forgets what was not synced, runs full, breaks, and loses its power at any
//! moment. In memory, and the same every time.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use dhcp_user::io::journal::{Disk, DiskFile};
use tests::dice::Dice;

/// What a sector of a disk is written in: all of it, or nothing.
pub(crate) const SECTOR_LEN: usize = 512;

/// What the power cut leaves of the writes that were not synced.
#[derive(Debug, Clone)]
pub(crate) enum Cut {
    /// The first so many bytes, in the order they were written.
    Bytes(usize),
    /// Any sectors, and any first part of the changes to names.
    Sectors(Dice),
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                if content.len() < at + bytes.len() {
                    content.resize(at + bytes.len(), 0);
                }
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Write { bytes, .. } => bytes.len(),
            Self::SetLen(_) => 1,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Inode {
    /// What a reader sees.
    content: Vec<u8>,
    /// What is on the platter.
    durable: Vec<u8>,
    /// What has been written since the last sync.
    changes: Vec<Change>,
    locked_by: Option<u64>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, usize),
    Remove(PathBuf),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Set(path, inode) => drop(names.insert(path.clone(), *inode)),
            Self::Remove(path) => drop(names.remove(path)),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names since the last sync of the folder; a rename is one change.
    name_changes: Vec<Vec<NameChange>>,
    inodes: Vec<Inode>,
    /// Changing operations so far.
    steps: u64,
    syncs: u64,
    power_off_at: Option<u64>,
    /// Syncs from this one on fail, up to the other one.
    broken_syncs: Option<(u64, u64)>,
    is_read_only: bool,
    /// Bytes there is room for.
    capacity: Option<usize>,
}

/// The disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Liar {
    state: Arc<Mutex<State>>,
}

static HANDLES: AtomicU64 = AtomicU64::new(1);

impl Liar {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a durable file on the disk.
    pub(crate) fn put(&self, path: &Path, content: &[u8]) {
        let mut state = self.state();
        let inode = state.inodes.len();
        state.inodes.push(Inode { content: content.to_vec(), durable: content.to_vec(), ..Inode::default() });
        state.names.insert(path.to_owned(), inode);
        state.durable_names.insert(path.to_owned(), inode);
    }

    /// What a reader sees under a name.
    pub(crate) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).map(|inode| state.inodes[*inode].content.clone())
    }

    pub(crate) fn names(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// Changing operations so far.
    pub(crate) fn steps(&self) -> u64 {
        self.state().steps
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// The power goes in the middle of this operation.
    pub(crate) fn power_off_at(&self, step: u64) {
        self.state().power_off_at = Some(step);
    }

    /// Syncs fail from the next one on, so many times.
    pub(crate) fn break_syncs(&self, count: u64) {
        let mut state = self.state();
        let next = state.syncs + 1;
        state.broken_syncs = Some((next, next + count));
    }

    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        self.state().is_read_only = is_read_only;
    }

    pub(crate) fn set_capacity(&self, capacity: Option<usize>) {
        self.state().capacity = capacity;
    }

    /// Bytes in use by files that have a name.
    pub(crate) fn used(&self) -> usize {
        self.state().used()
    }

    /// Most bytes that were not synced in one file: how many cuts there are.
    pub(crate) fn unsynced_len(&self) -> usize {
        self.state().inodes.iter().map(|inode| inode.changes.iter().map(Change::len).sum()).max().unwrap_or(0)
    }

    /// The disk as the next boot finds it.
    pub(crate) fn after_power_cut(&self, cut: &Cut) -> Self {
        let mut state = self.state().clone();
        let mut dice = match cut {
            Cut::Bytes(_) => Dice::new(0),
            Cut::Sectors(dice) => dice.clone(),
        };
        let kept_names = match cut {
            Cut::Bytes(bytes) => bytes % (state.name_changes.len() + 1),
            Cut::Sectors(_) => dice.index(state.name_changes.len() + 1),
        };
        for change in state.name_changes.drain(..).take(kept_names).collect::<Vec<_>>().iter().flatten() {
            change.apply(&mut state.durable_names);
        }
        state.names = state.durable_names.clone();
        for inode in &mut state.inodes {
            for change in keep(&inode.changes, cut, &mut dice) {
                change.apply(&mut inode.durable);
            }
            *inode = Inode { content: inode.durable.clone(), durable: inode.durable.clone(), ..Inode::default() };
        }
        let State { names, durable_names, inodes, .. } = state;
        Self { state: Arc::new(Mutex::new(State { names, durable_names, inodes, ..State::default() })) }
    }
}

/// The part of the unsynced changes that a power cut leaves.
fn keep(changes: &[Change], cut: &Cut, dice: &mut Dice) -> Vec<Change> {
    let mut kept = Vec::new();
    let mut budget = match cut {
        Cut::Bytes(bytes) => *bytes,
        Cut::Sectors(_) => usize::MAX,
    };
    for change in changes {
        match (change, cut) {
            (Change::Write { at, bytes }, Cut::Bytes(_)) => {
                let len = bytes.len().min(budget);
                budget -= len;
                kept.push(Change::Write { at: *at, bytes: bytes[..len].to_vec() });
            }
            (Change::SetLen(len), Cut::Bytes(_)) => {
                if budget > 0 {
                    budget -= 1;
                    kept.push(Change::SetLen(*len));
                }
            }
            (Change::Write { at, bytes }, Cut::Sectors(_)) => {
                let mut from = 0;
                while from < bytes.len() {
                    let end = (((at + from) / SECTOR_LEN + 1) * SECTOR_LEN - at).min(bytes.len());
                    if dice.index(2) == 0 {
                        kept.push(Change::Write { at: at + from, bytes: bytes[from..end].to_vec() });
                    }
                    from = end;
                }
            }
            (Change::SetLen(len), Cut::Sectors(_)) => {
                if dice.index(2) == 0 {
                    kept.push(Change::SetLen(*len));
                }
            }
        }
    }
    kept
}

impl State {
    fn used(&self) -> usize {
        let mut named: Vec<usize> = self.names.values().copied().collect();
        named.sort_unstable();
        named.dedup();
        named.into_iter().map(|inode| self.inodes[inode].content.len()).sum()
    }

    /// Counts an operation that changes something; an error when the disk does not do it.
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        if self.power_off_at.is_some_and(|at| self.steps >= at) {
            return Err(io::Error::other("the power is off"));
        }
        if self.is_read_only {
            return Err(io::Error::new(ErrorKind::ReadOnlyFilesystem, "read-only file system"));
        }
        Ok(())
    }

    fn rename(&mut self, changes: Vec<NameChange>) {
        for change in &changes {
            change.apply(&mut self.names);
        }
        self.name_changes.push(changes);
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for Liar {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.state().find(path)?;
        Ok(Arc::new(Handle { disk: self.clone(), inode, number: HANDLES.fetch_add(1, Ordering::Relaxed) }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.step()?;
        if state.names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.rename(vec![NameChange::Set(path.to_owned(), inode)]);
        Ok(Arc::new(Handle { disk: self.clone(), inode, number: HANDLES.fetch_add(1, Ordering::Relaxed) }))
    }

    fn exists(&self, path: &Path) -> bool {
        self.state().names.contains_key(path)
    }

    fn is_at(&self, file: &dyn DiskFile, path: &Path) -> io::Result<bool> {
        Ok(file.identity()?.1 == self.state().find(path)? as u64)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let inode = state.find(from)?;
        if state.names.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.rename(vec![NameChange::Set(to.to_owned(), inode)]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let inode = state.find(from)?;
        state.rename(vec![NameChange::Set(to.to_owned(), inode), NameChange::Remove(from.to_owned())]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.find(path)?;
        state.rename(vec![NameChange::Remove(path.to_owned())]);
        Ok(())
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        for change in std::mem::take(&mut state.name_changes).iter().flatten() {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }
}

/// An open file.
#[derive(Debug)]
struct Handle {
    disk: Liar,
    inode: usize,
    number: u64,
}

impl Handle {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.disk.state();
        let result = state.step();
        let is_power_cut = state.power_off_at == Some(state.steps);
        if result.is_err() && !is_power_cut {
            return result;
        }
        let before = state.inodes[self.inode].content.len();
        let after = match &change {
            Change::Write { at, bytes } => before.max(at + bytes.len()),
            Change::SetLen(len) => *len,
        };
        if state.capacity.is_some_and(|capacity| state.used() + after.saturating_sub(before) > capacity) {
            return Err(ErrorKind::StorageFull.into());
        }
        // What the power cut interrupts may have happened, in part.
        let inode = &mut state.inodes[self.inode];
        change.apply(&mut inode.content);
        inode.changes.push(change);
        result
    }
}

impl DiskFile for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().inodes[self.inode].content.len() as u64)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((0, self.inode as u64))
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let rest = state.inodes[self.inode].content.get(at as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.change(Change::Write { at: at as usize, bytes: bytes.to_vec() })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.step()?;
        state.syncs += 1;
        let is_broken = state.broken_syncs.is_some_and(|(from, to)| (from..to).contains(&state.syncs));
        let inode = &mut state.inodes[self.inode];
        let changes = std::mem::take(&mut inode.changes);
        if is_broken {
            // The pages are marked clean although they never reached the disk: a later sync will say that all is well.
            return Err(io::Error::other("input/output error"));
        }
        for change in changes {
            change.apply(&mut inode.durable);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len as usize))
    }

    fn try_lock(&self) -> io::Result<bool> {
        let locked_by = &mut self.disk.state().inodes[self.inode].locked_by;
        let is_mine = locked_by.is_none_or(|number| number == self.number);
        if is_mine {
            *locked_by = Some(self.number);
        }
        Ok(is_mine)
    }

    fn is_nameless(&self) -> io::Result<bool> {
        Ok(!self.disk.state().names.values().any(|inode| *inode == self.inode))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let locked_by = &mut self.disk.state().inodes[self.inode].locked_by;
        if *locked_by == Some(self.number) {
            *locked_by = None;
        }
    }
}
