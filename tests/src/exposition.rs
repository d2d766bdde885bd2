//! A strict reader of the text format of Prometheus (version 0.0.4): what a scraper would only warn of is an error here.

use std::collections::{BTreeMap, BTreeSet};

/// One family of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// `counter` or `gauge`.
    pub kind: String,
    /// What it means.
    pub help: String,
    /// Labels, and the value.
    pub samples: Vec<(BTreeMap<String, String>, f64)>,
}

impl Family {
    /// The one sample that has these labels, whatever others it has.
    #[must_use]
    pub fn value(&self, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| sample.get(*name).is_some_and(|one| one == value))
        };
        let mut found = self.samples.iter().filter(|(sample, _)| has(sample));
        let value = found.next()?.1;
        found.next().is_none().then_some(value)
    }
}

/// Reads an exposition.
///
/// # Errors
/// The line that is wrong, and why.
pub fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current: Option<String> = None;
    if !text.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    for line in text.trim_end_matches('\n').split('\n') {
        read_line(line, &mut current, &mut families).map_err(|why| format!("{why}: {line}"))?;
    }
    for (name, family) in &families {
        let labels: BTreeSet<_> = family.samples.iter().map(|(labels, _)| labels).collect();
        if labels.len() != family.samples.len() {
            return Err(format!("{name} has a sample twice"));
        }
        let names: BTreeSet<Vec<&String>> = labels.iter().map(|labels| labels.keys().collect()).collect();
        if names.len() != 1 {
            return Err(format!("the samples of {name} have different labels, or there are none"));
        }
        if (family.kind == "counter") != name.ends_with("_total") {
            return Err(format!("{name} is a {}: counters end in _total, and only they do", family.kind));
        }
    }
    Ok(families)
}

fn read_line(
    line: &str,
    current: &mut Option<String>,
    families: &mut BTreeMap<String, Family>,
) -> Result<(), &'static str> {
    if let Some(rest) = line.strip_prefix("# HELP ") {
        let (name, help) = rest.split_once(' ').ok_or("no help")?;
        if !is_name(name) || help.trim() != help || help.is_empty() || help.contains('\\') {
            return Err("a bad name or help");
        }
        if families.contains_key(name) {
            return Err("a family twice");
        }
        *current = Some(name.to_owned());
        let family = Family { kind: String::new(), help: help.to_owned(), samples: Vec::new() };
        families.insert(name.to_owned(), family);
        return Ok(());
    }
    let name = current.as_ref().ok_or("no HELP before it")?;
    let family = families.get_mut(name).ok_or("no HELP before it")?;
    if let Some(rest) = line.strip_prefix("# TYPE ") {
        let (of, kind) = rest.split_once(' ').ok_or("no type")?;
        if of != name || !family.kind.is_empty() || !["counter", "gauge"].contains(&kind) {
            return Err("TYPE does not follow its HELP, or is none");
        }
        family.kind = kind.to_owned();
        return Ok(());
    }
    if family.kind.is_empty() {
        return Err("no TYPE before the sample");
    }
    let rest = line.strip_prefix(name.as_str()).ok_or("a sample of another family")?;
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => read_labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let number = value.strip_prefix(' ').ok_or("no blank before the value")?;
    let number: f64 = number.parse().map_err(|_| "no number")?;
    if !number.is_finite() || number < 0.0 {
        return Err("a number that nothing here can have");
    }
    family.samples.push((labels, number));
    Ok(())
}

/// Labels behind `{`, and what follows `}`.
fn read_labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), &'static str> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, quoted) = rest.split_once("=\"").ok_or("no label")?;
        if !is_name(name) || name.contains(':') || name.starts_with("__") {
            return Err("a bad label");
        }
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next().ok_or("a label that does not end")? {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next().map(|(_, character)| character) {
                    Some('\\') => '\\',
                    Some('"') => '"',
                    Some('n') => '\n',
                    _ => return Err("a backslash before something else"),
                }),
                (_, character) => value.push(character),
            }
        };
        if labels.insert(name.to_owned(), value).is_some() {
            return Err("a label twice");
        }
        rest = &quoted[end + 1..];
        if let Some(behind) = rest.strip_prefix('}') {
            return Ok((labels, behind));
        }
        rest = rest.strip_prefix(',').ok_or("no comma")?;
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|one| one.is_ascii_alphanumeric() || one == '_' || one == ':')
}

