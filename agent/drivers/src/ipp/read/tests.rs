//! What printers say by IPP and what it means.

use shared::device::{
    Capacity, FaultClass, FaultKind, Level, Observation, Severity, Status, Supply, SupplyKind, Unit,
};
use shared::time::UnixMillis;

use super::super::wire;
use super::*;

/// A value of a test's attributes: numbers are integers, texts are keywords.
enum Said {
    N(i32),
    T(&'static str),
}
use Said::{N, T};

fn attribute(name: &str, values: &[Said]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, value) in values.iter().enumerate() {
        let (tag, bytes) = match value {
            N(number) => (0x21, number.to_be_bytes().to_vec()),
            T(text) => (0x44, text.as_bytes().to_vec()),
        };
        out.push(tag);
        for bytes in [if at == 0 { name.as_bytes() } else { b"" }, &bytes] {
            out.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
            out.extend(bytes);
        }
    }
    out
}

type List<'a> = &'a [(&'a str, &'a [Said])];

fn read(said: List<'_>, more: List<'_>, depth: Depth) -> Result<Observation, String> {
    let mut bytes = vec![1, 1, 0, 0, 0, 0, 0, 1, 4];
    bytes.extend(said.iter().chain(more).flat_map(|(name, values)| attribute(name, values)));
    bytes.push(3);
    let answer = wire::read(&bytes, &wanted(depth)).unwrap();
    observation(&answer.attributes, depth, UnixMillis(1))
}

/// A printer with nothing to do.
fn full(more: List<'_>) -> Observation {
    let idle: List<'_> = &[("printer-state", &[N(3)]), ("printer-state-reasons", &[T("none")])];
    read(idle, more, Depth::Full).unwrap()
}

fn wrong(state: i32, reasons: &[Said], more: List<'_>) -> Observation {
    read(&[("printer-state", &[N(state)]), ("printer-state-reasons", reasons)], more, Depth::Faults).unwrap()
}

#[test]
fn a_printer_that_does_not_say_what_is_wrong_is_not_called_healthy() {
    assert!(
        read(&[("printer-state", &[N(3)])], &[], Depth::Full).unwrap_err().contains("printer-state-reasons")
    );
    assert!(read(&[("printer-state-reasons", &[T("none")])], &[], Depth::Full).is_err());
}

#[test]
fn reasons_that_are_none_or_only_reported_are_no_faults() {
    let seen = wrong(3, &[T("none")], &[]);
    assert_eq!((seen.status, seen.faults.len()), (Status::Idle, 0));
    let seen = wrong(3, &[T("toner-low-report"), T("cover-closed"), T("")], &[]);
    assert_eq!((seen.status, seen.faults.len()), (Status::Idle, 0));
    assert_eq!(wrong(3, &[T("power-saver")], &[]).status, Status::Sleeping);
    assert_eq!(wrong(3, &[T("fuser-warming-up-report")], &[]).status, Status::WarmingUp);
}

#[test]
fn a_warning_is_logged_and_an_error_stops_the_printer() {
    let seen = wrong(3, &[T("toner-low-warning")], &[]);
    let fault = &seen.faults[0];
    assert_eq!((fault.code.as_str(), fault.text.as_str()), ("ipp:toner-low", "toner low"));
    assert_eq!((fault.kind, fault.class), (FaultKind::Supply, FaultClass::C));
    assert_eq!((fault.severity, seen.status), (Severity::Warning, Status::Warning));
    let seen = wrong(5, &[T("media-jam-error"), T("toner-low-warning")], &[]);
    let fault = &seen.faults[0];
    assert_eq!((fault.kind, fault.class), (FaultKind::Jam, FaultClass::B));
    assert_eq!((fault.severity, seen.status), (Severity::Critical, Status::Down));
    assert_eq!(wrong(4, &[T("toner-low-warning")], &[]).status, Status::Busy);
    assert_eq!(wrong(5, &[T("paused")], &[]).status, Status::Offline);
}

