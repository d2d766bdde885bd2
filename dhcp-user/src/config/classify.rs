//! Class membership of a packet (reference section 8).

use std::sync::Arc;

use super::Config;
use super::context::Context;
use super::evaluate::Depends;
use super::ids::PoolId;
use super::ids::{ClassId, SubclassId};
use super::model::PermitVerdict;

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
        Self {
            members: Vec::new(),
            depends: Depends::NOTHING,
        }
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
    pub fn classify(&self, _context: &Context<'_>) -> Membership {
        todo!()
    }

    /// Whether a pool may serve a client (reference section 5.2). `now` is in seconds since 1970.
    #[must_use]
    pub fn permits(
        &self,
        _pool: PoolId,
        _membership: &Membership,
        _known: bool,
        _bootp: bool,
        _now: u32,
    ) -> PermitVerdict {
        todo!()
    }
}
