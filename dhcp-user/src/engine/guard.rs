//! Clients that ask for more than their share: caps per circuit and port, new identities, messages of one client.
//!
//! ```text
//!   message --client meter--> DISCOVER of nobody we know --newcomer meter of its place--> grant --caps of its place-->
//! ```
//!
//! In monitor mode, the default, all of this is counted and shown, and everybody is served: a whole building may be
//! behind one port. `xdhcpd-guard enforce` makes it a refusal, of new clients first: who holds a lease keeps it, and is
//! limited by its own meter only. What is remembered is bounded (I6): the meters by generations that forget, the lease
//! counts by the leases there are, the list of suspects by a number.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    net::Ipv4Addr,
};

use crate::{
    config::{Config, Evaluation, GuardMode, Param, SharedNetworkId},
    lease::{
        BindingState, Lease,
        time::{BootTime, Now},
    },
};

use super::{
    Server,
    find::is_held_by,
    grant::Target,
    limits::{
        CLIENT_BURST_MIN, CLIENT_BURST_SECS, METERS_COUNT_MAX, NEW_CLIENTS_RANGE, SUSPECT_SILENCE_SECS,
        SUSPECTS_COUNT_MAX, SUSPECTS_SHOWN_MAX,
    },
    port::{InterfaceIndex, Level},
    request::{Request, sub_option},
    status::{GuardStatus, Reason, SuspectStatus, Suspicion, Tally},
};

/// Sub-options of option 82 (RFC 3046 3.1 and 3.2).
const CIRCUIT_ID: u8 = 1;
const REMOTE_ID: u8 = 2;

/// Where clients come from, as precisely as a message or a lease says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A circuit of a relay: the network, the remote end if the relay names one, and the circuit.
    Circuit(SharedNetworkId, Box<[u8]>, Box<[u8]>),
    /// The remote end that a relay names: a line, a modem, a switch.
    Port(SharedNetworkId, Box<[u8]>),
    /// A relay that says no more.
    Relay(Ipv4Addr),
    /// A link of this server, with VLAN tags.
    Link(InterfaceIndex, [u32; 2]),
}

impl Place {
    /// The circuit and the port that option 82 names on a network.
    fn of_agent(network: SharedNetworkId, agent: &[u8]) -> (Option<Self>, Option<Self>) {
        let remote: Box<[u8]> = sub_option(agent, REMOTE_ID).unwrap_or_default().into();
        let circuit =
            sub_option(agent, CIRCUIT_ID).map(|circuit| Self::Circuit(network, remote.clone(), circuit.into()));
        let port = (!remote.is_empty()).then_some(Self::Port(network, remote));
        (circuit, port)
    }

    /// The narrowest place that a message names.
    fn of(network: SharedNetworkId, request: &Request<'_>) -> Self {
        let (circuit, port) = request.relay_agent().map_or((None, None), |agent| Self::of_agent(network, agent));
        circuit.or(port).unwrap_or_else(|| match request.giaddr() {
            Some(giaddr) => Self::Relay(giaddr),
            None => Self::Link(request.interface(), request.received.vlan),
        })
    }
}

/// A place with the names that people gave things.
struct Named<'c>(&'c Config, &'c Place, &'c str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(config, place, interface) = self;
        let network = |id: &SharedNetworkId| config.shared_networks.get(id.0).map_or("", |network| &network.name);
        match place {
            Place::Circuit(id, remote, circuit) if remote.is_empty() => {
                write!(f, "circuit {} on {}", Octets(circuit), network(id))
            }
            Place::Circuit(id, remote, circuit) => {
                write!(f, "circuit {} of {} on {}", Octets(circuit), Octets(remote), network(id))
            }
            Place::Port(id, remote) => write!(f, "port {} on {}", Octets(remote), network(id)),
            Place::Relay(giaddr) => write!(f, "relay {giaddr}"),
            Place::Link(_, [0, 0]) => write!(f, "interface {interface}"),
            Place::Link(_, [outer, 0]) => write!(f, "interface {interface} VLAN {}", outer & 0x0fff),
            Place::Link(_, [outer, inner]) => {
                write!(f, "interface {interface} VLAN {}.{}", outer & 0x0fff, inner & 0x0fff)
            }
        }
    }
}

