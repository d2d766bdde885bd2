//! The reference of dhcpd.conf walked line by line: what MUST and SHOULD be there is read without a word, what may come
//! LATER either acts or says with line and column that it does not, what is refused is refused with a sentence.
//!
//! The rows are the reference's (its sections 2 to 10), not the parser's: a parameter that neither is in these tables
//! nor is one of xdhcpd's own makes the last test fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use dhcp_user::config::{Loaded, Severity, load};

const SUBNET: &str = "subnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.10 10.0.0.20; }\n";

fn read(text: &str) -> Loaded {
    load("dhcpd.conf", &mut |name| match name {
        "dhcpd.conf" => Ok(text.into()),
        "empty.conf" => Ok(Vec::new()),
        _ => Err("no such file".into()),
    })
}

/// `line:column: message` of each finding of a severity.
fn findings(loaded: &Loaded, severity: Severity) -> Vec<String> {
    let found = loaded.diagnostics.iter().filter(|one| one.severity == severity);
    found
        .map(|one| {
            let at = loaded.diagnostics.sources().locate(one.span);
            format!("{}:{}: {}", at.line, at.column, one.message)
        })
        .collect()
}

/// Read without a word.
#[track_caller]
fn acts(text: &str) {
    let loaded = read(text);
    assert!(loaded.diagnostics.iter().count() == 0, "{text}\n{}", loaded.diagnostics.render(false));
}

/// Read, with a warning at line 1 and this column.
#[track_caller]
fn warns(text: &str, column: usize, message: &str) {
    let loaded = read(text);
    assert!(loaded.config.is_some(), "{text}\n{}", loaded.diagnostics.render(false));
    let found = findings(&loaded, Severity::Warning);
    let want = format!("1:{column}: {message}");
    assert!(found.iter().any(|one| one.starts_with(&want)), "{text}\nwanted: {want}\n{found:#?}");
}

/// Refused, with this error at line 1 and this column first.
#[track_caller]
fn refuses(text: &str, column: usize, message: &str) {
    let loaded = read(text);
    assert!(loaded.config.is_none(), "{text} is accepted");
    let found = findings(&loaded, Severity::Error);
    let want = format!("1:{column}: {message}");
    assert!(found.first().is_some_and(|one| one.starts_with(&want)), "{text}\nwanted: {want}\n{found:#?}");
}

/// Section 4 and the flags of 5.1 that act: MUST and SHOULD.
const PARAMETERS: &[(&str, &str)] = &[
    ("default-lease-time", "600"),
    ("max-lease-time", "infinite"),
    ("min-lease-time", "-1"),
    ("adaptive-lease-time-threshold", "80"),
    ("one-lease-per-client", "on"),
    ("dhcp-cache-threshold", "0"),
    ("abandon-lease-time", "0x10"),
    ("ping-check", "false"),
    ("ping-timeout", "2"),
    ("ping-timeout-ms", "500"),
    ("ping-cltt-secs", "30"),
    ("ignore-client-uids", "true"),
    ("echo-client-id", "on"),
    ("stash-agent-options", "off"),
    ("min-secs", "3"),
    ("boot-unknown-clients", "off"),
    ("always-broadcast", "on"),
    ("use-host-decl-names", "on"),
    ("log-threshold-high", "90"),
    ("log-threshold-low", "50"),
    ("server-identifier", "10.0.0.1"),
    ("next-server", "10.0.0.1"),
    ("filename", "\"pxelinux.0\""),
    ("server-name", "\"boot\""),
    ("server-id-check", "on"),
    ("check-secs-byte-order", "on"),
    ("vendor-option-space", "fqdn"),
    ("local-port", "6767"),
    ("remote-port", "6768"),
    ("lease-file-name", "\"/tmp/x\""),
    ("pid-file-name", "\"/tmp/x\""),
    ("log-facility", "local7"),
    ("db-time-format", "local"),
    ("lease-id-format", "hex"),
    ("delayed-ack", "28"),
    ("max-ack-delay", "250000"),
    ("dont-use-fsync", "on"),
    ("ddns-update-style", "none"),
    ("allow-booting", "on"),
    ("allow-bootp", "off"),
    ("declines", "off"),
    ("duplicates", "off"),
    ("leasequery", "on"),
];

