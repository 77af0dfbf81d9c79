//! Behaviour of campaigns that go in waves, ask first and keep to times.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod desk;

use core::time::Duration;

use desk::{Desk, SETTLE, TIMEOUT, failure, goal, id, trouble, version};
use manager_core::consent::{Answer, Standing};
use manager_core::delivery::Cause;
use manager_core::probe::Expectation;
use manager_core::rollout::{ConsentTerms, Gate, HoldReason, Share, Survey, Wave, WaveKind};
use manager_core::{Applied, CampaignState, GraveFault, Reason, TargetEvent, TargetState, WaitingFor};
use proptest::prelude::*;
use shared::message::{
    CancelAnswer, CancelResult, Fetch, Outcome, OutputTail, Progress, Refusal, Report, Reported, Step,
    TestResult, Tested, WaitReason, Waiting,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// Waves of these sizes, each behind the gate; targets are dealt in their order.
fn in_waves(sizes: &[usize], gate: Gate) -> Desk {
    let mut desk = Desk::new(sizes.iter().sum(), 0);
    let mut n = 0;
    for (number, size) in sizes.iter().enumerate() {
        for _ in 0..*size {
            n += 1;
            desk.campaign.targets.get_mut(&id(n)).unwrap().wave = u32::try_from(number).unwrap();
        }
    }
    desk.campaign.rollout.waves = sizes.iter().map(|_| Wave::new(WaveKind::Customers, gate)).collect();
    desk
}

/// A wave of test agents before one of customers; the bundle has a test.
fn tested_first(test: usize, customers: usize) -> Desk {
    let mut desk = in_waves(&[test, customers], Gate::CUSTOMERS);
    desk.campaign.rollout.waves[0] = Wave::new(WaveKind::Test, Gate::TEST);
    desk.campaign.bundle.test =
        Some(Expectation { exit: 0, output: Some("ready".to_owned()), limit_ms: 60_000 });
    desk
}

fn installs(desk: &Desk) -> usize {
    desk.mails("install").iter().sum()
}

/// Lets these targets answer the version query as installed.
fn verify(desk: &mut Desk, targets: core::ops::RangeInclusive<usize>) {
    desk.pass(SETTLE);
    for n in targets {
        desk.versions(n, goal());
    }
    desk.tick();
}

fn tested(desk: &mut Desk, n: usize, result: TestResult) {
    let order = desk.target(n).test.as_ref().unwrap().ids[0];
    desk.report(n, Report::Tested(Tested { order, result }));
    desk.tick();
}

fn ready() -> TestResult {
    TestResult::Exit(0, OutputTail::of(b"ready\n"))
}

fn held(desk: &Desk) -> &HoldReason {
    assert_eq!(desk.campaign.state, CampaignState::Halted);
    &desk.campaign.rollout.held.as_ref().unwrap().why
}

#[test]
fn the_next_wave_is_mailed_when_the_one_before_has_been_watched_and_is_good() {
    let mut desk = in_waves(&[2, 3, 5], Gate::CUSTOMERS);
    let waiting = desk.tick();
    assert_eq!(installs(&desk), 2);
    assert_eq!(waiting[&id(3)], WaitingFor::Wave(1));
    assert_eq!(waiting[&id(3)].to_string(), "mailed when wave 1 has passed its gate");
    verify(&mut desk, 1..=2);
    assert_eq!(installs(&desk), 2, "an hour has to pass first");
    desk.pass(HOUR);
    assert_eq!(installs(&desk), 5);
    verify(&mut desk, 3..=5);
    desk.pass(HOUR);
    assert_eq!(installs(&desk), 10);
    verify(&mut desk, 6..=10);
    desk.pass(HOUR);
    assert_eq!(desk.campaign.state, CampaignState::Finished);
}

#[test]
fn one_failure_too_many_halts_it_and_calls_back_what_has_not_begun() {
    let mut desk = in_waves(&[20, 100], Gate::CUSTOMERS);
    desk.tick();
    desk.ended(1, failure(), Reported::Exact(version("1.0.00-1")));
    desk.tick();
    assert_eq!(desk.campaign.state, CampaignState::Running, "5 % of 20 may fail");
    let order = desk.target(3).order().unwrap();
    let waiting = Waiting { reason: WaitReason::NotYet, until: desk.now.plus(HOUR), about: None };
    desk.report(3, Report::Progress(Progress { order, step: Step::Waiting(waiting) }));
    desk.ended(2, failure(), Reported::Exact(version("1.0.00-1")));
    desk.tick();
    assert_eq!(*held(&desk), HoldReason::Failures { wave: 0, failed: 2, of: 20 });
    assert_eq!(held(&desk).to_string(), "2 of 20 failed in wave 1, more than its gate allows");
    assert_eq!(desk.mails("cancel"), [18]);
    desk.report(3, Report::Cancelled(CancelAnswer { order, result: CancelResult::BeforeStart }));
    assert_eq!(desk.state(3), TargetState::Cancelled);
    desk.pass(24 * HOUR);
    assert_eq!(installs(&desk), 20, "nobody else gets it");
}

#[test]
fn a_release_that_kills_its_boxes_is_stopped_by_their_silence() {
    let mut desk = in_waves(&[10, 100], Gate::CUSTOMERS);
    desk.tick();
    verify(&mut desk, 1..=9);
    desk.pass(TIMEOUT);
    assert_eq!(*held(&desk), HoldReason::Silence { wave: 0, silent: 1, of: 10 });
    assert_eq!(installs(&desk), 10);
}

#[test]
fn who_may_have_died_holds_the_gate_shut_until_it_is_known() {
    let mut desk = in_waves(&[20, 100], Gate { observe_ms: 0, ..Gate::CUSTOMERS });
    desk.tick();
    verify(&mut desk, 1..=18);
    desk.pass(TIMEOUT / 2);
    assert_eq!(installs(&desk), 20, "two have not answered, one may be silent");
    desk.versions(19, goal());
    desk.tick();
    assert_eq!(installs(&desk), 120);
}

#[test]
fn who_has_put_it_off_holds_nobody_up_and_is_no_failure() {
    let mut desk = in_waves(&[20, 10], Gate { observe_ms: 0, ..Gate::CUSTOMERS });
    desk.tick();
    let order = desk.target(20).order().unwrap();
    let waiting = Waiting { reason: WaitReason::PutOff, until: desk.now.plus(HOUR), about: None };
    desk.report(20, Report::Progress(Progress { order, step: Step::Waiting(waiting) }));
    verify(&mut desk, 1..=19);
    assert_eq!(installs(&desk), 30);
}

#[test]
fn a_bounce_says_nothing_of_the_release() {
    let mut desk =
        in_waves(&[10, 5], Gate { success_min: Share::hundredths(5_000), observe_ms: 0, ..Gate::CUSTOMERS });
    desk.tick();
    for n in 1..=4 {
        let order = desk.target(n).order().unwrap();
        let bounced = TargetEvent::Bounced(order, trouble(Cause::UnknownMailbox));
        desk.campaign.apply(desk.now, &id(n), &bounced);
    }
    verify(&mut desk, 5..=10);
    assert_eq!(installs(&desk), 15);
    assert_eq!(Survey::of(&desk.campaign, 0).other, 4);
}

#[test]
fn an_order_that_was_still_on_its_way_when_the_version_was_asked_for_says_nothing_of_the_release() {
    let gate = Gate { success_min: Share::hundredths(9_000), observe_ms: 0, ..Gate::CUSTOMERS };
    let mut desk = in_waves(&[20, 5], gate);
    desk.tick();
    desk.pass(SETTLE);
    for n in 19..=20 {
        let before = desk.target(n).from_version.clone().unwrap_or(Reported::Nothing);
        desk.versions(n, before);
    }
    assert_eq!((desk.state(19), Survey::of(&desk.campaign, 0).failed), (TargetState::Failed, 0));
    verify(&mut desk, 1..=18);
    assert_eq!(installs(&desk), 25);
}

#[test]
fn a_version_that_nobody_sent_speaks_against_the_release() {
    let mut desk = in_waves(&[20, 5], Gate::CUSTOMERS);
    desk.tick();
    desk.pass(SETTLE);
    for n in 1..=2 {
        desk.versions(n, Reported::Mixed(version("1.0.02-0")));
    }
    desk.tick();
    assert_eq!(*held(&desk), HoldReason::Failures { wave: 0, failed: 2, of: 20 });
}

#[test]
fn a_wave_in_which_too_few_succeed_halts_it_at_its_end() {
    let gate = Gate { failure_max: Share::hundredths(10_000), ..Gate::CUSTOMERS };
    let mut desk = in_waves(&[4, 5], gate);
    desk.tick();
    for n in 1..=2 {
        desk.ended(n, failure(), Reported::Exact(version("1.0.00-1")));
    }
    verify(&mut desk, 3..=4);
    assert_eq!(*held(&desk), HoldReason::TooFew { wave: 0, verified: 2, of: 4 });
}

#[test]
fn a_wave_that_nobody_can_be_mailed_in_halts_it() {
    let mut desk = in_waves(&[2, 5], Gate::CUSTOMERS);
    for n in 1..=2 {
        desk.fleet.get_mut(&id(n)).unwrap().enrolled = false;
    }
    desk.tick();
    assert_eq!(held(&desk).to_string(), "nobody in wave 1 could be mailed");
}

#[test]
fn a_resumed_campaign_goes_on_with_what_was_called_back_and_halts_at_the_next_failure() {
    let mut desk = in_waves(&[10, 10], Gate { observe_ms: 0, ..Gate::CUSTOMERS });
    desk.tick();
    desk.ended(1, failure(), Reported::Exact(version("1.0.00-1")));
    desk.tick();
    for n in 2..=10 {
        let order = desk.target(n).order().unwrap();
        desk.report(n, Report::Cancelled(CancelAnswer { order, result: CancelResult::BeforeStart }));
    }
    assert!(desk.campaign.resume(desk.now));
    desk.tick();
    assert_eq!(desk.mails("install"), [10, 9], "the nine that were called back");
    verify(&mut desk, 2..=10);
    assert_eq!(desk.mails("install"), [10, 9, 10], "the failure is known");
    desk.ended(11, failure(), Reported::Exact(version("1.0.00-1")));
    desk.tick();
    assert_eq!(*held(&desk), HoldReason::Failures { wave: 1, failed: 1, of: 10 });
}

#[test]
fn a_paused_campaign_mails_nothing_new_and_takes_answers() {
    let mut desk = in_waves(&[2, 2], Gate { observe_ms: 0, ..Gate::CUSTOMERS });
    desk.tick();
    assert!(desk.campaign.pause("a fair is on", desk.now));
    assert!(!desk.campaign.pause("twice", desk.now));
    verify(&mut desk, 1..=2);
    let waiting = desk.tick();
    assert_eq!(desk.state(1), TargetState::Verified);
    assert_eq!(installs(&desk), 2);
    assert_eq!(waiting[&id(3)].to_string(), "the campaign is paused");
    assert!(desk.campaign.resume(desk.now));
    desk.tick();
    assert_eq!(installs(&desk), 4);
}

#[test]
fn the_operator_may_open_a_gate() {
    let mut desk = in_waves(&[2, 2], Gate::CUSTOMERS);
    desk.tick();
    assert_eq!(desk.campaign.skip(desk.now), Some(0));
    desk.tick();
    assert_eq!(installs(&desk), 4);
}

#[test]
fn mails_of_a_wave_are_spread_over_its_time() {
    let mut desk = in_waves(&[50], Gate::NONE);
    desk.campaign.rollout.waves[0].spread_ms = 3_600_000;
    desk.tick();
    let first = installs(&desk);
    desk.pass(HOUR / 2);
    let second = installs(&desk);
    desk.pass(HOUR / 2);
    assert!(first < 5 && (10..40).contains(&second), "{first} {second}");
    assert_eq!(installs(&desk), 50);
}

#[test]
fn agents_for_tests_are_verified_tested_and_watched_before_any_customer_is_mailed() {
    let mut desk = tested_first(2, 10);
    desk.tick();
    assert_eq!(installs(&desk), 2);
    verify(&mut desk, 1..=2);
    assert_eq!(desk.mails("test"), [2]);
    tested(&mut desk, 1, ready());
    desk.pass(TIMEOUT);
    assert_eq!(installs(&desk), 2, "the other has not answered to the test");
    tested(&mut desk, 2, ready());
    assert_eq!(installs(&desk), 2, "they are watched for an hour");
    desk.pass(HOUR);
    assert_eq!(installs(&desk), 12);
}

/// PROTOCOL 16.4
#[test]
fn a_test_with_another_answer_halts_it() {
    let mut desk = tested_first(2, 10);
    desk.tick();
    verify(&mut desk, 1..=2);
    tested(&mut desk, 1, TestResult::Exit(1, OutputTail::of(b"no port 9100")));
    assert_eq!(held(&desk).to_string(), "the test on A0001 failed: exit code 1, expected 0: no port 9100");
    assert!(desk.campaign.resume(desk.now));
    tested(&mut desk, 2, ready());
    desk.pass(HOUR);
    assert_eq!(installs(&desk), 12, "the operator has taken it into account");
}

/// PROTOCOL 16.4
#[test]
fn a_test_agent_that_does_not_answer_halts_it() {
    let mut desk = tested_first(2, 10);
    desk.tick();
    verify(&mut desk, 1..=2);
    tested(&mut desk, 2, ready());
    desk.pass(TIMEOUT + Duration::from_secs(60));
    assert_eq!(held(&desk).to_string(), "A0001 does not answer to the test");
}

#[test]
fn a_new_grave_fault_behind_a_test_agent_halts_it() {
    let mut desk = tested_first(1, 10);
    let before = GraveFault { reported_at: desk.now, what: "p1: jam".to_owned() };
    desk.fleet.get_mut(&id(1)).unwrap().grave_faults.push(before);
    desk.tick();
    verify(&mut desk, 1..=1);
    tested(&mut desk, 1, ready());
    let after = GraveFault { reported_at: desk.now, what: "p1: fuser dead".to_owned() };
    desk.fleet.get_mut(&id(1)).unwrap().grave_faults.push(after);
    desk.tick();
    assert_eq!(held(&desk).to_string(), "a new fault behind the test agent A0001: p1: fuser dead");
}

fn asking(customers: usize) -> Desk {
    let mut desk = in_waves(&[customers], Gate::NONE);
    desk.campaign.rollout.consent = Some(ConsentTerms { patience_ms: 7 * 24 * 3_600_000 });
    desk
}

fn answer(desk: &mut Desk, n: usize, answer: Answer) -> Applied {
    desk.campaign.apply(desk.now, &id(n), &TargetEvent::Answered(answer))
}

#[test]
fn only_those_who_say_yes_in_time_get_it() {
    let mut desk = asking(5);
    desk.fleet.get_mut(&id(4)).unwrap().consent = Standing::Always;
    desk.fleet.get_mut(&id(5)).unwrap().has_admin = false;
    let waiting = desk.tick();
    assert_eq!(desk.asked, [id(1), id(2), id(3)]);
    assert_eq!(desk.mails("install"), [1], "one wants all updates");
    assert!(matches!(waiting[&id(1)], WaitingFor::Consent { .. }));
    assert_eq!(desk.target(5).reason, Some(Reason::NobodyToAsk));
    answer(&mut desk, 1, Answer::Yes);
    answer(&mut desk, 2, Answer::No);
    desk.tick();
    assert_eq!(desk.mails("install"), [1, 1]);
    assert_eq!(desk.state(2), TargetState::Declined);
    desk.pass(Duration::from_secs(7 * 24 * 3600));
    assert!(matches!(desk.target(3).reason, Some(Reason::NoConsent { .. })));
    assert_eq!(answer(&mut desk, 3, Answer::Yes), Applied::Ignored, "too late");
    desk.campaign.retry();
    desk.tick();
    assert_eq!(desk.state(2), TargetState::Declined, "the operator's retry does not overrule a customer");
    assert_eq!(
        installs(&desk),
        2 + usize::from(desk.target(1).attempts > 1) + usize::from(desk.target(4).attempts > 1)
    );
}

/// PROTOCOL 15.7
#[test]
fn what_a_person_at_the_site_does_not_want_is_declined_and_not_sent_again() {
    for overtaken in [false, true] {
        let mut desk = in_waves(&[2, 1], Gate { observe_ms: 0, ..Gate::CUSTOMERS });
        for target in desk.campaign.targets.values_mut() {
            target.attempts_allowed = 5;
        }
        desk.tick();
        if overtaken {
            // The relay has turned two reports round.
            desk.sequence += 1;
            let late = desk.sequence;
            desk.versions(1, Reported::Nothing);
            desk.sequence = late - 1;
        }
        desk.ended(1, Outcome::Refused(Refusal::Declined), Reported::Nothing);
        assert_eq!(desk.state(1), TargetState::Declined);
        let reason = desk.target(1).reason.clone().unwrap();
        assert_eq!(reason.to_string(), "declined at the site");
        verify(&mut desk, 2..=2);
        assert_eq!(desk.mails("install"), [2, 1], "it holds up nobody, and is not tried again by itself");
        desk.campaign.retry();
        desk.tick();
        assert_eq!(desk.state(1), TargetState::Declined, "nor by the operator");
        assert_eq!(desk.target(1).attempts, 1);
    }
}

#[test]
fn later_is_kept_to_and_a_no_counts_until_the_mail_is_out() {
    let mut desk = asking(2);
    desk.tick();
    let then = desk.now.plus(48 * HOUR);
    answer(&mut desk, 1, Answer::Later(then));
    answer(&mut desk, 2, Answer::Later(then));
    desk.pass(47 * HOUR);
    assert_eq!(installs(&desk), 0);
    assert_eq!(answer(&mut desk, 2, Answer::No), Applied::Changed);
    desk.pass(HOUR);
    assert_eq!(installs(&desk), 1);
    assert_eq!(answer(&mut desk, 1, Answer::No), Applied::Ignored, "it is mailed");
    assert_eq!(answer(&mut desk, 1, Answer::Yes), Applied::Ignored);
}

#[test]
fn customers_are_asked_only_after_the_tests_and_test_agents_never() {
    let mut desk = tested_first(1, 2);
    desk.campaign.rollout.consent = Some(ConsentTerms { patience_ms: 24 * 3_600_000 });
    desk.tick();
    assert_eq!(installs(&desk), 1);
    assert!(desk.asked.is_empty());
    verify(&mut desk, 1..=1);
    tested(&mut desk, 1, ready());
    desk.pass(HOUR);
    assert_eq!(desk.asked, [id(2), id(3)]);
}

#[test]
fn nothing_goes_out_before_the_transmission_time_or_after_the_expiry() {
    let mut desk = in_waves(&[2], Gate::NONE);
    desk.campaign.rollout.times.send_at = Some(desk.now.plus(HOUR));
    desk.tick();
    assert_eq!(installs(&desk), 0);
    desk.pass(HOUR);
    assert_eq!(installs(&desk), 2);
    let mut late = in_waves(&[2], Gate::NONE);
    late.campaign.rollout.times.send_at = Some(late.now.plus(HOUR));
    late.campaign.rollout.times.expires_at = Some(late.now.plus(HOUR));
    late.tick();
    late.pass(HOUR);
    assert_eq!(installs(&late), 0);
    assert_eq!(late.state(1), TargetState::Expired);
}

/// PROTOCOL 15.8, 15.10
#[test]
fn a_scheduled_agent_is_told_its_time_and_asked_for_its_version_after_it() {
    let mut desk = in_waves(&[2], Gate::NONE);
    desk.campaign.rollout.times.install_at = Some(desk.now.plus(HOUR));
    desk.tick();
    assert_eq!((desk.mails("schedule"), desk.mails("install")), (vec![2], vec![2]));
    assert_eq!(desk.mailed[0].2, "schedule", "before the order that waits for it");
    desk.pass(SETTLE);
    assert_eq!(desk.mails("query"), [0usize; 0]);
    desk.pass(HOUR);
    assert_eq!(desk.mails("query"), [2]);
}

/// PROTOCOL 15.9
#[test]
fn an_agent_that_fetches_gets_the_bundle_when_it_asks_or_when_its_time_is_long_past() {
    let mut desk = in_waves(&[2], Gate::NONE);
    desk.campaign.rollout.times.fetch = true;
    let waiting = desk.tick();
    assert!(matches!(waiting[&id(1)], WaitingFor::Fetch(_)));
    assert_eq!(installs(&desk), 0);
    desk.pass(HOUR);
    let schedule = desk.target(1).schedule.as_ref().unwrap().ids[0];
    let bundle = desk.campaign.bundle.digest;
    desk.report(1, Report::Fetch(Fetch { schedule, bundle }));
    desk.tick();
    assert_eq!(desk.mails("install"), [1]);
    desk.pass(TIMEOUT);
    assert_eq!(desk.mails("install"), [1, 1], "its request may have been lost");
}

#[test]
fn who_has_failed_too_often_waits() {
    let mut desk = in_waves(&[2], Gate::NONE);
    desk.fleet.get_mut(&id(1)).unwrap().penalty_until = Some(desk.now.plus(HOUR));
    desk.tick();
    assert_eq!(installs(&desk), 1);
    desk.pass(HOUR);
    assert_eq!(installs(&desk), 2);
}

#[test]
fn a_retry_waits_as_long_as_its_policy_says_and_only_for_the_ends_that_it_names() {
    let mut desk = Desk::new(2, 1);
    desk.campaign.rollout.retry.delay_ms = 3_600_000;
    desk.campaign.rollout.retry.after.retain(|end| *end != TargetState::Silent);
    desk.tick();
    desk.ended(1, failure(), Reported::Exact(version("1.0.00-1")));
    desk.pass(SETTLE);
    desk.pass(TIMEOUT);
    assert_eq!(desk.state(2), TargetState::Silent);
    assert_eq!(installs(&desk), 2);
    desk.pass(HOUR);
    assert_eq!(desk.mails("install"), [2, 1]);
    assert_eq!(desk.target(2).attempts, 1);
}

/// What a target does with an order.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Good,
    Bad,
    Dies,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![4 => Just(Fate::Good), 1 => Just(Fate::Bad), 1 => Just(Fate::Dies)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn every_campaign_ends_or_is_halted_with_a_reason_and_no_wave_is_mailed_before_its_turn(
        sizes in prop::collection::vec(1usize..12, 1..4),
        fates in prop::collection::vec(fate(), 40),
        share in 0u16..3_000,
    ) {
        let share = Share::hundredths(share);
        let gate = Gate { failure_max: share, silence_max: share, ..Gate::CUSTOMERS };
        let mut desk = in_waves(&sizes, gate);
        let all: usize = sizes.iter().sum();
        for _ in 0..200 {
            desk.tick();
            for (n, fate) in (1..=all).zip(&fates) {
                if matches!(desk.state(n), TargetState::Mailed | TargetState::Received | TargetState::Installed) {
                    match fate {
                        Fate::Good if desk.target(n).query.is_some() => { desk.versions(n, goal()); }
                        Fate::Bad => { desk.ended(n, failure(), Reported::Exact(version("1.0.00-1"))); }
                        Fate::Good | Fate::Dies => {}
                    }
                }
            }
            let waves = &desk.campaign.rollout.waves;
            for target in desk.campaign.targets.values().filter(|t| t.attempts > 0 && t.wave > 0) {
                prop_assert!(waves[target.wave as usize - 1].passed_at.is_some());
            }
            desk.pass(Duration::from_secs(300));
        }
        match desk.campaign.state {
            CampaignState::Finished => prop_assert!(desk.campaign.targets.values().all(|t| t.state.is_end())),
            CampaignState::Halted => prop_assert!(desk.campaign.rollout.held.is_some()),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
