//! The journal on the real file system. What a broken disk does to it is the `crash` suite's.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;
use crate::lease::journal::{Record, read, write_lease};
use crate::lease::{BindingState, Lease};

/// A folder of this test alone, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xdhcpd-journal-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("dhcpd.leases")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn lease(number: u32, ends: u32) -> Lease {
    Lease {
        ends: WallTime::from_secs(ends.into()),
        state: BindingState::Active,
        ..Lease::free(Ipv4Addr::from(0x0a00_0000 + number))
    }
}

fn text(lease: &Lease) -> Vec<u8> {
    let mut out = Vec::new();
    write_lease(lease, Format::default(), &mut out);
    out
}

struct Open {
    journal: Journal,
    replay: Replay,
    records: Vec<Record>,
    events: Receiver<JournalEvent>,
}

fn open_with(folder: &Folder, options: JournalOptions) -> Result<Open, OpenError> {
    let (sender, events) = channel();
    let mut records = Vec::new();
    let report = Box::new(move |event| drop(sender.send(event)));
    let (journal, replay) = Journal::open(&folder.file(), options, &mut |record: Record| records.push(record), report)?;
    Ok(Open { journal, replay, records, events })
}

fn open(folder: &Folder) -> Open {
    open_with(folder, JournalOptions { create: true, ..JournalOptions::default() }).unwrap()
}

impl Open {
    fn wait_for(&self, wanted: &JournalEvent) {
        while self.next_event() != *wanted {}
    }

    fn next_event(&self) -> JournalEvent {
        self.events.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn append(&self, seq: u64, lease: &Lease) {
        self.journal.append(JournalSeq(seq), &text(lease));
    }
}

#[test]
fn what_was_durable_is_there_again_and_a_clean_stop_leaves_no_filler() {
    let folder = Folder::new("durable");
    let first = open(&folder);
    for number in 0..100 {
        first.append(u64::from(number), &lease(number, number + 1));
    }
    first.wait_for(&JournalEvent::Durable(JournalSeq(99)));
    let status = first.journal.status();
    assert_eq!((status.records, status.backlog_count, status.is_failed), (100, 0, false));
    assert!(std::fs::metadata(folder.file()).unwrap().len() > status.live_len + 10_000, "filler while it runs");
    let live_len = status.live_len;
    first.journal.close();
    assert_eq!(std::fs::metadata(folder.file()).unwrap().len(), live_len);
    let second = open(&folder);
    let expected: Vec<Record> = (0..100).map(|number| Record::Lease(lease(number, number + 1))).collect();
    assert_eq!(second.records, expected);
    assert_eq!(second.replay, Replay { leases: 100, ..Replay::default() });
}

#[test]
fn the_file_begins_as_dhcpd_begins_it() {
    let folder = Folder::new("header");
    open(&folder).journal.close();
    let text = std::fs::read_to_string(folder.file()).unwrap();
    assert!(text.starts_with("# The format of this file is documented in the dhcpd.leases(5) manual page.\n"));
    assert!(text.ends_with("authoring-byte-order little-endian;\n\n"));
    open(&folder).journal.close();
    assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), text, "opening changes nothing");
}

#[test]
fn a_missing_file_is_refused_with_a_hint() {
    let folder = Folder::new("missing");
    let error = open_with(&folder, JournalOptions::default()).err().unwrap();
    assert!(matches!(&error, OpenError::Missing { .. }) && error.to_string().contains("empty one"), "{error}");
    std::fs::write(folder.0.join("dhcpd.leases~"), "").unwrap();
    let error = open_with(&folder, JournalOptions::default()).err().unwrap().to_string();
    assert!(error.contains("dhcpd.leases~") && error.contains("restore"), "{error}");
    assert!(!folder.file().exists());
}

#[test]
fn an_empty_file_is_good_enough() {
    let folder = Folder::new("empty");
    std::fs::write(folder.file(), "").unwrap();
    let opened = open_with(&folder, JournalOptions::default()).unwrap();
    opened.append(1, &lease(1, 1));
    opened.wait_for(&JournalEvent::Durable(JournalSeq(1)));
}

