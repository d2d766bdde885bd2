//! Connections: dialling, handshake, keepalive, loss (failover.md 1 and 2).

use std::time::Duration;

use super::{Effect, Endpoint, Level, Link};
use crate::failover::binding::{Leases, Seq};
use crate::failover::bucket::Buckets;
use crate::failover::codec::option::{Reject, reject_name};
use crate::failover::codec::{Body, Connect, ConnectAck, Decoder, Message, Refusal, StateMessage, write_message};
use crate::failover::limits::{
    CLOCK_SKEW_SECS_MAX, CLOCK_SLACK_SECS, EXTRA_LEN_MAX, HALF_OPEN_MAX, HANDSHAKE_TIMEOUT, RARE_COUNT_MAX,
    RATE_WINDOW, REDIAL_DELAY, UPDATES_IN_FLIGHT_MAX,
};
use crate::failover::state::{Role, State};
use crate::lease::time::{BootTime, Now};

/// Vendor class of our messages; a partner whose class begins like this is one of ours.
const VENDOR: &[u8] = b"xdhcpd-";
const VENDOR_VERSION: &[u8] = concat!("xdhcpd-", env!("CARGO_PKG_VERSION")).as_bytes();
/// `protocol-version`; ISC writes 1 and looks at nobody's.
const VERSION: u8 = 1;

/// A connection whose handshake is not complete.
#[derive(Debug)]
pub(super) struct HalfOpen {
    pub(super) link: Link,
    pub(super) until: BootTime,
    decoder: Decoder,
    xid_next: u32,
}

/// The one connection that passed the handshake.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) link: Link,
    decoder: Decoder,
    xid_next: u32,
    receive_timer: Duration,
    receive_until: BootTime,
    send_every: Duration,
    send_at: BootTime,
    /// How many updates the partner takes without answering.
    pub(super) window: u32,
    /// The partner is one of ours and understands our vendor options.
    pub(super) is_ours: bool,
    /// Our first STATE is out. The secondary holds it back until it has heard the primary's: a dhcpd in conflict-done
    /// aborts on most states.
    pub(super) has_announced: bool,
    has_shown_facts: bool,
    /// Messages of the partner that come seldom.
    rare: Rate,
}

/// How often something happened in this minute.
#[derive(Debug, Default)]
pub(super) struct Rate {
    since: Option<BootTime>,
    count: u32,
}

impl Rate {
    /// Counts one more: how many there were in the last minute when another one begins with this, and how many are in
    /// this one.
    pub(super) fn count(&mut self, now: BootTime) -> (u32, u32) {
        let since = *self.since.get_or_insert(now);
        let mut last = 0;
        if now.since(since) >= RATE_WINDOW {
            last = std::mem::take(&mut self.count);
            self.since = Some(now);
        }
        self.count = self.count.saturating_add(1);
        (last, self.count)
    }
}

impl Session {
    /// The next xid.
    pub(super) const fn xid(&mut self) -> u32 {
        let xid = self.xid_next;
        self.xid_next = self.xid_next.wrapping_add(1);
        xid
    }

    /// The next xid for a BNDUPD, which is never 0.
    pub(super) const fn xid_of_update(&mut self) -> u32 {
        if self.xid_next == 0 {
            self.xid_next = 1;
        }
        self.xid()
    }

    pub(super) const fn may_send(&self) -> bool {
        self.has_announced
    }

    pub(super) fn note_sent(&mut self, now: BootTime) {
        self.send_at = now.after(self.send_every);
    }

    pub(super) fn next_deadline(&self) -> BootTime {
        self.send_at.min(self.receive_until)
    }
}

impl Endpoint {
    pub(super) fn handle_connected(&mut self, link: Link, dialled: bool, now: Now) {
        let is_second = match self.settings.role {
            // Whoever dialled: the primary speaks on the first connection only.
            Role::Primary => self.session.is_some() || !self.half_open.is_empty(),
            Role::Secondary => self.session.is_some() && dialled,
        };
        if is_second || self.half_open.len() >= HALF_OPEN_MAX {
            self.close(link);
            return;
        }
        let mut half =
            HalfOpen { link, until: now.boot.after(HANDSHAKE_TIMEOUT), decoder: Decoder::default(), xid_next: 0 };
        if self.settings.role == Role::Primary {
            let connect = Connect {
                name: Some(self.settings.name.as_bytes().to_vec()),
                updates_unacked_max: Some(self.settings.updates_unacked_max.max(1)),
                receive_timer_secs: Some(self.settings.receive_timer_secs.max(3)),
                vendor: Some(VENDOR_VERSION.to_vec()),
                version: Some(VERSION),
                tls_request: Some(0),
                mclt_secs: Some(self.mclt_secs),
                buckets: self.buckets.map(|Buckets(bits)| bits),
            };
            self.send_plain(link, half.xid_next, Body::Connect(connect), now);
            half.xid_next = 1;
        }
        self.half_open.push(half);
    }

