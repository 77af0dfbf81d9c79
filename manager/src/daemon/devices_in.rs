//! Takes in what agents say of devices: faults, and signed readings of counters. All of it happens in the transaction
//! that keeps the report. What is to be acknowledged is noted there too; the tick says it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use manager_core::alert::{Looked, route};
use manager_core::chain::{self, Link, Place, Proven, Refusal, complete, link, prove};
use manager_core::supply::Point;
use shared::device::{DeviceName, Level};
use shared::message::{CounterReport, FaultChange, FaultReport, ReadingMark};
use shared::reading::{Reading, SignedReading, unpack};
use shared::{AgentId, EnvelopeId, Label, UnixMillis};

use super::Shared;
use crate::store::{AgentRecord, FaultNews, NewReading, Tx, TxResult};
use shared::error::chain as error_chain;

/// A copy of a fault report is answered again, for the answer may have been lost; but whoever holds a copy could send it
/// without end, so an agent is not answered for copies more often than this.
const COPY_PAUSE: Duration = Duration::from_secs(600);

/// Levels of supplies are kept for this long: what is older says nothing of when they run out.
pub(super) const LEVELS_KEPT: Duration = Duration::from_secs(120 * 24 * 3600);

/// A day of supply levels.
const DAY_MS: i64 = 86_400_000;

/// An agent's clock may be this far ahead before its levels are left out of trends.
const CLOCK_AHEAD: Duration = Duration::from_secs(2 * 24 * 3600);

/// What is known of the report that is taken in.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    pub(super) agent: &'a AgentId,
    pub(super) envelope: EnvelopeId,
    pub(super) sequence: u64,
    pub(super) now: UnixMillis,
}

/// A copy of a report that was taken in before changes nothing, but the answer to it may have been lost (PROTOCOL 14.2).
pub(super) fn copy_came(tx: &Tx<'_>, agent: &AgentId, report: &FaultReport, now: UnixMillis) -> TxResult<()> {
    let last = tx.watch(agent)?.acknowledged_at;
    let due = last.map_or(now, |last| now.max(last.plus(COPY_PAUSE)));
    tx.owe_report(agent, report, due)
}

/// Takes faults in.
pub(super) fn take_faults(
    tx: &Tx<'_>,
    shared: &Shared,
    from: From<'_>,
    report: &FaultReport,
) -> TxResult<()> {
    let From { agent, sequence, now, .. } = from;
    let news = FaultNews { agent, number: report.number, sequence, received_at: now };
    let Some(record) = tx.agent(agent)? else { return Ok(()) };
    let mut nobody_at_site = false;
    for change in &report.changes {
        tx.know_device(agent, change, now)?;
        for what in tx.take_fault(&news, change)? {
            let told = route(&shared.config.alerts, what, &looked(&record, change));
            nobody_at_site |= told.nobody_at_site;
            for addressee in &told.addressees {
                tx.to_tell(addressee, agent, change, what)?;
            }
        }
    }
    tx.bound_faults(agent)?;
    tx.bound_devices(agent)?;
    let dropped = tx.faults_dropped(agent, report.dropped)?;
    if dropped > 0 {
        let text = format!("had no room for {dropped} changes of faults: some faults may seem to last");
        tracing::warn!(%agent, dropped, "faults were lost at the agent");
        tx.log(now, agent.as_str(), &text)?;
    }
    if nobody_at_site {
        tx.log(now, agent.as_str(), "an alert is for the site's administrator, and none is known")?;
    }
    tx.owe_report(agent, report, now)
}

fn looked<'a>(record: &'a AgentRecord, change: &FaultChange) -> Looked<'a> {
    Looked {
        class: change.fault.class,
        severity: change.fault.severity,
        kind: change.fault.kind,
        site: record.site.as_str(),
        admin: record.admin.as_ref(),
    }
}

/// Takes readings in. What cannot be unpacked is not acknowledged: the agent keeps it.
pub(super) fn take_counters(tx: &Tx<'_>, from: From<'_>, report: &CounterReport) -> TxResult<()> {
    let From { agent, envelope, sequence, now } = from;
    tx.counters_came(agent, sequence, report, now)?;
    let readings = match report.packed.as_slice() {
        [] => Vec::new(),
        packed => match unpack(packed) {
            Ok(readings) => readings,
            Err(err) => {
                let why = error_chain(&err);
                tracing::warn!(%agent, why, "readings cannot be unpacked");
                return tx.log(now, agent.as_str(), &format!("readings cannot be unpacked: {why}"));
            }
        },
    };
    let mut intake = Intake::new(tx, from)?;
    for (nth, signed) in readings.iter().enumerate() {
        intake.take(nth, signed)?;
    }
    if intake.kept == 0 && !readings.is_empty() {
        tx.forget_message(agent, envelope)?;
    }
    intake.finish(report.after)
}

/// Readings of one report on their way into the store.
struct Intake<'t, 'c> {
    tx: &'t Tx<'c>,
    from: From<'t>,
    keys: Vec<shared::keys::VerifyingKey>,
    kept: u64,
    refused: u64,
    broken: u64,
    /// The last refusal, in words.
    why: Option<String>,
    places: chain::Intake,
    /// The last reading of each device.
    newest: BTreeMap<DeviceName, Reading>,
    /// What was left of each supply on each day: device, key, day.
    levels: BTreeMap<(DeviceName, Label, i64), Point>,
}

