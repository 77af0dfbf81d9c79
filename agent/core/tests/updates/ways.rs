//! What becomes of one device: each way that a transfer can go, and what is said of it.

use core::time::Duration;
use std::collections::VecDeque;

use agent_core::{DeviceWant, Readiness};
use shared::message::{DeviceAction, DeviceChoice, Order, UpdateReason, UpdateState};

use crate::site::{Box9, Fate, MINUTE, Site, device, label, minute};

fn one(fates: &[Fate]) -> Site {
    let mut site = Site::new(&["a"]);
    site.fates("a", fates);
    site.begin();
    site
}

fn truly(site: &mut Site) -> &mut Box9 {
    site.devices.get_mut(&device("a")).unwrap()
}

// PROTOCOL 18.3
#[test]
fn nothing_is_sent_without_a_plan() {
    let mut site = Site::new(&["a"]);
    site.run_until(minute(600));
    assert!(site.core.state().updates.list.is_empty() && site.pushes("a") == 0);
}

// R10, PROTOCOL 18.8
#[test]
fn a_device_is_done_when_it_shows_the_new_version_itself() {
    let mut site = one(&[Fate::Takes]);
    site.run_until(minute(4));
    assert_eq!((site.state("a"), site.pushes("a")), (UpdateState::Restarting, 1));
    site.run_until(minute(40));
    assert_eq!(site.told()[&("a".to_owned(), "main".to_owned())], (UpdateState::Done, None));
    let last = site.sent.last().unwrap();
    let row = &last.updates[0];
    assert!(last.all, "when nothing is left to do, all is said once more");
    assert_eq!((row.old.clone(), row.new.clone()), (Some(label("1")), Some(label("2"))));
    assert_eq!((row.sent_bytes, row.bytes, row.rate), (3_000_000, 3_000_000, Some(100_000)));
    assert!(row.begins.is_some() && row.ends > row.begins);
    assert_eq!(site.core.state().updates.rate, Some(100_000), "R6");
}

// PROTOCOL 18.8
#[test]
fn a_complete_transfer_that_changed_nothing_waits_for_the_manager() {
    let mut site = one(&[Fate::KeepsOld]);
    site.run_until(minute(600));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Unknown, Some(UpdateReason::StillOld)));
    assert_eq!(site.pushes("a"), 1, "nothing is sent twice without a proof");
    // PROTOCOL 18.9
    site.permit("a", 1);
    site.run_until(minute(620));
    assert_eq!(site.pushes("a"), 1, "as many as it has had are no permission");
    site.permit("a", 2);
    site.run_until(minute(700));
    assert_eq!((site.state("a"), site.pushes("a")), (UpdateState::Done, 2));
    site.permit("a", 2);
    site.run_until(minute(760));
    assert_eq!(site.pushes("a"), 2, "said again it changes nothing");
}

#[test]
fn a_transfer_that_broke_off_is_repeated_when_the_device_is_idle_with_the_old_version() {
    let mut site = Site::new(&["a"]);
    site.fates("a", &[Fate::CutShort, Fate::NotBegun, Fate::Takes]);
    truly(&mut site).silent = true;
    site.begin();
    site.run_until(minute(3));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Deferred, Some(UpdateReason::Silent)));
    truly(&mut site).silent = false;
    site.run_until(minute(120));
    assert_eq!((site.state("a"), site.pushes("a")), (UpdateState::Done, 2));
    assert_eq!(site.update("a").transfers, 2, "what never began does not count");
}

#[test]
fn a_device_that_is_silent_or_at_work_after_a_broken_transfer_gets_no_other_one() {
    let mut site = one(&[Fate::CutShort]);
    site.run_until(minute(2));
    truly(&mut site).busy = true;
    site.run_until(minute(60));
    assert_eq!((site.state("a"), site.pushes("a")), (UpdateState::Verifying, 1));
    let mut silent = one(&[Fate::CutShort]);
    silent.run_until(minute(2));
    truly(&mut silent).silent = true;
    silent.run_until(minute(60));
    assert_eq!((silent.state("a"), silent.why("a")), (UpdateState::Unknown, Some(UpdateReason::NotBack)));
}

#[test]
fn what_breaks_off_again_and_again_fails() {
    let mut site = one(&[Fate::NotBegun; 40]);
    site.run_until(minute(24 * 60 - 30));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Failed, Some(UpdateReason::TooOften)));
    assert_eq!(site.pushes("a"), 0);
}

