//! A step of the wall clock while the server runs: somebody set it, or NTP found out.
//!
//! Records are in wall time, promises are not. Set back, the clock makes every lease look longer than it was
//! promised: nobody loses anything. Set ahead, it makes them look over while their clients, and the kernel, still count on
//! them: so the table is told until when nobody else may have the address, as after a crash, and the records follow in
//! slices, so that a loss of power finds them right.

use std::net::Ipv4Addr;

use crate::lease::{
    BindingState, Lease, journal,
    time::{Now, WallTime},
};

use super::{Server, limits, port::Level};

/// Seconds by which two readings of both clocks may differ without a step.
const SLACK_SECS: u32 = 2;
/// NTP lets the wall clock go faster or slower by at most one second in two thousand; this one in a thousand.
const DRIFT_ONE_OF: u32 = 1000;

impl Server {
    /// Reads the clocks.
    pub(super) fn read_clocks(&mut self, now: Now) {
        let before = std::mem::replace(&mut self.clock, now);
        let passed = now.boot.to_secs().since(before.boot.to_secs());
        let expected = before.wall.after(passed);
        let slack = SLACK_SECS.saturating_add(passed / DRIFT_ONE_OF);
        let (ahead, behind) = (now.wall.since(expected), expected.since(now.wall));
        if behind > slack {
            self.log(
                Level::Warn,
                format!("the wall clock was set back by {behind} s: leases that run now end that much later"),
            );
        }
        if ahead <= slack {
            return;
        }
        self.log(
            Level::Warn,
            format!("the wall clock was set ahead by {ahead} s: leases that run now keep their time"),
        );
        let told = self.table.iter().filter(|lease| lease.state == BindingState::Active).map(|lease| {
            let mut until = lease.ends.max(self.table.limit(lease.address).unwrap_or(WallTime::NONE));
            if self.promises.is_armed(lease.address) {
                until = until.max(lease.tstp);
            }
            (lease.address, until.max(before.wall).after(ahead))
        });
        let told: Vec<(Ipv4Addr, WallTime)> = told.collect();
        for (address, until) in told {
            self.table.set_limit(address, until);
        }
        self.stepped = Some(Ipv4Addr::UNSPECIFIED);
    }

    /// Writes down what a step has changed, a slice of it. In memory the times of what a partner knows of stay as they
    /// were agreed, and the limit protects the address; the record says until when, for who starts after a loss of power.
    pub(super) fn write_step(&mut self) {
        let Some(from) = self.stepped else { return };
        let slice: Vec<_> = self.table.limits_from(from).take(limits::RELAYOUT_SLICE_COUNT).collect();
        self.stepped = match slice.last() {
            Some((last, _)) if slice.len() == limits::RELAYOUT_SLICE_COUNT => {
                u32::from(*last).checked_add(1).map(Ipv4Addr::from)
            }
            _ => None,
        };
        let mut record = Vec::new();
        for (address, until) in slice {
            let Some(lease) = self.table.get(address) else { continue };
            if lease.state == BindingState::Active && until > lease.ends {
                let lease = Lease { ends: until, ..lease };
                journal::write_lease(&lease, self.options.format, &mut record);
                if self.peer_number(self.config.pool_of(address)).is_none() {
                    self.keep(lease);
                    self.table.set_limit(address, WallTime::NONE);
                }
            }
        }
        if !record.is_empty() {
            self.gate.append(record, &mut self.effects);
        }
    }
}
