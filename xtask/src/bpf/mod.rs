//! `cargo xtask bpf`: the XDP program from source, the same bytes on every machine.
//!
//! ```text
//!   rustc (pinned, stable) + library sources of the same version
//!      -> bitcode -> bpf-linker (pinned) -> ELF with DWARF -> DWARF stripped -> dhcp-ebpf/xdhcpd.bpf.o
//! ```
//!
//! What would differ between machines is taken out: every path is remapped, one codegen unit is used, nothing
//! of the user's environment reaches the compiler, and DWARF goes (its symbol names carry a hash of the path of
//! the library sources). `.BTF` and `.BTF.ext` stay.

mod object;
mod pins;
mod sources;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shed;

/// Where the committed object lives, from the root of the tree.
const OBJECT: &str = "dhcp-ebpf/xdhcpd.bpf.o";
/// The target of the program: little endian, as every machine we know that runs XDP.
const TARGET: &str = "bpfel-unknown-none";
/// The binary of the package `dhcp-ebpf`.
const PROGRAM: &str = "xdhcpd-xdp";

/// Build the XDP program from source and put it where the agent embeds it.
///
/// Needs the Rust version of rust-toolchain.toml, and fetches what is missing into the target folder: bpf-linker
/// from the crate registry, and the compiler's library sources (the toolchain's own, else `rustup component add
/// rust-src`, else Debian's package from the mirror this machine already uses). The result is the same on every
/// machine, byte for byte, so `--check` can prove that the committed object is what its source says.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Build, compare with the committed object, change nothing; a difference is an error.
    #[arg(long)]
    check: bool,
    /// Keep the DWARF: write the object with debug information here as well (for llvm-objdump -S).
    #[arg(long, value_name = "FILE")]
    debug_to: Option<PathBuf>,
    /// Build a debug edition that logs every DHCP frame's verdict, write it here, leave the committed object alone;
    /// `xdhcpd --fast-path-object FILE` runs it.
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    trace_to: Option<PathBuf>,
    /// Library sources of the compiler (the folder that has `core/` in it), instead of looking for them.
    #[arg(long, value_name = "FOLDER", env = "XDHCPD_RUST_SRC")]
    rust_src: Option<PathBuf>,
}

/// Builds, strips, compares or writes, and prints what came out.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = shed::root();
    let committed = root.join(OBJECT);

    if let Some(file) = &options.trace_to {
        let object = build_with(options, "trace")?;
        fs::copy(&object, file).with_context(|| format!("cannot write {}", file.display()))?;
        shed::print(&format!("{}: written; run it with xdhcpd --fast-path-object", file.display()));
        return Ok(());
    }
    let linked = build(options, &[])?;
    let with_dwarf = fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))?;
    if let Some(file) = &options.debug_to {
        fs::write(file, &with_dwarf).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let bytes = object::strip(&with_dwarf)?;

    if options.check {
        let old = fs::read(&committed)
            .with_context(|| format!("{OBJECT} cannot be read; `cargo xtask bpf` makes it, then commit it"))?;
        if old != bytes {
            let fresh = shed::target().join("bpf").join("fresh.bpf.o");
            fs::write(&fresh, &bytes).with_context(|| format!("cannot write {}", fresh.display()))?;
            bail!(
                "{OBJECT} is not what its source builds to ({}); the fresh build is {}. If the source is right, run \
                 `cargo xtask bpf` and commit the object",
                object::difference(&old, &bytes),
                fresh.display()
            );
        }
        shed::print(&format!("{OBJECT}: {} bytes, equal to a fresh build", bytes.len()));
    } else {
        let same = fs::read(&committed).is_ok_and(|old| old == bytes);
        if !same {
            fs::write(&committed, &bytes).with_context(|| format!("cannot write {}", committed.display()))?;
        }
        shed::print(&format!("{OBJECT}: {} bytes, {}", bytes.len(), if same { "unchanged" } else { "written" }));
    }
    object::describe(&bytes)
}

/// Builds the program with the benchmark's own entry points and returns the stripped object's path, in the target
/// folder; such an object is never committed.
pub(crate) fn build_for_bench() -> Result<PathBuf> {
    build_with(&Options { check: false, debug_to: None, trace_to: None, rust_src: None }, "bench")
}

/// Builds the program with a feature and returns the stripped object's path, in the target folder.
fn build_with(options: &Options, feature: &str) -> Result<PathBuf> {
    let linked = build(options, &["--features", feature])?;
    let bytes = fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))?;
    let object = shed::target().join("bpf").join(format!("{feature}.bpf.o"));
    fs::write(&object, object::strip(&bytes)?).with_context(|| format!("cannot write {}", object.display()))?;
    Ok(object)
}

