//! What an agent must not lose: one value, saved whole before anything is said or done. The checksum around
//! it and the way it gets onto the disk are the shell's.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use shared::message::{EnrolRequest, Outcome, OutputTail, VersionReport};
use shared::trust::Trust;
use shared::{Digest, EnvelopeId, ModulePath, UnixMillis};
use thiserror::Error;

use crate::facts::{JunkReason, ModulesFound};
use crate::firmware::Updates;
use crate::fresh::Freshness;
use crate::install::{Install, Job};
use crate::meter::Meter;
use crate::outbox::Outbox;
use crate::rekey::OwnKeys;
use crate::schedule::KeptSchedule;
use crate::test_run::TestRun;
use crate::transfer::Transfer;
use crate::versions::{Combination, paths_of, report};
use crate::watch::Watch;

/// Version of the saved form. Fields are added without a new one; a changed meaning needs a new one.
const FORMAT: u8 = 1;

/// Everything that survives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct State {
    /// Whether the manager knows this agent.
    #[n(0)]
    pub enrolment: Enrolment,
    /// What keeps orders from counting twice.
    #[n(1)]
    pub fresh: Freshness,
    /// What is installed, as of the last commit.
    #[n(2)]
    pub installed: Option<Combination>,
    /// Install orders that wait for their turn, in the order of their arrival.
    #[n(3)]
    pub queue: Vec<Job>,
    /// The running install.
    #[n(4)]
    pub active: Option<Install>,
    /// Reports that wait until the files can be read.
    #[n(5)]
    pub owed: Vec<Owed>,
    /// Reports that wait for the mail.
    #[n(6)]
    pub outbox: Outbox,
    /// Orders that were withdrawn before they came, with the time until which they could still come.
    #[n(7)]
    pub cancelled: BTreeMap<EnvelopeId, UnixMillis>,
    /// Mails that were no orders, by reason.
    #[n(9)]
    pub junk: BTreeMap<JunkReason, u64>,
    /// When the last mail was looked at.
    #[n(10)]
    pub last_mail: Option<UnixMillis>,
    /// How the last install order ended.
    #[n(11)]
    pub last_end: Option<LastEnd>,
    /// An install that left damage: its folder with the old files is kept for a person.
    #[n(12)]
    pub keep_folder: Option<EnvelopeId>,
    /// Whom this agent believes.
    #[n(13)]
    pub trust: Trust,
    /// Milliseconds between two heartbeats, if the manager sends any.
    #[n(14)]
    pub heartbeat_every_ms: Option<u64>,
    /// Heartbeats are missing, and that was reported.
    #[n(15)]
    pub unheard: bool,
    /// Its own keys.
    #[n(20)]
    #[cbor(default)]
    pub keys: OwnKeys,
    /// The devices beside the agent.
    #[cbor(n(16), default)]
    pub watch: Watch,
    /// When bundles may be installed, by their digests.
    #[cbor(n(17), default)]
    pub schedules: BTreeMap<Digest, KeptSchedule>,
    /// Tests that were ordered and have no result yet, in the order of their arrival.
    #[cbor(n(18), default)]
    pub tests: Vec<TestRun>,
    /// Orders that come in parts, and what is here of them.
    #[cbor(n(19), default)]
    pub transfers: Vec<Transfer>,
    /// What the line has carried, and how fast.
    #[cbor(n(21), default)]
    pub meter: Meter,
    /// Updates of devices.
    #[cbor(n(22), default)]
    pub updates: Updates,
}

/// Whether the manager knows this agent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Enrolment {
    /// The request is sent again until it is answered.
    #[n(0)]
    Requested(#[n(0)] Request),
    /// The manager has answered.
    #[n(1)]
    Accepted,
}

/// An enrolment request that is not answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Request {
    /// The message; the same keys and secret each time, so the manager may take it twice.
    #[n(0)]
    pub message: EnrolRequest,
    /// How often it was queued.
    #[n(1)]
    pub attempts: u32,
    /// When it is queued again.
    #[n(2)]
    pub next: UnixMillis,
}

/// A report that needs the files' digests first.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Owed {
    /// An answer to a version query, or a report that nobody asked for.
    #[n(0)]
    Versions(#[n(0)] Option<EnvelopeId>),
    /// The end of an install order.
    #[n(1)]
    Ended(#[n(0)] EnvelopeId, #[n(1)] Outcome, #[n(2)] Option<OutputTail>),
}

/// How an install order ended, for `status`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LastEnd {
    /// The order.
    #[n(0)]
    pub order: EnvelopeId,
    /// How.
    #[n(1)]
    pub outcome: Outcome,
    /// When.
    #[n(2)]
    pub at: UnixMillis,
}

/// Bytes that are no saved state of ours.
#[derive(Debug, Error)]
pub enum StateError {
    /// A later program has written it.
    #[error("saved state of format {found}, expected {FORMAT}")]
    Format {
        /// The format found.
        found: u8,
    },
    /// Not a saved state.
    #[error("not a saved state")]
    Decode(#[source] minicbor::decode::Error),
    /// No bytes at all.
    #[error("saved state is empty")]
    Empty,
}

impl State {
    /// The state of an agent that asks to be enrolled. `invited` is the invitation's creation time, `trust` what it
    /// says.
    #[must_use]
    pub fn enrolling(message: EnrolRequest, invited: UnixMillis, trust: Trust) -> Self {
        let request = Request { message, attempts: 0, next: invited };
        Self {
            enrolment: Enrolment::Requested(request),
            fresh: Freshness::since(invited),
            installed: None,
            queue: Vec::new(),
            active: None,
            owed: Vec::new(),
            outbox: Outbox::default(),
            cancelled: BTreeMap::new(),
            junk: BTreeMap::new(),
            last_mail: None,
            last_end: None,
            keep_folder: None,
            trust,
            heartbeat_every_ms: None,
            unheard: false,
            keys: OwnKeys::default(),
            watch: Watch::default(),
            schedules: BTreeMap::new(),
            tests: Vec::new(),
            transfers: Vec::new(),
            meter: Meter::default(),
            updates: Updates::default(),
        }
    }

    /// Where the installed modules are: what a version report must read.
    #[must_use]
    pub fn module_paths(&self) -> Vec<ModulePath> {
        paths_of(self.installed.as_ref(), &[])
    }

    /// The version report (M10) of the files as found.
    #[must_use]
    pub fn version_report(&self, found: &ModulesFound, taken_at: UnixMillis) -> VersionReport {
        report(self.installed.as_ref(), found, taken_at)
    }

    /// The saved form: a format byte and CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        // Encoding into memory cannot fail: minicbor's `Vec` writer is infallible.
        bytes.extend(minicbor::to_vec(self).unwrap_or_default());
        bytes
    }

    /// Reads the saved form.
    ///
    /// # Errors
    /// Another format, or no state.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let (format, body) = bytes.split_first().ok_or(StateError::Empty)?;
        if *format != FORMAT {
            return Err(StateError::Format { found: *format });
        }
        minicbor::decode(body).map_err(StateError::Decode)
    }
}
