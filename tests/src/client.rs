//! A model DHCP client: it makes the messages of RFC 2131 4.4 and reads the answers with dhcproto.
//!
//! A client is a value: it makes frames and reads frames. Whoever owns it moves them, over a packet socket in a
//! namespace or through memory; [`Wire`] is the little that the helpers here need for it.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use dhcproto::v4::{self, DhcpOption, MessageType, OptionCode};
use dhcproto::{Decodable as _, Decoder};

use crate::frames::{Envelope, Message, Opened, open};
use crate::lab::now;

/// Something that carries frames.
pub trait Wire {
    /// Sends one Ethernet frame.
    ///
    /// # Errors
    /// When the socket refuses it.
    fn send(&mut self, frame: &[u8]) -> io::Result<()>;

    /// The next frame that arrives within `wait`; `None` when none does.
    ///
    /// # Errors
    /// When the socket is broken.
    fn receive(&mut self, wait: Duration) -> io::Result<Option<Vec<u8>>>;
}

/// What a client holds after an ACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The leased address.
    pub address: Ipv4Addr,
    /// The server identifier.
    pub server: Ipv4Addr,
    /// Where the server's frames came from.
    pub server_mac: [u8; 6],
    /// Lease time, in seconds.
    pub secs: u32,
}

/// One client.
#[derive(Debug, Clone)]
pub struct Client {
    /// Ethernet address.
    pub mac: [u8; 6],
    /// Value of option 12.
    pub host_name: Option<String>,
    /// Value of option 61.
    pub client_id: Option<Vec<u8>>,
    /// Value of option 55.
    pub wishes: Vec<u8>,
    /// Whether it asks for broadcast answers.
    pub is_broadcast: bool,
    /// The lease, once an ACK has come in.
    pub lease: Option<Lease>,
    xid: u32,
}

/// An answer to this client.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The frame, opened.
    pub datagram: Opened,
    /// The message, read by dhcproto.
    pub message: v4::Message,
}

impl Reply {
    /// Reads a frame as an answer; `None` when it is none.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let datagram = open(frame)?;
        let message = v4::Message::decode(&mut Decoder::new(&datagram.payload)).ok()?;
        (message.opcode() == v4::Opcode::BootReply).then_some(Self { datagram, message })
    }

    /// Option 53.
    #[must_use]
    pub fn kind(&self) -> Option<MessageType> {
        self.message.opts().msg_type()
    }

    /// Option 51, in seconds.
    #[must_use]
    pub fn lease_secs(&self) -> Option<u32> {
        match self.message.opts().get(OptionCode::AddressLeaseTime)? {
            DhcpOption::AddressLeaseTime(secs) => Some(*secs),
            _ => None,
        }
    }

    /// Option 54.
    #[must_use]
    pub fn server(&self) -> Option<Ipv4Addr> {
        match self.message.opts().get(OptionCode::ServerIdentifier)? {
            DhcpOption::ServerIdentifier(address) => Some(*address),
            _ => None,
        }
    }
}

