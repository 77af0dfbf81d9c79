//! Drop: a relay swallows mails.

use crate::common::World;
use crate::lab::takes_an_honest_order;

#[test]
fn orders_that_never_arrive_leave_the_next_one_as_good_as_ever() {
    let mut w = World::enrolled();
    for _ in 0..3 {
        w.life();
        takes_an_honest_order(&mut w);
    }
}

#[test]
fn reports_that_never_arrive_are_asked_for_again() {
    let mut w = World::enrolled();
    w.install("1-0", None, &[("bin/abcd", "one")]);
    assert_eq!(w.once(), 0);
    w.collect();
    w.reports.clear();
    let query = w.query();
    assert_eq!(w.once(), 0);
    let answers = w.answers(query);
    assert_eq!(answers[0].software.to_string(), "1-0");
    takes_an_honest_order(&mut w);
}
