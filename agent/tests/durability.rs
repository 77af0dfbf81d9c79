//! The agent killed, stopped, started twice, with damaged files and without mail.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::process::Command;

use common::{World, noise, text, tree, wait_until};
use shared::message::{Cause, Outcome, Phase, Report, Step, WaitReason};

fn with_version_one() -> World {
    let mut w = World::enrolled();
    let order = w.install("1-0", None, &[("bin/abcd", "one"), ("lib/x", "one")]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
    w
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// A script that stops in this phase, once for each file "go-on" that is missing; it notes its process.
fn stops_in(phase: &str) -> String {
    format!(
        "echo $1 >> $MAILFLEET_ROOT/log; if [ $1 = {phase} ] && [ ! -e $MAILFLEET_ROOT/go-on ]; then \
         echo $$ > $MAILFLEET_ROOT/pid; exec sleep 600; fi; exit 0"
    )
}

/// Starts the agent and waits until the script stands in its phase; gives the agent and the script.
fn stand(w: &World, args: &[&str]) -> (std::process::Child, u32) {
    let _ = std::fs::remove_file(w.root().join("pid"));
    let agent = w.spawn(args);
    let pid = || w.file("pid").and_then(|text| text.trim().parse().ok());
    wait_until("the script stands", || pid().is_some());
    (agent, pid().unwrap())
}

#[test]
fn an_agent_that_is_killed_in_any_phase_goes_on_at_its_next_start() {
    for phase in ["check", "pre", "post", "verify"] {
        let mut w = with_version_one();
        let order = w.install("2-0", Some(&stops_in(phase)), &[("bin/abcd", "two"), ("new/y", "two")]);
        let (mut agent, script) = stand(&w, &["run", "--once"]);
        agent.kill().unwrap();
        agent.wait().unwrap();
        signal("-KILL", script);
        std::fs::write(w.root().join("go-on"), "").unwrap();
        assert_eq!(w.once(), 0, "{phase}");
        assert_eq!(w.outcome(order), Outcome::Installed, "{phase}");
        assert_eq!((w.file("bin/abcd").unwrap(), w.file("new/y").unwrap()), ("two".into(), "two".into()));
        let log = w.file("log").unwrap();
        assert_eq!(log.contains("undo"), phase != "check", "{phase}: {log}");
        assert_eq!(w.unread(), 0);
    }
}

/// Kills the agent before its n-th effect, for every n, and lets it go on.
fn killed_before_every_effect(script: &str, check: impl Fn(&mut World, shared::EnvelopeId, &str)) {
    for n in 0.. {
        let mut w = with_version_one();
        let order = w.install("2-0", Some(script), &[("bin/abcd", "two"), ("new/y", "two")]);
        let mut command = w.command(&["run", "--once"]);
        let out = command.env("MAILFLEET_TEST_EFFECTS_TO_LIVE", n.to_string()).output().unwrap();
        if out.status.code().is_none() {
            w.once();
        }
        check(&mut w, order, &format!("killed before effect {n}"));
        assert_eq!(w.unread(), 0, "effect {n}");
        for folder in [w.root().join(".mailfleet/jobs"), w.home().join("bundles"), w.home().join("outbox")] {
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "effect {n}: {}", folder.display());
        }
        if out.status.code().is_some() {
            assert!(n > 20 || cfg!(not(debug_assertions)), "only {n} effects");
            return;
        }
    }
}

#[test]
fn an_install_that_is_killed_before_any_effect_is_finished_by_the_next_start() {
    killed_before_every_effect("exit 0", |w, order, when| {
        assert_eq!(w.outcome(order), Outcome::Installed, "{when}");
        assert_eq!(w.file("bin/abcd").unwrap(), "two", "{when}");
    });
}

#[test]
fn a_rollback_that_is_killed_before_any_effect_is_finished_by_the_next_start() {
    killed_before_every_effect("[ $1 = verify ] && exit 1; exit 0", |w, order, when| {
        assert!(matches!(w.outcome(order), Outcome::RolledBack(_)), "{when}");
        assert_eq!(w.file("bin/abcd").unwrap(), "one", "{when}");
        assert!(!w.root().join("new").exists(), "{when}");
    });
}

#[test]
fn a_script_that_kills_the_agent_each_time_is_given_up_and_leaves_the_old_files() {
    let mut w = with_version_one();
    let before = tree(&w.root());
    let script = "[ $1 = post ] && kill -KILL $PPID; exit 0";
    let order = w.install("2-0", Some(script), &[("bin/abcd", "two"), ("new/y", "two")]);
    for _ in 0..3 {
        let out = w.agent(&["run", "--once"]);
        assert_eq!(out.status.code(), None, "killed: {}", text(&out));
    }
    assert_eq!(w.once(), 1);
    let Outcome::RolledBack(failure) = w.outcome(order) else { panic!("{:?}", w.reports) };
    assert_eq!((failure.phase, failure.cause), (Phase::Post, Cause::Interrupted));
    assert_eq!(tree(&w.root()), before);
}

#[test]
fn an_agent_that_is_told_to_stop_stops_at_once_and_takes_its_script_along() {
    let mut w = with_version_one();
    let order = w.install("2-0", Some(&stops_in("post")), &[("bin/abcd", "two")]);
    let (mut agent, script) = stand(&w, &["run"]);
    let began = std::time::Instant::now();
    signal("-TERM", agent.id());
    assert!(agent.wait().unwrap().success());
    assert!(began.elapsed().as_secs() < 10);
    assert!(!Command::new("kill").args(["-0", &script.to_string()]).output().unwrap().status.success());
    std::fs::write(w.root().join("go-on"), "").unwrap();
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
}

#[test]
fn a_second_agent_on_the_same_home_says_so_and_ends() {
    let mut w = with_version_one();
    w.install("2-0", Some(&stops_in("post")), &[("bin/abcd", "two")]);
    let (mut agent, _) = stand(&w, &["run"]);
    let out = w.agent(&["run", "--once"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out).contains("another mailfleet-agent works in"), "{}", text(&out));
    assert!(w.status().contains("Install             2-0 in post"), "{}", w.status());
    signal("-INT", agent.id());
    assert!(agent.wait().unwrap().success());
}

#[test]
fn two_homes_cannot_work_on_one_root_at_the_same_time() {
    let mut w = with_version_one();
    w.install("2-0", Some(&stops_in("post")), &[("bin/abcd", "two")]);
    let (mut agent, _) = stand(&w, &["run"]);
    let other = w.folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    for name in ["agent.toml", "key.sign", "key.open", "state"] {
        std::fs::copy(w.home().join(name), other.join(name)).unwrap();
    }
    let out = w.agent(&["--home", other.to_str().unwrap(), "run", "--once"]);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
    assert!(text(&out).contains("another mailfleet-agent works in"), "{}", text(&out));
    signal("-TERM", agent.id());
    assert!(agent.wait().unwrap().success());
}

#[test]
fn a_daemon_takes_what_comes() {
    let mut w = with_version_one();
    w.set_config("poll = \"100ms\"");
    let mut agent = w.spawn(&["run"]);
    let query = w.query();
    wait_until("the query is answered", || w.answers(query).len() == 1);
    signal("-TERM", agent.id());
    assert!(agent.wait().unwrap().success());
}

#[test]
fn a_damaged_state_is_replaced_by_the_copy_before_it_and_two_damaged_ones_are_an_error() {
    let mut w = with_version_one();
    std::fs::write(w.home().join("state"), "garbage").unwrap();
    w.state_was_lost = true;
    let query = w.query();
    assert_eq!(w.once(), 0);
    assert_eq!(w.answers(query)[0].software.to_string(), "1-0");
    for name in ["state", "state.prev"] {
        std::fs::write(w.home().join(name), "garbage").unwrap();
    }
    let out = w.agent(&["run", "--once"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out).contains("is damaged") && text(&out).contains("enrol again"), "{}", text(&out));
}

#[test]
fn reports_wait_for_the_mail_and_go_out_as_the_same_bytes() {
    let mut w = with_version_one();
    let manager = w.spool().join("manager@lab.test");
    let away = w.spool().join("away");
    std::fs::rename(&manager, &away).unwrap();
    let query = w.query();
    w.once();
    let outbox = w.home().join("outbox");
    let kept = || {
        let entries = std::fs::read_dir(&outbox).unwrap();
        let mut all: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
        all.sort();
        all.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<Vec<_>>()
    };
    let first = kept();
    assert_eq!(first.len(), 1);
    w.once();
    assert_eq!(kept(), first);
    assert!(w.status().contains("Outbox              1 reports; the mail said"), "{}", w.status());
    std::fs::rename(&away, &manager).unwrap();
    assert_eq!(w.once(), 0);
    assert_eq!((w.answers(query).len(), kept().len()), (1, 0));
}

#[test]
fn a_mailbox_that_cannot_be_read_is_exit_code_three() {
    let w = with_version_one();
    let folder = w.spool().join("agent0001@lab.test");
    std::fs::rename(&folder, w.spool().join("away")).unwrap();
    std::fs::write(&folder, "").unwrap();
    let out = w.agent(&["run", "--once"]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out));
}

