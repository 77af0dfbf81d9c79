//! The devices beside a simulated box: faults that come and go, counters that grow, looks that fail; and the disk that keeps
//! its readings. Knows what truly was, and checks that nothing else is said.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use agent_core::{Compared, Event, Look, LookFault, State};
use shared::device::{
    Counter, DeviceClass, DeviceName, Fault, FaultClass, FaultKey, FaultKind, FaultsRead, Measure,
    Observation, Severity, Status, Unit,
};
use shared::message::{CounterReport, Linked, ReadingMark, encode};
use shared::reading::{Anomaly, Reading, SignedReading};
use shared::{AgentId, Digest, Label, UnixMillis};

use crate::dice::Dice;
use crate::persona::Persona;

/// Real agents look each minute; what is tested does not depend on it, and months are played.
const LOOK_EVERY: Duration = Duration::from_secs(2 * 3_600);
/// Every so many looks are for counters too.
const FULL_EVERY: u64 = 4;
/// Readings in one report: few, so that some have to say that there are more.
const PACKED_MAX_COUNT: usize = 40;
/// Faults that a device may have, each bit of a number one.
const CONDITIONS: u8 = 2;

/// What names a fault: device, key, when it began.
pub(crate) type FaultName = (DeviceName, FaultKey, UnixMillis);

/// What a reading says: device, when, its counter.
pub(crate) type Said = (DeviceName, UnixMillis, u64);

/// How a device takes a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Answers,
    Silent,
    /// It answers, but not with its faults.
    Unreadable,
}

#[derive(Clone, Debug)]
struct Device {
    name: DeviceName,
    shown: u8,
    pages: u64,
    mood: Mood,
    /// What it showed at each look that has seen all of it, by the box's clock.
    seen: BTreeMap<UnixMillis, u8>,
    /// What its counter was at each full look.
    counted: BTreeSet<(UnixMillis, u64)>,
}

/// A reading on the disk.
#[derive(Clone, Debug)]
struct Kept {
    mark: ReadingMark,
    linked: Linked,
    signed: SignedReading,
    seen: Observation,
    said: Said,
}

/// The devices and the disk of their readings.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    agent: AgentId,
    devices: Vec<Device>,
    dice: Dice,
    next_look: UnixMillis,
    looks: u64,
    /// Its box's clock goes on as it should.
    has_clock: bool,
    /// Nothing changes any more, so that what has changed can be told to its end.
    pub(crate) at_rest: bool,
    chain: u64,
    disk: Vec<Kept>,
    /// Every reading that was ever on the disk: its place, its digest.
    made: BTreeMap<(ReadingMark, Digest), Said>,
    /// What the disk has kept and was not put back to forget: it must come to the manager.
    kept: BTreeSet<Said>,
    /// Every fault that was ever saved, and its end.
    faults: BTreeMap<FaultName, Option<UnixMillis>>,
    /// Reports of each number, by their own numbers, and how often the manager was heard when the first one went out.
    told: BTreeMap<u64, (BTreeSet<u64>, u64)>,
    contacts: u64,
    /// Times that the disk was put back.
    pub(crate) put_back: u64,
    /// Faults that a disk which was put back does not know of any more, or not their end. The manager may know them.
    forgotten: BTreeSet<FaultName>,
}

impl Beside {
    pub(crate) fn new(agent: AgentId, persona: &Persona, now: UnixMillis, dice: Dice) -> Self {
        let device = |n: usize| Device {
            name: DeviceName::parse(&format!("mfp-{n}")).unwrap(),
            shown: 0,
            pages: 1_000,
            mood: Mood::Answers,
            seen: BTreeMap::new(),
            counted: BTreeSet::new(),
        };
        let mut beside = Self {
            agent,
            devices: (1..=persona.devices).map(device).collect(),
            dice,
            next_look: now,
            looks: 0,
            has_clock: persona.clock_jumps == 0,
            at_rest: false,
            chain: 0,
            disk: Vec::new(),
            made: BTreeMap::new(),
            kept: BTreeSet::new(),
            faults: BTreeMap::new(),
            told: BTreeMap::new(),
            contacts: 0,
            put_back: 0,
            forgotten: BTreeSet::new(),
        };
        beside.new_chain();
        beside
    }

    fn new_chain(&mut self) {
        self.chain = u64::from_be_bytes(self.dice.envelope_id().0[..8].try_into().unwrap());
    }

    fn head(&self) -> Option<ReadingMark> {
        self.disk.last().map(|kept| kept.mark)
    }

    /// What the shell says after `Started`, if there are devices.
    pub(crate) fn watching(&self) -> Option<Event> {
        let devices: Vec<DeviceName> = self.devices.iter().map(|device| device.name.clone()).collect();
        let last = |name: &DeviceName| {
            let kept = self.disk.iter().rev().find(|kept| kept.said.0 == *name)?;
            Some((name.clone(), kept.seen.clone()))
        };
        let last = devices.iter().filter_map(last).collect();
        (!devices.is_empty()).then(|| Event::Watching { devices, head: self.head(), last })
    }

