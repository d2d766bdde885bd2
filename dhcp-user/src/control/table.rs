//! Replies as tables for people.

use std::{collections::BTreeMap, fmt::Write as _};

use super::message::{FastPathPage, Guard, Interface, Row, Status};

/// Head of the table of leases.
pub const LEASES_HEAD: &str = "ADDRESS          STATE      HARDWARE           STARTS (UTC)         ENDS (UTC)           EXTENDABLE UNTIL     BY      HOST NAME";

/// One line of the table of leases.
#[must_use]
pub fn lease(row: &Row) -> String {
    let line = format!(
        "{:<16} {:<10} {:<18} {:<20} {:<20} {:<20} {:<7} {}",
        row.address.to_string(),
        row.state,
        row.hardware.as_deref().unwrap_or("-"),
        row.starts.map_or_else(|| "-".to_owned(), utc),
        row.ends.map_or_else(|| "-".to_owned(), utc),
        row.extendable_until.map_or_else(|| "-".to_owned(), bound),
        row.answered_by,
        row.hostname.as_deref().map(plain).unwrap_or_default(),
    );
    line.trim_end().to_owned()
}

/// The status as a page of text.
#[must_use]
pub fn status(status: &Status) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_status(&mut page, status);
    page
}

fn write_status(page: &mut String, status: &Status) -> std::fmt::Result {
    writeln!(page, "{}, process {}, up {}", status.server, status.pid, duration(status.uptime_secs))?;
    writeln!(page, "  configuration  {}", status.config)?;
    writeln!(page, "  leases         {}", status.leases)?;

    interfaces(page, &status.interfaces)?;

    let total = status.replies.kernel + status.replies.agent;
    writeln!(page, "\nREPLIES          {total}")?;
    for (who, count) in [("by the kernel", status.replies.kernel), ("by the agent", status.replies.agent)] {
        writeln!(page, "  {who:<14} {count:>12} {}", percent(count, total))?;
    }

    let fast = &status.fast_path;
    let enabled = if fast.enabled { "on" } else { "off" };
    writeln!(page, "\nFAST PATH        {enabled}")?;
    let numbers = [
        ("armed leases", fast.armed),
        ("answers", fast.templates),
        ("arms", fast.arms),
        ("horizons moved", fast.extensions),
        ("revocations", fast.revoked),
    ];
    for (name, count) in numbers {
        writeln!(page, "  {name:<14} {count:>12}")?;
    }
    counters(page, "  not armed because", &fast.not_armed)?;

    if let Some(shield) = &fast.shield {
        writeln!(page, "\nSHIELD           {}", shield.mode)?;
        writeln!(page, "  seen           {:>12}", shield.seen)?;
        writeln!(page, "  dropped        {:>12}", shield.dropped)?;
        writeln!(page, "  DISCOVERs      {}/s, {} at once", shield.discover_rate, shield.discover_burst)?;
        if !shield.access_ports.is_empty() {
            writeln!(page, "  access ports   {}", shield.access_ports.join(" "))?;
        }
    }

    let journal = &status.journal;
    let state =
        journal.failure.as_deref().map_or_else(|| "ok".to_owned(), |failure| format!("FAILED: {}", plain(failure)));
    writeln!(page, "\nJOURNAL          {state}")?;
    writeln!(page, "  records        {:>12}", journal.appended)?;
    writeln!(page, "  durable        {:>12}", journal.durable)?;
    writeln!(page, "  waiting        {:>12}", journal.waiting)?;
    writeln!(page, "  commits        {:>12}   the longest took {} us", journal.commits, journal.longest_stall_us)?;
    writeln!(page, "  bytes          {:>12}   rewritten {} times", journal.file_len, journal.compactions)?;

    writeln!(page, "\nPOOLS               total     free   backup   active  expired abandoned")?;
    for pool in &status.pools {
        writeln!(page, "{} {}", pool.network, pool.ranges.join(" "))?;
        let expired = pool.expired + pool.released + pool.reset;
        let peer = pool.peer.as_deref().map(|peer| format!(" peer \"{peer}\"")).unwrap_or_default();
        writeln!(
            page,
            "                 {:>8} {:>8} {:>8} {:>8} {:>8} {:>9}{peer}",
            pool.total, pool.free, pool.backup, pool.active, expired, pool.abandoned
        )?;
    }

    for peer in &status.peers {
        writeln!(page, "\nFAILOVER PEER    \"{}\", {} here", peer.name, peer.role)?;
        writeln!(page, "  my state       {} since {}", peer.my_state, utc(peer.my_since))?;
        writeln!(page, "  partner state  {} since {}", peer.partner_state, utc(peer.partner_since))?;
        let kernel = if peer.serving { "may answer" } else { "does not answer" };
        writeln!(page, "  service        {}; the kernel {kernel}", peer.service)?;
    }

    write_guard(page, &status.guard)?;
    counters(page, "\nSTORM", &status.storm)?;
    counters(page, "\nRECEIVED", &status.received)?;
    counters(page, "\nSENT", &status.sent)?;
    counters(page, "\nNOT ANSWERED", &status.ignored)?;
    counters(page, "\nKERNEL VERDICTS", &status.kernel)?;
    let sockets = &status.sockets;
    if sockets.overrun > 0 || sockets.unsent > 0 || !sockets.refused.is_empty() {
        writeln!(page, "\nSOCKETS")?;
        for (name, count) in [("overrun", sockets.overrun), ("unsent", sockets.unsent)] {
            if count > 0 {
                writeln!(page, "  {name:<24} {count:>12}")?;
            }
        }
        counters(page, "  refused", &sockets.refused)?;
    }
    Ok(())
}

