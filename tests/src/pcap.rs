//! Reads TCP streams out of a capture file, and writes one: as much of pcap, Ethernet, IPv4 and TCP as that takes.

use std::collections::BTreeMap;

/// One direction of a TCP connection: source address and port, destination address and port.
pub type Direction = ([u8; 4], u16, [u8; 4], u16);

fn be16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// The bytes of every TCP direction of a capture, in order and without repetitions.
#[must_use]
pub fn read_streams(file: &[u8]) -> BTreeMap<Direction, Vec<u8>> {
    assert_eq!(file[..4], [0xd4, 0xc3, 0xb2, 0xa1], "little-endian pcap");
    assert_eq!(file[20], 1, "Ethernet");
    // Sequence number the stream goes on with, and its bytes; segments that come early wait.
    type Stream = (u32, Vec<u8>, BTreeMap<u32, Vec<u8>>);
    let mut streams: BTreeMap<Direction, Stream> = BTreeMap::new();
    let mut rest = &file[24..];
    while rest.len() >= 16 {
        let captured = u32::from_le_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
        let frame = &rest[16..16 + captured];
        rest = &rest[16 + captured..];
        if frame.len() < 34 || be16(frame, 12) != 0x0800 || frame[23] != 6 {
            continue;
        }
        let ip = &frame[14..14 + be16(&frame[14..], 2)];
        let tcp = &ip[usize::from(ip[0] & 15) * 4..];
        let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
        let source = [ip[12], ip[13], ip[14], ip[15]];
        let destination = [ip[16], ip[17], ip[18], ip[19]];
        let direction = (source, be16(tcp, 0) as u16, destination, be16(tcp, 2) as u16);
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let is_syn = tcp[13] & 2 != 0;
        let stream = streams.entry(direction).or_insert_with(|| (sequence, Vec::new(), BTreeMap::new()));
        if is_syn {
            *stream = (sequence.wrapping_add(1), Vec::new(), BTreeMap::new());
        } else if !payload.is_empty() {
            stream.2.insert(sequence, payload.to_vec());
        }
        while let Some((&at, segment)) = stream.2.iter().next() {
            let known = stream.0.wrapping_sub(at) as usize;
            if stream.0.wrapping_sub(at) as i32 >= 0 {
                if known < segment.len() {
                    stream.1.extend_from_slice(&segment[known..]);
                    stream.0 = at.wrapping_add(segment.len() as u32);
                }
                stream.2.remove(&at);
            } else {
                break;
            }
        }
    }
    streams.into_iter().map(|(direction, stream)| (direction, stream.1)).collect()
}

/// A capture file with one TCP segment per message, all on one connection to port 647.
#[must_use]
pub fn write_capture(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0];
    let mut sequence = 1_u32;
    for (index, message) in messages.iter().enumerate() {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        let length = (40 + message.len()) as u16;
        frame.extend_from_slice(&[0x45, 0]);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 0, 64, 6, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2]);
        frame.extend_from_slice(&50_000_u16.to_be_bytes());
        frame.extend_from_slice(&647_u16.to_be_bytes());
        frame.extend_from_slice(&sequence.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend_from_slice(message);
        sequence = sequence.wrapping_add(message.len() as u32);
        file.extend_from_slice(&(index as u32).to_le_bytes());
        file.extend_from_slice(&[0; 4]);
        file.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        file.extend_from_slice(&(frame.len() as u32).to_le_bytes());
        file.extend_from_slice(&frame);
    }
    file
}
