//! The fast path: loads the XDP program, attaches it, arms entries and takes them back.
//!
//! ```text
//!   arm     intern the templates -> write them -> write the entry (sequence odd, words, sequence even + generation)
//!   revoke  disarm (one store each) -> grace period -> read what the kernel had granted
//!   reload  another generation (one store) -> grace period -> read all words -> other places
//!   scan    read the kernel's word of every armed entry, report those that moved
//! ```
//!
//! Everything is pinned (see `pins`), so the kernel goes on when the agent does not; the next agent adopts what it finds
//! (see `adopt`) and replaces the program without a gap.
//!
//! Where the kernel grants no grace periods (nohz_full refuses `membarrier`), [`Kernel::load`] refuses the fast
//! path: a guess in milliseconds is none.
//!
//! Aya's types stop here: the single bridge to its `Pod` is `Abi`.
#![expect(unsafe_code, reason = "system calls and the bridge to aya's Pod")]

mod adopt;
mod attach;
mod bpf;
mod clients;
mod driver;
mod generation;
mod grace;
mod guard;
mod pins;
mod places;
mod shared;
mod templates;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    hash::Hash,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData, PerCpuArray, RingBuf},
    programs::{Xdp, xdp::XdpLinkId},
};
use aya_log::EbpfLogger;
use bytemuck::{Pod, Zeroable};
use dhcp_ebpf::abi::{
    ABI_VERSION, BUCKET_BYTES, BootSecs, Bucket, ClientBucket, Control, Counter, DIRECTORY_BUCKETS, DigestKey, Entry,
    Event, Generation, PEER_COUNT, QUESTION_COUNT, Renewal, TEMPLATE_COUNT, Template, map,
};
use dhcp_ebpf::decide::Verdict;
use tracing::{info, warn};

pub use self::guard::Guard;
pub use self::{
    adopt::Inherited,
    driver::strips_tags,
    pins::{Place, detach_all},
};
use self::{
    adopt::{Old, Remains},
    generation::NextGeneration,
    grace::Grace,
    places::Places,
    shared::{Maps, Shared},
    templates::{Interned, Templates},
};
use crate::{
    engine::port::{Arm, Interface, InterfaceIndex, Token},
    io::fastpath::{Ages, Attachment, FastPath, Mode},
    lease::time::BootTime,
};

/// The object that `cargo xtask bpf` builds from `dhcp-ebpf`; the file is committed, so building the agent needs
/// no BPF toolchain.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../dhcp-ebpf/xdhcpd.bpf.o");

/// How long the kernel answers without a sign of life from the agent.
const DEAD_MAN: Duration = Duration::from_secs(300);

/// Most /24 blocks of entries; 64 MiB of them.
const BLOCKS_MAX: usize = 4096;

/// Entries that a picture for operators is made of, at most about twice as many.
const AGES_SAMPLED: usize = 16_384;

/// Entries looked at by one call of the scan: some 100 us when nothing has moved, and what has moved is a batch that
/// the engine takes in a few milliseconds.
const SCAN_SLICE_LEN: usize = 4096;

/// The map that aya-log makes in a debug build of the program.
const LOG_MAP: &str = "AYA_LOGS";

/// Lines of a debug build of the program, as log events.
#[derive(Debug)]
struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        info!(target: "xdp", "fast path: {}", record.args());
    }

    fn flush(&self) {}
}

/// The single bridge between our plain types and aya's.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Abi<T>(T);

// SAFETY: `T` is plain old data, and `Abi` is transparent.
unsafe impl<T: Pod> aya::Pod for Abi<T> {}

/// What the operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// In the driver where it can, else in the stack.
    Auto,
    /// In the driver or not at all.
    Native,
    /// In the stack.
    Generic,
}

/// What a fast path is made of.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The program.
    pub object: &'a [u8],
    /// First and last addresses that get entries.
    pub ranges: &'a [(Ipv4Addr, Ipv4Addr)],
    /// Key of the digests, if there is none to adopt.
    pub key: &'a DigestKey,
    /// Generation to begin with, if there is none to adopt.
    pub generation: Generation,
    /// How it is attached.
    pub wanted: Wanted,
    /// What answers are made of (see [`answers_of`]).
    pub answers: u64,
    /// Where it lives on without an agent; without one it goes when the agent does.
    pub place: Option<Place>,
}

