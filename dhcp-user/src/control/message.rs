//! Requests and replies as they stand on the socket.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::failover::{Order, Relationship};

/// Version of the messages. A server refuses a request of another version and says which it speaks.
pub const VERSION: u32 = 1;
/// Rows of a `leases` reply unless the request says less.
pub const ROWS_MAX: usize = 256;

/// A question of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What is asked.
    #[serde(flatten)]
    pub command: Command,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// What the server does.
    Status,
    /// Leases in address order.
    Leases {
        /// Where to go on: `next` of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Ipv4Addr>,
        /// Most rows; [`ROWS_MAX`] at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
    /// How the failover relationships stand.
    Failover,
    /// How the fast path does.
    FastPath,
    /// Switches the fast path on or off.
    FastPathSwitch {
        /// Whether the kernel may answer.
        on: bool,
    },
    /// Takes the fast path off all interfaces until the next start.
    FastPathDetach,
    /// Waits some seconds for a client's next message, and says what becomes of it.
    FastPathTrace {
        /// Its hardware address.
        mac: String,
    },
    /// What a failover relationship is to do.
    FailoverOrder {
        /// Its name; may be left out when there is only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
        /// What to do.
        order: Order,
    },
    /// Read the configuration again, and let it take over if nothing is wrong with it.
    Reload,
    /// All leases as they are on disk, then every change of one as it becomes durable: a [`Answer::Lease`] each, and now and
    /// then a [`Answer::Position`]; ends when the connection does.
    Follow {
        /// Go on behind this position instead of beginning with all leases. It is of this run of the server, and lasts for
        /// two rewrites of the leases file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<u64>,
    },
    /// Rewrite the leases file now, without what has been overtaken.
    Compact,
}

/// An answer: one of the fields besides the version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// [`VERSION`].
    pub version: u32,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
}

/// The answer itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To `status`.
    Status(Box<Status>),
    /// To `leases`.
    Leases(Page),
    /// To `failover`.
    Failover(Vec<Relationship>),
    /// To `follow`: one lease.
    Lease(Box<Row>),
    /// To `follow`: everything before this has been said.
    Position(u64),
    /// To `fast-path`.
    FastPath(Box<FastPathPage>),
    /// To `fast-path-trace`.
    Traced(Traced),
    /// An order is followed: how things stand now, in a sentence.
    Done(String),
    /// To `reload`, when the new configuration answers.
    Reload(Box<Reload>),
    /// The request was not understood, or cannot be answered.
    Error(String),
}

impl Answer {
    /// The answer with the version.
    #[must_use]
    pub const fn into_reply(self) -> Reply {
        Reply { version: VERSION, answer: self }
    }
}

/// What a reload changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reload {
    /// Number of the configuration generation that has begun.
    pub generation: u32,
    /// What changed, in one line; empty = nothing.
    pub summary: String,
    /// What changed, block by block: `+` has come, `-` has gone.
    pub changes: Vec<String>,
    /// What does not change before a restart, in sentences.
    pub notes: Vec<String>,
    /// Warnings about the configuration, line by line.
    pub warnings: Vec<String>,
    /// Leases that are being armed in the kernel anew.
    pub rearming: u64,
    /// Leases in no range any more; they are kept, and come back with their range.
    pub orphans: u64,
    /// The running ones among them.
    pub orphans_active: u64,
    /// The first of the running ones.
    pub orphan_addresses: Vec<Ipv4Addr>,
    /// Leases that were in no range, and are in one now.
    pub returned: u64,
}

