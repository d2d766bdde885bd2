//! Every reason of every counter, each reached by a frame that differs from an answered one by a single thing.

use std::net::Ipv4Addr;

use aya::{TestRun as _, programs::TestRunOptions};
use dhcp_ebpf::{
    abi::{BootSecs, Counter, Entry, Generation, Renewal, ShieldMode},
    decide::{self, Verdict},
    frame::Buffer,
};
use dhcp_user::{
    engine::port::Token,
    io::{clock, fastpath::FastPath as _},
    lease::time::BootTime,
};
use tests::{
    fastpath::{ADDRESS, CLIENT_MAC, Model, SERVER, SERVER_MAC, digest_behind, key, renewal, template, unicast},
    frames::{self, Envelope, Message},
    need,
};

use crate::stage::{LAST, Stage, TEST_RUN_INTERFACE, XDP_TX, plain};

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
    for (name, frame, reason) in cases {
        assert_eq!(stage.run(&frame).0, Verdict::Pass(reason), "{name}");
    }

    stage.revoke(&[ADDRESS]);
    stage.model.entries.borrow_mut()[50].generation = Generation::new(0);
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::NotArmed));

    armed(&mut stage);
    stage.kernel.serving(0, false);
    stage.model.control.serving[0] = 0;
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::NotServing));
    stage.kernel.serving(0, true);
    stage.model.control.serving[0] = 1;

    stage.kernel.heartbeat(BootTime::from_secs(0));
    stage.model.control.dead_man = BootSecs::new(300);
    let is_past = stage.now() >= 300;
    let verdict = stage.run(&good).0;
    assert_eq!(verdict, if is_past { Verdict::Pass(Counter::DeadMan) } else { Verdict::Transmit });
    stage.kernel.heartbeat(clock::now().boot);
    stage.model.control.dead_man = BootSecs::new(stage.now() + 300);

    stage.kernel.set_shadow(1);
    stage.model.control.shadow = u32::MAX;
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::Sampled));
    stage.kernel.set_shadow(0);
    stage.model.control.shadow = 0;

    stage.arm(&message, &plain(), 100);
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::Horizon));

    stage.arm(&message, &plain(), 700);
    fill_the_ring(&mut stage, &good);

    let broadcast = |message: &Message| {
        let mut envelope = Envelope::broadcast(CLIENT_MAC);
        envelope.from.0 = message.ciaddr;
        envelope.wrap(&message.bytes())
    };
    stage.kernel.serving(1, true);
    stage.model.control.serving[1] = 1;
    stage.arm_for((1, 200), &message, [0; 2], &plain(), 900);
    stage.kernel.balance(1, &[0; 32]);
    stage.model.control.buckets[1] = [0; 32];
    assert_eq!(stage.run(&broadcast(&message)).0, Verdict::Pass(Counter::OtherBucket));

    let discover = Message::request(1, [2, 9, 9, 9, 9, 9], 1);
    let mut short = Envelope::broadcast(CLIENT_MAC).wrap(&discover.bytes()[..235]);
    short.resize(300, 0);
    let spoofed = Envelope { from: (LAST, 67), to: (ADDRESS, 68), ..Envelope::broadcast([2, 7, 7, 7, 7, 7]) }
        .wrap(&Message { op: 2, ..discover.clone() }.bytes());
    let flood = Envelope::broadcast([2, 9, 9, 9, 9, 9]).wrap(&discover.bytes());
    for mode in [ShieldMode::Monitor, ShieldMode::Enforce] {
        stage.guard(mode, 1, 1, true);
        for frame in [&short, &spoofed, &flood, &flood, &flood] {
            // Whatever second it is: three DISCOVERs in a row are more than one a second.
            let _ = stage.try_run(frame);
        }
    }
    stage.guard(ShieldMode::Off, 1, 1, true);

    armed(&mut stage);
    stage.kernel.new_generation(Token(1), Generation::new(2), &[(ADDRESS, LAST)]);
    stage.model.control.generation = Generation::new(2);
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::NotArmed), "a new generation disarms everything at once");
    stage.wait_for_grace();
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::NotArmed), "and what it left stands and says nothing");

    stage.kernel.detach();
    stage.model.control.enabled = 0;
    assert_eq!(stage.run(&good).0, Verdict::Pass(Counter::Off));

    let mut reached = stage.reached;
    reached.insert(refused_resize());
    if !is_past {
        // The machine is younger than the shortest dead-man limit.
        reached.insert(Counter::DeadMan);
    }
    for counter in Counter::ALL {
        assert!(reached.contains(&counter), "no frame reaches {}", counter.name());
    }
}

/// Answers from a near horizon until the event ring is full.
fn fill_the_ring(stage: &mut Stage, frame: &[u8]) {
    assert_eq!(stage.run(frame).0, Verdict::Transmit);
    let before = stage.kernel.counters();
    let mut out = vec![0; 2048];
    // 12 bytes and an 8-byte header, rounded up: 24 bytes an event in 256 KiB.
    for _ in 0..12_000 {
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        assert_eq!(stage.kernel.program().unwrap().test_run(options).unwrap().return_value, XDP_TX);
    }
    let after = stage.kernel.counters();
    for counter in Counter::ALL {
        let moved = after[counter as usize] - before[counter as usize];
        match counter {
            Counter::Answered | Counter::HorizonAsked => assert_eq!(moved, 12_000, "{}", counter.name()),
            Counter::EventLost => assert!(moved > 0, "the ring was never full"),
            _ => assert_eq!(moved, 0, "{}", counter.name()),
        }
        if moved > 0 {
            stage.reached.insert(counter);
        }
    }
    assert!(stage.kernel.scan().len() <= 1, "one lease, whatever the ring lost");
}

/// The kernel never refuses to resize a frame here, so this reason is the library's alone.
fn refused_resize() -> Counter {
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
    let verdict = decide::answer_in_place(&mut buffer, &model);
    assert_eq!(buffer.bytes(), frame, "untouched");
    assert_eq!(model.entries.borrow()[usize::from(ADDRESS.octets()[3])].renewal, Renewal::default(), "no promise");
    match verdict {
        Verdict::Pass(reason) => reason,
        Verdict::Transmit | Verdict::Drop(_) => panic!("{verdict:?}"),
    }
}
