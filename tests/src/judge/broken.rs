//! Each judge is shown a history with exactly one violation, made up frame by frame and record by record, and has to find
//! that one and nothing else. The same history without it is clean.

use std::net::Ipv4Addr;

use dhcp_user::control::message::{Journal, Status};
use dhcp_user::failover::codec::{BndAck, BndUpd, Body, Connect, ConnectAck, Message as Link, write_message};
use dhcp_user::lease::BindingState;

use super::bounds::Memory;
use super::check_free;
use super::court::{Court, Frame, Tally};
use super::untouched::Place::{self, Before, Behind};
use crate::frames::{Envelope, Message};

const P: usize = 0;
const S: usize = 1;
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 150, 1), Ipv4Addr::new(192, 168, 150, 2)];
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]];
const CLIENT: [u8; 6] = [2, 0, 0, 0, 0x77, 1];
const LEASED: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 50);
const MCLT: u32 = 6;
/// How many updates each side takes.
const WINDOW: u32 = 10;
/// When it begins.
const BEGIN: u64 = 1_800_000_000;

/// What is wrong with a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    Nothing,
    /// An ACK before its record is on disk, and beyond what the older one says.
    AckBeforeRecord,
    /// An ACK for longer than the partner knows, and MCLT.
    BeyondTheLimit,
    /// An update that announces what was never written.
    UpdateBeforeRecord,
    /// A BNDACK before the receiver's record.
    AckedBeforeRecord,
    /// The kernel's ACK has another option than the agent's.
    AnotherAnswer,
    /// The kernel's ACK is one byte longer.
    ALongerAnswer,
    /// A bit changes on the way to the agent.
    Touched,
    /// A request is neither passed up nor answered.
    Swallowed,
    /// A frame that is no DHCP at all is swallowed.
    ArpSwallowed,
    /// One update more than the window.
    TooManyUpdates,
}

/// A pair on a clock of its own.
struct Story {
    court: Court,
    now: u64,
    sequence: [u32; 2],
}

impl Story {
    fn new() -> Self {
        Self { court: Court::new(ADDRESSES, MACS, MCLT), now: BEGIN * 1_000_000_000, sequence: [1; 2] }
    }

    fn secs(&self) -> u32 {
        u32::try_from(self.now / 1_000_000_000).unwrap()
    }

    fn pass(&mut self, secs: u64) {
        self.now += secs * 1_000_000_000;
        let since = self.court.mark();
        self.court.judge(Vec::new(), since, self.now);
    }

    /// A record is on a server's disk.
    fn wrote(&mut self, side: usize, text: String) {
        let mut texts = [String::new(), String::new()];
        texts[side] = text;
        self.now += 1_000_000;
        self.court.read(texts, self.now);
        self.court.mark();
    }

    fn passed(&mut self, side: usize, places: &[Place], frame: &[u8]) {
        for place in places {
            self.now += 10_000;
            let frame = Frame { side, place: *place, at: self.now, bytes: frame.to_vec() };
            let since = self.court.mark();
            self.court.judge(vec![frame], since, self.now);
        }
    }

