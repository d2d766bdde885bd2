//! Failover: the codec against real sessions, two endpoints against each other, and a seeded simulation of the pair
//! whose checkers see only the wire and the disks.

#[path = "failover/agent.rs"]
mod agent;
#[path = "failover/alone.rs"]
mod alone;
#[path = "failover/captures.rs"]
mod captures;
#[path = "failover/flows.rs"]
mod flows;
#[path = "failover/fuzz.rs"]
mod fuzz;
#[path = "failover/isc.rs"]
mod isc;
#[path = "failover/outlook.rs"]
mod outlook;
#[path = "failover/pair.rs"]
mod pair;
#[path = "failover/simulation.rs"]
mod simulation;
#[path = "failover/watch.rs"]
mod watch;
