//! `kill`: never down. The agent is killed, upgraded, taken off; the kernel goes on within the promises that are on
//! disk, and the next agent continues where the last one was.
//!
//! The checkers know the wire (what one packet socket saw) and the leases file, nothing of the insides.

mod operator;

use std::{net::Ipv4Addr, process::Command, time::Duration};

use aya::maps::{Array, MapData};
use dhcp_ebpf::abi::{ABI_VERSION, Control, map};
use tests::{
    agent::{self, Agent},
    client::{Client, Reply, Wire as _},
    crowd::{Crowd, Habits},
    dice::Dice,
    lab::{self, Folder, Lan, Mounts, PacketSocket, Signal, now, until},
    leases, need,
    peers::WAIT,
};

/// The server's address.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 1);

/// The visitor VLAN; instants are written as seconds since 1970, which the checkers read.
const VISITORS: &str = r#"
authoritative;
ddns-update-style none;
ping-check false;
dhcp-cache-threshold 0;
db-time-format local;
default-lease-time 600;
max-lease-time 7200;
option domain-name "gsb.local";
subnet 192.168.150.0 netmask 255.255.255.0 {
  range 192.168.150.50 192.168.150.100;
  option routers 192.168.150.1;
}
"#;

/// What every test here needs.
fn stage() -> Result<(), String> {
    lab::available()?;
    lab::bpf_available()?;
    Mounts::new().map(drop).map_err(|error| format!("mount namespaces or bpffs cannot be had: {error}"))
}

/// One client, one server, and the server's bpffs.
struct Stage {
    lan: Lan,
    mounts: Mounts,
    client: Client,
    wire: PacketSocket,
}

impl Stage {
    fn new() -> Self {
        let lan = Lan::new(SERVER, 1).unwrap();
        let client = Client::new(lan.clients[0].mac("c0").unwrap()).named("model");
        let wire = lan.clients[0].packet_socket("c0").unwrap();
        Self { lan, mounts: Mounts::new().unwrap(), client, wire }
    }

    fn folder(&self, configuration: &str) -> Folder {
        let folder = Folder::new("kill").unwrap();
        folder.write("dhcpd.conf", configuration).unwrap();
        folder.write("dhcpd.leases", "").unwrap();
        folder
    }

    fn try_start(&self, folder: Folder, more: &[&str]) -> anyhow::Result<Agent> {
        Agent::launch(folder, &self.lan.server, Some(&self.mounts), &[Lan::SERVER], more)
    }

    fn start(&self, folder: Folder) -> Agent {
        self.try_start(folder, &["--fast-path", self.lan.fast_path()]).unwrap()
    }

    /// A lease whose renewals the kernel answers.
    fn join(&mut self, agent: &Agent) -> Ipv4Addr {
        let lease = self.client.acquire(&mut self.wire, WAIT).unwrap();
        self.lan.clients[0].ip(&format!("addr replace {}/24 dev c0", lease.address)).unwrap();
        until("the kernel to be armed", WAIT, || (number(agent, "/fast_path/armed") == 1).then_some(())).unwrap();
        lease.address
    }

    fn renew(&mut self) -> Reply {
        self.client.renew(&mut self.wire, WAIT).unwrap()
    }

    /// Whether nobody answers a renewal.
    fn is_silent(&mut self) -> bool {
        let request = self.client.renewal().unwrap();
        self.client.ask(&mut self.wire, &request, Duration::from_millis(700)).is_err()
    }

    fn is_attached(&self) -> bool {
        self.lan.server.ip(&format!("-d link show {}", Lan::SERVER)).unwrap().contains("prog/xdp")
    }

    /// What is pinned, as paths below our folder.
    fn pinned(&self) -> Vec<String> {
        let list = self.mounts.enter(|| {
            let mut found = Vec::new();
            let mut folders = vec![std::path::PathBuf::from("/sys/fs/bpf/xdhcpd")];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        folders.push(entry.path());
                    } else {
                        found.push(entry.path().display().to_string());
                    }
                }
            }
            found.sort();
            found
        });
        list.unwrap()
    }

    /// Where the one pin with this name is.
    fn pin(&self, name: &str) -> String {
        let end = format!("/{name}");
        self.pinned().into_iter().find(|path| path.ends_with(&end)).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Overwrites a number in the pinned control map.
    fn set_control(&self, offset: usize, number: u32) {
        let control = self.pin(map::CONTROL);
        let set = || {
            let mut array: Array<_, [u8; size_of::<Control>()]> =
                Array::try_from(aya::maps::Map::Array(MapData::from_pin(&control).unwrap())).unwrap();
            let mut value = array.get(&0, 0).unwrap();
            value[offset..offset + 4].copy_from_slice(&number.to_ne_bytes());
            array.set(0, value, 0).unwrap();
        };
        self.mounts.enter(set).unwrap();
    }

    fn detach(&self) -> std::process::Output {
        let run = || Command::new(agent::binary()).arg("--detach").output();
        self.lan.server.enter_in(&self.mounts, run).unwrap().unwrap()
    }
}

