//! Takes leases back: RELEASE, DECLINE, expiry (dhcpd: 11.4, 11.5, 13.4 and 13.5 of the reference).
//!
//! An address that the kernel may be answering for is revoked first; only then is anybody told, or anything written.

use std::net::Ipv4Addr;

use crate::{
    config::{Config, Hook, Param, Variables},
    failover::Binding,
    lease::{
        BindingState, Lease,
        time::{Now, WallTime},
    },
};

use super::{
    Outcome, Server, compose, expiry_line,
    find::is_held_by,
    limits::EXPIRY_BATCH_COUNT,
    port::{JournalSeq, Level},
    request::Request,
    status::Reason,
};

impl Server {
    /// RELEASE: the holder gives its address back. Nobody answers (RFC 2131 4.3.4).
    pub(super) fn handle_release(&mut self, config: &Config, request: &Request<'_>, now: Now) -> Outcome {
        let address = request.ciaddr().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let lease = self.table.get(address).filter(|_| config.pool_of(address).is_some());
        let held = lease.filter(|lease| {
            // By identity; and the card has to be the lease's, whatever the identity (dhcpd).
            lease.state == BindingState::Active
                && lease.hw == Some(request.hw)
                && (request.client_id().is_none() || is_held_by(lease, request))
        });
        let found = if held.is_some() { "found" } else { "not found" };
        let line = format!("DHCPRELEASE of {address} from {} via {} ({found})", request.who(), request.via());
        let Some(lease) = held else {
            self.log(Level::Info, line);
            return Outcome::Ignored(Reason::ReleaseNotFound);
        };
        if let Some(peer) = self.peer_of_pool(config.pool_of(address))
            && !peer.service().is_responding()
        {
            return Outcome::Ignored(Reason::NotResponding);
        }
        if self.gate.failure().is_some() {
            return Outcome::Ignored(Reason::JournalFailed);
        }
        if let Some(outcome) = self.revoke_first(&[address]) {
            return outcome;
        }
        self.log(Level::Info, line);
        self.run_hook_of(config, lease.on_release.as_deref(), &lease, Some(request), now);
        self.release(lease, now);
        Outcome::Done
    }

    /// Ends a lease at its client's wish: `free` at once, `released` until the partner knows with failover. Identity
    /// stays on the record (dhcpd).
    pub(super) fn release(&mut self, mut lease: Lease, now: Now) -> JournalSeq {
        lease.ends = now.wall;
        lease.tstp = now.wall;
        lease.cltt = now.wall;
        self.end(lease, BindingState::Released, now)
    }

    /// Moves an ended lease on: to `free` without a partner, otherwise to `state` until the partner has agreed.
    fn end(&mut self, mut lease: Lease, state: BindingState, now: Now) -> JournalSeq {
        match self.peer_of_pool(self.config.pool_of(lease.address)) {
            Some(peer) => {
                let binding = peer.endpoint.retired(Binding::from(&lease), state, now.wall);
                binding.write_to(&mut lease);
            }
            None => {
                lease.state = BindingState::Free;
                lease.next_state = BindingState::Free;
                lease.atsfp = WallTime::NONE;
            }
        }
        lease.hostname = None;
        lease.agent_options = None;
        if state == BindingState::Released {
            lease.variables.clear();
        }
        lease.billing = None;
        lease.on_expiry = None;
        lease.on_release = None;
        lease.unknown = None;
        lease.is_bootp = false;
        self.commit(lease)
    }

    /// DECLINE: the client found its address in use (RFC 2131 4.3.3).
    pub(super) fn handle_decline(&mut self, config: &Config, request: &Request<'_>, now: Now) -> Outcome {
        let Some(address) = request.requested() else { return Outcome::Ignored(Reason::DeclineWithoutAddress) };
        let line = format!("DHCPDECLINE of {address} from {} via {}", request.who(), request.via());
        let Some(lease) = self.table.get(address).filter(|_| config.pool_of(address).is_some()) else {
            self.log(Level::Info, format!("{line}: not found"));
            return Outcome::Ignored(Reason::UnknownLease);
        };
        if let Some(peer) = self.peer_of_pool(config.pool_of(address))
            && !peer.service().is_responding()
        {
            self.log(Level::Info, format!("{line}: not responding"));
            return Outcome::Ignored(Reason::NotResponding);
        }
        let variables = Variables::new();
        let subject = compose::Subject {
            subnet: config.subnet_of(address),
            pool: config.pool_of(address),
            address: Some(address),
            ..super::packet::nobody(&variables)
        };
        let evaluation = compose::evaluate(config, request, &subject, now.wall);
        if !evaluation.flag_or_default(Param::Declines) {
            if !evaluation.is_ignored(Param::Declines) {
                self.log(Level::Info, format!("{line}: ignored"));
            }
            return Outcome::Ignored(Reason::DeclinesDenied);
        }
        let is_offered = self.table.held_until(address).is_some_and(|until| until > now.wall);
        let is_its = is_held_by(&lease, request) && (lease.state == BindingState::Active || is_offered);
        if self.options.checks_decliner && !is_its {
            self.log(Level::Debug, format!("{line}: ignored"));
            return Outcome::Ignored(Reason::DeclineFromOther);
        }
        if self.gate.failure().is_some() {
            return Outcome::Ignored(Reason::JournalFailed);
        }
        if let Some(outcome) = self.revoke_first(&[address]) {
            return outcome;
        }
        self.log(Level::Info, format!("{line}: abandoned"));
        self.abandon(lease, "declined.", now);
        Outcome::Done
    }

