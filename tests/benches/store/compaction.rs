//! The longest wait for a commit while a compaction runs.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use dhcp_user::engine::port::JournalSeq;
use dhcp_user::io::journal::{Journal, JournalEvent};
use dhcp_user::lease::journal::Record;

use crate::{ROUNDS, lease, median, million, open, row, text};

/// Records a second.
const TICK: Duration = Duration::from_millis(1);
const PER_TICK: u64 = 10;

/// The longest wait for a commit while 10,000 come every second: in peace, during a compaction, and what the disk alone
/// does when somebody else writes as much beside bare commits of the same bytes.
pub(crate) fn compaction(folder: &Path, count: u32) {
    let path = million(folder, count);
    let (mut quiet, mut busy, mut bare, mut took) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (journal, events) = open(&path, &mut |_: Record| {});
    let mut seq = 0;
    for round in 0..ROUNDS {
        quiet.push(longest_wait(&journal, &events, &mut seq, count, false).0);
        bare.push(longest_bare(folder, &path, round));
        let (longest, secs) = longest_wait(&journal, &events, &mut seq, count, true);
        busy.push(longest);
        took.push(secs);
    }
    let (quiet, busy, bare) = (median(quiet), median(busy), median(bare));
    row("10,000 commits/s, longest wait", &format!("{quiet:.2} ms"), "");
    let beside = format!(
        "the disk alone, written as much: {bare:.2} ms, {:+.2} ms (at most +5); it took {:.1} s",
        busy - bare,
        median(took)
    );
    row("the same during a compaction", &format!("{busy:.2} ms"), &beside);
}

/// Milliseconds of the longest bare commit of ten records while the journal's bytes are copied, as a compaction does.
fn longest_bare(folder: &Path, source: &Path, round: usize) -> f64 {
    const STRETCH_LEN: usize = 256 * 1024;
    let records: Vec<u8> = (0..PER_TICK).flat_map(|number| text(&lease(number as u32, 0))).collect();
    let file = File::create(folder.join("bare")).expect("a file");
    file.write_all_at(&vec![b'\n'; records.len() * 1000], 0).expect("room");
    file.sync_all().expect("a sync");
    let is_over = AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut source = File::open(source).expect("the leases file");
            // It stays until the end: giving its space back keeps a disk busy, and would be laid at the journal's door.
            let copy = File::create(folder.join(format!("copy-{round}"))).expect("a file");
            let (mut piece, mut at) = (vec![0; STRETCH_LEN], 0);
            loop {
                let len = source.read(&mut piece).expect("the leases file");
                if len == 0 {
                    break;
                }
                copy.write_all_at(&piece[..len], at).expect("room");
                copy.sync_data().expect("a sync");
                at += len as u64;
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let begin = Instant::now();
        let (mut longest, mut tick) = (Duration::ZERO, 0_u32);
        while !is_over.load(Ordering::Relaxed) {
            let due = begin + TICK * tick;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let start = Instant::now();
            file.write_all_at(&records, u64::from(tick % 1000) * records.len() as u64).expect("room");
            file.sync_data().expect("a sync");
            longest = longest.max(start.elapsed());
            tick += 1;
        }
        longest
    });
    longest.as_secs_f64() * 1e3
}

/// Milliseconds of the longest; and how long it all took, in seconds.
fn longest_wait(
    journal: &Journal,
    events: &Receiver<JournalEvent>,
    seq: &mut u64,
    count: u32,
    compacts: bool,
) -> (f64, f64) {
    let begin = Instant::now();
    let mut sent: Vec<Instant> = Vec::new();
    let mut waits = Vec::new();
    let first = *seq + 1;
    if compacts {
        journal.compact();
    }
    let mut is_done = false;
    let mut tick = 0;
    while !is_done || waits.len() < sent.len() {
        let now = begin.elapsed();
        if !compacts && now > Duration::from_secs(2) {
            is_done = true;
        }
        while !is_done && TICK * tick <= begin.elapsed() {
            tick += 1;
            for _ in 0..PER_TICK {
                *seq += 1;
                let record = text(&lease((*seq * 7919 % u64::from(count)) as u32, *seq));
                sent.push(Instant::now());
                journal.append(JournalSeq(*seq), &record);
            }
        }
        let wait = (TICK * tick).saturating_sub(begin.elapsed());
        match events.recv_timeout(wait.max(Duration::from_micros(50))) {
            Ok(JournalEvent::Durable(JournalSeq(durable))) => {
                let now = Instant::now();
                while first + (waits.len() as u64) <= durable {
                    waits.push(now.duration_since(sent[waits.len()]).as_secs_f64() * 1e3);
                }
            }
            Ok(JournalEvent::Compacted { .. }) => is_done = true,
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    }
    let longest = waits.iter().copied().fold(0.0, f64::max);
    (longest, begin.elapsed().as_secs_f64())
}
