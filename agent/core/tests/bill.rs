//! Days of bills as the core lives through them: every device is read, what was read is sent, and neither a restart nor a
//! clock that jumps makes it happen twice or not at all.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod site;

use std::time::Duration;

use agent_core::BillDays;
use shared::UnixMillis;
use shared::message::Report;
use site::{MINUTE, Site, T0};

const HOUR: Duration = Duration::from_secs(3_600);
const DEVICES: [&str; 2] = ["mfp", "ups"];

/// A site on 15 June, 15:06, whose bill is due on the 16th, and whose counters are sent for nothing else.
fn before_the_bill() -> Site {
    let bill = BillDays { days: [16].into(), utc_offset_minutes: 0 };
    let mut site = Site::with(None, bill);
    DEVICES.iter().for_each(|device| site.look_at(device, &[]));
    site.asked_again.clear();
    site
}

fn at(text: &str) -> UnixMillis {
    UnixMillis::parse(text).unwrap()
}

/// Looks at all devices but those that are off, and reads those that are to be read.
fn look_around(site: &mut Site, off: &[&str]) {
    for device in DEVICES.iter().filter(|device| !off.contains(device)) {
        site.look_at(device, &[]);
        if !std::mem::take(&mut site.asked_again).is_empty() {
            let serial = format!("S-{device}");
            site.read(device, &serial, 1_000);
        }
    }
}

/// Lives on until a time, with a look every ten minutes.
fn live_until(site: &mut Site, end: &str, off: &[&str]) {
    while site.now < at(end) {
        site.pass(MINUTE * 10);
        look_around(site, off);
    }
}

/// How often counters were sent since this was asked last.
fn sendings(site: &mut Site) -> usize {
    site.sent.drain(..).filter(|report| matches!(report, Report::Counters(_))).count()
}

fn devices_read(site: &Site) -> Vec<String> {
    site.kept.iter().map(|(device, ..)| device.to_string()).collect()
}

fn both() -> Vec<String> {
    DEVICES.map(str::to_owned).to_vec()
}

#[test]
fn when_the_day_begins_each_device_is_read_and_all_of_it_is_sent_once() {
    let mut site = before_the_bill();
    live_until(&mut site, "2025-06-15T23:50:00Z", &[]);
    assert_eq!((site.kept.len(), sendings(&mut site)), (0, 0), "not before its day");
    live_until(&mut site, "2025-06-16T00:30:00Z", &[]);
    assert_eq!(devices_read(&site), ["mfp", "ups"]);
    assert!(site.kept.iter().all(|(_, seen, _)| seen.taken_at.since(at("2025-06-16")) < MINUTE * 20));
    live_until(&mut site, "2025-06-16T01:30:00Z", &[]);
    assert_eq!(sendings(&mut site), 1, "within an hour");
    live_until(&mut site, "2025-07-15T23:50:00Z", &[]);
    assert_eq!((site.kept.len(), sendings(&mut site)), (2, 0), "and nothing more in that month");
    live_until(&mut site, "2025-07-16T02:00:00Z", &[]);
    assert_eq!((site.kept.len(), sendings(&mut site)), (4, 1));
}

#[test]
fn boxes_of_one_fleet_do_not_send_in_one_second() {
    let mut site = before_the_bill();
    live_until(&mut site, "2025-06-16T00:00:00Z", &[]);
    let bill = site.core.state().watch.bill.clone().unwrap();
    assert!(bill.send_at > site.now && bill.send_at.since(site.now) < HOUR, "{}", bill.send_at);
}

#[test]
fn a_device_that_is_off_holds_nothing_up_beyond_the_evening_and_is_read_when_it_is_back() {
    let mut site = before_the_bill();
    live_until(&mut site, "2025-06-16T17:50:00Z", &["ups"]);
    assert_eq!((devices_read(&site), sendings(&mut site)), (vec!["mfp".to_owned()], 0));
    live_until(&mut site, "2025-06-16T19:10:00Z", &["ups"]);
    assert_eq!(sendings(&mut site), 1);
    // Nothing new, nothing sent.
    live_until(&mut site, "2025-06-19T08:00:00Z", &["ups"]);
    assert_eq!(sendings(&mut site), 0);
    live_until(&mut site, "2025-06-19T10:00:00Z", &[]);
    assert_eq!((devices_read(&site), sendings(&mut site)), (both(), 1));
    live_until(&mut site, "2025-06-30", &[]);
    assert_eq!((site.kept.len(), sendings(&mut site)), (2, 0));
}

