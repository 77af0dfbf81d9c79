//! Power supplies with a battery (UPS-MIB, RFC 1628).

use shared::device::{
    Capacity, Counter, Fault, FaultClass, FaultKey, FaultKind, Level, Measure, Severity, Status, Supply,
    SupplyKind, Unit,
};

use super::{View, label, mib};

/// What it does, by where its output comes from.
pub(super) fn status(view: &View<'_>) -> Status {
    let battery = view.rows.number(mib::UPS_BATTERY_STATUS, &[0]);
    match view.rows.number(mib::UPS_OUTPUT_SOURCE, &[0]) {
        // none(2).
        Some(2) => Status::Down,
        // bypass(4), battery(5), booster(6), reducer(7); batteryLow(3), batteryDepleted(4).
        Some(4..=7) => Status::Warning,
        _ if matches!(battery, Some(3 | 4)) => Status::Warning,
        Some(3) => Status::Idle,
        _ => Status::Unknown,
    }
}

/// Gauges: name, column, unit, factor to that unit.
const GAUGES: [(&str, &[u32], Unit, u64); 13] = [
    ("minutes-left", mib::UPS_MINUTES_LEFT, Unit::Minutes, 1),
    ("on-battery", mib::UPS_SECONDS_ON_BATTERY, Unit::Seconds, 1),
    ("battery-voltage", mib::UPS_BATTERY_VOLTAGE, Unit::TenthsOfVolts, 1),
    ("battery-current", mib::UPS_BATTERY_CURRENT, Unit::TenthsOfAmperes, 1),
    ("battery-temperature", mib::UPS_BATTERY_TEMPERATURE, Unit::Celsius, 1),
    ("input-frequency", mib::UPS_INPUT_FREQUENCY, Unit::TenthsOfHertz, 1),
    // The MIB has whole volts here.
    ("input-voltage", mib::UPS_INPUT_VOLTAGE, Unit::TenthsOfVolts, 10),
    ("output-frequency", mib::UPS_OUTPUT_FREQUENCY, Unit::TenthsOfHertz, 1),
    ("output-voltage", mib::UPS_OUTPUT_VOLTAGE, Unit::TenthsOfVolts, 10),
    ("output-current", mib::UPS_OUTPUT_CURRENT, Unit::TenthsOfAmperes, 1),
    ("output-power", mib::UPS_OUTPUT_POWER, Unit::Watts, 1),
    ("output-load", mib::UPS_OUTPUT_LOAD, Unit::Percent, 1),
    ("alarms", mib::UPS_ALARMS, Unit::Items, 1),
];

/// What it measures; with several lines, each has its own.
pub(super) fn counters(view: &View<'_>) -> Vec<Counter> {
    let mut all = Vec::new();
    for (name, column, unit, factor) in GAUGES {
        for (index, value) in view.rows.column(column) {
            let Some(value) = value.count() else { continue };
            let line = index.first().filter(|line| **line > 1);
            let labels = line.map(|line| (label("line"), label(&line.to_string())));
            all.push(Counter {
                name: label(name),
                labels: labels.into_iter().collect(),
                value: value.saturating_mul(factor),
                unit,
                measure: Measure::Gauge,
            });
        }
    }
    all
}

/// The battery.
pub(super) fn supplies(view: &View<'_>) -> Vec<Supply> {
    let charge = view.rows.number(mib::UPS_CHARGE, &[0]).and_then(|charge| u32::try_from(charge).ok());
    let battery = |charge| Supply {
        key: label("battery"),
        kind: SupplyKind::Battery,
        colour: None,
        text: label("Battery"),
        level: Level::Amount(charge),
        capacity: Capacity::Amount(100),
        unit: Unit::Percent,
        part_number: None,
        serial: None,
    };
    charge.map(battery).into_iter().collect()
}

/// `upsWellKnownAlarms`: the last number of each, its name, kind and class. What was asked for (a test, a switch-off) is no
/// fault.
const ALARMS: [(u32, &str, FaultKind, FaultClass); 21] = [
    (1, "batteryBad", FaultKind::Error, FaultClass::B),
    (2, "onBattery", FaultKind::Alarm, FaultClass::C),
    (3, "lowBattery", FaultKind::Supply, FaultClass::B),
    (4, "depletedBattery", FaultKind::Supply, FaultClass::B),
    (5, "tempBad", FaultKind::Alarm, FaultClass::B),
    (6, "inputBad", FaultKind::Alarm, FaultClass::C),
    (7, "outputBad", FaultKind::Error, FaultClass::A),
    (8, "outputOverload", FaultKind::Alarm, FaultClass::B),
    (9, "onBypass", FaultKind::Alarm, FaultClass::B),
    (10, "bypassBad", FaultKind::Error, FaultClass::B),
    (13, "chargerFailed", FaultKind::Error, FaultClass::A),
    (14, "upsOutputOff", FaultKind::Offline, FaultClass::B),
    (15, "upsSystemOff", FaultKind::Offline, FaultClass::B),
    (16, "fanFailure", FaultKind::Error, FaultClass::B),
    (17, "fuseFailure", FaultKind::Error, FaultClass::A),
    (18, "generalFault", FaultKind::Error, FaultClass::A),
    (19, "diagnosticTestFailed", FaultKind::Error, FaultClass::B),
    (20, "communicationsLost", FaultKind::Error, FaultClass::B),
    (21, "awaitingPower", FaultKind::Offline, FaultClass::B),
    (22, "shutdownPending", FaultKind::Alarm, FaultClass::B),
    (23, "shutdownImminent", FaultKind::Alarm, FaultClass::B),
];

/// Its alarms, and that it runs on battery where no alarm says so.
pub(super) fn faults(view: &View<'_>) -> Vec<Fault> {
    let mut all: Vec<Fault> = Vec::new();
    for (_, value) in view.rows.column(mib::UPS_ALARM_DESCR) {
        let Some(name) = value.name() else { continue };
        let known = name.arcs().strip_prefix(mib::UPS_WELL_KNOWN_ALARMS).and_then(|rest| rest.first());
        let fault = match known.map(|known| (known, ALARMS.iter().find(|(number, ..)| number == known))) {
            Some((_, Some((number, text, kind, class)))) => fault(&number.to_string(), text, *kind, *class),
            // It was asked for.
            Some((11 | 12 | 24, None)) => continue,
            _ => fault(&name.to_string(), "alarm of the maker's own", FaultKind::Alarm, FaultClass::C),
        };
        if !all.iter().any(|other| other.key == fault.key) {
            all.push(fault);
        }
    }
    let is_on_battery = view.rows.number(mib::UPS_OUTPUT_SOURCE, &[0]) == Some(5);
    if is_on_battery && !all.iter().any(|fault| fault.text.as_str() == "onBattery") {
        all.push(fault("2", "onBattery", FaultKind::Alarm, FaultClass::C));
    }
    all
}

fn fault(code: &str, text: &str, kind: FaultKind, class: FaultClass) -> Fault {
    let severity = if class == FaultClass::C { Severity::Warning } else { Severity::Critical };
    Fault {
        key: FaultKey(label(&format!("ups:{code}"))),
        code: label(&format!("ups:{code}")),
        kind,
        class,
        severity,
        location: label(""),
        text: label(text),
        never_cleared: false,
    }
}
