//! What an operator sees of a failover relationship, and may ask it to do.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::table::{duration, plain, utc};

/// What an operator may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The partner is switched off: serve its clients as well.
    PartnerDown,
    /// Ends a pause or a shutdown.
    Resume,
    /// Tell the partner to go on alone, and fall silent.
    Shutdown,
    /// Fall silent for a moment.
    Pause,
}

/// One relationship. Instants are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relationship {
    /// Name of the declaration.
    pub name: String,
    /// `primary` or `secondary`: our side.
    pub role: String,
    /// Our state; `startup` while starting.
    pub my_state: String,
    /// Since when.
    pub my_since: u32,
    /// The partner's state as last heard.
    pub partner_state: String,
    /// When it was heard.
    pub partner_since: u32,
    /// Whether the link is up.
    pub connected: bool,
    /// Whether the partner is an xdhcpd.
    pub partner_is_ours: bool,
    /// How long ago the partner said anything, seconds; absent = not since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_secs_ago: Option<u64>,
    /// Whether a key protects the link.
    #[serde(default)]
    pub link_protected: bool,
    /// What is wrong with the link, as far as known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_trouble: Option<String>,
    /// What the state means for clients.
    pub service: String,
    /// Who serves whom, in a sentence.
    pub serves: String,
    /// MCLT in force, seconds.
    pub mclt_secs: u32,
    /// Pools in configuration order.
    pub pools: Vec<Share>,
    /// Updates for the partner that wait for the window or the link.
    pub updates_queued: u64,
    /// Updates sent and not acknowledged.
    pub updates_in_flight: u64,
    /// How long the partner has not known the oldest change that it has to know, seconds.
    pub lag_secs: u64,
    /// Updates of the partner that wait for the kernel or for the end of a lease.
    pub updates_held: u64,
    /// Leases still to be told for the partner's request for updates; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_outstanding: Option<u64>,
    /// What happens if the partner dies now.
    pub if_partner_dies: Loss,
    /// What bounds the leases that run.
    #[serde(default)]
    pub bounds: Bounds,
    /// What differs from the partner's configuration, in plain words.
    pub differences: Vec<String>,
    /// Transitions of both sides, oldest first.
    pub timeline: Vec<Transition>,
    /// Every transition since the start, with how often and when last.
    #[serde(default)]
    pub transitions: Vec<Made>,
    /// Updates since the start, by what became of them.
    pub updates: Updates,
}

/// How the addresses of a pool are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Share {
    /// Number of the pool in the relationship.
    pub pool: u32,
    /// The primary's to give.
    pub free: u32,
    /// The secondary's to give.
    pub backup: u32,
    /// Leased, expired, abandoned.
    pub other: u32,
}

/// What happens if the partner dies now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Loss {
    /// Until when every active client can be renewed without the partner; 2147483647 in partner-down: without a bound;
    /// absent without active leases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewals_covered_until: Option<u32>,
    /// Addresses that new clients can be given at once.
    pub own_addresses: u32,
    /// When every address of the partner's may be used, if partner-down is entered now.
    pub takeover_complete: u32,
}

/// What bounds the leases that run: up to when this server may extend each now is in the answer to `leases`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bounds {
    /// Active leases.
    pub active: u32,
    /// Those of which the partner has acknowledged more than this moment: MCLT counts from there, otherwise from now.
    pub acknowledged: u32,
    /// Until when each of them can be extended without the partner; absent without active leases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soonest: Option<u32>,
    /// Until when one of them can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<u32>,
    /// The partner is down: leases are whole, whatever it has acknowledged.
    pub unlimited: bool,
}

/// One transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// When.
    pub at: u32,
    /// `me` or `partner`.
    pub who: String,
    /// Before.
    pub from: String,
    /// After.
    pub to: String,
}

/// How often a transition was made since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// `me` or `partner`.
    pub who: String,
    /// Before.
    pub from: String,
    /// After.
    pub to: String,
    /// How often.
    pub count: u64,
    /// When it was made last.
    pub last: u32,
}

