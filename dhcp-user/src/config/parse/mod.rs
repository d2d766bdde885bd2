//! The parser: recursive descent over tokens, straight into the model; recovers at `;` and `}` and goes on.

mod class;
mod cursor;
mod declaration;
mod expression;
mod failover;
mod finding;
mod host;
mod network;
mod option;
mod parameter;
mod pool;
mod statement;
mod suggest;
mod value;

use std::collections::HashSet;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::Config;
use super::diagnostic::{Diagnostic, Severity};
use super::ids::{ClassId, HostId, PeerId, PoolId, ScopeId, SharedNetworkId, SubclassId, SubnetId};
use super::lexer::{Kind, Token, scan};
use super::limits::{INCLUDE_COUNT_MAX, INCLUDE_DEPTH_MAX, NESTING_MAX, TEXT_LEN_MAX};
use super::model::PermitKind;
use super::options::OptionRef;
use super::param::Param;
use super::span::{FileId, Span};
use super::statement::{Expr, Scope, ScopeKind, Statement, StatementKind, Target};

/// All words that begin a declaration, a statement, an expression, a setting of a failover peer or a type.
#[cfg(test)]
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    let lists = [declaration::STATEMENTS, expression::WORDS, failover::SETTINGS, option::TYPES];
    lists.into_iter().flatten().copied()
}

/// The error has been reported; whoever gets it skips to the next statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reported;

/// A parsed thing, or an error that has been reported.
type Parsed<T> = Result<T, Reported>;

/// Which declarations a block may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    SharedNetwork,
    Subnet,
    Pool,
    Group,
    Class,
    Host,
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Root => "the top level",
            Self::SharedNetwork => "a shared-network",
            Self::Subnet => "a subnet",
            Self::Pool => "a pool",
            Self::Group => "a group",
            Self::Class => "a class",
            Self::Host => "a host",
        }
    }
}

/// The block that is being read, with what its statements belong to.
#[derive(Debug, Clone)]
struct Frame {
    place: Place,
    scope: ScopeId,
    network: Option<SharedNetworkId>,
    subnet: Option<SubnetId>,
    pool: Option<PoolId>,
    host: Option<HostId>,
    class: Option<ClassId>,
    subclass: Option<SubclassId>,
    authoritative: bool,
}

/// A file that is being read.
#[derive(Debug)]
struct Input {
    file: FileId,
    name: String,
    text: Arc<Vec<u8>>,
}

/// What two pools must have in common to be merged: network, partner, and both lists of permits.
type PoolKey = (SharedNetworkId, Option<PeerId>, Vec<PermitKind>, Vec<PermitKind>);

/// Subnets by network and address, for each netmask.
type SubnetsByMask = Vec<(u32, HashMap<(SharedNetworkId, u32), SubnetId>)>;

/// What the parser knows while it reads.
pub(super) struct Parser<'r> {
    read: &'r mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
    inputs: Vec<Input>,
    files_opened: usize,
    /// Bytes of all files opened.
    text_len: usize,
    /// The token that comes next.
    token: Token,
    /// Span of the last token taken.
    last: Span,
    nesting: usize,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Errors that are not among the findings kept.
    pub(super) suppressed: usize,
    errors: usize,
    /// No more findings are kept.
    is_full: bool,
    pub(super) config: Config,
    /// The last scope that got a child, with all around it.
    around: Arc<[ScopeId]>,
    /// Hosts by name, with half of the hash of that: a table that grows need not read all names again.
    host_names: HashTable<(u32, u32)>,
    hasher: DefaultHashBuilder,
    /// Shared networks that have been declared, and where.
    network_names: HashMap<Arc<str>, Span>,
    name_places: HashMap<Arc<str>, usize>,
    /// The pool that ranges directly in the subnets of a network share: without and with BOOTP.
    implicit_pools: HashMap<(SharedNetworkId, bool), PoolId>,
    /// Pools without statements, by what they admit: a later one with the same is merged into it.
    plain_pools: HashMap<PoolKey, PoolId>,
    /// For each netmask, in order of appearance: subnets by network and address.
    subnets: SubnetsByMask,
    /// Options that identify hosts.
    identifiers: HashSet<OptionRef>,
    /// Names of variables.
    variables: HashSet<String>,
    /// Peers that a pool refers to.
    peers_used: HashSet<PeerId>,
    /// Peer in force at the level of a shared network.
    network_peers: HashMap<SharedNetworkId, PeerId>,
    /// Warnings that only matter when dynamic DNS is on.
    ddns_warnings: Vec<Diagnostic>,
    /// Names of keys, for `zone` and `omapi-key`.
    keys: HashSet<String>,
    hosts_with_uid: HashSet<HostId>,
    /// Depth of the expression that is being read.
    depth: usize,
    /// Operators of it so far.
    operators: usize,
    /// Lists that statements inside braces of `if` and its like go to; the innermost last.
    sinks: Vec<Vec<Statement>>,
    /// Ranges with `dynamic-bootp` of the pool that is being read.
    bootp_ranges: Vec<Span>,
    /// Reading was given up; what follows from that is not reported.
    is_aborted: bool,
}

