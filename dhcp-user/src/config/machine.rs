//! Runs compiled statements and expressions for one packet.
//!
//! Options are kept as dhcpd keeps them: an assignment only notes the expression, which is evaluated when all scopes
//! have run. What `if`, `set` and `log` ask is evaluated at once.

use std::borrow::Cow;
use std::sync::Arc;

use super::Config;
use super::context::{Context, VariableValue};
use super::evaluate::{Entry, Evaluation, Execution, LogLine};
use super::limits::{CALL_DEPTH_MAX, STEPS_MAX, VALUE_LEN_MAX};
use super::options::{OptionRef, SpaceId};
use super::pattern;
use super::received;
use super::span::Span;
use super::statement::{Arith, Expr, ExprKind, Function, Mode, Pattern, Statement, StatementKind, Target};

/// Bytes of a value.
pub(super) type Bytes<'c> = Cow<'c, [u8]>;

/// Whether the rest of a list still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Goes,
    Returns,
}

/// A value that is evaluated when all scopes have run.
#[derive(Debug, Clone)]
enum Slot<'c> {
    Ready(Arc<[u8]>),
    Lazy(&'c Expr),
    Join(Vec<Self>),
}

/// The state of one evaluation.
pub(super) struct Machine<'c> {
    config: &'c Config,
    context: &'c Context<'c>,
    pub(super) out: Evaluation,
    slots: Vec<(Slot<'c>, Span)>,
    /// Variables set in this evaluation: what they hold does not depend on the lease.
    assigned: Vec<&'c str>,
    /// Parameters of the function that runs.
    locals: Vec<(&'c str, Option<VariableValue>)>,
    functions: Vec<(&'c str, &'c Function)>,
    returned: Option<VariableValue>,
    steps: u32,
    calls: usize,
    lookups: usize,
}

impl<'c> Machine<'c> {
    pub(super) fn new(config: &'c Config, context: &'c Context<'c>) -> Self {
        Self {
            config,
            context,
            out: Evaluation::default(),
            slots: Vec::new(),
            assigned: Vec::new(),
            locals: Vec::new(),
            functions: Vec::new(),
            returned: None,
            steps: 0,
            calls: 0,
            lookups: 0,
        }
    }

    /// Goes on with an evaluation that is finished already.
    pub(super) fn resume(config: &'c Config, context: &'c Context<'c>, out: Evaluation) -> Self {
        let mut machine = Self::new(config, context);
        machine.slots = out
            .entries
            .iter()
            .map(|entry| {
                let slot = entry.data.clone().map_or(Slot::Lazy(&Expr::Null), Slot::Ready);
                (slot, entry.origin)
            })
            .collect();
        machine.out = out;
        machine
    }

    /// Runs a list of statements.
    pub(super) fn run(&mut self, statements: &'c [Statement]) {
        self.list(statements);
    }

    fn list(&mut self, statements: &'c [Statement]) -> Flow {
        for statement in statements {
            self.steps = self.steps.saturating_add(1);
            if self.steps > STEPS_MAX {
                return Flow::Returns;
            }
            if matches!(statement.kind, StatementKind::Break) {
                // dhcpd: ends this list only, also that of an `if` inside a `switch`.
                return Flow::Goes;
            }
            if self.one(statement) == Flow::Returns {
                return Flow::Returns;
            }
        }
        Flow::Goes
    }

    fn one(&mut self, statement: &'c Statement) -> Flow {
        match &statement.kind {
            StatementKind::Assign {
                mode, target, value, ..
            } => self.assign(*mode, *target, value, statement.span),
            StatementKind::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if self.boolean(condition) == Some(true) {
                        return self.list(body);
                    }
                }
                if let Some(body) = otherwise {
                    return self.list(body);
                }
            }
            StatementKind::Switch { on, cases, body } => {
                let value = self.value(on);
                let found = cases
                    .iter()
                    .find(|case| {
                        case.value
                            .as_ref()
                            .is_some_and(|wanted| value.is_some() && self.value(wanted) == value)
                    })
                    .or_else(|| cases.iter().find(|case| case.value.is_none()));
                if let Some(case) = found {
                    return self.list(body.get(case.first..).unwrap_or_default());
                }
            }
            StatementKind::Set(name, value) => {
                let value = self.value(value);
                self.set(name, value);
            }
            StatementKind::Unset(name) => self.set(name, None),
            StatementKind::Define(name, function) => {
                self.functions.retain(|(known, _)| *known != &**name);
                self.functions.push((name, function));
            }
            StatementKind::Eval(value) => {
                self.value(value);
            }
            StatementKind::Return(value) => {
                self.returned = value.as_ref().and_then(|value| self.value(value));
                return Flow::Returns;
            }
            StatementKind::Break | StatementKind::Add(_) | StatementKind::ParseVendorOption => {}
            StatementKind::Log(priority, value) => {
                self.out.depends.logs = true;
                if let Some(text) = self.data(value) {
                    self.out.logs.push(LogLine {
                        priority: *priority,
                        text: text.into(),
                    });
                }
            }
            StatementKind::Execute(program, arguments) => {
                self.out.depends.hooks = true;
                let arguments: Option<Vec<Arc<[u8]>>> = arguments
                    .iter()
                    .map(|argument| self.data(argument).map(Into::into))
                    .collect();
                // dhcpd: an argument without value stops the whole statement.
                if let Some(arguments) = arguments {
                    let program = Arc::clone(program);
                    self.out.executions.push(Execution {
                        program,
                        arguments,
                        span: statement.span,
                    });
                }
            }
            StatementKind::On(events, hook) => {
                let hook = (!hook.body.is_empty()).then(|| hook.clone());
                if events.commit {
                    self.out.depends.hooks = hook.is_some();
                    self.out.on_commit.clone_from(&hook);
                }
                if events.expiry {
                    self.out.on_expiry.clone_from(&hook);
                }
                if events.release {
                    self.out.on_release = hook;
                }
            }
        }
        Flow::Goes
    }

    fn set(&mut self, name: &'c str, value: Option<VariableValue>) {
        if let Some((_, local)) = self.locals.iter_mut().rev().find(|(local, _)| *local == name) {
            *local = value;
            return;
        }
        self.variables_own();
        match value {
            Some(value) => self.out.variables.set(name, value),
            None => self.out.variables.unset(name),
        }
        if !self.assigned.contains(&name) {
            self.assigned.push(name);
        }
    }

    /// Copies the lease's variables before the first of them is changed.
    fn variables_own(&mut self) {
        if !self.out.has_variables {
            self.out.has_variables = true;
            self.out.variables.clone_from(self.context.variables);
        }
    }

    fn assign(&mut self, mode: Mode, target: Target, value: &'c Expr, span: Span) {
        let new = match value {
            Expr::Const(bytes) => Slot::Ready(Arc::clone(bytes)),
            other => Slot::Lazy(other),
        };
        let Some(place) = self.out.place(target) else {
            if self.slots.is_empty() {
                // Most evaluations assign about this many.
                self.slots.reserve(16);
                self.out.entries.reserve(16);
            }
            self.out.add_place(target, span);
            self.slots.push((new, span));
            return;
        };
        let Some((slot, origin)) = self.slots.get_mut(place) else {
            return;
        };
        match mode {
            Mode::Supersede => *slot = new,
            Mode::Default => return,
            Mode::Append => {
                let old = std::mem::replace(slot, Slot::Join(Vec::new()));
                *slot = Slot::Join(vec![old, new]);
            }
            Mode::Prepend => {
                let old = std::mem::replace(slot, Slot::Join(Vec::new()));
                *slot = Slot::Join(vec![new, old]);
            }
        }
        *origin = span;
        if let Some(entry) = self.out.entries.get_mut(place) {
            entry.origin = span;
        }
    }

    /// Evaluates what has been assigned, and gives the result.
    pub(super) fn finish(mut self) -> Evaluation {
        for place in 0..self.slots.len() {
            let data = self.slot(place);
            if let Some(entry) = self.out.entries.get_mut(place) {
                entry.data = data;
            }
        }
        self.out.variables_changed = self.out.has_variables && self.out.variables != *self.context.variables;
        if !self.out.has_variables {
            self.variables_own();
        }
        self.out.encapsulate(self.config);
        self.out
    }

    /// The value of an assignment.
    fn slot(&mut self, place: usize) -> Option<Arc<[u8]>> {
        let slot = match self.slots.get(place) {
            Some((Slot::Ready(bytes), _)) => return Some(Arc::clone(bytes)),
            Some((slot, _)) => slot.clone(),
            None => return None,
        };
        // `config-option` may ask for itself through others.
        if self.lookups >= CALL_DEPTH_MAX {
            return None;
        }
        self.lookups = self.lookups.saturating_add(1);
        let data = self.slot_value(&slot);
        self.lookups = self.lookups.saturating_sub(1);
        data
    }

    fn slot_value(&mut self, slot: &Slot<'c>) -> Option<Arc<[u8]>> {
        match slot {
            Slot::Ready(bytes) => Some(Arc::clone(bytes)),
            Slot::Lazy(expr) => self.data(expr).map(Into::into),
            Slot::Join(parts) => {
                let mut out = Vec::new();
                for part in parts {
                    out.extend_from_slice(&self.slot_value(part)?);
                }
                Some(out.into())
            }
        }
    }

    // Expressions.

    /// The value of any expression; `None` is null.
    fn value(&mut self, expr: &'c Expr) -> Option<VariableValue> {
        match expr {
            Expr::Variable(name) => self.variable(name),
            Expr::Call(name, arguments) => self.call(name, arguments),
            _ => match expr.kind() {
                ExprKind::Data | ExprKind::Any => self.data(expr).map(|bytes| VariableValue::Data(bytes.into())),
                ExprKind::Number => self.number(expr).map(VariableValue::Number),
                ExprKind::Boolean => self.boolean(expr).map(VariableValue::Boolean),
            },
        }
    }

    fn variable(&mut self, name: &str) -> Option<VariableValue> {
        if let Some((_, value)) = self.locals.iter().rev().find(|(local, _)| *local == name) {
            return value.clone();
        }
        if !self.assigned.contains(&name) {
            self.out.depends.lease = true;
        }
        let variables = if self.out.has_variables {
            &self.out.variables
        } else {
            self.context.variables
        };
        variables.get(name).cloned()
    }

    fn call(&mut self, name: &str, arguments: &'c [Expr]) -> Option<VariableValue> {
        if self.calls >= CALL_DEPTH_MAX {
            return None;
        }
        let known = self
            .functions
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, function)| *function);
        let function: &'c Function = match known {
            Some(function) => function,
            None => self.config.global_functions.get(name)?,
        };
        let values: Vec<Option<VariableValue>> = arguments.iter().map(|argument| self.value(argument)).collect();
        let before = self.locals.len();
        let mut values = values.into_iter();
        for parameter in &function.parameters {
            self.locals.push((parameter, values.next().flatten()));
        }
        self.calls = self.calls.saturating_add(1);
        let outer = self.returned.take();
        self.list(&function.body);
        let result = std::mem::replace(&mut self.returned, outer);
        self.calls = self.calls.saturating_sub(1);
        self.locals.truncate(before);
        result
    }

    /// The value of a boolean expression; `None` is null.
    pub(super) fn boolean(&mut self, expr: &'c Expr) -> Option<bool> {
        match expr {
            Expr::Equal(sides) => {
                let [left, right] = &**sides;
                self.equal(left, right)
            }
            Expr::NotEqual(sides) => {
                let [left, right] = &**sides;
                self.equal(left, right).map(|equal| !equal)
            }
            Expr::Match {
                data,
                pattern,
                ignore_case,
            } => {
                let data = self.data(data)?;
                match pattern {
                    Pattern::Fixed(_, regex) => Some(regex.is_match(&data)),
                    Pattern::Computed(pattern) => {
                        let pattern = self.data(pattern)?;
                        pattern::compile(&pattern, *ignore_case)
                            .ok()
                            .map(|regex| regex.is_match(&data))
                    }
                }
            }
            // dhcpd: the right side stays open when the left is not true, and then so does the whole.
            Expr::And(sides) => {
                let [left, right] = &**sides;
                if self.boolean(left) == Some(true) {
                    self.boolean(right)
                } else {
                    None
                }
            }
            Expr::Or(sides) => {
                let [left, right] = &**sides;
                let left = self.boolean(left);
                if left == Some(true) {
                    return left;
                }
                self.boolean(right).or(left)
            }
            Expr::Not(operand) => self.boolean(operand).map(|value| !value),
            Expr::Exists(option) => Some(self.received(*option).is_some()),
            Expr::Known => Some(self.context.known),
            Expr::Static => Some(self.context.is_static),
            Expr::Check(class) => Some(self.config.is_member(*class, self.context, &mut self.out.depends)),
            Expr::Defined(name) => Some(self.variable(name).is_some()),
            Expr::Variable(_) | Expr::Call(..) => match self.value(expr)? {
                VariableValue::Boolean(value) => Some(value),
                VariableValue::Number(value) => Some(value != 0),
                VariableValue::Data(_) => None,
            },
            _ => None,
        }
    }

    fn equal(&mut self, left: &'c Expr, right: &'c Expr) -> Option<bool> {
        if left.kind() == ExprKind::Data && right.kind() == ExprKind::Data {
            let left = self.data(left);
            return Some(left == self.data(right));
        }
        let left = self.value(left);
        Some(left == self.value(right))
    }

    /// The value of a numeric expression; `None` is null.
    fn number(&mut self, expr: &'c Expr) -> Option<u64> {
        match expr {
            Expr::Number(value) => Some(*value),
            Expr::LeaseTime => {
                self.out.depends.lease = true;
                self.context.lease_time.map(u64::from)
            }
            Expr::ExtractInt(data, bits) => {
                let data = self.data(data)?;
                Some(match bits {
                    8 => u64::from(*data.first()?),
                    16 => u64::from(u16::from_be_bytes(*data.first_chunk()?)),
                    _ => u64::from(u32::from_be_bytes(*data.first_chunk()?)),
                })
            }
            Expr::Arith(operator, sides) => {
                let [left, right] = &**sides;
                let (left, right) = (self.number(left)?, self.number(right)?);
                match operator {
                    Arith::Add => Some(left.wrapping_add(right)),
                    Arith::Subtract => Some(left.wrapping_sub(right)),
                    Arith::Multiply => Some(left.wrapping_mul(right)),
                    Arith::Divide => left.checked_div(right),
                    Arith::Remainder => left.checked_rem(right),
                    Arith::And => Some(left & right),
                    Arith::Or => Some(left | right),
                    Arith::Xor => Some(left ^ right),
                }
            }
            Expr::Variable(_) | Expr::Call(..) => match self.value(expr)? {
                VariableValue::Number(value) => Some(value),
                VariableValue::Data(_) | VariableValue::Boolean(_) => None,
            },
            _ => None,
        }
    }

    fn length(&mut self, expr: &'c Expr) -> Option<usize> {
        self.number(expr)
            .map(|value| usize::try_from(value).unwrap_or(usize::MAX))
    }

    /// The value of a data expression; `None` is null.
    pub(super) fn data(&mut self, expr: &'c Expr) -> Option<Bytes<'c>> {
        match expr {
            Expr::Const(bytes) => Some(Cow::Borrowed(bytes)),
            Expr::Null | Expr::ClientState => None,
            Expr::Option(option) => self.received(*option),
            Expr::ConfigOption(option) => {
                let place = self.out.place(Target::Option(*option))?;
                self.slot(place).map(|bytes| Cow::Owned(bytes.to_vec()))
            }
            Expr::Hardware => {
                let mut bytes = vec![self.context.hw.htype()];
                bytes.extend_from_slice(self.context.hw.bytes());
                Some(Cow::Owned(bytes))
            }
            Expr::LeasedAddress => self
                .context
                .leased_address
                .map(|address| Cow::Owned(address.octets().to_vec())),
            Expr::HostDeclName => self.context.host_decl_name.map(|name| Cow::Borrowed(name.as_bytes())),
            Expr::Filename => {
                self.out.depends.message = true;
                received::c_string(self.context.message.get(108..236)?).map(Cow::Borrowed)
            }
            Expr::ServerName => {
                self.out.depends.message = true;
                received::c_string(self.context.message.get(44..108)?).map(Cow::Borrowed)
            }
            Expr::MachineName => self
                .config
                .machine_name
                .as_deref()
                .map(|name| Cow::Borrowed(name.as_bytes())),
            Expr::Resolved { name, all } => {
                self.out.depends.names = true;
                let addresses = &self.config.names.get(*name)?.1;
                let wanted = if *all { addresses.len() } else { 1 };
                let bytes: Vec<u8> = addresses
                    .iter()
                    .take(wanted)
                    .flat_map(|address| address.octets())
                    .collect();
                (!bytes.is_empty()).then_some(Cow::Owned(bytes))
            }
            Expr::Packet(two) => {
                self.out.depends.message = true;
                let [offset, len] = &**two;
                let (offset, len) = (self.length(offset)?, self.length(len)?);
                let message = self.context.message;
                (offset < message.len()).then(|| Cow::Borrowed(window(message, offset, len)))
            }
            Expr::Substring(three) => {
                let [data, offset, len] = &**three;
                let data = self.data(data)?;
                let (offset, len) = (self.length(offset)?, self.length(len)?);
                Some(match data {
                    Cow::Borrowed(data) => Cow::Borrowed(window(data, offset, len)),
                    Cow::Owned(data) => Cow::Owned(window(&data, offset, len).to_vec()),
                })
            }
            Expr::Suffix(two) => {
                let [data, len] = &**two;
                let data = self.data(data)?;
                let offset = data.len().saturating_sub(self.length(len)?);
                Some(Cow::Owned(data.get(offset..).unwrap_or_default().to_vec()))
            }
            Expr::Lcase(data) => self.data(data).map(|data| Cow::Owned(data.to_ascii_lowercase())),
            Expr::Ucase(data) => self.data(data).map(|data| Cow::Owned(data.to_ascii_uppercase())),
            Expr::Concat(parts) => {
                let mut out = Vec::new();
                for part in parts {
                    out.extend_from_slice(&self.data(part)?);
                    if out.len() > VALUE_LEN_MAX {
                        return None;
                    }
                }
                Some(Cow::Owned(out))
            }
            Expr::Reverse(two) => {
                let [width, data] = &**two;
                let width = self.length(width)?;
                let data = self.data(data)?;
                if width == 0 || data.len().checked_rem(width) != Some(0) {
                    return None;
                }
                Some(Cow::Owned(data.chunks(width).rev().flatten().copied().collect()))
            }
            Expr::BinaryToAscii(four) => {
                let [base, bits, separator, data] = &**four;
                let (base, bits) = (self.number(base)?, self.number(bits)?);
                let separator = self.data(separator)?;
                let data = self.data(data)?;
                binary_to_ascii(base, bits, &separator, &data).map(Cow::Owned)
            }
            Expr::EncodeInt(value, bits) => {
                let bytes = self.number(value)?.to_be_bytes();
                let skip = 8_usize.saturating_sub(usize::from(*bits / 8));
                bytes.get(skip..).map(|bytes| Cow::Owned(bytes.to_vec()))
            }
            Expr::Pick(values) => values.iter().find_map(|value| self.data(value)),
            Expr::Variable(_) | Expr::Call(..) => match self.value(expr)? {
                VariableValue::Data(bytes) => Some(Cow::Owned(bytes.to_vec())),
                VariableValue::Number(_) | VariableValue::Boolean(_) => None,
            },
            _ => None,
        }
    }

    /// An option of the request, of any space.
    fn received(&self, option: OptionRef) -> Option<Bytes<'c>> {
        let context: &'c Context<'c> = self.context;
        if option.space == SpaceId::DHCP {
            return context.options.get(u8::try_from(option.code).ok()?).map(Cow::Borrowed);
        }
        received::suboption(self.config, context.options, option)
    }
}

