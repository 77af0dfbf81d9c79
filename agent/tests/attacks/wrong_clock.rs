//! Wrong clock: of the box (an empty battery, a lying time server) or of the manager.

use shared::UnixMillis;
use shared::message::{Outcome, Report};

use crate::common::{Life, World, now};
use crate::lab::{DAY, fends_off, poison, ran, sealed_poison, takes_an_honest_order};

/// From now to a year, as the agent's clock sees it.
fn off_by(date: UnixMillis) -> String {
    (date.0 - now().0).to_string()
}

const NEW_YEAR_1970: UnixMillis = UnixMillis(0);
const NEW_YEAR_2099: UnixMillis = UnixMillis(4_070_908_800_000);

fn once_in(w: &World, date: UnixMillis) {
    let mut command = w.command(&["run", "--once"]);
    let out = command.env("MAILFLEET_TEST_CLOCK_ERROR_MS", off_by(date)).output().unwrap();
    assert!(out.status.code().unwrap() <= 1, "{}", crate::common::text(&out));
}

#[test]
fn a_box_in_1970_takes_orders_and_still_refuses_old_and_repeated_ones() {
    let mut w = World::enrolled();
    let order = w.install("1-0", None, &[("bin/abcd", "one")]);
    let life = w.life();
    let sealed = sealed_poison(&w, life, &w.sign);
    once_in(&w, NEW_YEAR_1970);
    assert_eq!(w.outcome(order), Outcome::Installed);
    w.mail(life.id, sealed.clone());
    once_in(&w, NEW_YEAR_1970);
    assert_eq!((w.outcome(life.id), ran(&w)), (Outcome::Installed, 4));
    // A repeat, and one that had expired before the manager was last heard.
    w.mail(life.id, sealed);
    let expired = Life { created: now().minus(DAY * 20), expires: now().minus(DAY), ..w.life() };
    w.mail(expired.id, sealed_poison(&w, expired, &w.sign));
    once_in(&w, NEW_YEAR_1970);
    assert_eq!((w.unread(), ran(&w)), (0, 4));
    assert!(w.status().contains("repeated 1") && w.status().contains("expired 1"), "{}", w.status());
    takes_an_honest_order(&mut w);
}

#[test]
fn a_box_in_2099_refuses_everything_and_is_itself_again_when_its_clock_is() {
    let mut w = World::enrolled();
    let life = w.life();
    let sealed = sealed_poison(&w, life, &w.sign);
    w.mail(life.id, sealed);
    once_in(&w, NEW_YEAR_2099);
    assert_eq!((w.unread(), ran(&w)), (0, 0));
    assert!(w.status().contains("expired 1"), "{}", w.status());
    let heard: Vec<&Report> = w.reports.iter().filter(|r| matches!(r, Report::Ended(_))).collect();
    assert!(heard.is_empty(), "{heard:?}");
    takes_an_honest_order(&mut w);
}

#[test]
fn an_install_that_waits_while_the_clock_jumps_to_2099_and_back_does_not_wait_for_2099() {
    let mut w = World::enrolled();
    let script = "[ $1 = check ] && [ ! -e $MAILFLEET_ROOT/go ] && exit 75; exit 0";
    let order = w.install("1-0", Some(script), &[("bin/abcd", "one")]);
    assert_eq!(w.once(), 0);
    std::fs::write(w.root().join("go"), "").unwrap();
    let query = w.query();
    once_in(&w, NEW_YEAR_1970);
    assert_eq!(w.answers(query).len(), 1);
    assert_eq!(w.once(), 0);
    assert!(!w.status().contains("2099"), "{}", w.status());
    w.cancel(order);
    w.once();
    takes_an_honest_order(&mut w);
}

#[test]
fn a_manager_in_2099_is_not_believed_and_drags_nothing_along() {
    let mut w = World::enrolled();
    let (order, bundle) = poison(&w);
    let created = NEW_YEAR_2099;
    let life = Life { created, expires: created.plus(DAY * 14), ..w.life() };
    w.send_with(life, &order, &bundle);
    fends_off(&mut w, "from the future 1");
    assert!(!w.status().contains("2099"), "{}", w.status());
}
