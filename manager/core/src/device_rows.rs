//! Rows of CSV about devices: faults, counters, devices, supplies, parts. Knows no file format: the shell writes them.
//! Special values stay words; what comes from a device is made harmless in a spreadsheet.

use serde::Serialize;
use shared::device::{Capacity, Counter, Level, Observation, Part, Supply};
use shared::reading::{Anomaly, Reading};
use shared::{Label, UnixMillis};

use crate::chain::Link;
use crate::rows::defused;
use crate::supply::Trend;

/// One fault, from its beginning to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FaultRow {
    /// Agent ID.
    pub agent: String,
    /// The device.
    pub device: String,
    /// What the device is.
    pub class: String,
    /// The device's code for the fault.
    pub code: String,
    /// Its kind.
    pub kind: String,
    /// Its class (R14).
    pub fault_class: String,
    /// Its severity.
    pub severity: String,
    /// Where in the device.
    pub location: String,
    /// What the device says.
    pub text: String,
    /// When it began, by the agent's clock.
    pub raised_at: String,
    /// When it ended, by the agent's clock.
    pub cleared_at: String,
    /// When the manager first heard of it.
    pub reported_at: String,
    /// When that was acknowledged.
    pub acknowledged_at: String,
    /// The agent's site.
    pub site: String,
    /// Maker and model of the device.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// How often the fault came back.
    pub returns: u32,
}

/// One counter of one reading; of a reading without counters one row with empty cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CounterRow<'a> {
    /// Agent ID.
    pub agent: &'a str,
    /// The device.
    pub device: &'a str,
    /// What the device is.
    pub class: &'static str,
    /// What is counted.
    pub counter: String,
    /// Of which kind.
    pub labels: String,
    /// The value as read.
    pub value: Option<u64>,
    /// Its unit.
    pub unit: &'static str,
    /// When it was read, by the agent's clock.
    pub taken_at: &'a str,
    /// When it came.
    pub received_at: &'a str,
    /// What does not follow from the reading before; empty: all does.
    pub anomaly: String,
    /// The agent's chain of readings.
    pub chain: u64,
    /// The reading's place in it.
    pub index: u64,
}

/// The rows of one reading. `link` is how it stands to the one before it.
#[must_use]
pub fn counter_rows<'a>(
    reading: &'a Reading,
    link: Link,
    taken_at: &'a str,
    received_at: &'a str,
) -> Vec<CounterRow<'a>> {
    let of_device: Vec<String> = link_text(link)
        .into_iter()
        .chain(reading.anomalies.iter().filter(|one| one.counter.is_empty()).map(anomaly_text))
        .collect();
    let row = |counter: Option<&Counter>| CounterRow {
        agent: reading.agent.as_str(),
        device: reading.device.as_str(),
        class: reading.seen.class.as_str(),
        counter: counter.map_or(String::new(), |c| defused(c.name.as_str())),
        labels: counter.map_or(String::new(), |c| defused(&c.labels_text())),
        value: counter.map(|c| c.value),
        unit: counter.map_or("", |c| c.unit.as_str()),
        taken_at,
        received_at,
        anomaly: defused(&anomalies(reading, counter, &of_device)),
        chain: reading.mark.chain,
        index: reading.mark.index,
    };
    if reading.seen.counters.is_empty() {
        return vec![row(None)];
    }
    reading.seen.counters.iter().map(|counter| row(Some(counter))).collect()
}

fn anomalies(reading: &Reading, counter: Option<&Counter>, of_device: &[String]) -> String {
    let mut texts = of_device.to_vec();
    if let Some(counter) = counter.filter(|_| !reading.anomalies.is_empty()) {
        let name = counter_name(counter);
        texts.extend(reading.anomalies.iter().filter(|one| one.counter == name).map(anomaly_text));
    }
    texts.join("; ")
}

/// A counter as an anomaly names it.
fn counter_name(counter: &Counter) -> Label {
    Label::lossy(format!("{} {}", counter.name, counter.labels_text()).trim_end())
}

fn anomaly_text(one: &Anomaly) -> String {
    if one.before.is_empty() {
        one.kind.as_str().to_owned()
    } else {
        format!("{} (before: {})", one.kind.as_str(), one.before)
    }
}

fn link_text(link: Link) -> Option<String> {
    match link {
        Link::Follows => None,
        Link::First => Some("chain begins".to_owned()),
        Link::Headless => Some("the readings before are not kept".to_owned()),
        Link::Gap(1) => Some("gap: 1 reading is missing before".to_owned()),
        Link::Gap(missing) => Some(format!("gap: {missing} readings are missing before")),
        Link::Broken => Some("does not follow from the reading before".to_owned()),
    }
}

