use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;

use super::{Client, SUBNET, config, errors, warnings};
use crate::config::{Config, HostId, Membership, PermitKind, PoolId, SharedNetworkId, SubnetId};

fn pool(statements: &str) -> Config {
    config(&format!(
        "class \"c\" {{ match if exists host-name; }}
         subnet 10.0.0.0 netmask 255.255.255.0 {{ pool {{ range 10.0.0.10 10.0.0.20; {statements} }} }}"
    ))
}

/// Whether a client with these properties may use the pool.
fn allowed(statements: &str, in_class: bool, known: bool, bootp: bool) -> bool {
    let config = pool(statements);
    let client = if in_class { Client::new(&[(12, b"h")]) } else { Client::new(&[]) };
    let membership = config.classify(&client.context());
    config.permits(PoolId(0), &membership, known, bootp, 1_800_000_000).allowed
}

#[test]
fn permits_deny_first_and_then_want_an_allow() {
    for (statements, in_class, known, bootp, want) in [
        ("", false, false, false, true),
        ("", false, false, true, true),
        ("deny dynamic bootp clients;", false, false, true, false),
        ("deny dynamic bootp clients;", false, false, false, true),
        ("allow known-clients;", false, true, false, true),
        ("allow known clients;", false, false, false, false),
        ("allow unknown-clients;", false, false, false, true),
        ("deny unknown clients;", false, false, false, false),
        ("allow members of \"c\";", true, false, false, true),
        ("allow members of \"c\";", false, false, false, false),
        ("deny members of \"c\";", true, false, false, false),
        ("allow members of \"c\"; deny unknown-clients;", true, false, false, false),
        ("allow all clients;", false, false, true, true),
        ("allow authenticated clients;", false, true, false, false),
        ("allow unauthenticated clients;", false, false, false, true),
        ("allow after 4 2020/01/02 10:00:00;", false, false, false, true),
        ("allow after 4 2037/01/02 10:00:00;", false, false, false, false),
        ("deny after epoch 1000;", false, false, false, false),
        ("ignore booting;", false, false, false, true),
    ] {
        assert_eq!(allowed(statements, in_class, known, bootp), want, "{statements}");
    }
}

#[test]
fn an_after_says_when_the_answer_changes() {
    let config = pool("allow after epoch 2000; ");
    let at = |now| config.permits(PoolId(0), &Membership::none(), false, false, now);
    assert_eq!((at(1000).allowed, at(1000).until), (false, Some(2000)));
    assert_eq!((at(2001).allowed, at(2001).until), (true, None));
    assert_eq!(config.pools[0].valid_from, Some(2000));
}

#[test]
fn a_range_in_a_subnet_becomes_a_pool_without_bootp() {
    let text = "subnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.20 10.0.0.10; range 10.0.0.30; range dynamic-bootp 10.0.0.40; }";
    let config = config(text);
    assert_eq!(config.pools.len(), 2);
    assert_eq!(config.pools[0].deny[0].kind, PermitKind::DynamicBootpClients);
    assert_eq!(config.pools[0].address_count(), 12);
    assert_eq!(config.pools[1].allow[0].kind, PermitKind::AllClients);
    assert_eq!(config.pool_of([10, 0, 0, 15].into()), Some(PoolId(0)));
    assert_eq!(config.pool_of([10, 0, 0, 40].into()), Some(PoolId(1)));
    assert_eq!(config.pool_of([10, 0, 0, 21].into()), None);
    assert_eq!(config.pool_of([9, 0, 0, 1].into()), None);
}

#[test]
fn pools_that_say_the_same_are_one() {
    let text = |second: &str| {
        format!(
            "subnet 10.0.0.0 netmask 255.255.255.0 {{ pool {{ range 10.0.0.1; }} pool {{ range 10.0.0.2; {second} }} }}"
        )
    };
    assert_eq!(config(&text("")).pools.len(), 1);
    assert_eq!(config(&text("deny unknown-clients;")).pools.len(), 2);
    assert_eq!(config(&text("option domain-name \"x\";")).pools.len(), 2);
}

