//! Runs the statements that apply to one packet, from the outermost scope to the innermost.

use std::net::Ipv4Addr;
use std::sync::Arc;

use hashbrown::HashMap;

use super::Config;
use super::classify::{Membership, Via};
use super::context::{Context, Variables};
use super::ids::{HostId, PoolId, ScopeId, SharedNetworkId, SubnetId};
use super::limits::VALUE_LEN_MAX;
use super::machine::Machine;
use super::options::{OptionRef, SpaceId};
use super::param::{PARAM_COUNT, Param};
use super::span::Span;
use super::statement::{Body, Target};
use super::trail::{Step, Trail};

/// What an answer depended on besides the question and the configuration: if anything, the kernel must not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each with its own name")]
pub struct Depends {
    /// The time of day.
    pub time: bool,
    /// A hook (`on commit`) or an `execute` must run with every answer.
    pub hooks: bool,
    /// A `log` must be written with every answer.
    pub logs: bool,
    /// A spawned or limited class: its free places.
    pub billing: bool,
    /// Bytes of the message that are no part of the question: `packet()`, `filename`, `server-name` of the request.
    pub message: bool,
    /// The lease: `lease-time`, its variables.
    pub lease: bool,
    /// A name that is resolved again now and then.
    pub names: bool,
    /// Who asks: hardware address, client identifier, host name, option 82, the address. That is part of the question; but
    /// another client that asks alike may get another answer.
    pub client: bool,
}

impl Depends {
    /// Only the question and the configuration.
    pub const NOTHING: Self = Self {
        time: false,
        hooks: false,
        logs: false,
        billing: false,
        message: false,
        lease: false,
        names: false,
        client: false,
    };

    /// Whether the answer depends on anything besides the question and the configuration.
    #[must_use]
    pub fn is_anything(self) -> bool {
        Self { client: false, ..self } != Self::NOTHING
    }

    /// What either depended on.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            time: self.time || other.time,
            hooks: self.hooks || other.hooks,
            logs: self.logs || other.logs,
            billing: self.billing || other.billing,
            message: self.message || other.message,
            lease: self.lease || other.lease,
            names: self.names || other.names,
            client: self.client || other.client,
        }
    }
}

/// Bytes of option spaces that are known already, and where the first option of each was set. A space that is being
/// worked out counts as empty: within itself it cannot be written.
type SpaceBytes = HashMap<SpaceId, Option<(Vec<u8>, Span)>>;

/// The scopes that apply to a packet.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// The network the client is on.
    pub network: Option<SharedNetworkId>,
    /// The subnet of the address.
    pub subnet: Option<SubnetId>,
    /// The pool of the address.
    pub pool: Option<PoolId>,
    /// The classes of the packet.
    pub membership: &'a Membership,
    /// The host declaration.
    pub host: Option<HostId>,
}

/// Severity of a `log` statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are dhcpd's")]
pub enum LogPriority {
    Fatal,
    Error,
    Info,
    Debug,
}

/// A line that a `log` statement wants to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Severity.
    pub priority: LogPriority,
    /// Text; any byte.
    pub text: Arc<[u8]>,
}

/// A program that an `execute` statement wants to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Path of the program.
    pub program: Arc<str>,
    /// Arguments after the program's name.
    pub arguments: Vec<Arc<[u8]>>,
    /// The statement.
    pub span: Span,
}

/// The body of an `on` statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    pub(super) body: Body,
    pub(super) text: Arc<str>,
}

impl Hook {
    /// The statements as text, as they stand in a lease record: indented by four spaces, without the enclosing
    /// `on ... {` and `}`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// One assigned option or parameter.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) target: Target,
    /// `None` when the expression came to null: nothing is sent.
    pub(super) data: Option<Arc<[u8]>>,
    pub(super) origin: Span,
}

