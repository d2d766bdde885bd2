//! Bytes -> [`Message`], with ISC's reception rules.

use std::net::Ipv4Addr;

use super::option::{self, HIGHEST};
use super::{BndAck, BndUpd, Body, Connect, ConnectAck, Message, Refusal, StateMessage};
use crate::failover::limits::{HEADER_LEN, MESSAGE_LEN_MAX};

/// Why bytes are no message; the connection is closed for each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// The length field says less than a header.
    #[error("message shorter than its header")]
    LengthTooShort,
    /// The length field says more than 2048.
    #[error("message longer than 2048 bytes")]
    LengthTooLong,
    /// The buffer does not hold what the length field says.
    #[error("message cut")]
    Cut,
    /// The payload would begin inside the header.
    #[error("payload offset inside the header")]
    OffsetTooSmall,
    /// The payload would begin behind the message.
    #[error("payload offset behind the message")]
    OffsetTooLarge,
    /// Fewer than four bytes are left where an option should begin.
    #[error("option header cut")]
    OptionHeaderCut,
    /// An option is longer than the message.
    #[error("option longer than its message")]
    OptionOverrun,
    /// An option that we use stands twice.
    #[error("duplicate option")]
    OptionRepeated,
    /// A fixed-size option that we use has another size.
    #[error("option of the wrong size")]
    OptionSize,
    /// DDNS in a BNDUPD or BNDACK.
    #[error("DDNS option")]
    Ddns,
    /// A message of an unknown type has options.
    #[error("unknown message type with options")]
    UnknownType,
}

/// Parses one whole message: `bytes` begins with the length field and may go on behind the message.
///
/// # Errors
///
/// One [`Malformed`] per reason.
pub fn parse_message(bytes: &[u8]) -> Result<Message, Malformed> {
    let (header, _) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Malformed::Cut)?;
    let [l0, l1, kind, offset, t0, t1, t2, t3, x0, x1, x2, x3] = *header;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if length < HEADER_LEN {
        return Err(Malformed::LengthTooShort);
    }
    if length > MESSAGE_LEN_MAX {
        return Err(Malformed::LengthTooLong);
    }
    let message = bytes.get(..length).ok_or(Malformed::Cut)?;
    let offset = usize::from(offset);
    if offset < HEADER_LEN {
        return Err(Malformed::OffsetTooSmall);
    }
    let payload = message.get(offset..).ok_or(Malformed::OffsetTooLarge)?;
    Ok(Message {
        time: u32::from_be_bytes([t0, t1, t2, t3]),
        xid: u32::from_be_bytes([x0, x1, x2, x3]),
        body: parse_body(kind, payload)?,
    })
}

fn parse_body(kind: u8, payload: &[u8]) -> Result<Body, Malformed> {
    let Some(used) = used_by(kind) else {
        return if payload.is_empty() { Ok(Body::Unknown(kind)) } else { Err(Malformed::UnknownType) };
    };
    let options = Options::parse(payload, used, kind == 3 || kind == 4)?;
    let body = match kind {
        1 => Body::PoolReq,
        2 => Body::PoolResp { transferred: options.number(option::ADDRESSES_TRANSFERRED) },
        3 => Body::BndUpd(BndUpd {
            address: options.array(option::ASSIGNED_ADDRESS).map(Ipv4Addr::from),
            status: options.byte(option::BINDING_STATUS),
            client_id: options.bytes(option::CLIENT_IDENTIFIER),
            chaddr: options.bytes(option::CLIENT_HARDWARE),
            lease_expiry: options.number(option::LEASE_EXPIRY),
            potential_expiry: options.number(option::POTENTIAL_EXPIRY),
            since: options.number(option::STATE_SINCE),
            cltt: options.number(option::CLTT),
            flags: options.array(option::IP_FLAGS).map(u16::from_be_bytes),
            extra: options.bytes(option::VENDOR_OPTIONS),
        }),
        4 => Body::BndAck(BndAck {
            address: options.array(option::ASSIGNED_ADDRESS).map(Ipv4Addr::from),
            refusal: options.refusal(),
        }),
        5 => Body::Connect(Connect {
            name: options.bytes(option::NAME),
            updates_unacked_max: options.number(option::UPDATES_UNACKED_MAX),
            receive_timer_secs: options.number(option::RECEIVE_TIMER),
            vendor: options.bytes(option::VENDOR_CLASS),
            version: options.byte(option::VERSION),
            tls_request: options.byte(option::TLS_REQUEST),
            mclt_secs: options.number(option::MCLT),
            buckets: options.array(option::HASH_BUCKETS),
        }),
        6 => Body::ConnectAck(ConnectAck {
            name: options.bytes(option::NAME),
            updates_unacked_max: options.number(option::UPDATES_UNACKED_MAX),
            receive_timer_secs: options.number(option::RECEIVE_TIMER),
            vendor: options.bytes(option::VENDOR_CLASS),
            version: options.byte(option::VERSION),
            tls_reply: options.byte(option::TLS_REPLY),
            extra: options.bytes(option::VENDOR_OPTIONS),
            refusal: options.refusal(),
        }),
        7 => Body::UpdReqAll,
        8 => Body::UpdDone,
        9 => Body::UpdReq,
        10 => Body::State(StateMessage {
            state: options.byte(option::SERVER_STATE).unwrap_or(0),
            startup: options.byte(option::SERVER_FLAGS).unwrap_or(0) & option::FLAG_STARTUP != 0,
            since: options.number(option::STATE_SINCE),
            extra: options.bytes(option::VENDOR_OPTIONS),
        }),
        11 => Body::Contact,
        12 => Body::Disconnect(options.refusal()),
        _ => Body::Unknown(kind),
    };
    Ok(body)
}

