//! Real bytes of dhcpd 4.4.3-P1, and what must be refused.

use std::net::Ipv4Addr;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn written(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    write_message(message, &mut out).unwrap();
    out
}

const CONNECT: &str = "006c050c6b02aa540000000000160006 6c61622d666f000e00040000000a001300040000000f
    001c000c6973632d342e342e332d503100140001 01001b000100000f000400000028
    000b0020ffffffffffffffffffffffffffffffff00000000000000000000000000000000";
const ACTIVE: &str = "004d030c6b02aaa700000035000200040a4d006e00030001020004 0005ff00000001
    000500070102aa00000002000d00046b02aacf001200046b02abe7001900046b02aaa7000600046b02aaa7";

/// Every vector of failover.md 10.
const VECTORS: [&str; 21] = [
    CONNECT,
    "0040060c6b02aa540000000000160006 6c61622d666f000e00040000000a001300040000000f
     001c000c6973632d342e342e332d50310014000101001a000100",
    "0059060c6b02ae9d00000065001600046e6f7065001c000c6973632d342e342e332d50310014000101001a000100
     0015000108001000227 56e6b6e6f776e206661696c6f7665722072656c6174696f6e73686970206e616d65",
    "001e0a0c6b02aa54000000000018000106001700010100190004 6b02aa54",
    "001e0a0c6b02ac390000000400180001fe001700010000190004 6b02ac39",
    ACTIVE,
    "0031030c6b02aa540000001b000200040a4d00640003000107000d000400000000001200046b02aa54001900046b02aa54",
    "004d030c6b02aabf0000003a000200040a4d006e000300010400040005ff00000001000500070102aa00000002
     000d00046b02aabf001200046b02aabf001900046b02aaa7000600046b02aaa7",
    "003c030c6b02aad00000003f000200040a4d006c0003000103000500070102aa00000003000d00046b02aad0
     001200046b02aa54001900046b02aaa8",
    "0039030c6b02ac7300000024000200040a4d00760003000105000d00046b03fdf3001200046b02abe4001900046b02ac70
     000600046b02abbc",
    "0014040c6b02aa5400000005000200040a4d0064",
    "0052040c6b02aa5400000004000200040a4d00640015000110001000 35696e636f6d696e6720757064617465206973206c657373
     20637269746963616c207468616e206f7574676f696e6720757064617465",
    "000c070c6b02aa5400000003",
    "000c080c6b02aa5400000004",
    "000c090c6b02ac1700000003",
    "000c0b0c6b02aa590000001a",
    "000c010c6b02ab620000000e",
    "0014020c6b02ab620000000e0001000400000004",
    "002a0c0c6b02af12000000010015000104001000157 4696d65206f666673657420746f6f206c61726765",
    "000c0d0c0000000000000000",
    "000cc80c0000000000000000",
];

#[test]
fn every_real_message_is_written_back_byte_for_byte() {
    for vector in VECTORS {
        let raw = bytes(vector);
        let message = parse_message(&raw).unwrap_or_else(|reason| panic!("{reason}: {vector}"));
        assert_eq!(written(&message), raw, "{message:?}");
    }
}

#[test]
fn an_active_binding_reads_as_measured() {
    let Body::BndUpd(update) = parse_message(&bytes(ACTIVE)).unwrap().body else { panic!("not a BNDUPD") };
    assert_eq!(update.address, Some(Ipv4Addr::new(10, 77, 0, 110)));
    assert_eq!(update.known_status(), Some(BindingState::Active));
    assert_eq!(update.client_id.as_deref(), Some(&[0xff, 0, 0, 0, 1][..]));
    assert_eq!(update.chaddr.as_deref(), Some(&[1, 2, 0xaa, 0, 0, 0, 2][..]));
    assert_eq!(update.lease_expiry, Some(0x6b02_aaa7 + 40));
    assert_eq!(update.potential_expiry, Some(0x6b02_aaa7 + 320));
    assert_eq!((update.since, update.cltt), (Some(0x6b02_aaa7), Some(0x6b02_aaa7)));
}

#[test]
fn a_connect_reads_as_measured() {
    let message = parse_message(&bytes(CONNECT)).unwrap();
    assert_eq!((message.time, message.xid), (1_795_336_788, 0));
    let Body::Connect(connect) = message.body else { panic!("not a CONNECT") };
    assert_eq!(connect.name.as_deref(), Some(&b"lab-fo"[..]));
    assert_eq!(connect.updates_unacked_max, Some(10));
    assert_eq!(connect.receive_timer_secs, Some(15));
    assert_eq!(connect.mclt_secs, Some(40));
    assert_eq!(connect.buckets, Some(crate::failover::Buckets::split(128).0));
}

/// A message of type `kind` with these option bytes.
fn with_options(kind: u8, options: &str) -> Vec<u8> {
    let options = bytes(options);
    let mut raw = vec![0, 12 + options.len() as u8, kind, 12, 0, 0, 0, 1, 0, 0, 0, 2];
    raw.extend_from_slice(&options);
    raw
}