/// Updates since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Updates {
    /// Sent.
    pub sent: u64,
    /// Accepted by the partner.
    pub acked: u64,
    /// Refused by the partner.
    pub rejected: u64,
    /// Sent again for want of an answer.
    pub repeated: u64,
    /// Received.
    pub received: u64,
    /// Refused here.
    pub refused: u64,
    /// Messages that made no sense.
    pub malformed: u64,
}

/// Relationships as a page of text; `now` is seconds since 1970.
#[must_use]
pub fn page(relationships: &[Relationship], now: u32) -> String {
    let mut page = String::new();
    for relationship in relationships {
        // Writing to a String cannot fail.
        let _ = write_one(&mut page, relationship, now);
    }
    page
}

fn write_one(page: &mut String, one: &Relationship, now: u32) -> std::fmt::Result {
    let ago = |at: u32| duration(u64::from(now.saturating_sub(at)));
    let link = match (one.connected, one.partner_is_ours) {
        (true, true) => "up, with an xdhcpd",
        (true, false) => "up",
        (false, _) => "DOWN",
    };
    let protected = if one.link_protected { ", protected by a key" } else { "" };
    writeln!(page, "FAILOVER PEER    \"{}\", {} here", plain(&one.name), one.role)?;
    writeln!(page, "  my state       {} since {} ({})", one.my_state, utc(one.my_since), ago(one.my_since))?;
    writeln!(
        page,
        "  partner state  {} since {} ({})",
        one.partner_state,
        utc(one.partner_since),
        ago(one.partner_since)
    )?;
    let heard = one.heard_secs_ago.map_or_else(|| "not since the start".to_owned(), |secs| format!("{secs} s ago"));
    writeln!(page, "  link           {link}{protected}; heard {heard}")?;
    if let Some(trouble) = one.link_trouble.as_ref().filter(|_| !one.connected) {
        writeln!(page, "                 {}", plain(trouble))?;
    }
    writeln!(page, "  service        {}: {}", one.service, one.serves)?;
    writeln!(
        page,
        "  MCLT           {} s: nobody is promised more than that beyond what the partner knows",
        one.mclt_secs
    )?;
    let bounds = &one.bounds;
    let rest = bounds.active.saturating_sub(bounds.acknowledged);
    writeln!(page, "  leases         {} run, {} of them acknowledged, {rest} not", bounds.active, bounds.acknowledged)?;
    if bounds.unlimited {
        writeln!(page, "                 extended without a bound, since the partner is down")?;
    } else if let (Some(soonest), Some(latest)) = (bounds.soonest, bounds.latest) {
        writeln!(page, "                 extendable now until {} (each) to {} (some)", utc(soonest), utc(latest))?;
    }
    writeln!(
        page,
        "  updates        {} wait, {} unacknowledged, lag {} s",
        one.updates_queued, one.updates_in_flight, one.lag_secs
    )?;
    if let Some(outstanding) = one.request_outstanding {
        writeln!(page, "  catching up    the partner is still to be told of {outstanding} leases")?;
    }
    for pool in &one.pools {
        writeln!(
            page,
            "  pool {:<9} free (primary's) {}, backup (secondary's) {}, other {}",
            pool.pool, pool.free, pool.backup, pool.other
        )?;
    }
    let loss = &one.if_partner_dies;
    writeln!(page, "  if the partner dies now:")?;
    match loss.renewals_covered_until {
        Some(_) if bounds.unlimited => writeln!(page, "    renewals     every client can be renewed, without a bound")?,
        Some(until) => writeln!(page, "    renewals     every client can be renewed until {}", utc(until))?,
        None => writeln!(page, "    renewals     nobody has a lease")?,
    }
    writeln!(page, "    new clients  {} addresses at once", loss.own_addresses)?;
    writeln!(
        page,
        "    takeover     complete at {}, if `xdhcpd failover partner-down` is said now",
        utc(loss.takeover_complete)
    )?;
    for difference in &one.differences {
        writeln!(page, "  DIFFERS        {}", plain(difference))?;
    }
    if !one.timeline.is_empty() {
        writeln!(page, "  timeline")?;
    }
    for step in &one.timeline {
        writeln!(page, "    {}  {:<8} {} -> {}", utc(step.at), step.who, step.from, step.to)?;
    }
    writeln!(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relationship() -> Relationship {
        Relationship {
            name: "GSB".to_owned(),
            role: "primary".to_owned(),
            my_state: "normal".to_owned(),
            my_since: 1_700_000_000,
            partner_state: "normal".to_owned(),
            partner_since: 1_700_000_000,
            connected: true,
            partner_is_ours: true,
            heard_secs_ago: Some(2),
            link_protected: true,
            link_trouble: None,
            service: "cooperating".to_owned(),
            serves: "both".to_owned(),
            mclt_secs: 60,
            pools: vec![Share { pool: 0, free: 25, backup: 24, other: 2 }],
            updates_queued: 0,
            updates_in_flight: 1,
            lag_secs: 2,
            updates_held: 0,
            request_outstanding: None,
            if_partner_dies: Loss {
                renewals_covered_until: Some(1_700_000_600),
                own_addresses: 25,
                takeover_complete: 1_700_000_060,
            },
            bounds: Bounds {
                active: 7,
                acknowledged: 5,
                soonest: Some(1_700_000_600),
                latest: Some(1_700_000_960),
                unlimited: false,
            },
            differences: vec!["mclt is 3 here and 4 there".to_owned()],
            timeline: vec![Transition {
                at: 1_700_000_000,
                who: "me".to_owned(),
                from: "startup".to_owned(),
                to: "recover".to_owned(),
            }],
            transitions: vec![Made {
                who: "me".to_owned(),
                from: "startup".to_owned(),
                to: "recover".to_owned(),
                count: 1,
                last: 1_700_000_000,
            }],
            updates: Updates::default(),
        }
    }

    #[test]
    fn an_operator_reads_what_happens_if_the_partner_dies() {
        let text = page(&[relationship()], 1_700_000_100);
        for line in [
            "FAILOVER PEER    \"GSB\", primary here",
            "  my state       normal since 2023-11-14 22:13:20 (1 min 40 s)",
            "  link           up, with an xdhcpd, protected by a key; heard 2 s ago\n",
            "  leases         7 run, 5 of them acknowledged, 2 not\n",
            "                 extendable now until 2023-11-14 22:23:20 (each) to 2023-11-14 22:29:20 (some)\n",
            "  updates        0 wait, 1 unacknowledged, lag 2 s",
            "    renewals     every client can be renewed until 2023-11-14 22:23:20",
            "    new clients  25 addresses at once",
            "    takeover     complete at 2023-11-14 22:14:20",
            "  DIFFERS        mclt is 3 here and 4 there",
            "    2023-11-14 22:13:20  me       startup -> recover",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_link_that_is_down_says_why() {
        let mut down = relationship();
        down.connected = false;
        (down.link_protected, down.heard_secs_ago) = (false, None);
        down.link_trouble = Some("it has another key\u{1b}".to_owned());
        let text = page(&[down.clone()], 0);
        assert!(
            text.contains("  link           DOWN; heard not since the start\n                 it has another key?\n"),
            "{text}"
        );
        down.connected = true;
        down.bounds.unlimited = true;
        let text = page(&[down], 0);
        assert!(!text.contains("another key"), "old news");
        assert!(
            text.contains("2 not\n                 extended without a bound, since the partner is down\n"),
            "{text}"
        );
        assert!(text.contains("    renewals     every client can be renewed, without a bound\n"), "{text}");
    }

    #[test]
    fn a_relationship_survives_its_json() {
        let text = serde_json::to_string(&relationship()).unwrap();
        assert_eq!(serde_json::from_str::<Relationship>(&text).unwrap(), relationship());
        assert_eq!(serde_json::to_string(&Order::PartnerDown).unwrap(), "\"partner-down\"");
    }
}