impl<'t, 'c> Intake<'t, 'c> {
    fn new(tx: &'t Tx<'c>, from: From<'t>) -> TxResult<Self> {
        Ok(Self {
            tx,
            from,
            keys: tx.reading_keys(from.agent)?,
            kept: 0,
            refused: 0,
            broken: 0,
            why: None,
            places: chain::Intake::default(),
            newest: BTreeMap::new(),
            levels: BTreeMap::new(),
        })
    }

    /// PROTOCOL 14.5: kept if it is the agent's and its place is free; the same bytes in the same place are a copy.
    fn take(&mut self, nth: usize, signed: &SignedReading) -> TxResult<()> {
        let proven = match prove(self.from.agent, signed, &self.keys) {
            Ok(proven) => proven,
            Err(refusal) => return self.refuse(signed, refusal),
        };
        let mark = proven.reading.mark;
        match self.places.take(mark, proven.digest, self.tx.reading_at(self.from.agent, mark)?) {
            Place::Free => self.keep(nth, proven),
            Place::Known | Place::Behind => Ok(()),
            Place::Taken => self.refuse(signed, Refusal::Forked),
        }
    }

    fn refuse(&mut self, signed: &SignedReading, refusal: Refusal) -> TxResult<()> {
        if self.tx.refuse_reading(self.from.agent, signed, refusal, self.from.now)? {
            self.refused = self.refused.saturating_add(1);
            self.why = Some(refusal.to_string());
        }
        Ok(())
    }

    fn keep(&mut self, nth: usize, proven: Proven) -> TxResult<()> {
        let Proven { reading, digest, .. } = proven;
        let From { agent, envelope, now, .. } = self.from;
        self.tx.keep_reading(&NewReading {
            agent,
            mark: reading.mark,
            device: reading.device.as_str(),
            received_at: now,
            previous: reading.previous,
            digest,
            envelope,
            nth,
        })?;
        self.kept = self.kept.saturating_add(1);
        self.check_links(&reading, digest)?;
        self.note_levels(&reading);
        let newer = self.newest.get(&reading.device).is_none_or(|known| known.mark < reading.mark);
        if newer
            || self.newest.get(&reading.device).is_some_and(|known| known.mark.chain != reading.mark.chain)
        {
            self.newest.insert(reading.device.clone(), reading);
        }
        Ok(())
    }

    /// PROTOCOL 14.6: what does not follow is kept, and counted.
    fn check_links(&mut self, reading: &Reading, digest: shared::Digest) -> TxResult<()> {
        let ReadingMark { chain, index } = reading.mark;
        let at = |index| ReadingMark { chain, index };
        let below = index.saturating_sub(1);
        let before = self.tx.reading_at(self.from.agent, at(below))?.map(|digest| (below, digest));
        let after = self.tx.named_before(self.from.agent, at(index.saturating_add(1)))?;
        let broken = link(index, reading.previous, before) == Link::Broken
            || after.is_some_and(|named| named != digest);
        self.broken = self.broken.saturating_add(u64::from(broken));
        Ok(())
    }

    fn note_levels(&mut self, reading: &Reading) {
        let (at, now) = (reading.seen.taken_at, self.from.now);
        if at > now.plus(CLOCK_AHEAD) || at < now.minus(LEVELS_KEPT) {
            return;
        }
        for supply in &reading.seen.supplies {
            let Level::Amount(level) = supply.level else { continue };
            let name = (reading.device.clone(), supply.key.clone(), day(at));
            let point = self.levels.entry(name).or_insert(Point { at, level });
            if point.at <= at {
                *point = Point { at, level };
            }
        }
    }

    /// Saves what follows from all of them, and owes the answer (PROTOCOL 14.7).
    fn finish(self, after: Option<ReadingMark>) -> TxResult<()> {
        let Self { tx, from: From { agent, now, .. }, ref places, .. } = self;
        for reading in self.newest.values() {
            tx.see_device(reading, now)?;
        }
        tx.bound_devices(agent)?;
        for ((device, key, day), point) in &self.levels {
            tx.supply_level(agent, device, key.as_str(), *day, *point)?;
        }
        let devices: BTreeSet<&DeviceName> = self.levels.keys().map(|(device, ..)| device).collect();
        for device in devices {
            tx.bound_levels(agent, device)?;
        }
        if self.refused > 0 || self.broken > 0 {
            tx.count_faulty_readings(agent, self.refused, self.broken)?;
            let why = self.why.unwrap_or_else(|| "they do not follow from those before".to_owned());
            let text = format!(
                "possible tampering: {} readings kept out, {} do not follow; the last: {why}",
                self.refused, self.broken
            );
            tracing::warn!(%agent, refused = self.refused, broken = self.broken, why, "possible tampering");
            tx.log(now, agent.as_str(), &text)?;
        }
        for (chain, reached) in places.reached() {
            let known = tx.chain_complete(agent, chain)?;
            let begun = tx.set_chain_complete(agent, chain, complete(known, after, chain, reached), now)?;
            if begun.is_some_and(|number| number > 1) {
                let text =
                    "begins another chain of readings: it has lost the one before, or its disk was put back";
                tx.log(now, agent.as_str(), text)?;
            }
        }
        let Some(chain) = places.chain(after) else { return Ok(()) };
        let complete = tx.chain_complete(agent, chain)?.unwrap_or(0);
        match places.answer(after, chain, complete) {
            Some(upto) => tx.owe_readings(agent, upto, now),
            None => Ok(()),
        }
    }
}

/// The day of a time, counted from 1970.
pub(super) fn day(at: UnixMillis) -> i64 {
    at.0.div_euclid(DAY_MS)
}
