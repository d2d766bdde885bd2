//! `wire`: bytes from the network never panic, a cut frame is no renewal, what is written is read back, and the
//! question digest sees every byte that may influence an answer and none that may not.

use std::net::Ipv4Addr;

use dhcp_ebpf::{
    abi::{BootSecs, Entry, Generation},
    decide::{self, Verdict},
    frame::Buffer,
    question::{self, OPTIONS_LEN_MAX, Question},
    wire::{
        checksum,
        dhcp::{Header, OPTIONS_AT},
        option::Options,
    },
};
use dhcproto::v4::MessageType;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, FileFailurePersistence},
};
use tests::{
    client::Reply,
    fastpath::{ADDRESS, CLIENT_MAC, Model, SERVER, SERVER_MAC, digest, key, renewal, template, unicast},
    frames::{Checksum, Envelope, Message, internet_checksum, open},
};

/// Room that a frame may grow into, as the driver gives it.
const ROOM: usize = 2048;

fn config() -> Config {
    let kept = FileFailurePersistence::Direct("regressions/wire.txt");
    Config { failure_persistence: Some(Box::new(kept)), ..Config::with_cases(512) }
}

/// Anything a client may put into its options, END and padding left to the writer.
fn options() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    vec((1_u8..=254, vec(any::<u8>(), 0..24)), 0..12)
}

/// Tables in which the fixture's client is armed for exactly the question of `message`.
fn armed(message: &Message) -> Model {
    let mut model = Model::new(1_000, key(7));
    model.templates.push(template(600, 0, 0, &[(1, &[255, 255, 255, 0]), (3, &SERVER.octets()), (15, b"gsb.local")]));
    model.arm(Entry {
        generation: Generation::new(1),
        chaddr: CLIENT_MAC,
        digest: [digest(message, model.interface, &model.control.key), 0, 0],
        template: [1, 0, 0],
        horizon: BootSecs::new(1_900),
        address: ADDRESS.octets(),
        ..Entry::default()
    });
    model
}

/// Runs the fast path over a frame; returns the verdict and what the frame is afterwards.
fn decide(frame: &[u8], model: &Model) -> (Verdict, Vec<u8>) {
    let mut room = vec![0; ROOM.max(frame.len())];
    room[..frame.len()].copy_from_slice(frame);
    let mut buffer = Buffer::new(&mut room, frame.len());
    let verdict = decide::answer_in_place(&mut buffer, model);
    let after = buffer.bytes().to_vec();
    (verdict, after)
}

#[test]
fn an_armed_renewal_is_answered_with_sums_that_another_reader_accepts() {
    let message = renewal(CLIENT_MAC, ADDRESS, 0x1234_5678);
    let (verdict, reply) = decide(&unicast(&message), &armed(&message));
    assert_eq!(verdict, Verdict::Transmit);
    let reply = Reply::parse(&reply).unwrap();
    assert!(reply.datagram.is_ip_sum_right && reply.datagram.is_udp_sum_right);
    assert_ne!(reply.datagram.udp_sum, 0, "a reply without a checksum would hide damage");
    assert_eq!((reply.datagram.to_mac, reply.datagram.from_mac), (CLIENT_MAC, SERVER_MAC));
    assert_eq!((reply.datagram.from, reply.datagram.to), ((SERVER, 67), (ADDRESS, 68)));
    assert_eq!(reply.kind(), Some(MessageType::Ack));
    assert_eq!((reply.server(), reply.lease_secs()), (Some(SERVER), Some(600)));
    assert_eq!((reply.message.xid(), reply.message.yiaddr(), reply.message.ciaddr()), (0x1234_5678, ADDRESS, ADDRESS));
}

#[test]
fn a_renewal_cut_at_any_length_passes_untouched() {
    let message = renewal(CLIENT_MAC, ADDRESS, 9);
    let model = armed(&message);
    let whole = unicast(&message);
    for cut in 0..whole.len() {
        let (verdict, after) = decide(&whole[..cut], &model);
        assert!(matches!(verdict, Verdict::Pass(_)), "cut at {cut}: {verdict:?}");
        assert_eq!(after, &whole[..cut], "cut at {cut}");
    }
}

#[test]
fn whatever_a_checksum_looks_like_the_answer_is_the_same() {
    let message = renewal(CLIENT_MAC, ADDRESS, 9);
    let right = decide(&unicast(&message), &armed(&message));
    for checksum in [Checksum::Absent, Checksum::Partial] {
        let envelope = Envelope { checksum, ..Envelope::unicast(CLIENT_MAC, ADDRESS, SERVER_MAC, SERVER) };
        assert_eq!(decide(&envelope.wrap(&message.bytes()), &armed(&message)), right, "{checksum:?}");
    }
}

