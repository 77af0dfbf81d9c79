//! Envelopes, messages, bundles.

use core::time::Duration;
use std::io::{Cursor, Read as _};

use fuzz_targets::{Counting, known_trust, old_file, opening_key, release_key, sender_key};
use shared::bundle::spec::SourceFile;
use shared::bundle::{
    BaseFile, BundleReader, BundleSpec, Compression, Entry, FileEntry, Form, Manifest, pack, pack_delta,
    patch, write_head,
};
use shared::device::DeviceName;
use shared::envelope::{NewSmall, seal_small};
use shared::keys::SigningKey;
use shared::message::{
    CancelAnswer, CancelOrder, CancelResult, Cause, DeviceAction, DeviceChoice, DevicePlan, DeviceUpdate,
    DeviceUpdates, Ended, EnrolRequest, Enrolled, Failure, Fetch, FileState, Heartbeat, InstallOrder,
    Interval, ModuleVersion, Order, Outcome, OutputTail, PartsWanted, Phase, Progress, Refusal, Report,
    Reported, Schedule, Standing, Step, TestOrder, TestResult, Tested, UpdateReason, UpdateState,
    VersionReport, Versions, WaitReason, Waiting, encode,
};
use shared::trust::{Statement, Trust};
use shared::{AgentId, Digest, EnvelopeId, Label, MailAddress, SoftwareVersion, Spans, UnixMillis};

use crate::Seed;

const BUNDLE: &str = r#"software_version = "1.0.02-0"
from = ["1.0.00-1"]
classes = ["office-gateway"]
settle = "10m"
script = "install.sh"

[[module]]
name = "abcd"
version = "1.0.00"
date = "2026-01-01"
file = "modules/abcd"
path = "bin/abcd"
mode = "0755"
kind = "resident"

[[module]]
name = "bbb.lib"
version = "1.3.05"
date = "2026-11-29"
file = "modules/bbb.lib"
path = "lib/bbb.lib"
mode = "0644"
kind = "library"
"#;

pub(crate) fn envelope(message: &[u8]) -> Vec<u8> {
    let new = NewSmall {
        id: EnvelopeId([5; 16]),
        created: UnixMillis(1_795_000_000_000),
        expires: UnixMillis(1_796_209_600_000),
        sequence: 42,
    };
    let recipients = [opening_key().sealing_key()];
    seal_small(&new, message, &recipients, &sender_key(), &mut Counting::default()).unwrap()
}

