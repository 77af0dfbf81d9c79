//! Devices as the core sees them: looks go in, fault reports and readings come out.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod site;

use std::collections::BTreeMap;
use std::time::Duration;

use agent_core::Event;
use proptest::prelude::*;
use shared::UnixMillis;
use shared::device::{Fault, FaultClass, FaultKey, FaultKind, Severity};
use shared::message::{Acknowledge, FaultChange, FaultReport, Heartbeat, Linked, Order, ReadingMark};
use shared::reading::AnomalyKind;
use site::{MINUTE, Site, T0, counters, fault, linked, name, other, strange};

fn edges(reports: &[FaultReport]) -> Vec<(&str, bool)> {
    let all = reports.iter().flat_map(|r| &r.changes);
    all.map(|c| (c.fault.code.as_str(), c.cleared_at.is_some())).collect()
}

#[test]
fn a_jam_that_comes_and_goes_is_told_twice_however_often_it_is_seen() {
    let mut site = Site::new();
    site.minutes("..xxxx");
    let raised = site.told();
    assert_eq!(edges(&raised), [("8", false)]);
    assert_eq!(raised[0].number, 1);
    site.minutes("xx....");
    let cleared = site.told();
    assert_eq!(edges(&cleared), [("8", true)]);
    let change = &cleared[0].changes[0];
    assert_eq!(change.cleared_at, Some(T0.plus(MINUTE * 9)), "when it was first seen to be gone");
    assert_eq!(change.raised_at, raised[0].changes[0].raised_at);
}

#[test]
fn a_fault_goes_out_within_seconds_of_the_look_that_found_it() {
    let mut site = Site::new();
    site.look(&[fault("8")]);
    site.pass(Duration::from_secs(5));
    assert_eq!(site.told().len(), 1);
}

#[test]
fn a_lost_acknowledgement_makes_the_report_come_again_exactly_once() {
    let mut site = Site::new();
    site.look(&[fault("8")]);
    site.pass(Duration::from_secs(5));
    let first = site.told();
    let mut waited = 0;
    while site.core.awaits_answer(site.now) {
        site.pass(Duration::from_secs(30));
        waited += 1;
    }
    assert_eq!(waited, 60, "every 30 s for 30 min");
    let mut again = site.told();
    assert_eq!(again, first, "the same report with the same number");
    for _ in 0..100 {
        site.pass(MINUTE * 10);
    }
    again = site.told();
    assert_eq!(again, [], "and no third time");
    // The manager is heard: then it has a chance to be heard by the manager.
    site.order(Order::Heartbeat(Heartbeat { every_ms: 7 * 86_400_000 }));
    assert_eq!(site.told(), first);
    site.acknowledge(&[1]);
    site.pass(MINUTE * 60 * 24);
    site.order(Order::Heartbeat(Heartbeat { every_ms: 7 * 86_400_000 }));
    assert_eq!(site.told(), []);
}

#[test]
fn an_answer_from_before_a_disk_was_put_back_takes_no_other_report_of_its_number() {
    // PROTOCOL 14.2
    let mut site = Site::new();
    let older = site.saved.clone();
    site.look(&[fault("8")]);
    site.pass(Duration::from_secs(5));
    let first = site.told();
    site.saved = older;
    site.restart();
    site.look(&[fault("9")]);
    site.pass(Duration::from_secs(5));
    let second = site.told();
    assert_eq!((first[0].number, second[0].number), (1, 1), "the number is given out again");
    site.acknowledge_reports(&first);
    site.pass(MINUTE * 40);
    assert_eq!(site.told(), second, "it is said again, under the same stamp");
    site.acknowledge_reports(&second);
    assert!(site.core.state().watch.telling.changes.is_empty());
    assert!(site.core.state().watch.telling.reports.is_empty());
}

#[test]
fn who_knows_no_stamps_is_answered_and_believed_by_the_number() {
    // PROTOCOL 14.2: a manager of before, and a report that an agent of before has made.
    let mut site = Site::new();
    site.look(&[fault("8")]);
    site.pass(Duration::from_secs(5));
    site.order(Order::Acknowledge(Acknowledge { faults: vec![1], ..Acknowledge::default() }));
    assert!(site.core.state().watch.telling.changes.is_empty());
    site.look(&[fault("8"), fault("9")]);
    site.pass(Duration::from_secs(5));
    let mut state = site.core.state().clone();
    state.watch.telling.reports[0].stamp = None;
    site.saved = state.encode();
    site.restart();
    let stamps = Some(vec![]);
    site.order(Order::Acknowledge(Acknowledge {
        faults: vec![1],
        stamps: stamps.clone(),
        ..Acknowledge::default()
    }));
    assert_eq!(site.core.state().watch.telling.changes.len(), 1, "not another number");
    site.order(Order::Acknowledge(Acknowledge { faults: vec![2], stamps, ..Acknowledge::default() }));
    assert!(site.core.state().watch.telling.changes.is_empty());
}