fn number(agent: &Agent, pointer: &str) -> u64 {
    agent.status().unwrap().pointer(pointer).and_then(serde_json::Value::as_u64).unwrap()
}

fn said(agent: &Agent, words: &str) -> bool {
    agent.process.said().iter().any(|line| line.contains(words))
}

fn record_of(folder: &Folder, address: Ipv4Addr) -> leases::Record {
    let text = std::fs::read_to_string(folder.path().join("dhcpd.leases")).unwrap();
    leases::newest_of(&text, address).unwrap_or_else(|| panic!("{address} is not in {text}"))
}

#[test]
fn renewals_go_on_without_an_agent_and_the_next_one_knows_of_them() {
    need!("kill::adopt", stage());
    let mut stage = Stage::new();
    let agent = stage.start(stage.folder(VISITORS));
    let address = stage.join(&agent);
    let ends_before = record_of(&agent.folder, address);
    let folder = agent.kill().unwrap();
    assert!(stage.is_attached(), "the program outlives its agent");
    // Times have whole seconds: the renewal must be seen to move them.
    std::thread::sleep(Duration::from_millis(1100));
    for _ in 0..3 {
        assert_eq!(stage.renew().message.yiaddr(), address, "nobody but the kernel is there to answer");
    }

    let agent = stage.start(folder);
    assert!(said(&agent, "adopted from an earlier agent: 1 leases stayed armed"), "{}", agent.process.last_words());
    assert_eq!(number(&agent, "/fast_path/armed"), 1);
    assert_eq!(number(&agent, "/replies/kernel"), 3, "the counters are the same as well");
    let leases = agent.leases().unwrap();
    let ends = leases.pointer("/rows/0/ends").and_then(serde_json::Value::as_u64).unwrap();
    assert!(ends > ends_before.epoch("ends"), "{leases}: {}", ends_before.text);
    assert_eq!(stage.renew().message.yiaddr(), address);
    assert_eq!((number(&agent, "/replies/kernel"), number(&agent, "/replies/agent")), (4, 0));
    // What was adopted can be taken away as if it had been armed here.
    let release = stage.client.release().unwrap();
    stage.wire.send(&release).unwrap();
    until("the release", WAIT, || {
        (record_of(&agent.folder, address).value("binding state") == Some("free")).then_some(())
    })
    .unwrap();
    assert_eq!(number(&agent, "/fast_path/armed"), 0);
    agent.stop().unwrap();
    assert!(!stage.is_attached());
    assert_eq!(stage.pinned(), Vec::<String>::new(), "an agent that stops takes everything along");
}

#[test]
fn an_agent_that_stops_and_stays_attached_leaves_what_the_next_one_needs() {
    need!("kill::stay", stage());
    let mut stage = Stage::new();
    let mode = stage.lan.fast_path();
    let agent = stage.try_start(stage.folder(VISITORS), &["--fast-path", mode, "--stay-attached"]).unwrap();
    let address = stage.join(&agent);
    let folder = agent.stop().unwrap();
    assert_eq!(stage.renew().message.yiaddr(), address);
    // The next one is another build of the same program: the program is replaced, the link and the maps stay.
    let object = folder.write("xdhcpd.bpf.o", "").unwrap();
    std::fs::write(&object, dhcp_user::io::xdp::OBJECT).unwrap();
    let object = object.display().to_string();
    let agent = stage.try_start(folder, &["--fast-path", mode, "--fast-path-object", &object]).unwrap();
    assert!(said(&agent, "1 leases stayed armed"), "{}", agent.process.last_words());
    stage.renew();
    assert_eq!((number(&agent, "/replies/kernel"), number(&agent, "/replies/agent")), (2, 0));
}

