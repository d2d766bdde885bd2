//! I4 and I5 from captures on both sides of a server's XDP program.
//!
//! ```text
//!   switch   port of the server --- Before ---> XDP program --- Behind ---> agent
//!                               <-- Before ---- (kernel's and agent's) <-- Behind (the agent's alone)
//! ```
//!
//! - I5: what arrives behind the program is bit by bit what arrived before it, and what does not arrive there was answered.
//! - I4: to the same request the kernel says what the agent says, but for the times (options 51, 58, 59).

use std::collections::BTreeMap;

use crate::frames::{COOKIE, Opened, open};

/// How long a frame may take from one side of the program to the other, and a reply until it is on its way, in nanoseconds:
/// the time stamps are the kernel's, the rest is a loaded machine's.
const GRACE: u64 = 2_000_000_000;

/// On which side of the program a frame was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the port of the switch.
    Before,
    /// At the server's own interface: a program in generic mode has had it already.
    Behind,
}

/// A request, without what is merely copied or changes from one to the next.
type Question = Vec<u8>;

/// A reply, without these and without its times: where it goes, and what it says. The Ethernet address is left out: the agent
/// asks for it by ARP, and many clients of the suite share one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    from: (std::net::Ipv4Addr, u16),
    to: (std::net::Ipv4Addr, u16),
    payload: Vec<u8>,
}

/// What both have said to one question, as far as seen.
#[derive(Debug, Default)]
struct Both {
    kernel: Option<Said>,
    agent: Option<Said>,
}

/// One server's frames.
#[derive(Debug)]
pub struct Untouched {
    mac: [u8; 6],
    who: &'static str,
    /// Frames to and from the server, by what they are, each with when it passed.
    before: BTreeMap<Vec<u8>, Vec<u64>>,
    behind: BTreeMap<Vec<u8>, Vec<u64>>,
    /// Frames in the order of their time: seen from the agent's side, then from the switch's.
    due: [std::collections::VecDeque<(u64, Vec<u8>)>; 2],
    /// Requests by xid and client.
    asked: BTreeMap<(u32, Vec<u8>), (u64, Question)>,
    said: BTreeMap<Question, Both>,
    /// Frames that went up as they were.
    pub passed: u64,
    /// Requests that the kernel answered.
    pub answered: u64,
    /// Replies that could be compared with one of the other.
    pub compared: u64,
    /// What was wrong, in order.
    pub failures: Vec<String>,
}

impl Untouched {
    /// A server's interface has this address; nothing was seen yet.
    #[must_use]
    pub fn new(who: &'static str, mac: [u8; 6]) -> Self {
        Self {
            mac,
            who,
            before: BTreeMap::new(),
            behind: BTreeMap::new(),
            due: Default::default(),
            asked: BTreeMap::new(),
            said: BTreeMap::new(),
            passed: 0,
            answered: 0,
            compared: 0,
            failures: Vec::new(),
        }
    }

