//! Another generation: everything is disarmed by one store, and after a grace period the places are laid out anew.

use std::net::Ipv4Addr;

use bytemuck::Zeroable as _;
use dhcp_ebpf::abi::{Entry, Generation, Renewal};
use tracing::warn;

use super::Kernel;
use crate::engine::port::Token;

/// A generation whose grace period has been asked for.
#[derive(Debug)]
pub(super) struct NextGeneration {
    pub(super) token: Token,
    ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
}

impl Kernel {
    /// Stores the generation: from here on no entry is answered.
    pub(super) fn begin_generation(&mut self, token: Token, generation: Generation, ranges: &[(Ipv4Addr, Ipv4Addr)]) {
        self.generation = generation;
        self.shared.set_generation(generation);
        self.next_generation = Some(NextGeneration { token, ranges: ranges.to_vec() });
        self.grace.ask(token);
    }

    /// No program that saw the old generation runs any more: what it granted and nobody was told of.
    pub(super) fn end_generation(&mut self, next: &NextGeneration) -> Vec<(Ipv4Addr, Renewal)> {
        let mut words = Vec::new();
        for index in 0..self.ledger.len() {
            let Some(address) = self.ledger.armed_at(index) else { continue };
            self.ledger.disarm(index);
            if let Some(renewal) = self.moved(index) {
                words.push((address, renewal));
            }
            self.release_templates(index);
            self.shared.write_entry(index, &Entry::zeroed());
        }
        self.templates.recycle();
        // Nothing is armed and no program looks at a place: blocks may go to other addresses. A program that starts now
        // and reads half of a bucket finds an entry of no generation.
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
        words
    }
}