#[test]
fn everything_but_the_armed_clients_own_question_passes_untouched() {
    let message = renewal(CLIENT_MAC, ADDRESS, 9);
    let envelope = Envelope::unicast(CLIENT_MAC, ADDRESS, SERVER_MAC, SERVER);
    let other = Ipv4Addr::new(192, 168, 150, 51);
    let frames = [
        ("a fragment", Envelope { fragment: 0x2000, ..envelope.clone() }.wrap(&message.bytes())),
        ("a later fragment", Envelope { fragment: 0x0001, ..envelope.clone() }.wrap(&message.bytes())),
        ("IP options", Envelope { ip_options: vec![1; 4], ..envelope.clone() }.wrap(&message.bytes())),
        ("a VLAN tag", Envelope { tags: vec![(0x8100, 7)], ..envelope.clone() }.wrap(&message.bytes())),
        ("another port", Envelope { to: (SERVER, 68), ..envelope.clone() }.wrap(&message.bytes())),
        ("another server", Envelope { to: (other, 67), ..envelope.clone() }.wrap(&message.bytes())),
        ("another sender", Envelope { from: (other, 68), ..envelope.clone() }.wrap(&message.bytes())),
        ("a reply", envelope.wrap(&Message { op: 2, ..message.clone() }.bytes())),
        ("a relayed one", envelope.wrap(&Message { giaddr: SERVER, ..message.clone() }.bytes())),
        ("no ciaddr", envelope.wrap(&Message { ciaddr: Ipv4Addr::UNSPECIFIED, ..message.clone() }.bytes())),
        ("another address", envelope.wrap(&Message { ciaddr: other, ..message.clone() }.bytes())),
        ("token ring", envelope.wrap(&Message { htype: 6, ..message.clone() }.bytes())),
        ("a short address", envelope.wrap(&Message { hlen: 5, ..message.clone() }.bytes())),
        ("a long address", envelope.wrap(&Message { hlen: 17, ..message.clone() }.bytes())),
        ("another client", envelope.wrap(&Message { chaddr: [9; 16], ..message.clone() }.bytes())),
        ("one more option", envelope.wrap(&message.clone().with(82, [1, 2, 3, 4]).bytes())),
    ];
    for (name, frame) in frames {
        let (verdict, after) = decide(&frame, &armed(&message));
        assert!(matches!(verdict, Verdict::Pass(_)), "{name}: {verdict:?}");
        assert_eq!(after, frame, "{name}");
    }
}

