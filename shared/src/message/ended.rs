//! How an install order ended, and why.

use core::fmt;

use minicbor::{Decode, Encode};

use super::progress::Hindrance;
use super::versions::VersionReport;
use crate::id::{EnvelopeId, Label};
use crate::limits::SCRIPT_OUTPUT_MAX_BYTES;

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
    /// The delta was made for another file than this module's: the full bundle is wanted (PROTOCOL 6.10).
    #[n(10)]
    OtherBase(#[n(0)] Label),
    /// It cannot come within the line's budget before it expires: what is in the way.
    #[n(11)]
    OverBudget(#[n(0)] Label),
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
            Self::OtherBase(text) => write!(f, "the full bundle is needed: {text}"),
            Self::OverBudget(text) => write!(f, "the budget of its line lets it come too late: {text}"),
            Self::OtherAgent(text) => {
                write!(f, "the bundle's agent would not replace the one that runs: {text}")
            }
        }
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
