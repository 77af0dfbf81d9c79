//! What mail servers say, and what becomes of a campaign by that: who waits, who ends, who is explained.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod desk;

use core::time::Duration;

use manager_core::delivery::{Cause, FULL_PAUSE, RELAY_PATIENCE};
use manager_core::rollout::{Gate, HoldReason, Share, Survey};
use manager_core::{Applied, CampaignState, Reason, TargetEvent, TargetState, WaitingFor};
use shared::message::{Outcome, Progress, Refusal, Report, Reported, Step};

use desk::{Desk, SETTLE, T0, TIMEOUT, failure, goal, id, trouble};

/// A mail server on the way says of the order to agent `n` that it still tries.
fn stuck(desk: &mut Desk, n: usize, cause: Cause) -> Applied {
    let order = desk.target(n).order().unwrap();
    desk.campaign.apply(desk.now, &id(n), &TargetEvent::Stuck(order, trouble(cause)))
}

fn bounced(desk: &mut Desk, n: usize, cause: Cause) -> Applied {
    let order = desk.target(n).order().unwrap();
    desk.campaign.apply(desk.now, &id(n), &TargetEvent::Bounced(order, trouble(cause)))
}

fn again(desk: &mut Desk, n: usize, cause: Cause, to_second: bool) -> Applied {
    let envelope = desk.target(n).order().unwrap();
    let at = if to_second { desk.now } else { desk.now.plus(FULL_PAUSE) };
    let event = TargetEvent::Remailed { envelope, trouble: trouble(cause), at, to_second };
    desk.campaign.apply(desk.now, &id(n), &event)
}

fn arrived(desk: &mut Desk, n: usize) {
    let order = desk.target(n).order().unwrap();
    desk.report(n, Report::Progress(Progress { order, step: Step::Received }));
}

#[test]
fn an_order_that_is_stuck_on_its_way_waits_with_its_reason_and_is_not_called_silent() {
    let mut desk = Desk::new(2, 0);
    desk.tick();
    stuck(&mut desk, 1, Cause::MailboxFull);
    desk.pass(SETTLE);
    assert_eq!(desk.mails("query"), [1], "the one whose order is not there is not asked");
    desk.versions(2, goal());
    let since = T0.to_string();
    let waiting = desk.pass(SETTLE + TIMEOUT);
    assert_eq!(desk.state(1), TargetState::Mailed);
    let reason = waiting[&id(1)].to_string();
    assert!(reason.starts_with(&format!("mailbox full since {since}: ")), "{reason}");
    // The same again does not begin anew.
    stuck(&mut desk, 1, Cause::MailboxFull);
    assert!(desk.tick()[&id(1)].to_string().contains(&since));
    // It arrives after all: now its time to settle begins.
    arrived(&mut desk, 1);
    desk.tick();
    assert_eq!(desk.mails("query"), [1]);
    desk.pass(SETTLE);
    assert_eq!(desk.mails("query"), [1, 1]);
    desk.versions(1, goal());
    desk.tick();
    assert_eq!(desk.campaign.state, CampaignState::Finished);
}

#[test]
fn an_order_that_stays_stuck_expires_with_the_reason() {
    let mut desk = Desk::new(1, 0);
    let life = RELAY_PATIENCE / 2;
    desk.campaign.settings.order_life = life;
    desk.tick();
    stuck(&mut desk, 1, Cause::NoRoute);
    desk.pass(life);
    assert_eq!(desk.state(1), TargetState::Expired);
    let reason = desk.target(1).why(None).unwrap();
    assert_eq!(reason, "the order expired before it arrived: no route: said a mail server");
    assert_eq!(Survey::of(&desk.campaign, 0).silent, 0);
}

#[test]
fn a_mail_server_that_says_it_still_tries_and_then_nothing_is_not_believed_for_ever() {
    let mut desk = Desk::new(1, 0);
    desk.tick();
    stuck(&mut desk, 1, Cause::NoRoute);
    desk.pass(RELAY_PATIENCE - Duration::from_secs(1));
    assert!(desk.mails("query").is_empty());
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.mails("query"), [1]);
    desk.pass(TIMEOUT);
    assert_eq!(desk.state(1), TargetState::Silent);
    let reason = desk.target(1).why(None).unwrap();
    assert!(reason.contains("; its mail was still on its way (no route: "), "{reason}");
}

