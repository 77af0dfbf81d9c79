//! When an install begins: the manager's schedules, requests for bundles, and what a person at the site puts off or cancels.
//! Release builds cannot bend the box's clock.
#![cfg(debug_assertions)]
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "tests"
)]

mod common;

use std::process::{Command, Output};
use std::time::Duration;

use common::{World, now, text, wait_until};
use shared::message::{
    Cause, Failure, Fetch, Hindrance, Interval, Order, Outcome, Phase, Refusal, Report, Schedule, WaitReason,
};
use shared::{Digest, EnvelopeId, SoftwareVersion, UnixMillis};

const HOUR: Duration = Duration::from_secs(3_600);

fn with_version_one() -> World {
    let mut w = World::enrolled();
    let order = w.install("1-0", None, &[("bin/abcd", "one")]);
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Installed);
    w.reports.clear();
    w
}

/// A command while the box's clock is so many minutes ahead.
fn command_in(w: &World, minutes: i64, args: &[&str]) -> Command {
    let mut command = w.command(args);
    command.env("MAILFLEET_TEST_CLOCK_ERROR_MS", (minutes * 60_000).to_string()).env("SUDO_USER", "tanaka");
    command
}

fn agent_in(w: &World, minutes: i64, args: &[&str]) -> Output {
    command_in(w, minutes, args).output().unwrap()
}

fn once_in(w: &World, minutes: i64) -> Option<i32> {
    agent_in(w, minutes, &["run", "--once"]).status.code()
}

/// Version 2, and the schedule that lets it be installed from ten to twelve hours from now on.
struct Planned {
    bundle: Vec<u8>,
    schedule: Schedule,
}

fn planned(w: &World) -> Planned {
    let bundle = w.bundle("2-0", "", None, &[("bin/abcd", "two")]);
    let (from, until) = (now().plus(HOUR * 10), now().plus(HOUR * 12));
    let schedule = Schedule {
        bundle: Digest::of(&bundle),
        software_version: SoftwareVersion::parse("2-0").unwrap(),
        bundle_bytes: bundle.len() as u64,
        not_before: from,
        intervals: vec![Interval { from, until }],
        defer_until: None,
        fetch: false,
    };
    Planned { bundle, schedule }
}

fn send_bundle(w: &mut World, planned: &Planned) -> EnvelopeId {
    let life = w.life();
    w.send_with(life, &World::install_order_at(&planned.bundle, "2-0", true), &planned.bundle)
}

/// A site whose update may begin ten hours from now, at any time from then on, and be put off for five hours.
fn with_evening_update() -> (World, EnvelopeId, UnixMillis) {
    let mut w = with_version_one();
    let mut planned = planned(&w);
    let limit = planned.schedule.not_before.plus(HOUR * 5);
    planned.schedule.intervals.clear();
    planned.schedule.defer_until = Some(limit);
    w.send(&Order::Schedule(planned.schedule.clone()));
    let order = send_bundle(&mut w, &planned);
    assert_eq!(w.once(), 0);
    (w, order, limit)
}

fn reasons(w: &mut World, order: EnvelopeId) -> Vec<WaitReason> {
    w.waits(order).iter().map(|waiting| waiting.reason).collect()
}

/// PROTOCOL 15.2
#[test]
fn an_install_begins_in_its_interval_whichever_of_order_and_schedule_comes_first() {
    for schedule_first in [true, false] {
        let mut w = with_version_one();
        let planned = planned(&w);
        let schedule = Order::Schedule(planned.schedule.clone());
        if schedule_first {
            w.send(&schedule);
        }
        let order = send_bundle(&mut w, &planned);
        assert_eq!(w.once(), 0);
        if !schedule_first {
            assert_eq!(reasons(&mut w, order), [WaitReason::NoSchedule]);
            w.send(&schedule);
            assert_eq!(w.once(), 0);
        }
        for minutes in [0, 300, 599] {
            assert_eq!(once_in(&w, minutes), Some(0));
            assert_eq!(w.file("bin/abcd").unwrap(), "one", "{minutes}");
        }
        let told = w.waits(order).pop().unwrap();
        assert_eq!((told.reason, told.until), (WaitReason::NotYet, planned.schedule.not_before));
        assert!(w.status().contains("2-0: its time has not come, expected 20"), "{}", w.status());
        assert_eq!(once_in(&w, 601), Some(0));
        assert_eq!(w.outcome(order), Outcome::Installed);
        assert_eq!(w.file("bin/abcd").unwrap(), "two");
        assert_eq!(w.waits(order).len(), if schedule_first { 1 } else { 2 }, "each wait is told once");
        assert!(!w.status().contains("Waiting"), "{}", w.status());
    }
}

