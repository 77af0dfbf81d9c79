//! Whom an agent trusts, and how that changes: the trust statement (PROTOCOL 11). It names the order keys, the
//! release keys and how many of them must sign, and the manager's opening key. Only release keys can make a
//! new one, so whoever takes over the manager, which is online, cannot.
//!
//! ```text
//! statement
//! offset  size  field
//! 0       8     magic "MAILFLK1"
//! 8       4     length n of the trust, big-endian
//! 12      n     trust, CBOR
//! 12+n    1     number k of signatures, 0 to 16
//! 13+n    72·k  signatures: key ID of a release key (8), signature (64) over label "mailfleet/trust/v1" and the trust
//!
//! trust = { 0: 1, 1: uint version, 2: int made, 3: [+ order key], 4: [+ release key], 5: uint threshold, 6: opening key }
//! ```
//!
//! Statements stand in a file one after the other, and before an envelope in the same attachment: a mail can
//! bring the statement that introduces the key it is signed by. Why not in the envelope: an agent that does
//! not know the envelope's key yet must be able to read them.

use std::collections::BTreeSet;
use std::io::{self, Read};

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::id::KeyId;
use crate::keys::{SealingKey, SigningKey, VerifyingKey};
use crate::limits::{
    ORDER_KEYS_MAX_COUNT, RELEASE_SIGNATURES_MAX_COUNT, TRUST_MAX_BYTES, TRUST_SIGNATURES_MAX_COUNT,
};
use crate::message::encode;
use crate::time::UnixMillis;

/// First bytes of a statement.
pub const MAGIC: [u8; 8] = *b"MAILFLK1";

const SIGNATURE_LABEL: &str = "mailfleet/trust/v1";
const FORMAT_VERSION: u8 = 1;

/// The keys that an agent believes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Trust {
    #[n(0)]
    format: u8,
    /// Only rises. The first is 1.
    #[n(1)]
    pub version: u32,
    /// When it was made, by its maker's clock.
    #[n(2)]
    pub made: UnixMillis,
    /// Keys whose orders count; the manager signs with the first.
    #[n(3)]
    pub order_keys: Vec<VerifyingKey>,
    /// Keys that sign bundles and the next statement.
    #[n(4)]
    pub release_keys: Vec<VerifyingKey>,
    /// So many different release keys must have signed.
    #[n(5)]
    pub threshold: u8,
    /// The key that reports are sealed to.
    #[n(6)]
    pub seal_key: SealingKey,
}

impl Trust {
    /// The first trust of a manager, or one that a later statement will replace.
    #[must_use]
    pub fn new(
        version: u32,
        made: UnixMillis,
        order_keys: Vec<VerifyingKey>,
        release_keys: Vec<VerifyingKey>,
        threshold: u8,
        seal_key: SealingKey,
    ) -> Self {
        Self { format: FORMAT_VERSION, version, made, order_keys, release_keys, threshold, seal_key }
    }

    /// The order key of this ID.
    #[must_use]
    pub fn order_key(&self, id: KeyId) -> Option<&VerifyingKey> {
        self.order_keys.iter().find(|key| key.key_id() == id)
    }

    /// Checks what no statement may say (PROTOCOL 11.4).
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), TrustError> {
        let bad = |why| Err(TrustError::Contradiction { why });
        if self.format != FORMAT_VERSION {
            return bad("its format version is not 1");
        }
        if self.version == 0 {
            return bad("its version is 0");
        }
        if !(1..=ORDER_KEYS_MAX_COUNT).contains(&self.order_keys.len()) {
            return bad("it does not name 1 to 4 order keys");
        }
        if !(1..=RELEASE_SIGNATURES_MAX_COUNT).contains(&self.release_keys.len()) {
            return bad("it does not name 1 to 8 release keys");
        }
        let orders: BTreeSet<_> = self.order_keys.iter().map(VerifyingKey::to_bytes).collect();
        let releases: BTreeSet<_> = self.release_keys.iter().map(VerifyingKey::to_bytes).collect();
        if orders.len() != self.order_keys.len() || releases.len() != self.release_keys.len() {
            return bad("it names a key twice");
        }
        // PROTOCOL 2.1: the online key must not be one that makes bundles.
        if !orders.is_disjoint(&releases) {
            return bad("an order key is a release key too");
        }
        if self.threshold == 0 || usize::from(self.threshold) > self.release_keys.len() {
            return bad("its threshold is not 1 to the number of its release keys");
        }
        Ok(())
    }
}

