//! The signed header of an envelope: who sent it, until when it holds, who can open it, and the digests of
//! everything that follows.
//!
//! ```text
//! header = {
//!   0: 1                              format version
//!   1: bytes 16                       envelope ID
//!   2: int                            created, Unix milliseconds
//!   3: int                            expires, Unix milliseconds
//!   4: uint                           sequence number of the sender's key
//!   5: uint                           body: bytes of ciphertext
//!   6: bytes 32                       body: SHA-256 of the ciphertext
//!   7: [+ [uint, bytes 32]]           parts: size and SHA-256 of each, in order
//!   8: bytes 32                       commitment: SHA-256 of label "mailfleet/content-key/v1" and the content key
//!   9: [+ [bytes 8, bytes 32, bytes 48]]  slots: hint, HPKE encapsulated key, wrapped content key
//! }
//! ```

use std::io::Read;

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, OpModeR, OpModeS, Serializable as _};
use minicbor::{Decode, Encode};
use rand_core::CryptoRng;

use super::body::{ContentKey, SealedBody};
use super::cut::{Brings, Cut, HEAD_ALONE, spans_of};
use super::{EnvelopeError, MAGIC, SealError};
use crate::id::{Digest, EnvelopeId, KeyId};
use crate::keys::{OpeningKey, SealingKey, SigningKey, VerifyingKey, labelled};
use crate::limits::{HEADER_MAX_BYTES, INTRODUCTION_MAX_COUNT, PARTS_MAX_COUNT, SLOTS_MAX_COUNT};
use crate::time::UnixMillis;
use crate::trust::{self, Statement};

type Kem = X25519HkdfSha256;

const SIGNATURE_LABEL: &str = "mailfleet/envelope/v1";
const SLOT_LABEL: &str = "mailfleet/slot/v1";
const HINT_LABEL: &str = "mailfleet/slot-hint/v1";
const FORMAT_VERSION: u8 = 1;

/// What the sender decides about an envelope, before its slots are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewHeader {
    /// Random identity.
    pub id: EnvelopeId,
    /// When it was made, by the sender's clock.
    pub created: UnixMillis,
    /// From when on it must not be executed.
    pub expires: UnixMillis,
    /// The sender's next sequence number.
    pub sequence: u64,
    /// The sealed body.
    pub body: SealedBody,
}

/// A verified header: its signature was by the key that the caller named.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Header {
    #[n(0)]
    version: u8,
    /// Identity of the envelope: duplicates share it.
    #[n(1)]
    pub id: EnvelopeId,
    /// When it was made, by the sender's clock.
    #[n(2)]
    pub created: UnixMillis,
    /// From when on it must not be executed.
    #[n(3)]
    pub expires: UnixMillis,
    /// Sequence number of the sender's key.
    #[n(4)]
    pub sequence: u64,
    /// Length of the body's ciphertext.
    #[n(5)]
    pub body_bytes: u64,
    /// SHA-256 of the body's ciphertext.
    #[n(6)]
    pub body_digest: Digest,
    /// The parts that the body is cut into.
    #[n(7)]
    pub parts: Vec<PartInfo>,
    #[n(8)]
    commitment: Digest,
    #[n(9)]
    slots: Vec<Slot>,
}

/// One part of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PartInfo {
    /// Its size.
    #[n(0)]
    pub bytes: u64,
    /// Its SHA-256.
    #[n(1)]
    pub digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Slot {
    #[cbor(n(0), with = "minicbor::bytes")]
    hint: [u8; 8],
    #[cbor(n(1), with = "minicbor::bytes")]
    encapped: [u8; 32],
    #[cbor(n(2), with = "minicbor::bytes")]
    wrapped: [u8; 48],
}

