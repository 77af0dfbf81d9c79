//! What the audit log says of commands: one row for each thing that a person has changed, none for what has changed nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail")]

mod office;
mod transcript;

use std::process::Command;

use mailfleet::system::who;
use office::Office;

/// Runs a command, gives whether it succeeded, and the rows that it has added.
fn rows_of(office: &Office, command: &str) -> (bool, Vec<String>) {
    let before = rows(office).len();
    let output = Command::new(env!("CARGO_BIN_EXE_mailfleet"))
        .args(command.split(' '))
        .current_dir(office.dir.path())
        .env_clear()
        .env("MAILFLEET_HOME", office.home.dir())
        .output()
        .unwrap();
    (output.status.success(), rows(office).split_off(before))
}

fn rows(office: &Office) -> Vec<String> {
    let mut rows = Vec::new();
    let put = |entry: manager_core::audit::Entry| {
        assert_eq!(entry.who, who());
        rows.push(entry.what);
        Ok(())
    };
    office.store().read(|tx| tx.audited(None, put)).unwrap();
    rows
}

#[test]
fn every_command_that_changes_something_leaves_a_row_and_no_other_does() {
    let office = Office::new();
    drop(office.enrolled(2));
    let bundle = transcript::fixtures().join("bundles/office-gateway-1.0.02");
    let build = format!("bundle build {} -o x.mfb", bundle.display());
    std::fs::write(office.dir.path().join("new.csv"), "id,mail\nB1,b1@lab.test\nB2,b2@lab.test\n").unwrap();
    for (command, expected) in [
        ("agent add A0003 --mail box3@lab.test", &["agent A0003 added, mail box3@lab.test"][..]),
        ("agent add A0003 --mail box3@lab.test", &[]),
        (
            "agent import new.csv -o invites",
            &["agent B1 added, mail b1@lab.test", "agent B2 added, mail b2@lab.test"],
        ),
        ("agent import new.csv -o invites", &[]),
        ("agent invite A0003 -o again.invite", &["agent A0003 invited anew"]),
        ("agent set --agent A0001 class=office-gateway", &["agent A0001 set: class=office-gateway"]),
        ("agent set --agent A0001 class=office-gateway", &[]),
        ("agent rekey --all", &["asked for new keys: 2 agents (A0001 A0002)"]),
        ("agent remove A0003", &["agent A0003 removed"]),
        ("agent list", &[]),
        ("query versions --all", &["asked for versions: 2 agents (A0001 A0002)"]),
        ("query counters --agent A0001", &["asked for counters: 1 agent (A0001)"]),
        (&build, &[]),
        ("campaign start x.mfb --agent A0001", &["campaign 1 started: 1 agent to 1.0.02-0, bundle "]),
        ("campaign plan x.mfb --agent A0001", &["campaign 2 planned: 1 agent to 1.0.02-0, bundle "]),
        ("campaign start --plan 2", &["campaign 2 started as planned"]),
        ("campaign pause 2 --reason fair", &["campaign 2 paused: fair"]),
        ("campaign resume 2", &["campaign 2 resumed"]),
        ("campaign halt 2", &["campaign 2 halted"]),
        ("campaign skip 2", &["campaign 2 gate opened by the operator"]),
        ("campaign cancel 2", &["campaign 2 cancelled"]),
        ("campaign retry 2", &["campaign 2 retried"]),
        ("campaign list", &[]),
        ("keys propose --new-order-key -o next.trust", &["keys proposed: version 2, order keys "]),
        ("keys sign next.trust", &[]),
        ("keys accept next.trust", &["keys accepted: version 2, order keys "]),
        ("audit", &[]),
    ] {
        let (done, found) = rows_of(&office, command);
        assert!(done, "{command}");
        assert_eq!(found.len(), expected.len(), "{command}: {found:?}");
        let begins = found.iter().zip(expected).all(|(row, text)| row.starts_with(text));
        assert!(begins, "{command}: {found:?}");
    }
    // A manager that only listens is told of agents, and of none twice.
    assert_eq!(rows_of(&office, "agent export -o known.csv"), (true, vec![]));
    let desk = Office::new();
    let config = desk.home.dir().join("manager.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("listens_only = true\n{text}")).unwrap();
    let introduce = format!("agent introduce {}", office.dir.path().join("known.csv").display());
    let (done, found) = rows_of(&desk, &introduce);
    assert!(done && found.len() == 2, "{found:?}");
    assert!(found[0].starts_with("agent A0001 introduced, mail box1@lab.test, key "), "{found:?}");
    assert_eq!(rows_of(&desk, &introduce), (true, vec![]));
    for refused in ["keys accept next.trust", "campaign pause 9", "agent remove A0003"] {
        assert_eq!(rows_of(&office, refused), (false, vec![]), "{refused}");
    }
}

#[test]
fn the_log_begins_with_who_made_the_manager() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mailfleet"))
        .args(["init", "--address", "m@lab.test", "--send", "spool:/tmp", "--receive", "maildir:/tmp"])
        .env_clear()
        .env("MAILFLEET_HOME", dir.path().join("home"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut store = mailfleet::store::Store::open(&dir.path().join("home/store.db")).unwrap();
    let mut rows = Vec::new();
    let put = |entry: manager_core::audit::Entry| {
        rows.push((entry.number, entry.what));
        Ok(())
    };
    store.read(|tx| tx.audited(None, put)).unwrap();
    assert_eq!(rows, [(1, "manager m@lab.test made".to_owned())]);
}