/// A hash of what answers are made of; agents that make the same answers have the same.
#[must_use]
pub fn answers_of(value: &(impl Hash + ?Sized)) -> u64 {
    // Zero means "unknown".
    adopt::hash_of(value).max(1)
}

/// The program and its maps.
pub struct Kernel {
    ebpf: Ebpf,
    shared: Shared,
    counters: PerCpuArray<MapData, u64>,
    events: RingBuf<MapData>,
    /// What a debug build of the program says.
    lines: Option<EbpfLogger<Lines>>,
    grace: Grace,
    /// Revocations whose grace period has been asked for.
    pending: HashMap<Token, Vec<Ipv4Addr>>,
    /// The generation that begins when its grace period is over.
    next_generation: Option<NextGeneration>,
    /// Revocations that are complete.
    revoked: VecDeque<(Token, Vec<(Ipv4Addr, Renewal)>)>,
    places: Places,
    templates: Templates,
    generation: Generation,
    key: DigestKey,
    wanted: Wanted,
    guard: Guard,
    place: Option<Place>,
    /// Links of an earlier agent that nobody has taken over yet.
    left: Vec<pins::Standing>,
    links: BTreeMap<InterfaceIndex, XdpLinkId>,
    attachments: Vec<Attachment>,
    /// Per entry: the kernel's word that has been reported, or stood there when the entry was armed.
    seen: HashMap<usize, Renewal>,
    /// Armed entries, with their addresses.
    armed: BTreeMap<usize, Ipv4Addr>,
    /// Where the next slice of the scan begins.
    scan_from: usize,
    /// Addresses without an entry that somebody wanted to arm, for the log line once.
    refused: BTreeSet<Ipv4Addr>,
}

impl Kernel {
    /// Loads the program with room for `ranges` (first and last address, inclusive), switched on, with nothing armed,
    /// pinned nowhere.
    ///
    /// # Errors
    ///
    /// A sentence that says what is missing: the privilege, a BPF feature, or `membarrier`.
    pub fn load(
        ranges: &[(Ipv4Addr, Ipv4Addr)],
        key: &DigestKey,
        generation: Generation,
        wanted: Wanted,
    ) -> Result<Self> {
        Self::load_object(OBJECT, ranges, key, generation, wanted)
    }

    /// As [`Kernel::load`], from another build of the same program.
    ///
    /// # Errors
    ///
    /// As [`Kernel::load`].
    pub fn load_object(
        object: &[u8],
        ranges: &[(Ipv4Addr, Ipv4Addr)],
        key: &DigestKey,
        generation: Generation,
        wanted: Wanted,
    ) -> Result<Self> {
        let setup = Setup { object, ranges, key, generation, wanted, answers: 0, place: None };
        Self::open(setup).map(|(kernel, _)| kernel)
    }

    /// Adopts what an earlier agent left in the place, or begins anew.
    ///
    /// # Errors
    ///
    /// As [`Kernel::load`], or that the place is somebody else's.
    pub fn open(setup: Setup<'_>) -> Result<(Self, Inherited)> {
        if !cfg!(target_arch = "x86_64") {
            bail!(
                "the fast path relies on the memory order of x86-64 (its entries are read between two readings of a \
                 sequence): run with --fast-path off on this processor"
            );
        }
        if let Some(trouble) = adopt::clock_trouble() {
            bail!(trouble);
        }
        let grace = Grace::start()
            .context("the kernel refuses membarrier(2), without which revoking a lease would be a guess")?;
        let places = Places::new(setup.ranges.iter().copied(), BLOCKS_MAX);
        for block in places.left_out() {
            warn!(%block, "no room in the fast path's directory: this /24 stays on the slow path");
        }
        let mut inherited = Inherited::default();
        let mut old = setup.place.as_ref().map(|place| find(place, &mut inherited)).transpose()?.flatten();
        if let Some(other) = old.take_if(|old| !old.is_laid_out_as(places.directory(), places.entry_count())) {
            other.switch_off();
            grace::period()?;
            inherited.standing = other.standing(false).into_iter().map(|(_, _, standing)| standing).collect();
            inherited.news = Some("the address ranges are others than the earlier agent's: new maps".to_owned());
        }
        let opened = Self::begin(&setup, grace, places, old.as_deref());
        let mut kernel = match opened {
            Ok(kernel) => kernel,
            Err(error) => {
                // Half of it must not go on answering.
                setup.place.iter().for_each(|place| drop(place.clear()));
                return Err(error);
            }
        };
        if let Some(old) = old {
            kernel.adopt(&old, setup.answers, &mut inherited)?;
        }
        kernel.shared.set_answers(setup.answers);
        if let Some(place) = &setup.place {
            kernel.left = place.links();
        }
        kernel.place = setup.place;
        Ok((kernel, inherited))
    }

