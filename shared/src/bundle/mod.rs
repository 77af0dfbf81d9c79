//! Bundles: the signed unit that an operator builds and an agent installs (PROTOCOL 6).
//!
//! ```text
//! FILE.mfb
//! offset  size  field
//! 0       8     magic "MAILFLB1"
//! 8       4     length n of the manifest, big-endian
//! 12      n     manifest, CBOR (see `manifest`)
//! 12+n    1     number k of signatures, 1 to 8
//! 13+n    72·k  signatures: key ID of a release key (8), Ed25519 (64) over label "mailfleet/bundle/v1" and
//!               the manifest
//! …       …     payload: the script, if there is one, and the modules' files, in the manifest's order,
//!               one after the other, compressed as one stream
//! …       …     in the file that is built: the payloads of the deltas, in the manifest's order
//!
//! what is mailed of it
//! in full       all before the deltas' payloads
//! as a delta    magic "MAILFLD1", its number (1), all before the payload, and the delta's payload
//! ```
//!
//! Why not tar or squashfs: the manifest already says every name, size and mode, signed; an archive would
//! say them a second time, unsigned, with links and devices besides.
//!
//! Not here: opening files. Whoever builds or unpacks passes readers and writers in.

mod delta;
pub mod firmware;
mod form;
pub mod manifest;
mod pack;
pub mod patch;
mod read;
pub mod spec;

pub use delta::{BaseFile, Delta, Patch, pack_delta, successors};
pub use firmware::{FirmwareEntry, FirmwareHandler, same_version};
pub use form::{Form, FormReader};
pub use manifest::{
    Compression, FileEntry, Manifest, ModuleEntry, ModuleKind, SPECIAL_MODE_BITS, TestEntry, Vendor,
};
pub use pack::{Effort, PackError, PackFile, pack, write_head};
pub use patch::OldFile;
pub use read::{BundleError, BundleReader, Entry, OpenOld, VerifiedBundle};
pub use spec::BundleSpec;

/// First bytes of every bundle file.
pub const MAGIC: [u8; 8] = *b"MAILFLB1";

/// First bytes of what brings one delta of a bundle.
pub const DELTA_MAGIC: [u8; 8] = *b"MAILFLD1";

const SIGNATURE_LABEL: &str = "mailfleet/bundle/v1";

#[cfg(test)]
mod delta_tests;
#[cfg(test)]
mod tests;
