//! Leases: binding states, the table and its indexes, the journal's dialect (dhcpd.leases).
//!
//! Pure: knows the bytes of a record, never a file. Guards I1 (one binding per address) and, with the journal,
//! I2 and I8.

pub mod time;
