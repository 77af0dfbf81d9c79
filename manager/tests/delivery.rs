//! Bounces and refusals over a spool: whom they are about, what is mailed again and where to, what a campaign shows of it.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod office;

use std::fs;
use std::path::PathBuf;

use mailfleet::store::OrderKind;
use mailio::mime::extract::Extractor;
use mailio::{MailSettings, Mailbox};
use manager_core::delivery::Cause;
use manager_core::{CampaignId, Reason, TargetState};
use office::{Box7, Office, goal, versions};
use shared::envelope::RawHead;
use shared::message::{Ended, Order, Outcome, Report};
use shared::{EnvelopeId, MailAddress};

/// What a mail server says of one recipient.
struct Line<'a> {
    address: &'a str,
    action: &'a str,
    status: &'a str,
    words: &'a str,
}

const GONE: (&str, &str, &str) = ("failed", "5.1.1", "smtp; 550 5.1.1 no such user");
const FULL: (&str, &str, &str) = ("failed", "5.2.2", "smtp; 552 5.2.2 over quota");
const LATE: (&str, &str, &str) = ("delayed", "4.4.1", "smtp; connection timed out");

fn line<'a>(address: &'a str, (action, status, words): (&'a str, &'a str, &'a str)) -> Line<'a> {
    Line { address, action, status, words }
}

/// Puts a bounce into the manager's mailbox, as a mail server writes it, and lets the daemon take it in.
fn bounce(office: &Office, envelope: EnvelopeId, lines: &[Line<'_>]) {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut status =
        format!("Reporting-MTA: dns; mail.lab.test\r\nOriginal-Envelope-Id: {}\r\n", envelope.to_hex());
    for Line { address, action, status: code, words } in lines {
        status += &format!(
            "\r\nFinal-Recipient: rfc822; {address}\r\nAction: {action}\r\nStatus: {code}\r\nDiagnostic-Code: {words}\r\n"
        );
    }
    let mail = format!(
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@lab.test\r\nTo: manager@lab.test\r\nSubject: Undelivered Mail\r\n\
         Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n{status}\r\n--b--\r\n"
    );
    fs::write(office.spool().join("manager@lab.test/new").join(format!("bounce-{n:04}")), mail).unwrap();
    office.pass();
}

/// Enrolled agents, their install orders mailed and taken out.
fn mailed(
    agents: usize,
    addresses: impl Fn(usize) -> Option<String>,
) -> (Office, Vec<Box7>, CampaignId, EnvelopeId) {
    let office = Office::new();
    let mut boxes: Vec<Box7> = (1..=agents).map(|n| office.invite(n)).collect();
    for (n, agent) in (1..).zip(&mut boxes) {
        if let Some(address) = addresses(n) {
            agent.mail = MailAddress::parse(&address).unwrap();
            agent.settings.address = agent.mail.clone();
            Mailbox::create_spool(&office.spool(), &agent.mail).unwrap();
        }
        agent.report(&office, &agent.enrol_request([7; 32]));
    }
    office.pass();
    for agent in &boxes {
        let _confirmations = new_mails(&office, agent).iter().map(fs::remove_file).collect::<Vec<_>>();
    }
    let id = retried(&office, &boxes);
    office.pass();
    let order = order_of(&office, id, &boxes[0]);
    (office, boxes, id, order)
}

fn new_mails(office: &Office, agent: &Box7) -> Vec<PathBuf> {
    let folder = office.spool().join(agent.mail.as_str()).join("new");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// True if this mail of the manager has a slot for the agent.
fn opens(mail: &[u8], agent: &Box7) -> bool {
    let mut bytes = Vec::new();
    let mut extractor = Extractor::new(10_000_000, &mut bytes);
    extractor.push(mail).unwrap();
    extractor.finish().unwrap();
    let (_, head) = RawHead::read_introduced(&mut bytes.as_slice()).unwrap();
    head.decode_unverified().unwrap().open_slot(&agent.open, head.sender()).is_ok()
}

/// A campaign that tries twice, with orders that live for two weeks.
fn retried(office: &Office, agents: &[Box7]) -> CampaignId {
    let id = office.campaign(agents, 1_000);
    office
        .store()
        .write(|tx| {
            let mut campaign = tx.campaign(id)?.unwrap();
            for (agent, target) in &mut campaign.targets {
                target.attempts_allowed = 2;
                tx.save_target(id, agent, target)?;
            }
            Ok(())
        })
        .unwrap();
    let store = rusqlite::Connection::open(office.home.store_path()).unwrap();
    store.execute("UPDATE campaigns SET order_life_ms = 1209600000", []).unwrap();
    id
}

fn order_of(office: &Office, id: CampaignId, agent: &Box7) -> EnvelopeId {
    office.store().read(|tx| tx.campaign(id)).unwrap().unwrap().targets[&agent.id].order().unwrap()
}

fn give_second(office: &Office, agent: &Box7, address: &str) -> Box7 {
    let mail = MailAddress::parse(address).unwrap();
    Mailbox::create_spool(&office.spool(), &mail).unwrap();
    let mut terms = office.record(agent).terms;
    terms.set("fallback_mail", address).unwrap();
    office.store().write(|tx| tx.set_terms(&agent.id, &terms)).unwrap();
    let copy = Box7::new(usize::from(agent.id.as_str().as_bytes()[4] - b'0'), &office.spool());
    let settings = MailSettings { address: mail.clone(), ..copy.settings.clone() };
    Box7 { mail, settings, ..copy }
}

fn installs(office: &Office, agent: &Box7) -> Vec<EnvelopeId> {
    let orders = agent.orders(office);
    orders
        .iter()
        .filter(|(_, order, _)| matches!(order, Order::Install(_)))
        .map(|(head, ..)| head.id)
        .collect()
}

fn why(office: &Office, id: CampaignId, agent: &Box7) -> String {
    let campaign = office.store().read(|tx| tx.campaign(id)).unwrap().unwrap();
    campaign.targets[&agent.id].why(None).unwrap_or_default()
}

#[test]
fn a_bounce_of_an_address_is_about_every_agent_behind_it_and_nobody_else() {
    let (office, boxes, id, order) = mailed(3, |n| (n < 3).then(|| "list@lab.test".to_owned()));
    bounce(&office, order, &[line("List@lab.test", GONE)]);
    let states: Vec<TargetState> = boxes.iter().map(|agent| office.target(id, agent).0).collect();
    assert_eq!(states, [TargetState::Undeliverable, TargetState::Undeliverable, TargetState::Mailed]);
    assert_eq!(why(&office, id, &boxes[1]), "mail bounced, unknown mailbox: 550 5.1.1 no such user");
}

#[test]
fn many_agents_behind_one_address_get_one_copy_per_batch_that_names_its_agents() {
    let (office, boxes, id, order) = mailed(110, |_| Some("list@lab.test".to_owned()));
    let mails = new_mails(&office, &boxes[0]);
    assert_eq!(mails.len(), 3, "one bundle for fifty agents");
    let copies: Vec<_> = mails.iter().map(|path| fs::read(path).unwrap()).collect();
    mails.iter().for_each(|path| fs::remove_file(path).unwrap());
    // Each can open its own: the first, the last, and one between.
    for agent in [&boxes[0], &boxes[60], &boxes[109]] {
        let opened = copies.iter().filter(|copy| opens(copy, agent)).count();
        assert_eq!(opened, 1, "{}", agent.id);
    }
    bounce(&office, order, &[line("list@lab.test", GONE)]);
    let counts = office.store().read(|tx| tx.target_counts(id)).unwrap();
    assert_eq!(counts[&TargetState::Undeliverable], 50, "those behind that envelope");
}

#[test]
fn an_order_goes_to_the_second_address_under_the_same_name_and_late_news_of_the_first_is_ignored() {
    let (office, mut boxes, id, order) = mailed(1, |_| None);
    let second = give_second(&office, &boxes[0], "spare@lab.test");
    bounce(&office, order, &[line("box1@lab.test", GONE)]);
    assert_eq!(installs(&office, &second), [order]);
    assert_eq!(office.target(id, &boxes[0]), (TargetState::Mailed, None));
    assert!(office.log().contains("no such user; mailed to its second address"), "{}", office.log());
    bounce(&office, order, &[line("box1@lab.test", GONE)]);
    assert_eq!(office.target(id, &boxes[0]), (TargetState::Mailed, None), "that was known");
    assert!(installs(&office, &second).is_empty());
    bounce(&office, order, &[line("spare@lab.test", FULL)]);
    let (state, _) = office.target(id, &boxes[0]);
    assert_eq!(state, TargetState::Queued, "the second may have room tomorrow");
    let report = Ended { order, outcome: Outcome::Installed, output: None, versions: versions(goal()) };
    boxes[0].report(&office, &Report::Ended(report));
    office.pass();
    assert_eq!(
        office.target(id, &boxes[0]).0,
        TargetState::Installed,
        "a report outweighs every bounce (PROTOCOL 8.4)"
    );
}

#[test]
fn a_full_mailbox_is_mailed_again_tomorrow_and_given_up_when_the_retries_are_used() {
    let (office, boxes, id, order) = mailed(1, |_| None);
    assert_eq!(installs(&office, &boxes[0]), [order]);
    bounce(&office, order, &[line("box1@lab.test", FULL)]);
    assert_eq!(office.target(id, &boxes[0]), (TargetState::Queued, None));
    let next = office.store().read(|tx| tx.next_try()).unwrap().unwrap();
    let hours = next.since(mailfleet::system::now()).as_secs() / 3600;
    assert_eq!(hours, 23, "in a day");
    // The same bounce once more is about the mail of before.
    bounce(&office, order, &[line("box1@lab.test", FULL)]);
    assert_eq!(office.store().read(|tx| tx.next_try()).unwrap(), Some(next));
    tomorrow(&office);
    assert_eq!(installs(&office, &boxes[0]), [order], "the same order");
    assert_eq!(office.target(id, &boxes[0]).0, TargetState::Mailed);
    bounce(&office, order, &[line("box1@lab.test", FULL)]);
    let (state, reason) = office.target(id, &boxes[0]);
    assert_eq!(state, TargetState::Undeliverable);
    assert_eq!(reason.unwrap().mail_cause(), Some(Cause::MailboxFull));
}

/// What waits for its next try gets it now.
fn tomorrow(office: &Office) {
    let store = rusqlite::Connection::open(office.home.store_path()).unwrap();
    store.execute("UPDATE recipients SET next_try = 0 WHERE state = 'queued'", []).unwrap();
    drop(store);
    office.pass();
}

#[test]
fn a_mail_server_that_still_tries_ends_nothing() {
    let (office, mut boxes, id, order) = mailed(1, |_| None);
    bounce(&office, order, &[line("box1@lab.test", LATE)]);
    assert_eq!(office.target(id, &boxes[0]), (TargetState::Mailed, None));
    let campaign = office.store().read(|tx| tx.campaign(id)).unwrap().unwrap();
    let delay = campaign.targets[&boxes[0].id].delay.clone().unwrap();
    assert_eq!((delay.cause, delay.next_try), (Cause::NoRoute, None));
    assert!(office.log().contains("mail delayed: no route: "), "{}", office.log());
    let report = Ended { order, outcome: Outcome::Installed, output: None, versions: versions(goal()) };
    boxes[0].report(&office, &Report::Ended(report));
    office.pass();
    let campaign = office.store().read(|tx| tx.campaign(id)).unwrap().unwrap();
    assert_eq!(campaign.targets[&boxes[0].id].delay, None);
}

#[test]
fn bounces_of_other_envelopes_or_addresses_do_nothing() {
    let (office, boxes, id, order) = mailed(2, |_| None);
    bounce(&office, EnvelopeId([9; 16]), &[line("box1@lab.test", GONE)]);
    bounce(&office, order, &[line("stranger@lab.test", GONE)]);
    bounce(&office, order, &[line("box1@lab.test", ("delivered", "2.0.0", "smtp; 250 ok"))]);
    for agent in &boxes {
        assert_eq!(office.target(id, agent), (TargetState::Mailed, None));
    }
}

#[test]
fn a_query_that_bounces_goes_to_the_second_address_too() {
    let (office, boxes, ..) = mailed(1, |_| None);
    let second = give_second(&office, &boxes[0], "spare@lab.test");
    let ids = [boxes[0].id.clone()];
    let asked = office
        .store()
        .write(|tx| {
            let (question, life) = (mailfleet::daemon::Question::Versions, shared::limits::ORDER_LIFE);
            mailfleet::daemon::queue_query(tx, question, &ids, 50, life, mailfleet::system::now())
        })
        .unwrap();
    office.pass();
    bounce(&office, asked[0], &[line("box1@lab.test", GONE)]);
    let orders = second.orders(&office);
    assert_eq!(orders.iter().map(|(head, ..)| head.id).collect::<Vec<_>>(), asked);
    let last = office.store().read(|tx| tx.last_order_at(&boxes[0].id, OrderKind::Query)).unwrap();
    assert!(last.is_some());
}

#[test]
fn what_a_campaign_does_not_want_any_more_is_not_mailed_to_a_second_address() {
    let (office, boxes, id, order) = mailed(1, |_| None);
    let second = give_second(&office, &boxes[0], "spare@lab.test");
    office
        .store()
        .write(|tx| {
            let mut campaign = tx.campaign(id)?.unwrap();
            campaign.cancel();
            tx.save_campaign(&campaign)
        })
        .unwrap();
    bounce(&office, order, &[line("box1@lab.test", GONE)]);
    assert!(installs(&office, &second).is_empty());
    assert!(matches!(office.target(id, &boxes[0]).1, Some(Reason::Bounced(_, Cause::UnknownMailbox))));
}
