//! Key pairs: Ed25519 for "who says so", X25519 for "who may read". Made of seeds that the shells draw;
//! nothing here knows where a key is kept.
//!
//! Text forms are `ed25519:` or `x25519:` and base64 for public keys, with `-secret` in the prefix for
//! secret ones, so that one can never be taken for another.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem as _, Serializable as _};
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use crate::id::{Digest, KeyId};

type Kem = X25519HkdfSha256;

const SIGN_PUBLIC: &str = "ed25519:";
const SIGN_SECRET: &str = "ed25519-secret:";
const SEAL_PUBLIC: &str = "x25519:";
const SEAL_SECRET: &str = "x25519-secret:";

/// Secret half of an Ed25519 key pair (RFC 8032).
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of a seed of 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The public half.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Signs `label`, a zero byte, and `message`. The label keeps a signature of one kind from being
    /// taken for one of another (PROTOCOL 2.2).
    #[must_use]
    pub fn sign(&self, label: &str, message: &[u8]) -> [u8; 64] {
        self.0.sign(&labelled(label, message)).to_bytes()
    }

    /// Text form for the key file.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        secret_text(SIGN_SECRET, self.0.to_bytes())
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// Another prefix, or not 32 bytes of base64.
    pub fn parse_secret_text(text: &str) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(parse(SIGN_SECRET, text)?);
        Ok(Self::from_seed(&bytes))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifying_key().key_id())
    }
}

/// Public half of an Ed25519 key pair.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Reads the 32 bytes of RFC 8032.
    ///
    /// # Errors
    /// Not a point of the curve, or one of small order, with which anyone could sign.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAKey)?;
        if key.is_weak() { Err(KeyError::NotAKey) } else { Ok(Self(key)) }
    }

    /// The 32 bytes of RFC 8032.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The key's short name (PROTOCOL 2.3).
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let digest = Digest::of(&labelled("mailfleet/key-id/v1", self.0.as_bytes()));
        let mut id = [0u8; KeyId::LEN];
        id.iter_mut().zip(digest.0).for_each(|(slot, byte)| *slot = byte);
        KeyId(id)
    }

    /// Checks a signature that [`SigningKey::sign`] made, by the strict rules that allow one signature
    /// encoding only.
    ///
    /// # Errors
    /// It is not this key's signature of this label and message.
    pub fn verify(&self, label: &str, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(&labelled(label, message), &signature).map_err(|_| BadSignature)
    }

    /// Text form: `ed25519:<base64>`.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{SIGN_PUBLIC}{}", STANDARD.encode(self.0.as_bytes()))
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// Another prefix, not 32 bytes of base64, or not a key.
    pub fn parse_text(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&parse(SIGN_PUBLIC, text)?)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.key_id())
    }
}

/// Secret half of an X25519 key pair: opens what was sealed to [`SealingKey`].
pub struct OpeningKey {
    pub(crate) secret: <Kem as hpke::Kem>::PrivateKey,
    /// Computed once: every envelope is asked whether it is for this key.
    public: SealingKey,
}

impl OpeningKey {
    /// The key of a seed of 32 random bytes (RFC 9180 `DeriveKeyPair`).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self::of(Kem::derive_keypair(seed).0)
    }

    fn of(secret: <Kem as hpke::Kem>::PrivateKey) -> Self {
        let public = SealingKey(Kem::sk_to_pk(&secret));
        Self { secret, public }
    }

    /// The public half.
    #[must_use]
    pub fn sealing_key(&self) -> SealingKey {
        self.public.clone()
    }

    /// Text form for the key file.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        secret_text(SEAL_SECRET, self.secret.to_bytes().into())
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// Another prefix, or not 32 bytes of base64.
    pub fn parse_secret_text(text: &str) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(parse(SEAL_SECRET, text)?);
        <Kem as hpke::Kem>::PrivateKey::from_bytes(bytes.as_ref())
            .map(Self::of)
            .map_err(|_| KeyError::NotAKey)
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpeningKey(secret)")
    }
}

/// Public half of an X25519 key pair: seals for the holder of [`OpeningKey`].
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey(pub(crate) <Kem as hpke::Kem>::PublicKey);

impl SealingKey {
    /// Reads the 32 bytes of RFC 7748.
    ///
    /// # Errors
    /// Not a usable public key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        <Kem as hpke::Kem>::PublicKey::from_bytes(bytes).map(Self).map_err(|_| KeyError::NotAKey)
    }

    /// The 32 bytes of RFC 7748.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes().into()
    }

    /// Text form: `x25519:<base64>`.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{SEAL_PUBLIC}{}", STANDARD.encode(self.to_bytes()))
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// Another prefix, not 32 bytes of base64, or not a key.
    pub fn parse_text(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&parse(SEAL_PUBLIC, text)?)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.to_text())
    }
}

