//! The table of moves against its golden file, and the single moves that need words.
//! `UPDATE_GOLDEN=1` writes the table anew.
#![allow(clippy::wildcard_enum_match_arm, reason = "tests name the states that they are about")]

mod proofs;
mod waits;

use core::fmt::Write as _;
use std::sync::LazyLock;

use shared::bundle::ModuleKind;
use shared::message::{Cause, Failure, Hindrance, Outcome, OutputTail, Phase, Refusal, WaitReason};
use shared::{Digest, EnvelopeId, Label, ModulePath, SoftwareVersion, UnixMillis};

use super::*;
use crate::busy::{BootId, InUse, Running};
use crate::event::{InspectFault, ScriptEnd, StageFault};
use crate::facts::{Module, ModulesFound};
use crate::profile::Rules;
use crate::program::{EXIT_PROVEN, Program};

const T0: UnixMillis = UnixMillis(1_750_000_000_000);

fn version(text: &str) -> SoftwareVersion {
    SoftwareVersion::parse(text).unwrap()
}

fn job() -> Job {
    let expires = T0.plus(core::time::Duration::from_secs(86_400));
    Job {
        order: EnvelopeId([1; 16]),
        expires,
        target: version("2-0"),
        taken: T0,
        bundle: None,
        scheduled: false,
        told: None,
        overtaken_by: None,
        interruptions: 0,
        sequence: 1,
    }
}

fn facts() -> BundleFacts {
    let module = Module {
        name: Label::lossy("abcd"),
        version: Label::lossy("2"),
        date: Label::lossy("2026-01-01"),
        path: ModulePath::parse("bin/abcd").unwrap(),
        mode: 0o755,
        bytes: 1,
        digest: Digest::of(b"2"),
        kind: ModuleKind::OnDemand,
    };
    BundleFacts {
        software_version: version("2-0"),
        from: vec![],
        classes: vec![],
        has_script: true,
        modules: vec![module],
        unpacked_bytes: 1,
        test: None,
        firmware: vec![],
    }
}

fn planned() -> Box<Planned> {
    Box::new(Planned {
        job: job(),
        facts: facts(),
        from: None,
        interruptions: 0,
        undo_interruptions: 0,
        waits: 0,
        told: None,
        output: None,
        restarts: 0,
    })
}

/// The bundle with an agent besides.
fn with_agent() -> Box<Planned> {
    let mut p = planned();
    let path = ModulePath::parse("bin/agent").unwrap();
    let (name, digest) = (Label::lossy("agent"), Digest::of(b"new agent"));
    let module = Module { name, path, digest, kind: ModuleKind::Agent, ..p.facts.modules[0].clone() };
    p.facts.modules.push(module);
    p
}

/// The agent in `bin/agent`, with this content.
fn program(content: &[u8]) -> Program {
    Program {
        digest: Digest::of(content),
        file: Some(ModulePath::parse("bin/agent").unwrap()),
        place: Label::lossy("/opt/box/bin/agent"),
    }
}

fn hindrance() -> Hindrance {
    Hindrance { reason: WaitReason::ScriptSaysNotNow, about: None }
}

fn boot(name: &str) -> BootId {
    BootId(Label::lossy(name))
}

fn restart(then: Then) -> Restart {
    let deadline = T0.plus(core::time::Duration::from_secs(3_600));
    Restart { during: boot("first"), deadline, told: 1, next: T0, then }
}

fn failure(phase: Phase) -> Failure {
    Failure { phase, cause: Cause::ScriptExit(1), undo_failed: false }
}

fn states() -> Vec<Install> {
    let wait = Wait { hindrance: hindrance(), until: T0, resume: Resume::Checking };
    let fail = || After::Fail(failure(Phase::Post));
    vec![
        Install::Inspecting(job()),
        Install::Comparing(planned()),
        Install::Staging(planned()),
        Install::Checking(planned()),
        Install::Waiting(planned(), wait),
        Install::Looking(planned(), Before::Pre),
        Install::Pre(planned()),
        Install::Looking(planned(), Before::Switch),
        Install::Switching(planned()),
        Install::Post(planned()),
        Install::AwaitingRestart(planned(), restart(Then::Verify)),
        Install::Verifying(planned()),
        Install::Verifying(with_agent()),
        Install::Proving(with_agent(), Trials::default()),
        Install::Proving(with_agent(), Trials { failed: 2, broken_off: 4 }),
        Install::Adopting(with_agent()),
        Install::Confirming(planned()),
        Install::Restoring(planned(), fail()),
        Install::Restoring(planned(), After::Retry(Phase::Post)),
        Install::Restoring(planned(), After::Wait(hindrance())),
        Install::Undoing(planned(), fail(), false),
        Install::Undoing(planned(), fail(), true),
        Install::Undoing(planned(), After::Retry(Phase::Post), false),
        Install::Undoing(planned(), After::Wait(hindrance()), false),
        Install::AwaitingRestart(planned(), restart(Then::Back(fail(), false))),
        Install::AwaitingRestart(planned(), restart(Then::Back(fail(), true))),
        Install::AwaitingRestart(planned(), restart(Then::Back(After::Retry(Phase::Post), false))),
    ]
}

