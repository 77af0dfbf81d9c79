//! Rows of CSV about devices: faults, devices, supplies, parts. Knows no file format: the shell writes them.
//! Special values stay words; what comes from a device is made harmless in a spreadsheet.

use serde::Serialize;
use shared::device::{Capacity, Level, Observation, Part, Supply};
use shared::{Label, UnixMillis};

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
        let text = |label: &Option<Label>| label.as_ref().map_or(String::new(), ToString::to_string);
        self.class = seen.class.as_str().to_owned();
        self.vendor = text(&seen.identity.vendor);
        self.model = text(&seen.identity.model);
        self.serial = text(&seen.identity.serial);
        let firmware = seen.identity.firmware.iter().map(|one| format!("{}={}", one.component, one.version));
        self.firmware = firmware.collect::<Vec<_>>().join(" ");
        self.status = seen.status.as_str().to_owned();
        self.taken_at = seen.taken_at.to_string();
    }

    /// Made harmless for a spreadsheet.
    #[must_use]
    pub fn for_csv(mut self) -> Self {
        let texts = [&mut self.site, &mut self.vendor, &mut self.model, &mut self.serial, &mut self.firmware];
        for text in texts {
            *text = defused(text);
        }
        self
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
    use shared::device::{DeviceClass, SupplyKind, Unit};

    fn label(text: &str) -> Label {
        Label::lossy(text)
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
