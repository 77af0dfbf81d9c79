//! What an agent's line carries (R6), as the agent has measured it, and what its operator lets it carry.

use minicbor::{Decode, Encode};

/// Smallest limit that a budget sets for mails: half of it would be heads.
const MAIL_MIN_BYTES: u64 = 128 * 1024;

/// A budget takes so many mails at least: what one is larger than its share may be lost, and takes the whole of it again.
const MAILS_OF_BUDGET: u64 = 4;

const MINUTES_OF_DAY: u16 = 24 * 60;

/// An agent's line. Part of each version report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Line {
    /// Bytes a second of the mails from the manager; `None`: not measured yet.
    #[n(0)]
    pub from_manager: Option<u64>,
    /// Bytes a second from the agent to its devices; `None`: not measured yet.
    #[n(1)]
    pub to_devices: Option<u64>,
    /// What it may carry; `None`: whatever comes.
    #[n(2)]
    pub budget: Option<Budget>,
}

/// What a line may carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Budget {
    /// Bytes in a day, in both directions.
    #[n(0)]
    pub day_bytes: Option<u64>,
    /// Bytes in a calendar month, in both directions.
    #[n(1)]
    pub month_bytes: Option<u64>,
    /// When large mails may be fetched; `None`: at any time.
    #[n(2)]
    pub hours: Option<Hours>,
    /// What to add to UTC for the clock by which days, months and hours count, in minutes.
    #[n(3)]
    pub utc_offset_minutes: i16,
}

/// A time of each day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hours {
    /// Minutes after midnight.
    #[n(0)]
    pub from: u16,
    /// Minutes after midnight; not after `from`: on the next day.
    #[n(1)]
    pub until: u16,
}

impl Hours {
    /// The intervals of one day, in minutes after its midnight. One may be empty.
    #[must_use]
    pub fn of_day(self) -> [(u16, u16); 2] {
        if self.from < self.until {
            [(self.from, self.until), (0, 0)]
        } else {
            [(0, self.until), (self.from, MINUTES_OF_DAY)]
        }
    }
}

impl Budget {
    /// The largest mail that is to be sent to whoever has this budget (PROTOCOL 17.13).
    #[must_use]
    pub fn mail_max_bytes(&self) -> u64 {
        let least = [self.day_bytes, self.month_bytes].into_iter().flatten().min();
        let share = least.map(|bytes| bytes.checked_div(MAILS_OF_BUDGET).unwrap_or(bytes));
        share.map_or(u64::MAX, |share| share.max(MAIL_MIN_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_a_quarter_of_the_smaller_budget_and_never_only_head() {
        let most =
            |day_bytes, month_bytes| Budget { day_bytes, month_bytes, ..Budget::default() }.mail_max_bytes();
        assert_eq!(most(Some(4_000_000), Some(100_000_000)), 1_000_000);
        assert_eq!(most(None, Some(2_000_000)), 500_000);
        assert_eq!((most(Some(1_000), None), most(None, None)), (MAIL_MIN_BYTES, u64::MAX));
    }

    #[test]
    fn hours_over_midnight_are_two_intervals_of_a_day() {
        assert_eq!(Hours { from: 60, until: 120 }.of_day(), [(60, 120), (0, 0)]);
        assert_eq!(Hours { from: 1_320, until: 300 }.of_day(), [(0, 300), (1_320, 1_440)]);
    }
}
