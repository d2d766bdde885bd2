//! What of a storm is worth reading at all: pure, and before anything is parsed further.
//!
//! Clients whose server is slow ask again, and again; a server that answers every copy is slower still. Two rules
//! lose nobody anything:
//!
//! - A request that has waited for longer than its client does is not answered: the client has asked again since, and
//!   the answer it waits for now is to another message.
//! - A copy that had arrived before the first one was answered is not answered: the answer is on its way.
//!
//! Releases and declines are never left out: they are said once.

use std::time::Duration;

use dhcp_ebpf::wire::dhcp::{MessageType, OPTIONS_AT};
use dhcp_ebpf::wire::option::{Options, code};

use crate::lease::time::BootTime;

/// How long a client waits at least before it asks again (RFC 2131 4.1: four seconds, give or take one; udhcpc: three).
const CLIENT_PATIENCE: Duration = Duration::from_secs(3);
/// Requests that are remembered: about as many as the sockets hold. A power of two.
const REMEMBERED_COUNT: usize = 16_384;
/// Where xid, ciaddr and chaddr stand in a message.
const XID_AT: usize = 4;
const CHADDR_AT: usize = 28;

/// Why a message is not worth reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// Its client has given up waiting for the answer.
    Stale,
    /// The answer to its first copy is on its way.
    Repeated,
}

/// Who asked what in which transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Asked {
    xid: [u8; 4],
    chaddr: [u8; 6],
    kind: u8,
}

/// Remembers what was asked lately.
#[derive(Debug)]
pub struct Storm {
    /// Each place holds the last of those that hash to it, and when it was read.
    asked: Box<[(Asked, BootTime)]>,
}

impl Default for Storm {
    fn default() -> Self {
        Self { asked: vec![(Asked::default(), BootTime::default()); REMEMBERED_COUNT].into_boxed_slice() }
    }
}

impl Storm {
    /// Whether a message that `waited` for so long in a socket shall be read `now`; `None` = yes.
    pub fn judge(&mut self, message: &[u8], waited: Duration, now: BootTime) -> Option<Late> {
        let asked = asked(message)?;
        if waited > CLIENT_PATIENCE {
            return Some(Late::Stale);
        }
        let arrived = BootTime::from_nanos(now.nanos().saturating_sub(u64::try_from(waited.as_nanos()).unwrap_or(0)));
        let (last, read_at) = self.asked.get_mut(asked.place())?;
        if *last == asked && arrived < *read_at {
            return Some(Late::Repeated);
        }
        (*last, *read_at) = (asked, now);
        None
    }
}

impl Asked {
    fn place(&self) -> usize {
        let [a, b, c, d] = self.xid;
        let [e, f, g, h, i, j] = self.chaddr;
        let one = u64::from_le_bytes([a, b, c, d, self.kind, 0, e, f]);
        let other = u64::from_le_bytes([g, h, i, j, 0, 0, 0, 0]);
        let mixed = (one ^ other.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> 32).unwrap_or(0) & (REMEMBERED_COUNT - 1)
    }
}

/// Reads what tells a DISCOVER or REQUEST from others; `None` for everything else, which is always read.
fn asked(message: &[u8]) -> Option<Asked> {
    let mut options = Options::new(message.get(OPTIONS_AT..)?);
    let kind = options.find_map(|option| match option {
        Ok((code::MESSAGE_TYPE, &[kind])) => Some(kind),
        Ok(_) | Err(_) => None,
    })?;
    let is_question = kind == MessageType::Discover as u8 || kind == MessageType::Request as u8;
    let xid = *message.get(XID_AT..)?.first_chunk()?;
    let chaddr = *message.get(CHADDR_AT..)?.first_chunk()?;
    is_question.then_some(Asked { xid, chaddr, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, xid: u8, mac: u8) -> Vec<u8> {
        let mut message = vec![0; OPTIONS_AT];
        message[..8].copy_from_slice(&[1, 1, 6, 0, 0, 0, 0, xid]);
        message[CHADDR_AT..CHADDR_AT + 6].copy_from_slice(&[2, 0, 0, 0, 0, mac]);
        message.extend([53, 1, kind, 255]);
        message
    }

    fn at_ms(ms: u64) -> BootTime {
        BootTime::from_nanos(10_000_000_000 + ms * 1_000_000)
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_copy_from_before_the_answer_is_left_out_and_one_from_after_it_is_read() {
        let mut storm = Storm::default();
        let discover = message(1, 7, 1);
        assert_eq!(storm.judge(&discover, ms(50), at_ms(100)), None);
        assert_eq!(storm.judge(&discover, ms(40), at_ms(130)), Some(Late::Repeated), "it came at 90");
        assert_eq!(storm.judge(&discover, ms(40), at_ms(190)), None, "it came at 150: the answer was lost");
        assert_eq!(storm.judge(&discover, ms(0), at_ms(190)), None, "the same instant is no earlier one");
    }

    #[test]
    fn other_transactions_other_clients_and_other_messages_are_no_copies() {
        let mut storm = Storm::default();
        assert_eq!(storm.judge(&message(1, 7, 1), ms(50), at_ms(100)), None);
        for other in [message(3, 7, 1), message(1, 8, 1), message(1, 7, 2)] {
            assert_eq!(storm.judge(&other, ms(50), at_ms(110)), None);
        }
    }

    #[test]
    fn what_waited_longer_than_its_client_is_left_out_unless_it_is_said_once() {
        let mut storm = Storm::default();
        let long = CLIENT_PATIENCE + ms(1);
        for kind in [1, 3] {
            assert_eq!(storm.judge(&message(kind, 7, 1), long, at_ms(9000)), Some(Late::Stale));
            assert_eq!(storm.judge(&message(kind, 7, 1), CLIENT_PATIENCE, at_ms(9000)), None);
        }
        for kind in [4, 7, 8, 13] {
            assert_eq!(storm.judge(&message(kind, 7, 1), long, at_ms(9000)), None);
            assert_eq!(storm.judge(&message(kind, 7, 1), long, at_ms(9000)), None);
        }
    }

    #[test]
    fn what_cannot_be_read_is_for_the_engine_to_count() {
        let whole = message(1, 7, 1);
        let mut storm = Storm::default();
        for cut in 0..whole.len() - 1 {
            assert_eq!(storm.judge(&whole[..cut], CLIENT_PATIENCE * 2, at_ms(9000)), None, "cut {cut}");
        }
    }
}
