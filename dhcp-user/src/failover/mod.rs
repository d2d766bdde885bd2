//! Sign to come.
