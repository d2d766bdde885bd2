//! Sorts messages: who sent this, from which network, what kind is it; and says no.

use std::{net::Ipv4Addr, sync::Arc};

use dhcp_ebpf::{
    answer::{Fixed, Times},
    wire::{
        dhcp::{FLAG_BROADCAST, MessageType},
        option::code,
    },
};

use crate::{
    config::{Config, Evaluation, Param, Variables},
    lease::{
        BindingState,
        time::{Now, WallTime},
    },
};

use super::{
    Outcome, Server,
    compose::{self, Subject},
    find,
    limits::OPTION_ROOM_DEFAULT,
    port::{Datagram, Effect, JournalSeq, Level, Received as Frame},
    promise::Parked,
    reply::{Layout, Tail},
    request::{self, Request},
    route::{self, Destination},
    status::{Reason, Received, Sent},
};

impl Server {
    /// Takes a message that has just arrived.
    pub(super) fn handle_packet(&mut self, frame: Frame<'_>, now: Now) {
        self.take(frame, None, true, now);
    }

    /// Takes a message again that had to wait.
    pub(super) fn handle_parked(&mut self, parked: &Parked, now: Now) {
        self.take(parked.received(), parked.probed, false, now);
    }

    /// `probed` is the address whose conflict probe has just ended without an answer.
    fn take(&mut self, frame: Frame<'_>, probed: Option<Ipv4Addr>, is_new: bool, now: Now) {
        match self.sort(frame, probed, is_new, now) {
            Outcome::Done => {}
            Outcome::Ignored(reason) => {
                self.ignored.add(reason);
                if let Some(story) = &mut self.story {
                    story.ignored = Some(reason);
                }
            }
            Outcome::Await(token) => {
                if self.promises.park(token, Parked::new(&frame, probed)).is_err() {
                    self.ignored.add(Reason::ParkingFull);
                }
            }
        }
    }

    fn sort(&mut self, frame: Frame<'_>, probed: Option<Ipv4Addr>, is_new: bool, now: Now) -> Outcome {
        let config = Arc::clone(&self.config);
        let Some((interface, attached)) = self.interface(frame.interface) else {
            self.received.add(Received::Other);
            return Outcome::Ignored(Reason::UnknownInterface);
        };
        let mut request = match Request::parse(frame, &interface) {
            Ok(request) => request,
            Err(reason) => {
                self.received.add(Received::Other);
                return Outcome::Ignored(reason);
            }
        };
        if is_new {
            self.received.add(counter_of(request.kind));
        }
        request.explains = self.story.is_some();
        request.network = request::locate(&config, &request, attached);
        if is_new && let Some(reason) = self.meter_client(&request, now) {
            return Outcome::Ignored(reason);
        }
        self.recall_agent_options(&mut request, now);
        // dhcpd: BOOTP knows no classes.
        if request.kind.is_some() {
            classify(&config, &mut request, now.wall);
        }
        if let Some(story) = &mut self.story {
            (story.network, story.membership) = (request.network, request.membership.clone());
            story.ignored = None;
        }

        let needs_network = match request.kind {
            Some(MessageType::Request | MessageType::Inform | MessageType::LeaseQuery) => false,
            Some(
                MessageType::Offer
                | MessageType::Ack
                | MessageType::Nak
                | MessageType::LeaseUnassigned
                | MessageType::LeaseUnknown
                | MessageType::LeaseActive,
            ) => return Outcome::Ignored(Reason::ServerMessage),
            Some(MessageType::Discover | MessageType::Decline | MessageType::Release) | None => true,
        };
        if needs_network && request.network.is_none() {
            self.log(
                Level::Debug,
                format!("{} from {} via {}: unknown network segment", title(request.kind), request.hw, request.via()),
            );
            return Outcome::Ignored(Reason::UnknownNetwork);
        }
        match request.kind {
            Some(MessageType::Discover) => self.handle_discover(&config, &request, probed, now),
            Some(MessageType::Request) => self.handle_request(&config, &request, now),
            Some(MessageType::Release) => self.handle_release(&config, &request, now),
            Some(MessageType::Decline) => self.handle_decline(&config, &request, now),
            Some(MessageType::Inform) => self.handle_inform(&config, &request, now),
            Some(MessageType::LeaseQuery) => self.handle_leasequery(&config, &request, now),
            Some(_) => Outcome::Ignored(Reason::ServerMessage),
            None => self.handle_bootp(&config, &request, now),
        }
    }

    /// RFC 3046 2.2 #not-expected
    /// A client that renews directly does not pass its relay: what the relay said last is taken as said again, but not
    /// sent back (dhcpd: stashed option 82).
    fn recall_agent_options(&self, request: &mut Request<'_>, now: Now) {
        if request.kind != Some(MessageType::Request)
            || request.giaddr().is_some()
            || request.options.get(code::RELAY_AGENT).is_some()
        {
            return;
        }
        let Some(lease) = request.ciaddr().and_then(|ciaddr| self.table.get(ciaddr)) else { return };
        if let Some(agent) = &lease.agent_options
            && lease.state == BindingState::Active
            && lease.ends > now.wall
            && find::is_held_by(&lease, request)
        {
            request.options.set(code::RELAY_AGENT, agent);
            request.is_stashed = true;
        }
    }

    /// Whether option 54 names somebody else (RFC 2131 4.3.2): nobody of RFC 2131 4.1 #any-own-address, and not whom the
    /// relay names (RFC 5107 4 #override-is-accepted).
    pub(super) fn is_for_another_server(&self, config: &Config, request: &Request<'_>, now: Now) -> bool {
        let Some(named) = request.server_id() else { return false };
        let is_interface_s = self
            .interfaces
            .iter()
            .any(|(interface, _)| interface.addresses.iter().any(|(address, _)| *address == named));
        if is_interface_s {
            return false;
        }
        let evaluation = evaluate_network(config, request, request.requested(), now.wall);
        compose::server_identifier(request, &evaluation).is_none_or(|(server, _)| server != named)
    }

