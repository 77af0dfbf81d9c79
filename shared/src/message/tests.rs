//! Messages read back, and what they print.

use core::time::Duration;
use std::collections::BTreeSet;

use super::*;
use crate::device::DeviceName;
use crate::id::{Digest, EnvelopeId, Label};
use crate::limits::{
    DEVICE_NAME_MAX_BYTES, DEVICE_UPDATES_MAX_COUNT, LABEL_MAX_BYTES, MODULES_MAX_COUNT,
    SCRIPT_OUTPUT_MAX_BYTES,
};
use crate::time::UnixMillis;
use crate::version::SoftwareVersion;

fn sample() -> VersionReport {
    let module = |name: &str, version: &str, date: &str| ModuleVersion {
        name: Label::lossy(name),
        version: Label::lossy(version),
        date: Label::lossy(date),
        file: FileState::Good,
    };
    VersionReport {
        software: Reported::Exact(SoftwareVersion::parse("1.0.02-0").unwrap()),
        rom_version: Label::lossy("1.5.08"),
        modules: vec![module("abcd", "1.0.00", "2026-01-01"), module("bbb.lib", "1.3.05", "2026-11-29")],
        taken_at: UnixMillis(0),
        line: None,
    }
}

#[test]
fn a_version_report_prints_as_the_text_of_m10() {
    assert_eq!(
        sample().to_string(),
        "Software Version    1.0.02-0\nROM Version         1.5.08\nModules\n\
         abcd                1.0.00      2026-01-01\nbbb.lib             1.3.05      2026-11-29\n"
    );
}

#[test]
fn messages_read_back() {
    let report = Report::Ended(Ended {
        order: EnvelopeId([7; 16]),
        outcome: Outcome::RolledBack(Failure {
            phase: Phase::Post,
            cause: Cause::ScriptExit(3),
            undo_failed: false,
        }),
        output: Some(OutputTail::of(b"no such service\n")),
        versions: sample(),
    });
    assert_eq!(decode_report(&encode(&report)).unwrap(), report);
    let order = Order::Cancel(CancelOrder { orders: vec![EnvelopeId([1; 16])] });
    assert_eq!(decode_order(&encode(&order)).unwrap(), order);
    assert_eq!(decode_order(&encode(&Order::QueryVersions)).unwrap(), Order::QueryVersions);
}

#[test]
fn what_an_install_waits_for_is_told_in_words() {
    let about = Some(Label::lossy("billing: metering run"));
    let waiting = Waiting { reason: WaitReason::Leased, until: UnixMillis(0), about: about.clone() };
    assert_eq!(waiting.to_string(), "a lease is held (billing: metering run)");
    let last = Hindrance { reason: waiting.reason, about };
    let cause = Cause::WaitedTooLong(Some(last));
    assert_eq!(cause.to_string(), "waited until the order expired: a lease is held (billing: metering run)");
}

#[test]
fn bytes_after_a_message_are_refused() {
    let mut bytes = encode(&Order::QueryVersions);
    bytes.push(0);
    assert!(matches!(decode_order(&bytes), Err(MessageError::Trailing { extra: 1 })));
}

#[test]
fn a_version_report_has_a_bounded_number_of_modules() {
    let report = |count| {
        let mut versions = sample();
        versions.modules = versions.modules.iter().cycle().take(count).cloned().collect();
        encode(&Report::Versions(Versions { query: None, versions }))
    };
    assert!(decode_report(&report(MODULES_MAX_COUNT)).is_ok());
    let err = decode_report(&report(MODULES_MAX_COUNT + 1)).unwrap_err();
    assert!(crate::error::chain(&err).contains("more modules"), "{err:?}");
}

#[test]
fn a_field_of_a_later_version_is_skipped() {
    // {0: "A1", 99: true}: minicbor's map form ignores keys that it does not know.
    let bytes = [0xa2, 0x00, 0x62, b'A', b'1', 0x18, 0x63, 0xf5];
    let enrolled: Enrolled = minicbor::decode(&bytes).unwrap();
    assert_eq!(enrolled.agent.as_str(), "A1");
}

