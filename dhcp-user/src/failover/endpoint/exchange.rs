//! Binding updates and their acknowledgements (failover.md 4).

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use super::updates::InFlight;
use super::{Effect, Endpoint, Level, Token};
use crate::failover::binding::{Binding, BindingState, Counts, Leases, Seq};
use crate::failover::codec::option::{FLAG_BOOTP, FLAG_RESERVED, Reject, reject_name};
use crate::failover::codec::{BndAck, BndUpd, Body, Refusal};
use crate::failover::limits::{
    CHADDR_LEN_MAX, EXTRA_LEN_MAX, OUTBOX_MAX, REFUSED_LINES_MAX, REQUEST_SLICE_LEN, UPDATES_HELD_MAX,
};
use crate::failover::rules::{Claim, Transition, check_transition, is_mine_better, needs_update};
use crate::failover::state::Role;
use crate::lease::time::{Now, WallTime};

/// What an update of the partner waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// The kernel does not answer for the address any more.
    Revocation(Token),
    /// The client's lease has run out.
    Until(WallTime),
}

/// Updates of the partner for one address, oldest first; the first one waits.
#[derive(Debug)]
pub(super) struct HeldUpdate {
    wait: Wait,
    queue: VecDeque<(u32, BndUpd)>,
}

impl HeldUpdate {
    pub(super) const fn due(&self) -> Option<WallTime> {
        match self.wait {
            Wait::Until(at) => Some(at),
            Wait::Revocation(_) => None,
        }
    }
}

/// Why an update is refused.
type Refused = (Reject, String);

enum Outcome {
    Stored(Seq),
    Wait(Wait),
}

impl Endpoint {
    /// BNDUPD: applied now, or held until it may be.
    pub(super) fn handle_update(&mut self, xid: u32, update: BndUpd, leases: &mut dyn Leases, now: Now) {
        self.counters.updates_received = self.counters.updates_received.saturating_add(1);
        if self.held_count >= UPDATES_HELD_MAX || self.outbox.len() >= OUTBOX_MAX {
            if let Some(link) = self.session.as_ref().map(|session| session.link) {
                self.drop_link(link, "partner does not keep to its window", leases, now);
            }
            return;
        }
        if let Some(held) = update.address.and_then(|address| self.held.get_mut(&address)) {
            held.queue.push_back((xid, update));
            self.held_count = self.held_count.saturating_add(1);
            return;
        }
        if let Some((wait, update)) = self.try_update(xid, update, false, leases, now)
            && let Some(address) = update.address
        {
            self.held_count = self.held_count.saturating_add(1);
            self.held.insert(address, HeldUpdate { wait, queue: VecDeque::from([(xid, update)]) });
        }
    }

    /// Goes on with what was held for an address.
    pub(super) fn resume_held(&mut self, address: Ipv4Addr, is_revoked: bool, leases: &mut dyn Leases, now: Now) {
        let Some(mut held) = self.held.remove(&address) else {
            return;
        };
        let mut is_revoked = is_revoked;
        while let Some((xid, update)) = held.queue.pop_front() {
            match self.try_update(xid, update, is_revoked, leases, now) {
                None => self.held_count = self.held_count.saturating_sub(1),
                Some((wait, update)) => {
                    held.queue.push_front((xid, update));
                    held.wait = wait;
                    self.held.insert(address, held);
                    return;
                }
            }
            is_revoked = false;
        }
    }

    /// Addresses whose held updates may go on: because of this revocation, or because of the time.
    pub(super) fn ready_held(&self, token: Option<Token>, now: Now) -> Vec<Ipv4Addr> {
        let is_ready = |wait: Wait| match wait {
            Wait::Revocation(waiting) => Some(waiting) == token,
            Wait::Until(at) => token.is_none() && at <= now.wall,
        };
        self.held.iter().filter(|(_, held)| is_ready(held.wait)).map(|(address, _)| *address).collect()
    }

