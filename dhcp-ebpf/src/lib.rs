//! The library both worlds link: the kernel program and the agent.
//!
//! It touches nothing and remembers nothing: no allocation, no clock, no unsafe code. What it knows is the
//! layout of a DHCP message ([`wire`]), what may influence an answer ([`question`]), how a reply is written
//! ([`answer`], the one pen), when the kernel may answer by itself ([`decide`]), what it need not pass up
//! ([`shield`]) and what crosses the maps ([`abi`]).
//!
//! ```text
//!   frame --> decide::answer_in_place --> Verdict: Transmit | Pass(reason) | Drop(reason)
//!                |  question::digest      the same function the agent uses to predict questions
//!                |  answer::write         the same function the agent uses to send replies
//! ```
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod answer;
pub mod clock;
pub mod decide;
pub mod frame;
pub mod question;
pub mod shield;
pub mod wire;
