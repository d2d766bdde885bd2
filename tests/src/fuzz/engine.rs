//! Messages of clients, and time, at an engine with each configuration of the corpus: it never panics, and what it says
//! and writes is well formed.

use std::net::Ipv4Addr;
use std::sync::OnceLock;

use dhcp_user::config::{Config, ReceivedOptions, load};
use dhcp_user::lease::journal::read;
use dhcp_user::lease::time::WallTime;

use super::{Pieces, Target, configurations, piece};
use crate::fastpath::key;
use crate::frames::Message;
use crate::pump::{Pump, START};

pub(super) const TARGET: Target = Target {
    name: "engine",
    run,
    seeds,
    words: &[
        b"\x35\x01\x01",
        b"\x35\x01\x03",
        b"\x35\x01\x04",
        b"\x35\x01\x07",
        b"\x35\x01\x08",
        b"\x35\x01\x0a",
        b"\x32\x04\x0a\x00\x00\x0a",
        b"\x36\x04\x0a\x00\x00\x01",
        b"\x33\x04\x00\x00\x00\x0a",
        b"\x33\x04\xff\xff\xff\xff",
        b"\x39\x02\x02\x40",
        b"\x37\x04\x01\x03\x06\x0f",
        b"\x3d\x07\x01\x02\x00\x00\x00\x00\x01",
        b"\x3d\x00",
        b"\x0c\x02ab",
        b"\x3c\x09PXEClient",
        b"\x4d\x04iPXE",
        b"\x52\x04\x01\x02p1",
        b"\x52\x06\x05\x04\x0a\x00\x00\x00",
        b"\x76\x04\x0a\x00\x00\x00",
        b"\x34\x01\x03",
        b"\x51\x04\x00\x00\x00a",
        b"\x5d\x02\x00\x07",
        b"\x50\x00",
        b"\xff",
        b"\x63\x82\x53\x63",
    ],
    rounds: 1500,
};

/// A configuration in which everything may happen.
const EVERYTHING: &str = r#"
authoritative; ping-check off; one-lease-per-client on; dhcp-cache-threshold 50; min-lease-time 5; allow leasequery;
adaptive-lease-time-threshold 50; echo-client-id on; use-host-decl-names on; log-threshold-high 50; log-threshold-low 10;
class "port" { spawn with option agent.circuit-id; lease limit 2; }
class "pxe" { match if substring(option vendor-class-identifier, 0, 9) = "PXEClient"; filename "pxelinux.0"; next-server 10.0.0.3; }
option space v; option v.a code 1 = text; vendor-option-space v; option v.a "vendor";
on commit { set who = option host-name; log(info, concat("commit ", who)); }
on release or expiry { log(info, "gone"); execute("/bin/true", leased-address); }
host known { hardware ethernet 02:00:00:00:00:01; fixed-address 10.0.0.200; option host-name "known"; }
host named { uid "\001\002"; option domain-name "named"; }
shared-network both {
  subnet 10.0.0.0 netmask 255.255.255.0 { option routers 10.0.0.1; pool { range 10.0.0.10 10.0.0.13; deny dynamic bootp clients; } }
  subnet 10.0.1.0 netmask 255.255.255.0 { pool { range 10.0.1.10 10.0.1.12; allow members of "pxe"; allow known-clients; } }
}
subnet 10.2.0.0 netmask 255.255.0.0 { range dynamic-bootp 10.2.0.10 10.2.0.11; deny unknown-clients; }
"#;

