//! Two of ours.

use std::time::Duration;

use tests::duo::{ADDRESSES, Duo, Kind, P, S, Setup};
use tests::lab;
use tests::need;

use crate::act::{client, declines, each, joins, kernel, lease_of, offers, rebinds, releases, renews, stage};

const OURS: [Kind; 2] = [Kind::Ours, Kind::Ours];

fn duo(setup: &Setup, fast_path: &'static str) -> Duo {
    let [primary, secondary] = setup.configurations();
    Duo::new(OURS, [&primary, &secondary], fast_path).unwrap()
}

#[test]
fn two_empty_servers_come_up_share_the_pool_and_serve() {
    need!("pair::ours::first_start", stage());
    let examples = [
        include_str!("../../../dhcp-user/examples/gsb-primary.conf"),
        include_str!("../../../dhcp-user/examples/gsb-secondary.conf"),
    ];
    // No probes, no cached answers: a test that waits is a slow test.
    let without_ping = examples.map(|text| format!("ping-check false;\ndhcp-cache-threshold 0;\n{text}"));
    let mut duo = Duo::new(OURS, [&without_ping[P], &without_ping[S]], "off").unwrap();
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    duo.wait("the split", |duo| duo.sides.iter().all(|side| side.count().get("backup") == Some(&25)));
    let picture = duo.sides[P].failover().unwrap();
    assert_eq!(picture["my_state"], "normal", "{picture}");
    assert_eq!((&picture["pools"][0]["free"], &picture["pools"][0]["backup"]), (&26.into(), &25.into()), "{picture}");
    assert_eq!(picture["if_partner_dies"]["own_addresses"], 26, "{picture}");

    // New clients are answered by one server each (RFC 3074), and by both once they have waited.
    let mut by_server = [0; 2];
    for number in 0..16 {
        let mut client = client(number);
        let servers = offers(&duo, &mut client, 0, Duration::from_millis(150));
        assert_eq!(servers.len(), 1, "client {number}: {servers:?}");
        by_server[ADDRESSES.iter().position(|address| *address == servers[0]).unwrap()] += 1;
    }
    assert!(by_server.iter().all(|count| *count > 2), "{by_server:?}");
    let mut servers = offers(&duo, &mut client(0), 9, Duration::from_millis(400));
    servers.sort_unstable();
    assert_eq!(servers, ADDRESSES);

    // A first lease is MCLT, the next one whole; both files know it.
    for server in [P, S] {
        let mut client = joins(&duo, 100 + server as u16, server);
        let address = lease_of(&client).address;
        assert_eq!(lease_of(&client).secs, 3);
        let is_told = |duo: &mut Duo| {
            duo.sides.iter().all(|side| {
                let record = side.record(address);
                record.is_some_and(|record| {
                    record.value("binding state") == Some("active")
                        && record.value("tsfp") == record.value("atsfp")
                        && record.value("atsfp").is_some()
                })
            })
        };
        duo.wait("the lease on both", is_told);
        assert_eq!(renews(&duo, &mut client), 600);
        duo.wait("the renewal on both", is_told);
        releases(&duo, &mut client);
        duo.wait_agreed(address, &["free", "backup"]);
    }
}

#[test]
fn either_server_may_be_killed_and_its_clients_keep_their_addresses() {
    need!("pair::ours::kill", kernel());
    let mut duo = duo(&Setup { mclt: 60, ..Setup::default() }, "generic");
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    for dead in [P, S] {
        let alive = 1 - dead;
        let mut kept = joins(&duo, 10 + dead as u16, dead);
        let address = lease_of(&kept).address;
        duo.wait_agreed(address, &["active"]);
        duo.sides[dead].kill().unwrap();
        // A reset is noticed at once.
        duo.wait_for(Duration::from_secs(5), "interruption", |duo| {
            duo.sides[alive].states().0 == "communications-interrupted"
        });
        let (server, secs) = rebinds(&duo, &mut kept);
        assert_eq!((server, secs), (ADDRESSES[alive], 300), "what was agreed is promised whole");
        let newcomer = joins(&duo, 20 + dead as u16, alive);
        assert_eq!(lease_of(&newcomer).secs, 60, "a new client gets MCLT");
        duo.sides[dead].start().unwrap();
        duo.wait_normal();
        duo.wait_agreed(lease_of(&newcomer).address, &["active"]);
        duo.wait_agreed(address, &["active"]);
        assert_eq!(renews(&duo, &mut kept), 300);
    }
}

#[test]
fn a_declined_address_is_nobodys_on_both() {
    need!("pair::ours::decline", stage());
    each(declined);
}

fn declined(giver: usize) {
    let mut duo = duo(&Setup::default(), "off");
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    let mut first = joins(&duo, 1, giver);
    let address = lease_of(&first).address;
    duo.wait_agreed(address, &["active"]);
    declines(&duo, &mut first);
    duo.wait_agreed(address, &["abandoned"]);
}

#[test]
fn an_operator_takes_a_server_down_and_back() {
    need!("pair::ours::orders", stage());
    each(taken_down_and_back);
}

