//! Every recording of a real device in the folder that `MAILFLEET_RECORDINGS` names: what the driver says against an
//! independent reading of the raw values (`NAME.facts.json`) and against what another program makes of them
//! (`NAME.librenms.json`). The recordings are not part of this repository; without the folder nothing is checked, and said.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]
#![allow(clippy::arithmetic_side_effects, reason = "small numbers of our own")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use common::{Asked, Station, device, look, recording};
use drivers::Depth;
use serde_json::Value as Json;
use shared::device::{Capacity, DeviceClass, Level, Observation, Supply, SupplyKind};

/// Differences from the other program, each with its reason. A supply that is not here must be equal.
const DIFFERENCES: &[(Level, i64, &str)] = &[
    (Level::SomeLeft, 50, "it makes 50 % of \"some left\"; no number is made of it here"),
    (Level::Unknown, 0, "it makes 0 % of \"unknown\" (-2)"),
    (Level::Unknown, -2, "it hands -2 on as a percentage"),
];

struct Recording {
    name: String,
    path: PathBuf,
}

impl Recording {
    fn beside(&self, ending: &str) -> Option<Json> {
        let text = fs::read_to_string(self.path.with_extension(ending)).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    fn station(&self) -> Station {
        let bytes = fs::read(&self.path).unwrap();
        Station::serve(recording(&String::from_utf8_lossy(&bytes)))
    }
}

fn recordings() -> Vec<Recording> {
    let Some(folder) = std::env::var_os("MAILFLEET_RECORDINGS") else {
        println!("MAILFLEET_RECORDINGS is not set: no recording of a real device is checked");
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "snmprec") {
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                found.push(Recording { name, path });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "MAILFLEET_RECORDINGS names a folder without a recording");
    found
}

/// A list of objects of the facts.
fn list<'a>(facts: &'a Json, key: &str) -> &'a [Json] {
    facts[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text of the facts as one line; `None` where it is given in hexadecimal.
fn line(value: &Json) -> Option<String> {
    let text = value.as_str()?.replace(|c: char| c.is_control(), " ");
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn raw_level(level: Level) -> Option<i64> {
    match level {
        Level::Amount(amount) => Some(amount.into()),
        Level::SomeLeft => Some(-3),
        Level::Unknown => Some(-2),
        Level::Unlimited => Some(-1),
        Level::Low => None,
    }
}

fn raw_capacity(capacity: Capacity) -> i64 {
    match capacity {
        Capacity::Amount(amount) => amount.into(),
        Capacity::Unknown => -2,
        Capacity::Unlimited => -1,
    }
}

/// Compares and notes what differs; counts what was compared.
#[derive(Default)]
struct Check {
    checked: usize,
    wrong: String,
}

impl Check {
    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        self.checked += 1;
        if found != expected {
            writeln!(self.wrong, "{what}: found {found:?}, expected {expected:?}").unwrap();
        }
    }

    fn end(self, least: usize) {
        assert!(self.wrong.is_empty(), "\n{}", self.wrong);
        assert!(self.checked >= least, "only {} comparisons", self.checked);
        println!("{} comparisons", self.checked);
    }
}

fn check_supplies(check: &mut Check, name: &str, seen: &Observation, facts: &Json) {
    let by_key: BTreeMap<&str, &Supply> = seen.supplies.iter().map(|s| (s.key.as_str(), s)).collect();
    for (key, prefix) in [("supplies", ""), ("inputs", "input:")] {
        for fact in list(facts, key) {
            let index = format!("{prefix}{}", fact["index"].as_str().unwrap());
            let what = format!("{name} {index}");
            let Some(supply) = by_key.get(index.as_str()) else {
                check.equal(&what, "missing", "there");
                continue;
            };
            if let Some(level) = fact["level"].as_i64() {
                check.equal(&format!("{what} level"), raw_level(supply.level), Some(level));
            }
            if let Some(max) = fact["max"].as_i64() {
                check.equal(&format!("{what} max"), raw_capacity(supply.capacity), max);
            }
            let text = line(&fact["description"]).or_else(|| line(&fact["name"]));
            if let Some(text) = text.filter(|text| !text.contains(", PN ")) {
                check.equal(&format!("{what} text"), supply.text.as_str().to_owned(), text);
            }
        }
    }
    let expected = list(facts, "supplies").len() + list(facts, "inputs").len();
    let found = seen.supplies.iter().filter(|supply| supply.kind != SupplyKind::Battery).count();
    check.equal(&format!("{name} number of supplies"), found, expected);
}

fn check_values(check: &mut Check, name: &str, seen: &Observation, facts: &Json) {
    if let Some(text) = line(&facts["sysDescr"]) {
        let found = seen.identity.description.as_ref().map(|d| d.as_str().to_owned());
        let text: String = text.chars().take(200).collect();
        check.equal(&format!("{name} sysDescr"), found, Some(text));
    }
    if let Some(serial) = line(&facts["serial"]) {
        let found = seen.identity.serial.as_ref().map(|s| s.as_str().to_owned());
        check.equal(&format!("{name} serial"), found, Some(serial));
    }
    for life in list(facts, "lifeCount") {
        let value = life["lifeCount"].as_u64().unwrap();
        let is_life = |c: &&shared::device::Counter| {
            ["pages", "sheets"].contains(&c.name.as_str())
                && c.labels.iter().all(|(k, _)| k.as_str() == "marker")
        };
        let found = seen.counters.iter().find(is_life).map(|counter| counter.value);
        check.equal(&format!("{name} lifeCount"), found, Some(value));
    }
    let ticks = |key: &str| facts[key].as_u64();
    let host_ms = ticks("hrSystemUptime")
        .map(|t| if seen.class == DeviceClass::Pc && name.contains("win") { t } else { t * 10 });
    let agent_ms = ticks("sysUpTime").map(|t| t * 10);
    if let Some(uptime) = seen.uptime {
        let expected = if uptime.of_host { host_ms } else { agent_ms };
        check.equal(&format!("{name} uptime"), Some(uptime.up_ms), expected);
    } else {
        check.equal(&format!("{name} uptime"), host_ms.or(agent_ms), None);
    }
    if seen.class == DeviceClass::Pc {
        let installed = facts["softwareInstalled"].as_u64().filter(|n| *n > 0);
        let found = seen.counters.iter().find(|c| c.name.as_str() == "programs-installed").map(|c| c.value);
        check.equal(&format!("{name} programs"), found, installed);
    }
}

/// Each bit is a fault of its own or told by an alert; and no fault comes from nothing.
fn check_faults(check: &mut Check, name: &str, seen: &Observation, facts: &Json) {
    if matches!(seen.class, DeviceClass::Pc | DeviceClass::Ups) {
        check.equal(&format!("{name} faults"), seen.faults.len(), 0);
        return;
    }
    let bits: Vec<&str> = list(facts, "errorBits1").iter().filter_map(Json::as_str).collect();
    let alerts = list(facts, "alerts").len();
    if alerts == 0 {
        let found: Vec<String> = seen.faults.iter().map(|fault| fault.code.as_str().to_owned()).collect();
        let expected: Vec<String> = bits.iter().map(|bit| format!("hr:{bit}")).collect();
        check.equal(&format!("{name} faults"), found, expected);
    } else {
        check.equal(
            &format!("{name}: at most one fault per alert and bit"),
            seen.faults.len() <= alerts + bits.len(),
            true,
        );
    }
}

#[tokio::test]
async fn every_recording_says_its_raw_values() {
    let all = recordings();
    if all.is_empty() {
        return;
    }
    let mut check = Check::default();
    for recording in &all {
        let facts =
            recording.beside("facts.json").unwrap_or_else(|| panic!("{} has no facts", recording.name));
        let station = recording.station();
        let seen = station.full().await;
        check.equal(&format!("{} left out", recording.name), seen.left_out.len(), 0);
        check_supplies(&mut check, &recording.name, &seen, &facts);
        check_values(&mut check, &recording.name, &seen, &facts);
        check_faults(&mut check, &recording.name, &seen, &facts);
    }
    check.end(all.len() * 4);
}

#[tokio::test]
async fn version_1_and_a_short_look_say_the_same() {
    for recording in recordings() {
        let station = recording.station();
        let full = station.full().await;
        let by_v1 = device(&station.address.to_string(), "version = \"1\"");
        assert_eq!(look(&by_v1, Depth::Full).await.unwrap(), full, "{}", recording.name);
        let before = station.requests.load(Ordering::Relaxed);
        let short = station.faults().await;
        let requests = station.requests.load(Ordering::Relaxed) - before;
        assert!(requests <= 5, "{}: {requests} requests", recording.name);
        let name = &recording.name;
        assert_eq!(short.faults, full.faults, "{name}");
        assert_eq!(short.status, full.status, "{name}");
        assert_eq!(short.class, full.class, "{name}");
        assert_eq!(short.uptime, full.uptime, "{name}");
    }
}

#[tokio::test]
async fn supplies_are_those_that_another_program_sees() {
    let all = recordings();
    if all.is_empty() {
        return;
    }
    let mut check = Check::default();
    let mut explained = 0;
    for recording in &all {
        let Some(theirs) = recording.beside("librenms.json") else { continue };
        let table = |kind: &str| theirs["printer-supplies"][kind]["printer_supplies"].as_array().cloned();
        let Some(rows) = table("poller").or_else(|| table("discovery")) else { continue };
        let seen = recording.station().full().await;
        for row in rows {
            let oid = row["supply_oid"].as_str().unwrap();
            let key = oid
                .strip_prefix(".1.3.6.1.2.1.43.11.1.1.9.")
                .map(str::to_owned)
                .or_else(|| oid.strip_prefix(".1.3.6.1.2.1.43.8.2.1.10.").map(|i| format!("input:{i}")))
                .unwrap_or_else(|| panic!("{oid}"));
            let what = format!("{} {key} {}", recording.name, row["supply_descr"]);
            let Some(supply) = seen.supplies.iter().find(|supply| supply.key.as_str() == key) else {
                check.equal(&what, "missing", "there");
                continue;
            };
            let expected = row["supply_current"].as_i64().unwrap();
            let known =
                DIFFERENCES.iter().any(|(level, theirs, _)| *level == supply.level && *theirs == expected);
            if known {
                explained += 1;
                continue;
            }
            check.equal(&what, rounded(supply), Some(expected));
        }
    }
    println!("{explained} differences that are explained");
    check.end(50);
}

/// Hundredths as the other program rounds them.
fn rounded(supply: &Supply) -> Option<i64> {
    match (supply.level, supply.capacity) {
        (Level::Amount(level), Capacity::Amount(max)) if max > 0 => {
            Some((i64::from(level) * 100 + i64::from(max) / 2) / i64::from(max))
        }
        _ => supply.percent().map(i64::from),
    }
}

/// A counter's name, labels and value.
type Expected = (&'static str, &'static str, u64);

/// Recordings with makers' own counters: name, and counters that it must have.
const COUNTERS: &[(&str, &[Expected])] = &[
    (
        "sharp",
        &[
            ("pages", "", 121_104),
            ("pages", "colour=mono function=total", 91_164),
            ("pages", "colour=full function=total", 29_940),
            ("pages", "colour=mono function=copy", 37_485),
            ("scans", "colour=full", 7_364),
        ],
    ),
    (
        "ricoh_mpc3002-counters",
        &[
            ("sheets", "", 271_871),
            ("pages", "function=total", 271_871),
            ("pages", "colour=full function=copy", 27_200),
            ("pages", "function=fax", 1_533),
            ("scans", "colour=mono", 30_021),
        ],
    ),
    (
        "konica_c250i",
        &[
            ("pages", "", 33_810),
            ("pages", "colour=mono function=print", 22_876),
            ("pages", "colour=full function=copy", 544),
            ("pages", "function=total sides=2", 7_357),
        ],
    ),
    (
        "jetdirect_m130nw",
        &[("pages", "", 15_232), ("pages", "function=total", 15_232), ("jams", "", 12), ("scans", "", 1_190)],
    ),
    (
        "xerox-c315-counters",
        &[
            ("pages", "", 6_466),
            ("pages", "function=total", 6_462),
            ("pages", "colour=mono function=copy", 210),
        ],
    ),
    (
        "brother-dcp-l3550cdw",
        &[
            ("pages", "function=total", 0x64b),
            ("pages", "colour=colour function=total", 0x386),
            ("pages", "colour=mono function=total", 0x2c5),
            ("pages", "function=total sides=2", 0x21a),
        ],
    ),
    ("brother-hl-5350dn", &[("pages", "", 69_411), ("pages", "function=total", 69_411)]),
    ("utax", &[("pages", "", 427)]),
];

#[tokio::test]
async fn makers_counters_have_our_names() {
    let all = recordings();
    if all.is_empty() {
        return;
    }
    for (name, counters) in COUNTERS {
        let recording = all.iter().find(|r| r.name == *name).unwrap_or_else(|| panic!("no recording {name}"));
        let seen = recording.station().full().await;
        for (counter, labels, value) in *counters {
            let found =
                seen.counters.iter().find(|c| c.name.as_str() == *counter && c.labels_text() == *labels);
            let found = found.map(|counter| counter.value);
            assert_eq!(found, Some(*value), "{name} {counter} {labels}\n{:#?}", seen.counters);
        }
    }
}

/// Recording, class, vendor, model, serial, version of the main program.
const IDENTITIES: &[(&str, DeviceClass, &str, &str, &str, &str)] = &[
    (
        "brother",
        DeviceClass::Mfp,
        "Brother",
        "Brother MFC-L2710DW series",
        "000A5J431816",
        "1.14  (14.11.06)",
    ),
    ("canonprinter_lbp", DeviceClass::Printer, "Canon", "LBP6670", "?", "R7.21"),
    ("dell-laser_s5830dn", DeviceClass::Printer, "Dell", "Dell S5830dn", "?", "NH62.YS.N636"),
    ("epson", DeviceClass::Mfp, "Epson", "EPSON WF-C5790BA", "X3B8022793", "?"),
    ("epson-scanner_ds-860", DeviceClass::Scanner, "Epson", "DS-860", "?", "?"),
    ("fujifilmprinter_c7580", DeviceClass::Mfp, "Fujifilm", "?", "TC101642170085", "?"),
    ("jetdirect", DeviceClass::Printer, "HP", "HP Color LaserJet M452nw", "AAA0A00000", "1G11F33"),
    ("jetdirect_m130nw", DeviceClass::Mfp, "HP", "HP LaserJet MFP M130nw", "VNCRC48198", "4Q817L4"),
    ("konica", DeviceClass::Mfp, "Develop", "Develop ineo+ 280", "?", "1.80"),
    ("kyocera", DeviceClass::Mfp, "Kyocera", "FS-1028MFP", "QUV9600664", "2H9_2F00.002.002"),
    ("okilan_9450g", DeviceClass::Mfp, "OKI", "MC873", "?", "?"),
    ("ricoh_mpc3002", DeviceClass::Mfp, "Ricoh", "Aficio MP C3002", "W492KB03439", "2.20"),
    ("sharp", DeviceClass::Mfp, "Sharp", "SHARP MX-3570N", "6509415X00", "?"),
    ("toshiba-tec_estudio2505", DeviceClass::Mfp, "Toshiba", "?", "?", "?"),
    ("utax", DeviceClass::Printer, "UTAX", "P-4532DN", "R9L0309954", "2TP_S000.003.402"),
    ("xerox", DeviceClass::Mfp, "Xerox", "AltaLink C8045", "?", "100.002.057.09608"),
    ("cyberpower_pr2200rt2uc", DeviceClass::Ups, "CPS", "PR2200RT2UC", "?", "1.1786"),
    ("windows-xp", DeviceClass::Pc, "?", "?", "?", "?"),
    ("windows_svr_2019_1809", DeviceClass::Pc, "?", "?", "?", "?"),
    ("linux_raspberrypi-gpiomonitor", DeviceClass::Pc, "?", "?", "?", "?"),
];

#[tokio::test]
async fn devices_say_who_they_are() {
    let all = recordings();
    if all.is_empty() {
        return;
    }
    let mut check = Check::default();
    for (name, class, vendor, model, serial, version) in IDENTITIES {
        let recording = all.iter().find(|r| r.name == *name).unwrap_or_else(|| panic!("no recording {name}"));
        let seen = recording.station().full().await;
        check.equal(&format!("{name} class"), seen.class, *class);
        let id = &seen.identity;
        let main = id.firmware.iter().find(|f| f.component.as_str() == "main").map(|f| &f.version);
        let fields =
            [("vendor", &id.vendor, vendor), ("model", &id.model, model), ("serial", &id.serial, serial)];
        for (field, found, expected) in fields.into_iter().filter(|(_, _, expected)| **expected != "?") {
            check.equal(&format!("{name} {field}"), found.as_ref().map(|l| l.as_str()), Some(*expected));
        }
        if *version != "?" {
            let version = version.split_whitespace().collect::<Vec<_>>().join(" ");
            check.equal(&format!("{name} version"), main.map(|l| l.as_str()), Some(version.as_str()));
        }
    }
    check.end(IDENTITIES.len());
}

#[test]
fn every_recording_has_its_facts() {
    for recording in recordings() {
        assert!(Path::new(&recording.path).with_extension("facts.json").is_file(), "{}", recording.name);
    }
}