/// Octets that a relay chose: as text where all of it is plain, otherwise in hexadecimal.
struct Octets<'o>(&'o [u8]);

impl fmt::Display for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = super::request::printable(self.0).filter(|text| !text.is_empty()) {
            return write!(f, "\"{text}\"");
        }
        for (place, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02x}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// A bucket that holds so many tokens and is refilled with so many in a minute.
#[derive(Debug, Clone, Copy)]
struct Meter {
    /// Sixty-thousandths of a token: what a rate of one per minute adds in a millisecond is one of them.
    level: u64,
    at: BootTime,
}

/// Parts of a token in [`Meter::level`].
const TOKEN: u64 = 60_000;

impl Meter {
    const fn full(burst: u32, now: BootTime) -> Self {
        Self { level: burst as u64 * TOKEN, at: now }
    }

    /// Takes a token, if there is one.
    fn take(&mut self, per_minute: u32, burst: u32, now: BootTime) -> bool {
        let millis = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        if millis > 0 {
            let added = millis.saturating_mul(u64::from(per_minute));
            self.level = self.level.saturating_add(added).min(u64::from(burst).saturating_mul(TOKEN));
            self.at = now;
        }
        let is_there = self.level >= TOKEN;
        if is_there {
            self.level = self.level.saturating_sub(TOKEN);
        }
        is_there
    }
}

/// A meter for each of many, in two generations: whoever was not seen in either is forgotten.
#[derive(Debug)]
struct Meters<K> {
    young: HashMap<K, Meter>,
    old: HashMap<K, Meter>,
    turned: BootTime,
}

impl<K> Default for Meters<K> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), turned: BootTime::default() }
    }
}

impl<K: Hash + Eq> Meters<K> {
    /// Takes a token from the meter of `key`.
    fn take(&mut self, key: K, per_minute: u32, burst: u32, now: BootTime) -> bool {
        // After two minutes at the rates possible here a bucket is full again, and worth forgetting.
        if self.young.len() >= METERS_COUNT_MAX || now.since(self.turned).as_secs() >= 120 {
            self.old = std::mem::take(&mut self.young);
            self.turned = now;
        }
        let known = self.old.remove(&key);
        let meter = self.young.entry(key).or_insert_with(|| known.unwrap_or(Meter::full(burst, now)));
        meter.take(per_minute, burst, now)
    }

    fn count(&self) -> usize {
        self.young.len().saturating_add(self.old.len())
    }
}

/// The client of a message, where it came from: somebody who borrows its hardware address elsewhere has another meter.
type Client = ([u8; 16], InterfaceIndex, [u32; 2], [u8; 4]);

/// A place that was suspected.
#[derive(Debug, Clone)]
struct Suspect {
    /// What was seen there last.
    last: Suspicion,
    /// How often anything was.
    count: u64,
    /// When there was a line about it.
    said: BootTime,
    /// Name of the interface, for places that are links.
    interface: Box<str>,
}

/// What is known of clients that ask for more than their share.
#[derive(Debug)]
pub(crate) struct Guard {
    clients: Meters<Client>,
    newcomers: Meters<Place>,
    /// Active leases by circuit and by port.
    leases: HashMap<Place, u32>,
    suspects: BTreeMap<Place, Suspect>,
    seen: Tally<Suspicion>,
    refused: Tally<Suspicion>,
    /// The message at hand is one too many: it is not worth a line.
    pub(super) is_noisy: bool,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            clients: Meters::default(),
            newcomers: Meters::default(),
            leases: HashMap::new(),
            suspects: BTreeMap::new(),
            seen: Tally::new(),
            refused: Tally::new(),
            is_noisy: false,
        }
    }
}

impl Guard {
    /// Counts a lease that begins.
    pub(crate) fn count_in(&mut self, config: &Config, lease: &Lease) {
        for place in places_of(config, lease).into_iter().flatten() {
            let count = self.leases.entry(place).or_insert(0);
            *count = count.saturating_add(1);
        }
    }