impl<'r> Parser<'r> {
    pub(super) fn new(config: Config, read: &'r mut dyn FnMut(&str) -> Result<Vec<u8>, String>) -> Self {
        Self {
            read,
            inputs: Vec::new(),
            files_opened: 0,
            text_len: 0,
            token: Token { kind: Kind::End, span: Span::default() },
            last: Span::default(),
            nesting: 0,
            diagnostics: Vec::new(),
            suppressed: 0,
            errors: 0,
            is_full: false,
            config,
            around: Arc::default(),
            host_names: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            network_names: HashMap::new(),
            name_places: HashMap::new(),
            implicit_pools: HashMap::new(),
            plain_pools: HashMap::new(),
            subnets: Vec::new(),
            identifiers: HashSet::new(),
            variables: HashSet::new(),
            peers_used: HashSet::new(),
            network_peers: HashMap::new(),
            ddns_warnings: Vec::new(),
            keys: HashSet::new(),
            hosts_with_uid: HashSet::new(),
            depth: 0,
            operators: 0,
            sinks: Vec::new(),
            bootp_ranges: Vec::new(),
            is_aborted: false,
        }
    }

    /// Reads the main file and everything it includes.
    pub(super) fn run(&mut self, root: &str) {
        let frame = self.root_frame();
        let frame = self.file(root, None, frame);
        if let Some(scope) = self.config.scopes.first_mut() {
            scope.authoritative = frame.authoritative;
        }
        self.finish_scope(ScopeId(0));
        // dhcpd, too, asks this only of a text that it understands.
        if self.errors_count() == 0 {
            self.check_peers();
        }
        self.check_ranges();
        self.check_subnets();
        let does_ddns = self.config.scopes.first().is_some_and(|scope| {
            scope.statements.iter().any(|statement| match &statement.kind {
                StatementKind::Assign { target: Target::Param(Param::DdnsUpdateStyle), value, .. } => {
                    *value != Expr::bytes(&[0])
                }
                _ => false,
            })
        });
        if does_ddns {
            for warning in std::mem::take(&mut self.ddns_warnings) {
                let Diagnostic { span, message, .. } = warning;
                self.warning(span, message, "");
            }
        }
        let kept = self.diagnostics.iter().filter(|one| one.severity == Severity::Error).count();
        self.suppressed = self.errors.saturating_sub(kept);
    }

    fn root_frame(&mut self) -> Frame {
        let scope = match self.config.scopes.first() {
            Some(_) => ScopeId(0),
            None => self.new_scope(ScopeKind::Root, None, Span::default()),
        };
        Frame {
            place: Place::Root,
            scope,
            network: None,
            subnet: None,
            pool: None,
            host: None,
            class: None,
            subclass: None,
            authoritative: false,
        }
    }

    /// Reads one file as statements of the given block.
    fn file(&mut self, name: &str, included_at: Option<Span>, mut frame: Frame) -> Frame {
        let outer = (self.token, self.last);
        if !self.open(name, included_at) {
            return frame;
        }
        loop {
            let token = self.peek();
            if token.kind == Kind::End {
                break;
            }
            if token.kind == Kind::Punct(b'}') {
                self.error(token.span, "unexpected `}`", "there is no open block here");
                self.next();
                continue;
            }
            self.statement(&mut frame);
        }
        self.inputs.pop();
        (self.token, self.last) = outer;
        if self.is_aborted {
            self.give_up();
        }
        frame
    }

