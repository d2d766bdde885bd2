//! Reads a leases file as the state it stands for: the last record of each address, field by field.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// How far apart times in the two files may be, in seconds.
const TIMES_APART_SECS_MAX: i64 = 2;
/// Fields that hold instants.
const INSTANTS: [&str; 6] = ["starts", "ends", "tstp", "tsfp", "atsfp", "cltt"];
/// Addresses of the canary and of the farewell.
const CANARY_NET: [u8; 3] = [10, 255, 255];

/// The last record of each address: field to value.
pub type Ledger = BTreeMap<Ipv4Addr, BTreeMap<String, String>>;

/// Reads the text of a leases file; instants become seconds since `start_secs`, so that files of plays that began at
/// different times can be compared.
#[must_use]
pub fn read(text: &str, start_secs: i64) -> Ledger {
    let mut ledger = Ledger::new();
    let mut open: Option<(Ipv4Addr, BTreeMap<String, String>)> = None;
    let mut block: Option<(String, String)> = None;
    for line in text.lines() {
        let words = line.trim();
        if let Some(rest) = line.strip_prefix("lease ") {
            let address = rest.split_whitespace().next().and_then(|word| word.parse().ok());
            open = address.map(|address| (address, BTreeMap::new()));
        } else if line == "}" {
            if let Some((address, fields)) = open.take()
                && address.octets().get(..3) != Some(&CANARY_NET)
            {
                ledger.insert(address, fields);
            }
        } else if let Some((_, fields)) = &mut open {
            match &mut block {
                // A body runs to the brace at its own depth, two blanks deep.
                Some((name, body)) if line == "  }" => {
                    fields.insert(name.clone(), body.clone());
                    block = None;
                }
                Some((_, body)) => {
                    // Blanks mean nothing in a body; dhcpd writes one before each semicolon.
                    body.extend(words.split_whitespace());
                }
                None if words.ends_with('{') => {
                    block = Some((words.trim_end_matches('{').trim().to_owned(), String::new()))
                }
                None => {
                    let (key, value) = field(words.trim_end_matches(';'));
                    let since_start = INSTANTS.contains(&key.as_str()).then(|| instant(&value)).flatten();
                    let value = match since_start {
                        Some(i64::MAX) | None => value,
                        Some(secs) => (secs - start_secs).to_string(),
                    };
                    fields.insert(key, value);
                }
            }
        }
    }
    ledger
}

/// Splits a statement into what it is about and its value.
fn field(statement: &str) -> (String, String) {
    let two_words = ["set ", "option ", "binding ", "hardware ", "billing "];
    let three_words = ["next binding ", "rewind binding "];
    let key_words = if three_words.iter().any(|start| statement.starts_with(start)) {
        3
    } else if two_words.iter().any(|start| statement.starts_with(start)) {
        2
    } else {
        1
    };
    let mut words = statement.splitn(key_words + 1, ' ');
    let key: Vec<&str> = words.by_ref().take(key_words).collect();
    let value = words.next().unwrap_or_default();
    (key.join(" "), value.trim_start_matches("= ").to_owned())
}

