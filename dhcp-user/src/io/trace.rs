//! `xdhcpd trace`: reads a packet capture and says what the DHCP messages in it say.
//!
//! The reader of the messages is dhcproto, which nobody of this project wrote: what it makes of a reply of ours is
//! worth more than what our own parser does. Classic pcap files and streams (`tcpdump -w -`) of Ethernet frames are read,
//! both byte orders, microseconds and nanoseconds.

use std::{
    fmt::Write as _,
    io::{self, Read},
};

use dhcp_ebpf::wire::ethernet::{PORT_CLIENT, PORT_SERVER};
use dhcproto::{Decodable as _, Decoder, v4::Message};

use super::frame::{self, Aux};

/// Longest frame that is read; a capture that says otherwise is damaged.
const FRAME_LEN_MAX: usize = 1 << 16;
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u32 = 1;

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Something else than a capture.
    #[error("this is no classic pcap file; `tcpdump -w FILE` writes one, and `editcap -F pcap` converts others")]
    NotPcap,
    /// Frames of something else than Ethernet.
    #[error("the capture's link type is {0}; Ethernet (1) is wanted: capture on the interface, not on `any`")]
    LinkType(u32),
    /// A record longer than any frame.
    #[error("frame {0} is damaged: it claims {1} bytes")]
    Damaged(u64, u32),
}

/// Prints every DHCP message of a capture; `say` gets one block of text per message.
///
/// # Errors
///
/// [`Error`]; what was read before has been said. A capture that ends in the middle of a frame ends there.
pub fn trace(capture: impl Read, mut say: impl FnMut(&str)) -> Result<(), Error> {
    frames(capture, |frame| {
        if let Some(text) = describe(frame.bytes) {
            say(&format!("frame {}, {}.{:06}\n{text}", frame.number, frame.secs, frame.micros));
        }
    })
}

/// A frame of a capture.
pub(super) struct Captured<'a> {
    pub(super) number: u64,
    pub(super) secs: u32,
    pub(super) micros: u64,
    pub(super) bytes: &'a [u8],
}

