//! Executable statements (reference section 9.3).

use std::sync::Arc;

use super::{Frame, Parsed, Parser, Reported};
use crate::config::evaluate::{Hook, LogPriority};
use crate::config::lexer::Kind;
use crate::config::limits::{FUNCTION_PARAMETERS_MAX, NESTING_MAX, VARIABLE_COUNT_MAX};
use crate::config::print;
use crate::config::span::Span;
use crate::config::statement::{Body, Case, Events, Expr, Function, Mode, Statement, StatementKind};

impl Parser<'_> {
    fn push_statement(&mut self, frame: &Frame, kind: StatementKind, start: Span) {
        let span = start.to(self.last);
        self.add_statement(frame.scope, Statement { kind, span });
    }

    /// `{ statements }` of an executable statement: no declarations inside.
    pub(super) fn body(&mut self, frame: &mut Frame) -> Parsed<Body> {
        let open = if self.at(b'{') {
            self.next().span
        } else {
            let place = self.place_of_missing();
            return self.fail(place, "expected `{`", "the braces are mandatory");
        };
        if self.nesting >= NESTING_MAX {
            return self.too_deep(open);
        }
        self.nesting = self.nesting.saturating_add(1);
        self.sinks.push(Vec::new());
        let closed = loop {
            match self.peek().kind {
                Kind::Punct(b'}') => {
                    self.next();
                    break true;
                }
                Kind::End => break false,
                Kind::Punct(_) | Kind::Name | Kind::Number | Kind::NumberOrName | Kind::String => {}
            }
            self.statement(frame);
        };
        let statements = self.sinks.pop().unwrap_or_default();
        self.nesting = self.nesting.saturating_sub(1);
        if !closed {
            return self.unclosed(open);
        }
        Ok(statements.into())
    }

    /// `if B { } elsif B { } else { }`
    pub(super) fn if_statement(&mut self, frame: &mut Frame) -> Parsed<()> {
        let start = self.next().span;
        let mut arms = Vec::new();
        let mut otherwise = None;
        loop {
            let condition = self.condition()?;
            let body = self.body(frame)?;
            arms.push((condition, body));
            if self.eat_word("elsif") {
                continue;
            }
            if !self.at_word("else") {
                break;
            }
            self.next();
            if self.eat_word("if") {
                continue;
            }
            otherwise = Some(self.body(frame)?);
            break;
        }
        self.push_statement(frame, StatementKind::If { arms, otherwise }, start);
        Ok(())
    }

    /// The condition of `if`: the first parenthesis belongs to the `if` (dhcpd).
    fn condition(&mut self) -> Parsed<Expr> {
        let has_parenthesis = self.eat(b'(');
        let condition = self.boolean()?;
        if has_parenthesis {
            self.expect(b')')?;
            if !self.at(b'{') {
                let place = self.place_of_missing();
                self.error(place, "expected `{`", "the condition ended with the parenthesis");
                self.note("the first parenthesis after `if` encloses the whole condition: put one more pair around it");
                return Err(Reported);
            }
        }
        Ok(condition)
    }

    /// `switch (E) { case C: ... default: ... }`
    pub(super) fn switch_statement(&mut self, frame: &mut Frame) -> Parsed<()> {
        let start = self.next().span;
        self.expect(b'(')?;
        let on = self.any_expression()?;
        self.expect(b')')?;
        let open = self.expect(b'{')?;
        if self.nesting >= NESTING_MAX {
            return self.too_deep(open);
        }
        self.nesting = self.nesting.saturating_add(1);
        self.sinks.push(Vec::new());
        let mut cases: Vec<Case> = Vec::new();
        let wants_number = on.kind() == crate::config::statement::ExprKind::Number;
        let closed = loop {
            match self.peek().kind {
                Kind::Punct(b'}') => {
                    self.next();
                    break true;
                }
                Kind::End => break false,
                Kind::Punct(_) | Kind::Name | Kind::Number | Kind::NumberOrName | Kind::String => {}
            }
            let first = self.sinks.last().map_or(0, Vec::len);
            if self.at_word("default") && self.peek_at(1).kind == Kind::Punct(b':') {
                self.next();
                self.next();
                cases.push(Case { value: None, first });
                continue;
            }
            if self.at_word("case") {
                self.next();
                let value = if wants_number { self.numeric() } else { self.any_expression() };
                match value.and_then(|value| self.expect(b':').map(|_| value)) {
                    Ok(value) => cases.push(Case { value: Some(value), first }),
                    Err(Reported) => self.skip_statement(),
                }
                continue;
            }
            self.statement(frame);
        };
        let body: Body = self.sinks.pop().unwrap_or_default().into();
        self.nesting = self.nesting.saturating_sub(1);
        if !closed {
            return self.unclosed(open);
        }
        self.push_statement(frame, StatementKind::Switch { on, cases, body }, start);
        Ok(())
    }

    /// `set NAME = E;`, `define NAME = E;`, `define NAME(a, b) { ... }`
    pub(super) fn set_statement(&mut self, frame: &mut Frame, may_be_function: bool) -> Parsed<()> {
        let start = self.next().span;
        let (name, _) = self.word("the name of a variable")?;
        if may_be_function && self.eat(b'(') {
            let mut parameters: Vec<Arc<str>> = Vec::new();
            while !self.at(b')') {
                let (parameter, token) = self.word("the name of a parameter")?;
                if parameters.len() >= FUNCTION_PARAMETERS_MAX {
                    let most = format!("at most {FUNCTION_PARAMETERS_MAX}");
                    return self.fail(token.span, "a function with too many parameters", most);
                }
                parameters.push(parameter.into());
                if !self.eat(b',') {
                    break;
                }
            }
            self.expect(b')')?;
            // Known before its body is read, so that a function may call itself.
            self.config.functions.insert(name.clone());
            let body = self.body(frame)?;
            let function = Arc::new(Function { parameters, body });
            self.push_statement(frame, StatementKind::Define(name.into(), function), start);
            return Ok(());
        }
        if !self.at(b'=') {
            let place = self.place_of_missing();
            return self.fail(place, "expected `=`", "as in `set NAME = VALUE;`");
        }
        self.next();
        let value = self.any_expression()?;
        self.semicolon()?;
        if !self.variables.contains(&name) {
            if self.variables.len() >= VARIABLE_COUNT_MAX {
                return self.fail(start, "too many variables", format!("at most {VARIABLE_COUNT_MAX}"));
            }
            self.variables.insert(name.clone());
        }
        self.push_statement(frame, StatementKind::Set(name.into(), value), start);
        Ok(())
    }

    /// `unset NAME;`
    pub(super) fn unset_statement(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let (name, _) = self.word("the name of a variable")?;
        self.semicolon()?;
        self.push_statement(frame, StatementKind::Unset(name.into()), start);
        Ok(())
    }

    /// `log([PRIORITY,] D);`
    pub(super) fn log_statement(&mut self, frame: &Frame) -> Parsed<()> {
        const PRIORITIES: &[(&str, LogPriority)] = &[
            ("fatal", LogPriority::Fatal),
            ("error", LogPriority::Error),
            ("info", LogPriority::Info),
            ("debug", LogPriority::Debug),
        ];
        let start = self.next().span;
        self.expect(b'(')?;
        let token = self.peek();
        let mut priority = LogPriority::Debug;
        if Self::is_word(token) && self.peek_at(1).kind == Kind::Punct(b',') {
            let text = self.text(token);
            let Some((_, known)) = PRIORITIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text)) else {
                self.error(token.span, format!("`{text}` is not a priority"), "one of fatal, error, info, debug");
                self.suggest(&text, PRIORITIES.iter().map(|(name, _)| *name));
                return Err(Reported);
            };
            priority = *known;
            self.next();
            self.next();
        }
        let value = self.data()?;
        self.expect(b')')?;
        self.semicolon()?;
        self.push_statement(frame, StatementKind::Log(priority, value), start);
        Ok(())
    }

    /// `execute("PROGRAM", D, ...);`
    pub(super) fn execute_statement(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        self.expect(b'(')?;
        let (program, _) = self.quoted("the path of a program")?;
        let mut arguments = Vec::new();
        while self.eat(b',') {
            arguments.push(self.data()?);
        }
        self.expect(b')')?;
        self.semicolon()?;
        self.push_statement(frame, StatementKind::Execute(program.into(), arguments), start);
        Ok(())
    }

    /// `on commit or release { ... }`
    pub(super) fn on_statement(&mut self, frame: &mut Frame) -> Parsed<()> {
        let start = self.next().span;
        let mut events = Events::default();
        loop {
            let (word, token) = self.word("an event: `commit`, `expiry` or `release`")?;
            match &*word.to_ascii_lowercase() {
                "commit" => events.commit = true,
                "expiry" => events.expiry = true,
                "release" => events.release = true,
                _ => {
                    self.error(token.span, format!("unknown event `{word}`"), "one of `commit`, `expiry`, `release`");
                    self.suggest(&word, ["commit", "expiry", "release"].into_iter());
                    return Err(Reported);
                }
            }
            if !self.eat_word("or") {
                break;
            }
        }
        // dhcpd also takes a lone `;`: nothing happens on these events.
        let body = if self.eat(b';') { Body::from([]) } else { self.body(frame)? };
        let text = print::hook_text(&body, &self.config).into();
        self.push_statement(frame, StatementKind::On(events, Hook { body, text }), start);
        Ok(())
    }

    /// `supersede`, `default`, `append`, `prepend`, `send`: the name of an option follows.
    pub(super) fn modifier_statement(&mut self, frame: &Frame, mode: Mode) -> Parsed<()> {
        let start = self.next().span;
        if self.at_word("option") {
            let span = self.peek().span;
            return self.fail(span, "`option` does not belong here", "the name of the option follows at once");
        }
        let (option, _) = self.option_name()?;
        self.option_value(frame.scope, frame, option, mode, start)
    }

    /// `add "CLASS";`
    pub(super) fn add_class_statement(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let (name, span) = self.quoted("the name of a class")?;
        let class = self.class_by_name(&name, span)?;
        self.semicolon()?;
        self.warning(start.to(self.last), "`add` is accepted but does nothing here", "");
        self.push_statement(frame, StatementKind::Add(class), start);
        Ok(())
    }

    /// `eval E;` and a lone call.
    pub(super) fn eval_statement(&mut self, frame: &Frame, start: Span) -> Parsed<()> {
        let value = self.any_expression()?;
        self.semicolon()?;
        self.push_statement(frame, StatementKind::Eval(value), start);
        Ok(())
    }

    /// `return [E];`
    pub(super) fn return_statement(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        let value = if self.at(b';') { None } else { Some(self.any_expression()?) };
        self.semicolon()?;
        self.push_statement(frame, StatementKind::Return(value), start);
        Ok(())
    }

    /// A word and `;`.
    pub(super) fn bare_statement(&mut self, frame: &Frame, kind: StatementKind) -> Parsed<()> {
        let start = self.next().span;
        self.semicolon()?;
        if kind == StatementKind::ParseVendorOption {
            self.warning(start, "`parse-vendor-option` is accepted but does nothing here", "");
        }
        self.push_statement(frame, kind, start);
        Ok(())
    }
}
