//! Arming through shared memory: a million leases, armed, moved, disarmed at once, armed anew.
//!
//! Nothing is attached; the program answers test runs while the agent arms, so "while serving" is seen and not believed.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use crate::{
    ROUNDS,
    cycles::{FIRST, LONG, arm_of},
    say,
};
use anyhow::{Result, ensure};
use aya::{TestRun as _, programs::TestRunOptions};
use dhcp_ebpf::abi::Generation;
use dhcp_user::{
    engine::port::Token,
    io::{
        clock,
        fastpath::FastPath as _,
        xdp::{Kernel, Wanted},
    },
};
use tests::{
    fastpath::{SERVER, SERVER_MAC, digest, key, template},
    frames::{Envelope, Message},
    lab::now,
};

const LEASES: u32 = 1_000_000;
/// Leases armed between two looks at a packet, as the event loop does.
const SLICE: usize = 1024;

fn message(number: u32) -> Message {
    let [a, b, c, d] = number.to_be_bytes();
    let mut message = Message::request(3, [2, 0, a, b, c, d], 0x1020_3040).with(12, *b"Portable1");
    message.ciaddr = Ipv4Addr::from(FIRST + number);
    message
}

/// Measures, and prints.
pub(crate) fn measure() -> Result<()> {
    let key = key(7);
    let last = Ipv4Addr::from(FIRST + LEASES - 1);
    let ranges = [(Ipv4Addr::from(FIRST), last)];
    let mut kernel = Kernel::load(&ranges, &key, Generation::new(1), Wanted::Generic)?;
    let boot = clock::now().boot;
    kernel.heartbeat(boot);
    let answer = Arc::new(template(600, 0, 0, &[(1, &[255, 0, 0, 0]), (15, b"gsb.local")]));
    let mut arms = Vec::with_capacity(LEASES as usize);
    for number in 0..LEASES {
        let message = message(number);
        arms.push(arm_of(&message, digest(&message, 1, &key), &answer, boot)?);
    }
    let probe = message(LEASES - 1);
    let frame = Envelope::unicast([2, 0, 0, 0, 0, 0], probe.ciaddr, SERVER_MAC, SERVER).wrap(&probe.bytes());
    let is_answered = |kernel: &mut Kernel| -> Result<bool> {
        let mut out = vec![0; 2048];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.data_out = Some(&mut out);
        Ok(kernel.program()?.test_run(options)?.return_value == 3)
    };

    let mut figures: Vec<(&str, Vec<Duration>)> = [
        "armed",
        "horizons moved (one store each)",
        "disarmed: nothing is answered",
        "emptied, places laid out",
        "armed anew while serving",
    ]
    .map(|name| (name, Vec::new()))
    .to_vec();
    let mut generation = Generation::new(1);
    for round in 0..ROUNDS {
        let begun = now();
        kernel.arm(&arms);
        figures[0].1.push(begun.elapsed());
        ensure!(is_answered(&mut kernel)?, "the last lease is not armed");

        let horizon = boot.after(LONG + Duration::from_secs(round as u64));
        let horizons: Vec<_> = arms.iter().map(|arm| (arm.address, horizon)).collect();
        let begun = now();
        kernel.extend(&horizons);
        figures[1].1.push(begun.elapsed());

        generation = generation.next();
        let begun = now();
        kernel.new_generation(Token(u64::from(generation.number())), generation, &ranges);
        figures[2].1.push(begun.elapsed());
        ensure!(!is_answered(&mut kernel)?, "a lease of the old generation is answered");
        while kernel.poll_revoked().is_none() {
            ensure!(begun.elapsed() < Duration::from_secs(10), "no grace period");
            std::thread::yield_now();
        }
        figures[3].1.push(begun.elapsed());

        let begun = now();
        let mut frames = 0;
        for slice in arms.chunks(SLICE) {
            kernel.arm(slice);
            is_answered(&mut kernel)?;
            frames += 1;
        }
        figures[4].1.push(begun.elapsed());
        ensure!(is_answered(&mut kernel)? && frames > 0, "the last lease is not armed anew");
    }
    println!("arming through shared memory, {LEASES} leases, medians of {ROUNDS}:");
    let mut medians = [Duration::ZERO; 5];
    for ((name, mut times), median) in figures.into_iter().zip(&mut medians) {
        times.sort_unstable();
        *median = times[times.len() / 2];
        let rate = f64::from(LEASES) / median.as_secs_f64();
        println!("  {name:<34} {:>8.1} ms  {:>6.1} M/s", median.as_secs_f64() * 1e3, rate / 1e6);
    }
    let [armed, moved, disarmed, emptied, again] = medians;
    for (what, median) in [("whole entries", armed), ("horizons", moved)] {
        let millions = f64::from(LEASES) / median.as_secs_f64() / 1e6;
        say(millions >= 10.0, &format!("arming, {what}: {millions:.1} M/s (at least 10)"));
    }
    let micros = disarmed.as_secs_f64() * 1e6;
    say(micros <= 1000.0, &format!("a new generation disarms all at once: {micros:.0} us, seen by a test run"));
    let secs = (emptied + again).as_secs_f64();
    say(secs <= 1.0, &format!("emptied and fully armed anew while serving: {secs:.2} s (at most 1)"));
    Ok(())
}
