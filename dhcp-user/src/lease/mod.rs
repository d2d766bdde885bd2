//! Leases: binding states, the table and its indexes, the journal's dialect (dhcpd.leases).
//!
//! Pure: knows the bytes of a record, never a file. Guards I1 (one binding per address) and, with the journal,
//! I2 and I8.
//!
//! ```text
//!   Lease            one binding, thick and owned: what the engine thinks with
//!   table::Table     a million of them, thin: slots by address, indexes by client, hardware, time, choice
//!   journal          Lease <-> the text of dhcpd.leases(5), byte for byte as ISC dhcpd 4.4.3 writes it
//!   time             the two clocks
//! ```

pub mod journal;
pub mod table;
pub mod time;

mod record;
mod state;

pub use record::{Billing, Lease, Value, Variable};
pub use state::{BindingState, FailoverState};
pub use table::{Counts, Layout, Packed, Place, PoolIndex, PoolLayout, Relaid, Table};
