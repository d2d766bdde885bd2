//! Finding things by what a packet carries: addresses, identifiers. Built once, when the configuration is complete.

use std::hash::BuildHasher as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use hashbrown::hash_table::{Entry, HashTable};
use hashbrown::{DefaultHashBuilder, HashMap};

use dhcp_ebpf::wire::dhcp::HwAddr;

use super::Config;
use super::context::{Context, ReceivedOptions, Variables};
use super::ids::{ClassId, HostId, PoolId, ScopeId, SharedNetworkId, SubnetId};
use super::machine::Machine;
use super::model::GuardMode;
use super::options::OptionRef;
use super::param::{FACILITIES, Param};
use super::statement::{Expr, ExprKind, StatementKind};

/// Hosts that carry the same value, in order of declaration: nearly always one, which needs no list.
#[derive(Debug, Clone)]
enum Hosts {
    One([HostId; 1]),
    #[expect(clippy::box_collection, reason = "rare, and the table is a third smaller")]
    Many(Box<Vec<HostId>>),
}

impl Hosts {
    fn as_slice(&self) -> &[HostId] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }

    fn push(&mut self, id: HostId) {
        match self {
            Self::One([first]) => *self = Self::Many(Box::new(vec![*first, id])),
            Self::Many(many) => many.push(id),
        }
    }
}

/// Classes by the value they want, in order of declaration.
type ClassesBy = HashMap<Arc<[u8]>, Vec<ClassId>>;

/// Hosts by a value of few of them.
type HostsBy<K> = HashMap<K, Hosts>;

fn add_host<K: std::hash::Hash + Eq>(hosts: &mut HostsBy<K>, value: K, id: HostId) {
    hosts.entry(value).and_modify(|known| known.push(id)).or_insert(Hosts::One([id]));
}

/// Indexes over the model.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookup {
    /// For each netmask, the longest first: subnets by network address.
    subnets: Vec<(u32, HashMap<u32, SubnetId>)>,
    /// Ranges by first address: last address and pool.
    ranges: Vec<(u32, u32, PoolId)>,
    /// By hardware address, which is read in the declaration itself.
    by_hw: HashTable<Hosts>,
    hasher: DefaultHashBuilder,
    by_client_id: HostsBy<Arc<[u8]>>,
    /// For each option that identifies hosts, in order of appearance: hosts by value.
    by_identifier: Vec<(OptionRef, HostsBy<Arc<[u8]>>)>,
    /// Left sides that classes compare with a constant: each is evaluated once per packet, and says which of those
    /// classes the packet is in.
    pub(super) class_values: Vec<(Expr, ClassesBy)>,
    /// Classes that are no such comparison: each is asked, for every packet.
    pub(super) other_classes: Vec<ClassId>,
}

impl Config {
    /// Builds the indexes and reads the parameters of the process.
    pub(super) fn complete(&mut self) {
        self.encapsulations = self.spaces.encapsulations().collect();
        self.lookup = Lookup::default();
        self.index_networks();
        self.index_hosts();
        self.index_classes();
        if let Some(root) = self.scopes.first() {
            for statement in &root.statements {
                if let StatementKind::Define(name, function) = &statement.kind {
                    self.global_functions.insert(Arc::clone(name), Arc::clone(function));
                }
            }
        }
        self.process_parameters();
    }

    fn index_networks(&mut self) {
        for (place, subnet) in self.subnets.iter().enumerate() {
            let (net, mask) = (subnet.net.to_bits(), subnet.mask.to_bits());
            let at = match self.lookup.subnets.iter().position(|(known, _)| *known == mask) {
                Some(at) => at,
                None => {
                    self.lookup.subnets.push((mask, HashMap::new()));
                    self.lookup.subnets.len().saturating_sub(1)
                }
            };
            if let Some((_, nets)) = self.lookup.subnets.get_mut(at) {
                nets.entry(net).or_insert(SubnetId(place));
            }
        }
        self.lookup.subnets.sort_by_key(|(mask, _)| std::cmp::Reverse((mask.count_ones(), *mask)));
        for (place, pool) in self.pools.iter().enumerate() {
            for range in &pool.ranges {
                self.lookup.ranges.push((range.first.to_bits(), range.last.to_bits(), PoolId(place)));
            }
        }
        self.lookup.ranges.sort_unstable();
    }

    fn index_hosts(&mut self) {
        let hosts = &self.hosts;
        let with_hw = hosts.iter().filter(|host| host.hw.is_some()).count();
        self.lookup.by_hw = HashTable::with_capacity(with_hw);
        let hasher = &self.lookup.hasher;
        let hw_of = |known: &Hosts| known.as_slice().first().and_then(|id| hosts.get(id.0)?.hw);
        for (place, host) in hosts.iter().enumerate() {
            let id = HostId(place);
            if host.hw.is_some() {
                let hash = |known: &Hosts| hasher.hash_one(hw_of(known));
                match self.lookup.by_hw.entry(hasher.hash_one(host.hw), |known| hw_of(known) == host.hw, hash) {
                    Entry::Occupied(mut known) => known.get_mut().push(id),
                    Entry::Vacant(room) => {
                        room.insert(Hosts::One([id]));
                    }
                }
            }
            if let Some(client_id) = &host.client_id {
                add_host(&mut self.lookup.by_client_id, Arc::clone(client_id), id);
            }
            if let Some((option, value)) = host.identifier.as_deref() {
                let at = match self.lookup.by_identifier.iter().position(|(known, _)| known == option) {
                    Some(at) => at,
                    None => {
                        self.lookup.by_identifier.push((*option, HashMap::new()));
                        self.lookup.by_identifier.len().saturating_sub(1)
                    }
                };
                if let Some((_, hosts)) = self.lookup.by_identifier.get_mut(at) {
                    add_host(hosts, Arc::clone(value), id);
                }
            }
        }
    }

