//! The line to the mail servers as `status` shows it: how fast it was, and what of its budget is used.

use agent_core::State;
use serde::Serialize;
use shared::UnixMillis;
use shared::message::{Budget, Hours};

/// The line, in `status --json`.
#[derive(Serialize)]
pub(crate) struct LineDocument {
    from_manager_bytes_per_second: Option<u64>,
    budget: Option<BudgetDocument>,
}

/// What of a budget is used. Bytes of both directions, below TLS, without those that TCP and IP add.
#[derive(Serialize)]
struct BudgetDocument {
    day_bytes: Option<u64>,
    day_used_bytes: u64,
    day_begins_anew_at: String,
    month_bytes: Option<u64>,
    month_used_bytes: u64,
    month_begins_anew_at: Option<String>,
    large_mails: Option<String>,
    mails_left: usize,
}

impl LineDocument {
    pub(crate) fn of(state: &State, budget: Option<Budget>, now: UnixMillis) -> Self {
        let budget = budget.map(|budget| {
            let used = state.used(budget, now);
            BudgetDocument {
                day_bytes: budget.day_bytes,
                day_used_bytes: used.day_bytes,
                day_begins_anew_at: used.day_anew.to_string(),
                month_bytes: budget.month_bytes,
                month_used_bytes: used.month_bytes,
                month_begins_anew_at: used.month_anew.as_ref().map(UnixMillis::to_string),
                large_mails: budget.hours.map(|hours| hours_text(hours, budget.utc_offset_minutes)),
                mails_left: state.meter.told.len(),
            }
        });
        Self { from_manager_bytes_per_second: state.meter.from_manager, budget }
    }

    /// Lines for people.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let rate = self.from_manager_bytes_per_second;
        let rate = rate.map(|rate| ("Line", format!("{} kB/s from the manager", tenths(rate, 1_000))));
        let budget = self.budget.as_ref().map(|budget| ("Budget", budget.text()));
        rate.into_iter().chain(budget).collect()
    }
}

impl BudgetDocument {
    fn text(&self) -> String {
        let of =
            |used: u64, most: u64| format!("{} of {} MB", tenths(used, 1_000_000), tenths(most, 1_000_000));
        let mut parts = Vec::new();
        if let Some(most) = self.day_bytes {
            parts.push(format!(
                "{} today, anew at {}",
                of(self.day_used_bytes, most),
                self.day_begins_anew_at
            ));
        }
        if let Some(most) = self.month_bytes {
            let anew = self.month_begins_anew_at.as_ref().map(|at| format!(", anew at {at}"));
            parts.push(format!("{} this month{}", of(self.month_used_bytes, most), anew.unwrap_or_default()));
        }
        parts.extend(self.large_mails.as_ref().map(|hours| format!("large mails {hours}")));
        if self.mails_left > 0 {
            parts.push(format!("{} mails wait for it", self.mails_left));
        }
        parts.join("; ")
    }
}

/// `22:00-05:00 +09:00`.
fn hours_text(hours: Hours, offset_minutes: i16) -> String {
    let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let sign = if offset_minutes < 0 { '-' } else { '+' };
    let offset = clock(offset_minutes.unsigned_abs());
    format!("{}-{} {sign}{offset}", clock(hours.from), clock(hours.until))
}

fn tenths(number: u64, unit: u64) -> String {
    let tenths = number.saturating_mul(10).checked_div(unit).unwrap_or(0);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_shown_by_the_clock_that_they_count_by() {
        assert_eq!(hours_text(Hours { from: 1_320, until: 305 }, -210), "22:00-05:05 -03:30");
    }

    #[test]
    fn a_budget_is_told_in_one_line() {
        let budget = BudgetDocument {
            day_bytes: Some(5_000_000),
            day_used_bytes: 1_250_000,
            day_begins_anew_at: "2026-11-22T00:00:00Z".to_owned(),
            month_bytes: None,
            month_used_bytes: 0,
            month_begins_anew_at: None,
            large_mails: Some("22:00-05:00 +00:00".to_owned()),
            mails_left: 2,
        };
        assert_eq!(
            budget.text(),
            "1.2 of 5.0 MB today, anew at 2026-11-22T00:00:00Z; large mails 22:00-05:00 +00:00; 2 mails wait for it"
        );
    }
}