    pub(super) fn handle_closed(&mut self, link: Link, leases: &mut dyn Leases, now: Now) {
        self.half_open.retain(|half| half.link != link);
        if self.session.as_ref().is_some_and(|session| session.link == link) {
            self.lose_partner("connection closed", leases, now);
        } else if self.session.is_none() {
            self.redial_at = Some(now.boot.after(REDIAL_DELAY));
        }
    }

    pub(super) fn handle_bytes(&mut self, link: Link, bytes: &[u8], leases: &mut dyn Leases, now: Now) {
        if let Some(half) = self.half_open.iter_mut().find(|half| half.link == link) {
            half.decoder.push(bytes);
        } else if let Some(session) = self.session.as_mut().filter(|session| session.link == link) {
            session.decoder.push(bytes);
        }
        loop {
            let half = self.half_open.iter_mut().find(|half| half.link == link).map(|half| &mut half.decoder);
            let session = self.session.as_mut().filter(|session| session.link == link);
            let is_session = half.is_none();
            let Some(decoder) = half.or(session.map(|session| &mut session.decoder)) else {
                return;
            };
            match decoder.take_message() {
                Ok(Some(message)) if is_session => self.handle_message(message, leases, now),
                Ok(Some(message)) => self.handle_greeting(link, message, leases, now),
                Ok(None) => return,
                Err(reason) => {
                    self.counters.malformed = self.counters.malformed.saturating_add(1);
                    self.log(Level::Warn, format!("failover peer {}: {reason}", self.settings.name));
                    self.drop_link(link, "malformed message", leases, now);
                }
            }
        }
    }

    /// A message on the session.
    fn handle_message(&mut self, message: Message, leases: &mut dyn Leases, now: Now) {
        let Some(session) = &mut self.session else { return };
        session.receive_until = now.boot.after(session.receive_timer);
        self.heard_at = Some(now.boot);
        let link = session.link;
        let xid = message.xid;
        self.slack_secs = now.wall.secs().saturating_sub(message.time).min(CLOCK_SKEW_SECS_MAX);
        let is_rare = matches!(
            message.body,
            Body::State(_) | Body::UpdReq | Body::UpdReqAll | Body::PoolReq | Body::PoolResp { .. }
        );
        if is_rare && session.rare.count(now.boot).1 > RARE_COUNT_MAX {
            let name = &self.settings.name;
            self.log(
                Level::Warn,
                format!(
                    "failover peer {name}: more than {RARE_COUNT_MAX} states and requests in a minute: link closed"
                ),
            );
            self.drop_link(link, "too many requests", leases, now);
            return;
        }
        match message.body {
            Body::BndUpd(update) => self.handle_update(xid, update, leases, now),
            Body::BndAck(ack) => self.handle_ack(xid, &ack, leases, now),
            Body::State(state) => self.handle_state(&state, leases, now),
            Body::UpdReq => self.handle_update_request(xid, false, leases, now),
            Body::UpdReqAll => self.handle_update_request(xid, true, leases, now),
            Body::UpdDone => self.handle_update_done(leases, now),
            Body::PoolReq => self.handle_pool_request(xid, leases, now),
            Body::PoolResp { transferred } => {
                let name = &self.settings.name;
                let text = format!("failover peer {name}: {} leases given on request", transferred.unwrap_or(0));
                self.log(Level::Info, text);
            }
            Body::Contact | Body::Unknown(_) => {}
            Body::Disconnect(refusal) => {
                self.log_refusal("DISCONNECT", &refusal);
                self.drop_link(link, "partner disconnects", leases, now);
            }
            Body::Connect(_) | Body::ConnectAck(_) => self.drop_link(link, "handshake repeated", leases, now),
        }
    }

    /// A message on a connection without a session: CONNECT for the secondary, CONNECTACK for the primary.
    fn handle_greeting(&mut self, link: Link, message: Message, leases: &mut dyn Leases, now: Now) {
        match (self.settings.role, message.body) {
            (Role::Secondary, Body::Connect(connect)) => {
                self.handle_connect(link, message.xid, message.time, connect, leases, now);
            }
            (Role::Primary, Body::ConnectAck(ack)) => self.handle_connect_ack(link, message.time, ack, leases, now),
            (_, Body::Unknown(_)) => {}
            (_, Body::Disconnect(refusal)) => {
                self.log_refusal("DISCONNECT", &refusal);
                self.drop_link(link, "refused", leases, now);
            }
            (Role::Primary | Role::Secondary, _) => {
                self.log(Level::Warn, format!("failover peer {}: message before the handshake", self.settings.name));
                self.drop_link(link, "message before the handshake", leases, now);
            }
        }
    }

