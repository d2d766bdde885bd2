//! The compiler's library sources, of exactly its own version: from the toolchain, from rustup, from Debian.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::pins;
use crate::shed;

/// Folders whose files name the package sources of a Debian machine, and the file that may stand beside them.
const APT_FOLDER: &str = "/etc/apt/sources.list.d";
const APT_FILE: &str = "/etc/apt/sources.list";

/// Finds or fetches the sources of rustc `version`; returns the folder that holds `core/`.
pub(super) fn ensure(version: &str) -> Result<PathBuf> {
    let sysroot = PathBuf::from(shed::read(Command::new(shed::rustc()).args(["--print", "sysroot"]))?.trim());
    let of_toolchain = sysroot.join("lib/rustlib/src/rust/library");
    if is_library(&of_toolchain) {
        return Ok(of_toolchain);
    }
    let unpacked = shed::target().join("rust-src");
    let of_debian = unpacked.join(format!("usr/src/rustc-{version}/library"));
    if is_library(&of_debian) {
        return Ok(of_debian);
    }

    let by_rustup = add_component(version);
    if is_library(&of_toolchain) {
        return Ok(of_toolchain);
    }
    let by_debian = fetch_from_debian(version, &unpacked);
    if is_library(&of_debian) {
        return Ok(of_debian);
    }
    bail!(
        "the library sources of rustc {version} are nowhere to be had. rustup: {}. Debian: {}. Give a folder with \
         `--rust-src FOLDER` (the `library` folder of the rust-src component of exactly this version)",
        outcome(by_rustup),
        outcome(by_debian)
    )
}

/// Whether `folder` is what build-std needs.
fn is_library(folder: &Path) -> bool {
    folder.join("core/src/lib.rs").is_file()
}

/// One line for the list of what was tried.
fn outcome(result: Result<()>) -> String {
    match result {
        Ok(()) => String::from("ended well, but the sources are not where they belong"),
        Err(error) => format!("{error:#}"),
    }
}

/// Asks rustup for the component.
fn add_component(version: &str) -> Result<()> {
    let rustup = shed::find_program("rustup").context("not installed")?;
    shed::say("asking rustup for rust-src");
    shed::read(Command::new(rustup).args(["component", "add", "rust-src", "--toolchain", version])).map(drop)
}

/// Fetches Debian's package into the target folder; nothing is installed and root is not needed.
fn fetch_from_debian(version: &str, unpacked: &Path) -> Result<()> {
    if shed::find_program("apt-get").is_none() || shed::find_program("dpkg").is_none() {
        bail!("apt-get or dpkg is missing");
    }
    let mirrors = debian_mirrors();
    if mirrors.is_empty() {
        bail!("no Debian archive in {APT_FILE} or {APT_FOLDER}");
    }
    let mut refusals = Vec::new();
    for suite in pins::DEBIAN_SUITES {
        for mirror in &mirrors {
            shed::say(&format!("fetching rust-src {version} of Debian {suite}"));
            match fetch_suite(version, suite, mirror, unpacked) {
                Ok(()) => return Ok(()),
                Err(error) => refusals.push(format!("{suite}: {error:#}")),
            }
        }
    }
    bail!("{}", refusals.join("; "))
}

/// Fetches and unpacks the package from one suite of one mirror.
fn fetch_suite(version: &str, suite: &str, mirror: &Mirror, unpacked: &Path) -> Result<()> {
    let apt = shed::target().join("apt");
    for folder in ["lists/partial", "cache/archives/partial", "packages"] {
        fs::create_dir_all(apt.join(folder)).with_context(|| format!("cannot make {}", apt.join(folder).display()))?;
    }
    let list = apt.join("sources.list");
    let options = mirror.signed_by.as_ref().map(|key| format!("[signed-by={key}] ")).unwrap_or_default();
    fs::write(&list, format!("deb {options}{} {suite} main\n", mirror.uri)).context("cannot write a sources list")?;

    let setting = |name: &str, value: &Path| format!("{name}={}", value.display());
    let settings = [
        setting("Dir::Etc::sourcelist", &list),
        String::from("Dir::Etc::sourceparts=/dev/null"),
        setting("Dir::State::Lists", &apt.join("lists")),
        setting("Dir::Cache", &apt.join("cache")),
        // Below a folder that the sandbox user of apt may not enter, it complains; we fetch as ourselves.
        String::from("APT::Sandbox::User="),
        String::from("Acquire::Languages=none"),
    ];
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(apt.join("packages")).arg("--quiet");
        for setting in &settings {
            command.arg("-o").arg(setting);
        }
        command.args(arguments);
        command
    };
    shed::read(&mut apt_get(&["update"]))?;
    shed::read(&mut apt_get(&["download", &format!("rust-src={version}*")]))?;

    let prefix = format!("rust-src_{version}");
    let package = fs::read_dir(apt.join("packages"))
        .context("cannot list what was fetched")?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .context("apt-get ended well, but the package is not there")?;
    fs::create_dir_all(unpacked).with_context(|| format!("cannot make {}", unpacked.display()))?;
    shed::read(Command::new("dpkg").arg("-x").arg(&package).arg(unpacked)).map(drop)
}

