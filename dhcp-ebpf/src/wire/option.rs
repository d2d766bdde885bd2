//! DHCP options (RFC 2132 2): codes and a walk over them that stops at the first thing it cannot trust.

/// Option codes that the server itself reads or writes; every other code is data of the configuration.
#[allow(missing_docs, reason = "the names are those of RFC 2132 and its successors")]
pub mod code {
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTERS: u8 = 3;
    pub const DOMAIN_NAME_SERVERS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN_NAME: u8 = 15;
    pub const BROADCAST_ADDRESS: u8 = 28;
    pub const VENDOR_ENCAPSULATED: u8 = 43;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_IDENTIFIER: u8 = 54;
    pub const PARAMETER_REQUEST_LIST: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAX_MESSAGE_SIZE: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_IDENTIFIER: u8 = 61;
    pub const USER_CLASS: u8 = 77;
    pub const RAPID_COMMIT: u8 = 80;
    pub const FQDN: u8 = 81;
    pub const RELAY_AGENT: u8 = 82;
    pub const CLIENT_LAST_TRANSACTION_TIME: u8 = 91;
    pub const ASSOCIATED_IP: u8 = 92;
    pub const V6_ONLY_PREFERRED: u8 = 108;
    pub const SUBNET_SELECTION: u8 = 118;
    pub const END: u8 = 255;
}

/// Why a walk over options ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionError {
    /// A code is the last byte: its length is missing.
    LengthMissing,
    /// An option says it is longer than what is left.
    PastTheEnd,
}

/// A walk over options: yields `(code, data)`, skips padding, ends at END or at the end of the bytes
/// (dhcpd: a missing END is tolerated).
#[derive(Debug, Clone)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    /// Walks over `bytes`, which start after the cookie, or are a `file` or `sname` field.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u8, &'a [u8]), OptionError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, after) = self.rest.split_first()?;
            match first {
                code::PAD => self.rest = after,
                code::END => {
                    self.rest = &[];
                    return None;
                }
                _ => {
                    let Some((&len, data)) = after.split_first() else {
                        self.rest = &[];
                        return Some(Err(OptionError::LengthMissing));
                    };
                    let Some((data, rest)) = data.split_at_checked(usize::from(len)) else {
                        self.rest = &[];
                        return Some(Err(OptionError::PastTheEnd));
                    };
                    self.rest = rest;
                    return Some(Ok((first, data)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_walk_skips_padding_and_stops_at_end() {
        let bytes = [0, 53, 1, 3, 0, 0, 50, 2, 9, 8, 255, 12, 200];
        let all: Vec<_> = Options::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(all, [(53, &[3][..]), (50, &[9, 8][..])]);
    }

    #[test]
    fn a_length_past_the_end_ends_the_walk_with_an_error() {
        let mut walk = Options::new(&[53, 1, 3, 12, 9, 1]);
        assert_eq!(walk.next(), Some(Ok((53, &[3][..]))));
        assert_eq!(walk.next(), Some(Err(OptionError::PastTheEnd)));
        assert_eq!(walk.next(), None);
        assert_eq!(Options::new(&[12]).next(), Some(Err(OptionError::LengthMissing)));
    }
}
