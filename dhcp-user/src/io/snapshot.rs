//! Pictures of the running server for operators: what the engine, the kernel and the sockets know, in one answer.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr};

use dhcp_ebpf::{
    abi::{Counter, Renewal, ShieldMode},
    wire::dhcp::HwAddr,
};

use crate::{
    control::failover::{Bounds, Loss, Made, Order, Relationship, Share, Transition, Updates},
    control::message::{
        Ages, Answer, FastPath as FastPathReport, FastPathPage, Guard as GuardReport, Interface, Journal, Miss, Page,
        Peer, Pool, ROWS_MAX, Replies, Row, Shadow, Shield, Sockets, Status, Suspect,
    },
    engine::{
        self, Server,
        port::{Input, PeerInput, Verbs as _},
    },
    failover::{self, Service, endpoint::Outlook},
    io::{
        agent::Parts,
        fastpath::{FastPath, Mode},
        frame::Refusal,
        peers::LinkStatus,
        watch::{Watch, meaning},
        xdp::Guard,
    },
    lease::{
        Lease,
        time::{Now, WallTime},
    },
};

/// What the server does.
pub(super) fn status(parts: &mut Parts, shed: u64, fast_path: &dyn FastPath, now: Now) -> Answer {
    let engine = parts.server.status();
    let journal = parts.journal.status();
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
            shield: fast_path.guard().map(|guard| shield(guard, &counters)),
        },
        guard: GuardReport {
            mode: engine.guard.mode.to_owned(),
            seen: counted(engine.guard.seen),
            refused: counted(engine.guard.refused),
            metered: engine.guard.metered as u64,
            suspects: engine
                .guard
                .suspects
                .into_iter()
                .map(|suspect| Suspect {
                    place: suspect.place,
                    what: suspect.what.to_owned(),
                    count: suspect.count,
                    leases: suspect.leases,
                })
                .collect(),
        },
        storm: counted(engine.storm.into_iter().chain([("shed-by-source", shed)])),
        journal: Journal {
            appended: engine.journal.appended.0,
            durable: engine.journal.durable.0,
            waiting: engine.journal.waiting as u64,
            commits: journal.commits,
            file_len: journal.live_len,
            compactions: journal.compactions,
            longest_stall_us: journal.longest_stall_us,
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
        links_refused: counted(parts.peers.refused()),
        peers: engine
            .peers
            .into_iter()
            .enumerate()
            .map(|(number, peer)| Peer {
                name: peer.name,
                role: if peer.is_primary { "primary" } else { "secondary" }.to_owned(),
                my_state: peer.my_state.to_owned(),
                my_since: peer.my_since,
                partner_state: peer.partner_state.to_owned(),
                partner_since: peer.partner_since,
                service: peer.service.to_owned(),
                serving: peer.is_serving,
                connected: peer.traffic.is_connected,
                link_protected: parts.peers.link(number).is_protected,
                heard_secs_ago: peer.traffic.heard_secs_ago,
                mclt_secs: peer.traffic.mclt_secs,
                updates_queued: peer.traffic.updates_queued as u64,
                updates_in_flight: peer.traffic.updates_in_flight as u64,
                lag_secs: peer.traffic.updates_lag_secs,
                updates_held: peer.traffic.updates_held as u64,
                updates: updates(&peer.traffic.counters),
            })
            .collect(),
    }))
}

fn shield(guard: &Guard, counters: &[u64; Counter::COUNT]) -> Shield {
    let sum = |of: [Counter; 3]| of.iter().filter_map(|counter| counters.get(*counter as usize)).sum();
    Shield {
        mode: match guard.mode {
            ShieldMode::Off => "off",
            ShieldMode::Monitor => "monitor",
            ShieldMode::Enforce => "enforce",
        }
        .to_owned(),
        discover_rate: guard.discover_rate,
        discover_burst: guard.discover_burst,
        access_ports: guard.access_ports.clone(),
        seen: sum([Counter::FloodSeen, Counter::MalformedSeen, Counter::SpoofSeen]),
        dropped: sum([Counter::FloodDropped, Counter::MalformedDropped, Counter::SpoofDropped]),
    }
}

