//! What a service desk reads: a subject that says what and where, and a text that says what to do about it. Plain words;
//! what devices say of themselves is marked as theirs.

use std::collections::BTreeSet;

use shared::device::FaultClass;

use super::{AlertFault, Change};

/// Faults that are told in full; of the others only how many there are.
const TOLD_MAX_COUNT: usize = 50;

/// A mail as a person gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Its subject.
    pub subject: String,
    /// Its text, lines ended by line feeds.
    pub text: String,
}

/// Writes one mail on these faults. The caller has at least one.
#[must_use]
pub fn compose(faults: &[AlertFault]) -> Mail {
    let mut text: String = faults.iter().take(TOLD_MAX_COUNT).map(paragraph).collect();
    let more = faults.len().saturating_sub(TOLD_MAX_COUNT);
    if more > 0 {
        text.push_str(&format!("And {more} more: mailfleet faults\n"));
    }
    Mail { subject: subject(faults), text }
}

fn subject(faults: &[AlertFault]) -> String {
    if let [one] = faults {
        let ended = if is_over(one) { "cleared: " } else { "" };
        let model = if one.model.is_empty() { String::new() } else { format!(" ({})", one.model) };
        return format!("{ended}class {} {} at {}: {}{model}", one.class, one.kind, place(one), one.device);
    }
    let over = faults.iter().filter(|fault| is_over(fault)).count();
    let open = faults.len().saturating_sub(over);
    let mut parts: Vec<String> = FaultClass::ALL
        .iter()
        .filter_map(|class| {
            let n = faults.iter().filter(|fault| fault.class == *class && !is_over(fault)).count();
            (n > 0).then(|| format!("{n} of class {class}"))
        })
        .collect();
    if over > 0 {
        parts.push(format!("{over} cleared"));
    }
    let places: BTreeSet<&str> = faults.iter().map(place).collect();
    let mut names: Vec<&str> = places.iter().copied().take(3).collect();
    if places.len() > names.len() {
        names.push("…");
    }
    let count = if open == 0 { String::new() } else { format!("{} faults: ", faults.len()) };
    format!("{count}{} at {}", parts.join(", "), names.join(", "))
}

fn is_over(fault: &AlertFault) -> bool {
    fault.changes.contains(&Change::Cleared)
}

/// A site without a name is named by its agent.
fn place(fault: &AlertFault) -> &str {
    if fault.site.is_empty() { &fault.agent } else { &fault.site }
}

/// What a class means for whoever stands before the machine (R14).
fn meaning(class: FaultClass) -> &'static str {
    match class {
        FaultClass::A => "unusable until service comes",
        FaultClass::B => "one function is unusable",
        FaultClass::C => "for the record, it works",
        FaultClass::D => "unusable until it is switched off and on",
    }
}

fn paragraph(fault: &AlertFault) -> String {
    let device = match fault.model.as_str() {
        "" => format!("{} ({})", fault.device, fault.device_class),
        model => format!("{} ({}, {model})", fault.device, fault.device_class),
    };
    let site = [fault.site.as_str(), &fault.note].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>();
    let lines = [
        ("Site", site.join("; ")),
        ("Agent", fault.agent.clone()),
        ("Device", device),
        ("Serial number", fault.serial.clone()),
        ("Fault", format!("{}, {}, code {}", fault.kind, fault.severity, fault.code)),
        ("Class", format!("{}: {}", fault.class, meaning(fault.class))),
        ("Where", fault.location.clone()),
        ("The device says", fault.text.clone()),
        ("Since", fault.raised_at.to_string()),
        ("Cleared", fault.cleared_at.map_or(String::new(), |at| at.to_string())),
    ];
    let mut text = if is_over(fault) { "CLEARED\n".to_owned() } else { "FAULT\n".to_owned() };
    for (name, value) in lines.into_iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{name:<17}{value}\n"));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::UnixMillis;
    use shared::device::{FaultKind, Severity};

    fn jam(device: &str) -> AlertFault {
        AlertFault {
            changes: BTreeSet::from([Change::Raised]),
            agent: "A0001".into(),
            site: "Tokyo".into(),
            note: "Alpha Ltd, 3rd floor".into(),
            device: device.into(),
            device_class: "mfp".into(),
            model: "RICOH MP C3004".into(),
            serial: "E153M1".into(),
            class: FaultClass::A,
            severity: Severity::Critical,
            kind: FaultKind::Jam,
            code: "8".into(),
            location: "tray 2".into(),
            text: "Paper misfeed".into(),
            raised_at: UnixMillis(1_795_000_000_000),
            cleared_at: None,
        }
    }

    #[test]
    fn one_fault_is_told_with_all_that_a_technician_takes_along() {
        let mail = compose(&[jam("mfp-2")]);
        assert_eq!(mail.subject, "class A jam at Tokyo: mfp-2 (RICOH MP C3004)");
        assert_eq!(
            mail.text,
            "FAULT\nSite             Tokyo; Alpha Ltd, 3rd floor\nAgent            A0001\n\
             Device           mfp-2 (mfp, RICOH MP C3004)\nSerial number    E153M1\n\
             Fault            jam, critical, code 8\nClass            A: unusable until service comes\n\
             Where            tray 2\nThe device says  Paper misfeed\nSince            2026-11-18T11:06:40Z\n\n"
        );
    }

    #[test]
    fn several_faults_are_counted_by_class_and_those_that_ended_apart() {
        let mut over = jam("mfp-3");
        over.changes = Change::ALL.into();
        over.cleared_at = Some(UnixMillis(1_795_000_060_000));
        let other = AlertFault { class: FaultClass::D, site: String::new(), ..jam("mfp-4") };
        let mail = compose(&[jam("mfp-2"), over.clone(), other]);
        assert_eq!(mail.subject, "3 faults: 1 of class A, 1 of class D, 1 cleared at A0001, Tokyo");
        assert!(
            mail.text.contains("CLEARED\n") && mail.text.contains("Cleared          2026-11-18T11:07:40Z")
        );
        assert_eq!(compose(&[over.clone(), over]).subject, "2 cleared at Tokyo");
    }

    #[test]
    fn a_storm_of_faults_makes_no_endless_mail() {
        let faults: Vec<_> = (0..5_000).map(|n| jam(&format!("mfp-{n}"))).collect();
        let mail = compose(&faults);
        assert!(mail.text.len() < 25_000, "{}", mail.text.len());
        assert!(mail.text.ends_with("And 4950 more: mailfleet faults\n"));
    }
}
