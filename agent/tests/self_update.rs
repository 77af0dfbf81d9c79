//! The agent replaces itself (PROTOCOL 6.8): the real program, with a few bytes more at its end so that it is another
//! one, and programs that fail in every way that one can.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;
#[path = "../../shared/service/tests/outside/mod.rs"]
mod outside;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use common::{World, text, tree, wait_until};
use outside::{Systemd, signal};
use shared::message::{Outcome, Phase, Refusal, Report, Reported};
use shared::{Digest, EnvelopeId, SoftwareVersion};

/// Where the agent is below the root.
const AGENT: &str = "bin/mailfleet-agent";

/// The agent of this build, without what only a debugger needs.
static BUILT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("agent");
    put_agent(&small);
    std::fs::read(&small).unwrap()
});

/// By programs of their own: a file that another thread's child still holds open for writing cannot be run.
fn put_agent(path: &Path) {
    let built = env!("CARGO_BIN_EXE_mailfleet-agent");
    let stripped = Command::new("strip").arg(built).arg("-o").arg(path).status();
    if !stripped.is_ok_and(|status| status.success()) {
        assert!(Command::new("cp").arg(built).arg(path).status().unwrap().success());
    }
}

/// Another program that does the same.
fn release(n: u64) -> Vec<u8> {
    [&BUILT[..], format!("\nrelease {n}").as_bytes()].concat()
}

/// A box whose agent runs from below the root.
fn site() -> World {
    let mut w = World::enrolled();
    let path = w.root().join(AGENT);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    put_agent(&path);
    assert_eq!(std::fs::read(&path).unwrap(), *BUILT);
    w.program = Some(path);
    w
}

/// Mails an agent, beside another module.
fn order(w: &mut World, version: u64, script: Option<&str>, agent: &[u8]) -> EnvelopeId {
    let (version, other) = (format!("{version}-0"), format!("{version}"));
    let modules = [("bin/abcd", "on-demand", other.as_bytes()), (AGENT, "agent", agent)];
    let bundle = w.bundle_of(&version, "", script, &modules);
    let life = w.life();
    w.send_with(life, &World::install_order(&bundle, &version), &bundle)
}

fn agent_digest(w: &World) -> Digest {
    Digest::of(&std::fs::read(w.root().join(AGENT)).unwrap())
}

fn exact(version: u64) -> Reported {
    Reported::Exact(SoftwareVersion::parse(&format!("{version}-0")).unwrap())
}

/// This release is what is there, what is reported, and nothing is left over.
fn assert_is(w: &mut World, order: EnvelopeId, version: u64) {
    let ended = w.ended(order);
    assert_eq!((ended.outcome, ended.versions.software), (Outcome::Installed, exact(version)));
    assert_eq!(agent_digest(w), Digest::of(&release(version)));
    assert_eq!(w.file("bin/abcd"), Some(version.to_string()));
    let left: Vec<_> = tree(&w.root()).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    for folder in [w.root().join(".mailfleet/jobs"), w.home().join("bundles")] {
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "{}", folder.display());
    }
}

fn has_ended(w: &mut World, order: EnvelopeId) -> bool {
    w.collect();
    w.reports.iter().any(|r| matches!(r, Report::Ended(ended) if ended.order == order))
}

/// The program that a process is.
fn runs(process: &Child) -> Digest {
    Digest::of(&std::fs::read(format!("/proc/{}/exe", process.id())).unwrap())
}

#[test]
fn an_agent_that_proves_itself_takes_over_within_the_same_run_and_again_and_again() {
    let mut w = site();
    for version in [1, 2] {
        let order = order(&mut w, version, Some("exit 0"), &release(version));
        assert_eq!(w.once(), 0);
        assert_is(&mut w, order, version);
    }
    let again = order(&mut w, 2, None, &release(2));
    assert_eq!((w.once(), w.outcome(again)), (0, Outcome::AlreadyInstalled));
    // An older one is a new order's matter as well.
    let back = order(&mut w, 1, None, &release(1));
    assert_eq!(w.once(), 0);
    assert_is(&mut w, back, 1);
}

