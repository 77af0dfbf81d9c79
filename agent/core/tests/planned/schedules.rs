//! Schedules, and what waits for them.

use core::time::Duration;

use agent_core::ScriptEnd;
use shared::limits::ORDER_LIFE;
use shared::message::{
    CancelResult, Cause, Failure, Hindrance, Order, Outcome, Phase, Refusal, Report, Schedule, WaitReason,
};

use crate::site::{Site, T0, bundle, hour, times, version};

fn expired(reason: WaitReason) -> Option<Outcome> {
    let cause = Cause::WaitedTooLong(Some(Hindrance::of(reason)));
    Some(Outcome::RolledBack(Failure { phase: Phase::Stage, cause, undo_failed: false }))
}

/// PROTOCOL 15.1, 15.2
#[test]
fn an_install_waits_for_its_interval_whichever_of_order_and_schedule_comes_first() {
    for schedule_first in [true, false] {
        let mut b = Site::new();
        let nights = times(1, 0, &[(10, 12), (34, 36)]);
        if schedule_first {
            b.schedule(nights.clone());
        }
        let order = b.install(1, true);
        b.poll();
        if !schedule_first {
            assert_eq!(b.waits(order), [(WaitReason::NoSchedule, 14 * 24)]);
            b.run_until(hour(3));
            b.schedule(nights);
        }
        b.run_until(hour(9));
        assert_eq!(b.waits(order).last(), Some(&(WaitReason::NotYet, 10)));
        assert_eq!(b.begun, []);
        b.run_until(hour(40));
        assert_eq!(b.hours_of(order), [10], "{schedule_first}");
        assert_eq!(b.outcome(order), Some(Outcome::Installed));
        assert_eq!(b.waits(order).len(), if schedule_first { 1 } else { 2 }, "each wait is told once");
        // One that was sent after the order may be for another, and stays until it expires.
        assert_eq!(b.core.state().schedules.is_empty(), schedule_first, "it goes with its order");
        b.run_until(T0.plus(ORDER_LIFE + Duration::from_secs(4 * 3_600)));
        assert!(b.core.state().schedules.is_empty(), "or with its own time");
    }
}

#[test]
fn an_order_without_a_schedule_of_its_own_is_not_held_up_by_one() {
    let mut b = Site::new();
    b.schedule(times(1, 10, &[]));
    let order = b.install(1, false);
    b.poll();
    assert_eq!((b.outcome(order), b.now), (Some(Outcome::Installed), T0));
}

/// PROTOCOL 15.1
#[test]
fn the_newest_schedule_of_a_bundle_counts_whatever_comes_last() {
    let mut b = Site::new();
    b.schedule(times(1, 10, &[]));
    let order = b.install(1, true);
    b.poll();
    // The numbers are those of sending: this one was sent before the next, and comes after it.
    let late = b.sequence + 1;
    b.sequence += 1;
    b.schedule(times(1, 20, &[]));
    b.poll();
    b.order_numbered(late, Order::Schedule(times(1, 5, &[])));
    b.schedule(times(2, 1, &[]));
    b.run_until(hour(30));
    assert_eq!(b.hours_of(order), [20]);
    assert_eq!(b.waits(order), [(WaitReason::NotYet, 10), (WaitReason::NotYet, 20)]);
}

/// PROTOCOL 15.1, 11.6
#[test]
fn a_schedule_that_a_dropped_key_has_signed_counts_until_there_is_any_other() {
    let mut b = Site::new();
    b.order_numbered(u64::MAX, Order::Schedule(times(1, 300, &[])));
    b.poll();
    b.change_order_key();
    let order = b.install(1, true);
    b.run_until(hour(1));
    assert_eq!(b.waits(order), [(WaitReason::NotYet, 300)]);
    b.schedule(times(1, 2, &[]));
    b.run_until(hour(3));
    assert_eq!(b.hours_of(order), [2]);
}

#[test]
fn a_schedule_that_is_moved_closer_lets_its_order_begin_at_once() {
    let mut b = Site::new();
    let order = b.install(1, true);
    b.schedule(times(1, 200, &[]));
    b.run_until(hour(3));
    b.schedule(times(1, 0, &[]));
    b.run_until(hour(4));
    assert_eq!(b.hours_of(order), [3]);
}

/// PROTOCOL 15.3
#[test]
fn past_the_last_interval_or_without_a_schedule_an_order_ends_as_one_that_has_expired() {
    let mut b = Site::new();
    b.schedule(times(1, 0, &[(1, 2)]));
    b.leased = 1_000;
    let order = b.install(1, true);
    let without = b.install(2, true);
    b.run_until(hour(24));
    assert_eq!(b.outcome(order), expired(WaitReason::NotYet));
    assert!(b.waits(order).contains(&(WaitReason::Leased, 1)), "{:?}", b.waits(order));
    assert_eq!(b.outcome(without), None);
    b.run_until(T0.plus(ORDER_LIFE + Duration::from_secs(60)));
    assert_eq!(b.outcome(without), expired(WaitReason::NoSchedule));
    assert_eq!(b.begun, []);
    let mut b = Site::new();
    b.schedule(times(1, 15 * 24, &[]));
    let order = b.install(1, true);
    b.run_until(hour(16 * 24));
    assert_eq!((b.outcome(order), b.begun.len()), (expired(WaitReason::NotYet), 0));
    assert!(b.core.state().schedules.is_empty());
}

