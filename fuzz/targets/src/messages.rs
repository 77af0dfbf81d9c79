//! Orders and reports: the CBOR inside a body that was opened.

use manager_core::rows::{AgentCells, version_rows};
use shared::AgentId;
use shared::limits::{MODULES_MAX_COUNT, SCRIPT_OUTPUT_MAX_BYTES};
use shared::message::{Outcome, Report, Step, VersionReport, decode_order, decode_report, encode};

use crate::harness::{harmless, told};

pub(crate) fn order(data: &[u8]) -> bool {
    match decode_order(data) {
        Ok(order) => {
            let again = encode(&order);
            assert!(again.len() <= data.len(), "no longer than it came");
            assert_eq!(decode_order(&again).ok(), Some(order), "an order reads back");
            true
        }
        Err(err) => {
            told(&err);
            false
        }
    }
}

pub(crate) fn report(data: &[u8]) -> bool {
    match decode_report(data) {
        Ok(report) => {
            let again = encode(&report);
            assert!(again.len() <= data.len(), "no longer than it came");
            assert_eq!(decode_report(&again).ok().as_ref(), Some(&report), "a report reads back");
            shown(&report);
            true
        }
        Err(err) => {
            told(&err);
            false
        }
    }
}

/// What a manager shows of a report, and writes into CSV.
fn shown(report: &Report) {
    match report {
        Report::Ended(ended) => {
            match &ended.outcome {
                Outcome::RolledBack(failure) | Outcome::Damaged(failure) => harmless(&failure.to_string()),
                Outcome::Refused(refusal) => harmless(&refusal.to_string()),
                Outcome::Installed | Outcome::AlreadyInstalled => {}
            }
            if let Some(output) = &ended.output {
                assert!(output.as_str().len() <= SCRIPT_OUTPUT_MAX_BYTES);
                let drives = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
                assert!(!output.as_str().contains(drives), "control characters in a script's output");
            }
            versions(&ended.versions);
        }
        Report::Versions(report) => versions(&report.versions),
        Report::Enrol(request) => harmless(request.agent_version.as_str()),
        Report::Progress(progress) => {
            if let Step::Waiting(waiting) = &progress.step {
                harmless(&waiting.to_string());
            }
        }
        Report::Cancelled(_)
        | Report::Standing(_)
        | Report::Rekeyed(_)
        | Report::Faults(_)
        | Report::Counters(_) => {}
    }
}

fn versions(report: &VersionReport) {
    assert!(report.modules.len() <= MODULES_MAX_COUNT);
    assert_eq!(report.to_string().lines().count(), report.modules.len().saturating_add(3));
    let Ok(agent) = AgentId::parse("A1") else { return };
    for row in version_rows(&agent, &AgentCells::default(), report, "") {
        for cell in [row.software_version, row.rom_version, row.module, row.module_version, row.module_date] {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "a spreadsheet would run {cell:?}");
        }
    }
}
