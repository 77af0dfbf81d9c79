//! Behaviour of campaigns: plan and apply together, as the daemon uses them.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod desk;

use core::time::Duration;
use std::collections::BTreeMap;

use manager_core::delivery::Cause;
use manager_core::{
    Action, Applied, CampaignState, Reason, TargetEvent, TargetState, Trouble, WaitingFor, plan,
};
use proptest::prelude::*;
use shared::message::{
    CancelAnswer, CancelResult, Ended, Outcome, PartsWanted, Progress, Refusal, Report, Reported, Step,
    Versions, WaitReason, Waiting,
};
use shared::{EnvelopeId, Label, Span, Spans};

use desk::{Desk, LIFE, SETTLE, T0, TIMEOUT, failure, goal, id, report_of, trouble, version};

#[test]
fn all_targets_get_one_order_and_after_the_settle_time_one_query() {
    let mut desk = Desk::new(3, 0);
    let waiting = desk.tick();
    assert_eq!(desk.mails("install"), [3]);
    assert!(matches!(waiting[&id(1)], WaitingFor::Settling { .. }));
    desk.pass(SETTLE - Duration::from_secs(1));
    assert_eq!(desk.mails("query"), [0usize; 0]);
    let waiting = desk.pass(Duration::from_secs(1));
    assert_eq!(desk.mails("query"), [3]);
    assert!(matches!(waiting[&id(1)], WaitingFor::Answer { .. }));
    for n in 1..=3 {
        desk.versions(n, goal());
    }
    desk.tick();
    assert_eq!(desk.campaign.state, CampaignState::Finished);
    assert!((1..=3).all(|n| desk.state(n) == TargetState::Verified));
}

#[test]
fn another_version_fails_and_no_answer_is_silent() {
    let mut desk = Desk::new(3, 0);
    desk.tick();
    desk.pass(SETTLE);
    desk.versions(1, goal());
    desk.versions(2, Reported::Mixed(version("1.0.02-0")));
    desk.pass(TIMEOUT);
    assert_eq!(desk.state(1), TargetState::Verified);
    assert!(matches!(desk.target(2).reason, Some(Reason::OtherVersion(Reported::Mixed(_)))));
    assert_eq!(desk.state(3), TargetState::Silent);
    assert_eq!(desk.campaign.state, CampaignState::Finished);
}

#[test]
fn those_without_an_answer_are_asked_once_more_at_half_time() {
    let mut desk = Desk::new(2, 0);
    desk.tick();
    desk.pass(SETTLE);
    desk.versions(1, goal());
    desk.pass(TIMEOUT / 2);
    assert_eq!(desk.mails("query"), [2, 1]);
    desk.versions(2, goal());
    desk.tick();
    assert_eq!(desk.campaign.state, CampaignState::Finished);
}

#[test]
fn only_the_failed_are_mailed_again_in_one_go() {
    let mut desk = Desk::new(4, 1);
    desk.tick();
    desk.ended(1, failure(), Reported::Nothing);
    desk.ended(2, failure(), Reported::Nothing);
    assert!(matches!(desk.tick()[&id(1)], WaitingFor::Round));
    assert_eq!(desk.mails("install"), [4], "nothing is repeated while others are on their way");
    desk.pass(SETTLE);
    desk.versions(3, goal());
    desk.versions(4, goal());
    desk.tick();
    assert_eq!(desk.mails("install"), [4, 2]);
    desk.ended(1, failure(), Reported::Nothing);
    desk.ended(2, Outcome::Installed, goal());
    desk.pass(SETTLE);
    desk.versions(2, goal());
    desk.tick();
    assert_eq!(desk.campaign.state, CampaignState::Finished);
    assert_eq!(desk.state(1), TargetState::Failed);
    assert_eq!(desk.target(1).attempts, 2);
    // The operator's retry is one more attempt, for the failed one only.
    assert_eq!(desk.campaign.retry(), [id(1)]);
    desk.tick();
    assert_eq!(desk.mails("install"), [4, 2, 1]);
}

