//! The story of one message, for people and for programs.

use std::{fmt::Write as _, net::Ipv4Addr};

use dhcp_ebpf::wire::option::code;
use serde::Serialize;

use crate::{
    config::{
        Config, PoolId, ReceivedOptions, SharedNetworkId, Span, Via,
        convert::option_text,
        options::{OptionRef, SpaceId},
        trail::Setting,
    },
    engine::{Source, explain::Story, port::Datagram, status::NotArmed},
    io::trace,
    lease::time::WallTime,
};

/// What is seen beside the story.
#[derive(Debug, Default)]
pub(super) struct Circumstances {
    pub(super) notes: Vec<String>,
    pub(super) log: Vec<String>,
    pub(super) executions: Vec<String>,
    pub(super) reply: Option<Reply>,
}

/// The story of one message.
#[derive(Debug, Default, Serialize)]
pub(super) struct Told {
    /// The message, as an independent reader has it.
    request: Vec<String>,
    /// What was assumed.
    notes: Vec<String>,
    /// The network the client is on.
    network: Option<Placed>,
    /// Its classes, in order of declaration.
    classes: Vec<Member>,
    /// Whether a host declaration fits.
    known: bool,
    /// The host declaration that gives options.
    host: Option<Placed>,
    /// The address is the host declaration's.
    fixed: bool,
    /// The pools of the network, in order.
    pools: Vec<PoolStory>,
    /// The address of the reply.
    address: Option<Ipv4Addr>,
    /// The scopes whose statements ran, in order: the last one wins.
    scopes: Vec<Placed>,
    /// The conditions that were asked.
    branches: Vec<Placed>,
    /// Parameters that are set.
    parameters: Vec<Value>,
    /// Options that are sent, in order.
    options: Vec<Value>,
    /// Options that are set, and not sent.
    unsent: Vec<Value>,
    /// Seconds.
    lease_secs: Option<u32>,
    /// What the scopes say, when a failover partner allows less.
    lease_wanted_secs: Option<u32>,
    /// Whether the kernel may repeat the answer, or why not.
    kernel: Option<String>,
    /// Lines for the log, dhcpd's and those of `log` statements.
    log: Vec<String>,
    /// Programs that `execute` statements would run.
    executes: Vec<String>,
    /// Why there is no reply.
    pub(super) ignored: Option<String>,
    /// The reply.
    pub(super) reply: Option<Reply>,
}

/// Something with its place in the text.
#[derive(Debug, Serialize)]
struct Placed {
    name: String,
    at: String,
}

#[derive(Debug, Serialize)]
struct Member {
    name: String,
    /// How the message came in.
    via: String,
    /// The value of `match` or `spawn with`.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_limit: Option<u32>,
    at: String,
}

#[derive(Debug, Serialize)]
struct PoolStory {
    ranges: Vec<String>,
    at: String,
    /// Whether its permits let the client in.
    admits: bool,
    /// The permit that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// The address is from here.
    chosen: bool,
}

#[derive(Debug, Default, Serialize)]
struct Value {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    /// The statement, or what else it comes from.
    from: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overrides: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    joined_with: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    too_late: Vec<String>,
}

/// A reply.
#[derive(Debug, Serialize)]
pub(super) struct Reply {
    pub(super) yiaddr: Ipv4Addr,
    /// Source address.
    pub(super) server: Ipv4Addr,
    to: String,
    hex: String,
    /// As an independent reader has it.
    decoded: Vec<String>,
    #[serde(skip)]
    message: Vec<u8>,
}

impl Reply {
    pub(super) fn of(datagram: &Datagram) -> Self {
        let yiaddr = datagram.message.get(16..20).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        Self {
            yiaddr: yiaddr.map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from),
            server: datagram.source,
            to: datagram.destination.to_string(),
            hex: hex(&datagram.message),
            decoded: lines(&trace::describe_message(&datagram.message)),
            message: datagram.message.clone(),
        }
    }
}

