//! What manager and agents say to each other: orders go down, reports come up. CBOR with integer keys
//! (RFC 8949), so that a field can be added without breaking boxes that were shipped years ago.
//!
//! Not here: how a message is sealed (`envelope`), and what anyone does about it (the cores).
//!
//! ```text
//! message = order / report            ; told apart by who signed the envelope (PROTOCOL 5.1)
//! order   = [0, {…}] enrolled / [1, {…}] install / [2, {}] query-versions / [3, {…}] cancel / [4, {…}] heartbeat
//!         / [5, {}] rekey / [6, {…}] acknowledge / [7, {}] query-counters / [8, {…}] schedule / [9, {…}] test
//! report  = [0, {…}] enrol / [1, {…}] progress / [2, {…}] ended / [3, {…}] versions / [4, {…}] cancelled
//!         / [5, {…}] standing / [6, {…}] rekeyed / [7, {…}] faults / [8, {…}] counters
//!         / [9, {…}] fetch / [10, {…}] tested
//! ```
//!
//! Why not JSON: every byte is paid for on some line, and binary digests would grow by half.

mod observed;
mod planned;

use core::fmt;

use minicbor::{Decode, Encode};

use crate::address::MailAddress;
use crate::id::{AgentId, Digest, EnvelopeId, Label};
use crate::limits::{MESSAGE_MAX_BYTES, MODULES_MAX_COUNT, SCRIPT_OUTPUT_MAX_BYTES};
use crate::time::UnixMillis;
use crate::version::SoftwareVersion;

pub use observed::{Acknowledge, CounterReport, FaultChange, FaultReport, ReadingMark};
pub use planned::{Fetch, Interval, Schedule, TestOrder, TestResult, Tested};

