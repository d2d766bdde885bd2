//! `option`: names, values, definitions, spaces (reference sections 6 and 7).

use super::suggest::nearest;
use super::{Frame, Parsed, Parser, Place, Reported};
use crate::config::domain;
use crate::config::lexer::Kind;
use crate::config::limits::SPACE_COUNT_MAX;
use crate::config::model::Address;
use crate::config::options::{Elem, OptionRef, OptionType, Repeat, SpaceId};
use crate::config::param::Param;
use crate::config::span::Span;
use crate::config::statement::{Expr, Mode, Statement, StatementKind, Target};

/// Words that begin a type.
pub(super) const TYPES: &[&str] = &[
    "boolean",
    "integer",
    "signed",
    "unsigned",
    "ip-address",
    "ip6-address",
    "text",
    "string",
    "domain-name",
    "domain-list",
    "zerolength",
    "encapsulate",
    "array",
];

/// The name of an option as it stands in the text.
pub(super) struct OptionPath {
    pub(super) space: SpaceId,
    pub(super) name: String,
    pub(super) span: Span,
}

impl Parser<'_> {
    /// `[space.]name`, the space resolved.
    fn option_path(&mut self) -> Parsed<OptionPath> {
        let (first, token) = self.word("the name of an option")?;
        if !self.at(b'.') {
            return Ok(OptionPath { space: SpaceId::DHCP, name: first, span: token.span });
        }
        self.next();
        let Some(space) = self.config.spaces.space_by_name(&first) else {
            self.error(token.span, format!("no option space named `{first}`"), "declare it with `option space`");
            self.suggest_known(|config| nearest(&first, config.spaces.space_names()));
            return Err(Reported);
        };
        let (name, second) = self.word("the name of an option in this space")?;
        Ok(OptionPath { space, name, span: token.span.to(second.span) })
    }

    /// The name of an option that is known.
    pub(super) fn option_name(&mut self) -> Parsed<(OptionRef, Span)> {
        let path = self.option_path()?;
        self.resolve_option(&path)
    }

    fn resolve_option(&mut self, path: &OptionPath) -> Parsed<(OptionRef, Span)> {
        if let Some(option) = self.config.spaces.option_by_name(path.space, &path.name) {
            return Ok((option, path.span));
        }
        let space = self.config.spaces.name(path.space).to_owned();
        self.error(path.span, format!("unknown option `{}`", path.name), format!("not in option space `{space}`"));
        self.suggest_known(|config| nearest(&path.name, config.spaces.option_names(path.space)));
        self.note(format!("an option of your own is defined by `option {} code N = TYPE;`", path.name));
        Err(Reported)
    }

    /// `option ...`: a space, a definition, or a value.
    pub(super) fn option_statement(&mut self, frame: &mut Frame) -> Parsed<()> {
        let start = self.next().span;
        if self.at_word("space") && Self::is_word(self.peek_at(1)) {
            return self.option_space(frame, start);
        }
        if self.at_word("server") && self.peek_at(1).kind == Kind::Punct(b'.') {
            self.next();
            self.next();
            let (name, token) = self.word("the name of a parameter")?;
            let Some(param) = Param::by_name(&name) else {
                return self.fail(token.span, format!("unknown parameter `{name}`"), "not in option space `server`");
            };
            return self.parameter_value(frame, param, start);
        }
        let path = self.option_path()?;
        if self.at_word("code") {
            return self.option_definition(frame, start, &path);
        }
        let (option, _) = self.resolve_option(&path)?;
        self.option_value(frame.scope, frame, option, Mode::Supersede, start)
    }

    /// The value of an option up to its `;`, as a statement of the block.
    pub(super) fn option_value(
        &mut self,
        scope: crate::config::ScopeId,
        frame: &Frame,
        option: OptionRef,
        mode: Mode,
        start: Span,
    ) -> Parsed<()> {
        let (value, is_literal) = self.assigned_value(option)?;
        let span = start.to(self.last);
        if let (Some(host), Expr::Const(bytes)) = (frame.host, &value)
            && option == (OptionRef { space: SpaceId::DHCP, code: 61 })
            && mode == Mode::Supersede
        {
            // dhcpd: in a host this is the identifier to match, as `uid` is, and not an option to send.
            return self.host_client_id(host, bytes.clone(), span);
        }
        if matches!(option.space, SpaceId::AGENT | SpaceId::FQDN) {
            self.warning(span, "an option of this space is never sent", "accepted, not acted on");
        }
        let kind = StatementKind::Assign { mode, target: Target::Option(option), value, is_literal };
        self.add_statement(scope, Statement { kind, span });
        Ok(())
    }

    /// `= EXPRESSION ;` or a value of the option's type and `;`.
    pub(super) fn assigned_value(&mut self, option: OptionRef) -> Parsed<(Expr, bool)> {
        if self.eat(b'=') {
            let value = self.data()?;
            self.semicolon()?;
            return Ok((value, false));
        }
        let ty = self.config.spaces.type_of(option);
        let value = self.typed_value(&ty)?;
        if !self.at(b';') {
            let place = self.place_of_missing();
            let found = self.peek();
            self.error(place, "expected `;`", "the value of the option ends before this");
            if matches!(ty.elems.last(), Some(Elem::Text)) && found.kind != Kind::End {
                self.note("text with anything but letters, digits, `-` and `_` is written in quotes");
            } else if ty.repeat != Repeat::Once
                && self.config.spaces.definition(option).is_some()
                && Self::is_word(found)
            {
                self.note("more than one value is separated by commas");
            }
            return Err(Reported);
        }
        self.next();
        Ok((value, true))
    }

    /// A value of this type.
    pub(super) fn typed_value(&mut self, ty: &OptionType) -> Parsed<Expr> {
        let mut value = Value::default();
        loop {
            let last = ty.elems.len().saturating_sub(1);
            for (place, elem) in ty.elems.iter().enumerate() {
                if ty.optional_last && place == last && self.at(b';') {
                    break;
                }
                let many = ty.repeat != Repeat::Once;
                self.element(*elem, many, &mut value)?;
                if place == last && ty.repeat == Repeat::Last {
                    while self.eat(b',') {
                        self.element(*elem, many, &mut value)?;
                    }
                }
            }
            if ty.repeat != Repeat::All || !self.eat(b',') {
                break;
            }
        }
        Ok(value.finish())
    }

    fn element(&mut self, elem: Elem, many: bool, value: &mut Value) -> Parsed<()> {
        match elem {
            // RFC 2132 3.5 #lengths-of-lists: every element is written whole.
            Elem::Ip => match self.address()?.0 {
                Address::Literal(address) => value.push(&address.octets()),
                Address::Name(name) => value.parts(Expr::Resolved { name: name as usize, all: many }),
            },
            Elem::Ip6 => self.ip6(value)?,
            Elem::Flag => {
                let flag = self.flag()?;
                value.push(&[flag]);
            }
            Elem::Unsigned(width) => {
                let max = match width {
                    1 => 0xff,
                    2 => 0xffff,
                    _ => u32::MAX,
                };
                let number = self.number(-(i64::from(max) / 2) - 1, i64::from(max))?;
                let bytes = number.to_be_bytes();
                value.push(bytes.get(8_usize.saturating_sub(usize::from(width))..).unwrap_or_default());
            }
            Elem::Signed(width) => {
                let bits = u32::from(width).saturating_mul(8);
                // dhcpd takes the unsigned reading of the same bits as well.
                let max = (1_i64 << bits) - 1;
                let number = self.number(-(1_i64 << (bits.saturating_sub(1))), max)?;
                let bytes = number.to_be_bytes();
                value.push(bytes.get(8_usize.saturating_sub(usize::from(width))..).unwrap_or_default());
            }
            Elem::Text => {
                let token = self.peek();
                if token.kind == Kind::String {
                    self.next();
                    value.push(&self.string_bytes(token));
                } else if Self::is_word(token) {
                    self.next();
                    value.push(self.text(token).as_bytes());
                } else {
                    let label = match token.kind {
                        Kind::Number => "numbers and hexadecimal octets are no text: use quotes",
                        _ => "quoted text, or one word",
                    };
                    return self.fail(token.span, "expected text", label);
                }
            }
            Elem::Bytes => {
                let bytes = self.string_or_octets()?;
                value.push(&bytes);
            }
            Elem::Domain => {
                let token = self.peek();
                let name = if token.kind == Kind::String {
                    self.next();
                    self.warning(token.span, "dhcpd wants this domain name without quotes", "");
                    String::from_utf8_lossy(&self.string_bytes(token)).into_owned()
                } else {
                    self.dotted_name("a domain name")?.0
                };
                self.domains(&[name], false, token.span, value)?;
            }
            Elem::Domains(compressed) => {
                let start = self.peek().span;
                let mut names = vec![self.quoted("a domain name")?.0];
                while self.eat(b',') {
                    names.push(self.quoted("a domain name")?.0);
                }
                self.domains(&names, compressed, start, value)?;
            }
            Elem::Zero => {}
        }
        Ok(())
    }

    fn domains(&mut self, names: &[String], compressed: bool, start: Span, value: &mut Value) -> Parsed<()> {
        match domain::encode(names.iter().map(String::as_str), compressed) {
            Some(bytes) => {
                value.push(&bytes);
                Ok(())
            }
            None => {
                let span = start.to(self.last);
                self.fail(span, "this is not a domain name", "labels have 1 to 63 bytes, a name at most 255")
            }
        }
    }

    fn ip6(&mut self, value: &mut Value) -> Parsed<()> {
        let start = self.peek().span;
        let mut text = String::new();
        // Its colons belong to it only as long as nothing stands between.
        while matches!(self.peek().kind, Kind::Number | Kind::NumberOrName | Kind::Punct(b':' | b'.'))
            && (text.is_empty() || self.peek().span.start == self.last.end)
        {
            let token = self.next();
            text.push_str(&self.text(token));
        }
        match text.parse::<std::net::Ipv6Addr>() {
            Ok(address) => {
                value.push(&address.octets());
                Ok(())
            }
            Err(_) => self.fail(start.to(self.last), "expected an IPv6 address", ""),
        }
    }

    /// `option space NAME [code width N] [length width N] [hash size N];`
    fn option_space(&mut self, frame: &Frame, start: Span) -> Parsed<()> {
        self.next();
        let (name, token) = self.word("the name of an option space")?;
        if frame.place != Place::Root {
            return self.fail(start, "option spaces are declared at the top level only", "not inside a block");
        }
        let (mut code_width, mut length_width) = (1, 1);
        while !self.at(b';') {
            let (word, _) = self.word("`code width`, `length width`, `hash size` or `;`")?;
            match &*word.to_ascii_lowercase() {
                "code" => {
                    self.expect_word("width")?;
                    code_width = self.width_in_bytes(&[1, 2, 4])?;
                }
                "length" => {
                    self.expect_word("width")?;
                    length_width = self.width_in_bytes(&[0, 1, 2])?;
                }
                "hash" => {
                    // The size of dhcpd's hash table; ours grows by itself.
                    self.expect_word("size")?;
                    self.unsigned(u32::MAX)?;
                }
                _ => {
                    let span = self.last;
                    return self.fail(span, "expected `code width`, `length width`, `hash size` or `;`", "");
                }
            }
        }
        self.semicolon()?;
        if self.config.spaces.count() >= SPACE_COUNT_MAX {
            return self.fail(start, "too many option spaces", format!("at most {SPACE_COUNT_MAX}"));
        }
        if let Some(old) = self.config.spaces.space_by_name(&name) {
            let is_custom = self.config.spaces.space(old).is_some_and(|space| space.is_custom);
            self.warning(token.span, format!("option space `{name}` exists already"), "");
            if !is_custom {
                return Ok(());
            }
        }
        self.config.spaces.define_space(&name, code_width, length_width);
        Ok(())
    }

    fn width_in_bytes(&mut self, allowed: &[u8]) -> Parsed<u8> {
        let token = self.peek();
        let width = u8::try_from(self.unsigned(255)?).unwrap_or(0);
        if allowed.contains(&width) {
            return Ok(width);
        }
        self.fail(token.span, "this width is not possible", format!("one of {allowed:?}"))
    }

    /// `option [space.]name code N = TYPE ;`
    fn option_definition(&mut self, frame: &Frame, start: Span, path: &OptionPath) -> Parsed<()> {
        if frame.place != Place::Root {
            return self.fail(start.to(self.last), "options are defined at the top level only", "not inside a block");
        }
        self.next();
        let width = self.config.spaces.space(path.space).map_or(1, |space| space.code_width);
        let max = match width {
            1 => 0xff,
            2 => 0xffff,
            _ => u32::MAX,
        };
        let token = self.peek();
        let code = self.unsigned(u32::MAX)?;
        if code > max {
            self.warning(
                token.span,
                format!("code {code} cannot be sent"),
                format!("codes of this space end at {max}"),
            );
        }
        if path.space == SpaceId::DHCP && matches!(code, 0 | 255) {
            self.warning(token.span, format!("code {code} cannot be sent"), "0 and 255 are padding and end");
        }
        self.expect(b'=')?;
        let ty = self.option_type()?;
        self.semicolon()?;
        self.config.spaces.define(path.space, &path.name, code, ty);
        Ok(())
    }

    /// `TYPE` of a definition.
    fn option_type(&mut self) -> Parsed<OptionType> {
        let start = self.peek().span;
        let mut ty = OptionType { elems: Vec::new(), repeat: Repeat::Once, optional_last: false, encapsulates: None };
        if self.eat_word("array") {
            self.expect_word("of")?;
            ty.repeat = Repeat::All;
        }
        if self.eat(b'{') {
            loop {
                if ty.repeat == Repeat::Last || ty.encapsulates.is_some() {
                    let span = self.peek().span;
                    return self.fail(span, "nothing may follow an array or `encapsulate` in a record", "");
                }
                if self.eat_word("array") {
                    self.expect_word("of")?;
                    if ty.repeat == Repeat::All {
                        return self.fail(self.last, "an array cannot hold arrays", "");
                    }
                    ty.repeat = Repeat::Last;
                }
                self.simple_type(&mut ty)?;
                if !self.eat(b',') {
                    break;
                }
            }
            self.expect(b'}')?;
        } else {
            self.simple_type(&mut ty)?;
        }
        let span = start.to(self.last);
        let is_open =
            |elem: &Elem| matches!(elem, Elem::Text | Elem::Bytes | Elem::Domain | Elem::Domains(_) | Elem::Zero);
        let inner = ty.elems.len().saturating_sub(1);
        if ty.repeat != Repeat::Once && ty.elems.iter().any(is_open) {
            return self.fail(span, "this cannot be an array", "where one element ends would not be known");
        }
        if ty.elems.iter().take(inner).any(is_open) {
            return self.fail(span, "text must be the last member of a record", "where it ends would not be known");
        }
        Ok(ty)
    }

    fn simple_type(&mut self, ty: &mut OptionType) -> Parsed<()> {
        let (word, token) = self.word("the type of the option")?;
        let elem = match &*word.to_ascii_lowercase() {
            "boolean" => Elem::Flag,
            "integer" => Elem::Signed(self.integer_width()?),
            "signed" => {
                self.expect_word("integer")?;
                Elem::Signed(self.integer_width()?)
            }
            "unsigned" => {
                self.expect_word("integer")?;
                Elem::Unsigned(self.integer_width()?)
            }
            "ip-address" => Elem::Ip,
            "ip6-address" => Elem::Ip6,
            "text" => Elem::Text,
            "string" => Elem::Bytes,
            "domain-name" => Elem::Domain,
            "domain-list" => Elem::Domains(self.eat_word("compressed")),
            "zerolength" => {
                self.warning(token.span, "the type `zerolength` is refused by dhcpd 4.4", "understood here only");
                Elem::Zero
            }
            "encapsulate" => {
                let (name, token) = self.word("the name of an option space")?;
                let Some(space) = self.config.spaces.space_by_name(&name) else {
                    return self.fail(token.span, format!("no option space named `{name}`"), "");
                };
                ty.encapsulates = Some(space);
                Elem::Bytes
            }
            _ => {
                self.error(token.span, format!("unknown type `{word}`"), "expected the type of the option");
                self.suggest(&word, TYPES.iter().copied());
                return Err(Reported);
            }
        };
        ty.elems.push(elem);
        Ok(())
    }

    fn integer_width(&mut self) -> Parsed<u8> {
        let token = self.peek();
        match self.unsigned(255)? {
            8 => Ok(1),
            16 => Ok(2),
            32 => Ok(4),
            _ => self.fail(token.span, "this width is not possible", "one of 8, 16, 32"),
        }
    }
}

/// Bytes of a value, with names in between that are resolved later.
#[derive(Default)]
struct Value {
    bytes: Vec<u8>,
    parts: Vec<Expr>,
}

impl Value {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn parts(&mut self, part: Expr) {
        if !self.bytes.is_empty() {
            self.parts.push(Expr::Const(std::mem::take(&mut self.bytes).into()));
        }
        self.parts.push(part);
    }

    fn finish(mut self) -> Expr {
        if self.parts.is_empty() {
            return Expr::Const(self.bytes.into());
        }
        if !self.bytes.is_empty() {
            self.parts.push(Expr::Const(self.bytes.into()));
        }
        match <[Expr; 1]>::try_from(self.parts) {
            Ok([one]) => one,
            Err(many) => Expr::Concat(many),
        }
    }
}
