//! `docs/rfc.md`: what the RFCs demand of a server, where the code does it, and which test shows it.
//!
//! `rfc.txt` holds the demands in our words. Code and tests cite them (`RFC 2131 4.1 #once` in a comment); the table is
//! made of both, so it names functions that exist. A demand that nobody cites, a citation of a demand that does not exist,
//! and a table that is not the one that would be made now are faults.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::shed;

/// The table, from the root.
const TABLE: &str = "docs/rfc.md";
/// The demands.
const DEMANDS: &str = include_str!("rfc.txt");
/// How a citation begins; split here so that this file is none.
const WORD: &str = concat!("RF", "C ");

/// Names a demand: RFC, section, name.
type Key = (u32, Section, String);

/// A section number, in the order of sections.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Section(Vec<u32>);

impl Section {
    fn parse(text: &str) -> Option<Self> {
        text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>().map(Self)
    }
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

/// What is demanded.
#[derive(Debug, PartialEq, Eq)]
struct Demand {
    words: String,
    differs: Option<String>,
}

/// Where a demand is cited.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cited {
    code: Vec<String>,
    tests: Vec<String>,
}

/// Writes the table.
pub(super) fn write(root: &Path, files: &[PathBuf]) -> Result<()> {
    let (table, faults) = make(root, files)?;
    for fault in &faults {
        shed::print(fault);
    }
    if !faults.is_empty() {
        bail!("tidy: {} faults in the citations", faults.len());
    }
    fs::write(root.join(TABLE), table).context(TABLE)?;
    shed::say(&format!("{TABLE} is written"));
    Ok(())
}

/// Reports what is wrong with the citations and the table.
pub(super) fn check(root: &Path, files: &[PathBuf], faults: &mut Vec<String>) -> Result<()> {
    let (table, mut found) = make(root, files)?;
    if found.is_empty() && fs::read_to_string(root.join(TABLE)).ok().as_deref() != Some(&*table) {
        found.push(format!("{TABLE} is not what the citations say now: run `cargo xtask tidy --rfc`"));
    }
    faults.append(&mut found);
    Ok(())
}

fn make(root: &Path, files: &[PathBuf]) -> Result<(String, Vec<String>)> {
    let demands = demands(DEMANDS)?;
    let mut cited = BTreeMap::<Key, Cited>::new();
    let mut faults = Vec::new();
    for file in files {
        let is_source = file.extension().is_some_and(|extension| extension == "rs" || extension == "case");
        if !is_source || file.starts_with("xtask") {
            continue;
        }
        let text = fs::read_to_string(root.join(file)).with_context(|| file.display().to_string())?;
        for (number, key, place, is_test) in citations(file, &text) {
            if !demands.contains_key(&key) {
                faults.push(format!("{}:{number}: {} is no demand of rfc.txt", file.display(), name(&key)));
                continue;
            }
            let cited = cited.entry(key).or_default();
            let list = if is_test { &mut cited.tests } else { &mut cited.code };
            if !list.contains(&place) {
                list.push(place);
            }
        }
    }
    for (key, demand) in &demands {
        let nobody = Cited::default();
        let cited = cited.get(key).unwrap_or(&nobody);
        if cited.code.is_empty() && demand.differs.is_none() {
            faults.push(format!("{}: no code cites it", name(key)));
        }
        if cited.tests.is_empty() {
            faults.push(format!("{}: no test cites it", name(key)));
        }
    }
    Ok((table(&demands, &cited), faults))
}

fn name((rfc, section, name): &Key) -> String {
    format!("{WORD}{rfc} {section} #{name}")
}

/// Reads the list of demands.
fn demands(text: &str) -> Result<BTreeMap<Key, Demand>> {
    let mut demands = BTreeMap::new();
    for block in text.split("\n\n") {
        let mut lines = block.lines().filter(|line| !line.starts_with("# ") && *line != "#");
        let Some(head) = lines.next() else { continue };
        let Some((key, "")) = parse(head) else { bail!("rfc.txt: `{head}` is not `{WORD}N SECTION #name`") };
        let words = lines.next().with_context(|| format!("rfc.txt: {head} says nothing"))?.to_owned();
        let differs = lines.next().map(|line| line.strip_prefix("differs: ").unwrap_or(line).to_owned());
        if demands.insert(key, Demand { words, differs }).is_some() {
            bail!("rfc.txt: {head} is there twice");
        }
    }
    Ok(demands)
}

/// Reads a citation with a name at the start of a text, and what follows it.
fn parse(text: &str) -> Option<(Key, &str)> {
    let (rfc, rest) = text.strip_prefix(WORD)?.split_once(' ')?;
    let (section, rest) = rest.split_once(" #")?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    Some(((rfc.parse().ok()?, Section::parse(section)?, name.to_owned()), rest))
}

