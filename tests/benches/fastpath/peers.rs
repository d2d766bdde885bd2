//! Renewals a second beside dhcpd (which syncs every record) and Kea (leases in a file, never synced), by the same
//! clients with the same frames in one run; the rounds take turns, and every round starts a server anew.
//!
//! ```text
//!              live frames                                   a client in user space
//!   xdhcpd     as fast as one processor makes them, which    sendmmsg as fast as it can, replies counted by an XDP
//!              answers them as well                          program; and the closed loop of the peers, 512 in flight
//!   peers      at the pace of five that brings most          closed loop, 64 in flight
//!              replies
//! ```
//!
//! A peer has the first processor to itself, the clients the last one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::{
    lab::{self, Processor},
    load::{
        Herd, Plan, Stage, Talk,
        server::{self, Server, Setting},
    },
};

use crate::{
    ROUNDS,
    cable::index_of,
    generator::{Clients, Generator},
    median, say, take_last_processor,
};

/// Clients that renew, with every server.
const CLIENTS: usize = 4_096;
/// Live frames of one round.
const FRAMES: u32 = 2_000_000;
const WINDOW: Duration = Duration::from_secs(1);
/// Live frames a second that a peer is offered, in parts of what it answers from user space.
const PACES: [f64; 5] = [0.5, 0.7, 0.9, 1.1, 1.4];

/// Renewals a second.
#[derive(Debug, Clone, Copy)]
struct Rates {
    live: f64,
    user: f64,
}

/// A line of the table: its name, its rate, how many times dhcpd's and Kea's it is to be.
type Row = (&'static str, fn(&Rates) -> f64, [f64; 2]);

/// Measures, and prints.
pub(crate) fn measure(object: &[u8]) -> Result<()> {
    take_last_processor()?;
    let mut shown = Vec::new();
    for _ in 0..ROUNDS {
        for server in Server::ALL {
            let rates = play(object, server)?;
            eprintln!("{}: {:.0}/s by live frames, {:.0}/s from user space", server.name(), rates.live, rates.user);
            shown.push((server, rates));
        }
    }
    let of = |server: Server, rate: fn(&Rates) -> f64| {
        let rates: Vec<f64> = shown.iter().filter(|(of, _)| *of == server).map(|(_, rates)| rate(rates)).collect();
        median(&rates).unwrap_or(0.0)
    };
    println!("renewals/s of {CLIENTS} clients, medians of {ROUNDS} rounds, interleaved:");
    println!("{:<24}{:>14}{:>14}{:>14}", "", "xdhcpd", "dhcpd", "kea");
    let rates: [Row; 2] = [
        ("live frames", |rates| rates.live, [500.0, 40.0]),
        ("a client in user space", |rates| rates.user, [150.0, 10.0]),
    ];
    for (name, rate, _) in rates {
        let [ours, dhcpd, kea] = Server::ALL.map(|server| of(server, rate));
        println!("{name:<24}{ours:>14.0}{dhcpd:>14.0}{kea:>14.0}");
    }
    for (name, rate, wanted) in rates {
        for (peer, wanted) in [Server::Dhcpd, Server::Kea].into_iter().zip(wanted) {
            let times = of(Server::Xdhcpd, rate) / of(peer, rate);
            say(times >= wanted, &format!("{name}: {times:.0} times {} (at least {wanted:.0})", peer.name()));
        }
    }
    Ok(())
}

/// One round with one server.
fn play(object: &[u8], server: Server) -> Result<Rates> {
    let stage = Stage::new()?;
    let mut herd = stage.herd(1)?;
    let is_ours = server == Server::Xdhcpd;
    let pass = is_ours.then(|| stage.clients.attach_pass(Stage::CLIENTS)).transpose()?;
    let setting = Setting { fast_path: if is_ours { "native" } else { "off" }, ..Setting::default() };
    let _running = server::start(&stage, server, &setting, &mut herd)?;
    lease(&mut herd, CLIENTS)?;
    let frames = herd.renewals();
    let of_clients = index_of(&stage.clients, Stage::CLIENTS)?;
    if !is_ours {
        let user = closed(&mut herd, 64);
        // Live frames reach a veth that has a program.
        let _pass = stage.server.attach_pass(Stage::INTERFACE)?;
        let live = stage.clients.enter(|| {
            let mut generator = Generator::new(object, of_clients, Clients::Table(&frames))?;
            let paced = PACES.into_iter().map(|part| generator.paced(part * user, WINDOW / 2));
            let rates: Result<Vec<f64>> = paced.collect();
            let best = rates?.into_iter().max_by(f64::total_cmp).context("no pace")?;
            ensure!(best > 0.0, "{} answers no live frame", server.name());
            Ok::<_, anyhow::Error>(best)
        })??;
        return Ok(Rates { live, user });
    }
    drop(pass);
    let live = stage.clients.enter(|| {
        let mut generator = Generator::new(object, of_clients, Clients::Table(&frames))?;
        generator.send(CLIENTS as u32)?;
        Ok::<_, anyhow::Error>(generator.rate(FRAMES)?.0)
    })??;
    // The server's end has the first processor from here on, as the peers have.
    stage.server.receive_on(Stage::INTERFACE, Processor::First)?;
    let blasted = stage.clients.enter(|| {
        let generator = Generator::new(object, of_clients, Clients::Table(&frames))?;
        let sent = herd.blast(&frames, WINDOW);
        std::thread::sleep(Duration::from_millis(20));
        let replies = generator.back()?.replies;
        ensure!(replies > 0, "{sent} renewals, and no reply");
        Ok::<_, anyhow::Error>(replies as f64 / WINDOW.as_secs_f64())
    })??;
    let _pass = stage.clients.attach_pass(Stage::CLIENTS)?;
    let looped = closed(&mut herd, 512);
    eprintln!("xdhcpd, user space: {blasted:.0}/s blasted, {looped:.0}/s in a closed loop");
    Ok(Rates { live, user: blasted.max(looped) })
}

/// Lets so many clients get leases.
pub(crate) fn lease(herd: &mut Herd, count: usize) -> Result<()> {
    let begin = lab::now();
    while herd.lease_count() < count {
        ensure!(begin.elapsed() < Duration::from_secs(60), "only {} clients have leases", herd.lease_count());
        herd.run(&Plan { warm_up: Duration::ZERO, ..Plan::closed(Talk::Exchange, 64, WINDOW / 4) });
    }
    herd.keep(count);
    Ok(())
}

/// Renewals a second of a closed loop in user space.
fn closed(herd: &mut Herd, in_flight: usize) -> f64 {
    herd.run(&Plan::closed(Talk::Renewal, in_flight, WINDOW)).completed_per_sec
}
