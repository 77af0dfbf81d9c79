//! Computers by SNMP: load, memory, disks, processes, programs (HOST-RESOURCES-MIB; UCD-SNMP where that has nothing).

use shared::device::{Counter, Measure, Unit};

use super::{View, label, mib};

/// Its gauges, and the processors' ticks where nothing better is there.
pub(super) fn counters(view: &View<'_>) -> Vec<Counter> {
    let mut all = processors(view);
    all.extend(storages(view));
    if !all.iter().any(|counter| counter.name.as_str() == "memory-used") {
        all.extend(memory_by_ucd(view));
    }
    let rows = view.rows;
    let count = |column| u64::try_from(rows.column(column).count()).ok().filter(|count| *count > 0);
    let scalar = |column| rows.at(column, &[0]).and_then(|value| value.count());
    let processes = scalar(mib::HR_SYSTEM_PROCESSES).or_else(|| count(mib::HR_RUN_STATUS));
    let items = [
        ("processes", processes),
        ("users", scalar(mib::HR_SYSTEM_USERS)),
        ("programs-installed", count(mib::HR_INSTALLED_NAME)),
    ];
    for (name, value) in items {
        all.extend(value.map(|value| gauge(name, None, value, Unit::Items)));
    }
    all
}

fn gauge(name: &str, of: Option<(&str, &str)>, value: u64, unit: Unit) -> Counter {
    let labels = of.map(|(key, value)| (label(key), label(value))).into_iter().collect();
    Counter { name: label(name), labels, value, unit, measure: Measure::Gauge }
}

/// The mean of all processors; else what UCD-SNMP says is idle; else its ticks, of which two readings make a load.
fn processors(view: &View<'_>) -> Vec<Counter> {
    let rows = view.rows;
    let loads: Vec<u64> = rows.column(mib::HR_PROCESSOR_LOAD).filter_map(|(_, v)| v.count()).collect();
    let number = u64::try_from(loads.len()).unwrap_or(u64::MAX);
    let sum = loads.iter().fold(0_u64, |sum, load| sum.saturating_add((*load).min(100)));
    if let Some(mean) = sum.checked_div(number) {
        return vec![
            gauge("cpu-busy", None, mean, Unit::Percent),
            gauge("processors", None, number, Unit::Items),
        ];
    }
    if let Some(idle) = rows.at(mib::UCD_CPU_IDLE, &[0]).and_then(|value| value.count()) {
        return vec![gauge("cpu-busy", None, 100_u64.saturating_sub(idle), Unit::Percent)];
    }
    let ticks = |(state, column): (&str, &[u32])| {
        let value = rows.at(column, &[0])?.count()?;
        let counter = gauge("cpu-ticks", Some(("state", state)), value, Unit::Items);
        Some(Counter { measure: Measure::Cumulative, ..counter })
    };
    mib::UCD_CPU_TICKS.into_iter().filter_map(ticks).collect()
}

/// Memory and disks, in bytes.
fn storages(view: &View<'_>) -> Vec<Counter> {
    let rows = view.rows;
    let mut all = Vec::new();
    for (index, kind) in rows.column(mib::HR_STORAGE_TYPE) {
        let Some(kind) = kind.name().map(super::super::oid::Oid::arcs) else { continue };
        let name = view.text(mib::HR_STORAGE_DESCR, index).unwrap_or_default();
        let bytes = |column| {
            let units = rows.at(mib::HR_STORAGE_UNITS, index)?.count()?;
            // Some agents let a large number run over into a negative one.
            Some(rows.at(column, index)?.count()?.saturating_mul(units))
        };
        let (used, size, of) = match kind {
            mib::HR_STORAGE_RAM => ("memory-used", "memory-size", None),
            mib::HR_STORAGE_FIXED_DISK => ("disk-used", "disk-size", Some(("disk", name.as_str()))),
            _ => continue,
        };
        // Several rows of memory would be one gauge twice: the first is the whole.
        if of.is_none() && all.iter().any(|known: &Counter| known.name.as_str() == size) {
            continue;
        }
        let Some(capacity) = bytes(mib::HR_STORAGE_SIZE).filter(|size| *size > 0) else { continue };
        all.push(gauge(size, of, capacity, Unit::Bytes));
        all.extend(bytes(mib::HR_STORAGE_USED).map(|value| gauge(used, of, value, Unit::Bytes)));
    }
    all
}

fn memory_by_ucd(view: &View<'_>) -> Vec<Counter> {
    let bytes = |column| Some(view.rows.at(column, &[0])?.count()?.saturating_mul(1024));
    let size = bytes(mib::UCD_MEMORY_SIZE).or_else(|| bytes(mib::HR_MEMORY_SIZE));
    let used = bytes(mib::UCD_MEMORY_FREE).and_then(|free| Some(size?.saturating_sub(free)));
    let size = size.map(|size| gauge("memory-size", None, size, Unit::Bytes));
    size.into_iter().chain(used.map(|used| gauge("memory-used", None, used, Unit::Bytes))).collect()
}
