//! `xdhcpd explain`: the engine that serves, on leases of its own, asked about one message; and what it tells.
//!
//! ```text
//!   message (made up, or of a capture) --> engine, with a story --> what set what (told.rs), and the reply itself
//! ```
//!
//! Nothing is sent, written, pinged or run. The disk confirms at once, nobody answers a ping, and a failover partner is
//! out of reach.

mod told;

use std::{
    fs,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use dhcp_ebpf::{
    abi::DigestKey,
    wire::{
        dhcp::{COOKIE, OPTIONS_AT},
        ethernet::{PORT_CLIENT, PORT_SERVER},
        option::code,
    },
};

use self::told::{Circumstances, Reply, tell};
use super::{
    check, clock,
    command::{self, Explain, MessageKind},
    frame::{self, Aux},
    interfaces,
    plan::chosen,
    start, trace,
};
use crate::{
    config::{Config, trail::OptionPlace},
    engine::{
        self, EngineOptions, Server,
        port::{Effect, Input, Interface, InterfaceIndex, Level, Received, Verbs as _},
    },
    lease::{
        FailoverState, Table,
        journal::{self as dialect, PeerState, Record},
        time::{Now, WallTime},
    },
};

/// How long a failover peer is given to find out that its partner is out of reach.
const PARTNER_PATIENCE: Duration = Duration::from_secs(60);
/// Most messages of a capture.
const MESSAGES_MAX: usize = 10_000;
/// `xid` of a message that is made up.
const XID: [u8; 4] = *b"expl";

/// `xdhcpd explain`.
///
/// # Errors
///
/// A sentence saying what cannot be used.
pub(super) fn explain(asked: &Explain) -> Result<ExitCode, String> {
    let file = chosen(asked.config.as_ref(), "PATH_DHCPD_CONF").unwrap_or_else(|| command::CONFIG_DEFAULT.into());
    let (mut config, _) = check::load(&file)?;
    start::resolve(&mut config);
    let giaddr = asked.giaddr;
    let (interface, note) = interface(asked, &config)?;
    let mut world = World::new(config, interface, asked.leases.as_deref())?;
    world.notes.extend(note);
    let messages = match &asked.packet {
        Some(file) => captured(file)?,
        None => {
            let mut made = MadeUp::new(asked, world.server.config())?;
            if asked.message == MessageKind::Request && asked.ciaddr.is_none() {
                made.follow_offer(giaddr, &mut world)?;
            }
            vec![made.message(asked, giaddr)]
        }
    };
    let mut out = io::stdout().lock();
    for message in &messages {
        let told = world.explain(message);
        let text = if asked.json {
            serde_json::to_string(&told).map_err(|error| error.to_string())? + "\n"
        } else {
            told.text()
        };
        if out.write_all(text.as_bytes()).is_err() {
            // Nobody can be told that the output is closed.
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A message and how it arrived.
#[derive(Debug, Clone)]
struct Message {
    vlan: [u32; 2],
    source: SocketAddrV4,
    destination: Ipv4Addr,
    bytes: Vec<u8>,
}

/// The client messages of a capture.
fn captured(file: &Path) -> Result<Vec<Message>, String> {
    let open = fs::File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut messages = Vec::new();
    trace::frames(io::BufReader::new(open), |captured| {
        // A capture on the sender's side has partial checksums: not judged.
        let Ok(parsed) = frame::parse(captured.bytes, Aux { tag: 0, is_checksum_settled: true }) else { return };
        let is_request = parsed.message.first() == Some(&1);
        if parsed.destination.port() == PORT_SERVER && is_request && messages.len() < MESSAGES_MAX {
            messages.push(Message {
                vlan: parsed.vlan,
                source: parsed.source,
                destination: *parsed.destination.ip(),
                bytes: parsed.message.to_vec(),
            });
        }
    })
    .map_err(|error| format!("{}: {error}", file.display()))?;
    if messages.is_empty() {
        return Err(format!("{}: there is no DHCP message of a client in it", file.display()));
    }
    Ok(messages)
}

/// A message that is made up from the command line.
struct MadeUp {
    mac: [u8; 6],
    /// Code and bytes, 53 not among them.
    options: Vec<(u8, Vec<u8>)>,
}

impl MadeUp {
    fn new(asked: &Explain, config: &Config) -> Result<Self, String> {
        let text = asked.mac.as_deref().unwrap_or_default();
        let octets: Vec<u8> = text.split([':', '-']).filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
        let is_whole = text.split([':', '-']).count() == 6;
        let Some(mac) = <[u8; 6]>::try_from(octets).ok().filter(|_| is_whole) else {
            return Err(format!("--mac {text}: an Ethernet address has six octets, as in 02:00:00:00:00:01"));
        };
        let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
        let mut agent = Vec::new();
        for option in &asked.options {
            let Some((name, value)) = option.split_once('=') else {
                return Err(format!(
                    "--option {option}: NAME=VALUE is wanted, as in vendor-class-identifier=\"MSFT 5.0\""
                ));
            };
            let place = config
                .option_bytes(name.trim(), value.trim())
                .map_err(|error| format!("--option {option}: {}", error.trim_end()))?;
            match place {
                (OptionPlace::Message(code::MESSAGE_TYPE), _) => {
                    return Err("--option: the message type is what --message says".to_owned());
                }
                (OptionPlace::Message(code), bytes) => options.push((code, bytes)),
                (OptionPlace::Agent(code), bytes) => {
                    let len = u8::try_from(bytes.len()).map_err(|_| format!("--option {option}: too long"))?;
                    agent.extend_from_slice(&[code, len]);
                    agent.extend_from_slice(&bytes);
                }
            }
        }
        if !agent.is_empty() {
            options.push((code::RELAY_AGENT, agent));
        }
        Ok(Self { mac, options })
    }

    /// Lets the client get an offer, and take it.
    fn follow_offer(&mut self, giaddr: Option<Ipv4Addr>, world: &mut World) -> Result<(), String> {
        let (nobody, giaddr) = (Ipv4Addr::UNSPECIFIED, giaddr.unwrap_or(Ipv4Addr::UNSPECIFIED));
        let told = world.explain(&arrived(self.bytes(Some(1), nobody, giaddr), nobody, giaddr));
        let Some(offer) = &told.reply else {
            let why = told.ignored.unwrap_or_default();
            return Err(format!("the client is offered nothing ({why}): `--message discover` says more"));
        };
        self.options.push((code::REQUESTED_ADDRESS, offer.yiaddr.octets().to_vec()));
        self.options.push((code::SERVER_IDENTIFIER, offer.server.octets().to_vec()));
        Ok(())
    }

    fn message(&self, asked: &Explain, giaddr: Option<Ipv4Addr>) -> Message {
        let kind = match asked.message {
            MessageKind::Discover => Some(1),
            MessageKind::Request => Some(3),
            MessageKind::Inform => Some(8),
            MessageKind::Bootp => None,
        };
        let ciaddr = asked.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let giaddr = giaddr.unwrap_or(Ipv4Addr::UNSPECIFIED);
        arrived(self.bytes(kind, ciaddr, giaddr), ciaddr, giaddr)
    }

    fn bytes(&self, kind: Option<u8>, ciaddr: Ipv4Addr, giaddr: Ipv4Addr) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, u8::from(!giaddr.is_unspecified())];
        bytes.extend_from_slice(&XID);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&ciaddr.octets());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&giaddr.octets());
        bytes.extend_from_slice(&self.mac);
        bytes.resize(OPTIONS_AT - COOKIE.len(), 0);
        bytes.extend_from_slice(&COOKIE);
        let kind = kind.map(|kind| (code::MESSAGE_TYPE, vec![kind]));
        for (code, data) in kind.iter().chain(&self.options) {
            // Longer ones go in pieces (RFC 3396).
            for piece in data.chunks(255).chain(data.is_empty().then_some(&[][..])) {
                bytes.extend_from_slice(&[*code, piece.len() as u8]);
                bytes.extend_from_slice(piece);
            }
        }
        bytes.push(code::END);
        bytes.resize(bytes.len().max(300), 0);
        bytes
    }
}

