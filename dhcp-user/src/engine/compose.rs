//! Evaluates the scopes for one client and makes the reply: the same code for what is sent now and for what the
//! kernel will repeat.

use std::{borrow::Cow, net::Ipv4Addr};

use dhcp_ebpf::{
    answer::{Fixed, Times},
    wire::{
        dhcp::{FLAG_BROADCAST, MessageType},
        option::code,
    },
};

use crate::{
    config::{Chain, Config, Context, Depends, Evaluation, HostId, Param, PoolId, SubnetId, Variables},
    lease::time::WallTime,
};

use super::{
    reply::{self, Layout, Tail, Wish},
    request::{Request, sub_option},
    status::Reason,
    terms,
};

/// Sub-option of option 82 by which a relay names the server identifier to use (RFC 5107 4).
const SERVER_ID_OVERRIDE: u8 = 11;

/// For whom the scopes are evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'s> {
    /// Subnet of the address, or the one that gives options.
    pub(crate) subnet: Option<SubnetId>,
    /// Pool of the address.
    pub(crate) pool: Option<PoolId>,
    /// The host declaration that gives options.
    pub(crate) host: Option<HostId>,
    /// The address.
    pub(crate) address: Option<Ipv4Addr>,
    /// The address is the host declaration's.
    pub(crate) is_static: bool,
    /// Some host declaration fits the client.
    pub(crate) is_known: bool,
    /// What is left of the present lease, in seconds.
    pub(crate) lease_time: Option<u32>,
    /// The lease's variables.
    pub(crate) variables: &'s Variables,
}

/// What kind of reply is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// OFFER or ACK of a lease of so many seconds.
    Lease(MessageType, u32),
    /// ACK to an INFORM: no address, no times.
    Inform,
    /// A BOOTREPLY without a message type.
    Bootp,
}

/// A reply but for what is copied from the request.
#[derive(Debug, Clone)]
pub(crate) struct Composed {
    /// From `sname` on, the values of the time options zero.
    pub(crate) tail: Tail,
    /// The times.
    pub(crate) times: Times,
    /// `siaddr`.
    pub(crate) siaddr: [u8; 4],
    /// `flags`.
    pub(crate) flags: [u8; 2],
    /// Option 54.
    pub(crate) server: Ipv4Addr,
    /// IP source.
    pub(crate) source: Ipv4Addr,
    /// Where the options come from, in their order, if the request asks for an explanation.
    pub(crate) sources: Vec<(u8, Source)>,
}

/// Where the value of an option comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A statement of the configuration.
    Configured,
    /// What the reply is: its type.
    MessageType,
    /// The address that the reply is sent from, or the one that the relay wants to be named.
    Server,
    /// The lease time, and what is derived from it.
    Times,
    /// The request, sent back.
    Echoed,
    /// The netmask of the subnet.
    SubnetMask,
    /// The leased address (`use-lease-addr-for-default-route`).
    LeasedAddress,
    /// The name of the host declaration (`use-host-decl-names`).
    HostName,
}

impl Composed {
    /// RFC 2131 4.3.1 #address-is-returned
    /// Writes the reply.
    pub(crate) fn write(&self, request: &Request<'_>, ciaddr: [u8; 4], yiaddr: Ipv4Addr) -> Vec<u8> {
        let fixed = Fixed { flags: self.flags, ciaddr, yiaddr: yiaddr.octets(), siaddr: self.siaddr };
        self.tail.write(&request.head(), &fixed, &self.times)
    }
}

/// Runs the statements of all scopes that apply.
pub(crate) fn evaluate(config: &Config, request: &Request<'_>, subject: &Subject<'_>, now: WallTime) -> Evaluation {
    let network = match subject.subnet {
        Some(subnet) => Some(config.subnet(subnet).shared_network),
        None => request.network,
    };
    let chain = Chain {
        network,
        subnet: subject.subnet,
        pool: subject.pool,
        membership: &request.membership,
        host: subject.host,
    };
    config.evaluate(&chain, &context(config, request, subject, now))
}

