//! `cargo xtask bench config`: the figures of the configuration, ratios taken in one run, medians of five.
//!
//! - `xdhcpd check` on 100,000 host declarations, beside `dhcpd -t` on the same file: at most 1.0 s, at least 10 times
//!   faster;
//! - one packet (classes, host, statements) against 100,000 hosts, 1,000 subclasses and 20 classes, beside the same
//!   configuration without them: at most twice the cost.

#![expect(clippy::print_stdout, reason = "a table for people")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dhcp_ebpf::wire::dhcp::{COOKIE, HwAddr};
use dhcp_user::config::{Chain, Config, Context, ReceivedOptions, Variables, load};
use tests::lab::program;

const HOSTS: u32 = 100_000;
const ROUNDS: usize = 5;
/// Packets of one round.
const PACKETS: u32 = 200_000;

const PLAIN: &str = "ddns-update-style none;
default-lease-time 600;
max-lease-time 7200;
authoritative;
option domain-name \"gsb.local\";
option domain-name-servers 172.16.0.10;
subnet 10.0.0.0 netmask 255.0.0.0 {
  pool { range 10.200.0.1 10.200.255.254; }
  option routers 10.0.0.1;
  option broadcast-address 10.255.255.255;
}
";

fn main() {
    let folder = std::env::temp_dir().join(format!("xdhcpd-bench-config-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for temporary files");
    let is_well = check(&folder.join("dhcpd.conf")) & packets();
    drop(fs::remove_dir_all(&folder));
    if !is_well {
        std::process::exit(1);
    }
}

fn hosts() -> String {
    let mut text = String::new();
    for host in 0..HOSTS {
        let [_, a, b, c] = host.to_be_bytes();
        let _ = write!(
            text,
            "host client-{host:06} {{\n  hardware ethernet 02:00:00:{a:02x}:{b:02x}:{c:02x};\n  \
             fixed-address 10.{}.{b}.{c};\n}}\n",
            a + 1
        );
    }
    text
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

fn seconds(what: &Duration) -> String {
    format!("{:.3} s", what.as_secs_f64())
}

/// Runs a command to its end, and says how long it took; it has to accept the file.
fn run(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("the program starts");
    let took = start.elapsed();
    assert!(status.success(), "{command:?} does not accept the file");
    took
}

/// `check` beside `dhcpd -t`; whether the targets are met.
fn check(file: &Path) -> bool {
    fs::write(file, PLAIN.to_owned() + &hosts()).expect("the configuration is written");
    let xdhcpd = std::env::var_os("XDHCPD_BIN").map_or_else(|| PathBuf::from("target/release/xdhcpd"), PathBuf::from);
    let Ok(dhcpd) = program("dhcpd") else {
        println!("dhcpd is not installed: nothing to compare `check` with");
        return false;
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(run(Command::new(&xdhcpd).arg("check").arg(file)));
        theirs.push(run(Command::new(&dhcpd).args(["-4", "-t", "-cf"]).arg(file)));
    }
    println!(
        "{HOSTS} hosts, {} kB, {ROUNDS} rounds interleaved",
        fs::metadata(file).map_or(0, |about| about.len() / 1000)
    );
    println!("  xdhcpd check  {}", ours.iter().map(seconds).collect::<Vec<_>>().join("  "));
    println!("  dhcpd -t      {}", theirs.iter().map(seconds).collect::<Vec<_>>().join("  "));
    let (ours, theirs) = (median(ours), median(theirs));
    let times = theirs.as_secs_f64() / ours.as_secs_f64();
    let is_well = times >= 10.0 && ours <= Duration::from_secs(1);
    println!(
        "  medians {} and {}: {times:.1} times faster (wanted: 10), at most 1.0 s: {is_well}",
        seconds(&ours),
        seconds(&theirs)
    );
    is_well
}

fn config(text: &str) -> Config {
    let loaded = load("dhcpd.conf", &mut |_| Ok(text.into()));
    loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(false)))
}

