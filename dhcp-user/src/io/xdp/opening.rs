//! The beginning of a fast path: the program loaded with maps of its own, or with those that an earlier agent left.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    hash::Hash,
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData, PerCpuArray, RingBuf},
    programs::Xdp,
};
use aya_log::EbpfLogger;
use bytemuck::{Pod, Zeroable};
use dhcp_ebpf::abi::{
    ABI_VERSION, BUCKET_BYTES, BootSecs, Bucket, ClientBucket, Control, DIRECTORY_BUCKETS, DigestKey, Entry,
    Generation, PEER_COUNT, TEMPLATE_COUNT, Template, map,
};
use tracing::{info, warn};

use super::{
    Abi, BLOCKS_MAX, Kernel, OBJECT,
    adopt::{self, Inherited, Old, Remains},
    clients,
    grace::{self, Grace},
    guard::Guard,
    ledger::Ledger,
    pins::Place,
    places::Places,
    shared::{Maps, Shared},
    templates::Templates,
};

/// The map that aya-log makes in a debug build of the program.
const LOG_MAP: &str = "AYA_LOGS";

/// Lines of a debug build of the program, as log events.
#[derive(Debug)]
pub(super) struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        info!(target: "xdp", "fast path: {}", record.args());
    }

    fn flush(&self) {}
}

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
        let shared_entries = shared.entry_count();
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
            finished: VecDeque::new(),
            ledger: Ledger::new(shared_entries, control.generation),
            scan_from: 0,
            may_have_lost: true,
            lost_count: 0,
            refused: BTreeSet::new(),
        })
    }

    /// Takes the entries of an earlier agent over: armed as they are when it made the same answers, else emptied.
    fn adopt(&mut self, old: &Old, answers: u64, inherited: &mut Inherited) -> Result<()> {
        // Switched off by an operator, or about to be taken away: whatever is armed in there was not looked after.
        let is_same = old.answers() == answers && answers != 0 && old.is_enabled();
        if !is_same {
            self.generation = old.generation().next();
            self.ledger.begin(self.generation);
            old.set_generation(self.generation);
            grace::period()?;
        }
        for (index, entry, standing) in old.standing(is_same) {
            if standing.is_armed {
                self.ledger.arm(index, standing.address, standing.renewal);
                for (number, question) in entry.template.iter().zip(&standing.questions) {
                    if let Some((_, template)) = question.as_ref().filter(|_| *number != 0) {
                        self.templates.restore(*number, template);
                    }
                }
            } else {
                self.shared.write_entry(index, &Entry::zeroed());
                self.ledger.note(index, standing.renewal);
            }
            inherited.standing.push(standing);
        }
        self.shared.set_enabled(true);
        inherited.news = Some(if is_same {
            format!("adopted from an earlier agent: {} leases stayed armed", self.ledger.armed_count())
        } else if !old.is_enabled() {
            "an earlier agent had switched its fast path off: a new generation, nothing is armed".to_owned()
        } else {
            "the configuration is another than the earlier agent's: a new generation, nothing is armed".to_owned()
        });
        Ok(())
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

pub(super) fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
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
