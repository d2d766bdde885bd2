//! One of ours beside the real dhcpd, in either role, and beside another of ours; and dhcpds replaced by ours while
//! clients go on.

use std::net::Ipv4Addr;
use std::time::Duration;

use tests::client::Client;
use tests::crowd::{Crowd, Habits};
use tests::duo::{ADDRESSES, Duo, Kind, P, S, Setup};
use tests::lab;
use tests::need;

use crate::act::{declines, dhcpd, each, joins, lease_of, rebinds, releases, renews, stage};

const OURS: [Kind; 2] = [Kind::Ours, Kind::Ours];

/// Ours in this role, dhcpd in the other.
pub(crate) fn beside(ours: usize) -> [Kind; 2] {
    if ours == P { [Kind::Ours, Kind::Dhcpd] } else { [Kind::Dhcpd, Kind::Ours] }
}

fn duo(kinds: [Kind; 2], setup: &Setup) -> Duo {
    let [primary, secondary] = setup.configurations();
    Duo::new(kinds, [&primary, &secondary], "off").unwrap()
}

/// Own transitions of our side since its start.
pub(crate) fn timeline(duo: &Duo, ours: usize) -> Vec<String> {
    let picture = duo.sides[ours].failover().unwrap();
    let steps = picture["timeline"].as_array().unwrap().iter().filter(|step| step["who"] == "me");
    steps.map(|step| step["to"].as_str().unwrap().to_owned()).collect()
}

/// First start, leases of either side, renewals, releases, expiries, declines, balance, kills of either.
fn live(kinds: [Kind; 2], ours: usize) {
    let theirs = 1 - ours;
    let setup = Setup { more: "min-balance 1; max-balance 3;", ..Setup::default() };
    let mut duo = duo(kinds, &setup);
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    duo.wait("the split", |duo| duo.sides.iter().all(|side| side.count().get("backup") == Some(&10)));

    // Leases of either side are known on the other; the renewal is whole; a release frees them on both.
    let mut silent = Vec::new();
    for server in [P, S] {
        let mut client = joins(&duo, 10 + server as u16, server);
        let address = lease_of(&client).address;
        assert_eq!(lease_of(&client).secs, 10, "MCLT");
        duo.wait_agreed(address, &["active"]);
        duo.wait("its acknowledgement", |duo| {
            duo.sides[server].record(address).is_some_and(|record| record.value("atsfp").is_some())
        });
        assert_eq!(renews(&duo, &mut client), 300);
        releases(&duo, &mut client);
        duo.wait_agreed(address, &["free", "backup"]);
        // One that is never heard of again.
        let address = lease_of(&joins(&duo, 20 + server as u16, server)).address;
        duo.wait_agreed(address, &["active"]);
        silent.push(address);
    }
    // A declined address is nobody's on both, whoever gave it.
    for server in [P, S] {
        let mut first = joins(&duo, 30 + server as u16, server);
        let declined = lease_of(&first).address;
        duo.wait_agreed(declined, &["active"]);
        declines(&duo, &mut first);
        duo.wait_agreed(declined, &["abandoned"]);
    }
    // What has run out is free on both; the primary's word is enough for the secondary.
    for address in silent {
        duo.wait_agreed(address, &["free", "backup"]);
    }

    // Seven clients of one server empty its half: the other gives it some of its own.
    let crowd: Vec<Client> = (0..7).map(|number| joins(&duo, 40 + number, ours)).collect();
    let own = if ours == P { "free" } else { "backup" };
    duo.wait("the balance", |duo| {
        let picture = duo.sides[ours].failover().unwrap();
        let pool = &picture["pools"][0];
        let (free, backup) = (pool["free"].as_i64().unwrap(), pool["backup"].as_i64().unwrap());
        (free - backup).abs() <= 3 && pool[own].as_i64().unwrap() >= 4
    });
    drop(crowd);

    // Either is killed and comes back; a client keeps its address meanwhile.
    for dead in [theirs, ours] {
        let alive = 1 - dead;
        let mut kept = joins(&duo, 60 + dead as u16, dead);
        let address = lease_of(&kept).address;
        duo.wait_agreed(address, &["active"]);
        duo.wait("its acknowledgement", |duo| {
            duo.sides[dead].record(address).is_some_and(|record| record.value("atsfp").is_some())
        });
        duo.sides[dead].kill().unwrap();
        duo.wait("interruption", |duo| duo.sides[alive].states().0 == "communications-interrupted");
        let (server, secs) = rebinds(&duo, &mut kept);
        assert_eq!((server, secs), (ADDRESSES[alive], 300));
        duo.sides[dead].start().unwrap();
        duo.wait_normal();
        duo.wait_agreed(address, &["active"]);
    }
    assert!(duo.sides[theirs].is_alive(), "it has survived us");
}

