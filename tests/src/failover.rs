//! What the failover suites share: leases in memory over a journal (what one server keeps), the settings of the pair,
//! and real sessions.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use dhcp_user::failover::{Binding, BindingState, Buckets, Counts, Leases, Role, Seq, Settings, StateRecord};
use dhcp_user::lease::time::WallTime;

use crate::pcap::{Direction, read_streams};

/// One record of the journal.
#[derive(Debug, Clone)]
pub enum Record {
    /// A lease.
    Lease(Binding),
    /// The endpoint's state.
    State(StateRecord),
}

/// Leases in memory over a journal whose tail may not be on disk yet.
#[derive(Debug, Clone)]
pub struct Store {
    pools: Vec<Vec<Ipv4Addr>>,
    leases: BTreeMap<Ipv4Addr, (usize, u64, Binding)>,
    allocatable: BTreeSet<(usize, BindingState, WallTime, Reverse<u64>, Ipv4Addr)>,
    insertions: u64,
    /// Everything stored, in order.
    pub journal: Vec<Record>,
    /// How many of the records are on disk.
    pub durable: usize,
    last_state: Option<StateRecord>,
    /// What only two of ours replicate, by address.
    pub extras: BTreeMap<Ipv4Addr, Vec<u8>>,
    /// What the kernel may be granting.
    pub armed: BTreeSet<Ipv4Addr>,
    /// `ends` of what may have to be ended.
    pub due: BTreeSet<(WallTime, Ipv4Addr)>,
    /// How many leases were looked at by walks.
    pub visited: Cell<u32>,
}

impl Store {
    /// Free leases that nobody ever had: pools by first address and length.
    #[must_use]
    pub fn new(pools: &[(Ipv4Addr, u32)]) -> Self {
        let list =
            |&(first, count): &(Ipv4Addr, u32)| (0..count).map(|n| Ipv4Addr::from(u32::from(first) + n)).collect();
        let mut store = Self {
            pools: pools.iter().map(list).collect(),
            leases: BTreeMap::new(),
            allocatable: BTreeSet::new(),
            insertions: 0,
            journal: Vec::new(),
            durable: 0,
            last_state: None,
            extras: BTreeMap::new(),
            armed: BTreeSet::new(),
            due: BTreeSet::new(),
            visited: Cell::new(0),
        };
        for (pool, addresses) in store.pools.clone().iter().enumerate() {
            for address in addresses.iter().rev() {
                store.put(pool, Binding::virgin(*address));
            }
        }
        store
    }

    /// What a restart finds: everything that was durable.
    #[must_use]
    pub fn after_crash(&self) -> Self {
        let mut store = Self {
            leases: BTreeMap::new(),
            allocatable: BTreeSet::new(),
            journal: self.journal[..self.durable].to_vec(),
            due: BTreeSet::new(),
            armed: BTreeSet::new(),
            last_state: None,
            extras: self.extras.clone(),
            pools: self.pools.clone(),
            insertions: self.insertions,
            durable: self.durable,
            visited: Cell::new(0),
        };
        for (pool, addresses) in self.pools.iter().enumerate() {
            for address in addresses.iter().rev() {
                store.put(pool, Binding::virgin(*address));
            }
        }
        for record in &self.journal[..self.durable] {
            match record {
                Record::Lease(binding) => {
                    let pool = store.pool_of(binding.address).unwrap();
                    store.put(pool, binding.clone());
                }
                Record::State(state) => store.last_state = Some(*state),
            }
        }
        store
    }

    /// The endpoint's state that was stored last.
    #[must_use]
    pub fn state_record(&self) -> Option<StateRecord> {
        self.last_state
    }

    fn put(&mut self, pool: usize, binding: Binding) {
        let is_allocatable = |state| matches!(state, BindingState::Free | BindingState::Backup);
        if let Some((pool, at, old)) = self.leases.get(&binding.address) {
            self.allocatable.remove(&(*pool, old.state, old.ends, Reverse(*at), old.address));
            self.due.remove(&(old.ends, old.address));
        }
        self.insertions += 1;
        let at = self.insertions;
        if is_allocatable(binding.state) && !binding.is_reserved {
            self.allocatable.insert((pool, binding.state, binding.ends, Reverse(at), binding.address));
        } else {
            self.due.insert((binding.ends, binding.address));
        }
        self.leases.insert(binding.address, (pool, at, binding));
    }

    /// All leases, by address.
    pub fn all(&self) -> impl Iterator<Item = &Binding> {
        self.leases.values().map(|(_, _, binding)| binding)
    }