/// PROTOCOL 15.3
#[test]
fn an_agent_that_was_off_in_all_its_intervals_ends_the_order_as_expired() {
    let mut w = with_version_one();
    let planned = planned(&w);
    w.send(&Order::Schedule(planned.schedule.clone()));
    let order = send_bundle(&mut w, &planned);
    assert_eq!(w.once(), 0);
    assert_eq!(once_in(&w, 12 * 60 + 1), Some(1));
    let cause = Cause::WaitedTooLong(Some(Hindrance::of(WaitReason::NotYet)));
    let failure = Failure { phase: Phase::Stage, cause, undo_failed: false };
    assert_eq!(w.outcome(order), Outcome::RolledBack(failure));
    assert_eq!(w.file("bin/abcd").unwrap(), "one");
}

/// PROTOCOL 15.5
#[test]
fn an_offered_bundle_is_asked_for_in_its_time_and_once_more() {
    let mut w = with_version_one();
    let mut planned = planned(&w);
    planned.schedule.fetch = true;
    let schedule = w.send(&Order::Schedule(planned.schedule.clone()));
    let asked = |w: &mut World| {
        w.collect();
        let of = |r: &Report| if let Report::Fetch(fetch) = r { Some(fetch.clone()) } else { None };
        w.reports.iter().filter_map(of).collect::<Vec<Fetch>>()
    };
    let expected = Fetch { schedule, bundle: planned.schedule.bundle };
    for (minutes, times) in [(0, 0), (599, 0), (601, 1), (620, 1), (632, 2), (700, 2)] {
        assert_eq!(once_in(&w, minutes), Some(0));
        assert_eq!(asked(&mut w), vec![expected.clone(); times], "{minutes}");
    }
    let order = send_bundle(&mut w, &planned);
    assert_eq!(once_in(&w, 701), Some(0));
    assert_eq!(w.outcome(order), Outcome::Installed);
}

/// PROTOCOL 15.6
#[test]
fn a_person_puts_an_update_off_as_far_as_its_schedule_allows() {
    let (mut w, order, limit) = with_evening_update();
    let document = text(&agent_in(&w, 0, &["defer", "--json"]));
    assert!(
        document.contains(&format!("\"order\": \"{order}\"")) && document.contains("begins_at"),
        "{document}"
    );
    // Two hours more, and the agent has not even looked yet.
    let more = agent_in(&w, 0, &["defer", "2h", "--order", &order.to_hex()[..6]]);
    assert!(more.status.success() && text(&more).contains("2-0 is put off: it begins at"), "{}", text(&more));
    assert!(
        w.status().contains("2-0: put off at the site (") && !w.status().contains("its time"),
        "{}",
        w.status()
    );
    let too_long = agent_in(&w, 0, &["defer", "2h"]);
    assert_eq!(too_long.status.code(), Some(2));
    assert!(
        text(&too_long).contains(&format!("can be put off until {limit} at the latest")),
        "{}",
        text(&too_long)
    );
    assert_eq!(w.once(), 0);
    let told = w.waits(order).pop().unwrap();
    assert_eq!((told.reason, told.until.since(limit.minus(HOUR)).as_secs()), (WaitReason::PutOff, 0));
    if rustix::process::geteuid().is_root() {
        assert_eq!(told.about.unwrap().as_str(), "tanaka");
    }
    assert!(std::fs::read_dir(w.home().join("wishes")).unwrap().next().is_none(), "what is granted is saved");
    assert_eq!(once_in(&w, 13 * 60), Some(0));
    assert_eq!(w.file("bin/abcd").unwrap(), "one");
    assert_eq!(once_in(&w, 14 * 60 + 1), Some(0));
    assert_eq!(w.outcome(order), Outcome::Installed);
    let nothing = agent_in(&w, 0, &["defer"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing).contains("no update waits here"), "{}", text(&nothing));
}

