//! Stolen order key: the manager or its mail account was taken over. A thief can choose among signed bundles and ask
//! questions until the release keys throw him out; he cannot make a bundle, nor change whom agents believe.

use shared::message::{Order, Outcome, Refusal, encode};

use crate::common::World;
use crate::lab::{copy_of, fends_off, key, poison, ran, statement, takes_an_honest_order, trust};

#[test]
fn no_bundle_of_his_own_is_installed() {
    let mut w = World::enrolled();
    let mut thief = World::new();
    thief.folder = w.folder;
    let (order, bundle) = poison(&thief);
    w.folder = thief.folder;
    let life = w.life();
    w.send_with(life, &order, &bundle);
    assert_eq!(w.once(), 1);
    assert_eq!(w.outcome(life.id), Outcome::Refused(Refusal::NotSigned));
    assert_eq!(ran(&w), 0);
    takes_an_honest_order(&mut w);
}

#[test]
fn he_cannot_change_whom_the_agent_believes() {
    let mut w = World::enrolled();
    let (stolen, mallory) = (copy_of(&w.sign), key(66));
    let forged = trust(&w, 2, &[&mallory], &[&mallory], 1);
    for signers in [vec![&stolen], vec![&mallory], vec![&stolen, &mallory]] {
        let introduction = statement(&forged, &signers);
        // With the stolen key the order counts, but not the statement; with his own key, neither does.
        for (signer, answers) in [(&stolen, 1), (&mallory, 0)] {
            let life = w.life();
            let sealed = w.seal(life, &encode(&Order::QueryVersions), b"", &[w.agent_seal_key()], signer);
            w.mail(life.id, [&introduction[..], &sealed].concat());
            assert_eq!(w.once(), 0);
            assert_eq!(w.answers(life.id).len(), answers);
        }
    }
    assert!(w.status().contains("version 1; orders by"), "{}", w.status());
    takes_an_honest_order(&mut w);
}

#[test]
fn once_the_release_keys_have_dropped_it_it_is_worth_nothing() {
    let mut w = World::enrolled();
    let (stolen, release) = (copy_of(&w.sign), copy_of(&w.release));
    let introduction = statement(&trust(&w, 2, &[&key(2)], &[&release], 1), &[&release]);
    // The statement comes with the thief's own order: he cannot keep it away by being first.
    let life = w.life();
    let sealed = crate::lab::sealed_poison(&w, life, &stolen);
    w.mail(life.id, [introduction, sealed].concat());
    w.sign = key(2);
    fends_off(&mut w, "not signed by the manager 1");
    // Nor does the older trust come back.
    let back = statement(&trust(&w, 1, &[&stolen], &[&release], 1), &[&release]);
    let life = w.life();
    let sealed = crate::lab::sealed_poison(&w, life, &stolen);
    w.mail(life.id, [back, sealed].concat());
    fends_off(&mut w, "not signed by the manager 2");
}
