//! Faults and readings that agents report over a spool: what the manager keeps, what it answers, what it keeps out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "tests may overflow and fail")]

mod office;

use std::ops::ControlFlow;

use mailfleet::store::{FaultRecord, KeptReading};
use mailfleet::system::now;
use manager_core::chain::Refusal;
use office::watcher::{Chain, T0, counters, faults, jam, label, seen};
use office::{Box7, Office};
use shared::UnixMillis;
use shared::device::Severity;
use shared::message::{Acknowledge, FaultReport, Linked, Order, ReadingMark, Report};
use shared::reading::SignedReading;

fn all_faults(office: &Office) -> Vec<FaultRecord> {
    let mut all = Vec::new();
    let take = |fault| {
        all.push(fault);
        ControlFlow::Continue(())
    };
    office.store().read(|tx| tx.each_fault(false, take)).unwrap();
    all
}

fn kept(office: &Office, agent: &Box7) -> Vec<KeptReading> {
    let mut all = Vec::new();
    let take = |reading| {
        all.push(reading);
        ControlFlow::Continue(())
    };
    office.store().read(|tx| tx.each_reading(&agent.id, None, take)).unwrap();
    all
}

fn indices(office: &Office, agent: &Box7) -> Vec<(u64, u64)> {
    kept(office, agent).iter().map(|reading| (reading.mark.chain, reading.mark.index)).collect()
}

fn acknowledges(numbers: &[u64]) -> Vec<Order> {
    let stamps = Some(vec![]);
    vec![Order::Acknowledge(Acknowledge { faults: numbers.to_vec(), stamps, ..Acknowledge::default() })]
}

/// The acknowledgement of a chain up to an index: it names the reading there, if that one is kept.
fn has(office: &Office, agent: &Box7, chain: u64, index: u64) -> Vec<Order> {
    let mark = ReadingMark { chain, index };
    let kept = kept(office, agent);
    let there = kept.iter().find(|reading| reading.mark == mark);
    let there = there.map(|reading| Linked { digest: reading.digest, previous: reading.previous });
    vec![Order::Acknowledge(Acknowledge {
        faults: vec![],
        readings: Some(mark),
        there,
        stamps: Some(vec![]),
    })]
}

fn cleared(after_ms: i64) -> shared::message::FaultChange {
    let mut change = jam("mfp");
    change.cleared_at = Some(UnixMillis(T0.0 + after_ms));
    change
}

#[test]
fn a_fault_is_acknowledged_to_its_agent_alone_in_the_pass_that_took_it_in() {
    // PROTOCOL 14.2
    let office = Office::new();
    let mut agents = office.enrolled(2);
    let before = now();
    assert_eq!(office.says(&mut agents[0], &faults(u64::MAX, vec![jam("mfp")])), acknowledges(&[u64::MAX]));
    assert!(agents[1].orders(&office).is_empty());
    let fault = &all_faults(&office)[0];
    assert_eq!((fault.device.as_str(), fault.raised_at, fault.cleared_at), ("mfp", T0, None));
    assert!(fault.reported_at >= before && fault.acknowledged_at >= Some(fault.reported_at));
    assert!(office.hears(&agents[0]).is_empty(), "once");
}

#[test]
fn several_reports_of_one_pass_are_acknowledged_in_one_mail() {
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let mut chain = Chain::new(&agents[0], 7);
    chain.grow(&agents[0], 3);
    agents[0].report(&office, &faults(1, vec![jam("mfp")]));
    agents[0].report(&office, &chain.report(0, 1..=3));
    let answers = office.says(&mut agents[0], &faults(2, vec![jam("mfp-2")]));
    let [before, last] = [1, 2].map(|at| chain.readings[at].digest());
    let (readings, there) = (chain.mark(3), Some(Linked { digest: last, previous: before }));
    let stamps = Some(vec![]);
    assert_eq!(answers, [Order::Acknowledge(Acknowledge { faults: vec![1, 2], readings, there, stamps })]);
}

