//! What the tests do with a pair.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use dhcproto::v4::MessageType;
use tests::client::{Client, Lease, Wire as _};
use tests::duo::{ADDRESSES, Duo, P, PATIENCE, S};
use tests::lab::{self, Namespace, PacketSocket, Process, program, until};
use tests::peers::WAIT;

/// What a test needs that plays with our own servers only.
pub(crate) fn stage() -> Result<(), String> {
    lab::available()
}

/// What a test needs whose renewals the kernel answers.
pub(crate) fn kernel() -> Result<(), String> {
    lab::available()?;
    lab::bpf_available()
}

/// Plays with each of the two servers in the part that the test is about, both at once: each play has a stage of its own, and
/// most of it is waiting.
pub(crate) fn each(play: impl Fn(usize) + Sync) {
    let play = &play;
    std::thread::scope(|scope| {
        let plays = [P, S].map(|one| (one, scope.spawn(move || play(one))));
        for (one, play) in plays {
            if let Err(panic) = play.join() {
                eprintln!("it was played with server {one}");
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// What a test needs that plays with the real dhcpd.
pub(crate) fn dhcpd() -> Result<(), String> {
    lab::available()?;
    program("dhcpd").map(drop)
}

/// What a test needs whose client is behind a relay.
pub(crate) fn relay() -> Result<(), String> {
    program("dhcrelay").map(drop)
}

/// The real dhcrelay between a client and both servers.
pub(crate) struct Relayed {
    /// Where the client is; its interface is `c1`, on the network 10.79.0.0/24.
    pub(crate) client: Namespace,
    _relay: (Namespace, Process),
}

impl Relayed {
    /// Starts both servers, and the relay with these options.
    pub(crate) fn new(duo: &mut Duo, options: &[&str]) -> Self {
        let (relay, client) = (Namespace::new("relay").unwrap(), Namespace::new("client").unwrap());
        duo.switch.plug(&relay, "r0").unwrap();
        lab::veth(&relay, "r1", &client, "c1").unwrap();
        relay.ip("addr add 192.168.150.3/24 dev r0").unwrap();
        relay.ip("addr add 10.79.0.1/24 dev r1").unwrap();
        relay.set("net/ipv4/ip_forward", "1");
        for side in &mut duo.sides {
            side.namespace.ip("route add 10.79.0.0/24 via 192.168.150.3").unwrap();
            side.start().unwrap();
        }
        let mut command = Command::new(program("dhcrelay").unwrap());
        command.args(["-4", "-d", "--no-pid"]).args(options);
        command.args(["-id", "r1", "-iu", "r0"]).args(ADDRESSES.map(|address| address.to_string()));
        let process = relay.spawn(&mut command).unwrap();
        until("dhcrelay to listen", PATIENCE, || relay.has_udp_port(67).then_some(())).unwrap();
        Self { client, _relay: (relay, process) }
    }
}

/// A client by number.
pub(crate) fn client(number: u16) -> Client {
    let [high, low] = number.to_be_bytes();
    let mut client = Client::new([2, 0, 0, 0x77, high, low]).named("portable");
    client.client_id = None;
    client
}

/// A client that gets its first lease from this server, whatever half it belongs to: its `secs` say that it waited.
pub(crate) fn joins(duo: &Duo, number: u16, server: usize) -> Client {
    let mut wire = duo.wire();
    let mut client = client(number);
    for _ in 0..40 {
        let discover = client.discover_after(100);
        wire.send(&discover).unwrap();
        // Both may offer; the one that is meant is taken.
        while let Some(frame) = wire.receive(Duration::from_millis(500)).unwrap() {
            let Some(offer) = client.read(&frame) else { continue };
            if offer.kind() == Some(MessageType::Offer) && offer.server() == Some(ADDRESSES[server]) {
                let select = client.select(&offer).unwrap();
                return accepts(&mut wire, client, &select);
            }
        }
    }
    panic!("no offer for client {number} from server {server}: {:?}", duo.sides[server]);
}

/// Sends the REQUEST and waits for the ACK; the other server's OFFER may still come in between.
fn accepts(wire: &mut PacketSocket, mut client: Client, select: &[u8]) -> Client {
    for _ in 0..20 {
        wire.send(select).unwrap();
        while let Some(frame) = wire.receive(Duration::from_millis(500)).unwrap() {
            if let Some(reply) = client.read(&frame).filter(|reply| reply.kind() != Some(MessageType::Offer)) {
                client.bind(&reply).unwrap();
                return client;
            }
        }
    }
    panic!("no ACK for {client:?}");
}

/// What a client holds.
pub(crate) fn lease_of(client: &Client) -> Lease {
    client.lease.clone().expect("a lease")
}

/// Renews with the server that gave the lease; the time granted.
pub(crate) fn renews(duo: &Duo, client: &mut Client) -> u32 {
    let address = lease_of(client).address;
    settle(duo, address);
    let reply = client.renew(&mut duo.wire(), WAIT).unwrap();
    assert_eq!(reply.message.yiaddr(), address, "the same address");
    reply.lease_secs().unwrap()
}

/// Asks everybody (REBINDING); who answered first, and the time granted.
pub(crate) fn rebinds(duo: &Duo, client: &mut Client) -> (Ipv4Addr, u32) {
    let address = lease_of(client).address;
    settle(duo, address);
    let frame = client.rebinding().unwrap();
    let reply = client.ask(&mut duo.wire(), &frame, WAIT).unwrap();
    assert_eq!(reply.message.yiaddr(), address, "the same address");
    let lease = client.bind(&reply).unwrap();
    (lease.server, lease.secs)
}

/// Gives the address back.
pub(crate) fn releases(duo: &Duo, client: &mut Client) {
    let frame = client.release().unwrap();
    duo.wire().send(&frame).unwrap();
}

/// Says that somebody else uses the address.
pub(crate) fn declines(duo: &Duo, client: &mut Client) {
    let frame = client.decline().unwrap();
    duo.wire().send(&frame).unwrap();
}

/// Gives the interface the address, so that the kernel of the clients' namespace answers ARP for it.
fn settle(duo: &Duo, address: Ipv4Addr) {
    duo.clients.ip(&format!("addr replace {address}/24 dev c0")).unwrap();
}

/// A DISCOVER that nobody may answer; who does is told.
pub(crate) fn offers(duo: &Duo, client: &mut Client, secs: u16, wait: Duration) -> Vec<Ipv4Addr> {
    let mut wire: PacketSocket = duo.wire();
    let discover = client.discover_after(secs);
    wire.send(&discover).unwrap();
    let mut servers = Vec::new();
    let deadline = lab::now() + wait;
    while let Some(left) = deadline.checked_duration_since(lab::now()).filter(|left| !left.is_zero()) {
        let Some(frame) = wire.receive(left).unwrap() else { break };
        if let Some(offer) = client.read(&frame) {
            servers.extend(offer.server());
        }
    }
    servers
}
