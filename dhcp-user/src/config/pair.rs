//! The two files of a failover pair, side by side: what one says and the other denies is what clients stumble over.

use std::collections::HashSet;

use dhcp_ebpf::wire::option::code;

use super::Config;
use super::diagnostic::Diagnostic;
use super::lint::{evaluate_at, finding};
use super::model::{FailoverPeer, Host, Pool, Range};
use super::param::{LINK_KEY_FILE, Param};

/// Looks at the two files of a failover pair; the findings point into the first.
#[must_use]
pub fn lint_pair(ours: &Config, theirs: &Config) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for peer in &ours.failover_peers {
        let Some(other) = theirs.failover_peers.iter().find(|other| other.name == peer.name) else {
            findings.push(finding(peer.span, format!("the partner's file has no failover peer \"{}\"", peer.name), ""));
            continue;
        };
        pair_of_peers(ours, peer, theirs, other, &mut findings);
    }
    for pool in ours.pools.iter().filter(|pool| pool.failover.is_some()) {
        for range in &pool.ranges {
            let same =
                theirs.pools.iter().filter(|other| other.failover.is_some()).any(|other| {
                    other.ranges.iter().any(|other| (other.first, other.last) == (range.first, range.last))
                });
            if !same {
                findings.push(finding(
                    range.span,
                    format!("the partner's file does not share the range {} {}", range.first, range.last),
                    "addresses that only one side knows are refused for ever",
                ));
            }
        }
        compare_answers(ours, pool, theirs, &mut findings);
    }
    unshared_ranges(ours, theirs, &mut findings);
    networks(ours, theirs, &mut findings);
    hosts(ours, theirs, &mut findings);
    findings
}

/// Ranges that only the partner shares.
fn unshared_ranges(ours: &Config, theirs: &Config, findings: &mut Vec<Diagnostic>) {
    let shares = |config: &Config, range: &Range| {
        let of = |pool: &Pool| {
            pool.failover.is_some() && pool.ranges.iter().any(|one| (one.first, one.last) == (range.first, range.last))
        };
        config.pools.iter().any(of)
    };
    for pool in theirs.pools.iter().filter(|pool| pool.failover.is_some()) {
        let peer = pool.failover.map(|id| &theirs.failover_peer(id).name);
        let Some(ours_of_it) = ours.failover_peers.iter().find(|one| Some(&one.name) == peer) else { continue };
        for range in pool.ranges.iter().filter(|range| !shares(ours, range)) {
            findings.push(finding(
                ours_of_it.span,
                format!("the partner's file shares the range {} {}, and this one does not", range.first, range.last),
                "addresses that only one side knows are refused for ever",
            ));
        }
    }
}

/// Networks that only one side knows, or that only one side may refuse clients on.
fn networks(ours: &Config, theirs: &Config, findings: &mut Vec<Diagnostic>) {
    for subnet in &ours.subnets {
        let same = theirs.subnets.iter().find(|other| (other.net, other.mask) == (subnet.net, subnet.mask));
        let Some(same) = same else {
            findings.push(finding(
                subnet.span,
                format!("the partner's file has no subnet {} netmask {}", subnet.net, subnet.mask),
                "its clients have one server only",
            ));
            continue;
        };
        if subnet.authoritative != same.authoritative {
            let who = if subnet.authoritative { "this file" } else { "the partner's file" };
            findings.push(finding(
                subnet.span,
                format!("only {who} is authoritative for {}", subnet.net),
                "when the other one serves alone, a client with a foreign address waits for its own timeout",
            ));
        }
    }
    for subnet in &theirs.subnets {
        let is_here = ours.subnets.iter().any(|other| (other.net, other.mask) == (subnet.net, subnet.mask));
        if !is_here && let Some(peer) = ours.failover_peers.first() {
            findings.push(finding(
                peer.span,
                format!("the partner's file has a subnet {} netmask {} that is not here", subnet.net, subnet.mask),
                "its clients have one server only",
            ));
        }
    }
}

