//! What a key makes of the link between two of ours: Noise NNpsk0, in records. Bytes only; the sockets are elsewhere.
//!
//! ```text
//!   dialler                                                   listener
//!     greeting: "xdk1", 49 bytes (ephemeral key; role)   ->
//!                                                        <-   greeting: "xdk1", 49 bytes (ephemeral key; role)
//!     record with nothing in it                          ->   now it knows that the first greeting is no old one
//!     records                                            <->  records
//!
//!   record:  length of what follows (2 bytes) | ciphertext, at most 16 KiB | tag (16 bytes)
//! ```
//!
//! Only who has the key can write a greeting or read one, so nobody else gets further than that. The role in it keeps a
//! greeting from being held before the server that wrote it. Records are numbered on both sides and never on the wire: one
//! that is missing, comes twice, or has been altered does not open, and the connection ends. A magic number that no plain
//! message begins with tells both kinds apart at the first bytes: a length of 30,827 is beyond what failover allows.

use std::{fmt, sync::Arc};

use snow::{Builder, HandshakeState, StatelessTransportState};

use crate::config::Role;

/// What a protected link begins with, in either direction.
pub(super) const MAGIC: [u8; 4] = *b"xdk1";
/// Length of a greeting without its magic number: an ephemeral key, the role, a tag.
pub(super) const GREETING_LEN: usize = 32 + 1 + TAG_LEN;
/// Length of the record that ends the handshake.
pub(super) const PROOF_LEN: usize = LENGTH_LEN + TAG_LEN;
/// Bytes of a key.
pub(super) const KEY_LEN: usize = 32;
/// Most bytes in one record: a small part of what is read at once, so that little waits to be whole.
const PLAIN_LEN_MAX: usize = 16 * 1024;
const LENGTH_LEN: usize = 2;
const TAG_LEN: usize = 16;
const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// A key that two servers share.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::io) struct Key(pub(super) [u8; KEY_LEN]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Why a link is not trusted (any more); a sentence about the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Distrust {
    /// It does not begin with [`MAGIC`].
    #[error(
        "it speaks without protection, and this server has a key for it: nothing is said (xdhcpd-link-key-file in both \
         files, or in neither)"
    )]
    Plain,
    /// The greeting was not written with our key.
    #[error("it has another key: compare the two files that xdhcpd-link-key-file names")]
    Key,
    /// The greeting is that of a server on our own side.
    #[error("it says that it is the same side as this server: one is `primary`, the other `secondary`")]
    Role,
    /// A record longer than any that is written.
    #[error("a record of its is longer than any may be")]
    RecordTooLong,
    /// A record that cannot hold its own tag.
    #[error("a record of its is shorter than any can be")]
    RecordTooShort,
    /// A record that was not written with this connection's secrets, or is out of its order.
    #[error("a record of its was altered on the way, or is not its own")]
    Altered,
    /// This side cannot write.
    #[error("this server cannot protect what it says")]
    Own,
}

/// Writes records.
#[derive(Debug)]
pub(super) struct Sealer {
    secrets: Secrets,
    number: u64,
}

impl Sealer {
    /// The records that carry these bytes.
    pub(super) fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, Distrust> {
        let mut out = Vec::with_capacity(plain.len() + (plain.len() / PLAIN_LEN_MAX + 1) * (LENGTH_LEN + TAG_LEN));
        for chunk in plain.chunks(PLAIN_LEN_MAX) {
            self.seal_one(chunk, &mut out)?;
        }
        Ok(out)
    }