impl Client {
    /// A client that asks for mask, routers, name servers and domain name, as most do.
    #[must_use]
    pub fn new(mac: [u8; 6]) -> Self {
        let xid = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]).wrapping_mul(0x9e37_79b1);
        let wishes = vec![1, 28, 3, 15, 6, 12];
        Self { mac, host_name: None, client_id: None, wishes, is_broadcast: false, lease: None, xid }
    }

    /// The same with a host name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.host_name = Some(name.to_owned());
        self
    }

    /// A message with this client's usual options, `before` them those that belong to the state.
    fn message(&mut self, kind: u8, before: &[(u8, Vec<u8>)]) -> Message {
        self.xid = self.xid.wrapping_add(1);
        let mut message = Message::request(kind, self.mac, self.xid);
        if self.is_broadcast {
            message.flags = 0x8000;
        }
        message.options.extend(before.iter().cloned());
        if let Some(id) = &self.client_id {
            message.options.push((61, id.clone()));
        }
        if let Some(name) = &self.host_name {
            message.options.push((12, name.clone().into_bytes()));
        }
        if kind != 4 && kind != 7 {
            message.options.push((55, self.wishes.clone()));
        }
        message
    }

    /// A DISCOVER (RFC 2131 4.4.1).
    pub fn discover(&mut self) -> Vec<u8> {
        let message = self.message(1, &[]);
        Envelope::broadcast(self.mac).wrap(&message.bytes())
    }

    /// A DISCOVER of a client that has been at it for so many seconds.
    pub fn discover_after(&mut self, secs: u16) -> Vec<u8> {
        let message = Message { secs, ..self.message(1, &[]) };
        Envelope::broadcast(self.mac).wrap(&message.bytes())
    }

    /// The REQUEST that accepts an offer (SELECTING).
    ///
    /// # Errors
    /// When the offer has no server identifier.
    pub fn select(&mut self, offer: &Reply) -> Result<Vec<u8>> {
        let server = offer.server().context("the OFFER has no server identifier")?;
        let address = offer.message.yiaddr();
        // RFC 2131 4.4.1: the same xid as the offer's.
        self.xid = offer.message.xid().wrapping_sub(1);
        let state = [(50, address.octets().to_vec()), (54, server.octets().to_vec())];
        let message = self.message(3, &state);
        Ok(Envelope::broadcast(self.mac).wrap(&message.bytes()))
    }

    /// A REQUEST after a restart (INIT-REBOOT) for `address`.
    pub fn reboot(&mut self, address: Ipv4Addr) -> Vec<u8> {
        let message = self.message(3, &[(50, address.octets().to_vec())]);
        Envelope::broadcast(self.mac).wrap(&message.bytes())
    }

    /// A unicast REQUEST (RENEWING).
    ///
    /// # Errors
    /// When there is no lease.
    pub fn renewal(&mut self) -> Result<Vec<u8>> {
        let lease = self.lease.clone().context("no lease to renew")?;
        let mut message = self.message(3, &[]);
        message.ciaddr = lease.address;
        let envelope = Envelope::unicast(self.mac, lease.address, lease.server_mac, lease.server);
        Ok(envelope.wrap(&message.bytes()))
    }

    /// A broadcast REQUEST with an address (REBINDING).
    ///
    /// # Errors
    /// When there is no lease.
    pub fn rebinding(&mut self) -> Result<Vec<u8>> {
        let lease = self.lease.clone().context("no lease to rebind")?;
        let mut message = self.message(3, &[]);
        message.ciaddr = lease.address;
        let mut envelope = Envelope::broadcast(self.mac);
        envelope.from.0 = lease.address;
        Ok(envelope.wrap(&message.bytes()))
    }

    /// A RELEASE; the lease is forgotten.
    ///
    /// # Errors
    /// When there is no lease.
    pub fn release(&mut self) -> Result<Vec<u8>> {
        let lease = self.lease.take().context("no lease to release")?;
        let mut message = self.message(7, &[(54, lease.server.octets().to_vec())]);
        message.ciaddr = lease.address;
        let envelope = Envelope::unicast(self.mac, lease.address, lease.server_mac, lease.server);
        Ok(envelope.wrap(&message.bytes()))
    }

    /// A DECLINE; the lease is forgotten.
    ///
    /// # Errors
    /// When there is no lease.
    pub fn decline(&mut self) -> Result<Vec<u8>> {
        let lease = self.lease.take().context("no lease to decline")?;
        let state = [(50, lease.address.octets().to_vec()), (54, lease.server.octets().to_vec())];
        let message = self.message(4, &state);
        Ok(Envelope::broadcast(self.mac).wrap(&message.bytes()))
    }

    /// An INFORM from a fixed address.
    pub fn inform(&mut self, address: Ipv4Addr) -> Vec<u8> {
        let mut message = self.message(8, &[]);
        message.ciaddr = address;
        let mut envelope = Envelope::broadcast(self.mac);
        envelope.from.0 = address;
        envelope.wrap(&message.bytes())
    }

    /// Reads a frame as the answer to this client's last message.
    #[must_use]
    pub fn read(&self, frame: &[u8]) -> Option<Reply> {
        let reply = Reply::parse(frame)?;
        let is_mine = reply.message.xid() == self.xid && reply.message.chaddr() == self.mac;
        is_mine.then_some(reply)
    }

    /// Takes over what an ACK grants.
    ///
    /// # Errors
    /// When the reply is no ACK, or lacks what RFC 2131 table 3 demands.
    pub fn bind(&mut self, reply: &Reply) -> Result<Lease> {
        ensure!(reply.kind() == Some(MessageType::Ack), "expected an ACK, got {:?}", reply.kind());
        let lease = Lease {
            address: reply.message.yiaddr(),
            server: reply.server().context("the ACK has no server identifier")?,
            server_mac: reply.datagram.from_mac,
            secs: reply.lease_secs().context("the ACK has no lease time")?,
        };
        self.lease = Some(lease.clone());
        Ok(lease)
    }

    /// Sends a frame and waits for the answer to it, sending again once in a while as a client does.
    ///
    /// # Errors
    /// When no answer comes within `wait`.
    pub fn ask(&self, wire: &mut dyn Wire, frame: &[u8], wait: Duration) -> Result<Reply> {
        let deadline = now() + wait;
        while now() < deadline {
            wire.send(frame).context("cannot send")?;
            let again = (now() + Duration::from_secs(1)).min(deadline);
            while let Some(left) = again.checked_duration_since(now()).filter(|left| !left.is_zero()) {
                if let Some(reply) = wire.receive(left).context("cannot receive")?.and_then(|frame| self.read(&frame)) {
                    return Ok(reply);
                }
            }
        }
        bail!("no answer within {wait:?}")
    }

    /// Goes from nothing to a lease: DISCOVER, OFFER, REQUEST, ACK.
    ///
    /// # Errors
    /// When an answer does not come or is the wrong one.
    pub fn acquire(&mut self, wire: &mut dyn Wire, wait: Duration) -> Result<Lease> {
        let discover = self.discover();
        let offer = self.ask(wire, &discover, wait).context("DISCOVER")?;
        ensure!(offer.kind() == Some(MessageType::Offer), "expected an OFFER, got {:?}", offer.kind());
        let request = self.select(&offer)?;
        let ack = self.ask(wire, &request, wait).context("REQUEST")?;
        self.bind(&ack)
    }

    /// Renews, and returns the ACK.
    ///
    /// # Errors
    /// When there is no lease, or no ACK for it.
    pub fn renew(&mut self, wire: &mut dyn Wire, wait: Duration) -> Result<Reply> {
        let request = self.renewal()?;
        let reply = self.ask(wire, &request, wait).context("renewal")?;
        self.bind(&reply)?;
        Ok(reply)
    }
}
