//! **slow == fast** (I4): for generated clients and configurations, what the fast path answers from what the engine
//! armed is what the engine itself answers, byte for byte but for the times; and a request that differs in
//! anything the slow path looks at does not match (I5).

use std::net::Ipv4Addr;

use dhcp_ebpf::{
    abi::{BootSecs, Counter, Entry, Generation},
    decide::{self, Verdict},
    frame::Buffer,
};
use dhcp_user::engine::port::{Arm, Route};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tests::{
    fastpath::{Model, SERVER_MAC, key},
    frames::{self, Envelope, Message},
    pump::Pump,
};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 1);

/// Configurations that differ in everything an answer can depend on and still be armed.
const CONFIGURATIONS: [&str; 7] = [
    "",
    "option domain-name \"gsb.local\"; option domain-name-servers 172.16.0.10; option routers 192.168.150.1; \
     option broadcast-address 192.168.150.255;",
    "option dhcp-renewal-time 200; option dhcp-rebinding-time 450; option ntp-servers 10.1.1.1, 10.1.1.2;",
    "next-server 10.9.9.9; filename \"pxelinux.0\"; server-name \"boot\"; option interface-mtu 1400;",
    "class \"phones\" { match if substring(option vendor-class-identifier, 0, 5) = \"udhcp\"; \
     option domain-name \"phones.example\"; option time-offset 3600; }",
    "if option host-name = \"Portable1\" { option log-servers 10.2.2.2; } else { option domain-name \"other\"; }",
    "host one { hardware ethernet 02:00:00:00:77:03; option root-path \"/srv/nfs\"; option host-name \"one\"; } \
     option echo code 200 = string; option echo aa:bb:cc; echo-client-id on; always-broadcast off;",
];

fn text(inner: &str) -> String {
    format!(
        "default-lease-time 600; max-lease-time 7200; authoritative; ping-check off;\n{inner}\n\
         subnet 192.168.150.0 netmask 255.255.255.0 {{ pool {{ range 192.168.150.50 192.168.150.100; }} }}\n"
    )
}

/// A relay agent in the clients' network, and what it says about the port they are at (RFC 3046).
const RELAY: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 2);
const RELAY_MAC: [u8; 6] = [2, 0, 0, 0, 0x99, 1];
const CIRCUIT: [u8; 10] = *b"\x01\x04ge-7\x02\x02r1";

/// A client: what it sends with every message, in its own order.
#[derive(Debug, Clone)]
struct Client {
    mac: [u8; 6],
    options: Vec<(u8, Vec<u8>)>,
    /// Where options 50 and 54 stand in its REQUESTs.
    request_at: usize,
    padded_to: usize,
    configuration: usize,
}

fn clients() -> impl Strategy<Value = Client> {
    let mac = prop_oneof![Just([2, 0, 0, 0, 0x77, 3]), any::<[u8; 5]>().prop_map(|[a, b, c, d, e]| [2, a, b, c, d, e])];
    let parameter_list =
        prop::collection::vec(prop_oneof![1_u8..=62, Just(119), Just(121), Just(200), Just(252)], 0..20);
    let option = prop_oneof![
        (Just(12_u8), prop_oneof![Just(b"Portable1".to_vec()), "[a-z]{1,12}".prop_map(String::into_bytes)]),
        (Just(60_u8), prop_oneof![Just(b"udhcp 1.35.0".to_vec()), Just(b"dhcpcd-9.4.1".to_vec())]),
        (Just(61_u8), prop::collection::vec(any::<u8>(), 2..20)),
        (Just(57_u8), (576_u16..1500).prop_map(|len| len.to_be_bytes().to_vec())),
        (Just(77_u8), prop::collection::vec(any::<u8>(), 1..10)),
        (Just(145_u8), Just(vec![1])),
        parameter_list.prop_map(|list| (55_u8, list)),
    ];
    let options = prop::collection::vec(option, 0..7).prop_map(|mut options| {
        let mut seen = Vec::new();
        options.retain(|(code, data)| {
            !data.is_empty() && !seen.contains(code) && {
                seen.push(*code);
                true
            }
        });
        options
    });
    (mac, options, 0_usize..7, prop_oneof![Just(0_usize), Just(300), Just(548)], 0..CONFIGURATIONS.len()).prop_map(
        |(mac, options, request_at, padded_to, configuration)| Client {
            mac,
            options,
            request_at,
            padded_to,
            configuration,
        },
    )
}