#[test]
fn the_most_specific_subnet_wins() {
    let text = "subnet 10.0.0.0 netmask 255.0.0.0 { } subnet 10.1.0.0 netmask 255.255.0.0 { }";
    let config = config(text);
    assert_eq!(config.subnet_of([10, 1, 2, 3].into()), Some(SubnetId(1)));
    assert_eq!(config.subnet_of([10, 2, 2, 3].into()), Some(SubnetId(0)));
    assert_eq!(config.subnet_of([11, 2, 2, 3].into()), None);
    assert_eq!(warnings(text), ["dhcpd.conf:1:39: this subnet overlaps another one"]);
    assert_eq!(&*config.shared_networks[1].name, "10.1.0.0/16");
}

#[test]
fn an_interface_finds_its_network_by_name_or_by_address() {
    let config = config(
        "subnet 10.0.0.0 netmask 255.255.255.0 { interface eth7; } subnet 10.1.0.0 netmask 255.255.255.0 { interface eth0.100; }",
    );
    let at = |name: &str, address: [u8; 4]| config.shared_network_of_interface(name, &[(Ipv4Addr::from(address), 24)]);
    assert_eq!(at("eth7", [10, 1, 0, 1]), Some(SharedNetworkId(0)));
    assert_eq!(at("eth0.100", [1, 1, 1, 1]), Some(SharedNetworkId(1)));
    assert_eq!(at("eth1", [10, 1, 0, 1]), Some(SharedNetworkId(1)));
    assert_eq!(at("eth1", [10, 9, 0, 1]), None);
}

