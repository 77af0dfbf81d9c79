//! What people at the site want, and what of it they get.

use core::time::Duration;

use agent_core::{NotGranted, PutOff, Want};
use shared::message::{Outcome, Phase, Refusal, Report, Schedule, Step, WaitReason};
use shared::{EnvelopeId, Label, UnixMillis};

use crate::site::{Site, hour, times};

/// A site with an order that may be installed from hour 10 on, and put off until hour 20.
fn with_order() -> (Site, EnvelopeId) {
    let mut b = Site::new();
    b.schedule(Schedule { defer_until: Some(hour(20)), ..times(1, 10, &[]) });
    let order = b.install(1, true);
    b.poll();
    (b, order)
}

fn put_off(b: &Site, order: EnvelopeId, until: UnixMillis) -> Result<UnixMillis, NotGranted> {
    let by = Label::lossy("tanaka");
    b.core.state().clone().put_off(order, PutOff { until, by }, b.now)
}

/// PROTOCOL 15.6
#[test]
fn a_person_puts_an_update_off_and_the_manager_hears_who() {
    let (mut b, order) = with_order();
    b.wish(order, Want::PutOff(hour(15)));
    b.run_until(hour(30));
    assert_eq!(b.waits(order), [(WaitReason::NotYet, 10), (WaitReason::PutOff, 15)]);
    let named = b.sent.values().any(|report| match report {
        Report::Progress(p) => {
            matches!(&p.step, Step::Waiting(w) if w.to_string() == "put off at the site (tanaka)")
        }
        _ => false,
    });
    assert!(named, "{:?}", b.sent);
    assert_eq!((b.hours_of(order), b.outcome(order)), (vec![15], Some(Outcome::Installed)));
}

/// PROTOCOL 15.6
#[test]
fn an_update_is_put_off_as_far_as_its_schedule_allows_and_into_its_intervals() {
    let (b, order) = with_order();
    assert_eq!(put_off(&b, order, hour(20)), Ok(hour(20)));
    assert_eq!(put_off(&b, order, hour(21)), Err(NotGranted::TooLong(hour(20))));
    assert_eq!(put_off(&b, order, b.now), Err(NotGranted::Past));
    assert_eq!(put_off(&b, EnvelopeId([9; 16]), hour(15)), Err(NotGranted::Unknown));
    assert_eq!(b.core.state().begins_at(order, b.now), Ok(hour(10)));

    let mut b = Site::new();
    b.schedule(Schedule { defer_until: Some(hour(999)), ..times(1, 10, &[]) });
    let order = b.install(1, true);
    b.poll();
    assert_eq!(put_off(&b, order, hour(14 * 24)), Ok(hour(14 * 24)));
    assert_eq!(
        put_off(&b, order, hour(14 * 24 + 1)),
        Err(NotGranted::Never),
        "its order has expired by then"
    );

    let mut b = Site::new();
    b.schedule(Schedule { defer_until: Some(hour(99)), ..times(1, 0, &[(10, 12), (34, 36)]) });
    let nights = b.install(1, true);
    b.schedule(times(2, 10, &[]));
    let strict = b.install(2, true);
    let without = b.install(3, true);
    b.exits.insert(Phase::Check, 75);
    let unscheduled = b.install(4, false);
    b.poll();
    assert_eq!(put_off(&b, nights, hour(13)), Ok(hour(34)));
    assert_eq!(put_off(&b, nights, hour(36)), Err(NotGranted::Never));
    assert_eq!(put_off(&b, strict, hour(13)), Err(NotGranted::NotAllowed));
    assert_eq!(put_off(&b, without, hour(13)), Err(NotGranted::NoSchedule));
    assert_eq!(put_off(&b, unscheduled, hour(13)), Err(NotGranted::NotScheduled));
}

#[test]
fn a_wish_that_is_not_granted_changes_nothing_and_is_forgotten() {
    let (mut b, order) = with_order();
    let before = b.core.state().schedules.clone();
    b.wish(order, Want::PutOff(hour(21)));
    b.wish(EnvelopeId([9; 16]), Want::Cancel);
    b.poll();
    assert_eq!(b.core.state().schedules, before);
    b.run_until(hour(11));
    assert_eq!(b.hours_of(order), [10]);
}

#[test]
fn an_update_that_is_only_looked_at_can_still_be_put_off() {
    let (mut b, order) = with_order();
    b.leased = 1;
    b.run_until(hour(10));
    assert_eq!(b.core.state().active.as_ref().unwrap().name(), "waiting");
    b.wish(order, Want::PutOff(hour(12)));
    b.run_until(hour(13));
    assert_eq!(b.hours_of(order), [12]);
}

#[test]
fn what_is_put_off_stays_so_when_the_schedule_is_moved_if_the_new_one_allows_it() {
    let moved = |schedule: Schedule| {
        let (mut b, order) = with_order();
        b.wish(order, Want::PutOff(hour(15)));
        b.poll();
        b.schedule(schedule);
        b.run_until(hour(40));
        b.hours_of(order)
    };
    let until = |n| Schedule { defer_until: Some(hour(n)), ..times(1, 11, &[]) };
    assert_eq!(moved(until(20)), [15]);
    assert_eq!(moved(until(13)), [13]);
    assert_eq!(moved(times(1, 11, &[])), [11]);
    // Putting off is no way to make it never begin.
    let last = Schedule { intervals: times(1, 0, &[(11, 12)]).intervals, ..until(20) };
    assert_eq!(moved(last), [11]);
}

/// PROTOCOL 15.7
#[test]
fn a_person_cancels_what_has_not_begun() {
    let (mut b, order) = with_order();
    assert_eq!(b.core.state().may_cancel(order), Ok(()));
    b.wish(order, Want::Cancel);
    b.run_until(hour(30));
    assert_eq!(b.outcome(order), Some(Outcome::Refused(Refusal::Declined)));
    assert_eq!(b.core.state().may_cancel(order), Err(NotGranted::Unknown));
    assert!(b.begun.is_empty() && b.core.state().schedules.is_empty());

    let mut b = Site::new();
    b.exits.insert(Phase::Check, 75);
    let unscheduled = b.install(1, false);
    b.poll();
    b.wish(unscheduled, Want::Cancel);
    b.poll();
    assert_eq!(b.outcome(unscheduled), Some(Outcome::Refused(Refusal::Declined)));
}

/// PROTOCOL 15.7
#[test]
fn it_is_too_late_for_what_has_begun() {
    let mut b = Site::new();
    b.schedule(Schedule { defer_until: Some(hour(20)), ..times(1, 0, &[]) });
    let order = b.install(1, true);
    b.exits.insert(Phase::Post, 76);
    b.poll();
    assert_eq!(b.core.state().may_cancel(order), Err(NotGranted::Begun));
    assert_eq!(put_off(&b, order, hour(15)), Err(NotGranted::Begun));
    b.wish(order, Want::Cancel);
    b.poll();
    assert_eq!(
        (b.outcome(order), b.core.state().active.as_ref().unwrap().name()),
        (None, "awaiting-restart")
    );
}

#[test]
fn a_bundle_that_is_offered_is_not_asked_for_while_it_is_put_off() {
    let mut b = Site::new();
    let offer = b.schedule(Schedule { fetch: true, defer_until: Some(hour(20)), ..times(1, 10, &[]) });
    b.poll();
    b.wish(offer, Want::PutOff(hour(15)));
    b.run_until(hour(15).minus(Duration::from_secs(1)));
    assert_eq!(b.fetches(), []);
    b.run_until(hour(15));
    assert_eq!(b.fetches(), [offer]);
}
