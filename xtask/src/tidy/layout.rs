//! What crosses the maps changes only together with its version.
//!
//! A running agent adopts maps that an older one pinned, so a field that moves must show in `ABI_VERSION`. The
//! declarations of `abi.rs`, without their comments, are compared with the kept copy.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::shed;

/// The declarations.
const SOURCE: &str = "dhcp-ebpf/src/abi.rs";
/// The kept copy.
const SNAPSHOT: &str = "xtask/src/tidy/abi.layout";

/// Reports a layout that is not the kept one.
pub(super) fn check(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let layout = read(root)?;
    let kept = fs::read_to_string(root.join(SNAPSHOT)).with_context(|| SNAPSHOT.to_owned())?;
    if layout != kept {
        let line = layout.lines().zip(kept.lines()).find(|(now, then)| now != then);
        let (now, then) = line.unwrap_or(("(end)", "(end)"));
        let is_bumped = version(&layout) != version(&kept);
        let advice = if is_bumped {
            "accept it with `cargo xtask tidy --bless`"
        } else {
            "bump ABI_VERSION, then `cargo xtask tidy --bless`"
        };
        faults.push(format!("{SOURCE}: the layout changed (`{then}` is now `{now}`): {advice}"));
    }
    Ok(())
}

/// Takes the layout as it is.
pub(super) fn bless(root: &Path) -> Result<()> {
    let layout = read(root)?;
    let file = root.join(SNAPSHOT);
    if let Ok(kept) = fs::read_to_string(&file) {
        if kept == layout {
            shed::print("the layout is the kept one");
            return Ok(());
        }
        if version(&kept) == version(&layout) {
            bail!("the layout changed and ABI_VERSION did not: bump it first");
        }
    }
    fs::write(&file, layout).with_context(|| SNAPSHOT.to_owned())?;
    shed::print(&format!("{SNAPSHOT} written: commit it with the change"));
    Ok(())
}

/// The line that holds the version.
fn version(layout: &str) -> Option<&str> {
    layout.lines().find(|line| line.contains("ABI_VERSION"))
}

/// Reads the declarations.
fn read(root: &Path) -> Result<String> {
    Ok(declarations(&fs::read_to_string(root.join(SOURCE)).with_context(|| SOURCE.to_owned())?))
}

/// Constants, and what has a `repr`, one declaration item a line, without comments and derives.
fn declarations(source: &str) -> String {
    let mut kept = String::new();
    let mut is_inside = false;
    for line in source.lines() {
        if line.trim() == "#[cfg(test)]" {
            break;
        }
        let code = line.split("//").next().unwrap_or(line).trim_end();
        let word = code.trim_start();
        if code.starts_with("pub const ") && code.contains('=') || code.starts_with("#[repr(") {
            kept.push_str(code);
            kept.push('\n');
        } else if code.starts_with("pub struct ") || code.starts_with("pub enum ") {
            kept.push_str(code);
            kept.push('\n');
            is_inside = code.ends_with('{');
        } else if is_inside {
            is_inside = code != "}";
            if !word.is_empty() && !word.starts_with("#[") {
                kept.push_str(code);
                kept.push('\n');
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_functions_are_no_layout_but_fields_and_constants_are() {
        let source = "/// Doc.\npub const ABI_VERSION: u32 = 1;\n#[derive(Debug)]\n#[repr(C)]\npub struct A {\n    /// Doc.\n    pub a: u32, // why\n}\n\nimpl A {\n    pub const fn f() {}\n}\n";
        assert_eq!(
            declarations(source),
            "pub const ABI_VERSION: u32 = 1;\n#[repr(C)]\npub struct A {\n    pub a: u32,\n}\n"
        );
    }
}