/// How the failover relationships stand.
pub(super) fn failover(parts: &mut Parts, now: Now) -> Answer {
    let all = parts.server.failover_status(now).into_iter().enumerate();
    Answer::Failover(all.map(|(number, status)| relationship(status, parts.peers.link(number))).collect())
}

/// Follows an operator's order, or says why not.
pub(super) fn order(server: &mut Server, peer: Option<&str>, order: Order, now: Now) -> Answer {
    let command = match order {
        Order::PartnerDown => failover::Command::PartnerDown,
        Order::Resume => failover::Command::Resume,
        Order::Shutdown => failover::Command::Shutdown,
        Order::Pause => failover::Command::Pause,
    };
    let number = match server.find_peer(peer).and_then(|number| server.may(number, command).map(|()| number)) {
        Ok(number) => number,
        Err(why) => return Answer::Error(why),
    };
    server.handle(Input::Peer(PeerInput::Command { peer: number, command }), now);
    match server.status().peers.into_iter().nth(number) {
        Some(peer) => Answer::Done(format!("failover peer {}: {}, {}", peer.name, peer.my_state, peer.service)),
        None => Answer::Error("the relationship is gone".to_owned()),
    }
}

fn relationship(status: failover::Status, link: LinkStatus) -> Relationship {
    let count = |count: usize| count as u64;
    let traffic = &status.traffic;
    let serves = match status.service {
        Service::Startup | Service::NotResponding => "this server answers nobody in these pools".to_owned(),
        Service::NotCooperating => "the partner is out of reach, this server answers everybody within MCLT".to_owned(),
        Service::PartnerDown => "this server answers everybody, alone".to_owned(),
        Service::Cooperating => match status.load_balance_secs_max {
            0 => "both servers answer every new client (no `load balance max seconds`)".to_owned(),
            secs => format!(
                "this server answers {} of 256 parts of the new clients, and whoever has waited longer than {secs} s; \
                 renewals are answered by whom they are sent to",
                status.own_buckets
            ),
        },
    };
    Relationship {
        name: status.name,
        role: match status.role {
            failover::Role::Primary => "primary",
            failover::Role::Secondary => "secondary",
        }
        .to_owned(),
        my_state: status.state.name().to_owned(),
        my_since: status.since.secs(),
        partner_state: status.partner.name().to_owned(),
        partner_since: status.partner_since.secs(),
        connected: traffic.is_connected,
        partner_is_ours: status.is_partner_ours,
        heard_secs_ago: traffic.heard_secs_ago,
        link_protected: link.is_protected,
        link_trouble: link.trouble,
        service: status.service.name().to_owned(),
        serves,
        mclt_secs: status.mclt_secs,
        pools: (0_u32..)
            .zip(&status.pools)
            .map(|(pool, counts)| Share { pool, free: counts.free, backup: counts.backup, other: counts.other })
            .collect(),
        updates_queued: count(traffic.updates_queued),
        updates_in_flight: count(traffic.updates_in_flight),
        lag_secs: traffic.updates_lag_secs,
        updates_held: count(traffic.updates_held),
        request_outstanding: traffic.request_outstanding.map(count),
        if_partner_dies: status.outlook.map_or_else(Loss::default, |Outlook { loss, .. }| Loss {
            renewals_covered_until: loss.renewals_covered_until.map(WallTime::secs),
            own_addresses: loss.own_addresses,
            takeover_complete: loss.takeover_complete.secs(),
        }),
        bounds: status.outlook.map_or_else(Bounds::default, |Outlook { bounds, .. }| Bounds {
            active: bounds.active,
            acknowledged: bounds.acknowledged,
            soonest: bounds.soonest.map(WallTime::secs),
            latest: bounds.latest.map(WallTime::secs),
            unlimited: bounds.is_unlimited,
        }),
        differences: traffic.counters.differing_facts.clone(),
        timeline: status
            .timeline
            .iter()
            .map(|step| Transition {
                at: step.at.secs(),
                who: if step.is_mine { "me" } else { "partner" }.to_owned(),
                from: step.from.name().to_owned(),
                to: step.to.name().to_owned(),
            })
            .collect(),
        transitions: status
            .transitions
            .iter()
            .map(|((is_mine, from, to), made)| Made {
                who: if *is_mine { "me" } else { "partner" }.to_owned(),
                from: from.name().to_owned(),
                to: to.name().to_owned(),
                count: made.count,
                last: made.last.secs(),
            })
            .collect(),
        updates: updates(&traffic.counters),
    }
}