#[test]
fn a_copy_changes_nothing_and_is_acknowledged_again_but_not_without_end() {
    // PROTOCOL 14.2
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let (id, bytes) = agents[0].sealed(&office, &faults(1, vec![jam("mfp")]));
    agents[0].post(&office, id, bytes.clone());
    assert_eq!(office.hears(&agents[0]).len(), 1);
    let first = all_faults(&office);
    // Somebody on the way repeats it: it is answered later.
    for _ in 0..5 {
        agents[0].post(&office, id, bytes.clone());
        assert!(office.hears(&agents[0]).is_empty());
    }
    assert_eq!(all_faults(&office), first);
    let due = office.store().read(|tx| tx.next_owed()).unwrap().unwrap();
    assert!(due > now() && due.since(now()).as_secs() <= 600);
    // The agent itself says it again in a new envelope: that is answered at once.
    assert_eq!(office.says(&mut agents[0], &faults(1, vec![jam("mfp")])), acknowledges(&[1]));
    assert_eq!(all_faults(&office).len(), 1);
}

#[test]
fn an_acknowledgement_names_each_report_by_its_number_and_its_stamp() {
    // PROTOCOL 14.2: an agent whose disk was put back gives a number out again, for another report.
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let reports = [jam("mfp"), jam("mfp-2")].map(|change| FaultReport::stamped(1, vec![change], 0));
    agents[0].report(&office, &Report::Faults(reports[0].clone()));
    let answers = office.says(&mut agents[0], &Report::Faults(reports[1].clone()));
    let mut stamps: Vec<_> = reports.iter().filter_map(|report| report.stamp).collect();
    stamps.sort();
    assert!(stamps.len() == 2 && stamps[0] != stamps[1]);
    let both = Acknowledge { faults: vec![1], stamps: Some(stamps), ..Acknowledge::default() };
    assert_eq!(answers, [Order::Acknowledge(both)]);
    // Each once: what is said next names the next.
    let next = FaultReport::stamped(2, vec![jam("mfp-3")], 0);
    let answers = office.says(&mut agents[0], &Report::Faults(next.clone()));
    let one = Acknowledge {
        faults: vec![2],
        stamps: next.stamp.map(|stamp| vec![stamp]),
        ..Acknowledge::default()
    };
    assert_eq!(answers, [Order::Acknowledge(one)]);
}

#[test]
fn an_end_stays_an_end_whatever_comes_late() {
    // PROTOCOL 14.1
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let mut worse = jam("mfp");
    worse.fault.severity = Severity::Warning;
    worse.fault.text = label("overtaken");
    let (id, late) = agents[0].sealed(&office, &faults(1, vec![worse]));
    office.says(&mut agents[0], &faults(2, vec![cleared(60_000)]));
    agents[0].post(&office, id, late);
    office.pass();
    office.says(&mut agents[0], &faults(3, vec![jam("mfp")]));
    let all = all_faults(&office);
    assert_eq!((all.len(), all[0].cleared_at), (1, Some(UnixMillis(T0.0 + 60_000))));
    assert_eq!((all[0].text.as_str(), all[0].severity), ("Paper misfeed", Severity::Critical));
    // The same condition begins again later: another fault.
    let mut again = jam("mfp");
    again.raised_at = UnixMillis(T0.0 + 600_000);
    office.says(&mut agents[0], &faults(4, vec![again]));
    assert_eq!(all_faults(&office).iter().filter(|fault| fault.cleared_at.is_none()).count(), 1);
}

#[test]
fn a_fault_that_begins_anew_had_ended_though_nobody_said_so() {
    let office = Office::new();
    let mut agents = office.enrolled(1);
    office.says(&mut agents[0], &faults(1, vec![jam("mfp")]));
    let mut again = jam("mfp");
    again.raised_at = UnixMillis(T0.0 + 600_000);
    let report =
        Report::Faults(FaultReport { number: 2, changes: vec![again.clone()], dropped: 3, stamp: None });
    office.says(&mut agents[0], &report);
    let all = all_faults(&office);
    assert_eq!((all[0].cleared_at, all[1].cleared_at), (Some(again.raised_at), None));
    assert!(office.log().contains("A0001 had no room for 3 changes of faults"), "{}", office.log());
}

