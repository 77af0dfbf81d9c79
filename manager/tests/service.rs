//! The daemon as a service of systemd: what it says of itself, how it stops, and what it must never log.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod office;
#[path = "../../shared/service/tests/outside/mod.rs"]
mod outside;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use manager_core::TargetState;
use office::Office;
use outside::{
    Journal, Systemd, assert_journal_lines, assert_kept, key_bytes, password_file, refusing_imap,
    refusing_smtp, serve, signal,
};
use shared::message::Order;

fn mailfleet(office: &Office, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailfleet"));
    command.args(["--home", office.home.dir().to_str().unwrap()]).args(args).stdin(Stdio::null());
    command.env_remove("MAILFLEET_LOG");
    command
}

fn start(office: &Office, systemd: &Systemd) -> Child {
    let mut command = mailfleet(office, &["run"]);
    systemd.adopt(&mut command).stderr(Stdio::null()).spawn().unwrap()
}

/// Stops the daemon as systemd does; it must end well.
fn stop(mut daemon: Child, systemd: &Systemd) {
    signal("-TERM", daemon.id());
    systemd.hear("STOPPING=1");
    assert!(daemon.wait().unwrap().success());
}

/// Replaces settings of the configuration, and gives what was there.
fn set(office: &Office, settings: &[(&str, String)]) -> String {
    let path = office.home.config_path();
    let old = std::fs::read_to_string(&path).unwrap();
    let is_kept = |line: &&str| !settings.iter().any(|(key, _)| line.starts_with(&format!("{key} =")));
    let mut text: String = old.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
    settings.iter().for_each(|(key, value)| text.push_str(&format!("{key} = \"{value}\"\n")));
    std::fs::write(&path, text).unwrap();
    old
}

#[test]
fn a_daemon_says_that_it_is_ready_what_it_does_and_that_it_lives_until_it_hangs() {
    let office = Office::new();
    let agents = office.enrolled(2);
    office.campaign(&agents, 1_000);
    let systemd = Systemd::new();
    let daemon = start(&office, &systemd);
    assert_eq!(systemd.hear("READY=1").len(), 1, "nothing comes before");
    systemd.hear("STATUS=polling every 30s, 1 campaigns under way, mail for 0 agents waits");
    systemd.hear_life(5);
    signal("-STOP", daemon.id());
    systemd.hear_nothing_more();
    signal("-CONT", daemon.id());
    systemd.hear_life(2);
    stop(daemon, &systemd);
}

#[test]
fn a_second_daemon_is_never_ready() {
    let office = Office::new();
    let systemd = Systemd::new();
    let first = start(&office, &systemd);
    systemd.hear("READY=1");
    let other = Systemd::new();
    assert!(!start(&office, &other).wait().unwrap().success());
    other.hear_nothing_more();
    stop(first, &systemd);
}