    /// A frame has passed. TCP is left out: it is cut and put together on the way as the kernel likes.
    pub fn see(&mut self, place: Place, at: u64, frame: &[u8]) {
        let is_tcp = frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&6);
        if is_tcp || frame.len() < 14 {
            return;
        }
        let (passed, number) = match place {
            Place::Behind => (&mut self.behind, 0),
            Place::Before => (&mut self.before, 1),
        };
        passed.entry(frame.to_vec()).or_default().push(at);
        self.due[number].push_back((at, frame.to_vec()));
        if let Some(request) = open(frame).filter(|request| request.to.1 == 67 && place == Place::Before)
            && let Some(key) = exchange(&request.payload)
        {
            self.asked.insert(key, (at, question(&request.payload)));
        }
    }

    /// Judges what passed so long before `now` that its other half must have been seen.
    pub fn judge(&mut self, now: u64) {
        // From the agent's side first: what is found there is taken from both.
        while let Some((at, frame)) = self.due[0].pop_front_if(|(at, _)| *at + GRACE <= now) {
            self.behind_is_known(at, &frame);
        }
        while let Some((at, frame)) = self.due[1].pop_front_if(|(at, _)| *at + 2 * GRACE <= now) {
            self.before_is_known(at, &frame);
        }
        self.asked.retain(|_, (at, _)| *at + 4 * GRACE > now);
    }

    fn is_from_server(&self, frame: &[u8]) -> bool {
        frame[6..12] == self.mac
    }

    /// Takes the first of these that is not too far away.
    fn take(passed: &mut BTreeMap<Vec<u8>, Vec<u64>>, frame: &[u8], at: u64) -> bool {
        let Some(times) = passed.get_mut(frame) else { return false };
        let found = times.iter().position(|other| other.abs_diff(at) <= GRACE);
        if let Some(found) = found {
            times.remove(found);
        }
        if times.is_empty() {
            passed.remove(frame);
        }
        found.is_some()
    }

    fn behind_is_known(&mut self, at: u64, frame: &[u8]) {
        Self::take(&mut self.behind, frame, at);
        let is_reply = self.is_from_server(frame);
        let is_same = Self::take(&mut self.before, frame, at);
        if is_reply {
            self.compare(at, frame, false);
        } else if is_same {
            self.passed += 1;
        } else {
            self.failures.push(format!(
                "I5: {} {} ms: the agent was given what never arrived: {frame:02x?}",
                self.who,
                at / 1_000_000
            ));
        }
    }

    fn before_is_known(&mut self, at: u64, frame: &[u8]) {
        // What went through was taken when it was found behind the program.
        if !Self::take(&mut self.before, frame, at) {
            return;
        }
        if self.is_from_server(frame) {
            return self.compare(at, frame, true);
        }
        // Its reply is younger, and not among what the agent has said.
        let of = |frame: &[u8]| open(frame).as_ref().and_then(|message| exchange(&message.payload));
        let key = of(frame);
        let is_reply = |(since, reply): &(u64, Vec<u8>)| {
            *since <= at + GRACE && self.is_from_server(reply) && self.before.contains_key(reply) && of(reply) == key
        };
        if key.is_some() && self.due[1].iter().any(is_reply) {
            self.answered += 1;
        } else {
            self.failures.push(format!(
                "I5: {} {} ms: a frame was neither answered nor passed up: {frame:02x?}",
                self.who,
                at / 1_000_000
            ));
        }
    }

    /// I4: an ACK of the kernel or of the agent, beside what the other one said last to the same question.
    fn compare(&mut self, at: u64, frame: &[u8], is_kernels: bool) {
        let Some(reply) = open(frame).filter(|reply| reply.from.1 == 67) else { return };
        let Some((_, question)) = exchange(&reply.payload).and_then(|key| self.asked.get(&key)) else { return };
        let Some(said) = said(&reply).filter(|said| is_ack(&said.payload)) else { return };
        let both = self.said.entry(question.clone()).or_default();
        let (own, other) = if is_kernels { (&mut both.kernel, &both.agent) } else { (&mut both.agent, &both.kernel) };
        if let Some(other) = other {
            self.compared += 1;
            if *other != said {
                let at_byte = said.payload.iter().zip(&other.payload).position(|(one, other)| one != other);
                self.failures.push(format!(
                    "I4: {} {} ms: the {} says {said:02x?}, the other one has said {other:02x?}, differing at {at_byte:?}",
                    self.who,
                    at / 1_000_000,
                    if is_kernels { "kernel" } else { "agent" },
                ));
            }
        }
        *own = Some(said);
    }
}

/// xid and hardware address of a BOOTP message.
fn exchange(message: &[u8]) -> Option<(u32, Vec<u8>)> {
    let xid = u32::from_be_bytes(*message.get(4..)?.first_chunk()?);
    let is_dhcp = message.get(236..240)? == COOKIE;
    is_dhcp.then(|| (xid, message[28..34].to_vec()))
}

/// A request without xid and secs.
fn question(message: &[u8]) -> Question {
    let mut question = message.to_vec();
    question[4..10].fill(0);
    question
}

fn said(reply: &Opened) -> Option<Said> {
    let mut payload = reply.payload.clone();
    payload.get_mut(4..10)?.fill(0);
    let mut at = 240;
    while let Some(&code) = payload.get(at).filter(|code| **code != 255) {
        let len = if code == 0 { 0 } else { usize::from(*payload.get(at + 1)?) + 1 };
        if matches!(code, 51 | 58 | 59) {
            payload.get_mut(at + 2..=at + len)?.fill(0);
        }
        at += 1 + len;
    }
    Some(Said { from: reply.from, to: reply.to, payload })
}

/// Whether option 53, which comes first in a reply, says ACK.
fn is_ack(payload: &[u8]) -> bool {
    payload.get(240..243) == Some(&[53, 1, 5])
}
