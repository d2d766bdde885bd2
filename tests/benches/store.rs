//! `cargo bench -p tests --bench store`: the figures of the lease store, ratios taken in one run, medians of five.
//!
//! Wants a real disk under the folder for temporary files, and room for about a gigabyte. With a number as its
//! argument it takes so many leases instead of a million.

#![expect(clippy::print_stdout, reason = "a table for people")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use dhcp_ebpf::wire::dhcp::HwAddr;
use dhcp_user::engine::port::JournalSeq;
use dhcp_user::io::journal::{Journal, JournalEvent, JournalOptions};
use dhcp_user::lease::journal::{Format, Record, write_header, write_lease};
use dhcp_user::lease::time::WallTime;
use dhcp_user::lease::{BindingState, Layout, Lease, PoolLayout, Table};

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
const ROUNDS: usize = 5;
const STARTS: u64 = 1_795_337_328;

fn main() {
    let count = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000_u32);
    let folder = std::env::temp_dir().join(format!("xdhcpd-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for temporary files");
    let result = std::panic::catch_unwind(|| {
        start(&folder, count);
        commits(&folder);
        alone(&folder);
        compaction(&folder, count);
    });
    drop(fs::remove_dir_all(&folder));
    if result.is_err() {
        std::process::exit(1);
    }
}

fn lease(number: u32, round: u64) -> Lease {
    let [a, b, c, d] = number.to_be_bytes();
    Lease {
        starts: WallTime::from_secs(STARTS + round),
        // One end for all: dhcpd inserts into a sorted list, and takes hours when the ends are mixed.
        ends: WallTime::from_secs(STARTS + round + 600),
        tstp: WallTime::from_secs(STARTS + round + 1200),
        cltt: WallTime::from_secs(STARTS + round),
        state: BindingState::Active,
        next_state: BindingState::Free,
        rewind_state: BindingState::Free,
        hw: Some(HwAddr::ethernet([2, 0, a, b, c, d])),
        client_id: Some([1, 2, 0, a, b, c, d].into()),
        hostname: Some(format!("host-{number}").into_bytes().into()),
        ..Lease::free(Ipv4Addr::from(u32::from(FIRST) + number))
    }
}

fn text(lease: &Lease) -> Vec<u8> {
    let mut out = Vec::new();
    write_lease(lease, Format::default(), &mut out);
    out
}

/// The file of all benchmarks, made once.
fn million(folder: &Path, count: u32) -> PathBuf {
    let path = folder.join("dhcpd.leases");
    if path.exists() {
        return path;
    }
    let mut file = BufWriter::new(File::create(&path).expect("the leases file"));
    let mut out = Vec::new();
    write_header(&mut out);
    for number in 0..count {
        write_lease(&lease(number, 0), Format::default(), &mut out);
        file.write_all(&out).expect("room on the disk");
        out.clear();
    }
    file.into_inner().expect("room on the disk").sync_all().expect("a sync");
    path
}

fn open(path: &Path, apply: &mut dyn FnMut(Record)) -> (Journal, Receiver<JournalEvent>) {
    let (sender, events) = channel();
    let report = Box::new(move |event| drop(sender.send(event)));
    let options = JournalOptions { create: true, ..JournalOptions::default() };
    let (journal, replay) = Journal::open(path, options, apply, report).expect("the journal opens");
    assert_eq!(replay.complaints, []);
    (journal, events)
}