/// A device as it was last known. Empty cells: it has not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceRow {
    /// Agent ID.
    pub agent: String,
    /// The agent's site.
    pub site: String,
    /// The device.
    pub device: String,
    /// What it is.
    pub class: String,
    /// Its maker.
    pub vendor: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Its control programs, `main=1.2 controller=3.4`.
    pub firmware: String,
    /// What it did.
    pub status: String,
    /// When it was last read, by the agent's clock.
    pub taken_at: String,
    /// Faults that have not ended.
    pub open_faults: u64,
    /// Readings of its agent that were kept out because they do not verify or fork the chain.
    pub refused_readings: u64,
}

impl DeviceRow {
    /// Fills in what a reading says.
    pub fn describe(&mut self, seen: &Observation) {
        let text = |label: &Option<Label>| label.as_ref().map_or(String::new(), |l| defused(l.as_str()));
        self.class = seen.class.as_str().to_owned();
        self.vendor = text(&seen.identity.vendor);
        self.model = text(&seen.identity.model);
        self.serial = text(&seen.identity.serial);
        let firmware = seen.identity.firmware.iter().map(|one| format!("{}={}", one.component, one.version));
        self.firmware = defused(&firmware.collect::<Vec<_>>().join(" "));
        self.status = seen.status.as_str().to_owned();
        self.taken_at = seen.taken_at.to_string();
    }
}

/// One supply of a device, as it was last read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SupplyRow {
    /// Agent ID.
    pub agent: String,
    /// The agent's site.
    pub site: String,
    /// The device.
    pub device: String,
    /// Its maker and model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// What the supply is.
    pub kind: String,
    /// Its colour.
    pub colour: String,
    /// What the device calls it.
    pub supply: String,
    /// What is left: a number, or `some left`, `low`, `unknown`, `unlimited`.
    pub level: String,
    /// What there is when it is new: a number, `unknown` or `unlimited`.
    pub capacity: String,
    /// Hundredths that are left, where numbers say it.
    pub percent: Option<u8>,
    /// The unit of level and capacity.
    pub unit: String,
    /// How much goes in a day.
    pub per_day: String,
    /// When nothing is left at that rate; of one that is empty, when that was read.
    pub runs_out_at: String,
    /// The maker's number for ordering a new one.
    pub part_number: String,
    /// The serial number of the one that is in.
    pub supply_serial: String,
    /// When it was read, by the agent's clock.
    pub taken_at: String,
}

/// Where a device is, in rows of supplies and parts.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Agent ID.
    pub agent: &'a str,
    /// The agent's site.
    pub site: &'a str,
    /// The device.
    pub device: &'a str,
}

/// When a supply runs out: by its trend, or at once if it is empty.
#[must_use]
pub fn runs_out(supply: &Supply, trend: Option<Trend>, taken_at: UnixMillis) -> Option<UnixMillis> {
    match supply.level {
        Level::Amount(0) | Level::Low => Some(taken_at),
        Level::Amount(_) => trend.map(|trend| trend.runs_out_at),
        Level::SomeLeft | Level::Unknown | Level::Unlimited => None,
    }
}

/// The row of one supply.
#[must_use]
pub fn supply_row(place: Place<'_>, seen: &Observation, supply: &Supply, trend: Option<Trend>) -> SupplyRow {
    let text = |label: &Option<Label>| label.as_ref().map_or(String::new(), |l| defused(l.as_str()));
    let identity = &seen.identity;
    let model: Vec<&str> =
        [&identity.vendor, &identity.model].into_iter().flatten().map(Label::as_str).collect();
    SupplyRow {
        agent: place.agent.to_owned(),
        site: defused(place.site),
        device: place.device.to_owned(),
        model: defused(&model.join(" ")),
        serial: text(&identity.serial),
        kind: supply.kind.as_str().to_owned(),
        colour: text(&supply.colour),
        supply: defused(supply.text.as_str()),
        level: level_text(supply.level),
        capacity: match supply.capacity {
            Capacity::Amount(amount) => amount.to_string(),
            Capacity::Unknown => "unknown".to_owned(),
            Capacity::Unlimited => "unlimited".to_owned(),
        },
        percent: supply.percent(),
        unit: supply.unit.as_str().to_owned(),
        per_day: trend.map_or(String::new(), |trend| format!("{:.2}", trend.per_day)),
        runs_out_at: runs_out(supply, trend, seen.taken_at).map_or(String::new(), |at| at.to_string()),
        part_number: text(&supply.part_number),
        supply_serial: text(&supply.serial),
        taken_at: seen.taken_at.to_string(),
    }
}

