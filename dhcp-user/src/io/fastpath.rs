//! The kernel accelerator as the event loop sees it: what the engine's effects are done to.
//!
//! `xdp.rs` answers for a loaded program; [`Off`] answers when there is none. The engine does not know the
//! difference: with [`Off`] an arm is forgotten and a revocation is complete at once, since nothing was promised.

use std::{collections::VecDeque, fmt, net::Ipv4Addr, os::fd::RawFd};

use dhcp_ebpf::{
    abi::{BUCKET_BYTES, Counter, Entry, Generation, Renewal},
    decide::Verdict,
};

use crate::{
    engine::port::{Arm, Interface, InterfaceIndex, Token},
    io::xdp::Guard,
    lease::time::BootTime,
};

/// Most renewals that are told at once: a batch that the engine takes in a few milliseconds.
pub const NEWS_MAX: usize = 4096;

/// How the fast path stands on one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// In the driver (`xdpdrv`).
    Native,
    /// In the network stack, after the packet got its socket buffer (`xdpgeneric`).
    Generic,
    /// Not attached.
    Off,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off => "off",
        })
    }
}

/// The fast path on one interface, with the reason, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The interface.
    pub interface: InterfaceIndex,
    /// How the program is attached.
    pub mode: Mode,
    /// Why it is not better: the driver's refusal, `--fast-path off`, no privilege; empty when there is nothing to
    /// explain.
    pub why: String,
    /// What else an operator should know: what the hardware does, and the command that changes it; may be empty.
    pub note: String,
}

/// Horizons and renewals of armed leases, in seconds: of all of them, or of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ages {
    /// Leases that were looked at.
    pub sampled: usize,
    /// How far the horizon is: least, median, most.
    pub horizon: [u32; 3],
    /// Leases among them that the kernel has renewed.
    pub renewed: usize,
    /// How long ago it did: least, median, most.
    pub renewal: [u32; 3],
}

impl Ages {
    /// Of pairs: seconds to the horizon, and seconds since the last renewal.
    pub fn of(pairs: impl Iterator<Item = (u32, Option<u32>)>) -> Self {
        let (mut horizons, mut renewals) = (Vec::new(), Vec::new());
        for (horizon, renewal) in pairs {
            horizons.push(horizon);
            renewals.extend(renewal);
        }
        let spread = |values: &mut Vec<u32>| {
            values.sort_unstable();
            let at = |index: usize| values.get(index).copied().unwrap_or_default();
            [at(0), at(values.len() / 2), at(values.len().saturating_sub(1))]
        };
        Self {
            sampled: horizons.len(),
            horizon: spread(&mut horizons),
            renewed: renewals.len(),
            renewal: spread(&mut renewals),
        }
    }
}

/// Maps and program of the kernel side. All methods are called from the thread that owns the engine.
///
/// Methods do not fail towards the engine: an address that cannot be armed stays on the slow path, and the
/// implementation says so in the log once. What must never fail silently is [`FastPath::revoke`]: when the
/// kernel cannot be told, the implementation has to detach the program before it says that it is done.
pub trait FastPath {
    /// Attaches to the interfaces served from now on, detaches from all others.
    fn serve(&mut self, interfaces: &[Interface]);

    /// Lets the kernel answer for these leases.
    fn arm(&mut self, arms: &[Arm]);

    /// Moves the horizons of armed leases; entries that are not armed stay as they are.
    fn extend(&mut self, horizons: &[(Ipv4Addr, BootTime)]);

    /// Takes these addresses from the kernel. [`FastPath::poll_revoked`] hands the token out again when no program that
    /// saw the old entries runs any more (design.md section 4). What is asked for while one grace period runs
    /// shares the next.
    fn revoke(&mut self, token: Token, addresses: &[Ipv4Addr]);

    /// The next complete revocation, with what the kernel had promised for each of its addresses; addresses without
    /// an entry get [`Renewal::default`]: nothing was promised.
    fn poll_revoked(&mut self) -> Option<(Token, Vec<(Ipv4Addr, Renewal)>)>;

