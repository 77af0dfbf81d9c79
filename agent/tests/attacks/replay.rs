//! Replay: mails that were recorded are delivered again later.

use shared::message::{Order, Outcome, encode};

use crate::common::{World, now};
use crate::lab::{fends_off, ran, sealed_poison, takes_an_honest_order};

/// A world in which an order was recorded and carried out: its phases have run once.
fn recorded() -> (World, shared::EnvelopeId, Vec<u8>) {
    let mut w = World::enrolled();
    let life = w.life();
    let sealed = sealed_poison(&w, life, &w.sign);
    w.mail(life.id, sealed.clone());
    assert_eq!(w.once(), 0);
    assert_eq!((w.outcome(life.id), ran(&w)), (Outcome::Installed, 4));
    (w, life.id, sealed)
}

#[test]
fn again_after_restarts_and_after_newer_orders() {
    let (mut w, id, sealed) = recorded();
    for _ in 0..3 {
        takes_an_honest_order(&mut w);
        w.mail(id, sealed.clone());
        assert_eq!((w.once(), w.unread(), ran(&w)), (0, 0, 4));
    }
}

#[test]
fn again_after_the_clock_has_jumped_by_decades() {
    let (mut w, id, sealed) = recorded();
    for years in [-50i64, 50, -1, 1, 0] {
        w.mail(id, sealed.clone());
        let error = (years * 366 * 86_400_000).to_string();
        let out = w.command(&["run", "--once"]).env("MAILFLEET_TEST_CLOCK_ERROR_MS", error).output().unwrap();
        assert!(out.status.success());
        assert_eq!((w.unread(), ran(&w)), (0, 4), "{years} years");
    }
    takes_an_honest_order(&mut w);
}

#[test]
fn again_after_the_state_was_lost_and_its_copy_taken() {
    let (mut w, id, sealed) = recorded();
    std::fs::write(w.home().join("state"), "damaged").unwrap();
    w.state_was_lost = true;
    w.mail(id, sealed);
    assert_eq!((w.once(), w.unread(), ran(&w)), (0, 0, 4));
    takes_an_honest_order(&mut w);
}

#[test]
fn to_another_box() {
    let (w, id, sealed) = recorded();
    // This box believes the same manager.
    let mut other = World::new();
    (other.sign, other.release) = (crate::lab::copy_of(&w.sign), crate::lab::copy_of(&w.release));
    assert!(other.enrol(&other.invitation()).status.success());
    other.collect();
    other.reports.clear();
    other.mail(id, sealed);
    fends_off(&mut other, "for another recipient 1");
}

#[test]
fn reports_sent_back_as_if_they_were_orders() {
    let mut w = World::enrolled();
    w.query();
    assert_eq!(w.once(), 0);
    let manager = w.spool().join("manager@lab.test");
    for sub in ["new", "cur"] {
        for entry in std::fs::read_dir(manager.join(sub)).unwrap() {
            w.deliver_raw("report", &std::fs::read(entry.unwrap().path()).unwrap());
        }
    }
    w.collect();
    w.reports.clear();
    fends_off(&mut w, "not signed by the manager 1");
}

#[test]
fn an_order_of_before_the_enrolment() {
    let mut w = World::enrolled();
    let created = now().minus(crate::lab::DAY * 15);
    let life = crate::common::Life { created, expires: created.plus(shared::limits::ORDER_LIFE), ..w.life() };
    w.mail(life.id, w.seal(life, &encode(&Order::QueryVersions), b"", &[w.agent_seal_key()], &w.sign));
    fends_off(&mut w, "expired 1");
}