fn write_guard(page: &mut String, guard: &Guard) -> std::fmt::Result {
    writeln!(page, "\nGUARD            {}", guard.mode)?;
    counters(page, "  too much of", &guard.seen)?;
    counters(page, "  refused", &guard.refused)?;
    if !guard.suspects.is_empty() {
        writeln!(page, "  where                       count   leases")?;
    }
    for suspect in &guard.suspects {
        // A relay chose a part of this text.
        let (what, place) = (&suspect.what, plain(&suspect.place));
        writeln!(page, "  {what:<24} {:>8} {:>8}  {place}", suspect.count, suspect.leases)?;
    }
    Ok(())
}

fn interfaces(page: &mut String, all: &[Interface]) -> std::fmt::Result {
    writeln!(page, "\nINTERFACE        XDP      ADDRESSES")?;
    for interface in all {
        let down = if interface.up { "" } else { " (down)" };
        writeln!(page, "{:<16} {:<8} {}{down}", interface.name, interface.xdp, interface.addresses.join(" "))?;
        for text in [&interface.why, &interface.note].into_iter().filter(|text| !text.is_empty()) {
            writeln!(page, "                 {text}")?;
        }
    }
    Ok(())
}

/// How the fast path does, as a page of text.
#[must_use]
pub fn fast_path(fast: &FastPathPage) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_fast_path(&mut page, fast);
    page
}

fn write_fast_path(page: &mut String, fast: &FastPathPage) -> std::fmt::Result {
    writeln!(page, "FAST PATH        {}", if fast.on { "on" } else { "switched off" })?;
    if let Some(alarm) = &fast.shadow.alarm {
        writeln!(page, "  ALARM          {}", plain(alarm))?;
    }
    interfaces(page, &fast.interfaces)?;
    let (whole, tenth) = (fast.hit_permille / 10, fast.hit_permille % 10);
    writeln!(page, "\nANSWERED         {} by the kernel, {whole}.{tenth} % of what it saw", fast.answered)?;
    writeln!(page, "                 {} by the agent", fast.agent)?;
    if !fast.misses.is_empty() {
        writeln!(page, "\nPASSED UP")?;
    }
    for miss in &fast.misses {
        writeln!(page, "  {:<18} {:>12}  {}", miss.reason, miss.count, miss.meaning)?;
    }
    writeln!(page, "\nARMED            {} leases with {} answers", fast.armed, fast.templates)?;
    let ages = &fast.ages;
    let spread = |[least, median, most]: [u32; 3]| format!("{least} s, {median} s, {most} s (least, median, most)");
    if ages.sampled > 0 {
        writeln!(page, "  horizon in     {}, of {} leases", spread(ages.horizon), ages.sampled)?;
    }
    if ages.renewed > 0 {
        writeln!(page, "  renewed ago    {}, of {} leases", spread(ages.renewal), ages.renewed)?;
    }
    match fast.shadow.one_of {
        0 => writeln!(page, "\nSHADOW CHECK     off"),
        one_of => writeln!(page, "\nSHADOW CHECK     one of {one_of} replies, {} compared", fast.shadow.checked),
    }
}