/// A message as it comes from its client, or from a relay.
fn arrived(bytes: Vec<u8>, ciaddr: Ipv4Addr, giaddr: Ipv4Addr) -> Message {
    let source = match (giaddr.is_unspecified(), ciaddr.is_unspecified()) {
        (false, _) => SocketAddrV4::new(giaddr, PORT_SERVER),
        (true, _) => SocketAddrV4::new(ciaddr, PORT_CLIENT),
    };
    Message { vlan: [0; 2], source, destination: Ipv4Addr::BROADCAST, bytes }
}

/// The interface that messages come in through, and what is to be known about it if it is made up.
fn interface(asked: &Explain, config: &Config) -> Result<(Interface, Option<String>), String> {
    let made_up = |name: &str, address: Ipv4Addr| {
        let prefix = config.subnet_of(address).map_or(32, |subnet| config.subnet(subnet).prefix_len());
        Interface {
            index: InterfaceIndex(1),
            name: name.to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: vec![(address, prefix)],
            is_up: true,
        }
    };
    if let Some(address) = asked.address {
        return Ok((made_up(asked.interface.as_deref().unwrap_or("interface"), address), None));
    }
    if let Some(name) = &asked.interface {
        let found = interfaces::list().map_err(|error| format!("the interfaces cannot be listed: {error}"))?;
        if let Some(one) = found.into_iter().find(|one| one.interface.name == *name) {
            return Ok((one.interface, None));
        }
    }
    // The network by the interface's name, by the relay, or the only one there is.
    let by_name = asked.interface.as_deref().and_then(|name| config.shared_network_of_interface(name, &[]));
    let network = match (by_name, &config.shared_networks[..]) {
        (Some(network), _) => Some(config.shared_network(network)),
        (None, [only]) if asked.interface.is_none() => Some(only),
        (None, _) => None,
    };
    let relayed = asked.giaddr.and_then(|giaddr| config.subnet_of(giaddr));
    let subnet = network.and_then(|network| network.subnets.first().copied()).or(relayed);
    let Some(subnet) = subnet.map(|subnet| config.subnet(subnet)) else {
        return Err(match &asked.interface {
            Some(name) => format!(
                "{name}: this machine has no such interface, and no `interface {name};` is declared; say with --address \
                 which address the server has there"
            ),
            None => "there are several networks: name the --interface, the server's --address on it, or the --giaddr \
                     of the relay"
                .to_owned(),
        });
    };
    let address = Ipv4Addr::from_bits(subnet.net.to_bits().saturating_add(1));
    let name = asked.interface.as_deref().unwrap_or("interface");
    let note = format!("the server is taken to have the address {address} (--interface or --address say otherwise)");
    Ok((made_up(name, address), Some(note)))
}

