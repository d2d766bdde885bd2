//! What is armed, by address, in shelves: a million leases in one map would stand still for 150 ms each time that it
//! doubles, and when a reload wants them in order.

use std::net::Ipv4Addr;

use hashbrown::HashMap;

use super::promise::Armed;

/// Shelves: each has at most a few thousand of a million leases.
const SHELVES_COUNT: usize = 256;

/// Armed leases.
#[derive(Debug)]
pub(crate) struct Hoard {
    shelves: Vec<HashMap<Ipv4Addr, Armed>>,
    count: usize,
}

impl Default for Hoard {
    fn default() -> Self {
        Self { shelves: (0..SHELVES_COUNT).map(|_| HashMap::new()).collect(), count: 0 }
    }
}

/// Neighbours are on different shelves, whatever the netmask.
fn place(address: Ipv4Addr) -> usize {
    let [a, b, c, d] = address.octets();
    usize::from(a ^ b ^ c ^ d)
}

impl Hoard {
    fn shelf(&mut self, address: Ipv4Addr) -> &mut HashMap<Ipv4Addr, Armed> {
        &mut self.shelves[place(address)]
    }

    /// How many there are.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What is armed for an address.
    pub(crate) fn get(&self, address: Ipv4Addr) -> Option<&Armed> {
        self.shelves.get(place(address))?.get(&address)
    }

    /// Takes in what is armed for an address, in the place of what was there.
    pub(crate) fn insert(&mut self, address: Ipv4Addr, armed: Armed) {
        if self.shelf(address).insert(address, armed).is_none() {
            self.count = self.count.saturating_add(1);
        }
    }

    /// Takes out what is armed for an address.
    pub(crate) fn remove(&mut self, address: Ipv4Addr) -> Option<Armed> {
        let armed = self.shelf(address).remove(&address)?;
        self.count = self.count.saturating_sub(1);
        Some(armed)
    }

    /// Takes in all others; what is here already stays. A shelf that is empty on one side costs nothing.
    pub(crate) fn take_in(&mut self, others: Self) {
        for (own, mut other) in self.shelves.iter_mut().zip(others.shelves) {
            if own.len() < other.len() {
                std::mem::swap(own, &mut other);
                own.extend(other);
            } else {
                for (address, armed) in other {
                    own.entry(address).or_insert(armed);
                }
            }
        }
        self.count = self.shelves.iter().map(HashMap::len).sum();
    }

    /// All addresses, ascending.
    pub(crate) fn addresses(&self) -> Vec<Ipv4Addr> {
        let mut all: Vec<Ipv4Addr> = self.shelves.iter().flat_map(HashMap::keys).copied().collect();
        all.sort_unstable();
        all
    }

    /// The addresses of one shelf that has any, ascending.
    pub(crate) fn some_addresses(&self) -> Vec<Ipv4Addr> {
        let shelf = self.shelves.iter().find(|shelf| !shelf.is_empty());
        let mut some: Vec<Ipv4Addr> = shelf.into_iter().flat_map(HashMap::keys).copied().collect();
        some.sort_unstable();
        some
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
        let all = hoard.addresses();
        assert!(all.is_sorted() && all.len() == 999);
        let mut seen = Vec::new();
        while !hoard.is_empty() {
            let some = hoard.some_addresses();
            assert!(some.is_sorted() && !some.is_empty());
            for address in some {
                hoard.remove(address).unwrap();
                seen.push(address);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, all);
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