    fn seal_one(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Distrust> {
        let len = chunk.len() + TAG_LEN;
        out.extend_from_slice(&u16::try_from(len).map_err(|_| Distrust::Own)?.to_be_bytes());
        let at = out.len();
        out.resize(at + len, 0);
        let room = out.get_mut(at..).unwrap_or_default();
        self.secrets.0.write_message(self.number, chunk, room).map_err(|_| Distrust::Own)?;
        self.number += 1;
        Ok(())
    }
}

/// Reads records, in whatever pieces they come.
#[derive(Debug)]
pub(super) struct Opener {
    secrets: Secrets,
    number: u64,
    /// The beginning of a record that is not whole.
    pending: Vec<u8>,
}

impl Opener {
    /// Takes bytes as they came, and gives what is in the records that are whole now.
    pub(super) fn open(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Distrust> {
        self.pending.extend_from_slice(bytes);
        let mut plain = Vec::new();
        let mut rest = self.pending.as_slice();
        while let Some((length, behind)) = rest.split_first_chunk::<LENGTH_LEN>() {
            let len = usize::from(u16::from_be_bytes(*length));
            if len > PLAIN_LEN_MAX + TAG_LEN {
                return Err(Distrust::RecordTooLong);
            }
            if len < TAG_LEN {
                return Err(Distrust::RecordTooShort);
            }
            let Some((record, next)) = behind.split_at_checked(len) else { break };
            let at = plain.len();
            plain.resize(at + len - TAG_LEN, 0);
            let room = plain.get_mut(at..).unwrap_or_default();
            self.secrets.0.read_message(self.number, record, room).map_err(|_| Distrust::Altered)?;
            self.number += 1;
            rest = next;
        }
        let used = self.pending.len() - rest.len();
        self.pending.drain(..used);
        Ok(plain)
    }

    /// Bytes kept of a record that is not whole.
    #[cfg(test)]
    fn pending_len(&self) -> usize {
        self.pending.len()
    }
}

/// Both directions of a link whose partner has the key.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
}

#[derive(Clone)]
struct Secrets(Arc<StatelessTransportState>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Seal {
    fn new(handshake: HandshakeState) -> Result<Self, Distrust> {
        let secrets = Secrets(Arc::new(handshake.into_stateless_transport_mode().map_err(|_| Distrust::Own)?));
        Ok(Self {
            sealer: Sealer { secrets: secrets.clone(), number: 0 },
            opener: Opener { secrets, number: 0, pending: Vec::new() },
        })
    }

    /// The listener's last step: the record that proves that the dialler is there now.
    pub(super) fn accept_proof(&mut self, proof: &[u8]) -> Result<(), Distrust> {
        self.opener.open(proof).map_err(|_| Distrust::Altered)?;
        if self.opener.number == 1 { Ok(()) } else { Err(Distrust::Altered) }
    }
}

/// The dialler's first step, and what it goes on with.
pub(super) struct Greeted(HandshakeState);

impl Greeted {
    /// Begins on the dialling side: what to send.
    pub(super) fn begin(key: &Key, role: Role) -> Result<(Self, Vec<u8>), Distrust> {
        let mut handshake = builder(key)?.build_initiator().map_err(|_| Distrust::Own)?;
        let greeting = greet(&mut handshake, role)?;
        Ok((Self(handshake), greeting))
    }

    /// Takes the listener's greeting without its magic number: the link, and the proof to send.
    pub(super) fn finish(mut self, greeting: &[u8], role: Role) -> Result<(Seal, Vec<u8>), Distrust> {
        read_greeting(&mut self.0, greeting, role)?;
        let mut seal = Seal::new(self.0)?;
        let mut proof = Vec::new();
        seal.sealer.seal_one(&[], &mut proof)?;
        Ok((seal, proof))
    }
}

/// The listener's first step: takes the dialler's greeting without its magic number. The link, which is trusted only
/// after [`Seal::accept_proof`], and what to answer.
pub(super) fn accept(key: &Key, greeting: &[u8], role: Role) -> Result<(Seal, Vec<u8>), Distrust> {
    let mut handshake = builder(key)?.build_responder().map_err(|_| Distrust::Own)?;
    read_greeting(&mut handshake, greeting, role)?;
    let answer = greet(&mut handshake, role)?;
    Ok((Seal::new(handshake)?, answer))
}

fn builder(key: &Key) -> Result<Builder<'_>, Distrust> {
    let pattern = PATTERN.parse().map_err(|_| Distrust::Own)?;
    Builder::new(pattern)
        .psk(0, &key.0)
        .and_then(|builder| builder.prologue(b"xdhcpd failover link 1"))
        .map_err(|_| Distrust::Own)
}

fn greet(handshake: &mut HandshakeState, role: Role) -> Result<Vec<u8>, Distrust> {
    let mut greeting = MAGIC.to_vec();
    greeting.resize(MAGIC.len() + GREETING_LEN, 0);
    let room = greeting.get_mut(MAGIC.len()..).unwrap_or_default();
    match handshake.write_message(&[letter(role)], room) {
        Ok(GREETING_LEN) => Ok(greeting),
        Ok(_) | Err(_) => Err(Distrust::Own),
    }
}

fn read_greeting(handshake: &mut HandshakeState, greeting: &[u8], role: Role) -> Result<(), Distrust> {
    let mut theirs = [0; GREETING_LEN];
    match handshake.read_message(greeting, &mut theirs) {
        Ok(1) if theirs.first() != Some(&letter(role)) => Ok(()),
        Ok(_) => Err(Distrust::Role),
        Err(_) => Err(Distrust::Key),
    }
}

const fn letter(role: Role) -> u8 {
    match role {
        Role::Primary => b'P',
        Role::Secondary => b'S',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Key = Key([7; KEY_LEN]);
    const OTHER: Key = Key([8; KEY_LEN]);

    /// Both ends of a link: the dialler's, the listener's.
    fn link() -> (Seal, Seal) {
        let (greeted, hello) = Greeted::begin(&ONE, Role::Primary).unwrap();
        let (mut listener, answer) = accept(&ONE, &hello[MAGIC.len()..], Role::Secondary).unwrap();
        let (dialler, proof) = greeted.finish(&answer[MAGIC.len()..], Role::Primary).unwrap();
        assert_eq!((hello.len(), proof.len()), (MAGIC.len() + GREETING_LEN, PROOF_LEN));
        listener.accept_proof(&proof).unwrap();
        (dialler, listener)
    }

    #[test]
    fn what_goes_in_comes_out_however_it_is_cut() {
        let plain: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        for piece in [1, 2, 17, 1000, 32 * 1024, 200_000] {
            let (mut dialler, mut listener) = link();
            for (from, to) in [(0, 1), (1, 0)] {
                let (from, to) = if from < to { (&mut dialler, &mut listener) } else { (&mut listener, &mut dialler) };
                let sealed = from.sealer.seal(&plain).unwrap();
                assert_eq!(sealed.len(), plain.len() + 7 * (LENGTH_LEN + TAG_LEN));
                let windows = |text: &[u8]| plain.windows(16).any(|window| text.windows(16).any(|one| one == window));
                assert!(!windows(&sealed[..1000]), "nothing of it can be read");
                let mut opened = Vec::new();
                for bytes in sealed.chunks(piece) {
                    opened.extend(to.opener.open(bytes).unwrap());
                    assert!(to.opener.pending_len() < LENGTH_LEN + PLAIN_LEN_MAX + TAG_LEN, "never more than a record");
                }
                assert!(opened == plain, "in pieces of {piece}");
                assert_eq!(to.opener.pending_len(), 0);
            }
        }
        let (mut dialler, _) = link();
        assert!(dialler.sealer.seal(&[]).unwrap().is_empty(), "nothing to say is no record");
    }

    #[test]
    fn a_cut_record_is_not_given_and_an_altered_one_ends_the_link() {
        let (mut dialler, mut listener) = link();
        let sealed = dialler.sealer.seal(b"the first").unwrap();
        assert_eq!(listener.opener.open(&sealed[..sealed.len() - 1]), Ok(Vec::new()));
        assert_eq!(listener.opener.open(&sealed[sealed.len() - 1..]), Ok(b"the first".to_vec()));
        for at in LENGTH_LEN..sealed.len() {
            let (mut dialler, mut listener) = link();
            let mut sealed = dialler.sealer.seal(b"the first").unwrap();
            sealed[at] ^= 1;
            assert_eq!(listener.opener.open(&sealed), Err(Distrust::Altered), "byte {at}");
        }
    }

    #[test]
    fn a_record_that_is_repeated_left_out_or_sent_back_ends_the_link() {
        let (mut dialler, mut listener) = link();
        let sealed = dialler.sealer.seal(b"once").unwrap();
        listener.opener.open(&sealed).unwrap();
        assert_eq!(listener.opener.open(&sealed), Err(Distrust::Altered), "repeated");

        let (mut dialler, mut listener) = link();
        dialler.sealer.seal(b"lost").unwrap();
        let second = dialler.sealer.seal(b"second").unwrap();
        assert_eq!(listener.opener.open(&second), Err(Distrust::Altered), "the one before is missing");

        let (mut dialler, _) = link();
        let own = dialler.sealer.seal(b"mirror").unwrap();
        assert_eq!(dialler.opener.open(&own), Err(Distrust::Altered), "one's own");

        let (mut dialler, _) = link();
        let (_, mut other) = link();
        let foreign = dialler.sealer.seal(b"of another connection").unwrap();
        assert_eq!(other.opener.open(&foreign), Err(Distrust::Altered), "of another connection");
    }

    #[test]
    fn lengths_that_nobody_writes_are_refused_before_anything_is_kept() {
        let (_, mut listener) = link();
        assert_eq!(listener.opener.open(&[0xff, 0xff]), Err(Distrust::RecordTooLong));
        let (_, mut listener) = link();
        let longest = u16::try_from(PLAIN_LEN_MAX + TAG_LEN).unwrap();
        assert_eq!(listener.opener.open(&longest.to_be_bytes()), Ok(Vec::new()), "the longest is waited for");
        let (_, mut listener) = link();
        assert_eq!(listener.opener.open(&(longest + 1).to_be_bytes()), Err(Distrust::RecordTooLong));
        let (_, mut listener) = link();
        assert_eq!(listener.opener.open(&[0, 15]), Err(Distrust::RecordTooShort));
    }

    #[test]
    fn a_greeting_needs_the_key_and_the_other_role() {
        let (greeted, hello) = Greeted::begin(&ONE, Role::Primary).unwrap();
        let hello = &hello[MAGIC.len()..];
        assert_eq!(accept(&OTHER, hello, Role::Secondary).err(), Some(Distrust::Key));
        assert_eq!(accept(&ONE, hello, Role::Primary).err(), Some(Distrust::Role), "a mirror");
        assert_eq!(accept(&ONE, &hello[..20], Role::Secondary).err(), Some(Distrust::Key));
        assert_eq!(accept(&ONE, &[0; GREETING_LEN], Role::Secondary).err(), Some(Distrust::Key));
        let (_, stranger) = Greeted::begin(&OTHER, Role::Secondary).unwrap();
        assert_eq!(greeted.finish(&stranger[MAGIC.len()..], Role::Primary).err(), Some(Distrust::Key));
    }

    #[test]
    fn an_old_greeting_opens_nothing() {
        let (greeted, hello) = Greeted::begin(&ONE, Role::Primary).unwrap();
        let (_, answer) = accept(&ONE, &hello[MAGIC.len()..], Role::Secondary).unwrap();
        let (_, proof) = greeted.finish(&answer[MAGIC.len()..], Role::Primary).unwrap();
        // Both are sent again by somebody who has recorded them: the answer is another one now.
        let (mut again, _) = accept(&ONE, &hello[MAGIC.len()..], Role::Secondary).unwrap();
        assert_eq!(again.accept_proof(&proof), Err(Distrust::Altered));
    }

    #[test]
    fn no_plain_message_begins_like_a_greeting() {
        let length = usize::from(u16::from_be_bytes([MAGIC[0], MAGIC[1]]));
        assert!(length > crate::failover::limits::MESSAGE_LEN_MAX);
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let (dialler, _) = link();
        assert_eq!(format!("{ONE:?}"), "Key(..)");
        assert!(format!("{dialler:?}").contains("Secrets(..)"));
    }
}
