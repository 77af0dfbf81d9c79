//! Mail addresses as this product accepts them: plain ASCII `local@domain`. Not RFC 5322 in full: no
//! comments, no quoted local parts, no display names, so that an address is safe in SMTP commands,
//! headers, tables and CSV.

use core::fmt;

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::error::quoted;
use crate::limits::MAIL_ADDRESS_MAX_BYTES;

/// A checked mail address. The domain is kept in lower case; the local part as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct MailAddress(#[n(0)] String);

impl MailAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// Not `local@domain` in the plain characters of RFC 5321's dot-string and domain, or too long.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let err = || AddressError { found: quoted(text, 80) };
        let (local, domain) = text.rsplit_once('@').ok_or_else(err)?;
        let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
        let local_ok = local.len() <= 64 && local.split('.').all(|a| !a.is_empty() && a.bytes().all(atom));
        let label_ok = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        if text.len() > MAIL_ADDRESS_MAX_BYTES || !local_ok || !domain.split('.').all(label_ok) {
            return Err(err());
        }
        Ok(Self(format!("{local}@{}", domain.to_ascii_lowercase())))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// True if both name the same mailbox for practical purposes: case is ignored.
    #[must_use]
    pub fn same_mailbox(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'b, C> Decode<'b, C> for MailAddress {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(d.str()?).map_err(minicbor::decode::Error::custom)
    }
}

/// A text that should have been a mail address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected a mail address such as box7@example.com, found \"{found}\"")]
pub struct AddressError {
    found: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_addresses_are_accepted() {
        assert_eq!(MailAddress::parse("agent+7@Lab.TEST").unwrap().as_str(), "agent+7@lab.test");
        assert_eq!(MailAddress::parse("a.b@localhost").unwrap().domain(), "localhost");
    }

    #[test]
    fn addresses_that_could_break_a_command_or_header_are_refused() {
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a b@c.d",
            "a@b c",
            "a@b\r\nRCPT TO:<x@y>",
            "<a@b>",
            "a@b>",
            "\"a\"@b",
            "a..b@c",
            "a@-b",
            "a@b..c",
            "é@b.c",
            "a@é.c",
            &format!("{}@b.c", "x".repeat(65)),
            &format!("a@{}", "x.".repeat(130)),
        ] {
            assert!(MailAddress::parse(bad).is_err(), "{bad}");
        }
    }
}
