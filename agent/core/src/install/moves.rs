//! The moves of an install: which state follows which, and why. One `match` over (state, signal) is the
//! whole table; `tests/golden/install-moves.txt` shows it.

use shared::Label;
use shared::bundle::SPECIAL_MODE_BITS;
use shared::limits::MODULES_MAX_COUNT;
use shared::message::{
    Cause, EXIT_NOT_NOW, EXIT_RESTART, Failure, Hindrance, Outcome, OutputTail, Phase, Refusal, WaitReason,
};

use super::prove::{self, adopted, agent_next, tried};
use super::restart::{self, Then};
use super::wait::{looked, pause, resumed, started};
use super::{After, End, Install, Job, Planned, Resume, Surroundings, Turn};
use crate::busy::{Before, InUse};
use crate::event::{InspectFault, ScriptEnd, StageFault};
use crate::facts::{BundleFacts, ModulesFound};
use crate::firmware::Catalogue;
use crate::limits::INTERRUPTIONS_MAX_COUNT;
use crate::versions::{Combination, first_bad, reported};

/// Something that happened to the running install.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    Inspected(Result<Box<BundleFacts>, InspectFault>),
    Read(ModulesFound),
    Staged(Result<(), StageFault>),
    Use(InUse),
    Script(Phase, ScriptEnd, OutputTail),
    Switched(Result<(), Label>),
    Restored(Result<(), Label>),
    Tried(ScriptEnd, OutputTail),
    Adopted(Result<(), Label>),
    /// The pause may be over.
    Tick,
    /// A cancel order names it, or a person at the site does not want it.
    Cancel(Refusal),
    /// The agent has started; what was under way may or may not have happened.
    Restarted {
        /// The state is an older copy: more may have happened than it says.
        recovered: bool,
    },
}

impl Install {
    /// Takes the next step.
    pub(crate) fn turn(self, around: &Surroundings<'_>, signal: Signal) -> Turn {
        use Install as I;
        match (self, signal) {
            (I::Inspecting(job), Signal::Inspected(result)) => inspected(job, around, result),
            (I::Comparing(p), Signal::Read(found)) => compared(p, around, found),
            (I::Staging(p), Signal::Staged(result)) => staged(p, around, result),
            (I::Checking(p), Signal::Script(Phase::Check, end, output)) => checked(p, around, &end, output),
            (I::Waiting(p, wait), Signal::Tick) => resumed(p, wait, around),
            (I::Looking(p, before), Signal::Use(found)) => looked(p, before, around, &found),
            (I::Pre(p), Signal::Script(Phase::Pre, end, output)) => prepared(p, &end, output),
            (I::Switching(p), Signal::Switched(result)) => switched(p, around, result),
            (I::Post(p), Signal::Script(Phase::Post, end, output)) => {
                if end == ScriptEnd::Exit(EXIT_RESTART) {
                    return restart::asked(with_output(p, output), around, Then::Verify);
                }
                passed(p, Phase::Post, &end, output, Install::Verifying)
            }
            (I::Verifying(p), Signal::Script(Phase::Verify, end, output)) => {
                passed(p, Phase::Verify, &end, output, |p| agent_next(p, around))
            }
            (I::Proving(p, trials), Signal::Tried(end, output)) => tried(p, trials, &end, output),
            (I::Adopting(p), Signal::Adopted(result)) => adopted(p, around, result),
            (I::Confirming(p), Signal::Read(found)) => confirmed(p, around, found),
            (I::Restoring(p, after), Signal::Restored(result)) => restored(p, after, around, result.is_err()),
            (I::Undoing(p, after, damaged), Signal::Script(Phase::Undo, end, output)) => {
                if end == ScriptEnd::Exit(EXIT_RESTART) {
                    return restart::asked(keep_first_output(p, output), around, Then::Back(after, damaged));
                }
                let failed = cause_of(&end).is_some();
                let p = if failed { keep_first_output(p, output) } else { p };
                finished(p, after, around, Back { damaged, undo_failed: failed })
            }
            (I::AwaitingRestart(p, restart), Signal::Tick) => restart::still_up(p, restart, around),
            (state, Signal::Restarted { recovered }) => restarted(state, around, recovered),
            (state, Signal::Cancel(refusal)) if !state.has_begun() => {
                end(state.job().order, Outcome::Refused(refusal), None)
            }
            (state, _) => Turn::Ignored(state),
        }
    }
}

fn end(order: shared::EnvelopeId, outcome: Outcome, output: Option<OutputTail>) -> Turn {
    Turn::End(Box::new(End { output, ..End::without_change(order, outcome) }))
}

