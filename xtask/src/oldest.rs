//! `cargo xtask oldest`: the oldest kernel that the README claims, under qemu.
//!
//! ```text
//!   Debian's kernel package -> vmlinuz --+
//!   the suite `kernel`, its libraries, --+--> qemu, serial console -> results
//!   busybox and a script   -> initramfs -+
//! ```
//!
//! Nothing is installed into the guest: its whole file system is an archive in memory. The suite attaches nothing, so
//! the guest needs no network device and no module.

mod archive;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use self::archive::Archive;
use crate::shed;

/// The kernel the README names, as Debian's packages begin.
const SERIES: &str = "linux-image-6.1.";
/// The tests that are run unless others are named: the program is taken, and gives every verdict. Emulated, each needs
/// some ten seconds for the verifier alone.
const TESTS: [&str; 5] = [
    "the_verifiers_work_stays_within_its_budget",
    "an_armed_renewal_is_answered",
    "a_tagged_client_is_answered",
    "a_reply_longer_or_shorter",
    "every_reason_is_reached",
];
/// How long the guest may run, in seconds.
const LIMIT_SECS: u32 = 900;

/// Run the suite `kernel` on Debian 12's own kernel, the oldest that the README claims, under qemu.
///
/// Takes some minutes, since all is emulated. The kernel comes from the mirror this machine
/// already uses, qemu from its packages; what is fetched stays in the target folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Another kernel (vmlinuz) than Debian 12's.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Tests whose names contain one of these, instead of the usual few.
    filters: Vec<String>,
}

/// Fetches, packs, boots, and reads the guest's console.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = shed::target().join("oldest");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let kernel = match &options.kernel {
        Some(kernel) => kernel.clone(),
        None => debians_kernel(&folder)?,
    };
    let qemu = match shed::find_program("qemu-system-x86_64") {
        Some(qemu) => qemu,
        None => {
            let install = ["install", "--yes", "--no-install-recommends", "qemu-system-x86"];
            shed::say("installing qemu-system-x86");
            shed::run(shed::as_root(Path::new("apt-get"))?.args(install))?;
            shed::find_program("qemu-system-x86_64").context("qemu-system-x86 brought no qemu-system-x86_64")?
        }
    };
    let suite = suite()?;
    let initramfs = folder.join("initramfs");
    fs::write(&initramfs, pack(&suite, options)?).with_context(|| format!("cannot write {}", initramfs.display()))?;
    boot(&qemu, &kernel, &initramfs)
}

/// The kernel of the package that `linux-image-amd64` stands for here, if it is of the series.
fn debians_kernel(folder: &Path) -> Result<PathBuf> {
    let known = || {
        let files = fs::read_dir(folder.join("kernel/boot")).ok()?;
        files.flatten().map(|file| file.path()).find(|path| path.to_string_lossy().contains("vmlinuz-6.1."))
    };
    if let Some(kernel) = known() {
        return Ok(kernel);
    }
    let depends = shed::read(Command::new("apt-cache").args(["depends", "linux-image-amd64"]))
        .context("this machine has no apt: give a kernel with --kernel")?;
    let package = depends
        .split_whitespace()
        .find(|word| word.starts_with(SERIES))
        .with_context(|| format!("apt offers no {SERIES}* here: give a kernel with --kernel"))?;
    shed::say(&format!("fetching {package}"));
    shed::run(Command::new("apt-get").current_dir(folder).args(["--quiet", "download", package]))?;
    let archive = fs::read_dir(folder)?
        .flatten()
        .map(|file| file.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left no package")?;
    shed::run(Command::new("dpkg").arg("-x").arg(&archive).arg(folder.join("kernel")))?;
    fs::remove_file(&archive)?;
    known().with_context(|| format!("{package} holds no kernel"))
}

/// Builds the suite and says where it is.
fn suite() -> Result<PathBuf> {
    shed::say("building the suite kernel");
    let messages = shed::read(Command::new(shed::cargo()).current_dir(shed::root()).args([
        "test",
        "--locked",
        "--package",
        "tests",
        "--test",
        "kernel",
        "--no-run",
        "--message-format=json",
    ]))?;
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "kernel")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.context("cargo built no suite")
}

/// The guest's file system.
fn pack(suite: &Path, options: &Options) -> Result<Vec<u8>> {
    let busybox = shed::find_program("busybox").context("busybox is missing: `cargo xtask test` installs it")?;
    let usual = || TESTS.map(str::to_owned).to_vec();
    let filters = if options.filters.is_empty() { usual() } else { options.filters.clone() };
    let mut archive = Archive::new();
    for folder in ["bin", "lib", "lib64", "lib/x86_64-linux-gnu", "proc", "sys", "dev", "tmp"] {
        archive.folder(folder);
    }
    archive.console();
    for (name, file) in [("bin/busybox", &busybox), ("suite", &suite.to_path_buf())] {
        archive.program(name, &fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let mut libraries: Vec<String> = Vec::new();
    for program in [suite, &busybox] {
        // A static program has none, which ldd calls a failure.
        let listed = shed::read(Command::new("ldd").arg(program)).unwrap_or_default();
        libraries.extend(listed.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
    }
    libraries.sort_unstable();
    libraries.dedup();
    for library in &libraries {
        archive.program(library.trim_start_matches('/'), &fs::read(library)?);
    }
    let script = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox mount -t proc proc /proc\n\
         /bin/busybox mount -t sysfs sys /sys\n\
         /bin/busybox mount -t devtmpfs dev /dev\n\
         /bin/busybox ip link set lo up\n\
         echo \"guest: Linux $(/bin/busybox uname -r)\"\n\
         /suite --test-threads 1 --nocapture {}\n\
         echo \"guest: ended with $?\"\n\
         /bin/busybox poweroff -f\n",
        filters.join(" ")
    );
    archive.program("init", script.as_bytes());
    Ok(archive.finish())
}

/// Boots, shows what the guest says, and judges it.
fn boot(qemu: &Path, kernel: &Path, initramfs: &Path) -> Result<()> {
    shed::say(&format!("booting {}", kernel.display()));
    let mut command = Command::new("timeout");
    command.arg(LIMIT_SECS.to_string()).arg(qemu);
    // Emulated, even where /dev/kvm is: a guest inside a guest ends qemu on some hosts, and the verifier is the same.
    command.args(["-accel", "tcg", "-cpu", "max"]);
    command.args(["-m", "1024", "-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot"]);
    command.args(["-nic", "none", "-append", "console=ttyS0 quiet panic=-1"]);
    let mut child = command
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start timeout(1)")?;
    let output = child.stdout.take().context("qemu has no output")?;
    let (mut passed, mut skipped, mut is_well) = (false, 0_usize, false);
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        shed::print(&line);
        passed |= line.contains("test result: ok.") && !line.contains(" 0 passed");
        skipped += line.matches("SKIPPED").count();
        is_well |= line.contains("guest: ended with 0");
    }
    child.wait()?;
    if !is_well || !passed {
        bail!("the suite did not pass in the guest (or not within {LIMIT_SECS} s)");
    }
    if skipped > 0 {
        bail!("{skipped} tests were skipped in the guest");
    }
    Ok(())
}
