//! Compiled statements and expressions: names resolved, constants folded, nothing left to look up but the packet.

use std::sync::Arc;

use super::evaluate::{Hook, LogPriority};
use super::ids::{ClassId, ScopeId};
use super::options::OptionRef;
use super::param::Param;
use super::span::Span;

/// Statements in order.
pub(super) type Body = Arc<[Statement]>;

/// A statement and where it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    pub(super) kind: StatementKind,
    pub(super) span: Span,
}

/// How an assignment meets a value that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Replaces it (`option`, `supersede`, `send`).
    Supersede,
    /// Leaves it.
    Default,
    /// Goes behind it.
    Append,
    /// Goes before it.
    Prepend,
}

/// What is assigned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Target {
    Option(OptionRef),
    Param(Param),
}

/// A place in the body of a `switch`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    /// The value; `None` for `default`.
    pub(super) value: Option<Expr>,
    /// The first statement to run.
    pub(super) first: usize,
}

/// Events of `on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Events {
    pub(super) commit: bool,
    pub(super) expiry: bool,
    pub(super) release: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum StatementKind {
    Assign {
        mode: Mode,
        target: Target,
        value: Expr,
        /// Written as a value of the target's type, not after `=`.
        is_literal: bool,
    },
    If {
        arms: Vec<(Expr, Body)>,
        otherwise: Option<Body>,
    },
    Switch {
        on: Expr,
        cases: Vec<Case>,
        body: Body,
    },
    Set(Arc<str>, Expr),
    Unset(Arc<str>),
    Define(Arc<str>, Arc<Function>),
    Eval(Expr),
    Return(Option<Expr>),
    Break,
    Log(LogPriority, Expr),
    Execute(Arc<str>, Vec<Expr>),
    On(Events, Hook),
    Add(ClassId),
    ParseVendorOption,
}

/// A function made with `define`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Function {
    pub(super) parameters: Vec<Arc<str>>,
    pub(super) body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arith {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    And,
    Or,
    Xor,
}

/// A pattern of `~=` or `~~`.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    /// Known at load time, compiled.
    Fixed(Arc<[u8]>, regex::bytes::Regex),
    /// Computed for each packet.
    Computed(Box<Expr>),
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fixed(a, _), Self::Fixed(b, _)) => a == b,
            (Self::Computed(a), Self::Computed(b)) => a == b,
            (Self::Fixed(..), Self::Computed(_)) | (Self::Computed(_), Self::Fixed(..)) => false,
        }
    }
}

/// An expression; which kind of value it has is [`Expr::kind`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    Const(Arc<[u8]>),
    Null,
    Option(OptionRef),
    ConfigOption(OptionRef),
    Hardware,
    LeasedAddress,
    HostDeclName,
    ClientState,
    Filename,
    ServerName,
    /// Name of the machine the server runs on.
    MachineName,
    /// Addresses of a name, by its place in the list of names; all of them, or the first.
    Resolved {
        name: usize,
        all: bool,
    },
    Packet(Box<[Self; 2]>),
    Substring(Box<[Self; 3]>),
    Suffix(Box<[Self; 2]>),
    Lcase(Box<Self>),
    Ucase(Box<Self>),
    Concat(Vec<Self>),
    Reverse(Box<[Self; 2]>),
    BinaryToAscii(Box<[Self; 4]>),
    EncodeInt(Box<Self>, u8),
    Pick(Vec<Self>),
    Variable(Arc<str>),
    Call(Arc<str>, Vec<Self>),

    Number(u64),
    LeaseTime,
    ExtractInt(Box<Self>, u8),
    Arith(Arith, Box<[Self; 2]>),

    Equal(Box<[Self; 2]>),
    NotEqual(Box<[Self; 2]>),
    Match {
        data: Box<Self>,
        pattern: Pattern,
        ignore_case: bool,
    },
    And(Box<[Self; 2]>),
    Or(Box<[Self; 2]>),
    Not(Box<Self>),
    Exists(OptionRef),
    Known,
    Static,
    Check(ClassId),
    Defined(Arc<str>),
}

/// Kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExprKind {
    Data,
    Number,
    Boolean,
    /// Known only when it is evaluated: variables and calls.
    Any,
}

impl Expr {
    /// Bytes known at load time.
    pub(super) fn bytes(bytes: &[u8]) -> Self {
        Self::Const(bytes.into())
    }

