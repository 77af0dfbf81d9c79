//! The daemon against agents made by hand, over a spool: what it mails, what it believes, what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod office;

use std::collections::BTreeSet;
use std::time::Duration;

use mailfleet::daemon::{Daemon, DaemonError, Question, queue_query};
use mailfleet::home::HomeError;
use mailfleet::store::AgentState;
use mailfleet::system::now;
use manager_core::{CampaignState, Reason, TargetState};
use office::{Box7, Office, goal, versions};
use shared::keys::SigningKey;
use shared::message::{Cause, Ended, Failure, Order, Outcome, Phase, Report, Reported, Versions};
use shared::{AgentId, Digest};

#[test]
fn an_invitation_is_accepted_once_and_refusals_are_logged_and_not_answered() {
    let office = Office::new();
    let mut first = office.invite(1);
    let second = office.invite(2);
    // PROTOCOL 9.2: the request is signed by the new key and sealed to the manager.
    first.report(&office, &first.enrol_request([1; 32]));
    office.pass();
    assert_eq!(office.state_of(&first), AgentState::Invited);
    assert!(office.log().contains("A0001 enrolment refused: wrong secret"), "{}", office.log());

    let request = first.enrol_request([7; 32]);
    first.report(&office, &request);
    office.pass();
    assert_eq!(office.state_of(&first), AgentState::Enrolled);
    assert_eq!(first.orders(&office).len(), 1);

    // Another box with the same invitation: other keys.
    let mut thief = Box7::new(3, &office.spool());
    thief.id = first.id.clone();
    thief.report(&office, &thief.enrol_request([7; 32]));
    let mut stranger = Box7::new(4, &office.spool());
    stranger.report(&office, &stranger.enrol_request([7; 32]));
    // A copied home: the keys of an enrolled agent under another ID.
    let mut copy = Box7::new(1, &office.spool());
    copy.id = second.id.clone();
    copy.report(&office, &copy.enrol_request([7; 32]));
    office.pass();
    let log = office.log();
    assert!(log.contains("A0001 enrolment refused: the invitation was used before"), "{log}");
    assert!(log.contains("A0004 enrolment refused: no agent of this ID"), "{log}");
    assert!(log.contains("A0002 enrolment refused: its key is another agent's"), "{log}");
    assert_eq!(office.state_of(&second), AgentState::Invited);
    assert!(thief.orders(&office).is_empty() && stranger.orders(&office).is_empty());
}

#[test]
fn a_request_whose_signature_is_not_by_the_key_inside_is_refused() {
    // PROTOCOL 9.3
    let office = Office::new();
    let mut agent = office.invite(1);
    let request = agent.enrol_request([7; 32]);
    agent.sign = SigningKey::from_seed(&[66; 32]);
    agent.report(&office, &request);
    office.pass();
    assert_eq!(office.state_of(&agent), AgentState::Invited);
    assert!(office.log().contains("refused a mail"), "{}", office.log());
}

#[test]
fn the_bundle_is_sealed_once_and_mailed_once_per_fifty_recipients() {
    let office = Office::new();
    let agents = office.enrolled(120);
    office.campaign(&agents, 300_000);
    assert_eq!(
        office.pass().mails_out,
        3,
        "three install orders; the queries wait for their mails' acceptance"
    );
    let mut envelopes = BTreeSet::new();
    let mut bodies = BTreeSet::new();
    for agent in &agents {
        let (header, order, bundle) = agent.orders(&office).remove(0);
        assert!(matches!(order, Order::Install(_)));
        assert_eq!(bundle.len(), 300_000);
        assert!(header.recipient_count() <= 50);
        envelopes.insert(header.id);
        bodies.insert(header.body_digest);
    }
    assert_eq!((envelopes.len(), bodies.len()), (3, 1));
    assert_eq!(office.pass().mails_out, 3, "one query to all, in three mails");
    assert_eq!(office.pass().mails_out, 0, "a pass that has nothing to do mails nothing");
}

