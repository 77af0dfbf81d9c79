//! The Software Version: the name of one exact combination of module versions (requirement M11).

use core::fmt;

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::error::quoted;

const MAX_BYTES: usize = 64;

/// `1.0.02-0`: a common part of dotted numbers, a `-`, and a free part. Kept as written: `1.0.02` and
/// `1.0.2` are different names. It has no order; freshness comes from sequence numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct SoftwareVersion(#[n(0)] String);

impl SoftwareVersion {
    /// Reads a Software Version.
    ///
    /// # Errors
    /// Not of the form `1.0.02-0`, or longer than 64 bytes.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        let err = || VersionError { found: quoted(text, 80) };
        let (common, free) = text.split_once('-').ok_or_else(err)?;
        let numbers = common.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let free_ok =
            !free.is_empty() && free.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if text.len() > MAX_BYTES || !numbers || !free_ok {
            return Err(err());
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SoftwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'b, C> Decode<'b, C> for SoftwareVersion {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(d.str()?).map_err(minicbor::decode::Error::custom)
    }
}

/// A text that should have been a Software Version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected a Software Version such as 1.0.02-0 (numbers, '-', a free part), found \"{found}\"")]
pub struct VersionError {
    found: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_software_version_has_a_common_and_a_free_part() {
        for good in ["1.0.02-0", "1-0", "10.2.3.4-beta.1", "1.0.00-1-x"] {
            assert_eq!(SoftwareVersion::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "1.0.02", "-0", "1.0.02-", "v1.0-0", "1..0-0", "1.0-é", "1.0-a b", "=1-0"] {
            assert!(SoftwareVersion::parse(bad).is_err(), "{bad}");
        }
    }
}