#[test]
fn another_configuration_is_answered_from_at_once_and_the_promise_is_kept() {
    need!("kill::configuration", stage());
    let other_ranges =
        VISITORS.replace("range 192.168.150.50 192.168.150.100;", "range 192.168.149.0 192.168.150.100;");
    let other_ranges =
        other_ranges.replace("192.168.150.0 netmask 255.255.255.0", "192.168.148.0 netmask 255.255.252.0");
    let cases = [
        (VISITORS.replace("gsb.local", "other.local"), "a new generation, nothing is armed"),
        (other_ranges.replace("gsb.local", "other.local"), "the address ranges are others"),
    ];
    for (configuration, words) in cases {
        let mut stage = Stage::new();
        let agent = stage.start(stage.folder(VISITORS));
        let address = stage.join(&agent);
        let folder = agent.kill().unwrap();
        std::thread::sleep(Duration::from_millis(1100));
        assert!(reply_has(&stage.renew(), "gsb.local"));
        folder.write("dhcpd.conf", &configuration).unwrap();
        let agent = stage.start(folder);
        assert!(said(&agent, words), "{words}: {}", agent.process.last_words());
        assert_eq!(number(&agent, "/fast_path/armed"), 0);
        let ends = agent.leases().unwrap().pointer("/rows/0/ends").and_then(serde_json::Value::as_u64).unwrap();
        assert!(ends > record_of(&agent.folder, address).epoch("ends"), "the kernel's last word is known");
        let kernel_before = number(&agent, "/replies/kernel");
        let reply = stage.renew();
        assert!(reply_has(&reply, "other.local"), "nothing old is said any more");
        assert_eq!(number(&agent, "/replies/kernel"), kernel_before);
        // And that armed it anew.
        until("the kernel to be armed", WAIT, || (number(&agent, "/fast_path/armed") == 1).then_some(())).unwrap();
        assert!(reply_has(&stage.renew(), "other.local"));
        assert_eq!(number(&agent, "/replies/kernel"), kernel_before + 1);
    }
}

fn reply_has(reply: &Reply, words: &str) -> bool {
    reply.datagram.payload.windows(words.len()).any(|window| window == words.as_bytes())
}

#[test]
fn maps_of_another_version_are_taken_off_and_a_strangers_are_refused() {
    need!("kill::version", stage());
    let mut stage = Stage::new();
    let agent = stage.start(stage.folder(VISITORS));
    let address = stage.join(&agent);
    let folder = agent.kill().unwrap();
    stage.set_control(std::mem::offset_of!(Control, abi_version), ABI_VERSION - 1);
    let agent = stage.start(folder);
    let words = format!("version {} of the maps", ABI_VERSION - 1);
    assert!(said(&agent, &words), "{}", agent.process.last_words());
    // Its promise is bounded by the journal: the client keeps the address, and is armed anew.
    assert_eq!(stage.renew().message.yiaddr(), address);
    until("the kernel to be armed", WAIT, || (number(&agent, "/fast_path/armed") == 1).then_some(())).unwrap();
    let folder = agent.kill().unwrap();

    // Somebody else's map stands where ours should.
    let (control, entries) = (stage.pin(map::CONTROL), stage.pin(map::ENTRIES));
    let swap = || {
        std::fs::remove_file(&control).unwrap();
        MapData::from_pin(&entries).unwrap().pin(&control).unwrap();
    };
    stage.mounts.enter(swap).unwrap();
    let error = stage.try_start(folder, &["--fast-path", stage.lan.fast_path()]).unwrap_err();
    assert!(format!("{error:#}").contains("is not a map of xdhcpd: not touched"), "{error:#}");
    assert!(stage.is_attached(), "and it is not touched");
    assert!(stage.pinned().contains(&control));
}

