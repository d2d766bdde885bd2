//! A pair of namespaces in which one server after the other plays a case.
//!
//! ```text
//!   server ns                              client ns
//!     s0 10.77.0.1/24, route 10/8 -------- c0: one packet socket that is every client and every relay
//! ```
//!
//! There is no IP stack on the clients' side: ARP and pings are answered here, for the addresses that somebody in the
//! play holds, so that a reply through the server's stack reaches whom it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::answer::Answer;
use super::ledger::{self, Ledger};
use super::script::{Action, Case, fill_times};
use super::speech::{self, Memory, Spoken};
use crate::agent;
use crate::client::Wire as _;
use crate::frames::{internet_checksum, open};
use crate::lab::{Folder, Namespace, PacketSocket, Process, now, program, veth};

/// How long a server may take to hear the first canary, and any later one; a loaded machine counts.
const CANARY_WAIT: Duration = Duration::from_secs(15);
/// How long a canary is waited for before the next is sent.
const CANARY_AGAIN: Duration = Duration::from_millis(25);
/// How long xdhcpd may take for an answer that dhcpd gave.
const ANSWER_WAIT: Duration = Duration::from_millis(1500);
/// How long the last lease of all may take; a configuration may forbid it.
const FAREWELL_WAIT: Duration = Duration::from_millis(400);
/// The Ethernet address of whoever holds a `taken` address.
const SQUATTER: [u8; 6] = [2, 0xdd, 0, 0, 0, 1];

/// Which server plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The real one.
    Dhcpd,
    /// Ours.
    Xdhcpd,
}

/// What was heard after one step.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// The replies with the step's transaction.
    pub answers: Vec<Answer>,
}

impl Heard {
    /// One line.
    #[must_use]
    pub fn shown(&self, has_codes: bool) -> String {
        match self.answers.as_slice() {
            [] => String::from("silence"),
            some => some.iter().map(|answer| answer.shown(has_codes)).collect::<Vec<_>>().join(" and "),
        }
    }

