//! Tests of what is installed (N7): what they find around them, what of them is reported, and what an interruption does.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use common::{World, wait_until};
use shared::message::{Order, Outcome, OutputTail, Report, Reported, TestOrder, TestResult};
use shared::{EnvelopeId, Label, SoftwareVersion};

fn version(text: &str) -> SoftwareVersion {
    SoftwareVersion::parse(text).unwrap()
}

/// A site with version 1, whose test runs this script.
fn with_test(script: &str) -> World {
    let mut w = World::enrolled();
    let extra = "[test]\nmodule = \"abcd\"\nargs = [\"--self-test\", \"a b\"]\nlimit = \"3s\"\n";
    let program = format!("#!/bin/sh\n{script}\n");
    let bundle = w.bundle("1-0", extra, None, &[("bin/abcd", &program), ("etc/x", "x")]);
    let life = w.life();
    let order = w.send_with(life, &World::install_order(&bundle, "1-0"), &bundle);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
    w
}

fn order(w: &mut World, text: &str) -> EnvelopeId {
    w.send(&Order::Test(TestOrder { software_version: version(text) }))
}

fn results(w: &mut World, order: EnvelopeId) -> Vec<TestResult> {
    w.collect();
    let of = |r: &Report| match r {
        Report::Tested(tested) if tested.order == order => Some(tested.result.clone()),
        _ => None,
    };
    w.reports.iter().filter_map(of).collect()
}

fn result(w: &mut World, text: &str) -> TestResult {
    let order = order(w, text);
    w.once();
    let [result] = &results(w, order)[..] else { panic!("{:?}", w.reports) };
    result.clone()
}

fn not_run(why: &str) -> TestResult {
    TestResult::NotRun(Label::lossy(why))
}

/// PROTOCOL 16.2
#[test]
fn a_test_runs_in_the_root_with_its_arguments_and_nothing_of_the_agent_s() {
    let mut w = with_test("echo \"$1,$2,$#\"; pwd; env | cut -d= -f1 | sort | tr '\\n' ' '; exit 3");
    let TestResult::Exit(3, output) = result(&mut w, "1-0") else { panic!("{:?}", w.reports) };
    let root = std::fs::canonicalize(w.root()).unwrap();
    let expected = format!("--self-test,a b,2\n{}\n", root.display());
    let rest = output.as_str().strip_prefix(&expected).unwrap_or_else(|| panic!("{}", output.as_str()));
    for name in rest.split_whitespace() {
        let fine = ["HOME", "LANG", "MAILFLEET_ROOT", "PATH", "PWD", "OLDPWD", "SHLVL", "_"];
        assert!(fine.contains(&name), "{rest}");
    }
    assert!(rest.contains("MAILFLEET_ROOT"));
    let again = w.once();
    assert_eq!((again, w.reports.iter().filter(|r| matches!(r, Report::Tested(_))).count()), (0, 1));
}

/// PROTOCOL 16.1
#[test]
fn only_the_exact_version_that_was_ordered_is_tested() {
    let mut w = with_test("echo ran >> $MAILFLEET_ROOT/log; echo ready");
    assert_eq!(result(&mut w, "2-0"), TestResult::OtherVersion(Reported::Exact(version("1-0"))));
    std::fs::write(w.root().join("etc/x"), "edited").unwrap();
    assert_eq!(result(&mut w, "1-0"), TestResult::OtherVersion(Reported::Mixed(version("1-0"))));
    std::fs::write(w.root().join("etc/x"), "x").unwrap();
    let program = std::fs::read(w.root().join("bin/abcd")).unwrap();
    std::fs::write(w.root().join("bin/abcd"), "#!/bin/sh\nexit 0\n").unwrap();
    assert_eq!(result(&mut w, "1-0"), not_run("bin/abcd is not the file of this version"));
    assert_eq!(w.file("log"), None, "nothing ran");
    std::fs::write(w.root().join("bin/abcd"), program).unwrap();
    assert_eq!(result(&mut w, "1-0"), TestResult::Exit(0, OutputTail::of(b"ready\n")));
    let without = w.install("2-0", None, &[("bin/abcd", "two")]);
    w.once();
    assert_eq!(w.outcome(without), Outcome::Installed);
    assert_eq!(result(&mut w, "2-0"), not_run("its bundle brought no test"));
}

#[test]
fn a_test_that_takes_too_long_is_ended_with_its_programs_and_one_that_dies_says_how() {
    let mut w = with_test("sleep 600 & echo $! > $MAILFLEET_ROOT/pid; echo working; wait");
    assert_eq!(result(&mut w, "1-0"), TestResult::TimedOut(3, OutputTail::of(b"working\n")));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", w.file("pid").unwrap().trim()));
    assert!(stat.is_err() || stat.unwrap().contains(") Z "), "it still runs");
    let mut w = with_test("kill -9 $$");
    assert_eq!(result(&mut w, "1-0"), TestResult::Signal(9, OutputTail::default()));
}

/// PROTOCOL 16.3
#[test]
fn a_test_that_is_broken_off_is_run_again_and_after_three_times_given_up() {
    let mut w = with_test("echo ran >> $MAILFLEET_ROOT/log; [ -e $MAILFLEET_ROOT/go ] || sleep 600");
    let broken_off = |w: &World, times: usize| {
        let mut agent = w.spawn(&["run", "--once"]);
        wait_until("the test runs", || w.file("log").is_some_and(|log| log.lines().count() == times));
        // The agent is told to stop: it ends the test with itself.
        let pid = rustix::process::Pid::from_raw(i32::try_from(agent.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(agent.wait().unwrap().success());
    };
    let first = order(&mut w, "1-0");
    broken_off(&w, 1);
    broken_off(&w, 2);
    std::fs::write(w.root().join("go"), "").unwrap();
    assert_eq!(w.once(), 0);
    assert_eq!(results(&mut w, first), [TestResult::Exit(0, OutputTail::default())]);
    std::fs::remove_file(w.root().join("go")).unwrap();
    std::fs::remove_file(w.root().join("log")).unwrap();
    let second = order(&mut w, "1-0");
    (1..=3).for_each(|times| broken_off(&w, times));
    assert_eq!(w.once(), 0);
    assert_eq!(results(&mut w, second), [not_run("interrupted by restarts")]);
    assert_eq!(w.file("log").unwrap().lines().count(), 3);
}
