//! Fast-forward: a thief of the order key signs far-off times and numbers, so that no honest order is new any more.

use std::time::Duration;

use shared::message::{Outcome, Report};

use crate::common::World;
use crate::lab::{DAY, copy_of, key, poison, sealed_poison, statement, takes_an_honest_order, trust};

#[test]
fn the_release_key_undoes_it_by_dropping_the_stolen_key() {
    let mut w = World::enrolled();
    let (stolen, release) = (copy_of(&w.sign), copy_of(&w.release));
    // The newest number there is, almost a year ahead.
    let bundle = w.bundle("1-0", "", None, &[("bin/abcd", "one")]);
    let mut life = w.life();
    life.created = life.created.plus(DAY * 360);
    life.expires = life.created.plus(DAY);
    life.sequence = u64::MAX - 1;
    w.send_with(life, &World::install_order(&bundle, "1-0"), &bundle);
    assert_eq!(w.once(), 0);
    let lost = w.install("2-0", None, &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 0);
    w.collect();
    assert!(w.reports.iter().all(|r| !matches!(r, Report::Ended(e) if e.order == lost)), "it seems expired");

    let introduction = statement(&trust(&w, 2, &[&key(2)], &[&release], 1), &[&release]);
    w.sign = key(2);
    let life = w.life();
    let bundle = w.bundle("3-0", "", None, &[("bin/abcd", "three")]);
    let order = shared::message::encode(&World::install_order(&bundle, "3-0"));
    let sealed = w.seal(life, &order, &bundle, &[w.agent_seal_key()], &w.sign);
    w.mail(life.id, [introduction, sealed].concat());
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(life.id), Outcome::Installed);
    // And the stolen key is worth nothing any more.
    let life = w.life();
    w.mail(life.id, sealed_poison(&w, life, &stolen));
    crate::lab::fends_off(&mut w, "not signed by the manager 1");
}

#[test]
fn times_more_than_a_year_ahead_are_not_believed_at_all() {
    let mut w = World::enrolled();
    let (order, bundle) = poison(&w);
    let mut life = w.life();
    life.created = life.created.plus(DAY * 367);
    life.expires = life.created.plus(Duration::from_secs(60));
    life.sequence = u64::MAX;
    w.send_with(life, &order, &bundle);
    crate::lab::fends_off(&mut w, "from the future 1");
    takes_an_honest_order(&mut w);
}
