//! What is different between two configurations, in the words of their canonical form.
//!
//! Both are converted, and the blocks compared: whatever means something is in the canonical form, so nothing that
//! changed can be missed, and comments, layout and includes count for nothing.

use std::collections::{BTreeMap, HashMap};

use super::Config;
use super::convert::canonical;

/// Lines of a difference that are kept; more are only counted.
const LINES_MAX: usize = 200;

/// Beginnings of lines that open a block with a name or a place of its own.
const DECLARATIONS: [&str; 8] =
    ["shared-network ", "subnet ", "pool", "group", "host ", "class ", "subclass ", "failover peer "];

/// What is different.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// What changed, block by block: `+` has come, `-` has gone. Capped; then the last line says how many there are.
    pub lines: Vec<String>,
    /// The same in one line: `ranges: 1 added, 1 removed; hosts: 3 added`. Empty when nothing is different.
    pub summary: String,
}

/// Compares two configurations.
#[must_use]
pub fn difference(old: &Config, new: &Config) -> Difference {
    let (old, new) = (canonical(old), canonical(new));
    let mut writer = Writer::default();
    writer.compare(&parse(&old), &parse(&new), 0);
    let total = writer.total;
    if total > writer.lines.len() {
        writer.lines.push(format!("... and {} more lines", total.saturating_sub(writer.lines.len())));
    }
    let summary: Vec<String> =
        writer.counts.iter().map(|(kind, counts)| format!("{kind}: {}", counts.text())).collect();
    Difference { lines: writer.lines, summary: summary.join("; ") }
}

/// A block of the canonical form.
#[derive(Debug, Default, PartialEq, Eq)]
struct Block<'t> {
    /// The line that opens it, without the brace.
    head: &'t str,
    /// Statements, each with all its lines.
    statements: Vec<String>,
    blocks: Vec<Self>,
}

impl Block<'_> {
    /// `host`, `failover peer`.
    fn kind(&self) -> &'static str {
        match self.head.split(' ').next().unwrap_or_default() {
            "shared-network" => "shared networks",
            "subnet" => "subnets",
            "pool" => "pools",
            "group" => "groups",
            "host" => "hosts",
            "class" => "classes",
            "subclass" => "subclasses",
            _ => "failover peers",
        }
    }

    /// The name for people: a pool has none but its addresses.
    fn title(&self) -> String {
        let range = self.statements.iter().find(|statement| statement.starts_with("range "));
        match (self.head, range) {
            ("pool", Some(range)) => format!("pool with {}", range.trim_end_matches(';')),
            (head, _) => head.to_owned(),
        }
    }
}

/// Reads the canonical form back into blocks.
fn parse(text: &str) -> Block<'_> {
    let mut open: Vec<Block<'_>> = vec![Block::default()];
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let words = line.trim_start();
        let indent = line.len().saturating_sub(words.len());
        if words.is_empty() || words.starts_with('#') {
            continue;
        }
        if words == "}" {
            if open.len() > 1
                && let (Some(block), Some(around)) = (open.pop(), open.last_mut())
            {
                around.blocks.push(block);
            }
            continue;
        }
        match words.strip_suffix(" {") {
            Some(head) if DECLARATIONS.iter().any(|start| words.starts_with(start)) => {
                open.push(Block { head, ..Block::default() });
            }
            Some(_) => {
                let mut statement = words.to_owned();
                for line in lines.by_ref() {
                    statement.push('\n');
                    statement.push_str(line.get(indent..).unwrap_or(line));
                    if line.get(indent..) == Some("}") {
                        break;
                    }
                }
                if let Some(around) = open.last_mut() {
                    around.statements.push(statement);
                }
            }
            None => {
                if let Some(around) = open.last_mut() {
                    around.statements.push(words.to_owned());
                }
            }
        }
    }
    while open.len() > 1
        && let (Some(block), Some(around)) = (open.pop(), open.last_mut())
    {
        around.blocks.push(block);
    }
    open.pop().unwrap_or_default()
}

/// How many of a kind came, went and changed.
#[derive(Debug, Default)]
struct Counts {
    added: usize,
    removed: usize,
    changed: usize,
}