#[test]
fn script_output_cannot_drive_a_terminal() {
    let tail = OutputTail::of(b"\x1b[2Jhello\r\n\tworld\x07\xff");
    assert_eq!(tail.as_str(), "[2Jhello\n\tworld\u{fffd}");
    assert_eq!(OutputTail::of(&vec![b'x'; 20_000]).as_str().len(), SCRIPT_OUTPUT_MAX_BYTES);
}

fn update(text: &Label) -> DeviceUpdate {
    let some = || Some(text.clone());
    DeviceUpdate {
        device: DeviceName::parse(&"d".repeat(DEVICE_NAME_MAX_BYTES)).unwrap(),
        kind: text.clone(),
        vendor: some(),
        model: some(),
        serial: some(),
        old: some(),
        new: some(),
        state: UpdateState::Deferred,
        reason: Some(UpdateReason::DeviceDefers),
        about: some(),
        begins: Some(UnixMillis(i64::MAX)),
        ends: Some(UnixMillis(i64::MAX)),
        sent_bytes: u64::MAX,
        bytes: u64::MAX,
        rate: Some(u64::MAX),
        transfers: u32::MAX,
        since: UnixMillis(i64::MAX),
    }
}

#[test]
fn plans_and_updates_of_devices_read_back() {
    let mut plan =
        DevicePlan::for_all(Digest([1; 32]), UnixMillis(1), UnixMillis(9), Duration::from_secs(600));
    let device = DeviceName::parse("mfp-1").unwrap();
    let choice = DeviceChoice { action: DeviceAction::Suspend, not_before: None, transfers_allowed: 2 };
    plan.devices.insert(device.clone(), choice);
    plan.rest = Rest::Leave;
    let order = Order::DevicePlan(plan.clone());
    assert_eq!(decode_order(&encode(&order)).unwrap(), order);
    assert_eq!(plan.choice(&device), Some(choice));
    assert_eq!(plan.choice(&DeviceName::parse("mfp-2").unwrap()), None);
    assert_eq!(plan.defer_step(), Duration::from_secs(600));
    let updates = vec![update(&Label::lossy("main"))];
    let (plan, bundle) = (EnvelopeId([2; 16]), Digest([1; 32]));
    let report = Report::DeviceUpdates(DeviceUpdates { plan, bundle, all: true, updates });
    assert_eq!(decode_report(&encode(&report)).unwrap(), report);
}

#[test]
fn as_many_updates_as_an_agent_keeps_fit_a_report_and_more_are_refused() {
    let row = update(&Label::lossy(&"x".repeat(LABEL_MAX_BYTES)));
    let report = |count| {
        let updates = vec![row.clone(); count];
        let (plan, bundle) = (EnvelopeId([2; 16]), Digest([1; 32]));
        encode(&Report::DeviceUpdates(DeviceUpdates { plan, bundle, all: true, updates }))
    };
    assert!(decode_report(&report(DEVICE_UPDATES_MAX_COUNT)).is_ok());
    let err = decode_report(&report(DEVICE_UPDATES_MAX_COUNT + 1)).unwrap_err();
    assert!(crate::error::chain(&err).contains("longer than it may be"), "{err:?}");
}

#[test]
fn a_device_that_a_plan_names_twice_is_refused() {
    let plan = DevicePlan::for_all(Digest([1; 32]), UnixMillis(1), UnixMillis(9), Duration::ZERO);
    let mut bytes = encode(&Order::DevicePlan(plan));
    // The empty map of devices, and the rest behind it.
    assert_eq!(bytes.split_off(bytes.len() - 4), [0x07, 0xa0, 0x08, 0x00]);
    bytes.extend([0x07, 0xa2, 0x61, b'a', 0xa2, 0, 0, 2, 1, 0x61, b'a', 0xa2, 0, 0, 2, 1, 0x08, 0x00]);
    let err = decode_order(&bytes).unwrap_err();
    assert!(crate::error::chain(&err).contains("a key twice"), "{err:?}");
}

#[test]
fn words_for_states_and_reasons_are_all_different() {
    let states: BTreeSet<_> = UpdateState::ALL.iter().map(|state| state.as_str()).collect();
    let reasons: BTreeSet<_> = UpdateReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!((states.len(), reasons.len()), (UpdateState::ALL.len(), UpdateReason::ALL.len()));
}
