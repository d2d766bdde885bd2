//! Expressions (reference section 9), with dhcpd's precedences:
//!
//! ```text
//!   boolean   := comparison [ (and | or) boolean ]            same precedence, to the right
//!   comparison:= factor [ = != ~= ~~ factor ]
//!   factor    := term { * / % term }                          the loosest of the operators on numbers
//!   term      := bits { + - bits }
//!   bits      := primary { & | ^ primary }                    the tightest
//! ```

use super::suggest::nearest;
use super::{Parsed, Parser, Reported};
use crate::config::lexer::Kind;
use crate::config::limits::{EXPRESSION_DEPTH_MAX, EXPRESSION_OPERATORS_MAX};
use crate::config::machine::fold;
use crate::config::pattern;
use crate::config::span::Span;
use crate::config::statement::{Arith, Expr, ExprKind, Pattern};

/// What is wanted, which decides what a bare number is: a number where one is wanted, octets elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Any,
    Data,
    Number,
    Boolean,
}

/// Words that begin an expression, for suggestions.
pub(super) const WORDS: &[&str] = &[
    "option",
    "config-option",
    "hardware",
    "packet",
    "substring",
    "suffix",
    "lcase",
    "ucase",
    "concat",
    "reverse",
    "binary-to-ascii",
    "encode-int",
    "extract-int",
    "pick-first-value",
    "leased-address",
    "host-decl-name",
    "lease-time",
    "client-state",
    "filename",
    "server-name",
    "gethostname",
    "gethostbyname",
    "null",
    "exists",
    "known",
    "static",
    "check",
    "defined",
    "not",
];

