//! `storm`: what is left of the service when more is asked than can be answered (I6).

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tests::agent::Agent;
use tests::lab;
use tests::load::{Figures, Plan, Stage, Talk};
use tests::need;

/// A network with room for everybody who will ask.
const NETWORK: &str = r#"
authoritative;
ddns-update-style none;
ping-check false;
dhcp-cache-threshold 0;
default-lease-time 600;
subnet 10.0.0.0 netmask 255.0.0.0 {
  range 10.64.0.0 10.67.255.255;
  option routers 10.0.0.1;
}
"#;

/// How long a loaded machine may take to answer what it has read.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_flood_of_discovers_costs_nobody_a_renewal() {
    const NAME: &str = "a_flood_of_discovers_costs_nobody_a_renewal";
    need!(NAME, lab::available());
    let stage = Stage::new().unwrap();
    let agent = Agent::start(&stage.server, Stage::INTERFACE, "off", NETWORK, "").unwrap();

    let mut holders = stage.herd(1).unwrap();
    holders.run(&Plan { patience: PATIENCE, ..Plan::closed(Talk::Exchange, 32, Duration::from_millis(500)) });
    assert!(holders.lease_count() > 20, "only {} clients got a lease", holders.lease_count());
    holders.keep(1000);

    let overrun = || agent.status().unwrap().pointer("/sockets/overrun").and_then(Value::as_u64).unwrap();
    assert_eq!(overrun(), 0);
    let mut newcomers = stage.herd(1 << 30).unwrap();
    let renewed: Figures = thread::scope(|scope| {
        // As many as one thread can send: far more than a server answers.
        let flood = Plan { warm_up: Duration::ZERO, ..Plan::open(Talk::Exchange, 1e6, Duration::from_millis(2500)) };
        let flood = scope.spawn(move || newcomers.run(&flood));
        // Each client asks once: what is lost once stays lost.
        let once = Plan {
            patience: PATIENCE,
            drain: PATIENCE,
            warm_up: Duration::from_millis(500),
            ..Plan::open(Talk::Renewal, 200.0, Duration::from_millis(1500))
        };
        let renewed = holders.run(&once);
        assert!(flood.join().unwrap().offered_per_sec > 0.0);
        renewed
    });
    let (unanswered, asked) = renewed.unanswered;
    assert!(overrun() > 0, "the flood was too small to overrun anything");
    assert_eq!((unanswered, renewed.naks), (0, 0), "of {asked} renewals");
    assert!(asked > 100, "only {asked} renewals were asked for");

    // And when it is over, whoever was left out is served.
    let mut late = stage.herd(3 << 29).unwrap();
    late.run(&Plan { patience: PATIENCE, ..Plan::closed(Talk::Exchange, 8, Duration::from_millis(1500)) });
    assert!(late.lease_count() > 0, "nobody new is served after the flood");
    let first = Ipv4Addr::new(10, 64, 0, 0);
    assert!(agent.leases_file().unwrap().contains(&format!("lease {first} {{")));
}
