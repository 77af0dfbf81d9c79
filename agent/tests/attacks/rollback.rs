//! Rollback: an older bundle than the installed one is to be installed.

use shared::message::{Outcome, Refusal};

use crate::common::World;
use crate::lab::takes_an_honest_order;

#[test]
fn an_old_order_is_refused_and_the_same_bundle_ordered_anew_is_installed() {
    let mut w = World::enrolled();
    let old = w.bundle("1-0", "", None, &[("bin/abcd", "one")]);
    let order = World::install_order(&old, "1-0");
    let (held, life) = (w.life(), w.life());
    w.send_with(life, &order, &old);
    assert_eq!(w.once(), 0);
    w.install("2-0", None, &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 0);
    // The order that was carried out, and one that was held back on its way.
    w.send_with(life, &order, &old);
    w.send_with(held, &order, &old);
    assert_eq!(w.once(), 1);
    assert_eq!(w.outcome(held.id), Outcome::Refused(Refusal::Superseded));
    assert_eq!(w.file("bin/abcd").unwrap(), "two");
    // On purpose: the bundle is old, the order is new.
    let again = w.life();
    w.send_with(again, &order, &old);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(again.id), Outcome::Installed);
    assert_eq!(w.file("bin/abcd").unwrap(), "one");
    takes_an_honest_order(&mut w);
}
