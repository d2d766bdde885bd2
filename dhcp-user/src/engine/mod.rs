//! The DHCP server itself: packets, peers, commands and the time in; effects out. Touches nothing.

pub mod port;
