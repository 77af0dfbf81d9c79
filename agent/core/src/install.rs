//! One install from the kept bundle to its end: a journaled state machine. Each state is saved before its
//! action is done; `Install::action` gives the action, `Install::turn` consumes the state with what
//! happened.
//!
//! ```text
//! Inspecting → Comparing → Staging → Checking → Looking → Pre → Looking → Switching
//!                             ↑ ↘      ↑↓ 75    ↓ in use   │75     │in use    │
//!                             │    Waiting ←────┘          │       │          │
//!                             │       ↑                    ↓       ↓          ↓ failure
//!                             └───── Undoing ←─────────── Restoring ←────────────────────────┐
//!                     retry or end    │76 ↑                                                  │
//!                                     ↓   │ restarted                                        │
//!                                 AwaitingRestart                                            │
//!                                   ↑76        ↓ restarted                                   │
//!                      Switching → Post ──→ Verifying → Confirming → end            failure ─┘
//!                                              ↓ an agent ↑
//!                                           Proving → Adopting
//! ```
//!
//! Without a script, the phases that only run it are skipped. An install whose schedule does not let it begin any more goes
//! back into the queue from `Waiting`, `Looking`, and from where it would be tried again. Not here: queueing, reports, and
//! what is installed; `queue` and `agent` keep those.

mod moves;
mod prove;
mod restart;
#[cfg(test)]
mod tests;
mod turn;
mod wait;

use minicbor::{Decode, Encode};
use shared::message::{Failure, Hindrance, OutputTail, Phase, WaitReason, Waiting};
use shared::{Digest, EnvelopeId, SoftwareVersion, UnixMillis};

use crate::busy::Before;
use crate::effect::{Effect, ReadFor};
use crate::facts::BundleFacts;
use crate::program::Program;
use crate::versions::{Combination, paths_of};

pub(crate) use moves::Signal;
pub use prove::Trials;
pub use restart::{Restart, Then};
pub(crate) use turn::{End, Surroundings, Turn};
pub use wait::{Resume, Wait};

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
    /// Digest of its bundle.
    #[n(4)]
    pub bundle: Option<Digest>,
    /// It begins only when its bundle's schedule says so (PROTOCOL 15.2).
    #[cbor(n(5), default)]
    pub scheduled: bool,
    /// The wait that the manager knows about.
    #[n(6)]
    pub told: Option<Waiting>,
    /// A newer order that has begun while this one had to wait.
    #[n(7)]
    pub overtaken_by: Option<EnvelopeId>,
    /// Times that a restart found it half done before its time was over.
    #[cbor(n(8), default)]
    pub interruptions: u8,
    /// Its order's sequence number.
    #[cbor(n(9), default)]
    pub sequence: u64,
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
    /// Restarts of the box that its script has asked for.
    #[n(8)]
    pub restarts: u8,
}

impl Planned {
    /// The order, to be begun anew at another time. A bundle whose script kills the box gets no new tries by that.
    pub(crate) fn into_job(self) -> Job {
        Job { interruptions: self.interruptions, ..self.job }
    }
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
    /// A pause: the script said "not now" in `pre`, or something is still in use after it.
    #[n(2)]
    Wait(#[n(0)] Hindrance),
}

impl After {
    /// Whether the new files were all in place when it turned back.
    fn switched(&self) -> bool {
        match self {
            Self::Fail(Failure { phase, .. }) | Self::Retry(phase) => *phase > Phase::Switch,
            Self::Wait(_) => false,
        }
    }
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
    /// Is anything in use that must not be replaced now?
    #[n(12)]
    Looking(#[n(0)] Box<Planned>, #[n(1)] Before),
    /// The box is to restart: it goes on in the next run of its system.
    #[n(13)]
    AwaitingRestart(#[n(0)] Box<Planned>, #[n(1)] Restart),
    /// The bundle's agent shows that it works here.
    #[n(14)]
    Proving(#[n(0)] Box<Planned>, #[n(1)] Trials),
    /// The bundle's agent takes the place of the one that runs, and is started.
    #[n(15)]
    Adopting(#[n(0)] Box<Planned>),
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
            Self::Looking(..) => "looking",
            Self::AwaitingRestart(..) => "awaiting-restart",
            Self::Proving(..) => "proving",
            Self::Adopting(_) => "adopting",
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
            | Self::Undoing(p, ..)
            | Self::Looking(p, _)
            | Self::AwaitingRestart(p, _)
            | Self::Proving(p, _)
            | Self::Adopting(p) => &p.job,
        }
    }

    /// The order, to be begun anew at another time.
    pub(crate) fn into_job(self) -> Job {
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
            | Self::Undoing(p, ..)
            | Self::Looking(p, _)
            | Self::AwaitingRestart(p, _)
            | Self::Proving(p, _)
            | Self::Adopting(p) => p.into_job(),
        }
    }

    /// What it waits for: a pause, or the restart of the box.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        match self {
            Self::Waiting(_, wait) => Some(Waiting {
                reason: wait.hindrance.reason,
                until: wait.until,
                about: wait.hindrance.about.clone(),
            }),
            Self::AwaitingRestart(_, restart) => {
                Some(Waiting { reason: WaitReason::BoxRestarts, until: restart.deadline, about: None })
            }
            Self::Inspecting(_)
            | Self::Comparing(_)
            | Self::Staging(_)
            | Self::Checking(_)
            | Self::Looking(..)
            | Self::Pre(_)
            | Self::Switching(_)
            | Self::Post(_)
            | Self::Verifying(_)
            | Self::Confirming(_)
            | Self::Proving(..)
            | Self::Adopting(_)
            | Self::Restoring(..)
            | Self::Undoing(..) => None,
        }
    }

    /// When it wants to be asked again, if it waits.
    pub(crate) fn wake(&self) -> Option<UnixMillis> {
        let waiting = self.waiting()?;
        if let Self::AwaitingRestart(_, restart) = self {
            return Some(restart.next.min(restart.deadline.plus(core::time::Duration::from_millis(1))));
        }
        Some(waiting.until)
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
            | Self::Looking(_, Before::Pre)
            | Self::Waiting(..) => false,
            // Without a script, nothing comes before the switch.
            Self::Looking(p, Before::Switch) => p.facts.has_script,
            Self::AwaitingRestart(..)
            | Self::Pre(_)
            | Self::Switching(_)
            | Self::Post(_)
            | Self::Verifying(_)
            | Self::Confirming(_)
            | Self::Proving(..)
            | Self::Adopting(_)
            | Self::Restoring(..)
            | Self::Undoing(..) => true,
        }
    }

    /// What is to be done in this state; nothing in a pause.
    pub(crate) fn action(&self, installed: Option<&Combination>, program: &Program) -> Option<Effect> {
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
            Self::Looking(p, _) => Effect::ReadUse { order, modules: p.facts.modules.clone() },
            Self::Pre(p) => script(p, Phase::Pre),
            Self::Switching(p) => Effect::Switch { order, modules: p.facts.modules.clone() },
            Self::Post(p) => script(p, Phase::Post),
            Self::Verifying(p) => script(p, Phase::Verify),
            Self::Restoring(_, after) => Effect::Restore { order, switched: after.switched() },
            Self::Undoing(p, ..) => script(p, Phase::Undo),
            Self::AwaitingRestart(..) => Effect::RestartBox { order },
            Self::Proving(p, _) => Effect::Try { order, module: p.facts.agent()?.clone() },
            Self::Adopting(p) => {
                let module = p.facts.agent()?;
                Effect::Adopt { order, module: module.clone(), start: !program.is(module) }
            }
        })
    }
}
