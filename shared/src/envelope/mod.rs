//! Sealed mail: one mechanism carries every order and every report (PROTOCOL 3).
//!
//! ```text
//! attachment of a mail
//! offset  size  field
//! 0       8     magic "MAILFLT1"
//! 8       8     key ID of the sender's Ed25519 key
//! 16      4     length n of the header, big-endian
//! 20      n     header, CBOR (see `header`)
//! 20+n    64    Ed25519 signature over label "mailfleet/envelope/v1" and bytes 8 .. 20+n
//! 84+n    4     index of the part that follows, big-endian; 2^32 - 1: none follows
//! 88+n    …     the part: a slice of the body, see `cut`
//!
//! body = chunks of ciphertext, see `body`; before the whole, there may be trust statements, see `trust`
//! ```
//!
//! Why not OpenPGP, CMS or age: each lacks one of "encrypted once for many", "signed by a pinned key", "in
//! constant memory", and gateways quarantine what they recognise. Why not HPKE's own authenticated mode:
//! its successor drops it, and every recipient of a group could forge for the others.
//!
//! Not here: freshness (expiry, repeats) is decided by the cores, which hold the memory it needs.

mod body;
mod cut;
mod header;

pub use body::{ContentKey, SealedBody, check_body, check_part, open_body, seal_body};
pub use cut::{Brings, Cut};
pub use header::{Header, NewHeader, PartInfo, RawHead, seal_head, seal_part_head};

use std::io;

use rand_core::CryptoRng;
use thiserror::Error;

use crate::id::{Digest, EnvelopeId, KeyId};
use crate::keys::{SealingKey, SigningKey};
use crate::limits::{HEADER_MAX_BYTES, SLOTS_MAX_COUNT};
use crate::time::UnixMillis;
use crate::trust::TrustError;

/// First bytes of every attachment of ours.
pub const MAGIC: [u8; 8] = *b"MAILFLT1";

/// Seals a message without payload in memory: the whole attachment.
///
/// # Errors
/// No recipient, or too many.
pub fn seal_small(
    new: &NewSmall,
    message: &[u8],
    recipients: &[SealingKey],
    signer: &SigningKey,
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, SealError> {
    let mut key = [0u8; 32];
    rng.fill_bytes(&mut key);
    let key = ContentKey::from_bytes(key);
    let mut body = Vec::new();
    let sealed = seal_body(&key, message, &mut io::empty(), &mut body).map_err(SealError::Body)?;
    let header = NewHeader {
        id: new.id,
        created: new.created,
        expires: new.expires,
        sequence: new.sequence,
        body: sealed,
    };
    let mut attachment = seal_head(&header, &key, recipients, signer, rng)?;
    attachment.extend_from_slice(&body);
    Ok(attachment)
}

/// Identity and life of a small envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSmall {
    /// Random identity.
    pub id: EnvelopeId,
    /// When it was made, by the sender's clock.
    pub created: UnixMillis,
    /// From when on it must not be executed.
    pub expires: UnixMillis,
    /// The sender's next sequence number.
    pub sequence: u64,
}

/// An envelope that cannot be sealed.
#[derive(Debug, Error)]
pub enum SealError {
    /// None, or more than fit.
    #[error("{found} recipients, expected 1 to {SLOTS_MAX_COUNT}")]
    Recipients {
        /// How many there were.
        found: usize,
    },
    /// A recipient's public key was refused by the key exchange.
    #[error("a recipient's key cannot be sealed to")]
    Key,
    /// The body could not be written.
    #[error("cannot seal the body")]
    Body(#[source] io::Error),
}

/// An attachment that is not a sound envelope for us. Whoever gets one treats its mail as junk; only
/// [`EnvelopeError::Read`] is our own trouble.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// The attachment could not be read from where we keep it.
    #[error("cannot read the attachment")]
    Read(#[source] io::Error),
    /// It ends too early.
    #[error("the envelope is cut off in its {place}")]
    Truncated {
        /// What was being read.
        place: &'static str,
    },
    /// A trust statement before it cannot be read.
    #[error("cannot read what introduces the envelope")]
    Introduction(#[source] TrustError),
    /// It does not begin with [`MAGIC`].
    #[error("not an envelope of this protocol (expected it to begin with \"MAILFLT1\")")]
    NotOurs,
    /// The header is longer than the limit.
    #[error("header of {found} bytes, expected at most {HEADER_MAX_BYTES}")]
    HeaderTooLarge {
        /// Its claimed length.
        found: usize,
    },
    /// Signed by another key than the one given.
    #[error("signed by key {found}, expected {expected}")]
    OtherSender {
        /// The key that was expected.
        expected: KeyId,
        /// The key that the envelope names.
        found: KeyId,
    },
    /// The signature is wrong: forged or altered.
    #[error("the envelope's signature does not match: altered, or forged")]
    Signature,
    /// Signed, but its header is not of this version.
    #[error("cannot read the header")]
    Header(#[source] minicbor::decode::Error),
    /// A signed header whose numbers contradict each other.
    #[error("the header contradicts itself: {why}")]
    Contradiction {
        /// What does not fit.
        why: &'static str,
    },
    /// The body comes in several parts where only one is taken.
    #[error("the envelope has {found} parts, expected one")]
    ManyParts {
        /// How many.
        found: usize,
    },
    /// No slot is for our key.
    #[error("the envelope is for other recipients")]
    NotForUs,
    /// Our slot does not open to the key that the header commits to.
    #[error("the slot for us holds another key than the header says")]
    Slot,
    /// The body is not the one that was signed.
    #[error(
        "the body does not match the header: expected {expected_bytes} bytes, {expected}; found {found_bytes} bytes, {found}"
    )]
    BodyDigest {
        /// Signed length.
        expected_bytes: u64,
        /// Signed digest.
        expected: Digest,
        /// Length found.
        found_bytes: u64,
        /// Digest found.
        found: Digest,
    },
    /// A chunk of the body does not decrypt.
    #[error("chunk {index} of the body does not decrypt")]
    Chunk {
        /// Its index from 0.
        index: u32,
    },
    /// The message in the body is too long.
    #[error("message of {found} bytes, expected at most {}", crate::limits::MESSAGE_MAX_BYTES)]
    MessageTooLarge {
        /// Its claimed length.
        found: usize,
    },
}

impl EnvelopeError {
    /// True if the mail is not to blame: reading our own disk failed, so the mail must stay.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Introduction(TrustError::Read(_)))
    }
}

#[cfg(test)]
mod tests;
