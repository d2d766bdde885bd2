//! **library == program**: the same frames through the loaded object and through the library on a slice give
//! the same verdict, the same bytes and the same effects on the maps; every counter moves by what was expected and
//! no other moves.
//!
//! Needs root and BPF; attaches nothing (BPF_PROG_TEST_RUN).

use std::{net::Ipv4Addr, sync::Arc};

use aya::{TestRun as _, programs::TestRunOptions};
use dhcp_ebpf::{
    abi::{BootSecs, Counter, Entry, Generation, Renewal, Template},
    decide::{self, Verdict},
    frame::Buffer,
};
use dhcp_user::{
    engine::port::{Arm, Token},
    io::{
        clock,
        fastpath::FastPath as _,
        xdp::{Kernel, Wanted},
    },
    lease::time::BootTime,
};
use tests::{
    fastpath::{ADDRESS, CLIENT_MAC, Model, SERVER, SERVER_MAC, digest_behind, key, renewal, template, unicast},
    frames::{self, Envelope, Message},
    need,
};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// The interface that BPF_PROG_TEST_RUN says a frame came in through: loopback of the caller's namespace.
const TEST_RUN_INTERFACE: u32 = 1;

const LAST: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 100);

/// The loaded object and the model beside it, with the same lease armed in both.
struct Stage {
    kernel: Kernel,
    model: Model,
}

impl Stage {
    fn new() -> Result<Self, String> {
        let key = key(0x5eed);
        let mut kernel = Kernel::load(&[(ADDRESS, LAST)], &key, Generation::new(1), Wanted::Generic)
            .map_err(|error| format!("cannot load the XDP program here: {error:#}"))?;
        let now = clock::now();
        kernel.heartbeat(now.boot);
        let mut model = Model::new(now.boot.to_secs().secs(), key);
        model.control.dead_man = BootSecs::new(now.boot.to_secs().secs() + 300);
        Ok(Self { kernel, model })
    }

