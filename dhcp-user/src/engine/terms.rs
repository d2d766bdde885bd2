//! How long a lease lasts (dhcpd: 4.1 of the reference, in its exact order).

use dhcp_ebpf::answer::Times;

use crate::{
    config::{Evaluation, Param, Pool},
    lease::time::WallTime,
};

/// The lease time that never ends.
pub(crate) const INFINITE: u32 = u32::MAX;

/// What the lease time depends on besides the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Option 51 of the request.
    pub(crate) asked: Option<u32>,
    /// Addresses of the pool that are not free, and all.
    pub(crate) fill: Option<(u64, u64)>,
    /// What is left of the client's present lease, in seconds.
    pub(crate) left: Option<u32>,
    /// The longest lease of a client with a randomised address (`xdhcpd-random-mac-lease`).
    pub(crate) curve: Option<u32>,
    /// Now.
    pub(crate) now: WallTime,
}

/// The pool is not active yet, or not any more (`allow after`, `deny after`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inactive;

/// Computes the lease time in seconds, before any failover rule.
///
/// # Errors
///
/// [`Inactive`]: the client gets a NAK.
pub(crate) fn lease_time(evaluation: &Evaluation, pool: Option<&Pool>, wanted: &Wanted) -> Result<u32, Inactive> {
    let default = evaluation.secs_or_default(Param::DefaultLeaseTime);
    let most = evaluation.secs_or_default(Param::MaxLeaseTime);
    // dhcpd: only the default gives way to a smaller maximum; a configured minimum is the last word.
    let least = evaluation
        .secs(Param::MinLeaseTime)
        .unwrap_or_else(|| evaluation.secs_or_default(Param::MinLeaseTime).min(most));
    // The curve stands for the maximum, and above the default minimum.
    let least = match wanted.curve {
        Some(curve) if evaluation.secs(Param::MinLeaseTime).is_none() => least.min(curve),
        Some(_) | None => least,
    };
    let most = most.min(wanted.curve.unwrap_or(most));
    let mut time = wanted.asked.unwrap_or(default).min(most);

    if let Some(threshold) = evaluation.secs(Param::AdaptiveLeaseTimeThreshold)
        && threshold > 0
        && let Some((used, total)) = wanted.fill
        && total > 0
        && used.saturating_mul(100) / total >= u64::from(threshold)
    {
        time = time.min(least.max(wanted.left.unwrap_or(0)));
    }
    if let Some(pool) = pool {
        let now = wanted.now.secs();
        if pool.valid_from.is_some_and(|from| now < from) || pool.valid_until.is_some_and(|until| now >= until) {
            return Err(Inactive);
        }
        if let Some(until) = pool.valid_until {
            time = time.min(until.saturating_sub(now));
        }
    }
    if time < least {
        time = least;
    } else if time == 0 {
        time = default;
    }
    Ok(time)
}

/// RFC 2131 4.4.5 #times-in-order
/// The times that a reply carries for a lease of `lease` seconds: 58 and 59 only when configured and sensible
/// (dhcpd: 59 is dropped unless below the lease time, 58 unless below 59 or the lease time).
pub(crate) fn times(renewal: Option<u32>, rebinding: Option<u32>, lease: u32) -> Times {
    let rebinding = rebinding.filter(|time| *time != 0 && *time < lease);
    let renewal = renewal.filter(|time| *time != 0 && *time < rebinding.unwrap_or(lease));
    Times { lease, renewal: renewal.unwrap_or(0), rebinding: rebinding.unwrap_or(0) }
}

/// The instant at which a lease of `time` seconds from `now` ends.
pub(crate) fn ends(now: WallTime, time: u32) -> WallTime {
    if time == INFINITE { WallTime::NEVER } else { now.after(time) }
}

/// Seconds from `now` to `ends` as option 51 says them.
pub(crate) fn left(ends: WallTime, now: WallTime) -> u32 {
    if ends >= WallTime::NEVER { INFINITE } else { ends.since(now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    // RFC 2131 4.4.5 #times-in-order
    fn renewal_times_that_make_no_sense_are_dropped() {
        assert_eq!(times(Some(300), Some(525), 600), Times { lease: 600, renewal: 300, rebinding: 525 });
        assert_eq!(times(Some(300), Some(600), 600), Times { lease: 600, renewal: 300, rebinding: 0 });
        assert_eq!(times(Some(600), Some(600), 600), Times { lease: 600, renewal: 0, rebinding: 0 });
        assert_eq!(times(Some(525), Some(525), 600), Times { lease: 600, renewal: 0, rebinding: 525 });
        assert_eq!(times(None, None, 600), Times { lease: 600, renewal: 0, rebinding: 0 });
    }

    #[test]
    fn an_infinite_lease_never_ends_and_a_long_one_ends_before_2038() {
        assert_eq!(ends(WallTime::from_secs(1000), INFINITE), WallTime::NEVER);
        assert_eq!(ends(WallTime::from_secs(1000), u32::MAX - 1), WallTime::NEVER);
        assert_eq!(left(WallTime::NEVER, WallTime::from_secs(1000)), INFINITE);
        assert_eq!(left(WallTime::from_secs(1600), WallTime::from_secs(1003)), 597);
    }
}