fn taken_down_and_back(down: usize) {
    let survivor = 1 - down;
    let mut duo = duo(&Setup::default(), "off");
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    let kept = joins(&duo, 1, down);
    duo.wait_agreed(lease_of(&kept).address, &["active"]);
    let refused = duo.sides[survivor].order(&["partner-down"]).unwrap_err().to_string();
    assert!(refused.contains("the partner is connected: it is not down"), "{refused}");

    duo.sides[down].order(&["shutdown"]).unwrap();
    duo.wait("the survivor alone", |duo| duo.sides[survivor].states().0 == "partner-down");
    duo.sides[down].stop().unwrap();
    // MCLT later the survivor has the whole pool, and gives whole leases.
    duo.wait("the takeover", |duo| {
        let picture = duo.sides[survivor].failover().unwrap();
        picture["my_since"].as_u64().unwrap() + 18 < lab::unix_secs()
    });
    // All but one: the survivor may still hold what it offered the client that chose the other.
    let addresses: Vec<_> = (0..18).map(|number| lease_of(&joins(&duo, 200 + number, survivor))).collect();
    assert!(addresses.iter().all(|lease| lease.secs == 300), "{addresses:?}");
    duo.sides[down].start().unwrap();
    duo.wait("the way back", |duo| {
        duo.sides[down].states().0 == "recover-wait" || duo.sides[down].states().0 == "normal"
    });
    duo.wait_normal();
    // It was told to go, and has been away for longer than MCLT: there is nothing to wait for.
    let picture = duo.sides[down].failover().unwrap();
    let states: Vec<&str> = picture["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|step| step["who"] == "me")
        .map(|step| step["to"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["recover", "recover-done", "normal"], "{picture}");
    for lease in addresses {
        duo.wait_agreed(lease.address, &["active"]);
    }
    let page = duo.sides[down].order(&["status"]).unwrap();
    let head = format!("FAILOVER PEER    \"GSB\", {} here", ["primary", "secondary"][down]);
    for words in [&*head, "if the partner dies now:", "timeline"] {
        assert!(page.contains(words), "{page}");
    }
}

#[test]
fn the_survivors_kernel_knows_the_clients_of_the_dead_one() {
    need!("pair::ours::learnt", kernel());
    // A first lease lasts for MCLT, and what has run out is not in the kernel: long enough for a loaded machine.
    let mut duo = duo(&Setup { mclt: 60, ..Setup::default() }, "generic");
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    for dead in [P, S] {
        let alive = 1 - dead;
        let mut kept = joins(&duo, 300 + dead as u16, dead);
        let address = lease_of(&kept).address;
        duo.wait("the lease in the other kernel", |duo| {
            let armed = duo.sides[alive].status().unwrap()["fast_path"]["armed"].as_u64();
            armed == Some(1) && duo.sides[alive].state_of(address) == "active"
        });
        let record = duo.sides[alive].record(address).unwrap();
        assert_eq!(record.value("client-hostname"), Some("\"portable\""), "{}", record.text);
        duo.sides[dead].kill().unwrap();
        duo.wait("interruption", |duo| duo.sides[alive].states().0 == "communications-interrupted");
        let before = tests::agent::Answers::of(&duo.sides[alive].status().unwrap()).unwrap();
        let (server, secs) = rebinds(&duo, &mut kept);
        assert_eq!((server, secs), (ADDRESSES[alive], 300));
        let since = tests::agent::Answers::of(&duo.sides[alive].status().unwrap()).unwrap().since(before);
        assert_eq!((since.by_kernel, since.by_agent), (1, 0), "the first packet that it ever saw of this client");
        releases(&duo, &mut kept);
        duo.sides[dead].start().unwrap();
        duo.wait_normal();
        duo.wait_agreed(address, &["free", "backup"]);
    }
}

#[test]
fn both_consoles_say_what_the_two_files_contradict_each_other_in() {
    need!("pair::ours::facts", stage());
    let [primary, secondary] = Setup::default().configurations();
    let other = secondary
        .replace("default-lease-time 300;", "default-lease-time 200;")
        .replace("192.168.150.69", "192.168.150.68");
    let mut duo = Duo::new(OURS, [&primary, &other], "off").unwrap();
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait("the differences", |duo| {
        [P, S].iter().all(|side| {
            let picture = duo.sides[*side].failover().unwrap();
            let said = picture["differences"].to_string();
            ["the shared pool is ", "range 192.168.150.50 192.168.150.69 is leased for 300 s"]
                .iter()
                .all(|words| said.contains(words))
        })
    });

    // The wrong file is made right and read again: neither console has anything to say any more.
    duo.wait_normal();
    duo.sides[S].write("dhcpd.conf", &secondary);
    let socket = duo.sides[S].folder.path().join("control.sock");
    lab::run(std::process::Command::new(tests::agent::binary()).arg("reload").arg("--control").arg(socket)).unwrap();
    duo.wait("agreement", |duo| {
        [P, S].iter().all(|side| duo.sides[*side].failover().unwrap()["differences"].as_array().unwrap().is_empty())
    });
}

#[test]
fn a_server_told_to_takes_over_by_itself_after_a_while() {
    need!("pair::ours::auto_partner_down", stage());
    each(taken_over_by_itself);
}

fn taken_over_by_itself(dead: usize) {
    let alive = 1 - dead;
    let mut duo = duo(&Setup { more: "auto-partner-down 3;", ..Setup::default() }, "off");
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    let mut kept = joins(&duo, 1, dead);
    duo.wait_agreed(lease_of(&kept).address, &["active"]);
    duo.sides[dead].kill().unwrap();
    duo.wait("the takeover", |duo| duo.sides[alive].states().0 == "partner-down");
    let steps = duo.sides[alive].failover().unwrap()["timeline"].clone();
    let at = |to: &str| {
        let mine = |step: &&serde_json::Value| step["who"] == "me" && step["to"] == to;
        steps.as_array().unwrap().iter().find(mine).unwrap()["at"].as_u64().unwrap()
    };
    let waited = at("partner-down") - at("communications-interrupted");
    assert!((3..30).contains(&waited), "{steps}");
    assert_eq!(rebinds(&duo, &mut kept), (ADDRESSES[alive], 300), "whole leases");
    duo.sides[dead].start().unwrap();
    duo.wait_normal();
    duo.wait_agreed(lease_of(&kept).address, &["active"]);
}
