//! The command line: dhcpd's, word for word, and our own options beside it.
//!
//! dhcpd writes long options with one dash (`-cf FILE`). They are rewritten into the form that the argument parser
//! knows before it sees them; the names in help and errors are dhcpd's.

use std::{ffi::OsString, net::Ipv4Addr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use dhcp_ebpf::abi::{ACCESS_PORT_COUNT, ShieldMode};

use crate::io::xdp::Guard;

/// dhcpd's options of more than one letter, with the long option each becomes. What is refused comes with a reason.
const DHCPD_OPTIONS: [(&str, &str); 8] = [
    ("-cf", "--cf"),
    ("-lf", "--lf"),
    ("-pf", "--pf"),
    ("-tf", "--tf"),
    ("-user", "--user"),
    ("-group", "--group"),
    ("-no-pid", "--no-pid"),
    ("-version", "--version"),
];

/// dhcpd's options that this server does not have, and what to do instead.
const REFUSED: [(&str, &str); 5] = [
    ("-6", "this server speaks DHCPv4 only: run another server for DHCPv6"),
    ("-4o6", "DHCPv4-over-DHCPv6 is not supported: this server speaks DHCPv4 over UDP only"),
    ("-play", "trace files cannot be played back: replay a capture against a running server instead"),
    ("-chroot", "this server does not change its root directory: use RootDirectory= of systemd, or chroot(8)"),
    ("-s", "replies cannot be sent to one fixed server address: set `limited-broadcast-address` in the configuration"),
];

/// Where the configuration is unless `-cf` or PATH_DHCPD_CONF says otherwise.
pub const CONFIG_DEFAULT: &str = "/etc/dhcp/dhcpd.conf";
/// Where the leases are unless `-lf`, PATH_DHCPD_DB or `lease-file-name` says otherwise.
pub const LEASES_DEFAULT: &str = "/var/lib/dhcp/dhcpd.leases";
/// Where the pid file is unless `-pf`, PATH_DHCPD_PID or `pid-file-name` says otherwise.
pub const PID_DEFAULT: &str = "/var/run/dhcpd.pid";
/// Where the control socket is unless `--control` or `--state-dir` says otherwise.
pub const CONTROL_DEFAULT: &str = "/run/xdhcpd/control.sock";
/// Name of the control socket in the state directory.
pub const CONTROL_NAME: &str = "control.sock";

/// A DHCPv4 server, a drop-in for ISC dhcpd, whose renewals are answered in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(
    name = "xdhcpd",
    version,
    about,
    args_conflicts_with_subcommands = true,
    after_help = "dhcpd's options are understood as dhcpd writes them: -cf FILE, -lf FILE, -pf FILE, -tf FILE."
)]
pub struct Cli {
    /// Something else than serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: Serve,
}

