//! Which statement begins here: the one list of words, and the small declarations that have no module of their own.

use super::{Frame, Parsed, Parser, Place, Reported};
use crate::config::lexer::Kind;
use crate::config::model::{DbTimeFormat, LeaseIdFormat};
use crate::config::options::{OptionRef, SpaceId};
use crate::config::param::{PARAMS, Param, refused};
use crate::config::statement::{Mode, ScopeKind, StatementKind};

/// Words that begin a statement besides the parameters, for suggestions.
pub(super) const STATEMENTS: &[&str] = &[
    "include",
    "shared-network",
    "subnet",
    "pool",
    "range",
    "group",
    "host",
    "class",
    "subclass",
    "failover",
    "key",
    "zone",
    "option",
    "server-identifier",
    "authoritative",
    "not",
    "hardware",
    "fixed-address",
    "uid",
    "host-identifier",
    "interface",
    "match",
    "spawn",
    "lease",
    "allow",
    "deny",
    "ignore",
    "if",
    "elsif",
    "else",
    "switch",
    "set",
    "unset",
    "define",
    "server-identifier",
    "log",
    "execute",
    "on",
    "add",
    "eval",
    "return",
    "break",
    "supersede",
    "default",
    "append",
    "prepend",
    "send",
    "db-time-format",
    "lease-id-format",
];

