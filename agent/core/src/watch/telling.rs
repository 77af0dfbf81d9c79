//! Telling the manager of faults until it says that it has them (M3): a change is gathered with others for a moment,
//! goes out in a numbered report, is sent again once if no acknowledgement comes, and after that at each contact. What
//! is not acknowledged is kept.

use minicbor::{Decode, Encode};
use shared::limits::FAULT_CHANGES_MAX_COUNT;
use shared::message::{Acknowledge, FaultChange, FaultReport};
use shared::{Digest, UnixMillis};

use crate::limits::{ACKNOWLEDGE_WAIT, CHANGES_MAX_COUNT, GATHER, TELL_AGAIN};

/// Fault changes on their way.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Telling {
    /// The next report's number.
    #[n(0)]
    pub next: u64,
    /// Changes that are not acknowledged, oldest first.
    #[n(1)]
    pub changes: Vec<Told>,
    /// Reports that are not acknowledged.
    #[n(2)]
    pub reports: Vec<Unanswered>,
    /// Changes wait for others until then.
    #[n(3)]
    pub gathering: Option<UnixMillis>,
    /// Changes that were dropped because there were too many.
    #[n(4)]
    pub dropped: u64,
}

/// A change and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Told {
    /// The change.
    #[n(0)]
    pub change: FaultChange,
    /// The report that it went into; `None`: none yet.
    #[n(1)]
    pub number: Option<u64>,
    /// The fault was in a report before: the manager may know that it began.
    #[n(2)]
    pub known: bool,
}

/// A report that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Unanswered {
    /// Its number.
    #[n(0)]
    pub number: u64,
    /// When the mail took it; `None`: it is in the outbox.
    #[n(1)]
    pub sent: Option<UnixMillis>,
    /// It has been sent again for want of an answer: from now on it waits for a contact.
    #[n(2)]
    pub again: bool,
    /// What tells it from another report of its number; `None`: an older agent has made it.
    #[n(3)]
    pub stamp: Option<Digest>,
}

impl Default for Telling {
    fn default() -> Self {
        Self { next: 1, changes: Vec::new(), reports: Vec::new(), gathering: None, dropped: 0 }
    }
}

impl Telling {
    /// Takes a change up. A newer word on the same fault takes the older one's place.
    pub(crate) fn take(&mut self, now: UnixMillis, change: FaultChange) {
        let name = |c: &FaultChange| (c.device.clone(), c.fault.key.clone(), c.raised_at);
        let same = self.changes.iter_mut().find(|told| name(&told.change) == name(&change));
        match same {
            Some(told) => *told = Told { change, number: None, known: told.known },
            None => self.changes.push(Told { change, number: None, known: false }),
        }
        self.gathering.get_or_insert(now.plus(GATHER));
        if self.changes.len() > CHANGES_MAX_COUNT {
            // What is over matters least, if nobody waits for its end; of the rest the oldest is known longest.
            let over = |told: &Told| told.change.cleared_at.is_some();
            let unknown = self.changes.iter().position(|told| over(told) && !told.known);
            let least = unknown.or_else(|| self.changes.iter().position(over));
            self.changes.remove(least.unwrap_or(0));
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// When something is due next, unless a report of faults is in the outbox.
    pub(crate) fn next_wake(&self) -> Option<UnixMillis> {
        let again = self.reports.iter().filter(|report| !report.again).filter_map(|report| report.sent);
        again.map(|sent| sent.plus(ACKNOWLEDGE_WAIT)).chain(self.gathering).min()
    }

    /// The report that is due now, if there is one. `outbox_has_one`: the last one has not gone out.
    pub(crate) fn due(&mut self, now: UnixMillis, outbox_has_one: bool) -> Option<FaultReport> {
        if outbox_has_one {
            return None;
        }
        if self.gathering.is_some_and(|until| until <= now || until > now.plus(GATHER)) {
            return self.gathered();
        }
        let late =
            |r: &&mut Unanswered| !r.again && r.sent.is_some_and(|sent| sent.plus(ACKNOWLEDGE_WAIT) <= now);
        let number = self.reports.iter_mut().find(late).map(|report| {
            // M3, PROTOCOL 14.9: exactly once.
            report.again = true;
            report.sent = None;
            report.number
        })?;
        self.once_more(number)
    }

    /// The manager was heard: what it has not acknowledged although it was sent twice goes out again.
    pub(crate) fn contact(&mut self, now: UnixMillis) -> Option<FaultReport> {
        let waits = |r: &&mut Unanswered| r.again && r.sent.is_some_and(|sent| sent.plus(TELL_AGAIN) <= now);
        let number = self.reports.iter_mut().find(waits).map(|report| {
            report.sent = None;
            report.number
        })?;
        self.once_more(number)
    }

    fn gathered(&mut self) -> Option<FaultReport> {
        let number = self.next;
        let mut changes = Vec::new();
        for told in self.changes.iter_mut().filter(|told| told.number.is_none()) {
            if changes.len() >= FAULT_CHANGES_MAX_COUNT {
                // The rest goes out after this one.
                return Some(self.number(number, changes));
            }
            told.number = Some(number);
            told.known = true;
            changes.push(told.change.clone());
        }
        self.gathering = None;
        (!changes.is_empty()).then(|| self.number(number, changes))
    }

    fn number(&mut self, number: u64, changes: Vec<FaultChange>) -> FaultReport {
        self.next = number.saturating_add(1);
        let report = FaultReport::stamped(number, changes, self.dropped);
        self.reports.push(Unanswered { number, sent: None, again: false, stamp: report.stamp });
        // Whose changes have all gone into newer reports need not be answered any more.
        let Self { reports, changes: kept, .. } = self;
        reports.retain(|report| kept.iter().any(|told| told.number == Some(report.number)));
        report
    }

    fn once_more(&mut self, number: u64) -> Option<FaultReport> {
        let of_it = self.changes.iter().filter(|told| told.number == Some(number));
        let changes: Vec<_> = of_it.map(|told| told.change.clone()).collect();
        if changes.is_empty() {
            self.reports.retain(|report| report.number != number);
            return None;
        }
        let stamp =
            self.reports.iter().find(|report| report.number == number).and_then(|report| report.stamp);
        Some(FaultReport { number, changes, dropped: self.dropped, stamp })
    }

    /// The mail has taken a report.
    pub(crate) fn sent(&mut self, now: UnixMillis, number: u64) {
        for report in self.reports.iter_mut().filter(|report| report.number == number) {
            report.sent = Some(now);
        }
    }

    /// The manager has these. PROTOCOL 14.2: a number alone may be that of a report that this disk does not know of any more.
    pub(crate) fn acknowledged(&mut self, answer: &Acknowledge) {
        let has = |report: &Unanswered| match (&answer.stamps, report.stamp) {
            (Some(stamps), Some(stamp)) => stamps.contains(&stamp),
            // An older manager, or a report of an older agent: there is nothing else to go by.
            (None, _) | (_, None) => answer.faults.contains(&report.number),
        };
        let (had, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.reports).into_iter().partition(has);
        self.reports = waiting;
        let of = |number| had.iter().any(|report| report.number == number);
        self.changes.retain(|told| !told.number.is_some_and(of));
    }

    /// A first answer may come any moment: the mailbox is worth looking at more often.
    #[must_use]
    pub fn awaits_answer(&self, now: UnixMillis) -> bool {
        let first = self.reports.iter().filter(|report| !report.again);
        first.filter_map(|report| report.sent).any(|sent| now.since(sent) < ACKNOWLEDGE_WAIT)
    }
}
