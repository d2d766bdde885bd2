//! Offsets, codes and small parsers with the RFCs' names; nothing here decides anything.

pub mod checksum;
pub mod dhcp;
pub mod ethernet;
pub mod option;
