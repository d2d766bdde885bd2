//! What a server counts, in the text format of Prometheus (version 0.0.4). `docs/metrics.md` has a row for each family.
//!
//! Everything comes from the answers to `status`, `fast-path` and `failover`. Only the last one rests on a look at the
//! leases of failover pools, which is done in slices between the clients' packets: a server with a million of them may be
//! asked every few seconds. Counters that a server has not touched yet are written as zero, so that the first event is
//! seen as one; but of the possible transitions only those that were made.

use std::{collections::BTreeMap, fmt::Display, fmt::Write as _};

use dhcp_ebpf::abi::Counter;

use super::{
    failover::{Bounds, Relationship},
    message::{FastPathPage, Peer, Pool, Status},
};
use crate::{
    engine::status::{NotArmed, Reason, Received, Sent},
    failover::State,
};

/// The exposition of one server.
#[must_use]
pub fn exposition(status: &Status, page: &FastPathPage, relationships: &[Relationship]) -> String {
    let mut text = Exposition::default();
    server(&mut text, status);
    journal(&mut text, status);
    pools(&mut text, &status.pools);
    fast_path(&mut text, status, page);
    failover(&mut text, status);
    outlook(&mut text, relationships);
    transitions(&mut text, relationships);
    text.0
}

fn server(text: &mut Exposition, status: &Status) {
    let version = status.server.rsplit(' ').next().unwrap_or_default();
    text.gauge("xdhcpd_info", "The version of the server; always 1.").put(&[("version", version)], 1);
    text.gauge("xdhcpd_uptime_seconds", "How long the server runs.").put(&[], status.uptime_secs);
    text.gauge("xdhcpd_config_generation", "How often a configuration has taken over.").put(&[], status.generation);
    let mut replies = text.counter("xdhcpd_replies_total", "Replies to clients, by who gave them.");
    replies.put(&[("by", "kernel")], status.replies.kernel);
    replies.put(&[("by", "agent")], status.replies.agent);
    let known = Received::ALL.iter().map(|one| one.name());
    text.counter("xdhcpd_received_total", "Messages received by the agent, by type.").all(
        "type",
        known,
        &status.received,
    );
    let known = Sent::ALL.iter().map(|one| one.name());
    text.counter("xdhcpd_sent_total", "Replies sent by the agent, by type.").all("type", known, &status.sent);
    let known = Reason::ALL.iter().map(|one| one.name());
    let ignored = "Messages that the agent did not answer, by reason.";
    text.counter("xdhcpd_ignored_total", ignored).all("reason", known, &status.ignored);
    let eased = "What was done because many clients came at once.";
    text.counter("xdhcpd_storm_total", eased).all("what", [], &status.storm);
    let seen = "How often a client or a place wanted more than its share.";
    text.counter("xdhcpd_guard_exceeded_total", seen).all("what", [], &status.guard.seen);
    let refused = "How often that was a reason not to answer.";
    text.counter("xdhcpd_guard_refused_total", refused).all("what", [], &status.guard.refused);

    let sockets = &status.sockets;
    let counts = [
        ("xdhcpd_socket_received_total", "Datagrams given to the engine.", sockets.received),
        ("xdhcpd_socket_sent_total", "Replies handed to the kernel.", sockets.sent),
        ("xdhcpd_socket_unsent_total", "Replies that the kernel did not take.", sockets.unsent),
        ("xdhcpd_socket_overrun_total", "Frames lost because the agent did not keep up.", sockets.overrun),
    ];
    for (name, help, count) in counts {
        text.counter(name, help).put(&[], count);
    }
    let refused = "Frames that are not for this server, or broken, by reason.";
    text.counter("xdhcpd_socket_refused_total", refused).all("reason", [], &sockets.refused);
}

fn journal(text: &mut Exposition, status: &Status) {
    let journal = &status.journal;
    let counts = [
        ("xdhcpd_journal_records_total", "Records handed to the journal.", journal.appended),
        ("xdhcpd_journal_durable_records_total", "Records that are on disk.", journal.durable),
        ("xdhcpd_journal_commits_total", "Commits: a write and a sync each.", journal.commits),
        ("xdhcpd_journal_compactions_total", "Rewrites of the leases file.", journal.compactions),
    ];
    for (name, help, count) in counts {
        text.counter(name, help).put(&[], count);
    }
    let waiting = "Replies and arms that wait for the disk.";
    text.gauge("xdhcpd_journal_waiting", waiting).put(&[], journal.waiting);
    text.gauge("xdhcpd_journal_file_bytes", "Bytes of records in the leases file.").put(&[], journal.file_len);
    let longest = "The longest that a commit, or the switch to a rewritten file, has taken since the start.";
    let secs = std::time::Duration::from_micros(journal.longest_stall_us).as_secs_f64();
    text.gauge("xdhcpd_journal_longest_commit_seconds", longest).put(&[], secs);
    let failed = "Whether the leases file cannot be written: nobody is given a lease.";
    text.gauge("xdhcpd_journal_failed", failed).put(&[], u8::from(journal.failure.is_some()));
}