#[test]
fn a_box_that_is_replaced_leaves_no_faults_that_last_for_ever() {
    let office = Office::new();
    let mut agents = office.enrolled(1);
    office.says(&mut agents[0], &faults(1, vec![jam("mfp")]));
    let secret = shared::Digest::of(&[8; 32]);
    let expires = now().plus(std::time::Duration::from_secs(60));
    office.store().write(|tx| tx.renew_invitation(&agents[0].id, secret, expires)).unwrap();
    let mut new = Box7 { id: agents[0].id.clone(), ..Box7::new(99, &office.spool()) };
    new.report(&office, &new.enrol_request([8; 32]));
    office.pass();
    assert!(all_faults(&office)[0].cleared_at.is_some());
    assert!(office.log().contains("A0001 its box is another one: 1 open faults"), "{}", office.log());
    new.orders(&office);
    let mut again = jam("mfp");
    again.raised_at = UnixMillis(T0.0 + 1);
    assert_eq!(office.says(&mut new, &faults(1, vec![again])), acknowledges(&[1]), "its numbers begin again");
}

#[test]
fn readings_are_kept_as_they_were_signed_and_acknowledged_up_to_the_last() {
    // PROTOCOL 14.3, 14.4
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let mut chain = Chain::new(&agents[0], u64::MAX);
    chain.grow(&agents[0], 30);
    assert_eq!(office.says(&mut agents[0], &chain.report(0, 1..=20)), has(&office, &agents[0], u64::MAX, 20));
    assert_eq!(
        office.says(&mut agents[0], &chain.report(20, 21..=30)),
        has(&office, &agents[0], u64::MAX, 30)
    );
    let kept = kept(&office, &agents[0]);
    assert_eq!(kept.iter().map(|one| one.signed.clone()).collect::<Vec<_>>(), chain.readings);
    assert!(kept[1..].iter().all(|one| one.before.is_some_and(|(_, digest)| digest == one.previous)));
    // The answer was lost: the same comes again, changes nothing, and is answered.
    assert_eq!(office.says(&mut agents[0], &chain.report(0, 1..=20)), has(&office, &agents[0], u64::MAX, 30));
    assert_eq!(indices(&office, &agents[0]).len(), 30);
}

#[test]
fn what_an_agent_has_thinned_out_holds_nothing_up_and_what_was_lost_is_asked_for_again() {
    // PROTOCOL 14.7
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let mut chain = Chain::new(&agents[0], 7);
    chain.grow(&agents[0], 40);
    office.says(&mut agents[0], &chain.report(0, 1..=10));
    // 13 to 15 had to go before they could be sent.
    assert_eq!(
        office.says(&mut agents[0], &chain.report(10, (11..=20).filter(|i| !(13..=15).contains(i)))),
        has(&office, &agents[0], 7, 20)
    );
    // A report that begins after readings which never came here.
    assert_eq!(office.says(&mut agents[0], &chain.report(25, 26..=30)), has(&office, &agents[0], 7, 20));
    assert_eq!(office.says(&mut agents[0], &chain.report(20, 21..=40)), has(&office, &agents[0], 7, 40));
    let missing: Vec<u64> = (1..=40).filter(|i| !indices(&office, &agents[0]).contains(&(7, *i))).collect();
    assert_eq!(missing, [13, 14, 15]);
    // An agent that has nothing new, at a manager whose store is an old copy.
    let beyond = counters(None, Some(ReadingMark { chain: 7, index: 50 }), [], false);
    assert_eq!(office.says(&mut agents[0], &beyond), has(&office, &agents[0], 7, 40));
    let same = counters(None, Some(ReadingMark { chain: 7, index: 40 }), [], false);
    assert!(office.says(&mut agents[0], &same).is_empty(), "there is nothing to say");
}

#[test]
fn a_chain_that_was_lost_is_followed_by_another_and_both_are_kept_in_their_order() {
    // PROTOCOL 14.4
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let (mut first, mut second) = (Chain::new(&agents[0], 900), Chain::new(&agents[0], 3));
    first.grow(&agents[0], 2);
    second.grow(&agents[0], 2);
    office.says(&mut agents[0], &first.report(0, 1..=2));
    let report = counters(None, first.mark(2), &second.readings, false);
    assert_eq!(office.says(&mut agents[0], &report), has(&office, &agents[0], 3, 2));
    assert_eq!(indices(&office, &agents[0]), [(900, 1), (900, 2), (3, 1), (3, 2)]);
    assert!(office.log().contains("A0001 begins another chain"), "{}", office.log());
}

