//! Every state against every event, as one table that a person can read: `golden/target-states.txt`. A change
//! there is a change of what the manager believes. `UPDATE_GOLDEN=1` writes it anew.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use core::fmt::Write as _;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::Path;

use manager_core::delivery::Cause;
use manager_core::{
    Applied, Ask, BundleFacts, Campaign, CampaignId, CampaignState, Reason, Rollout, Settings, Target,
    TargetEvent, TargetState, Trouble,
};
use shared::message::{
    CancelAnswer, CancelResult, Cause as FailureCause, Ended, Failure, Outcome, Phase, Progress, Refusal,
    Report, Reported, Step, VersionReport, Versions, WaitReason, Waiting,
};
use shared::{AgentId, Digest, EnvelopeId, Label, SoftwareVersion, UnixMillis};

const ORDER: EnvelopeId = EnvelopeId([1; 16]);
const QUERY: EnvelopeId = EnvelopeId([2; 16]);
const CANCEL: EnvelopeId = EnvelopeId([3; 16]);
const OLD_ORDER: EnvelopeId = EnvelopeId([4; 16]);
const NEW: EnvelopeId = EnvelopeId([5; 16]);
const NOW: UnixMillis = UnixMillis(1_000_000);

fn version() -> SoftwareVersion {
    SoftwareVersion::parse("1.0.02-0").unwrap()
}

fn failure() -> Failure {
    Failure { phase: Phase::Post, cause: FailureCause::ScriptExit(1), undo_failed: false }
}

fn no_answer(received: bool) -> Option<Reason> {
    Some(Reason::NoAnswer { asked_at: UnixMillis(3), received, mail: None })
}

/// A target as it would stand in each state, and the two kinds of those ends that differ by their reason.
fn states() -> Vec<(&'static str, Target)> {
    let base = |state, reason: Option<Reason>| {
        let mut target = Target::new(None, 0);
        (target.state, target.reason) = (state, reason);
        target
    };
    let ordered = |state, reason| {
        let mut target = base(state, reason);
        target.orders = vec![OLD_ORDER, ORDER];
        target.ordered_at = Some(UnixMillis(1));
        (target.attempts, target.heard) = (2, 10);
        target
    };
    let mailed = |state, reason| {
        let mut target = ordered(state, reason);
        target.mailed_at = Some(UnixMillis(2));
        target.settle_from = Some(UnixMillis(2));
        target.tried_at = Some(UnixMillis(2));
        target
    };
    let asked = |state, reason| {
        let mut target = mailed(state, reason);
        target.query = Some(Ask { ids: vec![QUERY], sent_at: None });
        target
    };
    let mut withdrawn = mailed(TargetState::Mailed, None);
    withdrawn.cancel = Some(Ask { ids: vec![CANCEL], sent_at: None });
    let mut deferred = mailed(TargetState::Deferred, None);
    deferred.waiting = Some(Waiting { reason: WaitReason::NoSpace, until: NOW, about: None });
    vec![
        ("pending", base(TargetState::Pending, None)),
        ("queued", ordered(TargetState::Queued, None)),
        ("mailed", mailed(TargetState::Mailed, None)),
        ("mailed?", asked(TargetState::Mailed, None)),
        ("mailed!", withdrawn),
        ("received", mailed(TargetState::Received, None)),
        ("deferred", deferred),
        ("installed", mailed(TargetState::Installed, None)),
        ("installed?", asked(TargetState::Installed, None)),
        ("verified", asked(TargetState::Verified, None)),
        ("failed:rb", mailed(TargetState::Failed, Some(Reason::RolledBack(failure())))),
        ("failed:other", asked(TargetState::Failed, Some(Reason::OtherVersion(Reported::Nothing)))),
        ("silent", asked(TargetState::Silent, no_answer(false))),
        ("silent:got", asked(TargetState::Silent, no_answer(true))),
        (
            "undeliver.",
            mailed(TargetState::Undeliverable, Some(Reason::Bounced(String::new(), Cause::Other))),
        ),
        ("expired", mailed(TargetState::Expired, Some(Reason::OrderExpired(None, None)))),
        (
            "cancel:not",
            ordered(TargetState::Cancelled, Some(Reason::Cancelled(Some(CancelResult::BeforeStart)))),
        ),
        ("cancel:mute", mailed(TargetState::Cancelled, Some(Reason::Cancelled(None)))),
    ]
}

