//! What the kernel is given, and what it gives back.

use dhcp_ebpf::{
    answer::{self, Fixed, Times},
    frame::Buffer,
    question::{self, Question},
    wire::checksum,
};

use super::super::{
    port::{Arm, Input},
    testing::{GSB, Message, Reading, SERVER, Seen, VISITORS, World, ip, mac},
};
use crate::lease::time::BootTime;

/// The digest the kernel computes of a message that names its address.
pub(super) fn digest(world: &World, message: &Message) -> u64 {
    let requested = message.options.iter().find(|(code, _)| *code == 50);
    let address = requested
        .map_or(message.ciaddr, |(_, address)| std::net::Ipv4Addr::from(<[u8; 4]>::try_from(&address[..]).unwrap()));
    digest_of(world, message, address)
}

/// The digest the kernel computes of a message, given the address of the client's entry.
fn digest_of(world: &World, message: &Message, address: std::net::Ipv4Addr) -> u64 {
    let bytes = message.bytes();
    let question = Question {
        chaddr: message.mac,
        address: address.octets(),
        has_ciaddr: !message.ciaddr.is_unspecified(),
        giaddr: message.giaddr.octets(),
        interface: 2,
        vlan: [0; 2],
    };
    question::digest(&question, &bytes[..], 240, bytes.len() - 240, &world.key).unwrap()
}

/// What the kernel would answer, byte for byte.
pub(super) fn kernel_answer(arm: &Arm, message: &Message, digest: u64, granted: u32) -> Vec<u8> {
    let (_, template) = arm.questions.iter().flatten().find(|(known, _)| *known == digest).expect("a known question");
    let mut reply = message.bytes()[..44].to_vec();
    let len = 44 + template.tail_len as usize;
    reply.resize(len, 0);
    let flags: [u8; 2] = reply[10..12].try_into().unwrap();
    let ciaddr = message.ciaddr.octets();
    let fixed = Fixed { flags, ciaddr, yiaddr: arm.address.octets(), siaddr: template.siaddr };
    let times = Times { lease: granted, renewal: template.renewal_time, rebinding: template.rebinding_time };
    assert_eq!(checksum::fold(u64::from(template.tail_sum)), checksum::fold(checksum::sum(&template.tail)));
    answer::write(&mut Buffer::new(&mut reply, len), 0, &fixed, &template.tail, template.tail_len as usize, &times)
        .unwrap();
    reply
}

#[test]
fn an_address_that_changes_is_taken_from_the_kernel_too() {
    use super::super::port::{Input, Interface, InterfaceIndex};
    let interface = |last: &[u8]| Interface {
        index: InterfaceIndex(2),
        name: "eth0".to_owned(),
        mac: [2, 0, 0, 0, 0, 0xff],
        addresses: last.iter().map(|last| (ip(*last), 24)).collect(),
        is_up: true,
    };
    let other = Interface { index: InterfaceIndex(3), name: "eth1".to_owned(), ..interface(&[]) };
    let mut world = World::new(VISITORS);
    world.join(1);
    world.join(2);
    world.kernel_renews(ip(50), 600);
    world.take_seen();
    world.input(Input::Interfaces(vec![interface(&[1]), other]));
    assert!(world.take_seen().is_empty(), "another interface is nobody's business");
    world.input(Input::Interfaces(vec![interface(&[2])]));
    assert_eq!(world.take_seen(), [Seen::Revoke(vec![ip(50), ip(51)])]);
    assert!(world.armed.is_empty());
    world.pass(300);
    let ack = world.ask(&Message::renew(1, ip(50)));
    assert_eq!(ack.option(54).unwrap(), ip(2).octets());
    assert_eq!(world.armed[&ip(50)].questions[0].as_ref().unwrap().1.server, ip(2).octets());
}