#[test]
fn a_foreign_file_is_refused_and_left_as_it_is() {
    let folder = Folder::new("foreign");
    for content in ["root:x:0:0:root:/root:/bin/bash\n", "subnet 10.0.0.0 netmask 255.0.0.0 { }\n", "\x7fELF\0\0\0"] {
        std::fs::write(folder.file(), content).unwrap();
        let error = open_with(&folder, JournalOptions::default()).err().unwrap();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(folder.file()).unwrap(), content);
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
    }
    std::fs::remove_file(folder.file()).unwrap();
    std::fs::create_dir(folder.file()).unwrap();
    assert!(matches!(open_with(&folder, JournalOptions::default()), Err(OpenError::Io { .. })));
}

#[test]
fn a_second_server_is_refused_also_after_a_compaction() {
    let folder = Folder::new("lock");
    let first = open(&folder);
    assert!(matches!(open_with(&folder, JournalOptions::default()), Err(OpenError::Locked { .. })));
    first.journal.compact();
    while !matches!(first.next_event(), JournalEvent::Compacted { .. }) {}
    assert!(matches!(open_with(&folder, JournalOptions::default()), Err(OpenError::Locked { .. })));
    first.journal.close();
    drop(open(&folder));
}

#[test]
fn a_torn_last_record_is_cut_and_nothing_before_it() {
    let folder = Folder::new("torn");
    let whole = [text(&lease(1, 1)), text(&lease(2, 2))].concat();
    let torn_at = text(&lease(1, 1)).len();
    for filler in ["", "\n\n\n", "\0\0\0\0", &"\n".repeat(5000)] {
        std::fs::write(folder.file(), [&whole[..whole.len() - 9], filler.as_bytes()].concat()).unwrap();
        let opened = open(&folder);
        assert_eq!(opened.records, [Record::Lease(lease(1, 1))]);
        assert!(opened.replay.torn_len > 0 && opened.replay.damaged.is_none());
        opened.append(1, &lease(3, 3));
        opened.wait_for(&JournalEvent::Durable(JournalSeq(1)));
        opened.journal.close();
        let text = std::fs::read(folder.file()).unwrap();
        assert_eq!(text, [&whole[..torn_at], text_of_third().as_slice()].concat());
    }
}

fn text_of_third() -> Vec<u8> {
    text(&lease(3, 3))
}

#[test]
fn damage_in_the_middle_is_put_aside_and_the_rest_is_kept() {
    let folder = Folder::new("damage");
    let damaged = "lease 10.0.0.2 {\n  starts 4 20\u{7f}\n  ends tomorrow;\n}\n";
    let whole = [text(&lease(1, 1)), damaged.as_bytes().to_vec(), text(&lease(3, 3))].concat();
    std::fs::write(folder.file(), &whole).unwrap();
    let opened = open(&folder);
    assert_eq!(opened.records, [Record::Lease(lease(1, 1)), Record::Lease(lease(3, 3))]);
    let aside = opened.replay.damaged.clone().unwrap();
    assert!(std::fs::read_to_string(&aside).unwrap().contains(damaged));
    assert!(opened.replay.complaints[0].to_string().contains(": date expected"), "{:?}", opened.replay);
    while !matches!(opened.next_event(), JournalEvent::Compacted { .. }) {}
    opened.journal.close();
    let again = open(&folder);
    assert_eq!((again.replay.damaged, again.records.len()), (None, 2), "found once");
}

#[test]
fn a_file_without_a_last_newline_goes_on_on_a_new_line() {
    let folder = Folder::new("newline");
    std::fs::write(folder.file(), "lease 10.0.0.1 { binding state free; ends epoch 5; }").unwrap();
    let opened = open(&folder);
    opened.append(1, &lease(2, 2));
    opened.wait_for(&JournalEvent::Durable(JournalSeq(1)));
    opened.journal.close();
    assert!(std::fs::read_to_string(folder.file()).unwrap().contains("}\nlease 10.0.0.2 {\n"));
}

