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

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{AGENT, Servers, World, text, wait_until};
use shared::AgentId;
use shared::message::{Enrolled, Order, Outcome};

struct Lab {
    folder: tempfile::TempDir,
    base: String,
    env: BTreeMap<String, String>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/mail-lab")
}

impl Lab {
    fn new() -> Self {
        let parent = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let folder = tempfile::Builder::new().prefix("agent-").tempdir_in(parent).unwrap();
        let mut lab = Self { folder, base: free_base().to_string(), env: BTreeMap::new() };
        let variables = lab.up();
        lab.env = variables
            .lines()
            .map(|line| line.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        lab
    }

    fn up(&self) -> String {
        let options = ["--users", "2", "--base", &self.base, "--size", "60000000"];
        let out = Command::new(script()).arg("up").arg(self.folder.path()).args(options).output().unwrap();
        assert!(
            out.status.success(),
            "the mail lab did not start (needs root, postfix, dovecot; set MAILFLEET_NO_MAIL_SERVERS=1 where \
             they cannot be had): {}",
            text(&out)
        );
        String::from_utf8(out.stdout).unwrap()
    }

    fn down(&self) {
        assert!(Command::new(script()).arg("down").arg(self.folder.path()).status().unwrap().success());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _best_effort = Command::new(script()).arg("down").arg(self.folder.path()).status();
    }
}

/// A first port whose whole range of the lab is free.
fn free_base() -> u16 {
    for _ in 0..200 {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let base = 13_000 + probe % 15_000;
        if [25, 26, 27, 28, 587, 465, 143, 993, 110, 995]
            .iter()
            .all(|port| TcpListener::bind(("127.0.0.1", base + port)).is_ok())
        {
            return base;
        }
    }
    panic!("no free ports for the lab");
}

fn write_password(path: &Path, password: &str) {
    std::fs::write(path, password).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn an_agent_enrols_installs_and_reports_over_smtps_and_imaps() {
    if std::env::var_os("MAILFLEET_NO_MAIL_SERVERS").is_some() {
        return;
    }
    let lab = Lab::new();
    let mut w = World::new();
    let password_file = w.folder.path().join("password");
    let agents_password = w.folder.path().join("agents-password");
    write_password(&password_file, &lab.env["LAB_PASS"]);
    w.servers = Some(Servers {
        smtps_port: lab.env["LAB_SMTPS_PORT"].clone(),
        imaps_port: lab.env["LAB_IMAPS_PORT"].clone(),
        ca: lab.env["LAB_CA"].clone().into(),
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