    /// A message between the servers.
    fn says(&mut self, from: usize, xid: u32, body: Body) {
        let mut bytes = Vec::new();
        write_message(&Link { time: self.secs(), xid, body }, &mut bytes).unwrap();
        let mut tcp = Vec::new();
        let ports = [647_u16, 50_000];
        tcp.extend(ports[from].to_be_bytes());
        tcp.extend(ports[1 - from].to_be_bytes());
        tcp.extend(self.sequence[from].to_be_bytes());
        tcp.extend([0, 0, 0, 0, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(&bytes);
        self.sequence[from] += bytes.len() as u32;
        let mut frame = [MACS[1 - from], MACS[from]].concat();
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + tcp.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend(ADDRESSES[from].octets());
        frame.extend(ADDRESSES[1 - from].octets());
        frame.extend(tcp);
        self.passed(P, &[Before], &frame);
    }

    fn update(&mut self, from: usize, xid: u32, address: Ipv4Addr, ends: u32, potential: u32) {
        let update = BndUpd {
            address: Some(address),
            status: Some(BindingState::Active as u8),
            chaddr: Some([&[1][..], &CLIENT].concat()),
            lease_expiry: Some(ends),
            potential_expiry: Some(potential),
            since: Some(self.secs()),
            cltt: Some(self.secs()),
            ..BndUpd::default()
        };
        self.says(from, xid, Body::BndUpd(update));
    }

    fn acknowledges(&mut self, from: usize, xid: u32) {
        self.says(from, xid, Body::BndAck(BndAck { address: Some(LEASED), ..BndAck::default() }));
    }
}

/// An active lease as a file says it; instants are seconds since 1970, 0 = not said.
fn lease(address: Ipv4Addr, ends: u32, tstp: u32, tsfp: u32) -> String {
    let [a, b, c, d, e, f] = CLIENT;
    let date = |name: &str, at: u32| if at == 0 { String::new() } else { format!("  {name} epoch {at};\n") };
    format!(
        "lease {address} {{\n{}{}{}  binding state active;\n  next binding state expired;\n  rewind binding state active;\n  \
         hardware ethernet {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x};\n}}\n",
        date("ends", ends),
        date("tstp", tstp),
        date("tsfp", tsfp),
    )
}

const NORMAL: &str =
    "failover peer \"GSB\" state {\n  my state normal at epoch 1;\n  partner state normal at epoch 1;\n}\n";

/// A renewal: always the same question.
fn renewal(xid: u32) -> Vec<u8> {
    let message = Message { ciaddr: LEASED, ..Message::request(3, CLIENT, xid) }.with(55, [1, 3, 15]);
    Envelope::unicast(CLIENT, LEASED, MACS[P], ADDRESSES[P]).wrap(&message.bytes())
}

fn ack(xid: u32, secs: u32, domain: &str, padded_to: usize) -> Vec<u8> {
    let message = Message { op: 2, yiaddr: LEASED, padded_to, ..Message::request(5, CLIENT, xid) }
        .with(54, ADDRESSES[P].octets())
        .with(51, secs.to_be_bytes())
        .with(58, (secs / 2).to_be_bytes())
        .with(15, domain.as_bytes());
    Envelope { from: (ADDRESSES[P], 67), to: (LEASED, 68), ..Envelope::unicast(MACS[P], ADDRESSES[P], CLIENT, LEASED) }
        .wrap(&{
            let mut bytes = message.bytes();
            bytes[28..34].copy_from_slice(&CLIENT);
            bytes
        })
}

/// A lease is given, told, renewed by the agent, told again, and renewed by the kernel; what was wrong with it.
fn history(lie: Lie) -> (Vec<String>, Tally) {
    let mut story = Story::new();
    for side in [P, S] {
        story.wrote(side, NORMAL.to_owned());
    }
    let window = Some(WINDOW);
    story.says(P, 0, Body::Connect(Connect { updates_unacked_max: window, ..Connect::default() }));
    story.says(S, 0, Body::ConnectAck(ConnectAck { updates_unacked_max: window, ..ConnectAck::default() }));

    // The first lease: both hear the request.
    let begin = story.secs();
    let select = Message::request(3, CLIENT, 1).with(54, ADDRESSES[P].octets()).with(50, LEASED.octets());
    let select = Envelope::broadcast(CLIENT).wrap(&select.bytes());
    story.passed(P, &[Before, Behind], &select);
    story.passed(S, if lie == Lie::Swallowed { &[Before] } else { &[Before, Behind] }, &select);
    let first = begin + 19;
    story.wrote(P, lease(LEASED, begin + 6, first, 0));
    story.passed(P, &[Behind, Before], &ack(1, 6, "gsb.local", 300));
    story.update(P, 2, LEASED, begin + 6, if lie == Lie::UpdateBeforeRecord { first + 1 } else { first });
    let told = if lie == Lie::UpdateBeforeRecord { first + 1 } else { first };
    if lie != Lie::AckedBeforeRecord {
        story.wrote(S, lease(LEASED, begin + 6, 0, told));
    }
    story.acknowledges(S, 2);
    story.wrote(P, lease(LEASED, begin + 6, first, first));

    // The agent renews it, for no longer than `first` and MCLT.
    story.pass(3);
    let now = story.secs();
    let request = renewal(7);
    let mut arrives = request.clone();
    if lie == Lie::Touched {
        *arrives.last_mut().unwrap() ^= 1;
    }
    story.passed(P, &[Before], &request);
    story.passed(P, &[Behind], &arrives);
    let secs = if lie == Lie::BeyondTheLimit { first + MCLT - now + 2 } else { 18 };
    let second = now + 40;
    if lie != Lie::AckBeforeRecord {
        story.wrote(P, lease(LEASED, now + secs, second, first));
    }
    story.passed(P, &[Behind, Before], &ack(7, secs, "gsb.local", 300));
    if lie != Lie::AckBeforeRecord {
        story.update(P, 3, LEASED, now + secs, second);
        story.wrote(S, lease(LEASED, now + secs, 0, second));
        story.acknowledges(S, 3);
        story.wrote(P, lease(LEASED, now + secs, second, second));

        // The kernel renews it.
        story.pass(3);
        story.passed(P, &[Before], &renewal(8));
        let (domain, len) = match lie {
            Lie::AnotherAnswer => ("gsb.locax", 300),
            Lie::ALongerAnswer => ("gsb.local", 301),
            _ => ("gsb.local", 300),
        };
        story.passed(P, &[Before], &ack(8, 16, domain, len));
    }
    let arp = [&[0xff; 6][..], &CLIENT, &[8, 6], &[7; 46]].concat();
    story.passed(P, if lie == Lie::ArpSwallowed { &[Before] } else { &[Before, Behind] }, &arp);
    if lie == Lie::TooManyUpdates {
        for number in 0..=WINDOW {
            let address = Ipv4Addr::from(u32::from(LEASED) + 1 + number);
            story.wrote(P, lease(address, begin + 6, begin + 19, 0));
            story.update(P, 10 + number, address, begin + 6, begin + 19);
        }
    }
    story.pass(60);
    (story.court.failures(), story.court.tally())
}

#[test]
fn a_history_without_a_fault_is_found_without_one() {
    let (failures, tally) = history(Lie::Nothing);
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!((tally.acks, tally.answered, tally.compared), (3, 1, 1), "{tally:?}");
    assert_eq!(tally.passed, 4, "the first request on both sides, a renewal, an ARP: {tally:?}");
    assert!(tally.messages >= 4, "{tally:?}");
}

#[test]
fn each_lie_is_found_and_called_by_its_name() {
    for (lie, verdicts) in [
        (Lie::AckBeforeRecord, &["I2: "][..]),
        (Lie::BeyondTheLimit, &["I7: "]),
        (Lie::UpdateBeforeRecord, &["I8: "]),
        (Lie::AckedBeforeRecord, &["I8: "]),
        (Lie::AnotherAnswer, &["I4: "]),
        (Lie::ALongerAnswer, &["I4: "]),
        // What came is not what went, and what went did not come.
        (Lie::Touched, &["I5: ", "I5: "]),
        (Lie::Swallowed, &["I5: "]),
        (Lie::ArpSwallowed, &["I5: "]),
        (Lie::TooManyUpdates, &["I6: "]),
    ] {
        let (failures, _) = history(lie);
        assert_eq!(failures.len(), verdicts.len(), "{lie:?}: {failures:#?}");
        for (failure, verdict) in failures.iter().zip(verdicts) {
            assert!(failure.starts_with(verdict), "{lie:?}: {failure}");
        }
    }
}

#[test]
fn an_address_is_free_on_exactly_one_side() {
    assert_eq!(check_free(LEASED, ["free", "free"]), Ok(()));
    assert_eq!(check_free(LEASED, ["backup", "backup"]), Ok(()));
    for states in
        [["free", "backup"], ["backup", "free"], ["active", "active"], ["expired", "free"], ["free", "abandoned"]]
    {
        let verdict = check_free(LEASED, states).unwrap_err();
        assert!(verdict.starts_with("I3: "), "{verdict}");
    }
}

/// A server that keeps ten addresses for a partner.
fn says(change: impl FnOnce(&mut Status)) -> Status {
    const TEXT: &str = r#"{
        "server": "xdhcpd", "pid": 1, "uptime_secs": 1, "generation": 1, "config": "", "leases": "", "interfaces": [],
        "replies": { "kernel": 0, "agent": 0 }, "received": {}, "sent": {}, "ignored": {}, "kernel": {},
        "sockets": { "received": 0, "sent": 0, "unsent": 0, "overrun": 0, "refused": {} },
        "fast_path": { "enabled": true, "armed": 0, "templates": 0, "arms": 0, "extensions": 0, "renewals": 0, "revoked": 0,
            "not_armed": {} },
        "journal": JOURNAL,
        "pools": [{ "network": "n", "ranges": [], "peer": "GSB", "total": 10, "free": 5, "backup": 5, "active": 0,
            "expired": 0, "released": 0, "abandoned": 0, "reset": 0 }],
        "peers": [{ "name": "GSB", "role": "primary", "my_state": "normal", "my_since": 0, "partner_state": "normal",
            "partner_since": 0, "service": "cooperating", "serving": true, "connected": true, "link_protected": false,
            "mclt_secs": 6, "updates_queued": 6, "updates_in_flight": 4, "lag_secs": 0, "updates_held": 10, "updates":
            { "sent": 0, "acked": 0, "rejected": 0, "repeated": 0, "received": 0, "refused": 0, "malformed": 0 } }]
    }"#;
    let journal = serde_json::to_string(&Journal::default()).unwrap();
    let mut status: Status = serde_json::from_str(&TEXT.replace("JOURNAL", &journal)).unwrap();
    change(&mut status);
    status
}

#[test]
fn a_server_that_grows_or_hoards_is_found() {
    let window = u64::from(WINDOW);
    let weigh = |second_kib: u64, status: &Status| {
        let mut memory = Memory::default();
        memory.weigh(P, 1, 30_000, window, &says(|_| {})).unwrap();
        // The other side, and another process, have a memory of their own.
        memory.weigh(S, 2, 90_000, window, &says(|_| {})).unwrap();
        memory.weigh(P, 1, second_kib, window, status)
    };
    assert_eq!(weigh(34_000, &says(|_| {})), Ok(()));
    for (kib, status) in [
        (90_000, says(|_| {})),
        (30_000, says(|status| status.peers[0].updates_queued += 1)),
        (30_000, says(|status| status.peers[0].updates_held += 1)),
        (30_000, says(|status| status.journal.waiting = 70_000)),
    ] {
        let verdict = weigh(kib, &status).unwrap_err();
        assert!(verdict.starts_with("I6: "), "{verdict}");
    }
}