/// What expressions may look at.
pub(crate) fn context<'c>(
    config: &'c Config,
    request: &'c Request<'_>,
    subject: &Subject<'c>,
    now: WallTime,
) -> Context<'c> {
    Context {
        message: request.received.message,
        options: &request.options,
        hw: request.hw,
        known: subject.is_known,
        is_static: subject.is_static,
        leased_address: subject.address,
        host_decl_name: subject.host.map(|host| config.host_name(host)),
        lease_time: subject.lease_time,
        variables: subject.variables,
        now: now.secs(),
        explains: request.explains,
    }
}

/// What an answer depended on besides the question and the configuration.
pub(crate) fn depends(request: &Request<'_>, evaluation: &Evaluation) -> Depends {
    let hooks = Depends { hooks: evaluation.on_commit.is_some(), ..Depends::NOTHING };
    request.membership.depends.and(evaluation.depends).and(hooks)
}

/// The server identifier of a reply and its source address: the configuration's, else what the relay wants
/// (RFC 5107 4 #override-is-sent, RFC 5107 4 #override-is-remembered: a stashed option 82 counts), else the first address
/// of the receiving interface (RFC 2131 4.1 #identifier-in-reach).
pub(crate) fn server_identifier(request: &Request<'_>, evaluation: &Evaluation) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let address = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from);
    let configured = evaluation.option(code::SERVER_IDENTIFIER).and_then(address);
    let wanted = request
        .options
        .get(code::RELAY_AGENT)
        .and_then(|agent| sub_option(agent, SERVER_ID_OVERRIDE))
        .and_then(address);
    let source = configured.or(request.interface_address)?;
    Some((wanted.unwrap_or(source), source))
}

/// Makes the reply of what the scopes came to.
///
/// # Errors
///
/// The server has no address to answer from.
pub(crate) fn compose(
    config: &Config,
    request: &Request<'_>,
    evaluation: &Evaluation,
    subject: &Subject<'_>,
    kind: Kind,
) -> Result<Composed, Reason> {
    let (server, source) = server_identifier(request, evaluation).ok_or(Reason::NoServerAddress)?;
    let times = match kind {
        Kind::Lease(_, time) => {
            let of = |code| evaluation.option(code).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
            terms::times(of(code::RENEWAL_TIME), of(code::REBINDING_TIME), time)
        }
        // RFC 2131 4.3.5 #inform-gets-no-times
        Kind::Inform | Kind::Bootp => Times::default(),
    };
    let values = Values { config, request, evaluation, subject, kind, times, server: server.octets() };
    let (options, last) = values.collect();
    let sources =
        if request.explains { options.iter().map(|(code, _, source)| (*code, *source)).collect() } else { Vec::new() };
    let file_name = evaluation.text(Param::Filename).unwrap_or_default();
    let server_name = evaluation.text(Param::ServerName).unwrap_or_default();
    let configured_size =
        evaluation.option(code::MAX_MESSAGE_SIZE).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    let room = match kind {
        Kind::Bootp => request.received.message.len().saturating_sub(236).max(64),
        Kind::Lease(..) | Kind::Inform => reply::option_room(request.message_size(), configured_size),
    };
    let layout = Layout { server_name, file_name, relay_agent: request.relay_agent(), room, last, is_padded: true };
    let tail = Tail::lay(&layout, options.iter().map(|(code, data, _)| (*code, &**data)));
    let mut flags = u16::from_be_bytes(request.header.flags);
    if evaluation.flag_or_default(Param::AlwaysBroadcast) {
        flags |= FLAG_BROADCAST;
    }
    Ok(Composed {
        tail,
        times,
        siaddr: evaluation.address(Param::NextServer).map_or([0; 4], |address| address.octets()),
        flags: flags.to_be_bytes(),
        server,
        source,
        sources,
    })
}

/// Where the values of options come from.
struct Values<'v> {
    config: &'v Config,
    request: &'v Request<'v>,
    evaluation: &'v Evaluation,
    subject: &'v Subject<'v>,
    kind: Kind,
    times: Times,
    server: [u8; 4],
}