/// An instruction of the manager. Its identity, sequence and expiry are those of the envelope's header.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Order {
    /// The manager has accepted the agent's keys.
    #[n(0)]
    Enrolled(#[n(0)] Enrolled),
    /// Install the bundle that follows the message.
    #[n(1)]
    Install(#[n(0)] InstallOrder),
    /// Report every module's version (M10).
    #[n(2)]
    QueryVersions,
    /// Do not begin these orders if they have not begun.
    #[n(3)]
    Cancel(#[n(0)] CancelOrder),
    /// The manager is there; its time is the envelope's.
    #[n(4)]
    Heartbeat(#[n(0)] Heartbeat),
    /// Make new keys of your own (PROTOCOL 13).
    #[n(5)]
    Rekey,
    /// The manager has these fault reports and readings (M3).
    #[n(6)]
    Acknowledge(#[n(0)] Acknowledge),
    /// Report the counters that are collected (M5).
    #[n(7)]
    QueryCounters,
    /// When a bundle may be installed (PROTOCOL 15).
    #[n(8)]
    Schedule(#[n(0)] Schedule),
    /// Run the installed bundle's test (PROTOCOL 16).
    #[n(9)]
    Test(#[n(0)] TestOrder),
}

/// Confirms an enrolment, or new keys.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Enrolled {
    /// The agent that was accepted.
    #[n(0)]
    pub agent: AgentId,
    /// When to expect heartbeats; `None`: there are none.
    #[n(1)]
    pub heartbeat: Option<Heartbeat>,
}

/// Says that another one comes after so long (PROTOCOL 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Heartbeat {
    /// Milliseconds between two heartbeats.
    #[n(0)]
    pub every_ms: u64,
}

/// Brings the bundle in the envelope's payload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct InstallOrder {
    /// Digest of the whole bundle file.
    #[n(0)]
    pub bundle: Digest,
    /// Size of the bundle file.
    #[n(1)]
    pub bundle_bytes: u64,
    /// What the agent is called afterwards.
    #[n(2)]
    pub software_version: SoftwareVersion,
    /// It waits for a schedule of this bundle, which is mailed by itself.
    #[cbor(n(3), default, skip_if = "core::ops::Not::not")]
    pub scheduled: bool,
}

/// Names orders that are withdrawn. Idempotent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CancelOrder {
    /// The withdrawn orders.
    #[n(0)]
    pub orders: Vec<EnvelopeId>,
}

/// A statement of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Report {
    /// Asks to be accepted, with the secret of the invitation.
    #[n(0)]
    Enrol(#[n(0)] EnrolRequest),
    /// An install order arrived, or waits.
    #[n(1)]
    Progress(#[n(0)] Progress),
    /// An install order has ended, one way or the other.
    #[n(2)]
    Ended(#[n(0)] Ended),
    /// Answer to a version query, or sent unasked.
    #[n(3)]
    Versions(#[n(0)] Versions),
    /// Answer to a cancel order, one for each order that it named.
    #[n(4)]
    Cancelled(#[n(0)] CancelAnswer),
    /// Whom the agent trusts, and whether it hears the manager. Sent when one of them changes.
    #[n(5)]
    Standing(#[n(0)] Standing),
    /// Answer to a rekey order: the agent's new keys.
    #[n(6)]
    Rekeyed(#[n(0)] Rekeyed),
    /// Faults of devices that began or ended (M2). Acknowledged.
    #[n(7)]
    Faults(#[n(0)] FaultReport),
    /// Readings of counters (M4): an answer, or on schedule. Acknowledged.
    #[n(8)]
    Counters(#[n(0)] CounterReport),
    /// The time of a schedule has come: the bundle is wanted.
    #[n(9)]
    Fetch(#[n(0)] Fetch),
    /// How a test ended.
    #[n(10)]
    Tested(#[n(0)] Tested),
}

/// How an agent stands to its manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Standing {
    /// Version of the trust that it holds.
    #[n(0)]
    pub trust_version: u32,
    /// The last heartbeat came then, and several that should have followed did not: somebody may keep the
    /// manager's mails from this agent. `None`: heartbeats come.
    #[n(1)]
    pub unheard_since: Option<UnixMillis>,
}

/// The first mail of an agent.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EnrolRequest {
    /// The ID in the invitation.
    #[n(0)]
    pub agent: AgentId,
    /// The one-time secret in the invitation.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub secret: [u8; 32],
    /// Ed25519 key that will sign this agent's reports; it has signed this envelope.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub sign_key: [u8; 32],
    /// X25519 key that orders for this agent are sealed to.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub seal_key: [u8; 32],
    /// Where the agent reads its mail.
    #[n(4)]
    pub mail: MailAddress,
    /// Version of the agent program.
    #[n(5)]
    pub agent_version: Label,
}

impl fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest")
            .field("agent", &self.agent)
            .field("mail", &self.mail)
            .finish_non_exhaustive()
    }
}

/// New keys of an agent, under its old one. Made and checked in [`rekey`](crate::rekey).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Rekeyed {
    /// The order that asked for them.
    #[n(0)]
    pub order: EnvelopeId,
    /// Ed25519 key that will sign this agent's reports.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub sign_key: [u8; 32],
    /// X25519 key that orders for this agent are to be sealed to.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub seal_key: [u8; 32],
    /// The new signing key's signature: whoever names it holds it.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub proof: [u8; 64],
}

/// How far an install order is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Progress {
    /// The order.
    #[n(0)]
    pub order: EnvelopeId,
    /// What it does now.
    #[n(1)]
    pub step: Step,
}

/// A step of an install order that is worth a mail.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Step {
    /// The bundle is here and kept.
    #[n(0)]
    Received,
    /// It cannot go on now, and tries again.
    #[n(1)]
    Waiting(#[n(0)] Waiting),
}

/// Why an install waits, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Waiting {
    /// The reason.
    #[n(0)]
    pub reason: WaitReason,
    /// The next try; for a restart of the box: when the wait for it is given up.
    #[n(1)]
    pub until: UnixMillis,
    /// What exactly is in the way: an owner and its reason, a module and a process.
    #[n(2)]
    pub about: Option<Label>,
}

/// `a lease is held (billing: metering run)`: why, without until when.
impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hindrance(f, self.reason, self.about.as_ref())
    }
}

/// What is in the way of an install.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hindrance {
    /// The kind.
    #[n(0)]
    pub reason: WaitReason,
    /// What exactly.
    #[n(1)]
    pub about: Option<Label>,
}

impl Hindrance {
    /// One of which the kind says all.
    #[must_use]
    pub fn of(reason: WaitReason) -> Self {
        Self { reason, about: None }
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hindrance(f, self.reason, self.about.as_ref())
    }
}

fn write_hindrance(f: &mut fmt::Formatter<'_>, reason: WaitReason, about: Option<&Label>) -> fmt::Result {
    match about {
        Some(about) => write!(f, "{reason} ({about})"),
        None => write!(f, "{reason}"),
    }
}

/// Why an install waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum WaitReason {
    /// The bundle's script said "not now" (exit code 75).
    #[n(0)]
    ScriptSaysNotNow,
    /// Another install is running.
    #[n(1)]
    OtherInstall,
    /// The disk has too little room.
    #[n(2)]
    NoSpace,
    /// Somebody does work that must not be interrupted.
    #[n(3)]
    Leased,
    /// A module is in use, and nothing is replaced under its user.
    #[n(4)]
    ModuleRunning,
    /// The box is to restart, and the install goes on after that.
    #[n(5)]
    BoxRestarts,
    /// Its time has not come, or its window is closed.
    #[n(6)]
    NotYet,
    /// A person at the site has put it off.
    #[n(7)]
    PutOff,
    /// It comes with a schedule, which has not arrived.
    #[n(8)]
    NoSchedule,
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ScriptSaysNotNow => "the script says not now",
            Self::OtherInstall => "another install is running",
            Self::NoSpace => "too little room on the disk",
            Self::Leased => "a lease is held",
            Self::ModuleRunning => "a module is in use",
            Self::BoxRestarts => "the box is to restart",
            Self::NotYet => "its time has not come",
            Self::PutOff => "put off at the site",
            Self::NoSchedule => "its schedule has not arrived",
        })
    }
}

