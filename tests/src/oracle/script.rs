//! Reads case files. The language is described in `suites/oracle/cases/README.md`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail, ensure};

/// One case: a configuration and what clients do to the server that has it.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// Its name, a claim.
    pub name: String,
    /// Where it begins in its file.
    pub line: usize,
    /// The configuration, with times still to be filled in.
    pub configuration: String,
    /// The leases file at the start, likewise.
    pub leases: String,
    /// What happens.
    pub steps: Vec<Step>,
    /// Why xdhcpd differs on purpose, when it does.
    pub differs: Option<String>,
    /// Why the order of the options differs on purpose, when it does.
    pub order_differs: Option<String>,
    /// Addresses whose record differs on purpose: the state in xdhcpd's file.
    pub ledger_differs: BTreeMap<Ipv4Addr, String>,
    /// Whether the codes of the options are recorded, too.
    pub records_options: bool,
}

/// One step of a case.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where it stands in its file.
    pub line: usize,
    /// As it was written, without what is expected.
    pub text: String,
    /// What is done.
    pub action: Action,
    /// What is expected.
    pub expected: Expected,
}

impl Step {
    /// Whether it sends a message of a client.
    #[must_use]
    pub fn is_message(&self) -> bool {
        matches!(self.action, Action::Say { .. })
    }
}

/// What is done in a step.
#[derive(Debug, Clone)]
pub enum Action {
    /// A client sends a message.
    Say {
        /// Its name, one lower-case letter.
        client: char,
        /// What it does: `discover`, `select`, ...
        verb: String,
        /// The address after the verb, or `$b`: the one that client `b` holds.
        target: Option<String>,
        /// `key=value`, in order.
        words: Vec<(String, String)>,
    },
    /// From now on a client's messages carry these words, unless a step has its own.
    Client {
        /// Its name.
        client: char,
        /// `key=value`, in order.
        words: Vec<(String, String)>,
    },
    /// Somebody unknown to the server has this address: pings and ARP probes are answered.
    Taken(Ipv4Addr),
    /// Time passes.
    Sleep(u64),
    /// The server is ended and started again with its own leases file.
    Restart,
}

/// What is expected of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Only that both answer the same.
    Nothing,
    /// That dhcpd answers this, and xdhcpd the same.
    Theirs(String),
    /// That dhcpd answers this, and xdhcpd that.
    Differs(String, String),
}

/// Which part of a case a line belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Nothing,
    Base,
    Configuration,
    Leases,
    Steps,
}

/// Reads the cases of a file.
///
/// # Errors
/// When a line makes no sense; the error names it.
pub fn parse(text: &str) -> Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    let mut bases: BTreeMap<String, String> = BTreeMap::new();
    let mut base = String::new();
    let mut part = Part::Nothing;
    let mut records_options = false;
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let at = || format!("line {line}: {raw}");
        if let Some(name) = raw.strip_prefix("=== ") {
            cases.push(Case { name: name.trim().to_owned(), line, records_options, ..Case::default() });
            part = Part::Configuration;
            continue;
        }
        if let Some(name) = raw.strip_prefix("%%% ") {
            name.trim().clone_into(&mut base);
            bases.insert(base.clone(), String::new());
            part = Part::Base;
            continue;
        }
        let words = raw.trim();
        match part {
            Part::Nothing if words == "record: options" => records_options = true,
            Part::Nothing => ensure!(words.is_empty() || words.starts_with('#'), "{}: before the first case", at()),
            Part::Base => push_line(bases.entry(base.clone()).or_default(), raw),
            Part::Configuration | Part::Leases | Part::Steps => {
                let case = cases.last_mut().with_context(at)?;
                match words {
                    "---" => part = Part::Steps,
                    "--- leases" => part = Part::Leases,
                    _ if part == Part::Configuration => head_line(case, raw, &bases).with_context(at)?,
                    _ if part == Part::Leases => push_line(&mut case.leases, raw),
                    _ => step_line(case, line, raw).with_context(at)?,
                }
            }
        }
    }
    for case in &cases {
        let at = || format!("line {}: {}", case.line, case.name);
        ensure!(case.steps.iter().any(Step::is_message), "{}: nobody says anything", at());
        let has_differing_step = case.steps.iter().any(|step| matches!(step.expected, Expected::Differs(..)));
        let is_differing = has_differing_step || !case.ledger_differs.is_empty();
        ensure!(is_differing == case.differs.is_some(), "{}: `differs:` and `|` belong together", at());
    }
    Ok(cases)
}

