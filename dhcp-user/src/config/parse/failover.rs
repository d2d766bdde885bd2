//! Failover peers, their `state` blocks and the references of pools (reference section 10).

use super::suggest::nearest;
use super::{Frame, Parsed, Parser, Place, Reported};
use crate::config::ids::PeerId;
use crate::config::lexer::Kind;
use crate::config::limits::PEER_COUNT_MAX;
use crate::config::model::{FailoverPeer, Role, StateBootstrap, StateName};
use crate::config::param::LINK_KEY_FILE;
use crate::config::span::Span;

/// Shortest `mclt` that does not earn a warning, in seconds.
const MCLT_SENSIBLE_MIN: u32 = 60;

pub(super) const SETTINGS: &[&str] = &[
    "primary",
    "secondary",
    "address",
    "port",
    "peer",
    "max-response-delay",
    "max-unacked-updates",
    "mclt",
    "split",
    "hba",
    "load",
    "auto-partner-down",
    "max-lease-misbalance",
    "max-lease-ownership",
    "min-balance",
    "max-balance",
    LINK_KEY_FILE,
];

impl Parser<'_> {
    /// `failover peer N { ... }`, `failover peer N state { ... }`, or a reference `failover peer "N";`
    pub(super) fn failover(&mut self, frame: &Frame) -> Parsed<()> {
        let start = self.next().span;
        self.expect_word("peer")?;
        let token = self.peek();
        let name = match token.kind {
            Kind::String => self.quoted("the name of the failover peer")?.0,
            _ if frame.place == Place::Pool => {
                return self.fail(token.span, "expected the name of the failover peer in quotes", "");
            }
            _ => self.dotted_name("the name of the failover peer")?.0,
        };
        let span = start.to(self.last);
        if self.eat(b';') {
            return self.failover_reference(frame, &name, span);
        }
        if !matches!(frame.place, Place::Root | Place::SharedNetwork) {
            return self.misplaced(start, "failover peer", frame.place, "the top level and shared networks");
        }
        if self.eat_word("state") {
            return self.failover_state(&name, span);
        }
        self.failover_declaration(&name, span)
    }

    /// `no failover peer;` in a pool.
    pub(super) fn no_failover(&mut self, frame: &Frame) -> Parsed<()> {
        self.next();
        self.expect_word("failover")?;
        self.expect_word("peer")?;
        if self.peek().kind == Kind::String {
            self.next();
        }
        self.semicolon()?;
        if let Some(pool) = frame.pool.and_then(|pool| self.config.pools.get_mut(pool.0)) {
            pool.failover = None;
        }
        Ok(())
    }

    fn peer_by_name(&self, name: &str) -> Option<PeerId> {
        self.config.failover_peers.iter().position(|peer| *peer.name == *name).map(PeerId)
    }

    fn unknown_peer<T>(&mut self, name: &str, span: Span) -> Parsed<T> {
        self.error(span, format!("no failover peer named \"{name}\""), "it must be declared before it is used");
        self.suggest_known(|config| nearest(name, config.failover_peers.iter().map(|peer| &*peer.name)));
        Err(Reported)
    }

    fn failover_reference(&mut self, frame: &Frame, name: &str, span: Span) -> Parsed<()> {
        if !matches!(frame.place, Place::Pool | Place::SharedNetwork) {
            return self.misplaced(span, "failover peer ...;", frame.place, "pools and shared networks");
        }
        let Some(peer) = self.peer_by_name(name) else {
            return self.unknown_peer(name, span);
        };
        if let Some(pool) = frame.pool {
            self.peers_used.insert(peer);
            if let Some(pool) = self.config.pools.get_mut(pool.0) {
                pool.failover = Some(peer);
            }
        } else if let Some(network) = frame.network {
            self.network_peers.insert(network, peer);
        }
        Ok(())
    }

    fn failover_declaration(&mut self, name: &str, span: Span) -> Parsed<()> {
        let open = self.expect(b'{')?;
        let mut peer = FailoverPeer {
            name: name.into(),
            role: Role::Primary,
            address: None,
            port: 647,
            peer_address: None,
            peer_port: 647,
            max_response_delay: 20,
            max_unacked: 100,
            mclt: 0,
            hba: None,
            split: None,
            load_balance_max_secs: 0,
            auto_partner_down: 0,
            max_lease_misbalance: 15,
            max_lease_ownership: 10,
            min_balance: 60,
            max_balance: 3600,
            link_key_file: None,
            bootstrap: None,
            span,
        };
        let errors = self.errors_count();
        let mut has_role = false;
        loop {
            match self.peek().kind {
                Kind::Punct(b'}') => {
                    self.next();
                    break;
                }
                Kind::End => return self.unclosed(open),
                Kind::Punct(_) | Kind::Name | Kind::Number | Kind::NumberOrName | Kind::String => {}
            }
            let before = self.last;
            if self.failover_setting(&mut peer, &mut has_role) == Err(Reported) {
                self.recover(before);
            }
        }
        self.eat(b';');
        if errors == self.errors_count() {
            self.check_peer(&peer, has_role);
        }
        if let Some(first) = self.peer_by_name(name) {
            let first = self.config.failover_peers.get(first.0).map(|peer| peer.span).unwrap_or_default();
            self.error(span, format!("failover peer \"{name}\" is declared twice"), "");
            self.other(first, "first declared here");
            return Err(Reported);
        }
        if self.config.failover_peers.len() >= PEER_COUNT_MAX {
            return self.fail(span, "too many failover peers", format!("at most {PEER_COUNT_MAX}"));
        }
        self.config.failover_peers.push(peer);
        Ok(())
    }

    fn failover_setting(&mut self, peer: &mut FailoverPeer, has_role: &mut bool) -> Parsed<()> {
        let (word, token) = self.word("a setting of the failover peer")?;
        let mut word = word.to_ascii_lowercase();
        let mut of_peer = false;
        if word == "peer" {
            of_peer = true;
            let (second, token) = self.word("`address`, `port`, `max-response-delay` or `max-unacked-updates`")?;
            word = second.to_ascii_lowercase();
            if !matches!(&*word, "address" | "port" | "max-response-delay" | "max-unacked-updates") {
                return self.fail(
                    token.span,
                    format!("unknown setting `peer {second}`"),
                    "`address` or `port` may follow",
                );
            }
        }
        match (&*word, of_peer) {
            ("primary" | "secondary", _) => {
                peer.role = if word == "primary" { Role::Primary } else { Role::Secondary };
                *has_role = true;
            }
            ("address", false) => peer.address = Some(self.address()?.0),
            ("address", true) => peer.peer_address = Some(self.address()?.0),
            ("port", false) => peer.port = self.port()?,
            ("port", true) => peer.peer_port = self.port()?,
            ("max-response-delay", false) => peer.max_response_delay = self.unsigned(u32::MAX)?,
            ("max-unacked-updates", false) => peer.max_unacked = self.unsigned(u32::MAX)?,
            // The partner says these itself when it connects.
            ("max-response-delay" | "max-unacked-updates", true) => {
                self.unsigned(u32::MAX)?;
            }
            ("mclt", _) => peer.mclt = self.unsigned(u32::MAX)?,
            ("split", _) => {
                let at = self.peek().span;
                let split = self.unsigned(u32::MAX)?;
                if split > 256 {
                    return self.fail(at, format!("{split} is out of range"), "`split` goes from 0 to 256");
                }
                if peer.role == Role::Secondary {
                    return self.fail(token.span, "`split` is not allowed on a secondary", "the primary decides");
                }
                peer.split = u16::try_from(split).ok();
                peer.hba = Some(hba_of_split(split));
            }
            ("hba", _) => {
                let bytes = self.octets()?;
                let span = token.span.to(self.last);
                if peer.role == Role::Secondary {
                    return self.fail(token.span, "`hba` is not allowed on a secondary", "the primary decides");
                }
                let Ok(hba) = <[u8; 32]>::try_from(&*bytes) else {
                    return self.fail(span, "`hba` wants exactly 32 octets", format!("this has {}", bytes.len()));
                };
                peer.split = None;
                peer.hba = Some(hba);
            }
            ("load", _) => {
                self.expect_word("balance")?;
                self.expect_word("max")?;
                self.expect_word("seconds")?;
                peer.load_balance_max_secs = self.unsigned(u32::MAX)?;
            }
            ("auto-partner-down", _) => peer.auto_partner_down = self.unsigned(u32::MAX)?,
            ("max-lease-misbalance", _) => peer.max_lease_misbalance = or_default(self.unsigned(u32::MAX)?, 15),
            ("max-lease-ownership", _) => peer.max_lease_ownership = or_default(self.unsigned(u32::MAX)?, 10),
            ("min-balance", _) => peer.min_balance = or_default(self.unsigned(u32::MAX)?, 60),
            (LINK_KEY_FILE, false) => {
                let (path, at) = self.quoted("the name of the file with the key")?;
                if !path.starts_with('/') || path.chars().any(char::is_control) {
                    return self.fail(at, "the file with the key wants its whole path", "it begins with `/`");
                }
                peer.link_key_file = Some(path.into());
                self.config.extensions.push((LINK_KEY_FILE, token.span));
            }
            ("max-balance", _) => peer.max_balance = or_default(self.unsigned(u32::MAX)?, 3600),
            _ => {
                self.error(token.span, format!("unknown setting `{word}`"), "of a failover peer");
                self.suggest(&word, SETTINGS.iter().copied());
                return Err(Reported);
            }
        }
        self.semicolon()
    }

    fn port(&mut self) -> Parsed<u16> {
        let port = self.number(1, 65_535)?;
        Ok(u16::try_from(port).unwrap_or(u16::MAX))
    }

    fn check_peer(&mut self, peer: &FailoverPeer, has_role: bool) {
        let span = peer.span;
        let name = &peer.name;
        if !has_role {
            self.warning(span, format!("failover peer \"{name}\" does not say its role"), "taken as `primary`");
        }
        if peer.peer_address.is_none() {
            self.error(span, format!("failover peer \"{name}\" has no `peer address`"), "it is mandatory");
        }
        if peer.address.is_none() {
            self.warning(span, format!("failover peer \"{name}\" has no `address`"), "dhcpd stops at once without one");
        }
        if peer.role == Role::Primary {
            if peer.mclt == 0 {
                self.error(span, format!("failover peer \"{name}\" has no `mclt`"), "mandatory on the primary");
            } else if peer.mclt < MCLT_SENSIBLE_MIN {
                self.warning(
                    span,
                    format!("`mclt {}` gives new clients a first lease of {} s", peer.mclt, peer.mclt),
                    "600 to 3600 is usual",
                );
                self.note("until the partner has acknowledged, a lease is no longer than the MCLT; it overrides `min-lease-time`");
            }
            if peer.hba.is_none() {
                self.error(
                    span,
                    format!("failover peer \"{name}\" has neither `split` nor `hba`"),
                    "the primary needs one",
                );
            }
        }
        if peer.load_balance_max_secs == 0 {
            self.warning(
                span,
                format!("failover peer \"{name}\" has no `load balance max seconds`"),
                "balancing is off",
            );
            self.note("both servers then answer every client; `load balance max seconds 3;` is usual");
        }
    }

    /// `failover peer N state { my state S [at DATE]; partner state S [at DATE]; [mclt N;] }`
    fn failover_state(&mut self, name: &str, span: Span) -> Parsed<()> {
        let Some(id) = self.peer_by_name(name) else {
            return self.unknown_peer(name, span);
        };
        let open = self.expect(b'{')?;
        let mut state =
            StateBootstrap { my_state: None, my_at: None, partner_state: None, partner_at: None, mclt: None, span };
        loop {
            match self.peek().kind {
                Kind::Punct(b'}') => {
                    self.next();
                    break;
                }
                Kind::End => return self.unclosed(open),
                Kind::Punct(_) | Kind::Name | Kind::Number | Kind::NumberOrName | Kind::String => {}
            }
            let before = self.last;
            if self.state_line(&mut state, id) == Err(Reported) {
                self.recover(before);
            }
        }
        self.eat(b';');
        if let Some(peer) = self.config.failover_peers.get_mut(id.0) {
            peer.bootstrap = Some(state);
        }
        Ok(())
    }

    fn state_line(&mut self, state: &mut StateBootstrap, peer: PeerId) -> Parsed<()> {
        let (word, token) = self.word("`my state`, `partner state` or `mclt`")?;
        match &*word.to_ascii_lowercase() {
            "my" => {
                self.expect_word("state")?;
                state.my_state = Some(self.state_name()?);
                state.my_at = self.state_date()?;
            }
            "partner" | "peer" => {
                self.expect_word("state")?;
                state.partner_state = Some(self.state_name()?);
                state.partner_at = self.state_date()?;
            }
            "mclt" => {
                let mclt = self.unsigned(u32::MAX)?;
                if self.config.failover_peers.get(peer.0).is_some_and(|peer| peer.role == Role::Primary) {
                    return self.fail(
                        token.span,
                        "`mclt` does not belong to the state of a primary",
                        "it is in the declaration",
                    );
                }
                state.mclt = Some(mclt);
            }
            _ => {
                self.error(
                    token.span,
                    format!("unknown word `{word}` in a state"),
                    "`my state`, `partner state` or `mclt`",
                );
                return Err(Reported);
            }
        }
        self.semicolon()
    }

    fn state_name(&mut self) -> Parsed<StateName> {
        let (word, token) = self.word("the name of a state")?;
        if let Some(state) = StateName::ALL.iter().find(|state| state.name().eq_ignore_ascii_case(&word)) {
            return Ok(*state);
        }
        self.error(token.span, format!("unknown state `{word}`"), "as in `normal` or `partner-down`");
        self.suggest(&word, StateName::ALL.iter().map(|state| state.name()));
        Err(Reported)
    }

    fn state_date(&mut self) -> Parsed<Option<u32>> {
        if self.eat_word("at") { self.date().map(Some) } else { Ok(None) }
    }

    /// Findings that need the whole text: peers nobody refers to.
    pub(super) fn check_peers(&mut self) {
        let unused: Vec<(String, Span)> = self
            .config
            .failover_peers
            .iter()
            .enumerate()
            .filter(|(place, _)| !self.peers_used.contains(&PeerId(*place)))
            .map(|(_, peer)| (peer.name.to_string(), peer.span))
            .collect();
        for (name, span) in unused {
            self.error(span, format!("no pool refers to failover peer \"{name}\""), "dhcpd refuses to start");
            self.note(format!("put `failover peer \"{name}\";` into the pools it shares; elsewhere it does not count"));
        }
    }
}

/// Zero means the default (dhcpd).
const fn or_default(value: u32, default: u32) -> u32 {
    if value == 0 { default } else { value }
}

/// Bits for the hash values below `split` (failover: bit set = the primary serves).
fn hba_of_split(split: u32) -> [u8; 32] {
    let mut hba = [0_u8; 32];
    for (place, byte) in hba.iter_mut().enumerate() {
        for bit in 0..8_u32 {
            let value = u32::try_from(place).unwrap_or(0).saturating_mul(8).saturating_add(bit);
            if value < split {
                *byte |= 1 << bit;
            }
        }
    }
    hba
}

#[cfg(test)]
mod tests {
    use super::hba_of_split;

    #[test]
    fn a_split_sets_the_bits_below_it() {
        assert_eq!(hba_of_split(0), [0; 32]);
        assert_eq!(hba_of_split(256), [0xff; 32]);
        let half = hba_of_split(128);
        assert_eq!((&half[..16], &half[16..]), (&[0xff; 16][..], &[0; 16][..]));
        assert_eq!(hba_of_split(3)[0], 0b111);
    }
}