impl Reload {
    /// The same for people, line by line.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.summary.is_empty() {
            lines.push(format!("the configuration is the same; generation {}", self.generation));
        } else {
            lines.push(format!("the new configuration answers, generation {}: {}", self.generation, self.summary));
        }
        lines.extend(self.changes.iter().map(|change| format!("  {change}")));
        lines.extend(self.notes.iter().cloned());
        if self.orphans > 0 {
            let mut line = format!(
                "{} leases are in no range any more ({} of them running); they are kept until their range returns",
                self.orphans, self.orphans_active
            );
            let mut named: Vec<String> = self.orphan_addresses.iter().map(ToString::to_string).collect();
            if self.orphans_active > named.len() as u64 {
                named.push("...".to_owned());
            }
            if !named.is_empty() {
                line.push_str(": ");
                line.push_str(&named.join(" "));
            }
            lines.push(line);
        }
        if self.returned > 0 {
            lines.push(format!("{} leases are back in a range", self.returned));
        }
        if self.rearming > 0 {
            lines.push(format!("{} leases are being armed in the kernel anew", self.rearming));
        }
        lines
    }
}

/// Some leases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Page {
    /// The leases.
    pub rows: Vec<Row>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Ipv4Addr>,
}

/// One lease. Instants are seconds since 1970; absent = not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The address.
    pub address: Ipv4Addr,
    /// Binding state, as the leases file spells it.
    pub state: String,
    /// When the lease began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<u32>,
    /// Until when the client was told it owns the address, by the agent or the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<u32>,
    /// Until when the kernel may renew without asking (`tstp`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<u32>,
    /// In a failover pool: up to when the partner is known to honour the lease (`tsfp`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed_until: Option<u32>,
    /// In a failover pool: up to when this server may extend the lease as things stand, which is that, or now, and MCLT; in
    /// partner-down 2147483647: without a bound. Absent while it answers nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extendable_until: Option<u32>,
    /// Last contact with the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<u32>,
    /// Who answered last: `agent` or `kernel`.
    pub answered_by: String,
    /// Hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// Whether the client made its hardware address up (locally administered).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub random_mac: bool,
    /// Client identifier, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Host name, as the client sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

/// What the server does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Name and version of the program.
    pub server: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since the server started.
    pub uptime_secs: u64,
    /// Number of the configuration generation.
    pub generation: u32,
    /// Configuration file.
    pub config: String,
    /// Leases file.
    pub leases: String,
    /// Interfaces served.
    pub interfaces: Vec<Interface>,
    /// Who answered.
    pub replies: Replies,
    /// Messages received by the agent, by type.
    pub received: BTreeMap<String, u64>,
    /// Replies sent by the agent, by type.
    pub sent: BTreeMap<String, u64>,
    /// Messages the agent did not answer, by reason; only what happened.
    pub ignored: BTreeMap<String, u64>,
    /// Verdicts of the kernel program, by reason.
    pub kernel: BTreeMap<String, u64>,
    /// What the sockets saw.
    pub sockets: Sockets,
    /// The fast path as the agent sees it.
    pub fast_path: FastPath,
    /// Clients that ask for more than their share.
    #[serde(default)]
    pub guard: Guard,
    /// What was done because many came at once; only what happened.
    #[serde(default)]
    pub storm: BTreeMap<String, u64>,
    /// The journal.
    pub journal: Journal,
    /// Pools, in configuration order.
    pub pools: Vec<Pool>,
    /// Failover partners, in configuration order.
    pub peers: Vec<Peer>,
    /// Connections at the failover port that were closed at once, by what was wrong with them; only what happened.
    #[serde(default)]
    pub links_refused: BTreeMap<String, u64>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Kernel index.
    pub index: u32,
    /// Hardware address.
    pub mac: String,
    /// Addresses with prefix lengths.
    pub addresses: Vec<String>,
    /// Whether it is up.
    pub up: bool,
    /// How the XDP program is attached: `native`, `generic` or `off`.
    pub xdp: String,
    /// Why it is not better; may be empty.
    pub why: String,
    /// What else there is to know, and the command that changes it; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Replies {
    /// Renewals answered by the kernel since the program was loaded.
    pub kernel: u64,
    /// Replies of the agent since it started.
    pub agent: u64,
}

