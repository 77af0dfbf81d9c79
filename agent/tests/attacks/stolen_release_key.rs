//! Stolen release key: the vendor's signing was broken into, the manager was not. A release key is no order key; and
//! where two must sign, one alone makes neither bundles nor trust.

use shared::message::{Outcome, Refusal};

use crate::common::World;
use crate::lab::{
    copy_of, fends_off, key, poison, ran, sealed_poison, statement, takes_an_honest_order, trust,
};

/// A world in which two release keys must sign, and the first was stolen.
fn two_must_sign() -> World {
    let mut w = World::enrolled();
    let (order, first) = (copy_of(&w.sign), copy_of(&w.release));
    let both = trust(&w, 2, &[&order], &[&first, &key(12)], 2);
    let introduction = statement(&both, &[&first, &key(12)]);
    let life = w.life();
    let question = shared::message::encode(&shared::message::Order::QueryVersions);
    let sealed = w.seal(life, &question, b"", &[w.agent_seal_key()], &w.sign);
    w.mail(life.id, [introduction, sealed].concat());
    assert_eq!(w.once(), 0);
    assert!(w.status().contains("bundles by 2 of"), "{}", w.status());
    w
}

#[test]
fn it_signs_no_orders() {
    let mut w = World::enrolled();
    let life = w.life();
    let sealed = sealed_poison(&w, life, &w.release);
    w.mail(life.id, sealed);
    fends_off(&mut w, "not signed by the manager 1");
}

#[test]
fn one_of_two_makes_no_bundle_even_if_the_manager_is_tricked_into_ordering_it() {
    let mut w = two_must_sign();
    let (order, bundle) = poison(&w);
    let life = w.life();
    w.send_with(life, &order, &bundle);
    assert_eq!(w.once(), 1);
    assert_eq!(w.outcome(life.id), Outcome::Refused(Refusal::NotSigned));
    assert_eq!(ran(&w), 0);
}

#[test]
fn one_of_two_changes_no_trust() {
    let mut w = two_must_sign();
    let (mallory, first) = (key(66), copy_of(&w.release));
    let forged = trust(&w, 3, &[&mallory], &[&first], 1);
    // Signing twice is signing once, and a key that nobody knows does not count.
    for signers in [vec![&first], vec![&first, &first], vec![&first, &mallory]] {
        let life = w.life();
        let sealed = sealed_poison(&w, life, &mallory);
        w.mail(life.id, [statement(&forged, &signers), sealed].concat());
    }
    assert_eq!(w.once(), 0);
    crate::lab::unharmed(&w, "not signed by the manager 3");
    assert!(w.status().contains("version 2; orders by"), "{}", w.status());
    // The two together still can.
    let one = trust(&w, 3, &[&copy_of(&w.sign)], &[&key(12)], 1);
    let life = w.life();
    let question = shared::message::encode(&shared::message::Order::QueryVersions);
    let sealed = w.seal(life, &question, b"", &[w.agent_seal_key()], &w.sign);
    w.mail(life.id, [statement(&one, &[&first, &key(12)]), sealed].concat());
    assert_eq!(w.once(), 0);
    w.release = key(12);
    takes_an_honest_order(&mut w);
}