/// What the statements of all scopes came to.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// `on commit` in force.
    pub on_commit: Option<Hook>,
    /// `on expiry` in force.
    pub on_expiry: Option<Hook>,
    /// `on release` in force.
    pub on_release: Option<Hook>,
    /// Lines to log, in order.
    pub logs: Vec<LogLine>,
    /// Programs to run, in order.
    pub executions: Vec<Execution>,
    /// The lease's variables after all `set` and `unset`.
    pub variables: Variables,
    /// Whether they differ from those of the context.
    pub variables_changed: bool,
    /// What the result depended on.
    pub depends: Depends,
    pub(super) entries: Vec<Entry>,
    /// Place + 1 in `entries` for each code of the message's own space; 0 = none.
    pub(super) option_places: [u16; 256],
    /// The same for each parameter.
    pub(super) param_places: [u16; PARAM_COUNT],
    /// Places of the options of other spaces.
    pub(super) space_places: HashMap<OptionRef, usize>,
    /// Whether `variables` has been filled.
    pub(super) has_variables: bool,
    /// What each statement did, if the context asked for it.
    pub(super) trail: Option<Box<Trail>>,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            on_commit: None,
            on_expiry: None,
            on_release: None,
            logs: Vec::new(),
            executions: Vec::new(),
            variables: Variables::new(),
            variables_changed: false,
            depends: Depends::NOTHING,
            entries: Vec::new(),
            option_places: [0; 256],
            param_places: [0; PARAM_COUNT],
            space_places: HashMap::new(),
            has_variables: false,
            trail: None,
        }
    }
}

impl Evaluation {
    fn entry(&self, target: Target) -> Option<&Entry> {
        self.entries.get(self.place(target)?)
    }

    fn dhcp(code: u8) -> Target {
        Target::Option(OptionRef { space: SpaceId::DHCP, code: u32::from(code) })
    }

