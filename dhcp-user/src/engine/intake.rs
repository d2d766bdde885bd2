//! Fair shares: when more has arrived than can be looked at, who is looked at next.
//!
//! ```text
//!   holders     who renews, gives back, refuses      -- always first
//!   selecting   who takes what it was offered        -- then these: an exchange that is half done
//!   seeking     who looks for an address, the rest   -- last; it can ask again
//! ```
//!
//! Within a class each source (relay and circuit, or link with its tags) has its turn, so that a loud one costs the
//! others nothing. All of it is bounded: what is too much is shed where it came from, oldest first, since its client is
//! the likeliest to have given up (I6). While everything that arrives is handled at once nothing passes through here.

use std::collections::{HashMap, VecDeque};

use dhcp_ebpf::wire::{
    dhcp::{Header, OPTIONS_AT},
    option::{Options, code},
};

use super::{
    limits::{INTAKE_COUNT_MAX, INTAKE_SOURCE_COUNT_MIN},
    port::{InterfaceIndex, Received},
    promise::Parked,
    request::{Urgency, urgency},
};

/// Where a message came from, as far as a look at it tells.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Source {
    interface: InterfaceIndex,
    vlan: [u32; 2],
    giaddr: [u8; 4],
    /// Option 82 of a relay; empty for clients, who could write into it what they like.
    agent: Box<[u8]>,
}

/// One class: a queue for each source, which have their turns in a ring.
#[derive(Debug, Default)]
struct Class {
    queues: HashMap<Source, VecDeque<Parked>>,
    ring: VecDeque<Source>,
    count: usize,
}

impl Class {
    /// Takes a message; `false` when one was shed for it, or it was.
    fn push(&mut self, source: Source, message: Parked) -> bool {
        let share = (INTAKE_COUNT_MAX / self.ring.len().max(1)).max(INTAKE_SOURCE_COUNT_MIN);
        if let Some(queue) = self.queues.get_mut(&source) {
            if queue.len() >= share || self.count >= INTAKE_COUNT_MAX {
                queue.pop_front();
                queue.push_back(message);
                return false;
            }
            queue.push_back(message);
        } else {
            if self.count >= INTAKE_COUNT_MAX {
                return false;
            }
            self.ring.push_back(source.clone());
            self.queues.insert(source, VecDeque::from([message]));
        }
        self.count = self.count.saturating_add(1);
        true
    }

    /// The next message of the source whose turn it is.
    fn pop(&mut self) -> Option<Parked> {
        let source = self.ring.pop_front()?;
        let queue = self.queues.get_mut(&source)?;
        let message = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&source);
        } else {
            self.ring.push_back(source);
        }
        self.count = self.count.saturating_sub(1);
        message
    }
}

/// Everything that has arrived and not been looked at.
#[derive(Debug, Default)]
pub struct Intake {
    holders: Class,
    selecting: Class,
    seeking: Class,
    shed: u64,
}

impl Intake {
    /// Takes a message.
    pub fn push(&mut self, received: &Received<'_>) {
        let class = match urgency(received.message) {
            Urgency::Holder => &mut self.holders,
            Urgency::Selecting => &mut self.selecting,
            Urgency::Seeking | Urgency::Other => &mut self.seeking,
        };
        if !class.push(source_of(received), Parked::new(received, None)) {
            self.shed = self.shed.wrapping_add(1);
        }
    }