#[test]
fn readings_that_are_forged_altered_or_another_agents_are_kept_out_and_counted() {
    // PROTOCOL 14.5
    let office = Office::new();
    let mut agents = office.enrolled(2);
    let mut chain = Chain::new(&agents[0], 7);
    chain.grow(&agents[0], 4);
    // Signed by another enrolled agent, in the name of the first; and that agent's own, replayed here.
    let mut forged = Chain { agent: agents[0].id.clone(), ..Chain::new(&agents[1], 7) };
    forged.grow(&agents[1], 1);
    let mut others = Chain::new(&agents[1], 7);
    others.grow(&agents[1], 1);
    let mut named = Chain { agent: agents[1].id.clone(), ..Chain::new(&agents[0], 7) };
    named.grow(&agents[0], 1);
    let mut bytes = chain.readings[3].bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let altered = SignedReading::from_parts(bytes, *chain.readings[3].signature());
    let sent = [
        &forged.readings[0],
        &chain.readings[0],
        &others.readings[0],
        &named.readings[0],
        &altered,
        &chain.readings[1],
    ];
    assert_eq!(
        office.says(&mut agents[0], &counters(None, None, sent, false)),
        has(&office, &agents[0], 7, 2)
    );
    assert_eq!(indices(&office, &agents[0]), [(7, 1), (7, 2)]);
    let store = || office.store();
    let watch = store().read(|tx| tx.watch(&agents[0].id)).unwrap();
    assert_eq!((watch.refused, watch.broken), (4, 0));
    let refused = store().read(|tx| tx.refused_readings(&agents[0].id)).unwrap();
    let reasons: Vec<Refusal> = refused.iter().map(|one| one.reason).collect();
    assert_eq!(reasons, [Refusal::NotSigned, Refusal::NotSigned, Refusal::OtherAgent, Refusal::NotSigned]);
    assert!(office.log().contains("A0001 possible tampering: 4 readings kept out"), "{}", office.log());
    // Said again, the same is not counted again.
    office.says(&mut agents[0], &counters(None, None, sent, false));
    assert_eq!(store().read(|tx| tx.watch(&agents[0].id)).unwrap().refused, 4);
    // An honest agent is believed all the while.
    assert_eq!(office.says(&mut agents[1], &others.report(0, 1..=1)), has(&office, &agents[1], 7, 1));
}

#[test]
fn a_forked_chain_is_kept_out_from_where_it_forks_and_the_agent_is_told_the_place() {
    // PROTOCOL 14.10: the agent's disk was put back to an older copy, and it has gone on from there.
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let mut chain = Chain::new(&agents[0], 7);
    chain.grow(&agents[0], 5);
    office.says(&mut agents[0], &chain.report(0, 1..=5));
    let mut fork = Chain { previous: chain.readings[2].digest(), ..Chain::new(&agents[0], 7) };
    fork.readings = chain.readings[..3].to_vec();
    for n in 0..3 {
        fork.add(&agents[0], "mfp", seen(UnixMillis(T0.0 + n), 5_000, 50));
    }
    assert_eq!(office.says(&mut agents[0], &fork.report(3, 4..=6)), has(&office, &agents[0], 7, 4));
    let refused = |office: &Office, agent: &Box7| {
        let watch = office.store().read(|tx| tx.watch(&agent.id)).unwrap();
        (watch.refused, watch.broken)
    };
    assert_eq!(refused(&office, &agents[0]), (1, 0), "the first shows it; what stands behind it comes again");
    assert_eq!(kept(&office, &agents[0])[3].signed, chain.readings[3]);
    // Said again, as long as the agent does not know, the answer is the same and nothing is counted twice.
    assert_eq!(office.says(&mut agents[0], &fork.report(3, 4..=6)), has(&office, &agents[0], 7, 4));
    assert_eq!(refused(&office, &agents[0]), (1, 0));
    // It says the same readings in another chain.
    let mut anew = Chain::new(&agents[0], 3);
    for n in 0..3 {
        anew.add(&agents[0], "mfp", seen(UnixMillis(T0.0 + n), 5_000, 50));
    }
    assert_eq!(office.says(&mut agents[0], &anew.report(0, 1..=3)), has(&office, &agents[0], 3, 3));
    let places = indices(&office, &agents[0]);
    assert_eq!(places, [(7, 1), (7, 2), (7, 3), (7, 4), (7, 5), (3, 1), (3, 2), (3, 3)]);
    assert!(office.log().contains("or its disk was put back"), "{}", office.log());
}

