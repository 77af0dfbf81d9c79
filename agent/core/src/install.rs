//! One install from the kept bundle to its end: a journaled state machine. Each state is saved before its
//! action is done; `Install::action` gives the action, `Install::turn` consumes the state with what
//! happened.
//!
//! ```text
//! Inspecting → Comparing → Staging → Checking → Pre → Switching → Post → Verifying → Confirming → end
//!                             ↑  ↘      ↓ ↑ 75   │75     │          │         │          │
//!                             │     Waiting ←──┐ └───────┴──────────┴─────────┴──────────┘ failure
//!                             │                │                    ↓
//!                             └── retry ── Undoing ←────────── Restoring
//! ```
//!
//! Without a script, the phases that only run it are skipped. Not here: queueing, reports, and what is
//! installed; `agent` keeps those.

mod moves;
#[cfg(test)]
mod tests;

use minicbor::{Decode, Encode};
use shared::message::{Cause, Failure, Outcome, OutputTail, Phase, WaitReason};
use shared::{EnvelopeId, Label, SoftwareVersion, UnixMillis};

use crate::effect::{Effect, ReadFor};
use crate::facts::{BundleFacts, ModulesFound};
use crate::versions::{Combination, paths_of};

pub(crate) use moves::Signal;

/// An install order that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Job {
    /// The order.
    #[n(0)]
    pub order: EnvelopeId,
    /// Past this it is not begun any more.
    #[n(1)]
    pub expires: UnixMillis,
    /// What it brings.
    #[n(2)]
    pub target: SoftwareVersion,
    /// When it was taken.
    #[n(3)]
    pub taken: UnixMillis,
}

/// An install whose bundle was read and verified.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Planned {
    /// The order.
    #[n(0)]
    pub job: Job,
    /// The bundle's manifest.
    #[n(1)]
    pub facts: BundleFacts,
    /// What was installed when it began.
    #[n(2)]
    pub from: Option<SoftwareVersion>,
    /// Times that a restart found it half done.
    #[n(3)]
    pub interruptions: u8,
    /// Times that a restart found `undo` half done.
    #[n(4)]
    pub undo_interruptions: u8,
    /// "Not now" so far.
    #[n(5)]
    pub waits: u32,
    /// The wait that the manager knows about.
    #[n(6)]
    pub told: Option<WaitReason>,
    /// Tail of the script's output that is worth reporting.
    #[n(7)]
    pub output: Option<OutputTail>,
}

/// A pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Wait {
    /// Why.
    #[n(0)]
    pub reason: WaitReason,
    /// Until when.
    #[n(1)]
    pub until: UnixMillis,
    /// Where it goes on.
    #[n(2)]
    pub resume: Resume,
}

/// Where an install goes on after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Resume {
    /// Unpack again.
    #[n(0)]
    Staging,
    /// Ask the script again.
    #[n(1)]
    Checking,
}

