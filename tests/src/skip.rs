//! How a test says that it could not run: loudly, and counted.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;

/// Names the file that collects skips; `cargo xtask test` sets it and counts its lines.
pub const SKIPS_ENV: &str = "XDHCPD_SKIPS";

/// Reports that `test` did not run because of `reason`; the caller returns right after.
pub fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {}\n", reason.replace('\n', " "));
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(file) = env::var_os(SKIPS_ENV) {
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file)
            // One write of a short line: appending is atomic between test processes.
            .and_then(|mut file| file.write_all(line.as_bytes()));
        assert!(written.is_ok(), "cannot write {}: a skip would be lost", file.display());
    }
}

/// Returns from the test with a skip when the condition (a `Result<_, String>`) is an error.
#[macro_export]
macro_rules! need {
    ($test:expr, $condition:expr) => {
        match $condition {
            Ok(value) => value,
            Err(reason) => {
                $crate::skip::skip($test, &reason);
                return;
            }
        }
    };
}
