//! `links`: the server between networks. Several interfaces, several subnets on one, links that come and go, addresses
//! that change, hosts that sit on an address already, and a relay that speaks to two servers.

use std::{net::Ipv4Addr, process::Command, time::Duration};

use dhcproto::v4::MessageType;
use tests::{
    agent::Agent,
    client::Client,
    lab::{self, Namespace, PacketSocket, Switch, program, until},
    leases, need,
    peers::WAIT,
};

/// What every configuration here begins with.
const HEAD: &str = "authoritative;\nddns-update-style none;\nping-check false;\ndhcp-cache-threshold 0;\n\
    default-lease-time 600;\nmax-lease-time 7200;\n";

/// A subnet with a range.
fn subnet(net: &str, first: u8, last: u8) -> String {
    format!("subnet {net}.0 netmask 255.255.255.0 {{ range {net}.{first} {net}.{last}; option routers {net}.1; }}\n")
}

/// A namespace at the other end of a cable to `interface` of the server.
fn cable(server: &Namespace, interface: &str) -> Namespace {
    let client = Namespace::new(&format!("at-{interface}")).unwrap();
    lab::veth(server, interface, &client, "c0").unwrap();
    client
}

/// A client of our own making in a namespace; `number` makes several of them.
fn model(namespace: &Namespace, number: u8) -> (Client, PacketSocket) {
    let mac = namespace.mac("c0").unwrap();
    let mac = if number == 0 { mac } else { [2, 0, 0, 0, 0x77, number] };
    (Client::new(mac), namespace.packet_socket("c0").unwrap())
}

/// Waits until the agent serves these interfaces and no others.
fn wait_for_interfaces(agent: &Agent, wanted: &[&str]) {
    let served = until(&format!("{wanted:?} to be served"), WAIT, || {
        let status = agent.status().ok()?;
        let names: Vec<String> =
            status["interfaces"].as_array()?.iter().filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect();
        (names == wanted).then_some(())
    });
    assert!(served.is_ok(), "{}\n{}", agent.status().unwrap(), agent.process.last_words());
}

