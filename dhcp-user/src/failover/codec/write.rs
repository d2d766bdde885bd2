//! [`Message`] -> bytes, options in exactly ISC's order.

use super::option;
use super::{Body, Message, Refusal};
use crate::failover::limits::{HEADER_LEN, MESSAGE_LEN_MAX};

/// The message would be longer than the 2048 bytes that ISC accepts; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("message would be longer than 2048 bytes")]
pub struct Oversized;

/// Appends `message` to `out`.
///
/// # Errors
///
/// [`Oversized`] when it does not fit; `out` is then as it was.
pub fn write_message(message: &Message, out: &mut Vec<u8>) -> Result<(), Oversized> {
    let start = out.len();
    let mut pen = Pen { out, is_whole: true };
    pen.out.extend_from_slice(&[0, 0, type_number(&message.body), HEADER_LEN as u8]);
    pen.out.extend_from_slice(&message.time.to_be_bytes());
    pen.out.extend_from_slice(&message.xid.to_be_bytes());
    write_options(&message.body, &mut pen);
    let is_whole = pen.is_whole;
    let len = out.len().saturating_sub(start);
    let length = u16::try_from(len).ok().filter(|_| is_whole && len <= MESSAGE_LEN_MAX);
    match (length, out.get_mut(start..).and_then(|written| written.first_chunk_mut::<2>())) {
        (Some(length), Some(field)) => {
            *field = length.to_be_bytes();
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(Oversized)
        }
    }
}

const fn type_number(body: &Body) -> u8 {
    match body {
        Body::PoolReq => 1,
        Body::PoolResp { .. } => 2,
        Body::BndUpd(_) => 3,
        Body::BndAck(_) => 4,
        Body::Connect(_) => 5,
        Body::ConnectAck(_) => 6,
        Body::UpdReqAll => 7,
        Body::UpdDone => 8,
        Body::UpdReq => 9,
        Body::State(_) => 10,
        Body::Contact => 11,
        Body::Disconnect(_) => 12,
        Body::Unknown(kind) => *kind,
    }
}

fn write_options(body: &Body, pen: &mut Pen<'_>) {
    match body {
        Body::PoolReq | Body::UpdReqAll | Body::UpdDone | Body::UpdReq | Body::Contact | Body::Unknown(_) => {}
        Body::PoolResp { transferred } => pen.number(option::ADDRESSES_TRANSFERRED, *transferred),
        Body::BndUpd(update) => {
            pen.bytes(option::ASSIGNED_ADDRESS, update.address.map(|address| address.octets()));
            pen.byte(option::BINDING_STATUS, update.status);
            pen.bytes(option::CLIENT_IDENTIFIER, update.client_id.as_deref());
            pen.bytes(option::CLIENT_HARDWARE, update.chaddr.as_deref());
            pen.number(option::LEASE_EXPIRY, update.lease_expiry);
            pen.number(option::POTENTIAL_EXPIRY, update.potential_expiry);
            pen.number(option::STATE_SINCE, update.since);
            pen.number(option::CLTT, update.cltt);
            pen.bytes(option::IP_FLAGS, update.flags.map(u16::to_be_bytes));
            pen.bytes(option::VENDOR_OPTIONS, update.extra.as_deref());
        }
        Body::BndAck(ack) => {
            pen.bytes(option::ASSIGNED_ADDRESS, ack.address.map(|address| address.octets()));
            pen.refusal(&ack.refusal);
        }
        Body::Connect(connect) => {
            pen.bytes(option::NAME, connect.name.as_deref());
            pen.number(option::UPDATES_UNACKED_MAX, connect.updates_unacked_max);
            pen.number(option::RECEIVE_TIMER, connect.receive_timer_secs);
            pen.bytes(option::VENDOR_CLASS, connect.vendor.as_deref());
            pen.byte(option::VERSION, connect.version);
            pen.byte(option::TLS_REQUEST, connect.tls_request);
            pen.number(option::MCLT, connect.mclt_secs);
            pen.bytes(option::HASH_BUCKETS, connect.buckets);
        }
        Body::ConnectAck(ack) => {
            pen.bytes(option::NAME, ack.name.as_deref());
            pen.number(option::UPDATES_UNACKED_MAX, ack.updates_unacked_max);
            pen.number(option::RECEIVE_TIMER, ack.receive_timer_secs);
            pen.bytes(option::VENDOR_CLASS, ack.vendor.as_deref());
            pen.byte(option::VERSION, ack.version);
            pen.byte(option::TLS_REPLY, ack.tls_reply);
            pen.bytes(option::VENDOR_OPTIONS, ack.extra.as_deref());
            pen.refusal(&ack.refusal);
        }
        Body::State(state) => {
            pen.byte(option::SERVER_STATE, Some(state.state));
            pen.byte(option::SERVER_FLAGS, Some(if state.startup { option::FLAG_STARTUP } else { 0 }));
            pen.number(option::STATE_SINCE, state.since);
            pen.bytes(option::VENDOR_OPTIONS, state.extra.as_deref());
        }
        Body::Disconnect(refusal) => pen.refusal(refusal),
    }
}

struct Pen<'a> {
    out: &'a mut Vec<u8>,
    is_whole: bool,
}

impl Pen<'_> {
    fn bytes(&mut self, code: u16, value: Option<impl AsRef<[u8]>>) {
        let Some(value) = value else { return };
        let value = value.as_ref();
        let Ok(len) = u16::try_from(value.len()) else {
            self.is_whole = false;
            return;
        };
        self.out.extend_from_slice(&code.to_be_bytes());
        self.out.extend_from_slice(&len.to_be_bytes());
        self.out.extend_from_slice(value);
    }

    fn number(&mut self, code: u16, value: Option<u32>) {
        self.bytes(code, value.map(u32::to_be_bytes));
    }

    fn byte(&mut self, code: u16, value: Option<u8>) {
        self.bytes(code, value.map(|value| [value]));
    }

    fn refusal(&mut self, refusal: &Refusal) {
        self.byte(option::REJECT_REASON, refusal.reason);
        self.bytes(option::MESSAGE, refusal.message.as_deref());
    }
}
