//! What the program takes for "now": asked of the boot clock once in a tick, and ahead of it.
//!
//! ```text
//!   tick           n         n          n+1                         n+2
//!   boot clock  asked, kept  -         asked, kept   (suspend)     asked, kept
//!   now         kept         kept      kept                        kept
//! ```
//!
//! A promise must never be measured with a clock that is behind. What is kept is not, as long as a tick's count stands still
//! for less than [`CLOCK_AHEAD_NS`] of the boot clock. A suspend moves the boot clock and no tick; but what was kept before
//! it is of a tick that is over when a frame comes: between the last frame before and the first one behind it the kernel
//! suspends and resumes all devices, with ticks under way.

use crate::abi::BootSecs;

/// How far the program's clock is ahead, in nanoseconds. What it takes for "now" must not be behind when the tick's count is
/// late: ten ticks of the slowest kernel (a processor that sees the count stand still for five of its own ticks moves it
/// on itself).
pub const CLOCK_AHEAD_NS: u64 = 100_000_000;

/// "Now", in this tick; `kept` is the tick that was asked in last, and what it was told.
#[inline(always)]
pub fn now(kept: &mut [u64; 2], tick: u64, boot_ns: impl FnOnce() -> u64) -> BootSecs {
    let [of, secs] = *kept;
    if of == tick && secs != 0 {
        return BootSecs::new(secs as u32);
    }
    let secs = boot_ns().wrapping_add(CLOCK_AHEAD_NS) / 1_000_000_000;
    *kept = [tick, secs];
    BootSecs::new(secs as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{abi::Template, decide::grant};

    const LEASE_SECS: u32 = 600;

    /// A machine, and a program that grants a lease of ten minutes up to a horizon.
    struct Machine {
        boot_ns: u64,
        tick: u64,
        kept: [u64; 2],
        asked: u32,
    }

    impl Machine {
        fn new(boot_ns: u64) -> Self {
            Self { boot_ns, tick: 1, kept: [0; 2], asked: 0 }
        }

        /// Until when the client counts on its lease, in nanoseconds of the boot clock, if it is given one now.
        fn renew(&mut self, horizon: BootSecs) -> Option<u64> {
            let template = Template { lease_time: LEASE_SECS, ..bytemuck::Zeroable::zeroed() };
            let boot_ns = self.boot_ns;
            let asked = &mut self.asked;
            let now = now(&mut self.kept, self.tick, || {
                *asked += 1;
                boot_ns
            });
            let granted = grant(&template, horizon, now)?;
            Some(boot_ns + u64::from(granted) * 1_000_000_000)
        }
    }

    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn nobody_is_told_more_than_the_horizon_whatever_ticks_and_suspends_do() {
        let mut state = 0x1234_5678_9abc_def1;
        let (mut told, mut ahead) = (0, 0);
        for _ in 0..2_000 {
            let start = random(&mut state) % 1_000_000_000_000;
            let mut machine = Machine::new(start);
            let horizon = BootSecs::new((start / 1_000_000_000) as u32 + 300 + (random(&mut state) % 700) as u32);
            // How long this tick's count has stood still, in nanoseconds.
            let mut stands_ns = 0;
            for _ in 0..200 {
                match random(&mut state) % 8 {
                    // Time passes in one tick, which is late at most so much.
                    0..=4 => {
                        let passed = random(&mut state) % 40_000_000;
                        machine.boot_ns += passed;
                        stands_ns += passed;
                        if stands_ns >= CLOCK_AHEAD_NS {
                            (machine.tick, stands_ns) = (machine.tick + 1, 0);
                        }
                    }
                    5 | 6 => (machine.tick, stands_ns) = (machine.tick + 1, 0),
                    // Suspended for up to a minute; on the way there and back ticks pass.
                    _ => {
                        machine.boot_ns += random(&mut state) % 60_000_000_000;
                        (machine.tick, stands_ns) = (machine.tick + 1, 0);
                    }
                }
                let Some(until) = machine.renew(horizon) else { continue };
                let horizon_ns = u64::from(horizon.secs()) * 1_000_000_000;
                // The program counts whole seconds: less than one more than the horizon, which the engine's margin covers.
                assert!(until < horizon_ns + 1_000_000_000, "{until} ns, up to {horizon_ns}");
                told += 1;
                ahead += u32::from(until > horizon_ns);
            }
            assert!(machine.asked < 200, "the clock is asked once a tick");
        }
        assert!(told > 50_000, "only {told} renewals were answered");
        assert!(ahead > 0, "nothing came near the horizon");
    }

    #[test]
    fn what_a_suspend_within_one_tick_would_do_is_seen_by_this_model() {
        let mut machine = Machine::new(1_000_000_000_000);
        let horizon = BootSecs::new(1_400);
        assert!(machine.renew(horizon).is_some());
        machine.boot_ns += 50_000_000_000;
        let until = machine.renew(horizon).unwrap();
        assert!(until > 1_401_000_000_000, "a tick that outlived a suspend would promise too much: {until}");
        machine.tick += 1;
        assert!(machine.renew(horizon).unwrap() < 1_401_000_000_000);
        // A promise that has ended meanwhile is none.
        machine.boot_ns += 400_000_000_000;
        machine.tick += 1;
        assert_eq!(machine.renew(horizon), None);
    }
}