fn pools(text: &mut Exposition, pools: &[Pool]) {
    let mut family = text.gauge("xdhcpd_pool_addresses", "Addresses of a pool, by binding state.");
    for pool in pools {
        let states = [
            ("free", pool.free),
            ("backup", pool.backup),
            ("active", pool.active),
            ("expired", pool.expired),
            ("released", pool.released),
            ("abandoned", pool.abandoned),
            ("reset", pool.reset),
        ];
        let ranges = pool.ranges.join(" ");
        for (state, count) in states {
            let peer = pool.peer.as_deref().unwrap_or_default();
            family.put(&[("network", &pool.network), ("ranges", &ranges), ("peer", peer), ("state", state)], count);
        }
    }
    let mut family = text.gauge("xdhcpd_pool_size", "Addresses of a pool in all.");
    for pool in pools {
        let peer = pool.peer.as_deref().unwrap_or_default();
        family.put(&[("network", &pool.network), ("ranges", &pool.ranges.join(" ")), ("peer", peer)], pool.total);
    }
}

/// What a counter of the kernel program counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Answered,
    PassedUp,
    Dropped,
    Seen,
    NotOurs,
    Event,
}

const fn kind(counter: Counter) -> Kind {
    match counter {
        Counter::Answered => Kind::Answered,
        Counter::HorizonAsked | Counter::EventLost => Kind::Event,
        Counter::NotIpv4 | Counter::NotDhcp => Kind::NotOurs,
        Counter::FloodSeen | Counter::MalformedSeen | Counter::SpoofSeen => Kind::Seen,
        Counter::FloodDropped | Counter::MalformedDropped | Counter::SpoofDropped => Kind::Dropped,
        Counter::Fragment
        | Counter::IpOptions
        | Counter::Length
        | Counter::NotRequest
        | Counter::Hardware
        | Counter::Cookie
        | Counter::NoAddress
        | Counter::Tagged
        | Counter::OtherSource
        | Counter::LongOptions
        | Counter::Off
        | Counter::DeadMan
        | Counter::NoEntry
        | Counter::NotArmed
        | Counter::OtherClient
        | Counter::NotServing
        | Counter::OtherQuestion
        | Counter::OtherServer
        | Counter::Horizon
        | Counter::Resize
        | Counter::OtherBucket
        | Counter::Sampled => Kind::PassedUp,
    }
}

fn fast_path(text: &mut Exposition, status: &Status, page: &FastPathPage) {
    let fast = &status.fast_path;
    let on = "Whether the kernel may answer.";
    text.gauge("xdhcpd_fastpath_on", on).put(&[], u8::from(fast.enabled && page.on));
    let mut family = text.gauge("xdhcpd_fastpath_attached", "How the program is attached to an interface; always 1.");
    for interface in &status.interfaces {
        family.put(&[("interface", &interface.name), ("mode", &interface.xdp)], 1);
    }
    text.gauge("xdhcpd_fastpath_armed_leases", "Leases that the kernel may renew.").put(&[], fast.armed);
    text.gauge("xdhcpd_fastpath_answers", "Different answers that they share.").put(&[], fast.templates);
    let counts = [
        ("xdhcpd_fastpath_arms_total", "Leases handed to the kernel.", fast.arms),
        ("xdhcpd_fastpath_horizons_moved_total", "Promises made longer.", fast.extensions),
        ("xdhcpd_fastpath_renewals_total", "Renewals by the kernel that the agent has heard of.", fast.renewals),
        ("xdhcpd_fastpath_revoked_total", "Leases taken from the kernel.", fast.revoked),
    ];
    for (name, help, count) in counts {
        text.counter(name, help).put(&[], count);
    }
    let families = [
        (Kind::Answered, "xdhcpd_fastpath_answered_total", "Requests that the kernel answered."),
        (Kind::PassedUp, "xdhcpd_fastpath_passed_total", "Requests that the kernel passed up, by reason."),
        (Kind::Dropped, "xdhcpd_fastpath_dropped_total", "Frames that the kernel dropped, by reason."),
        (Kind::Seen, "xdhcpd_fastpath_suspicious_total", "Frames that it would drop when enforcing, by reason."),
        (Kind::NotOurs, "xdhcpd_fastpath_other_frames_total", "Frames that are no DHCP requests, by reason."),
        (Kind::Event, "xdhcpd_fastpath_events_total", "Events for the agent, by what became of them."),
    ];
    for (wanted, name, help) in families {
        let mut family = text.counter(name, help);
        for counter in Counter::ALL.into_iter().filter(|counter| kind(*counter) == wanted) {
            let name = counter.name();
            let reason = name.trim_end_matches("-dropped").trim_end_matches("-seen");
            let labels = [("reason", reason)];
            let labels = if wanted == Kind::Answered { &[][..] } else { &labels };
            family.put(labels, status.kernel.get(name).copied().unwrap_or(0));
        }
    }
    let known = NotArmed::ALL.iter().map(|one| one.name());
    let not_armed = "Acknowledged leases that were not handed to the kernel, by reason.";
    text.counter("xdhcpd_fastpath_not_armed_total", not_armed).all("reason", known, &fast.not_armed);
    let checked = "Replies of the kernel that the shadow check has compared.";
    text.counter("xdhcpd_shadow_checked_total", checked).put(&[], page.shadow.checked);
    let alarm = "Whether the shadow check has found a difference, and switched the fast path off.";
    text.gauge("xdhcpd_shadow_alarm", alarm).put(&[], u8::from(page.shadow.alarm.is_some()));
}

