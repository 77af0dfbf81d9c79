//! What is wrong with a printer now: its `printer-state-reasons`. Its alerts (`printer-alert`, PWG 5100.9), which many do not
//! have, lend them place and text, and tell two empty trays apart.

use std::collections::BTreeMap;

use shared::device::{Fault, FaultClass, FaultKey, FaultKind, Severity, Status};
use shared::id::Label;

use super::super::wire::{Attributes, Value};
use super::reasons::{self, Meaning};
use super::{pairs, texts};
use crate::snmp::wants_power_cycle;

/// `printer-state`.
const PROCESSING: i64 = 4;
const STOPPED: i64 = 5;

/// One reason without its suffix.
struct Reason {
    word: String,
    severity: Severity,
    /// It says itself that it is only to be known.
    is_report: bool,
}

/// One alert.
struct Alert<'a> {
    fields: BTreeMap<String, &'a str>,
    text: &'a str,
}

/// What is wrong with it.
pub(super) fn faults(attributes: &Attributes) -> Vec<Fault> {
    let alerts = alerts(attributes);
    let message = attributes.text(texts::STATE_MESSAGE);
    let reasons: Vec<Reason> = reasons(attributes).into_iter().filter(|reason| !is_quiet(reason)).collect();
    let only = reasons.len() == 1;
    let mut faults: Vec<Fault> = Vec::new();
    for reason in &reasons {
        let mine: Vec<&Alert<'_>> =
            alerts.iter().filter(|alert| reasons::is_same(&reason.word, alert.field("code"))).collect();
        let mut add = |alert: Option<&Alert<'_>>| {
            let fault = fault(reason, alert, message.filter(|_| only));
            if !faults.iter().any(|known| known.key == fault.key) {
                faults.push(fault);
            }
        };
        if mine.is_empty() {
            add(None);
        }
        for alert in mine {
            add(Some(alert));
        }
    }
    faults
}

/// What it does. A printer that stands still says why in its reasons.
pub(super) fn status(attributes: &Attributes, faults: &[Fault]) -> Status {
    let is = |test: fn(&str) -> bool| reasons(attributes).iter().any(|reason| test(&reason.word));
    let is_off = |fault: &Fault| fault.kind == FaultKind::Offline;
    match attributes.number(texts::STATE) {
        Some(STOPPED) if !faults.is_empty() && faults.iter().all(is_off) => Status::Offline,
        Some(STOPPED) => Status::Down,
        Some(PROCESSING) => Status::Busy,
        _ if is(|word| word.ends_with("-warming-up")) => Status::WarmingUp,
        _ if !faults.is_empty() => Status::Warning,
        _ if is(reasons::is_asleep) => Status::Sleeping,
        Some(_) => Status::Idle,
        None => Status::Unknown,
    }
}

fn is_quiet(reason: &Reason) -> bool {
    reason.is_report || reasons::is_quiet(&reason.word)
}

fn reasons(attributes: &Attributes) -> Vec<Reason> {
    let is_stopped = attributes.number(texts::STATE) == Some(STOPPED);
    let read = |text: &str| {
        let suffixes =
            [("-error", Severity::Critical), ("-warning", Severity::Warning), ("-report", Severity::Info)];
        let suffix =
            suffixes.iter().find_map(|(suffix, severity)| Some((text.strip_suffix(suffix)?, *severity)));
        // RFC 8011: without a suffix it is an error, and then the printer stands still. Many warn without one.
        let bare = if is_stopped { Severity::Critical } else { Severity::Warning };
        let (word, severity) = suffix.unwrap_or((text, bare));
        Reason { word: word.to_owned(), severity, is_report: severity == Severity::Info }
    };
    attributes.texts(texts::STATE_REASONS).map(str::trim).filter(|text| !text.is_empty()).map(read).collect()
}

fn alerts(attributes: &Attributes) -> Vec<Alert<'_>> {
    let said = attributes.all(texts::ALERT_DESCRIPTION);
    let alert = |(at, fields)| {
        let text = said.get(at).and_then(Value::text).unwrap_or_default();
        Alert { fields: pairs(fields), text }
    };
    attributes.texts(texts::ALERT).enumerate().map(alert).collect()
}

impl Alert<'_> {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).copied().unwrap_or_default()
    }

    /// `input 2`: the group of the Printer-MIB, and which of it.
    fn location(&self) -> String {
        let mut group = String::new();
        for c in self.field("group").chars() {
            if c.is_ascii_uppercase() {
                group.push(' ');
            }
            group.push(c.to_ascii_lowercase());
        }
        match self.field("groupindex").parse::<u32>() {
            Ok(index) if index > 0 && !group.is_empty() => format!("{group} {index}"),
            _ => group,
        }
    }
}

fn fault(reason: &Reason, alert: Option<&Alert<'_>>, message: Option<&str>) -> Fault {
    let label = Label::lossy;
    let location = alert.map(Alert::location).unwrap_or_default();
    let said = alert.map(|alert| alert.text).filter(|text| !text.is_empty()).or(message);
    let place = if location.is_empty() { String::new() } else { format!(":{}", location.replace(' ', "-")) };
    let meaning = reasons::meaning(&reason.word);
    Fault {
        // Neither severity nor text: a warning that becomes an error is the same fault.
        key: FaultKey(label(&format!("ipp:{}{place}", reason.word))),
        code: label(&format!("ipp:{}", reason.word)),
        kind: meaning.map_or(FaultKind::Alarm, |meaning| meaning.kind),
        class: class(reason, meaning, alert, said.unwrap_or_default()),
        severity: reason.severity,
        location: label(&location),
        text: label(said.unwrap_or(&reason.word.replace('-', " "))),
        never_cleared: false,
    }
}

/// R14, as for printers by SNMP.
fn class(reason: &Reason, meaning: Option<Meaning>, alert: Option<&Alert<'_>>, said: &str) -> FaultClass {
    if reason.severity != Severity::Critical {
        return FaultClass::C;
    }
    if wants_power_cycle(said) {
        return FaultClass::D;
    }
    let needs_service = alert.is_some_and(|alert| alert.field("training") == "fieldService");
    match meaning {
        Some(Meaning { kind: FaultKind::Error, .. }) if needs_service => FaultClass::A,
        Some(meaning) => meaning.class,
        None => FaultClass::B,
    }
}
