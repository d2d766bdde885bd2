//! The oracle: the real dhcpd and xdhcpd play the same case, and what they say and write is compared.
//!
//! ```text
//!   case file --script--> Case --stage--> dhcpd   ---> Transcript --+
//!                           |                                       +--compare--> differences
//!                           +-----stage--> xdhcpd ---> Transcript --+
//! ```
//!
//! - [`script`] reads case files: a configuration, perhaps a leases file, and steps in a tiny language;
//! - [`speech`] makes the frame of a step, as clients and relays of the RFCs make them;
//! - [`answer`] reads a reply by hand, down to the order of the options, and compares two;
//! - [`ledger`] reads a leases file as the state it stands for, and compares two;
//! - [`stage`] is a pair of namespaces in which one server after the other plays a case.
//!
//! Silence is an answer. It is not waited for: after each step a relay in a subnet of its own asks for an address
//! that cannot be ([`speech::canary`]), and the NAK to it shows that everything before has been processed.

pub mod answer;
pub mod ledger;
pub mod script;
pub mod speech;
pub mod stage;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail};

use script::{Case, Expected, Step};
use stage::{Side, Stage, Transcript};

/// Set to anything: dhcpd alone plays, and its answers are written into the case files.
pub const RECORD_ENV: &str = "ORACLE_RECORD";
/// Only cases whose name contains this are played.
pub const CASE_ENV: &str = "ORACLE_CASE";
/// Cases that are played at the same time by one test.
const WORKERS_COUNT: usize = 3;

/// Plays every case of a file on both servers; the error lists every difference.
///
/// # Errors
/// When a case is wrong, a server does not start, or the servers differ.
pub fn play_file(file: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let cases = script::parse(&text).with_context(|| file.display().to_string())?;
    let only = std::env::var(CASE_ENV).unwrap_or_default();
    let chosen: Vec<&Case> = cases.iter().filter(|case| case.name.contains(&only)).collect();
    let is_recording = std::env::var_os(RECORD_ENV).is_some();

    let next = AtomicUsize::new(0);
    let complaints = Mutex::new(Vec::new());
    let records = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS_COUNT.min(chosen.len()) {
            scope.spawn(|| {
                let mut stage = None;
                while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let played = play(&mut stage, case, is_recording);
                    match played {
                        Ok(lines) => lock(&records).extend(lines),
                        Err(error) => {
                            // What went wrong may have left something behind: the next case gets a new stage.
                            stage = None;
                            lock(&complaints).push((case.line, format!("=== {}\n{error:#}", case.name)));
                        }
                    }
                }
            });
        }
    });
    if is_recording {
        record(file, &text, &lock(&records))?;
    }
    let mut complaints = complaints.into_inner().unwrap_or_else(PoisonError::into_inner);
    complaints.sort();
    if complaints.is_empty() {
        return Ok(chosen.len());
    }
    let count = complaints.len();
    let all: Vec<String> = complaints.into_iter().map(|(_, text)| text).collect();
    bail!("{}: {count} of {} cases\n\n{}", file.display(), chosen.len(), all.join("\n\n"))
}

/// Every case file of the suite.
///
/// # Errors
/// When the folder cannot be read.
pub fn files() -> Result<Vec<PathBuf>> {
    let folder = folder();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "case"));
    files.sort();
    Ok(files)
}

/// Where the case files are.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/oracle/cases")
}

/// What dhcpd was seen to answer at a line of the case file.
struct Recorded {
    line: usize,
    shown: String,
}

/// Plays one case on both servers and compares.
fn play(stage: &mut Option<Stage>, case: &Case, is_recording: bool) -> Result<Vec<Recorded>> {
    let stage = match stage {
        Some(stage) => stage,
        None => stage.insert(Stage::new().context("no stage")?),
    };
    let theirs = stage.play(Side::Dhcpd, case, None).context("dhcpd")?;
    let mut recorded = Vec::new();
    let mut differences = String::new();
    for (step, heard) in case.steps.iter().zip(&theirs.steps) {
        let shown = heard.shown(case.records_options);
        match &step.expected {
            Expected::Theirs(expected) | Expected::Differs(expected, _)
                if !is_recording && !answer::is_shown_as(&shown, expected) =>
            {
                let _ = writeln!(
                    differences,
                    "dhcpd, line {}: {}\n  recorded {expected}\n  heard    {shown}",
                    step.line, step.text
                );
            }
            Expected::Nothing | Expected::Theirs(_) | Expected::Differs(..) => {}
        }
        if step.is_message() {
            recorded.push(Recorded { line: step.line, shown });
        }
    }
    if is_recording {
        return Ok(recorded);
    }
    let ours = stage.play(Side::Xdhcpd, case, Some(&theirs)).context("xdhcpd")?;
    compare(case, &theirs, &ours, &mut differences);
    if differences.is_empty() {
        return Ok(recorded);
    }
    bail!("{differences}--- configuration\n{}\n--- xdhcpd said\n    {}", case.configuration.trim_end(), ours.last_words)
}

/// Writes down how xdhcpd differs from dhcpd, step by step and in the leases.
fn compare(case: &Case, theirs: &Transcript, ours: &Transcript, out: &mut String) {
    for ((step, theirs), ours) in case.steps.iter().zip(&theirs.steps).zip(&ours.steps) {
        match &step.expected {
            Expected::Differs(_, expected) => {
                let shown = ours.shown_like(expected);
                if !answer::is_shown_as(&shown, expected) {
                    let _ = writeln!(
                        out,
                        "xdhcpd, line {}: {}\n  documented {expected}\n  heard      {shown}\n{}",
                        step.line,
                        step.text,
                        ours.text()
                    );
                }
            }
            Expected::Nothing | Expected::Theirs(_) => {
                for difference in answer::differences(&theirs.answers, &ours.answers, case.order_differs.is_some()) {
                    let _ = writeln!(out, "line {}: {}: {difference}", step.line, step.text);
                }
                if theirs.answers.len() != ours.answers.len() {
                    let _ = writeln!(out, "  dhcpd:\n{}  xdhcpd:\n{}", theirs.text(), ours.text());
                }
            }
        }
    }
    if ours.steps.len() < theirs.steps.len() {
        let step = case.steps.get(ours.steps.len()).map_or("", |step: &Step| step.text.as_str());
        let _ = writeln!(out, "xdhcpd's play ended before `{step}`: {}", ours.ended_because);
    }
    for difference in ledger::differences(&theirs.ledger, &ours.ledger, &case.ledger_differs) {
        let _ = writeln!(out, "leases: {difference}");
    }
}

/// Writes what dhcpd answered behind the steps of a case file.
fn record(file: &Path, text: &str, records: &[Recorded]) -> Result<()> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for recorded in records {
        let Some(line) = lines.get_mut(recorded.line - 1) else { continue };
        let (step, old) = line.split_once("=>").unwrap_or((line, ""));
        let ours = old.split_once('|').map_or("", |(_, ours)| ours.trim());
        let step = step.trim_end();
        let shown = &recorded.shown;
        *line =
            if ours.is_empty() { format!("{step:<40} => {shown}") } else { format!("{step:<40} => {shown} | {ours}") };
    }
    let mut written = lines.join("\n");
    written.push('\n');
    std::fs::write(file, written).with_context(|| file.display().to_string())
}

/// The value behind a lock, whatever happened to another thread.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
