//! What devices say and what it means: one small recording for each trap, asked over the network like a real device.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use common::{Asked, Station, fixture, fixtures};
use shared::device::{
    Capacity, Counter, DeviceClass, Fault, FaultClass, FaultKind, Level, Measure, Observation, Severity,
    Status, Supply, SupplyKind, Unit,
};

async fn seen(name: &str) -> Observation {
    let station = Station::serve(fixture(name));
    let full = station.full().await;
    let short = station.faults().await;
    assert_eq!(short.faults, full.faults, "{name}: a short look sees the same faults");
    assert_eq!((short.status, short.class, short.uptime), (full.status, full.class, full.uptime), "{name}");
    full
}

fn codes(seen: &Observation) -> Vec<&str> {
    seen.faults.iter().map(|fault| fault.code.as_str()).collect()
}

fn fault<'a>(seen: &'a Observation, code: &str) -> &'a Fault {
    seen.faults.iter().find(|f| f.code.as_str() == code).unwrap_or_else(|| panic!("{:#?}", seen.faults))
}

fn supply<'a>(seen: &'a Observation, key: &str) -> &'a Supply {
    seen.supplies.iter().find(|s| s.key.as_str() == key).unwrap_or_else(|| panic!("{:#?}", seen.supplies))
}

fn counter<'a>(seen: &'a Observation, name: &str, labels: &str) -> &'a Counter {
    let found = seen.counters.iter().find(|c| c.name.as_str() == name && c.labels_text() == labels);
    found.unwrap_or_else(|| panic!("{name} {labels}: {:#?}", seen.counters))
}

#[tokio::test]
async fn a_healthy_printer_is_read_whole() {
    let seen = seen("00-whole").await;
    assert_eq!((seen.class, seen.status), (DeviceClass::Printer, Status::Idle));
    assert_eq!(seen.identity.serial.as_ref().unwrap().as_str(), "SN-0001");
    assert_eq!(seen.identity.host.as_ref().unwrap().as_str(), "printer-1");
    assert_eq!(seen.identity.model.as_ref().unwrap().as_str(), "Testprint 100");
    assert_eq!(seen.uptime.unwrap().up_ms, 1_239_990);
    assert_eq!(counter(&seen, "pages", "").value, 1_000);
    assert_eq!(seen.supplies.len(), 6);
    let cyan = supply(&seen, "1.2");
    assert_eq!((cyan.kind, cyan.percent()), (SupplyKind::Toner, Some(40)));
    assert_eq!(cyan.colour.as_ref().unwrap().as_str(), "cyan");
    let tray = supply(&seen, "input:1.2");
    assert_eq!((tray.kind, tray.level, tray.unit), (SupplyKind::Media, Level::Amount(200), Unit::Sheets));
    assert!(seen.faults.is_empty() && seen.left_out.is_empty(), "{seen:#?}");
}

