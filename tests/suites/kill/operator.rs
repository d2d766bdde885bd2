//! What an operator sees of the fast path and does to it, and the check that does something by itself.

use std::{io, process::Command, time::Duration};

use aya::maps::{Array, MapData};
use dhcp_ebpf::abi::{Template, map};
use dhcp_user::io::xdp;
use tests::{
    agent::{self, Agent},
    client::Wire,
    lab::{self, Lan, Namespace, PacketSocket, until},
    need,
    peers::WAIT,
};

use super::{Stage, VISITORS, number, reply_has, said, stage};

fn fastpath(agent: &Agent, arguments: &[&str]) -> (bool, String) {
    let socket = agent.folder.path().join("control.sock");
    let output = Command::new(agent::binary()).arg("fastpath").args(arguments).arg("--control").arg(socket).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn an_operator_sees_why_the_kernel_passes_up_and_switches_it() {
    need!("kill::fastpath", stage());
    let mut stage = Stage::new();
    let agent = stage.start(stage.folder(VISITORS));
    let address = stage.join(&agent);
    stage.renew();
    let inform = stage.client.inform(address);
    stage.client.ask(&mut stage.wire, &inform, WAIT).unwrap();
    let (is_well, page) = fastpath(&agent, &["status"]);
    assert!(is_well, "{page}");
    for words in [
        "FAST PATH        on",
        "1 by the kernel",
        "other-question",
        "the client asks something that the agent has not answered before",
        "ARMED            1 leases",
        "horizon in",
        "SHADOW CHECK     off",
        "txvlan off",
    ] {
        assert!(page.contains(words), "{words:?} is not in\n{page}");
    }
    let (_, json) = fastpath(&agent, &["status", "--json"]);
    let page: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(page.pointer("/fast-path/answered").and_then(serde_json::Value::as_u64), Some(1), "{json}");

    assert!(fastpath(&agent, &["disarm"]).0);
    stage.renew();
    assert_eq!(number(&agent, "/replies/kernel"), 1, "switched off");
    assert!(fastpath(&agent, &["status"]).1.contains("switched off"));
    assert!(fastpath(&agent, &["arm"]).0);
    stage.renew();
    assert_eq!(number(&agent, "/replies/kernel"), 2);

    // One client's next message: passed up and why, answered by the kernel, or nothing.
    let mac = stage.client.mac.map(|byte| format!("{byte:02x}")).join(":");
    let traced = |stage: &mut Stage, frame: Option<Vec<u8>>| {
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| fastpath(&agent, &["trace", "--mac", &mac, "--wait", "5"]));
            if let Some(frame) = frame {
                // It may take a while until the question has arrived: a client repeats itself.
                for _ in 0..20 {
                    std::thread::sleep(Duration::from_millis(200));
                    if asking.is_finished() {
                        break;
                    }
                    stage.wire.send(&frame).unwrap();
                }
            }
            asking.join().unwrap()
        })
    };
    let (is_well, text) = traced(&mut stage, Some(inform));
    assert!(is_well && text.contains("passed up, other-question:") && text.contains(&address.to_string()), "{text}");
    std::thread::sleep(Duration::from_millis(1100));
    let renewal = stage.client.renewal().unwrap();
    let (is_well, text) = traced(&mut stage, Some(renewal));
    assert!(is_well && text.contains("answered by the kernel"), "{text}");
    let (is_well, text) = traced(&mut stage, None);
    assert!(is_well && text.contains("no message came"), "{text}");
    let (is_well, text) = fastpath(&agent, &["trace", "--mac", "nonsense"]);
    assert!(!is_well && text.contains("a hardware address has six bytes"), "{text}");

    assert!(fastpath(&agent, &["detach"]).0);
    assert!(!stage.is_attached());
    assert_eq!(stage.pinned(), Vec::<String>::new());
    stage.renew();
    let (is_well, text) = fastpath(&agent, &["arm"]);
    assert!(!is_well && text.contains("attached to no interface"), "{text}");
}

#[test]
fn an_interface_with_frames_longer_than_a_page_says_so() {
    need!("kill::mtu", stage());
    let stage = Stage::new();
    stage.lan.switch.plug(&stage.lan.server, "s1").unwrap();
    stage.lan.server.ip("addr add 192.168.150.2/24 dev s1").unwrap();
    stage.lan.switch.namespace().ip("link set port-s1 mtu 9000").unwrap();
    stage.lan.server.ip("link set s1 mtu 9000").unwrap();
    let start = |mode| {
        let folder = stage.folder(VISITORS);
        Agent::launch(folder, &stage.lan.server, Some(&stage.mounts), &["s1"], &["--fast-path", mode])
    };
    let error = start("native").unwrap_err();
    assert!(format!("{error:#}").contains("ip link set dev s1 mtu 1500"), "{error:#}");
    let agent = start("auto").unwrap();
    let status = agent.status().unwrap();
    assert_eq!(status.pointer("/interfaces/0/xdp").and_then(|mode| mode.as_str()), Some("generic"), "{status}");
}

