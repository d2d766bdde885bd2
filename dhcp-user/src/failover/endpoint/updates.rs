//! Binding updates that the partner has to hear of: queued, in flight, refused, and asked for.
//!
//! A lease is in at most one of the two places. An update request counts the leases it covers; UPDDONE is due when the
//! last of them has been answered, wherever it wandered meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::failover::binding::{BindingState, Seq};
use crate::failover::limits::{ACK_TIMEOUT, REFUSED_MAX, REFUSED_RETRY, REQUEST_AHEAD};
use crate::lease::time::{BootTime, WallTime};

/// An update that was sent, or waits only for its record.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    pub(super) address: Ipv4Addr,
    pub(super) xid: u32,
    /// The state it announces.
    pub(super) state: BindingState,
    /// The potential expiry it announces.
    pub(super) told_partner: WallTime,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Position number in the queue.
    Queued(i64),
    /// Transaction.
    Sent(u32),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    place: Place,
    /// Counts for the update request with this number.
    request: u32,
    /// The record that must be durable before it is sent.
    seq: Seq,
    /// Since when the partner has something to learn about it.
    since: BootTime,
}

/// A running UPDREQ or UPDREQALL of the partner.
#[derive(Debug, Clone, Copy)]
struct Request {
    xid: u32,
    for_all: bool,
    outstanding: usize,
    /// Pool and position of the first lease that was not looked at yet.
    next: Option<(usize, u32)>,
    /// About how many were not looked at.
    unseen: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Updates {
    entries: HashMap<Ipv4Addr, Entry>,
    /// Positions that left the queue otherwise stay here as stale pairs until they reach the head.
    queue: VecDeque<(i64, Ipv4Addr)>,
    position_front: i64,
    position_back: i64,
    in_flight: BTreeMap<u32, (InFlight, BootTime)>,
    /// Sent on this link, and of no interest any more; the partner has yet to answer them, so they count for its window.
    overtaken: BTreeMap<u32, BootTime>,
    request: Option<Request>,
    request_number: u32,
    refused: BTreeSet<Ipv4Addr>,
    has_refused_more: bool,
    retry_at: Option<BootTime>,
    clock: BootTime,
}

impl Updates {
    /// What time it is for what is queued next.
    pub(super) const fn set_clock(&mut self, now: BootTime) {
        self.clock = now;
    }

    pub(super) fn queued_len(&self) -> usize {
        self.entries.len().saturating_sub(self.in_flight.len())
    }

    pub(super) fn in_flight_len(&self) -> usize {
        self.in_flight.len()
    }

    /// How many updates the partner has yet to answer, with those that were overtaken.
    pub(super) fn unanswered_len(&self) -> usize {
        self.in_flight.len().saturating_add(self.overtaken.len())
    }

    /// The partner has answered this one, whatever has become of it here.
    pub(super) fn note_answered(&mut self, xid: u32) {
        self.overtaken.remove(&xid);
    }

    fn overtake(&mut self, xid: u32) {
        if let Some((_, sent)) = self.in_flight.remove(&xid) {
            self.overtaken.insert(xid, sent);
        }
    }

    /// How long the oldest change has waited for the partner's answer.
    pub(super) fn lag(&self, now: BootTime) -> Duration {
        let is_queued = |(position, address): &&(i64, Ipv4Addr)| {
            let entry = self.entries.get(address);
            entry.is_some_and(|entry| matches!(entry.place, Place::Queued(at) if at == *position))
        };
        let sent = self.in_flight.first_key_value().map(|(_, (update, _))| update.address);
        let queued = self.queue.iter().find(is_queued).map(|(_, address)| *address);
        let entries = [sent, queued].into_iter().flatten().filter_map(|address| self.entries.get(&address));
        entries.map(|entry| now.since(entry.since)).max().unwrap_or_default()
    }

    pub(super) fn in_flight(&self, address: Ipv4Addr) -> Option<InFlight> {
        match self.entries.get(&address)?.place {
            Place::Sent(xid) => self.in_flight.get(&xid).map(|(update, _)| *update),
            Place::Queued(_) => None,
        }
    }