#[test]
fn a_service_whose_agent_takes_over_stays_the_same_process_and_never_stops() {
    let mut w = site();
    w.set_config("poll = \"100ms\"");
    let systemd = Systemd::new();
    let mut command = w.command(&["run"]);
    let mut agent = systemd.adopt(&mut command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    systemd.hear("READY=1");
    assert_eq!(runs(&agent), Digest::of(&BUILT));
    let order = order(&mut w, 1, None, &release(1));
    let heard = systemd.hear("READY=1");
    assert!(heard.iter().all(|said| !said.contains("STOPPING")), "{heard:?}");
    assert_eq!(runs(&agent), Digest::of(&release(1)), "the same process, another program");
    wait_until("the install ends", || has_ended(&mut w, order));
    assert_is(&mut w, order, 1);
    signal("-TERM", agent.id());
    assert!(agent.wait().unwrap().success());
}

#[test]
fn an_agent_that_fails_in_any_way_leaves_the_old_one_which_says_why_and_can_be_updated_again() {
    let mut w = site();
    let first = order(&mut w, 1, None, &release(1));
    assert_eq!(w.once(), 0);
    assert_is(&mut w, first, 1);
    let before = tree(&w.root());
    w.set_config("trial_limit = \"1s\"");
    let script = |text: &str| format!("#!/bin/sh\n{text}\n").into_bytes();
    let wrapper = format!("exec {} \"$@\"", w.root().join(AGENT).display());
    let no_home = format!("exec {} --home /nowhere trial", w.root().join(AGENT).display());
    let other_machine = {
        let mut bytes = release(9);
        // The machine in the ELF header: none that there is.
        bytes[18..20].copy_from_slice(&[0xee, 0xee]);
        bytes
    };
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("it fails", script("echo no such library; exit 1"), "exit code 1"),
        ("it ends well, and proves nothing", script("exit 0"), "exit code 0"),
        ("it panics", script("exit 101"), "exit code 101"),
        ("it hangs", script("sleep 600 & exec sleep 600"), "took longer than 1 s"),
        ("it is killed", script("kill -SEGV $$"), "ended by signal 11"),
        ("it is no program", b"garbage".to_vec(), "cannot run it: Exec format error (os error 8)"),
        ("it is for another machine", other_machine, "cannot run it: Exec format error (os error 8)"),
        ("it cannot read its state", script(&no_home), "exit code 2 (its configuration, keys or state)"),
        ("another program proves itself in its place", script(&wrapper), "exit code 1"),
    ];
    for (n, (what, agent, why)) in (2..).zip(cases) {
        let order = order(&mut w, n, Some("echo $1 >> $MAILFLEET_ROOT/../phases"), &agent);
        assert_eq!(w.once(), 1, "{what}");
        let ended = w.ended(order);
        let Outcome::RolledBack(failure) = &ended.outcome else { panic!("{what}: {ended:?}") };
        assert_eq!(failure.phase, Phase::Prove, "{what}");
        let expected = format!("prove: the new agent has not proven itself: {why}");
        assert_eq!((failure.to_string(), &ended.versions.software), (expected, &exact(1)), "{what}");
        if what == "it fails" {
            assert_eq!(ended.output.unwrap().as_str(), "no such library\n", "its words are reported");
        }
        assert_eq!(tree(&w.root()), before, "{what}");
        let phases = std::fs::read_to_string(w.folder.path().join("phases")).unwrap();
        assert!(phases.ends_with("verify\nundo\n"), "{what}: {phases}");
    }
    let config = std::fs::read_to_string(w.home().join("agent.toml")).unwrap();
    std::fs::write(w.home().join("agent.toml"), config.replace("trial_limit = \"1s\"", "")).unwrap();
    let order = order(&mut w, 20, None, &release(20));
    assert_eq!(w.once(), 0);
    assert_is(&mut w, order, 20);
}

