//! What a bundle's script finds around it, and what it cannot do to the agent.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output};

use common::{World, text, tree, wait_until};
use shared::limits::SCRIPT_OUTPUT_MAX_BYTES;
use shared::message::{Cause, Failure, Outcome, Phase, Refusal, Report, WaitReason};

fn with_version_one() -> World {
    let mut w = World::enrolled();
    let order = w.install("1-0", None, &[("bin/abcd", "one")]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
    w
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `run --once` by a shell that prepares something first.
fn once_after(w: &World, prepare: &str) -> Output {
    let agent = w.command(&["run", "--once"]);
    let mut words = vec![agent.get_program()];
    words.extend(agent.get_args());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("{prepare}; exec \"$@\""), "sh"]).args(words);
    shell.env("MAILFLEET_HOME", w.home()).output().unwrap()
}

/// What the script has said in `post`.
fn said(w: &mut World, script: &str, prepare: &str) -> String {
    let order = w.install("2-0", Some(&format!("[ $1 = post ] || exit 0\n{script}")), &[("bin/abcd", "two")]);
    let out = once_after(w, prepare);
    let ended = w.ended(order);
    assert_eq!(ended.outcome, Outcome::Installed, "{}", text(&out));
    ended.output.unwrap().as_str().to_owned()
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// Leaves programs that ignore the polite signal, and that have left the group and their parents.
const STRAYS: &str = "
    stray() { trap '' TERM; echo $$ >> $MAILFLEET_ROOT/pids; while :; do sleep 1; done; }
    if [ \"$2\" = stray ]; then stray; fi
    [ $1 = post ] || exit 0
    $0 post stray &
    setsid $0 post stray &
    (setsid $0 post stray & ) &
    setsid sh -c \"setsid $0 post stray & setsid $0 post stray &\"
    while [ $(wc -l < $MAILFLEET_ROOT/pids) -lt 5 ]; do sleep 0.05; done
    echo ready > $MAILFLEET_ROOT/ready
    sleep 600";

fn assert_all_ended(w: &World) {
    let pids = w.file("pids").unwrap();
    assert_eq!(pids.lines().count(), 5);
    let alive: Vec<&str> = pids.lines().filter(|pid| is_alive(pid)).collect();
    assert!(alive.is_empty(), "still run: {alive:?}");
}

#[test]
fn on_a_time_out_every_program_of_the_script_is_ended_wherever_it_went() {
    let mut w = with_version_one();
    w.set_config("script_timeout = \"3s\"");
    let order = w.install("2-0", Some(STRAYS), &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 1);
    let failure = Failure { phase: Phase::Post, cause: Cause::ScriptTimeout(3), undo_failed: false };
    assert_eq!(w.outcome(order), Outcome::RolledBack(failure));
    assert_all_ended(&w);
}

#[test]
fn an_agent_that_is_told_to_stop_takes_all_programs_of_its_script_along() {
    let mut w = with_version_one();
    w.install("2-0", Some(STRAYS), &[("bin/abcd", "two")]);
    let mut agent = w.spawn(&["run"]);
    wait_until("the script's programs run", || w.file("ready").is_some());
    let pid = rustix::process::Pid::from_child(&agent);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(agent.wait().unwrap().success());
    assert_all_ended(&w);
}

#[test]
fn a_program_that_a_script_leaves_behind_stays_and_leaves_no_zombie() {
    let mut w = with_version_one();
    w.set_config("poll = \"100ms\"");
    let script = "[ $1 = post ] && setsid sh -c 'echo $$ > $MAILFLEET_ROOT/pid; while [ ! -e $MAILFLEET_ROOT/end ]; \
                  do sleep 0.05; done' > /dev/null 2>&1 & exit 0";
    let order = w.install("2-0", Some(script), &[("bin/abcd", "two")]);
    let mut agent = w.spawn(&["run"]);
    wait_until("the install ends", || {
        w.collect();
        w.reports.iter().any(|r| matches!(r, Report::Ended(ended) if ended.order == order))
    });
    assert_eq!(w.outcome(order), Outcome::Installed);
    wait_until("the program runs", || w.file("pid").is_some());
    let pid = w.file("pid").unwrap();
    assert!(is_alive(&pid));
    std::fs::write(w.root().join("end"), "").unwrap();
    let gone = || !std::path::Path::new(&format!("/proc/{}", pid.trim())).exists();
    wait_until("the program is gone, also from the list of processes", gone);
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn a_flood_of_output_costs_no_memory_and_its_end_is_reported() {
    let mut w = with_version_one();
    let output =
        said(&mut w, "head -c 100000000 /dev/zero | tr '\\0' x; echo; grep VmHWM /proc/$PPID/status", "true");
    assert!(output.len() <= SCRIPT_OUTPUT_MAX_BYTES && output.len() > SCRIPT_OUTPUT_MAX_BYTES - 100);
    let peak = output.split_whitespace().rev().nth(1).unwrap();
    eprintln!("peak: {peak} KiB");
    assert!(peak.parse::<u64>().unwrap() < 30_000, "{peak} KiB");
}

#[test]
fn a_script_finds_no_open_files_but_its_own_three() {
    let mut w = with_version_one();
    let script = "for n in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && echo $n; done; exit 0";
    let output = said(&mut w, script, "exec 3< /etc/passwd 7> /dev/null 9>&2");
    assert_eq!(output.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
}

#[test]
fn a_script_finds_the_documented_environment_and_nothing_else() {
    let mut w = with_version_one();
    w.set_config("password_env = \"MAIL_PASSWORD\"");
    let prepare = "export MAIL_PASSWORD=sesame LD_LIBRARY_PATH=/x HOME=/root SHLVL=9; umask 077";
    let output = said(&mut w, "env; echo umask=$(umask)", prepare);
    assert!(!output.contains("sesame"), "{output}");
    let names: Vec<&str> = output.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let given = ["PATH", "LANG", "HOME", "MAILFLEET_ROOT", "MAILFLEET_STAGE", "MAILFLEET_FROM_VERSION"];
    for name in given.iter().chain(&["MAILFLEET_TO_VERSION"]) {
        assert!(names.contains(name), "{name} is missing: {output}");
    }
    // A shell adds these itself.
    let by_shell = ["PWD", "OLDPWD", "SHLVL", "_", "umask"];
    let other = |n: &&&str| !given.contains(n) && !by_shell.contains(n) && **n != "MAILFLEET_TO_VERSION";
    assert_eq!(names.iter().find(other), None, "{output}");
    assert!(output.contains("MAILFLEET_FROM_VERSION=1-0") && output.contains("MAILFLEET_TO_VERSION=2-0"));
    assert!(output.contains("umask=0022") && !output.contains("SHLVL=9"), "{output}");
}

#[test]
fn a_script_that_removes_its_own_folder_before_the_switch_changes_nothing() {
    let mut w = with_version_one();
    let before = tree(&w.root());
    let script = "[ $1 = pre ] && rm -rf $MAILFLEET_ROOT/.mailfleet/jobs/*; exit 0";
    let order = w.install("2-0", Some(script), &[("bin/abcd", "two"), ("new/y", "two")]);
    assert_eq!(w.once(), 1);
    let Outcome::RolledBack(failure) = w.outcome(order) else { panic!("{:?}", w.reports) };
    assert_eq!((failure.phase, failure.undo_failed), (Phase::Switch, true));
    assert_eq!(tree(&w.root()), before);
}

#[test]
fn a_script_that_removes_the_old_files_that_were_kept_is_told_as_damage() {
    let mut w = with_version_one();
    let script = "[ $1 = post ] && rm -rf $MAILFLEET_ROOT/.mailfleet/jobs/* && exit 1; exit 0";
    let order = w.install("2-0", Some(script), &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 1);
    let ended = w.ended(order);
    assert!(matches!(ended.outcome, Outcome::Damaged(_)), "{:?}", ended.outcome);
    assert_eq!(ended.versions.software.to_string(), "mixed(1-0)");
    let next = w.install("3-0", None, &[("bin/abcd", "three")]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(next), Outcome::Installed, "the next update mends it");
}

/// Runs `run --once` with the root on a file system of its own that is gone with the agent; false if this
/// user may not make one.
fn once_on_tmpfs(w: &World, options: &str) -> bool {
    if !is_root() {
        eprintln!("not root: no file system of its own");
        return false;
    }
    let agent = w.command(&["run", "--once"]);
    let mut words = vec![agent.get_program()];
    words.extend(agent.get_args());
    let mount = format!("mount -t tmpfs -o {options} tmpfs {} && exec \"$@\"", w.root().display());
    let mut shell = Command::new("unshare");
    shell.args(["-m", "--propagation", "private", "sh", "-c", &mount, "sh"]).args(words);
    let out = shell.env("MAILFLEET_HOME", w.home()).output().unwrap();
    eprintln!("{}", text(&out));
    assert!(matches!(out.status.code(), Some(0 | 1)));
    true
}

#[test]
fn a_script_that_fills_the_disk_is_rolled_back_all_the_same() {
    let mut w = World::enrolled();
    w.set_config("keep_free = \"0 B\"");
    let first = w.install("1-0", None, &[("bin/abcd", "one")]);
    let script = "[ $1 = post ] || exit 0; cat /dev/zero > $MAILFLEET_ROOT/fill; df $MAILFLEET_ROOT; exit 1";
    let second = w.install("2-0", Some(script), &[("bin/abcd", "two"), ("new/y", "two")]);
    if !once_on_tmpfs(&w, "size=4m") {
        return;
    }
    assert_eq!(w.outcome(first), Outcome::Installed);
    let ended = w.ended(second);
    assert!(ended.output.unwrap().as_str().contains("100%"));
    let failure = Failure { phase: Phase::Post, cause: Cause::ScriptExit(1), undo_failed: false };
    assert_eq!(ended.outcome, Outcome::RolledBack(failure));
    assert_eq!(ended.versions.software.to_string(), "1-0", "as the files say");
}

#[test]
fn a_reserve_stays_free_and_files_are_counted_too() {
    for (options, config, waits) in [
        ("size=8m", "keep_free = \"16 MiB\"", true),
        ("size=8m", "keep_free = \"1 MiB\"", false),
        ("size=8m,nr_inodes=60", "keep_free = \"1 MiB\"", true),
    ] {
        let mut w = World::enrolled();
        w.set_config(config);
        let order = w.install("1-0", None, &[("bin/abcd", "one")]);
        if !once_on_tmpfs(&w, options) {
            return;
        }
        let reasons: Vec<WaitReason> = w.waits(order).iter().map(|waiting| waiting.reason).collect();
        assert_eq!(reasons, if waits { vec![WaitReason::NoSpace] } else { vec![] }, "{options}");
    }
}

#[test]
fn a_script_runs_as_the_user_that_is_set_and_can_read_but_not_change_its_stage() {
    if !is_root() {
        eprintln!("not root: cannot become another user");
        return;
    }
    let mut w = with_version_one();
    std::fs::set_permissions(w.folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    w.set_config("script_user = \"nobody\"");
    let script = "id -u; id -G; cat $MAILFLEET_STAGE/bin/abcd* ./bin/zz; echo $HOME
        for place in . bin .. $MAILFLEET_ROOT $MAILFLEET_ROOT/.mailfleet; do
            touch $place/mine 2> /dev/null && echo wrote $place; done
        ls .. ../old $MAILFLEET_ROOT/.mailfleet/leases 2> /dev/null | grep -v :; exit 0";
    let full = format!("[ $1 = pre ] || exit 0\n{script}");
    let order = w.install("2-0", Some(&full), &[("bin/abcd", "two "), ("bin/zz", "three\n")]);
    assert_eq!(w.once(), 0);
    let ended = w.ended(order);
    assert_eq!(ended.outcome, Outcome::Installed);
    let output = ended.output.unwrap();
    let lines: Vec<&str> = output.as_str().lines().collect();
    assert_eq!(lines[..4], ["65534", "65534", "two three", "/nonexistent"], "{lines:?}");
    assert!(!output.as_str().contains("wrote"), "{lines:?}");
    let installed = std::fs::metadata(w.root().join("bin/abcd")).unwrap();
    assert_eq!((installed.uid(), installed.gid(), installed.mode() & 0o7777), (0, 0, 0o755));
}

#[test]
fn a_script_user_that_is_not_there_is_found_at_start_and_by_the_doctor() {
    let w = with_version_one();
    w.set_config("script_user = \"no-such-user\"");
    for args in [&["run", "--once"][..], &["doctor"]] {
        let out = w.agent(args);
        assert_eq!(out.status.code(), Some(2), "{}", text(&out));
        assert!(text(&out).contains("script_user: expected a user"), "{}", text(&out));
    }
}

#[test]
fn a_set_user_id_bit_is_refused_unless_the_box_allows_it_and_never_dropped() {
    let mut w = with_version_one();
    w.mode = "4755";
    let order = w.install("2-0", None, &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 1);
    let Outcome::Refused(Refusal::SpecialMode(module)) = w.outcome(order) else { panic!("{:?}", w.reports) };
    assert_eq!((module.as_str(), w.file("bin/abcd").unwrap().as_str()), ("abcd", "one"));
    w.set_config("allow_setuid = true");
    let order = w.install("3-0", None, &[("bin/abcd", "three")]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
    let mode = || std::fs::metadata(w.root().join("bin/abcd")).unwrap().mode() & 0o7777;
    assert_eq!(mode(), 0o4755);
    let script = "[ $1 = verify ] && exit 1; exit 0";
    w.mode = "0755";
    w.install("4-0", Some(script), &[("bin/abcd", "four")]);
    assert_eq!(w.once(), 1);
    assert_eq!(std::fs::metadata(w.root().join("bin/abcd")).unwrap().mode() & 0o7777, 0o4755, "as it was");
}