/// Compiles and links the program; returns the linked file, DWARF included.
fn build(options: &Options, features: &[&str]) -> Result<PathBuf> {
    let root = shed::root();
    let version = pins::rust().context("rust-toolchain.toml names no channel")?;
    let found = shed::read(Command::new(shed::rustc()).arg("--version"))?;
    if found.split_whitespace().nth(1) != Some(version) {
        bail!(
            "this is {}, the object is built with {version}: run through rustup, or install that version",
            found.trim()
        );
    }
    let tools = ensure_linker()?;
    let library = match &options.rust_src {
        Some(folder) => folder.clone(),
        None => sources::ensure(version)?,
    };
    if !library.join("core/src/lib.rs").is_file() {
        bail!("{} holds no library sources (core/src/lib.rs is missing)", library.display());
    }

    let folder = shed::target().join("bpf");
    shed::say(&format!(
        "building {PROGRAM} for {TARGET} with rustc {version}, library sources at {}",
        library.display()
    ));
    let mut cargo = Command::new(shed::cargo());
    cargo
        .current_dir(&root)
        .args(["build", "--locked", "--release", "--package", "dhcp-ebpf", "--bin", PROGRAM])
        .args(["--target", TARGET, "-Z", "build-std=core", "--quiet"])
        .args(features)
        .arg("--target-dir")
        .arg(&folder);
    // Nothing of the user's build settings may reach the object.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if [
            "CARGO_PROFILE_",
            "CARGO_BUILD_",
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_INCREMENTAL",
        ]
        .iter()
        .any(|prefix| text.starts_with(prefix))
        {
            cargo.env_remove(&name);
        }
    }
    cargo
        .env("RUSTC", shed::rustc())
        .env("RUSTC_BOOTSTRAP", "1")
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", &library)
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&root, &library)?)
        .env("PATH", path_with(&tools)?);
    shed::run(&mut cargo)?;
    Ok(folder.join(TARGET).join("release").join(PROGRAM))
}

/// The compiler flags, separated as cargo wants them; later remaps win over earlier ones.
fn flags(root: &Path, library: &Path) -> Result<OsString> {
    let mut flags: Vec<OsString> = vec![
        // The object does not depend on the host; aya-ebpf wants to be told one all the same.
        "--cfg=bpf_target_arch=\"x86_64\"".into(),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        // Packets are read in words wherever they stand; both JITs we know allow it, and byte loads are slow.
        "-Ctarget-feature=+allows-misaligned-mem-access".into(),
        // 32-bit ALU and jumps (kernel 5.1 and later): with the first alone, comparisons with -1 come out wrong.
        "-Ctarget-cpu=v3".into(),
        format!("-Clinker={}", "bpf-linker").into(),
    ];
    let mut remap = |from: &Path, to: &str| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    };
    remap(root, "/xdhcpd");
    // Below the library sources rustc writes its own virtual path for files of the sysroot, so both are mapped.
    remap(library, "/rust/library");
    if let Some(home) = shed::cargo_home() {
        remap(&home, "/cargo");
        // The registry's folder has a hash of its address in its name: a mirror would show in the object.
        let registry = home.join("registry").join("src");
        for entry in fs::read_dir(&registry).into_iter().flatten().flatten() {
            remap(&entry.path(), "/cargo/registry/src/crates");
        }
    }
    Ok(flags.join(&OsString::from("\u{1f}")))
}

/// The PATH with `folder` before everything else.
fn path_with(folder: &Path) -> Result<OsString> {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&old));
    std::env::join_paths(all).context("the PATH holds a folder that cannot be quoted")
}

/// Finds the pinned linker in the target folder, or builds it there; returns the folder it is in.
fn ensure_linker() -> Result<PathBuf> {
    let home = shed::target().join("tools");
    let folder = home.join("bin");
    let linker = folder.join("bpf-linker");
    if linker.is_file() {
        let found = shed::read(Command::new(&linker).arg("--version"))?;
        if found.split_whitespace().any(|word| word == pins::LINKER) {
            return Ok(folder);
        }
        shed::say(&format!("{} is {}, wanted {}", linker.display(), found.trim(), pins::LINKER));
    }
    shed::say(&format!("installing bpf-linker {} (once, about a minute)", pins::LINKER));
    shed::run(
        Command::new(shed::cargo())
            .args(["install", "--locked", "--force", "--quiet", "--version", pins::LINKER, "bpf-linker", "--root"])
            .arg(&home)
            .arg("--target-dir")
            .arg(shed::target().join("bpf-linker"))
            .env_remove("CARGO_TARGET_DIR"),
    )
    .context("bpf-linker cannot be built: it needs the crate registry and a C toolchain")?;
    Ok(folder)
}