/// How to serve.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Serve {
    /// Serve DHCPv4 (the only protocol there is).
    #[arg(short = '4')]
    pub v4: bool,
    /// Stay in the foreground.
    #[arg(short = 'f')]
    pub foreground: bool,
    /// Stay in the foreground and log to standard error.
    #[arg(short = 'd')]
    pub debug: bool,
    /// No greeting at the start.
    #[arg(short = 'q')]
    pub quiet: bool,
    /// Check the configuration and exit.
    #[arg(short = 't')]
    pub test_config: bool,
    /// Check the configuration and the leases file and exit.
    #[arg(short = 'T')]
    pub test_leases: bool,
    /// UDP port to listen on; clients are answered on the next one.
    #[arg(short = 'p', value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Configuration file (dhcpd: -cf).
    #[arg(long = "cf", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Leases file (dhcpd: -lf).
    #[arg(long = "lf", value_name = "FILE")]
    pub leases: Option<PathBuf>,
    /// File for the process id (dhcpd: -pf).
    #[arg(long = "pf", value_name = "FILE")]
    pub pid: Option<PathBuf>,
    /// Write no pid file.
    #[arg(long)]
    pub no_pid: bool,
    /// Ignored with a warning (dhcpd: trace file, -tf).
    #[arg(long = "tf", value_name = "FILE", hide = true)]
    pub trace: Option<PathBuf>,
    /// Ignored with a warning (dhcpd: -user).
    #[arg(long, value_name = "NAME", hide = true)]
    pub user: Option<String>,
    /// Ignored with a warning (dhcpd: -group).
    #[arg(long, value_name = "NAME", hide = true)]
    pub group: Option<String>,
    /// Where renewals are answered: in the driver where it can, only there, in the network stack, or nowhere in
    /// the kernel.
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub fast_path: FastPathMode,
    /// Another build of the fast path's program, for instance one that logs every verdict
    /// (`cargo xtask bpf --trace-to FILE`).
    #[arg(long, value_name = "FILE")]
    pub fast_path_object: Option<PathBuf>,
    /// Leave the kernel program attached at the end: it goes on renewing within what is promised already, until the
    /// next server takes it over or its dead-man limit.
    #[arg(long)]
    pub stay_attached: bool,
    /// What the kernel program does with frames that are certainly hostile or useless: floods of DISCOVERs,
    /// malformed BOOTP, a server's messages out of an access port.
    #[arg(long, value_name = "MODE", default_value = "monitor")]
    pub shield: ShieldChoice,
    /// DISCOVERs per second that one source may send before they are a flood.
    #[arg(long, value_name = "NUMBER", default_value_t = Guard::DISCOVER_RATE)]
    pub discover_rate: u16,
    /// DISCOVERs that one source may send at once before they are a flood.
    #[arg(long, value_name = "NUMBER", default_value_t = Guard::DISCOVER_BURST)]
    pub discover_burst: u16,
    /// An interface with clients only: a DHCP server's messages that come in there are spoofed. May be given more than
    /// once.
    #[arg(long = "access-port", value_name = "IF")]
    pub access_ports: Vec<String>,
    /// Never run the programs of `execute` statements; each is a line in the log instead.
    #[arg(long)]
    pub no_execute: bool,
    /// Check one of N replies of the kernel against the agent's own; the first difference switches the fast path off. 0
    /// checks none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub shadow: u32,
    /// Take away what servers that are gone left in the kernel of this network namespace, and exit.
    #[arg(long)]
    pub detach: bool,
    /// Directory for what the server keeps besides the leases; also names its place in bpffs, where the leases file does
    /// otherwise.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Control socket, for `xdhcpd status`, `xdhcpd leases` and `xdhcpd reload`.
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// Make the leases file when there is none (dhcpd refuses to start).
    #[arg(long)]
    pub create_leases: bool,
    /// Most records that are made durable together; `delayed-ack` can only lower it.
    #[arg(long, value_name = "NUMBER", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    pub commit_records: u32,
    /// How long a commit may wait for company while there is some, in microseconds; `max-ack-delay` can only lower it. A
    /// lone client never waits.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
    pub commit_wait: u32,
    /// Least severity that is logged.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
    /// Interfaces to serve; all broadcast interfaces with a declared subnet when none is named.
    #[arg(value_name = "IF")]
    pub interfaces: Vec<String>,
}

impl Serve {
    /// What the shield is to do.
    ///
    /// # Errors
    /// More access ports than the kernel program knows places for, or a limit that would admit nobody.
    pub fn guard(&self) -> Result<Guard, String> {
        if self.access_ports.len() > ACCESS_PORT_COUNT {
            return Err(format!("--access-port: at most {ACCESS_PORT_COUNT} can be given"));
        }
        if self.discover_rate == 0 || self.discover_burst == 0 {
            return Err("--discover-rate and --discover-burst: at least 1, since 0 would admit nobody (the shield is \
                        switched off by --shield off)"
                .to_owned());
        }
        let mode = match self.shield {
            ShieldChoice::Off => ShieldMode::Off,
            ShieldChoice::Monitor => ShieldMode::Monitor,
            ShieldChoice::Enforce => ShieldMode::Enforce,
        };
        Ok(Guard {
            mode,
            discover_rate: self.discover_rate,
            discover_burst: self.discover_burst,
            access_ports: self.access_ports.clone(),
        })
    }
}

