//! What becomes of looks at devices: faults told until they are acknowledged (M2, M3), readings kept and sent until
//! the manager has them (M4, M5). Decides; the shell asks the devices, keeps and signs the readings.
//!
//! Readings lie in a file of the shell's, which is the only truth about the chain: it tells the core where the chain
//! stands when it starts and after each reading. Here is only what the manager has.

mod anomaly;
mod bill;
mod chain;
mod edges;
mod starts;
mod telling;

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use shared::device::{DeviceName, Observation};
use shared::limits::DEVICES_MAX_COUNT;
use shared::message::{Acknowledge, FaultReport, ReadingMark, Report};
use shared::reading::{Anomaly, AnomalyKind};
use shared::{AgentId, Digest, Label, UnixMillis};

use crate::agent::AgentCore;
use crate::effect::Effect;
use crate::limits::COUNTERS_FIRST;
use crate::state::Enrolment;

pub use bill::{Bill, BillDays};
pub use edges::{LookFault, Open, Watched};
pub use starts::Starts;
pub use telling::{Telling, Told, Unanswered};

/// What is remembered of devices, and must not be lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Watch {
    /// The devices.
    #[n(0)]
    pub devices: BTreeMap<DeviceName, Watched>,
    /// Their faults on the way to the manager.
    #[n(1)]
    pub telling: Telling,
    /// The manager has the readings up to this one.
    #[n(2)]
    pub delivered: Option<ReadingMark>,
    /// Readings are being sent up to this one.
    #[n(3)]
    pub sending: Option<ReadingMark>,
    /// When counters are sent next without being asked for.
    #[n(4)]
    pub next_counters: Option<UnixMillis>,
    /// The chains that its readings have stood in, the present one last.
    #[cbor(n(5), default)]
    pub chains: Vec<u64>,
    /// The bill that is being read, if one is.
    #[n(6)]
    pub bill: Option<Bill>,
    /// When the days of bills began that were taken up, in the order in which they were.
    #[cbor(n(7), default)]
    pub bills: Vec<UnixMillis>,
}

/// How much of a device was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Status and faults.
    Faults,
    /// Counters too: the observation becomes a reading.
    Full,
}

/// What is known of the devices for as long as the agent runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    looks: BTreeMap<DeviceName, edges::Looks>,
    /// Each device's last reading.
    last: BTreeMap<DeviceName, Observation>,
    /// Devices whose counters fell: they are asked again before anything is kept.
    suspects: BTreeSet<DeviceName>,
    /// The newest reading that is kept.
    head: Option<ReadingMark>,
    /// The manager was sent everything, to say where the chains part.
    asked_where: bool,
}

impl AgentCore {
    /// True while an answer to a fault report may come any moment (M3): the mailbox is then looked at every 30 s.
    #[must_use]
    pub fn awaits_answer(&self, now: UnixMillis) -> bool {
        self.state.watch.telling.awaits_answer(self.state.fresh.effective(now))
    }

    /// The devices that are watched from now on, and what is kept of their readings.
    pub(crate) fn watching(
        &mut self,
        now: UnixMillis,
        devices: &[DeviceName],
        head: Option<ReadingMark>,
        last: Vec<(DeviceName, Observation)>,
    ) {
        self.memory.head = head;
        self.memory.last = last.into_iter().filter(|(name, _)| devices.contains(name)).collect();
        let watch = &mut self.state.watch;
        let gone: Vec<_> = watch.devices.keys().filter(|name| !devices.contains(name)).cloned().collect();
        let mut changes = Vec::new();
        for name in gone {
            self.dirty = true;
            if let Some(watched) = watch.devices.remove(&name) {
                watched.forget(&name, now, &mut changes);
            }
        }
        for change in changes {
            watch.telling.take(now, change);
        }
        self.bill_only(now, devices);
    }

    /// A device was looked at.
    pub(crate) fn looked(
        &mut self,
        now: UnixMillis,
        device: DeviceName,
        look: Look,
        result: Result<Box<Observation>, LookFault>,
        out: &mut Vec<Effect>,
    ) {
        if !self.state.watch.devices.contains_key(&device)
            && self.state.watch.devices.len() >= DEVICES_MAX_COUNT
        {
            return;
        }
        let watched = self.state.watch.devices.entry(device.clone()).or_default();
        let looks = self.memory.looks.entry(device.clone()).or_default();
        let mut changes = Vec::new();
        // PROTOCOL 18.10
        let muted = self.state.updates.mutes(&device);
        match result {
            Ok(mut seen) => {
                if !muted {
                    self.dirty |= watched.seen(&device, looks, &seen, &mut changes);
                }
                if let Some(uptime) = seen.uptime {
                    self.dirty |= Starts::take(&mut watched.starts, seen.taken_at, uptime);
                }
                if look == Look::Full {
                    seen.counters.extend(watched.starts.iter().flat_map(Starts::counters));
                    self.read(device, *seen, out);
                } else {
                    self.read_for_bill(&device, out);
                }
            }
            Err(_) if muted => {}
            Err(fault) => self.dirty |= watched.missed(&device, looks, now, &fault, &mut changes),
        }
        for change in changes {
            self.dirty = true;
            self.state.watch.telling.take(now, change);
        }
    }