const fn updates(counters: &failover::endpoint::Counters) -> Updates {
    Updates {
        sent: counters.updates_sent,
        acked: counters.updates_acked,
        rejected: counters.updates_rejected,
        repeated: counters.updates_repeated,
        received: counters.updates_received,
        refused: counters.updates_refused,
        malformed: counters.malformed,
    }
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
                note: attachment.map(|attachment| attachment.note.clone()).unwrap_or_default(),
            }
        })
        .collect()
}

/// How the fast path does.
pub(super) fn fast_path(parts: &mut Parts, fast_path: &dyn FastPath, watch: &Watch, now: Now) -> Answer {
    let engine = parts.server.status();
    let counters = fast_path.counters();
    let of = |counter: Counter| counters.get(counter as usize).copied().unwrap_or_default();
    // What is no DHCP request to this port was never to be answered; the rest is counted once each.
    let is_no_miss = |counter: Counter| {
        matches!(
            counter,
            Counter::Answered
                | Counter::HorizonAsked
                | Counter::EventLost
                | Counter::NotIpv4
                | Counter::NotDhcp
                | Counter::FloodSeen
                | Counter::MalformedSeen
                | Counter::SpoofSeen
        )
    };
    let misses = Counter::ALL.into_iter().filter(|counter| !is_no_miss(*counter) && of(*counter) > 0);
    let mut misses: Vec<Miss> = misses
        .map(|counter| Miss {
            reason: counter.name().to_owned(),
            count: of(counter),
            meaning: meaning(counter).to_owned(),
        })
        .collect();
    misses.sort_by_key(|miss| std::cmp::Reverse(miss.count));
    let answered = of(Counter::Answered);
    let total = answered + misses.iter().map(|miss| miss.count).sum::<u64>();
    let ages = fast_path.ages(now.boot);
    Answer::FastPath(Box::new(FastPathPage {
        on: fast_path.is_switched_on(),
        interfaces: interfaces(parts, fast_path),
        answered,
        agent: engine.sent.iter().map(|(_, count)| count).sum(),
        hit_permille: (u128::from(answered) * 1000).checked_div(total.into()).map_or(0, |share| share as u64),
        misses,
        armed: engine.fast_path.armed as u64,
        templates: engine.fast_path.templates as u64,
        ages: Ages {
            sampled: ages.sampled as u64,
            horizon: ages.horizon,
            renewed: ages.renewed as u64,
            renewal: ages.renewal,
        },
        shadow: Shadow { one_of: watch.one_of(), checked: watch.checked(), alarm: watch.alarm().map(str::to_owned) },
    }))
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
    Answer::Leases(Page {
        rows: leases
            .iter()
            .map(|lease| {
                let mut row = with_kernel(lease, fast_path.renewal(lease.address), now);
                if let Some((agreed, until)) = server.bound(lease, now) {
                    row.agreed_until = agreed.is_some().then(|| agreed.secs());
                    row.extendable_until = until.map(WallTime::secs);
                }
                row
            })
            .collect(),
        next,
    })
}

/// Begins a rewrite of the leases file.
pub(super) fn compact(journal: &crate::io::journal::Journal) -> Answer {
    if journal.status().is_failed {
        return Answer::Error("the leases file cannot be written at present: see `xdhcpd status`".to_owned());
    }
    journal.compact();
    Answer::Done("the leases file is being rewritten in the background".to_owned())
}