impl Client {
    fn message(&self, kind: u8, xid: u32, extra: &[(u8, Vec<u8>)]) -> Message {
        let mut message = Message::request(kind, self.mac, xid);
        message.options.extend(self.options.iter().cloned());
        let at = (1 + self.request_at).min(message.options.len());
        message.options.splice(at..at, extra.iter().cloned());
        message.padded_to = self.padded_to;
        message
    }

    /// Leases an address: the engine, and what it armed.
    fn lease(&self) -> (Pump, Ipv4Addr, Option<Arm>) {
        self.lease_behind([0; 2])
    }

    /// As [`Client::lease`], behind VLAN tags.
    fn lease_behind(&self, vlan: [u32; 2]) -> (Pump, Ipv4Addr, Option<Arm>) {
        let mut pump = Pump::new(&text(CONFIGURATIONS[self.configuration]), SERVER, 24, &key(1));
        pump.vlan = vlan;
        let offer = pump.broadcast(&self.message(1, 1, &[])).pop().expect("an OFFER");
        let address = Ipv4Addr::from(*offer.message[16..].first_chunk::<4>().expect("yiaddr"));
        let chosen = [(50, address.octets().to_vec()), (54, SERVER.octets().to_vec())];
        let ack = pump.broadcast(&self.message(3, 2, &chosen)).pop().expect("an ACK");
        assert_eq!(ack.message[242], 5, "an ACK");
        let arm = pump.armed.pop();
        (pump, address, arm)
    }

    /// A message as a relay passes it on, option 82 behind the client's own.
    fn relayed(&self, kind: u8, xid: u32, extra: &[(u8, Vec<u8>)]) -> Message {
        let mut message = self.message(kind, xid, extra);
        message.giaddr = RELAY;
        message.hops = 1;
        message.options.push((82, CIRCUIT.to_vec()));
        message
    }

    fn renewal(&self, address: Ipv4Addr, xid: u32) -> Message {
        let mut message = self.message(3, xid, &[]);
        message.ciaddr = address;
        message.secs = 3;
        message
    }

    fn frame(&self, message: &Message) -> Vec<u8> {
        Envelope::unicast(self.mac, message.ciaddr, SERVER_MAC, SERVER).wrap(&message.bytes())
    }
}

/// The kernel's tables after `arm`, at `now` seconds since boot.
fn model(arm: &Arm, now: u32) -> Model {
    let mut model = Model::new(now, key(1));
    let mut entry = Entry {
        generation: Generation::new(1),
        chaddr: arm.chaddr,
        peer: arm.peer,
        horizon: arm.horizon.to_secs(),
        address: arm.address.octets(),
        ..Entry::default()
    };
    for (place, question) in arm.questions.iter().enumerate() {
        let Some((digest, template)) = question else { continue };
        model.templates.push(**template);
        entry.digest[place] = *digest;
        entry.template[place] = (model.templates.len() - 1) as u16;
    }
    model.arm(entry);
    model
}

fn fast(model: &Model, frame: &[u8]) -> (Verdict, Vec<u8>) {
    let mut room = vec![0; 2048];
    room[..frame.len()].copy_from_slice(frame);
    let mut buffer = Buffer::new(&mut room, frame.len());
    let verdict = decide::answer_in_place(&mut buffer, model);
    (verdict, buffer.bytes().to_vec())
}