fn found(content: &[u8]) -> ModulesFound {
    let mut found = ModulesFound::default();
    found.files.insert(ModulePath::parse("bin/abcd").unwrap(), Digest::of(content));
    found
}

fn in_use() -> InUse {
    InUse { running: vec![Running { module: Label::lossy("abcd"), pid: 12 }], ..InUse::default() }
}

fn signals() -> Vec<(String, Signal)> {
    let label = || Label::lossy("x");
    let mut all = vec![
        ("inspected ok".to_owned(), Signal::Inspected(Ok(Box::new(facts())))),
        ("inspected not-signed".to_owned(), Signal::Inspected(Err(InspectFault::NotSigned))),
        ("inspected bad".to_owned(), Signal::Inspected(Err(InspectFault::Bad(label())))),
        ("inspected io".to_owned(), Signal::Inspected(Err(InspectFault::Io(label())))),
        ("read new".to_owned(), Signal::Read(found(b"2"))),
        ("read other".to_owned(), Signal::Read(found(b"1"))),
        ("staged ok".to_owned(), Signal::Staged(Ok(()))),
        ("staged no-space".to_owned(), Signal::Staged(Err(StageFault::NoSpace))),
        ("staged other-base".to_owned(), Signal::Staged(Err(StageFault::OtherBase(label())))),
        ("staged bad".to_owned(), Signal::Staged(Err(StageFault::Bad(label())))),
        ("staged io".to_owned(), Signal::Staged(Err(StageFault::Io(label())))),
        ("use none".to_owned(), Signal::Use(InUse::default())),
        ("use on-demand".to_owned(), Signal::Use(in_use())),
        ("switched ok".to_owned(), Signal::Switched(Ok(()))),
        ("switched io".to_owned(), Signal::Switched(Err(label()))),
        ("tried 77".to_owned(), Signal::Tried(ScriptEnd::Exit(EXIT_PROVEN), OutputTail::default())),
        ("tried 1".to_owned(), Signal::Tried(ScriptEnd::Exit(1), OutputTail::default())),
        ("tried timeout".to_owned(), Signal::Tried(ScriptEnd::Timeout(300), OutputTail::default())),
        ("adopted ok".to_owned(), Signal::Adopted(Ok(()))),
        ("adopted io".to_owned(), Signal::Adopted(Err(label()))),
        ("restored ok".to_owned(), Signal::Restored(Ok(()))),
        ("restored io".to_owned(), Signal::Restored(Err(label()))),
        ("tick".to_owned(), Signal::Tick),
        ("cancel".to_owned(), Signal::Cancel(Refusal::Cancelled)),
        ("restarted".to_owned(), Signal::Restarted { recovered: false }),
        ("restarted recovered".to_owned(), Signal::Restarted { recovered: true }),
    ];
    for phase in [Phase::Check, Phase::Pre, Phase::Post, Phase::Verify, Phase::Undo] {
        for (name, end) in [
            ("0", ScriptEnd::Exit(0)),
            ("1", ScriptEnd::Exit(1)),
            ("75", ScriptEnd::Exit(75)),
            ("76", ScriptEnd::Exit(76)),
            ("signal", ScriptEnd::Signal(9)),
            ("timeout", ScriptEnd::Timeout(600)),
            ("not-run", ScriptEnd::NotRun(label())),
        ] {
            let signal = Signal::Script(phase, end, OutputTail::default());
            all.push((format!("script {phase} {name}"), signal));
        }
    }
    all
}

fn describe(state: &Install) -> String {
    let name = state.name();
    let back = |after: &After, damaged: bool| {
        let then = match after {
            After::Fail(_) => "fail",
            After::Retry(_) => "retry",
            After::Wait(_) => "wait",
        };
        format!("{name}({then}{})", if damaged { ", damaged" } else { "" })
    };
    match state {
        Install::Restoring(_, after) => back(after, false),
        Install::Undoing(_, after, damaged)
        | Install::AwaitingRestart(_, Restart { then: Then::Back(after, damaged), .. }) => {
            back(after, *damaged)
        }
        Install::AwaitingRestart(..) => format!("{name}(verify)"),
        Install::Verifying(p) if p.facts.agent().is_some() => format!("{name}(agent)"),
        Install::Proving(_, trials) => format!("{name}({} failed)", trials.failed),
        Install::Looking(_, Before::Pre) => format!("{name}(pre)"),
        Install::Looking(_, Before::Switch) => format!("{name}(switch)"),
        other => other.name().to_owned(),
    }
}

