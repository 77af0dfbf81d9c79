//! Duplicate: a relay delivers a mail more than once.

use shared::message::Outcome;

use crate::common::World;
use crate::lab::{ran, sealed_poison, takes_an_honest_order};

#[test]
fn copies_in_one_mailbox_are_one_order() {
    let mut w = World::enrolled();
    let life = w.life();
    let sealed = sealed_poison(&w, life, &w.sign);
    for _ in 0..5 {
        w.mail(life.id, sealed.clone());
    }
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(life.id), Outcome::Installed);
    assert_eq!((ran(&w), w.unread()), (4, 0), "each phase ran once");
    takes_an_honest_order(&mut w);
}

#[test]
fn copies_of_a_question_are_answered_once() {
    let mut w = World::enrolled();
    let life = w.life();
    let question = shared::message::encode(&shared::message::Order::QueryVersions);
    let sealed = w.seal(life, &question, b"", &[w.agent_seal_key()], &w.sign);
    for round in 0..3 {
        w.mail(life.id, sealed.clone());
        w.mail(life.id, sealed.clone());
        assert_eq!(w.once(), 0);
        assert_eq!((w.answers(life.id).len(), w.unread()), (1, 0), "round {round}");
    }
    takes_an_honest_order(&mut w);
}