#[test]
fn a_new_agent_must_read_the_mailbox_if_the_old_one_can_and_may_be_told_that_it_is_down() {
    let mut w = site();
    let noted = w.folder.path().join("arguments");
    let tells = format!("#!/bin/sh\necho \"$@\" > {}\nexit 3\n", noted.display());
    let seen = order(&mut w, 1, None, tells.as_bytes());
    assert_eq!(w.once(), 1);
    let Outcome::RolledBack(failure) = w.outcome(seen) else { panic!("{:?}", w.reports) };
    assert!(failure.to_string().ends_with("exit code 3 (its mailbox)"), "{failure}");
    let arguments = || std::fs::read_to_string(&noted).unwrap();
    assert_eq!(arguments(), format!("--home {} --log warn trial\n", w.home().display()));

    // The mailbox goes away while the bundle is installed.
    let mailbox = w.spool().join("agent0001@lab.test");
    let away = w.spool().join("away");
    let (from, to) = (mailbox.display(), away.display());
    let down = format!("[ $1 != verify ] || {{ mv {from} {to}; : > {from}; }}");
    order(&mut w, 2, Some(&down), tells.as_bytes());
    assert_eq!(w.once(), 3, "the mail is down");
    assert!(arguments().ends_with("trial --mail-is-down\n"), "{}", arguments());
    let back = || {
        std::fs::remove_file(&mailbox).unwrap();
        std::fs::rename(&away, &mailbox).unwrap();
    };
    back();
    let told = order(&mut w, 3, Some(&down), &release(3));
    assert_eq!(w.once(), 3);
    back();
    assert_is(&mut w, told, 3);
}

#[test]
fn an_agent_that_would_not_be_started_from_where_the_bundle_puts_it_is_refused_before_anything_changes() {
    let mut w = site();
    let before = tree(&w.root());
    w.program = None;
    let refused = order(&mut w, 1, Some(": > $MAILFLEET_ROOT/ran"), &release(1));
    assert_eq!(w.once(), 1);
    let Outcome::Refused(Refusal::OtherAgent(text)) = w.outcome(refused) else { panic!("{:?}", w.reports) };
    assert!(text.as_str().starts_with("it runs from /"), "{text}");
    assert_eq!(tree(&w.root()), before);
    // A link to it is as good as itself: the kernel knows the file behind it.
    let link = w.folder.path().join("mailfleet-agent");
    std::os::unix::fs::symlink(w.root().join(AGENT), &link).unwrap();
    w.program = Some(link);
    let order = order(&mut w, 2, None, &release(2));
    assert_eq!(w.once(), 0);
    assert_is(&mut w, order, 2);
}

#[test]
fn a_program_is_proven_only_for_an_install_that_waits_for_it() {
    let w = site();
    let (home, root) = (tree(&w.home()), tree(&w.root()));
    let out = w.agent(&["trial"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out).contains("no agent is to be proven here"), "{}", text(&out));
    assert_eq!((tree(&w.home()), tree(&w.root())), (home, root));
}

#[test]
fn an_agent_that_is_told_to_stop_in_a_trial_stops_at_once_and_takes_the_trial_along() {
    let mut w = site();
    let pid_file = w.folder.path().join("pid");
    let hangs = format!("#!/bin/sh\necho $$ > {0}.new; mv {0}.new {0}\nexec sleep 600\n", pid_file.display());
    let order = order(&mut w, 1, None, hangs.as_bytes());
    let mut agent = w.spawn(&["run"]);
    wait_until("the trial runs", || pid_file.exists());
    assert!(w.status().contains("Install             1-0 in proving"), "{}", w.status());
    signal("-TERM", agent.id());
    assert!(agent.wait().unwrap().success());
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert!(!Command::new("kill").args(["-0", pid.trim()]).output().unwrap().status.success());
    assert_eq!(agent_digest(&w), Digest::of(&BUILT));
    assert!(!has_ended(&mut w, order), "the next start tries again");
    w.set_config("trial_limit = \"1s\"");
    assert_eq!(w.once(), 1);
    assert!(matches!(w.outcome(order), Outcome::RolledBack(_)));
}