#[test]
fn a_reason_without_a_suffix_is_an_error_only_of_a_printer_that_stands_still() {
    assert_eq!(wrong(5, &[T("media-empty")], &[]).faults[0].severity, Severity::Critical);
    assert_eq!(wrong(3, &[T("media-empty")], &[]).faults[0].severity, Severity::Warning);
}

#[test]
fn a_makers_own_reason_is_told_as_it_is() {
    let fault = &wrong(5, &[T("com.example-fuse-blown-error")], &[]).faults[0];
    assert_eq!((fault.code.as_str(), fault.class), ("ipp:com.example-fuse-blown", FaultClass::B));
}

#[test]
fn a_warning_that_becomes_an_error_is_the_same_fault() {
    let key = |state, text| wrong(state, &[T(text)], &[]).faults[0].key.clone();
    assert_eq!(key(3, "toner-empty-warning"), key(5, "toner-empty-error"));
}

#[test]
fn alerts_tell_where_it_is_and_two_empty_trays_are_two_faults() {
    let seen = wrong(
        5,
        &[T("media-empty-error"), T("cover-open-error")],
        &[
            (
                "printer-alert",
                &[
                    T("code=inputMediaSupplyEmpty;severity=critical;group=input;groupindex=1;location=1"),
                    T("code=inputMediaSupplyEmpty;severity=critical;group=input;groupindex=2"),
                ],
            ),
            ("printer-alert-description", &[T("Tray 1 is empty"), T("Tray 2 is empty")]),
        ],
    );
    let told: Vec<_> = seen.faults.iter().map(|f| (f.location.as_str(), f.text.as_str())).collect();
    assert_eq!(told, [("input 1", "Tray 1 is empty"), ("input 2", "Tray 2 is empty"), ("", "cover open")]);
    assert_ne!(seen.faults[0].key, seen.faults[1].key);
}

#[test]
fn what_the_printer_says_decides_who_has_to_come() {
    let message =
        |text| wrong(5, &[T("subunit-recoverable-failure-error")], &[("printer-state-message", &[T(text)])]);
    let seen = message("Turn the printer off and on");
    assert_eq!(
        (seen.faults[0].class, seen.faults[0].text.as_str()),
        (FaultClass::D, "Turn the printer off and on")
    );
    assert_eq!(message("Error 50").faults[0].class, FaultClass::B);
    let alert =
        "code=subunitRecoverableFailure;severity=critical;training=fieldService;group=marker;groupindex=1";
    let seen = wrong(5, &[T("subunit-recoverable-failure-error")], &[("printer-alert", &[T(alert)])]);
    assert_eq!((seen.faults[0].class, seen.faults[0].location.as_str()), (FaultClass::A, "marker 1"));
}

fn supply<'a>(seen: &'a Observation, key: &str) -> &'a Supply {
    seen.supplies.iter().find(|s| s.key.as_str() == key).unwrap_or_else(|| panic!("{:#?}", seen.supplies))
}

#[test]
fn supplies_are_read_with_their_words_and_waste_is_the_room_that_is_left() {
    let seen = full(&[
        (
            "printer-supply",
            &[
                T(
                    "index=1;class=receptacleThatIsFilled;type=wasteToner;unit=percent;maxcapacity=100;level=25;colorantname=unknown;",
                ),
                T(
                    "index=2;class=supplyThatIsConsumed;type=toner;unit=percent;maxcapacity=100;level=75;colorantname=black;",
                ),
                T(
                    "index=3;class=supplyThatIsConsumed;type=opc;unit=impressions;maxcapacity=12000;level=-3;colorantname=none;",
                ),
            ],
        ),
        ("printer-supply-description", &[T("Toner Waste Tank"), T("Black Toner")]),
        ("marker-names", &[T("not used")]),
        (
            "printer-input-tray",
            &[T("type=sheetFeedAutoRemovableTray;maxcapacity=250;level=-2;status=0;name=main")],
        ),
    ]);
    let waste = supply(&seen, "1.1");
    assert_eq!((waste.kind, waste.level, &waste.colour), (SupplyKind::Waste, Level::Amount(75), &None));
    let toner = supply(&seen, "1.2");
    assert_eq!(
        (toner.kind, toner.percent(), toner.text.as_str()),
        (SupplyKind::Toner, Some(75), "Black Toner")
    );
    assert_eq!(toner.colour.as_ref().unwrap().as_str(), "black");
    let drum = supply(&seen, "1.3");
    assert_eq!(
        (drum.kind, drum.level, drum.capacity),
        (SupplyKind::Drum, Level::SomeLeft, Capacity::Amount(12_000))
    );
    assert_eq!((seen.parts.len(), seen.parts[0].life), (1, Some(12_000)));
    let tray = supply(&seen, "input:1.1");
    assert_eq!((tray.level, tray.unit, tray.text.as_str()), (Level::Unknown, Unit::Sheets, "main"));
    assert_eq!(seen.supplies.len(), 4);
}

