//! What an evaluation did, statement by statement: for `xdhcpd explain`, which wants to know who set what.
//!
//! It is written by the evaluator that serves, when the context asks for it ([`super::Context::explains`]); otherwise
//! there is none, and an assignment pays for one look at that.

use super::Config;
use super::convert::option_text;
use super::evaluate::Evaluation;
use super::ids::ScopeId;
use super::options::{OptionRef, SpaceId};
use super::param::Param;
use super::print::param_text;
use super::span::{Location, Span};
use super::statement::{Mode, ScopeKind, Target};

/// What one statement did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The statements of a scope begin.
    Scope(ScopeId),
    /// A value was assigned, or was not, since there was one.
    Assigned { target: Target, mode: Mode, at: Span },
    /// An arm of an `if` or a case of a `switch` was chosen; the place of `else` is the number of arms.
    Chosen { arm: Option<usize>, at: Span },
}

/// What an evaluation did, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trail {
    pub(super) steps: Vec<Step>,
}

/// A scope that applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedScope {
    /// As it is declared: `subnet 10.0.0.0 netmask 255.255.255.0`.
    pub title: String,
    /// Where.
    pub at: Location,
}

/// A condition that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The `if` or `switch`.
    pub at: Location,
    /// What ran, in words.
    pub chosen: String,
}

/// An option or a parameter, with the statement that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `option routers`, `default-lease-time`.
    pub name: String,
    /// Its code, if it is an option of the message.
    pub code: Option<u8>,
    /// The value as the configuration writes it; `None` = it came to nothing, and is not sent.
    pub value: Option<String>,
    /// The bytes.
    pub bytes: Option<Vec<u8>>,
    /// The statement that has the last word.
    pub at: Location,
    /// Statements that were overruled, the latest first.
    pub overrides: Vec<Location>,
    /// Statements that the value is put together of besides (`append`, `prepend`), in the order in which they ran.
    pub joined: Vec<Location>,
    /// `default` statements that came too late.
    pub idle: Vec<Location>,
}

impl Trail {
    /// The scopes, from the outermost, in the order in which they ran.
    #[must_use]
    pub fn scopes(&self, config: &Config) -> Vec<AppliedScope> {
        let of = |step: &Step| match step {
            Step::Scope(id) => {
                let span = config.scopes.get(id.0)?.span;
                Some(AppliedScope { title: config.scope_title(*id), at: config.locate(span) })
            }
            Step::Assigned { .. } | Step::Chosen { .. } => None,
        };
        self.steps.iter().filter_map(of).collect()
    }

    /// The conditions that were asked.
    #[must_use]
    pub fn branches(&self, config: &Config) -> Vec<Branch> {
        let of = |step: &Step| match step {
            Step::Chosen { arm, at } => {
                let chosen = match arm {
                    Some(0) => "the first block runs".to_owned(),
                    Some(arm) => format!("block {} runs", arm.saturating_add(1)),
                    None => "no block runs".to_owned(),
                };
                Some(Branch { at: config.locate(*at), chosen })
            }
            Step::Assigned { .. } | Step::Scope(_) => None,
        };
        self.steps.iter().filter_map(of).collect()
    }
}

impl Evaluation {
    /// What the evaluation did, if its context asked for that.
    #[must_use]
    pub fn trail(&self) -> Option<&Trail> {
        self.trail.as_deref()
    }

    /// Every option and parameter that was assigned, in the order of first assignment, each with its history.
    #[must_use]
    pub fn settings(&self, config: &Config) -> Vec<Setting> {
        self.entries
            .iter()
            .map(|entry| {
                let data = entry.data.as_deref();
                let (name, code, value) = match entry.target {
                    Target::Option(option) => {
                        let code = (option.space == SpaceId::DHCP).then(|| u8::try_from(option.code).ok()).flatten();
                        let name = format!("option {}", config.spaces.option_name(option));
                        (name, code, data.map(|bytes| option_text(config, option, bytes)))
                    }
                    Target::Param(param) => {
                        (param.name().to_owned(), None, data.map(|bytes| param_text(param, bytes, config)))
                    }
                };
                let mut setting = Setting {
                    name,
                    code,
                    value,
                    bytes: data.map(<[u8]>::to_vec),
                    at: config.locate(entry.origin),
                    overrides: Vec::new(),
                    joined: Vec::new(),
                    idle: Vec::new(),
                };
                self.history(config, entry.target, &mut setting);
                setting
            })
            .collect()
    }

