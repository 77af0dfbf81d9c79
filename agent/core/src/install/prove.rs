//! The agent as a module: the last thing that an install replaces, and only by a program that has proven itself
//! (PROTOCOL 6.8).
//!
//! ```text
//! the old program: … → Proving ─── proven ──→ Adopting ─ its file is in place, it is started
//!                        │  ↑ not proven         │                  ↓
//!                        │  └ twice more         │ not in place   the new program: Adopting → Confirming → end
//!                        ↓                       ↓
//!                    Restoring                Restoring
//! ```
//!
//! Until it is proven the new program lies where it was staged and only ever runs as a child of the old one, writes
//! nothing, and has a time limit. So whatever it does, and whenever the power goes, the box starts the old one. The
//! new one is first to save a state after that, when nothing but the end of the install is left to do.

use minicbor::{Decode, Encode};
use shared::Label;
use shared::message::{Cause, OutputTail, Phase};

use super::moves::{interrupted, roll_back, with_output};
use super::{Install, Planned, Surroundings, Turn};
use crate::event::ScriptEnd;
use crate::limits::{INTERRUPTIONS_MAX_COUNT, TRIAL_STARTS_MAX_COUNT, TRIALS_MAX_COUNT};
use crate::program::EXIT_PROVEN;

/// The trials of a new agent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Trials {
    /// Those that it has failed.
    #[n(0)]
    pub failed: u8,
    /// Those in which the agent was stopped, or the box.
    #[n(1)]
    pub broken_off: u8,
}

/// All else of the update is in place and works.
pub(super) fn agent_next(p: Box<Planned>, around: &Surroundings<'_>) -> Install {
    match p.facts.agent() {
        None => Install::Confirming(p),
        // It proves itself by running.
        Some(module) if around.program.is(module) => Install::Adopting(p),
        Some(_) => Install::Proving(p, Trials::default()),
    }
}

/// A trial has ended.
pub(super) fn tried(p: Box<Planned>, mut trials: Trials, end: &ScriptEnd, output: OutputTail) -> Turn {
    let Some(why) = shortcoming(end) else { return Turn::Go(Install::Adopting(p)) };
    let p = with_output(p, output);
    trials.failed = trials.failed.saturating_add(1);
    if trials.failed >= TRIALS_MAX_COUNT {
        return roll_back(p, Phase::Prove, Cause::NotProven(why));
    }
    Turn::Go(Install::Proving(p, trials))
}

/// How a trial ended, if not well.
fn shortcoming(end: &ScriptEnd) -> Option<Label> {
    let text = match end {
        ScriptEnd::Exit(EXIT_PROVEN) => return None,
        // The exit codes of every command of the agent.
        ScriptEnd::Exit(2) => "exit code 2 (its configuration, keys or state)".to_owned(),
        ScriptEnd::Exit(3) => "exit code 3 (its mailbox)".to_owned(),
        ScriptEnd::Exit(code) => format!("exit code {code}"),
        ScriptEnd::Signal(signal) => format!("ended by signal {signal}"),
        ScriptEnd::Timeout(limit_s) => format!("took longer than {limit_s} s"),
        ScriptEnd::NotRun(why) => return Some(why.clone()),
    };
    Some(Label::lossy(&text))
}

/// The new agent's file is in place, or could not be put there.
pub(super) fn adopted(p: Box<Planned>, around: &Surroundings<'_>, result: Result<(), Label>) -> Turn {
    match result {
        Err(why) => roll_back(p, Phase::Prove, Cause::Io(why)),
        // The rest is the new agent's to do, which is being started.
        Ok(()) if !around.runs_agent_of(&p) => Turn::Ignored(Install::Adopting(p)),
        Ok(()) => Turn::Go(Install::Confirming(p)),
    }
}

/// The agent has started amid the trials. A trial changes nothing: it is done again, but a program that takes
/// the box down must not do so for ever.
pub(super) fn restarted_in_trial(p: Box<Planned>, mut trials: Trials, recovered: bool) -> Turn {
    if recovered {
        return interrupted(p, Phase::Prove);
    }
    trials.broken_off = trials.broken_off.saturating_add(1);
    if trials.broken_off >= TRIAL_STARTS_MAX_COUNT {
        return roll_back(p, Phase::Prove, Cause::Interrupted);
    }
    Turn::Go(Install::Proving(p, trials))
}

/// An agent has started when the new one was to be put in place: either of them. To put it there again changes
/// nothing.
pub(super) fn restarted_in_adoption(mut p: Box<Planned>, around: &Surroundings<'_>, recovered: bool) -> Turn {
    // Also with an older copy of the state: after this comes only the end.
    if around.runs_agent_of(&p) {
        return Turn::Go(Install::Adopting(p));
    }
    if recovered {
        return interrupted(p, Phase::Prove);
    }
    p.interruptions = p.interruptions.saturating_add(1);
    if p.interruptions >= INTERRUPTIONS_MAX_COUNT {
        return roll_back(p, Phase::Prove, Cause::Interrupted);
    }
    Turn::Go(Install::Adopting(p))
}