    /// A lease.
    ///
    /// # Panics
    ///
    /// When the address is in no pool.
    #[must_use]
    pub fn get(&self, address: Ipv4Addr) -> Binding {
        self.binding(address).unwrap()
    }

    /// Number of leases in a state.
    #[must_use]
    pub fn in_state(&self, state: BindingState) -> usize {
        self.all().filter(|binding| binding.state == state).count()
    }
}

impl Leases for Store {
    fn binding(&self, address: Ipv4Addr) -> Option<Binding> {
        self.leases.get(&address).map(|(_, _, binding)| binding.clone())
    }

    fn store(&mut self, binding: Binding) -> Seq {
        let pool = self.pool_of(binding.address).unwrap();
        self.put(pool, binding.clone());
        self.journal.push(Record::Lease(binding));
        Seq(self.journal.len() as u64)
    }

    fn store_state(&mut self, record: &StateRecord) -> Seq {
        self.last_state = Some(*record);
        self.journal.push(Record::State(*record));
        Seq(self.journal.len() as u64)
    }

    fn is_armed(&self, address: Ipv4Addr) -> bool {
        self.armed.contains(&address)
    }

    fn pool_count(&self) -> usize {
        self.pools.len()
    }

    fn counts(&self, pool: usize) -> Counts {
        let count = |state| self.allocatable.iter().filter(|entry| entry.0 == pool && entry.1 == state).count() as u32;
        let (free, backup) = (count(BindingState::Free), count(BindingState::Backup));
        Counts { free, backup, other: self.pools[pool].len() as u32 - free - backup }
    }

    fn pool_of(&self, address: Ipv4Addr) -> Option<usize> {
        self.leases
            .get(&address)
            .map(|(pool, _, _)| *pool)
            .or_else(|| self.pools.iter().position(|pool| pool.contains(&address)))
    }

    fn extra(&self, address: Ipv4Addr) -> Vec<u8> {
        self.extras.get(&address).cloned().unwrap_or_default()
    }

    fn take_extra(&mut self, address: Ipv4Addr, extra: &[u8]) {
        self.extras.insert(address, extra.to_vec());
    }

    fn visit_allocatable(&self, pool: usize, state: BindingState, visitor: &mut dyn FnMut(&Binding) -> bool) {
        let first = (pool, state, WallTime::NONE, Reverse(u64::MAX), Ipv4Addr::UNSPECIFIED);
        for entry in self.allocatable.range(first..).take_while(|entry| entry.0 == pool && entry.1 == state) {
            if !visitor(&self.leases[&entry.4].2) {
                return;
            }
        }
    }

    fn visit_some(&self, pool: usize, from: u32, count: u32, visitor: &mut dyn FnMut(&Binding)) -> Option<u32> {
        let all = &self.pools[pool];
        let next = from.saturating_add(count).min(all.len() as u32);
        self.visited.set(self.visited.get().wrapping_add(next - from));
        for address in &all[from as usize..next as usize] {
            // As little as the engine shows.
            let binding = &self.leases[address].2;
            visitor(&Binding { chaddr: Vec::new(), client_id: Vec::new(), ..binding.clone() });
        }
        (next < all.len() as u32).then_some(next)
    }
}

/// First address of the pair's pool.
pub const FIRST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// Its MCLT, in seconds.
pub const MCLT: u32 = 40;

/// The settings of the primary and of the secondary.
#[must_use]
pub fn settings() -> [Settings; 2] {
    let common = |role| Settings {
        receive_timer_secs: 15,
        updates_unacked_max: 10,
        load_balance_secs_max: 3,
        ..Settings::new("lab-fo", role)
    };
    [Settings { mclt_secs: MCLT, buckets: Some(Buckets::split(128)), ..common(Role::Primary) }, common(Role::Secondary)]
}

/// Every TCP direction of the captures that belongs to failover, with the file it is from.
#[must_use]
pub fn streams() -> Vec<(String, Direction, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("captures/failover");
    let mut names: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut all = Vec::new();
    for path in names.iter().filter(|path| path.extension().is_some_and(|extension| extension == "pcap")) {
        for (direction, bytes) in read_streams(&std::fs::read(path).unwrap()) {
            let is_failover = [direction.1, direction.3].iter().any(|port| *port == 647 || *port == 847);
            if is_failover && !bytes.is_empty() {
                all.push((path.file_name().unwrap().to_string_lossy().into_owned(), direction, bytes));
            }
        }
    }
    all
}