/// It ends before anything was changed.
pub(super) fn given_up(p: Box<Planned>, phase: Phase, cause: Cause) -> Turn {
    end(p.job.order, Outcome::RolledBack(Failure { phase, cause, undo_failed: false }), p.output)
}

/// It ends after something may have been changed: the old files come back first.
pub(super) fn roll_back(p: Box<Planned>, phase: Phase, cause: Cause) -> Turn {
    Turn::Go(Install::Restoring(p, After::Fail(Failure { phase, cause, undo_failed: false })))
}

/// Why a run of the script is a failure, if it is.
fn cause_of(end: &ScriptEnd) -> Option<Cause> {
    match end {
        ScriptEnd::Exit(0) => None,
        ScriptEnd::Exit(code) => Some(Cause::ScriptExit(*code)),
        ScriptEnd::Signal(signal) => Some(Cause::ScriptSignal(*signal)),
        ScriptEnd::Timeout(limit_s) => Some(Cause::ScriptTimeout(*limit_s)),
        ScriptEnd::NotRun(why) => Some(Cause::Io(why.clone())),
    }
}

pub(super) fn with_output(mut p: Box<Planned>, output: OutputTail) -> Box<Planned> {
    if !output.as_str().is_empty() {
        p.output = Some(output);
    }
    p
}

/// `undo` speaks only if the phase that failed was silent: its own output says what went wrong first.
fn keep_first_output(p: Box<Planned>, output: OutputTail) -> Box<Planned> {
    if p.output.is_some() { p } else { with_output(p, output) }
}

fn inspected(job: Job, around: &Surroundings<'_>, result: Result<Box<BundleFacts>, InspectFault>) -> Turn {
    let refuse = |refusal| end(job.order, Outcome::Refused(refusal), None);
    let facts = match result {
        Ok(facts) => *facts,
        Err(InspectFault::NotSigned) => return refuse(Refusal::NotSigned),
        Err(InspectFault::Bad(why)) => return refuse(Refusal::BadBundle(why)),
        Err(InspectFault::Io(why)) => {
            let failure = Failure { phase: Phase::Stage, cause: Cause::Io(why), undo_failed: false };
            return end(job.order, Outcome::RolledBack(failure), None);
        }
    };
    if facts.software_version != job.target {
        return refuse(Refusal::BadBundle(Label::lossy(&format!(
            "order names {}, bundle is {}",
            job.target, facts.software_version
        ))));
    }
    if !facts.classes.is_empty() && !facts.classes.iter().any(|c| around.classes.contains(c)) {
        return refuse(Refusal::WrongClass);
    }
    // PROTOCOL 6.6: refused as a whole, never installed without its bits.
    let special = facts.modules.iter().find(|m| m.mode & SPECIAL_MODE_BITS != 0);
    if let Some(module) = special.filter(|_| !around.rules.allow_setuid) {
        return refuse(Refusal::SpecialMode(module.name.clone()));
    }
    // PROTOCOL 6.8
    if let Some(refusal) = facts.agent().and_then(|module| around.program.refusal(module)) {
        return refuse(refusal);
    }
    let together = Combination::overlaid(around.installed, job.target.clone(), &facts.modules);
    if together.modules.len() > MODULES_MAX_COUNT {
        return refuse(Refusal::BadBundle(Label::lossy("more modules than one report can name")));
    }
    Turn::Go(Install::Comparing(Box::new(Planned {
        from: around.installed.map(|c| c.software_version.clone()),
        interruptions: job.interruptions,
        job,
        facts,
        undo_interruptions: 0,
        waits: 0,
        told: None,
        output: None,
        restarts: 0,
    })))
}

/// What is installed once the bundle is.
fn together(p: &Planned, around: &Surroundings<'_>) -> Combination {
    let together = Combination::overlaid(around.installed, p.job.target.clone(), &p.facts.modules);
    let brought = p.job.bundle.and_then(|bundle| Catalogue::of(bundle, &p.facts.firmware, &p.facts.modules));
    Combination { test: p.facts.test.clone(), catalogue: brought.or(together.catalogue), ..together }
}