#[test]
fn a_fast_path_that_was_taken_off_half_is_not_adopted_and_comes_back_whole() {
    need!("kill::half", stage());
    let mut stage = Stage::new();
    let agent = stage.start(stage.folder(VISITORS));
    let address = stage.join(&agent);
    let folder = agent.kill().unwrap();
    // As if it had been killed between the switch and the links.
    stage.set_control(std::mem::offset_of!(Control, enabled), 0);
    assert!(stage.is_silent(), "it is off");
    let agent = stage.start(folder);
    assert!(said(&agent, "had switched its fast path off"), "{}", agent.process.last_words());
    assert_eq!(number(&agent, "/fast_path/armed"), 0);
    assert_eq!(stage.renew().message.yiaddr(), address);
    until("the kernel to be armed", WAIT, || (number(&agent, "/fast_path/armed") == 1).then_some(())).unwrap();
    stage.renew();
    assert_eq!((number(&agent, "/replies/agent"), number(&agent, "/replies/kernel")), (1, 1));
    // Without its program, and without one of its maps.
    let folder = agent.kill().unwrap();
    let (program, entries) = (stage.pin("program"), stage.pin(map::ENTRIES));
    stage.mounts.enter(|| [program, entries].map(|path| std::fs::remove_file(path).unwrap())).unwrap();
    let agent = stage.start(folder);
    assert!(said(&agent, "was not whole: taken off"), "{}", agent.process.last_words());
    assert_eq!(stage.renew().message.yiaddr(), address);
}

#[test]
fn what_agents_left_is_taken_away_on_demand_and_never_under_an_agent() {
    need!("kill::detach", stage());
    let mut stage = Stage::new();
    let agent = stage.start(stage.folder(VISITORS));
    stage.join(&agent);
    let refused = stage.detach();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("an agent serves with"), "{refused:?}");
    let folder = agent.kill().unwrap();
    assert!(stage.is_attached());
    let done = stage.detach();
    assert!(done.status.success() && String::from_utf8_lossy(&done.stdout).contains("1 interfaces"), "{done:?}");
    assert!(!stage.is_attached());
    assert_eq!(stage.pinned(), Vec::<String>::new());
    assert!(stage.is_silent(), "nobody answers");
    assert!(String::from_utf8_lossy(&stage.detach().stdout).contains("nothing was attached"));
    // The leases file still says what was promised.
    let _agent = stage.start(folder);
    assert_eq!(stage.renew().kind(), Some(dhcproto::v4::MessageType::Ack));
}

#[test]
fn an_agent_without_a_fast_path_takes_over_what_the_kernel_promised() {
    need!("kill::off", stage());
    let mut stage = Stage::new();
    let agent = stage.start(stage.folder(VISITORS));
    let address = stage.join(&agent);
    let folder = agent.kill().unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    stage.renew();
    let agent = stage.try_start(folder, &["--fast-path", "off"]).unwrap();
    assert!(!stage.is_attached());
    assert_eq!(stage.pinned(), Vec::<String>::new());
    let ends = agent.leases().unwrap().pointer("/rows/0/ends").and_then(serde_json::Value::as_u64).unwrap();
    assert!(ends > record_of(&agent.folder, address).epoch("ends"));
    stage.renew();
    assert_eq!(number(&agent, "/replies/agent"), 1);
}

#[test]
fn another_xdp_program_is_never_replaced() {
    need!("kill::stranger", stage());
    let stage = Stage::new();
    let _other = stage.lan.server.attach_pass(Lan::SERVER).unwrap();
    let agent = stage.try_start(stage.folder(VISITORS), &["--fast-path", "auto"]).unwrap();
    let status = agent.status().unwrap();
    let of = |name: &str| status.pointer(&format!("/interfaces/0/{name}")).and_then(|value| value.as_str()).unwrap();
    assert_eq!(of("xdp"), "off");
    assert!(of("why").contains("another XDP program is attached to s0; xdhcpd does not replace it"), "{}", of("why"));
    assert!(stage.is_attached(), "it is still there");
    agent.stop().unwrap();
    assert!(stage.is_attached(), "and stays when the agent goes");
    let error = stage.try_start(stage.folder(VISITORS), &["--fast-path", "native"]).unwrap_err();
    assert!(format!("{error:#}").contains("another XDP program"), "{error:#}");
}