    /// failover.md 2.2, in its order.
    fn handle_connect(&mut self, link: Link, xid: u32, time: u32, connect: Connect, leases: &mut dyn Leases, now: Now) {
        let mut ack = ConnectAck {
            name: connect.name.clone(),
            vendor: Some(VENDOR_VERSION.to_vec()),
            version: Some(VERSION),
            tls_reply: connect.tls_request.map(|_| 0),
            ..ConnectAck::default()
        };
        let is_known = connect.name.as_deref() == Some(self.settings.name.as_bytes());
        if is_known {
            ack.updates_unacked_max = Some(self.settings.updates_unacked_max.max(1));
            ack.receive_timer_secs = Some(self.settings.receive_timer_secs.max(3));
        }
        let refusal = if connect.name.is_none() {
            Some((Reject::InvalidPartner, "missing relationship-name"))
        } else if !is_known {
            Some((Reject::InvalidPartner, "unknown failover relationship name"))
        } else if now.wall.secs().abs_diff(time) > CLOCK_SKEW_SECS_MAX {
            Some((Reject::TimeMismatch, "time offset too large"))
        } else if connect.buckets.is_none() {
            Some((Reject::HashBuckets, "invalid HBA"))
        } else if self.session.is_some() {
            Some((Reject::DuplicateConnection, "already connected"))
        } else if connect.mclt_secs.is_none_or(|mclt| mclt == 0) {
            Some((Reject::InvalidMclt, "invalid MCLT"))
        } else {
            None
        };
        if let Some((reason, text)) = refusal {
            ack.refusal = Refusal { reason: Some(reason as u8), message: Some(text.as_bytes().to_vec()) };
            self.log(Level::Warn, format!("failover CONNECT from {}: {text}", self.settings.name));
            self.send_plain(link, xid, Body::ConnectAck(ack), now);
            self.drop_link(link, text, leases, now);
            return;
        }
        self.buckets = connect.buckets.map(Buckets).or(self.buckets);
        self.mclt_secs = connect.mclt_secs.unwrap_or(self.mclt_secs);
        let is_ours = is_vendor_ours(connect.vendor.as_deref());
        if is_ours {
            ack.extra = Some(self.facts());
        }
        self.send_plain(link, xid, Body::ConnectAck(ack), now);
        self.open_session(link, connect.updates_unacked_max, connect.receive_timer_secs, is_ours, time, now);
    }

    /// failover.md 2.3, in its order.
    fn handle_connect_ack(&mut self, link: Link, time: u32, ack: ConnectAck, leases: &mut dyn Leases, now: Now) {
        let refusal = if ack.name.is_none() {
            Some((Reject::InvalidPartner, "missing relationship-name"))
        } else if ack.refusal.reason.is_some_and(|reason| reason != 0) {
            self.log_refusal("CONNECT", &ack.refusal);
            self.drop_link(link, "refused", leases, now);
            return;
        } else if ack.name.as_deref() != Some(self.settings.name.as_bytes()) {
            Some((Reject::InvalidPartner, "unknown failover relationship name"))
        } else if self.session.is_some() {
            Some((Reject::DuplicateConnection, "already connected"))
        } else if now.wall.secs().abs_diff(time) > CLOCK_SKEW_SECS_MAX {
            Some((Reject::TimeMismatch, "time offset too large"))
        } else {
            None
        };
        if let Some((reason, text)) = refusal {
            self.log(Level::Warn, format!("failover CONNECTACK from {}: {text}", self.settings.name));
            let refusal = Refusal { reason: Some(reason as u8), message: Some(text.as_bytes().to_vec()) };
            self.send_plain(link, 1, Body::Disconnect(refusal), now);
            self.drop_link(link, text, leases, now);
            return;
        }
        let is_ours = is_vendor_ours(ack.vendor.as_deref());
        self.open_session(link, ack.updates_unacked_max, ack.receive_timer_secs, is_ours, time, now);
        self.compare_facts(ack.extra.as_deref());
        self.announce(now);
    }