#[test]
fn the_memory_of_an_install_does_not_grow_with_the_bundle() {
    let peak_kib = |megabytes: usize| -> u64 {
        let mut w = with_version_one();
        let content = noise(megabytes * 1_000_000);
        let script = "[ $1 = verify ] && grep VmHWM /proc/$PPID/status; exit 0";
        let order = w.install("2-0", Some(script), &[("bin/big", &content)]);
        assert_eq!(w.once(), 0);
        let ended = w.ended(order);
        assert_eq!(ended.outcome, Outcome::Installed);
        let output = ended.output.unwrap();
        output.as_str().split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let (small, large) = (peak_kib(2), peak_kib(20));
    eprintln!("peak with 2 MB: {small} KiB, with 20 MB: {large} KiB");
    // Bundles packed at a higher level make the decoder hold a window of up to 8 MiB, of whatever size they
    // are; these have a small one.
    assert!(large < 30_000, "{large} KiB");
    assert!(large < small + 2_000, "{small} KiB, then {large} KiB");
}

/// Runs the agent so that no file can grow beyond some KiB: to it, a full disk.
fn once_with_little_room(w: &World, blocks_of_512: u32) -> i32 {
    let agent = w.command(&["run", "--once"]);
    let mut words = vec![agent.get_program()];
    words.extend(agent.get_args());
    let limits = format!("trap '' XFSZ; ulimit -f {blocks_of_512}; exec \"$@\"");
    let mut shell = Command::new("/bin/sh");
    let out = shell.args(["-c", &limits, "sh"]).args(words).env("MAILFLEET_HOME", w.home()).output().unwrap();
    eprintln!("{}", text(&out));
    out.status.code().unwrap()
}

#[test]
fn a_mail_that_finds_no_room_stays_until_there_is() {
    let mut w = with_version_one();
    let order = w.install("2-0", None, &[("bin/abcd", &noise(300_000))]);
    assert_eq!(once_with_little_room(&w, 128), 1);
    assert_eq!(w.unread(), 1);
    assert_eq!(w.once(), 0);
    assert_eq!((w.outcome(order), w.unread()), (Outcome::Installed, 0));
}

#[test]
fn an_install_that_finds_no_room_waits_and_says_so() {
    let mut w = with_version_one();
    let before = tree(&w.root());
    let order = w.install("2-0", None, &[("bin/abcd", &"x".repeat(1_000_000))]);
    assert_eq!(once_with_little_room(&w, 256), 0);
    w.collect();
    let told = w.reports.iter().any(|r| {
        matches!(r, Report::Progress(p) if p.order == order
            && matches!(&p.step, Step::Waiting(x) if x.reason == WaitReason::NoSpace))
    });
    assert!(told, "{:?}", w.reports);
    assert!(w.status().contains("waits: too little room on the disk"), "{}", w.status());
    assert_eq!(tree(&w.root()), before);
    assert!(!w.root().join(".mailfleet/jobs").join(order.to_hex()).exists(), "half a stage is removed");
}

#[test]
fn progress_is_reported_once_for_each_step() {
    let mut w = with_version_one();
    w.reports.clear();
    w.install("2-0", None, &[("bin/abcd", "two")]);
    for _ in 0..3 {
        assert_eq!(w.once(), 0);
    }
    w.collect();
    let kinds: Vec<bool> = w.reports.iter().map(|r| matches!(r, Report::Ended(_))).collect();
    assert_eq!(kinds, [false, true], "received, then ended: {:?}", w.reports);
}
