//! The handler `raw9100` against printers of several tempers, and what is asked before anything is sent.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::io::Read as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::look;
use common::package::{Parcel, open_device, ready, sent};
use drivers::firmware::{Answer, Pushed, is_idle};
use drivers::{Depth, Device};
use shared::Label;
use shared::bundle::FirmwareHandler;
use testkit::flash::{Flasher, Taken, Temper, image};

const AWAY: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_secs(20);
const BYTES: usize = 3_000_000;
const LARGE: usize = 20_000_000;

fn to(printer: &Flasher, more: &str) -> Device {
    open_device(&printer.station.address.to_string(), &format!("port = {}\n{more}", printer.raw.port()))
}

fn parcel(settings: &[(&str, &str)]) -> Parcel {
    Parcel::new(image("main", "2.0", BYTES), FirmwareHandler::Raw9100, settings)
}

/// Until a printer says what is expected, or too long.
async fn until(what: &str, is_it: impl AsyncFn() -> bool) {
    let since = Instant::now();
    while !is_it().await {
        assert!(since.elapsed() < LIMIT, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn shown(device: &Device, component: &str) -> Option<String> {
    let seen = look(device, Depth::Full).await.ok()?;
    let found = seen.identity.firmware.iter().find(|firmware| firmware.component.as_str() == component);
    found.map(|firmware| firmware.version.to_string())
}

#[tokio::test]
async fn a_printer_takes_its_image_goes_away_and_shows_the_new_version() {
    let printer = Flasher::start("F-1", Temper::Takes, AWAY);
    let (device, parcel) = (to(&printer, ""), parcel(&[]));
    until("it answers", async || shown(&device, "main").await.as_deref() == Some("1.0")).await;
    let before = look(&device, Depth::Full).await.unwrap();
    assert!(is_idle(&before));
    assert_eq!(parcel.ask(&device).await, ready("1.0"));
    let (pushed, progress) = parcel.push(&device).await;
    assert_eq!(sent(&pushed), BYTES as u64);
    assert_eq!(progress.last(), Some(&(BYTES as u64)));
    assert!(progress.len() > 10 && progress.is_sorted(), "{}", progress.len());
    assert_eq!(printer.taken(), [Taken { bytes: BYTES, is_whole: true }], "a question is no transfer");
    until("it is back", async || shown(&device, "main").await.as_deref() == Some("2.0")).await;
    let after = look(&device, Depth::Full).await.unwrap();
    assert!(after.uptime.unwrap().up_ms < before.uptime.unwrap().up_ms, "it has restarted");
    assert_eq!(shown(&device, "feeder").await.as_deref(), Some("1.0"), "its other type is as it was");
    assert_eq!(parcel.ask(&device).await, ready("2.0"), "what follows from that is not asked here");
    assert!(printer.wrongs().is_empty(), "{:?}", printer.wrongs());
}

#[tokio::test]
async fn two_types_of_one_printer_are_updated_one_after_the_other() {
    let printer = Flasher::start("F-2", Temper::Takes, AWAY);
    let device = to(&printer, "");
    let mut feeder = Parcel::new(image("feeder", "2.0", 5_000), FirmwareHandler::Raw9100, &[]);
    feeder.entry.component = Label::parse("feeder").unwrap();
    for (parcel, component) in [(parcel(&[]), "main"), (feeder, "feeder")] {
        until("it answers", async || parcel.ask(&device).await == ready("1.0")).await;
        sent(&parcel.push(&device).await.0);
        until(component, async || shown(&device, component).await.as_deref() == Some("2.0")).await;
    }
    assert!(printer.wrongs().is_empty(), "{:?}", printer.wrongs());
}

#[tokio::test]
async fn nobody_writes_to_a_printer_that_its_site_has_not_opened() {
    let printer = Flasher::start("F-3", Temper::Takes, AWAY);
    let address = printer.station.address.to_string();
    let port = format!("port = {}\n", printer.raw.port());
    for (table, why) in [
        (String::new(), "the site does not allow it"),
        (format!("[device.firmware]\nallowed = false\n{port}"), "the site does not allow it"),
        (format!("[device.firmware]\nallowed = true\nhandlers = [\"ftp\"]\n{port}"), "the handler raw9100"),
    ] {
        let device = common::device(&address, &table);
        let Answer::Refused { reason } = parcel(&[]).ask(&device).await else { panic!("{table}") };
        assert!(reason.contains(why), "{reason}");
        let (Pushed::NotBegun(reason), _) = parcel(&[]).push(&device).await else { panic!("{table}") };
        assert!(reason.contains(why), "{reason}");
    }
    assert!(printer.taken().is_empty());
}

#[tokio::test]
async fn a_printer_that_prints_or_has_a_closed_port_is_asked_again_later() {
    let printer = Flasher::start("F-4", Temper::Takes, AWAY);
    printer.prints(true);
    let Answer::NotNow { reason, hold } = parcel(&[]).ask(&to(&printer, "")).await else { panic!() };
    assert_eq!((reason.as_str(), hold), ("it is busy", Duration::from_secs(120)));
    printer.prints(false);
    assert_eq!(parcel(&[]).ask(&to(&printer, "")).await, ready("1.0"));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let device = open_device(&printer.station.address.to_string(), &format!("port = {}\n", closed.port()));
    let Answer::NotNow { reason, .. } = parcel(&[]).ask(&device).await else { panic!() };
    assert!(reason.starts_with("cannot reach 127.0.0.1:"), "{reason}");
    let (Pushed::NotBegun(_), _) = parcel(&[]).push(&device).await else { panic!() };
}

#[tokio::test]
async fn firmware_for_other_devices_or_with_a_slip_in_it_is_refused() {
    let printer = Flasher::start("F-5", Temper::Takes, AWAY);
    let device = to(&printer, "");
    let refused = async |parcel: &Parcel| match parcel.ask(&device).await {
        Answer::Refused { reason } => reason,
        other => panic!("{other:?}"),
    };
    let mut other = parcel(&[]);
    other.entry.model = shared::glob::Glob::new(Label::parse("LaserStar*").unwrap());
    assert!(refused(&other).await.contains("the firmware is for LaserStar*"));
    let mut unseen = parcel(&[]);
    unseen.entry.component = Label::parse("scanner").unwrap();
    assert!(refused(&unseen).await.starts_with("it does not show a version of \"scanner\""));
    let slip = parcel(&[("pjll", "upgrade")]);
    assert_eq!(refused(&slip).await, "the handler raw9100 has no setting \"pjll\"");
    let slip = parcel(&[("pjl", "yes")]);
    assert_eq!(refused(&slip).await, "pjl = \"yes\", expected one of none, upgrade");
}

#[tokio::test]
async fn a_printer_that_is_off_is_silent() {
    let printer = Flasher::start("F-6", Temper::Takes, AWAY);
    let device = to(&printer, "");
    drop(printer);
    assert!(matches!(parcel(&[]).ask(&device).await, Answer::Silent { .. }));
}

#[tokio::test]
async fn what_was_cut_is_incomplete_and_no_printer_takes_it_for_whole() {
    let printer = Flasher::start("F-7", Temper::Cuts(100_000), AWAY);
    // More than what lies in buffers between the two.
    let parcel = Parcel::new(image("main", "2.0", LARGE), FirmwareHandler::Raw9100, &[]);
    let (pushed, progress) = parcel.push(&to(&printer, "")).await;
    let Pushed::Incomplete(why) = pushed else { panic!("{pushed:?}") };
    assert!(why.starts_with("after ") && why.contains("of 20000000 bytes"), "{why}");
    assert!(progress.last().is_some_and(|last| *last < LARGE as u64));
    assert!(printer.taken().iter().all(|taken| !taken.is_whole), "{:?}", printer.taken());
    assert_eq!(printer.version("main").as_deref(), Some("1.0"));
}

#[tokio::test]
async fn a_printer_that_takes_no_byte_is_given_up() {
    let printer = Flasher::start("F-8", Temper::Stalls, AWAY);
    // More than what lies in buffers between the two.
    let parcel = Parcel::new(image("main", "2.0", LARGE), FirmwareHandler::Raw9100, &[]);
    let table =
        format!("[device.firmware]\nallowed = true\nport = {}\nstall = \"300ms\"\n", printer.raw.port());
    let device = common::device(&printer.station.address.to_string(), &table);
    let began = Instant::now();
    let (pushed, _) = parcel.push(&device).await;
    let Pushed::Incomplete(why) = pushed else { panic!("{pushed:?}") };
    assert!(why.ends_with("nothing moved for 300ms"), "{why}");
    assert!(began.elapsed() < LIMIT);
}

#[tokio::test]
async fn a_transfer_that_is_dropped_on_its_way_is_reset_and_not_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let table = format!("port = {}\n", listener.local_addr().unwrap().port());
    let device = open_device("127.0.0.1:1", &table);
    let parcel = Parcel::new(image("main", "2.0", LARGE), FirmwareHandler::Raw9100, &[]);
    let task = tokio::spawn(async move { parcel.push(&device).await });
    let begun = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0_u8; 65_536]).map(|()| stream)
    });
    let mut stream = begun.await.unwrap().unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let err = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::ConnectionReset, "an end would look like a whole image");
}

