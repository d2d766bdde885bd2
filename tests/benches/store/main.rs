//! `cargo xtask bench store`: the figures of the lease store, ratios taken in one run, medians of five.
//!
//! Wants a real disk under the folder for temporary files, and room for about two gigabytes; the part that starts
//! whole servers wants root. With a number as its argument it takes so many leases instead of a million; with names of
//! parts (`start`, `replay`, `commit`, `compaction`) only those.

#![expect(clippy::print_stdout, reason = "a table for people")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod commit;
mod compaction;
mod start;

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::SystemTime;

use dhcp_ebpf::wire::dhcp::HwAddr;
use dhcp_user::io::journal::{Intake, Journal, JournalEvent, JournalOptions};
use dhcp_user::lease::journal::{Format, write_header, write_lease};
use dhcp_user::lease::time::WallTime;
use dhcp_user::lease::{BindingState, Lease};

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
const ROUNDS: usize = 5;
/// Length of every lease, in seconds.
const LEASE_SECS: u64 = 3600;

fn main() {
    // `cargo bench` adds an option of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let count = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1_000_000_u32);
    let is_wanted =
        |part: &str| words.iter().all(|word| word.parse::<u32>().is_ok()) || words.iter().any(|w| w == part);
    let folder = std::env::temp_dir().join(format!("xdhcpd-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for temporary files");
    let result = std::panic::catch_unwind(|| {
        if is_wanted("replay") {
            start::replay(&folder, count);
        }
        if is_wanted("start") {
            start::servers(&folder, count);
        }
        if is_wanted("commit") {
            commit::many(&folder);
            commit::alone(&folder);
        }
        if is_wanted("compaction") {
            compaction::compaction(&folder, count);
        }
    });
    drop(fs::remove_dir_all(&folder));
    if result.is_err() {
        std::process::exit(1);
    }
}

/// One line of the table: what, how much, and what it is compared to.
fn row(what: &str, figure: &str, beside: &str) {
    println!("{what:<42} {figure:>16}  {beside}");
}

/// Seconds since 1970, once for the whole run.
fn starts() -> u64 {
    static STARTS: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *STARTS.get_or_init(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("1970 is over").as_secs())
}

fn lease(number: u32, round: u64) -> Lease {
    let mac = mac(number);
    let [a, b, c, d, e, f] = mac;
    let starts = starts() + round;
    Lease {
        starts: WallTime::from_secs(starts),
        // One end for all: dhcpd inserts into a sorted list, and takes hours when the ends are mixed.
        ends: WallTime::from_secs(starts + LEASE_SECS),
        tstp: WallTime::from_secs(starts + LEASE_SECS * 3 / 2),
        cltt: WallTime::from_secs(starts),
        state: BindingState::Active,
        next_state: BindingState::Free,
        rewind_state: BindingState::Free,
        hw: Some(HwAddr::ethernet(mac)),
        client_id: Some([1, a, b, c, d, e, f].into()),
        hostname: Some(format!("host-{number}").into_bytes().into()),
        ..Lease::free(Ipv4Addr::from(u32::from(FIRST) + number))
    }
}

/// The Ethernet address of a client.
fn mac(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [2, 0, a, b, c, d]
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

/// A configuration with these addresses in its one pool.
fn configuration(count: u32) -> String {
    let last = Ipv4Addr::from(u32::from(FIRST) + count - 1);
    format!(
        "authoritative;\nddns-update-style none;\nping-check off;\ndefault-lease-time {LEASE_SECS};\n\
         max-lease-time {LEASE_SECS};\nsubnet 10.0.0.0 netmask 255.0.0.0 {{ pool {{ range {FIRST} {last}; }} }}\n"
    )
}

fn open(path: &Path, intake: &mut (impl Intake + ?Sized)) -> (Journal, Receiver<JournalEvent>) {
    let (sender, events) = channel();
    let report = Box::new(move |event| drop(sender.send(event)));
    let options = JournalOptions { create: true, ..JournalOptions::default() };
    let (journal, replay) = Journal::open(path, options, intake, report).expect("the journal opens");
    assert_eq!(replay.complaints, []);
    (journal, events)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The value of a line of /proc/PID/status, in MiB.
fn memory_mib(process: &str, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.chars().filter(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap_or(0) / 1024
}
