//! Which devices of an agent would get which firmware, as far as their last readings say, and when (R6). An estimate for the
//! operator: what the agent finds when the time comes is what happens, and it says so.

use core::time::Duration;

use shared::bundle::{FirmwareEntry, same_version};
use shared::device::Identity;
use shared::message::UpdateReason;
use shared::{Label, UnixMillis};

/// Bytes a second from an agent to a device where none was measured: what agents take for it as well.
const RATE_GUESS: u64 = 100_000;

/// What one device would get of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess<'e> {
    /// The firmware; `None`: there is none for it.
    pub entry: Option<&'e FirmwareEntry>,
    /// The version that it had when it was last read.
    pub old: Option<Label>,
    /// Whether it would be registered, or why not.
    pub verdict: Result<(), UpdateReason>,
}

impl Guess<'_> {
    fn none(reason: UpdateReason) -> Self {
        Self { entry: None, old: None, verdict: Err(reason) }
    }
}

/// What a device would get: one guess for each type of firmware that is for it, or one that says why there is none (PROTOCOL 18.1, 18.2).
/// `identity` is what its last reading says that it is.
#[must_use]
pub fn guess<'e>(entries: &'e [FirmwareEntry], identity: Option<&Identity>) -> Vec<Guess<'e>> {
    let Some(identity) = identity else { return vec![Guess::none(UpdateReason::NotSeen)] };
    let mut kinds: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_for(identity)) {
        let kind = entry.kind.as_str().to_lowercase();
        if kinds.contains(&kind) {
            continue;
        }
        kinds.push(kind);
        let old = entry.shown_by(identity).cloned();
        let verdict = match &old {
            None => Err(UpdateReason::NoVersion),
            Some(old) if same_version(old, &entry.version) => Err(UpdateReason::HasIt),
            Some(old) if !entry.goes_over(old) => Err(UpdateReason::NotOverThis),
            Some(_) => Ok(()),
        };
        found.push(Guess { entry: Some(entry), old, verdict });
    }
    if found.is_empty() {
        found.push(Guess::none(UpdateReason::NoFirmware));
    }
    found
}

/// True if it is worth saying of a device that nobody has named: that other devices have nothing to do with the bundle is not.
#[must_use]
pub fn unnamed_is_told(guess: &Guess<'_>) -> bool {
    guess.verdict != Err(UpdateReason::NoFirmware) && guess.verdict != Err(UpdateReason::NotSeen)
}

/// How fast an agent brings firmware to its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Bytes a second, as the agent has measured them.
    pub rate: Option<u64>,
    /// So many devices at a time, after the first.
    pub at_once: u16,
}

impl Pace {
    /// How long an update takes at most, from its first byte until the device is back.
    #[must_use]
    pub fn takes(&self, bytes: u64, back_by: Duration) -> Duration {
        let rate = self.rate.unwrap_or(RATE_GUESS).max(1);
        Duration::from_secs(bytes.div_ceil(rate)).saturating_add(back_by)
    }
}

/// When an update is expected to begin and to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its beginning.
    pub begins: UnixMillis,
    /// Its end.
    pub ends: UnixMillis,
}