    /// Loads the program, with the maps of an earlier agent or with its own.
    fn begin(setup: &Setup<'_>, grace: Grace, places: Places, old: Option<&Old>) -> Result<Self> {
        let pinned = match (&setup.place, old) {
            (Some(place), Some(_)) => Some(place.maps()),
            (Some(place), None) => Some(place.fresh()?),
            (None, _) => None,
        };
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries(map::ENTRIES, places.entry_count())
            .map_max_entries(map::CLIENTS, clients::bucket_count(places.entry_count()));
        for name in map::ALL {
            if let Some(folder) = &pinned {
                loader.map_pin_path(name, folder.join(name));
            }
        }
        let mut ebpf = loader
            .load(setup.object)
            .context("the kernel refuses the fast path's maps (CAP_BPF and CAP_NET_ADMIN are needed)")?;
        let shared = map_shared(&ebpf, &places)?;
        if old.is_none() {
            let mut control = Control {
                abi_version: ABI_VERSION,
                generation: setup.generation,
                enabled: 1,
                dead_man: BootSecs::new(0),
                client_mask: clients::mask(places.entry_count()),
                shield: Guard::default().words(&[]),
                serving: [0; PEER_COUNT],
                buckets: [[u8::MAX; BUCKET_BYTES]; PEER_COUNT],
                shadow: 0,
                _pad: 0,
                answers: setup.answers,
                key: *setup.key,
            };
            if let Some(none) = control.serving.first_mut() {
                *none = 1;
            }
            shared.init_control(&control);
            shared.init_directory(places.directory());
        }
        let lines = if ebpf.map(LOG_MAP).is_some() {
            Some(EbpfLogger::init_with_logger(&mut ebpf, Lines).context("the program's log cannot be read")?)
        } else {
            None
        };
        let counters = PerCpuArray::try_from(take(&mut ebpf, map::COUNTERS)?)?;
        let events = RingBuf::try_from(take(&mut ebpf, map::EVENTS)?)?;
        let loaded = program(&mut ebpf)?;
        loaded.load().context("the kernel's verifier refuses the fast path's program")?;
        if let Some(place) = &setup.place {
            if old.is_none() {
                place.settle()?;
            }
            place.keep_program(loaded)?;
        }
        let control = shared.control();
        Ok(Self {
            ebpf,
            shared,
            counters,
            events,
            lines,
            grace,
            pending: HashMap::new(),
            next_generation: None,
            revoked: VecDeque::new(),
            places,
            templates: Templates::default(),
            generation: control.generation,
            key: control.key,
            wanted: setup.wanted,
            guard: Guard::default(),
            place: None,
            left: Vec::new(),
            links: BTreeMap::new(),
            attachments: Vec::new(),
            seen: HashMap::new(),
            armed: BTreeMap::new(),
            scan_from: 0,
            refused: BTreeSet::new(),
        })
    }