#[test]
fn what_is_heard_of_the_mail_after_the_verdict_explains_the_silence() {
    let mut desk = Desk::new(3, 0);
    desk.tick();
    desk.pass(SETTLE);
    arrived(&mut desk, 3);
    desk.pass(TIMEOUT);
    assert!((1..=3).all(|n| desk.state(n) == TargetState::Silent));
    stuck(&mut desk, 1, Cause::Greylisted);
    assert_eq!(desk.state(1), TargetState::Silent);
    let reason = desk.target(1).why(None).unwrap();
    assert!(reason.ends_with("; its mail was still on its way (greylisted: said a mail server)"), "{reason}");
    bounced(&mut desk, 1, Cause::Expired);
    bounced(&mut desk, 2, Cause::UnknownMailbox);
    assert_eq!([1, 2].map(|n| desk.state(n)), [TargetState::Undeliverable; 2]);
    let reason = desk.target(2).why(None).unwrap();
    assert_eq!(reason, "mail bounced, unknown mailbox: said a mail server");
    assert_eq!(
        bounced(&mut desk, 3, Cause::UnknownMailbox),
        Applied::Ignored,
        "it had said that the order came"
    );
    desk.ended(2, Outcome::Installed, goal());
    assert_eq!(desk.state(2), TargetState::Verified, "a signed report outweighs it (PROTOCOL 8.4)");
}

#[test]
fn a_full_mailbox_is_mailed_again_as_long_as_the_retries_last() {
    let mut desk = Desk::new(1, 1);
    desk.tick();
    assert!(desk.campaign.may_mail_again(&id(1)));
    again(&mut desk, 1, Cause::MailboxFull, false);
    assert_eq!((desk.state(1), desk.target(1).attempts), (TargetState::Queued, 2));
    assert!(!desk.campaign.may_mail_again(&id(1)), "one repetition was allowed");
    let waiting = desk.pass(SETTLE + TIMEOUT);
    let reason = waiting[&id(1)].to_string();
    assert!(reason.contains(&format!("; next try {}", T0.plus(FULL_PAUSE))), "{reason}");
    assert!(desk.mails("query").is_empty());
    let order = desk.target(1).order().unwrap();
    desk.now = T0.plus(FULL_PAUSE);
    desk.campaign.apply(desk.now, &id(1), &TargetEvent::Sent(order));
    assert_eq!(desk.state(1), TargetState::Mailed);
    desk.pass(SETTLE);
    assert_eq!(desk.mails("query"), [1]);
    desk.versions(1, goal());
    desk.tick();
    assert_eq!((desk.state(1), desk.mails("install")), (TargetState::Verified, vec![1]), "the same order");
}

#[test]
fn a_policy_without_retries_of_the_undeliverable_does_not_mail_a_full_mailbox_again() {
    let mut desk = Desk::new(1, 3);
    desk.campaign.rollout.retry.after = vec![TargetState::Failed];
    desk.tick();
    assert!(!desk.campaign.may_mail_again(&id(1)));
}

#[test]
fn what_nobody_can_deliver_is_not_mailed_in_another_round() {
    for (cause, tries) in [
        (Cause::UnknownMailbox, 1),
        (Cause::MailboxDisabled, 1),
        (Cause::RefusedByPolicy, 1),
        (Cause::TooBig, 1),
        (Cause::NoRoute, 2),
        (Cause::Expired, 2),
        (Cause::Other, 2),
    ] {
        let mut desk = Desk::new(1, 1);
        desk.tick();
        bounced(&mut desk, 1, cause);
        desk.tick();
        assert_eq!(desk.mails("install").len(), tries, "{cause:?}");
    }
}

