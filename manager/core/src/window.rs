//! Times of the day in which a site's boxes may be changed (N4, R5): `22:00-05:00 mon-fri` in the site's own time zone, and which
//! moments that is. Has its own copy of the time zone database, so that a plan does not depend on the computer that makes it.

use core::fmt;

use jiff::ToSpan as _;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use shared::UnixMillis;
use shared::message::Interval;
use thiserror::Error;

/// A site has a few windows; the text of more is a mistake.
const WINDOWS_MAX_COUNT: usize = 14;

/// How far ahead windows are looked for: an order lives for 90 days at most.
const DAYS_MAX: usize = 400;

const DAYS: [(Weekday, &str); 7] = [
    (Weekday::Monday, "mon"),
    (Weekday::Tuesday, "tue"),
    (Weekday::Wednesday, "wed"),
    (Weekday::Thursday, "thu"),
    (Weekday::Friday, "fri"),
    (Weekday::Saturday, "sat"),
    (Weekday::Sunday, "sun"),
];

const MINUTES_OF_DAY: u16 = 24 * 60;

/// One or more times of the day, on some days of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    text: String,
    windows: Vec<Window>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    /// Minutes after midnight.
    from: u16,
    /// Minutes after the midnight before `from`; more than a day if it ends on the next day.
    until: u16,
    /// The days on which it begins, Monday first.
    days: [bool; 7],
}

/// A window or a zone that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected {expected}, found \"{found}\"")]
pub struct WindowError {
    expected: &'static str,
    found: String,
}

fn err(expected: &'static str, found: &str) -> WindowError {
    WindowError { expected, found: found.to_owned() }
}

impl Windows {
    /// Reads `22:00-05:00`, `22:00-05:00 mon-fri`, or several separated by `;`. The days are those on which a window begins; without
    /// days it is all of them.
    ///
    /// # Errors
    /// Not of this form, or a window that never opens.
    pub fn parse(text: &str) -> Result<Self, WindowError> {
        let windows: Vec<Window> = text
            .split(';')
            .map(str::trim)
            .filter(|one| !one.is_empty())
            .map(Window::parse)
            .collect::<Result<_, _>>()?;
        if windows.is_empty() {
            return Err(err("a window such as 22:00-05:00 mon-fri", text));
        }
        if windows.len() > WINDOWS_MAX_COUNT {
            return Err(err("at most 14 windows", text));
        }
        Ok(Self { text: text.trim().to_owned(), windows })
    }

    /// The text that it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The moments in which the windows are open between two moments, in their order, none touching another, at most `most`.
    #[must_use]
    pub fn intervals(&self, zone: &Zone, from: UnixMillis, until: UnixMillis, most: usize) -> Vec<Interval> {
        let Some(first) = zone.date(from).and_then(|date| date.checked_sub(1.day()).ok()) else {
            return Vec::new();
        };
        let mut found: Vec<Interval> = Vec::new();
        let mut date = first;
        for _ in 0..DAYS_MAX {
            let Some(midnight) = zone.moment(date, 0) else { break };
            if midnight > until || found.len() > most {
                break;
            }
            let mut of_day: Vec<Interval> =
                self.windows.iter().filter_map(|window| window.on(date, zone)).collect();
            of_day.sort();
            for next in of_day {
                join(&mut found, Interval { from: next.from.max(from), until: next.until.min(until) });
            }
            let Ok(tomorrow) = date.checked_add(1.day()) else { break };
            date = tomorrow;
        }
        found.truncate(most);
        found
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// Adds an interval that begins no earlier than those before it.
fn join(found: &mut Vec<Interval>, next: Interval) {
    if next.from >= next.until {
        return;
    }
    match found.last_mut() {
        Some(last) if next.from <= last.until => last.until = last.until.max(next.until),
        _ => found.push(next),
    }
}

impl Window {
    fn parse(text: &str) -> Result<Self, WindowError> {
        let (times, days) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let (from, until) =
            times.split_once('-').ok_or_else(|| err("a window such as 22:00-05:00 mon-fri", text))?;
        let (from, until) = (minutes(from)?, minutes(until)?);
        if from == until {
            return Err(err("a window that opens and closes (00:00-24:00 is all day)", times));
        }
        if from == MINUTES_OF_DAY {
            return Err(err("a window that begins before 24:00", times));
        }
        let until = if until < from { until.saturating_add(MINUTES_OF_DAY) } else { until };
        Ok(Self { from, until, days: parse_days(days)? })
    }

    /// When it is open if it begins on this date. The clock's changes are in it: an hour that is left out shortens it, maybe to nothing.
    fn on(&self, date: Date, zone: &Zone) -> Option<Interval> {
        let place = DAYS.iter().position(|(day, _)| *day == date.weekday())?;
        if self.days.get(place) != Some(&true) {
            return None;
        }
        Some(Interval { from: zone.moment(date, self.from)?, until: zone.moment(date, self.until)? })
    }
}

fn minutes(text: &str) -> Result<u16, WindowError> {
    let bad = || err("a time such as 22:00", text);
    let (hours, minutes) = text.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| -> Result<u16, WindowError> {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten().ok_or_else(bad)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let all = hours.saturating_mul(60).saturating_add(minutes);
    if minutes > 59 || all > MINUTES_OF_DAY { Err(bad()) } else { Ok(all) }
}

fn parse_days(text: &str) -> Result<[bool; 7], WindowError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok([true; 7]);
    }
    let bad = || err("days such as mon-fri or sat,sun", text);
    let place =
        |name: &str| DAYS.iter().position(|(_, day)| day.eq_ignore_ascii_case(name.trim())).ok_or_else(bad);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (place(first)?, place(last)?);
        loop {
            if let Some(day) = days.get_mut(at) {
                *day = true;
            }
            if at == last {
                break;
            }
            // fri-mon goes over the week's end.
            at = if at == 6 { 0 } else { at.saturating_add(1) };
        }
    }
    Ok(days)
}