    /// Takes the entries of an earlier agent over: armed as they are when it made the same answers, else emptied.
    fn adopt(&mut self, old: &Old, answers: u64, inherited: &mut Inherited) -> Result<()> {
        // Switched off by an operator, or about to be taken away: whatever is armed in there was not looked after.
        let is_same = old.answers() == answers && answers != 0 && old.is_enabled();
        if !is_same {
            self.generation = old.generation().next();
            old.set_generation(self.generation);
            grace::period()?;
        }
        for (index, entry, standing) in old.standing(is_same) {
            if standing.is_armed {
                self.armed.insert(index, standing.address);
                for (number, question) in entry.template.iter().zip(&standing.questions) {
                    if let Some((_, template)) = question.as_ref().filter(|_| *number != 0) {
                        self.templates.restore(*number, template);
                    }
                }
            } else {
                self.shared.write_entry(index, &Entry::zeroed());
            }
            self.seen.insert(index, standing.renewal);
            inherited.standing.push(standing);
        }
        self.shared.set_enabled(true);
        inherited.news = Some(if is_same {
            format!("adopted from an earlier agent: {} leases stayed armed", self.armed.len())
        } else if !old.is_enabled() {
            "an earlier agent had switched its fast path off: a new generation, nothing is armed".to_owned()
        } else {
            "the configuration is another than the earlier agent's: a new generation, nothing is armed".to_owned()
        });
        Ok(())
    }

    fn is_armed(&self, index: usize) -> bool {
        self.armed.contains_key(&index)
    }

    /// Generation and key that are in the control map: the engine's have to be the same.
    #[must_use]
    pub const fn born_with(&self) -> (Generation, &DigestKey) {
        (self.generation, &self.key)
    }

    /// Sets what the shield does; its access ports are known after the next [`FastPath::serve`].
    pub fn set_guard(&mut self, guard: Guard) {
        self.guard = guard;
        self.guard_ports(&[]);
    }

    /// Tells the program which of the served interfaces are access ports; [`FastPath::serve`] does.
    pub fn guard_ports(&self, served: &[Interface]) {
        self.shared.set_shield(&self.guard.words(served));
    }

    /// The loaded program, for test runs.
    ///
    /// # Errors
    ///
    /// When the object has no such program.
    pub fn program(&mut self) -> Result<&mut Xdp> {
        program(&mut self.ebpf)
    }

    /// Another XDP program of the object, by name and not yet loaded: for objects that carry more than ours.
    ///
    /// # Errors
    ///
    /// When the object has no such program.
    pub fn program_named(&mut self, name: &str) -> Result<&mut Xdp> {
        let program = self.ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
        Ok(program.try_into()?)
    }

    /// A map of the object that the fast path itself does not use.
    #[must_use]
    pub fn map_mut(&mut self, name: &str) -> Option<&mut Map> {
        self.ebpf.map_mut(name)
    }

    /// Number of answers the kernel holds and of leases it is armed for.
    #[must_use]
    pub fn holds(&self) -> (usize, usize) {
        (self.templates.len(), self.armed.len())
    }

    /// The entry of an address as it stands, with the kernel's word; `None` without one.
    #[must_use]
    pub fn entry(&self, address: Ipv4Addr) -> Option<Entry> {
        self.shared.entry(self.places.entry_of(address)?)
    }

    fn template_number(&mut self, template: &Arc<Template>) -> Option<u16> {
        match self.templates.intern(template) {
            Interned::Known(number) => Some(number),
            Interned::New(number) => {
                self.shared.write_template(number, template);
                Some(number)
            }
            Interned::Full => {
                if !self.templates.has_retired() || grace::period().is_err() {
                    return None;
                }
                self.templates.recycle();
                self.template_number(template)
            }
        }
    }

    fn release_templates(&mut self, entry: usize) {
        let Some(old) = self.shared.entry(entry) else { return };
        for number in old.template {
            if number != 0 {
                self.templates.release(number);
            }
        }
    }

    /// The kernel's word of an entry, if it moved since it was last looked at.
    fn moved(&mut self, entry: usize) -> Option<Renewal> {
        let renewal = self.shared.renewal(entry);
        let seen = self.seen.entry(entry).or_default();
        if *seen == renewal {
            return None;
        }
        *seen = renewal;
        Some(renewal)
    }

    /// What the kernel granted for these addresses and nobody has been told of.
    fn words(&mut self, addresses: &[Ipv4Addr]) -> Vec<(Ipv4Addr, Renewal)> {
        addresses
            .iter()
            .map(|address| {
                let moved = self.places.entry_of(*address).and_then(|index| self.moved(index));
                (*address, moved.unwrap_or_default())
            })
            .collect()
    }
}

