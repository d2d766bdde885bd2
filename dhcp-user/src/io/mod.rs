//! The skin: event loop, sockets, journal file, kernel program, clocks, signals. May touch the world, may not
//! decide.
//!
//! ```text
//!   agent.rs      the event loop
//!   clock.rs      the clocks, and an alarm that rings on CLOCK_BOOTTIME
//!   command.rs    the command line: dhcpd's, and ours
//!   daemon.rs     fork, pid file
//!   entropy.rs    randomness
//!   explain/      what a message would be answered, and why
//!   fastpath.rs   the kernel accelerator as the loop sees it; xdp.rs is the real one
//!   fastpath_start.rs the fast path at the start: adopted, made anew, or off and why
//!   filter.rs     classic BPF: what wakes the packet sockets
//!   frame.rs      bytes of a packet socket -> datagram; reply -> raw frame
//!   interfaces.rs what the kernel has, which of them to serve, when they change
//!   journal/      the leases file: lock, group commit, compaction
//!   log.rs        dhcpd's plain lines, or syslog
//!   mark.rs       the file that says that the kernel may have promised more
//!   neighbours.rs keeps neighbours that do not answer from blocking the others
//!   network.rs    all sockets together: datagrams in, replies out
//!   peers.rs      TCP with failover partners
//!   plan.rs       paths and settings: who wins
//!   programs.rs   programs of `execute` statements
//!   probe.rs      does somebody use this address already?
//!   recovery.rs   what the leases file says, taken in at the start
//!   signals.rs    stop, reload
//!   reload.rs     another configuration, read and compared beside the loop
//!   snapshot.rs   pictures for operators
//!   socket.rs     packet sockets and the UDP socket, in batches
//!   start.rs      from the command line to a running server
//!   tail.rs       committed changes for whoever follows
//!   watch.rs      the shadow check, and one client's next message
//!   xdp/          the kernel program: load, attach, arm, revoke
//! ```
#![allow(unsafe_code, reason = "system calls that std and socket2 do not have; each block says why it is sound")]

pub mod agent;
mod check;
pub mod clock;
pub mod command;
pub mod daemon;
pub mod entropy;
mod explain;
pub mod fastpath;
mod fastpath_start;
pub mod filter;
pub mod frame;
pub mod interfaces;
pub mod journal;
pub mod log;
pub mod mark;
mod neighbours;
pub mod network;
pub mod peers;
mod plan;
pub mod probe;
mod programs;
mod recovery;
mod reload;
mod rounds;
pub mod signals;
mod snapshot;
pub mod socket;
pub mod start;
mod tail;
pub mod trace;
mod watch;
pub mod xdp;