    fn history(&self, config: &Config, target: Target, setting: &mut Setting) {
        let mut in_force: Vec<Span> = Vec::new();
        for step in self.trail.iter().flat_map(|trail| &trail.steps) {
            let Step::Assigned { target: this, mode, at } = step else { continue };
            if *this != target {
                continue;
            }
            match mode {
                Mode::Supersede => {
                    let gone = std::mem::replace(&mut in_force, vec![*at]);
                    setting.overrides.splice(0..0, gone.into_iter().rev().map(|span| config.locate(span)));
                }
                Mode::Default if in_force.is_empty() => in_force.push(*at),
                Mode::Default => setting.idle.push(config.locate(*at)),
                Mode::Append | Mode::Prepend => in_force.push(*at),
            }
        }
        in_force.pop();
        setting.joined = in_force.into_iter().map(|span| config.locate(span)).collect();
    }
}

impl Config {
    /// A scope as its declaration begins.
    #[must_use]
    pub fn scope_title(&self, id: ScopeId) -> String {
        let Some(scope) = self.scopes.get(id.0) else { return String::new() };
        // A lone subnet and the network it implies share a scope.
        let subnet = || {
            let subnet = self.subnets.iter().find(|subnet| subnet.scope == id);
            subnet.map(|subnet| format!("subnet {} netmask {}", subnet.net, subnet.mask))
        };
        match &scope.kind {
            ScopeKind::Root => "the file's top level".to_owned(),
            ScopeKind::SharedNetwork | ScopeKind::Subnet => subnet().unwrap_or_else(|| {
                self.shared_networks
                    .iter()
                    .find(|network| network.scope == id)
                    .map_or_else(String::new, |network| format!("shared-network \"{}\"", network.name))
            }),
            ScopeKind::Pool => {
                let range = self.pools.iter().find(|pool| pool.scope == id).and_then(|pool| pool.ranges.first());
                range.map_or_else(|| "pool".to_owned(), |range| format!("pool {}-{}", range.first, range.last))
            }
            ScopeKind::Group(None) => "group".to_owned(),
            ScopeKind::Group(Some(name)) => format!("group \"{name}\""),
            ScopeKind::Class => {
                let of_class = self.classes.iter().find(|class| class.scope == id);
                match of_class {
                    Some(class) => format!("class \"{}\"", class.name),
                    None => self.subclasses.iter().find(|subclass| subclass.scope == id).map_or_else(
                        String::new,
                        |subclass| {
                            let value = super::print::bytes_text(&subclass.value);
                            format!("subclass \"{}\" {value}", self.class_name(subclass.class))
                        },
                    ),
                }
            }
            ScopeKind::Host => self
                .hosts
                .iter()
                .find(|host| host.scope == id)
                .map_or_else(String::new, |host| format!("host {}", self.declared_name(host.name))),
        }
    }

    /// The bytes that `option NAME VALUE;` would send, for a message that is made up; the value may be the bare text of
    /// a text option. A number is a name as well. With the option's code, or that of a sub-option of option 82.
    ///
    /// # Errors
    ///
    /// A sentence saying what is wrong with the name or the value.
    pub fn option_bytes(&self, name: &str, value: &str) -> Result<(OptionPlace, Vec<u8>), String> {
        let name = match name.parse::<u8>() {
            Ok(code) => self.option_name(code),
            Err(_) => name.to_owned(),
        };
        let quoted = super::print::quote(value.as_bytes());
        let mut first = None;
        for text in [value, &quoted] {
            match super::parse_option(self, &format!("option {name} {text};\n")) {
                Ok((OptionRef { space: SpaceId::DHCP, code }, bytes)) => {
                    let code = u8::try_from(code).map_err(|_| format!("{name} is no option of a message"))?;
                    return Ok((OptionPlace::Message(code), bytes));
                }
                Ok((OptionRef { space: SpaceId::AGENT, code }, bytes)) => {
                    let code = u8::try_from(code).map_err(|_| format!("{name} is no part of option 82"))?;
                    return Ok((OptionPlace::Agent(code), bytes));
                }
                Ok(_) => {
                    return Err(format!("{name}: only options of the message and of the space `agent` can be given"));
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_default())
    }

    /// A parameter's value when nothing sets it, as the configuration would write it.
    #[must_use]
    pub fn default_text(param: Param) -> Option<String> {
        param.info().default.map(|value| value.to_string())
    }
}

/// Where an option of a made-up message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionPlace {
    /// Among the options.
    Message(u8),
    /// Into option 82.
    Agent(u8),
}
