//! What the agent knows of each entry: whose lease is armed there and since which generation, and which of the kernel's
//! words it was told last.
//!
//! One array by entry: a million of them are looked through in milliseconds, and a look-up misses a cache once.

use std::net::Ipv4Addr;

use dhcp_ebpf::abi::{Generation, Renewal};

/// Entries passed over at once when a generation ends: a millisecond.
const PART_LEN: usize = 1 << 16;

/// What is known of one entry.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    /// The address it was armed for last; zero = none, or it was revoked (nobody leases 0.0.0.0).
    address: u32,
    /// The generation it was armed in.
    generation: Generation,
    /// The kernel's word that has been reported, or stood there when the entry was armed.
    told: Renewal,
}

/// One line per entry.
#[derive(Debug)]
pub(super) struct Ledger {
    lines: Vec<Line>,
    generation: Generation,
    armed_count: usize,
}

impl Ledger {
    /// Nothing is armed, and nothing was ever granted.
    pub(super) fn new(entry_count: usize, generation: Generation) -> Self {
        Self { lines: vec![Line::default(); entry_count], generation, armed_count: 0 }
    }

    /// Number of entries.
    pub(super) const fn len(&self) -> usize {
        self.lines.len()
    }

    /// Number of armed ones.
    pub(super) const fn armed_count(&self) -> usize {
        self.armed_count
    }

    /// The address that is armed at an entry.
    pub(super) fn armed_at(&self, index: usize) -> Option<Ipv4Addr> {
        self.lines.get(index).filter(|line| self.is_armed(line)).map(|line| Ipv4Addr::from_bits(line.address))
    }

    const fn is_armed(&self, line: &Line) -> bool {
        line.address != 0 && line.generation.number() == self.generation.number()
    }

    /// Armed entries with their addresses, in the order of the entries.
    pub(super) fn armed(&self) -> impl Iterator<Item = (usize, Ipv4Addr)> + '_ {
        let armed = self.lines.iter().enumerate().filter(|(_, line)| self.is_armed(line));
        armed.map(|(index, line)| (index, Ipv4Addr::from_bits(line.address)))
    }

    /// Another generation: nothing is armed any more.
    pub(super) const fn begin(&mut self, generation: Generation) {
        self.generation = generation;
        self.armed_count = 0;
    }

    /// Notes what is armed at an entry, in whose kernel's word this stands. Whether something was armed already.
    pub(super) fn arm(&mut self, index: usize, address: Ipv4Addr, word: Renewal) -> bool {
        let generation = self.generation;
        let Some(line) = self.lines.get_mut(index) else { return false };
        let was_armed = line.address != 0 && line.generation == generation;
        if !was_armed {
            // Whatever stands in the kernel's word belongs to an earlier promise.
            *line = Line { address: address.to_bits(), generation, told: word };
            self.armed_count += 1;
        }
        was_armed
    }

    /// Notes that nothing is armed at an entry any more; whether something was.
    pub(super) fn disarm(&mut self, index: usize) -> bool {
        let generation = self.generation;
        let Some(line) = self.lines.get_mut(index) else { return false };
        let was_armed = line.address != 0 && line.generation == generation;
        if was_armed {
            line.address = 0;
            self.armed_count = self.armed_count.saturating_sub(1);
        }
        was_armed
    }

    /// The kernel's word of an entry is known.
    pub(super) fn note(&mut self, index: usize, renewal: Renewal) {
        if let Some(line) = self.lines.get_mut(index) {
            line.told = renewal;
        }
    }

    /// The kernel's word of an entry, if it is news; it is none the next time.
    pub(super) fn news(&mut self, index: usize, renewal: Renewal) -> Option<Renewal> {
        let line = self.lines.get_mut(index)?;
        (std::mem::replace(&mut line.told, renewal) != renewal).then_some(renewal)
    }

    /// What the kernel's words say of entries that were armed in the generation before, from a place on: the news, at most
    /// so many, and where to go on; `None` at the end.
    pub(super) fn last_words(
        &mut self,
        from: usize,
        count_max: usize,
        word: impl Fn(usize) -> Renewal,
    ) -> (Vec<(Ipv4Addr, Renewal)>, Option<usize>) {
        let mut news = Vec::new();
        let (count, upto) = (self.lines.len(), from.saturating_add(PART_LEN).min(self.lines.len()));
        for (index, line) in (from..).zip(self.lines.get_mut(from..upto).unwrap_or_default()) {
            if news.len() >= count_max {
                return (news, Some(index));
            }
            // Those of older generations have said their last, and so have those that were revoked.
            if line.address != 0 {
                let word = word(index);
                if std::mem::replace(&mut line.told, word) != word {
                    news.push((Ipv4Addr::from_bits(line.address), word));
                }
            }
        }
        (news, (upto < count).then_some(upto))
    }
}