/// An instant in seconds since 1970; `never` is later than everything.
#[must_use]
pub fn instant(value: &str) -> Option<i64> {
    let value = value.split('#').next()?.trim().trim_end_matches(';');
    let words: Vec<&str> = value.split_whitespace().collect();
    match words.as_slice() {
        ["never"] => Some(i64::MAX),
        ["epoch", secs] => secs.trim_end_matches(';').parse().ok(),
        [_, date, time] => {
            let numbers = |text: &str, separator: char| -> Option<Vec<i64>> {
                text.split(separator).map(|part| part.parse().ok()).collect()
            };
            let (date, time) = (numbers(date, '/')?, numbers(time, ':')?);
            let ([year, month, day], [hour, minute, second]) = (date.as_slice(), time.as_slice()) else { return None };
            Some(days_since_1970(*year, *month, *day) * 86_400 + hour * 3_600 + minute * 60 + second)
        }
        _ => None,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar: whole years since March, leap days, days of the months.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day
        - 719_469
}

/// In what two files differ; an address in `documented` has only to have that state in ours.
#[must_use]
pub fn differences(theirs: &Ledger, ours: &Ledger, documented: &BTreeMap<Ipv4Addr, String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut addresses: Vec<&Ipv4Addr> = theirs.keys().chain(ours.keys()).collect();
    addresses.sort();
    addresses.dedup();
    for address in addresses {
        let (left, right) = (theirs.get(address), ours.get(address));
        if let Some(expected) = documented.get(address) {
            let state = right.and_then(|fields| fields.get("binding state")).map_or("none", String::as_str);
            if state != expected {
                found.push(format!("{address}: documented {expected}, xdhcpd wrote {state}"));
            }
            continue;
        }
        match (left, right) {
            (Some(left), None) => found.push(format!("{address}: only dhcpd wrote {left:?}")),
            (None, Some(right)) => found.push(format!("{address}: only xdhcpd wrote {right:?}")),
            (Some(_), Some(_)) | (None, None) => {}
        }
        let (Some(left), Some(right)) = (left, right) else { continue };
        let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let (theirs, ours) = (left.get(key), right.get(key));
            // In an active record ours says how far the kernel may have promised, dhcpd's after a rewrite when it ends.
            let is_active = right.get("binding state").is_some_and(|state| state == "active");
            let is_free_to_differ = key == "tstp" && (is_active || theirs.is_none() || ours.is_none());
            if !is_free_to_differ && !is_same(key, theirs, ours) {
                let show = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
                found.push(format!("{address}: {key}: dhcpd {}; xdhcpd {}", show(theirs), show(ours)));
            }
        }
    }
    found
}

fn is_same(key: &str, theirs: Option<&String>, ours: Option<&String>) -> bool {
    if theirs == ours {
        return true;
    }
    let (Some(theirs), Some(ours)) = (theirs, ours) else { return false };
    if !INSTANTS.contains(&key) {
        return false;
    }
    match (theirs.parse::<i64>(), ours.parse::<i64>()) {
        (Ok(theirs), Ok(ours)) => (theirs - ours).abs() <= TIMES_APART_SECS_MAX,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "lease 10.0.0.1 {\n  starts 4 2026/01/01 00:00:00;\n  binding state active;\n  next binding state free;\n  \
                        hardware ethernet 02:00:00:00:00:01;\n  set a = \"x;y\";\n  on expiry {\n    set b = \"1\";\n  }\n}\n";

    #[test]
    fn a_record_is_read_field_by_field() {
        let ledger = read(FILE, 1_767_225_000);
        let record = &ledger[&Ipv4Addr::new(10, 0, 0, 1)];
        assert_eq!(record["binding state"], "active");
        assert_eq!(record["next binding state"], "free");
        assert_eq!(record["set a"], "\"x;y\"");
        assert_eq!(record["on expiry"], "setb=\"1\";");
        assert_eq!(record["starts"], "600");
        assert_eq!(instant("4 2026/01/01 00:00:00"), Some(1_767_225_600));
        assert_eq!(instant("epoch 1767225600; # Thu"), Some(1_767_225_600));
        assert_eq!(instant("4 2024/02/29 12:00:01"), Some(1_709_208_001));
    }

    #[test]
    fn what_differs_is_found_and_what_may_differ_is_not() {
        let theirs = read(FILE, 0);
        let none = BTreeMap::new();
        assert!(differences(&theirs, &theirs, &none).is_empty());
        let ours = read(&FILE.replace("00:00:00;", "00:00:02;").replace("  binding", "  tstp never;\n  binding"), 0);
        assert!(differences(&theirs, &ours, &none).is_empty());
        let ours = read(&FILE.replace("00:00:00;", "00:00:03;"), 0);
        assert_eq!(differences(&theirs, &ours, &none).len(), 1);
        let ours = read(&FILE.replace("state active", "state free"), 0);
        assert_eq!(differences(&theirs, &ours, &none).len(), 1);
        assert_eq!(differences(&theirs, &Ledger::new(), &none).len(), 1);
    }
}
