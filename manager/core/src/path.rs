//! How large a mail may be on the way to a destination: learned from what mail servers refuse and what agents say has come, forgotten
//! slowly. Pure. A destination is the domain of an address; all of them lie behind the manager's own relay.

use core::time::Duration;

use shared::UnixMillis;

/// What every server must take (RFC 5321 §4.5.3.1.7). Nothing smaller is tried.
pub const PATH_MIN_BYTES: u64 = 64 * 1024;

/// After so long without a refusal twice as much is tried: servers are replaced, and a filter can be mended. One mail that comes back
/// in a month is what it costs to notice.
pub const FORGET_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// Parts go out one after another, and bounce one after another: so long none of them says more than the first.
const BOUNCES_LAST: Duration = Duration::from_secs(3600);

/// What is known of one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// The largest mail that is known to have come.
    pub taken_bytes: u64,
    /// The largest that is tried, as of then; `None`: none was refused yet.
    pub limit: Option<(u64, UnixMillis)>,
}

impl Path {
    /// The largest mail that is tried now. `setting_bytes` is the operator's word.
    #[must_use]
    pub fn mail_max_bytes(&self, setting_bytes: u64, now: UnixMillis) -> u64 {
        let Some((limit, at)) = self.limit else { return setting_bytes };
        let waits = now.since(at).as_secs().checked_div(FORGET_AFTER.as_secs()).unwrap_or(0);
        let factor = 1u64.checked_shl(u32::try_from(waits).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
        limit.saturating_mul(factor).min(setting_bytes)
    }

    /// A mail of this size was too large for some server on the way, which may have said what is not. True if that is news: of several
    /// refusals of mails of one size the first counts.
    pub fn refused(&mut self, mail_bytes: u64, said_bytes: Option<u64>, now: UnixMillis) -> bool {
        if mail_bytes < PATH_MIN_BYTES || mail_bytes > self.mail_max_bytes(mail_bytes, now) {
            return false;
        }
        let half = mail_bytes.checked_div(2).unwrap_or(0);
        // What has passed before and is smaller is the better guess; what has passed and is not, passes no more.
        if self.taken_bytes >= mail_bytes {
            self.taken_bytes = 0;
        }
        let limit = said_bytes.filter(|said| *said < mail_bytes).unwrap_or(half.max(self.taken_bytes));
        self.limit = Some((limit.max(PATH_MIN_BYTES), now));
        true
    }

    /// As [`Path::refused`], by a bounce. Those that come soon after another are of mails that were under way already.
    pub fn bounced(&mut self, mail_bytes: u64, now: UnixMillis) -> bool {
        let known = self.limit.is_some_and(|(_, at)| now.since(at) < BOUNCES_LAST);
        !known && self.refused(mail_bytes, None, now)
    }

    /// A mail of this size has come: its agent says so.
    pub fn taken(&mut self, mail_bytes: u64) {
        self.taken_bytes = self.taken_bytes.max(mail_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMillis = UnixMillis(1_000_000_000_000);
    const SETTING: u64 = 10_240_000;

    #[test]
    fn what_is_refused_is_halved_and_what_has_passed_is_remembered() {
        let mut path = Path::default();
        assert_eq!(path.mail_max_bytes(SETTING, NOW), SETTING);
        path.taken(7_000_000);
        assert!(path.refused(10_000_000, None, NOW));
        assert_eq!(path.mail_max_bytes(SETTING, NOW), 7_000_000);
        assert!(path.refused(6_900_000, None, NOW), "a limit that dropped in the middle of a campaign");
        assert_eq!(path.mail_max_bytes(SETTING, NOW), 3_450_000);
    }

    #[test]
    fn what_a_server_says_counts_and_other_mails_of_that_size_say_nothing_new() {
        let mut path = Path::default();
        assert!(path.refused(9_000_000, Some(2_000_000), NOW));
        assert_eq!(path.mail_max_bytes(SETTING, NOW), 2_000_000);
        assert!(!path.refused(9_000_000, None, NOW));
        assert_eq!(path.mail_max_bytes(SETTING, NOW), 2_000_000);
    }

    #[test]
    fn of_many_parts_that_bounce_the_first_counts() {
        let mut path = Path::default();
        assert!(path.bounced(8_000_000, NOW));
        assert!(
            !path.bounced(4_000_000, NOW.plus(Duration::from_secs(600))),
            "recorded size of the next part"
        );
        assert!(path.bounced(4_000_000, NOW.plus(Duration::from_secs(7_200))));
        assert_eq!(path.mail_max_bytes(SETTING, NOW.plus(Duration::from_secs(7_200))), 2_000_000);
    }

    #[test]
    fn a_limit_is_forgotten_slowly() {
        let mut path = Path::default();
        path.refused(4_000_000, None, NOW);
        let after = |days: u64| path.mail_max_bytes(SETTING, NOW.plus(Duration::from_secs(days * 86_400)));
        assert_eq!(
            [0, 29, 30, 60, 90, 36_500].map(after),
            [2_000_000, 2_000_000, 4_000_000, 8_000_000, SETTING, SETTING]
        );
    }

    proptest! {
        #[test]
        fn whatever_the_way_takes_is_found_in_a_few_steps(real in PATH_MIN_BYTES..SETTING) {
            let mut path = Path::default();
            for step in 0..20 {
                let size = path.mail_max_bytes(SETTING, NOW);
                if size <= real {
                    prop_assert!(size * 2 >= real || size == PATH_MIN_BYTES || size == SETTING);
                    return Ok(());
                }
                prop_assert!(path.refused(size, None, NOW));
                prop_assert!(step < 9);
            }
        }
    }
}