#[test]
fn records_that_arrive_during_a_sync_share_the_next_one() {
    let folder = Folder::new("group");
    let opened = open(&folder);
    for seq in 0..5000 {
        opened.append(seq, &lease(seq as u32, 1));
    }
    opened.wait_for(&JournalEvent::Durable(JournalSeq(4999)));
    let status = opened.journal.status();
    assert_eq!(status.records, 5000);
    assert!(status.commits < 1000, "{} commits", status.commits);
}

#[test]
fn a_batch_is_never_longer_than_the_limit() {
    let folder = Folder::new("limit");
    let options = JournalOptions { create: true, batch_records_max: 3, ..JournalOptions::default() };
    let opened = open_with(&folder, options).unwrap();
    for seq in 0..100 {
        opened.append(seq, &lease(seq as u32, 1));
    }
    let mut last: Option<u64> = None;
    while last != Some(99) {
        let JournalEvent::Durable(JournalSeq(seq)) = opened.next_event() else { panic!() };
        assert!(seq >= last.map_or(0, |last| last + 1) && seq <= last.map_or(2, |last| last + 3));
        last = Some(seq);
    }
}

#[test]
fn a_compaction_keeps_the_last_of_each_and_what_nobody_knows() {
    let folder = Folder::new("compact");
    let head = "host a { dynamic; }\nlease 99.0.0.1 { binding state free; ends epoch 7; new-field 5; }\n\
                server-duid \"abc\";\nfailover peer \"x\" state { my state recover; partner state recover; }\n";
    std::fs::write(folder.file(), head).unwrap();
    let opened = open(&folder);
    for seq in 0..1000 {
        opened.append(seq, &lease(seq as u32 % 10, seq as u32 + 1));
    }
    opened.append(1000, &Lease::free(Ipv4Addr::new(10, 0, 0, 3)));
    opened.journal.compact();
    let mut compacted = false;
    let mut durable = false;
    while !(compacted && durable) {
        match opened.next_event() {
            JournalEvent::Compacted { before_len, after_len } => {
                assert!(after_len <= before_len);
                compacted = true;
            }
            JournalEvent::Durable(JournalSeq(1000)) => durable = true,
            JournalEvent::Durable(_) => {}
            other => panic!("{other:?}"),
        }
    }
    opened.journal.compact();
    while !matches!(opened.next_event(), JournalEvent::Compacted { .. }) {}
    opened.append(1001, &lease(20, 20));
    opened.wait_for(&JournalEvent::Durable(JournalSeq(1001)));
    opened.journal.close();
    let text = std::fs::read(folder.file()).unwrap();
    let mut complaints = Vec::new();
    let records = read(&text, WallTime::NONE, &mut complaints);
    assert_eq!(complaints, []);
    let mut leases: Vec<(Ipv4Addr, u32)> = records
        .iter()
        .filter_map(
            |record| {
                if let Record::Lease(lease) = record { Some((lease.address, lease.ends.secs())) } else { None }
            },
        )
        .collect();
    leases.sort();
    let mut expected: Vec<(Ipv4Addr, u32)> =
        (0..10).filter(|n| *n != 3).map(|n| (Ipv4Addr::new(10, 0, 0, n), 991 + u32::from(n))).collect();
    expected.push((Ipv4Addr::new(10, 0, 0, 20), 20));
    expected.push((Ipv4Addr::new(99, 0, 0, 1), 7));
    assert_eq!(leases, expected);
    let text = String::from_utf8(text).unwrap();
    for kept in ["host a { dynamic; }", "new-field 5;", "server-duid \"abc\";", "failover peer \"x\" state {"] {
        assert_eq!(text.matches(kept).count(), 1, "{kept}");
    }
    assert!(folder.0.join("dhcpd.leases~").exists());
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 2, "no other file is left");
}