fn table(count: u32) -> Table {
    let last = Ipv4Addr::from(u32::from(FIRST) + count - 1);
    let mut table = Table::new(&Layout {
        pools: vec![PoolLayout { ranges: vec![(FIRST, last)], is_failover: false }],
        hash_key: [1, 2],
    });
    table.reserve(count as usize);
    table
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The value of a line of /proc/self/status, in MiB.
fn memory_mib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.chars().filter(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap_or(0) / 1024
}

fn start(folder: &Path, count: u32) {
    let path = million(folder, count);
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let begin = Instant::now();
        let mut table = table(count);
        let (journal, _events) = open(&path, &mut |record| {
            if let Record::Lease(lease) = record {
                table.put(lease);
            }
        });
        times.push(begin.elapsed().as_secs_f64());
        if round == 0 {
            println!("leases in the file              {count:>10}");
            println!("heap of the table, a lease      {:>10} bytes", table.heap_len() / count as usize);
            println!(
                "resident with all of them       {:>10} MiB (peak {})",
                memory_mib("VmRSS:"),
                memory_mib("VmHWM:")
            );
        }
        drop(table);
        journal.close();
    }
    let ours = median(times);
    println!("replay into the table           {:>10.3} s", ours);
    let config = folder.join("dhcpd.conf");
    let last = Ipv4Addr::from(u32::from(FIRST) + count - 1);
    fs::write(&config, format!("subnet 10.0.0.0 netmask 255.0.0.0 {{ pool {{ range {FIRST} {last}; }} }}\n"))
        .expect("room");
    let begin = Instant::now();
    let mut dhcpd = Command::new("/usr/sbin/dhcpd");
    dhcpd
        .args(["-4", "-q", "-T", "-cf"])
        .arg(&config)
        .arg("-lf")
        .arg(&path)
        .stderr(Stdio::null())
        .stdout(Stdio::null());
    match dhcpd.status() {
        Ok(status) if status.success() => {
            let theirs = begin.elapsed().as_secs_f64();
            println!("the same in dhcpd -T            {theirs:>10.3} s ({:.1} times)", theirs / ours);
        }
        Ok(status) => println!("the same in dhcpd -T              it failed: {status}"),
        Err(error) => println!("the same in dhcpd -T              SKIPPED: {error}"),
    }
}

/// Durable commits with a thousand in flight.
fn commits(folder: &Path) {
    const COUNT: u64 = 200_000;
    const IN_FLIGHT: u64 = 1000;
    let path = folder.join("commits.leases");
    let records: Vec<Vec<u8>> = (0..1000).map(|number| text(&lease(number, 0))).collect();
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        drop(fs::remove_file(&path));
        let (journal, events) = open(&path, &mut |_| {});
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
    println!("durable commits, 1000 in flight {:>10.0} leases/s", median(rates));
}

/// One client at a time, against a bare write and sync of the same bytes.
fn alone(folder: &Path) {
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
        let (journal, events) = open(&path, &mut |_| {});
        let begin = Instant::now();
        for seq in 1..=COUNT {
            journal.append(JournalSeq(seq), &record);
            while events.recv() != Ok(JournalEvent::Durable(JournalSeq(seq))) {}
        }
        ours.push(begin.elapsed().as_secs_f64() / COUNT as f64 * 1e6);
    }
    let (ours, bare) = (median(ours), median(bare));
    println!(
        "one in flight                   {ours:>10.1} us (bare append and fdatasync {bare:.1}: {:.2} times)",
        ours / bare
    );
}

/// The longest wait for a commit while 10,000 come every second, without and with a compaction.
fn compaction(folder: &Path, count: u32) {
    let path = million(folder, count);
    let (journal, events) = open(&path, &mut |_| {});
    let mut seq = 0;
    let quiet = longest_wait(&journal, &events, &mut seq, count, false);
    let busy = longest_wait(&journal, &events, &mut seq, count, true);
    println!("10,000 commits/s, longest wait  {:>10.2} ms ({:.2} p99.9)", quiet.0, quiet.1);
    println!("the same during a compaction    {:>10.2} ms ({:.2} p99.9), which took {:.1} s", busy.0, busy.1, busy.2);
}

/// Milliseconds: the longest, the 99.9th percentile; and how long it all took, in seconds.
fn longest_wait(
    journal: &Journal,
    events: &Receiver<JournalEvent>,
    seq: &mut u64,
    count: u32,
    compacts: bool,
) -> (f64, f64, f64) {
    const TICK: Duration = Duration::from_millis(1);
    const PER_TICK: u64 = 10;
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
        if !compacts && now > Duration::from_secs(3) {
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
    waits.sort_by(f64::total_cmp);
    let longest = waits.last().copied().unwrap_or_default();
    (longest, waits[waits.len() * 999 / 1000], begin.elapsed().as_secs_f64())
}
