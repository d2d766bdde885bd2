//! The memory that the agent and the kernel program share: `BPF_F_MMAPABLE` arrays, mapped.
//!
//! An entry is eight 64-bit words. The agent stores words 0 to 6, the kernel word 7 ([`Renewal`]); nobody stores
//! a word of the other's. Word 0 holds the sequence and the generation, so disarming is one store. While an
//! entry is rewritten its sequence is odd and its generation zero; stores are released in program order, so the
//! program never takes a half-written entry for an armed one (see `dhcp_ebpf::abi`).
#![expect(unsafe_code, reason = "mapped memory is reached through pointers")]

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

use bytemuck::{Pod, Zeroable};
use dhcp_ebpf::abi::{
    BUCKET_BYTES, BootSecs, Bucket, ClientBucket, Control, Entry, Generation, Renewal, Shield, Template,
};

/// An array map, mapped whole.
#[derive(Debug)]
struct Mapping<T> {
    start: NonNull<T>,
    count: usize,
    bytes_len: usize,
    _values: PhantomData<T>,
}

impl<T: Pod> Mapping<T> {
    fn new(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        // The kernel lays array values at multiples of 8 bytes; ours are such sizes.
        debug_assert_eq!(size_of::<T>() % 8, 0);
        let bytes_len = (size_of::<T>() * count).next_multiple_of(page_len());
        // SAFETY: a new shared mapping of a map that is at least this long; the result is checked.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes_len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned address zero"))?;
        Ok(Self { start, count, bytes_len, _values: PhantomData })
    }

    /// A pointer to the value at `index`; `None` past the end.
    fn at(&self, index: usize) -> Option<NonNull<T>> {
        // SAFETY: the index is inside the mapping.
        (index < self.count).then(|| unsafe { self.start.add(index) })
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes_len) };
    }
}

// SAFETY: the mapping is memory like any other; what is reached through it is atomic or has one writer.
unsafe impl<T: Send> Send for Mapping<T> {}

/// The first 32 bits of an array map's first value, whatever its layout.
///
/// # Errors
///
/// What `mmap` says.
pub(super) fn first_word(map: BorrowedFd<'_>) -> io::Result<u32> {
    let mapping = Mapping::<u64>::new(map, 1)?;
    // SAFETY: a value of at least four bytes stands at the start of the mapping.
    Ok(unsafe { AtomicU32::from_ptr(mapping.start.as_ptr().cast()) }.load(Ordering::Acquire))
}

