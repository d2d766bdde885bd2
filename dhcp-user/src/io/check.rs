//! `xdhcpd check` and `xdhcpd convert`: what a configuration file means, without serving it.

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    net::Ipv4Addr,
    path::Path,
    process::ExitCode,
};

use crate::{
    config::{
        self, Config, Diagnostics, Loaded,
        convert::convert,
        limits::TEXT_LEN_MAX,
        lint::{self, Crowd, Lint},
    },
    engine::port::Interface,
    io::{command::Check, interfaces, peers},
};

/// Reads a configuration file, includes and all.
pub(super) fn read(file: &Path) -> Loaded {
    config::load(&file.to_string_lossy(), &mut |name| {
        let mut text = Vec::new();
        // What has no end (a device, a pipe that is written to for ever) is read up to the limit, which refuses it.
        let limit = u64::try_from(TEXT_LEN_MAX).unwrap_or(u64::MAX).saturating_add(1);
        let file = fs::File::open(name).map_err(|error| error.to_string())?;
        text.reserve_exact(file.metadata().map_or(0, |about| usize::try_from(about.len().min(limit)).unwrap_or(0)));
        file.take(limit).read_to_end(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    })
}

/// Reads and checks a configuration; findings go to standard error, all at once.
///
/// # Errors
///
/// A sentence with the number of errors.
pub(super) fn load(file: &Path) -> Result<(Config, Diagnostics), String> {
    let Loaded { config, diagnostics } = read(file);
    complain(&diagnostics.render(io::stderr().is_terminal()));
    match config {
        Some(config) if diagnostics.errors_count() == 0 => Ok((config, diagnostics)),
        _ => Err(format!(
            "{}: {} in the configuration; nothing was started",
            file.display(),
            count(diagnostics.errors_count(), "error")
        )),
    }
}

/// `xdhcpd check`: the verdict, the warnings, and what the configuration means in client seconds.
///
/// # Errors
///
/// A sentence saying why the file, or the partner's, is not usable.
pub(super) fn check(asked: &Check) -> Result<ExitCode, String> {
    let (config, diagnostics) = load(&asked.file)?;
    let colour = io::stderr().is_terminal();
    let crowd = Crowd { clients: asked.clients, arrivals_per_hour: asked.arrivals };
    let lint = lint::lint(&config, crowd, &own_addresses());
    complain(&diagnostics.render_findings(&lint.findings, colour));
    if let Some(partner) = &asked.pair {
        let (theirs, _) = load(partner)?;
        complain(&diagnostics.render_findings(&lint::lint_pair(&config, &theirs), colour));
    }
    if let Err(why) = peers::check_keys(&config) {
        complain(&format!("{}: the server would not start here: {why}", asked.file.display()));
    }
    say(&format!("{}: no errors", asked.file.display()));
    say(extensions(&config).trim_end());
    say(forecast(&config, &lint, crowd).trim_end());
    // The process ends here: to take a hundred thousand hosts apart one by one would only make somebody wait.
    std::mem::forget(config);
    Ok(ExitCode::SUCCESS)
}

/// The addresses of this machine: where the file is checked is usually where it is served.
fn own_addresses() -> Vec<(String, Ipv4Addr)> {
    match interfaces::list() {
        Ok(found) => found
            .into_iter()
            .flat_map(|found| {
                let Interface { name, addresses, .. } = found.interface;
                addresses.into_iter().map(move |(address, _)| (name.clone(), address))
            })
            .collect(),
        Err(error) => {
            complain(&format!("the ranges were not compared with the addresses of this machine: {error}"));
            Vec::new()
        }
    }
}

/// `xdhcpd convert`: the configuration in canonical form, on standard output.
///
/// # Errors
///
/// A sentence saying why the file is not usable.
pub(super) fn print_converted(file: &Path) -> Result<ExitCode, String> {
    let (config, _) = load(file)?;
    say(convert(&config).trim_end());
    Ok(ExitCode::SUCCESS)
}

/// One line per statement that dhcpd does not know: with it there is no way back to dhcpd.
fn extensions(config: &Config) -> String {
    let line = |(name, span): &(&str, config::Span)| {
        format!("{}: `{name}` is known to xdhcpd only, dhcpd refuses it (docs/extensions.md)\n", config.locate(*span))
    };
    config.extensions.iter().map(line).collect()
}

/// One line per pool: what it means for its clients.
fn forecast(config: &Config, lint: &Lint, crowd: Crowd) -> String {
    let mut text = String::new();
    for pool in &lint.forecasts {
        let ranges: Vec<String> =
            config.pool(pool.pool).ranges.iter().map(|range| format!("{}-{}", range.first, range.last)).collect();
        text.push_str(&format!(
            "pool {}: {} addresses, first lease {} s, then {} s",
            ranges.join(", "),
            pool.addresses,
            pool.first_lease_secs,
            pool.lease_secs
        ));
        if crowd.clients > 0 {
            let (whole, milli) = (pool.renewals_per_sec_milli / 1000, pool.renewals_per_sec_milli % 1000);
            text.push_str(&format!(", {whole}.{milli:03} renewals/s with {} clients", crowd.clients));
        }
        if let Some(share) = pool.kernel_share_milli {
            text.push_str(&format!(", {}.{} % of the requests answered by the kernel", share / 10, share % 10));
        }
        if crowd.arrivals_per_hour > 0 {
            match pool.exhausted_after_secs {
                Some(secs) => {
                    text.push_str(&format!(", empty after {secs} s at {} new clients/h", crowd.arrivals_per_hour))
                }
                None => text.push_str(&format!(", never empty at {} new clients/h", crowd.arrivals_per_hour)),
            }
        }
        text.push_str(if pool.may_be_armed {
            "; renewals can be answered in the kernel\n"
        } else {
            "; renewals depend on more than the request and stay with the agent\n"
        });
    }
    text
}

/// `1 error`, `2 errors`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn complain(findings: &str) {
    if !findings.is_empty() {
        // Nobody can be told that standard error is closed.
        let _ = writeln!(io::stderr(), "{}", findings.trim_end());
    }
}

fn say(text: &str) {
    if !text.is_empty() {
        let _ = writeln!(io::stdout(), "{text}");
    }
}
