//! Log lines without a flood: so many per second and kind, then their number.

use crate::lease::time::BootTime;

use super::{
    limits::{COMPLAINTS_PER_SEC_MAX, LINES_PER_SEC_MAX},
    port::Level,
};

/// Counts the lines of a second.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    second: u32,
    plain: u32,
    complaints: u32,
    suppressed: u64,
}

impl Lines {
    /// Whether a line may be written now: not when there were too many. And a line to write before it, which says how
    /// many were left out in the second that has passed.
    pub(crate) fn admit(&mut self, level: Level, now: BootTime) -> (bool, Option<String>) {
        let second = now.to_secs().secs();
        let mut summary = None;
        if second != self.second {
            if self.suppressed > 0 {
                summary = Some(format!("{} log lines suppressed", self.suppressed));
            }
            *self = Self { second, ..Self::default() };
        }
        let (count, most) = match level {
            Level::Debug | Level::Info => (&mut self.plain, LINES_PER_SEC_MAX),
            Level::Warn | Level::Error => (&mut self.complaints, COMPLAINTS_PER_SEC_MAX),
        };
        *count = count.saturating_add(1);
        let is_admitted = *count <= most;
        if !is_admitted {
            self.suppressed = self.suppressed.saturating_add(1);
        }
        (is_admitted, summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_its_number_in_the_next_second() {
        let mut lines = Lines::default();
        let mut admit = |secs| lines.admit(Level::Error, BootTime::from_secs(secs));
        for _ in 0..COMPLAINTS_PER_SEC_MAX {
            assert_eq!(admit(1), (true, None));
        }
        for _ in 0..7 {
            assert_eq!(admit(1), (false, None));
        }
        assert_eq!(admit(2), (true, Some("7 log lines suppressed".to_owned())));
        assert_eq!(admit(3), (true, None));
    }
}
