//! `store`: the leases file against the real ISC dhcpd, which must be able to start on whatever we write.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use dhcp_ebpf::wire::dhcp::HwAddr;
use dhcp_user::engine::port::JournalSeq;
use dhcp_user::io::journal::{Journal, JournalEvent, JournalOptions};
use dhcp_user::lease::journal::{DateFormat, Format, IdFormat, Record, read, write_header, write_lease, write_record};
use dhcp_user::lease::time::WallTime;
use dhcp_user::lease::{BindingState, Lease, Value, Variable};
use tests::skip::skip;

/// A folder of one test, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xdhcpd-store-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The real dhcpd, or a skip.
fn dhcpd(test: &str) -> Option<&'static str> {
    let found = ["/usr/sbin/dhcpd", "/usr/local/sbin/dhcpd"].into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        skip(test, "no dhcpd here (isc-dhcp-server)");
    }
    found
}

/// Lets dhcpd test a leases file: how many leases it would write back. It must have nothing to complain about.
fn accepted(dhcpd: &str, config: &Path, leases: &Path) -> u64 {
    let output = Command::new(dhcpd).args(["-4", "-T", "-cf"]).arg(config).arg("-lf").arg(leases).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    for complaint in ["possible data loss", "no subnet", " line "] {
        assert!(!log.contains(complaint), "{complaint}: {log}");
    }
    let line = log.lines().find_map(|line| line.strip_prefix("Wrote ")?.strip_suffix(" leases to leases file."));
    line.unwrap_or_else(|| panic!("{log}")).parse().unwrap()
}

/// A configuration whose pools hold these addresses.
fn config_for(addresses: impl Iterator<Item = Ipv4Addr>) -> String {
    let nets: BTreeSet<[u8; 3]> =
        addresses.map(|address| [address.octets()[0], address.octets()[1], address.octets()[2]]).collect();
    nets.iter()
        .map(|[a, b, c]| {
            format!(
                "subnet {a}.{b}.{c}.0 netmask 255.255.255.0 {{ pool {{ range {a}.{b}.{c}.0 {a}.{b}.{c}.255; }} }}\n"
            )
        })
        .collect()
}

fn captures() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/dhcpd-leases");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "leases"));
    files.sort();
    assert!(files.len() >= 8);
    files
}

fn records(text: &[u8]) -> Vec<Record> {
    let mut complaints = Vec::new();
    let records = read(text, WallTime::NONE, &mut complaints);
    assert_eq!(complaints, []);
    records
}

#[test]
fn every_capture_rewritten_by_us_is_to_dhcpd_what_the_original_is() {
    let test = "every_capture_rewritten_by_us_is_to_dhcpd_what_the_original_is";
    let Some(dhcpd) = dhcpd(test) else { return };
    let folder = Folder::new("captures");
    for capture in captures() {
        let original = fs::read(&capture).unwrap();
        let records = records(&original);
        let addresses =
            records.iter().filter_map(|record| if let Record::Lease(l) = record { Some(l.address) } else { None });
        // The generated ones have a configuration beside them; the secondary's also served the interrupted primary.
        let own =
            PathBuf::from(capture.to_str().unwrap().replace("-interrupted.leases", ".leases")).with_extension("conf");
        let config = match fs::read_to_string(&own) {
            Ok(text) => text,
            Err(_) => config_for(addresses),
        };
        let config = folder.put("dhcpd.conf", config);
        let before = accepted(dhcpd, &config, &folder.put("original.leases", &original));
        for ids in [IdFormat::Octal, IdFormat::Hex] {
            for dates in [DateFormat::Default, DateFormat::Local { utc_offset_secs: 0 }] {
                let mut text = Vec::new();
                write_header(&mut text);
                for record in &records {
                    write_record(record, Format { dates, ids }, &mut text);
                }
                let after = accepted(dhcpd, &config, &folder.put("rewritten.leases", text));
                assert_eq!(after, before, "{}", capture.display());
                assert!(after > 0);
            }
        }
    }
}

