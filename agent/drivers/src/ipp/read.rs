//! A printer's attributes become an observation. Pure: no IO, no clock, nothing remembered.

mod faults;
mod reasons;
mod supplies;

use std::collections::BTreeMap;

use shared::device::{Counter, DeviceClass, Firmware, Identity, Measure, Observation, Unit, Uptime};
use shared::id::Label;
use shared::time::UnixMillis;

use super::wire::{Attributes, Value};
use crate::Depth;
use crate::snmp::parts;

/// Names of attributes.
mod texts {
    pub(super) const STATE: &str = "printer-state";
    pub(super) const STATE_REASONS: &str = "printer-state-reasons";
    pub(super) const STATE_MESSAGE: &str = "printer-state-message";
    pub(super) const ALERT: &str = "printer-alert";
    pub(super) const ALERT_DESCRIPTION: &str = "printer-alert-description";
    pub(super) const UP_TIME: &str = "printer-up-time";
    pub(super) const MAKE_AND_MODEL: &str = "printer-make-and-model";
    pub(super) const DEVICE_ID: &str = "printer-device-id";
    pub(super) const SERIAL: &str = "printer-serial-number";
    pub(super) const UUID: &str = "printer-uuid";
    pub(super) const NAME: &str = "printer-name";
    pub(super) const DNS_SD_NAME: &str = "printer-dns-sd-name";
    pub(super) const INFO: &str = "printer-info";
    pub(super) const FEATURES: &str = "ipp-features-supported";
    pub(super) const FIRMWARE_NAME: &str = "printer-firmware-name";
    pub(super) const FIRMWARE_VERSION: &str = "printer-firmware-string-version";
    pub(super) const MARKER_NAMES: &str = "marker-names";
    pub(super) const MARKER_LEVELS: &str = "marker-levels";
    pub(super) const MARKER_COLORS: &str = "marker-colors";
    pub(super) const MARKER_TYPES: &str = "marker-types";
    pub(super) const SUPPLY: &str = "printer-supply";
    pub(super) const SUPPLY_DESCRIPTION: &str = "printer-supply-description";
    pub(super) const INPUT_TRAY: &str = "printer-input-tray";
    pub(super) const IMPRESSIONS_COL: &str = "printer-impressions-completed-col";
}

/// Who it is, what it does, and what is wrong with it.
const FAULTS: [&str; 16] = [
    texts::STATE,
    texts::STATE_REASONS,
    texts::STATE_MESSAGE,
    texts::ALERT,
    texts::ALERT_DESCRIPTION,
    texts::UP_TIME,
    texts::MAKE_AND_MODEL,
    texts::DEVICE_ID,
    texts::SERIAL,
    texts::UUID,
    texts::NAME,
    texts::DNS_SD_NAME,
    texts::INFO,
    texts::FEATURES,
    texts::FIRMWARE_NAME,
    texts::FIRMWARE_VERSION,
];

const REST: [&str; 8] = [
    texts::MARKER_NAMES,
    texts::MARKER_LEVELS,
    texts::MARKER_COLORS,
    texts::MARKER_TYPES,
    texts::SUPPLY,
    texts::SUPPLY_DESCRIPTION,
    texts::INPUT_TRAY,
    texts::IMPRESSIONS_COL,
];

/// A counter: attribute or member, name, labels, unit.
type Rule = (&'static str, &'static str, &'static [(&'static str, &'static str)], Unit);

/// Counters (PWG 5100.22). None is the sum of others: what is one-sided and what
/// two-sided is left as it is said.
const COUNTERS: [Rule; 8] = [
    ("printer-impressions-completed", "pages", &[], Unit::Impressions),
    ("printer-media-sheets-completed", "sheets", &[], Unit::Sheets),
    ("printer-impressions-completed-col/monochrome", "pages", &[("colour", "mono")], Unit::Impressions),
    (
        "printer-impressions-completed-col/monochrome-two-sided",
        "pages",
        &[("colour", "mono"), ("sides", "2")],
        Unit::Impressions,
    ),
    ("printer-impressions-completed-col/full-color", "pages", &[("colour", "full")], Unit::Impressions),
    (
        "printer-impressions-completed-col/full-color-two-sided",
        "pages",
        &[("colour", "full"), ("sides", "2")],
        Unit::Impressions,
    ),
    ("printer-impressions-completed-col/highlight-color", "pages", &[("colour", "two")], Unit::Impressions),
    (
        "printer-impressions-completed-col/highlight-color-two-sided",
        "pages",
        &[("colour", "two"), ("sides", "2")],
        Unit::Impressions,
    ),
];

/// What is asked for.
pub(super) fn wanted(depth: Depth) -> Vec<&'static str> {
    let mut all = FAULTS.to_vec();
    if depth == Depth::Full {
        all.extend(REST);
        all.extend(COUNTERS.iter().map(|(name, ..)| *name));
    }
    all
}

