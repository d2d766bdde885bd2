//! `cargo xtask bench reload`: how long the engine holds its thread while another configuration takes over, with a
//! million leases that the kernel answers for (`RELOAD_LEASES` for another number).
//!
//! The engine is driven as the agent drives it: one input after the other, with a client's message between two slices
//! of background work. What counts is the longest single input, for that long nobody is answered by the agent.

#![expect(clippy::print_stdout, reason = "a table for people")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use dhcp_ebpf::abi::Renewal;
use dhcp_ebpf::wire::dhcp::MessageType;
use dhcp_user::config::{Config, load};
use dhcp_user::engine::port::{Effect, Input, Interface, Received, Reload, Reloaded, Token, Verbs as _};
use dhcp_user::engine::{self, EngineOptions, Server};
use dhcp_user::lease::Table;
use dhcp_user::lease::journal::Format;
use dhcp_user::lease::time::{BootTime, Now, WallTime};
use tests::fastpath::key;
use tests::frames::Message;
use tests::pump::{INTERFACE, START};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// First address of the range.
const FIRST: u32 = u32::from_be_bytes([10, 16, 0, 0]);
/// Words that come back at once.
const PART_LEN: usize = 4096;

fn main() {
    let count = std::env::var("RELOAD_LEASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000_u32);
    let mut loop_ = Loop::new(count);
    let begin = Instant::now();
    for client in 0..count {
        loop_.acquire(client);
    }
    println!("{count} leases, {} of them armed, in {:.1} s", loop_.armed, begin.elapsed().as_secs_f64());
    loop_.reload("another option", "option domain-name \"second.example\";", count, 0);
    loop_.reload("and 100,000 renewals to tell", "option domain-name \"third.example\";", count, 100_000);
    loop_.reload("a wider range", "option domain-name \"third.example\";", count + 1000, 0);
    loop_.reload("a range less", "", count / 2, 0);
}

/// Two networks: the lab's, and one with a million addresses.
fn config(more: &str, count: u32) -> Config {
    let last = Ipv4Addr::from(FIRST + count - 1);
    let text = format!(
        "authoritative; ping-check off; default-lease-time 6000; max-lease-time 7200; {more}\n\
         subnet 10.0.0.0 netmask 255.0.0.0 {{ option routers 10.0.0.1; range {} {last}; }}\n",
        Ipv4Addr::from(FIRST)
    );
    let loaded = load("dhcpd.conf", &mut |_| Ok(text.clone().into()));
    loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(false)))
}

/// What the agent's thread does, with a disk that is quick and a kernel that is obedient.
struct Loop {
    server: Server,
    now: Now,
    armed: usize,
    acks: usize,
    /// The last offer.
    offered: Ipv4Addr,
    /// The longest input since it was last asked for, and what it was.
    longest: (Duration, &'static str),
    /// What the kernel has to tell when it gives everything back.
    renewed: u32,
    applied: bool,
}

impl Loop {
    fn new(count: u32) -> Self {
        let config = config("", count);
        let table = Table::new(&engine::layout(&config, [1, 2]));
        let now = Now { boot: BootTime::from_secs(1000), wall: WallTime::from_secs(u64::from(START)) };
        let server = Server::new(config, table, EngineOptions::new(7, key(1)), now);
        let mut this = Self {
            server,
            now,
            armed: 0,
            acks: 0,
            offered: Ipv4Addr::UNSPECIFIED,
            longest: (Duration::ZERO, ""),
            renewed: 0,
            applied: false,
        };
        let interface = Interface {
            index: INTERFACE,
            name: "eth0".to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: vec![(SERVER, 8)],
            is_up: true,
        };
        this.input("interfaces", Input::Interfaces(vec![interface]));
        this
    }

