//! What an earlier agent left in the kernel: is it ours, of this version, for these addresses; and what it promised.
//!
//! ```text
//!   other version, or not whole    taken off; the journal's horizons are the truth
//!   somebody else's                refused, and left alone
//!   other ranges                   switched off, grace period, words read, new maps; the links stay and get the new program
//!   switched off, taken off half   as another configuration, and on again
//!   other configuration            new generation, grace period, words read, entries emptied
//!   the same                       entries stay armed, answers are found again, nothing is interrupted
//! ```

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher as _},
    os::fd::AsFd as _,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, MapType};
use dhcp_ebpf::abi::{
    ABI_VERSION, BootSecs, Bucket, ClientBucket, Control, Counter, DIRECTORY_BUCKETS, EVENT_RING_LEN, Entry,
    Generation, SOURCE_COUNT, Source, TEMPLATE_COUNT, Template, map,
};

use super::{
    bpf, clients,
    shared::{self, Maps, Shared},
};
use crate::{engine::port::Standing, lease::time::BootTime};

/// What a new agent finds.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Entries that are armed, or say something about the past.
    pub standing: Vec<Standing>,
    /// What happened, for the log.
    pub news: Option<String>,
}

/// The maps of an earlier agent.
#[derive(Debug)]
pub(super) struct Old {
    shared: Shared,
    control: Control,
}

/// What stands in a place.
#[derive(Debug)]
pub(super) enum Remains {
    /// Nothing.
    None,
    /// Ours, whole, of this version.
    Ours(Box<Old>),
    /// Ours, of another version.
    OtherVersion(u32),
    /// Not whole: an agent ended while it made or removed them.
    Broken,
    /// Not ours: a sentence saying what it is.
    Stranger(String),
}

/// A number for a value, the same in every process of one build.
pub(super) fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Looks at the maps in a folder.
pub(super) fn inspect(maps: &Path) -> Remains {
    if !maps.exists() {
        return Remains::None;
    }
    let path_of = |name: &str| maps.join(name);
    if !map::ALL.iter().all(|name| path_of(name).exists()) {
        return Remains::Broken;
    }
    match look(maps) {
        Ok(remains) => remains,
        Err(error) => Remains::Stranger(format!("{}: {error:#}", maps.display())),
    }
}

fn look(maps: &Path) -> Result<Remains> {
    let open = |name: &str| -> Result<MapData> {
        MapData::from_pin(maps.join(name)).with_context(|| format!("what is pinned as {name} is no map"))
    };
    let of_control = open(map::CONTROL)?;
    let facts = of_control.info()?;
    let is_ours = facts.name_as_str() == Some(map::CONTROL)
        && facts.map_type().ok() == Some(MapType::Array)
        && facts.max_entries() == 1
        && facts.value_size() >= 16;
    if !is_ours {
        return Ok(Remains::Stranger(format!("{} is not a map of xdhcpd", maps.join(map::CONTROL).display())));
    }
    let version = shared::first_word(of_control.fd().as_fd()).context("its memory cannot be shared")?;
    if version != ABI_VERSION {
        return Ok(Remains::OtherVersion(version));
    }
    let entries = open(map::ENTRIES)?;
    let entry_count = entries.info()?.max_entries();
    let shapes = [
        (map::CONTROL, MapType::Array, size_of::<Control>(), 1),
        (map::DIRECTORY, MapType::Array, size_of::<Bucket>(), DIRECTORY_BUCKETS as u32),
        (map::CLIENTS, MapType::Array, size_of::<ClientBucket>(), clients::bucket_count(entry_count)),
        (map::ENTRIES, MapType::Array, size_of::<Entry>(), entry_count),
        (map::TEMPLATES, MapType::Array, size_of::<Template>(), TEMPLATE_COUNT),
        (map::COUNTERS, MapType::PerCpuArray, size_of::<u64>(), Counter::COUNT as u32),
        (map::EVENTS, MapType::RingBuf, 0, EVENT_RING_LEN),
        (map::SOURCES, MapType::Array, size_of::<Source>(), SOURCE_COUNT),
    ];
    for (name, kind, value_len, count) in shapes {
        let facts = open(name)?.info()?;
        let is_so = facts.name_as_str() == Some(name)
            && facts.map_type().ok() == Some(kind)
            && facts.value_size() as usize == value_len
            && facts.max_entries() == count;
        if !is_so {
            return Ok(Remains::Stranger(format!(
                "{} says version {ABI_VERSION} and has another shape",
                maps.join(name).display()
            )));
        }
    }
    let (directory, of_clients, templates) = (open(map::DIRECTORY)?, open(map::CLIENTS)?, open(map::TEMPLATES)?);
    let shared = Shared::new(&Maps {
        control: of_control.fd().as_fd(),
        directory: (directory.fd().as_fd(), DIRECTORY_BUCKETS),
        clients: (of_clients.fd().as_fd(), clients::bucket_count(entry_count) as usize),
        entries: (entries.fd().as_fd(), entry_count as usize),
        templates: (templates.fd().as_fd(), TEMPLATE_COUNT as usize),
    })
    .context("its memory cannot be shared")?;
    let control = shared.control();
    Ok(Remains::Ours(Box::new(Old { shared, control })))
}

