//! Live frames (BPF_F_TEST_XDP_LIVE_FRAMES) out of one end of a cable, and what comes back to it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader, TestRun as _,
    maps::{Array, PerCpuArray},
    programs::{TestRunAttrs, TestRunOptions, Xdp, xdp::XdpMode},
};
use tests::lab;

/// Frames that are on the way at once.
const BATCH: u32 = 64;
/// Runs that show how long one takes.
const PACE_TRIED: u32 = 200_000;

/// Whose frames are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clients<'f> {
    /// Renewals of so many clients drawn at random, made of the frame of client 0 and its address.
    Random { count: u32, first: u32, frame: &'f [u8] },
    /// These frames, one after the other, all of one length.
    Table(&'f [Vec<u8>]),
}

/// A generator; the sink is attached while it lives.
pub(crate) struct Generator {
    ebpf: Ebpf,
    program: &'static str,
    first: Vec<u8>,
    interface: u32,
}

/// Frames that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Back {
    /// Replies.
    pub(crate) replies: u64,
    /// Frames that are none.
    pub(crate) others: u64,
}

impl Generator {
    /// Loads it for an interface of the calling thread's namespace, where all its methods are to be called.
    pub(crate) fn new(object: &[u8], interface: u32, clients: Clients<'_>) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        if let Clients::Table(frames) = clients {
            loader.map_max_entries("BENCH_TABLE", u32::try_from(frames.len())?);
        }
        let mut ebpf = loader.load(object)?;
        let (program, first, count) = match clients {
            Clients::Random { count, first, frame } => ("bench_generate", frame.to_vec(), [count, first]),
            Clients::Table(frames) => {
                let mut table: Array<_, [u8; 344]> =
                    Array::try_from(ebpf.map_mut("BENCH_TABLE").context("no BENCH_TABLE")?)?;
                for (number, frame) in frames.iter().enumerate() {
                    table.set(number as u32, padded(frame)?, 0)?;
                }
                ("bench_replay", frames.first().context("no frames")?.clone(), [frames.len() as u32, 0])
            }
        };
        let mut of_first: Array<_, [u8; 344]> =
            Array::try_from(ebpf.map_mut("BENCH_FRAME").context("no BENCH_FRAME")?)?;
        of_first.set(0, padded(&first)?, 0)?;
        let mut counts: Array<_, [u32; 2]> =
            Array::try_from(ebpf.map_mut("BENCH_CLIENTS").context("no BENCH_CLIENTS")?)?;
        counts.set(0, count, 0)?;
        let sink: &mut Xdp = ebpf.program_mut("bench_sink").context("no bench_sink")?.try_into()?;
        sink.load()?;
        sink.attach_to_if_index(interface, XdpMode::Driver)?;
        let generator: &mut Xdp = ebpf.program_mut(program).context("no generator")?.try_into()?;
        generator.load()?;
        Ok(Self { ebpf, program, first, interface })
    }

    /// Sends so many frames; how long that took.
    pub(crate) fn send(&mut self, count: u32) -> Result<Duration> {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let words = [0, self.first.len() as u32, 0, self.interface, 0, 0];
        let context: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let mut options = TestRunOptions::new();
        options.data_in = Some(&self.first);
        options.ctx_in = Some(&context);
        options.repeat = count;
        options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH.min(count));
        let program: &mut Xdp = self.ebpf.program_mut(self.program).context("no generator")?.try_into()?;
        let begun = lab::now();
        program.test_run(options)?;
        Ok(begun.elapsed())
    }

    /// What came back so far.
    pub(crate) fn back(&self) -> Result<Back> {
        let back: PerCpuArray<_, u64> = PerCpuArray::try_from(self.ebpf.map("BENCH_BACK").context("no BENCH_BACK")?)?;
        let sum = |index: u32| back.get(&index, 0).map(|values| values.iter().sum::<u64>());
        Ok(Back { replies: sum(0)?, others: sum(1)? })
    }

    /// Sends so many frames as fast as this thread can; what came back every second.
    pub(crate) fn rate(&mut self, count: u32) -> Result<(f64, f64)> {
        let before = self.back()?;
        let secs = self.send(count)?.as_secs_f64();
        // What is still on its way is counted too: a cable's length more.
        std::thread::sleep(Duration::from_millis(20));
        let after = self.back()?;
        let rate = |after: u64, before: u64| (after - before) as f64 / secs;
        Ok((rate(after.replies, before.replies), rate(after.others, before.others)))
    }

    /// Sends so many frames a second for about as long as `window` says; what came back every second.
    pub(crate) fn paced(&mut self, per_sec: f64, window: Duration) -> Result<f64> {
        let mut pace: Array<_, [u64; 2]> = Array::try_from(self.ebpf.map_mut("BENCH_PACE").context("no BENCH_PACE")?)?;
        pace.set(0, [(1e9 / per_sec) as u64, 0], 0)?;
        // What is not due is a run as well: how many fit into the window is tried first.
        let tried = self.send(PACE_TRIED)?;
        let count = f64::from(PACE_TRIED) * window.as_secs_f64() / tried.as_secs_f64();
        self.rate(count as u32).map(|(replies, _)| replies)
    }
}

/// A frame as the maps of the bench want it.
pub(crate) fn padded(frame: &[u8]) -> Result<[u8; 344]> {
    let mut padded = [0; 344];
    padded.get_mut(..frame.len()).context("the frame is longer than its room")?.copy_from_slice(frame);
    Ok(padded)
}
