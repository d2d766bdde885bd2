//! Another configuration under real clients: they keep their leases, and the kernel says what the new one says.

use std::process::{Command, Output};

use tests::agent::binary;

use super::*;

/// `xdhcpd reload`, as an operator asks.
fn reload(agent: &Agent) -> Output {
    let socket = agent.folder.path().join("control.sock");
    Command::new(binary()).args(["reload", "--control"]).arg(socket).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn number(agent: &Agent, pointer: &str) -> u64 {
    agent.status().unwrap().pointer(pointer).and_then(serde_json::Value::as_u64).unwrap()
}

fn wait_for_armed(agent: &Agent, wanted: u64) {
    until("leases to be armed", WAIT, || (number(agent, "/fast_path/armed") == wanted).then_some(())).unwrap();
}

fn domain(reply: &Reply) -> Vec<u8> {
    let bytes = &reply.datagram.payload;
    let mut at = 240;
    while at + 1 < bytes.len() && bytes[at] != 255 {
        let end = at + 2 + usize::from(bytes[at + 1]);
        if bytes[at] == 15 {
            return bytes[at + 2..end].to_vec();
        }
        at = if bytes[at] == 0 { at + 1 } else { end };
    }
    Vec::new()
}

#[test]
fn clients_keep_their_leases_across_reloads_and_hear_the_new_options_from_the_kernel() {
    need!(
        "clients_keep_their_leases_across_reloads_and_hear_the_new_options_from_the_kernel",
        kernel().and_then(|()| stage("udhcpc"))
    );
    let lan = Lan::new(SERVER, 2).unwrap();
    let mut agent = Agent::start(&lan.server, Lan::SERVER, lan.fast_path(), VISITORS, "").unwrap();
    let mut peer = peers::udhcpc(&lan.clients[0], "c0", "Portable1").unwrap();
    let (address, heard) = wait_for_lease(&mut peer, 0, "lease of ");
    let (mut client, mut wire) = model(&lan, 1);
    let lease = client.acquire(&mut wire, WAIT).unwrap();
    settle(&lan, 1, lease.address);
    wait_for_armed(&agent, 2);

    // By command.
    let with_domain = |name: &str| VISITORS.replace("gsb.local", name);
    agent.folder.write("dhcpd.conf", &with_domain("second.example")).unwrap();
    let output = reload(&agent);
    assert!(output.status.success(), "{}", said(&output));
    for line in
        ["generation 2: options: 1 added, 1 removed", "- option domain-name \"gsb.local\";", "2 leases are being armed"]
    {
        assert!(said(&output).contains(line), "{line} in: {}", said(&output));
    }
    wait_for_armed(&agent, 2);
    let before = agent.answers().unwrap();
    peer.process.signal(Signal::User1).unwrap();
    assert_eq!(wait_for_lease(&mut peer, heard, "lease of ").0, address);
    assert_eq!(domain(&client.renew(&mut wire, WAIT).unwrap()), b"second.example");
    let since = answers_since(&agent, before, 2);
    assert!(since.by_agent == 0 && since.by_kernel >= 2, "{since:?}: {}", agent.status().unwrap());

    // A broken one changes nothing, however it is asked for.
    agent.folder.write("dhcpd.conf", &format!("rang 7;\n{}", with_domain("broken.example"))).unwrap();
    let output = reload(&agent);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("dhcpd.conf:1:") && said(&output).contains("stays"), "{}", said(&output));
    let said_before = agent.process.said().len();
    agent.process.signal(Signal::Hangup).unwrap();
    agent.process.wait_for(said_before, "the running configuration stays", WAIT).unwrap();
    assert_eq!((number(&agent, "/generation"), number(&agent, "/fast_path/armed")), (2, 2));
    let before = agent.answers().unwrap();
    assert_eq!(domain(&client.renew(&mut wire, WAIT).unwrap()), b"second.example");
    assert_eq!(answers_since(&agent, before, 1), Answers { by_kernel: 1, by_agent: 0 });

    // By signal, and with a range less.
    let less = with_domain("third.example").replace("192.168.150.50 192.168.150.100", "192.168.150.90 192.168.150.100");
    agent.folder.write("dhcpd.conf", &less).unwrap();
    let said_before = agent.process.said().len();
    agent.process.signal(Signal::Hangup).unwrap();
    agent.process.wait_for(said_before, "leases are in no range any more (2 of them running)", WAIT).unwrap();
    assert!(client.renew(&mut wire, Duration::from_millis(700)).is_err(), "nobody answers for a range that is gone");
    assert_eq!(number(&agent, "/fast_path/armed"), 0);

    // The range returns, and the lease with it.
    agent.folder.write("dhcpd.conf", &with_domain("fourth.example")).unwrap();
    let output = reload(&agent);
    assert!(said(&output).contains("2 leases are back in a range"), "{}", said(&output));
    let reply = client.renew(&mut wire, WAIT).unwrap();
    assert_eq!((reply.message.yiaddr(), domain(&reply)), (lease.address, b"fourth.example".to_vec()));
    let record = leases::newest_of(&agent.leases_file().unwrap(), address).unwrap();
    assert_eq!(record.value("binding state"), Some("active"), "{}", record.text);
    drop(agent.stop().unwrap());
}

#[test]
fn a_new_range_is_served_and_answered_by_the_kernel_without_a_restart() {
    need!("a_new_range_is_served_and_answered_by_the_kernel_without_a_restart", kernel());
    let lan = Lan::new(SERVER, 1).unwrap();
    let elsewhere = VISITORS.replace("range 192.168.150.50 192.168.150.100;", "");
    let agent = Agent::start(&lan.server, Lan::SERVER, lan.fast_path(), &elsewhere, "").unwrap();
    let (mut client, mut wire) = model(&lan, 0);
    assert!(client.acquire(&mut wire, Duration::from_millis(700)).is_err(), "there is no range");
    agent.folder.write("dhcpd.conf", VISITORS).unwrap();
    let output = reload(&agent);
    assert!(said(&output).contains("ranges: 1 added"), "{}", said(&output));
    let lease = client.acquire(&mut wire, WAIT).unwrap();
    assert!(in_pool(lease.address));
    settle(&lan, 0, lease.address);
    wait_for_armed(&agent, 1);
    let before = agent.answers().unwrap();
    client.renew(&mut wire, WAIT).unwrap();
    assert_eq!(answers_since(&agent, before, 1), Answers { by_kernel: 1, by_agent: 0 });
}
