//! An indexed heap: leases ordered by a time, each knowing its place, so that any of them can be moved.
//!
//! Four children per node: half the levels of a binary heap, and siblings share a cache line. A node is one
//! 64-bit word, the time above and the slot number below.

/// Where a slot stands in a queue; `NOWHERE` = not in it.
pub(super) const NOWHERE: u32 = u32::MAX;

const CHILD_COUNT: usize = 4;

/// Keeps the place of each slot.
pub(super) trait Positions {
    /// Slot number `slot` now stands at `at`.
    fn place(&mut self, slot: u32, at: u32);
}

/// Which of two leases with the same time comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ties {
    /// The lower slot.
    Ascending,
    /// The higher slot (dhcpd: the secondary walks its half downwards).
    Descending,
}

/// Leases in the order of a time.
#[derive(Debug)]
pub(super) struct Queue {
    nodes: Vec<u64>,
    flip: u32,
}

impl Queue {
    pub(super) const fn new(ties: Ties) -> Self {
        let flip = match ties {
            Ties::Ascending => 0,
            Ties::Descending => u32::MAX,
        };
        Self { nodes: Vec::new(), flip }
    }

    /// Bytes of heap in use.
    pub(super) fn heap_len(&self) -> usize {
        self.nodes.capacity() * size_of::<u64>()
    }

    /// The first time and slot.
    pub(super) fn head(&self) -> Option<(u32, u32)> {
        self.nodes.first().map(|node| self.parts(*node))
    }

    /// Up to `count_max` slots whose time is not after `line`, in no order. Looks at few others.
    pub(super) fn until(&self, line: u32, count_max: usize) -> Vec<u32> {
        let mut found = Vec::new();
        let mut places = vec![0];
        while found.len() < count_max
            && let Some(at) = places.pop()
        {
            // Nothing below a node comes before it.
            let Some((_, slot)) = self.nodes.get(at).map(|node| self.parts(*node)).filter(|(time, _)| *time <= line)
            else {
                continue;
            };
            found.push(slot);
            places.extend((1..=CHILD_COUNT).map(|child| at * CHILD_COUNT + child));
        }
        found
    }

    /// The time of the node at a place.
    pub(super) fn time_at(&self, at: u32) -> Option<u32> {
        self.nodes.get(at as usize).map(|node| (node >> 32) as u32)
    }

    /// All slots in order.
    pub(super) fn sorted(&self) -> Vec<(u32, u32)> {
        let mut nodes = self.nodes.clone();
        nodes.sort_unstable();
        nodes.into_iter().map(|node| self.parts(node)).collect()
    }

    pub(super) fn push(&mut self, time: u32, slot: u32, positions: &mut impl Positions) {
        let node = self.node(time, slot);
        let at = self.nodes.len();
        self.nodes.push(node);
        self.sift_up(at, node, positions);
    }

    /// Moves the slot that stands at `at` to another time.
    pub(super) fn change(&mut self, at: u32, time: u32, slot: u32, positions: &mut impl Positions) {
        let node = self.node(time, slot);
        let at = at as usize;
        match self.nodes.get(at) {
            Some(old) if node < *old => self.sift_up(at, node, positions),
            Some(old) if node > *old => self.sift_down(at, node, positions),
            Some(_) | None => {}
        }
    }

    /// Takes out the slot that stands at `at`.
    pub(super) fn remove(&mut self, at: u32, positions: &mut impl Positions) {
        let at = at as usize;
        let Some(&gone) = self.nodes.get(at) else { return };
        let Some(last) = self.nodes.pop() else { return };
        let (_, slot) = self.parts(gone);
        positions.place(slot, NOWHERE);
        if last == gone {
            return;
        }
        if last < gone {
            self.sift_up(at, last, positions);
        } else {
            self.sift_down(at, last, positions);
        }
    }

    fn sift_up(&mut self, mut at: usize, node: u64, positions: &mut impl Positions) {
        while at > 0 {
            let parent = (at - 1) / CHILD_COUNT;
            let Some(&above) = self.nodes.get(parent) else { break };
            if above <= node {
                break;
            }
            self.set(at, above, positions);
            at = parent;
        }
        self.set(at, node, positions);
    }

    fn sift_down(&mut self, mut at: usize, node: u64, positions: &mut impl Positions) {
        loop {
            let first = at * CHILD_COUNT + 1;
            let last = (first + CHILD_COUNT).min(self.nodes.len());
            let children = self.nodes.get(first..last).unwrap_or_default();
            let Some((offset, &least)) = children.iter().enumerate().min_by_key(|(_, node)| **node) else {
                break;
            };
            if node <= least {
                break;
            }
            self.set(at, least, positions);
            at = first + offset;
        }
        self.set(at, node, positions);
    }

    fn set(&mut self, at: usize, node: u64, positions: &mut impl Positions) {
        if let Some(place) = self.nodes.get_mut(at) {
            *place = node;
            positions.place(self.parts(node).1, at as u32);
        }
    }

    const fn node(&self, time: u32, slot: u32) -> u64 {
        ((time as u64) << 32) | (slot ^ self.flip) as u64
    }

    const fn parts(&self, node: u64) -> (u32, u32) {
        ((node >> 32) as u32, node as u32 ^ self.flip)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Positions for BTreeMap<u32, u32> {
        fn place(&mut self, slot: u32, at: u32) {
            if at == NOWHERE {
                self.remove(&slot);
            } else {
                self.insert(slot, at);
            }
        }
    }

    proptest! {
        #[test]
        fn the_head_is_always_the_least_and_every_slot_knows_its_place(
            steps in prop::collection::vec((0_u32..40, 0_u32..20, 0_u8..3), 1..200),
            is_descending in any::<bool>(),
        ) {
            let ties = if is_descending { Ties::Descending } else { Ties::Ascending };
            let mut queue = Queue::new(ties);
            let mut places = BTreeMap::new();
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            for (slot, time, step) in steps {
                match (places.get(&slot).copied(), step) {
                    (None, _) => {
                        queue.push(time, slot, &mut places);
                        model.insert(slot, time);
                    }
                    (Some(at), 0) => {
                        queue.remove(at, &mut places);
                        model.remove(&slot);
                    }
                    (Some(at), _) => {
                        queue.change(at, time, slot, &mut places);
                        model.insert(slot, time);
                    }
                }
                let mut expected: Vec<(u32, u32)> = model.iter().map(|(slot, time)| (*time, *slot)).collect();
                expected.sort_by_key(|(time, slot)| (*time, if is_descending { u32::MAX - slot } else { *slot }));
                prop_assert_eq!(queue.head(), expected.first().copied());
                for line in [0, 15, 40] {
                    let mut until = queue.until(line, usize::MAX);
                    until.sort_unstable();
                    let mut due: Vec<u32> = model.iter().filter(|(_, time)| **time <= line).map(|(slot, _)| *slot).collect();
                    due.sort_unstable();
                    prop_assert_eq!(queue.until(line, 3).len(), due.len().min(3));
                    prop_assert_eq!(until, due);
                }
                prop_assert_eq!(queue.sorted(), expected);
                for (slot, time) in &model {
                    prop_assert_eq!(queue.time_at(places[slot]), Some(*time));
                }
            }
        }
    }
}
