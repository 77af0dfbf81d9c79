//! Devices that are broken, slow, silent or hostile: what can be read is read, what cannot is said, and nothing takes for
//! ever.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{Asked, Bend, Bulk, Rows, Station, device, fixture, look, oid};
use drivers::{Depth, Drivers, PollFault, Profiles};
use shared::device::{FaultsRead, Observation};
use shared::time::UnixMillis;
use tokio::task::JoinSet;

const SUPPLY_LEVEL: &str = "1.3.6.1.2.1.43.11.1.1.9";
const SUPPLY_DESCR: &str = "1.3.6.1.2.1.43.11.1.1.6";
const ALERT_CODE: &str = "1.3.6.1.2.1.43.18.1.1.7";
const ALERT_DESCR: &str = "1.3.6.1.2.1.43.18.1.1.8";
const HR_ERRORS: &str = "1.3.6.1.2.1.25.3.5.1.2";

async fn whole() -> Observation {
    Station::serve(fixture("00-whole")).full().await
}

fn bent(bend: Bend) -> Station {
    Station::bent(fixture("00-whole"), bend)
}

fn says(seen: &Observation, words: &[&str]) -> bool {
    seen.left_out.iter().any(|left| words.iter().all(|word| left.as_str().contains(word)))
}

#[tokio::test]
async fn a_table_that_never_ends_is_cut_and_the_rest_is_read() {
    let station = bent(Bend { endless: Some(oid(SUPPLY_DESCR)), ..Bend::default() });
    let seen = station.full().await;
    assert!(says(&seen, &["supplies", "rows past"]), "{:?}", seen.left_out);
    assert_eq!(seen.counters, whole().await.counters);
    assert_eq!(seen.supplies.len(), shared::limits::SUPPLIES_MAX_COUNT);
    assert!(station.requests.load(Ordering::Relaxed) < 1_200);
}

#[tokio::test]
async fn ten_megabytes_of_rows_are_not_kept() {
    let mut rows = fixture("00-whole");
    for index in 1..=10_000_u32 {
        let long = vec![b'x'; 1_000];
        rows.insert(oid(SUPPLY_DESCR).child(1).child(index), async_snmp::Value::OctetString(long.into()));
    }
    let station = Station::serve(rows);
    let started = Instant::now();
    let seen = station.full().await;
    assert!(says(&seen, &["more than"]), "{:?}", seen.left_out);
    assert!(started.elapsed() < Duration::from_secs(60));
    // A MiB in answers of one long text each.
    assert!(station.requests.load(Ordering::Relaxed) < 2_500);
}

#[tokio::test]
async fn names_that_do_not_rise_end_their_column_only() {
    let station = bent(Bend { falling: Some(oid(SUPPLY_LEVEL)), ..Bend::default() });
    let seen = station.full().await;
    assert!(says(&seen, &["supplies", "do not rise"]), "{:?}", seen.left_out);
    assert_eq!(seen.counters, whole().await.counters);
    let colours: Vec<_> = seen.supplies.iter().filter_map(|s| s.colour.as_ref()).collect();
    assert_eq!(colours.len(), 4, "the other columns are there");
}

#[tokio::test]
async fn one_broken_column_is_left_out_and_the_others_are_read() {
    for version in ["1", "2c"] {
        let station = bent(Bend { broken_part: Some(oid(SUPPLY_LEVEL)), ..Bend::default() });
        let device = device(&station.address.to_string(), &format!("version = \"{version}\""));
        let seen = look(&device, Depth::Full).await.unwrap();
        assert!(says(&seen, &["supplies", SUPPLY_LEVEL, "genErr"]), "{version}: {:?}", seen.left_out);
        assert_eq!(seen.supplies.len(), 6, "{version}");
        assert_eq!(seen.supplies[0].text.as_str(), "Black Toner");
        assert_eq!(seen.counters, whole().await.counters, "{version}");
    }
}