#[test]
fn a_copied_field_changes_only_itself_in_the_answer() {
    let message = renewal(CLIENT_MAC, ADDRESS, 9);
    for (name, changed) in [
        ("xid", Message { xid: 0xdead_beef, ..message.clone() }),
        ("secs", Message { secs: 77, ..message.clone() }),
        ("hops", Message { hops: 3, ..message.clone() }),
    ] {
        let (verdict, reply) = decide(&unicast(&changed), &armed(&message));
        assert_eq!(verdict, Verdict::Transmit, "{name}");
        let payload = open(&reply).unwrap().payload;
        assert_eq!(payload[3..10], changed.bytes()[3..10], "{name}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_bytes_make_the_fast_path_panic_or_write(bytes in vec(any::<u8>(), 0..700)) {
        let message = renewal(CLIENT_MAC, ADDRESS, 9);
        let (verdict, after) = decide(&bytes, &armed(&message));
        prop_assert!(matches!(verdict, Verdict::Pass(_)));
        prop_assert_eq!(after, bytes);
    }

    #[test]
    fn a_damaged_renewal_passes_untouched_or_is_answered_well(
        damage in vec((0_usize..342, any::<u8>()), 1..4),
    ) {
        let message = renewal(CLIENT_MAC, ADDRESS, 9);
        let mut frame = unicast(&message);
        for (at, byte) in damage {
            let len = frame.len();
            frame[at % len] = byte;
        }
        let (verdict, after) = decide(&frame, &armed(&message));
        match verdict {
            Verdict::Pass(_) => prop_assert_eq!(after, frame),
            Verdict::Drop(counter) => prop_assert!(false, "half written: {:?}", counter),
            Verdict::Transmit => {
                let reply = Reply::parse(&after).expect("another reader accepts the answer");
                prop_assert!(reply.datagram.is_ip_sum_right && reply.datagram.is_udp_sum_right);
                prop_assert_eq!(reply.message.yiaddr(), ADDRESS);
                prop_assert_eq!(reply.message.chaddr(), CLIENT_MAC);
            }
        }
    }

    #[test]
    fn option_bytes_never_make_the_walk_panic_or_go_on_for_ever(bytes in vec(any::<u8>(), 0..400)) {
        let count = Options::new(&bytes).count();
        prop_assert!(count <= bytes.len());
        let errors = Options::new(&bytes).filter(Result::is_err).count();
        prop_assert!(errors <= 1, "a walk ends at the first error");
    }

    #[test]
    fn options_that_were_written_are_read_back(options in options(), pads in 0_usize..5) {
        let mut bytes = Vec::new();
        for (code, data) in &options {
            bytes.resize(bytes.len() + pads, 0);
            bytes.extend([*code, data.len() as u8]);
            bytes.extend(data);
        }
        bytes.extend([255, 53, 1, 1]);
        let read: Vec<(u8, Vec<u8>)> = Options::new(&bytes).map(|one| one.map(|(code, data)| (code, data.to_vec())).unwrap()).collect();
        prop_assert_eq!(read, options);
    }

    #[test]
    fn a_header_that_was_written_is_read_back(
        xid in any::<u32>(), secs in any::<u16>(), flags in any::<u16>(), hops in any::<u8>(), hlen in any::<u8>(),
        addresses in any::<[[u8; 4]; 4]>(), chaddr in any::<[u8; 16]>(), before in 0_usize..50,
    ) {
        let message = Message {
            xid, secs, flags, hops, hlen, chaddr,
            ciaddr: addresses[0].into(), yiaddr: addresses[1].into(), siaddr: addresses[2].into(), giaddr: addresses[3].into(),
            ..Message::request(1, [0; 6], 0)
        };
        let mut bytes = vec![0xa5; before];
        bytes.extend(message.bytes());
        let header = Header::parse(&bytes[..], before).unwrap();
        prop_assert_eq!(header.op, 1);
        prop_assert_eq!((header.htype, header.hlen, header.hops), (1, hlen, hops));
        prop_assert_eq!((header.xid, header.secs, header.flags), (xid.to_be_bytes(), secs.to_be_bytes(), flags.to_be_bytes()));
        prop_assert_eq!([header.ciaddr, header.yiaddr, header.siaddr, header.giaddr], addresses);
        prop_assert_eq!(header.chaddr, chaddr);
        prop_assert_eq!(header.hw_addr().is_some(), hlen <= 16);
        prop_assert_eq!(header.is_broadcast(), flags & 0x8000 != 0);
    }

    #[test]
    fn two_checksums_written_apart_agree(bytes in vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(checksum::fold(checksum::sum(&bytes)), internet_checksum(&bytes, 0));
    }

    #[test]
    fn zero_padding_adds_nothing_to_a_question(options in options(), pads in 0_usize..100) {
        let message = Message { options, padded_to: 0, ..renewal(CLIENT_MAC, ADDRESS, 9) };
        let mut bytes = message.bytes()[OPTIONS_AT..].to_vec();
        prop_assume!(bytes.len() + pads <= OPTIONS_LEN_MAX);
        let question = question();
        let short = question::digest(&question, &bytes[..], 0, bytes.len(), &key(3));
        prop_assert!(short.is_some());
        bytes.resize(bytes.len() + pads, 0);
        prop_assert_eq!(question::digest(&question, &bytes[..], 0, bytes.len(), &key(3)), short);
    }

    #[test]
    fn a_changed_byte_changes_the_question(bytes in vec(any::<u8>(), 1..=OPTIONS_LEN_MAX), at in any::<prop::sample::Index>(), by in 1_u8..) {
        let key = key(3);
        let at = at.index(bytes.len());
        let mut changed = bytes.clone();
        changed[at] ^= by;
        let digest = |bytes: &[u8]| question::digest(&question(), bytes, 0, bytes.len(), &key).unwrap();
        prop_assert_ne!(digest(&bytes), digest(&changed));
    }

    #[test]
    fn every_fixed_field_of_a_question_counts(by in 1_u32.., field in 0_usize..7) {
        let key = key(3);
        let whole = question();
        let mut changed = whole;
        let four = |bytes: [u8; 4]| (u32::from_be_bytes(bytes) ^ by).to_be_bytes();
        match field {
            0 => changed.chaddr[0] ^= (by % 255) as u8 + 1,
            1 => changed.chaddr[5] ^= (by % 255) as u8 + 1,
            2 => changed.address = four(whole.address),
            3 => changed.giaddr = four(whole.giaddr),
            4 => changed.interface ^= by,
            5 => changed.vlan[0] ^= by,
            _ => changed.vlan[1] ^= by,
        }
        let digest = |question: &Question| question::digest(question, &b"\x35\x01\x03\xff"[..], 0, 4, &key).unwrap();
        prop_assert_ne!(digest(&whole), digest(&changed));
    }

    #[test]
    fn the_place_in_the_frame_does_not_matter_to_a_question(bytes in vec(any::<u8>(), 0..=OPTIONS_LEN_MAX), at in 0_usize..300) {
        let key = key(5);
        let mut frame = vec![0x5a; at];
        frame.extend(&bytes);
        frame.extend([0xc3; 9]);
        let alone = question::digest(&question(), &bytes[..], 0, bytes.len(), &key);
        prop_assert_eq!(question::digest(&question(), &frame[..], at, bytes.len(), &key), alone);
        prop_assert!(alone.is_some());
    }
}

#[test]
fn a_question_longer_than_the_limit_or_than_its_frame_has_no_digest() {
    let bytes = vec![1; OPTIONS_LEN_MAX + 8];
    let digest = |len: usize, frame: &[u8]| question::digest(&question(), frame, 0, len, &key(1));
    assert!(digest(OPTIONS_LEN_MAX, &bytes).is_some());
    assert_eq!(digest(OPTIONS_LEN_MAX + 1, &bytes), None);
    assert_eq!(digest(100, &bytes[..99]), None);
}

/// The question of the fixture's client.
fn question() -> Question {
    Question {
        chaddr: CLIENT_MAC,
        address: ADDRESS.octets(),
        has_ciaddr: true,
        giaddr: [0; 4],
        interface: 1,
        vlan: [0; 2],
    }
}
