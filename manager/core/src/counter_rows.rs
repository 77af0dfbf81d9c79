//! Rows of CSV about counters, made of signed readings. What does not follow from the reading before is said in the row, and
//! nothing is smoothed.

use serde::Serialize;
use shared::Label;
use shared::device::Counter;
use shared::reading::{Anomaly, Reading};

use crate::chain::Link;
use crate::rows::defused;

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

/// The rows of one reading. `link` is how it stands to the one before it; `chain_number` is which of its agent's chains it
/// stands in, from 1.
#[must_use]
pub fn counter_rows<'a>(
    reading: &'a Reading,
    link: Link,
    chain_number: u64,
    taken_at: &'a str,
    received_at: &'a str,
) -> Vec<CounterRow<'a>> {
    let of_device: Vec<String> = link_text(link, chain_number, taken_at)
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

/// A chain that was begun anew, in CSV and in proofs (PROTOCOL 14.10). `at`: when its first reading was taken.
#[must_use]
pub fn begun_anew(at: &str) -> String {
    format!("chain begun anew at {at}")
}

fn link_text(link: Link, chain_number: u64, taken_at: &str) -> Option<String> {
    match link {
        Link::Follows => None,
        Link::First if chain_number > 1 => Some(begun_anew(taken_at)),
        Link::First => Some("chain begins".to_owned()),
        Link::Headless => Some("the readings before are not kept".to_owned()),
        Link::Gap(1) => Some("gap: 1 reading is missing before".to_owned()),
        Link::Gap(missing) => Some(format!("gap: {missing} readings are missing before")),
        Link::Broken => Some("does not follow from the reading before".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::device::{DeviceClass, DeviceName, Measure, Observation, Unit};
    use shared::message::ReadingMark;
    use shared::reading::AnomalyKind;
    use shared::{AgentId, Digest, UnixMillis};

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
        let rows = counter_rows(&reading, Link::Gap(2), 1, "t", "r");
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
        let rows = counter_rows(&reading, Link::Follows, 1, "t", "r");
        assert_eq!((rows.len(), rows[0].value, rows[0].anomaly.as_str()), (1, None, ""));
    }

    #[test]
    fn a_chain_that_is_not_the_first_says_when_it_was_begun_anew() {
        let reading = reading();
        let text = |link, number| counter_rows(&reading, link, number, "t", "r")[0].anomaly.clone();
        assert!(text(Link::First, 1).starts_with("chain begins; "));
        assert!(text(Link::First, 2).starts_with("chain begun anew at t; "));
        assert!(text(Link::Follows, 2).starts_with("serial-twice"), "said once");
    }
}
