//! Messages on their way out, each waiting for the record it rests on.

use std::collections::VecDeque;

use super::{Effect, Link};
use crate::failover::binding::Seq;
use crate::failover::limits::SEND_LEN_MAX;

/// A queue that stops at the first message whose record is not on disk.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<(Seq, Vec<u8>)>,
    durable: Seq,
    newest: Seq,
}

impl Outbox {
    pub(super) fn set_durable(&mut self, seq: Seq) {
        self.durable = self.durable.max(seq);
    }

    /// A record with this number exists.
    pub(super) fn note(&mut self, seq: Seq) {
        self.newest = self.newest.max(seq);
    }

    /// The newest record known: whoever waits for it waits for everything stored so far.
    pub(super) const fn newest(&self) -> Seq {
        self.newest
    }

    pub(super) fn push(&mut self, seq: Seq, bytes: Vec<u8>) {
        self.waiting.push_back((seq, bytes));
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Turns what may go into effects; whether anything went.
    pub(super) fn release(&mut self, to: Link, effects: &mut VecDeque<Effect>) -> bool {
        let mut has_sent = false;
        while let Some((_, message)) = self.waiting.pop_front_if(|(seq, _)| *seq <= self.durable) {
            has_sent = true;
            match effects.back_mut() {
                Some(Effect::Send { link, bytes }) if *link == to && bytes.len() < SEND_LEN_MAX => {
                    bytes.extend_from_slice(&message);
                }
                _ => effects.push_back(Effect::Send { link: to, bytes: message }),
            }
        }
        has_sent
    }
}
