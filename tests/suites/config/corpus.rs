//! Real configurations: dhcpd's verdict is ours, and what we say about them is kept beside the suite.
//!
//! A snapshot that changed is read, and then renewed: `XDHCPD_BLESS=1 cargo test -p tests --test config corpus`.

use std::env;
use std::fs;
use std::path::PathBuf;

use dhcp_user::config::{Loaded, Severity, load};
use tests::dhcpd;
use tests::lab::program;
use tests::need;

fn captures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("captures/dhcpd-conf")
}

/// The files of the corpus, by name.
fn files() -> Vec<String> {
    let names = fs::read_dir(captures()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".conf")).collect();
    names.sort();
    assert!(names.len() >= 15, "the corpus is gone");
    names
}

fn read(name: &str) -> Loaded {
    load(name, &mut |name| fs::read(captures().join(name)).map_err(|error| error.to_string()))
}

/// Line of the first error that dhcpd names a line for: `FILE line N: ...`.
fn first_line(said: &str) -> Option<usize> {
    let at = said.find(" line ")?;
    said[at..].split([' ', ':']).nth(2)?.parse().ok()
}

#[test]
fn every_file_gets_the_verdict_of_the_real_dhcpd() {
    need!("every_file_gets_the_verdict_of_the_real_dhcpd", program("dhcpd"));
    for name in files() {
        let theirs = dhcpd::check(&captures().join(&name), None).unwrap();
        let ours = read(&name);
        let said = ours.diagnostics.render(false);
        assert_eq!(ours.config.is_some(), theirs.is_accepted, "{name}: dhcpd said\n{}\nwe said\n{said}", theirs.said);
        let first = ours.diagnostics.iter().find(|one| one.severity == Severity::Error);
        if let (Some(theirs), Some(first)) = (first_line(&theirs.said).filter(|_| !theirs.is_accepted), first) {
            assert_eq!(ours.diagnostics.locate(first.span).line, theirs, "{name}: {said}");
        }
    }
}

#[test]
fn what_is_said_about_every_file_is_what_was_read_and_kept() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("suites/config/corpus");
    let bless = env::var_os("XDHCPD_BLESS").is_some();
    let mut kept: Vec<String> = fs::read_dir(&folder)
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    for name in files() {
        let snapshot = name.replace(".conf", ".txt");
        let said = read(&name).diagnostics.render(false);
        if bless {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(&snapshot), &said).unwrap();
        }
        let known = fs::read_to_string(folder.join(&snapshot)).unwrap_or_default();
        assert!(
            said == known,
            "{name}: read what is said now; if it is right, renew the snapshots with \
             `XDHCPD_BLESS=1 cargo test -p tests --test config corpus`\n--- was\n{known}\n--- is\n{said}"
        );
        kept.retain(|one| *one != snapshot);
    }
    assert_eq!(kept, Vec::<String>::new(), "snapshots of files that are not in the corpus");
}