#[test]
fn every_interface_has_the_program_and_an_agent_takes_over_all_of_them() {
    need!("kill::interfaces", stage());
    let stage = Stage::new();
    stage.lan.switch.plug(&stage.lan.server, "s1").unwrap();
    stage.lan.server.ip("addr add 192.168.151.1/24 dev s1").unwrap();
    let configuration =
        format!("{VISITORS}\nsubnet 192.168.151.0 netmask 255.255.255.0 {{ range 192.168.151.50 192.168.151.60; }}\n");
    let start = |folder, interfaces: &[&str]| {
        let more = ["--fast-path", "generic"];
        Agent::launch(folder, &stage.lan.server, Some(&stage.mounts), interfaces, &more).unwrap()
    };
    let attached = || {
        let shown = stage.lan.server.ip("-d link show").unwrap();
        shown.matches("prog/xdp").count()
    };
    let agent = start(stage.folder(&configuration), &["s0", "s1"]);
    assert_eq!(attached(), 2);
    let folder = agent.kill().unwrap();
    assert_eq!(attached(), 2);
    let agent = start(folder, &["s0", "s1"]);
    assert_eq!(attached(), 2);
    let folder = agent.kill().unwrap();
    // One of them is served no more.
    let agent = start(folder, &["s1"]);
    assert!(said(&agent, "an earlier agent served this interface"), "{}", agent.process.last_words());
    assert_eq!(attached(), 1);
    agent.stop().unwrap();
    assert_eq!(attached(), 0);
}

#[test]
fn a_boot_clock_that_is_not_the_kernels_keeps_the_fast_path_off() {
    need!("kill::time-namespace", stage());
    need!("kill::time-namespace", lab::program("unshare"));
    let stage = Stage::new();
    let folder = stage.folder(VISITORS);
    let file = |name: &str| folder.path().join(name);
    let mut command = Command::new("unshare");
    command.args(["--time", "--boottime", "3600", "--"]).arg(agent::binary()).args(["-f", "-d", "-cf"]);
    command.arg(file("dhcpd.conf")).arg("-lf").arg(file("dhcpd.leases")).arg("-pf").arg(file("dhcpd.pid"));
    command.arg("--control").arg(file("control.sock")).args(["--fast-path", "generic", Lan::SERVER]);
    let mut process = stage.lan.server.spawn_in(&stage.mounts, &mut command).unwrap();
    let status = process.wait(Duration::from_secs(20)).unwrap();
    let words = process.last_words();
    if words.contains("unshare failed") || words.contains("timens_offsets") {
        return tests::skip::skip("kill::time-namespace", "this kernel has no time namespaces");
    }
    assert!(!status.success() && words.contains("time namespace"), "{words}");
}

/// Kills the agent again and again under load. `XDHCPD_KILLS` says how often; by hand a thousand times.
#[test]
fn an_agent_killed_again_and_again_leaves_no_two_owners_and_loses_no_promise() {
    need!("kill::loop", stage());
    let kills: u32 = std::env::var("XDHCPD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let stage = Stage::new();
    let configuration = VISITORS
        .replace("default-lease-time 600", "default-lease-time 20; min-lease-time 20")
        .replace("max-lease-time 7200", "max-lease-time 20")
        .replace("192.168.150.50 192.168.150.100", "192.168.150.50 192.168.150.65");
    for last in 50..=65 {
        stage.lan.clients[0].ip(&format!("addr add 192.168.150.{last}/24 dev c0")).unwrap();
    }
    let mut folder = stage.folder(&configuration);
    let load = Crowd::start(stage.lan.clients[0].packet_socket("c0").unwrap(), Habits::default());
    let mut dice = Dice::new(7);
    let mut adopted = 0;
    let begun = now();
    for kill in 0..kills {
        let mut agent = stage.start(folder);
        adopted += u64::from(said(&agent, "stayed armed"));
        std::thread::sleep(Duration::from_millis(dice.below(250)));
        agent.process.signal(Signal::Kill).unwrap();
        agent.process.wait(Duration::from_secs(5)).unwrap();
        load.agent_is(SERVER, false);
        folder = agent.folder;
        let leases = std::fs::read_to_string(folder.path().join("dhcpd.leases")).unwrap();
        load.check(SERVER, &leases).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        // Sometimes nobody is there for a while.
        std::thread::sleep(Duration::from_millis(dice.below(150)));
        load.agent_is(SERVER, true);
    }
    let seen = load.finish().unwrap_or_else(|error| panic!("{error}"));
    println!("{kills} kills in {:.0} s, {adopted} adoptions with leases; {seen}", begun.elapsed().as_secs_f32());
    assert!(adopted + 3 >= u64::from(kills), "{adopted} of {kills} agents adopted something");
    assert!(seen.acks > u64::from(kills) * 2, "{seen}");
    assert!(seen.acks_without_agent > 0, "{seen}");
}