#[test]
fn an_order_that_goes_to_the_second_address_counts_as_the_same_attempt_and_says_so() {
    let mut desk = Desk::new(1, 0);
    desk.tick();
    again(&mut desk, 1, Cause::UnknownMailbox, true);
    assert_eq!((desk.state(1), desk.target(1).attempts), (TargetState::Queued, 1));
    let order = desk.target(1).order().unwrap();
    desk.campaign.apply(desk.now, &id(1), &TargetEvent::Sent(order));
    assert_eq!(desk.state(1), TargetState::Mailed);
    let waiting = desk.tick();
    assert!(matches!(waiting[&id(1)], WaitingFor::Settling { .. }));
    let why = desk.target(1).why(Some("settling".to_owned())).unwrap();
    assert_eq!(
        why,
        "settling; mailed to the second address, as the first did not take it (unknown mailbox: said a mail server)"
    );
    bounced(&mut desk, 1, Cause::RefusedByPolicy);
    let why = desk.target(1).why(None).unwrap();
    assert!(why.contains("refused by policy") && why.contains("unknown mailbox"), "{why}");
    assert_eq!(desk.state(1), TargetState::Undeliverable);
}

#[test]
fn who_waits_for_a_mail_server_holds_up_nobody_who_failed() {
    let mut desk = Desk::new(2, 1);
    desk.tick();
    stuck(&mut desk, 1, Cause::MailboxFull);
    desk.ended(2, failure(), Reported::Nothing);
    desk.tick();
    assert_eq!(desk.mails("install"), [2, 1]);
}

#[test]
fn nothing_that_happens_to_mail_counts_as_a_failed_install() {
    let mut desk = Desk::new(10, 0);
    let gate = Gate {
        failure_max: Share::hundredths(0),
        silence_max: Share::hundredths(10_000),
        success_min: Share::hundredths(0),
        ..Gate::CUSTOMERS
    };
    desk.campaign.rollout.waves[0].gate = gate;
    desk.campaign.rollout.waves[0].passed_at = None;
    desk.tick();
    for (n, cause) in (1..).zip([Cause::UnknownMailbox, Cause::MailboxFull, Cause::TooBig, Cause::Other]) {
        bounced(&mut desk, n, cause);
    }
    stuck(&mut desk, 5, Cause::NoRoute);
    again(&mut desk, 6, Cause::MailboxFull, false);
    desk.tick();
    let survey = Survey::of(&desk.campaign, 0);
    assert_eq!((survey.failed, survey.other, survey.outstanding), (0, 4, 6));
    assert_eq!(desk.campaign.state, CampaignState::Running);
    desk.ended(7, failure(), Reported::Nothing);
    desk.pass(Duration::from_secs(1));
    let held = desk.campaign.rollout.held.clone().unwrap().why;
    assert_eq!(held, HoldReason::Failures { wave: 0, failed: 1, of: 10 });
}

#[test]
fn a_campaign_that_was_stopped_mails_nothing_once_more() {
    let mut desk = Desk::new(1, 5);
    desk.tick();
    assert!(desk.campaign.wants_mail() && desk.campaign.may_mail_again(&id(1)));
    desk.campaign.halt(HoldReason::Operator(String::new()), desk.now);
    assert!(!desk.campaign.wants_mail() && !desk.campaign.may_mail_again(&id(1)));
    desk.campaign.cancel();
    assert!(!desk.campaign.wants_mail());
}

#[test]
fn reasons_of_stores_from_before_there_were_causes_are_read() {
    // [9, ["5.1.1 gone"]]
    let old = [0x82, 9, 0x81, 0x6a, b'5', b'.', b'1', b'.', b'1', b' ', b'g', b'o', b'n', b'e'];
    let reason: Reason = minicbor::decode(&old).unwrap();
    assert_eq!(reason, Reason::Bounced("5.1.1 gone".to_owned(), Cause::Other));
    assert_eq!(reason.to_string(), "mail bounced: 5.1.1 gone");
}

#[test]
fn a_mail_that_was_sent_again_does_not_wake_a_target_that_has_said_it_is_cancelled() {
    let mut desk = Desk::new(1, 1);
    desk.tick();
    again(&mut desk, 1, Cause::MailboxFull, false);
    // The mail of before had arrived, and a person did not want it.
    desk.ended(1, Outcome::Refused(Refusal::Cancelled), Reported::Nothing);
    let order = desk.target(1).order().unwrap();
    desk.campaign.apply(desk.now, &id(1), &TargetEvent::Sent(order));
    assert_eq!(desk.state(1), TargetState::Cancelled);
}