/// Address and end of the leases that a snapshot has.
fn read_snapshot(snapshot: &Snapshot) -> Vec<(Ipv4Addr, u32)> {
    let mut seen = Vec::new();
    let take = &mut |record| {
        if let Record::Lease(lease) = record {
            seen.push((lease.address, lease.ends.secs()));
        }
        Ok(())
    };
    snapshot.read(take).unwrap();
    seen.sort();
    seen
}

#[test]
fn a_snapshot_and_what_follows_its_position_are_everything_and_nothing_twice() {
    let folder = Folder::new("snapshot");
    let opened = open(&folder);
    for seq in 0..100_u32 {
        opened.append(seq.into(), &lease(seq % 10, seq + 1));
    }
    opened.wait_for(&JournalEvent::Durable(JournalSeq(99)));
    let snapshot = opened.journal.feed().snapshot();
    // The writer goes on, and the file is replaced, before anybody reads.
    opened.append(100, &lease(3, 500));
    opened.append(101, &lease(11, 600));
    opened.wait_for(&JournalEvent::Durable(JournalSeq(101)));
    opened.journal.compact();
    while !matches!(opened.next_event(), JournalEvent::Compacted { .. }) {}
    let expected: Vec<(Ipv4Addr, u32)> = (0..10).map(|number| (lease(number, 0).address, 91 + number)).collect();
    assert_eq!(read_snapshot(&snapshot), expected);
    let changes = opened.journal.feed().follow(snapshot.position()).poll().unwrap();
    assert_eq!(changes, [Record::Lease(lease(3, 500)), Record::Lease(lease(11, 600))]);
    // One of the new file says the same with the changes in it.
    let mut expected = expected;
    expected[3].1 = 500;
    expected.push((lease(11, 0).address, 600));
    assert_eq!(read_snapshot(&opened.journal.feed().snapshot()), expected);
}

#[test]
fn a_follower_sees_every_change_once_and_in_order_across_compactions() {
    let folder = Folder::new("follow");
    let opened = open(&folder);
    let mut follower = opened.journal.feed().follow(Position(0));
    assert_eq!(follower.poll().unwrap(), []);
    let mut seen = Vec::new();
    let mut seq = 0_u32;
    for round in 0..4 {
        for _ in 0..300 {
            opened.append(seq.into(), &lease(seq % 7, seq + 1));
            seq += 1;
        }
        opened.wait_for(&JournalEvent::Durable(JournalSeq(u64::from(seq) - 1)));
        if round % 2 == 0 {
            seen.extend(follower.poll().unwrap());
            follower = opened.journal.feed().follow(follower.position());
        }
        opened.journal.compact();
        while !matches!(opened.next_event(), JournalEvent::Compacted { .. }) {}
    }
    follower.wait(Duration::from_secs(1));
    loop {
        let more = follower.poll().unwrap();
        if more.is_empty() {
            break;
        }
        seen.extend(more);
    }
    let ends: Vec<u32> = seen
        .iter()
        .map(|record| if let Record::Lease(lease) = record { lease.ends.secs() } else { panic!("{record:?}") })
        .collect();
    assert_eq!(ends, (1..=seq).collect::<Vec<_>>());
    assert_eq!(follower.position(), opened.journal.feed().position());
}

#[test]
fn a_follower_that_is_too_slow_is_told() {
    let folder = Folder::new("slow");
    let opened = open(&folder);
    let mut follower = opened.journal.feed().follow(Position(0));
    for seq in 0..6 {
        opened.append(seq, &lease(1, seq as u32 + 1));
        opened.wait_for(&JournalEvent::Durable(JournalSeq(seq)));
        opened.journal.compact();
        while !matches!(opened.next_event(), JournalEvent::Compacted { .. }) {}
    }
    assert!(matches!(follower.poll(), Err(FollowError::Gone)));
    assert!(matches!(opened.journal.feed().follow(Position(1 << 40)).poll(), Err(FollowError::Gone)));
}