    /// Applies an update and answers it; or gives it back with what it has to wait for.
    fn try_update(
        &mut self,
        xid: u32,
        update: BndUpd,
        is_revoked: bool,
        leases: &mut dyn Leases,
        now: Now,
    ) -> Option<(Wait, BndUpd)> {
        let address = update.address;
        match self.apply_update(&update, is_revoked, leases, now) {
            Ok(Outcome::Wait(wait)) => Some((wait, update)),
            Ok(Outcome::Stored(seq)) => {
                self.push(xid, Body::BndAck(BndAck { address, refusal: Refusal::default() }), seq, now);
                if let Some(address) = address {
                    self.give_by_affinity(address, &update, leases, now);
                }
                None
            }
            Err((reason, text)) => {
                self.counters.updates_refused = self.counters.updates_refused.saturating_add(1);
                let shown = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
                let name = &self.settings.name;
                // Two databases that meet for the first time say so for every address.
                let level = if reason == Reject::LessCritical { Level::Debug } else { Level::Info };
                let line = format!("bind update on {shown} from {name} rejected: {text}");
                if level == Level::Debug {
                    self.log(level, line);
                } else {
                    self.log_refused(line, now);
                }
                let refusal = Refusal { reason: Some(reason as u8), message: Some(text.into_bytes()) };
                self.push(xid, Body::BndAck(BndAck { address, refusal }), Seq::default(), now);
                None
            }
        }
    }

    /// A refused update in the log: the first ones of a minute, and how many more there were.
    fn log_refused(&mut self, line: String, now: Now) {
        let (last, count) = self.refused_lines.count(now.boot);
        if last > REFUSED_LINES_MAX {
            let (name, more) = (&self.settings.name, last.saturating_sub(REFUSED_LINES_MAX));
            self.log(
                Level::Info,
                format!("bind updates from {name} rejected before without a line of their own: {more}"),
            );
        }
        self.log(if count <= REFUSED_LINES_MAX { Level::Info } else { Level::Debug }, line);
    }

    /// The checks of failover.md 4.3, in their order.
    fn apply_update(
        &mut self,
        update: &BndUpd,
        is_revoked: bool,
        leases: &mut dyn Leases,
        now: Now,
    ) -> Result<Outcome, Refused> {
        let role = self.settings.role;
        let (Some(address), Some(_)) = (update.address, update.status) else {
            return Err((Reject::MissingInformation, "binding update lacks required options".to_owned()));
        };
        let Some(status) = update.known_status() else {
            return Err((Reject::Miscellaneous, format!("{address}: no such binding status")));
        };
        let Some(mine) = leases.binding(address) else {
            return Err((Reject::IllegalAddress, "unknown IP address".to_owned()));
        };
        // dhcpd looks only at what is in flight; what waits for the link or the window, or was written down before a
        // restart, is as true.
        let is_crossing = self.updates.is_unanswered(address) || needs_update(&mine);
        if is_crossing {
            let ours =
                Claim { state: self.updates.in_flight(address).map_or(mine.state, |sent| sent.state), cltt: mine.cltt };
            let theirs = Claim { state: status, cltt: WallTime::from_secs(u64::from(update.cltt.unwrap_or(0))) };
            if is_mine_better(role, ours, theirs) {
                self.updates.enqueue_if_absent(address, self.outbox.newest());
                let text = "incoming update is less critical than outgoing update";
                return Err((Reject::LessCritical, text.to_owned()));
            }
        }
        let next = merged(&mine, update, status, role, is_crossing)?;
        let potential = WallTime::from_secs(u64::from(update.potential_expiry.unwrap_or(0)));
        match check_transition(role, self.is_normal(), &mine, status, potential, now.wall) {
            Transition::Accept => {}
            Transition::AcceptAt(at) => return Ok(Outcome::Wait(Wait::Until(at))),
            Transition::Refuse => {
                if is_crossing || (mine.state == BindingState::Active && status == BindingState::Expired) {
                    // dhcpd forgets its own update here; ours goes out again, since the partner has to learn why. What it
                    // takes for over may have been renewed by the kernel, which says so less often than it renews.
                    self.updates.enqueue(address, self.outbox.newest());
                }
                if mine.state == BindingState::Active && mine.ends < now.wall {
                    // The partner is right, but in normal it is on us to say so.
                    self.handle_due(&[address], leases, now);
                }
                let (from, to) = (mine.state.name(), status.name());
                return Err((Reject::FatalConflict, format!("{address}: invalid state transition: {from} to {to}")));
            }
        }
        let takes_away = mine.state == BindingState::Active
            && (next.state != BindingState::Active
                || !next.is_same_client(&mine)
                || next.from_partner < mine.from_partner);
        if takes_away && !is_revoked && leases.is_armed(address) {
            let token = self.token_for_revocation(address);
            return Ok(Outcome::Wait(Wait::Revocation(token)));
        }
        if is_crossing {
            self.updates.forget(address);
            self.finish_request(now);
        }
        if let Some(extra) = update.extra.as_deref().filter(|extra| extra.len() <= EXTRA_LEN_MAX) {
            leases.take_extra(address, extra);
        }
        let is_over = next.state != BindingState::Active;
        let has_more_to_tell = !is_over && next.acked_partner == WallTime::NONE && next.ends > now.wall;
        let seq = self.store(leases, next);
        if has_more_to_tell {
            self.updates.enqueue(address, seq);
        }
        if is_over && self.alone().is_some() {
            self.plan_reuse_of(address, leases, now);
        }
        Ok(Outcome::Stored(seq))
    }

