//! What the sockets take and send, over a cable of the test's own.

use std::io::Write as _;

use super::*;
use crate::io::frame::Aux;

const OURS: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 1);

fn interface() -> Interface {
    Interface {
        index: InterfaceIndex(2),
        name: "eth0".to_owned(),
        mac: [2, 0, 0, 0, 0, 1],
        addresses: vec![(OURS, 24)],
        is_up: true,
    }
}

fn judge(to: [u8; 6], destination: Ipv4Addr, change: impl FnOnce(&mut RawFrame<'_>)) -> Result<(), Refusal> {
    let envelope = Envelope {
        from: [2, 0, 0, 0, 0, 9],
        to,
        vlan: [0, 0],
        source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        destination: SocketAddrV4::new(destination, 67),
    };
    let mut bytes = Vec::new();
    frame::write(&envelope, &[1; 300], &mut bytes).unwrap();
    let mut raw = RawFrame {
        bytes: &bytes,
        is_truncated: false,
        aux: Aux::default(),
        arrived: std::time::Duration::ZERO,
        interface: InterfaceIndex(2),
        kind: libc::PACKET_HOST,
    };
    change(&mut raw);
    let ours = Ours {
        addresses: [OURS].into(),
        broadcasts: directed_broadcast((OURS, 24)).into_iter().collect(),
        vlan_devices: vlan_devices(VLAN_CONFIG),
    };
    accept(&raw, &interface(), &ours).map(|_| ())
}

const VLAN_CONFIG: &str = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
    eth0.10        | 10  | eth0\nguests         | 20  | eth1\n";

#[test]
fn broadcasts_and_our_addresses_are_for_us_and_nothing_else() {
    let ours = [2, 0, 0, 0, 0, 1];
    assert_eq!(judge([0xff; 6], Ipv4Addr::BROADCAST, |_| {}), Ok(()));
    assert_eq!(judge([0xff; 6], Ipv4Addr::new(192, 168, 150, 255), |_| {}), Ok(()));
    assert_eq!(judge(ours, OURS, |_| {}), Ok(()));
    assert_eq!(judge(ours, Ipv4Addr::new(192, 168, 150, 2), |_| {}), Err(Refusal::OtherAddress));
}

#[test]
fn frames_for_other_machines_are_left_alone_in_promiscuous_mode() {
    let others = |raw: &mut RawFrame<'_>| raw.kind = libc::PACKET_OTHERHOST;
    assert_eq!(judge([2, 0, 0, 0, 0, 7], OURS, others), Err(Refusal::OtherMac));
}

#[test]
fn a_tagged_frame_is_left_to_its_vlan_device_and_answered_where_there_is_none() {
    let tagged = |tag: u32| move |raw: &mut RawFrame<'_>| raw.aux.tag = tag;
    assert_eq!(judge([0xff; 6], Ipv4Addr::BROADCAST, tagged(0x8100_200a)), Err(Refusal::OtherInterface));
    assert_eq!(judge([0xff; 6], Ipv4Addr::BROADCAST, tagged(0x8100_0014)), Ok(()), "that is eth1's");
    assert_eq!(judge([0xff; 6], Ipv4Addr::BROADCAST, |_| {}), Ok(()));
}

#[test]
fn directed_broadcasts_follow_the_prefix() {
    assert_eq!(directed_broadcast((OURS, 24)), Some(Ipv4Addr::new(192, 168, 150, 255)));
    assert_eq!(directed_broadcast((OURS, 30)), Some(Ipv4Addr::new(192, 168, 150, 3)));
    assert_eq!(directed_broadcast((OURS, 31)), None);
    assert_eq!(directed_broadcast((OURS, 32)), None);
    assert_eq!(directed_broadcast((OURS, 0)), Some(Ipv4Addr::BROADCAST));
}

#[test]
fn our_own_frames_and_those_of_a_vlan_device_are_not_ours_to_answer() {
    assert_eq!(judge([0xff; 6], Ipv4Addr::BROADCAST, |raw| raw.kind = libc::PACKET_OUTGOING), Err(Refusal::Outgoing));
    let other = |raw: &mut RawFrame<'_>| raw.interface = InterfaceIndex(3);
    assert_eq!(judge([0xff; 6], Ipv4Addr::BROADCAST, other), Err(Refusal::OtherInterface));
    assert_eq!(judge([0xff; 6], Ipv4Addr::BROADCAST, |raw| raw.is_truncated = true), Err(Refusal::Truncated));
}

/// A pair of veth ends in a network namespace of this thread's own: ours with an address, and the client's.
fn wire(test: &str) -> Option<(Found, Found)> {
    // SAFETY: no pointers are passed; only this thread moves into the new namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        skip(test, &format!("no network namespace can be made here: {}", io::Error::last_os_error()));
        return None;
    }
    for line in [
        "link add eth0 type veth peer name client",
        "addr add 192.168.150.1/24 dev eth0",
        "link set eth0 up",
        "link set client up",
    ] {
        let status = std::process::Command::new("ip").args(line.split(' ')).status().unwrap();
        assert!(status.success(), "ip {line}");
    }
    let find = |name: &str| {
        let all = crate::io::interfaces::list().unwrap();
        all.into_iter().find(|one| one.interface.name == name).unwrap()
    };
    Some((find("eth0"), find("client")))
}

