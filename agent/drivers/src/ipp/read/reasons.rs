//! What `printer-state-reasons` mean (RFC 8011 §5.4.12, PWG 5100.9 and its errata). Tables, no logic. Kinds and classes are
//! those of the same conditions in the Printer-MIB.

use shared::device::{FaultClass, FaultKind};

use FaultClass::{A, B, C, D};
use FaultKind::{Alarm, Error, Jam, Offline, Supply};

/// What a reason says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) kind: FaultKind,
    /// The class if the printer stands still for it; what only warns is logged (class C).
    pub(super) class: FaultClass,
}

/// A reason without its suffix, what it means, and the codes of alerts (`PrtAlertCodeTC`) that say the same in other words.
type Known = (&'static str, FaultKind, FaultClass, &'static [&'static str]);

const KNOWN: [Known; 32] = [
    ("cover-open", Alarm, B, &[]),
    ("deactivated", Offline, B, &[]),
    ("developer-empty", Supply, B, &["markerDeveloperEmpty"]),
    ("developer-low", Supply, C, &["markerDeveloperAlmostEmpty"]),
    ("door-open", Alarm, B, &[]),
    ("fuser-over-temp", Error, A, &["markerFuserOverTemperature"]),
    ("fuser-under-temp", Error, A, &["markerFuserUnderTemperature"]),
    ("input-cannot-feed-size-selected", Alarm, B, &[]),
    ("input-tray-missing", Alarm, B, &["inputMediaTrayMissing"]),
    ("interlock-open", Alarm, B, &[]),
    ("interpreter-resource-unavailable", Error, C, &[]),
    ("marker-supply-empty", Supply, B, &["markerTonerEmpty", "markerInkEmpty"]),
    ("marker-supply-low", Supply, C, &["markerTonerAlmostEmpty", "markerInkAlmostEmpty"]),
    (
        "marker-waste-almost-full",
        Supply,
        C,
        &["markerWasteTonerReceptacleAlmostFull", "markerWasteInkReceptacleAlmostFull"],
    ),
    ("marker-waste-full", Supply, B, &["markerWasteTonerReceptacleFull", "markerWasteInkReceptacleFull"]),
    ("media-empty", Supply, B, &["inputMediaSupplyEmpty"]),
    ("media-jam", Jam, B, &["jam"]),
    ("media-low", Supply, C, &["inputMediaSupplyLow"]),
    ("media-needed", Alarm, B, &["inputMediaChangeRequest", "inputManualInputRequest"]),
    ("opc-life-over", Supply, B, &["markerOpcLifeOver"]),
    ("opc-near-eol", Supply, C, &["markerOpcLifeAlmostOver"]),
    ("output-area-almost-full", Alarm, C, &["outputMediaTrayAlmostFull"]),
    ("output-area-full", Alarm, B, &["outputMediaTrayFull"]),
    ("output-tray-missing", Alarm, B, &["outputMediaTrayMissing"]),
    ("paused", Offline, B, &[]),
    ("power-down", Offline, B, &[]),
    ("shutdown", Offline, B, &[]),
    ("spool-area-full", Alarm, C, &[]),
    ("stopped-partly", Alarm, C, &[]),
    ("timed-out", Offline, B, &[]),
    ("toner-empty", Supply, B, &["markerTonerEmpty"]),
    ("toner-low", Supply, C, &["markerTonerAlmostEmpty"]),
];

/// What reasons of a part of the printer end in: `stapler-jam`, `fuser-thermistor-failure`. The first that fits.
const ENDINGS: [(&str, FaultKind, FaultClass); 32] = [
    ("-jam", Jam, B),
    ("ink-missing", Supply, B),
    ("toner-missing", Supply, B),
    ("supply-missing", Supply, B),
    ("cartridge-missing", Supply, B),
    ("-missing", Alarm, B),
    ("-almost-empty", Supply, C),
    ("-empty", Supply, B),
    ("-low", Supply, C),
    ("-almost-full", Alarm, C),
    ("-full", Alarm, B),
    ("-near-limit", Supply, C),
    ("-at-limit", Supply, B),
    ("-life-almost-over", Supply, C),
    ("-near-eol", Supply, C),
    ("-life-over", Supply, B),
    ("-open", Alarm, B),
    ("-opened", Alarm, B),
    ("-turned-off", Offline, B),
    ("-offline", Offline, B),
    ("-resource-removed", Alarm, C),
    ("-removed", Alarm, B),
    ("-unrecoverable-failure", Error, A),
    ("-unrecoverable-storage", Error, A),
    ("-recoverable-storage", Error, B),
    ("-motor-failure", Error, A),
    ("-memory-exhausted", Error, D),
    ("-under-temperature", Error, A),
    ("-over-temperature", Error, A),
    ("-timing-failure", Error, A),
    ("-thermistor-failure", Error, A),
    ("-failure", Error, B),
];

/// Reasons of what is no fault.
const QUIET: [&str; 15] = [
    "none",
    "alert-removal-of-binary-change-entry",
    "connecting-to-device",
    "cups-waiting-for-job-completed",
    "hold-new-jobs",
    "identify-printer-requested",
    "marker-adjusting-print-quality",
    "moving-to-paused",
    "power-up",
    "printer-manual-reset",
    "printer-nms-reset",
    "printer-ready-to-print",
    "resuming",
    "stopping",
    "testing",
];

/// Endings of reasons of what is no fault.
const QUIET_ENDINGS: [&str; 7] =
    ["-added", "-change", "-closed", "-power-saver", "-turned-on", "-warming-up", "-requested"];

/// It saves power.
const ASLEEP: [&str; 7] =
    ["hibernate", "power-saver", "sleep", "sleep-mode", "standby", "suspend", "energy-saving"];

/// True if the reason says nothing that a person would have to know.
pub(super) fn is_quiet(word: &str) -> bool {
    QUIET.contains(&word) || is_asleep(word) || QUIET_ENDINGS.iter().any(|ending| word.ends_with(ending))
}

/// True if the reason says that the printer saves power.
pub(super) fn is_asleep(word: &str) -> bool {
    ASLEEP.contains(&word) || word.ends_with("-power-saver")
}

/// What a reason means. Makers have words of their own, and "other" is one too.
pub(super) fn meaning(word: &str) -> Option<Meaning> {
    let known = KNOWN.iter().find(|(known, ..)| *known == word).map(|(_, kind, class, _)| (*kind, *class));
    let by_ending = || ENDINGS.iter().find(|(ending, ..)| word.ends_with(ending)).map(|(_, k, c)| (*k, *c));
    known.or_else(by_ending).map(|(kind, class)| Meaning { kind, class })
}

/// True if an alert's code says the same as a reason: `staplerJam` is `stapler-jam`, and some have two names.
pub(super) fn is_same(word: &str, code: &str) -> bool {
    let plain = |text: &str| text.replace('-', "").to_lowercase();
    let others = KNOWN.iter().find(|(known, ..)| *known == word).map_or(&[][..], |(.., codes)| codes);
    plain(word) == plain(code) || others.iter().any(|other| plain(other) == plain(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fault_is_quiet_and_no_ending_hides_another() {
        assert!(KNOWN.iter().all(|(word, ..)| !is_quiet(word)));
        for (at, (ending, ..)) in ENDINGS.iter().enumerate() {
            let first = ENDINGS.iter().position(|(other, ..)| ending.ends_with(other));
            assert_eq!(first, Some(at), "{ending}");
        }
    }

    #[test]
    fn reasons_of_a_part_mean_what_they_end_in() {
        let of = |word| meaning(word).map(|meaning| (meaning.kind, meaning.class));
        assert_eq!(of("stapler-jam"), Some((Jam, B)));
        assert_eq!(of("media-jam"), Some((Jam, B)));
        assert_eq!(of("marker-waste-toner-receptacle-missing"), Some((Alarm, B)));
        assert_eq!(of("stacker-almost-full"), Some((Alarm, C)));
        assert_eq!(of("fuser-thermistor-failure"), Some((Error, A)));
        assert_eq!(of("subunit-recoverable-failure"), Some((Error, B)));
        assert_eq!(of("subunit-unrecoverable-failure"), Some((Error, A)));
        assert_eq!(of("interpreter-memory-exhausted"), Some((Error, D)));
        assert_eq!(of("com.example-coffee"), None);
        assert!(
            is_quiet("stapler-turned-on") && is_quiet("cover-closed") && is_quiet("input-media-size-change")
        );
    }

    #[test]
    fn an_alert_is_known_by_its_code_in_either_spelling() {
        assert!(is_same("media-jam", "jam") && is_same("cover-open", "coverOpen"));
        assert!(is_same("stapler-jam", "staplerJam") && is_same("toner-low", "markerTonerAlmostEmpty"));
        assert!(!is_same("toner-low", "markerTonerEmpty"));
    }
}
