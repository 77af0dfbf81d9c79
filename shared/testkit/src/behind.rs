//! What the simulated manager knows of the devices behind one agent: faults as rows, readings in their chains, and the
//! acknowledgements that it owes. The rules are those of the real manager's core; rows of a table are maps here.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use manager_core::chain::{Intake, Link, Place, complete, link};
use shared::message::{Acknowledge, CounterReport, FaultReport, Linked, ReadingMark};
use shared::reading::read_framed;
use shared::{Digest, UnixMillis};

use crate::beside::{FaultName, Said};

/// Copies of one report are answered not more often than this (PROTOCOL 14.2).
const COPY_PAUSE: Duration = Duration::from_secs(600);

/// A reading that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) linked: Linked,
    pub(crate) said: Said,
}

/// What is known of the devices behind an agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind {
    /// Each fault and its end.
    pub(crate) faults: BTreeMap<FaultName, Option<UnixMillis>>,
    pub(crate) readings: BTreeMap<ReadingMark, Known>,
    complete: BTreeMap<u64, u64>,
    /// Readings that were kept out, and that do not follow.
    pub(crate) refused: u64,
    pub(crate) broken: u64,
    numbers: BTreeMap<u64, UnixMillis>,
    stamps: BTreeSet<Digest>,
    upto: Option<ReadingMark>,
    acknowledged_at: Option<UnixMillis>,
}

impl Behind {
    /// Takes faults in (PROTOCOL 14.1).
    pub(crate) fn take_faults(&mut self, now: UnixMillis, report: &FaultReport) {
        for change in &report.changes {
            let name = (change.device.clone(), change.fault.key.clone(), change.raised_at);
            let row = self.faults.entry(name).or_insert(None);
            *row = [*row, change.cleared_at].into_iter().flatten().min();
        }
        assert_eq!(report.dropped, 0);
        self.numbers.insert(report.number, now);
        self.stamps.extend(report.stamp);
    }

    /// The same envelope came once more: the answer may have been lost.
    pub(crate) fn copy_came(&mut self, now: UnixMillis, report: &FaultReport) {
        let due = self.acknowledged_at.map_or(now, |last| now.max(last.plus(COPY_PAUSE)));
        self.numbers.entry(report.number).or_insert(due);
        self.stamps.extend(report.stamp);
    }

    /// Takes readings in.
    pub(crate) fn take_counters(&mut self, report: &CounterReport) {
        let mut from = report.packed.as_slice();
        let mut intake = Intake::default();
        while let Some(signed) = read_framed(&mut from).unwrap() {
            let reading = signed.read().unwrap();
            let (mark, digest) = (reading.mark, signed.digest());
            let there = self.readings.get(&mark).map(|known| known.linked.digest);
            match intake.take(mark, digest, there) {
                Place::Free => {
                    self.check_links(mark, Linked { digest, previous: reading.previous });
                    let linked = Linked { digest, previous: reading.previous };
                    let said = (reading.device, reading.seen.taken_at, reading.seen.counters[0].value);
                    self.readings.insert(mark, Known { linked, said });
                }
                Place::Known | Place::Behind => {}
                Place::Taken => self.refused += 1,
            }
        }
        for (chain, reached) in intake.reached() {
            let known = self.complete.get(&chain).copied();
            self.complete.insert(chain, complete(known, report.after, chain, reached));
        }
        if let Some(chain) = intake.chain(report.after) {
            let complete = self.complete.get(&chain).copied().unwrap_or(0);
            self.upto = intake.answer(report.after, chain, complete).or(self.upto);
        }
    }

    fn check_links(&mut self, mark: ReadingMark, linked: Linked) {
        let at = |index| self.readings.get(&ReadingMark { index, ..mark }).map(|known| known.linked);
        let before: Option<(u64, Digest)> = at(mark.index - 1).map(|known| (mark.index - 1, known.digest));
        let breaks_after = at(mark.index + 1).is_some_and(|after| after.previous != linked.digest);
        let breaks_before = link(mark.index, linked.previous, before) == Link::Broken;
        self.broken += u64::from(breaks_before || breaks_after);
    }

    /// True if an acknowledgement is due.
    pub(crate) fn owes(&self, now: UnixMillis) -> bool {
        self.upto.is_some() || self.numbers.values().any(|due| *due <= now)
    }

    /// The acknowledgement of all that is owed. It is said with this.
    pub(crate) fn acknowledgement(&mut self, now: UnixMillis) -> Acknowledge {
        let readings = self.upto.take();
        let there = readings.and_then(|mark| self.readings.get(&mark)).map(|known| known.linked);
        self.acknowledged_at = Some(now);
        let stamps = Some(std::mem::take(&mut self.stamps).into_iter().collect());
        Acknowledge {
            faults: std::mem::take(&mut self.numbers).into_keys().collect(),
            readings,
            there,
            stamps,
        }
    }
}
