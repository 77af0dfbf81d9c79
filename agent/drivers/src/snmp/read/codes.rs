//! What the codes of printers mean: `PrtAlertCodeTC` (RFC 3805, IANA-PRINTER-MIB) and the bits of
//! `hrPrinterDetectedErrorState` (RFC 2790). Tables, no logic.

use shared::device::{FaultClass, FaultKind};

use FaultClass::{A, B, C, D};
use FaultKind::{Alarm, Error, Jam, Offline, Supply};

/// Bits of `hrPrinterDetectedErrorState`, its first byte the upper half. Devices send none, one or two bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Errors(u16);

impl Errors {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        Self(u16::from_be_bytes([byte(0), byte(1)]))
    }

    pub(super) fn has_any(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    pub(super) fn without(self, bits: u16) -> Self {
        Self(self.0 & !bits)
    }
}

pub(super) const LOW_PAPER: u16 = 0x8000;
pub(super) const NO_PAPER: u16 = 0x4000;
pub(super) const LOW_TONER: u16 = 0x2000;
pub(super) const NO_TONER: u16 = 0x1000;
pub(super) const DOOR_OPEN: u16 = 0x0800;
pub(super) const JAMMED: u16 = 0x0400;
pub(super) const OFFLINE: u16 = 0x0200;
pub(super) const SERVICE: u16 = 0x0100;
pub(super) const INPUT_MISSING: u16 = 0x0080;
pub(super) const OUTPUT_MISSING: u16 = 0x0040;
pub(super) const SUPPLY_MISSING: u16 = 0x0020;
pub(super) const OUTPUT_NEAR_FULL: u16 = 0x0010;
pub(super) const OUTPUT_FULL: u16 = 0x0008;
pub(super) const INPUT_EMPTY: u16 = 0x0004;
pub(super) const MAINTENANCE: u16 = 0x0002;

/// Nothing can be printed while one of them is set.
pub(super) const BLOCKING: u16 = NO_PAPER | NO_TONER | DOOR_OPEN | JAMMED | OFFLINE;

/// What one bit says.
pub(super) struct Bit {
    pub(super) bit: u16,
    /// Bits that say more about the same; this one says nothing beside them.
    pub(super) said_by: u16,
    pub(super) name: &'static str,
    pub(super) kind: FaultKind,
    pub(super) class: FaultClass,
}

const fn bit(bit: u16, said_by: u16, name: &'static str, kind: FaultKind, class: FaultClass) -> Bit {
    Bit { bit, said_by, name, kind, class }
}

pub(super) const BITS: [Bit; 15] = [
    bit(LOW_PAPER, NO_PAPER | INPUT_EMPTY, "lowPaper", Supply, C),
    bit(NO_PAPER, 0, "noPaper", Supply, B),
    bit(LOW_TONER, NO_TONER, "lowToner", Supply, C),
    bit(NO_TONER, 0, "noToner", Supply, B),
    bit(DOOR_OPEN, 0, "doorOpen", Alarm, B),
    bit(JAMMED, 0, "jammed", Jam, B),
    bit(OFFLINE, 0, "offline", Offline, B),
    bit(SERVICE, 0, "serviceRequested", Error, C),
    bit(INPUT_MISSING, 0, "inputTrayMissing", Alarm, C),
    bit(OUTPUT_MISSING, 0, "outputTrayMissing", Alarm, C),
    bit(SUPPLY_MISSING, 0, "markerSupplyMissing", Supply, B),
    bit(OUTPUT_NEAR_FULL, OUTPUT_FULL, "outputNearFull", Alarm, C),
    bit(OUTPUT_FULL, 0, "outputFull", Alarm, B),
    bit(INPUT_EMPTY, NO_PAPER, "inputTrayEmpty", Supply, C),
    bit(MAINTENANCE, 0, "overduePreventMaint", Error, C),
];

/// What an alert's code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) code: i64,
    pub(super) kind: FaultKind,
    /// The class if the device stands still for it; what only warns is logged (class C).
    pub(super) class: FaultClass,
    /// Bits that say the same.
    pub(super) bits: u16,
}

const fn code(code: i64, kind: FaultKind, class: FaultClass, bits: u16) -> Code {
    Code { code, kind, class, bits }
}