#[tokio::test]
async fn a_device_that_cannot_make_long_answers_is_asked_for_short_ones() {
    for bend in [
        Bend { bulk: Bulk::Refused, ..Bend::default() },
        Bend { bulk: Bulk::Unheard, ..Bend::default() },
        Bend { most_bytes: Some(484), ..Bend::default() },
        Bend { most_bytes: Some(90), ..Bend::default() },
    ] {
        let seen = bent(bend).full().await;
        assert_eq!(seen, whole().await);
    }
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let station = bent(Bend { lost: 1, ..Bend::default() });
    assert_eq!(station.full().await, whole().await);
}

#[tokio::test]
async fn a_slow_device_is_waited_for() {
    let station = bent(Bend { wait: Duration::from_millis(120), ..Bend::default() });
    assert_eq!(station.faults().await.faults, []);
}

#[tokio::test]
async fn silence_is_no_answer_and_names_what_else_it_may_be() {
    let station = bent(Bend { is_silent: true, ..Bend::default() });
    let fault = look(&station.device(), Depth::Full).await.unwrap_err();
    assert!(fault.is_silence());
    assert!(fault.to_string().contains("community"), "{fault}");
    let wrong = device(&Station::serve(fixture("00-whole")).address.to_string(), "community = \"secret\"");
    let fault = look(&wrong, Depth::Faults).await.unwrap_err();
    assert!(matches!(&fault, PollFault::NoAnswer { limit_ms: 600, .. }), "{fault:?}");
}

#[tokio::test]
async fn a_printer_whose_alerts_do_not_come_is_not_called_healthy() {
    let mut rows = fixture("08-alerts");
    rows.retain(|oid, _| !oid.starts_with(&common::oid("1.3.6.1.2.1.43.18.1.1.2")));
    let bend = Bend { silent_part: Some(oid("1.3.6.1.2.1.43.18.1.1.8")), ..Bend::default() };
    let station = Station::bent(rows, bend);
    for depth in [Depth::Faults, Depth::Full] {
        assert!(look(&station.device(), depth).await.unwrap_err().is_silence());
    }
}

#[tokio::test]
async fn alerts_that_break_the_device_are_said_to_be_missing_and_nothing_is_guessed_in_their_place() {
    let whole = Station::serve(fixture("08-alerts")).faults().await;
    assert_eq!(whole.faults_read, FaultsRead::Known);
    assert!(!whole.faults.is_empty());
    for broken in [ALERT_CODE, ALERT_DESCR, "1.3.6.1.2.1.43.18.1.1.2", HR_ERRORS] {
        let bend = Bend { broken_part: Some(oid(broken)), ..Bend::default() };
        let station = Station::bent(fixture("08-alerts"), bend);
        for seen in [station.faults().await, station.full().await] {
            assert_eq!(seen.faults_read, FaultsRead::Unreadable, "{broken}");
            assert!(says(&seen, &[broken, "genErr"]), "{:?}", seen.left_out);
            assert!(
                seen.faults.iter().all(|fault| whole.faults.contains(fault)),
                "{broken}: {:?}",
                seen.faults
            );
        }
    }
}

#[tokio::test]
async fn a_printer_that_breaks_where_its_alerts_end_has_told_all_of_them() {
    for version in ["1", "2c"] {
        let bend = Bend { broken_part: Some(oid("1.3.6.1.2.1.43.18.1.1.9")), ..Bend::default() };
        let station = Station::bent(fixture("08-broken-end"), bend);
        let device = device(&station.address.to_string(), &format!("version = \"{version}\""));
        for depth in [Depth::Faults, Depth::Full] {
            let seen = look(&device, depth).await.unwrap();
            assert_eq!(seen.faults_read, FaultsRead::Known, "{version}: {:?}", seen.left_out);
            let codes: Vec<_> = seen.faults.iter().map(|fault| fault.code.as_str()).collect();
            assert_eq!(codes, ["8", "1104"], "{version}");
            assert!(!says(&seen, &["genErr"]), "{version}: {:?}", seen.left_out);
        }
        // With a hole before that end, nobody knows what it hides.
        let bend = Bend { broken_part: Some(oid("1.3.6.1.2.1.43.18.1.1.8.1.7")), ..Bend::default() };
        let station = Station::bent(fixture("08-broken-end"), bend);
        let seen = station.faults().await;
        assert_eq!(seen.faults_read, FaultsRead::Unreadable);
        assert!(says(&seen, &[ALERT_DESCR, "genErr"]), "{:?}", seen.left_out);
    }
}