    /// Hands one input in, timed, and does what comes out; what that brings in is timed as inputs of their own.
    fn input(&mut self, what: &'static str, input: Input<'_>) {
        let begin = Instant::now();
        self.server.handle(input, self.now);
        let took = begin.elapsed();
        if took > self.longest.0 {
            self.longest = (took, what);
        }
        while let Some(effect) = self.server.poll_effect() {
            match effect {
                Effect::Append(seq, _) => self.input("a record on disk", Input::Durable(seq)),
                Effect::Arm(arms) => self.armed += arms.len(),
                Effect::Send(datagram) => {
                    self.offered = datagram.message[16..20].first_chunk::<4>().map_or(SERVER, |ip| (*ip).into());
                    self.acks += 1;
                }
                Effect::Revoke(token, _) => self.input("a revocation", Input::Revoked(token, Vec::new())),
                Effect::NewGeneration { token, .. } => self.give_back(token),
                Effect::Reloaded(reloaded) => match *reloaded {
                    // The agent frees the memory on another thread.
                    Reloaded::Applied(applied) => {
                        self.applied = true;
                        drop(applied);
                    }
                    Reloaded::Refused(why) => panic!("{why}"),
                },
                Effect::Probe { token, .. } => self.input("a probe", Input::Probed(token, false)),
                Effect::Extend(_)
                | Effect::Serving(..)
                | Effect::Balance(..)
                | Effect::PeerSend(..)
                | Effect::PeerDial { .. }
                | Effect::PeerClose(_)
                | Effect::Execute { .. }
                | Effect::Log(..) => {}
            }
        }
    }

    fn give_back(&mut self, token: Token) {
        let (at, until) = (self.now.boot.to_secs(), self.now.boot.after(Duration::from_secs(6000)).to_secs());
        let word = |place: u32| (Ipv4Addr::from(FIRST + place), Renewal { at, until });
        let words: Vec<_> = (0..self.renewed).map(word).collect();
        // As the kernel's side does, which reads a part at a time.
        for part in words.chunks(PART_LEN) {
            self.input("a part of what the kernel had promised", Input::Returned(part.to_vec()));
        }
        self.input("the kernel has given everything back", Input::Revoked(token, Vec::new()));
    }

    fn message(&mut self, what: &'static str, message: &Message, source: Ipv4Addr, destination: Ipv4Addr) {
        let bytes = message.bytes();
        self.input(
            what,
            Input::Packet(Received {
                interface: INTERFACE,
                vlan: [0; 2],
                source: SocketAddrV4::new(source, 68),
                destination,
                message: &bytes,
            }),
        );
    }

    fn acquire(&mut self, client: u32) {
        let [a, b, c, d] = client.to_be_bytes();
        let mac = [2, 1, a, b, c, d];
        let discover = Message::request(MessageType::Discover as u8, mac, client).with(55, [1, 3, 6, 15]);
        self.message("a DISCOVER", &discover, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
        let request = Message::request(MessageType::Request as u8, mac, client)
            .with(50, self.offered.octets())
            .with(54, SERVER.octets())
            .with(55, [1, 3, 6, 15]);
        self.message("a REQUEST", &request, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    }

    fn reload(&mut self, what: &str, more: &str, count: u32, renewed: u32) {
        let reload = Box::new(Reload { config: config(more, count), format: Format::default() });
        (self.renewed, self.applied, self.armed, self.longest) = (renewed, false, 0, (Duration::ZERO, ""));
        let begin = Instant::now();
        self.input("the reload", Input::Reload(reload));
        let mut applied_after = self.applied.then(|| begin.elapsed());
        let (mut slices, mut busy, mut between) = (0_u32, Duration::ZERO, 0_u32);
        // The slices, a millisecond apart; in between somebody asks.
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= self.now.boot.after(Duration::from_secs(1)))
        {
            let boot = at.max(self.now.boot);
            self.now = Now { boot, wall: self.now.wall_of(boot.to_secs()) };
            let slice = Instant::now();
            self.input("a slice", Input::Timeout);
            busy += slice.elapsed();
            slices += 1;
            if self.applied && applied_after.is_none() {
                applied_after = Some(begin.elapsed());
            }
            if slices.is_multiple_of(64) {
                let [_, b, c, d] = slices.to_be_bytes();
                let mac = [2, 9, 0, b, c, d];
                let discover = Message::request(MessageType::Discover as u8, mac, slices);
                let before = self.acks;
                self.message("a DISCOVER in between", &discover, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
                between += u32::from(self.acks > before);
            }
        }
        let (longest, which) = self.longest;
        println!(
            "{what:<30} applied after {:>7.1} ms; {slices} slices, {:.2} s of work, {between} offers in between, {} armed \
             anew; longest {:.1} ms: {which}",
            applied_after.unwrap_or_default().as_secs_f64() * 1000.0,
            busy.as_secs_f64(),
            self.armed,
            longest.as_secs_f64() * 1000.0
        );
    }
}
