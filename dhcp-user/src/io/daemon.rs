//! Becoming a daemon as dhcpd does, and the pid file.
//!
//! ```text
//!   parent --fork--> child: setsid, start everything
//!   parent <--pipe-- one byte: the exit status, when the child serves, or has failed
//! ```

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::ExitStatus,
};

/// What became of a fork.
#[derive(Debug)]
pub enum Forked {
    /// The parent, when the child has reported: exit with this.
    Parent(u8),
    /// The child: go on, and report.
    Child(Readiness),
}

/// The child's line to its waiting parent. Dropping it unreported tells the parent that the child has failed.
#[derive(Debug)]
pub struct Readiness(Option<io::PipeWriter>);

impl Readiness {
    /// For a process that stays in the foreground: nobody waits.
    #[must_use]
    pub const fn nobody() -> Self {
        Self(None)
    }

    /// Tells the parent that everything works, and leaves its terminal.
    ///
    /// # Errors
    /// When /dev/null cannot be opened.
    pub fn report(self) -> io::Result<()> {
        let Some(mut pipe) = self.0 else { return Ok(()) };
        std::env::set_current_dir("/")?;
        let null: OwnedFd = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into();
        for standard in 0..=2 {
            // SAFETY: both descriptors are open; the standard ones may be replaced at any time.
            if unsafe { libc::dup2(null.as_raw_fd(), standard) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        pipe.write_all(&[0])
    }
}

/// Forks. Must be called while the process has one thread.
///
/// # Errors
/// The kernel's refusal.
pub fn fork() -> io::Result<Forked> {
    let (mut reader, writer) = io::pipe()?;
    // SAFETY: the process has a single thread (the caller's duty, kept in `start`), so the child's memory is
    // consistent and every library may be used in it.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            // SAFETY: no pointers are passed; it fails only for a group leader, which a fresh child is not.
            unsafe { libc::setsid() };
            Ok(Forked::Child(Readiness(Some(writer))))
        }
        child => {
            drop(writer);
            let mut status = [0];
            if reader.read(&mut status)? == 1 {
                let [status] = status;
                return Ok(Forked::Parent(status));
            }
            Ok(Forked::Parent(exit_code(child)))
        }
    }
}

/// Waits for a child that died before it reported.
fn exit_code(child: libc::pid_t) -> u8 {
    let mut status = 0;
    // SAFETY: `status` outlives the call, and the child is ours.
    if unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        return 1;
    }
    ExitStatus::from_raw(status).code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1)
}

/// A pid file that this process wrote; it is removed at the end.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file. A running server that wrote it before is an error (dhcpd does the same).
    ///
    /// # Errors
    /// A sentence about what is in the way.
    pub fn write(path: &Path) -> Result<Self, String> {
        if let Some(pid) = read_pid(path).filter(|pid| *pid != std::process::id() && is_server(*pid)) {
            return Err(format!(
                "There's already a DHCP server running: process {pid}, as {} says. Stop it, or name another pid file \
                 with -pf.",
                path.display()
            ));
        }
        fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|error| format!("Can't create PID file {}: {error}.", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if read_pid(&self.0) == Some(std::process::id()) {
            // It is only a hint for others; a server that cannot remove it still stops.
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok().filter(|pid| *pid != 0)
}

/// Whether a process lives that may be a DHCP server: pids are reused, a container's first process is always 1.
fn is_server(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim().contains("dhcpd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_goes_with_its_process_and_a_strangers_stays() {
        let path = std::env::temp_dir().join(format!("xdhcpd-pid-{}", std::process::id()));
        let file = PidFile::write(&path).unwrap();
        assert_eq!(read_pid(&path), Some(std::process::id()));
        drop(file);
        assert!(!path.exists());

        fs::write(&path, "4194303\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "4194303\n").unwrap();
        drop(file);
        assert!(path.exists(), "somebody else wrote it meanwhile");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_pid_file_in_no_directory_is_an_error_that_names_it() {
        let error = PidFile::write(Path::new("/nonexistent/x.pid")).unwrap_err();
        assert!(error.contains("/nonexistent/x.pid"), "{error}");
    }
}
