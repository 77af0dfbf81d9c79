//! Behaviour of campaigns whose bundle has a delta (PROTOCOL 6.11): plan and apply together, as the daemon uses them.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod desk;

use core::time::Duration;

use manager_core::rollout::Times;
use manager_core::{Applied, CampaignState, Reason, TargetEvent, TargetState};
use shared::Label;
use shared::message::{Cause, Ended, Failure, Outcome, Phase, Refusal, Report, Reported};

use desk::{Desk, LIFE, SETTLE, TIMEOUT, goal, id, report_of};

fn desk(agents: usize) -> Desk {
    let mut desk = Desk::new(agents, 0);
    desk.fitting = Some(0);
    desk
}

/// What agents say that could not use a delta.
fn unusable() -> [Outcome; 3] {
    let why = Label::lossy("x");
    let bad = Failure { phase: Phase::Stage, cause: Cause::BadContent(why.clone()), undo_failed: false };
    [
        Outcome::Refused(Refusal::OtherBase(why.clone())),
        Outcome::Refused(Refusal::BadBundle(why)),
        Outcome::RolledBack(bad),
    ]
}

#[test]
fn who_cannot_use_a_delta_is_mailed_the_whole_bundle_and_no_attempt_counts() {
    for outcome in unusable() {
        let mut desk = desk(2);
        desk.tick();
        assert_eq!((desk.mails("delta"), desk.mails("install")), (vec![2], vec![]));
        desk.ended(1, outcome.clone(), Reported::Nothing);
        desk.tick();
        assert_eq!((desk.mails("delta"), desk.mails("install")), (vec![2], vec![1]), "{outcome:?}");
        assert_eq!((desk.target(1).attempts, desk.target(1).delta), (1, None));
        for n in [1, 2] {
            desk.ended(n, Outcome::Installed, goal());
        }
        desk.pass(SETTLE);
        for n in [1, 2] {
            desk.versions(n, goal());
        }
        desk.tick();
        assert_eq!(desk.campaign.state, CampaignState::Finished);
        assert!([1, 2].iter().all(|n| desk.state(*n) == TargetState::Verified));
    }
}

#[test]
fn a_second_copy_of_the_refusal_changes_nothing() {
    let mut desk = desk(1);
    desk.tick();
    let order = desk.target(1).order().unwrap();
    let [outcome, ..] = unusable();
    let ended = Ended { order, outcome, output: None, versions: report_of(Reported::Nothing) };
    assert_eq!(desk.report(1, Report::Ended(ended.clone())), Applied::Changed);
    let copy =
        TargetEvent::Report { report: Box::new(Report::Ended(ended.clone())), sequence: desk.sequence };
    assert_eq!(desk.campaign.apply(desk.now, &id(1), &copy), Applied::Ignored);
    desk.tick();
    // Nor does it say anything of the order that brings the whole.
    desk.report(1, Report::Ended(ended));
    assert_eq!(desk.state(1), TargetState::Mailed);
    assert_eq!((desk.mails("delta"), desk.mails("install")), (vec![1], vec![1]));
}

#[test]
fn a_refusal_that_a_newer_report_has_overtaken_still_brings_the_whole_bundle() {
    let mut desk = desk(1);
    desk.tick();
    desk.sequence = 9;
    desk.versions(1, Reported::Nothing);
    desk.sequence = 3;
    let [outcome, ..] = unusable();
    desk.ended(1, outcome, Reported::Nothing);
    desk.tick();
    assert_eq!(desk.mails("install"), [1]);
    assert_eq!(desk.target(1).heard, 10);
}

#[test]
fn the_whole_bundle_that_is_refused_is_refused() {
    let mut desk = desk(1);
    desk.fitting = None;
    desk.tick();
    let [_, outcome, _] = unusable();
    desk.ended(1, outcome, Reported::Nothing);
    desk.tick();
    assert_eq!(desk.state(1), TargetState::Failed);
    assert_eq!(desk.mails("install"), [1]);
}

#[test]
fn what_fails_in_a_delta_for_other_reasons_is_a_failure() {
    let mut desk = desk(1);
    desk.tick();
    desk.ended(1, desk::failure(), Reported::Nothing);
    desk.tick();
    assert_eq!(desk.state(1), TargetState::Failed);
    assert_eq!(desk.mails("install"), [0usize; 0]);
}

#[test]
fn a_schedule_goes_out_again_before_the_whole_bundle() {
    let mut desk = desk(1);
    let at = desk.now.plus(Duration::from_secs(3_600));
    desk.campaign.rollout.times = Times { install_at: Some(at), ..Times::default() };
    desk.tick();
    assert_eq!((desk.mails("schedule"), desk.mails("delta")), (vec![1], vec![1]));
    let [outcome, ..] = unusable();
    desk.ended(1, outcome, Reported::Nothing);
    desk.tick();
    assert_eq!((desk.mails("schedule"), desk.mails("install")), (vec![1, 1], vec![1]));
}

#[test]
fn a_campaign_that_is_cancelled_or_paused_mails_nothing_more() {
    let [outcome, ..] = unusable();
    let mut cancelled = desk(1);
    cancelled.tick();
    cancelled.campaign.cancel();
    cancelled.ended(1, outcome.clone(), Reported::Nothing);
    cancelled.tick();
    assert_eq!(cancelled.mails("install"), [0usize; 0]);
    assert!(cancelled.state(1).is_end());

    let mut paused = desk(1);
    paused.tick();
    paused.campaign.pause("not today", paused.now);
    paused.ended(1, outcome, Reported::Nothing);
    paused.pass(LIFE / 2);
    assert_eq!((paused.state(1), paused.mails("install")), (TargetState::Pending, vec![]));
    paused.campaign.resume(paused.now);
    paused.tick();
    assert_eq!(paused.mails("install"), [1]);
}

#[test]
fn who_was_called_silent_and_then_refuses_a_delta_gets_the_whole_when_it_is_tried_again() {
    let mut desk = desk(1);
    desk.tick();
    desk.pass(SETTLE);
    desk.pass(TIMEOUT);
    assert_eq!(desk.state(1), TargetState::Silent);
    let [outcome, ..] = unusable();
    desk.ended(1, outcome, Reported::Nothing);
    assert!(matches!(desk.target(1).reason, Some(Reason::Refused(Refusal::OtherBase(_)))));
    desk.campaign.retry();
    desk.tick();
    assert_eq!((desk.mails("delta"), desk.mails("install")), (vec![1], vec![1]));
}
