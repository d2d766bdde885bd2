//! The clocks: the only place of the agent that reads them, and the alarm that rings on CLOCK_BOOTTIME.
//!
//! tokio's timers run on CLOCK_MONOTONIC, which stands still during suspend; promises do not. The alarm is a
//! timerfd on the boot clock, so a laptop that wakes up finds its expired leases expired.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use tokio::io::{Interest, unix::AsyncFd};

use crate::lease::time::{BootTime, Now, WallTime};

/// Reads both clocks.
#[must_use]
pub fn now() -> Now {
    Now { boot: boot_time(), wall: WallTime::from_secs(read(libc::CLOCK_REALTIME).as_secs()) }
}

/// Reads CLOCK_BOOTTIME.
#[must_use]
pub fn boot_time() -> BootTime {
    let since_boot = read(libc::CLOCK_BOOTTIME);
    BootTime::from_nanos(u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX))
}

/// Reads the wall clock to the nanosecond: only to tell how long ago the kernel stamped a packet.
#[must_use]
pub fn stamp() -> Duration {
    read(libc::CLOCK_REALTIME)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that outlives the call.
    let status = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(status, 0, "this kernel has no clock {clock}");
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Seconds that local time is ahead of UTC now.
#[must_use]
pub fn utc_offset_secs() -> i32 {
    let time = i64::from(now().wall.secs());
    // SAFETY: tm is plain integers and a pointer; all zeroes is a value, and localtime_r fills it in.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call. Nothing in this process changes the environment.
    unsafe { libc::localtime_r(&raw const time, &raw mut local) };
    i32::try_from(local.tm_gmtoff).unwrap_or(0)
}

/// Rings once at an instant of the boot clock.
#[derive(Debug)]
pub struct Alarm {
    fd: AsyncFd<OwnedFd>,
    set_for: Option<BootTime>,
}

impl Alarm {
    /// An alarm that is not set. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The kernel's refusal to make a timer.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an `OwnedFd` keeps its descriptor open, and the same one, as long as it is registered.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self { fd, set_for: None })
    }

    /// Sets the alarm, or takes it back. An instant in the past rings at once.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set(&mut self, at: Option<BootTime>) -> io::Result<()> {
        if at == self.set_for {
            return Ok(());
        }
        // Zero would disarm the timer: the first nanosecond is the past as well.
        let nanos = at.map_or(0, |at| at.nanos().max(1));
        let value = libc::timespec {
            tv_sec: libc::time_t::try_from(nanos / 1_000_000_000).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::try_from(nanos % 1_000_000_000).unwrap_or(0),
        };
        let setting = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: `setting` outlives the call; no old value is asked for.
        let status = unsafe {
            libc::timerfd_settime(
                self.fd.get_ref().as_raw_fd(),
                libc::TFD_TIMER_ABSTIME,
                &raw const setting,
                std::ptr::null_mut(),
            )
        };
        if status < 0 {
            return Err(io::Error::last_os_error());
        }
        self.set_for = at;
        Ok(())
    }

    /// Waits until the alarm rings. Cancel safe; an alarm that is not set never rings.
    pub async fn rung(&mut self) {
        loop {
            let Ok(mut guard) = self.fd.readable().await else {
                return;
            };
            let read = guard.try_io(|fd| {
                let mut count = [0_u8; 8];
                // SAFETY: the buffer has the eight bytes a timerfd writes, and outlives the call.
                let len = unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
                if len < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            });
            if read.is_ok() {
                self.set_for = None;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_rings_after_its_instant_and_not_before() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut alarm = Alarm::new().unwrap();
            let at = boot_time().after(Duration::from_millis(20));
            alarm.set(Some(at)).unwrap();
            alarm.rung().await;
            assert!(boot_time() >= at);
            alarm.set(Some(BootTime::default())).unwrap();
            alarm.rung().await;
        });
    }
}