#[tokio::test]
async fn a_column_that_tells_of_no_fault_leaves_the_faults_known() {
    for broken in [SUPPLY_LEVEL, "1.3.6.1.2.1.25.3.2.1.5"] {
        let bend = Bend { broken_part: Some(oid(broken)), ..Bend::default() };
        let seen = bent(bend).full().await;
        assert_eq!(seen.faults_read, FaultsRead::Known, "{broken}");
        assert!(says(&seen, &[broken]), "{broken}: {:?}", seen.left_out);
    }
}

#[tokio::test]
async fn one_silent_table_is_left_out_and_the_rest_is_read() {
    let bend = Bend { silent_part: Some(oid(SUPPLY_LEVEL)), ..Bend::default() };
    // The first look reaches into it as well, so such a device is one that says nothing at all.
    let fault = look(&bent(bend).device(), Depth::Full).await.unwrap_err();
    assert!(fault.is_silence());
    let bend = Bend { silent_part: Some(oid("1.3.6.1.2.1.43.8.2.1.10")), ..Bend::default() };
    let seen = bent(bend).full().await;
    assert!(says(&seen, &["inputs", "no answer"]), "{:?}", seen.left_out);
    assert_eq!(seen.counters, whole().await.counters);
}

#[tokio::test]
async fn devices_that_are_asked_together_do_not_wait_for_a_silent_one() {
    let stations: Vec<Station> =
        (0..40).map(|number| bent(Bend { is_silent: number % 10 == 0, ..Bend::default() })).collect();
    let drivers = Arc::new(Drivers::new(Profiles::read([]).unwrap()));
    let started = Instant::now();
    let mut polls = JoinSet::new();
    for station in &stations {
        let (drivers, device) = (Arc::clone(&drivers), station.device());
        polls.spawn(async move { drivers.poll(&device, Depth::Faults, || UnixMillis(1)).await });
    }
    let mut answered = 0;
    while let Some(polled) = polls.join_next().await {
        answered += u32::from(polled.unwrap().is_ok());
    }
    assert_eq!(answered, 36);
    assert!(started.elapsed() < Duration::from_secs(10), "one after the other they take longer");
}

#[tokio::test]
async fn what_is_no_snmp_is_no_answer() {
    let station = bent(Bend { is_garbage: true, ..Bend::default() });
    let fault = look(&station.device(), Depth::Full).await.unwrap_err();
    assert!(matches!(fault, PollFault::NoAnswer { .. } | PollFault::Garbage { .. }), "{fault:?}");
}

#[tokio::test]
async fn a_device_without_anything_known_is_said_to_be_unsupported() {
    let rows: Rows = common::recording("1.3.6.1.4.1.99999.5.0|2|1\n");
    let fault = look(&Station::serve(rows).device(), Depth::Full).await.unwrap_err();
    assert!(matches!(fault, PollFault::Unsupported { driver: "snmp", .. }), "{fault:?}");
}

#[tokio::test]
async fn an_unknown_name_is_unreachable() {
    let fault = look(&device("nobody.invalid", ""), Depth::Full).await.unwrap_err();
    assert!(matches!(fault, PollFault::Unreachable { .. }), "{fault:?}");
}

#[tokio::test]
async fn a_closed_port_is_silence_within_its_time() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let started = Instant::now();
    let fault = look(&device(&address.to_string(), ""), Depth::Full).await.unwrap_err();
    assert!(fault.is_silence(), "{fault:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}
