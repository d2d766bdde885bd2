//! Herds: many clients served at once come back at once, unless they are told different times (storm mode).
//!
//! After a power cut a building boots in seconds, and half a lease later all of it renews in the same seconds, again and
//! again. When a pool grants far more than its renewals explain, the times of those replies are cut by up to a quarter
//! (`xdhcpd-herd-jitter`), by a share that belongs to the address: 58 and 59 where they are configured, the lease time
//! itself where clients reckon from it. The next wave is flat, and so is every later one, since phases stay apart.
//!
//! What the kernel is armed with is never jittered: its answers stay those that the slow path gives outside of a herd, and
//! differ from the slow path's inside of one by the values of 51, 58 and 59 alone (I4).

use std::net::Ipv4Addr;

use dhcp_ebpf::answer::Times;

use crate::{
    config::{Evaluation, Param, PoolId},
    lease::{
        BindingState, PoolIndex,
        time::{BootTime, Now},
    },
};

use super::{
    Server,
    limits::{HERD_COUNT_MIN, HERD_EXCESS, HERD_SECS, JITTER_PERCENT_MAX},
    terms::INFINITE,
};

/// Grants of a pool in each of the last seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Window {
    counts: [u32; HERD_SECS],
    second: u64,
}

impl Window {
    /// Forgets the seconds that are over.
    fn turn(&mut self, now: BootTime) {
        let second = now.nanos() / 1_000_000_000;
        let passed = second.saturating_sub(self.second).min(HERD_SECS as u64);
        for step in 1..=passed {
            let place = usize::try_from((self.second + step) % HERD_SECS as u64).unwrap_or(0);
            if let Some(count) = self.counts.get_mut(place) {
                *count = 0;
            }
        }
        self.second = second;
    }

    fn note(&mut self, now: BootTime) {
        self.turn(now);
        let place = usize::try_from(self.second % HERD_SECS as u64).unwrap_or(0);
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add(1);
        }
    }

    fn sum(&mut self, now: BootTime) -> u64 {
        self.turn(now);
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }
}

/// By how much times are cut: so many 65,536ths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Jitter(u32);

impl Jitter {
    /// The time that is said instead.
    pub(crate) fn cut(self, secs: u32) -> u32 {
        let cut = (u64::from(secs) * u64::from(self.0)) >> 16;
        secs.saturating_sub(u32::try_from(cut).unwrap_or(0))
    }

    /// The times that are said instead, if clients are told when to renew.
    pub(crate) fn cut_times(self, times: Times) -> Times {
        Times { renewal: self.cut(times.renewal), rebinding: self.cut(times.rebinding), ..times }
    }
}

impl Server {
    /// Notes that a pool has granted a lease.
    pub(super) fn note_grant(&mut self, pool: Option<PoolId>, now: Now) {
        if let Some(window) = pool.and_then(|pool| self.herds.get_mut(pool.0)) {
            window.note(now.boot);
        }
    }

    /// By how much the times of a lease of `secs` are cut, when its pool sees a herd.
    pub(super) fn jitter(
        &mut self,
        evaluation: &Evaluation,
        pool: Option<PoolId>,
        address: Ipv4Addr,
        secs: u32,
        now: Now,
    ) -> Option<Jitter> {
        let percent = evaluation.secs_or_default(Param::XdhcpdHerdJitter).min(JITTER_PERCENT_MAX);
        let pool = pool.filter(|_| percent != 0 && secs != INFINITE)?;
        let active = u64::from(self.table.counts(PoolIndex(pool.0)).of(BindingState::Active));
        // Clients renew at half of their lease (RFC 2131 4.4.5): so many grants are nothing special.
        let usual = active.saturating_mul(2 * HERD_SECS as u64) / u64::from(secs.max(1));
        let granted = self.herds.get_mut(pool.0)?.sum(now.boot);
        if granted < u64::from(HERD_COUNT_MIN).max(usual.saturating_mul(HERD_EXCESS)) {
            return None;
        }
        // The same share for an address each time: OFFER and ACK agree, and a retry is told the same.
        let mixed = (u64::from(address.to_bits()) ^ self.options.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let share = u32::try_from(mixed >> 48).unwrap_or(0);
        Some(Jitter(share * percent / 100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_its_seconds_and_no_others() {
        let mut window = Window::default();
        for second in 0..100 {
            window.note(BootTime::from_secs(1000 + second));
            assert_eq!(window.sum(BootTime::from_secs(1000 + second)), (second + 1).min(HERD_SECS as u64));
        }
        assert_eq!(window.sum(BootTime::from_secs(1099 + 4)), HERD_SECS as u64 - 4);
        assert_eq!(window.sum(BootTime::from_secs(2000)), 0);
    }
}
