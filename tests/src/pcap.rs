//! Reads TCP streams out of a capture file, and writes one: as much of pcap, Ethernet, IPv4 and TCP as that takes.

use std::collections::BTreeMap;

/// One direction of a TCP connection: source address and port, destination address and port.
pub type Direction = ([u8; 4], u16, [u8; 4], u16);

fn be16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// Puts the segments of TCP connections together again.
#[derive(Debug, Default)]
pub struct Streams {
    all: BTreeMap<Direction, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    /// Sequence number it goes on with.
    next: u32,
    /// Segments that came early, by sequence number.
    early: BTreeMap<u32, Vec<u8>>,
}

/// What a frame adds to a TCP stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Which stream.
    pub direction: Direction,
    /// The stream begins: what was known of its ports before belongs to another connection.
    pub begins: bool,
    /// It is the first segment of the one who opens the connection.
    pub opens: bool,
    /// The bytes that the stream goes on with; none when the segment was known, or has to wait.
    pub bytes: Vec<u8>,
}

impl Streams {
    /// Takes an Ethernet frame; `None` when it is not TCP over IPv4.
    pub fn push(&mut self, frame: &[u8]) -> Option<Added> {
        if frame.len() < 34 || be16(frame, 12) != 0x0800 || frame[23] != 6 {
            return None;
        }
        let ip = frame.get(14..14 + be16(&frame[14..], 2))?;
        let tcp = &ip[usize::from(ip[0] & 15) * 4..];
        let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
        let source = [ip[12], ip[13], ip[14], ip[15]];
        let destination = [ip[16], ip[17], ip[18], ip[19]];
        let direction = (source, be16(tcp, 0) as u16, destination, be16(tcp, 2) as u16);
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let is_syn = tcp[13] & 2 != 0;
        let stream = self.all.entry(direction).or_insert_with(|| Stream { next: sequence, early: BTreeMap::default() });
        if is_syn {
            *stream = Stream { next: sequence.wrapping_add(1), early: BTreeMap::default() };
        } else if !payload.is_empty() {
            stream.early.insert(sequence, payload.to_vec());
        }
        let mut bytes = Vec::new();
        while let Some((&at, segment)) = stream.early.iter().next() {
            let known = stream.next.wrapping_sub(at) as usize;
            if (stream.next.wrapping_sub(at) as i32) < 0 {
                break;
            }
            if known < segment.len() {
                bytes.extend_from_slice(&segment[known..]);
                stream.next = at.wrapping_add(segment.len() as u32);
            }
            stream.early.remove(&at);
        }
        Some(Added { direction, begins: is_syn, opens: tcp[13] & 0x12 == 2, bytes })
    }
}

/// The bytes of every TCP direction of a capture, in order and without repetitions.
#[must_use]
pub fn read_streams(file: &[u8]) -> BTreeMap<Direction, Vec<u8>> {
    assert_eq!(file[..4], [0xd4, 0xc3, 0xb2, 0xa1], "little-endian pcap");
    assert_eq!(file[20], 1, "Ethernet");
    let mut streams = Streams::default();
    let mut whole: BTreeMap<Direction, Vec<u8>> = BTreeMap::new();
    let mut rest = &file[24..];
    while rest.len() >= 16 {
        let captured = u32::from_le_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
        let frame = &rest[16..16 + captured];
        rest = &rest[16 + captured..];
        if let Some(added) = streams.push(frame) {
            let stream = whole.entry(added.direction).or_default();
            if added.begins {
                stream.clear();
            }
            stream.extend(added.bytes);
        }
    }
    whole
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