/// The end of an install order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Ended {
    /// The order.
    #[n(0)]
    pub order: EnvelopeId,
    /// How it ended.
    #[n(1)]
    pub outcome: Outcome,
    /// Tail of the script's output, if a script ran.
    #[n(2)]
    pub output: Option<OutputTail>,
    /// What is installed now, read from the files.
    #[n(3)]
    pub versions: VersionReport,
}

/// How an install order ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// Every module is in place.
    #[n(0)]
    Installed,
    /// The files were of this version already; nothing was done.
    #[n(1)]
    AlreadyInstalled,
    /// It failed; the files are those from before.
    #[n(2)]
    RolledBack(#[n(0)] Failure),
    /// It was never begun.
    #[n(3)]
    Refused(#[n(0)] Refusal),
    /// It failed and the files could not all be put back; the version report says which.
    #[n(4)]
    Damaged(#[n(0)] Failure),
}

/// What failed in an install.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Failure {
    /// Where.
    #[n(0)]
    pub phase: Phase,
    /// How.
    #[n(1)]
    pub cause: Cause,
    /// True if the script's `undo` ended with an error as well.
    #[n(2)]
    pub undo_failed: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.phase, self.cause)?;
        if self.undo_failed { f.write_str("; undo failed too") } else { Ok(()) }
    }
}

/// Phases of an install, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Phase {
    /// Unpacking beside the root.
    #[n(0)]
    Stage,
    /// Script: may it be installed here and now? Changes nothing.
    #[n(1)]
    Check,
    /// Script: before the files change.
    #[n(2)]
    Pre,
    /// The agent puts the files in place.
    #[n(3)]
    Switch,
    /// Script: after the files changed.
    #[n(4)]
    Post,
    /// Script: does it work?
    #[n(5)]
    Verify,
    /// The bundle's agent shows that it works here, and takes the place of the one that runs.
    #[n(7)]
    Prove,
    /// Script: after the old files are back.
    #[n(6)]
    Undo,
}

