//! The manifest: everything that is true of a bundle, in the bytes that the release key signs.
//!
//! ```text
//! manifest = {
//!   0: 1                   format version
//!   1: text                Software Version after the update
//!   2: [* text]            Software Versions it goes over; empty: any
//!   3: [* text]            classes it is for; empty: all
//!   4: uint / null         settle time, milliseconds
//!   5: [uint, bytes 32] / null    script: size, SHA-256
//!   6: [+ module]          modules, in the payload's order
//!   7: 0 deflate / 1 zstd  compression of the payload
//!   8: uint                payload bytes
//!   9: bytes 32            payload SHA-256
//!   10: uint               bytes of all files before compression
//!   11: int                when it was built, Unix milliseconds
//!   ? 12: test             how to see that it works (N7)
//!   ? 13: [text, text]     vendor: name, mail address
//!   ? 14: text             release notes, for people
//!   ? 15: [+ delta]        other payloads, for agents that have an older version (see `delta`)
//!   ? 16: [+ firmware]     which devices the modules of the kind firmware are for (see `firmware`)
//! }
//! test = { 0: module name, 1: [* argument], 2: exit code, 3: output / null, 4: limit, milliseconds }
//! module = { 0: name, 1: version, 2: date, 3: path, 4: mode, 5: kind, 6: [size, SHA-256] }
//! ```

use core::fmt;
use core::time::Duration;
use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use thiserror::Error;

use super::delta::Delta;
use super::firmware::{self, FirmwareEntry, FirmwareError};
use crate::address::MailAddress;
use crate::bounded;
use crate::id::{Digest, Label};
use crate::limits::{
    BUNDLE_UNPACKED_MAX_BYTES, DELTAS_MAX_COUNT, FIRMWARE_ENTRIES_MAX_COUNT, MANIFEST_LIST_MAX_COUNT,
    MODULES_MAX_COUNT, NOTES_MAX_BYTES, TEST_ARGUMENTS_MAX_COUNT, TEST_LIMIT_MAX,
};
use crate::path::ModulePath;
use crate::time::UnixMillis;
use crate::version::SoftwareVersion;

pub(super) const FORMAT_VERSION: u8 = 1;

/// Mode bits that a module may have.
pub const MODE_MASK: u32 = 0o7777;

/// Those of them that a box takes only if its configuration allows it: set-user-ID, set-group-ID, sticky.
pub const SPECIAL_MODE_BITS: u32 = 0o7000;

/// What is true of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Manifest {
    #[n(0)]
    pub(super) format: u8,
    /// What an agent is called after this update.
    #[n(1)]
    pub software_version: SoftwareVersion,
    /// The versions it goes over; empty: any.
    #[n(2)]
    pub from: Vec<SoftwareVersion>,
    /// The classes it is for; empty: all.
    #[n(3)]
    pub classes: Vec<Label>,
    #[n(4)]
    pub(super) settle_ms: Option<u64>,
    /// The install script.
    #[n(5)]
    pub script: Option<FileEntry>,
    /// The modules, in the payload's order.
    #[n(6)]
    pub modules: Vec<ModuleEntry>,
    /// How the payload is compressed.
    #[n(7)]
    pub compression: Compression,
    /// Size of the compressed payload.
    #[n(8)]
    pub payload_bytes: u64,
    /// SHA-256 of the compressed payload.
    #[n(9)]
    pub payload_digest: Digest,
    /// Size of all files before compression.
    #[n(10)]
    pub unpacked_bytes: u64,
    /// When it was built.
    #[n(11)]
    pub created: UnixMillis,
    /// How to see that it works.
    #[n(12)]
    pub test: Option<TestEntry>,
    /// Who has made it.
    #[n(13)]
    pub vendor: Option<Vendor>,
    /// What is new, for people.
    #[n(14)]
    pub notes: Option<String>,
    /// Other payloads of the same files, for agents that have older ones.
    #[cbor(
        n(15),
        default,
        skip_if = "Vec::is_empty",
        decode_with = "bounded::list::<_, _, DELTAS_MAX_COUNT>"
    )]
    pub deltas: Vec<Delta>,
    /// Which devices its firmware is for; the first that is for a device counts.
    #[cbor(
        n(16),
        default,
        skip_if = "Vec::is_empty",
        decode_with = "bounded::list::<_, _, FIRMWARE_ENTRIES_MAX_COUNT>"
    )]
    pub firmware: Vec<FirmwareEntry>,
}