#[test]
fn a_reply_that_differs_from_the_agents_own_switches_the_fast_path_off_and_is_kept() {
    need!("kill::shadow", stage());
    let mut stage = Stage::new();
    let more = ["--fast-path", stage.lan.fast_path(), "--shadow", "1"];
    let agent = stage.try_start(stage.folder(VISITORS), &more).unwrap();
    stage.join(&agent);
    for _ in 0..3 {
        stage.renew();
    }
    // A client that waits for the disk may have asked twice, and may not have heard the last answer yet.
    let sampled = number(&agent, "/kernel/sampled");
    assert!(sampled >= 3);
    let page = until("as many comparisons", WAIT, || {
        let (_, page) = fastpath(&agent, &["status"]);
        page.contains(&format!("one of 1 replies, {sampled} compared")).then_some(page)
    });
    assert!(!page.unwrap().contains("ALARM"));
    assert_eq!(number(&agent, "/replies/kernel"), 0);

    // Somebody breaks the answers in the kernel's map: two letters of the domain name change places, so that no checksum
    // tells.
    let templates = stage.pin(map::TEMPLATES);
    let spoil = |name: [u8; 9]| {
        let mut array: Array<_, [u8; size_of::<Template>()]> =
            Array::try_from(aya::maps::Map::Array(MapData::from_pin(&templates).unwrap())).unwrap();
        let mut spoilt = 0;
        for index in 0..array.len() {
            let mut value = array.get(&index, 0).unwrap();
            if let Some(at) = value.windows(6).position(|window| window == b".local").and_then(|at| at.checked_sub(3)) {
                value[at..at + 9].copy_from_slice(&name);
                array.set(index, value, 0).unwrap();
                spoilt += 1;
            }
        }
        spoilt
    };
    assert!(stage.mounts.enter(|| spoil(*b"bsg.local")).unwrap() > 0);
    let reply = stage.renew();
    assert!(reply_has(&reply, "gsb.local"), "the client got the agent's reply");
    let (_, page) = fastpath(&agent, &["status"]);
    assert!(page.contains("switched off") && page.contains("ALARM") && page.contains("at byte"), "{page}");
    let words = "shadow check: the kernel would have answered";
    until("the alarm in the log", WAIT, || said(&agent, words).then_some(())).unwrap();
    let evidence = std::fs::read_dir(agent.folder.path()).unwrap().flatten().map(|entry| entry.path());
    let evidence: Vec<_> = evidence.filter(|path| path.extension().is_some_and(|end| end == "pcap")).collect();
    assert_eq!(evidence.len(), 1);
    let shown = lab::run(Command::new(agent::binary()).arg("trace").arg(&evidence[0])).unwrap();
    assert!(shown.contains("bsg.local") && shown.contains("gsb.local"), "both replies are kept: {shown}");
    let before = number(&agent, "/replies/kernel");
    stage.renew();
    assert_eq!(number(&agent, "/replies/kernel"), before, "nothing is answered by the kernel until somebody arms it");

    // A letter that no other one makes up for: every receiver would throw that away, which is no better.
    assert!(stage.mounts.enter(|| spoil(*b"gsB.local")).unwrap() > 0);
    assert!(fastpath(&agent, &["arm"]).0);
    assert!(!fastpath(&agent, &["status"]).1.contains("ALARM"));
    stage.renew();
    let (_, page) = fastpath(&agent, &["status"]);
    assert!(page.contains("ALARM") && page.contains("no receiver takes it"), "{page}");
}

/// A socket whose frames are tagged on the way out; what comes in has lost its tag already.
struct Tagged<'a>(&'a mut PacketSocket);

impl Wire for Tagged<'_> {
    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let (addresses, rest) = frame.split_at(12);
        self.0.send(&[addresses, &[0x81, 0, 0, 10], rest].concat())
    }

    fn receive(&mut self, wait: Duration) -> io::Result<Option<Vec<u8>>> {
        self.0.receive(wait)
    }
}

#[test]
fn a_tag_beside_the_frame_keeps_a_client_with_the_agent_and_a_tag_in_it_does_not() {
    need!("kill::tags", stage());
    need!("kill::tags", lab::program("ethtool"));
    let mut stage = Stage::new();
    let agent = stage.start(stage.folder(VISITORS));
    let lease = stage.client.acquire(&mut Tagged(&mut stage.wire), WAIT).unwrap();
    stage.lan.clients[0].ip(&format!("addr replace {}/24 dev c0", lease.address)).unwrap();
    until("the kernel to be armed", WAIT, || (number(&agent, "/fast_path/armed") == 1).then_some(())).unwrap();
    stage.client.renew(&mut Tagged(&mut stage.wire), WAIT).unwrap();
    assert_eq!(number(&agent, "/replies/kernel"), 0, "XDP does not see the tag, so it is another question");
    let page = fastpath(&agent, &["status"]).1;
    assert!(page.contains("so tagged clients stay with the agent") && page.contains("txvlan off"), "{page}");
    ethtool(stage.lan.switch.namespace(), "port-s0", "txvlan off");
    stage.client.renew(&mut Tagged(&mut stage.wire), WAIT).unwrap();
    assert_eq!(number(&agent, "/replies/kernel"), 1);
}

#[test]
fn hardware_that_takes_tags_off_is_seen() {
    need!("kill::rxvlan", stage());
    need!("kill::rxvlan", lab::program("ethtool"));
    let stage = Stage::new();
    let strips = || stage.lan.server.enter(|| xdp::strips_tags(Lan::SERVER)).unwrap();
    for is_on in [true, false, true] {
        ethtool(&stage.lan.server, Lan::SERVER, if is_on { "rxvlan on" } else { "rxvlan off" });
        assert_eq!(strips().unwrap(), is_on);
    }
    let no_driver = stage.lan.server.enter(|| xdp::strips_tags("nobody")).unwrap();
    assert!(no_driver.is_err());
}

fn ethtool(namespace: &Namespace, interface: &str, what: &str) {
    let mut command = Command::new("ethtool");
    command.args(["-K", interface]).args(what.split_whitespace());
    let run = || command.status().unwrap();
    assert!(namespace.enter(run).unwrap().success(), "ethtool -K {interface} {what}");
}