#[test]
fn markers_are_read_where_there_are_no_supplies() {
    let seen = full(&[
        ("marker-names", &[T("Black Cartridge"), T("Tri-color"), T("Waste"), T("Drum"), T("Cyan")]),
        ("marker-types", &[T("toner-cartridge"), T("ink"), T("waste-toner"), T("opc"), T("toner")]),
        ("marker-colors", &[T("#000000"), T("#00FFFF#FF00FF#FFFF00"), T("none"), T("none"), T("#00FFFF")]),
        ("marker-levels", &[N(42), N(-1), N(90), N(-3), N(-2)]),
    ]);
    let all: Vec<_> = seen.supplies.iter().map(|s| (s.kind, s.level)).collect();
    assert_eq!(
        all,
        [
            (SupplyKind::Toner, Level::Amount(42)),
            (SupplyKind::Ink, Level::Unknown),
            (SupplyKind::Waste, Level::Amount(10)),
            (SupplyKind::Drum, Level::SomeLeft),
            (SupplyKind::Toner, Level::Unknown),
        ]
    );
    let colours: Vec<_> = seen.supplies.iter().map(|s| s.colour.as_ref().map(|c| c.as_str())).collect();
    assert_eq!(colours, [Some("black"), None, None, None, Some("cyan")]);
}

#[test]
fn identity_comes_from_the_device_id_and_then_from_other_words() {
    let seen = full(&[
        ("printer-device-id", &[T("MFG:HP;MDL:HP LaserJet M507;SN:CN123;CLS:PRINTER;")]),
        ("printer-make-and-model", &[T("HP LaserJet M507dn")]),
        ("printer-name", &[T("second-floor")]),
        ("printer-uuid", &[T("urn:uuid:1234")]),
        ("printer-firmware-name", &[T("main"), T("")]),
        ("printer-firmware-string-version", &[T("2.5"), T("7")]),
        ("printer-up-time", &[N(60)]),
    ]);
    let text = |label: &Option<Label>| label.as_ref().unwrap().to_string();
    let identity = &seen.identity;
    assert_eq!(
        (text(&identity.vendor), text(&identity.model)),
        ("HP".to_owned(), "LaserJet M507".to_owned())
    );
    assert_eq!(
        (text(&identity.serial), text(&identity.host)),
        ("CN123".to_owned(), "second-floor".to_owned())
    );
    let versions: Vec<_> = identity.firmware.iter().map(|f| f.version.as_str()).collect();
    assert_eq!(versions, ["2.5", "7"]);
    assert_eq!(seen.uptime.map(|up| (up.up_ms, up.of_host)), Some((60_000, false)));
    let seen = full(&[("printer-make-and-model", &[T("Acme 7")]), ("printer-uuid", &[T("urn:uuid:1234")])]);
    assert_eq!(
        (text(&seen.identity.model), text(&seen.identity.serial)),
        ("Acme 7".to_owned(), "urn:uuid:1234".to_owned())
    );
}

#[test]
fn a_count_that_is_not_known_is_no_count() {
    let seen =
        full(&[("printer-impressions-completed", &[N(1_234)]), ("printer-media-sheets-completed", &[N(-2)])]);
    let counters: Vec<_> = seen.counters.iter().map(|c| (c.name.as_str(), c.value, c.unit)).collect();
    assert_eq!(counters, [("pages", 1_234, Unit::Impressions)]);
}
