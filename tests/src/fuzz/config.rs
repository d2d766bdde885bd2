//! Text of dhcpd.conf: read, checked, evaluated for a client, printed, and read again.

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::{COOKIE, HwAddr};
use dhcp_user::config::convert::convert;
use dhcp_user::config::lint::{Crowd, lint};
use dhcp_user::config::{Chain, Config, Context, Loaded, ReceivedOptions, Variables, load};

use super::{Target, configurations};

pub(super) const TARGET: Target = Target {
    name: "config",
    run,
    seeds,
    words: &[
        b"{",
        b"}",
        b";",
        b"\"",
        b"(",
        b")",
        b"option ",
        b"include \"x\";",
        b"0x",
        b"-",
        b"=",
        b"\\",
        b":",
        b"#",
        b"1:2",
        b"infinite",
        b"not ",
        b" and ",
        b" or ",
        b"if known { ",
        b"} else {",
        b"elsif ",
        b"switch (",
        b"case ",
        b"default:",
        b"set a = ",
        b"unset a;",
        b"define f(a) { return a; }",
        b"f(",
        b"on commit { ",
        b"lcase(",
        b"substring(",
        b"concat(",
        b"extract-int(",
        b"encode-int(",
        b"binary-to-ascii(",
        b"hardware",
        b"exists ",
        b"~= ",
        b"~~ ",
        b"config-option ",
        b"pick(",
        b"packet(",
        b"gethostbyname(\"a\")",
        b"append ",
        b"prepend ",
        b"class \"a\" { ",
        b"subclass \"a\" ",
        b"spawn with ",
        b"match if ",
        b"lease limit 1;",
        b"option space a code width 4;",
        b"encapsulate ",
        b"array of ",
        b"host a { ",
        b"group { ",
        b"pool { ",
        b"range ",
        b"10.0.0.1",
        b"subnet ",
        b"shared-network a { ",
        b"failover peer \"a\" ",
        b"allow ",
        b"deny members of \"a\";",
        b"unknown-1",
    ],
    rounds: 600,
};

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = configurations();
    seeds.push(
        br#"failover peer "p" { primary; address 10.0.0.1; peer address 10.0.0.2; mclt 60; split 128; }
failover peer "p" state { my state normal at 0 2026/11/22 08:43:58; }
option x code 200 = array of { integer 8, ip-address }; option x 1 10.0.0.1, 2 10.0.0.2;
switch (lease-time) { case 3: set a = "x"; break; default: unset a; }
define f(a, b) { return concat(a, b, binary-to-ascii(16, 8, ":", hardware)); }
class "s" { spawn with option agent.circuit-id; lease limit 3; } on commit or expiry { log(info, f("\x41", 1:2)); }
subnet 10.0.0.0 netmask 255.255.255.0 { pool { failover peer "p"; allow after 4 2030/01/02 10:00:00; range 10.0.0.9 10.0.0.5; } }
"#
        .to_vec(),
    );
    seeds.push(
        br#"option space a; option space b code width 2 length width 2; option a.x code 1 = encapsulate b;
option b.y code 2 = { ip-address, array of unsigned integer 16 }; option o code 224 = encapsulate a;
option b.y 10.0.0.1 1, 2; vendor-option-space a; append domain-name "x"; prepend domain-name "y";
if (option host-name ~= "^a[[:digit:]]+") or not (exists user-class) { option domain-name = ucase(option host-name); }
elsif extract-int(substring(hardware, 1, 1), 8) & 2 = 2 { option domain-name = reverse(1, config-option host-name); }
else { default domain-name "z"; option root-path = encode-int(lease-time * 2 / 3 % 5 + 1 - 1 | 4 ^ 1, 16); }
option domain-search "a.b", "c.b"; option routers gateway.example.org, 10.0.0.1;
shared-network n { subnet 10.0.0.0 netmask 255.255.255.0 { } pool { range 10.0.0.1; deny unknown clients; } }
host h { hardware ethernet 2:0:0:0:0:1; fixed-address 10.0.0.77, h.example.org; option host-name "h"; }
host i { uid "x"; } host j { host-identifier option host-name "j"; } key k { algorithm a; secret b; }
subnet 10.1.0.0 netmask 255.255.0.0 { range dynamic-bootp 10.1.0.1 10.1.0.9; default-lease-time infinite; }
"#
        .to_vec(),
    );
    seeds
}

fn read(text: &[u8]) -> Loaded {
    load("dhcpd.conf", &mut |name| match name {
        "dhcpd.conf" => Ok(text.to_vec()),
        "x" => Ok(b"option domain-name \"included\";".to_vec()),
        _ => Err("no such file".to_owned()),
    })
}

fn run(text: &[u8]) {
    let loaded = read(text);
    let errors = loaded.diagnostics.errors_count();
    assert!(loaded.diagnostics.render(false).len() >= errors.min(1));
    assert_eq!(loaded.config.is_none(), errors > 0);
    let Some(mut config) = loaded.config else { return };
    let _ = lint(&config, Crowd { clients: 100, arrivals_per_hour: 100 }, &[]);
    for subnet in 0..config.subnets.len().min(8) {
        evaluate(&config, config.subnets[subnet].net);
    }
    // What is printed says the same: it is accepted, and printing that changes nothing.
    let printed = convert(&config);
    let again = read(printed.as_bytes());
    let Some(mut again_config) = again.config else {
        panic!("what was printed is refused:\n{}\n{printed}", again.diagnostics.render(false));
    };
    assert_eq!(convert(&again_config), printed);
    for name in config.host_names().map(str::to_owned).take(4).collect::<Vec<_>>() {
        config.resolve(&name, &[Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]);
        again_config.resolve(&name, &[Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)]);
    }
    for subnet in 0..config.subnets.len().min(8) {
        let net = config.subnets[subnet].net;
        assert_eq!(evaluate(&config, net), evaluate(&again_config, net), "what was printed says something else");
    }
}

/// The options a client gets.
fn evaluate(config: &Config, address: Ipv4Addr) -> Vec<(u8, Vec<u8>)> {
    let mut message = vec![0_u8; 236];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    message.extend_from_slice(&COOKIE);
    for (code, data) in [(12_u8, &b"a1"[..]), (60, b"PXEClient"), (82, &[1, 2, b'p', b'1']), (53, &[3])] {
        message.extend_from_slice(&[code, data.len() as u8]);
        message.extend_from_slice(data);
    }
    message.push(255);
    let options = ReceivedOptions::parse(&message).expect("well formed");
    let variables = Variables::new();
    let hw = HwAddr::ethernet([2, 0, 0, 0, 0, 1]);
    let host = config.hosts_by_hw(&hw).first().copied();
    let context = Context {
        message: &message,
        options: &options,
        hw,
        known: host.is_some(),
        is_static: false,
        leased_address: Some(address),
        host_decl_name: host.map(|host| config.host_name(host)),
        lease_time: Some(300),
        variables: &variables,
        now: 1_800_000_000,
        explains: false,
    };
    let membership = config.classify(&context);
    let subnet = config.subnet_of(address);
    let chain = Chain {
        network: subnet.map(|id| config.subnet(id).shared_network),
        subnet,
        pool: config.pool_of(address),
        membership: &membership,
        host,
    };
    let mut evaluation = config.evaluate(&chain, &context);
    if let Some(hook) = evaluation.on_commit.clone() {
        config.run_hook(&hook, &context, &mut evaluation);
        let _ = config.parse_hook(hook.text());
    }
    evaluation.codes().map(|code| (code, evaluation.option(code).unwrap_or_default().to_vec())).collect()
}
