//! Durable commits through the whole journal: many in flight, and one alone.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use dhcp_user::engine::port::JournalSeq;
use dhcp_user::io::journal::JournalEvent;
use dhcp_user::lease::journal::Record;

use crate::{ROUNDS, lease, median, open, row, text};

/// Durable commits with a thousand in flight.
pub(crate) fn many(folder: &Path) {
    const COUNT: u64 = 200_000;
    const IN_FLIGHT: u64 = 1000;
    let path = folder.join("commits.leases");
    let records: Vec<Vec<u8>> = (0..1000).map(|number| text(&lease(number, 0))).collect();
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        drop(fs::remove_file(&path));
        let (journal, events) = open(&path, &mut |_: Record| {});
        let begin = Instant::now();
        let (mut appended, mut durable) = (0, 0);
        while durable < COUNT {
            while appended < COUNT && appended - durable < IN_FLIGHT {
                appended += 1;
                journal.append(JournalSeq(appended), &records[appended as usize % records.len()]);
            }
            if let Ok(JournalEvent::Durable(JournalSeq(seq))) = events.recv() {
                durable = seq;
            }
        }
        rates.push(COUNT as f64 / begin.elapsed().as_secs_f64());
    }
    row("durable commits, 1000 in flight", &format!("{:.0}/s", median(rates)), "(at least 100,000 leases/s)");
}

/// One client at a time, against a bare write and sync of the same bytes.
pub(crate) fn alone(folder: &Path) {
    const COUNT: u64 = 1000;
    let record = text(&lease(7, 0));
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let path = folder.join("bare");
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).expect("a file");
        let begin = Instant::now();
        for number in 0..COUNT {
            file.write_all_at(&record, number * record.len() as u64).expect("room");
            file.sync_data().expect("a sync");
        }
        bare.push(begin.elapsed().as_secs_f64() / COUNT as f64 * 1e6);
        let path = folder.join("alone.leases");
        drop(fs::remove_file(&path));
        let (journal, events) = open(&path, &mut |_: Record| {});
        let begin = Instant::now();
        for seq in 1..=COUNT {
            journal.append(JournalSeq(seq), &record);
            while events.recv() != Ok(JournalEvent::Durable(JournalSeq(seq))) {}
        }
        ours.push(begin.elapsed().as_secs_f64() / COUNT as f64 * 1e6);
    }
    let (ours, bare) = (median(ours), median(bare));
    let beside = format!("bare write and fdatasync: {bare:.1} us, {:.2} times (at most 1.3)", ours / bare);
    row("one in flight", &format!("{ours:.1} us"), &beside);
}