#[test]
fn the_first_renewal_is_foreseen_and_answered_as_the_slow_path_would() {
    for conf in [VISITORS.to_owned(), GSB.to_owned(), format!("option dhcp-renewal-time 200; {VISITORS}")] {
        let mut world = World::new(&conf);
        world.join(1);
        let arm = world.armed[&ip(50)].clone();
        assert_eq!(arm.chaddr, mac(1));
        world.pass(300);
        for message in [Message::renew(1, ip(50)), Message::reboot(1, ip(50))] {
            let known = digest(&world, &message);
            let fast = kernel_answer(&arm, &message, known, 600);
            let slow = world.ask(&message);
            assert_eq!(slow.message.len(), fast.len());
            assert_eq!((slow.lease_time(), &slow.message), (600, &fast));
            world.pass(300);
        }
    }
}

#[test]
fn a_foreseen_renewal_fits_whatever_the_client_pads() {
    let mut world = World::new(VISITORS);
    let select = Message { padded_to: 548, ..Message::select(1, ip(50)) };
    world.ask(&Message::discover(1));
    world.ask(&select);
    for padded_to in [0, 300, 400] {
        let renew = Message { padded_to, ..Message::renew(1, ip(50)) };
        let known = digest(&world, &renew);
        assert!(world.armed[&ip(50)].questions.iter().flatten().any(|(digest, _)| *digest == known));
    }
}

#[test]
fn a_renewal_that_was_not_foreseen_is_learned_and_the_foreseen_one_kept() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    let odd = Message::new(3, 1).with(12, b"new-name").with(55, &[6, 3, 1]).from(ip(50));
    world.ask(&odd);
    let arm = world.armed[&ip(50)].clone();
    let known =
        [odd.clone(), Message::renew(1, ip(50)), Message::reboot(1, ip(50))].map(|message| digest(&world, &message));
    for digest in known {
        assert!(arm.questions.iter().flatten().any(|(known, _)| *known == digest));
    }
    world.pass(300);
    let slow = world.ask(&odd);
    assert_eq!(slow.message, kernel_answer(&arm, &odd, known[0], 600));
}

#[test]
fn the_horizon_is_the_lease_and_a_half_and_journaled_with_it() {
    for conf in [VISITORS, GSB] {
        let mut world = World::new(conf);
        world.join(1);
        assert!(world.journal.contains("tstp 0 2026/11/22 12:15:00;"), "{}", world.journal);
        let horizon = world.armed[&ip(50)].horizon;
        assert_eq!(horizon, BootTime::from_secs(5000 + 900 - 1), "a second less than the record says");
    }
}

#[test]
fn a_kernel_renewal_moves_the_lease_and_the_horizon_ahead_of_it() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    world.take_seen();
    world.take_journal();
    world.syncs = false;
    let renewal = world.kernel_renews(ip(50), 599);
    world.input(Input::Renewed(vec![(ip(50), renewal)]));
    assert_eq!(world.take_seen(), [Seen::Append(2)], "the horizon waits for its record");
    let journal = world.take_journal();
    for line in ["ends 0 2026/11/22 12:14:59;", "tstp 0 2026/11/22 12:20:00;", "cltt 0 2026/11/22 12:05:00;"] {
        assert!(journal.contains(line), "{line} in {journal}");
    }
    world.sync();
    assert_eq!(world.take_seen(), [Seen::Extend(vec![ip(50)])]);
    assert_eq!(world.armed[&ip(50)].horizon, BootTime::from_secs(5000 + 300 + 900 - 1));
    // The same word again moves nothing.
    world.input(Input::Renewed(vec![(ip(50), renewal)]));
    assert!(world.take_seen().is_empty());
}

#[test]
fn a_distant_horizon_stays_and_a_stranger_s_word_changes_nothing() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.take_seen();
    world.pass(100);
    let renewal = world.kernel_renews(ip(50), 600);
    world.input(Input::Renewed(vec![(ip(50), renewal), (ip(99), renewal)]));
    assert!(world.take_seen().is_empty(), "800 seconds are more than a lease and a quarter");
    assert_eq!(world.server.leases().count(), 1);
}