    /// Forgets a lease that is replaced.
    pub(crate) fn count_out(&mut self, config: &Config, lease: &Lease) {
        for place in places_of(config, lease).into_iter().flatten() {
            if let Some(count) = self.leases.get_mut(&place) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.leases.remove(&place);
                }
            }
        }
    }

    /// Whether any lease is counted.
    pub(crate) fn counts_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Active leases of a place.
    fn leases_of(&self, place: &Place) -> u32 {
        self.leases.get(place).copied().unwrap_or(0)
    }
}

fn places_of(config: &Config, lease: &Lease) -> [Option<Place>; 2] {
    let Some(agent) = lease.agent_options.as_deref().filter(|_| lease.state == BindingState::Active) else {
        return [None, None];
    };
    let Some(subnet) = config.subnet_of(lease.address) else { return [None, None] };
    let (circuit, port) = Place::of_agent(config.subnet(subnet).shared_network, agent);
    [circuit, port]
}

impl Server {
    /// A message of a client has arrived: takes a token from its meter. Why it is not looked at, if so.
    pub(super) fn meter_client(&mut self, request: &Request<'_>, now: Now) -> Option<Reason> {
        let rate = self.config.process.client_rate;
        if self.config.process.guard == GuardMode::Off || rate == 0 {
            return None;
        }
        let client = (request.header.chaddr, request.interface(), request.received.vlan, request.header.giaddr);
        let burst = (rate.saturating_mul(CLIENT_BURST_SECS) / 60).max(CLIENT_BURST_MIN);
        if self.guard.clients.take(client, rate, burst, now.boot) {
            return None;
        }
        let place = request.network.map(|network| Place::of(network, request));
        self.suspect(request, place, Suspicion::ClientRate, now)
    }

    /// Somebody asks for an address whom the server does not know, or for one more: asks the meter of new clients and
    /// the caps of the place. Why it is refused, if so.
    pub(super) fn meter_grant(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        target: &Target<'_>,
        evaluation: &Evaluation,
        is_stranger: bool,
        now: Now,
    ) -> Option<Reason> {
        if config.process.guard == GuardMode::Off {
            return None;
        }
        let lease =
            target.lease.filter(|lease| !(lease.state == BindingState::Active && is_held_by(lease, request)))?;
        let network = config.subnet(config.subnet_of(lease.address)?).shared_network;
        let (circuit, port) = request.relay_agent().map_or((None, None), |agent| Place::of_agent(network, agent));
        for (place, param, suspicion) in [
            (circuit, Param::XdhcpdCircuitLeases, Suspicion::CircuitCap),
            (port, Param::XdhcpdPortLeases, Suspicion::PortCap),
        ] {
            let Some(place) = place else { continue };
            let cap = evaluation.secs_or_default(param);
            if cap != 0
                && self.guard.leases_of(&place) >= cap
                && let Some(reason) = self.suspect(request, Some(place), suspicion, now)
            {
                return Some(reason);
            }
        }
        if !is_stranger {
            return None;
        }
        let rate = evaluation.secs(Param::XdhcpdNewClients).unwrap_or_else(|| {
            let pools = &config.shared_network(network).pools;
            let addresses: u64 = pools.iter().map(|pool| config.pool(*pool).address_count()).sum();
            let (least, most) = NEW_CLIENTS_RANGE;
            u32::try_from(addresses / 4).unwrap_or(most).clamp(least, most)
        });
        let place = Place::of(network, request);
        if rate == 0 || self.guard.newcomers.take(place.clone(), rate, rate, now.boot) {
            return None;
        }
        self.suspect(request, Some(place), Suspicion::NewClientRate, now)
    }

    /// Counts something that is too much, says so once in a while, and refuses it where that is wanted.
    fn suspect(
        &mut self,
        request: &Request<'_>,
        place: Option<Place>,
        suspicion: Suspicion,
        now: Now,
    ) -> Option<Reason> {
        let is_enforced = self.config.process.guard == GuardMode::Enforce;
        self.guard.seen.add(suspicion);
        if is_enforced {
            self.guard.refused.add(suspicion);
        }
        if let Some(place) = place {
            self.note_suspect(request, place, suspicion, is_enforced, now);
        }
        // One line about the place says more than one about each message.
        self.guard.is_noisy = true;
        is_enforced.then_some(match suspicion {
            Suspicion::CircuitCap => Reason::CircuitCap,
            Suspicion::PortCap => Reason::PortCap,
            Suspicion::NewClientRate => Reason::NewClientRate,
            Suspicion::ClientRate => Reason::ClientRate,
        })
    }