    /// The encoded bytes of an option of the message, 43 from its vendor space included.
    #[must_use]
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.entry(Self::dhcp(code))?.data.as_deref()
    }

    /// The codes that have a value, ascending.
    pub fn codes(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|code| self.option(*code).is_some())
    }

    /// The value of an option of any space.
    #[must_use]
    pub fn option_of(&self, option: OptionRef) -> Option<&[u8]> {
        self.entry(Target::Option(option))?.data.as_deref()
    }

    /// Where the option of the message got its value.
    #[must_use]
    pub fn option_origin(&self, code: u8) -> Option<Span> {
        self.entry(Self::dhcp(code)).map(|entry| entry.origin)
    }

    /// Where the parameter got its value.
    #[must_use]
    pub fn param_origin(&self, param: Param) -> Option<Span> {
        self.entry(Target::Param(param)).map(|entry| entry.origin)
    }

    /// The bytes of a parameter, if configured: numbers in network order, flags as one byte.
    #[must_use]
    pub fn param(&self, param: Param) -> Option<&[u8]> {
        self.entry(Target::Param(param))?.data.as_deref()
    }

    /// A number or a time in seconds, if configured. A value of the wrong width counts as none (dhcpd).
    #[must_use]
    pub fn secs(&self, param: Param) -> Option<u32> {
        match self.param(param)? {
            [a] => Some(u32::from(*a)),
            [a, b] => Some(u32::from(u16::from_be_bytes([*a, *b]))),
            [a, b, c, d] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => None,
        }
    }

    /// A flag, if configured; `ignore` is `false`.
    #[must_use]
    pub fn flag(&self, param: Param) -> Option<bool> {
        match self.param(param)? {
            [value] => Some(*value == 1),
            _ => None,
        }
    }

    /// A flag, or dhcpd's default for it.
    #[must_use]
    pub fn flag_or_default(&self, param: Param) -> bool {
        self.flag(param).unwrap_or(param.info().default == Some(1))
    }

    /// A number or time, or dhcpd's default for it; 0 where there is none.
    #[must_use]
    pub fn secs_or_default(&self, param: Param) -> u32 {
        self.secs(param).or(param.info().default).unwrap_or(0)
    }

    /// Whether a flag was set with `ignore`: refuse without a log line.
    #[must_use]
    pub fn is_ignored(&self, param: Param) -> bool {
        self.param(param) == Some(&[2])
    }

    /// An address (the first one of several), if configured.
    #[must_use]
    pub fn address(&self, param: Param) -> Option<Ipv4Addr> {
        self.param(param)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
    }

    /// Text, if configured.
    #[must_use]
    pub fn text(&self, param: Param) -> Option<&[u8]> {
        self.param(param)
    }

    /// Gives the option a value if it has none (the engine's own defaults, such as the subnet mask).
    pub fn default_option(&mut self, code: u8, value: &[u8]) {
        let target = Self::dhcp(code);
        if self.place(target).is_none() {
            self.add_place(target, Span::default());
        }
        if let Some(entry) = self.place(target).and_then(|place| self.entries.get_mut(place))
            && entry.data.is_none()
        {
            entry.data = Some(value.into());
        }
    }

    /// Takes the value of an option away.
    pub fn remove_option(&mut self, code: u8) {
        if let Some(entry) = self.place(Self::dhcp(code)).and_then(|place| self.entries.get_mut(place)) {
            entry.data = None;
        }
    }

    /// Every option and parameter that was assigned, with its value and where that comes from; for people.
    pub fn assignments<'e>(
        &'e self,
        config: &'e Config,
    ) -> impl Iterator<Item = (String, Option<&'e [u8]>, Span)> + 'e {
        self.entries.iter().map(|entry| {
            let name = match entry.target {
                Target::Option(option) => format!("option {}", config.spaces.option_name(option)),
                Target::Param(param) => param.name().to_owned(),
            };
            (name, entry.data.as_deref(), entry.origin)
        })
    }

    /// Puts options of other spaces into the options that carry them.
    pub(super) fn encapsulate(&mut self, config: &Config) {
        if self.space_places.is_empty() {
            return;
        }
        if let Some(site) = self.param(Param::SiteOptionSpace).and_then(|name| config.space_of_bytes(name)) {
            self.site_options(site);
        }
        let mut known = SpaceBytes::new();
        let vendor = self.param(Param::VendorOptionSpace).and_then(|name| config.space_of_bytes(name));
        let vendor = vendor.map(|space| (OptionRef { space: SpaceId::DHCP, code: 43 }, space));
        for (option, space) in vendor.into_iter().chain(config.encapsulations.iter().copied()) {
            // Option 82 is the relay's, and option 81 belongs to dynamic DNS.
            if option.space != SpaceId::DHCP || matches!(space, SpaceId::AGENT | SpaceId::FQDN) {
                continue;
            }
            let Ok(code) = u8::try_from(option.code) else { continue };
            if self.option(code).is_some() {
                continue;
            }
            if let Some((bytes, origin)) = self.space_bytes(config, space, &mut known) {
                let target = Target::Option(option);
                if self.place(target).is_none() {
                    self.add_place(target, origin);
                }
                if let Some(entry) = self.place(target).and_then(|place| self.entries.get_mut(place)) {
                    entry.data = Some(bytes.into());
                    entry.origin = origin;
                }
            }
        }
    }

    /// `site-option-space`: its options stand in for those of the message.
    fn site_options(&mut self, site: SpaceId) {
        let own: Vec<Entry> = self
            .entries
            .iter()
            .filter(|entry| matches!(entry.target, Target::Option(option) if option.space == site))
            .cloned()
            .collect();
        for entry in own {
            let Target::Option(OptionRef { code, .. }) = entry.target else {
                continue;
            };
            if !(128..255).contains(&code) {
                continue;
            }
            let target = Target::Option(OptionRef { space: SpaceId::DHCP, code });
            if self.place(target).is_none() {
                self.add_place(target, entry.origin);
            }
            if let Some(slot) = self.place(target).and_then(|place| self.entries.get_mut(place)) {
                slot.data = entry.data;
                slot.origin = entry.origin;
            }
        }
    }

    /// The options of a space, in dhcpd's order, as one option carries them; and where the first of them was set.
    fn space_bytes(&self, config: &Config, space: SpaceId, known: &mut SpaceBytes) -> Option<(Vec<u8>, Span)> {
        if let Some(bytes) = known.get(&space) {
            return bytes.clone();
        }
        known.insert(space, None);
        let bytes = self.write_space(config, space, known);
        known.insert(space, bytes.clone());
        bytes
    }

    fn write_space(&self, config: &Config, space: SpaceId, known: &mut SpaceBytes) -> Option<(Vec<u8>, Span)> {
        let mut found: Vec<(u32, Vec<u8>, Span)> = Vec::new();
        for entry in &self.entries {
            if let (Target::Option(option), Some(data)) = (entry.target, &entry.data)
                && option.space == space
            {
                found.push((option.code, data.to_vec(), entry.origin));
            }
        }
        // dhcpd: its hash table of options is written bucket by bucket, and in a bucket the one set last comes first.
        found.reverse();
        found.sort_by_key(|(code, _, _)| (code % 32).wrapping_add(code >> 5) % 17);
        // Then come the spaces within.
        let first = config.encapsulations.partition_point(|(outer, _)| outer.space < space);
        for (outer, inner) in config.encapsulations.get(first..).unwrap_or_default() {
            if outer.space != space {
                break;
            }
            if self.option_of(*outer).is_none()
                && let Some((bytes, origin)) = self.space_bytes(config, *inner, known)
            {
                found.push((outer.code, bytes, origin));
            }
        }
        let origin = found.first()?.2;
        let space = config.spaces.space(space)?;
        let mut out = Vec::new();
        for (code, data, _) in found {
            let code = code.to_be_bytes();
            out.extend_from_slice(code.get(4_usize.saturating_sub(usize::from(space.code_width))..)?);
            let len = u32::try_from(data.len()).ok()?.to_be_bytes();
            let width = usize::from(space.length_width);
            if width < 4 && u32::from_be_bytes(len) >= 1 << width.saturating_mul(8).min(31) && width > 0 {
                continue;
            }
            out.extend_from_slice(len.get(4_usize.saturating_sub(width)..)?);
            out.extend_from_slice(&data);
            if out.len() > VALUE_LEN_MAX {
                return None;
            }
        }
        Some((out, origin))
    }
}