    /// Puts a lease at the end of the queue; one that is queued keeps its place, one in flight is forgotten there
    /// first and its acknowledgement will be ignored.
    pub(super) fn enqueue(&mut self, address: Ipv4Addr, seq: Seq) {
        let previous = self.entries.get(&address).copied();
        match previous {
            Some(Entry { place: Place::Queued(_), .. }) => {
                if let Some(entry) = self.entries.get_mut(&address) {
                    entry.seq = entry.seq.max(seq);
                }
                return;
            }
            Some(Entry { place: Place::Sent(xid), .. }) => self.overtake(xid),
            None => {}
        }
        let place = self.push_back(address);
        let request = previous.map_or(0, |entry| entry.request);
        let since = previous.map_or(self.clock, |entry| entry.since);
        self.entries.insert(address, Entry { place, request, seq, since });
    }

    /// As [`Self::enqueue`] for a lease that needs no new update when one is on its way already.
    pub(super) fn enqueue_if_absent(&mut self, address: Ipv4Addr, seq: Seq) {
        if !self.entries.contains_key(&address) {
            self.enqueue(address, seq);
        }
    }

    fn push_back(&mut self, address: Ipv4Addr) -> Place {
        self.position_back = self.position_back.saturating_add(1);
        self.queue.push_back((self.position_back, address));
        Place::Queued(self.position_back)
    }

    /// Takes the head of the queue; the lease must be put in flight or dropped by the caller.
    pub(super) fn pop(&mut self) -> Option<(Ipv4Addr, Seq)> {
        while let Some((position, address)) = self.queue.pop_front() {
            match self.entries.get(&address) {
                Some(Entry { place: Place::Queued(at), seq, .. }) if *at == position => return Some((address, *seq)),
                Some(_) | None => {}
            }
        }
        None
    }

    pub(super) fn set_in_flight(&mut self, update: InFlight, now: BootTime) {
        if let Some(entry) = self.entries.get_mut(&update.address) {
            entry.place = Place::Sent(update.xid);
            self.in_flight.insert(update.xid, (update, now));
        }
    }

    /// Forgets a lease wherever it is.
    pub(super) fn forget(&mut self, address: Ipv4Addr) {
        self.refused.remove(&address);
        let Some(entry) = self.entries.remove(&address) else {
            return;
        };
        if let Place::Sent(xid) = entry.place {
            self.overtake(xid);
        }
        if entry.request != 0
            && entry.request == self.request_number
            && let Some(request) = &mut self.request
        {
            request.outstanding = request.outstanding.saturating_sub(1);
        }
    }

    /// Puts everything in flight back to the front of the queue, in the order it was sent.
    pub(super) fn requeue_all(&mut self) {
        let sent = std::mem::take(&mut self.in_flight);
        self.overtaken.extend(sent.iter().map(|(xid, (_, at))| (*xid, *at)));
        let mut rest: Vec<InFlight> = sent.into_values().map(|(update, _)| update).collect();
        while let Some(update) = rest.pop() {
            if let Some(entry) = self.entries.get_mut(&update.address) {
                self.position_front = self.position_front.saturating_sub(1);
                entry.place = Place::Queued(self.position_front);
                self.queue.push_front((self.position_front, update.address));
            }
        }
    }

    /// Puts back what was sent so long ago that its acknowledgement must have been lost.
    pub(super) fn requeue_unanswered(&mut self, now: BootTime) -> usize {
        self.overtaken.retain(|_, sent| now.since(*sent) < ACK_TIMEOUT);
        let mut count = 0_usize;
        while let Some(first) = self.in_flight.first_entry() {
            let (update, sent) = *first.get();
            if now.since(sent) < ACK_TIMEOUT {
                break;
            }
            first.remove();
            let place = self.push_back(update.address);
            if let Some(entry) = self.entries.get_mut(&update.address) {
                entry.place = place;
            }
            count = count.saturating_add(1);
        }
        count
    }

