//! What an install waits for: leases, running modules, the restart of the box. Release builds cannot pretend
//! such a restart.
#![cfg(debug_assertions)]
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output};

use common::{World, text, wait_until};
use shared::EnvelopeId;
use shared::message::{Cause, Failure, Hindrance, Outcome, Phase, WaitReason};

fn with_version_one() -> World {
    let mut w = World::enrolled();
    let order = w.install("1-0", None, &[("bin/abcd", "one")]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
    w
}

/// A command in a pretended run of the box's system.
fn in_boot(w: &World, boot: &str, args: &[&str]) -> Output {
    w.command(args).env("MAILFLEET_TEST_BOOT_ID", boot).output().unwrap()
}

fn once_in(w: &World, boot: &str) -> Option<i32> {
    in_boot(w, boot, &["run", "--once"]).status.code()
}

fn ended(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// An order that lives only so long.
fn install_for(w: &mut World, seconds: u64, script: Option<&str>) -> EnvelopeId {
    let bundle = w.bundle("2-0", "", script, &[("bin/abcd", "two")]);
    let mut life = w.life();
    life.expires = life.created.plus(std::time::Duration::from_secs(seconds));
    w.send_with(life, &World::install_order(&bundle, "2-0"), &bundle)
}

#[test]
fn not_now_until_the_order_expires_says_what_it_waited_for() {
    let mut w = with_version_one();
    let order = install_for(&mut w, 3, Some("echo at work; [ $1 = check ] && exit 75; exit 0"));
    assert_eq!(w.once(), 0);
    assert!(w.status().contains("waits: the script says not now"), "{}", w.status());
    wait_until("the order has expired", || w.once() == 1);
    let ended = w.ended(order);
    let cause = Cause::WaitedTooLong(Some(Hindrance::of(WaitReason::ScriptSaysNotNow)));
    let failure = Failure { phase: Phase::Check, cause, undo_failed: false };
    assert_eq!(ended.outcome, Outcome::RolledBack(failure));
    assert_eq!(ended.output.unwrap().as_str(), "at work\n");
}

/// Asks for a restart in `post`; `verify` and `undo` leave traces and end as told.
fn restarting(verify: i32, undo: i32) -> String {
    format!(
        "echo $1 >> $MAILFLEET_ROOT/log; case $1 in post) exit 76;; verify) exit {verify};; undo) exit {undo};; esac"
    )
}

#[test]
fn an_install_goes_on_with_verify_when_the_box_has_restarted() {
    let mut w = with_version_one();
    w.set_config(&format!("restart_command = [\"touch\", \"{}\"]", w.root().join("told").display()));
    let order = w.install("2-0", Some(&restarting(0, 0)), &[("bin/abcd", "two")]);
    assert_eq!(once_in(&w, "first"), Some(0));
    assert!(w.file("told").is_some(), "the box is told to restart");
    assert!(w.status().contains("waits: the box is to restart"), "{}", w.status());
    let reasons: Vec<WaitReason> = w.waits(order).iter().map(|waiting| waiting.reason).collect();
    assert_eq!(reasons, [WaitReason::BoxRestarts]);
    for _ in 0..4 {
        assert_eq!(once_in(&w, "first"), Some(0), "only the agent has restarted: it goes on waiting");
    }
    assert_eq!(once_in(&w, "second"), Some(0));
    assert_eq!(w.outcome(order), Outcome::Installed);
    assert_eq!(w.file("log").unwrap(), "check\npre\npost\nverify\n");
    assert_eq!(w.waits(order).len(), 1);
}

#[test]
fn a_restart_is_waited_for_or_done_wherever_the_agent_is_killed_around_it() {
    for n in 0.. {
        let mut w = with_version_one();
        let order = w.install("2-0", Some(&restarting(0, 0)), &[("bin/abcd", "two")]);
        let mut command = w.command(&["run", "--once"]);
        command.env("MAILFLEET_TEST_EFFECTS_TO_LIVE", n.to_string()).env("MAILFLEET_TEST_BOOT_ID", "0");
        let survived = command.output().unwrap().status.code().is_some();
        let mut boot = 0;
        // A phase that was cut is taken back, and the install asks for another restart.
        let under_way = |line: &str| line.starts_with("Install ") && !line.ends_with("none");
        while w.status().lines().any(under_way) || boot == 0 {
            boot += 1;
            assert!(boot < 5, "killed before effect {n}: {}", w.status());
            once_in(&w, &boot.to_string());
        }
        assert_eq!(w.outcome(order), Outcome::Installed, "killed before effect {n}");
        assert_eq!(w.file("bin/abcd").unwrap(), "two", "killed before effect {n}");
        if survived {
            assert!(n > 15, "only {n} effects");
            return;
        }
    }
}

#[test]
fn a_verify_that_fails_after_the_restart_puts_the_old_files_back_and_may_restart_the_box_again() {
    let mut w = with_version_one();
    let order = w.install("2-0", Some(&restarting(1, 76)), &[("bin/abcd", "two")]);
    assert_eq!(once_in(&w, "first"), Some(0));
    assert_eq!(once_in(&w, "second"), Some(0), "the old files are back, and undo asks for a restart");
    assert_eq!(w.file("bin/abcd").unwrap(), "one");
    w.collect();
    assert!(!w.reports.iter().any(|r| matches!(r, shared::message::Report::Ended(e) if e.order == order)));
    assert_eq!(once_in(&w, "third"), Some(1));
    let failure = Failure { phase: Phase::Verify, cause: Cause::ScriptExit(1), undo_failed: false };
    assert_eq!(w.outcome(order), Outcome::RolledBack(failure));
    assert_eq!(w.file("log").unwrap(), "check\npre\npost\nverify\nundo\n");
}

#[test]
fn a_box_that_does_not_restart_in_time_gets_its_old_files_back() {
    let mut w = with_version_one();
    w.set_config("restart_limit = \"1s\"");
    let order = w.install("2-0", Some(&restarting(0, 0)), &[("bin/abcd", "two")]);
    assert_eq!(once_in(&w, "first"), Some(0));
    assert_eq!(w.file("bin/abcd").unwrap(), "two");
    wait_until("the limit has passed", || once_in(&w, "first") == Some(1));
    let failure = Failure { phase: Phase::Post, cause: Cause::NotRestarted, undo_failed: false };
    assert_eq!(w.outcome(order), Outcome::RolledBack(failure));
    assert_eq!(w.file("bin/abcd").unwrap(), "one");
    assert_eq!(w.file("log").unwrap(), "check\npre\npost\nundo\n");
}

#[test]
fn a_restart_in_another_phase_is_a_failure_that_says_where_it_is_allowed() {
    let mut w = with_version_one();
    let order = w.install("2-0", Some("[ $1 = pre ] && exit 76; exit 0"), &[("bin/abcd", "two")]);
    assert_eq!(once_in(&w, "first"), Some(1));
    let Outcome::RolledBack(failure) = w.outcome(order) else { panic!("{:?}", w.reports) };
    assert!(failure.to_string().contains("allowed in post and undo only"), "{failure}");
}

#[test]
fn a_lease_puts_an_update_off_with_owner_and_reason_until_it_is_given_back() {
    let mut w = with_version_one();
    let take =
        ["lease", "take", "billing", "--for", "10m", "--reason", "metering run 17", "--module", "abcd"];
    assert!(w.agent(&take).status.success());
    let order = w.install("2-0", None, &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 0);
    let told = w.waits(order);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].to_string(), "a lease is held (billing: metering run 17)");
    assert!(w.status().contains("waits: a lease is held (billing: metering run 17)"), "{}", w.status());
    assert_eq!(w.file("bin/abcd").unwrap(), "one");
    let list = text(&w.agent(&["lease", "list", "--json"]));
    assert!(list.contains("\"owner\": \"billing\"") && list.contains("\"in_force\": true"), "{list}");
    assert!(w.agent(&["lease", "release", "billing"]).status.success());
    assert_eq!(w.agent(&["lease", "release", "billing"]).status.code(), Some(1));
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
}

