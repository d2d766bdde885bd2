//! Option codes, flag bits and reject reasons (failover-12 6.2, 12; numbers as ISC uses them).

/// addresses-transferred, u32.
pub const ADDRESSES_TRANSFERRED: u16 = 1;
/// assigned-IP-address, 4 bytes.
pub const ASSIGNED_ADDRESS: u16 = 2;
/// binding-status, u8.
pub const BINDING_STATUS: u16 = 3;
/// client-identifier, bytes.
pub const CLIENT_IDENTIFIER: u16 = 4;
/// client-hardware-address: type byte and address.
pub const CLIENT_HARDWARE: u16 = 5;
/// client-last-transaction-time, unix seconds.
pub const CLTT: u16 = 6;
/// client-reply-options: parsed by ISC, never used.
pub const REPLY_OPTIONS: u16 = 7;
/// client-request-options: parsed by ISC, never used.
pub const REQUEST_OPTIONS: u16 = 8;
/// DDNS: ISC drops the connection when it sees one in a BNDUPD or BNDACK.
pub const DDNS: u16 = 9;
/// hash-bucket-assignment, 32 bytes.
pub const HASH_BUCKETS: u16 = 11;
/// IP-flags, u16.
pub const IP_FLAGS: u16 = 12;
/// lease-expiration-time, unix seconds.
pub const LEASE_EXPIRY: u16 = 13;
/// max-unacked-bndupd, u32.
pub const UPDATES_UNACKED_MAX: u16 = 14;
/// MCLT, seconds.
pub const MCLT: u16 = 15;
/// message: text, not terminated.
pub const MESSAGE: u16 = 16;
/// potential-expiration-time, unix seconds.
pub const POTENTIAL_EXPIRY: u16 = 18;
/// receive-timer, seconds.
pub const RECEIVE_TIMER: u16 = 19;
/// protocol-version, u8.
pub const VERSION: u16 = 20;
/// reject-reason, u8.
pub const REJECT_REASON: u16 = 21;
/// relationship-name: text, not terminated.
pub const NAME: u16 = 22;
/// server-flags, u8.
pub const SERVER_FLAGS: u16 = 23;
/// server-state, u8.
pub const SERVER_STATE: u16 = 24;
/// start-time-of-state, unix seconds.
pub const STATE_SINCE: u16 = 25;
/// TLS-reply, u8.
pub const TLS_REPLY: u16 = 26;
/// TLS-request, u8.
pub const TLS_REQUEST: u16 = 27;
/// vendor-class-identifier: text.
pub const VENDOR_CLASS: u16 = 28;
/// vendor-specific-options: ISC skips them in every message.
pub const VENDOR_OPTIONS: u16 = 29;
/// The highest code that has a meaning; ISC skips what is above.
pub const HIGHEST: u16 = 29;

/// Bit of [`SERVER_FLAGS`]: the sender has just started.
pub const FLAG_STARTUP: u8 = 0x01;
/// Bit of [`IP_FLAGS`]: the address is reserved for its client.
pub const FLAG_RESERVED: u16 = 0x0001;
/// Bit of [`IP_FLAGS`]: the client speaks BOOTP.
pub const FLAG_BOOTP: u16 = 0x0002;

/// Reject reasons that we send (failover-12 12.21); the others are only displayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reject {
    /// The address is in no pool of this relationship.
    IllegalAddress = 1,
    /// The change is not possible from the state the address is in here.
    FatalConflict = 2,
    /// Something needed is absent.
    MissingInformation = 3,
    /// The clocks differ by more than a minute.
    TimeMismatch = 4,
    /// MCLT absent.
    InvalidMclt = 5,
    /// Anything else.
    Miscellaneous = 6,
    /// There is a connection already.
    DuplicateConnection = 7,
    /// Not the partner we are configured for.
    InvalidPartner = 8,
    /// My own update, which crosses yours, counts for more.
    LessCritical = 16,
    /// Hash bucket assignment absent or of the wrong size.
    HashBuckets = 18,
    /// The address is not reserved here.
    NotReserved = 19,
}

/// The name of a reject reason, for people.
#[must_use]
pub const fn reject_name(reason: u8) -> &'static str {
    match reason {
        1 => "illegal IP address",
        2 => "fatal conflict exists",
        3 => "missing binding information",
        4 => "connection rejected, time mismatch too great",
        5 => "connection rejected, invalid MCLT",
        6 => "connection rejected, unknown reason",
        7 => "connection rejected, duplicate connection",
        8 => "connection rejected, invalid failover partner",
        9 => "TLS not supported",
        10 => "TLS supported but not configured",
        11 => "TLS required but not supported by partner",
        12 => "message digest not supported",
        13 => "message digest not configured",
        14 => "protocol version mismatch",
        15 => "outdated binding information",
        16 => "less critical binding information",
        17 => "no traffic within sufficient time",
        18 => "hash bucket assignment conflict",
        19 => "IP not reserved on this server",
        20 => "message digest failed to compare",
        21 => "missing message digest",
        _ => "unknown reject reason",
    }
}
