//! The one place that knows versions of the BPF toolchain. The compiler's own is in `rust-toolchain.toml`.

/// The linker that turns LLVM bitcode into a BPF object. 0.10 loads rustc's own LLVM 22; later ones want a
/// system LLVM.
pub(super) const LINKER: &str = "0.10.0";

/// Suites of Debian that carry (or carried) the sources of our compiler, tried in this order.
pub(super) const DEBIAN_SUITES: [&str; 1] = ["trixie-backports"];

/// The version of rustc, and of the library sources, that the committed object is built with.
pub(super) fn rust() -> Option<&'static str> {
    let toolchain = include_str!("../../../rust-toolchain.toml");
    let line = toolchain.lines().find(|line| line.trim_start().starts_with("channel"))?;
    line.split('"').nth(1)
}