/// A time zone of the IANA database: `Asia/Tokyo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone of a name.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn parse(name: &str) -> Result<Self, WindowError> {
        let known = if name.is_empty() { None } else { TimeZone::get(name).ok() };
        known.map(Self).ok_or_else(|| err("a time zone such as Asia/Tokyo or UTC", name))
    }

    /// Greenwich.
    #[must_use]
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// A moment as a person at the site reads it: `2026-11-21 22:00 Asia/Tokyo`.
    #[must_use]
    pub fn local(&self, at: UnixMillis) -> String {
        match jiff::Timestamp::from_millisecond(at.0) {
            Ok(timestamp) => {
                let zoned = timestamp.to_zoned(self.0.clone());
                format!("{} {}", zoned.strftime("%Y-%m-%d %H:%M"), self.as_str())
            }
            Err(_) => at.to_string(),
        }
    }

    /// The moment of `2026-12-01` (its midnight) or `2026-12-01 22:00` by the clock there.
    #[must_use]
    pub fn moment_of(&self, text: &str) -> Option<UnixMillis> {
        let (date, time) = text.split_once([' ', 't']).unwrap_or((text, "00:00"));
        self.moment(date.trim().parse().ok()?, minutes(time.trim()).ok()?)
    }

    fn date(&self, at: UnixMillis) -> Option<Date> {
        Some(jiff::Timestamp::from_millisecond(at.0).ok()?.to_zoned(self.0.clone()).date())
    }

    /// When the clock there shows so many minutes after midnight of a date; what is more than a day is on the next.
    fn moment(&self, date: Date, minutes: u16) -> Option<UnixMillis> {
        let days = i64::from(minutes / MINUTES_OF_DAY);
        let minutes = minutes % MINUTES_OF_DAY;
        let (hour, minute) = (i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?);
        let date = date.checked_add(days.days()).ok()?;
        let local = date.to_datetime(Time::new(hour, minute, 0, 0).ok()?);
        let zoned = self.0.to_zoned(local).ok()?;
        Some(UnixMillis(zoned.timestamp().as_millisecond()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 24 * 3_600_000;

    fn at(text: &str) -> UnixMillis {
        UnixMillis::parse(text).unwrap()
    }

    fn open(windows: &str, zone: &str, from: &str, days: i64) -> Vec<String> {
        let (zone, from) = (Zone::parse(zone).unwrap(), at(from));
        let intervals =
            Windows::parse(windows).unwrap().intervals(&zone, from, UnixMillis(from.0 + days * DAY), 100);
        intervals.iter().map(|i| format!("{} {}", i.from, i.until)).collect()
    }

    #[test]
    fn a_window_over_midnight_is_open_at_night_in_the_site_s_zone() {
        assert_eq!(
            open("22:00-05:00", "Asia/Tokyo", "2026-11-21T00:00:00Z", 2),
            ["2026-11-21T13:00:00Z 2026-11-21T20:00:00Z", "2026-11-22T13:00:00Z 2026-11-22T20:00:00Z"]
        );
        let inside = open("22:00-05:00", "Asia/Tokyo", "2026-11-21T14:30:00Z", 1);
        assert_eq!(inside[0], "2026-11-21T14:30:00Z 2026-11-21T20:00:00Z", "an open window is open now");
    }

    #[test]
    fn days_are_those_on_which_it_begins() {
        // 2026-11-21 is a Saturday.
        assert_eq!(
            open("22:00-05:00 fri", "UTC", "2026-11-21T01:00:00Z", 7),
            ["2026-11-21T01:00:00Z 2026-11-21T05:00:00Z", "2026-11-27T22:00:00Z 2026-11-28T01:00:00Z"]
        );
        assert_eq!(
            open("00:00-24:00 sat-sun", "UTC", "2026-11-21T00:00:00Z", 7),
            ["2026-11-21T00:00:00Z 2026-11-23T00:00:00Z"]
        );
        assert_eq!(open("08:00-09:00 fri-mon,wed", "UTC", "2026-11-23T00:00:00Z", 7).len(), 5);
    }

    #[test]
    fn windows_that_touch_or_overlap_are_one() {
        assert_eq!(
            open("22:00-24:00; 00:00-05:00; 04:00-06:00", "UTC", "2026-11-21T12:00:00Z", 1),
            ["2026-11-21T22:00:00Z 2026-11-22T06:00:00Z"]
        );
    }

    #[test]
    fn an_hour_that_the_clock_leaves_out_shortens_a_window_and_one_that_it_repeats_prolongs_it() {
        // Berlin, 2026-03-29: 02:00 becomes 03:00. 2026-10-25: 03:00 becomes 02:00.
        assert_eq!(
            open("01:00-04:00", "Europe/Berlin", "2026-03-28T12:00:00Z", 1),
            ["2026-03-29T00:00:00Z 2026-03-29T02:00:00Z"]
        );
        assert_eq!(open("02:00-03:00", "Europe/Berlin", "2026-03-28T12:00:00Z", 1), Vec::<String>::new());
        assert_eq!(
            open("02:30-04:00", "Europe/Berlin", "2026-03-28T12:00:00Z", 1),
            ["2026-03-29T01:30:00Z 2026-03-29T02:00:00Z"]
        );
        assert_eq!(
            open("01:00-04:00", "Europe/Berlin", "2026-10-24T12:00:00Z", 1),
            ["2026-10-24T23:00:00Z 2026-10-25T03:00:00Z"]
        );
    }

    #[test]
    fn what_is_no_window_is_named() {
        for (text, why) in [
            ("", "expected a window such as 22:00-05:00 mon-fri, found \"\""),
            ("22:00", "expected a window such as 22:00-05:00 mon-fri, found \"22:00\""),
            (
                "22:00-22:00",
                "expected a window that opens and closes (00:00-24:00 is all day), found \"22:00-22:00\"",
            ),
            ("25:00-05:00", "expected a time such as 22:00, found \"25:00\""),
            ("22:00-05:60", "expected a time such as 22:00, found \"05:60\""),
            ("22:00-05:00 mo", "expected days such as mon-fri or sat,sun, found \"mo\""),
        ] {
            assert_eq!(Windows::parse(text).unwrap_err().to_string(), why);
        }
        assert_eq!(
            Zone::parse("Tokyo").unwrap_err().to_string(),
            "expected a time zone such as Asia/Tokyo or UTC, found \"Tokyo\""
        );
        assert_eq!(Zone::parse("asia/tokyo").unwrap().as_str(), "Asia/Tokyo");
        assert_eq!(
            Zone::parse("Asia/Tokyo").unwrap().local(at("2026-11-21T13:00:00Z")),
            "2026-11-21 22:00 Asia/Tokyo"
        );
    }

    proptest! {
        #[test]
        fn intervals_are_in_order_apart_and_inside(
            text in "([01][0-9]:[0-5][0-9]-2[0-3]:[0-5][0-9] (mon-fri|sat,sun|wed)|2[0-3]:[0-5][0-9]-0[0-9]:[0-5][0-9])",
            zone in prop::sample::select(vec!["UTC", "Asia/Tokyo", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]),
            start in 0i64..4_000_000_000_000,
            days in 0i64..40,
        ) {
            let (from, until) = (UnixMillis(start), UnixMillis(start + days * DAY));
            let found = Windows::parse(&text).unwrap().intervals(&Zone::parse(zone).unwrap(), from, until, 100);
            prop_assert!(found.iter().all(|i| i.from < i.until && i.from >= from && i.until <= until));
            prop_assert!(found.windows(2).all(|pair| pair[0].until < pair[1].from));
        }

        #[test]
        fn arbitrary_text_is_read_or_refused(text in ".{0,40}") {
            let _ = (Windows::parse(&text), Zone::parse(&text));
        }
    }
}