#[test]
fn agents_that_the_bundle_is_not_for_are_not_mailed_and_not_retried() {
    let mut desk = Desk::new(4, 3);
    desk.campaign.bundle.classes = vec![Label::lossy("office")];
    desk.campaign.bundle.from = vec![version("1.0.00-0")];
    desk.fleet.get_mut(&id(1)).unwrap().classes.clear();
    desk.fleet.get_mut(&id(2)).unwrap().version = Some(Reported::Exact(version("9.9.99-9")));
    desk.fleet.get_mut(&id(3)).unwrap().enrolled = false;
    desk.tick();
    assert_eq!(desk.mails("install"), [1]);
    assert_eq!(desk.target(1).reason, Some(Reason::WrongClass));
    assert!(matches!(desk.target(2).reason, Some(Reason::WrongFromVersion(_))));
    assert_eq!(desk.target(3).reason, Some(Reason::NotEnrolled));
    desk.pass(SETTLE);
    desk.versions(4, goal());
    desk.tick();
    assert_eq!(desk.campaign.state, CampaignState::Finished);
}

#[test]
fn a_relay_that_delays_one_mail_does_not_hold_up_the_others() {
    let mut desk = Desk::new(2, 0);
    let made = plan(&desk.campaign, &desk.fleet, desk.now);
    assert_eq!(made.actions, [Action::Install { agents: vec![id(1), id(2)] }]);
    let order = EnvelopeId([9; 16]);
    for n in 1..=2 {
        desk.campaign.apply(T0, &id(n), &TargetEvent::OrderQueued(order));
    }
    desk.campaign.apply(T0, &id(1), &TargetEvent::Sent(order));
    let trouble = Trouble { cause: Cause::Other, text: "450 4.3.0 try again".to_owned() };
    desk.campaign.apply(T0, &id(2), &TargetEvent::Delayed(order, trouble, T0.plus(SETTLE)));
    let waiting = desk.pass(SETTLE);
    assert_eq!(desk.mails("query"), [1]);
    assert!(waiting[&id(2)].to_string().contains("450 4.3.0"));
    desk.versions(1, goal());
    desk.pass(LIFE);
    assert_eq!(desk.state(2), TargetState::Expired);
    assert_eq!(desk.campaign.state, CampaignState::Finished);
}

#[test]
fn a_query_that_cannot_be_mailed_ends_its_target() {
    let mut desk = Desk::new(2, 0);
    desk.tick();
    let query = EnvelopeId([99; 16]);
    for n in 1..=2 {
        desk.campaign.apply(desk.now, &id(n), &TargetEvent::QueryQueued(query));
    }
    desk.campaign.apply(desk.now, &id(1), &TargetEvent::Refused(query, trouble(Cause::UnknownMailbox)));
    assert_eq!(desk.state(1), TargetState::Undeliverable);
    assert_eq!(desk.tick()[&id(2)], WaitingFor::QueryMail);
    desk.pass(LIFE);
    assert_eq!(desk.state(2), TargetState::Expired);
}

#[test]
fn a_deferral_is_no_failure_and_the_settle_time_begins_with_the_install() {
    let mut desk = Desk::new(1, 0);
    desk.tick();
    let waiting = Waiting { reason: WaitReason::ScriptSaysNotNow, until: T0.plus(LIFE), about: None };
    let order = desk.target(1).order().unwrap();
    desk.report(1, Report::Progress(Progress { order, step: Step::Waiting(waiting) }));
    let reasons = desk.pass(SETTLE + TIMEOUT);
    assert_eq!(desk.state(1), TargetState::Deferred);
    assert!(reasons[&id(1)].to_string().contains("not now"));
    desk.ended(1, Outcome::Installed, goal());
    desk.tick();
    assert_eq!(desk.mails("query"), [0usize; 0]);
    desk.pass(SETTLE);
    assert_eq!(desk.mails("query"), [1]);
}

/// An agent that has said that parts of its order are missing.
fn lacking_parts() -> (Desk, EnvelopeId) {
    let mut desk = Desk::new(1, 0);
    desk.tick();
    let waiting = Waiting { reason: WaitReason::PartsMissing, until: T0.plus(LIFE), about: None };
    let order = desk.target(1).order().unwrap();
    desk.report(1, Report::Progress(Progress { order, step: Step::Waiting(waiting) }));
    (desk, order)
}