/// What to do instead of serving.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Show what a running server does.
    Status(Ask),
    /// Print what a running server counts, in the text format of Prometheus: for node_exporter's textfile collector.
    Metrics(Place),
    /// Show the leases of a running server.
    Leases {
        /// All leases as they are on disk at one moment, then every change as it becomes durable, until interrupted.
        #[arg(long)]
        follow: bool,
        /// Whom to ask, and how to print.
        #[command(flatten)]
        ask: Ask,
    },
    /// Let a running server rewrite its leases file now, without what has been overtaken.
    Compact(Ask),
    /// Show a running server's failover relationships, or tell one what to do.
    #[command(subcommand)]
    Failover(Failover),
    /// Let a running server read its configuration again (as SIGHUP does), and show what changes; exit status 1 when
    /// there is something wrong with it, and the running configuration stays.
    Reload(Ask),
    /// Show how a running server's fast path does, or switch it.
    #[command(subcommand)]
    Fastpath(Fastpath),
    /// Say what the DHCP messages of a packet capture say.
    Trace {
        /// A pcap file of Ethernet frames; `-` reads standard input (`tcpdump -w - ... | xdhcpd trace -`).
        file: PathBuf,
    },
    /// Check a configuration file, and say what it means for clients; exit status 1 when it has errors.
    Check(Check),
    /// Say what a message would be answered, and which statement of the configuration sets what.
    Explain(Explain),
    /// Print a configuration file in canonical form, equal in meaning.
    Convert {
        /// The file.
        file: PathBuf,
    },
}

/// What to check, and for how many clients.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Check {
    /// The file.
    pub file: PathBuf,
    /// The failover partner's file: what the two contradict each other in is told as well.
    #[arg(long, value_name = "FILE")]
    pub pair: Option<PathBuf>,
    /// Clients present at the same time, to forecast renewals per second.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub clients: u64,
    /// New clients per hour, to forecast when pools are empty.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub arrivals: u64,
}

/// What to do about failover.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Failover {
    /// State of both servers, pool balance, what is not acknowledged, what happens if the partner dies now.
    Status(Ask),
    /// The partner is switched off and stays so until it has spoken with this server: serve all its clients.
    PartnerDown(Order),
    /// End a shutdown or a pause: catch up with the partner, then serve again.
    Resume(Order),
    /// Tell the partner to go on alone, and answer nobody, before this server is taken away for long.
    Shutdown(Order),
    /// Answer nobody for a moment, before a short break.
    Pause(Order),
}

/// About the fast path of a running server.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Fastpath {
    /// What the kernel answered and why not more, how far promises go, how it is attached.
    Status(Ask),
    /// Wait for a client's next message, and say who answers it, or why the kernel does not.
    Trace {
        /// Its hardware address, as `02:00:5e:10:00:01`.
        #[arg(long, value_name = "MAC")]
        mac: String,
        /// Seconds to wait.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        wait: u32,
        /// Where to ask.
        #[command(flatten)]
        ask: Ask,
    },
    /// The kernel answers nothing any more; leases stay armed.
    Disarm(Ask),
    /// The kernel answers again, after `disarm` or an alarm of the shadow check.
    Arm(Ask),
    /// Take the program off all interfaces, until the server is started again.
    Detach(Ask),
}

/// Which relationship, and where the server is.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Order {
    /// Name of the `failover peer`; needed only when there are several.
    #[arg(long, value_name = "NAME")]
    pub peer: Option<String>,
    /// Where to ask.
    #[command(flatten)]
    pub ask: Ask,
}

/// Which message to explain.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Explain {
    /// Configuration file (dhcpd: -cf).
    #[arg(long = "cf", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Ethernet address of the client.
    #[arg(long, value_name = "MAC", required_unless_present = "packet", conflicts_with = "packet")]
    pub mac: Option<String>,
    /// An option that the client sends, by name or number, its value as dhcpd.conf writes it; `agent.circuit-id=...`
    /// goes into option 82.
    #[arg(long = "option", value_name = "NAME=VALUE", conflicts_with = "packet")]
    pub options: Vec<String>,
    /// The kind of message; `request` without --ciaddr is the REQUEST that follows the OFFER.
    #[arg(long, value_name = "KIND", default_value = "discover", conflicts_with = "packet")]
    pub message: MessageKind,
    /// The address that the client has.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "packet")]
    pub ciaddr: Option<Ipv4Addr>,
    /// The relay that the message comes through.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "packet")]
    pub giaddr: Option<Ipv4Addr>,
    /// The interface that the message comes in through.
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
    /// The server's address on the interface, where that is not on this machine.
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<Ipv4Addr>,
    /// A pcap file: every client message in it is explained, one after the other.
    #[arg(long, value_name = "FILE")]
    pub packet: Option<PathBuf>,
    /// Leases file to begin with (dhcpd: -lf); without it nobody has a lease yet. It is only read.
    #[arg(long = "lf", value_name = "FILE")]
    pub leases: Option<PathBuf>,
    /// Print JSON, one object for each message.
    #[arg(long)]
    pub json: bool,
}

