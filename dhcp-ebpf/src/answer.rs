//! The pen.