fn orders() -> [(&'static str, Order); 5] {
    let heartbeat = Heartbeat { every_ms: 604_800_000 };
    let install = InstallOrder {
        bundle: Digest([6; 32]),
        bundle_bytes: 1234,
        software_version: SoftwareVersion::parse("1.0.02-0").unwrap(),
        scheduled: false,
        delta: None,
    };
    [
        (
            "enrolled",
            Order::Enrolled(Enrolled { agent: AgentId::parse("A0001").unwrap(), heartbeat: Some(heartbeat) }),
        ),
        ("heartbeat", Order::Heartbeat(heartbeat)),
        ("install", Order::Install(install)),
        ("query", Order::QueryVersions),
        ("cancel", Order::Cancel(CancelOrder { orders: vec![EnvelopeId([7; 16]), EnvelopeId([8; 16])] })),
    ]
}

/// Orders that say when, and whether it works.
fn planned() -> [(&'static str, Order); 4] {
    let software_version = SoftwareVersion::parse("1.0.02-0").unwrap();
    let at = |hours: i64| UnixMillis(1_795_000_000_000 + hours * 3_600_000);
    let (bundle, bundle_bytes) = (Digest([6; 32]), 1234);
    let schedule = Schedule {
        bundle,
        software_version: software_version.clone(),
        bundle_bytes,
        not_before: at(0),
        intervals: vec![Interval { from: at(11), until: at(18) }, Interval { from: at(35), until: at(42) }],
        defer_until: Some(at(40)),
        fetch: true,
    };
    let test = TestOrder { software_version: software_version.clone() };
    let install = InstallOrder { bundle, bundle_bytes, software_version, scheduled: true, delta: None };
    [
        ("schedule", Order::Schedule(schedule)),
        ("scheduled", Order::Install(install)),
        ("test", Order::Test(test)),
        ("device-plan", Order::DevicePlan(device_plan(bundle, at(0), at(300)))),
    ]
}

fn device_plan(bundle: Digest, from: UnixMillis, until: UnixMillis) -> DevicePlan {
    let mut plan = DevicePlan::for_all(bundle, from, until, Duration::from_secs(1_800));
    let choice =
        DeviceChoice { action: DeviceAction::Suspend, not_before: Some(until), transfers_allowed: 2 };
    plan.devices.insert(DeviceName::parse("mfp-1").unwrap(), choice);
    plan.intervals = vec![Interval { from, until }];
    plan
}

fn device_update() -> DeviceUpdate {
    DeviceUpdate {
        device: DeviceName::parse("mfp-1").unwrap(),
        kind: Label::lossy("main"),
        vendor: None,
        model: Some(Label::lossy("Alpha 2500")),
        serial: Some(Label::lossy("=cmd()")),
        old: Some(Label::lossy("2.05")),
        new: Some(Label::lossy("2.07")),
        state: UpdateState::Unknown,
        reason: Some(UpdateReason::StillOld),
        about: None,
        begins: Some(UnixMillis(1_795_000_000_000)),
        ends: None,
        sent_bytes: 30_000_000,
        bytes: 30_000_000,
        rate: Some(1_000_000),
        transfers: 1,
        since: UnixMillis(1_795_000_060_000),
    }
}

fn versions() -> VersionReport {
    let module = |name: &str, file| ModuleVersion {
        name: Label::lossy(name),
        version: Label::lossy("1.0.00"),
        date: Label::lossy("2026-01-01"),
        file,
    };
    VersionReport {
        software: Reported::Mixed(SoftwareVersion::parse("1.0.02-0").unwrap()),
        rom_version: Label::lossy("1.5.08"),
        modules: vec![module("abcd", FileState::Good), module("=cmd()", FileState::Missing)],
        taken_at: UnixMillis(1_795_000_000_000),
        line: None,
    }
}

pub(crate) fn enrol_request() -> EnrolRequest {
    EnrolRequest {
        agent: AgentId::parse("A0001").unwrap(),
        secret: [1; 32],
        sign_key: sender_key().verifying_key().to_bytes(),
        seal_key: opening_key().sealing_key().to_bytes(),
        mail: MailAddress::parse("a0001@lab.test").unwrap(),
        agent_version: Label::lossy("0.1.0"),
    }
}

fn reports() -> [(&'static str, Report); 11] {
    let order = EnvelopeId([7; 16]);
    let about = Some(Label::lossy("billing: metering run"));
    let waiting = Waiting { reason: WaitReason::Leased, until: UnixMillis(1_795_000_060_000), about };
    let failure = Failure { phase: Phase::Post, cause: Cause::ScriptExit(3), undo_failed: true };
    let ended = |outcome, output| Report::Ended(Ended { order, outcome, output, versions: versions() });
    let refusal = Refusal::BadBundle(Label::lossy("cut off"));
    [
        ("enrol", Report::Enrol(enrol_request())),
        ("waiting", Report::Progress(Progress { order, step: Step::Waiting(waiting) })),
        ("rolled-back", ended(Outcome::RolledBack(failure), Some(OutputTail::of(b"no such\n\tservice\n")))),
        ("refused", ended(Outcome::Refused(refusal), None)),
        ("versions", Report::Versions(Versions { query: Some(order), versions: versions() })),
        ("standing", Report::Standing(Standing { trust_version: 2, unheard_since: Some(UnixMillis(1)) })),
        ("fetch", Report::Fetch(Fetch { schedule: order, bundle: Digest([6; 32]) })),
        (
            "tested",
            Report::Tested(Tested { order, result: TestResult::Exit(3, OutputTail::of(b"no port\n")) }),
        ),
        (
            "parts",
            Report::Parts(PartsWanted {
                order,
                body_bytes: 50_000_000,
                missing: Spans::all(7_000_000),
                here: None,
            }),
        ),
        (
            "device-updates",
            Report::DeviceUpdates(DeviceUpdates {
                plan: order,
                bundle: Digest([6; 32]),
                all: true,
                updates: vec![device_update()],
            }),
        ),
        ("cancelled", Report::Cancelled(CancelAnswer { order, result: CancelResult::TooLate })),
    ]
}

fn packed(compression: Compression) -> (Manifest, Vec<u8>) {
    let spec = BundleSpec::parse(BUNDLE).unwrap();
    let mut payload = Vec::new();
    let mut open = |source: &SourceFile| {
        let text = format!("content of {}, content of {}\n", source.path, source.path);
        Ok(Cursor::new(text.into_bytes()))
    };
    let created = UnixMillis(1_795_000_000_000);
    let manifest = pack(&spec, compression, 9, created, &mut open, &mut payload, &mut |_| {}).unwrap();
    (manifest, payload)
}

/// A delta of a bundle, as it is mailed: both modules were the harness's older file.
fn delta(manifest: &Manifest) -> Vec<u8> {
    let new = |path: &str| {
        if path == "install.sh" {
            return path.as_bytes().to_vec();
        }
        let mut content = old_file();
        content.splice(300..300, path.bytes());
        content
    };
    let spec = BundleSpec::parse(BUNDLE).unwrap();
    let mut full = Vec::new();
    let mut open = |source: &SourceFile| Ok(Cursor::new(new(source.path.as_str())));
    let created = UnixMillis(1_795_000_000_000);
    let mut manifest =
        pack(&spec, manifest.compression, 9, created, &mut open, &mut full, &mut |_| {}).unwrap();
    let mut payload = Vec::new();
    let made = pack_delta(
        &manifest,
        &SoftwareVersion::parse("1.0.00-1").unwrap(),
        9,
        &mut |module| {
            let (content, mut entry) = (old_file(), module.clone());
            entry.file = FileEntry { bytes: content.len() as u64, digest: Digest::of(&content) };
            Ok(Some(BaseFile { entry, content }))
        },
        &mut |entry| {
            Ok(Cursor::new(new(match entry {
                Entry::Script(_) => "install.sh",
                Entry::Module(module) if module.name.as_str() == "abcd" => "modules/abcd",
                Entry::Module(_) => "modules/bbb.lib",
            })))
        },
        &mut payload,
    );
    let delta = made.unwrap().unwrap();
    assert_eq!(delta.patches.len(), 2);
    manifest.deltas.push(delta);
    let head = write_head(&manifest, &[&release_key()]).unwrap();
    let bundle = BundleReader::open(Cursor::new([head, full, payload].concat())).unwrap();
    let mut delta = Vec::new();
    bundle.inspect_unverified().unwrap().into_form(Form::Delta(0)).unwrap().read_to_end(&mut delta).unwrap();
    delta
}

/// `size of the older file, the older file`, patch: see `bundle_patch`.
fn bare_patch(old: &[u8], new: &[u8]) -> Vec<u8> {
    let bytes = u16::try_from(old.len()).unwrap().to_be_bytes();
    [bytes.as_slice(), old, &patch::make(old, new).unwrap()].concat()
}

/// `mode, size of the script, of both modules`, payload: see `bundle_payload`.
fn bare_payload(mode: u8, manifest: &Manifest, payload: &[u8]) -> Vec<u8> {
    let files = [manifest.script.unwrap()].into_iter().chain(manifest.modules.iter().map(|m| m.file));
    let mut seed = vec![mode];
    files.for_each(|file| seed.extend(u32::try_from(file.bytes).unwrap().to_be_bytes().iter().skip(1)));
    seed.extend_from_slice(payload);
    seed
}

/// A second order key, and the release key with another one.
fn next_trust(version: u32) -> Trust {
    let key = |seed| SigningKey::from_seed(&[seed; 32]).verifying_key();
    let mut trust = known_trust();
    (trust.version, trust.made) = (version, UnixMillis(1_795_000_000_000));
    trust.order_keys.push(key(11));
    trust.release_keys.push(key(12));
    trust
}

fn trust_seeds() -> Vec<Seed> {
    let mut statement = Statement::unsigned(&next_trust(2));
    statement.sign(&release_key());
    let mut later = Statement::unsigned(&next_trust(7));
    later.sign(&release_key());
    later.sign(&SigningKey::from_seed(&[12; 32]));
    let both = [statement.to_bytes(), later.to_bytes()].concat();
    let introduced = [both.as_slice(), &envelope(&encode(&Order::QueryVersions))].concat();
    vec![
        ("trust_statements", "one", statement.to_bytes()),
        ("trust_statements", "two", both),
        ("trust_signed", "two-release-keys", encode(&next_trust(2))),
        ("envelope_head", "introduced", introduced),
    ]
}

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = trust_seeds();
    for (name, order) in orders() {
        let message = encode(&order);
        let envelope = envelope(&message);
        let header_bytes = u32::from_be_bytes(envelope.get(16..20).unwrap().try_into().unwrap());
        let header = envelope.get(20..20 + usize::try_from(header_bytes).unwrap()).unwrap();
        let plain = [&u32::try_from(message.len()).unwrap().to_be_bytes(), message.as_slice()].concat();
        seeds.push(("envelope_header", name, header.to_vec()));
        seeds.push(("envelope_body", name, [&[0; 6], plain.as_slice()].concat()));
        seeds.push(("envelope_head", name, envelope));
        seeds.push(("message_order", name, message));
    }
    seeds.extend(planned().map(|(name, order)| ("message_order", name, encode(&order))));
    // A payload of two chunks behind a message of one byte.
    seeds.push(("envelope_body", "two-chunks", [0, 240, 0, 0, 0, 0, 0, 0, 0, 1, 9].to_vec()));
    seeds.extend(reports().map(|(name, report)| ("message_report", name, encode(&report))));
    for (name, compression, mode) in [("deflate", Compression::Deflate, 0), ("zstd", Compression::Zstd, 1)] {
        let (manifest, payload) = packed(compression);
        let head = write_head(&manifest, &[&release_key()]).unwrap();
        seeds.push(("bundle_file", name, [head, payload.clone()].concat()));
        seeds.push(("bundle_manifest", name, encode(&manifest)));
        seeds.push(("bundle_payload", name, bare_payload(mode, &manifest, &payload)));
        seeds.push(("bundle_file", if mode == 0 { "delta-deflate" } else { "delta-zstd" }, delta(&manifest)));
    }
    let (old, mut new) = (old_file(), old_file());
    new.iter_mut().step_by(90).for_each(|byte| *byte = byte.wrapping_add(4));
    new.rotate_left(400);
    seeds.push(("bundle_patch", "moved", bare_patch(&old, &new)));
    seeds.push(("bundle_patch", "new", bare_patch(b"", b"all of it")));
    seeds.push(("toml_bundle", "manual", BUNDLE.as_bytes().to_vec()));
    seeds
}