/// PROTOCOL 15.3
#[test]
fn an_order_that_comes_after_the_end_of_an_earlier_one_finds_the_schedule_that_came_while_that_one_ran() {
    for works in [true, false] {
        let mut b = Site::new();
        b.schedule(times(1, 0, &[]));
        let first = b.install(1, true);
        // The box is to restart, and does not until the manager has given the order up and mails another.
        b.exits.insert(Phase::Post, 76);
        b.poll();
        let offer = b.schedule(Schedule { fetch: true, ..times(1, 5, &[]) });
        b.run_until(hour(1).plus(Duration::from_secs(300)));
        assert!(matches!(b.outcome(first), Some(Outcome::RolledBack(_))), "{:?}", b.sent);
        b.exits.clear();
        b.run_until(hour(6));
        assert_eq!(b.fetches().first(), Some(&offer), "its bundle is not here any more");
        b.exits.insert(Phase::Verify, i32::from(!works));
        let second = b.install(1, true);
        b.run_until(hour(7));
        assert_eq!(b.waits(second), []);
        assert_eq!(b.outcome(second) == Some(Outcome::Installed), works);
        assert!(b.core.state().schedules.is_empty());
    }
}

/// PROTOCOL 15.3, 15.5
#[test]
fn a_schedule_that_was_moved_is_no_offer_of_what_was_installed_by_it() {
    let mut b = Site::new();
    b.schedule(times(1, 10, &[]));
    let order = b.install(1, true);
    b.poll();
    b.schedule(Schedule { fetch: true, ..times(1, 2, &[]) });
    b.run_until(hour(40));
    assert_eq!((b.outcome(order), b.fetches()), (Some(Outcome::Installed), vec![]));
    assert!(!b.core.state().has_waiting());
}

/// PROTOCOL 15.2
#[test]
fn what_hinders_it_for_the_whole_interval_is_tried_again_in_the_next() {
    for phase in [Phase::Check, Phase::Pre] {
        let mut b = Site::new();
        b.schedule(times(1, 0, &[(1, 3), (25, 27)]));
        let order = b.install(1, true);
        b.exits.insert(phase, 75);
        b.run_until(hour(20));
        assert!(b.hours_of(order).iter().all(|hour| (1..3).contains(hour)), "{:?}", b.begun);
        let told = [(WaitReason::NotYet, 1), (WaitReason::ScriptSaysNotNow, 1), (WaitReason::NotYet, 25)];
        assert_eq!(b.waits(order), told, "{phase}");
        b.exits.clear();
        b.run_until(hour(30));
        assert_eq!(b.hours_of(order).last(), Some(&25));
        assert_eq!(b.outcome(order), Some(Outcome::Installed));
    }
}

/// PROTOCOL 15.2
#[test]
fn what_has_begun_goes_on_when_its_interval_is_over() {
    let mut b = Site::new();
    b.schedule(times(1, 0, &[(1, 2)]));
    let order = b.install(1, true);
    // The box is to restart, and does not.
    b.exits.insert(Phase::Post, 76);
    b.run_until(hour(1).plus(Duration::from_secs(1_800)));
    b.schedule(times(1, 300, &[]));
    b.run_until(hour(4));
    let Some(Outcome::RolledBack(failure)) = b.outcome(order) else { panic!("{:?}", b.sent) };
    assert_eq!((failure.cause, b.hours_of(order)), (Cause::NotRestarted, vec![1]));
}

/// PROTOCOL 15.4
#[test]
fn a_waiting_order_holds_up_no_other_and_never_undoes_a_newer_one() {
    let mut b = Site::new();
    b.schedule(times(1, 10, &[]));
    let tonight = b.install(1, true);
    let failing = b.install(2, false);
    b.exits.insert(Phase::Verify, 1);
    b.poll();
    assert!(matches!(b.outcome(failing), Some(Outcome::RolledBack(_))));
    assert_eq!(b.outcome(tonight), None, "what failed has changed nothing");
    b.exits.clear();
    let urgent = b.install(3, false);
    b.poll();
    assert_eq!(b.outcome(urgent), Some(Outcome::Installed));
    assert_eq!(b.outcome(tonight), Some(Outcome::Refused(Refusal::Superseded)));
    b.run_until(hour(20));
    assert_eq!(b.core.state().installed.as_ref().unwrap().software_version, version(3));
}

