//! The skin: event loop, sockets, journal file, kernel program, clocks, signals. May touch the world, may not
//! decide.
//!
//! ```text
//!   fastpath.rs   the kernel accelerator as the loop sees it; xdp.rs is the real one
//! ```

pub mod fastpath;
