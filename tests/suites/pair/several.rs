//! Several relationships between the same two servers, several pools in each, and pools without failover beside them.

use std::net::Ipv4Addr;

use tests::client::Client;
use tests::duo::{ADDRESSES, Duo, Kind, P, S};
use tests::need;

use crate::act::{dhcpd, joins, lease_of, offers, rebinds, releases, renews, stage};

/// The pools by their first and last bytes: two of each relationship.
const POOLS: [(&str, [u8; 2]); 4] = [("one", [50, 59]), ("one", [60, 69]), ("two", [70, 79]), ("two", [80, 85])];
/// The pool of a server that is its own.
const OWN: [[u8; 2]; 2] = [[90, 99], [100, 109]];

/// Clients whose fifth byte is this are of "one", of "two", or of nobody's pool.
const OF_ONE: u16 = 0x0a00;
const OF_TWO: u16 = 0x0b00;
const OF_NONE: u16 = 0x0c00;

/// "one" has its primary at P and "two" at S; `second` says which addresses speak for "two".
fn configurations(second: [Ipv4Addr; 2]) -> [String; 2] {
    [P, S].map(|side| {
        let declare = |name: &str, addresses: [Ipv4Addr; 2], primary: usize, ports: [u16; 2]| {
            let role =
                if side == primary { "primary; mclt 20; split 128;".to_owned() } else { "secondary;".to_owned() };
            let (ours, theirs) = (addresses[side], addresses[1 - side]);
            let (port, peer_port) = (ports[side], ports[1 - side]);
            format!(
                "failover peer \"{name}\" {{\n  {role}\n  address {ours}; port {port};\n  peer address {theirs}; peer port \
                 {peer_port};\n  max-response-delay 10; max-unacked-updates 10; load balance max seconds 3;\n}}\n"
            )
        };
        let class = |name: &str, byte: &str| format!("class \"{name}\" {{ match if substring(hardware, 5, 1) = {byte}; }}\n");
        // Pools of one network that admit the same clients are one pool to dhcpd, and to us.
        let shared = POOLS.map(|(name, [first, last])| {
            let also = if first % 20 == 0 { "allow members of \"guests\"; " } else { "" };
            format!(
                "  pool {{ failover peer \"{name}\"; allow members of \"{name}\"; {also}range 192.168.150.{first} \
                 192.168.150.{last}; }}\n"
            )
        });
        let [first, last] = OWN[side];
        format!(
            "{}{}{}{}{}{}authoritative;\nddns-update-style none;\nping-check false;\ndhcp-cache-threshold 0;\n\
             default-lease-time 300;\nmax-lease-time 300;\nsubnet 192.168.150.0 netmask 255.255.255.0 {{\n{}  pool {{ allow \
             members of \"none\"; range 192.168.150.{first} 192.168.150.{last}; }}\n}}\n",
            class("one", "0a"),
            class("two", "0b"),
            class("none", "0c"),
            class("guests", "0d"),
            declare("one", ADDRESSES, P, [647, 847]),
            declare("two", second, S, [648, 848]),
            shared.concat(),
        )
    })
}

/// Whether both sides say that both are in normal, in both relationships.
fn is_normal(duo: &Duo) -> bool {
    let normal = ("normal".to_owned(), "normal".to_owned());
    duo.sides.iter().all(|side| ["one\"", "two\""].iter().all(|name| side.states_in(name) == normal))
}

/// How many addresses of a pool are `backup` on a side.
fn backups(duo: &Duo, side: usize, [first, last]: [u8; 2]) -> usize {
    let records = tests::leases::newest(&duo.sides[side].file());
    let is_there = |address: Ipv4Addr| (first..=last).contains(&address.octets()[3]);
    records.iter().filter(|record| is_there(record.address) && record.value("binding state") == Some("backup")).count()
}

/// Which pool an address is in.
fn pool_of(client: &Client) -> Option<usize> {
    let last = lease_of(client).address.octets()[3];
    POOLS.iter().position(|(_, [first, end])| (*first..=*end).contains(&last))
}