/// Up to `len` bytes from `offset`; empty past the end.
fn window(data: &[u8], offset: usize, len: usize) -> &[u8] {
    let rest = data.get(offset..).unwrap_or_default();
    rest.get(..len).unwrap_or(rest)
}

/// Numbers of `bits` bits each in `base`, joined; no leading zeros.
fn binary_to_ascii(base: u64, bits: u64, separator: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let width = match bits {
        8 => 1,
        16 => 2,
        32 => 4,
        _ => return None,
    };
    if !(2..=16).contains(&base) || data.len().checked_rem(width) != Some(0) {
        return None;
    }
    let mut out = Vec::new();
    for (place, chunk) in data.chunks(width).enumerate() {
        if place > 0 {
            out.extend_from_slice(separator);
        }
        let mut value = chunk.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let mut digits = Vec::new();
        loop {
            let digit = value
                .checked_rem(base)
                .and_then(|digit| u32::try_from(digit).ok())
                .unwrap_or(0);
            digits.push(char::from_digit(digit, 16).map_or(b'0', |digit| u8::try_from(digit).unwrap_or(b'0')));
            value = value.checked_div(base).unwrap_or(0);
            if value == 0 {
                break;
            }
        }
        digits.reverse();
        out.extend_from_slice(&digits);
        if out.len() > VALUE_LEN_MAX {
            return None;
        }
    }
    Some(out)
}