impl Phase {
    /// The script's argument for this phase, or the agent's own word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Check => "check",
            Self::Pre => "pre",
            Self::Switch => "switch",
            Self::Post => "post",
            Self::Verify => "verify",
            Self::Prove => "prove",
            Self::Undo => "undo",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a phase failed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Cause {
    /// The script ended with this exit code.
    #[n(0)]
    ScriptExit(#[n(0)] i32),
    /// The script was ended by this signal.
    #[n(1)]
    ScriptSignal(#[n(0)] i32),
    /// The script ran longer than its limit, in seconds.
    #[n(2)]
    ScriptTimeout(#[n(0)] u64),
    /// The agent stopped in the middle (power cut, kill) too often.
    #[n(3)]
    Interrupted,
    /// A file operation failed.
    #[n(4)]
    Io(#[n(0)] Label),
    /// The bundle's content is not what its manifest says.
    #[n(5)]
    BadContent(#[n(0)] Label),
    /// Something was in the way until the order expired; `None`: it was too old when its turn came.
    #[n(6)]
    WaitedTooLong(#[n(0)] Option<Hindrance>),
    /// The script asked for a restart of the box (exit code 76), which did not come in time.
    #[n(7)]
    NotRestarted,
    /// The script asked for a restart of the box once more than one install may.
    #[n(8)]
    TooManyRestarts,
    /// Something was in the way, and what had been prepared could not be taken back to wait for it.
    #[n(9)]
    Hindered(#[n(0)] Hindrance),
    /// The bundle's agent has not proven itself on this box: how its last trial ended.
    #[n(10)]
    NotProven(#[n(0)] Label),
}

/// Exit code with which a script says "not now", in `check` and `pre`.
pub const EXIT_NOT_NOW: i32 = 75;

/// Exit code with which a script asks for a restart of the box, in `post` and `undo`.
pub const EXIT_RESTART: i32 = 76;

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ScriptExit(EXIT_RESTART) => {
                f.write_str("script ended with exit code 76 (restart the box), allowed in post and undo only")
            }
            Self::ScriptExit(code) => write!(f, "script ended with exit code {code}"),
            Self::ScriptSignal(signal) => write!(f, "script was ended by signal {signal}"),
            Self::ScriptTimeout(limit_s) => write!(f, "script ran longer than {limit_s} s"),
            Self::Interrupted => f.write_str("interrupted by restarts"),
            Self::Io(text) => write!(f, "file error: {text}"),
            Self::BadContent(text) => write!(f, "bad content: {text}"),
            Self::WaitedTooLong(None) => f.write_str("the order expired before its turn came"),
            Self::WaitedTooLong(Some(last)) => write!(f, "waited until the order expired: {last}"),
            Self::NotRestarted => f.write_str("the box was not restarted in time"),
            Self::TooManyRestarts => f.write_str("the script asked for a restart of the box too often"),
            Self::Hindered(hindrance) => hindrance.fmt(f),
            Self::NotProven(text) => write!(f, "the new agent has not proven itself: {text}"),
        }
    }
}

/// Why an install order was not begun.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Refusal {
    /// A newer install order was taken before.
    #[n(0)]
    Superseded,
    /// The bundle is for other classes.
    #[n(1)]
    WrongClass,
    /// The bundle goes only over other versions than the installed one.
    #[n(2)]
    WrongFromVersion,
    /// No release key of ours has signed the bundle.
    #[n(3)]
    NotSigned,
    /// The bundle cannot be read.
    #[n(4)]
    BadBundle(#[n(0)] Label),
    /// A cancel order came first.
    #[n(5)]
    Cancelled,
    /// Too many install orders wait already.
    #[n(6)]
    QueueFull,
    /// This module has a set-user-ID, set-group-ID or sticky bit, which the box does not allow.
    #[n(7)]
    SpecialMode(#[n(0)] Label),
    /// The bundle's agent would not take the place of the one that runs: where that one is.
    #[n(8)]
    OtherAgent(#[n(0)] Label),
    /// A person at the site does not want it (R9).
    #[n(9)]
    Declined,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superseded => f.write_str("a newer install order was taken before"),
            Self::WrongClass => f.write_str("the bundle is for another class"),
            Self::WrongFromVersion => f.write_str("the bundle does not go over the installed version"),
            Self::NotSigned => f.write_str("the bundle has no signature of a known release key"),
            Self::BadBundle(text) => write!(f, "bad bundle: {text}"),
            Self::Cancelled => f.write_str("cancelled before it began"),
            Self::QueueFull => f.write_str("too many install orders wait"),
            Self::SpecialMode(module) => {
                write!(f, "module {module} has a set-user-ID, set-group-ID or sticky bit, not allowed here")
            }
            Self::Declined => f.write_str("declined at the site"),
            Self::OtherAgent(text) => {
                write!(f, "the bundle's agent would not replace the one that runs: {text}")
            }
        }
    }
}

/// Version report with what caused it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Versions {
    /// The version query that this answers.
    #[n(0)]
    pub query: Option<EnvelopeId>,
    /// The report.
    #[n(1)]
    pub versions: VersionReport,
}

/// Every module's version and the overall Software Version (M10).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct VersionReport {
    /// The overall version.
    #[n(0)]
    pub software: Reported,
    /// Version of the box's read-only system.
    #[n(1)]
    pub rom_version: Label,
    /// The modules, by name; at most [`MODULES_MAX_COUNT`].
    #[cbor(n(2), decode_with = "bounded_modules")]
    pub modules: Vec<ModuleVersion>,
    /// When the files were read, by the agent's clock.
    #[n(3)]
    pub taken_at: UnixMillis,
}

/// Refuses a list that is too long before all of it is in memory: nine bytes of CBOR become eighty.
fn bounded_modules<'b, C>(
    d: &mut minicbor::Decoder<'b>,
    ctx: &mut C,
) -> Result<Vec<ModuleVersion>, minicbor::decode::Error> {
    let mut modules = Vec::new();
    for module in d.array_iter_with(ctx)? {
        if modules.len() >= MODULES_MAX_COUNT {
            return Err(minicbor::decode::Error::message("more modules than a version report may have"));
        }
        modules.push(module?);
    }
    Ok(modules)
}

/// The overall version as found on the files (M11): never what was ordered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Reported {
    /// No bundle was ever installed.
    #[n(0)]
    Nothing,
    /// Every module's file is the one of this version.
    #[n(1)]
    Exact(#[n(0)] SoftwareVersion),
    /// This version was installed, but some files are other ones.
    #[n(2)]
    Mixed(#[n(0)] SoftwareVersion),
}

impl Reported {
    /// The version, if all files are those of one.
    #[must_use]
    pub fn exact(&self) -> Option<&SoftwareVersion> {
        match self {
            Self::Exact(version) => Some(version),
            Self::Nothing | Self::Mixed(_) => None,
        }
    }
}

/// `1.0.02-0`, `none`, or `mixed(1.0.02-0)`: the cell in tables and CSV.
impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.pad("none"),
            Self::Exact(version) => version.fmt(f),
            Self::Mixed(version) => f.pad(&format!("mixed({version})")),
        }
    }
}

/// One module as it is on the agent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ModuleVersion {
    /// Its name.
    #[n(0)]
    pub name: Label,
    /// Its own version, as its bundle gave it.
    #[n(1)]
    pub version: Label,
    /// Its own date (`2026-11-21`), as its bundle gave it.
    #[n(2)]
    pub date: Label,
    /// Whether its file is the one of that version.
    #[n(3)]
    pub file: FileState,
}

