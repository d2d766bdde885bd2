//! What the kernel may say: armed leases, the answers they share, and revocations under way.

use std::{
    collections::{BTreeMap, HashSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use dhcp_ebpf::abi::{QUESTION_COUNT, Template};
use hashbrown::HashMap;

use super::{
    hoard::Hoard,
    limits::{PARKED_COUNT_MAX, REVOCATIONS_COUNT_MAX, TEMPLATES_COUNT_MAX},
    port::{Arm, Effect, InterfaceIndex, Received, Token},
    shape::{Shape, Shapes},
    status::FastPathStatus,
};

/// A question's digest and its answer.
pub(crate) type Answered = (u64, Arc<Template>);

/// Which question of an entry is which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The renewal, predicted or seen.
    Renewal = 0,
    /// The reboot.
    Reboot = 1,
    /// A renewal that really came and was not the predicted one.
    Learned = 2,
}

/// A lease that the kernel may answer for.
#[derive(Debug, Clone)]
pub(crate) struct Armed {
    /// The client's Ethernet address.
    pub(crate) chaddr: [u8; 6],
    /// Questions and answers.
    pub(crate) questions: [Option<Answered>; QUESTION_COUNT],
    /// How each question was asked, to answer it anew when the configuration changes; `None` = not known.
    pub(crate) shapes: [Option<Arc<Shape>>; QUESTION_COUNT],
}

impl Armed {
    /// Nothing is known yet.
    pub(crate) const fn new(chaddr: [u8; 6]) -> Self {
        Self { chaddr, questions: [const { None }; QUESTION_COUNT], shapes: [const { None }; QUESTION_COUNT] }
    }

    /// The longest lease among its answers, in seconds.
    pub(crate) fn longest(&self) -> Option<u32> {
        self.questions.iter().flatten().map(|(_, template)| template.lease_time).max()
    }

    /// Whether both answer the same questions by the same answers.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let key =
            |question: &Option<Answered>| question.as_ref().map(|(digest, answer)| (*digest, Arc::as_ptr(answer)));
        self.chaddr == other.chaddr && self.questions.each_ref().map(key) == other.questions.each_ref().map(key)
    }

    /// Puts a question into its place; the same question does not stay in another one.
    pub(crate) fn put(&mut self, place: Place, answered: Answered, shape: Option<Arc<Shape>>) {
        for (question, shape) in self.questions.iter_mut().zip(&mut self.shapes) {
            if question.as_ref().is_some_and(|(digest, _)| *digest == answered.0) {
                (*question, *shape) = (None, None);
            }
        }
        if let (Some(question), Some(known)) =
            (self.questions.get_mut(place as usize), self.shapes.get_mut(place as usize))
        {
            (*question, *known) = (Some(answered), shape);
        }
    }

    /// Whether the third place may take an offer: it is free, or holds one already.
    pub(crate) fn takes_offers(&self) -> bool {
        let [_, _, third] = &self.questions;
        third.as_ref().is_none_or(|(_, template)| template.is_offer != 0)
    }

    /// Where a renewal that really came belongs: the place of the same question, else the first place when nothing
    /// was predicted, else the third.
    pub(crate) fn place_of_renewal(&self, digest: u64) -> Place {
        match &self.questions {
            [None, ..] => Place::Renewal,
            [Some((known, _)), ..] if *known == digest => Place::Renewal,
            _ => Place::Learned,
        }
    }
}

/// A message that waits.
#[derive(Debug, Clone)]
pub(crate) struct Parked {
    interface: InterfaceIndex,
    vlan: [u32; 2],
    source: SocketAddrV4,
    destination: Ipv4Addr,
    message: Box<[u8]>,
    /// The address whose probe has ended without an answer.
    pub(crate) probed: Option<Ipv4Addr>,
}