impl Parser<'_> {
    /// Reads one statement of a block; after an error goes on behind it.
    pub(super) fn statement(&mut self, frame: &mut Frame) {
        let before = self.last;
        if self.dispatch(frame) == Err(Reported) {
            self.recover(before);
        }
    }

    fn dispatch(&mut self, frame: &mut Frame) -> Parsed<()> {
        let token = self.peek();
        match token.kind {
            Kind::Punct(b';') => {
                self.next();
                self.warning(token.span, "stray `;`", "dhcpd refuses this");
                return Ok(());
            }
            Kind::Punct(b'%') => {
                // Notes of ISC's migration assistant; dhcpd skips them too.
                self.skip_statement();
                return Ok(());
            }
            Kind::Name | Kind::NumberOrName => {}
            Kind::Punct(_) | Kind::Number | Kind::String | Kind::End => {
                let place = frame.place.name();
                return self.fail(token.span, "expected a statement or a declaration", format!("inside {place}"));
            }
        }
        let word = self.lower(token);
        let word = word.as_str();
        if self.sinks.is_empty() {
            if let Some(result) = self.declaration(frame, word) {
                return result;
            }
        } else if is_declaration(word) {
            return self.fail(
                token.span,
                format!("`{word}` is not allowed here"),
                "only statements inside these braces",
            );
        }
        if let Some(result) = self.executable(frame, word) {
            return result;
        }
        if let Some(param) = Param::by_name(word) {
            self.next();
            return self.parameter_value(frame, param, token.span);
        }
        if let Some(why) = refused(word) {
            return self.fail(token.span, format!("`{word}` is refused"), why);
        }
        if self.peek_at(1).kind == Kind::Punct(b'(') {
            return self.eval_statement(frame, token.span);
        }
        let text = self.text(token);
        self.next();
        if self.at(b'=') {
            // dhcpd takes this as an expression whose value nobody asks for.
            self.next();
            self.any_expression()?;
            self.semicolon()?;
            let span = token.span.to(self.last);
            self.warning(span, format!("this compares `{text}` with a value and does nothing"), "");
            self.note(format!("a variable is set with `set {text} = ...;`"));
            return Ok(());
        }
        self.error(token.span, format!("unknown statement `{text}`"), format!("inside {}", frame.place.name()));
        let known = STATEMENTS.iter().copied().chain(PARAMS.iter().map(|info| info.name));
        self.suggest(&text, known);
        if let Some(option) = self.config.spaces.option_by_name(SpaceId::DHCP, &text) {
            let name = self.config.spaces.option_name(option);
            self.note(format!("an option is set with `option {name} ...;`"));
        }
        Err(Reported)
    }

    fn declaration(&mut self, frame: &mut Frame, word: &str) -> Option<Parsed<()>> {
        let span = self.peek().span;
        Some(match word {
            "include" => self.include(frame),
            "shared-network" => match frame.place {
                Place::Root | Place::Group => self.shared_network(frame),
                place => self.misplaced(span, word, place, "the top level and groups"),
            },
            "subnet" => match frame.place {
                Place::Root | Place::SharedNetwork => self.subnet(frame),
                Place::Group if frame.pool.is_none() && frame.subnet.is_none() => self.subnet(frame),
                place => self.misplaced(span, word, place, "the top level, shared networks and groups"),
            },
            "pool" => match frame.place {
                Place::SharedNetwork | Place::Subnet => self.pool(frame),
                place => self.misplaced(span, word, place, "subnets and shared networks"),
            },
            "range" => match frame.place {
                Place::Subnet | Place::Pool => self.range(frame),
                Place::SharedNetwork => {
                    self.misplaced(span, word, frame.place, "subnets and pools; put it into a pool")
                }
                place => self.misplaced(span, word, place, "subnets and pools"),
            },
            "group" => match frame.place {
                Place::Class | Place::Host => self.misplaced(span, word, frame.place, "all other blocks"),
                _ => self.group(frame),
            },
            "host" => match frame.place {
                Place::Class | Place::Host => self.misplaced(span, word, frame.place, "all other blocks"),
                _ => self.host(frame),
            },
            "class" | "subclass" | "vendor-class" | "user-class" => match frame.place {
                Place::Class => self.misplaced(span, word, frame.place, "all other blocks"),
                _ if word == "class" => self.class(frame),
                _ if word == "subclass" => self.subclass(frame),
                _ => self.implicit_class(frame, word),
            },
            "failover" => self.failover(frame),
            "no" if frame.place == Place::Pool => self.no_failover(frame),
            "key" => self.key(),
            "zone" => self.zone(),
            "authoritative" => {
                self.next();
                self.authoritative(frame, true)
            }
            "not" => {
                self.next();
                match self.expect_word("authoritative") {
                    Ok(()) => self.authoritative(frame, false),
                    Err(Reported) => Err(Reported),
                }
            }
            "hardware" | "fixed-address" | "uid" | "host-identifier" => match frame.host {
                Some(host) => self.host_statement(host, word),
                None => self.misplaced(span, word, frame.place, "hosts"),
            },
            "dynamic" | "deleted" if frame.host.is_some() => self.host_statement(frame.host?, word),
            "interface" => self.interface(frame),
            "allow" | "deny" if frame.place == Place::Pool => self.permit(frame),
            "match" | "spawn" | "lease" => match frame.class {
                Some(_) => self.class_statement(frame, word),
                None => self.misplaced(span, word, frame.place, "classes"),
            },
            "db-time-format" | "lease-id-format" => self.format_choice(frame, word),
            "server-duid" => {
                self.next();
                self.warning(span, "`server-duid` is accepted but does nothing here", "this server speaks DHCPv4 only");
                self.skip_statement();
                Ok(())
            }
            _ => return None,
        })
    }

    fn executable(&mut self, frame: &mut Frame, word: &str) -> Option<Parsed<()>> {
        Some(match word {
            "option" => self.option_statement(frame),
            "allow" | "deny" | "ignore" => self.allow(frame),
            "if" => self.if_statement(frame),
            "elsif" | "else" | "elseif" => {
                let span = self.next().span;
                let failed = self.fail(span, format!("`{word}` without an `if` before it"), "");
                if word == "elseif" {
                    self.note("it is spelled `elsif`, or `else if`");
                }
                failed
            }
            "switch" => self.switch_statement(frame),
            "case" => {
                let span = self.next().span;
                self.fail(span, "`case` outside of a `switch`", "")
            }
            "set" => self.set_statement(frame, false),
            "define" => self.set_statement(frame, true),
            "unset" => self.unset_statement(frame),
            "log" => self.log_statement(frame),
            "execute" => self.execute_statement(frame),
            "on" => self.on_statement(frame),
            // dhcpd: another name of `option dhcp-server-identifier`.
            "server-identifier" => {
                let start = self.next().span;
                let option = OptionRef { space: SpaceId::DHCP, code: 54 };
                self.option_value(frame.scope, frame, option, Mode::Supersede, start)
            }
            "supersede" | "send" => self.modifier_statement(frame, Mode::Supersede),
            "default" => self.modifier_statement(frame, Mode::Default),
            "append" => self.modifier_statement(frame, Mode::Append),
            "prepend" => self.modifier_statement(frame, Mode::Prepend),
            "add" => self.add_class_statement(frame),
            "eval" => {
                let start = self.next().span;
                self.eval_statement(frame, start)
            }
            "return" => self.return_statement(frame),
            "break" => self.bare_statement(frame, StatementKind::Break),
            "parse-vendor-option" => self.bare_statement(frame, StatementKind::ParseVendorOption),
            _ => return None,
        })
    }

    /// `group [NAME] { ... }`
    fn group(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let name = match self.peek().kind {
            Kind::String => Some(self.quoted("a name")?.0.into()),
            Kind::Name | Kind::NumberOrName => Some(self.word("a name")?.0.into()),
            Kind::Number | Kind::Punct(_) | Kind::End => None,
        };
        let scope = self.new_scope(ScopeKind::Group(name), Some(frame.scope), start);
        self.inherit_authority(scope, frame);
        let mut inner = Frame { place: Place::Group, scope, ..frame.clone() };
        self.block(&mut inner)?;
        self.finish_scope(scope);
        Ok(())
    }

    fn authoritative(&mut self, frame: &mut Frame, value: bool) -> Parsed<()> {
        let span = self.last;
        self.semicolon()?;
        if frame.place == Place::Host {
            return self.fail(span, "`authoritative` makes no sense in a host", "it belongs to networks");
        }
        if matches!(frame.place, Place::Class | Place::Pool) {
            self.warning(span, format!("`authoritative` has no effect inside {}", frame.place.name()), "");
        }
        frame.authoritative = value;
        Ok(())
    }

    /// `interface NAME;`
    fn interface(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let token = self.peek();
        let name = match token.kind {
            Kind::String => self.quoted("the name of an interface")?.0,
            // Names such as eth0.100 or br-lan.
            _ => self.dotted_name("the name of an interface")?.0,
        };
        self.semicolon()?;
        if !matches!(frame.place, Place::Subnet | Place::SharedNetwork) {
            return self.misplaced(start, "interface", frame.place, "subnets and shared networks");
        }
        if let Some(subnet) = frame.subnet.and_then(|id| self.config.subnets.get_mut(id.0)) {
            subnet.interface = Some(name.clone());
        }
        if let Some(network) = frame.network.and_then(|id| self.config.shared_networks.get_mut(id.0)) {
            network.interface = Some(name);
        }
        Ok(())
    }

    /// `db-time-format default|local;` and `lease-id-format octal|hex;`
    fn format_choice(&mut self, frame: &Frame, statement: &str) -> Parsed<()> {
        let start = self.next().span;
        let (word, token) = self.word("a format")?;
        match (statement, &*word.to_ascii_lowercase()) {
            ("db-time-format", "default") => self.config.process.db_time_format = DbTimeFormat::Default,
            ("db-time-format", "local") => self.config.process.db_time_format = DbTimeFormat::Local,
            ("lease-id-format", "octal") => self.config.process.lease_id_format = LeaseIdFormat::Octal,
            ("lease-id-format", "hex") => self.config.process.lease_id_format = LeaseIdFormat::Hex,
            ("db-time-format", _) => {
                return self.fail(token.span, format!("`{word}` is not a format"), "one of `default`, `local`");
            }
            _ => return self.fail(token.span, format!("`{word}` is not a format"), "one of `octal`, `hex`"),
        }
        self.semicolon()?;
        if frame.place != Place::Root {
            self.warning(start, format!("`{statement}` holds for the whole server"), "write it at the top level");
        }
        Ok(())
    }

    /// `key NAME { algorithm A; secret S; }`: read, so that a configuration with keys loads; nothing uses them.
    fn key(&mut self) -> Parsed<()> {
        let start = self.next().span;
        let name = match self.peek().kind {
            Kind::String => self.quoted("the name of a key")?.0,
            _ => self.dotted_name("the name of a key")?.0,
        };
        self.expect(b'{')?;
        let (mut algorithm, mut secret) = (false, false);
        while !self.at(b'}') {
            let (word, token) = self.word("`algorithm`, `secret` or `}`")?;
            match &*word.to_ascii_lowercase() {
                "algorithm" => {
                    self.dotted_name("the name of an algorithm")?;
                    algorithm = true;
                }
                "secret" => {
                    // Base64 is any run of tokens up to the semicolon; it is not kept.
                    if self.at(b';') {
                        let span = self.peek().span;
                        return self.fail(span, "expected the secret", "base64");
                    }
                    while !self.at(b';') && !self.at(b'}') && self.peek().kind != Kind::End {
                        self.next();
                    }
                    secret = true;
                }
                _ => {
                    self.error(token.span, format!("unknown word `{word}` in a key"), "`algorithm` or `secret`");
                    self.suggest(&word, ["algorithm", "secret"].into_iter());
                    return Err(Reported);
                }
            }
            self.semicolon()?;
        }
        self.expect(b'}')?;
        self.eat(b';');
        if !algorithm || !secret {
            return self.fail(start, "a key needs an `algorithm` and a `secret`", "");
        }
        if !self.keys.insert(name.clone()) {
            return self.fail(start, format!("key `{name}` is declared twice"), "");
        }
        self.ddns_warning(start, "`key` does nothing: dynamic DNS updates are not done");
        Ok(())
    }

    /// `zone NAME { primary A; key K; }`: read as [`Self::key`] is.
    fn zone(&mut self) -> Parsed<()> {
        let start = self.next().span;
        if self.peek().kind == Kind::String {
            self.quoted("the name of a zone")?;
        } else {
            self.dotted_name("the name of a zone")?;
        }
        self.expect(b'{')?;
        while !self.at(b'}') {
            let (word, token) = self.word("`primary`, `secondary`, `key` or `}`")?;
            match &*word.to_ascii_lowercase() {
                "primary" | "secondary" => loop {
                    self.address()?;
                    if !self.eat(b',') {
                        break;
                    }
                },
                "primary6" | "secondary6" => {
                    while !self.at(b';') && !self.at(b'}') && self.peek().kind != Kind::End {
                        self.next();
                    }
                }
                "key" => {
                    let (name, span) = match self.peek().kind {
                        Kind::String => self.quoted("the name of a key")?,
                        _ => self.dotted_name("the name of a key")?,
                    };
                    if !self.keys.contains(&name) {
                        return self.fail(
                            span,
                            format!("no key named `{name}`"),
                            "a key is declared before it is used",
                        );
                    }
                }
                _ => {
                    self.error(
                        token.span,
                        format!("unknown word `{word}` in a zone"),
                        "`primary`, `secondary` or `key`",
                    );
                    self.suggest(&word, ["primary", "secondary", "key"].into_iter());
                    return Err(Reported);
                }
            }
            self.semicolon()?;
        }
        self.expect(b'}')?;
        self.ddns_warning(start, "`zone` does nothing: dynamic DNS updates are not done");
        Ok(())
    }
}

/// Words of declarations, which may not stand inside the braces of `if`, `on` and their like.
fn is_declaration(word: &str) -> bool {
    matches!(
        word,
        "include"
            | "shared-network"
            | "subnet"
            | "pool"
            | "range"
            | "group"
            | "host"
            | "class"
            | "subclass"
            | "vendor-class"
            | "user-class"
            | "failover"
            | "key"
            | "zone"
            | "authoritative"
            | "not"
            | "hardware"
            | "fixed-address"
            | "uid"
            | "host-identifier"
            | "interface"
            | "match"
            | "spawn"
            | "lease"
            | "db-time-format"
            | "lease-id-format"
    )
}
