//! `crash`: whatever was acknowledged is there again, wherever the power goes: at every byte of every write, at every
//! sync, in the middle of a compaction, of a repair, of a restore (I2, I8).

#[path = "crash/disk.rs"]
mod disk;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use dhcp_ebpf::wire::dhcp::HwAddr;
use dhcp_user::engine::port::JournalSeq;
use dhcp_user::io::journal::{Compaction, Disk, Journal, JournalEvent, JournalOptions, OpenError, Replay, Store};
use dhcp_user::lease::journal::{Format, Record, write_lease};
use dhcp_user::lease::time::WallTime;
use dhcp_user::lease::{BindingState, Lease};

use crate::disk::{Cut, Liar};
use tests::dice::Dice;

const FILE: &str = "/dhcpd.leases";

fn path() -> &'static Path {
    Path::new(FILE)
}

/// The `version`-th thing said about address number `number`: longer and shorter records in turn.
fn lease(number: u32, version: u32) -> Lease {
    let [_, b, c, d] = version.to_be_bytes();
    Lease {
        starts: WallTime::from_secs(u64::from(version) + 1),
        ends: WallTime::from_secs(u64::from(version) + 600),
        state: BindingState::Active,
        hw: Some(HwAddr::ethernet([2, number as u8, 0, b, c, d])),
        client_id: Some(vec![number as u8; (version * 37 % 200) as usize + 1].into()),
        ..Lease::free(Ipv4Addr::from(0x0a00_0000 + number))
    }
}

fn text(leases: &[Lease]) -> Vec<u8> {
    let mut out = Vec::new();
    for lease in leases {
        write_lease(lease, Format::default(), &mut out);
    }
    out
}

/// What clients and partners have been told, and what may or may not have happened.
#[derive(Debug, Default, Clone)]
struct Told {
    acknowledged: BTreeMap<Ipv4Addr, Lease>,
    in_flight: Vec<Lease>,
}

impl Told {
    /// Commits leases and remembers what is known of them.
    fn commit(&mut self, store: &mut Store, leases: Vec<Lease>) -> io::Result<()> {
        self.in_flight.extend_from_slice(&leases);
        store.commit(&text(&leases))?;
        self.in_flight.clear();
        self.acknowledged.extend(leases.into_iter().map(|lease| (lease.address, lease)));
        Ok(())
    }

    /// Every address says what was acknowledged last, or something that was on its way.
    fn check(&self, recovered: &BTreeMap<Ipv4Addr, Lease>, what: &str) {
        for (address, lease) in recovered {
            let is_known = self.acknowledged.get(address) == Some(lease) || self.in_flight.contains(lease);
            let [hw, version] = [lease.hw.map_or(0, |hw| u32::from(hw.bytes()[1])), lease.starts.secs()];
            assert!(is_known, "{what}: {address} is of {hw}, version {version}, ends {}", lease.ends.secs());
        }
        for address in self.acknowledged.keys() {
            assert!(recovered.contains_key(address), "{what}: {address} is lost");
        }
    }
}

fn options() -> JournalOptions {
    JournalOptions { create: true, ..JournalOptions::default() }
}

fn open(disk: &Liar) -> Result<(Store, Replay, BTreeMap<Ipv4Addr, Lease>), OpenError> {
    let mut leases = BTreeMap::new();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (store, replay) = Store::open(disk, path(), &options(), &mut |record: Record| {
        if let Record::Lease(lease) = record {
            leases.insert(lease.address, lease);
        }
    })?;
    Ok((store, replay, leases))
}

/// A day in the life of a journal: commits of one and of many, overwriting and growing, a compaction with commits in
/// its middle, more commits, a clean end.
fn run(disk: &Liar, told: &mut Told) -> io::Result<()> {
    let (mut store, ..) = open(disk).map_err(io::Error::other)?;
    let mut version = 0;
    let mut batch = |count: u32| -> Vec<Lease> {
        version += 1;
        (0..count).map(|offset| lease((version * 3 + offset) % 12, version)).collect()
    };
    for count in [1, 1, 5, 1, 8] {
        told.commit(&mut store, batch(count))?;
    }
    let mut compaction = Compaction::begin(&store, WallTime::from_secs(7), Arc::default())?;
    let live_end = store.live_end();
    told.commit(&mut store, batch(2))?;
    compaction.run(live_end)?;
    told.commit(&mut store, batch(3))?;
    compaction.catch_up(store.live_end())?;
    told.commit(&mut store, batch(1))?;
    compaction.clear_away(store.feed())?;
    compaction.finish(&mut store)?;
    for count in [1, 6, 1] {
        told.commit(&mut store, batch(count))?;
    }
    store.close()
}

/// Opens what a power cut left, checks it, and goes on working with it.
fn check_recovery(disk: &Liar, told: &Told, what: &str) {
    let (mut store, _, recovered) = match open(disk) {
        Ok(opened) => opened,
        // The file itself may not have been there yet.
        Err(error) => panic!("{what}: {error}"),
    };
    told.check(&recovered, what);
    let more = vec![lease(100, 5000), lease(1, 5001)];
    store.commit(&text(&more)).unwrap();
    drop(store);
    let mut expected = recovered;
    expected.extend(more.into_iter().map(|lease| (lease.address, lease)));
    let (_, replay, again) = open(&disk.after_power_cut(&Cut::Bytes(0))).unwrap();
    assert_eq!(again, expected, "{what}: after the repair");
    assert_eq!(replay.torn_len, 0, "{what}: repaired once");
}