    /// RFC 2131 4.3.3 #declined-is-not-given
    /// Sets an address aside that somebody unknown uses; the record forgets who had it (dhcpd).
    pub(super) fn abandon(&mut self, lease: Lease, why: &str, now: Now) -> JournalSeq {
        let address = lease.address;
        self.log(Level::Error, format!("Abandoning IP address {address}: {why}"));
        let ends = now.wall.after(self.config.process.abandon_lease_time);
        let mut abandoned = Lease {
            starts: now.wall,
            ends,
            tstp: ends,
            tsfp: lease.tsfp,
            cltt: now.wall,
            state: BindingState::Abandoned,
            next_state: BindingState::Free,
            rewind_state: BindingState::Free,
            is_reserved: lease.is_reserved,
            ..Lease::free(address)
        };
        if let Some(peer) = self.peer_of_pool(self.config.pool_of(address)) {
            peer.endpoint.abandoned(Binding::from(&lease), ends, now.wall).write_to(&mut abandoned);
            abandoned.starts = now.wall;
            abandoned.cltt = now.wall;
        }
        self.commit(abandoned)
    }

    /// Takes every lease back whose time is over, in batches; what the kernel may still promise is asked first.
    pub(super) fn expire(&mut self, now: Now) {
        if self.is_stopping || self.gate.failure().is_some() {
            return;
        }
        let line = expiry_line(now);
        let mut armed = Vec::new();
        let mut shared = Vec::new();
        for _ in 0..EXPIRY_BATCH_COUNT {
            let Some(address) = self.table.poll_expired(line) else { break };
            if let Some(number) = self.peer_number(self.config.pool_of(address)) {
                shared.push((number, address));
                continue;
            }
            if self.promises.revocation_of(address).is_some() {
                continue;
            }
            if self.promises.is_armed(address) {
                armed.push(address);
            } else {
                self.expire_one(address, now);
            }
        }
        self.tell_due(&shared, now);
        if !armed.is_empty() {
            let again = armed.clone();
            if let Outcome::Ignored(_) = self.revoke_and_wait(armed) {
                // Too many revocations: the timers are wound again, a little later.
                for address in again {
                    self.table.set_timer(address, now.wall.after(1));
                }
            }
        }
    }

    fn expire_one(&mut self, address: Ipv4Addr, now: Now) {
        let Some(mut lease) = self.table.get(address) else { return };
        match lease.state {
            BindingState::Active => {
                if lease.ends > now.wall {
                    // Renewed meanwhile: wind the timer again.
                    self.table.put(lease);
                    return;
                }
                if let Some(limit) = self.table.limit(address).filter(|limit| *limit > now.wall) {
                    self.table.set_timer(address, limit);
                    return;
                }
                let config = std::sync::Arc::clone(&self.config);
                self.run_hook_of(&config, lease.on_expiry.as_deref(), &lease, None, now);
                lease.tstp = lease.ends;
                self.end(lease, BindingState::Expired, now);
            }
            BindingState::Abandoned => {
                if lease.ends > now.wall {
                    self.table.put(lease);
                    return;
                }
                lease.state = BindingState::Free;
                lease.next_state = BindingState::Free;
                self.commit(lease);
            }
            BindingState::Expired | BindingState::Released | BindingState::Reset => {
                lease.state = BindingState::Free;
                lease.next_state = BindingState::Free;
                lease.rewind_state = BindingState::Free;
                self.commit(lease);
            }
            BindingState::Free | BindingState::Backup => {}
        }
    }

    /// Runs an `on expiry` or `on release` body that stands in a lease's record.
    pub(super) fn run_hook_of(
        &mut self,
        config: &Config,
        text: Option<&[u8]>,
        lease: &Lease,
        request: Option<&Request<'_>>,
        now: Now,
    ) {
        let Some(text) = text else { return };
        let hook: Hook = match config.parse_hook(&String::from_utf8_lossy(text)) {
            Ok(hook) => hook,
            Err(why) => {
                self.log(Level::Warn, format!("statements of lease {} are not understood: {why}", lease.address));
                return;
            }
        };
        let Some(request) = request else {
            self.run_hook_without_request(config, &hook, lease, now);
            return;
        };
        let variables = super::grant::variables_of(lease);
        let subject = compose::Subject {
            subnet: config.subnet_of(lease.address),
            pool: config.pool_of(lease.address),
            address: Some(lease.address),
            ..super::packet::nobody(&variables)
        };
        let mut evaluation = crate::config::Evaluation::default();
        let context = compose::context(config, request, &subject, now.wall);
        config.run_hook(&hook, &context, &mut evaluation);
        self.run_side_effects(&evaluation, JournalSeq(0));
    }

    /// A lease expires without a message: the expressions see an empty one from the lease's client.
    fn run_hook_without_request(&mut self, config: &Config, hook: &Hook, lease: &Lease, now: Now) {
        let options = crate::config::ReceivedOptions::default();
        let Some(hw) = lease.hw.or_else(|| dhcp_ebpf::wire::dhcp::HwAddr::new(0, &[])) else { return };
        let variables = super::grant::variables_of(lease);
        let context = crate::config::Context {
            message: &[],
            options: &options,
            hw,
            known: false,
            is_static: false,
            leased_address: Some(lease.address),
            host_decl_name: None,
            lease_time: None,
            variables: &variables,
            now: now.wall.secs(),
            explains: false,
        };
        let mut evaluation = crate::config::Evaluation::default();
        config.run_hook(hook, &context, &mut evaluation);
        self.run_side_effects(&evaluation, JournalSeq(0));
    }
}
