//! Restarts of the box and pauses, move by move.

use super::*;

/// What becomes of a state until it ends, with the same signal each time that it takes none of its own.
fn end_of(mut state: Install, boots: &[&str], script: impl Fn(Phase) -> i32) -> (Outcome, u8) {
    let mut boots = boots.iter();
    let mut current = boot("first");
    for _ in 0..200 {
        let ended = |phase| Signal::Script(phase, ScriptEnd::Exit(script(phase)), OutputTail::default());
        let mut now = T0;
        let signal = match &state {
            Install::Post(_) => ended(Phase::Post),
            Install::Verifying(_) => ended(Phase::Verify),
            Install::Undoing(..) => ended(Phase::Undo),
            Install::Restoring(..) => Signal::Restored(Ok(())),
            Install::AwaitingRestart(_, restart) => match boots.next() {
                Some(next) => {
                    current = boot(next);
                    Signal::Restarted { recovered: false }
                }
                None => {
                    now = restart.deadline.plus(core::time::Duration::from_secs(1));
                    Signal::Tick
                }
            },
            other => panic!("stops in {}", other.name()),
        };
        let around = Surroundings { now, boot: &current, ..around() };
        match state.turn(&around, signal) {
            Turn::Go(next) | Turn::Ignored(next) => state = next,
            Turn::Back(_) => panic!("its time is not over"),
            Turn::End(end) => return (end.outcome, 0),
        }
        if let Install::Confirming(p) = &state {
            return (Outcome::Installed, p.restarts);
        }
    }
    panic!("does not end: {}", state.name());
}

#[test]
fn a_restart_that_the_script_asks_for_goes_on_with_verify_and_is_no_interruption() {
    let script = |phase| if phase == Phase::Post { 76 } else { 0 };
    // The agent alone starts twice, then the box does.
    let (outcome, restarts) = end_of(Install::Post(planned()), &["first", "first", "second"], script);
    assert_eq!((outcome, restarts), (Outcome::Installed, 1));
}

#[test]
fn a_restart_that_does_not_come_puts_the_old_files_back() {
    let script = |phase| if phase == Phase::Post { 76 } else { 0 };
    let (outcome, _) = end_of(Install::Post(planned()), &["first"], script);
    let failure = Failure { phase: Phase::Post, cause: Cause::NotRestarted, undo_failed: false };
    assert_eq!(outcome, Outcome::RolledBack(failure));
}

#[test]
fn an_undo_may_restart_the_box_once_more_and_the_install_ends_as_rolled_back() {
    let script = |phase| if phase == Phase::Verify { 1 } else { 76 };
    let (outcome, _) = end_of(Install::Post(planned()), &["second", "third"], script);
    assert_eq!(outcome, Outcome::RolledBack(failure(Phase::Verify)));
    let (outcome, _) = end_of(Install::Post(planned()), &["second"], script);
    let failure = Failure { undo_failed: true, ..failure(Phase::Verify) };
    assert_eq!(outcome, Outcome::RolledBack(failure), "the second restart does not come");
}

#[test]
fn a_fourth_restart_in_one_install_is_refused() {
    let mut p = planned();
    p.restarts = 3;
    let (outcome, _) =
        end_of(Install::Post(p), &["second"], |phase| if phase == Phase::Post { 76 } else { 0 });
    let failure = Failure { phase: Phase::Post, cause: Cause::TooManyRestarts, undo_failed: false };
    assert_eq!(outcome, Outcome::RolledBack(failure));
}

#[test]
fn the_box_is_told_again_with_growing_pauses_until_the_deadline() {
    let mut state = Install::AwaitingRestart(planned(), restart(Then::Verify));
    let mut pauses = vec![];
    let mut now = T0;
    loop {
        match state.turn(&Surroundings { now, ..around() }, Signal::Tick) {
            Turn::Go(next) if matches!(next, Install::AwaitingRestart(..)) => state = next,
            Turn::Go(next) => break assert_eq!(next.name(), "restoring"),
            Turn::Ignored(same) => panic!("{} was asked too early", same.name()),
            Turn::End(_) | Turn::Back(_) => panic!("ends without restoring"),
        }
        let wake = state.wake().unwrap();
        pauses.push(wake.since(now).as_secs());
        now = wake;
    }
    assert_eq!(pauses, [240, 480, 600, 600, 600, 600, 480]);
}

#[test]
fn a_clock_that_goes_back_does_not_make_the_wait_for_the_restart_endless() {
    let early = T0.minus(core::time::Duration::from_secs(365 * 86_400));
    let state = Install::AwaitingRestart(planned(), restart(Then::Verify));
    let around = Surroundings { now: early, ..around() };
    let Turn::Go(Install::AwaitingRestart(_, moved)) = state.turn(&around, Signal::Tick) else { panic!() };
    assert_eq!(moved.deadline.since(early).as_secs(), 3_600);
}

#[test]
fn a_wait_for_a_lease_is_looked_at_again_as_soon_as_the_agent_starts() {
    let until = T0.plus(core::time::Duration::from_secs(3_000));
    for (reason, again) in [(WaitReason::Leased, true), (WaitReason::ScriptSaysNotNow, false)] {
        let wait = Wait { hindrance: Hindrance::of(reason), until, resume: Resume::Checking };
        let started =
            Install::Waiting(planned(), wait).turn(&around(), Signal::Restarted { recovered: false });
        let Turn::Go(state) = started else { panic!("{started:?}") };
        let ticked = state.turn(&around(), Signal::Tick);
        assert_eq!(matches!(ticked, Turn::Go(Install::Checking(_))), again, "{ticked:?}");
    }
}

#[test]
fn what_is_still_in_use_after_pre_is_put_off_by_way_of_undo_and_told_in_words() {
    let looking = Install::Looking(planned(), Before::Switch);
    let Turn::Go(state) = looking.turn(&around(), Signal::Use(in_use())) else { panic!() };
    let Turn::Go(state) = state.turn(&around(), Signal::Restored(Ok(()))) else { panic!() };
    let undone = Signal::Script(Phase::Undo, ScriptEnd::Exit(0), OutputTail::default());
    let Turn::Go(state) = state.turn(&around(), undone) else { panic!() };
    assert_eq!(state.waiting().unwrap().to_string(), "a module is in use (abcd runs as process 12)");
    let late = Surroundings { now: job().expires.plus(core::time::Duration::from_secs(1)), ..around() };
    let Turn::End(end) = state.turn(&late, Signal::Tick) else { panic!() };
    let Outcome::RolledBack(failure) = end.outcome else { panic!("{:?}", end.outcome) };
    assert_eq!(
        failure.to_string(),
        "check: waited until the order expired: a module is in use (abcd runs as process 12)"
    );
}

#[test]
fn without_a_script_a_module_in_use_is_waited_for_before_anything_is_touched() {
    let mut p = planned();
    p.facts.has_script = false;
    let Turn::Go(state) = Install::Staging(p).turn(&around(), Signal::Staged(Ok(()))) else { panic!() };
    assert!(!state.has_begun(), "it can still be withdrawn");
    let Turn::Go(state) = state.turn(&around(), Signal::Use(in_use())) else { panic!() };
    assert_eq!(state.name(), "waiting");
    let later = Surroundings { now: state.wake().unwrap(), ..around() };
    let Turn::Go(state) = state.turn(&later, Signal::Tick) else { panic!() };
    let Turn::Go(state) = state.turn(&later, Signal::Use(InUse::default())) else { panic!() };
    assert_eq!(state.name(), "switching");
}