/// The options that ISC stores for a message type, as a bit set by code; `None` for a type without meaning.
const fn used_by(kind: u8) -> Option<u32> {
    const fn bits(codes: &[u16]) -> u32 {
        let mut set = 0;
        let mut rest = codes;
        while let [code, tail @ ..] = rest {
            set |= 1 << *code;
            rest = tail;
        }
        set
    }
    Some(match kind {
        1 | 7 | 8 | 9 | 11 => 0,
        2 => bits(&[option::ADDRESSES_TRANSFERRED]),
        3 => bits(&[
            option::ASSIGNED_ADDRESS,
            option::BINDING_STATUS,
            option::CLIENT_IDENTIFIER,
            option::CLIENT_HARDWARE,
            option::CLTT,
            option::REPLY_OPTIONS,
            option::REQUEST_OPTIONS,
            option::IP_FLAGS,
            option::LEASE_EXPIRY,
            option::POTENTIAL_EXPIRY,
            option::STATE_SINCE,
        ]),
        4 => bits(&[option::ASSIGNED_ADDRESS, option::REJECT_REASON, option::MESSAGE]),
        5 => bits(&[
            option::NAME,
            option::UPDATES_UNACKED_MAX,
            option::RECEIVE_TIMER,
            option::MCLT,
            option::HASH_BUCKETS,
        ]),
        6 => bits(&[
            option::NAME,
            option::UPDATES_UNACKED_MAX,
            option::RECEIVE_TIMER,
            option::REJECT_REASON,
            option::MESSAGE,
        ]),
        10 => bits(&[option::SERVER_STATE, option::SERVER_FLAGS, option::STATE_SINCE]),
        12 => bits(&[option::REJECT_REASON, option::MESSAGE]),
        _ => return None,
    })
}

/// The size of a fixed-size option; `None` for a variable one.
const fn fixed_len(code: u16) -> Option<usize> {
    match code {
        option::BINDING_STATUS
        | option::VERSION
        | option::REJECT_REASON
        | option::SERVER_FLAGS
        | option::SERVER_STATE
        | option::TLS_REPLY
        | option::TLS_REQUEST => Some(1),
        option::IP_FLAGS => Some(2),
        option::ADDRESSES_TRANSFERRED
        | option::ASSIGNED_ADDRESS
        | option::CLTT
        | option::LEASE_EXPIRY
        | option::UPDATES_UNACKED_MAX
        | option::MCLT
        | option::POTENTIAL_EXPIRY
        | option::RECEIVE_TIMER
        | option::STATE_SINCE => Some(4),
        option::HASH_BUCKETS => None,
        _ => None,
    }
}

/// The options of one message by code. Of one that ISC skips the first of the right size is kept.
struct Options<'a> {
    by_code: [Option<&'a [u8]>; HIGHEST as usize + 1],
}

impl<'a> Options<'a> {
    /// dhcpd: the order of the checks is overrun, unknown code, repetition, not used here, size.
    fn parse(payload: &'a [u8], used: u32, refuse_ddns: bool) -> Result<Self, Malformed> {
        let mut options = Options { by_code: [None; HIGHEST as usize + 1] };
        let mut rest = payload;
        while !rest.is_empty() {
            let (&[c0, c1, l0, l1], tail) = rest.split_first_chunk::<4>().ok_or(Malformed::OptionHeaderCut)?;
            let code = u16::from_be_bytes([c0, c1]);
            let len = usize::from(u16::from_be_bytes([l0, l1]));
            let (value, tail) = tail.split_at_checked(len).ok_or(Malformed::OptionOverrun)?;
            rest = tail;
            let Some(place) = options.by_code.get_mut(usize::from(code)) else {
                continue;
            };
            if refuse_ddns && code == option::DDNS {
                return Err(Malformed::Ddns);
            }
            let is_used = used & (1 << code) != 0;
            let fits = fixed_len(code).is_none_or(|fixed| fixed == len);
            match (is_used, place.is_some(), fits) {
                (true, true, _) => return Err(Malformed::OptionRepeated),
                (true, false, false) => return Err(Malformed::OptionSize),
                (false, true, _) | (false, false, false) => {}
                (true, false, true) | (false, false, true) => *place = Some(value),
            }
        }
        Ok(options)
    }

    fn slice(&self, code: u16) -> Option<&'a [u8]> {
        self.by_code.get(usize::from(code)).copied().flatten()
    }

    fn bytes(&self, code: u16) -> Option<Vec<u8>> {
        self.slice(code).map(<[u8]>::to_vec)
    }

    fn array<const N: usize>(&self, code: u16) -> Option<[u8; N]> {
        self.slice(code).and_then(|value| value.try_into().ok())
    }

    fn number(&self, code: u16) -> Option<u32> {
        self.array(code).map(u32::from_be_bytes)
    }

    fn byte(&self, code: u16) -> Option<u8> {
        self.array::<1>(code).map(|[value]| value)
    }

    fn refusal(&self) -> Refusal {
        Refusal { reason: self.byte(option::REJECT_REASON), message: self.bytes(option::MESSAGE) }
    }
}