    /// A part of what a generation that ends had promised and nobody knew: [`FastPath::poll_revoked`] reads as much in one
    /// call as keeps no client waiting, and hands the token out with the last part.
    fn poll_returned(&mut self) -> Vec<(Ipv4Addr, Renewal)> {
        Vec::new()
    }

    /// Readable when [`FastPath::poll_revoked`] has something; `None` when it always has at once.
    fn revoked_fd(&self) -> Option<RawFd>;

    /// Switches the pools of a failover peer on or off (index into the serving table).
    fn serving(&mut self, peer: u8, is_serving: bool);

    /// Sets which RFC 3074 buckets of a failover peer's clients are answered here when they ask both partners; all of
    /// them until somebody says otherwise.
    fn balance(&mut self, peer: u8, buckets: &[u8; BUCKET_BYTES]);

    /// What the shield does; `None` when there is none.
    fn guard(&self) -> Option<&Guard>;

    /// What the kernel would do with a frame that arrives now, and the frame as it would leave it; `None` without a kernel
    /// side. Nothing is stored or counted.
    fn would_say(&self, _frame: &[u8], _interface: InterfaceIndex, _now: BootTime) -> Option<(Verdict, Vec<u8>)> {
        None
    }

    /// Lets the kernel answer, or nothing any more, at an operator's wish or after an alarm. Entries stay as they are.
    fn switch(&mut self, _is_on: bool) {}

    /// Whether the kernel may answer at all.
    fn is_switched_on(&self) -> bool {
        false
    }

    /// One of how many requests that the kernel could answer goes to the agent, to be compared; zero = none.
    fn set_shadow(&mut self, _one_of: u32) {}

    /// How far horizons are, and how long ago the kernel renewed.
    fn ages(&self, _now: BootTime) -> Ages {
        Ages::default()
    }

    /// The armed entry of an address.
    fn entry(&self, _address: Ipv4Addr) -> Option<Entry> {
        None
    }

    /// The address that is armed for a client.
    fn armed_for(&self, _chaddr: [u8; 6]) -> Option<Ipv4Addr> {
        None
    }

    /// Disarms everything at once: entries of another generation are not answered. [`FastPath::poll_revoked`] hands the
    /// token out when no program that saw the old generation runs any more, with what the kernel had promised and
    /// nobody knew; then there is a place for the addresses of `ranges` (first and last, inclusive), as far as there
    /// is room. Nothing is armed in between.
    fn new_generation(&mut self, token: Token, generation: Generation, ranges: &[(Ipv4Addr, Ipv4Addr)]);

    /// What the kernel answered and nobody was told of, in the next slice of the entries: at most one per address, and at
    /// most [`NEWS_MAX`]; a slice with more ends there.
    fn scan(&mut self) -> Vec<(Ipv4Addr, Renewal)>;

    /// How many slices make all entries.
    fn scan_slices(&self) -> u32;

    /// What the kernel promised last for one address; `None` when it has no entry for it. For `leases` output.
    fn renewal(&self, address: Ipv4Addr) -> Option<Renewal>;

    /// Readable when the kernel asks for attention (the event ring).
    fn event_fd(&self) -> Option<RawFd>;

    /// Reads off the event ring: the addresses whose horizon has to move soon; at most [`NEWS_MAX`] at once, the rest
    /// stays.
    fn events(&mut self) -> Vec<(Ipv4Addr, Renewal)>;

    /// Whether the ring was full when something happened, since this was asked last: then only a scan finds all of it.
    fn has_lost_events(&mut self) -> bool {
        false
    }

    /// What the kernel answered at these addresses and nobody was told of.
    fn news(&mut self, _addresses: &[Ipv4Addr]) -> Vec<(Ipv4Addr, Renewal)> {
        Vec::new()
    }

    /// Sums over all CPUs, in the order of [`Counter::ALL`].
    fn counters(&self) -> [u64; Counter::COUNT];

    /// How the program stands on each interface.
    fn attachments(&self) -> Vec<Attachment>;

    /// Moves the dead-man limit: the agent lives.
    fn heartbeat(&mut self, now: BootTime);