const LIFE: u16 = LOW_TONER | NO_TONER | SERVICE | MAINTENANCE;
const PAPER: u16 = LOW_PAPER | NO_PAPER | INPUT_EMPTY;
const OUTPUT: u16 = OUTPUT_NEAR_FULL | OUTPUT_FULL;

/// Codes that are faults, in order. Codes that are neither here nor in [`QUIET`] are a maker's own.
pub(super) const CODES: [Code; 68] = [
    code(3, Alarm, B, DOOR_OPEN),
    code(5, Alarm, B, DOOR_OPEN),
    code(8, Jam, B, JAMMED),
    code(9, Alarm, B, INPUT_MISSING | OUTPUT_MISSING | SUPPLY_MISSING),
    code(10, Supply, C, LIFE),
    code(11, Supply, B, LIFE),
    code(12, Supply, C, LIFE | PAPER),
    code(13, Supply, B, LIFE | PAPER),
    code(14, Supply, C, OUTPUT | SERVICE),
    code(15, Supply, B, OUTPUT | SERVICE),
    code(16, Supply, C, LIFE | PAPER),
    code(17, Supply, B, LIFE | PAPER),
    code(18, Alarm, B, DOOR_OPEN),
    code(21, Offline, B, OFFLINE),
    code(22, Offline, B, OFFLINE),
    code(26, Alarm, B, INPUT_MISSING | OUTPUT_MISSING | SUPPLY_MISSING),
    code(28, Alarm, C, 0),
    code(29, Error, B, SERVICE),
    code(30, Error, A, SERVICE),
    code(31, Error, B, SERVICE),
    code(32, Error, A, SERVICE),
    code(33, Error, A, SERVICE),
    code(34, Error, D, SERVICE),
    code(35, Error, A, SERVICE),
    code(36, Error, A, SERVICE),
    code(37, Error, A, SERVICE),
    code(38, Error, A, SERVICE),
    code(501, Alarm, B, DOOR_OPEN),
    code(801, Alarm, B, INPUT_MISSING),
    code(802, Alarm, C, 0),
    code(803, Alarm, C, 0),
    code(804, Alarm, C, 0),
    code(805, Alarm, C, 0),
    code(806, Alarm, C, 0),
    code(807, Supply, C, LOW_PAPER),
    code(808, Supply, B, PAPER),
    code(809, Alarm, B, NO_PAPER | INPUT_EMPTY),
    code(810, Alarm, B, NO_PAPER | INPUT_EMPTY),
    code(811, Error, B, SERVICE),
    code(812, Error, B, SERVICE),
    code(813, Alarm, B, 0),
    code(901, Alarm, B, OUTPUT_MISSING),
    code(902, Alarm, C, OUTPUT_NEAR_FULL),
    code(903, Alarm, B, OUTPUT),
    code(904, Error, B, SERVICE),
    code(1001, Error, A, SERVICE),
    code(1002, Error, A, SERVICE),
    code(1003, Error, A, SERVICE),
    code(1004, Error, A, SERVICE),
    code(1101, Supply, B, LOW_TONER | NO_TONER),
    code(1102, Supply, B, LOW_TONER | NO_TONER),
    code(1103, Supply, B, LOW_TONER | NO_TONER),
    code(1104, Supply, C, LOW_TONER),
    code(1105, Supply, C, LOW_TONER),
    code(1106, Supply, C, LOW_TONER),
    code(1107, Supply, C, SERVICE | OUTPUT_NEAR_FULL),
    code(1108, Supply, C, SERVICE | OUTPUT_NEAR_FULL),
    code(1109, Supply, B, SERVICE | OUTPUT),
    code(1110, Supply, B, SERVICE | OUTPUT),
    code(1111, Supply, C, LIFE),
    code(1112, Supply, B, LIFE),
    code(1113, Supply, C, LIFE),
    code(1114, Supply, B, LIFE),
    code(1115, Supply, B, SUPPLY_MISSING),
    code(1301, Alarm, B, INPUT_MISSING | OUTPUT_MISSING),
    code(1302, Alarm, C, OUTPUT_NEAR_FULL),
    code(1303, Alarm, B, OUTPUT),
    code(1304, Alarm, C, 0),
];