    /// A token for revoking this address: the one of the revocation that is being put together, if its effect is
    /// still waiting to be taken.
    pub(super) fn token_for_revocation(&mut self, address: Ipv4Addr) -> Token {
        if let Some(Effect::Revoke { token, addresses }) = self.effects.back_mut() {
            addresses.push(address);
            return *token;
        }
        let token = self.token();
        self.effects.push_back(Effect::Revoke { token, addresses: vec![address] });
        token
    }

    /// BNDACK.
    pub(super) fn handle_ack(&mut self, xid: u32, ack: &BndAck, leases: &mut dyn Leases, now: Now) {
        let Some(address) = ack.address else { return };
        let Some(sent) = self.updates.in_flight(address).filter(|sent| sent.xid == xid) else {
            self.updates.note_answered(xid);
            self.counters.acks_ignored = self.counters.acks_ignored.saturating_add(1);
            return;
        };
        self.updates.forget(address);
        self.updates.note_answered(xid);
        if let Some(reason) = ack.refusal.reason.filter(|reason| *reason != 0) {
            self.counters.updates_rejected = self.counters.updates_rejected.saturating_add(1);
            self.updates.note_refused(address, now.boot);
            let text = ack.refusal.message.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let (name, why) = (&self.settings.name, reject_name(reason));
            let text = text.escape_debug();
            let level = if reason == Reject::LessCritical as u8 { Level::Debug } else { Level::Info };
            self.log(level, format!("bind update on {address} got nak from {name}: {why}: {text}"));
        } else if let Some(mut binding) = leases.binding(address) {
            self.counters.updates_acked = self.counters.updates_acked.saturating_add(1);
            binding.from_partner = sent.told_partner;
            binding.acked_partner = sent.told_partner;
            let is_over = is_transitional(sent.state);
            binding.state = match sent.state {
                _ if is_over && binding.is_reserved && self.settings.role == Role::Secondary => BindingState::Backup,
                _ if is_over => BindingState::Free,
                state => state,
            };
            binding.rewind = binding.state;
            self.store(leases, binding);
            self.end_if_over(address, leases, now);
            if is_over {
                self.give_if_partners(address, leases, now);
            }
        }
        self.finish_request(now);
    }

    /// UPDREQ and UPDREQALL.
    pub(super) fn handle_update_request(&mut self, xid: u32, for_all: bool, leases: &mut dyn Leases, now: Now) {
        let total = |pool| {
            let Counts { free, backup, other } = leases.counts(pool);
            u64::from(free).saturating_add(u64::from(backup)).saturating_add(u64::from(other))
        };
        let total: u64 = (0..leases.pool_count()).map(total).sum();
        self.updates.start_request(xid, for_all, usize::try_from(total).unwrap_or(usize::MAX));
        self.walk_request(leases, now);
    }

