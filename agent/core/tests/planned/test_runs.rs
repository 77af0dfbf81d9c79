//! Tests of what is installed: which run, when, and what is reported (N7).

use agent_core::ScriptEnd;
use shared::Label;
use shared::limits::ORDER_LIFE;
use shared::message::{Outcome, OutputTail, Phase, Reported, TestResult};
use shared::{Digest, ModulePath};

use crate::site::{Site, a_test, hour, version};

/// A site with version 1, which can be tested.
fn with_version_one() -> Site {
    let mut b = Site::new();
    b.test = Some(a_test());
    let order = b.install(1, false);
    b.poll();
    assert_eq!(b.outcome(order), Some(Outcome::Installed));
    b
}

fn not_run(why: &str) -> TestResult {
    TestResult::NotRun(Label::lossy(why))
}

fn result_of(b: &mut Site, n: u64) -> TestResult {
    let order = b.order_test(n);
    b.poll();
    let [result] = &b.results_of(order)[..] else { panic!("{:?}", b.sent) };
    result.clone()
}

/// PROTOCOL 16.1
#[test]
fn a_test_runs_the_module_that_the_bundle_named_and_its_end_is_reported_once() {
    let output = || OutputTail::of(b"ready\n");
    for (end, result) in [
        (ScriptEnd::Exit(0), TestResult::Exit(0, output())),
        (ScriptEnd::Exit(3), TestResult::Exit(3, output())),
        (ScriptEnd::Signal(9), TestResult::Signal(9, output())),
        (ScriptEnd::Timeout(5), TestResult::TimedOut(5, output())),
        (ScriptEnd::NotRun(Label::lossy("no")), not_run("no")),
    ] {
        let mut b = with_version_one();
        b.test_end = end;
        assert_eq!(result_of(&mut b, 1), result);
        b.start();
        b.run_until(hour(5));
        assert_eq!(b.tests_run, [[Label::lossy("--self-test")]]);
        assert!(b.core.state().tests.is_empty());
    }
}

/// PROTOCOL 16.1
#[test]
fn only_the_version_that_is_to_be_tested_is_tested() {
    assert_eq!(result_of(&mut Site::new(), 1), TestResult::OtherVersion(Reported::Nothing));
    let mut b = with_version_one();
    assert_eq!(result_of(&mut b, 2), TestResult::OtherVersion(Reported::Exact(version(1))));
    b.files.insert(ModulePath::parse("bin/abcd").unwrap(), Digest::of(b"edited by hand"));
    assert_eq!(result_of(&mut b, 1), not_run("bin/abcd is not the file of this version"));
    assert_eq!(result_of(&mut b, 2), TestResult::OtherVersion(Reported::Mixed(version(1))));
    assert_eq!(b.tests_run.len(), 0);
    let mut b = with_version_one();
    b.test = None;
    b.install(2, false);
    b.poll();
    assert_eq!(result_of(&mut b, 2), not_run("its bundle brought no test"));
    // The same version, made anew with a test.
    b.test = Some(a_test());
    let again = b.install(2, false);
    b.poll();
    assert_eq!(b.outcome(again), Some(Outcome::AlreadyInstalled));
    assert!(matches!(result_of(&mut b, 2), TestResult::Exit(0, _)));
}

/// PROTOCOL 16.2
#[test]
fn a_test_waits_until_the_install_that_is_under_way_is_through() {
    let mut b = with_version_one();
    b.exits.insert(Phase::Check, 75);
    b.install(2, false);
    b.poll();
    let test = b.order_test(2);
    b.install(3, false);
    b.poll();
    assert_eq!(b.results_of(test), []);
    b.exits.clear();
    b.run_until(hour(2));
    assert!(matches!(b.results_of(test)[..], [TestResult::Exit(0, _)]), "before the next install begins");
    assert_eq!(b.core.state().installed.as_ref().unwrap().software_version, version(3));
}

/// PROTOCOL 16.3
#[test]
fn a_test_that_is_interrupted_is_run_again_three_times_in_all() {
    for (deadly, result) in [
        (2, TestResult::Exit(0, OutputTail::of(b"ready\n"))),
        (3, not_run("interrupted by restarts")),
        (9, not_run("interrupted by restarts")),
    ] {
        let mut b = with_version_one();
        b.deadly_tests = deadly;
        assert_eq!(result_of(&mut b, 1), result);
        assert_eq!(deadly.saturating_sub(3), b.deadly_tests, "three starts, and no more");
    }
}

#[test]
fn too_many_tests_and_those_whose_order_has_expired_are_not_run() {
    let mut b = with_version_one();
    b.exits.insert(Phase::Check, 75);
    b.install(2, false);
    b.poll();
    let tests: Vec<_> = (0..9).map(|_| b.order_test(1)).collect();
    b.poll();
    assert_eq!(b.results_of(tests[8]), [not_run("too many tests wait")]);
    b.now = b.now.plus(ORDER_LIFE + core::time::Duration::from_secs(60));
    b.poll();
    assert_eq!(b.results_of(tests[0]), [not_run("its order expired before it could be run")]);
    assert!(b.core.state().tests.is_empty() && b.tests_run.is_empty());
}
