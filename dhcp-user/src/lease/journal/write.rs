//! Records to text: byte for byte what ISC dhcpd 4.4.3 writes, field by field in its order.

use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::HwAddr;

use super::date::write_number;
use super::{Format, IdFormat, PeerState, Record, agent, date};
use crate::lease::record::{Billing, Lease, Value};
use crate::lease::state::BindingState;
use crate::lease::time::WallTime;

/// The head of every file dhcpd writes. It names the program whose format this is: tools look for the line.
const HEADER: &str = "\
# The format of this file is documented in the dhcpd.leases(5) manual page.
# This lease file was written by isc-dhcp-4.4.3-P1

# authoring-byte-order entry is generated, DO NOT DELETE
authoring-byte-order little-endian;

";

/// Hardware types with a name in the leases file.
pub(super) const HARDWARE: [(u8, &str); 4] = [(1, "ethernet"), (6, "token-ring"), (8, "fddi"), (32, "infiniband")];

/// Writes the head of a file, as dhcpd does at every rewrite.
pub fn write_header(out: &mut Vec<u8>) {
    out.extend_from_slice(HEADER.as_bytes());
}

/// Writes any record.
pub fn write_record(record: &Record, format: Format, out: &mut Vec<u8>) {
    match record {
        Record::Lease(lease) => write_lease(lease, format, out),
        Record::PeerState(state) => write_peer_state(state, format, out),
        Record::ServerDuid(duid) => write_server_duid(duid, format, out),
        Record::Other(text) => {
            out.extend_from_slice(text);
            out.push(b'\n');
        }
    }
}

/// Writes a lease record.
///
/// dhcpd: a host name with a byte that cannot be printed, a quote or a backslash is left out, not escaped.
pub fn write_lease(lease: &Lease, format: Format, out: &mut Vec<u8>) {
    out.extend_from_slice(b"lease ");
    write_address(lease.address, out);
    out.extend_from_slice(b" {\n");
    for (name, time) in [
        ("  starts ", lease.starts),
        ("  ends ", lease.ends),
        ("  tstp ", lease.tstp),
        ("  tsfp ", lease.tsfp),
        ("  atsfp ", lease.atsfp),
        ("  cltt ", lease.cltt),
    ] {
        if time.is_some() {
            write_time(name, time, format, out);
        }
    }
    write_states(lease, out);
    match &lease.billing {
        Some(Billing::Class(class)) => {
            out.extend_from_slice(b"  billing class ");
            write_quoted(class, out);
            out.extend_from_slice(b";\n");
        }
        Some(Billing::Subclass(class, value)) => {
            out.extend_from_slice(b"  billing subclass ");
            write_quoted(class, out);
            out.push(b' ');
            if value.iter().all(|byte| (0x20..0x7f).contains(byte)) {
                write_quoted(value, out);
            } else {
                write_hex(value, out);
            }
            out.extend_from_slice(b";\n");
        }
        None => {}
    }
    if let Some(hw) = &lease.hw {
        write_hardware(hw, out);
    }
    if let Some(id) = lease.client_id.as_deref().filter(|id| !id.is_empty()) {
        out.extend_from_slice(b"  uid ");
        write_id(id, format, out);
        out.extend_from_slice(b";\n");
    }
    write_variables(lease, out);
    if let Some(raw) = &lease.agent_options {
        agent::write(raw, out);
    }
    if let Some(name) = lease.hostname.as_deref().filter(|name| is_printable_name(name)) {
        out.extend_from_slice(b"  client-hostname \"");
        out.extend_from_slice(name);
        out.extend_from_slice(b"\";\n");
    }
    write_events(lease, out);
    if let Some(unknown) = &lease.unknown {
        out.extend_from_slice(b"  ");
        out.extend_from_slice(unknown);
        out.push(b'\n');
    }
    out.extend_from_slice(b"}\n");
}

fn write_states(lease: &Lease, out: &mut Vec<u8>) {
    let mut line = |name: &str, state: BindingState| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(state.name().as_bytes());
        out.extend_from_slice(b";\n");
    };
    line("  binding state ", lease.state);
    if lease.next_state != lease.state {
        line("  next binding state ", lease.next_state);
    }
    if lease.rewind_state != lease.state {
        line("  rewind binding state ", lease.rewind_state);
    }
    if lease.is_reserved {
        out.extend_from_slice(b"  reserved;\n");
    }
    if lease.is_bootp {
        out.extend_from_slice(b"  dynamic-bootp;\n");
    }
}

