//! `disk`: the leases file under a running server: a file system that fills up, a second server, whoever follows.

use std::{net::Ipv4Addr, path::Path, process::Command, time::Duration};

use dhcproto::v4::MessageType;
use serde_json::Value;
use tests::{
    agent::{Agent, binary, verdict},
    client::Client,
    lab::{self, Folder, Lan, PacketSocket, Process, run, until},
    leases, need,
    peers::WAIT,
};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 1);
const VISITORS: &str = "authoritative;\nddns-update-style none;\nping-check false;\ndhcp-cache-threshold 0;\n\
                        default-lease-time 600;\nsubnet 192.168.150.0 netmask 255.255.255.0 {\n  \
                        range 192.168.150.50 192.168.150.100;\n}\n";

fn kernel() -> Result<(), String> {
    lab::available()?;
    lab::bpf_available()
}

fn model(lan: &Lan, index: usize) -> (Client, PacketSocket) {
    let interface = format!("c{index}");
    let namespace = &lan.clients[index];
    (Client::new(namespace.mac(&interface).unwrap()).named("model"), namespace.packet_socket(&interface).unwrap())
}

/// Its address on the interface, so that ARP is answered.
fn settle(lan: &Lan, index: usize, address: Ipv4Addr) {
    lan.clients[index].ip(&format!("addr replace {address}/24 dev c{index}")).unwrap();
}

/// A file system of a megabyte on a folder, gone afterwards.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn on(folder: &'a Path) -> Self {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "xdhcpd-test"]).arg(folder)).unwrap();
        Self(folder)
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("hog")).unwrap();
        let full = std::io::Write::write_all(&mut file, &vec![0; 2 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("hog")).unwrap();
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("--lazy").arg(self.0));
    }
}

fn failure(agent: &Agent) -> Option<String> {
    agent.status().unwrap().pointer("/journal/failure").and_then(Value::as_str).map(str::to_owned)
}

#[test]
fn on_a_full_disk_nothing_is_promised_the_kernel_keeps_its_word_and_room_heals_it() {
    need!("on_a_full_disk_nothing_is_promised_the_kernel_keeps_its_word_and_room_heals_it", kernel());
    let lan = Lan::new(SERVER, 3).unwrap();
    let folder = Folder::new("full-disk").unwrap();
    let place = folder.path().to_owned();
    let small = Small::on(&place);
    folder.write("dhcpd.conf", VISITORS).unwrap();
    folder.write("dhcpd.leases", "").unwrap();
    let agent = Agent::start_in(folder, &lan.server, Lan::SERVER, lan.fast_path()).unwrap();
    let (mut quiet, mut quiet_wire) = model(&lan, 0);
    let armed = quiet.acquire(&mut quiet_wire, WAIT).unwrap();
    settle(&lan, 0, armed.address);
    let (mut busy, mut wire) = model(&lan, 1);
    let lease = busy.acquire(&mut wire, WAIT).unwrap();
    settle(&lan, 1, lease.address);
    small.fill();

    // Every name is news, so the agent writes; the space that was written beforehand is used up after some hundreds.
    let refused = (0..600).find(|number| {
        busy.host_name = Some(format!("busy-{number}"));
        let frame = busy.renewal().unwrap();
        busy.ask(&mut wire, &frame, Duration::from_millis(900)).is_err()
    });
    assert!(refused.is_some(), "{}", agent.status().unwrap());
    let told = failure(&agent).expect("the status says so");
    assert!(told.contains("cannot be written"), "{told}");
    assert!(agent.process.said().iter().any(|line| line.contains("no lease is given or renewed")));

    // What was promised before is kept, without the disk.
    let before = agent.answers().unwrap();
    let reply = quiet.renew(&mut quiet_wire, WAIT).unwrap();
    assert_eq!((reply.kind(), reply.message.yiaddr()), (Some(MessageType::Ack), armed.address));
    let since = agent.answers().unwrap().since(before);
    assert!(since.by_kernel >= 1 && since.by_agent == 0, "{since:?}");
    // Nobody new is promised anything.
    let (mut newcomer, mut new_wire) = model(&lan, 2);
    assert!(newcomer.acquire(&mut new_wire, Duration::from_millis(900)).is_err());

    small.make_room();
    until("service again", Duration::from_secs(60), || failure(&agent).is_none().then_some(())).unwrap();
    let reply = busy.renew(&mut wire, WAIT).unwrap();
    assert_eq!(reply.message.yiaddr(), lease.address);
    let new = newcomer.acquire(&mut new_wire, WAIT).unwrap();
    let folder = agent.stop().unwrap();
    let text = std::fs::read_to_string(folder.path().join("dhcpd.leases")).unwrap();
    for address in [armed.address, lease.address, new.address] {
        assert_eq!(leases::newest_of(&text, address).unwrap().value("binding state"), Some("active"), "{text}");
    }
    drop(small);
}