/// What comes after the files are back.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum After {
    /// The end, with this failure.
    #[n(0)]
    Fail(#[n(0)] Failure),
    /// Another try: an interruption in this phase was the only fault.
    #[n(1)]
    Retry(#[n(0)] Phase),
    /// A pause: the script said "not now" in `pre`.
    #[n(2)]
    Wait,
}

/// The running install.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Install {
    /// The kept bundle's manifest is read.
    #[n(0)]
    Inspecting(#[n(0)] Job),
    /// The files that are there are compared with old and new.
    #[n(1)]
    Comparing(#[n(0)] Box<Planned>),
    /// The bundle is unpacked beside the root.
    #[n(2)]
    Staging(#[n(0)] Box<Planned>),
    /// Script: may it be installed here and now?
    #[n(3)]
    Checking(#[n(0)] Box<Planned>),
    /// A pause.
    #[n(4)]
    Waiting(#[n(0)] Box<Planned>, #[n(1)] Wait),
    /// Script: before the files change.
    #[n(5)]
    Pre(#[n(0)] Box<Planned>),
    /// The files are put in place.
    #[n(6)]
    Switching(#[n(0)] Box<Planned>),
    /// Script: after the files changed.
    #[n(7)]
    Post(#[n(0)] Box<Planned>),
    /// Script: does it work?
    #[n(8)]
    Verifying(#[n(0)] Box<Planned>),
    /// The files are read once more: only what is there counts.
    #[n(9)]
    Confirming(#[n(0)] Box<Planned>),
    /// The old files are put back.
    #[n(10)]
    Restoring(#[n(0)] Box<Planned>, #[n(1)] After),
    /// Script: after the old files are back. The flag: not all of them are.
    #[n(11)]
    Undoing(#[n(0)] Box<Planned>, #[n(1)] After, #[n(2)] bool),
}

/// What an install needs to know about its agent.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: UnixMillis,
    pub(crate) classes: &'a [Label],
    pub(crate) installed: Option<&'a Combination>,
}

/// What became of an install after something happened.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It goes on in this state, whose action is due.
    Go(Install),
    /// It is over.
    End(Box<End>),
    /// Nothing that concerns this state.
    Ignored(Install),
}

/// The end of an install.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) order: EnvelopeId,
    pub(crate) outcome: Outcome,
    pub(crate) output: Option<OutputTail>,
    /// What is installed from now on, if that changed.
    pub(crate) commit: Option<Combination>,
    /// The files as just read, if they were: then the report needs no other reading.
    pub(crate) found: Option<ModulesFound>,
}

impl End {
    /// The order expired in the queue.
    pub(crate) fn too_late(order: EnvelopeId) -> Self {
        let failure = Failure { phase: Phase::Stage, cause: Cause::WaitedTooLong, undo_failed: false };
        Self::without_change(order, Outcome::RolledBack(failure))
    }

    /// It ended before anything was changed.
    pub(crate) fn without_change(order: EnvelopeId, outcome: Outcome) -> Self {
        Self { order, outcome, output: None, commit: None, found: None }
    }
}

impl Install {
    /// Its name in `status`, logs and the table of moves.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Inspecting(_) => "inspecting",
            Self::Comparing(_) => "comparing",
            Self::Staging(_) => "staging",
            Self::Checking(_) => "checking",
            Self::Waiting(..) => "waiting",
            Self::Pre(_) => "pre",
            Self::Switching(_) => "switching",
            Self::Post(_) => "post",
            Self::Verifying(_) => "verifying",
            Self::Confirming(_) => "confirming",
            Self::Restoring(..) => "restoring",
            Self::Undoing(..) => "undoing",
        }
    }

    /// The order.
    #[must_use]
    pub fn job(&self) -> &Job {
        match self {
            Self::Inspecting(job) => job,
            Self::Comparing(p)
            | Self::Staging(p)
            | Self::Checking(p)
            | Self::Waiting(p, _)
            | Self::Pre(p)
            | Self::Switching(p)
            | Self::Post(p)
            | Self::Verifying(p)
            | Self::Confirming(p)
            | Self::Restoring(p, _)
            | Self::Undoing(p, ..) => &p.job,
        }
    }

    /// The pause it is in.
    #[must_use]
    pub fn wait(&self) -> Option<&Wait> {
        if let Self::Waiting(_, wait) = self { Some(wait) } else { None }
    }

    /// True while the script may have changed something or files are neither old nor new: nobody may draw
    /// conclusions from them, and it is too late to withdraw the order.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        match self {
            Self::Inspecting(_)
            | Self::Comparing(_)
            | Self::Staging(_)
            | Self::Checking(_)
            | Self::Waiting(..) => false,
            Self::Pre(_)
            | Self::Switching(_)
            | Self::Post(_)
            | Self::Verifying(_)
            | Self::Confirming(_)
            | Self::Restoring(..)
            | Self::Undoing(..) => true,
        }
    }

    /// What is to be done in this state; nothing in a pause.
    pub(crate) fn action(&self, installed: Option<&Combination>) -> Option<Effect> {
        let order = self.job().order;
        let script = |p: &Planned, phase| Effect::RunScript {
            order,
            phase,
            from: p.from.clone(),
            to: p.job.target.clone(),
        };
        Some(match self {
            Self::Inspecting(_) => Effect::Inspect { order },
            Self::Comparing(p) | Self::Confirming(p) => Effect::ReadModules {
                read: ReadFor::Install(order),
                paths: paths_of(installed, &p.facts.modules),
            },
            Self::Staging(p) => Effect::Stage {
                order,
                modules: p.facts.modules.clone(),
                unpacked_bytes: p.facts.unpacked_bytes,
            },
            Self::Checking(p) => script(p, Phase::Check),
            Self::Waiting(..) => return None,
            Self::Pre(p) => script(p, Phase::Pre),
            Self::Switching(p) => Effect::Switch { order, modules: p.facts.modules.clone() },
            Self::Post(p) => script(p, Phase::Post),
            Self::Verifying(p) => script(p, Phase::Verify),
            Self::Restoring(..) => Effect::Restore { order },
            Self::Undoing(p, ..) => script(p, Phase::Undo),
        })
    }
}
