//! **library == program**: the same frames through the loaded object and through the library on a slice give
//! the same verdict, the same bytes and the same effects on the maps; every counter moves by what was expected and
//! no other moves.
//!
//! Needs root and BPF; attaches nothing (BPF_PROG_TEST_RUN).

#[path = "kernel/reasons.rs"]
mod reasons;
#[path = "kernel/shield.rs"]
mod shield;
#[path = "kernel/stage.rs"]
mod stage;
#[path = "kernel/wake.rs"]
mod wake;

use std::net::Ipv4Addr;

use aya::{TestRun as _, programs::TestRunOptions};
use dhcp_ebpf::{
    abi::{Counter, Generation, Renewal, Template},
    decide::Verdict,
};
use dhcp_user::{engine::port::Token, io::fastpath::FastPath as _};
use tests::{
    fastpath::{ADDRESS, CLIENT_MAC, SERVER, SERVER_MAC, renewal, template, unicast},
    frames::{self, Envelope},
    need,
};

use crate::stage::{LAST, Stage, XDP_TX, plain};

#[test]
fn an_armed_renewal_is_answered_with_right_sums_and_the_full_lease() {
    let mut stage = need!("kernel::answer", Stage::new());
    for (renewal_time, rebinding_time) in [(0, 0), (300, 0), (0, 525), (300, 525)] {
        let message = renewal(CLIENT_MAC, ADDRESS, 0x1020_3040);
        stage.arm(&message, &template(600, renewal_time, rebinding_time, &[(1, &[255, 255, 255, 0])]), 900);
        let (verdict, out) = stage.run(&unicast(&message));
        assert_eq!(verdict, Verdict::Transmit);
        let reply = frames::open(&out).unwrap();
        assert!(reply.is_ip_sum_right && reply.is_udp_sum_right && reply.udp_sum != 0);
        assert_eq!((reply.from, reply.to), ((SERVER, 67), (ADDRESS, 68)));
        assert_eq!((reply.to_mac, reply.from_mac), (CLIENT_MAC, SERVER_MAC));
        assert_eq!(reply.payload.len(), 300);
        assert_eq!(&reply.payload[4..8], &0x1020_3040_u32.to_be_bytes());
        assert_eq!(&reply.payload[240..250], &[53, 1, 5, 54, 4, 192, 168, 150, 1, 51]);
        assert_eq!(&reply.payload[251..255], &600_u32.to_be_bytes());
    }
}