/// Section 4: LATER, each warned of where it stands.
const LATER: &[(&str, &str)] = &[
    ("infinite-is-reserved", "on"),
    ("get-lease-hostnames", "on"),
    ("dynamic-bootp", ""),
    ("dynamic-bootp-lease-length", "600"),
    ("dynamic-bootp-lease-cutoff", "4 2030/01/02 10:00:00"),
    ("always-reply-rfc1048", "on"),
    ("use-lease-addr-for-default-route", "on"),
    ("site-option-space", "\"fqdn\""),
    ("limited-broadcast-address", "10.0.0.255"),
    ("local-address", "10.0.0.1"),
    ("omapi-port", "7911"),
    ("omapi-key", ""),
];

/// Section 4.3: silent as long as `ddns-update-style` is `none`, warned of otherwise.
const DDNS: &[(&str, &str)] = &[
    ("ddns-updates", "on"),
    ("ddns-hostname", "\"x\""),
    ("ddns-domainname", "\"x\""),
    ("ddns-rev-domainname", "\"x\""),
    ("ddns-ttl", "60"),
    ("ddns-local-address4", "10.0.0.1"),
    ("do-forward-updates", "on"),
    ("do-reverse-updates", "on"),
    ("update-optimization", "on"),
    ("update-static-leases", "on"),
    ("update-conflict-detection", "on"),
    ("ddns-guard-id-must-match", "on"),
    ("ddns-other-guard-is-dynamic", "on"),
    ("ddns-dual-stack-mixed-mode", "on"),
    ("fqdn-reply", "on"),
    ("client-updates", "on"),
];

/// Section 4.3: NO.
const REFUSED: &[&str] = &[
    "subnet6",
    "pool6",
    "range6",
    "prefix6",
    "fixed-address6",
    "fixed-prefix6",
    "preferred-lifetime",
    "dhcpv6-lease-file-name",
    "dhcpv6-pid-file-name",
    "dhcpv6-set-tee-times",
    "ddns-local-address6",
    "local-address6",
    "bind-local-address6",
    "release-on-roam",
    "prefix-length-mode",
    "limit-addrs-per-ia",
    "limit-prefs-per-ia",
    "use-eui-64",
    "persist-eui-64-leases",
    "ldap-server",
    "ldap-tls-reqcert",
];

#[test]
fn parameters_are_obeyed_or_say_that_they_are_not() {
    for (name, value) in PARAMETERS {
        acts(&format!("{name} {value};{SUBNET}"));
        // In any case of letters; behind `=` an expression; inside of blocks, where it is not of the process.
        acts(&format!("{} {value};{SUBNET}", name.to_ascii_uppercase()));
        let inner = read(&format!("group {{ {name} {value}; }}{SUBNET}"));
        assert!(inner.config.is_some(), "{name}\n{}", inner.diagnostics.render(false));
    }
    for (name, value) in LATER {
        match *name {
            "dynamic-bootp" => {
                warns(&format!("allow {name};{SUBNET}"), 1, "`dynamic-bootp` is accepted but does nothing")
            }
            "omapi-key" => warns(
                &format!("key k {{ algorithm hmac-md5; secret abc; }} omapi-key k;{SUBNET}"),
                43,
                "`omapi-key` is accepted but does nothing",
            ),
            _ => warns(&format!("  {name} {value};{SUBNET}"), 3, &format!("`{name}` is accepted but does nothing")),
        }
    }
    for (name, value) in DDNS {
        acts(&format!("{name} {value};{SUBNET}"));
        acts(&format!("ddns-update-style none; {name} {value};{SUBNET}"));
        let text = format!("ddns-update-style interim; {name} {value};{SUBNET}");
        warns(&text, 28, &format!("`{name}` does nothing"));
        warns(&text, 1, "dynamic DNS updates are not done");
    }
    refuses(&format!("ddns-update-style ad-hoc;{SUBNET}"), 1, "`ddns-update-style ad-hoc` is gone");
    warns(&format!("server-duid \"x\";{SUBNET}"), 1, "`server-duid` is accepted but does nothing");
    for name in REFUSED {
        refuses(&format!("  {name} x;{SUBNET}"), 3, &format!("`{name}` is refused"));
    }
}