/// `explain --message`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MessageKind {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPREQUEST.
    Request,
    /// DHCPINFORM.
    Inform,
    /// A BOOTP request.
    Bootp,
}

/// How to ask a running server.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Ask {
    /// Print the reply as it came, in JSON.
    #[arg(long)]
    pub json: bool,
    /// Control socket of the server.
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// The server's state directory, if it was given one.
    #[arg(long, value_name = "DIR", conflicts_with = "control")]
    pub state_dir: Option<PathBuf>,
}

/// Where a running server is.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Place {
    /// Control socket of the server.
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// The server's state directory, if it was given one.
    #[arg(long, value_name = "DIR", conflicts_with = "control")]
    pub state_dir: Option<PathBuf>,
}

/// `--fast-path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FastPathMode {
    /// In the driver where it can, else in the network stack, else nowhere.
    Auto,
    /// In the driver, or do not start.
    Native,
    /// In the network stack, or do not start.
    Generic,
    /// Nowhere: the agent answers everything.
    Off,
}

/// `--shield`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShieldChoice {
    /// Nothing is looked at.
    Off,
    /// Count them, and let them pass.
    Monitor,
    /// Count them, and drop them in the driver.
    Enforce,
}

/// `--log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Per decision.
    Debug,
    /// dhcpd's lines.
    Info,
    /// Somebody should look.
    Warn,
    /// Something does not work.
    Error,
}

/// The control socket that the options mean.
#[must_use]
pub fn control_path(control: Option<&PathBuf>, state_dir: Option<&PathBuf>) -> PathBuf {
    match (control, state_dir) {
        (Some(path), _) => path.clone(),
        (None, Some(dir)) => dir.join(CONTROL_NAME),
        (None, None) => PathBuf::from(CONTROL_DEFAULT),
    }
}

/// An argument that is refused before the parser sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {reason}")]
pub struct Refused {
    /// The option.
    pub option: &'static str,
    /// Why, and what to do instead.
    pub reason: &'static str,
}