/// A line of the configuration, or one of the words before it.
fn head_line(case: &mut Case, raw: &str, bases: &BTreeMap<String, String>) -> Result<()> {
    let words = raw.trim();
    if let Some(reason) = words.strip_prefix("differs: ") {
        case.differs = Some(reason.to_owned());
    } else if let Some(reason) = words.strip_prefix("order differs: ") {
        case.order_differs = Some(reason.to_owned());
    } else if let Some(name) = words.strip_prefix("uses: ") {
        let base = bases.get(name.trim()).with_context(|| format!("no such base: {name}"))?;
        case.configuration.push_str(base);
    } else {
        push_line(&mut case.configuration, raw);
    }
    Ok(())
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A line among the steps.
fn step_line(case: &mut Case, line: usize, raw: &str) -> Result<()> {
    let (left, right) = match raw.split_once("=>") {
        Some((left, right)) => (left.trim(), right.trim()),
        None => (raw.trim(), ""),
    };
    if left.is_empty() || left.starts_with('#') {
        return Ok(());
    }
    let tokens = tokens(left)?;
    let [first, rest @ ..] = tokens.as_slice() else { return Ok(()) };
    let action = match (first.as_str(), rest) {
        ("lease", [address]) => {
            case.ledger_differs.insert(address.parse()?, right.to_owned());
            return Ok(());
        }
        ("restart", []) => Action::Restart,
        ("sleep", [secs]) => Action::Sleep(secs.parse()?),
        ("taken", [address]) => Action::Taken(address.parse()?),
        ("client", [name, rest @ ..]) => Action::Client { client: client(name)?, words: pairs(rest)? },
        (name, [verb, rest @ ..]) => {
            let is_target = rest.first().is_some_and(|word| !word.contains('='));
            let (target, rest) = rest.split_at(usize::from(is_target));
            Action::Say {
                client: client(name)?,
                verb: verb.clone(),
                target: target.first().cloned(),
                words: pairs(rest)?,
            }
        }
        _ => bail!("no such step"),
    };
    let expected = match (right, right.split_once('|')) {
        ("", _) => Expected::Nothing,
        (_, Some((theirs, ours))) => Expected::Differs(theirs.trim().to_owned(), ours.trim().to_owned()),
        (theirs, None) => Expected::Theirs(theirs.to_owned()),
    };
    case.steps.push(Step { line, text: left.to_owned(), action, expected });
    Ok(())
}

/// The one letter of a client.
fn client(name: &str) -> Result<char> {
    let mut letters = name.chars();
    match (letters.next(), letters.next()) {
        (Some(letter @ 'a'..='z'), None) => Ok(letter),
        _ => bail!("`{name}` is no client: they have one lower-case letter"),
    }
}

/// `key=value`, or a key alone.
fn pairs(words: &[String]) -> Result<Vec<(String, String)>> {
    words
        .iter()
        .map(|word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            ensure!(!key.is_empty(), "`{word}` has no key");
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Splits at blanks; quotes keep them together.
fn tokens(line: &str) -> Result<Vec<String>> {
    let mut tokens = Vec::new();
    let mut token = String::new();
    let mut is_quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            ' ' | '\t' if !is_quoted => {
                if !token.is_empty() {
                    tokens.push(std::mem::take(&mut token));
                }
            }
            _ => token.push(letter),
        }
    }
    ensure!(!is_quoted, "a quote is open");
    if !token.is_empty() {
        tokens.push(token);
    }
    Ok(tokens)
}

/// Fills in times: `{now}`, `{now+30}`, `{now-30}` become seconds since 1970.
///
/// # Errors
/// When what stands behind `{now` is not a number and a brace.
pub fn fill_times(text: &str, now_secs: u64) -> Result<String> {
    let mut pieces = text.split("{now");
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (offset, rest) = piece.split_once('}').context("`{now` without a brace behind it")?;
        let offset: i64 = if offset.is_empty() { 0 } else { offset.parse()? };
        filled.push_str(&(i64::try_from(now_secs)? + offset).to_string());
        filled.push_str(rest);
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_with_its_base_and_its_steps() {
        let text = "# about\n%%% plain\nsubnet;\n=== a claim\nuses: plain\nextra;\n---\nclient a id=x\n\
                    a discover 50=1 name=\"a b\" => offer 10.0.0.1\nsleep 2\n";
        let cases = parse(text).unwrap();
        assert_eq!(cases.len(), 1);
        assert_eq!(cases[0].configuration, "subnet;\nextra;\n");
        assert_eq!(cases[0].steps.len(), 3);
        assert_eq!(cases[0].steps[1].expected, Expected::Theirs(String::from("offer 10.0.0.1")));
        let Action::Say { words, .. } = &cases[0].steps[1].action else { panic!() };
        assert_eq!(words[1], (String::from("name"), String::from("a b")));
    }

    #[test]
    fn a_difference_needs_a_reason() {
        assert!(parse("=== a\n---\na discover => offer 1.2.3.4 | silence\n").is_err());
        assert!(parse("=== a\ndiffers: why\n---\na discover => offer 1.2.3.4 | silence\n").is_ok());
        assert!(parse("=== a\ndiffers: why\n---\na discover => silence\n").is_err());
    }

    #[test]
    fn times_are_filled_in() {
        assert_eq!(fill_times("epoch {now+5}; epoch {now};", 100).unwrap(), "epoch 105; epoch 100;");
        assert!(fill_times("{now+x}", 100).is_err());
    }
}