/// Section 3: read once, at the top level; elsewhere they are warned of.
#[test]
fn what_is_of_the_whole_process_says_so_inside_of_blocks() {
    for name in [
        "lease-file-name \"x\"",
        "pid-file-name \"x\"",
        "log-facility local7",
        "omapi-port 7911",
        "local-port 67",
        "remote-port 68",
        "local-address 10.0.0.1",
        "limited-broadcast-address 10.0.0.255",
        "ddns-update-style none",
        "delayed-ack 3",
        "max-ack-delay 3",
        "dont-use-fsync on",
        "server-id-check on",
        "abandon-lease-time 3",
    ] {
        let word = name.split(' ').next().unwrap_or_default();
        warns(&format!("group {{ {name}; }}{SUBNET}"), 9, &format!("`{word}` has no effect inside a group"));
    }
    for name in ["db-time-format local", "lease-id-format hex"] {
        let word = name.split(' ').next().unwrap_or_default();
        warns(&format!("group {{ {name}; }}{SUBNET}"), 9, &format!("`{word}` holds for the whole server"));
    }
}

/// The table of section 2: which declaration may stand where.
#[test]
fn declarations_stand_where_the_reference_allows_them() {
    const PLACES: [(&str, &str); 7] = [
        ("root", "@"),
        ("shared-network", "shared-network n { subnet 10.9.0.0 netmask 255.255.255.0 { } @ }"),
        ("subnet", "subnet 10.9.0.0 netmask 255.255.255.0 { @ }"),
        ("pool", "subnet 10.9.0.0 netmask 255.255.255.0 { pool { range 10.9.0.200; @ } }"),
        ("group", "group { @ }"),
        ("class", "class \"k\" { @ }"),
        ("host", "host k { @ }"),
    ];
    const PEER: &str =
        "primary; address 10.0.0.1; peer address 10.0.0.2; mclt 600; split 128; load balance max seconds 3;";
    // What is declared, and for each place: `y`es or `n`o.
    let rows = [
        ("shared-network m { subnet 10.8.0.0 netmask 255.255.255.0 { } }".to_owned(), "ynnnynn"),
        ("subnet 10.8.0.0 netmask 255.255.255.0 { }".to_owned(), "yynnynn"),
        ("pool { range 10.9.0.5; }".to_owned(), "nyynnnn"),
        ("range 10.9.0.5;".to_owned(), "nnyynnn"),
        ("group { }".to_owned(), "yyyyynn"),
        ("host h { }".to_owned(), "yyyyynn"),
        ("class \"c\" { }".to_owned(), "yyyyyny"),
        ("subclass \"s\" 01;".to_owned(), "yyyyyny"),
        ("option mine code 200 = text;".to_owned(), "ynnnnnn"),
        (format!("failover peer \"p\" {{ {PEER} }}"), "yynnnnn"),
        ("failover peer \"q\";".to_owned(), "nynynnn"),
        ("hardware ethernet 02:00:00:00:00:01;".to_owned(), "nnnnnny"),
        ("fixed-address 10.9.0.9;".to_owned(), "nnnnnny"),
        ("uid 01:02;".to_owned(), "nnnnnny"),
        ("host-identifier option host-name \"x\";".to_owned(), "nnnnnny"),
        ("match if known;".to_owned(), "nnnnnyn"),
        ("spawn with hardware;".to_owned(), "nnnnnyn"),
        ("lease limit 3;".to_owned(), "nnnnnyn"),
        ("interface eth0;".to_owned(), "nyynnnn"),
        ("if known { log(info, \"x\"); }".to_owned(), "yyyyyyy"),
        ("option domain-name \"x\";".to_owned(), "yyyyyyy"),
        ("max-lease-time 600;".to_owned(), "yyyyyyy"),
    ];
    for (declaration, allowed) in &rows {
        for ((place, around), allowed) in PLACES.iter().zip(allowed.chars()) {
            // Each peer is referred to by one pool, the class has something to match.
            let peers = if declaration.starts_with("failover peer \"p\" {") {
                "subnet 10.7.0.0 netmask 255.255.255.0 { pool { failover peer \"p\"; range 10.7.0.5; } }".to_owned()
            } else {
                String::new()
            };
            let text = format!(
                "failover peer \"q\" {{ {PEER} }} class \"s\" {{ match hardware; }} {} {peers} \
                 subnet 10.6.0.0 netmask 255.255.255.0 {{ pool {{ failover peer \"q\"; range 10.6.0.5; }} }}",
                around.replace('@', declaration)
            );
            let loaded = read(&text);
            let found = findings(&loaded, Severity::Error);
            assert_eq!(found.is_empty(), allowed == 'y', "`{declaration}` in {place}: {found:#?}\n{text}");
        }
    }
}