#[test]
fn a_transfer_whose_end_nobody_knows_is_judged_by_what_the_device_shows() {
    let mut taken = one(&[Fate::UnclearTaken]);
    taken.run_until(minute(60));
    assert_eq!(taken.state("a"), UpdateState::Done);
    let mut not = one(&[Fate::UnclearNot]);
    not.run_until(minute(60));
    assert_eq!((not.state("a"), not.why("a")), (UpdateState::Unknown, Some(UpdateReason::EndNotKnown)));
    let mut repeatable = Site::with(&["a"], true);
    repeatable.fates("a", &[Fate::UnclearNot]);
    repeatable.begin();
    repeatable.run_until(minute(120));
    assert_eq!(
        (repeatable.state("a"), repeatable.pushes("a")),
        (UpdateState::Done, 2),
        "its maker says it does no harm"
    );
}

#[test]
fn a_version_that_nobody_sent_is_no_success() {
    let mut site = one(&[Fate::Other]);
    site.run_until(minute(60));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Unknown, Some(UpdateReason::OtherVersion)));
}

// PROTOCOL 18.10
#[test]
fn a_device_that_is_away_for_its_update_has_no_fault_and_one_that_stays_away_has() {
    let mut site = one(&[Fate::Takes]);
    site.run_until(minute(60));
    assert_eq!(site.faults, vec![], "what belongs to an update is no fault");
    let mut site = one(&[Fate::Dies]);
    site.run_until(minute(60));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Unknown, Some(UpdateReason::NotBack)));
    assert!(site.faults.contains(&(device("a"), "agent:not-back".to_owned(), true)), "{:?}", site.faults);
    // Somebody has switched it off and on.
    let revived = truly(&mut site);
    revived.dead = false;
    revived.versions.insert("main".to_owned(), "2".to_owned());
    site.run_until(minute(70));
    assert_eq!(site.state("a"), UpdateState::Done, "what it shows counts, whatever was believed");
    assert!(site.faults.contains(&(device("a"), "agent:not-back".to_owned(), false)), "{:?}", site.faults);
}

#[test]
fn a_refusal_ends_it_and_leaves_the_device_as_it_was() {
    let mut site = one(&[Fate::Refuses]);
    site.run_until(minute(60));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Failed, Some(UpdateReason::Refused)));
    assert_eq!((site.pushes("a"), site.update("a").transfers), (0, 0));
    // It was allowed at the device, and the manager permits another try.
    site.permit("a", 2);
    site.run_until(minute(120));
    assert_eq!(site.state("a"), UpdateState::Done);
}

// R7, R8, PROTOCOL 18.5
#[test]
fn a_device_holds_its_answer_back_and_its_state_moves_the_time() {
    let mut site = Site::new(&["a"]);
    truly(&mut site).answers = VecDeque::from([
        Readiness::Deferred(20 * MINUTE),
        Readiness::NotNow(label("printing"), None),
        Readiness::NotNow(label("jam"), Some(Duration::from_secs(30 * 60))),
    ]);
    site.begin();
    let told = |site: &Site| (site.state("a"), site.why("a"));
    site.run_until(minute(2));
    assert_eq!(told(&site), (UpdateState::Deferred, Some(UpdateReason::DeviceDefers)));
    site.run_until(minute(22));
    assert_eq!(told(&site), (UpdateState::Deferred, Some(UpdateReason::DeviceBusy)));
    site.run_until(minute(32));
    assert_eq!(site.pushes("a"), 0, "it was put off by a step, and then for as long as the device has said");
    site.run_until(minute(90));
    assert_eq!(site.state("a"), UpdateState::Done);
}

#[test]
fn an_image_that_was_altered_on_the_disk_is_never_sent() {
    let mut site = Site::new(&["a"]);
    site.image_is_bad = true;
    site.begin();
    site.run_until(minute(60));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Failed, Some(UpdateReason::BadFile)));
    assert_eq!(site.pushes("a"), 0);
}

// R9, PROTOCOL 18.13
#[test]
fn a_person_puts_it_off_as_far_as_the_plan_allows_or_cancels_it() {
    let mut site = Site::new(&["a"]);
    truly(&mut site).busy = true;
    let mut plan = site.plan();
    plan.defer_until = Some(minute(300));
    site.order(Order::DevicePlan(plan));
    site.run_until(minute(2));
    site.wish("a", DeviceWant::PutOff(minute(301)));
    assert_ne!(site.why("a"), Some(UpdateReason::PutOff), "longer than allowed");
    site.wish("a", DeviceWant::PutOff(minute(240)));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Deferred, Some(UpdateReason::PutOff)));
    truly(&mut site).busy = false;
    site.run_until(minute(239));
    assert_eq!(site.pushes("a"), 0);
    site.run_until(minute(300));
    assert_eq!(site.state("a"), UpdateState::Done);

    let mut site = Site::new(&["a"]);
    truly(&mut site).busy = true;
    site.begin();
    site.run_until(minute(2));
    site.wish("a", DeviceWant::Cancel);
    truly(&mut site).busy = false;
    site.begin();
    site.run_until(minute(120));
    assert_eq!(
        (site.state("a"), site.why("a")),
        (UpdateState::Cancelled, Some(UpdateReason::CancelledAtSite))
    );
    assert_eq!(site.pushes("a"), 0, "the manager's next plan does not take that back");
}