#[test]
fn a_second_server_on_the_same_leases_file_is_refused() {
    need!("a_second_server_on_the_same_leases_file_is_refused", lab::available());
    let lan = Lan::new(SERVER, 1).unwrap();
    let agent = Agent::start(&lan.server, Lan::SERVER, "off", VISITORS, "").unwrap();
    let (mut client, mut wire) = model(&lan, 0);
    let lease = client.acquire(&mut wire, WAIT).unwrap();
    let before = agent.leases_file().unwrap();
    let file = |name: &str| agent.folder.path().join(name).into_os_string();
    let words = ["-4", "-f", "-d", "-p", "6767", "--no-pid", "--fast-path", "off", "-cf"].map(std::ffi::OsString::from);
    let mut arguments = words.to_vec();
    arguments.extend([file("dhcpd.conf"), "-lf".into(), file("dhcpd.leases"), "--control".into(), file("second.sock")]);
    arguments.push(Lan::SERVER.into());
    let arguments: Vec<&std::ffi::OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    let output = verdict(Some(&lan.server), &arguments).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("dhcpd.leases is in use by another server"), "{said}");
    assert_eq!(agent.leases_file().unwrap(), before);
    settle(&lan, 0, lease.address);
    client.renew(&mut wire, WAIT).unwrap();
}

/// The line about an address in a state that somebody who follows is told, `from` a line on.
fn told(follower: &mut Process, from: usize, address: Ipv4Addr, state: &str) -> usize {
    let words = format!("{{\"address\":\"{address}\",\"state\":\"{state}\"");
    follower.wait_for(from, &words, WAIT).unwrap().1
}

#[test]
fn whoever_follows_sees_all_leases_then_every_change_once_across_a_rewrite() {
    need!("whoever_follows_sees_all_leases_then_every_change_once_across_a_rewrite", lab::available());
    let lan = Lan::new(SERVER, 3).unwrap();
    let agent = Agent::start(&lan.server, Lan::SERVER, "off", VISITORS, "").unwrap();
    let (mut first, mut wire) = model(&lan, 0);
    let one = first.acquire(&mut wire, WAIT).unwrap();
    let socket = agent.folder.path().join("control.sock");
    let mut command = Command::new(binary());
    let mut follower =
        Process::spawn(command.args(["leases", "--follow", "--json", "--control"]).arg(&socket)).unwrap();
    let at = told(&mut follower, 0, one.address, "active");
    let (mut second, mut wire) = model(&lan, 1);
    let two = second.acquire(&mut wire, WAIT).unwrap();
    let at = told(&mut follower, at, two.address, "active");

    run(Command::new(binary()).args(["compact", "--control"]).arg(&socket)).unwrap();
    until("a rewrite", WAIT, || {
        let count = agent.status().unwrap().pointer("/journal/compactions").and_then(Value::as_u64);
        (count == Some(1)).then_some(())
    })
    .unwrap();
    assert!(agent.folder.path().join("dhcpd.leases~").exists());
    let release = second.release().unwrap();
    tests::client::Wire::send(&mut wire, &release).unwrap();
    let at = told(&mut follower, at, two.address, "free");
    let (mut third, mut wire) = model(&lan, 2);
    let three = third.acquire(&mut wire, WAIT).unwrap();
    told(&mut follower, at, three.address, "active");

    let count = follower.said().iter().filter(|line| line.contains("\"lease\":")).count();
    assert_eq!(count, 4, "{:#?}", follower.said());
    agent.stop().unwrap();
    assert_eq!(follower.wait(WAIT).unwrap().code(), Some(1), "the server has gone: {}", follower.last_words());
}
