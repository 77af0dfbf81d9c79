//! Mails that are no orders for this agent: none is executed or answered, all are counted and removed. Those that were
//! made by an enemy are in `attacks`.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use common::World;
use shared::message::{Order, Outcome};

/// Runs the agent; nothing may have happened but that the mails are gone and counted under this reason.
fn refused(w: &mut World, reason: &str) {
    assert_eq!(w.once(), 0, "{reason}");
    assert_eq!(w.unread(), 0, "{reason}: the mail is gone");
    let status = w.status();
    let line = status.lines().find(|line| line.starts_with("Refused mails")).unwrap();
    assert!(line.contains(reason), "{reason}: {line}");
    w.collect();
    assert!(w.reports.is_empty(), "{reason}: {:?}", w.reports);
    assert_eq!(w.file("bin/abcd"), None);
}

fn install(w: &World) -> (Order, Vec<u8>) {
    let bundle = w.bundle("1-0", "", None, &[("bin/abcd", "one")]);
    (World::install_order(&bundle, "1-0"), bundle)
}

#[test]
fn mails_from_others_are_removed_and_never_answered() {
    let mut w = World::enrolled();
    w.deliver_raw("1", b"From: <a@b.test>\r\nSubject: hello\r\n\r\nBuy now\r\n");
    w.deliver_raw("2", b"");
    w.deliver_raw("3", b"\x00\xff\xfe garbage without any header");
    refused(&mut w, "foreign 3");
    let auto = "From: <a@b.test>\r\nSubject: Out of office\r\nAuto-Submitted: auto-replied\r\n\r\nback on Monday\r\n";
    w.deliver_raw("4", auto.as_bytes());
    refused(&mut w, "automatic answer 1");
    let bounce = "Return-Path: <>\r\nFrom: <MAILER-DAEMON@b.test>\r\nSubject: Undelivered\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n--b--\r\n";
    w.deliver_raw("5", bounce.as_bytes());
    refused(&mut w, "bounce 1");
}

#[test]
fn bytes_after_an_order_that_brings_nothing_make_it_invalid() {
    let mut w = World::enrolled();
    let life = w.life();
    w.send_with(life, &Order::QueryVersions, b"x");
    refused(&mut w, "unreadable 1");
}

#[test]
fn junk_can_be_put_aside() {
    let mut w = World::enrolled();
    w.set_config("junk = \"aside\"");
    w.deliver_raw("1", b"From: <a@b.test>\r\nSubject: hello\r\n\r\nBuy now\r\n");
    refused(&mut w, "foreign 1");
    let aside = w.spool().join("agent0001@lab.test/.mailfleet-junk");
    let kept: usize =
        ["new", "cur"].iter().map(|sub| std::fs::read_dir(aside.join(sub)).map_or(0, Iterator::count)).sum();
    assert_eq!(kept, 1);
}

#[test]
fn an_order_whose_bundle_cannot_be_kept_stays_in_the_mailbox_until_it_can() {
    let mut w = World::enrolled();
    let (order, bundle) = install(&w);
    let life = w.life();
    // As good as a full disk, and works for the superuser too.
    let in_the_way = w.home().join("bundles").join(format!("{}.mfb.tmp", life.id));
    std::fs::create_dir_all(in_the_way.join("x")).unwrap();
    w.send_with(life, &order, &bundle);
    assert_eq!(w.once(), 1);
    assert_eq!(w.unread(), 1);
    std::fs::remove_dir_all(in_the_way).unwrap();
    assert_eq!(w.once(), 0);
    assert_eq!((w.outcome(life.id), w.unread()), (Outcome::Installed, 0));
}

#[test]
fn a_bundle_larger_than_this_agent_takes_is_refused_with_a_word() {
    let mut w = World::enrolled();
    w.set_config("max_bundle_bytes = 100");
    let (order, bundle) = install(&w);
    let life = w.life();
    w.send_with(life, &order, &bundle);
    assert_eq!(w.once(), 1);
    let Outcome::Refused(refusal) = w.outcome(life.id) else { panic!("{:?}", w.reports) };
    assert!(refusal.to_string().contains("larger than the 100 bytes"), "{refusal}");
}

/// Moves or copies what is in the agent's mailbox to its second one.
fn to_second(w: &World, keep: bool) {
    let (first, second) = (w.spool().join("agent0001@lab.test/new"), w.spool().join("spare@lab.test/new"));
    for entry in std::fs::read_dir(first).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, second.join(path.file_name().unwrap())).unwrap();
        if !keep {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn an_order_is_found_in_the_second_mailbox_and_executed_once_if_both_have_it() {
    let mut w = World::enrolled();
    let spare = shared::MailAddress::parse("spare@lab.test").unwrap();
    mailio::Mailbox::create_spool(&w.spool(), &spare).unwrap();
    let config = w.home().join("agent.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let second =
        format!("[fallback_inbox]\nreceive = \"spool:{}\"\naddress = \"{spare}\"\n", w.spool().display());
    std::fs::write(&config, format!("{text}\n{second}")).unwrap();

    let (order, bundle) = install(&w);
    let life = w.life();
    let copy = w.life();
    let id = w.send_with(life, &order, &bundle);
    to_second(&w, false);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(id), Outcome::Installed);
    assert_eq!(w.file("bin/abcd").as_deref(), Some("one"));

    let twice = w.send_with(copy, &Order::QueryVersions, &[]);
    to_second(&w, true);
    assert_eq!(w.once(), 0);
    assert_eq!(w.answers(twice).len(), 1);
    assert_eq!(w.unread(), 0);
    assert_eq!(std::fs::read_dir(w.spool().join("spare@lab.test/new")).unwrap().count(), 0);
}
