//! How long a loop rests: its poll interval, and longer after each failure in a row. And how it complains:
//! once for each cause, not once for each try.

use std::time::Duration;

use shared::error::chain;

use super::DaemonError;

/// A mail server that is down is asked at least this often.
const LONGEST: Duration = Duration::from_secs(300);

/// The rest of one loop.
#[derive(Debug)]
pub(super) struct Pause {
    poll: Duration,
    failures: u32,
    log: Grumble,
}

/// Says what does not work, once until it changes: a wrong password is tried for days.
#[derive(Debug, Default)]
pub(super) struct Grumble {
    last: Option<String>,
}

impl Grumble {
    pub(super) fn failed(&mut self, err: &DaemonError) {
        let error = chain(err);
        if self.last.as_ref() == Some(&error) {
            tracing::debug!(error, "still does not work");
            return;
        }
        if err.needs_operator() {
            tracing::error!(error, "needs the operator");
        } else {
            tracing::warn!(error, "tried again later");
        }
        self.last = Some(error);
    }

    pub(super) fn worked(&mut self) {
        if let Some(error) = self.last.take() {
            tracing::info!(error, "works again");
        }
    }
}

impl Pause {
    pub(super) fn new(poll: Duration) -> Self {
        Self { poll, failures: 0, log: Grumble::default() }
    }

    pub(super) fn worked(&mut self) {
        self.log.worked();
        self.failures = 0;
    }

    pub(super) fn failed(&mut self, err: &DaemonError) {
        self.failures = self.failures.saturating_add(1);
        self.log.failed(err);
    }

    /// True if the last pass worked.
    pub(super) fn is_calm(&self) -> bool {
        self.failures == 0
    }

    pub(super) fn length(&self) -> Duration {
        let factor = 1u32.checked_shl(self.failures.min(16)).unwrap_or(1);
        self.poll.saturating_mul(factor).min(LONGEST.max(self.poll))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_lengthen_the_pause_up_to_a_limit_and_success_resets_it() {
        let mut pause = Pause::new(Duration::from_secs(30));
        assert_eq!(pause.length(), Duration::from_secs(30));
        let err = DaemonError::File("x".into(), std::io::Error::other("x"));
        pause.failed(&err);
        assert_eq!(pause.length(), Duration::from_secs(60));
        for _ in 0..100 {
            pause.failed(&err);
        }
        assert_eq!(pause.length(), LONGEST);
        pause.worked();
        assert_eq!(pause.length(), Duration::from_secs(30));
    }
}