/// Precheck, then act: nothing to do, not over this version, or go on.
fn compared(p: Box<Planned>, around: &Surroundings<'_>, found: ModulesFound) -> Turn {
    let repeats = p.from.as_ref() == Some(&p.job.target);
    let together = together(&p, around);
    if repeats && first_bad(&together.modules, &found).is_none() {
        return Turn::End(Box::new(End {
            order: p.job.order,
            outcome: Outcome::AlreadyInstalled,
            output: None,
            // The bundle may have been made anew with another test.
            commit: around.installed.is_none_or(|now| *now != together).then_some(together),
            found: Some(found),
            become_what_is_at: None,
        }));
    }
    let exact = reported(around.installed, &found);
    let over = exact.exact().is_some_and(|version| p.facts.from.contains(version));
    // A box that has this version with damaged files is mended, whatever `from` says.
    if p.facts.from.is_empty() || over || repeats {
        return Turn::Go(Install::Staging(p));
    }
    end(p.job.order, Outcome::Refused(Refusal::WrongFromVersion), None)
}

fn staged(p: Box<Planned>, around: &Surroundings<'_>, result: Result<(), StageFault>) -> Turn {
    match result {
        Ok(()) if p.facts.has_script => Turn::Go(Install::Checking(p)),
        Ok(()) => Turn::Go(Install::Looking(p, Before::Switch)),
        Err(StageFault::NoSpace) => pause(p, around.now, Hindrance::of(WaitReason::NoSpace), Resume::Staging),
        // PROTOCOL 6.10: nothing has failed, the manager mails the full bundle.
        Err(StageFault::OtherBase(why)) => {
            end(p.job.order, Outcome::Refused(Refusal::OtherBase(why)), p.output)
        }
        Err(StageFault::Bad(why)) => given_up(p, Phase::Stage, Cause::BadContent(why)),
        Err(StageFault::Io(why)) => given_up(p, Phase::Stage, Cause::Io(why)),
    }
}

fn checked(p: Box<Planned>, around: &Surroundings<'_>, end: &ScriptEnd, output: OutputTail) -> Turn {
    let p = with_output(p, output);
    match cause_of(end) {
        None => Turn::Go(Install::Looking(p, Before::Pre)),
        Some(Cause::ScriptExit(EXIT_NOT_NOW)) => {
            pause(p, around.now, Hindrance::of(WaitReason::ScriptSaysNotNow), Resume::Checking)
        }
        Some(cause) => given_up(p, Phase::Check, cause),
    }
}

fn prepared(p: Box<Planned>, end: &ScriptEnd, output: OutputTail) -> Turn {
    let p = with_output(p, output);
    match cause_of(end) {
        None => Turn::Go(Install::Looking(p, Before::Switch)),
        Some(Cause::ScriptExit(EXIT_NOT_NOW)) => {
            let hindrance = Hindrance::of(WaitReason::ScriptSaysNotNow);
            Turn::Go(Install::Restoring(p, After::Wait(hindrance)))
        }
        Some(cause) => roll_back(p, Phase::Pre, cause),
    }
}

fn switched(p: Box<Planned>, around: &Surroundings<'_>, result: Result<(), Label>) -> Turn {
    match result {
        Ok(()) if p.facts.has_script => Turn::Go(Install::Post(p)),
        Ok(()) => Turn::Go(agent_next(p, around)),
        Err(why) => roll_back(p, Phase::Switch, Cause::Io(why)),
    }
}

fn passed(
    p: Box<Planned>,
    phase: Phase,
    end: &ScriptEnd,
    output: OutputTail,
    next: impl FnOnce(Box<Planned>) -> Install,
) -> Turn {
    let p = with_output(p, output);
    match cause_of(end) {
        None => Turn::Go(next(p)),
        Some(cause) => roll_back(p, phase, cause),
    }
}

/// M11: the version changes only when every module of the update is in place.
fn confirmed(p: Box<Planned>, around: &Surroundings<'_>, found: ModulesFound) -> Turn {
    if let Some(module) = first_bad(&p.facts.modules, &found) {
        let why = Label::lossy(&format!("{} is not the file that was installed", module.path));
        return roll_back(p, Phase::Verify, Cause::BadContent(why));
    }
    let commit = together(&p, around);
    Turn::End(Box::new(End {
        order: p.job.order,
        outcome: Outcome::Installed,
        output: p.output,
        commit: Some(commit),
        found: Some(found),
        become_what_is_at: None,
    }))
}

/// What the way back has left.
pub(super) struct Back {
    pub(super) damaged: bool,
    pub(super) undo_failed: bool,
}

fn restored(p: Box<Planned>, after: After, around: &Surroundings<'_>, damaged: bool) -> Turn {
    if p.facts.has_script {
        return Turn::Go(Install::Undoing(p, after, damaged));
    }
    finished(p, after, around, Back { damaged, undo_failed: false })
}