/// A package archive that this machine's own configuration names.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    uri: String,
    signed_by: Option<String>,
}

/// The Debian archives in this machine's apt configuration, in the order of the files' names.
fn debian_mirrors() -> Vec<Mirror> {
    let mut files = vec![PathBuf::from(APT_FILE)];
    let mut parts: Vec<PathBuf> =
        fs::read_dir(APT_FOLDER).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    parts.sort();
    files.extend(parts);
    let mut mirrors = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let found = match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => from_deb822(&text),
            Some("list") => from_one_line(&text),
            _ => Vec::new(),
        };
        for mirror in found {
            if !mirrors.contains(&mirror) {
                mirrors.push(mirror);
            }
        }
    }
    mirrors
}

/// Whether a URI is a Debian main archive: backports live there, in neither the security nor another archive.
fn is_debian_archive(uri: &str) -> bool {
    let path = uri.trim_end_matches('/');
    path.ends_with("/debian") && !path.contains("security")
}

/// Reads stanzas of `Key: value` lines (sources.list(5), deb822 style).
fn from_deb822(text: &str) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        if field("Enabled").is_some_and(|value| value == "no") {
            continue;
        }
        if !field("Types").is_some_and(|types| types.split_whitespace().any(|kind| kind == "deb")) {
            continue;
        }
        let signed_by = field("Signed-By").filter(|key| key.starts_with('/'));
        for uri in field("URIs").unwrap_or_default().split_whitespace().filter(|uri| is_debian_archive(uri)) {
            mirrors.push(Mirror { uri: uri.to_owned(), signed_by: signed_by.clone() });
        }
    }
    mirrors
}

/// Reads `deb [option=value ...] uri suite component...` lines (sources.list(5), one-line style).
fn from_one_line(text: &str) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("deb ") else {
            continue;
        };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .filter(|key| key.starts_with('/'))
            .map(str::to_owned);
        if let Some(uri) = rest.split_whitespace().next().filter(|uri| is_debian_archive(uri)) {
            mirrors.push(Mirror { uri: uri.to_owned(), signed_by });
        }
    }
    mirrors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deb822_file_names_its_archive_and_key_and_leaves_security_out() {
        let text = "Types: deb deb-src\nURIs: http://mirror.example/debian\nSuites: stable\nSigned-By: /k.gpg\n\n\
                    Types: deb\nURIs: http://mirror.example/debian-security\nSuites: s\n\n\
                    Enabled: no\nTypes: deb\nURIs: http://off.example/debian\n";
        let mirror = Mirror { uri: "http://mirror.example/debian".into(), signed_by: Some("/k.gpg".into()) };
        assert_eq!(from_deb822(text), [mirror]);
    }

    #[test]
    fn a_one_line_list_is_read_with_and_without_options() {
        let text = "# deb http://no.example/debian x main\ndeb [arch=amd64 signed-by=/k.gpg] http://a.example/debian/ s main\n\
                    deb http://b.example/debian s main\ndeb http://c.example/ubuntu s main\n";
        let found = from_one_line(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Mirror { uri: "http://a.example/debian/".into(), signed_by: Some("/k.gpg".into()) });
        assert_eq!(found[1], Mirror { uri: "http://b.example/debian".into(), signed_by: None });
    }
}