/// A client's message with the options that classes look at.
fn message(client: u32) -> (Vec<u8>, HwAddr) {
    let [_, a, b, c] = client.to_be_bytes();
    let mac = [2, 0, 0, a, b, c];
    let mut message = vec![0; 236];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[28..34].copy_from_slice(&mac);
    message.extend_from_slice(&COOKIE);
    message.extend_from_slice(&[53, 1, 3, 55, 4, 1, 3, 6, 15, 60, 9]);
    message.extend_from_slice(b"PXEClient");
    message.extend_from_slice(&[12, 6]);
    message.extend_from_slice(b"client");
    message.extend_from_slice(&[61, 7, 1]);
    message.extend_from_slice(&mac);
    message.push(255);
    (message, HwAddr::ethernet(mac))
}

/// What one packet costs: read, sorted into classes, its host found, all statements run.
fn evaluate(config: &Config, messages: &[(Vec<u8>, HwAddr)]) -> Duration {
    let variables = Variables::new();
    let address = [10, 200, 0, 1].into();
    let (subnet, pool) = (config.subnet_of(address), config.pool_of(address));
    let start = Instant::now();
    for packet in 0..PACKETS {
        let (message, hw) = &messages[packet as usize % messages.len()];
        let options = ReceivedOptions::parse(message).expect("well formed");
        let by_id = options.get(61).map_or(&[][..], |id| config.hosts_by_client_id(id));
        let host = by_id.first().or_else(|| config.hosts_by_hw(hw).first()).copied();
        let context = Context {
            message,
            options: &options,
            hw: *hw,
            known: host.is_some(),
            is_static: false,
            leased_address: Some(address),
            host_decl_name: host.map(|host| config.host_name(host)),
            lease_time: None,
            variables: &variables,
            now: 1_800_000_000,
            explains: false,
        };
        let membership = config.classify(&context);
        let network = subnet.map(|id| config.subnet(id).shared_network);
        let chain = Chain { network, subnet, pool, membership: &membership, host };
        black_box(config.evaluate(&chain, &context));
    }
    start.elapsed() / PACKETS
}

/// A packet against many hosts and classes, and against none; whether the target is met.
fn packets() -> bool {
    let mut text = PLAIN.to_owned() + &hosts();
    for class in 0..19 {
        let _ = writeln!(
            text,
            "class \"vendor-{class}\" {{ match if substring(option vendor-class-identifier, 0, 9) = \"vendor-{class:02}\"; \
             option root-path \"/srv/{class}\"; }}"
        );
    }
    text.push_str("class \"known\" { match hardware; }\n");
    for subclass in 0..1000_u32 {
        let [_, _, a, b] = (subclass * 100).to_be_bytes();
        let _ = writeln!(text, "subclass \"known\" 1:2:0:0:{:x}:{a:x}:{b:x};", (subclass * 100) >> 16);
    }
    let (many, none) = (config(&text), config(PLAIN));
    assert_eq!((many.hosts.len(), many.classes.len(), many.subclasses.len()), (HOSTS as usize, 20, 1000));
    // Every hundredth is in a subclass, all have a host declaration; scattered as clients come.
    let messages: Vec<_> = (0..50_000_u32).map(|place| message(place.wrapping_mul(7919) % HOSTS)).collect();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(evaluate(&none, &messages));
        with.push(evaluate(&many, &messages));
    }
    let nanoseconds =
        |all: &[Duration]| all.iter().map(|one| format!("{} ns", one.as_nanos())).collect::<Vec<_>>().join("  ");
    println!("one packet, {ROUNDS} rounds of {PACKETS} interleaved");
    println!("  no hosts, no classes                            {}", nanoseconds(&without));
    println!("  {HOSTS} hosts, 1000 subclasses, 20 classes    {}", nanoseconds(&with));
    let (with, without) = (median(with), median(without));
    let times = with.as_secs_f64() / without.as_secs_f64();
    let is_well = times <= 2.0;
    println!(
        "  medians {} and {} ns: {times:.2} times the cost (at most 2): {is_well}",
        with.as_nanos(),
        without.as_nanos()
    );
    is_well
}