/// An engine, and everything around it.
struct World {
    server: Server,
    now: Now,
    interface: InterfaceIndex,
    notes: Vec<String>,
}

impl World {
    fn new(config: Config, interface: Interface, leases: Option<&Path>) -> Result<Self, String> {
        let now = clock::now();
        let mut table = Table::new(&engine::layout(&config, [1, 2]));
        let mut peer_states: Vec<PeerState> = Vec::new();
        let mut notes = Vec::new();
        if let Some(file) = leases {
            let text = fs::read(file).map_err(|error| format!("lease database {}: {error}", file.display()))?;
            let mut complaints = Vec::new();
            for record in dialect::read(&text, now.wall, &mut complaints) {
                match record {
                    Record::Lease(lease) => {
                        table.put(lease);
                    }
                    Record::PeerState(state) => {
                        peer_states.retain(|known| known.name != state.name);
                        peer_states.push(state);
                    }
                    Record::ServerDuid(_) | Record::Other(_) => {}
                }
            }
        }
        for peer in &config.failover_peers {
            if peer.bootstrap.is_none() && !peer_states.iter().any(|known| *known.name == *peer.name.as_bytes()) {
                peer_states.push(in_touch(peer.name.as_bytes(), now.wall));
                notes
                    .push(format!("failover peer \"{}\" is taken to be out of reach, after normal service", peer.name));
            }
        }
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        let key = DigestKey::draw(|| {
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            word
        });
        let options = EngineOptions { peer_states, ..EngineOptions::new(1, key) };
        let index = interface.index;
        let server = Server::new(config, table, options, now);
        let mut world = Self { server, now, interface: index, notes };
        world.input(Input::Interfaces(vec![interface]), &mut Circumstances::default());
        world.settle();
        Ok(world)
    }

