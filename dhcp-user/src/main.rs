//! The `xdhcpd` binary.

fn main() {}
