//! `config`: what xdhcpd says about bad input on its command line, and what it leaves alone.
//!
//! Every verdict is the process's own: exit status, what it wrote, and the files afterwards.

#[path = "config/corpus.rs"]
mod corpus;
#[path = "config/limits.rs"]
mod limits;
#[path = "config/reference.rs"]
mod reference;
#[path = "config/statements.rs"]
mod statements;

use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    process::Output,
};

use tests::{
    agent::verdict,
    dhcpd,
    lab::{self, Folder, Lan, Namespace, program},
    need,
};

/// A configuration with nothing wrong.
const GOOD: &str = "authoritative;\ndefault-lease-time 600;\nmax-lease-time 7200;\n\
    subnet 192.168.150.0 netmask 255.255.255.0 {\n  range 192.168.150.50 192.168.150.100;\n  option routers 192.168.150.1;\n}\n";

/// Everything that was written, on both outputs.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Files of one test, and xdhcpd run on them.
struct Files {
    folder: Folder,
}

impl Files {
    fn new(configuration: &str) -> Self {
        let folder = Folder::new("config").unwrap();
        folder.write("dhcpd.conf", configuration).unwrap();
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Only checks the configuration (`-t`), which needs no privilege.
    fn check(&self) -> Output {
        verdict(None, &[OsStr::new("-4"), OsStr::new("-t"), OsStr::new("-cf"), self.file("dhcpd.conf").as_os_str()])
            .unwrap()
    }

    /// Tries to serve an interface.
    fn serve(&self, namespace: &Namespace, interface: &str) -> Output {
        let (configuration, leases) = (self.file("dhcpd.conf"), self.file("dhcpd.leases"));
        let (pid, control) = (self.file("dhcpd.pid"), self.file("control.sock"));
        let arguments: [&OsStr; 13] = [
            "-4".as_ref(),
            "-f".as_ref(),
            "-d".as_ref(),
            "-cf".as_ref(),
            configuration.as_ref(),
            "-lf".as_ref(),
            leases.as_ref(),
            "-pf".as_ref(),
            pid.as_ref(),
            "--control".as_ref(),
            control.as_ref(),
            "--fast-path=off".as_ref(),
            interface.as_ref(),
        ];
        verdict(Some(namespace), &arguments).unwrap()
    }
}

#[test]
fn a_good_configuration_is_accepted_by_t_and_nothing_is_started() {
    let files = Files::new(GOOD);
    let output = files.check();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!files.file("dhcpd.leases").exists(), "-t made a leases file");
}

#[test]
fn an_error_names_file_line_and_column_shows_the_line_and_says_what_was_expected() {
    let files = Files::new(
        "authoritative;\nsubnet 192.168.150.0 netmask 255.255.255.0 {\n  range 192.168.150.50 192.168.150.100\n  option routers 192.168.150.1;\n}\n",
    );
    let output = files.check();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("dhcpd.conf:3:") || said.contains("dhcpd.conf:4:"), "{said}");
    assert!(said.contains("range 192.168.150.50") || said.contains("option routers"), "the line is not shown: {said}");
    assert!(said.contains('^'), "no caret: {said}");
    assert!(said.contains('`') && said.contains(';'), "what was expected is not said: {said}");
}

#[test]
fn all_errors_come_at_once() {
    let text = GOOD
        .replace("default-lease-time 600;", "default-lease-time soon;")
        .replace("192.168.150.1;", "192.168.150.1999;");
    let output = Files::new(&text).check();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("dhcpd.conf:2:") && said.contains("dhcpd.conf:6:"), "{said}");
}

#[test]
fn an_error_in_an_included_file_is_told_with_the_way_to_it() {
    let files = Files::new("");
    let included = files
        .folder
        .write("pools.conf", "subnet 10.0.0.0 netmask 255.0.0.0 {\n  range 10.0.0.5 10.0.0.9;\n  rang 10.0.0.7;\n}\n")
        .unwrap();
    files.folder.write("dhcpd.conf", &format!("authoritative;\ninclude \"{}\";\n", included.display())).unwrap();
    let output = files.check();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("pools.conf:3:"), "{said}");
    assert!(said.contains("dhcpd.conf:2"), "the include is not named: {said}");
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let files = Files::new(GOOD);
    fs::remove_file(files.file("dhcpd.conf")).unwrap();
    let output = files.check();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("dhcpd.conf"), "{}", said(&output));
}