#[test]
fn the_manager_suspends_resumes_and_cancels_what_has_not_begun() {
    let mut site = Site::new(&["a", "b"]);
    let with = |site: &mut Site, action| {
        let mut plan = site.plan();
        plan.devices.insert(device("a"), DeviceChoice { action, ..DeviceChoice::default() });
        site.order(Order::DevicePlan(plan));
    };
    with(&mut site, DeviceAction::Suspend);
    site.run_until(minute(60));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Queued, Some(UpdateReason::Suspended)));
    assert_eq!(site.state("b"), UpdateState::Done, "others go on");
    with(&mut site, DeviceAction::Cancel);
    site.run_until(minute(70));
    assert_eq!(
        (site.state("a"), site.why("a")),
        (UpdateState::Cancelled, Some(UpdateReason::CancelledByManager))
    );
    with(&mut site, DeviceAction::Run);
    site.run_until(minute(140));
    assert_eq!(site.state("a"), UpdateState::Done);
}

// R11, PROTOCOL 18.4
#[test]
fn nothing_begins_that_cannot_end_in_its_window_or_before_its_expiry() {
    let mut site = Site::new(&["a"]);
    let mut plan = site.plan();
    // It takes 20 minutes and half of one.
    plan.intervals = vec![
        shared::message::Interval { from: minute(10), until: minute(30) },
        shared::message::Interval { from: minute(100), until: minute(130) },
    ];
    site.order(Order::DevicePlan(plan.clone()));
    site.run_until(minute(90));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Queued, Some(UpdateReason::NotYet)));
    let row = site.sent.last().unwrap().updates[0].clone();
    assert_eq!(row.begins, Some(minute(100)), "when it is expected to begin is said");
    site.run_until(minute(120));
    assert_eq!((site.state("a"), site.pushes("a")), (UpdateState::Done, 1));

    let mut late = Site::new(&["a"]);
    truly(&mut late).busy = true;
    plan.intervals.clear();
    plan.until = minute(60);
    late.order(Order::DevicePlan(plan));
    late.run_until(minute(45));
    truly(&mut late).busy = false;
    late.run_until(minute(59));
    assert_eq!(
        (late.state("a"), late.why("a"), late.pushes("a")),
        (UpdateState::Queued, Some(UpdateReason::TooShort), 0)
    );
    late.run_until(minute(90));
    assert_eq!((late.state("a"), late.pushes("a")), (UpdateState::Expired, 0));
    // A later plan gives it time again.
    late.begin();
    late.run_until(minute(150));
    assert_eq!(late.state("a"), UpdateState::Done);
}

// PROTOCOL 18.9
#[test]
fn what_was_allowed_and_never_began_is_taken_back_and_stays_unknown() {
    let mut site = one(&[Fate::KeepsOld]);
    site.run_until(minute(60));
    truly(&mut site).busy = true;
    site.permit("a", 2);
    site.run_until(minute(70));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Deferred, Some(UpdateReason::DeviceBusy)));
    site.permit("a", 1);
    truly(&mut site).busy = false;
    site.run_until(minute(120));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Unknown, Some(UpdateReason::StillOld)));
    assert_eq!(site.pushes("a"), 1);
}

// PROTOCOL 18.9
#[test]
fn what_was_allowed_is_taken_back_also_from_a_device_that_was_ready_or_sent_nothing() {
    let mut site = one(&[Fate::KeepsOld, Fate::NotBegun]);
    site.run_until(minute(60));
    site.permit("a", 2);
    site.run_until(minute(61));
    let told = |site: &Site| (site.state("a"), site.why("a"));
    assert_eq!(told(&site), (UpdateState::Deferred, Some(UpdateReason::Interrupted)));
    site.permit("a", 1);
    site.run_until(minute(120));
    assert_eq!(told(&site), (UpdateState::Unknown, Some(UpdateReason::StillOld)));
    assert_eq!(site.pushes("a"), 1, "what was ready is not sent anything without a proof");
}

#[test]
fn a_refusal_does_not_settle_what_became_of_the_transfer_before() {
    let mut site = one(&[Fate::KeepsOld, Fate::Refuses]);
    site.run_until(minute(60));
    site.permit("a", 2);
    site.run_until(minute(120));
    assert_eq!((site.state("a"), site.why("a")), (UpdateState::Unknown, Some(UpdateReason::StillOld)));
}
