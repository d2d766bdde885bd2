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
    /// The lines to write now: this one unless there were too many, and before it how many were left out in the
    /// second that has passed.
    pub(crate) fn admit(
        &mut self,
        level: Level,
        line: String,
        now: BootTime,
    ) -> impl Iterator<Item = (Level, String)> + use<> {
        let second = now.to_secs().secs();
        let mut summary = None;
        if second != self.second {
            if self.suppressed > 0 {
                summary = Some((Level::Warn, format!("{} log lines suppressed", self.suppressed)));
            }
            *self = Self { second, ..Self::default() };
        }
        let (count, most) = match level {
            Level::Debug | Level::Info => (&mut self.plain, LINES_PER_SEC_MAX),
            Level::Warn | Level::Error => (&mut self.complaints, COMPLAINTS_PER_SEC_MAX),
        };
        *count = count.saturating_add(1);
        let line = (*count <= most).then_some((level, line));
        if line.is_none() {
            self.suppressed = self.suppressed.saturating_add(1);
        }
        summary.into_iter().chain(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_its_number_in_the_next_second() {
        let mut lines = Lines::default();
        let mut admit = |secs| -> Vec<String> {
            lines.admit(Level::Error, "full".to_owned(), BootTime::from_secs(secs)).map(|(_, line)| line).collect()
        };
        for _ in 0..COMPLAINTS_PER_SEC_MAX {
            assert_eq!(admit(1), ["full"]);
        }
        for _ in 0..7 {
            assert!(admit(1).is_empty());
        }
        assert_eq!(admit(2), ["7 log lines suppressed", "full"]);
        assert_eq!(admit(3), ["full"]);
    }
}