/// Leases with a bit of everything, some of it nasty.
fn odd_leases() -> Vec<Lease> {
    let base = Ipv4Addr::new(10, 80, 0, 0);
    let time = |secs: u32| WallTime::from_secs(secs.into());
    (0..=255_u8)
        .map(|n| {
            let state = BindingState::ALL[usize::from(n) % BindingState::ALL.len()];
            let bytes: Vec<u8> = (0..n % 40 + 1).map(|i| n.wrapping_mul(7).wrapping_add(i.wrapping_mul(n))).collect();
            let agent =
                [&[1, bytes.len() as u8], bytes.as_slice(), &[9, 3, n, 1, 2, 4, 4, 0, 0, 0, n, 5, 4, 10, 0, 0, n]]
                    .concat();
            Lease {
                starts: time(1_795_000_000),
                ends: if n == 7 { WallTime::NEVER } else { time(2_095_000_000 + u32::from(n)) },
                tstp: time(2_095_000_900),
                cltt: time(1_795_000_000),
                state,
                next_state: BindingState::Free,
                rewind_state: if n % 3 == 0 { BindingState::Free } else { state },
                is_reserved: n % 50 == 9,
                is_bootp: n % 60 == 11,
                hw: Some(if n % 13 == 5 {
                    HwAddr::new(32, &bytes[..bytes.len().min(8)]).unwrap()
                } else {
                    HwAddr::ethernet([2, 0, 0, 0, 0, n])
                }),
                client_id: Some(bytes.clone().into()),
                hostname: Some(format!("host {n}'$`").into_bytes().into()),
                agent_options: (n % 2 == 0).then(|| agent.into()),
                variables: vec![
                    Variable { name: "vendor-class-identifier".into(), value: Value::Data(bytes.into()) },
                    Variable { name: "some-number".into(), value: Value::Number(i64::from(n) - 100) },
                    Variable { name: "some-flag".into(), value: Value::Boolean(n % 2 == 0) },
                ],
                on_expiry: (n % 5 == 0).then(|| (*b"\n    log (info, \"}\");\n  ").into()),
                on_release: (n % 10 == 0).then(|| (*b"\n    log (info, \"}\");\n  ").into()),
                ..Lease::free(Ipv4Addr::from(u32::from(base) + u32::from(n)))
            }
        })
        .collect()
}

#[test]
fn dhcpd_accepts_whatever_a_lease_can_say() {
    let Some(dhcpd) = dhcpd("dhcpd_accepts_whatever_a_lease_can_say") else {
        return;
    };
    let folder = Folder::new("odd");
    let leases = odd_leases();
    let config = folder.put("dhcpd.conf", config_for(leases.iter().map(|lease| lease.address)));
    for ids in [IdFormat::Octal, IdFormat::Hex] {
        let mut text = Vec::new();
        write_header(&mut text);
        for lease in &leases {
            write_lease(lease, Format { ids, ..Format::default() }, &mut text);
        }
        let count = accepted(dhcpd, &config, &folder.put("dhcpd.leases", text));
        assert_eq!(count, leases.len() as u64);
    }
}

/// The oracle itself: dhcpd does complain when there is something to complain about.
#[test]
fn dhcpd_would_complain_about_a_broken_record() {
    let Some(dhcpd) = dhcpd("dhcpd_would_complain_about_a_broken_record") else {
        return;
    };
    let folder = Folder::new("broken");
    let config = folder.put("dhcpd.conf", config_for(std::iter::once(Ipv4Addr::new(10, 80, 0, 1))));
    let leases = folder.put("dhcpd.leases", "lease 10.80.0.1 { starts nonsense; }\n");
    assert!(std::panic::catch_unwind(|| accepted(dhcpd, &config, &leases)).is_err());
}

#[test]
fn dhcpd_starts_on_our_file_at_any_time() {
    let Some(dhcpd) = dhcpd("dhcpd_starts_on_our_file_at_any_time") else {
        return;
    };
    let folder = Folder::new("any-time");
    let mut leases = odd_leases();
    let config = folder.put("dhcpd.conf", config_for(leases.iter().map(|lease| lease.address)));
    let (sender, events) = channel();
    let report = Box::new(move |event| drop(sender.send(event)));
    let options = JournalOptions { create: true, ..JournalOptions::default() };
    let file = folder.0.join("dhcpd.leases");
    let (journal, _) = Journal::open(&file, options, &mut |_: Record| {}, report).unwrap();
    let wait_for = |wanted: &dyn Fn(&JournalEvent) -> bool| {
        while !wanted(&events.recv_timeout(Duration::from_secs(20)).unwrap()) {}
    };
    let mut seq = 0;
    for _ in 0..3 {
        for lease in &mut leases {
            seq += 1;
            lease.cltt = lease.cltt.after(1);
            let mut record = Vec::new();
            write_lease(lease, Format::default(), &mut record);
            journal.append(JournalSeq(seq), &record);
        }
        wait_for(&|event| *event == JournalEvent::Durable(JournalSeq(seq)));
        // As after a crash: the filler is still there.
        let copy = folder.put("copy.leases", fs::read(&file).unwrap());
        assert_eq!(accepted(dhcpd, &config, &copy), leases.len() as u64);
        journal.compact();
        wait_for(&|event| matches!(event, JournalEvent::Compacted { .. }));
        let copy = folder.put("copy.leases", fs::read(&file).unwrap());
        assert_eq!(accepted(dhcpd, &config, &copy), leases.len() as u64);
    }
    journal.close();
    assert_eq!(accepted(dhcpd, &config, &file), leases.len() as u64);
    let ours = records(&fs::read(&file).unwrap());
    let expected: Vec<Record> = leases.into_iter().map(Record::Lease).collect();
    assert_eq!(ours, expected);
}
