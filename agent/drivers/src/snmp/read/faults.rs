//! What is wrong with a printer now: rows of its alert table, and of its error bits those that no row tells.
//!
//! The table is "currently active": a fault is gone when its row is. Rows of status messages, of zeros, and of codes that
//! say that something is in order again, are no faults.

use sha2::{Digest, Sha256};
use shared::device::{Fault, FaultClass, FaultKey, FaultKind, Severity};
use shared::hex;

use super::codes::{self, Errors};
use super::{View, label, mib};

/// `prtAlertSeverityLevel`.
const CRITICAL: i64 = 3;
const WARNING: i64 = 4;
const WARNING_BINARY: i64 = 5;
/// `prtAlertTrainingLevel`: a field engineer is needed.
const FIELD_SERVICE: i64 = 5;
/// `prtAlertTrainingLevel`: nobody has to do anything.
const NO_INTERVENTION: i64 = 7;

/// One row of `prtAlertTable`.
struct Alert {
    index: Vec<u32>,
    device: u32,
    severity: i64,
    training: Option<i64>,
    group: i64,
    group_index: i64,
    code: i64,
    text: String,
    /// The text as the device sends it.
    bytes: Vec<u8>,
}

/// What is wrong with it for certain, if rows or bits may be missing: what whole rows tell. No bit counts, for the row that
/// tells the same may be what is missing, and no row without its text, of which its key is made.
pub(super) fn of_whole_rows(view: &View<'_>) -> Vec<Fault> {
    let columns = [
        mib::PRT_ALERT_SEVERITY,
        mib::PRT_ALERT_TRAINING,
        mib::PRT_ALERT_GROUP,
        mib::PRT_ALERT_GROUP_INDEX,
        mib::PRT_ALERT_DESCR,
    ];
    let is_whole = |alert: &Alert| columns.iter().all(|column| view.rows.at(column, &alert.index).is_some());
    let whole = alerts(view).into_iter().filter(is_whole);
    let mut faults: Vec<Fault> = Vec::new();
    for (fault, _) in whole.filter_map(|alert| fault(&alert)) {
        if !faults.iter().any(|known| known.key == fault.key) {
            faults.push(fault);
        }
    }
    faults
}

/// What is wrong with it.
pub(super) fn faults(view: &View<'_>) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let mut told: u16 = 0;
    for alert in alerts(view) {
        let Some((fault, bits)) = fault(&alert) else { continue };
        told |= bits;
        if fault.kind == FaultKind::Error {
            told |= codes::SERVICE;
        }
        if !faults.iter().any(|known| known.key == fault.key) {
            faults.push(fault);
        }
    }
    let printers: Vec<u32> =
        view.rows.column(mib::HR_PRINTER_ERRORS).filter_map(|(index, _)| index.first().copied()).collect();
    for printer in printers {
        faults.extend(of_bits(printer, errors(view, printer), told));
    }
    faults
}

/// The error bits of one printer.
pub(super) fn errors(view: &View<'_>, printer: u32) -> Errors {
    let bytes = view.rows.at(mib::HR_PRINTER_ERRORS, &[printer]).and_then(|value| value.bytes());
    Errors::read(bytes.unwrap_or_default())
}

/// True if a row says that it sleeps to save power.
pub(super) fn is_saving_power(view: &View<'_>) -> bool {
    view.rows.column(mib::PRT_ALERT_CODE).any(|(_, code)| code.number() == Some(codes::POWER_SAVER))
}

fn alerts(view: &View<'_>) -> Vec<Alert> {
    let rows = view.rows;
    let alert = |index: &[u32]| {
        let number = |column| rows.number(column, index);
        Some(Alert {
            index: index.to_vec(),
            device: *index.first()?,
            severity: number(mib::PRT_ALERT_SEVERITY).unwrap_or(WARNING),
            training: number(mib::PRT_ALERT_TRAINING),
            group: number(mib::PRT_ALERT_GROUP).unwrap_or(-1),
            group_index: number(mib::PRT_ALERT_GROUP_INDEX).unwrap_or(-1),
            code: number(mib::PRT_ALERT_CODE)?,
            text: view.text(mib::PRT_ALERT_DESCR, index).unwrap_or_default(),
            bytes: rows.at(mib::PRT_ALERT_DESCR, index).and_then(|v| v.bytes()).unwrap_or_default().to_vec(),
        })
    };
    rows.column(mib::PRT_ALERT_CODE).filter_map(|(index, _)| alert(index)).collect()
}