#[test]
fn each_reason_has_its_error() {
    let mut short = with_options(11, "");
    short[1] = 11;
    let mut long = with_options(11, "");
    long[0] = 0x08;
    long[1] = 0x01;
    let mut inside = with_options(11, "");
    inside[3] = 11;
    let mut behind = with_options(11, "");
    behind[3] = 13;
    for (raw, reason) in [
        (short, Malformed::LengthTooShort),
        (long, Malformed::LengthTooLong),
        (vec![0; 11], Malformed::Cut),
        (with_options(4, "")[..11].to_vec(), Malformed::Cut),
        (inside, Malformed::OffsetTooSmall),
        (behind, Malformed::OffsetTooLarge),
        (with_options(4, "0002"), Malformed::OptionHeaderCut),
        (with_options(4, "000200 050a4d0064"), Malformed::OptionOverrun),
        (with_options(4, "000200040a4d0064 000200040a4d0065"), Malformed::OptionRepeated),
        (with_options(4, "000200030a4d00"), Malformed::OptionSize),
        (with_options(3, "00090002 0000"), Malformed::Ddns),
        (with_options(4, "00090002 0000"), Malformed::Ddns),
        (with_options(13, "00090002 0000"), Malformed::UnknownType),
    ] {
        assert_eq!(parse_message(&raw), Err(reason), "{raw:02x?}");
    }
}

#[test]
fn what_isc_skips_is_skipped() {
    // Unknown codes; options of other messages, twice and of any size; a gap before the payload.
    let raw = with_options(4, "0063 0001 00 0063 0001 00 0014 0001 01 0014 0002 0102 000200040a4d0064");
    let Body::BndAck(ack) = parse_message(&raw).unwrap().body else { panic!("not a BNDACK") };
    assert_eq!(ack.address, Some(Ipv4Addr::new(10, 77, 0, 100)));
    let mut gap = with_options(2, "ffffffff 0001000400000004");
    gap[3] = 16;
    assert_eq!(parse_message(&gap).unwrap().body, Body::PoolResp { transferred: Some(4) });
    assert_eq!(parse_message(&with_options(11, "0009 0002 0000")).unwrap().body, Body::Contact);
}

#[test]
fn buckets_of_the_wrong_size_are_no_buckets_and_no_error() {
    let Body::Connect(connect) = parse_message(&with_options(5, "000b 0002 ffff")).unwrap().body else { panic!() };
    assert_eq!(connect.buckets, None);
}

#[test]
fn the_stream_may_be_cut_anywhere() {
    let all: Vec<u8> = VECTORS.iter().flat_map(|vector| bytes(vector)).collect();
    let expected: Vec<Message> = VECTORS.iter().map(|vector| parse_message(&bytes(vector)).unwrap()).collect();
    for piece in [1, 2, 3, 7, 64, 1000] {
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for chunk in all.chunks(piece) {
            decoder.push(chunk);
            while let Some(message) = decoder.take_message().unwrap() {
                seen.push(message);
            }
            assert!(decoder.pending_len() < crate::failover::limits::MESSAGE_LEN_MAX);
        }
        assert_eq!(seen, expected, "pieces of {piece}");
        assert_eq!(decoder.pending_len(), 0);
    }
}

#[test]
fn a_lying_length_ends_the_stream_before_the_bytes_arrive() {
    for (bytes, reason) in [([0_u8, 11], Malformed::LengthTooShort), ([8, 1], Malformed::LengthTooLong)] {
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        assert_eq!(decoder.take_message(), Err(reason));
    }
    let mut decoder = Decoder::default();
    decoder.push(&[8, 0]);
    assert_eq!(decoder.take_message(), Ok(None), "2048 is allowed");
}

#[test]
fn what_does_not_fit_is_not_written() {
    let mut out = vec![1, 2, 3];
    for size in [2040, 70_000] {
        let body = Body::Disconnect(Refusal { reason: Some(1), message: Some(vec![b'x'; size]) });
        assert_eq!(write_message(&Message { time: 0, xid: 0, body }, &mut out), Err(Oversized));
        assert_eq!(out, [1, 2, 3]);
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn update() -> impl Strategy<Value = BndUpd> {
        let text = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        let number = || proptest::option::of(any::<u32>());
        (
            (proptest::option::of(any::<[u8; 4]>()), proptest::option::of(any::<u8>()), text(), text()),
            (number(), number(), number(), number(), proptest::option::of(any::<u16>()), text()),
        )
            .prop_map(|((address, status, client_id, chaddr), (end, potential, since, cltt, flags, extra))| {
                BndUpd {
                    address: address.map(Ipv4Addr::from),
                    status,
                    client_id,
                    chaddr,
                    lease_expiry: end,
                    potential_expiry: potential,
                    since,
                    cltt,
                    flags,
                    extra,
                }
            })
    }

    proptest! {
        #[test]
        fn every_update_survives_the_wire(update in update(), time: u32, xid: u32) {
            let message = Message { time, xid, body: Body::BndUpd(update) };
            prop_assert_eq!(parse_message(&written(&message)), Ok(message));
        }

        #[test]
        fn no_bytes_make_it_panic_and_what_is_read_can_be_written(raw in proptest::collection::vec(any::<u8>(), 0..200),
                                                                   kind in 0_u8..15) {
            let mut raw = raw;
            if raw.len() >= 12 {
                raw[0] = 0;
                raw[1] = raw.len() as u8;
                raw[2] = kind;
                raw[3] = 12;
            }
            if let Ok(message) = parse_message(&raw) {
                let again = written(&message);
                prop_assert_eq!(parse_message(&again), Ok(message));
            }
        }
    }
}