#[test]
fn what_flaps_for_a_day_is_told_a_few_times() {
    let mut site = Site::new();
    for _ in 0..24 * 30 {
        site.minutes("x.");
    }
    assert_eq!(edges(&site.told()), [("8", false)], "it never stayed away");
    // Away for ten minutes and back for one, all day: ever longer pauses count as one fault.
    let mut site = Site::new();
    for _ in 0..24 * 6 {
        site.minutes("x.........");
    }
    let told = edges(&site.told()).len();
    assert!((3..=12).contains(&told), "{told}");
}

#[test]
fn a_device_that_is_switched_off_is_told_after_three_looks_and_its_return_at_once() {
    let mut site = Site::new();
    site.look(&[]);
    for _ in 0..2 {
        site.pass(MINUTE);
        site.silent();
    }
    site.pass(MINUTE);
    assert_eq!(site.told(), []);
    for _ in 0..60 {
        site.silent();
        site.pass(MINUTE);
        site.answer();
    }
    let gone = site.told();
    assert_eq!(edges(&gone), [("agent:no-answer", false)]);
    let fault = &gone[0].changes[0].fault;
    assert_eq!(
        (fault.kind, fault.class, fault.severity),
        (FaultKind::Offline, FaultClass::C, Severity::Info)
    );
    assert_eq!(fault.text.as_str(), "no answer; before that it was idle: switched off or asleep");
    site.minutes(".");
    site.pass(Duration::from_secs(5));
    assert_eq!(edges(&site.told()), [("agent:no-answer", true)]);
}

#[test]
fn a_device_that_falls_silent_with_a_fault_is_in_more_trouble_and_keeps_the_fault() {
    let mut site = Site::new();
    site.look(&[fault("8")]);
    for _ in 0..4 {
        site.pass(MINUTE);
        site.silent();
    }
    site.pass(MINUTE);
    let told = site.told();
    assert_eq!(edges(&told), [("8", false), ("agent:no-answer", false)]);
    assert_eq!(told[1].changes[0].fault.class, FaultClass::A);
}

#[test]
fn a_look_that_cannot_read_what_is_wrong_ends_no_fault() {
    let mut site = Site::new();
    site.minutes("x");
    // The end of one that had just begun to be away is not brought nearer either.
    site.minutes(".");
    for _ in 0..60 {
        site.pass(MINUTE);
        site.answer();
        site.half_look(&[]);
    }
    assert_eq!(edges(&site.told()), [("8", false), ("agent:not-readable", false)]);
    site.minutes("x.");
    assert_eq!(
        site.told().iter().flat_map(|r| &r.changes).filter(|c| c.fault.code.as_str() == "8").count(),
        0
    );
    // It must stay away for a while, as it has come back.
    site.minutes("....");
    assert_eq!(edges(&site.told()), [("8", true)]);
}

#[test]
fn a_device_whose_faults_cannot_be_read_is_told_after_three_looks_and_its_return_at_once() {
    let mut site = Site::new();
    site.look(&[]);
    for _ in 0..2 {
        site.pass(MINUTE);
        site.half_look(&[]);
    }
    site.pass(MINUTE);
    assert_eq!(site.told(), [], "two looks say nothing");
    site.half_look(&[]);
    site.pass(MINUTE);
    let told = site.told();
    assert_eq!(edges(&told), [("agent:not-readable", false)]);
    assert_eq!(told[0].changes[0].fault.text.as_str(), "what is wrong with it cannot be read");
    site.minutes(".");
    site.pass(MINUTE);
    assert_eq!(edges(&site.told()), [("agent:not-readable", true)]);
}

