//! What tests may bend in a debug build: how the box's clock stands and how long a mail server may take. A release
//! build does not look at these variables.

use std::time::Duration;

/// How far the box's clock is off, in milliseconds.
#[must_use]
pub fn clock_error_ms() -> i64 {
    bent("MAILFLEET_TEST_CLOCK_ERROR_MS").unwrap_or(0)
}

/// The limit of each step of a mail connection, if it is not the usual one.
#[must_use]
pub fn mail_limit() -> Option<Duration> {
    bent("MAILFLEET_TEST_MAIL_LIMIT_MS").and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis)
}

fn bent(variable: &str) -> Option<i64> {
    if cfg!(debug_assertions) { std::env::var(variable).ok()?.parse().ok() } else { None }
}