impl FastPath for Kernel {
    fn serve(&mut self, interfaces: &[Interface]) {
        self.attach_to_all(interfaces);
        for name in &self.guard.access_ports {
            if !interfaces.iter().any(|interface| interface.name == *name) {
                warn!("--access-port {name}: this interface is not served, so nothing is guarded there");
            }
        }
        self.guard_ports(interfaces);
    }

    fn arm(&mut self, arm: &Arm) {
        let Some(index) = self.places.entry_of(arm.address) else {
            if self.refused.insert(arm.address) {
                warn!(address = %arm.address, "no place in the fast path: stays on the slow path");
            }
            return;
        };
        let mut entry = Entry {
            generation: self.generation,
            chaddr: arm.chaddr,
            peer: arm.peer,
            bucket: arm.bucket,
            horizon: arm.horizon.to_secs(),
            address: arm.address.octets(),
            ..Entry::zeroed()
        };
        for (place, question) in arm.questions.iter().enumerate().take(QUESTION_COUNT) {
            let Some((digest, template)) = question else { continue };
            let Some(number) = self.template_number(template) else {
                continue;
            };
            if let (Some(to), Some(answer)) = (entry.digest.get_mut(place), entry.template.get_mut(place)) {
                (*to, *answer) = (*digest, number);
            }
        }
        self.release_templates(index);
        if !self.is_armed(index) {
            // Whatever stands in the kernel's word belongs to an earlier promise.
            self.seen.insert(index, self.shared.renewal(index));
        }
        if self.shared.write_entry(index, &entry) {
            self.armed.insert(index, arm.address);
            let mask = clients::mask(self.places.entry_count());
            clients::point_to(&self.shared, &self.key, mask, &entry, index as u32);
        }
    }

    fn extend(&mut self, horizons: &[(Ipv4Addr, BootTime)]) {
        for (address, horizon) in horizons {
            if let Some(index) = self.places.entry_of(*address)
                && self.is_armed(index)
            {
                self.shared.set_horizon(index, horizon.to_secs(), address.octets());
            }
        }
    }

    fn revoke(&mut self, token: Token, addresses: &[Ipv4Addr]) {
        let mut is_any_armed = false;
        for address in addresses {
            if let Some(index) = self.places.entry_of(*address)
                && self.armed.remove(&index).is_some()
            {
                self.shared.disarm(index);
                is_any_armed = true;
            }
        }
        // An address may be under revocation already: its second revocation must not overtake the first.
        if is_any_armed || !self.pending.is_empty() || self.next_generation.is_some() {
            self.pending.insert(token, addresses.to_vec());
            self.grace.ask(token);
        } else {
            let words = self.words(addresses);
            self.revoked.push_back((token, words));
        }
    }

    fn poll_revoked(&mut self) -> Option<(Token, Vec<(Ipv4Addr, Renewal)>)> {
        if self.revoked.is_empty() && (!self.pending.is_empty() || self.next_generation.is_some()) {
            for (token, outcome) in self.grace.take_finished() {
                if let Err(error) = outcome {
                    // It worked at the start; without it nothing may be taken away, so nothing may be answered any
                    // more. Detaching waits for running programs in the kernel's own way.
                    warn!(%error, "membarrier(2) fails: the fast path is taken off all interfaces");
                    self.detach();
                }
                let words = match self.next_generation.take_if(|next| next.token == token) {
                    Some(next) => self.end_generation(&next),
                    None => {
                        let addresses = self.pending.remove(&token).unwrap_or_default();
                        self.words(&addresses)
                    }
                };
                self.revoked.push_back((token, words));
            }
        }
        self.revoked.pop_front()
    }

    fn revoked_fd(&self) -> Option<RawFd> {
        Some(self.grace.fd())
    }

    fn serving(&mut self, peer: u8, is_serving: bool) {
        self.shared.set_serving(peer, is_serving);
    }

    fn balance(&mut self, peer: u8, buckets: &[u8; BUCKET_BYTES]) {
        self.shared.set_buckets(peer, buckets);
    }

    fn guard(&self) -> Option<&Guard> {
        Some(&self.guard)
    }