#[test]
fn a_fork_behind_a_gap_is_told_when_the_gap_is_settled() {
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let mut chain = Chain::new(&agents[0], 7);
    chain.grow(&agents[0], 9);
    office.says(&mut agents[0], &chain.report(0, 1..=3));
    // 4 to 6 have not come yet; this report begins behind them.
    office.says(&mut agents[0], &chain.report(6, 7..=8));
    let mut fork = Chain { previous: chain.readings[6].digest(), ..Chain::new(&agents[0], 7) };
    fork.readings = chain.readings[..7].to_vec();
    fork.add(&agents[0], "mfp", seen(T0, 5_000, 50));
    assert_eq!(office.says(&mut agents[0], &fork.report(6, 7..=8)), has(&office, &agents[0], 7, 3));
    assert_eq!(office.says(&mut agents[0], &fork.report(3, 4..=8)), has(&office, &agents[0], 7, 8));
}

#[test]
fn readings_that_a_former_key_has_signed_are_believed_after_the_box_was_replaced() {
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let mut chain = Chain::new(&agents[0], 7);
    chain.grow(&agents[0], 2);
    let secret = shared::Digest::of(&[8; 32]);
    let expires = now().plus(std::time::Duration::from_secs(60));
    office.store().write(|tx| tx.renew_invitation(&agents[0].id, secret, expires)).unwrap();
    let mut new = Box7 { id: agents[0].id.clone(), ..Box7::new(99, &office.spool()) };
    new.report(&office, &new.enrol_request([8; 32]));
    office.pass();
    new.orders(&office);
    chain.grow(&new, 2);
    assert_eq!(office.says(&mut new, &chain.report(0, 1..=4)), has(&office, &new, 7, 4));
    assert_eq!(office.store().read(|tx| tx.reading_keys(&new.id)).unwrap().len(), 2);
    // The old box itself is not: its mails are a stranger's.
    agents[0].report(&office, &chain.report(0, 1..=4));
    office.pass();
    assert!(office.log().contains("refused a mail"), "{}", office.log());
}

#[test]
fn readings_that_cannot_be_unpacked_are_not_acknowledged() {
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let mut chain = Chain::new(&agents[0], 7);
    chain.grow(&agents[0], 3);
    let Report::Counters(mut report) = chain.report(0, 1..=3) else { panic!() };
    report.packed.truncate(20);
    assert!(office.says(&mut agents[0], &Report::Counters(report)).is_empty());
    assert!(office.log().contains("A0001 readings cannot be unpacked"), "{}", office.log());
    assert_eq!(office.says(&mut agents[0], &chain.report(0, 1..=3)), has(&office, &agents[0], 7, 3));
}

#[test]
fn old_readings_go_with_their_reports_and_the_chain_goes_on() {
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let mut chain = Chain::new(&agents[0], 7);
    chain.grow(&agents[0], 4);
    office.says(&mut agents[0], &chain.report(0, 1..=2));
    let between = now().plus(std::time::Duration::from_millis(1));
    while now() <= between {
        std::hint::spin_loop();
    }
    office.says(&mut agents[0], &chain.report(2, 3..=4));
    office.store().write(|tx| tx.forget_readings(between)).unwrap();
    assert_eq!(indices(&office, &agents[0]), [(7, 3), (7, 4)]);
    assert_eq!(kept(&office, &agents[0])[0].before, None);
    assert_eq!(
        office.says(&mut agents[0], &chain.report(2, 3..=4)),
        has(&office, &agents[0], 7, 4),
        "what it has had it knows"
    );
}

#[test]
fn a_report_of_endless_changes_is_refused_as_a_whole() {
    let office = Office::new();
    let mut agents = office.enrolled(1);
    let most = shared::limits::FAULT_CHANGES_MAX_COUNT;
    assert!(office.says(&mut agents[0], &faults(1, vec![jam("mfp"); most + 1])).is_empty());
    assert!(office.log().contains("refused a mail: from A0001"), "{}", office.log());
    assert_eq!(all_faults(&office).len(), 0);
    assert_eq!(office.says(&mut agents[0], &faults(2, vec![jam("mfp"); most])), acknowledges(&[2]));
    assert_eq!(all_faults(&office).len(), 1, "the same fault said many times");
}
