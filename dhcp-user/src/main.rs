//! The `xdhcpd` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    dhcp_user::io::start::main(std::env::args_os())
}
