//! The procedure of a course's lab, step by step as written; and the two servers of it with empty files and no procedure.

use std::net::Ipv4Addr;

use tests::client::Client;
use tests::duo::{ADDRESSES, Duo, Kind, P, S};
use tests::leases::Record;
use tests::need;
use tests::peers::WAIT;

use crate::act::{Relayed, joins, lease_of, relay, renews, stage};

const OURS: [Kind; 2] = [Kind::Ours, Kind::Ours];
const BLOCK: &str = "failover peer \"GSB\" state {\n    my state partner-down;\n}\n";

/// The two files of the lab. No probes, no cached answers: a test that waits is a slow test.
fn files() -> [String; 2] {
    let examples = [
        include_str!("../../../dhcp-user/examples/gsb-primary.conf"),
        include_str!("../../../dhcp-user/examples/gsb-secondary.conf"),
    ];
    examples.map(|text| format!("ping-check false;\ndhcp-cache-threshold 0;\n{text}"))
}

/// The same with the three lines that tell a server that its partner is down.
fn with_block(file: &str) -> String {
    let at = file.find("ddns-update-style").unwrap();
    format!("{}{BLOCK}{}", &file[..at], &file[at..])
}

/// Seconds between two dates of one record.
fn between(record: &Record, from: &str, to: &str) -> i64 {
    let secs = |name: &str| {
        let date = record.value(name).unwrap_or_else(|| panic!("{name} in {}", record.text));
        let clock: Vec<i64> = date.split(' ').nth(2).unwrap().split(':').map(|part| part.parse().unwrap()).collect();
        clock[0] * 3600 + clock[1] * 60 + clock[2]
    };
    (secs(to) - secs(from)).rem_euclid(86_400)
}

/// What the course shows of a lease after a renewal, on the server that answered it.
fn is_as_shown(record: &Record) -> bool {
    let value = |name: &str| record.value(name);
    value("binding state") == Some("active")
        && value("next binding state") == Some("expired")
        && value("tstp").is_some()
        && value("tstp") == value("tsfp")
        && value("tsfp") == value("atsfp")
        && between(record, "starts", "ends") == 600
        && between(record, "starts", "tstp") == 900
        && value("cltt") == value("starts")
        && value("hardware ethernet").is_some()
}

/// What the course shows of an address that was given to the secondary, on the primary and on the secondary.
fn is_backup_as_shown(record: &Record, side: usize) -> bool {
    let lines: Vec<&str> = record.text.lines().map(|line| line.trim().split(' ').next().unwrap()).collect();
    let expected: &[&str] = if side == P {
        &["lease", "starts", "tstp", "tsfp", "atsfp", "binding", "}"]
    } else {
        &["lease", "starts", "tsfp", "atsfp", "binding", "}"]
    };
    record.value("binding state") == Some("backup") && lines == expected
}

fn backups(duo: &Duo, side: usize) -> Vec<Record> {
    let all = tests::leases::newest(&duo.sides[side].file());
    all.into_iter().filter(|record| record.value("binding state") == Some("backup")).collect()
}

