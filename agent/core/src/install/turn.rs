//! What goes into a move of an install and what comes out of it: plain values between `agent` and the moves.

use shared::message::{Cause, Failure, Hindrance, Outcome, OutputTail, Phase};
use shared::{EnvelopeId, Label, ModulePath, UnixMillis};

use super::{Install, Planned};
use crate::busy::BootId;
use crate::facts::ModulesFound;
use crate::profile::Rules;
use crate::program::Program;
use crate::versions::Combination;

/// What an install needs to know about its agent.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) now: UnixMillis,
    pub(crate) classes: &'a [Label],
    pub(crate) rules: &'a Rules,
    pub(crate) boot: &'a BootId,
    pub(crate) program: &'a Program,
    pub(crate) installed: Option<&'a Combination>,
    /// Its schedule lets it begin now, or it has none to keep to.
    pub(crate) may_begin: bool,
}

impl Surroundings<'_> {
    /// Whether the agent that this install brings is the one that runs.
    pub(super) fn runs_agent_of(&self, p: &Planned) -> bool {
        p.facts.agent().is_some_and(|module| self.program.is(module))
    }
}

/// What became of an install after something happened.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It goes on in this state, whose action is due.
    Go(Install),
    /// It has changed nothing, and its time is over: it waits for the next (PROTOCOL 15.2).
    Back(Box<Planned>),
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
    /// The program that runs was taken away again: this is where the other one is.
    pub(crate) become_what_is_at: Option<ModulePath>,
}

impl End {
    /// The order expired in the queue, or its last time to begin has passed.
    pub(crate) fn too_late(order: EnvelopeId, hindrance: Option<Hindrance>) -> Self {
        let cause = Cause::WaitedTooLong(hindrance);
        let failure = Failure { phase: Phase::Stage, cause, undo_failed: false };
        Self::without_change(order, Outcome::RolledBack(failure))
    }

    /// It ended before anything was changed.
    pub(crate) fn without_change(order: EnvelopeId, outcome: Outcome) -> Self {
        Self { order, outcome, output: None, commit: None, found: None, become_what_is_at: None }
    }
}