/// Puts the story together.
pub(super) fn tell(config: &Config, request: &[u8], story: &Story, seen: Circumstances, now: WallTime) -> Told {
    let place = |span: Span| config.locate(span).to_string();
    let placed = |name: &str, span: Span| Placed { name: name.to_owned(), at: place(span) };
    let mut told = Told {
        request: lines(&trace::describe_message(request)),
        notes: seen.notes,
        network: story.network.map(|id| config.shared_network(id)).map(|network| placed(&network.name, network.span)),
        classes: classes(config, story),
        known: story.is_known,
        host: story.host.map(|id| placed(config.host_name(id), config.host(id).span)),
        fixed: story.is_static,
        address: story.address,
        log: seen.log,
        executes: seen.executions,
        ignored: story.ignored.map(|reason| reason.name().to_owned()),
        ..Told::default()
    };
    let is_bootp = ReceivedOptions::parse(request).is_ok_and(|options| options.get(code::MESSAGE_TYPE).is_none());
    if let Some(network) = story.network {
        told.pools = pools(config, story, network, is_bootp, now);
    }
    if let Some((wanted, granted)) = story.lease {
        told.lease_secs = Some(granted);
        told.lease_wanted_secs = (wanted != granted).then_some(wanted);
    }
    told.kernel = story.may_be_armed.map(|verdict| match verdict {
        Ok(()) => "may repeat this answer".to_owned(),
        Err(reason) => format!("does not repeat this answer: {}", words(reason)),
    });
    if let Some(evaluation) = &story.evaluation {
        if let Some(trail) = evaluation.trail() {
            let scope =
                |scope: crate::config::trail::AppliedScope| Placed { name: scope.title, at: scope.at.to_string() };
            told.scopes = trail.scopes(config).into_iter().map(scope).collect();
            let branch =
                |branch: crate::config::trail::Branch| Placed { name: branch.chosen, at: branch.at.to_string() };
            told.branches = trail.branches(config).into_iter().map(branch).collect();
        }
        let settings = evaluation.settings(config);
        told.parameters =
            settings.iter().filter(|setting| !setting.name.starts_with("option ")).map(Value::of).collect();
        told.options = sent(config, story, &settings, seen.reply.as_ref());
        let is_sent =
            |setting: &&Setting| setting.code.is_none_or(|code| story.sources.iter().any(|(sent, _)| *sent == code));
        told.unsent = settings
            .iter()
            .filter(|setting| setting.name.starts_with("option ") && !is_sent(setting))
            .map(Value::of)
            .collect();
    }
    told.reply = seen.reply;
    told
}

fn classes(config: &Config, story: &Story) -> Vec<Member> {
    let of = |member: &crate::config::Member| {
        let class = config.class(member.class);
        let (via, span) = match member.via {
            Via::Class => ("match if", class.span),
            Via::Subclass(id) => ("subclass", config.subclass(id).span),
            Via::Spawned => ("spawn with", class.span),
        };
        Member {
            name: class.name.to_string(),
            via: via.to_owned(),
            value: (!member.value.is_empty()).then(|| hex(&member.value)),
            lease_limit: member.lease_limit,
            at: config.locate(span).to_string(),
        }
    };
    story.membership.members.iter().map(of).collect()
}

fn pools(config: &Config, story: &Story, network: SharedNetworkId, is_bootp: bool, now: WallTime) -> Vec<PoolStory> {
    let of = |id: &PoolId| {
        let pool = config.pool(*id);
        let verdict = config.permits(*id, &story.membership, story.is_known, is_bootp, now.secs());
        PoolStory {
            ranges: pool.ranges.iter().map(|range| format!("{}-{}", range.first, range.last)).collect(),
            at: config.locate(pool.span).to_string(),
            admits: verdict.allowed,
            by: verdict.by.map(|span| config.locate(span).to_string()),
            chosen: story.pool == Some(*id),
        }
    };
    config.shared_network(network).pools.iter().map(of).collect()
}

