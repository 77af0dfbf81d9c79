//! What a profile knows besides the standard MIBs: counters in objects, tables and packed records, parts.

use shared::device::{Counter, Measure, Observation, Part, Unit};

use super::super::oid::dotted;
use super::super::profile::{CounterName, Labels, Others, RecordPart, TableRule, UnitName};
use super::{View, label};

/// Adds the maker's counters and parts to what the standard says.
pub(super) fn add(view: &View<'_>, seen: &mut Observation) {
    let profile = view.profile;
    for rule in &profile.counters {
        if let Some(value) = view.rows.get(&rule.oid).and_then(|value| value.count()) {
            push(&mut seen.counters, counter(&rule.name, &rule.labels, rule.unit, value));
        }
    }
    for table in &profile.tables {
        add_table(view, table, &mut seen.counters);
    }
    for rule in &profile.records {
        let bytes = view.rows.get(&rule.value).and_then(|value| value.bytes()).unwrap_or_default();
        for (id, value) in records(bytes) {
            for rule in rule.counters.iter().filter(|rule| rule.id == id) {
                push(&mut seen.counters, counter(&rule.name, &rule.labels, None, value));
            }
            seen.parts.extend(rule.parts.iter().filter(|rule| rule.id == id).map(|rule| part(rule, value)));
        }
    }
    for rule in &profile.parts {
        let count = |oid| view.rows.get(oid).and_then(|value| value.count());
        let used = count(&rule.used);
        let life = rule.life.as_ref().and_then(count);
        if used.is_some() {
            let name = label(&rule.name);
            seen.parts.push(Part { key: name.clone(), name, used, life, unit: rule.unit.0 });
        }
    }
}

/// The first of equal ones stays: a profile may name two places for one counter, the better first.
fn push(counters: &mut Vec<Counter>, counter: Counter) {
    if !counters.iter().any(|known| known.name == counter.name && known.labels == counter.labels) {
        counters.push(counter);
    }
}

fn counter(name: &CounterName, labels: &Labels, unit: Option<UnitName>, value: u64) -> Counter {
    let unit = unit.map_or_else(|| name.unit(), |unit| unit.0);
    Counter { name: name.0.clone(), labels: labels.0.clone(), value, unit, measure: Measure::Cumulative }
}

fn add_table(view: &View<'_>, table: &TableRule, counters: &mut Vec<Counter>) {
    for (index, value) in view.rows.column(table.values.arcs()) {
        let Some(value) = value.count() else { continue };
        let key = match &table.keys {
            None => Some(dotted(index)),
            Some(column) => {
                let key = view.rows.at(column.arcs(), index);
                key.and_then(|key| key.number()).map(|n| n.to_string()).or_else(|| view.read(key))
            }
        };
        let Some(key) = key else { continue };
        if let Some(row) = table.rows.iter().find(|row| row.key == key) {
            push(counters, counter(&row.name, &row.labels, row.unit, value));
        } else if table.others == Others::Keep {
            let said = table.names.as_ref().and_then(|names| view.text(names.arcs(), index)).unwrap_or(key);
            let labels = vec![(label("name"), label(&said))];
            let name = label("other");
            push(
                counters,
                Counter { name, labels, value, unit: Unit::Unknown, measure: Measure::Cumulative },
            );
        }
    }
}

/// Records of one value: what they are, and their number. `ff` ends them; what is cut off is left out.
fn records(bytes: &[u8]) -> Vec<(u8, u64)> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while let [id, _kind, length, tail @ ..] = rest {
        let Some((value, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        // 0xff as an identifier is the end; longer numbers than eight bytes are none.
        if *id == 0xff {
            break;
        }
        if value.len() <= 8 {
            all.push((*id, value.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte))));
        }
        rest = tail;
    }
    all
}

/// Brother and its like say what is left in hundredths of hundredths.
fn part(rule: &RecordPart, value: u64) -> Part {
    let unit = rule.unit.0;
    let (used, life) = match rule.full {
        None => (Some(value), None),
        Some(full) if unit == Unit::Percent => {
            let left = value.min(full).saturating_mul(100).checked_div(full);
            (left.map(|left| 100_u64.saturating_sub(left)), Some(100))
        }
        Some(full) => (Some(full.saturating_sub(value)), Some(full)),
    };
    let name = label(&rule.name);
    Part { key: name.clone(), name, used, life, unit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_end_at_their_mark_or_where_they_are_cut() {
        let whole = [0x00, 1, 4, 0, 0, 6, 0x4b, 0x63, 1, 1, 1, 0x82, 1, 4, 0, 0, 0, 5, 0xff];
        assert_eq!(records(&whole), [(0x00, 0x64b), (0x63, 1), (0x82, 5)]);
        assert_eq!(records(&whole[..15]), [(0x00, 0x64b), (0x63, 1)]);
        assert_eq!(records(&[]), []);
        assert_eq!(records(&[0xff, 0xff, 0xff, 0xff]), []);
        assert_eq!(records(&[7, 1, 255]), []);
    }
}
