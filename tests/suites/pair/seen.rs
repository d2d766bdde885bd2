//! What an operator sees of a pair: metrics, pages, JSON and the log.

use tests::duo::{Duo, Kind, P, S, Setup};
use tests::exposition::{Family, parse};
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
    let state = &families["xdhcpd_failover_state"];
    assert_eq!(state.value(&[("side", "me"), ("state", "communications-interrupted")]), Some(1.0));
    let error = format!("{:#}", duo.sides[P].metrics().unwrap_err());
    assert!(error.contains("no server answers"), "{error}");
}