/// A level in a cell.
#[must_use]
pub fn level_text(level: Level) -> String {
    match level {
        Level::Amount(amount) => return amount.to_string(),
        Level::SomeLeft => "some left",
        Level::Unknown => "unknown",
        Level::Unlimited => "unlimited",
        Level::Low => "low",
    }
    .to_owned()
}

/// One part of a device that wears out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartRow {
    /// Agent ID.
    pub agent: String,
    /// The agent's site.
    pub site: String,
    /// The device.
    pub device: String,
    /// What the device calls it.
    pub part: String,
    /// How much of it is used.
    pub used: Option<u64>,
    /// How long it lives.
    pub life: Option<u64>,
    /// Hundredths that are used.
    pub percent: Option<u64>,
    /// The unit of both.
    pub unit: String,
    /// When it was read, by the agent's clock.
    pub taken_at: String,
}

/// The row of one part.
#[must_use]
pub fn part_row(place: Place<'_>, seen: &Observation, part: &Part) -> PartRow {
    let percent = |used: u64| part.life.and_then(|life| used.saturating_mul(100).checked_div(life));
    PartRow {
        agent: place.agent.to_owned(),
        site: defused(place.site),
        device: place.device.to_owned(),
        part: defused(part.name.as_str()),
        used: part.used,
        life: part.life,
        percent: part.used.and_then(percent),
        unit: part.unit.as_str().to_owned(),
        taken_at: seen.taken_at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::device::{DeviceClass, DeviceName, Measure, SupplyKind, Unit};
    use shared::message::ReadingMark;
    use shared::reading::AnomalyKind;
    use shared::{AgentId, Digest};

    fn label(text: &str) -> Label {
        Label::lossy(text)
    }

    fn reading() -> Reading {
        let mut seen = Observation::of(DeviceClass::Mfp, UnixMillis(0));
        for (name, colour) in [("pages", "mono"), ("pages", "full"), ("=1+1", "x")] {
            seen.counters.push(Counter {
                name: label(name),
                labels: vec![(label("colour"), label(colour))],
                value: 7,
                unit: Unit::Impressions,
                measure: Measure::Cumulative,
            });
        }
        let anomaly = |kind, counter: &str, before: &str| Anomaly {
            kind,
            counter: label(counter),
            before: label(before),
        };
        Reading {
            agent: AgentId::parse("A1").unwrap(),
            mark: ReadingMark { chain: 7, index: 5 },
            previous: Digest([1; 32]),
            device: DeviceName::parse("mfp").unwrap(),
            seen,
            anomalies: vec![
                anomaly(AnomalyKind::Backwards, "pages colour=full", "9"),
                anomaly(AnomalyKind::SerialTwice, "", "mfp-2"),
            ],
        }
    }

    #[test]
    fn each_counter_shows_its_own_anomalies_and_those_of_its_device() {
        let reading = reading();
        let rows = counter_rows(&reading, Link::Gap(2), "t", "r");
        assert_eq!(rows.len(), 3);
        let common = "gap: 2 readings are missing before; serial-twice (before: mfp-2)";
        assert_eq!(rows[0].anomaly, common);
        assert_eq!(rows[1].anomaly, format!("{common}; backwards (before: 9)"));
        assert_eq!(rows[2].counter, "'=1+1", "a counter's name comes from a device");
    }

    #[test]
    fn a_reading_without_counters_is_a_row_all_the_same() {
        let mut reading = reading();
        reading.seen.counters.clear();
        reading.anomalies.clear();
        let rows = counter_rows(&reading, Link::Follows, "t", "r");
        assert_eq!((rows.len(), rows[0].value, rows[0].anomaly.as_str()), (1, None, ""));
    }

    #[test]
    fn what_is_no_number_stays_a_word() {
        let seen = Observation::of(DeviceClass::Mfp, UnixMillis(5_000));
        let supply = |level| Supply {
            key: label("1"),
            kind: SupplyKind::Toner,
            colour: Some(label("black")),
            text: label("@toner"),
            level,
            capacity: Capacity::Unknown,
            unit: Unit::Percent,
            part_number: None,
            serial: None,
        };
        let place = Place { agent: "A1", site: "-Tokyo", device: "mfp" };
        let row = supply_row(place, &seen, &supply(Level::SomeLeft), None);
        assert_eq!((row.level.as_str(), row.capacity.as_str(), row.percent), ("some left", "unknown", None));
        assert_eq!(
            (row.supply.as_str(), row.site.as_str(), row.runs_out_at.as_str()),
            ("'@toner", "'-Tokyo", "")
        );
        for empty in [Level::Amount(0), Level::Low] {
            let row = supply_row(place, &seen, &supply(empty), None);
            assert_eq!(row.runs_out_at, "1970-01-01T00:00:05Z");
        }
    }
}