#[test]
fn hosts_are_found_by_everything_that_names_them() {
    let config = config(&format!(
        "host a {{ hardware ethernet 2:0:0:0:0:1; fixed-address 10.0.0.5, pc.example.org; }}
         host b {{ hardware ethernet 02:00:00:00:00:01; uid \"id\"; }}
         host c {{ option dhcp-client-identifier 01:02; option host-name \"c\"; }}
         host d {{ host-identifier option agent.remote-id aa:bb; }}
         host e {{ }}{SUBNET}"
    ));
    assert_eq!(config.hosts_by_hw(&HwAddr::ethernet([2, 0, 0, 0, 0, 1])), [HostId(0), HostId(1)]);
    assert_eq!(config.hosts_by_client_id(b"id"), [HostId(1)]);
    assert_eq!(config.hosts_by_client_id(&[1, 2]), [HostId(2)]);
    assert_eq!(config.hosts_by_client_id(b"none"), []);
    let client = Client::new(&[(82, &[2, 2, 0xaa, 0xbb])]);
    assert_eq!(config.hosts_by_identifier(&client.context()), [HostId(3)]);
    assert_eq!(config.fixed_addresses(HostId(0)), [Ipv4Addr::new(10, 0, 0, 5)]);
}

#[test]
fn the_client_identifier_of_a_host_is_no_option_to_send() {
    let config = config(&format!("host a {{ option dhcp-client-identifier \"x\"; option host-name \"a\"; }}{SUBNET}"));
    let mut client = Client::new(&[]);
    client.host = Some(HostId(0));
    let evaluation = client.at(&config, [10, 0, 0, 10]);
    assert_eq!((evaluation.option(61), evaluation.option(12)), (None, Some(&b"a"[..])));
}

#[test]
fn authority_is_handed_to_the_blocks_inside() {
    let config = config(
        "authoritative; subnet 10.0.0.0 netmask 255.255.255.0 { }
         subnet 10.1.0.0 netmask 255.255.255.0 { not authoritative; }
         not authoritative; subnet 10.2.0.0 netmask 255.255.255.0 { }
         shared-network s { authoritative; subnet 10.3.0.0 netmask 255.255.255.0 { } }",
    );
    let flags: Vec<bool> = config.subnets.iter().map(|subnet| subnet.authoritative).collect();
    assert_eq!(flags, [true, false, false, true]);
    assert!(config.shared_networks[3].authoritative && !config.is_authoritative());
}

#[test]
fn declarations_stand_where_they_belong() {
    for (text, want) in [
        ("range 10.0.0.1;", "1:1: `range` is not allowed in the top level"),
        ("pool { }", "1:1: `pool` is not allowed in the top level"),
        ("shared-network x { }", "1:1: shared-network `x` has no subnet"),
        ("shared-network { }", "1:16: expected a name for the shared-network"),
        ("host a { range 10.0.0.1; }", "1:10: `range` is not allowed in a host"),
        ("host a { authoritative; }", "1:10: `authoritative` makes no sense in a host"),
        ("host a { } host a { }", "1:17: host `a` is declared twice"),
        ("host \"a\" { }", "1:6: expected a name for the host"),
        ("host a { fixed-address 10.0.0.9; fixed-address 10.0.0.8; }", "1:34: a host has one `fixed-address` only"),
        ("hardware ethernet 1:2:3:4:5:6;", "1:1: `hardware` is not allowed in the top level"),
        ("group { pool { } }", "1:9: `pool` is not allowed in a group"),
        ("interface eth0;", "1:1: `interface` is not allowed in the top level"),
        ("allow known-clients;", "1:7: `allow known-clients` is not possible here"),
        ("subnet 10.1.0.1 netmask 255.255.255.0 { }", "1:8: subnet number and netmask do not fit"),
        ("subnet 10.1.0.0/24 { }", "1:8: expected `netmask`"),
        (
            "subnet 10.1.0.0 netmask 255.255.255.0 { subnet 10.1.0.0 netmask 255.255.255.128 { } }",
            "1:41: `subnet` is not allowed in a subnet",
        ),
        ("subnet 10.1.0.0 netmask 255.255.255.0 { pool { } }", "1:41: pool without a range"),
        (
            "subnet 10.1.0.0 netmask 255.255.255.0 { pool { range 10.1.0.1; allow booting; } }",
            "1:70: `allow booting` is not possible in a pool",
        ),
        (
            "subnet 10.1.0.0 netmask 255.255.255.0 { pool { range 10.1.0.1; allow members of \"foo\"; } }",
            "1:81: no class named \"foo\"",
        ),
        (
            "subnet 10.1.0.0 netmask 255.255.255.0 { range 10.1.0.0/24; }",
            "1:47: a range is not written with a prefix length",
        ),
        (
            "subnet 10.1.0.0 netmask 255.255.255.0 { range 10.1.0.5 10.1.1.7; }",
            "1:56: bad range: 10.1.1.7 is outside of the subnet",
        ),
        (
            "subnet 10.1.0.0 netmask 255.255.255.0 { range 10.1.0.5 10.1.0.9; range 10.1.0.9; }",
            "1:66: address 10.1.0.9 is declared twice",
        ),
        (
            "shared-network s { subnet 10.1.0.0 netmask 255.255.255.0 { } range 10.1.0.1; }",
            "1:62: `range` is not allowed in a shared-network",
        ),
        (
            "shared-network s { pool { range 10.1.0.1; } subnet 10.1.0.0 netmask 255.255.255.0 { } }",
            "1:33: bad range: 10.1.0.1 is outside of the subnet",
        ),
        ("subnet6 2001:db8::/32 { }", "1:1: `subnet6` is refused"),
        ("ldap-server \"x\";", "1:1: `ldap-server` is refused"),
        ("ddns-update-style ad-hoc;", "1:1: `ddns-update-style ad-hoc` is gone"),
        ("if known { host a { } }", "1:12: `host` is not allowed here"),
    ] {
        let found = errors(&format!("{text}{SUBNET}"));
        assert_eq!(found, [format!("dhcpd.conf:{want}")], "{text}");
    }
}

#[test]
fn failover_peers_are_checked_before_anything_starts() {
    let peer = |settings: &str| {
        format!(
            "failover peer \"p\" {{ {settings} }}
             subnet 10.0.0.0 netmask 255.255.255.0 {{ pool {{ failover peer \"p\"; range 10.0.0.1; }} }}"
        )
    };
    let good = "primary; address 10.0.0.2; peer address 10.0.0.3; mclt 600; split 128; load balance max seconds 3;";
    assert_eq!(errors(&peer(good)), Vec::<String>::new());
    for (settings, want) in [
        ("primary; address 10.0.0.2; peer address 10.0.0.3; split 128;", "1:1: failover peer \"p\" has no `mclt`"),
        (
            "primary; address 10.0.0.2; peer address 10.0.0.3; mclt 600;",
            "1:1: failover peer \"p\" has neither `split` nor `hba`",
        ),
        ("primary; address 10.0.0.2; mclt 600; split 128;", "1:1: failover peer \"p\" has no `peer address`"),
        (
            "secondary; address 10.0.0.2; peer address 10.0.0.3; split 128;",
            "1:73: `split` is not allowed on a secondary",
        ),
        ("primary; split 257;", "1:36: 257 is out of range"),
        ("primary; hba 1:2;", "1:30: `hba` wants exactly 32 octets"),
        ("primary; load balance max secs 3;", "1:47: expected `seconds`"),
        ("primary; mcltt 3;", "1:30: unknown setting `mcltt`"),
    ] {
        assert_eq!(errors(&peer(settings)).first().unwrap(), &format!("dhcpd.conf:{want}"), "{settings}");
    }
    let unused = format!("failover peer \"p\" {{ {good} }}{SUBNET}");
    assert_eq!(errors(&unused), ["dhcpd.conf:1:1: no pool refers to failover peer \"p\""]);
    let at_network = format!(
        "failover peer \"p\" {{ {good} }} shared-network s {{ failover peer \"p\"; subnet 10.0.0.0 netmask 255.255.255.0 {{ }}
         pool {{ range 10.0.0.1; }} }}"
    );
    assert_eq!(errors(&at_network).len(), 1);
    let bootp = peer(good).replace("range", "range dynamic-bootp");
    assert_eq!(errors(&bootp), ["dhcpd.conf:2:80: `dynamic-bootp` is not possible in a failover pool"]);
    let bare = peer(good).replace("{ failover peer \"p\";", "{ failover peer p;");
    assert_eq!(errors(&bare)[0], "dhcpd.conf:2:75: expected the name of the failover peer in quotes");
    let twice = format!("failover peer \"p\" {{ {good} }} {}", peer(good));
    assert_eq!(errors(&twice).len(), 1);
    let unknown = format!("failover peer \"q\" state {{ my state normal; }}{SUBNET}");
    assert_eq!(errors(&unknown), ["dhcpd.conf:1:1: no failover peer named \"q\""]);
}

#[test]
fn a_state_block_keeps_names_and_dates() {
    let text = "failover peer \"p\" { secondary; address 10.0.0.2; peer address 10.0.0.3; load balance max seconds 3; }
        failover peer \"p\" state { my state normal at 0 2026/11/22 08:43:58; partner state partner-down at never; mclt 3; }
        subnet 10.0.0.0 netmask 255.255.255.0 { pool { failover peer \"p\"; range 10.0.0.1; } }";
    let state = config(text).failover_peers[0].bootstrap.unwrap();
    assert_eq!(state.my_at, Some(1_795_337_038));
    assert_eq!((state.partner_at, state.mclt), (Some(0x7fff_ffff), Some(3)));
}

#[test]
fn uid_counts_before_the_option_that_says_the_same() {
    for text in [
        "host a { option dhcp-client-identifier \"x\"; uid \"y\"; }",
        "host a { uid \"y\"; option dhcp-client-identifier \"x\"; }",
    ] {
        let config = config(&format!("{text}{SUBNET}"));
        assert_eq!(config.hosts[0].client_id.as_deref(), Some(&b"y"[..]), "{text}");
        assert_eq!(warnings(&format!("{text}{SUBNET}")).len(), 1);
    }
    assert_eq!(warnings(&format!("host a {{ dynamic; }}{SUBNET}")).len(), 1);
}