#[test]
fn a_daemon_that_is_told_to_stop_while_a_mail_goes_out_stops_at_once_and_the_next_one_sends_it() {
    let office = Office::new();
    let agents = office.enrolled(1);
    let id = office.campaign(&agents, 1_000);
    // A relay that takes the recipients and then says nothing more.
    let port = serve("220 hello\r\n", |line| match line.split(' ').next().unwrap() {
        "DATA" => String::new(),
        _ => "250 fine\r\n".to_owned(),
    });
    let old = set(&office, &[("send", format!("smtp://localhost:{port}"))]);
    let systemd = Systemd::new();
    let daemon = start(&office, &systemd);
    let trying = || office.target(id, &agents[0]).0 != TargetState::Pending;
    for _ in 0..1_000 {
        if trying() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(trying(), "the relay was asked");
    systemd.hear_life(2);
    let began = std::time::Instant::now();
    stop(daemon, &systemd);
    assert!(began.elapsed() < Duration::from_secs(10));
    std::fs::write(office.home.config_path(), old).unwrap();
    office.pass();
    assert!(matches!(agents[0].orders(&office)[0].1, Order::Install(_)));
}

#[test]
fn a_service_logs_what_it_does_in_the_form_of_the_journal() {
    let office = Office::new();
    set(&office, &[("receive", format!("imap://manager@localhost:{}/INBOX", refusing_imap()))]);
    let password = password_file(office.dir.path(), "correct horse battery");
    set(&office, &[("password_file", password.display().to_string())]);
    let (systemd, journal) = (Systemd::new(), Journal::new(office.dir.path()));
    let mut command = mailfleet(&office, &["run"]);
    let daemon = systemd.adopt(journal.attach(&mut command)).spawn().unwrap();
    systemd.hear_life(2);
    for _ in 0..1_000 {
        if journal.text().contains("needs the operator") {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    stop(daemon, &systemd);
    let log = journal.text();
    assert_journal_lines(&log);
    assert!(log.contains("<6>mailfleet runs") && log.contains("<6>stopped"), "{log}");
    assert!(log.contains("<3>needs the operator"), "{log}");
    std::fs::remove_file(office.home.dir().join("order.key")).unwrap();
    let mut command = mailfleet(&office, &["run"]);
    assert!(!journal.attach(&mut command).status().unwrap().success());
    assert!(journal.text().starts_with("<3>error: "), "{}", journal.text());
    assert_journal_lines(&journal.text());
}

#[test]
fn not_even_a_trace_shows_a_password_an_invitation_s_secret_or_a_key() {
    let office = Office::new();
    let mut log = String::new();
    let mut run = |args: &[&str], code: i32| {
        let out = mailfleet(&office, args).env("MAILFLEET_LOG", "trace").output().unwrap();
        let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert_eq!(out.status.code(), Some(code), "{text}");
        log.push_str(&text);
    };
    let secret = *b"the invitation's secret, 32 long";
    let (mut good, mut bad) = (office.invite(1), office.invite(2));
    office.store().write(|tx| tx.renew_invitation(&good.id, shared::Digest::of(&secret), later())).unwrap();
    good.report(&office, &good.enrol_request(secret));
    bad.report(&office, &bad.enrol_request(secret));
    run(&["run", "--once"], 0);
    office.campaign(&[good], 100_000);
    run(&["run", "--once"], 0);

    // A login that fails on both ways, while something is to be sent.
    run(&["query", "versions", "--all"], 0);
    let (password, user) = ("correct horse battery", "manager");
    let password_file = password_file(office.dir.path(), password);
    set(
        &office,
        &[
            ("send", format!("smtp://{user}@localhost:{}", refusing_smtp())),
            ("receive", format!("imap://{user}@localhost:{}/INBOX", refusing_imap())),
            ("password_file", password_file.display().to_string()),
        ],
    );
    run(&["run", "--once"], 2);
    run(&["doctor"], 2);

    for sign in ["enrolled", "enrolment refused", "sending", "wrong password"] {
        assert!(log.contains(sign), "the log is a whole one: no {sign} in {log}");
    }
    assert_kept(&log, "the mail password", password.as_bytes());
    assert_kept(&log, "the login", format!("\0{user}\0{password}").as_bytes());
    assert_kept(&log, "the invitation's secret", &secret);
    for name in ["order.key", "open.key", "release.key"] {
        let text = std::fs::read_to_string(office.home.dir().join(name)).unwrap();
        assert_kept(&log, name, text.trim().as_bytes());
        assert_kept(&log, name, &key_bytes(&text));
    }
    let bodies: Vec<_> =
        (1..=3).map(|id| office.store().read(|tx| tx.body(id)).unwrap()).map(|body| body.key).collect();
    bodies.iter().for_each(|key| assert_kept(&log, "a content key", key.as_bytes()));
}

fn later() -> shared::UnixMillis {
    mailfleet::system::now().plus(Duration::from_secs(3_600))
}
