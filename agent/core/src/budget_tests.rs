//! Days, months and hours of a budget.

use super::*;
use proptest::prelude::*;
use shared::message::Hours;

fn at(text: &str) -> UnixMillis {
    UnixMillis::parse(text).unwrap()
}

fn purse<'a>(budget: Budget, days: &'a BTreeMap<i64, u64>, now: &str) -> Purse<'a> {
    Purse { budget, days, beside: 0, now: at(now) }
}

#[test]
fn what_has_no_room_today_comes_tomorrow_by_the_budget_s_clock() {
    let budget = Budget { day_bytes: Some(1_000), utc_offset_minutes: 9 * 60, ..Budget::default() };
    let none = BTreeMap::new();
    let mut purse = purse(budget, &none, "2026-11-21T14:59:00Z");
    assert_eq!(purse.verdict(1_000), Verdict::Take);
    assert_eq!(purse.verdict(1_001), Verdict::Never);
    purse.beside = 1;
    let midnight_in_tokyo = at("2026-11-21T15:00:00Z");
    assert_eq!(purse.verdict(1_000), Verdict::Wait(WaitReason::Budget, midnight_in_tokyo));
    assert_eq!((purse.left(), purse.anew().0), (999, midnight_in_tokyo));
}

#[test]
fn a_month_s_budget_begins_anew_with_the_month() {
    let budget = Budget { month_bytes: Some(1_000), ..Budget::default() };
    let now = "2028-02-28T12:00:00Z";
    let none = BTreeMap::new();
    let today = purse(budget, &none, now).today();
    // 2028 is a leap year: the 29th is of this month, and January is over.
    let days = BTreeMap::from([(today - 28, 999), (today - 27, 400), (today, 500)]);
    let purse = purse(budget, &days, now);
    assert_eq!((purse.used(), purse.left()), ((500, 900), 100));
    assert_eq!(purse.verdict(101), Verdict::Wait(WaitReason::Budget, at("2028-03-01T00:00:00Z")));
    assert_eq!(purse.mails_until(50, at("2028-03-01T00:00:00Z")), 2);
    assert_eq!(purse.mails_until(50, at("2028-03-20T00:00:00Z")), 22, "a month's budget once, not each day");
}

#[test]
fn outside_its_hours_the_reason_is_the_one_that_counts() {
    let night = Some(Hours { from: 22 * 60, until: 5 * 60 });
    let budget = Budget { day_bytes: Some(1_000), hours: night, ..Budget::default() };
    let none = BTreeMap::new();
    let noon = purse(budget, &none, "2026-11-21T12:00:00Z");
    assert_eq!(noon.verdict(10), Verdict::Wait(WaitReason::Hours, at("2026-11-21T22:00:00Z")));
    assert_eq!(purse(budget, &none, "2026-11-21T04:59:00Z").verdict(10), Verdict::Take);
    let spent = Purse { beside: 1_000, ..purse(budget, &none, "2026-11-21T22:30:00Z") };
    assert_eq!(spent.verdict(10), Verdict::Wait(WaitReason::Budget, at("2026-11-22T00:00:00Z")));
    assert_eq!(noon.mails_until(1_000, at("2026-11-21T22:00:00Z")), 0, "it expires before they begin");
    assert_eq!(noon.mails_until(1_000, at("2026-11-21T22:01:00Z")), 1);
}

#[test]
fn little_is_left_when_it_is_less_than_an_eighth() {
    let budget = Budget { day_bytes: Some(800), ..Budget::default() };
    let none = BTreeMap::new();
    let with = |beside| Purse { beside, ..purse(budget, &none, "2026-11-21T12:00:00Z") };
    assert_eq!([with(700).is_short(), with(701).is_short()], [false, true]);
}

proptest! {
    /// Whoever takes only what he may, and waits as he is told, stays within every day's and month's budget, and gets
    /// as many as was said.
    #[test]
    fn what_is_allowed_stays_within_the_budget(
        day_bytes in prop::option::of(1u64..5_000),
        month_bytes in prop::option::of(1u64..40_000),
        hours in prop::option::of((0u16..1_440, 0u16..1_440)),
        offset in -840i16..840,
        start in 0i64..4_000_000_000_000,
        mail in 1u64..2_000,
        until_days in 0i64..40,
    ) {
        let hours = hours.map(|(from, until)| Hours { from, until });
        let budget = Budget { day_bytes, month_bytes, hours, utc_offset_minutes: offset };
        let until = UnixMillis(start + until_days * 86_400_000);
        let mut days = BTreeMap::new();
        let mut now = UnixMillis(start);
        let promised = Purse { budget, days: &days, beside: 0, now }.mails_until(mail, until);
        let mut taken = 0u64;
        while now < until && taken < 200 {
            let purse = Purse { budget, days: &days, beside: 0, now };
            match purse.verdict(mail) {
                Verdict::Take => {
                    prop_assert!(purse.left() >= mail);
                    let local = now.0 + i64::from(offset) * 60_000;
                    let minute = u16::try_from(local.div_euclid(60_000).rem_euclid(1_440)).unwrap();
                    let within = |(from, end): &(u16, u16)| (*from..*end).contains(&minute);
                    prop_assert!(hours.is_none_or(|hours| hours.of_day().iter().any(within)), "minute {}", minute);
                    *days.entry(purse.today()).or_insert(0) += mail;
                    taken += 1;
                }
                Verdict::Wait(_, at) => {
                    prop_assert!(at > now, "a wait ends");
                    now = at;
                }
                Verdict::Never => break,
            }
        }
        prop_assert!(day_bytes.is_none_or(|most| days.values().all(|bytes| *bytes <= most)));
        prop_assert_eq!(taken, promised.min(200));
    }

    #[test]
    fn no_time_and_no_budget_is_too_strange(
        now in any::<i64>(), until in any::<i64>(), bytes in any::<u64>(), offset in any::<i16>(),
        day_bytes in prop::option::of(any::<u64>()), month_bytes in prop::option::of(any::<u64>()),
        from in any::<u16>(), until_minute in any::<u16>(), beside in any::<u64>(),
    ) {
        let hours = Some(Hours { from, until: until_minute });
        let budget = Budget { day_bytes, month_bytes, hours, utc_offset_minutes: offset };
        let days = BTreeMap::from([(0, u64::MAX), (1, u64::MAX)]);
        let purse = Purse { budget, days: &days, beside, now: UnixMillis(now) };
        let _ = (purse.verdict(bytes), purse.mails_until(bytes, UnixMillis(until)), purse.used(), purse.anew());
    }
}
