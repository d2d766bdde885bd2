//! Two namespaces and a cable: a server at one end, a herd of clients at the other.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::Herd;
use crate::lab::{Namespace, veth};

/// Everything in the pool is reached through it, so that no server waits for neighbours.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The stage; its pool is 10.64.0.0/10.
#[derive(Debug)]
pub struct Stage {
    /// Where the server runs.
    pub server: Namespace,
    /// Where the clients run.
    pub clients: Namespace,
}

impl Stage {
    /// The server's interface.
    pub const INTERFACE: &str = "s0";
    /// The server's address, in 10.0.0.0/24.
    pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    /// The clients' interface.
    pub const CLIENTS: &str = "c0";

    /// Makes it.
    ///
    /// # Errors
    /// When the kernel refuses any of it.
    pub fn new() -> Result<Self> {
        let (server, clients) = (Namespace::new("server")?, Namespace::new("clients")?);
        let (interface, address) = (Self::INTERFACE, Self::SERVER);
        veth(&server, interface, &clients, Self::CLIENTS)?;
        server.ip(&format!("addr add {address}/24 dev {interface}"))?;
        // Nobody's hardware address: the clients' own IP stack has nothing to do with what passes it.
        server.ip(&format!("neigh add {GATEWAY} lladdr 02:ff:00:00:00:02 dev {interface} nud permanent"))?;
        server.ip(&format!("route add 10.64.0.0/10 via {GATEWAY}"))?;
        Ok(Self { server, clients })
    }

    /// A herd whose clients and transactions are numbered from `first` on: herds that run at the same time hear each
    /// other's replies.
    ///
    /// # Errors
    /// When its socket cannot be opened.
    pub fn herd(&self, first: u32) -> Result<Herd> {
        let server_mac = self.server.mac(Self::INTERFACE)?;
        Ok(Herd::new(&self.clients, Self::CLIENTS, Self::SERVER, server_mac, first)?)
    }
}