    fn would_say(&self, frame: &[u8], interface: InterfaceIndex, now: BootTime) -> Option<(Verdict, Vec<u8>)> {
        Some(view::would_say(&self.shared, frame, interface.0, now.to_secs()))
    }

    fn switch(&mut self, is_on: bool) {
        self.shared.set_enabled(is_on);
    }

    fn is_switched_on(&self) -> bool {
        self.shared.control().enabled != 0
    }

    fn set_shadow(&mut self, one_of: u32) {
        self.shared.set_shadow(u32::MAX.checked_div(one_of).unwrap_or(0));
    }

    fn ages(&self, now: BootTime) -> Ages {
        let stride = (self.armed.len() / AGES_SAMPLED).max(1);
        let now = now.to_secs();
        let armed = self.armed.keys().step_by(stride);
        Ages::of(armed.filter_map(|index| self.shared.entry(*index)).map(|entry| {
            let renewed = (entry.renewal.at != BootSecs::new(0)).then(|| now.since(entry.renewal.at));
            (entry.horizon.since(now), renewed)
        }))
    }

    fn entry(&self, address: Ipv4Addr) -> Option<Entry> {
        let index = self.places.entry_of(address).filter(|index| self.is_armed(*index))?;
        self.shared.entry(index)
    }

    fn armed_for(&self, chaddr: [u8; 6]) -> Option<Ipv4Addr> {
        // An operator's question: looking at every entry is quick enough, and finds what the index has forgotten.
        let is_theirs = |index: usize| self.shared.entry(index).is_some_and(|entry| entry.chaddr == chaddr);
        self.armed.iter().find(|(index, _)| is_theirs(**index)).map(|(_, address)| *address)
    }

    fn new_generation(&mut self, token: Token, generation: Generation, ranges: &[(Ipv4Addr, Ipv4Addr)]) {
        // What the next answers are made of is not known to the next agent: it will begin a generation of its own.
        self.shared.set_answers(0);
        self.begin_generation(token, generation, ranges);
    }

    fn scan(&mut self) -> Vec<(Ipv4Addr, Renewal)> {
        if let Some(lines) = &mut self.lines {
            lines.flush();
        }
        let mut found = self.events();
        let slice = self.armed.range(self.scan_from..).take(SCAN_SLICE_LEN);
        let slice: Vec<(usize, Ipv4Addr)> = slice.map(|(index, address)| (*index, *address)).collect();
        self.scan_from = match slice.last() {
            Some((last, _)) if slice.len() == SCAN_SLICE_LEN => last + 1,
            _ => 0,
        };
        for (index, address) in slice {
            found.extend(self.moved(index).map(|renewal| (address, renewal)));
        }
        found
    }

    fn scan_slices(&self) -> u32 {
        self.armed.len().div_ceil(SCAN_SLICE_LEN).max(1) as u32
    }

    fn renewal(&self, address: Ipv4Addr) -> Option<Renewal> {
        let index = self.places.entry_of(address).filter(|index| self.is_armed(*index))?;
        let renewal = self.shared.renewal(index);
        Some(if renewal.at == BootSecs::new(0) { Renewal::default() } else { renewal })
    }

    fn event_fd(&self) -> Option<RawFd> {
        Some(self.events.as_raw_fd())
    }

    fn events(&mut self) -> Vec<(Ipv4Addr, Renewal)> {
        let mut addresses = BTreeSet::new();
        while let Some(item) = self.events.next() {
            if let Ok(event) = bytemuck::try_pod_read_unaligned::<Event>(&item) {
                addresses.insert(Ipv4Addr::from(event.address));
            }
        }
        addresses
            .into_iter()
            .filter_map(|address| {
                let index = self.places.entry_of(address).filter(|index| self.is_armed(*index))?;
                self.moved(index).map(|renewal| (address, renewal))
            })
            .collect()
    }

    fn counters(&self) -> [u64; Counter::COUNT] {
        Counter::ALL.map(|counter| self.counters.get(&(counter as u32), 0).map_or(0, |values| values.iter().sum()))
    }

    fn attachments(&self) -> Vec<Attachment> {
        self.attachments.clone()
    }