/// The message with the values of 51, 58 and 59 set to zero.
fn without_times(message: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    let mut at = 240;
    while let Some(&code) = bytes.get(at) {
        match code {
            0 => at += 1,
            255 => break,
            _ => {
                let len = usize::from(bytes[at + 1]);
                if matches!(code, 51 | 58 | 59) {
                    bytes[at + 2..at + 2 + len].fill(0);
                }
                at += 2 + len;
            }
        }
    }
    bytes
}

fn run(cases: u32, property: impl Fn(Client) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[0x5e; 32]);
    TestRunner::new_with_rng(config, rng).run(&clients(), property).unwrap();
}

#[test]
fn the_first_renewal_is_answered_by_the_kernel_with_the_bytes_of_the_slow_path() {
    run(400, |client| {
        let (mut pump, address, arm) = client.lease();
        let arm = arm.expect("every lease of these configurations can be armed");
        pump.pass(290);
        let renewal = client.renewal(address, 0xabcd_0001);
        let model = model(&arm, pump.now.boot.to_secs().secs());
        let (verdict, frame) = fast(&model, &client.frame(&renewal));
        prop_assert_eq!(verdict, Verdict::Transmit);
        let opened = frames::open(&frame).expect("a whole frame");
        prop_assert!(opened.is_ip_sum_right && opened.is_udp_sum_right);

        pump.packet(&renewal, address, SERVER);
        let slow = pump.sent.pop().expect("an ACK");
        prop_assert_eq!(without_times(&opened.payload), without_times(&slow.message));
        prop_assert_eq!(slow.route, Route::Ip);
        prop_assert_eq!((opened.from.0, opened.to.0), (slow.source, *slow.destination.ip()));
        prop_assert_eq!(opened.to.1, slow.destination.port());
        prop_assert_eq!((opened.ttl, opened.tos), (64, 0));
        // Before T1, with the horizon at one and a half leases, both give the full lease: then the times agree too.
        prop_assert_eq!(opened.payload, slow.message);
        Ok(())
    });
}

#[test]
fn behind_tags_the_kernel_says_what_the_slow_path_says_with_the_same_tags_and_nothing_behind_others() {
    let tags: [&[(u16, u16)]; 3] = [&[(0x8100, 10)], &[(0x88a8, 5), (0x8100, 10)], &[(0x8100, 5), (0x8100, 6)]];
    run(60, |client| {
        for tags in tags {
            let mut vlan = [0; 2];
            for (to, (tpid, tci)) in vlan.iter_mut().zip(tags) {
                *to = u32::from(*tpid) << 16 | u32::from(*tci);
            }
            let (mut pump, address, arm) = client.lease_behind(vlan);
            let arm = arm.expect("every lease of these configurations can be armed");
            pump.pass(290);
            let renewal = client.renewal(address, 0xabcd_0002);
            let model = model(&arm, pump.now.boot.to_secs().secs());
            let behind = |tags: &[(u16, u16)]| {
                let envelope = Envelope::unicast(client.mac, address, SERVER_MAC, SERVER);
                Envelope { tags: tags.to_vec(), ..envelope }.wrap(&renewal.bytes())
            };
            let (verdict, frame) = fast(&model, &behind(tags));
            prop_assert_eq!(verdict, Verdict::Transmit);
            let opened = frames::open(&frame).expect("a whole frame");
            prop_assert!(opened.is_ip_sum_right && opened.is_udp_sum_right);
            prop_assert_eq!(&opened.tags[..], tags);
            pump.packet(&renewal, address, SERVER);
            let slow = pump.sent.pop().expect("an ACK");
            prop_assert_eq!(opened.payload, slow.message);
            for other in [&[][..], &tags[1..], &[(0x8100, 11)], &[(0x88a8, 5), (0x8100, 11)]] {
                let frame = behind(other);
                prop_assert_eq!(fast(&model, &frame), (Verdict::Pass(Counter::OtherQuestion), frame));
            }
        }
        Ok(())
    });
}

