use super::{SUBNET, errors, load_files, warnings};

#[test]
fn statements_that_dhcpd_takes_are_taken() {
    // Each observed with `dhcpd -4 -t` of 4.4.3-P1.
    for statement in [
        "default-lease-time 0x10;",
        "default-lease-time 010;",
        "default-lease-time infinite;",
        "max-lease-time -1;",
        "DEFAULT-lease-TIME 60;",
        "allow-booting on;",
        "allow-bootp on;",
        "option server.default-lease-time 60;",
        "omapi-port 7911; key k { algorithm hmac-md5; secret pRP5FapFoJ95JEL06sv4PQ==; } omapi-key k;",
        "zone example.org. { primary 127.0.0.1; }",
        "host 10.0.0.9 { } host a.b.c { }",
        "group x { } group { } group \"y\" { }",
        "% anything at all 12 \"x\";",
        "on commit;",
        "eval \"x\";",
        "unset x;",
        "parse-vendor-option;",
        "set x = 1;",
        "define k = \"x\";",
        "send host-name \"x\"; supersede host-name = \"x\"; default domain-name \"y\";",
        "authoritative; not authoritative;",
        "option space a code width 2 length width 2 hash size 17;",
        "shared-network \"x y\" { subnet 10.2.0.0 netmask 255.255.255.0 { } }",
        "subnet 10.1.0.0 netmask 255.255.255.0 { interface \"eth0\"; }",
        "DHCPD_INTERFACE = \"eth0\";",
        "lease-id-format hex; db-time-format local;",
        "class \"c\" { } add \"c\";",
        "log-facility local7;",
        "dynamic-bootp-lease-length 100;",
        "ddns-updates off; update-static-leases on; do-forward-updates off; fqdn-reply off;",
        "adaptive-lease-time-threshold 80; log-threshold-high 90; log-threshold-low 50; ping-timeout-ms 100;",
    ] {
        assert_eq!(errors(&format!("{statement}{SUBNET}")), Vec::<String>::new(), "{statement}");
    }
}

#[test]
fn statements_that_do_nothing_say_so() {
    for (statement, want) in [
        ("infinite-is-reserved on;", "`infinite-is-reserved` is accepted but does nothing here"),
        ("get-lease-hostnames on;", "`get-lease-hostnames` is accepted but does nothing here"),
        ("omapi-port 7911;", "`omapi-port` is accepted but does nothing here"),
        ("class \"c\" { } add \"c\";", "`add` is accepted but does nothing here"),
        ("; ", "stray `;`"),
        ("x = \"y\";", "this compares `x` with a value and does nothing"),
        ("parse-vendor-option;", "`parse-vendor-option` is accepted but does nothing here"),
    ] {
        let found = warnings(&format!("{statement}{SUBNET}"));
        assert!(found.iter().any(|warning| warning.ends_with(want)), "{statement}: {found:?}");
    }
    let quiet = format!("ddns-update-style none; ddns-updates on; ddns-ttl 30;{SUBNET}");
    assert_eq!(warnings(&quiet), Vec::<String>::new());
    let loud = format!("ddns-update-style interim; ddns-ttl 30;{SUBNET}");
    assert_eq!(warnings(&loud).len(), 2);
}

#[test]
fn all_errors_of_a_file_come_at_once() {
    let text = "defualt-lease-time 3;\noption domain-name a.b;\nsubnet 10.0.0.0 netmask 255.255.255.0 {\n  range 10.0.1.1;\n  rnage 10.0.0.1;\n}\nhost a { hardware ethernet zz; }\nmax-lease-time 5\n";
    assert_eq!(
        errors(text),
        [
            "dhcpd.conf:1:1: unknown statement `defualt-lease-time`",
            "dhcpd.conf:2:21: expected `;`",
            "dhcpd.conf:4:9: bad range: 10.0.1.1 is outside of the subnet",
            "dhcpd.conf:5:3: unknown statement `rnage`",
            "dhcpd.conf:7:28: expected a hexadecimal octet",
            "dhcpd.conf:8:17: expected `;`",
        ]
    );
}

#[test]
fn an_include_is_read_in_its_block_and_circles_are_found() {
    let loaded = load_files(&[
        ("dhcpd.conf", "authoritative;\nsubnet 10.0.0.0 netmask 255.255.255.0 { include \"inner.conf\"; }"),
        ("inner.conf", "range 10.0.0.1 10.0.0.9;\noption domain-name \"x\";\n"),
    ]);
    assert_eq!(loaded.config.unwrap().pools[0].address_count(), 9);
    let circle = load_files(&[
        ("dhcpd.conf", "include \"a.conf\";"),
        ("a.conf", "\n include \"b.conf\";"),
        ("b.conf", "include \"a.conf\";\nfoo bar;"),
    ]);
    let found = circle.diagnostics.render(false);
    assert!(found.contains("b.conf:1:1: `a.conf` includes itself"), "{found}");
    assert!(found.contains("b.conf:2:1: unknown statement `foo`"), "{found}");
    assert!(found.contains("included from a.conf:2:2"), "{found}");
    assert!(found.contains("included from dhcpd.conf:1:1"), "{found}");
    assert_eq!(errors("include \"none.conf\";"), ["dhcpd.conf:1:1: cannot read `none.conf`: no such file"]);
}

#[test]
fn a_main_file_that_cannot_be_read_is_named() {
    let loaded = super::super::load("gone.conf", &mut |_| Err("permission denied".to_owned()));
    assert!(loaded.config.is_none());
    assert!(
        loaded
            .diagnostics
            .render(false)
            .starts_with("error: gone.conf:1:1: cannot read `gone.conf`: permission denied")
    );
}

#[test]
fn nesting_has_limits() {
    let deep = format!("{}{}", "group { ".repeat(100_000), "} ".repeat(100_000));
    assert_eq!(errors(&deep), ["dhcpd.conf:1:519: blocks are nested too deep"]);
    let deep = format!("if {}known{} {{ }}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(errors(&deep).len(), 1);
    let deep = format!("if {}known {{ }}", "not ".repeat(100_000));
    assert_eq!(errors(&deep).len(), 1);
    let long = format!("if known {} {{ }}", "and known ".repeat(100_000));
    assert_eq!(errors(&long).len(), 1);
    let deep = "if known { ".repeat(100_000);
    assert_eq!(errors(&deep).len(), 1);
}

#[test]
fn a_flood_of_errors_is_counted_and_cut() {
    let text = "foo bar;\n".repeat(5000);
    let loaded = super::load_text(&text);
    assert_eq!(loaded.diagnostics.errors_count(), 5000);
    assert!(loaded.diagnostics.iter().count() <= 1000);
}