/// Makes everything that stands before the body in a mail of one part: magic, header with a slot for each
/// recipient, signature, part index 0. The attachment is these bytes and then the body's.
///
/// # Errors
/// No recipient or too many, or a key that cannot be sealed to.
pub fn seal_head(
    new: &NewHeader,
    key: &ContentKey,
    recipients: &[SealingKey],
    signer: &SigningKey,
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, SealError> {
    seal_part_head(new, (&Cut::whole(new.body), Some(0)), key, recipients, signer, rng)
}

/// As [`seal_head`], for a mail with one part of a cut body, or with none of them (PROTOCOL 17.1, 17.6). The attachment is
/// these bytes and then the part's.
///
/// # Errors
/// As [`seal_head`].
pub fn seal_part_head(
    new: &NewHeader,
    (cut, part): (&Cut, Option<u32>),
    key: &ContentKey,
    recipients: &[SealingKey],
    signer: &SigningKey,
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, SealError> {
    if recipients.is_empty() || recipients.len() > SLOTS_MAX_COUNT {
        return Err(SealError::Recipients { found: recipients.len() });
    }
    let sender = signer.verifying_key().key_id();
    let commitment = key.commitment();
    let info = slot_info(new.id, sender);
    let slots = recipients
        .iter()
        .map(|recipient| seal_slot(recipient, key, new.id, &info, &commitment, rng))
        .collect::<Result<Vec<_>, _>>()?;
    let header = Header {
        version: FORMAT_VERSION,
        id: new.id,
        created: new.created,
        expires: new.expires,
        sequence: new.sequence,
        body_bytes: new.body.bytes,
        body_digest: new.body.digest,
        parts: cut.parts().to_vec(),
        commitment,
        slots,
    };
    let header = crate::message::encode(&header);
    let length =
        u32::try_from(header.len()).map_err(|_| SealError::Recipients { found: recipients.len() })?;

    // PROTOCOL 3.2: the signature covers the sender's key ID, the length and the header.
    let signed = [sender.0.as_slice(), &length.to_be_bytes(), &header].concat();
    let signature = signer.sign(SIGNATURE_LABEL, &signed);
    let index = part.unwrap_or(HEAD_ALONE);
    Ok([MAGIC.as_slice(), &signed, &signature, &index.to_be_bytes()].concat())
}

fn seal_slot(
    recipient: &SealingKey,
    key: &ContentKey,
    id: EnvelopeId,
    info: &[u8],
    commitment: &Digest,
    rng: &mut impl CryptoRng,
) -> Result<Slot, SealError> {
    let (encapped, wrapped) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, Kem>(
        &OpModeS::Base,
        &recipient.0,
        info,
        key.as_bytes(),
        &commitment.0,
        rng,
    )
    .map_err(|_| SealError::Key)?;
    let wrapped = wrapped.as_slice().try_into().map_err(|_| SealError::Key)?;
    Ok(Slot { hint: hint(recipient, id), encapped: encapped.to_bytes().into(), wrapped })
}

/// The head of an attachment as it came: nothing in it is trusted yet but its sender's claim.
#[derive(Clone, Debug)]
pub struct RawHead {
    sender: KeyId,
    /// Sender, length and header: what the signature covers.
    signed: Vec<u8>,
    signature: [u8; 64],
    part_index: u32,
}

impl RawHead {
    /// Reads up to the first byte of the part. Bounded: a longer header is refused before it is read.
    ///
    /// # Errors
    /// Not ours, cut off, too large, or the reader failed.
    pub fn read(from: &mut impl Read) -> Result<Self, EnvelopeError> {
        let magic = read_array::<8>(from, "magic")?;
        Self::read_after(magic, from)
    }

    /// Reads an attachment's head with the trust statements that stand before it (PROTOCOL 11.5). Bounded.
    ///
    /// # Errors
    /// As [`RawHead::read`]; a statement that cannot be read; too many.
    pub fn read_introduced(from: &mut impl Read) -> Result<(Vec<Statement>, Self), EnvelopeError> {
        let mut statements = Vec::new();
        loop {
            let magic = read_array::<8>(from, "magic")?;
            if magic != trust::MAGIC {
                return Ok((statements, Self::read_after(magic, from)?));
            }
            if statements.len() >= INTRODUCTION_MAX_COUNT {
                return Err(EnvelopeError::Contradiction { why: "the number of trust statements" });
            }
            statements.push(Statement::read_rest(from).map_err(EnvelopeError::Introduction)?);
        }
    }

    fn read_after(magic: [u8; 8], from: &mut impl Read) -> Result<Self, EnvelopeError> {
        if magic != MAGIC {
            return Err(EnvelopeError::NotOurs);
        }
        let sender = read_array::<8>(from, "sender")?;
        let length = read_array::<4>(from, "header length")?;
        let n = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        // PROTOCOL 3.3: bound before reading.
        if n > HEADER_MAX_BYTES {
            return Err(EnvelopeError::HeaderTooLarge { found: n });
        }
        let mut header = vec![0u8; n];
        read_exact(from, &mut header, "header")?;
        let signature = read_array::<64>(from, "signature")?;
        let part_index = u32::from_be_bytes(read_array::<4>(from, "part index")?);
        let signed = [sender.as_slice(), &length, &header].concat();
        Ok(Self { sender: KeyId(sender), signed, signature, part_index })
    }

    /// The key that claims to have signed: look it up, then [`RawHead::verify`].
    #[must_use]
    pub fn sender(&self) -> KeyId {
        self.sender
    }

    /// Checks the signature, then reads the header.
    ///
    /// # Errors
    /// Not signed by `key`; or signed, but of another version, or contradicting itself.
    pub fn verify(&self, key: &VerifyingKey) -> Result<Header, EnvelopeError> {
        let expected = key.key_id();
        if expected != self.sender {
            return Err(EnvelopeError::OtherSender { expected, found: self.sender });
        }
        // PROTOCOL 3.4: nothing of the header is decoded before its signature is checked.
        key.verify(SIGNATURE_LABEL, &self.signed, &self.signature).map_err(|_| EnvelopeError::Signature)?;
        let header = self.decode()?;
        self.brings(&header)?;
        Ok(header)
    }

    /// What of the body follows, by the index before it, which nothing signs: a part has to have its own digest.
    ///
    /// # Errors
    /// The header has no part of this index. Parts beyond those of the body may come to be (PROTOCOL 17.8).
    pub fn brings(&self, header: &Header) -> Result<Brings, EnvelopeError> {
        let unknown = EnvelopeError::Contradiction { why: "the part's index is not in the header" };
        match (header.parts.as_slice(), self.part_index) {
            ([_one], 0) => Ok(Brings::Whole),
            ([_one], _) => Err(unknown),
            (_, HEAD_ALONE) => Ok(Brings::Nothing),
            (parts, index) => {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                let part = spans_of(parts).zip(parts).nth(index).ok_or(unknown)?;
                Ok(Brings::Part(part.0, *part.1))
            }
        }
    }

    /// The head alone, as it came: to be read again when all parts are there.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let index = self.part_index.to_be_bytes();
        [MAGIC.as_slice(), &self.signed, &self.signature, &index].concat()
    }

    /// Reads a header whose sender is not known yet, to find the enrolment request inside. Whoever calls
    /// this must call [`RawHead::verify`] with the key found there before believing anything.
    ///
    /// # Errors
    /// Of another version, or contradicting itself.
    pub fn decode_unverified(&self) -> Result<Header, EnvelopeError> {
        self.decode()
    }

    fn decode(&self) -> Result<Header, EnvelopeError> {
        let bytes = self.signed.get(12..).unwrap_or_default();
        let header: Header = minicbor::decode(bytes).map_err(EnvelopeError::Header)?;
        header.check()?;
        Ok(header)
    }
}

impl Header {
    fn check(&self) -> Result<(), EnvelopeError> {
        let contradiction = |why| Err(EnvelopeError::Contradiction { why });
        if self.version != FORMAT_VERSION {
            return contradiction("its format version is not 1");
        }
        if self.slots.is_empty() || self.slots.len() > SLOTS_MAX_COUNT {
            return contradiction("the number of slots");
        }
        if self.parts.is_empty() || self.parts.len() > PARTS_MAX_COUNT {
            return contradiction("the number of parts");
        }
        let parts_bytes = self.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.bytes));
        if parts_bytes != Some(self.body_bytes) {
            return contradiction("the parts' sizes and the body's");
        }
        if self.parts.len() > 1 && self.parts.iter().any(|part| part.bytes == 0) {
            return contradiction("a part without a byte");
        }
        if self.expires <= self.created {
            return contradiction("it expires before it was made");
        }
        Ok(())
    }

    /// Makes sure that its body is in one part, as that of every report is (PROTOCOL 3.7).
    ///
    /// # Errors
    /// It is in several.
    pub fn in_one_part(&self) -> Result<(), EnvelopeError> {
        match self.parts.as_slice() {
            [_one] => Ok(()),
            more => Err(EnvelopeError::ManyParts { found: more.len() }),
        }
    }

    /// How many recipients can open it.
    #[must_use]
    pub fn recipient_count(&self) -> usize {
        self.slots.len()
    }

    /// Opens the slot that is for `ours`.
    ///
    /// # Errors
    /// None is, or it does not hold the key that the header commits to.
    pub fn open_slot(&self, ours: &OpeningKey, sender: KeyId) -> Result<ContentKey, EnvelopeError> {
        let wanted = hint(&ours.sealing_key(), self.id);
        let slot = self.slots.iter().find(|slot| slot.hint == wanted).ok_or(EnvelopeError::NotForUs)?;
        let encapped =
            <Kem as hpke::Kem>::EncappedKey::from_bytes(&slot.encapped).map_err(|_| EnvelopeError::Slot)?;
        let key = hpke::single_shot_open::<AesGcm256, HkdfSha256, Kem>(
            &OpModeR::Base,
            &ours.secret,
            &encapped,
            &slot_info(self.id, sender),
            &slot.wrapped,
            &self.commitment.0,
        )
        .map_err(|_| EnvelopeError::Slot)?;
        let key = ContentKey::from_vec(key).ok_or(EnvelopeError::Slot)?;
        // PROTOCOL 3.6: AES-GCM does not commit to its key; the header does.
        if key.commitment() == self.commitment { Ok(key) } else { Err(EnvelopeError::Slot) }
    }
}