    /// Revokes, and waits for the grace period.
    fn revoke(&mut self, addresses: &[Ipv4Addr]) -> Vec<(Ipv4Addr, Renewal)> {
        self.kernel.revoke(Token(1), addresses);
        for _ in 0..10_000 {
            if let Some((token, words)) = self.kernel.poll_revoked() {
                assert_eq!(token, Token(1));
                return words;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("no grace period in ten seconds");
    }

    fn now(&self) -> u32 {
        clock::now().boot.to_secs().secs()
    }

    /// Arms `ADDRESS` for the fixture client with one answer, up to `left` seconds from now.
    fn arm(&mut self, message: &Message, template: &Template, left: u32) {
        self.arm_behind(message, [0; 2], template, left);
    }

    /// As [`Stage::arm`], for a client behind VLAN tags.
    fn arm_behind(&mut self, message: &Message, vlan: [u32; 2], template: &Template, left: u32) {
        let digest = digest_behind(message, TEST_RUN_INTERFACE, vlan, &self.model.control.key);
        let horizon = self.now() + left;
        self.kernel.arm(&Arm {
            address: ADDRESS,
            chaddr: CLIENT_MAC,
            peer: 0,
            horizon: BootTime::from_secs(u64::from(horizon)),
            questions: [Some((digest, Arc::new(*template))), None, None],
        });
        self.model.templates.truncate(1);
        self.model.templates.push(*template);
        self.model.arm(Entry {
            generation: self.model.control.generation,
            chaddr: CLIENT_MAC,
            digest: [digest, 0, 0],
            template: [1, 0, 0],
            horizon: BootSecs::new(horizon),
            address: ADDRESS.octets(),
            ..Entry::default()
        });
    }

    /// Runs one frame through both, compares everything, and returns the verdict and the frame as it left.
    ///
    /// The clock may tick between the two runs; then they are repeated.
    fn run(&mut self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        for _ in 0..5 {
            let before = self.now();
            let entry_before = self.kernel.entry(ADDRESS);
            let counters_before = self.kernel.counters();
            let mut out = vec![0; 2048];
            let mut options = TestRunOptions::new();
            options.data_in = Some(frame);
            options.data_out = Some(&mut out);
            let result = self.kernel.program().unwrap().test_run(options).unwrap();
            let counters_after = self.kernel.counters();
            let events = self.kernel.events();
            if self.now() != before {
                continue;
            }
            out.truncate(result.data_size_out as usize);

            self.model.now.set(before);
            *self.model.counters.borrow_mut() = [0; Counter::COUNT];
            self.model.events.borrow_mut().clear();
            let mut room = vec![0; 2048];
            room[..frame.len()].copy_from_slice(frame);
            let mut buffer = Buffer::new(&mut room, frame.len());
            let verdict = decide::answer_in_place(&mut buffer, &self.model);
            let expected = buffer.bytes().to_vec();

            let code = match verdict {
                Verdict::Transmit => XDP_TX,
                Verdict::Pass(_) => XDP_PASS,
                Verdict::Drop(_) => XDP_DROP,
            };
            assert_eq!(result.return_value, code, "the program's verdict; the library says {verdict:?}");
            assert_eq!(out, expected, "the program's bytes; the library's verdict is {verdict:?}");
            if let Verdict::Pass(_) = verdict {
                assert_eq!(out, frame, "a passed frame is untouched (I5)");
            }

            let mut counters_expected = *self.model.counters.borrow();
            match verdict {
                Verdict::Transmit => counters_expected[Counter::Answered as usize] += 1,
                Verdict::Pass(reason) | Verdict::Drop(reason) => counters_expected[reason as usize] += 1,
            }
            for counter in Counter::ALL {
                let moved = counters_after[counter as usize] - counters_before[counter as usize];
                assert_eq!(moved, counters_expected[counter as usize], "counter {}", counter.name());
            }

            let of_model = self.model.entries.borrow()[usize::from(ADDRESS.octets()[3])].renewal;
            match verdict {
                Verdict::Transmit => {
                    assert_eq!(self.kernel.entry(ADDRESS).unwrap().renewal, of_model, "what was granted");
                    let is_event_due = !self.model.events.borrow().is_empty();
                    if is_event_due && entry_before.is_none_or(|entry| entry.renewal != of_model) {
                        assert_eq!(events, [(ADDRESS, of_model)], "the event");
                    }
                }
                Verdict::Pass(_) | Verdict::Drop(_) => {
                    assert_eq!(self.kernel.entry(ADDRESS), entry_before, "a passed frame changes no entry");
                }
            }
            return (verdict, out);
        }
        panic!("the clock ticked during five runs in a row");
    }
}

fn plain() -> Template {
    template(
        600,
        0,
        0,
        &[(1, &[255, 255, 255, 0]), (3, &[192, 168, 150, 1]), (6, &[172, 16, 0, 10]), (15, b"gsb.local")],
    )
}

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

/// Every reason for which a frame passes up, each reached by a frame that differs from an answered one by a
/// single thing.
#[test]
fn every_reason_is_reached_and_leaves_the_frame_untouched() {
    let mut stage = need!("kernel::reasons", Stage::new());
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    let good = unicast(&message);
    let armed = |stage: &mut Stage| stage.arm(&message, &plain(), 900);
    let changed = |edit: &dyn Fn(&mut Message)| {
        let mut message = message.clone();
        edit(&mut message);
        unicast(&message)
    };
    let enveloped = |edit: &dyn Fn(&mut Envelope)| {
        let mut envelope = Envelope::unicast(CLIENT_MAC, ADDRESS, SERVER_MAC, SERVER);
        edit(&mut envelope);
        envelope.wrap(&message.bytes())
    };
    let poked = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        frame
    };

    armed(&mut stage);
    assert_eq!(stage.run(&good).0, Verdict::Transmit, "the frame that all others differ from");

    let mut arp = good.clone();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut cookie = good.clone();
    cookie[42 + 236] = 98;
    let stranger = Envelope::broadcast([2, 9, 9, 9, 9, 9]).wrap(&Message::request(1, [2, 9, 9, 9, 9, 9], 1).bytes());
    let cases: Vec<(&str, Vec<u8>, Counter)> = vec![
        ("ARP", arp, Counter::NotIpv4),
        ("a VLAN tag", enveloped(&|envelope| envelope.tags = vec![(frames::VLAN, 5)]), Counter::OtherQuestion),
        ("three tags", enveloped(&|envelope| envelope.tags = vec![(frames::VLAN, 5); 3]), Counter::Tagged),
        ("TCP", poked(14 + 9, 6), Counter::NotDhcp),
        ("another port", enveloped(&|envelope| envelope.to.1 = 68), Counter::NotDhcp),
        ("a first fragment", enveloped(&|envelope| envelope.fragment = 0x2000), Counter::Fragment),
        ("a later fragment", enveloped(&|envelope| envelope.fragment = 0x0003), Counter::Fragment),
        ("IP options", enveloped(&|envelope| envelope.ip_options = vec![1, 1, 1, 0]), Counter::IpOptions),
        ("IP length past the frame", poked(14 + 2, 0x7f), Counter::Length),
        ("UDP length unlike the IP length", poked(14 + 20 + 5, 1), Counter::Length),
        ("a server's message", poked(42, 2), Counter::NotRequest),
        ("hlen 16", poked(42 + 2, 16), Counter::Hardware),
        ("hlen 255", poked(42 + 2, 255), Counter::Hardware),
        ("htype 6", poked(42 + 1, 6), Counter::Hardware),
        ("a bad cookie", cookie, Counter::Cookie),
        (
            "no address, from somewhere",
            changed(&|message| message.ciaddr = Ipv4Addr::UNSPECIFIED),
            Counter::OtherQuestion,
        ),
        ("no address, from a stranger", stranger, Counter::NoAddress),
        ("giaddr set", changed(&|message| message.giaddr = Ipv4Addr::new(10, 0, 0, 1)), Counter::OtherQuestion),
        ("too many options", changed(&|message| message.padded_to = 240 + 385), Counter::LongOptions),
        ("an address out of range", changed(&|message| message.ciaddr = Ipv4Addr::new(10, 9, 8, 7)), Counter::NoEntry),
        ("an address nobody has", changed(&|message| message.ciaddr = LAST), Counter::NoEntry),
        ("another client", changed(&|message| message.chaddr[5] ^= 1), Counter::OtherClient),
        ("another question", changed(&|message| message.options[1].1[1] ^= 1), Counter::OtherQuestion),
        (
            "another server",
            enveloped(&|envelope| envelope.to.0 = Ipv4Addr::new(192, 168, 150, 2)),
            Counter::OtherServer,
        ),
        ("another source", enveloped(&|envelope| envelope.from.0 = LAST), Counter::OtherSource),
    ];
    let mut reached: Vec<Counter> = Vec::new();
    for (name, frame, reason) in cases {
        assert_eq!(stage.run(&frame).0, Verdict::Pass(reason), "{name}");
        reached.push(reason);
    }

    stage.revoke(&[ADDRESS]);
    stage.model.entries.borrow_mut()[50].generation = Generation::new(0);
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::NotArmed));
    reached.push(Counter::NotArmed);

    armed(&mut stage);
    stage.kernel.serving(0, false);
    stage.model.control.serving[0] = 0;
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::NotServing));
    stage.kernel.serving(0, true);
    stage.model.control.serving[0] = 1;
    reached.push(Counter::NotServing);

    stage.kernel.heartbeat(BootTime::from_secs(0));
    stage.model.control.dead_man = BootSecs::new(300);
    let is_past = stage.now() >= 300;
    let verdict = stage.run(&good).0;
    assert_eq!(verdict, if is_past { Verdict::Pass(Counter::DeadMan) } else { Verdict::Transmit });
    reached.push(Counter::DeadMan);
    stage.kernel.heartbeat(clock::now().boot);
    stage.model.control.dead_man = BootSecs::new(stage.now() + 300);

    stage.arm(&message, &plain(), 100);
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::Horizon));
    reached.push(Counter::Horizon);

    armed(&mut stage);
    stage.kernel.new_generation(Generation::new(2));
    stage.model.control.generation = Generation::new(2);
    stage.model.entries.borrow_mut()[50] = Entry::default();
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::NoEntry), "a new generation disarms everything");

    stage.kernel.detach();
    stage.model.control.enabled = 0;
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::Off));
    reached.push(Counter::Off);

    // These have tests of their own; the kernel never refuses to resize here, so Resize is the library's alone.
    let not_here = [Counter::Answered, Counter::HorizonAsked, Counter::EventLost, Counter::Resize];
    for counter in Counter::ALL {
        assert!(reached.contains(&counter) || not_here.contains(&counter), "no frame reaches {}", counter.name());
    }
}

#[test]
fn a_frame_that_cannot_get_the_replys_length_passes_up_untouched_and_promises_nothing() {
    let key = key(3);
    let message = renewal(CLIENT_MAC, ADDRESS, 1);
    let mut model = Model::new(1000, key);
    model.templates.push(template(600, 0, 0, &[(43, &[7; 200])]));
    model.arm(Entry {
        generation: model.control.generation,
        chaddr: CLIENT_MAC,
        digest: [digest_behind(&message, TEST_RUN_INTERFACE, [0; 2], &key), 0, 0],
        template: [1, 0, 0],
        horizon: BootSecs::new(1900),
        address: ADDRESS.octets(),
        ..Entry::default()
    });
    let frame = unicast(&message);
    let mut room = frame.clone();
    let len = room.len();
    let mut buffer = Buffer::new(&mut room, len);
    assert_eq!(decide::answer_in_place(&mut buffer, &model), Verdict::Pass(Counter::Resize));
    assert_eq!(buffer.bytes(), frame);
    assert_eq!(model.entries.borrow()[usize::from(ADDRESS.octets()[3])].renewal, Renewal::default());
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
}
