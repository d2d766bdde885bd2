//! Real sessions of dhcpd, message by message.

use std::process::Command;

use dhcp_user::failover::codec::{Decoder, Message, write_message};

use tests::failover::streams;
use tests::pcap::{Direction, write_capture};

/// Whether these bytes were written by a script rather than by dhcpd.
fn is_scripted(file: &str, direction: Direction) -> bool {
    match file.as_bytes() {
        [b'0', b'7', ..] => direction.0 == [10, 78, 0, 1],
        [b'0', b'8' | b'9', ..] => direction.0 == [10, 78, 0, 2],
        _ => false,
    }
}

fn written(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    write_message(message, &mut out).unwrap();
    out
}

#[test]
fn every_message_of_dhcpd_is_written_back_byte_for_byte() {
    let mut by_type = [0_usize; 256];
    for (file, direction, bytes) in streams() {
        if is_scripted(&file, direction) {
            continue;
        }
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        let mut at = 0;
        while let Some(message) =
            decoder.take_message().unwrap_or_else(|why| panic!("{file} {direction:?} {at}: {why}"))
        {
            let again = written(&message);
            assert_eq!(again, bytes[at..at + again.len()], "{file} {direction:?} at {at}: {message:?}");
            by_type[usize::from(bytes[at + 2])] += 1;
            at += again.len();
        }
        assert_eq!(at, bytes.len(), "{file} {direction:?}: nothing is left over");
    }
    for (kind, count) in by_type.iter().enumerate().take(13).skip(1) {
        assert!(*count > 0, "no message of type {kind} in the captures");
    }
    assert!(by_type.iter().sum::<usize>() > 700, "{by_type:?}");
}

#[test]
fn what_scripts_sent_is_read_or_refused() {
    let mut refused = 0;
    for (file, direction, bytes) in streams() {
        if !is_scripted(&file, direction) {
            continue;
        }
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        loop {
            match decoder.take_message() {
                Ok(Some(message)) => assert!(!written(&message).is_empty()),
                Ok(None) => break,
                Err(_) => {
                    refused += 1;
                    break;
                }
            }
        }
    }
    assert!(refused >= 4, "bad lengths, duplicates, sizes: {refused}");
}

/// Runs tshark's dissector over messages and returns what it calls malformed; `None` without tshark.
pub(crate) fn tshark_complaints(name: &str, messages: &[Vec<u8>]) -> Option<String> {
    let path = std::env::temp_dir().join(format!("xdhcpd-{name}-{}.pcap", std::process::id()));
    std::fs::write(&path, write_capture(messages)).unwrap();
    let run = Command::new("tshark")
        .args(["-d", "tcp.port==647,dhcpfo", "-T", "fields", "-e", "frame.number", "-e", "dhcpfo.type", "-r"])
        .arg(&path)
        .output();
    let malformed = Command::new("tshark")
        .args(["-d", "tcp.port==647,dhcpfo", "-Y", "_ws.malformed or _ws.expert.severity == 8388608", "-r"])
        .arg(&path)
        .output();
    std::fs::remove_file(&path).unwrap();
    let (Ok(run), Ok(malformed)) = (run, malformed) else {
        eprintln!("SKIPPED: tshark is not installed");
        return None;
    };
    let lines = String::from_utf8_lossy(&run.stdout).into_owned();
    let seen: usize = lines
        .lines()
        .map(|line| line.split('\t').nth(1).map_or(0, |types| types.split(',').filter(|kind| !kind.is_empty()).count()))
        .sum();
    assert_eq!(seen, messages.len(), "the dissector sees every message: {}", String::from_utf8_lossy(&run.stderr));
    Some(String::from_utf8_lossy(&malformed.stdout).into_owned())
}

#[test]
fn tshark_finds_nothing_malformed_in_what_we_write() {
    let mut messages = Vec::new();
    for (file, direction, bytes) in streams() {
        if is_scripted(&file, direction) {
            continue;
        }
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        while let Ok(Some(message)) = decoder.take_message() {
            messages.push(written(&message));
        }
    }
    if let Some(complaints) = tshark_complaints("captures", &messages) {
        assert_eq!(complaints, "");
    }
}