/// Sections 5 and 10.
#[test]
fn permits_and_settings_of_peers_are_obeyed() {
    for verb in ["allow", "deny", "ignore"] {
        for what in ["unknown-clients", "booting", "bootp", "declines", "duplicates", "leasequery", "client-updates"] {
            acts(&format!("{verb} {what};{SUBNET}"));
        }
    }
    refuses(&format!("allow known-clients;{SUBNET}"), 7, "`allow known-clients` is not possible here");
    let in_pool = |text: &str| {
        format!("class \"c\" {{ }} subnet 10.0.0.0 netmask 255.255.255.0 {{ pool {{ range 10.0.0.9; {text} }} }}")
    };
    for verb in ["allow", "deny"] {
        for whom in [
            "known-clients",
            "unknown-clients",
            "known clients",
            "unknown clients",
            "members of \"c\"",
            "dynamic bootp clients",
            "all clients",
            "unauthenticated clients",
            "after 4 2030/01/02 10:00:00",
            "after epoch 1900000000",
            "after never",
        ] {
            acts(&in_pool(&format!("{verb} {whom};")));
        }
        warns(&in_pool(&format!("{verb} authenticated clients;")), 78, "no client is ever authenticated");
    }
    acts(&in_pool("ignore bootp;"));
    refuses(&in_pool("allow members of \"d\";"), 95, "no class named \"d\"");

    let peer = |text: &str| {
        format!(
            "failover peer \"p\" {{ {text} }} \
             subnet 10.0.0.0 netmask 255.255.255.0 {{ pool {{ failover peer \"p\"; range 10.0.0.9; }} }}"
        )
    };
    let primary = "primary; address 10.0.0.1; peer address 10.0.0.2; mclt 600; load balance max seconds 3;";
    acts(&peer(&format!("{primary} split 128;")));
    acts(&peer(&format!("{primary} hba {};", ["f0"; 32].join(":"))));
    acts(&peer("secondary; address 10.0.0.1; peer address 10.0.0.2; load balance max seconds 3; mclt 600;"));
    for setting in [
        "port 647; peer port 847",
        "max-response-delay 60",
        "max-unacked-updates 10",
        "auto-partner-down 600",
        "max-lease-misbalance 15",
        "max-lease-ownership 10",
        "min-balance 60",
        "max-balance 3600",
        "xdhcpd-link-key-file \"/etc/dhcp/failover.key\"",
    ] {
        acts(&peer(&format!("{primary} split 128; {setting};")));
    }
    for state in [
        "startup",
        "recover",
        "recover-wait",
        "recover-done",
        "normal",
        "communications-interrupted",
        "partner-down",
        "potential-conflict",
        "conflict-done",
        "resolution-interrupted",
        "paused",
        "shutdown",
    ] {
        let block = format!(
            "failover peer \"p\" state {{ my state {state} at 0 2026/11/22 08:43:58; partner state {state}; mclt 3; }}"
        );
        let text = peer("secondary; address 10.0.0.1; peer address 10.0.0.2; load balance max seconds 3;");
        let loaded = read(&format!("{text} {block}"));
        assert!(loaded.config.is_some(), "{state}\n{}", loaded.diagnostics.render(false));
    }
    // The sanity of the start.
    refuses(
        &peer("primary; address 10.0.0.1; peer address 10.0.0.2; split 128;"),
        1,
        "failover peer \"p\" has no `mclt`",
    );
    refuses(&peer("primary; address 10.0.0.1; peer address 10.0.0.2; mclt 600;"), 1, "failover peer \"p\" has neither");
    refuses(&peer("secondary; address 10.0.0.1; peer address 10.0.0.2; split 128;"), 73, "`split` is not allowed");
    refuses(&peer("primary; address 10.0.0.1; mclt 600; split 128;"), 1, "failover peer \"p\" has no `peer address`");
    warns(
        &peer("primary; address 10.0.0.1; peer address 10.0.0.2; mclt 600; split 128;"),
        1,
        "failover peer \"p\" has no `load balance max seconds`",
    );
    let unused = format!("failover peer \"p\" {{ {primary} split 128; }}{SUBNET}");
    refuses(&unused, 1, "no pool refers to failover peer \"p\"");
    let bootp = peer(&format!("{primary} split 128;")).replace("range 10", "range dynamic-bootp 10");
    assert!(read(&bootp).config.is_none());
}

