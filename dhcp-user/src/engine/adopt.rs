//! What an earlier agent left: leases whose promises are known by their limit only, and entries of the kernel's, which
//! know the last word.
//!
//! ```text
//!   entry of the lease's client, armed    stays armed; the kernel's word moves the lease; a horizon that lags behind
//!                                         its record is moved, a record that lags behind the horizon is written anew
//!   entry of its client, not armed        the kernel's word moves the lease: it is exact, no limit is needed
//!   entry that no lease knows             taken from the kernel, and its promise written down as a lease
//!   lease without an entry                nobody else's before `tstp`: what the kernel granted last is not known (the table
//!                                         has known that limit since it was loaded)
//! ```

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;

use crate::lease::{
    BindingState, Lease, journal,
    time::{Now, WallTime},
};

use super::{
    Server,
    port::{Effect, Level, Standing},
    promise::Armed,
};

/// Seconds by which two readings of two clocks may differ without a step of either.
const CLOCK_SLACK_SECS: u32 = 2;

impl Server {
    /// Brings what the kernel holds and said last into the table, before anybody decides what has run out. Returns which
    /// entries belong to their client's lease.
    pub(super) fn adopt_words(&mut self, standing: &[Standing], now: Now) -> Vec<bool> {
        if self.table.has_billed() || !self.peers.is_empty() {
            for lease in self.table.iter() {
                self.bills.count_in(&lease);
                self.guard.count_in(&self.config, &lease);
            }
        }
        let mut owned = Vec::with_capacity(standing.len());
        for one in standing {
            let lease = self.table.get(one.address).filter(|lease| {
                lease.state == BindingState::Active && lease.hw.and_then(|hw| hw.mac()) == Some(one.chaddr)
            });
            owned.push(lease.is_some());
            let Some(lease) = lease else { continue };
            // The kernel's clock does not step: what it was told counts, whatever the wall clock did since.
            let promised = now.wall_of(one.horizon.to_secs());
            // Whatever the partner's state was when the kernel was armed: no promise went beyond what is written.
            let is_shared = self.peer_of_pool(self.config.pool_of(one.address)).is_some();
            let written = if is_shared { lease.tstp.max(lease.tsfp) } else { lease.tstp };
            if one.is_armed && promised > written.after(CLOCK_SLACK_SECS) {
                let lease = Lease { tstp: promised.after(1), ..lease };
                let mut record = Vec::new();
                journal::write_lease(&lease, self.options.format, &mut record);
                self.keep(lease);
                self.gate.append(record, &mut self.effects);
            }
            if one.is_armed {
                self.promises.adopt(one.address, Armed { questions: one.questions.clone(), ..Armed::new(one.chaddr) });
            }
            // From here on it is known what the client was told.
            self.table.set_limit(one.address, WallTime::NONE);
            self.absorb(one.address, one.renewal, now);
        }
        owned
    }

    /// Takes over leases and the kernel's entries; `owned` says which of them belong to their client's lease.
    pub(super) fn inherit(&mut self, standing: &[Standing], owned: &[bool], now: Now) {
        let mut words = Vec::new();
        let mut lagging = Vec::new();
        let mut strays = Vec::new();
        for (one, is_owned) in standing.iter().zip(owned) {
            if !is_owned {
                let lease = self.table.get(one.address);
                strays.extend(self.stray(one, lease.as_ref(), now));
                continue;
            }
            let is_alone = self.peer_of_pool(self.config.pool_of(one.address)).is_none();
            if one.is_armed
                && is_alone
                && let Some(lease) = self.table.get(one.address)
            {
                let horizon = self.horizon(&lease, now);
                if horizon > one.horizon {
                    lagging.push((one.address, horizon));
                }
            }
            if one.is_armed && one.renewal.at.secs() != 0 {
                words.push((one.address, one.renewal));
            }
        }
        if !lagging.is_empty() {
            let (appended, _) = self.gate.seqs();
            self.gate.hold(appended, Effect::Extend(lagging), &mut self.effects);
        }
        if !strays.is_empty() {
            let _ = self.revoke_and_wait(strays);
        }
        self.handle_renewed(&words, now);
    }

    /// An entry whose client has no running lease: its promise is written down, unless the record is newer than the
    /// kernel's word. Returns the address when it has to be taken from the kernel.
    fn stray(&mut self, one: &Standing, lease: Option<&Lease>, now: Now) -> Option<Ipv4Addr> {
        let said = now.wall_of(one.renewal.at);
        let is_told = one.renewal.at.secs() != 0 && lease.is_none_or(|lease| said > newest(lease).after(1));
        if !one.is_armed && !is_told {
            return None;
        }
        let told = if is_told { now.wall_of(one.renewal.until) } else { WallTime::NONE };
        let until = if one.is_armed { told.max(now.wall_of(one.horizon.to_secs())) } else { told };
        let holder = lease.filter(|lease| lease.state == BindingState::Active);
        if until > now.wall && self.config.pool_of(one.address).is_some() {
            let client = HwAddr::ethernet(one.chaddr);
            let line = format!(
                "the kernel may have promised {} to {client} for {} s from now, and the leases file does not know it",
                one.address,
                until.since(now.wall)
            );
            self.log(Level::Error, line);
            if holder.is_none() && self.peer_of_pool(self.config.pool_of(one.address)).is_none() {
                self.commit(Lease {
                    starts: now.wall,
                    ends: until,
                    tstp: until,
                    cltt: now.wall,
                    state: BindingState::Active,
                    next_state: BindingState::Free,
                    rewind_state: BindingState::Free,
                    hw: Some(client),
                    is_reserved: lease.is_some_and(|lease| lease.is_reserved),
                    ..Lease::free(one.address)
                });
            }
        }
        if one.is_armed {
            self.promises.adopt(one.address, Armed { questions: one.questions.clone(), ..Armed::new(one.chaddr) });
        }
        one.is_armed.then_some(one.address)
    }
}

/// The latest instant that a record tells of.
fn newest(lease: &Lease) -> WallTime {
    match lease.state {
        BindingState::Active => lease.starts.max(lease.cltt),
        // A release or an expiry that is written ended whatever the kernel had said.
        _ => lease.starts.max(lease.cltt).max(lease.ends),
    }
}