fn report(sequence: u64, report: Report) -> TargetEvent {
    TargetEvent::Report { report: Box::new(report), sequence }
}

fn versions_of(software: Reported) -> VersionReport {
    VersionReport { software, rom_version: Label::default(), modules: vec![], taken_at: NOW, line: None }
}

fn ended(sequence: u64, order: EnvelopeId, outcome: Outcome, software: Reported) -> TargetEvent {
    report(sequence, Report::Ended(Ended { order, outcome, output: None, versions: versions_of(software) }))
}

fn answer(sequence: u64, query: Option<EnvelopeId>, software: Reported) -> TargetEvent {
    report(sequence, Report::Versions(Versions { query, versions: versions_of(software) }))
}

fn progress(order: EnvelopeId, step: Step) -> TargetEvent {
    report(11, Report::Progress(Progress { order, step }))
}

fn withdrawn(result: CancelResult) -> TargetEvent {
    report(11, Report::Cancelled(CancelAnswer { order: ORDER, result }))
}

fn events() -> Vec<(&'static str, TargetEvent)> {
    let trouble = || Trouble { cause: Cause::MailboxFull, text: "552".to_owned() };
    let again = |to_second| TargetEvent::Remailed { envelope: ORDER, trouble: trouble(), at: NOW, to_second };
    let good = || Reported::Exact(version());
    let old = || Reported::Nothing;
    let waiting = || Waiting { reason: WaitReason::ScriptSaysNotNow, until: NOW, about: None };
    vec![
        ("order queued", TargetEvent::OrderQueued(NEW)),
        ("query queued", TargetEvent::QueryQueued(NEW)),
        ("withdrawal queued", TargetEvent::CancelQueued(NEW)),
        ("relay about to be asked", TargetEvent::Trying(ORDER)),
        ("relay took the order", TargetEvent::Sent(ORDER)),
        ("relay took the query", TargetEvent::Sent(QUERY)),
        ("relay took the withdrawal", TargetEvent::Sent(CANCEL)),
        ("relay delayed the order", TargetEvent::Delayed(ORDER, trouble(), NOW)),
        ("relay refused the order", TargetEvent::Refused(ORDER, trouble())),
        ("relay refused the query", TargetEvent::Refused(QUERY, trouble())),
        ("relay refused the withdrawal", TargetEvent::Refused(CANCEL, trouble())),
        ("bounce of the order", TargetEvent::Bounced(ORDER, trouble())),
        ("bounce of an older order", TargetEvent::Bounced(OLD_ORDER, trouble())),
        ("bounce: still trying", TargetEvent::Stuck(ORDER, trouble())),
        ("mailed again tomorrow", again(false)),
        ("mailed to second address", again(true)),
        ("box replaced", TargetEvent::Reenrolled),
        ("received", progress(ORDER, Step::Received)),
        ("not now", progress(ORDER, Step::Waiting(waiting()))),
        ("installed, reports the goal", ended(11, ORDER, Outcome::Installed, good())),
        ("installed, reports another", ended(11, ORDER, Outcome::Installed, old())),
        ("installed, overtaken", ended(9, ORDER, Outcome::Installed, good())),
        ("rolled back", ended(11, ORDER, Outcome::RolledBack(failure()), old())),
        ("rolled back, overtaken", ended(9, ORDER, Outcome::RolledBack(failure()), old())),
        ("rolled back, older order", ended(11, OLD_ORDER, Outcome::RolledBack(failure()), old())),
        ("installed, older order", ended(11, OLD_ORDER, Outcome::Installed, good())),
        ("damaged", ended(11, ORDER, Outcome::Damaged(failure()), old())),
        ("refused", ended(11, ORDER, Outcome::Refused(Refusal::NotSigned), old())),
        ("refused: cancelled", ended(11, ORDER, Outcome::Refused(Refusal::Cancelled), old())),
        ("answer: the goal", answer(11, Some(QUERY), good())),
        ("answer: another", answer(11, Some(QUERY), old())),
        ("answer: some files differ", answer(11, Some(QUERY), Reported::Mixed(version()))),
        ("answer: the goal, overtaken", answer(9, Some(QUERY), good())),
        ("unasked: the goal", answer(11, None, good())),
        ("unasked: another", answer(11, None, old())),
        ("withdrawn before its start", withdrawn(CancelResult::BeforeStart)),
        ("withdrawn, order unknown", withdrawn(CancelResult::Unknown)),
        ("withdrawn too late", withdrawn(CancelResult::TooLate)),
    ]
}

