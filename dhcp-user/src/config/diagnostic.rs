//! What is wrong with a configuration, and where: collected all at once, rendered with the line and a caret.

use super::span::{Location, Sources, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is taken, but somebody should look.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What stands beside the caret: what was expected. May be empty.
    pub label: String,
    /// Further sentences: why, a suggestion, another way.
    pub notes: Vec<String>,
    /// Another place that matters: the first of two declarations.
    pub other: Option<(Span, String)>,
}

/// All findings of one load, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {
    pub(super) list: Vec<Diagnostic>,
    pub(super) sources: Sources,
    pub(super) suppressed: usize,
}

impl Diagnostics {
    /// Number of errors; a configuration with none is usable.
    #[must_use]
    pub fn errors_count(&self) -> usize {
        self.list
            .iter()
            .filter(|one| one.severity == Severity::Error)
            .count()
            .saturating_add(self.suppressed)
    }

    /// Number of warnings.
    #[must_use]
    pub fn warnings_count(&self) -> usize {
        self.list.iter().filter(|one| one.severity == Severity::Warning).count()
    }

    /// The findings, in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// The files the findings point into.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Where a finding is.
    #[must_use]
    pub fn locate(&self, span: Span) -> Location {
        self.sources.locate(span)
    }

    /// The findings for people: each with `file:line:column` on its first line, the source line, a caret, what was
    /// expected, the chain of includes. With `colour` ANSI colours are used.
    #[must_use]
    pub fn render(&self, _colour: bool) -> String {
        todo!()
    }
}
