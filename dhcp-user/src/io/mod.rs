//! Sign to come.

pub mod journal;