fn describe_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Installed => "INSTALLED".to_owned(),
        Outcome::AlreadyInstalled => "ALREADY INSTALLED".to_owned(),
        Outcome::RolledBack(failure) => format!("ROLLED BACK {failure}"),
        Outcome::Refused(refusal) => format!("REFUSED {refusal}"),
        Outcome::Damaged(failure) => format!("DAMAGED {failure}"),
    }
}

/// In the first run of the box's system.
fn around() -> Surroundings<'static> {
    static ALL: LazyLock<(Rules, BootId, Program)> =
        LazyLock::new(|| (Rules::default(), boot("first"), program(b"old agent")));
    let (rules, boot, program) = &*ALL;
    Surroundings { now: T0, classes: &[], rules, boot, program, installed: None, may_begin: true }
}

#[test]
fn the_legal_moves_are_those_of_the_golden_file() {
    let mut table = String::from("state + signal = next; what is not listed changes nothing\n");
    for state in states() {
        writeln!(table).unwrap();
        let other_boot = boot("second");
        let restarted_box = Surroundings { boot: &other_boot, ..around() };
        let signals = signals().into_iter().map(|(name, signal)| (name, signal, around()));
        let awaits = matches!(state, Install::AwaitingRestart(..));
        let with_box = awaits.then(|| {
            let signal = Signal::Restarted { recovered: false };
            ("restarted with the box".to_owned(), signal, restarted_box)
        });
        let new_program = program(b"new agent");
        let as_new = Surroundings { program: &new_program, ..around() };
        // The other states are the old program's, or say the same to both.
        let by_new = if matches!(state, Install::Adopting(_)) { self::signals() } else { vec![] };
        let by_new = by_new.into_iter().map(|(name, signal)| (format!("{name}, as new"), signal, as_new));
        // What the schedule says matters only to what has not begun.
        let closed = Surroundings { may_begin: false, ..around() };
        let same = |signal: &Signal| {
            format!("{:?}", state.clone().turn(&around(), signal.clone()))
                == format!("{:?}", state.clone().turn(&closed, signal.clone()))
        };
        let out_of_time = self::signals().into_iter().filter(|(_, signal)| !same(signal));
        let out_of_time = out_of_time.map(|(name, signal)| (format!("{name}, closed"), signal, closed));
        for (name, signal, around) in signals.chain(with_box).chain(by_new).chain(out_of_time) {
            let next = match state.clone().turn(&around, signal) {
                Turn::Ignored(same) => {
                    assert_eq!(same, state, "an ignored signal changed something");
                    continue;
                }
                Turn::Go(next) => describe(&next),
                Turn::Back(_) => "BACK INTO THE QUEUE".to_owned(),
                Turn::End(end) => describe_outcome(&end.outcome),
            };
            writeln!(table, "{:<31} + {name:<22} = {next}", describe(&state)).unwrap();
        }
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/install-moves.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(file, &table).unwrap();
    }
    let golden = std::fs::read_to_string(file).unwrap();
    assert_eq!(table, golden, "moves changed; UPDATE_GOLDEN=1 accepts them");
}

#[test]
fn every_state_that_has_begun_ends_only_through_restoring() {
    for state in states().into_iter().filter(Install::has_begun) {
        for (name, signal) in signals() {
            let back = matches!(
                state,
                Install::Restoring(..)
                    | Install::Undoing(..)
                    | Install::AwaitingRestart(_, Restart { then: Then::Back(..), .. })
            );
            if let Turn::End(end) = state.clone().turn(&around(), signal) {
                assert!(back || end.commit.is_some(), "{} + {name} ends without restoring", state.name());
            }
        }
    }
}

#[test]
fn the_third_interruption_is_the_last() {
    let mut state = Install::Post(planned());
    let mut restarts = 0;
    let outcome = loop {
        let signal = match &state {
            Install::Restoring(..) => Signal::Restored(Ok(())),
            Install::Undoing(..) => Signal::Script(Phase::Undo, ScriptEnd::Exit(0), OutputTail::default()),
            _ => {
                restarts += 1;
                Signal::Restarted { recovered: false }
            }
        };
        match state.turn(&around(), signal) {
            Turn::Go(next) => state = next,
            Turn::Ignored(same) => panic!("{} ignored its signal", same.name()),
            Turn::Back(_) => panic!("its time is not over"),
            Turn::End(end) => break end.outcome,
        }
    };
    assert_eq!(restarts, 3);
    let Outcome::RolledBack(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.cause, Cause::Interrupted);
}

