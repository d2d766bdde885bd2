//! Replies per second over a cable: native XDP on both ends of a veth, fed with live frames, beside a reflector that
//! only swaps addresses, and one that reads and marks the sender's lease too, on the same frames in the same run.
//!
//! ```text
//!   client ns                             server ns
//!     c0 bench_generate (XDP_TX) -------->  s0 xdhcpd, bench_reflect, bench_touch
//!        bench_sink (count, drop) <-------     (XDP_TX)
//! ```
//!
//! Generator, cable and server share a processor, as a veth does by default. The sink tells replies from frames that
//! are none, so a reflected frame is never counted as an answer.

use anyhow::{Context as _, Result, bail};
use aya::{maps::Array, programs::xdp::XdpMode};
use dhcp_user::{
    engine::port::InterfaceIndex,
    io::{clock, fastpath::FastPath as _},
};
use tests::lab::{self, Namespace};

use crate::{
    ROUNDS,
    cycles::{FIRST, armed, first_frame},
    generator::{Clients, Generator},
    median, say,
};

/// Frames of one round.
const FRAMES: u32 = 2_000_000;

/// Measures with this many leases, and prints.
pub(crate) fn measure(object: &[u8], clients: u32, wanted: Option<f64>) -> Result<()> {
    let (server, client) = (Namespace::new("server")?, Namespace::new("client")?);
    lab::veth(&server, "s0", &client, "c0")?;
    let of_server = index_of(&server, "s0")?;
    let of_client = index_of(&client, "c0")?;
    server.enter(|| play(object, clients, of_server, &client, of_client, wanted))?
}

fn play(
    object: &[u8],
    clients: u32,
    of_server: u32,
    client: &Namespace,
    of_client: u32,
    wanted: Option<f64>,
) -> Result<()> {
    let mut kernel = armed(object, clients, of_server)?;
    let mut counts: Array<_, [u32; 2]> = Array::try_from(kernel.map_mut("BENCH_CLIENTS").context("no BENCH_CLIENTS")?)?;
    counts.set(0, [clients, FIRST], 0)?;
    let frame = first_frame()?;
    let generate = || {
        client.enter(|| {
            let whose = Clients::Random { count: clients, first: FIRST, frame: &frame };
            Generator::new(object, of_client, whose)?.rate(FRAMES)
        })?
    };
    let mirrors = ["bench_reflect", "bench_touch"];
    for name in mirrors {
        kernel.program_named(name)?.load()?;
    }
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (name, rates) in mirrors.into_iter().zip(&mut rates) {
            let link = kernel.program_named(name)?.attach_to_if_index(of_server, XdpMode::Driver)?;
            let (replies, others) = generate()?;
            kernel.program_named(name)?.detach(link)?;
            if replies > 0.0 || others == 0.0 {
                bail!("a reflector gave replies, or nothing at all");
            }
            rates.push(others);
        }
        kernel.heartbeat(clock::now().boot);
        kernel.attach(InterfaceIndex(of_server), "s0")?;
        let (replies, others) = generate()?;
        // Off all interfaces; the switch is turned back on for the next round.
        kernel.serve(&[]);
        if others > 0.0 {
            bail!("a frame came back that is no reply");
        }
        rates[2].push(replies);
    }
    let [reflected, touched, answered] = rates.map(|rates| median(&rates).unwrap_or(0.0));
    println!("{clients:>9} clients over a veth, medians of {ROUNDS} rounds of {FRAMES} live frames, interleaved:");
    println!("  reflector                           {:.2} M/s", reflected / 1e6);
    println!(
        "  reflector that marks the lease      {:.2} M/s, {:.0} % of the reflector",
        touched / 1e6,
        100.0 * touched / reflected
    );
    println!(
        "  replies of xdhcpd                   {:.2} M/s, {:.0} % of that",
        answered / 1e6,
        100.0 * answered / touched
    );
    let percent = 100.0 * answered / reflected;
    let what = format!("{clients} leases over a veth: {percent:.0} % of the reflector");
    match wanted {
        Some(wanted) => say(percent >= wanted, &format!("{what} (at least {wanted:.0} %)")),
        None => println!("  {what}"),
    }
    Ok(())
}

pub(crate) fn index_of(namespace: &Namespace, interface: &str) -> Result<u32> {
    let text = namespace.ip(&format!("-o link show {interface}"))?;
    text.split(':').next().and_then(|number| number.trim().parse().ok()).context("ip shows no index")
}