#[test]
fn a_lone_client_never_waits_for_company() {
    let folder = Folder::new("alone");
    let latency_budget = Duration::from_secs(30);
    let opened =
        open_with(&folder, JournalOptions { create: true, latency_budget, ..JournalOptions::default() }).unwrap();
    for seq in 0..20 {
        opened.append(seq, &lease(1, 1));
        // Less than the budget, or `next_event` gives up.
        assert_eq!(opened.next_event(), JournalEvent::Durable(JournalSeq(seq)));
    }
}

#[test]
fn a_group_is_one_commit_when_it_is_called_for_and_none_before() {
    let folder = Folder::new("group");
    let opened = open(&folder);
    for seq in 1..=50 {
        opened.journal.queue(JournalSeq(seq), &text(&lease(1, 1)));
    }
    assert!(opened.events.recv_timeout(Duration::from_millis(50)).is_err(), "the group may still grow");
    opened.journal.commit();
    assert_eq!(opened.next_event(), JournalEvent::Durable(JournalSeq(50)));
    let status = opened.journal.status();
    assert_eq!((status.commits, status.records, status.backlog_count), (1, 50, 0));
    // Nothing is queued: nothing happens, and the next group needs its own call.
    opened.journal.commit();
    opened.journal.queue(JournalSeq(51), &text(&lease(1, 1)));
    assert!(opened.events.recv_timeout(Duration::from_millis(50)).is_err());
    opened.journal.commit();
    assert_eq!(opened.next_event(), JournalEvent::Durable(JournalSeq(51)));
    opened.journal.queue(JournalSeq(52), &text(&lease(2, 2)));
    opened.journal.close();
    assert_eq!(open(&folder).records.len(), 52, "a clean stop writes what was never called for");
}

#[test]
fn a_journal_compacts_itself_when_most_of_it_is_waste() {
    let folder = Folder::new("waste");
    let options = JournalOptions { create: true, waste_factor: 2, waste_len_min: 1 << 20, ..JournalOptions::default() };
    let opened = open_with(&folder, options).unwrap();
    for seq in 0..20_000 {
        opened.append(seq, &lease(seq as u32 % 10, seq as u32 + 1));
    }
    loop {
        if let JournalEvent::Compacted { before_len, after_len } = opened.next_event() {
            assert!(before_len > 1024 * 1024 && after_len < before_len, "{before_len} to {after_len}");
            break;
        }
    }
}

#[test]
fn a_journal_compacts_itself_after_a_while_if_anything_was_written() {
    let folder = Folder::new("while");
    let compact_after = Duration::from_millis(20);
    let opened =
        open_with(&folder, JournalOptions { create: true, compact_after, ..JournalOptions::default() }).unwrap();
    opened.append(1, &lease(1, 1));
    opened.wait_for(&JournalEvent::Durable(JournalSeq(1)));
    assert!(matches!(opened.next_event(), JournalEvent::Compacted { .. }));
    assert!(opened.events.recv_timeout(Duration::from_millis(200)).is_err(), "nothing was written since");
}

#[test]
fn only_a_file_that_nobody_can_reach_gives_its_space_back_in_pieces() {
    const LEN: u64 = 50 * 1024 * 1024;
    let folder = Folder::new("free");
    let disk = RealDisk;
    let path = folder.file();
    let file = Disk::create(&disk, &path).unwrap();
    file.set_len(LEN).unwrap();
    let witness = std::fs::File::open(&path).unwrap();
    let len = || witness.metadata().unwrap().len();
    let go_on = AtomicBool::new(false);
    disk::free(Arc::clone(&file), &go_on);
    disk::free(file, &go_on);
    assert_eq!(len(), LEN, "it has a name");
    let file = Disk::open(&disk, &path).unwrap();
    std::fs::remove_file(&path).unwrap();
    disk::free(Arc::clone(&file), &go_on);
    assert_eq!(len(), LEN, "a follower reads it");
    disk::free(file, &go_on);
    assert!(len() <= 8 * 1024 * 1024, "{} bytes are left", len());
}
