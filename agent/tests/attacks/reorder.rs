//! Reorder: a relay delivers mails in another order than they were sent in.

use shared::message::{CancelOrder, Order, Outcome, Refusal};

use crate::common::World;
use crate::lab::{poison, ran, takes_an_honest_order};

#[test]
fn the_newest_of_three_installs_wins_whichever_comes_first() {
    let mut w = World::enrolled();
    let lives = [w.life(), w.life(), w.life()];
    for (life, version) in lives.iter().zip(["1-0", "2-0", "3-0"]).rev() {
        let bundle = w.bundle(version, "", None, &[("bin/abcd", version)]);
        w.send_with(*life, &World::install_order(&bundle, version), &bundle);
    }
    assert_eq!(w.once(), 1);
    let outcomes = lives.map(|life| w.outcome(life.id));
    let superseded = || Outcome::Refused(Refusal::Superseded);
    assert_eq!(outcomes, [superseded(), superseded(), Outcome::Installed]);
    assert_eq!(w.file("bin/abcd").unwrap(), "3-0");
    takes_an_honest_order(&mut w);
}

#[test]
fn a_withdrawal_that_overtakes_its_order_stops_it() {
    let mut w = World::enrolled();
    let life = w.life();
    w.send(&Order::Cancel(CancelOrder { orders: vec![life.id] }));
    assert_eq!(w.once(), 0);
    let (order, bundle) = poison(&w);
    w.send_with(life, &order, &bundle);
    assert_eq!(w.once(), 1);
    assert_eq!(w.outcome(life.id), Outcome::Refused(Refusal::Cancelled));
    assert_eq!(ran(&w), 0);
    takes_an_honest_order(&mut w);
}
