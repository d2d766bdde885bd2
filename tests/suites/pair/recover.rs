//! Recoveries, with dhcpd and with another of ours, each with and without the wait for MCLT: whoever has lost its file waits, since it may have
//! promised what nobody knows of; whoever was only away for longer than that does not.

use tests::duo::{Duo, Kind, P, S, Setup};
use tests::lab;
use tests::need;

use crate::act::{dhcpd, each, joins, lease_of, renews, stage};
use crate::isc::{beside, timeline};

const ALONE: &str = "failover peer \"GSB\" state {\n  my state partner-down;\n}\n";

/// Since its normal state began, more than MCLT has passed.
fn grows_old(duo: &mut Duo, mclt: u32) {
    let begun = lab::now();
    duo.wait("more than MCLT in normal", |_| begun.elapsed().as_secs() > u64::from(mclt) + 1);
}

/// States of a side since it was started.
fn states_since(duo: &Duo, side: usize) -> String {
    match duo.sides[side].kind {
        Kind::Ours => timeline(duo, side).join(" "),
        // dhcpd writes its file anew when it starts: the states in it are those since then.
        Kind::Dhcpd => duo.sides[side].file(),
    }
}

fn recoveries(kinds: [Kind; 2], ours: usize) {
    let theirs = 1 - ours;
    let setup = Setup { mclt: 6, ..Setup::default() };
    let [primary, secondary] = setup.configurations();
    let mut duo = Duo::new(kinds, [&primary, &secondary], "off").unwrap();
    duo.sides[P].start().unwrap();
    duo.sides[S].start().unwrap();
    duo.wait_normal();
    let mut kept = joins(&duo, 1, ours);
    let address = lease_of(&kept).address;
    duo.wait_agreed(address, &["active"]);
    // Whole as soon as it is agreed; a first lease that ran out meanwhile begins anew.
    duo.wait("a whole lease", |duo| renews(duo, &mut kept) == 300);

    // It loses its file: it is told everything, and waits; new clients are served by us meanwhile.
    duo.sides[theirs].kill().unwrap();
    duo.sides[theirs].write("dhcpd.leases", "");
    duo.sides[theirs].start().unwrap();
    duo.wait("its wait", |duo| duo.sides[theirs].states().0 == "recover-wait");
    assert_eq!(duo.sides[ours].states().0, "partner-down");
    assert_eq!(duo.sides[theirs].state_of(address), "active", "it has been told before it waits");
    let meanwhile = lease_of(&joins(&duo, 2, ours));
    assert_eq!(meanwhile.secs, 6, "the partner listens: MCLT");
    duo.wait_normal();
    duo.wait_agreed(meanwhile.address, &["active", "free", "backup"]);

    // It was away, and we alone: it has its file, and does not wait.
    grows_old(&mut duo, setup.mclt);
    duo.sides[theirs].kill().unwrap();
    duo.wait("interruption", |duo| duo.sides[ours].states().0 == "communications-interrupted");
    duo.sides[ours].order(&["partner-down"]).unwrap();
    let alone = lease_of(&joins(&duo, 3, ours)).address;
    duo.sides[theirs].start().unwrap();
    duo.wait_normal();
    let states = states_since(&duo, theirs);
    assert!(states.contains("recover ") && states.contains("recover-done"), "{states}");
    assert!(!states.contains("recover-wait"), "{states}");
    duo.wait_agreed(alone, &["active"]);

    // We were away, and it alone: the same for us. A dhcpd in partner-down waits for us for fifteen seconds when it starts.
    if duo.sides[theirs].kind == Kind::Ours {
        grows_old(&mut duo, setup.mclt);
    }
    duo.sides[ours].kill().unwrap();
    duo.wait("interruption", |duo| duo.sides[theirs].states().0 == "communications-interrupted");
    duo.sides[theirs].stop().unwrap();
    let text = format!("{}\n{ALONE}", duo.sides[theirs].file());
    duo.sides[theirs].write("dhcpd.leases", &text);
    duo.sides[theirs].start().unwrap();
    let alone = lease_of(&joins(&duo, 4, theirs)).address;
    duo.sides[ours].start().unwrap();
    duo.wait_normal();
    assert_eq!(timeline(&duo, ours), ["recover", "recover-done", "normal"]);
    duo.wait_agreed(alone, &["active", "free", "backup"]);
    duo.wait_agreed(address, &["active"]);
    assert!(duo.sides[theirs].is_alive(), "it has survived us");
}

#[test]
fn a_primary_of_ours_and_dhcpd_recover_with_and_without_the_wait() {
    need!("pair::recover::primary", dhcpd());
    recoveries(beside(P), P);
}

#[test]
fn a_secondary_of_ours_and_dhcpd_recover_with_and_without_the_wait() {
    need!("pair::recover::secondary", dhcpd());
    recoveries(beside(S), S);
}

#[test]
fn two_of_ours_recover_with_and_without_the_wait() {
    need!("pair::recover::ours", stage());
    each(|ours| recoveries([Kind::Ours, Kind::Ours], ours));
}