#[test]
fn the_eleven_steps_work_as_written() {
    need!("pair::course::eleven", stage());
    let plain = files();
    // 1 and 2: nothing runs, and both have the three lines.
    let mut duo = Duo::new(OURS, [&with_block(&plain[P]), &with_block(&plain[S])], "off").unwrap();
    // 3: only the primary. Its file says so at once.
    duo.sides[P].start().unwrap();
    duo.wait("the primary alone", |duo| duo.sides[P].states() == ("partner-down".into(), "unknown-state".into()));
    // 4: two portables fill its database: the first addresses, whole leases, a lease and a half for the partner.
    let mut portables: Vec<Client> = [1, 2].map(|number| joins(&duo, number, P)).into();
    for (client, last) in portables.iter().zip([50, 51]) {
        let address = Ipv4Addr::new(192, 168, 150, last);
        assert_eq!((lease_of(client).address, lease_of(client).secs), (address, 600));
        let record = duo.sides[P].record(address).unwrap();
        assert_eq!(
            (between(&record, "starts", "ends"), between(&record, "starts", "tstp")),
            (600, 900),
            "{}",
            record.text
        );
        assert_eq!(
            (record.value("tsfp"), record.value("next binding state")),
            (None, Some("expired")),
            "{}",
            record.text
        );
    }
    // 5: the secondary. 6 to 8: the primary stops, loses the three lines, starts.
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    duo.sides[P].stop().unwrap();
    duo.sides[P].write("dhcpd.conf", &plain[P]);
    duo.sides[P].start().unwrap();
    duo.wait_normal();
    // 9 to 11: the same for the secondary.
    duo.sides[S].stop().unwrap();
    duo.sides[S].write("dhcpd.conf", &plain[S]);
    duo.sides[S].start().unwrap();
    duo.wait_normal();

    // The portables renew, and both files contain what the course shows.
    for client in &mut portables {
        assert_eq!(renews(&duo, client), 600);
        let address = lease_of(client).address;
        duo.wait("the lease as shown", |duo| duo.sides[P].record(address).is_some_and(|record| is_as_shown(&record)));
        duo.wait("the lease there", |duo| {
            let [one, other] = [P, S].map(|side| duo.sides[side].record(address).unwrap());
            ["starts", "ends", "tsfp", "atsfp", "hardware ethernet"]
                .iter()
                .all(|name| one.value(name) == other.value(name))
        });
    }
    for side in [P, S] {
        let records = backups(&duo, side);
        let addresses: Vec<u8> = records.iter().map(|record| record.address.octets()[3]).collect();
        assert_eq!(addresses.len(), 24, "{addresses:?}");
        assert!((52..=75).all(|last| addresses.contains(&last)), "{addresses:?}");
        let odd = records.iter().find(|record| !is_backup_as_shown(record, side));
        assert!(odd.is_none(), "{side}: {}", odd.unwrap().text);
    }
    // Whichever is stopped, the portables keep their addresses.
    for (stopped, client) in [P, S].into_iter().zip(&mut portables) {
        duo.sides[stopped].stop().unwrap();
        duo.wait("interruption", |duo| duo.sides[1 - stopped].states().0 == "communications-interrupted");
        let (server, secs) = crate::act::rebinds(&duo, client);
        assert_eq!((server, secs), (ADDRESSES[1 - stopped], 600));
        duo.sides[stopped].start().unwrap();
        duo.wait_normal();
    }
}

#[test]
fn two_empty_servers_need_no_procedure() {
    need!("pair::course::empty", stage());
    let plain = files();
    let mut duo = Duo::new(OURS, [&plain[P], &plain[S]], "off").unwrap();
    duo.sides[S].start().unwrap();
    duo.sides[P].start().unwrap();
    duo.wait_normal();
    for server in [P, S] {
        let mut portable = joins(&duo, server as u16, server);
        let address = lease_of(&portable).address;
        duo.wait("the first lease agreed", |duo| {
            duo.sides[server].record(address).is_some_and(|record| record.value("atsfp").is_some())
        });
        assert_eq!(renews(&duo, &mut portable), 600);
        duo.wait("the lease as shown", |duo| {
            duo.sides[server].record(address).is_some_and(|record| is_as_shown(&record))
        });
        duo.wait_agreed(address, &["active"]);
    }
    for side in [P, S] {
        let records = backups(&duo, side);
        assert_eq!(records.len(), 24, "25 given, one of them leased");
        assert!(records.iter().all(|record| is_backup_as_shown(record, side)), "{records:?}");
    }
}

#[test]
fn a_relay_with_two_server_addresses_reaches_whichever_lives() {
    need!("pair::course::relay", stage().and_then(|()| relay()));
    let visitors = "subnet 10.79.0.0 netmask 255.255.255.0 {\n  pool { failover peer \"GSB\"; range 10.79.0.50 10.79.0.100; }\n  \
                    option routers 10.79.0.1;\n}\n";
    // The servers' own network has nothing to lease.
    let both = files().map(|file| {
        let at = file.find("subnet 192").unwrap();
        format!("{}subnet 192.168.150.0 netmask 255.255.255.0 {{ }}\n{visitors}", &file[..at])
    });
    let mut duo = Duo::new(OURS, [&both[P], &both[S]], "off").unwrap();
    let relayed = Relayed::new(&mut duo, &[]);
    duo.wait_normal();
    let mut wire = relayed.client.packet_socket("c1").unwrap();
    let mut model = Client::new(relayed.client.mac("c1").unwrap()).named("relayed");
    let lease = model.acquire(&mut wire, WAIT).unwrap();
    assert_eq!(lease.address.octets()[..3], [10, 79, 0], "{lease:?}");
    duo.wait_agreed(lease.address, &["active"]);
    let dead = ADDRESSES.iter().position(|address| *address == lease.server).unwrap();
    duo.sides[dead].kill().unwrap();
    duo.wait("interruption", |duo| duo.sides[1 - dead].states().0 == "communications-interrupted");
    // Its own server is silent; what it broadcasts reaches the other through the relay.
    let again = model.reboot(lease.address);
    let reply = model.ask(&mut wire, &again, WAIT).unwrap();
    assert_eq!((reply.message.yiaddr(), reply.server()), (lease.address, Some(ADDRESSES[1 - dead])));
}
