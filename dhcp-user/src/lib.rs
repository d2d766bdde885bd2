//! xdhcpd, a DHCPv4 server for Linux whose steady state is answered in the driver.
//!
//! ```text
//!   config/    dhcpd.conf -> checked, compiled model; evaluates statements for one packet   (pure)
//!   lease/     leases, binding states, table and indexes, the dhcpd.leases dialect          (pure)
//!   failover/  message codec and endpoint state machine                                     (pure)
//!   engine/    the DHCP server: input and the time in, effects out                          (pure)
//!   io/        event loop, sockets, journal file, XDP, clocks, signals                      (skin)
//!   control/   operator socket and status                                                   (skin)
//! ```
//!
//! Doors: `config` and `lease` know nobody; `failover` may use `lease`; `engine` may use all three; `io` and
//! `control` use the engine; nothing but `main` uses `io`.

pub mod config;
pub mod control;
pub mod engine;
pub mod failover;
pub mod io;
pub mod lease;