/// How many different keys of `keys` have signed `message`.
pub(crate) fn count_signers(
    label: &str,
    message: &[u8],
    signatures: &[(KeyId, [u8; 64])],
    keys: &[VerifyingKey],
) -> Vec<KeyId> {
    let signed = |key: &&VerifyingKey| {
        let id = key.key_id();
        signatures.iter().any(|(by, signature)| *by == id && key.verify(label, message, signature).is_ok())
    };
    let signers: BTreeSet<KeyId> = keys.iter().filter(signed).map(VerifyingKey::key_id).collect();
    signers.into_iter().collect()
}

/// A trust with the signatures under it. Means nothing before [`Statement::accept`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    trust: Vec<u8>,
    signatures: Vec<(KeyId, [u8; 64])>,
}

impl Statement {
    /// A statement that nobody has signed yet.
    #[must_use]
    pub fn unsigned(trust: &Trust) -> Self {
        Self { trust: encode(trust), signatures: Vec::new() }
    }

    /// Adds a release key's signature; again, it changes nothing.
    pub fn sign(&mut self, key: &SigningKey) {
        let id = key.verifying_key().key_id();
        self.signatures.retain(|(by, _)| *by != id);
        self.signatures.push((id, key.sign(SIGNATURE_LABEL, &self.trust)));
    }

    /// The keys that claim to have signed.
    #[must_use]
    pub fn signers(&self) -> Vec<KeyId> {
        self.signatures.iter().map(|(by, _)| *by).collect()
    }

    /// Takes over the signatures of another copy of the same statement. False: it is another statement.
    pub fn join(&mut self, other: &Self) -> bool {
        if self.trust != other.trust {
            return false;
        }
        for (by, signature) in &other.signatures {
            if !self.signatures.iter().any(|(there, _)| there == by) {
                self.signatures.push((*by, *signature));
            }
        }
        true
    }

    /// Reads one statement, magic included. Bounded.
    ///
    /// # Errors
    /// Not a statement, cut off, over a limit, or the reader failed.
    pub fn read(from: &mut impl Read) -> Result<Self, TrustError> {
        if read_array::<8>(from)? != MAGIC {
            return Err(TrustError::NotOurs);
        }
        Self::read_rest(from)
    }

    /// Reads one statement whose magic was read already.
    pub(crate) fn read_rest(from: &mut impl Read) -> Result<Self, TrustError> {
        let length = u32::from_be_bytes(read_array::<4>(from)?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > TRUST_MAX_BYTES {
            return Err(TrustError::TooLarge { found: length });
        }
        let mut trust = vec![0u8; length];
        read_exact(from, &mut trust)?;
        let [count] = read_array::<1>(from)?;
        if usize::from(count) > TRUST_SIGNATURES_MAX_COUNT {
            return Err(TrustError::Signatures { found: count });
        }
        let mut signatures = Vec::new();
        for _ in 0..count {
            signatures.push((KeyId(read_array::<8>(from)?), read_array::<64>(from)?));
        }
        Ok(Self { trust, signatures })
    }

    /// Reads statements to the end.
    ///
    /// # Errors
    /// As [`Statement::read`].
    pub fn read_all(mut bytes: &[u8]) -> Result<Vec<Self>, TrustError> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            all.push(Self::read(&mut bytes)?);
        }
        Ok(all)
    }

    /// The bytes that [`Statement::read`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Both are bounded far below their fields' range by `check` and `read`.
        let length = u32::try_from(self.trust.len()).unwrap_or(u32::MAX);
        let count = u8::try_from(self.signatures.len()).unwrap_or(u8::MAX);
        let mut bytes = [MAGIC.as_slice(), &length.to_be_bytes(), &self.trust, &[count]].concat();
        for (by, signature) in &self.signatures {
            bytes.extend_from_slice(&by.0);
            bytes.extend_from_slice(signature);
        }
        bytes
    }

    /// What it says, to show it to a person or to sign it. Believe it only after [`Statement::accept`].
    ///
    /// # Errors
    /// Not a trust, or one that contradicts itself.
    pub fn inspect_unverified(&self) -> Result<Trust, TrustError> {
        let trust: Trust = minicbor::decode(&self.trust).map_err(TrustError::Decode)?;
        trust.check()?;
        Ok(trust)
    }

    /// The trust that comes after `known`, if enough of its release keys say so, and enough of the new ones.
    ///
    /// # Errors
    /// Too few signatures, not newer, or not a sound trust.
    pub fn accept(&self, known: &Trust) -> Result<Trust, TrustError> {
        // PROTOCOL 11.1: nothing is decoded before enough release keys that are trusted now have signed.
        self.enough(&known.release_keys, known.threshold, "trusted now")?;
        let trust = self.inspect_unverified()?;
        // PROTOCOL 11.2
        if trust.version <= known.version {
            return Err(TrustError::NotNewer { known: known.version, found: trust.version });
        }
        // PROTOCOL 11.3: a threshold of keys that nobody holds would lock everyone out.
        self.enough(&trust.release_keys, trust.threshold, "named in it")?;
        Ok(trust)
    }

    fn enough(&self, keys: &[VerifyingKey], needed: u8, which: &'static str) -> Result<(), TrustError> {
        let found = count_signers(SIGNATURE_LABEL, &self.trust, &self.signatures, keys).len();
        if found < usize::from(needed) { Err(TrustError::TooFew { which, needed, found }) } else { Ok(()) }
    }
}

