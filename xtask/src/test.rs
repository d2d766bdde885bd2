//! `cargo xtask test`: every suite, and an honest count.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::shed;

/// Suites that need root or other programs; the rest is what `check` runs.
const PRIVILEGED: [&str; 8] = ["disk", "e2e", "kernel", "kill", "links", "oracle", "pair", "storm"];

/// What the suites ask for: a program, and the Debian package that brings it.
const PEERS: [(&str, &str); 10] = [
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("dhcpd", "isc-dhcp-server"),
    ("dhclient", "isc-dhcp-client"),
    ("dhcrelay", "isc-dhcp-relay"),
    ("udhcpc", "udhcpc"),
    ("dhcpcd", "dhcpcd-base"),
    ("tshark", "tshark"),
    ("unshare", "util-linux"),
    ("timeout", "coreutils"),
];

/// Set up what the suites need and run all of them; the last line counts.
///
/// As root, where apt is there, the real DHCP clients and servers that the suites play against are installed when
/// missing (their services are not started). What cannot run for lack of a privilege or a program is SKIPPED with
/// the reason and counted; with --strict a skip is a failure. Everything happens in network namespaces of its own.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// A skipped test is a failure; CI uses this.
    #[arg(long)]
    strict: bool,
    /// Install nothing.
    #[arg(long)]
    no_install: bool,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// What came out of the suites.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Count {
    /// Adds a `test result:` line of the test harness; other lines are left alone.
    fn add_line(&mut self, line: &str) {
        let Some(rest) = line.trim_start().strip_prefix("test result:") else {
            return;
        };
        for part in rest.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(kind)) = (words.next().and_then(|word| word.parse::<usize>().ok()), words.next())
            else {
                continue;
            };
            match kind {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// Installs, builds, runs everything and prints the summary.
pub(crate) fn run(options: &Options) -> Result<()> {
    if shed::is_root() && !options.no_install {
        install(&PEERS)?;
    }
    let mut arguments = vec!["--workspace"];
    if let Some(filter) = &options.filter {
        arguments.extend(["--", filter]);
    }
    run_suites(&arguments, options.strict)
}

/// The unit tests, and the suites that need nothing.
pub(crate) fn run_fast() -> Result<()> {
    let mut arguments = vec![String::from("--workspace"), String::from("--lib"), String::from("--bins")];
    for suite in suites()? {
        if !PRIVILEGED.contains(&suite.as_str()) {
            arguments.extend([String::from("--test"), suite]);
        }
    }
    run_suites(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), false)
}

/// Names of the `[[test]]` entries of the proving ground.
fn suites() -> Result<Vec<String>> {
    let manifest = fs::read_to_string(shed::root().join("tests/Cargo.toml")).context("tests/Cargo.toml")?;
    let sections = manifest.split("[[test]]").skip(1);
    Ok(sections
        .filter_map(|section| section.lines().find_map(|line| line.trim().strip_prefix("name = ")))
        .map(|name| name.trim_matches('"').to_owned())
        .collect())
}

/// Builds the server, runs `cargo test`, counts, and prints what was skipped.
fn run_suites(arguments: &[&str], strict: bool) -> Result<()> {
    let root = shed::root();
    let skips = shed::target().join(format!("skips.{}", std::process::id()));
    let _ = fs::remove_file(&skips);
    shed::say("building xdhcpd for the suites");
    shed::run(Command::new(shed::cargo()).current_dir(&root).args([
        "build",
        "--locked",
        "--quiet",
        "--package",
        "dhcp-user",
        "--bin",
        "xdhcpd",
    ]))?;
    let mut command = Command::new(shed::cargo());
    command.current_dir(&root).args(["test", "--locked", "--no-fail-fast"]).args(arguments);
    command.env("XDHCPD_SKIPS", &skips).env("XDHCPD_BIN", shed::target().join("debug").join("xdhcpd"));
    let (count, is_well) = count_output(&mut command)?;

    let skipped = read_skips(&skips)?;
    let _ = fs::remove_file(&skips);
    for line in &skipped {
        shed::print(line);
    }
    // The harness calls a test that returned early passed; a test that reports twice is one test all the same.
    let skipped_count = skipped.len() + count.ignored;
    let failed = if is_well { count.failed } else { count.failed.max(1) };
    let passed = count.passed.saturating_sub(skipped.len());
    shed::print(&format!("{passed} passed, {failed} failed, {skipped_count} skipped"));
    if failed > 0 {
        bail!("the suites failed");
    }
    if strict && skipped_count > 0 {
        bail!("{skipped_count} skipped, and --strict was asked for");
    }
    if passed == 0 && skipped_count == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// Runs a command, shows its standard output as it comes, and counts the harness's results in it.
fn count_output(command: &mut Command) -> Result<(Count, bool)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut count = Count::default();
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        std::io::stdout().write_all(&line)?;
        count.add_line(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok((count, child.wait()?.success()))
}

/// The skips that the suites reported, one line per test.
fn read_skips(file: &Path) -> Result<Vec<String>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let name = |line: &str| line.split(':').next().map(str::to_owned);
        if !lines.iter().any(|known| name(known) == name(line)) {
            lines.push(line.to_owned());
        }
    }
    Ok(lines)
}

/// Installs those of the programs (each with its Debian package) that are missing, where apt is there.
pub(crate) fn install(peers: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = peers
        .iter()
        .filter(|(program, _)| shed::find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if shed::find_program("apt-get").is_none() {
        shed::say(&format!("no apt here: suites that need one of {} will be skipped", missing.join(" ")));
        return Ok(());
    }
    shed::say(&format!("installing {}", missing.join(" ")));
    let _quiet = NoServices::new()?;
    let install = || {
        let mut command = apt();
        command.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
        command
    };
    if shed::read(&mut install()).is_err() {
        // A fresh machine has no package lists yet.
        shed::read(apt().arg("update")).and_then(|_| shed::read(&mut install())).or_else(|error| {
            shed::complain(&format!("{error:#}; suites that need those programs will be skipped"));
            Ok::<_, anyhow::Error>(String::new())
        })?;
    }
    Ok(())
}

/// apt-get that asks nothing.
fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
    command
}

/// While this lives, installed packages do not start their services: nobody wants a second DHCP server.
struct NoServices {
    policy: Option<PathBuf>,
}

impl NoServices {
    /// Where Debian asks whether a service may be started (invoke-rc.d(8)).
    const POLICY: &'static str = "/usr/sbin/policy-rc.d";

    fn new() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let policy = PathBuf::from(Self::POLICY);
        if policy.exists() {
            return Ok(Self { policy: None });
        }
        fs::write(&policy, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {}", policy.display()))?;
        let made = Self { policy: Some(policy) };
        fs::set_permissions(Self::POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(made)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.policy {
            let _ = fs::remove_file(policy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_suites_add_up() {
        let mut count = Count::default();
        count
            .add_line("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.17s");
        count.add_line(
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        );
        count.add_line("test a::b ... ok");
        assert_eq!(count, Count { passed: 14, failed: 1, ignored: 1 });
    }

    #[test]
    fn the_suites_of_the_proving_ground_are_found() {
        let found = suites().unwrap();
        for suite in ["wire", "config", "e2e"] {
            assert!(found.iter().any(|name| name == suite), "{suite} is not in {found:?}");
        }
    }
}
