//! What the engine claims, driven by hand on a virtual clock.

mod adopting;
mod arming;
mod bounds;
mod churn;
mod failover;
mod guard;
mod herd;
mod joining;
mod leasequery;
mod leaving;
mod policies;
mod reloading;
mod requests;
mod rfc;
mod stepping;