#[cfg(test)]
mod tests {
    use dhcp_user::control::failover::{Bounds, Loss, Made, Relationship, Updates};
    use dhcp_user::control::message::{
        FastPath, FastPathPage, Guard, Interface, Journal, Peer, Pool, Replies, Shadow, Sockets, Status,
    };
    use dhcp_user::control::metrics::exposition;

    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/metrics.md");

    /// A server with names that somebody chose who means no good.
    fn status() -> Status {
        let count = |name: &str, count| BTreeMap::from([(name.to_owned(), count)]);
        Status {
            server: "xdhcpd 0.1.0".to_owned(),
            pid: 1,
            uptime_secs: 77,
            generation: 3,
            config: "/etc/dhcp/dhcpd.conf".to_owned(),
            leases: "/var/lib/dhcp/dhcpd.leases".to_owned(),
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                index: 2,
                mac: "02:00:00:00:00:01".to_owned(),
                addresses: Vec::new(),
                up: true,
                xdp: "native".to_owned(),
                why: String::new(),
                note: String::new(),
            }],
            replies: Replies { kernel: 900, agent: 100 },
            received: count("discover", 5),
            sent: count("nak", 4),
            ignored: count("no-free-leases", 3),
            kernel: BTreeMap::from([
                ("answered".to_owned(), 900),
                ("no-entry".to_owned(), 12),
                ("flood-dropped".to_owned(), 13),
                ("flood-seen".to_owned(), 14),
                ("not-dhcp".to_owned(), 15),
                ("event-lost".to_owned(), 16),
            ]),
            sockets: Sockets { overrun: 6, refused: count("checksum", 2), ..Sockets::default() },
            fast_path: FastPath { enabled: true, armed: 8, not_armed: count("depends", 9), ..FastPath::default() },
            guard: Guard { seen: count("client-rate", 10), ..Guard::default() },
            storm: count("shed-by-source", 11),
            journal: Journal { commits: 40, longest_stall_us: 1_250, file_len: 4096, ..Journal::default() },
            pools: vec![Pool {
                network: "a \"net\\work\"\nof two lines".to_owned(),
                ranges: vec!["10.0.0.1-10.0.0.9".to_owned(), "10.0.0.20-10.0.0.29".to_owned()],
                peer: Some("GSB\" 1".to_owned()),
                total: 19,
                free: 5,
                backup: 4,
                active: 7,
                expired: 1,
                released: 1,
                abandoned: 1,
                reset: 0,
            }],
            peers: vec![Peer {
                name: "GSB\" 1".to_owned(),
                role: "secondary".to_owned(),
                my_state: "normal".to_owned(),
                my_since: 1_700_000_000,
                partner_state: "partner-down".to_owned(),
                partner_since: 1_700_000_100,
                service: "cooperating".to_owned(),
                serving: true,
                connected: true,
                link_protected: true,
                heard_secs_ago: Some(2),
                mclt_secs: 60,
                updates_queued: 21,
                updates_in_flight: 22,
                lag_secs: 23,
                updates_held: 24,
                updates: Updates { sent: 25, malformed: 26, ..Updates::default() },
            }],
            links_refused: count("stranger", 27),
        }
    }

    fn relationships() -> Vec<Relationship> {
        let made = |who: &str, from: &str, to: &str, count, last| Made {
            who: who.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            count,
            last,
        };
        let json = serde_json::json!({
            "name": "GSB\" 1", "role": "secondary", "my_state": "normal", "my_since": 0, "partner_state": "normal",
            "partner_since": 0, "connected": true, "partner_is_ours": true, "service": "cooperating", "serves": "both",
            "mclt_secs": 60, "pools": [], "updates_queued": 0, "updates_in_flight": 0, "lag_secs": 0, "updates_held": 0,
            "if_partner_dies": Loss {
                renewals_covered_until: Some(1_700_000_600),
                own_addresses: 25,
                takeover_complete: 1_700_000_060,
            },
            "differences": [], "timeline": [], "updates": Updates::default(),
        });
        let bounds = Bounds {
            active: 7,
            acknowledged: 5,
            soonest: Some(1_700_000_600),
            latest: Some(1_700_000_960),
            unlimited: false,
        };
        let transitions = vec![
            made("me", "normal", "communications-interrupted", 3, 1_700_000_050),
            made("partner", "communications-interrupted", "normal", 1, 1_700_000_055),
        ];
        vec![Relationship { bounds, transitions, ..serde_json::from_value(json).unwrap() }]
    }

    fn page() -> FastPathPage {
        FastPathPage { on: true, shadow: Shadow { checked: 30, ..Shadow::default() }, ..FastPathPage::default() }
    }

    #[test]
    fn what_a_server_counts_can_be_read_by_a_strict_reader_and_is_all_there() {
        let families = parse(&exposition(&status(), &page(), &relationships())).unwrap();
        let value = |name: &str, labels: &[(&str, &str)]| {
            families.get(name).unwrap_or_else(|| panic!("no {name}")).value(labels)
        };
        for (name, labels, expected) in [
            ("xdhcpd_info", &[("version", "0.1.0")][..], 1.0),
            ("xdhcpd_uptime_seconds", &[], 77.0),
            ("xdhcpd_replies_total", &[("by", "kernel")], 900.0),
            ("xdhcpd_received_total", &[("type", "discover")], 5.0),
            ("xdhcpd_received_total", &[("type", "inform")], 0.0),
            ("xdhcpd_sent_total", &[("type", "nak")], 4.0),
            ("xdhcpd_ignored_total", &[("reason", "no-free-leases")], 3.0),
            ("xdhcpd_ignored_total", &[("reason", "load-balanced")], 0.0),
            ("xdhcpd_storm_total", &[("what", "shed-by-source")], 11.0),
            ("xdhcpd_guard_exceeded_total", &[("what", "client-rate")], 10.0),
            ("xdhcpd_socket_overrun_total", &[], 6.0),
            ("xdhcpd_socket_refused_total", &[("reason", "checksum")], 2.0),
            ("xdhcpd_journal_commits_total", &[], 40.0),
            ("xdhcpd_journal_longest_commit_seconds", &[], 0.001_25),
            ("xdhcpd_journal_file_bytes", &[], 4096.0),
            ("xdhcpd_journal_failed", &[], 0.0),
            ("xdhcpd_pool_addresses", &[("state", "active"), ("network", "a \"net\\work\"\nof two lines")], 7.0),
            ("xdhcpd_pool_addresses", &[("state", "abandoned"), ("peer", "GSB\" 1")], 1.0),
            ("xdhcpd_pool_size", &[("ranges", "10.0.0.1-10.0.0.9 10.0.0.20-10.0.0.29")], 19.0),
            ("xdhcpd_fastpath_on", &[], 1.0),
            ("xdhcpd_fastpath_attached", &[("interface", "eth0"), ("mode", "native")], 1.0),
            ("xdhcpd_fastpath_armed_leases", &[], 8.0),
            ("xdhcpd_fastpath_answered_total", &[], 900.0),
            ("xdhcpd_fastpath_passed_total", &[("reason", "no-entry")], 12.0),
            ("xdhcpd_fastpath_passed_total", &[("reason", "horizon")], 0.0),
            ("xdhcpd_fastpath_dropped_total", &[("reason", "flood")], 13.0),
            ("xdhcpd_fastpath_suspicious_total", &[("reason", "flood")], 14.0),
            ("xdhcpd_fastpath_other_frames_total", &[("reason", "not-dhcp")], 15.0),
            ("xdhcpd_fastpath_events_total", &[("reason", "event-lost")], 16.0),
            ("xdhcpd_fastpath_not_armed_total", &[("reason", "depends")], 9.0),
            ("xdhcpd_shadow_checked_total", &[], 30.0),
            ("xdhcpd_shadow_alarm", &[], 0.0),
            ("xdhcpd_failover_state", &[("side", "me"), ("state", "normal")], 1.0),
            ("xdhcpd_failover_state", &[("side", "me"), ("state", "partner-down")], 0.0),
            ("xdhcpd_failover_state", &[("side", "partner"), ("state", "partner-down")], 1.0),
            ("xdhcpd_failover_state_since_timestamp_seconds", &[("side", "partner")], 1_700_000_100.0),
            ("xdhcpd_failover_connected", &[], 1.0),
            ("xdhcpd_failover_link_protected", &[], 1.0),
            ("xdhcpd_failover_heard_seconds", &[], 2.0),
            ("xdhcpd_failover_mclt_seconds", &[], 60.0),
            ("xdhcpd_failover_updates_queued", &[], 21.0),
            ("xdhcpd_failover_updates_unacked", &[], 22.0),
            ("xdhcpd_failover_lag_seconds", &[], 23.0),
            ("xdhcpd_failover_updates_held", &[], 24.0),
            ("xdhcpd_failover_updates_total", &[("what", "sent")], 25.0),
            ("xdhcpd_failover_malformed_total", &[], 26.0),
            ("xdhcpd_failover_pool_addresses", &[("owner", "me")], 4.0),
            ("xdhcpd_failover_pool_addresses", &[("owner", "partner")], 5.0),
            ("xdhcpd_failover_leases", &[("bound", "acknowledgement")], 5.0),
            ("xdhcpd_failover_leases", &[("bound", "mclt")], 2.0),
            ("xdhcpd_failover_leases", &[("bound", "none")], 0.0),
            ("xdhcpd_failover_renewals_covered_timestamp_seconds", &[("peer", "GSB\" 1")], 1_700_000_600.0),
            ("xdhcpd_failover_renewals_covered_longest_timestamp_seconds", &[], 1_700_000_960.0),
            ("xdhcpd_failover_own_addresses", &[], 25.0),
            ("xdhcpd_failover_takeover_complete_timestamp_seconds", &[], 1_700_000_060.0),
            ("xdhcpd_failover_transitions_total", &[("side", "me"), ("from", "normal")], 3.0),
            ("xdhcpd_failover_transitions_total", &[("side", "partner"), ("to", "normal")], 1.0),
            ("xdhcpd_failover_transition_timestamp_seconds", &[("side", "me")], 1_700_000_050.0),
            ("xdhcpd_failover_links_refused_total", &[("reason", "stranger")], 27.0),
            ("xdhcpd_failover_links_refused_total", &[("reason", "key")], 0.0),
        ] {
            assert_eq!(value(name, labels), Some(expected), "{name} {labels:?}");
        }
        for side in ["me", "partner"] {
            let samples = &families["xdhcpd_failover_state"].samples;
            let ones: f64 = samples.iter().filter(|(labels, _)| labels["side"] == side).map(|(_, value)| value).sum();
            assert_eq!(ones, 1.0, "one state at a time");
        }
        // Every counter of the kernel program is in one of its families.
        let of_kernel: usize = families
            .iter()
            .filter(|(name, _)| {
                let parts = ["answered", "passed", "dropped", "suspicious", "other_frames", "events"];
                parts.iter().any(|part| **name == format!("xdhcpd_fastpath_{part}_total"))
            })
            .map(|(_, family)| family.samples.len())
            .sum();
        assert_eq!(of_kernel, dhcp_ebpf::abi::Counter::COUNT);
    }

    #[test]
    fn a_server_without_a_partner_or_a_pool_has_fewer_families_and_good_ones() {
        let mut alone = status();
        alone.peers.clear();
        alone.pools.clear();
        alone.interfaces.clear();
        alone.links_refused.clear();
        let families = parse(&exposition(&alone, &page(), &[])).unwrap();
        assert!(!families.keys().any(|name| name.starts_with("xdhcpd_failover") || name.starts_with("xdhcpd_pool")));
        let mut unheard = status();
        unheard.peers[0].heard_secs_ago = None;
        let mut nobody = relationships();
        nobody[0].if_partner_dies.renewals_covered_until = None;
        nobody[0].bounds = Bounds::default();
        nobody[0].transitions.clear();
        let families = parse(&exposition(&unheard, &page(), &nobody)).unwrap();
        for name in ["heard_seconds", "renewals_covered_timestamp_seconds", "transitions_total"] {
            assert!(!families.contains_key(&format!("xdhcpd_failover_{name}")), "{name}: absent, and not zero");
        }
        assert_eq!(families["xdhcpd_failover_leases"].value(&[("bound", "mclt")]), Some(0.0));
        let mut down = relationships();
        down[0].bounds.unlimited = true;
        down[0].if_partner_dies.renewals_covered_until = Some(0x7fff_ffff);
        let families = parse(&exposition(&status(), &page(), &down)).unwrap();
        let leases = |bound| families["xdhcpd_failover_leases"].value(&[("bound", bound)]);
        assert_eq!(["acknowledgement", "mclt", "none"].map(leases), [Some(0.0), Some(0.0), Some(7.0)]);
        let until = &families["xdhcpd_failover_renewals_covered_longest_timestamp_seconds"];
        assert_eq!(until.value(&[]), Some(2_147_483_647.0));
    }

    #[test]
    fn every_family_has_a_row_in_the_document_and_every_row_a_family() {
        let all = |status: Status| parse(&exposition(&status, &page(), &relationships())).unwrap();
        let mut full = status();
        full.guard.refused = BTreeMap::from([("client-rate".to_owned(), 1)]);
        let families = all(full);
        let rows: BTreeSet<&str> =
            DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next()).collect();
        let names: BTreeSet<&str> = families.keys().map(String::as_str).collect();
        assert_eq!(rows, names);
        for (name, family) in families {
            let row = DOCUMENT.lines().find(|line| line.contains(&format!("| `{name}"))).unwrap();
            let is_like = |cut: char| {
                let rest = row.split_once(&format!("`{name}")).unwrap().1;
                rest.starts_with(cut)
            };
            assert!(is_like('`') || is_like('{'), "{row}");
            assert!(row.contains(&format!("| {} |", family.kind)), "{name} is a {}: {row}", family.kind);
        }
    }

    #[test]
    fn the_reader_is_strict() {
        const GOOD: &str = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c\\\\d\\\"e\\n\"} 1\n";
        assert_eq!(parse(GOOD).unwrap()["a_total"].value(&[("b", "c\\d\"e\n")]), Some(1.0));
        for (from, to) in [
            ("# HELP a_total x\n", ""),
            ("# TYPE a_total counter\n", ""),
            ("counter", "gauge"),
            ("counter", "histogram"),
            ("} 1\n", "} 1"),
            ("} 1\n", "} one\n"),
            ("} 1\n", "} -1\n"),
            ("} 1\n", "} NaN\n"),
            ("} 1\n", "}  1\n"),
            ("a_total{", "b_total{"),
            ("\\\\d", "\\d"),
            ("b=\"", "0b=\""),
            ("\"} 1", "\",} 1"),
            ("} 1\n", "} 1\na_total{b=\"c\\\\d\\\"e\\n\"} 2\n"),
            ("} 1\n", "} 1\na_total 2\n"),
            ("a_total", "a"),
        ] {
            let bad = GOOD.replace(from, to);
            assert_ne!(bad, GOOD, "{from}");
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