/// Replaces an expression that is the same for every packet by its value.
pub(super) fn fold(expr: Expr) -> Expr {
    if matches!(expr, Expr::Const(_) | Expr::Number(_) | Expr::Null) || !expr.is_constant() {
        return expr;
    }
    let config = Config::empty();
    let options = super::ReceivedOptions::default();
    let variables = super::Variables::new();
    let context = Context::nothing(&options, &variables);
    let mut machine = Machine::new(&config, &context);
    let folded = match expr.kind() {
        ExprKind::Data => Some(
            machine
                .data(&expr)
                .map_or(Expr::Null, |bytes| Expr::Const(bytes.into())),
        ),
        ExprKind::Number => machine.number(&expr).map(Expr::Number),
        ExprKind::Boolean | ExprKind::Any => None,
    };
    folded.unwrap_or(expr)
}

impl Evaluation {
    /// Place of a target among the entries.
    pub(super) fn place(&self, target: Target) -> Option<usize> {
        match target {
            Target::Param(param) => self
                .param_places
                .get(param.index())
                .copied()?
                .checked_sub(1)
                .map(usize::from),
            Target::Option(OptionRef {
                space: SpaceId::DHCP,
                code,
            }) if code < 256 => {
                let code = usize::try_from(code).ok()?;
                self.option_places.get(code).copied()?.checked_sub(1).map(usize::from)
            }
            Target::Option(_) => self.entries.iter().position(|entry| entry.target == target),
        }
    }

    /// Makes a place for a target that has none.
    pub(super) fn add_place(&mut self, target: Target, origin: Span) {
        self.entries.push(Entry {
            target,
            data: None,
            origin,
        });
        let place = u16::try_from(self.entries.len()).unwrap_or(0);
        match target {
            Target::Param(param) => {
                if let Some(slot) = self.param_places.get_mut(param.index()) {
                    *slot = place;
                }
            }
            Target::Option(OptionRef {
                space: SpaceId::DHCP,
                code,
            }) => {
                if let Some(slot) = usize::try_from(code)
                    .ok()
                    .and_then(|code| self.option_places.get_mut(code))
                {
                    *slot = place;
                }
            }
            Target::Option(_) => self.has_spaces = true,
        }
    }
}
