//! From the command line to a running server: everything is checked before anything is touched.
//!
//! ```text
//!   arguments -> configuration -> interfaces -> (fork) -> port, pid file -> leases file -> kernel -> serve
//! ```
//!
//! Every way to fail says what is wrong and what to do, and ends with exit status 1; an existing leases file is
//! opened only when everything before it has worked.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _},
    os::unix::net::UnixDatagram,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Parser as _;
use dhcp_ebpf::abi::DigestKey;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::{
    config::Config,
    control::{
        client, failover as control,
        listener::{self, Asked, Door},
    },
    engine::{self, EngineOptions, Server, port::Level},
    io::{
        agent::{About, Agent, Parts},
        check, clock,
        command::{self, Ask, Cli, Command, Failover, FastPathMode, LogLevel, Place, Serve},
        daemon::{self, Forked, PidFile, Readiness},
        entropy, explain,
        fastpath::Mode,
        fastpath_start,
        interfaces::{self, Found, Selection},
        journal::{Journal, JournalOptions},
        log::Log,
        mark::Mark,
        network::Network,
        peers::{self, Peers},
        plan::{Plan, absolute, chosen},
        recovery::Recovery,
        reload::Reloader,
        signals::Signals,
        socket, tail, trace, xdp,
    },
    lease::{
        Table,
        journal::{self as dialect, PeerState, Record},
    },
};

/// Runs the program with these arguments, the first being its name.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let ident =
        arguments.first().map(Path::new).and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let translated = match command::translate(arguments) {
        Ok(translated) => translated,
        Err(refused) => return fail(&refused.to_string()),
    };
    let cli = match Cli::try_parse_from(translated) {
        Ok(cli) => cli,
        Err(error) => {
            let status = if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            // Nobody can be told that the output is closed.
            let _ = error.print();
            return status;
        }
    };
    if cli.serve.detach {
        return fastpath_start::detach().unwrap_or_else(|error| fail(&error));
    }
    match cli.command {
        Some(Command::Status(ask)) => question(&ask, client::status),
        Some(Command::Metrics(Place { control, state_dir })) => {
            let ask = Ask { json: false, control, state_dir };
            question(&ask, |path, _, output| client::metrics(path, output))
        }
        Some(Command::Leases { follow: false, ask }) => question(&ask, client::leases),
        Some(Command::Leases { follow: true, ask }) => question(&ask, client::follow),
        Some(Command::Compact(ask)) => question(&ask, client::compact),
        Some(Command::Failover(asked)) => failover(asked),
        Some(Command::Reload(ask)) => question(&ask, client::reload),
        Some(Command::Fastpath(asked)) => fastpath_start::ask(asked),
        Some(Command::Check(asked)) => check::check(&asked).unwrap_or_else(|error| fail(&error)),
        Some(Command::Explain(asked)) => explain::explain(&asked).unwrap_or_else(|error| fail(&error)),
        Some(Command::Convert { file }) => check::print_converted(&file).unwrap_or_else(|error| fail(&error)),
        Some(Command::Trace { file }) => trace_capture(&file),
        None => match serve(cli.serve, ident.as_deref().unwrap_or("xdhcpd")) {
            Ok(status) => status,
            Err(error) => fail(&error),
        },
    }
}

/// `xdhcpd trace FILE`.
fn trace_capture(file: &Path) -> ExitCode {
    let capture: Box<dyn io::Read> = if file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        match fs::File::open(file) {
            Ok(open) => Box::new(io::BufReader::new(open)),
            Err(error) => return fail(&format!("{}: {error}", file.display())),
        }
    };
    let mut out = io::stdout().lock();
    let mut is_closed = false;
    let outcome = trace::trace(capture, |text| is_closed = is_closed || writeln!(out, "{text}").is_err());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{}: {error}", file.display())),
    }
}

pub(super) fn fail(text: &str) -> ExitCode {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(io::stderr(), "xdhcpd: {text}");
    ExitCode::FAILURE
}

/// `xdhcpd failover ...`.
fn failover(asked: Failover) -> ExitCode {
    let (order, command) = match asked {
        Failover::Status(ask) => {
            let now = clock::now().wall.secs();
            return question(&ask, |path, json, output| client::failover(path, json, now, output));
        }
        Failover::PartnerDown(order) => (order, control::Order::PartnerDown),
        Failover::Resume(order) => (order, control::Order::Resume),
        Failover::Shutdown(order) => (order, control::Order::Shutdown),
        Failover::Pause(order) => (order, control::Order::Pause),
    };
    let command::Order { peer, ask } = order;
    question(&ask, |path, json, output| client::order(path, json, peer.clone(), command, output))
}

pub(super) type Output = io::StdoutLock<'static>;