    fn open_session(
        &mut self,
        link: Link,
        window: Option<u32>,
        receive_timer_secs: Option<u32>,
        is_ours: bool,
        time: u32,
        now: Now,
    ) {
        let Some(at) = self.half_open.iter().position(|half| half.link == link) else {
            return;
        };
        let half = self.half_open.swap_remove(at);
        // Other connections of the same partner are of no use any more.
        for other in std::mem::take(&mut self.half_open) {
            self.close(other.link);
        }
        let receive_timer = Duration::from_secs(u64::from(self.settings.receive_timer_secs.max(3)));
        let send_every = Duration::from_secs(u64::from((receive_timer_secs.unwrap_or(3) / 3).max(1)));
        self.outbox.clear();
        self.session = Some(Session {
            link,
            decoder: half.decoder,
            xid_next: half.xid_next,
            receive_timer,
            receive_until: now.boot.after(receive_timer),
            send_every,
            send_at: now.boot.after(send_every),
            window: window.unwrap_or(0).min(UPDATES_IN_FLIGHT_MAX),
            is_ours,
            has_announced: false,
            // The secondary's are in its CONNECTACK.
            has_shown_facts: self.settings.role == Role::Secondary,
            rare: Rate::default(),
        });
        self.redial_at = None;
        self.heard_at = Some(now.boot);
        self.log(Level::Info, format!("failover peer {}: connected", self.settings.name));
        let apart = now.wall.secs().abs_diff(time);
        if apart > CLOCK_SLACK_SECS {
            // Potential expiries are compared by the clock of whoever reads them.
            let text = format!("the clocks of the two servers are {apart} s apart");
            self.log(Level::Warn, format!("failover peer {}: {text}", self.settings.name));
        }
    }

    /// Sends our first STATE on this connection.
    pub(super) fn announce(&mut self, now: Now) {
        let Some(session) = &mut self.session else { return };
        if !session.has_announced {
            session.has_announced = true;
            self.send_state(now);
        }
    }

    /// Sends our state, if the partner can take it.
    pub(super) fn send_state(&mut self, now: Now) {
        let must_hold = self.settings.role == Role::Secondary
            && self.partner == State::ConflictDone
            && !matches!(
                self.state,
                State::Normal | State::PotentialConflict | State::ResolutionInterrupted | State::Shutdown
            );
        let facts = self.facts();
        let startup = self.service == super::Service::Startup;
        let Some(session) = self.session.as_mut().filter(|session| session.has_announced) else {
            return;
        };
        if must_hold {
            self.log(Level::Warn, "state held back: the primary is resolving conflicts".to_owned());
            return;
        }
        let shows_facts = session.is_ours && !session.has_shown_facts;
        session.has_shown_facts |= shows_facts;
        let state = StateMessage {
            state: self.state.wire(),
            startup,
            since: Some(self.since.secs()),
            extra: shows_facts.then_some(facts),
        };
        self.originate(Body::State(state), now);
    }

    /// Sends a message with an xid of our own, after the newest record.
    pub(super) fn originate(&mut self, body: Body, now: Now) {
        let Some(session) = &mut self.session else { return };
        let xid = session.xid();
        self.push(xid, body, self.outbox.newest(), now);
    }

    /// Puts a message into the outbox.
    pub(super) fn push(&mut self, xid: u32, body: Body, seq: Seq, now: Now) -> bool {
        let mut bytes = Vec::new();
        if write_message(&Message { time: now.wall.secs(), xid, body }, &mut bytes).is_err() {
            self.counters.oversized = self.counters.oversized.saturating_add(1);
            return false;
        }
        self.outbox.push(seq, bytes);
        true
    }

    /// Sends on a connection without a session.
    fn send_plain(&mut self, link: Link, xid: u32, body: Body, now: Now) {
        let mut bytes = Vec::new();
        if write_message(&Message { time: now.wall.secs(), xid, body }, &mut bytes).is_ok() {
            self.effects.push_back(Effect::Send { link, bytes });
        }
    }

    pub(super) fn close(&mut self, link: Link) {
        self.effects.push_back(Effect::Close { link });
    }

    /// Closes a connection, whatever it was good for.
    pub(super) fn drop_link(&mut self, link: Link, why: &str, leases: &mut dyn Leases, now: Now) {
        self.close(link);
        self.half_open.retain(|half| half.link != link);
        if self.session.as_ref().is_some_and(|session| session.link == link) {
            self.lose_partner(why, leases, now);
        } else if self.session.is_none() {
            self.redial_at = Some(now.boot.after(REDIAL_DELAY));
        }
    }

