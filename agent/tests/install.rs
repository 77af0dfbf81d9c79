//! Installs by the real binary: every phase, every way to fail, and what is on the disk afterwards.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use common::{World, text, tree};
use shared::message::{
    CancelResult, Cause, Failure, FileState, Outcome, Phase, Refusal, Report, Reported, Step, WaitReason,
};
use shared::{Label, SoftwareVersion};

fn exact(version: &str) -> Reported {
    Reported::Exact(SoftwareVersion::parse(version).unwrap())
}

/// A world with version 1-0 installed.
fn with_version_one() -> World {
    let mut w = World::enrolled();
    let order = w.install("1-0", None, &[("bin/abcd", "one"), ("lib/bbb.lib", "one")]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
    w
}

#[test]
fn a_bundle_is_installed_and_reported_with_the_versions_of_its_files() {
    let mut w = with_version_one();
    let script =
        "echo phase $1; env | grep MAILFLEET | sort >> $MAILFLEET_ROOT/log; pwd >> $MAILFLEET_ROOT/log";
    let order = w.install("1.0.02-0", Some(script), &[("bin/abcd", "two"), ("new/deep/c", "two")]);
    assert_eq!(w.once(), 0);
    let ended = w.ended(order);
    assert_eq!(ended.outcome, Outcome::Installed);
    assert_eq!(ended.versions.software, exact("1.0.02-0"));
    assert_eq!(ended.output.unwrap().as_str(), "phase verify\n");
    assert_eq!(w.file("bin/abcd").unwrap(), "two");
    assert_eq!(w.file("new/deep/c").unwrap(), "two");
    let log = w.file("log").unwrap();
    assert_eq!(log.matches("MAILFLEET_FROM_VERSION=1-0").count(), 4, "{log}");
    assert_eq!(log.matches("MAILFLEET_TO_VERSION=1.0.02-0").count(), 4, "{log}");
    assert!(log.contains(&format!("MAILFLEET_STAGE={}", w.root().display())), "{log}");
    assert!(std::fs::read_dir(w.root().join(".mailfleet/jobs")).unwrap().next().is_none(), "cleaned up");
    assert!(std::fs::read_dir(w.home().join("bundles")).unwrap().next().is_none(), "cleaned up");

    let out = w.agent(&["versions"]);
    let shown = String::from_utf8(out.stdout).unwrap();
    assert!(shown.starts_with("Software Version    1.0.02-0\nROM Version         "), "{shown}");
    assert!(shown.contains("\nabcd                1.0.02-0    2026-01-01\n"), "{shown}");
    assert!(shown.contains("\nbbb.lib             1-0         2026-01-01\n"), "{shown}");
}

#[test]
fn the_same_version_again_changes_nothing() {
    let mut w = with_version_one();
    let order = w.install("1-0", Some("echo never; exit 1"), &[("bin/abcd", "one"), ("lib/bbb.lib", "one")]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::AlreadyInstalled);
}

#[test]
fn a_script_that_fails_in_any_phase_leaves_the_old_files_byte_for_byte() {
    for (phase, name) in
        [(Phase::Check, "check"), (Phase::Pre, "pre"), (Phase::Post, "post"), (Phase::Verify, "verify")]
    {
        let mut w = with_version_one();
        let before = tree(&w.root());
        let script = format!("echo in $1; [ $1 = {name} ] && exit 3; exit 0");
        let order =
            w.install("2-0", Some(&script), &[("bin/abcd", "two"), ("new/deep/c", "two"), ("x", "two")]);
        assert_eq!(w.once(), 1, "{name}");
        let ended = w.ended(order);
        let failure = Failure { phase, cause: Cause::ScriptExit(3), undo_failed: false };
        assert_eq!(ended.outcome, Outcome::RolledBack(failure), "{name}");
        assert_eq!(ended.versions.software, exact("1-0"), "{name}");
        assert_eq!(ended.output.unwrap().as_str(), format!("in {name}\n"));
        assert_eq!(tree(&w.root()), before, "{name}");
        assert!(!w.root().join("new").exists(), "folders that the install made are gone");
    }
}

#[test]
fn undo_runs_after_the_old_files_are_back_and_its_failure_is_told() {
    let mut w = with_version_one();
    let script =
        "case $1 in post) exit 4;; undo) cat $MAILFLEET_ROOT/bin/abcd > $MAILFLEET_ROOT/seen; exit 5;; esac";
    let order = w.install("2-0", Some(script), &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 1);
    let failure = Failure { phase: Phase::Post, cause: Cause::ScriptExit(4), undo_failed: true };
    assert_eq!(w.outcome(order), Outcome::RolledBack(failure));
    assert_eq!(w.file("seen").unwrap(), "one");
}

#[test]
fn not_now_waits_and_can_be_withdrawn() {
    let mut w = with_version_one();
    let order = w.install("2-0", Some("[ $1 = check ] && exit 75; exit 0"), &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 0);
    w.collect();
    let waits = w.reports.iter().any(|r| {
        matches!(r, Report::Progress(p) if p.order == order
            && matches!(&p.step, Step::Waiting(x) if x.reason == WaitReason::ScriptSaysNotNow))
    });
    assert!(waits, "{:?}", w.reports);
    assert!(w.status().contains("waits: the script says not now"), "{}", w.status());
    w.cancel(order);
    w.once();
    assert_eq!(w.outcome(order), Outcome::Refused(Refusal::Cancelled));
    let answer =
        w.reports.iter().find_map(|r| if let Report::Cancelled(c) = r { Some(c.result) } else { None });
    assert_eq!(answer, Some(CancelResult::BeforeStart));
    assert_eq!(w.file("bin/abcd").unwrap(), "one");
}

#[test]
fn a_script_that_runs_too_long_is_ended_with_all_its_programs() {
    let mut w = with_version_one();
    w.set_config("script_timeout = \"1s\"");
    let script = "[ $1 = post ] || exit 0; echo begin; sleep 600 & echo $! > $MAILFLEET_ROOT/pid; sleep 600";
    let order = w.install("2-0", Some(script), &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 1);
    let ended = w.ended(order);
    let failure = Failure { phase: Phase::Post, cause: Cause::ScriptTimeout(1), undo_failed: false };
    assert_eq!(ended.outcome, Outcome::RolledBack(failure));
    assert_eq!(ended.output.unwrap().as_str(), "begin\n");
    let pid = w.file("pid").unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "still runs: {state}");
}