pub(super) fn question(
    ask: &Ask,
    print: impl Fn(&Path, bool, &mut Output) -> Result<(), client::AskError>,
) -> ExitCode {
    let path = command::control_path(ask.control.as_ref(), ask.state_dir.as_ref());
    match print(&path, ask.json, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(client::AskError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn serve(serve: Serve, ident: &str) -> Result<ExitCode, String> {
    let log = Log::to_stderr(ident, level(serve.log_level));
    log.install();
    if !serve.quiet {
        log.line(Level::Info, concat!("xdhcpd ", env!("CARGO_PKG_VERSION"), ", a DHCPv4 server"));
    }
    for (option, given) in
        [("-tf", serve.trace.is_some()), ("-user", serve.user.is_some()), ("-group", serve.group.is_some())]
    {
        if given {
            log.line(Level::Warn, &format!("{option} is ignored: {}", ignored_reason(option)));
        }
    }
    let file =
        absolute(chosen(serve.config.as_ref(), "PATH_DHCPD_CONF").unwrap_or_else(|| command::CONFIG_DEFAULT.into()))?;
    log.flush();
    let (mut config, diagnostics) = check::load(&file)?;
    let mut plan = Plan::new(&serve, file, &mut config)?;
    let resolved = resolve(&mut config);
    plan.made_of = xdp::answers_of(&(diagnostics.sources().texts().collect::<Vec<_>>(), resolved));
    drop(diagnostics);
    if serve.test_leases {
        check_leases(&plan.leases)?;
    }
    if serve.test_config || serve.test_leases {
        return Ok(ExitCode::SUCCESS);
    }
    peers::check_keys(&config)?;

    let found = interfaces::list().map_err(|error| format!("the interfaces cannot be listed: {error}"))?;
    let selection = interfaces::select(&found, &serve.interfaces, &config).map_err(|error| error.to_string())?;
    for text in &selection.warnings {
        log.line(Level::Warn, text);
    }
    log.flush();

    let readiness = if serve.foreground || serve.debug {
        Readiness::nobody()
    } else {
        match daemon::fork().map_err(|error| format!("cannot become a daemon: {error}"))? {
            Forked::Parent(status) => return Ok(ExitCode::from(status)),
            Forked::Child(readiness) => readiness,
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let _guard = runtime.enter();
    if !serve.debug {
        log.open_syslog(plan.facility);
    }
    log_panics(&log);
    let outcome = runtime.block_on(run(serve, plan, config, selection, &found, log.clone(), readiness));
    Ok(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where the log goes by now: standard error, syslog, or both.
            log.line(Level::Error, &error);
            ExitCode::FAILURE
        }
    })
}

async fn run(
    serve: Serve,
    plan: Plan,
    config: Config,
    selection: Selection,
    found: &[Found],
    log: Log,
    readiness: Readiness,
) -> Result<(), String> {
    // First what another server would be in the way of: the port, then the pid file.
    let local = config.process.local_address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let udp = socket::open_udp(local, plan.port).map_err(|error| port_error(local, plan.port, &error))?;
    let network = Network::new(udp, plan.port);
    let _pid_file = plan.pid.as_deref().map(PidFile::write).transpose()?;
    let (door, questions) = open_control(&serve, &plan.control)?.unzip();
    let signals = Signals::new().map_err(|error| format!("signals: {error}"))?;

    let now = clock::now();
    let key = {
        let mut failure = None;
        let key = DigestKey::draw(|| {
            entropy::word().unwrap_or_else(|error| {
                failure = Some(error);
                0
            })
        });
        match failure {
            None => key,
            Some(error) => return Err(format!("no random numbers: {error}")),
        }
    };
    let random = || entropy::word().map_err(|error| format!("no random numbers: {error}"));
    let mark = Mark::of(&plan.leases);
    let hash_key = [random()?, random()?];
    // The kernel's verifier takes its time as well: both at once.
    let answers = xdp::answers_of(&(env!("CARGO_PKG_VERSION"), plan.made_of, plan.port, &selection.served));
    let (opened, begun) = std::thread::scope(|scope| {
        let opened = scope.spawn(|| open_journal(&plan, &config, &serve, &mark, hash_key));
        let begun = fastpath_start::begin(&serve, &config, &plan, &key, answers);
        (opened.join(), begun)
    });
    let mut opened = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    if let Some(door) = &door {
        let feed = Arc::clone(opened.journal.feed());
        door.set_tail(Box::new(move |from, out| tail::tail(&feed, from, out)));
    }
    let mut begun = begun?;
    if let Some(news) = &begun.inherited.news {
        info!("fast path: {news}");
    }
    if begun.is_on {
        mark.set()?;
    }
    let options = EngineOptions {
        fast_path: begun.is_on,
        generation: begun.generation,
        adopted: std::mem::take(&mut begun.inherited.standing),
        peer_states: std::mem::take(&mut opened.peer_states),
        format: plan.format,
        least_level: level(serve.log_level),
        ..EngineOptions::new(random()?, begun.key)
    };
    let fast_path = begun.fast_path;
    let server = Server::new(config, opened.table, options, now);
    let [ident_high, ident_low, ..] = random()?.to_ne_bytes();
    for interface in &selection.served {
        announce(&log, server.config(), interface);
    }
    let parts = Parts {
        peers: Peers::new(server.config()),
        server,
        network,
        journal: opened.journal,
        journal_events: opened.events,
        format: plan.format,
        others: opened.others,
        questions,
        log: log.clone(),
        named: serve.interfaces.clone(),
        reloader: Reloader::new(serve.clone(), plan.clone()),
        ident: [ident_high, ident_low],
        mark,
        runs_programs: !serve.no_execute,
        stays_attached: serve.stay_attached,
        shadow: serve.shadow,
        evidence: serve.state_dir.clone().or_else(|| plan.leases.parent().map(Path::to_owned)).unwrap_or_default(),
        about: About { config: plan.config, leases: plan.leases, started: now.boot },
    };
    let agent = Agent::new(parts, fast_path, selection.served, found)?;
    if matches!(serve.fast_path, FastPathMode::Native | FastPathMode::Generic) {
        // Asked for by name: without it the operator would believe in something that is not there.
        let missing = agent.attachments().into_iter().find(|attachment| attachment.mode == Mode::Off);
        if let Some(attachment) = missing {
            return Err(format!("--fast-path: {}", attachment.why));
        }
    }
    log.line(Level::Info, "Server starting service.");
    log.flush();
    let is_daemon = !serve.foreground && !serve.debug;
    if is_daemon && !log.has_syslog() {
        log.line(Level::Warn, "there is no syslog at /dev/log: nothing more is logged (run with -d to see the log)");
    }
    if is_daemon || (serve.foreground && !serve.debug && log.has_syslog()) {
        log.leave_stderr();
    }
    readiness.report().map_err(|error| format!("cannot leave the terminal: {error}"))?;
    notify_ready();
    agent.run(signals).await
}

fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warn => Level::Warn,
        LogLevel::Error => Level::Error,
    }
}

fn ignored_reason(option: &str) -> &'static str {
    match option {
        "-tf" => "no trace files are written; use a packet capture",
        _ => "the server keeps the user it was started as; use User= and AmbientCapabilities= of systemd",
    }
}

