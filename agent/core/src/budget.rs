//! What a line's budget and hours allow: whether a mail of some size may be fetched now, else when, and how many there can be until
//! some time. Arithmetic on days alone; what was carried is counted in `meter`.

use std::collections::BTreeMap;

use core::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use shared::UnixMillis;
use shared::message::{Budget, WaitReason};

use crate::limits::BUDGET_AHEAD_DAYS;

const DAY: Duration = Duration::from_secs(24 * 3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// A budget, and what is left of it at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purse<'a> {
    pub(crate) budget: Budget,
    /// Bytes that were carried, by day.
    pub(crate) days: &'a BTreeMap<i64, u64>,
    /// Bytes that count as carried today beside those.
    pub(crate) beside: u64,
    pub(crate) now: UnixMillis,
}

/// Whether something may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Now.
    Take,
    /// Then, and why not now.
    Wait(WaitReason, UnixMillis),
    /// It is larger than the whole of the budget.
    Never,
}

impl Purse<'_> {
    /// Whether a mail of so many bytes may be fetched (PROTOCOL 17.12).
    pub(crate) fn verdict(&self, bytes: u64) -> Verdict {
        let mut days = self.days_ahead().filter(|day| self.left_on(*day) >= bytes);
        let first = days.find_map(|day| self.open_on(day, UnixMillis(i64::MAX)));
        match first {
            None => Verdict::Never,
            Some(at) if at <= self.now => Verdict::Take,
            Some(at) if self.left() >= bytes => Verdict::Wait(WaitReason::Hours, at),
            Some(at) => Verdict::Wait(WaitReason::Budget, at),
        }
    }

    /// How many mails of so many bytes there can be until then, one after the other.
    pub(crate) fn mails_until(&self, bytes: u64, until: UnixMillis) -> u64 {
        let (mut mails, mut month, mut of_month) = (0u64, None, 0u64);
        for day in self.days_ahead() {
            if self.open_on(day, until).is_none() {
                continue;
            }
            let first = self.month_of(day).map(|(first, _)| first);
            if month != Some(first) {
                (month, of_month) = (Some(first), 0);
            }
            let room = self.day_left(day).min(self.month_left(day).saturating_sub(of_month));
            let fit = room.checked_div(bytes).unwrap_or(u64::MAX);
            mails = mails.saturating_add(fit);
            of_month = of_month.saturating_add(fit.saturating_mul(bytes));
        }
        mails
    }

    /// What may still be carried now.
    pub(crate) fn left(&self) -> u64 {
        self.left_on(self.today())
    }

    /// What was carried today and this month.
    pub(crate) fn used(&self) -> (u64, u64) {
        let today = self.today();
        (self.used_on(today), self.used_in_month_of(today))
    }

    /// When the next day and the next month begin.
    pub(crate) fn anew(&self) -> (UnixMillis, Option<UnixMillis>) {
        let today = self.today();
        let month = self.month_of(today).map(|(_, next)| self.starts(next));
        (self.starts(today.saturating_add(1)), month)
    }

    /// True if less than an eighth of the budget is left.
    pub(crate) fn is_short(&self) -> bool {
        let today = self.today();
        let short =
            |of: Option<u64>, left: u64| of.is_some_and(|bytes| left < bytes.checked_div(8).unwrap_or(0));
        short(self.budget.day_bytes, self.day_left(today))
            || short(self.budget.month_bytes, self.month_left(today))
    }

    /// The number of the day, by the budget's clock.
    pub(crate) fn today(&self) -> i64 {
        self.now.0.saturating_add(self.offset_ms()).div_euclid(day_ms())
    }

    fn offset_ms(&self) -> i64 {
        i64::from(self.budget.utc_offset_minutes).saturating_mul(60_000)
    }

    fn starts(&self, day: i64) -> UnixMillis {
        UnixMillis(day.saturating_mul(day_ms()).saturating_sub(self.offset_ms()))
    }

    fn days_ahead(&self) -> impl Iterator<Item = i64> + use<> {
        let today = self.today();
        (0..BUDGET_AHEAD_DAYS).map(move |days| today.saturating_add(days))
    }

    /// The first moment of that day, from now on and before `until`, in which large mails may be fetched.
    fn open_on(&self, day: i64, until: UnixMillis) -> Option<UnixMillis> {
        let begins = self.starts(day);
        let intervals = match self.budget.hours {
            Some(hours) => hours.of_day(),
            None => [(0, 24 * 60), (0, 0)],
        };
        let moments = intervals.into_iter().map(|(from, end)| {
            let at = |minute: u16| begins.plus(MINUTE.saturating_mul(u32::from(minute)));
            (at(from).max(self.now), at(end).min(until))
        });
        moments.filter(|(from, end)| from < end).map(|(from, _)| from).min()
    }

    fn left_on(&self, day: i64) -> u64 {
        self.day_left(day).min(self.month_left(day))
    }

    fn day_left(&self, day: i64) -> u64 {
        self.budget.day_bytes.map_or(u64::MAX, |bytes| bytes.saturating_sub(self.used_on(day)))
    }

    fn month_left(&self, day: i64) -> u64 {
        self.budget.month_bytes.map_or(u64::MAX, |bytes| bytes.saturating_sub(self.used_in_month_of(day)))
    }

    fn used_on(&self, day: i64) -> u64 {
        let beside = if day == self.today() { self.beside } else { 0 };
        self.days.get(&day).copied().unwrap_or(0).saturating_add(beside)
    }

    fn used_in_month_of(&self, day: i64) -> u64 {
        // A time beyond the calendar is a clock's fault, and its month a single day.
        let (first, next) = self.month_of(day).unwrap_or((day, day.saturating_add(1)));
        let beside = if (first..next).contains(&self.today()) { self.beside } else { 0 };
        self.days.range(first..next).fold(beside, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// The first day of that day's month, and of the next one.
    fn month_of(&self, day: i64) -> Option<(i64, i64)> {
        let noon = day.saturating_mul(day_ms());
        let date: Date = Offset::UTC.to_datetime(Timestamp::from_millisecond(noon).ok()?).date();
        let first = day.saturating_sub(i64::from(date.day())).saturating_add(1);
        Some((first, first.saturating_add(i64::from(date.days_in_month()))))
    }
}

fn day_ms() -> i64 {
    i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
