//! The few things a journal asks of a file system, so that a liar of a disk can stand in for it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A file system.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    ///
    /// What the system says; `NotFound` when there is none.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a new file (mode 0664, as dhcpd's).
    ///
    /// # Errors
    ///
    /// What the system says; `AlreadyExists` when there is one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Whether there is something with this name.
    fn exists(&self, path: &Path) -> bool;

    /// Whether `path` names the very file that is open.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn is_at(&self, file: &dyn DiskFile, path: &Path) -> io::Result<bool>;

    /// Gives a file a second name.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file over whatever has that name.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in the folder of `path` durable.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Length in bytes.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Device and number of the file.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn identity(&self) -> io::Result<(u64, u64)>;

    /// Reads up to `buffer.len()` bytes.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// What the system says; some of the bytes may have been written.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes the written bytes durable, and the length if it has changed (fdatasync).
    ///
    /// # Errors
    ///
    /// What the system says. After an error nothing is known of what was written since the last success.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Takes the lock of the file until it is closed; `false` when somebody else has it.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn try_lock(&self) -> io::Result<bool>;

    /// Whether no name leads to the file any more.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn is_nameless(&self) -> io::Result<bool>;
}

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Arc::new(file))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).create_new(true).mode(0o664).open(path)?))
    }

    fn exists(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    fn is_at(&self, file: &dyn DiskFile, path: &Path) -> io::Result<bool> {
        let there = std::fs::metadata(path)?;
        Ok(file.identity()? == (there.dev(), there.ino()))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = self.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match Self::try_lock(self) {
            Ok(()) => Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn is_nameless(&self) -> io::Result<bool> {
        Ok(self.metadata()?.nlink() == 0)
    }
}

/// Bytes given back at once, and how long the disk has for them.
const FREED_LEN: u64 = 8 * 1024 * 1024;
const FREED_PAUSE: Duration = Duration::from_millis(10);

/// Closes a file that has no name any more, giving back its space a piece at a time: 300 MB at once, which closing it
/// does, kept a commit waiting for 25 ms on ext4 with `discard`, in pieces for less than 5. A file that has a name, or
/// that somebody else has open through `file`, is merely let go of. Stops when `is_cancelled`.
pub(super) fn free(mut file: Arc<dyn DiskFile>, is_cancelled: &AtomicBool) {
    let is_ours = Arc::get_mut(&mut file).is_some() && file.is_nameless().unwrap_or(false);
    let mut len = if is_ours { file.len().unwrap_or(0) } else { 0 };
    while len > FREED_LEN && !is_cancelled.load(Ordering::Relaxed) {
        len -= FREED_LEN;
        if file.set_len(len).is_err() {
            break;
        }
        std::thread::sleep(FREED_PAUSE);
    }
}

/// Reads until the buffer is full or the file ends.
///
/// # Errors
///
/// What the system says.
pub(super) fn read_full(file: &dyn DiskFile, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut len = 0;
    while let Some(rest) = buffer.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + len as u64) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