/// All steps of a run, each with the power going in its middle.
fn every_step(check: impl Fn(u64, &Liar, &Told)) {
    let whole = Liar::default();
    run(&whole, &mut Told::default()).unwrap();
    assert!(whole.steps() > 40 && whole.syncs() > 15, "{} steps", whole.steps());
    for step in 1..=whole.steps() + 1 {
        let disk = Liar::default();
        disk.power_off_at(step);
        let mut told = Told::default();
        let result = run(&disk, &mut told);
        assert_eq!(result.is_ok(), step > whole.steps());
        check(step, &disk, &told);
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes_at_any_byte_of_any_write() {
    every_step(|step, disk, told| {
        // The filler is 64 KiB of the same; what matters are the bytes before it and its edges.
        let len = disk.unsynced_len();
        let cuts = (0..=len.min(1500)).step_by(if len > 1500 { 3 } else { 1 });
        for cut in cuts.chain([len / 2, len.saturating_sub(1), len]) {
            let next = disk.after_power_cut(&Cut::Bytes(cut));
            check_recovery(&next, told, &format!("step {step}, {cut} bytes"));
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost_whichever_sectors_survive() {
    every_step(|step, disk, told| {
        for seed in 0..40 {
            let next = disk.after_power_cut(&Cut::Sectors(Dice::new(step << 32 | seed)));
            check_recovery(&next, told, &format!("step {step}, seed {seed}"));
        }
    });
}

#[test]
fn a_second_power_cut_during_the_repair_loses_nothing_either() {
    every_step(|step, disk, told| {
        for seed in 0..4 {
            let first = disk.after_power_cut(&Cut::Sectors(Dice::new(step << 32 | seed)));
            let repair = first.after_power_cut(&Cut::Bytes(0));
            drop(open(&repair));
            for at in 1..=repair.steps() {
                let again = first.after_power_cut(&Cut::Bytes(0));
                again.power_off_at(at);
                assert!(open(&again).is_err(), "step {step}, seed {seed}, repair step {at}");
                let next = again.after_power_cut(&Cut::Sectors(Dice::new(at << 48 | step << 16 | seed)));
                check_recovery(&next, told, &format!("step {step}, seed {seed}, repair step {at}"));
            }
        }
    });
}

/// The test itself: a journal that acknowledges before its sync is found out.
#[test]
fn an_acknowledgement_before_the_sync_would_be_found() {
    let disk = Liar::default();
    let options = JournalOptions { skip_sync: true, ..options() };
    let liar: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut store, _) = Store::open(liar, path(), &options, &mut |_: Record| {}).unwrap();
    let mut told = Told::default();
    told.commit(&mut store, vec![lease(1, 1)]).unwrap();
    let next = disk.after_power_cut(&Cut::Bytes(0));
    let (_, _, recovered) = open(&next).unwrap();
    let result = std::panic::catch_unwind(|| told.check(&recovered, "unsynced"));
    assert!(result.is_err());
}

struct Running {
    journal: Journal,
    events: Receiver<JournalEvent>,
    recovered: BTreeMap<Ipv4Addr, Lease>,
}

fn start(disk: &Liar) -> Running {
    let (sender, events) = channel();
    let mut recovered = BTreeMap::new();
    let report = Box::new(move |event| drop(sender.send(event)));
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let apply = &mut |record: Record| {
        if let Record::Lease(lease) = record {
            recovered.insert(lease.address, lease);
        }
    };
    let (journal, _) = Journal::open_on(disk, path(), options(), apply, report).unwrap();
    Running { journal, events, recovered }
}

impl Running {
    fn append(&self, seq: u64, lease: &Lease) {
        self.journal.append(JournalSeq(seq), &text(std::slice::from_ref(lease)));
    }

    fn next(&self) -> JournalEvent {
        self.events.recv_timeout(Duration::from_secs(30)).unwrap()
    }

    fn wait_durable(&self, seq: u64) {
        let event = self.next();
        assert_eq!(event, JournalEvent::Durable(JournalSeq(seq)));
    }
}

/// Trouble comes, nothing is promised; it goes, and service resumes with everything the table holds.
fn trouble(make: impl FnOnce(&Liar), mend: impl FnOnce(&Liar)) {
    let disk = Liar::default();
    let running = start(&disk);
    running.append(1, &lease(1, 1));
    running.wait_durable(1);
    make(&disk);
    running.append(2, &lease(2, 2));
    let event = running.next();
    assert!(matches!(&event, JournalEvent::Failed(text) if text.contains(FILE)), "{event:?}");
    assert!(running.journal.status().is_failed);
    // The table goes on; the journal does not.
    running.append(3, &lease(3, 3));
    assert!(running.events.recv_timeout(Duration::from_millis(100)).is_err(), "nothing is durable now");
    mend(&disk);
    assert_eq!(running.next(), JournalEvent::Writable);
    running.journal.restore_begin();
    running.journal.restore_push(&text(&[lease(1, 1), lease(2, 2)]));
    running.append(4, &lease(1, 4));
    running.journal.restore_push(&text(&[lease(3, 3)]));
    running.journal.restore_end();
    assert_eq!(running.next(), JournalEvent::Restored);
    running.wait_durable(4);
    running.append(5, &lease(5, 5));
    running.wait_durable(5);
    assert!(!running.journal.status().is_failed);
    let next = disk.after_power_cut(&Cut::Bytes(0));
    let expected = [lease(1, 4), lease(2, 2), lease(3, 3), lease(5, 5)].map(|lease| (lease.address, lease));
    assert_eq!(start(&next).recovered, BTreeMap::from(expected));
}

#[test]
fn a_failed_sync_is_final_even_if_the_next_one_would_succeed() {
    trouble(|disk| disk.break_syncs(1), |_| {});
}

#[test]
fn a_read_only_remount_stops_promises_until_it_is_undone() {
    trouble(|disk| disk.set_read_only(true), |disk| disk.set_read_only(false));
}

#[test]
fn a_full_disk_takes_what_still_fits_and_service_resumes_when_there_is_room() {
    let disk = Liar::default();
    let running = start(&disk);
    disk.set_capacity(Some(disk.used() + 20_000));
    let mut seq = 0;
    let failed = loop {
        seq += 1;
        running.append(seq, &lease(seq as u32 % 200, seq as u32));
        match running.next() {
            JournalEvent::Durable(durable) => assert_eq!(durable, JournalSeq(seq)),
            JournalEvent::Failed(text) => break text,
            other => panic!("{other:?}"),
        }
    };
    assert!(failed.contains("no storage space") || failed.contains("space"), "{failed}");
    let left = disk.used();
    assert!(left > 64 * 1024 + 18_000, "the last bytes were used: {left}");
    let next = disk.after_power_cut(&Cut::Bytes(0));
    let recovered = start(&next).recovered;
    for number in 1..seq.min(200) {
        let last = (number..seq).step_by(200).last().unwrap();
        let expected = lease((last % 200) as u32, last as u32);
        assert_eq!(recovered.get(&expected.address), Some(&expected), "record {last} of {seq}");
    }
    assert!(running.events.recv_timeout(Duration::from_millis(900)).is_err(), "there is no room to probe with");
    disk.set_capacity(None);
    assert_eq!(running.next(), JournalEvent::Writable);
    running.journal.restore_begin();
    let table: Vec<Lease> = recovered.into_values().collect();
    running.journal.restore_push(&text(&table));
    running.journal.restore_end();
    assert_eq!(running.next(), JournalEvent::Restored);
    running.wait_durable(seq);
    assert_eq!(start(&disk.after_power_cut(&Cut::Bytes(0))).recovered.len(), table.len());
}

#[test]
fn without_fsync_nothing_is_synced_and_everything_is_written() {
    let disk = Liar::default();
    let liar: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = JournalOptions { skip_sync: true, ..options() };
    let (mut store, _) = Store::open(liar, path(), &options, &mut |_: Record| {}).unwrap();
    let syncs = disk.syncs();
    store.commit(&text(&[lease(1, 1)])).unwrap();
    assert_eq!(disk.syncs(), syncs);
    drop(store);
    assert_eq!(open(&disk).unwrap().2.len(), 1);
}

#[test]
fn a_compaction_that_fails_leaves_the_journal_as_it_was() {
    let disk = Liar::default();
    let running = start(&disk);
    for seq in 1..=50 {
        running.append(seq, &lease(seq as u32 % 5, seq as u32));
        running.wait_durable(seq);
    }
    disk.set_capacity(Some(disk.used()));
    running.journal.compact();
    let event = running.next();
    assert!(matches!(event, JournalEvent::Warning(_)), "{event:?}");
    running.append(51, &lease(1, 51));
    running.wait_durable(51);
    disk.set_capacity(None);
    running.journal.compact();
    assert!(matches!(running.next(), JournalEvent::Compacted { .. }));
    assert_eq!(disk.names().len(), 2, "{:?}", disk.names());
    let next = disk.after_power_cut(&Cut::Bytes(0));
    assert_eq!(start(&next).recovered.len(), 5);
}

#[test]
fn old_files_open_in_new_code() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/dhcpd-leases");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "leases") {
            continue;
        }
        let content = std::fs::read(&file).unwrap();
        let disk = Liar::default();
        disk.put(path(), &content);
        let (store, replay, leases) = open(&disk).unwrap();
        assert_eq!((replay.complaints, replay.damaged), (vec![], None), "{}", file.display());
        assert!(!leases.is_empty());
        store.close().unwrap();
        let kept = disk.content(path()).unwrap();
        assert_eq!(kept.trim_ascii_end(), content.trim_ascii_end(), "opening changes nothing: {}", file.display());
        count += 1;
    }
    assert!(count >= 8);
}
