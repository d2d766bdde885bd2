//! Durable commits through the whole store: table, record, journal; many in flight, and one alone.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use dhcp_user::engine::port::JournalSeq;
use dhcp_user::io::journal::JournalEvent;
use dhcp_user::lease::Lease;
use dhcp_user::lease::journal::Record;

use crate::start::table;
use crate::{ROUNDS, lease, median, open, row, text};

/// Durable commits with a thousand in flight: each lease goes into the table, becomes a record, and waits for the disk.
pub(crate) fn many(folder: &Path) {
    const COUNT: u64 = 200_000;
    const IN_FLIGHT: u64 = 1000;
    const LEASES: u32 = 100_000;
    let path = folder.join("commits.leases");
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        drop(fs::remove_file(&path));
        let mut table = table(LEASES);
        let (journal, events) = open(&path, &mut |_: Record| {});
        // What is measured is the store, not how the bench makes a lease up.
        let leases: Vec<Lease> =
            (0..COUNT).map(|number| lease((number * 7919) as u32 % LEASES, number / 1000)).collect();
        let mut leases = leases.into_iter();
        let begin = Instant::now();
        let (mut appended, mut durable) = (0, 0);
        while durable < COUNT {
            while appended - durable < IN_FLIGHT {
                let Some(lease) = leases.next() else { break };
                appended += 1;
                let record = text(&lease);
                table.put(lease);
                journal.append(JournalSeq(appended), &record);
            }
            if let Ok(JournalEvent::Durable(JournalSeq(seq))) = events.recv() {
                durable = seq;
            }
        }
        rates.push(COUNT as f64 / begin.elapsed().as_secs_f64());
    }
    row("durable commits, 1000 in flight", &format!("{:.0}/s", median(rates)), "(at least 100,000 leases/s)");
}

/// Commits of each round and kind.
const ALONE_COUNT: u64 = 1000;

/// Microseconds of a bare write and fdatasync of the same bytes.
fn bare(file: &File, record: &[u8]) -> f64 {
    let begin = Instant::now();
    for number in 0..ALONE_COUNT {
        file.write_all_at(record, number * record.len() as u64).expect("room");
        file.sync_data().expect("a sync");
    }
    begin.elapsed().as_secs_f64() / ALONE_COUNT as f64 * 1e6
}

/// One client at a time, against a bare write and sync of the same bytes: appended, and into space written beforehand.
pub(crate) fn alone(folder: &Path) {
    let record = text(&lease(7, 0));
    let (mut ours, mut appended, mut overwritten) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let path = folder.join("bare");
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).expect("a file");
        appended.push(bare(&file, &record));
        let path = folder.join("alone.leases");
        drop(fs::remove_file(&path));
        let (journal, events) = open(&path, &mut |_: Record| {});
        let begin = Instant::now();
        for seq in 1..=ALONE_COUNT {
            journal.append(JournalSeq(seq), &record);
            while events.recv() != Ok(JournalEvent::Durable(JournalSeq(seq))) {}
        }
        ours.push(begin.elapsed().as_secs_f64() / ALONE_COUNT as f64 * 1e6);
        overwritten.push(bare(&file, &record));
    }
    let (ours, appended, overwritten) = (median(ours), median(appended), median(overwritten));
    row(
        "one in flight (at most 1.3 times)",
        &format!("{ours:.1} us"),
        &format!(
            "bare write and fdatasync: appended {appended:.1} us, {:.2} times; into written space {overwritten:.1} us, {:.2} times",
            ours / appended,
            ours / overwritten
        ),
    );
}
