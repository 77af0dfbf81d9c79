//! SMTP submission (RFC 5321) with a result per recipient.
//!
//! The commands and the AUTH exchange are lettre's types; the connection is ours. lettre 0.11.23's own
//! connection cannot be used as a whole: it reads a reply line of any length into memory, panics on an EHLO
//! line of blanks (`extension.rs`, `split.next().unwrap()`), keeps plaintext replies across STARTTLS in its
//! buffer, takes a 354 after the body for success, sends the final dot even if the body's source failed, and
//! does not tell whether a failure came before or after that dot. Its pool puts half-used connections back.
//!
//! Does not queue, retry or split mails: the callers do.

pub(crate) mod ehlo;
pub(crate) mod reply;
pub(crate) mod session;
pub(crate) mod transaction;
