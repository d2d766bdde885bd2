//! A few lines that read a leases file as a person does, knowing nothing of the code that wrote it.

use std::net::Ipv4Addr;

/// The last record of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The address.
    pub address: Ipv4Addr,
    /// The whole record, `lease` to `}`.
    pub text: String,
}

impl Record {
    /// The value of a statement such as `binding state` or `tstp`, without the semicolon.
    #[must_use]
    pub fn value(&self, statement: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            let rest = line.trim().strip_prefix(statement)?.strip_prefix(' ')?;
            rest.strip_suffix(';')
        })
    }

    /// Seconds since 1970 in a date: `epoch 1795334400`, as `db-time-format local` writes it, with a comment after it; 0
    /// when there is none.
    #[must_use]
    pub fn epoch(&self, statement: &str) -> u64 {
        let line = self.text.lines().find_map(|line| line.trim().strip_prefix(statement)?.strip_prefix(" epoch "));
        let digits = line.and_then(|line| line.split(';').next());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
    }
}

/// The newest record of every address, in the order in which the addresses were last written.
#[must_use]
pub fn newest(text: &str) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let mut open: Option<Record> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("lease ") {
            let address = rest.split_whitespace().next().and_then(|word| word.parse().ok());
            open = address.map(|address| Record { address, text: String::new() });
        }
        if let Some(record) = &mut open {
            record.text.push_str(line);
            record.text.push('\n');
        }
        if line == "}"
            && let Some(record) = open.take()
        {
            records.retain(|known| known.address != record.address);
            records.push(record);
        }
    }
    records
}

/// The newest record of one address.
#[must_use]
pub fn newest_of(text: &str, address: Ipv4Addr) -> Option<Record> {
    newest(text).into_iter().find(|record| record.address == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_of_an_address_counts_and_a_torn_one_does_not() {
        let text = "# head\nlease 10.0.0.1 {\n  binding state active;\n}\nlease 10.0.0.2 {\n  binding state active;\n}\n\
                    lease 10.0.0.1 {\n  tstp 4 2026/01/01 00:00:00;\n  binding state free;\n}\nlease 10.0.0.2 {\n  bind";
        let found = newest(text);
        assert_eq!(found.len(), 2);
        let first = newest_of(text, Ipv4Addr::new(10, 0, 0, 1)).unwrap();
        assert_eq!(first.value("binding state"), Some("free"));
        assert_eq!(first.value("tstp"), Some("4 2026/01/01 00:00:00"));
        assert_eq!(newest_of(text, Ipv4Addr::new(10, 0, 0, 2)).unwrap().value("binding state"), Some("active"));
    }
}