#[test]
fn a_tagged_client_is_answered_behind_the_same_tags() {
    let mut stage = need!("kernel::tags", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    let cases = [
        (vec![(frames::VLAN, 0x2005)], [0x8100_2005, 0]),
        (vec![(frames::QINQ, 0x0064)], [0x88a8_0064, 0]),
        (vec![(frames::QINQ, 0x0064), (frames::VLAN, 0x0007)], [0x88a8_0064, 0x8100_0007]),
        (vec![(frames::VLAN, 0x0064), (frames::VLAN, 0x0007)], [0x8100_0064, 0x8100_0007]),
    ];
    for (tags, vlan) in cases {
        stage.arm_behind(&message, vlan, &plain(), 900);
        let mut envelope = Envelope::unicast(CLIENT_MAC, ADDRESS, SERVER_MAC, SERVER);
        envelope.tags.clone_from(&tags);
        let (verdict, out) = stage.run(&envelope.wrap(&message.bytes()));
        assert_eq!(verdict, Verdict::Transmit, "{tags:?}");
        let reply = frames::open(&out).unwrap();
        assert_eq!(reply.tags, tags);
        assert!(reply.is_ip_sum_right && reply.is_udp_sum_right);
        // The same client behind other tags, or none, asks another question.
        envelope.tags[0].1 ^= 1;
        assert_eq!(stage.run(&envelope.wrap(&message.bytes())).0, Verdict::Pass(Counter::OtherQuestion));
        assert_eq!(stage.run(&unicast(&message)).0, Verdict::Pass(Counter::OtherQuestion));
    }
}

#[test]
fn a_rebinding_client_is_answered_from_the_servers_own_address() {
    let mut stage = need!("kernel::rebinding", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    stage.arm(&message, &plain(), 900);
    let mut envelope = Envelope::broadcast(CLIENT_MAC);
    envelope.from.0 = ADDRESS;
    let (verdict, out) = stage.run(&envelope.wrap(&message.bytes()));
    assert_eq!(verdict, Verdict::Transmit);
    let reply = frames::open(&out).unwrap();
    assert_eq!((reply.to_mac, reply.from_mac), (CLIENT_MAC, SERVER_MAC));
    assert_eq!((reply.from, reply.to), ((SERVER, 67), (ADDRESS, 68)));
    assert_eq!((reply.tos, reply.ttl), (0, 64));
}

#[test]
fn a_rebooting_client_is_found_by_its_hardware_address_and_answered_raw() {
    let mut stage = need!("kernel::reboot", Stage::new());
    let mut message = renewal(CLIENT_MAC, ADDRESS, 1).with(50, ADDRESS.octets());
    message.ciaddr = Ipv4Addr::UNSPECIFIED;
    let relay = Ipv4Addr::new(10, 79, 0, 1);
    for (flags, giaddr) in [(0, Ipv4Addr::UNSPECIFIED), (0x8000, Ipv4Addr::UNSPECIFIED), (0, relay)] {
        (message.flags, message.giaddr) = (flags, giaddr);
        stage.arm(&message, &plain(), 900);
        let (verdict, out) = stage.run(&Envelope::broadcast(CLIENT_MAC).wrap(&message.bytes()));
        if giaddr == relay {
            assert_eq!(verdict, Verdict::Transmit);
            assert_eq!(frames::open(&out).unwrap().to, (relay, 67));
            continue;
        }
        assert_eq!(verdict, Verdict::Transmit);
        let reply = frames::open(&out).unwrap();
        assert!(reply.is_ip_sum_right && reply.is_udp_sum_right);
        assert_eq!((reply.tos, reply.ttl, reply.from), (0x10, 128, (SERVER, 67)));
        assert_eq!(&reply.payload[12..16], &[0; 4], "ciaddr is copied");
        assert_eq!(&reply.payload[16..20], &ADDRESS.octets(), "yiaddr is the leased address");
        let to = if flags == 0 { (CLIENT_MAC, (ADDRESS, 68)) } else { (frames::BROADCAST, (Ipv4Addr::BROADCAST, 68)) };
        assert_eq!((reply.to_mac, reply.to), to);
        assert_eq!(reply.from_mac, SERVER_MAC);
    }
    // Another address in option 50 is another question.
    message.options.last_mut().unwrap().1[3] ^= 1;
    let verdict = stage.run(&Envelope::broadcast(CLIENT_MAC).wrap(&message.bytes())).0;
    assert_eq!(verdict, Verdict::Pass(Counter::OtherQuestion));
}

#[test]
fn an_offer_promises_nothing() {
    let mut stage = need!("kernel::offer", Stage::new());
    let mut message = renewal(CLIENT_MAC, ADDRESS, 1);
    message.ciaddr = Ipv4Addr::UNSPECIFIED;
    message.options[0].1 = vec![1];
    let mut offer = plain();
    offer.tail[192 + 4 + 2] = 2;
    offer.tail_sum = dhcp_ebpf::wire::checksum::sum(&offer.tail) as u32;
    offer.is_offer = 1;
    stage.arm(&message, &offer, 700);
    let before = stage.kernel.entry(ADDRESS).unwrap().renewal;
    let (verdict, out) = stage.run(&Envelope::broadcast(CLIENT_MAC).wrap(&message.bytes()));
    assert_eq!(verdict, Verdict::Transmit);
    let reply = frames::open(&out).unwrap();
    assert!(reply.is_udp_sum_right);
    assert_eq!(&reply.payload[240..243], &[53, 1, 2]);
    assert_eq!(stage.kernel.entry(ADDRESS).unwrap().renewal, before, "nothing was promised");
    assert_eq!(stage.kernel.scan(), []);
}

#[test]
fn the_broadcast_flag_brings_a_raw_broadcast() {
    let mut stage = need!("kernel::broadcast-flag", Stage::new());
    let mut message = renewal(CLIENT_MAC, ADDRESS, 1);
    message.flags = 0x8000;
    stage.arm(&message, &plain(), 900);
    let (verdict, out) = stage.run(&unicast(&message));
    assert_eq!(verdict, Verdict::Transmit);
    let reply = frames::open(&out).unwrap();
    assert_eq!((reply.to_mac, reply.from_mac), (frames::BROADCAST, SERVER_MAC));
    assert_eq!((reply.from, reply.to), ((SERVER, 67), (Ipv4Addr::BROADCAST, 68)));
    assert_eq!((reply.tos, reply.ttl), (0x10, 128));
    assert_eq!(reply.payload[10], 0x80);
    assert!(reply.is_ip_sum_right && reply.is_udp_sum_right);

    // Behind a router there is nobody to hear a broadcast.
    stage.arm(&message, &Template { is_routed: 1, ..plain() }, 900);
    let (verdict, out) = stage.run(&unicast(&message));
    assert_eq!(verdict, Verdict::Transmit);
    let reply = frames::open(&out).unwrap();
    assert_eq!((reply.to_mac, reply.to, reply.ttl), (CLIENT_MAC, (ADDRESS, 68), 64));
}

#[test]
fn a_relayed_renewal_is_answered_to_the_relay() {
    let mut stage = need!("kernel::relay", Stage::new());
    let relay = Ipv4Addr::new(10, 79, 0, 1);
    let relay_mac = [0x02, 0, 0, 0, 0, 0x99];
    let mut message = renewal(CLIENT_MAC, ADDRESS, 1).with(82, [1, 2, b'c', b'0']);
    message.giaddr = relay;
    message.hops = 1;
    stage.arm(&message, &template(600, 0, 0, &[(1, &[255, 255, 255, 0]), (82, &[1, 2, b'c', b'0'])]), 900);
    let envelope = Envelope::relayed(relay_mac, Ipv4Addr::new(10, 78, 0, 2), SERVER_MAC, SERVER);
    let (verdict, out) = stage.run(&envelope.wrap(&message.bytes()));
    assert_eq!(verdict, Verdict::Transmit);
    let reply = frames::open(&out).unwrap();
    assert_eq!((reply.from, reply.to), ((SERVER, 67), (relay, 67)));
    assert_eq!(reply.to_mac, relay_mac);
    assert_eq!(reply.payload[3], 1, "hops are copied");
    assert!(reply.is_ip_sum_right && reply.is_udp_sum_right);
}

#[test]
fn a_reply_longer_or_shorter_than_its_request_leaves_with_its_own_length() {
    let mut stage = need!("kernel::length", Stage::new());
    let long = [7_u8; 200];
    for padded_to in [0, 240, 300, 500, 576] {
        let mut message = renewal(CLIENT_MAC, ADDRESS, 1);
        message.padded_to = padded_to;
        for options in [vec![(43_u8, &long[..])], vec![]] {
            let template = template(600, 0, 0, &options);
            stage.arm(&message, &template, 900);
            let (verdict, out) = stage.run(&unicast(&message));
            assert_eq!(verdict, Verdict::Transmit, "padded to {padded_to}");
            assert_eq!(out.len(), 42 + 44 + template.tail_len as usize);
            let reply = frames::open(&out).unwrap();
            assert!(reply.is_ip_sum_right && reply.is_udp_sum_right);
        }
    }
}

#[test]
fn a_grant_ends_at_the_horizon_and_half_a_lease_is_the_least() {
    let mut stage = need!("kernel::horizon", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    for (left, granted) in [(900, Some(600)), (600, Some(600)), (400, Some(400)), (299, None), (0, None)] {
        stage.arm(&message, &plain(), left);
        let armed_at = stage.now();
        let (verdict, out) = stage.run(&unicast(&message));
        let elapsed = stage.now() - armed_at;
        match granted {
            Some(granted) => {
                assert_eq!(verdict, Verdict::Transmit, "{left} s left");
                let lease = u32::from_be_bytes(*frames::open(&out).unwrap().payload[251..].first_chunk().unwrap());
                assert!(lease <= granted && lease + elapsed >= granted, "{left} s left: granted {lease}");
            }
            None => assert_eq!(verdict, Verdict::Pass(Counter::Horizon), "{left} s left"),
        }
    }
}

#[test]
fn a_lease_not_longer_than_its_renewal_times_is_not_granted() {
    let mut stage = need!("kernel::renewal-times", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    stage.arm(&message, &template(600, 300, 525, &[]), 500);
    assert_eq!(stage.run(&unicast(&message)).0, Verdict::Pass(Counter::Horizon));
}

#[test]
fn a_near_horizon_is_reported_once_per_renewal_and_the_scan_finds_the_rest() {
    let mut stage = need!("kernel::event", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    stage.arm(&message, &plain(), 700);
    assert_eq!(stage.run(&unicast(&message)).0, Verdict::Transmit);
    assert_eq!(stage.model.events.borrow().len(), 1);
    // What the event said is not said again by the scan.
    assert_eq!(stage.kernel.scan(), []);

    stage.arm(&message, &plain(), 900);
    let mut other = message.clone();
    other.xid = 2;
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(stage.run(&unicast(&other)).0, Verdict::Transmit);
    assert_eq!(stage.model.events.borrow().len(), 0);
    let found = stage.kernel.scan();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, ADDRESS);
    assert_eq!(found[0].1.until.secs() - found[0].1.at.secs(), 600);
}

#[test]
fn a_frame_cut_anywhere_passes_up_untouched() {
    let mut stage = need!("kernel::cut", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    stage.arm(&message, &plain(), 900);
    let good = unicast(&message);
    // BPF_PROG_TEST_RUN wants a whole Ethernet header.
    for cut in 14..good.len() {
        assert!(matches!(stage.run(&good[..cut]).0, Verdict::Pass(_)), "cut at {cut}");
    }
}

#[test]
fn a_revocation_reports_what_the_kernel_granted_and_nothing_older() {
    let mut stage = need!("kernel::revoke", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    stage.arm(&message, &plain(), 900);
    assert_eq!(stage.run(&unicast(&message)).0, Verdict::Transmit);
    let granted = stage.kernel.entry(ADDRESS).unwrap().renewal;
    assert_eq!(granted.until.secs() - granted.at.secs(), 600);
    assert_eq!(stage.revoke(&[ADDRESS, LAST]), [(ADDRESS, granted), (LAST, Renewal::default())]);
    // The next holder of the address is not charged with the last one's promise.
    stage.arm(&message, &plain(), 900);
    assert_eq!(stage.revoke(&[ADDRESS]), [(ADDRESS, Renewal::default())]);
}

#[test]
fn a_full_event_ring_loses_nothing() {
    let mut stage = need!("kernel::ring", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    stage.arm(&message, &plain(), 700);
    let before = stage.kernel.counters();
    assert!(!stage.kernel.has_lost_events());
    let frame = unicast(&message);
    let mut out = vec![0; 2048];
    // 12 bytes and an 8-byte header, rounded up: 24 bytes an event in 256 KiB.
    for _ in 0..12_000 {
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.data_out = Some(&mut out);
        assert_eq!(stage.kernel.program().unwrap().test_run(options).unwrap().return_value, XDP_TX);
    }
    let after = stage.kernel.counters();
    let moved = |counter: Counter| after[counter as usize] - before[counter as usize];
    assert_eq!(moved(Counter::Answered), 12_000);
    assert_eq!(moved(Counter::HorizonAsked), 12_000);
    assert!(moved(Counter::EventLost) > 0, "the ring was never full");
    let found = stage.kernel.scan();
    assert_eq!(found.len(), 1, "the scan finds what the lost events would have said");
    assert!(!stage.kernel.has_lost_events(), "nobody has read the ring");
    assert_eq!(stage.kernel.events(), [], "the scan has told it");
    assert!(stage.kernel.has_lost_events() && !stage.kernel.has_lost_events(), "that is said once");
    // What is left in the ring is read; nothing more was lost.
    for _ in 0..3 {
        assert_eq!(stage.kernel.events(), []);
    }
    assert!(!stage.kernel.has_lost_events());
}

#[test]
fn entries_of_another_generation_stand_as_they_were_and_say_nothing() {
    let mut stage = need!("kernel::generation", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    let good = unicast(&message);
    stage.arm(&message, &plain(), 900);
    assert_eq!(stage.run(&good).0, Verdict::Transmit);
    let granted = stage.kernel.entry(ADDRESS).unwrap().renewal;
    stage.kernel.new_generation(Token(1), Generation::new(2), &[(ADDRESS, LAST)]);
    // What is revoked meanwhile comes after it, and what would be armed is not.
    stage.kernel.revoke(Token(2), &[ADDRESS]);
    assert_eq!(stage.wait_for_grace(), [(ADDRESS, granted)]);
    assert_eq!(stage.wait_for(Token(2)), [(ADDRESS, Renewal::default())]);
    stage.model.control.generation = Generation::new(2);
    assert_eq!(stage.kernel.entry(ADDRESS).unwrap().chaddr, CLIENT_MAC);
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::NotArmed));
    assert_eq!((stage.kernel.holds(), stage.kernel.scan(), stage.kernel.renewal(ADDRESS)), ((0, 0), Vec::new(), None));
    // It is written over, with an answer whose number the old one had.
    let other = template(700, 0, 0, &[(15, b"elsewhere.example")]);
    stage.arm(&message, &other, 900);
    assert_eq!(stage.kernel.holds(), (1, 1));
    assert_eq!(stage.run(&good).0, Verdict::Transmit);
    let granted = stage.kernel.entry(ADDRESS).unwrap().renewal;
    assert_eq!(stage.revoke(&[ADDRESS]), [(ADDRESS, granted)]);
    assert_eq!(stage.kernel.holds(), (0, 0), "nobody uses the answer");
}

#[test]
fn another_generation_brings_the_last_words_and_moves_the_places() {
    let mut stage = need!("kernel::generation", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    let good = unicast(&message);
    stage.arm(&message, &plain(), 900);
    let before = stage.now();
    assert_eq!(stage.run(&good).0, Verdict::Transmit);
    let elsewhere = Ipv4Addr::new(10, 0, 0, 0);
    stage.kernel.new_generation(Token(1), Generation::new(2), &[(elsewhere, Ipv4Addr::new(10, 0, 3, 255))]);
    let words = stage.wait_for_grace();
    let [(address, renewal)] = words[..] else { panic!("{words:?}") };
    assert_eq!(address, ADDRESS);
    assert!(renewal.at.secs() >= before && renewal.until.secs() == renewal.at.secs() + 600, "{renewal:?}");
    assert_eq!(stage.kernel.holds(), (0, 0));
    assert!(stage.kernel.entry(ADDRESS).is_none(), "its block belongs to others");
    for address in [elsewhere, Ipv4Addr::new(10, 0, 3, 255)] {
        assert!(stage.kernel.entry(address).is_some(), "{address}");
    }
    // And back again: armed under the new generation it answers as before.
    stage.kernel.new_generation(Token(1), Generation::new(3), &[(ADDRESS, LAST)]);
    assert_eq!(stage.wait_for_grace(), []);
    stage.model.control.generation = Generation::new(3);
    stage.arm(&message, &plain(), 900);
    assert_eq!(stage.run(&good).0, Verdict::Transmit);
}

#[test]
fn what_both_failover_partners_hear_is_answered_by_one_of_them() {
    let mut stage = need!("kernel::bucket", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    let mut rebinding = Envelope::broadcast(CLIENT_MAC);
    rebinding.from.0 = ADDRESS;
    let rebinding = rebinding.wrap(&message.bytes());
    stage.kernel.serving(2, true);
    stage.model.control.serving[2] = 1;
    for (bucket, is_ours) in [(0, true), (127, true), (128, false), (255, false)] {
        let mut buckets = [0; 32];
        buckets[..16].fill(0xff);
        stage.kernel.balance(2, &buckets);
        stage.model.control.buckets[2] = buckets;
        stage.arm_for((2, bucket), &message, [0; 2], &plain(), 900);
        let expected = if is_ours { Verdict::Transmit } else { Verdict::Pass(Counter::OtherBucket) };
        assert_eq!(stage.run(&rebinding).0, expected, "bucket {bucket}");
        // A renewal goes to one server, and that is the one to answer it.
        assert_eq!(stage.run(&unicast(&message)).0, Verdict::Transmit, "bucket {bucket}");
        // A pool without a partner has no buckets.
        stage.arm_for((0, bucket), &message, [0; 2], &plain(), 900);
        assert_eq!(stage.run(&rebinding).0, Verdict::Transmit, "bucket {bucket}");
    }
    // A peer's state switches its own pools only.
    stage.arm_for((2, 0), &message, [0; 2], &plain(), 900);
    for (peer, expected) in [(3, Verdict::Transmit), (2, Verdict::Pass(Counter::NotServing))] {
        stage.kernel.serving(peer, false);
        stage.model.control.serving[usize::from(peer)] = 0;
        assert_eq!(stage.run(&unicast(&message)).0, expected, "peer {peer} is switched off");
    }
}

/// Instructions that the kernel's verifier may walk before it takes the program: a third of its limit of a million.
/// Other kernels walk other numbers (`cargo xtask oldest` asks the oldest).
const VERIFIED_MAX: u32 = 350_000;

#[test]
fn the_verifiers_work_stays_within_its_budget() {
    let mut stage = need!("kernel::verifier", Stage::new());
    let info = stage.kernel.program().unwrap().info().unwrap();
    // Kernels before 5.16 do not say.
    let walked = need!(
        "kernel::verifier",
        info.verified_instruction_count().ok_or_else(|| String::from("the kernel does not say"))
    );
    assert!(walked > 0 && walked <= VERIFIED_MAX, "the verifier walks {walked} instructions, {VERIFIED_MAX} at most");
    eprintln!("the verifier walked {walked} instructions");
}