/// The options of the reply: the configured ones with their history, the others with what they come from.
fn sent(config: &Config, story: &Story, settings: &[Setting], reply: Option<&Reply>) -> Vec<Value> {
    let received = reply.and_then(|reply| ReceivedOptions::parse(&reply.message).ok()).unwrap_or_default();
    let mut values = Vec::new();
    for (code, source) in &story.sources {
        let setting = settings.iter().find(|setting| setting.code == Some(*code));
        let mut value = match (source, setting) {
            (Source::Configured | Source::Times, Some(setting)) => Value::of(setting),
            (source, _) => Value {
                name: format!("option {}", config.option_name(*code)),
                from: origin(*source),
                ..Value::default()
            },
        };
        // What is sent is what counts.
        let bytes = received.get(*code);
        if let Some(bytes) = bytes {
            let option = OptionRef { space: SpaceId::DHCP, code: u32::from(*code) };
            value.value = Some(option_text(config, option, bytes));
            value.hex = Some(hex(bytes));
        } else {
            value.from = format!("{}; there is no room for it in the reply", value.from);
        }
        value.code = Some(*code);
        values.push(value);
    }
    if let Some(agent) = received.get(code::RELAY_AGENT) {
        values.push(Value {
            name: "option relay-agent-information".to_owned(),
            code: Some(code::RELAY_AGENT),
            value: Some(hex(agent)),
            hex: Some(hex(agent)),
            from: origin(Source::Echoed),
            ..Value::default()
        });
    }
    values
}

fn origin(source: Source) -> String {
    match source {
        Source::Configured => "the configuration",
        Source::MessageType => "what the reply is",
        Source::Server => "the address the reply is sent from, or the one the relay names",
        Source::Times => "the lease time",
        Source::Echoed => "the request, sent back",
        Source::SubnetMask => "the netmask of the subnet",
        Source::LeasedAddress => "the leased address (use-lease-addr-for-default-route)",
        Source::HostName => "the name of the host declaration (use-host-decl-names)",
    }
    .to_owned()
}

fn words(reason: NotArmed) -> String {
    match reason {
        NotArmed::Depends => "it depends on more than the question and the configuration".to_owned(),
        NotArmed::NoPromise => "a fixed address, or a lease that never ends, is no promise".to_owned(),
        NotArmed::Destination => "it goes elsewhere than the kernel sends".to_owned(),
        other => other.name().replace('-', " "),
    }
}

impl Value {
    fn of(setting: &Setting) -> Self {
        let all = |places: &[crate::config::Location]| places.iter().map(ToString::to_string).collect();
        Self {
            name: setting.name.clone(),
            code: setting.code,
            value: setting.value.clone(),
            hex: setting.bytes.as_deref().map(hex),
            from: setting.at.to_string(),
            overrides: all(&setting.overrides),
            joined_with: all(&setting.joined),
            too_late: all(&setting.idle),
        }
    }

    fn line(&self, width: usize) -> String {
        let name = self.name.strip_prefix("option ").unwrap_or(&self.name);
        let code = self.code.map_or_else(String::new, |code| format!("{code:>3} "));
        let mut line =
            format!("  {code}{name:<width$}  {}  <- {}", self.value.as_deref().unwrap_or("nothing"), self.from);
        for (what, places) in
            [("overrides", &self.overrides), ("joined with", &self.joined_with), ("too late", &self.too_late)]
        {
            if !places.is_empty() {
                let _ = write!(line, ", {what} {}", places.join(", "));
            }
        }
        line
    }
}