    fn open(&mut self, name: &str, included_at: Option<Span>) -> bool {
        let at = included_at.unwrap_or_default();
        if self.inputs.iter().any(|input| input.name == name) {
            self.error(at, format!("`{name}` includes itself"), "this include closes a circle");
            return false;
        }
        if self.inputs.len() >= INCLUDE_DEPTH_MAX || self.files_opened >= INCLUDE_COUNT_MAX {
            self.error(
                at,
                "too many includes",
                format!("at most {INCLUDE_DEPTH_MAX} deep, {INCLUDE_COUNT_MAX} in all"),
            );
            return false;
        }
        let text = match (self.read)(name) {
            Ok(text) if self.text_len.saturating_add(text.len()) <= TEXT_LEN_MAX => Arc::new(text),
            Ok(_) => {
                if included_at.is_none() {
                    self.config.sources.add(name.to_owned(), Arc::default(), None);
                }
                self.error(at, format!("`{name}` is too long"), format!("at most {TEXT_LEN_MAX} bytes in all files"));
                return false;
            }
            Err(why) => {
                // The main file has no place that could be pointed at but itself.
                if included_at.is_none() {
                    self.config.sources.add(name.to_owned(), Arc::default(), None);
                }
                self.error(at, format!("cannot read `{name}`: {why}"), "");
                return false;
            }
        };
        self.files_opened = self.files_opened.saturating_add(1);
        self.text_len = self.text_len.saturating_add(text.len());
        let file = self.config.sources.add(name.to_owned(), Arc::clone(&text), included_at);
        self.token = scan(&text, file, 0);
        self.inputs.push(Input { file, name: name.to_owned(), text });
        true
    }

    /// `include "FILE";`
    fn include(&mut self, frame: &mut Frame) -> Parsed<()> {
        let start = self.next().span;
        let token = self.peek();
        if token.kind != Kind::String {
            return self.fail(token.span, "expected the name of a file", "write it in quotes");
        }
        self.next();
        let name = String::from_utf8_lossy(&self.string_bytes(token)).into_owned();
        self.semicolon()?;
        let span = start.to(token.span);
        *frame = self.file(&name, Some(span), frame.clone());
        Ok(())
    }

    fn new_scope(&mut self, kind: ScopeKind, parent: Option<ScopeId>, span: Span) -> ScopeId {
        let id = ScopeId(self.config.scopes.len());
        let around = parent.and_then(|parent| Some((parent, self.config.scopes.get(parent.0)?)));
        let authoritative = around.is_some_and(|(_, scope)| scope.authoritative);
        if let Some((parent, scope)) = around
            && self.around.last() != Some(&parent)
        {
            self.around = scope.outer.iter().copied().chain([parent]).collect();
        }
        let outer = if around.is_some() { Arc::clone(&self.around) } else { Arc::default() };
        let scope = Scope { kind, parent, outer, statements: Vec::new(), span, authoritative };
        self.config.scopes.push(scope);
        id
    }

    fn add_statement(&mut self, scope: ScopeId, statement: Statement) {
        if let Some(sink) = self.sinks.last_mut() {
            sink.push(statement);
        } else if let Some(scope) = self.config.scopes.get_mut(scope.0) {
            scope.statements.push(statement);
        }
    }

    /// Reads `{ statements }` of a declaration.
    fn block(&mut self, frame: &mut Frame) -> Parsed<()> {
        let open = self.expect(b'{')?;
        if self.nesting >= NESTING_MAX {
            return self.too_deep(open);
        }
        self.nesting = self.nesting.saturating_add(1);
        let closed = loop {
            let token = self.peek();
            match token.kind {
                Kind::Punct(b'}') => {
                    self.next();
                    break true;
                }
                Kind::End => break false,
                Kind::Punct(_) | Kind::Name | Kind::Number | Kind::NumberOrName | Kind::String => {}
            }
            self.statement(frame);
        };
        self.nesting = self.nesting.saturating_sub(1);
        if let Some(scope) = self.config.scopes.get_mut(frame.scope.0) {
            scope.authoritative = frame.authoritative;
        }
        if closed { Ok(()) } else { self.unclosed(open) }
    }

    /// Gives up: what is nested this deep is no configuration.
    fn too_deep<T>(&mut self, open: Span) -> Parsed<T> {
        self.error(open, "blocks are nested too deep", format!("at most {NESTING_MAX} deep"));
        self.is_aborted = true;
        self.give_up();
        Err(Reported)
    }

    /// The file ends inside a block.
    fn unclosed<T>(&mut self, open: Span) -> Parsed<T> {
        if !self.is_aborted {
            let place = self.place_of_missing();
            self.error(place, "expected `}`", "the file ends inside a block");
            self.other(open, "the block begins here");
        }
        Err(Reported)
    }

    fn errors_count(&self) -> usize {
        self.errors
    }

    /// A warning that only matters when dynamic DNS is on.
    fn ddns_warning(&mut self, span: Span, message: &str) {
        self.ddns_warnings.push(Diagnostic {
            severity: Severity::Warning,
            message: message.to_owned(),
            span,
            label: String::new(),
            notes: Vec::new(),
            other: None,
        });
    }
}