fn campaign(target: Target) -> (AgentId, Campaign) {
    let agent = AgentId::parse("A1").unwrap();
    let campaign = Campaign {
        id: CampaignId(1),
        name: Label::default(),
        bundle: BundleFacts {
            digest: Digest([0; 32]),
            software_version: version(),
            from: vec![],
            classes: vec![],
            test: None,
        },
        settings: Settings {
            settle: Duration::from_secs(600),
            reply_timeout: Duration::from_secs(600),
            retries: 0,
            order_life: Duration::from_secs(600),
        },
        rollout: Rollout::at_once(),
        state: CampaignState::Running,
        created: UnixMillis(0),
        targets: BTreeMap::from([(agent.clone(), target)]),
    };
    (agent, campaign)
}

/// `.` nothing changes; `+` something is noted, the state stays; else the new state.
fn cell(target: &Target, event: &TargetEvent) -> String {
    let (agent, mut campaign) = campaign(target.clone());
    let applied = campaign.apply(NOW, &agent, event);
    let after = campaign.targets[&agent].clone();
    let queued = matches!(event, TargetEvent::QueryQueued(_) | TargetEvent::CancelQueued(_));
    if !queued {
        assert_eq!(campaign.apply(NOW, &agent, event), Applied::Ignored, "twice is once: {event:?}");
    }
    let bare = |target: &Target| Target { heard: 0, ..target.clone() };
    match applied {
        Applied::Ignored => ".".to_owned(),
        Applied::Changed if after.state != target.state => after.state.to_string(),
        // That it was heard is noted for every report.
        Applied::Changed if bare(&after) == bare(target) => ".".to_owned(),
        Applied::Changed => "+".to_owned(),
    }
}

fn table() -> String {
    let states = states();
    let mut text = String::from(
        "What each event (rows) makes of a target in each state (columns).\n\
         \x20 .  nothing        +  something is noted, the state stays        else: the new state\n\
         \x20 ?  its version was asked        !  its order is being withdrawn\n\
         \x20 failed:rb rolled back, failed:other reports another version, silent:got had said that the order arrived,\n\
         \x20 cancel:not never begun, cancel:mute no answer\n\n",
    );
    let mut row = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:<13}")).collect();
        writeln!(text, "{}", format!("{name:<29}{cells}").trim_end()).unwrap();
    };
    row("", states.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, event) in events() {
        row(name, states.iter().map(|(_, target)| cell(target, &event)).collect());
    }
    text
}

#[test]
fn each_event_in_each_state_does_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/target-states.txt");
    let found = table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert_eq!(found, expected, "first difference: {differs:#?}; UPDATE_GOLDEN=1 accepts it");
}

#[test]
fn only_a_signed_report_of_the_goal_ever_makes_a_target_verified() {
    let goal = Reported::Exact(version());
    for (event_name, event) in events() {
        for (name, target) in states() {
            let becomes = cell(&target, &event);
            if becomes != "verified" {
                continue;
            }
            let TargetEvent::Report { report, .. } = &event else { panic!("{event_name} verifies {name}") };
            let (Report::Ended(Ended { versions, .. }) | Report::Versions(Versions { versions, .. })) =
                report.as_ref()
            else {
                panic!("{event_name} verifies {name}")
            };
            assert_eq!(versions.software, goal, "{event_name} verifies {name}");
        }
    }
}
