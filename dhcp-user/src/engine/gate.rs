//! What rests on a record waits here until the record is on disk (I8).

use std::collections::VecDeque;

use super::{
    limits::GATED_COUNT_MAX,
    port::{Effect, JournalSeq},
};

/// The journal as the engine sees it, and the effects that wait for it, in the order of their records.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    appended: JournalSeq,
    durable: JournalSeq,
    waiting: VecDeque<(JournalSeq, Effect)>,
    failure: Option<String>,
}

impl Gate {
    /// Begins after the last record that the journal already holds.
    pub(crate) fn new(last: JournalSeq) -> Self {
        Self { appended: last, durable: last, ..Self::default() }
    }

    /// Hands a record out and numbers it.
    pub(crate) fn append(&mut self, record: Vec<u8>, effects: &mut VecDeque<Effect>) -> JournalSeq {
        self.appended = JournalSeq(self.appended.0.wrapping_add(1));
        effects.push_back(Effect::Append(self.appended, record));
        self.appended
    }

    /// Lets an effect out once the record is durable: now, or when [`Self::pass`] hears of it.
    pub(crate) fn hold(&mut self, seq: JournalSeq, effect: Effect, effects: &mut VecDeque<Effect>) {
        if seq <= self.durable {
            effects.push_back(effect);
        } else {
            // An older record may stand behind a newer one: it waits a little longer than it must, never less.
            self.waiting.push_back((seq, effect));
        }
    }

    /// Everything up to `seq` is on disk. What `is_wanted` refuses is forgotten: an arm whose lease is on its way out
    /// of the kernel's hands must not overtake the revocation that was asked for while it waited.
    pub(crate) fn pass(
        &mut self,
        seq: JournalSeq,
        effects: &mut VecDeque<Effect>,
        mut is_wanted: impl FnMut(&mut Effect) -> bool,
    ) {
        assert!(seq <= self.appended, "the journal confirmed record {} of {}", seq.0, self.appended.0);
        self.durable = self.durable.max(seq);
        while let Some((of, _)) = self.waiting.front()
            && *of <= self.durable
            && let Some((_, mut effect)) = self.waiting.pop_front()
        {
            if is_wanted(&mut effect) {
                effects.push_back(effect);
            }
        }
    }

    /// The journal cannot be written. Replies that wait are forgotten (their clients ask again); what concerns the
    /// kernel stays until the journal works again.
    pub(crate) fn fail(&mut self, why: String) {
        self.failure = Some(why);
        self.waiting.retain(|(_, effect)| !matches!(effect, Effect::Send(_) | Effect::Log(..)));
    }

    /// The whole table has been written anew: everything is durable.
    pub(crate) fn restore(&mut self, effects: &mut VecDeque<Effect>, is_wanted: impl FnMut(&mut Effect) -> bool) {
        self.failure = None;
        self.pass(self.appended, effects, is_wanted);
    }

    /// Why nothing can be written, if so.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether no further reply may wait.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= GATED_COUNT_MAX
    }

    /// Number of the last record handed out, and of the last one known to be durable.
    pub(crate) const fn seqs(&self) -> (JournalSeq, JournalSeq) {
        (self.appended, self.durable)
    }

    /// Effects that wait.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::port::Level, *};

    fn line(text: &str) -> Effect {
        Effect::Log(Level::Info, text.to_owned())
    }

    fn texts(effects: &mut VecDeque<Effect>) -> Vec<String> {
        effects
            .drain(..)
            .filter_map(|effect| match effect {
                Effect::Log(_, text) => Some(text),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn nothing_overtakes_its_record() {
        let mut effects = VecDeque::new();
        let mut gate = Gate::new(JournalSeq(7));
        let first = gate.append(vec![1], &mut effects);
        let second = gate.append(vec![2], &mut effects);
        assert_eq!((first, second), (JournalSeq(8), JournalSeq(9)));
        effects.clear();
        gate.hold(second, line("two"), &mut effects);
        gate.hold(first, line("one"), &mut effects);
        assert!(effects.is_empty());
        gate.pass(first, &mut effects, |_| true);
        assert!(effects.is_empty(), "the second record is not durable");
        gate.pass(second, &mut effects, |_| true);
        assert_eq!(texts(&mut effects), ["two", "one"]);
        gate.hold(second, line("late"), &mut effects);
        assert_eq!(texts(&mut effects), ["late"]);
    }

    #[test]
    fn a_failed_journal_forgets_replies_and_keeps_the_kernel_s_part() {
        let mut effects = VecDeque::new();
        let mut gate = Gate::new(JournalSeq(0));
        let seq = gate.append(vec![1], &mut effects);
        effects.clear();
        gate.hold(seq, line("reply"), &mut effects);
        gate.hold(seq, Effect::Extend(Vec::new()), &mut effects);
        gate.fail("disk full".to_owned());
        assert_eq!(gate.failure(), Some("disk full"));
        gate.restore(&mut effects, |_| true);
        assert!(matches!(effects.pop_front(), Some(Effect::Extend(_))));
        assert!(effects.is_empty());
    }

    #[test]
    #[should_panic(expected = "confirmed record")]
    fn a_confirmation_of_what_was_never_written_stops_the_agent() {
        Gate::new(JournalSeq(0)).pass(JournalSeq(1), &mut VecDeque::new(), |_| true);
    }
}
