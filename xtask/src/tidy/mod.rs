//! `cargo xtask tidy`: the rules of the house that no compiler knows.
//!
//! - **doors**: which room may use which (`use` lines and paths are read), and what the pure rooms may not touch
//! - **words**: nothing left to do is left in the code, no path of somebody's machine
//! - **layout**: what crosses the maps changes only together with its version
//! - **deed**: every dependency says why, and comes without its default features
//! - **rfc**: what the RFCs demand is cited by code and test, and docs/rfc.md says where
//! - **size**: files past 600 lines are named (not an error)

mod doors;
mod layout;
mod rfc;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shed;

/// Lines after which a file is asking for a door.
const FILE_LINES_MAX: usize = 600;

/// Words that say something is unfinished; split here so that this file does not hold them.
const UNFINISHED: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("Sign to ", "come"),
];

/// Starts of paths that exist on one machine only; split for the same reason.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/"), concat!("/", "Users/")];

/// Check the rules of the house that no compiler knows: doors, words, map layout, dependencies.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Accept the layout of the maps as it is now; bump ABI_VERSION first when a field moved.
    #[arg(long)]
    bless: bool,
    /// Write docs/rfc.md anew, from the citations in code and tests, and list what is cited where.
    #[arg(long)]
    rfc: bool,
}

/// Reads every tracked file and reports what breaks a rule.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = shed::root();
    let files = tracked(&root)?;
    if options.rfc {
        rfc::write(&root, &files)?;
        return list_citations(&files);
    }
    if options.bless {
        return layout::bless(&root);
    }
    shed::say("tidy");
    let mut faults = Vec::new();
    for file in &files {
        let Ok(text) = fs::read_to_string(root.join(file)) else {
            continue;
        };
        words(file, &text, &mut faults);
        if file.extension().is_some_and(|extension| extension == "rs") {
            doors::check(file, &text, &mut faults);
            let count = text.lines().count();
            if count > FILE_LINES_MAX {
                shed::say(&format!(
                    "{}: {count} lines; past {FILE_LINES_MAX} a file is asking for a door",
                    file.display()
                ));
            }
        }
    }
    deed(&root, &mut faults)?;
    layout::check(&root, &mut faults)?;
    rfc::check(&root, &files, &mut faults)?;
    if faults.is_empty() {
        return Ok(());
    }
    for fault in &faults {
        shed::print(fault);
    }
    bail!("tidy: {} faults", faults.len())
}

/// Files that git knows or would add, relative to the root.
fn tracked(root: &Path) -> Result<Vec<PathBuf>> {
    let listing = shed::read(Command::new("git").arg("-C").arg(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))
    .context("tidy asks git which files belong to the tree")?;
    let mut files: Vec<PathBuf> = listing.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Reports unfinished work and machine paths.
fn words(file: &Path, text: &str, faults: &mut Vec<String>) {
    // Real files that others wrote are kept as they were found.
    if ["tests/captures", "tests/corpus", "Cargo.lock"].iter().any(|folder| file.starts_with(folder)) {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        for word in UNFINISHED.iter().chain(&MACHINE_PATHS) {
            let found = line.find(word).is_some_and(|at| {
                // Part of a longer path is not a machine's: `/usr/work/` does not start with `/work/`.
                !word.starts_with('/')
                    || !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '.')
            });
            if found {
                faults.push(format!("{}:{}: {word:?} has no place in the tree", file.display(), number + 1));
            }
        }
    }
}

/// Checks the dependency table of the root manifest.
fn deed(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let manifest = fs::read_to_string(root.join("Cargo.toml")).context("Cargo.toml")?;
    let mut is_table = false;
    let mut has_reason = false;
    for (number, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            is_table = line == "[workspace.dependencies]";
        } else if line.starts_with('#') {
            has_reason = true;
        } else if line.is_empty() {
            has_reason = false;
        } else if is_table && !line.contains("path = ") {
            let name = line.split(['=', ' ']).next().unwrap_or(line);
            if !line.contains("default-features = false") {
                faults.push(format!("Cargo.toml:{}: {name} comes with its default features", number + 1));
            }
            if !has_reason {
                faults.push(format!("Cargo.toml:{}: {name} does not say why it is not our own code", number + 1));
            }
        }
    }
    Ok(())
}

/// Prints each cited RFC section with the places that cite it.
fn list_citations(files: &[PathBuf]) -> Result<()> {
    let mut citations = std::collections::BTreeMap::<(u32, String), Vec<String>>::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let text = fs::read_to_string(shed::root().join(file)).with_context(|| file.display().to_string())?;
        for (number, line) in text.lines().enumerate() {
            for rest in line.split("RFC ").skip(1) {
                let mut words = rest.split(|c: char| c.is_whitespace() || ",;:)(".contains(c));
                let Some(rfc) = words.next().and_then(|word| word.parse::<u32>().ok()) else {
                    continue;
                };
                let section = words.next().filter(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or("-");
                let place = format!("{}:{}", file.display(), number + 1);
                citations.entry((rfc, section.trim_end_matches('.').to_owned())).or_default().push(place);
            }
        }
    }
    for ((rfc, section), places) in citations {
        shed::print(&format!("RFC {rfc} {section:<8} {}", places.join(" ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_path_is_found_and_a_longer_one_is_not() {
        let mut faults = Vec::new();
        let folder = MACHINE_PATHS[0];
        words(Path::new("a.rs"), &format!("let a = \"{folder}x\";\nlet b = \"/usr{folder}x\";\n"), &mut faults);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("a.rs:1:"));
    }
}