#[test]
fn a_lease_of_another_module_and_what_is_no_lease_hold_nothing_up() {
    let mut w = with_version_one();
    let take = ["lease", "take", "other", "--for", "10m", "--reason", "x", "--module", "other"];
    assert!(w.agent(&take).status.success());
    let leases = w.root().join(".mailfleet/leases");
    std::fs::write(leases.join("garbage.toml"), [0xff; 5_000]).unwrap();
    std::os::unix::fs::symlink("/dev/zero", leases.join("link.toml")).unwrap();
    let order = w.install("2-0", None, &[("bin/abcd", "two")]);
    let out = w.agent(&["run", "--once"]);
    assert_eq!(w.outcome(order), Outcome::Installed);
    assert!(text(&out).contains("garbage"), "told: {}", text(&out));
}

#[test]
fn a_lease_that_is_over_or_forgotten_holds_nothing_up() {
    let mut w = with_version_one();
    assert!(w.agent(&["lease", "take", "short", "--for", "1s", "--reason", "x"]).status.success());
    let order = w.install("2-0", None, &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 0);
    let installed = |w: &World| w.once() == 0 && w.file("bin/abcd").unwrap() == "two";
    wait_until("the lease is over", || installed(&w));
    assert_eq!(w.outcome(order), Outcome::Installed);
    // It claims a century.
    w.set_config("lease_max = \"1s\"");
    let written = "owner = \"long\"\nreason = \"x\"\nuntil = \"2126-01-01T00:00:00Z\"\n";
    std::fs::write(w.root().join(".mailfleet/leases/long.toml"), written).unwrap();
    let order = w.install("3-0", None, &[("bin/abcd", "three")]);
    wait_until("the lease is not believed any more", || {
        w.once() == 0 && w.file("bin/abcd").unwrap() == "three"
    });
    assert_eq!(w.outcome(order), Outcome::Installed);
    let too_long = w.agent(&["lease", "take", "long", "--for", "10m", "--reason", "x"]);
    assert_eq!(too_long.status.code(), Some(2));
    assert!(text(&too_long).contains("lease_max"), "{}", text(&too_long));
}