/// The citations of a file: line, demand, place, and whether it is a test that cites.
fn citations(file: &Path, text: &str) -> Vec<(usize, Key, String, bool)> {
    let lines: Vec<&str> = text.lines().collect();
    let is_test_file = file.components().any(|part| part.as_os_str() == "tests");
    let tests_from = lines.iter().position(|line| line.trim_start().starts_with("mod tests {")).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let mut rest = *line;
        while let Some(start) = rest.find(WORD) {
            rest = &rest[start..];
            let Some((key, after)) = parse(rest) else {
                rest = &rest[WORD.len()..];
                continue;
            };
            rest = after;
            let place = format!("{} `{}`", file.display(), owner(&lines, at));
            found.push((at + 1, key, place, is_test_file || at >= tests_from));
        }
    }
    found
}

/// The function that a line is about: the one that it stands on, else the one that it stands in. In a case file, the case.
fn owner(lines: &[&str], at: usize) -> String {
    let is_above = |line: &str| {
        let line = line.trim_start();
        line.starts_with("//") || line.starts_with("#[")
    };
    let below = lines[at..].iter().find(|line| !is_above(line)).and_then(|line| item(line, &ITEMS));
    below
        .filter(|_| is_above(lines[at]))
        .or_else(|| {
            lines[..=at].iter().rev().find_map(|line| item(line, &["fn "]).or_else(|| line.strip_prefix("=== ")))
        })
        .unwrap_or("the file")
        .to_owned()
}

/// What may be cited as a place.
const ITEMS: [&str; 4] = ["fn ", "const ", "struct ", "enum "];

/// The name of what a line declares with one of these words.
fn item<'l>(line: &'l str, words: &[&str]) -> Option<&'l str> {
    let line = line.trim_start();
    words.iter().find_map(|word| {
        let start = if line.starts_with(word) { Some(0) } else { line.find(&format!(" {word}")).map(|at| at + 1) }?;
        // What may stand before a declaration, no sentence.
        let is_qualifier =
            |word: &str| word.is_empty() || word.starts_with("pub") || word == "const" || word == "async";
        if !line[..start].split(' ').all(is_qualifier) {
            return None;
        }
        let rest = &line[start + word.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        (end > 0 && !rest.starts_with("fn ")).then_some(&rest[..end])
    })
}

fn table(demands: &BTreeMap<Key, Demand>, cited: &BTreeMap<Key, Cited>) -> String {
    let mut out = String::from(
        "# What the RFCs demand of a server\n\n\
         Every MUST (and SHALL) of these RFCs that concerns a server, in our words, with the code that does it and the test\n\
         that shows it. Made by `cargo xtask tidy --rfc` from `xtask/src/tidy/rfc.txt` and the citations in the code; `cargo\n\
         xtask tidy` refuses a demand without code or test, and a table that is out of date.\n",
    );
    let mut last = 0;
    for (key, demand) in demands {
        let (rfc, section, _) = key;
        if *rfc != last {
            last = *rfc;
            // Writing to a String cannot fail.
            let _ = write!(out, "\n## {WORD}{rfc}\n\n| section | demand | code | test |\n| --- | --- | --- | --- |\n");
        }
        let nobody = Cited::default();
        let cited = cited.get(key).unwrap_or(&nobody);
        let differs = demand.differs.as_ref().map(|why| format!(" **Differs:** {why}.")).unwrap_or_default();
        let code = if cited.code.is_empty() { "-".to_owned() } else { cited.code.join("<br>") };
        let _ = writeln!(out, "| {section} | {}{differs} | {code} | {} |", demand.words, cited.tests.join("<br>"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(section: &str, name: &str) -> Key {
        (2131, Section::parse(section).unwrap(), name.to_owned())
    }

    #[test]
    fn a_citation_belongs_to_the_function_below_it_or_around_it() {
        let text = [
            "/// Sends.",
            concat!("/// RF", "C 2131 4.1 #above, RF", "C 2131 4.1 #beside"),
            "pub(crate) fn send() {",
            concat!("    // RF", "C 2131 4.1 #inside: why."),
            "    act();",
            concat!("    // RF", "C 2131 4.1 has no name"),
            "}",
            "mod tests {",
            concat!("    // RF", "C 2131 10.2 #shown"),
            "    #[test]",
            "    fn it_sends() {}",
        ]
        .join("\n");
        let found = citations(Path::new("src/a.rs"), &text);
        let expected = [
            (2, key("4.1", "above"), "src/a.rs `send`", false),
            (2, key("4.1", "beside"), "src/a.rs `send`", false),
            (4, key("4.1", "inside"), "src/a.rs `send`", false),
            (9, key("10.2", "shown"), "src/a.rs `it_sends`", true),
        ];
        assert_eq!(found, expected.map(|(line, key, place, is_test)| (line, key, place.to_owned(), is_test)));
    }

    #[test]
    fn every_demand_can_be_read_and_sections_are_in_order() {
        let demands = demands(DEMANDS).unwrap();
        assert!(demands.len() > 40, "{}", demands.len());
        assert!(Section::parse("4.3.2") < Section::parse("4.10") && Section::parse("4.x").is_none());
        assert!(super::demands("# c\n\nRFC 1 2 #a\n").is_err() && super::demands("RFC 1 2\nwords\n").is_err());
    }
}
