//! `fuzz`: bytes of strangers at every door, a bounded run from a fixed seed.
//!
//! The same entry points as `cargo xtask fuzz`; every input that ever failed is tried first.

use std::fs;
use std::path::Path;

use tests::fuzz::{TARGETS, Target, bounded, regressions, target};

fn run(name: &str) {
    let target: Target = target(name).unwrap();
    for (file, input) in regressions(&target) {
        eprintln!("{file}");
        (target.run)(&input);
    }
    bounded(&target);
}

#[test]
fn no_configuration_hurts() {
    run("config");
}

#[test]
fn no_leases_file_hurts() {
    run("leases");
}

#[test]
fn no_message_of_a_client_hurts() {
    run("engine");
}

#[test]
fn no_bytes_of_a_partner_hurt() {
    run("failover");
}

#[test]
fn no_frame_hurts() {
    run("frame");
}

#[test]
fn every_input_that_failed_is_of_a_target_and_says_what_it_taught() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions/fuzz");
    let lessons = fs::read_to_string(folder.join("README.md")).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "README.md" {
            continue;
        }
        count += 1;
        assert!(lessons.lines().any(|line| line.starts_with(&format!("- `{name}`: "))), "{name} taught nothing");
    }
    let tried: usize = TARGETS.iter().map(|target| regressions(target).len()).sum();
    assert_eq!(tried, count, "a file that belongs to no target");
}