/// Sections 6 to 9: what has neither a verdict of its own above nor in `docs/statements.md`.
#[test]
fn the_language_is_read_as_the_reference_says() {
    for text in [
        // 1 and 2
        "include \"empty.conf\";",
        "% notes of the assistant;",
        "Option DOMAIN-name \"x\";",
        "host h { hardware ethernet 0:1:2:a:b:c; }",
        "host h { hardware token-ring 02:00:00:00:00:01; } host i { hardware unknown-7 01; } host j { hardware fddi 01; }",
        "host h { hardware infiniband 01:02; }",
        "host h { fixed-address 10.0.0.5, 10.0.0.6; }",
        "host h { }",
        "shared-network \"a b\" { subnet 10.1.0.0 netmask 255.255.255.0 { } pool { range 10.1.0.5; } }",
        "class \"a\" { } class \"a\" { match if known; }",
        "authoritative; not authoritative;",
        // 6 and 7
        "option unknown-200 01:02;",
        "option agent-space code 200 = string; option agent-space \"x\";",
        "option rfc3442-classless-static-routes code 121 = array of integer 8;",
        "option ms-classless-static-routes code 249 = array of unsigned integer 8;",
        "option wpad code 252 = text;",
        "option x code 200 = array of { ip-address, integer 8 }; option x 10.0.0.1 1, 10.0.0.2 2;",
        "option x code 200 = { boolean, array of ip-address }; option x on 10.0.0.1, 10.0.0.2;",
        "option space uni; option uni.a code 1 = ip-address; option uni.a 10.0.0.1; vendor-option-space uni;",
        "option space w code width 2 length width 2; option w.a code 300 = text;",
        "option space w code width 4 length width 0; option w.a code 300 = text;",
        "option vendor-encapsulated-options 01:04:0a:00:00:01;",
        "supersede domain-name \"x\"; default root-path \"y\"; append nis-domain \"z\"; prepend nis-domain \"y\";",
        "option server.max-lease-time 600;",
        // 8
        "class \"c\" { match if substring(hardware, 1, 3) = 02:00:00; match hardware; lease limit 3; }",
        "class \"c\" { spawn with option agent.circuit-id; lease limit 4; }",
        "class \"c\" { match hardware; } subclass \"c\" 1:02:00:00:00:00:01 { option domain-name \"x\"; }",
        "class \"c\" { match option host-name; } subclass \"c\" \"x\"; subclass \"c\" \"y\" { lease limit 2; }",
        // 9
        "class \"random\" { match if (extract-int(substring(hardware, 1, 1), 8) & 2) = 2; }",
        "if extract-int(substring(hardware, 1, 1), 8) & 2 = 2 { log(info, \"random\"); }",
        "if option host-name ~= \"^a\" { } elsif option host-name ~~ \"^B\" { } else if known { } else { }",
        "switch (option host-name) { case \"a\": break; case \"b\": default: log(\"x\"); }",
        "set v = option host-name; unset v; define f(a) { return concat(a, \"x\"); } eval f(\"y\");",
        "on commit { execute(\"/bin/true\", binary-to-ascii(16, 8, \":\", hardware)); }",
        "on expiry or release { log(fatal, \"x\"); log(error, \"y\"); log(debug, \"z\"); }",
        "option host-name = pick-first-value(option host-name, host-decl-name, \"none\");",
        "ddns-hostname = concat(\"h-\", binary-to-ascii(10, 8, \"-\", leased-address));",
    ] {
        acts(&format!("{text} {SUBNET}"));
    }
    for (text, column, message) in [
        ("/* no */", 1, "expected a statement"),
        ("// no", 1, "expected a statement"),
        ("include \"none.conf\";", 1, "cannot read `none.conf`"),
        ("ping-check yes;", 12, "expected a flag"),
        ("ping-check 1;", 12, "expected a flag"),
        ("min-secs 256;", 10, "256 is out of range"),
        ("foo-bar 3;", 1, "unknown statement `foo-bar`"),
        ("host a { } host a { }", 17, "host `a` is declared twice"),
        (
            "host a { hardware ethernet 1:2:3:4:5:6; hardware ethernet 1:2:3:4:5:7; }",
            41,
            "a host has one `hardware` only",
        ),
        ("shared-network n { }", 1, "shared-network `n` has no subnet"),
        ("subnet 10.1.0.1 netmask 255.255.255.0 { }", 8, "subnet number and netmask do not fit"),
        ("subnet 10.1.0.0 netmask 255.255.255.0 { range 10.2.0.1; }", 47, "bad range: 10.2.0.1 is outside"),
        ("subnet 10.1.0.0 netmask 255.255.255.0 { range 10.1.0.0/25; }", 47, "a range is not written with"),
        ("subnet 10.1.0.0 netmask 255.255.255.0 { pool { } }", 41, "pool without a range"),
        ("option x code 200 = array of text;", 21, "this cannot be an array"),
        ("option x code 200 = { text, integer 8 };", 21, "text must be the last member"),
        ("option domain-name 01:02;", 20, "expected text"),
        ("option s.a 1;", 8, "no option space named `s`"),
        ("subclass \"none\" 01;", 10, "no class named \"none\""),
        ("if not \"a\" = \"b\" { }", 8, "expected a boolean expression after `not`"),
        ("if (extract-int(hardware, 8) & 2) = 2 { }", 5, "expected a boolean expression"),
        ("if known { } elseif static { }", 14, "`elseif` without an `if`"),
        ("if known log(\"x\");", 10, "expected `{`"),
    ] {
        refuses(&format!("{text} {SUBNET}"), column, message);
    }
    for (text, column, message) in [
        ("subnet 10.1.0.0 netmask 255.255.255.0 { };", 42, "stray `;`"),
        ("subnet 10.1.0.0 netmask 255.255.255.0 { range 10.1.0.9 10.1.0.5; }", 47, "the range ends before it begins"),
        ("subnet 10.0.0.0 netmask 255.255.0.0 { }", 41, "this subnet overlaps"),
        ("subnet 10.1.0.0 netmask 255.255.255.0 { host h { } }", 41, "host declarations are global"),
        ("option domain-name \"x\"; option domain-name \"y\";", 25, "`option domain-name` is set twice"),
        ("if known and static or known { }", 21, "`and` and `or` are mixed without parentheses"),
        ("if not (known and static) { }", 4, "`not ( ... and ... )` is never true"),
        ("class \"c\" { } add \"c\";", 15, "`add` is accepted but does nothing"),
        ("parse-vendor-option;", 1, "`parse-vendor-option` is accepted but does nothing"),
        ("vendor-class \"v\" { }", 1, "`vendor-class` is an old form"),
        ("user-class \"v\" { }", 1, "`user-class` is an old form"),
    ] {
        warns(&format!("{text} {SUBNET}"), column, message);
    }
}

/// Every name of the parameters' and the refused statements' tables in the docs is walked above.
#[test]
fn no_statement_is_without_a_row() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/statements.md");
    let docs = fs::read_to_string(docs).unwrap();
    let walked: BTreeSet<&str> = [PARAMETERS, LATER, DDNS]
        .iter()
        .flat_map(|rows| rows.iter().map(|(name, _)| *name))
        .chain(REFUSED.iter().copied())
        .collect();
    let mut section = "";
    let mut count = 0;
    for line in docs.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading;
        }
        if !["Parameters", "Refused"].contains(&section) {
            continue;
        }
        let Some(name) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) else { continue };
        count += 1;
        if name.starts_with("xdhcpd-") || name == "ldap-..." {
            continue;
        }
        assert!(walked.contains(name), "`{name}` of docs/statements.md is not walked");
    }
    assert!(count >= 90, "only {count} names in docs/statements.md");
}