    /// Gives the next message to `handle`; `false` when there is none.
    pub fn pop(&mut self, handle: impl FnOnce(Received<'_>)) -> bool {
        let next = self.holders.pop().or_else(|| self.selecting.pop()).or_else(|| self.seeking.pop());
        let Some(message) = next else { return false };
        handle(message.received());
        true
    }

    /// For how many messages there is room in the fullest class; no use in reading more of them.
    #[must_use]
    pub fn room(&self) -> usize {
        let fullest = self.classes().map(|class| class.count).max().unwrap_or(0);
        INTAKE_COUNT_MAX.saturating_sub(fullest)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes().all(|class| class.count == 0)
    }

    /// Messages shed since the start, because their source had more than its share waiting.
    #[must_use]
    pub const fn shed(&self) -> u64 {
        self.shed
    }

    fn classes(&self) -> impl Iterator<Item = &Class> {
        [&self.holders, &self.selecting, &self.seeking].into_iter()
    }
}

fn source_of(received: &Received<'_>) -> Source {
    let giaddr = Header::parse(received.message, 0).map_or([0; 4], |header| header.giaddr);
    let options = received.message.get(OPTIONS_AT..).filter(|_| giaddr != [0; 4]).unwrap_or_default();
    let agent = Options::new(options).filter_map(Result::ok).find(|(code, _)| *code == code::RELAY_AGENT);
    Source {
        interface: received.interface,
        vlan: received.vlan,
        giaddr,
        agent: agent.map(|(_, agent)| agent).unwrap_or_default().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;
    use crate::engine::testing::{Message, ip};

    fn push(intake: &mut Intake, message: &Message) {
        let bytes = message.bytes();
        intake.push(&Received {
            interface: InterfaceIndex(2),
            vlan: [0; 2],
            source: SocketAddrV4::new(message.ciaddr, 68),
            destination: Ipv4Addr::BROADCAST,
            message: &bytes,
        });
    }

    /// The last byte of the hardware address of everything that comes out, in order.
    fn drain(intake: &mut Intake) -> Vec<u8> {
        let mut out = Vec::new();
        while intake.pop(|received| out.push(received.message[33])) {}
        out
    }

    #[test]
    fn who_has_an_address_comes_first_then_who_was_offered_one() {
        let mut intake = Intake::default();
        for message in [
            Message::discover(1),
            Message::select(2, ip(50)),
            Message::new(8, 3),
            Message::renew(4, ip(51)),
            Message::release(5, ip(52)),
        ] {
            push(&mut intake, &message);
        }
        assert!(!intake.is_empty());
        assert_eq!(drain(&mut intake), [4, 5, 2, 1, 3]);
        assert!(intake.is_empty());
    }

    #[test]
    fn a_loud_relay_costs_the_others_nothing() {
        let mut intake = Intake::default();
        let stranger = |number: u16, relay: u8| {
            let [high, low] = number.to_be_bytes();
            Message { mac: [2, 9, relay, high, low, relay], ..Message::discover(1) }.via(ip(relay))
        };
        for number in 0..5 * INTAKE_COUNT_MAX as u16 {
            push(&mut intake, &stranger(number, 7));
            if number % 1000 == 0 {
                push(&mut intake, &stranger(number, 8));
            }
        }
        // A circuit of the loud relay that is quiet itself has its own turn, too.
        push(&mut intake, &stranger(9, 7).with(82, &[1, 1, 9]));
        assert!(intake.seeking.count <= INTAKE_COUNT_MAX);
        assert!(intake.shed() > 3 * INTAKE_COUNT_MAX as u64);
        // And the flood does not touch who has an address.
        push(&mut intake, &Message::renew(1, ip(50)));
        let order = drain(&mut intake);
        assert_eq!(order[0], 1);
        assert_eq!(order[1..12].iter().filter(|relay| **relay == 8).count(), 5, "in turn: {:?}", &order[..12]);
        assert_eq!(order.iter().filter(|relay| **relay == 8).count(), 6, "none of the quiet relay's was shed");
    }

    #[test]
    fn invented_sources_are_bounded_as_well() {
        let mut intake = Intake::default();
        for number in 0..3 * INTAKE_COUNT_MAX as u32 {
            let [_, b, c, d] = number.to_be_bytes();
            push(&mut intake, &Message::discover(1).via(Ipv4Addr::new(10, b, c, d)).with(82, &number.to_be_bytes()));
        }
        let seeking = &intake.seeking;
        assert!(seeking.count <= INTAKE_COUNT_MAX && seeking.ring.len() == seeking.queues.len());
        assert_eq!((intake.room(), intake.shed()), (0, 2 * INTAKE_COUNT_MAX as u64));
        assert_eq!(drain(&mut intake).len(), INTAKE_COUNT_MAX);
        assert!(intake.seeking.queues.is_empty() && intake.seeking.ring.is_empty());
    }
}
