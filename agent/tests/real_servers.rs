//! The agent against real Postfix and Dovecot, which `scripts/mail-lab` starts on loopback. One test with many
//! steps, because a lab takes seconds to start.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{AGENT, Servers, World, text, wait_until};
use shared::AgentId;
use shared::message::{Enrolled, Order, Outcome};
use testkit::lab::MailLab;

fn write_password(path: &Path, password: &str) {
    std::fs::write(path, password).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn an_agent_enrols_installs_and_reports_over_smtps_and_imaps() {
    let Some(lab) = MailLab::new(2, &[]) else { return };
    let mut w = World::new();
    let password_file = w.folder.path().join("password");
    let agents_password = w.folder.path().join("agents-password");
    write_password(&password_file, lab.var("LAB_PASS"));
    w.servers = Some(Servers {
        smtps_port: lab.var("LAB_SMTPS_PORT").to_owned(),
        imaps_port: lab.var("LAB_IMAPS_PORT").to_owned(),
        ca: lab.var("LAB_CA").into(),
        password_file: password_file.clone(),
    });

    let out = w.enrol(&w.invitation());
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    wait_until("the request is delivered", || {
        w.collect();
        !w.reports.is_empty()
    });
    w.send(&Order::Enrolled(Enrolled { agent: AgentId::parse(AGENT).unwrap(), heartbeat: None }));
    wait_until("the agent is enrolled", || {
        assert_eq!(w.once(), 0);
        w.status().contains("Enrolment           accepted")
    });
    let out = w.agent(&["doctor"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));

    // 20 MB that do not compress, through base64, relay and mailbox, in little memory.
    let content = common::noise(20_000_000);
    let script = "[ $1 = verify ] && grep VmHWM /proc/$PPID/status; exit 0";
    let order = w.install("1-0", Some(script), &[("bin/big", &content)]);
    wait_until("the bundle is installed", || {
        assert_eq!(w.once(), 0);
        w.status().contains("Software Version    1-0")
    });
    wait_until("the result is delivered", || {
        w.collect();
        w.reports.iter().any(|r| matches!(r, shared::message::Report::Ended(_)))
    });
    let ended = w.ended(order);
    assert_eq!(ended.outcome, Outcome::Installed);
    let output = ended.output.unwrap();
    let peak_kib: u64 = output.as_str().split_whitespace().nth(1).unwrap().parse().unwrap();
    eprintln!("peak with 20 MB over IMAPS: {peak_kib} KiB");
    assert!(peak_kib < 40_000, "{peak_kib} KiB");

    // A wrong password, then no servers at all: the answer waits, and nothing is lost.
    let config = w.home().join("agent.toml");
    let right = std::fs::read_to_string(&config).unwrap();
    write_password(&agents_password, "wrong");
    let wrong = right.replace(password_file.to_str().unwrap(), agents_password.to_str().unwrap());
    std::fs::write(&config, wrong).unwrap();
    let query = w.query();
    let out = w.agent(&["run", "--once"]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out));
    assert!(text(&out).contains("refused the login"), "{}", text(&out));
    std::fs::write(&config, right).unwrap();
    lab.down();
    assert_eq!(w.agent(&["run", "--once"]).status.code(), Some(3));
    assert_eq!(w.agent(&["doctor"]).status.code(), Some(3));
    lab.up();
    wait_until("the query is answered", || {
        assert_eq!(w.once(), 0);
        w.answers(query).len() == 1
    });
}
