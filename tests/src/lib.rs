//! The proving ground.

pub mod skip;