#[test]
fn an_undo_that_stops_the_agent_each_time_ends_too() {
    let mut state = Install::Undoing(planned(), After::Fail(failure(Phase::Post)), false);
    for _ in 0..2 {
        let Turn::Go(next) = state.turn(&around(), Signal::Restarted { recovered: false }) else {
            panic!("ended too soon");
        };
        state = next;
    }
    let Turn::End(end) = state.turn(&around(), Signal::Restarted { recovered: false }) else {
        panic!("goes on for ever");
    };
    assert!(matches!(end.outcome, Outcome::RolledBack(Failure { undo_failed: true, .. })));
}

#[test]
fn not_now_is_asked_again_with_growing_pauses_until_the_order_expires() {
    let mut state = Install::Checking(planned());
    let mut now = T0;
    let mut pauses = Vec::new();
    let outcome = loop {
        let around = Surroundings { now, ..around() };
        let not_now = Signal::Script(Phase::Check, ScriptEnd::Exit(75), OutputTail::default());
        let signal = if state.waiting().is_some() { Signal::Tick } else { not_now };
        match state.turn(&around, signal) {
            Turn::Go(next) => {
                if let Some(wait) = next.waiting() {
                    pauses.push(wait.until.since(now).as_secs());
                    now = wait.until;
                }
                state = next;
            }
            Turn::Ignored(same) => panic!("{} ignored its signal", same.name()),
            Turn::Back(_) => panic!("its time is not over"),
            Turn::End(end) => break end.outcome,
        }
    };
    assert_eq!(pauses[..8], [60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
    assert!(pauses.len() < 35, "{}", pauses.len());
    let cause = Cause::WaitedTooLong(Some(hindrance()));
    let expected = Failure { phase: Phase::Check, cause, undo_failed: false };
    assert_eq!(outcome, Outcome::RolledBack(expected));
}

#[test]
fn special_mode_bits_are_refused_unless_the_operator_allows_them() {
    let turn = |allow_setuid| {
        let mut facts = facts();
        facts.modules[0].mode = 0o4755;
        let rules = Rules { allow_setuid, ..Rules::default() };
        let around = Surroundings { rules: &rules, ..around() };
        match Install::Inspecting(job()).turn(&around, Signal::Inspected(Ok(Box::new(facts)))) {
            Turn::Go(next) => next.name().to_owned(),
            Turn::End(end) => describe_outcome(&end.outcome),
            Turn::Ignored(_) | Turn::Back(_) => "ignored or sent back".to_owned(),
        }
    };
    assert_eq!(turn(true), "comparing");
    assert_eq!(
        turn(false),
        "REFUSED module abcd has a set-user-ID, set-group-ID or sticky bit, not allowed here"
    );
}

#[test]
fn a_failure_after_the_switch_needs_what_the_switch_has_kept() {
    for (phase, switched) in
        [(Phase::Pre, false), (Phase::Switch, false), (Phase::Post, true), (Phase::Verify, true)]
    {
        for after in [After::Fail(failure(phase)), After::Retry(phase)] {
            let action = Install::Restoring(planned(), after).action(None, around().program);
            assert_eq!(action, Some(Effect::Restore { order: job().order, switched }), "{phase}");
        }
    }
}

#[test]
fn from_versions_are_compared_with_the_files_and_a_damaged_target_is_mended() {
    let old = Combination { software_version: version("1-0"), modules: vec![], test: None, catalogue: None };
    let same = Combination {
        software_version: version("2-0"),
        modules: facts().modules,
        test: None,
        catalogue: None,
    };
    let mut only_over = planned();
    only_over.facts.from = vec![version("1-0")];
    let turn = |installed: Option<&Combination>| {
        let mut p = only_over.clone();
        p.from = installed.map(|c| c.software_version.clone());
        match Install::Comparing(p).turn(&Surroundings { installed, ..around() }, Signal::Read(found(b"x"))) {
            Turn::Go(next) => next.name().to_owned(),
            Turn::End(end) => describe_outcome(&end.outcome),
            Turn::Ignored(_) | Turn::Back(_) => "ignored or sent back".to_owned(),
        }
    };
    assert_eq!(turn(Some(&old)), "staging");
    assert_eq!(turn(Some(&same)), "staging");
    assert_eq!(turn(None), "REFUSED the bundle does not go over the installed version");
}
