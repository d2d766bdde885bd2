//! `e2e`: strangers agree. Real clients and the real dhcpd play against xdhcpd in namespaces of the test's own;
//! the counters of `xdhcpd status --json` say who answered.

#[path = "e2e/explain.rs"]
mod explain;
#[path = "e2e/reload.rs"]
mod reload;

use std::{net::Ipv4Addr, time::Duration};

use dhcproto::v4::MessageType;
use tests::{
    agent::{Agent, Answers},
    client::{Client, Reply, Wire},
    dhcpd::{self, Dhcpd},
    frames::{BROADCAST, Envelope, Message},
    lab::{self, Lan, Namespace, PacketSocket, Signal, program, until},
    leases, need,
    peers::{self, Peer, WAIT, address_after},
};

/// The server's address.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 1);
/// First and last address of the pool.
const POOL: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 150, 50), Ipv4Addr::new(192, 168, 150, 100)];

/// The visitor VLAN without its partner. No probes, no cached answers: a test that waits is a slow test.
const VISITORS: &str = r#"
authoritative;
ddns-update-style none;
ping-check false;
dhcp-cache-threshold 0;
default-lease-time 600;
max-lease-time 7200;
option domain-name "gsb.local";
option domain-name-servers 172.16.0.10;
subnet 192.168.150.0 netmask 255.255.255.0 {
  range 192.168.150.50 192.168.150.100;
  option routers 192.168.150.1;
  option broadcast-address 192.168.150.255;
}
"#;

/// The same with leases that renew after some seconds.
fn short_leases() -> String {
    VISITORS
        .replace(
            "default-lease-time 600",
            "default-lease-time 20; min-lease-time 20; option dhcp-renewal-time 3; option dhcp-rebinding-time 14",
        )
        .replace("max-lease-time 7200", "max-lease-time 20")
}

/// What a test needs that plays with a real client.
fn stage(client: &str) -> Result<(), String> {
    lab::available()?;
    program(client).map(drop)
}

/// What a test needs whose renewals the kernel answers.
fn kernel() -> Result<(), String> {
    lab::available()?;
    lab::bpf_available()
}

/// A client of our own making on an interface: its hardware address is the interface's.
fn model(lan: &Lan, index: usize) -> (Client, PacketSocket) {
    let interface = format!("c{index}");
    let namespace = &lan.clients[index];
    let client = Client::new(namespace.mac(&interface).unwrap()).named("model");
    (client, namespace.packet_socket(&interface).unwrap())
}

/// Gives the interface its address, so that the kernel of the client's namespace answers ARP for it.
fn settle(lan: &Lan, index: usize, address: Ipv4Addr) {
    lan.clients[index].ip(&format!("addr replace {address}/24 dev c{index}")).unwrap();
}

/// Waits until the counters show as many replies as wanted since `before`; returns what they show then.
fn answers_since(agent: &Agent, before: Answers, wanted: u64) -> Answers {
    let mut last = Answers::default();
    let _ = until("replies", Duration::from_secs(5), || {
        last = agent.answers().unwrap().since(before);
        (last.by_agent + last.by_kernel >= wanted).then_some(())
    });
    last
}

/// Waits until the newest record of `address` has this binding state.
fn wait_for_state(agent: &Agent, address: Ipv4Addr, wanted: &[&str]) {
    let what = format!("{address} to be {wanted:?} in the leases file");
    let found = until(&what, Duration::from_secs(8), || {
        let record = leases::newest_of(&agent.leases_file().ok()?, address)?;
        wanted.contains(&record.value("binding state")?).then_some(())
    });
    if let Err(error) = found {
        panic!("{error:#}:\n{}\n{}", agent.leases_file().unwrap(), agent.process.last_words());
    }
}

/// Waits for the line that a client writes for an ACK; returns the address and how many lines it had said by then.
fn wait_for_lease(peer: &mut Peer, from: usize, words: &str) -> (Ipv4Addr, usize) {
    let (line, next) = peer.process.wait_for(from, words, WAIT).unwrap();
    (address_after(&line, words).unwrap(), next)
}

fn in_pool(address: Ipv4Addr) -> bool {
    (POOL[0]..=POOL[1]).contains(&address)
}

// The harness itself, against the server that everybody knows.

