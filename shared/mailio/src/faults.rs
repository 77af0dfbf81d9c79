//! Mails that the server could not give out: counted, and passed over for a while, so that one of them cannot stop
//! all others. Kept in memory only; a new process tries them again.

use core::time::Duration;
use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::error::{MailError, NetError};

/// So often a mail may fail before it is passed over.
const FAULTS_MAX: u8 = 3;

/// How long it is passed over: a server that was merely out of order must not hide mail for ever.
const PASS_OVER: Duration = Duration::from_secs(3600);

/// Mails that are remembered: a server that renumbers its folder leaves old ones behind.
const KNOWN_MAX_COUNT: usize = 1_000;

/// The faults of mails, by their keys.
#[derive(Debug)]
pub(crate) struct Faults<K> {
    known: BTreeMap<K, (u8, Instant)>,
}

impl<K: Ord> Faults<K> {
    pub(crate) fn new() -> Self {
        Self { known: BTreeMap::new() }
    }

    /// This mail was not given out.
    pub(crate) fn note(&mut self, key: K) {
        let (count, last) = self.known.entry(key).or_insert((0, Instant::now()));
        (*count, *last) = (count.saturating_add(1), Instant::now());
        while self.known.len() > KNOWN_MAX_COUNT {
            self.known.pop_first();
        }
    }

    /// This mail is gone.
    pub(crate) fn forget(&mut self, key: &K) {
        self.known.remove(key);
    }

    /// True if this mail is not to be asked for now.
    pub(crate) fn passes_over(&self, key: &K) -> bool {
        self.known.get(key).is_some_and(|(count, last)| *count >= FAULTS_MAX && last.elapsed() < PASS_OVER)
    }

    /// True if any mail for which `of` holds is not to be asked for now.
    pub(crate) fn passes_over_any(&self, of: impl Fn(&K) -> bool) -> bool {
        self.known.keys().any(|key| of(key) && self.passes_over(key))
    }
}

/// Errors that a single bad mail can cause. Dovecot's `imap_fetch_failure` default hangs up on one.
pub(crate) fn may_be_one_mail(err: &MailError) -> bool {
    matches!(
        err,
        MailError::Refused { .. } | MailError::Protocol(_) | MailError::Unreachable(NetError::Closed { .. })
    )
}