    /// Goes on with the partner's running request: a slice of the leases in each turn, so that clients are answered
    /// meanwhile, and no further ahead of the window than is good for it.
    pub(super) fn walk_request(&mut self, leases: &dyn Leases, now: Now) {
        let seq = self.outbox.newest();
        let mut left = REQUEST_SLICE_LEN;
        while left > 0
            && let Some(((pool, from), for_all)) = self.updates.request_to_walk()
        {
            if pool >= leases.pool_count() {
                self.updates.set_walked(0, None);
                break;
            }
            let mut count = 0_u32;
            let next = leases.visit_some(pool, from, left, &mut |binding| {
                count = count.saturating_add(1);
                if for_all || needs_update(binding) || self.updates.is_pending(binding.address) {
                    self.updates.cover(binding.address, seq);
                }
            });
            left = left.saturating_sub(count.max(1));
            let next = next.map_or((pool.saturating_add(1), 0), |from| (pool, from));
            self.updates.set_walked(count as usize, Some(next));
        }
        self.finish_request(now);
    }

    /// Sends UPDDONE when everything that was asked for has been answered.
    pub(super) fn finish_request(&mut self, now: Now) {
        if let Some(xid) = self.updates.take_finished_request() {
            self.push(xid, Body::UpdDone, Seq::default(), now);
        }
    }

    /// Sends queued updates as far as the partner's window allows. `rewind` becomes the state that is told, on disk
    /// before the bytes leave.
    pub(super) fn send_updates(&mut self, leases: &mut dyn Leases, now: Now) {
        loop {
            let Some(session) = self.session.as_ref().filter(|session| session.may_send()) else {
                return;
            };
            let (window, is_ours) = (session.window as usize, session.is_ours);
            if self.updates.unanswered_len() >= window {
                return;
            }
            let Some((address, seq)) = self.updates.pop() else {
                return;
            };
            let Some(mut binding) = leases.binding(address) else {
                self.updates.forget(address);
                self.finish_request(now);
                continue;
            };
            let mut seq = seq;
            if binding.rewind != binding.state {
                binding.rewind = binding.state;
                seq = leases.store(binding.clone());
                self.outbox.note(seq);
            }
            let extra = if is_ours { leases.extra(address) } else { Vec::new() };
            let Some(session) = &mut self.session else { return };
            let xid = session.xid_of_update();
            self.updates.set_in_flight(
                InFlight { address, xid, state: binding.state, told_partner: binding.told_partner },
                now.boot,
            );
            self.counters.updates_sent = self.counters.updates_sent.saturating_add(1);
            let mut update = announcement(&binding);
            if !extra.is_empty() && extra.len() <= EXTRA_LEN_MAX {
                update.extra = Some(extra);
            }
            if !self.push(xid, Body::BndUpd(update), seq, now) {
                self.log(Level::Warn, format!("bind update on {address} does not fit into a message"));
                self.updates.forget(address);
                self.finish_request(now);
            }
        }
    }
}

/// Whether the partner's confirmation makes such a lease free.
pub(super) const fn is_transitional(state: BindingState) -> bool {
    match state {
        BindingState::Expired | BindingState::Released | BindingState::Reset => true,
        BindingState::Free | BindingState::Active | BindingState::Abandoned | BindingState::Backup => false,
    }
}

/// The BNDUPD of a lease as it stands: never DDNS, one address, hardware always with an active, expired or released
/// one and never with an abandoned one (failover.md 0).
fn announcement(binding: &Binding) -> BndUpd {
    let flags = if binding.is_reserved { FLAG_RESERVED } else { 0 } | if binding.is_bootp { FLAG_BOOTP } else { 0 };
    let has_client = binding.state != BindingState::Abandoned;
    BndUpd {
        address: Some(binding.address),
        status: Some(binding.state.wire()),
        client_id: Some(binding.client_id.clone()).filter(|id| has_client && !id.is_empty()),
        chaddr: Some(binding.chaddr.clone()).filter(|chaddr| has_client && !chaddr.is_empty()),
        lease_expiry: Some(binding.ends.secs()),
        potential_expiry: Some(binding.told_partner.secs()),
        since: Some(binding.starts.secs()),
        cltt: Some(binding.cltt.secs()).filter(|cltt| *cltt != 0),
        flags: Some(flags).filter(|flags| *flags != 0),
        extra: None,
    }
}

