//! Interned answers: equal templates share a number, and a number nobody uses any more is given out again only
//! after a grace period.

use std::sync::Arc;

use dhcp_ebpf::abi::{TEMPLATE_COUNT, Template};
use hashbrown::HashMap;

/// The templates in the kernel's map and who uses them.
#[derive(Debug, Default)]
pub(super) struct Templates {
    numbers: HashMap<Arc<Template>, u16>,
    /// The same by where the allocation is, which `places` keeps there: no need to look at half a kilobyte each time.
    by_pointer: HashMap<usize, u16>,
    /// Per number: the template and how many places of entries refer to it.
    places: Vec<(Option<Arc<Template>>, u32)>,
    /// Numbers without users whose last user may still be running in the kernel.
    retired: Vec<u16>,
    free: Vec<u16>,
}

/// What to do for a template that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Interned {
    /// It is in the map under this number.
    Known(u16),
    /// It has to be written under this number before the entry refers to it.
    New(u16),
    /// There is no room; numbers that are retired become free after a grace period.
    Full,
}

impl Templates {
    /// Gives a number to a template and counts one more user of it.
    pub(super) fn intern(&mut self, template: &Arc<Template>) -> Interned {
        let known = self.by_pointer.get(&pointer(template)).or_else(|| self.numbers.get(template));
        if let Some(number) = known.copied() {
            if let Some((_, users)) = self.places.get_mut(usize::from(number)) {
                *users += 1;
            }
            return Interned::Known(number);
        }
        if self.places.is_empty() {
            // Number 0 means "no answer".
            self.places.push((None, 0));
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.places.len() < TEMPLATE_COUNT as usize => {
                self.places.push((None, 0));
                (self.places.len() - 1) as u16
            }
            None => return Interned::Full,
        };
        self.put(number, template);
        Interned::New(number)
    }

    fn put(&mut self, number: u16, template: &Arc<Template>) {
        if let Some(place) = self.places.get_mut(usize::from(number)) {
            *place = (Some(Arc::clone(template)), 1);
        }
        self.numbers.insert(Arc::clone(template), number);
        self.by_pointer.insert(pointer(template), number);
    }

    /// Counts one more user of a number that an earlier agent gave to `template`.
    pub(super) fn restore(&mut self, number: u16, template: &Arc<Template>) {
        let number = usize::from(number);
        if self.places.len() <= number {
            // Whatever lies between is free until its own users come.
            self.free.extend((self.places.len().max(1)..number).filter_map(|free| u16::try_from(free).ok()));
            self.places.resize(number + 1, (None, 0));
        }
        let Ok(number) = u16::try_from(number) else { return };
        self.free.retain(|free| *free != number);
        match self.places.get_mut(usize::from(number)) {
            Some((Some(_), users)) => *users += 1,
            Some((None, _)) => self.put(number, template),
            None => {}
        }
    }

    /// Takes one user of a number away.
    pub(super) fn release(&mut self, number: u16) {
        let Some((template, users)) = self.places.get_mut(usize::from(number)) else {
            return;
        };
        if *users == 0 {
            return;
        }
        *users -= 1;
        if *users == 0
            && let Some(template) = template.take()
        {
            self.numbers.remove(&template);
            self.by_pointer.remove(&pointer(&template));
            self.retired.push(number);
        }
    }

    /// Whether a grace period would make room.
    pub(super) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// A grace period has passed since the last [`Self::release`]: retired numbers may be used again.
    pub(super) fn recycle(&mut self) {
        self.free.append(&mut self.retired);
    }

    /// Number of templates in use.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}

/// Where an allocation is.
fn pointer(template: &Arc<Template>) -> usize {
    Arc::as_ptr(template).addr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable;

    fn template(lease_time: u32) -> Arc<Template> {
        Arc::new(Template { lease_time, ..Template::zeroed() })
    }

    #[test]
    fn numbers_of_an_earlier_agent_keep_their_answers_and_their_users() {
        let mut templates = Templates::default();
        let (five, two) = (template(500), template(200));
        templates.restore(5, &five);
        templates.restore(5, &five);
        templates.restore(2, &two);
        assert_eq!(templates.len(), 2);
        // The same answer, made anew.
        assert_eq!(templates.intern(&template(500)), Interned::Known(5));
        assert_eq!(templates.intern(&two), Interned::Known(2));
        let mut given: Vec<Interned> = (0..4).map(|time| templates.intern(&template(time))).collect();
        given.sort_by_key(|interned| format!("{interned:?}"));
        assert_eq!(given, [1, 3, 4, 6].map(Interned::New));
        for _ in 0..3 {
            assert!(!templates.has_retired());
            templates.release(5);
        }
        assert!(templates.has_retired(), "two users of the earlier agent, and one of ours");
    }

    #[test]
    fn equal_answers_share_a_number_and_zero_is_never_given() {
        let mut templates = Templates::default();
        assert_eq!(templates.intern(&template(600)), Interned::New(1));
        assert_eq!(templates.intern(&template(600)), Interned::Known(1));
        assert_eq!(templates.intern(&template(700)), Interned::New(2));
        assert_eq!(templates.len(), 2);
    }

    #[test]
    fn a_number_is_reused_only_after_its_last_user_and_a_grace_period() {
        let mut templates = Templates::default();
        for lease_time in 1..TEMPLATE_COUNT {
            assert!(matches!(templates.intern(&template(lease_time)), Interned::New(_)));
        }
        assert_eq!(templates.intern(&template(999_999)), Interned::Full);
        assert!(!templates.has_retired());
        templates.release(7);
        assert_eq!(templates.intern(&template(999_999)), Interned::Full);
        assert!(templates.has_retired());
        templates.recycle();
        assert_eq!(templates.intern(&template(999_999)), Interned::New(7));
    }
}
