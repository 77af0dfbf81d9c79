//! The agent as a service of systemd: what it says of itself, and what it must never log.
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

use std::io::Cursor;
use std::process::{Child, Stdio};

use common::{AGENT, World, text};
use mailio::Mailbox;
use outside::{
    Journal, Systemd, assert_journal_lines, assert_kept, key_bytes, password_file, refusing_imap,
    refusing_smtp, signal,
};
use shared::AgentId;
use shared::envelope::{ContentKey, NewHeader, seal_body, seal_head};
use shared::message::{Enrolled, Order, Outcome, encode};

fn start(w: &World, systemd: &Systemd) -> Child {
    let mut command = w.command(&["run"]);
    systemd.adopt(&mut command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Stops an agent as systemd does; it must end well.
fn stop(mut agent: Child, systemd: &Systemd) {
    signal("-TERM", agent.id());
    systemd.hear("STOPPING=1");
    assert!(agent.wait().unwrap().success());
}

#[test]
fn a_resting_agent_says_that_it_is_ready_what_it_does_and_that_it_lives() {
    let w = World::enrolled();
    let systemd = Systemd::new();
    let agent = start(&w, &systemd);
    assert_eq!(systemd.hear("READY=1").len(), 1, "nothing comes before");
    systemd.hear("STATUS=polling every 3m, 0 reports wait");
    systemd.hear_life(5);
    stop(agent, &systemd);
}

#[test]
fn an_agent_that_waits_for_a_script_lives_until_it_hangs_and_stops_cleanly_inside_the_install() {
    let mut w = World::enrolled();
    let order = w.install("2-0", Some("[ $1 != post ] || exec sleep 600"), &[("bin/abcd", "two")]);
    let systemd = Systemd::new();
    let agent = start(&w, &systemd);
    systemd.hear("STATUS=installing 2-0: post");
    systemd.hear_life(5);
    signal("-STOP", agent.id());
    systemd.hear_nothing_more();
    signal("-CONT", agent.id());
    systemd.hear_life(2);
    stop(agent, &systemd);
    w.collect();
    let ended =
        |r: &shared::message::Report| matches!(r, shared::message::Report::Ended(e) if e.order == order);
    assert!(!w.reports.iter().any(ended), "the next start decides what becomes of it: {:?}", w.reports);
}

#[test]
fn an_agent_that_cannot_start_is_never_ready() {
    let w = World::enrolled();
    std::fs::write(w.home().join("state"), "garbage").unwrap();
    std::fs::write(w.home().join("state.prev"), "garbage").unwrap();
    let systemd = Systemd::new();
    let mut agent = start(&w, &systemd);
    assert_eq!(agent.wait().unwrap().code(), Some(2));
    systemd.hear_nothing_more();
}

#[test]
fn a_service_logs_what_it_does_in_the_form_of_the_journal() {
    let mut w = World::enrolled();
    w.install("2-0", Some("exit 3"), &[("bin/abcd", "two")]);
    let journal = Journal::new(w.folder.path());
    let mut command = w.command(&["run", "--once"]);
    assert_eq!(journal.attach(&mut command).status().unwrap().code(), Some(1));
    let log = journal.text();
    assert_journal_lines(&log);
    assert!(log.contains("<6>") && log.contains("Running the bundle's script"), "info is on: {log}");
    assert!(log.contains("<4>") && log.contains("Install ended without success"), "{log}");
    let journal = Journal::new(w.folder.path());
    std::fs::remove_file(w.home().join("agent.toml")).unwrap();
    let mut command = w.command(&["run"]);
    assert_eq!(journal.attach(&mut command).status().unwrap().code(), Some(2));
    assert!(journal.text().starts_with("<3>mailfleet-agent: cannot read"), "{}", journal.text());
}

#[test]
fn not_even_a_trace_shows_a_password_an_invitation_s_secret_or_a_key() {
    let mut w = World::new();
    let mut log = String::new();
    let mut run = |w: &World, args: &[&str], code: i32| {
        let out = w.command(args).env("RUST_LOG", "trace").output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{}", text(&out));
        log.push_str(&text(&out));
    };
    let mut invitation = w.invitation();
    invitation.secret = (*b"the invitation's secret, 32 long").into();
    let file = w.folder.path().join("A0001.invite");
    std::fs::write(&file, invitation.to_text().as_bytes()).unwrap();
    for address in [World::manager_address(), World::agent_address()] {
        Mailbox::create_spool(&w.spool(), &address).unwrap();
    }
    let (spool, root) = (format!("spool:{}", w.spool().display()), w.root());
    let (file, root) = (file.to_str().unwrap(), root.to_str().unwrap());
    run(&w, &["enrol", file, "--send", &spool, "--receive", &spool, "--root", root], 0);
    w.collect();
    w.send(&Order::Enrolled(Enrolled { agent: AgentId::parse(AGENT).unwrap(), heartbeat: None }));
    run(&w, &["run", "--once"], 0);

    let key = ContentKey::from_bytes(*b"the content key, 32 bytes long..");
    let bundle = w.bundle("2-0", "", Some("exit 0"), &[("bin/abcd", "two")]);
    let life = w.life();
    let mut body = Vec::new();
    let order = encode(&World::install_order(&bundle, "2-0"));
    let sealed = seal_body(&key, &order, &mut Cursor::new(&bundle), &mut body).unwrap();
    let header = NewHeader {
        id: life.id,
        created: life.created,
        expires: life.expires,
        sequence: life.sequence,
        body: sealed,
    };
    let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
    let head = seal_head(&header, &key, &[w.agent_seal_key()], &w.sign, &mut rng).unwrap();
    w.mail(life.id, [head, body].concat());
    run(&w, &["run", "--once"], 0);
    assert_eq!(w.outcome(life.id), Outcome::Installed);

    // A login that fails on both ways.
    let (password, user) = ("correct horse battery", "box1");
    let config = std::fs::read_to_string(w.home().join("agent.toml")).unwrap();
    let config: Vec<&str> =
        config.lines().filter(|l| !l.starts_with("send =") && !l.starts_with("receive =")).collect();
    std::fs::write(w.home().join("agent.toml"), config.join("\n")).unwrap();
    w.set_config(&format!(
        "send = \"smtp://{user}@localhost:{}\"\nreceive = \"imap://{user}@localhost:{}/INBOX\"\npassword_file = \"{}\"",
        refusing_smtp(),
        refusing_imap(),
        password_file(w.folder.path(), password).display()
    ));
    run(&w, &["run", "--once"], 3);
    run(&w, &["doctor"], 3);

    for sign in ["Doing", "Running the bundle's script", "wrong password"] {
        assert!(log.contains(sign), "the log is a whole one: no {sign} in {log}");
    }
    assert_kept(&log, "the mail password", password.as_bytes());
    assert_kept(&log, "the login", format!("\0{user}\0{password}").as_bytes());
    assert_kept(&log, "the invitation's secret", invitation.secret.as_ref());
    assert_kept(&log, "the content key", key.as_bytes());
    for name in ["key.sign", "key.open"] {
        let text = std::fs::read_to_string(w.home().join(name)).unwrap();
        assert_kept(&log, name, text.trim().as_bytes());
        assert_kept(&log, name, &key_bytes(&text));
    }
}