/// The lease as the update makes it (failover.md 4.3, steps 4 to 7 and 9).
fn merged(
    mine: &Binding,
    update: &BndUpd,
    status: BindingState,
    role: Role,
    is_crossing: bool,
) -> Result<Binding, Refused> {
    let mut next = mine.clone();
    let keeps_client = matches!(status, BindingState::Free | BindingState::Backup | BindingState::Reset);
    match &update.chaddr {
        Some(_) if status == BindingState::Abandoned => {
            return Err((Reject::Miscellaneous, "BNDUPD to ABANDONED with CHADDR".to_owned()));
        }
        Some(chaddr) if chaddr.len() > CHADDR_LEN_MAX => {
            return Err((Reject::Miscellaneous, "chaddr too long".to_owned()));
        }
        Some(chaddr) => next.chaddr.clone_from(chaddr),
        None if status == BindingState::Abandoned => next.chaddr.clear(),
        None if !keeps_client => return Err((Reject::MissingInformation, "BNDUPD without CHADDR".to_owned())),
        None => {}
    }
    match &update.client_id {
        Some(_) if status == BindingState::Abandoned => {
            return Err((Reject::Miscellaneous, "BNDUPD to ABANDONED with client-id".to_owned()));
        }
        Some(client_id) => next.client_id.clone_from(client_id),
        None if !keeps_client => next.client_id.clear(),
        None => {}
    }
    let time = |value: u32| WallTime::from_secs(u64::from(value));
    if let Some(since) = update.since {
        next.starts = time(since);
    }
    if let Some(ends) = update.lease_expiry {
        next.ends = time(ends);
    }
    if let Some(potential) = update.potential_expiry {
        next.from_partner = time(potential);
        next.acked_partner = time(potential);
    }
    let flags = update.flags.unwrap_or(0);
    let is_mine = mine.state == role.own_state();
    if flags & FLAG_RESERVED != 0 && is_mine && !mine.is_reserved {
        return Err((Reject::NotReserved, "Address is not reserved.".to_owned()));
    }
    if flags & FLAG_BOOTP != 0 && is_mine && !mine.is_bootp {
        return Err((Reject::Miscellaneous, "Address is not allocated to BOOTP.".to_owned()));
    }
    next.is_reserved = flags & FLAG_RESERVED != 0;
    next.is_bootp = flags & FLAG_BOOTP != 0;
    next.state = if is_transitional(status) { BindingState::Free } else { status };
    next.rewind = next.state;
    // A client that was promised more here, by this server or its kernel, still holds it; and a partner that was told of
    // a later potential expiry may still promise up to it. The partner hears of both again, so that both ends agree.
    let is_renewal = mine.state == BindingState::Active && next.state == BindingState::Active;
    let has_promised_more = next.ends < mine.ends || next.from_partner < mine.told_partner;
    if is_renewal && next.is_same_client(mine) && has_promised_more {
        next.ends = mine.ends.max(next.ends);
        next.told_partner = mine.told_partner.max(next.ends);
        next.acked_partner = WallTime::NONE;
    } else if is_crossing {
        // Both sides were telling; the partner may have taken ours as we take its, and relies on the later one.
        next.acked_partner = next.acked_partner.max(next.told_partner);
    } else {
        // What we told the partner is superseded by what it told us.
        next.told_partner = next.told_partner.min(next.acked_partner);
    }
    Ok(next)
}

/// Whether this update ends a binding, so that the address may now belong to either server's share.
pub(super) fn ends_binding(update: &BndUpd) -> bool {
    update.known_status().is_some_and(is_transitional)
}
