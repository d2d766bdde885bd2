use super::config;
use crate::config::lint::{Crowd, lint, lint_pair};

const GSB: &str = include_str!("../../../examples/gsb-primary.conf");
const GSB_SECONDARY: &str = include_str!("../../../examples/gsb-secondary.conf");

fn findings(text: &str) -> Vec<String> {
    let config = config(text);
    let lint = lint(&config, Crowd { clients: 40, arrivals_per_hour: 0 }, &[]);
    lint.findings.iter().map(|one| format!("{}: {}", config.locate(one.span).line, one.message)).collect()
}

#[test]
fn the_lab_gets_its_three_second_leases_told() {
    let found = findings(GSB);
    assert!(
        found.contains(&"3: a new client of this pool gets 3 s first, and must ask again after 1 s".to_owned()),
        "{found:?}"
    );
    assert!(found.iter().any(|one| one.contains("waits 1000 ms")), "{found:?}");
    assert!(found.iter().any(|one| one.contains("BOOTP client takes an address of this pool for ever")), "{found:?}");
    let forecast = &lint(&config(GSB), Crowd { clients: 40, arrivals_per_hour: 400 }, &[]).forecasts[0];
    assert_eq!((forecast.addresses, forecast.first_lease_secs, forecast.lease_secs), (51, 3, 600));
    assert_eq!(forecast.renewals_per_sec_milli, 133);
    assert_eq!(forecast.exhausted_after_secs, Some(459));
    assert!(forecast.may_be_armed);
    // 0.133 renewals/s of 40 clients, and three requests of each of 400 arrivals per hour: 0.133 / (0.133 + 0.333).
    assert_eq!(forecast.kernel_share_milli, Some(285));
}

#[test]
fn surprises_of_a_pool_are_found() {
    let subnet =
        |text: &str| format!("ping-check off; deny bootp;\nsubnet 10.0.0.0 netmask 255.255.255.0 {{ {text} }}");
    for (text, want) in [
        ("range 10.0.0.5; default-lease-time 120;", Some("2: clients get 300 s, not 120 s")),
        ("range 10.0.0.5; default-lease-time 120; min-lease-time 60;", None),
        (
            "range 10.0.0.5; default-lease-time 900; max-lease-time 600;",
            Some("2: `default-lease-time` is cut to `max-lease-time`, 600 s"),
        ),
        ("range 10.0.0.1 10.0.0.9; option routers 10.0.0.3;", Some("2: the range contains the router 10.0.0.3")),
        (
            "range 10.0.0.1 10.0.0.9; option domain-name-servers 10.0.0.4;",
            Some("2: the range contains the domain name server 10.0.0.4"),
        ),
        ("range 10.0.0.1 10.0.0.9; next-server 10.0.0.5;", Some("2: the range contains the next server 10.0.0.5")),
        ("range 10.0.0.0 10.0.0.9;", Some("2: the range contains the network or the broadcast address of its subnet")),
        (
            "range 10.0.0.5; on commit { log(\"x\"); }",
            Some("2: renewals of this pool are never answered by the kernel"),
        ),
    ] {
        assert_eq!(findings(&subnet(text)), want.into_iter().map(str::to_owned).collect::<Vec<_>>(), "{text}");
    }
}

#[test]
fn an_address_of_this_machine_is_not_leased() {
    let text = "ping-check off; deny bootp; server-identifier 10.0.0.2;\n\
        subnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.1 10.0.0.3; range 10.0.0.5 10.0.0.9; }";
    let config = config(text);
    let with = |own: &[(&str, [u8; 4])]| {
        let own: Vec<_> = own.iter().map(|(name, address)| ((*name).to_owned(), (*address).into())).collect();
        let findings = lint(&config, Crowd::default(), &own).findings;
        findings.into_iter().map(|one| (config.locate(one.span).column, one.message)).collect::<Vec<_>>()
    };
    let server = (41, "the range contains the server 10.0.0.2".to_owned());
    // Outside of all ranges; and what is called the server anyway is named once.
    assert_eq!(with(&[("eth0", [10, 0, 0, 4]), ("eth1", [10, 0, 0, 2])]), std::slice::from_ref(&server));
    let own = (66, "the range contains 10.0.0.7, the address of eth0 on this machine".to_owned());
    assert_eq!(with(&[("eth0", [10, 0, 0, 7])]), [server, own]);
}

#[test]
fn a_pool_without_partner_beside_one_with_is_named() {
    let text = GSB.replace("option routers", "pool { range 192.168.150.120; deny unknown-clients; }\n option routers");
    assert!(findings(&text).iter().any(|one| one.contains("this pool has no failover peer")));
}

#[test]
fn the_two_files_of_a_pair_are_compared() {
    let primary = config(GSB);
    let pair = |text: &str| lint_pair(&primary, &config(text)).into_iter().map(|one| one.message).collect::<Vec<_>>();
    let only = "only this file is authoritative for 192.168.150.0".to_owned();
    assert_eq!(pair(GSB_SECONDARY), [only]);
    for (from, to, want) in [
        ("port 847", "port 848", "the ports of \"GSB\" do not cross over"),
        (
            "192.168.150.100;",
            "192.168.150.90;",
            "the partner's file does not share the range 192.168.150.50 192.168.150.100",
        ),
        (
            "default-lease-time 600",
            "default-lease-time 900",
            "the partner's file has another `default-lease-time` for this pool",
        ),
        (
            "{\n    secondary;\n    address 192.168.150.2",
            "{\n    secondary;\n    address 192.168.150.3",
            "the partner of \"GSB\" has another address than `peer address`",
        ),
        (
            "port 847",
            "xdhcpd-link-key-file \"/k\"; port 847",
            "only the partner's file protects the link of \"GSB\" (`xdhcpd-link-key-file`)",
        ),
        ("max seconds 3", "max seconds 5", "`load balance max seconds` of \"GSB\" differs"),
        ("GSB", "OTHER", "the partner's file has no failover peer \"GSB\""),
        ("172.16.0.10", "172.16.0.11", "the partner's file has another `option domain-name-servers` for this pool"),
    ] {
        assert_eq!(pair(&GSB_SECONDARY.replace(from, to)).first().map(String::as_str), Some(want), "{from} -> {to}");
    }
    let more = pair(&format!("{} subnet 10.9.0.0 netmask 255.255.0.0 {{ }}", GSB_SECONDARY));
    assert!(more.contains(&"the partner's file has a subnet 10.9.0.0 netmask 255.255.0.0 that is not here".to_owned()));
    let ours = config(&format!("{GSB} host a {{ hardware ethernet 02:00:00:00:00:01; }} host b {{ }}"));
    let hosts = lint_pair(&ours, &config(GSB_SECONDARY));
    assert!(hosts.iter().any(|one| one.message == "the partner's file does not know host a, nor 1 more"));
    let wider = GSB_SECONDARY.replace("192.168.150.100;", "192.168.150.100; range 192.168.150.120 192.168.150.130;");
    assert!(pair(&wider)[0].starts_with("the partner's file shares the range 192.168.150.120"));
    assert!(pair(GSB).contains(&"both files call themselves the same side of \"GSB\"".to_owned()));
}
