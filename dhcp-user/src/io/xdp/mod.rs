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
mod ledger;
mod opening;
mod pins;
mod places;
mod shared;
mod templates;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::Ipv4Addr,
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Map, MapData, PerCpuArray, RingBuf},
    programs::{Xdp, xdp::XdpLinkId},
};
use aya_log::EbpfLogger;
use bytemuck::{Pod, Zeroable};
use dhcp_ebpf::abi::{
    BUCKET_BYTES, BootSecs, ClientPlace, Counter, DigestKey, Entry, Event, Generation, QUESTION_COUNT, Renewal,
    Template,
};
use dhcp_ebpf::decide::Verdict;
use tracing::warn;

pub use self::guard::Guard;
pub use self::{
    adopt::Inherited,
    driver::strips_tags,
    opening::{Setup, Wanted, answers_of, retire},
    pins::{Place, detach_all},
};
use self::{
    generation::NextGeneration,
    grace::{Finished, Grace},
    ledger::Ledger,
    opening::{Lines, program},
    places::Places,
    shared::Shared,
    templates::{Interned, Templates},
};
use crate::{
    engine::port::{Arm, Interface, InterfaceIndex, Token},
    io::fastpath::{Ages, Attachment, FastPath, Mode, NEWS_MAX},
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

/// Entries looked at by one call of the scan: some 100 us when nothing has moved.
const SCAN_SLICE_LEN: usize = 16_384;

/// The single bridge between our plain types and aya's.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Abi<T>(T);

// SAFETY: `T` is plain old data, and `Abi` is transparent.
unsafe impl<T: Pod> aya::Pod for Abi<T> {}

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
    /// Grace periods that are over, and what they were for has not been done.
    finished: VecDeque<Finished>,
    /// The generation that begins when its grace period is over and the last words of the old one are read.
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
    /// Per entry: whose lease is armed, and the kernel's word that has been reported, or stood there when it was armed.
    ledger: Ledger,
    /// Where the next slice of the scan begins.
    scan_from: usize,
    /// Whether so much was in the ring that it may have been full.
    may_have_lost: bool,
    /// Events that were lost, when they were counted last.
    lost_count: u64,
    /// Addresses without an entry that somebody wanted to arm, for the log line once.
    refused: BTreeSet<Ipv4Addr>,
}

impl Kernel {
    fn is_armed(&self, index: usize) -> bool {
        self.ledger.armed_at(index).is_some()
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
        (self.templates.len(), self.ledger.armed_count())
    }

    /// The entry of an address as it stands, with the kernel's word; `None` without one.
    #[must_use]
    pub fn entry(&self, address: Ipv4Addr) -> Option<Entry> {
        self.shared.entry(self.places.entry_of(address)?)
    }

    fn arm_one(&mut self, arm: &Arm, mask: u32) {
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
        if self.ledger.arm(index, arm.address, self.shared.renewal(index)) {
            self.release_templates(index);
        }
        self.shared.write_entry(index, &entry);
        clients::point_to(&self.shared, &self.key, mask, &entry, index as u32);
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

    /// Sum of a counter over all processors.
    fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(&(counter as u32), 0).map_or(0, |values| values.iter().sum())
    }

    /// The kernel's word of an entry, if it moved since it was last looked at.
    fn moved(&mut self, entry: usize) -> Option<Renewal> {
        self.ledger.news(entry, self.shared.renewal(entry))
    }

    /// Does what waited for grace periods that are over, in the order in which it was asked for.
    fn end_finished(&mut self) {
        while let Some((token, outcome)) = self.finished.front_mut() {
            let token = *token;
            if let Err(error) = std::mem::replace(outcome, Ok(())) {
                // It worked at the start; without it nothing may be taken away, so nothing may be answered any
                // more. Detaching waits for running programs in the kernel's own way.
                warn!(%error, "membarrier(2) fails: the fast path is taken off all interfaces");
                self.detach();
            }
            let words = if self.next_generation.as_ref().is_some_and(|next| next.token == token) {
                if !self.read_generation() {
                    // The loop serves, and comes back.
                    return self.grace.remind();
                }
                self.end_generation()
            } else {
                let addresses = self.pending.remove(&token).unwrap_or_default();
                self.words(&addresses)
            };
            self.finished.pop_front();
            self.revoked.push_back((token, words));
        }
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

    fn arm(&mut self, arms: &[Arm]) {
        // Everything is on its way back: what would be armed now nobody would take back.
        if self.next_generation.is_some() {
            return;
        }
        let mask = clients::mask(self.places.entry_count());
        for some in arms.chunks(clients::AHEAD) {
            for arm in some {
                clients::fetch(&self.shared, ClientPlace::new(arm.chaddr, &self.key, mask));
            }
            for arm in some {
                self.arm_one(arm, mask);
            }
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
                && self.ledger.disarm(index)
            {
                self.shared.disarm(index);
                self.release_templates(index);
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
            self.finished.extend(self.grace.take_finished());
            self.end_finished();
        }
        self.revoked.pop_front()
    }

    fn poll_returned(&mut self) -> Vec<(Ipv4Addr, Renewal)> {
        self.take_generation_words()
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
        let stride = (self.ledger.armed_count() / AGES_SAMPLED).max(1);
        let now = now.to_secs();
        let armed = self.ledger.armed().step_by(stride);
        Ages::of(armed.filter_map(|(index, _)| self.shared.entry(index)).map(|entry| {
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
        self.ledger.armed().find(|(index, _)| is_theirs(*index)).map(|(_, address)| address)
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
        let mut found = Vec::new();
        let mut next = self.scan_from;
        let end = next.saturating_add(SCAN_SLICE_LEN).min(self.ledger.len());
        while next < end && found.len() < NEWS_MAX {
            if let Some(address) = self.ledger.armed_at(next) {
                found.extend(self.moved(next).map(|renewal| (address, renewal)));
            }
            next += 1;
        }
        self.scan_from = if next < self.ledger.len() { next } else { 0 };
        found
    }

    fn scan_slices(&self) -> u32 {
        self.ledger.len().div_ceil(SCAN_SLICE_LEN).max(1) as u32
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
        let mut addresses = Vec::new();
        while addresses.len() < NEWS_MAX
            && let Some(item) = self.events.next()
        {
            addresses
                .extend(bytemuck::try_pod_read_unaligned::<Event>(&item).map(|event| Ipv4Addr::from(event.address)));
        }
        // A ring that is full when an event comes holds more than is read at once.
        self.may_have_lost |= addresses.len() >= NEWS_MAX;
        // In this order neighbours are looked at together, and an address that has several events says its news once.
        addresses.sort_unstable();
        self.news(&addresses)
    }

    fn has_lost_events(&mut self) -> bool {
        if !std::mem::take(&mut self.may_have_lost) {
            return false;
        }
        let lost_count = self.counter(Counter::EventLost);
        std::mem::replace(&mut self.lost_count, lost_count) != lost_count
    }

    fn news(&mut self, addresses: &[Ipv4Addr]) -> Vec<(Ipv4Addr, Renewal)> {
        let mut news = Vec::with_capacity(addresses.len());
        for address in addresses {
            if let Some(index) = self.places.entry_of(*address).filter(|index| self.is_armed(*index)) {
                news.extend(self.moved(index).map(|renewal| (*address, renewal)));
            }
        }
        news
    }

    fn counters(&self) -> [u64; Counter::COUNT] {
        Counter::ALL.map(|counter| self.counter(counter))
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