    /// Refuses (dhcpd: 12.5 of the reference). The broadcast flag is set, so that a relay broadcasts it.
    pub(super) fn send_nak(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        address: Ipv4Addr,
        why: &str,
        now: Now,
    ) -> Outcome {
        let evaluation = evaluate_network(config, request, Some(address), now.wall);
        let Some((server, source)) = compose::server_identifier(request, &evaluation) else {
            return Outcome::Ignored(Reason::NoServerAddress);
        };
        let server = server.octets();
        // RFC 2131 4.3.1 #nak-is-bare
        let mut options: Vec<(u8, &[u8])> = vec![
            (code::MESSAGE_TYPE, &[MessageType::Nak as u8]),
            (code::SERVER_IDENTIFIER, &server),
            (code::MESSAGE, why.as_bytes()),
        ];
        if evaluation.flag_or_default(Param::EchoClientId)
            && let Some(id) = request.client_id()
        {
            options.push((code::CLIENT_IDENTIFIER, id));
        }
        let layout = Layout {
            server_name: b"",
            file_name: b"",
            relay_agent: request.relay_agent(),
            room: OPTION_ROOM_DEFAULT,
            last: None,
            is_padded: true,
        };
        let tail = Tail::lay(&layout, options.iter().copied());
        // RFC 2131 4.3.2 #nak-broadcast-bit
        let flags = u16::from_be_bytes(request.header.flags) | FLAG_BROADCAST;
        let fixed = Fixed { flags: flags.to_be_bytes(), ciaddr: [0; 4], yiaddr: [0; 4], siaddr: [0; 4] };
        let message = tail.write(&request.head(), &fixed, &Times::default());
        self.tell(None, &evaluation, None, None);
        self.log(Level::Info, format!("DHCPNAK on {address} to {} via {}", request.hw, request.via()));
        let to = route::destination_of_nak(request, &self.ports);
        self.send(JournalSeq(0), to, source, message);
        self.sent.add(Sent::Nak);
        Outcome::Done
    }

    /// Lets a reply out as soon as the record it rests on is durable.
    pub(super) fn send(&mut self, rests_on: JournalSeq, to: Destination, source: Ipv4Addr, message: Vec<u8>) {
        let (interface, route, destination) = to;
        let datagram = Effect::Send(Datagram { interface, route, source, destination, message });
        if rests_on == JournalSeq(0) {
            self.effects.push_back(datagram);
        } else {
            self.gate.hold(rests_on, datagram, &mut self.effects);
        }
    }
}

/// RFC 2132 8.4 #vendor-options-are-ignored, RFC 2132 9.13 #vendor-class-is-ignored: unless a class looks at them.
/// Sorts a message into its classes.
pub(super) fn classify(config: &Config, request: &mut Request<'_>, now: WallTime) {
    let variables = Variables::new();
    request.membership = config.classify(&compose::context(config, request, &nobody(&variables), now));
}

/// Evaluates what applies to a network without a lease: for NAKs and server identifiers.
fn evaluate_network(config: &Config, request: &Request<'_>, address: Option<Ipv4Addr>, now: WallTime) -> Evaluation {
    let variables = Variables::new();
    let subnet = address
        .and_then(|address| config.subnet_of(address))
        .filter(|subnet| request.network.is_none_or(|network| config.subnet(*subnet).shared_network == network));
    compose::evaluate(config, request, &Subject { subnet, ..nobody(&variables) }, now)
}

/// Nobody in particular.
pub(super) const fn nobody(variables: &Variables) -> Subject<'_> {
    Subject {
        subnet: None,
        pool: None,
        host: None,
        address: None,
        is_static: false,
        is_known: false,
        lease_time: None,
        variables,
    }
}

const fn counter_of(kind: Option<MessageType>) -> Received {
    match kind {
        Some(MessageType::Discover) => Received::Discover,
        Some(MessageType::Request) => Received::Request,
        Some(MessageType::Decline) => Received::Decline,
        Some(MessageType::Release) => Received::Release,
        Some(MessageType::Inform) => Received::Inform,
        Some(MessageType::LeaseQuery) => Received::LeaseQuery,
        Some(
            MessageType::Offer
            | MessageType::Ack
            | MessageType::Nak
            | MessageType::LeaseUnassigned
            | MessageType::LeaseUnknown
            | MessageType::LeaseActive,
        ) => Received::Other,
        None => Received::Bootp,
    }
}

/// The name of a message in log lines.
pub(super) const fn title(kind: Option<MessageType>) -> &'static str {
    match kind {
        Some(MessageType::Discover) => "DHCPDISCOVER",
        Some(MessageType::Offer) => "DHCPOFFER",
        Some(MessageType::Request) => "DHCPREQUEST",
        Some(MessageType::Decline) => "DHCPDECLINE",
        Some(MessageType::Ack) => "DHCPACK",
        Some(MessageType::Nak) => "DHCPNAK",
        Some(MessageType::Release) => "DHCPRELEASE",
        Some(MessageType::Inform) => "DHCPINFORM",
        Some(MessageType::LeaseQuery) => "DHCPLEASEQUERY",
        Some(MessageType::LeaseUnassigned) => "DHCPLEASEUNASSIGNED",
        Some(MessageType::LeaseUnknown) => "DHCPLEASEUNKNOWN",
        Some(MessageType::LeaseActive) => "DHCPLEASEACTIVE",
        None => "BOOTREQUEST",
    }
}