#[test]
fn what_depends_on_more_than_the_question_is_not_armed() {
    for (conf, reason) in [
        (format!("on commit {{ log(info, \"hello\"); }} {VISITORS}"), "depends"),
        (format!("always-broadcast true; {VISITORS}"), "destination"),
        (
            VISITORS
                .replace("default-lease-time 600;", "default-lease-time infinite;")
                .replace("max-lease-time 7200;", "max-lease-time infinite;"),
            "no-promise",
        ),
    ] {
        let mut world = World::new(&conf);
        world.join(1);
        assert!(world.armed.is_empty(), "{reason}");
        let counted = world.status().fast_path.not_armed;
        assert_eq!(counted.iter().find(|(name, _)| *name == reason).unwrap().1, 1, "{counted:?}");
        assert!(!world.journal.contains("tstp"), "{reason}: {}", world.journal);
    }
}

#[test]
fn with_the_fast_path_off_the_same_bytes_go_out_and_nothing_is_armed() {
    let mut fast = World::new(VISITORS);
    let mut slow = World::with(VISITORS, "", |options| options.fast_path = false);
    for world in [&mut fast, &mut slow] {
        world.join(1);
        world.pass(300);
        world.ask(&Message::renew(1, ip(50)));
        world.silent(&Message::release(1, ip(50)));
    }
    assert_eq!(fast.sent, slow.sent);
    assert_eq!(fast.journal, slow.journal);
    assert!(slow.armed.is_empty() && !slow.seen.iter().any(|seen| matches!(seen, Seen::Revoke(_))));
}

#[test]
fn a_relayed_client_s_direct_renewal_is_foreseen() {
    let mut world = World::new(VISITORS);
    let agent = [1, 2, b'p', b'1'];
    let offer = world.ask(&Message::discover(1).with(82, &agent).via(ip(7)));
    world.ask(&Message::select(1, offer.yiaddr()).with(82, &agent).via(ip(7)));
    let renew = Message::renew(1, offer.yiaddr());
    let known = digest(&world, &renew);
    let fast = kernel_answer(&world.armed[&offer.yiaddr()], &renew, known, 600);
    world.pass(300);
    assert_eq!(world.ask(&renew).message, fast);
}

#[test]
fn another_card_of_the_same_identity_is_armed_only_after_the_old_one_is_revoked() {
    let mut world = World::new(VISITORS);
    let id = [1, 2, 3];
    world.ask(&Message::discover(1).with(61, &id));
    world.ask(&Message::select(1, ip(50)).with(61, &id));
    world.take_seen();
    world.ask(&Message::reboot(2, ip(50)).with(61, &id));
    assert_eq!(world.take_seen(), [Seen::Revoke(vec![ip(50)]), Seen::Append(2), Seen::Arm(ip(50)), Seen::Send(5)]);
    assert_eq!(world.armed[&ip(50)].chaddr, mac(2));
}

#[test]
fn a_stop_takes_everything_back_and_writes_what_clients_were_told() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.pass(300);
    world.kernel_renews(ip(50), 600);
    world.take_journal();
    world.input(Input::Stop { leaves_kernel: false });
    assert!(world.armed.is_empty());
    let journal = world.take_journal();
    assert!(journal.contains("ends 0 2026/11/22 12:15:00;"), "{journal}");
    assert!(!journal.contains("tstp"), "{journal}");
    assert!(world.server.is_idle());
    world.pass(100);
    world.ask(&Message::renew(1, ip(50)));
    assert!(world.armed.is_empty(), "nothing is armed any more");
}

#[test]
fn after_a_crash_an_address_is_kept_until_its_horizon() {
    let mut world = World::new(VISITORS);
    world.join(1);
    let leases = world.take_journal();
    let mut world = World::with(VISITORS, &leases, |_| {});
    world.pass(700);
    assert!(world.journal.is_empty(), "the kernel may have promised until the horizon");
    world.pass(203);
    assert!(world.journal.contains("binding state free;"));
}

