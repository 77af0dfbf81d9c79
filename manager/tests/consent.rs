//! Questions to administrators over a spool (N8): who is asked what, which replies count, and what becomes of the others.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail")]

mod office;
mod transcript;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use mailio::Mailbox;
use manager_core::{CampaignId, TargetState};
use office::{Box7, Office, goal, versions};
use shared::MailAddress;
use shared::message::{Ended, Order, Outcome, Report};

const ID: CampaignId = CampaignId(1);

fn mailfleet(office: &Office, args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_mailfleet"))
        .args(args)
        .current_dir(office.dir.path())
        .env_clear()
        .env("MAILFLEET_HOME", office.home.dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Three agents: two of beta's in Tokyo, one of gamma's in Berlin; their administrators are asked.
fn asked() -> (Office, Vec<Box7>) {
    let office = Office::new();
    let agents = office.enrolled(3);
    for address in ["root@beta.test", "it@gamma.test", "ops@lab.test"] {
        Mailbox::create_spool(&office.spool(), &MailAddress::parse(address).unwrap()).unwrap();
    }
    let config = office.home.config_path();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}operator = \"ops@lab.test\"\n")).unwrap();
    mailfleet(&office, &["agent", "set", "--all", "class=office-gateway"]);
    let beta = [
        "agent",
        "set",
        "--agent",
        "A0001,A0002",
        "site=Tokyo",
        "zone=Asia/Tokyo",
        "language=ja",
        "admin=root@beta.test",
    ];
    mailfleet(&office, &beta);
    mailfleet(
        &office,
        &["agent", "set", "--agent", "A0003", "site=Berlin", "zone=Europe/Berlin", "admin=it@gamma.test"],
    );
    let bundle = transcript::fixtures().join("bundles/office-gateway-1.0.02");
    mailfleet(&office, &["bundle", "build", bundle.to_str().unwrap(), "-o", "x.mfb"]);
    mailfleet(
        &office,
        &["campaign", "start", "x.mfb", "--all", "--ask", "7d", "--settle", "0s", "--name", "spring"],
    );
    office.pass();
    (office, agents)
}

/// The mails in a mailbox, oldest first, taken out.
fn mails(office: &Office, address: &str) -> Vec<String> {
    let folder = office.spool().join(address).join("new");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        fs::remove_file(file).unwrap();
        text
    };
    files.iter().map(read).collect()
}

fn words(mail: &str) -> String {
    mailio::mime::reply::text(mail.as_bytes()).unwrap()
}

fn subject(mail: &str) -> String {
    let headers = mailio::mime::header::Headers::parse(mail.as_bytes()).unwrap();
    mailio::mime::classify::subject(&headers).unwrap()
}

/// A reply as a mail program writes it.
fn reply(office: &Office, from: &str, subject: &str, more: &str, text: &str) {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mail = format!(
        "From: Root <{from}>\r\nTo: manager@lab.test\r\nSubject: Re: {subject}\r\n{more}\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}\r\n"
    );
    fs::write(office.spool().join("manager@lab.test/new").join(format!("reply-{n:04}")), mail).unwrap();
    office.pass();
}

fn state(office: &Office, agent: &Box7) -> TargetState {
    office.target(ID, agent).0
}

fn install(office: &Office, agent: &Box7) -> Option<shared::EnvelopeId> {
    agent
        .orders(office)
        .iter()
        .find(|(_, order, _)| matches!(order, Order::Install(_)))
        .map(|(header, ..)| header.id)
}

