//! What a stranger sees of a pair: frames at the two ports of the switch and at the servers' own interfaces, the two leases
//! files, the processes' memory. The court of `tests::judge` says whether it is as it has to be.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

use tests::duo::{ADDRESSES, Duo, INTERFACES, P, S};
use tests::judge::bounds::Memory;
use tests::judge::court::{Court, Frame, Tally};
use tests::judge::untouched::Place;
use tests::lab::{Passed, Tap};

/// A leases file as it grows. One that is put in its place does not hide what the old one said last.
struct Followed {
    path: PathBuf,
    file: Option<File>,
    read: usize,
}

impl Followed {
    /// What has been added; a record that is not whole waits.
    fn more(&mut self) -> String {
        let mut text = self.rest();
        let inode = |file: &File| file.metadata().map(|file| file.ino()).ok();
        let Ok(current) = File::open(&self.path) else { return text };
        if self.file.as_ref().and_then(inode) != inode(&current) {
            text.push_str(&self.rest());
            (self.file, self.read) = (Some(current), 0);
            text.push_str(&self.rest());
        }
        text
    }

    fn rest(&mut self) -> String {
        let Some(file) = &self.file else { return String::new() };
        let len = file.metadata().map_or(0, |file| usize::try_from(file.len()).unwrap_or(0));
        let mut fresh = vec![0; len.saturating_sub(self.read)];
        let Ok(count) = file.read_at(&mut fresh, self.read as u64) else { return String::new() };
        fresh.truncate(count);
        let end = fresh.windows(3).rposition(|three| three == b"\n}\n").map_or(0, |at| at + 3);
        self.read += end;
        String::from_utf8_lossy(&fresh[..end]).into_owned()
    }
}

/// Sees, and lets judge.
pub(crate) struct Witness {
    /// At the ports of the switch, before the XDP programs.
    taps: [Tap; 2],
    /// At the servers' own interfaces, behind them.
    behind: [Tap; 2],
    files: [Followed; 2],
    court: Court,
    memory: Memory,
    window: u64,
}

impl Witness {
    pub(crate) fn new(duo: &Duo, mclt: u32, window: u64) -> Self {
        let file = |side: usize| {
            let path = duo.sides[side].folder.path().join("dhcpd.leases");
            Followed { path, file: None, read: 0 }
        };
        let namespace = |side: usize| &duo.sides[side].namespace;
        Self {
            taps: [P, S].map(|side| duo.tap(side)),
            behind: [P, S].map(|side| Tap::open(namespace(side), INTERFACES[side]).expect("a tap")),
            files: [P, S].map(file),
            court: Court::new(ADDRESSES, [P, S].map(|side| namespace(side).mac(INTERFACES[side]).expect("one")), mclt),
            memory: Memory::default(),
            window,
        }
    }

    /// Judges what has happened since the last look; the first thing that was wrong.
    pub(crate) fn look(&mut self) -> Result<(), String> {
        self.read_files();
        let until = unix_nanos();
        let mut frames = Vec::new();
        for side in [P, S] {
            for (place, tap) in [(Place::Before, &mut self.taps[side]), (Place::Behind, &mut self.behind[side])] {
                frames.extend(tap.take().into_iter().map(|Passed { at, frame }| Frame {
                    side,
                    place,
                    at,
                    bytes: frame,
                }));
            }
        }
        let since = self.court.mark();
        self.read_files();
        self.court.judge(frames, since, until);
        self.court.failures().into_iter().next().map_or(Ok(()), Err)
    }

    /// What a server says of what it keeps (I6); asked now and then.
    pub(crate) fn weigh(&mut self, duo: &Duo) -> Result<(), String> {
        for side in [P, S] {
            let Some(process) = &duo.sides[side].process else { continue };
            let Ok(status) = duo.sides[side].ask() else { continue };
            self.memory.weigh(side, process.id(), resident_kib(process.id()), self.window, &status)?;
        }
        Ok(())
    }

    /// How much was seen.
    pub(crate) fn tally(&self) -> (Tally, Memory) {
        (self.court.tally(), self.memory)
    }

    fn read_files(&mut self) {
        let texts = [P, S].map(|side| self.files[side].more());
        self.court.read(texts, unix_nanos());
    }
}

#[expect(clippy::disallowed_methods, reason = "frames are stamped with the real clock")]
fn unix_nanos() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Memory of a process that is in use, KiB; nothing of one that is gone.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
