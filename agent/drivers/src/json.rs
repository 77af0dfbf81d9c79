//! An observation as JSON: what `mailfleet-agent devices poll --json` prints, and what a program of the driver `exec`
//! has to print. Keys are those of the CSV columns; numbers that a device does not know are words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::device::{
    Capacity, Counter, DeviceClass, DeviceName, Fault, FaultClass, FaultKey, FaultKind, FaultsRead, Firmware,
    Identity, Level, Measure, Observation, Part, Severity, Status, Supply, SupplyKind, Unit, Uptime,
};
use shared::{Label, UnixMillis};

/// One device's observation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Name of the device at its agent; not needed in what a program prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    class: String,
    #[serde(default)]
    identity: IdentityForm,
    #[serde(default = "unknown")]
    status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    up_s: Option<u64>,
    #[serde(default)]
    counters: Vec<CounterForm>,
    #[serde(default)]
    supplies: Vec<SupplyForm>,
    #[serde(default)]
    parts: Vec<PartForm>,
    #[serde(default)]
    faults: Vec<FaultForm>,
    /// Whether `faults` are all: absent, they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    faults_read: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
}

fn unknown() -> String {
    Status::Unknown.as_str().to_owned()
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityForm {
    vendor: Option<String>,
    model: Option<String>,
    serial: Option<String>,
    host: Option<String>,
    description: Option<String>,
    #[serde(default)]
    firmware: Vec<FirmwareForm>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirmwareForm {
    component: String,
    version: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CounterForm {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    value: u64,
    unit: String,
    /// True if the value may fall.
    #[serde(default)]
    gauge: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(u32),
    Word(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SupplyForm {
    key: String,
    kind: String,
    #[serde(default)]
    colour: Option<String>,
    text: String,
    level: Amount,
    capacity: Amount,
    /// Written only: it follows from the others.
    #[serde(default)]
    percent: Option<u8>,
    unit: String,
    #[serde(default)]
    part_number: Option<String>,
    #[serde(default)]
    serial: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartForm {
    key: String,
    name: String,
    used: Option<u64>,
    life: Option<u64>,
    unit: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    code: String,
    kind: String,
    fault_class: String,
    severity: String,
    #[serde(default)]
    location: String,
    text: String,
}

impl Document {
    /// The form of an observation.
    #[must_use]
    pub fn of(seen: &Observation) -> Self {
        let text = |label: &Option<Label>| label.as_ref().map(Label::to_string);
        let identity = &seen.identity;
        Self {
            device: None,
            class: seen.class.to_string(),
            identity: IdentityForm {
                vendor: text(&identity.vendor),
                model: text(&identity.model),
                serial: text(&identity.serial),
                host: text(&identity.host),
                description: text(&identity.description),
                firmware: identity.firmware.iter().map(FirmwareForm::of).collect(),
            },
            status: seen.status.to_string(),
            taken_at: Some(seen.taken_at.to_string()),
            up_s: seen.uptime.and_then(|uptime| uptime.up_ms.checked_div(1_000)),
            counters: seen.counters.iter().map(CounterForm::of).collect(),
            supplies: seen.supplies.iter().map(SupplyForm::of).collect(),
            parts: seen.parts.iter().map(PartForm::of).collect(),
            faults: seen.faults.iter().map(FaultForm::of).collect(),
            faults_read: (seen.faults_read != FaultsRead::Known).then(|| seen.faults_read.to_string()),
            left_out: seen.left_out.iter().map(Label::to_string).collect(),
        }
    }

    /// With the device's name.
    #[must_use]
    pub fn named(self, name: &DeviceName) -> Self {
        Self { device: Some(name.to_string()), ..self }
    }

    /// The observation that a program has printed. Texts are cut to what a message may hold.
    ///
    /// # Errors
    /// A word that is none of ours: which, and where.
    pub fn read(self, now: UnixMillis) -> Result<Observation, String> {
        let class = word("class", &self.class, DeviceClass::parse)?;
        let taken_at = match self.taken_at {
            Some(text) => UnixMillis::parse(&text).map_err(|err| format!("taken_at: {err}"))?,
            None => now,
        };
        let mut seen = Observation::of(class, taken_at);
        seen.status = word("status", &self.status, Status::parse)?;
        seen.uptime =
            self.up_s.map(|s| Uptime { up_ms: s.saturating_mul(1_000), wraps_after_ms: None, of_host: true });
        let label = |text: Option<String>| text.map(|text| Label::lossy(&text));
        seen.identity = Identity {
            vendor: label(self.identity.vendor),
            model: label(self.identity.model),
            serial: label(self.identity.serial),
            host: label(self.identity.host),
            description: label(self.identity.description),
            firmware: self.identity.firmware.into_iter().map(FirmwareForm::read).collect(),
        };
        seen.counters = self.counters.into_iter().map(CounterForm::read).collect::<Result<_, _>>()?;
        seen.supplies = self.supplies.into_iter().map(SupplyForm::read).collect::<Result<_, _>>()?;
        seen.parts = self.parts.into_iter().map(PartForm::read).collect::<Result<_, _>>()?;
        seen.faults = self.faults.into_iter().map(FaultForm::read).collect::<Result<_, _>>()?;
        if let Some(text) = self.faults_read {
            seen.faults_read = word("faults_read", &text, FaultsRead::parse)?;
        }
        seen.left_out = self.left_out.iter().map(|text| Label::lossy(text)).collect();
        seen.bound();
        Ok(seen)
    }
}

fn word<T>(what: &str, text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
    parse(text).ok_or_else(|| format!("{what}: \"{}\" is no word for it", Label::lossy(text)))
}

impl FirmwareForm {
    fn of(firmware: &Firmware) -> Self {
        Self { component: firmware.component.to_string(), version: firmware.version.to_string() }
    }

    fn read(self) -> Firmware {
        Firmware { component: Label::lossy(&self.component), version: Label::lossy(&self.version) }
    }
}

impl CounterForm {
    fn of(counter: &Counter) -> Self {
        let labels = counter.labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        Self {
            name: counter.name.to_string(),
            labels: labels.collect(),
            value: counter.value,
            unit: counter.unit.to_string(),
            gauge: counter.measure == Measure::Gauge,
        }
    }

    fn read(self) -> Result<Counter, String> {
        let labels = self.labels.iter().map(|(key, value)| (Label::lossy(key), Label::lossy(value)));
        Ok(Counter {
            name: Label::lossy(&self.name),
            labels: labels.collect(),
            value: self.value,
            unit: word("unit of a counter", &self.unit, Unit::parse)?,
            measure: if self.gauge { Measure::Gauge } else { Measure::Cumulative },
        })
    }
}

impl SupplyForm {
    fn of(supply: &Supply) -> Self {
        let text = |label: &Option<Label>| label.as_ref().map(Label::to_string);
        Self {
            key: supply.key.to_string(),
            kind: supply.kind.to_string(),
            colour: text(&supply.colour),
            text: supply.text.to_string(),
            level: match supply.level {
                Level::Amount(level) => Amount::Number(level),
                Level::SomeLeft | Level::Unknown | Level::Unlimited | Level::Low => {
                    Amount::Word(supply.level.to_string())
                }
            },
            capacity: match supply.capacity {
                Capacity::Amount(capacity) => Amount::Number(capacity),
                Capacity::Unknown | Capacity::Unlimited => Amount::Word(supply.capacity.to_string()),
            },
            percent: supply.percent(),
            unit: supply.unit.to_string(),
            part_number: text(&supply.part_number),
            serial: text(&supply.serial),
        }
    }

    fn read(self) -> Result<Supply, String> {
        let level = match self.level {
            Amount::Number(level) => Level::Amount(level),
            Amount::Word(text) => word("level of a supply", &text, Level::parse_word)?,
        };
        let capacity = match self.capacity {
            Amount::Number(capacity) => Capacity::Amount(capacity),
            Amount::Word(text) => word("capacity of a supply", &text, Capacity::parse_word)?,
        };
        Ok(Supply {
            key: Label::lossy(&self.key),
            kind: word("kind of a supply", &self.kind, SupplyKind::parse)?,
            colour: self.colour.map(|text| Label::lossy(&text)),
            text: Label::lossy(&self.text),
            level,
            capacity,
            unit: word("unit of a supply", &self.unit, Unit::parse)?,
            part_number: self.part_number.map(|text| Label::lossy(&text)),
            serial: self.serial.map(|text| Label::lossy(&text)),
        })
    }
}

impl PartForm {
    fn of(part: &Part) -> Self {
        Self {
            key: part.key.to_string(),
            name: part.name.to_string(),
            used: part.used,
            life: part.life,
            unit: part.unit.to_string(),
        }
    }

    fn read(self) -> Result<Part, String> {
        Ok(Part {
            key: Label::lossy(&self.key),
            name: Label::lossy(&self.name),
            used: self.used,
            life: self.life,
            unit: word("unit of a part", &self.unit, Unit::parse)?,
        })
    }
}

impl FaultForm {
    fn of(fault: &Fault) -> Self {
        Self {
            key: Some(fault.key.0.to_string()),
            code: fault.code.to_string(),
            kind: fault.kind.to_string(),
            fault_class: fault.class.to_string(),
            severity: fault.severity.to_string(),
            location: fault.location.to_string(),
            text: fault.text.to_string(),
        }
    }

    /// A program that names no key has at most one fault of each code.
    fn read(self) -> Result<Fault, String> {
        Ok(Fault {
            key: FaultKey(Label::lossy(self.key.as_ref().unwrap_or(&self.code))),
            code: Label::lossy(&self.code),
            kind: word("kind of a fault", &self.kind, FaultKind::parse)?,
            class: word("fault_class", &self.fault_class, FaultClass::parse)?,
            severity: word("severity of a fault", &self.severity, Severity::parse)?,
            location: Label::lossy(&self.location),
            text: Label::lossy(&self.text),
            never_cleared: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = r#"{
        "class": "other", "status": "idle", "up_s": 60,
        "identity": {"vendor": "ACME", "model": "Scale 3", "serial": "7", "host": null, "description": null},
        "counters": [{"name": "weighings", "labels": {"range": "fine"}, "value": 12, "unit": "items"}],
        "supplies": [{"key": "roll", "kind": "media", "text": "labels", "level": "some-left", "capacity": 500, "unit": "items"}],
        "faults": [{"code": "E7", "kind": "error", "fault_class": "B", "severity": "warning", "text": "not level"}]
    }"#;

    #[test]
    fn what_a_program_prints_is_an_observation_and_prints_the_same_again() {
        let document: Document = serde_json::from_str(PRINTED).unwrap();
        let seen = document.read(UnixMillis(5_000)).unwrap();
        assert_eq!(seen.supplies[0].level, Level::SomeLeft);
        assert_eq!(seen.faults[0].key.0.as_str(), "E7");
        assert_eq!(seen.taken_at, UnixMillis(5_000));
        let again = serde_json::to_string(&Document::of(&seen)).unwrap();
        let document: Document = serde_json::from_str(&again).unwrap();
        assert_eq!(document.read(UnixMillis(0)).unwrap(), seen);
    }

    #[test]
    fn a_program_can_say_that_it_could_not_read_what_is_wrong() {
        let read = |text: &str| serde_json::from_str::<Document>(text).unwrap().read(UnixMillis(0));
        assert_eq!(read(PRINTED).unwrap().faults_read, FaultsRead::Known);
        let half = r#"{"class": "other", "faults_read": "unreadable"}"#;
        let seen = read(half).unwrap();
        assert_eq!((seen.faults_read, seen.faults.len()), (FaultsRead::Unreadable, 0));
        assert!(
            serde_json::to_string(&Document::of(&seen)).unwrap().contains(r#""faults_read":"unreadable""#)
        );
        assert!(read(r#"{"class": "other", "faults_read": "no"}"#).is_err());
    }

    #[test]
    fn a_word_that_is_none_of_ours_is_named() {
        let document: Document = serde_json::from_str(&PRINTED.replace("some-left", "plenty")).unwrap();
        assert_eq!(
            document.read(UnixMillis(0)).unwrap_err(),
            "level of a supply: \"plenty\" is no word for it"
        );
        assert!(serde_json::from_str::<Document>(&PRINTED.replace("\"status\"", "\"state\"")).is_err());
    }
}