/// The fault that a row tells, and the bits that say the same.
fn fault(alert: &Alert) -> Option<(Fault, u16)> {
    let is_dummy = alert.group <= 0 && alert.code == 0 && alert.text.is_empty();
    let severity = match alert.severity {
        CRITICAL => Severity::Critical,
        WARNING | WARNING_BINARY => Severity::Warning,
        // other(1): a message, not a fault.
        _ => return None,
    };
    if is_dummy || codes::QUIET.contains(&alert.code) {
        return None;
    }
    let meaning = codes::meaning(alert.code);
    if meaning.is_none() && severity != Severity::Critical && is_status_message(alert) {
        return None;
    }
    let part = codes::part(alert.group);
    let (kind, class, bits) = match (meaning, part) {
        (Some(code), _) => (code.kind, code.class, code.bits),
        // What a maker's own warning is, is not known; it is no broken device.
        (None, Some(part)) if severity == Severity::Critical || part.kind != FaultKind::Error => {
            (part.kind, FaultClass::B, part.bits)
        }
        (None, None) if severity == Severity::Critical => (FaultKind::Error, FaultClass::B, 0),
        (None, _) => (FaultKind::Alarm, FaultClass::C, 0),
    };
    let fault = Fault {
        key: key(alert),
        code: label(&alert.code.to_string()),
        kind,
        class: class_of(alert, kind, class, severity),
        severity,
        location: label(&location(alert)),
        text: label(&alert.text),
        never_cleared: alert.severity == WARNING,
    };
    Some((fault, bits))
}

/// R14: what only warns is logged; what a field engineer must come for is class A; what the device itself wants to be
/// switched off and on for is class D.
fn class_of(alert: &Alert, kind: FaultKind, class: FaultClass, severity: Severity) -> FaultClass {
    if severity != Severity::Critical {
        FaultClass::C
    } else if wants_power_cycle(&alert.text) {
        FaultClass::D
    } else if kind == FaultKind::Error && alert.training == Some(FIELD_SERVICE) {
        FaultClass::A
    } else {
        class
    }
}

/// True if a text says that only switching off and on helps.
pub(crate) fn wants_power_cycle(text: &str) -> bool {
    let text = text.to_lowercase();
    codes::POWER_CYCLE_TEXTS.iter().any(|words| text.contains(words))
}

/// Makers put their panel's messages into the table, under codes of their own.
fn is_status_message(alert: &Alert) -> bool {
    let text = alert.text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    text.is_empty() || alert.training == Some(NO_INTERVENTION) || codes::STATUS_TEXTS.contains(&text.as_str())
}

/// Group, index, code and a digest of the text: rows are numbered anew each time something is reported.
fn key(alert: &Alert) -> FaultKey {
    let digest = Sha256::digest(&alert.bytes);
    let short = hex::encode(digest.get(..4).unwrap_or_default());
    let device = if alert.device == 1 { String::new() } else { format!("{}:", alert.device) };
    let Alert { group, group_index, code, .. } = alert;
    FaultKey(label(&format!("{device}{group}.{group_index}.{code}.{short}")))
}

fn location(alert: &Alert) -> String {
    match (codes::part(alert.group), alert.group_index) {
        (Some(part), index) if index > 0 => format!("{} {index}", part.name),
        (Some(part), _) => part.name.to_owned(),
        (None, _) => String::new(),
    }
}

/// Faults of bits that neither a row nor another bit tells.
fn of_bits(printer: u32, errors: Errors, told: u16) -> Vec<Fault> {
    let device = if printer == 1 { String::new() } else { format!("{printer}:") };
    let left = errors.without(told);
    let is_news = |bit: &&codes::Bit| left.has_any(bit.bit) && !errors.has_any(bit.said_by);
    let fault = |bit: &codes::Bit| Fault {
        key: FaultKey(label(&format!("{device}hr:{}", bit.name))),
        code: label(&format!("hr:{}", bit.name)),
        kind: bit.kind,
        class: bit.class,
        severity: if bit.bit & codes::BLOCKING != 0 { Severity::Critical } else { Severity::Warning },
        location: label(""),
        text: label(bit.name),
        never_cleared: false,
    };
    codes::BITS.iter().filter(is_news).map(fault).collect()
}