    /// Starts an update request over so many leases; those it covers follow with [`Self::cover`]. A running one that covers as much
    /// only takes the new transaction (dhcpd answers the latest, and asks twice): `false`, nothing has to follow.
    pub(super) fn start_request(&mut self, xid: u32, for_all: bool, count: usize) -> bool {
        if let Some(request) = &mut self.request
            && (request.for_all || !for_all)
        {
            request.xid = xid;
            return false;
        }
        self.request_number = self.request_number.wrapping_add(1).max(1);
        self.request = Some(Request { xid, for_all, outstanding: 0, next: Some((0, 0)), unseen: count });
        true
    }

    /// Where the running request goes on, and whether it is for everything; `None` when all was looked at, or enough waits.
    pub(super) fn request_to_walk(&self) -> Option<((usize, u32), bool)> {
        let request = self.request.filter(|_| self.queued_len() < REQUEST_AHEAD)?;
        Some((request.next?, request.for_all))
    }

    /// So many leases were looked at; where the request goes on.
    pub(super) fn set_walked(&mut self, count: usize, next: Option<(usize, u32)>) {
        if let Some(request) = &mut self.request {
            request.next = next;
            request.unseen = request.unseen.saturating_sub(count);
        }
    }

    /// The pools have changed: whatever is covered stays covered, and all leases are looked at again.
    pub(super) fn restart_walk(&mut self) {
        if let Some(request) = &mut self.request {
            request.next = Some((0, 0));
        }
    }

    /// Whether the partner has not accepted what we have to say about a lease: it waits, is in flight, or was refused.
    pub(super) fn is_unanswered(&self, address: Ipv4Addr) -> bool {
        self.entries.contains_key(&address) || self.refused.contains(&address)
    }

    /// Whether a lease is queued or in flight.
    pub(super) fn is_pending(&self, address: Ipv4Addr) -> bool {
        self.entries.contains_key(&address)
    }

    /// The running request covers this lease.
    pub(super) fn cover(&mut self, address: Ipv4Addr, seq: Seq) {
        self.enqueue_if_absent(address, seq);
        let number = self.request_number;
        if let (Some(entry), Some(request)) = (self.entries.get_mut(&address), &mut self.request)
            && entry.request != number
        {
            entry.request = number;
            request.outstanding = request.outstanding.saturating_add(1);
        }
    }

    /// The transaction to answer with UPDDONE, once, when nothing of the request is outstanding.
    pub(super) fn take_finished_request(&mut self) -> Option<u32> {
        self.request.take_if(|request| request.outstanding == 0 && request.next.is_none()).map(|request| request.xid)
    }

    /// How many leases of the running request are not answered yet; of one that is not for everything those not looked at
    /// count as none.
    pub(super) fn request_outstanding(&self) -> Option<usize> {
        let unseen = |request: Request| if request.for_all { request.unseen } else { 0 };
        self.request.map(|request| request.outstanding.saturating_add(unseen(request)))
    }

    /// The link is gone: the partner will ask again, and owes no answers.
    pub(super) fn drop_request(&mut self) {
        self.request = None;
        self.overtaken.clear();
    }

    /// The partner refused this lease's update: offered again later, not at once.
    pub(super) fn note_refused(&mut self, address: Ipv4Addr, now: BootTime) {
        if self.refused.len() < REFUSED_MAX {
            self.refused.insert(address);
        } else {
            self.has_refused_more = true;
        }
        self.retry_at.get_or_insert(now.after(REFUSED_RETRY));
    }

    /// The refused leases when their time has come, and whether there were more than could be remembered.
    pub(super) fn take_refused(&mut self, now: BootTime) -> Option<(BTreeSet<Ipv4Addr>, bool)> {
        self.retry_at.take_if(|at| *at <= now)?;
        Some((std::mem::take(&mut self.refused), std::mem::take(&mut self.has_refused_more)))
    }

    /// When something here has to be looked at again.
    pub(super) fn next_deadline(&self) -> Option<BootTime> {
        let oldest = self.in_flight.first_key_value().map(|(_, (_, sent))| *sent);
        let overtaken = self.overtaken.first_key_value().map(|(_, sent)| *sent);
        let unanswered = oldest.into_iter().chain(overtaken).min().map(|sent| sent.after(ACK_TIMEOUT));
        [unanswered, self.retry_at].into_iter().flatten().min()
    }
}
