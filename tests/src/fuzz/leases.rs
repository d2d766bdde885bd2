//! Bytes of dhcpd.leases: read at once and in pieces, rewritten, and read again.

use dhcp_user::lease::journal::{Format, Found, Reader, Record, is_printable_name, read, write_record};
use dhcp_user::lease::time::WallTime;

use super::{Target, captures, files};

pub(super) const TARGET: Target = Target {
    name: "leases",
    run,
    seeds,
    words: &[
        b"lease 10.0.0.1 {\n",
        b"}\n",
        b"{",
        b";",
        b"\"",
        b"\\",
        b"\\001",
        b"\\\"",
        b"#",
        b"\n",
        b"0 2026/11/22 12:00:00",
        b"epoch 1",
        b"never",
        b"starts ",
        b"ends ",
        b"tstp ",
        b"tsfp ",
        b"atsfp ",
        b"cltt ",
        b"binding state active;\n",
        b"next binding state free;\n",
        b"rewind binding state ",
        b"backup",
        b"hardware ethernet 2:0:0:0:0:1;\n",
        b"uid \"",
        b"uid 01:02;\n",
        b"set a = \"",
        b"set a = %1;\n",
        b"client-hostname \"",
        b"option agent.circuit-id ",
        b"option agent.unknown-9 1:2;\n",
        b"on expiry { log(info, \"x\"); }\n",
        b"billing class \"a\";\n",
        b"billing subclass \"a\" 1:2;\n",
        b"reserved;\n",
        b"dynamic-bootp;\n",
        b"abandoned;\n",
        b"failover peer \"a\" state {\n",
        b"my state normal at ",
        b"partner state ",
        b"mclt 3;\n",
        b"server-duid \"",
        b"authoring-byte-order little-endian;\n",
        b"host a { dynamic; }\n",
        b"ia-na \"",
        b"\0\0\0\0",
    ],
    rounds: 1200,
};

/// 2026/11/22 12:00:00 UTC.
const NOW: u64 = 1_795_348_800;

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for file in files(&captures("dhcpd-leases"), "leases") {
        // Whole files are long, and the pieces say as much.
        seeds.extend(file.chunks(2000).take(3).map(<[u8]>::to_vec));
        if file.len() < 4000 {
            seeds.push(file);
        }
    }
    seeds
}

fn run(text: &[u8]) {
    let now = WallTime::from_secs(NOW);
    let mut complaints = Vec::new();
    let mut records = read(text, now, &mut complaints);
    for complaint in &complaints {
        assert!(complaint.offset <= text.len() as u64, "{complaint}");
    }
    if let Some(&first) = text.first() {
        assert_eq!(in_pieces(text, usize::from(first) + 1, now), records, "read in pieces it says something else");
    }
    // As dhcpd does: a name that cannot be printed is not written.
    for record in &mut records {
        if let Record::Lease(lease) = record {
            lease.hostname.take_if(|name| !is_printable_name(name));
        }
    }
    let rewritten = write(&records);
    complaints.clear();
    let again = joined(read(&rewritten, now, &mut complaints));
    let records = joined(records);
    let shown = || String::from_utf8_lossy(&rewritten).into_owned();
    assert_eq!(complaints, [], "what was written is not understood\n{}", shown());
    assert_eq!(again, records, "what was written says something else\n{}", shown());
    assert_eq!(write(&again), rewritten, "writing it again changes it");
}

/// What is kept as it stood is one piece up to the next record that is understood: damage between two pieces is gone
/// when they are written, and they are one.
fn joined(records: Vec<Record>) -> Vec<Record> {
    let mut all: Vec<Record> = Vec::with_capacity(records.len());
    for record in records {
        match (all.last_mut(), record) {
            (Some(Record::Other(before)), Record::Other(text)) => *before = [&**before, b"\n", &*text].concat().into(),
            (_, record) => all.push(record),
        }
    }
    all
}

fn write(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        write_record(record, Format::default(), &mut out);
    }
    out
}

/// The same file as it comes from a disk, in pieces.
fn in_pieces(text: &[u8], len: usize, now: WallTime) -> Vec<Record> {
    let mut reader = Reader::new(now);
    let (mut records, mut held) = (Vec::new(), Vec::new());
    let mut pieces = text.chunks(len * 8).peekable();
    while let Some(piece) = pieces.next() {
        held.extend_from_slice(piece);
        let done = reader.feed(&held, pieces.peek().is_none(), &mut |found| {
            if let Found::Record(record, _) = found {
                records.push(record);
            }
        });
        held.drain(..done);
    }
    records
}