#[test]
fn what_such_a_look_does_show_has_begun_and_a_device_that_was_silent_is_back() {
    let mut site = Site::new();
    for _ in 0..4 {
        site.pass(MINUTE);
        site.silent();
    }
    site.pass(MINUTE);
    assert_eq!(edges(&site.told()), [("agent:no-answer", false)]);
    site.half_look(&[fault("8")]);
    site.pass(MINUTE);
    let mut told = site.told();
    told.iter_mut().for_each(|r| r.changes.sort_by_key(|c| c.cleared_at.is_none()));
    assert_eq!(edges(&told), [("agent:no-answer", true), ("8", false)]);
}

#[test]
fn a_warning_that_a_device_never_takes_back_is_over_after_a_day() {
    let mut site = Site::new();
    let unary = Fault { never_cleared: true, ..fault("1") };
    for _ in 0..60 * 72 {
        site.pass(MINUTE);
        site.look(std::slice::from_ref(&unary));
        site.answer();
    }
    assert_eq!(edges(&site.told()).iter().filter(|e| e.1).count(), 1);
    assert_eq!(site.core.state().watch.devices[&name("mfp")].open.len(), 1, "and does not begin again");
}

#[test]
fn a_device_that_is_watched_no_more_leaves_no_fault_open() {
    let mut site = Site::new();
    site.minutes("x");
    site.pass(MINUTE);
    site.told();
    site.feed(Event::Watching { devices: vec![], head: None, last: vec![] });
    site.pass(MINUTE);
    assert_eq!(edges(&site.told()), [("8", true)]);
    assert!(site.core.state().watch.devices.is_empty());
}

#[test]
fn a_counter_that_falls_is_asked_for_again_before_it_is_believed() {
    let mut site = Site::new();
    site.read("mfp", "S1", 5_000);
    site.pass(MINUTE * 60);
    site.read("mfp", "S1", 0);
    assert_eq!((site.kept.len(), site.asked_again.len()), (1, 1));
    // A bad reading: nothing of it is kept.
    site.read("mfp", "S1", 5_010);
    assert_eq!(site.kept.len(), 2);
    assert_eq!(site.kept[1].2, []);
    // A true one: kept, and marked.
    site.pass(MINUTE * 60);
    site.read("mfp", "S1", 100);
    site.read("mfp", "S1", 100);
    assert_eq!(site.kept.len(), 3);
    assert_eq!(site.kept[2].2[0].kind, AnomalyKind::Backwards);
    assert_eq!(site.kept[2].1.counters[0].value, 100);
}

#[test]
fn another_device_and_a_second_one_of_the_same_serial_number_are_marked() {
    let mut site = Site::new();
    site.read("mfp", "S1", 5_000);
    site.read("mfp", "S2", 3);
    site.read("ups", "S2", 0);
    let kinds: Vec<_> = site.kept.iter().map(|k| k.2.iter().map(|a| a.kind).collect::<Vec<_>>()).collect();
    assert_eq!(kinds, [vec![], vec![AnomalyKind::Swapped], vec![AnomalyKind::SerialTwice]]);
}

#[test]
fn a_reading_is_compared_with_the_one_before_the_restart() {
    let mut site = Site::new();
    site.read("mfp", "S1", 5_000);
    site.restart();
    site.read("mfp", "S1", 10);
    assert_eq!((site.kept.len(), site.asked_again.len()), (1, 1));
}

#[test]
fn counters_go_out_on_request_and_each_day_and_begin_where_the_manager_ends() {
    let mut site = Site::new();
    site.order(Order::QueryCounters);
    let asked = counters(&mut site);
    assert_eq!(asked.len(), 1, "an answer comes also if nothing is collected yet");
    assert_eq!((asked[0].0.is_some(), asked[0].1), (true, None));
    for hour in 0..48 {
        site.read("mfp", "S1", 1_000 + hour);
        site.pass(MINUTE * 60);
    }
    let on_schedule = counters(&mut site);
    assert!((2..=3).contains(&on_schedule.len()), "{on_schedule:?}");
    let mark = |index| Some(ReadingMark { chain: 9, index });
    site.order(Order::Acknowledge(Acknowledge {
        faults: vec![],
        readings: mark(5),
        there: None,
        stamps: None,
    }));
    let rest = counters(&mut site);
    assert_eq!(rest, [(None, Some(5))], "more is sent when what came is acknowledged");
    let all = mark(site.kept.len() as u64);
    site.order(Order::Acknowledge(Acknowledge { faults: vec![], readings: all, there: None, stamps: None }));
    assert_eq!(counters(&mut site), []);
    site.order(Order::QueryCounters);
    assert_eq!(counters(&mut site)[0].1, Some(site.kept.len() as u64));
}