#[test]
fn what_dhcpd_refuses_is_refused_and_what_it_accepts_is_accepted() {
    const NAME: &str = "what_dhcpd_refuses_is_refused_and_what_it_accepts_is_accepted";
    need!(NAME, program("dhcpd"));
    let cases = [
        ("good", GOOD.to_owned()),
        ("an unclosed block", GOOD.trim_end().trim_end_matches('}').to_owned()),
        ("a range outside the subnet", GOOD.replace("192.168.150.100;", "192.168.151.100;")),
        ("a netmask that is none", GOOD.replace("255.255.255.0 {", "255.255.255 {")),
        ("an unknown option", GOOD.replace("option routers", "option router")),
        ("an unknown statement", format!("{GOOD}frobnicate 7;\n")),
        ("an unclosed string", format!("option domain-name \"gsb.local;\n{GOOD}")),
        ("a host", format!("{GOOD}host a {{ hardware ethernet 02:00:00:00:00:01; fixed-address 192.168.150.9; }}\n")),
        ("a class", format!("class \"a\" {{ match if substring(hardware, 1, 3) = 02:00:00; lease limit 4; }}\n{GOOD}")),
        ("a custom option", format!("option wpad code 252 = text;\noption wpad \"http://gsb.local/wpad\";\n{GOOD}")),
        (
            "a failover peer that is not declared",
            GOOD.replace("  range", "  pool { failover peer \"X\"; range").replace("100;\n", "100; }\n"),
        ),
        ("nothing at all", String::new()),
    ];
    for (name, text) in cases {
        let files = Files::new(&text);
        let theirs = dhcpd::check(&files.file("dhcpd.conf"), None).unwrap();
        let ours = files.check();
        assert_eq!(
            ours.status.success(),
            theirs.is_accepted,
            "{name}: dhcpd said\n{}\nwe said\n{}",
            theirs.said,
            said(&ours)
        );
    }
}

#[test]
fn the_examples_are_accepted_by_us_and_by_dhcpd() {
    const NAME: &str = "the_examples_are_accepted_by_us_and_by_dhcpd";
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dhcp-user/examples");
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "conf") {
            continue;
        }
        count += 1;
        let output = verdict(None, &[OsStr::new("-t"), OsStr::new("-cf"), file.as_os_str()]).unwrap();
        assert_eq!(output.status.code(), Some(0), "{}: {}", file.display(), said(&output));
    }
    assert!(count >= 2, "the examples are gone");
    need!(NAME, program("dhcpd"));
    for name in ["gsb-primary.conf", "gsb-secondary.conf"] {
        let file = folder.join(name);
        if file.is_file() {
            let theirs = dhcpd::check(&file, None).unwrap();
            assert!(theirs.is_accepted, "{name}: {}", theirs.said);
        }
    }
}

#[test]
fn help_and_version_are_told_with_status_0() {
    for option in ["--help", "--version"] {
        let output = verdict(None, &[OsStr::new(option)]).unwrap();
        assert_eq!(output.status.code(), Some(0), "{option}");
        assert!(said(&output).contains("xdhcpd"), "{option}: {}", said(&output));
    }
    let output = verdict(None, &[OsStr::new("--frobnicate")]).unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(said(&output).contains("--frobnicate"), "{}", said(&output));
}

#[test]
fn an_unknown_interface_is_named_and_nothing_is_started() {
    need!("an_unknown_interface_is_named_and_nothing_is_started", lab::available());
    let namespace = Namespace::new("lonely").unwrap();
    let files = Files::new(GOOD);
    files.folder.write("dhcpd.leases", "").unwrap();
    let output = files.serve(&namespace, "nosuch0");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("nosuch0"), "{}", said(&output));
    assert!(!files.file("dhcpd.pid").exists(), "a server that did not start left its pid file");
}

