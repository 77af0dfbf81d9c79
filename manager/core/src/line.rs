//! What agents have said of their lines (R6), and how long something takes over them. Arithmetic alone.

use core::time::Duration;

use shared::message::{Hours, Line};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Days of a month, for what is only an estimate.
const DAYS_OF_MONTH: u32 = 30;

/// How long mails of so many bytes take to an agent: by its rate, and at least as many days and months as its budget makes of them.
/// `None`: neither is known.
#[must_use]
pub fn transfer_time(bytes: u64, line: Option<&Line>) -> Option<Duration> {
    let line = line?;
    let by_rate = line.from_manager.map(|rate| Duration::from_secs(bytes.div_ceil(rate.max(1))));
    let budget = line.budget;
    let periods = |of: Option<u64>, length: Duration| {
        let periods = bytes.div_ceil(of?.max(1)).saturating_sub(1);
        Some(length.saturating_mul(u32::try_from(periods).unwrap_or(u32::MAX)))
    };
    let by_day = periods(budget.and_then(|budget| budget.day_bytes), DAY);
    let by_month = periods(budget.and_then(|budget| budget.month_bytes), DAY.saturating_mul(DAYS_OF_MONTH));
    [by_rate, by_day, by_month].into_iter().flatten().max()
}

/// `22:00-05:00 +09:00`: when large mails are fetched.
#[must_use]
pub fn hours_text(hours: Hours, offset_minutes: i16) -> String {
    let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let sign = if offset_minutes < 0 { '-' } else { '+' };
    let offset = clock(offset_minutes.unsigned_abs());
    format!("{}-{} {sign}{offset}", clock(hours.from), clock(hours.until))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::message::Budget;

    #[test]
    fn a_transfer_takes_as_long_as_its_rate_or_its_budget_makes_it() {
        let rate = Line { from_manager: Some(1_000), ..Line::default() };
        assert_eq!(transfer_time(3_600_000, Some(&rate)), Some(Duration::from_secs(3_600)));
        let budget = Budget { day_bytes: Some(1_000_000), ..Budget::default() };
        let both = Line { budget: Some(budget), ..rate };
        assert_eq!(transfer_time(3_600_000, Some(&both)), Some(DAY * 3), "the fourth day is enough");
        assert_eq!(transfer_time(900_000, Some(&both)), Some(Duration::from_secs(900)));
        let month = Budget { month_bytes: Some(1_000_000), ..Budget::default() };
        let month = Line { budget: Some(month), ..Line::default() };
        assert_eq!(transfer_time(1_000_001, Some(&month)), Some(DAY * 30));
    }

    #[test]
    fn what_nobody_has_measured_is_not_known() {
        assert_eq!((transfer_time(1, None), transfer_time(1, Some(&Line::default()))), (None, None));
        let strange = Line { from_manager: Some(0), ..Line::default() };
        assert_eq!(transfer_time(u64::MAX, Some(&strange)), Some(Duration::from_secs(u64::MAX)));
    }
}