/// PROTOCOL 15.6
#[test]
fn what_nobody_has_allowed_to_put_off_is_not_put_off() {
    let mut w = with_version_one();
    let planned = planned(&w);
    let order = send_bundle(&mut w, &planned);
    assert_eq!(w.once(), 0);
    let refused = |w: &World, order: EnvelopeId, why: &str| {
        let out = agent_in(w, 0, &["defer", "1h", "--order", &order.to_hex()]);
        assert!(out.status.code() == Some(2) && text(&out).contains(why), "{}", text(&out));
    };
    refused(&w, order, "its schedule, which says how long it may be put off, has not arrived");
    w.send(&Order::Schedule(planned.schedule.clone()));
    assert_eq!(w.once(), 0);
    refused(&w, order, "its schedule does not allow it to be put off");
    w.cancel(order);
    let unscheduled = w.install("3-0", Some("[ $1 = check ] && exit 75; exit 0"), &[("bin/abcd", "three")]);
    w.once();
    refused(&w, unscheduled, "it is not scheduled");
    refused(&w, EnvelopeId([1; 16]), "expected the number of an update that waits");
    let garbage = w.home().join(format!("wishes/{unscheduled}.toml"));
    std::fs::write(&garbage, "until = 7").unwrap();
    assert_eq!(w.once(), 0);
    assert!(!garbage.exists());
}

/// PROTOCOL 15.7
#[test]
fn a_person_cancels_an_update_beside_an_agent_that_runs() {
    let (mut w, order, _) = with_evening_update();
    let mut agent = w.spawn(&["run"]);
    let out = agent_in(&w, 0, &["cancel", &order.to_hex()[..8]]);
    assert!(out.status.success() && text(&out).contains("2-0 is cancelled"), "{}", text(&out));
    wait_until("the agent has seen it", || !w.status().contains("Waiting"));
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(w.once(), 0);
    assert_eq!(w.outcome(order), Outcome::Refused(Refusal::Declined));
    let again = agent_in(&w, 0, &["cancel", &order.to_hex()]);
    assert_eq!(again.status.code(), Some(2), "{}", text(&again));
    assert_eq!(once_in(&w, 11 * 60), Some(0));
    assert_eq!(w.file("bin/abcd").unwrap(), "one");
}

/// PROTOCOL 15.7
#[test]
fn it_is_too_late_to_cancel_or_put_off_what_has_begun() {
    let mut w = with_version_one();
    let order = w.install("2-0", Some("[ $1 = post ] && exit 76; exit 0"), &[("bin/abcd", "two")]);
    assert_eq!(w.once(), 0);
    for command in [vec!["cancel", "--json"], vec!["defer", "--order"]] {
        let number = order.to_hex();
        let args: Vec<&str> = command.into_iter().chain([number.as_str()]).collect();
        let out = w.agent(&args);
        assert!(
            out.status.code() == Some(1) && text(&out).contains("too late: it has begun"),
            "{}",
            text(&out)
        );
    }
    // Whoever writes the file all the same changes nothing.
    let wish = format!("order = \"{order}\"\nby = \"x\"\ncancel = true\n");
    std::fs::write(w.home().join(format!("wishes/{order}.toml")), wish).unwrap();
    assert_eq!(w.once(), 0);
    assert!(w.status().contains("waits: the box is to restart"), "{}", w.status());
}
