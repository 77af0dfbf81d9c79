//! Whatever is ordered, wished and cut off in whatever order.

use std::collections::BTreeMap;

use agent_core::Want;
use proptest::prelude::*;
use shared::message::{Outcome, Phase, Schedule};
use shared::{EnvelopeId, UnixMillis};

use crate::site::{Site, T0, hour, times};

#[derive(Clone, Debug)]
enum Move {
    Install(u64, bool),
    /// Bundle, first hour from now, how long each interval lasts, how many there are, and how far it may be put off.
    Schedule(u64, i64, i64, i64, Option<i64>, bool),
    Test(u64),
    Cancel(usize),
    PutOff(usize, i64),
    Decline(usize),
    Wait(i64),
    Cut(u32),
    Leased(u32),
    NotNow(bool),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => (1u64..6, any::<bool>()).prop_map(|(n, scheduled)| Move::Install(n, scheduled)),
        4 => (1u64..6, 0i64..30, 1i64..5, 0i64..4, prop::option::of(0i64..50), any::<bool>())
            .prop_map(|(n, from, long, count, defer, fetch)| Move::Schedule(n, from, long, count, defer, fetch)),
        1 => (1u64..6).prop_map(Move::Test),
        1 => (0usize..20).prop_map(Move::Cancel),
        2 => (0usize..20, 0i64..40).prop_map(|(at, hours)| Move::PutOff(at, hours)),
        1 => (0usize..20).prop_map(Move::Decline),
        5 => (0i64..30).prop_map(Move::Wait),
        2 => (0u32..30).prop_map(Move::Cut),
        1 => (1u32..5).prop_map(Move::Leased),
        1 => any::<bool>().prop_map(Move::NotNow),
    ];
    prop::collection::vec(one, 1..40)
}

/// When each bundle's schedules that were here would have let it begin; which of them counted when, the box has to know.
type Times = BTreeMap<u64, Vec<Schedule>>;

fn allows(schedule: &Schedule, at: UnixMillis) -> bool {
    let inside = schedule.intervals.iter().any(|interval| interval.from <= at && at < interval.until);
    schedule.not_before <= at && (schedule.intervals.is_empty() || inside)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_begins_out_of_its_time_and_everything_ends_once(moves in moves()) {
        let mut b = Site::new();
        let (mut orders, mut tests): (Vec<(EnvelopeId, u64, bool)>, Vec<EnvelopeId>) = (vec![], vec![]);
        let mut all: Times = BTreeMap::new();
        for one in &moves {
            match one {
                Move::Install(n, scheduled) => {
                    orders.push((b.install(*n, *scheduled), *n, *scheduled));
                }
                Move::Schedule(n, from, long, count, defer, fetch) => {
                    let from = from + (b.now.0 - T0.0) / 3_600_000;
                    let intervals: Vec<_> = (0..*count).map(|i| (from + i * 7, from + i * 7 + long)).collect();
                    let defer_until = defer.map(|hours| hour(from + hours));
                    let schedule = Schedule { defer_until, fetch: *fetch, ..times(*n, from, &intervals) };
                    all.entry(*n).or_default().push(schedule.clone());
                    b.schedule(schedule);
                }
                Move::Test(n) => tests.push(b.order_test(*n)),
                Move::Cancel(at) => {
                    if let Some((order, ..)) = orders.get(*at) {
                        b.cancel(*order);
                    }
                }
                Move::PutOff(at, hours) => {
                    if let Some((order, ..)) = orders.get(*at) {
                        b.wish(*order, Want::PutOff(UnixMillis(b.now.0 + hours * 3_600_000)));
                    }
                }
                Move::Decline(at) => {
                    if let Some((order, ..)) = orders.get(*at) {
                        b.wish(*order, Want::Cancel);
                    }
                }
                Move::Wait(hours) => b.run_until(UnixMillis(b.now.0 + hours * 3_600_000)),
                Move::Cut(after) => b.cut_after = Some(*after),
                Move::Leased(looks) => b.leased = *looks,
                Move::NotNow(not_now) => {
                    b.exits.insert(Phase::Check, if *not_now { 75 } else { 0 });
                }
            }
        }
        b.cut_after = None;
        b.exits.clear();
        b.leased = 0;
        // Everything expires within 14 days.
        b.run_until(UnixMillis(b.now.0 + 15 * 24 * 3_600_000));
        for (order, n, scheduled) in &orders {
            prop_assert!(b.outcome(*order).is_some(), "{n} has no end: {:?}", b.core.state().queue);
            for (_, at) in b.begun.iter().filter(|(begun, _)| *scheduled && begun == order) {
                let may = all.get(n).is_some_and(|all| all.iter().any(|schedule| allows(schedule, *at)));
                prop_assert!(may, "{n} began out of its time, {at}");
            }
            if b.outcome(*order) == Some(Outcome::Installed) {
                prop_assert!(!b.hours_of(*order).is_empty());
            }
        }
        for test in tests {
            prop_assert_eq!(b.results_of(test).len(), 1);
        }
        let state = b.core.state();
        prop_assert!(state.schedules.is_empty() && state.queue.is_empty() && state.active.is_none());
        let wake = b.core.next_wake();
        prop_assert!(wake.is_none_or(|(at, _)| at > b.now), "it wants to be woken without end: {wake:?}");
    }
}