#[test]
fn who_lacks_parts_is_shown_with_what_has_come_and_settles_when_all_has() {
    let (mut desk, order) = lacking_parts();
    let mut missing = Spans::default();
    missing.add(Span { from: 10_000_000, until: 48_000_000 });
    desk.report(1, Report::Parts(PartsWanted { order, body_bytes: 48_000_000, missing, here: None }));
    let reasons = desk.pass(SETTLE + TIMEOUT);
    assert_eq!(desk.state(1), TargetState::Deferred);
    assert!(reasons[&id(1)].to_string().contains("10.0 of 48.0 MB are here"), "{}", reasons[&id(1)]);
    desk.report(1, Report::Progress(Progress { order, step: Step::Received }));
    assert_eq!(desk.state(1), TargetState::Received);
    desk.tick();
    assert_eq!(desk.mails("query"), [0usize; 0]);
    desk.pass(SETTLE);
    assert_eq!(desk.mails("query"), [1]);
}

#[test]
fn who_lacked_parts_and_falls_silent_is_asked_for_its_version() {
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    let (mut desk, _) = lacking_parts();
    desk.pass(hours(13));
    assert_eq!((desk.state(1), desk.mails("query")), (TargetState::Deferred, vec![]));
    desk.pass(hours(1) + SETTLE);
    assert_eq!(desk.mails("query"), [1]);
    desk.versions(1, goal());
    assert_eq!(desk.state(1), TargetState::Verified);
    // It says nothing to that either.
    let (mut desk, _) = lacking_parts();
    desk.pass(hours(14) + SETTLE);
    desk.pass(TIMEOUT);
    assert_eq!(desk.state(1), TargetState::Silent);
}

#[test]
fn a_late_word_on_the_last_order_does_not_keep_a_retried_target_for_ever() {
    let waiting = Waiting { reason: WaitReason::ScriptSaysNotNow, until: T0, about: None };
    for step in [Step::Received, Step::Waiting(waiting)] {
        let mut desk = Desk::new(1, 0);
        desk.tick();
        desk.pass(SETTLE);
        desk.pass(TIMEOUT);
        assert_eq!(desk.state(1), TargetState::Silent);
        desk.campaign.retry();
        // Before the new order is made, the box speaks of the one before; then the relay is gone.
        let order = desk.target(1).order().unwrap();
        desk.report(1, Report::Progress(Progress { order, step }));
        let query = EnvelopeId([99; 16]);
        if desk.state(1) == TargetState::Received {
            desk.campaign.apply(desk.now, &id(1), &TargetEvent::QueryQueued(query));
        }
        desk.pass(LIFE);
        assert_eq!(desk.state(1), TargetState::Expired);
    }
}

#[test]
fn a_retried_target_that_speaks_of_its_last_order_is_called_back_when_cancelled() {
    let mut desk = Desk::new(1, 0);
    desk.tick();
    desk.pass(SETTLE);
    desk.pass(TIMEOUT);
    desk.campaign.retry();
    let order = desk.target(1).order().unwrap();
    desk.report(1, Report::Progress(Progress { order, step: Step::Received }));
    desk.campaign.cancel();
    assert_eq!(desk.state(1), TargetState::Received);
    let made = plan(&desk.campaign, &desk.fleet, desk.now);
    assert_eq!(made.actions, [Action::Withdraw { agents: vec![id(1)] }]);
    desk.campaign.apply(desk.now, &id(1), &TargetEvent::CancelQueued(EnvelopeId([99; 16])));
    desk.pass(LIFE);
    assert_eq!(desk.state(1), TargetState::Cancelled);
}

#[test]
fn a_box_that_is_replaced_while_it_put_the_install_off_is_asked_and_mailed_again() {
    let mut desk = Desk::new(1, 1);
    desk.tick();
    let waiting = Waiting { reason: WaitReason::ScriptSaysNotNow, until: T0.plus(LIFE), about: None };
    let order = desk.target(1).order().unwrap();
    desk.report(1, Report::Progress(Progress { order, step: Step::Waiting(waiting) }));
    desk.pass(TIMEOUT);
    // The order was sealed for the old box: the new one cannot even open it.
    desk.campaign.apply(desk.now, &id(1), &TargetEvent::Reenrolled);
    desk.sequence = 0;
    desk.tick();
    desk.pass(SETTLE);
    assert_eq!(desk.mails("query"), [1]);
    desk.versions(1, Reported::Nothing);
    desk.tick();
    assert_eq!(desk.mails("install"), [1, 1]);
}

