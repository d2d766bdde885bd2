//! Class membership of a packet (reference section 8).

use std::sync::Arc;

use super::Config;
use super::context::Context;
use super::evaluate::Depends;
use super::ids::{ClassId, PoolId, SubclassId};
use super::limits::{CALL_DEPTH_MAX, STEPS_MAX};
use super::machine::Machine;
use super::model::{Permit, PermitKind, PermitVerdict};

/// How a packet came into a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// By `match if`.
    Class,
    /// Through a declared subclass.
    Subclass(SubclassId),
    /// Through a subclass that `spawn with` makes for this value.
    Spawned,
}

/// One class of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The class.
    pub class: ClassId,
    /// How.
    pub via: Via,
    /// The value of `match` or `spawn with`; what `billing subclass` writes. Empty for [`Via::Class`].
    pub value: Arc<[u8]>,
    /// `lease limit` of the subclass or class.
    pub lease_limit: Option<u32>,
}

/// The classes of a packet, in order of declaration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// The classes.
    pub members: Vec<Member>,
    /// What the answer depended on.
    pub depends: Depends,
}

impl Membership {
    /// No classes.
    #[must_use]
    pub const fn none() -> Self {
        Self { members: Vec::new(), depends: Depends::NOTHING }
    }

    /// Whether the packet is in the class or in one of its subclasses.
    #[must_use]
    pub fn contains(&self, class: ClassId) -> bool {
        self.members.iter().any(|member| member.class == class)
    }
}

impl Config {
    /// Sorts a packet into its classes; to be done once per packet, before hosts and leases are looked up.
    #[must_use]
    /// RFC 2131 4.3.1 #class-by-exact-match
    pub fn classify(&self, context: &Context<'_>) -> Membership {
        let mut membership = Membership::none();
        if self.classes.is_empty() {
            return membership;
        }
        let mut machine = Machine::new(self, context);
        // Which classes to ask, and whether their `match if` is known to hold; in order of declaration.
        let mut classes: Vec<(ClassId, bool)> = self.lookup.other_classes.iter().map(|id| (*id, false)).collect();
        for (expr, by_value) in &self.lookup.class_values {
            if let Some(found) = machine.data(expr).and_then(|value| by_value.get(&*value)) {
                classes.extend(found.iter().map(|id| (*id, true)));
            }
        }
        classes.sort_unstable();
        for (id, is_known) in classes {
            let class = self.class(id);
            if let Some(condition) = &class.match_if {
                if !is_known && machine.boolean(condition) != Some(true) {
                    continue;
                }
                if class.submatch.is_none() {
                    let lease_limit = class.lease_limit;
                    membership.members.push(Member {
                        class: id,
                        via: Via::Class,
                        value: Arc::from(&[][..]),
                        lease_limit,
                    });
                }
            }
            let Some(submatch) = &class.submatch else { continue };
            // Null and empty values are in no subclass.
            let Some(value) = machine.data(submatch).filter(|value| !value.is_empty()) else {
                continue;
            };
            let member = match class.subclasses.get(&*value) {
                Some(subclass) => Member {
                    class: id,
                    via: Via::Subclass(*subclass),
                    value: value.into(),
                    lease_limit: self.subclass(*subclass).lease_limit,
                },
                None if class.is_spawning => {
                    Member { class: id, via: Via::Spawned, value: value.into(), lease_limit: class.lease_limit }
                }
                None => continue,
            };
            membership.members.push(member);
        }
        membership.depends = machine.out.depends;
        membership.depends.billing =
            membership.members.iter().any(|member| member.lease_limit.is_some() || member.via == Via::Spawned);
        membership
    }

    /// Whether a packet is in one class (`check "NAME"`).
    pub(super) fn is_member(
        &self,
        class: ClassId,
        context: &Context<'_>,
        depends: &mut Depends,
        depth: usize,
        steps: &mut u32,
    ) -> bool {
        // Classes may ask for each other in a circle, and in many circles.
        *steps = steps.saturating_add(1);
        if depth >= CALL_DEPTH_MAX || *steps > STEPS_MAX {
            return false;
        }
        let class = self.class(class);
        let mut machine = Machine::new(self, context);
        machine.checks = depth.saturating_add(1);
        machine.steps = *steps;
        let holds = match &class.match_if {
            Some(condition) => machine.boolean(condition) == Some(true),
            None => class.submatch.is_some(),
        };
        let found = match &class.submatch {
            Some(submatch) => machine.data(submatch).is_some_and(|value| {
                !value.is_empty() && (class.is_spawning || class.subclasses.contains_key(&*value))
            }),
            None => true,
        };
        *depends = depends.and(machine.out.depends);
        *steps = machine.steps;
        holds && found
    }

    /// Whether a pool may serve a client (reference section 5.2). `now` is in seconds since 1970.
    #[must_use]
    pub fn permits(&self, pool: PoolId, membership: &Membership, known: bool, bootp: bool, now: u32) -> PermitVerdict {
        let pool = self.pool(pool);
        let until = [pool.valid_from, pool.valid_until].into_iter().flatten().filter(|at| *at >= now).min();
        let matches = |permit: &Permit| match permit.kind {
            PermitKind::KnownClients => known,
            PermitKind::UnknownClients => !known,
            PermitKind::AuthenticatedClients => false,
            PermitKind::UnauthenticatedClients | PermitKind::AllClients => true,
            PermitKind::DynamicBootpClients => bootp,
            PermitKind::MembersOf(class) => membership.contains(class),
            PermitKind::After(at) => now > at,
        };
        let denied = pool.deny.iter().find(|permit| matches(permit));
        let admitted = pool.allow.iter().find(|permit| matches(permit));
        let allowed = denied.is_none() && (pool.allow.is_empty() || admitted.is_some());
        let by = denied.or(admitted).map(|permit| permit.span);
        PermitVerdict { allowed, until, by }
    }
}