#[test]
fn through_a_relay_the_kernel_says_what_the_slow_path_says_and_directly_as_well() {
    run(150, |client| {
        let mut pump = Pump::new(&text(CONFIGURATIONS[client.configuration]), SERVER, 24, &key(1));
        pump.packet(&client.relayed(1, 1, &[]), RELAY, SERVER);
        let offer = pump.sent.pop().expect("an OFFER");
        let address = Ipv4Addr::from(*offer.message[16..].first_chunk::<4>().expect("yiaddr"));
        let chosen = [(50, address.octets().to_vec()), (54, SERVER.octets().to_vec())];
        pump.packet(&client.relayed(3, 2, &chosen), RELAY, SERVER);
        let ack = pump.sent.pop().expect("an ACK");
        prop_assert_eq!(ack.message[242], 5);
        let arm = pump.armed.pop().expect("every lease of these configurations can be armed");
        pump.pass(290);
        let seconds = pump.now.boot.to_secs().secs();
        let mut tables = model(&arm, seconds);

        let mut rebinding = client.relayed(3, 0xabcd_0003, &[]);
        rebinding.ciaddr = address;
        let reboot = client.relayed(3, 0xabcd_0004, &[(50, address.octets().to_vec())]);
        let direct = client.renewal(address, 0xabcd_0005);
        let mut fast_at_once = 0;
        for (message, source) in [(direct, address), (reboot, RELAY), (rebinding, RELAY)] {
            let envelope = if source == RELAY {
                Envelope::relayed(RELAY_MAC, RELAY, SERVER_MAC, SERVER)
            } else {
                Envelope::unicast(client.mac, address, SERVER_MAC, SERVER)
            };
            let asked = envelope.wrap(&message.bytes());
            let (mut verdict, mut frame) = fast(&tables, &asked);
            fast_at_once += u32::from(verdict == Verdict::Transmit);
            pump.packet(&message, source, SERVER);
            let slow = pump.sent.pop().expect("an ACK");
            if verdict != Verdict::Transmit {
                prop_assert_eq!((verdict, &frame), (Verdict::Pass(Counter::OtherQuestion), &asked));
                // What was not foreseen is known from now on.
                tables = model(&pump.armed.pop().expect("armed again"), seconds);
                (verdict, frame) = fast(&tables, &asked);
            }
            prop_assert_eq!(verdict, Verdict::Transmit, "{:?}", message);
            let opened = frames::open(&frame).expect("a whole frame");
            prop_assert!(opened.is_ip_sum_right && opened.is_udp_sum_right);
            prop_assert_eq!(without_times(&opened.payload), without_times(&slow.message));
            prop_assert_eq!((opened.to.0, opened.to.1), (*slow.destination.ip(), slow.destination.port()));
            let is_echoed = opened.payload.windows(CIRCUIT.len()).any(|window| window == CIRCUIT);
            prop_assert_eq!(is_echoed, source == RELAY, "option 82 goes back to the relay and to nobody else");
        }
        prop_assert!(fast_at_once >= 2, "the direct renewal and the reboot are foreseen");
        // Another port of the relay's is another question.
        let mut elsewhere = client.relayed(3, 0xabcd_0006, &[]);
        elsewhere.ciaddr = address;
        elsewhere.options.last_mut().expect("option 82").1[5] = b'8';
        let frame = Envelope::relayed(RELAY_MAC, RELAY, SERVER_MAC, SERVER).wrap(&elsewhere.bytes());
        prop_assert_eq!(fast(&tables, &frame), (Verdict::Pass(Counter::OtherQuestion), frame));
        Ok(())
    });
}

