//! Delay: a relay holds an order back and delivers it when it likes.

use shared::message::{Outcome, Refusal};

use crate::common::{Life, World, now};
use crate::lab::{DAY, fends_off, poison, ran, takes_an_honest_order};

#[test]
fn delivered_after_its_expiry_it_is_refused() {
    let mut w = World::enrolled();
    let (order, bundle) = poison(&w);
    let life = Life { created: now().minus(DAY * 20), expires: now().minus(DAY * 6), ..w.life() };
    w.send_with(life, &order, &bundle);
    fends_off(&mut w, "expired 1");
}

#[test]
fn held_back_for_months_within_its_life_it_does_not_undo_a_newer_one() {
    let mut w = World::enrolled();
    let life = Life { created: now().minus(DAY * 80), expires: now().plus(DAY * 9), ..w.life() };
    takes_an_honest_order(&mut w);
    let (order, bundle) = poison(&w);
    let held = w.send_with(life, &order, &bundle);
    assert_eq!(w.once(), 1);
    assert_eq!(w.outcome(held), Outcome::Refused(Refusal::Superseded));
    assert_eq!(ran(&w), 0);
    takes_an_honest_order(&mut w);
}

#[test]
fn a_life_longer_than_any_order_may_have_is_refused() {
    let mut w = World::enrolled();
    let (order, bundle) = poison(&w);
    let life = Life { expires: now().plus(DAY * 100), ..w.life() };
    w.send_with(life, &order, &bundle);
    fends_off(&mut w, "lives too long 1");
}