#[test]
fn the_model_client_gets_renews_and_releases_a_lease_of_the_real_dhcpd() {
    need!("the_model_client_gets_renews_and_releases_a_lease_of_the_real_dhcpd", stage("dhcpd"));
    let lan = Lan::new(SERVER, 1).unwrap();
    let server = Dhcpd::start(&lan.server, Lan::SERVER, VISITORS, "").unwrap();
    let (mut client, mut wire) = model(&lan, 0);
    let lease = client.acquire(&mut wire, WAIT).unwrap();
    assert!(in_pool(lease.address) && lease.secs == 600 && lease.server == SERVER, "{lease:?}");
    settle(&lan, 0, lease.address);
    assert_eq!(client.renew(&mut wire, WAIT).unwrap().lease_secs(), Some(600));
    let release = client.release().unwrap();
    wire.send(&release).unwrap();
    until("dhcpd to free the lease", WAIT, || {
        let record = leases::newest_of(&server.leases().ok()?, lease.address)?;
        (record.value("binding state")? == "free").then_some(())
    })
    .unwrap();
}

#[test]
fn the_real_clients_renew_and_release_with_the_real_dhcpd() {
    const NAME: &str = "the_real_clients_renew_and_release_with_the_real_dhcpd";
    for peer in ["dhcpd", "udhcpc", "dhclient", "dhcpcd"] {
        need!(NAME, stage(peer));
    }
    let lan = Lan::new(SERVER, 3).unwrap();
    let server = Dhcpd::start(&lan.server, Lan::SERVER, &short_leases(), "").unwrap();
    let mut udhcpc = peers::udhcpc(&lan.clients[0], "c0", "one").unwrap();
    let mut dhclient = peers::dhclient(&lan.clients[1], "c1", "two").unwrap();
    let mut dhcpcd = peers::dhcpcd(&lan.clients[2], "c2", "three").unwrap();
    let (first, heard) = wait_for_lease(&mut udhcpc, 0, "lease of ");
    udhcpc.process.signal(Signal::User1).unwrap();
    assert_eq!(wait_for_lease(&mut udhcpc, heard, "lease of ").0, first);
    let (second, heard) = wait_for_lease(&mut dhclient, 0, "bound to ");
    assert_eq!(wait_for_lease(&mut dhclient, heard, "bound to ").0, second);
    let (third, _) = wait_for_lease(&mut dhcpcd, 0, "leased ");
    let heard = dhcpcd.process.said().len();
    peers::dhcpcd_command("c2", &dhcpcd, "-N").unwrap();
    dhcpcd.process.wait_for(heard, "acknowledged ", WAIT).unwrap();

    udhcpc.process.signal(Signal::User2).unwrap();
    peers::dhclient_release(&lan.clients[1], "c1", &dhclient).unwrap();
    peers::dhcpcd_command("c2", &dhcpcd, "-k").unwrap();
    for address in [first, second, third] {
        let freed = until("a release", WAIT, || {
            let record = leases::newest_of(&server.leases().ok()?, address)?;
            (record.value("binding state")? == "free").then_some(())
        });
        assert!(freed.is_ok(), "{address}: {}", server.leases().unwrap());
    }
}

// Real clients.

/// A real udhcpc takes a lease, renews five times, releases; who answered is counted.
fn play_udhcpc(fast_path: &str) {
    let lan = Lan::new(SERVER, 1).unwrap();
    let agent = Agent::start(&lan.server, Lan::SERVER, fast_path, VISITORS, "").unwrap();
    let before = agent.answers().unwrap();
    let mut peer = peers::udhcpc(&lan.clients[0], "c0", "Portable1").unwrap();
    let (address, mut heard) = wait_for_lease(&mut peer, 0, "lease of ");
    assert!(in_pool(address), "{address}");
    assert_eq!(answers_since(&agent, before, 2), Answers { by_kernel: 0, by_agent: 2 }, "OFFER and ACK");

    let before = agent.answers().unwrap();
    for _ in 0..5 {
        peer.process.signal(Signal::User1).unwrap();
        let (renewed, next) = wait_for_lease(&mut peer, heard, "lease of ");
        assert_eq!(renewed, address);
        heard = next;
    }
    let since = answers_since(&agent, before, 5);
    let (ours, other) =
        if fast_path == "off" { (since.by_agent, since.by_kernel) } else { (since.by_kernel, since.by_agent) };
    // udhcpc asks once more when an ACK is back before its own system call is (see the lab's cable); who answered is
    // the claim, not how often it asked.
    assert!((5..=10).contains(&ours) && other == 0, "{since:?}: {}", agent.status().unwrap());

    let record = leases::newest_of(&agent.leases_file().unwrap(), address).unwrap();
    assert_eq!(record.value("binding state"), Some("active"));
    assert_eq!(record.value("client-hostname"), Some("\"Portable1\""), "{}", record.text);
    peer.process.signal(Signal::User2).unwrap();
    wait_for_state(&agent, address, &["free", "released"]);
    drop(agent.stop().unwrap());
}