impl Told {
    /// The story for people.
    pub(super) fn text(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut page);
        page
    }

    fn write(&self, page: &mut String) -> std::fmt::Result {
        block(page, "MESSAGE", &self.request)?;
        block(page, "ASSUMED", &self.notes)?;
        writeln!(page, "CLIENT")?;
        match &self.network {
            Some(network) => writeln!(page, "  on network {} ({})", network.name, network.at)?,
            None => writeln!(page, "  on no network that is declared")?,
        }
        for class in &self.classes {
            let value = class.value.as_deref().map(|value| format!(" for {value}")).unwrap_or_default();
            let limit = class.lease_limit.map(|limit| format!(", lease limit {limit}")).unwrap_or_default();
            writeln!(page, "  in class \"{}\" by `{}`{value} ({}){limit}", class.name, class.via, class.at)?;
        }
        match (&self.host, self.known) {
            (Some(host), _) if self.fixed => {
                writeln!(page, "  is host {} with a fixed address ({})", host.name, host.at)?
            }
            (Some(host), _) => writeln!(page, "  is host {} ({})", host.name, host.at)?,
            (None, true) => writeln!(page, "  is known, by a host declaration that gives no options here")?,
            (None, false) => writeln!(page, "  is unknown: no host declaration fits")?,
        }
        if !self.pools.is_empty() {
            writeln!(page, "POOLS of the network, in order")?;
        }
        for pool in &self.pools {
            let verdict = if pool.admits { "admits the client" } else { "does not admit the client" };
            let by = pool.by.as_deref().map(|by| format!(", by {by}")).unwrap_or_default();
            let chosen = if pool.chosen { "; the address is from here" } else { "" };
            writeln!(page, "  {} ({}) {verdict}{by}{chosen}", pool.ranges.join(" "), pool.at)?;
        }
        if !self.scopes.is_empty() {
            writeln!(page, "SCOPES in the order in which they run; the last one wins")?;
        }
        for (number, scope) in self.scopes.iter().enumerate() {
            writeln!(page, "  {} {} ({})", number + 1, scope.name, scope.at)?;
        }
        let branches: Vec<String> =
            self.branches.iter().map(|branch| format!("{}: {}", branch.at, branch.name)).collect();
        block(page, "CONDITIONS", &branches)?;
        for (title, values) in [
            ("PARAMETERS", &self.parameters),
            ("OPTIONS that are sent, in order", &self.options),
            ("OPTIONS that are set and not sent (not asked for, or a part of another one)", &self.unsent),
        ] {
            let width = values.iter().map(|value| value.name.len()).max().unwrap_or(0).saturating_sub(7).max(8);
            let lines: Vec<String> = values.iter().map(|value| value.line(width)).collect();
            if !lines.is_empty() {
                writeln!(page, "{title}\n{}", lines.join("\n"))?;
            }
        }
        if let Some(secs) = self.lease_secs {
            let wanted =
                self.lease_wanted_secs.map(|secs| format!(" (of {secs} s: what is left, or what the partner allows)"));
            writeln!(page, "LEASE\n  {secs} s{}", wanted.unwrap_or_default())?;
        }
        if let Some(kernel) = &self.kernel {
            writeln!(page, "KERNEL\n  {kernel}")?;
        }
        block(page, "LOG", &self.log)?;
        block(page, "PROGRAMS that would run", &self.executes)?;
        match (&self.reply, &self.ignored) {
            (Some(reply), _) => {
                writeln!(page, "REPLY to {}", reply.to)?;
                for line in &reply.decoded {
                    writeln!(page, "  {line}")?;
                }
            }
            (None, ignored) => {
                writeln!(page, "NO REPLY: {}", ignored.as_deref().unwrap_or("this kind of message has none"))?;
            }
        }
        writeln!(page)
    }
}

fn block(page: &mut String, title: &str, lines: &[String]) -> std::fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(page, "{title}\n  {}", lines.join("\n  "))
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.strip_prefix("  ").unwrap_or(line).to_owned()).collect()
}

fn hex(bytes: &[u8]) -> String {
    trace::hex(bytes)
}