/// Rewrites dhcpd's command line into the parser's. The first argument is the program's name.
///
/// # Errors
/// An option of dhcpd that this server does not have.
pub fn translate(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, Refused> {
    let mut translated = Vec::new();
    let mut arguments = arguments.into_iter();
    translated.extend(arguments.next());
    let mut is_value = false;
    let mut is_plain = false;
    for argument in arguments {
        if is_value {
            translated.push(argument);
            is_value = false;
            continue;
        }
        let text = argument.to_str().unwrap_or_default();
        if is_plain || text == "--" {
            is_plain = true;
            translated.push(argument);
            continue;
        }
        if let Some(&(option, reason)) = REFUSED.iter().find(|(option, _)| *option == text) {
            return Err(Refused { option, reason });
        }
        let known = DHCPD_OPTIONS.iter().find(|(dhcpd, _)| *dhcpd == text);
        let rewritten = known.map_or(text, |(_, long)| long);
        is_value = matches!(rewritten, "--cf" | "--lf" | "--pf" | "--tf" | "--user" | "--group" | "-p");
        translated.push(if known.is_some() { rewritten.into() } else { argument });
    }
    Ok(translated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Cli {
        let arguments = translate(line.split_whitespace().map(OsString::from)).unwrap();
        Cli::try_parse_from(arguments).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn the_parser_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lines_of_real_units_and_scripts_mean_what_dhcpd_takes_them_for() {
        // Debian's init script, Red Hat's unit, a container's entry point.
        let debian = parse("dhcpd -4 -q -cf /etc/dhcp/dhcpd.conf -pf /run/dhcpd.pid eth0 eth1").serve;
        assert!(debian.v4 && debian.quiet && !debian.foreground);
        assert_eq!(debian.config, Some("/etc/dhcp/dhcpd.conf".into()));
        assert_eq!(debian.pid, Some("/run/dhcpd.pid".into()));
        assert_eq!(debian.interfaces, ["eth0", "eth1"]);

        let red_hat = parse("dhcpd -f -cf /etc/dhcp/dhcpd.conf -user dhcpd -group dhcpd --no-pid").serve;
        assert!(red_hat.foreground && red_hat.no_pid);
        assert_eq!((red_hat.user.as_deref(), red_hat.group.as_deref()), (Some("dhcpd"), Some("dhcpd")));

        let container = parse("dhcpd -4 -f -d --no-pid -cf /data/dhcpd.conf -lf /data/dhcpd.leases").serve;
        assert!(container.debug && container.foreground);
        assert_eq!(container.leases, Some("/data/dhcpd.leases".into()));
    }

    #[test]
    fn every_option_of_dhcpd_has_its_meaning() {
        type Check = fn(&Serve) -> bool;
        let table: [(&str, Check); 10] = [
            ("-p 1067", |serve| serve.port == Some(1067)),
            ("-f", |serve| serve.foreground),
            ("-d", |serve| serve.debug),
            ("-q", |serve| serve.quiet),
            ("-t", |serve| serve.test_config),
            ("-T", |serve| serve.test_leases),
            ("-4", |serve| serve.v4),
            ("-tf trace", |serve| serve.trace == Some("trace".into())),
            ("--fast-path off", |serve| serve.fast_path == FastPathMode::Off),
            ("--state-dir /s", |serve| serve.state_dir == Some("/s".into())),
        ];
        for (line, is_meant) in table {
            assert!(is_meant(&parse(&format!("xdhcpd {line}")).serve), "{line}");
        }
    }

    #[test]
    fn the_shield_drops_nothing_unless_asked_to() {
        let guard = parse("xdhcpd eth0").serve.guard().unwrap();
        assert_eq!(guard, Guard::default());
        assert_eq!(guard.mode, ShieldMode::Monitor);
        let line = "xdhcpd --shield enforce --discover-rate 3 --discover-burst 9 --access-port eth1 --access-port eth2";
        let guard = parse(line).serve.guard().unwrap();
        assert_eq!((guard.mode, guard.discover_rate, guard.discover_burst), (ShieldMode::Enforce, 3, 9));
        assert_eq!(guard.access_ports, ["eth1", "eth2"]);
        assert!(parse("xdhcpd --discover-burst 0").serve.guard().unwrap_err().contains("--shield off"));
    }

    #[test]
    fn what_follows_an_option_that_takes_a_value_is_never_an_option() {
        let arguments = ["xdhcpd", "-cf", "-6", "-p", "-s"].map(OsString::from);
        assert_eq!(translate(arguments).unwrap(), ["xdhcpd", "--cf", "-6", "-p", "-s"]);
        let arguments = ["xdhcpd", "--", "-6", "-cf"].map(OsString::from);
        assert_eq!(translate(arguments.clone()).unwrap(), arguments, "after `--` there are only interfaces");
    }

    #[test]
    fn what_this_server_does_not_have_is_refused_with_a_sentence() {
        for option in ["-6", "-4o6", "-play", "-chroot", "-s"] {
            let refused = translate(["xdhcpd", "-f", option].map(OsString::from)).unwrap_err();
            assert_eq!(refused.option, option);
            assert!(refused.to_string().starts_with(&format!("{option}: ")));
        }
    }

    #[test]
    fn questions_to_a_running_server_are_commands() {
        let Some(Command::Status(ask)) = parse("xdhcpd status --json --control /c").command else {
            panic!("no status");
        };
        assert!(ask.json);
        assert_eq!(control_path(ask.control.as_ref(), ask.state_dir.as_ref()), PathBuf::from("/c"));
        let Some(Command::Leases { follow: false, ask }) = parse("xdhcpd leases --state-dir /s").command else {
            panic!("no leases");
        };
        assert_eq!(control_path(ask.control.as_ref(), ask.state_dir.as_ref()), PathBuf::from("/s/control.sock"));
        let check = parse("xdhcpd check dhcpd.conf").command;
        assert_eq!(
            check,
            Some(Command::Check(Check { file: "dhcpd.conf".into(), pair: None, clients: 0, arrivals: 0 }))
        );
        assert_eq!(parse("xdhcpd eth0").command, None);
    }
}
