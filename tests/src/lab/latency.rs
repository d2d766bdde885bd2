//! A cable that takes time.
//!
//! Between two ends of a veth everything happens inside the sender's system call: what the kernel answers is back
//! before `write` returns. busybox's udhcpc sends a renewal from a connected socket of its own, closes it, and
//! listens on another one; an answer that fast lands in the socket that is closed next, and udhcpc asks again a
//! second later. No cable is that fast. So the answers' way back runs in a kernel thread (threaded NAPI) on another
//! processor than the clients: waking it takes the microseconds that a cable would.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::{Namespace, until};

/// Where a thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// The clients' processor.
    First,
    /// The one that the way back runs on; the same where there is only one.
    Last,
}

impl Processor {
    /// Binds a thread (0 = the calling one, and what it starts) to this processor.
    pub(super) fn bind(self, thread: i32) -> io::Result<()> {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let number = match self {
            Self::First => 0,
            Self::Last => count - 1,
        };
        #[expect(unsafe_code, reason = "std cannot bind a thread to a processor")]
        // SAFETY: all-zero bytes are an empty set, CPU_SET writes inside it, and its size is passed with it.
        let status = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(number, &mut set);
            libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &raw const set)
        };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Makes the receiving side of an interface that runs XDP natively a thread, on this processor.
///
/// # Errors
/// When the kernel has no threaded NAPI for it.
pub(super) fn add(namespace: &Namespace, interface: &str, processor: Processor) -> Result<()> {
    let before = threads_of(interface);
    // The view of /sys belongs to the namespace it was mounted in; `ip netns exec` mounts a fresh one.
    let mut tee = Command::new("ip")
        .args(["netns", "exec", namespace.name(), "tee", &format!("/sys/class/net/{interface}/threaded")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    if let Some(mut input) = tee.stdin.take() {
        input.write_all(b"1")?;
    }
    ensure!(tee.wait()?.success(), "{interface} has no threaded NAPI");
    // One per receive queue in use; they appear together.
    let ours = until("the threads of the cable", std::time::Duration::from_secs(2), || {
        let ours: Vec<i32> = threads_of(interface).difference(&before).copied().collect();
        (!ours.is_empty()).then_some(ours)
    })?;
    for thread in ours {
        processor.bind(thread)?;
    }
    Ok(())
}

/// Ids of kernel threads that poll an interface of this name.
fn threads_of(interface: &str) -> BTreeSet<i32> {
    let name = format!("napi/{interface}-");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|text| text.parse().ok()) else { continue };
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.starts_with(&name)) {
            found.insert(id);
        }
    }
    found
}