impl Parser<'_> {
    /// A boolean expression.
    pub(super) fn boolean(&mut self) -> Parsed<Expr> {
        let start = self.peek().span;
        let expr = self.expression(Want::Boolean)?;
        self.require(expr, ExprKind::Boolean, start, "a boolean expression")
    }

    /// A data expression.
    pub(super) fn data(&mut self) -> Parsed<Expr> {
        let start = self.peek().span;
        let expr = self.expression(Want::Data)?;
        self.require(expr, ExprKind::Data, start, "a data expression").map(fold)
    }

    /// A numeric expression.
    pub(super) fn numeric(&mut self) -> Parsed<Expr> {
        let start = self.peek().span;
        let expr = self.expression(Want::Number)?;
        self.require(expr, ExprKind::Number, start, "a numeric expression").map(fold)
    }

    /// Any expression.
    pub(super) fn any_expression(&mut self) -> Parsed<Expr> {
        self.expression(Want::Any).map(fold)
    }

    fn require(&mut self, expr: Expr, kind: ExprKind, start: Span, what: &str) -> Parsed<Expr> {
        let found = expr.kind();
        if found == kind || found == ExprKind::Any {
            return Ok(expr);
        }
        let is = match found {
            ExprKind::Data => "this is data",
            ExprKind::Number => "this is a number",
            ExprKind::Boolean => "this is true or false",
            ExprKind::Any => "",
        };
        self.fail(start.to(self.last), format!("expected {what}"), is)
    }

    fn expression(&mut self, want: Want) -> Parsed<Expr> {
        if self.depth >= EXPRESSION_DEPTH_MAX {
            let span = self.peek().span;
            return self.fail(span, "expression is nested too deep", format!("at most {EXPRESSION_DEPTH_MAX} deep"));
        }
        if self.depth == 0 {
            self.operators = 0;
        }
        self.depth = self.depth.saturating_add(1);
        let result = self.logical(want);
        self.depth = self.depth.saturating_sub(1);
        result
    }

    /// A chain of operators is as deep as it is long when it is evaluated.
    fn count_operator(&mut self, span: Span) -> Parsed<()> {
        if self.operators >= EXPRESSION_OPERATORS_MAX {
            let most = format!("at most {EXPRESSION_OPERATORS_MAX} operators");
            return self.fail(span, "expression is too long", most);
        }
        self.operators = self.operators.saturating_add(1);
        Ok(())
    }

    fn logical(&mut self, want: Want) -> Parsed<Expr> {
        let mut operands: Vec<(Expr, Span)> = Vec::new();
        let mut operators: Vec<(bool, Span)> = Vec::new();
        loop {
            let start = self.peek().span;
            let operand = self.comparison(want)?;
            operands.push((operand, start.to(self.last)));
            let word = self.peek();
            let is_and = self.word_is(word, "and");
            if !is_and && !self.word_is(word, "or") {
                break;
            }
            self.count_operator(word.span)?;
            self.next();
            operators.push((is_and, word.span));
        }
        if let (Some((first, _)), Some((_, span))) = (
            operators.first(),
            operators.iter().find(|(is_and, _)| Some(*is_and) != operators.first().map(|one| one.0)),
        ) {
            let _ = first;
            self.warning(*span, "`and` and `or` are mixed without parentheses", "read from the right");
            self.note("dhcpd gives both the same precedence: `a and b or c` is `a and (b or c)`");
        }
        let Some((mut result, _)) = operands.pop() else {
            return Err(Reported);
        };
        while let (Some((is_and, span)), Some((left, left_span))) = (operators.pop(), operands.pop()) {
            for (expr, at) in [(&left, left_span), (&result, span)] {
                if !matches!(expr.kind(), ExprKind::Boolean | ExprKind::Any) {
                    return self.fail(at, "`and` and `or` join boolean expressions", "this is not one");
                }
            }
            let pair = Box::new([left, result]);
            result = if is_and { Expr::And(pair) } else { Expr::Or(pair) };
        }
        Ok(result)
    }

    fn comparison(&mut self, want: Want) -> Parsed<Expr> {
        let start = self.peek().span;
        let left = self.factor(want)?;
        let left_span = start.to(self.last);
        let Some(operator) = self.comparison_operator()? else {
            return Ok(left);
        };
        let wanted = match left.kind() {
            ExprKind::Data => Want::Data,
            ExprKind::Number => Want::Number,
            ExprKind::Boolean => Want::Boolean,
            ExprKind::Any => Want::Any,
        };
        if left.kind() == ExprKind::Boolean {
            return self.fail(left_span, "expected data or a number before the comparison", "this is true or false");
        }
        let right_start = self.peek().span;
        let right = self.factor(wanted)?;
        let right_span = right_start.to(self.last);
        let kinds = (left.kind(), right.kind());
        if right.kind() == ExprKind::Boolean
            || matches!(kinds, (ExprKind::Data, ExprKind::Number) | (ExprKind::Number, ExprKind::Data))
        {
            return self.fail(right_span, "the two sides are of different kinds", "never equal to the left side");
        }
        if let Some(next) = self.peek_comparison() {
            return self.fail(next, "comparisons cannot be chained", "use `and`");
        }
        let (left, right) = (fold(left), fold(right));
        Ok(match operator {
            Compare::Equal => Expr::Equal(Box::new([left, right])),
            Compare::NotEqual => Expr::NotEqual(Box::new([left, right])),
            Compare::Match | Compare::MatchIgnoringCase => {
                let ignore_case = operator == Compare::MatchIgnoringCase;
                let pattern = match right {
                    Expr::Const(bytes) => match pattern::compile(&bytes, ignore_case) {
                        Ok(regex) => Pattern::Fixed(bytes, regex),
                        Err(why) => {
                            return self.fail(right_span, "this regular expression cannot be used", why);
                        }
                    },
                    other => Pattern::Computed(Box::new(other)),
                };
                Expr::Match { data: Box::new(left), pattern, ignore_case }
            }
        })
    }

    fn peek_comparison(&self) -> Option<Span> {
        let token = self.peek();
        matches!(token.kind, Kind::Punct(b'=' | b'!' | b'~')).then_some(token.span)
    }

    fn comparison_operator(&mut self) -> Parsed<Option<Compare>> {
        if self.eat(b'=') {
            return Ok(Some(Compare::Equal));
        }
        if self.eat(b'!') {
            if self.eat(b'=') {
                return Ok(Some(Compare::NotEqual));
            }
            let span = self.peek().span;
            return self.fail(span, "expected `=` after `!`", "not equal is `!=`");
        }
        if self.eat(b'~') {
            if self.eat(b'=') {
                return Ok(Some(Compare::Match));
            }
            if self.eat(b'~') {
                return Ok(Some(Compare::MatchIgnoringCase));
            }
            let span = self.peek().span;
            return self.fail(span, "expected `=` or `~` after `~`", "`~=` matches, `~~` ignores case");
        }
        Ok(None)
    }

    fn factor(&mut self, want: Want) -> Parsed<Expr> {
        self.operators(want, 0)
    }

    /// One level of operators on numbers, the loosest first.
    fn operators(&mut self, want: Want, level: usize) -> Parsed<Expr> {
        if level >= 3 {
            return self.primary(want);
        }
        let start = self.peek().span;
        let mut left = self.operators(want, level.saturating_add(1))?;
        loop {
            let token = self.peek();
            let operator = match (level, token.kind) {
                (0, Kind::Punct(b'*')) => Arith::Multiply,
                (0, Kind::Punct(b'/')) => Arith::Divide,
                (0, Kind::Punct(b'%')) => Arith::Remainder,
                (1, Kind::Punct(b'+')) => Arith::Add,
                (1, Kind::Punct(b'-')) => Arith::Subtract,
                (2, Kind::Punct(b'&')) => Arith::And,
                (2, Kind::Punct(b'|')) => Arith::Or,
                (2, Kind::Punct(b'^')) => Arith::Xor,
                _ => return Ok(left),
            };
            let left_span = start.to(self.last);
            self.count_operator(token.span)?;
            self.next();
            if operator == Arith::Subtract {
                self.warning(token.span, "`-` between numbers is refused by dhcpd", "understood here only");
            }
            let right_start = self.peek().span;
            let right = self.operators(Want::Number, level.saturating_add(1))?;
            for (expr, span) in [(&left, left_span), (&right, right_start.to(self.last))] {
                if !matches!(expr.kind(), ExprKind::Number | ExprKind::Any) {
                    return self.fail(span, "expected a numeric expression", "operands of an arithmetic operator");
                }
            }
            left = fold(Expr::Arith(operator, Box::new([left, right])));
        }
    }

    fn primary(&mut self, want: Want) -> Parsed<Expr> {
        if self.depth >= EXPRESSION_DEPTH_MAX {
            let span = self.peek().span;
            return self.fail(span, "expression is nested too deep", format!("at most {EXPRESSION_DEPTH_MAX} deep"));
        }
        self.depth = self.depth.saturating_add(1);
        let result = self.operand(want);
        self.depth = self.depth.saturating_sub(1);
        result
    }

    fn operand(&mut self, want: Want) -> Parsed<Expr> {
        let token = self.peek();
        match token.kind {
            Kind::Punct(b'(') => {
                self.next();
                let inner = self.expression(want)?;
                self.expect(b')')?;
                Ok(inner)
            }
            Kind::String => {
                self.next();
                Ok(Expr::Const(self.string_bytes(token).into()))
            }
            Kind::Number | Kind::NumberOrName if want == Want::Number => {
                let number = self.number(0, i64::from(u32::MAX))?;
                Ok(Expr::Number(u64::try_from(number).unwrap_or(0)))
            }
            // A function whose name happens to be of hexadecimal digits.
            Kind::NumberOrName if self.peek_at(1).kind == Kind::Punct(b'(') => self.named(),
            Kind::Number | Kind::NumberOrName => self.octets().map(|bytes| Expr::Const(bytes.into())),
            Kind::Name => self.named(),
            Kind::Punct(_) | Kind::End => {
                let what = match want {
                    Want::Any => "an expression",
                    Want::Data => "a data expression",
                    Want::Number => "a numeric expression",
                    Want::Boolean => "a boolean expression",
                };
                self.fail(token.span, format!("expected {what}"), "")
            }
        }
    }

    /// What begins with a word.
    fn named(&mut self) -> Parsed<Expr> {
        let token = self.next();
        let text = self.text(token);
        Ok(match &*text.to_ascii_lowercase() {
            "not" => {
                // dhcpd: only what cannot be split may follow, so `not a = b` is an error.
                let start = self.peek().span;
                let operand = self.primary(Want::Boolean)?;
                if !matches!(operand.kind(), ExprKind::Boolean | ExprKind::Any) {
                    let span = start.to(self.last);
                    self.error(span, "expected a boolean expression after `not`", "this is not true or false");
                    if self.peek_comparison().is_some() {
                        self.note("put the comparison in parentheses: `not (a = b)`");
                    }
                    return Err(Reported);
                }
                if matches!(operand, Expr::And(_)) {
                    let span = token.span.to(self.last);
                    self.warning(span, "`not ( ... and ... )` is never true when the left side is false", "");
                    self.note("dhcpd leaves the value open then, and the `if` is not taken; negate each side instead");
                }
                Expr::Not(Box::new(operand))
            }
            "exists" => Expr::Exists(self.option_name()?.0),
            "known" => Expr::Known,
            "static" => Expr::Static,
            "check" => {
                let (name, span) = self.quoted("the name of a class")?;
                self.warning(token.span.to(span), "`check` of a class is refused by dhcpd 4.4", "understood here only");
                Expr::Check(self.class_by_name(&name, span)?)
            }
            "option" => Expr::Option(self.option_name()?.0),
            "config-option" => Expr::ConfigOption(self.option_name()?.0),
            "hardware" => Expr::Hardware,
            "leased-address" => Expr::LeasedAddress,
            "host-decl-name" => Expr::HostDeclName,
            "client-state" => {
                self.warning(token.span, "`client-state` is nothing in a server", "null here, and refused by dhcpd");
                Expr::ClientState
            }
            "filename" => Expr::Filename,
            "server-name" => Expr::ServerName,
            "lease-time" => Expr::LeaseTime,
            "null" => Expr::Null,
            "packet" => Expr::Packet(Box::new(self.two(Want::Number, Want::Number)?)),
            "substring" => {
                self.expect(b'(')?;
                let data = self.data()?;
                self.comma()?;
                let offset = self.numeric()?;
                self.comma()?;
                let len = self.numeric()?;
                self.expect(b')')?;
                Expr::Substring(Box::new([data, offset, len]))
            }
            "suffix" => Expr::Suffix(Box::new(self.two(Want::Data, Want::Number)?)),
            "lcase" => Expr::Lcase(Box::new(self.one_data()?)),
            "ucase" => Expr::Ucase(Box::new(self.one_data()?)),
            "concat" => {
                let all = self.list()?;
                if all.len() < 2 {
                    return self.fail(token.span, "`concat` wants at least two values", "");
                }
                Expr::Concat(all)
            }
            "reverse" => Expr::Reverse(Box::new(self.two(Want::Number, Want::Data)?)),
            "binary-to-ascii" => {
                self.expect(b'(')?;
                let base = self.numeric()?;
                self.comma()?;
                let bits = self.numeric()?;
                self.comma()?;
                let separator = self.data()?;
                self.comma()?;
                let data = self.data()?;
                self.expect(b')')?;
                Expr::BinaryToAscii(Box::new([base, bits, separator, data]))
            }
            "encode-int" => {
                self.expect(b'(')?;
                let value = self.numeric()?;
                self.comma()?;
                let bits = self.width()?;
                self.expect(b')')?;
                Expr::EncodeInt(Box::new(value), bits)
            }
            "extract-int" => {
                self.expect(b'(')?;
                let value = self.data()?;
                self.comma()?;
                let bits = self.width()?;
                self.expect(b')')?;
                Expr::ExtractInt(Box::new(value), bits)
            }
            "pick" | "pick-first-value" => Expr::Pick(self.list()?),
            "gethostname" => {
                self.expect(b'(')?;
                self.expect(b')')?;
                Expr::MachineName
            }
            "gethostbyname" => {
                self.expect(b'(')?;
                let (name, _) = self.quoted("a host name")?;
                self.expect(b')')?;
                Expr::Resolved { name: self.host_name_place(&name), all: true }
            }
            "defined" => {
                self.expect(b'(')?;
                let (name, _) = self.word("the name of a variable")?;
                self.expect(b')')?;
                Expr::Defined(name.into())
            }
            "v6relay" => {
                return self.fail(token.span, "`v6relay` is refused", "this server speaks DHCPv4 only");
            }
            "ns-update" | "updated-dns-rr" => {
                return self.fail(token.span, format!("`{text}` is refused"), "dynamic DNS updates are not done");
            }
            _ => return self.variable_or_call(&text, token.span),
        })
    }

    fn variable_or_call(&mut self, text: &str, span: Span) -> Parsed<Expr> {
        if !self.at(b'(') {
            return Ok(Expr::Variable(text.into()));
        }
        self.next();
        let mut arguments = Vec::new();
        while !self.at(b')') {
            arguments.push(self.any_expression()?);
            if !self.eat(b',') {
                break;
            }
        }
        self.expect(b')')?;
        if !self.config.functions.contains(text) {
            self.warning(span, format!("no function `{text}` is defined before this call"), "gives null without one");
            if let Some(near) = nearest(text, WORDS.iter().copied()) {
                self.note(format!("did you mean `{near}`?"));
            }
        }
        Ok(Expr::Call(text.into(), arguments))
    }

    fn comma(&mut self) -> Parsed<()> {
        self.expect(b',').map(|_| ())
    }

    fn wanted(&mut self, want: Want) -> Parsed<Expr> {
        match want {
            Want::Any => self.any_expression(),
            Want::Data => self.data(),
            Want::Number => self.numeric(),
            Want::Boolean => self.boolean(),
        }
    }

    fn two(&mut self, first: Want, second: Want) -> Parsed<[Expr; 2]> {
        self.expect(b'(')?;
        let a = self.wanted(first)?;
        self.comma()?;
        let b = self.wanted(second)?;
        self.expect(b')')?;
        Ok([a, b])
    }

    fn one_data(&mut self) -> Parsed<Expr> {
        self.expect(b'(')?;
        let data = self.data()?;
        self.expect(b')')?;
        Ok(data)
    }

    fn list(&mut self) -> Parsed<Vec<Expr>> {
        self.expect(b'(')?;
        let mut all = vec![self.data()?];
        while self.eat(b',') {
            all.push(self.data()?);
        }
        self.expect(b')')?;
        Ok(all)
    }

    fn width(&mut self) -> Parsed<u8> {
        let token = self.peek();
        match self.number(0, 64)? {
            8 => Ok(8),
            16 => Ok(16),
            32 => Ok(32),
            _ => self.fail(token.span, "expected a width in bits", "one of 8, 16, 32"),
        }
    }

    /// A class that is declared before this place.
    pub(super) fn class_by_name(&mut self, name: &str, span: Span) -> Parsed<crate::config::ClassId> {
        if let Some(class) = self.config.class_by_name(name) {
            return Ok(class);
        }
        self.error(span, format!("no class named \"{name}\""), "a class must be declared before it is used");
        self.suggest_known(|config| nearest(name, config.classes.iter().map(|class| &*class.name)));
        Err(Reported)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Match,
    MatchIgnoringCase,
}