/// Everything that is accepted, with the address the server has in its first subnet.
fn configs() -> &'static [(Config, Ipv4Addr, u8)] {
    static CONFIGS: OnceLock<Vec<(Config, Ipv4Addr, u8)>> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let texts = std::iter::once(EVERYTHING.as_bytes().to_vec()).chain(configurations());
        texts
            .filter_map(|text| {
                let config = load("dhcpd.conf", &mut |_| Ok(text.clone())).config?;
                let subnet = config.subnets.iter().find(|subnet| subnet.prefix_len() < 31)?;
                let address = Ipv4Addr::from_bits(subnet.net.to_bits() + 1);
                let prefix_len = subnet.prefix_len();
                Some((config, address, prefix_len))
            })
            .collect()
    })
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (place, (config, server, _)) in configs().iter().enumerate() {
        let first = config.pools.first().and_then(|pool| pool.ranges.first()).map_or(*server, |range| range.first);
        let mac = [2, 0, 0, 0, 0, 9];
        let chosen = |kind| Message::request(kind, mac, 2).with(50, first.octets()).with(54, server.octets());
        let mut renewal = Message::request(3, mac, 3).with(55, [1, 3, 6, 15]);
        renewal.ciaddr = first;
        let mut relayed =
            Message::request(1, [2, 0, 0, 0, 0, 1], 4).with(60, *b"PXEClient").with(82, [1, 2, b'p', b'1']);
        relayed.giaddr = *server;
        let mut bootp = Message::request(1, [2, 0, 0, 0, 0, 7], 5);
        bootp.options.clear();
        let discover = Message::request(1, mac, 1).with(55, [1, 3, 6, 15, 51]).with(12, *b"client").with(57, [5, 220]);
        let mut query = Message::request(10, [0; 6], 6);
        (query.giaddr, query.ciaddr) = (*server, first);
        let mut inform = Message::request(8, mac, 7).with(55, [1, 3, 43]);
        inform.ciaddr = Ipv4Addr::from_bits(first.to_bits() + 90);
        let story = [discover, chosen(3), renewal, query, inform, relayed, bootp, chosen(7), chosen(4)];
        let mut seed = vec![place as u8];
        for (step, message) in story.iter().enumerate() {
            seed.push(if step == 2 { 7 } else { 1 });
            seed.extend(piece(&message.bytes()));
            seed.extend([0, 3]);
        }
        seeds.push(seed);
    }
    seeds
}

fn run(input: &[u8]) {
    let mut pieces = Pieces(input);
    let Some(choice) = pieces.byte() else { return };
    let (config, address, prefix_len) = &configs()[usize::from(choice) % configs().len()];
    let mut pump = Pump::of(config.clone(), *address, *prefix_len, &key(1));
    // A story has a bounded number of steps; each `0` and a byte lets so many times 40 seconds pass.
    for _ in 0..64 {
        let Some(step) = pieces.byte() else { break };
        if step == 0 {
            pump.pass(u64::from(pieces.byte().unwrap_or(1)) * 40);
            continue;
        }
        let Some(message) = pieces.piece() else { break };
        let source = match step & 6 {
            0 => Ipv4Addr::UNSPECIFIED,
            _ => message.get(12..16).and_then(|bytes| bytes.first_chunk::<4>()).map_or(*address, |ip| (*ip).into()),
        };
        let destination = if step & 2 == 0 { Ipv4Addr::BROADCAST } else { *address };
        pump.bytes(message, source, destination);
        for reply in pump.sent.drain(..) {
            let bytes = &reply.message;
            assert!(bytes.len() >= 240 && bytes.len() <= 1500 + 64, "a reply of {} bytes", bytes.len());
            assert_eq!(bytes[0], 2, "a reply is a BOOTREPLY");
            assert_eq!(bytes.get(4..8), message.get(4..8), "a reply to this request");
            if bytes[236..240] == [99, 130, 83, 99] {
                assert!(ReceivedOptions::parse(bytes).is_ok(), "the options of a reply can be read: {bytes:?}");
            }
        }
        pump.armed.clear();
        pump.revoked.clear();
    }
    let mut complaints = Vec::new();
    read(&pump.journal, WallTime::from_secs(u64::from(START)), &mut complaints);
    assert_eq!(complaints, [], "the journal can be read\n{}", String::from_utf8_lossy(&pump.journal));
}