#[test]
fn the_kernel_renews_udhcpc_in_the_driver() {
    need!("the_kernel_renews_udhcpc_in_the_driver", kernel().and_then(|()| stage("udhcpc")));
    play_udhcpc("native");
}

#[test]
fn the_kernel_renews_udhcpc_in_generic_mode() {
    need!("the_kernel_renews_udhcpc_in_generic_mode", kernel().and_then(|()| stage("udhcpc")));
    play_udhcpc("generic");
}

#[test]
fn the_agent_renews_udhcpc_when_the_fast_path_is_off() {
    need!("the_agent_renews_udhcpc_when_the_fast_path_is_off", stage("udhcpc"));
    play_udhcpc("off");
}

#[test]
fn the_kernel_renews_dhclient_at_t1() {
    need!("the_kernel_renews_dhclient_at_t1", kernel().and_then(|()| stage("dhclient")));
    let lan = Lan::new(SERVER, 1).unwrap();
    let agent = Agent::start(&lan.server, Lan::SERVER, lan.fast_path(), &short_leases(), "").unwrap();
    let mut peer = peers::dhclient(&lan.clients[0], "c0", "Portable2").unwrap();
    let (address, heard) = wait_for_lease(&mut peer, 0, "bound to ");
    let before = agent.answers().unwrap();
    let (renewed, _) = wait_for_lease(&mut peer, heard, "bound to ");
    assert_eq!(renewed, address);
    assert_eq!(answers_since(&agent, before, 1), Answers { by_kernel: 1, by_agent: 0 }, "{}", agent.status().unwrap());
    peers::dhclient_release(&lan.clients[0], "c0", &peer).unwrap();
    wait_for_state(&agent, address, &["free", "released"]);
}

#[test]
fn the_kernel_renews_dhcpcd_on_demand() {
    need!(
        "the_kernel_renews_dhcpcd_on_demand",
        kernel().and_then(|()| stage("dhcpcd")).and_then(|()| stage("nsenter"))
    );
    let lan = Lan::new(SERVER, 1).unwrap();
    let agent = Agent::start(&lan.server, Lan::SERVER, lan.fast_path(), VISITORS, "").unwrap();
    let mut peer = peers::dhcpcd(&lan.clients[0], "c0", "Portable3").unwrap();
    let (address, _) = wait_for_lease(&mut peer, 0, "leased ");
    let before = agent.answers().unwrap();
    for count in 1..=3 {
        let heard = peer.process.said().len();
        peers::dhcpcd_command("c0", &peer, "-N").unwrap();
        peer.process.wait_for(heard, "acknowledged ", WAIT).unwrap();
        let since = answers_since(&agent, before, count);
        // dhcpcd puts the seconds since it began into `secs`, and its renewal differs from its first REQUEST: it may
        // miss once, and is armed with what it really sends.
        assert!(
            since.by_kernel + since.by_agent == count && since.by_agent <= 1,
            "{since:?}: {}",
            agent.status().unwrap()
        );
    }
    peers::dhcpcd_command("c0", &peer, "-k").unwrap();
    wait_for_state(&agent, address, &["free", "released"]);
}

// The model client, where a real one cannot be steered.

