//! A mount namespace with a bpffs of its own: what a server pins there goes when this value does, and the machine's
//! own file systems never see it.
#![expect(unsafe_code, reason = "std cannot change the namespace of a thread, nor mount")]

use std::{ffi::CString, fs::File, io, os::fd::AsRawFd as _, ptr, thread};

/// Where a server looks for a bpffs.
const BPFFS: &str = "/sys/fs/bpf";

/// The namespace; it lives as long as somebody is in it or this value is.
#[derive(Debug)]
pub struct Mounts {
    file: File,
}

impl Mounts {
    /// Makes it.
    ///
    /// # Errors
    /// When the kernel, or what this runs in, refuses.
    pub fn new() -> io::Result<Self> {
        let file = thread::spawn(|| {
            // SAFETY: it changes this thread only, which ends with the closure.
            succeed(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
            mount("none", "/", None, libc::MS_REC | libc::MS_PRIVATE)?;
            mount("bpf", BPFFS, Some("bpf"), 0)?;
            File::open("/proc/thread-self/ns/mnt")
        });
        let file = file.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))?;
        Ok(Self { file })
    }

    /// Moves the calling thread into it; a thread of `Namespace::enter`, which ends after its work.
    pub(super) fn join(&self) -> io::Result<()> {
        // SAFETY: from here on this thread has a root and a working directory of its own.
        succeed(unsafe { libc::unshare(libc::CLONE_FS) })?;
        // SAFETY: setns takes an open descriptor and a flag, and changes this thread only.
        succeed(unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNS) })
    }

    /// Does something on a thread inside.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub fn enter<T: Send>(&self, what: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                self.join()?;
                Ok(what())
            });
            inside.join().unwrap_or_else(|_| Err(io::Error::other("the work in the namespace panicked")))
        })
    }
}

fn mount(source: &str, target: &str, kind: Option<&str>, flags: libc::c_ulong) -> io::Result<()> {
    let (source, target) = (CString::new(source)?, CString::new(target)?);
    let kind = kind.map(CString::new).transpose()?;
    let kind = kind.as_ref().map_or(ptr::null(), |kind| kind.as_ptr());
    // SAFETY: all strings outlive the call.
    succeed(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, ptr::null()) })
}

fn succeed(status: libc::c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