fn page_len() -> usize {
    // SAFETY: sysconf has no preconditions.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// The agent's view of all shared maps.
#[derive(Debug)]
pub(super) struct Shared {
    control: Mapping<Control>,
    directory: Mapping<Bucket>,
    clients: Mapping<ClientBucket>,
    entries: Mapping<Entry>,
    templates: Mapping<Template>,
}

/// The maps' file descriptors and sizes.
pub(super) struct Maps<'a> {
    pub(super) control: BorrowedFd<'a>,
    pub(super) directory: (BorrowedFd<'a>, usize),
    pub(super) clients: (BorrowedFd<'a>, usize),
    pub(super) entries: (BorrowedFd<'a>, usize),
    pub(super) templates: (BorrowedFd<'a>, usize),
}

impl Shared {
    /// Maps the four arrays.
    ///
    /// # Errors
    ///
    /// What `mmap` says.
    pub(super) fn new(maps: &Maps<'_>) -> io::Result<Self> {
        Ok(Self {
            control: Mapping::new(maps.control, 1)?,
            directory: Mapping::new(maps.directory.0, maps.directory.1)?,
            clients: Mapping::new(maps.clients.0, maps.clients.1)?,
            entries: Mapping::new(maps.entries.0, maps.entries.1)?,
            templates: Mapping::new(maps.templates.0, maps.templates.1)?,
        })
    }

    /// Writes the whole control value; only before a program is attached.
    pub(super) fn init_control(&self, control: &Control) {
        // SAFETY: no program runs yet, and the agent is one thread.
        unsafe { self.control.start.write(*control) };
    }

    /// A copy of the control value.
    pub(super) fn control(&self) -> Control {
        // SAFETY: the agent alone writes it, and it is one thread.
        unsafe { self.control.start.read_volatile() }
    }

    /// Says what the answers in the maps were made of.
    pub(super) fn set_answers(&self, answers: u64) {
        let offset = std::mem::offset_of!(Control, answers);
        // SAFETY: an aligned word of the control value, which the program does not look at.
        let word = unsafe { AtomicU64::from_ptr(self.control.start.as_ptr().byte_add(offset).cast()) };
        word.store(answers, Ordering::Release);
    }

    /// A copy of the directory.
    pub(super) fn directory(&self) -> Vec<Bucket> {
        // SAFETY: inside the mapping; written only before a program is attached.
        (0..self.directory.count).filter_map(|index| Some(unsafe { self.directory.at(index)?.read() })).collect()
    }

    /// Number of entries.
    pub(super) fn entry_count(&self) -> usize {
        self.entries.count
    }

    /// A copy of a template; `None` past the end.
    pub(super) fn template(&self, number: u16) -> Option<Template> {
        // SAFETY: inside the mapping; only the agent writes it, and it is one thread.
        Some(unsafe { self.templates.at(usize::from(number))?.read_volatile() })
    }

    /// Writes the directory; only before a program is attached.
    pub(super) fn init_directory(&self, buckets: &[Bucket]) {
        for (index, bucket) in buckets.iter().enumerate() {
            if let Some(place) = self.directory.at(index) {
                // SAFETY: as in `init_control`.
                unsafe { place.write(*bucket) };
            }
        }
    }

    /// Writes one bucket of the directory while programs may run.
    pub(super) fn write_bucket(&self, index: usize, bucket: &Bucket) {
        const WORDS: usize = size_of::<Bucket>() / 4;
        let Some(place) = self.directory.at(index) else { return };
        let words: [u32; WORDS] = bytemuck::cast(*bucket);
        for (number, value) in words.iter().enumerate() {
            // SAFETY: an aligned word of a bucket inside the mapping, stored by the agent only.
            let word = unsafe { AtomicU32::from_ptr(place.as_ptr().cast::<u32>().add(number)) };
            word.store(*value, Ordering::Release);
        }
    }

    fn control_word(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(4) && offset < size_of::<Control>());
        // SAFETY: an aligned word of the control value, written by the agent only, read by the kernel.
        unsafe { AtomicU32::from_ptr(self.control.start.as_ptr().byte_add(offset).cast()) }
    }

    /// Switches the fast path on or off.
    pub(super) fn set_enabled(&self, is_enabled: bool) {
        self.control_word(std::mem::offset_of!(Control, enabled)).store(u32::from(is_enabled), Ordering::Release);
    }

    /// Sets how often the shadow check takes a request: when a random number is below.
    pub(super) fn set_shadow(&self, below: u32) {
        self.control_word(std::mem::offset_of!(Control, shadow)).store(below, Ordering::Release);
    }

    /// A bucket of the directory; `None` past the end.
    pub(super) fn bucket(&self, index: usize) -> Option<&Bucket> {
        // SAFETY: inside the mapping, and written only before a program is attached.
        Some(unsafe { self.directory.at(index)?.as_ref() })
    }

    /// A template where it stands; `None` past the end.
    pub(super) fn template_at(&self, number: usize) -> Option<&Template> {
        // SAFETY: inside the mapping; the agent alone writes it, while no reference is held (it is one thread).
        Some(unsafe { self.templates.at(number)?.as_ref() })
    }

    /// Sets the generation whose entries are armed.
    pub(super) fn set_generation(&self, generation: Generation) {
        self.control_word(std::mem::offset_of!(Control, generation)).store(generation.number(), Ordering::Release);
    }

    /// Moves the dead-man limit.
    pub(super) fn set_dead_man(&self, until: BootSecs) {
        self.control_word(std::mem::offset_of!(Control, dead_man)).store(until.secs(), Ordering::Release);
    }

    /// Switches the pools of a failover peer on or off; a number past the table does nothing.
    pub(super) fn set_serving(&self, peer: u8, is_serving: bool) {
        let offset = std::mem::offset_of!(Control, serving) + usize::from(peer);
        if usize::from(peer) < dhcp_ebpf::abi::PEER_COUNT {
            // SAFETY: a byte of the control value, written by the agent only.
            let byte =
                unsafe { std::sync::atomic::AtomicU8::from_ptr(self.control.start.as_ptr().byte_add(offset).cast()) };
            byte.store(u8::from(is_serving), Ordering::Release);
        }
    }

    /// Sets which buckets of a failover peer are answered here; a number past the table does nothing. A broadcast that
    /// comes meanwhile is judged by the old set or the new one, word by word, and either is right for it.
    pub(super) fn set_buckets(&self, peer: u8, buckets: &[u8; BUCKET_BYTES]) {
        if usize::from(peer) < dhcp_ebpf::abi::PEER_COUNT {
            let offset = std::mem::offset_of!(Control, buckets) + usize::from(peer) * BUCKET_BYTES;
            self.set_control_words(offset, buckets);
        }
    }

    /// Sets what the shield does, word by word; the mode comes last.
    pub(super) fn set_shield(&self, shield: &Shield) {
        let offset = std::mem::offset_of!(Control, shield);
        let bytes = bytemuck::bytes_of(shield);
        let (mode, rest) = bytes.split_at(size_of_val(&shield.mode));
        self.set_control_words(offset + mode.len(), rest);
        self.set_control_words(offset, mode);
    }

    fn set_control_words(&self, offset: usize, bytes: &[u8]) {
        for (number, word) in bytes.as_chunks::<4>().0.iter().enumerate() {
            self.control_word(offset + number * 4).store(u32::from_ne_bytes(*word), Ordering::Release);
        }
    }

    fn word(&self, index: usize, word: usize) -> Option<&AtomicU64> {
        debug_assert!(word < 8);
        let entry = self.entries.at(index)?;
        // SAFETY: an aligned word of an entry inside the mapping.
        Some(unsafe { AtomicU64::from_ptr(entry.as_ptr().cast::<u64>().add(word)) })
    }

    /// Rewrites an entry but for the kernel's word, and arms it under the generation that `entry` carries.
    /// `entry.sequence` is not looked at. Returns `false` when there is no such entry.
    pub(super) fn write_entry(&self, index: usize, entry: &Entry) -> bool {
        let Some(head) = self.word(index, 0) else { return false };
        let before: Head = bytemuck::cast(head.load(Ordering::Relaxed));
        let odd = before.sequence | 1;
        head.store(bytemuck::cast(Head { sequence: odd, generation: Generation::new(0) }), Ordering::Relaxed);
        fence(Ordering::Release);
        let words: [u64; 8] = bytemuck::cast(*entry);
        for (number, value) in words.iter().enumerate().take(7).skip(1) {
            if let Some(word) = self.word(index, number) {
                word.store(*value, Ordering::Relaxed);
            }
        }
        let even = Head { sequence: odd.wrapping_add(1), generation: entry.generation };
        head.store(bytemuck::cast(even), Ordering::Release);
        true
    }

    /// Disarms an entry in one store.
    pub(super) fn disarm(&self, index: usize) {
        if let Some(head) = self.word(index, 0) {
            let before: Head = bytemuck::cast(head.load(Ordering::Relaxed));
            let sequence = (before.sequence | 1).wrapping_add(1);
            head.store(bytemuck::cast(Head { sequence, generation: Generation::new(0) }), Ordering::Release);
        }
    }

    /// A copy of an entry as the agent wrote it, with the kernel's word.
    pub(super) fn entry(&self, index: usize) -> Option<Entry> {
        let mut words = [0_u64; 8];
        for (number, value) in words.iter_mut().enumerate() {
            *value = self.word(index, number)?.load(Ordering::Acquire);
        }
        Some(bytemuck::cast(words))
    }

    /// Moves the horizon of an entry; the caller knows that it is armed. One store, since the horizon shares its
    /// word with the address only, which does not change.
    pub(super) fn set_horizon(&self, index: usize, horizon: BootSecs, address: [u8; 4]) {
        if let Some(word) = self.word(index, std::mem::offset_of!(Entry, horizon) / 8) {
            word.store(bytemuck::cast(HorizonWord { horizon, address }), Ordering::Release);
        }
    }

    /// A way of a client bucket; `None` past the end.
    pub(super) fn client_way(&self, bucket: u32, way: usize) -> Option<&AtomicU64> {
        debug_assert!(way < dhcp_ebpf::abi::CLIENT_WAYS);
        let bucket = self.clients.at(bucket as usize)?;
        // SAFETY: an aligned word of a bucket inside the mapping, stored by the agent only.
        Some(unsafe { AtomicU64::from_ptr(bucket.as_ptr().cast::<u64>().add(way)) })
    }

    /// The kernel's word of an entry.
    pub(super) fn renewal(&self, index: usize) -> Renewal {
        self.word(index, 7).map_or_else(Renewal::default, |word| bytemuck::cast(word.load(Ordering::Acquire)))
    }

    /// Writes a template that no entry refers to.
    pub(super) fn write_template(&self, number: u16, template: &Template) {
        if let Some(place) = self.templates.at(usize::from(number)) {
            // SAFETY: nobody reads this template before an entry refers to it, which is stored with Release later.
            unsafe { place.write(*template) };
        }
    }
}

/// Word 0 of an entry.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Head {
    sequence: u32,
    generation: Generation,
}

/// Word 6 of an entry.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct HorizonWord {
    horizon: BootSecs,
    address: [u8; 4],
}

const _: () = {
    assert!(std::mem::offset_of!(Control, answers).is_multiple_of(8));
    assert!(std::mem::offset_of!(Entry, sequence) == 0 && std::mem::offset_of!(Entry, generation) == 4);
    assert!(std::mem::offset_of!(Entry, horizon) == 48 && std::mem::offset_of!(Entry, address) == 52);
    assert!(std::mem::offset_of!(Entry, renewal) == 56);
    assert!(std::mem::offset_of!(Shield, mode) == 0);
};