#[test]
fn each_administrator_gets_one_letter_in_his_language_for_all_that_is_his() {
    let (office, agents) = asked();
    let (beta, gamma) = (mails(&office, "root@beta.test"), mails(&office, "it@gamma.test"));
    assert_eq!((beta.len(), gamma.len()), (1, 1));
    let text = words(&beta[0]);
    for line in [
        "以下の 2 台 について、1.0.02-0 へのアップデートがあります。",
        "A0001, Tokyo",
        "A0002, Tokyo",
        "Asia/Tokyo までに",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(beta[0].contains("multipart/alternative") && !beta[0].contains("X-Mailfleet"));
    let text = words(&gamma[0]);
    for line in [
        "update to 1.0.02-0 for 1 box of yours",
        "A0003, Berlin",
        "as soon as you have agreed",
        "Europe/Berlin, with one",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(
        subject(&gamma[0]).starts_with("mailfleet: Update 1.0.02-0 for Berlin: may it be installed? [mf-")
    );
    assert!(agents.iter().all(|agent| state(&office, agent) == TargetState::Asked));
    assert!(agents.iter().all(|agent| install(&office, agent).is_none()), "nothing is installed unasked");
    office.pass();
    assert!(mails(&office, "root@beta.test").is_empty(), "once");
}

#[test]
fn a_yes_counts_for_all_boxes_of_the_administrator_and_for_nobody_else() {
    let (office, mut agents) = asked();
    let letter = subject(&mails(&office, "root@beta.test")[0]);
    reply(&office, "ROOT@beta.test", &letter, "", "はい\r\n\r\n> アップデートがあります");
    let mut answers = Vec::new();
    let put = |entry: manager_core::audit::Entry| {
        if entry.who.ends_with(" (by mail)") {
            answers.push((entry.who, entry.what));
        }
        Ok(())
    };
    office.store().read(|tx| tx.audited(None, put)).unwrap();
    let answer = ("root@beta.test (by mail)", "campaign 1 answered yes: it counts for 2 agents");
    assert_eq!(answers, [(answer.0.to_owned(), answer.1.to_owned())]);
    assert!(install(&office, &agents[2]).is_none());
    let orders: Vec<_> = agents[..2].iter().map(|agent| install(&office, agent).unwrap()).collect();
    for (agent, order) in agents[..2].iter_mut().zip(orders) {
        let report = Ended { order, outcome: Outcome::Installed, output: None, versions: versions(goal()) };
        agent.report(&office, &Report::Ended(report));
    }
    office.pass();
    office.pass();
    for agent in &mut agents[..2] {
        let orders = agent.orders(&office);
        let query = orders.iter().find(|(_, order, _)| matches!(order, Order::QueryVersions)).unwrap().0.id;
        let answer = shared::message::Versions { query: Some(query), versions: versions(goal()) };
        agent.report(&office, &Report::Versions(answer));
    }
    office.pass();
    let told = mails(&office, "root@beta.test");
    assert_eq!(told.len(), 1, "what is done is told once (N5)");
    assert!(words(&told[0]).contains("以下の 2 台 は 1.0.02-0 になりました。"), "{}", words(&told[0]));
    reply(&office, "root@beta.test", &letter, "", "いいえ");
    assert_eq!(state(&office, &agents[0]), TargetState::Verified, "a late no does nothing");
    let gamma = subject(&mails(&office, "it@gamma.test")[0]);
    reply(&office, "it@gamma.test", &gamma, "", "NO.");
    assert_eq!(state(&office, &agents[2]), TargetState::Declined);
    let ended = mails(&office, "ops@lab.test");
    assert_eq!(ended.len(), 1);
    assert!(
        subject(&ended[0]).contains("Campaign 1 \"spring\" to 1.0.02-0 has ended: 2 verified, 1 declined"),
        "{}",
        subject(&ended[0])
    );
    assert!(mails(&office, "it@gamma.test").is_empty(), "nothing was done there");
}

#[test]
fn replies_of_machines_of_others_and_without_a_clear_word_do_nothing() {
    let (office, agents) = asked();
    let letter = subject(&mails(&office, "it@gamma.test")[0]);
    let asked = |what: &str| assert_eq!(state(&office, &agents[2]), TargetState::Asked, "{what}");
    reply(&office, "it@gamma.test", &letter, "Auto-Submitted: auto-replied\r\n", "YES");
    asked("an absence note");
    reply(&office, "it@gamma.test", &letter, "X-Autoreply: yes\r\n", "YES");
    asked("another absence note");
    reply(&office, "somebody@gamma.test", &letter, "", "YES");
    asked("the letter was forwarded");
    reply(&office, "root@beta.test", &letter, "", "YES");
    asked("another administrator's token");
    let forged = format!("{}[mf-AAAAAAAAAAAAAAAAAAAAAAAAAA]", letter.split("[mf-").next().unwrap());
    reply(&office, "it@gamma.test", &forged, "", "YES");
    asked("a token that was never given");
    reply(&office, "it@gamma.test", "Update 1.0.02-0", "", "YES");
    asked("no token");
    assert!(mails(&office, "it@gamma.test").is_empty(), "none of these is answered");
    assert!(
        office.log().contains("an answer for it@gamma.test came from somebody@gamma.test: not taken"),
        "{}",
        office.log()
    );

    reply(&office, "it@gamma.test", &letter, "", "No problem, go ahead!");
    asked("what might mean something else");
    let explained = mails(&office, "it@gamma.test");
    assert_eq!(explained.len(), 1);
    assert!(words(&explained[0]).contains("LATER 2030-12-31"));
    reply(&office, "it@gamma.test", &subject(&explained[0]), "", "Sure, please do.");
    assert!(mails(&office, "it@gamma.test").is_empty(), "it is explained once");
    reply(&office, "it@gamma.test", &subject(&explained[0]), "", "yes");
    assert!(install(&office, &agents[2]).is_some());
}

#[test]
fn always_is_kept_for_the_next_campaign_and_later_is_kept_to() {
    let (office, agents) = asked();
    let letter = subject(&mails(&office, "it@gamma.test")[0]);
    reply(&office, "it@gamma.test", &letter, "", "ALWAYS");
    assert!(install(&office, &agents[2]).is_some());
    let record = office.record(&agents[2]);
    assert_eq!(record.terms.consent.as_str(), "always");
    let letter = subject(&mails(&office, "root@beta.test")[0]);
    reply(&office, "root@beta.test", &letter, "", "延期 3d");
    assert_eq!(state(&office, &agents[0]), TargetState::Pending);
    assert!(install(&office, &agents[0]).is_none());
    mailfleet(&office, &["campaign", "start", "x.mfb", "--agent", "A0003", "--ask", "7d"]);
    office.pass();
    assert!(mails(&office, "it@gamma.test").is_empty(), "who wants all updates is not asked");
    assert!(install(&office, &agents[2]).is_some());
}

#[test]
fn a_template_of_the_user_s_is_used_and_a_wrong_one_is_not() {
    let office = Office::new();
    drop(office.enrolled(1));
    Mailbox::create_spool(&office.spool(), &MailAddress::parse("it@gamma.test").unwrap()).unwrap();
    let folder = office.home.dir().join("templates");
    fs::create_dir(&folder).unwrap();
    let start = |template: &str, name: &str| {
        fs::write(folder.join("consent.en.txt"), template).unwrap();
        mailfleet(
            &office,
            &["campaign", "start", "x.mfb", "--agent", "A0001", "--ask", "7d", "--name", name],
        );
        office.pass();
        let letters = mails(&office, "it@gamma.test");
        (subject(&letters[0]), words(&letters[0]))
    };
    mailfleet(
        &office,
        &["agent", "set", "--all", "class=office-gateway", "admin=it@gamma.test", "site=Berlin"],
    );
    let bundle = transcript::fixtures().join("bundles/office-gateway-1.0.02");
    mailfleet(&office, &["bundle", "build", bundle.to_str().unwrap(), "-o", "x.mfb"]);
    let (subject, text) = start("Subject: {{site}} {{token}}\n\nMoin, {{version}}?\n", "own");
    assert!(subject.starts_with("mailfleet: Berlin [mf-"), "{subject}");
    assert_eq!(text.trim(), "Moin, 1.0.02-0?");
    let (_, text) = start("Subject: {{site}}\n\nMoin, {{price}}?\n", "wrong");
    assert!(text.contains("there is an update to 1.0.02-0"), "{text}");
}