#[test]
fn agents_of_a_newer_campaign_are_not_mailed_the_older_bundle_again_by_themselves() {
    let mut desk = Desk::new(2, 2);
    desk.tick();
    desk.campaign.overtaken_by_newer(&[id(1)]);
    desk.pass(SETTLE);
    let newer = Reported::Exact(version("1.0.03-0"));
    desk.versions(1, newer.clone());
    desk.versions(2, newer);
    desk.tick();
    assert_eq!(desk.mailed.last().unwrap().1, [id(2)]);
    assert_eq!(desk.state(1), TargetState::Failed);
    // The operator may want just that.
    desk.pass(SETTLE);
    desk.versions(2, goal());
    desk.tick();
    assert_eq!(desk.campaign.state, CampaignState::Finished);
    assert_eq!(desk.campaign.retry(), [id(1)]);
    desk.tick();
    assert_eq!(desk.mailed.last().unwrap().1, [id(1)]);
}

#[test]
fn a_bounce_says_nothing_of_an_install_and_a_signed_report_outweighs_it() {
    let mut desk = Desk::new(2, 2);
    desk.tick();
    let order = desk.target(1).order().unwrap();
    let bounce = || TargetEvent::Bounced(order, trouble(Cause::UnknownMailbox));
    assert_eq!(
        desk.campaign.apply(T0, &id(1), &TargetEvent::Bounced(EnvelopeId([77; 16]), Trouble::default())),
        Applied::Ignored
    );
    desk.campaign.apply(T0, &id(1), &bounce());
    assert_eq!(desk.state(1), TargetState::Undeliverable);
    desk.ended(1, Outcome::Installed, goal());
    assert_eq!(desk.state(1), TargetState::Verified);
    // Once the agent itself was heard, a bounce is only noise.
    desk.report(2, Report::Progress(Progress { order, step: Step::Received }));
    assert_eq!(desk.campaign.apply(T0, &id(2), &bounce()), Applied::Ignored);
    assert_eq!(desk.state(2), TargetState::Received);
}

#[test]
fn a_late_report_of_a_silent_agent_corrects_the_verdict() {
    let mut desk = Desk::new(1, 0);
    desk.tick();
    desk.pass(SETTLE);
    desk.pass(TIMEOUT);
    assert_eq!((desk.state(1), desk.campaign.state), (TargetState::Silent, CampaignState::Finished));
    desk.ended(1, Outcome::Installed, goal());
    assert_eq!(desk.state(1), TargetState::Verified);
}

#[test]
fn an_overtaken_report_changes_nothing() {
    let mut desk = Desk::new(1, 0);
    desk.tick();
    desk.pass(SETTLE);
    let old = TargetEvent::Report {
        report: Box::new(Report::Versions(Versions {
            query: desk.target(1).query.as_ref().map(|a| a.ids[0]),
            versions: report_of(Reported::Nothing),
        })),
        sequence: 1,
    };
    desk.sequence = 5;
    desk.versions(1, goal());
    assert_eq!(desk.campaign.apply(desk.now, &id(1), &old), Applied::Ignored);
    assert_eq!(desk.state(1), TargetState::Verified);
}

#[test]
fn a_failure_of_an_earlier_round_does_not_end_the_present_one() {
    let mut desk = Desk::new(1, 1);
    desk.tick();
    let first = desk.target(1).order().unwrap();
    desk.pass(SETTLE);
    desk.pass(TIMEOUT);
    assert_eq!((desk.state(1), desk.target(1).attempts), (TargetState::Mailed, 2));
    let late = Report::Ended(Ended {
        order: first,
        outcome: failure(),
        output: None,
        versions: report_of(Reported::Nothing),
    });
    desk.report(1, late);
    assert_eq!(desk.state(1), TargetState::Mailed);
}