/// What the sockets saw.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sockets {
    /// Datagrams given to the engine.
    pub received: u64,
    /// Replies handed to the kernel.
    pub sent: u64,
    /// Replies that the kernel did not take.
    pub unsent: u64,
    /// Frames lost because the agent did not keep up.
    pub overrun: u64,
    /// Frames not for us, or broken, by reason; only what happened.
    pub refused: BTreeMap<String, u64>,
}

/// The fast path as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FastPath {
    /// Whether leases are armed at all.
    pub enabled: bool,
    /// Leases armed now.
    pub armed: u64,
    /// Answers interned.
    pub templates: u64,
    /// Arms since the start.
    pub arms: u64,
    /// Horizons moved since the start.
    pub extensions: u64,
    /// Renewals by the kernel that the agent has heard of.
    pub renewals: u64,
    /// Addresses revoked since the start.
    pub revoked: u64,
    /// Why acknowledged leases were not armed; only what happened.
    pub not_armed: BTreeMap<String, u64>,
    /// What the kernel program does with hostile frames; absent when there is no program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shield: Option<Shield>,
}

/// What the kernel program does with hostile frames.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shield {
    /// `off`, `monitor` or `enforce`.
    pub mode: String,
    /// DISCOVERs per second that one source may send.
    pub discover_rate: u16,
    /// DISCOVERs that one source may send at once.
    pub discover_burst: u16,
    /// Interfaces on which no server's message may come in.
    pub access_ports: Vec<String>,
    /// Frames that were counted and passed.
    pub seen: u64,
    /// Frames that were dropped.
    pub dropped: u64,
}

/// Clients that ask for more than their share.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Guard {
    /// `monitor`, `enforce` or `off`.
    pub mode: String,
    /// How often something was too much, by what it was; only what happened.
    pub seen: BTreeMap<String, u64>,
    /// How often that was a reason not to answer.
    pub refused: BTreeMap<String, u64>,
    /// Clients and places whose messages are metered.
    pub metered: u64,
    /// The places where most of it was seen.
    pub suspects: Vec<Suspect>,
}

/// A place where something was too much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// The place, in words.
    pub place: String,
    /// What was seen there last.
    pub what: String,
    /// How often anything was.
    pub count: u64,
    /// Active leases there, if it is a circuit or a port.
    pub leases: u32,
}

/// How the fast path does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FastPathPage {
    /// Whether the kernel may answer.
    pub on: bool,
    /// Interfaces, as in `status`.
    pub interfaces: Vec<Interface>,
    /// Replies of the kernel, since the maps were made.
    pub answered: u64,
    /// Replies of the agent since it started.
    pub agent: u64,
    /// Tenths of a per cent of the DHCP requests seen by the kernel that it answered.
    pub hit_permille: u64,
    /// Why requests were passed up, with what that means; only what happened.
    pub misses: Vec<Miss>,
    /// Leases armed now.
    pub armed: u64,
    /// Answers interned.
    pub templates: u64,
    /// Horizons and renewals of armed leases.
    pub ages: Ages,
    /// The shadow check.
    pub shadow: Shadow,
}

/// A reason for which requests were passed up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Miss {
    /// Its name.
    pub reason: String,
    /// How often.
    pub count: u64,
    /// What it means.
    pub meaning: String,
}

/// Horizons and renewals of armed leases, in seconds; least, median and most of those that were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ages {
    /// Leases looked at.
    pub sampled: u64,
    /// How far away the horizon is.
    pub horizon: [u32; 3],
    /// Leases among them that the kernel has renewed.
    pub renewed: u64,
    /// How long ago it did.
    pub renewal: [u32; 3],
}

/// The shadow check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shadow {
    /// One of how many replies is checked; zero = none.
    pub one_of: u32,
    /// Replies compared.
    pub checked: u64,
    /// What was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
}