#[test]
fn a_script_that_leaves_a_program_running_does_not_hold_the_agent() {
    let mut w = with_version_one();
    let script = "[ $1 = post ] || exit 0; sleep 5 & echo $! > $MAILFLEET_ROOT/pid";
    let order = w.install("2-0", Some(script), &[("bin/abcd", "two")]);
    let began = std::time::Instant::now();
    assert_eq!(w.once(), 0);
    assert!(began.elapsed().as_secs() < 4);
    assert_eq!(w.outcome(order), Outcome::Installed);
    let pid = w.file("pid").unwrap();
    assert!(std::path::Path::new(&format!("/proc/{}", pid.trim())).exists(), "a resident stays");
}

#[test]
fn a_talkative_script_is_reported_with_its_last_ten_kib() {
    let mut w = with_version_one();
    let script =
        "[ $1 = verify ] || exit 0; i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; exit 1";
    let order = w.install("2-0", Some(script), &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 1);
    let output = w.ended(order).output.unwrap();
    assert!(output.as_str().ends_with("line 4999\n") && output.as_str().len() <= 10_240);
}

#[test]
fn a_bundle_for_another_class_or_version_or_signed_by_another_key_is_refused() {
    let mut w = with_version_one();
    let files: common::Files<'_> = &[("bin/abcd", "two")];
    let stranger = World::new();
    let cases = [
        (w.bundle("2-0", "classes = [\"kiosk\"]", None, files), Refusal::WrongClass),
        (w.bundle("2-0", "from = [\"9-9\"]", None, files), Refusal::WrongFromVersion),
        (stranger.bundle("2-0", "", None, files), Refusal::NotSigned),
    ];
    for (bundle, refusal) in cases {
        let life = w.life();
        let order = w.send_with(life, &World::install_order(&bundle, "2-0"), &bundle);
        assert_eq!(w.once(), 1);
        assert_eq!(w.outcome(order), Outcome::Refused(refusal));
    }
    let bundle = w.bundle("2-0", "", None, files);
    let life = w.life();
    let order = w.send_with(life, &World::install_order(b"another", "2-0"), &bundle);
    w.once();
    assert!(matches!(w.outcome(order), Outcome::Refused(Refusal::BadBundle(_))));
    let life = w.life();
    let order = w.send_with(life, &World::install_order(b"no bundle at all", "2-0"), b"no bundle at all");
    w.once();
    assert!(matches!(w.outcome(order), Outcome::Refused(Refusal::BadBundle(_))));
    assert_eq!(w.file("bin/abcd").unwrap(), "one");
}

#[test]
fn a_folder_that_was_replaced_by_a_link_out_of_the_root_is_refused() {
    let mut w = with_version_one();
    let outside = w.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("abcd"), "precious").unwrap();
    std::fs::remove_dir_all(w.root().join("bin")).unwrap();
    std::os::unix::fs::symlink(&outside, w.root().join("bin")).unwrap();
    let order = w.install("2-0", None, &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 1);
    let Outcome::RolledBack(failure) = w.outcome(order) else { panic!("{:?}", w.reports) };
    assert_eq!(failure.phase, Phase::Switch);
    assert!(failure.to_string().contains("leads out of the root"), "{failure}");
    assert_eq!(std::fs::read_to_string(outside.join("abcd")).unwrap(), "precious");
}