#[tokio::test]
async fn a_file_that_is_not_what_was_signed_never_becomes_whole() {
    let printer = Flasher::start("F-9", Temper::Takes, AWAY);
    let device = to(&printer, "");
    let mut changed = parcel(&[]).content;
    changed[2_000_000] ^= 1;
    let large = parcel(&[]);
    std::fs::write(&large.file, &changed).unwrap();
    let (pushed, _) = large.push(&device).await;
    let Pushed::Incomplete(why) = pushed else { panic!("{pushed:?}") };
    assert!(why.ends_with("it is not what was signed"), "{why}");
    // One that fits a piece is known before its first byte.
    let small = Parcel::new(image("main", "2.0", 5_000), FirmwareHandler::Raw9100, &[]);
    std::fs::write(&small.file, image("main", "6.6", 5_000)).unwrap();
    assert!(matches!(small.push(&device).await.0, Pushed::NotBegun(_)));
    std::fs::write(&small.file, image("main", "2.0", 4_999)).unwrap();
    let (Pushed::NotBegun(why), _) = small.push(&device).await else { panic!() };
    assert!(why.ends_with("has 4999 bytes, expected 5000"), "{why}");
    until("the reset is heard", async || printer.taken().len() == 1).await;
    assert!(!printer.taken()[0].is_whole);
}