#[test]
fn a_device_that_is_watched_no_more_is_not_waited_for() {
    let mut site = before_the_bill();
    live_until(&mut site, "2025-06-16T01:00:00Z", &["ups"]);
    site.feed(agent_core::Event::Watching {
        devices: vec![site::name("mfp")],
        head: site.head(),
        last: vec![],
    });
    live_until(&mut site, "2025-06-16T02:10:00Z", &["ups"]);
    assert_eq!(sendings(&mut site), 1);
    assert!(site.core.state().watch.bill.is_none());
}

#[test]
fn a_reading_that_the_disk_did_not_take_is_not_the_bills() {
    let mut site = before_the_bill();
    site.disk_full = true;
    live_until(&mut site, "2025-06-16T03:00:00Z", &[]);
    assert_eq!(sendings(&mut site), 0);
    site.disk_full = false;
    live_until(&mut site, "2025-06-16T05:00:00Z", &[]);
    assert_eq!((devices_read(&site), sendings(&mut site)), (both(), 1));
}

#[test]
fn restarts_neither_lose_the_bill_nor_double_it() {
    let mut site = before_the_bill();
    while site.now < at("2025-06-17T00:00:00Z") {
        site.pass(MINUTE * 5);
        site.restart();
        let off: &[&str] = if site.now < at("2025-06-16T06:00:00Z") { &["ups"] } else { &[] };
        look_around(&mut site, off);
        site.restart();
    }
    assert_eq!((devices_read(&site), sendings(&mut site)), (both(), 1));
}

#[test]
fn a_box_that_was_off_on_the_day_reads_and_sends_when_it_is_on_again() {
    let mut site = before_the_bill();
    site.now = at("2025-06-18T09:00:00Z");
    site.restart();
    live_until(&mut site, "2025-06-18T10:30:00Z", &[]);
    assert_eq!((site.kept.len(), sendings(&mut site)), (2, 1));
    live_until(&mut site, "2025-07-10", &[]);
    assert_eq!((site.kept.len(), sendings(&mut site)), (2, 0));
}

#[test]
fn a_clock_that_is_wrong_for_a_while_neither_loses_the_bill_nor_doubles_it() {
    let far = Duration::from_secs(3 * 365 * 86_400);
    for (wrong_at, name) in [("2025-06-15T20:00:00Z", "before"), ("2025-06-16T12:00:00Z", "after")] {
        let mut site = before_the_bill();
        live_until(&mut site, wrong_at, &[]);
        let (kept, before) = (site.kept.len(), sendings(&mut site));
        site.now = site.now.plus(far);
        site.restart();
        for _ in 0..12 {
            site.pass(MINUTE * 10);
            look_around(&mut site, &[]);
        }
        // What the wrong clock took for a bill's day is one reading more, and harms nobody.
        assert_eq!((site.kept.len(), sendings(&mut site)), (kept + 2, 1), "{name}");
        site.now = site.now.minus(far);
        live_until(&mut site, "2025-07-15", &[]);
        let (kept, after) = (site.kept.len(), sendings(&mut site));
        assert_eq!((kept, before + after), (4, 1), "{name}: the true bill, once");
    }
}

#[test]
fn a_clock_that_is_set_back_over_midnight_begins_no_second_bill() {
    let mut site = before_the_bill();
    live_until(&mut site, "2025-06-16T00:00:00Z", &[]);
    look_around(&mut site, &[]);
    site.now = at("2025-06-15T23:40:00Z");
    live_until(&mut site, "2025-06-17", &[]);
    assert_eq!((site.kept.len(), sendings(&mut site)), (2, 1));
}

#[test]
fn a_new_agent_owes_no_bill_of_days_that_are_past() {
    let bill = BillDays { days: [1, 15].into(), utc_offset_minutes: 0 };
    let mut site = Site::with(None, bill);
    assert!(T0 > at("2025-06-15"));
    live_until(&mut site, "2025-06-30T23:50:00Z", &[]);
    assert_eq!((site.kept.len(), sendings(&mut site)), (0, 0));
    live_until(&mut site, "2025-07-01T02:00:00Z", &[]);
    assert_eq!((site.kept.len(), sendings(&mut site)), (2, 1));
}