impl Config {
    /// Runs all statements that apply to a packet (reference section 3).
    #[must_use]
    pub fn evaluate(&self, chain: &Chain<'_>, context: &Context<'_>) -> Evaluation {
        let mut machine = Machine::new(self, context);
        for scope in self.scopes_of(chain) {
            machine.note(|| Step::Scope(scope));
            if let Some(scope) = self.scopes.get(scope.0) {
                machine.run(&scope.statements);
            }
        }
        let mut evaluation = machine.finish();
        evaluation.depends = evaluation.depends.and(chain.membership.depends);
        evaluation
    }

    /// The scopes that apply to a packet, in the order they run.
    #[must_use]
    pub fn scopes_of(&self, chain: &Chain<'_>) -> Vec<ScopeId> {
        let mut order: Vec<ScopeId> = Vec::with_capacity(8);
        let network = chain
            .network
            .or_else(|| chain.subnet.map(|id| self.subnet(id).shared_network))
            .or_else(|| chain.pool.map(|id| self.pool(id).shared_network));
        let network_scope = network.map_or(ScopeId(0), |id| self.shared_network(id).scope);
        let base = chain.subnet.map_or(network_scope, |id| self.subnet(id).scope);
        order.extend_from_slice(self.outer(base));
        order.push(base);
        let mut limit = base;
        if let Some(pool) = chain.pool {
            let scope = self.pool(pool).scope;
            self.add_below(scope, network_scope, &mut order);
            limit = scope;
        }
        for member in chain.membership.members.iter().rev() {
            let scope = match member.via {
                Via::Subclass(id) => self.subclass(id).scope,
                Via::Class | Via::Spawned => self.class(member.class).scope,
            };
            self.add_below(scope, limit, &mut order);
        }
        if let Some(host) = chain.host {
            self.add_below(self.host(host).scope, limit, &mut order);
        }
        order
    }

    /// The scopes around a scope, from the outermost.
    fn outer(&self, scope: ScopeId) -> &[ScopeId] {
        self.scopes.get(scope.0).map_or(&[], |scope| &scope.outer)
    }

    /// Adds the scopes around `scope` and itself, from the outermost, without those at or outside of `limit`.
    fn add_below(&self, scope: ScopeId, limit: ScopeId, order: &mut Vec<ScopeId>) {
        let has_run = |scope: &ScopeId| *scope == limit || self.outer(limit).contains(scope);
        if has_run(&scope) {
            return;
        }
        let outer = self.outer(scope);
        let first = outer.iter().rposition(has_run).map_or(0, |place| place.saturating_add(1));
        order.extend_from_slice(outer.get(first..).unwrap_or_default());
        order.push(scope);
    }

    /// Runs a hook; its options, logs, executions and variables are added to `evaluation`.
    pub fn run_hook(&self, hook: &Hook, context: &Context<'_>, evaluation: &mut Evaluation) {
        let taken = std::mem::take(evaluation);
        let mut machine = Machine::resume(self, context, taken);
        machine.run(&hook.body);
        *evaluation = machine.finish();
    }

    /// Reads back a hook's text from a lease record.
    ///
    /// # Errors
    ///
    /// The rendered diagnostics, when this configuration does not understand the text.
    pub fn parse_hook(&self, text: &str) -> Result<Hook, String> {
        super::parse_hook(self, text)
    }

    /// The space a parameter names.
    pub(super) fn space_of_bytes(&self, name: &[u8]) -> Option<SpaceId> {
        self.spaces.space_by_name(std::str::from_utf8(name).ok()?)
    }
}
