//! Classes and subclasses (reference section 8).

use std::sync::Arc;

use super::{Frame, Parsed, Parser, Place, Reported};
use crate::config::ids::{ClassId, SubclassId};
use crate::config::lexer::Kind;
use crate::config::limits::CLASS_COUNT_MAX;
use crate::config::model::{Class, Subclass};
use crate::config::options::{OptionRef, SpaceId};
use crate::config::span::Span;
use crate::config::statement::{Expr, ScopeKind};

impl Parser<'_> {
    /// `class "NAME" { ... }`; a class that exists is extended.
    pub(super) fn class(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let (name, name_span) = self.quoted("the name of a class")?;
        let span = start.to(name_span);
        let id = self.class_named(&name, frame, span)?;
        self.class_block(id, frame)
    }

    fn class_named(&mut self, name: &str, frame: &Frame, span: Span) -> Parsed<ClassId> {
        if let Some(id) = self.config.class_by_name(name) {
            return Ok(id);
        }
        if self.config.classes.len() >= CLASS_COUNT_MAX {
            return self.fail(span, "too many classes", format!("at most {CLASS_COUNT_MAX}"));
        }
        let scope = self.new_scope(ScopeKind::Class, Some(frame.scope), span);
        self.inherit_authority(scope, frame);
        let id = ClassId(self.config.classes.len());
        let name = Self::arc(name);
        self.config.class_names.insert(Arc::clone(&name), id);
        self.config.classes.push(Class {
            name,
            match_if: None,
            submatch: None,
            is_spawning: false,
            lease_limit: None,
            scope,
            subclasses: hashbrown::HashMap::new(),
            span,
        });
        Ok(id)
    }

    fn class_block(&mut self, id: ClassId, frame: &Frame) -> Parsed<()> {
        let Some(scope) = self.config.classes.get(id.0).map(|class| class.scope) else {
            return Err(Reported);
        };
        let mut inner = Frame { place: Place::Class, scope, class: Some(id), ..frame.clone() };
        self.block(&mut inner)?;
        self.finish_scope(scope);
        Ok(())
    }

    /// `match if B;` `match D;` `spawn with D;` `lease limit N;`
    pub(super) fn class_statement(&mut self, frame: &Frame, word: &str) -> Parsed<()> {
        let start = self.next().span;
        let Some(id) = frame.class else { return Err(Reported) };
        let in_subclass = frame.subclass.is_some();
        match word {
            "match" if self.eat_word("if") => {
                let condition = self.boolean()?;
                self.semicolon()?;
                let span = start.to(self.last);
                let Some(class) = self.config.classes.get_mut(id.0) else {
                    return Err(Reported);
                };
                if class.match_if.is_some() || in_subclass {
                    return self.fail(span, "a class has one `match if` only", "this is the second");
                }
                class.match_if = Some(condition);
            }
            "match" | "spawn" => {
                let is_spawn = word == "spawn";
                if is_spawn {
                    self.expect_word("with")?;
                }
                let value = self.data()?;
                self.semicolon()?;
                let span = start.to(self.last);
                let Some(class) = self.config.classes.get_mut(id.0) else {
                    return Err(Reported);
                };
                if in_subclass || class.submatch.is_some() {
                    return self.fail(span, "a class has one `match` or `spawn with` only", "this is the second");
                }
                class.submatch = Some(value);
                class.is_spawning |= is_spawn;
            }
            _ => {
                self.expect_word("limit")?;
                let limit = self.unsigned(u32::MAX)?;
                self.semicolon()?;
                if let Some(subclass) = frame.subclass.and_then(|id| self.config.subclasses.get_mut(id.0)) {
                    subclass.lease_limit = Some(limit);
                } else if let Some(class) = self.config.classes.get_mut(id.0) {
                    class.lease_limit = Some(limit);
                }
                if limit == 0 {
                    self.warning(start.to(self.last), "this limit refuses every client of the class", "");
                }
            }
        }
        Ok(())
    }

    /// `subclass "NAME" VALUE;` or with a block.
    pub(super) fn subclass(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let (name, name_span) = self.quoted("the name of a class")?;
        let class = self.class_by_name(&name, name_span)?;
        let value = self.string_or_octets()?;
        let span = start.to(self.last);
        let Some(parent) = self.config.classes.get(class.0) else {
            return Err(Reported);
        };
        let (scope, limit) = (parent.scope, parent.lease_limit);
        if parent.submatch.is_none() {
            self.warning(span, format!("class \"{name}\" has no `match`"), "its subclasses are never looked up");
        }
        let key: Arc<[u8]> = value.into();
        let existing = self.config.classes.get(class.0).and_then(|class| class.subclasses.get(&key).copied());
        let id = match existing {
            Some(id) => id,
            None => {
                let id = SubclassId(self.config.subclasses.len());
                self.config.subclasses.push(Subclass {
                    class,
                    value: Arc::clone(&key),
                    lease_limit: limit,
                    scope,
                    span,
                });
                if let Some(class) = self.config.classes.get_mut(class.0) {
                    class.subclasses.insert(key, id);
                }
                id
            }
        };
        if self.peek().kind == Kind::Punct(b'{') {
            let own = match self.config.subclasses.get(id.0) {
                Some(subclass) if subclass.scope != scope => subclass.scope,
                _ => self.new_scope(ScopeKind::Class, Some(scope), span),
            };
            if let Some(subclass) = self.config.subclasses.get_mut(id.0) {
                subclass.scope = own;
            }
            let mut inner =
                Frame { place: Place::Class, scope: own, class: Some(class), subclass: Some(id), ..frame.clone() };
            self.block(&mut inner)?;
            self.finish_scope(own);
            return Ok(());
        }
        self.semicolon()
    }

    /// `vendor-class "V" { ... }` and `user-class "U" { ... }`, from before there were classes with `match`.
    pub(super) fn implicit_class(&mut self, frame: &Frame, word: &str) -> Parsed<()> {
        let start = self.next().span;
        let value = self.string_or_octets()?;
        let span = start.to(self.last);
        let code = if word == "vendor-class" { 60 } else { 77 };
        self.warning(span, format!("`{word}` is an old form of a class"), "dhcpd 4.4 refuses it");
        self.note("taken as a class that matches when the option has exactly this value");
        let name = format!("{word} {}", String::from_utf8_lossy(&value));
        let id = self.class_named(&name, frame, span)?;
        if let Some(class) = self.config.classes.get_mut(id.0) {
            let option = Expr::Option(OptionRef { space: SpaceId::DHCP, code });
            class.match_if = Some(Expr::Equal(Box::new([option, Expr::Const(value.into())])));
        }
        self.class_block(id, frame)
    }
}
