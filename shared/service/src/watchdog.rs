//! When to tell systemd that the daemon is alive: each loop promises when it will come round again, and a ping
//! is due only while all promises hold. Pure: time is passed in.
//!
//! A ping from a timer of its own would prove that the timer works. A ping by each loop would say nothing of
//! the others, and a loop that waits for a script for ten minutes would have to be woken for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The promises of a daemon's loops.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// Between two pings: half of what systemd waits.
    every: Duration,
    pinged: Option<Instant>,
    /// When each loop is late; `None`: never.
    promises: BTreeMap<&'static str, Option<Instant>>,
    complained: bool,
}

impl Watchdog {
    /// systemd waits for `silence` at most.
    pub(crate) fn new(silence: Duration) -> Self {
        // Not so short that pinging is all that is done.
        let every = silence.checked_div(2).unwrap_or_default().max(Duration::from_millis(1));
        Self { every, pinged: None, promises: BTreeMap::new(), complained: false }
    }

    pub(crate) fn promise(&mut self, now: Instant, who: &'static str, within: Duration) {
        // Beyond the end of the clock is never late.
        self.promises.insert(who, now.checked_add(within));
    }

    fn late(&self, now: Instant) -> Option<&'static str> {
        self.promises.iter().find(|(_, end)| end.is_some_and(|end| end < now)).map(|(who, _)| *who)
    }

    /// A loop that is late, the first time that one is.
    pub(crate) fn newly_late(&mut self, now: Instant) -> Option<&'static str> {
        let late = self.late(now);
        let new = late.filter(|_| !self.complained);
        self.complained = late.is_some();
        new
    }

    /// Whether to ping now; the answer yes counts as done.
    pub(crate) fn take_ping(&mut self, now: Instant) -> bool {
        let is_due = self.next_ping(now).is_zero() && self.late(now).is_none();
        if is_due {
            self.pinged = Some(now);
        }
        is_due
    }

    /// Time until it is worth looking again.
    pub(crate) fn next_ping(&self, now: Instant) -> Duration {
        if self.late(now).is_some() {
            return self.every;
        }
        self.pinged.map_or(Duration::ZERO, |at| self.every.saturating_sub(now.saturating_duration_since(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_ping_is_due_at_half_of_what_systemd_waits() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(10 * SECOND);
        watchdog.promise(start, "loop", 60 * SECOND);
        assert!(watchdog.take_ping(start));
        assert!(!watchdog.take_ping(start + 4 * SECOND));
        assert_eq!(watchdog.next_ping(start + 4 * SECOND), SECOND);
        assert!(watchdog.take_ping(start + 5 * SECOND));
    }

    #[test]
    fn one_late_loop_is_enough_and_is_named_once_and_may_come_back() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(10 * SECOND);
        watchdog.promise(start, "mail in", 60 * SECOND);
        watchdog.promise(start, "mail out", 20 * SECOND);
        assert!(watchdog.take_ping(start + 20 * SECOND));
        let late = start + 26 * SECOND;
        assert!(!watchdog.take_ping(late));
        assert_eq!(watchdog.newly_late(late), Some("mail out"));
        assert_eq!(watchdog.newly_late(late), None);
        assert!(!watchdog.next_ping(late).is_zero(), "a late daemon must not spin");
        watchdog.promise(late, "mail out", 20 * SECOND);
        assert!(watchdog.take_ping(late));
        assert_eq!(watchdog.newly_late(late), None);
    }

    #[test]
    fn a_promise_beyond_the_end_of_the_clock_is_never_broken() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(10 * SECOND);
        watchdog.promise(start, "loop", Duration::MAX);
        assert!(watchdog.take_ping(start + 1_000_000 * SECOND));
    }
}
