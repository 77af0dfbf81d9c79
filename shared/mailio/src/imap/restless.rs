//! How soon news of mail is believed: at once, and ever later from a server that tells of mail that is not there.

use core::time::Duration;

use tokio::time::Instant;

/// After the first news for nothing.
const FIRST: Duration = Duration::from_secs(1);

/// After many: as good as polling.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// What a folder looked like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Mails in it.
    pub(crate) exists: u32,
    /// The next one's UID; 0 if the server does not say.
    pub(crate) uid_next: u32,
}

/// What became of the last news.
#[derive(Debug, Default)]
pub(crate) struct Restless {
    /// The folder at the last look, less what was disposed of since.
    pub(crate) seen: Seen,
    /// When the news that is not yet looked after came.
    rung_at: Option<Instant>,
    hush: Duration,
}

impl Restless {
    /// A look has found the folder like this.
    pub(crate) fn looked(&mut self, seen: Seen) {
        if self.rung_at.take().is_some() {
            let told = self.seen;
            let in_vain = match (told.uid_next, seen.uid_next) {
                (0, _) | (_, 0) => seen.exists <= told.exists,
                (before, now) => before == now,
            };
            self.hush =
                if in_vain { self.hush.saturating_mul(2).clamp(FIRST, LONGEST) } else { Duration::ZERO };
        }
        self.seen = seen;
    }

    /// So many mails were removed.
    pub(crate) fn removed(&mut self, count: usize) {
        self.seen.exists = self.seen.exists.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// There is news; says when to look.
    pub(crate) fn rung(&mut self) -> Instant {
        let at = *self.rung_at.get_or_insert_with(Instant::now);
        at.checked_add(self.hush).unwrap_or(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(restless: &mut Restless) -> Duration {
        restless.rung().saturating_duration_since(restless.rung_at.unwrap())
    }

    #[test]
    fn news_is_believed_at_once_until_it_is_in_vain() {
        let mut restless = Restless::default();
        let seen = |exists, uid_next| Seen { exists, uid_next };
        restless.looked(seen(0, 7));
        assert_eq!(rest(&mut restless), Duration::ZERO);
        restless.looked(seen(1, 8));
        restless.removed(1);
        assert_eq!(rest(&mut restless), Duration::ZERO, "a mail had come");
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            restless.looked(seen(0, 8));
            assert_eq!(rest(&mut restless), Duration::from_secs(expected));
        }
        restless.looked(seen(1, 9));
        assert_eq!(rest(&mut restless), Duration::ZERO, "an honest word is enough");
    }

    #[test]
    fn without_the_next_uid_the_number_of_mails_counts() {
        let mut restless = Restless::default();
        restless.looked(Seen { exists: 3, uid_next: 0 });
        restless.removed(2);
        restless.rung();
        restless.looked(Seen { exists: 2, uid_next: 0 });
        assert_eq!(rest(&mut restless), Duration::ZERO);
        restless.looked(Seen { exists: 2, uid_next: 0 });
        assert_eq!(rest(&mut restless), FIRST);
    }

    #[test]
    fn a_poll_that_nobody_rang_for_says_nothing_of_the_server() {
        let mut restless = Restless::default();
        for _ in 0..5 {
            restless.looked(Seen { exists: 3, uid_next: 7 });
        }
        assert_eq!(rest(&mut restless), Duration::ZERO);
    }
}