/// HPKE `info` of a slot: binds it to this envelope and this sender (PROTOCOL 3.5).
fn slot_info(id: EnvelopeId, sender: KeyId) -> Vec<u8> {
    labelled(SLOT_LABEL, &[id.0.as_slice(), &sender.0].concat())
}

/// What a recipient finds its slot by. It changes with each envelope, so that a relay cannot tell which
/// envelopes went to the same box (PROTOCOL 3.5).
fn hint(recipient: &SealingKey, id: EnvelopeId) -> [u8; 8] {
    let digest = Digest::of(&labelled(HINT_LABEL, &[id.0.as_slice(), &recipient.to_bytes()].concat()));
    let mut hint = [0u8; 8];
    hint.iter_mut().zip(digest.0).for_each(|(slot, byte)| *slot = byte);
    hint
}

fn read_array<const N: usize>(from: &mut impl Read, place: &'static str) -> Result<[u8; N], EnvelopeError> {
    let mut bytes = [0u8; N];
    read_exact(from, &mut bytes, place)?;
    Ok(bytes)
}

pub(super) fn read_exact(
    from: &mut impl Read,
    into: &mut [u8],
    place: &'static str,
) -> Result<(), EnvelopeError> {
    from.read_exact(into).map_err(|err| {
        if err.kind() == std::io::ErrorKind::UnexpectedEof {
            EnvelopeError::Truncated { place }
        } else {
            EnvelopeError::Read(err)
        }
    })
}
