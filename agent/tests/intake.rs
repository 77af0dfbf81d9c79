//! Mails that are no fresh orders for this agent: none is executed or answered, all are counted and removed.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::time::Duration;

use common::{Life, World, now};
use shared::keys::{OpeningKey, SigningKey};
use shared::limits::ORDER_LIFE;
use shared::message::{Enrolled, Order, Outcome, encode};
use shared::{AgentId, EnvelopeId};

const DAY: Duration = Duration::from_secs(86_400);

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
fn thirty_megabytes_of_nested_parts_are_removed_without_harm() {
    let mut w = World::enrolled();
    let mut mail = format!(
        "From: <a@b.test>\r\nX-Mailfleet: v1; id={}; size=100\r\nSubject: mailfleet order\r\nMIME-Version: 1.0\r\n",
        EnvelopeId([3; 16])
    );
    for depth in 0..2_000 {
        mail.push_str(&format!("Content-Type: multipart/mixed; boundary=\"b{depth}\"\r\n\r\n--b{depth}\r\n"));
    }
    mail.push_str("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n");
    mail.push_str(&"QUFB".repeat(19).repeat(1_000).replace("QUFBQUFBQUFB", "QUFBQUFB\r\nQU"));
    while mail.len() < 30_000_000 {
        mail.push_str(&"A".repeat(76));
        mail.push_str("\r\n");
    }
    w.deliver_raw("1", mail.as_bytes());
    refused(&mut w, "unreadable 1");
}

#[test]
fn an_order_signed_by_another_key_is_removed() {
    let mut w = World::enrolled();
    let (order, bundle) = install(&w);
    let life = w.life();
    let stranger = SigningKey::from_seed(&[1; 32]);
    w.mail(life.id, w.seal(life, &encode(&order), &bundle, &[w.agent_seal_key()], &stranger));
    refused(&mut w, "not signed by the manager 1");
}

#[test]
fn an_order_for_another_recipient_is_removed() {
    let mut w = World::enrolled();
    let (order, bundle) = install(&w);
    let life = w.life();
    let other = OpeningKey::from_seed(&[1; 32]).sealing_key();
    w.mail(life.id, w.seal(life, &encode(&order), &bundle, &[other], &w.sign));
    refused(&mut w, "for another recipient 1");
}

#[test]
fn an_order_that_was_altered_anywhere_or_cut_is_removed() {
    let mut w = World::enrolled();
    let (order, bundle) = install(&w);
    let life = w.life();
    let whole = w.seal(life, &encode(&order), &bundle, &[w.agent_seal_key()], &w.sign);
    let end = whole.len() - 1;
    let mut mails = vec![whole[..end].to_vec(), whole[..100].to_vec(), vec![], [&whole[..], b"x"].concat()];
    for at in [0, 9, 18, 40, whole.len() / 2, end] {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        mails.push(altered);
    }
    for mail in mails {
        w.mail(life.id, mail);
    }
    refused(&mut w, "damaged");
    w.mail(life.id, whole);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(life.id), Outcome::Installed, "the whole one is taken all the same");
}

#[test]
fn an_order_that_is_expired_or_from_the_future_or_lives_too_long_is_removed() {
    let mut w = World::enrolled();
    let (order, bundle) = install(&w);
    let life = w.life();
    for (life, reason) in [
        (Life { created: now().minus(DAY * 20), expires: now().minus(DAY), ..life }, "expired 1"),
        (
            Life { created: now().plus(DAY * 400), expires: now().plus(DAY * 410), ..life },
            "from the future 1",
        ),
        (Life { expires: now().plus(DAY * 100), ..life }, "lives too long 1"),
    ] {
        w.send_with(life, &order, &bundle);
        refused(&mut w, reason);
    }
}

#[test]
fn an_old_order_stays_expired_when_the_clock_of_the_box_is_dead() {
    let mut w = World::enrolled();
    let (order, bundle) = install(&w);
    let created = now().minus(DAY * 20);
    let life = Life { created, expires: created.plus(ORDER_LIFE), ..w.life() };
    w.send_with(life, &order, &bundle);
    // The floor is what the manager has signed, whatever the clock says: this order ended before it.
    refused(&mut w, "expired 1");
}

#[test]
fn an_enrolment_answer_for_another_agent_is_removed() {
    let mut w = World::enrolled();
    w.send(&Order::Enrolled(Enrolled { agent: AgentId::parse("B2").unwrap(), heartbeat: None }));
    refused(&mut w, "for another agent 1");
}

#[test]
fn bytes_that_are_no_order_are_removed_although_the_manager_sealed_them() {
    let mut w = World::enrolled();
    let life = w.life();
    let attachment = w.seal(life, b"\xff\xff", b"", &[w.agent_seal_key()], &w.sign);
    w.mail(life.id, attachment);
    refused(&mut w, "unreadable 1");
}

#[test]
fn bytes_after_an_order_that_brings_nothing_make_it_invalid() {
    let mut w = World::enrolled();
    let life = w.life();
    w.send_with(life, &Order::QueryVersions, b"x");
    refused(&mut w, "unreadable 1");
}

#[test]
fn a_repeated_order_is_answered_once() {
    let mut w = World::enrolled();
    let life = w.life();
    let attachment = w.seal(life, &encode(&Order::QueryVersions), b"", &[w.agent_seal_key()], &w.sign);
    for round in 0..3 {
        w.mail(life.id, attachment.clone());
        w.mail(life.id, attachment.clone());
        assert_eq!(w.once(), 0);
        assert_eq!((w.answers(life.id).len(), w.unread()), (1, 0), "round {round}");
    }
    let (order, bundle) = install(&w);
    let life = w.life();
    let attachment = w.seal(life, &encode(&order), &bundle, &[w.agent_seal_key()], &w.sign);
    for _ in 0..3 {
        w.mail(life.id, attachment.clone());
        assert_eq!(w.once(), 0);
        assert_eq!(w.outcome(life.id), Outcome::Installed);
    }
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
