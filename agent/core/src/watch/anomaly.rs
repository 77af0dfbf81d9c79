//! What does not follow from the reading before. It is marked, and nothing is made good: no difference is smoothed, no
//! number is invented, and who bills decides.

use shared::Label;
use shared::device::{Counter, Measure, Observation, Unit};
use shared::limits::ANOMALIES_MAX_COUNT;
use shared::reading::{Anomaly, AnomalyKind};

use crate::limits::{IMPRESSIONS_PER_MINUTE_MAX, JUMP_ALLOWANCE};

/// End of a counter of 32 bits.
const WRAP: u64 = 1 << 32;

/// Compares an observation with the device's last one.
pub(crate) fn between(before: &Observation, seen: &Observation) -> Vec<Anomaly> {
    if let (Some(was), Some(is)) = (&before.identity.serial, &seen.identity.serial)
        && was != is
    {
        // Counters of two devices say nothing of each other.
        return vec![Anomaly { kind: AnomalyKind::Swapped, counter: Label::default(), before: was.clone() }];
    }
    let minutes = seen.taken_at.since(before.taken_at).as_secs().div_ceil(60);
    let mut found = Vec::new();
    for counter in seen.counters.iter().filter(|counter| counter.measure == Measure::Cumulative) {
        let same = |other: &&Counter| other.name == counter.name && other.labels == counter.labels;
        let Some(was) = before.counters.iter().find(same) else { continue };
        if let Some(kind) = judge(was.value, counter.value, counter.unit, minutes) {
            let name = format!("{} {}", counter.name, counter.labels_text());
            found.push(Anomaly {
                kind,
                counter: Label::lossy(name.trim_end()),
                before: Label::lossy(&was.value.to_string()),
            });
        }
    }
    found.truncate(ANOMALIES_MAX_COUNT);
    found
}

fn judge(before: u64, now: u64, unit: Unit, minutes: u64) -> Option<AnomalyKind> {
    let most = minutes.saturating_mul(IMPRESSIONS_PER_MINUTE_MAX).saturating_add(JUMP_ALLOWANCE);
    let paper = matches!(unit, Unit::Impressions | Unit::Sheets);
    if now >= before {
        let rise = now.saturating_sub(before);
        return (paper && rise > most).then_some(AnomalyKind::Jump);
    }
    // Only from the upper half of 32 bits to little can it have passed its end.
    let rise = now.saturating_add(WRAP).saturating_sub(before);
    let wrapped = (WRAP / 2..WRAP).contains(&before) && now < WRAP / 2 && (!paper || rise <= most);
    Some(if wrapped { AnomalyKind::Wrapped } else { AnomalyKind::Backwards })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::UnixMillis;
    use shared::device::DeviceClass;

    fn seen(minute: i64, serial: &str, value: u64) -> Observation {
        let mut seen = Observation::of(DeviceClass::Printer, UnixMillis(minute * 60_000));
        seen.identity.serial = Some(Label::lossy(serial));
        seen.counters = vec![Counter {
            name: Label::lossy("pages"),
            labels: vec![(Label::lossy("colour"), Label::lossy("mono"))],
            value,
            unit: Unit::Impressions,
            measure: Measure::Cumulative,
        }];
        seen
    }

    fn kinds(before: u64, now: u64) -> Vec<AnomalyKind> {
        between(&seen(0, "S1", before), &seen(60, "S1", now)).iter().map(|a| a.kind).collect()
    }

    #[test]
    fn a_counter_that_rises_as_a_printer_prints_is_none() {
        assert_eq!(kinds(1_000, 1_000), []);
        assert_eq!(kinds(1_000, 13_000), []);
    }

    #[test]
    fn a_counter_that_falls_or_leaps_is_marked_with_what_it_was() {
        let found = between(&seen(0, "S1", 5_000), &seen(60, "S1", 4_999));
        assert_eq!(found[0].kind, AnomalyKind::Backwards);
        assert_eq!((found[0].counter.as_str(), found[0].before.as_str()), ("pages colour=mono", "5000"));
        assert_eq!(kinds(1_000, 9_000_000), [AnomalyKind::Jump]);
        assert_eq!(kinds(1_000, 0), [AnomalyKind::Backwards]);
    }

    #[test]
    fn only_a_full_counter_can_have_passed_its_end() {
        assert_eq!(kinds(WRAP - 10, 20), [AnomalyKind::Wrapped]);
        assert_eq!(kinds(WRAP - 10, 2_000_000_000), [AnomalyKind::Backwards]);
        assert_eq!(kinds(WRAP + 10, 20), [AnomalyKind::Backwards]);
    }

    #[test]
    fn another_device_under_the_same_name_is_one_anomaly() {
        let found = between(&seen(0, "S1", 5_000), &seen(60, "S2", 3));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, found[0].before.as_str()), (AnomalyKind::Swapped, "S1"));
    }
}
