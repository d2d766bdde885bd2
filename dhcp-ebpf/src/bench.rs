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
//!
//! and those that play over a cable, with live frames:
//!
//! ```text
//!   bench_generate  make the frame of a random client, transmit it
//!   bench_reflect   swap the addresses and ports of whatever comes, transmit it: as fast as an answer can be
//!   bench_touch     the same, and read the lease of the sender, and store when it was renewed: what nobody who answers
//!                   for a lease can do without
//!   bench_replay    make the next frame of the table, transmit it; at a pace, drop what comes between
//!   bench_sink      count replies, and what is none; drop both
//! ```

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    macros::{map, xdp},
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};
use dhcp_ebpf::{
    abi::Renewal,
    decide::Tables as _,
    frame::{Frame as _, FrameMut as _},
    wire::dhcp::BOOTREPLY,
};

use crate::program::{Maps, Packet, obey};

/// Length of the frames.
const FRAME_LEN: usize = 342;

/// The frame of client 0.
#[map]
static BENCH_FRAME: Array<[u8; 344]> = Array::with_max_entries(1, 0);
/// Number of clients, and the address of client 0.
#[map]
static BENCH_CLIENTS: Array<[u32; 2]> = Array::with_max_entries(1, 0);

/// Frames of clients that hold leases, for `bench_replay`; the bench sets the size when it loads the object.
#[map]
static BENCH_TABLE: Array<[u8; 344]> = Array::with_max_entries(1, 0);
/// Number of the frame that comes next.
#[map]
static BENCH_NEXT: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// Nanoseconds between two frames of `bench_replay` (zero: none), and when the next one is due.
#[map]
static BENCH_PACE: Array<[u64; 2]> = Array::with_max_entries(1, 0);
/// How late a frame may be that is made up for.
const PACE_LATE_NS_MAX: u64 = 2_000_000;

/// What came back: replies, and frames that are none.
#[map]
static BENCH_BACK: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

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

#[xdp]
pub(crate) fn bench_generate(context: XdpContext) -> u32 {
    match make(&mut Packet::new(context), false) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_ABORTED,
    }
}

/// Whether the next frame is due; who is late catches up, but for no more than some milliseconds.
#[inline(always)]
fn is_due() -> bool {
    let Some(pace) = BENCH_PACE.get_ptr_mut(0) else { return false };
    // SAFETY: only one processor generates; and a helper without arguments.
    unsafe {
        let [interval, due] = *pace;
        if interval == 0 {
            return true;
        }
        let now = bpf_ktime_get_ns();
        if now < due {
            return false;
        }
        (*pace)[1] = if due + PACE_LATE_NS_MAX < now { now } else { due } + interval;
    }
    true
}

/// Copies the next frame of the table over the frame.
#[inline(always)]
fn replay(packet: &mut Packet) -> Option<()> {
    let [count, _] = *BENCH_CLIENTS.get(0)?;
    let next = BENCH_NEXT.get_ptr_mut(0)?;
    // SAFETY: per-CPU memory, and the program is not preempted by itself.
    let number = unsafe {
        let number = *next;
        *next = if number + 1 < count { number + 1 } else { 0 };
        number
    };
    let frame = BENCH_TABLE.get(number)?;
    packet.resize(FRAME_LEN)?;
    packet.copy_from(0, frame, FRAME_LEN)
}

#[xdp]
pub(crate) fn bench_replay(context: XdpContext) -> u32 {
    if !is_due() {
        return xdp_action::XDP_DROP;
    }
    match replay(&mut Packet::new(context)) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_ABORTED,
    }
}

#[xdp]
pub(crate) fn bench_reflect(context: XdpContext) -> u32 {
    reflect(&mut Packet::new(context))
}

#[xdp]
pub(crate) fn bench_touch(context: XdpContext) -> u32 {
    let mut packet = Packet::new(context);
    let Some(from) = packet.read::<4>(26) else { return xdp_action::XDP_ABORTED };
    let Some([_, first]) = BENCH_CLIENTS.get(0).copied() else { return xdp_action::XDP_ABORTED };
    let maps = Maps { interface: 1 };
    let index = u32::from_be_bytes(from).wrapping_sub(first);
    let Some(entry) = maps.entry(index) else { return xdp_action::XDP_ABORTED };
    maps.store_renewal(index, Renewal { at: maps.now(), until: entry.horizon });
    reflect(&mut packet)
}

#[inline(always)]
fn reflect(packet: &mut Packet) -> u32 {
    let Some(headers) = packet.window_mut::<42>(0) else { return xdp_action::XDP_ABORTED };
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *headers;
    headers[..12].copy_from_slice(&[s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5]);
    let [a0, a1, a2, a3, b0, b1, b2, b3, p0, p1, q0, q1] = [
        headers[26],
        headers[27],
        headers[28],
        headers[29],
        headers[30],
        headers[31],
        headers[32],
        headers[33],
        headers[34],
        headers[35],
        headers[36],
        headers[37],
    ];
    headers[26..38].copy_from_slice(&[b0, b1, b2, b3, a0, a1, a2, a3, q0, q1, p0, p1]);
    xdp_action::XDP_TX
}

#[xdp]
pub(crate) fn bench_sink(context: XdpContext) -> u32 {
    let packet = Packet::new(context);
    let is_reply = packet.read::<1>(42) == Some([BOOTREPLY]);
    if let Some(count) = BENCH_BACK.get_ptr_mut(u32::from(!is_reply)) {
        // SAFETY: per-CPU memory, and the program is not preempted by itself.
        unsafe { *count += 1 };
    }
    xdp_action::XDP_DROP
}