    fn index_classes(&mut self) {
        for (place, class) in self.classes.iter().enumerate() {
            let id = ClassId(place);
            if let Some(Expr::Equal(sides)) = &class.match_if
                && let [left, Expr::Const(bytes)] = &**sides
                && left.kind() == ExprKind::Data
                && left.is_short()
            {
                let values = &mut self.lookup.class_values;
                let known = values.iter().position(|(value, _)| value == left);
                let at = known.unwrap_or_else(|| {
                    values.push((left.clone(), HashMap::new()));
                    values.len().saturating_sub(1)
                });
                if let Some((_, classes)) = values.get_mut(at) {
                    classes.entry(Arc::clone(bytes)).or_default().push(id);
                }
            } else {
                self.lookup.other_classes.push(id);
            }
        }
    }

    /// Evaluates what is read once, at the top level, without a packet.
    fn process_parameters(&mut self) {
        let options = ReceivedOptions::default();
        let variables = Variables::new();
        let context = Context::nothing(&options, &variables);
        let evaluation = {
            let mut machine = Machine::new(self, &context);
            if let Some(root) = self.scopes.get(ScopeId(0).0) {
                machine.run(&root.statements);
            }
            machine.finish()
        };
        let text = |param| evaluation.text(param).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let port = |param| evaluation.secs(param).and_then(|port| u16::try_from(port).ok());
        let process = &mut self.process;
        process.lease_file = text(Param::LeaseFileName);
        process.pid_file = text(Param::PidFileName);
        process.log_facility = evaluation
            .secs(Param::LogFacility)
            .and_then(|place| FACILITIES.get(usize::try_from(place).ok()?))
            .map(|name| (*name).to_owned());
        process.local_port = port(Param::LocalPort);
        process.remote_port = port(Param::RemotePort);
        process.omapi_port = port(Param::OmapiPort);
        process.local_address = evaluation.address(Param::LocalAddress);
        process.limited_broadcast = evaluation.address(Param::LimitedBroadcastAddress);
        process.delayed_ack = port(Param::DelayedAck).unwrap_or(0);
        process.max_ack_delay_us = evaluation.secs_or_default(Param::MaxAckDelay);
        process.dont_use_fsync = evaluation.flag_or_default(Param::DontUseFsync);
        process.server_id_check = evaluation.flag_or_default(Param::ServerIdCheck);
        process.abandon_lease_time = evaluation.secs_or_default(Param::AbandonLeaseTime);
        process.client_rate = evaluation.secs_or_default(Param::XdhcpdClientRate);
        process.guard = match evaluation.secs_or_default(Param::XdhcpdGuard) {
            0 => GuardMode::Monitor,
            1 => GuardMode::Enforce,
            _ => GuardMode::Off,
        };
    }

    /// The most specific subnet that contains the address.
    #[must_use]
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<SubnetId> {
        let bits = address.to_bits();
        self.lookup.subnets.iter().find_map(|(mask, nets)| nets.get(&(bits & mask)).copied())
    }

    /// The pool whose ranges contain the address.
    #[must_use]
    pub fn pool_of(&self, address: Ipv4Addr) -> Option<PoolId> {
        let bits = address.to_bits();
        let behind = self.lookup.ranges.partition_point(|(first, _, _)| *first <= bits);
        let (_, last, pool) = self.lookup.ranges.get(behind.checked_sub(1)?)?;
        (bits <= *last).then_some(*pool)
    }

    /// The network of an interface: by `interface NAME`, else the subnet that contains one of its addresses.
    #[must_use]
    pub fn shared_network_of_interface(&self, name: &str, addresses: &[(Ipv4Addr, u8)]) -> Option<SharedNetworkId> {
        let named = self.shared_networks.iter().position(|network| network.interface.as_deref() == Some(name));
        if let Some(place) = named {
            return Some(SharedNetworkId(place));
        }
        addresses.iter().find_map(|(address, _)| self.subnet_of(*address).map(|id| self.subnet(id).shared_network))
    }

    /// Host declarations with this client identifier, in order of declaration.
    #[must_use]
    pub fn hosts_by_client_id(&self, client_id: &[u8]) -> &[HostId] {
        self.lookup.by_client_id.get(client_id).map_or(&[], Hosts::as_slice)
    }

    /// Host declarations with this hardware address, in order of declaration.
    #[must_use]
    pub fn hosts_by_hw(&self, hw: &HwAddr) -> &[HostId] {
        let hw = Some(*hw);
        let is_same = |known: &Hosts| known.as_slice().first().is_some_and(|id| self.host(*id).hw == hw);
        self.lookup.by_hw.find(self.lookup.hasher.hash_one(hw), is_same).map_or(&[], Hosts::as_slice)
    }

    /// Whether certainly no host declaration fits a client, whatever else its packet carries.
    #[must_use]
    pub fn is_stranger(&self, hw: &HwAddr, client_id: Option<&[u8]>) -> bool {
        self.lookup.by_identifier.is_empty()
            && (self.lookup.by_hw.is_empty() || self.hosts_by_hw(hw).is_empty())
            && client_id.is_none_or(|id| self.hosts_by_client_id(id).is_empty())
    }

    /// Host declarations whose `host-identifier` the packet carries: those of the first such option that is there.
    #[must_use]
    pub fn hosts_by_identifier(&self, context: &Context<'_>) -> Vec<HostId> {
        for (option, hosts) in &self.lookup.by_identifier {
            let wanted = Expr::Option(*option);
            let mut machine = Machine::new(self, context);
            if let Some(found) = machine.data(&wanted).and_then(|value| hosts.get(&*value)) {
                return found.as_slice().to_vec();
            }
        }
        Vec::new()
    }
}
