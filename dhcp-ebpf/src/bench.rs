//! Programs for `cargo xtask bench fastpath`: they make the frame of a different client for every run, since
//! BPF_PROG_TEST_RUN hands the mutated frame to the next repetition.
//!
//! ```text
//!   bench_drop      return XDP_DROP: what the test loop itself costs
//!   bench_pass      return XDP_PASS
//!   bench_make      make a frame, drop it: the baseline of the next two
//!   bench_answer    make a frame, answer it
//!   bench_foreign   make a frame that is not DHCP, ask the fast path
//! ```

use aya_ebpf::{
    bindings::xdp_action,
    helpers::bpf_get_prandom_u32,
    macros::{map, xdp},
    maps::Array,
    programs::XdpContext,
};
use dhcp_ebpf::frame::FrameMut as _;

use crate::program::{Maps, Packet, obey};

/// Length of the frames.
const FRAME_LEN: usize = 342;

/// The frame of client 0.
#[map]
static BENCH_FRAME: Array<[u8; 344]> = Array::with_max_entries(1, 0);
/// Number of clients, and the address of client 0.
#[map]
static BENCH_CLIENTS: Array<[u32; 2]> = Array::with_max_entries(1, 0);

/// Writes the renewal of a client drawn at random over the frame.
#[inline(always)]
fn make(packet: &mut Packet, is_foreign: bool) -> Option<()> {
    let frame = BENCH_FRAME.get(0)?;
    let [count, first] = *BENCH_CLIENTS.get(0)?;
    // SAFETY: a helper without arguments.
    let number = unsafe { bpf_get_prandom_u32() } % count.max(1);
    packet.resize(FRAME_LEN)?;
    packet.copy_from(0, frame, FRAME_LEN)?;
    let address = first.wrapping_add(number).to_be_bytes();
    let [a, b, c, d] = number.to_be_bytes();
    packet.write(6, [2, 0, a, b, c, d])?;
    packet.write(26, address)?;
    packet.write(42 + 12, address)?;
    packet.write(42 + 28, [2, 0, a, b, c, d])?;
    if is_foreign {
        packet.write(36, [0, 53])?;
    }
    Some(())
}

#[inline(always)]
fn answer(context: XdpContext, is_foreign: bool) -> u32 {
    let mut packet = Packet::new(context);
    if make(&mut packet, is_foreign).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    obey(&mut packet, &Maps { interface: 1 })
}

#[xdp]
pub(crate) fn bench_drop(_: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

#[xdp]
pub(crate) fn bench_pass(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[xdp]
pub(crate) fn bench_make(context: XdpContext) -> u32 {
    match make(&mut Packet::new(context), false) {
        Some(()) => xdp_action::XDP_DROP,
        None => xdp_action::XDP_ABORTED,
    }
}

#[xdp]
pub(crate) fn bench_answer(context: XdpContext) -> u32 {
    answer(context, false)
}

#[xdp]
pub(crate) fn bench_foreign(context: XdpContext) -> u32 {
    answer(context, true)
}