/// Codes of what is no fault: closed again, turned on, sleeping, warming up, reset, ready.
pub(super) const QUIET: [i64; 22] =
    [4, 6, 7, 19, 20, 23, 24, 25, 27, 502, 503, 504, 505, 506, 507, 1005, 1501, 1502, 1503, 1504, 1505, 1801];

/// `subunitPowerSaver`.
pub(super) const POWER_SAVER: i64 = 23;

/// The code's meaning.
pub(super) fn meaning(code: i64) -> Option<&'static Code> {
    let at = CODES.binary_search_by_key(&code, |known| known.code).ok()?;
    CODES.get(at)
}

/// A part of the device, by `PrtAlertGroupTC`.
pub(super) struct Group {
    group: i64,
    pub(super) name: &'static str,
    /// The kind and the bits of alerts there whose code is a maker's own.
    pub(super) kind: FaultKind,
    pub(super) bits: u16,
}

const fn group(group: i64, name: &'static str, kind: FaultKind, bits: u16) -> Group {
    Group { group, name, kind, bits }
}

const GROUPS: [Group; 20] = [
    group(3, "storage", Error, 0),
    group(4, "device", Error, 0),
    group(5, "printer", Error, 0),
    group(6, "cover", Alarm, DOOR_OPEN),
    group(7, "localization", Alarm, 0),
    group(8, "input", Alarm, PAPER | INPUT_MISSING),
    group(9, "output", Alarm, OUTPUT | OUTPUT_MISSING),
    group(10, "marker", Error, SERVICE),
    group(11, "marker supply", Supply, LIFE | SUPPLY_MISSING),
    group(12, "marker colorant", Supply, LIFE),
    group(13, "media path", Alarm, JAMMED),
    group(14, "channel", Error, 0),
    group(15, "interpreter", Error, 0),
    group(16, "console display", Error, 0),
    group(17, "console lights", Error, 0),
    group(18, "alert", Alarm, 0),
    group(30, "finisher", Error, 0),
    group(31, "finisher supply", Supply, 0),
    group(32, "finisher media input", Alarm, 0),
    group(33, "finisher attribute", Alarm, 0),
];

/// The part of the device.
pub(super) fn part(group: i64) -> Option<&'static Group> {
    GROUPS.iter().find(|known| known.group == group)
}

/// Texts of makers' own codes that are no faults, as far as they were seen. Whole texts without dots, in lower case: "Ready
/// for paper" wants something.
pub(super) const STATUS_TEXTS: [&str; 22] = [
    "ready",
    "deleted",
    "sleeping",
    "sleep",
    "sleep mode",
    "sleep mode on",
    "energy saver",
    "energy save",
    "power save",
    "powersave mode",
    "standby",
    "warming up",
    "printing",
    "copying",
    "scanning",
    "processing",
    "please wait",
    "cooling down",
    "bereit",
    "energiesparen",
    "energiesparmodus",
    "bereitschaftsmodus ein",
];

/// What says that only switching off and on helps.
pub(super) const POWER_CYCLE_TEXTS: [&str; 9] = [
    "off and on",
    "off then on",
    "off, then on",
    "off and then on",
    "power cycle",
    "turn the power off",
    "switch off the main power",
    "aus- und ein",
    "aus und wieder ein",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_no_fault_is_quiet() {
        assert!(CODES.is_sorted_by(|a, b| a.code < b.code));
        assert!(CODES.iter().all(|code| !QUIET.contains(&code.code)));
        assert_eq!(meaning(8).unwrap().kind, Jam);
        assert_eq!(meaning(2), None);
    }

    #[test]
    fn bits_begin_with_the_highest_of_the_first_byte() {
        assert!(Errors::read(&[0x80]).has_any(LOW_PAPER));
        assert!(
            Errors::read(&[0x04, 0x02]).has_any(JAMMED) && Errors::read(&[0x04, 0x02]).has_any(MAINTENANCE)
        );
        assert_eq!(Errors::read(&[]), Errors::default());
        assert_eq!(Errors::read(&[0, 0, 0xff]), Errors::default());
    }
}