    /// The session has ended: nothing in flight is forgotten, whatever the state (dhcpd forgets it in recover and
    /// partner-down).
    fn lose_partner(&mut self, why: &str, leases: &mut dyn Leases, now: Now) {
        self.session = None;
        self.outbox.clear();
        self.held.clear();
        self.held_count = 0;
        self.updates.requeue_all();
        self.updates.drop_request();
        self.balance_at = None;
        self.redial_at = Some(now.boot.after(REDIAL_DELAY));
        self.log(Level::Info, format!("failover peer {}: disconnected ({why})", self.settings.name));
        self.handle_disconnect(leases, now);
    }

    /// Timers of connections.
    pub(super) fn poll_connections(&mut self, leases: &mut dyn Leases, now: Now) {
        let late: Vec<Link> =
            self.half_open.iter().filter(|half| half.until <= now.boot).map(|half| half.link).collect();
        for link in late {
            self.drop_link(link, "link startup timeout", leases, now);
        }
        if let Some((link, is_silent, is_due)) = self
            .session
            .as_ref()
            .map(|session| (session.link, session.receive_until <= now.boot, session.send_at <= now.boot))
        {
            if is_silent {
                self.log(Level::Warn, format!("timeout waiting for failover peer {}", self.settings.name));
                self.drop_link(link, "silent", leases, now);
            } else if is_due {
                if let Some(session) = &mut self.session {
                    session.note_sent(now.boot);
                }
                // Behind whatever waits for the journal: a server that cannot write must not seem alive.
                self.originate(Body::Contact, now);
            }
        }
        if self.session.is_none() && self.redial_at.is_some_and(|at| at <= now.boot) {
            self.redial_at = Some(now.boot.after(REDIAL_DELAY));
            if self.half_open.is_empty() {
                self.effects.push_back(Effect::Dial);
            }
        }
    }

    fn log_refusal(&mut self, what: &str, refusal: &Refusal) {
        let reason = refusal.reason.map_or("no reason given", reject_name);
        let text = refusal.message.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let name = &self.settings.name;
        self.log(Level::Warn, format!("failover {what} with {name} rejected: {reason} {}", text.escape_debug()));
    }

    /// Our facts for a partner of ours: `name=value` lines.
    fn facts(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (name, value) in &self.settings.facts {
            let line = format!("{name}={value}\n");
            if text.len().saturating_add(line.len()) > EXTRA_LEN_MAX {
                break;
            }
            text.extend_from_slice(line.as_bytes());
        }
        text
    }

    /// The configuration was read again: what differs now is said here at once, and to a partner of ours with the next
    /// STATE; in normal that is one more of the same state, which changes nothing.
    pub(super) fn handle_reconfigured(&mut self, facts: &[(String, String)], now: Now) {
        self.updates.restart_walk();
        self.restart_survey(false, now);
        if self.settings.facts == facts {
            return;
        }
        self.settings.facts = facts.to_vec();
        if let Some(theirs) = self.their_facts.take() {
            self.compare_facts(Some(&theirs));
        }
        let Some(session) = self.session.as_mut().filter(|session| session.is_ours) else { return };
        session.has_shown_facts = false;
        if self.state == State::Normal && self.partner == State::Normal && session.has_announced {
            self.send_state(now);
        }
    }

    /// Says in a plain sentence what differs between the two servers.
    pub(super) fn compare_facts(&mut self, theirs: Option<&[u8]>) {
        let Some(theirs) = theirs else { return };
        self.their_facts = Some(theirs.to_vec());
        let theirs = String::from_utf8_lossy(theirs);
        let mut lines = Vec::new();
        for (name, value) in theirs.lines().filter_map(|line| line.split_once('=')) {
            if self.settings.facts.iter().all(|(known, _)| known != name) {
                let (name, value) = (name.escape_debug(), value.escape_debug());
                lines.push(format!("{name} is {value} there and not said here"));
            }
        }
        for (name, ours) in &self.settings.facts {
            let other = theirs.lines().find_map(|line| line.split_once('=').filter(|(key, _)| key == name));
            match other {
                Some((_, other)) if other != ours => {
                    lines.push(format!("{name} is {ours} here and {} there", other.escape_debug()));
                }
                Some(_) => {}
                None => lines.push(format!("{name} is {ours} here and not said there")),
            }
        }
        for line in &lines {
            self.log(Level::Warn, format!("failover peer {}: {line}", self.settings.name));
        }
        self.counters.differing_facts = lines;
    }
}

fn is_vendor_ours(vendor: Option<&[u8]>) -> bool {
    vendor.is_some_and(|vendor| vendor.starts_with(VENDOR))
}
