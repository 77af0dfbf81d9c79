//! A new agent proves itself, or does not, or stops the one that tries it.

use super::*;

fn tried(code: i32) -> Signal {
    Signal::Tried(ScriptEnd::Exit(code), OutputTail::of(b"its words"))
}

fn go(state: Install, around: &Surroundings<'_>, signal: Signal) -> Install {
    match state.turn(around, signal) {
        Turn::Go(next) => next,
        other => panic!("{other:?}"),
    }
}

fn take_back(state: Install, around: &Surroundings<'_>) -> Box<End> {
    let state = go(state, around, Signal::Restored(Ok(())));
    let undone = Signal::Script(Phase::Undo, ScriptEnd::Exit(0), OutputTail::default());
    let Turn::End(end) = state.turn(around, undone) else { panic!("goes on") };
    end
}

#[test]
fn an_agent_that_fails_its_third_trial_is_taken_back_with_how_that_ended_and_what_it_said() {
    let mut state = Install::Proving(with_agent(), Trials::default());
    for code in [101, 3] {
        state = go(state, &around(), tried(code));
        assert_eq!(state.name(), "proving");
    }
    let state = go(state, &around(), tried(2));
    let end = take_back(state, &around());
    let Outcome::RolledBack(failure) = &end.outcome else { panic!("{end:?}") };
    let expected =
        "prove: the new agent has not proven itself: exit code 2 (its configuration, keys or state)";
    assert_eq!(failure.to_string(), expected);
    assert_eq!(end.output.unwrap().as_str(), "its words");
    assert_eq!(end.become_what_is_at, None, "the old one has run all the time");
}

#[test]
fn each_way_to_fail_a_trial_is_told_in_words() {
    let told = |end| {
        let trials = Trials { failed: 2, broken_off: 0 };
        let signal = Signal::Tried(end, OutputTail::default());
        let state = go(Install::Proving(with_agent(), trials), &around(), signal);
        let Install::Restoring(_, After::Fail(failure)) = state else { panic!("{state:?}") };
        assert_eq!(failure.phase, Phase::Prove);
        let Cause::NotProven(text) = failure.cause else { panic!("{failure:?}") };
        text.to_string()
    };
    assert_eq!(told(ScriptEnd::Exit(101)), "exit code 101");
    assert_eq!(told(ScriptEnd::Exit(0)), "exit code 0", "nothing but the one code is a proof");
    assert_eq!(told(ScriptEnd::Exit(3)), "exit code 3 (its mailbox)");
    assert_eq!(told(ScriptEnd::Signal(11)), "ended by signal 11");
    assert_eq!(told(ScriptEnd::Timeout(300)), "took longer than 300 s");
    assert_eq!(told(ScriptEnd::NotRun(Label::lossy("cannot run it: x"))), "cannot run it: x");
}

#[test]
fn an_agent_that_takes_the_box_down_in_its_trials_is_given_up() {
    let mut state = Install::Proving(with_agent(), Trials::default());
    let mut starts = 0;
    while state.name() == "proving" {
        state = go(state, &around(), Signal::Restarted { recovered: false });
        starts += 1;
    }
    assert_eq!((state.name(), starts), ("restoring", 5));
    let Install::Restoring(_, After::Fail(failure)) = state else { panic!("{state:?}") };
    assert_eq!(failure.to_string(), "prove: interrupted by restarts");
}

#[test]
fn a_proven_agent_is_started_once_its_file_is_in_place_and_ends_the_install_itself() {
    let state = go(Install::Proving(with_agent(), Trials::default()), &around(), tried(EXIT_PROVEN));
    let Some(Effect::Adopt { start: true, module, .. }) = state.action(None, around().program) else {
        panic!("{state:?}")
    };
    assert_eq!(module.name.as_str(), "agent");
    let Turn::Ignored(state) = state.turn(&around(), Signal::Adopted(Ok(()))) else {
        panic!("the old agent does what is the new one's to do")
    };
    let new = program(b"new agent");
    let around = Surroundings { program: &new, ..around() };
    let state = go(state, &around, Signal::Restarted { recovered: false });
    assert!(matches!(state.action(None, &new), Some(Effect::Adopt { start: false, .. })), "makes sure");
    let state = go(state, &around, Signal::Adopted(Ok(())));
    let mut all = found(b"2");
    all.files.insert(ModulePath::parse("bin/agent").unwrap(), Digest::of(b"new agent"));
    let Turn::End(end) = state.turn(&around, Signal::Read(all)) else { panic!("goes on") };
    assert_eq!((end.outcome, end.become_what_is_at), (Outcome::Installed, None));
}

#[test]
fn a_new_agent_that_finds_a_module_altered_puts_all_back_and_becomes_the_old_one() {
    let new = program(b"new agent");
    let around = Surroundings { program: &new, ..around() };
    let state = go(Install::Confirming(with_agent()), &around, Signal::Read(found(b"altered")));
    let end = take_back(state, &around);
    assert!(matches!(end.outcome, Outcome::RolledBack(_)), "{end:?}");
    assert_eq!(end.become_what_is_at, new.file);
}

#[test]
fn an_agent_that_runs_already_is_put_in_place_without_a_trial_and_without_a_start() {
    let same = program(b"new agent");
    let around = Surroundings { program: &same, ..around() };
    let verified = Signal::Script(Phase::Verify, ScriptEnd::Exit(0), OutputTail::default());
    let state = go(Install::Verifying(with_agent()), &around, verified);
    assert!(matches!(state.action(None, &same), Some(Effect::Adopt { start: false, .. })), "{state:?}");
    assert_eq!(go(state, &around, Signal::Adopted(Ok(()))).name(), "confirming");
}

#[test]
fn an_agent_that_would_not_replace_the_one_that_runs_is_refused_and_told_where_that_one_is() {
    let elsewhere =
        Program { file: None, place: Label::lossy("/usr/bin/mailfleet-agent"), ..program(b"old agent") };
    let other_path = Program { file: Some(ModulePath::parse("bin/other").unwrap()), ..program(b"old agent") };
    let inspect = |program: &Program| {
        let around = Surroundings { program, ..around() };
        Install::Inspecting(job()).turn(&around, Signal::Inspected(Ok(Box::new(with_agent().facts))))
    };
    for program in [&elsewhere, &other_path] {
        let Turn::End(end) = inspect(program) else { panic!("taken") };
        let Outcome::Refused(Refusal::OtherAgent(text)) = end.outcome else { panic!("{:?}", end.outcome) };
        assert_eq!(
            text.as_str(),
            format!("it runs from {}, start it from bin/agent below the root", program.place)
        );
    }
    for program in
        [&program(b"old agent"), &Program { digest: Digest::of(b"new agent"), ..elsewhere.clone() }]
    {
        assert!(matches!(inspect(program), Turn::Go(Install::Comparing(_))), "{program:?}");
    }
}

#[test]
fn a_new_agent_cannot_be_withdrawn_once_it_is_on_trial() {
    for state in [Install::Proving(with_agent(), Trials::default()), Install::Adopting(with_agent())] {
        assert!(state.has_begun());
        assert!(matches!(state.turn(&around(), Signal::Cancel(Refusal::Cancelled)), Turn::Ignored(_)));
    }
}
