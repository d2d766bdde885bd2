//! Nanoseconds per frame of the XDP program (BPF_PROG_TEST_RUN). Every run of a program makes the renewal of a random
//! client first; what that costs is measured alone (`bench_make`) and subtracted. Programs take turns, round after
//! round.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use aya::{TestRun as _, maps::Array, programs::TestRunOptions};
use dhcp_ebpf::abi::{Counter, Generation, Template};
use dhcp_user::{
    engine::port::Arm,
    io::{
        clock,
        fastpath::FastPath as _,
        xdp::{Kernel, Wanted},
    },
    lease::time::BootTime,
};
use tests::{
    fastpath::{SERVER, SERVER_MAC, digest, key, template},
    frames::{Envelope, Message},
};

use crate::{ROUNDS, generator::padded, median, say};

const REPEAT: u32 = 1_000_000;
/// Address of client 0.
pub(crate) const FIRST: u32 = 0x0a00_0000;
/// How far the horizons are.
pub(crate) const LONG: Duration = Duration::from_secs(100_000);
const PROGRAMS: [&str; 5] = ["bench_drop", "bench_pass", "bench_make", "bench_answer", "bench_foreign"];

/// The program with the leases of this many clients, all armed for the interface they will seem to come in through.
pub(crate) fn armed(object: &[u8], clients: u32, interface: u32) -> Result<Kernel> {
    let key = key(7);
    let last = Ipv4Addr::from(FIRST + clients - 1);
    let mut kernel =
        Kernel::load_object(object, &[(Ipv4Addr::from(FIRST), last)], &key, Generation::new(1), Wanted::Native)?;
    let now = clock::now().boot;
    kernel.heartbeat(now);
    let answer = Arc::new(template(
        600,
        0,
        0,
        &[
            (1, &[255, 0, 0, 0]),
            (28, &[10, 255, 255, 255]),
            (3, &[192, 168, 150, 1]),
            (15, b"gsb.local"),
            (6, &[172, 16, 0, 10]),
        ],
    ));
    for number in 0..clients {
        let message = message(number);
        kernel.arm(&[arm_of(&message, digest(&message, interface, &key), &answer, now)?]);
    }
    Ok(kernel)
}

/// A renewal that is answered for a long time yet.
pub(crate) fn arm_of(message: &Message, digest: u64, answer: &Arc<Template>, now: BootTime) -> Result<Arm> {
    Ok(Arm {
        address: message.ciaddr,
        chaddr: *message.chaddr.first_chunk().context("chaddr holds 16 bytes")?,
        peer: 0,
        bucket: 0,
        horizon: now.after(LONG),
        questions: [Some((digest, Arc::clone(answer))), None, None],
    })
}

/// The frame of client 0.
pub(crate) fn first_frame() -> Result<Vec<u8>> {
    let first = message(0);
    let mut envelope = Envelope::unicast([2, 0, 0, 0, 0, 0], first.ciaddr, SERVER_MAC, SERVER);
    envelope.tos = 0;
    Ok(envelope.wrap(&first.bytes()))
}

/// The renewal of client `number`, 342 bytes as a frame.
fn message(number: u32) -> Message {
    let [a, b, c, d] = number.to_be_bytes();
    let mut message = Message::request(3, [2, 0, a, b, c, d], 0x1020_3040)
        .with(12, *b"Portable1")
        .with(55, [1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42]);
    message.ciaddr = Ipv4Addr::from(FIRST + number);
    message
}

/// Measures with this many leases, and prints.
pub(crate) fn measure(object: &[u8], clients: u32, wanted: Option<i64>) -> Result<()> {
    let mut kernel = armed(object, clients, 1)?;
    let frame = first_frame()?;
    let mut of_bench: Array<_, [u8; 344]> = Array::try_from(kernel.map_mut("BENCH_FRAME").context("no BENCH_FRAME")?)?;
    of_bench.set(0, padded(&frame)?, 0)?;
    let mut of_bench: Array<_, [u32; 2]> =
        Array::try_from(kernel.map_mut("BENCH_CLIENTS").context("no BENCH_CLIENTS")?)?;
    of_bench.set(0, [clients, FIRST], 0)?;
    for name in PROGRAMS {
        kernel.program_named(name)?.load()?;
    }

    let before = kernel.counters();
    let mut nanos = vec![Vec::new(); PROGRAMS.len()];
    for _ in 0..ROUNDS {
        for (of_program, name) in nanos.iter_mut().zip(PROGRAMS) {
            let mut out = vec![0; 2048];
            let mut options = TestRunOptions::new();
            options.data_in = Some(&frame);
            options.data_out = Some(&mut out);
            options.repeat = REPEAT;
            let result = kernel.program_named(name)?.test_run(options)?;
            let expected = match name {
                "bench_drop" | "bench_make" => 1,
                "bench_answer" => 3,
                _ => 2,
            };
            if result.return_value != expected {
                bail!("{name} returned {} instead of {expected}", result.return_value);
            }
            of_program.push(result.duration.as_nanos() as u64);
        }
    }
    let after = kernel.counters();
    let moved = |counter: Counter| after[counter as usize] - before[counter as usize];
    let runs = ROUNDS as u64 * u64::from(REPEAT);
    if moved(Counter::Answered) != runs || moved(Counter::NotDhcp) != runs {
        bail!(
            "not every run did what it should: {} answered, {} not DHCP",
            moved(Counter::Answered),
            moved(Counter::NotDhcp)
        );
    }

    let median = |name: &str| {
        let of_program = PROGRAMS.iter().zip(&nanos).find(|(program, _)| **program == name);
        of_program.and_then(|(_, nanos)| median(nanos)).unwrap_or(0) as i64
    };
    println!(
        "{clients:>9} clients, {} byte frames, {ROUNDS} rounds of {REPEAT} runs, ns per run (median):",
        frame.len()
    );
    for name in PROGRAMS {
        println!("  {name:<14} {:>5}", median(name));
    }
    // A repeated run gets the frame as the last one left it, so every run makes its frame; "XDP_DROP of the same frame"
    // is then `bench_make`.
    let renewal = median("bench_answer") - median("bench_make");
    let foreign = median("bench_foreign") - median("bench_make") - (median("bench_pass") - median("bench_drop"));
    let what = format!("armed renewal, {clients} leases: {renewal} ns above making and dropping the frame");
    match wanted {
        Some(wanted) => {
            say(renewal <= wanted, &format!("{what} (at most {wanted})"));
            say(foreign <= 15, &format!("a frame that is not DHCP: {foreign} ns above XDP_PASS (at most 15)"));
        }
        None => println!("  {what}"),
    }
    Ok(())
}
