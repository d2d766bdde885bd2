//! Messages out of a TCP stream: several may share a segment, one may span several.

use super::Message;
use super::read::{Malformed, parse_message};
use crate::failover::limits::{HEADER_LEN, MESSAGE_LEN_MAX};

/// Collects bytes until they are a message. Holds less than one message between two calls of
/// [`Decoder::take_message`] returning `None`.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
    consumed: usize,
}

impl Decoder {
    /// Adds bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.drain(..self.consumed.min(self.pending.len()));
        self.consumed = 0;
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole message; `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`Malformed`]; the stream cannot be followed after it.
    pub fn take_message(&mut self) -> Result<Option<Message>, Malformed> {
        let rest = self.pending.get(self.consumed..).unwrap_or_default();
        let Some((length, _)) = rest.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes(*length));
        if length < HEADER_LEN {
            return Err(Malformed::LengthTooShort);
        }
        if length > MESSAGE_LEN_MAX {
            return Err(Malformed::LengthTooLong);
        }
        let Some(whole) = rest.get(..length) else {
            return Ok(None);
        };
        let message = parse_message(whole)?;
        self.consumed = self.consumed.saturating_add(length);
        Ok(Some(message))
    }

    /// Bytes held back for a message that is not complete.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.pending.len().saturating_sub(self.consumed)
    }
}
