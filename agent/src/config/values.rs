//! Forms of values that only `agent.toml` has: sizes, modes, days of bills.

use shared::message::Hours;
use thiserror::Error;

/// A text that should have been a size.
#[derive(Debug, Error)]
#[error("expected a size such as \"16 MiB\" (B, KiB, MiB, GiB), found \"{0}\"")]
pub(super) struct SizeError(String);

/// A text that should have been a folder's mode.
#[derive(Debug, Error)]
#[error("expected the mode of a folder that its owner can use, such as \"0700\" or \"1777\", found \"{0}\"")]
pub(super) struct ModeError(String);

/// A number that should have been a day of the month.
#[derive(Debug, Error)]
#[error("expected days of the month, 1 to 31, found {0}")]
pub(super) struct DayError(i64);

/// A text that should have been a difference from UTC.
#[derive(Debug, Error)]
#[error("expected a difference from UTC such as \"+09:00\" or \"-03:30\", at most 14 hours, found \"{0}\"")]
pub(super) struct OffsetError(String);

/// A text that should have been a time of the day.
#[derive(Debug, Error)]
#[error("expected hours such as \"22:00-05:00\", found \"{0}\"")]
pub(super) struct HoursError(String);

/// Reads `22:00-05:00`.
pub(super) fn hours(text: &str) -> Result<Hours, HoursError> {
    let minutes = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes) = (two_digits(hours)?, two_digits(minutes).filter(|minutes| *minutes < 60)?);
        hours.checked_mul(60)?.checked_add(minutes).filter(|all| *all <= 24 * 60)
    };
    let read = || {
        let (from, until) = text.split_once('-')?;
        let hours = Hours { from: minutes(from)?, until: minutes(until)? };
        // What begins at its own end, or at the end of the day, is a slip of the pen.
        (hours.from != hours.until && hours.from < 24 * 60).then_some(hours)
    };
    read().ok_or_else(|| HoursError(text.chars().take(64).collect()))
}

/// Two digits: `parse` alone would also take a sign.
fn two_digits(text: &str) -> Option<u16> {
    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A day of the month.
pub(super) fn day(number: i64) -> Result<u8, DayError> {
    u8::try_from(number).ok().filter(|day| (1..=31).contains(day)).ok_or(DayError(number))
}

/// Reads `+09:00`, in minutes.
pub(super) fn utc_offset_minutes(text: &str) -> Result<i16, OffsetError> {
    let read = || {
        let (hours, minutes) = text.get(1..)?.split_once(':')?;
        let (hours, minutes) = (two_digits(hours)?, two_digits(minutes).filter(|minutes| *minutes < 60)?);
        let all = hours.checked_mul(60)?.checked_add(minutes).filter(|all| *all <= 14 * 60)?;
        let all = i16::try_from(all).ok()?;
        match text.as_bytes().first()? {
            b'+' => Some(all),
            b'-' => Some(all.saturating_neg()),
            _ => None,
        }
    };
    read().ok_or_else(|| OffsetError(text.chars().take(64).collect()))
}

/// Reads `16 MiB`: a whole number and one unit.
pub(super) fn size(text: &str) -> Result<u64, SizeError> {
    let err = || SizeError(text.chars().take(64).collect());
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(err)?;
    let (number, unit) = text.split_at(digits);
    let unit_bytes = match unit.trim() {
        "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "GiB" => 1024 * 1024 * 1024,
        _ => return Err(err()),
    };
    number.parse().ok().and_then(|n: u64| n.checked_mul(unit_bytes)).ok_or_else(err)
}

/// Reads `0700` or `1777`.
pub(super) fn folder_mode(text: &str) -> Result<u32, ModeError> {
    let found = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o1777 == 0 && mode & 0o700 == 0o700);
    found.filter(|_| text.len() <= 4).ok_or_else(|| ModeError(text.chars().take(64).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_number_and_a_unit() {
        assert_eq!(
            (size("16 MiB").unwrap(), size("0 B").unwrap(), size("2KiB").unwrap()),
            (16 << 20, 0, 2048)
        );
        for bad in ["", "16", "MiB", "1.5 MiB", "-1 MiB", "16 MB", "99999999999 GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_difference_from_utc_has_a_sign_hours_and_minutes() {
        let minutes = |text| utc_offset_minutes(text).ok();
        assert_eq!(
            [minutes("+00:00"), minutes("+09:00"), minutes("-03:30")],
            [Some(0), Some(540), Some(-210)]
        );
        assert_eq!([minutes("+14:00"), minutes("-14:00")], [Some(840), Some(-840)]);
        for bad in
            ["", "9", "+9:00", "+09", "09:00", "+14:01", "+09:60", "+-9:00", "é09:00", "+09:00 ", "UTC"]
        {
            assert!(minutes(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn hours_have_a_beginning_and_an_end_of_the_day() {
        assert_eq!(hours("22:00-05:30").unwrap(), Hours { from: 1_320, until: 330 });
        assert_eq!(hours("00:00-24:00").unwrap(), Hours { from: 0, until: 1_440 });
        for bad in
            ["", "22:00", "22-05", "22:00-22:00", "24:00-05:00", "22:60-05:00", "+2:00-05:00", "22:00-5:00"]
        {
            assert!(hours(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bill_is_due_on_days_that_months_have() {
        assert_eq!((day(1).unwrap(), day(31).unwrap()), (1, 31));
        assert!([0, 32, -1, 257, i64::MAX].iter().all(|number| day(*number).is_err()));
    }

    #[test]
    fn a_folder_mode_leaves_its_owner_in() {
        assert_eq!((folder_mode("0700").unwrap(), folder_mode("1777").unwrap()), (0o700, 0o1777));
        for bad in ["", "700x", "0077", "4755", "00700", "0999"] {
            assert!(folder_mode(bad).is_err(), "{bad}");
        }
    }
}
