//! An engine between two hands: what goes in, what comes out, a disk that is always quick and a kernel that
//! promises nothing by itself.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use dhcp_ebpf::abi::{DigestKey, Renewal};
use dhcp_user::{
    config::{self, Config},
    engine::{
        self, EngineOptions, Server,
        port::{Arm, Datagram, Effect, Input, Interface, InterfaceIndex, Received, Verbs as _},
    },
    lease::{
        Table,
        time::{BootTime, Now, WallTime},
    },
};

use crate::frames::Message;

/// The interface the engine listens on.
pub const INTERFACE: InterfaceIndex = InterfaceIndex(1);
/// When the wall clock stands at the start: 2026-11-22 08:00:00 UTC.
pub const START: u32 = 1_795_334_400;

/// An engine, its clock, and what it said.
#[derive(Debug)]
pub struct Pump {
    /// The engine under test.
    pub server: Server,
    /// The clocks.
    pub now: Now,
    /// Replies since they were last taken.
    pub sent: Vec<Datagram>,
    /// What the kernel was told since it was last taken.
    pub armed: Vec<Arm>,
    /// Addresses taken from the kernel since they were last taken.
    pub revoked: Vec<Ipv4Addr>,
    /// VLAN tags of what arrives, outer first: TPID and TCI.
    pub vlan: [u32; 2],
    /// Journal bytes in order.
    pub journal: Vec<u8>,
}

impl Pump {
    /// An engine on `text`, with empty leases and one interface that has `address`.
    ///
    /// # Panics
    ///
    /// When the configuration has errors.
    #[must_use]
    pub fn new(text: &str, address: Ipv4Addr, prefix_len: u8, key: &DigestKey) -> Self {
        let loaded = config::load("test.conf", &mut |_| Ok(text.as_bytes().to_vec()));
        let rendered = loaded.diagnostics.render(false);
        let config = loaded.config.unwrap_or_else(|| panic!("{rendered}"));
        Self::of(config, address, prefix_len, key)
    }

    /// The same, on a configuration that has been read already.
    #[must_use]
    pub fn of(config: Config, address: Ipv4Addr, prefix_len: u8, key: &DigestKey) -> Self {
        let table = Table::new(&engine::layout(&config, [1, 2]));
        let now = Now { boot: BootTime::from_secs(1000), wall: WallTime::from_secs(u64::from(START)) };
        let server = Server::new(config, table, EngineOptions::new(7, *key), now);
        let mut pump = Self {
            server,
            now,
            sent: Vec::new(),
            armed: Vec::new(),
            revoked: Vec::new(),
            vlan: [0; 2],
            journal: Vec::new(),
        };
        pump.input(Input::Interfaces(vec![Interface {
            index: INTERFACE,
            name: "eth0".to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            addresses: vec![(address, prefix_len)],
            is_up: true,
        }]));
        pump
    }

    /// Hands one input in and does everything that comes out.
    pub fn input(&mut self, input: Input<'_>) {
        self.server.handle(input, self.now);
        while let Some(effect) = self.server.poll_effect() {
            match effect {
                Effect::Append(seq, bytes) => {
                    self.journal.extend(bytes);
                    self.server.handle(Input::Durable(seq), self.now);
                }
                Effect::Send(datagram) => self.sent.push(datagram),
                Effect::Arm(arms) => self.armed.extend(arms),
                Effect::Revoke(token, addresses) => {
                    let words = addresses.iter().map(|address| (*address, Renewal::default())).collect();
                    self.revoked.extend(addresses);
                    self.server.handle(Input::Revoked(token, words), self.now);
                }
                Effect::Probe { token, .. } => self.server.handle(Input::Probed(token, false), self.now),
                Effect::NewGeneration { token, .. } => {
                    self.server.handle(Input::Revoked(token, Vec::new()), self.now);
                }
                Effect::Extend(_)
                | Effect::Serving(..)
                | Effect::Balance(..)
                | Effect::Reloaded(_)
                | Effect::PeerSend(..)
                | Effect::PeerDial { .. }
                | Effect::PeerClose(_)
                | Effect::Execute { .. }
                | Effect::Log(..) => {}
            }
        }
    }

    /// A message from a client, as it arrives from the wire.
    pub fn packet(&mut self, message: &Message, source: Ipv4Addr, destination: Ipv4Addr) {
        self.bytes(&message.bytes(), source, destination);
    }

    /// Any bytes, as they arrive from the wire.
    pub fn bytes(&mut self, message: &[u8], source: Ipv4Addr, destination: Ipv4Addr) {
        let is_relayed = message.get(24..28).is_some_and(|giaddr| giaddr != [0; 4]);
        let port = if is_relayed { 67 } else { 68 };
        self.input(Input::Packet(Received {
            interface: INTERFACE,
            vlan: self.vlan,
            source: SocketAddrV4::new(source, port),
            destination,
            message,
        }));
    }

    /// A client's broadcast without an address; the replies it brought.
    pub fn broadcast(&mut self, message: &Message) -> Vec<Datagram> {
        self.packet(message, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
        std::mem::take(&mut self.sent)
    }

    /// Lets time pass; timers ring on the way.
    pub fn pass(&mut self, secs: u64) {
        let end = self.now.boot.after(Duration::from_secs(secs));
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= end) {
            self.set_clock(at.max(self.now.boot));
            self.input(Input::Timeout);
        }
        self.set_clock(end);
    }

    fn set_clock(&mut self, boot: BootTime) {
        let wall = self.now.wall_of(boot.to_secs());
        self.now = Now { boot, wall };
    }
}
