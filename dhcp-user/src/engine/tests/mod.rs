//! What the engine claims, driven by hand on a virtual clock.

mod arming;
mod bounds;
mod failover;
mod guard;
mod joining;
mod leasequery;
mod leaving;
mod policies;
mod requests;