/// What an agent of any age needs to follow: the statements that changed the release keys or their threshold, and
/// the newest. `chain` begins with version 1, which agents know from their invitation.
#[must_use]
pub fn introduction(chain: &[Statement]) -> Vec<u8> {
    let trusts: Vec<Option<Trust>> = chain.iter().map(|s| s.inspect_unverified().ok()).collect();
    let mut bytes = Vec::new();
    for (index, pair) in trusts.windows(2).enumerate() {
        let [Some(before), Some(after)] = pair else { continue };
        let rekeyed = before.release_keys != after.release_keys || before.threshold != after.threshold;
        let at = index.saturating_add(1);
        let newest = at.saturating_add(1) == chain.len();
        if (rekeyed || newest)
            && let Some(statement) = chain.get(at)
        {
            bytes.extend(statement.to_bytes());
        }
    }
    bytes
}

fn read_array<const N: usize>(from: &mut impl Read) -> Result<[u8; N], TrustError> {
    let mut bytes = [0u8; N];
    read_exact(from, &mut bytes)?;
    Ok(bytes)
}

fn read_exact(from: &mut impl Read, into: &mut [u8]) -> Result<(), TrustError> {
    from.read_exact(into).map_err(|err| {
        if err.kind() == io::ErrorKind::UnexpectedEof { TrustError::Truncated } else { TrustError::Read(err) }
    })
}

/// A statement that changes nothing.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The bytes could not be read from where they are kept.
    #[error("cannot read the trust statement")]
    Read(#[source] io::Error),
    /// It ends too early.
    #[error("the trust statement is cut off")]
    Truncated,
    /// It does not begin with [`MAGIC`].
    #[error("not a trust statement (expected it to begin with \"MAILFLK1\")")]
    NotOurs,
    /// Longer than any.
    #[error("trust statement of {found} bytes, expected at most {TRUST_MAX_BYTES}")]
    TooLarge {
        /// Its claimed length.
        found: usize,
    },
    /// More signatures than keys can be.
    #[error("{found} signatures, expected at most {TRUST_SIGNATURES_MAX_COUNT}")]
    Signatures {
        /// How many.
        found: u8,
    },
    /// Not enough release keys have signed.
    #[error("{found} of the release keys {which} have signed, expected {needed}")]
    TooFew {
        /// Which keys.
        which: &'static str,
        /// How many are needed.
        needed: u8,
        /// How many have.
        found: usize,
    },
    /// Older than what is known, or the same.
    #[error("version {found} of the trust is not newer than version {known}")]
    NotNewer {
        /// The known version.
        known: u32,
        /// The statement's.
        found: u32,
    },
    /// Signed, but not readable.
    #[error("cannot read the trust")]
    Decode(#[source] minicbor::decode::Error),
    /// It says what no statement may say.
    #[error("the trust contradicts itself: {why}")]
    Contradiction {
        /// What is wrong.
        why: &'static str,
    },
}

#[cfg(test)]
mod tests;