#[test]
fn a_primary_of_ours_lives_with_dhcpd() {
    need!("pair::isc::primary", dhcpd());
    live(beside(P), P);
}

#[test]
fn a_secondary_of_ours_lives_with_dhcpd() {
    need!("pair::isc::secondary", dhcpd());
    live(beside(S), S);
}

#[test]
fn two_of_ours_live_with_each_other() {
    need!("pair::isc::ours", stage());
    each(|ours| live(OURS, ours));
}

/// Partner-down, a lost database, both alone.
fn disasters(kinds: [Kind; 2], ours: usize) {
    let theirs = 1 - ours;
    let mut duo = duo(kinds, &Setup::default());
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    let kept = joins(&duo, 1, theirs);
    duo.wait_agreed(lease_of(&kept).address, &["active"]);

    // It is away for long; we serve alone; it learns what it missed.
    duo.sides[theirs].kill().unwrap();
    duo.wait("interruption", |duo| duo.sides[ours].states().0 == "communications-interrupted");
    duo.sides[ours].order(&["partner-down"]).unwrap();
    let alone = joins(&duo, 2, ours);
    assert_eq!(lease_of(&alone).secs, 300, "a whole lease: there is nobody to wait for");
    duo.sides[theirs].start().unwrap();
    duo.wait_normal();
    duo.wait_agreed(lease_of(&alone).address, &["active"]);

    // We lose everything: it tells us everything, and we wait for what we may have promised.
    duo.sides[ours].kill().unwrap();
    duo.wait("interruption", |duo| duo.sides[theirs].states().0 == "communications-interrupted");
    duo.sides[ours].write("dhcpd.leases", "");
    duo.sides[ours].start().unwrap();
    duo.wait_normal();
    assert_eq!(timeline(&duo, ours), ["recover", "recover-wait", "recover-done", "normal"]);
    duo.wait_agreed(lease_of(&alone).address, &["active"]);

    // Both have served alone: the conflict is resolved.
    duo.sides[theirs].kill().unwrap();
    duo.wait("interruption", |duo| duo.sides[ours].states().0 == "communications-interrupted");
    duo.sides[ours].order(&["partner-down"]).unwrap();
    let ours_alone = joins(&duo, 3, ours);
    let text = format!("{}\nfailover peer \"GSB\" state {{\n  my state partner-down;\n}}\n", duo.sides[theirs].file());
    duo.sides[theirs].write("dhcpd.leases", &text);
    duo.sides[theirs].start().unwrap();
    duo.wait("the way through the conflict", |duo| timeline(duo, ours).contains(&"potential-conflict".to_owned()));
    duo.wait_normal();
    duo.wait_agreed(lease_of(&ours_alone).address, &["active"]);
    assert!(duo.sides[theirs].is_alive(), "it has survived us");
}

#[test]
fn a_primary_of_ours_and_dhcpd_survive_disasters() {
    need!("pair::isc::disasters_primary", dhcpd());
    disasters(beside(P), P);
}

#[test]
fn a_secondary_of_ours_and_dhcpd_survive_disasters() {
    need!("pair::isc::disasters_secondary", dhcpd());
    disasters(beside(S), S);
}

#[test]
fn two_of_ours_survive_disasters() {
    need!("pair::isc::disasters_ours", stage());
    each(|ours| disasters(OURS, ours));
}

/// Records of many leases that run for an hour.
fn many(count: u32) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for number in 0..count {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 168, 160, 0)) + number);
        let [_, b, c, d] = number.to_be_bytes();
        let now = lab::unix_secs();
        writeln!(
            text,
            "lease {address} {{\n  starts epoch {now};\n  ends epoch {};\n  tstp epoch {};\n  cltt epoch {now};\n  binding \
             state active;\n  next binding state expired;\n  rewind binding state free;\n  hardware ethernet \
             02:00:88:{b:02x}:{c:02x}:{d:02x};\n}}",
            now + 3600,
            now + 5400
        )
        .unwrap();
    }
    text
}

