//! What this server adds to the language: few statements, one prefix, all of them documented.

use super::super::param::{EXTENSION_PREFIX, LINK_KEY_FILE, PARAMS};
use super::super::{GuardMode, Param, convert::convert};
use super::{SUBNET, config, errors};

const DOCUMENT: &str = include_str!("../../../../docs/extensions.md");
const GSB: &str = include_str!("../../../examples/gsb-primary.conf");

#[test]
fn every_extension_is_documented_and_nothing_else_is() {
    for info in PARAMS.iter().filter(|info| info.param.is_extension()) {
        assert!(
            DOCUMENT.contains(&format!("`{} ", info.name)),
            "docs/extensions.md does not say what {} is",
            info.name
        );
        if let (Some(default), false) = (info.default, matches!(info.param, Param::XdhcpdGuard | Param::XdhcpdIpv6Only))
        {
            let line = DOCUMENT.lines().find(|line| line.starts_with(&format!("| `{} ", info.name))).unwrap();
            assert!(line.contains(&format!("| {default} |")), "{}: the default is {default}", info.name);
        }
    }
    for word in DOCUMENT.split(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
        if word.starts_with(EXTENSION_PREFIX) && word.len() > EXTENSION_PREFIX.len() {
            let is_one = Param::by_name(word).is_some() || word == LINK_KEY_FILE;
            assert!(is_one, "docs/extensions.md has a statement `{word}` that does not exist");
        }
    }
}

#[test]
fn a_configuration_knows_its_extensions_and_where_they_are() {
    let text = format!("xdhcpd-guard enforce;\nclass \"a\" {{\n  xdhcpd-circuit-leases 7;\n}}{SUBNET}");
    let config = config(&text);
    let found: Vec<String> =
        config.extensions.iter().map(|(name, span)| format!("{} {name}", config.locate(*span))).collect();
    assert_eq!(found, ["dhcpd.conf:1:1 xdhcpd-guard", "dhcpd.conf:3:3 xdhcpd-circuit-leases"]);
    assert_eq!(config.process.guard, GuardMode::Enforce);
    assert!(super::config(SUBNET).extensions.is_empty());
    assert_eq!(super::config(SUBNET).process.guard, GuardMode::Monitor);
}

#[test]
fn extensions_are_written_as_they_were_read() {
    let text = format!(
        "xdhcpd-guard off;\nxdhcpd-client-rate 60;\nxdhcpd-random-mac-lease 14400, 50 3600, 80 infinite;\n\
         xdhcpd-ipv6-only on;\n{SUBNET}"
    );
    let converted = convert(&config(&text));
    for line in text.lines().filter(|line| line.starts_with("xdhcpd-")) {
        assert!(converted.contains(line), "{converted}");
    }
    assert_eq!(convert(&config(&converted)), converted);
}

#[test]
fn a_curve_ascends_and_stays_within_a_hundred_percent() {
    for (statement, error) in [
        ("xdhcpd-random-mac-lease 100, 50 60, 50 30;", "the percentages must ascend"),
        ("xdhcpd-random-mac-lease 100, 0 60;", "the percentages must ascend"),
        ("xdhcpd-random-mac-lease 100, 101 60;", "101 is out of range"),
        ("xdhcpd-random-mac-lease 100, 50;", "expected a time"),
        ("xdhcpd-guard yes;", "`yes` is not known here"),
        ("xdhcpd-gard enforce;", "unknown statement `xdhcpd-gard`"),
    ] {
        let found = errors(&format!("{statement}{SUBNET}"));
        assert!(found.iter().any(|line| line.contains(error)), "{statement}: {found:?}");
    }
}

#[test]
fn a_link_may_have_a_key_and_its_whole_path_is_wanted() {
    assert!(DOCUMENT.contains(&format!("`{LINK_KEY_FILE} ")), "docs/extensions.md does not say what it is");
    assert_eq!(config(GSB).failover_peers[0].link_key_file, None, "off unless written");
    let with = |value: &str| GSB.replace("primary;", &format!("primary; xdhcpd-link-key-file {value};"));
    let protected = config(&with("\"/etc/dhcp/failover.key\""));
    assert_eq!(protected.failover_peers[0].link_key_file.as_deref(), Some("/etc/dhcp/failover.key"));
    let names: Vec<&str> = protected.extensions.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, [LINK_KEY_FILE]);
    let converted = convert(&protected);
    assert!(converted.contains("  xdhcpd-link-key-file \"/etc/dhcp/failover.key\";\n"), "{converted}");
    assert_eq!(convert(&config(&converted)), converted);
    for (value, error) in [
        ("\"failover.key\"", "the file with the key wants its whole path"),
        ("/etc/dhcp/failover.key", "expected the name of the file with the key in quotes"),
        ("", "expected the name of the file with the key in quotes"),
    ] {
        let found = errors(&with(value));
        assert!(found.iter().any(|line| line.contains(error)), "{value}: {found:?}");
    }
}