impl<'v> Values<'v> {
    /// The options that have a value, in the order in which they are sent, and the last code that was wished for.
    fn collect(&self) -> (Vec<Listed<'v>>, Option<u8>) {
        let request = self.request;
        let list = self
            .evaluation
            .option(code::PARAMETER_REQUEST_LIST)
            .or_else(|| request.options.get(code::PARAMETER_REQUEST_LIST));
        let wish = Wish {
            list,
            echo_subnet_selection: request.options.get(code::SUBNET_SELECTION).is_some(),
            echo_client_id: self.echoes_client_id(),
            has_fqdn: request.options.get(code::FQDN).is_some(),
            wants_mask: matches!(self.kind, Kind::Lease(..)),
        };
        let order = reply::order(&wish, self.evaluation.codes());
        let wants_nul = request.wants_nul();
        let mut options = Vec::with_capacity(24);
        for &code in order.codes() {
            // RFC 2131 4.3.1 #configured-is-sent, RFC 2131 4.3.1 #unknown-is-not-sent
            let Some((value, source)) = self.value(code) else { continue };
            if wants_nul && self.config.is_text_option(code) && value.last() != Some(&0) {
                let mut text = value.into_owned();
                text.push(0);
                options.push((code, Cow::Owned(text), source));
            } else {
                options.push((code, value, source));
            }
        }
        (options, order.codes().last().copied())
    }

    fn echoes_client_id(&self) -> bool {
        self.evaluation.flag_or_default(Param::EchoClientId) && self.kind != Kind::Bootp
    }

    fn value(&self, wanted: u8) -> Option<(Cow<'v, [u8]>, Source)> {
        const ZERO_TIME: &[u8] = &[0; 4];
        let configured = self.evaluation.option(wanted).map(|bytes| (Cow::Borrowed(bytes), Source::Configured));
        let time = |secs: u32| (secs != 0).then_some((Cow::Borrowed(ZERO_TIME), Source::Times));
        let echoed = |bytes: Option<&'v [u8]>| bytes.map(|bytes| (Cow::Borrowed(bytes), Source::Echoed));
        match wanted {
            code::MESSAGE_TYPE => match self.kind {
                Kind::Lease(kind, _) => Some((Cow::Owned(vec![kind as u8]), Source::MessageType)),
                Kind::Inform => Some((Cow::Borrowed(&[MessageType::Ack as u8]), Source::MessageType)),
                Kind::Bootp => None,
            },
            // RFC 2131 4.3.1 #server-identifier
            code::SERVER_IDENTIFIER => match self.kind {
                Kind::Bootp => None,
                Kind::Lease(..) | Kind::Inform => Some((Cow::Owned(self.server.to_vec()), Source::Server)),
            },
            // RFC 2131 4.3.1 #lease-time
            code::LEASE_TIME => time(self.times.lease),
            code::RENEWAL_TIME => time(self.times.renewal),
            code::REBINDING_TIME => time(self.times.rebinding),
            code::SUBNET_SELECTION => echoed(self.request.options.get(wanted)),
            // RFC 6842 3 #echo-client-id, RFC 6842 3 #no-invented-client-id
            code::CLIENT_IDENTIFIER if self.echoes_client_id() => echoed(self.request.client_id()),
            code::CLIENT_IDENTIFIER => None,
            code::SUBNET_MASK => configured.or_else(|| {
                let subnet = self.config.subnet(self.subject.subnet?);
                Some((Cow::Owned(subnet.mask.octets().to_vec()), Source::SubnetMask))
            }),
            code::ROUTERS if self.evaluation.flag_or_default(Param::UseLeaseAddrForDefaultRoute) => configured
                .or_else(|| Some((Cow::Owned(self.subject.address?.octets().to_vec()), Source::LeasedAddress))),
            code::HOST_NAME => configured.or_else(|| {
                let name = self.config.host_name(self.subject.host?);
                let uses_names = self.evaluation.flag_or_default(Param::UseHostDeclNames);
                uses_names.then(|| (Cow::Owned(name.as_bytes().to_vec()), Source::HostName))
            }),
            // The parameter request list and the message size steer the reply; they are no part of it.
            // RFC 2131 4.3.1 #no-request-list, RFC 2131 4.3.1 #no-message-size
            code::PARAMETER_REQUEST_LIST | code::MAX_MESSAGE_SIZE => None,
            _ => configured,
        }
    }
}

/// An option on its way into a reply: its code and value, and where that comes from.
type Listed<'v> = (u8, Cow<'v, [u8]>, Source);
