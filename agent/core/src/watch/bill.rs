//! When a bill is due: on its day each device is read, and what was read is sent. Holds the calendar, which is worked out
//! from the time alone, and what is still to be read. Nothing is counted here, and nothing is billed.

use std::collections::BTreeSet;

use core::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use minicbor::{Decode, Encode};
use shared::UnixMillis;
use shared::device::DeviceName;

use crate::agent::AgentCore;
use crate::effect::Effect;
use crate::limits::{BILL_AGAIN, BILL_SPREAD, BILL_WAIT, BILLS_MAX_COUNT};

use super::part_of;

/// A month has at most so many days, so that each day of a bill comes again within them.
const LONGEST_MONTH_DAYS: usize = 31;

/// The days of the month on which a bill is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BillDays {
    /// From 1 to 31; in a shorter month, what is beyond its end is its last day. None: no bill is ever due.
    pub days: BTreeSet<u8>,
    /// What to add to UTC for the time where the bill is written, in minutes. A box knows no zones: summer time is not
    /// followed.
    pub utc_offset_minutes: i16,
}

/// A bill whose day has come.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Bill {
    /// Devices that were not read for it yet.
    #[n(0)]
    pub missing: BTreeSet<DeviceName>,
    /// When counters are sent for it, if there are new ones.
    #[n(1)]
    pub send_at: UnixMillis,
    /// Something was read for it that was not sent.
    #[n(2)]
    pub news: bool,
}

impl BillDays {
    /// The bill that was due last, up to `now`: when its day began. `None`: none ever is.
    pub(crate) fn last(&self, now: UnixMillis) -> Option<UnixMillis> {
        let offset = Offset::from_seconds(i32::from(self.utc_offset_minutes).checked_mul(60)?).ok()?;
        let mut day = offset.to_datetime(Timestamp::from_millisecond(now.0).ok()?).date();
        for _ in 0..LONGEST_MONTH_DAYS {
            if self.holds(day) {
                let midnight = offset.to_timestamp(day.at(0, 0, 0, 0)).ok()?;
                return Some(UnixMillis(midnight.as_millisecond()));
            }
            day = day.yesterday().ok()?;
        }
        None
    }

    fn holds(&self, day: Date) -> bool {
        let number = day.day().unsigned_abs();
        let is_last = day.day() == day.days_in_month();
        self.days.contains(&number) || (is_last && self.days.iter().any(|beyond| *beyond > number))
    }
}

impl Bill {
    /// All that could be read is: the rest of the wait is only so that not all boxes send at once.
    fn shorten(&mut self, now: UnixMillis, spread: Duration) {
        if self.missing.is_empty() {
            self.send_at = self.send_at.min(now.plus(spread));
        }
    }
}

impl AgentCore {
    /// What is due for a bill. Each is begun once, whatever the clock does: bills are remembered by their day, not by the
    /// last one's.
    pub(crate) fn pump_bill(&mut self, now: UnixMillis) {
        let watch = &mut self.state.watch;
        let Some(due) = self.profile.bill.last(now) else {
            self.dirty |= watch.bill.take().is_some();
            return;
        };
        let spread = part_of(BILL_SPREAD, &self.profile.agent);
        // What was due before the agent knew of bills is not.
        let is_first = watch.bills.is_empty();
        if !watch.bills.contains(&due) {
            self.dirty = true;
            watch.bills.push(due);
            let over = watch.bills.len().saturating_sub(BILLS_MAX_COUNT);
            watch.bills.drain(..over);
            if !is_first {
                // A box that was off at midnight has less time, but some: its devices may just be starting, too.
                let until = due.plus(BILL_WAIT).max(now.plus(BILL_SPREAD));
                let missing = watch.devices.keys().cloned().collect();
                let mut bill = Bill { missing, send_at: until.plus(spread), news: false };
                bill.shorten(now, spread);
                watch.bill = Some(bill);
            }
        }
        self.send_bill(now);
    }

    fn send_bill(&mut self, now: UnixMillis) {
        let Some(bill) = &mut self.state.watch.bill else { return };
        // A time further ahead than any wait lasts was set before the clock went back.
        if now < bill.send_at && bill.send_at.since(now) <= BILL_AGAIN.saturating_mul(2) {
            return;
        }
        self.dirty = true;
        let has_news = std::mem::take(&mut bill.news);
        if bill.missing.is_empty() {
            self.state.watch.bill = None;
        } else {
            // Who was switched off over the weekend is read on Monday.
            bill.send_at = now.plus(BILL_AGAIN);
        }
        if has_news {
            self.send_counters(now, None);
        }
    }

