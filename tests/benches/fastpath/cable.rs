//! Replies per second over a cable: native XDP on both ends of a veth, fed with live frames
//! (BPF_F_TEST_XDP_LIVE_FRAMES), beside a reflector that only swaps addresses, on the same frames in the same run.
//!
//! ```text
//!   client ns                             server ns
//!     c0 bench_generate (XDP_TX) -------->  s0 xdhcpd, or bench_reflect
//!        bench_sink (count, drop) <-------     (XDP_TX)
//! ```
//!
//! Generator, cable and server share a processor, as a veth does by default. The sink tells replies from frames that
//! are none, so a reflected frame is never counted as an answer.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, TestRun as _,
    maps::{Array, PerCpuArray},
    programs::{TestRunAttrs, TestRunOptions, Xdp, xdp::XdpMode},
};
use dhcp_user::{
    engine::port::InterfaceIndex,
    io::{clock, fastpath::FastPath as _},
};
use tests::lab::{self, Namespace};

use crate::{
    ROUNDS,
    cycles::{FIRST, armed, first_frame},
    median,
};

/// Frames of one round.
const FRAMES: u32 = 2_000_000;
/// Frames that the generator has on the way at once.
const BATCH: u32 = 64;

/// What came back of one round.
#[derive(Debug, Clone, Copy)]
struct Back {
    replies: f64,
    others: f64,
}

/// Measures with this many leases, and prints.
pub(crate) fn measure(object: &[u8], clients: u32) -> Result<()> {
    let (server, client) = (Namespace::new("server")?, Namespace::new("client")?);
    lab::veth(&server, "s0", &client, "c0")?;
    let of_server = index_of(&server, "s0")?;
    let of_client = index_of(&client, "c0")?;
    server.enter(|| play(object, clients, of_server, &client, of_client))?
}

fn play(object: &[u8], clients: u32, of_server: u32, client: &Namespace, of_client: u32) -> Result<()> {
    let mut kernel = armed(object, clients, of_server)?;
    kernel.program_named("bench_reflect")?.load()?;
    let (mut reflected, mut answered) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let link = kernel.program_named("bench_reflect")?.attach_to_if_index(of_server, XdpMode::Driver)?;
        let back = client.enter(|| generate(object, clients, of_client))??;
        kernel.program_named("bench_reflect")?.detach(link)?;
        if back.replies > 0.0 {
            bail!("a reflector gave replies");
        }
        reflected.push(back.others);

        kernel.heartbeat(clock::now().boot);
        kernel.attach(InterfaceIndex(of_server), "s0")?;
        let back = client.enter(|| generate(object, clients, of_client))??;
        // Off all interfaces; the switch is turned back on for the next round.
        kernel.serve(&[]);
        if back.others > 0.0 {
            bail!("a frame came back that is no reply");
        }
        answered.push(back.replies);
    }
    let (reflected, answered) = (median(&reflected).unwrap_or(0.0), median(&answered).unwrap_or(0.0));
    println!(
        "{clients:>9} clients over a veth, {ROUNDS} rounds of {FRAMES} live frames (median): reflector {:.2} M/s, \
         replies {:.2} M/s, {:.0} %",
        reflected / 1e6,
        answered / 1e6,
        100.0 * answered / reflected
    );
    Ok(())
}

/// Transmits the renewals of random clients, and says what came back per second. Called in the client's namespace.
fn generate(object: &[u8], clients: u32, interface: u32) -> Result<Back> {
    let mut ebpf = Ebpf::load(object)?;
    let (padded, len) = first_frame()?;
    let frame = padded.get(..len).context("the frame is longer than its room")?;
    let mut frames: Array<_, [u8; 344]> = Array::try_from(ebpf.map_mut("BENCH_FRAME").context("no BENCH_FRAME")?)?;
    frames.set(0, padded, 0)?;
    let mut counts: Array<_, [u32; 2]> = Array::try_from(ebpf.map_mut("BENCH_CLIENTS").context("no BENCH_CLIENTS")?)?;
    counts.set(0, [clients, FIRST], 0)?;
    let sink: &mut Xdp = ebpf.program_mut("bench_sink").context("no bench_sink")?.try_into()?;
    sink.load()?;
    sink.attach_to_if_index(interface, XdpMode::Driver)?;
    let generator: &mut Xdp = ebpf.program_mut("bench_generate").context("no bench_generate")?.try_into()?;
    generator.load()?;

    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context: Vec<u8> =
        [0, len as u32, 0, interface, 0, 0].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.ctx_in = Some(&context);
    options.repeat = FRAMES;
    options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
    let begun = lab::now();
    generator.test_run(options)?;
    let elapsed = begun.elapsed();
    // What is still on its way is counted too: a cable's length more.
    std::thread::sleep(Duration::from_millis(20));

    let back: PerCpuArray<_, u64> = PerCpuArray::try_from(ebpf.map("BENCH_BACK").context("no BENCH_BACK")?)?;
    let sum = |index: u32| back.get(&index, 0).map(|values| values.iter().sum::<u64>() as f64);
    let secs = elapsed.as_secs_f64();
    Ok(Back { replies: sum(0)? / secs, others: sum(1)? / secs })
}

fn index_of(namespace: &Namespace, interface: &str) -> Result<u32> {
    let text = namespace.ip(&format!("-o link show {interface}"))?;
    text.split(':').next().and_then(|number| number.trim().parse().ok()).context("ip shows no index")
}
