//! Keeps this process from hammering a server with logins that fail: providers lock such accounts, and a
//! server that drops every session after login would otherwise be asked in a loop (chatmail core #5121).

use core::time::Duration;

use tokio::time::Instant;

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
        self.failures.retain(|at| at.elapsed() < WINDOW);
        if self.failures.len() < FAILURES_MAX {
            return None;
        }
        self.failures.first().map(|at| WINDOW.saturating_sub(at.elapsed()))
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

    #[tokio::test(start_paused = true)]
    async fn two_failures_stop_logins_for_two_minutes() {
        let mut limit = LoginLimit::default();
        limit.failed();
        assert_eq!(limit.wait(), None);
        limit.failed();
        assert_eq!(limit.wait(), Some(WINDOW));
        tokio::time::advance(WINDOW).await;
        assert_eq!(limit.wait(), None);
        limit.failed();
        limit.worked();
        limit.failed();
        assert_eq!(limit.wait(), None);
    }
}