/// Host declarations of one side only: their clients are known here and strangers there.
fn hosts(ours: &Config, theirs: &Config, findings: &mut Vec<Diagnostic>) {
    let key = |host: &Host| (host.hw, host.client_id.clone(), host.identifier.clone());
    let known: HashSet<_> = theirs.hosts.iter().map(key).collect();
    let missing: Vec<&Host> = ours.hosts.iter().filter(|host| !known.contains(&key(host))).collect();
    if let Some(first) = missing.first() {
        let more = missing.len().saturating_sub(1);
        let others = if more == 0 { String::new() } else { format!(", nor {more} more") };
        findings.push(finding(
            first.span,
            format!("the partner's file does not know host {}{others}", ours.declared_name(first.name)),
            "whoever answers decides whether the client is known",
        ));
    }
}

fn pair_of_peers(
    ours: &Config,
    peer: &FailoverPeer,
    theirs: &Config,
    other: &FailoverPeer,
    findings: &mut Vec<Diagnostic>,
) {
    let name = &peer.name;
    let mut add = |message: String, label: &str| findings.push(finding(peer.span, message, label));
    if peer.role == other.role {
        add(
            format!("both files call themselves the same side of \"{name}\""),
            "one is `primary`, the other `secondary`",
        );
    }
    let address = |config: &Config, address: &Option<super::Address>| {
        address.as_ref().and_then(|address| config.address(address))
    };
    let (our, their) = (address(ours, &peer.address), address(theirs, &other.peer_address));
    if our.is_some() && their.is_some() && our != their {
        add(format!("the partner of \"{name}\" expects another address of this server"), "see its `peer address`");
    }
    let (our, their) = (address(ours, &peer.peer_address), address(theirs, &other.address));
    if our.is_some() && their.is_some() && our != their {
        add(format!("the partner of \"{name}\" has another address than `peer address`"), "see its `address`");
    }
    if peer.port != other.peer_port || peer.peer_port != other.port {
        add(format!("the ports of \"{name}\" do not cross over"), "`port` here is `peer port` there");
    }
    if peer.link_key_file.is_some() != other.link_key_file.is_some() {
        let which = if peer.link_key_file.is_some() { "this file" } else { "the partner's file" };
        add(
            format!("only {which} protects the link of \"{name}\" (`{LINK_KEY_FILE}`)"),
            "they refuse each other: name a file with the same key in both, or in neither",
        );
    }
    if peer.load_balance_max_secs != other.load_balance_max_secs {
        add(format!("`load balance max seconds` of \"{name}\" differs"), "a client may be answered twice, or late");
    }
}

/// What the two files tell a plain client at the first address of a pool.
fn compare_answers(ours: &Config, pool: &Pool, theirs: &Config, findings: &mut Vec<Diagnostic>) {
    let Some(first) = pool.ranges.first().map(|range| range.first) else {
        return;
    };
    let (Some(here), Some(there)) = (evaluate_at(ours, first), evaluate_at(theirs, first)) else {
        return;
    };
    for param in [Param::DefaultLeaseTime, Param::MaxLeaseTime, Param::MinLeaseTime] {
        if here.secs_or_default(param) != there.secs_or_default(param) {
            findings.push(finding(
                here.param_origin(param).unwrap_or(pool.span),
                format!("the partner's file has another `{}` for this pool", param.name()),
                "clients get whichever server answers",
            ));
        }
    }
    for option in 1..255 {
        // Each server has its own identifier.
        if option != code::SERVER_IDENTIFIER && here.option(option) != there.option(option) {
            findings.push(finding(
                here.option_origin(option).unwrap_or(pool.span),
                format!("the partner's file has another `option {}` for this pool", ours.option_name(option)),
                "clients get whichever server answers",
            ));
        }
    }
}