#[test]
fn a_request_that_differs_in_anything_is_passed_up_untouched() {
    run(150, |client| {
        let (pump, address, arm) = client.lease();
        let arm = arm.expect("every lease of these configurations can be armed");
        let model = model(&arm, pump.now.boot.to_secs().secs() + 300);
        let renewal = client.renewal(address, 1);
        let good = client.frame(&renewal);
        prop_assert_eq!(fast(&model, &good).0, Verdict::Transmit);

        // Every byte of the options, and of what else decides; not xid, secs, hops, sname, file, UDP source port.
        let options_len: usize = renewal.options.iter().map(|(_, data)| data.len() + 2).sum::<usize>() + 1;
        let decisive = (42 + 240..42 + 240 + options_len).chain(42 + 12..42 + 16).chain(42 + 24..42 + 34);
        for at in decisive {
            let mut frame = good.clone();
            frame[at] ^= 0x10;
            let (verdict, after) = fast(&model, &frame);
            prop_assert!(matches!(verdict, Verdict::Pass(_)), "byte {} of the frame: {:?}", at, verdict);
            prop_assert_eq!(after, frame);
        }
        for at in [42 + 4, 42 + 8, 42 + 9] {
            let mut frame = good.clone();
            frame[at] ^= 0x10;
            prop_assert_eq!(fast(&model, &frame).0, Verdict::Transmit, "byte {} is merely copied", at);
        }
        let mut elsewhere = Model { interface: 2, ..model };
        prop_assert_eq!(fast(&elsewhere, &good).0, Verdict::Pass(Counter::OtherQuestion));
        elsewhere.control.dead_man = BootSecs::new(0);
        elsewhere.interface = 1;
        prop_assert_eq!(fast(&elsewhere, &good).0, Verdict::Pass(Counter::DeadMan));
        Ok(())
    });
}

#[test]
fn a_client_whose_renewal_looks_different_misses_once_and_is_answered_fast_from_then_on() {
    run(100, |client| {
        let (mut pump, address, arm) = client.lease();
        let arm = arm.expect("armed");
        let mut renewal = client.renewal(address, 1);
        renewal.options.push((116, vec![1]));
        let frame = client.frame(&renewal);
        prop_assert_eq!(
            fast(&model(&arm, pump.now.boot.to_secs().secs()), &frame).0,
            Verdict::Pass(Counter::OtherQuestion)
        );
        pump.pass(300);
        pump.packet(&renewal, address, SERVER);
        let slow = pump.sent.pop().expect("an ACK");
        let arm = pump.armed.pop().expect("armed again");
        let (verdict, frame) = fast(&model(&arm, pump.now.boot.to_secs().secs()), &frame);
        prop_assert_eq!(verdict, Verdict::Transmit);
        prop_assert_eq!(without_times(&frames::open(&frame).unwrap().payload), without_times(&slow.message));
        Ok(())
    });
}

#[test]
fn an_answer_that_depends_on_more_than_the_question_is_not_armed() {
    for inner in [
        "on commit { log(info, \"leased\"); }",
        "option domain-name = substring(packet(44, 64), 0, 3);",
        "class \"ports\" { spawn with option host-name; lease limit 2; }",
    ] {
        let mut pump = Pump::new(&text(inner), SERVER, 24, &key(1));
        let mac = [2, 0, 0, 0, 0, 9];
        let request = |kind, extra: &[(u8, Vec<u8>)]| {
            let mut message = Message::request(kind, mac, 5).with(12, *b"abc").with(55, [1, 15]);
            message.options.extend(extra.iter().cloned());
            message
        };
        let offer = pump.broadcast(&request(1, &[])).pop().expect("an OFFER");
        let address = offer.message[16..20].to_vec();
        let chosen = [(50, address), (54, SERVER.octets().to_vec())];
        assert_eq!(pump.broadcast(&request(3, &chosen)).len(), 1, "{inner}: an ACK");
        assert!(pump.armed.iter().all(|arm| arm.questions.iter().all(Option::is_none)), "{inner}: armed");
    }
}
