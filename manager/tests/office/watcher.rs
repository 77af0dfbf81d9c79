//! What a hand-made agent has seen of its devices: faults, and a chain of signed readings.

use shared::device::{
    Capacity, Counter, DeviceClass, DeviceName, Fault, FaultClass, FaultKey, FaultKind, Level, Measure,
    Observation, Severity, Supply, SupplyKind, Unit,
};
use shared::message::{CounterReport, FaultChange, FaultReport, Order, ReadingMark, Report};
use shared::reading::{Packer, Reading, SignedReading};
use shared::{AgentId, Digest, EnvelopeId, Label, UnixMillis};

use super::{Box7, Office};

/// A time that all tests of devices begin with.
pub const T0: UnixMillis = UnixMillis(1_795_000_000_000);

pub fn label(text: &str) -> Label {
    Label::lossy(text)
}

/// A jam of class A in a device.
pub fn jam(device: &str) -> FaultChange {
    FaultChange {
        device: DeviceName::parse(device).unwrap(),
        class: DeviceClass::Mfp,
        model: Some(label("RICOH MP C3004")),
        serial: Some(label("E153M1")),
        fault: Fault {
            key: FaultKey(label("8/1/8/abcd")),
            code: label("8"),
            kind: FaultKind::Jam,
            class: FaultClass::A,
            severity: Severity::Critical,
            location: label("tray 2"),
            text: label("Paper misfeed"),
            never_cleared: false,
        },
        raised_at: T0,
        cleared_at: None,
        returns: 0,
    }
}

pub fn faults(number: u64, changes: Vec<FaultChange>) -> Report {
    Report::Faults(FaultReport { number, changes, dropped: 0, stamp: None })
}

/// A look at a printer that has printed so many pages and has so much toner left.
pub fn seen(at: UnixMillis, pages: u64, toner: u32) -> Observation {
    let mut seen = Observation::of(DeviceClass::Mfp, at);
    seen.identity.vendor = Some(label("RICOH"));
    seen.identity.model = Some(label("MP C3004"));
    seen.identity.serial = Some(label("E153M1"));
    seen.counters = vec![counter("pages", "mono", pages)];
    seen.supplies = vec![Supply {
        key: label("1.1"),
        kind: SupplyKind::Toner,
        colour: Some(label("black")),
        text: label("Black Toner"),
        level: Level::Amount(toner),
        capacity: Capacity::Amount(100),
        unit: Unit::Percent,
        part_number: Some(label("841817")),
        serial: None,
    }];
    seen
}

pub fn counter(name: &str, colour: &str, value: u64) -> Counter {
    Counter {
        name: label(name),
        labels: vec![(label("colour"), label(colour))],
        value,
        unit: Unit::Impressions,
        measure: Measure::Cumulative,
    }
}

/// An agent's chain of readings.
pub struct Chain {
    pub agent: AgentId,
    pub chain: u64,
    pub previous: Digest,
    pub readings: Vec<SignedReading>,
}

impl Chain {
    pub fn new(agent: &Box7, chain: u64) -> Self {
        Self { agent: agent.id.clone(), chain, previous: Digest([0; 32]), readings: Vec::new() }
    }

    /// Adds a reading of a device, signed by this box.
    pub fn add(&mut self, signer: &Box7, device: &str, seen: Observation) {
        let reading = Reading {
            agent: self.agent.clone(),
            mark: ReadingMark { chain: self.chain, index: self.readings.len() as u64 + 1 },
            previous: self.previous,
            device: DeviceName::parse(device).unwrap(),
            seen,
            anomalies: vec![],
        };
        let signed = SignedReading::sign(&reading, &signer.sign);
        self.previous = signed.digest();
        self.readings.push(signed);
    }

    /// As many readings of the device `mfp`, an hour apart.
    pub fn grow(&mut self, signer: &Box7, count: u64) {
        for _ in 0..count {
            let n = self.readings.len() as u64;
            let at = UnixMillis(T0.0 + i64::try_from(n).unwrap() * 3_600_000);
            let toner = 100u32.saturating_sub(u32::try_from(n / 24).unwrap());
            self.add(signer, "mfp", seen(at, 1_000 + n, toner));
        }
    }

    pub fn mark(&self, index: u64) -> Option<ReadingMark> {
        (index > 0).then_some(ReadingMark { chain: self.chain, index })
    }

    /// The readings of these indices, as a report that begins after `after`.
    pub fn report(&self, after: u64, indices: impl IntoIterator<Item = u64>) -> Report {
        let at = |index: u64| &self.readings[usize::try_from(index - 1).unwrap()];
        counters(None, self.mark(after), indices.into_iter().map(at), false)
    }
}

pub fn counters<'a>(
    query: Option<EnvelopeId>,
    after: Option<ReadingMark>,
    readings: impl IntoIterator<Item = &'a SignedReading>,
    more: bool,
) -> Report {
    let mut packer = Packer::default();
    let mut upto = None;
    for reading in readings {
        assert!(packer.push(reading).unwrap());
        upto = reading.read().ok().map(|reading| reading.mark).or(upto);
    }
    let packed = if upto.is_some() { packer.finish().unwrap() } else { Vec::new() };
    Report::Counters(CounterReport { query, after, upto, more, packed })
}

impl Office {
    /// Sends one report through the daemon, and gives what it answers.
    pub fn says(&self, agent: &mut Box7, report: &Report) -> Vec<Order> {
        agent.report(self, report);
        self.pass();
        agent.orders(self).into_iter().map(|(_, order, _)| order).collect()
    }

    /// A pass for an agent, and what it is answered.
    pub fn hears(&self, agent: &Box7) -> Vec<Order> {
        self.pass();
        agent.orders(self).into_iter().map(|(_, order, _)| order).collect()
    }
}
