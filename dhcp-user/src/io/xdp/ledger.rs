//! What the agent knows of each entry: whose lease is armed there, and which of the kernel's words it was told last.
//!
//! Arrays by entry: a million of them are looked through in milliseconds, and a look-up misses a cache once.

use std::net::Ipv4Addr;

use dhcp_ebpf::abi::Renewal;

/// Nobody leases 0.0.0.0: nothing is armed.
const NOBODY: u32 = 0;

/// One line per entry.
#[derive(Debug)]
pub(super) struct Ledger {
    armed: Vec<u32>,
    armed_count: usize,
    told: Vec<u64>,
}

impl Ledger {
    /// Nothing is armed, and nothing was ever granted.
    pub(super) fn new(entry_count: usize) -> Self {
        Self { armed: vec![NOBODY; entry_count], armed_count: 0, told: vec![0; entry_count] }
    }

    /// Number of entries.
    pub(super) const fn len(&self) -> usize {
        self.armed.len()
    }

    /// Number of armed ones.
    pub(super) const fn armed_count(&self) -> usize {
        self.armed_count
    }

    /// The address that is armed at an entry.
    pub(super) fn armed_at(&self, index: usize) -> Option<Ipv4Addr> {
        self.armed.get(index).filter(|address| **address != NOBODY).map(|address| Ipv4Addr::from_bits(*address))
    }

    /// Armed entries with their addresses, in the order of the entries.
    pub(super) fn armed(&self) -> impl Iterator<Item = (usize, Ipv4Addr)> + '_ {
        self.armed.iter().enumerate().filter(|(_, address)| **address != NOBODY).map(|(index, address)| {
            let address = Ipv4Addr::from_bits(*address);
            (index, address)
        })
    }

    /// Notes what is armed at an entry.
    pub(super) fn arm(&mut self, index: usize, address: Ipv4Addr) {
        if let Some(place) = self.armed.get_mut(index) {
            self.armed_count += usize::from(*place == NOBODY);
            *place = address.to_bits();
            self.armed_count -= usize::from(*place == NOBODY);
        }
    }

    /// Notes that nothing is armed at an entry any more; whether something was.
    pub(super) fn disarm(&mut self, index: usize) -> bool {
        let Some(place) = self.armed.get_mut(index) else { return false };
        let was_armed = std::mem::replace(place, NOBODY) != NOBODY;
        self.armed_count -= usize::from(was_armed);
        was_armed
    }

    /// The kernel's word of an entry is known.
    pub(super) fn note(&mut self, index: usize, renewal: Renewal) {
        if let Some(place) = self.told.get_mut(index) {
            *place = bytemuck::cast(renewal);
        }
    }

    /// The kernel's word of an entry, if it is news; it is none the next time.
    pub(super) fn news(&mut self, index: usize, renewal: Renewal) -> Option<Renewal> {
        let place = self.told.get_mut(index)?;
        let word = bytemuck::cast(renewal);
        (std::mem::replace(place, word) != word).then_some(renewal)
    }
}

#[cfg(test)]
mod tests {
    use dhcp_ebpf::abi::BootSecs;

    use super::*;

    #[test]
    fn what_is_armed_is_listed_in_order_and_counted() {
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        let mut ledger = Ledger::new(8);
        for index in [5, 2, 7, 2] {
            ledger.arm(index, address(index as u8));
        }
        assert_eq!(ledger.armed_count(), 3);
        assert!(ledger.disarm(5) && !ledger.disarm(5) && !ledger.disarm(8));
        assert_eq!(ledger.armed().collect::<Vec<_>>(), [(2, address(2)), (7, address(7))]);
        assert_eq!((ledger.armed_at(2), ledger.armed_at(5), ledger.armed_at(8)), (Some(address(2)), None, None));
        assert_eq!((ledger.armed_count(), ledger.len()), (2, 8));
    }

    #[test]
    fn a_word_is_news_once() {
        let word = |at| Renewal { at: BootSecs::new(at), until: BootSecs::new(at + 600) };
        let mut ledger = Ledger::new(2);
        assert_eq!(ledger.news(1, Renewal::default()), None, "nothing was ever granted");
        assert_eq!(ledger.news(1, word(5)), Some(word(5)));
        assert_eq!(ledger.news(1, word(5)), None);
        ledger.note(1, word(6));
        assert_eq!(ledger.news(1, word(6)), None);
        assert_eq!(ledger.news(0, word(6)), Some(word(6)));
        assert_eq!(ledger.news(2, word(6)), None, "there is no such entry");
    }
}
