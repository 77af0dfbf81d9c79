//! The words that manager and agents share: identifiers, limits, versions, messages, seals, bundles.
//!
//! Pure: no clock, no randomness, no files, no sockets. Whoever needs one of them passes it in. The layouts
//! and rules are in `PROTOCOL.md`; code that implements a rule cites its number.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "tests may panic"))]
#![warn(clippy::wildcard_enum_match_arm)]

#[macro_use]
mod names;

pub mod address;
pub mod bounded;
pub mod bundle;
pub mod device;
pub mod envelope;
pub mod error;
pub mod glob;
pub mod hex;
pub mod id;
pub mod invitation;
pub mod keys;
pub mod limits;
pub mod message;
pub mod path;
pub mod reading;
pub mod rekey;
pub mod spans;
pub mod time;
pub mod trust;
pub mod version;

pub use address::MailAddress;
pub use id::{AgentId, Digest, EnvelopeId, Hasher, KeyId, Label};
pub use path::ModulePath;
pub use spans::{Span, Spans};
pub use time::UnixMillis;
pub use version::SoftwareVersion;