/// Reads the frames of a capture.
///
/// # Errors
///
/// [`Error`]; the frames before it were taken.
pub(super) fn frames(mut capture: impl Read, mut take: impl FnMut(Captured<'_>)) -> Result<(), Error> {
    let mut header = [0; 24];
    capture.read_exact(&mut header).map_err(|_| Error::NotPcap)?;
    let [m0, m1, m2, m3, .., l0, l1, l2, l3] = header;
    let (word, per_second): (fn([u8; 4]) -> u32, u32) = match [m0, m1, m2, m3] {
        [0xd4, 0xc3, 0xb2, 0xa1] => (u32::from_le_bytes, 1_000_000),
        [0x4d, 0x3c, 0xb2, 0xa1] => (u32::from_le_bytes, 1_000_000_000),
        [0xa1, 0xb2, 0xc3, 0xd4] => (u32::from_be_bytes, 1_000_000),
        [0xa1, 0xb2, 0x3c, 0x4d] => (u32::from_be_bytes, 1_000_000_000),
        _ => return Err(Error::NotPcap),
    };
    let link_type = word([l0, l1, l2, l3]) & 0x0fff_ffff;
    if link_type != ETHERNET {
        return Err(Error::LinkType(link_type));
    }
    for number in 1_u64.. {
        let mut record = [0; 16];
        if capture.read_exact(&mut record).is_err() {
            return Ok(());
        }
        let [s0, s1, s2, s3, f0, f1, f2, f3, n0, n1, n2, n3, ..] = record;
        let len = word([n0, n1, n2, n3]);
        if len as usize > FRAME_LEN_MAX {
            return Err(Error::Damaged(number, len));
        }
        let mut bytes = vec![0; len as usize];
        if capture.read_exact(&mut bytes).is_err() {
            return Ok(());
        }
        let micros = u64::from(word([f0, f1, f2, f3])) * 1_000_000 / u64::from(per_second);
        take(Captured { number, secs: word([s0, s1, s2, s3]), micros, bytes: &bytes });
    }
    Ok(())
}

/// What one frame says; `None` when it is no DHCP.
fn describe(bytes: &[u8]) -> Option<String> {
    // A capture on the sender's side has partial checksums: not judged.
    let parsed = frame::parse(bytes, Aux { tag: 0, is_checksum_settled: true }).ok()?;
    let is_dhcp = |port: u16| port == PORT_SERVER || port == PORT_CLIENT;
    if !is_dhcp(parsed.source.port()) || !is_dhcp(parsed.destination.port()) {
        return None;
    }
    let mut text = format!("  {} > {}", parsed.source, parsed.destination);
    for tag in parsed.vlan.into_iter().filter(|tag| *tag != 0) {
        let _ = write!(text, ", VLAN {}", tag & 0x0fff);
    }
    text.push('\n');
    text.push_str(&describe_message(parsed.message));
    Some(text)
}

/// What one message says.
pub(super) fn describe_message(bytes: &[u8]) -> String {
    let mut text = String::new();
    let message = match Message::decode(&mut Decoder::new(bytes)) {
        Ok(message) => message,
        Err(error) => {
            let _ = writeln!(text, "  {} bytes that are no DHCP message: {error}", bytes.len());
            return text;
        }
    };
    let _ = writeln!(
        text,
        "  {} xid {:#010x} secs {} flags {:#06x} hops {}",
        message.opts().msg_type().map_or_else(|| "BOOTP".to_owned(), |kind| format!("{kind:?}")),
        message.xid(),
        message.secs(),
        u16::from(message.flags()),
        message.hops(),
    );
    let _ = writeln!(
        text,
        "  ciaddr {} yiaddr {} siaddr {} giaddr {} chaddr {}",
        message.ciaddr(),
        message.yiaddr(),
        message.siaddr(),
        message.giaddr(),
        hex(message.chaddr()),
    );
    let mut options: Vec<_> = message.opts().iter().collect();
    options.sort_by_key(|(code, _)| u8::from(**code));
    for (code, option) in options {
        let _ = writeln!(text, "    {:>3} {option:?}", u8::from(*code));
    }
    text
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        bytes.extend([0; 12]);
        bytes.extend(1_u32.to_le_bytes());
        for frame in frames {
            for word in [7, 500, frame.len() as u32, frame.len() as u32] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.extend(*frame);
        }
        bytes
    }

    fn offer() -> Vec<u8> {
        let mut message = vec![0; 240];
        message[..4].copy_from_slice(&[2, 1, 6, 0]);
        message[16..20].copy_from_slice(&[192, 168, 150, 50]);
        message[28..34].copy_from_slice(&[2, 0, 0, 0, 0x77, 3]);
        message[236..240].copy_from_slice(&[99, 130, 83, 99]);
        message.extend([53, 1, 2, 51, 4, 0, 0, 2, 88, 255]);
        message.resize(300, 0);
        let envelope = frame::Envelope {
            from: [2, 0, 0, 0, 0, 1],
            to: [2, 0, 0, 0, 0x77, 3],
            vlan: [0x8100_0005, 0],
            source: "192.168.150.1:67".parse().unwrap(),
            destination: "192.168.150.50:68".parse().unwrap(),
        };
        let mut bytes = Vec::new();
        frame::write(&envelope, &message, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_reply_of_ours_is_told_by_a_reader_that_is_not_ours() {
        let mut said = String::new();
        trace(&capture(&[&[0; 60], &offer()])[..], |text| said.push_str(text)).unwrap();
        for word in [
            "frame 2, 7.000500",
            "192.168.150.1:67 > 192.168.150.50:68, VLAN 5",
            "Offer xid 0x00000000",
            "yiaddr 192.168.150.50",
            "chaddr 02:00:00:00:77:03",
            "51 AddressLeaseTime(600)",
        ] {
            assert!(said.contains(word), "{word} in:\n{said}");
        }
        assert!(!said.contains("frame 1,"), "{said}");
    }

    #[test]
    fn a_capture_cut_anywhere_ends_quietly_and_a_stranger_is_named() {
        let whole = capture(&[&offer()]);
        for cut in 24..whole.len() {
            let mut count = 0;
            trace(&whole[..cut], |_| count += 1).unwrap();
            assert_eq!(count, 0, "cut at {cut}");
        }
        assert!(matches!(trace(&[0; 40][..], |_| ()), Err(Error::NotPcap)));
        let mut other = whole;
        other[20] = 113;
        assert!(matches!(trace(&other[..], |_| ()), Err(Error::LinkType(113))));
    }
}
