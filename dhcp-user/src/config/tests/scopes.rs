use super::{Client, SUBNET, config, plain};
use crate::config::{HostId, Param};

/// The option in every scope, as the reference probed it.
const EVERYWHERE: &str = r#"
option domain-name "root";
class "first" { match if option host-name = "c"; option domain-name "first"; option root-path "only-first"; }
class "second" { match if option host-name = "c"; option domain-name "second"; option nis-domain "only-second"; }
shared-network net {
  option domain-name "shared";
  subnet 10.0.0.0 netmask 255.255.255.0 {
    option domain-name "subnet";
    pool { range 10.0.0.10 10.0.0.20; option domain-name "pool"; }
  }
  subnet 10.0.1.0 netmask 255.255.255.0 { option domain-name "subnet"; }
  subnet 10.0.2.0 netmask 255.255.255.0 { }
}
host with { hardware ethernet 02:00:00:00:00:01; option domain-name "host"; }
group { option domain-name "group"; host without { hardware ethernet 02:00:00:00:00:02; } }
subnet 10.0.3.0 netmask 255.255.255.0 { }
"#;

fn domain(client: &Client, address: [u8; 4]) -> String {
    let evaluation = client.at(&config(EVERYWHERE), address);
    String::from_utf8(evaluation.option(15).unwrap().to_vec()).unwrap()
}

#[test]
fn the_innermost_scope_wins() {
    let mut client = Client::new(&[]);
    assert_eq!(domain(&client, [10, 0, 0, 10]), "pool");
    assert_eq!(domain(&client, [10, 0, 1, 10]), "subnet");
    assert_eq!(domain(&client, [10, 0, 2, 10]), "shared");
    assert_eq!(domain(&client, [10, 0, 3, 10]), "root");
    client.host = Some(HostId(0));
    assert_eq!(domain(&client, [10, 0, 0, 10]), "host");
    client.host = Some(HostId(1));
    assert_eq!(domain(&client, [10, 0, 0, 10]), "group");
}

#[test]
fn the_class_declared_first_wins_and_what_only_one_sets_is_kept() {
    let mut client = Client::new(&[(12, b"c")]);
    assert_eq!(domain(&client, [10, 0, 0, 10]), "first");
    let evaluation = client.at(&config(EVERYWHERE), [10, 0, 0, 10]);
    assert_eq!(evaluation.option(17), Some(&b"only-first"[..]));
    assert_eq!(evaluation.option(40), Some(&b"only-second"[..]));
    client.host = Some(HostId(0));
    assert_eq!(domain(&client, [10, 0, 0, 10]), "host");
}

#[test]
fn a_default_around_a_host_does_not_undo_the_subnet() {
    let text = r#"
option domain-name "root";
shared-network net {
  option domain-name "shared";
  host inside { hardware ethernet 02:00:00:00:00:01; }
  subnet 10.0.0.0 netmask 255.255.255.0 { option domain-name "subnet"; pool { range 10.0.0.10; } }
}"#;
    let mut client = Client::new(&[]);
    client.host = Some(HostId(0));
    assert_eq!(client.at(&config(text), [10, 0, 0, 10]).option(15), Some(&b"subnet"[..]));
}

#[test]
fn groups_run_from_the_outermost_and_around_networks_too() {
    let text = r#"
group { option domain-name "outer"; option nis-domain "outer";
  group { option domain-name "inner";
    subnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.10; } } }"#;
    let evaluation = Client::new(&[]).at(&config(text), [10, 0, 0, 10]);
    assert_eq!(evaluation.option(15), Some(&b"inner"[..]));
    assert_eq!(evaluation.option(40), Some(&b"outer"[..]));
}

#[test]
fn origins_name_the_line_that_won() {
    let text = "option domain-name \"a\";\ndefault-lease-time 100;\nsubnet 10.0.0.0 netmask 255.255.255.0 {\n  range 10.0.0.10;\n  option domain-name \"b\";\n}\n";
    let config = config(text);
    let evaluation = Client::new(&[]).at(&config, [10, 0, 0, 10]);
    assert_eq!(config.locate(evaluation.option_origin(15).unwrap()).to_string(), "dhcpd.conf:5:3");
    assert_eq!(config.locate(evaluation.param_origin(Param::DefaultLeaseTime).unwrap()).to_string(), "dhcpd.conf:2:1");
    assert_eq!(evaluation.option_origin(3), None);
}

#[test]
fn modifiers_meet_the_value_that_is_there() {
    for (statements, want) in [
        ("default domain-name \"b\";", "b"),
        ("option domain-name \"a\"; default domain-name \"b\";", "a"),
        ("option domain-name \"a\"; append domain-name \"b\";", "ab"),
        ("option domain-name \"a\"; prepend domain-name \"b\";", "ba"),
        ("option domain-name \"a\"; supersede domain-name \"b\";", "b"),
        ("append domain-name \"b\";", "b"),
        ("option domain-name \"a\"; append domain-name = concat(\"x\", \"y\");", "axy"),
    ] {
        assert_eq!(plain(statements).option(15), Some(want.as_bytes()), "{statements}");
    }
}

#[test]
fn parameters_have_the_defaults_of_dhcpd() {
    let evaluation = plain("");
    assert_eq!(evaluation.secs(Param::DefaultLeaseTime), None);
    assert_eq!(evaluation.secs_or_default(Param::DefaultLeaseTime), 43_200);
    assert_eq!(evaluation.secs_or_default(Param::MinLeaseTime), 300);
    assert_eq!(evaluation.secs_or_default(Param::DhcpCacheThreshold), 25);
    assert!(evaluation.flag_or_default(Param::PingCheck));
    assert!(!evaluation.flag_or_default(Param::Leasequery));
}

#[test]
fn allow_deny_and_ignore_set_the_same_flags() {
    let evaluation =
        plain("deny bootp; ignore booting; allow leasequery; boot-unknown-clients off; next-server 10.9.8.7;");
    assert_eq!(evaluation.flag(Param::AllowBootp), Some(false));
    assert_eq!(evaluation.flag(Param::AllowBooting), Some(false));
    assert!(evaluation.is_ignored(Param::AllowBooting) && !evaluation.is_ignored(Param::AllowBootp));
    assert_eq!(evaluation.flag(Param::Leasequery), Some(true));
    assert_eq!(evaluation.flag(Param::BootUnknownClients), Some(false));
    assert_eq!(evaluation.address(Param::NextServer), Some([10, 9, 8, 7].into()));
}

#[test]
fn the_process_reads_its_parameters_from_the_top_level_only() {
    let text = format!(
        "lease-file-name \"/x/leases\"; delayed-ack 28; max-ack-delay 5000; db-time-format local; lease-id-format hex;
         local-port 6767; abandon-lease-time 60; log-facility daemon; server-id-check on;{SUBNET}"
    );
    let process = config(&text).process;
    assert_eq!(process.lease_file.as_deref(), Some("/x/leases"));
    assert_eq!((process.delayed_ack, process.max_ack_delay_us, process.local_port), (28, 5000, Some(6767)));
    assert_eq!((process.abandon_lease_time, process.server_id_check), (60, true));
    assert_eq!(process.db_time_format, crate::config::DbTimeFormat::Local);
    assert_eq!(process.lease_id_format, crate::config::LeaseIdFormat::Hex);
    let inner = super::warnings("subnet 10.0.0.0 netmask 255.255.255.0 { delayed-ack 3; }");
    assert_eq!(inner, ["dhcpd.conf:1:41: `delayed-ack` has no effect inside a subnet"]);
}
