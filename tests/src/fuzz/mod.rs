//! Entry points for bytes of strangers: one function each, which panics when a promise is broken.
//!
//! Three drivers share them: the `fuzz` suite (a bounded run from a fixed seed, and every input that ever failed),
//! `cargo xtask fuzz TARGET` (libFuzzer, guided by coverage, for as long as somebody waits), and `fuzz TARGET FILE`, which
//! replays one input.

mod config;
mod engine;
pub mod failover;
mod frame;
mod leases;

use std::fs;
use std::path::{Path, PathBuf};

use crate::dice::Dice;

/// What can be fed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on command lines, and its folder's.
    pub name: &'static str,
    /// Takes one input.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces that an input is likely to be made of.
    pub words: &'static [&'static [u8]],
    /// Inputs of the bounded run.
    pub rounds: u32,
}

/// All targets.
pub const TARGETS: [Target; 5] = [config::TARGET, leases::TARGET, engine::TARGET, failover::TARGET, frame::TARGET];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// Inputs that failed once, with their file names.
///
/// # Panics
///
/// When the folder of regressions cannot be read.
#[must_use]
pub fn regressions(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = captures("../regressions/fuzz");
    let start = format!("{}-", target.name);
    let mut all: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .expect("tests/regressions/fuzz")
        .map(|entry| entry.expect("a file").path())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            name.starts_with(&start).then(|| (name, fs::read(&path).expect("a regression")))
        })
        .collect();
    all.sort();
    all
}

/// Runs the seeds, then `rounds` mutations of them; the same ones every time.
pub fn bounded(target: &Target) {
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{} has no seeds", target.name);
    for seed in &seeds {
        (target.run)(seed);
    }
    let mut dice =
        Dice::new(target.name.bytes().fold(0x5eed, |state, byte| state << 8 ^ u64::from(byte) ^ state >> 56));
    for _ in 0..target.rounds {
        let mut input = dice.one_of(&seeds).clone();
        for _ in 0..=dice.index(8) {
            mutate(&mut dice, &mut input, &seeds, target.words);
        }
        // What is printed by a failed test is the way to repeat it.
        let shown = Shown(target.name, &input);
        (target.run)(&input);
        std::mem::forget(shown);
    }
}

/// Keeps the input when the run of it panics.
struct Shown<'a>(&'a str, &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let Self(name, input) = self;
        let file = std::env::temp_dir().join(format!("xdhcpd-fuzz-{name}-{}", std::process::id()));
        let kept = fs::write(&file, input).map(|()| file.display().to_string()).unwrap_or_default();
        eprintln!("the input that failed is in {kept}: `cargo run -p tests --bin fuzz {name} {kept}` repeats it");
    }
}

/// One change.
fn mutate(dice: &mut Dice, input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&[u8]]) {
    if input.is_empty() {
        input.push(dice.word().to_be_bytes()[0]);
    }
    let at = dice.index(input.len());
    match dice.index(8) {
        0 => input[at] ^= 1 << dice.index(8),
        1 => input[at] = dice.word().to_be_bytes()[0],
        2 => {
            let stretch = dice.stretch(input.len(), 40);
            input.drain(stretch);
        }
        3 => {
            let stretch = dice.stretch(input.len(), 60);
            let copy = input[stretch].to_vec();
            input.splice(at..at, copy);
        }
        4 => {
            let other = dice.one_of(seeds);
            let stretch = dice.stretch(other.len(), 200);
            input.splice(at..at, other[stretch].iter().copied());
        }
        5 if !words.is_empty() => {
            let word = *dice.one_of(words);
            input.splice(at..at, word.iter().copied());
        }
        6 if !words.is_empty() => {
            let word = *dice.one_of(words);
            let end = (at + word.len()).min(input.len());
            input.splice(at..end, word.iter().copied());
        }
        _ => input.truncate(at + 1),
    }
}

/// A folder beside the captures.
fn captures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures").join(folder)
}

/// The files of a folder with this extension, in order of their names.
fn files(folder: &Path, extension: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|this| this == extension));
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed")).collect()
}

/// Real configurations: the corpus, then the examples.
fn configurations() -> Vec<Vec<u8>> {
    let examples = captures("../../dhcp-user/examples");
    files(&captures("dhcpd-conf"), "conf").into_iter().chain(files(&examples, "conf")).collect()
}

/// Takes an input apart.
struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Two bytes of length, and so many bytes or what is there.
    fn piece(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.byte()?) | usize::from(self.byte()?) << 8;
        let (piece, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        Some(piece)
    }
}

/// The same, written.
fn piece(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&len.to_le_bytes(), &bytes[..usize::from(len)]].concat()
}