impl Parked {
    /// Keeps a copy of a message.
    pub(crate) fn new(received: &Received<'_>, probed: Option<Ipv4Addr>) -> Self {
        Self {
            interface: received.interface,
            vlan: received.vlan,
            source: received.source,
            destination: received.destination,
            message: received.message.into(),
            probed,
        }
    }

    /// The message as it arrived.
    pub(crate) fn received(&self) -> Received<'_> {
        Received {
            interface: self.interface,
            vlan: self.vlan,
            source: self.source,
            destination: self.destination,
            message: &self.message,
        }
    }
}

/// A revocation under way.
#[derive(Debug, Default)]
pub(crate) struct Revocation {
    /// What is revoked.
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// Messages that wait for it, in the order in which they came.
    pub(crate) parked: Vec<Parked>,
}

/// Armed leases, answers and revocations.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    armed: Hoard,
    templates: HashSet<Arc<Template>>,
    /// How questions are asked.
    pub(crate) shapes: Shapes,
    revoking: HashMap<Ipv4Addr, Token>,
    /// Everything is on its way back.
    everything: Option<Token>,
    revocations: BTreeMap<Token, Revocation>,
    parked_count: usize,
    /// Arms handed out.
    pub(crate) arms: u64,
    /// Horizons moved.
    pub(crate) extensions: u64,
    /// Renewals heard of.
    pub(crate) renewals: u64,
    /// Addresses revoked.
    pub(crate) revoked: u64,
}

impl Promises {
    /// Whether the kernel may answer for the address, or may still be answering while it is being revoked.
    pub(crate) fn is_armed(&self, address: Ipv4Addr) -> bool {
        self.armed.get(address).is_some()
    }

    /// What is armed for the address.
    pub(crate) fn armed(&self, address: Ipv4Addr) -> Option<&Armed> {
        self.armed.get(address)
    }

    /// The revocation that the address is in.
    pub(crate) fn revocation_of(&self, address: Ipv4Addr) -> Option<Token> {
        let of_everything = || self.everything.filter(|_| self.armed.get(address).is_some());
        self.revoking.get(&address).copied().or_else(of_everything)
    }

    /// An entry of an earlier agent is armed, and stays so.
    pub(crate) fn adopt(&mut self, address: Ipv4Addr, mut armed: Armed) {
        for (_, template) in armed.questions.iter_mut().flatten() {
            match self.templates.get(template) {
                Some(known) => *template = Arc::clone(known),
                None => drop(self.templates.insert(Arc::clone(template))),
            }
        }
        self.armed.insert(address, armed);
    }

    /// Notes what is armed from now on.
    pub(crate) fn arm(&mut self, address: Ipv4Addr, armed: Armed) {
        debug_assert!(!self.revoking.contains_key(&address), "{address} is being revoked");
        self.arms = self.arms.wrapping_add(1);
        self.armed.insert(address, armed);
    }

    /// Whether an effect that has waited for the journal is still wanted: not an arm whose lease is being revoked, or
    /// was revoked and perhaps given to somebody else meanwhile.
    pub(crate) fn still_wants(&self, effect: &mut Effect) -> bool {
        // The answers as well: after a reload the same question has another one.
        let is_current = |arm: &Arm| {
            self.armed
                .get(arm.address)
                .is_some_and(|armed| armed.chaddr == arm.chaddr && armed.questions == arm.questions)
        };
        let is_revoking = |address: &Ipv4Addr| self.revocation_of(*address).is_some();
        match effect {
            Effect::Arm(arms) => {
                arms.retain(|arm| is_current(arm) && !is_revoking(&arm.address));
                !arms.is_empty()
            }
            Effect::Extend(horizons) => {
                horizons.retain(|(address, _)| self.armed.get(*address).is_some() && !is_revoking(address));
                !horizons.is_empty()
            }
            _ => true,
        }
    }

    /// Begins a revocation.
    ///
    /// # Errors
    ///
    /// Too many are under way.
    pub(crate) fn begin(&mut self, token: Token, addresses: Vec<Ipv4Addr>) -> Result<(), TooMany> {
        if self.revocations.len() >= REVOCATIONS_COUNT_MAX {
            return Err(TooMany);
        }
        self.begin_always(token, addresses);
        Ok(())
    }