impl Counts {
    fn text(&self) -> String {
        let parts = [(self.added, "added"), (self.removed, "removed"), (self.changed, "changed")];
        let parts: Vec<String> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        parts.join(", ")
    }
}

#[derive(Debug, Default)]
struct Writer {
    lines: Vec<String>,
    total: usize,
    counts: BTreeMap<&'static str, Counts>,
}

impl Writer {
    fn say(&mut self, sign: char, depth: usize, text: &str) {
        for line in text.lines() {
            self.total = self.total.saturating_add(1);
            if self.lines.len() < LINES_MAX {
                self.lines.push(format!("{}{sign} {line}", "  ".repeat(depth)));
            }
        }
    }

    /// A block that came or went, whole.
    fn whole(&mut self, sign: char, depth: usize, block: &Block<'_>) {
        self.say(sign, depth, &block.title());
        let counts = self.counts.entry(block.kind()).or_default();
        let place = if sign == '+' { &mut counts.added } else { &mut counts.removed };
        *place = place.saturating_add(1);
        for statement in &block.statements {
            self.count(sign, statement);
            self.say(sign, depth.saturating_add(1), statement);
        }
        for block in &block.blocks {
            self.whole(sign, depth.saturating_add(1), block);
        }
    }

    fn count(&mut self, sign: char, statement: &str) {
        let kind = match statement.split(' ').next().unwrap_or_default() {
            "option" | "default" | "append" | "prepend" => "options",
            "range" => "ranges",
            "subclass" => "subclasses",
            "allow" | "deny" => "permits",
            "if" | "switch" | "on" | "set" | "unset" | "eval" | "define" => "statements",
            _ if statement.starts_with("log(") || statement.starts_with("execute(") => "statements",
            _ => "parameters",
        };
        let counts = self.counts.entry(kind).or_default();
        let place = if sign == '+' { &mut counts.added } else { &mut counts.removed };
        *place = place.saturating_add(1);
    }

    fn compare(&mut self, old: &Block<'_>, new: &Block<'_>, depth: usize) {
        let mut left: HashMap<&str, usize> = HashMap::new();
        for statement in &old.statements {
            let count = left.entry(statement).or_default();
            *count = count.saturating_add(1);
        }
        let mut added = Vec::new();
        for statement in &new.statements {
            match left.get_mut(statement.as_str()) {
                Some(count) if *count > 0 => *count = count.saturating_sub(1),
                Some(_) | None => added.push(statement),
            }
        }
        // The last ones of what is left over are those that went.
        let mut removed = Vec::new();
        for statement in old.statements.iter().rev() {
            if let Some(count) = left.get_mut(statement.as_str()).filter(|count| **count > 0) {
                *count = count.saturating_sub(1);
                removed.push(statement);
            }
        }
        for statement in removed.iter().rev() {
            self.count('-', statement);
            self.say('-', depth, statement);
        }
        for statement in &added {
            self.count('+', statement);
            self.say('+', depth, statement);
        }
        if added.is_empty() && removed.is_empty() && old.statements != new.statements {
            self.say('~', depth, "the same statements in another order");
            let counts = self.counts.entry("statements").or_default();
            counts.changed = counts.changed.saturating_add(1);
        }
        self.compare_blocks(old, new, depth);
    }