    /// Takes the program from all interfaces, at a clean stop. Everything has been revoked before.
    fn detach(&mut self);

    /// Leaves the program attached when the agent ends, answering within the promises that are armed, until the
    /// dead-man limit or until the next agent takes it away.
    ///
    /// # Errors
    ///
    /// A sentence saying why it cannot stay; then the caller revokes and detaches.
    fn leave(&mut self) -> Result<(), String>;
}

/// No fast path: nothing is armed, nothing is ever promised by the kernel.
#[derive(Debug)]
pub struct Off {
    why: String,
    interfaces: Vec<InterfaceIndex>,
    revoked: VecDeque<(Token, Vec<(Ipv4Addr, Renewal)>)>,
}

impl Off {
    /// A fast path that is not there, with the reason for people.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), interfaces: Vec::new(), revoked: VecDeque::new() }
    }
}

impl FastPath for Off {
    fn serve(&mut self, interfaces: &[Interface]) {
        self.interfaces = interfaces.iter().map(|interface| interface.index).collect();
    }

    fn arm(&mut self, _arms: &[Arm]) {}

    fn extend(&mut self, _horizons: &[(Ipv4Addr, BootTime)]) {}

    fn revoke(&mut self, token: Token, addresses: &[Ipv4Addr]) {
        self.revoked.push_back((token, addresses.iter().map(|&address| (address, Renewal::default())).collect()));
    }

    fn poll_revoked(&mut self) -> Option<(Token, Vec<(Ipv4Addr, Renewal)>)> {
        self.revoked.pop_front()
    }

    fn revoked_fd(&self) -> Option<RawFd> {
        None
    }

    fn serving(&mut self, _peer: u8, _is_serving: bool) {}

    fn balance(&mut self, _peer: u8, _buckets: &[u8; BUCKET_BYTES]) {}

    fn guard(&self) -> Option<&Guard> {
        None
    }

    fn new_generation(&mut self, token: Token, _generation: Generation, _ranges: &[(Ipv4Addr, Ipv4Addr)]) {
        self.revoked.push_back((token, Vec::new()));
    }

    fn scan(&mut self) -> Vec<(Ipv4Addr, Renewal)> {
        Vec::new()
    }

    fn scan_slices(&self) -> u32 {
        1
    }

    fn renewal(&self, _address: Ipv4Addr) -> Option<Renewal> {
        None
    }

    fn event_fd(&self) -> Option<RawFd> {
        None
    }

    fn events(&mut self) -> Vec<(Ipv4Addr, Renewal)> {
        Vec::new()
    }

    fn counters(&self) -> [u64; Counter::COUNT] {
        [0; Counter::COUNT]
    }

    fn attachments(&self) -> Vec<Attachment> {
        self.interfaces
            .iter()
            .map(|&interface| Attachment { interface, mode: Mode::Off, why: self.why.clone(), note: String::new() })
            .collect()
    }

    fn heartbeat(&mut self, _now: BootTime) {}

    fn detach(&mut self) {}

    fn leave(&mut self) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_least_median_and_most() {
        let ages = Ages::of([(900, None), (100, Some(5)), (500, Some(1))].into_iter());
        assert_eq!(ages, Ages { sampled: 3, horizon: [100, 500, 900], renewed: 2, renewal: [1, 5, 5] });
        assert_eq!(Ages::of(std::iter::empty()), Ages::default());
    }

    #[test]
    fn without_a_fast_path_a_revocation_is_complete_at_once_for_every_address() {
        let mut off = Off::new("--fast-path off");
        let addresses = [Ipv4Addr::new(192, 168, 150, 50), Ipv4Addr::new(192, 168, 150, 51)];
        off.revoke(Token(7), &addresses);
        assert_eq!(
            off.poll_revoked(),
            Some((Token(7), addresses.map(|address| (address, Renewal::default())).to_vec()))
        );
        assert_eq!(off.poll_revoked(), None);
        assert_eq!(off.scan(), []);
        assert_eq!(off.counters(), [0; Counter::COUNT]);
    }
}
