//! Object identifiers: names of what SNMP devices hold. Ordered as the protocol orders them.

use std::borrow::Borrow;
use std::fmt;

use serde::Deserialize;
use thiserror::Error;

use crate::limits::OID_ARCS_MAX_COUNT;

/// An object identifier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Oid(Vec<u32>);

/// Not an object identifier.
#[derive(Debug, Error)]
#[error("\"{0}\" is no object identifier: 2 to {OID_ARCS_MAX_COUNT} numbers with dots between them")]
pub(crate) struct OidError(String);

impl Oid {
    /// Of numbers that the protocol's decoder has checked, or that stand in our own code.
    pub(crate) fn new(arcs: &[u32]) -> Self {
        Self(arcs.to_vec())
    }

    /// Reads `1.3.6.1.2.1.1.1.0`.
    ///
    /// # Errors
    /// Something else, or too many numbers.
    pub(crate) fn parse(text: &str) -> Result<Self, OidError> {
        let err = || OidError(text.chars().take(80).collect());
        let arcs: Vec<u32> = text.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| err())?;
        if !(2..=OID_ARCS_MAX_COUNT).contains(&arcs.len()) {
            return Err(err());
        }
        Ok(Self(arcs))
    }

    /// Its numbers.
    pub(crate) fn arcs(&self) -> &[u32] {
        &self.0
    }

    /// With an index behind it.
    pub(crate) fn with(&self, index: &[u32]) -> Self {
        Self([self.0.as_slice(), index].concat())
    }

    /// True if it lies below `prefix`, or is `prefix`.
    pub(crate) fn is_in(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

impl Borrow<[u32]> for Oid {
    fn borrow(&self) -> &[u32] {
        &self.0
    }
}

impl TryFrom<String> for Oid {
    type Error = OidError;

    fn try_from(text: String) -> Result<Self, OidError> {
        Self::parse(&text)
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&dotted(&self.0))
    }
}

/// `1.5`: an index as text.
pub(crate) fn dotted(arcs: &[u32]) -> String {
    arcs.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_ordered_and_written() {
        let a = Oid::parse("1.3.6.1.2").unwrap();
        let b = Oid::parse("1.3.6.1.2.1").unwrap();
        assert!(a < b && b < Oid::parse("1.3.6.1.10").unwrap());
        assert!(b.is_in(&a) && !a.is_in(&b));
        assert_eq!(a.with(&[7, 8]).to_string(), "1.3.6.1.2.7.8");
        for bad in ["", "1", ".1.3", "1..3", "1.3.", "1.x", "1.4294967296", "1.-3"] {
            assert!(Oid::parse(bad).is_err(), "{bad}");
        }
    }
}