/// What is at a module's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum FileState {
    /// The file of this version.
    #[n(0)]
    Good,
    /// Another file.
    #[n(1)]
    Altered,
    /// Nothing, or something unreadable.
    #[n(2)]
    Missing,
}

/// The text form of M10: what `mailfleet-agent versions` prints.
impl fmt::Display for VersionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20}{}", "Software Version", self.software)?;
        writeln!(f, "{:<20}{}", "ROM Version", self.rom_version)?;
        writeln!(f, "Modules")?;
        let name_width =
            self.modules.iter().map(|m| m.name.as_str().chars().count()).max().unwrap_or(0).max(18);
        for m in &self.modules {
            let note = match m.file {
                FileState::Good => "",
                FileState::Altered => "  altered",
                FileState::Missing => "  missing",
            };
            writeln!(f, "{:<name_width$}  {:<12}{}{note}", m.name, m.version, m.date)?;
        }
        Ok(())
    }
}

/// What became of a withdrawn order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CancelAnswer {
    /// The withdrawn order.
    #[n(0)]
    pub order: EnvelopeId,
    /// What became of it.
    #[n(1)]
    pub result: CancelResult,
}

/// What became of a withdrawn order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum CancelResult {
    /// It had not begun and will not.
    #[n(0)]
    BeforeStart,
    /// It had begun or ended.
    #[n(1)]
    TooLate,
    /// It was never seen; if it comes, it is refused.
    #[n(2)]
    Unknown,
}

