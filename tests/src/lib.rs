//! The proving ground.

pub mod fastpath;
pub mod frames;
pub mod skip;
