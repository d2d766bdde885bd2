//! Another generation: everything is disarmed by one store; after a grace period what the kernel had promised is read,
//! and the blocks are laid out anew.
//!
//! Entries stay as they stand: one of another generation is not answered, and what is armed anew is written over it. So
//! a million of them cost a look at their last words, in parts between which the loop serves, and nothing else.

use std::net::Ipv4Addr;

use dhcp_ebpf::abi::{Generation, Renewal};
use tracing::warn;

use super::Kernel;
use crate::{engine::port::Token, io::fastpath::NEWS_MAX};

/// A generation whose grace period has been asked for.
#[derive(Debug)]
pub(super) struct NextGeneration {
    pub(super) token: Token,
    ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Where the next part of the entries begins that no program answers any more; `None` = the grace period is not over.
    read_from: Option<usize>,
    /// What was read and nobody has fetched.
    words: Vec<(Ipv4Addr, Renewal)>,
}

impl Kernel {
    /// Stores the generation: from here on no entry is answered.
    pub(super) fn begin_generation(&mut self, token: Token, generation: Generation, ranges: &[(Ipv4Addr, Ipv4Addr)]) {
        self.generation = generation;
        self.shared.set_generation(generation);
        self.ledger.begin(generation);
        let ranges = ranges.to_vec();
        self.next_generation = Some(NextGeneration { token, ranges, read_from: None, words: Vec::new() });
        self.grace.ask(token);
    }

    /// No program that saw the old generation runs any more: the next part of what it granted and nobody was told of is
    /// read. Whether that was the last.
    pub(super) fn read_generation(&mut self) -> bool {
        let Self { next_generation: Some(next), ledger, shared, .. } = self else { return true };
        let from = next.read_from.unwrap_or(0);
        let (mut words, then) = ledger.last_words(from, NEWS_MAX, |index| shared.renewal(index));
        next.words.append(&mut words);
        next.read_from = then.or(next.read_from);
        then.is_none()
    }

    /// What was read since this was last asked.
    pub(super) fn take_generation_words(&mut self) -> Vec<(Ipv4Addr, Renewal)> {
        self.next_generation.as_mut().map(|next| std::mem::take(&mut next.words)).unwrap_or_default()
    }

    /// All is read: the generation begins. What nobody has fetched.
    pub(super) fn end_generation(&mut self) -> Vec<(Ipv4Addr, Renewal)> {
        let Some(next) = self.next_generation.take() else { return Vec::new() };
        // No entry of this generation refers to an answer yet, and no program looks at those of the old one.
        self.templates = super::Templates::default();
        // Nothing is armed and no program looks at a place: blocks may go to other addresses. A program that starts now
        // and reads half of a bucket finds an entry of another generation.
        for bucket in self.places.lay_out_anew(&next.ranges) {
            if let Some(value) = self.places.directory().get(bucket) {
                self.shared.write_bucket(bucket, value);
            }
        }
        if let Some(first) = self.places.left_out().first() {
            let blocks = self.places.left_out().len();
            warn!(blocks, %first, "no room in the fast path for some /24s: they stay on the slow path until a restart");
        }
        self.refused.clear();
        next.words
    }
}
