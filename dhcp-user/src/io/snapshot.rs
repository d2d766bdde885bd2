//! Pictures of the running server for operators: what the engine, the kernel and the sockets know, in one answer.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr};

use dhcp_ebpf::{abi::Counter, wire::dhcp::HwAddr};

use crate::{
    control::message::{
        Answer, FastPath as FastPathReport, Interface, Journal, Page, Peer, Pool, ROWS_MAX, Replies, Row, Sockets,
        Status,
    },
    engine::{Server, port::Verbs as _},
    io::{
        agent::Parts,
        fastpath::{FastPath, Mode},
        frame::Refusal,
    },
    lease::{
        Lease,
        time::{Now, WallTime},
    },
};

/// What the server does.
pub(super) fn status(parts: &mut Parts, fast_path: &dyn FastPath, now: Now) -> Answer {
    let engine = parts.server.status();
    let counters = fast_path.counters();
    let sockets = parts.network.counts();
    let kernel: BTreeMap<String, u64> =
        Counter::ALL.iter().zip(counters).map(|(counter, count)| (counter.name().to_owned(), count)).collect();
    let answered = kernel.get(Counter::Answered.name()).copied().unwrap_or(0);
    let refused = Refusal::ALL.iter().map(|refusal| refusal.name()).zip(sockets.refused);
    Answer::Status(Box::new(Status {
        server: format!("xdhcpd {}", env!("CARGO_PKG_VERSION")),
        pid: std::process::id(),
        uptime_secs: now.boot.since(parts.about.started).as_secs(),
        generation: engine.generation,
        config: parts.about.config.display().to_string(),
        leases: parts.about.leases.display().to_string(),
        interfaces: interfaces(parts, fast_path),
        replies: Replies { kernel: answered, agent: engine.sent.iter().map(|(_, count)| count).sum() },
        received: all(engine.received),
        sent: all(engine.sent),
        ignored: counted(engine.ignored),
        kernel,
        sockets: Sockets {
            received: sockets.received,
            sent: sockets.sent,
            unsent: sockets.unsent,
            overrun: sockets.overrun,
            refused: counted(refused),
        },
        fast_path: FastPathReport {
            enabled: engine.fast_path.enabled,
            armed: engine.fast_path.armed as u64,
            templates: engine.fast_path.templates as u64,
            arms: engine.fast_path.arms,
            extensions: engine.fast_path.extensions,
            renewals: engine.fast_path.renewals,
            revoked: engine.fast_path.revoked,
            not_armed: counted(engine.fast_path.not_armed),
        },
        journal: Journal {
            appended: engine.journal.appended.0,
            durable: engine.journal.durable.0,
            waiting: engine.journal.waiting as u64,
            failure: engine.journal.failure,
        },
        pools: engine
            .pools
            .into_iter()
            .map(|pool| Pool {
                network: pool.network,
                ranges: pool.ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect(),
                peer: pool.peer,
                total: pool.total,
                free: pool.free,
                backup: pool.backup,
                active: pool.active,
                expired: pool.expired,
                released: pool.released,
                abandoned: pool.abandoned,
                reset: pool.reset,
            })
            .collect(),
        peers: engine
            .peers
            .into_iter()
            .map(|peer| Peer {
                name: peer.name,
                role: if peer.is_primary { "primary" } else { "secondary" }.to_owned(),
                my_state: peer.my_state.to_owned(),
                my_since: peer.my_since,
                partner_state: peer.partner_state.to_owned(),
                partner_since: peer.partner_since,
                service: peer.service.to_owned(),
                serving: peer.is_serving,
            })
            .collect(),
    }))
}

fn interfaces(parts: &Parts, fast_path: &dyn FastPath) -> Vec<Interface> {
    let attachments = fast_path.attachments();
    parts
        .network
        .interfaces()
        .map(|interface| {
            let attachment = attachments.iter().find(|attachment| attachment.interface == interface.index);
            Interface {
                name: interface.name.clone(),
                index: interface.index.0,
                mac: HwAddr::ethernet(interface.mac).to_string(),
                addresses: interface.addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect(),
                up: interface.is_up,
                xdp: attachment.map_or(Mode::Off, |attachment| attachment.mode).to_string(),
                why: attachment.map(|attachment| attachment.why.clone()).unwrap_or_default(),
            }
        })
        .collect()
}

fn all(counts: Vec<(&'static str, u64)>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn counted(counts: impl IntoIterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
}

/// A page of leases, with what the kernel granted since the engine last heard of it.
pub(super) fn leases(
    server: &Server,
    fast_path: &dyn FastPath,
    from: Option<Ipv4Addr>,
    limit: Option<usize>,
    now: Now,
) -> Answer {
    let count = limit.unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX);
    let (leases, next) = server.table().slice(from.unwrap_or(Ipv4Addr::UNSPECIFIED), count);
    Answer::Leases(Page { rows: leases.iter().map(|lease| row(lease, fast_path, now)).collect(), next })
}

fn row(lease: &Lease, fast_path: &dyn FastPath, now: Now) -> Row {
    let mut ends = lease.ends;
    let mut contact = lease.cltt;
    let mut starts = lease.starts;
    let mut answered_by = "agent";
    if let Some(renewal) = fast_path.renewal(lease.address).filter(|renewal| renewal.at.secs() != 0) {
        let at = now.wall_of(renewal.at);
        // The two clocks are rounded to seconds apart from each other.
        if at.after(1) >= lease.cltt {
            answered_by = "kernel";
            contact = contact.max(at);
            starts = starts.max(at);
            ends = ends.max(now.wall_of(renewal.until));
        }
    }
    let known = |time: WallTime| time.is_some().then(|| time.secs());
    Row {
        address: lease.address,
        state: lease.state.name().to_owned(),
        starts: known(starts),
        ends: known(ends),
        horizon: known(lease.tstp),
        last_contact: known(contact),
        answered_by: answered_by.to_owned(),
        hardware: lease.hw.map(|hw| hw.to_string()),
        client_id: lease.client_id.as_deref().map(hexadecimal),
        hostname: lease.hostname.as_deref().map(|name| String::from_utf8_lossy(name).into_owned()),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{byte:02x}", if text.is_empty() { "" } else { ":" });
        text
    })
}
