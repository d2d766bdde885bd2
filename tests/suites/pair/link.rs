//! The link between two of ours: a key protects it, and whoever is not the partner gets nowhere.

use std::path::Path;
use std::process::Command;

use tests::agent::binary;
use tests::duo::{Duo, Kind, P, PATIENCE, S, Setup};
use tests::need;

use crate::act::{joins, lease_of, renews, stage};

const KEY: &str = "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ+/8=\n";
const OTHER_KEY: &str = "4q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ+/8=\n";

fn duo() -> Duo {
    let [primary, secondary] = Setup::default().configurations();
    Duo::new([Kind::Ours, Kind::Ours], [&primary, &secondary], "off").unwrap()
}

/// What a server has logged about its link.
fn says(duo: &mut Duo, side: usize, words: &str) {
    let process = duo.sides[side].process.as_mut().unwrap();
    process.wait_for(0, words, PATIENCE).unwrap();
}

/// The whole of what it has logged so far.
fn log(duo: &Duo, side: usize) -> String {
    duo.sides[side].process.as_ref().unwrap().said().join("\n")
}

#[test]
fn two_servers_with_the_same_key_are_one_service() {
    need!("pair::link::same_key", stage());
    let mut duo = duo();
    duo.sides.iter().for_each(|side| side.protect(KEY));
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    let picture = duo.sides[P].failover().unwrap();
    assert_eq!((&picture["link_protected"], &picture["partner_is_ours"]), (&true.into(), &true.into()), "{picture}");
    let page = duo.sides[S].order(&["status"]).unwrap();
    assert!(page.contains("link           up, with an xdhcpd, protected by a key"), "{page}");
    let mut client = joins(&duo, 1, P);
    let address = lease_of(&client).address;
    duo.wait_agreed(address, &["active"]);
    assert_eq!(renews(&duo, &mut client), 300);
    // A break and a new connection.
    duo.sides[S].kill().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    duo.wait_agreed(address, &["active"]);
}

#[test]
fn another_key_is_refused_until_the_files_are_the_same() {
    need!("pair::link::other_key", stage());
    let mut duo = duo();
    duo.sides[P].protect(KEY);
    duo.sides[S].protect(OTHER_KEY);
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    for side in [P, S] {
        says(&mut duo, side, "connection refused: it has another key");
        let picture = duo.sides[side].failover().unwrap();
        assert_eq!((&picture["connected"], &picture["partner_state"]), (&false.into(), &"unknown-state".into()));
        assert!(picture["link_trouble"].as_str().unwrap().contains("it has another key"), "{picture}");
    }
    let page = duo.sides[S].order(&["status"]).unwrap();
    assert!(
        page.contains("DOWN, protected by a key; heard not since the start\n                 it has another key"),
        "{page}"
    );
    // The file is read for every connection.
    std::fs::write(duo.sides[S].folder.path().join("link.key"), KEY).unwrap();
    duo.wait_normal();
    let said = log(&duo, P);
    assert_eq!(said.matches("it has another key").count(), 1, "said once, however often it tried:\n{said}");
}

#[test]
fn a_key_on_one_side_only_is_refused_on_both_and_never_given_up() {
    need!("pair::link::one_side", stage());
    for keyed in [P, S] {
        let mut duo = duo();
        duo.sides[keyed].protect(KEY);
        duo.sides[P].start().unwrap();
        duo.sides[S].start().unwrap();
        says(&mut duo, 1 - keyed, "it wants a link that a key protects, and this server has no key for it");
        // A plain primary speaks first; a plain secondary waits, and is closed when its time is over.
        says(&mut duo, keyed, if keyed == S { "it speaks without protection" } else { "it does not show a key" });
        for side in [P, S] {
            let picture = duo.sides[side].failover().unwrap();
            assert_eq!((&picture["connected"], &picture["partner_state"]), (&false.into(), &"unknown-state".into()));
        }
    }
}

#[test]
fn a_key_that_everybody_may_read_keeps_the_server_from_starting_and_check_says_so() {
    need!("pair::link::readable_key", stage());
    let mut duo = duo();
    duo.sides[P].protect(KEY);
    let file = duo.sides[P].folder.path().join("link.key");
    assert!(Command::new("chmod").arg("644").arg(&file).status().unwrap().success());
    let error = format!("{:#}", duo.sides[P].start().unwrap_err());
    let words = "failover peer \"GSB\": the key";
    assert!(error.contains(words) && error.contains("everybody on this machine (mode 644): chmod 600"), "{error}");
    let check = |arguments: &[&Path]| {
        let output = Command::new(binary()).arg("check").args(arguments).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let [ours, theirs] = [P, S].map(|side| duo.sides[side].folder.path().join("dhcpd.conf"));
    let said = check(&[&ours, Path::new("--pair"), &theirs]);
    assert!(said.contains("the server would not start here") && said.contains("(mode 644)"), "{said}");
    assert!(said.contains("only this file protects the link of \"GSB\" (`xdhcpd-link-key-file`)"), "{said}");
    assert!(said.contains("`xdhcpd-link-key-file` is known to xdhcpd only"), "{said}");
    let said = check(&[&theirs, Path::new("--pair"), &ours]);
    assert!(said.contains("only the partner's file protects the link of \"GSB\""), "{said}");
}
