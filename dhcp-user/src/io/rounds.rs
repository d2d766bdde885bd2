//! When the agent looks at what the kernel did, by the clock alone: the event ring, and all entries in slices.
//!
//! ```text
//!   the ring      every two seconds: nothing in it is urgent (the kernel wakes the agent where it is), and their events
//!                 are one batch of records and one sync
//!   all entries   once a minute: for renewals that needed no event
//!                 within ten seconds where the ring has lost events, and where a failover partner waits to hear of them
//! ```

use std::time::Duration;

use crate::{io::fastpath::NEWS_MAX, lease::time::BootTime};

/// How often the event ring is read, and the clocks are looked at.
const EVENTS_EVERY: Duration = Duration::from_secs(2);
/// How long a look at all entries takes.
const ALL_EVERY: Duration = Duration::from_secs(60);
/// The same in a hurry.
const ALL_SOON: Duration = Duration::from_secs(10);
/// How often the next slice is due at least: with it the dead man is told that the agent lives.
const SLICE_EVERY_MAX: Duration = Duration::from_secs(20);
/// The pause after a slice that was cut off because too much had moved in it.
const PAUSE: Duration = Duration::from_millis(40);

/// What is due when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounds {
    events_at: BootTime,
    slice_at: BootTime,
    /// Slices that are still to be looked at in a hurry.
    hasty_count: u32,
}

impl Rounds {
    /// Nothing is due at once.
    pub(super) fn new(now: BootTime) -> Self {
        Self { events_at: now.after(EVENTS_EVERY), slice_at: now.after(EVENTS_EVERY), hasty_count: 0 }
    }

    /// When something is due next.
    pub(super) fn wake_at(&self) -> BootTime {
        self.events_at.min(self.slice_at)
    }

    /// Whether the ring is due.
    pub(super) fn wants_events(&self, now: BootTime) -> bool {
        self.events_at <= now
    }

    /// The ring was read.
    pub(super) fn read_events(&mut self, now: BootTime) {
        self.events_at = now.after(EVENTS_EVERY);
    }

    /// Whether a slice is due. One that is due soon is taken while the agent is awake.
    pub(super) fn wants_slice(&self, now: BootTime, is_awake: bool) -> bool {
        self.slice_at <= if is_awake { now.after(EVENTS_EVERY / 2) } else { now }
    }

    /// Events were lost: all of so many slices are due soon.
    pub(super) fn hurry(&mut self, now: BootTime, slices: u32) {
        // The one under way may have been looked at too early.
        self.hasty_count = slices.saturating_add(1);
        self.slice_at = self.slice_at.min(now.after(ALL_SOON / self.hasty_count));
    }

    /// One of so many slices was looked at, and so much had moved in it. `is_shared`: a partner waits to hear of it.
    pub(super) fn looked(&mut self, now: BootTime, found: usize, slices: u32, is_shared: bool) {
        let is_whole = found < NEWS_MAX;
        self.hasty_count = self.hasty_count.saturating_sub(u32::from(is_whole));
        let all = if is_shared || self.hasty_count > 0 { ALL_SOON } else { ALL_EVERY };
        let pause = (all / slices.max(1)).min(SLICE_EVERY_MAX);
        self.slice_at = now.after(if is_whole { pause } else { pause.min(PAUSE) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long all of so many slices take when nothing moves.
    fn pass(rounds: &mut Rounds, mut now: BootTime, slices: u32, is_shared: bool) -> Duration {
        let begun = now;
        for _ in 0..slices {
            now = rounds.slice_at;
            assert!(rounds.wants_slice(now, false));
            rounds.looked(now, 0, slices, is_shared);
        }
        now.since(begun)
    }

    #[test]
    fn all_is_looked_at_within_a_minute_or_ten_seconds_where_it_matters() {
        for slices in [1, 7, 61, 256] {
            let mut rounds = Rounds::new(BootTime::from_secs(100));
            pass(&mut rounds, BootTime::from_secs(100), slices, false);
            let now = rounds.slice_at;
            assert!(pass(&mut rounds, now, slices, false) <= ALL_EVERY, "{slices} slices");
            rounds.looked(now, 0, slices, true);
            assert!(pass(&mut rounds, now, slices, true) <= ALL_SOON, "{slices} slices with a partner");
            rounds.looked(now, 0, slices, false);
            rounds.hurry(now, slices);
            assert!(pass(&mut rounds, now, slices, false) <= ALL_SOON, "{slices} slices after a loss");
        }
    }

    #[test]
    fn a_hurry_ends_when_all_was_looked_at() {
        let now = BootTime::from_secs(100);
        let mut rounds = Rounds::new(now);
        rounds.hurry(now, 4);
        let pause = |rounds: &mut Rounds, found| {
            let at = rounds.slice_at;
            rounds.looked(at, found, 4, false);
            rounds.slice_at.since(at)
        };
        let mut pauses: Vec<Duration> = [0, NEWS_MAX, 0, 0, 0, 0].map(|found| pause(&mut rounds, found)).into();
        assert_eq!(pauses.pop(), Some(ALL_EVERY / 4));
        assert_eq!(pauses.remove(1), PAUSE, "a slice that was cut off goes on at once, and is not counted");
        assert_eq!(pauses, [ALL_SOON / 4; 4]);
    }

    #[test]
    fn the_dead_man_is_told_in_time_and_an_awake_agent_looks_a_little_early() {
        let now = BootTime::from_secs(100);
        let mut rounds = Rounds::new(now);
        rounds.looked(now, 0, 1, false);
        assert_eq!(rounds.slice_at, now.after(SLICE_EVERY_MAX));
        let early = now.after(SLICE_EVERY_MAX - EVENTS_EVERY / 2);
        assert!(rounds.wants_slice(early, true) && !rounds.wants_slice(early, false));
        rounds.read_events(now);
        assert_eq!(rounds.wake_at(), now.after(EVENTS_EVERY));
    }
}
