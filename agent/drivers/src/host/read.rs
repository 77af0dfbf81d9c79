//! What a computer says of itself becomes an observation. Pure.

use sha2::{Digest, Sha256};
use shared::device::{
    Counter, DeviceClass, Fault, FaultClass, FaultKey, FaultKind, FaultsRead, Firmware, Identity, Measure,
    Observation, Severity, Status, Unit, Uptime,
};
use shared::hex;
use shared::id::Label;
use shared::time::UnixMillis;

use super::text;
use crate::Depth;

/// From so many hundredths on a disk is called full.
const FULL_PERCENT: u64 = 95;
/// From so many hundredths on programs can be expected to fail.
const FAILING_PERCENT: u64 = 99;

/// What was found, as far as it was there.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) host: Option<String>,
    pub(super) vendor: Option<String>,
    pub(super) model: Option<String>,
    pub(super) serial: Option<String>,
    pub(super) machine_id: Option<String>,
    pub(super) os_release: Option<String>,
    pub(super) kernel: Option<String>,
    pub(super) firmware: Option<String>,
    pub(super) up_ms: Option<u64>,
    pub(super) load_percent: Option<u64>,
    pub(super) busy_percent: Option<u64>,
    /// Used, and in all.
    pub(super) memory_bytes: Option<(u64, u64)>,
    pub(super) disks: Vec<Disk>,
    pub(super) failed_units: Vec<String>,
    pub(super) programs: Vec<Program>,
    pub(super) left_out: Vec<String>,
    /// Something that tells of faults is among that.
    pub(super) faults_unread: bool,
}

impl Found {
    /// Something that tells of faults could not be read: those that are open do not end by this look.
    pub(super) fn unread(&mut self, what: String) {
        self.left_out.push(what);
        self.faults_unread = true;
    }
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) place: String,
    pub(super) used_bytes: u64,
    /// What programs without special rights can still write.
    pub(super) free_bytes: u64,
    pub(super) size_bytes: u64,
    pub(super) fell_read_only: bool,
}

/// A program that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) processes: u64,
    /// How long the oldest of them runs.
    pub(super) seconds: u64,
}

impl Disk {
    /// As `df` works it out: of what programs without special rights can use.
    fn used_percent(&self) -> u64 {
        let usable = self.used_bytes.saturating_add(self.free_bytes);
        self.used_bytes.saturating_mul(100).checked_div(usable).unwrap_or(0)
    }
}

/// What it says, in our words.
pub(super) fn observation(found: &Found, depth: Depth, taken_at: UnixMillis) -> Observation {
    let mut seen = Observation::of(DeviceClass::Pc, taken_at);
    seen.identity = identity(found);
    seen.uptime = found.up_ms.map(|up_ms| Uptime { up_ms, wraps_after_ms: None, of_host: true });
    seen.faults = found.disks.iter().flat_map(disk_faults).collect();
    if found.faults_unread {
        seen.faults_read = FaultsRead::Unreadable;
    }
    seen.faults.extend(found.failed_units.iter().map(|unit| unit_fault(unit)));
    // It answers, so it runs; how busy it is, its load says.
    seen.status = if seen.faults.is_empty() { Status::Idle } else { Status::Warning };
    if depth == Depth::Full {
        seen.counters = counters(found);
    }
    seen.left_out = found.left_out.iter().map(|text| Label::lossy(text)).collect();
    seen.bound();
    seen
}

fn identity(found: &Found) -> Identity {
    // What boards say whose maker has filled nothing in.
    let is_said = |text: &&String| {
        let text = text.to_lowercase();
        !["", "none", "default string", "system serial number", "not specified", "0"].contains(&text.as_str())
            && !text.contains("o.e.m.")
    };
    let label = |text: &Option<String>| text.as_ref().filter(is_said).map(|text| Label::lossy(text));
    let system = found.os_release.as_deref().and_then(|text| text::os_release(text, "PRETTY_NAME"));
    let versions =
        [("system", system), ("kernel", found.kernel.as_deref()), ("bios", found.firmware.as_deref())];
    let firmware = versions.iter().filter_map(|(component, version)| {
        Some(Firmware { component: Label::lossy(component), version: Label::lossy((*version)?) })
    });
    Identity {
        vendor: label(&found.vendor),
        model: label(&found.model),
        serial: label(&found.serial).or_else(|| found.machine_id.as_deref().map(pseudonym)),
        host: label(&found.host),
        description: system.map(Label::lossy),
        firmware: firmware.collect(),
    }
}

/// A name made of the machine ID, which itself is not to be told (machine-id(5)).
fn pseudonym(machine_id: &str) -> Label {
    let digest = Sha256::digest(format!("mailfleet host\n{machine_id}"));
    Label::lossy(&format!("machine-{}", hex::encode(digest.get(..8).unwrap_or_default())))
}

fn counters(found: &Found) -> Vec<Counter> {
    let mut all = Vec::new();
    let mut add = |name: &str, of: Option<(&str, &str)>, value: u64, unit: Unit| {
        let labels = of.map(|(key, value)| (Label::lossy(key), Label::lossy(value)));
        all.push(Counter {
            name: Label::lossy(name),
            labels: labels.into_iter().collect(),
            value,
            unit,
            measure: Measure::Gauge,
        });
    };
    if let Some(percent) = found.busy_percent {
        add("cpu-busy", None, percent, Unit::Percent);
    }
    if let Some(percent) = found.load_percent {
        add("load", Some(("minutes", "15")), percent, Unit::Percent);
    }
    if let Some((used, size)) = found.memory_bytes {
        add("memory-size", None, size, Unit::Bytes);
        add("memory-used", None, used, Unit::Bytes);
    }
    for disk in &found.disks {
        let of = Some(("disk", disk.place.as_str()));
        add("disk-size", of, disk.size_bytes, Unit::Bytes);
        add("disk-used", of, disk.used_bytes, Unit::Bytes);
    }
    for program in &found.programs {
        let of = Some(("program", program.name.as_str()));
        add("program-running", of, program.processes.min(1), Unit::Items);
        add("program-seconds", of, program.seconds, Unit::Seconds);
    }
    all
}

