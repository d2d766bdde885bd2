//! What the protocol has no place for: host name, option 82, variables and the client's question. Two of ours tell each
//! other in vendor options; a dhcpd is never sent any of it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use tests::client::Client;
use tests::duo::{ADDRESSES, Duo, Kind, P, S, Setup};
use tests::need;
use tests::pcap::Streams;
use tests::peers::WAIT;

use crate::act::{Relayed, dhcpd, joins, kernel, lease_of, relay, releases, renews};
use crate::isc::beside;

/// What stands in a lease because of a `set` statement.
const VARIABLE: &str = "set seen-as = concat(\"guest \", option host-name);\n";

#[test]
fn a_relayed_clients_names_circuit_and_question_are_there_when_its_server_dies() {
    need!("pair::extras::relayed", kernel().and_then(|()| relay()));
    let setup = Setup {
        mclt: 60,
        range: [Ipv4Addr::new(10, 79, 0, 50), Ipv4Addr::new(10, 79, 0, 69)],
        network: "10.79.0.0 netmask 255.255.255.0",
        ..Setup::default()
    };
    let own = "subnet 192.168.150.0 netmask 255.255.255.0 { }\n";
    let [primary, secondary] = setup.configurations().map(|text| format!("{VARIABLE}{text}{own}"));
    let mut duo = Duo::new([Kind::Ours, Kind::Ours], [&primary, &secondary], "generic").unwrap();
    let relayed = Relayed::new(&mut duo, &["-a"]);
    duo.wait_normal();

    let mut wire = relayed.client.packet_socket("c1").unwrap();
    let mut model = Client::new(relayed.client.mac("c1").unwrap()).named("relayed");
    let lease = model.acquire(&mut wire, WAIT).unwrap();
    let address = lease.address;
    duo.wait_agreed(address, &["active"]);
    let dead = ADDRESSES.iter().position(|server| *server == lease.server).unwrap();
    let alive = 1 - dead;
    let [here, there] = [dead, alive].map(|side| duo.sides[side].record(address).unwrap());
    for (statement, expected) in [
        ("client-hostname", "\"relayed\""),
        ("option agent.circuit-id", "\"r1\""),
        ("set seen-as =", "\"guest relayed\""),
    ] {
        assert_eq!(here.value(statement), Some(expected), "{}", here.text);
        assert_eq!(there.value(statement), Some(expected), "{}", there.text);
    }
    // The survivor's kernel knows the question: the first packet that it ever sees of this client is answered there.
    duo.wait("the lease in the other kernel", |duo| {
        duo.sides[alive].status().unwrap()["fast_path"]["armed"].as_u64() == Some(1)
    });
    duo.sides[dead].kill().unwrap();
    duo.wait("interruption", |duo| duo.sides[alive].states().0 == "communications-interrupted");
    let before = tests::agent::Answers::of(&duo.sides[alive].status().unwrap()).unwrap();
    let again = model.reboot(address);
    let reply = model.ask(&mut wire, &again, WAIT).unwrap();
    assert_eq!((reply.message.yiaddr(), reply.lease_secs()), (address, Some(300)));
    let since = tests::agent::Answers::of(&duo.sides[alive].status().unwrap()).unwrap().since(before);
    assert_eq!((since.by_agent, since.by_kernel > 0), (0, true), "{since:?}");
}

/// Codes of the options that a server has sent its partner, by message type; all of it whole.
fn options_sent(frames: &[tests::lab::Passed], from: Ipv4Addr) -> BTreeSet<(u8, u16)> {
    let mut streams = Streams::default();
    let mut sent: std::collections::BTreeMap<_, Vec<u8>> = std::collections::BTreeMap::new();
    for passed in frames {
        if let Some(added) = streams.push(&passed.frame).filter(|added| added.direction.0 == from.octets()) {
            sent.entry(added.direction).or_default().extend(added.bytes);
        }
    }
    let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let mut codes = BTreeSet::new();
    for mut rest in sent.values().map(Vec::as_slice) {
        while rest.len() >= 12 {
            let (message, after) = rest.split_at(usize::from(word(rest, 0)));
            let mut options = &message[12..];
            while options.len() >= 4 {
                codes.insert((message[2], word(options, 0)));
                options = &options[4 + usize::from(word(options, 2))..];
            }
            rest = after;
        }
    }
    codes
}

/// Everything that happens to a lease, on either side of us.
fn says_nothing_of_its_own(ours: usize) {
    let [primary, secondary] = Setup::default().configurations().map(|text| format!("{VARIABLE}{text}"));
    let mut duo = Duo::new(beside(ours), [&primary, &secondary], "off").unwrap();
    let mut tap = duo.tap(ours);
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    for server in [P, S] {
        let mut client = joins(&duo, server as u16, server);
        let address = lease_of(&client).address;
        duo.wait_agreed(address, &["active"]);
        renews(&duo, &mut client);
        let record = duo.sides[server].record(address).unwrap();
        assert_eq!(
            record.value("set seen-as ="),
            Some("\"guest portable\""),
            "there is something to tell: {}",
            record.text
        );
        releases(&duo, &mut client);
        duo.wait_agreed(address, &["free", "backup"]);
    }
    let sent = options_sent(&tap.take(), ADDRESSES[ours]);
    // What dhcpd itself sends (failover.md 1.7).
    let binding = [2, 3, 4, 5, 13, 18, 25, 6, 12].map(|code| (3, code));
    let handshake = [22, 14, 19, 28, 20, 27, 15, 11].map(|code| (5, code));
    let answer = [22, 14, 19, 28, 20, 26].map(|code| (6, code));
    let state = [24, 23, 25].map(|code| (10, code));
    let known: BTreeSet<(u8, u16)> =
        [&binding[..], &handshake, &answer, &state, &[(4, 2), (4, 21), (4, 16), (2, 1)]].concat().into_iter().collect();
    assert!(sent.contains(&(3, 5)) && sent.contains(&(10, 24)) && sent.contains(&(4, 2)), "{sent:?}");
    let own: Vec<_> = sent.difference(&known).collect();
    assert!(own.is_empty(), "{own:?}");
}

#[test]
fn a_dhcpd_is_never_sent_what_it_does_not_know() {
    need!("pair::extras::dhcpd", dhcpd());
    says_nothing_of_its_own(P);
    says_nothing_of_its_own(S);
}
