//! What an operator sees of a pair: metrics, pages, JSON and the log.

use std::net::Ipv4Addr;

use serde_json::Value;
use tests::duo::{Duo, Kind, P, S, Setup};
use tests::exposition::{Family, parse};
use tests::lab;
use tests::need;

use crate::act::{joins, lease_of, renews, stage};

fn duo() -> Duo {
    let [primary, secondary] = Setup::default().configurations();
    Duo::new([Kind::Ours, Kind::Ours], [&primary, &secondary], "off").unwrap()
}

#[test]
fn metrics_of_a_running_pair_say_what_it_does() {
    need!("pair::seen::metrics", stage());
    let mut duo = duo();
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    let mut client = joins(&duo, 1, P);
    duo.wait_agreed(lease_of(&client).address, &["active"]);
    renews(&duo, &mut client);
    duo.wait("the split", |duo| duo.sides.iter().all(|side| side.count().get("backup") == Some(&10)));
    duo.wait("no update under way", |duo| {
        let picture = duo.sides[P].failover().unwrap();
        picture["updates_in_flight"] == 0 && picture["updates_queued"] == 0
    });
    for (side, role) in [(P, "primary"), (S, "secondary")] {
        let families = parse(&duo.sides[side].metrics().unwrap()).unwrap();
        let value =
            |name: &str, labels: &[(&str, &str)]| families.get(name).and_then(|family| Family::value(family, labels));
        assert_eq!(value("xdhcpd_failover_state", &[("side", "me"), ("state", "normal")]), Some(1.0), "{role}");
        assert_eq!(value("xdhcpd_failover_state", &[("side", "partner"), ("state", "normal")]), Some(1.0), "{role}");
        assert_eq!(value("xdhcpd_failover_connected", &[("peer", "GSB")]), Some(1.0), "{role}");
        assert!(value("xdhcpd_failover_heard_seconds", &[]).unwrap() < 60.0, "{role}");
        assert_eq!(value("xdhcpd_failover_mclt_seconds", &[]), Some(10.0), "{role}");
        assert_eq!(value("xdhcpd_failover_updates_unacked", &[]), Some(0.0), "{role}");
        assert_eq!(value("xdhcpd_failover_lag_seconds", &[]), Some(0.0), "{role}");
        assert_eq!(value("xdhcpd_pool_addresses", &[("state", "active")]), Some(1.0), "{role}");
        let free = |owner| value("xdhcpd_failover_pool_addresses", &[("owner", owner)]).unwrap();
        assert_eq!((free("me"), free("partner")), if side == P { (9.0, 10.0) } else { (10.0, 9.0) }, "{role}");
        assert!(value("xdhcpd_journal_commits_total", &[]).unwrap() > 0.0, "{role}");
        assert_eq!(value("xdhcpd_journal_failed", &[]), Some(0.0), "{role}");
    }
    let families = parse(&duo.sides[P].metrics().unwrap()).unwrap();
    let value = |name: &str, labels: &[(&str, &str)]| families[name].value(labels).unwrap();
    assert!(value("xdhcpd_sent_total", &[("type", "ack")]) >= 2.0, "a lease and a renewal");
    assert_eq!(value("xdhcpd_sent_total", &[("type", "nak")]), 0.0);
    assert!(value("xdhcpd_failover_updates_total", &[("what", "acknowledged")]) >= 2.0);
    assert_eq!(value("xdhcpd_failover_updates_total", &[("what", "rejected")]), 0.0);
    duo.sides[P].kill().unwrap();
    duo.wait("interruption", |duo| duo.sides[S].states().0 == "communications-interrupted");
    let families = parse(&duo.sides[S].metrics().unwrap()).unwrap();
    assert_eq!(families["xdhcpd_failover_connected"].value(&[]), Some(0.0));
    let moved = &families["xdhcpd_failover_transitions_total"];
    let lost = [("side", "me"), ("from", "normal"), ("to", "communications-interrupted")];
    assert_eq!(moved.value(&lost), Some(1.0), "{moved:?}");
    let when = families["xdhcpd_failover_transition_timestamp_seconds"].value(&lost).unwrap();
    assert!((when - lab::unix_secs() as f64).abs() < 60.0, "{when}");
    assert!(moved.value(&[("side", "partner"), ("to", "normal")]).is_some_and(|count| count >= 1.0), "{moved:?}");
    let state = &families["xdhcpd_failover_state"];
    assert_eq!(state.value(&[("side", "me"), ("state", "communications-interrupted")]), Some(1.0));
    let error = format!("{:#}", duo.sides[P].metrics().unwrap_err());
    assert!(error.contains("no server answers"), "{error}");
}