    fn note_suspect(&mut self, request: &Request<'_>, place: Place, suspicion: Suspicion, is_enforced: bool, now: Now) {
        let known = self.guard.suspects.get_mut(&place);
        let is_due = match known {
            Some(suspect) => {
                suspect.count = suspect.count.saturating_add(1);
                let is_due = suspect.last != suspicion
                    || now.boot.since(suspect.said).as_secs() >= u64::from(SUSPECT_SILENCE_SECS);
                suspect.last = suspicion;
                if is_due {
                    suspect.said = now.boot;
                }
                is_due
            }
            None => {
                if self.guard.suspects.len() >= SUSPECTS_COUNT_MAX {
                    // The one that was quiet for longest makes room.
                    let quiet = self
                        .guard
                        .suspects
                        .iter()
                        .min_by_key(|(_, suspect)| suspect.said)
                        .map(|(place, _)| place.clone());
                    if let Some(quiet) = quiet {
                        self.guard.suspects.remove(&quiet);
                    }
                }
                let interface = request.interface_name.into();
                let suspect = Suspect { last: suspicion, count: 1, said: now.boot, interface };
                self.guard.suspects.insert(place.clone(), suspect);
                true
            }
        };
        if is_due {
            self.guard.is_noisy = false;
            let verb = if is_enforced { "refused" } else { "would be refused by `xdhcpd-guard enforce`" };
            let named = Named(&self.config, &place, request.interface_name);
            let line = match suspicion {
                Suspicion::ClientRate => {
                    format!("{named}: {} from {} {verb}", suspicion.meaning(), request.hw)
                }
                Suspicion::CircuitCap | Suspicion::PortCap | Suspicion::NewClientRate => {
                    format!("{named}: {} {verb}", suspicion.meaning())
                }
            };
            self.log(Level::Warn, line);
        }
    }

    /// For humans.
    pub(super) fn guard_status(&self) -> GuardStatus {
        let mut suspects: Vec<(&Place, &Suspect)> = self.guard.suspects.iter().collect();
        suspects.sort_by_key(|(_, suspect)| std::cmp::Reverse(suspect.count));
        let shown = suspects.into_iter().take(SUSPECTS_SHOWN_MAX).map(|(place, suspect)| SuspectStatus {
            place: Named(&self.config, place, &suspect.interface).to_string(),
            what: suspect.last.name(),
            count: suspect.count,
            leases: self.guard.leases_of(place),
        });
        GuardStatus {
            mode: self.config.process.guard.name(),
            seen: self.guard.seen.list(),
            refused: self.guard.refused.list(),
            metered: self.guard.clients.count().saturating_add(self.guard.newcomers.count()),
            suspects: shown.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_lets_a_burst_through_and_then_its_rate() {
        let mut meter = Meter::full(5, BootTime::from_secs(1));
        let mut take = |secs| meter.take(60, 5, BootTime::from_secs(secs));
        assert_eq!((0..7).filter(|_| take(1)).count(), 5);
        assert_eq!((0..7).filter(|_| take(3)).count(), 2);
        assert_eq!((0..70).filter(|_| take(1000)).count(), 5, "no more than the burst, however long it was quiet");
    }

    #[test]
    fn meters_are_bounded_and_remember_who_is_still_there() {
        let mut meters = Meters::<u32>::default();
        let now = BootTime::from_secs(1);
        for _ in 0..3 {
            meters.take(7, 1, 3, now);
        }
        for key in 100..100 + 5 * METERS_COUNT_MAX as u32 {
            meters.take(key, 1, 3, now);
            assert!(meters.count() <= 2 * METERS_COUNT_MAX + 1);
            if key % 1000 == 0 {
                assert!(!meters.take(7, 1, 3, now), "whoever goes on is not forgotten");
            }
        }
    }
}