#[test]
fn the_answer_s_source_is_the_server_identifier() {
    let mut world = World::new(VISITORS);
    world.join(1);
    for (_, template) in world.armed[&ip(50)].questions.iter().flatten() {
        assert_eq!(template.server, SERVER.octets());
        assert_eq!(template.lease_time, 600);
    }
}

#[test]
fn a_client_that_asks_for_its_lease_anew_is_offered_it_by_the_kernel() {
    let mut world = World::new(VISITORS);
    world.join(1);
    let discover = Message::discover(1);
    let known = digest_of(&world, &discover, ip(50));
    assert!(!world.armed[&ip(50)].questions.iter().flatten().any(|(digest, _)| *digest == known));
    world.pass(300);
    let slow = world.ask(&discover);
    let arm = world.armed[&ip(50)].clone();
    let (_, template) = arm.questions.iter().flatten().find(|(digest, _)| *digest == known).unwrap();
    assert_eq!(template.is_offer, 1);
    assert_eq!(kernel_answer(&arm, &discover, known, 600), slow.message);
    for (_, template) in arm.questions.iter().flatten().filter(|(digest, _)| *digest != known) {
        assert_eq!(template.is_offer, 0);
    }
    // A renewal that has to be learned is worth more than an offer; an offer never takes its place.
    let odd = Message::new(3, 1).with(12, b"new-name").with(55, &[6, 3, 1]).from(ip(50));
    world.ask(&odd);
    world.pass(200);
    world.ask(&Message::discover(1).with(60, b"other"));
    let learned = digest(&world, &odd);
    assert!(world.armed[&ip(50)].questions.iter().flatten().any(|(digest, _)| *digest == learned));
}

#[test]
fn an_offer_that_depends_on_secs_or_on_a_partner_is_not_armed() {
    for conf in [format!("min-secs 1; {VISITORS}"), GSB.to_owned()] {
        let mut world = World::new(&conf);
        let hasty = |message: Message| Message { secs: 9, ..message };
        world.ask(&hasty(Message::discover(1)));
        world.ask(&Message::select(1, ip(50)));
        world.pass(300);
        world.ask(&hasty(Message::discover(1)));
        assert!(world.armed[&ip(50)].questions.iter().flatten().all(|(_, template)| template.is_offer == 0));
    }
}

#[test]
fn a_relayed_client_s_reboot_and_rebinding_are_answered_as_the_slow_path_would() {
    let mut world = World::new(VISITORS);
    let agent = [1, 2, b'p', b'1'];
    let relayed = |message: Message| message.with(82, &agent).via(ip(7));
    world.ask(&relayed(Message::discover(1)));
    world.ask(&relayed(Message::select(1, ip(50))));
    let reboot = relayed(Message::reboot(1, ip(50)));
    let known = digest(&world, &reboot);
    let fast = kernel_answer(&world.armed[&ip(50)], &reboot, known, 600);
    world.pass(300);
    assert_eq!(world.ask(&reboot).message, fast);
    let rebind = relayed(Message::renew(1, ip(50)));
    world.pass(300);
    let slow = world.ask(&rebind);
    let known = digest(&world, &rebind);
    assert_eq!(kernel_answer(&world.armed[&ip(50)], &rebind, known, 600), slow.message);
}

#[test]
fn what_the_kernel_knows_already_is_not_told_again() {
    let mut world = World::new(VISITORS);
    world.join(1);
    world.take_seen();
    world.ask(&Message::renew(1, ip(50)));
    assert_eq!(world.take_seen(), [Seen::Send(5)], "foreseen, and nothing has changed");
    world.ask(&Message::discover(1));
    assert_eq!(world.take_seen(), [Seen::Send(2), Seen::Arm(ip(50))]);
    world.ask(&Message::discover(1));
    assert_eq!(world.take_seen(), [Seen::Send(2)]);
}
