//! The parser: recursive descent over tokens, straight into the model; recovers at `;` and `}` and goes on.

mod class;
mod declaration;
mod expression;
mod failover;
mod host;
mod network;
mod option;
mod parameter;
mod pool;
mod statement;
mod suggest;
mod value;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Config;
use super::diagnostic::{Diagnostic, Severity};
use super::ids::{ClassId, HostId, PeerId, PoolId, ScopeId, SharedNetworkId, SubclassId, SubnetId};
use super::lexer::{Kind, LexError, Token, tokenize, unquote};
use super::limits::{DIAGNOSTICS_MAX, FILE_LEN_MAX, INCLUDE_COUNT_MAX, INCLUDE_DEPTH_MAX, NESTING_MAX, TOKEN_LEN_MAX};
use super::param::Param;
use super::span::{FileId, Span};
use super::statement::{Expr, Scope, ScopeKind, Statement, StatementKind, Target};

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
    text: Arc<[u8]>,
    tokens: Vec<Token>,
    at: usize,
}

/// What the parser knows while it reads.
pub(super) struct Parser<'r> {
    read: &'r mut dyn FnMut(&str) -> Result<Vec<u8>, String>,
    inputs: Vec<Input>,
    files_opened: usize,
    /// Span of the last token taken.
    last: Span,
    nesting: usize,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) suppressed: usize,
    pub(super) config: Config,
    /// Names that have been declared, and where.
    host_names: HashMap<Arc<str>, Span>,
    name_places: HashMap<Arc<str>, usize>,
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
    /// Lists that statements inside braces of `if` and its like go to; the innermost last.
    sinks: Vec<Vec<Statement>>,
    /// Ranges with `dynamic-bootp`, and the explicit pool they are in.
    bootp_ranges: Vec<(Option<PoolId>, Span)>,
    /// Reading was given up; what follows from that is not reported.
    is_aborted: bool,
}