#[test]
fn a_lease_until_the_restart_puts_an_update_off_to_just_after_it() {
    let mut w = with_version_one();
    let take = ["lease", "take", "billing", "--until-restart", "--reason", "open period"];
    assert!(in_boot(&w, "first", &take).status.success());
    let order = w.install("2-0", Some("exit 0"), &[("bin/abcd", "two")]);
    assert_eq!(once_in(&w, "first"), Some(0));
    assert_eq!(once_in(&w, "first"), Some(0));
    assert_eq!(w.file("bin/abcd").unwrap(), "one");
    assert_eq!(once_in(&w, "second"), Some(0));
    assert_eq!(w.outcome(order), Outcome::Installed);
}

#[test]
fn the_folder_of_leases_is_as_open_as_the_operator_wants() {
    let w = with_version_one();
    let mode = |path: &str| std::fs::metadata(w.root().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(".mailfleet"), mode(".mailfleet/leases")), (0o700, 0o700));
    w.set_config("lease_mode = \"1777\"");
    assert_eq!(w.once(), 0);
    assert_eq!(
        (mode(".mailfleet"), mode(".mailfleet/leases"), mode(".mailfleet/jobs")),
        (0o711, 0o1777, 0o700)
    );
}

/// A world whose module `bin/abcd` is a real program of this kind.
fn with_program(kind: &'static str) -> World {
    let mut w = with_version_one();
    w.kind = kind;
    std::fs::copy("/bin/sleep", w.root().join("bin/abcd")).unwrap();
    w
}

fn start(w: &World) -> Child {
    Command::new(w.root().join("bin/abcd")).arg("600").spawn().unwrap()
}

#[test]
fn an_on_demand_program_that_runs_is_waited_for_before_pre() {
    let mut w = with_program("on-demand");
    let mut program = start(&w);
    let script = "echo $1 >> $MAILFLEET_ROOT/log";
    let order = w.install("2-0", Some(script), &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 0);
    let expected = format!("a module is in use (abcd runs as process {})", program.id());
    assert_eq!(w.waits(order)[0].to_string(), expected);
    assert_eq!(w.file("log").unwrap(), "check\n");
    ended(&mut program);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
}

#[test]
fn what_uses_a_library_after_pre_puts_the_update_off_by_way_of_undo() {
    // Any file that the linker maps will do for a library.
    let mut w = with_program("library");
    let mut program = start(&w);
    let script = "echo $1 >> $MAILFLEET_ROOT/log";
    let order = w.install("2-0", Some(script), &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 0);
    let expected = format!("a module is in use (abcd is used by process {})", program.id());
    assert_eq!(w.waits(order)[0].to_string(), expected);
    assert_eq!(w.file("log").unwrap(), "check\npre\nundo\n");
    ended(&mut program);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
}

#[test]
fn a_resident_is_stopped_by_pre_or_waited_for() {
    let mut w = with_program("resident");
    let mut program = start(&w);
    let without = w.install("2-0", None, &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.waits(without)[0].reason, WaitReason::ModuleRunning);
    w.cancel(without);
    w.once();
    let script = format!("[ $1 = pre ] && kill {0}; exit 0", program.id());
    let order = w.install("3-0", Some(&script), &[("bin/abcd", "three")]);
    let mut agent = w.spawn(&["run", "--once"]);
    assert!(!program.wait().unwrap().success(), "pre has ended it");
    assert!(agent.wait().unwrap().success());
    assert_eq!(w.waits(order), []);
    assert_eq!(w.outcome(order), Outcome::Installed);
}

#[test]
fn a_module_that_runs_until_the_order_expires_is_named_in_the_report() {
    let mut w = with_program("resident");
    let mut program = start(&w);
    let order = install_for(&mut w, 3, None);
    wait_until("the order has expired", || w.once() == 1);
    let Outcome::RolledBack(failure) = w.outcome(order) else { panic!("{:?}", w.reports) };
    let expected = format!(
        "switch: waited until the order expired: a module is in use (abcd runs as process {})",
        program.id()
    );
    assert_eq!(failure.to_string(), expected);
    ended(&mut program);
}