#[test]
fn an_order_that_waits_between_two_intervals_is_still_the_older_one() {
    let mut b = Site::new();
    b.schedule(times(1, 0, &[(1, 2), (25, 26)]));
    b.schedule(times(2, 1, &[(1, 2), (25, 26)]));
    let first = b.install(1, true);
    let second = b.install(2, true);
    b.exits.insert(Phase::Check, 75);
    b.run_until(hour(5));
    b.exits.clear();
    b.run_until(hour(30));
    assert_eq!((b.outcome(first), b.outcome(second)), (Some(Outcome::Installed), Some(Outcome::Installed)));
    assert_eq!(b.core.state().installed.as_ref().unwrap().software_version, version(2));
}

#[test]
fn an_order_that_waits_for_its_time_can_be_withdrawn_and_so_can_a_schedule() {
    let mut b = Site::new();
    let schedule = b.schedule(times(1, 10, &[]));
    let order = b.install(1, true);
    b.poll();
    let offer = b.schedule(Schedule { fetch: true, ..times(2, 10, &[]) });
    for named in [order, order, offer, schedule] {
        b.cancel(named);
        b.poll();
    }
    b.run_until(hour(20));
    assert_eq!(b.outcome(order), Some(Outcome::Refused(Refusal::Cancelled)));
    let answer = |report: &Report| if let Report::Cancelled(c) = report { Some(c.result) } else { None };
    let answers: Vec<CancelResult> = b.sent.values().filter_map(answer).collect();
    use CancelResult::{BeforeStart, TooLate};
    assert_eq!(answers, [BeforeStart, TooLate, BeforeStart, TooLate]);
    assert_eq!((b.begun.len(), b.fetches().len()), (0, 0));
}

/// PROTOCOL 15.5
#[test]
fn an_offered_bundle_is_asked_for_when_its_time_comes_and_once_more_after_half_an_hour() {
    let mut b = Site::new();
    let offer = Schedule { fetch: true, ..times(1, 5, &[(10, 12), (34, 36)]) };
    let schedule = b.schedule(offer.clone());
    b.run_until(hour(9));
    assert_eq!(b.fetches(), []);
    b.run_until(hour(10));
    assert_eq!(b.fetches(), [schedule]);
    b.start();
    b.run_until(hour(48));
    assert_eq!(b.fetches(), [schedule, schedule]);
    // Another schedule is another request; a bundle that comes needs no second one.
    let moved = b.schedule(Schedule { intervals: vec![], not_before: hour(50), ..offer });
    b.run_until(hour(50));
    assert_eq!(b.fetches()[2..], [moved]);
    let order = b.install(1, true);
    b.run_until(hour(60));
    assert_eq!((b.fetches().len(), b.outcome(order)), (3, Some(Outcome::Installed)));
}

#[test]
fn no_more_schedules_are_kept_than_the_limit_and_those_of_waiting_orders_stay() {
    let mut b = Site::new();
    b.schedule(times(1, 10, &[]));
    let order = b.install(1, true);
    b.poll();
    for n in 2..60 {
        b.schedule(times(n, 10, &[]));
        b.poll();
        assert!(b.core.state().schedules.len() <= 18);
    }
    assert!(b.core.state().schedules.contains_key(&bundle(59)));
    b.run_until(hour(11));
    assert_eq!(b.outcome(order), Some(Outcome::Installed));
}

/// PROTOCOL 15.1 to 15.5, 16.3: save before you speak, and do nothing twice.
#[test]
fn a_power_cut_between_any_two_effects_loses_no_schedule_no_request_and_no_test() {
    let play = |cut: Option<u32>| {
        let mut b = Site::new();
        b.test = Some(crate::site::a_test());
        b.test_end = ScriptEnd::Exit(4);
        b.effects = 0;
        b.cut_after = cut;
        b.schedule(Schedule { fetch: true, ..times(1, 0, &[(1, 2), (25, 27)]) });
        b.leased = 1;
        b.run_until(hour(3));
        let order = b.install(1, true);
        b.run_until(hour(4));
        b.run_until(hour(28));
        let test = b.order_test(1);
        b.run_until(hour(29));
        assert_eq!(b.outcome(order), Some(Outcome::Installed), "cut {cut:?}");
        assert_eq!(b.waits(order)[0], (WaitReason::NotYet, 25), "cut {cut:?}");
        assert!(b.hours_of(order).iter().all(|hour| (25..27).contains(hour)), "cut {cut:?}: {:?}", b.begun);
        assert_eq!(b.fetches().len(), 2, "cut {cut:?}");
        assert_eq!(b.results_of(test).len(), 1, "cut {cut:?}");
        assert!(b.core.state().schedules.is_empty() && b.core.state().tests.is_empty());
        b.effects
    };
    let effects = play(None);
    assert!(effects > 40, "{effects}");
    for cut in 0..effects {
        play(Some(cut));
    }
}