impl fmt::Display for CancelResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BeforeStart => "cancelled before it began",
            Self::TooLate => "too late to cancel",
            Self::Unknown => "cancelled before it arrived",
        })
    }
}

/// The last bytes of a script's output, as text: at most 10 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode)]
#[cbor(transparent)]
pub struct OutputTail(#[n(0)] String);

impl OutputTail {
    /// Keeps the tail of raw output: invalid UTF-8 becomes U+FFFD, control characters but newline and tab
    /// are dropped, so that a terminal that shows it cannot be driven by it.
    #[must_use]
    pub fn of(raw: &[u8]) -> Self {
        let text: String = String::from_utf8_lossy(raw)
            .chars()
            .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
            .collect();
        let mut start = text.len().saturating_sub(SCRIPT_OUTPUT_MAX_BYTES);
        while !text.is_char_boundary(start) {
            start = start.saturating_add(1);
        }
        Self(text.get(start..).unwrap_or_default().to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'b, C> Decode<'b, C> for OutputTail {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Ok(Self::of(d.str()?.as_bytes()))
    }
}

/// A message that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Larger than [`MESSAGE_MAX_BYTES`].
    #[error("message of {found} bytes, expected at most {MESSAGE_MAX_BYTES}")]
    TooLarge {
        /// Its size in bytes.
        found: usize,
    },
    /// Not the CBOR of a message.
    #[error("not a message of this protocol version")]
    Decode(#[source] minicbor::decode::Error),
    /// Bytes after the message's end.
    #[error("{extra} bytes after the message's end")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

/// CBOR of a message.
#[must_use]
pub fn encode<T: Encode<()>>(message: &T) -> Vec<u8> {
    // Encoding into memory cannot fail: minicbor's `Vec` writer is infallible.
    minicbor::to_vec(message).unwrap_or_default()
}

fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, MessageError> {
    if bytes.len() > MESSAGE_MAX_BYTES {
        return Err(MessageError::TooLarge { found: bytes.len() });
    }
    let mut decoder = minicbor::Decoder::new(bytes);
    let message = decoder.decode().map_err(MessageError::Decode)?;
    match bytes.len().saturating_sub(decoder.position()) {
        0 => Ok(message),
        extra => Err(MessageError::Trailing { extra }),
    }
}

/// Reads an order.
///
/// # Errors
/// Too large, not an order, or bytes after it.
pub fn decode_order(bytes: &[u8]) -> Result<Order, MessageError> {
    decode(bytes)
}

/// Reads a report.
///
/// # Errors
/// Too large, not a report, too many modules, or bytes after it.
pub fn decode_report(bytes: &[u8]) -> Result<Report, MessageError> {
    decode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> VersionReport {
        let module = |name: &str, version: &str, date: &str| ModuleVersion {
            name: Label::lossy(name),
            version: Label::lossy(version),
            date: Label::lossy(date),
            file: FileState::Good,
        };
        VersionReport {
            software: Reported::Exact(SoftwareVersion::parse("1.0.02-0").unwrap()),
            rom_version: Label::lossy("1.5.08"),
            modules: vec![module("abcd", "1.0.00", "2026-01-01"), module("bbb.lib", "1.3.05", "2026-11-29")],
            taken_at: UnixMillis(0),
        }
    }

    #[test]
    fn a_version_report_prints_as_the_text_of_m10() {
        assert_eq!(
            sample().to_string(),
            "Software Version    1.0.02-0\nROM Version         1.5.08\nModules\n\
             abcd                1.0.00      2026-01-01\nbbb.lib             1.3.05      2026-11-29\n"
        );
    }

    #[test]
    fn messages_read_back() {
        let report = Report::Ended(Ended {
            order: EnvelopeId([7; 16]),
            outcome: Outcome::RolledBack(Failure {
                phase: Phase::Post,
                cause: Cause::ScriptExit(3),
                undo_failed: false,
            }),
            output: Some(OutputTail::of(b"no such service\n")),
            versions: sample(),
        });
        assert_eq!(decode_report(&encode(&report)).unwrap(), report);
        let order = Order::Cancel(CancelOrder { orders: vec![EnvelopeId([1; 16])] });
        assert_eq!(decode_order(&encode(&order)).unwrap(), order);
        assert_eq!(decode_order(&encode(&Order::QueryVersions)).unwrap(), Order::QueryVersions);
    }

    #[test]
    fn what_an_install_waits_for_is_told_in_words() {
        let about = Some(Label::lossy("billing: metering run"));
        let waiting = Waiting { reason: WaitReason::Leased, until: UnixMillis(0), about: about.clone() };
        assert_eq!(waiting.to_string(), "a lease is held (billing: metering run)");
        let last = Hindrance { reason: waiting.reason, about };
        let cause = Cause::WaitedTooLong(Some(last));
        assert_eq!(
            cause.to_string(),
            "waited until the order expired: a lease is held (billing: metering run)"
        );
    }

    #[test]
    fn bytes_after_a_message_are_refused() {
        let mut bytes = encode(&Order::QueryVersions);
        bytes.push(0);
        assert!(matches!(decode_order(&bytes), Err(MessageError::Trailing { extra: 1 })));
    }

    #[test]
    fn a_version_report_has_a_bounded_number_of_modules() {
        let report = |count| {
            let mut versions = sample();
            versions.modules = versions.modules.iter().cycle().take(count).cloned().collect();
            encode(&Report::Versions(Versions { query: None, versions }))
        };
        assert!(decode_report(&report(MODULES_MAX_COUNT)).is_ok());
        let err = decode_report(&report(MODULES_MAX_COUNT + 1)).unwrap_err();
        assert!(crate::error::chain(&err).contains("more modules"), "{err:?}");
    }

    #[test]
    fn a_field_of_a_later_version_is_skipped() {
        // {0: "A1", 99: true}: minicbor's map form ignores keys that it does not know.
        let bytes = [0xa2, 0x00, 0x62, b'A', b'1', 0x18, 0x63, 0xf5];
        let enrolled: Enrolled = minicbor::decode(&bytes).unwrap();
        assert_eq!(enrolled.agent.as_str(), "A1");
    }

    #[test]
    fn script_output_cannot_drive_a_terminal() {
        let tail = OutputTail::of(b"\x1b[2Jhello\r\n\tworld\x07\xff");
        assert_eq!(tail.as_str(), "[2Jhello\n\tworld\u{fffd}");
        assert_eq!(OutputTail::of(&vec![b'x'; 20_000]).as_str().len(), SCRIPT_OUTPUT_MAX_BYTES);
    }
}
