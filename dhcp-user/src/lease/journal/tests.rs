//! Round trips, real files, cuts and holes.

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;
use proptest::prelude::*;

use super::*;
use crate::lease::record::{Billing, Value, Variable};
use crate::lease::state::BindingState;

const NOW: WallTime = WallTime::NONE;

fn read_all(text: &[u8]) -> (Vec<Record>, Vec<Complaint>) {
    let mut complaints = Vec::new();
    let records = read(text, NOW, &mut complaints);
    (records, complaints)
}

fn written(record: &Record, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    write_record(record, format, &mut out);
    out
}

fn lease_of(text: &str) -> Lease {
    match read_all(text.as_bytes()) {
        (records, complaints) if complaints.is_empty() => match records.as_slice() {
            [Record::Lease(lease)] => lease.clone(),
            other => panic!("{other:?}"),
        },
        (_, complaints) => panic!("{complaints:?}"),
    }
}

/// What dhcpd 4.4.3-P1 wrote when it was given every field there is (a file of ours is compared with it in the
/// `store` suite).
const FULL: &str = "\
lease 10.80.0.100 {
  starts 0 2026/11/22 08:48:48;
  ends never;
  tstp never;
  tsfp 0 2026/11/22 08:48:49;
  atsfp 0 2026/11/22 08:48:50;
  cltt 0 2026/11/22 08:48:51;
  binding state active;
  next binding state free;
  rewind binding state released;
  reserved;
  dynamic-bootp;
  billing subclass \"c\" \"v\";
  hardware ethernet 00:01:02:0a:0b:0c;
  uid \"a\\010b\\011c\\001\\\"\\\\\";
  set boo = true;
  set txt = \"a\\377b\";
  set num2 = %4000000000;
  set num = %7;
  option agent.circuit-id \"p1/3\";
  option agent.remote-id a4:a2;
  option agent.agent-id 1.2.3.4;
  option agent.DOCSIS-device-class 2;
  option agent.link-selection 10.0.0.1;
  option agent.unknown-9 \"abc\";
  option agent.unknown-12 0:1;
  client-hostname \"alice\";
  on expiry {
    log (info, \"bye\");
    if known {
      set x = \"1\" ;
    }
  }
  on release {
    log (info, \"bye\");
  }
}
";

#[test]
fn a_record_with_everything_is_written_as_dhcpd_writes_it() {
    let lease = lease_of(FULL);
    assert_eq!(lease.client_id.as_deref(), Some(b"a\x08b\tc\x01\"\\".as_slice()));
    assert_eq!(lease.variable("num2"), Some(&Value::Number(4_000_000_000)));
    assert_eq!(lease.agent_options.as_deref().map(|raw| raw[..8].to_vec()), Some(b"\x01\x04p1/3\x02\x02".to_vec()));
    let mut out = Vec::new();
    write_lease(&lease, Format::default(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), FULL);
}

#[test]
fn the_local_format_and_hex_ids_are_written_as_dhcpd_writes_them() {
    let lease = lease_of("lease 10.80.0.101 { ends 0 2037/11/22 08:48:48; binding state active; uid 1:2:ff; }");
    let format = Format { dates: DateFormat::Local { utc_offset_secs: 0 }, ids: IdFormat::Hex };
    let mut out = Vec::new();
    write_lease(&lease, format, &mut out);
    let expected = "lease 10.80.0.101 {\n  ends epoch 2142492528; # Sun Nov 22 08:48:48 2037\n  binding state active;\n  \
                    uid 01:02:ff;\n}\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let mut out = Vec::new();
    write_server_duid(b"\0\x01\x80a", format, &mut out);
    assert_eq!(out, b"server-duid 00:01:80:61;\n\n");
}

#[test]
fn a_failover_state_is_written_as_dhcpd_writes_it() {
    let text = "\nfailover peer \"fo\" state {\n  my state communications-interrupted at 0 2026/11/22 09:03:53;\n  \
                partner state unknown-state at 0 2026/11/22 09:03:53;\n  mclt 60;\n}\n";
    let (records, complaints) = read_all(text.as_bytes());
    assert_eq!(complaints, []);
    assert_eq!(written(&records[0], Format::default()), text.as_bytes());
}

#[test]
fn a_host_name_that_cannot_be_printed_is_left_out() {
    for (name, is_written) in [("alice", true), ("a b'$", true), ("a\"b", false), ("a\\b", false), ("a\u{e9}", false)] {
        let lease = Lease { hostname: Some(name.as_bytes().into()), ..Lease::free(Ipv4Addr::LOCALHOST) };
        let mut out = Vec::new();
        write_lease(&lease, Format::default(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap().contains("client-hostname"), is_written, "{name}");
    }
}

#[test]
fn what_dhcpd_reads_in_old_files_is_read() {
    let lease = lease_of(
        "LEASE 10.0.0.1 { STARTS epoch 5; ends 0 2026/11/22 08:48:48 3600; tstp 0 2026/11/22 8:48:48 -3600; abandoned; }",
    );
    assert_eq!((lease.starts.secs(), lease.state), (5, BindingState::Abandoned));
    assert_eq!((lease.ends.secs(), lease.tstp.secs()), (1_795_337_328 + 3600, 1_795_337_328 - 3600));
    let lease = lease_of(
        "lease 10.0.0.1 { ends never; timestamp 0 2026/11/22 08:48:48; ddns-fwd-name \"f\"; ddns-rev-name \"r\"; }",
    );
    assert_eq!((lease.state, lease.next_state), (BindingState::Active, BindingState::Free));
    let names: Vec<&str> = lease.variables.iter().map(|variable| &*variable.name).collect();
    assert_eq!(names, ["ddns-rev-name", "ddns-fwd-name"]);
    let lease = lease_of("lease 10.0.0.1 { ends epoch 5; binding state bootp; uid \"\"; hardware unknown-77 1:2; }");
    assert!(lease.is_bootp && lease.client_id.is_none());
    assert_eq!(lease.hw, HwAddr::new(77, &[1, 2]));
}

#[test]
fn an_unknown_field_survives_and_an_unknown_statement_too() {
    let text = "lease 10.0.0.1 {\n  binding state free;\n  new-thing { a \"}\"; }\n  other 5;\n}\n";
    let lease = lease_of(text);
    let mut out = Vec::new();
    write_lease(&lease, Format::default(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), text);

    let text = "host a { dynamic; }\nfuture \"x\" 5;\nmore { a; }\nlease 10.0.0.1 { binding state free; }\n";
    let (records, complaints) = read_all(text.as_bytes());
    assert_eq!(complaints, []);
    assert_eq!(records[0], Record::Other((*b"host a { dynamic; }").into()));
    assert_eq!(records[1], Record::Other((*b"future \"x\" 5;\nmore { a; }").into()));
    assert!(matches!(records[2], Record::Lease(_)));
}

#[test]
fn a_complaint_names_line_and_column_and_the_rest_is_read() {
    let text = "# head\nlease 10.0.0.1 {\n  ends 0 2026/99/01 00:00:00;\n}\nlease 10.0.0.2 { binding state free; }\n";
    let (records, complaints) = read_all(text.as_bytes());
    assert_eq!(records.len(), 1);
    assert_eq!((complaints[0].line, complaints[0].column), (3, 8));
    assert_eq!(complaints[0].to_string(), "3:8: date expected");
}

#[test]
fn a_foreign_file_is_recognised() {
    for text in [
        "root:x:0:0:root:/root:/bin/bash\n",
        "\x7fELF\x02\x01\0\0",
        "subnet 10.0.0.0 netmask 255.0.0.0 { }\nhost a { }\n",
    ] {
        let mut reader = Reader::new(NOW);
        reader.feed(text.as_bytes(), true, &mut |_| {});
        assert!(reader.foreign().is_some(), "{text}");
    }
    for text in
        ["", "# only a comment\n", "lea", "lease 10.0", "\n\n", "nonsense;\nlease 10.0.0.1 { binding state free; }\n"]
    {
        let mut reader = Reader::new(NOW);
        reader.feed(text.as_bytes(), true, &mut |_| {});
        assert!(reader.foreign().is_none(), "{text}");
    }
}

#[test]
fn a_record_without_its_beginning_is_damage_and_no_unknown_statement() {
    for beginning in ["ease 10.0.0.1 {", "e 10.0.0.1 {", " 10.0.0.1 {", "10.0.0.1 {", "starts 4 2017/10/05 15:22:29;"] {
        let text = format!("{beginning} ends epoch 5;\n}}\nlease 10.0.0.2 {{ binding state free; }}\n");
        let (records, complaints) = read_all(text.as_bytes());
        assert_eq!((records.len(), complaints.len()), (1, 1), "{beginning}");
    }
}

/// A hole of filler joins the head of one record to the tail of another: neither may come out.
#[test]
fn a_record_pieced_together_from_two_does_not_come_out() {
    let record = |last: u8| {
        let lease = Lease {
            ends: WallTime::from_secs(1_800_000_000),
            state: BindingState::Active,
            hw: Some(HwAddr::ethernet([2, 0, 0, 0, 0, last])),
            client_id: Some(vec![last; 40].into()),
            ..Lease::free(Ipv4Addr::new(10, 0, 0, last))
        };
        (written(&Record::Lease(lease.clone()), Format::default()), lease)
    };
    let whole: Vec<(Vec<u8>, Lease)> = (1..=20).map(record).collect();
    let text: Vec<u8> = whole.iter().flat_map(|(text, _)| text.clone()).collect();
    for (start, filler) in (0..text.len().saturating_sub(600)).step_by(7).flat_map(|start| [(start, b'\n'), (start, 0)])
    {
        let mut cut = text.clone();
        cut[start..start + 512].fill(filler);
        let (records, _) = read_all(&cut);
        assert!(records.len() >= 15);
        for record in records {
            let Record::Lease(lease) = record else { panic!("{record:?}") };
            assert!(whole.iter().any(|(_, whole)| *whole == lease), "hole at {start}: {lease:?}");
        }
    }
}

fn captures() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/captures/dhcpd-leases");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "leases"))
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    assert!(files.len() >= 8);
    files
}

#[test]
fn every_capture_reads_without_complaint_and_comes_back_from_a_rewrite() {
    for (name, text) in captures() {
        let (records, complaints) = read_all(&text);
        assert_eq!(complaints, [], "{name}");
        let leases = records.iter().filter(|record| matches!(record, Record::Lease(_))).count();
        let expected =
            text.split(|byte| *byte == b'\n').filter(|line| line.trim_ascii().starts_with(b"lease ")).count();
        assert_eq!(leases, expected, "{name}");
        let mut out = Vec::new();
        write_header(&mut out);
        for record in &records {
            write_record(record, Format::default(), &mut out);
        }
        assert_eq!(read_all(&out), (records, vec![]), "{name}");
    }
}

/// What dhcpd 4.4.3 wrote, we write the same way: every record of the generated files, byte for byte.
#[test]
fn what_dhcpd_wrote_here_is_written_again_byte_for_byte() {
    for (name, text) in captures().into_iter().filter(|(name, _)| name.contains("generated")) {
        let mut out = Vec::new();
        write_header(&mut out);
        for record in read_all(&text).0 {
            write_record(&record, Format::default(), &mut out);
        }
        let lines = |text: &[u8]| {
            String::from_utf8(text.to_vec())
                .unwrap()
                .lines()
                .filter(|l| !l.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(&out), lines(&text), "{name}");
    }
}

#[test]
fn pieces_of_any_size_read_like_the_whole() {
    for (name, text) in captures() {
        let (whole, _) = read_all(&text);
        for size in [1, 7, 64, 1000] {
            let (mut reader, mut records, mut done, mut end) = (Reader::new(NOW), Vec::new(), 0, 0);
            while end < text.len() {
                end = (end + size).min(text.len());
                done += reader.feed(&text[done..end], end == text.len(), &mut |found| match found {
                    Found::Record(record, span) => {
                        assert!(span.offset + span.len <= end as u64);
                        records.push(record);
                    }
                    other => panic!("{name}: {other:?}"),
                });
                if size == 1 && end > 3000 {
                    break;
                }
            }
            assert!(whole.starts_with(&records), "{name} in pieces of {size}");
            assert!(size == 1 || whole.len() == records.len());
        }
    }
}

#[test]
fn a_text_cut_anywhere_gives_the_records_before_the_cut() {
    let text = [FULL.as_bytes(), b"server-duid \"\\001abc\";\n", FULL.as_bytes()].concat();
    let (whole, _) = read_all(&text);
    for len in 0..text.len() {
        let mut ends = Vec::new();
        let (mut records, mut torn) = (Vec::new(), 0);
        Reader::new(NOW).feed(&text[..len], true, &mut |found| match found {
            Found::Record(record, span) => {
                records.push(record);
                ends.push(span.offset + span.len);
            }
            Found::Torn(_, span) => {
                torn += 1;
                assert_eq!(span.offset + span.len, len as u64);
            }
            Found::Damaged(complaint, span) => panic!("cut at {len}: {complaint} {span:?}"),
        });
        assert!(whole.starts_with(&records), "cut at {len}");
        let clean = ends.last().copied().unwrap_or(0) as usize;
        let rest = text[clean..len].trim_ascii();
        assert_eq!(torn, usize::from(!rest.is_empty()), "cut at {len}");
    }
}

fn any_bytes() -> impl Strategy<Value = Box<[u8]>> {
    prop::collection::vec(any::<u8>(), 1..40).prop_map(Into::into)
}

fn any_time() -> impl Strategy<Value = WallTime> {
    prop_oneof![Just(0_u32), Just(0x7fff_ffff), 1_u32..0x7fff_ffff].prop_map(|secs| WallTime::from_secs(secs.into()))
}

fn any_state() -> impl Strategy<Value = BindingState> {
    prop::sample::select(&BindingState::ALL[..])
}

prop_compose! {
    fn any_lease()(
        address in any::<u32>(),
        times in prop::array::uniform6(any_time()),
        states in prop::array::uniform3(any_state()),
        flags in any::<(bool, bool)>(),
        hw in prop::option::of((any::<u8>(), prop::collection::vec(any::<u8>(), 1..=16))),
        client_id in prop::option::of(any_bytes()),
        hostname in prop::option::of("[ !#-\\[\\]-~]{0,30}"),
        agent in prop::option::of(prop::collection::vec((any::<u8>(), any_bytes()), 1..4)),
        variables in prop::collection::btree_map("[a-z][a-zA-Z0-9_-]{1,8}", prop_oneof![
            any_bytes().prop_map(Value::Data),
            any::<i32>().prop_map(|number| Value::Number(number.into())),
            any::<bool>().prop_map(Value::Boolean),
        ], 0..3),
        billing in prop::option::of((any_bytes(), prop::option::of(any_bytes()))),
        events in prop::array::uniform2(prop::option::of(prop::sample::select(vec!["", "\n    log (info, \"}\");\n  ", " if known { x; } "]))),
        unknown in prop::option::of(prop::sample::select(vec!["odd;", "odd { a; }", "odd \"}\";\n  more 5;"])),
    ) -> Lease {
        let [starts, ends, tstp, tsfp, atsfp, cltt] = times;
        let [state, next_state, rewind_state] = states;
        let [on_expiry, on_release] = events.map(|body| body.map(|body: &str| body.as_bytes().into()));
        Lease {
            starts, ends, tstp, tsfp, atsfp, cltt, state, next_state, rewind_state,
            is_reserved: flags.0,
            is_bootp: flags.1,
            hw: hw.and_then(|(htype, bytes)| HwAddr::new(htype, &bytes)),
            client_id,
            hostname: hostname.map(|name| name.into_bytes().into()),
            agent_options: agent.map(|subs| {
                subs.iter().flat_map(|(code, value)| [&[*code, value.len() as u8], &**value].concat()).collect()
            }),
            variables: variables.into_iter().map(|(name, value)| Variable { name: name.into(), value }).collect(),
            billing: billing.map(|(class, value)| match value {
                Some(value) => Billing::Subclass(class, value),
                None => Billing::Class(class),
            }),
            on_expiry,
            on_release,
            unknown: unknown.map(|text: &str| text.as_bytes().into()),
            ..Lease::free(address.into())
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(lease in any_lease(), is_local in any::<bool>(), is_hex in any::<bool>()) {
        let format = Format {
            dates: if is_local { DateFormat::Local { utc_offset_secs: -3600 } } else { DateFormat::Default },
            ids: if is_hex { IdFormat::Hex } else { IdFormat::Octal },
        };
        let record = Record::Lease(lease);
        let text = written(&record, format);
        let (records, complaints) = read_all(&text);
        prop_assert_eq!(complaints, vec![], "{}", String::from_utf8_lossy(&text));
        prop_assert_eq!(records, vec![record], "{}", String::from_utf8_lossy(&text));
        // A chimera is told by its empty lines: a writer never writes them.
        prop_assert!(!text.windows(2).any(|pair| pair == b"\n\n"));
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_lose_its_place(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b" \n;{}\"\\#lease 10.0.1"[..])], 0..200),
        before in 0_usize..600,
    ) {
        let mut text = FULL.as_bytes()[..before.min(FULL.len())].to_vec();
        text.extend_from_slice(&bytes);
        text.extend_from_slice(b"\n");
        text.extend_from_slice(FULL.as_bytes());
        let mut end = 0;
        let mut last = None;
        Reader::new(NOW).feed(&text, true, &mut |found| {
            let span = match &found {
                Found::Record(_, span) | Found::Damaged(_, span) | Found::Torn(_, span) => *span,
            };
            assert!(span.offset >= end && span.len > 0);
            end = span.offset + span.len;
            if let Found::Record(record, _) = found {
                last = Some(record);
            }
        });
        prop_assert!(end <= text.len() as u64);
        prop_assert_eq!(last, Some(Record::Lease(lease_of(FULL))), "the record behind the damage is read");
    }
}