impl<'r> Parser<'r> {
    pub(super) fn new(config: Config, read: &'r mut dyn FnMut(&str) -> Result<Vec<u8>, String>) -> Self {
        Self {
            read,
            inputs: Vec::new(),
            files_opened: 0,
            last: Span::default(),
            nesting: 0,
            diagnostics: Vec::new(),
            suppressed: 0,
            config,
            host_names: HashMap::new(),
            name_places: HashMap::new(),
            peers_used: HashSet::new(),
            network_peers: HashMap::new(),
            ddns_warnings: Vec::new(),
            keys: HashSet::new(),
            hosts_with_uid: HashSet::new(),
            depth: 0,
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
        let outer = self.last;
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
        self.last = outer;
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
        let text: Arc<[u8]> = match (self.read)(name) {
            Ok(text) if text.len() <= FILE_LEN_MAX => text.into(),
            Ok(_) => {
                self.error(at, format!("`{name}` is too long"), format!("at most {FILE_LEN_MAX} bytes"));
                return false;
            }
            Err(why) => {
                // The main file has no place that could be pointed at but itself.
                if included_at.is_none() {
                    self.config.sources.add(name.to_owned(), Arc::from(&[][..]), None);
                }
                self.error(at, format!("cannot read `{name}`: {why}"), "");
                return false;
            }
        };
        self.files_opened = self.files_opened.saturating_add(1);
        let file = self.config.sources.add(name.to_owned(), Arc::clone(&text), included_at);
        let (tokens, errors) = tokenize(&text, file);
        for (error, span) in errors {
            match error {
                LexError::TooLong => {
                    self.error(span.first(), "token too long", format!("at most {TOKEN_LEN_MAX} bytes"));
                }
                LexError::UnendedString => {
                    self.error(span, "string without an end", "no closing quote until the end of the file");
                }
                LexError::BadHexEscape => {
                    self.error(span, "bad escape in a string", "`\\x` wants exactly two hexadecimal digits");
                }
            }
        }
        self.inputs.push(Input { file, name: name.to_owned(), text, tokens, at: 0 });
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

    // Tokens.

    fn peek(&self) -> Token {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Token {
        let Some(input) = self.inputs.last() else {
            return Token { kind: Kind::End, span: Span::default() };
        };
        let last = input.tokens.len().saturating_sub(1);
        let at = input.at.saturating_add(ahead).min(last);
        input
            .tokens
            .get(at)
            .copied()
            .unwrap_or(Token { kind: Kind::End, span: Span { file: input.file, ..Span::default() } })
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        if let Some(input) = self.inputs.last_mut()
            && token.kind != Kind::End
        {
            input.at = input.at.saturating_add(1);
        }
        self.last = token.span;
        token
    }

    /// The bytes of a token as they are written.
    fn raw(&self, token: Token) -> &[u8] {
        let text = match self.inputs.last() {
            Some(input) if input.file == token.span.file => &input.text,
            _ => return self.config.sources.text(token.span.file),
        };
        text.get(token.span.start as usize..token.span.end as usize).unwrap_or_default()
    }

    /// The text of a word or number.
    fn text(&self, token: Token) -> String {
        String::from_utf8_lossy(self.raw(token)).into_owned()
    }

    /// The bytes that a quoted string stands for.
    fn string_bytes(&self, token: Token) -> Vec<u8> {
        unquote(self.raw(token)).into_owned()
    }

    fn is_word(token: Token) -> bool {
        matches!(token.kind, Kind::Name | Kind::NumberOrName)
    }

    fn at_word(&self, word: &str) -> bool {
        self.word_is(self.peek(), word)
    }

    fn word_is(&self, token: Token, word: &str) -> bool {
        Self::is_word(token) && self.raw(token).eq_ignore_ascii_case(word.as_bytes())
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let yes = self.at_word(word);
        if yes {
            self.next();
        }
        yes
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.eat_word(word) {
            return Ok(());
        }
        let found = self.peek();
        self.fail(found.span, format!("expected `{word}`"), "")
    }

    fn at(&self, byte: u8) -> bool {
        self.peek().kind == Kind::Punct(byte)
    }

    fn eat(&mut self, byte: u8) -> bool {
        let yes = self.at(byte);
        if yes {
            self.next();
        }
        yes
    }

    fn expect(&mut self, byte: u8) -> Parsed<Span> {
        if self.at(byte) {
            return Ok(self.next().span);
        }
        let place = self.place_of_missing();
        self.fail(place, format!("expected `{}`", char::from(byte)), "")
    }

    /// Takes the `;` that ends a statement.
    fn semicolon(&mut self) -> Parsed<()> {
        self.expect(b';').map(|_| ())
    }

    /// Where to point when something is missing: at what stands there instead, or behind the last token when
    /// that is on a later line.
    fn place_of_missing(&self) -> Span {
        let found = self.peek().span;
        let behind = Span { start: self.last.end, end: self.last.end, ..self.last };
        if found.file != behind.file || behind.end == 0 {
            return found;
        }
        let text = self.inputs.last().map_or(&[][..], |input| &input.text);
        let between = text.get(behind.end as usize..found.start as usize).unwrap_or_default();
        if between.contains(&b'\n') { behind } else { found }
    }

    /// Goes on after an error in a statement that began behind `before`: to the end of the statement, unless that has
    /// been reached already.
    fn recover(&mut self, before: Span) {
        let is_at_end =
            matches!(self.config.sources.text(self.last.file).get(self.last.start as usize), Some(b';' | b'}'))
                && self.last.end == self.last.start.saturating_add(1);
        if self.last == before || !is_at_end {
            self.skip_statement();
        }
    }

    /// Skips to behind the next `;`, or over the next block, or before a `}` that ends the block we are in.
    fn skip_statement(&mut self) {
        let mut depth = 0_usize;
        loop {
            match self.peek().kind {
                Kind::End => return,
                Kind::Punct(b'{') => depth = depth.saturating_add(1),
                Kind::Punct(b'}') => {
                    if depth == 0 {
                        return;
                    }
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.next();
                        return;
                    }
                }
                Kind::Punct(b';') if depth == 0 => {
                    self.next();
                    return;
                }
                Kind::Punct(_) | Kind::Name | Kind::Number | Kind::NumberOrName | Kind::String => {}
            }
            self.next();
        }
    }

    // Findings.

    fn error(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        self.report(Severity::Error, span, message.into(), label.into());
    }

    fn warning(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        self.report(Severity::Warning, span, message.into(), label.into());
    }

    fn report(&mut self, severity: Severity, span: Span, message: String, label: String) {
        if self.diagnostics.len() >= DIAGNOSTICS_MAX {
            if severity == Severity::Error {
                self.suppressed = self.suppressed.saturating_add(1);
            }
            // The last one kept takes the notes of those that are not.
            if let Some(lost) = self.diagnostics.pop()
                && lost.severity == Severity::Error
                && severity == Severity::Warning
            {
                self.suppressed = self.suppressed.saturating_add(1);
            }
        }
        self.diagnostics.push(Diagnostic { severity, message, span, label, notes: Vec::new(), other: None });
    }

    fn fail<T>(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) -> Parsed<T> {
        self.error(span, message, label);
        Err(Reported)
    }

    fn note(&mut self, note: impl Into<String>) {
        if let Some(last) = self.diagnostics.last_mut() {
            last.notes.push(note.into());
        }
    }

    fn other(&mut self, span: Span, label: impl Into<String>) {
        if let Some(last) = self.diagnostics.last_mut() {
            last.other = Some((span, label.into()));
        }
    }

    /// Adds "did you mean" to the last finding when a candidate is near.
    fn suggest<'a>(&mut self, word: &str, candidates: impl Iterator<Item = &'a str>) {
        if let Some(best) = suggest::nearest(word, candidates) {
            self.note(format!("did you mean `{best}`?"));
        }
    }

    // Scopes.

    fn new_scope(&mut self, kind: ScopeKind, parent: Option<ScopeId>, span: Span) -> ScopeId {
        let id = ScopeId(self.config.scopes.len());
        let (mut path, authoritative) = parent
            .and_then(|parent| self.config.scopes.get(parent.0))
            .map_or((Vec::new(), false), |scope| (scope.path.to_vec(), scope.authoritative));
        path.push(id);
        let scope = Scope { kind, parent, path: path.into(), statements: Vec::new(), span, authoritative };
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
        self.inputs.iter_mut().for_each(|input| input.at = input.tokens.len().saturating_sub(1));
        self.is_aborted = true;
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
        self.diagnostics.iter().filter(|one| one.severity == Severity::Error).count().saturating_add(self.suppressed)
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
