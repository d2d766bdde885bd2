//! Files, waits and a client that looks at the clock.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dhcp_user::control::client::Client as Operator;
use dhcp_user::control::message::{Answer, Command, Status};
use tests::client::{Client, Lease, Wire as _};
use tests::duo::{ADDRESSES, Duo, INTERFACES, Kind, P, Side};
use tests::lab;

pub(crate) const OURS: [Kind; 2] = [Kind::Ours, Kind::Ours];
pub(crate) const LEASE_SECS: u32 = 7200;
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 176, 0, 0);
/// How long a renewal is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// One line of the table: what, how much, and what it is compared to.
pub(crate) fn row(what: &str, figure: &str, beside: &str) {
    println!("{what:<42} {figure:>16}  {beside}");
}

/// First and last address of so many.
pub(crate) fn pool(count: u32) -> [Ipv4Addr; 2] {
    [FIRST, address(count - 1)]
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(FIRST) + number)
}

fn mac(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [2, 0, a, b, c, d]
}

/// The record of a server that serves alone.
pub(crate) const fn alone() -> &'static str {
    "failover peer \"GSB\" state {\n  my state partner-down;\n}\n"
}

/// The record of a server that knows its partner.
pub(crate) const fn both_normal() -> &'static str {
    "failover peer \"GSB\" state {\n  my state normal at epoch 1;\n  partner state normal at epoch 1;\n  mclt 1;\n}\n"
}

/// Records of so many active leases, with what a laptop says of itself; `rewind` of the state that the partner was told
/// (1) or of another one (0), which has to be written before it is told.
pub(crate) fn leases(count: u32, is_told: u32) -> String {
    let now = lab::unix_secs();
    let (ends, tstp) = (now + u64::from(LEASE_SECS), now + u64::from(LEASE_SECS) * 3 / 2);
    let rewind = if is_told == 1 { "active" } else { "free" };
    let mut text = String::new();
    for number in 0..count {
        let [a, b, c, d, e, f] = mac(number);
        writeln!(
            text,
            "lease {} {{\n  starts epoch {now};\n  ends epoch {ends};\n  tstp epoch {tstp};\n  cltt epoch {now};\n  binding \
             state active;\n  next binding state expired;\n  rewind binding state {rewind};\n  hardware ethernet \
             {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x};\n  client-hostname \"host-{number}\";\n}}",
            address(number),
        )
        .expect("a String takes everything");
    }
    text
}

/// What a server says of itself.
pub(crate) fn status(side: &Side) -> Box<Status> {
    let socket = side.folder.path().join("control.sock");
    wait(PATIENCE, || socket.exists());
    let mut operator = Operator::connect(&socket).expect("a control socket");
    match operator.ask(Command::Status).expect("an answer").1 {
        Answer::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

/// Asks until it is so; when it was.
pub(crate) fn wait(patience: Duration, mut is_so: impl FnMut() -> bool) -> Instant {
    let deadline = Instant::now() + patience;
    loop {
        if is_so() {
            return Instant::now();
        }
        assert!(Instant::now() < deadline, "it takes longer than {patience:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What came of renewals, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    nanoseconds: Vec<u128>,
    pub(crate) asked: usize,
    pub(crate) lost: usize,
}

impl Waits {
    pub(crate) fn percentile_ms(&self, percent: f64) -> f64 {
        let mut sorted = self.nanoseconds.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * percent / 100.0).round() as usize).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
    }
}

/// Clients that renew with the primary, one at a time.
pub(crate) struct Prober {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Waits>,
}

impl Prober {
    /// Clients from all over the pool, one renewal every so often.
    pub(crate) fn start(duo: &Duo, count: u32, every: Duration) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut wire = duo.wire();
        let server_mac = duo.sides[P].namespace.mac(INTERFACES[P]).expect("a server's interface");
        // The namespace of the clients answers ARP for all addresses.
        drop(duo.sides[P].namespace.ip("route add 192.128.0.0/9 dev s0"));
        drop(duo.clients.ip("route add local 192.176.0.0/12 dev lo"));
        drop(duo.clients.ip("addr add 192.168.150.200/24 dev c0"));
        let is_done = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut waits = Waits::default();
            for number in (0..).map(|number: u32| number.wrapping_mul(7919) % count) {
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
                let mut client = Client::new(mac(number)).named(&format!("host-{number}"));
                let lease = Lease { address: address(number), server: ADDRESSES[P], server_mac, secs: LEASE_SECS };
                client.lease = Some(lease);
                let renewal = client.renewal().expect("a lease");
                let begin = Instant::now();
                wire.send(&renewal).expect("a wire");
                waits.asked += 1;
                let answered = loop {
                    let Some(left) = PATIENCE.checked_sub(begin.elapsed()) else { break false };
                    match wire.receive(left).expect("a wire") {
                        Some(frame) if client.read(&frame).is_some() => break true,
                        Some(_) => {}
                        None => break false,
                    }
                };
                if answered {
                    waits.nanoseconds.push(begin.elapsed().as_nanos());
                } else {
                    waits.lost += 1;
                }
                std::thread::sleep(every);
            }
            waits
        });
        Self { is_over, thread }
    }

    pub(crate) fn stop(self) -> Waits {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the clients")
    }
}
