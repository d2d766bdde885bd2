//! What became of one message, for `xdhcpd explain`: the very decisions that serve, told instead of sent.
//!
//! A server that nobody asked to explain keeps no story, and pays for a look at an empty place.

use std::net::Ipv4Addr;

use crate::{
    config::{Config, Evaluation, HostId, Membership, PoolId, SharedNetworkId, SubnetId},
    lease::time::Now,
};

use super::{
    Server,
    compose::{Composed, Source},
    grant::Target,
    request::Request,
    status::{NotArmed, Reason},
};

/// What became of one message.
#[derive(Debug, Default)]
pub struct Story {
    /// The network the client is on.
    pub network: Option<SharedNetworkId>,
    /// The classes the message is in.
    pub membership: Membership,
    /// Some host declaration fits the client.
    pub is_known: bool,
    /// The host declaration that gives options.
    pub host: Option<HostId>,
    /// The address is the host declaration's.
    pub is_static: bool,
    /// The address of the reply.
    pub address: Option<Ipv4Addr>,
    /// Its subnet.
    pub subnet: Option<SubnetId>,
    /// Its pool.
    pub pool: Option<PoolId>,
    /// What the scopes came to.
    pub evaluation: Option<Evaluation>,
    /// The lease time before and after what a failover partner allows, in seconds; `None` without a lease.
    pub lease: Option<(u32, u32)>,
    /// Where the options of the reply come from, in the order in which they are sent.
    pub sources: Vec<(u8, Source)>,
    /// Why it is not answered.
    pub ignored: Option<Reason>,
    /// Whether the kernel may repeat the answer.
    pub may_be_armed: Option<Result<(), NotArmed>>,
}

impl Server {
    /// Tells the story of the next message; [`Self::take_story`] has it when the effects are done.
    pub fn explain_next(&mut self) {
        self.story = Some(Box::default());
    }

    /// What became of the message, if that was asked for.
    pub fn take_story(&mut self) -> Option<Box<Story>> {
        self.story.take()
    }

    /// Adds what a reply is made of.
    pub(super) fn tell(
        &mut self,
        target: Option<&Target<'_>>,
        evaluation: &Evaluation,
        composed: Option<&Composed>,
        lease: Option<(u32, u32)>,
    ) {
        let Some(story) = &mut self.story else { return };
        story.evaluation = Some(evaluation.clone());
        story.sources = composed.map(|composed| composed.sources.clone()).unwrap_or_default();
        story.lease = lease;
        if let Some(target) = target {
            story.is_known = target.is_known;
            story.host = target.host;
            story.is_static = target.lease.is_none();
            story.address = Some(target.address);
            story.subnet = target.subnet;
            story.pool = target.pool;
        }
    }

    /// Adds whether the kernel may repeat the reply.
    #[expect(clippy::too_many_arguments, reason = "everything that an answer may depend on")]
    pub(super) fn tell_armable(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        evaluation: &Evaluation,
        composed: &Composed,
        target: &Target<'_>,
        want: u32,
        now: Now,
    ) {
        if self.story.is_none() {
            return;
        }
        let verdict = match target.lease {
            Some(_) => self.is_armable(config, request, evaluation, composed, target, want, now),
            None => Err(NotArmed::NoPromise),
        };
        if let Some(story) = &mut self.story {
            story.may_be_armed = Some(verdict);
        }
    }
}