#[test]
fn verdicts_come_from_signed_reports_and_only_the_failed_are_mailed_again() {
    let office = Office::new();
    let mut agents = office.enrolled(3);
    let id = office.campaign(&agents, 1_000);
    office.pass();
    office.pass();
    let orders: Vec<_> = agents.iter().map(|a| a.orders(&office)).collect();
    let (install, query) = (orders[0][0].0.id, orders[0][1].0.id);
    assert!(matches!(orders[0][1].1, Order::QueryVersions));
    agents[0].report(&office, &Report::Versions(Versions { query: Some(query), versions: versions(goal()) }));
    let failure = Failure { phase: Phase::Verify, cause: Cause::ScriptExit(9), undo_failed: false };
    let ended = Ended {
        order: install,
        outcome: Outcome::RolledBack(failure),
        output: None,
        versions: versions(Reported::Nothing),
    };
    agents[1].report(&office, &Report::Ended(ended));
    agents[2].report(
        &office,
        &Report::Versions(Versions { query: Some(query), versions: versions(Reported::Nothing) }),
    );
    office.pass();
    assert_eq!(office.target(id, &agents[0]), (TargetState::Verified, None));
    let (state, reason) = office.target(id, &agents[1]);
    assert_eq!(state, TargetState::Failed);
    assert_eq!(reason.unwrap().to_string(), "rolled back: verify: script ended with exit code 9");
    assert_eq!(office.target(id, &agents[2]).1, Some(Reason::OtherVersion(Reported::Nothing)));

    office
        .store()
        .write(|tx| {
            let mut campaign = tx.campaign(id)?.unwrap();
            assert_eq!(campaign.state, CampaignState::Finished);
            for agent in campaign.retry() {
                tx.save_target(id, &agent, &campaign.targets[&agent])?;
            }
            tx.save_campaign(&campaign)
        })
        .unwrap();
    assert_eq!(office.pass().mails_out, 1);
    assert!(agents[0].orders(&office).is_empty());
    let again = agents[1].orders(&office);
    // PROTOCOL 4.2: the same body, under a new header.
    assert_eq!(again[0].0.body_digest, orders[1][0].0.body_digest);
    assert_ne!(again[0].0.id, install);
    assert!(again[0].0.sequence > orders[1][0].0.sequence);
    assert_eq!(agents[2].orders(&office).len(), 1);
}

#[test]
fn a_replaced_box_is_heard_although_its_reports_are_numbered_from_one_again() {
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let id = office.campaign(&agents, 1_000);
    for _ in 0..5 {
        agents[0].report(
            &office,
            &Report::Versions(Versions { query: None, versions: versions(Reported::Nothing) }),
        );
    }
    office.pass();
    office.pass();
    let query = agents[0].orders(&office)[1].0.id;
    let mut replaced = Box7::new(1_001, &office.spool());
    replaced.id = agents[0].id.clone();
    let expires = now().plus(Duration::from_secs(3600));
    let renewed = office.store().write(|tx| tx.renew_invitation(&replaced.id, Digest::of(&[8; 32]), expires));
    assert!(renewed.unwrap());
    replaced.report(&office, &replaced.enrol_request([8; 32]));
    office.pass();
    assert!(matches!(replaced.orders(&office)[0].1, Order::Enrolled(_)));
    // What the old box had says nothing of the new one.
    let record = office.store().read(|tx| tx.agent(&replaced.id)).unwrap().unwrap();
    assert_eq!((record.versions, record.versions_at), (None, None));
    replaced.report(&office, &Report::Versions(Versions { query: Some(query), versions: versions(goal()) }));
    // The old keys are worth nothing any more.
    agents[0].report(
        &office,
        &Report::Versions(Versions { query: Some(query), versions: versions(Reported::Nothing) }),
    );
    office.pass();
    assert_eq!(office.target(id, &replaced).0, TargetState::Verified);
    let record = office.store().read(|tx| tx.agent(&replaced.id)).unwrap().unwrap();
    assert_eq!(record.versions.unwrap().software, goal());
}

#[test]
fn copies_forgeries_and_other_junk_change_nothing() {
    let office = Office::new();
    let mut agents = office.enrolled(2);
    let id = office.campaign(&agents, 1_000);
    office.pass();
    office.pass();
    let query = agents[0].orders(&office)[1].0.id;
    let good = Report::Versions(Versions { query: Some(query), versions: versions(goal()) });
    // A report of one agent says nothing of another, whatever it contains.
    agents[0].report(&office, &good);
    // Altered, cut, and empty attachments.
    let (envelope, sealed) = agents[1].sealed(&office, &good);
    for damaged in [sealed[..sealed.len() - 1].to_vec(), b"MAILFLT1".to_vec(), vec![]] {
        agents[1].post(&office, envelope, damaged);
    }
    let mut altered = sealed.clone();
    altered[100] ^= 1;
    agents[1].post(&office, envelope, altered);
    office.pass();
    assert_eq!(office.target(id, &agents[0]).0, TargetState::Verified);
    assert_eq!(office.target(id, &agents[1]).0, TargetState::Mailed);
    // The sound one, three times: kept once, applied once.
    for _ in 0..3 {
        agents[1].post(&office, envelope, sealed.clone());
    }
    office.pass();
    assert_eq!(office.target(id, &agents[1]).0, TargetState::Verified);
}

