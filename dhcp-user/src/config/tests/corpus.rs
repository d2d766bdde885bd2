use std::path::Path;

use crate::config::{Role, Severity, StateName, load};

fn folder(relative: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn load_file(folder: &Path, name: &str) -> crate::config::Loaded {
    load(name, &mut |name| std::fs::read(folder.join(name)).map_err(|error| error.to_string()))
}

#[test]
fn real_files_get_the_verdict_of_the_real_dhcpd() {
    // dhcpd 4.4.3-P1: the line of its first error; `None` = accepted. Its range error has no line; ours does.
    let verdicts: &[(&str, &[usize])] = &[
        ("classes-if-else-log.conf", &[]),
        ("cluster-groups-shared-network.conf", &[]),
        ("failover-primary.conf", &[]),
        ("failover-secondary.conf", &[]),
        ("groups-gpxe-space.conf", &[]),
        ("host-group-commented-sample.conf", &[]),
        ("pools-classes-vendor-space.conf", &[]),
        ("pxe-arch-if-else.conf", &[]),
        ("pxe-vendor-space-host.conf", &[]),
        ("rejected-missing-quotes.conf", &[12, 21]),
        ("rejected-range-outside-subnet.conf", &[28]),
        ("rejected-syntax.conf", &[16, 42, 61]),
        ("shared-network-host-if-else.conf", &[]),
        ("vendor-option-space-classes.conf", &[]),
        ("ztp-on-commit-execute.conf", &[]),
    ];
    let folder = folder("../tests/captures/dhcpd-conf");
    let files = std::fs::read_dir(&folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "conf"));
    assert_eq!(files.count(), verdicts.len());
    for (name, lines) in verdicts {
        let loaded = load_file(&folder, name);
        let found: Vec<usize> = loaded
            .diagnostics
            .iter()
            .filter(|one| one.severity == Severity::Error)
            .map(|one| loaded.diagnostics.locate(one.span).line)
            .collect();
        assert_eq!(found, *lines, "{name}\n{}", loaded.diagnostics.render(false));
        assert_eq!(loaded.config.is_some(), lines.is_empty(), "{name}");
    }
}

#[test]
fn the_two_files_of_the_lab_load_with_everything_they_say() {
    let folder = folder("examples");
    let primary = load_file(&folder, "gsb-primary.conf").config.unwrap();
    let secondary = load_file(&folder, "gsb-secondary.conf").config.unwrap();
    assert!(primary.is_authoritative() && !secondary.is_authoritative());
    let (ours, theirs) = (&primary.failover_peers[0], &secondary.failover_peers[0]);
    assert_eq!((&*ours.name, ours.role, theirs.role), ("GSB", Role::Primary, Role::Secondary));
    assert_eq!((ours.port, ours.peer_port, theirs.port, theirs.peer_port), (647, 847, 847, 647));
    assert_eq!(ours.address, theirs.peer_address);
    assert_eq!((ours.max_response_delay, ours.max_unacked, ours.mclt, ours.load_balance_max_secs), (60, 10, 3, 3));
    assert_eq!((ours.split, theirs.split, theirs.hba), (Some(128), None, None));
    assert_eq!(ours.hba.map(|hba| (hba[15], hba[16])), Some((0xff, 0)));
    for config in [&primary, &secondary] {
        let pool = &config.pools[0];
        assert_eq!((pool.address_count(), pool.failover), (51, Some(crate::config::PeerId(0))));
        assert_eq!(config.process.log_facility.as_deref(), Some("local7"));
        let evaluation = super::Client::new(&[]).at(config, [192, 168, 150, 50]);
        assert_eq!(evaluation.codes().collect::<Vec<_>>(), [3, 6, 15, 28]);
        assert_eq!(evaluation.option(3), Some(&[192, 168, 150, 1][..]));
        assert_eq!(evaluation.option(6), Some(&[172, 16, 0, 10][..]));
        assert_eq!(evaluation.option(15), Some(&b"gsb.local"[..]));
        assert_eq!(evaluation.option(28), Some(&[192, 168, 150, 255][..]));
        assert_eq!(evaluation.secs(crate::config::Param::DefaultLeaseTime), Some(600));
        assert_eq!(evaluation.secs(crate::config::Param::MaxLeaseTime), Some(7200));
        assert!(!evaluation.depends.is_anything());
    }
}

#[test]
fn the_state_block_of_the_lab_is_taken_in() {
    let loaded = load_file(&folder("examples"), "gsb-primary-partner-down.conf");
    let state = loaded.config.unwrap().failover_peers[0].bootstrap.unwrap();
    assert_eq!((state.my_state, state.my_at, state.partner_state), (Some(StateName::PartnerDown), None, None));
}