/// A test of an installed bundle (N7): one of its modules is run, and says what is expected, or not.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct TestEntry {
    /// The module that is run.
    #[n(0)]
    pub module: Label,
    /// Its arguments.
    #[cbor(n(1), decode_with = "bounded::list::<_, _, TEST_ARGUMENTS_MAX_COUNT>")]
    pub args: Vec<Label>,
    /// The exit code that it has to end with.
    #[n(2)]
    pub exit: i32,
    /// What it has to write, without space around it; `None`: anything.
    #[n(3)]
    pub output: Option<String>,
    #[n(4)]
    pub(super) limit_ms: u64,
}

impl TestEntry {
    /// How long it may take.
    #[must_use]
    pub fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms)
    }
}

/// Who has made a bundle, and is told if it does not work.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Vendor {
    /// For people.
    #[n(0)]
    pub name: Label,
    /// Where to write to.
    #[n(1)]
    pub mail: MailAddress,
}

/// Size and digest of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FileEntry {
    /// Bytes.
    #[n(0)]
    pub bytes: u64,
    /// SHA-256.
    #[n(1)]
    pub digest: Digest,
}

/// One module of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ModuleEntry {
    /// Its name; unique in the bundle.
    #[n(0)]
    pub name: Label,
    /// Its own version.
    #[n(1)]
    pub version: Label,
    /// Its own date, `2026-11-21`.
    #[n(2)]
    pub date: Label,
    /// Where it goes below the agent's root.
    #[n(3)]
    pub path: ModulePath,
    /// Its permission bits.
    #[n(4)]
    pub mode: u32,
    /// What it is to the agent.
    #[n(5)]
    pub kind: ModuleKind,
    /// Its content.
    #[n(6)]
    pub file: FileEntry,
}

/// What a module is (M8): how it is replaced depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum ModuleKind {
    /// A program that always runs.
    #[n(0)]
    Resident,
    /// A program that is started when it is needed.
    #[n(1)]
    OnDemand,
    /// A shared library.
    #[n(2)]
    Library,
    /// A script.
    #[n(3)]
    Script,
    /// Anything else.
    #[n(4)]
    Data,
    /// The agent itself: it has to prove itself before it takes the place of the one that runs (PROTOCOL 6.8).
    #[n(5)]
    Agent,
    /// A control program of devices: kept here, and brought to them when they are to have it (PROTOCOL 18).
    #[n(6)]
    Firmware,
}

impl ModuleKind {
    /// All kinds with their names in `bundle.toml`.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Resident, "resident"),
        (Self::OnDemand, "on-demand"),
        (Self::Library, "library"),
        (Self::Script, "script"),
        (Self::Data, "data"),
        (Self::Agent, "agent"),
        (Self::Firmware, "firmware"),
    ];

    /// The kind of a name in `bundle.toml`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind)
    }
}

impl fmt::Display for ModuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::ALL.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name))
    }
}

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Compression {
    /// Raw deflate (RFC 1951).
    #[n(0)]
    Deflate,
    /// Zstandard (RFC 8878) with a window of at most 8 MiB.
    #[n(1)]
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        })
    }
}

impl Manifest {
    /// The wait before the version query (M14), if the bundle sets one.
    #[must_use]
    pub fn settle(&self) -> Option<Duration> {
        self.settle_ms.map(Duration::from_millis)
    }