    /// Lets failover peers find out that nobody is there.
    fn settle(&mut self) {
        if self.server.config().failover_peers.is_empty() {
            return;
        }
        let until = self.now.boot.after(PARTNER_PATIENCE);
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= until) {
            let passed = at.since(self.now.boot).max(Duration::from_millis(1));
            self.now.boot = self.now.boot.after(passed);
            self.input(Input::Timeout, &mut Circumstances::default());
        }
    }

    fn explain(&mut self, message: &Message) -> told::Told {
        let mut circumstances = Circumstances { notes: self.notes.clone(), ..Circumstances::default() };
        self.server.explain_next();
        let received = Received {
            interface: self.interface,
            vlan: message.vlan,
            source: message.source,
            destination: message.destination,
            message: &message.bytes,
        };
        self.input(Input::Packet(received), &mut circumstances);
        let story = self.server.take_story().unwrap_or_default();
        tell(self.server.config(), &message.bytes, &story, circumstances, self.now.wall)
    }

    fn input(&mut self, input: Input<'_>, seen: &mut Circumstances) {
        self.server.handle(input, self.now);
        while let Some(effect) = self.server.poll_effect() {
            match effect {
                Effect::Append(seq, _) => self.server.handle(Input::Durable(seq), self.now),
                Effect::Revoke(token, _) | Effect::NewGeneration { token, .. } => {
                    self.server.handle(Input::Revoked(token, Vec::new()), self.now);
                }
                Effect::Probe { token, address, until, .. } => {
                    let wait = until.since(self.now.boot).as_millis();
                    seen.notes
                        .push(format!("{address} is asked for by ARP or ping first, for {wait} ms; nobody answers"));
                    self.server.handle(Input::Probed(token, false), self.now);
                }
                Effect::Send(datagram) => seen.reply = Some(Reply::of(&datagram)),
                Effect::Log(level, text) if level >= Level::Info => seen.log.push(text),
                Effect::Execute { program, arguments } => {
                    let arguments: Vec<String> =
                        arguments.iter().map(|argument| String::from_utf8_lossy(argument).into_owned()).collect();
                    seen.executions.push(format!("{program} {}", arguments.join(" ")));
                }
                Effect::Log(..)
                | Effect::Arm(_)
                | Effect::Extend(_)
                | Effect::Serving(..)
                | Effect::Balance(..)
                | Effect::Reloaded(_)
                | Effect::PeerSend(..)
                | Effect::PeerDial { .. }
                | Effect::PeerClose(_) => {}
            }
        }
    }
}

