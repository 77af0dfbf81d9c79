//! Keeps this process from hammering a server with logins that fail: providers lock such accounts, and a
//! server that drops every session after login would otherwise be asked in a loop (chatmail core #5121).

use core::time::Duration;

use std::time::Instant;

const FAILURES_MAX: usize = 2;
const WINDOW: Duration = Duration::from_secs(120);

/// Times of the last failed logins.
#[derive(Debug, Default)]
pub(crate) struct LoginLimit {
    failures: Vec<Instant>,
}

impl LoginLimit {
    /// How long to wait before the next login; `None` if it may be tried now.
    pub(crate) fn wait(&mut self) -> Option<Duration> {
        self.wait_at(Instant::now())
    }

    fn wait_at(&mut self, now: Instant) -> Option<Duration> {
        let age = |at: &Instant| now.saturating_duration_since(*at);
        self.failures.retain(|at| age(at) < WINDOW);
        if self.failures.len() < FAILURES_MAX {
            return None;
        }
        self.failures.first().map(|at| WINDOW.saturating_sub(age(at)))
    }

    /// Notes a failed login.
    pub(crate) fn failed(&mut self) {
        if self.failures.len() >= FAILURES_MAX {
            self.failures.remove(0);
        }
        self.failures.push(Instant::now());
    }

    /// Notes a login that worked.
    pub(crate) fn worked(&mut self) {
        self.failures.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_failures_stop_logins_for_two_minutes() {
        let mut limit = LoginLimit::default();
        limit.failed();
        let first = limit.failures[0];
        assert_eq!(limit.wait_at(first), None);
        limit.failed();
        assert_eq!(limit.wait_at(first), Some(WINDOW));
        let over = limit.failures[1] + WINDOW;
        assert_eq!(limit.wait_at(over), None);
        assert!(limit.failures.is_empty());
        limit.failed();
        limit.worked();
        limit.failed();
        assert_eq!(limit.wait(), None);
    }
}
