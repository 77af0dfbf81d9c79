//! The table `[budget]` of `agent.toml`: what the line to the mail servers may carry.

use mailio::config::{ConfigError, Values};
use serde::{Deserialize, Serialize};
use shared::message::Budget;

use super::{UTC_OFFSET_DEFAULT, values};

/// Four of the smallest mails that parts of bundles come in.
const BUDGET_MIN_BYTES: u64 = 512 * 1024;

/// What the line may carry.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBudget {
    day: Option<String>,
    month: Option<String>,
    hours: Option<String>,
    utc_offset: Option<String>,
}

impl RawBudget {
    pub(super) fn budget(self, in_file: &Values<'_>) -> Result<Budget, ConfigError> {
        let bytes = |key, text: Option<String>| {
            let Some(text) = text else { return Ok(None) };
            let bytes = in_file.value(key, values::size(&text))?;
            if bytes < BUDGET_MIN_BYTES {
                return Err(in_file.bad(key, format!("expected at least \"512 KiB\", found \"{text}\"")));
            }
            Ok(Some(bytes))
        };
        let budget = Budget {
            day_bytes: bytes("budget.day", self.day)?,
            month_bytes: bytes("budget.month", self.month)?,
            hours: self.hours.map(|text| in_file.value("budget.hours", values::hours(&text))).transpose()?,
            utc_offset_minutes: in_file.value(
                "budget.utc_offset",
                values::utc_offset_minutes(self.utc_offset.as_deref().unwrap_or(UTC_OFFSET_DEFAULT)),
            )?,
        };
        if budget.day_bytes.is_none() && budget.month_bytes.is_none() && budget.hours.is_none() {
            return Err(in_file.bad("budget", "expected day, month or hours in it".to_owned()));
        }
        Ok(budget)
    }
}
