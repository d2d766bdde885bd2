//! The fuzz targets of `tests::fuzz`, one binary for all of them.
//!
//! Built by `cargo xtask fuzz` it is libFuzzer, guided by coverage; built plainly it replays inputs: `fuzz TARGET FILE...`

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod guided {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::{env, fs};

    use tests::fuzz::{Target, target};

    /// Names the target; `cargo xtask fuzz` sets it.
    const TARGET_ENV: &str = "XDHCPD_FUZZ_TARGET";
    /// Names the folder that seeds and words are written to.
    const FOLDER_ENV: &str = "XDHCPD_FUZZ_FOLDER";

    fn chosen() -> &'static Target {
        static CHOSEN: OnceLock<Target> = OnceLock::new();
        CHOSEN.get_or_init(|| {
            let name = env::var(TARGET_ENV).expect("cargo xtask fuzz says which target");
            target(&name).expect("a target of tests::fuzz")
        })
    }

    /// Writes the seeds and the dictionary; libFuzzer reads them afterwards.
    fn prepare() {
        let Some(folder) = env::var_os(FOLDER_ENV).map(PathBuf::from) else { return };
        let seeds = folder.join("seeds");
        fs::create_dir_all(&seeds).expect("a folder for the seeds");
        for (place, seed) in (chosen().seeds)().iter().enumerate() {
            fs::write(seeds.join(format!("seed-{place}")), seed).expect("a seed is written");
        }
        let word = |word: &&[u8]| {
            let escaped: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("\"{escaped}\"\n")
        };
        let words: String = chosen().words.iter().map(word).collect();
        fs::write(folder.join("words"), words).expect("the words are written");
    }

    libfuzzer_sys::fuzz_target!(init: prepare(), |input: &[u8]| (chosen().run)(input));
}

#[cfg(not(fuzzing))]
fn main() -> anyhow::Result<()> {
    use anyhow::Context as _;

    let mut arguments = std::env::args().skip(1);
    let names = || tests::fuzz::TARGETS.map(|target| target.name).join(", ");
    let name = arguments.next().with_context(|| format!("usage: fuzz TARGET FILE...; targets: {}", names()))?;
    let target = tests::fuzz::target(&name).with_context(|| format!("no target {name}; targets: {}", names()))?;
    for file in arguments {
        let input = std::fs::read(&file).with_context(|| file.clone())?;
        (target.run)(&input);
        anyhow::ensure!(
            std::io::Write::write_all(&mut std::io::stdout(), format!("{file}: well\n").as_bytes()).is_ok()
        );
    }
    Ok(())
}