/// What the attributes say, in our words.
///
/// # Errors
/// Without state and reasons it would be called healthy, whatever it is.
pub(super) fn observation(
    attributes: &Attributes,
    depth: Depth,
    taken_at: UnixMillis,
) -> Result<Observation, String> {
    for needed in [texts::STATE, texts::STATE_REASONS] {
        if attributes.all(needed).is_empty() {
            return Err(format!("it does not say its {needed}"));
        }
    }
    let mut seen = Observation::of(class(attributes), taken_at);
    seen.identity = identity(attributes);
    // Some count from the start of the printer, some from that of their IPP.
    let up = attributes.number(texts::UP_TIME).and_then(|seconds| u64::try_from(seconds).ok());
    seen.uptime = up.map(|s| Uptime { up_ms: s.saturating_mul(1_000), wraps_after_ms: None, of_host: false });
    seen.faults = faults::faults(attributes);
    seen.status = faults::status(attributes, &seen.faults);
    if depth == Depth::Full {
        seen.counters = counters(attributes);
        seen.supplies = supplies::supplies(attributes);
        seen.parts = parts(&seen.supplies);
    }
    seen.bound();
    Ok(seen)
}

/// Few say that they scan or fax; for the others there is `class` in `devices.toml`.
fn class(attributes: &Attributes) -> DeviceClass {
    let more = |feature: &str| feature.contains("scan") || feature.contains("faxout");
    if attributes.texts(texts::FEATURES).any(more) { DeviceClass::Mfp } else { DeviceClass::Printer }
}

fn identity(attributes: &Attributes) -> Identity {
    let label = |text: &str| Some(Label::lossy(text)).filter(|label| !label.is_empty());
    let device_id = DeviceId::read(attributes.text(texts::DEVICE_ID).unwrap_or_default());
    let vendor = device_id.field(&["MFG", "MANUFACTURER"]);
    let whole = attributes.text(texts::MAKE_AND_MODEL);
    let model = device_id.field(&["MDL", "MODEL"]).or(whole);
    // "HP HP LaserJet" says it twice.
    let short =
        vendor.and_then(|vendor| model?.strip_prefix(vendor)).map(str::trim).filter(|rest| !rest.is_empty());
    let serial = attributes
        .text(texts::SERIAL)
        .or_else(|| device_id.field(&["SN", "SERN", "SERIALNUMBER"]))
        // It stays with the printer as well, and shows that another one stands there now.
        .or_else(|| attributes.text(texts::UUID));
    Identity {
        vendor: vendor.and_then(label),
        model: short.or(model).and_then(label),
        serial: serial.and_then(label),
        host: attributes.text(texts::NAME).or_else(|| attributes.text(texts::DNS_SD_NAME)).and_then(label),
        description: attributes.text(texts::INFO).or(whole).and_then(label),
        firmware: firmware(attributes),
    }
}

fn firmware(attributes: &Attributes) -> Vec<Firmware> {
    let names = attributes.all(texts::FIRMWARE_NAME);
    let name =
        |at: usize| names.get(at).and_then(Value::text).filter(|name| !name.is_empty()).unwrap_or("main");
    let firmware = |(at, version): (usize, &str)| Firmware {
        component: Label::lossy(name(at)),
        version: Label::lossy(version),
    };
    let versions = attributes.texts(texts::FIRMWARE_VERSION).enumerate();
    versions.filter(|(_, version)| !version.is_empty()).map(firmware).collect()
}

fn counters(attributes: &Attributes) -> Vec<Counter> {
    let counter = |(name, ours, labels, unit): &Rule| {
        let value = u64::try_from(attributes.number(name)?).ok()?;
        let label = |(key, value): &(&str, &str)| (Label::lossy(key), Label::lossy(value));
        Some(Counter {
            name: Label::lossy(ours),
            labels: labels.iter().map(label).collect(),
            value,
            unit: *unit,
            measure: Measure::Cumulative,
        })
    };
    COUNTERS.iter().filter_map(counter).collect()
}

/// `type=toner;level=70;`, the form of alerts, supplies and trays. Keys in lower case.
fn pairs(text: &str) -> BTreeMap<String, &str> {
    let pair =
        |field| str::split_once(field, '=').map(|(key, value)| (key.trim().to_lowercase(), value.trim()));
    text.split(';').filter_map(pair).collect()
}

/// What IEEE 1284 calls a device ID: `MFG:HP;MDL:LaserJet;SN:X1;`.
struct DeviceId<'a>(Vec<(String, &'a str)>);

impl<'a> DeviceId<'a> {
    fn read(text: &'a str) -> Self {
        let pair = |field: &'a str| {
            let (key, value) = field.split_once(':')?;
            Some((key.trim().to_uppercase(), value.trim()))
        };
        Self(text.split(';').filter_map(pair).collect())
    }

    fn field(&self, keys: &[&str]) -> Option<&'a str> {
        let found = self.0.iter().find(|(key, value)| keys.contains(&key.as_str()) && !value.is_empty());
        found.map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests;
