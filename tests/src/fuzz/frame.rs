//! Frames at the fast path's decision: what is passed up is untouched, what is answered is a whole frame with right sums.

use std::sync::OnceLock;

use dhcp_ebpf::abi::{BootSecs, Entry, Generation};
use dhcp_ebpf::decide::{Verdict, answer_in_place};
use dhcp_ebpf::frame::Buffer;

use super::{Target, piece};
use crate::fastpath::{ADDRESS, CLIENT_MAC, Model, SERVER, SERVER_MAC, digest, key, renewal, template, unicast};
use crate::frames::{Envelope, Message, open};

pub(super) const TARGET: Target = Target {
    name: "frame",
    run,
    seeds,
    words: &[
        b"\x81\x00\x00\x07",
        b"\x88\xa8\x00\x64\x81\x00\x00\x07",
        b"\x08\x00",
        b"\x08\x06",
        b"\x86\xdd",
        b"\x45\x00",
        b"\x46\x00",
        b"\x00\x43\x00\x44",
        b"\x00\x44\x00\x43",
        b"\x63\x82\x53\x63",
        b"\x35\x01\x03",
        b"\xff",
        b"\x40\x00",
    ],
    rounds: 40_000,
};

/// What the client's reboot asks.
fn reboot() -> Message {
    let mut message = renewal(CLIENT_MAC, ADDRESS, 3).with(50, ADDRESS.octets());
    message.ciaddr = std::net::Ipv4Addr::UNSPECIFIED;
    message
}

/// A lease that is armed with a renewal and a reboot.
fn model() -> Model {
    let key = key(1);
    let mut model = Model::new(5000, key);
    model.templates.push(template(600, 0, 0, &[(1, &[255, 255, 255, 0]), (3, &SERVER.octets())]));
    model.templates.push(template(600, 300, 525, &[(15, b"gsb.local")]));
    let mut entry = Entry {
        generation: Generation::new(1),
        chaddr: CLIENT_MAC,
        horizon: BootSecs::new(9000),
        address: ADDRESS.octets(),
        ..Entry::default()
    };
    entry.digest[0] = digest(&renewal(CLIENT_MAC, ADDRESS, 1), 1, &key);
    entry.template[0] = 1;
    entry.digest[1] = digest(&reboot(), 1, &key);
    entry.template[1] = 2;
    model.arm(entry);
    model
}

fn seeds() -> Vec<Vec<u8>> {
    let mut tagged = Envelope::unicast(CLIENT_MAC, ADDRESS, SERVER_MAC, SERVER);
    tagged.tags = vec![(0x88a8, 100), (0x8100, 7)];
    let good = renewal(CLIENT_MAC, ADDRESS, 1);
    let mut discover = good.clone();
    discover.options[0].1 = vec![1];
    let frames = [
        unicast(&good),
        Envelope::broadcast(CLIENT_MAC).wrap(&reboot().bytes()),
        Envelope::broadcast(CLIENT_MAC).wrap(&discover.bytes()),
        tagged.wrap(&good.bytes()),
        Envelope::relayed([2; 6], SERVER, SERVER_MAC, SERVER).wrap(&good.bytes()),
    ];
    // The first bytes say what the maps are like.
    frames.iter().map(|frame| [&[0, 0][..], frame].concat()).chain([piece(b"")]).collect()
}

fn run(input: &[u8]) {
    static FRESH: OnceLock<()> = OnceLock::new();
    FRESH.get_or_init(|| {
        // That the first seed is answered is what makes all the others mean something.
        let mut frame = unicast(&renewal(CLIENT_MAC, ADDRESS, 1));
        let len = frame.len();
        frame.resize(2048, 0);
        assert_eq!(answer_in_place(&mut Buffer::new(&mut frame, len), &model()), Verdict::Transmit);
    });
    let [state, later, frame @ ..] = input else { return };
    let frame = &frame[..frame.len().min(1600)];
    let mut model = model();
    model.now.set(5000 + u32::from(*later) * 20);
    model.control.enabled = u32::from(state & 1 == 0);
    if state & 2 != 0 {
        model.control.generation = Generation::new(2);
    }
    if state & 4 != 0 {
        model.control.dead_man = BootSecs::new(5000);
    }
    if state & 8 != 0 {
        model.events_max = 0;
    }
    let mut room = vec![0xa5; 2048];
    room[..frame.len()].copy_from_slice(frame);
    let mut buffer = Buffer::new(&mut room, frame.len());
    let verdict = answer_in_place(&mut buffer, &model);
    let after = buffer.bytes().to_vec();
    match verdict {
        Verdict::Transmit => {
            let (Some(asked), Some(told)) = (open(frame), open(&after)) else {
                panic!("answered, and not a whole frame: {verdict:?}");
            };
            assert!(told.is_ip_sum_right && told.is_udp_sum_right, "wrong sums");
            assert_eq!((told.payload[0], &told.payload[4..8]), (2, &asked.payload[4..8]), "a reply to this request");
            assert_eq!(told.payload[16..20], ADDRESS.octets(), "the address that is armed");
            assert_eq!(told.tags, asked.tags);
            assert_eq!(state & 7, 0, "answered although switched off");
        }
        Verdict::Pass(_) | Verdict::Drop(_) => assert_eq!(after, frame, "{verdict:?}, and the frame was touched"),
    }
}
