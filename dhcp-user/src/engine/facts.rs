//! What the two servers compare when they connect (two of ours only): a plain sentence on both consoles says what differs.

use crate::config::{Config, Param, PeerId, Role, lint::evaluate_at};

/// Ranges that are named one by one; of more, only how many there are and how many addresses.
const RANGES_MAX: usize = 12;

/// Names and values, the same on both sides when the two configurations fit.
pub(crate) fn of(config: &Config, id: PeerId) -> Vec<(String, String)> {
    let declared = config.failover_peer(id);
    let place = |address: &Option<crate::config::Address>, port: u16| {
        let address = address.as_ref().and_then(|address| config.address(address));
        address.map_or_else(|| "not known".to_owned(), |address| format!("{address} port {port}"))
    };
    let ours = place(&declared.address, declared.port);
    let theirs = place(&declared.peer_address, declared.peer_port);
    let (primary, secondary) = match declared.role {
        Role::Primary => (ours, theirs),
        Role::Secondary => (theirs, ours),
    };
    let mut facts = vec![
        ("the primary".to_owned(), primary),
        ("the secondary".to_owned(), secondary),
        ("load balance max seconds".to_owned(), declared.load_balance_max_secs.to_string()),
    ];
    let pools = config.pools.iter().filter(|pool| pool.failover == Some(id));
    let mut ranges: Vec<_> = pools.flat_map(|pool| &pool.ranges).map(|range| (range.first, range.last)).collect();
    ranges.sort_unstable();
    let addresses: u64 =
        ranges.iter().map(|(first, last)| u64::from(u32::from(*last).saturating_sub(u32::from(*first))) + 1).sum();
    facts.push(("the shared pool".to_owned(), format!("{addresses} addresses in {} ranges", ranges.len())));
    for (first, last) in ranges.into_iter().take(RANGES_MAX) {
        let Some(evaluation) = evaluate_at(config, first) else { continue };
        let secs = |param| evaluation.secs_or_default(param);
        let times = format!(
            "leased for {} s, at least {} s, at most {} s",
            secs(Param::DefaultLeaseTime),
            secs(Param::MinLeaseTime),
            secs(Param::MaxLeaseTime)
        );
        facts.push((format!("range {first} {last}"), times));
    }
    facts
}