#[tokio::test]
async fn printers_that_say_yes_and_do_not_do_it_are_told_by_their_version_alone() {
    for temper in [Temper::Forgets, Temper::Ignores, Temper::Dies, Temper::Vanishes] {
        let printer = Flasher::start("F-10", temper, AWAY);
        let device = to(&printer, "");
        sent(&parcel(&[]).push(&device).await.0);
        match temper {
            Temper::Vanishes => until("gone", async || shown(&device, "main").await.is_none()).await,
            Temper::Dies => {
                until("out of order", async || {
                    let seen = look(&device, Depth::Full).await;
                    seen.is_ok_and(|seen| !is_idle(&seen) && seen.identity.firmware.len() == 1)
                })
                .await;
            }
            _ => until("back", async || shown(&device, "main").await.as_deref() == Some("1.0")).await,
        }
        assert_ne!(shown(&device, "main").await.as_deref(), Some("2.0"), "{temper:?}");
    }
}

#[tokio::test]
async fn a_frame_of_pjl_is_put_around_an_image_only_where_the_bundle_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let table = format!("port = {}\n", listener.local_addr().unwrap().port());
    let device = open_device("127.0.0.1:1", &table);
    let server = std::thread::spawn(move || {
        let mut came = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut came).unwrap();
        came
    });
    let parcel = Parcel::new(b"IMAGE".to_vec(), FirmwareHandler::Raw9100, &[("pjl", "upgrade")]);
    sent(&parcel.push(&device).await.0);
    assert_eq!(server.join().unwrap(), b"\x1b%-12345X@PJL UPGRADE SIZE=5\r\nIMAGE\x1b%-12345X");
}

#[tokio::test]
async fn a_printer_can_be_restarted_by_snmp_where_its_bundle_and_its_site_say_so() {
    let printer = Flasher::start("F-11", Temper::Takes, AWAY);
    let parcel = parcel(&[("activate", "reset")]);
    let why = parcel.activate(&to(&printer, "")).await.unwrap_err();
    assert!(why.contains("write_community"), "{why}");
    let device = to(&printer, "write_community = \"private\"\n");
    assert!(!format!("{device:?}").contains("private"), "secrets stay out of logs");
    parcel.activate(&device).await.unwrap();
    let rows = printer.station.rows.lock().unwrap();
    let set = rows.get(&testkit::station::oid("1.3.6.1.2.1.43.5.1.1.3.1"));
    assert_eq!(format!("{set:?}"), "Some(Integer(4))");
}