/// Looks up the names that stand in the configuration where addresses may; returns what was found.
pub(super) fn resolve(config: &mut Config) -> Vec<(String, Vec<Ipv4Addr>)> {
    let mut found = Vec::new();
    let names: Vec<String> = config.host_names().map(str::to_owned).collect();
    for name in names {
        match (name.as_str(), 0).to_socket_addrs() {
            Ok(addresses) => {
                let addresses: Vec<_> = addresses
                    .filter_map(|address| match address {
                        SocketAddr::V4(address) => Some(*address.ip()),
                        SocketAddr::V6(_) => None,
                    })
                    .collect();
                config.resolve(&name, &addresses);
                found.push((name, addresses));
            }
            Err(error) => warn!("{name}: no address: {error}"),
        }
    }
    found
}

/// `-T`: reads the leases file as a start would, and changes nothing.
fn check_leases(path: &Path) -> Result<(), String> {
    let text = fs::read(path).map_err(|error| format!("lease database {}: {error}", path.display()))?;
    let mut complaints = Vec::new();
    let records = dialect::read(&text, clock::now().wall, &mut complaints);
    for complaint in &complaints {
        let _ =
            writeln!(io::stderr(), "{}:{}:{}: {}", path.display(), complaint.line, complaint.column, complaint.text);
    }
    let leases = records.iter().filter(|record| matches!(record, Record::Lease(_))).count();
    let _ = writeln!(io::stderr(), "{}: {}", path.display(), check::count(leases, "lease record"));
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(format!("{}: {} in the leases file", path.display(), check::count(complaints.len(), "error")))
    }
}

fn port_error(address: Ipv4Addr, port: u16, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "UDP port {port} is in use by another program, probably another DHCP server: stop it (`ss -ulpn sport = \
             {port}` shows which), or choose another port with -p"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("UDP port {port} needs root or CAP_NET_BIND_SERVICE ({error})")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("local-address {address}: this machine has no such address")
        }
        _ => format!("UDP port {port} on {address}: {error}"),
    }
}