    /// Checks what the types alone cannot: counts, sums, doubles. Both sides call it: the builder so that
    /// nothing bad is signed, the agent because it trusts nothing (PROTOCOL 6.4).
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.format != FORMAT_VERSION {
            return Err(ManifestError::Format { found: self.format });
        }
        if self.modules.is_empty() {
            return Err(ManifestError::NoModules);
        }
        for (what, found, limit) in [
            ("modules", self.modules.len(), MODULES_MAX_COUNT),
            ("from versions", self.from.len(), MANIFEST_LIST_MAX_COUNT),
            ("classes", self.classes.len(), MANIFEST_LIST_MAX_COUNT),
            ("deltas", self.deltas.len(), DELTAS_MAX_COUNT),
        ] {
            if found > limit {
                return Err(ManifestError::TooMany { what, found, limit });
            }
        }
        let files = self.modules.iter().map(|m| m.file).chain(self.script);
        let sum = files.fold(0u64, |sum, file| sum.saturating_add(file.bytes));
        if sum != self.unpacked_bytes || sum > BUNDLE_UNPACKED_MAX_BYTES {
            return Err(ManifestError::Size { found: sum, claimed: self.unpacked_bytes });
        }
        if self.notes.as_ref().is_some_and(|notes| notes.len() > NOTES_MAX_BYTES) {
            return Err(ManifestError::Notes);
        }
        self.check_modules()?;
        self.check_test()?;
        firmware::check(&self.firmware, &self.modules)?;
        self.deltas.iter().try_for_each(|delta| delta.check(&self.modules))
    }

    fn check_test(&self) -> Result<(), ManifestError> {
        let Some(test) = &self.test else { return Ok(()) };
        if test.limit() > TEST_LIMIT_MAX {
            return Err(ManifestError::TestLimit { found: test.limit() });
        }
        match self.modules.iter().find(|module| module.name == test.module) {
            Some(module) if module.mode & 0o111 != 0 => Ok(()),
            _ => Err(ManifestError::TestModule { name: test.module.clone() }),
        }
    }

    fn check_modules(&self) -> Result<(), ManifestError> {
        let mut names = BTreeSet::new();
        let mut paths = BTreeSet::new();
        for module in &self.modules {
            if module.name.is_empty() {
                return Err(ManifestError::Unnamed { path: module.path.clone() });
            }
            if !names.insert(&module.name) {
                return Err(ManifestError::DuplicateName { name: module.name.clone() });
            }
            if !paths.insert(&module.path) {
                return Err(ManifestError::DuplicatePath { path: module.path.clone() });
            }
            if module.mode & !MODE_MASK != 0 {
                return Err(ManifestError::Mode { name: module.name.clone(), found: module.mode });
            }
        }
        // PROTOCOL 6.7: a box has one agent.
        let mut agents = self.modules.iter().filter(|m| m.kind == ModuleKind::Agent);
        if let (Some(first), Some(second)) = (agents.next(), agents.next()) {
            return Err(ManifestError::TwoAgents { first: first.name.clone(), second: second.name.clone() });
        }
        // A path that is also another's folder: some prefix of it, cut at a slash, is a module too.
        for path in &paths {
            for (at, _) in path.as_str().match_indices('/') {
                let folder = path.as_str().get(..at).and_then(|p| ModulePath::parse(p).ok());
                if let Some(folder) = folder.filter(|folder| paths.contains(folder)) {
                    return Err(ManifestError::PathInsideFile { path: (*path).clone(), file: folder });
                }
            }
        }
        Ok(())
    }
}

/// A manifest that contradicts itself or a limit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// Made by a later program.
    #[error("bundle format {found}, expected {FORMAT_VERSION}")]
    Format {
        /// Its format version.
        found: u8,
    },
    /// Nothing to install.
    #[error("no modules, expected at least one [[module]]")]
    NoModules,
    /// More than allowed of something.
    #[error("{found} {what}, expected at most {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// The files' sizes do not add up, or to too much.
    #[error("files of {found} bytes in all, expected {claimed} and at most {BUNDLE_UNPACKED_MAX_BYTES}")]
    Size {
        /// Their sum.
        found: u64,
        /// The manifest's own sum.
        claimed: u64,
    },
    /// A module without a name.
    #[error("the module at {path} has no name")]
    Unnamed {
        /// Where it goes.
        path: ModulePath,
    },
    /// Two modules of one name.
    #[error("two modules are named \"{name}\"")]
    DuplicateName {
        /// The name.
        name: Label,
    },
    /// Two modules at one path.
    #[error("two modules go to the path {path}")]
    DuplicatePath {
        /// The path.
        path: ModulePath,
    },
    /// Two modules of the kind `agent`.
    #[error("modules \"{first}\" and \"{second}\" are both agents, expected at most one")]
    TwoAgents {
        /// The first one.
        first: Label,
        /// The other one.
        second: Label,
    },
    /// A module's path runs through another module's file.
    #[error("the path {path} lies inside {file}, which is a module's file")]
    PathInsideFile {
        /// The inner path.
        path: ModulePath,
        /// The file.
        file: ModulePath,
    },
    /// Release notes that nobody would read.
    #[error("release notes of more than {NOTES_MAX_BYTES} bytes")]
    Notes,
    /// A test that takes too long.
    #[error("a test that may take {} s, expected at most {} s", .found.as_secs(), TEST_LIMIT_MAX.as_secs())]
    TestLimit {
        /// Its limit.
        found: Duration,
    },
    /// The test is no module that can be run.
    #[error("the test runs the module \"{name}\", expected a module of the bundle with a mode such as 0755")]
    TestModule {
        /// The module's name.
        name: Label,
    },
    /// A patch for a module that is not there, a second one, or an endless one.
    #[error("a delta has no right patch for the module \"{name}\"")]
    Patch {
        /// The module's name.
        name: Label,
    },
    /// What is said of firmware is wrong.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// A delta without patches.
    #[error("a delta changes nothing, expected at least one patch")]
    NoPatches,
    /// More than permission, set-user-ID, set-group-ID and sticky bits.
    #[error("module \"{name}\" has mode {found:#o}, expected at most 07777")]
    Mode {
        /// The module.
        name: Label,
        /// Its mode.
        found: u32,
    },
}
