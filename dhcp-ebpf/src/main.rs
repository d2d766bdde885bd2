//! The XDP program: the maps, a [`Frame`](dhcp_ebpf::frame::Frame) over the packet, call
//! [`answer_in_place`](dhcp_ebpf::decide::answer_in_place), obey. On every target but BPF an empty binary.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", expect(unsafe_code, reason = "packet and map memory is reached through pointers"))]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(all(target_arch = "bpf", feature = "bench"))]
mod bench;

#[cfg(target_arch = "bpf")]
mod program {
    use core::{mem, ptr};

    use aya_ebpf::{
        bindings::{BPF_F_MMAPABLE, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, xdp_action},
        helpers::{bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_xdp_adjust_tail},
        macros::{map, xdp},
        maps::{Array, PerCpuArray, RingBuf},
        programs::XdpContext,
    };
    use dhcp_ebpf::{
        abi::{
            BootSecs, Bucket, ClientBucket, Control, Counter, DIRECTORY_BUCKETS, EVENT_RING_LEN, Entry, Event, Renewal,
            SOURCE_COUNT, Source, TEMPLATE_COUNT, Template,
        },
        clock,
        decide::{self, Tables, Verdict},
        frame::{Frame, FrameMut},
        wire::dhcp::{MESSAGE_LEN_MIN, TAIL_AT},
    };