#[test]
fn kernel_and_agent_answer_a_renewal_with_the_same_bytes_but_for_the_times() {
    need!("kernel_and_agent_answer_a_renewal_with_the_same_bytes_but_for_the_times", kernel());
    let mut replies = Vec::new();
    for fast_path in ["off", "native", "generic"] {
        let lan = Lan::new(SERVER, 1).unwrap();
        let agent = Agent::start(&lan.server, Lan::SERVER, fast_path, VISITORS, "").unwrap();
        let (mut client, mut wire) = model(&lan, 0);
        // The same client each time: what is compared must not differ by its address.
        client.mac = [2, 0, 0, 0, 0, 0x51];
        lan.clients[0].ip("link set c0 address 02:00:00:00:00:51").unwrap();
        let lease = client.acquire(&mut wire, WAIT).unwrap();
        settle(&lan, 0, lease.address);
        until("the kernel to be armed", WAIT, || {
            let armed = agent.status().ok()?.pointer("/fast_path/armed")?.as_u64()?;
            (fast_path == "off" || armed == 1).then_some(())
        })
        .unwrap();
        let before = agent.answers().unwrap();
        let reply = client.renew(&mut wire, WAIT).unwrap();
        let since = answers_since(&agent, before, 1);
        assert_eq!(since.by_kernel, u64::from(fast_path != "off"), "{fast_path}: {since:?}");
        // What a UDP socket sends over a veth has a sum that nobody finishes: there is no wire.
        let is_summed = reply.datagram.is_udp_sum_right || (fast_path == "off" && reply.datagram.is_udp_sum_partial);
        assert!(reply.datagram.is_ip_sum_right && is_summed, "{fast_path}");
        replies.push((fast_path, without_times(&reply)));
    }
    for (fast_path, bytes) in &replies {
        assert_eq!(bytes, &replies[0].1, "{fast_path} differs from off");
    }
}

/// The message with the values of 51, 58 and 59 zeroed, and the xid, which the client draws.
fn without_times(reply: &Reply) -> Vec<u8> {
    let mut bytes = reply.datagram.payload.clone();
    bytes[4..8].fill(0);
    let mut at = 240;
    while at + 1 < bytes.len() && bytes[at] != 255 {
        if bytes[at] == 0 {
            at += 1;
            continue;
        }
        let len = usize::from(bytes[at + 1]);
        if [51, 58, 59].contains(&bytes[at]) {
            bytes[at + 2..at + 2 + len].fill(0);
        }
        at += 2 + len;
    }
    bytes
}

#[test]
fn the_agent_answers_what_the_kernel_does_not() {
    need!("the_agent_answers_what_the_kernel_does_not", kernel());
    let lan = Lan::new(SERVER, 1).unwrap();
    let agent = Agent::start(&lan.server, Lan::SERVER, lan.fast_path(), VISITORS, "").unwrap();
    let (mut client, mut wire) = model(&lan, 0);
    let lease = client.acquire(&mut wire, WAIT).unwrap();
    settle(&lan, 0, lease.address);

    let reboot = client.reboot(lease.address);
    assert_eq!(client.ask(&mut wire, &reboot, WAIT).unwrap().kind(), Some(MessageType::Ack), "INIT-REBOOT");
    let rebinding = client.rebinding().unwrap();
    assert_eq!(client.ask(&mut wire, &rebinding, WAIT).unwrap().kind(), Some(MessageType::Ack), "REBINDING");

    let before = agent.answers().unwrap();
    let inform = client.inform(lease.address);
    let reply = client.ask(&mut wire, &inform, WAIT).unwrap();
    assert_eq!((reply.kind(), reply.lease_secs()), (Some(MessageType::Ack), None), "INFORM");
    let wrong = client.reboot(Ipv4Addr::new(10, 9, 8, 7));
    assert_eq!(client.ask(&mut wire, &wrong, WAIT).unwrap().kind(), Some(MessageType::Nak), "a foreign address");
    assert_eq!(answers_since(&agent, before, 2), Answers { by_kernel: 0, by_agent: 2 });

    let decline = client.decline().unwrap();
    wire.send(&decline).unwrap();
    wait_for_state(&agent, lease.address, &["abandoned"]);
    let other = client.acquire(&mut wire, WAIT).unwrap();
    assert_ne!(other.address, lease.address, "a declined address is given to nobody");
}

