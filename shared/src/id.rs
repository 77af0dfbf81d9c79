//! Identifiers as types of their own, so that one cannot stand where another belongs.
//!
//! Random identifiers are made by the shells: the constructors take the bytes.

use core::fmt;

use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::error::quoted;
use crate::limits::{AGENT_ID_MAX_BYTES, LABEL_MAX_BYTES};

/// Names one agent: letters, digits, `-`, `_`, `.`; starts with a letter or digit; at most 64 bytes.
/// Safe as a file name and in a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct AgentId(#[n(0)] String);

impl AgentId {
    /// Reads an agent ID.
    ///
    /// # Errors
    /// Empty, too long, or a character that is not allowed.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let err = |why| IdError { what: "agent ID", found: quoted(text, 80), why };
        if text.is_empty() || text.len() > AGENT_ID_MAX_BYTES {
            return Err(err("1 to 64 characters"));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(err("a letter or digit first"));
        }
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            return Err(err("only letters, digits, '-', '_' and '.'"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'b, C> Decode<'b, C> for AgentId {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(d.str()?).map_err(minicbor::decode::Error::custom)
    }
}

/// A short text for people (site, note, class, module name): no control characters, at most 200 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct Label(#[n(0)] String);

impl Label {
    /// Reads a label. The empty label is allowed; callers that need one say so themselves.
    ///
    /// # Errors
    /// Too long, or a control character.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let err = |why| IdError { what: "text", found: quoted(text, 80), why };
        if text.len() > LABEL_MAX_BYTES {
            return Err(err("at most 200 bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err(err("no control characters"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Makes a label of any text: control characters become spaces, the rest beyond the limit is cut.
    #[must_use]
    pub fn lossy(text: &str) -> Self {
        let mut out = String::new();
        for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
            if out.len().saturating_add(c.len_utf8()) > LABEL_MAX_BYTES {
                break;
            }
            out.push(c);
        }
        Self(out)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'b, C> Decode<'b, C> for Label {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(d.str()?).map_err(minicbor::decode::Error::custom)
    }
}

/// A text that should have been an identifier.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("bad {what} \"{found}\": expected {why}")]
pub struct IdError {
    what: &'static str,
    found: String,
    why: &'static str,
}

impl IdError {
    /// `what` was to be read from `found`, which is not `why`.
    pub(crate) fn new(what: &'static str, found: &str, why: &'static str) -> Self {
        Self { what, found: found.chars().take(80).collect(), why }
    }
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Reads lower- or upper-case hexadecimal digits.
            ///
            /// # Errors
            /// Another length or character.
            pub fn parse_hex(text: &str) -> Result<Self, IdError> {
                crate::hex::decode(text).map(Self).ok_or_else(|| IdError {
                    what: stringify!($name),
                    found: quoted(text, 80),
                    why: concat!("hexadecimal digits for ", $len, " bytes"),
                })
            }

            /// Lower-case hexadecimal digits.
            #[must_use]
            pub fn to_hex(self) -> String {
                crate::hex::encode(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.to_hex())
            }
        }
    };
}

byte_id!(
    /// Names one envelope, and so one order or one report: 16 random bytes, made by the sender. Duplicates
    /// are recognised by it, never by Message-ID, which relays rewrite.
    EnvelopeId,
    16
);

byte_id!(
    /// SHA-256 of some bytes.
    Digest,
    32
);

byte_id!(
    /// Names a public key: the first 8 bytes of SHA-256 over a label and the key.
    KeyId,
    8
);

impl Digest {
    /// Digest of bytes in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// Digest of bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Hasher {
    state: Sha256,
    len: u64,
}

impl Hasher {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.len = self.len.saturating_add(bytes.len() as u64);
    }

    /// Bytes taken so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if no byte was taken yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_ids_are_safe_file_names() {
        for good in ["A0001", "site-7.box_2", "0"] {
            assert_eq!(AgentId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "../x", "-rf", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(AgentId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_hold_no_control_characters() {
        assert!(Label::parse("Tokyo, 3rd floor").is_ok());
        assert!(Label::parse("a\nb").is_err());
        assert_eq!(Label::lossy("a\nb").as_str(), "a b");
        assert_eq!(Label::lossy(&"é".repeat(200)).as_str().len(), 200);
    }

    #[test]
    fn a_decoded_agent_id_is_checked() {
        let bytes = minicbor::to_vec("../../etc").unwrap();
        assert!(minicbor::decode::<AgentId>(&bytes).is_err());
    }

    #[test]
    fn hex_reads_back() {
        let id = EnvelopeId([0xab; 16]);
        assert_eq!(EnvelopeId::parse_hex(&id.to_hex()), Ok(id));
        assert!(EnvelopeId::parse_hex("abc").is_err());
    }
}
