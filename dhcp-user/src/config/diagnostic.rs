//! What is wrong with a configuration, and where: collected all at once, rendered with the line and a caret.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::limits::EXCERPT_LEN_MAX;
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
        self.list.iter().filter(|one| one.severity == Severity::Error).count().saturating_add(self.suppressed)
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
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for one in &self.list {
            out.push_str(&self.render_one(one, &renderer));
            out.push('\n');
        }
        if self.suppressed > 0 {
            out.push_str(&format!("error: {} more errors are not shown\n", self.suppressed));
        }
        out
    }

    /// Findings that were made about this configuration later, rendered as [`Self::render`] does.
    #[must_use]
    pub fn render_findings(&self, findings: &[Diagnostic], colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        findings.iter().map(|one| self.render_one(one, &renderer) + "\n").collect()
    }

    fn render_one(&self, one: &Diagnostic, renderer: &Renderer) -> String {
        let level = match one.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = format!("{}: {}", self.sources.locate(one.span), one.message);
        let (text, line, range) = self.excerpt(one.span);
        let mut group = level.primary_title(title.as_str()).element(
            Snippet::source(text.as_str())
                .line_start(line)
                .annotation(AnnotationKind::Primary.span(range).label(one.label.as_str())),
        );
        let other = one.other.as_ref().map(|(span, label)| (self.excerpt(*span), self.sources.locate(*span), label));
        let mut notes = one.notes.clone();
        if let Some(((_, other_line, _), place, label)) = &other
            && *other_line != line
        {
            notes.insert(0, format!("{label}: {place}"));
        }
        let mut file = one.span.file;
        // Includes cannot be circular, so this ends.
        while let Some(at) = self.sources.included_at(file) {
            notes.push(format!("included from {}", self.sources.locate(at)));
            file = at.file;
        }
        for note in &notes {
            group = group.element(Level::NOTE.message(note.as_str()));
        }
        renderer.render(&[group])
    }

    /// The line of a span, its number, and the bytes of the span within it.
    fn excerpt(&self, span: Span) -> (String, usize, std::ops::Range<usize>) {
        let number = self.sources.locate(span).line;
        let (before, rest) = self.sources.excerpt(span);
        let text = self.sources.text(span.file).get(span.start as usize..span.end as usize).unwrap_or_default();
        let text = text.get(..EXCERPT_LEN_MAX).unwrap_or(text);
        let first = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let len = String::from_utf8_lossy(first).trim_end().len().min(rest.len());
        // A span that ends inside a character that had to be replaced is drawn to the next boundary.
        let len = (len..=rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let start = before.len();
        (before + &rest, number, start..start.saturating_add(len))
    }
}
