//! The operator's door: a Unix socket that answers one JSON line with one JSON line.
//!
//! ```text
//!   client --{"version":1,"command":"status"}--> listener --Asked--> event loop
//!   client <--{"version":1,"status":{...}}------ listener <--Reply-- event loop
//! ```
//!
//! Reads snapshots, owns no state. Everything is bounded: clients, the length of a request, the rows of a reply,
//! the time a client may take.

pub mod client;
pub mod failover;
pub mod listener;
pub mod message;
pub mod metrics;
pub mod table;