/// A lease with what the kernel did last for it.
pub(super) fn with_kernel(lease: &Lease, renewal: Option<Renewal>, now: Now) -> Row {
    let mut ends = lease.ends;
    let mut contact = lease.cltt;
    let mut starts = lease.starts;
    let mut answered_by = "agent";
    if let Some(renewal) = renewal.filter(|renewal| renewal.at.secs() != 0) {
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
        agreed_until: None,
        extendable_until: None,
        last_contact: known(contact),
        answered_by: answered_by.to_owned(),
        hardware: lease.hw.map(|hw| hw.to_string()),
        random_mac: lease.hw.as_ref().is_some_and(engine::is_random),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        engine::EngineOptions,
        io::fastpath::Off,
        lease::{BindingState, Table, time::BootTime},
    };
    use dhcp_ebpf::abi::{BootSecs, DigestKey};

    const CONFIG: &str = "subnet 10.0.0.0 netmask 255.255.0.0 { range 10.0.1.0 10.0.9.255; }";

    fn now() -> Now {
        Now { boot: BootTime::from_secs(5000), wall: WallTime::from_secs(1_700_000_000) }
    }

    fn server(leases: impl IntoIterator<Item = Lease>) -> Server {
        let loaded = config::load("dhcpd.conf", &mut |_| Ok(CONFIG.as_bytes().to_vec()));
        let config = loaded.config.unwrap();
        let mut table = Table::new(&engine::layout(&config, [1, 2]));
        for lease in leases {
            table.put(lease);
        }
        Server::new(config, table, EngineOptions::new(1, DigestKey::draw(|| 7)), now())
    }

    fn lease(number: u32) -> Lease {
        let start = now().wall.secs();
        Lease {
            state: BindingState::Active,
            starts: WallTime::from_secs((start - 100).into()),
            ends: WallTime::from_secs((start + 500).into()),
            cltt: WallTime::from_secs((start - 100).into()),
            hw: HwAddr::new(1, &[2, 0, 0, 0, (number >> 8) as u8, number as u8]),
            hostname: Some(b"p\xe9c".to_vec().into()),
            client_id: Some([1, 0xab].into()),
            ..Lease::free(Ipv4Addr::from_bits(0x0a00_0100 + number))
        }
    }

    fn page(server: &Server, from: Option<Ipv4Addr>, limit: Option<usize>) -> Page {
        match leases(server, &Off::new("test"), from, limit, now()) {
            Answer::Leases(page) => page,
            other => panic!("no page: {other:?}"),
        }
    }

    #[test]
    fn pages_hold_every_lease_once_in_address_order() {
        for count in [0, 1, 255, 256, 257, 700] {
            let server = server((0..count).map(|number| lease(number * 3)));
            let mut seen = Vec::new();
            let mut from = None;
            loop {
                let page = page(&server, from, None);
                assert!(page.rows.len() <= ROWS_MAX);
                seen.extend(page.rows.iter().map(|row| row.address));
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
            let all: Vec<_> = (0..count).map(|number| lease(number * 3).address).collect();
            assert_eq!(seen, all, "{count} leases");
        }
    }

    #[test]
    fn a_page_is_never_larger_than_asked_for_nor_than_allowed() {
        let server = server((0..300).map(lease));
        assert_eq!(page(&server, None, Some(10)).rows.len(), 10);
        assert_eq!(page(&server, None, Some(0)).rows.len(), 1);
        assert_eq!(page(&server, None, Some(usize::MAX)).rows.len(), ROWS_MAX);
    }

    #[test]
    fn a_row_says_what_the_lease_says() {
        let row = page(&server([lease(1)]), None, None).rows.remove(0);
        assert_eq!((row.state.as_str(), row.answered_by.as_str()), ("active", "agent"));
        assert_eq!((row.starts, row.ends), (Some(1_699_999_900), Some(1_700_000_500)));
        assert_eq!(row.hardware.as_deref(), Some("02:00:00:00:00:01"));
        assert_eq!(row.client_id.as_deref(), Some("01:ab"));
        assert_eq!(row.hostname.as_deref(), Some("p\u{fffd}c"));
    }

    #[test]
    fn what_the_kernel_granted_meanwhile_is_in_the_visible_times() {
        let lease = lease(1);
        // Five seconds ago, for ten minutes.
        let renewal = Renewal { at: BootSecs::new(4995), until: BootSecs::new(5595) };
        let row = with_kernel(&lease, Some(renewal), now());
        assert_eq!(row.answered_by, "kernel");
        assert_eq!((row.starts, row.ends), (Some(1_699_999_995), Some(1_700_000_595)));
        assert_eq!(row.last_contact, Some(1_699_999_995));
        // Before the agent's last word: that counts.
        let stale = Renewal { at: BootSecs::new(4000), until: BootSecs::new(4600) };
        for renewal in [Some(stale), Some(Renewal::default()), None] {
            let row = with_kernel(&lease, renewal, now());
            assert_eq!(row.answered_by, "agent");
            assert_eq!(row.ends, Some(1_700_000_500));
        }
    }
}