#[test]
fn a_second_daemon_on_one_home_is_told_who_holds_it() {
    let office = Office::new();
    let _daemon = Daemon::start(office.home.clone()).unwrap();
    let err = Daemon::start(office.home.clone()).unwrap_err();
    let DaemonError::Home(HomeError::Locked { pid, .. }) = err else { panic!("{err:?}") };
    assert_eq!(pid, std::process::id().to_string());
}

#[test]
fn the_daemon_stops_when_it_is_told_to() {
    let office = Office::new();
    let daemon = Daemon::start(office.home.clone()).unwrap();
    office.runtime.block_on(daemon.run(async { tokio::task::yield_now().await })).unwrap();
}

#[test]
fn a_body_whose_row_was_lost_in_a_crash_is_removed() {
    let office = Office::new();
    let orphan = office.home.bodies().join("orphan.body");
    std::fs::write(&orphan, b"x").unwrap();
    office.pass();
    assert!(!orphan.exists());
}

#[test]
fn an_operators_query_is_answered_outside_any_campaign() {
    let office = Office::new();
    let mut agents = office.enrolled(2);
    let ids: Vec<AgentId> = agents.iter().map(|a| a.id.clone()).collect();
    let asked = office
        .store()
        .write(|tx| queue_query(tx, Question::Versions, &ids, 50, Duration::from_secs(3600), now()))
        .unwrap();
    assert_eq!(office.pass().mails_out, 1);
    let query = agents[0].orders(&office)[0].0.id;
    assert_eq!(asked, [query]);
    agents[0].report(&office, &Report::Versions(Versions { query: Some(query), versions: versions(goal()) }));
    office.pass();
    let progress = office.store().read(|tx| tx.query_progress(&asked)).unwrap();
    assert_eq!(progress.answered, BTreeSet::from([ids[0].clone()]));
    assert_eq!(progress.missing, BTreeSet::from([ids[1].clone()]));
    let record = office.store().read(|tx| tx.agent(&ids[0])).unwrap().unwrap();
    assert_eq!(record.versions.unwrap().software, goal());
}

#[test]
fn a_bounce_of_our_own_mail_makes_a_target_undeliverable_and_any_other_is_junk() {
    let office = Office::new();
    let agents = office.enrolled(2);
    let id = office.campaign(&agents, 1_000);
    office.pass();
    let order = agents[0].orders(&office)[0].0.id;
    let dsn = |envelope: &str, recipient: &str| {
        format!(
            "Return-Path: <>\r\nFrom: MAILER-DAEMON@lab.test\r\nTo: manager@lab.test\r\n\
             Subject: Undelivered Mail Returned to Sender\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status; boundary=\"b1\"\r\n\r\n\
             --b1\r\nContent-Type: text/plain\r\n\r\nI'm sorry.\r\n\
             --b1\r\nContent-Type: message/delivery-status\r\n\r\n\
             Reporting-MTA: dns; mail.lab.test\r\nOriginal-Envelope-Id: {envelope}\r\n\r\n\
             Final-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: 5.2.2\r\n\
             Diagnostic-Code: smtp; 552 5.2.2 mailbox is full\r\n\r\n--b1--\r\n"
        )
    };
    let post = |name: &str, text: String| {
        std::fs::write(office.spool().join("manager@lab.test/new").join(name), text).unwrap();
    };
    // An unknown envelope, and a recipient that the envelope never had: whoever wrote these guesses.
    post("1", dsn(&"ab".repeat(16), "box1@lab.test"));
    post("2", dsn(&order.to_hex(), "stranger@lab.test"));
    office.pass();
    assert_eq!(office.target(id, &agents[0]).0, TargetState::Mailed);
    post("3", dsn(&order.to_hex(), "box1@lab.test"));
    office.pass();
    let (state, reason) = office.target(id, &agents[0]);
    assert_eq!(state, TargetState::Undeliverable);
    assert!(reason.unwrap().to_string().contains("5.2.2"));
    assert_eq!(office.target(id, &agents[1]).0, TargetState::Mailed);
}