#[test]
fn a_link_that_stays_below_the_root_is_followed() {
    let mut w = with_version_one();
    std::fs::create_dir_all(w.root().join("usr/bin")).unwrap();
    std::os::unix::fs::symlink("usr/bin", w.root().join("sbin")).unwrap();
    let order = w.install("2-0", None, &[("sbin/tool", "two")]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
    assert_eq!(w.file("usr/bin/tool").unwrap(), "two");
}

#[test]
fn something_else_than_a_file_is_not_replaced_and_nothing_else_changes() {
    let mut w = with_version_one();
    std::fs::create_dir(w.root().join("x")).unwrap();
    let before = tree(&w.root());
    let order = w.install("2-0", None, &[("bin/abcd", "two"), ("x", "two")]);
    assert_eq!(w.once(), 1);
    let Outcome::RolledBack(Failure { phase: Phase::Switch, cause: Cause::Io(why), .. }) = w.outcome(order)
    else {
        panic!("{:?}", w.reports)
    };
    assert!(why.as_str().starts_with("x: expected a regular file"), "{why}");
    assert_eq!(tree(&w.root()), before);
}

#[test]
fn a_root_that_cannot_be_written_is_a_file_error_and_no_damage() {
    let mut w = World::enrolled();
    // A file where the folder should be: unlike mode bits, it stops the superuser too.
    std::fs::remove_dir_all(w.root()).unwrap();
    std::fs::write(w.root(), "").unwrap();
    let order = w.install("1-0", None, &[("bin/abcd", "one")]);
    assert_eq!(w.once(), 1);
    let Outcome::RolledBack(failure) = w.outcome(order) else { panic!("{:?}", w.reports) };
    assert!(matches!(failure, Failure { phase: Phase::Stage, cause: Cause::Io(_), .. }), "{failure}");
}

#[test]
fn a_module_changed_by_hand_makes_the_version_mixed_and_the_same_bundle_mends_it() {
    let mut w = with_version_one();
    std::fs::write(w.root().join("bin/abcd"), "edited").unwrap();
    std::fs::remove_file(w.root().join("lib/bbb.lib")).unwrap();
    let query = w.query();
    assert_eq!(w.once(), 0);
    let [answer] = &w.answers(query)[..] else { panic!("{:?}", w.reports) };
    assert_eq!(answer.software, Reported::Mixed(SoftwareVersion::parse("1-0").unwrap()));
    let states: Vec<FileState> = answer.modules.iter().map(|m| m.file).collect();
    assert_eq!(states, [FileState::Altered, FileState::Missing]);
    let shown = text(&w.agent(&["versions"]));
    assert!(
        shown.contains("mixed(1-0)") && shown.contains("altered") && shown.contains("missing"),
        "{shown}"
    );
    let order = w.install("1-0", None, &[("bin/abcd", "one"), ("lib/bbb.lib", "one")]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.ended(order).versions.software, exact("1-0"));
    assert_eq!(w.outcome(order), Outcome::Installed);
}

#[test]
fn a_script_that_spoils_a_module_does_not_become_the_new_version() {
    let mut w = with_version_one();
    let script = "[ $1 = verify ] && echo spoilt > $MAILFLEET_ROOT/bin/abcd; exit 0";
    let order = w.install("2-0", Some(script), &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 1);
    let failure = Failure {
        phase: Phase::Verify,
        cause: Cause::BadContent(Label::lossy("bin/abcd is not the file that was installed")),
        undo_failed: false,
    };
    assert_eq!(w.outcome(order), Outcome::RolledBack(failure));
    assert_eq!(w.file("bin/abcd").unwrap(), "one");
}

#[test]
fn an_older_order_that_comes_late_is_refused_as_superseded() {
    let mut w = with_version_one();
    let (old, new) = (w.life(), w.life());
    let bundle = |w: &World, v: &str| w.bundle(v, "", None, &[("bin/abcd", v)]);
    let (three, two) = (bundle(&w, "3-0"), bundle(&w, "2-0"));
    let newer = w.send_with(new, &World::install_order(&three, "3-0"), &three);
    assert_eq!(w.once(), 0);
    let older = w.send_with(old, &World::install_order(&two, "2-0"), &two);
    assert_eq!(w.once(), 1);
    assert_eq!(w.outcome(newer), Outcome::Installed);
    assert_eq!(w.outcome(older), Outcome::Refused(Refusal::Superseded));
    assert_eq!(w.file("bin/abcd").unwrap(), "3-0");
}
