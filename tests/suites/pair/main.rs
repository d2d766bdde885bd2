//! `pair`: two servers are one service. Two xdhcpd, or one beside the real dhcpd 4.4 in either role, in namespaces of the
//! test's own: first starts with empty files, leases, renewals, releases, declines, kills, partner-down, conflicts.

mod act;
mod course;
mod extras;
mod isc;
mod kill;
mod link;
mod ours;
mod recover;
mod seen;
mod several;
mod strangers;
mod witness;