/// Counters that are not zero under a title; nothing when all are.
fn counters(page: &mut String, title: &str, counts: &BTreeMap<String, u64>) -> std::fmt::Result {
    let mut counts = counts.iter().filter(|(_, count)| **count > 0).peekable();
    if counts.peek().is_some() {
        writeln!(page, "{title}")?;
    }
    for (name, count) in counts {
        writeln!(page, "  {name:<24} {count:>12}")?;
    }
    Ok(())
}

fn percent(part: u64, total: u64) -> String {
    if total == 0 {
        return String::new();
    }
    let tenths = u128::from(part) * 1000 / u128::from(total);
    format!("{:>5}.{} %", tenths / 10, tenths % 10)
}

pub(super) fn duration(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min {} s", secs % 60),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Up to when a lease may be extended.
pub(super) fn bound(secs: u32) -> String {
    if secs >= 0x7fff_ffff { "no bound".to_owned() } else { utc(secs) }
}

/// Seconds since 1970 as `YYYY-MM-DD HH:MM:SS`; dhcpd's infinity as `never`.
pub(super) fn utc(secs: u32) -> String {
    if secs >= 0x7fff_ffff {
        return "never".to_owned();
    }
    let (days, secs) = (secs / 86_400, secs % 86_400);
    // Civil date of a day number, with years that begin in March: then the leap day is a year's last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u32::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

/// A client chose this text: nothing in it may steer a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn instants_are_written_as_the_calendar_has_them() {
        // `date -u -d @N`
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(utc(1_700_000_000), "2023-11-14 22:13:20");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59:59");
        assert_eq!(utc(2_147_483_646), "2038-01-19 03:14:06");
        assert_eq!(utc(u32::MAX), "never");
    }

    #[test]
    fn a_line_of_leases_stands_under_its_head() {
        let row = Row {
            address: Ipv4Addr::new(192, 168, 150, 50),
            state: "active".to_owned(),
            starts: Some(1_700_000_000),
            ends: Some(1_700_000_600),
            horizon: Some(1_700_000_900),
            agreed_until: Some(1_700_000_900),
            extendable_until: Some(1_700_000_960),
            last_contact: Some(1_700_000_000),
            answered_by: "kernel".to_owned(),
            hardware: Some("02:00:00:00:00:09".to_owned()),
            random_mac: false,
            client_id: None,
            hostname: Some("Portable1\u{1b}[2J".to_owned()),
        };
        let line = lease(&row);
        for (title, value) in [
            ("STATE", "active"),
            ("HARDWARE", "02:"),
            ("STARTS", "2023-"),
            ("ENDS", "2023-11-14 22:23:20"),
            ("EXTENDABLE", "2023-11-14 22:29:20"),
            ("BY", "kernel"),
            ("HOST", "Port"),
        ] {
            let at = LEASES_HEAD.find(title).unwrap();
            assert!(line[at..].starts_with(value), "{title}: {line}");
        }
        assert!(line.ends_with("Portable1?[2J"));
        assert!(lease(&Row { extendable_until: Some(0x7fff_ffff), ..row.clone() }).contains(" no bound "));
        assert!(lease(&Row { extendable_until: None, ..row }).contains("22:23:20  -  "));
    }

    #[test]
    fn times_and_shares_are_rounded_for_people() {
        assert_eq!(duration(59), "0 min 59 s");
        assert_eq!(duration(3600 * 5 + 61), "5 h 1 min");
        assert_eq!(duration(86_400 * 3 + 7200), "3 d 2 h");
        assert_eq!(percent(1, 3).trim(), "33.3 %");
        assert_eq!(percent(0, 0), "");
    }
}
