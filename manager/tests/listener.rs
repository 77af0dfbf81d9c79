//! A manager that only listens (M18): it takes copies of faults and counters, tells people, and mails agents nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail")]

mod office;

use std::fs;
use std::process::{Command, Output};

use mailfleet::store::AgentState;
use mailio::Mailbox;
use office::watcher::{faults, jam};
use office::{Box7, Office, goal, versions};
use shared::MailAddress;
use shared::message::{Report, Versions};

fn mailfleet(office: &Office, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mailfleet"))
        .args(args)
        .current_dir(office.dir.path())
        .env_clear()
        .env("MAILFLEET_HOME", office.home.dir())
        .output()
        .unwrap()
}

fn done(office: &Office, args: &[&str]) -> String {
    let output = mailfleet(office, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A manager with agents, and one that only listens to them and tells a desk of faults.
fn managers(count: usize) -> (Office, Office, Vec<Box7>) {
    let (manager, desk) = (Office::new(), Office::new());
    let agents = manager.enrolled(count);
    let config = desk.home.config_path();
    let text = fs::read_to_string(&config).unwrap();
    let rule = "[[alert]]\nto = \"people@desk.test\"\nclasses = [\"A\", \"B\"]\n";
    fs::write(&config, format!("listens_only = true\n{text}\n{rule}")).unwrap();
    Mailbox::create_spool(&desk.spool(), &MailAddress::parse("people@desk.test").unwrap()).unwrap();
    introduce(&manager, &desk);
    // Where the manager of the tests posts to, so that a mail for an agent would be seen.
    for agent in &agents {
        Mailbox::create_spool(&desk.spool(), &agent.mail).unwrap();
    }
    (manager, desk, agents)
}

fn introduce(manager: &Office, desk: &Office) -> String {
    let file = desk.dir.path().join("agents.csv");
    done(manager, &["agent", "export", "-o", file.to_str().unwrap()]);
    done(desk, &["agent", "introduce", file.to_str().unwrap()])
}

fn mails(office: &Office, address: &str) -> usize {
    fs::read_dir(office.spool().join(address).join("new")).unwrap().count()
}

/// The listener's copy of a report: sealed to its key, brought to its mailbox.
fn copy(desk: &Office, agent: &mut Box7, report: &Report) {
    let (envelope, attachment) = agent.sealed(desk, report);
    Box7::new(90, &desk.spool()).post(desk, envelope, attachment);
    desk.pass();
}

#[test]
fn a_fault_s_copy_is_told_to_people_and_no_agent_is_mailed() {
    let (_manager, desk, mut agents) = managers(2);
    copy(&desk, &mut agents[0], &faults(1, vec![jam("mfp")]));
    desk.pass();
    assert_eq!(mails(&desk, "people@desk.test"), 1, "PROTOCOL 8.7");
    assert!(agents.iter().all(|agent| mails(&desk, agent.mail.as_str()) == 0));
    assert_eq!(desk.store().read(|tx| tx.queued_count()).unwrap(), 0);
    assert_eq!(desk.store().read(|tx| tx.next_owed()).unwrap(), None);
    assert!(done(&desk, &["report", "faults"]).contains("A0001,mfp"));
}

#[test]
fn what_is_no_copy_of_faults_or_counters_and_who_was_not_introduced_is_junk() {
    let (manager, desk, mut agents) = managers(1);
    copy(&desk, &mut agents[0], &Report::Versions(Versions { query: None, versions: versions(goal()) }));
    assert_eq!(desk.record(&agents[0]).versions, None);
    assert!(
        desk.log().contains("from A0001: no fault and no counters, and this manager only listens"),
        "{}",
        desk.log()
    );
    let mut late = manager.invite(7);
    late.report(&manager, &late.enrol_request([7; 32]));
    manager.pass();
    copy(&desk, &mut late, &faults(1, vec![jam("mfp")]));
    assert!(!done(&desk, &["report", "faults"]).contains("A0007"));
    assert!(desk.log().contains("of an agent that was not introduced here"), "{}", desk.log());
    assert_eq!(introduce(&manager, &desk), "Introduced 2 agents, 1 of them new or with new keys.\n");
    copy(&desk, &mut late, &faults(2, vec![jam("mfp")]));
    assert!(done(&desk, &["report", "faults"]).contains("A0007"));
    assert_eq!(desk.state_of(&late), AgentState::Enrolled);
}

#[test]
fn a_manager_that_only_listens_gives_no_orders_and_one_that_orders_takes_no_introductions() {
    let (manager, desk, _agents) = managers(1);
    for args in [
        ["query", "versions", "--all"].as_slice(),
        &["query", "counters", "--all"],
        &["agent", "rekey", "--all"],
        &["agent", "add", "A9", "--mail", "a9@lab.test"],
    ] {
        let output = mailfleet(&desk, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("this manager only listens"), "{text}");
    }
    let file = desk.dir.path().join("agents.csv");
    let output = mailfleet(&manager, &["agent", "introduce", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
}