fn disk_faults(disk: &Disk) -> Vec<Fault> {
    let mut faults = Vec::new();
    let percent = disk.used_percent();
    // Numbers in a text would make it another one each minute.
    if percent >= FAILING_PERCENT {
        let text = format!("more than {FAILING_PERCENT} % of the disk is used");
        faults.push(fault("disk-full", &disk.place, FaultKind::Alarm, Severity::Critical, &text));
    } else if percent >= FULL_PERCENT {
        let text = format!("more than {FULL_PERCENT} % of the disk is used");
        faults.push(fault("disk-full", &disk.place, FaultKind::Alarm, Severity::Warning, &text));
    }
    if disk.fell_read_only {
        let text = "the disk cannot be written to any more";
        faults.push(fault("read-only", &disk.place, FaultKind::Error, Severity::Critical, text));
    }
    faults
}

fn unit_fault(unit: &str) -> Fault {
    fault("unit-failed", unit, FaultKind::Error, Severity::Warning, "the service has failed")
}

fn fault(code: &str, place: &str, kind: FaultKind, severity: Severity, text: &str) -> Fault {
    Fault {
        key: FaultKey(Label::lossy(&format!("host:{code}:{place}"))),
        code: Label::lossy(&format!("host:{code}")),
        kind,
        class: if severity == Severity::Critical { FaultClass::B } else { FaultClass::C },
        severity,
        location: Label::lossy(place),
        text: Label::lossy(text),
        never_cleared: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(used: u64, free: u64) -> Disk {
        Disk {
            place: "/".into(),
            used_bytes: used,
            free_bytes: free,
            // The rest is kept for root.
            size_bytes: used.strict_add(free).strict_add(50),
            fell_read_only: false,
        }
    }

    fn seen(found: &Found) -> Observation {
        observation(found, Depth::Full, UnixMillis(1))
    }

    fn severities(disk: Disk) -> Vec<(String, Severity, FaultClass)> {
        let seen = seen(&Found { disks: vec![disk], ..Found::default() });
        seen.faults.iter().map(|f| (f.code.to_string(), f.severity, f.class)).collect()
    }

    #[test]
    fn a_look_that_could_not_see_every_disk_ends_no_fault() {
        let mut found = Found::default();
        let seen = |found: &Found| observation(found, Depth::Faults, UnixMillis(0)).faults_read;
        assert_eq!(seen(&found), FaultsRead::Known);
        found.left_out.push("disks past the first 16 of 20".to_owned());
        assert_eq!(seen(&found), FaultsRead::Known, "they are never looked at");
        found.unread("disk /data: timed out".to_owned());
        assert_eq!(seen(&found), FaultsRead::Unreadable);
    }

    #[test]
    fn a_disk_is_full_by_what_programs_can_still_write() {
        let full = |severity, class| vec![("host:disk-full".to_owned(), severity, class)];
        assert_eq!(severities(disk(949, 51)), []);
        assert_eq!(severities(disk(950, 50)), full(Severity::Warning, FaultClass::C));
        assert_eq!(severities(disk(990, 10)), full(Severity::Critical, FaultClass::B));
        assert_eq!(severities(disk(0, 0)), []);
        let fell = Disk { fell_read_only: true, ..disk(1, 1) };
        assert_eq!(severities(fell), [("host:read-only".to_owned(), Severity::Critical, FaultClass::B)]);
    }

    #[test]
    fn a_fault_keeps_its_key_while_it_grows() {
        let key = |disk| seen(&Found { disks: vec![disk], ..Found::default() }).faults[0].key.clone();
        assert_eq!(key(disk(950, 50)), key(disk(999, 1)));
    }

    #[test]
    fn what_a_board_says_without_saying_anything_is_no_identity() {
        let found = Found {
            vendor: Some("To Be Filled By O.E.M.".into()),
            model: Some("NUC8".into()),
            serial: Some("Default string".into()),
            machine_id: Some("0123456789abcdef0123456789abcdef".into()),
            os_release: Some("PRETTY_NAME=\"Debian 12\"\n".into()),
            kernel: Some("6.1.0".into()),
            ..Found::default()
        };
        let identity = seen(&found).identity;
        assert_eq!((identity.vendor, identity.model.unwrap().as_str()), (None, "NUC8"));
        let serial = identity.serial.unwrap();
        assert!(
            serial.as_str().starts_with("machine-") && !serial.as_str().contains("0123456789"),
            "{serial}"
        );
        let versions: Vec<_> = identity.firmware.iter().map(|f| f.component.as_str()).collect();
        assert_eq!(versions, ["system", "kernel"]);
    }

    #[test]
    fn a_failed_service_is_a_fault_and_a_program_has_its_time() {
        let found = Found {
            failed_units: vec!["cups.service".into()],
            programs: vec![Program { name: "acad".into(), processes: 3, seconds: 120 }],
            ..Found::default()
        };
        let seen = seen(&found);
        assert_eq!((seen.status, seen.faults[0].location.as_str()), (Status::Warning, "cups.service"));
        let values: Vec<_> =
            seen.counters.iter().map(|c| (c.name.as_str(), c.labels_text(), c.value)).collect();
        let of = "program=acad".to_owned();
        assert_eq!(values, [("program-running", of.clone(), 1), ("program-seconds", of, 120)]);
        assert!(observation(&found, Depth::Faults, UnixMillis(1)).counters.is_empty());
    }
}