/// When updates of so many lengths are expected to run, in the agent's order, if nothing comes between: the first alone, the others so
/// many at a time.
#[must_use]
pub fn slots(from: UnixMillis, at_once: u16, lengths: &[Duration]) -> Vec<Slot> {
    let mut slots = Vec::new();
    let Some((first, others)) = lengths.split_first() else { return slots };
    let alone = Slot { begins: from, ends: from.plus(*first) };
    slots.push(alone);
    let mut free = vec![alone.ends; usize::from(at_once.max(1)).min(others.len().max(1))];
    for takes in others {
        let Some(next) = free.iter_mut().min() else { break };
        let slot = Slot { begins: *next, ends: next.plus(*takes) };
        *next = slot.ends;
        slots.push(slot);
    }
    slots
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use shared::bundle::FirmwareHandler;
    use shared::device::Firmware;
    use shared::glob::Glob;

    fn label(text: &str) -> Label {
        Label::lossy(text)
    }

    fn entry(kind: &str, model: &str, version: &str, from: &[&str]) -> FirmwareEntry {
        let handler = FirmwareHandler::Raw9100;
        let mut entry =
            FirmwareEntry::new(label("image"), label(kind), Glob::new(label(model)), label(version), handler);
        entry.from = from.iter().map(|text| label(text)).collect();
        entry
    }

    fn printer(firmware: &[(&str, &str)]) -> Identity {
        let firmware = firmware
            .iter()
            .map(|(component, version)| Firmware { component: label(component), version: label(version) });
        Identity { model: Some(label("MP C3004")), firmware: firmware.collect(), ..Identity::default() }
    }

    fn verdicts(entries: &[FirmwareEntry], identity: &Identity) -> Vec<Result<(), UpdateReason>> {
        guess(entries, Some(identity)).into_iter().map(|guess| guess.verdict).collect()
    }

    // PROTOCOL 18.1
    #[test]
    fn a_device_would_get_the_first_firmware_of_each_type_that_is_for_it() {
        let entries = [
            entry("main", "MP*", "2.0", &[]),
            entry("Main", "*", "9.9", &[]),
            entry("feeder", "*", "2.1", &[]),
        ];
        let identity = printer(&[("main", "1.0"), ("feeder", "1.0")]);
        let found: Vec<&str> = guess(&entries, Some(&identity))
            .iter()
            .map(|guess| guess.entry.unwrap().version.as_str())
            .collect();
        assert_eq!(found, ["2.0", "2.1"]);
    }

    #[test]
    fn who_takes_no_part_is_told_why() {
        let of = |model, from: &[&str]| [entry("main", model, "2.0", from)];
        let old = printer(&[("main", "1.0")]);
        assert_eq!(verdicts(&of("*", &[]), &old), [Ok(())]);
        assert_eq!(verdicts(&of("*", &["1.5"]), &old), [Err(UpdateReason::NotOverThis)]);
        assert_eq!(verdicts(&of("bizhub*", &[]), &old), [Err(UpdateReason::NoFirmware)]);
        assert_eq!(verdicts(&of("*", &[]), &printer(&[("main", " 2.0 ")])), [Err(UpdateReason::HasIt)]);
        assert_eq!(verdicts(&of("*", &[]), &printer(&[])), [Err(UpdateReason::NoVersion)]);
        assert_eq!(guess(&of("*", &[]), None)[0].verdict, Err(UpdateReason::NotSeen));
    }

    #[test]
    fn an_update_takes_as_long_as_its_bytes_at_the_measured_rate_and_the_restart() {
        let back_by = Duration::from_secs(1_200);
        let pace = |rate| Pace { rate, at_once: 1 };
        assert_eq!(pace(Some(1_000)).takes(50_000, back_by), Duration::from_secs(1_250));
        assert_eq!(pace(None).takes(RATE_GUESS * 7, back_by), Duration::from_secs(1_207));
        assert_eq!(pace(Some(0)).takes(10, Duration::ZERO), Duration::from_secs(10), "no rate is zero");
    }

    #[test]
    fn the_first_goes_alone_and_the_others_so_many_at_a_time() {
        let lengths = [10, 20, 30, 10].map(Duration::from_secs);
        let seconds = |at_once| {
            let slots = slots(UnixMillis(0), at_once, &lengths);
            slots.iter().map(|slot| (slot.begins.0 / 1_000, slot.ends.0 / 1_000)).collect::<Vec<_>>()
        };
        assert_eq!(seconds(1), [(0, 10), (10, 30), (30, 60), (60, 70)]);
        assert_eq!(seconds(2), [(0, 10), (10, 30), (10, 40), (30, 40)]);
        assert_eq!(seconds(0), seconds(1));
        assert!(slots(UnixMillis(0), 3, &[]).is_empty());
    }
}
