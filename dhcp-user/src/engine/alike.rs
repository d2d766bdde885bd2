//! Answers that are the same for all clients of a kind, so that a million leases are not answered one by one when a
//! configuration takes over.
//!
//! A phone's question is its shape with its own names filled in, and as long as no expression looks at who asks, no host
//! declaration fits and nothing of the client comes back in the answer, the answer follows from the shape, the pool and
//! the subnet alone. The first lease of a kind is answered in full (`reload`); what came out holds for the next one of
//! which the same is known. In doubt a lease is answered in full (I5).

use std::{net::Ipv4Addr, sync::Arc};

use dhcp_ebpf::{abi::Template, wire::option::code};
use hashbrown::HashMap;

use crate::{
    config::{Config, Param, PoolId, SubnetId},
    lease::Lease,
};

use super::{
    churn, compose,
    find::Hosts,
    grant::Terms,
    limits::ALIKE_COUNT_MAX,
    request::Request,
    shape::{Known, Shape},
};

/// What the answers of a kind may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    /// Where the shape is in memory; it is kept with the answer.
    shape: usize,
    pool: PoolId,
    subnet: SubnetId,
    has_client_id: bool,
    is_random: bool,
    is_named: bool,
    wants_nul: bool,
}

impl Kind {
    /// The kind of a lease, of this pool, and a question about it; `None` = it is one of its own.
    pub(crate) fn of(config: &Config, pool: PoolId, shape: &Arc<Shape>, known: &Known<'_>) -> Option<Self> {
        // Option 82 comes back, and may be remembered.
        if known.agent_options.is_some() {
            return None;
        }
        let name = known.hostname.unwrap_or_default();
        Some(Self {
            shape: Arc::as_ptr(shape) as usize,
            pool,
            subnet: config.subnet_of(known.address)?,
            has_client_id: known.client_id.is_some(),
            is_random: churn::is_random(&known.hw?),
            is_named: !name.is_empty(),
            wants_nul: name.len() > 1 && name.ends_with(&[0]),
        })
    }
}

/// Answers by kind.
#[derive(Debug, Default)]
pub(crate) struct Alike {
    answers: HashMap<Kind, (Arc<Shape>, Arc<Template>)>,
}

impl Alike {
    /// The answer that leases of this kind get.
    pub(crate) fn answer(&self, kind: &Kind) -> Option<Arc<Template>> {
        self.answers.get(kind).map(|(_, answer)| Arc::clone(answer))
    }

    /// Notes what one of them got.
    pub(crate) fn note(&mut self, kind: Kind, shape: &Arc<Shape>, answer: &Arc<Template>) {
        if self.answers.len() < ALIKE_COUNT_MAX {
            self.answers.insert(kind, (Arc::clone(shape), Arc::clone(answer)));
        }
    }

    /// Forgets all: something that answers depend on has changed.
    pub(crate) fn forget(&mut self) {
        self.answers.clear();
    }
}

/// Whether what was answered to one client follows from its kind.
pub(crate) fn is_of_kind(request: &Request<'_>, lease: &Lease, hosts: &Hosts, terms: &Terms) -> bool {
    let is_address = |asked: Option<Ipv4Addr>| asked.is_none_or(|asked| asked == lease.address);
    let evaluation = &terms.evaluation;
    !compose::depends(request, evaluation).client
        && !hosts.is_known
        && request.options.get(code::RELAY_AGENT).is_none()
        && request.client_id() == lease.client_id.as_deref()
        && is_address(request.ciaddr())
        && is_address(request.requested())
        && !evaluation.flag_or_default(Param::EchoClientId)
        && !evaluation.flag_or_default(Param::UseLeaseAddrForDefaultRoute)
}