    /// Begins a revocation whose number is bounded elsewhere.
    pub(crate) fn begin_always(&mut self, token: Token, addresses: Vec<Ipv4Addr>) {
        self.revoked = self.revoked.wrapping_add(addresses.len() as u64);
        for address in &addresses {
            self.revoking.insert(*address, token);
        }
        self.revocations.insert(token, Revocation { addresses, parked: Vec::new() });
    }

    /// Begins to take everything from the kernel at once.
    pub(crate) fn begin_all(&mut self, token: Token) {
        self.revoked = self.revoked.wrapping_add(self.armed.len() as u64);
        self.everything = Some(token);
        self.revocations.insert(token, Revocation::default());
    }

    /// Ends what [`Self::begin_all`] began, if the token is its: what was armed, and the messages that waited.
    pub(crate) fn end_all(&mut self, token: Token) -> Option<(Hoard, Vec<Parked>)> {
        self.everything.take_if(|everything| *everything == token)?;
        let parked = self.revocations.remove(&token).unwrap_or_default().parked;
        self.parked_count = self.parked_count.saturating_sub(parked.len());
        Some((std::mem::take(&mut self.armed), parked))
    }

    /// Parks a message until the revocation is complete.
    ///
    /// # Errors
    ///
    /// Too many are parked, or the revocation is not under way.
    pub(crate) fn park(&mut self, token: Token, message: Parked) -> Result<(), TooMany> {
        if self.parked_count >= PARKED_COUNT_MAX {
            return Err(TooMany);
        }
        self.revocations.get_mut(&token).ok_or(TooMany)?.parked.push(message);
        self.parked_count = self.parked_count.saturating_add(1);
        Ok(())
    }

    /// Ends a revocation: its addresses are not armed any more.
    pub(crate) fn end(&mut self, token: Token) -> Option<Revocation> {
        let revocation = self.revocations.remove(&token)?;
        for address in &revocation.addresses {
            self.revoking.remove(address);
            self.armed.remove(*address);
        }
        self.parked_count = self.parked_count.saturating_sub(revocation.parked.len());
        Some(revocation)
    }

    /// The shared copy of an answer; `None` when all places are taken.
    pub(crate) fn intern(&mut self, template: Template) -> Option<Arc<Template>> {
        if let Some(known) = self.templates.get(&template) {
            return Some(Arc::clone(known));
        }
        if self.templates.len() >= TEMPLATES_COUNT_MAX {
            self.templates.retain(|template| Arc::strong_count(template) > 1);
            if self.templates.len() >= TEMPLATES_COUNT_MAX {
                return None;
            }
        }
        let template = Arc::new(template);
        self.templates.insert(Arc::clone(&template));
        Some(template)
    }

    /// Armed addresses that are not being revoked, ascending.
    pub(crate) fn armed_addresses(&self) -> Vec<Ipv4Addr> {
        if self.everything.is_some() {
            return Vec::new();
        }
        let mut addresses = self.armed.addresses();
        addresses.retain(|address| !self.revoking.contains_key(address));
        addresses
    }

    /// Addresses whose revocation is under way.
    pub(crate) fn revoking_count(&self) -> usize {
        if self.everything.is_some() { self.armed.len().max(1) } else { self.revoking.len() }
    }

    /// For humans.
    pub(crate) fn status(&self) -> FastPathStatus {
        FastPathStatus {
            enabled: false,
            armed: self.armed.len(),
            templates: self.templates.len(),
            arms: self.arms,
            extensions: self.extensions,
            renewals: self.renewals,
            revoked: self.revoked,
            revoking: self.revoking_count(),
            parked: self.parked_count,
            rearming: 0,
            not_armed: Vec::new(),
        }
    }
}

/// A limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;
