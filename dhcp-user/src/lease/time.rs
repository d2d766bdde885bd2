//! The two clocks: wall time for files, partners and people; boot time for everything the agent promises itself.

use std::time::Duration;

use dhcp_ebpf::abi::BootSecs;

/// An instant of CLOCK_BOOTTIME, in nanoseconds since boot: goes on during suspend, never steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootTime(u64);

impl BootTime {
    /// The instant `nanos` nanoseconds after boot.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant `secs` seconds after boot.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since boot.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// This instant as the kernel program sees it, rounded down.
    #[must_use]
    pub const fn to_secs(self) -> BootSecs {
        BootSecs::new((self.0 / 1_000_000_000) as u32)
    }

    /// Time from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant `by` later.
    #[must_use]
    pub const fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_nanos() as u64))
    }
}

/// Seconds of wall time since 1970 (UTC), as the leases file and the failover protocol write them.
///
/// [`WallTime::NONE`] (0) means "not known", a line that is not written; [`WallTime::NEVER`] (0x7fffffff and
/// above) is dhcpd's infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(u32);

impl WallTime {
    /// Not known.
    pub const NONE: Self = Self(0);
    /// dhcpd's infinity, written as `never`.
    pub const NEVER: Self = Self(0x7fff_ffff);

    /// The instant `secs` seconds after 1970; later than [`Self::NEVER`] becomes that.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        if secs > Self::NEVER.0 as u64 { Self::NEVER } else { Self(secs as u32) }
    }

    /// Seconds since 1970.
    #[must_use]
    pub const fn secs(self) -> u32 {
        self.0
    }

    /// Whether the instant is known.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }

    /// The instant `secs` later, at most [`Self::NEVER`]; never stays never.
    #[must_use]
    pub const fn after(self, secs: u32) -> Self {
        Self::from_secs(self.0 as u64 + secs as u64)
    }

    /// Seconds from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks, read together: the only place where the two meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_BOOTTIME.
    pub boot: BootTime,
    /// CLOCK_REALTIME, whole seconds.
    pub wall: WallTime,
}

impl Now {
    /// The boot instant that corresponds to `wall` if no clock is stepped; the past becomes boot time zero.
    #[must_use]
    pub fn boot_of(&self, wall: WallTime) -> BootTime {
        let now = u64::from(self.wall.secs());
        let then = u64::from(wall.secs());
        if then >= now {
            self.boot.after(Duration::from_secs(then - now))
        } else {
            BootTime::from_nanos(self.boot.nanos().saturating_sub((now - then) * 1_000_000_000))
        }
    }

    /// The wall instant that corresponds to `boot` if no clock is stepped.
    #[must_use]
    pub fn wall_of(&self, boot: BootSecs) -> WallTime {
        let now = u64::from(self.boot.to_secs().secs());
        let then = u64::from(boot.secs());
        WallTime::from_secs((u64::from(self.wall.secs()) + then).saturating_sub(now))
    }
}
