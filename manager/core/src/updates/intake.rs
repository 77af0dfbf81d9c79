//! What an agent's report of its devices' updates changes (PROTOCOL 18.14): of two words on one update the one in the newer report counts, and a
//! report of all of them says that there are no others.

use std::collections::{BTreeMap, BTreeSet};

use shared::Label;
use shared::device::DeviceName;
use shared::limits::DEVICE_UPDATES_MAX_COUNT;
use shared::message::{DeviceUpdate, DeviceUpdates, UpdateState};

/// Names an update: the device, and the type of the firmware.
pub type UpdateKey = (DeviceName, Label);

/// What is known of an agent's updates in a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Sequence number of the newest report of all of them; 0: none has come.
    pub all_sequence: u64,
    /// The updates.
    pub rows: BTreeMap<UpdateKey, Kept>,
}

/// An update as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Sequence number of the report that said it.
    pub sequence: u64,
    /// How far it was.
    pub state: UpdateState,
}

/// What a report changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News<'r> {
    /// Rows that take the place of those before them.
    pub put: Vec<&'r DeviceUpdate>,
    /// Rows that are there no more.
    pub drop: Vec<UpdateKey>,
    /// Those of the new rows that somebody should hear of: what has failed, and what only a person can say.
    pub bad: Vec<&'r DeviceUpdate>,
}

/// What a report of this sequence number changes; `None`: a newer one of all updates has said more.
#[must_use]
pub fn take<'r>(heard: &Heard, sequence: u64, report: &'r DeviceUpdates) -> Option<News<'r>> {
    if sequence <= heard.all_sequence {
        return None;
    }
    let mut news = News::default();
    let mut named = BTreeSet::new();
    for row in &report.updates {
        let key = (row.device.clone(), row.kind.clone());
        let before = heard.rows.get(&key);
        let room = heard.rows.len().saturating_add(news.put.len()) < DEVICE_UPDATES_MAX_COUNT;
        let is_newer = before.map_or(report.all || room, |kept| kept.sequence < sequence);
        // One of a name: a second row of it in the same report is a slip of the agent.
        if named.insert(key) && is_newer {
            news.put.push(row);
            if is_bad(row.state) && before.is_none_or(|kept| kept.state != row.state) {
                news.bad.push(row);
            }
        }
    }
    if report.all {
        let gone = |(key, kept): &(&UpdateKey, &Kept)| kept.sequence < sequence && !named.contains(*key);
        news.drop = heard.rows.iter().filter(gone).map(|(key, _)| key.clone()).collect();
    }
    Some(news)
}

fn is_bad(state: UpdateState) -> bool {
    matches!(state, UpdateState::Failed | UpdateState::Unknown)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use shared::{Digest, EnvelopeId, UnixMillis};

    fn row(device: &str, state: UpdateState) -> DeviceUpdate {
        DeviceUpdate {
            device: DeviceName::parse(device).unwrap(),
            kind: Label::lossy("main"),
            vendor: None,
            model: None,
            serial: None,
            old: None,
            new: None,
            state,
            reason: None,
            about: None,
            begins: None,
            ends: None,
            sent_bytes: 0,
            bytes: 0,
            rate: None,
            transfers: 0,
            since: UnixMillis(0),
        }
    }

    fn report(all: bool, updates: Vec<DeviceUpdate>) -> DeviceUpdates {
        DeviceUpdates { plan: EnvelopeId([1; 16]), bundle: Digest([2; 32]), all, updates }
    }

    /// Takes a report in, as the store does.
    fn hear(heard: &mut Heard, sequence: u64, report: &DeviceUpdates) -> usize {
        let Some(news) = take(heard, sequence, report) else { return 0 };
        for key in &news.drop {
            heard.rows.remove(key);
        }
        for row in &news.put {
            let key = (row.device.clone(), row.kind.clone());
            heard.rows.insert(key, Kept { sequence, state: row.state });
        }
        if report.all {
            heard.all_sequence = sequence;
        }
        news.bad.len()
    }

    fn states(heard: &Heard) -> Vec<(&str, UpdateState)> {
        heard.rows.iter().map(|((device, _), kept)| (device.as_str(), kept.state)).collect()
    }

    // PROTOCOL 18.14
    #[test]
    fn reports_in_any_order_leave_what_the_newest_has_said_of_each() {
        let all = report(true, vec![row("a", UpdateState::Queued), row("b", UpdateState::Queued)]);
        let first = report(false, vec![row("a", UpdateState::Transferring)]);
        let second = report(false, vec![row("a", UpdateState::Done)]);
        let last = report(true, vec![row("a", UpdateState::Done)]);
        let in_order = [(1, &all), (2, &first), (3, &second), (4, &last)];
        for turned in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 0, 1, 3]] {
            let mut heard = Heard::default();
            for at in turned {
                let (sequence, report) = in_order[at];
                hear(&mut heard, sequence, report);
            }
            assert_eq!(states(&heard), [("a", UpdateState::Done)], "{turned:?}");
        }
        let mut heard = Heard::default();
        for at in [2, 0, 1] {
            let (sequence, report) = in_order[at];
            hear(&mut heard, sequence, report);
        }
        assert_eq!(states(&heard), [("a", UpdateState::Done), ("b", UpdateState::Queued)]);
    }

    #[test]
    fn what_went_wrong_is_told_once() {
        let mut heard = Heard::default();
        let wrong = report(false, vec![row("a", UpdateState::Unknown), row("b", UpdateState::Done)]);
        assert_eq!(hear(&mut heard, 1, &wrong), 1);
        assert_eq!(hear(&mut heard, 2, &wrong), 0, "it is known");
        assert_eq!(hear(&mut heard, 3, &report(false, vec![row("a", UpdateState::Failed)])), 1);
    }

    #[test]
    fn an_agent_cannot_fill_the_store_with_devices_that_it_makes_up() {
        let mut heard = Heard::default();
        let made_up = |from: usize| {
            let names = (from..from + DEVICE_UPDATES_MAX_COUNT).map(|n| format!("d{n}"));
            report(false, names.map(|name| row(&name, UpdateState::Queued)).collect())
        };
        for round in 0..3 {
            hear(&mut heard, round + 1, &made_up(usize::try_from(round).unwrap() * 100));
        }
        assert_eq!(heard.rows.len(), DEVICE_UPDATES_MAX_COUNT);
    }

    #[test]
    fn a_row_that_comes_twice_in_a_report_counts_once() {
        let twice = report(true, vec![row("a", UpdateState::Done), row("a", UpdateState::Failed)]);
        assert_eq!(take(&Heard::default(), 1, &twice).unwrap().put.len(), 1);
    }
}
