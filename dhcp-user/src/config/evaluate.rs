//! Runs the statements that apply to one packet, from the outermost scope to the innermost.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::Config;
use super::classify::Membership;
use super::context::{Context, Variables};
use super::ids::{HostId, PoolId, SharedNetworkId, SubnetId};
use super::options::OptionRef;
use super::param::Param;
use super::span::Span;

/// What an answer depended on besides the question and the configuration: if anything, the kernel must not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each with its own name")]
pub struct Depends {
    /// The time of day.
    pub time: bool,
    /// A hook (`on commit`) or an `execute` or `log` must run with every answer.
    pub hooks: bool,
    /// A spawned or limited class: its free places.
    pub billing: bool,
    /// Bytes of the message that are no part of the question: `packet()`, `filename`, `server-name` of the request.
    pub message: bool,
    /// The lease: `lease-time`, its variables.
    pub lease: bool,
    /// A name that is resolved again now and then.
    pub names: bool,
}

impl Depends {
    /// Only the question and the configuration.
    pub const NOTHING: Self = Self {
        time: false,
        hooks: false,
        billing: false,
        message: false,
        lease: false,
        names: false,
    };

    /// Whether the answer depends on anything besides the question and the configuration.
    #[must_use]
    pub fn is_anything(self) -> bool {
        self != Self::NOTHING
    }
}

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
    _private: (),
}

impl Hook {
    /// The statements as text, as they stand in a lease record: one line each, indented by four spaces, without the
    /// enclosing `on ... {` and `}`.
    #[must_use]
    pub fn text(&self) -> String {
        todo!()
    }
}

/// What the statements of all scopes came to.
#[derive(Debug, Clone, Default)]
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
}

impl Evaluation {
    /// The encoded bytes of an option of the message, 43 from its vendor space included.
    #[must_use]
    pub fn option(&self, _code: u8) -> Option<&[u8]> {
        todo!()
    }

    /// The codes that have a value, ascending.
    pub fn codes(&self) -> impl Iterator<Item = u8> + '_ {
        std::iter::empty()
    }

    /// The value of an option of any space.
    #[must_use]
    pub fn option_of(&self, _option: OptionRef) -> Option<&[u8]> {
        todo!()
    }

    /// Where the option of the message got its value.
    #[must_use]
    pub fn option_origin(&self, _code: u8) -> Option<Span> {
        todo!()
    }

    /// Where the parameter got its value.
    #[must_use]
    pub fn param_origin(&self, _param: Param) -> Option<Span> {
        todo!()
    }

    /// A number or a time in seconds, if configured.
    #[must_use]
    pub fn secs(&self, _param: Param) -> Option<u32> {
        todo!()
    }

    /// A flag, if configured; `ignore` is `false`.
    #[must_use]
    pub fn flag(&self, _param: Param) -> Option<bool> {
        todo!()
    }

    /// A flag, or dhcpd's default for it.
    #[must_use]
    pub fn flag_or_default(&self, _param: Param) -> bool {
        todo!()
    }

    /// A number or time, or dhcpd's default for it.
    #[must_use]
    pub fn secs_or_default(&self, _param: Param) -> u32 {
        todo!()
    }

    /// Whether a flag was set with `ignore`: refuse without a log line.
    #[must_use]
    pub fn is_ignored(&self, _param: Param) -> bool {
        todo!()
    }

    /// An address (the first one of a name), if configured.
    #[must_use]
    pub fn address(&self, _param: Param) -> Option<Ipv4Addr> {
        todo!()
    }

    /// Text, if configured.
    #[must_use]
    pub fn text(&self, _param: Param) -> Option<&[u8]> {
        todo!()
    }

    /// Gives the option a value if it has none (the engine's own defaults, such as the subnet mask).
    pub fn default_option(&mut self, _code: u8, _value: &[u8]) {
        todo!()
    }
}

impl Config {
    /// Runs all statements that apply to a packet.
    #[must_use]
    pub fn evaluate(&self, _chain: &Chain<'_>, _context: &Context<'_>) -> Evaluation {
        todo!()
    }

    /// Runs a hook; its options, logs, executions and variables are added to `evaluation`.
    pub fn run_hook(&self, _hook: &Hook, _context: &Context<'_>, _evaluation: &mut Evaluation) {
        todo!()
    }

    /// Reads back a hook's text from a lease record.
    ///
    /// # Errors
    ///
    /// The rendered diagnostics, when this configuration does not understand the text.
    pub fn parse_hook(&self, _text: &str) -> Result<Hook, String> {
        todo!()
    }
}