#[test]
fn cancelling_ends_the_unmailed_at_once_and_withdraws_the_rest() {
    let mut desk = Desk::new(2, 0);
    let order = EnvelopeId([9; 16]);
    for n in 1..=2 {
        desk.campaign.apply(T0, &id(n), &TargetEvent::OrderQueued(order));
    }
    desk.campaign.apply(T0, &id(1), &TargetEvent::Sent(order));
    desk.campaign.cancel();
    assert_eq!(desk.state(2), TargetState::Cancelled);
    desk.tick();
    assert_eq!(desk.mails("cancel"), [1]);
    // Too late: the install was running; its own report is the truth.
    desk.ended(1, Outcome::Installed, goal());
    desk.tick();
    assert_eq!(desk.state(1), TargetState::Verified);
}

#[test]
fn an_order_that_was_being_handed_over_while_it_was_cancelled_is_called_back() {
    let mut desk = Desk::new(1, 0);
    let order = EnvelopeId([9; 16]);
    desk.campaign.apply(T0, &id(1), &TargetEvent::OrderQueued(order));
    desk.campaign.cancel();
    assert_eq!(desk.state(1), TargetState::Cancelled);
    desk.campaign.apply(T0, &id(1), &TargetEvent::Sent(order));
    desk.tick();
    assert_eq!((desk.state(1), desk.mails("cancel")), (TargetState::Mailed, vec![1]));
}

#[test]
fn an_order_that_the_relay_was_asked_to_take_is_called_back_even_if_its_answer_was_never_written_down() {
    let mut desk = Desk::new(2, 0);
    let order = EnvelopeId([9; 16]);
    for n in 1..=2 {
        desk.campaign.apply(T0, &id(n), &TargetEvent::OrderQueued(order));
    }
    desk.campaign.apply(T0, &id(1), &TargetEvent::Trying(order));
    // The daemon is killed here, after the relay has taken the mail.
    desk.campaign.cancel();
    assert_eq!((desk.state(1), desk.state(2)), (TargetState::Queued, TargetState::Cancelled));
    desk.tick();
    assert_eq!(desk.mails("cancel"), [1]);
}

#[test]
fn an_agent_that_is_removed_on_the_way_ends_and_holds_nobody_up() {
    for cancelled in [false, true] {
        let mut desk = Desk::new(2, 3);
        desk.tick();
        desk.fleet.get_mut(&id(1)).unwrap().enrolled = false;
        if cancelled {
            desk.campaign.cancel();
        }
        desk.tick();
        let expected = if cancelled { TargetState::Cancelled } else { TargetState::Failed };
        assert_eq!(desk.state(1), expected);
        assert!(cancelled || desk.target(1).reason == Some(Reason::NotEnrolled));
        desk.pass(SETTLE);
        assert_eq!(desk.mails(if cancelled { "cancel" } else { "query" }), [1]);
    }
}

#[test]
fn a_withdrawal_that_cannot_be_mailed_is_not_waited_for() {
    let mut desk = Desk::new(1, 0);
    desk.tick();
    desk.campaign.cancel();
    let withdrawal = EnvelopeId([98; 16]);
    desk.campaign.apply(T0, &id(1), &TargetEvent::CancelQueued(withdrawal));
    desk.campaign.apply(T0, &id(1), &TargetEvent::Refused(withdrawal, trouble(Cause::UnknownMailbox)));
    assert_eq!(desk.state(1), TargetState::Undeliverable);
}

#[test]
fn the_cause_of_a_failure_is_kept_although_its_report_was_overtaken() {
    let mut desk = Desk::new(1, 0);
    desk.tick();
    let order = desk.target(1).order().unwrap();
    desk.pass(SETTLE);
    desk.sequence = 5;
    desk.versions(1, Reported::Nothing);
    assert!(matches!(desk.target(1).reason, Some(Reason::OtherVersion(_))));
    let ended = |outcome| {
        let ended = Ended { order, outcome, output: None, versions: report_of(goal()) };
        TargetEvent::Report { report: Box::new(Report::Ended(ended)), sequence: 2 }
    };
    // The newer report has said what is there: an older "installed" does not outweigh it.
    assert_eq!(desk.campaign.apply(desk.now, &id(1), &ended(Outcome::Installed)), Applied::Ignored);
    desk.campaign.apply(desk.now, &id(1), &ended(failure()));
    assert!(matches!(desk.target(1).reason, Some(Reason::RolledBack(_))));
}

