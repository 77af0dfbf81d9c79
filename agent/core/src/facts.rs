//! What the shell finds out and the core reasons about: plain values. Nothing here decides.

use core::fmt;
use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use shared::bundle::{FirmwareEntry, ModuleKind, TestEntry};
use shared::{Digest, EnvelopeId, KeyId, Label, ModulePath, SoftwareVersion, Span, UnixMillis};

/// Names a mail in the mailbox until the shell has disposed of it. Means nothing after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MailHandle(pub u64);

/// What a verified envelope header says. The shell has checked the manager's signature over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EnvelopeFacts {
    /// Names the order.
    #[n(0)]
    pub id: EnvelopeId,
    /// When the manager made it, by the manager's clock.
    #[n(1)]
    pub created: UnixMillis,
    /// After this it is not to be begun.
    #[n(2)]
    pub expires: UnixMillis,
    /// Rises with every order of the manager.
    #[n(3)]
    pub sequence: u64,
    /// Sealed bytes of its body, in all parts.
    #[n(4)]
    pub body_bytes: u64,
    /// The trusted order key that signed it.
    #[n(5)]
    pub signer: KeyId,
}

/// What a mail brings of a body that comes in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartFacts {
    /// The body, by its digest.
    pub body: Digest,
    /// Size of the parts, but for the last.
    pub part_bytes: u64,
    /// What of it; `None`: nothing, and the agent is to say what it lacks.
    pub span: Option<Span>,
}

/// What came after an order's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing.
    Absent,
    /// A file, kept on the disk under the order's ID and synced.
    Kept {
        /// Digest of the file.
        digest: Digest,
        /// Its size.
        bytes: u64,
    },
    /// More than this agent takes; nothing was kept.
    Refused(Label),
}

/// One module of a bundle, or one that is installed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Module {
    /// Its name.
    #[n(0)]
    pub name: Label,
    /// Its own version.
    #[n(1)]
    pub version: Label,
    /// Its own date.
    #[n(2)]
    pub date: Label,
    /// Where its file is, below the root.
    #[n(3)]
    pub path: ModulePath,
    /// Mode bits of the file.
    #[n(4)]
    pub mode: u32,
    /// Size of the file.
    #[n(5)]
    pub bytes: u64,
    /// Digest of the file.
    #[n(6)]
    pub digest: Digest,
    /// What it is: how it is replaced depends on it.
    #[n(7)]
    pub kind: ModuleKind,
}

/// What a bundle's verified manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BundleFacts {
    /// What the agent is called afterwards.
    #[n(0)]
    pub software_version: SoftwareVersion,
    /// Only over these; empty: over any.
    #[n(1)]
    pub from: Vec<SoftwareVersion>,
    /// Only for agents of one of these classes; empty: for all.
    #[n(2)]
    pub classes: Vec<Label>,
    /// Whether a script comes along.
    #[n(3)]
    pub has_script: bool,
    /// The modules.
    #[n(4)]
    pub modules: Vec<Module>,
    /// Bytes of all files together.
    #[n(5)]
    pub unpacked_bytes: u64,
    /// How to see that it works.
    #[n(6)]
    pub test: Option<TestEntry>,
    /// Which devices its firmware is for.
    #[cbor(n(7), default)]
    pub firmware: Vec<FirmwareEntry>,
}

impl BundleFacts {
    /// The agent that it brings, if any. The manifest's check allows no second one.
    #[must_use]
    pub fn agent(&self) -> Option<&Module> {
        self.modules.iter().find(|m| m.kind == ModuleKind::Agent)
    }
}

/// What is at the paths that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModulesFound {
    /// Digests of the files that are there; a path that is not in here has no readable regular file.
    pub files: BTreeMap<ModulePath, Digest>,
    /// Version of the box's read-only system.
    pub rom_version: Label,
}

/// Why a mail was not taken as an order. Counted and shown in `status`; never answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum JunkReason {
    /// Not a mail of this product.
    #[n(0)]
    Foreign,
    /// An answer of a machine: out of office and the like.
    #[n(1)]
    AutoReply,
    /// A delivery status: a mail of ours did not arrive.
    #[n(2)]
    Bounce,
    /// Larger than this agent takes.
    #[n(3)]
    TooLarge,
    /// Cannot be read as a sealed mail of this protocol version.
    #[n(4)]
    Unreadable,
    /// Not signed by the manager's key.
    #[n(5)]
    NotSigned,
    /// Sealed for others.
    #[n(6)]
    NotForUs,
    /// Altered or cut on its way.
    #[n(7)]
    Damaged,
    /// Its life is over.
    #[n(8)]
    Expired,
    /// Made further in the future than a wrong clock explains.
    #[n(9)]
    FromFuture,
    /// Claims a longer life than an order may have.
    #[n(10)]
    LivesTooLong,
    /// Came before.
    #[n(11)]
    Repeated,
    /// Older than all that is remembered.
    #[n(12)]
    BelowFloor,
    /// Names another agent.
    #[n(13)]
    WrongAgent,
}

impl fmt::Display for JunkReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Foreign => "foreign",
            Self::AutoReply => "automatic answer",
            Self::Bounce => "bounce",
            Self::TooLarge => "too large",
            Self::Unreadable => "unreadable",
            Self::NotSigned => "not signed by the manager",
            Self::NotForUs => "for another recipient",
            Self::Damaged => "damaged",
            Self::Expired => "expired",
            Self::FromFuture => "from the future",
            Self::LivesTooLong => "lives too long",
            Self::Repeated => "repeated",
            Self::BelowFloor => "below the sequence floor",
            Self::WrongAgent => "for another agent",
        })
    }
}
