//! Observations: what is cut, what reads back, what an older one means.

use super::*;

fn counter(value: u64) -> Counter {
    let label = Label::lossy;
    Counter {
        name: label("pages"),
        labels: vec![(label("colour"), label("mono")), (label("size"), label("A4"))],
        value,
        unit: Unit::Impressions,
        measure: Measure::Cumulative,
    }
}

#[test]
fn device_names_are_safe_file_names() {
    assert!(DeviceName::parse("mfp-2nd.floor_3").is_ok());
    for bad in ["", ".", "..", "../x", "-x", "a b", "a/b", "é", &"x".repeat(65)] {
        assert!(DeviceName::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn labels_of_a_counter_are_one_text() {
    assert_eq!(counter(1).labels_text(), "colour=mono size=A4");
}

#[test]
fn an_endless_device_is_cut_and_still_reads_back() {
    let mut seen = Observation::of(DeviceClass::Mfp, UnixMillis(1));
    seen.counters = (0..5_000).map(counter).collect();
    let bytes = minicbor::to_vec(&seen).unwrap();
    assert!(minicbor::decode::<Observation>(&bytes).is_err());
    seen.bound();
    assert_eq!(seen.counters.len(), COUNTERS_MAX_COUNT);
    assert_eq!(seen.left_out[0].as_str(), "counters past the first 600 of 5000");
    let bytes = minicbor::to_vec(&seen).unwrap();
    assert_eq!(minicbor::decode::<Observation>(&bytes).unwrap(), seen);
}

#[test]
fn a_device_with_more_faults_than_fit_has_not_shown_all_of_them() {
    let fault = |n: usize| Fault {
        key: FaultKey(Label::lossy(&n.to_string())),
        code: Label::lossy("8"),
        kind: FaultKind::Jam,
        class: FaultClass::B,
        severity: Severity::Critical,
        location: Label::default(),
        text: Label::default(),
        never_cleared: false,
    };
    let mut seen = Observation::of(DeviceClass::Mfp, UnixMillis(1));
    seen.faults = (0..FAULTS_MAX_COUNT).map(fault).collect();
    seen.bound();
    assert_eq!(seen.faults_read, FaultsRead::Known);
    seen.faults.push(fault(FAULTS_MAX_COUNT));
    seen.bound();
    assert_eq!((seen.faults.len(), seen.faults_read), (FAULTS_MAX_COUNT, FaultsRead::Unreadable));
}

#[test]
fn an_observation_that_does_not_say_whether_its_faults_were_read_had_all_of_them() {
    let seen = Observation::of(DeviceClass::Mfp, UnixMillis(1));
    let mut bytes = minicbor::to_vec(&seen).unwrap();
    // The last entry of the map, `10: 0`, goes; one entry fewer is announced.
    assert_eq!(bytes.split_off(bytes.len() - 2), [0x0a, 0x00]);
    bytes[0] -= 1;
    assert_eq!(minicbor::decode::<Observation>(&bytes).unwrap(), seen);
}

#[test]
fn names_read_back_as_what_they_name() {
    for class in DeviceClass::ALL {
        assert_eq!(DeviceClass::parse(class.as_str()), Some(*class));
    }
    assert_eq!(Unit::parse("TenthsOfGrams"), None);
}