/// The row of an address in `xdhcpd leases --json`, and its line in the table.
fn lease(duo: &Duo, side: usize, address: Ipv4Addr) -> (Value, String) {
    let json = duo.sides[side].leases(&["--json"]).unwrap();
    let reply: Value = serde_json::from_str(&json).unwrap();
    let rows = reply["leases"]["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["address"] == address.to_string()).unwrap().clone();
    let table = duo.sides[side].leases(&[]).unwrap();
    let line = table.lines().find(|line| line.starts_with(&format!("{address} "))).unwrap().to_owned();
    (row, line)
}

fn secs(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no instant: {value}"))
}

#[test]
fn what_bounds_a_lease_and_what_happens_without_the_partner_is_told_everywhere() {
    need!("pair::seen::bounds", stage());
    let mut duo = duo();
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    let mut client = joins(&duo, 1, P);
    let address = lease_of(&client).address;
    assert_eq!(lease_of(&client).secs, 10, "MCLT");
    duo.wait_agreed(address, &["active"]);
    assert_eq!(renews(&duo, &mut client), 300, "whole");
    // The lease and a half is what the partner has acknowledged: MCLT comes on top, on either side.
    duo.wait("the acknowledgement", |duo| {
        [P, S].iter().all(|side| {
            let (row, _) = lease(duo, *side, address);
            row["agreed_until"].as_u64().is_some_and(|agreed| agreed > secs(&row["ends"]))
        })
    });
    for side in [P, S] {
        let (row, line) = lease(&duo, side, address);
        assert_eq!(secs(&row["extendable_until"]), secs(&row["agreed_until"]) + 10, "{row}");
        let picture = duo.sides[side].failover().unwrap();
        let bounds = &picture["bounds"];
        assert_eq!((secs(&bounds["active"]), secs(&bounds["acknowledged"])), (1, 1), "{bounds}");
        assert_eq!((&bounds["soonest"], &bounds["latest"]), (&row["extendable_until"], &row["extendable_until"]));
        assert_eq!(bounds["unlimited"], false);
        assert_eq!(picture["if_partner_dies"]["renewals_covered_until"], bounds["soonest"]);
        let page = duo.sides[side].order(&["status"]).unwrap();
        let until = line.split("  ").map(str::trim).find(|part| page.contains(&format!("until {part} (each)")));
        assert!(until.is_some(), "the same instant in the table and on the page:\n{line}\n{page}");
        assert!(page.contains("leases         1 run, 1 of them acknowledged, 0 not"), "{page}");
        for words in
            ["if the partner dies now:", "every client can be renewed until", "addresses at once", "complete at"]
        {
            assert!(page.contains(words), "{words}:\n{page}");
        }
        told(&duo, side, &page, &picture, "if the partner dies now");
        let families = parse(&duo.sides[side].metrics().unwrap()).unwrap();
        let value = |name: &str, labels: &[(&str, &str)]| families[name].value(labels);
        let until = secs(&row["extendable_until"]) as f64;
        assert_eq!(value("xdhcpd_failover_renewals_covered_timestamp_seconds", &[("peer", "GSB")]), Some(until));
        assert_eq!(value("xdhcpd_failover_renewals_covered_longest_timestamp_seconds", &[]), Some(until));
        assert_eq!(value("xdhcpd_failover_leases", &[("bound", "acknowledgement")]), Some(1.0));
        assert_eq!(value("xdhcpd_failover_leases", &[("bound", "mclt")]), Some(0.0));
        let own = secs(&picture["if_partner_dies"]["own_addresses"]) as f64;
        assert_eq!(value("xdhcpd_failover_own_addresses", &[]), Some(own));
        let takeover = value("xdhcpd_failover_takeover_complete_timestamp_seconds", &[]).unwrap();
        let pictured = secs(&picture["if_partner_dies"]["takeover_complete"]) as f64;
        assert!(takeover >= pictured && takeover < pictured + 60.0, "asked a little later: {takeover} {pictured}");
    }

    duo.sides[S].kill().unwrap();
    duo.wait("interruption", |duo| duo.sides[P].states().0 == "communications-interrupted");
    let (row, _) = lease(&duo, P, address);
    assert_eq!(secs(&row["extendable_until"]), secs(&row["agreed_until"]) + 10, "as before, without it");
    // A client that the partner never heard of: MCLT from now, whenever that is.
    let newcomer = lease_of(&joins(&duo, 2, P)).address;
    let (row, _) = lease(&duo, P, newcomer);
    assert!(row.get("agreed_until").is_none(), "{row}");
    let ahead = secs(&row["extendable_until"]).saturating_sub(lab::unix_secs());
    assert!(ahead <= 10, "{ahead} s");
    let picture = duo.sides[P].failover().unwrap();
    assert_eq!((secs(&picture["bounds"]["active"]), secs(&picture["bounds"]["acknowledged"])), (2, 1), "{picture}");
    let page = duo.sides[P].order(&["status"]).unwrap();
    told(&duo, P, &page, &picture, "if the partner is dead");

    duo.sides[P].order(&["partner-down"]).unwrap();
    let (row, line) = lease(&duo, P, newcomer);
    assert_eq!(secs(&row["extendable_until"]), 0x7fff_ffff);
    assert!(line.contains(" no bound "), "{line}");
    let page = duo.sides[P].order(&["status"]).unwrap();
    assert!(page.contains("extended without a bound, since the partner is down"), "{page}");
    assert!(page.contains("every client can be renewed, without a bound"), "{page}");
    let families = parse(&duo.sides[P].metrics().unwrap()).unwrap();
    let leases = |bound| families["xdhcpd_failover_leases"].value(&[("bound", bound)]);
    assert_eq!(["acknowledgement", "mclt", "none"].map(leases), [Some(0.0), Some(0.0), Some(2.0)]);
    let covered = &families["xdhcpd_failover_renewals_covered_timestamp_seconds"];
    assert_eq!(covered.value(&[]), Some(f64::from(0x7fff_ffff_u32)));
    assert!(families["xdhcpd_failover_takeover_complete_timestamp_seconds"].value(&[]).is_some());
}

/// The timeline of the JSON stands on the page and in the log, and the log says what happens without the partner.
fn told(duo: &Duo, side: usize, page: &str, picture: &Value, outlook: &str) {
    let log = duo.sides[side].process.as_ref().unwrap().said();
    let timeline = picture["timeline"].as_array().unwrap();
    assert!(timeline.len() >= 2, "{picture}");
    for step in timeline {
        let [who, from, to] = ["who", "from", "to"].map(|key| step[key].as_str().unwrap());
        assert!(page.contains(&format!("  {who:<8} {from} -> {to}")), "{who} {from} {to} in\n{page}");
        let sentence = if who == "me" { "I move from" } else { "peer moves from" };
        let sentence = format!("{sentence} {from} to {to}");
        assert!(log.iter().any(|line| line.contains(&sentence)), "{sentence} in {log:#?}");
    }
    let line = log.iter().rfind(|line| line.contains(outlook)).unwrap_or_else(|| panic!("{log:#?}"));
    assert!(line.contains("own addresses, takeover complete in "), "{line}");
}
