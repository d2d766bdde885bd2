//! The skin: event loop, sockets, journal file, kernel program, clocks, signals. May touch the world, may not
//! decide.
//!
//! ```text
//!   clock.rs      the clocks, and an alarm that rings on CLOCK_BOOTTIME
//!   fastpath.rs   the kernel accelerator as the loop sees it; xdp.rs is the real one
//!   filter.rs     classic BPF: what wakes the packet sockets
//!   frame.rs      bytes of a packet socket -> datagram; reply -> raw frame
//!   journal/      the leases file: lock, group commit, compaction
//!   socket.rs     packet sockets and the UDP socket, in batches
//! ```
#![allow(
    unsafe_code,
    reason = "system calls that std and socket2 do not have; each block says why it is sound"
)]

pub mod clock;
pub mod fastpath;
pub mod filter;
pub mod frame;
pub mod journal;
pub mod socket;
pub mod xdp;