/// Opens the control socket. A place that the operator named is a must; at the usual place another server may answer,
/// as dhcpds for different interfaces run side by side: then the process id is put into the name.
fn open_control(serve: &Serve, path: &Path) -> Result<Option<(Door, mpsc::Receiver<Asked>)>, String> {
    let is_named = serve.control.is_some() || serve.state_dir.is_some();
    let error = match listener::open(path) {
        Ok(opened) => return Ok(Some(opened)),
        Err(error) if is_named => return Err(error),
        Err(error) => error,
    };
    let other = path.with_file_name(format!("control.{}.sock", std::process::id()));
    match listener::open(&other) {
        Ok(opened) => {
            warn!("{error}; operators find this server with --control {}", other.display());
            Ok(Some(opened))
        }
        Err(_) => {
            warn!("{error}; this server answers no operator");
            Ok(None)
        }
    }
}

/// What was found in the leases file, and what writes to it.
struct Opened {
    journal: Journal,
    events: mpsc::UnboundedReceiver<crate::io::journal::JournalEvent>,
    table: Table,
    peer_states: Vec<PeerState>,
    others: Vec<Record>,
}

fn open_journal(
    plan: &Plan,
    config: &Config,
    serve: &Serve,
    mark: &Mark,
    hash_key: [u64; 2],
) -> Result<Opened, String> {
    let mut recovery = Recovery::new(Table::new(&engine::layout(config, hash_key)), mark.is_set());
    let (sender, events) = mpsc::unbounded_channel();
    // The loop may be gone already: then nobody needs to know.
    let report = Box::new(move |event| drop(sender.send(event)));
    let usual = JournalOptions::default();
    let options = JournalOptions {
        // `delayed-ack` and `max-ack-delay` are upper bounds.
        batch_records_max: match config.process.delayed_ack {
            0 => serve.commit_records as usize,
            count => usize::from(count).min(serve.commit_records as usize),
        },
        latency_budget: Duration::from_micros(serve.commit_wait.min(config.process.max_ack_delay_us).into()),
        create: serve.create_leases,
        format: plan.format,
        now: clock::now().wall,
        skip_sync: config.process.dont_use_fsync,
        ..usual
    };
    if options.skip_sync {
        warn!("dont-use-fsync: a power failure may lose leases that clients were told of");
    }
    let (journal, replay) =
        Journal::open(&plan.leases, options, &mut recovery, report).map_err(|error| error.to_string())?;
    for complaint in &replay.complaints {
        warn!("{}:{}:{}: {}", plan.leases.display(), complaint.line, complaint.column, complaint.text);
    }
    if replay.torn_len > 0 {
        warn!("{}: {} bytes of an unfinished last record were cut off", plan.leases.display(), replay.torn_len);
    }
    if let Some(path) = &replay.damaged {
        warn!("{}: damaged bytes were put aside in {}", plan.leases.display(), path.display());
    }
    info!("Read {} lease records from {}.", replay.leases, plan.leases.display());
    let Recovery { table, peer_states, others, .. } = recovery;
    Ok(Opened { journal, events, table, peer_states, others })
}

/// dhcpd's lines about what it listens on; scripts wait for them.
fn announce(log: &Log, config: &Config, interface: &engine::port::Interface) {
    let network = config
        .shared_network_of_interface(&interface.name, &interface.addresses)
        .map_or("", |id| &*config.shared_network(id).name);
    let mac = dhcp_ebpf::wire::dhcp::HwAddr::ethernet(interface.mac);
    log.line(Level::Info, &format!("Listening on LPF/{}/{mac}/{network}", interface.name));
    log.line(Level::Info, &format!("Sending on   LPF/{}/{mac}/{network}", interface.name));
}

/// A failed assertion is a line in the log before it stops the server.
fn log_panics(log: &Log) {
    let log = log.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        log.line(Level::Error, &format!("xdhcpd stops: {info}"));
        log.flush();
        before(info);
    }));
}

/// Tells systemd that the server serves, if it started us so (`Type=notify`).
fn notify_ready() {
    use std::os::linux::net::SocketAddrExt as _;
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.to_str().and_then(|name| name.strip_prefix('@')) {
        Some(name) => std::os::unix::net::SocketAddr::from_abstract_name(name),
        None => std::os::unix::net::SocketAddr::from_pathname(&name),
    };
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(b"READY=1", &address?));
    if let Err(error) = sent {
        warn!(%error, "systemd was not told that the server is ready");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_told_with_what_to_do() {
        let first = socket::open_udp(Ipv4Addr::LOCALHOST, 0).unwrap();
        let port = first.local_addr().unwrap().as_socket().unwrap().port();
        let error = socket::open_udp(Ipv4Addr::LOCALHOST, port).unwrap_err();
        let text = port_error(Ipv4Addr::LOCALHOST, port, &error);
        assert!(text.contains(&format!("UDP port {port} is in use")) && text.contains("-p"), "{text}");
        let nowhere = Ipv4Addr::new(203, 0, 113, 7);
        let error = socket::open_udp(nowhere, port).unwrap_err();
        assert!(port_error(nowhere, port, &error).contains("local-address 203.0.113.7"));
    }
}
