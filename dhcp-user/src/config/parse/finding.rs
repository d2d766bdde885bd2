//! What the parser has to say.

use super::{Parsed, Parser, Reported, suggest};
use crate::config::Config;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::limits::DIAGNOSTICS_MAX;
use crate::config::span::Span;

impl Parser<'_> {
    pub(super) fn error(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        self.report(Severity::Error, span, message.into(), label.into());
    }

    pub(super) fn warning(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        self.report(Severity::Warning, span, message.into(), label.into());
    }

    pub(super) fn report(&mut self, severity: Severity, span: Span, message: String, label: String) {
        if severity == Severity::Error {
            self.errors = self.errors.saturating_add(1);
        }
        if self.diagnostics.len() >= DIAGNOSTICS_MAX {
            // One place is left for the last finding, which takes the notes of those that are not kept.
            self.diagnostics.pop();
            self.is_full = true;
        }
        self.diagnostics.push(Diagnostic { severity, message, span, label, notes: Vec::new(), other: None });
    }

    pub(super) fn fail<T>(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) -> Parsed<T> {
        self.error(span, message, label);
        Err(Reported)
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        if let Some(last) = self.diagnostics.last_mut() {
            last.notes.push(note.into());
        }
    }

    pub(super) fn other(&mut self, span: Span, label: impl Into<String>) {
        if let Some(last) = self.diagnostics.last_mut() {
            last.other = Some((span, label.into()));
        }
    }

    /// Adds "did you mean" to the last finding when a candidate is near.
    pub(super) fn suggest<'a>(&mut self, word: &str, candidates: impl Iterator<Item = &'a str>) {
        if !self.is_full
            && let Some(best) = suggest::nearest(word, candidates)
        {
            self.note(format!("did you mean `{best}`?"));
        }
    }

    /// The same, when the candidates are in the configuration itself.
    pub(super) fn suggest_known(&mut self, nearest: impl FnOnce(&Config) -> Option<&str>) {
        if !self.is_full
            && let Some(best) = nearest(&self.config)
        {
            let note = format!("did you mean `{best}`?");
            self.note(note);
        }
    }

    // Scopes.
}