#[test]
fn each_interface_and_each_subnet_on_it_has_its_own_addresses() {
    need!("links::subnets", lab::available());
    let server = Namespace::new("server").unwrap();
    let (first, second) = (cable(&server, "s0"), cable(&server, "s1"));
    for address in ["192.168.150.1/24 dev s0", "10.5.0.1/24 dev s0", "10.6.0.1/24 dev s1"] {
        server.ip(&format!("addr add {address}")).unwrap();
    }
    let configuration = format!(
        "{HEAD}shared-network \"both\" {{\n{}{}}}\n{}",
        subnet("192.168.150", 50, 51),
        subnet("10.5.0", 50, 59),
        subnet("10.6.0", 50, 59)
    );
    let agent = Agent::start(&server, "", "off", &configuration, "").unwrap();
    wait_for_interfaces(&agent, &["s0", "s1"]);
    let mut taken = Vec::new();
    for number in 0..4 {
        let (mut client, mut wire) = model(&first, number);
        let lease = client.acquire(&mut wire, WAIT).unwrap();
        assert_eq!(lease.server, Ipv4Addr::new(192, 168, 150, 1), "the first address of the interface");
        taken.push(lease.address);
    }
    // Two of the first subnet, then those of the other on the same link.
    let expected: Vec<Ipv4Addr> = ["192.168.150.50", "192.168.150.51", "10.5.0.50", "10.5.0.51"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    assert_eq!(taken, expected);
    let (mut client, mut wire) = model(&second, 0);
    let lease = client.acquire(&mut wire, WAIT).unwrap();
    assert_eq!((lease.address, lease.server), (Ipv4Addr::new(10, 6, 0, 50), Ipv4Addr::new(10, 6, 0, 1)));
    // An address of the other link is wrong here.
    let elsewhere = client.reboot(expected[0]);
    assert_eq!(client.ask(&mut wire, &elsewhere, WAIT).unwrap().kind(), Some(MessageType::Nak));
}

#[test]
fn interfaces_come_and_go_while_others_are_served() {
    need!("links::interfaces", lab::available());
    let server = Namespace::new("server").unwrap();
    let first = cable(&server, "s0");
    server.ip("addr add 192.168.150.1/24 dev s0").unwrap();
    let configuration = format!("{HEAD}{}{}", subnet("192.168.150", 50, 99), subnet("10.6.0", 50, 99));
    let agent = Agent::start(&server, "", "off", &configuration, "").unwrap();
    wait_for_interfaces(&agent, &["s0"]);
    for round in 0..2 {
        // Another index each time, as a USB adapter or a container has.
        let second = cable(&server, "s1");
        server.ip("addr add 10.6.0.1/24 dev s1").unwrap();
        wait_for_interfaces(&agent, &["s0", "s1"]);
        let (mut client, mut wire) = model(&second, 1);
        let lease = client.acquire(&mut wire, WAIT).unwrap();
        assert_eq!(lease.address, Ipv4Addr::new(10, 6, 0, 50), "round {round}");
        server.ip("link del s1").unwrap();
        wait_for_interfaces(&agent, &["s0"]);
        let (mut client, mut wire) = model(&first, 0);
        assert_eq!(client.acquire(&mut wire, WAIT).unwrap().address, Ipv4Addr::new(192, 168, 150, 50));
    }
    // Down and up again: the same interface, not served in between.
    server.ip("link set s0 down").unwrap();
    wait_for_interfaces(&agent, &[]);
    server.ip("link set s0 up").unwrap();
    wait_for_interfaces(&agent, &["s0"]);
    let (mut client, mut wire) = model(&first, 0);
    client.acquire(&mut wire, WAIT).unwrap();
}

#[test]
fn an_address_that_changes_is_in_the_next_answer_of_the_kernel_too() {
    need!("links::addresses", lab::available().and_then(|()| lab::bpf_available()));
    let server = Namespace::new("server").unwrap();
    let first = cable(&server, "s0");
    server.ip("addr add 192.168.150.1/24 dev s0").unwrap();
    let configuration = format!("{HEAD}{}", subnet("192.168.150", 50, 99));
    let agent = Agent::start(&server, "s0", "generic", &configuration, "").unwrap();
    let (mut client, mut wire) = model(&first, 0);
    let lease = client.acquire(&mut wire, WAIT).unwrap();
    first.ip(&format!("addr add {}/24 dev c0", lease.address)).unwrap();
    let armed = |agent: &Agent| {
        until("the kernel to be armed", WAIT, || {
            (agent.status().ok()?.pointer("/fast_path/armed")?.as_u64()? == 1).then_some(())
        })
        .unwrap();
    };
    armed(&agent);
    assert_eq!(client.renew(&mut wire, WAIT).unwrap().server(), Some(lease.server));
    assert_eq!(agent.answers().unwrap().by_kernel, 1);

    let new = Ipv4Addr::new(192, 168, 150, 2);
    server.ip("addr add 192.168.150.2/24 dev s0").unwrap();
    server.ip("addr del 192.168.150.1/24 dev s0").unwrap();
    // Deleting a primary address takes its secondaries along where the kernel does not promote them.
    let _ = server.ip("addr add 192.168.150.2/24 dev s0");
    until("the new address to be served", WAIT, || {
        agent.status().ok()?["interfaces"][0]["addresses"]
            .as_array()?
            .iter()
            .all(|one| one == "192.168.150.2/24")
            .then_some(())
    })
    .unwrap();
    let rebinding = client.rebinding().unwrap();
    let reply = client.ask(&mut wire, &rebinding, WAIT).unwrap();
    assert_eq!(reply.server(), Some(new), "nobody answers with an address that is gone");
    client.bind(&reply).unwrap();
    armed(&agent);
    let before = agent.answers().unwrap();
    assert_eq!(client.renew(&mut wire, WAIT).unwrap().server(), Some(new));
    assert_eq!(agent.answers().unwrap().since(before).by_kernel, 1);
}

#[test]
fn a_host_that_only_answers_arp_keeps_its_address_and_holds_nobody_up() {
    need!("links::probe", lab::available());
    let server = Namespace::new("server").unwrap();
    let switch = Switch::new().unwrap();
    switch.plug(&server, "s0").unwrap();
    server.ip("addr add 192.168.150.1/24 dev s0").unwrap();
    let squatter = Namespace::new("squatter").unwrap();
    switch.plug(&squatter, "q0").unwrap();
    squatter.ip("addr add 192.168.150.50/24 dev q0").unwrap();
    squatter.set("net/ipv4/icmp_echo_ignore_all", "1");
    let client = Namespace::new("client").unwrap();
    switch.plug(&client, "c0").unwrap();
    let head = HEAD.replace("ping-check false", "ping-check true; ping-timeout 2");
    let agent = Agent::start(&server, "s0", "off", &format!("{head}{}", subnet("192.168.150", 50, 99)), "").unwrap();
    let (mut first, mut wire) = model(&client, 1);
    let lease = first.acquire(&mut wire, WAIT).unwrap();
    assert_eq!(lease.address, Ipv4Addr::new(192, 168, 150, 51), "the next one");
    let record = leases::newest_of(&agent.leases_file().unwrap(), Ipv4Addr::new(192, 168, 150, 50)).unwrap();
    assert_eq!(record.value("binding state"), Some("abandoned"));
    let status = agent.status().unwrap();
    assert_eq!(status["ignored"]["address-in-use"], 1, "{status}");

    // While one waits for its probe, another who needs none is served at once.
    let (mut waiting, mut wire) = model(&client, 2);
    let discover = waiting.discover();
    tests::client::Wire::send(&mut wire, &discover).unwrap();
    let (_, mut other) = model(&client, 0);
    let request = first.reboot(lease.address);
    let answer = first.ask(&mut other, &request, Duration::from_millis(1500)).unwrap();
    assert_eq!(answer.kind(), Some(MessageType::Ack));
    assert_eq!(agent.status().unwrap()["sent"]["offer"], 1, "the other OFFER still waits");
}

#[test]
fn behind_a_relay_with_two_servers_the_one_that_is_not_chosen_keeps_silent() {
    need!("links::relay", lab::available().and_then(|()| program("dhcrelay").map(drop)));
    // servers 192.168.150.1 and .3 -- relay 192.168.150.2 | 10.79.0.1 -- client
    let switch = Switch::new().unwrap();
    let relay = Namespace::new("relay").unwrap();
    switch.plug(&relay, "r0").unwrap();
    let client = Namespace::new("client").unwrap();
    lab::veth(&relay, "r1", &client, "c0").unwrap();
    relay.ip("addr add 192.168.150.2/24 dev r0").unwrap();
    relay.ip("addr add 10.79.0.1/24 dev r1").unwrap();
    relay.set("net/ipv4/ip_forward", "1");
    let servers =
        [("s0", "192.168.150.1", 50, 59), ("s1", "192.168.150.3", 60, 69)].map(|(interface, address, first, last)| {
            let server = Namespace::new(interface).unwrap();
            switch.plug(&server, interface).unwrap();
            server.ip(&format!("addr add {address}/24 dev {interface}")).unwrap();
            server.ip("route add 10.79.0.0/24 via 192.168.150.2").unwrap();
            let configuration =
                format!("{HEAD}subnet 192.168.150.0 netmask 255.255.255.0 {{ }}\n{}", subnet("10.79.0", first, last));
            let agent = Agent::start(&server, interface, "off", &configuration, "").unwrap();
            (server, agent)
        });
    let mut command = Command::new(program("dhcrelay").unwrap());
    command.args([
        "-4",
        "-d",
        "--no-pid",
        "-a",
        "-m",
        "append",
        "-id",
        "r1",
        "-iu",
        "r0",
        "192.168.150.1",
        "192.168.150.3",
    ]);
    let _relay = relay.spawn(&mut command).unwrap();
    until("dhcrelay to listen", WAIT, || relay.has_udp_port(67).then_some(())).unwrap();

    let (mut model, mut wire) = model(&client, 0);
    let discover = model.discover();
    let offer = model.ask(&mut wire, &discover, WAIT).unwrap();
    let request = model.select(&offer).unwrap();
    // The other server's OFFER may come in between.
    let answers = (0..5).map(|_| model.ask(&mut wire, &request, WAIT).unwrap());
    let ack = { answers }.find(|reply| reply.kind() == Some(MessageType::Ack)).unwrap();
    let lease = model.bind(&ack).unwrap();
    let chosen = usize::from(lease.address.octets()[3] >= 60);
    assert_eq!(lease.server.octets()[3], [1, 3][chosen]);
    let (_, agent) = &servers[chosen];
    let record = leases::newest_of(&agent.leases_file().unwrap(), lease.address).unwrap();
    assert_eq!(record.value("binding state"), Some("active"));
    assert!(record.text.contains("agent.circuit-id"), "{}", record.text);
    let (_, other) = &servers[1 - chosen];
    until("the other server to hear of it", WAIT, || {
        // Its OFFER, and what the choice left of it; where it is slow, it has seen the choice first and offers nothing.
        let status = other.status().ok()?;
        let choices = status["ignored"]["other-server"].as_u64()?;
        (choices + status["sent"]["offer"].as_u64()? >= 2).then_some(())
    })
    .unwrap();
    let sent = other.status().unwrap()["sent"].clone();
    assert_eq!((sent["ack"].as_u64(), sent["nak"].as_u64()), (Some(0), Some(0)), "{sent}");
    assert!(!other.leases_file().unwrap().contains("binding state active"), "it gave nothing away");
}