    /// The agent's switches, generation and digest key.
    #[map]
    static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    /// Where the entries of a /24 start.
    #[map]
    static DIRECTORY: Array<Bucket> = Array::with_max_entries(DIRECTORY_BUCKETS as u32, BPF_F_MMAPABLE);
    /// The index by hardware address; the agent sets the size when it loads the object.
    #[map]
    static CLIENTS: Array<ClientBucket> = Array::with_max_entries(64, BPF_F_MMAPABLE);
    /// One cache line per lease; the agent sets the size when it loads the object.
    #[map]
    static ENTRIES: Array<Entry> = Array::with_max_entries(256, BPF_F_MMAPABLE);
    /// Interned answers.
    #[map]
    static TEMPLATES: Array<Template> = Array::with_max_entries(TEMPLATE_COUNT, BPF_F_MMAPABLE);
    /// One per-CPU count per [`Counter`].
    #[map]
    static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT as u32, 0);
    /// Renewals whose horizon has to move.
    #[map]
    static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_RING_LEN, 0);
    /// The shield's token buckets.
    #[map]
    static SOURCES: Array<Source> = Array::with_max_entries(SOURCE_COUNT, 0);

    /// Per CPU: a tick of the kernel's, and the second that is taken for "now" while it lasts.
    #[map]
    static CLOCK: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

    /// Bytes in the ring from which on the agent is woken.
    const RING_HALF: u64 = EVENT_RING_LEN as u64 / 2;
    /// And again after so many more.
    const RING_STEP: u64 = EVENT_RING_LEN as u64 / 16;
    /// What an event takes in the ring: a header of eight bytes, and what it is rounded up to.
    const EVENT_ROOM: u64 = 8 + (mem::size_of::<Event>() as u64).next_multiple_of(8);

    /// The packet between its two pointers.
    pub(crate) struct Packet {
        context: XdpContext,
        start: usize,
        end: usize,
    }

    /// Bytes of the shortest tail: what a BOOTP message of the least length has.
    const SHORTEST_TAIL: usize = MESSAGE_LEN_MIN - TAIL_AT;

    impl Packet {
        pub(crate) fn new(context: XdpContext) -> Self {
            let (start, end) = (context.data(), context.data_end());
            Self { context, start, end }
        }
    }

    impl Frame for Packet {
        #[inline(always)]
        fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
            let from = self.start + at;
            if from + N > self.end {
                return None;
            }
            // SAFETY: the verifier has seen `from + N` compared with the packet's end.
            Some(unsafe { ptr::read_unaligned(from as *const [u8; N]) })
        }

        #[inline(always)]
        fn window<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
            let from = self.start + at;
            if from + N > self.end {
                return None;
            }
            // SAFETY: the verifier has seen `from + N` compared with the packet's end; bytes need no alignment, and the
            // packet is this program's alone while it runs.
            Some(unsafe { &*(from as *const [u8; N]) })
        }

        #[inline(always)]
        fn len(&self) -> usize {
            // Read anew: were it computed from the two fields, the compiler would derive from a check of lengths
            // that a later read is in bounds and drop the comparison that the verifier needs to see.
            // SAFETY: the context is the program's own.
            let (start, end) = unsafe {
                let context = self.context.ctx;
                (ptr::addr_of!((*context).data).read_volatile(), ptr::addr_of!((*context).data_end).read_volatile())
            };
            end as usize - start as usize
        }
    }

    impl FrameMut for Packet {
        #[inline(always)]
        fn write<const N: usize>(&mut self, at: usize, bytes: [u8; N]) -> Option<()> {
            let to = self.start + at;
            if to + N > self.end {
                return None;
            }
            // SAFETY: the verifier has seen `to + N` compared with the packet's end.
            unsafe { ptr::write_unaligned(to as *mut [u8; N], bytes) };
            Some(())
        }

        #[inline(always)]
        fn window_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
            let to = self.start + at;
            if to + N > self.end {
                return None;
            }
            // SAFETY: as for `window`; the borrow of the packet keeps other windows away.
            Some(unsafe { &mut *(to as *mut [u8; N]) })
        }

        #[inline(always)]
        fn copy_from<const N: usize>(&mut self, at: usize, source: &[u8; N], len: usize) -> Option<()> {
            // What every answer has, in one go; then by eight bytes, then the last ones. A helper that stores a variable
            // number of bytes would want bounds that older verifiers forget, and costs more than these loads. They forget
            // as well that `len` is no more than `N`: it is asked last, or the compiler would leave out what they need.
            let mut done = 0;
            if len >= SHORTEST_TAIL {
                let room = self.window_mut::<SHORTEST_TAIL>(at)?;
                let known = source.first_chunk::<SHORTEST_TAIL>()?;
                let mut word = 0;
                while word < SHORTEST_TAIL / 8 {
                    room.as_chunks_mut::<8>().0[word] = known.as_chunks::<8>().0[word];
                    word += 1;
                }
                done = SHORTEST_TAIL;
            }
            while done + 8 <= N && done + 8 <= len {
                self.write(at + done, *source.get(done..)?.first_chunk::<8>()?)?;
                done += 8;
            }
            if done + 4 <= N && done + 4 <= len {
                self.write(at + done, *source.get(done..)?.first_chunk::<4>()?)?;
                done += 4;
            }
            if done + 2 <= N && done + 2 <= len {
                self.write(at + done, *source.get(done..)?.first_chunk::<2>()?)?;
                done += 2;
            }
            if done < N && done < len {
                self.write(at + done, [*source.get(done)?])?;
            }
            (len <= N).then_some(())
        }

        #[inline(always)]
        fn resize(&mut self, len: usize) -> Option<()> {
            let delta = len as i32 - self.len() as i32;
            if delta != 0 {
                // SAFETY: a plain helper call; the pointers are taken anew below.
                if unsafe { bpf_xdp_adjust_tail(self.context.ctx, delta) } != 0 {
                    return None;
                }
                self.start = self.context.data();
                self.end = self.context.data_end();
            }
            Some(())
        }
    }

    /// The maps as [`Tables`].
    pub(crate) struct Maps {
        pub(crate) interface: u32,
    }

    impl Tables for Maps {
        #[inline(always)]
        fn control(&self) -> Option<&Control> {
            CONTROL.get(0)
        }

        #[inline(always)]
        fn bucket(&self, index: u32) -> Option<&Bucket> {
            DIRECTORY.get(index)
        }

        #[inline(always)]
        fn client_bucket(&self, index: u32) -> Option<ClientBucket> {
            let bucket = CLIENTS.get_ptr(index)?;
            // SAFETY: the map holds the bucket; the agent stores each way as one aligned word.
            let ways = unsafe { ptr::addr_of!((*bucket).ways).read_volatile() };
            Some(ClientBucket { ways })
        }

        #[inline(always)]
        fn entry(&self, index: u32) -> Option<Entry> {
            let entry = ENTRIES.get_ptr(index)?;
            let words = entry.cast::<u64>();
            // SAFETY: the map holds the entry, eight words; the agent may write it meanwhile, which the two readings of
            // the sequence around the others detect (see `abi`). The last word is the kernel's and is not asked for.
            let (copy, after) = unsafe {
                let copy: [u64; 8] = [
                    words.read_volatile(),
                    words.add(1).read_volatile(),
                    words.add(2).read_volatile(),
                    words.add(3).read_volatile(),
                    words.add(4).read_volatile(),
                    words.add(5).read_volatile(),
                    words.add(6).read_volatile(),
                    0,
                ];
                (copy, ptr::addr_of!((*entry).sequence).read_volatile())
            };
            let before = copy[0] as u32;
            if before != after || before & 1 != 0 {
                return None;
            }
            // SAFETY: both are 64 bytes of plain old data.
            Some(unsafe { mem::transmute::<[u64; 8], Entry>(copy) })
        }

        #[inline(always)]
        fn store_renewal(&self, index: u32, renewal: Renewal) {
            if let Some(entry) = ENTRIES.get_ptr_mut(index) {
                let [a, b, c, d] = renewal.at.secs().to_ne_bytes();
                let [e, f, g, h] = renewal.until.secs().to_ne_bytes();
                // SAFETY: the word is aligned to 8 bytes and written by this program only; one store.
                unsafe {
                    ptr::addr_of_mut!((*entry).renewal)
                        .cast::<u64>()
                        .write_volatile(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
                }
            }
        }

        #[inline(always)]
        fn template(&self, number: u16) -> Option<&Template> {
            TEMPLATES.get(u32::from(number))
        }

        #[inline(always)]
        fn send_event(&self, event: Event, is_late: bool) -> bool {
            // Waking the agent costs more than ten answers, and half a lease is left: it looks by itself every two seconds.
            // It is woken when it should have looked before, and when the ring is half full, once per sixteenth.
            let waiting = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
            let is_step = waiting >= RING_HALF && waiting & (RING_STEP - 1) < EVENT_ROOM;
            let flags = if is_late || is_step { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
            EVENTS.output::<Event>(event, u64::from(flags)).is_ok()
        }

        #[inline(always)]
        fn count(&self, counter: Counter) {
            // Nothing is added: interfaces are numbered with 31 bits. But the verifier does not know that, and with a key
            // that it knows it would follow every reason separately through all that comes between.
            if let Some(count) = COUNTERS.get_ptr_mut(counter as u32 + (self.interface >> 31)) {
                // SAFETY: per-CPU memory, and the program is not preempted by itself.
                unsafe { *count += 1 };
            }
        }

        #[inline(always)]
        fn now(&self) -> BootSecs {
            // Asking the clock costs a third of an answer (it waits for every load before it), so it is asked once a tick.
            // SAFETY: helpers without arguments, and per-CPU memory; the program is not preempted by itself.
            unsafe {
                let tick = bpf_jiffies64();
                let Some(kept) = CLOCK.get_ptr_mut(0) else { return BootSecs::new(u32::MAX) };
                clock::now(&mut *kept, tick, || bpf_ktime_get_boot_ns())
            }
        }

        #[inline(always)]
        fn interface(&self) -> u32 {
            self.interface
        }

        #[inline(always)]
        fn random(&self) -> u32 {
            // SAFETY: a helper without arguments.
            unsafe { bpf_get_prandom_u32() }
        }

        #[inline(always)]
        fn source(&self, index: u32) -> Option<Source> {
            let source = SOURCES.get_ptr(index)?;
            // SAFETY: the word is aligned to 8 bytes and read at once; another processor may have stored it.
            Some(unsafe { mem::transmute::<u64, Source>(source.cast::<u64>().read_volatile()) })
        }

        #[inline(always)]
        fn store_source(&self, index: u32, source: Source) {
            if let Some(place) = SOURCES.get_ptr_mut(index) {
                // SAFETY: as above; two processors that store at once lose one token, which favours the client.
                unsafe { place.cast::<u64>().write_volatile(mem::transmute::<Source, u64>(source)) };
            }
        }
    }

    /// Answers what may be answered, passes everything else.
    #[xdp]
    pub(crate) fn xdhcpd(context: XdpContext) -> u32 {
        // SAFETY: the context outlives the program's run.
        let interface = unsafe { (*context.ctx).ingress_ifindex };
        obey(&mut Packet::new(context), &Maps { interface })
    }

    /// Decides, counts, and turns the verdict into the kernel's code.
    #[inline(always)]
    pub(crate) fn obey(packet: &mut Packet, maps: &Maps) -> u32 {
        let verdict = decide::answer_in_place(packet, maps);
        #[cfg(feature = "trace")]
        trace(packet, verdict);
        match verdict {
            Verdict::Transmit => {
                maps.count(Counter::Answered);
                xdp_action::XDP_TX
            }
            Verdict::Pass(reason) => {
                maps.count(reason);
                xdp_action::XDP_PASS
            }
            Verdict::Drop(reason) => {
                maps.count(reason);
                xdp_action::XDP_DROP
            }
        }
    }

    /// Says what became of a frame that is DHCP (`xdhcpd --fast-path-object`).
    #[cfg(feature = "trace")]
    #[inline(always)]
    fn trace(packet: &Packet, verdict: Verdict) {
        let (word, reason) = match verdict {
            Verdict::Transmit => ("answered", Counter::Answered),
            Verdict::Pass(Counter::NotIpv4 | Counter::NotDhcp) => return,
            Verdict::Pass(reason) => ("passed up", reason),
            Verdict::Drop(reason) => ("dropped", reason),
        };
        aya_log_ebpf::debug!(&packet.context, "{}: {}", word, reason.name());
    }

    /// The licence the kernel asks for before it lends its helpers.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "license")]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
}