    /// One line with as much in it as in what is expected: codes, and the values of those codes that stand there as
    /// `54=0a4d0001`.
    #[must_use]
    pub fn shown_like(&self, expected: &str) -> String {
        let shown = self.shown(expected.contains('['));
        let has_value = |code: &str| expected.split([' ', '[', ']']).any(|word| word.starts_with(&format!("{code}=")));
        let value_of = |code: &str| self.answers.first()?.option(code.parse().ok()?);
        let words = shown.split(' ').map(|word| {
            let code = word.trim_matches(['[', ']']);
            match value_of(code).filter(|_| has_value(code)) {
                Some(data) => {
                    let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
                    word.replace(code, &format!("{code}={hex}"))
                }
                None => word.to_owned(),
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Everything.
    #[must_use]
    pub fn text(&self) -> String {
        match self.answers.as_slice() {
            [] => String::from("      silence\n"),
            some => some.iter().map(Answer::text).collect(),
        }
    }
}

/// How a server played a case.
#[derive(Debug, Default)]
pub struct Transcript {
    /// What was heard after each step.
    pub steps: Vec<Heard>,
    /// Why there are fewer of them than in the case.
    pub ended_because: String,
    /// Its leases file at the end.
    pub ledger: Ledger,
    /// The last lines it said.
    pub last_words: String,
}

/// The namespaces and what is between them.
#[derive(Debug)]
pub struct Stage {
    server: Namespace,
    _client: Namespace,
    wire: PacketSocket,
    server_mac: [u8; 6],
    /// Who answers for an address at the moment.
    owners: BTreeMap<Ipv4Addr, [u8; 6]>,
    /// Addresses that answer pings and probes.
    taken: BTreeSet<Ipv4Addr>,
    /// Replies that have come in, by transaction.
    heard: BTreeMap<u32, Vec<Answer>>,
    canaries_count: u32,
    /// Whether an ARP request was answered since the last canary: what waited for it may come after that one.
    has_resolved: bool,
}

impl Stage {
    /// Makes the namespaces.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> Result<Self> {
        let server = Namespace::new("server")?;
        let client = Namespace::new("client")?;
        veth(&server, "s0", &client, "c0")?;
        server.ip(&format!("addr add {}/24 dev s0", speech::SERVER))?;
        server.ip("route add 10.0.0.0/8 dev s0")?;
        let wire = client.packet_socket("c0")?;
        let server_mac = server.mac("s0")?;
        Ok(Self {
            server,
            _client: client,
            wire,
            server_mac,
            owners: BTreeMap::new(),
            taken: BTreeSet::new(),
            heard: BTreeMap::new(),
            canaries_count: 0,
            has_resolved: false,
        })
    }

    /// Plays a case; `guide` is how the other server played it: what it answered is waited for.
    ///
    /// # Errors
    /// When the server does not start or falls silent.
    pub fn play(&mut self, side: Side, case: &Case, guide: Option<&Transcript>) -> Result<Transcript> {
        self.owners.clear();
        self.taken.clear();
        self.heard.clear();
        self.owners.insert(speech::CANARY_RELAY, speech::relay_mac(speech::CANARY_RELAY));
        self.server.ip("neigh flush all")?;

        let folder = Folder::new("oracle")?;
        let now_secs = unix_secs();
        let configuration = fill_times(&case.configuration, now_secs)? + speech::CANARY_CONFIGURATION;
        folder.write("dhcpd.conf", &configuration)?;
        folder.write("dhcpd.leases", &fill_times(&case.leases, now_secs)?)?;
        let mut process = self.start(side, &folder)?;

        let mut transcript = Transcript::default();
        let mut memories: BTreeMap<char, Memory> = BTreeMap::new();
        for (index, step) in case.steps.iter().enumerate() {
            let mut heard = Heard::default();
            match &step.action {
                Action::Client { client, words } => memories.entry(*client).or_default().habits.clone_from(words),
                Action::Taken(address) => {
                    self.taken.insert(*address);
                    self.owners.insert(*address, SQUATTER);
                }
                // Leases end by the clock: the one thing that nothing but time can show.
                Action::Sleep(secs) => self.listen(Duration::from_secs(*secs))?,
                Action::Restart => {
                    process.stop()?;
                    drop(process);
                    process = self.start(side, &folder)?;
                }
                Action::Say { client, verb, target, words } => {
                    let xid = 0x1000_0000 + u32::try_from(index)?;
                    let said = speech::say(&memories, *client, verb, target.as_deref(), words, xid, self.server_mac);
                    let spoken = match said {
                        Ok(spoken) => spoken,
                        Err(error) if side == Side::Xdhcpd => {
                            transcript.ended_because = format!("{error:#}");
                            break;
                        }
                        Err(error) => return Err(error.context(format!("line {}: {}", step.line, step.text))),
                    };
                    let is_expected =
                        guide.and_then(|guide| guide.steps.get(index)).is_some_and(|heard| !heard.answers.is_empty());
                    let wait = match (spoken.wait_ms, is_expected && side == Side::Xdhcpd) {
                        (Some(wait), _) => Duration::from_millis(wait),
                        (None, true) => ANSWER_WAIT,
                        (None, false) => Duration::ZERO,
                    };
                    self.ask(&spoken, wait)
                        .with_context(|| format!("line {}: {}\n    {}", step.line, step.text, process.last_words()))?;
                    heard.answers = self.heard.get(&xid).cloned().unwrap_or_default();
                    remember(memories.entry(*client).or_default(), &heard.answers);
                }
            }
            transcript.steps.push(heard);
        }
        if side == Side::Xdhcpd {
            self.say_farewell()?;
        }
        process.stop()?;
        self.listen(Duration::from_millis(1))?;
        // Replies that came late, to a message that seemed to have none.
        for (index, heard) in transcript.steps.iter_mut().enumerate() {
            if let Some(all) = self.heard.remove(&(0x1000_0000 + u32::try_from(index)?)) {
                heard.answers = all;
            }
        }
        let text = std::fs::read(folder.path().join("dhcpd.leases"))?;
        transcript.ledger = ledger::read(&String::from_utf8_lossy(&text), i64::try_from(now_secs)?);
        transcript.last_words = process.last_words();
        Ok(transcript)
    }

    /// Starts a server and waits until it hears.
    fn start(&mut self, side: Side, folder: &Folder) -> Result<Process> {
        let file = |name: &str| folder.path().join(name);
        let binary = match side {
            Side::Dhcpd => program("dhcpd").map_err(anyhow::Error::msg)?,
            Side::Xdhcpd => agent::binary(),
        };
        let mut command = Command::new(binary);
        command.args(["-4", "-f", "-d", "-cf"]).arg(file("dhcpd.conf")).arg("-lf").arg(file("dhcpd.leases"));
        command.arg("-pf").arg(file("dhcpd.pid"));
        if side == Side::Xdhcpd {
            command.arg("--control").arg(file("control.sock")).args(["--fast-path", "off"]);
        }
        let mut process = self.server.spawn(command.arg("s0"))?;
        let deadline = now() + CANARY_WAIT;
        while !self.try_canary(CANARY_AGAIN)? {
            if let Some(status) = process.ended()? {
                // Its last lines may still be on their way through the pipe.
                std::thread::sleep(Duration::from_millis(50));
                bail!("it ended with {status}:\n    {}", process.last_words());
            }
            if now() > deadline {
                bail!("it never answered:\n    {}", process.last_words());
            }
        }
        // dhcpd's NAKs carry the text that the last lookup left behind, and none before the first: a DISCOVER makes it
        // the dhcpd that it is for the rest of its life.
        self.canaries_count = self.canaries_count.wrapping_add(1);
        self.wire.send(&speech::farewell(self.canaries_count, None, self.server_mac))?;
        if !self.try_canary(CANARY_WAIT)? {
            bail!("it has fallen silent:\n    {}", process.last_words());
        }
        Ok(process)
    }

    /// Sends a message, and returns when everything the server has to say at once has been heard; for a reply that
    /// has not come then, `wait` more.
    fn ask(&mut self, spoken: &Spoken, wait: Duration) -> Result<()> {
        self.owners.extend(spoken.own.iter().copied());
        self.has_resolved = false;
        self.wire.send(&spoken.frame)?;
        let deadline = now() + CANARY_WAIT;
        while !self.try_canary(Duration::from_millis(500))? {
            if now() > deadline {
                bail!("the server has fallen silent");
            }
        }
        let deadline = now() + wait;
        while !self.heard.contains_key(&spoken.xid) {
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() {
                break;
            }
            self.receive(left)?;
        }
        Ok(())
    }

    /// Sends a canary and listens for its NAK; also whether no reply can be waiting for an ARP answer any more.
    fn try_canary(&mut self, wait: Duration) -> Result<bool> {
        loop {
            self.has_resolved = false;
            self.canaries_count = self.canaries_count.wrapping_add(1);
            let xid = speech::CANARY_XID.wrapping_add(self.canaries_count);
            self.wire.send(&speech::canary(self.canaries_count, self.server_mac))?;
            let deadline = now() + wait;
            while !self.heard.contains_key(&xid) {
                let left = deadline.saturating_duration_since(now());
                if left.is_zero() {
                    return Ok(false);
                }
                self.receive(left)?;
            }
            if !self.has_resolved {
                return Ok(true);
            }
        }
    }

    /// The last lease of all: its ACK comes after every record before it is durable, and every reply gone.
    fn say_farewell(&mut self) -> Result<()> {
        let mut offered = None;
        for _ in 0..2 {
            self.canaries_count = self.canaries_count.wrapping_add(1);
            let xid = speech::CANARY_XID.wrapping_add(self.canaries_count);
            self.wire.send(&speech::farewell(self.canaries_count, offered, self.server_mac))?;
            let deadline = now() + FAREWELL_WAIT;
            while !self.heard.contains_key(&xid) && now() < deadline {
                self.receive(deadline.saturating_duration_since(now()))?;
            }
            let answer = self.heard.get(&xid).and_then(|answers| answers.first());
            offered = answer.and_then(|answer| Some((answer.yiaddr(), answer.server()?)));
            if offered.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Listens for a while.
    fn listen(&mut self, wait: Duration) -> Result<()> {
        let deadline = now() + wait;
        loop {
            let left = deadline.saturating_duration_since(now());
            if !self.receive(left.max(Duration::from_millis(1)))? && left.is_zero() {
                return Ok(());
            }
        }
    }

    /// Takes one frame: a reply is kept, ARP and pings are answered; whether there was one.
    fn receive(&mut self, wait: Duration) -> Result<bool> {
        let Some(frame) = self.wire.receive(wait)? else { return Ok(false) };
        if frame.get(6..12) != Some(&self.server_mac) {
            return Ok(true);
        }
        if let Some(answer) = Answer::read(&frame) {
            self.heard.entry(answer.xid()).or_default().push(answer);
        } else if let Some(reply) = self.arp_reply(&frame) {
            self.has_resolved = true;
            self.wire.send(&reply)?;
        } else if let Some(reply) = self.echo_reply(&frame) {
            self.wire.send(&reply)?;
        }
        Ok(true)
    }

    /// The answer to an ARP request (RFC 826) for an address that somebody here has.
    fn arp_reply(&self, frame: &[u8]) -> Option<Vec<u8>> {
        const REQUEST: [u8; 10] = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];
        if frame.get(12..22)? != REQUEST {
            return None;
        }
        let asker: [u8; 10] = *frame.get(22..32)?.first_chunk()?;
        let wanted: [u8; 4] = *frame.get(38..42)?.first_chunk()?;
        let address = Ipv4Addr::from(wanted);
        let owner = self.owners.get(&address)?;
        let mut reply = frame.get(6..12)?.to_vec();
        reply.extend(owner);
        reply.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2]);
        reply.extend(owner);
        reply.extend(wanted);
        reply.extend(asker);
        Some(reply)
    }

    /// The answer to a ping (RFC 792) of a taken address.
    fn echo_reply(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let ip = frame.get(14..)?;
        let target = Ipv4Addr::from(*ip.get(16..)?.first_chunk::<4>()?);
        let is_echo = frame.get(12..14)? == [0x08, 0] && ip.get(9)? == &1 && ip.get(20)? == &8 && open(frame).is_none();
        if !is_echo || !self.taken.contains(&target) {
            return None;
        }
        let total_len = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
        let mut icmp = ip.get(20..total_len)?.to_vec();
        icmp.splice(0..4, [0, 0, 0, 0]);
        let sum = internet_checksum(&icmp, 0).to_be_bytes();
        icmp.splice(2..4, sum);
        let mut header = ip.get(..20)?.to_vec();
        header.splice(10..12, [0, 0]);
        header.splice(12..20, ip.get(16..20)?.iter().chain(ip.get(12..16)?).copied());
        let sum = internet_checksum(&header, 0).to_be_bytes();
        header.splice(10..12, sum);
        let mut reply = frame.get(6..12)?.to_vec();
        reply.extend(SQUATTER);
        reply.extend([0x08, 0]);
        reply.extend(header);
        reply.extend(icmp);
        Some(reply)
    }
}

/// What a client takes from the answers to its message.
fn remember(memory: &mut Memory, answers: &[Answer]) {
    for answer in answers {
        let known = (answer.yiaddr(), answer.server().unwrap_or(speech::SERVER));
        match answer.kind().as_str() {
            "offer" => memory.offered = Some(known),
            "ack" | "reply" if known.0 != Ipv4Addr::UNSPECIFIED => memory.held = Some(known),
            _ => {}
        }
    }
}

/// Seconds since 1970.
fn unix_secs() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "leases files speak of the real time")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