#[test]
fn an_interface_without_a_subnet_is_named() {
    need!("an_interface_without_a_subnet_is_named", lab::available());
    let lan = Lan::new(Ipv4Addr::new(10, 1, 2, 3), 0).unwrap();
    let files = Files::new(GOOD);
    files.folder.write("dhcpd.leases", "").unwrap();
    let output = files.serve(&lan.server, Lan::SERVER);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains(Lan::SERVER), "{}", said(&output));
}

#[test]
fn a_port_in_use_is_named() {
    need!("a_port_in_use_is_named", lab::available());
    let lan = Lan::new(Ipv4Addr::new(192, 168, 150, 1), 0).unwrap();
    let taken = lan.server.enter(|| UdpSocket::bind("0.0.0.0:67")).unwrap().unwrap();
    let files = Files::new(GOOD);
    files.folder.write("dhcpd.leases", "").unwrap();
    let output = files.serve(&lan.server, Lan::SERVER);
    drop(taken);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("67"), "{}", said(&output));
    assert!(said(&output).to_lowercase().contains("in use"), "{}", said(&output));
}

#[test]
fn a_foreign_or_missing_leases_file_is_named_and_left_as_it_is() {
    need!("a_foreign_or_missing_leases_file_is_named_and_left_as_it_is", lab::available());
    let lan = Lan::new(Ipv4Addr::new(192, 168, 150, 1), 0).unwrap();
    let picture: Vec<u8> = b"\x89PNG\r\n\x1a\n".iter().copied().chain((0..=255).cycle().take(5000)).collect();
    let letter = b"Dear sir,\nplease find enclosed nothing at all.\n".repeat(40);
    for (name, content) in [("a picture", picture), ("a letter", letter)] {
        let files = Files::new(GOOD);
        fs::write(files.file("dhcpd.leases"), &content).unwrap();
        let output = files.serve(&lan.server, Lan::SERVER);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", said(&output));
        assert!(said(&output).contains("dhcpd.leases"), "{name}: {}", said(&output));
        assert!(fs::read(files.file("dhcpd.leases")).unwrap() == content, "{name} was changed");
    }
    let files = Files::new(GOOD);
    let output = files.serve(&lan.server, Lan::SERVER);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("dhcpd.leases"), "{}", said(&output));
}

#[test]
fn an_error_in_the_configuration_leaves_the_leases_file_as_it_is() {
    need!("an_error_in_the_configuration_leaves_the_leases_file_as_it_is", lab::available());
    let lan = Lan::new(Ipv4Addr::new(192, 168, 150, 1), 0).unwrap();
    let files = Files::new("subnet 192.168.150.0 {\n}\n");
    let leases = "lease 192.168.150.50 {\n  starts 4 2026/01/01 00:00:00;\n  binding state free;\n}\nlease 192.168.150.51 {\n  star";
    files.folder.write("dhcpd.leases", leases).unwrap();
    let output = files.serve(&lan.server, Lan::SERVER);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(fs::read_to_string(files.file("dhcpd.leases")).unwrap(), leases);
}

#[test]
fn dhcpd_names_the_extension_that_it_does_not_know_and_check_lists_it() {
    let text = format!("xdhcpd-guard enforce;\n{GOOD}");
    let files = Files::new(&text);
    let output = verdict(None, &[OsStr::new("check"), files.file("dhcpd.conf").as_os_str()]).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("dhcpd.conf:1:1: `xdhcpd-guard` is known to xdhcpd only"), "{}", said(&output));
    need!("config::extensions", program("dhcpd").map(drop));
    let verdict = dhcpd::check(&files.file("dhcpd.conf"), None).unwrap();
    assert!(!verdict.is_accepted && verdict.said.contains("xdhcpd-guard"), "{}", verdict.said);
    let peer = "failover peer \"x\" { primary; address 10.0.0.1; peer address 10.0.0.2; mclt 60; split 128;\n\
                xdhcpd-link-key-file \"/etc/dhcp/failover.key\"; }\n";
    let files = Files::new(&format!("{peer}{GOOD}"));
    let verdict = dhcpd::check(&files.file("dhcpd.conf"), None).unwrap();
    assert!(!verdict.is_accepted && verdict.said.contains("xdhcpd-link-key-file"), "{}", verdict.said);
}