#[test]
fn a_released_lease_is_renewed_by_nobody() {
    need!("a_released_lease_is_renewed_by_nobody", kernel());
    let lan = Lan::new(SERVER, 1).unwrap();
    let agent = Agent::start(&lan.server, Lan::SERVER, lan.fast_path(), VISITORS, "").unwrap();
    let (mut client, mut wire) = model(&lan, 0);
    let lease = client.acquire(&mut wire, WAIT).unwrap();
    settle(&lan, 0, lease.address);
    client.renew(&mut wire, WAIT).unwrap();
    let release = client.release().unwrap();
    wire.send(&release).unwrap();
    wait_for_state(&agent, lease.address, &["free", "released"]);

    let before = agent.answers().unwrap();
    client.lease = Some(lease);
    let request = client.renewal().unwrap();
    // dhcpd: a client that lost its lease but is still on its network may get it back; the kernel must stay out.
    let _ = client.ask(&mut wire, &request, Duration::from_millis(700));
    assert_eq!(agent.answers().unwrap().since(before).by_kernel, 0);
}

/// Ends the agent in one way or the other, starts the next on its files, and renews.
fn survive(ending: fn(Agent) -> lab::Folder) {
    let lan = Lan::new(SERVER, 1).unwrap();
    let agent = Agent::start(&lan.server, Lan::SERVER, lan.fast_path(), VISITORS, "").unwrap();
    let (mut client, mut wire) = model(&lan, 0);
    let lease = client.acquire(&mut wire, WAIT).unwrap();
    settle(&lan, 0, lease.address);
    client.renew(&mut wire, WAIT).unwrap();
    let folder = ending(agent);

    let agent = Agent::start_in(folder, &lan.server, Lan::SERVER, lan.fast_path()).unwrap();
    let reply = client.renew(&mut wire, WAIT).unwrap();
    assert_eq!(reply.message.yiaddr(), lease.address);
    // Another client does not get it meanwhile.
    let mut other = Client::new([2, 0, 0, 0, 9, 9]);
    let taken = other.acquire(&mut wire, WAIT).unwrap();
    assert_ne!(taken.address, lease.address);
    drop(agent);
}

#[test]
fn a_lease_survives_a_clean_restart() {
    need!("a_lease_survives_a_clean_restart", kernel());
    survive(|agent| agent.stop().unwrap());
}

#[test]
fn a_lease_survives_a_killed_agent() {
    need!("a_lease_survives_a_killed_agent", kernel());
    survive(|agent| agent.kill().unwrap());
}

#[test]
fn a_storm_of_broken_messages_changes_nothing() {
    need!("a_storm_of_broken_messages_changes_nothing", kernel());
    let lan = Lan::new(SERVER, 1).unwrap();
    let agent = Agent::start(&lan.server, Lan::SERVER, lan.fast_path(), VISITORS, "").unwrap();
    let (mut client, mut wire) = model(&lan, 0);
    let lease = client.acquire(&mut wire, WAIT).unwrap();
    settle(&lan, 0, lease.address);
    let before = agent.answers().unwrap();

    let server_mac = lease.server_mac;
    let whole = client.renewal().unwrap();
    for cut in 14..whole.len() {
        wire.send(&whole[..cut]).unwrap();
    }
    let mac = client.mac;
    let broken = [
        Message { hlen: 17, ..Message::request(1, mac, 1) },
        Message { op: 2, ..Message::request(1, mac, 2) },
        Message::request(99, mac, 3),
        Message { options: vec![(53, vec![])], ..Message::request(1, mac, 4) },
        Message { options: vec![], ..Message::request(1, mac, 5) }.with(50, [1, 2]),
    ];
    for message in &broken {
        wire.send(&Envelope::broadcast(mac).wrap(&message.bytes())).unwrap();
    }
    // An option that reaches past the end, a message without its cookie, and one of nothing but zeros.
    let mut past = Message { padded_to: 0, ..Message::request(3, mac, 6) }.bytes();
    past.pop();
    past.extend([12, 200, b'x']);
    let mut bare = Message::request(1, mac, 7).bytes();
    bare[236..240].fill(0);
    for payload in [past, bare, vec![0; 300], vec![1], vec![]] {
        wire.send(&Envelope::broadcast(mac).wrap(&payload)).unwrap();
        let unicast = Envelope::unicast(mac, lease.address, server_mac, SERVER);
        wire.send(&Envelope { to_mac: BROADCAST, ..unicast }.wrap(&payload)).unwrap();
    }

    // A whole one afterwards is answered: the rest has been looked at by then, and nothing of it was answered.
    client.renew(&mut wire, WAIT).unwrap();
    let since = answers_since(&agent, before, 1);
    assert_eq!(since.by_kernel + since.by_agent, 1, "{}", agent.status().unwrap());
    let record = leases::newest_of(&agent.leases_file().unwrap(), lease.address).unwrap();
    assert_eq!(record.value("binding state"), Some("active"));
}

