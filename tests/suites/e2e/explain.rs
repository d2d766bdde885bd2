//! `xdhcpd explain` says what the server sends, to the byte.

use std::{fs, process::Command};

use serde_json::Value;
use tests::agent::binary;

use super::*;

/// A capture of Ethernet frames (classic pcap, little endian, microseconds).
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
    bytes.extend([0; 8]);
    bytes.extend(65_535_u32.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    for frame in frames {
        let len = frame.len() as u32;
        for word in [1_700_000_000, 0, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[test]
fn explain_shows_the_reply_that_the_server_sends_and_which_line_set_what() {
    need!("explain_shows_the_reply_that_the_server_sends_and_which_line_set_what", lab::available());
    let lan = Lan::new(SERVER, 2).unwrap();
    let mac = hex(&lan.clients[1].mac("c1").unwrap());
    let configuration = VISITORS.replace(
        "  range 192.168.150.50 192.168.150.100;",
        "  pool { deny members of \"phones\"; range 192.168.150.50 192.168.150.60; }\n  \
         pool { allow members of \"phones\"; range 192.168.150.70 192.168.150.80; }",
    );
    let configuration = format!(
        "class \"phones\" {{\n  match if option host-name = \"phone\";\n  option domain-name \"phones.example\";\n  \
         option tftp-server-name \"tftp\";\n}}\n{configuration}\nif known {{ filename \"/known\"; }}\n\
         host printer {{ hardware ethernet {mac}; fixed-address 192.168.150.20; option routers 192.168.150.2; }}\n"
    );
    let agent = Agent::start(&lan.server, Lan::SERVER, "off", &configuration, "").unwrap();
    let mut frames = Vec::new();
    let mut replies = Vec::new();
    for (index, name) in [(0, "phone"), (1, "printer")] {
        let (client, mut wire) = model(&lan, index);
        let mut client = client.named(name);
        client.wishes.push(66);
        let discover = client.discover();
        let offer = client.ask(&mut wire, &discover, WAIT).unwrap();
        let request = client.select(&offer).unwrap();
        let ack = client.ask(&mut wire, &request, WAIT).unwrap();
        let lease = client.bind(&ack).unwrap();
        settle(&lan, index, lease.address);
        let renewal = client.renewal().unwrap();
        let renewed = client.ask(&mut wire, &renewal, WAIT).unwrap();
        let inform = client.inform(lease.address);
        let informed = client.ask(&mut wire, &inform, WAIT).unwrap();
        frames.extend([discover, request, renewal, inform]);
        replies.extend([offer, ack, renewed, informed]);
    }
    let capture = agent.folder.path().join("clients.pcap");
    fs::write(&capture, pcap(&frames)).unwrap();
    let file = agent.folder.path().join("dhcpd.conf");
    let mut command = Command::new(binary());
    command.args(["explain", "--json", "--interface", Lan::SERVER, "-cf"]).arg(&file).arg("--packet").arg(&capture);
    let output = lan.server.enter(|| command.output()).unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), replies.len());
    for (number, (told, reply)) in told.iter().zip(&replies).enumerate() {
        let explained = told.pointer("/reply/hex").and_then(Value::as_str).unwrap_or_else(|| panic!("{told}"));
        assert_eq!(explained, hex(&reply.datagram.payload), "message {number}: {told}");
        // And what it says of each option is what was sent.
        for option in told["options"].as_array().unwrap() {
            let part = option["hex"].as_str().unwrap_or_else(|| panic!("{option}"));
            assert!(explained.contains(part), "message {number}: {option}");
        }
    }
    let line = |words: &str| {
        let number = configuration.lines().position(|line| line.contains(words)).unwrap() + 1;
        format!("dhcpd.conf:{number}:")
    };
    let option = |told: &Value, name: &str| -> Value {
        let name = format!("option {name}");
        told["options"].as_array().unwrap().iter().find(|option| option["name"] == *name).unwrap().clone()
    };
    let domain = option(&told[1], "domain-name");
    assert!(domain["from"].as_str().unwrap().contains(&line("phones.example")), "{domain}");
    assert!(domain["overrides"][0].as_str().unwrap().contains(&line("gsb.local")), "{domain}");
    assert_eq!(told[1]["classes"][0]["name"], "phones");
    let pools = told[1]["pools"].as_array().unwrap();
    assert_eq!(
        (&pools[0]["admits"], &pools[1]["admits"], &pools[1]["chosen"]),
        (&false.into(), &true.into(), &true.into())
    );
    assert!(pools[0]["by"].as_str().unwrap().contains(&line("deny members")), "{}", pools[0]);
    let routers = option(&told[4], "routers");
    assert!(routers["from"].as_str().unwrap().contains(&line("host printer")), "{routers}");
    assert_eq!(told[4]["host"]["name"], "printer");
    let scopes: Vec<&str> =
        told[1]["scopes"].as_array().unwrap().iter().map(|scope| scope["name"].as_str().unwrap()).collect();
    assert_eq!(
        scopes,
        [
            "the file's top level",
            "subnet 192.168.150.0 netmask 255.255.255.0",
            "pool 192.168.150.70-192.168.150.80",
            "class \"phones\""
        ]
    );
}