impl Site {
    /// The manager has the readings up to this one of a chain.
    fn has(&mut self, chain: u64, index: u64, there: Option<Linked>) {
        let readings = Some(ReadingMark { chain, index });
        self.order(Order::Acknowledge(Acknowledge { faults: vec![], readings, there, stamps: None }));
    }

    /// Ten readings, of which the manager has the first four.
    fn with_readings() -> Self {
        let mut site = Self::new();
        for hour in 0..10 {
            site.pass(MINUTE * 60);
            site.read("mfp", "S1", 1_000 + hour);
        }
        site.has(9, 4, Some(linked(9, 4)));
        site.sent.clear();
        site
    }
}

#[test]
fn a_disk_that_was_put_back_begins_another_chain_with_all_that_the_manager_lacks() {
    // PROTOCOL 14.10. The manager has more of this chain than this disk knows of.
    let mut site = Site::with_readings();
    site.has(9, 50, None);
    assert_eq!(site.left_behind, [4]);
    assert_eq!(site.head(), Some(ReadingMark { chain: 10, index: 6 }));
    assert_eq!(counters(&mut site), [(None, None)], "it is sent at once, from its beginning");
    // The next reading goes on there.
    site.read("mfp", "S1", 2_000);
    assert_eq!(site.head(), Some(ReadingMark { chain: 10, index: 7 }));
}

#[test]
fn a_reading_whose_place_another_has_is_said_in_another_chain_and_none_before_it() {
    let mut site = Site::with_readings();
    site.has(9, 7, Some(other(9, 7)));
    assert_eq!(site.left_behind, [6]);
    assert_eq!(site.head(), Some(ReadingMark { chain: 10, index: 4 }));
    assert_eq!(counters(&mut site), [(None, None)]);
    // What was said of the old one counts no more, also after a restart.
    for _ in 0..2 {
        site.has(9, 7, Some(other(9, 7)));
        site.has(9, 50, None);
        site.restart();
    }
    assert_eq!(site.left_behind, [6]);
}

#[test]
fn a_place_before_which_the_chains_part_already_is_asked_about_once() {
    let mut site = Site::with_readings();
    site.has(9, 8, Some(strange()));
    assert_eq!(site.left_behind, [] as [u64; 0]);
    assert_eq!(counters(&mut site), [(None, Some(4))], "the manager names the first place in a report");
    site.has(9, 6, Some(other(9, 6)));
    assert_eq!(site.left_behind, [5]);
    // A manager that cannot name it does not make it go on for ever.
    let mut site = Site::with_readings();
    for _ in 0..2 {
        site.has(9, 8, Some(strange()));
    }
    assert_eq!(site.left_behind, [4], "all that is not acknowledged");
}

#[test]
fn a_disk_that_has_less_than_was_delivered_begins_another_chain_when_it_starts() {
    let mut site = Site::with_readings();
    site.has(9, 10, Some(linked(9, 10)));
    site.kept.truncate(6);
    site.restart();
    assert_eq!(site.left_behind, [6]);
    assert_eq!(site.head(), None);
    site.read("mfp", "S1", 2_000);
    assert_eq!(site.head(), Some(ReadingMark { chain: 10, index: 1 }));
}

#[test]
fn a_chain_of_which_the_disk_knows_nothing_is_not_gone_on_from() {
    let mut site = Site::with_readings();
    site.has(77, 0, None);
    assert_eq!(site.left_behind, [] as [u64; 0], "of which the manager has nothing either");
    site.has(77, 3, Some(linked(77, 3)));
    assert_eq!(site.left_behind, [4]);
}

#[test]
fn a_chain_that_was_lost_is_known_and_what_is_said_of_it_changes_nothing() {
    let mut site = Site::with_readings();
    site.chain = 12;
    site.kept.clear();
    site.restart();
    site.read("mfp", "S1", 3_000);
    site.has(9, 10, Some(linked(9, 10)));
    assert_eq!(site.left_behind, [] as [u64; 0]);
    site.has(12, 1, Some(linked(12, 1)));
    assert_eq!(site.core.state().watch.delivered, Some(ReadingMark { chain: 12, index: 1 }));
}

