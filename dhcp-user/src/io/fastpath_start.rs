//! The fast path at the start of a server: adopted, made anew, or off and why; and `xdhcpd --detach`.

use std::{
    fs,
    io::{self, Write as _},
    net::Ipv4Addr,
    process::ExitCode,
};

use dhcp_ebpf::abi::{DigestKey, Generation};
use tracing::warn;

use crate::{
    config::Config,
    control::{client, message as control},
    io::{
        command::{FastPathMode, Fastpath, Serve},
        fastpath::{FastPath, Off},
        plan::Plan,
        start::{fail, question},
        xdp::{self, Inherited, Kernel, Place, Setup, Wanted},
    },
};

/// A fast path, and what the engine has to know of it.
pub(super) struct Begun {
    /// The kernel side, or nothing.
    pub(super) fast_path: Box<dyn FastPath>,
    /// Whether there is a kernel side.
    pub(super) is_on: bool,
    /// The generation that is armed.
    pub(super) generation: Generation,
    /// The key of the digests.
    pub(super) key: DigestKey,
    /// What an earlier agent left.
    pub(super) inherited: Inherited,
}

/// Begins the fast path that the command line asks for. `key` is for maps that are made anew.
///
/// # Errors
///
/// Why there is none, when it was asked for by name; with `auto` a server without one is better than none.
pub(super) fn begin(
    serve: &Serve,
    config: &Config,
    plan: &Plan,
    key: &DigestKey,
    answers: u64,
) -> Result<Begun, String> {
    let mode = serve.fast_path;
    let off = |why: String, inherited: Inherited| Begun {
        fast_path: Box::new(Off::new(why)),
        is_on: false,
        generation: Generation::new(1),
        key: *key,
        inherited,
    };
    // Who this server is: whose promises it keeps.
    let identity = serve.state_dir.as_deref().unwrap_or(&plan.leases);
    let place = match (Place::claim(identity), mode) {
        (Ok(place), _) => Some(place),
        (Err(_), FastPathMode::Off) => None,
        (Err(error), _) => {
            warn!("the fast path is not pinned, so it goes when this process does: {error:#}");
            None
        }
    };
    let wanted = match mode {
        FastPathMode::Off => {
            let inherited = place.map_or_else(|| Ok(Inherited::default()), xdp::retire);
            let inherited = inherited.map_err(|error| format!("an earlier agent's fast path: {error:#}"))?;
            return Ok(off("--fast-path off".to_owned(), inherited));
        }
        FastPathMode::Auto => Wanted::Auto,
        FastPathMode::Native => Wanted::Native,
        FastPathMode::Generic => Wanted::Generic,
    };
    let guard = serve.guard()?;
    let ranges: Vec<(Ipv4Addr, Ipv4Addr)> =
        config.pools.iter().flat_map(|pool| &pool.ranges).map(|range| (range.first, range.last)).collect();
    let read;
    let object = match &serve.fast_path_object {
        None => xdp::OBJECT,
        Some(file) => {
            read = fs::read(file).map_err(|error| format!("--fast-path-object {}: {error}", file.display()))?;
            &read
        }
    };
    let setup = Setup { object, ranges: &ranges, key, generation: Generation::new(1), wanted, answers, place };
    match Kernel::open(setup) {
        Ok((mut kernel, inherited)) => {
            kernel.set_guard(guard);
            let (generation, key) = kernel.born_with();
            let key = *key;
            Ok(Begun { fast_path: Box::new(kernel), is_on: true, generation, key, inherited })
        }
        Err(error) if mode == FastPathMode::Auto => {
            warn!("fast path off, the agent answers everything: {error:#}");
            Ok(off(format!("{error:#}"), Inherited::default()))
        }
        Err(error) => Err(format!("--fast-path: {error:#}")),
    }
}

/// `xdhcpd fastpath ...`.
pub(super) fn ask(asked: Fastpath) -> ExitCode {
    let (ask, order) = match asked {
        Fastpath::Status(ask) => return question(&ask, client::fast_path),
        Fastpath::Trace { mac, wait, ask } => {
            if parse_mac(&mac).is_none() {
                return fail(&format!("--mac {mac}: a hardware address has six bytes, as 02:00:5e:10:00:01"));
            }
            // One question waits for some seconds.
            let rounds = wait.div_ceil(5);
            return question(&ask, |path, json, output| client::fast_path_trace(path, json, &mac, rounds, output));
        }
        Fastpath::Disarm(ask) => (ask, control::Command::FastPathSwitch { on: false }),
        Fastpath::Arm(ask) => (ask, control::Command::FastPathSwitch { on: true }),
        Fastpath::Detach(ask) => (ask, control::Command::FastPathDetach),
    };
    question(&ask, |path, json, output| client::fast_path_order(path, json, order.clone(), output))
}

/// Reads an Ethernet address.
pub(super) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

/// `xdhcpd --detach`: nothing of ours is left in this network namespace.
///
/// # Errors
///
/// A sentence saying what is in the way.
pub(super) fn detach() -> Result<ExitCode, String> {
    let done = xdp::detach_all().map_err(|error| format!("--detach: {error:#}"))?;
    let mut out = io::stdout().lock();
    let text = if done.is_empty() { "nothing was attached or pinned".to_owned() } else { done.join("\n") };
    // Nobody can be told that the output is closed.
    let _ = writeln!(out, "{text}");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_have_six_bytes() {
        assert_eq!(parse_mac("02:00:5e:10:00:fF"), Some([2, 0, 0x5e, 0x10, 0, 255]));
        assert_eq!(parse_mac("02-00-5e-10-00-01"), Some([2, 0, 0x5e, 0x10, 0, 1]));
        for text in ["", "02:00", "02:00:5e:10:00:01:02", "02:00:5e:10:00:zz", "2001:db8::1"] {
            assert_eq!(parse_mac(text), None, "{text}");
        }
    }
}