    /// A device did not come back after its update: a fault of its own, which ends when it answers.
    pub(crate) fn not_back(&mut self, now: UnixMillis, device: &DeviceName) {
        let Some(watched) = self.state.watch.devices.get_mut(device) else { return };
        let looks = self.memory.looks.entry(device.clone()).or_default();
        let mut changes = Vec::new();
        watched.not_back(device, looks, now, &mut changes);
        for change in changes {
            self.state.watch.telling.take(now, change);
        }
    }

    /// An observation becomes a reading, unless a counter fell: then the device is asked once more.
    fn read(&mut self, device: DeviceName, mut seen: Observation, out: &mut Vec<Effect>) {
        let before = self.memory.last.get(&device);
        let mut anomalies = before.map(|before| anomaly::between(before, &seen)).unwrap_or_default();
        let fell = anomalies.iter().any(|anomaly| anomaly.kind == AnomalyKind::Backwards);
        if fell && self.memory.suspects.insert(device.clone()) {
            out.push(Effect::LookAgain { device });
            return;
        }
        self.memory.suspects.remove(&device);
        anomalies.extend(self.twin(&device, &seen));
        seen.bound();
        self.memory.last.insert(device.clone(), seen.clone());
        out.push(Effect::KeepReading { device, seen: Box::new(seen), anomalies });
    }

    /// Two devices of one serial number: one bill would be sent twice.
    fn twin(&self, device: &DeviceName, seen: &Observation) -> Option<Anomaly> {
        let serial = seen.identity.serial.as_ref()?;
        let same = |(name, other): &(&DeviceName, &Observation)| {
            *name != device && other.identity.serial.as_ref() == Some(serial)
        };
        let (name, _) = self.memory.last.iter().find(same)?;
        let before = Label::lossy(name.as_str());
        Some(Anomaly { kind: AnomalyKind::SerialTwice, counter: Label::default(), before })
    }

    /// The manager says what it has.
    pub(crate) fn acknowledged(&mut self, now: UnixMillis, answer: &Acknowledge, out: &mut Vec<Effect>) {
        self.state.watch.telling.acknowledged(answer);
        self.readings_acknowledged(now, answer, out);
    }

    /// The manager was heard.
    pub(crate) fn contact(&mut self, now: UnixMillis) {
        if !self.state.outbox.holds_faults()
            && let Some(report) = self.state.watch.telling.contact(now)
        {
            self.say_faults(now, report);
        }
    }

    /// What is due about devices.
    pub(crate) fn pump_watch(&mut self, now: UnixMillis) {
        // A manager that does not know the agent would only refuse it.
        if matches!(self.state.enrolment, Enrolment::Requested(_)) {
            return;
        }
        let held = self.state.outbox.holds_faults();
        if let Some(report) = self.state.watch.telling.due(now, held) {
            self.say_faults(now, report);
        }
        self.pump_bill(now);
        let Some(every) = self.profile.counters_every.filter(|_| self.memory.head.is_some()) else { return };
        // A time further ahead than any pause lasts was set before the clock went back.
        let waits = |next: &UnixMillis| now < *next && next.since(now) <= every.saturating_mul(2);
        if self.state.watch.next_counters.as_ref().is_some_and(waits) {
            return;
        }
        self.dirty = true;
        // The first ones go out the same day: whoever sets a site up wants to see its devices.
        let first = self.state.watch.next_counters.is_none();
        let pause = if first { every.min(COUNTERS_FIRST) } else { every };
        // Other for each agent: boxes that were switched on together do not send together.
        self.state.watch.next_counters = Some(now.plus(pause).plus(part_of(pause, &self.profile.agent)));
        // A budget that runs out is for faults and orders; the readings stay, and go out with the next report.
        let is_short = self.purse(now, 0).is_some_and(|purse| purse.is_short());
        if !first && !is_short && !self.state.outbox.holds_counters() {
            self.send_counters(now, None);
        }
    }

    /// When something is due about devices.
    pub(crate) fn watch_wake(&self) -> Option<(UnixMillis, &'static str)> {
        if matches!(self.state.enrolment, Enrolment::Requested(_)) {
            return None;
        }
        let faults = self.state.watch.telling.next_wake().filter(|_| !self.state.outbox.holds_faults());
        let counters = self.state.watch.next_counters.filter(|_| self.profile.counters_every.is_some());
        let bill = self.state.watch.bill.as_ref().map(|bill| bill.send_at);
        let faults = faults.map(|at| (at, "faults are to be told"));
        let counters = counters.map(|at| (at, "counters are to be sent"));
        let bill = bill.map(|at| (at, "counters are to be sent for a bill"));
        [faults, counters, bill].into_iter().flatten().min()
    }

    fn say_faults(&mut self, now: UnixMillis, report: FaultReport) {
        self.say(now, Report::Faults(report));
    }

    /// The mail has taken a report.
    pub(crate) fn sent(&mut self, now: UnixMillis, report: &Report) {
        if let Report::Faults(faults) = report {
            self.state.watch.telling.sent(now, faults.number);
        }
    }
}

/// Up to an eighth of a time, other for each agent.
fn part_of(time: core::time::Duration, agent: &AgentId) -> core::time::Duration {
    let Digest([byte, ..]) = Digest::of(agent.as_str().as_bytes());
    time.saturating_mul(u32::from(byte)).checked_div(8 * 256).unwrap_or_default()
}