#[test]
fn the_real_dhcpd_accepts_the_leases_file() {
    need!("the_real_dhcpd_accepts_the_leases_file", kernel().and_then(|()| stage("dhcpd")));
    let lan = Lan::new(SERVER, 2).unwrap();
    let agent = Agent::start(&lan.server, Lan::SERVER, lan.fast_path(), VISITORS, "").unwrap();
    let (mut first, mut wire) = model(&lan, 0);
    first.client_id = Some(vec![1, 2, 0xff, b'"', b'\\', 0]);
    first.host_name = Some(String::from("od\"d\\name"));
    let lease = first.acquire(&mut wire, WAIT).unwrap();
    settle(&lan, 0, lease.address);
    first.renew(&mut wire, WAIT).unwrap();
    let (mut second, mut wire) = model(&lan, 1);
    let gone = second.acquire(&mut wire, WAIT).unwrap();
    let release = second.release().unwrap();
    wire.send(&release).unwrap();
    wait_for_state(&agent, gone.address, &["free", "released"]);
    let folder = agent.stop().unwrap();

    let file = folder.path().join("dhcpd.leases");
    let verdict = dhcpd::check(&folder.path().join("dhcpd.conf"), Some(&file)).unwrap();
    assert!(verdict.is_accepted, "{}\n{}", verdict.said, std::fs::read_to_string(&file).unwrap());
    for word in ["corrupt", "unknown", "expecting", "line "] {
        assert!(!verdict.said.to_lowercase().contains(word), "{}", verdict.said);
    }

    // And it serves from it: our client renews with the real dhcpd.
    let text = std::fs::read_to_string(&file).unwrap();
    let server = Dhcpd::start(&lan.server, Lan::SERVER, VISITORS, &text).unwrap();
    let (_, mut wire) = model(&lan, 0);
    let reply = first.renew(&mut wire, WAIT).unwrap();
    assert_eq!(reply.message.yiaddr(), lease.address);
    drop(server);
}

#[test]
fn dhcpds_leases_are_taken_over() {
    need!("dhcpds_leases_are_taken_over", kernel().and_then(|()| stage("dhcpd")));
    let lan = Lan::new(SERVER, 1).unwrap();
    let server = Dhcpd::start(&lan.server, Lan::SERVER, VISITORS, "").unwrap();
    let (mut client, mut wire) = model(&lan, 0);
    let lease = client.acquire(&mut wire, WAIT).unwrap();
    settle(&lan, 0, lease.address);
    let text = server.leases().unwrap();
    drop(server);

    let agent = Agent::start(&lan.server, Lan::SERVER, lan.fast_path(), VISITORS, &text).unwrap();
    let reply = client.renew(&mut wire, WAIT).unwrap();
    assert_eq!(reply.message.yiaddr(), lease.address);
    let mut other = Client::new([2, 0, 0, 0, 9, 9]);
    assert_ne!(other.acquire(&mut wire, WAIT).unwrap().address, lease.address);
    drop(agent);
}