    fn heartbeat(&mut self, now: BootTime) {
        self.shared.set_dead_man(now.after(DEAD_MAN).to_secs());
    }

    fn detach(&mut self) {
        self.shared.set_enabled(false);
        let links: Vec<InterfaceIndex> = self.links.keys().copied().collect();
        for interface in links {
            self.detach_from(interface);
        }
        for attachment in &mut self.attachments {
            attachment.mode = Mode::Off;
        }
        if let Some(place) = self.place.take()
            && let Err(error) = place.remove()
        {
            warn!("the fast path is off, but something of it stays pinned: {error:#}");
        }
    }

    fn leave(&mut self) -> Result<(), String> {
        match &self.place {
            Some(_) => Ok(()),
            None => {
                Err("the fast path is pinned nowhere (see the log of the start), so it goes with this process"
                    .to_owned())
            }
        }
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (templates, armed) = self.holds();
        f.debug_struct("Kernel")
            .field("generation", &self.generation)
            .field("attachments", &self.attachments)
            .field("templates", &templates)
            .field("armed", &armed)
            .finish_non_exhaustive()
    }
}

/// Takes what an earlier agent left away, for a server without a fast path; what it had promised is in the result.
///
/// # Errors
///
/// What is in the way.
pub fn retire(place: Place) -> Result<Inherited> {
    let mut inherited = Inherited::default();
    if let Some(old) = find(&place, &mut inherited)? {
        old.switch_off();
        place.clear()?;
        grace::period()?;
        inherited.standing = old.standing(false).into_iter().map(|(_, _, standing)| standing).collect();
        inherited.news = Some("an earlier agent had left it attached: taken off".to_owned());
    }
    place.remove()?;
    Ok(inherited)
}

/// Looks for what an earlier agent left in a place, and takes away what cannot be adopted.
fn find(place: &Place, inherited: &mut Inherited) -> Result<Option<Box<Old>>> {
    let news = match adopt::inspect(&place.maps()) {
        Remains::Ours(old) => return Ok(Some(old)),
        Remains::Stranger(what) => bail!("{what}: not touched; remove it, or give this server another --state-dir"),
        Remains::OtherVersion(version) => format!(
            "an agent with version {version} of the maps had left its fast path ({ABI_VERSION} is spoken here): taken off, \
             and what it promised is bounded by the leases file"
        ),
        Remains::Broken => "an earlier agent's fast path was not whole: taken off".to_owned(),
        // Links without maps: the agent ended between the two.
        Remains::None if place.links().is_empty() => return Ok(None),
        Remains::None => "an earlier agent had left a program without its maps: taken off".to_owned(),
    };
    place.clear()?;
    grace::period()?;
    inherited.news = Some(news);
    Ok(None)
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program = ebpf.program_mut(map::PROGRAM).context("the object has no program of ours")?;
    Ok(program.try_into()?)
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the object has no map {name}"))
}

fn map_shared(ebpf: &Ebpf, places: &Places) -> Result<Shared> {
    /// The descriptor of an array whose values have the size of `T`.
    fn fd<'e, T: Pod>(ebpf: &'e Ebpf, name: &str) -> Result<BorrowedFd<'e>> {
        let map = ebpf.map(name).with_context(|| format!("the object has no map {name}"))?;
        let _: Array<&MapData, Abi<T>> =
            Array::try_from(map).with_context(|| format!("map {name} has another layout than this agent"))?;
        match map {
            Map::Array(data) => Ok(data.fd().as_fd()),
            other => bail!("map {name} is no array but {other:?}"),
        }
    }
    Shared::new(&Maps {
        control: fd::<Control>(ebpf, map::CONTROL)?,
        directory: (fd::<Bucket>(ebpf, map::DIRECTORY)?, DIRECTORY_BUCKETS),
        clients: (fd::<ClientBucket>(ebpf, map::CLIENTS)?, clients::bucket_count(places.entry_count()) as usize),
        entries: (fd::<Entry>(ebpf, map::ENTRIES)?, places.entry_count() as usize),
        templates: (fd::<Template>(ebpf, map::TEMPLATES)?, TEMPLATE_COUNT as usize),
    })
    .context("the fast path's maps cannot be shared with the agent (mmap)")
}