impl Old {
    /// Whether the entries stand where this directory says.
    pub(super) fn is_laid_out_as(&self, directory: &[Bucket], entry_count: u32) -> bool {
        self.shared.entry_count() == entry_count as usize && self.shared.directory() == directory
    }

    /// The generation that is armed.
    pub(super) const fn generation(&self) -> Generation {
        self.control.generation
    }

    /// What the answers were made of.
    pub(super) const fn answers(&self) -> u64 {
        self.control.answers
    }

    /// Whether the program answers at all.
    pub(super) const fn is_enabled(&self) -> bool {
        self.control.enabled != 0
    }

    /// Takes everything from the kernel at once: nothing is answered with these maps any more.
    pub(super) fn switch_off(&self) {
        self.shared.set_enabled(false);
    }

    /// Disarms everything at once by a new generation.
    pub(super) fn set_generation(&self, generation: Generation) {
        self.shared.set_generation(generation);
        self.shared.set_answers(0);
    }

    /// What every entry says: what was granted, and, when `keeps_armed`, what is armed.
    pub(super) fn standing(&self, keeps_armed: bool) -> Vec<(usize, Entry, Standing)> {
        let mut answers: BTreeMap<u16, Arc<Template>> = BTreeMap::new();
        let mut all = Vec::new();
        for index in 0..self.shared.entry_count() {
            let Some(entry) = self.shared.entry(index) else { break };
            // A rewrite that was cut off leaves an odd sequence and generation zero: not armed.
            let is_armed = keeps_armed
                && entry.generation == self.control.generation
                && entry.generation.number() != 0
                && entry.sequence & 1 == 0;
            if !is_armed && entry.renewal.at == BootSecs::new(0) {
                continue;
            }
            let mut questions = [const { None }; dhcp_ebpf::abi::QUESTION_COUNT];
            let armed = entry.digest.iter().zip(entry.template).take_while(|_| is_armed);
            for (place, (digest, number)) in questions.iter_mut().zip(armed) {
                if number != 0 && !answers.contains_key(&number) {
                    answers.extend(self.shared.template(number).map(|template| (number, Arc::new(template))));
                }
                *place = answers.get(&number).map(|template| (*digest, Arc::clone(template)));
            }
            let standing = Standing {
                address: entry.address.into(),
                chaddr: entry.chaddr,
                horizon: BootTime::from_secs(u64::from(entry.horizon.secs())),
                questions,
                is_armed,
                renewal: entry.renewal,
            };
            all.push((index, entry, standing));
        }
        all
    }
}

/// Why the fast path cannot work in this process, if so.
pub(super) fn clock_trouble() -> Option<String> {
    match bpf::boot_offset() {
        (0, 0) => None,
        (secs, nanos) => Some(format!(
            "this process is in a time namespace: its boot clock is {secs} s and {nanos} ns ahead of the one that the \
             kernel's program reads, and promises would not mean the same to both. Start it outside of one."
        )),
    }
}
