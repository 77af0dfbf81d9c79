//! Orders and reports: the CBOR inside a body that was opened.

use manager_core::probe::Expectation;
use manager_core::rows::{AgentCells, version_rows};
use shared::AgentId;
use shared::limits::{DEVICE_UPDATES_MAX_COUNT, MODULES_MAX_COUNT, SCRIPT_OUTPUT_MAX_BYTES};
use shared::message::{
    Outcome, OutputTail, Report, Step, TestResult, VersionReport, decode_order, decode_report, encode,
};

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
            ended.output.iter().for_each(bounded);
            versions(&ended.versions);
        }
        Report::Versions(report) => versions(&report.versions),
        Report::Enrol(request) => harmless(request.agent_version.as_str()),
        Report::Progress(progress) => {
            if let Step::Waiting(waiting) = &progress.step {
                harmless(&waiting.to_string());
            }
        }
        Report::Tested(tested) => of_test(&tested.result),
        Report::Parts(ask) => harmless(ask.about().as_str()),
        Report::Cancelled(_)
        | Report::Standing(_)
        | Report::Rekeyed(_)
        | Report::Faults(_)
        | Report::Counters(_)
        | Report::Fetch(_) => {}
        Report::DeviceUpdates(report) => {
            assert!(report.updates.len() <= DEVICE_UPDATES_MAX_COUNT);
            for update in &report.updates {
                let about = [&update.old, &update.new, &update.about].into_iter().flatten();
                about.for_each(|text| harmless(text.as_str()));
                harmless(update.kind.as_str());
            }
        }
    }
}

fn of_test(result: &TestResult) {
    harmless(&result.to_string());
    match result {
        TestResult::Exit(_, output) | TestResult::Signal(_, output) | TestResult::TimedOut(_, output) => {
            bounded(output);
        }
        TestResult::NotRun(_) | TestResult::OtherVersion(_) => {}
    }
    let expected = Expectation { exit: 0, output: Some("ready".to_owned()), limit_ms: 1_000 };
    if let Err(found) = expected.compare(result) {
        assert!(found.len() <= 4 * SCRIPT_OUTPUT_MAX_BYTES, "{} bytes of reason", found.len());
    }
}

fn bounded(output: &OutputTail) {
    assert!(output.as_str().len() <= SCRIPT_OUTPUT_MAX_BYTES);
    let drives = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    assert!(!output.as_str().contains(drives), "control characters in a program's output");
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
