//! An order wakes its agent: with all that ships, and an agent that would look for mail in an hour. Needs what
//! `scripts/mail-lab` needs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

use std::fs;
use std::time::{Duration, Instant};

use testkit::lab::MailLab;
use testkit::programs::{Programs, wait_until};

const HEARD: &str = "Report handed to the mail";

#[test]
fn an_order_is_begun_when_it_arrives_and_not_at_the_next_poll() {
    let Some(lab) = MailLab::new(1, &[]) else {
        eprintln!("skipped: MAILFLEET_NO_MAIL_SERVERS is set");
        return;
    };
    let site = Programs::new(lab, "");
    site.enrol("id,mail,class,site,note,admin\nA0001,agent0001@lab.test,,Tokyo,Alpha,\n", "");
    let file = site.path("agent/1/agent.toml");
    let rarely = fs::read_to_string(&file).unwrap().replace("poll = \"1s\"", "poll = \"1h\"");
    assert!(rarely.contains("poll = \"1h\""));
    fs::write(&file, rarely).unwrap();
    let _agent = site.start("mailfleet-agent", "agent.log", &["--home", "agent/1", "--log", "debug", "run"]);
    let log = || fs::read_to_string(site.path("agent.log")).unwrap();
    let mut waits = Vec::new();
    for answers in 1..=5 {
        site.manager(&["query", "versions", "--all"]);
        site.manager(&["run", "--once"]);
        let mailed = Instant::now();
        wait_until("the agent answers", || (log().matches(HEARD).count() >= answers).then_some(()));
        waits.push(mailed.elapsed());
    }
    waits.sort();
    assert!(log().matches("News of mail").count() >= 3, "it was not the mail server that woke it");
    eprintln!("an order in the mail is answered after {waits:?}");
    assert!(waits[2] < Duration::from_secs(5), "{waits:?}");
}
