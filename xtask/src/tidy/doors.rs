//! Which room may use which. One crate cannot forbid imports, so they are read.

use std::path::Path;

/// The rooms of the agent, each with the rooms it may use.
const ROOMS: [(&str, &[&str]); 6] = [
    ("config", &[]),
    ("lease", &[]),
    ("failover", &["lease"]),
    ("engine", &["config", "lease", "failover"]),
    ("control", &["config", "lease", "failover", "engine"]),
    ("io", &["config", "lease", "failover", "engine", "control"]),
];

/// Rooms that decide: they may not touch the world.
const PURE: [&str; 4] = ["config", "lease", "failover", "engine"];

/// What touches the world, or brings what does.
const WORLD: [&str; 20] = [
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::io::stdin",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::os",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "tokio",
    "aya",
    "libc",
    "socket2",
    "anyhow",
    "tracing",
    "clap",
];

/// Reports paths that go through a door that is not there.
pub(super) fn check(file: &Path, text: &str, faults: &mut Vec<String>) {
    let parts: Vec<&str> = file.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        // The program, and what is compiled into its other editions only, knows aya; the library knows nobody.
        ["dhcp-ebpf", "src", "main.rs" | "bench.rs" | "trace.rs"] => {}
        ["dhcp-ebpf", "src", ..] => {
            let forbidden = ["aya_ebpf", "aya_log_ebpf", "std", "alloc"];
            report(file, text, faults, |path| {
                let first = path.split("::").next().unwrap_or_default();
                forbidden.contains(&first).then(|| String::from("the shared library knows core alone"))
            });
        }
        ["dhcp-user", "src", room, rest @ ..] if !rest.is_empty() => {
            let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| name == room) else {
                faults.push(format!("{}: {room} is no room of the house (style.md 1)", file.display()));
                return;
            };
            // `mod.rs` of a room stands one level below the root of the crate, its files two.
            let depth = rest.len() + usize::from(rest.last() != Some(&"mod.rs"));
            let is_pure = PURE.contains(room);
            report(file, text, faults, |path| {
                if let Some(target) = room_of(path, depth)
                    && target != *room
                    && ROOMS.iter().any(|(name, _)| *name == target)
                    && !allowed.contains(&target)
                {
                    return Some(format!("{room} has no door to {target}"));
                }
                let touches = |world: &str| path == world || path.starts_with(&format!("{world}::"));
                if is_pure && WORLD.iter().any(|world| touches(world)) {
                    return Some(format!("{room} decides and may not touch the world"));
                }
                None
            });
        }
        _ => {}
    }
}

/// The room that a path of the crate leads to, if it is one: through `crate::`, or enough `super::`.
fn room_of(path: &str, depth: usize) -> Option<&str> {
    let mut words = path.split("::");
    match words.next()? {
        "crate" => words.next(),
        "super" => {
            let rest: Vec<&str> = words.collect();
            let climbed = 1 + rest.iter().take_while(|word| **word == "super").count();
            (climbed >= depth).then(|| rest.get(climbed - 1).copied()).flatten()
        }
        _ => None,
    }
}

/// Runs `judge` over every path in the part of the file that is not tests.
fn report(file: &Path, text: &str, faults: &mut Vec<String>, judge: impl Fn(&str) -> Option<String>) {
    if file.file_stem().is_some_and(|stem| stem == "tests") || file.iter().any(|part| part == "tests") {
        return;
    }
    let code = without_tests_and_comments(text);
    for (number, path) in paths(&code) {
        if let Some(fault) = judge(&path) {
            faults.push(format!("{}:{number}: `{path}`: {fault}", file.display()));
        }
    }
}

/// The text up to the module of unit tests, with comments blanked and lines kept.
fn without_tests_and_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_tests =
            line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.trim_start().starts_with("mod "));
        if is_tests {
            break;
        }
        let line = line.split("//").next().unwrap_or(line);
        code.push_str(line);
        code.push('\n');
    }
    code
}

/// Every `a::b::c` of the code with its line number; groups (`a::{b, c::d}`) are opened.
fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut line = 1;
    // What stands before the `{` of each group that is open; empty for a brace that is no group.
    let mut open: Vec<String> = Vec::new();
    let mut current = String::new();
    let mut characters = code.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            ':' if characters.peek() == Some(&':') => {
                characters.next();
                current.push_str("::");
                continue;
            }
            '{' if current.ends_with("::") => {
                let base = open.last().cloned().unwrap_or_default();
                open.push(format!("{base}{current}"));
                current.clear();
                continue;
            }
            _ if character.is_alphanumeric() || character == '_' => {
                current.push(character);
                continue;
            }
            _ => {}
        }
        let base = open.last().map(String::as_str).unwrap_or_default();
        let path = format!("{base}{current}");
        if !current.is_empty() && path.contains("::") {
            found.push((line, path.trim_end_matches("::").to_owned()));
        }
        current.clear();
        match character {
            '{' => open.push(String::new()),
            '}' => {
                open.pop();
            }
            '\n' => line += 1,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(file: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        check(Path::new(file), text, &mut faults);
        faults
    }

    #[test]
    fn a_door_that_is_not_there_is_reported_with_its_line() {
        let found = faults("dhcp-user/src/lease/table.rs", "use std::fmt;\nuse crate::engine::Server;\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("dhcp-user/src/lease/table.rs:2:") && found[0].contains("no door to engine"));
        assert!(faults("dhcp-user/src/engine/mod.rs", "use crate::lease::Table;").is_empty());
        assert_eq!(faults("dhcp-user/src/engine/mod.rs", "use crate::io::Journal;").len(), 1);
    }

    #[test]
    fn groups_and_climbs_lead_to_the_same_door() {
        assert_eq!(faults("dhcp-user/src/config/mod.rs", "use crate::{\n  lease::Table,\n  config::X};").len(), 1);
        assert_eq!(faults("dhcp-user/src/config/mod.rs", "use super::lease::Table;").len(), 1);
        assert_eq!(faults("dhcp-user/src/config/model.rs", "use super::super::lease::Table;").len(), 1);
        assert!(faults("dhcp-user/src/config/model.rs", "use super::lease::Table;").is_empty());
        assert_eq!(faults("dhcp-user/src/config/model.rs", "fn f() { crate::io::now() }").len(), 1);
    }

    #[test]
    fn pure_rooms_do_not_touch_the_world_but_their_tests_and_comments_may() {
        assert_eq!(faults("dhcp-user/src/engine/mod.rs", "use std::{fs, fmt};").len(), 1);
        assert_eq!(faults("dhcp-user/src/engine/mod.rs", "use std::time::{Duration, Instant};").len(), 1);
        assert!(faults("dhcp-user/src/io/mod.rs", "use std::fs;").is_empty());
        assert!(
            faults("dhcp-user/src/engine/mod.rs", "// std::fs\n#[cfg(test)]\nmod tests { use std::fs; }").is_empty()
        );
    }

    #[test]
    fn the_shared_library_knows_core_alone() {
        assert_eq!(faults("dhcp-ebpf/src/decide.rs", "use std::net::Ipv4Addr;").len(), 1);
        assert!(faults("dhcp-ebpf/src/main.rs", "use aya_ebpf::macros::xdp;").is_empty());
    }
}