    pub(super) fn kind(&self) -> ExprKind {
        match self {
            Self::Const(_)
            | Self::Null
            | Self::Option(_)
            | Self::ConfigOption(_)
            | Self::Hardware
            | Self::LeasedAddress
            | Self::HostDeclName
            | Self::ClientState
            | Self::Filename
            | Self::ServerName
            | Self::MachineName
            | Self::Resolved { .. }
            | Self::Packet(_)
            | Self::Substring(_)
            | Self::Suffix(_)
            | Self::Lcase(_)
            | Self::Ucase(_)
            | Self::Concat(_)
            | Self::Reverse(_)
            | Self::BinaryToAscii(_)
            | Self::EncodeInt(..)
            | Self::Pick(_) => ExprKind::Data,
            Self::Variable(_) | Self::Call(..) => ExprKind::Any,
            Self::Number(_) | Self::LeaseTime | Self::ExtractInt(..) | Self::Arith(..) => ExprKind::Number,
            Self::Equal(_)
            | Self::NotEqual(_)
            | Self::Match { .. }
            | Self::And(_)
            | Self::Or(_)
            | Self::Not(_)
            | Self::Exists(_)
            | Self::Known
            | Self::Static
            | Self::Check(_)
            | Self::Defined(_) => ExprKind::Boolean,
        }
    }

    /// The operands, in order.
    pub(super) fn children(&self) -> Vec<&Self> {
        match self {
            Self::Const(_)
            | Self::Null
            | Self::Option(_)
            | Self::ConfigOption(_)
            | Self::Hardware
            | Self::LeasedAddress
            | Self::HostDeclName
            | Self::ClientState
            | Self::Filename
            | Self::ServerName
            | Self::MachineName
            | Self::Resolved { .. }
            | Self::Variable(_)
            | Self::Number(_)
            | Self::LeaseTime
            | Self::Exists(_)
            | Self::Known
            | Self::Static
            | Self::Check(_)
            | Self::Defined(_) => Vec::new(),
            Self::Packet(two)
            | Self::Suffix(two)
            | Self::Reverse(two)
            | Self::Arith(_, two)
            | Self::Equal(two)
            | Self::NotEqual(two)
            | Self::And(two)
            | Self::Or(two) => two.iter().collect(),
            Self::Substring(three) => three.iter().collect(),
            Self::BinaryToAscii(four) => four.iter().collect(),
            Self::Lcase(one)
            | Self::Ucase(one)
            | Self::EncodeInt(one, _)
            | Self::ExtractInt(one, _)
            | Self::Not(one) => {
                vec![one]
            }
            Self::Concat(all) | Self::Pick(all) | Self::Call(_, all) => all.iter().collect(),
            Self::Match { data, pattern: Pattern::Computed(pattern), .. } => vec![data, pattern],
            Self::Match { data, pattern: Pattern::Fixed(..), .. } => vec![data],
        }
    }

    /// Whether it is of a few parts only, so that two of them are compared at once.
    pub(super) fn is_short(&self) -> bool {
        let children = self.children();
        children.len() <= 4 && children.iter().all(|child| child.children().is_empty())
    }

    /// Whether the value is the same for every packet.
    pub(super) fn is_constant(&self) -> bool {
        match self {
            Self::Const(_) | Self::Null | Self::Number(_) => true,
            Self::Option(_)
            | Self::ConfigOption(_)
            | Self::Hardware
            | Self::LeasedAddress
            | Self::HostDeclName
            | Self::ClientState
            | Self::Filename
            | Self::ServerName
            | Self::MachineName
            | Self::Resolved { .. }
            | Self::Packet(_)
            | Self::Variable(_)
            | Self::Call(..)
            | Self::LeaseTime
            | Self::Exists(_)
            | Self::Known
            | Self::Static
            | Self::Check(_)
            | Self::Defined(_) => false,
            Self::Substring(_)
            | Self::Suffix(_)
            | Self::Lcase(_)
            | Self::Ucase(_)
            | Self::Concat(_)
            | Self::Reverse(_)
            | Self::BinaryToAscii(_)
            | Self::EncodeInt(..)
            | Self::Pick(_)
            | Self::ExtractInt(..)
            | Self::Arith(..)
            | Self::Equal(_)
            | Self::NotEqual(_)
            | Self::Match { .. }
            | Self::And(_)
            | Self::Or(_)
            | Self::Not(_) => self.children().into_iter().all(Self::is_constant),
        }
    }
}

/// What kind of block a scope is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ScopeKind {
    Root,
    SharedNetwork,
    Subnet,
    Pool,
    Group(Option<Arc<str>>),
    Class,
    Host,
}

/// A block that owns statements.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scope {
    pub(super) kind: ScopeKind,
    pub(super) parent: Option<ScopeId>,
    /// From the root to the parent: one list for all children of a scope, of which a host may be the hundred-thousandth.
    pub(super) outer: Arc<[ScopeId]>,
    pub(super) statements: Vec<Statement>,
    pub(super) span: Span,
    pub(super) authoritative: bool,
}