/// A partner with which everything was well.
fn in_touch(name: &[u8], now: WallTime) -> PeerState {
    PeerState {
        name: name.into(),
        my_state: FailoverState::Normal,
        my_since: now,
        partner_state: FailoverState::Normal,
        partner_since: now,
        mclt: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, io::command::Cli};
    use clap::Parser as _;
    use std::ffi::OsString;

    const CONFIG: &str = "option domain-name \"outer\"; default domain-name \"late\";
default-lease-time 600; max-lease-time 7200; ping-check off; authoritative;
class \"phones\" { match if substring(option vendor-class-identifier, 0, 5) = \"phone\"; option domain-name \"class\"; }
if known { filename \"/known\"; } elsif exists agent.circuit-id { filename \"/port\"; } else { filename \"/none\"; }
subnet 192.168.150.0 netmask 255.255.255.0 {
  option routers 192.168.150.1;
  option domain-name \"subnet\"; append domain-name-servers 10.0.0.1;
  append domain-name-servers 10.0.0.2;
  pool { deny members of \"phones\"; range 192.168.150.50 192.168.150.60; }
  pool { allow members of \"phones\"; range 192.168.150.70 192.168.150.80; on commit { execute(\"/bin/x\", \"y\"); } }
}
host printer { hardware ethernet 02:00:00:00:00:09; fixed-address 192.168.150.9; default-lease-time 60; min-lease-time 60; }
";

    /// What is told of a message, as JSON and as text.
    fn told(conf: &str, line: &str) -> (serde_json::Value, String) {
        let loaded = config::load("dhcpd.conf", &mut |_| Ok(conf.as_bytes().to_vec()));
        let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(false)));
        let mut arguments: Vec<OsString> =
            vec!["xdhcpd".into(), "explain".into(), "--interface".into(), "nosuch0".into()];
        arguments.extend(["--address".into(), "192.168.150.1".into()]);
        arguments.extend(line.split('|').map(OsString::from));
        let Some(command::Command::Explain(asked)) = Cli::try_parse_from(arguments).unwrap().command else { panic!() };
        let (interface, note) = interface(&asked, &config).unwrap();
        assert_eq!(note, None);
        let mut world = World::new(config, interface, None).unwrap();
        let mut made = MadeUp::new(&asked, world.server.config()).unwrap();
        if asked.message == MessageKind::Request && asked.ciaddr.is_none() {
            made.follow_offer(asked.giaddr, &mut world).unwrap();
        }
        let told = world.explain(&made.message(&asked, asked.giaddr));
        (serde_json::to_value(&told).unwrap(), told.text())
    }

    fn option(told: &serde_json::Value, list: &str, name: &str) -> serde_json::Value {
        let found = told[list].as_array().unwrap().iter().find(|value| value["name"] == *name);
        found.unwrap_or_else(|| panic!("no {name} in {told}")).clone()
    }

    #[test]
    fn every_value_has_its_statement_and_those_it_overruled() {
        let (told, text) =
            told(CONFIG, "--mac|02:00:00:00:00:01|--option|vendor-class-identifier=phone 7|--message|request");
        assert_eq!(told["address"], "192.168.150.70", "{text}");
        let domain = option(&told, "options", "option domain-name");
        assert_eq!(domain["value"], "\"class\"");
        assert_eq!(domain["from"], "dhcpd.conf:3:86");
        assert_eq!(domain["overrides"], serde_json::json!(["dhcpd.conf:7:3", "dhcpd.conf:1:1"]));
        assert_eq!(domain["too_late"], serde_json::json!(["dhcpd.conf:1:29"]));
        let servers = option(&told, "options", "option domain-name-servers");
        assert_eq!(
            (&servers["value"], &servers["joined_with"][0]),
            (&"10.0.0.1, 10.0.0.2".into(), &"dhcpd.conf:7:32".into())
        );
        let mask = option(&told, "options", "option subnet-mask");
        assert_eq!((&mask["value"], &mask["from"]), (&"255.255.255.0".into(), &"the netmask of the subnet".into()));
        assert_eq!(option(&told, "options", "option dhcp-lease-time")["value"], "600");
        assert_eq!(told["lease_secs"], 600);
        assert_eq!(told["branches"][0]["name"], "block 3 runs");
        assert_eq!(option(&told, "parameters", "filename")["value"], "\"/none\"");
        assert_eq!(told["executes"][0], "/bin/x y");
        assert!(told["kernel"].as_str().unwrap().contains("depends on more"), "{text}");
        for part in
            ["class \"phones\" by `match if`", "192.168.150.50-192.168.150.60", "REPLY to 192.168.150.70:68", "Ack xid"]
        {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
    }

    #[test]
    fn hosts_relays_and_refusals_are_told() {
        let (told, text) = told(CONFIG, "--mac|02:00:00:00:00:09");
        assert_eq!(
            (&told["host"]["name"], &told["fixed"], &told["known"]),
            (&"printer".into(), &true.into(), &true.into())
        );
        assert_eq!(option(&told, "parameters", "default-lease-time")["overrides"][0], "dhcpd.conf:2:1", "{text}");
        assert_eq!(told["lease_secs"], 60);

        let relayed = "--mac|02-00-00-00-00-02|--giaddr|192.168.150.2|--option|agent.circuit-id=\"p1\"";
        let (told, text) = self::told(CONFIG, relayed);
        assert_eq!(told["branches"][0]["name"], "block 2 runs", "{text}");
        assert_eq!(option(&told, "options", "option relay-agent-information")["hex"], "01:02:70:31");
        assert_eq!(told["reply"]["to"], "192.168.150.2:67");
        assert_eq!(told["kernel"], "may repeat this answer");

        let (told, text) = self::told(&format!("deny unknown-clients; {CONFIG}"), "--mac|02:00:00:00:00:03");
        assert_eq!((&told["ignored"], &told["reply"]), (&"unknown-client".into(), &serde_json::Value::Null));
        assert!(text.contains("NO REPLY: unknown-client") && text.contains("unknown client"), "{text}");
    }

    #[test]
    fn a_client_that_asks_for_little_is_told_what_it_does_not_get() {
        let (told, text) = told(CONFIG, "--mac|02:00:00:00:00:01|--option|55=3");
        let sent: Vec<u64> =
            told["options"].as_array().unwrap().iter().filter_map(|value| value["code"].as_u64()).collect();
        assert_eq!(sent, [53, 54, 51, 1, 3], "{text}");
        assert_eq!(option(&told, "unsent", "option domain-name")["from"], "dhcpd.conf:7:3");
        assert!(told["unsent"].as_array().unwrap().len() >= 2);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_sentence() {
        let asked = |line: &str| {
            let mut arguments = vec!["xdhcpd", "explain"];
            arguments.extend(line.split('|'));
            let Some(command::Command::Explain(asked)) = Cli::try_parse_from(arguments).unwrap().command else {
                panic!()
            };
            let loaded = config::load("dhcpd.conf", &mut |_| Ok(CONFIG.as_bytes().to_vec()));
            MadeUp::new(&asked, &loaded.config.unwrap()).map(|_| ()).unwrap_err()
        };
        assert!(asked("--mac|02:00:00").contains("six octets"));
        assert!(asked("--mac|02:00:00:00:00:zz").contains("six octets"));
        assert!(asked("--mac|02:00:00:00:00:01|--option|x").contains("NAME=VALUE"));
        assert!(asked("--mac|02:00:00:00:00:01|--option|nosuch=1").contains("nosuch"));
        assert!(asked("--mac|02:00:00:00:00:01|--option|53=3").contains("--message"));
        assert!(asked("--mac|02:00:00:00:00:01|--option|50=soon").contains("soon"));
        assert!(Cli::try_parse_from(["xdhcpd", "explain"]).is_err(), "a client or a capture is wanted");
    }

    #[test]
    fn a_partner_is_taken_to_be_out_of_reach() {
        let conf = "failover peer \"p\" { primary; address 192.168.150.1; peer address 192.168.150.2; mclt 30; split 128; }
            ping-check off; authoritative; default-lease-time 600;
            subnet 192.168.150.0 netmask 255.255.255.0 { pool { failover peer \"p\"; range 192.168.150.50 192.168.150.60; } }";
        let (told, text) = told(conf, "--mac|02:00:00:00:00:01");
        assert!(told["notes"][0].as_str().unwrap().contains("failover peer \"p\""), "{text}");
        assert_eq!((&told["lease_secs"], &told["lease_wanted_secs"]), (&30.into(), &600.into()), "{text}");
    }
}