    /// Looks at the devices, if it is time.
    pub(crate) fn look(&mut self, now: UnixMillis, clock: UnixMillis) -> Vec<Event> {
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now.plus(LOOK_EVERY);
        self.looks += 1;
        let is_full = self.looks.is_multiple_of(FULL_EVERY) && !self.at_rest;
        let Self { devices, dice, at_rest, .. } = self;
        devices
            .iter_mut()
            .map(|device| {
                device.live(dice, *at_rest);
                device.answer(clock, if is_full { Look::Full } else { Look::Faults })
            })
            .collect()
    }

    /// Signs an observation as the next reading and makes it durable. Signatures are not simulated.
    pub(crate) fn keep(&mut self, device: &DeviceName, seen: Observation, anomalies: Vec<Anomaly>) -> Event {
        let value = seen.counters.iter().find(|counter| counter.name.as_str() == "pages").unwrap().value;
        let said = (device.clone(), seen.taken_at, value);
        let of = self.devices.iter().find(|one| one.name == *device).unwrap();
        assert!(of.counted.contains(&(said.1, said.2)), "{}: {said:?} was never so", self.agent);
        let mark = ReadingMark { chain: self.chain, index: self.head().map_or(0, |head| head.index) + 1 };
        let previous = self.disk.last().map_or(Digest([0; 32]), |kept| kept.linked.digest);
        let reading = Reading {
            agent: self.agent.clone(),
            mark,
            previous,
            device: device.clone(),
            seen: seen.clone(),
            anomalies,
        };
        let signed = SignedReading::from_parts(encode(&reading), [0; 64]);
        let linked = Linked { digest: signed.digest(), previous };
        self.made.insert((mark, linked.digest), said.clone());
        self.kept.insert(said.clone());
        self.disk.push(Kept { mark, linked, signed, seen, said });
        Event::ReadingKept { device: device.clone(), mark }
    }

    pub(crate) fn compare(&self, mark: ReadingMark, there: Linked) -> Event {
        let here = self.disk.iter().find(|kept| kept.mark == mark).map(|kept| kept.linked);
        Event::ReadingCompared { mark, compared: Compared::of(here, there) }
    }

    /// Begins another chain with the readings after a place.
    pub(crate) fn begin_chain(&mut self, after: u64) -> Event {
        assert!(self.put_back > 0, "{}: another chain, and no disk was put back", self.agent);
        self.new_chain();
        for kept in std::mem::take(&mut self.disk).into_iter().filter(|kept| kept.mark.index > after) {
            let device = kept.said.0.clone();
            let _ = self.keep(&device, kept.seen, Vec::new());
        }
        Event::ChainBegun { head: self.head() }
    }

    /// The disk of the readings is put back to a copy that lacks the last ones. True if there were any.
    pub(crate) fn put_disk_back(&mut self, lacks: u64) -> bool {
        let left = self.disk.len().saturating_sub(usize::try_from(lacks).unwrap());
        let did = left > 0 && left < self.disk.len();
        if did {
            let lost: Vec<Kept> = self.disk.drain(left..).collect();
            self.kept.retain(|said| !lost.iter().any(|kept| kept.said == *said));
            self.put_back += 1;
        }
        did
    }

    /// The whole disk is put back to this copy of it.
    pub(crate) fn put_whole_disk_back(&mut self, copy: &Self) {
        self.put_disk_back((self.disk.len() - copy.disk.len()) as u64);
        let since = self.faults.iter().filter(|(name, end)| copy.faults.get(*name) != Some(*end));
        self.forgotten.extend(since.map(|(name, _)| name.clone()));
        self.faults.clone_from(&copy.faults);
        self.told.clear();
    }

    /// Faults that the manager may know better than the box.
    pub(crate) fn forgotten(&self) -> &BTreeSet<FaultName> {
        &self.forgotten
    }

    /// Puts readings into a report, as many as it may hold.
    pub(crate) fn pack(&self, report: &mut CounterReport) {
        let after = report.after.filter(|mark| mark.chain == self.chain).map_or(0, |mark| mark.index);
        let rest: Vec<&Kept> = self.disk.iter().filter(|kept| kept.mark.index > after).collect();
        let some = &rest[..rest.len().min(PACKED_MAX_COUNT)];
        report.upto = some.last().map(|kept| kept.mark);
        report.more = some.len() < rest.len();
        report.packed = some.iter().flat_map(|kept| kept.signed.framed()).collect();
    }

    /// An order of the manager was heard.
    pub(crate) fn heard(&mut self) {
        self.contacts += 1;
    }