#[test]
fn whoever_has_no_readings_has_no_chain_to_begin_anew() {
    let mut site = Site::new();
    site.has(77, 3, None);
    assert_eq!(site.left_behind, [] as [u64; 0]);
}

#[test]
fn the_chains_that_a_box_remembers_are_bounded() {
    let mut site = Site::with_readings();
    for _ in 0..40 {
        let ahead = ReadingMark { index: 99, ..site.head().unwrap() };
        site.has(ahead.chain, ahead.index, None);
    }
    assert_eq!(site.left_behind.len(), 40);
    assert_eq!(site.core.state().watch.chains.len(), 16);
}

#[test]
fn months_without_mail_keep_every_open_fault_in_bounded_room() {
    let mut site = Site::new();
    site.mail_works = false;
    for day in 0..90_u32 {
        for hour in (0..24).step_by(6) {
            site.pass(MINUTE * 360);
            let faults: Vec<_> = (0..40).map(|n| fault(&format!("{}", (day * 24 + hour) * 7 + n))).collect();
            site.look(&faults);
        }
    }
    let open: Vec<_> =
        site.core.state().watch.devices[&name("mfp")].open.iter().map(|o| o.raised_at).collect();
    assert!(!open.is_empty());
    assert!(site.saved.len() < 4 << 20, "{} bytes", site.saved.len());
    site.mail_works = true;
    let mut known = BTreeMap::new();
    for _ in 0..200 {
        site.pass(MINUTE * 30);
        let told = site.told();
        let numbers: Vec<_> = told.iter().map(|r| r.number).collect();
        known.extend(
            told.into_iter().flat_map(|r| r.changes).map(|c| ((c.fault.key, c.raised_at), c.cleared_at)),
        );
        if !numbers.is_empty() {
            site.acknowledge(&numbers);
        }
    }
    let known_open = known.values().filter(|cleared| cleared.is_none()).count();
    assert_eq!(known_open, open.len());
    assert!(site.core.state().watch.telling.changes.is_empty());
}

/// What the manager makes of all reports that reached it, in whatever order.
fn manager(reports: &[FaultReport]) -> BTreeMap<(FaultKey, UnixMillis), bool> {
    let mut known: BTreeMap<_, bool> = BTreeMap::new();
    for change in reports.iter().flat_map(|r| &r.changes) {
        let FaultChange { fault, raised_at, cleared_at, .. } = change;
        *known.entry((fault.key.clone(), *raised_at)).or_default() |= cleared_at.is_some();
    }
    known
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever flickers, whatever is lost, whenever the power goes: when the mail works again the manager ends with
    /// the faults that are open, and no other.
    #[test]
    fn the_manager_ends_with_the_faults_that_are_open(
        steps in prop::collection::vec((0u8..8, 0u8..4, any::<bool>(), any::<bool>()), 1..120)
    ) {
        let mut site = Site::new();
        let mut reached = vec![];
        let mut shown = vec![];
        for (what, lost, mail, acknowledged) in steps {
            site.mail_works = mail;
            match what {
                0 => site.restart(),
                1 => site.silent(),
                2 => site.pass(MINUTE * 45),
                _ => {
                    shown = (0..4).filter(|n| (what >> n) & 1 == 1).map(|n| fault(&n.to_string())).collect();
                    site.look(&shown);
                }
            }
            site.pass(MINUTE);
            let told = site.told();
            let arrived: Vec<_> = told.into_iter().filter(|_| lost != 0).collect();
            let numbers: Vec<_> = arrived.iter().map(|r| r.number).collect();
            reached.extend(arrived);
            if acknowledged && !numbers.is_empty() {
                site.acknowledge(&numbers);
            }
        }
        site.mail_works = true;
        for _ in 0..200 {
            site.pass(MINUTE * 8);
            site.look(&shown);
            let told = site.told();
            let numbers: Vec<_> = told.iter().map(|r| r.number).collect();
            reached.extend(told);
            site.acknowledge(&numbers);
        }
        let open: Vec<_> = manager(&reached).into_iter().filter(|(_, cleared)| !cleared).map(|(k, _)| k).collect();
        let mut truth: Vec<_> = site.core.state().watch.devices[&name("mfp")]
            .open
            .iter()
            .map(|o| (o.fault.key.clone(), o.raised_at))
            .collect();
        truth.sort();
        prop_assert_eq!(open, truth);
        prop_assert!(site.core.state().watch.telling.changes.is_empty());
    }
}