/// What became of a client's message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traced {
    /// Who saw it: `kernel`, `agent`, or `nothing` came.
    pub seen: String,
    /// Why, as the counters are called; empty when nothing came.
    pub reason: String,
    /// What that means.
    pub meaning: String,
    /// The address that is armed for the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub armed: Option<Ipv4Addr>,
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Journal {
    /// Number of the last record handed out.
    pub appended: u64,
    /// Number of the last record on disk.
    pub durable: u64,
    /// Replies and arms that wait for the disk.
    pub waiting: u64,
    /// Commits since the start.
    #[serde(default)]
    pub commits: u64,
    /// Bytes of records in the leases file.
    #[serde(default)]
    pub file_len: u64,
    /// Rewrites of the leases file since the start.
    #[serde(default)]
    pub compactions: u64,
    /// The longest that a commit or the switch to a rewritten file took, in microseconds.
    #[serde(default)]
    pub longest_stall_us: u64,
    /// Why nothing can be written, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Shared network.
    pub network: String,
    /// Ranges, `first-last`.
    pub ranges: Vec<String>,
    /// Failover partner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Addresses in all.
    pub total: u64,
    /// Ours to give.
    pub free: u64,
    /// The partner's to give.
    pub backup: u64,
    /// Leased.
    pub active: u64,
    /// Run out.
    pub expired: u64,
    /// Given back.
    pub released: u64,
    /// In use by somebody unknown.
    pub abandoned: u64,
    /// Reset by the operator.
    pub reset: u64,
}

/// A failover partner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Name of the declaration.
    pub name: String,
    /// `primary` or `secondary`: our side.
    pub role: String,
    /// Our state.
    pub my_state: String,
    /// Since when, seconds since 1970.
    pub my_since: u32,
    /// The partner's state.
    pub partner_state: String,
    /// Since when, seconds since 1970.
    pub partner_since: u32,
    /// What the state means for clients.
    pub service: String,
    /// Whether the kernel may answer for its pools.
    pub serving: bool,
    /// Whether the link is up.
    #[serde(default)]
    pub connected: bool,
    /// Whether a key protects the link.
    #[serde(default)]
    pub link_protected: bool,
    /// How long ago the partner said anything, seconds; absent = not since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_secs_ago: Option<u64>,
    /// MCLT in force, seconds.
    #[serde(default)]
    pub mclt_secs: u32,
    /// Updates for the partner that wait for the window or the link.
    #[serde(default)]
    pub updates_queued: u64,
    /// Updates sent and not acknowledged.
    #[serde(default)]
    pub updates_in_flight: u64,
    /// How long the partner has not known the oldest change that it has to know, seconds.
    #[serde(default)]
    pub lag_secs: u64,
    /// Updates of the partner that wait for the kernel or for the end of a lease.
    #[serde(default)]
    pub updates_held: u64,
    /// Updates since the start, by what became of them.
    #[serde(default)]
    pub updates: super::failover::Updates,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_look_as_the_manual_says() {
        let text = r#"{"version":1,"command":"leases","from":"10.0.0.1","limit":5}"#;
        let request: Request = serde_json::from_str(text).unwrap();
        let from = Some(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(request, Request { version: 1, command: Command::Leases { from, limit: Some(5) } });
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        let request: Request = serde_json::from_str(r#"{"version":1,"command":"status"}"#).unwrap();
        assert_eq!(request.command, Command::Status);
        assert!(serde_json::from_str::<Request>(r#"{"version":1,"command":"reboot"}"#).is_err());
    }

    #[test]
    fn an_answer_carries_the_version_and_its_own_name() {
        let reply = Answer::Error("no".to_owned()).into_reply();
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"version":1,"error":"no"}"#);
        let page = Answer::Leases(Page::default()).into_reply();
        let text = serde_json::to_string(&page).unwrap();
        assert_eq!(text, r#"{"version":1,"leases":{"rows":[]}}"#);
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), page);
    }
}