fn failover(text: &mut Exposition, status: &Status) {
    let peers = &status.peers;
    let mut family = text.gauge("xdhcpd_failover_state", "1 for the state that a side is in, 0 for every other.");
    for peer in peers {
        for (side, is_in) in [("me", &peer.my_state), ("partner", &peer.partner_state)] {
            for state in State::ALL.iter().map(|state| state.name()) {
                let labels = [("peer", &*peer.name), ("side", side), ("state", state)];
                family.put(&labels, u8::from(is_in == state));
            }
        }
    }
    let mut family =
        text.gauge("xdhcpd_failover_state_since_timestamp_seconds", "When that state began, seconds since 1970.");
    for peer in peers {
        for (side, since) in [("me", peer.my_since), ("partner", peer.partner_since)] {
            family.put(&[("peer", &peer.name), ("side", side)], since);
        }
    }
    type Value = fn(&Peer) -> Option<u64>;
    let gauges: [(&'static str, &str, Value); 9] = [
        ("xdhcpd_failover_connected", "Whether the link is up.", |peer| Some(peer.connected.into())),
        ("xdhcpd_failover_link_protected", "Whether a key protects it.", |peer| Some(peer.link_protected.into())),
        ("xdhcpd_failover_serving", "Whether clients of its pools are answered.", |peer| Some(peer.serving.into())),
        ("xdhcpd_failover_heard_seconds", "How long ago the partner said anything; absent when it has not.", |peer| {
            peer.heard_secs_ago
        }),
        ("xdhcpd_failover_mclt_seconds", "MCLT in force.", |peer| Some(peer.mclt_secs.into())),
        ("xdhcpd_failover_updates_queued", "Updates that wait for the window or the link.", |peer| {
            Some(peer.updates_queued)
        }),
        ("xdhcpd_failover_updates_unacked", "Updates sent and not acknowledged.", |peer| Some(peer.updates_in_flight)),
        ("xdhcpd_failover_updates_held", "Updates of the partner that wait here.", |peer| Some(peer.updates_held)),
        (
            "xdhcpd_failover_lag_seconds",
            "How long the partner has not known the oldest change that it has to know.",
            |peer| Some(peer.lag_secs),
        ),
    ];
    for (name, help, value) in gauges {
        let mut family = text.gauge(name, help);
        for peer in peers {
            if let Some(value) = value(peer) {
                family.put(&[("peer", &peer.name)], value);
            }
        }
    }
    let mut family =
        text.counter("xdhcpd_failover_updates_total", "Updates, by which way they went and what became of them.");
    for peer in peers {
        let updates = &peer.updates;
        let counts = [
            ("sent", updates.sent),
            ("acknowledged", updates.acked),
            ("rejected", updates.rejected),
            ("repeated", updates.repeated),
            ("received", updates.received),
            ("refused", updates.refused),
        ];
        for (what, count) in counts {
            family.put(&[("peer", &peer.name), ("what", what)], count);
        }
    }
    let mut family = text.counter("xdhcpd_failover_malformed_total", "Messages of the partner that were none.");
    for peer in peers {
        family.put(&[("peer", &peer.name)], peer.updates.malformed);
    }
    let mut family =
        text.gauge("xdhcpd_failover_pool_addresses", "Addresses that new clients can be given, by whose they are.");
    for pool in &status.pools {
        let Some(peer) = peers.iter().find(|peer| Some(&peer.name) == pool.peer.as_ref()) else { continue };
        let (mine, theirs) = if peer.role == "primary" { (pool.free, pool.backup) } else { (pool.backup, pool.free) };
        for (owner, count) in [("me", mine), ("partner", theirs)] {
            let ranges = pool.ranges.join(" ");
            let labels = [("peer", &*peer.name), ("network", &pool.network), ("ranges", &ranges), ("owner", owner)];
            family.put(&labels, count);
        }
    }
    let refused = "Connections at the failover port that were closed at once, by reason.";
    let known = if peers.is_empty() { &[][..] } else { &["stranger", "too-many", "key"] };
    let mut family = text.counter("xdhcpd_failover_links_refused_total", refused);
    family.all("reason", known.iter().copied(), &status.links_refused);
}

/// What the server can do without its partner.
fn outlook(text: &mut Exposition, relationships: &[Relationship]) {
    let mut family =
        text.gauge("xdhcpd_failover_leases", "Active leases, by what bounds how far each may be extended.");
    for one in relationships {
        let Bounds { active, acknowledged, unlimited, .. } = one.bounds;
        let counts = if unlimited { [0, 0, active] } else { [acknowledged, active.saturating_sub(acknowledged), 0] };
        for (bound, count) in ["acknowledgement", "mclt", "none"].into_iter().zip(counts) {
            family.put(&[("peer", &one.name), ("bound", bound)], count);
        }
    }
    type Value = fn(&Relationship) -> Option<u32>;
    let gauges: [(&'static str, &str, Value); 4] = [
        (
            "xdhcpd_failover_renewals_covered_timestamp_seconds",
            "If the partner dies now: until when every client can be renewed, seconds since 1970.",
            |one| one.if_partner_dies.renewals_covered_until,
        ),
        (
            "xdhcpd_failover_renewals_covered_longest_timestamp_seconds",
            "If the partner dies now: until when at least one client can be renewed.",
            |one| if one.bounds.unlimited { one.if_partner_dies.renewals_covered_until } else { one.bounds.latest },
        ),
        (
            "xdhcpd_failover_own_addresses",
            "If the partner dies now: addresses that new clients can be given at once.",
            |one| Some(one.if_partner_dies.own_addresses),
        ),
        (
            "xdhcpd_failover_takeover_complete_timestamp_seconds",
            "When all addresses of the partner can be given, if partner-down is said now; in partner-down: when they can.",
            |one| Some(one.if_partner_dies.takeover_complete),
        ),
    ];
    for (name, help, value) in gauges {
        let mut family = text.gauge(name, help);
        for one in relationships {
            if let Some(value) = value(one) {
                family.put(&[("peer", &one.name)], value);
            }
        }
    }
}

/// The timeline, as far as numbers can tell it.
fn transitions(text: &mut Exposition, relationships: &[Relationship]) {
    let made = || relationships.iter().flat_map(|one| one.transitions.iter().map(move |made| (one, made)));
    let mut family = text.counter("xdhcpd_failover_transitions_total", "Transitions of a side, those that were made.");
    for (one, made) in made() {
        let labels = [("peer", &*one.name), ("side", &made.who), ("from", &made.from), ("to", &made.to)];
        family.put(&labels, made.count);
    }
    let when = "When a transition was made last, seconds since 1970.";
    let mut family = text.gauge("xdhcpd_failover_transition_timestamp_seconds", when);
    for (one, made) in made() {
        let labels = [("peer", &*one.name), ("side", &made.who), ("from", &made.from), ("to", &made.to)];
        family.put(&labels, made.last);
    }
}

/// Text of families, each with what it means and its samples.
#[derive(Debug, Default)]
struct Exposition(String);

impl Exposition {
    /// A number that only grows, as long as the server runs.
    fn counter<'a>(&'a mut self, name: &'static str, help: &'a str) -> Family<'a> {
        Family { text: &mut self.0, name, help, kind: "counter", is_begun: false }
    }

    /// A number that goes up and down.
    fn gauge<'a>(&'a mut self, name: &'static str, help: &'a str) -> Family<'a> {
        Family { text: &mut self.0, name, help, kind: "gauge", is_begun: false }
    }
}

/// One family of samples; without any it is not written.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    help: &'a str,
    kind: &'static str,
    is_begun: bool,
}

impl Family<'_> {
    fn put(&mut self, labels: &[(&str, &str)], value: impl Display) {
        // Writing to a String cannot fail.
        let name = self.name;
        if !std::mem::replace(&mut self.is_begun, true) {
            let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {}", self.help, self.kind);
        }
        self.text.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", escape(value));
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A sample for each name that is known, and for those that the server knows besides.
    fn all<'n>(&mut self, label: &str, known: impl IntoIterator<Item = &'n str>, counts: &'n BTreeMap<String, u64>) {
        let mut all: BTreeMap<&str, u64> = known.into_iter().map(|name| (name, 0)).collect();
        all.extend(counts.iter().map(|(name, count)| (name.as_str(), *count)));
        for (name, count) in all {
            self.put(&[(label, name)], count);
        }
    }
}

/// A label's value: a backslash, a quote and a line end are written with a backslash, nothing else is.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