/// Says that a test could not run, where `cargo xtask test` counts it.
fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {reason}\n");
    let _ = io::stderr().write_all(line.as_bytes());
    if let Some(file) = std::env::var_os("XDHCPD_SKIPS") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

#[test]
fn frames_arrive_once_whatever_their_tags_and_replies_carry_them_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some((ours, client)) = wire("network::frames") else { return };
    runtime.block_on(async {
        let mut network = Network::new(socket::open_udp(Ipv4Addr::UNSPECIFIED, 67).unwrap(), 67);
        let interface = ours.interface.clone();
        network.serve(std::slice::from_ref(&interface), &[ours, client.clone()]).unwrap();
        let client = client.interface;
        let sender = socket::open_packet(client.index, 0, &filter::nothing(), 1 << 16).unwrap();
        let receiver = socket::open_packet(client.index, libc::ETH_P_ALL as u16, &filter::udp_to(68), 1 << 20).unwrap();
        for vlan in [[0, 0], [0x8100_0005, 0], [0x88a8_0005, 0x8100_0007], [0x8100_0005, 0x8100_0007]] {
            for (mac, destination) in [([0xff; 6], Ipv4Addr::BROADCAST), (interface.mac, OURS)] {
                let envelope = Envelope {
                    from: client.mac,
                    to: mac,
                    vlan,
                    source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
                    destination: SocketAddrV4::new(destination, 67),
                };
                let mut frame = Vec::new();
                frame::write(&envelope, &[7; 300], &mut frame).unwrap();
                socket::send_frame(&sender, client.index, libc::ETH_P_ALL as u16, &frame).unwrap();
                std::future::poll_fn(|context| network.poll_ready(context)).await;
                let mut seen = Vec::new();
                network.receive(|received| seen.push((received.vlan, received.destination, received.message.len())));
                assert_eq!(seen, [(vlan, destination, 300)]);

                network.send(Datagram {
                    interface: Some(interface.index),
                    route: Route::Raw { mac: client.mac, vlan },
                    source: OURS,
                    destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
                    message: vec![9; 300],
                });
                network.flush();
                let mut batch = ReceiveBatch::default();
                let count = loop {
                    match batch.receive(&receiver, socket::BATCH_COUNT) {
                        Ok(count) => break count,
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    }
                };
                let raw = batch.frames(count).find(|raw| raw.kind != libc::PACKET_OUTGOING).unwrap();
                let reply = frame::parse(raw.bytes, raw.aux).unwrap();
                assert_eq!((reply.vlan, reply.message), (vlan, &[9; 300][..]));
            }
        }
        assert_eq!(network.counts().received, 8);
        assert_eq!(network.counts().sent, 8);
        assert_eq!(network.counts().unsent, 0);
    });
}

#[test]
fn neighbours_that_do_not_answer_block_nobody() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some((ours, client)) = wire("network::neighbours") else { return };
    runtime.block_on(async {
        let there = "neigh add 192.168.150.9 lladdr 02:00:00:00:00:09 dev eth0";
        assert!(std::process::Command::new("ip").args(there.split(' ')).status().unwrap().success());
        let mut network = Network::new(socket::open_udp(Ipv4Addr::UNSPECIFIED, 67).unwrap(), 67);
        let interface = ours.interface.clone();
        network.serve(std::slice::from_ref(&interface), &[ours, client.clone()]).unwrap();
        let all = libc::ETH_P_ALL as u16;
        let receiver = socket::open_packet(client.interface.index, all, &filter::udp_to(68), 1 << 20).unwrap();
        let mut reply = |last: u8| {
            network.send(Datagram {
                interface: Some(interface.index),
                route: Route::Ip,
                source: OURS,
                destination: SocketAddrV4::new(Ipv4Addr::new(192, 168, 150, last), 68),
                message: vec![last; 300],
            });
        };
        for _ in 0..100 {
            (10..=250).for_each(&mut reply);
        }
        reply(9);
        network.flush();
        assert!(network.counts().unsent > 0, "the flood was too small to fill the buffer");
        let mut batch = ReceiveBatch::default();
        let why = network.take_send_error();
        let count = batch
            .receive(&receiver, socket::BATCH_COUNT)
            .unwrap_or_else(|error| panic!("{error}: {why:?} {:?}", network.neighbours));
        let frames: Vec<_> = batch.frames(count).map(|raw| frame::parse(raw.bytes, raw.aux).unwrap()).collect();
        assert_eq!(frames.len(), 1);
        assert_eq!((frames[0].source.ip(), frames[0].message), (&OURS, &[9; 300][..]));
        // TTL 64, DF, as the IP stack sends it.
        let raw = batch.frames(count).next().unwrap();
        assert_eq!((raw.bytes[14 + 8], raw.bytes[14 + 6] & 0x40), (64, 0x40));
    });
}
