//! The failover partner: message codec and endpoint state machine (failover-12, as ISC dhcpd 4.4.3 speaks it).
//!
//! ```text
//!   codec/     bytes <-> Message                                        (no state)
//!   bucket     client -> bucket -> server; RFC 3074
//!   times      MCLT arithmetic          rules   who may do what with a lease
//!   binding    what is seen of a lease, and the trait through which leases are reached
//!   endpoint/  handle(input, leases, now), poll_effect, poll_timeout, status
//! ```
//!
//! Pure: no sockets, no clocks, no files. May use `lease`. Guards I1 (with the partner), I7 and I8: a BNDUPD, BNDACK
//! or STATE comes out only after the record it rests on is durable, and an address is revoked before it is taken away.
//!
//! Where dhcpd and the draft differ we follow dhcpd, since it must accept every byte; where dhcpd forgets or
//! gives away too early, we do not: updates in flight survive every loss of the link, UPDDONE waits for every
//! acknowledgement, an early "expired" is answered only when the lease has run out, and in partner-down an address of
//! the partner's is not used before everything the partner may have promised has run out.

pub mod binding;
pub mod bucket;
pub mod codec;
pub mod endpoint;
pub mod limits;
pub mod rules;
pub mod state;
pub mod times;

pub use binding::{Binding, BindingState, Counts, Leases, Seq};
pub use bucket::{Buckets, hash};
pub use endpoint::{Command, Effect, Endpoint, Input, Level, Link, Settings, Status, Token, Traffic};
pub use state::{Role, Service, State, StateRecord};
pub use times::Grant;
