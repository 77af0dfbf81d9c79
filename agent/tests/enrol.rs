//! Enrolment, `status`, `versions`, `doctor` and the exit codes, by the real binary.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{AGENT, World, now, text};
use shared::AgentId;
use shared::message::{Enrolled, Order, Report, Reported};

#[test]
fn enrolling_mails_one_request_and_waits_for_the_answer() {
    let mut w = World::new();
    let out = w.enrol(&w.invitation());
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    w.collect();
    let [Report::Enrol(request)] = &w.reports[..] else { panic!("{:?}", w.reports) };
    assert_eq!((request.agent.as_str(), request.secret), (AGENT, [9; 32]));
    assert!(w.status().contains("Enrolment           requested 1 times"), "{}", w.status());

    w.send(&Order::Enrolled(Enrolled { agent: AgentId::parse(AGENT).unwrap(), heartbeat: None }));
    assert_eq!(w.once(), 0);
    assert!(w.status().contains("Enrolment           accepted"), "{}", w.status());
    w.collect();
    let [_, Report::Versions(versions)] = &w.reports[..] else { panic!("{:?}", w.reports) };
    assert_eq!((versions.query, &versions.versions.software), (None, &Reported::Nothing));
    assert_eq!(w.unread(), 0);
}

#[test]
fn keys_and_state_are_for_the_owner_only() {
    let w = World::enrolled();
    for name in ["key.sign", "key.open", "state", "agent.toml"] {
        let mode = std::fs::metadata(w.home().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    std::fs::set_permissions(w.home().join("key.sign"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let out = w.agent(&["run", "--once"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out).contains("expected mode 0600, found 0644"), "{}", text(&out));
}

#[test]
fn a_home_is_enrolled_once() {
    let w = World::enrolled();
    let out = w.enrol(&w.invitation());
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out).contains("already enrolled"), "{}", text(&out));
}

#[test]
fn an_invitation_that_is_expired_altered_cut_or_missing_is_refused() {
    let w = World::new();
    let mut old = w.invitation();
    old.expires = now().minus(Duration::from_secs(1));
    let out = w.enrol(&old);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out).contains("expired at"), "{}", text(&out));

    let good = w.invitation().to_text().to_string();
    let file = w.folder.path().join("bad.invite");
    let altered = good.replace("agent0001@lab.test", "agent0002@lab.test");
    let cut: String = good.chars().take(good.len() / 2).collect();
    for (what, content) in [("altered", altered), ("cut", cut), ("empty", String::new())] {
        std::fs::write(&file, content).unwrap();
        let out = w.agent(&["enrol", file.to_str().unwrap(), "--send", "spool:/x", "--receive", "spool:/x"]);
        assert_eq!(out.status.code(), Some(2), "{what}: {}", text(&out));
        assert!(text(&out).contains("bad.invite"), "{what}: {}", text(&out));
    }
    let out = w.agent(&["enrol", "/nowhere.invite", "--send", "spool:/x", "--receive", "spool:/x"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(!w.home().join("state").exists());
}

#[test]
fn enrolling_without_mail_says_so_and_run_sends_it_later() {
    let mut w = World::new();
    // No mailbox for the manager yet: the post office does not know it.
    let file = w.folder.path().join("a.invite");
    std::fs::write(&file, w.invitation().to_text().as_bytes()).unwrap();
    let url = format!("smtp://127.0.0.1:{}", closed_port());
    let spool = format!("spool:{}", w.spool().display());
    let out = w.agent(&["enrol", file.to_str().unwrap(), "--send", &url, "--receive", &spool]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out));
    assert!(text(&out).contains("run will send it"), "{}", text(&out));
    assert!(w.spool().join("agent0001@lab.test/new").is_dir(), "an answer could come before the first look");
    assert_eq!(w.once(), 3);

    mailio::Mailbox::create_spool(&w.spool(), &World::manager_address()).unwrap();
    let config = w.home().join("agent.toml");
    let fixed = std::fs::read_to_string(&config).unwrap().replace(&url, &spool);
    std::fs::write(&config, fixed).unwrap();
    assert_eq!(w.once(), 0);
    w.collect();
    assert!(matches!(w.reports[..], [Report::Enrol(_)]), "{:?}", w.reports);
}

/// A port on which nobody listens.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn an_unknown_key_in_the_configuration_is_an_error_with_its_line() {
    let w = World::enrolled();
    w.set_config("pol = \"5m\"");
    let out = w.agent(&["run", "--once"]);
    assert_eq!(out.status.code(), Some(2));
    let said = text(&out);
    assert!(said.contains("agent.toml") && said.contains("line 1") && said.contains("pol"), "{said}");
}

#[test]
fn an_agent_that_is_not_enrolled_says_what_to_do() {
    let w = World::new();
    for command in ["status", "versions", "run"] {
        let out = w.agent(&[command]);
        assert_eq!(out.status.code(), Some(2), "{command}: {}", text(&out));
    }
}

#[test]
fn status_and_versions_have_a_json_form() {
    let mut w = World::enrolled();
    w.install("1-0", None, &[("bin/abcd", "one")]);
    assert_eq!(w.once(), 0);
    let parse =
        |args: &[&str]| -> serde_json::Value { serde_json::from_slice(&w.agent(args).stdout).unwrap() };
    let status = parse(&["status", "--json"]);
    assert_eq!(status["agent"], AGENT);
    assert_eq!(status["software_version"], "1-0");
    assert_eq!(status["last_install"]["result"], "installed");
    let versions = parse(&["versions", "--json"]);
    assert_eq!(versions["modules"][0]["name"], "abcd");
    assert_eq!(versions["modules"][0]["file"], "good");
}

#[test]
fn doctor_has_a_line_for_each_thing_and_finds_what_is_wrong() {
    let w = World::enrolled();
    let out = w.agent(&["doctor"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 10, "{}", text(&out));
    std::fs::remove_dir_all(w.root()).unwrap();
    let out = w.agent(&["doctor"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(text(&out).contains("FAIL  root"), "{}", text(&out));
}

#[test]
fn every_command_shows_an_example() {
    let w = World::new();
    for command in ["enrol", "run", "status", "versions", "doctor"] {
        let out = w.agent(&[command, "--help"]);
        assert!(text(&out).contains("Example:\n  mailfleet-agent"), "{command}");
    }
    assert_eq!(w.agent(&["fly"]).status.code(), Some(2));
}
