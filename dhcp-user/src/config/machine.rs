//! Runs compiled statements and expressions for one packet.
//!
//! Options are kept as dhcpd keeps them: an assignment only notes the expression, which is evaluated when all scopes
//! have run. What `if`, `set` and `log` ask is evaluated at once.

mod expression;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::Config;
use super::context::{Context, VariableValue};
use super::evaluate::{Entry, Evaluation, Execution, LogLine};
use super::limits::{CALL_DEPTH_MAX, STEPS_MAX, VALUE_LEN_MAX};
use super::options::{OptionRef, SpaceId};
use super::span::Span;
use super::statement::{Expr, ExprKind, Function, Mode, Statement, StatementKind, Target};
use super::trail::Step;

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
    Join(VecDeque<Self>),
}

/// The state of one evaluation.
pub(super) struct Machine<'c> {
    config: &'c Config,
    context: &'c Context<'c>,
    pub(super) out: Evaluation,
    slots: Vec<(Slot<'c>, Span)>,
    /// Variables set in this evaluation: what they hold does not depend on the lease.
    assigned: HashSet<&'c str>,
    /// Parameters of the function that runs.
    locals: Vec<(&'c str, Option<VariableValue>)>,
    functions: HashMap<&'c str, &'c Function>,
    returned: Option<VariableValue>,
    pub(super) steps: u32,
    calls: usize,
    lookups: usize,
    /// Depth of `check`.
    pub(super) checks: usize,
}

impl<'c> Machine<'c> {
    pub(super) fn new(config: &'c Config, context: &'c Context<'c>) -> Self {
        Self {
            config,
            context,
            out: Evaluation { trail: context.explains.then(Box::default), ..Evaluation::default() },
            slots: Vec::new(),
            assigned: HashSet::new(),
            locals: Vec::new(),
            functions: HashMap::new(),
            returned: None,
            steps: 0,
            calls: 0,
            lookups: 0,
            checks: 0,
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

    /// Notes what happens, if anybody wants to know.
    pub(super) fn note(&mut self, step: impl FnOnce() -> Step) {
        if let Some(trail) = &mut self.out.trail {
            trail.steps.push(step());
        }
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
            StatementKind::Assign { mode, target, value, .. } => self.assign(*mode, *target, value, statement.span),
            StatementKind::If { arms, otherwise } => {
                for (arm, (condition, body)) in arms.iter().enumerate() {
                    if self.boolean(condition) == Some(true) {
                        self.note(|| Step::Chosen { arm: Some(arm), at: statement.span });
                        return self.list(body);
                    }
                }
                self.note(|| Step::Chosen { arm: otherwise.as_ref().map(|_| arms.len()), at: statement.span });
                if let Some(body) = otherwise {
                    return self.list(body);
                }
            }
            StatementKind::Switch { on, cases, body } => {
                let value = self.value(on);
                let found = cases
                    .iter()
                    .find(|case| {
                        case.value.as_ref().is_some_and(|wanted| value.is_some() && self.value(wanted) == value)
                    })
                    .or_else(|| cases.iter().find(|case| case.value.is_none()));
                let arm = found.and_then(|found| cases.iter().position(|case| std::ptr::eq(case, found)));
                self.note(|| Step::Chosen { arm, at: statement.span });
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
                self.functions.insert(name, function);
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
                    self.out.logs.push(LogLine { priority: *priority, text: text.into() });
                }
            }
            StatementKind::Execute(program, arguments) => {
                self.out.depends.hooks = true;
                let arguments: Option<Vec<Arc<[u8]>>> =
                    arguments.iter().map(|argument| self.data(argument).map(Into::into)).collect();
                // dhcpd: an argument without value stops the whole statement.
                if let Some(arguments) = arguments {
                    let program = Arc::clone(program);
                    self.out.executions.push(Execution { program, arguments, span: statement.span });
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
        self.assigned.insert(name);
    }

    /// Copies the lease's variables before the first of them is changed.
    fn variables_own(&mut self) {
        if !self.out.has_variables {
            self.out.has_variables = true;
            self.out.variables.clone_from(self.context.variables);
        }
    }

    fn assign(&mut self, mode: Mode, target: Target, value: &'c Expr, span: Span) {
        self.note(|| Step::Assigned { target, mode, at: span });
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
            Mode::Append | Mode::Prepend => {
                // One list, however often something is added: a list in a list would be as deep as it is long.
                let mut parts = match std::mem::replace(slot, Slot::Ready(Arc::default())) {
                    Slot::Join(parts) => parts,
                    old => VecDeque::from([old]),
                };
                if mode == Mode::Append {
                    parts.push_back(new);
                } else {
                    parts.push_front(new);
                }
                *slot = Slot::Join(parts);
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
                    self.steps = self.steps.saturating_add(1);
                    if self.steps > STEPS_MAX || out.len() > VALUE_LEN_MAX {
                        return None;
                    }
                    out.extend_from_slice(&self.slot_value(part)?);
                }
                Some(out.into())
            }
        }
    }
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
        ExprKind::Data => Some(machine.data(&expr).map_or(Expr::Null, |bytes| Expr::Const(bytes.into()))),
        ExprKind::Number => machine.number(&expr).map(Expr::Number),
        ExprKind::Boolean | ExprKind::Any => None,
    };
    drop(machine);
    folded.unwrap_or(expr)
}

impl Evaluation {
    /// Place of a target among the entries.
    pub(super) fn place(&self, target: Target) -> Option<usize> {
        match target {
            Target::Param(param) => self.param_places.get(param.index()).copied()?.checked_sub(1).map(usize::from),
            Target::Option(OptionRef { space: SpaceId::DHCP, code }) if code < 256 => {
                let code = usize::try_from(code).ok()?;
                self.option_places.get(code).copied()?.checked_sub(1).map(usize::from)
            }
            Target::Option(option) => self.space_places.get(&option).copied(),
        }
    }

    /// Makes a place for a target that has none.
    pub(super) fn add_place(&mut self, target: Target, origin: Span) {
        self.entries.push(Entry { target, data: None, origin });
        let place = u16::try_from(self.entries.len()).unwrap_or(0);
        match target {
            Target::Param(param) => {
                if let Some(slot) = self.param_places.get_mut(param.index()) {
                    *slot = place;
                }
            }
            Target::Option(OptionRef { space: SpaceId::DHCP, code }) => {
                if let Some(slot) = usize::try_from(code).ok().and_then(|code| self.option_places.get_mut(code)) {
                    *slot = place;
                }
            }
            Target::Option(option) => {
                self.space_places.insert(option, self.entries.len().saturating_sub(1));
            }
        }
    }
}