/// Both come up, every pool is split, leases of every kind are where they belong, and either may die.
fn live(kinds: [Kind; 2], second: [Ipv4Addr; 2]) -> Duo {
    let [primary, secondary] = configurations(second);
    let mut duo = Duo::new(kinds, [&primary, &secondary], "off").unwrap();
    for (side, address) in duo.sides.iter_mut().zip(second) {
        if !ADDRESSES.contains(&address) {
            let interface = tests::duo::INTERFACES[side.number()];
            side.namespace.ip(&format!("addr add {address}/24 dev {interface}")).unwrap();
        }
        side.start().unwrap();
    }
    duo.wait("both relationships in normal", |duo| is_normal(duo));
    duo.wait("every pool split", |duo| {
        [P, S].iter().all(|side| POOLS.map(|(_, pool)| backups(duo, *side, pool)) == [5, 5, 5, 3])
    });

    // Six clients of a relationship at one server: more than its half of one pool.
    let mut clients = Vec::new();
    for (tribe, pools) in [(OF_ONE, [0, 1]), (OF_TWO, [2, 3])] {
        // A dhcpd at S keeps for two minutes what it has offered to clients that chose the other.
        for server in [S, P] {
            let own: Vec<Client> =
                (0..6).map(|number| joins(&duo, tribe + 16 * server as u16 + number, server)).collect();
            for pool in pools {
                assert!(own.iter().any(|client| pool_of(client) == Some(pool)), "{own:?}");
            }
            assert!(own.iter().all(|client| lease_of(client).secs == 20), "MCLT: {own:?}");
            assert!(own.iter().all(|client| pools.map(Some).contains(&pool_of(client))), "{own:?}");
            clients.extend(own);
        }
    }
    for client in &mut clients {
        duo.wait_agreed(lease_of(client).address, &["active"]);
        let server = ADDRESSES.iter().position(|address| *address == lease_of(client).server);
        if let Some(server) = server {
            let address = lease_of(client).address;
            duo.wait("its acknowledgement", |duo| {
                duo.sides[server].record(address).is_some_and(|record| record.value("atsfp").is_some())
            });
        }
        assert_eq!(renews(&duo, client), 300);
    }
    // A pool without failover is nobody else's business: whole leases at once, unknown to the other.
    for server in [P, S] {
        let mut own = joins(&duo, OF_NONE + server as u16, server);
        let [first, last] = OWN[server];
        assert!((first..=last).contains(&lease_of(&own).address.octets()[3]), "{own:?}");
        assert_eq!(lease_of(&own).secs, 300);
        let address = lease_of(&own).address;
        assert_eq!(duo.sides[1 - server].record(address), None);
        releases(&duo, &mut own);
        duo.wait("the release", |duo| duo.sides[server].state_of(address) == "free");
    }
    // Either dies: both relationships are interrupted, clients of both keep their addresses, both come back.
    for dead in [P, S] {
        duo.sides[dead].kill().unwrap();
        let alive = 1 - dead;
        duo.wait("both interrupted", |duo| {
            ["one\"", "two\""].iter().all(|name| duo.sides[alive].states_in(name).0 == "communications-interrupted")
        });
        for number in [0, 6, 12, 18] {
            let (server, secs) = rebinds(&duo, &mut clients[number]);
            assert_eq!((server, secs), (ADDRESSES[alive], 300));
        }
        duo.sides[dead].start().unwrap();
        duo.wait("both relationships in normal", |duo| is_normal(duo));
    }
    for client in &clients {
        duo.wait_agreed(lease_of(client).address, &["active"]);
    }
    duo
}

#[test]
fn two_relationships_of_two_pools_each_live_beside_a_pool_of_ones_own() {
    need!("pair::several::ours", stage());
    let mut duo = live([Kind::Ours, Kind::Ours], ADDRESSES);
    // One of them goes down by itself: of the other nothing changes.
    duo.sides[S].order(&["shutdown", "--peer", "two"]).unwrap();
    duo.wait("one relationship alone", |duo| {
        duo.sides[P].states_in("two\"").0 == "partner-down" && duo.sides[P].states_in("one\"").0 == "normal"
    });
    let wait = std::time::Duration::from_millis(400);
    let both = |duo: &Duo, number: u16| {
        let mut servers = offers(duo, &mut crate::act::client(number), 100, wait);
        servers.sort_unstable();
        servers
    };
    assert_eq!(both(&duo, OF_ONE + 99), ADDRESSES);
    assert_eq!(both(&duo, OF_TWO + 99), [ADDRESSES[P]]);
}

#[test]
fn two_relationships_with_dhcpd_live_beside_a_pool_of_ones_own() {
    need!("pair::several::dhcpd", dhcpd());
    // dhcpd tells relationships apart by the partner's address only (failover.md 9.1 16).
    let second = [Ipv4Addr::new(192, 168, 150, 11), Ipv4Addr::new(192, 168, 150, 12)];
    live([Kind::Ours, Kind::Dhcpd], second);
}