#[test]
fn a_bounced_order_is_mailed_again_with_the_failed_ones() {
    let mut desk = Desk::new(1, 1);
    desk.tick();
    let order = desk.target(1).order().unwrap();
    desk.campaign.apply(T0, &id(1), &TargetEvent::Bounced(order, trouble(Cause::NoRoute)));
    desk.tick();
    assert_eq!((desk.mails("install"), desk.state(1)), (vec![1, 1], TargetState::Mailed));
    let order = desk.target(1).order().unwrap();
    desk.campaign.apply(T0, &id(1), &TargetEvent::Bounced(order, trouble(Cause::NoRoute)));
    desk.tick();
    assert_eq!((desk.state(1), desk.campaign.state), (TargetState::Undeliverable, CampaignState::Finished));
}

#[test]
fn a_withdrawn_order_without_an_answer_is_closed_and_a_late_report_still_counts() {
    let mut desk = Desk::new(2, 0);
    desk.tick();
    desk.campaign.cancel();
    desk.tick();
    desk.pass(TIMEOUT);
    assert_eq!(desk.state(1), TargetState::Cancelled);
    desk.versions(1, goal());
    assert_eq!(desk.state(1), TargetState::Verified);
    assert_eq!(desk.state(2), TargetState::Cancelled);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_target_reaches_an_end_and_verified_needs_a_report_of_the_target_version(
        events in prop::collection::vec((1usize..4, 0u8..13, 0u64..4_000), 0..40),
        retries in 0u32..3,
    ) {
        let mut desk = Desk::new(3, retries);
        let mut good: BTreeMap<usize, bool> = BTreeMap::new();
        desk.tick();
        for (n, kind, seconds) in events {
            let order = desk.target(n).order();
            let before = desk.state(n);
            match (kind, order) {
                (0, _) => { desk.versions(n, goal()); good.insert(n, true); }
                (1, _) => { desk.versions(n, Reported::Nothing); }
                (2, Some(_)) => { desk.ended(n, Outcome::Installed, goal()); good.insert(n, true); }
                (3, Some(_)) => { desk.ended(n, failure(), Reported::Nothing); }
                (4, Some(order)) => {
                    let waiting = Waiting { reason: WaitReason::NoSpace, until: desk.now.plus(SETTLE), about: None };
                    desk.report(n, Report::Progress(Progress { order, step: Step::Waiting(waiting) }));
                }
                (5, Some(order)) => { desk.campaign.apply(desk.now, &id(n), &TargetEvent::Bounced(order, Trouble::default())); }
                (7, Some(_)) => { desk.ended(n, Outcome::Refused(Refusal::Cancelled), Reported::Nothing); }
                (8, Some(order)) => { desk.report(n, Report::Cancelled(CancelAnswer { order, result: CancelResult::Unknown })); }
                (6, Some(order)) => { desk.report(n, Report::Progress(Progress { order, step: Step::Received })); }
                (9, Some(order)) => { desk.campaign.apply(desk.now, &id(n), &TargetEvent::Stuck(order, trouble(Cause::NoRoute))); }
                (10, Some(envelope)) => {
                    let (trouble, at, to_second) = (trouble(Cause::MailboxFull), desk.now.plus(SETTLE), seconds % 2 == 0);
                    desk.campaign.apply(desk.now, &id(n), &TargetEvent::Remailed { envelope, trouble, at, to_second });
                }
                (11, Some(order)) => { desk.campaign.apply(desk.now, &id(n), &TargetEvent::Sent(order)); }
                _ => {}
            }
            if before == TargetState::Verified {
                prop_assert_eq!(desk.state(n), TargetState::Verified);
            }
            prop_assert!(desk.state(n) != TargetState::Verified || good.contains_key(&n));
            desk.pass(Duration::from_secs(seconds));
        }
        for _ in 0..20 {
            desk.pass(LIFE);
        }
        prop_assert_eq!(desk.campaign.state, CampaignState::Finished);
        prop_assert!(desk.campaign.targets.values().all(|t| t.state.is_end()));
    }
}