/// One has ten thousand leases and serves alone, the other has nothing.
fn resync(kinds: [Kind; 2], full: usize, count: u32) {
    let range =
        [Ipv4Addr::new(192, 168, 160, 0), Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 168, 160, 0)) + count - 1)];
    let setup = Setup { range, window: 100, network: "192.168.0.0 netmask 255.255.0.0", ..Setup::default() };
    let [primary, secondary] = setup.configurations();
    let mut duo = Duo::in_memory(kinds, [&primary, &secondary]).unwrap();
    let alone = "failover peer \"GSB\" state {\n  my state partner-down;\n}\n";
    duo.sides[full].write("dhcpd.leases", &format!("{alone}{}", many(count)));
    duo.sides[full].start().unwrap();
    duo.sides[1 - full].start().unwrap();
    let begin = lab::now();
    let empty = 1 - full;
    duo.wait_for(Duration::from_secs(120), "the dump", |duo| {
        matches!(&*duo.sides[empty].states().0, "recover-wait" | "recover-done" | "normal")
    });
    eprintln!("{count} leases from {:?} to {:?} in {:?}", kinds[full], kinds[empty], begin.elapsed());
    assert_eq!(duo.sides[empty].count().get("active"), Some(&(count as usize)));
    duo.wait_normal();
}

#[test]
fn ten_thousand_leases_go_to_dhcpd_and_come_from_it() {
    need!("pair::isc::resync", dhcpd());
    resync(OURS, S, 10_000);
    resync([Kind::Ours, Kind::Dhcpd], P, 10_000);
    resync([Kind::Dhcpd, Kind::Ours], P, 10_000);
}

#[test]
fn both_dhcpds_are_replaced_by_ours_and_back_while_clients_keep_their_addresses() {
    need!("pair::isc::rolling", dhcpd());
    let mut duo = duo([Kind::Dhcpd, Kind::Dhcpd], &Setup::default());
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    let mut clients: Vec<Client> = (0..4).map(|number| joins(&duo, number, usize::from(number % 2))).collect();
    for client in &mut clients {
        duo.wait_agreed(lease_of(client).address, &["active"]);
        assert!(renews(&duo, client) >= 10);
    }
    // Others renew, rebind and reboot all along, whatever happens.
    let habits = Habits {
        clients: 8,
        releases: 0,
        vanishes: 0,
        patience: Duration::from_millis(200),
        pause: Duration::from_millis(2),
        ..Habits::default()
    };
    for last in 50..70 {
        duo.clients.ip(&format!("addr replace 192.168.150.{last}/24 dev c0")).unwrap();
    }
    let crowd = Crowd::start(duo.wire(), habits);
    let served = |duo: &mut Duo, what: &str| {
        let before = crowd.seen().acks;
        duo.wait(what, |_| crowd.seen().acks >= before + 16);
    };
    let steps = [(S, Kind::Ours), (P, Kind::Ours), (S, Kind::Dhcpd), (P, Kind::Dhcpd)];
    for (side, kind) in steps {
        duo.sides[side].stop().unwrap();
        duo.wait_for(Duration::from_secs(20), "interruption", |duo| {
            duo.sides[1 - side].states().0 == "communications-interrupted"
        });
        served(&mut duo, "the crowd to be served by one");
        for client in &mut clients {
            let (server, secs) = rebinds(&duo, client);
            assert_eq!(server, ADDRESSES[1 - side]);
            assert!(secs >= 10, "{secs}");
        }
        duo.sides[side].kind = kind;
        duo.sides[side].start().unwrap();
        duo.wait_normal();
        served(&mut duo, "the crowd to be served by both");
        for client in &mut clients {
            assert!(renews(&duo, client) >= 10);
            duo.wait_agreed(lease_of(client).address, &["active"]);
        }
    }
    let seen = crowd.finish().unwrap_or_else(|fault| panic!("{fault}"));
    eprintln!("{seen}");
    assert_eq!(seen.owners.len(), 8, "every client has had one address: {:?}", seen.owners);
    assert_eq!(seen.naks, 0, "{seen}");
}