#[test]
fn an_update_that_restarts_the_box_proves_its_agent_after_that() {
    let mut w = site();
    let order = order(&mut w, 1, Some("[ $1 != post ] || exit 76"), &release(1));
    let once = |w: &World, boot: &str| {
        let out = w.command(&["run", "--once"]).env("MAILFLEET_TEST_BOOT_ID", boot).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
    };
    once(&w, "first");
    assert!(w.status().contains("the box is to restart"), "{}", w.status());
    assert_eq!(agent_digest(&w), Digest::of(&BUILT), "the box comes up with the old one");
    once(&w, "second");
    assert_is(&mut w, order, 1);
}

/// Debug builds can be told to die before any effect; the program that takes over counts anew. `scripts/crash-test` takes
/// every effect, a normal run every second.
#[cfg(debug_assertions)]
#[test]
fn an_agent_that_is_killed_before_any_effect_of_its_own_update_is_the_old_one_or_the_new_one() {
    let mut w = site();
    let step = if std::env::var_os("MAILFLEET_KILLS").is_some() { 1 } else { 2 };
    for version in 1u64.. {
        let n = (version - 1) * step;
        let order = order(&mut w, version, None, &release(version));
        let mut command = w.command(&["run", "--once"]);
        let out = command.env("MAILFLEET_TEST_EFFECTS_TO_LIVE", n.to_string()).output().unwrap();
        let left = agent_digest(&w);
        assert!(
            [version - 1, version].iter().any(|v| left == Digest::of(&release(*v))) || n == 0,
            "effect {n}"
        );
        assert_eq!(w.once(), 0, "effect {n}");
        assert_is(&mut w, order, version);
        if out.status.code().is_some() {
            assert!(n > 15, "only {n} effects");
            return;
        }
    }
}

/// Kills of a daemon while it replaces itself again and again.
const KILLS: u64 = 40;

#[test]
fn an_agent_that_is_killed_at_random_moments_of_its_own_updates_stays_one_that_works() {
    let mut w = site();
    w.set_config("poll = \"20ms\"");
    let mut seed = 7u64;
    let mut dice = move |sides: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % sides
    };
    let mut orders: Vec<(EnvelopeId, u64)> = vec![];
    let mut known = vec![Digest::of(&BUILT)];
    for _ in 0..KILLS {
        let last = orders.last().copied();
        if last.is_none_or(|(order, _)| has_ended(&mut w, order)) {
            let version = last.map_or(1, |(_, version)| version + 1);
            // Every third one does not work.
            let agent = if version % 3 == 0 { b"#!/bin/sh\nexit 1".to_vec() } else { release(version) };
            if version % 3 != 0 {
                known.push(Digest::of(&agent));
            }
            orders.push((order(&mut w, version, None, &agent), version));
        }
        let mut agent = w.spawn(&["run"]);
        // Any moment will do; this one is not waited for.
        std::thread::sleep(Duration::from_millis(dice(600)));
        assert_eq!(agent.try_wait().unwrap(), None, "it has ended by itself");
        agent.kill().unwrap();
        agent.wait().unwrap();
        assert!(known.contains(&agent_digest(&w)), "what a box starts has proven itself");
    }
    w.once();
    let mut installed = None;
    for (order, version) in &orders {
        match w.outcome(*order) {
            Outcome::Installed => {
                assert_ne!(version % 3, 0);
                installed = Some(*version);
            }
            Outcome::RolledBack(_) => {}
            other => panic!("{version}: {other:?}"),
        }
    }
    eprintln!("killed {KILLS} times in {} updates of the agent; {installed:?} is installed", orders.len());
    let query = w.query();
    assert_eq!(w.once(), 0);
    let expected = installed.map_or(Reported::Nothing, exact);
    assert_eq!(w.answers(query)[0].software, expected);
    assert_eq!(agent_digest(&w), installed.map_or(Digest::of(&BUILT), |v| Digest::of(&release(v))));
    let order = order(&mut w, 1_000, None, &release(1_000));
    assert_eq!(w.once(), 0);
    assert_is(&mut w, order, 1_000);
}
