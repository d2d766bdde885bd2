//! What `cargo xtask demo` runs as root: the main job with real packets, told step by step.
//!
//! ```text
//!   server ns         switch ns                       Portable1, Portable2
//!   s0 192.168.150.1 --- port (XDP pass) - bridge - ports --- c0, c1
//!   xdhcpd + XDP
//! ```
#![expect(clippy::disallowed_methods, reason = "it shows how long things take")]

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tests::agent::{Agent, Answers};
use tests::client::{Client, Wire};
use tests::lab::{self, Lan, Namespace, PacketSocket, Signal, find_program, until};
use tests::leases;
use tests::peers::{self, Peer};

/// The server's address in the examples.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 150, 1);
/// Renewals that each client makes.
const RENEWAL_COUNT: u64 = 5;
/// Longest wait for anything a client or the server does.
const WAIT: Duration = Duration::from_secs(6);

/// Set by Ctrl-C; looked at between steps, so that everything that was made is dropped on the way out.
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    catch_interrupt();
    let began = Instant::now();
    match Settings::from_arguments().and_then(|settings| play(&settings, began)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if IS_INTERRUPTED.load(Ordering::Relaxed) => {
            tell("\ninterrupted; everything it made is removed");
            ExitCode::FAILURE
        }
        Err(error) => {
            tell(&format!("\ndemo failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What `cargo xtask demo` passes.
struct Settings {
    config: PathBuf,
    fast_path: String,
    is_model_wanted: bool,
}

impl Settings {
    fn from_arguments() -> Result<Self> {
        let mut settings = Self { config: PathBuf::new(), fast_path: String::from("auto"), is_model_wanted: false };
        let mut arguments = std::env::args_os().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{} needs a value", argument.display()));
            match argument.to_str() {
                Some("--config") => settings.config = value()?.into(),
                Some("--fast-path") => settings.fast_path = value()?.to_string_lossy().into_owned(),
                Some("--model-client") => settings.is_model_wanted = true,
                _ => bail!("{} is not understood; run it as `cargo xtask demo`", argument.display()),
            }
        }
        ensure!(settings.config.is_file(), "--config names no file; run it as `cargo xtask demo`");
        Ok(settings)
    }
}

/// The play, act by act.
fn play(settings: &Settings, began: Instant) -> Result<()> {
    lab::available().map_err(|reason| anyhow::anyhow!("{reason}"))?;
    if settings.fast_path != "off" {
        lab::bpf_available().map_err(|reason| {
            anyhow::anyhow!(
                "{reason}. Run it where root may load BPF programs (not in an unprivileged container), or see the \
                 agent alone with --fast-path off"
            )
        })?;
    }
    let _ = lab::sweep();
    let configuration =
        std::fs::read_to_string(&settings.config).with_context(|| settings.config.display().to_string())?;

    act("The stage: three namespaces of its own (a server, Portable1, Portable2) on one switch");
    let lan = Lan::new(SERVER, 2)?;
    let mode = match settings.fast_path.as_str() {
        "auto" => lan.fast_path(),
        asked => asked,
    };
    match (&lan.native_refused, mode) {
        (None, "native") => {
            tell("  XDP runs natively in the veth driver; the switch's port runs a two-instruction XDP_PASS program,");
            tell("  without which a veth drops what its peer transmits by XDP_TX.");
        }
        (Some(reason), "generic") => tell(&format!("  native XDP will not do here ({reason}): generic XDP instead.")),
        (_, mode) => tell(&format!("  fast path: {mode}")),
    }

    act(&format!("xdhcpd starts with {}", name_of(&settings.config)));
    let agent = Agent::start(&lan.server, Lan::SERVER, mode, &configuration, "")?;
    check_interrupt()?;
    show_interfaces(&agent)?;

    act("Portable1 and Portable2 ask for an address: DISCOVER, OFFER, REQUEST, ACK");
    let before = agent.answers()?;
    let mut portables = Vec::new();
    for (index, namespace) in lan.clients.iter().enumerate() {
        let name = format!("Portable{}", index + 1);
        let mut portable = Portable::new(&name, namespace, &format!("c{index}"), settings.is_model_wanted)?;
        let address = portable.acquire()?;
        tell(&format!("  {name} ({}): has {address}", portable.kind()));
        portables.push(portable);
        check_interrupt()?;
    }
    let leased = agent.answers()?.since(before);
    tell(&format!("  answered by the agent: {}   by the kernel: {}", leased.by_agent, leased.by_kernel));
    ensure!(leased.by_agent >= 4, "the agent should have sent two OFFERs and two ACKs, it counts {}", leased.by_agent);
    ensure!(leased.by_kernel == 0, "the kernel cannot have answered anything yet, it counts {}", leased.by_kernel);

    act(&format!("Each renews {RENEWAL_COUNT} times"));
    let before = agent.answers()?;
    for portable in &mut portables {
        let times: Vec<String> = (0..RENEWAL_COUNT)
            .map(|_| {
                check_interrupt()?;
                portable.renew()
            })
            .collect::<Result<_>>()?;
        tell(&format!("  {}: {}", portable.name, times.join("  ")));
    }
    let wanted = RENEWAL_COUNT * portables.len() as u64;
    let renewed = counted(&agent, before, wanted)?;
    tell(&format!("  answered by the agent: {}   by the kernel: {}", renewed.by_agent, renewed.by_kernel));
    if mode == "off" {
        ensure!(renewed.by_agent == wanted, "with the fast path off the agent answers all {wanted}");
    } else {
        ensure!(renewed.by_kernel >= wanted, "all {wanted} renewals should have been answered by the kernel");
        ensure!(renewed.by_agent == 0, "the agent should have had nothing to do");
        if renewed.by_kernel > wanted {
            tell(&format!(
                "  {} more than asked for: udhcpc asks twice when an ACK is back before its own system call is.",
                renewed.by_kernel - wanted
            ));
        }
        tell("  The agent slept: the XDP program wrote every ACK into the request's own frame and sent it back.");
    }

    act("The leases file, in dhcpd's format");
    show_leases(&agent)?;

    act("Portable1 gives its address back");
    let address = portables[0].address.context("Portable1 has no address")?;
    portables[0].release()?;
    let what = format!("the release of {address} in the leases file");
    until(&what, WAIT, || is_freed(&agent.leases_file().ok()?, address).then_some(()))?;
    tell(&format!("  {address} is free again, and the kernel answers for it no more: its entry was disarmed first."));

    drop(portables);
    let folder = agent.stop()?;
    drop(folder);
    drop(lan);
    act(&format!(
        "Done in {:.1} s; namespaces, files and the XDP program are gone again",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Waits until as many replies as wanted are counted.
fn counted(agent: &Agent, before: Answers, wanted: u64) -> Result<Answers> {
    let mut last = Answers::default();
    let _ = until("the counters", Duration::from_secs(1), || {
        last = agent.answers().ok()?.since(before);
        (last.by_kernel + last.by_agent >= wanted).then_some(())
    });
    Ok(last)
}

/// Shows the lines of status that say where XDP runs.
fn show_interfaces(agent: &Agent) -> Result<()> {
    let status = agent.status()?;
    for interface in status.get("interfaces").and_then(serde_json::Value::as_array).into_iter().flatten() {
        let text = |key: &str| interface.get(key).and_then(serde_json::Value::as_str).unwrap_or("?").to_owned();
        tell(&format!("  it listens on {}, XDP mode {}", text("name"), text("xdp")));
    }
    Ok(())
}

/// Shows the newest record of each address.
fn show_leases(agent: &Agent) -> Result<()> {
    let text = agent.leases_file()?;
    let records = leases::newest(&text);
    ensure!(!records.is_empty(), "the leases file holds no lease:\n{text}");
    for record in records {
        for line in record.text.lines() {
            tell(&format!("  {line}"));
        }
    }
    Ok(())
}

/// Whether the newest record of `address` no longer says that somebody has it.
fn is_freed(text: &str, address: Ipv4Addr) -> bool {
    leases::newest_of(text, address).and_then(|record| Some(record.value("binding state")? != "active")) == Some(true)
}

/// A client of the play: the real udhcpc, or the model client.
struct Portable<'lab> {
    name: String,
    address: Option<Ipv4Addr>,
    engine: Engine<'lab>,
}

/// Who speaks for it.
enum Engine<'lab> {
    Udhcpc { peer: Peer, heard: usize },
    Model { client: Box<Client>, socket: PacketSocket, namespace: &'lab Namespace, interface: String },
}

impl<'lab> Portable<'lab> {
    fn new(name: &str, namespace: &'lab Namespace, interface: &str, is_model_wanted: bool) -> Result<Self> {
        let engine = if find_program("udhcpc").is_some() && !is_model_wanted {
            Engine::Udhcpc { peer: peers::udhcpc(namespace, interface, name)?, heard: 0 }
        } else {
            Engine::Model {
                client: Box::new(Client::new(namespace.mac(interface)?).named(name)),
                socket: namespace.packet_socket(interface)?,
                namespace,
                interface: interface.to_owned(),
            }
        };
        Ok(Self { name: name.to_owned(), address: None, engine })
    }

    fn kind(&self) -> &'static str {
        match self.engine {
            Engine::Udhcpc { .. } => "udhcpc",
            Engine::Model { .. } => "model client",
        }
    }

    fn acquire(&mut self) -> Result<Ipv4Addr> {
        let address = match &mut self.engine {
            Engine::Udhcpc { peer, heard } => {
                let (line, next) = peer.process.wait_for(0, "lease of ", WAIT)?;
                *heard = next;
                peers::address_after(&line, "lease of ").with_context(|| format!("no address in {line:?}"))?
            }
            Engine::Model { client, socket, namespace, interface } => {
                let lease = client.acquire(socket as &mut dyn Wire, WAIT)?;
                namespace.ip(&format!("addr add {}/24 dev {interface}", lease.address))?;
                lease.address
            }
        };
        self.address = Some(address);
        Ok(address)
    }

    /// Renews; says how long the answer took.
    fn renew(&mut self) -> Result<String> {
        let began = Instant::now();
        match &mut self.engine {
            Engine::Udhcpc { peer, heard } => {
                peer.process.signal(Signal::User1)?;
                (_, *heard) = peer.process.wait_for(*heard, "lease of ", WAIT)?;
            }
            Engine::Model { client, socket, .. } => drop(client.renew(socket, WAIT)?),
        }
        Ok(format!("{:.1} ms", began.elapsed().as_secs_f64() * 1000.0))
    }

    fn release(&mut self) -> Result<()> {
        match &mut self.engine {
            Engine::Udhcpc { peer, .. } => peer.process.signal(Signal::User2),
            Engine::Model { client, socket, .. } => {
                let frame = client.release()?;
                Ok(socket.send(&frame)?)
            }
        }
    }
}

/// The last part of a path.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Prints the heading of an act.
fn act(line: &str) {
    tell(&format!("\n* {line}"));
}

/// Prints a line.
fn tell(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Ends the play when Ctrl-C was pressed.
fn check_interrupt() -> Result<()> {
    ensure!(!IS_INTERRUPTED.load(Ordering::Relaxed), "interrupted; everything it made is removed");
    Ok(())
}

/// Turns Ctrl-C and SIGTERM into a flag.
fn catch_interrupt() {
    extern "C" fn remember(_: libc::c_int) {
        IS_INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let handler = remember as *const () as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        #[expect(unsafe_code, reason = "std has no signals")]
        // SAFETY: the handler stores to an atomic, which may be done at any moment.
        unsafe {
            libc::signal(signal, handler);
        }
    }
}
