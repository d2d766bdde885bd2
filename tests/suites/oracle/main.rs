//! The oracle: xdhcpd against the real dhcpd, case by case (`cases/README.md` says how to add one).
//!
//! Each case runs in namespaces that the suite makes; without root or dhcpd the suite says SKIPPED.

use tests::lab;
use tests::need;
use tests::oracle::{files, folder, play_file, script};

/// Plays a case file.
fn play(name: &str) {
    let test = format!("oracle::{name}");
    need!(&test, lab::available());
    need!(&test, lab::program("dhcpd"));
    if let Err(error) = play_file(&folder().join(name).with_extension("case")) {
        panic!("{error:#}");
    }
}

/// One test for each case file.
macro_rules! suite {
    ($($name:ident: $claim:ident),* $(,)?) => {
        $(
            #[test]
            fn $claim() {
                play(stringify!($name));
            }
        )*

        /// The case files that a test plays.
        const PLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

suite! {
    options: the_same_options_in_the_same_order,
    times: leases_of_the_same_length,
    scopes: the_same_scope_wins,
    expressions: expressions_have_the_same_value,
    packing: options_that_do_not_fit_go_the_same_way,
    lifecycle: leases_live_the_same_life,
    relay: relays_and_subnets_are_served_the_same,
    hosts: hosts_are_known_the_same,
    limits: limits_are_kept_the_same,
    inform: informs_are_answered_the_same,
    bootp: bootp_is_answered_the_same,
    leasequery: queries_are_answered_the_same,
    language: the_corners_of_the_language_are_the_same,
    files: leases_files_are_read_the_same,
    types: every_type_of_option_is_written_the_same,
}

#[test]
fn every_case_file_is_played_and_every_name_is_there_once() {
    let mut names = Vec::new();
    for file in files().unwrap() {
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(PLAYED.contains(&stem.as_str()), "no test plays {stem}.case");
        names
            .extend(script::parse(&std::fs::read_to_string(&file).unwrap()).unwrap().into_iter().map(|case| case.name));
    }
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn there_is_enough_to_compare_and_dhcpd_has_answered_all_of_it() {
    let (mut messages_count, mut scripts_count) = (0, 0);
    for file in files().unwrap() {
        for case in script::parse(&std::fs::read_to_string(&file).unwrap()).unwrap() {
            let messages: Vec<_> = case.steps.iter().filter(|step| step.is_message()).collect();
            for step in &messages {
                let at = format!("{}: line {}", file.display(), step.line);
                assert_ne!(step.expected, script::Expected::Nothing, "{at}: nothing recorded");
            }
            if case.records_options {
                messages_count += messages.len();
            } else if messages.len() > 1 {
                scripts_count += 1;
            }
        }
    }
    // Configurations x packets, and sequences: what the suite promises.
    assert!(messages_count >= 150, "{messages_count} messages");
    assert!(scripts_count >= 100, "{scripts_count} scripts");
}