    /// PROTOCOL 14.9: a report of faults was handed to the mail; again at most once, and then once for each contact.
    pub(crate) fn tells(&mut self, number: u64, sequence: u64) {
        let (reports, contacts) = self.told.entry(number).or_insert((BTreeSet::new(), self.contacts));
        reports.insert(sequence);
        let most = 2 + (self.contacts - *contacts);
        let times = reports.len() as u64;
        assert!(times <= most, "{}: fault report {number} went out {times} times", self.agent);
    }

    /// Looks at what is saved now: edges that must be told.
    pub(crate) fn note_saved(&mut self, after: &State) {
        // Two faults may begin at the same moment of a clock that goes back to it.
        if !self.has_clock {
            return;
        }
        for told in &after.watch.telling.changes {
            let change = &told.change;
            let name = (change.device.clone(), change.fault.key.clone(), change.raised_at);
            let known = self.faults.get(&name).copied();
            if known.is_none() {
                self.check_edge(&name, change.raised_at, true);
            }
            if let Some(cleared_at) = change.cleared_at.filter(|_| known.flatten().is_none()) {
                self.check_edge(&name, cleared_at, false);
            }
            let ended = known.flatten();
            assert!(ended.is_none() || ended == change.cleared_at, "{}: {name:?} began anew", self.agent);
            self.faults.insert(name, change.cleared_at);
        }
    }

    /// An edge was at a look that has seen it. What the agent itself finds wrong is not the device's.
    fn check_edge(&self, (device, key, _): &FaultName, at: UnixMillis, shown: bool) {
        if key.0.as_str().starts_with("agent:") {
            return;
        }
        let condition = (0..CONDITIONS).find(|n| fault(*n).key == *key).unwrap();
        let of = self.devices.iter().find(|one| one.name == *device).unwrap();
        let is = of.seen.get(&at).map(|seen| (seen >> condition) & 1 == 1);
        assert_eq!(is, Some(shown), "{}: {device} {key:?} at {at}", self.agent);
    }

    /// Every fault that was ever saved, and its end.
    pub(crate) fn faults(&self) -> &BTreeMap<FaultName, Option<UnixMillis>> {
        &self.faults
    }

    /// What a reading says that was made at this place; `None`: none was.
    pub(crate) fn made(&self, mark: ReadingMark, digest: Digest) -> Option<&Said> {
        self.made.get(&(mark, digest))
    }

    /// What must come to the manager.
    pub(crate) fn kept(&self) -> &BTreeSet<Said> {
        &self.kept
    }

    /// The readings on the disk.
    pub(crate) fn on_disk(&self) -> impl Iterator<Item = (ReadingMark, Digest)> {
        self.disk.iter().map(|kept| (kept.mark, kept.linked.digest))
    }
}

impl Device {
    /// Time passes for the device.
    fn live(&mut self, dice: &mut Dice, at_rest: bool) {
        if at_rest {
            self.mood = Mood::Answers;
            return;
        }
        for bit in (0..CONDITIONS).map(|n| 1 << n) {
            let changes = if self.shown & bit == 0 { 6 } else { 200 };
            if dice.chance(changes) {
                self.shown ^= bit;
            }
        }
        self.mood = match self.mood {
            Mood::Answers if dice.chance(3) => Mood::Silent,
            Mood::Answers if dice.chance(3) => Mood::Unreadable,
            Mood::Answers => Mood::Answers,
            Mood::Silent | Mood::Unreadable if dice.chance(200) => Mood::Answers,
            mood => mood,
        };
        self.pages += dice.below(500);
    }

    /// What it says to a look.
    fn answer(&mut self, clock: UnixMillis, look: Look) -> Event {
        let device = self.name.clone();
        if self.mood == Mood::Silent {
            let fault = LookFault { silence: true, why: Label::lossy("no answer") };
            return Event::Looked { device, look, result: Err(fault) };
        }
        let mut seen = Observation::of(DeviceClass::Mfp, clock);
        seen.status = Status::Idle;
        seen.identity.serial = Some(Label::lossy(self.name.as_str()));
        if self.mood == Mood::Unreadable {
            seen.faults_read = FaultsRead::Unreadable;
        } else {
            let shown = (0..CONDITIONS).filter(|n| (self.shown >> n) & 1 == 1);
            seen.faults = shown.map(fault).collect();
            self.seen.insert(clock, self.shown);
        }
        if look == Look::Full {
            seen.counters = vec![Counter {
                name: Label::lossy("pages"),
                labels: vec![],
                value: self.pages,
                unit: Unit::Impressions,
                measure: Measure::Cumulative,
            }];
            self.counted.insert((clock, self.pages));
        }
        Event::Looked { device, look, result: Ok(Box::new(seen)) }
    }
}

fn fault(condition: u8) -> Fault {
    Fault {
        key: FaultKey(Label::lossy(&format!("8.1.{condition}"))),
        code: Label::lossy(&condition.to_string()),
        kind: FaultKind::Jam,
        class: FaultClass::B,
        severity: Severity::Critical,
        location: Label::default(),
        text: Label::lossy("Misfeed"),
        never_cleared: false,
    }
}