#[test]
fn a_relayed_client_gets_its_lease_through_the_real_dhcrelay() {
    need!("a_relayed_client_gets_its_lease_through_the_real_dhcrelay", kernel().and_then(|()| stage("dhcrelay")));
    // server 192.168.150.1 -- relay 192.168.150.2 | 10.79.0.1 -- client
    let (server, relay, client) =
        (Namespace::new("server").unwrap(), Namespace::new("relay").unwrap(), Namespace::new("client").unwrap());
    lab::veth(&server, "s0", &relay, "r0").unwrap();
    lab::veth(&relay, "r1", &client, "c0").unwrap();
    server.ip("addr add 192.168.150.1/24 dev s0").unwrap();
    server.ip("route add 10.79.0.0/24 via 192.168.150.2").unwrap();
    relay.ip("addr add 192.168.150.2/24 dev r0").unwrap();
    relay.ip("addr add 10.79.0.1/24 dev r1").unwrap();
    relay.set("net/ipv4/ip_forward", "1");
    let configuration = format!(
        "{VISITORS}\nsubnet 10.79.0.0 netmask 255.255.255.0 {{ range 10.79.0.50 10.79.0.60; option routers 10.79.0.1; }}\n"
    );
    let agent = Agent::start(&server, "s0", "generic", &configuration, "").unwrap();
    let mut command = std::process::Command::new(program("dhcrelay").unwrap());
    command.args(["-4", "-d", "--no-pid", "-a", "-m", "append", "-id", "r1", "-iu", "r0", "192.168.150.1"]);
    let _relay = relay.spawn(&mut command).unwrap();
    until("dhcrelay to listen", WAIT, || relay.has_udp_port(67).then_some(())).unwrap();

    let mut wire = client.packet_socket("c0").unwrap();
    let mut model = Client::new(client.mac("c0").unwrap()).named("relayed");
    let lease = model.acquire(&mut wire, WAIT).unwrap();
    assert_eq!(lease.address.octets()[..3], [10, 79, 0], "{lease:?}");
    client.ip(&format!("addr add {}/24 dev c0", lease.address)).unwrap();
    client.ip("route add default via 10.79.0.1").unwrap();
    // Its renewal is routed, not relayed (RFC 2131 4.3.2), so it goes to the router's MAC.
    let lease = model.lease.clone().map(|lease| tests::client::Lease { server_mac: relay.mac("r1").unwrap(), ..lease });
    model.lease = lease;
    let reply = model.renew(&mut wire, WAIT).unwrap();
    assert_eq!(reply.kind(), Some(MessageType::Ack));
    let record = leases::newest_of(&agent.leases_file().unwrap(), reply.message.yiaddr()).unwrap();
    assert!(record.text.contains("agent.circuit-id"), "{}", record.text);
}

/// Whether an XDP program is attached to the server's interface.
fn is_attached(lan: &Lan) -> bool {
    lan.server.ip(&format!("-d link show {}", Lan::SERVER)).unwrap().contains("prog/xdp")
}

#[test]
fn an_agent_that_stops_takes_its_program_along() {
    need!("e2e::detach", kernel());
    let lan = Lan::new(SERVER, 0).unwrap();
    let agent = Agent::start(&lan.server, Lan::SERVER, lan.fast_path(), VISITORS, "").unwrap();
    assert!(is_attached(&lan));
    agent.stop().unwrap();
    assert!(!is_attached(&lan));
}

/// Serves twice in one mount namespace, whose bpffs holds what the first agent leaves: told to stay, then not.
const STAY: &str = r#"
mount -t bpf bpf /sys/fs/bpf || exit 9
serve() {
    "$1" -f -d -cf "$2/dhcpd.conf" -lf "$2/dhcpd.leases" -pf "$2/pid" --control "$2/c" --fast-path generic $3 s0 2>>"$2/log" &
    until "$1" status --control "$2/c" >/dev/null 2>&1; do
        kill -0 $! || exit 8
        sleep 0.05
    done
    kill $!
    wait $!
}
serve "$1" "$2" --stay-attached
ip -d link show s0 | grep -c prog/xdp
serve "$1" "$2" ""
ip -d link show s0 | grep -c prog/xdp
grep -c "adopted from an earlier agent: 0 leases stayed armed" "$2/log"
"#;

#[test]
fn a_program_that_was_asked_to_stay_stays_until_the_next_agent_takes_it_off() {
    need!("e2e::stay", kernel());
    need!("e2e::stay", program("unshare"));
    need!("e2e::stay", program("timeout"));
    let lan = Lan::new(SERVER, 0).unwrap();
    let folder = lab::Folder::new("stay").unwrap();
    folder.write("dhcpd.conf", VISITORS).unwrap();
    folder.write("dhcpd.leases", "").unwrap();
    let mut command = std::process::Command::new("timeout");
    command.args(["60", "unshare", "-m", "sh", "-c", STAY, "stay"]).arg(tests::agent::binary()).arg(folder.path());
    let said = lan.server.run(&mut command).unwrap_or_else(|error| {
        panic!("{error:#}\n{}", std::fs::read_to_string(folder.path().join("log")).unwrap_or_default())
    });
    // Attached behind the first agent; not behind the second, which had found it.
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["1", "0", "1"]);
    assert!(!is_attached(&lan));
}
