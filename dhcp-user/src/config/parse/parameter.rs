//! Server parameters and `allow` / `deny` (reference sections 4 and 5.1).

use super::suggest::nearest;
use super::{Frame, Parsed, Parser, Place, Reported};
use crate::config::lexer::Kind;
use crate::config::model::Address;
use crate::config::param::{FACILITIES, Param, ParamKind, Status};
use crate::config::span::Span;
use crate::config::statement::{Expr, Mode, Statement, StatementKind, Target};

impl Parser<'_> {
    /// A parameter whose name has been taken: its value and the `;`.
    pub(super) fn parameter_value(&mut self, frame: &mut Frame, param: Param, start: Span) -> Parsed<()> {
        let (value, is_literal) = if self.eat(b'=') {
            let value = self.data()?;
            self.semicolon()?;
            (value, false)
        } else {
            let value = self.parameter_literal(param)?;
            self.semicolon()?;
            (value, true)
        };
        let span = start.to(self.last);
        self.set_parameter(frame, param, value, is_literal, span)
    }

    /// Checks a parameter against its table and adds it to the block.
    pub(super) fn set_parameter(
        &mut self,
        frame: &Frame,
        param: Param,
        value: Expr,
        is_literal: bool,
        span: Span,
    ) -> Parsed<()> {
        let info = param.info();
        if let Expr::Const(bytes) = &value {
            let wanted = match info.kind {
                ParamKind::Secs | ParamKind::U32 | ParamKind::Date => Some(4),
                ParamKind::U16 => Some(2),
                ParamKind::U8 | ParamKind::Flag | ParamKind::Word(_) => Some(1),
                ParamKind::Ip | ParamKind::Text | ParamKind::Space | ParamKind::Curve => None,
            };
            if let Some(wanted) = wanted.filter(|wanted| *wanted != bytes.len()) {
                self.warning(
                    span,
                    format!("`{}` gets {} bytes where {wanted} are wanted", info.name, bytes.len()),
                    "has no effect",
                );
                self.note("behind `=` a bare number is a hexadecimal octet; use `encode-int(N, 32)` or leave `=` away");
            }
        }
        match info.status {
            Status::Acts => {}
            Status::Later => {
                self.warning(span, format!("`{}` is accepted but does nothing here", info.name), "");
            }
            Status::Ddns => {
                self.ddns_warning(span, &format!("`{}` does nothing: dynamic DNS updates are not done", info.name));
            }
        }
        if info.process_wide && frame.place != Place::Root {
            self.warning(span, format!("`{}` has no effect inside {}", info.name, frame.place.name()), "");
            self.note("it is read once, at the top level");
        }
        if param.is_extension() {
            self.config.extensions.push((info.name, span));
        }
        if param == Param::DdnsUpdateStyle
            && let Expr::Const(bytes) = &value
        {
            match bytes.first() {
                Some(1) => {
                    return self.fail(span, "`ddns-update-style ad-hoc` is gone", "use `none`");
                }
                Some(2 | 3) if frame.place == Place::Root => {
                    self.warning(span, "dynamic DNS updates are not done by this server", "treated as `none`");
                }
                Some(_) | None => {}
            }
        }
        let kind = StatementKind::Assign { mode: Mode::Supersede, target: Target::Param(param), value, is_literal };
        self.add_statement(frame.scope, Statement { kind, span });
        Ok(())
    }

    fn parameter_literal(&mut self, param: Param) -> Parsed<Expr> {
        let token = self.peek();
        Ok(match param.info().kind {
            ParamKind::Secs => Expr::bytes(&self.time()?.to_be_bytes()),
            ParamKind::U32 => Expr::bytes(&self.unsigned(u32::MAX)?.to_be_bytes()),
            ParamKind::U16 => {
                let value = self.unsigned(0xffff)?;
                Expr::bytes(&u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes())
            }
            ParamKind::U8 => {
                let value = self.unsigned(0xff)?;
                Expr::bytes(&[u8::try_from(value).unwrap_or(u8::MAX)])
            }
            // dhcpd reads a time here; the manual says a date.
            ParamKind::Date if self.peek_at(1).kind == Kind::Punct(b';') && !self.at_word("never") => {
                Expr::bytes(&self.time()?.to_be_bytes())
            }
            ParamKind::Date => Expr::bytes(&self.date()?.to_be_bytes()),
            ParamKind::Flag => Expr::bytes(&[self.flag()?]),
            ParamKind::Curve => Expr::Const(self.curve()?.into()),
            ParamKind::Ip => match self.address()?.0 {
                Address::Literal(address) => Expr::bytes(&address.octets()),
                Address::Name(name) => Expr::Resolved { name: name as usize, all: false },
            },
            ParamKind::Text => match token.kind {
                Kind::String => {
                    self.next();
                    Expr::Const(self.string_bytes(token).into())
                }
                Kind::Name | Kind::NumberOrName => {
                    self.next();
                    if param == Param::OmapiKey && self.at(b'.') {
                        return self.fail(token.span, "expected the name of a key", "one word");
                    }
                    Expr::bytes(self.text(token).as_bytes())
                }
                Kind::Number | Kind::Punct(_) | Kind::End => {
                    return self.fail(token.span, "expected text", "quoted text, or one word");
                }
            },
            ParamKind::Space => {
                let (name, span) = match token.kind {
                    Kind::String => self.quoted("the name of an option space")?,
                    _ => {
                        let (name, token) = self.word("the name of an option space")?;
                        (name, token.span)
                    }
                };
                let Some(space) = self.config.spaces.space_by_name(&name) else {
                    self.error(span, format!("no option space named `{name}`"), "declare it with `option space`");
                    self.suggest_known(|config| nearest(&name, config.spaces.space_names()));
                    return Err(Reported);
                };
                Expr::bytes(self.config.spaces.name(space).to_owned().as_bytes())
            }
            ParamKind::Word(words) => {
                let (word, token) = self.word("a word")?;
                let place = words.iter().position(|known| known.eq_ignore_ascii_case(&word));
                let Some(place) = place.and_then(|place| u8::try_from(place).ok()) else {
                    let list =
                        if words == FACILITIES { "daemon, local0 to local7, ...".into() } else { words.join(", ") };
                    self.error(token.span, format!("`{word}` is not known here"), format!("one of {list}"));
                    self.suggest(&word, words.iter().copied());
                    return Err(Reported);
                };
                Expr::bytes(&[place])
            }
        })
    }

    /// `SECS, PERCENT SECS, ...`, the percentages ascending.
    fn curve(&mut self) -> Parsed<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut last = 0;
        loop {
            if !bytes.is_empty() {
                let token = self.peek();
                let percent = self.unsigned(100)?;
                if percent <= last {
                    return self.fail(token.span, "the percentages must ascend", format!("not above {last}"));
                }
                last = percent;
            }
            bytes.push(u8::try_from(last).unwrap_or(100));
            bytes.extend_from_slice(&self.time()?.to_be_bytes());
            if !self.eat(b',') {
                return Ok(bytes);
            }
        }
    }

    /// `allow X;` `deny X;` `ignore X;` outside of a pool's permits.
    pub(super) fn allow(&mut self, frame: &mut Frame) -> Parsed<()> {
        let start = self.next();
        let verb = self.text(start).to_ascii_lowercase();
        let value = match &*verb {
            "allow" => 1,
            "deny" => 0,
            _ => 2,
        };
        let (word, token) = self.word("what to allow or deny")?;
        let param = match &*word.to_ascii_lowercase() {
            "unknown-clients" => Param::BootUnknownClients,
            "booting" => Param::AllowBooting,
            "bootp" => Param::AllowBootp,
            "declines" => Param::Declines,
            "duplicates" => Param::Duplicates,
            "client-updates" => Param::ClientUpdates,
            "leasequery" => Param::Leasequery,
            "dynamic-bootp" => Param::DynamicBootp,
            other => {
                self.error(token.span, format!("`{verb} {word}` is not possible here"), "");
                if matches!(other, "known-clients" | "members" | "all" | "dynamic" | "unknown" | "known" | "after") {
                    self.note("permits like this one stand inside a `pool`");
                } else {
                    self.suggest(
                        other,
                        [
                            "unknown-clients",
                            "booting",
                            "bootp",
                            "declines",
                            "duplicates",
                            "client-updates",
                            "leasequery",
                            "dynamic-bootp",
                        ]
                        .into_iter(),
                    );
                }
                return Err(Reported);
            }
        };
        self.semicolon()?;
        let span = start.span.to(self.last);
        self.set_parameter(frame, param, Expr::bytes(&[value]), true, span)
    }
}