#[tokio::test]
async fn a_short_look_takes_one_request_and_of_a_printer_two() {
    // A printer of no known maker is also asked for what would tell its maker.
    for (name, requests) in
        [("10-serial-in-a-text", 2), ("00-whole", 3), ("10-pc-with-printer-drivers", 1), ("14-ups", 2)]
    {
        let station = Station::serve(fixture(name));
        let seen = station.faults().await;
        assert_eq!(station.requests.load(Ordering::Relaxed), requests, "{name}");
        assert!(seen.counters.is_empty() && seen.supplies.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn error_bits_are_bytes_of_which_there_may_be_none_one_or_two() {
    assert_eq!(codes(&seen("01-one-error-byte").await), ["hr:lowToner"]);
    assert!(seen("01-no-error-byte").await.faults.is_empty());
    let two = seen("01-two-error-bytes").await;
    assert_eq!(codes(&two), ["hr:jammed", "hr:outputFull", "hr:inputTrayEmpty"]);
    let jam = fault(&two, "hr:jammed");
    assert_eq!((jam.kind, jam.class, jam.severity), (FaultKind::Jam, FaultClass::B, Severity::Critical));
    assert_eq!(two.status, Status::Down);
}

#[tokio::test]
async fn the_three_objects_of_status_are_read_together() {
    let standby = seen("02-standby").await;
    assert_eq!(standby.status, Status::Sleeping);
    assert!(standby.faults.is_empty());
    let printing = seen("02-printing-with-low-toner").await;
    assert_eq!(printing.status, Status::Busy);
    assert_eq!(codes(&printing), ["hr:lowToner"]);
    let warning = seen("02-warning-without-a-bit").await;
    assert_eq!(warning.status, Status::Warning);
    assert!(warning.faults.is_empty());
}

#[tokio::test]
async fn levels_that_are_no_amounts_stay_what_they_are() {
    let seen = seen("03-levels-that-are-no-amounts").await;
    let levels: Vec<(Level, Capacity)> = seen.supplies.iter().map(|s| (s.level, s.capacity)).collect();
    assert_eq!(
        levels,
        [
            (Level::SomeLeft, Capacity::Amount(100)),
            (Level::Unknown, Capacity::Unknown),
            (Level::Unlimited, Capacity::Unlimited),
            (Level::Amount(0), Capacity::Amount(0)),
            (Level::Unknown, Capacity::Amount(100)),
            (Level::Amount(120), Capacity::Amount(100)),
            (Level::Amount(9), Capacity::Unknown),
        ]
    );
    let percent: Vec<Option<u8>> = seen.supplies.iter().map(Supply::percent).collect();
    assert_eq!(percent, [None, None, None, None, None, Some(100), Some(9)]);
}

#[tokio::test]
async fn levels_of_a_makers_own_table_are_read_where_the_standard_one_is_empty() {
    let seen = seen("03-ricoh-own-levels").await;
    let levels: Vec<(&str, Level)> = seen.supplies.iter().map(|s| (s.text.as_str(), s.level)).collect();
    assert_eq!(levels, [("Black Toner", Level::Low), ("Cyan Toner", Level::Amount(70))]);
}

#[tokio::test]
async fn units_are_told_and_not_made_up() {
    let seen = seen("04-units").await;
    let told: Vec<(SupplyKind, Unit)> = seen.supplies.iter().map(|s| (s.kind, s.unit)).collect();
    assert_eq!(
        told,
        [
            (SupplyKind::Drum, Unit::Impressions),
            (SupplyKind::Toner, Unit::TenthsOfGrams),
            (SupplyKind::Ink, Unit::TenthsOfMillilitres),
            (SupplyKind::Staples, Unit::Items),
            (SupplyKind::Toner, Unit::Unknown),
            (SupplyKind::Fuser, Unit::Hours),
        ]
    );
    let parts: Vec<_> = seen.parts.iter().map(|p| (p.key.as_str(), p.used, p.life, p.unit)).collect();
    assert_eq!(
        parts,
        [
            ("1.1", Some(2_500), Some(5_000), Unit::Impressions),
            ("1.6", Some(2_500), Some(5_000), Unit::Hours)
        ]
    );
}

#[tokio::test]
async fn a_waste_box_tells_its_room_and_is_no_toner() {
    let seen = seen("05-waste-box").await;
    let (first, second) = (supply(&seen, "1.1"), supply(&seen, "1.2"));
    assert_eq!((first.kind, first.level), (SupplyKind::Waste, Level::Amount(100)));
    assert_eq!((second.kind, second.level), (SupplyKind::Waste, Level::SomeLeft));
    assert!(seen.faults.is_empty(), "the number is no alarm");
}

#[tokio::test]
async fn sheets_are_not_sold_as_pages() {
    let seen = seen("06-sheets").await;
    let life = counter(&seen, "sheets", "");
    assert_eq!((life.value, life.unit, life.measure), (271_871, Unit::Sheets, Measure::Cumulative));
    assert_eq!(counter(&seen, "pages", "marker=2").value, 12);
    assert_eq!(counter(&seen, "sheets-since-power-on", "").measure, Measure::Gauge);
    assert!(!seen.counters.iter().any(|c| c.name.as_str() == "pages" && c.labels.is_empty()));
}

#[tokio::test]
async fn counters_of_64_bits_and_zeros_are_told_as_they_are() {
    let seen = seen("07-wide-counter").await;
    assert_eq!(counter(&seen, "pages", "").value, u64::MAX);
    assert_eq!(counter(&seen, "pages-since-power-on", "").value, 0);
}

#[tokio::test]
async fn alerts_are_faults_and_messages_are_not() {
    let seen = seen("08-alerts").await;
    assert_eq!(codes(&seen), ["1104", "3", "8", "807"]);
    let toner = fault(&seen, "1104");
    assert_eq!((toner.kind, toner.severity), (FaultKind::Supply, Severity::Warning));
    assert!(toner.never_cleared, "a plain warning has no end of its own");
    assert!(!fault(&seen, "807").never_cleared && !fault(&seen, "8").never_cleared);
    assert_eq!(fault(&seen, "3").location.as_str(), "cover 3");
    assert_eq!(seen.status, Status::Down);
}

#[tokio::test]
async fn a_fault_keeps_its_key_when_the_device_numbers_its_rows_anew() {
    let mut rows = fixture("08-bits-beside-rows");
    let keys =
        |seen: &Observation| seen.faults.iter().map(|f| f.key.0.as_str().to_owned()).collect::<Vec<_>>();
    let before = Station::serve(rows.clone()).full().await;
    let table = common::oid("1.3.6.1.2.1.43.18.1.1");
    let moved: Vec<_> = rows
        .iter()
        .filter(|(oid, _)| oid.starts_with(&table))
        .map(|(oid, value)| {
            let mut arcs = oid.arcs().to_vec();
            *arcs.last_mut().unwrap() += 40;
            (oid.clone(), async_snmp::Oid::from_slice(&arcs), value.clone())
        })
        .collect();
    for (old, new, value) in moved {
        rows.remove(&old);
        rows.insert(new, value);
    }
    let after = Station::serve(rows).full().await;
    assert_eq!(before.faults.len(), 3);
    assert_eq!(keys(&before), keys(&after));
}

#[tokio::test]
async fn rows_of_zeros_and_of_good_news_are_no_faults() {
    assert!(seen("08-dummy-row").await.faults.is_empty());
    assert!(seen("08-quiet-codes").await.faults.is_empty());
    let asleep = seen("08-power-saver").await;
    assert_eq!(asleep.status, Status::Sleeping);
    assert!(asleep.faults.is_empty());
}

#[tokio::test]
async fn classes_say_who_has_to_come() {
    let seen = seen("08-classes").await;
    let classes: Vec<(&str, FaultClass)> =
        seen.faults.iter().map(|fault| (fault.text.as_str(), fault.class)).collect();
    assert_eq!(
        classes,
        [
            ("Call service", FaultClass::A),
            ("Tray 2 empty", FaultClass::B),
            ("Replace the drum soon", FaultClass::C),
            ("49.4C02 error: turn off then on", FaultClass::D),
            ("SC541", FaultClass::A),
        ]
    );
}

#[tokio::test]
async fn a_bit_is_a_fault_only_where_no_row_says_the_same() {
    assert_eq!(codes(&seen("08-bits-beside-rows").await), ["1104", "8", "hr:doorOpen"]);
}

#[tokio::test]
async fn texts_are_read_in_the_set_of_the_language_that_is_spoken() {
    for (name, text) in [
        ("09-polish", "Mało tonera, wymień bęben"),
        ("09-russian", "Мало тонера"),
        ("09-japanese", "トナー残量少"),
        ("09-roman8", "TROMMEL ERSETZEN für Gerät"),
        ("09-dos", "Tür öffnen"),
        ("09-cut-utf8", "Byt ut färgpatronen, bläck saknas i fack"),
        ("09-no-text-at-all", "ÿþ€"),
    ] {
        let seen = seen(name).await;
        assert_eq!(fault(&seen, "1104").text.as_str().trim_end(), text, "{name}");
    }
    let hp = seen("09-private-prefix").await;
    assert_eq!(hp.identity.serial.unwrap().as_str(), "VNC1234");
}

#[tokio::test]
async fn identity_is_found_where_makers_hide_it() {
    let hp = seen("10-serial-in-a-text").await;
    let identity = &hp.identity;
    assert_eq!(identity.serial.as_ref().unwrap().as_str(), "VNB3X00001");
    assert_eq!(identity.vendor.as_ref().unwrap().as_str(), "HP");
    assert_eq!(identity.firmware[0].version.as_str(), "4Q8");
    assert_eq!(hp.class, DeviceClass::Mfp);
    let utax = seen("10-other-name-on-the-box").await;
    assert_eq!(utax.identity.vendor.unwrap().as_str(), "UTAX");
    assert_eq!(utax.identity.serial.unwrap().as_str(), "R9L0");
}

#[tokio::test]
async fn a_pc_with_printer_drivers_is_a_pc() {
    let pc = seen("10-pc-with-printer-drivers").await;
    assert_eq!((pc.class, pc.status), (DeviceClass::Pc, Status::Idle));
    assert!(pc.faults.is_empty(), "a driver without paper is no fault");
    let uptime = pc.uptime.unwrap();
    assert_eq!((uptime.up_ms, uptime.wraps_after_ms, uptime.of_host), (10_003_456, Some(1 << 32), true));
    assert_eq!(counter(&pc, "cpu-busy", "").value, 20);
    assert_eq!(counter(&pc, "processes", "").value, 87);
    assert_eq!(counter(&pc, "programs-installed", "").value, 2);
    assert_eq!(counter(&pc, "disk-used", "disk=C:\\ Label:").value, 250 * 4_096);
    assert_eq!(counter(&pc, "memory-used", "").value, 30_000 * 65_536);
}

#[tokio::test]
async fn a_pc_without_the_usual_load_is_read_by_its_own_tables() {
    let pc = seen("10-linux-by-ucd").await;
    assert_eq!(pc.class, DeviceClass::Pc);
    assert_eq!(counter(&pc, "cpu-busy", "").value, 7);
    assert_eq!(counter(&pc, "memory-used", "").value, 600 * 1_024);
    assert_eq!(counter(&pc, "processes", "").value, 2);
}

#[tokio::test]
async fn holes_in_tables_cost_only_what_is_missing() {
    let seen = seen("11-holes").await;
    let keys: Vec<&str> = seen.supplies.iter().map(|supply| supply.key.as_str()).collect();
    assert_eq!(keys, ["3.9", "3.30", "3.31", "input:3.2"]);
    assert_eq!(supply(&seen, "3.31").level, Level::Amount(7));
    assert_eq!(codes(&seen), ["hr:doorOpen"]);
    assert_eq!(seen.status, Status::Down);
    assert_eq!(seen.identity.model.unwrap().as_str(), "Testprint 100");
}

#[tokio::test]
async fn no_host_is_younger_than_its_agent() {
    let uptime = seen("12-host-younger-than-its-agent").await.uptime.unwrap();
    assert_eq!((uptime.up_ms, uptime.of_host), (2_175_397_350, false));
}

#[tokio::test]
async fn each_printer_of_a_box_is_heard() {
    let seen = seen("13-two-printers").await;
    assert_eq!(codes(&seen), ["hr:jammed"]);
    assert_eq!(seen.faults[0].key.0.as_str(), "2:hr:jammed");
}

#[tokio::test]
async fn a_power_supply_tells_battery_load_and_alarms() {
    let ups = seen("14-ups").await;
    assert_eq!((ups.class, ups.status), (DeviceClass::Ups, Status::Warning));
    assert_eq!(codes(&ups), ["ups:2", "ups:3"]);
    assert_eq!(supply(&ups, "battery").percent(), Some(34));
    assert_eq!(counter(&ups, "minutes-left", "").value, 12);
    assert_eq!(counter(&ups, "output-load", "line=2").value, 41);
    assert_eq!(counter(&ups, "output-voltage", "").value, 2_300);
    assert_eq!(ups.identity.model.unwrap().as_str(), "V-1");
}

#[tokio::test]
async fn values_of_wrong_types_are_no_values() {
    let seen = seen("20-wrong-types").await;
    assert_eq!((seen.class, seen.status), (DeviceClass::Printer, Status::Unknown));
    assert!(seen.faults.is_empty() && seen.counters.is_empty() && seen.uptime.is_none(), "{seen:#?}");
    assert_eq!(seen.supplies.len(), 1);
    assert_eq!((seen.supplies[0].level, seen.supplies[0].capacity), (Level::Unknown, Capacity::Unknown));
}

#[tokio::test]
async fn alerts_with_their_times_are_those_without() {
    assert_eq!(codes(&seen("08-broken-end").await), ["8", "1104"]);
}

#[tokio::test]
async fn numbers_at_the_ends_of_their_ranges_break_nothing() {
    let seen = seen("21-negative-and-huge").await;
    assert_eq!(supply(&seen, "1.1").level, Level::Amount(2_147_483_647));
    assert_eq!(supply(&seen, "1.1").capacity, Capacity::Unknown);
    assert!(seen.faults.iter().any(|fault| fault.text.as_str() == "extreme"));
    assert_eq!(counter(&seen, "pages", "").value, u64::from(u32::MAX));
}

#[test]
fn every_recording_of_ours_says_what_it_is_and_is_used() {
    let this = include_str!("traps.rs");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(text.starts_with("# Made for mailfleet's tests"), "{name} does not say whose it is");
        assert!(this.contains(&format!("\"{name}\"")), "no test reads {name}");
        names.insert(name);
    }
    assert!(names.len() > 30, "{names:?}");
}