pub(super) fn finished(p: Box<Planned>, after: After, around: &Surroundings<'_>, back: Back) -> Turn {
    let clean = !back.damaged && !back.undo_failed;
    let failure = match after {
        After::Retry(_) if clean && around.now <= p.job.expires => {
            return if around.may_begin { Turn::Go(Install::Staging(p)) } else { Turn::Back(p) };
        }
        After::Wait(hindrance) if clean => return pause(p, around.now, hindrance, Resume::Checking),
        After::Fail(failure) => failure,
        After::Retry(phase) => Failure { phase, cause: Cause::Interrupted, undo_failed: false },
        After::Wait(hindrance) => {
            Failure { phase: Phase::Pre, cause: Cause::Hindered(hindrance), undo_failed: false }
        }
    };
    let failure = Failure { undo_failed: back.undo_failed, ..failure };
    let outcome = if back.damaged { Outcome::Damaged(failure) } else { Outcome::RolledBack(failure) };
    // What runs is what was put back: the new agent has run for its last step, and found a module altered since.
    let runs =
        p.facts.agent().filter(|m| around.program.is(m) && around.program.file.as_ref() == Some(&m.path));
    let gone = runs.map(|module| module.path.clone());
    let end = End::without_change(p.job.order, outcome);
    Turn::End(Box::new(End { output: p.output, become_what_is_at: gone, ..end }))
}

fn restarted(state: Install, around: &Surroundings<'_>, recovered: bool) -> Turn {
    use Install as I;
    match state {
        // Reading changes nothing: do it again.
        I::Inspecting(_) | I::Comparing(_) => Turn::Go(state),
        I::Looking(p, before) if !recovered && (before == Before::Pre || !p.facts.has_script) => {
            Turn::Go(I::Looking(p, before))
        }
        // What was in use may not be so any more: "put off until the box restarts" ends here.
        I::Waiting(p, wait) if !recovered => started(p, wait, around.now),
        I::Confirming(p) if !recovered => Turn::Go(I::Confirming(p)),
        // Neither changes the installed files. An older copy of the state may hide that more was begun.
        I::Staging(p) if !recovered => again(p, Phase::Stage, I::Staging),
        I::Checking(p) if !recovered => again(p, Phase::Check, I::Checking),
        I::Staging(p) => interrupted(p, Phase::Stage),
        I::Checking(p) | I::Waiting(p, _) | I::Looking(p, Before::Pre) => interrupted(p, Phase::Check),
        I::Looking(p, Before::Switch) => interrupted(p, Phase::Pre),
        I::Pre(p) => interrupted(p, Phase::Pre),
        I::Switching(p) => interrupted(p, Phase::Switch),
        I::Post(p) => interrupted(p, Phase::Post),
        I::Verifying(p) | I::Confirming(p) => interrupted(p, Phase::Verify),
        I::AwaitingRestart(p, restart) => restart::started(p, restart, around, recovered),
        I::Proving(p, trials) => prove::restarted_in_trial(p, trials, recovered),
        I::Adopting(p) => prove::restarted_in_adoption(p, around, recovered),
        I::Restoring(p, after) => Turn::Go(I::Restoring(p, after)),
        I::Undoing(mut p, after, damaged) => {
            p.undo_interruptions = p.undo_interruptions.saturating_add(1);
            // An `undo` that stops the agent each time must not keep it from ever reporting.
            if p.undo_interruptions >= INTERRUPTIONS_MAX_COUNT {
                return finished(p, after, around, Back { damaged, undo_failed: true });
            }
            Turn::Go(I::Undoing(p, after, damaged))
        }
    }
}

/// Does a harmless step again, but not for ever.
fn again(mut p: Box<Planned>, phase: Phase, state: fn(Box<Planned>) -> Install) -> Turn {
    p.interruptions = p.interruptions.saturating_add(1);
    if p.interruptions >= INTERRUPTIONS_MAX_COUNT {
        return given_up(p, phase, Cause::Interrupted);
    }
    Turn::Go(state(p))
}

/// Goes back, and tries again from the start, but not for ever.
pub(super) fn interrupted(mut p: Box<Planned>, phase: Phase) -> Turn {
    p.interruptions = p.interruptions.saturating_add(1);
    if p.interruptions >= INTERRUPTIONS_MAX_COUNT {
        return roll_back(p, phase, Cause::Interrupted);
    }
    Turn::Go(Install::Restoring(p, After::Retry(phase)))
}
