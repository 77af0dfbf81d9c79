//! What a printer's marker has counted (Printer-MIB). The makers' own counters are in `vendor`.

use shared::device::{Counter, Measure, Unit};

use super::{View, label, mib};

/// Its counters.
pub(super) fn counters(view: &View<'_>) -> Vec<Counter> {
    let rows = view.rows;
    let mut all = Vec::new();
    for (index, value) in rows.column(mib::PRT_MARKER_LIFE) {
        let Some(value) = value.count() else { continue };
        let unit = unit(rows.number(mib::PRT_MARKER_UNIT, index));
        all.push(counter("pages", "sheets", index, value, unit, Measure::Cumulative));
    }
    for (index, value) in rows.column(mib::PRT_MARKER_POWER_ON) {
        let Some(value) = value.count() else { continue };
        let unit = unit(rows.number(mib::PRT_MARKER_UNIT, index));
        // It begins at zero when the device is switched on.
        all.push(counter(
            "pages-since-power-on",
            "sheets-since-power-on",
            index,
            value,
            unit,
            Measure::Gauge,
        ));
    }
    all
}

fn counter(pages: &str, sheets: &str, index: &[u32], value: u64, unit: Unit, measure: Measure) -> Counter {
    let name = if unit == Unit::Sheets { sheets } else { pages };
    // A second marker (a stamper, a second engine) has counters of its own.
    let marker = index.last().filter(|marker| **marker != 1);
    let labels = marker.map(|marker| (label("marker"), label(&marker.to_string())));
    Counter { name: label(name), labels: labels.into_iter().collect(), value, unit, measure }
}

/// `PrtMarkerCounterUnitTC`: some makers count sheets, with two impressions each.
fn unit(code: Option<i64>) -> Unit {
    match code {
        Some(3) => Unit::TenThousandthsOfInches,
        Some(4) => Unit::Micrometres,
        Some(7) => Unit::Impressions,
        Some(8) => Unit::Sheets,
        Some(11) => Unit::Hours,
        Some(16) => Unit::Feet,
        Some(17) => Unit::Metres,
        _ => Unit::Unknown,
    }
}