    /// A device answers that was not read for the bill: it is asked for everything.
    pub(crate) fn read_for_bill(&self, device: &DeviceName, out: &mut Vec<Effect>) {
        if self.state.watch.bill.as_ref().is_some_and(|bill| bill.missing.contains(device)) {
            out.push(Effect::LookAgain { device: device.clone() });
        }
    }

    /// A reading of a device is on the disk.
    pub(crate) fn kept_for_bill(&mut self, now: UnixMillis, device: &DeviceName) {
        let Some(bill) = &mut self.state.watch.bill else { return };
        if bill.missing.remove(device) {
            self.dirty = true;
            bill.news = true;
            bill.shorten(now, part_of(BILL_SPREAD, &self.profile.agent));
        }
    }

    /// Only these devices are watched from now on.
    pub(crate) fn bill_only(&mut self, now: UnixMillis, devices: &[DeviceName]) {
        let Some(bill) = &mut self.state.watch.bill else { return };
        let before = bill.missing.len();
        bill.missing.retain(|name| devices.contains(name));
        if bill.missing.len() < before {
            self.dirty = true;
            bill.shorten(now, part_of(BILL_SPREAD, &self.profile.agent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: &[u8], utc_offset_minutes: i16) -> BillDays {
        BillDays { days: days.iter().copied().collect(), utc_offset_minutes }
    }

    fn last(bill: &BillDays, now: &str) -> String {
        bill.last(UnixMillis::parse(now).unwrap()).unwrap().to_string()
    }

    #[test]
    fn a_bill_is_due_from_the_first_moment_of_its_day() {
        let first = days(&[1], 0);
        assert_eq!(last(&first, "2026-11-30T23:59:59Z"), "2026-11-01T00:00:00Z");
        assert_eq!(last(&first, "2026-12-01T00:00:00Z"), "2026-12-01T00:00:00Z");
        assert_eq!(last(&first, "2027-01-31T12:00:00Z"), "2027-01-01T00:00:00Z");
        let twice = days(&[1, 15], 0);
        assert_eq!(last(&twice, "2026-12-14T23:59:59Z"), "2026-12-01T00:00:00Z");
        assert_eq!(last(&twice, "2026-12-31T00:00:00Z"), "2026-12-15T00:00:00Z");
    }

    #[test]
    fn a_day_that_a_month_lacks_is_its_last_one() {
        let end = days(&[31], 0);
        for (now, due) in [
            ("2027-02-28T05:00:00Z", "2027-02-28T00:00:00Z"),
            ("2028-02-28T05:00:00Z", "2028-01-31T00:00:00Z"),
            ("2028-02-29T05:00:00Z", "2028-02-29T00:00:00Z"),
            ("2028-05-01T05:00:00Z", "2028-04-30T00:00:00Z"),
        ] {
            assert_eq!(last(&end, now), due);
        }
        assert_eq!(last(&days(&[30, 31], 0), "2027-03-01T00:00:00Z"), "2027-02-28T00:00:00Z");
        assert_eq!(last(&days(&[30, 31], 0), "2027-03-31T00:00:00Z"), "2027-03-31T00:00:00Z");
    }

    #[test]
    fn the_day_begins_where_the_bill_is_written() {
        let tokyo = days(&[1], 9 * 60);
        assert_eq!(last(&tokyo, "2026-11-30T14:59:59Z"), "2026-10-31T15:00:00Z");
        assert_eq!(last(&tokyo, "2026-11-30T15:00:00Z"), "2026-11-30T15:00:00Z");
        let west = days(&[1], -(3 * 60 + 30));
        assert_eq!(last(&west, "2026-12-01T03:29:59Z"), "2026-11-01T03:30:00Z");
        assert_eq!(last(&west, "2026-12-01T03:30:00Z"), "2026-12-01T03:30:00Z");
    }

    #[test]
    fn without_a_day_and_beyond_all_times_no_bill_is_due() {
        assert_eq!(days(&[], 0).last(UnixMillis(0)), None);
        assert_eq!(days(&[1], 0).last(UnixMillis(i64::MAX)), None);
        assert_eq!(days(&[1], 0).last(UnixMillis(i64::MIN)), None);
    }
}
