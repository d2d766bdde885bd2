//! What every command needs: where the tree is, how a tool is started, how the shed talks.

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The root of the workspace this tool was built from.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}

/// The folder for everything built or fetched: `CARGO_TARGET_DIR`, else `target/` of the workspace.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The cargo that runs us, else the one on the PATH.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

/// The rustc that belongs to [`cargo`].
pub(crate) fn rustc() -> OsString {
    let beside = PathBuf::from(cargo()).with_file_name("rustc");
    if beside.is_file() { beside.into_os_string() } else { OsString::from("rustc") }
}

/// Cargo's home: registry sources live below it.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    #[expect(unsafe_code, reason = "std cannot tell the effective user id")]
    // SAFETY: geteuid takes nothing, writes nothing and cannot fail.
    let euid = unsafe { libc::geteuid() };
    euid == 0
}

/// The first file called `name` on the PATH, or in the folders for administrators that a user's PATH may lack.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(administrators).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Says on standard error what happens next.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "xtask: {line}");
}

/// Says on standard error what went wrong.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "xtask: error: {line}");
}

/// Prints a result line on standard output.
pub(crate) fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs a tool with our own output; an error names the tool, its arguments and how it ended.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a tool and returns what it wrote to standard output; an error carries the last lines of its complaint.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let mut tail: Vec<&str> = complaint.lines().rev().take(6).collect();
        tail.reverse();
        bail!("{} ended with {}: {}", shown(command), output.status, tail.join(" | "));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} wrote something that is not text", shown(command)))
}

/// Program and arguments as a person would type them.
fn shown(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// A command that runs `program` as root: itself when we are, else through sudo.
pub(crate) fn as_root(program: &Path) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let sudo = find_program("sudo").context("this needs root, and there is no sudo: run it as root")?;
    let mut command = Command::new(sudo);
    command.arg("--").arg(program);
    Ok(command)
}

/// Leaves Ctrl-C to the child processes, which hear it as well, and waits for them instead.
pub(crate) fn ignore_interrupt() {
    extern "C" fn nothing(_: libc::c_int) {}
    #[expect(unsafe_code, reason = "std has no signals")]
    // SAFETY: the handler does nothing, so it may run at any moment; a handler (unlike SIG_IGN) is not inherited by
    // the programs that are started.
    unsafe {
        libc::signal(libc::SIGINT, nothing as *const () as libc::sighandler_t);
    }
}