fn write_variables(lease: &Lease, out: &mut Vec<u8>) {
    for variable in &lease.variables {
        out.extend_from_slice(b"  set ");
        out.extend_from_slice(variable.name.as_bytes());
        out.extend_from_slice(b" = ");
        match &variable.value {
            Value::Data(bytes) => write_quoted(bytes, out),
            Value::Number(number) => out.extend_from_slice(format!("%{number}").as_bytes()),
            Value::Boolean(true) => out.extend_from_slice(b"true"),
            Value::Boolean(false) => out.extend_from_slice(b"false"),
        }
        out.extend_from_slice(b";\n");
    }
}

fn write_events(lease: &Lease, out: &mut Vec<u8>) {
    let mut block = |name: &str, body: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(b"}\n");
    };
    match (&lease.on_expiry, &lease.on_release) {
        (Some(expiry), Some(release)) if expiry == release => block("  on expiry or release {", expiry),
        (expiry, release) => {
            if let Some(body) = expiry {
                block("  on expiry {", body);
            }
            if let Some(body) = release {
                block("  on release {", body);
            }
        }
    }
}

/// Whether a host name may stand in the file (dhcpd: "Hostname Unsuitable for Printing" otherwise).
#[must_use]
pub fn is_printable_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (0x20..0x7f).contains(byte) && !matches!(byte, b'"' | b'\\'))
}

/// Writes a failover state record, with the empty line before it.
pub fn write_peer_state(state: &PeerState, format: Format, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\nfailover peer ");
    write_quoted(&state.name, out);
    out.extend_from_slice(b" state {\n  my state ");
    out.extend_from_slice(state.my_state.name().as_bytes());
    write_time(" at ", state.my_since, format, out);
    out.extend_from_slice(b"  partner state ");
    out.extend_from_slice(state.partner_state.name().as_bytes());
    write_time(" at ", state.partner_since, format, out);
    if let Some(mclt) = state.mclt {
        out.extend_from_slice(b"  mclt ");
        write_number(mclt, out);
        out.extend_from_slice(b";\n");
    }
    out.extend_from_slice(b"}\n");
}

/// Writes the server's DUID, with the empty line after it.
pub fn write_server_duid(duid: &[u8], format: Format, out: &mut Vec<u8>) {
    out.extend_from_slice(b"server-duid ");
    write_id(duid, format, out);
    out.extend_from_slice(b";\n\n");
}

fn write_time(name: &str, time: WallTime, format: Format, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    date::write(time, format.dates, out);
    out.push(b'\n');
}

fn write_address(address: Ipv4Addr, out: &mut Vec<u8>) {
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        write_number(octet.into(), out);
    }
}

fn write_hardware(hw: &HwAddr, out: &mut Vec<u8>) {
    if hw.bytes().is_empty() {
        return;
    }
    out.extend_from_slice(b"  hardware ");
    match HARDWARE.iter().find(|(htype, _)| *htype == hw.htype()) {
        Some((_, name)) => out.extend_from_slice(name.as_bytes()),
        None => {
            out.extend_from_slice(b"unknown-");
            write_number(hw.htype().into(), out);
        }
    }
    out.push(b' ');
    write_hex(hw.bytes(), out);
    out.extend_from_slice(b";\n");
}

fn write_id(id: &[u8], format: Format, out: &mut Vec<u8>) {
    match format.ids {
        IdFormat::Octal => write_quoted(id, out),
        IdFormat::Hex => write_hex(id, out),
    }
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 {
            out.push(b':');
        }
        out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

/// Writes a quoted string: quotes and backslashes escaped, what cannot be printed as three octal digits.
fn write_quoted(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..0x7f => out.push(*byte),
            _ => out.extend_from_slice(&[b'\\', b'0' + (byte >> 6), b'0' + ((byte >> 3) & 7), b'0' + (byte & 7)]),
        }
    }
    out.push(b'"');
}