impl<C> minicbor::Encode<C> for VerifyingKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.to_bytes())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for VerifyingKey {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::from_bytes(&key_bytes(d)?).map_err(minicbor::decode::Error::custom)
    }
}

impl<C> minicbor::Encode<C> for SealingKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.to_bytes())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for SealingKey {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::from_bytes(&key_bytes(d)?).map_err(minicbor::decode::Error::custom)
    }
}

fn key_bytes(d: &mut minicbor::Decoder<'_>) -> Result<[u8; 32], minicbor::decode::Error> {
    d.bytes()?.try_into().map_err(|_| minicbor::decode::Error::message("a key of 32 bytes"))
}

/// `label ‖ 0x00 ‖ message` (PROTOCOL 2.2). Labels hold no zero byte, so no two pairs collide.
pub(crate) fn labelled(label: &str, message: &[u8]) -> Vec<u8> {
    [label.as_bytes(), &[0], message].concat()
}

fn secret_text(prefix: &str, mut bytes: [u8; 32]) -> Zeroizing<String> {
    let text = Zeroizing::new(format!("{prefix}{}", *Zeroizing::new(STANDARD.encode(bytes))));
    bytes.zeroize();
    text
}

fn parse(prefix: &'static str, text: &str) -> Result<[u8; 32], KeyError> {
    let base64 = text.trim().strip_prefix(prefix).ok_or(KeyError::Prefix { expected: prefix })?;
    let bytes = Zeroizing::new(STANDARD.decode(base64).map_err(|_| KeyError::NotBase64 { prefix })?);
    bytes.as_slice().try_into().map_err(|_| KeyError::NotBase64 { prefix })
}

/// A text or bytes that should have been a key. Says nothing of what was found: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Another kind of key, or none.
    #[error("expected a key that begins with \"{expected}\"")]
    Prefix {
        /// How it should begin.
        expected: &'static str,
    },
    /// Not 32 bytes in base64.
    #[error("expected 32 bytes in base64 after \"{prefix}\"")]
    NotBase64 {
        /// The prefix before it.
        prefix: &'static str,
    },
    /// 32 bytes that are no usable key.
    #[error("these bytes are not a usable key")]
    NotAKey,
}

/// The signature is not by this key over these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the signature does not match")]
pub struct BadSignature;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_counts_only_for_its_label_message_and_key() {
        let key = SigningKey::from_seed(&[1; 32]);
        let sig = key.sign("label", b"message");
        let public = key.verifying_key();
        assert_eq!(public.verify("label", b"message", &sig), Ok(()));
        assert_eq!(public.verify("other", b"message", &sig), Err(BadSignature));
        assert_eq!(public.verify("label", b"massage", &sig), Err(BadSignature));
        let other = SigningKey::from_seed(&[2; 32]).verifying_key();
        assert_eq!(other.verify("label", b"message", &sig), Err(BadSignature));
    }

    #[test]
    fn text_forms_read_back_and_kinds_do_not_mix() {
        let sign = SigningKey::from_seed(&[1; 32]);
        let open = OpeningKey::from_seed(&[1; 32]);
        let (verify, seal) = (sign.verifying_key(), open.sealing_key());
        assert_eq!(VerifyingKey::parse_text(&verify.to_text()).unwrap(), verify);
        assert_eq!(SealingKey::parse_text(&seal.to_text()).unwrap(), seal);
        assert_eq!(SigningKey::parse_secret_text(&sign.to_secret_text()).unwrap().verifying_key(), verify);
        assert_eq!(OpeningKey::parse_secret_text(&open.to_secret_text()).unwrap().sealing_key(), seal);
        assert!(VerifyingKey::parse_text(&sign.to_secret_text()).is_err());
        assert!(SealingKey::parse_text(&verify.to_text()).is_err());
        assert!(SigningKey::parse_secret_text("ed25519-secret:AAAA").is_err());
    }

    #[test]
    fn a_key_with_which_anyone_could_sign_is_refused() {
        let mut identity = [0u8; 32];
        identity[0] = 1;
        assert_eq!(VerifyingKey::from_bytes(&identity), Err(KeyError::NotAKey));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let key = SigningKey::from_seed(&[1; 32]);
        assert!(!format!("{key:?}").contains("AQEB"));
        assert_eq!(format!("{:?}", OpeningKey::from_seed(&[1; 32])), "OpeningKey(secret)");
    }
}
