//! Times and durations as they are stored, sent and shown. Holds no clock: the shells pass `now` in.

use core::fmt;
use core::time::Duration;

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::error::quoted;

/// Milliseconds since 1970-01-01T00:00:00Z. The only form of time in messages, stores and cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct UnixMillis(#[n(0)] pub i64);

impl UnixMillis {
    /// This time plus `d`; stops at the end of time instead of wrapping.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(millis(d)))
    }

    /// This time minus `d`.
    #[must_use]
    pub fn minus(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(millis(d)))
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339, with any offset; `2026-11-21` alone means that day's start in UTC.
    ///
    /// # Errors
    /// The text is not a time.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let err = || TimeError { found: quoted(text, 64) };
        let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
        full.parse::<jiff::Timestamp>().map(|t| Self(t.as_millisecond())).map_err(|_| err())
    }
}

/// RFC 3339 in UTC, to the second: `2026-11-21T06:10:00Z`.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0.div_euclid(1000)) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

/// A text that should have been a time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected a time such as 2026-11-21T06:10:00Z, found \"{found}\"")]
pub struct TimeError {
    found: String,
}

/// A text that should have been a duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected a duration such as 30s, 10m, 2h or 14d, found \"{found}\"")]
pub struct DurationError {
    found: String,
}

/// Reads `500ms`, `30s`, `10m`, `2h`, `14d`: a whole number and one unit.
///
/// # Errors
/// Another form, no unit, or more than 1,000 years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let err = || DurationError { found: quoted(text, 64) };
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(err)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| err())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(err()),
    };
    let ms = number.checked_mul(unit_ms).filter(|ms| *ms < 32_000_000_000_000).ok_or_else(err)?;
    Ok(Duration::from_millis(ms))
}

/// Writes a duration in its largest whole unit, so that [`parse_duration`] reads the same back.
#[must_use]
pub fn format_duration(d: Duration) -> String {
    let ms = d.as_millis();
    for (unit_ms, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms >= unit_ms && ms.checked_rem(unit_ms) == Some(0) {
            return format!("{}{unit}", ms.checked_div(unit_ms).unwrap_or(0));
        }
    }
    if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_need_a_number_and_a_unit() {
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "10", "m", "1.5h", "-3s", "10 m", "99999999999999999999d", "1w", "é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_in_any_zone_and_written_in_utc() {
        let t = UnixMillis::parse("2026-11-21T15:10:00+09:00").unwrap();
        assert_eq!(t.to_string(), "2026-11-21T06:10:00Z");
        assert_eq!(UnixMillis::parse("2026-11-21").unwrap().to_string(), "2026-11-21T00:00:00Z");
        assert!(UnixMillis::parse("yesterday").is_err());
    }

    #[test]
    fn time_arithmetic_stops_at_its_ends() {
        assert_eq!(UnixMillis(i64::MAX).plus(Duration::MAX), UnixMillis(i64::MAX));
        assert_eq!(UnixMillis(5).since(UnixMillis(9)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(ms in 0u64..31_000_000_000_000) {
            let d = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(d)), Ok(d));
        }
    }
}