#[cfg(test)]
mod tests {
    use dhcp_ebpf::abi::BootSecs;

    use super::*;

    fn word(at: u32) -> Renewal {
        if at == 0 {
            return Renewal::default();
        }
        Renewal { at: BootSecs::new(at), until: BootSecs::new(at + 600) }
    }

    fn address(index: usize) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + index as u32)
    }

    #[test]
    fn what_is_armed_is_listed_in_order_and_counted() {
        let mut ledger = Ledger::new(8, Generation::new(1));
        for index in [5, 2, 7] {
            assert!(!ledger.arm(index, address(index), word(0)));
        }
        assert!(ledger.arm(2, address(2), word(0)), "armed anew");
        assert_eq!(ledger.armed_count(), 3);
        assert!(ledger.disarm(5) && !ledger.disarm(5) && !ledger.disarm(8));
        assert_eq!(ledger.armed().collect::<Vec<_>>(), [(2, address(2)), (7, address(7))]);
        assert_eq!((ledger.armed_at(2), ledger.armed_at(5), ledger.armed_at(8)), (Some(address(2)), None, None));
        assert_eq!((ledger.armed_count(), ledger.len()), (2, 8));
    }

    #[test]
    fn a_generation_disarms_all() {
        let mut ledger = Ledger::new(8, Generation::new(1));
        ledger.arm(7, address(7), word(0));
        ledger.begin(Generation::new(2));
        assert_eq!((ledger.armed_count(), ledger.armed_at(7), ledger.armed().count()), (0, None, 0));
        assert!(!ledger.disarm(7));
        assert!(!ledger.arm(7, address(7), word(3)));
        assert_eq!((ledger.armed_count(), ledger.armed_at(7)), (1, Some(address(7))));
    }

    #[test]
    fn a_word_is_news_once_and_never_when_it_belongs_to_an_earlier_promise() {
        let mut ledger = Ledger::new(2, Generation::new(1));
        assert_eq!(ledger.news(1, Renewal::default()), None, "nothing was ever granted");
        assert_eq!(ledger.news(1, word(5)), Some(word(5)));
        assert_eq!(ledger.news(1, word(5)), None);
        ledger.note(1, word(6));
        assert_eq!(ledger.news(1, word(6)), None);
        ledger.arm(1, address(1), word(7));
        assert_eq!(ledger.news(1, word(7)), None);
        // Armed again without a revocation in between, it is the same promise.
        ledger.arm(1, address(1), word(8));
        assert_eq!(ledger.news(1, word(8)), Some(word(8)));
        assert_eq!(ledger.news(0, word(6)), Some(word(6)));
        assert_eq!(ledger.news(2, word(6)), None, "there is no such entry");
    }

    #[test]
    fn the_last_words_of_a_generation_come_in_parts_and_none_is_left_out() {
        let count = PART_LEN + 512;
        let mut ledger = Ledger::new(count, Generation::new(1));
        for index in (0..count).step_by(3) {
            ledger.arm(index, address(index), word(0));
        }
        ledger.disarm(300);
        ledger.begin(Generation::new(2));
        let word_of = |index: usize| word(if index.is_multiple_of(2) { 9 } else { 0 });
        let (mut words, mut from, mut parts) = (Vec::new(), Some(0), 0);
        while let Some(at) = from {
            let (some, next) = ledger.last_words(at, 4096, word_of);
            assert!(some.len() <= 4096);
            words.extend(some);
            (from, parts) = (next, parts + 1);
        }
        let wanted = (0..count).step_by(6).filter(|index| *index != 300);
        assert_eq!(words, wanted.map(|index| (address(index), word(9))).collect::<Vec<_>>());
        assert!(parts >= 3, "{parts}");
        assert!(ledger.last_words(0, 4096, word_of).0.is_empty(), "each once");
    }
}
