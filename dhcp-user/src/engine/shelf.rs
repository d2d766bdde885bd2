//! The leases as a failover endpoint reaches them: the engine's table and the engine's journal, nothing of its own.

use std::net::Ipv4Addr;

use crate::{
    config::PoolId,
    failover::{Binding, Counts, Leases, Seq, StateRecord},
    lease::{BindingState, Lease, PoolIndex, journal, time::WallTime},
};

use super::{
    Server,
    extra::{self, Extra},
    peers,
    port::JournalSeq,
};

/// One relationship's leases. Lives while its endpoint works; the engine's list of peers is empty meanwhile.
pub(crate) struct Shelf<'a> {
    /// Where the leases are.
    pub(crate) server: &'a mut Server,
    /// Name of the relationship.
    pub(crate) name: &'a str,
    /// Its pools.
    pub(crate) pools: &'a [PoolId],
    /// The state that the journal knows.
    pub(crate) recorded: &'a mut Option<(StateRecord, JournalSeq)>,
    /// What the partner has told of the lease that is stored next.
    pub(crate) told: Option<(Ipv4Addr, Extra)>,
    /// Leases whose clients lost them here: their statements run afterwards.
    pub(crate) ended: &'a mut Vec<Lease>,
}

impl Shelf<'_> {
    fn pool(&self, number: usize) -> Option<PoolIndex> {
        self.pools.get(number).map(|pool| PoolIndex(pool.0))
    }
}

impl Leases for Shelf<'_> {
    fn binding(&self, address: Ipv4Addr) -> Option<Binding> {
        self.pool_of(address)?;
        let table = &self.server.table;
        table.get(address).map(|lease| seen(&lease, table.limit(address)))
    }

    fn store(&mut self, binding: Binding) -> Seq {
        let mut lease = self.server.table.get(binding.address).unwrap_or_else(|| Lease::free(binding.address));
        let was_active = lease.state == BindingState::Active;
        if was_active && binding.state != BindingState::Active {
            if lease.on_expiry.is_some() && binding.state != BindingState::Abandoned {
                self.ended.push(lease.clone());
            }
            lease.hostname = None;
            lease.agent_options = None;
            lease.billing = None;
            lease.on_expiry = None;
            lease.on_release = None;
            lease.unknown = None;
        }
        binding.write_to(&mut lease);
        if let Some((address, extra)) = self.told.take()
            && address == lease.address
            && lease.state == BindingState::Active
        {
            extra.write_to(&mut lease);
            if let Some(asked) = extra.asked {
                self.server.asked.insert(address, asked);
                self.server.learnt.push(address);
            }
        }
        Seq(self.server.write(lease, None).0)
    }

    fn store_state(&mut self, record: &StateRecord) -> Seq {
        if let Some((known, seq)) = self.recorded
            && known == record
        {
            return Seq(seq.0);
        }
        let mut text = Vec::new();
        journal::write_peer_state(&peers::peer_state(self.name, record), self.server.options.format, &mut text);
        let seq = self.server.gate.append(text, &mut self.server.effects);
        *self.recorded = Some((*record, seq));
        Seq(seq.0)
    }

    fn is_armed(&self, address: Ipv4Addr) -> bool {
        self.server.promises.is_armed(address)
    }

    fn pool_count(&self) -> usize {
        self.pools.len()
    }

    fn counts(&self, pool: usize) -> Counts {
        let Some(pool) = self.pool(pool) else { return Counts::default() };
        let counts = self.server.table.counts(pool);
        let (free, backup) = (counts.of(BindingState::Free), counts.of(BindingState::Backup));
        Counts { free, backup, other: counts.total.saturating_sub(free).saturating_sub(backup) }
    }

    fn pool_of(&self, address: Ipv4Addr) -> Option<usize> {
        let pool = self.server.config.pool_of(address)?;
        self.pools.iter().position(|own| *own == pool)
    }

    fn extra(&self, address: Ipv4Addr) -> Vec<u8> {
        match self.server.table.get(address).filter(|lease| lease.state == BindingState::Active) {
            Some(lease) => extra::write(&lease, self.server.asked.get(&address)),
            None => Vec::new(),
        }
    }

    fn take_extra(&mut self, address: Ipv4Addr, extra: &[u8]) {
        self.told = Some((address, extra::read(extra)));
    }

    fn visit_allocatable(&self, pool: usize, state: BindingState, visitor: &mut dyn FnMut(&Binding) -> bool) {
        let Some(pool) = self.pool(pool) else { return };
        let table = &self.server.table;
        let now = self.server.clock.wall;
        // An address under offer is as good as given: its client will ask for it in a moment.
        let is_offered = |address| table.held_until(address).is_some_and(|until| until > now);
        let mut visit = |address: Ipv4Addr| {
            is_offered(address) || table.get(address).is_none_or(|lease| visitor(&Binding::from(&lease)))
        };
        // Often only the head is looked at; the list would have to be sorted.
        let Some(head) = table.first_available(pool, state, WallTime::NEVER) else { return };
        if visit(head) {
            for address in table.queue(pool, state) {
                if address != head && !visit(address) {
                    return;
                }
            }
        }
    }

    fn visit_some(&self, pool: usize, from: u32, count: u32, visitor: &mut dyn FnMut(&Binding)) -> Option<u32> {
        let pool = self.pool(pool)?;
        self.server.table.visit(pool, from, count, &mut |lease, limit| visitor(&seen(lease, Some(limit))))
    }
}

/// A lease as the partner has to see it: after a crash the kernel may have promised more than the record says.
fn seen(lease: &Lease, limit: Option<WallTime>) -> Binding {
    let mut binding = Binding::from(lease);
    if binding.state == BindingState::Active
        && let Some(until) = limit
    {
        binding.ends = binding.ends.max(until);
    }
    binding
}
