//! What is armed, by address, a page for each /24: a million leases in one map would stand still for 150 ms each time that
//! it doubles, and a reload takes them in order, neighbours beside each other in memory as their leases are.

use std::net::Ipv4Addr;

use hashbrown::HashMap;

use super::promise::Armed;

/// Addresses of a page.
const PAGE_LEN: usize = 256;

/// The armed leases of a /24, in the order in which they came.
#[derive(Debug)]
struct Page {
    /// By the last byte of the address: the place in the list, counted from one; zero = none.
    places: [u16; PAGE_LEN],
    armed: Vec<(u8, Armed)>,
}

impl Page {
    const fn new() -> Self {
        Self { places: [0; PAGE_LEN], armed: Vec::new() }
    }

    fn place(&self, low: u8) -> Option<usize> {
        usize::from(self.places[usize::from(low)]).checked_sub(1)
    }

    fn get(&self, low: u8) -> Option<&Armed> {
        self.armed.get(self.place(low)?).map(|(_, armed)| armed)
    }

    /// What was there before.
    fn insert(&mut self, low: u8, armed: Armed) -> Option<Armed> {
        if let Some(known) = self.place(low).and_then(|place| self.armed.get_mut(place)) {
            return Some(std::mem::replace(&mut known.1, armed));
        }
        self.armed.push((low, armed));
        self.places[usize::from(low)] = self.armed.len() as u16;
        None
    }

    fn remove(&mut self, low: u8) -> Option<Armed> {
        let place = self.place(low)?;
        let (_, armed) = self.armed.swap_remove(place);
        self.places[usize::from(low)] = 0;
        if let Some((moved, _)) = self.armed.get(place) {
            self.places[usize::from(*moved)] = place as u16 + 1;
        }
        Some(armed)
    }
}

/// Armed leases.
#[derive(Debug, Default)]
pub(crate) struct Hoard {
    pages: HashMap<u32, Box<Page>>,
    count: usize,
}

/// The page of an address, and which of its addresses it is.
fn place(address: Ipv4Addr) -> (u32, u8) {
    let address = u32::from(address);
    (address >> 8, address as u8)
}

impl Hoard {
    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// What is armed for an address.
    pub(crate) fn get(&self, address: Ipv4Addr) -> Option<&Armed> {
        let (page, low) = place(address);
        self.pages.get(&page)?.get(low)
    }

    /// Takes in what is armed for an address, in the place of what was there.
    pub(crate) fn insert(&mut self, address: Ipv4Addr, armed: Armed) {
        let (page, low) = place(address);
        let page = self.pages.entry(page).or_insert_with(|| Box::new(Page::new()));
        if page.insert(low, armed).is_none() {
            self.count = self.count.saturating_add(1);
        }
    }

    /// Takes out what is armed for an address.
    pub(crate) fn remove(&mut self, address: Ipv4Addr) -> Option<Armed> {
        let (number, low) = place(address);
        let page = self.pages.get_mut(&number)?;
        let armed = page.remove(low)?;
        if page.armed.is_empty() {
            self.pages.remove(&number);
        }
        self.count = self.count.saturating_sub(1);
        Some(armed)
    }

    /// Takes in all others; what is here already stays. A page that is on one side alone costs nothing.
    pub(crate) fn take_in(&mut self, others: Self) {
        for (number, other) in others.pages {
            match self.pages.get_mut(&number) {
                None => {
                    self.count = self.count.saturating_add(other.armed.len());
                    self.pages.insert(number, other);
                }
                Some(own) => {
                    for (low, armed) in other.armed {
                        if own.place(low).is_none() {
                            own.insert(low, armed);
                            self.count = self.count.saturating_add(1);
                        }
                    }
                }
            }
        }
    }

    /// All addresses, ascending.
    pub(crate) fn addresses(&self) -> Vec<Ipv4Addr> {
        let mut all = Vec::with_capacity(self.count);
        for (number, page) in &self.pages {
            all.extend(page.armed.iter().map(|(low, _)| Ipv4Addr::from(number << 8 | u32::from(*low))));
        }
        all.sort_unstable();
        all
    }

    /// The numbers of all pages, ascending.
    pub(crate) fn pages(&self) -> Vec<u32> {
        let mut pages: Vec<u32> = self.pages.keys().copied().collect();
        pages.sort_unstable();
        pages
    }

    /// Takes out a page: its leases, ascending.
    pub(crate) fn take_page(&mut self, number: u32) -> Vec<(Ipv4Addr, Armed)> {
        let Some(page) = self.pages.remove(&number) else { return Vec::new() };
        self.count = self.count.saturating_sub(page.armed.len());
        let base = number << 8;
        let of_page = |(low, armed)| (Ipv4Addr::from(base | u32::from(low)), armed);
        let mut leases: Vec<(Ipv4Addr, Armed)> = page.armed.into_iter().map(of_page).collect();
        leases.sort_unstable_by_key(|(address, _)| *address);
        leases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed(last: u8) -> Armed {
        Armed::new([2, 0, 0, 0, 0, last])
    }

    fn hoard(places: std::ops::Range<u32>, last: u8) -> Hoard {
        let mut hoard = Hoard::default();
        for place in places {
            hoard.insert(Ipv4Addr::from(place), armed(last));
        }
        hoard
    }

    #[test]
    fn a_hoard_is_a_map() {
        let mut hoard = hoard(0..1000, 1);
        assert_eq!(hoard.len(), 1000);
        hoard.insert(Ipv4Addr::from(7), armed(2));
        assert_eq!((hoard.len(), hoard.get(Ipv4Addr::from(7)).unwrap().chaddr[5]), (1000, 2));
        assert_eq!(hoard.remove(Ipv4Addr::from(7)).unwrap().chaddr[5], 2);
        assert!(hoard.remove(Ipv4Addr::from(7)).is_none());
        assert_eq!((hoard.len(), hoard.get(Ipv4Addr::from(7)).is_none()), (999, true));
        // Another one is in its place in the list now.
        for place in (0..1000).filter(|place| *place != 7) {
            assert_eq!(hoard.get(Ipv4Addr::from(place)).unwrap().chaddr[5], 1, "{place}");
        }
        let all = hoard.addresses();
        assert!(all.is_sorted() && all.len() == 999);
        for place in 256..512 {
            hoard.remove(Ipv4Addr::from(place)).unwrap();
        }
        assert_eq!(hoard.pages(), [0, 2, 3]);
        let mut seen = Vec::new();
        for page in hoard.pages() {
            seen.extend(hoard.take_page(page).into_iter().map(|(address, _)| address));
        }
        assert!(hoard.len() == 0 && hoard.take_page(0).is_empty());
        assert_eq!(seen, all.into_iter().filter(|address| u32::from(*address) >> 8 != 1).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_here_stays_when_others_are_taken_in() {
        for (own, others) in [(0..10, 5..5000), (0..5000, 10..20)] {
            let mut all = hoard(own.clone(), 1);
            all.take_in(hoard(others.clone(), 2));
            assert_eq!(all.len(), 5000);
            for place in 0..5000 {
                let want = if own.contains(&place) { 1 } else { 2 };
                assert_eq!(all.get(Ipv4Addr::from(place)).unwrap().chaddr[5], want, "{place}");
            }
        }
    }
}