    fn compare_blocks(&mut self, old: &Block<'_>, new: &Block<'_>, depth: usize) {
        let mut by_head: HashMap<&str, Vec<&Block<'_>>> = HashMap::new();
        for block in &old.blocks {
            by_head.entry(block.head).or_default().push(block);
        }
        // Pools and groups have no names: what is equal belongs together, the others in their order.
        let mut rest = Vec::new();
        for block in &new.blocks {
            let twins = by_head.get_mut(block.head);
            match twins.and_then(|twins| twins.iter().position(|twin| *twin == block).map(|place| twins.remove(place)))
            {
                Some(_) => {}
                None => rest.push(block),
            }
        }
        for block in rest {
            let twins = by_head.entry(block.head).or_default();
            if twins.is_empty() {
                self.whole('+', depth, block);
                continue;
            }
            let twin = twins.remove(0);
            self.say('~', depth, &twin.title());
            let counts = self.counts.entry(block.kind()).or_default();
            counts.changed = counts.changed.saturating_add(1);
            self.compare(twin, block, depth.saturating_add(1));
        }
        for block in &old.blocks {
            let is_left =
                by_head.get(block.head).is_some_and(|twins| twins.iter().any(|twin| std::ptr::eq(*twin, block)));
            if is_left {
                self.whole('-', depth, block);
            }
        }
        let heads = |blocks: &[Block<'_>]| blocks.iter().map(|block| block.head.to_owned()).collect::<Vec<_>>();
        let (was, is) = (heads(&old.blocks), heads(&new.blocks));
        let sorted = |mut heads: Vec<String>| {
            heads.sort_unstable();
            heads
        };
        if was != is && sorted(was) == sorted(is) {
            self.say('~', depth, "the same blocks in another order");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let loaded = super::super::load("dhcpd.conf", &mut |_| Ok(text.as_bytes().to_vec()));
        loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(false)))
    }

    fn between(old: &str, new: &str) -> Difference {
        difference(&config(old), &config(new))
    }

    const OLD: &str = "option domain-name \"a\"; default-lease-time 600;
        class \"k\" { match if known; }
        if known { filename \"x\"; } else { filename \"y\"; }
        subnet 10.0.0.0 netmask 255.255.255.0 {
            pool { range 10.0.0.10 10.0.0.19; }
            pool { allow members of \"k\"; range 10.0.0.30 10.0.0.39; }
        }
        host h { hardware ethernet 02:00:00:00:00:01; fixed-address 10.0.0.5; }";

    #[test]
    fn layout_comments_and_keyword_case_are_no_difference() {
        let other = OLD.replace("subnet", "# a comment\n  SUBNET").replace("; ", " ;\n");
        assert_eq!(between(OLD, &other), Difference::default());
    }

    #[test]
    fn what_came_and_went_is_said_block_by_block() {
        let new = OLD
            .replace("\"a\"", "\"b\"")
            .replace("10.0.0.19", "10.0.0.25")
            .replace("\"y\"", "\"z\"")
            .replace("host h", "host g")
            .replace("pool { range", "pool { range 10.0.0.50; } pool { range");
        let found = between(OLD, &new);
        let text = found.lines.join("\n");
        for line in [
            "- option domain-name \"a\";",
            "+ option domain-name \"b\";",
            "~ subnet 10.0.0.0 netmask 255.255.255.0",
            "    - range 10.0.0.10 10.0.0.19;",
            "    + range 10.0.0.10 10.0.0.25;",
            "- host h",
            "+ host g",
            "  + hardware ethernet 02:00:00:00:00:01;",
        ] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line} in:\n{text}");
        }
        assert!(text.contains("filename \"z\""), "{text}");
        assert!(!text.contains("10.0.0.30"), "what is the same is not said:\n{text}");
        for part in [
            "hosts: 1 added, 1 removed",
            "ranges: 2 added, 1 removed",
            "subnets: 1 changed",
            "statements: 1 added, 1 removed",
        ] {
            assert!(found.summary.contains(part), "{part} in: {}", found.summary);
        }
    }

    #[test]
    fn another_order_of_classes_or_statements_means_something_and_is_said() {
        let classes =
            |a: &str, b: &str| format!("class \"{a}\" {{ match if known; }} class \"{b}\" {{ match if known; }}");
        let found = between(&classes("a", "b"), &classes("b", "a"));
        assert_eq!(found.lines, ["~ the same blocks in another order"]);
        let found = between("set a = \"1\"; set b = \"2\";", "set b = \"2\"; set a = \"1\";");
        assert_eq!(found.lines, ["~ the same statements in another order"]);
    }

    #[test]
    fn a_long_difference_is_cut_and_counted() {
        let hosts: String = (0..500).map(|number| format!("host h{number} {{ }}\n")).collect();
        let found = between("", &hosts);
        assert_eq!(found.lines.len(), LINES_MAX + 1);
        assert_eq!(found.lines[LINES_MAX], "... and 300 more lines");
        assert_eq!(found.summary, "hosts: 500 added");
    }
}
